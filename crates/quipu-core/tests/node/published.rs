//! Published logs: who reads them, who writes them, and what nobody finds out (DOM-2, DOM-5).

use std::collections::BTreeSet;

use quipu_core::domain::{ACCESS_ENTRIES_MAX, Access, Decision, Invitation, Parameters, Role};
use quipu_core::event::{Draft, Event, Log, sign_id};
use quipu_core::id::{ArtifactId, DomainId, EventId, NodeKey};
use quipu_core::node::{Command, CommandError, Input, LinkId, LinkRole, Reply};
use quipu_core::sync::message::{Message, PROTOCOL_VERSION, Refusal};
use quipu_core::value::Value;

use crate::common::{Machine, MemoryHistory, Out, T0, World, artifact, key};

const LINK: LinkId = 77;

fn level(w: &mut World, a: usize, b: usize) {
    let reply = w.sync(a, b);
    assert!(matches!(reply, Ok(Reply::Synced { equal: true, .. })), "{a} with {b}: {reply:?}");
}

/// Syncs whatever comes of it.
fn meet(w: &mut World, who: &[usize]) {
    for _ in 0..3 {
        for pair in who.windows(2) {
            drop(w.sync(pair[0], pair[1]));
            drop(w.sync(pair[1], pair[0]));
        }
    }
}

fn refusal(reply: Result<Reply, CommandError>) -> Refusal {
    match reply {
        Err(CommandError::Refused { refusal, .. }) => refusal,
        other => panic!("not refused: {other:?}"),
    }
}

fn only(nodes: &[NodeKey]) -> Decision {
    Decision::Access(Access::only(nodes.to_vec(), Vec::new()))
}

fn member_value(node: &NodeKey) -> Value {
    let node = node.to_string();
    Value::map([("node", Value::from(node.as_str())), ("role", "admin".into())])
}

/// An event that its author's own machine would not have written.
fn forge(w: &World, by: usize, kind: &str, value: &Value) -> Event {
    let payload = quipu_core::domain::block_of(value, &[1; 8]);
    let draft = Draft { log: w.log, kind: kind.into(), payload };
    let machine = &w.machines[by];
    let at = machine.node.dag().unwrap().next_position(machine.id, w.now);
    let mut event = draft.place(at, &w.domain());
    event.signature = Some(sign_id(&machine.signing, &event.id));
    event
}

/// Gives an event to a machine. It is valid, whatever it says.
fn take(w: &mut World, n: usize, event: Event) -> EventId {
    let id = event.id;
    let out = w.machines[n].import(w.now, vec![event]);
    w.dispatch(n, out);
    assert!(w.machines[n].history.get(&id).is_some(), "it is in the log");
    id
}

#[test]
fn an_open_log_reaches_strangers_also_through_strangers() {
    let mut w = World::published();
    w.emit(0, 300);
    let (near, far) = (w.add_stranger(), w.add_stranger());
    level(&mut w, near, 0);
    level(&mut w, far, near);
    w.assert_agree(&[0, near, far]);
    // They stay linked, and hear what is new.
    w.link(near, 0);
    w.link(far, near);
    w.settle();
    w.emit(0, 7);
    w.settle();
    w.assert_agree(&[0, near, far]);
    // Reading is not writing.
    let written = w.command(near, Command::Merge);
    let denied = w.command(near, Command::Emit(vec![crate::common::field(1)]));
    assert!(matches!(denied, Err(CommandError::NotEntitled { .. })), "{written:?} {denied:?}");
    for n in [0, near, far] {
        let before = w.machines[n].node.digest();
        w.crash(n);
        assert_eq!(w.machines[n].node.digest(), before);
    }
}

