//! Modules that mean harm, or are broken: each ends with an error that says why, and leaves nothing behind.

mod common;

use std::sync::Arc;

use common::{How, Memory, copy, execute, module, one_step, program, runner};
use quipu_exec::run::RunError;
use quipu_exec::{Runner, StepError};

fn fails(runner: &Runner, store: &Arc<Memory>, wat: &str, more: &str) -> StepError {
    let program = one_step(store, wat, more);
    match execute(runner, store, &program, &[], How::default()) {
        Err(RunError::Step { step, error }) => {
            assert_eq!(step, "s");
            assert_eq!(store.leftovers(), 0, "after {error}");
            error
        }
        other => panic!("a step that fails, not {other:?}"),
    }
}

#[test]
fn limits_end_what_does_not_end_by_itself() {
    let (store, runner) = (Memory::new(), runner());
    let start = |body: &str| module(&format!("(func (export \"_start\") {body})"));
    let limits =
        "limits = { fuel = 50_000_000, memory = 4_194_304, output = 1_000_000, files = 5 }";
    let check = |wat: &str, expected: &str| {
        let error = fails(&runner, &store, wat, limits);
        assert!(error.to_string().contains(expected), "{error} should have said {expected:?}");
        assert!(!error.hint().is_empty());
    };
    check(&start("(loop $l (br $l))"), "limit of 50000000 fuel");
    let recursion = "(func $f (param i32) (result i32)
        (i32.add (i32.const 1) (call $f (i32.add (local.get 0) (i32.const 1)))))
        (func (export \"_start\") (drop (call $f (i32.const 0))))";
    check(&module(recursion), "called functions too deep");
    // Memory: the module is told no, gives up, and the error says that it was told no.
    let allocate =
        "(loop $l (br_if $l (i32.ne (memory.grow (i32.const 16)) (i32.const -1)))) unreachable";
    check(&start(allocate), "its limit is 4194304");
    let write = "(local $o i32) (local.set $o (call $out))
        (loop $l (call $write (local.get $o) (i32.const 0) (i32.const 65536)) (br $l))";
    check(&start(write), "limit of 1000000 bytes");
    check(
        &start("(loop $l (call $write (i32.const 1) (i32.const 0) (i32.const 60000)) (br $l))"),
        "bytes",
    );
    // A file of a terabyte that is nothing but a hole.
    let sparse = "(local $o i32) (local.set $o (call $out))
        (drop (call $fd_seek (local.get $o) (i64.const 1099511627776) (i32.const 0) (i32.const 64)))
        (call $write (local.get $o) (i32.const 0) (i32.const 1))";
    check(&start(sparse), "limit of 1000000 bytes");
    // Calls to the host are not free: ever new files, and reads of nothing.
    let many = "(local $n i32) (loop $l
        (i32.store8 (i32.const 8) (i32.add (i32.const 65) (local.get $n)))
        (drop (call $fd_close (call $out)))
        (local.set $n (i32.add (local.get $n) (i32.const 1))) (br $l))";
    check(&start(many), "limit of 5 files");
    check(
        &start("(loop $l (drop (call $random_get (i32.const 0) (i32.const 100000))) (br $l))"),
        "fuel",
    );
    check(&start("(loop $l (drop (call $fd_close (i32.const 77))) (br $l))"), "fuel");
}

#[test]
fn there_is_nothing_outside() {
    let (store, runner) = (Memory::new(), runner());
    // The error number is the exit code; 76 is "not capable", 44 "no entry", 69 "read only".
    let open = |dir: i32, path: &str, how: i32| {
        let body = format!(
            "(data (i32.const 512) \"{path}\") (func (export \"_start\")
             (drop (call $open (i32.const {dir}) (i32.const 512) (i32.const {}) (i32.const {how}) (i64.const 0x42))))",
            path.len()
        );
        match fails(&runner, &store, &module(&body), "") {
            StepError::Exit { code, .. } => code,
            error => panic!("{error}"),
        }
    };
    for dir in [3, 4] {
        assert_eq!(open(dir, "/etc/passwd", 0), 76);
        assert_eq!(open(dir, "../../etc/passwd", 0), 76);
        assert_eq!(open(dir, "a/../../b", 1), 76);
        assert_eq!(open(dir, "etc/passwd", 0), 44);
    }
    assert_eq!(open(3, "new", 1), 69);
    assert_eq!(open(4, "none/below", 1), 44);
    assert_eq!(open(5, "x", 0), 8, "no such descriptor");
    assert_eq!(open(1, "x", 0), 54, "no directory");
}

