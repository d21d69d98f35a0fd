//! Artifacts as a user sees them: put, got, claimed differently, damaged, collected.

mod common;

use std::collections::BTreeSet;
use std::io::{Read, Write};
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use common::data::{arg, noise, refused, text, texts};
use common::disk::with_small_disk;
use common::{Machine, agree, finish, skip, temp, until, uuid};
use serde_json::Value;

/// Bytes of a group, the unit of verification.
const GROUP: usize = 16 << 10;

/// A machine that joined and fetches as that policy says.
fn joined_with(name: &'static str, root: &Path, ticket: &str, policy: &str) -> Machine {
    let machine = Machine::new(name, root);
    machine.one(["join", ticket, "--artifacts", policy]);
    machine
}

#[test]
fn all_sizes_in_and_out() {
    let temp = temp();
    let mut a = Machine::found("a", temp.path());
    let sizes = [0, 1, GROUP - 1, GROUP, GROUP + 1, 64 * GROUP, (3 << 20) + 5];
    let bytes = sizes.map(|size| noise(size as u64, size));
    let files: Vec<_> = sizes.iter().zip(&bytes).map(|(n, b)| a.file(&n.to_string(), b)).collect();
    for served in [false, true] {
        if served {
            a.serve();
        }
        let before = a.status()["events"].as_u64().unwrap();
        // All files in one command; then one through a pipe.
        let mut arguments = vec!["put", "--type", "application/x-noise"];
        arguments.extend(files.iter().map(|file| arg(file)));
        let rows = a.run(arguments);
        assert_eq!(rows.len(), sizes.len());
        let piped = a.put(&bytes[6], Some("application/x-noise"));
        assert_eq!(piped["key"], rows[6]["key"]);
        assert_eq!(piped["new"], false, "the same bytes again are no event");
        for ((size, bytes), row) in sizes.iter().zip(&bytes).zip(&rows) {
            assert_eq!((&row["size"], &row["have"]), (&(*size).into(), &true.into()));
            assert_eq!(row["type_tag"], "application/x-noise");
            assert_eq!(row["new"], !served, "{row}");
            let key = text(row, "key");
            assert!(a.get(&key) == *bytes && a.get(&key[..20]) == *bytes, "{size}");
            let mut command = a.command();
            command.args(["get", &key]);
            let output = command.output().unwrap();
            assert!(output.status.success() && output.stdout == *bytes, "{size} to stdout");
        }
        let news = if served { 0 } else { sizes.len() as u64 };
        assert_eq!(a.status()["events"].as_u64().unwrap(), before + news);
    }
    // Without a type it says less than what is known: no news. With another type it is.
    assert_eq!(a.put(&bytes[3], None)["new"], false);
    let clash = a.put(&bytes[3], Some("text/plain"));
    assert_eq!((&clash["new"], &clash["conflict"]), (&true.into(), &true.into()));
    assert_eq!(a.run(["artifacts"]).len(), sizes.len());
    let report = a.one(["verify"]);
    assert_eq!((&report["artifacts"], &report["problems"]), (&7.into(), &serde_json::json!([])));
}

#[test]
fn a_tombstone_hides_and_another_put_revives() {
    let temp = temp();
    let mut a = Machine::found("a", temp.path());
    let ticket = a.serve();
    let b = Machine::joined("b", temp.path(), &ticket);
    let key = a.key_of(b"to be hidden");
    a.one(["tombstone", &key]);
    assert_eq!(a.run(["artifacts"]), Vec::<Value>::new());
    assert_eq!(a.artifact(&key).unwrap()["hidden"], true);
    refused(&a.try_run(["tombstone", &key]), 4, &[&key, "artifacts --hidden"]);
    assert_eq!(a.get(&key), b"to be hidden", "hidden, not gone");
    b.one(["sync"]);
    assert!(!b.has(&key), "nobody fetches what is hidden");
    let again = b.put(b"to be hidden", None);
    assert_eq!(again["new"], true);
    b.one(["sync"]);
    for machine in [&a, &b] {
        assert_eq!(texts(&machine.run(["artifacts"]), "key"), [key.as_str()]);
        assert_eq!(machine.get(&key), b"to be hidden");
    }
    assert_eq!(a.artifact(&key), b.artifact(&key));
}

