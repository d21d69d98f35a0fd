//! `quipu demo`: the main job, for real: three machines as processes of this very program, with
//! sockets on loopback, in a temporary directory.

use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use quipu_node::api::{ApiError, ExitCode};
use serde_json::{Value, json};

use crate::output;

/// How long the machines may take to agree.
const AGREE_MAX: Duration = Duration::from_secs(60);
/// Events that each machine writes in each act.
const EVENTS: usize = 200;

fn failed(what: impl Into<String>) -> ApiError {
    ApiError::new(ExitCode::Problem, what)
}

/// One machine of the story.
struct Actor {
    name: &'static str,
    dir: PathBuf,
    daemon: Option<Child>,
    ticket: String,
}

impl Drop for Actor {
    fn drop(&mut self) {
        if let Some(daemon) = &mut self.daemon {
            drop(daemon.kill());
            drop(daemon.wait());
        }
    }
}

fn program() -> Result<Command, ApiError> {
    let mut command = Command::new(std::env::current_exe()?);
    command.env_remove("QUIPU_DIR").stdin(Stdio::null());
    Ok(command)
}

impl Actor {
    fn new(name: &'static str, root: &Path) -> Self {
        Self { name, dir: root.join(name), daemon: None, ticket: String::new() }
    }

    /// Runs a command of this machine and gives what it printed.
    fn run(&self, arguments: &[&str]) -> Result<Vec<Value>, ApiError> {
        let output =
            program()?.arg("--dir").arg(&self.dir).arg("--json").args(arguments).output()?;
        if !output.status.success() {
            let text = String::from_utf8_lossy(&output.stderr).trim().to_owned();
            return Err(failed(format!("{}: quipu {}: {text}", self.name, arguments.join(" "))));
        }
        let parse = |line: &str| serde_json::from_str(line).map_err(|e| failed(e.to_string()));
        String::from_utf8_lossy(&output.stdout).lines().map(parse).collect()
    }

    fn one(&self, arguments: &[&str]) -> Result<Value, ApiError> {
        let first = self.run(arguments)?.into_iter().next();
        first.ok_or_else(|| failed(format!("quipu {} printed nothing", arguments.join(" "))))
    }

    fn serve(&mut self) -> Result<(), ApiError> {
        let mut daemon = program()?
            .arg("--dir")
            .arg(&self.dir)
            .args(["--quiet", "serve"])
            .stdout(Stdio::piped())
            .spawn()?;
        let stdout = daemon.stdout.take().ok_or_else(|| failed("no pipe"))?;
        self.daemon = Some(daemon);
        let mut line = String::new();
        BufReader::new(stdout).read_line(&mut line)?;
        let ready: Value = serde_json::from_str(&line)
            .map_err(|_| failed(format!("{}: the daemon did not start", self.name)))?;
        self.ticket = ready["ticket"].as_str().unwrap_or_default().to_owned();
        Ok(())
    }

    /// Stops the daemon: in good order, or by pulling the plug.
    fn stop(&mut self, gently: bool) -> Result<(), ApiError> {
        let Some(mut daemon) = self.daemon.take() else { return Ok(()) };
        if gently {
            let pid = daemon.id().to_string();
            Command::new("kill").arg(pid).status()?;
        } else {
            daemon.kill()?;
        }
        daemon.wait()?;
        Ok(())
    }

    /// Writes events in one batch. Answers how many were acknowledged.
    fn write(&self, root: &Path, act: &str) -> Result<usize, ApiError> {
        let path = root.join(format!("{}-{act}.ndjson", self.name));
        let mut text = String::new();
        for n in 0..EVENTS {
            let payload = json!({ "by": self.name, "act": act, "n": n });
            text += &json!({ "kind": "demo.note", "payload": payload }).to_string();
            text.push('\n');
        }
        std::fs::write(&path, text)?;
        Ok(self.run(&["emit", "--batch", &path.to_string_lossy()])?.len())
    }

    fn status(&self) -> Result<Value, ApiError> {
        self.one(&["status"])
    }
}

pub(crate) fn run(keep: bool, quiet: bool) -> Result<ExitCode, ApiError> {
    let dir = tempfile::Builder::new().prefix("quipu-demo-").tempdir()?;
    let root = dir.path().to_owned();
    let result = story(&root, quiet);
    if keep {
        let kept = dir.keep();
        output::note(quiet, &format!("kept in {}", kept.display()));
    }
    result.map(|()| ExitCode::Done)
}

fn say(text: &str) -> Result<(), ApiError> {
    Ok(output::line(text)?)
}

