//! One mesh of unmodified nodes of meshlogd, 0.1.0 and 0.5.0, and of two machines of a domain, over real Reticulum
//! interfaces on loopback (MESH-3).

mod common;

use std::time::{Duration, Instant};

use common::air::{ALONE, Rnsd, client, config, listens, members, on_air, server, tcp_port};
use common::data::{noise, text};
use common::meshlogd::{
    Serving, Told, ask, frontier, full, line, meshlogd, place, socket, without_signatures,
};
use common::{Machine, agree, temp, until};
use serde_json::{Map, Value, json};

/// How long nodes that gossip every two seconds may take to agree.
const AGREE_MAX: Duration = Duration::from_secs(240);

/// Notes that take more air than there is.
const RECORDS: u64 = 500;

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
    new.emit("record.create", json!({ "record_id": "R-new", "form": "site", "by": "somebody" }));
    new.emit("field.set", json!({ "record_id": "R-a", "field": "status", "value": "CLOSED" }));
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
    new.emit("field.set", json!({ "record_id": "R-a", "field": "people", "value": 6 }));
    std::thread::sleep(Duration::from_secs(3));
    let _far_again = Rnsd::start(&far_config).unwrap();
    all_agree(&[&a, &b], &mut old, &new, 10);
    let shown = check(&mut old);
    assert!([4, 5, 6].contains(&shown["R-a"]["fields"]["people"].as_i64().unwrap()), "{shown}");
}

/// Two machines of a domain in two meshes, in each of which somebody else writes as "x", and signs. Under `first-use` each
/// machine believes who it hears. When they meet, both believe the same one.
#[test]
fn machines_that_heard_different_keys_first_agree_on_one() {
    if place().is_none() {
        return;
    }
    let temp = temp();
    let root = temp.path();
    let (mut a, mut b) = members(root);
    a.one(["mesh", "policy", "first-use"]);
    for machine in [&a, &b] {
        machine.one(["mesh", "identity"]);
    }
    // Both know the policy before they are apart.
    a.serve();
    b.one(["sync"]);
    a.stop();
    let ports = [tcp_port(), tcp_port()];
    let mut nodes = Vec::new();
    for ((machine, port), value) in [&mut a, &mut b].into_iter().zip(ports).zip(["1", "2"]) {
        let dir = root.join(value);
        std::fs::create_dir(&dir).unwrap();
        on_air(machine, &config(root, machine.name, ALONE, &server(port)), &[]);
        let node = Serving::start_with(&dir, port, &["--author", "x"]);
        node.emit("field.set", json!({ "record_id": "R", "field": "f", "value": value }));
        nodes.push(node);
    }
    let known = |machine: &Machine| -> Vec<Value> {
        let rows = machine.run(["mesh", "roster"]);
        rows.into_iter().filter(|row| row["author"] == "x").collect()
    };
    for machine in [&a, &b] {
        until("the key that was heard is told to the domain", || known(machine).len() == 1);
        assert_eq!(machine.run(["log", "--kind", "mesh.trust"]).len(), 1, "told once");
    }
    assert_ne!(known(&a)[0]["identity"], known(&b)[0]["identity"], "each heard another one");
    drop(nodes);
    for machine in [&mut a, &mut b] {
        machine.stop();
        machine.serve();
    }
    agree(&[&a, &b]);
    assert_eq!(known(&a), known(&b));
    let verdicts = a.run(["log", "--kind", "mesh.trust"]);
    assert_eq!(verdicts.len(), 2);
    // The one that was said first in replay order.
    let first = verdicts[0]["payload"]["identity"]["/"]["bytes"].as_str().unwrap();
    let first = data_encoding::BASE64_NOPAD.decode(first.as_bytes()).unwrap();
    assert_eq!(known(&a)[0]["public_key"], data_encoding::HEXLOWER.encode(&first));
    let shown = [&a, &b].map(|machine| machine.one(["record", "show", "R"])["fields"]["f"].clone());
    assert_eq!(shown[0], shown[1]);
    assert!([json!("1"), json!("2")].contains(&shown[0]), "{shown:?}");
}

