//! The trace graph as a user sees it: edges, walks, pictures, tombstones.

mod common;

use common::data::{arg, refused, text, texts};
use common::{Machine, agree, finish, temp, uuid};
use serde_json::Value;

/// Keys of `count` small artifacts.
fn keys(machine: &Machine, count: usize) -> Vec<String> {
    (0..count).map(|n| machine.key_of(format!("artifact {n}").as_bytes())).collect()
}

/// What a walk reached, with distances, in the order of `keys`.
#[track_caller]
fn reached(trace: &Value, keys: &[String]) -> Vec<Option<u64>> {
    let nodes = trace["nodes"].as_array().expect("nodes");
    let depth = |key: &String| {
        nodes.iter().find(|node| node["id"] == **key).and_then(|node| node["depth"].as_u64())
    };
    let depths: Vec<_> = keys.iter().map(depth).collect();
    assert_eq!(depths.iter().flatten().count(), nodes.len(), "something else in {trace}");
    depths
}

/// The types of the edges on the way.
#[track_caller]
fn types(trace: &Value) -> Vec<String> {
    texts(trace["edges"].as_array().expect("edges"), "type")
}

#[test]
fn walks() {
    let temp = temp();
    let mut a = Machine::found("a", temp.path());
    let k = keys(&a, 6);
    // 0 -> 1 -> 2 -> 3 with a way back from 3 to 0, 4 -> 2, and 5 alone.
    for (from, to, kind) in [
        (0, 1, "derived"),
        (1, 2, "derived"),
        (2, 3, "printed"),
        (3, 0, "reused"),
        (4, 2, "derived"),
    ] {
        a.edge(&[&k[from]], &[&k[to]], kind);
    }
    for served in [false, true] {
        if served {
            a.serve();
        }
        let walk = |arguments: &[&str]| a.one([&["trace", &k[1]][..], arguments].concat());
        let all = walk(&[]);
        assert_eq!(
            reached(&all, &k),
            [Some(1), Some(0), Some(1), Some(2), Some(2), None],
            "both ways"
        );
        assert_eq!(text(&all, "start"), k[1]);
        assert_eq!(types(&all).len(), 5);
        let down = walk(&["--down"]);
        assert_eq!(reached(&down, &k), [Some(3), Some(0), Some(1), Some(2), None, None]);
        assert_eq!(types(&down), ["derived", "derived", "printed", "reused"]);
        let up = walk(&["--up"]);
        assert_eq!(reached(&up, &k), [Some(1), Some(0), Some(3), Some(2), Some(4), None]);
        let near = walk(&["--down", "--depth", "1"]);
        assert_eq!(reached(&near, &k), [None, Some(0), Some(1), None, None, None]);
        let here = walk(&["--depth", "0"]);
        assert_eq!(reached(&here, &k), [None, Some(0), None, None, None, None]);
        assert_eq!(here["edges"], serde_json::json!([]));
        let typed = walk(&["--type", "derived"]);
        assert_eq!(
            reached(&typed, &k),
            [Some(1), Some(0), Some(1), None, Some(2), None],
            "only derived"
        );
        let two = walk(&["--down", "--type", "derived", "--type", "printed"]);
        assert_eq!(reached(&two, &k), [None, Some(0), Some(1), Some(2), None, None]);
        let none = walk(&["--type", "nothing of this type"]);
        assert_eq!(reached(&none, &k), [None, Some(0), None, None, None, None]);
        // The one that is alone is known all the same.
        let alone = a.one(["trace", &k[5]]);
        assert_eq!(reached(&alone, &k), [None, None, None, None, None, Some(0)]);
        assert_eq!(texts(&a.run(["edges", "--type", "printed"]), "type"), ["printed"]);
        assert_eq!(a.run(["edges"]).len(), 5);
    }
}

/// The walk as people and other programs see it.
#[track_caller]
fn picture(machine: &Machine, key: &str, format: &str) -> String {
    let mut command = machine.command();
    command.args(["trace", key, "--format", format]);
    let ran = finish(command, b"");
    assert_eq!(ran.code, 0, "{}", ran.stderr);
    ran.stdout
}

