//! Measures the state and the plans:
//! `cargo run --release -p quipu-state --example bench_state [EVENTS [DIRECTORY]]`.
#![allow(clippy::print_stdout, reason = "it prints a report")]

use std::collections::BTreeSet;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use ed25519_dalek::SigningKey;
use quipu_core::codec::v1::payload_block;
use quipu_core::event::{Draft, Event, Log, LogSeq, Position, VerifiedEvent, sign_id};
use quipu_core::history::History;
use quipu_core::id::{ArtifactId, DomainId, EventId, NodeKey};
use quipu_core::statement::{Claim, EdgeKey, EdgeRole, End, Statement};
use quipu_core::value::{self, Value};
use quipu_state::plan::{self, IndexFilter, Query};
use quipu_state::trace::{self, Direction, Walk};
use quipu_state::{State, plan::Report};
use quipu_store::{RealDisk, ScanFilter, Store, StoreOptions};

/// The allocator of the program.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

type Failure = Box<dyn std::error::Error>;

const LOG: Log = Log::Internal;
const AUTHORS: usize = 10;
const SHARDS: usize = 2;

fn main() -> Result<(), Failure> {
    let mut arguments = std::env::args().skip(1);
    let count: usize = arguments.next().map_or(Ok(1_000_000), |text| text.parse())?;
    let parent = arguments.next().unwrap_or_else(|| ".".to_owned());
    let dir = tempfile::tempdir_in(parent)?;
    let store = mixed(count, &dir.path().join("mixed"), StoreOptions::default())?;
    if std::env::args().nth(3).as_deref() == Some("replay") {
        for shards in [1, SHARDS, SHARDS, SHARDS, SHARDS, SHARDS] {
            let (start, before) = (Instant::now(), cpu()?);
            let (_replay, report) = plan::replay(&store, LOG, None, &|_| false, shards)?;
            println!("{:.2?}, of all cores {} ms", start.elapsed(), 10 * (cpu()? - before));
            print(&report);
        }
        return Ok(());
    }
    replays(&store, count)?;
    let pages = StoreOptions { block_events_max: count / 100, ..StoreOptions::default() };
    selective(&mixed(count, &dir.path().join("hundred"), pages)?)?;
    snapshots(count, &dir.path().join("keys"))?;
    traces(count, &dir.path().join("edges"))
}

/// Time that this process has used on all cores, in hundredths of a second: on a machine with other
/// work to do it says more than the clock on the wall.
fn cpu() -> Result<u64, Failure> {
    let stat = std::fs::read_to_string("/proc/self/stat")?;
    let fields = stat.rsplit(')').next().unwrap_or_default().split_whitespace();
    Ok(fields.skip(11).take(2).filter_map(|field| field.parse::<u64>().ok()).sum())
}

struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    fn below(&mut self, n: u64) -> u64 {
        self.next() % n
    }
}

/// A chain of events that several authors write in turns.
struct Chain {
    random: Random,
    keys: Vec<SigningKey>,
    tips: Vec<Option<(u64, EventId)>>,
    domain: DomainId,
    last: Option<EventId>,
    clock: u64,
}

impl Chain {
    fn new() -> Self {
        Self {
            random: Random(1),
            keys: (0..AUTHORS as u8).map(|n| SigningKey::from_bytes(&[n + 1; 32])).collect(),
            tips: vec![None; AUTHORS],
            domain: DomainId::default(),
            last: None,
            clock: LogSeq::from_ms(1_760_000_000_000).0,
        }
    }

    fn event(&mut self, kind: &Arc<str>, value: &[u8]) -> VerifiedEvent {
        let author = match self.last {
            None => 0,
            Some(_) => self.random.below(AUTHORS as u64) as usize,
        };
        self.clock += 1 + (self.random.below(2) << 16);
        let tip = self.tips[author];
        let at = Position {
            author: NodeKey(self.keys[author].verifying_key().to_bytes()),
            seq: tip.map_or(1, |tip| tip.0 + 1),
            prev: tip.map(|tip| tip.1),
            parents: self.last.into_iter().collect(),
            logseq: LogSeq(self.clock),
        };
        let salt = self.random.next().to_le_bytes();
        let draft = Draft { log: LOG, kind: kind.clone(), payload: payload_block(&salt, value) };
        let mut event: Event = draft.place(at, &self.domain);
        if self.last.is_none() {
            self.domain = event.id.into();
            event.signature = Some(sign_id(&self.keys[author], &event.id));
        }
        self.tips[author] = Some((event.header.seq, event.id));
        self.last = Some(event.id);
        VerifiedEvent::from_store(event)
    }

    fn say(&mut self, statement: &Statement) -> VerifiedEvent {
        let (kind, value) = statement.to_value();
        self.event(&kind.into(), &bytes(&value))
    }

