//! Measures the store, beside what the disk can do at most:
//! `cargo run --release -p quipu-store --example bench_store [EVENTS [DIRECTORY]]`.
#![allow(clippy::print_stdout, reason = "it prints a report")]

use std::fs::File;
use std::io::Write;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use ed25519_dalek::SigningKey;
use quipu_core::codec::v1::payload_block;
use quipu_core::event::{Draft, Event, Log, LogSeq, Position, VerifiedEvent, sign_id};
use quipu_core::history::History;
use quipu_core::id::{DomainId, EventId, NodeKey};
use quipu_store::{Disk, FaultyDisk, RealDisk, Store, StoreOptions};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut arguments = std::env::args().skip(1);
    if std::env::args().nth(1).as_deref() == Some("read") {
        let (path, domain) = (arguments.nth(1), arguments.next());
        return read(&path.ok_or("which directory?")?, domain.ok_or("which domain?")?.parse()?);
    }
    let count: usize = arguments.next().map_or(Ok(1_000_000), |text| text.parse())?;
    let parent = arguments.next().unwrap_or_else(|| ".".to_owned());
    let dir = tempfile::tempdir_in(parent)?;
    plain_append(&dir.path().join("plain"))?;
    println!("\n{count} events of workload W in each run");
    for (authors, run) in [(10, 1), (10, 64), (1000, 1), (10_000, 1)] {
        let history = make_history(count, authors, run);
        println!("\n{authors} authors, who take turns after {run} events");
        let path = dir.path().join(format!("{authors}-{run}"));
        if (authors, run) == (10, 1) {
            groups(&history, &dir.path().join("groups"))?;
        }
        store_and_read(history, &path)?;
        std::fs::remove_dir_all(&path)?;
    }
    Ok(())
}

fn rate(count: usize, time: Duration) -> String {
    format!("{:.0} k/s", count as f64 / time.as_secs_f64() / 1e3)
}

/// The limit: what the disk does with plain records.
fn plain_append(path: &Path) -> std::io::Result<()> {
    let record = [7u8; 300];
    let mut file = File::create(path)?;
    let start = Instant::now();
    for _ in 0..100 {
        let group = record.repeat(10_000);
        file.write_all(&group)?;
        file.sync_data()?;
    }
    let time = start.elapsed();
    println!("plain append+fsync, 300 B records in groups of 10,000: {}", rate(1_000_000, time));
    let start = Instant::now();
    for _ in 0..200 {
        file.write_all(&record)?;
        file.sync_data()?;
    }
    println!("one record and one fsync: {:?}", start.elapsed() / 200);
    Ok(())
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
}

fn text(out: &mut Vec<u8>, text: &str) {
    out.push(0x60 + text.len() as u8);
    out.extend_from_slice(text.as_bytes());
}

/// A put of workload W: `{"record_id":"R-<k>","field":"f<j>","value":<int or 20 characters>}`.
fn value(random: &mut Random, cells: u64) -> Vec<u8> {
    let cell = random.next() % cells;
    let mut out = vec![0xa3];
    text(&mut out, "field");
    text(&mut out, &format!("f{}", cell % 10));
    text(&mut out, "value");
    if random.next().is_multiple_of(2) {
        out.push(0x1a);
        out.extend_from_slice(&(random.next() as u32 | 1 << 20).to_be_bytes());
    } else {
        text(&mut out, &format!("{:016x}{:04x}", random.next(), random.next() as u16));
    }
    text(&mut out, "record_id");
    text(&mut out, &format!("R-{}", cell / 10));
    out
}

fn make_history(count: usize, authors: usize, run: usize) -> Vec<VerifiedEvent> {
    let mut random = Random(1);
    let keys: Vec<SigningKey> = (0..authors)
        .map(|n| {
            let mut seed = [3; 32];
            seed[..8].copy_from_slice(&n.to_le_bytes());
            SigningKey::from_bytes(&seed)
        })
        .collect();
    let nodes: Vec<_> = keys.iter().map(|key| NodeKey(key.verifying_key().to_bytes())).collect();
    let mut tips: Vec<Option<(u64, EventId)>> = vec![None; authors];
    let mut events: Vec<Event> = Vec::with_capacity(count);
    let (mut domain, mut author) = (DomainId::default(), 0);
    let kind: Arc<str> = "field.set".into();
    let mut logseq = LogSeq::from_ms(1_760_000_000_000).0;
    for number in 0..count {
        if number % run == 0 && number > 0 {
            author = (random.next() % authors as u64) as usize;
        }
        let block = payload_block(
            &random.next().to_le_bytes(),
            &value(&mut random, (count as u64 / 10).max(1)),
        );
        logseq = if random.next().is_multiple_of(4) {
            ((logseq >> 16) + 1 + random.next() % 50) << 16
        } else {
            logseq + 1
        };
        let position = Position {
            author: nodes[author],
            seq: tips[author].map_or(1, |tip| tip.0 + 1),
            prev: tips[author].map(|tip| tip.1),
            parents: events.last().map(|event| event.id).into_iter().collect(),
            logseq: LogSeq(logseq),
        };
        let kind = if number == 0 { "domain.create".into() } else { kind.clone() };
        let mut event = Draft { log: Log::Internal, kind, payload: block }.place(position, &domain);
        if number == 0 {
            domain = event.id.into();
        }
        // What a receiver holds: signatures at every 64th place, and at the end of each run.
        if event.header.seq.is_multiple_of(64) || (number + 1) % run.max(10) == 0 {
            event.signature = Some(sign_id(&keys[author], &event.id));
        }
        tips[author] = Some((event.header.seq, event.id));
        events.push(event);
    }
    events.into_iter().map(VerifiedEvent::from_store).collect()
}

