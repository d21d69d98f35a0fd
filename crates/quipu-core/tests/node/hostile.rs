//! Peers that lie. Whatever they send, it is refused, leaves no trace and harms nobody else.

use quipu_core::codec::pack::{self, Context, Nothing};
use quipu_core::codec::v1;
use quipu_core::domain::Role;
use quipu_core::event::{Draft, Event, EventSignature, Log, LogSeq, Position, sign_id};
use quipu_core::id::{EventId, LogDigest};
use quipu_core::node::{Input, LinkId, LinkRole, Notice};
use quipu_core::sketch::Item;
use quipu_core::sync::message::{Message, PROTOCOL_VERSION, Range, Refusal, View, Wanted};
use quipu_core::sync::unsigned::Unsigned;

use crate::common::{Dice, Machine, World, field};

const LINK: LinkId = 77;

/// A world in which machine 1 is a member whose frames the test writes by hand, linked to machine 0.
fn linked() -> World {
    let mut w = World::new();
    w.add_members(2, Role::Writer);
    w.emit(0, 20);
    let peer = w.id(1);
    w.turn(0, vec![Input::LinkUp { link: LINK, peer, role: LinkRole::Responder }]);
    let message = hello(&w);
    tell(&mut w, message);
    w
}

fn hello(w: &World) -> Message {
    Message::Hello {
        version: PROTOCOL_VERSION,
        domain: w.domain(),
        log: Log::Internal,
        live: true,
        invite: None,
    }
}

fn tell(w: &mut World, message: Message) {
    w.turn(0, vec![Input::Frame { link: LINK, bytes: message.encode() }]);
}

/// The next events of machine 1, as it would write them, unsigned.
fn run_of(w: &World, count: u64) -> Vec<Event> {
    let at = w.machines[1].node.dag().unwrap().next_position(w.id(1), w.now);
    let mut events: Vec<Event> = Vec::new();
    for n in 0..count {
        let mut at = at.clone();
        if let Some(last) = events.last() {
            at.seq = last.header.seq + 1;
            at.prev = Some(last.id);
            at.parents = [last.id].into_iter().collect();
            at.logseq = LogSeq(last.header.logseq.0 + 1);
        }
        let (kind, value) = field(n);
        let payload = v1::payload_block(&[5; 8], &value);
        events.push(Draft { log: Log::Internal, kind, payload }.place(at, &w.domain()));
    }
    events
}

fn sign(w: &World, event: &mut Event) {
    event.signature = Some(sign_id(&w.machines[1].signing, &event.id));
}

fn batch(events: &[Event]) -> Message {
    let packed = pack::encode(events, &mut Context::writer().of_sync(), &Nothing);
    Message::Events { index: 0, restart: true, live: true, packed }
}

/// Machine 0 has turned machine 1 away for misbehaviour, and is as it was.
fn assert_refused(w: &mut World, before: &(LogDigest, u64), what: &str) {
    let zero = &mut w.machines[0];
    let refused = zero
        .notices
        .iter()
        .any(|notice| matches!(notice, Notice::PeerRefused { refusal: Refusal::Misbehaved, .. }));
    assert!(refused, "{what}: {:?}", zero.notices);
    assert_eq!((zero.node.digest(), zero.held()), *before, "{what} left a trace");
    assert!(zero.node.peers().is_empty(), "{what}");
    assert_eq!(zero.node.waiting(), 0, "{what}");
    // Others go on as if nothing had happened.
    w.emit(2, 3);
    w.sync(2, 0).unwrap();
    w.assert_agree(&[0, 2]);
}

fn state(w: &mut World) -> (LogDigest, u64) {
    (w.machines[0].node.digest(), w.machines[0].held())
}

fn refused(what: &str, lie: impl Fn(&mut World)) {
    let mut w = linked();
    let before = state(&mut w);
    lie(&mut w);
    assert_refused(&mut w, &before, what);
}

#[test]
fn an_honest_batch_is_taken() {
    let mut w = linked();
    let mut events = run_of(&w, 64);
    sign(&w, &mut events[63]);
    let held = w.machines[0].held();
    tell(&mut w, batch(&events));
    assert_eq!(w.machines[0].held(), held + 64);
}

#[test]
fn a_bad_signature_is_refused() {
    refused("a signature of somebody else", |w| {
        let mut events = run_of(w, 3);
        events[2].signature = Some(sign_id(&w.machines[2].signing, &events[2].id));
        tell(w, batch(&events));
    });
    refused("a signature of zeros", |w| {
        let mut events = run_of(w, 1);
        events[0].signature = Some(EventSignature([0; 64]));
        tell(w, batch(&events));
    });
}

