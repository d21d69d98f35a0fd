//! Programs as a user has them: built, run, reused, checked, across machines and domains (PEL-1 to PEL-11).

mod common;

use common::data::{refused, text};
use common::programs::{NEXT, built, steps, written};
use common::{Machine, Ran, agree, temp, until};
use data_encoding::{BASE64_NOPAD, HEXLOWER};
use quipu_exec::receipt::{Kept, Receipt};
use serde_json::{Value, json};

/// Never ends.
const LOOP: &str = r#"(module (memory (export "memory") 1)
  (func (export "_start") (loop $again (br $again))))"#;

/// Two steps, one after the other.
const TWICE: &str = r#"
quipu-program = 1
name = "twice the next"

[inputs]
text = {}

[[steps]]
id = "first"
module = "file:next.wasm"
inputs = { stdin = "input:text" }
outputs = { stdout = "text/plain" }

[[steps]]
id = "second"
module = "file:next.wasm"
inputs = { stdin = "first/stdout" }
outputs = { stdout = "text/plain" }

[outputs]
result = "second/stdout"
"#;

fn twice(machine: &Machine) -> String {
    built(machine, TWICE, &[("next.wasm", NEXT)])
}

fn run(machine: &Machine, program: &str, input: &str) -> Value {
    machine.one(["run", program, "--input", &format!("text={input}")])
}

fn problem(ran: &Ran) -> Value {
    assert_eq!(ran.code, 1, "{} {}", ran.stdout, ran.stderr);
    ran.items()[0].clone()
}

#[test]
fn a_run_is_done_once() {
    let temp = temp();
    let a = Machine::found("a", temp.path());
    let (program, input) = (twice(&a), a.key_of(b"HAL"));
    let first = run(&a, &program, &input);
    assert_eq!(steps(&first), (2, 0));
    assert_eq!(first["counts"], true);
    let result = text(&first["outputs"]["result"], "key");
    assert!(a.get(&result) == b"JCN");
    let again = run(&a, &program, &input);
    assert_eq!((steps(&again), &again["receipt"]), ((0, 2), &first["receipt"]));
    // A later snapshot changes nothing, and neither does running it all again.
    a.emit("something else");
    a.run(["snapshot", "create"]);
    assert_eq!(steps(&run(&a, &program, &input)), (0, 2));
    let forced =
        a.one(["run", &program, "--input", &format!("text={input}"), "--force", "--threads", "3"]);
    assert_eq!((steps(&forced), &forced["receipt"]), ((2, 0), &first["receipt"]));
    assert_eq!(a.run(["receipts"]).len(), 1);
    // What the second step made of HAL's next is what the first makes of IBM.
    let other = run(&a, &program, &a.key_of(b"IBM"));
    assert_eq!(steps(&other), (1, 1));
    let shown = a.one(["receipt", "show", &text(&first, "receipt")]);
    assert_eq!(shown["inputs"]["text"], input.as_str());
    assert_eq!(shown["program"], program.as_str());
    let verified = a.one(["receipt", "verify", &text(&first, "receipt")]);
    assert_eq!((&verified["ok"], &verified["first_difference"]), (&true.into(), &Value::Null));
    assert_eq!(a.run(["audit"]).len(), 2);
    let lineage = a.one(["lineage", &result, "--format", "json"]);
    let kinds = |kind: &str| {
        lineage["nodes"].as_array().unwrap().iter().filter(|node| node["kind"] == kind).count()
    };
    assert_eq!((kinds("step"), kinds("machine")), (2, 1));
    a.verify_clean();
}

