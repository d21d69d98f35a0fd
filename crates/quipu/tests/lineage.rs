//! Lineage and receipts across domains, and what other people's tools make of it (PEL-4, PEL-8, DOM-8).

mod common;

use std::path::Path;
use std::process::Command;

use common::data::{noise, text};
use common::programs::{NEXT, built, steps};
use common::published::{digest_of, follow_ticket, id_of, within};
use common::tools::{installed, repository};
use common::{Machine, files_under, temp, until};
use serde_json::Value;

/// One step: everything raised by one.
const RAISED: &str = r#"
quipu-program = 1
[inputs]
hidden-well-readings = {}
[[steps]]
id = "raise-the-wells"
module = "file:next.wasm"
inputs = { stdin = "input:hidden-well-readings" }
outputs = { stdout = {} }
[outputs]
raised = "raise-the-wells/stdout"
"#;

/// Two steps: raised, then put together with something else.
const JOINED: &str = r#"
quipu-program = 1
[inputs]
theirs = {}
ours = {}
[[steps]]
id = "raise"
module = "file:next.wasm"
inputs = { stdin = "input:theirs" }
outputs = { stdout = {} }
[[steps]]
id = "join"
operator = "concat"
inputs = { a = "raise/stdout", b = "input:ours" }
outputs = { out = {} }
[outputs]
joined = "join/out"
"#;

fn domain(name: &'static str, root: &Path) -> Machine {
    let mut machine = Machine::found(name, root);
    machine.serve();
    machine
}

fn run(machine: &Machine, program: &str, inputs: &[(&str, &str)]) -> Value {
    let mut arguments = vec!["run".to_owned(), program.to_owned()];
    for (name, key) in inputs {
        arguments.extend(["--input".to_owned(), format!("{name}={key}")]);
    }
    machine.one(arguments)
}

fn output(row: &Value, name: &str) -> String {
    text(&row["outputs"][name], "key")
}

/// The module of the first step of a program.
fn module(machine: &Machine, program: &str) -> String {
    let shown = machine.one(["program", "show", program]);
    let steps = shown["steps"].as_object().unwrap();
    let module = steps.values().find_map(|step| step["module"]["/"].as_str());
    module.expect("a step runs a module").to_owned()
}

fn nodes<'l>(lineage: &'l Value, kind: &str) -> Vec<&'l Value> {
    lineage["nodes"].as_array().unwrap().iter().filter(|node| node["kind"] == kind).collect()
}

fn all_bytes(machine: &Machine) -> Vec<u8> {
    let files = files_under(&machine.dir);
    files.iter().flat_map(|file| std::fs::read(file).unwrap_or_default()).collect()
}

/// Other people's tools read the same lineage as PROV and as an in-toto statement with a good signature.
fn others_read_it(machine: &Machine, key: &str) {
    let Some(place) = installed("attest", "tests/tools/setup") else { return };
    let out = machine.root.join("attest");
    std::fs::create_dir_all(&out).unwrap();
    let prov = machine.one(["lineage", key, "--format", "prov-json"]);
    let records: usize = prov
        .as_object()
        .unwrap()
        .iter()
        .filter(|(name, _)| *name != "prefix")
        .map(|(_, list)| list.as_object().map_or(0, serde_json::Map::len))
        .sum();
    assert!(records > 8, "{prov}");
    std::fs::write(out.join("prov.json"), prov.to_string()).unwrap();
    let envelope = machine.one(["lineage", key, "--format", "in-toto"]);
    std::fs::write(out.join("envelope.json"), envelope.to_string()).unwrap();
    std::fs::write(out.join("key.txt"), machine.node()).unwrap();
    let mut python = Command::new(place.join("bin/python"));
    python.arg(repository().join("tests/attest/check.py")).arg(&out).arg(records.to_string());
    let ran = python.output().unwrap();
    assert!(ran.status.success(), "{}", String::from_utf8_lossy(&ran.stderr));
}

