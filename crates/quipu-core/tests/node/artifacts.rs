//! Fetching artifacts: from one, from several, from liars, and what is left of it after trouble.

use quipu_core::artifact::{GROUP_BYTES, group_count};
use quipu_core::domain::{Decision, Role};
use quipu_core::event::Log;
use quipu_core::id::ArtifactId;
use quipu_core::limits::{
    ANSWER_MS, DOUBT_MS, PARTS_ASKED_MAX, PARTS_OWED_MAX, SEND_WINDOW_BYTES, WANTS_MAX,
};
use quipu_core::node::{
    Command, CommandError, FetchFailure, Input, LinkId, LinkRole, Notice, PartOutcome, Reply,
};
use quipu_core::sync::message::{Message, PROTOCOL_VERSION, Refusal};

use crate::common::{Lie, LinkMode, World, artifact};

const MIB: u64 = 1 << 20;

fn world(members: usize) -> World {
    let mut w = World::new();
    w.add_members(members, Role::Writer);
    w.emit(0, 5);
    w
}

fn put(w: &mut World, n: usize, key: ArtifactId) {
    w.machines[n].history.artifacts.put(key);
}

fn holds(w: &World, n: usize, key: &ArtifactId) -> bool {
    w.machines[n].history.artifacts.holds(key)
}

fn want(w: &mut World, n: usize, key: ArtifactId) {
    w.turn(n, vec![Input::Want { key, missing: None }]);
}

/// Asks for an artifact; the answer comes later.
fn fetch(w: &mut World, n: usize, key: ArtifactId) -> u64 {
    w.request += 1;
    let request = w.request;
    w.turn(n, vec![Input::Local { request, command: Command::Fetch { key } }]);
    request
}

fn reply(w: &mut World, n: usize, request: u64) -> Option<Result<u64, FetchFailure>> {
    match w.machines[n].replies.remove(&request)? {
        Ok(Reply::Fetched { size }) => Some(Ok(size)),
        Err(CommandError::NotFetched { why, .. }) => Some(Err(why)),
        other => panic!("{other:?}"),
    }
}

fn notices(w: &World, n: usize, of: impl Fn(&Notice) -> bool) -> usize {
    w.machines[n].notices.iter().filter(|notice| of(notice)).count()
}

fn bad_parts_of(w: &World, n: usize, liar: usize) -> usize {
    let liar = w.id(liar);
    notices(w, n, |notice| matches!(notice, Notice::BadPart { peer, .. } if *peer == liar))
}

fn stored(w: &World, n: usize) -> u64 {
    w.machines[n].history.artifacts.stored.iter().map(|(_, g)| g.end - g.start).sum()
}

#[test]
fn artifacts_of_all_sizes_are_fetched() {
    let mut w = world(1);
    w.link(1, 0);
    w.settle();
    let sizes = [0, 1, GROUP_BYTES, GROUP_BYTES + 1, 256 << 10, (256 << 10) + 1, 9 * MIB + 77];
    for (seed, size) in (0..).zip(sizes) {
        let key = artifact(seed, size);
        put(&mut w, 0, key);
        let request = fetch(&mut w, 1, key);
        w.settle();
        assert_eq!(reply(&mut w, 1, request), Some(Ok(size)));
        assert!(holds(&w, 1, &key));
        // Held already.
        let request = fetch(&mut w, 1, key);
        assert_eq!(reply(&mut w, 1, request), Some(Ok(size)));
    }
    let all: u64 = sizes.iter().map(|size| group_count(*size)).sum();
    assert_eq!((stored(&w, 1), w.machines[1].history.artifacts.again), (all, 0));
    let (_, _, traffic) = w.machines[1].node.peers()[0];
    assert_eq!(traffic.groups_again, 0);
    assert_eq!(traffic.artifact_bytes_received, sizes.iter().sum::<u64>());
    assert!(w.machines[1].node.fetching().is_empty());
}

#[test]
fn a_fetch_goes_on_where_it_stopped() {
    let mut w = world(1);
    let key = artifact(1, 20 * MIB);
    put(&mut w, 0, key);
    let count = group_count(20 * MIB);
    w.machines[1].history.artifacts.put_groups(key, (0..500).chain(600..610).chain(1200..1280));
    want(&mut w, 1, key);
    w.link(1, 0);
    w.settle();
    assert!(holds(&w, 1, &key));
    assert_eq!(stored(&w, 1), count - 500 - 10 - 80);
    assert_eq!(w.machines[1].history.artifacts.again, 0);
    let complete =
        |n: &Notice| matches!(n, Notice::ArtifactComplete { size, .. } if *size == 20 * MIB);
    assert_eq!(notices(&w, 1, complete), 1);
}