#[test]
fn a_log_for_some_is_shown_to_them_to_publishers_and_to_the_circle() {
    let mut w = World::published();
    w.add_members(1, Role::Writer);
    let (allowed, circle, stranger) = (w.add_stranger(), w.add_stranger(), w.add_stranger());
    w.emit(0, 20);
    level(&mut w, stranger, 0);
    let held = w.machines[stranger].held();
    let allowed_id = w.id(allowed);
    w.decide(0, only(&[allowed_id])).unwrap();
    let circle_id = w.id(circle);
    w.turn(0, vec![Input::Circle { nodes: BTreeSet::from([circle_id]) }]);
    for n in [1, allowed, circle] {
        level(&mut w, n, 0);
    }
    w.assert_agree(&[0, 1, allowed, circle]);
    assert_eq!(refusal(w.sync(stranger, 0)), Refusal::NotShown);
    // Who may read does not pass it on to others.
    assert_eq!(refusal(w.sync(stranger, allowed)), Refusal::NotShown);
    assert_eq!(refusal(w.sync(stranger, circle)), Refusal::NotShown);
    assert_eq!(w.machines[stranger].held(), held, "what it saw before stays, and that is all");
    w.decide(0, Decision::Access(Access::Open)).unwrap();
    level(&mut w, stranger, 0);
    w.assert_agree(&[0, stranger]);
}

#[test]
fn who_may_not_read_any_more_is_turned_away_at_once() {
    let mut w = World::published();
    w.emit(0, 5);
    let (kept, gone) = (w.add_stranger(), w.add_stranger());
    w.link(kept, 0);
    w.link(gone, 0);
    w.settle();
    w.assert_agree(&[0, kept, gone]);
    let held = w.machines[gone].held();
    let kept_id = w.id(kept);
    w.decide(0, only(&[kept_id])).unwrap();
    w.emit(0, 3);
    w.settle();
    w.assert_agree(&[0, kept]);
    assert_eq!(w.machines[gone].held(), held);
    assert_eq!(w.links_up(), 1);
}

#[test]
fn who_leaves_the_circle_is_turned_away_at_once() {
    let mut w = World::published();
    w.decide(0, only(&[])).unwrap();
    let (kept, gone) = (w.add_stranger(), w.add_stranger());
    let (kept_id, gone_id) = (w.id(kept), w.id(gone));
    w.turn(0, vec![Input::Circle { nodes: BTreeSet::from([kept_id, gone_id]) }]);
    w.link(kept, 0);
    w.link(gone, 0);
    w.settle();
    w.assert_agree(&[0, kept, gone]);
    let held = w.machines[gone].held();
    w.turn(0, vec![Input::Circle { nodes: BTreeSet::from([kept_id]) }]);
    w.turn(0, vec![]);
    w.emit(0, 3);
    w.settle();
    w.assert_agree(&[0, kept]);
    assert_eq!((w.machines[gone].held(), w.links_up()), (held, 1));
}

/// What a machine sends and does to a peer that says hello for a published log.
fn answer(machine: &mut Machine, peer: NodeKey, domain: DomainId) -> Vec<Out> {
    let role = LinkRole::Responder;
    let mut out = machine.turn(T0, vec![Input::LinkUp { link: LINK, peer, role }]);
    let log = Log::Published;
    let hello = Message::Hello { version: PROTOCOL_VERSION, domain, log, live: true, invite: None };
    out.extend(machine.turn(T0, vec![Input::Frame { link: LINK, bytes: hello.encode() }]));
    out
}

