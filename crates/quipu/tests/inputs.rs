//! Wrong inputs: exit codes, errors and hints, and that nothing else happens.

mod common;

use common::{Machine, Ran, finish, program, temp, uuid};
use serde_json::Value;

/// The error as a script sees it: JSON on stderr, nothing on stdout.
#[track_caller]
fn refused(ran: &Ran, code: i32, words: &[&str]) -> Value {
    let text = ran.fails(code);
    assert_eq!(ran.stdout, "", "something on stdout");
    let object: Value = serde_json::from_str(text.lines().last().unwrap_or_default())
        .unwrap_or_else(|_| panic!("no JSON on stderr: {text}"));
    assert_eq!(object["code"], code);
    let message = format!("{} {}", object["error"], object["hint"]);
    for word in words {
        assert!(message.contains(word), "{word:?} is not in {message}");
    }
    object
}

#[test]
fn payloads() {
    let temp = temp();
    let a = Machine::found("a", temp.path());
    let before = a.status();
    let deep = "[".repeat(100) + &"]".repeat(100);
    let large = format!("\"{}\"", "x".repeat(70_000));
    let cases: &[(&str, &[&str])] = &[
        ("{", &["JSON"]),
        ("", &["JSON"]),
        ("{} {}", &["JSON"]),
        ("nonsense", &["JSON"]),
        (r#"{"a":1,"a":2}"#, &["\\\"a\\\""]),
        ("18446744073709551616", &["payload"]),
        ("-9223372036854775809000", &["payload"]),
        ("1e400", &[]),
        (r#""\ud800""#, &[]),
        (&deep, &["payload"]),
        (&large, &["65536", "artifact"]),
    ];
    for (payload, words) in cases {
        let shown: String = payload.chars().take(40).collect();
        eprintln_case(&shown);
        refused(&a.try_run(["emit", "app.note", payload]), 3, words);
        // The same through a pipe and a file.
        refused(&a.try_with(["emit", "app.note", "-"], payload.as_bytes()), 3, words);
        let file = temp.path().join("payload.json");
        std::fs::write(&file, payload).unwrap();
        refused(&a.try_run(["emit", "app.note", &format!("@{}", file.display())]), 3, words);
    }
    refused(&a.try_with(["emit", "app.note", "-"], b"\"\xff\xfe\""), 3, &["UTF-8"]);
    refused(&a.try_run(["emit", "app.note", "@/does/not/exist"]), 4, &["/does/not/exist"]);
    for kind in ["quipu.x", "member.add", "domain.create", "merge", "snapshot.x"] {
        refused(&a.try_run(["emit", kind, "{}"]), 3, &[kind, "reserved"]);
    }
    for kind in ["", "Has Space", "UPPER", "a..b", ".a", "a.", &"k".repeat(65), "ä"] {
        refused(&a.try_run(["emit", kind, "{}"]), 3, &[]);
    }
    assert_eq!(a.status(), before, "nothing was stored");
    // What just fits is stored as it came.
    for payload in [
        "null",
        "9223372036854775807",
        "-9223372036854775808",
        "18446744073709551615",
        "1.5",
        "\"\\u0000\"",
    ] {
        let id = uuid(&a.one(["emit", "app.note", payload]));
        let shown = a.one(["show", &id]);
        assert_eq!(shown["payload"], serde_json::from_str::<Value>(payload).unwrap());
    }
    let id = uuid(&a.try_with(["emit", "app.note", "-"], b"{\"from\":\"stdin\"}\n").items()[0]);
    assert_eq!(a.one(["show", &id])["payload"]["from"], "stdin");
    a.verify_clean();
}

#[expect(clippy::print_stderr, reason = "the harness shows it if the case fails")]
fn eprintln_case(case: &str) {
    eprintln!("case: {case}");
}

#[test]
fn batches() {
    let temp = temp();
    let mut a = Machine::found("a", temp.path());
    let good = "{\"kind\":\"app.note\",\"payload\":{\"n\":1}}\n";
    let file = temp.path().join("batch.ndjson");
    let wrong = [
        "{\"kind\":\"app.note\",\"payload\":\n",
        "{\"kind\":\"app.note\",\"payload\":{\"a\":1,\"a\":2}}\n",
        "{\"kind\":\"member.add\",\"payload\":{}}\n",
        "{\"kind\":\"NO\"}\n",
        "{\"payload\":1}\n",
        "[]\n",
        "{\"kind\":\"app.note\",\"payload\":1e400}\n",
    ];
    // Without a daemon, and with one.
    for served in [false, true] {
        if served {
            a.serve();
        }
        for line in wrong {
            let before = a.status()["events"].as_u64().unwrap();
            std::fs::write(&file, good.repeat(6) + line + &good.repeat(3)).unwrap();
            let ran = a.try_run(["emit", "--batch", file.to_str().unwrap()]);
            let error = ran.fails(3);
            assert!(error.contains("line 7"), "{error}");
            assert_eq!(ran.items().len(), 6, "{line}");
            let held = a.status()["events"].as_u64().unwrap();
            assert_eq!(held, before + 6, "{line}");
            a.holds(&ran.items().iter().map(uuid).collect::<Vec<_>>());
        }
        let mut invalid = good.repeat(6).into_bytes();
        invalid.extend_from_slice(b"{\"kind\":\"app.note\",\"payload\":\"\xff\"}\n");
        let ran = a.try_with(["emit", "--batch", "-"], &invalid);
        assert!(ran.fails(3).contains("line 7"));
        assert_eq!(ran.items().len(), 6);
        // Empty lines count, but say nothing; an empty batch is no error.
        let spaced = format!("\n{good}\n\n{good}");
        assert_eq!(a.try_with(["emit", "--batch", "-"], spaced.as_bytes()).items().len(), 2);
        let empty = a.try_with(["emit", "--batch", "-"], b"");
        assert_eq!((empty.code, empty.stdout.as_str()), (0, ""));
        // No newline at the end.
        assert_eq!(
            a.try_with(["emit", "--batch", "-"], good.trim_end().as_bytes()).items().len(),
            1
        );
    }
    refused(&a.try_run(["emit", "--batch", "/does/not/exist"]), 4, &["/does/not/exist"]);
    a.verify_clean();
}

#[test]
fn ids_and_keys() {
    let temp = temp();
    let a = Machine::found("a", temp.path());
    let id = a.emit("to be found");
    assert_eq!(a.one(["show", &id])["uuid"], id.as_str());
    assert_eq!(a.one(["show", &id[..16]])["uuid"], id.as_str());
    refused(&a.try_run(["show", &id[..7]]), 2, &["8 characters"]);
    // Ids share their first seven characters, so eight of them rarely do among many.
    a.write("many", 64);
    refused(&a.try_run(["show", &id[..8]]), 2, &["several"]);
    refused(&a.try_run(["show", "nonsense-nonsense"]), 2, &["nonsense"]);
    let mut unknown = id.clone();
    unknown.replace_range(20..24, "aaaa");
    refused(&a.try_run(["show", &unknown]), 4, &[&unknown]);
    refused(&a.try_run(["erase", &unknown, "--reason", "x"]), 4, &[&unknown]);
    let node = a.one(["id"])["node"].as_str().unwrap().to_owned();
    assert!(!a.run(["log", "--author", &node[..8]]).is_empty());
    refused(&a.try_run(["log", "--author", &node[..7]]), 2, &["8 digits"]);
    refused(&a.try_run(["log", "--author", "0123456789"]), 4, &["0123456789"]);
    refused(&a.try_run(["member", "remove", "zz"]), 2, &["zz"]);
    refused(&a.try_run(["member", "add", "zz", "--role", "writer"]), 2, &["zz"]);
    // Nobody removes the founder.
    refused(&a.try_run(["member", "remove", &node]), 3, &[&node]);
    // The root event stays.
    let root = a.log_ids()[0].clone();
    refused(&a.try_run(["erase", &root, "--reason", "x"]), 3, &["structural"]);
}

#[test]
fn directories_and_tickets() {
    let temp = temp();
    let mut a = Machine::found("a", temp.path());
    refused(&a.try_run(["init", "--domain", "again"]), 3, &["already"]);
    let nowhere = Machine::new("nowhere", temp.path());
    for command in
        ["status", "log", "id", "serve", "frontier", "verify", "sync", "members", "doctor"]
    {
        refused(&nowhere.try_run([command]), 4, &["quipu init"]);
    }
    refused(&nowhere.try_run(["emit", "app.note"]), 4, &["quipu init"]);
    let ticket = a.serve();
    // A ticket with one character changed, one cut off, and none at all.
    let at = ticket.len() / 2;
    let other = if ticket.as_bytes()[at] == b'a' { "b" } else { "a" };
    let mut changed = ticket.clone();
    changed.replace_range(at..=at, other);
    for wrong in [&changed, &ticket[..ticket.len() - 1], "quipu1", "nonsense", ""] {
        refused(&nowhere.try_run(["join", wrong]), 3, &["quipu invite"]);
    }
    assert!(!nowhere.dir.join(".quipu").exists());
    // Another domain's ticket: both ids in the error (EVT-7).
    let mut b = Machine::found("b", temp.path());
    let domains = [a.status()["domain"].clone(), b.status()["domain"].clone()];
    let [da, db] = domains.each_ref().map(|domain| domain.as_str().unwrap());
    refused(&b.try_run(["join", &ticket]), 3, &[da, db]);
    refused(&b.try_run(["sync", &ticket]), 3, &[da, db]);
    refused(&a.try_run(["join", &ticket]), 3, &["already"]);
    // Nobody there.
    let b_ticket = b.serve();
    b.stop();
    let error = refused(&nowhere.try_run(["join", &b_ticket]), 5, &["quipu serve"]);
    assert!(error["error"].as_str().unwrap().contains("cannot be reached"), "{error}");
    assert!(!nowhere.dir.join(".quipu").exists(), "a failed join leaves nothing behind");
    // An invitation that is used up.
    let once = a.one(["invite"])["ticket"].as_str().unwrap().to_owned();
    let _c = Machine::joined("c", temp.path(), &once);
    refused(&nowhere.try_run(["join", &once]), 5, &["used up", "quipu invite"]);
    let late = a.one(["invite", "--expires", "1s"])["ticket"].as_str().unwrap().to_owned();
    std::thread::sleep(std::time::Duration::from_millis(1100));
    refused(&nowhere.try_run(["join", &late]), 5, &["expired"]);
    // A reader reads, and does not write.
    let reader = a.one(["invite", "--role", "reader"])["ticket"].as_str().unwrap().to_owned();
    let d = Machine::joined("d", temp.path(), &reader);
    refused(&d.try_run(["emit", "app.note", "1"]), 3, &["reader", "member add"]);
    refused(&d.try_run(["invite"]), 3, &[]);
}

#[test]
fn usage() {
    let temp = temp();
    let wrong: &[&[&str]] = &[
        &[],
        &["nonsense"],
        &["emit"],
        &["emit", "app.note", "1", "2"],
        &["emit", "app.note", "--batch", "x"],
        &["log", "--limit", "many"],
        &["invite", "--role", "king"],
        &["invite", "--expires", "soon"],
        &["serve", "--listen", "here"],
        &["export"],
        &["export", "--format", "pdf"],
        &["member", "add"],
        &["erase", "bafyr4ianything"],
        &["init", "--parents-max", "1"],
        &["init", "--salt-bytes", "64"],
    ];
    for arguments in wrong {
        let mut command = program(temp.path());
        command.args(*arguments);
        let ran = finish(command, b"");
        let error = ran.fails(2);
        assert!(ran.stdout.is_empty() && !error.is_empty(), "{arguments:?}");
        // For a script the same is one object on one line.
        let mut command = program(temp.path());
        command.arg("--json").args(*arguments);
        let ran = finish(command, b"");
        let object = refused(&ran, 2, &[]);
        assert_eq!(ran.stderr.lines().count(), 1, "{arguments:?}");
        let message = object["error"].as_str().unwrap();
        assert!(!message.is_empty() && !message.starts_with("error"), "{message}");
        assert!(object["hint"].as_str().is_some_and(|hint| !hint.is_empty()), "{object}");
    }
    let object = {
        let mut command = program(temp.path());
        command.args(["log", "--limit", "many", "--json"]);
        refused(&finish(command, b""), 2, &["'many'", "--limit"])
    };
    assert!(object["error"].as_str().unwrap().starts_with("invalid value"), "{object}");
    // Behind `--` it is no option.
    let mut command = program(temp.path());
    command.args(["nonsense", "--", "--json"]);
    assert!(finish(command, b"").fails(2).starts_with("error: "));
    for arguments in [["--help"].as_slice(), &["--version"], &["emit", "--help"]] {
        let mut command = program(temp.path());
        command.args(arguments);
        let ran = finish(command, b"");
        assert_eq!((ran.code, ran.stderr.as_str()), (0, ""), "{arguments:?}");
        assert!(ran.stdout.contains("quipu"));
    }
}

#[test]
fn errors_for_people() {
    let temp = temp();
    let mut command = program(temp.path());
    command.args(["--dir", "nowhere", "status"]);
    let ran = finish(command, b"");
    assert_eq!(ran.code, 4);
    assert_eq!(ran.stdout, "");
    let lines: Vec<&str> = ran.stderr.lines().collect();
    assert_eq!(
        lines,
        ["error: no quipu store in nowhere", "hint: quipu init, or quipu join TICKET"]
    );
}
