//! A node that lies, among honest ones of both kinds, over real Reticulum links (MESH-3, MESH-5, MESH-8).

mod common;

use std::time::{Duration, Instant};

use common::air::{
    ALONE, Rnsd, agree_slowly, client, config, listens, members, mesh, on_air, server, tcp_port,
};
use common::meshlogd::{Serving, Told, ask, frontier, full, line, place, script, socket};
use common::{Machine, temp, until};
use serde_json::{Map, Value, json};

/// How long nodes that gossip every two seconds, and back off from whoever is no use, may take to agree.
const AGREE_MAX: Duration = Duration::from_secs(120);

/// Two machines of a domain, a real meshlogd, and somebody unfriendly, all of them linked with each other.
struct Mesh {
    a: Machine,
    b: Machine,
    honest: Serving,
    hostile: Told,
    /// The unfriendly one's name.
    author: String,
    _transport: Rnsd,
}

impl Mesh {
    fn begin(root: &std::path::Path) -> Option<Self> {
        let place = place()?;
        let port = tcp_port();
        let forwards = "enable_transport = Yes\nshare_instance = No\n";
        let transport = Rnsd::start(&config(root, "between", forwards, &server(port)))?;
        until("the transport listens", || listens(port));
        let (mut a, mut b) = members(root);
        for machine in [&mut a, &mut b] {
            machine.one(["mesh", "identity", "--signed"]);
            let name = machine.name;
            let config = config(root, name, ALONE, &client(port));
            on_air(machine, &config, &["--meshlog-view", "raw"]);
        }
        let honest = Serving::start(root, port);
        let mut command = script(&place, "0.5.0", "hostile.py");
        command.arg(config(root, "hostile", ALONE, &client(port))).arg(root.join("hostile.id"));
        let mut hostile = Told::start(&mut command);
        let author = hostile.ask("peers")["author"].as_str().unwrap().to_owned();
        Some(Self { a, b, honest, hostile, author, _transport: transport })
    }

    /// Everybody honest writes something. Gives how many events that are.
    fn write(&self, value: &str) -> u64 {
        for machine in [&self.a, &self.b] {
            machine.one(["record", "set", "R-1", "said", value]);
        }
        let payload = json!({ "record_id": "R-1", "field": "said", "value": value });
        let params = json!({ "kind": "field.set", "payload": payload });
        line(&self.honest.socket, "emit", &params);
        3
    }

    fn sockets(&self) -> [std::path::PathBuf; 3] {
        [socket(&self.a), socket(&self.b), self.honest.socket.clone()]
    }

    /// Waits until all honest nodes have the same feeds, so many events in all, and show the same of them. Feeds of
    /// `but` are left out.
    #[track_caller]
    fn agrees(&self, after: &str, events: u64, but: &str) {
        let begin = Instant::now();
        loop {
            let fronts: Vec<Map<String, Value>> = self
                .sockets()
                .iter()
                .map(|socket| {
                    full(&frontier(socket)).into_iter().filter(|(author, _)| author != but)
                })
                .map(Iterator::collect)
                .collect();
            let count: u64 = fronts[0].values().filter_map(Value::as_u64).sum();
            if count == events && fronts.iter().all(|front| *front == fronts[0]) {
                break;
            }
            if begin.elapsed() > AGREE_MAX {
                let logs = [&self.a, &self.b].map(Machine::daemon_log);
                panic!("after {after}, {count} of {events}: {fronts:#?}\n{}", logs.join("\n---\n"));
            }
            std::thread::sleep(Duration::from_millis(300));
        }
        let views = self.sockets().map(|socket| self.view(&socket, but));
        assert!(views[0].len() as u64 == events && views.iter().all(|view| *view == views[0]));
        let said =
            |view: &Vec<Value>| view.iter().any(|event| event.to_string().contains("R-forged"));
        assert!(!views.iter().any(said), "after {after}: {views:?}");
    }

    /// The events that a node shows, but those of one author.
    fn view(&self, socket: &std::path::Path, but: &str) -> Vec<Value> {
        let answer: Value = serde_json::from_str(&line(socket, "view", &json!({}))).unwrap();
        let events = answer["result"]["state"].as_array().expect("a raw view").clone();
        events.into_iter().filter(|event| event["author"] != but && event["a"] != but).collect()
    }