#[test]
fn a_long_run_without_a_signature_is_refused() {
    refused("66 unsigned events", |w| {
        let mut events = run_of(w, 66);
        sign(w, &mut events[65]);
        tell(w, batch(&events));
    });
}

#[test]
fn broken_rules_are_refused() {
    let broken = |change: fn(&mut Draft, &mut quipu_core::event::Position)| {
        move |w: &mut World| {
            let mut at = w.machines[1].node.dag().unwrap().next_position(w.id(1), w.now);
            let (kind, value) = field(1);
            let payload = v1::payload_block(&[5; 8], &value);
            let mut draft = Draft { log: Log::Internal, kind, payload };
            change(&mut draft, &mut at);
            let mut event = draft.place(at, &w.domain());
            sign(w, &mut event);
            tell(w, batch(&[event]));
        }
    };
    refused("a clock that does not grow", broken(|_, at| at.logseq = LogSeq(5)));
    refused("a clock that jumps", broken(|_, at| at.logseq = LogSeq(1 << 63)));
    refused("a kind with capitals", broken(|draft, _| draft.kind = "Field.Set".into()));
    refused("a published event", broken(|draft, _| draft.log = Log::Published));
    refused(
        "no parents",
        broken(|_, at| {
            at.parents.clear();
            at.prev = Some(EventId([1; 32]));
            at.seq = 2;
        }),
    );
    refused(
        "a salt of another length",
        broken(|draft, _| {
            draft.payload = v1::payload_block(&[5; 9], &[0xf6]);
        }),
    );
    refused(
        "a payload that is not canonical",
        broken(|draft, _| {
            draft.payload = v1::payload_block(&[5; 8], &[0x18, 0x01]);
        }),
    );
    refused("a root event of another domain", |w| {
        let parameters = quipu_core::domain::Parameters { salt_bytes: 8, ..Default::default() };
        let mut root = parameters.root(w.id(1), LogSeq(7), &[1; 8]);
        sign(w, &mut root);
        tell(w, batch(&[root]));
    });
}

#[test]
fn a_stranger_behind_a_member_is_refused() {
    refused("an event by a stranger", |w| {
        let stranger = Machine::joining(99, w.domain());
        let at = w.machines[1].node.dag().unwrap().next_position(stranger.id, w.now);
        let (kind, value) = field(1);
        let payload = v1::payload_block(&[5; 8], &value);
        let mut event = Draft { log: Log::Internal, kind, payload }.place(at, &w.domain());
        event.signature = Some(sign_id(&stranger.signing, &event.id));
        tell(w, batch(&[event]));
    });
}

#[test]
fn garbage_and_cut_frames_are_refused() {
    refused("an empty frame", |w| w.turn(0, vec![Input::Frame { link: LINK, bytes: vec![] }]));
    refused("garbage", |w| w.turn(0, vec![Input::Frame { link: LINK, bytes: vec![0xff; 900] }]));
    for cut in [2, 5, 9, 40, 100] {
        refused("a cut batch", |w| {
            let mut events = run_of(w, 5);
            sign(w, &mut events[4]);
            let bytes = batch(&events).encode();
            let bytes = bytes[..bytes.len() - cut].to_vec();
            w.turn(0, vec![Input::Frame { link: LINK, bytes }]);
        });
    }
}

#[test]
fn messages_out_of_turn_are_refused() {
    let digest = LogDigest([1; 32]);
    let messages: Vec<fn(&World) -> Message> = vec![
        hello,
        |_| Message::Welcome,
        |_| Message::Same { round: 0 },
        |_| Message::Differs {
            round: 0,
            digest: LogDigest([1; 32]),
            count: 1,
            view: View::All(vec![]),
        },
        |_| Message::Symbols { round: 0, bytes: vec![] },
    ];
    for message in messages {
        refused("out of turn", |w| {
            let message = message(w);
            tell(w, message);
        });
    }
    // These are late or early, and harmless.
    for message in [
        Message::Level { round: 0, digest },
        Message::Level { round: 9, digest },
        Message::End { round: 0, digest },
        Message::MoreSymbols { round: 0, start: 0, count: u32::MAX },
        Message::MoreSymbols { round: 0, start: u32::MAX, count: 1 },
        Message::Want { round: 3, plain: true, wanted: Wanted::Everything },
        Message::Prune,
        Message::Graft,
        Message::Poke { plain: true },
        Message::Tips(vec![Item([255; 10]); 3]),
    ] {
        let mut w = linked();
        let before = state(&mut w);
        tell(&mut w, message.clone());
        w.run_for(100_000);
        assert_eq!(state(&mut w), before, "{message:?}");
        assert_eq!(w.machines[0].node.peers().len(), 1, "{message:?}");
    }
}

