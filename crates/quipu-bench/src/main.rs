//! Benchmarks of quipu on workload W (`docs/performance.md`). Every figure stands beside a limit
//! that was measured in the same run.
//!
//! `cargo run --release -p quipu-bench -- [EVENTS] [all|limits|ingest|quic|artifact|access|diff|emit|store|air] [AUTHORS]`
//!
//! `AUTHORS` stands for the numbers of authors that `ingest` and `diff` otherwise go through.
#![expect(clippy::print_stdout, reason = "it prints its figures")]

mod access;
mod air;
mod artifact;
mod emit;
mod limits;
mod pair;
mod quic;
mod stored;
mod workload;

/// As in the binary.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// What a benchmark may fail with.
type Result<T> = std::result::Result<T, Box<dyn std::error::Error + Send + Sync>>;

/// Size of the artifact that is sent.
const ARTIFACT_MEBIBYTES: u64 = 1024;

fn main() -> Result<()> {
    let mut arguments = std::env::args().skip(1);
    let events: usize = arguments.next().map_or(Ok(1_000_000), |text| text.parse())?;
    let which = arguments.next().unwrap_or_else(|| "all".to_owned());
    let authors: Option<usize> = arguments.next().map(|text| text.parse()).transpose()?;
    let wants = |name: &str| which == "all" || which == name;
    let dir = tempfile::Builder::new().prefix("quipu-bench-").tempdir_in(".")?;
    let limits = limits::measure(dir.path())?;
    if wants("ingest") {
        let all = [10, 1_000, 10_000];
        for authors in authors.as_ref().map_or(&all[..], std::slice::from_ref).iter().copied() {
            pair::ingest(dir.path(), events, authors, &limits)?;
        }
    }
    if wants("quic") {
        quic::join(dir.path(), events, 10)?;
    }
    if wants("artifact") {
        artifact::transfer(dir.path(), ARTIFACT_MEBIBYTES)?;
    }
    if wants("access") {
        access::run(dir.path())?;
    }
    if wants("diff") {
        let all = [(events / 10, 10), (events / 10, 1_000), (events, 10), (events, 1_000)];
        for (base, of) in all {
            if authors.is_none_or(|authors| authors == of) {
                pair::difference(dir.path(), base, of, 50)?;
            }
        }
        pair::changed_feeds(dir.path(), events / 10, 100)?;
    }
    if wants("emit") {
        emit::run(dir.path(), &limits)?;
    }
    if wants("air") {
        air::run(dir.path())?;
    }
    if wants("store") {
        stored::run(dir.path(), events)?;
    }
    Ok(())
}

/// Prints a figure.
fn figure(what: &str, value: impl std::fmt::Display, note: &str) {
    println!("{what:<58} {value:>16}  {note}");
}

/// Events a second, in thousands.
fn rate(events: usize, seconds: f64) -> String {
    format!("{:.0} k/s", events as f64 / seconds / 1e3)
}