#[test]
fn formats_say_the_same() {
    let temp = temp();
    let a = Machine::found("a", temp.path());
    let k = keys(&a, 4);
    let node = a.node();
    a.edge(&[&k[0], &k[1]], &[&k[2], &k[3]], "several \"ends\"");
    a.edge(&[&node], &[&k[0]], "made");
    let json: Value = serde_json::from_str(&picture(&a, &k[0], "json")).unwrap();
    assert_eq!(json, a.one(["trace", &k[0]]), "--json and --format json");
    let ends = |edge: usize, side: &str| json["edges"][edge][side].as_array().unwrap().len();
    assert_eq!((ends(0, "from"), ends(0, "to"), ends(1, "from"), ends(1, "to")), (2, 2, 1, 1));
    // Of an edge with several ends one side is reached from the other, and then its other ends.
    let ends = [&k[..], std::slice::from_ref(&node)].concat();
    assert_eq!(reached(&json, &ends), [Some(0), Some(2), Some(1), Some(1), Some(1)]);
    let table = picture(&a, &k[0], "table");
    for end in k.iter().chain([&node]) {
        assert!(table.contains(end.as_str()), "{end} is not in\n{table}");
    }
    assert!(table.contains("several \"ends\"") && table.contains("made"), "{table}");
    for (format, first, arrow) in [("dot", "digraph", " -> "), ("mermaid", "flowchart", " -->|")] {
        let text = picture(&a, &k[0], format);
        assert!(text.starts_with(first), "{text}");
        assert_eq!(text.matches(arrow).count(), 5, "2 x 2 and 1: {text}");
        for end in k.iter().chain([&node]) {
            assert!(text.contains(&end[end.len() - 8..]), "{end} is not in\n{text}");
        }
        assert!(!text.contains("\"ends\""), "quotes of a type end no label: {text}");
    }
}

#[test]
fn tombstoned_edges_are_history() {
    let temp = temp();
    let mut a = Machine::found("a", temp.path());
    let ticket = a.serve();
    let b = Machine::joined("b", temp.path(), &ticket);
    let k = keys(&a, 3);
    let first = a.edge(&[&k[0]], &[&k[1]], "derived");
    a.edge(&[&k[1]], &[&k[2]], "derived");
    let before = a.snapshot("before");
    let gone = a.one(["tombstone", &first[..20]]);
    assert_eq!((&gone["hidden"], &gone["type"]), (&true.into(), &"derived".into()));
    a.one(["tombstone", &k[2]]);
    b.one(["sync"]);
    agree(&[&a, &b]);
    for machine in [&a, &b] {
        let now = machine.one(["trace", &k[0]]);
        assert_eq!(reached(&now, &k), [Some(0), None, None]);
        assert_eq!(machine.run(["edges"]).len(), 1);
        for at in ["before", &before] {
            let then = machine.one(["trace", &k[0], "--at", at]);
            assert_eq!(reached(&then, &k), [Some(0), Some(1), Some(2)]);
            assert_eq!(then["nodes"][2]["hidden"], false);
            assert_eq!(machine.run(["edges", "--at", at]).len(), 2);
        }
        // A hidden artifact keeps its edges, and says that it is hidden.
        let rest = machine.one(["trace", &k[1]]);
        assert_eq!(rest["nodes"][1]["hidden"], true, "{rest}");
    }
    // Added again, it is back everywhere.
    b.edge(&[&k[0]], &[&k[1]], "derived");
    b.one(["sync"]);
    for machine in [&a, &b] {
        assert_eq!(
            reached(&machine.one(["trace", &k[0], "--down"]), &k),
            [Some(0), Some(1), Some(2)]
        );
    }
}

#[test]
fn of_equal_edges_the_latest_counts() {
    let temp = temp();
    let mut a = Machine::found("a", temp.path());
    let ticket = a.serve();
    let b = Machine::joined("b", temp.path(), &ticket);
    let k = keys(&a, 2);
    b.one(["sync"]);
    let add = |machine: &Machine, role: &str| {
        let (from, to) = (["edge", "add", "--from", &k[0]], ["--to", &k[1]]);
        let rest = ["--type", "derived", "--role", role];
        uuid(&machine.one([&from[..], &to[..], &rest[..]].concat()))
    };
    add(&a, "from");
    add(&b, "to");
    add(&a, "from");
    let last = add(&b, "both");
    b.one(["sync"]);
    agree(&[&a, &b]);
    for machine in [&a, &b] {
        let edges = machine.run(["edges"]);
        assert_eq!(texts(&edges, "role"), ["both"], "{edges:?}");
        assert_eq!(uuid(&edges[0]), last);
        assert_eq!(types(&machine.one(["trace", &k[0]])), ["derived"]);
    }
    // Another type, or the other way round, is another edge; ends in another order are not.
    a.edge(&[&k[0]], &[&k[1]], "other");
    a.edge(&[&k[1]], &[&k[0]], "derived");
    a.edge(&[&k[0], &k[1]], &[&k[1]], "many");
    a.edge(&[&k[1], &k[0], &k[1]], &[&k[1]], "many");
    assert_eq!(a.run(["edges"]).len(), 4);
}