#[test]
fn extreme_numbers_harm_nobody() {
    let top = Range { author: [9; 5], above: u64::MAX };
    for (round, range) in [(0, top), (1, top), (0, Range { author: [0; 5], above: 0 })] {
        let mut w = linked();
        let digest = LogDigest([7; 32]);
        tell(
            &mut w,
            Message::Compare { round: 1, attempt: 255, digest, count: u64::MAX, met: None },
        );
        tell(&mut w, Message::Want { round, plain: false, wanted: Wanted::Ranges(vec![range]) });
        tell(&mut w, Message::End { round: 1, digest });
        for seq in [0u8, 255] {
            tell(&mut w, Message::Tips(vec![Item([seq; 10]); 100]));
        }
        w.run_for(1_000);
    }
    // Somebody at the end of its feed.
    refused("the last seq", |w| {
        let mut at = w.machines[1].node.dag().unwrap().next_position(w.id(1), w.now);
        at.seq = u64::MAX;
        at.prev = Some(EventId([3; 32]));
        let (kind, value) = field(1);
        let payload = v1::payload_block(&[5; 8], &value);
        let mut event = Draft { log: Log::Internal, kind, payload }.place(at, &w.domain());
        sign(w, &mut event);
        tell(w, batch(&[event]));
        // It waits for its prev, which nobody has: the peer is not at fault, but it is not stored.
        w.turn(0, vec![Input::Frame { link: LINK, bytes: vec![] }]);
    });
}

#[test]
fn what_waits_is_bounded() {
    let mut w = linked();
    let at = w.machines[1].node.dag().unwrap().next_position(w.id(1), w.now);
    for n in 0..20u64 {
        let missing = |i: u64| {
            let mut missing = [9; 32];
            missing[..8].copy_from_slice(&(n << 32 | i).to_le_bytes());
            EventId(missing)
        };
        let events: Vec<Event> = (0..1000)
            .map(|i| {
                let at = Position { parents: [missing(i)].into_iter().collect(), ..at.clone() };
                let (kind, value) = field(i);
                let payload = v1::payload_block(&[5; 8], &value);
                let mut event = Draft { log: Log::Internal, kind, payload }.place(at, &w.domain());
                sign(&w, &mut event);
                event
            })
            .collect();
        tell(&mut w, batch(&events));
    }
    assert!(w.machines[0].node.waiting() <= quipu_core::limits::WAITING_EVENTS_MAX);
    w.turn(0, vec![Input::LinkDown { link: LINK, reason: String::new() }]);
    assert_eq!(w.machines[0].node.waiting(), 0);
}

#[test]
fn random_frames_never_panic_and_leave_no_trace() {
    let mut dice = Dice(5);
    for _ in 0..300 {
        let mut w = linked();
        let before = state(&mut w);
        let mut events = run_of(&w, 5);
        sign(&w, &mut events[4]);
        let digest = LogDigest([7; 32]);
        let view = View::All(vec![Item([3; 10]); 4]);
        let samples = [
            Message::Compare { round: 1, attempt: 0, digest, count: 3, met: None },
            Message::Want { round: 1, plain: false, wanted: Wanted::Everything },
            Message::Differs { round: 1, digest, count: 3, view },
            Message::Tips(vec![Item([3; 10]); 4]),
            batch(&events),
            Message::End { round: 1, digest },
        ];
        for _ in 0..6 {
            let mut bytes = samples[dice.below(samples.len())].encode();
            let at = dice.below(bytes.len());
            bytes[at] ^= 1 << dice.below(8);
            w.turn(0, vec![Input::Frame { link: LINK, bytes }]);
        }
        // The batch may have come through whole, if the flipped bit did not matter.
        let after = state(&mut w);
        assert!(after == before || after.1 == before.1 + 5);
    }
}

/// The next events of machine 1 in machine 0's log, after a batch that ends with an event that the rule
/// of clocks forbids, and that alone is signed.
fn unprovable_run(w: &mut World, count: u64) -> Vec<Event> {
    let mut events = run_of(w, count + 1);
    let last = events.pop().unwrap();
    let draft = Draft {
        log: Log::Internal,
        kind: last.header.kind.clone(),
        payload: last.payload.clone().unwrap(),
    };
    let head = &last.header;
    let at = Position {
        author: head.author,
        seq: head.seq,
        prev: head.prev,
        parents: head.parents.clone(),
        logseq: LogSeq(5),
    };
    let mut bad = draft.place(at, &w.domain());
    sign(w, &mut bad);
    events.push(bad);
    events
}

