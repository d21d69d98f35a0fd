//! Ingest, view and reload on workload W, beside the real meshlogd on the same data in the same run, if
//! `tests/meshlogd/setup` has installed it.
//!
//! `cargo run --release -p quipu-meshlog --example bench_meshlog [EVENTS]`

#![expect(clippy::print_stdout, reason = "it prints figures")]
#![expect(clippy::disallowed_types, reason = "it takes the time")]

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::time::Instant;

use data_encoding::HEXLOWER;
use quipu_meshlog::clock::Stamp;
use quipu_meshlog::event::{Body, Event};
use quipu_meshlog::identity::{IDENTITY_BYTES, Identity};
use quipu_meshlog::ingest::{self, Heard};
use quipu_meshlog::json::{Style, Value};
use quipu_meshlog::limits::MESSAGE_EVENTS_MAX;
use quipu_meshlog::log::Log;
use quipu_meshlog::message::{self, MessageError};
use quipu_meshlog::policy::{Judge, Policy};
use quipu_meshlog::records::Records;
use quipu_meshlog::text::Text;
use quipu_meshlog::{file, order::Ordered};
use rayon::prelude::*;
use sha2::{Digest as _, Sha256};

/// As in the binary.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

const AUTHORS: usize = 10;

/// Events of workload W: ten puts to each cell, by ten authors in turn.
fn workload(events: u64, signed: bool) -> Log {
    let identities: Vec<Identity> = (0..AUTHORS).map(|n| identity(n as u8)).collect();
    let mut log = Log::default();
    for n in 0..events {
        let identity = &identities[n as usize % AUTHORS];
        let author = identity.public().author();
        let (seq, prev) = log.next_of(&author);
        let cell = n.wrapping_mul(7_919) % (events / 10).max(1);
        let value = if n % 2 == 0 { Value::from(n) } else { format!("value {n:014}").into() };
        let payload = Value::object([
            ("record_id", format!("R-{}", cell / 10).into()),
            ("field", format!("f{}", cell % 10).into()),
            ("value", value),
        ])
        .into();
        let stamp = Stamp::new(1_790_000_000_000 + (n / 3) as i64, (n % 3) as i64);
        let body = Body { author, seq, stamp, kind: "field.set".into(), payload, prev };
        let event = if signed { identity.event(body) } else { Event::new(body) };
        let appended = log.append_own(event);
        assert!(appended.is_ok(), "the workload continues its feeds");
    }
    log
}

fn identity(n: u8) -> Identity {
    Identity::from_bytes(&[n + 1; IDENTITY_BYTES])
}

/// Processor time of all threads in seconds, as Linux tells it: on a busy machine steadier than the clock.
fn processor_seconds() -> f64 {
    let tasks = std::fs::read_dir("/proc/self/task").into_iter().flatten().flatten();
    let of = |task: std::fs::DirEntry| -> Option<f64> {
        let text = std::fs::read_to_string(task.path().join("schedstat")).ok()?;
        text.split_whitespace().next()?.parse().ok()
    };
    tasks.filter_map(of).sum::<f64>() / 1e9
}

fn rate<T>(what: &str, count: u64, work: impl FnOnce() -> T) -> T {
    let (start, processor) = (Instant::now(), processor_seconds());
    let result = work();
    let taken = [start.elapsed().as_secs_f64(), processor_seconds() - processor];
    let [rate, each] = taken.map(|seconds| format!("{:.0}", count as f64 / seconds));
    line("quipu", what, &rate, &each);
    result
}

fn line(who: &str, what: &str, rate: &str, each: &str) {
    println!(
        "  {who:<9} {what:<10} {rate:>10} events/s {each:>10} events each second of processor"
    );
}

/// Messages as a node of meshlogd sends them.
fn messages(log: &Log) -> Vec<Vec<u8>> {
    log.arrived().chunks(MESSAGE_EVENTS_MAX).map(message::events).collect()
}

