//! The protocol between nodes, with real meshlogd at both ends of a chain: 0.5.0 - ours - ours - 0.1.0.

mod common;

use std::collections::BTreeSet;
use std::io::{BufRead as _, BufReader, Write as _};
use std::path::Path;
use std::process::{ChildStdin, ChildStdout, Stdio};

use common::Running;
use data_encoding::HEXLOWER;
use quipu_meshlog::clock::Stamp;
use quipu_meshlog::event::{Body, Event};
use quipu_meshlog::identity::{IDENTITY_BYTES, Identity, PublicIdentity};
use quipu_meshlog::json::{self, Style, Value};
use quipu_meshlog::log::Log;
use quipu_meshlog::order::Ordered;
use quipu_meshlog::peer::{Feeds, Input, Output, PeerId, Peers, Timing};
use quipu_meshlog::policy::{Judge, Policy};
use quipu_meshlog::records::Records;

/// A real node of meshlogd.
struct Theirs {
    _process: Running,
    input: ChildStdin,
    output: BufReader<ChildStdout>,
}

impl Theirs {
    fn start(place: &Path, version: &str, author: &str) -> Self {
        let mut command = common::script(place, version, "peer.py", &[author]);
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
        let input = child.stdin.take().unwrap();
        let output = BufReader::new(child.stdout.take().unwrap());
        Self { _process: Running(child), input, output }
    }

    /// Says a line and gives the lines of the answer.
    fn ask(&mut self, line: &str) -> Vec<String> {
        writeln!(self.input, "{line}").unwrap();
        self.input.flush().unwrap();
        let mut lines = Vec::new();
        loop {
            let mut line = String::new();
            assert!(self.output.read_line(&mut line).unwrap() > 0, "meshlogd died");
            match line.trim_end() {
                "." => return lines,
                other => lines.push(other.to_owned()),
            }
        }
    }
}

/// One of our nodes.
struct Ours {
    log: Log,
    judge: Judge,
    nobody: BTreeSet<quipu_meshlog::text::Text>,
    peers: Peers,
}

impl Ours {
    fn new(identity: &PublicIdentity) -> Self {
        Self {
            log: Log::default(),
            judge: Judge::new(Policy::Open),
            nobody: BTreeSet::new(),
            peers: Peers::new(identity.into(), Timing::default()),
        }
    }

    fn handle(&mut self, now: u64, input: Input<'_>) -> Vec<Output> {
        let mut feeds = Feeds { log: &mut self.log, judge: &mut self.judge, ours: &self.nobody };
        self.peers.handle(now, input, &mut feeds)
    }
}

/// Four nodes in a row, of which the two in the middle are ours.
struct Chain {
    identities: Vec<PublicIdentity>,
    ends: [Theirs; 2],
    ours: [Ours; 2],
    now: u64,
    /// Messages: from, to, bytes.
    under_way: Vec<(usize, usize, Vec<u8>)>,
    carried: usize,
}

impl Chain {
    fn new(place: &Path) -> Self {
        let identity = |n| Identity::from_bytes(&[n; IDENTITY_BYTES]).public().clone();
        let identities: Vec<PublicIdentity> = (1..=4).map(identity).collect();
        let ends = [Theirs::start(place, "0.5.0", "first"), Theirs::start(place, "0.1.0", "last")];
        let ours = [Ours::new(&identities[1]), Ours::new(&identities[2])];
        Self { identities, ends, ours, now: 0, under_way: Vec::new(), carried: 0 }
    }

    fn peer(&self, node: usize) -> PeerId {
        (&self.identities[node]).into()
    }

    fn place_of(&self, peer: PeerId) -> usize {
        (0..4).find(|node| self.peer(*node) == peer).unwrap()
    }

    fn say(&mut self, from: usize, outputs: Vec<Output>) {
        for output in outputs {
            if let Output::Send { peer, bytes } = output {
                self.under_way.push((from, self.place_of(peer), bytes));
            }
        }
    }

