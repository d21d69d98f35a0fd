//! The real meshlogd, as `tests/meshlogd/setup` installs it, and whoever speaks its `meshlog.socket/1`.

use std::io::{BufRead, BufReader, Write};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use serde_json::{Map, Value, json};

use super::air::{ALONE, client, config};
use super::data::text;
use super::tools::{installed, repository};
use super::{Machine, until};

/// How long a process may think about a word.
const ANSWER_MAX: Duration = Duration::from_secs(60);

/// Where it is, if it is installed.
pub(crate) fn place() -> Option<PathBuf> {
    installed("meshlogd", "tests/meshlogd/setup")
}

/// A script of `tests/meshlogd` under the real Python, with a version of meshlogd.
pub(crate) fn script(place: &Path, version: &str, script: &str) -> Command {
    let mut command = Command::new(place.join("bin/python"));
    command.arg("-u").arg(repository().join("tests/meshlogd").join(script));
    command.env("PYTHONPATH", place.join(version)).env("PYTHONDONTWRITEBYTECODE", "1");
    command.env("PYTHONUTF8", "1");
    command
}

/// A process of meshlogd. It dies with this.
pub(crate) struct Running(pub(crate) Child);

impl Drop for Running {
    fn drop(&mut self) {
        drop(self.0.kill());
        drop(self.0.wait());
    }
}

/// meshlogd 0.5.0, which serves a socket.
pub(crate) struct Serving {
    _process: Running,
    pub(crate) socket: PathBuf,
}

/// The command of a version of meshlogd, on an interface that connects to that port.
pub(crate) fn meshlogd(root: &Path, version: &str, port: u16, subcommand: &[&str]) -> Command {
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

impl Serving {
    pub(crate) fn start(root: &Path, port: u16) -> Self {
        Self::start_with(root, port, &[])
    }

    pub(crate) fn start_with(root: &Path, port: u16, more: &[&str]) -> Self {
        let socket = root.join("new.sock");
        drop(std::fs::remove_file(&socket));
        let mut command = meshlogd(root, "0.5.0", port, &["serve", "--rns", "--raw"]);
        let process = command.arg("--unix").arg(&socket).args(more).spawn().unwrap();
        until("meshlogd serves", || UnixStream::connect(&socket).is_ok());
        Self { _process: Running(process), socket }
    }

    pub(crate) fn emit(&self, kind: &str, payload: Value) {
        line(&self.socket, "emit", &json!({ "kind": kind, "payload": payload }));
    }
}

/// A process that is told words on its standard input, such as meshlogd 0.1.0, and answers each with JSON.
pub(crate) struct Told {
    _process: Running,
    stdin: ChildStdin,
    lines: Arc<Mutex<String>>,
}

impl Told {
    pub(crate) fn start(command: &mut Command) -> Self {
        let mut process = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
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
    #[track_caller]
    pub(crate) fn ask(&mut self, word: &str) -> Value {
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
            assert!(begin.elapsed() < ANSWER_MAX, "{word}: {said:?}");
            std::thread::sleep(Duration::from_millis(50));
        }
    }
}

/// What meshlogd, or a machine in its place, answers on a socket: the line as it is.
pub(crate) fn line(socket: &Path, method: &str, params: &Value) -> String {
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

pub(crate) fn ask(socket: &Path, method: &str) -> Value {
    let line = line(socket, method, &json!({}));
    serde_json::from_str::<Value>(&line).unwrap()["result"].clone()
}

/// Events without signatures: 0.1.0 drops them, so who has them depends on whom they came from.
pub(crate) fn without_signatures(line: &str) -> String {
    const FIELD: &str = ",\"g\":\"";
    let mut parts = line.split(FIELD);
    let mut out = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        out.push_str(part.split_once('"').expect("a signature ends").1);
    }
    out
}

pub(crate) fn socket(machine: &Machine) -> PathBuf {
    text(&machine.ready, "socket").into()
}

pub(crate) fn frontier(socket: &Path) -> Value {
    let answer = ask(socket, "frontier");
    if answer["frontier"].is_object() { answer["frontier"].clone() } else { answer }
}

/// Feeds without those that have nothing: meshlogd lists authors of whom it refused something.
pub(crate) fn full(frontier: &Value) -> Map<String, Value> {
    let all = frontier.as_object().unwrap_or_else(|| panic!("no frontier: {frontier}"));
    all.iter().filter(|(_, length)| **length != 0).map(|(a, b)| (a.clone(), b.clone())).collect()
}
