//! Random histories of statements.
#![allow(dead_code, missing_docs, unreachable_pub, reason = "shared by several test programs")]

use std::collections::BTreeSet;
use std::sync::Arc;

use ed25519_dalek::SigningKey;
use quipu_core::codec::v1::payload_block;
use quipu_core::event::{Draft, Event, Log, LogSeq, Position, VerifiedEvent};
use quipu_core::execution::{Announcement, Execution, Offer, RunRequest, Scope};
use quipu_core::id::{ArtifactId, DomainId, EventId, NodeKey, RunKey, Subject};
use quipu_core::statement::{Claim, EdgeKey, EdgeRole, End, Statement};
use quipu_core::subject::subject_of;
use quipu_core::value::{self, Value};
use quipu_store::{FaultyDisk, Store, StoreOptions};

pub const LOG: Log = Log::Internal;

/// SplitMix64.
#[derive(Clone)]
pub struct Random(pub u64);

impl Random {
    pub fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }
    pub fn below(&mut self, n: u64) -> u64 {
        self.next() % n
    }
}

pub fn bytes(value: &Value) -> Vec<u8> {
    let mut out = Vec::new();
    value::encode(value, &mut out);
    out
}

pub fn artifact(n: u64) -> ArtifactId {
    ArtifactId::of(&n.to_le_bytes())
}

pub fn claim(random: &mut Random) -> Claim {
    let tags = [None, Some("a"), Some("b")];
    Claim {
        key: artifact(random.below(5)),
        size: 10 + random.below(2),
        type_tag: tags[random.below(3) as usize].map(str::to_owned),
    }
}

pub fn end(random: &mut Random) -> End {
    match random.below(4) {
        0 => End::Node(NodeKey([random.below(3) as u8; 32])),
        _ => End::Artifact(artifact(random.below(6))),
    }
}

pub fn edge(random: &mut Random) -> EdgeKey {
    let mut ends = || (0..1 + random.below(2)).map(|_| end(random)).collect::<Vec<_>>();
    let (from, to) = (ends(), ends());
    EdgeKey::new(from, to, ["derived", "seen"][random.below(2) as usize]).unwrap()
}

fn subject_of_claim(claim: &Claim) -> Subject {
    let (kind, value) = Statement::Put(claim.clone()).to_value();
    subject_of(kind, &bytes(&value)).unwrap()
}

/// A key that signs histories.
pub fn author(n: u8) -> NodeKey {
    NodeKey(SigningKey::from_bytes(&[n; 32]).verifying_key().to_bytes())
}

/// Something about programs, often in the name of somebody else.
pub fn execution(random: &mut Random) -> Execution {
    let run = RunKey([random.below(3) as u8; 32]);
    let node = author(1 + random.below(4) as u8);
    match random.below(6) {
        0..3 => Execution::Announce(Announcement {
            run,
            receipt: artifact(random.below(3)),
            size: random.below(1_000),
            node,
            snapshot: None,
            scope: [Scope::Run, Scope::Step, Scope::Assembled][random.below(3) as usize],
        }),
        3 => {
            let (program, inputs) = (artifact(9), [("a".to_owned(), artifact(1))].into());
            Execution::Request(RunRequest {
                run,
                program,
                inputs,
                node,
                snapshot: None,
                required: 1,
            })
        }
        4 => Execution::Claim { step: run, node, failed: None },
        _ => Execution::Offer(Offer { node, memory: random.below(10), labels: Vec::new() }),
    }
}

/// Something to say: kind and value.
pub fn saying(random: &mut Random, earlier: &[EventId]) -> (&'static str, Vec<u8>) {
    let statement = match random.below(22) {
        0..5 => Statement::Put(claim(random)),
        5..7 => Statement::TombstoneArtifact(claim(random).key),
        7 => Statement::Pin { key: claim(random).key, held: random.below(2) == 0 },
        8..12 => Statement::Edge(edge(random), EdgeRole::ALL[random.below(3) as usize]),
        12 => Statement::TombstoneEdge(edge(random)),
        13..15 => {
            let seen = (0..random.below(9)).map(|_| subject_of_claim(&claim(random)));
            Statement::Resolve { seen: seen.collect(), keep: claim(random) }
        }
        15 => Statement::DropSnapshot(earlier[random.below(earlier.len() as u64) as usize]),
        16 => return ("note", bytes(&"hello".into())),
        17 => {
            // It has a fold key, but says nothing.
            let key = Value::from(claim(random).key);
            let size = Value::from(u64::MAX >> random.below(2));
            return ("artifact.put", bytes(&Value::map([("key", key), ("size", size)])));
        }
        18 | 19 => Statement::Execution(execution(random)),
        _ => {
            let cell = Value::map([
                ("record_id", Value::from(["R1", "R2"][random.below(2) as usize])),
                ("field", Value::from(["x", "y", "z"][random.below(3) as usize])),
                ("value", Value::from(random.below(100))),
            ]);
            return ("field.set", bytes(&cell));
        }
    };
    let (kind, value) = statement.to_value();
    (kind, bytes(&value))
}

