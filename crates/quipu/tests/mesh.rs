//! One mesh of unmodified nodes of meshlogd, 0.1.0 and 0.5.0, and of two machines of a domain, over real Reticulum
//! interfaces on loopback (MESH-3).

mod common;

use std::io::{BufRead, BufReader, Write};
use std::net::Ipv4Addr;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use common::air::{ALONE, Rnsd, client, config, members, on_air, server, tcp_port};
use common::data::text;
use common::{Machine, skip, temp, until};
use serde_json::{Map, Value, json};

/// How long nodes that gossip every two seconds may take to agree.
const AGREE_MAX: Duration = Duration::from_secs(150);

/// A process of meshlogd. It dies with this.
struct Node {
    process: Child,
    stdin: ChildStdin,
    lines: Arc<Mutex<String>>,
}

impl Drop for Node {
    fn drop(&mut self) {
        drop(self.process.kill());
        drop(self.process.wait());
    }
}

fn place() -> Option<PathBuf> {
    let target = std::env::var_os("CARGO_TARGET_DIR").map(PathBuf::from);
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    let place = root.join(target.unwrap_or_else(|| "target".into())).join("meshlogd");
    if !place.join("complete-1").exists() {
        skip("tests/meshlogd/setup installs the real meshlogd");
        return None;
    }
    // Nodes run in directories of their own.
    Some(place.canonicalize().unwrap())
}

impl Node {
    fn start(root: &Path, version: &str, name: &str, port: u16, more: &[&str]) -> Option<Self> {
        let place = place()?;
        let dir = config(root, name, ALONE, &client(port));
        let mut command = Command::new(place.join("bin/python"));
        command.args(["-u", "-m", "meshlog.cli", "--configdir", dir.to_str().unwrap()]);
        command.args(["--identity", root.join(format!("{name}.identity")).to_str().unwrap()]);
        command.args(["--data", root.join(format!("{name}.jsonl")).to_str().unwrap()]);
        command.args(["--gossip-interval", "2"]).args(more);
        command.env("PYTHONPATH", place.join(version)).env("PYTHONDONTWRITEBYTECODE", "1");
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null());
        command.current_dir(root);
        let mut process = command.spawn().unwrap();
        let stdin = process.stdin.take().unwrap();
        let mut stdout = BufReader::new(process.stdout.take().unwrap());
        let lines = Arc::new(Mutex::new(String::new()));
        let kept = lines.clone();
        std::thread::spawn(move || {
            let mut line = String::new();
            while stdout.read_line(&mut line).unwrap_or(0) > 0 {
                kept.lock().unwrap().push_str(&line);
                line.clear();
            }
        });
        Some(Self { process, stdin, lines })
    }

    /// What it prints when it is told a word.
    fn ask(&mut self, word: &str) -> Value {
        let from = self.lines.lock().unwrap().len();
        writeln!(self.stdin, "{word}").unwrap();
        let begin = Instant::now();
        loop {
            // Reticulum says something in between.
            let said = self.lines.lock().unwrap()[from..].replace("> ", "");
            let begins = said.starts_with('{').then_some(0).or(said.find("\n{").map(|at| at + 1));
            if let Some(Ok(value)) = begins.map(|at| serde_json::from_str(&said[at..])) {
                return value;
            }
            assert!(begin.elapsed() < Duration::from_secs(20), "{word}: {said:?}");
            std::thread::sleep(Duration::from_millis(50));
        }
    }
}

/// What a machine answers to a client of meshlogd's socket.
fn ask(machine: &Machine, method: &str) -> Value {
    let mut stream = BufReader::new(UnixStream::connect(text(&machine.ready, "socket")).unwrap());
    let request = json!({ "jsonrpc": "2.0", "id": 1, "method": method, "params": {} });
    writeln!(stream.get_mut(), "{request}").unwrap();
    loop {
        let mut line = String::new();
        assert!(stream.read_line(&mut line).unwrap() > 0, "the daemon hung up");
        let answer: Value = serde_json::from_str(&line).unwrap();
        if answer["id"] == 1 {
            return answer["result"].clone();
        }
    }
}

fn frontier(machine: &Machine) -> Value {
    let answer = ask(machine, "frontier");
    if answer["frontier"].is_object() { answer["frontier"].clone() } else { answer }
}

/// Feeds without those that have nothing: meshlogd lists authors of whom it refused something.
fn full(frontier: &Value) -> Map<String, Value> {
    let all = frontier.as_object().unwrap_or_else(|| panic!("no frontier: {frontier}"));
    all.iter().filter(|(_, length)| **length != 0).map(|(a, b)| (a.clone(), b.clone())).collect()
}

#[track_caller]
fn all_agree(machines: &[&Machine], nodes: &mut [&mut Node], events: u64) {
    let begin = Instant::now();
    loop {
        let mut fronts: Vec<_> = machines.iter().map(|machine| full(&frontier(machine))).collect();
        fronts.extend(nodes.iter_mut().map(|node| full(&node.ask("front"))));
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
    let listens = |port| std::net::TcpStream::connect((Ipv4Addr::LOCALHOST, port)).is_ok();
    until("the first transport listens", || listens(near));
    let both = server(far) + &client(near);
    let _far = Rnsd::start(&config(root, "far", forwards, &both)).unwrap();
    until("the second transport listens", || listens(far));
    let (mut a, mut b) = members(root);
    for machine in [&a, &b] {
        machine.one(["mesh", "identity", "--signed"]);
    }
    record(&a, &["create", "R-a", "site"]);
    record(&a, &["set", "R-a", "people", "3"]);
    on_air(&mut a, &config(root, "a", ALONE, &client(near)), &[]);
    on_air(&mut b, &config(root, "b", ALONE, &client(far)), &[]);
    // Their own: each creates a record and sets the same field of the same one.
    let say = |status: &'static str, own: &'static str| {
        [
            "--create",
            own,
            "site",
            "--set",
            own,
            "functional",
            "true",
            "--set",
            "R-a",
            "status",
            status,
        ]
    };
    let old = [&["--name", "old"][..], &say("OPEN", "R-old")].concat();
    let mut old = Node::start(root, "0.1.0", "old", near, &old).unwrap();
    let mut new = Node::start(root, "0.5.0", "new", far, &say("CLOSED", "R-new")).unwrap();
    record(&b, &["set", "R-a", "status", "\"VISITED\""]);
    // Two of a, one of b, three of each node.
    all_agree(&[&a, &b], &mut [&mut old, &mut new], 9);
    let views = [ask(&a, "view"), ask(&b, "view")].map(|answer| answer["state"].to_string());
    assert_eq!(views[0], views[1], "to the byte");
    let of_old = old.ask("view");
    assert_eq!(serde_json::from_str::<Value>(&views[0]).unwrap(), of_old);
    assert!(
        ["OPEN", "CLOSED", "VISITED"]
            .contains(&of_old["R-a"]["fields"]["status"].as_str().unwrap())
    );
    // What was gathered is in the domain.
    let shown = b.one(["record", "show", "R-new"]);
    assert_eq!(shown["fields"]["functional"], true);
    // What is written later arrives everywhere, too.
    record(&b, &["note", "R-a", "later"]);
    all_agree(&[&a, &b], &mut [&mut old, &mut new], 10);
    assert_eq!(old.ask("view")["R-a"]["notes"].as_array().map(Vec::len), Some(1));
}