#[test]
fn a_receipt_answers_on_another_node() {
    let temp = temp();
    let mut a = Machine::found("a", temp.path());
    let invitation = a.serve();
    let mut b = Machine::joined("b", temp.path(), &invitation);
    b.serve();
    let (program, input) = (twice(&a), a.key_of(b"HAL"));
    let first = run(&a, &program, &input);
    agree(&[&a, &b]);
    until("the receipt arrives", || {
        b.run(["receipts"]).first().is_some_and(|row| row["have"] == true)
    });
    let there = run(&b, &program, &input);
    assert_eq!((steps(&there), &there["receipt"]), ((0, 2), &first["receipt"]));
    assert_eq!(there["nodes"], 1, "who uses a receipt does not witness it");
    // Whoever runs it again gets the same receipt: that is what receipts are for.
    let forced = b.one(["run", &program, "--input", &format!("text={input}"), "--force"]);
    assert_eq!((steps(&forced), &forced["receipt"]), ((2, 0), &first["receipt"]));
    assert_eq!(forced["nodes"], 2);
}

/// Somebody whose machine gives something else: both are told everywhere, and neither is an answer.
#[test]
fn receipts_that_contradict_each_other_are_flagged() {
    let temp = temp();
    let mut a = Machine::found("a", temp.path());
    let invitation = a.serve();
    let mut b = Machine::joined("b", temp.path(), &invitation);
    b.serve();
    let (program, input) = (twice(&a), a.key_of(b"HAL"));
    let first = run(&a, &program, &input);
    let shown = a.one(["receipt", "show", &text(&first, "receipt")]);
    // The same receipt, with another output of the second step.
    let other = b.key_of(b"???");
    let path = a.root.join("receipt");
    a.one(["get", &text(&first, "receipt"), "-o", path.to_str().unwrap()]);
    let mut receipt = Receipt::decode(&std::fs::read(&path).unwrap()).unwrap();
    let lie = Kept { key: other.parse().unwrap(), size: 3 };
    receipt.steps.get_mut("second").unwrap().outputs.insert("stdout".to_owned(), lie);
    receipt.outputs.insert("result".to_owned(), lie);
    let forged = text(&b.put(&receipt.encode(), None), "key");
    agree(&[&a, &b]);
    let made = |key: &str, size: u64| json!({ "key": key, "size": size });
    let ran = json!({
        "run": shown["run"], "receipt": made(&forged, receipt.encode().len() as u64),
        "outputs": [made(&other, 3)], "used": [input, program],
    });
    let said = common::data::ask(&b, "record_run", &ran);
    assert_eq!(said["receipt"], forged.as_str());
    agree(&[&a, &b]);
    for machine in [&a, &b] {
        let flagged = || {
            let rows = machine.run(["receipts"]);
            rows.iter().any(|row| row["first_difference"].is_object())
        };
        until("both receipts are there", flagged);
        let rows = machine.run(["receipts"]);
        assert!(rows.iter().all(|row| row["diverges"] == true), "{rows:?}");
        let differs = rows.iter().find(|row| row["first_difference"].is_object()).unwrap();
        assert_eq!(differs["first_difference"]["step"], "second");
        assert_eq!(differs["first_difference"]["output"], "stdout");
    }
    let again = problem(&a.try_run(["run", &program, "--input", &format!("text={input}")]));
    assert_eq!((steps(&again), &again["diverges"]), ((2, 0), &true.into()));
    let verified = problem(&a.try_run(["receipt", "verify", &forged]));
    assert_eq!(verified["first_difference"]["step"], "second");
    assert_eq!(a.try_run(["audit"]).code, 1);
}

#[test]
fn several_must_agree() {
    let temp = temp();
    let mut a = Machine::found("a", temp.path());
    let invitation = a.serve();
    let mut b = Machine::joined("b", temp.path(), &invitation);
    b.serve();
    let (program, input) = (twice(&a), a.key_of(b"HAL"));
    a.run(["roster", "set", &a.node(), &b.node()]);
    let wanted = |machine: &Machine| {
        let input = format!("text={input}");
        machine.try_run(["run", &program, "--input", &input, "--require-receipts", "2"])
    };
    let alone = problem(&wanted(&a));
    assert_eq!((&alone["counts"], &alone["of_roster"]), (&false.into(), &1.into()));
    agree(&[&a, &b]);
    until("b knows the roster", || b.run(["roster"]).len() == 2);
    // To use it is not to witness it.
    assert_eq!(steps(&run(&b, &program, &input)), (0, 2));
    assert_eq!(b.run(["receipts"]).len(), 1);
    let both = wanted(&b);
    assert_eq!(both.code, 0, "{}", both.stderr);
    assert_eq!(steps(&both.items()[0]), (2, 0), "a witness believes nobody");
    agree(&[&a, &b]);
    let now = wanted(&a);
    assert_eq!((now.code, steps(&now.items()[0])), (0, (0, 2)));
    // Only an admin fixes the roster.
    refused(&b.try_run(["roster", "set", &b.node()]), 3, &["admin"]);
}

