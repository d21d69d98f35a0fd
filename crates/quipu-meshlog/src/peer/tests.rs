use super::*;
use std::sync::Arc;

use crate::clock::Stamp;
use crate::event::{Body, Event};
use crate::identity::{IDENTITY_BYTES, Identity};
use crate::json::Value;
use crate::policy::Policy;

/// A node with what it keeps.
struct Node {
    identity: Identity,
    log: Log,
    judge: Judge,
    ours: BTreeSet<Text>,
    peers: Peers,
}

impl Node {
    fn new(number: u8) -> Self {
        let identity = Identity::from_bytes(&[number; IDENTITY_BYTES]);
        let peers = Peers::new(identity.public().into(), Timing::default());
        let judge = Judge::new(Policy::Open);
        Self { identity, log: Log::default(), judge, ours: BTreeSet::new(), peers }
    }

    fn id(&self) -> PeerId {
        self.identity.public().into()
    }

    fn handle(&mut self, now: u64, input: Input<'_>) -> Vec<Output> {
        let mut feeds = Feeds { log: &mut self.log, judge: &mut self.judge, ours: &self.ours };
        self.peers.handle(now, input, &mut feeds)
    }

    fn write(&mut self, author: &str, payload: Value) {
        let author = Text::from(author);
        let (seq, prev) = self.log.next_of(&author);
        let stamp = Stamp::new(seq as i64, 0);
        let body = Body { author, seq, stamp, kind: "k".into(), payload: payload.into(), prev };
        self.log.append_own(Event::new(body)).unwrap();
    }
}

/// Carries messages between nodes that are linked until nobody has any. How many there were, and their bytes.
fn settle(nodes: &mut [Node], now: u64, mut todo: Vec<(usize, Output)>) -> (usize, usize) {
    let (mut count, mut bytes) = (0, 0);
    while !todo.is_empty() {
        let (from, output) = todo.remove(0);
        let Output::Send { peer, bytes: message } = output else { continue };
        let sender = nodes[from].id();
        (count, bytes) = (count + 1, bytes + message.len());
        assert!(count < 10_000, "nodes never come to rest");
        let to = nodes.iter().position(|node| node.id() == peer).unwrap();
        let answers = nodes[from].handle(now, Input::Sent { peer });
        todo.extend(answers.into_iter().map(|output| (from, output)));
        let answers = nodes[to].handle(now, Input::Message { peer: sender, bytes: &message });
        todo.extend(answers.into_iter().map(|output| (to, output)));
    }
    (count, bytes)
}

fn link(nodes: &mut [Node], now: u64, a: usize, b: usize) -> (usize, usize) {
    let mut todo = Vec::new();
    for (at, other) in [(a, b), (b, a)] {
        let identity = nodes[other].identity.public().clone();
        let said = nodes[at].handle(now, Input::Up { identity: &identity });
        todo.extend(said.into_iter().map(|output| (at, output)));
    }
    settle(nodes, now, todo)
}

#[test]
fn feeds_go_over_several_hops() {
    let mut nodes: Vec<Node> = (1..=4).map(Node::new).collect();
    for n in 0..100u64 {
        nodes[0].write(&format!("a{}", n % 7), n.into());
        nodes[3].write("b", n.into());
    }
    for (a, b) in [(0, 1), (1, 2), (2, 3)] {
        link(&mut nodes, 1, a, b);
    }
    // Whoever was linked before hears of what came later because it is pushed.
    for node in &nodes {
        assert_eq!(node.log.len(), 200);
        assert_eq!(announce_of(&node.log), announce_of(&nodes[0].log));
    }
    nodes[3].write("b", Value::Null);
    let said = nodes[3].handle(2, Input::Grown);
    let (count, _) = settle(&mut nodes, 2, said.into_iter().map(|output| (3, output)).collect());
    assert_eq!(count, 3, "one message for each hop");
    assert!(nodes.iter().all(|node| node.log.len() == 201));
}