    fn end(&mut self, node: usize, line: &str) -> Vec<String> {
        let answer = self.ends[node / 3].ask(line);
        let (sent, rest): (Vec<String>, Vec<String>) =
            answer.into_iter().partition(|line| line.starts_with("send "));
        for line in sent {
            let words: Vec<&str> = line.split(' ').collect();
            let to = (0..4).find(|node| self.peer(*node).to_string() == words[1]).unwrap();
            self.under_way.push((node, to, HEXLOWER.decode(words[2].as_bytes()).unwrap()));
        }
        rest
    }

    fn link(&mut self, a: usize, b: usize) {
        for (node, other) in [(a, b), (b, a)] {
            if node == 0 || node == 3 {
                let line = format!("up {}", self.peer(other));
                assert_eq!(self.end(node, &line), Vec::<String>::new());
            } else {
                let identity = self.identities[other].clone();
                let said = self.ours[node - 1].handle(self.now, Input::Up { identity: &identity });
                self.say(node, said);
            }
        }
    }

    /// Carries messages until none is under way; loses those that it is told to.
    fn settle(&mut self, lose: &mut dyn FnMut() -> bool) {
        while !self.under_way.is_empty() {
            let (from, to, bytes) = self.under_way.remove(0);
            self.carried += 1;
            if from == 1 || from == 2 {
                let peer = self.peer(to);
                let said = self.ours[from - 1].handle(self.now, Input::Sent { peer });
                self.say(from, said);
            }
            if lose() {
                continue;
            }
            let peer = self.peer(from);
            if to == 0 || to == 3 {
                self.end(to, &format!("recv {peer} {}", HEXLOWER.encode(&bytes)));
            } else {
                let said =
                    self.ours[to - 1].handle(self.now, Input::Message { peer, bytes: &bytes });
                self.say(to, said);
            }
        }
    }

    /// Ten seconds: meshlogd gossips, our nodes do what they find necessary.
    fn round(&mut self, lose: &mut dyn FnMut() -> bool) {
        self.now += 10_000;
        for node in [0, 3] {
            self.end(node, "gossip");
        }
        for node in [1, 2] {
            let said = self.ours[node - 1].handle(self.now, Input::Tick);
            self.say(node, said);
        }
        self.settle(lose);
    }

    fn frontiers(&mut self) -> [String; 4] {
        let of = |ours: &Ours| {
            let bytes = json::to_bytes(&ours.log.frontier().into(), Style::Canonical);
            String::from_utf8(bytes).unwrap()
        };
        let (first, last) = (self.end(0, "frontier").remove(0), self.end(3, "frontier").remove(0));
        [first, of(&self.ours[0]), of(&self.ours[1]), last]
    }
}

fn all_equal(frontiers: &[String; 4]) -> bool {
    frontiers.iter().all(|frontier| *frontier == frontiers[0])
}

