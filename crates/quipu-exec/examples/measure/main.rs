//! Measures what programs cost, over a store of plain files.
//!
//! ```text
//! measure                       the cost of a step, of a known run, of 1,000 steps
//! measure stream BYTES          a step that copies so many bytes, against `std::fs::copy`
//! measure compute WASM NATIVE   the same C program as a step and natively (compute.c)
//! ```
#![allow(clippy::print_stdout, reason = "what is measured goes there")]
#![allow(clippy::disallowed_types, reason = "it measures time")]
#![allow(clippy::disallowed_methods, reason = "it measures time")]

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::time::{Duration, Instant};

use quipu_core::id::ArtifactId;
use quipu_exec::artifacts::{Artifacts, Made, ReadSeek};
use quipu_exec::program::{Program, Syntax, build};
use quipu_exec::receipt::Receipt;
use quipu_exec::run::{Known, NothingKnown, Settings, Stopper, run};
use quipu_exec::watch::Unwatched;
use quipu_exec::{Runner, key::RunKey};

type Failed = Box<dyn std::error::Error>;

/// Artifacts as files; each is synced once it is in its place.
struct Files {
    dir: PathBuf,
    work: PathBuf,
    sync: bool,
}

impl Files {
    fn path(&self, key: ArtifactId) -> PathBuf {
        self.dir.join(key.to_string())
    }

    fn add(&self, bytes: &[u8]) -> io::Result<ArtifactId> {
        let key = ArtifactId::of(bytes);
        fs::write(self.path(key), bytes)?;
        Ok(key)
    }
}

impl Artifacts for Files {
    fn size(&self, key: ArtifactId) -> io::Result<Option<u64>> {
        match fs::metadata(self.path(key)) {
            Ok(metadata) => Ok(Some(metadata.len())),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error),
        }
    }

    fn open(&self, key: ArtifactId) -> io::Result<Box<dyn ReadSeek>> {
        Ok(Box::new(File::open(self.path(key))?))
    }

    fn put(&self, made: Made) -> io::Result<ArtifactId> {
        let mut hasher = blake3::Hasher::new();
        match made.path() {
            Some(path) => {
                let mut buffer = vec![0; 1 << 20];
                let mut reader = made.reader()?;
                loop {
                    match reader.read(&mut buffer)? {
                        0 => break,
                        read => hasher.update(&buffer[..read]),
                    };
                }
                let key = ArtifactId(*hasher.finalize().as_bytes());
                if self.sync {
                    File::open(path)?.sync_all()?;
                }
                fs::rename(path, self.path(key))?;
                Ok(key)
            }
            None => {
                let key = ArtifactId::of(made.bytes().unwrap_or_default());
                let mut file = File::create(self.path(key))?;
                io::copy(&mut made.reader()?, &mut file)?;
                if self.sync {
                    file.sync_all()?;
                }
                Ok(key)
            }
        }
    }

    fn work_dir(&self) -> &Path {
        &self.work
    }
}

struct Bench {
    runner: Runner,
    store: Arc<Files>,
    _dir: tempfile::TempDir,
}

/// A run that is known.
struct One(Receipt);

impl Known for One {
    fn run(&self, key: RunKey) -> Option<Receipt> {
        (self.0.run_key() == key).then(|| self.0.clone())
    }
}

impl Bench {
    fn new(sync: bool) -> Result<Self, Failed> {
        let dir = tempfile::tempdir()?;
        let (artifacts, work) = (dir.path().join("artifacts"), dir.path().join("work"));
        fs::create_dir(&artifacts)?;
        fs::create_dir(&work)?;
        let store = Arc::new(Files { dir: artifacts, work, sync });
        Ok(Self { runner: Runner::new(None)?, store, _dir: dir })
    }