/// All messages at once, as after a while without contact: into the log, as meshlogd does.
fn take(messages: &[Vec<u8>], judge: &mut Judge) -> Log {
    let mut log = Log::default();
    all_taken(ingest::take(&mut log, judge, messages));
    log
}

/// The same with the view of records kept.
fn ingest(messages: &[Vec<u8>], judge: &mut Judge) -> (Log, Records) {
    let (mut log, mut records) = (Log::default(), Records::default());
    let show = |events: &[Arc<Event>]| events.iter().for_each(|event| records.apply(event));
    all_taken(ingest::take_and_show(&mut log, judge, messages, show));
    (log, records)
}

fn all_taken(heard: Vec<Result<Heard, MessageError>>) {
    for heard in heard {
        let Ok(Heard::Events(taken)) = heard else { panic!("a message of events") };
        assert!(taken.iter().all(Result::is_ok));
    }
}

/// What ingest cannot do without, alone and on all cores, by the same libraries: the limits.
fn limits(log: &Log, received: &[Vec<u8>]) {
    let count = log.len() as u64;
    let bodies: Vec<Vec<u8>> = log.arrived().iter().map(|event| event.body().to_bytes()).collect();
    rate("SHA-256", count, || bodies.par_iter().map(|body| Sha256::digest(body)[0]).max());
    let parse = |message: &Vec<u8>| serde_json::from_slice::<serde_json::Value>(message).is_ok();
    rate("serde_json", count, || assert!(received.par_iter().all(parse)));
}

/// Signatures one by one on all cores.
fn verify_alone(log: &Log, identities: &[Identity]) {
    let pairs = log.arrived().par_iter().enumerate();
    rate("verify", log.len() as u64, || {
        assert!(pairs.all(|(at, event)| {
            let key = identities[at % AUTHORS].public();
            let body = event.body().to_bytes();
            event.signature().is_some_and(|signature| key.has_signed(&body, signature))
        }));
    });
}

/// One message after the other, each in the view before the next comes.
fn ingest_singly(messages: &[Vec<u8>], judge: &mut Judge) -> (Log, Records) {
    let (mut log, mut records) = (Log::default(), Records::default());
    for bytes in messages {
        let from = log.len();
        if let Ok(message::Message::Events(events)) = message::parse(bytes) {
            let taken = log.take_all(events.into_iter().flatten().collect(), judge);
            assert!(taken.iter().all(Result::is_ok));
        }
        log.arrived()[from..].iter().for_each(|event| records.apply(event));
    }
    (log, records)
}

fn view(records: &Records) -> Vec<u8> {
    let mut out = Vec::new();
    let written = records.write_json(&mut out);
    assert!(written.is_ok(), "memory takes all");
    out
}

/// The real meshlogd on the same data.
fn meshlogd(version: &str, file: &Path, keys: Option<&str>) {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    let target = std::env::var_os("CARGO_TARGET_DIR").map_or("target".into(), PathBuf::from);
    let place = root.join(target).join("meshlogd");
    if !place.join("complete-1").exists() {
        return println!("  meshlogd  is not installed: run tests/meshlogd/setup");
    }
    let mut command = Command::new(place.join("bin/python"));
    command.arg(root.join("tests/meshlogd/bench.py")).arg(file).args(keys);
    let output = command.env("PYTHONPATH", place.join(version)).output();
    let text = output.map(|output| String::from_utf8_lossy(&output.stdout).into_owned());
    for text_line in text.unwrap_or_default().lines() {
        let mut words = text_line.split(' ');
        let mut word = || words.next().unwrap_or_default();
        line(version, word(), word(), word());
    }
}

