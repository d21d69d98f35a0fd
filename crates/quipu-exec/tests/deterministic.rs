//! Equal runs give equal receipts, whatever the order, the threads, the engine or the place.

mod common;

use std::collections::BTreeMap;
use std::fmt::Write;

use common::{How, Memory, copy, execute, module, one_step, program, runner, runner_with};
use quipu_core::id::ArtifactId;
use quipu_exec::CacheDir;
use quipu_exec::program::Program;
use quipu_exec::receipt::Kept;
use quipu_exec::run::Known;

fn output(wat: &str, more: &str) -> Vec<u8> {
    let (store, runner) = (Memory::new(), runner());
    let program = one_step(&store, wat, more);
    let done = execute(&runner, &store, &program, &[], How::default()).expect("it runs");
    store.bytes(done.receipt.outputs["out"].key).to_vec()
}

/// Writes 64 bytes from 4096 on after a body that fills them.
fn writes(body: &str) -> String {
    module(&format!(
        "(func (export \"_start\") {body} (call $write (call $out) (i32.const 4096) (i32.const 64)))"
    ))
}

#[test]
fn clocks_and_randomness_follow_from_the_step_key() {
    let wat = writes(
        "(call $check (call $clock_time_get (i32.const 0) (i64.const 1) (i32.const 4096)))
         (call $check (call $clock_time_get (i32.const 1) (i64.const 1) (i32.const 4104)))
         (call $check (call $random_get (i32.const 4112) (i32.const 40)))",
    );
    let one = output(&wat, "");
    assert_eq!(one, output(&wat, ""));
    let other = output(&wat, "args = [\"something else\"]");
    assert_ne!(one[..8], other[..8], "the time of day");
    assert_ne!(one[16..56], other[16..56], "random bytes");
}

#[test]
fn a_nan_has_the_same_bits_everywhere() {
    // 0/0 is negative on x86 and positive on ARM; the payload of an operand would come through.
    let wat = writes(
        "(local $zero f64) (local $zero32 f32)
         (f64.store (i32.const 4096) (f64.div (local.get $zero) (local.get $zero)))
         (f32.store (i32.const 4104) (f32.div (local.get $zero32) (local.get $zero32)))
         (f64.store (i32.const 4112) (f64.add (f64.const nan:0x123456) (f64.const 1)))
         (f64.store (i32.const 4120) (f64.sqrt (f64.const -1)))
         (f64.store (i32.const 4128) (f64.sub (f64.const inf) (f64.const inf)))
         (v128.store (i32.const 4144) (f32x4.div (v128.const f32x4 0 0 -inf 1) (v128.const f32x4 0 0 inf 1)))",
    );
    let bytes = output(&wat, "");
    let canonical = 0x7ff8_0000_0000_0000_u64.to_le_bytes();
    for at in [0, 16, 24, 32] {
        assert_eq!(bytes[at..at + 8], canonical, "at {at}");
    }
    assert_eq!(bytes[8..12], 0x7fc0_0000_u32.to_le_bytes());
    for lane in 0..3 {
        assert_eq!(bytes[48 + 4 * lane..][..4], 0x7fc0_0000_u32.to_le_bytes(), "lane {lane}");
    }
}

#[test]
fn relaxed_instructions_do_the_same_everywhere() {
    // Out of range, negative zero and large indexes: where processors differ.
    let wat = writes(
        "(v128.store (i32.const 4096) (i32x4.relaxed_trunc_f32x4_s (v128.const f32x4 1e30 -1e30 nan 1)))
         (v128.store (i32.const 4112) (f32x4.relaxed_max (v128.const f32x4 -0 0 nan 1) (v128.const f32x4 0 -0 1 nan)))
         (v128.store (i32.const 4128) (i8x16.relaxed_swizzle
            (v128.const i8x16 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16)
            (v128.const i8x16 0 15 16 127 128 255 1 2 3 4 5 6 7 8 9 10)))
         (v128.store (i32.const 4144) (f32x4.relaxed_madd (v128.const f32x4 1.1 1e30 -1 3.3)
            (v128.const f32x4 1.1 1e30 1 3.3) (v128.const f32x4 -1.21 0 1 -10.889999)))",
    );
    let bytes = output(&wat, "");
    let words: Vec<i32> =
        bytes[..16].chunks(4).map(|w| i32::from_le_bytes([w[0], w[1], w[2], w[3]])).collect();
    assert_eq!(words, [i32::MAX, i32::MIN, 0, 1], "saturating, as the profile says");
    assert_eq!(bytes[32..38], [1, 16, 0, 0, 0, 0], "beyond 15 is zero");
    let fused = 1.1f32.mul_add(1.1, -1.21).to_le_bytes();
    assert_eq!(bytes[48..52], fused, "one rounding");
}

