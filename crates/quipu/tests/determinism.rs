//! The same on two machines, whatever is different about them; and what happens where it is not (PEL-2, PEL-5).

mod common;
#[path = "../../quipu-exec/tests/common/modules.rs"]
mod modules;

use std::io::{BufRead, BufReader, Write};
use std::os::unix::net::UnixStream;
use std::sync::atomic::{AtomicU8, Ordering};

use common::data::text;
use common::{Machine, Ran, agree, temp, until};
use quipu_exec::Runner;
use quipu_exec::watch::Unwatched;
use quipu_node::api::{ApiError, ExitCode, Request, Sink};
use quipu_node::home::Home;
use quipu_run::{Ask, Wish, Workplace};
use serde_json::{Value, json};

/// Modules that are run.
const MODULES: usize = 200;

/// The founder `a`, and `b`, which is a member.
fn two(temp: &tempfile::TempDir) -> (Machine, Machine) {
    let mut a = Machine::found("a", temp.path());
    let invitation = a.serve();
    let mut b = Machine::joined("b", temp.path(), &invitation);
    b.serve();
    (a, b)
}

/// A program of one step for each module; its steps may fail, so each is a program of its own.
fn build(machine: &Machine, modules: &[Vec<u8>]) -> Vec<String> {
    let dir = machine.root.join("generated");
    std::fs::create_dir_all(&dir).unwrap();
    let mut programs = Vec::new();
    for (n, module) in modules.iter().enumerate() {
        std::fs::write(dir.join("module.wasm"), module).unwrap();
        let source = format!(
            "quipu-program = 1\nname = \"generated {n}\"\n[[steps]]\nid = \"s\"\nmodule = \"file:module.wasm\"\n\
             outputs = {{ stdout = {{}} }}\nlimits = {{ fuel = 1_000_000, memory = 2_097_152, output = 1_000_000 }}\n\
             [outputs]\no = \"s/stdout\"\n"
        );
        let file = dir.join("program.toml");
        std::fs::write(&file, source).unwrap();
        programs.push(text(&machine.one(["program", "build", file.to_str().unwrap()]), "key"));
    }
    programs
}

/// What a run came to: its receipt, or why there is none.
fn outcome(ran: &Ran) -> Result<String, String> {
    match ran.code {
        0 => Ok(text(&ran.items()[0], "receipt")),
        3 => {
            let error: Value = serde_json::from_str(ran.stderr.lines().last().unwrap()).unwrap();
            Err(text(&error, "error"))
        }
        code => panic!("exit code {code}: {}", ran.stderr),
    }
}

#[test]
fn generated_modules_give_the_same_on_two_machines() {
    let shape = wat::parse_str(modules::SHAPE).unwrap();
    let generated: Vec<Vec<u8>> =
        (0..).filter_map(|seed| modules::generated(seed, &shape)).take(MODULES).collect();
    let temp = temp();
    let (a, b) = two(&temp);
    let programs = build(&a, &generated);
    agree(&[&a, &b]);
    let here: Vec<_> =
        programs.iter().map(|program| outcome(&a.try_run(["run", program]))).collect();
    agree(&[&a, &b]);
    // In another order, with another idea of time, place and language; nothing that is known counts.
    let mut there = Vec::new();
    for program in programs.iter().rev() {
        let mut command = b.command();
        command.args(["--json", "run", program, "--force", "--threads", "7"]);
        command.env("TZ", "Pacific/Chatham").env("LC_ALL", "tr_TR.UTF-8").env("HOME", temp.path());
        there.push(outcome(&common::finish(command, b"")));
    }
    there.reverse();
    let well = here.iter().flatten().count();
    assert!(well > 20, "only {well} came to an end");
    for (n, (here, there)) in here.iter().zip(&there).enumerate() {
        assert_eq!(here, there, "module {n}");
    }
    agree(&[&a, &b]);
    let receipts = b.run(["receipts"]);
    assert_eq!(receipts.len(), 2 * well, "each machine has announced each");
    assert!(receipts.iter().all(|row| row["diverges"] == false));
}

/// A machine, through the socket of its daemon.
struct Socket {
    stream: BufReader<UnixStream>,
}

impl Ask for Socket {
    fn ask(&mut self, request: Request, sink: Sink<'_>) -> Result<(), ApiError> {
        let mut line = serde_json::to_value(request).unwrap();
        line["id"] = 1.into();
        writeln!(self.stream.get_mut(), "{line}")?;
        loop {
            let mut answer = String::new();
            self.stream.read_line(&mut answer)?;
            let answer: Value = serde_json::from_str(&answer).unwrap();
            if !answer["error"].is_null() {
                return Err(ApiError::new(ExitCode::Refused, answer["error"].to_string()));
            }
            match answer["item"].is_object() {
                true => sink(answer["item"].clone())?,
                false => return Ok(()),
            }
        }
    }
}