#[test]
fn several_share_the_work() {
    let mut w = world(3);
    let key = artifact(1, 40 * MIB);
    let links: Vec<LinkId> = (0..3).map(|n| w.link(3, n)).collect();
    w.settle();
    (0..3).for_each(|n| put(&mut w, n, key));
    let request = fetch(&mut w, 3, key);
    w.settle();
    assert_eq!(reply(&mut w, 3, request), Some(Ok(40 * MIB)));
    assert_eq!(w.machines[3].history.artifacts.again, 0);
    for link in links {
        let traffic = w.machines[3].node.traffic(link).unwrap();
        assert!(traffic.artifact_bytes_received > 8 * MIB, "{traffic:?}");
        assert_eq!(traffic.groups_again, 0);
    }
}

#[test]
fn a_liar_is_named_and_others_serve() {
    let mut w = world(2);
    let key = artifact(1, 5 * MIB);
    (0..2).for_each(|n| put(&mut w, n, key));
    w.machines[0].history.artifacts.lie = Some(Lie::Bytes);
    w.link(2, 0);
    w.link(2, 1);
    w.settle();
    let request = fetch(&mut w, 2, key);
    w.settle();
    assert_eq!(reply(&mut w, 2, request), Some(Ok(5 * MIB)));
    assert_eq!(bad_parts_of(&w, 2, 0), 1);
    assert_eq!(bad_parts_of(&w, 2, 1), 0);
    let (peer, text) = (w.id(0), key.to_string());
    assert_eq!(
        notices(
            &w,
            2,
            |n| matches!(n, Notice::PeerRefused { peer: p, refusal: Refusal::Misbehaved, text: t }
            if *p == peer && t.contains(&text))
        ),
        1
    );
    assert_eq!(w.links_up(), 1);
}

#[test]
fn a_lone_liar_is_given_as_the_reason_and_not_asked_again() {
    let mut w = world(1);
    let key = artifact(1, 5 * MIB);
    put(&mut w, 0, key);
    w.machines[0].history.artifacts.lie = Some(Lie::Bytes);
    want(&mut w, 1, key);
    w.link(1, 0);
    w.settle();
    assert_eq!(bad_parts_of(&w, 1, 0), 1);
    // It comes back, and offers it again.
    w.link(1, 0);
    w.settle();
    assert_eq!((bad_parts_of(&w, 1, 0), w.links_up()), (1, 1));
    let request = fetch(&mut w, 1, key);
    w.settle();
    let why = reply(&mut w, 1, request).unwrap().unwrap_err();
    assert!(matches!(why, FetchFailure::BadParts(_) | FetchFailure::Lacking), "{why:?}");
    let request = fetch(&mut w, 1, artifact(2, 5));
    w.settle();
    assert_eq!(reply(&mut w, 1, request), Some(Err(FetchFailure::Lacking)));
}

#[test]
fn who_offers_another_size_is_found_out() {
    for more in [1, GROUP_BYTES, 100 * MIB] {
        let mut w = world(3);
        let key = artifact(1, 5 * MIB);
        (0..3).for_each(|n| put(&mut w, n, key));
        w.machines[0].history.artifacts.lie = Some(Lie::Size(more));
        (0..3).for_each(|n| _ = w.link(3, n));
        w.settle();
        let request = fetch(&mut w, 3, key);
        w.settle();
        assert_eq!(reply(&mut w, 3, request), Some(Ok(5 * MIB)));
        assert_eq!(bad_parts_of(&w, 3, 0), 1);
        assert_eq!(w.links_up(), 2);
        assert_eq!(w.machines[3].history.artifacts.again, 0);
    }
}

