//! Machines as a user sees them: processes of the built binary, directories, sockets on loopback.
#![allow(dead_code, reason = "every test file uses a part of this")]

pub(crate) mod air;
pub(crate) mod data;
pub(crate) mod disk;
pub(crate) mod meshlogd;
pub(crate) mod programs;
pub(crate) mod published;
pub(crate) mod slow;
pub(crate) mod tools;

use std::collections::BTreeSet;
use std::ffi::OsStr;
use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use serde_json::Value;

/// How long machines may take to agree: less than the 30 s after which a comparison mends what a stall
/// left behind.
pub(crate) const AGREE_MAX: Duration = Duration::from_secs(25);

/// What a command did.
#[derive(Debug)]
pub(crate) struct Ran {
    pub(crate) code: i32,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

impl Ran {
    /// The lines of stdout as JSON.
    pub(crate) fn items(&self) -> Vec<Value> {
        self.stdout.lines().map(|line| serde_json::from_str(line).expect(line)).collect()
    }

    /// The exit code must be this one. Gives the error as text.
    #[track_caller]
    pub(crate) fn fails(&self, code: i32) -> &str {
        assert_eq!(self.code, code, "stdout: {}\nstderr: {}", self.stdout, self.stderr);
        &self.stderr
    }
}

/// One machine. Its daemon dies with it.
#[derive(Debug)]
pub(crate) struct Machine {
    pub(crate) name: &'static str,
    /// The temporary directory of the whole test.
    pub(crate) root: PathBuf,
    pub(crate) dir: PathBuf,
    pub(crate) daemon: Option<Child>,
    pub(crate) ready: Value,
    /// Gets every frame that this machine sends or receives.
    pub(crate) record: Option<PathBuf>,
}

impl Drop for Machine {
    fn drop(&mut self) {
        self.kill();
    }
}

/// A temporary directory for a test.
pub(crate) fn temp() -> tempfile::TempDir {
    tempfile::Builder::new().prefix("quipu-test-").tempdir().unwrap()
}

/// The binary, cut off from the user's own directories.
pub(crate) fn program(root: &Path) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_quipu"));
    command
        .env_remove("QUIPU_DIR")
        .env_remove("QUIPU_LOG")
        .env("HOME", root)
        .env("XDG_DATA_HOME", root.join("xdg"))
        .env_remove("XDG_RUNTIME_DIR")
        .current_dir(root)
        .stdin(Stdio::null());
    command
}

/// Runs a command to its end, with this on its standard input.
pub(crate) fn finish(mut command: Command, input: &[u8]) -> Ran {
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().unwrap();
    let mut stdin = child.stdin.take().unwrap();
    let input = input.to_vec();
    // A command that refuses early does not read everything.
    let writer = std::thread::spawn(move || drop(stdin.write_all(&input)));
    let output = child.wait_with_output().unwrap();
    writer.join().unwrap();
    Ran {
        code: output.status.code().unwrap_or(-1),
        stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
        stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
    }
}

impl Machine {
    /// A machine that is not there yet.
    pub(crate) fn new(name: &'static str, root: &Path) -> Self {
        let dir = root.join(name);
        let root = root.to_owned();
        Self { name, root, dir, daemon: None, ready: Value::Null, record: None }
    }

    /// The founder of a domain.
    pub(crate) fn found(name: &'static str, root: &Path) -> Self {
        let machine = Self::new(name, root);
        machine.one(["init", "--domain", "test"]);
        machine
    }

    /// A machine that joined with a ticket.
    pub(crate) fn joined(name: &'static str, root: &Path, ticket: &str) -> Self {
        let machine = Self::new(name, root);
        machine.one(["join", ticket]);
        machine
    }

    pub(crate) fn command(&self) -> Command {
        let mut command = program(&self.root);
        command.arg("--dir").arg(&self.dir);
        command.envs(self.record.iter().map(|path| ("QUIPU_FRAME_RECORD", path)));
        command
    }

    /// From now on all frames are written down.
    pub(crate) fn record_frames(&mut self) {
        self.record = Some(self.root.join(format!("{}.frames", self.name)));
    }

    /// The frames that were written down: the other machine's key, and the bytes.
    pub(crate) fn frames(&self) -> Vec<(String, Vec<u8>)> {
        let record = self.record.as_ref().expect("frames are written down");
        let text = std::fs::read_to_string(record).unwrap();
        let frame = |line: &str| {
            let line: Value = serde_json::from_str(line).unwrap();
            let bytes = line["bytes"].as_str().unwrap().as_bytes();
            let bytes = data_encoding::BASE64.decode(bytes).unwrap();
            (line["peer"].as_str().unwrap().to_owned(), bytes)
        };
        text.lines().map(frame).collect()
    }

