//! The state that a driver keeps, on a disk that loses what was not made durable.
#![allow(missing_docs)]

use std::sync::Arc;

use ed25519_dalek::SigningKey;
use quipu_core::domain::Parameters;
use quipu_core::event::Log;
use quipu_core::history::History;
use quipu_core::id::{ArtifactId, DomainId};
use quipu_core::node::{Command, Input, LinkId};
use quipu_core::statement::{Claim, Statement};
use quipu_node::{Clock, Driver, Links};
use quipu_state::State;
use quipu_store::{FaultyDisk, StoreOptions};

#[derive(Debug)]
struct Still;

impl Clock for Still {
    fn now_ms(&self) -> u64 {
        1_000_000
    }
}

#[derive(Debug)]
struct Nobody;

impl Links for Nobody {
    fn send(&mut self, _link: LinkId, _bytes: Vec<u8>) {}
    fn close(&mut self, _link: LinkId, _reason: &str) {}
}

type Machine = Driver<FaultyDisk, Still, Nobody>;

fn key() -> SigningKey {
    SigningKey::from_bytes(&[7; 32])
}

fn open(disk: Arc<FaultyDisk>, domain: DomainId) -> Machine {
    let options = StoreOptions::default();
    Driver::open(disk, domain, key(), [2; 32], Still, Nobody, options).unwrap().0
}

fn founded() -> (Arc<FaultyDisk>, Machine) {
    let disk = Arc::new(FaultyDisk::new());
    let parameters = Parameters::default();
    let options = StoreOptions::default();
    let domain =
        Driver::<_, Still, Nobody>::found(disk.clone(), &parameters, &key(), [1; 32], 9, options);
    let machine = open(disk.clone(), domain.unwrap());
    (disk, machine)
}

/// Appends claims, and does not commit them yet.
fn put(machine: &mut Machine, artifacts: std::ops::Range<u64>) {
    let claim = |n: u64| Claim { key: ArtifactId::of(&n.to_le_bytes()), size: n, type_tag: None };
    let says = artifacts.map(|n| Statement::Put(claim(n))).collect();
    machine.input(Input::Local { request: 1, command: Command::Say(says) }).unwrap();
    machine.input(Input::TurnEnd).unwrap();
}

#[test]
fn a_state_that_is_saved_is_never_ahead_of_the_log() {
    let (disk, mut machine) = founded();
    let domain = machine.node().domain();
    put(&mut machine, 0..20);
    assert_eq!(machine.catch_up().unwrap().applied(), 21);
    machine.save_state().unwrap();
    for seed in 0..50 {
        let left = Arc::new(disk.fork_durable(seed));
        let applied = State::open(&*left, domain, Log::Internal).applied();
        let held = open(left, domain).held().count(Log::Internal);
        assert!(applied <= held, "{applied} events are in the state, {held} in the log");
    }
    // It was not forgotten.
    machine.finish_turn().unwrap();
    for seed in 0..50 {
        let left = disk.fork_durable(seed);
        assert_eq!(State::open(&left, domain, Log::Internal).applied(), 21);
    }
}
