//! Events by file: bundles, exports, and payloads that are erased everywhere.

mod common;

use std::path::Path;

use common::data::{noise, refused, text};
use common::{Machine, agree, files_under, temp, uuid};

/// Two machines of a domain, the second behind; nobody serves.
fn pair(root: &Path) -> (Machine, Machine) {
    let mut a = Machine::found("a", root);
    let ticket = a.serve();
    let b = Machine::joined("b", root, &ticket);
    a.stop();
    (a, b)
}

fn path(root: &Path, name: &str) -> String {
    root.join(name).to_str().unwrap().to_owned()
}

#[test]
fn bundles_without_network() {
    let temp = temp();
    let (a, b) = pair(temp.path());
    a.write("from a", 3000);
    b.write("from b", 100);
    let [full, small, back, cut, damaged] =
        ["full", "small", "back", "cut", "damaged"].map(|name| path(temp.path(), name));
    let exported = a.one(["bundle", "export", &full]);
    let size = std::fs::metadata(&full).unwrap().len();
    assert_eq!(exported["bytes"].as_u64().unwrap(), size);
    assert_eq!(exported["events"], a.status()["events"]);

    // Damaged files say so, and lose nothing.
    let bytes = std::fs::read(&full).unwrap();
    let before = b.digest();
    for length in [0, 7, 39, 41, bytes.len() / 2, bytes.len() - 1] {
        std::fs::write(&cut, &bytes[..length]).unwrap();
        let ran = b.try_run(["bundle", "import", &cut]);
        assert!(ran.fails(3).contains("hint"), "{}", ran.stderr);
        b.verify_clean();
    }
    let mut wrong = bytes.clone();
    wrong[60] ^= 1;
    std::fs::write(&damaged, &wrong).unwrap();
    b.try_run(["bundle", "import", &damaged]).fails(3);
    b.verify_clean();
    let _before = before;
    b.one(["bundle", "import", &full]);
    // The way back carries only what is missing.
    let tips = path(temp.path(), "tips.json");
    std::fs::write(&tips, a.one(["frontier"]).to_string()).unwrap();
    let exported = b.one(["bundle", "export", &back, "--for", &tips]);
    assert_eq!(exported["events"], 100);
    let imported = a.one(["bundle", "import", &back]);
    assert_eq!(imported["events"], 100);
    assert_eq!(a.one(["bundle", "import", &back])["events"], 0, "a second time brings nothing");
    agree(&[&a, &b]);
    a.emit("one more");
    std::fs::write(&tips, b.one(["frontier"]).to_string()).unwrap();
    a.one(["bundle", "export", &small, "--for", &tips]);
    assert!(std::fs::metadata(&small).unwrap().len() * 10 < size);
    b.one(["bundle", "import", &small]);
    agree(&[&a, &b]);

    let other = Machine::found("other", temp.path());
    let ran = other.try_run(["bundle", "import", &full]);
    let error = ran.fails(3);
    for machine in [&a, &other] {
        assert!(error.contains(machine.status()["domain"].as_str().unwrap()), "{error}");
    }
    let ran = b.try_run(["bundle", "import", &path(temp.path(), "nothing here")]);
    ran.fails(4);
    for machine in [&a, &b] {
        machine.verify_clean();
    }
}

#[test]
fn exports_are_loaded_by_a_machine_that_is_behind() {
    for format in ["ndjson", "car"] {
        let temp = temp();
        let (a, b) = pair(temp.path());
        a.write("from a", 300);
        let victim = a.emit("to be erased");
        a.one(["erase", &victim, "--reason", "test"]);
        let file = path(temp.path(), &format!("events.{format}"));
        let exported = a.one(["export", "--format", format, &file]);
        assert_eq!(exported["events"], a.status()["events"], "{format}");
        b.one(["load", "--format", format, &file]);
        agree(&[&a, &b]);
        b.verify_clean();
        // Cut in the middle: refused, and what is there is whole.
        let bytes = std::fs::read(&file).unwrap();
        std::fs::write(&file, &bytes[..bytes.len() / 2]).unwrap();
        b.try_run(["load", "--format", format, &file]).fails(3);
        b.verify_clean();
        let other = Machine::found("other", temp.path());
        std::fs::write(&file, &bytes).unwrap();
        let ran = other.try_run(["load", "--format", format, &file]);
        assert!(ran.fails(3).contains(a.status()["domain"].as_str().unwrap()), "{}", ran.stderr);
    }
}

/// Whether bytes are in any file of a machine's directory.
fn is_anywhere(machine: &Machine, bytes: &[u8]) -> bool {
    let contains = |file: &std::path::PathBuf| {
        std::fs::read(file).unwrap().windows(bytes.len()).any(|window| window == bytes)
    };
    files_under(&machine.dir).iter().any(contains)
}