#[test]
fn keys_that_are_wrong() {
    let temp = temp();
    let a = Machine::found("a", temp.path());
    let k = keys(&a, 2);
    a.edge(&[&k[0]], &[&k[1]], "derived");
    let before = a.status();
    // What all keys begin with is no name; more characters are.
    let common = (0..k[0].len()).find(|n| k[0].as_bytes()[*n] != k[1].as_bytes()[*n]).unwrap();
    assert_eq!(a.one(["trace", &k[0][..common.max(12) + 1]])["start"], k[0].as_str());
    refused(&a.try_run(["trace", "bafkr4i"]), 2, &["8 characters"]);
    let files: Vec<_> = (0..80).map(|n| a.file(&n.to_string(), &[n])).collect();
    let many = texts(&a.run(["put"].into_iter().chain(files.iter().map(|file| arg(file)))), "key");
    let mut sorted: Vec<&String> = many.iter().chain(&k).collect();
    sorted.sort();
    let twins = sorted.windows(2).find(|pair| pair[0][..9] == pair[1][..9]);
    let twins = twins.expect("two of 82 keys begin alike");
    refused(&a.try_run(["trace", &twins[0][..9]]), 2, &["several", "more characters"]);

    let nowhere = format!("{}{}", &k[0][..7], "a".repeat(k[0].len() - 7));
    refused(&a.try_run(["trace", &nowhere]), 4, &["nothing is known", &nowhere]);
    refused(&a.try_run(["trace", &nowhere[..20]]), 4, &["no artifact"]);
    refused(&a.try_run(["trace", &"0".repeat(64)]), 4, &["nothing is known"]);
    assert_eq!(a.one(["trace", &a.node()])["nodes"][0]["what"], "node");
    refused(&a.try_run(["trace", "nonsense"]), 2, &["nonsense"]);
    refused(&a.try_run(["trace", &k[0], "--at", "no such snapshot"]), 4, &["no such snapshot"]);
    for arguments in [
        &["trace", &k[0], "--up", "--down"][..],
        &["trace", &k[0], "--depth", "-1"],
        &["trace", &k[0], "--format", "svg"],
        &["edge", "add", "--from", &k[0], "--to", &k[1]],
        &["edge", "add", "--to", &k[1], "--type", "x"],
        &["edge", "add", "--from", &k[0], "--to", &k[1], "--type", "x", "--role", "none"],
    ] {
        assert_eq!(a.try_run(arguments).code, 2, "{arguments:?}");
    }
    let add = |from: &str, to: &str, kind: &str| {
        a.try_run(["edge", "add", "--from", from, "--to", to, "--type", kind])
    };
    refused(&add("nonsense", &k[0], "x"), 2, &["nonsense"]);
    refused(&add(&k[0], &"z".repeat(64), "x"), 2, &["zzz"]);
    refused(&add(&k[0], &nowhere[..20], "x"), 4, &[&nowhere[..20]]);
    refused(&add(&k[0], &k[1], ""), 3, &["type"]);
    refused(&add(&k[0], &k[1], &"x".repeat(129)), 3, &["128"]);
    let late = a.status();
    assert_eq!(late["events"].as_u64().unwrap(), before["events"].as_u64().unwrap() + 80);
    assert_eq!(a.run(["edges"]).len(), 1, "nothing was stored");
    a.edge(&[&k[0]], &[&k[1]], &"x".repeat(128));
    refused(&a.try_run(["tombstone", "nonsense"]), 2, &["nonsense"]);
    refused(&a.try_run(["tombstone", &nowhere]), 4, &[&nowhere]);
    a.verify_clean();
}