#[test]
fn when_a_peer_vanishes_others_take_over() {
    for frames in [1, 5, 9, 12, 20, 30] {
        let mut w = world(2);
        let key = artifact(1, 12 * MIB);
        (0..2).for_each(|n| put(&mut w, n, key));
        let request = fetch(&mut w, 2, key);
        assert_eq!(reply(&mut w, 2, request), Some(Err(FetchFailure::NoLinks)));
        want(&mut w, 2, key);
        w.open_short(2, 0, frames);
        w.link(2, 1);
        w.settle();
        assert!(holds(&w, 2, &key), "{frames}");
        assert_eq!(w.machines[2].history.artifacts.again, 0);
    }
    // Nobody else: the request fails, what is here stays.
    let mut w = world(1);
    let key = artifact(1, 12 * MIB);
    put(&mut w, 0, key);
    w.open_short(1, 0, 40);
    w.settle();
    let request = fetch(&mut w, 1, key);
    w.settle();
    assert_eq!(reply(&mut w, 1, request), Some(Err(FetchFailure::SourcesGone)));
    let before = stored(&w, 1);
    assert!(before > 16 && w.machines[1].node.fetching().is_empty());
    w.link(1, 0);
    w.settle();
    let request = fetch(&mut w, 1, key);
    w.settle();
    assert_eq!(reply(&mut w, 1, request), Some(Ok(12 * MIB)));
    assert_eq!(stored(&w, 1), group_count(12 * MIB));
}

#[test]
fn who_gets_an_artifact_later_tells_those_who_asked() {
    let mut w = world(2);
    let key = artifact(1, 3 * MIB);
    w.link(1, 0);
    w.link(2, 1);
    w.settle();
    want(&mut w, 2, key);
    want(&mut w, 1, key);
    w.settle();
    let lacking = |n: &Notice| matches!(n, Notice::ArtifactLacking { .. });
    assert_eq!((notices(&w, 1, lacking), notices(&w, 2, lacking)), (1, 1));
    put(&mut w, 0, key);
    w.turn(0, vec![Input::ArtifactHeld { key, size: 3 * MIB }]);
    w.settle();
    // From 0 to 1, and on to 2.
    assert!(holds(&w, 1, &key) && holds(&w, 2, &key));
}

#[test]
fn what_is_lost_while_it_is_served_comes_from_others() {
    let mut w = world(2);
    let key = artifact(1, 30 * MIB);
    (0..2).for_each(|n| put(&mut w, n, key));
    w.link(2, 0);
    w.link(2, 1);
    w.settle();
    want(&mut w, 2, key);
    for _ in 0..40 {
        w.step();
    }
    w.machines[0].history.artifacts.remove(&key);
    w.settle();
    assert!(holds(&w, 2, &key));
    assert_eq!(w.links_up(), 2);
    // It asks in vain, and is told nothing.
    let request = fetch(&mut w, 0, artifact(9, 9));
    w.settle();
    assert_eq!(reply(&mut w, 0, request), Some(Err(FetchFailure::Lacking)));
}

#[test]
fn what_is_not_wanted_any_more_stops() {
    let mut w = world(1);
    let key = artifact(1, 60 * MIB);
    put(&mut w, 0, key);
    w.link(1, 0);
    w.settle();
    want(&mut w, 1, key);
    for _ in 0..30 {
        w.step();
    }
    w.turn(1, vec![Input::Unwant { key }]);
    let before = stored(&w, 1);
    w.settle();
    assert!(before > 0 && before == stored(&w, 1) && w.links_up() == 1);
    // What comes late is taken if it is wanted again by then, or comes again.
    want(&mut w, 1, key);
    w.settle();
    assert!(holds(&w, 1, &key));
    assert_eq!(w.machines[1].history.artifacts.again, 0);
    // Wanted again while parts are on their way.
    let key = artifact(2, 60 * MIB);
    put(&mut w, 0, key);
    for _ in 0..20 {
        want(&mut w, 1, key);
        for _ in 0..7 {
            w.step();
        }
        w.turn(1, vec![Input::Unwant { key }]);
    }
    want(&mut w, 1, key);
    w.settle();
    assert!(holds(&w, 1, &key) && w.links_up() == 1);
    assert_eq!(w.machines[1].history.artifacts.again, 0);
}

#[test]
fn a_full_disk_ends_a_fetch_and_not_the_link() {
    let mut w = world(1);
    let key = artifact(1, 5 * MIB);
    put(&mut w, 0, key);
    w.link(1, 0);
    w.settle();
    w.machines[1].history.artifacts.full = true;
    let request = fetch(&mut w, 1, key);
    w.settle();
    let why = reply(&mut w, 1, request);
    assert!(matches!(why, Some(Err(FetchFailure::NotKept(_)))), "{why:?}");
    assert_eq!(notices(&w, 1, |n| matches!(n, Notice::ArtifactFailed { .. })), 1);
    assert_eq!((w.links_up(), w.machines[1].node.fetching().len()), (1, 0));
}