#[test]
fn erased_payloads_are_gone_everywhere() {
    let temp = temp();
    let mut a = Machine::found("a", temp.path());
    let ticket = a.serve();
    let mut b = Machine::joined("b", temp.path(), &ticket);
    let mut c = Machine::joined("c", temp.path(), &ticket);
    let secret = "the-secret-word-4711-0815-and-more";
    let id = b.emit(secret);
    let kept = b.emit("kept-word-2222-3333");
    for machine in [&b, &c, &b] {
        machine.one(["sync"]);
    }
    b.serve();
    c.serve();
    agree(&[&a, &b, &c]);
    let erased = b.one(["erase", &id, "--reason", "it was a secret"]);
    assert_ne!(uuid(&erased), id);
    agree(&[&a, &b, &c]);
    let bundle = path(temp.path(), "bundle");
    a.one(["bundle", "export", &bundle]);
    for machine in [&mut a, &mut b, &mut c] {
        let shown = machine.one(["show", &id]);
        assert_eq!(shown["payload"], serde_json::Value::Null);
        assert_eq!(machine.one(["show", &kept])["payload"]["text"], "kept-word-2222-3333");
        machine.verify_clean();
        machine.stop();
        assert!(!is_anywhere(machine, secret.as_bytes()), "{} still has it", machine.name);
        machine.verify_clean();
    }
    assert!(is_anywhere(&b, b"kept-word-2222-3333"), "the search itself works");
    let bytes = std::fs::read(&bundle).unwrap();
    assert!(!bytes.windows(secret.len()).any(|window| window == secret.as_bytes()));
    // Not unpacked either: a machine that gets it all from the bundle has no such payload.
    a.serve();
    let d = Machine::joined("d", temp.path(), &ticket);
    assert_eq!(d.one(["show", &id])["payload"], serde_json::Value::Null);
    assert!(!is_anywhere(&d, secret.as_bytes()));
    d.verify_clean();
}

#[test]
fn artifacts_travel_in_bundles() {
    let temp = temp();
    let (a, b) = pair(temp.path());
    let (small, large) = (noise(1, 5), noise(2, (2 << 20) + 7));
    let [first, second] = [&small, &large].map(|bytes| a.key_of(bytes));
    let [all, part, none] = ["all", "part", "none"].map(|name| path(temp.path(), name));
    assert_eq!(a.one(["bundle", "export", &all])["artifacts"], 2);
    assert_eq!(a.one(["bundle", "export", &part, "--artifacts", "below:1k"])["artifacts"], 1);
    assert_eq!(a.one(["bundle", "export", &none, "--artifacts", "none"])["artifacts"], 0);

    // Events first: what is not told of is not taken, and an artifact may come later.
    assert_eq!(b.one(["bundle", "import", &none])["artifacts"], 0);
    assert!(!b.has(&first) && b.artifact(&first).is_some());
    assert_eq!(b.one(["bundle", "import", &part])["artifacts"], 1);
    assert!(b.get(&first) == small && !b.has(&second));
    let imported = b.one(["bundle", "import", &all]);
    assert_eq!((&imported["artifacts"], &imported["events"]), (&1.into(), &0.into()));
    assert!(b.get(&second) == large);
    b.verify_clean();

    // Only what is new for the other side, unless more is asked for.
    let tips = path(temp.path(), "tips.json");
    std::fs::write(&tips, b.one(["frontier"]).to_string()).unwrap();
    let third = a.key_of(b"third");
    let new = path(temp.path(), "new");
    assert_eq!(a.one(["bundle", "export", &new, "--for", &tips])["artifacts"], 1);
    let more = a.one(["bundle", "export", &new, "--for", &tips, "--all-artifacts"]);
    assert_eq!(more["artifacts"], 3);
    b.one(["bundle", "import", &new]);
    assert!(b.get(&third) == b"third");
}

#[test]
fn bytes_in_a_bundle_that_are_something_else_are_refused() {
    let temp = temp();
    let (a, b) = pair(temp.path());
    let bytes = noise(3, 100_000);
    let key = a.key_of(&bytes);
    let bundle = path(temp.path(), "bundle");
    a.one(["bundle", "export", &bundle]);
    let mut file = std::fs::read(&bundle).unwrap();
    let at = file.windows(64).position(|window| *window == bytes[..64]).expect("as they are");
    // Damage, and a cut in the middle of the artifact.
    let whole = file.clone();
    std::fs::write(&bundle, &whole[..at + 50_000]).unwrap();
    refused(&b.try_run(["bundle", "import", &bundle]), 3, &["ends early", "export it again"]);
    file[at + 5] ^= 1;
    std::fs::write(&bundle, &file).unwrap();
    refused(&b.try_run(["bundle", "import", &bundle]), 3, &["damaged"]);
    // A liar fits the checksum, too: eight bytes of BLAKE3 after the record.
    let check = quipu_core::id::ArtifactId::of(&file[at..at + bytes.len()]).0;
    file[at + bytes.len()..at + bytes.len() + 8].copy_from_slice(&check[..8]);
    std::fs::write(&bundle, &file).unwrap();
    refused(&b.try_run(["bundle", "import", &bundle]), 3, &[&key, "of another one"]);
    assert!(!b.has(&key));
    b.verify_clean();
    assert_eq!(b.status()["digest"], a.status()["digest"], "the events were good");
}

#[test]
fn a_published_log_travels_by_file() {
    let temp = temp();
    let a = Machine::found("a", temp.path());
    let b = Machine::found("b", temp.path());
    let key = a.key_of(b"for others");
    let secret = a.key_of(b"not for others");
    a.run(["publish", &key]);
    let at_a = text(&a.one(["id"]), "domain");
    let bundle = path(temp.path(), "bundle");
    let exported = a.one(["--of", &at_a, "bundle", "export", &bundle]);
    assert_eq!(exported["artifacts"], 1);
    let imported = b.one(["bundle", "import", &bundle]);
    assert_eq!((&imported["artifacts"], &imported["events"]), (&1.into(), &exported["events"]));
    let rows = b.run(["domains"]);
    let row = rows.iter().find(|row| row["domain"] == at_a.as_str()).expect("it is kept");
    assert_eq!(row["digest"], a.status()["published_digest"]);
    assert_eq!(b.one(["import", &at_a, &key])["have"], true);
    assert!(b.get(&key) == b"for others");
    refused(&b.try_run(["import", &at_a, &secret]), 4, &["published no artifact"]);
    let file = std::fs::read(&bundle).unwrap();
    assert!(!file.windows(14).any(|window| window == b"not for others"));
}
