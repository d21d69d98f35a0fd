//! Machines that write together and apart, relay, fork and are removed: real processes.

mod common;

use common::{Machine, agree, copy_dir, temp, until};

/// Leaves become one with the next event.
#[track_caller]
fn merges_with_next_event(machines: &[&Machine]) {
    machines[0].emit("the next event");
    let status = agree(machines);
    assert_eq!(status["leaves"].as_array().unwrap().len(), 1);
    for machine in machines {
        machine.verify_clean();
    }
}

#[test]
fn two_machines_end_identical() {
    let temp = temp();
    let mut a = Machine::found("a", temp.path());
    let mut ids = vec![a.emit("before anybody else")];
    let ticket = a.serve();
    let mut b = Machine::new("b", temp.path());
    let joined = b.one(["join", &ticket]);
    assert_eq!(joined["domain"], a.status()["domain"]);
    assert!(joined["events"].as_u64().unwrap() >= 3, "root, invitation, note: {joined}");
    b.serve();
    ids.extend(a.write("together", 50));
    ids.extend(b.write("together", 50));
    agree(&[&a, &b]);

    // Apart: one with its daemon, one without.
    b.stop();
    ids.push(a.emit("apart"));
    ids.extend(a.write("apart", 100));
    ids.extend(b.write("apart", 100));
    assert_ne!(a.digest(), b.digest());
    b.serve();
    agree(&[&a, &b]);
    assert_eq!(a.log_ids(), b.log_ids());
    a.holds(&ids);
    merges_with_next_event(&[&a, &b]);
}

#[test]
fn sync_without_a_daemon_on_one_side() {
    let temp = temp();
    let mut a = Machine::found("a", temp.path());
    let ticket = a.serve();
    let b = Machine::joined("b", temp.path(), &ticket);
    b.emit("from b");
    a.emit("from a");
    let synced = b.one(["sync"]);
    assert_eq!(synced["equal"], true, "{synced}");
    assert!(synced["sent_events"].as_u64().unwrap() >= 1, "{synced}");
    assert!(synced["received_events"].as_u64().unwrap() >= 1, "{synced}");
    agree(&[&a, &b]);
    let again = b.one(["sync", &ticket]);
    assert_eq!((&again["sent_events"], &again["received_events"]), (&0.into(), &0.into()));
    assert_eq!(again["equal"], true);
    let by_key = b.one(["sync", a.ready["node"].as_str().unwrap()]);
    assert_eq!(by_key["equal"], true);
}

#[test]
fn joining_under_load() {
    let temp = temp();
    let mut a = Machine::found("a", temp.path());
    let ticket = a.serve();
    a.write("start", 2000);
    let mut b = Machine::new("b", temp.path());
    let mut c = Machine::new("c", temp.path());
    std::thread::scope(|scope| {
        let writer = scope
            .spawn(|| (0..8).flat_map(|n| a.write(&format!("load{n}"), 500)).collect::<Vec<_>>());
        let joins = [&mut b, &mut c].map(|machine| {
            let ticket = &ticket;
            scope.spawn(move || {
                machine.one(["join", ticket]);
                machine.serve();
            })
        });
        joins.into_iter().for_each(|join| join.join().unwrap());
        assert_eq!(writer.join().unwrap().len(), 4000);
    });
    agree(&[&a, &b, &c]);
    merges_with_next_event(&[&b, &a, &c]);
}

#[test]
fn relayed_when_the_founder_is_away() {
    let temp = temp();
    let mut a = Machine::found("a", temp.path());
    let ticket = a.serve();
    let mut b = Machine::joined("b", temp.path(), &ticket);
    b.serve();
    let invite = a.one(["invite", "--role", "writer"]);
    let mut c = Machine::joined("c", temp.path(), invite["ticket"].as_str().unwrap());
    agree(&[&a, &b]);
    a.stop();
    // C met only A so far; B's ticket names where B is.
    let b_ticket = b.ticket();
    assert_eq!(c.one(["sync", &b_ticket])["equal"], true);
    c.serve();
    let from_c = c.write("through b", 20);
    let from_b = b.write("to c", 20);
    agree(&[&b, &c]);
    c.stop();
    // A comes back and hears of C's events from B alone.
    a.serve();
    agree(&[&a, &b]);
    a.holds(&from_c);
    a.holds(&from_b);
    c.serve();
    merges_with_next_event(&[&a, &b, &c]);
}