#[test]
fn hidden_and_absent_get_the_same_answer() {
    let mut w = World::published();
    w.emit(0, 50);
    let allowed = NodeKey([9; 32]);
    w.decide(0, only(&[allowed])).unwrap();
    let (domain, peer) = (w.domain(), NodeKey([8; 32]));
    let hidden = answer(&mut w.machines[0], peer, domain);
    let [Out::Send(LINK, bytes), Out::Close(LINK, _)] = &hidden[..] else {
        panic!("one answer, and the link is closed: {hidden:?}")
    };
    let said = Message::decode(bytes).unwrap();
    assert!(
        matches!(&said, Message::Refuse { refusal: Refusal::NotShown, domain: None, .. }),
        "{said:?}"
    );
    let parameters = Parameters { name: "other".into(), ..Parameters::default() };
    let of = (domain, Log::Published);
    let others = [
        ("one of its members, which keeps no published log", {
            Machine::founder(0, T0, &Parameters { name: "test".into(), ..Parameters::default() })
        }),
        ("a machine of another domain", Machine::founder(5, T0, &parameters)),
        ("a machine with another published log", {
            Machine::founder_of(5, T0, &parameters, Log::Published)
        }),
        ("a follower to whom nothing came yet", {
            Machine::of_log(key(6), of, MemoryHistory::default())
        }),
        ("a follower that has it", { Machine::of_log(key(6), of, w.machines[0].history.clone()) }),
        ("a machine that is itself still joining", Machine::joining(7, domain)),
    ];
    for (what, mut machine) in others {
        assert_eq!(answer(&mut machine, peer, domain), hidden, "{what}");
    }
    // One that is let in sees the difference.
    assert_ne!(answer(&mut w.machines[0], allowed, domain), hidden);
}

#[test]
fn a_stranger_does_not_get_the_internal_log() {
    for log in [Log::Internal, Log::Published] {
        let mut w = if log == Log::Internal { World::new() } else { World::published() };
        w.emit(0, 5);
        let (peer, domain) = (NodeKey([8; 32]), w.domain());
        let role = LinkRole::Responder;
        w.turn(0, vec![Input::LinkUp { link: LINK, peer, role }]);
        let (version, log) = (PROTOCOL_VERSION, Log::Internal);
        let hello = Message::Hello { version, domain, log, live: true, invite: None };
        let outs = w.machines[0].turn(T0, vec![Input::Frame { link: LINK, bytes: hello.encode() }]);
        let [Out::Send(_, bytes), Out::Close(..)] = &outs[..] else { panic!("{outs:?}") };
        let Ok(Message::Refuse { refusal, .. }) = Message::decode(bytes) else { panic!() };
        let expected = match w.log {
            Log::Internal => Refusal::NotMember,
            Log::Published => Refusal::OtherDomain,
        };
        assert_eq!(refusal, expected);
        assert!(w.machines[0].node.peers().is_empty());
    }
}

#[test]
fn a_removed_publisher_with_a_stolen_clock_is_kept_aside_everywhere() {
    let mut w = World::published();
    w.add_members(2, Role::Writer);
    let (removed, unaware) = (1, 2);
    let follower = w.add_stranger();
    w.emit(removed, 5);
    meet(&mut w, &[0, 1, 2, follower]);
    w.assert_agree(&[0, 1, 2, follower]);
    let node = w.id(removed);
    w.decide(0, Decision::Remove { node }).unwrap();
    w.machines[removed].clock_error = -5_000_000;
    w.emit(removed, 100);
    // Those who have not heard take it, and spread it to a follower.
    meet(&mut w, &[removed, unaware, follower]);
    w.assert_agree(&[removed, unaware, follower]);
    assert_eq!(w.machines[follower].role(&node), Some(Role::Writer));
    meet(&mut w, &[0, unaware, follower]);
    w.assert_agree(&[0, unaware, follower]);
    let count = w.machines[0].event_count();
    for n in [0, unaware, follower] {
        assert_eq!(w.machines[n].role(&node), None);
        assert_eq!(w.machines[n].event_count(), count);
        w.crash(n);
        assert_eq!(w.machines[n].event_count(), count);
    }
    assert_eq!(count, 1 + 2 + 5 + 1);
    for n in [unaware, follower] {
        assert_eq!(w.machines[n].node.dag().unwrap().quarantined().len(), 100, "machine {n}");
    }
    // It may still read, as everybody may, but what it writes counts nowhere.
    drop(w.sync(removed, 0));
    assert_eq!(w.machines[0].event_count(), count);
    // What it published before stays, and it can come back.
    w.decide(0, Decision::Add { node, role: Role::Writer, invite: None }).unwrap();
    assert_eq!(w.machines[0].role(&node), Some(Role::Writer));
}