    fn program(&self, source: &str, module: &[u8]) -> Result<(ArtifactId, Program), Failed> {
        let key = self.store.add(module)?;
        let built = build(source, Syntax::Toml, &mut |_| Ok(key));
        let program = built.program.ok_or_else(|| format!("{:?}", built.messages))?;
        Ok((self.store.add(&program.encode())?, program))
    }

    fn run(
        &self,
        (key, program): &(ArtifactId, Program),
        inputs: &BTreeMap<String, ArtifactId>,
        known: &dyn Known,
        threads: usize,
    ) -> Result<(Duration, Receipt), Failed> {
        let artifacts: Arc<dyn Artifacts> = Arc::clone(&self.store) as Arc<dyn Artifacts>;
        let stop = Stopper::default();
        let watch = &Unwatched;
        let settings = Settings { known, watch, threads, stop: &stop, order_seed: None };
        let start = Instant::now();
        let done = run(&self.runner, &artifacts, *key, program, inputs, settings)?;
        Ok((start.elapsed(), done.receipt))
    }
}

const NOTHING: &str = r#"(module
  (import "wasi_snapshot_preview1" "proc_exit" (func (param i32)))
  (memory (export "memory") 1) (func (export "_start")))"#;

const COPY: &str = r#"(module
  (import "wasi_snapshot_preview1" "fd_read" (func $fd_read (param i32 i32 i32 i32) (result i32)))
  (import "wasi_snapshot_preview1" "fd_write" (func $fd_write (param i32 i32 i32 i32) (result i32)))
  (memory (export "memory") 2)
  (func (export "_start")
    (i32.store (i32.const 0) (i32.const 1024))
    (loop $more
      (i32.store (i32.const 4) (i32.const 65536))
      (drop (call $fd_read (i32.const 0) (i32.const 0) (i32.const 1) (i32.const 8)))
      (i32.store (i32.const 4) (i32.load (i32.const 8)))
      (drop (call $fd_write (i32.const 1) (i32.const 0) (i32.const 1) (i32.const 12)))
      (br_if $more (i32.load (i32.const 8))))))"#;

fn median(mut times: Vec<Duration>) -> Duration {
    times.sort_unstable();
    times[times.len() / 2]
}

/// One source with many steps of one module, in layers.
fn layers(count: usize, layers: usize) -> String {
    let width = count / layers;
    let mut source = String::from("quipu-program = 1\n[inputs]\nx = {}\n");
    let mut outputs = String::from("[outputs]\n");
    for n in 0..count {
        let from = match n.checked_sub(width) {
            None => "input:x".to_owned(),
            Some(before) => format!("s{before}/stdout"),
        };
        let _ = write!(
            source,
            "[[steps]]\nid = \"s{n}\"\nmodule = \"file:m\"\nargs = [\"{n}\"]\ninputs = {{ stdin = \"{from}\" }}\noutputs = {{ stdout = {{}} }}\n"
        );
        if n + width >= count {
            let _ = writeln!(outputs, "o{n} = \"s{n}/stdout\"");
        }
    }
    source + &outputs
}

fn steps() -> Result<(), Failed> {
    let bench = Bench::new(false)?;
    let synced = Bench::new(true)?;
    let inputs = |bench: &Bench| -> Result<_, Failed> {
        Ok(BTreeMap::from([("x".to_owned(), bench.store.add(b"x")?)]))
    };
    for (what, bench) in [("no sync", &bench), ("output synced", &synced)] {
        let program = bench.program(&layers(1, 1), &wat::parse_str(NOTHING)?)?;
        let inputs = inputs(bench)?;
        let (first, receipt) = bench.run(&program, &inputs, &NothingKnown, 1)?;
        let times = (0..200).map(|_| Ok(bench.run(&program, &inputs, &NothingKnown, 1)?.0));
        let times = times.collect::<Result<Vec<_>, Failed>>()?;
        println!("a step that does nothing, {what}: first {first:?}, then {:?}", median(times));
        let known = One(receipt);
        let times = (0..200).map(|_| Ok(bench.run(&program, &inputs, &known, 1)?.0));
        println!("a known run, {what}: {:?}", median(times.collect::<Result<Vec<_>, Failed>>()?));
    }
    for threads in [1, 2] {
        let program = bench.program(&layers(1000, 10), &wat::parse_str(NOTHING)?)?;
        let inputs = inputs(&bench)?;
        let times = (0..5).map(|_| Ok(bench.run(&program, &inputs, &NothingKnown, threads)?.0));
        let all = median(times.collect::<Result<Vec<_>, Failed>>()?);
        println!("1,000 steps in 10 levels, {threads} threads: {all:?}, a step {:?}", all / 1000);
    }
    Ok(())
}