#[test]
fn wrong_inputs_change_nothing() {
    let temp = temp();
    let mut a = Machine::found("a", temp.path());
    let key = a.key_of(&noise(1, 100_000));
    let good = a.file("good", b"good");
    let missing = temp.path().join("missing");
    for served in [false, true] {
        if served {
            a.serve();
        }
        let before = a.status()["events"].clone();
        let put = |file: &str| a.try_run(["put", file]);
        refused(&put(arg(&missing)), 4, &[arg(&missing), "no such file"]);
        refused(&put(arg(temp.path())), 3, &[arg(temp.path()), "directory"]);
        refused(&put("/proc/self/mem"), 3, &["/proc/self/mem"]);
        assert_eq!(a.try_run(["put"]).code, 2);
        for tag in [&"x".repeat(129)[..], ""] {
            refused(&a.try_run(["put", arg(&good), "--type", tag]), 3, &["128 bytes"]);
        }
        let incoming = a.dir.join(".quipu/artifacts/incoming");
        assert_eq!(std::fs::read_dir(incoming).unwrap().count(), 0, "something is left");
        assert_eq!(a.status()["events"], before);
        // Files before a bad one are in.
        let ran = a.try_run(["put", arg(&good), arg(&missing)]);
        assert_eq!((ran.code, ran.items().len()), (4, 1));
        assert_eq!(ran.items()[0]["new"], !served);

        let nowhere = format!("{}{}", &key[..7], "a".repeat(key.len() - 7));
        refused(&a.try_run(["get", &nowhere]), 4, &[&nowhere]);
        refused(&a.try_run(["get", &nowhere[..20]]), 4, &["no artifact"]);
        refused(&a.try_run(["get", "short"]), 2, &["short", "8 characters"]);
        refused(&a.try_run(["pin", &nowhere]), 4, &[&nowhere]);
        refused(&a.try_run(["conflicts", "resolve", &key, "--keep", "x"]), 4, &["disagree"]);
        for place in ["/proc/x", arg(&missing.join("x")), arg(temp.path())] {
            refused(&a.try_run(["get", &key, "-o", place]), 6, &[place]);
        }
    }
    assert_eq!(a.try_run(["join", "x", "y", "--artifacts", "some"]).code, 2);
    a.verify_clean();
}

#[test]
fn bytes_go_where_they_should() {
    let temp = temp();
    let a = Machine::found("a", temp.path());
    let bytes = noise(1, 300_000);
    let key = a.key_of(&bytes);
    // A pipe stays a pipe.
    let pipe = temp.path().join("pipe");
    assert!(Command::new("mkfifo").arg(&pipe).status().unwrap().success());
    let read = std::thread::spawn({
        let pipe = pipe.clone();
        move || std::fs::read(pipe).unwrap()
    });
    a.one(["get", &key, "-o", arg(&pipe)]);
    assert!(read.join().unwrap() == bytes);
    assert!(!std::fs::metadata(&pipe).unwrap().is_file());
    // What was there is replaced, its neighbours stay, and nothing else is left.
    let dir = temp.path().join("out");
    std::fs::create_dir(&dir).unwrap();
    for name in ["x", "x.part"] {
        std::fs::write(dir.join(name), name).unwrap();
    }
    a.one(["get", &key, "-o", arg(&dir.join("x"))]);
    assert!(std::fs::read(dir.join("x")).unwrap() == bytes);
    assert_eq!(std::fs::read(dir.join("x.part")).unwrap(), b"x.part");
    assert_eq!(std::fs::read_dir(&dir).unwrap().count(), 2);
    // Whoever reads only the beginning has seen enough.
    let mut child = a.command().args(["get", &key]).stdout(Stdio::piped()).spawn().unwrap();
    child.stdout.take().unwrap().read_exact(&mut [0; 10]).unwrap();
    let code = child.wait().unwrap().code();
    assert!(matches!(code, Some(0)), "{code:?}");
}