/// What goes to nodes of meshlogd costs airtime, too: no more of it leaves than the limit, and nothing is lost by that.
#[test]
fn guests_of_the_helper_keep_to_the_airtime() {
    if place().is_none() {
        return;
    }
    let temp = temp();
    let root = temp.path();
    let port = tcp_port();
    let mut a = Machine::found("a", root);
    // meshlogd 0.5.0 takes only signed events of an author whose key it heard.
    a.one(["mesh", "identity", "--signed"]);
    let lines = (0..RECORDS).map(|n| {
        // Hardly to be compressed.
        let text = data_encoding::HEXLOWER.encode(&noise(n, 100));
        let payload = json!({ "record_id": format!("R-{n}"), "text": text });
        json!({ "kind": "record.note", "payload": payload }).to_string() + "\n"
    });
    let batch = a.file("notes.ndjson", lines.collect::<String>().as_bytes());
    a.run(["emit", "--batch", batch.to_str().unwrap()]);
    // 36,000 bytes in an hour, of which guests may use nine tenths.
    let paced = server(port) + "bitrate = 8000000\n";
    let air = config(root, "a", ALONE, &paced);
    on_air(&mut a, &air, &["--airtime-percent", "0.001"]);
    let new = Serving::start(root, port);
    let interface = |machine: &Machine| {
        let all = machine.one(["mesh", "status"])["interfaces"].as_array().unwrap().clone();
        all.into_iter().max_by_key(|one| one["sent_bytes"].as_u64()).unwrap()
    };
    let status = |machine: &Machine| machine.one(["mesh", "status"]);
    until("the air is used up", || status(&a)["guest_queue_bytes"].as_u64() > Some(0));
    // It stays so.
    std::thread::sleep(Duration::from_secs(15));
    let used = interface(&a);
    let percent = |name: &str| used[name].as_str().unwrap().parse::<f64>().unwrap();
    assert!(percent("airtime_percent") <= percent("airtime_limit_percent"), "{used}");
    let (bytes, bitrate) =
        (used["sent_bytes"].as_u64().unwrap(), used["bitrate"].as_u64().unwrap());
    let limit = bitrate / 8 * 3_600 / 100_000;
    assert!(bytes > limit / 8 && bytes <= limit, "{bytes} of {limit}: {used}");
    drop(new);
    // With more air all of it arrives.
    a.stop();
    on_air(&mut a, &air, &[]);
    let new = Serving::start(root, port);
    let begin = Instant::now();
    while full(&frontier(&new.socket)).values().filter_map(Value::as_u64).sum::<u64>() < RECORDS {
        assert!(begin.elapsed() < AGREE_MAX, "{}\n{}", status(&a), a.daemon_log());
        std::thread::sleep(Duration::from_millis(500));
    }
}

/// A machine gets its name while its daemon runs: it is among the nodes at once, without a client or a restart.
#[test]
fn an_identity_counts_at_once() {
    if place().is_none() {
        return;
    }
    let temp = temp();
    let root = temp.path();
    let port = tcp_port();
    let mut a = Machine::found("a", root);
    on_air(&mut a, &config(root, "a", ALONE, &server(port)), &[]);
    record(&a, &["create", "R-1", "site"]);
    let new = Serving::start(root, port);
    new.emit("record.create", json!({ "record_id": "R-2", "form": "site", "by": "x" }));
    std::thread::sleep(Duration::from_secs(4));
    assert_eq!(a.run(["records"]).len(), 1, "it takes no part yet");
    let author = text(&a.one(["mesh", "identity", "--signed"]), "identity");
    record(&a, &["set", "R-1", "people", "3"]);
    let begin = Instant::now();
    while frontier(&new.socket)[&author] != 2 || a.run(["records"]).len() < 2 {
        assert!(begin.elapsed() < AGREE_MAX, "{}\n{}", frontier(&new.socket), a.daemon_log());
        std::thread::sleep(Duration::from_millis(500));
    }
}