#[test]
fn directories_are_listed_by_name() {
    let store = Memory::new();
    let body =
        "(func (export \"_start\") (call $check (call $fd_readdir (i32.const 3) (i32.const 4096)
        (i32.const 512) (i64.const 0) (i32.const 48)))
        (call $write (call $out) (i32.const 4096) (i32.load (i32.const 48))))";
    let source = "quipu-program = 1\n[inputs]\nx = {}\n[[steps]]\nid = \"s\"\nmodule = \"file:m\"\noutputs = { out = {} }\ninputs = { zz = \"input:x\", b = \"input:x\", a = \"input:x\", B = \"input:x\" }\n[outputs]\nout = \"s/out\"\n";
    let program = program(&store, source, &[("m", &module(body))]);
    let x = store.add(b"x");
    let done = execute(&runner(), &store, &program, &[("x", x)], How::default()).expect("it runs");
    let bytes = store.bytes(done.receipt.outputs["out"].key);
    let (mut names, mut at) = (Vec::new(), 0);
    while at < bytes.len() {
        let length = u32::from_le_bytes(std::array::from_fn(|n| bytes[at + 16 + n])) as usize;
        names.push(String::from_utf8_lossy(&bytes[at + 24..at + 24 + length]).into_owned());
        at += 24 + length;
    }
    assert_eq!(names, [".", "..", "B", "a", "b", "zz"]);
}

/// A program of layers, in which each step takes two outputs of the layer before.
fn layers(store: &Memory, layers: usize, width: usize, module: &str) -> (ArtifactId, Program) {
    let mut source = String::from("quipu-program = 1\n[inputs]\nx = {}\n");
    for layer in 0..layers {
        for n in 0..width {
            let from = |k: usize| match layer {
                0 => "input:x".to_owned(),
                _ => format!("l{}n{}/out", layer - 1, k % width),
            };
            let (a, b) = (from(n), from(n * 7 + 3));
            let _ = write!(
                source,
                "[[steps]]\nid = \"l{layer}n{n}\"\nmodule = \"file:m\"\nargs = [\"{n}\"]\ninputs = {{ in = \"{a}\", in2 = \"{b}\" }}\noutputs = {{ out = {{}} }}\n"
            );
        }
    }
    source.push_str("[outputs]\n");
    for n in 0..width {
        let _ = writeln!(source, "o{n} = \"l{}n{n}/out\"", layers - 1);
    }
    let built = common::built(store, &source, &[("m", module)]);
    let program = built.program.unwrap_or_else(|| panic!("{:?}", built.messages));
    (store.add(&program.encode()), program)
}

/// Hashes nothing, but mixes random bytes into what it copies, so that outputs differ by step.
fn mixing() -> String {
    module(
        "(func (export \"_start\") (local $from i32) (local $to i32) (local $got i32)
          (local.set $from (call $open (i32.const 3) (i32.const 16) (i32.const 2) (i32.const 0) (i64.const 2)))
          (local.set $got (call $read (local.get $from) (i32.const 1024) (i32.const 1000)))
          (call $check (call $random_get (i32.add (i32.const 1024) (local.get $got)) (i32.const 8)))
          (call $write (call $out) (i32.const 1024) (i32.add (local.get $got) (i32.const 8))))",
    )
}

#[test]
fn orders_threads_engines_and_caches_do_not_matter() {
    let mut keys = BTreeMap::new();
    let cache = tempfile::tempdir().expect("a directory");
    for (threads, seed, cached) in [
        (1, None, false),
        (1, Some(1), true),
        (2, Some(2), true),
        (4, Some(3), false),
        (8, Some(4), true),
    ] {
        let store = Memory::new();
        let runner = match cached {
            true => runner_with(CacheDir { dir: cache.path().to_owned(), key: [3; 32] }),
            false => runner(),
        };
        let program = layers(&store, 4, 5, &mixing());
        let x = store.add(b"the input");
        let how = How { threads, order_seed: seed, ..How::default() };
        let done = execute(&runner, &store, &program, &[("x", x)], how).expect("it runs");
        assert_eq!(done.steps_run, 20);
        assert_eq!(store.leftovers(), 0);
        keys.insert(done.receipt.key(), (threads, seed));
    }
    assert_eq!(keys.len(), 1, "{keys:?}");
}

/// Remembers steps, or a whole run.
#[derive(Default)]
struct Remembered {
    steps: BTreeMap<quipu_exec::key::StepKey, BTreeMap<String, Kept>>,
    run: Option<quipu_exec::receipt::Receipt>,
}

impl Known for Remembered {
    fn run(&self, key: quipu_exec::key::RunKey) -> Option<quipu_exec::receipt::Receipt> {
        self.run.clone().filter(|receipt| receipt.run_key() == key)
    }
    fn step(&self, key: quipu_exec::key::StepKey) -> Option<BTreeMap<String, Kept>> {
        self.steps.get(&key).cloned()
    }
}