#[test]
fn level_nodes_say_next_to_nothing() {
    let mut nodes: Vec<Node> = (1..=2).map(Node::new).collect();
    (0..1_000).for_each(|n: u64| nodes[0].write(&format!("author {n}"), Value::Null));
    link(&mut nodes, 1, 0, 1);
    assert_eq!(nodes[1].log.len(), 1_000);
    let identity = nodes[0].identity.public().clone();
    let Some(Output::Announce { app_data }) = nodes[0].handle(2, Input::Tick).into_iter().next()
    else {
        panic!("an announce")
    };
    assert_eq!(app_data.len(), 17);
    drop(nodes[1].handle(2, Input::Down { peer: PeerId::from(&identity) }));
    let heard = Input::Heard { identity: &identity, app_data: &app_data };
    assert_eq!(nodes[1].handle(1_000_000, heard), []);
    nodes[1].write("b", Value::Null);
    let peer = PeerId::from(&identity);
    let opened = nodes[1].handle(2_000_000, heard);
    assert_eq!(opened, [Output::Open { peer }]);
    // It is being opened already; and where it fails, it is tried later each time.
    assert_eq!(nodes[1].handle(2_000_001, heard), []);
    drop(nodes[1].handle(2_000_002, Input::Down { peer }));
    assert_eq!(nodes[1].handle(2_000_003, heard), []);
    assert_eq!(nodes[1].handle(3_000_000, heard), [Output::Open { peer }]);
}

#[test]
fn a_large_log_does_not_fill_memory_and_what_is_lost_is_sent_again() {
    let mut node = Node::new(1);
    (0..100).for_each(|n: u64| node.write("a", Value::from("x".repeat(2_000 + n as usize))));
    let other = Node::new(2);
    let peer = other.id();
    let identity = other.identity.public().clone();
    let said = node.handle(0, Input::Up { identity: &identity });
    assert_eq!(said.len(), 1, "the frontier");
    assert_eq!(node.handle(0, Input::Sent { peer }), []);
    let empty = message::frontier(crate::json::Object::default());
    let told = Input::Message { peer, bytes: &empty };
    let said = node.handle(0, told);
    assert_eq!(said.len(), 2, "some on their way, not all");
    let Output::Send { bytes, .. } = &said[0] else { panic!("events") };
    assert!(bytes.len() <= crate::limits::PUSH_BYTES_MAX + 2, "{}", bytes.len());
    // The peer gossips while messages are on their way: nothing is sent twice.
    assert_eq!(node.handle(10_000, told), []);
    let second = node.handle(20_000, Input::Sent { peer });
    assert_eq!(second.len(), 1);
    assert!(!said.contains(&second[0]));
    let mut all = 0;
    while node.handle(20_000, Input::Sent { peer }).len() == 1 {
        all += 1;
    }
    assert!(all > 3);
    assert_eq!(node.handle(20_001, Input::Sent { peer }), [], "one was still on its way");
    assert_eq!(node.handle(20_002, told), [], "it may still be on its way");
    assert_eq!(node.handle(40_000, told)[0], said[0], "lost, it seems");
}

#[test]
fn what_is_given_up_goes_later_in_smaller_pieces() {
    let mut nodes: Vec<Node> = (1..=2).map(Node::new).collect();
    (0..40u64).for_each(|n| nodes[0].write("a", n.into()));
    let peer = nodes[1].id();
    let identity = nodes[1].identity.public().clone();
    drop(nodes[0].handle(0, Input::Up { identity: &identity }));
    drop(nodes[0].handle(0, Input::Sent { peer }));
    let empty = message::frontier(crate::json::Object::default());
    let mut said = nodes[0].handle(0, Input::Message { peer, bytes: &empty });
    assert_eq!(said.len(), 2);
    let counts = |said: &[Output]| -> Vec<usize> {
        let count = |output: &Output| match output {
            Output::Send { bytes, .. } => match message::parse(bytes) {
                Ok(Message::Events(events)) => events.len(),
                other => panic!("{other:?}"),
            },
            other => panic!("{other:?}"),
        };
        said.iter().map(count).collect()
    };
    assert_eq!(counts(&said), [32, 8]);
    // Nothing has air: nobody asks for it again and again, and it is all there when it has.
    let (mut now, mut tried) = (0, 0);
    while tried < 7 {
        for _ in 0..said.len() {
            assert_eq!(nodes[0].handle(now, Input::Failed { peer }), [], "not at once");
        }
        tried += 1;
        let before = now;
        said = Vec::new();
        while said.is_empty() {
            now += 1_000;
            said = nodes[0].handle(now, Input::Grown);
        }
        assert!(now - before >= 15_000, "after {} ms", now - before);
    }
    assert_eq!(counts(&said), [1, 1]);
    let mut carried = Vec::new();
    while !said.is_empty() {
        carried.extend(said.iter().map(|output| match output {
            Output::Send { bytes, .. } => bytes.clone(),
            other => panic!("{other:?}"),
        }));
        said = (0..said.len()).flat_map(|_| nodes[0].handle(now, Input::Sent { peer })).collect();
    }
    let from = nodes[0].id();
    let known = nodes[0].identity.public().clone();
    drop(nodes[1].handle(now, Input::Up { identity: &known }));
    for bytes in carried {
        drop(nodes[1].handle(now, Input::Message { peer: from, bytes: &bytes }));
    }
    assert_eq!(nodes[1].log.len(), 40);
}

