//! How fast the rules are, on one core: packing, unpacking, proving authors, inserting.
//!
//! ```text
//! cargo run --release -p quipu-core --example bench_core [EVENTS]
//! ```
#![allow(clippy::print_stdout, clippy::disallowed_types, clippy::disallowed_methods)]

use std::convert::Infallible;
use std::ops::Range;
use std::time::Instant;

use ed25519_dalek::SigningKey;
use quipu_core::codec::pack::{self, Context, Nothing};
use quipu_core::codec::v1;
use quipu_core::dag::{Dag, Step};
use quipu_core::domain::{Decision, Parameters, Role, block_of};
use quipu_core::event::{
    Draft, Event, Log, LogSeq, Position, VerifiedEvent, is_signature_place, sign_id, sign_own,
};
use quipu_core::history::{History, Ordinal, Outline, Place};
use quipu_core::id::{DomainId, EventId, IdMap, NodeKey};
use quipu_core::sync::unsigned::Unsigned;
use quipu_core::value::{self, Value};

/// Events of one frame.
const FRAME: usize = 2048;
/// Authors that write side by side, and how much each writes before it merges the others.
const GROUP: usize = 10;
const RUN: usize = 10;

#[derive(Default)]
struct Memory {
    events: Vec<Event>,
    ids: IdMap<EventId, Ordinal>,
    feeds: IdMap<NodeKey, Vec<Ordinal>>,
}

impl Memory {
    fn append(&mut self, event: Event) {
        let ordinal = self.events.len() as Ordinal;
        self.ids.insert(event.id, ordinal);
        self.feeds.entry(event.header.author).or_default().push(ordinal);
        self.events.push(event);
    }
}

impl History for Memory {
    type Error = Infallible;
    fn count(&self, _log: Log) -> u64 {
        self.events.len() as u64
    }
    fn find(&self, _log: Log, id: &EventId) -> Result<Option<Ordinal>, Infallible> {
        Ok(self.ids.get(id).copied())
    }
    fn place(&self, _log: Log, ordinal: Ordinal) -> Result<Place, Infallible> {
        let event = &self.events[ordinal as usize];
        Ok(Place { id: event.id, head: event.header.head.clone() })
    }
    fn events(&self, _log: Log, range: Range<Ordinal>) -> Result<Vec<Event>, Infallible> {
        Ok(self.events[range.start as usize..range.end as usize].to_vec())
    }
    fn event(&self, _log: Log, ordinal: Ordinal) -> Result<Event, Infallible> {
        Ok(self.events[ordinal as usize].clone())
    }
    fn feed(
        &self,
        _log: Log,
        author: &NodeKey,
        seqs: Range<u64>,
    ) -> Result<Vec<(u64, Ordinal)>, Infallible> {
        let feed = self.feeds.get(author).map_or(&[][..], |feed| feed);
        let start = (seqs.start.max(1) - 1).min(feed.len() as u64) as usize;
        let end = (seqs.end.max(1) - 1).min(feed.len() as u64) as usize;
        Ok((start as u64 + 1..).zip(feed[start..end.max(start)].iter().copied()).collect())
    }
    fn proof(&self, _log: Log, _end: &EventId) -> Result<Option<Vec<Event>>, Infallible> {
        Ok(None)
    }

    fn outline(&self, _log: Log) -> Result<Outline, Infallible> {
        Ok(Outline::default())
    }
}

/// A writer of the workload.
struct Author {
    key: SigningKey,
    id: NodeKey,
    last: Option<(u64, EventId)>,
}

struct Workload {
    domain: DomainId,
    events: Vec<Event>,
    clock: LogSeq,
    leaves: Vec<EventId>,
}

impl Workload {
    fn write(&mut self, by: &mut Author, draft: Draft, parents: &[EventId]) -> EventId {
        self.clock = LogSeq(self.clock.0 + 40_000);
        let (seq, prev) = by.last.map_or((1, None), |(seq, id)| (seq + 1, Some(id)));
        let mut parents = parents.to_vec();
        parents.sort_unstable();
        parents.dedup();
        let parents = parents.into_iter().collect();
        let at = Position { author: by.id, seq, prev, parents, logseq: self.clock };
        let mut event = draft.place(at, &self.domain);
        if is_signature_place(seq) {
            event.signature = Some(sign_id(&by.key, &event.id));
        }
        let id = event.id;
        by.last = Some((seq, id));
        self.events.push(event);
        id
    }