/// Memory of this process that was in use at most, in kB.
fn resident_max() -> Option<u64> {
    let status = fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find(|line| line.starts_with("VmHWM:"))?;
    line.split_whitespace().nth(1)?.parse().ok()
}

fn stream(bytes: u64) -> Result<(), Failed> {
    let bench = Bench::new(true)?;
    let program = bench.program(&layers(1, 1), &wat::parse_str(COPY)?)?;
    let source = bench.store.work.join("source");
    let mut hasher = blake3::Hasher::new();
    let mut file = File::create(&source)?;
    let mut chunk = vec![0u8; 1 << 20];
    for n in 0..bytes.div_ceil(1 << 20) {
        chunk[..8].copy_from_slice(&n.to_le_bytes());
        hasher.update(&chunk);
        file.write_all(&chunk)?;
    }
    file.sync_all()?;
    let key = ArtifactId(*hasher.finalize().as_bytes());
    let copied = bench.store.work.join("copied");
    let start = Instant::now();
    fs::copy(&source, &copied)?;
    File::open(&copied)?.sync_all()?;
    let copy = start.elapsed();
    fs::remove_file(&copied)?;
    fs::rename(&source, bench.store.path(key))?;
    let inputs = BTreeMap::from([("x".to_owned(), key)]);
    let (time, receipt) = bench.run(&program, &inputs, &NothingKnown, 1)?;
    assert!(receipt.outputs.values().all(|kept| kept.key == key), "it is a copy");
    let rate = |time: Duration| bytes as f64 / time.as_secs_f64() / 1e6;
    println!("{bytes} bytes through a step: {time:?}, {:.0} MB/s, synced", rate(time));
    println!("copy of the file: {copy:?}, {:.0} MB/s, synced", rate(copy));
    println!("at most {} kB resident", resident_max().unwrap_or(0));
    Ok(())
}

fn compute(module: &str, native: &str) -> Result<(), Failed> {
    let bench = Bench::new(false)?;
    let program = bench.program(&layers(1, 1), &fs::read(module)?)?;
    let inputs = BTreeMap::from([("x".to_owned(), bench.store.add(b"x")?)]);
    bench.run(&program, &inputs, &NothingKnown, 1)?;
    let mut times = Vec::new();
    let mut natives = Vec::new();
    for _ in 0..5 {
        let (time, receipt) = bench.run(&program, &inputs, &NothingKnown, 1)?;
        times.push(time);
        let output = receipt.outputs.values().next().map(|kept| kept.key);
        let start = Instant::now();
        let of_native = Command::new(native).output()?;
        natives.push(start.elapsed());
        let same = output == Some(ArtifactId::of(&of_native.stdout));
        assert!(same, "both compute the same");
    }
    let (step, native) = (median(times), median(natives));
    let factor = step.as_secs_f64() / native.as_secs_f64();
    println!("as a step {step:?}, natively {native:?}: {factor:.2} times");
    Ok(())
}

fn main() -> Result<(), Failed> {
    let args: Vec<String> = std::env::args().skip(1).collect();
    match args.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        [] => steps(),
        ["stream", bytes] => stream(bytes.parse()?),
        ["compute", module, native] => compute(module, native),
        _ => Err("see the head of the source for what it takes".into()),
    }
}
