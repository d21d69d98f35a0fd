//! The state that a driver keeps, on a disk that loses what was not made durable.
#![allow(missing_docs)]

use std::collections::{BTreeSet, VecDeque};
use std::ops::Range;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use ed25519_dalek::SigningKey;
use quipu_core::domain::{Decision, Parameters, Role};
use quipu_core::event::Log;
use quipu_core::history::History;
use quipu_core::id::{ArtifactId, DomainId, NodeKey};
use quipu_core::limits::WANTS_MAX;
use quipu_core::node::{Command, Input, LinkId, LinkRole};
use quipu_core::statement::{Claim, Statement};
use quipu_node::{ArtifactPolicy, Clock, Driver, Links};
use quipu_state::State;
use quipu_store::{FaultyDisk, StoreOptions};

/// The only link there is.
const LINK: LinkId = 1;

/// A clock that is set by hand.
#[derive(Debug, Clone, Default)]
struct Time(Arc<AtomicU64>);

impl Clock for Time {
    fn now_ms(&self) -> u64 {
        1_000_000 + self.0.load(Ordering::Relaxed)
    }
}

/// Frames that were sent.
#[derive(Debug, Clone, Default)]
struct Wire(Arc<Mutex<VecDeque<Vec<u8>>>>);

impl Links for Wire {
    fn send(&mut self, _link: LinkId, bytes: Vec<u8>) {
        self.0.lock().unwrap().push_back(bytes);
    }
    fn close(&mut self, _link: LinkId, _reason: &str) {}
}

type Machine = Driver<FaultyDisk, Time, Wire>;

fn key(seed: u8) -> SigningKey {
    SigningKey::from_bytes(&[seed; 32])
}

fn node(seed: u8) -> NodeKey {
    NodeKey(key(seed).verifying_key().to_bytes())
}

fn open(disk: Arc<FaultyDisk>, domain: DomainId, seed: u8, time: &Time) -> (Machine, Wire) {
    let (options, wire) = (StoreOptions::default(), Wire::default());
    let opened = Driver::open(
        disk,
        (domain, quipu_core::event::Log::Internal),
        key(seed),
        [2; 32],
        time.clone(),
        wire.clone(),
        options,
    );
    (opened.unwrap().0, wire)
}

fn founded(time: &Time) -> (Arc<FaultyDisk>, Machine, Wire) {
    let disk = Arc::new(FaultyDisk::new());
    let (parameters, options) = (Parameters::default(), StoreOptions::default());
    let domain = Machine::found(disk.clone(), &parameters, &key(7), [1; 32], 9, options);
    let (machine, wire) = open(disk.clone(), domain.unwrap(), 7, time);
    (disk, machine, wire)
}

/// Appends claims, and does not commit them yet.
fn put(machine: &mut Machine, artifacts: Range<u64>) {
    let claim = |n: u64| Claim { key: ArtifactId::of(&n.to_le_bytes()), size: n, type_tag: None };
    let says = artifacts.map(|n| Statement::Put(claim(n))).collect();
    machine.input(Input::Local { request: 1, command: Command::Say(says) }).unwrap();
    machine.input(Input::TurnEnd).unwrap();
}

#[test]
fn a_state_that_is_saved_is_never_ahead_of_the_log() {
    let time = Time::default();
    let (disk, mut machine, _) = founded(&time);
    let domain = machine.node().domain();
    put(&mut machine, 0..20);
    assert_eq!(machine.catch_up().unwrap().applied(), 21);
    machine.save_state().unwrap();
    for seed in 0..50 {
        let left = Arc::new(disk.fork_durable(seed));
        let applied = State::open(&*left, domain, Log::Internal).applied();
        let held = open(left, domain, 7, &time).0.held().count(Log::Internal);
        assert!(applied <= held, "{applied} events are in the state, {held} in the log");
    }
    // It was not forgotten.
    machine.finish_turn().unwrap();
    for seed in 0..50 {
        let left = disk.fork_durable(seed);
        assert_eq!(State::open(&left, domain, Log::Internal).applied(), 21);
    }
}