fn story(root: &Path, quiet: bool) -> Result<(), ApiError> {
    let mut ana = Actor::new("ana", root);
    let mut ben = Actor::new("ben", root);
    let mut cho = Actor::new("cho", root);

    say("1. Ana starts a domain and brings in the history of a git repository.")?;
    ana.run(&["init", "--domain", "demo"])?;
    let repository = repository(root)?;
    let loaded = ana.one(&["load", "--format", "git", &repository.to_string_lossy()])?;
    say(&format!("   {} commits of {} are events now.", loaded["events"], repository.display()))?;

    say("2. Ana serves. Ben and Cho join with her ticket, each a process with its own store.")?;
    ana.serve()?;
    for joiner in [&mut ben, &mut cho] {
        let joined = joiner.one(&["join", &ana.ticket])?;
        joiner.serve()?;
        say(&format!("   {} holds {} events.", joiner.name, joined["events"]))?;
    }

    say("3. All three write at once, while they are connected.")?;
    let written = write_together([&ana, &ben, &cho], root, "together")?;
    let digest = agree(&[&ana, &ben, &cho])?;
    say(&format!("   {written} events acknowledged; all three have digest {}..", &digest[..16]))?;

    say("4. The daemons stop (Cho's plug is pulled). Everybody goes on writing, alone.")?;
    ana.stop(true)?;
    ben.stop(true)?;
    cho.stop(false)?;
    let written = write_together([&ana, &ben, &cho], root, "apart")?;
    let mut digests: Vec<Value> = Vec::new();
    for actor in [&ana, &ben, &cho] {
        digests.push(actor.status()?["digest"].clone());
    }
    let differ = digests[0] != digests[1] && digests[1] != digests[2];
    say(&format!("   {written} events acknowledged; the digests differ now: {differ}."))?;

    say("5. They meet again.")?;
    for actor in [&mut ana, &mut ben, &mut cho] {
        actor.serve()?;
    }
    let digest = agree(&[&ana, &ben, &cho])?;
    let leaves = ana.status()?["leaves"].as_array().map_or(0, Vec::len);
    say(&format!("   Equal again, with {leaves} leaves: digest {}..", &digest[..16]))?;

    say("6. The next event ties the ends together.")?;
    ben.run(&["emit", "demo.note", r#"{"by":"ben","act":"merge"}"#])?;
    let digest = agree(&[&ana, &ben, &cho])?;
    finale(&[&ana, &ben, &cho], &digest, quiet)
}

fn finale(actors: &[&Actor], digest: &str, quiet: bool) -> Result<(), ApiError> {
    for actor in actors {
        let status = actor.status()?;
        let report = actor.one(&["verify"])?;
        let problems = report["problems"].as_array().map_or(usize::MAX, Vec::len);
        let leaves = status["leaves"].as_array().map_or(0, Vec::len);
        if problems != 0 || leaves != 1 {
            return Err(failed(format!("{}: {problems} problems, {leaves} leaves", actor.name)));
        }
        let name = actor.name;
        say(&format!(
            "   {name}: {} events, 1 leaf, every hash and signature checked.",
            status["events"]
        ))?;
    }
    output::note(quiet, "One digest on all three machines:");
    say(digest)
}

/// All machines write at the same time.
fn write_together(actors: [&Actor; 3], root: &Path, act: &str) -> Result<usize, ApiError> {
    let results = std::thread::scope(|scope| {
        let threads = actors.map(|actor| scope.spawn(move || actor.write(root, act)));
        threads.map(|thread| thread.join().unwrap_or_else(|_| Err(failed("a writer panicked"))))
    });
    results.into_iter().try_fold(0, |sum, written| Ok(sum + written?))
}

/// Waits until all machines have the same digest.
fn agree(actors: &[&Actor]) -> Result<String, ApiError> {
    let start = Instant::now();
    loop {
        let mut digests = Vec::new();
        for actor in actors {
            digests.push(crate::output::plain(&actor.status()?["digest"]));
        }
        if digests.windows(2).all(|pair| pair[0] == pair[1]) {
            return Ok(digests.swap_remove(0));
        }
        if start.elapsed() > AGREE_MAX {
            return Err(failed(format!("no agreement after {AGREE_MAX:?}: {digests:?}")));
        }
        std::thread::sleep(Duration::from_millis(50));
    }
}

/// The git repository around this directory, or a small one made now.
fn repository(root: &Path) -> Result<PathBuf, ApiError> {
    let here = std::env::current_dir()?;
    let inside = Command::new("git")
        .args(["rev-parse", "--show-toplevel"])
        .current_dir(&here)
        .stderr(Stdio::null())
        .output();
    if let Ok(output) = inside
        && output.status.success()
    {
        return Ok(PathBuf::from(String::from_utf8_lossy(&output.stdout).trim()));
    }
    let path = root.join("repository");
    std::fs::create_dir_all(&path)?;
    let git = |arguments: &[&str]| -> Result<(), ApiError> {
        let identity = ["-c", "user.name=demo", "-c", "user.email=demo@localhost"];
        let status = Command::new("git")
            .arg("-C")
            .arg(&path)
            .args(identity)
            .args(arguments)
            .stdout(Stdio::null())
            .status()?;
        if status.success() { Ok(()) } else { Err(failed(format!("git {}", arguments.join(" ")))) }
    };
    git(&["init", "-q"])?;
    for n in 1..=20 {
        std::fs::write(path.join("file.txt"), format!("line {n}\n"))?;
        git(&["add", "."])?;
        git(&["commit", "-q", "-m", &format!("change number {n}")])?;
    }
    Ok(path)
}