#[test]
fn joined_through_another_admin() {
    let temp = temp();
    let mut a = Machine::found("a", temp.path());
    let ticket = a.serve();
    let mut b = Machine::joined("b", temp.path(), &ticket);
    let b_ticket = b.serve();
    // B is a writer: its ticket has no invitation, so it lets nobody in.
    let stranger = Machine::new("stranger", temp.path());
    let error = stranger.try_run(["join", &b_ticket]);
    error.fails(5);
    assert!(error.stderr.contains("hint"), "{}", error.stderr);
    assert!(!stranger.dir.join(".quipu").exists(), "a failed join leaves nothing behind");

    let b_key = b.ready["node"].as_str().unwrap().to_owned();
    let added = a.one(["member", "add", &b_key, "--role", "admin"]);
    assert_eq!((&added["node"], &added["role"]), (&b_key.clone().into(), &"admin".into()));
    agree(&[&a, &b]);
    let invited = b.one(["invite"]);
    a.stop();
    let mut c = Machine::joined("c", temp.path(), invited["ticket"].as_str().unwrap());
    c.serve();
    let from_c = c.write("never met a", 20);
    agree(&[&b, &c]);
    c.stop();
    a.serve();
    agree(&[&a, &b]);
    a.holds(&from_c);
    let from_a = a.write("never met c", 20);
    agree(&[&a, &b]);
    a.stop();
    c.serve();
    agree(&[&b, &c]);
    c.holds(&from_a);
    let members = c.run(["members"]);
    assert_eq!(members.len(), 3, "{members:?}");
    let peers = std::fs::read_to_string(c.dir.join(".quipu/peers.json")).unwrap();
    assert!(!peers.contains(a.ready["node"].as_str().unwrap()), "C knows no address of A: {peers}");
}

#[test]
fn a_restored_backup_that_writes_offline_forks() {
    let temp = temp();
    let mut a = Machine::found("a", temp.path());
    let ticket = a.serve();
    let mut b = Machine::joined("b", temp.path(), &ticket);
    let c = Machine::joined("c", temp.path(), &ticket);
    b.emit("before the backup");
    let backup = temp.path().join("backup");
    copy_dir(&b.dir, &backup);
    let kept = b.emit("after the backup");
    b.one(["sync"]);
    std::fs::remove_dir_all(&b.dir).unwrap();
    copy_dir(&backup, &b.dir);
    let forked = b.emit("after the restore");
    b.serve();
    agree(&[&a, &b]);
    c.one(["sync"]);
    let status = agree(&[&a, &b, &c]);
    let forks = status["equivocations"].as_array().unwrap();
    assert_eq!(forks.len(), 1, "{status}");
    assert_eq!(forks[0]["author"], b.ready["node"]);
    let mut ids: Vec<String> =
        forks[0]["ids"].as_array().unwrap().iter().map(|id| id.as_str().unwrap().into()).collect();
    let mut both = vec![kept, forked];
    ids.sort();
    both.sort();
    assert_eq!(ids, both);
    for machine in [&a, &b, &c] {
        machine.holds(&both);
        let tips = machine.one(["frontier"])["tips"].clone();
        let of_b = |tip: &&serde_json::Value| tip["author"] == b.ready["node"];
        assert_eq!(tips.as_array().unwrap().iter().filter(of_b).count(), 2, "{tips}");
        let findings = machine.one(["doctor"])["findings"].to_string();
        assert!(findings.contains("\"fork\""), "{findings}");
    }
    // It still writes, and what it writes is one more event of everybody's log.
    b.emit("going on");
    a.emit("the next event");
    let status = agree(&[&a, &b]);
    assert_eq!(status["equivocations"].as_array().unwrap().len(), 1);
    for machine in [&a, &b, &c] {
        machine.verify_clean();
    }
}

#[test]
fn a_restored_machine_learns_its_own_events_before_it_writes() {
    let temp = temp();
    let mut a = Machine::found("a", temp.path());
    let ticket = a.serve();
    let mut b = Machine::joined("b", temp.path(), &ticket);
    b.emit("before the backup");
    let backup = temp.path().join("backup");
    copy_dir(&b.dir, &backup);
    let kept = b.write("after the backup", 30);
    b.one(["sync"]);
    std::fs::remove_dir_all(&b.dir).unwrap();
    copy_dir(&backup, &b.dir);
    b.serve();
    b.emit("at once after the restore");
    let status = agree(&[&a, &b]);
    assert_eq!(status["equivocations"], serde_json::json!([]));
    b.holds(&kept);
    merges_with_next_event(&[&a, &b]);
}