#[test]
fn decisions_of_the_other_log_have_no_effect() {
    let node = NodeKey(key(50).verifying_key().to_bytes());
    // In the published log: members, invitations, erasures.
    let mut w = World::published();
    w.add_members(1, Role::Writer);
    let secret = w.emit(1, 5)[2].id;
    level(&mut w, 0, 1);
    let ticket = NodeKey(key(60).verifying_key().to_bytes());
    let invitation =
        Invitation { key: ticket, role: Role::Admin, expires_ms: w.now + 1_000, uses_max: 5 };
    let erasure = Decision::Erase { target: secret, reason: String::new() };
    for decision in [
        Decision::Add { node, role: Role::Admin, invite: Some(ticket) },
        Decision::Remove { node: w.id(1) },
        Decision::Invite(invitation),
        erasure.clone(),
    ] {
        // As it would stand in the internal log.
        let (kind, value) = decision.to_value(Log::Internal);
        let forged = forge(&w, 0, kind, &value);
        take(&mut w, 0, forged);
    }
    let forged = forge(&w, 0, "member.add", &member_value(&node));
    take(&mut w, 0, forged);
    level(&mut w, 1, 0);
    w.assert_agree(&[0, 1]);
    for n in [0, 1] {
        for _ in 0..2 {
            let machine = &w.machines[n];
            assert_eq!(machine.role(&node), None);
            assert_eq!(machine.role(&w.id(1)), Some(Role::Writer));
            assert!(machine.history.get(&secret).unwrap().payload.is_some(), "it stays");
            assert!(!machine.node.dag().unwrap().is_erased(&secret));
            w.crash(n);
        }
    }
    let by_invitation = Decision::Add { node, role: Role::Writer, invite: Some(ticket) };
    for decision in [erasure, by_invitation] {
        let denied = w.decide(0, decision);
        assert!(matches!(denied, Err(CommandError::NotOfLog(Log::Published))), "{denied:?}");
    }

    // In the internal log: publishers, access.
    let mut w = World::new();
    let stranger = w.add_stranger();
    let forged = forge(&w, 0, "publisher.add", &member_value(&w.id(stranger)));
    take(&mut w, 0, forged);
    let open = Value::map([("open", Value::from(true))]);
    let forged = forge(&w, 0, "publisher.access", &open);
    take(&mut w, 0, forged);
    assert_eq!(w.machines[0].role(&w.id(stranger)), None);
    assert_eq!(refusal(w.sync(stranger, 0)), Refusal::NotMember);
    let denied = w.decide(0, Decision::Access(Access::Open));
    assert!(matches!(denied, Err(CommandError::NotOfLog(Log::Internal))), "{denied:?}");
}

/// Decisions about a published log by those who may not take them.
#[test]
fn only_admins_say_who_reads_and_writes() {
    let mut w = World::published();
    w.add_members(1, Role::Writer);
    let (writer, follower) = (1, w.add_stranger());
    level(&mut w, follower, 0);
    let value = |access: &Decision| access.to_value(Log::Published).1;
    let follower_id = w.id(follower);
    let forged = forge(&w, writer, "publisher.access", &value(&only(&[])));
    take(&mut w, writer, forged);
    let forged = forge(&w, writer, "publisher.add", &member_value(&follower_id));
    take(&mut w, writer, forged);
    level(&mut w, writer, 0);
    level(&mut w, follower, 0);
    w.assert_agree(&[0, writer, follower]);
    for n in [0, writer, follower] {
        assert_eq!(w.machines[n].role(&follower_id), None);
        assert_eq!(w.machines[n].node.dag().unwrap().authority().access(), &Access::Open);
    }
    // A stranger's own word is not even kept.
    let forged = forge(&w, follower, "publisher.access", &value(&only(&[])));
    let before = w.machines[0].event_count();
    let out = w.machines[0].import(w.now, vec![forged]);
    w.dispatch(0, out);
    assert_eq!(w.machines[0].event_count(), before);
}

