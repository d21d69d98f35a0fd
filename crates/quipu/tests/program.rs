//! The program as a whole: the demo, pipes, narrow terminals, signals.

mod common;

use std::io::{BufRead, BufReader};
use std::process::{Command, Stdio};

use common::{Machine, finish, program, temp};

#[test]
fn the_demo_ends_with_one_digest() {
    let temp = temp();
    let mut command = program(temp.path());
    command.arg("demo").env("TMPDIR", temp.path());
    let ran = finish(command, b"");
    assert_eq!(ran.code, 0, "{}\n{}", ran.stdout, ran.stderr);
    let last = ran.stdout.lines().last().unwrap();
    assert!(last.len() == 64 && last.bytes().all(|b| b.is_ascii_hexdigit()), "{last}");
    let left: Vec<_> =
        std::fs::read_dir(temp.path()).unwrap().flatten().map(|e| e.path()).collect();
    assert!(left.iter().all(|path| !path.to_string_lossy().contains("quipu-demo")), "{left:?}");
}

#[test]
fn a_closed_pipe_is_no_error() {
    let temp = temp();
    let mut a = Machine::found("a", temp.path());
    a.write("many", 3000);
    for served in [false, true] {
        if served {
            a.serve();
        }
        for arguments in [&["log"][..], &["--json", "log"], &["export", "--format", "ndjson"]] {
            let mut child = a
                .command()
                .args(arguments)
                .stdout(Stdio::piped())
                .stderr(Stdio::piped())
                .spawn()
                .unwrap();
            let mut line = String::new();
            BufReader::with_capacity(16, child.stdout.take().unwrap())
                .read_line(&mut line)
                .unwrap();
            assert!(!line.is_empty());
            let output = child.wait_with_output().unwrap();
            let stderr = String::from_utf8_lossy(&output.stderr);
            assert_eq!(stderr, "", "{arguments:?}");
        }
    }
    a.verify_clean();
}

#[test]
fn narrow_terminals_and_pipes() {
    let temp = temp();
    let mut a = Machine::found("a", temp.path());
    a.serve();
    for arguments in [&["members"][..], &["frontier"], &["status"], &["log"], &["doctor"], &["id"]]
    {
        for columns in ["40", "0", "nonsense", "65535"] {
            let mut command = a.command();
            command.args(arguments).env("COLUMNS", columns);
            let ran = finish(command, b"");
            assert_eq!((ran.code, ran.stderr.as_str()), (0, ""), "{arguments:?}");
            assert!(!ran.stdout.contains('\u{1b}'), "colours in a pipe");
        }
        // A real terminal, if `script` is there.
        let line = format!(
            "COLUMNS=40 {} --dir {} {}",
            env!("CARGO_BIN_EXE_quipu"),
            a.dir.display(),
            arguments.join(" ")
        );
        if let Ok(output) = Command::new("script").args(["-qec", &line, "/dev/null"]).output() {
            assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stdout));
        }
    }
    let keys = finish(
        {
            let mut command = a.command();
            command.arg("members");
            command
        },
        b"",
    );
    let node = a.ready["node"].as_str().unwrap();
    assert!(keys.stdout.contains(node), "a key that is cut in a pipe is of no use");
}

#[test]
fn the_daemon_stops_in_good_order_and_keeps_its_port() {
    let temp = temp();
    let mut a = Machine::found("a", temp.path());
    let ticket = a.serve();
    let addr = a.addr();
    assert!(addr.ip().is_loopback(), "it listens on loopback unless told otherwise");
    let socket = a.ready["socket"].as_str().unwrap().to_owned();
    a.stop();
    assert!(!std::path::Path::new(&socket).exists());
    assert_eq!(a.serve(), ticket, "the same ticket, the same port");
    assert_eq!(a.addr(), addr);
    a.kill();
    assert!(std::path::Path::new(&socket).exists(), "nobody cleared it away");
    a.emit("without a daemon, beside a dead socket");
    a.serve();
    assert_eq!(a.addr(), addr);
    a.stop();
    // Told where to listen, and where to put the socket.
    let elsewhere = temp.path().join("s");
    a.serve_with(&["--listen", "127.0.0.1:0", "--socket", elsewhere.to_str().unwrap()]);
    assert!(elsewhere.exists());
    a.stop();
    assert!(!elsewhere.exists());
}

#[test]
fn directories_are_found_as_documented() {
    let temp = temp();
    let a = Machine::found("a", temp.path());
    let node = a.one(["id"])["node"].clone();
    let below = a.dir.join("some/where/below");
    std::fs::create_dir_all(&below).unwrap();
    let ask = |command: &mut Command| -> serde_json::Value {
        command.args(["--json", "id"]);
        let output = command.stdin(Stdio::null()).output().unwrap();
        serde_json::from_slice(&output.stdout).unwrap_or_default()
    };
    assert_eq!(ask(program(temp.path()).current_dir(&below))["node"], node);
    assert_eq!(ask(program(temp.path()).env("QUIPU_DIR", &a.dir))["node"], node);
    let data = Machine::new("xdg/quipu", temp.path());
    data.one(["init", "--domain", "mine"]);
    let mine = data.one(["id"])["node"].clone();
    assert_eq!(ask(&mut program(temp.path()))["node"], mine);
    assert_eq!(ask(program(temp.path()).current_dir(&below))["node"], node);
}
