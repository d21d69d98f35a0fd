//! A store in memory, and programs of modules in the text form of WebAssembly.
#![allow(dead_code, reason = "each test file uses a part of it")]

use std::collections::BTreeMap;
use std::io::{self, Cursor, Read};
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use quipu_core::id::ArtifactId;
use quipu_exec::artifacts::{Artifacts, Made, ReadSeek};
use quipu_exec::program::{Built, Program, Syntax, build};
use quipu_exec::run::{Done, Known, NothingKnown, RunError, Settings, Stopper, run};
use quipu_exec::watch::{Unwatched, Watch};
use quipu_exec::{CacheDir, Runner};

/// Artifacts in memory; files for what is being made.
pub(crate) struct Memory {
    artifacts: Mutex<BTreeMap<ArtifactId, Arc<[u8]>>>,
    work: tempfile::TempDir,
    pub(crate) puts: AtomicU64,
}

impl Memory {
    pub(crate) fn new() -> Arc<Self> {
        let work = tempfile::tempdir().expect("a directory");
        Arc::new(Self { artifacts: Mutex::default(), work, puts: AtomicU64::new(0) })
    }

    fn map(&self) -> std::sync::MutexGuard<'_, BTreeMap<ArtifactId, Arc<[u8]>>> {
        self.artifacts.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn add(&self, bytes: &[u8]) -> ArtifactId {
        let key = ArtifactId::of(bytes);
        self.map().insert(key, bytes.into());
        key
    }

    pub(crate) fn remove(&self, key: ArtifactId) {
        assert!(self.map().remove(&key).is_some(), "{key} was here");
    }

    pub(crate) fn bytes(&self, key: ArtifactId) -> Arc<[u8]> {
        Arc::clone(self.map().get(&key).expect("it is here"))
    }

    pub(crate) fn text(&self, key: ArtifactId) -> String {
        String::from_utf8_lossy(&self.bytes(key)).into_owned()
    }

    /// Files that are left over in the place for files that are being made.
    pub(crate) fn leftovers(&self) -> usize {
        std::fs::read_dir(self.work.path()).expect("it is there").count()
    }
}

impl Artifacts for Memory {
    fn size(&self, key: ArtifactId) -> io::Result<Option<u64>> {
        Ok(self.map().get(&key).map(|bytes| bytes.len() as u64))
    }

    fn open(&self, key: ArtifactId) -> io::Result<Box<dyn ReadSeek>> {
        let bytes = self.map().get(&key).cloned().ok_or(io::ErrorKind::NotFound)?;
        Ok(Box::new(Cursor::new(bytes)))
    }

    fn put(&self, made: Made) -> io::Result<ArtifactId> {
        let mut bytes = Vec::new();
        made.reader()?.read_to_end(&mut bytes)?;
        self.puts.fetch_add(1, Ordering::Relaxed);
        Ok(self.add(&bytes))
    }

    fn work_dir(&self) -> &Path {
        self.work.path()
    }
}

pub(crate) fn runner() -> Runner {
    Runner::new(None).expect("this machine can run programs")
}

pub(crate) fn runner_with(cache: CacheDir) -> Runner {
    Runner::new(Some(cache)).expect("this machine can run programs")
}

/// Builds a TOML source; `file:NAME` is one of these modules, as text or as binary.
pub(crate) fn built(store: &Memory, source: &str, modules: &[(&str, &str)]) -> Built {
    let mut put = |path: &str| {
        let text = modules.iter().find(|(name, _)| *name == path);
        let (_, text) = text.ok_or_else(|| "there is no such file".to_owned())?;
        let bytes = wat::parse_str(text).map_err(|error| error.to_string())?;
        Ok(store.add(&bytes))
    };
    build(source, Syntax::of(source), &mut put)
}

/// A program that has to be right.
pub(crate) fn program(
    store: &Memory,
    source: &str,
    modules: &[(&str, &str)],
) -> (ArtifactId, Program) {
    let built = built(store, source, modules);
    let messages: Vec<String> = built.messages.iter().map(ToString::to_string).collect();
    let program = built.program.unwrap_or_else(|| panic!("{}", messages.join("\n")));
    (store.add(&program.encode()), program)
}

pub(crate) struct How<'h> {
    pub(crate) known: &'h dyn Known,
    pub(crate) threads: usize,
    pub(crate) order_seed: Option<u64>,
}

impl Default for How<'_> {
    fn default() -> Self {
        Self { known: &NothingKnown, threads: 1, order_seed: None }
    }
}

pub(crate) fn execute(
    runner: &Runner,
    store: &Arc<Memory>,
    (key, program): &(ArtifactId, Program),
    inputs: &[(&str, ArtifactId)],
    how: How<'_>,
) -> Result<Done, RunError> {
    execute_watched(runner, store, &(*key, program.clone()), inputs, how, &Unwatched)
}