    /// Waits until all know each other's keys: of an author whose key is not known, everything is taken.
    fn acquaint(&mut self, events: u64) {
        let begin = Instant::now();
        let told = loop {
            let told = self.hostile.ask("peers");
            let linked = told["peers"].as_array().unwrap().len();
            let known = ask(&self.honest.socket, "peers").to_string();
            let ours = [&self.a, &self.b].map(|machine| machine.one(["mesh", "identity"]));
            let is_known =
                |identity: &Value| known.contains(identity["identity"].as_str().unwrap());
            if linked == 3 && told["events"].as_u64() >= Some(events) && ours.iter().all(is_known) {
                break told;
            }
            assert!(begin.elapsed() < AGREE_MAX, "{told} {known}");
            std::thread::sleep(Duration::from_millis(500));
        };
        // Both machines may have heard of meshlogd through each other only.
        let honest = ask(&self.honest.socket, "status")["node"].as_str().unwrap().to_owned();
        let key = told["keys"][&honest].as_str().unwrap();
        self.a.one(["mesh", "trust", &honest, "--key", key]);
        agree_slowly(&[&self.a, &self.b]);
    }

    fn helpers(&self) -> [Value; 2] {
        [&self.a, &self.b].map(|machine| mesh(machine)["helper_pid"].clone())
    }
}

#[test]
fn nobody_diverges_beside_a_liar() {
    let temp = temp();
    let Some(mut all) = Mesh::begin(temp.path()) else { return };
    all.a.one(["record", "create", "R-1", "site"]);
    let mut events = 1 + all.write("first");
    all.agrees("nothing", events, "");
    all.acquaint(events);
    let helpers = all.helpers();
    assert!(helpers.iter().all(Value::is_u64), "{helpers:?}");
    // What is good of it is taken, and what is not does no harm.
    let attacks =
        [("honest", 1), ("forged", 0), ("replayed", 0), ("truncated", 0), ("unfitting", 0)];
    for (attack, good) in attacks.into_iter().chain([("garbage", 0), ("oversize", 1)]) {
        let sent = all.hostile.ask(attack)["sent"].as_u64().unwrap();
        assert!(sent >= 3, "{attack}: {sent} messages");
        events += good + all.write(attack);
        all.agrees(attack, events, "");
    }
    for machine in [&all.a, &all.b] {
        let report = mesh(machine)["mesh"].clone();
        assert!(report["refused_events"].as_u64() > Some(0), "{report}");
        assert!(report["bad_messages"].as_u64() > Some(0), "{report}");
        assert_eq!(report["forks"], json!([]), "{report}");
    }
    // A fork: another branch for everybody. Each keeps the first one that it saw, and quipu says so.
    all.hostile.ask("forked");
    for machine in [&all.a, &all.b] {
        until("the fork is told of", || {
            let forks = mesh(machine)["mesh"]["forks"].clone();
            forks[0]["author"] == all.author.as_str() && forks[0]["proven"] == true
        });
        let forks = mesh(machine)["mesh"]["forks"].clone();
        assert_eq!((forks.as_array().unwrap().len(), &forks[0]["seq"]), (1, &json!(2)), "{forks}");
    }
    all.hostile.ask("honest");
    events += all.write("after the fork");
    all.agrees("forked", events - 1, &all.author);
    // In the domain all branches count, so its machines show the same of the forked feed, too.
    agree_slowly(&[&all.a, &all.b]);
    let shown = [&all.a, &all.b].map(|machine| machine.run(["records"]));
    assert_eq!(shown[0], shown[1]);
    let names: Vec<&str> =
        shown[0].iter().filter_map(|record| record["record_id"].as_str()).collect();
    assert!(names.contains(&"R-1") && names.iter().any(|name| name.starts_with("R-fork")));
    assert!(!names.iter().any(|name| ["R-forged", "R-unfitting"].contains(name)), "{names:?}");
    for machine in [&all.a, &all.b] {
        machine.verify_clean();
    }
    assert_eq!(all.helpers(), helpers, "nobody died");
}
