//! One client, written for `meshlogd serve`, says the same to the real daemon and to our state machine.

mod common;

use std::io::{ErrorKind, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use common::Running;
use data_encoding::HEXLOWER;
use quipu_meshlog::clock::{Clock, Stamp};
use quipu_meshlog::event::{Body, Event};
use quipu_meshlog::file;
use quipu_meshlog::json::{self, Object, Style, Value};
use quipu_meshlog::limits::SOCKET_LINE_BYTES_MAX;
use quipu_meshlog::log::Log;
use quipu_meshlog::order::Ordered;
use quipu_meshlog::socket::{ClientId, Host, HostFailed, Service};
use quipu_meshlog::text::Text;

const AUTHOR: &str = "nöde";

/// A node as `meshlogd serve` has one when it is alone.
struct Node {
    log: Log,
    clock: Clock,
    view: Option<Ordered>,
    file: std::fs::File,
}

impl Node {
    fn open(path: &Path, has_view: bool) -> Self {
        let mut log = Log::default();
        assert!(log.load(file::read(&std::fs::read(path).unwrap()).unwrap().events).is_empty());
        let mut view = has_view.then(Ordered::default);
        for event in log.arrived() {
            view.iter_mut().for_each(|view| view.apply(event));
        }
        let file = std::fs::OpenOptions::new().append(true).open(path).unwrap();
        Self { log, clock: Clock::default(), view, file }
    }
}

impl Host for Node {
    fn author(&self) -> Text {
        AUTHOR.into()
    }
    fn frontier(&self) -> Object {
        self.log.frontier()
    }
    fn events_after(&self, author: &Text, from: usize) -> Vec<Arc<Event>> {
        self.log.feed(author)[from..].to_vec()
    }
    fn emit(&mut self, kind: &Text, payload: &Value) -> Result<Arc<Event>, HostFailed> {
        let author = self.author();
        let (seq, prev) = self.log.next_of(&author);
        let (kind, payload, stamp) = (kind.clone(), payload.clone().into(), self.clock.next(1_000));
        let event = Event::new(Body { author, seq, stamp, kind, payload, prev });
        let event = self.log.append_own(event).map_err(|_| HostFailed)?;
        let mut line = Vec::new();
        file::write_line(&event, &mut line);
        self.file.write_all(&line).map_err(|_| HostFailed)?;
        self.view.iter_mut().for_each(|view| view.apply(&event));
        Ok(event)
    }
    fn has_view(&self) -> bool {
        self.view.is_some()
    }
    fn write_view(&self, out: &mut Vec<u8>) {
        self.view.as_ref().unwrap().write_json(Style::Compact, out);
    }
    fn peers(&self) -> Vec<Text> {
        Vec::new()
    }
}

trait Stream: Read + Write {}
impl<T: Read + Write> Stream for T {}

/// Serves whoever connects, in turns, until it is told to stop.
fn serve(
    mut accept: impl FnMut() -> std::io::Result<Box<dyn Stream>>,
    mut node: Node,
    stop: &AtomicBool,
) {
    let mut service = Service::new(&node);
    let mut clients: Vec<(ClientId, Box<dyn Stream>)> = Vec::new();
    let mut count = 0;
    let mut buffer = vec![0; 256 << 10];
    while !stop.load(Ordering::Relaxed) {
        if let Ok(stream) = accept() {
            count += 1;
            service.open(ClientId(count), &node);
            clients.push((ClientId(count), stream));
        }
        for (id, stream) in &mut clients {
            match stream.read(&mut buffer) {
                Ok(0) => service.end_of_input(*id, &mut node),
                Ok(length) => service.receive(*id, &buffer[..length], &mut node),
                Err(error) if error.kind() == ErrorKind::WouldBlock => {}
                Err(_) => service.close(*id),
            }
        }
        service.settle(&node);
        clients.retain_mut(|(id, stream)| {
            let out = service.take_output(*id);
            let is_written = write_all(stream.as_mut(), &out);
            let stays = is_written && !service.is_closed(*id);
            if !stays {
                service.close(*id);
            }
            stays
        });
        std::thread::sleep(Duration::from_millis(1));
    }
}

fn write_all(stream: &mut dyn Stream, mut out: &[u8]) -> bool {
    while !out.is_empty() {
        match stream.write(out) {
            Ok(written) => out = &out[written..],
            Err(error) if error.kind() == ErrorKind::WouldBlock => std::thread::yield_now(),
            Err(_) => return false,
        }
    }
    true
}

/// What the client says. Each step is what it sends at once.
fn steps() -> Vec<String> {
    let mut steps: Vec<String> =
        METHODS.iter().chain(BROKEN).map(|step| step.to_string() + "\n").collect();
    let emits: Vec<String> = (0..5).map(|n| emit(&format!(r#"{{"n":{n}}}"#), "null")).collect();
    steps.push(emits.concat());
    for since in SINCE {
        let request = |since: &str| {
            format!(r#"{{"jsonrpc":"2.0","id":0,"method":"events","params":{{"since":{since}}}}}"#)
        };
        steps.push(request(since) + "\n");
        steps.push(request(&format!(r#"{{"b":{since}}}"#)) + "\n");
    }
    for limit in LIMITS {
        steps.push(format!("{{\"jsonrpc\":\"2.0\",\"id\":0,\"method\":\"events\",\"params\":{{\"limit\":{limit}}}}}\n"));
    }
    for snapshot in LIMITS.iter().chain(SINCE) {
        steps.push(format!("{{\"jsonrpc\":\"2.0\",\"id\":0,\"method\":\"subscribe\",\"params\":{{\"snapshot\":{snapshot}}}}}\n"));
    }
    for name in LIMITS.iter().chain(SINCE).chain(NAMES) {
        steps.push(format!("{{\"jsonrpc\":\"2.0\",\"id\":0,\"method\":\"unsubscribe\",\"params\":{{\"subscription\":{name}}}}}\n"));
        steps.push(format!("{{\"jsonrpc\":\"2.0\",\"id\":{name},\"method\":{name}}}\n"));
    }
    for payload in PAYLOADS {
        steps.push(emit(payload, "[1,{\"b\":1,\"a\":NaN}]"));
    }
    steps.push(emit("{}", "7"));
    let line = METHODS[0];
    for length in [SOCKET_LINE_BYTES_MAX, SOCKET_LINE_BYTES_MAX + 1, 3 * SOCKET_LINE_BYTES_MAX] {
        steps.push(format!("{line}{}\n", " ".repeat(length - line.len())));
    }
    // What was subscribed ended with the connection.
    steps.push(emit("{}", "8"));
    steps
}

fn emit(payload: &str, id: &str) -> String {
    format!(
        "{{\"jsonrpc\":\"2.0\",\"id\":{id},\"method\":\"emit\",\"params\":{{\"kind\":\"a.b\",\"payload\":{payload}}}}}\n"
    )
}

const METHODS: &[&str] = &[
    r#"{"jsonrpc":"2.0","id":1,"method":"frontier"}"#,
    r#"{"jsonrpc":"2.0","id":1,"method":"status"}"#,
    r#"{"jsonrpc":"2.0","id":"x","method":"view"}"#,
    r#"{"jsonrpc":"2.0","id":1,"method":"peers","params":null}"#,
    r#"{"jsonrpc":"2.0","id":1,"method":"events"}"#,
    r#"{"jsonrpc":"2.0","id":1,"method":"subscribe"}"#,
    r#"{"jsonrpc":"2.0","id":1,"method":"emit","params":{"kind":"a","payload":{"z":1,"a":[]}}}"#,
    r#"{"jsonrpc":"2.0","method":"emit","params":{"kind":"a","payload":{}}}"#,
    r#"{"jsonrpc":"2.0","id":null,"method":"emit","params":{"kind":"","payload":{}}}"#,
    r#"{"jsonrpc":"2.0","method":"emit","params":{"kind":1,"payload":{}}}"#,
    r#"{"jsonrpc":"2.0","id":1,"method":"emit","params":{"kind":"a","payload":[]}}"#,
    r#"{"jsonrpc":"2.0","id":1,"method":"emit"}"#,
    r#"{"jsonrpc":"2.0","id":1,"method":"subscribe"}"#,
    r#"{"jsonrpc":"2.0","id":1,"method":"emit","params":{"kind":"\ud800","payload":{"b":"\u00e9","a":1,"b":2}}}"#,
    r#"{"jsonrpc":"2.0","id":1,"method":"unsubscribe","params":{"subscription":"s1"}}"#,
    r#"{"jsonrpc":"2.0","id":1,"method":"unsubscribe","params":{"subscription":"s1"}}"#,
    r#"{"jsonrpc":"2.0","id":1,"method":"unsubscribe"}"#,
    r#"{"jsonrpc":"2.0","id":1,"method":"emit","params":{"kind":"k","payload":{}},"extra":[]}"#,
    r#"{"jsonrpc":"2.0","id":{"b":1,"a":[1.0,1e16]},"method":"frontier"}"#,
    r#"{"jsonrpc":"2.0","id":1,"id":2,"method":"frontier"}"#,
    r#"{"jsonrpc":"2.0","id":1,"method":"meshlog.x"}"#,
    r#"{"jsonrpc":"2.0","id":1,"method":"hello"}"#,
];

/// Lines that are no requests. (A line of its own is not printable: bytes that are no UTF-8 come below.)
const BROKEN: &[&str] = &[
    "",
    "  ",
    "{",
    "nul",
    "[]",
    r#"[{"jsonrpc":"2.0","id":1,"method":"frontier"}]"#,
    "1",
    "\"x\"",
    "null",
    "{}",
    r#"{"id":1}"#,
    r#"{"id":1,"method":"frontier"}"#,
    r#"{"jsonrpc":2.0,"id":1,"method":"frontier"}"#,
    r#"{"jsonrpc":"1.0","id":1,"method":"frontier"}"#,
    r#"{"jsonrpc":"2.0","id":1}"#,
    r#"{"jsonrpc":"2.0","id":1,"method":null}"#,
    r#"{"jsonrpc":"2.0","id":1,"method":[]}"#,
    r#"{"jsonrpc":"2.0","id":1,"method":{}}"#,
    r#"{"jsonrpc":"2.0","id":1,"method":"frontier","params":[]}"#,
    r#"{"jsonrpc":"2.0","id":1,"method":"nothing","params":0}"#,
    r#"{"jsonrpc":"2.0","method":"frontier","params":"x"}"#,
    r#"{"jsonrpc":"2.0","id":1,"method":"frontier"} x"#,
    "\u{feff}{\"jsonrpc\":\"2.0\",\"id\":1,\"method\":\"frontier\"}",
    "{\"jsonrpc\":\"2.0\",\"id\":\"\u{1}\",\"method\":\"frontier\"}",
];

const SINCE: &[&str] = &[
    "{}",
    "[]",
    "\"\"",
    "0",
    "null",
    "false",
    "true",
    "1",
    "-1",
    "-2",
    "-9",
    "2",
    "3",
    "9",
    "0.0",
    "0.5",
    "9.5",
    "NaN",
    "-Infinity",
    "99999999999999999999999",
    "-99999999999999999999999",
    "\"x\"",
    "[1]",
    r#"{"a":1}"#,
];

const LIMITS: &[&str] = &[
    "null",
    "0",
    "1",
    "3",
    "-1",
    "-100",
    "true",
    "false",
    "1.0",
    "\"1\"",
    "99999999999999999999",
    "{}",
];

const NAMES: &[&str] = &[
    "\"s2\"",
    "\"s02\"",
    "\"it's\"",
    r#""\"it's\"""#,
    r#""\u00ad\u2028\ud800\ue000\\\n\t\r\u007f\u0001""#,
    "\"é😀\"",
    "1e22",
    "-0.0",
];

const PAYLOADS: &[&str] = &[
    r#"{"t":"a\nb\u0000\ud83d\ude00\ud800 é","n":[1.0,1e400,-0.0,1e-7,123456789012345678901234567890]}"#,
    r#"{"record_id":"R-1","field":"f","value":{"z":null,"y":true}}"#,
];

/// Steps as the client reads them: also bytes that are no text.
fn script() -> Vec<u8> {
    let mut lines: Vec<String> =
        steps().iter().map(|step| HEXLOWER.encode(step.as_bytes())).collect();
    lines.push(HEXLOWER.encode(b"\"\xff\"\n"));
    lines.push(
        HEXLOWER.encode(b"{\"jsonrpc\":\"2.0\",\"id\":\"\xed\xa0\x80\",\"method\":\"frontier\"}\n"),
    );
    let wide: Vec<u8> =
        METHODS[0].encode_utf16().chain([0x0a]).flat_map(u16::to_be_bytes).collect();
    lines.push(HEXLOWER.encode(&wide));
    lines.push("end".into());
    lines.push(format!("end {}", HEXLOWER.encode(METHODS[0].as_bytes())));
    (lines.join("\n") + "\n").into_bytes()
}

/// Data files of three authors, one of whom is the node itself.
fn data(path: &Path) {
    let mut log = Log::default();
    for (n, author) in ["b", AUTHOR, "a", "b", "b"].into_iter().enumerate() {
        let author = Text::from(author);
        let (seq, prev) = log.next_of(&author);
        let payload = Value::object([("n", (n as u64).into())]).into();
        let stamp = Stamp::new(5 - n as i64, 0);
        let event = Event::new(Body { author, seq, stamp, kind: "k".into(), payload, prev });
        log.append_own(event.with_signature((n == 2).then(|| "00".into()))).unwrap();
    }
    std::fs::write(path, file::write(&log)).unwrap();
}

fn client(place: &Path, address: &str) -> Vec<String> {
    common::lines(common::script(place, "0.5.0", "socket_client.py", &[address]), script())
}

/// The real daemon, once it listens.
fn daemon(place: &Path, arguments: &[&str], is_up: impl Fn() -> bool) -> Running {
    let mut command = Command::new(place.join("bin/python"));
    command.args(["-c", "from meshlog.cli import main; main()", "serve", "--author", AUTHOR]);
    command.args(arguments).env("PYTHONPATH", place.join("0.5.0")).env("PYTHONUTF8", "1");
    let child = command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
    let running = Running(child);
    for _ in 0..600 {
        if is_up() {
            return running;
        }
        std::thread::sleep(Duration::from_millis(50));
    }
    panic!("meshlogd did not start");
}

/// Data files without what differs by design.
fn blotted(path: &Path) -> Vec<Value> {
    let events = file::read(&std::fs::read(path).unwrap()).unwrap().events;
    let shown = events.iter().map(|event| {
        Value::List(vec![
            (&event.author).into(),
            event.seq.into(),
            (&event.kind).into(),
            event.payload.value().clone(),
        ])
    });
    shown
        .map(|value| Value::from(String::from_utf8(json::to_bytes(&value, Style::Spaced)).unwrap()))
        .collect()
}

fn compare(ours: &[String], theirs: &[String]) {
    let mut step = "";
    for (ours, theirs) in ours.iter().zip(theirs) {
        if ours.starts_with("step ") {
            step = ours;
        }
        assert_eq!(
            ours,
            theirs,
            "at {step}: {:?}",
            step.split(' ').nth(1).map(|n| steps().get(n.parse::<usize>().unwrap()).cloned())
        );
    }
    assert_eq!(ours.len(), theirs.len());
}

fn paths(directory: &Path) -> [PathBuf; 2] {
    ["theirs.jsonl", "ours.jsonl"].map(|name| {
        let path = directory.join(name);
        data(&path);
        path
    })
}

#[test]
fn a_client_cannot_tell_the_difference_on_a_unix_socket() {
    let Some(place) = common::installed() else { return };
    let directory = tempfile::tempdir().unwrap();
    let [their_data, our_data] = paths(directory.path());
    let [their_socket, our_socket] = ["theirs", "ours"].map(|name| directory.path().join(name));
    let [path, data] = [&their_socket, &their_data].map(|path| path.to_str().unwrap());
    let arguments = ["--unix", path, "--persist", data, "--raw"];
    let running = daemon(&place, &arguments, || UnixStream::connect(&their_socket).is_ok());
    let theirs = client(&place, path);
    drop(running);

    let listener = UnixListener::bind(&our_socket).unwrap();
    listener.set_nonblocking(true).unwrap();
    let node = Node::open(&our_data, true);
    let ours = with_server(
        move || {
            let (stream, _) = listener.accept()?;
            stream.set_nonblocking(true)?;
            Ok(Box::new(stream) as Box<dyn Stream>)
        },
        node,
        || client(&place, our_socket.to_str().unwrap()),
    );
    compare(&ours, &theirs);
    assert!(ours.len() > 2 * steps().len(), "only {} lines", ours.len());
    for (what, count) in [("\"error\"", 60), ("\"state\"", 30), ("closed", 4), ("CLOCK", 40)] {
        let found = ours.iter().filter(|line| line.contains(what)).count();
        assert!(found >= count, "{found} lines with {what}");
    }
    assert_eq!(blotted(&our_data), blotted(&their_data));
}

fn with_server<T>(
    accept: impl FnMut() -> std::io::Result<Box<dyn Stream>> + Send,
    node: Node,
    client: impl FnOnce() -> T,
) -> T {
    let stop = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| serve(accept, node, &stop));
        let result = std::panic::catch_unwind(std::panic::AssertUnwindSafe(client));
        stop.store(true, Ordering::Relaxed);
        result.unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    })
}

#[test]
fn a_client_cannot_tell_the_difference_on_tcp_and_without_a_view() {
    let Some(place) = common::installed() else { return };
    let directory = tempfile::tempdir().unwrap();
    let [their_data, our_data] = paths(directory.path());
    // A port that was free a moment ago.
    let address = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().to_string();
    let arguments = ["--tcp", &address, "--persist", their_data.to_str().unwrap()];
    let running = daemon(&place, &arguments, || TcpStream::connect(&address).is_ok());
    let theirs = client(&place, &address);
    drop(running);

    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    listener.set_nonblocking(true).unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let node = Node::open(&our_data, false);
    let ours = with_server(
        move || {
            let (stream, _) = listener.accept()?;
            stream.set_nonblocking(true)?;
            Ok(Box::new(stream) as Box<dyn Stream>)
        },
        node,
        || client(&place, &address),
    );
    compare(&ours, &theirs);
    assert!(ours.iter().any(|line| line.contains("no reducer configured")));
    assert_eq!(blotted(&our_data), blotted(&their_data));
}