    fn cell(&mut self, number: u64) -> VerifiedEvent {
        let value = format!("{:020}", self.random.next());
        self.event(&"field.set".into(), &cell(number, &value))
    }
}

fn bytes(value: &Value) -> Vec<u8> {
    let mut out = Vec::new();
    value::encode(value, &mut out);
    out
}

fn cell(number: u64, value: &str) -> Vec<u8> {
    bytes(&Value::map([
        ("record_id", Value::from(format!("R-{}", number / 10).as_str())),
        ("field", Value::from(format!("f{}", number % 10).as_str())),
        ("value", Value::from(value)),
    ]))
}

fn artifact(number: u64) -> ArtifactId {
    ArtifactId::of(&number.to_le_bytes())
}

fn edge(from: u64, to: u64) -> EdgeKey {
    let ends = |n| vec![End::Artifact(artifact(n))];
    EdgeKey::new(ends(from), ends(to), "derived").unwrap_or_else(|| unreachable!())
}

type Disk = RealDisk;

/// Fills a store and seals everything.
fn fill(
    path: &Path,
    options: StoreOptions,
    chain: &mut Chain,
    count: usize,
    mut next: impl FnMut(&mut Chain, usize) -> VerifiedEvent,
) -> Result<Store<Disk>, Failure> {
    let disk = Arc::new(RealDisk::new(path)?);
    let root = chain.event(&"domain.create".into(), &bytes(&Value::map([])));
    let mut store = Store::create(disk, quipu_core::event::Log::Internal, root, options)?;
    let mut done = 0;
    while done < count {
        let some = options.block_events_max.min(count - done);
        let events = (done..done + some).map(|n| next(chain, n)).collect();
        store.append(LOG, events)?;
        done += some;
        seal(&mut store)?;
    }
    Ok(store)
}

fn seal(store: &mut Store<Disk>) -> Result<(), Failure> {
    store.commit()?;
    while let Some(job) = store.seal_job() {
        store.finish_seal(job.run()?)?;
    }
    Ok(())
}

/// 40 % cells, 20 % artifacts, 30 % edges, 10 % tombstones.
fn mixed(count: usize, path: &Path, options: StoreOptions) -> Result<Store<Disk>, Failure> {
    let (cells, things) = (count as u64 / 4, (count as u64 / 5).max(1));
    let mut puts = 0;
    let mut edges: Vec<(u64, u64)> = Vec::new();
    fill(path, options, &mut Chain::new(), count, |chain, _| match chain.random.below(20) {
        0..8 => {
            let number = chain.random.below(cells.max(1));
            chain.cell(number)
        }
        8..12 => {
            puts += 1;
            let claim = Claim { key: artifact(puts), size: puts, type_tag: Some("blob".into()) };
            chain.say(&Statement::Put(claim))
        }
        12..18 => {
            let ends = (chain.random.below(things), chain.random.below(things));
            edges.push(ends);
            chain.say(&Statement::Edge(edge(ends.0, ends.1), EdgeRole::Both))
        }
        18 if !edges.is_empty() => {
            let gone = edges[chain.random.below(edges.len() as u64) as usize];
            chain.say(&Statement::TombstoneEdge(edge(gone.0, gone.1)))
        }
        _ => {
            let gone = artifact(chain.random.below(puts + 1));
            chain.say(&Statement::TombstoneArtifact(gone))
        }
    })
}

fn rate(count: usize, time: Duration) -> String {
    format!("{:.0} records/s ({time:.2?})", count as f64 / time.as_secs_f64())
}

fn print(report: &Report) {
    report.lines().iter().for_each(|line| println!("    {line}"));
}

fn replays(store: &Store<Disk>, count: usize) -> Result<(), Failure> {
    println!("replay of {count} mixed records, {} blocks", store.stats().blocks);
    for shards in [SHARDS, 1, 3, 16, SHARDS] {
        let start = Instant::now();
        let (replay, report) = plan::replay(store, LOG, None, &|_| false, shards)?;
        let time = start.elapsed();
        println!("  {shards} shards: {}, {} rows", rate(count, time), replay.rows.len());
        if shards == SHARDS {
            print(&report);
        }
    }
    let mut state = State::open(&**store.disk(), store.domain(), LOG);
    let start = Instant::now();
    state.catch_up(&**store.disk(), store, &BTreeSet::new())?;
    println!("  State::catch_up: {}, {} keys", rate(count, start.elapsed()), state.entries());
    let (replay, _) = plan::replay(store, LOG, None, &|_| false, SHARDS)?;
    assert_eq!(replay.root, state.root());
    Ok(())
}

