//! A newcomer that is useful before it has the history (LOG-9).

mod common;

use common::{Machine, temp};

/// A machine with some history and a snapshot that is called `s`.
fn domain(root: &std::path::Path) -> Machine {
    let founder = Machine::found("a", root);
    for n in 0..40 {
        let payload = format!(r#"{{"record_id":"r{}","field":"f","value":{n}}}"#, n % 7);
        founder.run(["emit", "field.set", &payload]);
    }
    let file = root.join("photo");
    std::fs::write(&file, b"many bytes").expect("a file");
    let put = founder.one(["put", file.to_str().expect("a path"), "--type", "image/x"]);
    let node = founder.one(["id"])["node"].as_str().expect("a key").to_owned();
    let key = put["key"].as_str().expect("a key").to_owned();
    founder.run(["edge", "add", "--from", &node, "--to", &key, "--type", "took"]);
    founder.one(["snapshot", "create", "--name", "s"]);
    // Not in the snapshot.
    founder.run(["emit", "field.set", r#"{"record_id":"later","field":"f","value":1}"#]);
    founder
}

#[test]
fn a_newcomer_answers_before_the_history_is_there() {
    let temp = temp();
    let mut founder = domain(temp.path());
    let expected = founder.printed(&["current", "--at", "s"]);
    let edges = founder.printed(&["edges"]);
    assert!(expected.lines().count() >= 9, "{expected}");
    let ticket = founder.serve();
    let late = Machine::new("late", temp.path());
    let joined = late.one(["join", &ticket, "--snapshot-first"]);
    assert_eq!(joined["events"], 0);
    assert!(joined["snapshot"].is_string(), "{joined}");
    // From here on nobody is reached.
    founder.stop();
    assert_eq!(late.status()["events"], 0);
    assert_eq!(late.printed(&["current"]), expected);
    assert_eq!(late.printed(&["current", "--at", "s"]), expected);
    assert_eq!(late.printed(&["edges"]), edges);
    let artifacts = late.run(["artifacts"]);
    assert_eq!(artifacts.len(), 1);
    assert_eq!(artifacts[0]["have"], false);
    assert_eq!(
        late.one(["trace", artifacts[0]["key"].as_str().expect("a key")])["nodes"]
            .as_array()
            .map(Vec::len),
        Some(2)
    );
    // What needs the log says so, and loses nothing.
    late.try_run(["log"]).fails(4);
    late.try_run(["emit", "app.note"]).fails(3);

    founder.serve();
    late.one(["sync"]);
    assert_eq!(late.status()["events"], founder.status()["events"]);
    assert_eq!(late.printed(&["current", "--at", "s"]), expected);
    assert_ne!(late.printed(&["current"]), expected, "more has happened since");
    late.verify_clean();
}

#[test]
fn a_collection_leaves_the_states_that_are_in_use() {
    let temp = temp();
    let mut founder = domain(temp.path());
    let expected = founder.printed(&["current", "--at", "s"]);
    let ticket = founder.serve();
    let late = Machine::new("late", temp.path());
    late.one(["join", &ticket, "--snapshot-first"]);
    // Another newcomer may be told the same at any moment.
    let nothing = serde_json::json!([]);
    assert_eq!(founder.one(["gc", "--dry-run"])["freed"], nothing);
    assert_eq!(founder.one(["gc"])["freed"], nothing);
    let later = Machine::new("later", temp.path());
    later.one(["join", &ticket, "--snapshot-first"]);
    founder.stop();
    for newcomer in [&late, &later] {
        assert_eq!(newcomer.one(["gc"])["freed"], nothing);
        assert_eq!(newcomer.printed(&["current"]), expected);
    }
    // What nobody answers from is not kept: there, since it was started anew; here, since the log came.
    assert_eq!(founder.one(["gc"])["freed"].as_array().map(Vec::len), Some(1));
    founder.serve();
    late.one(["sync"]);
    assert_eq!(late.one(["gc"])["freed"].as_array().map(Vec::len), Some(1));
    assert_eq!(late.printed(&["current", "--at", "s"]), expected);
}

#[test]
fn without_a_snapshot_the_history_comes() {
    let temp = temp();
    let mut founder = Machine::found("a", temp.path());
    founder.emit("x");
    let ticket = founder.serve();
    let late = Machine::new("late", temp.path());
    let joined = late.one(["join", &ticket, "--snapshot-first"]);
    assert!(joined["events"].as_u64().is_some_and(|events| events >= 3), "{joined}");
    assert_eq!(late.digest(), founder.digest());
}

#[test]
fn a_state_that_was_changed_on_the_disk_is_left_out() {
    let temp = temp();
    let mut founder = domain(temp.path());
    let ticket = founder.serve();
    let late = Machine::new("late", temp.path());
    late.one(["join", &ticket, "--snapshot-first", "--artifacts", "none"]);
    founder.stop();
    let files = common::files_under(&temp.path().join("late/.quipu/artifacts"));
    let state = files.iter().find(|file| file.metadata().is_ok_and(|meta| meta.len() > 100));
    let state = state.expect("the file of the state");
    let mut bytes = std::fs::read(state).expect("its bytes");
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    std::fs::write(state, bytes).expect("written");
    late.try_run(["current"]).fails(4);
    founder.serve();
    late.one(["sync"]);
    assert_eq!(late.digest(), founder.digest());
}
