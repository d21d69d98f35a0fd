//! What may be named in public, by the two logs of a publisher's machine.
#![allow(missing_docs)]

use std::collections::BTreeSet;
use std::sync::Arc;

use ed25519_dalek::SigningKey;
use quipu_core::domain::Parameters;
use quipu_core::event::Log;
use quipu_core::history::History;
use quipu_core::id::{ArtifactId, DomainId, EventId};
use quipu_core::node::{Command, Input, LinkId};
use quipu_core::statement::{Claim, EdgeKey, EdgeRole, End, Statement};
use quipu_node::publication::{self, Lineage, Public};
use quipu_node::{Clock, Driver, Links};
use quipu_store::{FaultyDisk, StoreOptions};

struct Noon;

impl Clock for Noon {
    fn now_ms(&self) -> u64 {
        1_000_000
    }
}

struct Nobody;

impl Links for Nobody {
    fn send(&mut self, _link: LinkId, _bytes: Vec<u8>) {}
    fn close(&mut self, _link: LinkId, _reason: &str) {}
}

type Machine = Driver<FaultyDisk, Noon, Nobody>;

fn open(disk: Arc<FaultyDisk>, domain: DomainId, log: Log) -> Machine {
    let key = SigningKey::from_bytes(&[7; 32]);
    let options = StoreOptions::default();
    Driver::open(disk, (domain, log), key, [2; 32], Noon, Nobody, options).unwrap().0
}

/// The internal and the published log of a domain's founder.
fn founded() -> [Machine; 2] {
    let key = SigningKey::from_bytes(&[7; 32]);
    let [one, other] = [0, 1].map(|_| Arc::new(FaultyDisk::new()));
    let options = StoreOptions::default();
    let domain =
        Machine::found(one.clone(), &Parameters::default(), &key, [1; 32], 9, options).unwrap();
    let internal = open(one, domain, Log::Internal);
    let root = internal.held().event(Log::Internal, 0).unwrap();
    Machine::found_published(other.clone(), root, &key, options).unwrap();
    [internal, open(other, domain, Log::Published)]
}

fn say(machine: &mut Machine, statements: Vec<Statement>) {
    machine.input(Input::Local { request: 1, command: Command::Say(statements) }).unwrap();
    let replies = machine.finish_turn().unwrap().replies;
    assert!(replies.iter().all(|(_, reply)| reply.is_ok()) && replies.len() == 1, "{replies:?}");
    machine.catch_up().unwrap();
}

/// The lineage of a publication of one artifact.
fn lineage_of([internal, published]: &[Machine; 2], key: ArtifactId) -> Lineage {
    let view = internal.state().current();
    let told = publication::told_in(&published.state().current()).unwrap();
    let public = Public::of(&view, &[key], &told, BTreeSet::new()).unwrap();
    let edges = publication::edges_above(&view, &[key]).unwrap();
    publication::blind(&edges, &public, &mut |_| None, &mut || [5; 32])
}

#[test]
fn lineage_names_only_what_the_published_log_here_tells_of() {
    let mut logs = founded();
    let [one, other] = [1, 2].map(|n| ArtifactId([n; 32]));
    let put = |key| Statement::Put(Claim { key, size: 1, type_tag: None });
    let edge = EdgeKey::new(vec![End::Artifact(one)], vec![End::Artifact(other)], "derived");
    let edge = edge.unwrap();
    // Another publisher recorded that it published the first one.
    let record = Statement::Publish { key: one, snapshot: EventId([9; 32]) };
    let said = vec![put(one), put(other), Statement::Edge(edge.clone(), EdgeRole::Both), record];
    say(&mut logs[0], said);
    logs[1].catch_up().unwrap();

    // Its published log has not come here: a snapshot would name what it does not have (DOM-6).
    let lineage = lineage_of(&logs, other);
    assert_eq!(lineage.edges.len(), 1);
    assert!(matches!(lineage.edges[0].0.from[..], [End::Blinded(_)]), "{:?}", lineage.edges);
    assert_eq!(lineage.edges[0].0.to, [End::Artifact(other)]);
    assert_eq!(lineage.openings.len(), 1);
    assert_eq!(lineage.openings[0].end, End::Artifact(one));

    say(&mut logs[1], vec![put(one)]);
    let lineage = lineage_of(&logs, other);
    assert_eq!(lineage.edges, [(edge, EdgeRole::Both)]);
    assert!(lineage.openings.is_empty());
}
