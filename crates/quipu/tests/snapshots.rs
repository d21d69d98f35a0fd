//! Snapshots on machines that heard of things in another order, late, or not at all.

mod common;

use common::data::{arg, refused, text, texts};
use common::{Machine, agree, temp};
use serde_json::Value;

/// What one machine does while it is apart: artifacts, edges, cells, and plenty of other events.
#[track_caller]
fn work(machine: &Machine, label: &str, notes: usize) -> Vec<String> {
    let keys: Vec<String> = (0..4)
        .map(|n| {
            let tag = (n > 0).then(|| format!("{label}/{n}"));
            text(&machine.put(format!("{label} {n}").as_bytes(), tag.as_deref()), "key")
        })
        .collect();
    machine.put(b"everybody puts this", Some(label));
    machine.edge(&[&keys[0]], &[&keys[1], &keys[2]], "derived");
    let edge = machine.edge(&[&keys[1]], &[&machine.node()], "made by");
    if label.len().is_multiple_of(2) {
        machine.one(["tombstone", &edge]);
    }
    for field in ["colour", "shape"] {
        let cell = serde_json::json!({ "record_id": "r", "field": field, "value": label });
        machine.one(["emit", "field.set", &cell.to_string()]);
    }
    machine.write(label, notes);
    machine.one(["tombstone", &keys[3]]);
    keys
}

/// The replay of a snapshot, the same however many shards there are.
#[track_caller]
fn replayed(machine: &Machine, snapshot: &str) -> String {
    let replays = ["1", "3", "16"]
        .map(|shards| machine.printed(&["replay", "--snapshot", snapshot, "--shards", shards]));
    assert!(!replays[0].is_empty());
    for replay in &replays[1..] {
        assert_eq!(*replay, replays[0], "{}: shards change the replay", machine.name);
    }
    assert_eq!(machine.printed(&["current", "--at", snapshot]), replays[0], "{}", machine.name);
    replays[0].clone()
}

/// A snapshot as all machines must see it.
#[track_caller]
fn shown(machine: &Machine, snapshot: &str) -> Value {
    let shown = machine.one(["snapshot", "show", snapshot]);
    assert_eq!(shown["verified"], true, "{}: {shown}", machine.name);
    shown
}

/// What is applied of each author, without what is only so between this machine and its peers.
#[track_caller]
fn federation(machine: &Machine) -> Vec<Value> {
    let mut rows = machine.run(["federation"]);
    for row in &mut rows {
        assert!(row.as_object_mut().unwrap().remove("level_events").is_some(), "{row}");
    }
    rows
}

/// Everything that two machines with the same events must print alike.
#[track_caller]
fn all_tables(machine: &Machine) -> Vec<String> {
    let tables = [
        &["snapshots"][..],
        &["provenance"],
        &["current"],
        &["edges"],
        &["conflicts"],
        &["members"],
    ];
    let mut out: Vec<String> = tables
        .iter()
        .map(|arguments| {
            let ran = machine.try_run(*arguments);
            let open = i32::from(arguments == &["conflicts"]);
            assert_eq!(ran.code, open, "{}: {arguments:?} {}", machine.name, ran.stderr);
            ran.stdout
        })
        .collect();
    out.extend(federation(machine).iter().map(Value::to_string));
    out
}

#[test]
fn a_snapshot_is_the_same_everywhere() {
    let temp = temp();
    let mut a = Machine::found("a", temp.path());
    let ticket = a.serve();
    let mut b = Machine::joined("b", temp.path(), &ticket);
    let mut late = Machine::joined("late", temp.path(), &ticket);
    b.one(["sync"]);
    // All apart from now on. What `late` writes has smaller clocks than all that follows.
    a.stop();
    work(&late, "early bird", 40);
    let early = late.snapshot("early");
    work(&a, "aaa", 300);
    work(&b, "bbbb", 20);
    let of_b = b.snapshot("of b");
    let replay_b = replayed(&b, &of_b);
    let shown_b = shown(&b, &of_b);
    assert!(!replay_b.contains("aaa/1"), "b has heard of nothing that a did");
    b.write("after the snapshot", 30);

    // A has events that B lacks, in the middle of B's: what counts is the past of the snapshot.
    a.serve();
    b.one(["sync"]);
    a.write("only at a", 25);
    assert_ne!(a.digest(), b.digest());
    let of_a = a.snapshot("of a");
    let replay_a = replayed(&a, &of_a);
    for name in [&of_b, "of b", &text(&shown_b, "federated_id")] {
        assert_eq!(replayed(&a, name), replay_b, "{name}");
        assert_eq!(shown(&a, name), shown_b);
    }
    b.one(["sync"]);
    agree(&[&a, &b]);
    assert_eq!(replayed(&b, "of a"), replay_a);
    assert_eq!(shown(&b, "of a"), shown(&a, &of_a));
    assert_eq!(a.printed(&["current"]), b.printed(&["current"]));

    // Late events, from before all snapshots: they change what is now, and no snapshot.
    let before = a.printed(&["current"]);
    late.one(["sync"]);
    b.one(["sync"]);
    agree(&[&a, &b, &late]);
    assert_ne!(a.printed(&["current"]), before);
    let first =
        |machine: &Machine| machine.one(["log", "--kind", "snapshot.create"])["uuid"].clone();
    assert_eq!(first(&a), *early, "it is the first in replay order");
    let replay_early = replayed(&late, &early);
    let tables = all_tables(&a);
    b.serve();
    for machine in [&a, &b, &late] {
        assert_eq!(replayed(machine, &of_b), replay_b, "{}", machine.name);
        assert_eq!(replayed(machine, &of_a), replay_a, "{}", machine.name);
        assert_eq!(replayed(machine, "early"), replay_early, "{}", machine.name);
        assert_eq!(shown(machine, &of_b), shown_b);
        assert_eq!(all_tables(machine), tables, "{}", machine.name);
    }
    a.stop();
    b.stop();
    for machine in [&a, &b, &late] {
        let rebuilt = machine.one(["verify", "--rebuild"]);
        assert_eq!(rebuilt["problems"], serde_json::json!([]));
        assert_eq!(all_tables(machine), tables, "{}", machine.name);
        assert_eq!(replayed(machine, &of_b), replay_b, "{}", machine.name);
        assert_eq!(replayed(machine, &of_a), replay_a, "{}", machine.name);
        machine.verify_clean();
    }
    late.serve();
    assert_eq!(replayed(&late, &of_b), replay_b);
}