    fn grow(authors: usize, events: usize) -> (Event, Vec<Event>) {
        let mut people: Vec<Author> = (0..=authors as u64)
            .map(|n| {
                let key = SigningKey::from_bytes(blake3::hash(&n.to_le_bytes()).as_bytes());
                let id = NodeKey(key.verifying_key().to_bytes());
                Author { key, id, last: None }
            })
            .collect();
        let parameters = Parameters { name: "bench".into(), ..Parameters::default() };
        let clock = LogSeq::from_ms(1_760_000_000_000);
        let root = parameters.root(people[0].id, clock, &[1; 8]);
        let root = sign_own(vec![root], &people[0].key).remove(0).into_event();
        people[0].last = Some((1, root.id));
        let domain = root.id.into();
        let mut w = Self { domain, events: Vec::new(), clock, leaves: vec![root.id] };
        w.admit(&mut people);
        let mut cell = 0u64;
        let mut group = 0;
        while w.events.len() < events {
            let leaves = std::mem::take(&mut w.leaves);
            let size = GROUP.min(authors);
            let who: Vec<usize> = (0..size).map(|i| 1 + (group * size + i) % authors).collect();
            group += 1;
            for n in 0..RUN {
                for author in &who {
                    let draft = field(cell, events as u64);
                    cell += 1;
                    let author = &mut people[*author];
                    let own = author.last.map(|(_, id)| id);
                    let parents = if n == 0 { leaves.clone() } else { own.into_iter().collect() };
                    let id = w.write(author, draft, &parents);
                    if n + 1 == RUN {
                        w.leaves.push(id);
                    }
                }
            }
        }
        w.sign_ends(&people);
        (root, w.events)
    }

    fn admit(&mut self, people: &mut [Author]) {
        let ids: Vec<NodeKey> = people.iter().skip(1).map(|author| author.id).collect();
        for node in ids {
            let decision = Decision::Add { node, role: Role::Writer, invite: None };
            let (kind, value) = decision.to_value(Log::Internal);
            let payload = block_of(&value, &[2; 8]);
            let draft = Draft { log: Log::Internal, kind: kind.into(), payload };
            let leaves = std::mem::take(&mut self.leaves);
            let id = self.write(&mut people[0], draft, &leaves);
            self.leaves = vec![id];
        }
    }

    fn sign_ends(&mut self, people: &[Author]) {
        let ends: IdMap<EventId, &SigningKey> =
            people.iter().filter_map(|a| a.last.map(|(_, id)| (id, &a.key))).collect();
        for event in &mut self.events {
            if let Some(key) = ends.get(&event.id) {
                event.signature = Some(sign_id(key, &event.id));
            }
        }
    }
}

/// One put of workload W: N/10 cells of ten puts each.
fn field(n: u64, events: u64) -> Draft {
    let cell = n % (events / 10).max(1);
    let (record, field) = (format!("R-{}", cell / 10), format!("f{}", cell % 10));
    let text = format!("{:020}", n * 7919);
    let value = if n.is_multiple_of(2) { Value::from(n * 31) } else { Value::from(text.as_str()) };
    let map = Value::map([
        ("record_id", record.as_str().into()),
        ("field", field.as_str().into()),
        ("value", value),
    ]);
    let mut bytes = Vec::new();
    value::encode(&map, &mut bytes);
    let salt = n.wrapping_mul(0x9e37_79b9_7f4a_7c15).to_le_bytes();
    Draft {
        log: Log::Internal,
        kind: "field.set".into(),
        payload: v1::payload_block(&salt, &bytes),
    }
}

/// Times a step and prints its rate.
fn timed<T>(what: &str, events: usize, step: impl FnOnce() -> T) -> (T, f64) {
    let start = Instant::now();
    let result = step();
    let seconds = start.elapsed().as_secs_f64();
    println!("  {what:<22} {:>9.0} events/s", events as f64 / seconds);
    (result, seconds)
}