fn fill<D: Disk>(
    disk: Arc<D>,
    history: &[VerifiedEvent],
    group: usize,
) -> Result<(Store<D>, Duration), Box<dyn std::error::Error>> {
    let options = StoreOptions { block_events_max: usize::MAX, ..StoreOptions::default() };
    let mut store =
        Store::create(disk, quipu_core::event::Log::Internal, history[0].clone(), options)?;
    let groups: Vec<Vec<_>> = history[1..].chunks(group).map(<[_]>::to_vec).collect();
    let start = Instant::now();
    for group in groups {
        store.append(Log::Internal, group)?;
        store.commit()?;
    }
    Ok((store, start.elapsed()))
}

fn groups(history: &[VerifiedEvent], path: &Path) -> Result<(), Box<dyn std::error::Error>> {
    for (group, count) in [(1, 300), (64, 6400), (4096, 200_000)] {
        let history = &history[..count.min(history.len() - 1) + 1];
        let disk = Arc::new(RealDisk::new(path)?);
        let (_, real) = fill(disk, history, group)?;
        std::fs::remove_dir_all(path)?;
        let (_, memory) = fill(Arc::new(FaultyDisk::new()), history, group)?;
        println!(
            "append+commit, groups of {group}: {} ({:?} a commit); in memory, without fsync: {}",
            rate(history.len(), real),
            real / (history.len().div_ceil(group) as u32),
            rate(history.len(), memory),
        );
    }
    Ok(())
}

fn store_and_read(
    history: Vec<VerifiedEvent>,
    path: &Path,
) -> Result<(), Box<dyn std::error::Error>> {
    let domain: DomainId = history[0].id.into();
    let count = history.len();
    let disk = Arc::new(RealDisk::new(path)?);
    let mut store = Store::create(
        disk.clone(),
        quipu_core::event::Log::Internal,
        history[0].clone(),
        StoreOptions::default(),
    )?;
    let (mut writing, mut sealing, mut sealed) = (Duration::ZERO, Duration::ZERO, 0);
    let mut rest = history.into_iter().skip(1).peekable();
    while rest.peek().is_some() {
        let group: Vec<_> = rest.by_ref().take(4096).collect();
        let start = Instant::now();
        store.append(Log::Internal, group)?;
        store.commit()?;
        writing += start.elapsed();
        let start = Instant::now();
        while let Some(job) = store.seal_job() {
            sealed += job.events() as usize;
            let done = job.run()?;
            store.finish_seal(done)?;
        }
        sealing += start.elapsed();
    }
    drop(rest);
    println!(
        "append+commit, groups of 4096: {}; sealing: {}",
        rate(count, writing),
        rate(sealed, sealing)
    );
    let mut in_blocks = 0;
    for name in disk.list("internal")? {
        if !name.ends_with(".active") {
            in_blocks += disk.size(&format!("internal/{name}"))?;
        }
    }
    println!("sealed blocks: {:.1} B an event", in_blocks as f64 / sealed as f64);
    drop(store);
    // In a process of its own, whose memory holds nothing else.
    let program = std::env::current_exe()?;
    let status = std::process::Command::new(program)
        .arg("read")
        .arg(path)
        .arg(domain.to_string())
        .status()?;
    if status.success() { Ok(()) } else { Err("the reader failed".into()) }
}

fn read(path: &str, domain: DomainId) -> Result<(), Box<dyn std::error::Error>> {
    let disk = Arc::new(RealDisk::new(path)?);
    let before = resident();
    let start = Instant::now();
    let (store, _) = Store::open(disk.clone(), domain, StoreOptions::default())?;
    let opened = start.elapsed();
    let start = Instant::now();
    let outline = store.outline(Log::Internal)?;
    println!(
        "open: {opened:?}; outline of {} feed ends: {:?}; resident {before} -> {} kB",
        outline.feed_ends.len(),
        start.elapsed(),
        resident()
    );
    let count = store.count(Log::Internal);
    let mut ids: Vec<EventId> = Vec::new();
    while (ids.len() as u64) < count {
        let from = ids.len() as u64;
        let places = store.places(Log::Internal, from..(from + 1024).min(count))?;
        ids.extend(places.iter().map(|place| place.id));
    }
    let mut random = Random(5);
    let probes = 200_000usize;
    for name in ["first look-ups", "look-ups"] {
        let start = Instant::now();
        for _ in 0..probes {
            let id = &ids[(random.next() % ids.len() as u64) as usize];
            assert!(store.find(Log::Internal, id)?.is_some());
        }
        let hit = start.elapsed() / probes as u32;
        let start = Instant::now();
        for _ in 0..probes {
            let id = EventId::of(&random.next().to_le_bytes());
            assert!(store.find(Log::Internal, &id)?.is_none());
        }
        println!("{name}: {hit:?} held, {:?} unknown", start.elapsed() / probes as u32);
    }
    let start = Instant::now();
    let mut next = 0;
    while next < ids.len() as u64 {
        next += store.events(Log::Internal, next..ids.len() as u64)?.len() as u64;
    }
    println!("events in order: {}", rate(ids.len(), start.elapsed()));
    let start = Instant::now();
    let mut next = 0;
    while next < ids.len() as u64 {
        let to = (next + 1024).min(ids.len() as u64);
        next += store.places(Log::Internal, next..to)?.len() as u64;
    }
    println!("places in order: {}", rate(ids.len(), start.elapsed()));
    let start = Instant::now();
    for _ in 0..1000 {
        store.event(Log::Internal, random.next() % ids.len() as u64)?;
    }
    println!("events anywhere: {:?} each; resident {} kB", start.elapsed() / 1000, resident());
    Ok(())
}

/// VmRSS in kB.
fn resident() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    line.and_then(|line| line.split_whitespace().next()?.parse().ok()).unwrap_or_default()
}