#[test]
fn reading_commands_at_a_snapshot_answer_as_of_then() {
    let temp = temp();
    let a = Machine::found("a", temp.path());
    work(&a, "one", 10);
    let reads = |at: &[&str]| -> Vec<String> {
        let commands =
            [&["artifacts"][..], &["edges"], &["conflicts"], &["log"], &["members"], &["current"]];
        commands.iter().map(|command| a.printed(&[command, at].concat())).collect()
    };
    let mut then = reads(&[]);
    let id = a.snapshot("then");
    // The log as of the snapshot has the snapshot itself.
    then[3] = a.printed(&["log"]);
    assert_eq!(a.one(["snapshot", "show", "then"])["events"], then[3].lines().count() - 1);
    work(&a, "three", 10);
    a.put(b"everybody puts this", Some("another tag"));
    assert_eq!(a.try_run(["conflicts"]).code, 1);
    for at in ["then", &id, &id[..20]] {
        assert_eq!(reads(&["--at", at]), then, "{at}");
    }
    assert_eq!(a.one(["status", "--at", "then"])["events"], then[3].lines().count());
    assert_eq!(a.run(["snapshots", "--at", "then"]).len(), 1);
    assert_eq!(a.one(["federation", "--at", "then"])["last_snapshot"], *id);
    for command in [
        &["put", "-"][..],
        &["emit", "app.note", "{}"],
        &["edge", "add", "--from", "x", "--to", "y", "--type", "z"],
        &["tombstone", "x"],
        &["pin", "x"],
        &["unpin", "x"],
        &["gc"],
        &["snapshot", "create"],
        &["snapshot", "drop", "then"],
        &["conflicts", "resolve", "x", "--keep", "y"],
        &["erase", &id, "--reason", "x"],
        &["sync"],
        &["verify"],
    ] {
        let before = a.digest();
        refused(&a.try_run([command, &["--at", "then"]].concat()), 2, &["--at"]);
        assert_eq!(a.digest(), before, "{command:?}");
    }
}

#[test]
fn differences() {
    let temp = temp();
    let a = Machine::found("a", temp.path());
    let keys = work(&a, "one", 5);
    a.snapshot("before");
    a.snapshot("nothing new");
    assert_eq!(a.run(["snapshot", "diff", "before", "nothing new"]), Vec::<Value>::new());
    let key = a.key_of(b"new");
    let edge = a.edge(&[&keys[0]], &[&key], "derived");
    let cell = serde_json::json!({ "record_id": "r", "field": "shape", "value": "round" });
    let set = text(&a.one(["emit", "field.set", &cell.to_string()]), "uuid");
    a.write("no fold sees these", 3);
    a.snapshot("after");
    let mut rows = a.run(["snapshot", "diff", "before", "after"]);
    rows.sort_by_key(|row| row["kind"].as_str().map(str::to_owned));
    assert_eq!(texts(&rows, "kind"), ["artifact.put", "edge.add", "field.set"]);
    assert_eq!(rows[0]["says"]["key"], *key);
    assert_eq!((&rows[1]["before"], &rows[1]["after"]), (&Value::Null, &edge.into()));
    assert_eq!(rows[2]["after"], *set);
    assert!(rows[2]["before"].is_string(), "{}", rows[2]);
    let back = a.run(["snapshot", "diff", "after", "before"]);
    assert_eq!(back.len(), 3);
    assert!(back.iter().all(|row| row["before"].is_string()), "{back:?}");
}