fn founded(root: Event) -> (Dag, Memory) {
    let mut dag = Dag::new(&root, Log::Internal).expect("a root");
    dag.found(&VerifiedEvent::from_store(root.clone()));
    let mut memory = Memory::default();
    memory.append(root);
    dag.flushed();
    (dag, memory)
}

/// All steps for one frame after the other, as a machine does it. What it stores stays in memory.
fn by_frame(root: &Event, frames: &[Vec<u8>], count: usize) {
    let domain = DomainId::from(root.id);
    let (mut dag, mut memory) = founded(root.clone());
    let mut unsigned = Unsigned::default();
    let mut context = Context::reader();
    timed("all, frame by frame", count, || {
        let mut staged: Vec<VerifiedEvent> = Vec::new();
        for frame in frames {
            for event in pack::decode(frame, &mut context, &Nothing, &domain).expect("own frames") {
                unsigned.push(event).expect("signed");
            }
            while let Some(event) = unsigned.pop() {
                loop {
                    match dag.insert(&event, &memory).expect("memory") {
                        Step::Applied(_) => break staged.push(event),
                        Step::Flush => {
                            staged.drain(..).for_each(|event| memory.append(event.into_event()));
                            dag.flushed();
                        }
                        other => panic!("{other:?}"),
                    }
                }
            }
            staged.drain(..).for_each(|event| memory.append(event.into_event()));
            dag.flushed();
        }
    });
    assert_eq!(memory.events.len(), count + 1);
}

fn bench(authors: usize, events: usize) {
    let (root, events) = Workload::grow(authors, events);
    let count = events.len();
    let domain = DomainId::from(root.id);
    println!("{count} events, {authors} authors");
    let (frames, _) = timed("pack::encode", count, || {
        let mut context = Context::writer();
        let encode = |chunk| pack::encode(chunk, &mut context, &Nothing);
        events.chunks(FRAME).map(encode).collect::<Vec<_>>()
    });
    let bytes: usize = frames.iter().map(Vec::len).sum();
    println!("  {:<22} {:>9.1}", "bytes/event", bytes as f64 / count as f64);
    drop(events);
    let (decoded, unpack) = timed("pack::decode", count, || {
        let mut context = Context::reader();
        let mut decode = |frame: &Vec<u8>| pack::decode(frame, &mut context, &Nothing, &domain);
        frames.iter().flat_map(|frame| decode(frame).expect("own frames")).collect::<Vec<_>>()
    });
    let (proven, verify) = timed("verify", count, || {
        let mut unsigned = Unsigned::default();
        let mut proven = Vec::with_capacity(count);
        for event in decoded {
            unsigned.push(event).expect("signed");
            proven.extend(std::iter::from_fn(|| unsigned.pop()));
        }
        proven
    });
    assert_eq!(proven.len(), count);
    let copy = root.clone();
    let (mut dag, mut memory) = founded(root);
    let mut storing = 0.0;
    let ((), total) = timed("insert with storing", count, || {
        let mut staged: Vec<VerifiedEvent> = Vec::new();
        let mut flush = |staged: &mut Vec<VerifiedEvent>, dag: &mut Dag, memory: &mut Memory| {
            let start = Instant::now();
            staged.drain(..).for_each(|event| memory.append(event.into_event()));
            dag.flushed();
            storing += start.elapsed().as_secs_f64();
        };
        for event in proven {
            loop {
                match dag.insert(&event, &memory).expect("memory") {
                    Step::Applied(_) => break staged.push(event),
                    Step::Flush => flush(&mut staged, &mut dag, &mut memory),
                    other => panic!("{other:?}"),
                }
            }
            if staged.len() == FRAME {
                flush(&mut staged, &mut dag, &mut memory);
            }
        }
        flush(&mut staged, &mut dag, &mut memory);
    });
    drop((dag, memory));
    by_frame(&copy, &frames, count);
    let insert = total - storing;
    println!("  {:<22} {:>9.0} events/s", "dag.insert", count as f64 / insert);
    let all = unpack + verify + insert;
    println!("  {:<22} {:>9.0} events/s", "unpack+verify+insert", count as f64 / all);
}

fn main() {
    let events = std::env::args().nth(1).and_then(|n| n.parse().ok()).unwrap_or(200_000);
    for authors in [10, 1_000] {
        bench(authors, events);
    }
}