#[test]
fn what_the_published_log_does_not_hold_is_as_if_it_were_nowhere() {
    let mut w = World::published();
    let shown = artifact(1, 5);
    w.machines[0].history.artifacts.put(shown);
    let (peer, domain) = (NodeKey([8; 32]), w.domain());
    let welcome = answer(&mut w.machines[0], peer, domain);
    assert!(
        matches!(&welcome[..], [Out::Send(_, bytes), ..] if Message::decode(bytes) == Ok(Message::Welcome)),
        "{welcome:?}"
    );
    let mut told = |message: Message| -> Vec<Vec<u8>> {
        let frame = Input::Frame { link: LINK, bytes: message.encode() };
        let outs = w.machines[0].turn(T0, vec![frame]);
        outs.into_iter()
            .map(|out| match out {
                Out::Send(_, bytes) => bytes,
                Out::Close(_, reason) => panic!("{reason}"),
            })
            .collect()
    };
    // Keys that this machine may well hold for another log, and made-up ones: the history of the published
    // log offers neither.
    let random =
        [ArtifactId([0x11; 32]), ArtifactId([0xee; 32]), artifact(2, 5), artifact(3, 1 << 30)];
    for key in random {
        let offer = told(Message::Ask { ask: 1, keys: vec![key] });
        assert_eq!(offer, [Message::Offer { ask: 1, entries: vec![] }.encode()]);
        for groups in [0..1, 0..16, 1_000..1_001] {
            let lack = told(Message::Get { key, groups });
            assert_eq!(lack, [Message::Lack { key }.encode()]);
            assert_eq!(lack[0].len(), 33);
        }
    }
    let mut keys = random.to_vec();
    keys.push(shown);
    keys.sort_unstable();
    let offer = told(Message::Ask { ask: 2, keys });
    assert_eq!(offer, [Message::Offer { ask: 2, entries: vec![(shown, 5)] }.encode()]);
    // Groups that an artifact does not have are answered as if there were none.
    assert_eq!(told(Message::Get { key: shown, groups: 1..2 })[0].len(), 33);
}

fn access_at(w: &World, n: usize) -> &Access {
    w.machines[n].node.dag().unwrap().authority().access()
}

/// A second admin, and a follower.
fn two_admins() -> (World, usize) {
    let mut w = World::published();
    w.add_members(1, Role::Admin);
    let follower = w.add_stranger();
    level(&mut w, follower, 0);
    (w, follower)
}

#[test]
fn the_last_word_about_access_counts_whatever_came_first() {
    let (x, y) = (NodeKey([5; 32]), NodeKey([6; 32]));
    for (first, second) in [(0, 1), (1, 0)] {
        for late in [first, second] {
            let (mut w, follower) = two_admins();
            w.decide(first, only(&[x])).unwrap();
            w.now += 10;
            // The other has not heard of it.
            w.decide(second, only(&[y])).unwrap();
            let own = w.id(follower);
            let circle = BTreeSet::from([own]);
            (0..2).for_each(|n| w.turn(n, vec![Input::Circle { nodes: circle.clone() }]));
            let early = if late == first { second } else { first };
            level(&mut w, follower, early);
            let said = if early == first { x } else { y };
            assert_eq!(access_at(&w, follower), &Access::only(vec![said], Vec::new()));
            meet(&mut w, &[follower, late, early]);
            w.assert_agree(&[0, 1, follower]);
            for n in [0, 1, follower] {
                assert_eq!(access_at(&w, n), &Access::only(vec![y], Vec::new()), "machine {n}");
                w.crash(n);
                assert_eq!(
                    access_at(&w, n),
                    &Access::only(vec![y], Vec::new()),
                    "machine {n} again"
                );
            }
        }
    }
}