/// Counts for some seconds, then copies one byte.
const SLOW: &str = r#"(module
  (import "wasi_snapshot_preview1" "fd_write"
    (func $write (param i32 i32 i32 i32) (result i32)))
  (memory (export "memory") 1)
  (data (i32.const 64) "!")
  (func (export "_start") (local $n i64)
    (loop $more
      (local.set $n (i64.add (local.get $n) (i64.const 1)))
      (br_if $more (i64.lt_u (local.get $n) (i64.const 2000000000))))
    (i32.store (i32.const 0) (i32.const 64))
    (i32.store (i32.const 4) (i32.const 1))
    (drop (call $write (i32.const 1) (i32.const 0) (i32.const 1) (i32.const 8)))))"#;

/// A machine asks, and others run it; the one that began is killed, and another one takes over.
#[test]
fn others_run_it_and_one_may_die() {
    let temp = temp();
    let mut a = Machine::found("a", temp.path());
    let invitation = a.serve();
    let mut others = ["b", "c"].map(|name| Machine::joined(name, temp.path(), &invitation));
    others.iter_mut().for_each(|machine| drop(machine.serve_with(&["--work"])));
    let (program, key) = (twice(&a), a.key_of(b"HAL"));
    let input = format!("text={key}");
    until("both offer themselves", || common::data::ask_rows(&a, "offers", &json!({})).len() == 2);
    let row = a.one(["run", &program, "--input", &input, "--elsewhere"]);
    assert_eq!((&row["steps_run"], &row["counts"]), (&0.into(), &true.into()));
    assert!(a.get(&text(&row["outputs"]["result"], "key")) == b"JCN");
    let rows = a.run(["receipts", "--steps"]);
    let of = |scope: &str| rows.iter().filter(|row| row["scope"] == scope).count();
    assert!(of("step") >= 2 && of("run") + of("assembled") >= 1, "{rows:?}");
    assert!(rows.iter().all(|row| row["node"] != a.node()), "not by the one who asked");

    let slow = TWICE.replace("next.wasm", "slow.wasm").replace(
        "inputs = { stdin = \"input:text\" }",
        "inputs = { stdin = \"input:text\" }\nlimits = { fuel = 100000000000 }",
    );
    let slow = built(&a, &slow, &[("slow.wasm", SLOW)]);
    let before = a.run(["log", "--kind", "run.claim"]).len();
    let asking = asking(&a, &slow, &[("text", &key)], &[]);
    let claims = || {
        let claims = a.run(["log", "--kind", "run.claim"]);
        claims[before..].iter().map(|row| text(row, "author")).collect::<Vec<_>>()
    };
    until("somebody works on it", || !claims().is_empty());
    let first = claims()[0].clone();
    others.iter_mut().find(|machine| machine.node() == first).unwrap().kill();
    let ran = asking.join().unwrap();
    assert_eq!(ran.code, 0, "{}", ran.stderr);
    let nodes = claims();
    assert!(nodes.contains(&first) && nodes.iter().any(|node| *node != first), "{nodes:?}");
    assert!(a.get(&text(&ran.items()[0]["outputs"]["result"], "key")) == b"!");
    // Where nobody works, nobody is waited for longer than asked.
    others.iter_mut().for_each(Machine::kill);
    let more = format!("text={}", a.key_of(b"more"));
    let nobody = a.try_run(["run", &program, "--input", &more, "--elsewhere", "--wait", "1s"]);
    refused(&nobody, 5, &["nobody has run it", "--work"]);
}