#[test]
fn bad_pointers_and_descriptors_are_told_to_the_module() {
    let (store, runner) = (Memory::new(), runner());
    let calls = [
        "(call $fd_write (i32.const 1) (i32.const -8) (i32.const 1) (i32.const 0))",
        "(call $fd_write (i32.const 1) (i32.const 0) (i32.const 1) (i32.const -2))",
        "(call $fd_read (i32.const 0) (i32.const 131068) (i32.const 2) (i32.const 0))",
        "(call $random_get (i32.const 131000) (i32.const 4000))",
        "(call $random_get (i32.const -1) (i32.const -1))",
        "(call $clock_time_get (i32.const 0) (i64.const 0) (i32.const 131065))",
        "(call $fd_readdir (i32.const 3) (i32.const 131071) (i32.const 50) (i64.const 0) (i32.const 0))",
        "(call $path_open (i32.const 4) (i32.const 0) (i32.const 8) (i32.const 3) (i32.const 1)
           (i64.const -1) (i64.const -1) (i32.const 0) (i32.const -4))",
        "(call $fd_close (i32.const -1))",
        "(call $fd_seek (i32.const 4) (i64.const 0) (i32.const 0) (i32.const 0))",
        "(call $clock_time_get (i32.const 9) (i64.const 0) (i32.const 0))",
    ];
    for call in calls {
        // A descriptor whose buffers have a bad address, too.
        let body = format!(
            "(func (export \"_start\") (i32.store (i32.const 4) (i32.const -1))
            (i32.store (i32.const 0) (i32.const -10)) (call $check {call}))"
        );
        match fails(&runner, &store, &module(&body), "") {
            StepError::Exit { code, .. } => {
                assert!([8, 21, 28, 31].contains(&code), "{call} gives {code}");
            }
            error => panic!("{call}: {error}"),
        }
    }
}