fn unsigned(events: u64, path: &Path) {
    let log = workload(events, false);
    let bytes = file::write(&log);
    println!(
        "{events} events, not signed, {} bytes an event in the file",
        bytes.len() as u64 / events
    );
    let received = messages(&log);
    let mut judge = Judge::new(Policy::Open);
    let (again, _) = rate("one by one", events, || ingest_singly(&received, &mut judge));
    assert_eq!(again.len(), log.len());
    let again = rate("take", events, || take(&received, &mut judge));
    assert_eq!(again.len(), log.len());
    let (again, records) = rate("ingest", events, || ingest(&received, &mut judge));
    assert_eq!(again.len(), log.len());
    let shown = rate("fold", events, || Records::of(again.arrived()));
    let out = rate("view", events, || view(&records));
    assert_eq!(view(&shown), out);
    let anew = rate("view anew", events, || view(&Records::of(again.arrived())));
    assert_eq!(anew, out);
    rate("raw view", events, || {
        let mut ordered = Ordered::default();
        again.arrived().iter().for_each(|event| ordered.apply(event));
        let mut out = Vec::new();
        ordered.write_json(Style::Canonical, &mut out);
        out.len()
    });
    let loaded = rate("reload", events, || {
        let mut log = Log::default();
        let rest = file::read(&bytes).map(|loaded| log.load(loaded.events));
        assert!(rest.is_ok_and(|rest| rest.is_empty()));
        log
    });
    assert_eq!(loaded.len(), log.len());
    limits(&log, &received);
    let written = std::fs::write(path, &bytes);
    assert!(written.is_ok(), "{} can be written", path.display());
    ["0.1.0", "0.5.0"].iter().for_each(|version| meshlogd(version, path, None));
}

fn signed(events: u64, path: &Path) {
    let log = workload(events, true);
    println!("{events} events, signed");
    let received = messages(&log);
    let mut judge = Judge::new(Policy::Open);
    let identities: Vec<Identity> = (0..AUTHORS).map(|n| identity(n as u8)).collect();
    identities.iter().for_each(|identity| judge.learn(identity.public().clone()));
    rate("one by one", events, || ingest_singly(&received, &mut judge));
    rate("take", events, || take(&received, &mut judge));
    rate("ingest", events, || ingest(&received, &mut judge));
    verify_alone(&log, &identities);
    let written = std::fs::write(path, file::write(&log));
    assert!(written.is_ok(), "{} can be written", path.display());
    let keys: Vec<String> =
        identities.iter().map(|identity| HEXLOWER.encode(&identity.public().to_bytes())).collect();
    meshlogd("0.5.0", path, Some(&keys.join(",")));
}

/// The longest that the view of so many events takes for one more, in order and late.
fn one_more(events: u64) {
    let mut log = workload(events, false);
    let mut records = Records::of(log.arrived());
    let mut ordered = Ordered::default();
    log.arrived().iter().for_each(|event| ordered.apply(event));
    let mut longest = [0.0f64; 2];
    for n in 0..1_000i64 {
        let author = Text::from("another");
        let (seq, prev) = log.next_of(&author);
        let payload = Value::object([
            ("record_id", format!("R-{n}").into()),
            ("field", "f1".into()),
            ("value", "new".into()),
        ])
        .into();
        // In turns before all others and after all others.
        let stamp = Stamp::new(if n % 2 == 0 { n } else { 1_900_000_000_000 }, n);
        let kind = "field.set".into();
        let made = log.append_own(Event::new(Body { author, seq, stamp, kind, payload, prev }));
        let Ok(event) = made else { continue };
        for (longest, apply) in longest.iter_mut().zip([
            &mut |event: &Arc<Event>| records.apply(event) as _,
            &mut |event: &Arc<Event>| ordered.apply(event) as _,
        ]
            as [&mut dyn FnMut(&Arc<Event>); 2])
        {
            let start = Instant::now();
            apply(&event);
            *longest = longest.max(start.elapsed().as_secs_f64() * 1e3);
        }
    }
    println!(
        "one more event after {events}: records {:.3} ms, raw view {:.3} ms at most",
        longest[0], longest[1]
    );
}

fn main() {
    let events = std::env::args().nth(1).and_then(|count| count.parse().ok()).unwrap_or(100_000);
    let path = std::env::temp_dir().join(format!("bench-meshlog-{}.jsonl", std::process::id()));
    unsigned(events, &path);
    signed(events, &path);
    // A file that cannot be removed is left over, no more.
    drop(std::fs::remove_file(&path));
    one_more(10 * events);
}