#[test]
fn names_and_ids() {
    let temp = temp();
    let mut a = Machine::found("a", temp.path());
    let ticket = a.serve();
    let b = Machine::joined("b", temp.path(), &ticket);
    let note = a.emit("no snapshot");
    b.one(["sync"]);
    let of = |machine: &Machine, name: &str| text(&machine.one(["snapshot", "show", name]), "id");
    // The same name on two machines while apart, and twice on one: the latest counts, everywhere.
    let mut ids = vec![b.snapshot("monday"), a.snapshot("monday"), b.snapshot("monday")];
    b.one(["sync"]);
    agree(&[&a, &b]);
    for machine in [&a, &b] {
        assert_eq!(of(machine, "monday"), ids[2]);
        assert_eq!(texts(&machine.run(["snapshots"]), "id"), ids);
    }
    ids.push(a.snapshot("monday"));
    assert_eq!(of(&a, "monday"), ids[3]);
    assert_eq!(of(&b, "monday"), ids[2], "b has not heard of it");
    // Without a name it has only its id, and names may be of any letters.
    let unnamed = text(&a.one(["snapshot", "create"]), "id");
    assert_eq!(a.one(["snapshot", "show", &unnamed[..16]])["name"], Value::Null);
    let odd = a.snapshot("Größe \"1\" 🦀");
    assert_eq!(of(&a, "Größe \"1\" 🦀"), odd);
    // Nobody takes the place of a snapshot by being called like its id.
    a.snapshot(&ids[0]);
    assert_eq!(of(&a, &ids[0]), ids[0]);
    let dropped = a.one(["snapshot", "drop", &ids[0]]);
    assert_eq!(text(&dropped, "id"), ids[0]);

    for (name, code, words) in [
        ("tuesday", 4, &["tuesday", "quipu snapshots"][..]),
        ("no such name at all", 4, &["no such name at all"]),
        (&note, 4, &["no snapshot"]),
        (&note[..20], 4, &["no snapshot"]),
        ("bafyr4iaaaaaaaaaaaaa", 4, &["bafyr4iaaaaaaaaaaaaa"]),
    ] {
        refused(&a.try_run(["snapshot", "show", name]), code, words);
        refused(&a.try_run(["snapshot", "drop", name]), code, words);
        refused(&a.try_run(["snapshot", "diff", &ids[0], name]), code, words);
        refused(&a.try_run(["replay", "--snapshot", name]), code, words);
        refused(&a.try_run(["provenance", "--snapshot", name]), code, words);
    }
    refused(&a.try_run(["current", "--at", "tuesday"]), 4, &["tuesday"]);
    assert!(!a.printed(&["log", "--at", &note]).is_empty(), "--at takes any event");
    // A federated id names its domain.
    let other = Machine::found("other", temp.path());
    let foreign = text(&other.one(["snapshot", "create"]), "federated_id");
    let domains = [&a, &other].map(|machine| text(&machine.status(), "domain"));
    refused(&a.try_run(["snapshot", "show", &foreign]), 4, &[&domains[0], &domains[1]]);
    let own = text(&a.one(["snapshot", "show", &ids[1]]), "federated_id");
    assert!(own.starts_with(&domains[0]) && own.ends_with(&ids[1]));
    refused(&other.try_run(["replay", "--snapshot", &own]), 4, &[&domains[0], &domains[1]]);

    refused(&a.try_run(["snapshot", "create", "--name", ""]), 3, &["128"]);
    refused(&a.try_run(["snapshot", "create", "--name", &"x".repeat(129)]), 3, &["128"]);
    for shards in ["0", "1025"] {
        let ran = a.try_run(["replay", "--snapshot", &ids[0], "--shards", shards]);
        refused(&ran, 2, &["1024", shards]);
    }
    assert_eq!(a.try_run(["replay", "--snapshot", &ids[0], "--shards", "x"]).code, 2);
}

#[test]
fn explained_on_stderr_alone() {
    let temp = temp();
    let a = Machine::found("a", temp.path());
    work(&a, "one", 300);
    a.snapshot("s");
    let plain = a.printed(&["replay", "--snapshot", "s"]);
    let ran = a.try_run(["replay", "--snapshot", "s", "--explain", "--shards", "3"]);
    assert_eq!((ran.code, &ran.stdout), (0, &plain));
    for word in ["TombstoneShadow", "Merge (3 shards", "IndexFilter", "SegmentScan", "rows", "ms"] {
        assert!(ran.stderr.contains(word), "{word} is not in {}", ran.stderr);
    }
    let file = temp.path().join("s.ndjson");
    std::fs::write(&file, &plain).unwrap();
    assert!(
        plain.lines().all(|line| serde_json::from_str::<Value>(line).is_ok()),
        "{}",
        arg(&file)
    );
}