/// Where two machines of the roster have to agree, each runs all of it, and nothing is shared.
#[test]
fn several_others_must_agree() {
    let temp = temp();
    let mut a = Machine::found("a", temp.path());
    let invitation = a.serve();
    let mut others = ["b", "c"].map(|name| Machine::joined(name, temp.path(), &invitation));
    others.iter_mut().for_each(|machine| drop(machine.serve_with(&["--work"])));
    let (program, input) = (twice(&a), a.key_of(b"HAL"));
    a.run(["roster", "set", &others[0].node(), &others[1].node()]);
    let more = ["--require-receipts", "2", "--wait", "1m"];
    let ran = asking(&a, &program, &[("text", &input)], &more).join().unwrap();
    assert_eq!(ran.code, 0, "{}", ran.stderr);
    let row = &ran.items()[0];
    assert_eq!((&row["of_roster"], &row["counts"]), (&2.into(), &true.into()), "{row}");
    let rows = a.run(["receipts", "--steps"]);
    assert!(rows.iter().all(|row| row["scope"] == "run"), "{rows:?}");
}

/// Somebody announces a receipt of a step that is none, and too large for one: others do the step all the same.
#[test]
fn what_is_no_receipt_of_a_step_stops_nobody() {
    let temp = temp();
    let mut a = Machine::found("a", temp.path());
    let invitation = a.serve();
    let mut b = Machine::joined("b", temp.path(), &invitation);
    b.serve_with(&["--work"]);
    let (program, input) = (twice(&a), a.key_of(b"HAL"));
    // The key of its first step, from a run of it that only a third machine knows.
    let elsewhere = Machine::found("elsewhere", temp.path());
    let known = {
        let (program, input) = (twice(&elsewhere), elsewhere.key_of(b"HAL"));
        let receipt = text(&run(&elsewhere, &program, &input), "receipt");
        elsewhere.one(["receipt", "show", &receipt])
    };
    let step = text(&known["steps"]["first"], "key");
    let large = vec![0; (64 << 20) + 1];
    let junk = text(&a.put(&large, None), "key");
    let ran = json!({
        "run": step, "receipt": { "key": junk, "size": large.len() }, "outputs": [], "used": [], "scope": "step",
    });
    common::data::ask(&a, "record_run", &ran);
    agree(&[&a, &b]);
    // One run cannot go on, since that is announced for its step; another one does.
    let stuck = asking(&a, &program, &[("text", &input)], &["--wait", "3s"]);
    let other = a.key_of(b"IBM");
    let ran = asking(&a, &program, &[("text", &other)], &["--wait", "1m"]).join().unwrap();
    assert_eq!(ran.code, 0, "{}", ran.stderr);
    assert!(a.get(&text(&ran.items()[0]["outputs"]["result"], "key")) == b"KDO");
    drop(stuck.join().unwrap());
}

/// Both inputs raised by one, each where it is and where somebody has the label, then put together; and
/// something slow that takes both.
const APART: &str = r#"
quipu-program = 1

[inputs]
x = {}
y = {}

[[steps]]
id = "left"
module = "file:next.wasm"
labels = ["left"]
inputs = { stdin = "input:x" }
outputs = { stdout = {} }

[[steps]]
id = "right"
module = "file:next.wasm"
labels = ["right"]
inputs = { stdin = "input:y" }
outputs = { stdout = {} }

[[steps]]
id = "both"
operator = "concat"
inputs = { a = "left/stdout", b = "right/stdout" }
outputs = { out = {} }

[outputs]
result = "both/out"
"#;

/// Bytes in a payload, as keys are written.
fn hex(bytes: &Value) -> String {
    let bytes = text(&bytes["/"], "bytes");
    HEXLOWER.encode(&BASE64_NOPAD.decode(bytes.as_bytes()).unwrap())
}

/// Asks for a run on others, in the background.
fn asking(
    machine: &Machine,
    program: &str,
    inputs: &[(&str, &str)],
    more: &[&str],
) -> std::thread::JoinHandle<Ran> {
    let mut command = machine.command();
    command.args(["--json", "run", program, "--elsewhere"]).args(more);
    for (name, key) in inputs {
        command.args(["--input", &format!("{name}={key}")]);
    }
    std::thread::spawn(move || common::finish(command, b""))
}