#[test]
fn a_removed_machine_is_turned_away_and_its_hidden_events_count_nowhere() {
    let temp = temp();
    let mut a = Machine::found("a", temp.path());
    let ticket = a.serve();
    let mut b = Machine::joined("b", temp.path(), &ticket);
    let mut x = Machine::joined("x", temp.path(), &ticket);
    let before = x.emit("while a member");
    x.one(["sync"]);
    let b_ticket = b.serve();
    agree(&[&a, &b]);
    b.stop();
    let x_key = x.one(["id"])["node"].as_str().unwrap().to_owned();
    // The first digits are enough.
    let removed = a.one(["member", "remove", &x_key[..10]]);
    assert_eq!(removed["node"], x_key.as_str());
    assert_eq!(a.try_run(["member", "remove", &"0".repeat(64)]).code, 4);

    // X goes on, offline, and does not know. These events are older than the removal's arrival.
    let hidden = x.write("after the removal", 40);
    // At A it is turned away, with a clear error.
    let refused = x.try_run(["sync", &ticket]);
    let error = refused.fails(5);
    assert!(error.contains("member"), "{error}");
    // B has not seen the removal: it takes the events.
    a.stop();
    b.serve();
    assert_eq!(x.one(["sync", &b_ticket])["equal"], true);
    b.holds(&hidden);
    // B meets A. Everybody ends equal.
    a.serve();
    let status = agree(&[&a, &b]);
    assert_eq!(a.status()["quarantined"], b.status()["quarantined"], "{status}");
    assert!(b.status()["quarantined"].as_u64().unwrap() >= 40, "{}", b.status());
    for machine in [&a, &b] {
        machine.holds(std::slice::from_ref(&before));
        let held = machine.log_ids();
        assert!(hidden.iter().all(|id| !held.contains(id)), "{} counts them", machine.name);
        machine.verify_clean();
    }
    // Now B turns it away as well, and a daemon of X cannot get in either.
    x.try_run(["sync", &b_ticket]).fails(5);
    x.serve();
    x.write("and on", 10);
    std::thread::sleep(std::time::Duration::from_millis(1500));
    merges_with_next_event(&[&a, &b]);
    // It may come back if an admin says so.
    a.one(["member", "add", &x_key, "--role", "writer"]);
    x.stop();
    until("X is let in again", || x.try_run(["sync", &ticket]).code == 0);
    x.emit("a member again");
    assert_eq!(x.one(["sync", &ticket])["equal"], true);
    agree(&[&a, &b, &x]);
}

#[test]
fn a_key_is_replaced_and_a_removed_feed_readmitted() {
    let temp = temp();
    let mut a = Machine::found("a", temp.path());
    let ticket = a.serve();
    let mut b = Machine::joined("b", temp.path(), &ticket);
    let mut c = Machine::joined("c", temp.path(), &ticket);
    b.serve();
    c.serve();
    b.write("with the old key", 5);
    agree(&[&a, &b, &c]);
    let old = b.one(["id"])["node"].as_str().unwrap().to_owned();
    b.try_run(["member", "rotate"]).fails(3);
    b.stop();
    let rotated = b.one(["member", "rotate"]);
    let new = rotated["node"].as_str().unwrap().to_owned();
    assert_ne!(new, old);
    assert_eq!(b.one(["id"])["node"], new.as_str());
    b.serve();
    b.write("with the new key", 5);
    agree(&[&a, &b, &c]);
    let members: Vec<String> =
        a.run(["members"]).iter().map(|m| m["node"].as_str().unwrap().to_owned()).collect();
    assert!(members.contains(&new) && !members.contains(&old), "{members:?}");
    // The founder's key is in the root event.
    a.stop();
    a.try_run(["member", "rotate"]).fails(3);
    a.emit("still the founder");

    // C writes while A removes it, and A takes that in later.
    c.stop();
    let node = c.one(["id"])["node"].as_str().unwrap().to_owned();
    let lost = c.write("unseen", 4);
    a.one(["member", "remove", &node]);
    let bundle = temp.path().join("bundle");
    let bundle = bundle.to_str().unwrap();
    c.one(["bundle", "export", bundle]);
    a.one(["bundle", "import", bundle]);
    assert_eq!(a.status()["quarantined"], 4);
    a.one(["member", "readmit", &node, "--up-to", &lost[2]]);
    assert_eq!(a.status()["quarantined"], 1);
    a.serve();
    // B may keep the last event aside: its signature is what proves the others.
    agree(&[&a, &b]);
    assert!(b.log_ids().contains(&lost[2]) && !b.log_ids().contains(&lost[3]));
}