#[test]
fn policies() {
    let temp = temp();
    let mut a = Machine::found("a", temp.path());
    let ticket = a.serve();
    let small = a.key_of(&noise(1, 9_999));
    let large = a.key_of(&noise(2, 400_000));
    let mut none = joined_with("none", temp.path(), &ticket, "none");
    let mut below = joined_with("below", temp.path(), &ticket, "below:10k");
    let all = Machine::joined("all", temp.path(), &ticket);
    none.one(["sync"]);
    below.one(["sync"]);
    all.one(["sync"]);
    let has = |machine: &Machine| (machine.has(&small), machine.has(&large));
    assert_eq!((has(&none), has(&below), has(&all)), ((false, false), (true, false), (true, true)));
    // On demand, without a daemon: it stays then.
    assert!(none.get(&small[..16]) == noise(1, 9_999));
    assert_eq!(has(&none), (true, false));
    // With one; and what comes later follows the policy as well.
    none.serve();
    below.serve();
    assert!(none.get(&large) == noise(2, 400_000));
    assert_eq!(has(&none), (true, true));
    let later = a.key_of(&noise(3, 9_999));
    let too_large = a.key_of(&noise(4, 10_000));
    until("below:10k has what is small", || below.has(&later));
    agree(&[&a, &none, &below]);
    assert!(!none.has(&later) && !none.has(&too_large) && !below.has(&too_large));
    // Nobody there who has it.
    a.stop();
    let ran = none.try_run(["get", &too_large, "-o", arg(&temp.path().join("nothing"))]);
    assert!([4, 5].contains(&ran.code), "{} {}", ran.code, ran.stderr);
    assert!(ran.stderr.contains(&too_large), "{}", ran.stderr);
    assert!(!temp.path().join("nothing").exists());
    none.kill();
    // Another policy at the next start fetches what was left out.
    below.kill();
    a.serve();
    below.serve_with(&["--artifacts", "all"]);
    until("all are here", || below.has(&large) && below.has(&too_large));
    below.stop();
    below.serve();
    let last = a.key_of(&noise(5, 50_000));
    until("the policy is remembered", || below.has(&last));
}

#[test]
fn damage_is_named_and_put_again_mends_it() {
    let temp = temp();
    let mut a = Machine::found("a", temp.path());
    let bytes = noise(1, 20 * GROUP + 7);
    let key = a.key_of(&bytes);
    let small = a.key_of(b"small");
    let out = temp.path().join("out");
    let flip = |key: &str, at: usize| a.spoil(key, |bytes| bytes[at] ^= 1);
    let changes: [(&str, &dyn Fn()); 5] = [
        ("one bit", &|| flip(&key, 5 * GROUP)),
        ("the last byte", &|| flip(&key, 20 * GROUP + 6)),
        ("cut", &|| a.spoil(&key, |bytes| bytes.truncate(7 * GROUP))),
        ("longer", &|| a.spoil(&key, |bytes| bytes.push(0))),
        ("empty", &|| a.spoil(&key, Vec::clear)),
    ];
    for (what, change) in changes {
        change();
        let ran = a.try_run(["get", &key, "-o", arg(&out)]);
        refused(&ran, 6, &[&key, "damaged", "quipu verify"]);
        assert!(!out.exists(), "{what}: damaged bytes were handed out");
        let ran = a.try_run(["verify"]);
        assert_eq!(ran.code, 1, "{what}: {}", ran.stdout);
        let problems = ran.items()[0]["problems"].as_array().unwrap().clone();
        assert_eq!(texts(&problems, "what"), ["artifact"], "{what}");
        assert_eq!(text(&problems[0], "object"), key);
        assert_eq!(a.get(&small), b"small");
        // The same bytes once more: acknowledged, so they are here.
        let again = a.put(&bytes, None);
        assert_eq!((&again["new"], &again["have"]), (&false.into(), &true.into()), "{what}");
        assert!(a.get(&key) == bytes, "{what}");
        a.verify_clean();
    }
    a.spoil(&small, |bytes| bytes[2] ^= 0x80);
    refused(&a.try_run(["get", &small]), 6, &[&small]);
    a.serve();
    a.put(b"small", None);
    assert_eq!(a.get(&small), b"small", "through a daemon as well");
    a.verify_clean();
}

