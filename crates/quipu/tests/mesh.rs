//! One mesh of unmodified nodes of meshlogd, 0.1.0 and 0.5.0, and of two machines of a domain, over real Reticulum
//! interfaces on loopback (MESH-3).

mod common;

use std::time::{Duration, Instant};

use common::air::{ALONE, Rnsd, client, config, listens, members, on_air, server, tcp_port};
use common::meshlogd::{
    Serving, Told, ask, frontier, full, line, meshlogd, place, socket, without_signatures,
};
use common::{Machine, temp, until};
use serde_json::{Map, Value, json};

/// How long nodes that gossip every two seconds may take to agree.
const AGREE_MAX: Duration = Duration::from_secs(240);

#[track_caller]
fn all_agree(machines: &[&Machine], old: &mut Told, new: &Serving, events: u64) {
    let begin = Instant::now();
    loop {
        let mut fronts: Vec<_> =
            machines.iter().map(|machine| full(&frontier(&socket(machine)))).collect();
        fronts.extend([full(&old.ask("front")), full(&frontier(&new.socket))]);
        let count =
            |front: &Map<String, Value>| front.values().filter_map(Value::as_u64).sum::<u64>();
        if fronts.iter().all(|front| *front == fronts[0]) && count(&fronts[0]) == events {
            return;
        }
        if begin.elapsed() > AGREE_MAX {
            let logs: Vec<String> = machines.iter().map(|machine| machine.daemon_log()).collect();
            panic!("{}: {fronts:#?}\n{}", count(&fronts[0]), logs.join("\n---\n"));
        }
        std::thread::sleep(Duration::from_millis(500));
    }
}

fn record(machine: &Machine, arguments: &[&str]) {
    machine.run([&["record"], arguments].concat());
}

#[test]
fn nodes_of_both_kinds_in_one_mesh() {
    if place().is_none() {
        return;
    }
    let temp = temp();
    let root = temp.path();
    // Two transports in a row: who is at one end is three hops from who is at the other.
    let forwards = "enable_transport = Yes\nshare_instance = No\n";
    let (near, far) = (tcp_port(), tcp_port());
    let Some(_near) = Rnsd::start(&config(root, "near", forwards, &server(near))) else { return };
    until("the first transport listens", || listens(near));
    let both = server(far) + &client(near);
    let far_config = config(root, "far", forwards, &both);
    let far_transport = Rnsd::start(&far_config).unwrap();
    until("the second transport listens", || listens(far));
    let (mut a, mut b) = members(root);
    for machine in [&a, &b] {
        machine.one(["mesh", "identity", "--signed"]);
    }
    record(&a, &["create", "R-a", "site"]);
    record(&a, &["set", "R-a", "people", "3"]);
    on_air(&mut a, &config(root, "a", ALONE, &client(near)), &[]);
    on_air(&mut b, &config(root, "b", ALONE, &client(far)), &["--meshlog-view", "raw"]);
    // Others write a record of their own, and the same field of the same one.
    let own = ["--create", "R-old", "site", "--set", "R-a", "status", "OPEN"];
    let mut command = meshlogd(root, "0.1.0", near, &["--name", "old"]);
    let mut old = Told::start(command.args(own));
    let new = Serving::start(root, far);
    let emit = |kind: &str, payload: Value| {
        line(&new.socket, "emit", &json!({ "kind": kind, "payload": payload }));
    };
    emit("record.create", json!({ "record_id": "R-new", "form": "site", "by": "somebody" }));
    emit("field.set", json!({ "record_id": "R-a", "field": "status", "value": "CLOSED" }));
    record(&b, &["set", "R-a", "status", "\"VISITED\""]);
    // Two of a, one of b, two of each node.
    all_agree(&[&a, &b], &mut old, &new, 7);
    let check = |old: &mut Told| {
        let shown = old.ask("view");
        assert_eq!(ask(&socket(&a), "view")["state"], shown, "as 0.1.0 shows it");
        let [ours, theirs] = [&socket(&b), &new.socket]
            .map(|socket| without_signatures(&line(socket, "view", &json!({}))))
            // After it stand the feeds, in the order in which they were first heard of.
            .map(|line| line.split_once(",\"frontier\"").expect("a frontier").0.to_owned());
        assert_eq!(ours, theirs, "as 0.5.0 shows it, to the byte");
        shown
    };
    let shown = check(&mut old);
    let status = shown["R-a"]["fields"]["status"].as_str().unwrap();
    assert!(["OPEN", "CLOSED", "VISITED"].contains(&status), "{shown}");
    // What was gathered is in the domain, on every machine of it.
    for machine in [&a, &b] {
        until("the record is there", || {
            let rows = machine.run(["records"]);
            rows.iter().any(|row| row["record_id"] == "R-new")
        });
        assert_eq!(machine.one(["record", "show", "R-a"])["fields"]["status"], status);
    }
    // While apart, all write the same field.
    drop(far_transport);
    record(&a, &["set", "R-a", "people", "4"]);
    record(&b, &["set", "R-a", "people", "5"]);
    emit("field.set", json!({ "record_id": "R-a", "field": "people", "value": 6 }));
    std::thread::sleep(Duration::from_secs(3));
    let _far_again = Rnsd::start(&far_config).unwrap();
    all_agree(&[&a, &b], &mut old, &new, 10);
    let shown = check(&mut old);
    assert!([4, 5, 6].contains(&shown["R-a"]["fields"]["people"].as_i64().unwrap()), "{shown}");
}