    /// Runs a command with `--json`, whatever comes of it.
    pub(crate) fn try_run<S: AsRef<OsStr>>(&self, arguments: impl IntoIterator<Item = S>) -> Ran {
        self.try_with(arguments, b"")
    }

    /// The same with this on standard input.
    pub(crate) fn try_with<S: AsRef<OsStr>>(
        &self,
        arguments: impl IntoIterator<Item = S>,
        input: &[u8],
    ) -> Ran {
        let mut command = self.command();
        command.arg("--json").args(arguments);
        finish(command, input)
    }

    /// Runs a command that must work, and gives what it printed.
    #[track_caller]
    pub(crate) fn run<S: AsRef<OsStr>>(
        &self,
        arguments: impl IntoIterator<Item = S>,
    ) -> Vec<Value> {
        let ran = self.try_run(arguments);
        assert_eq!(ran.code, 0, "{}: {}", self.name, ran.stderr);
        ran.items()
    }

    /// Runs a command that must work, and gives the first object that it printed.
    #[track_caller]
    pub(crate) fn one<S: AsRef<OsStr>>(&self, arguments: impl IntoIterator<Item = S>) -> Value {
        self.run(arguments).into_iter().next().expect("it printed nothing")
    }

    /// Starts the daemon and waits until it is ready. Gives its ticket.
    #[track_caller]
    pub(crate) fn serve(&mut self) -> String {
        self.serve_with(&[])
    }

    #[track_caller]
    pub(crate) fn serve_with(&mut self, arguments: &[&str]) -> String {
        assert!(self.try_serve_with(arguments), "{}: {}", self.name, self.daemon_log());
        self.ticket()
    }

    /// Starts the daemon if it can.
    pub(crate) fn try_serve(&mut self) -> bool {
        self.try_serve_with(&[])
    }

    fn try_serve_with(&mut self, arguments: &[&str]) -> bool {
        assert!(self.daemon.is_none(), "{} serves already", self.name);
        let log = std::fs::OpenOptions::new()
            .create(true)
            .append(true)
            .open(self.root.join(format!("{}.log", self.name)))
            .unwrap();
        let mut daemon = self
            .command()
            .args(["-q", "serve"])
            .args(arguments)
            .envs(std::env::var("QUIPU_TEST_LOG").map(|level| ("QUIPU_LOG", level)))
            .stdout(Stdio::piped())
            .stderr(log)
            .spawn()
            .unwrap();
        let stdout = daemon.stdout.take().unwrap();
        self.daemon = Some(daemon);
        let mut line = String::new();
        BufReader::new(stdout).read_line(&mut line).unwrap();
        match serde_json::from_str::<Value>(&line) {
            Ok(ready) => {
                assert_eq!(ready["ready"], true);
                self.ready = ready;
                true
            }
            Err(_) => {
                self.kill();
                false
            }
        }
    }

    pub(crate) fn ticket(&self) -> String {
        self.ready["ticket"].as_str().expect("it serves").to_owned()
    }

    /// Where it listens.
    pub(crate) fn addr(&self) -> std::net::SocketAddr {
        self.ready["listen"][0].as_str().expect("it listens").parse().unwrap()
    }

    /// What the daemon wrote on stderr.
    pub(crate) fn daemon_log(&self) -> String {
        std::fs::read_to_string(self.root.join(format!("{}.log", self.name))).unwrap_or_default()
    }

    pub(crate) fn pid(&self) -> u32 {
        self.daemon.as_ref().expect("it serves").id()
    }

    /// Ends the daemon by SIGKILL.
    pub(crate) fn kill(&mut self) {
        if let Some(mut daemon) = self.daemon.take() {
            drop(daemon.kill());
            drop(daemon.wait());
        }
    }

    /// Ends the daemon in good order.
    #[track_caller]
    pub(crate) fn stop(&mut self) {
        let mut daemon = self.daemon.take().expect("it serves");
        assert!(Command::new("kill").arg(daemon.id().to_string()).status().unwrap().success());
        let status = daemon.wait().unwrap();
        assert!(status.success(), "{}: {status}: {}", self.name, self.daemon_log());
    }

    #[track_caller]
    pub(crate) fn status(&self) -> Value {
        self.one(["status"])
    }

    #[track_caller]
    pub(crate) fn digest(&self) -> String {
        self.status()["digest"].as_str().unwrap().to_owned()
    }

    /// Emits one event; gives its id.
    #[track_caller]
    pub(crate) fn emit(&self, text: &str) -> String {
        let payload = serde_json::json!({ "text": text }).to_string();
        uuid(&self.one(["emit", "app.note", &payload]))
    }

    /// A file with a batch of so many events.
    pub(crate) fn batch_file(&self, label: &str, events: usize) -> PathBuf {
        let path = self.root.join(format!("{}-{label}.ndjson", self.name));
        let lines = (0..events).map(|n| {
            let payload = serde_json::json!({ "by": self.name, "label": label, "n": n });
            serde_json::json!({ "kind": "app.note", "payload": payload }).to_string() + "\n"
        });
        std::fs::write(&path, lines.collect::<String>()).unwrap();
        path
    }