// ---- A peer whose frames the test writes by hand.

const LINK: LinkId = 77;

/// Machine 1 is a member whose frames the test writes, linked to machine 0.
fn by_hand(w: &mut World) {
    let peer = w.id(1);
    w.turn(0, vec![Input::LinkUp { link: LINK, peer, role: LinkRole::Responder }]);
    let hello = Message::Hello {
        version: PROTOCOL_VERSION,
        domain: w.domain(),
        log: Log::Internal,
        live: true,
        invite: None,
    };
    tell(w, hello);
}

fn tell(w: &mut World, message: Message) {
    w.turn(0, vec![Input::Frame { link: LINK, bytes: message.encode() }]);
}

/// What machine 0 says to a frame that came over some link of machine 1.
fn told_over(w: &mut World, link: LinkId, message: &Message) -> Vec<Message> {
    sent(w.machines[0].turn(w.now, vec![Input::Frame { link, bytes: message.encode() }]))
}

/// What machine 0 says to the frame.
fn told(w: &mut World, message: &Message) -> Vec<Message> {
    let outs =
        w.machines[0].turn(w.now, vec![Input::Frame { link: LINK, bytes: message.encode() }]);
    sent(outs)
}

fn sent(outs: Vec<crate::common::Out>) -> Vec<Message> {
    let frames = outs.into_iter().filter_map(|out| match out {
        crate::common::Out::Send(_, bytes) => Some(Message::decode(&bytes).unwrap()),
        crate::common::Out::Close(..) => None,
    });
    frames.collect()
}

fn refused_for(w: &World, key: &ArtifactId) -> bool {
    let text = key.to_string();
    notices(
        w,
        0,
        |n| matches!(n, Notice::PeerRefused { refusal: Refusal::Misbehaved, text: t, .. } if t.contains(&text)),
    ) == 1
}

/// The true part, as an honest peer would send it.
fn part(key: ArtifactId, groups: std::ops::Range<u64>) -> Message {
    let mut held = crate::common::Artifacts::default();
    held.put(key);
    let (size, bytes) = held.part(&key, groups.clone()).unwrap();
    Message::Part { key, size, groups, bytes: bytes.into() }
}

#[test]
fn parts_that_were_not_asked_for_are_refused() {
    let key = artifact(1, 5 * MIB);
    let count = group_count(5 * MIB);
    let last = count - 16..count;
    // Never asked for; other groups; the same part again; another size; another artifact.
    for case in 0..5 {
        let mut w = world(1);
        by_hand(&mut w);
        if case == 0 {
            tell(&mut w, part(key, 0..16));
        } else {
            want(&mut w, 0, key);
            tell(&mut w, Message::Offer { ask: 1, entries: vec![(key, 5 * MIB)] });
            match case {
                1 => tell(&mut w, part(key, 0..16)),
                2 => {
                    tell(&mut w, part(key, last.clone()));
                    assert_eq!(stored(&w, 0), 16);
                    tell(&mut w, part(key, last.clone()));
                }
                3 => {
                    let Message::Part { key, groups, bytes, .. } = part(key, last.clone()) else {
                        unreachable!()
                    };
                    tell(&mut w, Message::Part { key, size: 5 * MIB + 1, groups, bytes });
                }
                _ => tell(&mut w, part(artifact(2, 5 * MIB), last.clone())),
            }
        }
        let named = if case == 4 { artifact(2, 5 * MIB) } else { key };
        assert!(refused_for(&w, &named), "{case}: {:?}", w.machines[0].notices);
        assert!(w.machines[0].node.peers().is_empty());
        assert_eq!(stored(&w, 0), if case == 2 { 16 } else { 0 });
    }
}

/// A part with another size than was offered: its place is free again, for others to fill.
#[test]
fn a_part_of_another_size_does_not_block_the_artifact() {
    let key = artifact(1, 5 * MIB);
    let count = group_count(5 * MIB);
    let mut w = world(1);
    by_hand(&mut w);
    want(&mut w, 0, key);
    tell(&mut w, Message::Offer { ask: 1, entries: vec![(key, 5 * MIB)] });
    let Message::Part { key, groups, bytes, .. } = part(key, count - 16..count) else {
        unreachable!()
    };
    tell(&mut w, Message::Part { key, size: 5 * MIB + 1, groups, bytes });
    assert!(refused_for(&w, &key));
    let fetching = w.machines[0].node.fetching();
    assert_eq!((fetching.len(), fetching[0].moving, fetching[0].sources), (1, 0, 0));
}