fn selective(store: &Store<Disk>) -> Result<(), Failure> {
    println!("\nselective scans, {} blocks", store.stats().blocks);
    let middle = store.count(LOG) / 2;
    let mut one = store.event(LOG, middle)?;
    while &*one.header.kind != "artifact.put" {
        let next = store.find(LOG, &one.id)?.ok_or("no event")? + 1;
        one = store.event(LOG, next)?;
    }
    let clock = one.header.logseq;
    let subjects = one.header.payload.subject.into_iter().collect();
    let filters = [
        ("one fold key", ScanFilter { subjects, ..ScanFilter::default() }),
        ("one id", ScanFilter { ids: vec![one.id], ..ScanFilter::default() }),
        (
            "a stretch of clocks",
            ScanFilter { clocks: (clock, LogSeq(clock.0 + (1000 << 16))), ..ScanFilter::default() },
        ),
        ("a rare kind", ScanFilter { kinds: vec!["domain.".into()], ..ScanFilter::default() }),
    ];
    for (name, filter) in filters {
        let query = Query { filter, index: IndexFilter::all(), ..Query::default() };
        show(name, store, &query)?;
    }
    let last = Query { newest_first: true, limit: Some(20), ..Query::default() };
    show("the last 20", store, &last)
}

fn show(name: &str, store: &Store<Disk>, query: &Query<'_>) -> Result<(), Failure> {
    let start = Instant::now();
    let (rows, report) = plan::scan(store, LOG, query, SHARDS)?;
    let time = start.elapsed();
    let scan = report.find("SegmentScan").ok_or("no scan")?;
    let percent = 100.0 * scan.bytes_read as f64 / scan.bytes_total as f64;
    println!(
        "  {name}: {} rows, {} of {} blocks, {percent:.2} % of the bytes, {time:.2?}",
        rows.len(),
        scan.blocks_scanned,
        scan.blocks_scanned + scan.blocks_skipped,
    );
    Ok(())
}

/// What a snapshot costs on a large state.
fn snapshots(count: usize, path: &Path) -> Result<(), Failure> {
    println!("\nsnapshots of a state of {count} keys");
    let mut chain = Chain::new();
    let mut store =
        fill(path, StoreOptions::default(), &mut chain, count, |chain, n| chain.cell(n as u64))?;
    let disk = store.disk().clone();
    let mut state = State::open(&*disk, store.domain(), LOG);
    state.catch_up(&*disk, &store, &BTreeSet::new())?;
    state.save(&*disk)?;
    drop(state);
    let mut state = State::open(&*disk, store.domain(), LOG);
    let mark = state.mark();
    state.keep(EventId([1; 32]), &mark);
    for round in 2..5 {
        let cells: Vec<u64> = (0..1000).map(|_| chain.random.below(count as u64)).collect();
        store.append(LOG, cells.into_iter().map(|n| chain.cell(n)).collect())?;
        store.commit()?;
        let start = Instant::now();
        state.catch_up(&*disk, &store, &BTreeSet::new())?;
        let root = state.root();
        let mark = state.mark();
        state.keep(EventId([round; 32]), &mark);
        let time = start.elapsed();
        let start = Instant::now();
        let diff = state.diff(&EventId([round - 1; 32]), &EventId([round; 32]))?;
        let took = start.elapsed();
        println!(
            "  1000 changes and root: {time:.2?} (root {:02x}..); diff: {took:.2?}, {} keys",
            root[0],
            diff.len()
        );
    }
    Ok(())
}

/// A tree of edges in random order; each node leads to 2.4 others.
fn traces(count: usize, path: &Path) -> Result<(), Failure> {
    println!("\ntrace over {count} edges, depth 10");
    let mut chain = Chain::new();
    let mut order: Vec<u64> = (1..=count as u64).collect();
    for n in (1..order.len()).rev() {
        order.swap(n, chain.random.below(n as u64 + 1) as usize);
    }
    let store = fill(path, StoreOptions::default(), &mut chain, count, |chain, n| {
        let child = order[n];
        let edge = edge((child - 1) * 10 / 24, child);
        chain.say(&Statement::Edge(edge, EdgeRole::Both))
    })?;
    let disk = store.disk().clone();
    let mut state = State::open(&*disk, store.domain(), LOG);
    let start = Instant::now();
    state.catch_up(&*disk, &store, &BTreeSet::new())?;
    println!("  State::catch_up: {}", rate(count, start.elapsed()));
    state.save(&*disk)?;
    drop(state);
    let walk = Walk { direction: Direction::Down, depth: 10, ..Walk::default() };
    let from = End::Artifact(artifact(0));
    for _ in 0..3 {
        let start = Instant::now();
        let state = State::open(&*disk, store.domain(), LOG);
        let found = trace::walk(&state.current(), from, &walk)?;
        println!(
            "  from a state just opened: {:.2?}, {} edges",
            start.elapsed(),
            found.edges.len()
        );
    }
    let start = Instant::now();
    let (found, report) = plan::trace(&store, LOG, IndexFilter::all(), (from, &walk), SHARDS)?;
    println!("  without a state: {:.2?}, {} edges", start.elapsed(), found.edges.len());
    print(&report);
    Ok(())
}
