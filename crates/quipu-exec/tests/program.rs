//! Sources of programs: what is read, and what is said about what is wrong.

mod common;

use common::Memory;
use proptest::prelude::*;
use quipu_exec::program::{Program, Syntax, build};

const GOOD: &str = r#"
quipu-program = 1
name = "join"
limits = { fuel = 1_000_000 }

[inputs]
left = "text/csv"
right = { type = "text/csv" }
records = { query = "records" }

[[steps]]
id = "sorted"
operator = "sort-lines"
parameters = { unique = true }
inputs = { in = "input:left" }
outputs = { out = "text/csv" }

[[steps]]
id = "all"
operator = "concat"
inputs = { a = { from = "sorted/out", type = "text/csv" }, b = "input:right", c = "input:records", d = { query = { operator = "projection", parameters = { fields = ["a"] }, of = "current" } } }
outputs = { out = {} }
limits = { memory = 1_000_000, output = 5 }

[outputs]
result = { from = "all/out" }
"#;

const GOOD_JSON: &str = r#"{
 "quipu-program": 1, "name": "join", "limits": {"fuel": 1000000},
 "outputs": {"result": "all/out"},
 "steps": [
  {"id": "all", "operator": "concat", "outputs": {"out": {}}, "limits": {"output": 5, "memory": 1000000},
   "inputs": {"a": {"from": "sorted/out", "type": "text/csv"}, "b": "input:right", "c": {"from": "input:records"},
    "d": {"query": {"operator": "projection", "parameters": {"fields": ["a"]}, "of": ["current"]}}}},
  {"id": "sorted", "operator": "sort-lines", "parameters": {"unique": true},
   "inputs": {"in": "input:left"}, "outputs": {"out": "text/csv"}}],
 "inputs": {"records": {"query": {"operator": "records"}}, "right": "text/csv", "left": {"type": "text/csv"}}
}"#;

fn messages(source: &str) -> Vec<String> {
    let built = common::built(&Memory::new(), source, &[]);
    assert_eq!(built.program.is_none(), built.messages.iter().any(|message| message.is_error));
    built.messages.iter().map(ToString::to_string).collect()
}

#[test]
fn toml_and_json_give_the_same_bytes() {
    let store = Memory::new();
    let (_, toml) = common::program(&store, GOOD, &[]);
    let (_, json) = common::program(&store, GOOD_JSON, &[]);
    assert_eq!(toml, json);
    assert_eq!(Program::decode(&toml.encode()), Ok(toml.clone()));
    assert_eq!(toml.steps["all"].limits.fuel, 1_000_000);
    assert_eq!(toml.run_inputs(), ["all/d", "left", "records", "right"]);
    assert_eq!(toml.order(), Some(vec!["sorted", "all"]));
    assert_eq!(toml.queries()["all/d"].of[0].operator, "current");
}

#[test]
fn everything_wrong_is_told_at_once_with_its_place() {
    let source = r#"quipu-program = 1
[inputs]
used = "text/plain"
spare = "text/plain"
[[steps]]
id = "a"
operator = "sort-lines"
parameters = { uniqe = true }
inputs = { in = "b/out", x = "input:gone" }
outputs = { out = "" }
[[steps]]
id = "b"
operator = "fly"
inputs = { in = "a/out", in2 = "c/none", in3 = { from = "input:used", type = "text/csv" } }
outputs = { out = "text/plain" }
[[steps]]
id = "c"
module = "bafkr4iaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"
inputs = { "a b" = "nowhere/out", stdout = "input:used" }
outputs = { out = "x", stdin = "x", more = "x" }
[outputs]
"#;
    // The module's key has a digest of zeros: any digest will do.
    let source = source.replace(
        "bafkr4iaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa",
        &quipu_core::id::ArtifactId([0; 32]).to_string(),
    );
    let expected = [
        "1:1: error: the program: there are no outputs",
        "4:1: error: input \"spare\": nothing takes it",
        "6:6: error: step \"a\": these steps wait for each other: a -> b -> a",
        "7:12: error: step \"a\": \"sort-lines\" takes 1 to 1 inputs: here are 2",
        "7:12: error: step \"a\": \"sort-lines\" has no parameter \"uniqe\"",
        "9:26: error: input \"x\" of step \"a\": the program has no input \"gone\"",
        "10:13: error: output \"out\" of step \"a\": a type tag has 1 to 128 bytes",
        "13:12: error: step \"b\": there is no operator \"fly\"",
        "14:42: error: input \"in3\" of step \"b\": input \"used\" is \"text/plain\", and \"text/csv\" is expected",
    ];
    let messages = messages(&source);
    for line in expected {
        assert!(messages.iter().any(|message| *message == line), "{line}\n{messages:#?}");
    }
    for part in [
        "step \"c\" has no output \"none\"",
        "there is no step \"nowhere\"",
        "\"stdout\" cannot be used here",
        "\"stdin\" cannot be used here",
        "input \"a b\" of step \"c\": not a name",
    ] {
        assert!(messages.iter().any(|message| message.contains(part)), "{part}\n{messages:#?}");
    }
    let lines: Vec<usize> = messages
        .iter()
        .map(|message| {
            message.split(':').next().and_then(|line| line.parse().ok()).expect("a line")
        })
        .collect();
    assert!(lines.is_sorted(), "{messages:#?}");
}