#[test]
fn through_three_domains_with_something_blinded() {
    let temp = temp();
    let [a, b, c] = ["a", "b", "c"].map(|name| domain(name, temp.path()));
    let [at_a, at_b] = [&a, &b].map(id_of);
    // A shows what came of a run, and neither the program nor what it took.
    let readings = a.key_of(&noise(1, 5_000));
    let program_a = built(&a, RAISED, &[("next.wasm", NEXT)]);
    let ran_a = run(&a, &program_a, &[("hidden-well-readings", &readings)]);
    let raised = output(&ran_a, "raised");
    a.run(["publish", &raised, "--with-lineage"]);
    // B goes on from there, and shows its program, but not all that it took.
    b.one(["follow", &follow_ticket(&a)]);
    b.one(["import", &at_a, &raised]);
    let ours = b.key_of(&noise(2, 700));
    let program_b = built(&b, JOINED, &[("next.wasm", NEXT)]);
    let ran_b = run(&b, &program_b, &[("theirs", &raised), ("ours", &ours)]);
    let joined = output(&ran_b, "joined");
    b.run(["publish", &joined, &program_b, &module(&b, &program_b), "--with-lineage"]);
    // C goes on from there.
    c.one(["follow", &follow_ticket(&b)]);
    c.one(["follow", &follow_ticket(&a)]);
    c.one(["import", &at_b, &joined]);
    let program_c = built(&c, RAISED, &[("next.wasm", NEXT)]);
    let ran_c = run(&c, &program_c, &[("hidden-well-readings", &joined)]);
    let last = output(&ran_c, "raised");

    let lineage = c.one(["lineage", &last, "--format", "json"]);
    let of = |label: &str| {
        let found: Vec<_> =
            nodes(&lineage, "step").into_iter().filter(|node| node["label"] == label).collect();
        assert_eq!(found.len(), 1, "{label}: {lineage:#}");
        text(found[0], "id")
    };
    let edge = |from: &str, to: &str| {
        let edges = lineage["edges"].as_array().unwrap();
        let found = edges.iter().find(|edge| edge["from"] == from && edge["to"] == to);
        found.unwrap_or_else(|| panic!("{from} to {to}: {lineage:#}")).clone()
    };
    let artifact = |key: &str| format!("artifact:{key}");
    // C's own step is whole; B's have their names; A's run is one thing.
    let (own, raise, join, run_a) = (of("raise-the-wells"), of("raise"), of("join"), of("a run"));
    assert_eq!(edge(&own, &artifact(&last))["as"], "stdout");
    edge(&artifact(&joined), &own);
    assert_eq!(edge(&join, &artifact(&joined))["as"], "out");
    assert_eq!(edge(&artifact(&raised), &raise)["as"], "stdin");
    edge(&run_a, &artifact(&raised));
    // In the middle: what B's first step gave, and what B kept to itself; before all, what A did.
    assert!(nodes(&lineage, "blinded").len() >= 4, "{lineage:#}");
    let into_join =
        lineage["edges"].as_array().unwrap().iter().filter(|edge| edge["to"] == join.as_str());
    let into_join: Vec<_> = into_join.collect();
    assert_eq!(into_join.len(), 2);
    for edge in into_join {
        assert!(text(edge, "from").starts_with("blinded:"), "{edge}");
    }
    let domains = |key: &str| {
        let all = nodes(&lineage, "artifact");
        text(all.into_iter().find(|node| node["key"] == key).unwrap(), "domain")
    };
    assert_eq!((domains(&raised), domains(&joined)), (at_a, at_b.clone()));
    others_read_it(&c, &last);

    // Nothing of what A and B kept to themselves is with C, nor a hash by which it could be guessed.
    let bytes = all_bytes(&c);
    assert!(within(&bytes, &digest_of(&joined)), "the search finds what is there");
    let run_of = |machine: &Machine, ran: &Value| {
        let run = text(ran, "run");
        let shown = machine.one(["receipt", "show", &text(ran, "receipt")]);
        let steps = shown["steps"].as_object().unwrap().values().map(|step| text(step, "key"));
        steps.chain([run]).collect::<Vec<_>>()
    };
    for key in [&readings, &program_a, &ours, &text(&ran_a, "receipt"), &text(&ran_b, "receipt")] {
        if *key != program_c {
            assert!(!within(&bytes, &digest_of(key)), "{key}");
        }
    }
    for run in [run_of(&a, &ran_a), run_of(&b, &ran_b)].concat() {
        let raw = data_encoding::HEXLOWER.decode(run.as_bytes()).unwrap();
        assert!(!within(&bytes, &raw) && !within(&bytes, run.as_bytes()), "{run}");
    }
    // Each can open its own commitments; publishing again says nothing new.
    let blinded = nodes(&c.one(["lineage", &raised, "--format", "json"]), "blinded")
        .iter()
        .map(|node| format!("blinded:{}", text(node, "key")))
        .collect::<Vec<_>>();
    let opened: Vec<String> = blinded
        .iter()
        .map(|commitment| text(&a.one(["commitment", "open", commitment]), "end"))
        .collect();
    assert!(opened.contains(&readings) && opened.contains(&program_a), "{opened:?}");
    let digest = |machine: &Machine| text(&machine.status(), "published_digest");
    let before = digest(&b);
    b.run(["publish", &joined, "--with-lineage"]);
    assert_eq!(digest(&b), before);
    for machine in [&a, &b, &c] {
        machine.verify_clean();
    }
}

