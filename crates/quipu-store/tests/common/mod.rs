//! Random valid histories, and a model to compare a store with.
#![allow(dead_code, missing_docs, unreachable_pub, reason = "shared by several test programs")]

use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::Arc;

use ed25519_dalek::SigningKey;
use quipu_core::codec::v1::payload_block;
use quipu_core::event::{Draft, Event, Log, LogSeq, Position, VerifiedEvent, sign_own};
use quipu_core::history::{FeedEnd, History, Outline, Place};
use quipu_core::id::{DomainId, EventId, NodeKey};
use quipu_core::kind::is_structural;
use quipu_store::{Disk, Store, StoreOptions};

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
    pub fn bytes<const N: usize>(&mut self) -> [u8; N] {
        std::array::from_fn(|_| self.next() as u8)
    }
}

fn text(out: &mut Vec<u8>, text: &str) {
    assert!(text.len() < 24);
    out.push(0x60 + text.len() as u8);
    out.extend_from_slice(text.as_bytes());
}

/// The payload of workload W.
pub fn field_value(random: &mut Random, cells: u64) -> Vec<u8> {
    let cell = random.below(cells.max(1));
    let mut out = vec![0xa3];
    text(&mut out, "field");
    text(&mut out, &format!("f{}", cell % 10));
    text(&mut out, "value");
    if random.below(2) == 0 {
        out.push(0x1a);
        out.extend_from_slice(&((1 << 30) + random.below(1 << 20) as u32).to_be_bytes());
    } else {
        let hex = format!("{:016x}{:04x}", random.next(), random.below(1 << 16));
        text(&mut out, &hex);
    }
    text(&mut out, "record_id");
    text(&mut out, &format!("R-{}", cell / 10));
    out
}

/// A value of incompressible bytes.
pub fn noise_value(random: &mut Random, length: usize) -> Vec<u8> {
    let mut out = vec![0x59];
    out.extend_from_slice(&(length as u16).to_be_bytes());
    out.extend((0..length).map(|_| random.next() as u8));
    assert!(length > 255);
    out
}

struct Tip {
    seq: u64,
    id: EventId,
    logseq: LogSeq,
}

/// Writes a valid history.
pub struct Maker {
    pub random: Random,
    pub domain: DomainId,
    keys: Vec<SigningKey>,
    feeds: Vec<Vec<Tip>>,
    leaves: BTreeMap<EventId, LogSeq>,
    pub fork_one_in: u64,
    pub parents_max: usize,
    pub cells: u64,
}

pub fn key(n: u64) -> SigningKey {
    let mut bytes = [9; 32];
    bytes[..8].copy_from_slice(&n.to_le_bytes());
    SigningKey::from_bytes(&bytes)
}

impl Maker {
    /// A maker for so many authors, and the root event.
    pub fn new(seed: u64, authors: u64) -> (Self, VerifiedEvent) {
        let mut random = Random(seed);
        let keys: Vec<_> = (0..authors).map(key).collect();
        let payload = payload_block(&random.bytes::<8>(), &field_value(&mut random, 10));
        let at = Position {
            author: NodeKey(keys[0].verifying_key().to_bytes()),
            seq: 1,
            prev: None,
            parents: Default::default(),
            logseq: LogSeq::from_ms(1_700_000_000_000),
        };
        let draft = Draft { log: Log::Internal, kind: "domain.create".into(), payload };
        let root = draft.place(at, &DomainId::default());
        let root = sign_own(vec![root], &keys[0]).remove(0);
        let mut feeds: Vec<Vec<Tip>> = keys.iter().map(|_| Vec::new()).collect();
        feeds[0].push(Tip { seq: 1, id: root.id, logseq: root.header.logseq });
        let maker = Self {
            random,
            domain: root.id.into(),
            keys,
            feeds,
            leaves: BTreeMap::from([(root.id, root.header.logseq)]),
            fork_one_in: 20,
            parents_max: 4,
            cells: 1000,
        };
        (maker, root)
    }

    /// The next run of one author, in one piece.
    pub fn run(&mut self, length: u64) -> Vec<VerifiedEvent> {
        let author = self.random.below(self.keys.len() as u64) as usize;
        self.run_of(author, length)
    }

    pub fn run_of(&mut self, author: usize, length: u64) -> Vec<VerifiedEvent> {
        let mut events: Vec<Event> = Vec::new();
        if !self.feeds[author].is_empty() && self.random.below(self.fork_one_in) == 0 {
            let keep = 1 + self.random.below(self.feeds[author].len() as u64) as usize;
            self.feeds[author].truncate(keep);
        }
        for _ in 0..length {
            events.push(self.event(author));
        }
        sign_own(events, &self.keys[author])
    }