pub(crate) fn execute_watched(
    runner: &Runner,
    store: &Arc<Memory>,
    (key, program): &(ArtifactId, Program),
    inputs: &[(&str, ArtifactId)],
    how: How<'_>,
    watch: &dyn Watch,
) -> Result<Done, RunError> {
    let artifacts: Arc<dyn Artifacts> = Arc::clone(store) as Arc<dyn Artifacts>;
    let inputs = inputs.iter().map(|(name, key)| ((*name).to_owned(), *key)).collect();
    let stop = Stopper::default();
    let How { known, threads, order_seed } = how;
    let settings = Settings { known, watch, threads, stop: &stop, order_seed };
    run(runner, &artifacts, *key, program, &inputs, settings)
}

/// A program of one step with this module, which has the output `out`.
pub(crate) fn one_step(store: &Memory, module: &str, more: &str) -> (ArtifactId, Program) {
    let source = format!(
        "quipu-program = 1\n[[steps]]\nid = \"s\"\nmodule = \"file:m\"\noutputs = {{ out = {{}} }}\n{more}\n[outputs]\nout = \"s/out\"\n"
    );
    program(store, &source, &[("m", module)])
}

/// A module around this body, with everything that bodies here use: `$out` opens `/out/out` and
/// `$write` writes memory to a descriptor.
pub(crate) fn module(body: &str) -> String {
    format!(
        r#"(module
  (import "wasi_snapshot_preview1" "path_open"
    (func $path_open (param i32 i32 i32 i32 i32 i64 i64 i32 i32) (result i32)))
  (import "wasi_snapshot_preview1" "fd_write" (func $fd_write (param i32 i32 i32 i32) (result i32)))
  (import "wasi_snapshot_preview1" "fd_read" (func $fd_read (param i32 i32 i32 i32) (result i32)))
  (import "wasi_snapshot_preview1" "random_get" (func $random_get (param i32 i32) (result i32)))
  (import "wasi_snapshot_preview1" "clock_time_get" (func $clock_time_get (param i32 i64 i32) (result i32)))
  (import "wasi_snapshot_preview1" "fd_readdir" (func $fd_readdir (param i32 i32 i32 i64 i32) (result i32)))
  (import "wasi_snapshot_preview1" "fd_close" (func $fd_close (param i32) (result i32)))
  (import "wasi_snapshot_preview1" "fd_seek" (func $fd_seek (param i32 i64 i32 i32) (result i32)))
  (import "wasi_snapshot_preview1" "proc_exit" (func $proc_exit (param i32)))
  (memory (export "memory") 2)
  (data (i32.const 8) "out")
  (data (i32.const 16) "in")
  (func $check (param $errno i32)
    (if (local.get $errno) (then (call $proc_exit (local.get $errno)))))
  (func $open (param $dir i32) (param $at i32) (param $len i32) (param $how i32) (param $rights i64) (result i32)
    (call $check (call $path_open (local.get $dir) (i32.const 0) (local.get $at) (local.get $len)
      (local.get $how) (local.get $rights) (i64.const 0) (i32.const 0) (i32.const 32)))
    (i32.load (i32.const 32)))
  (func $out (result i32)
    (call $open (i32.const 4) (i32.const 8) (i32.const 3) (i32.const 1) (i64.const 0x42)))
  (func $write (param $fd i32) (param $at i32) (param $len i32)
    (i32.store (i32.const 40) (local.get $at))
    (i32.store (i32.const 44) (local.get $len))
    (call $check (call $fd_write (local.get $fd) (i32.const 40) (i32.const 1) (i32.const 48))))
  (func $read (param $fd i32) (param $at i32) (param $len i32) (result i32)
    (i32.store (i32.const 40) (local.get $at))
    (i32.store (i32.const 44) (local.get $len))
    (call $check (call $fd_read (local.get $fd) (i32.const 40) (i32.const 1) (i32.const 48)))
    (i32.load (i32.const 48)))
  {body})"#
    )
}

/// Copies `/in/in` to `/out/out`.
pub(crate) const COPY: &str = r#"
  (func (export "_start") (local $from i32) (local $to i32) (local $got i32)
    (local.set $from (call $open (i32.const 3) (i32.const 16) (i32.const 2) (i32.const 0) (i64.const 2)))
    (local.set $to (call $out))
    (loop $more
      (local.set $got (call $read (local.get $from) (i32.const 1024) (i32.const 65536)))
      (call $write (local.get $to) (i32.const 1024) (local.get $got))
      (br_if $more (local.get $got))))"#;

/// A module that copies `/in/in` to `/out/out`.
pub(crate) fn copy() -> String {
    module(COPY)
}