#[test]
fn a_removed_admins_word_about_access_falls_with_it() {
    let (mut w, follower) = two_admins();
    let seen = NodeKey([5; 32]);
    w.decide(1, only(&[seen])).unwrap();
    level(&mut w, 0, 1);
    let node = w.id(1);
    w.decide(0, Decision::Remove { node }).unwrap();
    // Later in replay order than all else, and nobody who removed it has seen it.
    w.now += 1_000;
    w.decide(1, Decision::Access(Access::Open)).unwrap();
    level(&mut w, follower, 1);
    assert_eq!(access_at(&w, follower), &Access::Open);
    let own = w.id(follower);
    w.turn(0, vec![Input::Circle { nodes: BTreeSet::from([own]) }]);
    level(&mut w, follower, 0);
    w.assert_agree(&[0, follower]);
    for n in [0, follower] {
        for _ in 0..2 {
            assert_eq!(
                access_at(&w, n),
                &Access::only(vec![seen], Vec::new()),
                "what the remover saw stays"
            );
            w.crash(n);
        }
    }
    // The founder has the last word again.
    w.decide(0, Decision::Access(Access::Open)).unwrap();
    assert_eq!(access_at(&w, 0), &Access::Open);
}

#[test]
fn what_is_not_well_formed_says_nothing_about_access() {
    let mut w = World::published();
    let allowed = NodeKey([5; 32]);
    w.decide(0, only(&[allowed])).unwrap();
    let bytes = |nodes: &[[u8; 32]]| Value::list(nodes.iter().map(|node| &node[..]));
    let none = || Value::list(Vec::<Value>::new());
    let closed_to = |nodes: Value, domains: Value| {
        Value::map([("open", Value::from(false)), ("nodes", nodes), ("domains", domains)])
    };
    let closed = |nodes: Value| closed_to(nodes, none());
    let domain = |n: u8| Value::from(EventId([n; 32]));
    let too_many: Vec<[u8; 32]> = (0..=ACCESS_ENTRIES_MAX as u32)
        .map(|n| {
            let mut node = [0; 32];
            node[..4].copy_from_slice(&n.to_be_bytes());
            node
        })
        .collect();
    for value in [
        Value::map([]),
        Value::map([("open", "yes".into())]),
        Value::map([("open", Value::from(false))]),
        Value::map([("nodes", bytes(&[[7; 32]]))]),
        closed(bytes(&[[7; 32], [6; 32]])),
        closed(bytes(&[[7; 32], [7; 32]])),
        closed(Value::list([&[7u8; 31][..]])),
        closed(bytes(&too_many)),
        Value::map([("open", Value::from(false)), ("nodes", none())]),
        closed_to(none(), Value::list([domain(7), domain(6)])),
        closed_to(none(), Value::list([Value::from("a domain")])),
        closed_to(bytes(&too_many[1..]), Value::list([domain(1)])),
    ] {
        let forged = forge(&w, 0, "publisher.access", &value);
        take(&mut w, 0, forged);
        assert_eq!(access_at(&w, 0), &Access::only(vec![allowed], Vec::new()), "{value:?}");
    }
    // As many as there may be, and nobody.
    let value = closed(bytes(&too_many[1..]));
    let forged = forge(&w, 0, "publisher.access", &value);
    take(&mut w, 0, forged);
    assert!(access_at(&w, 0).allows(&NodeKey(too_many[1])));
    assert!(!access_at(&w, 0).allows(&NodeKey(too_many[0])) && !access_at(&w, 0).allows(&allowed));
    let forged = forge(&w, 0, "publisher.access", &closed(bytes(&[])));
    take(&mut w, 0, forged);
    assert_eq!(access_at(&w, 0), &Access::only(vec![], vec![]));
    let forged =
        forge(&w, 0, "publisher.access", &closed_to(none(), Value::list([domain(6), domain(7)])));
    take(&mut w, 0, forged);
    let domains = [6, 7].map(|n| DomainId([n; 32]));
    assert_eq!(access_at(&w, 0).domains(), domains);
}