    fn event(&mut self, author: usize) -> Event {
        let prev = self.feeds[author].last().map(|tip| (tip.seq, tip.id, tip.logseq));
        let cap = 1 + self.random.below(self.parents_max as u64) as usize;
        let mut chosen: Vec<(EventId, LogSeq)> =
            self.leaves.iter().map(|(id, logseq)| (*id, *logseq)).collect();
        while chosen.len() > cap {
            let gone = self.random.below(chosen.len() as u64) as usize;
            chosen.remove(gone);
        }
        let greatest = chosen.iter().map(|c| c.1).chain(prev.map(|p| p.2)).max().unwrap();
        let logseq = LogSeq(greatest.0 + 1 + (self.random.below(3) << 16) * self.random.below(2));
        let kinds = ["field.set", "field.set", "field.set", "note", "member.add", "merge"];
        let kind = kinds[self.random.below(6) as usize];
        let value = match self.random.below(30) {
            0 => {
                let length = 256 + self.random.below(3000) as usize;
                noise_value(&mut self.random, length)
            }
            _ => field_value(&mut self.random, self.cells),
        };
        let payload = payload_block(&self.random.bytes::<8>(), &value);
        let position = Position {
            author: NodeKey(self.keys[author].verifying_key().to_bytes()),
            seq: prev.map_or(1, |p| p.0 + 1),
            prev: prev.map(|p| p.1),
            parents: chosen.iter().map(|c| c.0).collect(),
            logseq,
        };
        let draft = Draft { log: Log::Internal, kind: Arc::from(kind), payload };
        let event = draft.place(position, &self.domain);
        event.header.links().for_each(|link| _ = self.leaves.remove(link));
        self.leaves.insert(event.id, logseq);
        self.feeds[author].push(Tip { seq: event.header.seq, id: event.id, logseq });
        event
    }
}

/// What a log must answer, computed in the plainest way.
#[derive(Clone, Default)]
pub struct Model {
    pub events: Vec<Event>,
}

impl Model {
    pub fn outline(&self) -> Outline {
        let mut ends: BTreeMap<EventId, FeedEnd> = BTreeMap::new();
        let mut leaves = BTreeMap::new();
        let mut structural = Vec::new();
        for (ordinal, event) in self.events.iter().enumerate() {
            if let Some(prev) = &event.header.prev {
                ends.remove(prev);
            }
            let (author, seq, logseq) =
                (event.header.author, event.header.seq, event.header.logseq);
            let end = FeedEnd { author, seq, id: event.id, logseq, ordinal: ordinal as u64 };
            ends.insert(event.id, end);
            event.header.links().for_each(|link| _ = leaves.remove(link));
            leaves.insert(event.id, logseq);
            if is_structural(&event.header.kind) {
                structural.push(ordinal as u64);
            }
        }
        // A fork names as prev what a sibling named before, in any order: look again.
        for event in &self.events {
            event.header.prev.iter().for_each(|prev| _ = ends.remove(prev));
            event.header.links().for_each(|link| _ = leaves.remove(link));
        }
        let mut feed_ends: Vec<_> = ends.into_values().collect();
        feed_ends.sort();
        Outline { feed_ends, leaves: leaves.into_iter().collect(), structural }
    }

    pub fn feed(&self, author: &NodeKey, seqs: Range<u64>) -> Vec<(u64, u64)> {
        let mine = self.events.iter().enumerate();
        let mine = mine.filter(|(_, e)| e.header.author == *author && seqs.contains(&e.header.seq));
        mine.map(|(ordinal, e)| (e.header.seq, ordinal as u64)).collect()
    }

    /// Compares everything the store answers for the internal log.
    pub fn check<D: Disk>(&self, store: &Store<D>, random: &mut Random) {
        let log = Log::Internal;
        assert_eq!(store.count(log), self.events.len() as u64);
        let mut next = 0;
        while next < self.events.len() {
            let got = store.events(log, next as u64..self.events.len() as u64).unwrap();
            assert!(!got.is_empty());
            for event in got {
                same(&event, &self.events[next]);
                next += 1;
            }
        }
        for (ordinal, event) in self.events.iter().enumerate() {
            assert_eq!(store.find(log, &event.id).unwrap(), Some(ordinal as u64));
        }
        for _ in 0..20 {
            assert_eq!(store.find(log, &EventId(random.bytes())).unwrap(), None);
            let ordinal = random.below(self.events.len() as u64);
            let event = &self.events[ordinal as usize];
            let place = Place { id: event.id, head: event.header.head.clone() };
            assert_eq!(store.place(log, ordinal).unwrap(), place);
            same(&store.event(log, ordinal).unwrap(), event);
            let to = ordinal + random.below(self.events.len() as u64 - ordinal + 1);
            let places = store.places(log, ordinal..to).unwrap();
            let expected = &self.events[ordinal as usize..to as usize];
            assert!(places.iter().map(|p| p.id).eq(expected.iter().map(|e| e.id)));
            let from = random.below(20);
            let seqs = from..from + random.below(40);
            let author = event.header.author;
            assert_eq!(store.feed(log, &author, seqs.clone()).unwrap(), self.feed(&author, seqs));
        }
        assert_eq!(store.outline(log).unwrap(), self.outline());
        assert!(store.event(log, self.events.len() as u64).is_err());
    }
}

/// Equal but for signatures, which sealing thins out.
pub fn same(got: &Event, expected: &Event) {
    assert_eq!(got.id, expected.id);
    assert_eq!(got.header, expected.header);
    assert_eq!(got.payload, expected.payload);
    assert!(got.signature.is_none() || got.signature == expected.signature);
}

/// Options that make several small blocks out of little data.
pub fn small() -> StoreOptions {
    StoreOptions {
        block_events_max: 50,
        block_bytes_max: 20_000,
        page_events: 16,
        cache_bytes: 30_000,
    }
}

/// Seals all that can be sealed.
pub fn seal_all<D: Disk>(store: &mut Store<D>) {
    while let Some(job) = store.seal_job() {
        let sealed = job.run().unwrap();
        store.finish_seal(sealed).unwrap();
    }
}