#[test]
fn a_signature_vouches_for_its_own_author_only() {
    // Machine 1 invents an event of machine 2 and names it as the `prev` of its own.
    let forged = |w: &World| {
        let mut at = w.machines[0].node.dag().unwrap().next_position(w.id(2), w.now);
        at.logseq = LogSeq(at.logseq.0 + 1);
        let (kind, value) = field(3);
        let payload = v1::payload_block(&[5; 8], &value);
        Draft { log: Log::Internal, kind, payload }.place(at, &w.domain())
    };
    for through in [false, true] {
        let mut w = linked();
        let before = state(&mut w);
        let forgery = forged(&w);
        let mut own = run_of(&w, 2);
        let mut lie = vec![forgery.clone()];
        // Signed itself, or vouched for by an event that is.
        let count = if through { 2 } else { 1 };
        own.truncate(count);
        for n in 0..count {
            let prev = if n == 0 { forgery.id } else { lie[n].id };
            let head = own[n].header.head.clone();
            let at = Position {
                author: head.author,
                seq: forgery.header.seq + 1 + n as u64,
                prev: Some(prev),
                parents: [prev].into_iter().collect(),
                logseq: LogSeq(forgery.header.logseq.0 + 1 + n as u64),
            };
            let (kind, payload) = (head.kind, own[n].payload.clone().unwrap());
            lie.push(Draft { log: Log::Internal, kind, payload }.place(at, &w.domain()));
        }
        let last = lie.last_mut().unwrap();
        last.signature = Some(sign_id(&w.machines[1].signing, &last.id));
        tell(&mut w, batch(&lie));
        w.turn(0, vec![Input::LinkDown { link: LINK, reason: "test".into() }]);
        let zero = &mut w.machines[0];
        assert_eq!((zero.node.digest(), zero.held()), before, "a forged event was taken");
        assert!(zero.history.get(&forgery.id).is_none());
    }
}

#[test]
fn events_before_one_that_breaks_a_rule_are_proven_to_everybody() {
    for count in [1, 5, 63] {
        let mut w = linked();
        w.add_members(1, Role::Writer);
        let added = w.machines.len() - 1;
        w.sync(2, 0).unwrap();
        let events = unprovable_run(&mut w, count);
        let held = w.machines[0].held();
        tell(&mut w, batch(&events));
        assert_eq!(w.machines[0].held(), held + count, "its author is proven");
        // A second one that does not follow proves nothing, and replaces nothing.
        let mut skips = events[count as usize].clone();
        std::sync::Arc::make_mut(&mut skips.header).head.seq += 5;
        let mut skips = Event::new(skips.header, skips.payload, &w.domain());
        sign(&w, &mut skips);
        w.machines[0].import(w.now, vec![skips]);
        // Through others, one of whom stops in between.
        w.sync(2, 0).unwrap();
        w.machines[0].crash();
        w.machines[2].crash();
        w.assert_agree(&[0, 2]);
        w.sync(added, 2).unwrap();
        w.sync(added, 0).unwrap();
        w.sync(0, 2).unwrap();
        w.assert_agree(&[0, 2, added]);
        assert!(w.machines[added].history.get(&events[count as usize - 1].id).is_some());
        // As a file, too: nothing in it waits for a signature.
        let zero = &w.machines[0];
        let mut unsigned = Unsigned::default();
        let file = zero.node.proven(zero.history.all().to_vec(), &zero.history).unwrap();
        file.into_iter().for_each(|event| unsigned.push(event).unwrap());
        let proven = std::iter::from_fn(|| unsigned.pop()).count() as u64;
        assert_eq!((proven, unsigned.len()), (zero.held() + 1, 0));
        assert!(w.machines[added].history.get(&events[count as usize].id).is_none());
    }
}

#[test]
fn signatures_of_a_link_that_breaks_are_not_lost() {
    let mut w = linked();
    // Its own run is complete, but between its events lies one of machine 2 that nobody signs.
    let mut events = run_of(&w, 3);
    let mut at = w.machines[0].node.dag().unwrap().next_position(w.id(2), w.now);
    at.parents = [events[0].id].into_iter().collect();
    at.logseq = LogSeq(events[2].header.logseq.0 + 1);
    let (kind, value) = field(4);
    let payload = v1::payload_block(&[5; 8], &value);
    let foreign = Draft { log: Log::Internal, kind, payload }.place(at, &w.domain());
    sign(&w, &mut events[2]);
    events.insert(1, foreign);
    let held = w.machines[0].held();
    tell(&mut w, batch(&events));
    assert_eq!(w.machines[0].held(), held + 1, "the first is taken, the others wait");
    w.turn(0, vec![Input::LinkDown { link: LINK, reason: "test".into() }]);
    assert_eq!(w.machines[0].held(), held + 3);
    w.sync(2, 0).unwrap();
    w.assert_agree(&[0, 2]);
    assert_eq!(w.machines[2].held(), w.machines[0].held());
}