#[test]
fn what_cannot_be_read_has_a_place_too() {
    let check = |source: &str, expected: &str| {
        let messages = messages(source);
        assert!(
            messages.iter().any(|message| message.contains(expected)),
            "{expected}: {messages:#?}"
        );
    };
    check("quipu-program = 1\nname = \"x", "2:");
    check("{\"quipu-program\": 1,\n \"name\" 7}", "2:");
    check("{\"quipu-program\": 1, // no\n}", "1:");
    check("{", "1:");
    check("", "1:1: error: `quipu-program` is missing");
    check("quipu-program = 2", "1:17: error: version 1 of the format");
    check("quipu-program = 1\nnme = \"x\"", "2:1: error: \"nme\" is not known here");
    check("quipu-program = 1\nsteps = 7", "2:9: error: `steps` is a list of tables");
    check("quipu-program = 1\n[[steps]]\nmodule = \"x\"", "2:1: error: a step needs an `id`");
    check(
        "quipu-program = 1\n[[steps]]\nid = \"é\"\noperator = \"concat\"\nmodule = \"x\"",
        "3:6: error: step \"é\" needs one of",
    );
    check(
        "quipu-program = 1\n[[steps]]\nid = \"s\"\nmodule = \"x.wasm\"",
        "4:10: error: not an artifact key",
    );
    check(
        "quipu-program = 1\n[[steps]]\nid = \"s\"\nmodule = \"file:x\"",
        "module \"x\": there is no such file",
    );
    check(
        "quipu-program = 1\n[[steps]]\nid=\"s\"\n[[steps]]\nid=\"s\"\n",
        "3:4: error: step \"s\" needs one of",
    );
    let twice = "operator = \"concat\"\ninputs = { a = \"input:x\" }\noutputs = { o = {} }\n";
    check(
        &format!("quipu-program = 1\n[[steps]]\nid = \"s\"\n{twice}[[steps]]\nid = \"s\"\n{twice}"),
        "8:6: error: there is a step \"s\" already",
    );
    check(
        "{\"quipu-program\": 1, \"name\": \"a\", \"name\": \"b\"}",
        "1:35: error: there is a \"name\" already",
    );
    check("quipu-program = 1\nlimits = { fuel = 0 }", "2:19: error: a limit is a whole number");
    check("quipu-program = 1\nlimits = { memory = 4294967297 }", "between 1 and 4294967296");
    check("quipu-program = 1\n[outputs]\no = \"s\"", "3:5: error: \"s\" names no place");
    check(&format!("{}1{}", "[".repeat(5000), "]".repeat(5000)), "1:");
    check(&format!("{{\"name\":{}1{}}}", "[".repeat(5000), "]".repeat(5000)), "1:");
    check(&format!("quipu-program = 1\nx = {}1{}", "[".repeat(5000), "]".repeat(5000)), "2:");
}

#[test]
fn an_output_that_nothing_takes_is_a_warning() {
    let source = GOOD
        .replace(
            "operator = \"sort-lines\"\nparameters = { unique = true }",
            &format!("module = \"{}\"", quipu_core::id::ArtifactId([7; 32])),
        )
        .replace("outputs = { out = \"text/csv\" }", "outputs = { out = \"text/csv\", log = {} }");
    let messages = messages(&source);
    assert_eq!(messages.len(), 1, "{messages:?}");
    assert!(messages[0].contains("warning: output \"log\" of step \"sorted\""), "{messages:?}");
}

#[test]
fn bytes_that_are_no_program_are_refused() {
    let (_, program) = common::program(&Memory::new(), GOOD, &[]);
    let good = program.encode();
    for at in 0..good.len() {
        let mut bad = good.clone();
        bad[at] ^= 0x20;
        // Some other program, or none; never this one, and never a panic.
        if let Ok(other) = Program::decode(&bad) {
            assert_ne!(other, program, "byte {at}");
            assert_eq!(other.encode(), bad);
        }
        assert!(Program::decode(&good[..at]).is_err(), "cut at {at}");
    }
    assert!(Program::decode(&[&good[..], &[0]].concat()).is_err());
}

proptest! {
    #[test]
    fn no_source_makes_it_panic(mut text in "[\\[\\]{}\"',:=\\.a-e0-9 \n]{0,120}", json: bool, at in 0..900usize, cut in 0..40usize) {
        let syntax = if json { Syntax::Json } else { Syntax::Toml };
        let mut none = |_: &str| Err("no files".to_owned());
        build(&text, syntax, &mut none);
        // A good source with something else in it.
        let good = if json { GOOD_JSON } else { GOOD };
        let start = at.min(good.len());
        let end = (start + cut).min(good.len());
        text = format!("{}{}{}", &good[..start], text, &good[end..]);
        let built = build(&text, syntax, &mut none);
        prop_assert_eq!(built.program.is_none(), built.messages.iter().any(|m| m.is_error));
        let lines = text.split('\n').count();
        for message in built.messages {
            prop_assert!((1..=lines).contains(&message.line) && message.column >= 1);
        }
    }

    #[test]
    fn no_bytes_make_it_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
        if let Ok(program) = Program::decode(&bytes) {
            prop_assert_eq!(program.encode(), bytes);
        }
    }
}