#[test]
fn one_peer_is_asked_at_a_time_and_less_often_if_nothing_comes() {
    let mut node = Node::new(1);
    let others: Vec<Node> = (2..=3).map(Node::new).collect();
    let mut lengths = crate::json::Object::default();
    lengths.push("far", 5u64);
    let told = message::frontier(lengths);
    for other in &others {
        let identity = other.identity.public().clone();
        assert_eq!(node.handle(0, Input::Up { identity: &identity }).len(), 1);
        drop(node.handle(0, Input::Sent { peer: other.id() }));
    }
    let mut asked = Vec::new();
    for now in (1..2_000).map(|n| n * 1_000) {
        for other in &others {
            let said = node.handle(now, Input::Message { peer: other.id(), bytes: &told });
            asked.extend(said.iter().map(|_| now));
            assert!(said.len() < 2);
            drop(node.handle(now, Input::Sent { peer: other.id() }));
        }
    }
    assert_eq!(asked[0], 1_000);
    assert_eq!(asked[1], 16_000, "the other one, after the first did not answer");
    assert!(asked.len() < 20, "{} times in half an hour", asked.len());
}

#[test]
fn our_own_feeds_are_not_taken_from_others() {
    let mut nodes: Vec<Node> = (1..=2).map(Node::new).collect();
    nodes[1].ours.insert("ours".into());
    nodes[0].write("ours", Value::Null);
    nodes[0].write("theirs", Value::Null);
    link(&mut nodes, 1, 0, 1);
    assert_eq!(nodes[1].log.len(), 1);
    assert_eq!(nodes[1].log.feed(&"ours".into()).len(), 0);
    let event = Arc::clone(&nodes[0].log.arrived()[0]);
    let bytes = message::events(&[event]);
    let peer = nodes[0].id();
    let said = nodes[1].handle(2, Input::Message { peer, bytes: &bytes });
    assert!(matches!(&said[..], [Output::Refused { reason: Reason::Ours { .. }, .. }]), "{said:?}");
}

#[test]
fn what_is_no_message_harms_nobody() {
    let mut node = Node::new(1);
    let other = Node::new(2);
    let identity = other.identity.public().clone();
    drop(node.handle(0, Input::Up { identity: &identity }));
    for bytes in [&b""[..], b"{}", b"\xff", br#"{"t":"events"}"#] {
        let said = node.handle(0, Input::Message { peer: other.id(), bytes });
        assert!(matches!(said[..], [Output::Malformed { .. }]), "{said:?}");
    }
    let long = vec![b' '; MESSAGE_BYTES_MAX + 1];
    let said = node.handle(0, Input::Message { peer: other.id(), bytes: &long });
    let [Output::Malformed { error: BadMessage::TooLong { .. }, .. }] = said[..] else {
        panic!("{said:?}")
    };
    // From nobody who is linked: nothing is even read.
    assert_eq!(node.handle(0, Input::Message { peer: PeerId([9; 16]), bytes: b"{}" }), []);
}