/// Two machines that are linked for once; the second asked for that, and has nothing yet.
struct Pair {
    time: Time,
    machines: [(Machine, Wire); 2],
    written: [u64; 2],
}

impl Pair {
    /// The first has so many claims.
    fn new(claims: u64) -> Self {
        let time = Time::default();
        let (_, mut founder, wire) = founded(&time);
        let decision = Decision::Add { node: node(8), role: Role::Writer, invite: None };
        let command = Command::Decide(decision);
        founder.input(Input::Local { request: 1, command }).unwrap();
        for start in (0..claims).step_by(500) {
            put(&mut founder, start..claims.min(start + 500));
            founder.finish_turn().unwrap();
        }
        let domain = founder.node().domain();
        let (mut late, late_wire) = open(Arc::new(FaultyDisk::new()), domain, 8, &time);
        late.fetch_artifacts(ArtifactPolicy::All).unwrap();
        let mut pair =
            Self { time, machines: [(founder, wire), (late, late_wire)], written: [0; 2] };
        let role =
            LinkRole::Initiator { live: false, request: None, invite: None, only_state: false };
        for (of, role) in [LinkRole::Responder, role].into_iter().enumerate() {
            pair.turn(of, Input::LinkUp { link: LINK, peer: node(8 - of as u8), role });
        }
        pair
    }

    fn turn(&mut self, of: usize, input: Input) {
        let machine = &mut self.machines[of].0;
        machine.input(input).unwrap();
        machine.finish_turn().unwrap();
    }

    /// Hands over a frame from one to the other. Answers whether there was one.
    fn hand_over(&mut self, from: usize) -> bool {
        let Some(bytes) = self.machines[from].1.0.lock().unwrap().pop_front() else { return false };
        self.written[from] += bytes.len() as u64;
        self.turn(1 - from, Input::Frame { link: LINK, bytes });
        self.turn(from, Input::Writable { link: LINK, written: self.written[from] });
        true
    }

    /// How many events the second holds, and how many of them its state has looked at.
    fn late(&self) -> (u64, u64) {
        let late = &self.machines[1].0;
        (late.held().count(Log::Internal), late.state().applied())
    }
}

#[test]
fn the_state_takes_in_what_a_sync_brings_at_once() {
    let mut pair = Pair::new(10_000);
    let (mut held, mut looked_at) = (BTreeSet::new(), BTreeSet::new());
    while pair.hand_over(0) | pair.hand_over(1) {
        let (events, applied) = pair.late();
        held.insert(events);
        looked_at.insert(applied);
    }
    assert!(held.len() > 4, "the events came in {} steps: too few to tell", held.len());
    assert_eq!(looked_at, [0, 10_002].into());
    // Nothing was forgotten.
    assert_eq!(pair.machines[1].0.node().fetching().len(), WANTS_MAX.min(10_000));
}

#[test]
fn what_came_is_looked_at_even_if_the_rest_never_comes() {
    let mut pair = Pair::new(5_000);
    while pair.late().0 < 1_000 {
        assert!(pair.hand_over(0) | pair.hand_over(1));
    }
    assert_eq!(pair.late().1, 0);
    let late = &pair.machines[1].0;
    let due = late.deadline().unwrap() - late.clock().now_ms();
    assert!(due <= 5_000, "{due} ms");
    pair.time.0.fetch_add(due, Ordering::Relaxed);
    pair.turn(1, Input::Tick);
    let (held, applied) = pair.late();
    assert_eq!(held, applied);
    let late = &pair.machines[1].0;
    assert!(late.deadline().unwrap() > late.clock().now_ms(), "it would turn and turn");
    assert_eq!(late.node().fetching().len(), WANTS_MAX.min(held as usize - 2));
}