#[test]
fn the_first_part_proves_the_size_and_the_window_is_kept_full() {
    let mut w = world(1);
    by_hand(&mut w);
    let size = 100 * MIB + 5;
    let (key, count) = (artifact(1, size), group_count(size));
    let asked = sent(w.machines[0].turn(w.now, vec![Input::Want { key, missing: None }]));
    assert_eq!(asked, [Message::Ask { ask: 1, keys: vec![key] }]);
    let gets = told(&mut w, &Message::Offer { ask: 1, entries: vec![(key, size)] });
    let last = (count - 1) / 16 * 16..count;
    assert_eq!(gets, [Message::Get { key, groups: last.clone() }]);
    let gets = told(&mut w, &part(key, last));
    assert_eq!(gets.len(), PARTS_ASKED_MAX);
    for (n, get) in (0..).zip(&gets) {
        assert_eq!(*get, Message::Get { key, groups: 16 * n..16 * n + 16 });
    }
    let gets = told(&mut w, &part(key, 0..16));
    assert_eq!(gets, [Message::Get { key, groups: 256..272 }]);
}

#[test]
fn who_falls_silent_loses_its_parts_and_may_come_back() {
    let mut w = world(2);
    by_hand(&mut w);
    let size = 6 * MIB;
    let (key, count) = (artifact(1, size), group_count(size));
    want(&mut w, 0, key);
    tell(&mut w, Message::Offer { ask: 1, entries: vec![(key, size)] });
    tell(&mut w, part(key, count - 16..count));
    assert_eq!(w.machines[0].node.fetching()[0].moving, 16);
    // Another has it, and takes the rest; then what the silent one was asked for.
    put(&mut w, 2, key);
    w.link(2, 0);
    w.settle();
    assert!(!holds(&w, 0, &key));
    assert_eq!(stored(&w, 0), count - 256);
    w.run_for(ANSWER_MS + 10);
    assert!(holds(&w, 0, &key));
    // It answers after all: that is no lie, and of no use.
    tell(&mut w, part(key, 0..16));
    tell(&mut w, part(key, 16..32));
    assert_eq!(w.machines[0].node.traffic(LINK).unwrap().groups_again, 32);
    assert_eq!(w.machines[0].history.artifacts.again, 0);
    // But only once.
    tell(&mut w, part(key, 0..16));
    assert!(refused_for(&w, &key));
}

#[test]
fn a_peer_that_started_anew_is_asked_anew() {
    let mut w = world(1);
    by_hand(&mut w);
    let size = 6 * MIB;
    let (key, count) = (artifact(1, size), group_count(size));
    want(&mut w, 0, key);
    let offer = Message::Offer { ask: 1, entries: vec![(key, size)] };
    tell(&mut w, offer.clone());
    let old = told(&mut w, &part(key, count - 16..count));
    assert_eq!(old.len(), PARTS_ASKED_MAX);
    // A second link of the same peer. The first one still has its time.
    let (newer, peer) = (LINK + 1, w.id(1));
    w.turn(0, vec![Input::LinkUp { link: newer, peer, role: LinkRole::Responder }]);
    let hello = Message::Hello {
        version: PROTOCOL_VERSION,
        domain: w.domain(),
        log: Log::Internal,
        live: true,
        invite: None,
    };
    told_over(&mut w, newer, &hello);
    let gets = told_over(&mut w, newer, &offer);
    assert_eq!(gets.len(), 7, "what nobody was asked for");
    w.now += DOUBT_MS / 2;
    tell(&mut w, part(key, 0..16));
    w.now += DOUBT_MS - 1;
    assert_eq!(sent(w.machines[0].turn(w.now, vec![Input::Tick])), []);
    // Nothing comes over it: what it was asked for goes to the newer one.
    w.now += 1;
    let again = sent(w.machines[0].turn(w.now, vec![Input::Tick]));
    assert_eq!(again.len(), PARTS_ASKED_MAX - 7);
    for first in (16..count - 16).step_by(16) {
        told_over(&mut w, newer, &part(key, first..first + 16));
    }
    assert!(holds(&w, 0, &key), "{:?}", w.machines[0].node.fetching());
    assert_eq!(w.machines[0].history.artifacts.again, 0);
}