/// Machines that keep what they have, each with one input and one label: each step runs where it can.
#[test]
fn steps_run_where_their_inputs_are() {
    let temp = temp();
    let mut a = Machine::found("a", temp.path());
    let invitation = a.serve_with(&["--artifacts", "none"]);
    let mut others = ["b", "c"].map(|name| Machine::joined(name, temp.path(), &invitation));
    for (machine, label) in others.iter_mut().zip(["left", "right"]) {
        machine.serve_with(&["--artifacts", "none", "--work", "--work-label", label]);
    }
    let [b, c] = &others;
    let program = built(&a, APART, &[("next.wasm", NEXT)]);
    let (x, y) = (b.key_of(b"HAL"), c.key_of(b"@@@"));
    agree(&[&a, b, c]);
    let ran =
        asking(&a, &program, &[("x", &x), ("y", &y)], &["--watch", "--wait", "1m"]).join().unwrap();
    assert_eq!(ran.code, 0, "{}", ran.stderr);
    let lines = ran.items();
    let (result, news) = lines.split_last().unwrap();
    assert!(a.get(&text(&result["outputs"]["result"], "key")) == b"IBMAAA");
    let done = |step: &str| {
        let done = news.iter().find(|row| row["step"] == step && row["state"] == "done");
        text(done.unwrap_or_else(|| panic!("{step}: {news:?}")), "node")
    };
    assert_eq!((done("left"), done("right")), (b.node(), c.node()), "{news:?}");
    assert!([b.node(), c.node()].contains(&done("both")));
    // The receipt is that of anybody who runs all of it.
    let input = |name: &str, key: &str| format!("{name}={key}");
    let alone =
        a.one(["run", &program, "--input", &input("x", &x), "--input", &input("y", &y), "--force"]);
    assert_eq!((steps(&alone), &alone["receipt"]), ((3, 0), &result["receipt"]));
    assert_eq!((&result["nodes"], &alone["nodes"]), (&0.into(), &1.into()), "put together by none");
    // Whoever has run one step of it, or put it together, runs the others before it says that it has run all.
    let more = b.key_of(b"more");
    agree(&[&a, b, c]);
    let (first, second) = (input("x", &x), input("y", &more));
    let partly = b.one(["run", &program, "--input", &first, "--input", &second]);
    assert_eq!(steps(&partly), (2, 1), "its own step is known to it");
    // Each step can be checked on its own.
    let of_steps = a.run(["receipts", "--steps"]);
    let of_steps: Vec<&Value> = of_steps.iter().filter(|row| row["scope"] == "step").collect();
    assert!(of_steps.len() >= 3, "{of_steps:?}");
    for row in of_steps {
        let verified = a.one(["receipt", "verify", &text(row, "receipt")]);
        assert_eq!((&verified["ok"], &verified["steps_run"]), (&true.into(), &1.into()));
    }
    assert_eq!(a.run(["receipts"]).iter().filter(|row| row["scope"] == "step").count(), 0);
}