#[test]
fn a_damaged_copy_is_never_passed_on() {
    let temp = temp();
    let mut a = Machine::found("a", temp.path());
    let ticket = a.serve();
    let bytes = noise(1, 100 * GROUP);
    let (key, cut) = (a.key_of(&bytes), a.key_of(&noise(2, 40 * GROUP)));
    let whole = a.key_of(&noise(3, 30 * GROUP));
    let mut b = Machine::joined("b", temp.path(), &ticket);
    b.one(["sync"]);
    assert!(b.has(&key) && b.has(&cut));
    b.spoil(&key, |bytes| bytes[70 * GROUP] ^= 1);
    b.spoil(&cut, |bytes| bytes.truncate(10 * GROUP));
    let b_ticket = b.serve();
    let mut c = joined_with("c", temp.path(), &ticket, "none");
    c.one(["sync", &b_ticket]);
    a.stop();
    let out = temp.path().join("out");
    for served in [false, true] {
        if served {
            c.serve();
        }
        // A machine that is away is given some seconds, for each command without a daemon.
        for key in [&key, &cut].into_iter().take(1 + usize::from(served)) {
            let ran = c.try_run(["get", key, "-o", arg(&out)]);
            assert!([4, 5].contains(&ran.code), "{} {}", ran.code, ran.stderr);
            assert!(ran.stderr.contains(key.as_str()), "{}", ran.stderr);
            assert!(!out.exists() && !c.has(key));
        }
    }
    // B sent nothing that C would have had to turn it away for: it is a peer like any other.
    for machine in [&b, &c] {
        let findings = machine.one(["doctor"])["findings"].to_string();
        assert!(!findings.contains("\"peer\""), "{findings}");
    }
    assert!(c.get(&whole) == noise(3, 30 * GROUP));
    c.kill();
    a.serve();
    c.serve();
    until("the third machine has the bytes from the first", || {
        c.try_run(["get", &key, "-o", arg(&out)]).code == 0
    });
    assert!(std::fs::read(&out).unwrap() == bytes);
    assert!(c.get(&cut) == noise(2, 40 * GROUP));
    c.verify_clean();
    for key in [&key, &cut] {
        refused(&b.try_run(["get", key, "-o", arg(&out)]), 6, &[key]);
    }
    b.emit("the log is not to blame");
    agree(&[&a, &b]);
}

#[test]
fn claims_that_disagree() {
    let temp = temp();
    let mut a = Machine::found("a", temp.path());
    let ticket = a.serve();
    let b = Machine::joined("b", temp.path(), &ticket);
    let c = Machine::joined("c", temp.path(), &ticket);
    b.one(["sync"]);
    let put = |machine: &Machine, tag| machine.put(b"seen differently", tag);
    let first = put(&a, Some("text/plain"));
    put(&b, Some("text/markdown"));
    put(&b, None);
    let key = text(&first, "key");
    assert_eq!(a.printed(&["conflicts"]), "", "they have not heard of each other");
    b.one(["sync"]);
    agree(&[&a, &b]);
    let conflicts = |machine: &Machine, code: i32| {
        let ran = machine.try_run(["conflicts"]);
        assert_eq!(ran.code, code, "{} {}", ran.stdout, ran.stderr);
        ran.stdout
    };
    let open = conflicts(&a, 1);
    assert_eq!(conflicts(&b, 1), open, "the same bytes");
    let conflict: Value = serde_json::from_str(&open).unwrap();
    assert_eq!((text(&conflict, "id"), text(&conflict, "what")), (key.clone(), "type_tag".into()));
    assert_eq!(conflict["candidates"].as_array().unwrap().len(), 2, "{conflict}");
    // The rule takes the first.
    assert_eq!(conflict["resolution"]["type_tag"], "text/plain");
    assert_eq!((&conflict["open"], &conflict["resolution"]["by"]), (&true.into(), &"rule".into()));
    for machine in [&a, &b] {
        assert_eq!(machine.artifact(&key).unwrap()["type_tag"], "text/plain");
        assert_eq!(machine.artifact(&key).unwrap()["conflict"], true);
    }
    let size = b"seen differently".len().to_string();
    refused(&b.try_run(["conflicts", "resolve", &key, "--keep", &size]), 2, &["several"]);
    refused(&b.try_run(["conflicts", "resolve", &key, "--keep", "image/png"]), 4, &["image/png"]);
    let resolved = b.one(["conflicts", "resolve", &key[..16], "--keep", "text/markdown"]);
    assert_eq!(resolved["resolution"]["type_tag"], "text/markdown");
    b.one(["sync"]);
    let decided = conflicts(&a, 0);
    assert_eq!(conflicts(&b, 0), decided);
    let decided: Value = serde_json::from_str(&decided).unwrap();
    assert_eq!(
        (&decided["open"], &decided["resolution"]["by"]),
        (&false.into(), &resolved["uuid"])
    );
    for machine in [&a, &b] {
        assert_eq!(machine.artifact(&key).unwrap()["type_tag"], "text/markdown");
        assert_eq!(machine.artifact(&key).unwrap()["conflict"], false);
    }
    // A claim that nobody knew when it was decided.
    put(&c, Some("text/html"));
    c.one(["sync"]);
    b.one(["sync"]);
    let reopened = conflicts(&c, 1);
    assert_eq!((conflicts(&a, 1), conflicts(&b, 1)), (reopened.clone(), reopened.clone()));
    let reopened: Value = serde_json::from_str(&reopened).unwrap();
    assert_eq!(reopened["candidates"].as_array().unwrap().len(), 3);
    // By event, for one of them; and the one before is history.
    let event = uuid(&reopened["candidates"][2]);
    a.one(["conflicts", "resolve", &key, "--keep", &event[..24]]);
    b.one(["sync"]);
    let last = conflicts(&b, 0);
    assert_eq!(conflicts(&a, 0), last);
    let tag = &reopened["candidates"][2]["type_tag"];
    assert_eq!(serde_json::from_str::<Value>(&last).unwrap()["resolution"]["type_tag"], *tag);
    a.put(b"no quarrel", Some("text/plain"));
    assert_eq!(a.run(["conflicts"]).len(), 1);
}