fn emit_some(chain: &mut Chain) {
    for n in 0..80 {
        let odd = r#"[NaN,"\ud800",123456789012345678901234567890,1e-7]"#;
        let set = format!(
            r#"emit field.set {{"record_id":"R-{}","field":"f","value":[{n},{odd}]}}"#,
            n % 5
        );
        chain.end(0, &set);
        chain.end(3, &format!(r#"emit note.add {{"record_id":"R-{}","text":"note {n}"}}"#, n % 5));
        chain.end(3, &set);
    }
}

#[test]
fn a_chain_of_both_versions_and_ours_agrees() {
    let Some(place) = common::installed() else { return };
    let mut chain = Chain::new(&place);
    emit_some(&mut chain);
    [(0, 1), (1, 2), (2, 3)].into_iter().for_each(|(a, b)| chain.link(a, b));
    chain.settle(&mut || false);
    (0..2).for_each(|_| chain.round(&mut || false));
    let frontiers = chain.frontiers();
    assert!(all_equal(&frontiers), "{frontiers:?}");
    assert_eq!(frontiers[0], r#"{"first":80,"last":160}"#);
    // What each version shows of the events is what we show.
    let mut records = Vec::new();
    Records::of(chain.ours[0].log.arrived()).write_json(&mut records).unwrap();
    assert_eq!(chain.end(3, "view"), [String::from_utf8(records).unwrap()]);
    let mut ordered = Ordered::default();
    chain.ours[1].log.arrived().iter().for_each(|event| ordered.apply(event));
    let mut shown = Vec::new();
    ordered.write_json(Style::Canonical, &mut shown);
    assert_eq!(chain.end(0, "view"), [String::from_utf8(shown).unwrap()]);
    // At rest they gossip, which we do not have to answer.
    let before = chain.carried;
    (0..60).for_each(|_| chain.round(&mut || false));
    let said = chain.carried - before;
    assert!(said < 2 * 60 + 30, "{said} messages in ten minutes, 120 of them theirs");
}

#[test]
fn lost_messages_are_made_up_for() {
    let Some(place) = common::installed() else { return };
    let mut chain = Chain::new(&place);
    emit_some(&mut chain);
    [(0, 1), (1, 2), (2, 3)].into_iter().for_each(|(a, b)| chain.link(a, b));
    let mut state = 7u64;
    let mut lose = move || {
        state =
            state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 33) % 10 < 3
    };
    chain.settle(&mut lose);
    let mut rounds = 0;
    while !all_equal(&chain.frontiers()) {
        chain.round(&mut lose);
        rounds += 1;
        assert!(rounds < 200, "{:?}", chain.frontiers());
    }
}

#[test]
fn forged_and_forked_events_neither_spread_nor_keep_nodes_busy() {
    let Some(place) = common::installed() else { return };
    let mut chain = Chain::new(&place);
    let event = |author: &str, seq, prev, value: u64| {
        let payload = Value::object([("record_id", "R".into()), ("value", value.into())]).into();
        let (stamp, kind) = (Stamp::new(1, 0), "k".into());
        Event::new(Body { author: author.into(), seq, stamp, kind, payload, prev })
    };
    let write = |event: &Event| format!("write {}", HEXLOWER.encode(&event.to_wire()));
    // Both ends hold another branch of one feed, and the first one invents an event of somebody whose key is known.
    for (end, value) in [(0, 1), (3, 2)] {
        let first = event("forked", 1, None, value);
        let second = event("forked", 2, Some(first.id()), value);
        chain.end(end, &write(&first));
        chain.end(end, &write(&second));
    }
    let victim = Identity::from_bytes(&[7; IDENTITY_BYTES]);
    let forged = event(victim.public().author().as_str().unwrap(), 1, None, 3);
    chain.end(0, &write(&forged));
    let app_data = b"{}";
    let said = chain.ours[0].handle(0, Input::Heard { identity: victim.public(), app_data });
    chain.say(1, said);
    [(0, 1), (1, 2), (2, 3)].into_iter().for_each(|(a, b)| chain.link(a, b));
    chain.settle(&mut || false);
    chain.end(0, r#"emit k {"n":1}"#);
    chain.end(3, r#"emit k {"n":2}"#);
    (0..6).for_each(|_| chain.round(&mut || false));
    for ours in &chain.ours {
        let known: Vec<(String, usize)> =
            ours.log.feeds().map(|(author, feed)| (author.to_string(), feed.len())).collect();
        assert_eq!(known, [("first".into(), 1), ("forked".into(), 2), ("last".into(), 1)]);
    }
    let ids = |ours: &Ours| {
        ours.log.feed(&"forked".into()).iter().map(|event| event.id()).collect::<Vec<_>>()
    };
    let branches: Vec<_> = chain.ours.iter().map(ids).collect();
    let told = chain.ours.iter().filter(|ours| ours.log.forks().count() == 1).count();
    assert!(branches[0] == branches[1] || told > 0, "whoever saw both branches says so");
    assert!(told > 0);
    let before = chain.carried;
    (0..360).for_each(|_| chain.round(&mut || false));
    let said = chain.carried - before;
    assert!(said < 2 * 360 + 120, "{said} messages in an hour, 720 of them theirs");
}