/// One of the machines dies in the middle, and with it what an earlier step of its gave: others do both.
#[test]
fn a_machine_dies_in_the_middle_of_a_shared_run() {
    let temp = temp();
    let mut a = Machine::found("a", temp.path());
    let invitation = a.serve_with(&["--artifacts", "none"]);
    let mut others = ["b", "c", "d"].map(|name| Machine::joined(name, temp.path(), &invitation));
    let labels = [&["left", "right"][..], &["right", "end"], &["end"]];
    for (machine, labels) in others.iter_mut().zip(labels) {
        let mut arguments = vec!["--artifacts", "none", "--work"];
        labels.iter().for_each(|label| arguments.extend(["--work-label", label]));
        machine.serve_with(&arguments);
    }
    let source = APART.replace(
        "operator = \"concat\"",
        "module = \"file:slow.wasm\"\nlabels = [\"end\"]\nlimits = { fuel = 100000000000 }",
    );
    let source = source.replace("outputs = { out = {} }", "outputs = { stdout = {} }");
    let source = source.replace("both/out", "both/stdout");
    let program = built(&a, &source, &[("next.wasm", NEXT), ("slow.wasm", SLOW)]);
    let (x, y) = (others[0].key_of(b"HAL"), others[1].key_of(b"@@@"));
    assert_eq!(a.key_of(b"@@@"), y);
    agree(&[&a, &others[0], &others[1], &others[2]]);
    let run = asking(&a, &program, &[("x", &x), ("y", &y)], &["--watch", "--wait", "1m"]);
    // What the log says of the slow step: a claim of a step that is not one of the first two.
    let claims = || {
        let mut claims = a.run(["log", "--kind", "run.claim"]);
        let known: Vec<String> =
            a.run(["receipts", "--steps"]).iter().map(|row| text(row, "run")).collect();
        claims.retain(|row| !known.contains(&hex(&row["payload"]["step"])));
        claims
    };
    let slow = || {
        (a.run(["receipts", "--steps"]).len() == 2)
            .then(claims)
            .and_then(|list| list.first().cloned())
    };
    until("somebody works on the slow step", || slow().is_some());
    let first = text(&slow().unwrap(), "author");
    others.iter_mut().find(|machine| machine.node() == first).expect("a worker").kill();
    let ran = run.join().unwrap();
    assert_eq!(ran.code, 0, "{}", ran.stderr);
    let lines = ran.items();
    let (result, news) = lines.split_last().unwrap();
    assert!(a.get(&text(&result["outputs"]["result"], "key")) == b"!");
    let of_slow = |state: &str| {
        let mut rows = news.iter().filter(|row| row["step"] == "both" && row["state"] == state);
        rows.next().unwrap_or_else(|| panic!("{state}: {news:?}"))
    };
    assert_eq!(text(of_slow("claimed"), "node"), first, "{news:?}");
    let done = of_slow("done");
    assert_ne!(text(done, "node"), first, "{news:?}");
}

/// A step that fails wherever it runs ends the asking, and says why; one that nobody can run is named.
#[test]
fn what_fails_on_others_is_said() {
    let temp = temp();
    let mut a = Machine::found("a", temp.path());
    let invitation = a.serve();
    let mut b = Machine::joined("b", temp.path(), &invitation);
    b.serve_with(&["--work"]);
    let (x, y) = (a.key_of(b"HAL"), a.key_of(b"@@@"));
    let endless = TWICE.replace("next.wasm", "loop.wasm").replace(
        "outputs = { stdout = \"text/plain\" }",
        "outputs = { stdout = \"text/plain\" }\nlimits = { fuel = 1000000 }",
    );
    let endless = built(&a, &endless, &[("loop.wasm", LOOP)]);
    let ran = asking(&a, &endless, &[("text", &x)], &[]).join().unwrap();
    refused(&ran, 3, &["first", "every machine", "fuel"]);
    let apart = built(&a, APART, &[("next.wasm", NEXT)]);
    let ran = asking(&a, &apart, &[("x", &x), ("y", &y)], &["--wait", "2s"]).join().unwrap();
    refused(&ran, 5, &["no machine offers", "right"]);
}

#[test]
fn outputs_that_are_gone_are_made_again() {
    let temp = temp();
    let a = Machine::found("a", temp.path());
    let (program, input) = (twice(&a), a.key_of(b"HAL"));
    let first = run(&a, &program, &input);
    let result = text(&first["outputs"]["result"], "key");
    let files = common::files_under(&a.dir.join(".quipu/artifacts"));
    let gone: Vec<_> = files.iter().filter(|file| file.ends_with(&result)).collect();
    assert!(!gone.is_empty(), "{files:?}");
    gone.iter().for_each(|file| std::fs::remove_file(file).unwrap());
    let healed = run(&a, &program, &input);
    assert!(healed["steps_run"].as_u64() > Some(0), "{healed}");
    assert_eq!(healed["receipt"], first["receipt"]);
    assert!(a.get(&result) == b"JCN");
}