/// Many requests to a daemon over one connection: far faster than a process for each.
#[track_caller]
fn ask_all(machine: &Machine, method: &str, params: &[Value]) {
    let mut stream =
        std::os::unix::net::UnixStream::connect(text(&machine.ready, "socket")).unwrap();
    let lines: String = params
        .iter()
        .map(|params| serde_json::json!({ "id": 1, "method": method, "params": params }))
        .map(|line| line.to_string() + "\n")
        .collect();
    let mut reader = std::io::BufReader::new(stream.try_clone().unwrap());
    let sent = std::thread::spawn(move || stream.write_all(lines.as_bytes()).unwrap());
    let mut done = 0;
    while done < params.len() {
        let mut line = String::new();
        std::io::BufRead::read_line(&mut reader, &mut line).unwrap();
        let answer: Value = serde_json::from_str(&line).unwrap_or_else(|_| panic!("{line:?}"));
        assert_eq!(answer["error"], Value::Null, "{answer}");
        done += usize::from(answer["done"] == true);
    }
    sent.join().unwrap();
}

/// Puts so many small files in one command; gives their keys.
fn put_many(machine: &Machine, label: &str, count: usize) -> Vec<String> {
    let files: Vec<_> = (0..count)
        .map(|n| machine.file(&format!("{label}{n}"), format!("{label} {n}").as_bytes()))
        .collect();
    let mut arguments = vec!["put"];
    arguments.extend(files.iter().map(|file| arg(file)));
    texts(&machine.run(arguments), "key")
}

fn tombstone_all(machine: &Machine, keys: &[String]) {
    let params: Vec<Value> = keys.iter().map(|key| serde_json::json!({ "what": key })).collect();
    ask_all(machine, "tombstone", &params);
}

