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
use common::data::{noise, text};
use common::{Machine, agree, skip, temp, until};
use serde_json::{Map, Value, json};

/// How long nodes that gossip every two seconds may take to agree.
const AGREE_MAX: Duration = Duration::from_secs(240);

/// Notes that take more air than there is.
const RECORDS: u64 = 500;

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
    fn emit(&self, kind: &str, payload: Value) {
        line(&self.socket, "emit", &json!({ "kind": kind, "payload": payload }));
    }

    fn start(root: &Path, port: u16, more: &[&str]) -> Self {
        let socket = root.join("new.sock");
        drop(std::fs::remove_file(&socket));
        let mut command = meshlogd(root, "0.5.0", port, &["serve", "--rns", "--raw"]);
        let process = command.arg("--unix").arg(&socket).args(more).spawn().unwrap();
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
    let new = New::start(root, far, &[]);
    new.emit("record.create", json!({ "record_id": "R-new", "form": "site", "by": "somebody" }));
    new.emit("field.set", json!({ "record_id": "R-a", "field": "status", "value": "CLOSED" }));
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
        let node = New::start(&dir, port, &["--author", "x"]);
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
    let new = New::start(root, port, &[]);
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
    let new = New::start(root, port, &[]);
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
    let new = New::start(root, port, &[]);
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
