//! Bad disks: cut files, flipped bytes, a full disk, a second process.

mod common;

use std::path::PathBuf;

use common::disk::with_small_disk;
use common::{Machine, agree, copy_dir, finish, program, skip, temp, uuid};

fn active_file(machine: &Machine) -> PathBuf {
    let of_store = |path: &PathBuf| path.extension().is_some_and(|e| e == "active");
    machine.store_files().into_iter().find(of_store).expect("an active file")
}

#[test]
fn cut_at_any_byte() {
    let temp = temp();
    let a = Machine::found("a", temp.path());
    for n in 0..12 {
        a.emit(&format!("number {n}"));
    }
    let file = active_file(&a);
    let whole = std::fs::read(&file).unwrap();
    let order = a.log_ids();
    let backup = temp.path().join("backup");
    copy_dir(&a.dir, &backup);
    let mut held_before = 0;
    for step in 0..20 {
        // From the end of the first frame to the whole file.
        let length = 700 + (whole.len() - 700) * step / 19;
        std::fs::remove_dir_all(&a.dir).unwrap();
        copy_dir(&backup, &a.dir);
        std::fs::write(&file, &whole[..length]).unwrap();
        let ran = a.try_run(["verify"]);
        if ran.code != 0 {
            // The first frame is cut as well, so nothing is left: it says so, and what to do.
            assert!([4, 6].contains(&ran.code), "{}", ran.stderr);
            assert!(ran.stderr.contains("hint"), "{}", ran.stderr);
            continue;
        }
        let held = a.log_ids();
        assert_eq!(held, order[..held.len()], "what is left is what came first");
        assert!(held.len() >= held_before, "more bytes, fewer events");
        held_before = held.len();
        a.emit("going on");
        a.verify_clean();
    }
    assert_eq!(held_before, order.len());
}

#[test]
fn a_flipped_byte_is_found_and_repaired() {
    let temp = temp();
    let mut a = Machine::found("a", temp.path());
    let ticket = a.serve();
    a.write("events", 200);
    let mut b = Machine::joined("b", temp.path(), &ticket);
    // A daemon appends to the file; the last commit in it would count as torn, not as damaged.
    b.serve();
    for n in 0..20 {
        b.emit(&format!("frame {n}"));
    }
    agree(&[&a, &b]);
    b.stop();
    let digest = a.digest();
    let file = active_file(&b);
    let whole = std::fs::read(&file).unwrap();
    // In the first frame, with the root: nothing can be read without it. And in a later one.
    for (place, left) in [(whole.len() / 4, 0), (whole.len() * 9 / 10, 200)] {
        let mut bytes = whole.clone();
        bytes[place] ^= 0x20;
        std::fs::write(&file, &bytes).unwrap();
        for command in ["status", "verify", "log", "serve"] {
            let ran = b.try_run([command]);
            let error = ran.fails(6);
            assert!(error.contains("damaged"), "{error}");
            assert!(error.contains("quipu verify --rebuild"), "{error}");
        }
        let ran = b.try_run(["verify", "--rebuild"]);
        assert!([0, 1].contains(&ran.code), "{} {}", ran.stdout, ran.stderr);
        let report = &ran.items()[0];
        assert_eq!(report["rebuilt"], true);
        assert!(report["events"].as_u64().unwrap() >= left, "{report}");
        // What could not be saved comes back from the others.
        b.one(["sync"]);
        agree(&[&a, &b]);
        assert_eq!(a.digest(), digest);
        b.verify_clean();
    }
}

/// Overwrites the pages of the state in place, from some offset on: a daemon may have mapped them.
fn zero_the_state(machine: &Machine, from: u64) {
    use std::io::{Seek, SeekFrom, Write};
    let path = machine.dir.join(".quipu/internal.state/pages");
    let length = std::fs::metadata(&path).unwrap().len();
    assert!(length > from, "the state has no pages");
    let mut file = std::fs::OpenOptions::new().write(true).open(&path).unwrap();
    file.seek(SeekFrom::Start(from)).unwrap();
    file.write_all(&vec![0; (length - from) as usize]).unwrap();
}