#[test]
fn a_slow_peer_that_is_the_only_one_is_asked_again() {
    let mut w = world(1);
    by_hand(&mut w);
    let size = 6 * MIB;
    let (key, count) = (artifact(1, size), group_count(size));
    want(&mut w, 0, key);
    tell(&mut w, Message::Offer { ask: 1, entries: vec![(key, size)] });
    tell(&mut w, part(key, count - 16..count));
    for _ in 0..5 {
        w.now += ANSWER_MS;
        let gets = sent(w.machines[0].turn(w.now, vec![Input::Tick]));
        assert_eq!(gets, [Message::Get { key, groups: 0..16 }]);
    }
    // Late parts are taken; from then on it is asked as before.
    let gets = told(&mut w, &part(key, 16..32));
    assert!(gets.len() > 10, "{gets:?}");
    let gets = told(&mut w, &part(key, 32..48));
    // Parts come in the order of the requests: what was passed over is asked for again.
    assert_eq!(gets.len(), 2);
    for first in (0..count - 16).step_by(16).filter(|first| ![16, 32].contains(first)) {
        tell(&mut w, part(key, first..first + 16));
    }
    assert!(holds(&w, 0, &key), "{:?}", w.machines[0].node.fetching());
}

#[test]
fn queues_are_bounded() {
    let mut w = world(1);
    by_hand(&mut w);
    let key = artifact(1, 90 * MIB);
    put(&mut w, 0, key);
    // Nothing is reported as written: so it sends a window, and keeps the rest.
    let mut parts = 0;
    let mut bytes = 0;
    for n in 0.. {
        let get = Message::Get { key, groups: 16 * n..16 * n + 16 };
        let answers = told(&mut w, &get);
        if answers.iter().any(|answer| matches!(answer, Message::Refuse { .. })) {
            break;
        }
        parts += answers.len();
        bytes += answers.iter().map(|answer| answer.encode().len()).sum::<usize>();
        assert!(n < 200);
    }
    assert!(refused_for(&w, &key));
    assert!((2..=3).contains(&parts) && bytes <= SEND_WINDOW_BYTES + (300 << 10), "{parts}");
    const { assert!(PARTS_OWED_MAX >= PARTS_ASKED_MAX) };

    // Wants.
    let mut w = world(1);
    for n in 0..WANTS_MAX as u64 + 100 {
        want(&mut w, 0, artifact(n, 10));
    }
    assert_eq!(w.machines[0].node.wants_room(), 0);
    assert_eq!(w.machines[0].node.fetching().len(), WANTS_MAX);
    let request = fetch(&mut w, 0, artifact(1 << 40, 10));
    assert_eq!(reply(&mut w, 0, request), Some(Err(FetchFailure::Busy)));
    for n in 0..WANTS_MAX as u64 {
        put(&mut w, 1, artifact(n, 10));
    }
    w.link(0, 1);
    w.settle();
    assert!((0..WANTS_MAX as u64).all(|n| holds(&w, 0, &artifact(n, 10))));
    assert_eq!(w.machines[0].node.wants_room(), WANTS_MAX);
}

#[test]
fn what_somebody_waits_for_goes_first() {
    let mut w = world(1);
    for seed in 0..200 {
        put(&mut w, 0, artifact(seed, MIB));
        want(&mut w, 1, artifact(seed, MIB));
    }
    let urgent = artifact(1000, MIB);
    put(&mut w, 0, urgent);
    w.link(1, 0);
    for _ in 0..60 {
        w.step();
    }
    let request = fetch(&mut w, 1, urgent);
    let mut steps = 0;
    while reply(&mut w, 1, request).is_none() {
        w.step();
        steps += 1;
        assert!(steps < 200, "it waits its turn");
    }
    let left = w.machines[1].node.fetching().len();
    assert!(left > 100, "{left}");
    w.settle();
    assert!((0..200).all(|seed| holds(&w, 1, &artifact(seed, MIB))));
}

#[test]
fn events_go_first() {
    let mut w = world(1);
    by_hand(&mut w);
    w.emit(0, 3000);
    let key = artifact(1, 90 * MIB);
    put(&mut w, 0, key);
    let digest = quipu_core::id::LogDigest([1; 32]);
    tell(&mut w, Message::Compare { round: 1, attempt: 0, digest, count: 1, met: None });
    let get = |n: u64| Message::Get { key, groups: 16 * n..16 * n + 16 };
    for n in 0..20 {
        tell(&mut w, get(n));
    }
    // Nothing has left yet: the window is full of parts. Now events are wanted, and something leaves.
    let wanted = quipu_core::sync::message::Wanted::Everything;
    let mut order = told(&mut w, &Message::Want { round: 1, plain: false, wanted });
    for _ in 0..4 {
        let writable = Input::Writable { link: LINK, written: u64::MAX };
        order.extend(sent(w.machines[0].turn(w.now, vec![writable])));
    }
    let kinds: Vec<u8> = order.iter().map(|message| message.encode()[0]).collect();
    let last_event = kinds.iter().rposition(|kind| *kind == 10).unwrap();
    let first_part = kinds.iter().position(|kind| *kind == 20).unwrap();
    assert!(last_event < first_part && last_event >= 1, "{kinds:?}");
}