#[test]
fn what_is_held_is_not_collected() {
    let temp = temp();
    let mut a = Machine::found("a", temp.path());
    let ticket = a.serve();
    let keys = put_many(&a, "file", 6);
    let [visible, pinned, first, second, free, peer_pinned] = &keys[..] else { unreachable!() };
    let mut b = Machine::joined("b", temp.path(), &ticket);
    b.one(["sync"]);
    tombstone_all(&a, std::slice::from_ref(second));
    a.put(b"file 3", None);
    let of_first = a.snapshot("first");
    tombstone_all(&a, std::slice::from_ref(first));
    a.snapshot("second");
    tombstone_all(&a, &[pinned.clone(), second.clone(), free.clone(), peer_pinned.clone()]);
    a.one(["pin", pinned]);
    b.one(["sync"]);
    b.one(["pin", peer_pinned]);
    b.one(["sync"]);
    let gc = |machine: &Machine| {
        let dry = machine.one(["gc", "--dry-run"]);
        let held: Vec<String> = keys.iter().filter(|key| machine.has(key)).cloned().collect();
        let wet = machine.one(["gc"]);
        assert_eq!((&dry["freed"], &dry["freed_bytes"]), (&wet["freed"], &wet["freed_bytes"]));
        assert_eq!((&dry["dry_run"], &wet["dry_run"]), (&true.into(), &false.into()));
        let freed: BTreeSet<String> = wet["freed"]
            .as_array()
            .unwrap()
            .iter()
            .map(|key| key.as_str().unwrap().into())
            .collect();
        for key in held {
            assert_eq!(machine.has(&key), !freed.contains(&key), "{key}");
        }
        assert_eq!(machine.one(["gc"])["freed"], serde_json::json!([]), "a second time");
        freed.into_iter().collect::<Vec<_>>()
    };
    assert_eq!(gc(&a), Vec::<String>::new(), "the first snapshot holds even what is free now");
    a.one(["snapshot", "drop", "first"]);
    let freed = gc(&a);
    assert_eq!(freed, [first.as_str()]);
    // In the second snapshot they were visible. By name, federated id or id: it is let go.
    a.one(["snapshot", "drop", "second"]);
    let mut rest = [second.as_str(), free.as_str()];
    rest.sort_unstable();
    assert_eq!(gc(&a), rest);
    assert!(a.has(visible) && a.has(pinned) && a.has(peer_pinned));
    // What a snapshot says stays so; only the bytes are gone.
    let shown = a.one(["snapshot", "show", &of_first]);
    assert_eq!((&shown["verified"], &shown["dropped"]), (&true.into(), &true.into()));
    assert_eq!(a.run(["artifacts", "--at", &of_first]).len(), 6);
    // The other machine lets go when it has heard of it, and not before.
    assert_eq!(gc(&b), Vec::<String>::new());
    b.one(["sync"]);
    b.serve();
    assert_eq!(gc(&b).len(), 3);
    a.one(["unpin", pinned]);
    b.one(["unpin", peer_pinned]);
    agree(&[&a, &b]);
    for machine in [&a, &b] {
        assert_eq!(gc(machine).len(), 2);
        assert_eq!(machine.run(["artifacts"]).len(), 1);
        machine.verify_clean();
    }
    // It comes back with another put.
    assert_eq!(a.put(b"file 2", None)["new"], true);
    until("the other machine fetches it", || b.has(first));
}

#[test]
fn a_collection_that_is_killed_loses_nothing() {
    let temp = temp();
    let mut a = Machine::found("a", temp.path());
    a.serve();
    let keys = put_many(&a, "file", 240);
    let (free, held) = keys.split_at(160);
    tombstone_all(&a, free);
    a.stop();
    let on_disk = || keys.iter().filter(|key| a.stored(key).exists()).count();
    let mut steps = vec![on_disk()];
    for round in 0..12 {
        let mut gc = a.command().arg("gc").stdout(Stdio::null()).spawn().unwrap();
        std::thread::sleep(Duration::from_millis(15 + 7 * round));
        gc.kill().unwrap();
        gc.wait().unwrap();
        steps.push(on_disk());
    }
    assert!(held.iter().all(|key| a.stored(key).exists()), "{steps:?}");
    // An import that was killed leaves files, too.
    let stray = a.dir.join(".quipu/artifacts/incoming/4194305-0123456789abcdef");
    std::fs::write(&stray, b"left by an import that was killed").unwrap();
    let (planned, done) = (a.one(["gc", "--dry-run"]), a.one(["gc"]));
    for field in ["freed_bytes", "freed", "leftovers", "leftover_bytes"] {
        assert_eq!(planned[field], done[field], "{field}");
    }
    assert!(done["leftovers"].as_u64() >= Some(1) && done["leftover_bytes"].as_u64() >= Some(33));
    assert!(!stray.exists());
    assert_eq!(a.one(["gc", "--dry-run"])["leftovers"], 0);
    assert_eq!(on_disk(), held.len(), "{steps:?}");
    assert_eq!(a.one(["verify", "--rebuild"])["artifacts"], held.len());
    for (n, key) in keys.iter().enumerate().skip(160) {
        assert_eq!(std::fs::read(a.stored(key)).unwrap(), format!("file {n}").as_bytes());
    }
    assert_eq!(a.run(["artifacts"]).iter().filter(|row| row["have"] == true).count(), held.len());
    a.verify_clean();
}