/// Writes a random byte, or what its standard input begins with.
fn writes(what: &str) -> Vec<u8> {
    let source = format!(
        r#"(module
  (import "wasi_snapshot_preview1" "random_get" (func $random (param i32 i32) (result i32)))
  (import "wasi_snapshot_preview1" "fd_read" (func $read (param i32 i32 i32 i32) (result i32)))
  (import "wasi_snapshot_preview1" "fd_write" (func $write (param i32 i32 i32 i32) (result i32)))
  (memory (export "memory") 1)
  (func (export "_start")
    (i32.store (i32.const 0) (i32.const 64))
    (i32.store (i32.const 4) (i32.const 1))
    {what}
    (drop (call $write (i32.const 1) (i32.const 0) (i32.const 1) (i32.const 8)))))"#
    );
    wat::parse_str(source).unwrap()
}

const SOURCE: &str = r#"
quipu-program = 1
[inputs]
x = {}
[[steps]]
id = "steady"
module = "file:steady.wasm"
inputs = { stdin = "input:x" }
outputs = { stdout = {} }
[[steps]]
id = "noise"
module = "file:noise.wasm"
inputs = { stdin = "steady/stdout" }
outputs = { stdout = {} }
[[steps]]
id = "after"
module = "file:steady.wasm"
inputs = { stdin = "noise/stdout" }
outputs = { stdout = {} }
[outputs]
y = "after/stdout"
"#;

/// A host whose random numbers are random: the production code but for that.
#[test]
fn a_host_that_is_not_deterministic_is_found_out() {
    static NEXT: AtomicU8 = AtomicU8::new(0);
    let temp = temp();
    let (a, b) = two(&temp);
    let dir = a.root.join("sources");
    std::fs::create_dir_all(&dir).unwrap();
    let read = "(drop (call $read (i32.const 0) (i32.const 0) (i32.const 1) (i32.const 8)))";
    let random = "(drop (call $random (i32.const 64) (i32.const 1)))";
    std::fs::write(dir.join("steady.wasm"), writes(read)).unwrap();
    std::fs::write(dir.join("noise.wasm"), writes(random)).unwrap();
    std::fs::write(dir.join("program.toml"), SOURCE).unwrap();
    let program =
        text(&a.one(["program", "build", dir.join("program.toml").to_str().unwrap()]), "key");
    let x = a.key_of(b"x");
    let first = a.one(["run", &program, "--input", &format!("x={x}")]);
    agree(&[&a, &b]);
    // b runs it with the bad host.
    let runner =
        Runner::new(None).unwrap().seeded_by(|_| [NEXT.fetch_add(1, Ordering::Relaxed); 32]);
    let home = Home::open(&b.dir).unwrap();
    let stream = UnixStream::connect(text(&b.ready, "socket")).unwrap();
    let socket = Socket { stream: BufReader::new(stream) };
    let place = Workplace::with_runner(&home, socket, runner).unwrap();
    let inputs = [("x".to_owned(), x.clone())].into();
    let wish = Wish { program: program.clone(), inputs, force: true, ..Wish::default() };
    let bad = place.run(&wish, &Unwatched).unwrap();
    assert!(!bad.counts, "two receipts of one run");
    assert_ne!(bad.receipt.to_string(), text(&first, "receipt"));
    agree(&[&a, &b]);
    for machine in [&a, &b] {
        until("both receipts are there", || {
            machine.run(["receipts"]).iter().any(|row| row["first_difference"].is_object())
        });
        let rows = machine.run(["receipts"]);
        assert!(rows.iter().all(|row| row["diverges"] == true), "{rows:?}");
        let differs = rows.iter().find(|row| row["first_difference"].is_object()).unwrap();
        assert_eq!(differs["first_difference"]["step"], "noise", "not the one after it");
    }
    // Who is right is found by running it again.
    assert_eq!(a.one(["receipt", "verify", &text(&first, "receipt")])["ok"], true);
    let verified = a.try_run(["receipt", "verify", &bad.receipt.to_string()]);
    assert_eq!(verified.code, 1, "{}", verified.stderr);
    assert_eq!(verified.items()[0]["first_difference"]["step"], json!("noise"));
}