#[test]
fn unknown_is_absent_and_strangers_get_nothing() {
    let mut w = world(1);
    by_hand(&mut w);
    let (held, not) = (artifact(1, 5), artifact(2, 5));
    put(&mut w, 0, held);
    let answer = told(&mut w, &Message::Ask { ask: 9, keys: vec![held, not] });
    assert_eq!(answer, [Message::Offer { ask: 9, entries: vec![(held, 5)] }]);
    let answer = told(&mut w, &Message::Get { key: not, groups: 0..1 });
    assert_eq!(answer, [Message::Lack { key: not }]);
    let answer = told(&mut w, &Message::Get { key: held, groups: 3..4 });
    assert_eq!(answer, [Message::Lack { key: held }]);
    // Removed: the link goes.
    let node = w.id(1);
    w.decide(0, Decision::Remove { node }).unwrap();
    assert!(w.machines[0].node.peers().is_empty());
    // Before hello, and as a stranger.
    for n in [1, 2] {
        let mut w = world(1);
        let stranger = w.add_stranger();
        put(&mut w, 0, held);
        let peer = w.id(if n == 1 { 1 } else { stranger });
        w.turn(0, vec![Input::LinkUp { link: LINK, peer, role: LinkRole::Responder }]);
        if n == 2 {
            let (version, domain) = (PROTOCOL_VERSION, w.domain());
            tell(
                &mut w,
                Message::Hello { version, domain, log: Log::Internal, live: true, invite: None },
            );
        }
        let answer = told(&mut w, &Message::Ask { ask: 1, keys: vec![held] });
        assert!(answer.iter().all(|m| matches!(m, Message::Refuse { .. })), "{answer:?}");
        assert!(w.machines[0].node.peers().is_empty());
    }
}

#[test]
fn a_driver_may_answer_late_and_about_what_is_gone() {
    let mut w = world(1);
    let key = artifact(1, 5);
    for outcome in [PartOutcome::Good, PartOutcome::Complete, PartOutcome::Bad(String::new())] {
        w.turn(0, vec![Input::PartStored { link: 1, key, groups: 0..1, outcome }]);
    }
    assert!(w.machines[0].notices.is_empty());
}

// ---- Sessions that do not stay.

#[test]
fn a_one_off_sync_fetches_in_both_directions_and_closes() {
    let mut w = world(1);
    let (a, b) = (artifact(1, 9 * MIB), artifact(2, 7 * MIB));
    put(&mut w, 0, a);
    put(&mut w, 1, b);
    want(&mut w, 0, b);
    want(&mut w, 1, a);
    for differ in [false, true] {
        if differ {
            w.emit(0, 3);
            w.emit(1, 3);
        }
        assert!(matches!(w.sync(1, 0), Ok(Reply::Synced { equal: true, .. })));
        assert!(holds(&w, 0, &b) && holds(&w, 1, &a));
        assert_eq!(w.links_up(), 0);
        w.assert_agree(&[0, 1]);
        for n in [0, 1] {
            w.machines[n].history.artifacts.remove(&a);
            w.machines[n].history.artifacts.remove(&b);
        }
        put(&mut w, 0, a);
        put(&mut w, 1, b);
        want(&mut w, 0, b);
        want(&mut w, 1, a);
    }
}

#[test]
fn a_one_off_sync_in_which_only_the_responder_wants() {
    let mut w = world(1);
    let key = artifact(1, 9 * MIB);
    put(&mut w, 1, key);
    want(&mut w, 0, key);
    want(&mut w, 0, artifact(2, 1));
    w.sync(1, 0).unwrap();
    assert!(holds(&w, 0, &key));
    assert_eq!(w.links_up(), 0);
}