#[test]
fn what_is_put_while_others_collect_is_here() {
    let temp = temp();
    let mut a = Machine::found("a", temp.path());
    a.serve();
    // These are hidden and put again, over and over: collected just when they come back.
    let again = put_many(&a, "again", 8);
    let stop = AtomicBool::new(false);
    let (kept, collected) = std::thread::scope(|scope| {
        let collector = scope.spawn(|| {
            let mut freed = 0;
            while !stop.load(Ordering::Relaxed) {
                freed += a.one(["gc"])["freed"].as_array().unwrap().len();
            }
            freed
        });
        let hider = scope.spawn(|| {
            while !stop.load(Ordering::Relaxed) {
                for key in &again {
                    let ran = a.try_run(["tombstone", key]);
                    assert!([0, 4].contains(&ran.code), "{}", ran.stderr);
                }
            }
        });
        let mut kept = Vec::new();
        for round in 0..8 {
            kept.extend(put_many(&a, &format!("new{round}-"), 5));
            assert_eq!(put_many(&a, "again", 8), again);
        }
        stop.store(true, Ordering::Relaxed);
        hider.join().unwrap();
        (kept, collector.join().unwrap())
    });
    assert!(collected > 0, "nothing was ever collected");
    put_many(&a, "again", 4);
    let rows = a.run(["artifacts"]);
    let lacking: Vec<&Value> = rows.iter().filter(|row| row["have"] != true).collect();
    assert!(lacking.is_empty(), "visible and not here: {lacking:?}");
    let visible: BTreeSet<String> = texts(&rows, "key").into_iter().collect();
    assert!(kept.iter().chain(&again[..4]).all(|key| visible.contains(key)));
    a.verify_clean();
}

#[test]
fn a_full_disk_refuses_and_keeps_what_it_has() {
    let temp = temp();
    let Some(disk) = with_small_disk(temp.path(), 2_560) else {
        return skip("no tmpfs can be mounted here");
    };
    let mut a = Machine::found("disk/a", temp.path());
    let kept = a.key_of(&noise(1, 500_000));
    let victim = a.key_of(&noise(2, 900_000));
    let large = temp.path().join("large");
    std::fs::write(&large, noise(3, 2_000_000)).unwrap();
    for served in [false, true] {
        if served {
            a.serve();
        }
        refused(&a.try_run(["put", arg(&large)]), 6, &["full", "quipu gc"]);
        let ran = a.try_run(["get", &kept, "-o", arg(&disk.0.join("no room"))]);
        assert_eq!(ran.code, 0, "there is room for this: {}", ran.stderr);
        let ran = a.try_run(["get", &victim, "-o", arg(&disk.0.join("one more"))]);
        refused(&ran, 6, &["one more"]);
        assert!(!disk.0.join("one more").exists());
        std::fs::remove_file(disk.0.join("no room")).unwrap();
        assert!(a.get(&kept) == noise(1, 500_000));
        a.verify_clean();
    }
    // Room is made as the hint says.
    a.one(["tombstone", &victim]);
    assert_eq!(a.one(["gc"])["freed_bytes"], 900_000);
    std::fs::write(&large, noise(3, 1_200_000)).unwrap();
    let key = text(&a.one(["put", arg(&large)]), "key");
    assert!(a.get(&key) == noise(3, 1_200_000));
}

#[test]
fn commands_for_people() {
    let temp = temp();
    let a = Machine::found("a", temp.path());
    let key = a.key_of(b"for people");
    a.put(b"for people", Some("text/plain"));
    a.put(b"for people", Some("text/x"));
    let plain = |arguments: &[&str]| {
        let mut command = a.command();
        command.args(arguments);
        finish(command, b"")
    };
    for (arguments, code, words) in [
        (&["artifacts"][..], 0, &[key.as_str(), "text/plain", "true"][..]),
        (&["conflicts"], 1, &[&key, "text/plain", "text/x", "undecided"]),
        (&["snapshot", "create", "--name", "monday"], 0, &["monday", "root"]),
        (&["snapshots"], 0, &["monday"]),
        (&["snapshot", "show", "monday"], 0, &["verified", "true"]),
        (&["provenance"], 0, &["monday", &key]),
        (&["federation"], 0, &["last_snapshot"]),
        (&["gc", "--dry-run"], 0, &["freed_bytes", "0"]),
    ] {
        let ran = plain(arguments);
        assert_eq!(ran.code, code, "{arguments:?}: {}", ran.stderr);
        for word in words {
            assert!(ran.stdout.contains(word), "{word:?} is not in {}", ran.stdout);
        }
    }
    let ran = plain(&["get", "short"]);
    assert!(ran.fails(2).starts_with("error: "), "{}", ran.stderr);
}