#[test]
fn what_is_no_module_for_us_is_refused_with_the_reason() {
    let (store, runner) = (Memory::new(), runner());
    let check = |wat: &str, expected: &str| {
        let error = fails(&runner, &store, wat, "");
        assert!(matches!(error, StepError::Module { .. }), "{error}");
        assert!(error.to_string().contains(expected), "{error} should have said {expected:?}");
    };
    check("(module (import \"env\" \"f\" (func)) (memory (export \"memory\") 1))", "imports env.f");
    check("(module (import \"env\" \"m\" (memory 1)))", "imports a memory, env.m");
    check("(module (import \"env\" \"m\" (memory 1 1 shared)))", "threads");
    check(
        "(module (import \"wasi\" \"thread-spawn\" (func (param i32) (result i32))))",
        "imports wasi.thread-spawn",
    );
    check("(module (memory (export \"memory\") 1))", "no function `_start`");
    check("(module (func (export \"_start\")))", "exports no `memory`");
    check(
        "(module (import \"wasi_snapshot_preview1\" \"fd_write\" (func)) (memory (export \"memory\") 1)
         (func (export \"_start\")))",
        "fd_write",
    );
    check(
        "(module (import \"wasi_snapshot_preview1\" \"fd_fly\" (func)) (memory (export \"memory\") 1)
         (func (export \"_start\")))",
        "fd_fly",
    );
    check(
        "(module (memory (export \"memory\") 1) (func (export \"_start\") (param i32)))",
        "_start",
    );
    let key = store.add(b"#!/bin/sh\necho no module");
    let source = format!(
        "quipu-program = 1\n[[steps]]\nid = \"s\"\nmodule = \"{key}\"\noutputs = {{ out = {{}} }}\n[outputs]\nout = \"s/out\"\n"
    );
    let program = program(&store, &source, &[]);
    let error = execute(&runner, &store, &program, &[], How::default()).expect_err("no module");
    assert!(error.to_string().contains("cannot be run"), "{error}");
    store.remove(key);
    let error = execute(&runner, &store, &program, &[], How::default()).expect_err("it is gone");
    assert!(error.to_string().contains("not here"), "{error}");
}

#[test]
fn what_a_module_writes_has_to_be_what_the_program_says() {
    let (store, runner) = (Memory::new(), runner());
    let two = "(data (i32.const 600) \"other\") (func (export \"_start\") (drop (call $out))
        (drop (call $open (i32.const 4) (i32.const 600) (i32.const 5) (i32.const 1) (i64.const 0x42))))";
    let error = fails(&runner, &store, &module(two), "");
    assert!(matches!(&error, StepError::OutputUnknown(name) if name == "other"), "{error}");
    let error = fails(&runner, &store, &module("(func (export \"_start\"))"), "");
    assert!(matches!(&error, StepError::OutputMissing(name) if name == "out"), "{error}");
    let exit = "(data (i32.const 600) \"it is all wrong\") (func (export \"_start\") (drop (call $out))
        (call $write (i32.const 2) (i32.const 600) (i32.const 15)) (call $proc_exit (i32.const 3)))";
    let error = fails(&runner, &store, &module(exit), "");
    assert_eq!(error.to_string(), "it exited with 3; it said: it is all wrong");
}

#[test]
fn a_healthy_step_still_runs_after_all_that() {
    let (store, runner) = (Memory::new(), runner());
    for _ in 0..3 {
        fails(&runner, &store, &module("(func (export \"_start\") unreachable)"), "");
    }
    let source = "quipu-program = 1\n[inputs]\nx = {}\n[[steps]]\nid = \"s\"\nmodule = \"file:m\"\ninputs = { in = \"input:x\" }\noutputs = { out = {} }\n[outputs]\nout = \"s/out\"\n";
    let program = program(&store, source, &[("m", &copy())]);
    let x = store.add(&[7; 300_000]);
    let done = execute(&runner, &store, &program, &[("x", x)], How::default()).expect("it runs");
    assert_eq!(done.receipt.outputs["out"].key, x);
    assert_eq!(store.leftovers(), 0);
}

#[test]
fn a_size_that_no_memory_can_have_is_told_to_the_module() {
    let (store, runner) = (Memory::new(), runner());
    // Within the limit first, then beyond 4 GiB, then within it again.
    let body = "(func (export \"_start\") (drop (call $out))
        (call $check (i32.ne (memory.grow (i32.const 1)) (i32.const 2)))
        (call $check (i32.ne (memory.grow (i32.const 65535)) (i32.const -1)))
        (call $check (i32.ne (memory.grow (i32.const -1)) (i32.const -1)))
        (call $check (i32.ne (memory.grow (i32.const 1)) (i32.const 3))))";
    for limit in [4_194_304u64, 4_294_967_296] {
        let program = one_step(&store, &module(body), &format!("limits = {{ memory = {limit} }}"));
        execute(&runner, &store, &program, &[], How::default()).expect("it goes on");
    }
}

/// Stops the run as soon as a step begins.
struct StopAtOnce(std::sync::mpsc::Sender<()>);

impl quipu_exec::watch::Watch for StopAtOnce {
    fn begin(&self, _: &str, _: &Arc<quipu_exec::watch::Meter>) {
        let _ = self.0.send(());
    }
}

#[test]
fn a_run_is_stopped_while_it_computes() {
    let (store, runner) = (Memory::new(), runner());
    let forever = module("(func (export \"_start\") (loop $l (br $l)))");
    let most = quipu_exec::limits::FUEL_MAX;
    let (key, program) = one_step(&store, &forever, &format!("limits = {{ fuel = {most} }}"));
    let artifacts: Arc<dyn quipu_exec::artifacts::Artifacts> = store.clone();
    let stop = quipu_exec::run::Stopper::default();
    let (begun, begins) = std::sync::mpsc::channel();
    let watch = StopAtOnce(begun);
    let settings = quipu_exec::run::Settings {
        known: &quipu_exec::run::NothingKnown,
        watch: &watch,
        threads: 1,
        stop: &stop,
        order_seed: None,
    };
    let inputs = Default::default();
    let (to_stop, on) = (&stop, &runner);
    let result = std::thread::scope(|scope| {
        scope.spawn(move || {
            begins.recv().expect("it begins");
            to_stop.stop(on);
        });
        quipu_exec::run::run(&runner, &artifacts, key, &program, &inputs, settings)
    });
    assert!(matches!(result, Err(RunError::Stopped)), "{result:?}");
}