#[test]
fn a_recorded_run_with_other_inputs_is_an_error() {
    let temp = temp();
    let a = Machine::found("a", temp.path());
    let (program, input) = (twice(&a), a.key_of(b"HAL"));
    let receipt = text(&run(&a, &program, &input), "receipt");
    assert_eq!(steps(&a.one(["run", &receipt])), (0, 2));
    let other = format!("text={}", a.key_of(b"other"));
    let ran = a.try_run(["run", &receipt, "--input", &other]);
    refused(&ran, 3, &[&receipt, "text", "--recompute"]);
    let noted = a.run(["log", "--kind", "program.inputs-differ"]);
    assert_eq!(noted[0]["payload"]["inputs"][0]["name"], "text");
    let recomputed = a.one(["run", &receipt, "--input", &other, "--recompute"]);
    assert_eq!(steps(&recomputed), (2, 0));
    assert_ne!(recomputed["receipt"], receipt.as_str());
}

#[test]
fn queries_are_inputs() {
    let source = r#"
quipu-program = 1
[[steps]]
id = "notes"
query = { operator = "projection", parameters = { fields = ["kind"] }, of = [{ operator = "segment-scan", parameters = { kind = "app.note" } }] }
outputs = { rows = "application/x-ndjson" }

[[steps]]
id = "next"
module = "file:next.wasm"
inputs = { stdin = "notes/rows" }
outputs = { stdout = {} }

[outputs]
result = "next/stdout"
"#;
    let temp = temp();
    let a = Machine::found("a", temp.path());
    let program = built(&a, source, &[("next.wasm", NEXT)]);
    a.emit("one");
    a.one(["snapshot", "create", "--name", "then"]);
    let first = a.one(["run", &program, "--snapshot", "then"]);
    let result = a.get(&text(&first["outputs"]["result"], "key"));
    let rows: Vec<u8> = result.iter().map(|byte| byte.wrapping_sub(1)).collect();
    assert_eq!(String::from_utf8(rows).unwrap(), "{\"kind\":\"app.note\"}\n");
    a.emit("two");
    // The snapshot answers the same, so nothing runs; the present does not.
    assert_eq!(a.one(["run", &program, "--snapshot", "then"])["steps_run"], 0);
    assert_eq!(a.one(["run", &program])["steps_run"], 1);
}

#[test]
fn what_is_wrong_is_said() {
    let temp = temp();
    let a = Machine::found("a", temp.path());
    let input = a.key_of(b"HAL");
    let wrong = TWICE.replace("first/stdout", "second/stdout");
    let file = written(&a, &wrong, &[("next.wasm", NEXT), ("loop.wasm", LOOP)]);
    let ran = a.try_run(["program", "build", file.to_str().unwrap()]);
    refused(&ran, 3, &["no program"]);
    assert!(
        ran.stderr.contains("program.toml:") && ran.stderr.contains("second"),
        "{}",
        ran.stderr
    );
    refused(&a.try_run(["run", &"b".repeat(30)]), 4, &["no artifact"]);
    refused(&a.try_run(["run", &input]), 3, &[&input]);
    let program = twice(&a);
    refused(&a.try_run(["run", &program]), 2, &["text"]);
    let other = format!("other={input}");
    refused(&a.try_run(["run", &program, "--input", &other]), 2, &["other"]);
    let endless = TWICE.replace("next.wasm", "loop.wasm").replace(
        "outputs = { stdout = \"text/plain\" }",
        "outputs = { stdout = \"text/plain\" }\nlimits = { fuel = 1000000 }",
    );
    let endless = built(&a, &endless, &[]);
    let text_input = format!("text={input}");
    refused(&a.try_run(["run", &endless, "--input", &text_input]), 3, &["first", "fuel"]);
    assert_eq!(a.run(["receipts"]), Vec::<Value>::new());
    refused(&a.try_run(["receipt", "verify", &input]), 3, &[&input]);
    assert_eq!(a.run(["roster"]), Vec::<Value>::new());
    assert_eq!(a.one(["status"])["domain"], json!(a.one(["id"])["domain"]));
    a.verify_clean();
}