#[test]
fn a_damaged_state_is_made_again() {
    /// Bytes before the first page.
    const HEADER: u64 = 16;
    let temp = temp();
    let mut a = Machine::found("a", temp.path());
    // The first time, it makes an invitation.
    a.serve();
    a.stop();
    let keys: Vec<String> = (0..40).map(|n| a.key_of(format!("thing {n}").as_bytes())).collect();
    let edge = a.edge(&[&keys[0]], &[&keys[1]], "derived");
    let first = a.snapshot("first");
    a.one(["tombstone", &keys[2]]);
    let second = a.snapshot("second");
    let questions: Vec<Vec<&str>> = vec![
        vec!["current"],
        vec!["current", "--at", "first"],
        vec!["artifacts", "--hidden"],
        vec!["snapshots"],
        vec!["snapshot", "show", &first],
        vec!["snapshot", "diff", &first, &second],
        vec!["provenance"],
        vec!["edges"],
        vec!["trace", &keys[0]],
        vec!["conflicts"],
        vec!["gc", "--dry-run"],
    ];
    let expected: Vec<String> = questions.iter().map(|words| a.printed(words)).collect();
    assert!(expected[0].contains(&edge) && expected[10].contains("\"freed\":[]"));
    let ask = |a: &Machine, number: usize| {
        let same = a.printed(&questions[number]) == expected[number];
        assert!(same, "another answer to {:?}", questions[number]);
    };
    for number in 0..questions.len() {
        for from in [0, HEADER] {
            zero_the_state(&a, from);
            ask(&a, number);
        }
    }
    // Under a daemon that has the pages in use.
    for number in 0..questions.len() {
        a.serve();
        ask(&a, 0);
        zero_the_state(&a, HEADER);
        ask(&a, number);
        ask(&a, 0);
        a.stop();
    }
    // At the start of one: it looks at what is to be fetched.
    zero_the_state(&a, HEADER);
    a.serve();
    ask(&a, 0);
    a.stop();
    a.serve();
    zero_the_state(&a, HEADER);
    a.put(b"one more", None);
    assert_eq!(a.printed(&["current"]).lines().count(), expected[0].lines().count() + 1);
    a.stop();
    a.verify_clean();
}

#[test]
fn a_full_disk() {
    let temp = temp();
    let Some(disk) = with_small_disk(temp.path(), 1024) else {
        return skip("no tmpfs can be mounted here");
    };
    let ballast = disk.0.join("ballast");
    std::fs::write(&ballast, vec![0; 256 << 10]).unwrap();
    let mut a = Machine::found("disk/a", temp.path());
    let mut acknowledged = Vec::new();
    let payload = format!("\"{}\"", "x".repeat(20_000));
    // Once without a daemon, once with one.
    for served in [false, true] {
        if served {
            a.daemon_log();
            std::fs::create_dir_all(temp.path().join("disk")).unwrap();
            a.serve();
        }
        let ran = loop {
            let ran = a.try_run(["emit", "app.note", &payload]);
            acknowledged.extend(ran.items().iter().map(uuid));
            if ran.code != 0 {
                break ran;
            }
            assert!(acknowledged.len() < 10_000);
        };
        let error = ran.fails(6);
        assert!(error.contains("full"), "{error}");
        assert!(error.contains("hint"), "{error}");
        a.kill();
        std::fs::remove_file(&ballast).ok();
        a.holds(&acknowledged);
        a.verify_clean();
        if !served {
            acknowledged.push(a.emit("there is room again"));
        }
    }
}

#[test]
fn one_process_at_a_time() {
    let temp = temp();
    let mut a = Machine::found("a", temp.path());
    // Two commands without a daemon: one waits for the other.
    let ids: Vec<String> = std::thread::scope(|scope| {
        let a = &a;
        let threads: Vec<_> =
            (0..6).map(|n| scope.spawn(move || a.write(&format!("at once {n}"), 100))).collect();
        threads.into_iter().flat_map(|thread| thread.join().unwrap()).collect()
    });
    assert_eq!(ids.len(), 600);
    a.holds(&ids);
    assert_eq!(a.status()["equivocations"], serde_json::json!([]));
    // With a daemon: commands go to it.
    a.serve();
    let through = a.emit("through the daemon");
    let second = a.try_run(["serve"]);
    let error = second.fails(6);
    assert!(error.contains("already answers") && error.contains("hint"), "{error}");
    a.holds(&[through]);
    // The store itself is taken: rebuilding says so.
    let error = a.try_run(["verify", "--rebuild"]);
    assert!(error.fails(6).contains(&format!("pid {}", a.pid())), "{}", error.stderr);
    a.verify_clean();
}

#[test]
fn a_directory_that_cannot_be_written() {
    let temp = temp();
    let file = temp.path().join("file");
    std::fs::write(&file, "no directory").unwrap();
    let mut command = program(temp.path());
    command.arg("--dir").arg(&file).args(["init", "--domain", "x"]);
    let ran = finish(command, b"");
    assert!(ran.fails(6).starts_with("error: "), "{}", ran.stderr);
}