    /// Emits a batch; gives the ids.
    #[track_caller]
    pub(crate) fn write(&self, label: &str, events: usize) -> Vec<String> {
        let path = self.batch_file(label, events);
        let ids: Vec<String> =
            self.run(["emit", "--batch", path.to_str().unwrap()]).iter().map(uuid).collect();
        assert_eq!(ids.len(), events);
        ids
    }

    /// Emits a batch while the daemon may be killed; gives the ids that were printed.
    pub(crate) fn write_if_possible(&self, label: &str, events: usize) -> Vec<String> {
        let path = self.batch_file(label, events);
        let ran = self.try_run(["emit", "--batch", path.to_str().unwrap()]);
        ran.items().iter().map(uuid).collect()
    }

    /// All ids, in replay order. From the picture of the DAG, which is far smaller than the log.
    #[track_caller]
    pub(crate) fn log_ids(&self) -> Vec<String> {
        let ran = self.try_run(["export", "--format", "dot"]);
        assert_eq!(ran.code, 0, "{}: {}", self.name, ran.stderr);
        let id = |line: &str| {
            let (id, rest) = line.trim_start().strip_prefix('"')?.split_once('"')?;
            rest.starts_with(" [").then(|| id.to_owned())
        };
        ran.stdout.lines().filter_map(id).collect()
    }

    #[track_caller]
    pub(crate) fn verify_clean(&self) {
        let ran = self.try_run(["verify"]);
        assert_eq!(ran.code, 0, "{}: {} {}", self.name, ran.stdout, ran.stderr);
        assert_eq!(ran.items()[0]["problems"], serde_json::json!([]), "{}", self.name);
    }

    #[track_caller]
    pub(crate) fn holds(&self, ids: &[String]) {
        let held: BTreeSet<String> = self.log_ids().into_iter().collect();
        let lost: Vec<&String> = ids.iter().filter(|id| !held.contains(*id)).collect();
        assert!(lost.is_empty(), "{} lost {} of {}: {lost:?}", self.name, lost.len(), ids.len());
    }

    /// The active file of the store.
    pub(crate) fn store_files(&self) -> Vec<PathBuf> {
        files_under(&self.dir.join(".quipu"))
    }
}

#[track_caller]
pub(crate) fn uuid(item: &Value) -> String {
    item["uuid"].as_str().expect("a uuid").to_owned()
}

pub(crate) fn files_under(dir: &Path) -> Vec<PathBuf> {
    let mut files = Vec::new();
    for entry in std::fs::read_dir(dir).into_iter().flatten().flatten() {
        let kind = entry.file_type().unwrap();
        if kind.is_dir() {
            files.extend(files_under(&entry.path()));
        } else if kind.is_file() {
            files.push(entry.path());
        }
    }
    files
}

/// Copies a directory, without sockets.
pub(crate) fn copy_dir(from: &Path, to: &Path) {
    for file in files_under(from) {
        let target = to.join(file.strip_prefix(from).unwrap());
        std::fs::create_dir_all(target.parent().unwrap()).unwrap();
        std::fs::copy(&file, &target).unwrap();
    }
}

/// Waits until something holds.
#[track_caller]
pub(crate) fn until(what: &str, mut holds: impl FnMut() -> bool) {
    let start = Instant::now();
    while !holds() {
        assert!(start.elapsed() < AGREE_MAX, "after {AGREE_MAX:?} still not: {what}");
        std::thread::sleep(Duration::from_millis(30));
    }
}

/// Waits until all machines have one digest, and compares what else must be equal then.
#[track_caller]
pub(crate) fn agree(machines: &[&Machine]) -> Value {
    let start = Instant::now();
    loop {
        let all: Vec<Value> = machines.iter().map(|machine| machine.status()).collect();
        if all.windows(2).all(|pair| pair[0]["digest"] == pair[1]["digest"]) {
            for field in ["domain", "events", "authors", "leaves", "equivocations"] {
                for status in &all {
                    assert_eq!(status[field], all[0][field], "{field}");
                }
            }
            return all[0].clone();
        }
        if start.elapsed() > AGREE_MAX {
            let logs: Vec<String> = machines.iter().map(|m| m.daemon_log()).collect();
            panic!("no agreement after {AGREE_MAX:?}: {all:#?}\n{}", logs.join("\n---\n"));
        }
        std::thread::sleep(Duration::from_millis(50));
    }
}

/// Says that a test did not run, and why.
#[expect(clippy::print_stderr, reason = "the harness shows it")]
pub(crate) fn skip(why: &str) {
    eprintln!("SKIPPED: {why}");
}
