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
const AGREE_MAX: Duration = Duration::from_secs(240);

/// A process of meshlogd. It dies with this.
struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        drop(self.0.kill());
        drop(self.0.wait());
    }
}

/// meshlogd 0.1.0, which is told words on its standard input.
struct Old {
    _process: Running,
    stdin: ChildStdin,
    lines: Arc<Mutex<String>>,
}

/// meshlogd 0.5.0, which serves a socket.
struct New {
    _process: Running,
    socket: PathBuf,
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

/// The command of a version of meshlogd, on an interface that connects to that port.
fn meshlogd(root: &Path, version: &str, port: u16, subcommand: &[&str]) -> Command {
    let place = place().expect("it is installed");
    let dir = config(root, version, ALONE, &client(port));
    let mut command = Command::new(place.join("bin/python"));
    command.args(["-u", "-m", "meshlog.cli"]).args(subcommand).arg("--configdir").arg(dir);
    command.arg("--identity").arg(root.join(format!("{version}.identity")));
    command.args(["--gossip-interval", "2"]).current_dir(root);
    command.env("PYTHONPATH", place.join(version)).env("PYTHONDONTWRITEBYTECODE", "1");
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null());
    command
}

impl Old {
    fn start(root: &Path, port: u16, more: &[&str]) -> Self {
        let mut process = meshlogd(root, "0.1.0", port, &[]).args(more).spawn().unwrap();
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
        Self { _process: Running(process), stdin, lines }
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

impl New {
    fn start(root: &Path, port: u16) -> Self {
        let socket = root.join("new.sock");
        let mut command = meshlogd(root, "0.5.0", port, &["serve", "--rns", "--raw"]);
        let process = command.arg("--unix").arg(&socket).spawn().unwrap();
        until("meshlogd serves", || UnixStream::connect(&socket).is_ok());
        Self { _process: Running(process), socket }
    }
}

/// What meshlogd, or a machine in its place, answers on a socket: the line as it is.
fn line(socket: &Path, method: &str, params: &Value) -> String {
    let mut stream = BufReader::new(UnixStream::connect(socket).unwrap());
    let request = json!({ "jsonrpc": "2.0", "id": 1, "method": method, "params": params });
    writeln!(stream.get_mut(), "{request}").unwrap();
    loop {
        let mut line = String::new();
        assert!(stream.read_line(&mut line).unwrap() > 0, "it hung up");
        let answer: Value = serde_json::from_str(&line).unwrap();
        if answer["id"] == 1 {
            assert!(answer["error"].is_null(), "{line}");
            return line;
        }
    }
}

fn ask(socket: &Path, method: &str) -> Value {
    let line = line(socket, method, &json!({}));
    serde_json::from_str::<Value>(&line).unwrap()["result"].clone()
}

/// Events without signatures: 0.1.0 drops them, so who has them depends on whom they came from.
fn without_signatures(line: &str) -> String {
    const FIELD: &str = ",\"g\":\"";
    let mut parts = line.split(FIELD);
    let mut out = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        out.push_str(part.split_once('"').expect("a signature ends").1);
    }
    out
}

fn socket(machine: &Machine) -> PathBuf {
    text(&machine.ready, "socket").into()
}

fn frontier(socket: &Path) -> Value {
    let answer = ask(socket, "frontier");
    if answer["frontier"].is_object() { answer["frontier"].clone() } else { answer }
}

/// Feeds without those that have nothing: meshlogd lists authors of whom it refused something.
fn full(frontier: &Value) -> Map<String, Value> {
    let all = frontier.as_object().unwrap_or_else(|| panic!("no frontier: {frontier}"));
    all.iter().filter(|(_, length)| **length != 0).map(|(a, b)| (a.clone(), b.clone())).collect()
}

#[track_caller]
fn all_agree(machines: &[&Machine], old: &mut Old, new: &New, events: u64) {
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
    let listens = |port| std::net::TcpStream::connect((Ipv4Addr::LOCALHOST, port)).is_ok();
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
    let mut old = Old::start(root, near, &[&["--name", "old"][..], &own].concat());
    let new = New::start(root, far);
    let emit = |kind: &str, payload: Value| {
        line(&new.socket, "emit", &json!({ "kind": kind, "payload": payload }));
    };
    emit("record.create", json!({ "record_id": "R-new", "form": "site", "by": "somebody" }));
    emit("field.set", json!({ "record_id": "R-a", "field": "status", "value": "CLOSED" }));
    record(&b, &["set", "R-a", "status", "\"VISITED\""]);
    // Two of a, one of b, two of each node.
    all_agree(&[&a, &b], &mut old, &new, 7);
    let check = |old: &mut Old| {
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