#[test]
fn without_wants_nothing_is_added_to_a_sync() {
    let mut plain = world(1);
    let mut following = world(1);
    plain.sync(1, 0).unwrap();
    following.sync(1, 0).unwrap();
    for m in &mut following.machines {
        m.node.await_wants();
    }
    for w in [&mut plain, &mut following] {
        for _ in 0..2 {
            let Ok(Reply::Synced { traffic, .. }) = w.sync(1, 0) else { panic!() };
            assert_eq!(traffic.round_trips, 1);
            let (frames, bytes) = w.counted(w.last_link());
            assert!(frames == 4 && bytes < 300, "{frames} frames, {bytes} bytes");
        }
    }
}

#[test]
fn wants_that_follow_from_a_one_off_sync_are_served_by_it() {
    let mut w = world(1);
    w.machines.iter_mut().for_each(|m| m.node.await_wants());
    w.emit(0, 3);
    w.emit(1, 3);
    let (a, b) = (artifact(1, 9 * MIB), artifact(2, 7 * MIB));
    put(&mut w, 0, a);
    put(&mut w, 1, b);
    w.request += 1;
    let request = w.request;
    w.open(1, 0, false, Some(request), None, LinkMode::default());
    w.settle();
    // Both are level, and wait to be told what follows from the events.
    assert!(w.machines[0].node.awaits_wants() && w.machines[1].node.awaits_wants());
    assert!(!w.machines[1].replies.contains_key(&request));
    w.turn(1, vec![Input::Want { key: a, missing: None }, Input::WantsTold]);
    w.settle();
    assert!(holds(&w, 1, &a));
    assert_eq!(w.links_up(), 1);
    w.turn(0, vec![Input::Want { key: b, missing: None }, Input::WantsTold]);
    w.settle();
    assert!(holds(&w, 0, &b));
    assert_eq!(w.links_up(), 0);
    assert!(matches!(
        w.machines[1].replies.remove(&request),
        Some(Ok(Reply::Synced { equal: true, .. }))
    ));
    // If it is never told, it leaves all the same.
    w.emit(0, 3);
    let request = request + 1;
    w.open(1, 0, false, Some(request), None, LinkMode::default());
    w.settle();
    assert_eq!(w.links_up(), 1);
    w.run_for(ANSWER_MS + 10);
    assert_eq!(w.links_up(), 0);
    assert!(w.machines[1].replies.contains_key(&request));
}

#[test]
fn a_one_off_sync_does_not_wait_for_a_peer_that_only_claims_to_have_it() {
    let mut w = world(1);
    w.machines[0].history.artifacts.lie = Some(Lie::Everything);
    want(&mut w, 1, artifact(1, 5 * MIB));
    w.sync(1, 0).unwrap();
    assert_eq!(w.links_up(), 0);
    assert_eq!(notices(&w, 1, |n| matches!(n, Notice::ArtifactLacking { .. })), 1);
}

#[test]
fn a_newcomer_gets_artifacts_in_the_session_in_which_it_joins() {
    let mut w = world(0);
    let ticket = w.invite(0, 900, Role::Writer, 1);
    let joiner = w.add_stranger();
    let (a, b) = (artifact(1, 3 * MIB), artifact(2, 2 * MIB));
    put(&mut w, 0, a);
    put(&mut w, joiner, b);
    want(&mut w, joiner, a);
    // The newcomer is asked before it knows that the other is a member.
    want(&mut w, 0, b);
    let proof = w.proof(joiner, ticket);
    w.sync_with(joiner, 0, Some(proof)).unwrap();
    assert!(holds(&w, joiner, &a) && holds(&w, 0, &b));
    assert_eq!(w.links_up(), 0);
}

#[test]
fn lost_and_doubled_frames_delay_only() {
    for seed in 0..10 {
        let mut w = world(2);
        w.dice = crate::common::Dice(seed);
        w.reconnect = true;
        let mode = LinkMode { latency: 3, loss: 4, duplication: 1, reordering: 3 };
        w.open(2, 0, true, None, None, mode);
        w.open(2, 1, true, None, None, mode);
        let keys: Vec<ArtifactId> = (0..6).map(|n| artifact(n, n * 700_000 + 5)).collect();
        for (n, key) in keys.iter().enumerate() {
            put(&mut w, n % 2, *key);
            put(&mut w, 0, *key);
            want(&mut w, 2, *key);
        }
        w.run_for(1_500_000);
        let left = w.machines[2].node.fetching();
        assert!(keys.iter().all(|key| holds(&w, 2, key)), "{seed}: {left:?}");
    }
}