/// Where all that a run took is public, its receipt is, too, and saves others the work.
#[test]
fn receipts_of_other_domains_answer() {
    let temp = temp();
    let [a, b] = ["a", "b"].map(|name| domain(name, temp.path()));
    let at_a = id_of(&a);
    let program = built(&a, JOINED, &[("next.wasm", NEXT)]);
    let (theirs, ours, internal) = (a.key_of(b"HAL"), a.key_of(b"!"), a.key_of(b"for nobody else"));
    let public = run(&a, &program, &[("theirs", &theirs), ("ours", &ours)]);
    let hidden = run(&a, &program, &[("theirs", &internal), ("ours", &ours)]);
    let joined = output(&public, "joined");
    let module = module(&a, &program);
    a.run(["publish", &joined, &program, &module, &theirs, &ours, "--with-lineage"]);
    b.one(["follow", &follow_ticket(&a)]);
    until("the receipt is published", || {
        let rows = b.run(["--of", &at_a, "published"]);
        rows.iter().any(|row| row["key"] == public["receipt"])
    });
    for key in [&program, &module, &theirs, &ours] {
        b.one(["import", &at_a, key]);
    }
    let there = run(&b, &program, &[("theirs", &theirs), ("ours", &ours)]);
    assert_eq!((steps(&there), &there["receipt"]), ((0, 2), &public["receipt"]));
    assert!(b.get(&joined) == b"IBM!");
    // Of the run with an internal input there is nothing, not even for somebody who has that input.
    let bytes = all_bytes(&b);
    let run_key = data_encoding::HEXLOWER.decode(text(&hidden, "run").as_bytes()).unwrap();
    for needle in [run_key, digest_of(&text(&hidden, "receipt")), digest_of(&internal)] {
        assert!(!within(&bytes, &needle), "{needle:02x?}");
    }
    assert_eq!(b.key_of(b"for nobody else"), internal);
    let guessed = run(&b, &program, &[("theirs", &internal), ("ours", &ours)]);
    assert_eq!((steps(&guessed), &guessed["receipt"]), ((2, 0), &hidden["receipt"]));
    // And it can be verified by whoever has it.
    assert_eq!(b.one(["receipt", "verify", &text(&there, "receipt")])["ok"], true);
}