/// A random history of several authors who often do not know of each other's last events.
pub fn history(seed: u64, count: usize) -> Vec<VerifiedEvent> {
    let mut random = Random(seed);
    let authors: Vec<NodeKey> = (1..5).map(author).collect();
    let mut domain = DomainId::default();
    let mut feeds: Vec<Option<Event>> = vec![None; authors.len()];
    let mut all: Vec<Event> = Vec::new();
    let mut ids: Vec<EventId> = Vec::new();
    for n in 0..count {
        let author = if n == 0 { 0 } else { random.below(authors.len() as u64) as usize };
        let (kind, value) = match n {
            0 => ("domain.create", bytes(&Value::map([]))),
            _ => saying(&mut random, &ids),
        };
        let mut links: Vec<&Event> = feeds[author].iter().collect();
        if n > 0 && (links.is_empty() || random.below(3) == 0) {
            links.push(&all[random.below(n as u64) as usize]);
        }
        let parents: BTreeSet<EventId> = links.iter().map(|event| event.id).collect();
        let after = links.iter().map(|event| event.header.logseq.0).max().unwrap_or(1 << 32);
        // Clocks of different authors often collide, so that ids decide.
        let logseq = LogSeq(after + 1 + random.below(3));
        let prev = feeds[author].as_ref().map(|event| (event.header.seq, event.id));
        let at = Position {
            author: authors[author],
            seq: prev.map_or(1, |prev| prev.0 + 1),
            prev: prev.map(|prev| prev.1),
            parents: parents.into_iter().collect(),
            logseq,
        };
        let payload = payload_block(&random.next().to_le_bytes(), &value);
        let event = Draft { log: LOG, kind: Arc::from(kind), payload }.place(at, &domain);
        if n == 0 {
            domain = event.id.into();
        }
        ids.push(event.id);
        feeds[author] = Some(event.clone());
        all.push(event);
    }
    all.into_iter().map(VerifiedEvent::from_store).collect()
}

/// Another order in which they may arrive.
pub fn shuffled(events: &[VerifiedEvent], random: &mut Random) -> Vec<VerifiedEvent> {
    let mut waiting: Vec<&VerifiedEvent> = events.iter().collect();
    let mut held: BTreeSet<EventId> = BTreeSet::new();
    let mut out = Vec::new();
    while !waiting.is_empty() {
        let ready: Vec<usize> = (0..waiting.len())
            .filter(|n| waiting[*n].header.links().all(|link| held.contains(link)))
            .collect();
        let event = waiting.remove(ready[random.below(ready.len() as u64) as usize]);
        held.insert(event.id);
        out.push(event.clone());
    }
    out
}

/// A store with small blocks that holds events in that order; the last are in memory.
pub fn store(events: &[VerifiedEvent], block_events_max: usize) -> Store<FaultyDisk> {
    let options = StoreOptions { block_events_max, page_events: 4, ..StoreOptions::default() };
    let disk = Arc::new(FaultyDisk::new());
    let mut store =
        Store::create(disk, quipu_core::event::Log::Internal, events[0].clone(), options).unwrap();
    let chunks = events[1..].chunks(block_events_max / 2 + 1);
    let last = chunks.len().saturating_sub(2);
    for (n, chunk) in chunks.enumerate() {
        store.append(LOG, chunk.to_vec()).unwrap();
        store.commit().unwrap();
        while n < last
            && let Some(job) = store.seal_job()
        {
            store.finish_seal(job.run().unwrap()).unwrap();
        }
    }
    store
}

/// One author's history: after the root event these statements, one after the other.
pub fn said(statements: &[Statement]) -> Vec<VerifiedEvent> {
    let author = author(1);
    let root = ("domain.create", bytes(&Value::map([])));
    let rest = statements.iter().map(Statement::to_value);
    let rest = rest.map(|(kind, value)| (kind, bytes(&value)));
    let mut domain = DomainId::default();
    let mut all: Vec<Event> = Vec::new();
    for (n, (kind, value)) in std::iter::once(root).chain(rest).enumerate() {
        let prev = all.last().map(|event| event.id);
        let at = Position {
            author,
            seq: n as u64 + 1,
            prev,
            parents: prev.into_iter().collect(),
            logseq: LogSeq(1000 + n as u64),
        };
        let draft = Draft { log: LOG, kind: kind.into(), payload: payload_block(&[1; 8], &value) };
        let event = draft.place(at, &domain);
        if n == 0 {
            domain = event.id.into();
        }
        all.push(event);
    }
    all.into_iter().map(VerifiedEvent::from_store).collect()
}