#[test]
fn what_is_known_is_not_run_again_and_what_is_gone_is_healed() {
    let (store, runner) = (Memory::new(), runner());
    let program = layers(&store, 3, 4, &mixing());
    let x = store.add(b"the input");
    let inputs = [("x", x)];
    let first = execute(&runner, &store, &program, &inputs, How::default()).expect("it runs");
    let again = |known: &Remembered| {
        let how = How { known, threads: 2, ..How::default() };
        execute(&runner, &store, &program, &inputs, how)
    };
    let steps =
        || first.receipt.steps.values().map(|step| (step.key, step.outputs.clone())).collect();
    let by_run = Remembered { run: Some(first.receipt.clone()), ..Remembered::default() };
    let by_steps = Remembered { steps: steps(), ..Remembered::default() };
    for known in [&by_run, &by_steps] {
        let done = again(known).expect("it is known");
        assert_eq!((done.steps_run, done.steps_reused), (0, 12));
        assert_eq!(done.receipt, first.receipt);
    }
    // An inner result that nobody needs may be gone; if an output of the program is, its step runs, and
    // those before it whose results are gone, too.
    let inner = first.receipt.steps["l1n2"].outputs["out"].key;
    store.remove(inner);
    assert_eq!(again(&by_steps).expect("nobody needs it").steps_run, 0);
    store.remove(first.receipt.outputs["o2"].key);
    let healed = again(&by_run).expect("it heals");
    assert_eq!(healed.receipt, first.receipt);
    let done = again(&by_steps).expect("all are here");
    assert_eq!(done.steps_run, 0, "healed before");
    store.remove(inner);
    store.remove(first.receipt.outputs["o2"].key);
    let healed = again(&by_steps).expect("it heals");
    assert_eq!((healed.steps_run, healed.receipt.key()), (2, first.receipt.key()));
    assert_eq!(store.bytes(inner).len(), 25, "it is here again");
}

#[test]
fn a_known_result_that_was_a_lie_is_found_when_it_is_made_again() {
    let (store, runner) = (Memory::new(), runner());
    let source = "quipu-program = 1\n[inputs]\nx = {}\n[[steps]]\nid = \"s\"\nmodule = \"file:m\"\ninputs = { in = \"input:x\" }\noutputs = { out = {} }\n[outputs]\nout = \"s/out\"\n";
    let program = program(&store, source, &[("m", &copy())]);
    let x = store.add(b"x");
    let inputs = [("x", x)];
    let done = execute(&runner, &store, &program, &inputs, How::default()).expect("it runs");
    let lie = Kept { key: ArtifactId::of(b"nobody has this"), size: 15 };
    let outputs = [("out".to_owned(), lie)].into();
    let steps = [(done.receipt.steps["s"].key, outputs)].into();
    let known = Remembered { steps, run: None };
    let how = How { known: &known, ..How::default() };
    let error = execute(&runner, &store, &program, &inputs, how).expect_err("it differs");
    let text = error.to_string();
    assert!(
        text.contains("step \"s\", output \"out\"") && text.contains(&lie.key.to_string()),
        "{text}"
    );
}

#[test]
fn a_damaged_or_foreign_cache_file_is_compiled_again() {
    let dir = tempfile::tempdir().expect("a directory");
    let cache = |key| CacheDir { dir: dir.path().to_owned(), key: [key; 32] };
    let store = Memory::new();
    let program = one_step(&store, &module("(func (export \"_start\") (drop (call $out)))"), "");
    let compiled = |key| {
        let runner = runner_with(cache(key));
        execute(&runner, &store, &program, &[], How::default()).expect("it runs");
        execute(&runner, &store, &program, &[], How::default()).expect("it runs");
        runner.compiled()
    };
    assert_eq!(compiled(1), 1);
    assert_eq!(compiled(1), 0, "from the file");
    assert_eq!(compiled(2), 1, "somebody else's key");
    assert_eq!(compiled(2), 0);
    let file = std::fs::read_dir(dir.path()).expect("it is there").next().expect("a file");
    let path = file.expect("a file").path();
    let good = std::fs::read(&path).expect("it reads");
    for at in [0, good.len() / 2, good.len() - 1] {
        let mut bad = good.clone();
        bad[at] ^= 1;
        std::fs::write(&path, bad).expect("it writes");
        assert_eq!(compiled(2), 1, "a flipped bit at {at}");
    }
    std::fs::write(&path, &good[..good.len() / 2]).expect("it writes");
    assert_eq!(compiled(2), 1, "cut off");
    std::fs::write(&path, b"").expect("it writes");
    assert_eq!(compiled(2), 1, "empty");
    assert_eq!(compiled(2), 0);
}
