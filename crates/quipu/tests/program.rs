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

#[test]
fn flow_charts_as_json() {
    let temp = temp();
    for format in ["mermaid", "dot"] {
        let run = |json: &[&str]| {
            let mut command = program(temp.path());
            command.args(["flowchart", "--format", format]).args(json);
            let ran = finish(command, b"");
            assert_eq!((ran.code, ran.stderr.as_str()), (0, ""));
            ran.stdout
        };
        let (text, object) = (run(&[]), run(&["--json"]));
        assert_eq!(object.lines().count(), 1);
        let object: serde_json::Value = serde_json::from_str(&object).unwrap();
        assert_eq!(object["format"], format);
        let charts = object["charts"].as_array().unwrap();
        assert_eq!(charts.len(), 2);
        for chart in charts {
            assert!(
                text.contains(chart["text"].as_str().unwrap().trim()) && chart["name"].is_string()
            );
        }
    }
}

#[test]
fn the_doctor_looks_at_the_disk() {
    let temp = temp();
    let mut a = Machine::found("a", temp.path());
    a.write("something", 10);
    a.serve();
    let young = a.dir.join(".quipu/internal/000099.block.tmp");
    let old = a.dir.join(".quipu/book.json.tmp");
    for path in [&young, &old] {
        std::fs::write(path, "half").unwrap();
    }
    let hour_ago = std::time::SystemTime::now() - std::time::Duration::from_secs(3600);
    std::fs::File::options().write(true).open(&old).unwrap().set_modified(hour_ago).unwrap();
    let report = a.one(["doctor"]);
    let of = |what: &str| -> Vec<String> {
        let findings = report["findings"].as_array().unwrap().iter();
        let of = findings.filter(|finding| finding["what"] == what);
        of.map(|finding| finding["object"].as_str().unwrap().to_owned()).collect()
    };
    assert_eq!(
        of("leftover"),
        [old.display().to_string()],
        "a write may be under way in the other"
    );
    let number = |field: &str| report["disk"][field].as_u64().unwrap();
    let (store, free, total) = (number("store_bytes"), number("free_bytes"), number("total_bytes"));
    assert!(store > 500 && store < 1 << 20 && store < total && free <= total, "{report}");
    let low = free < 1 << 30 || free < total / 100 * 5;
    assert_eq!(of("disk").len(), usize::from(low), "{report}");
    std::fs::remove_file(&old).unwrap();
    assert!(!a.one(["doctor"]).to_string().contains("leftover"));
}

/// What a command shows on a terminal; nothing if there is no `script` to make one.
fn on_a_terminal(machine: &Machine, arguments: &[&str]) -> Option<String> {
    let line = format!(
        "{} --dir {} {}",
        env!("CARGO_BIN_EXE_quipu"),
        machine.dir.display(),
        arguments.join(" ")
    );
    let mut command = Command::new("script");
    command.args(["-qec", &line, "/dev/null"]).env("TERM", "xterm").env("HOME", &machine.root);
    let output = command.env_remove("QUIPU_DIR").output().ok()?;
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(output.status.success(), "{arguments:?}: {text}");
    Some(text)
}

#[test]
fn progress_on_a_terminal_and_none_in_a_pipe() {
    let temp = temp();
    let mut a = Machine::found("a", temp.path());
    a.write("many", 3000);
    let ticket = a.serve();
    let at = |name: &str| temp.path().join(name).display().to_string();
    let (file, other, third) = (at("all.ndjson"), at("other.ndjson"), at("third"));
    let export = ["export", "--format", "ndjson", &other];
    let load = ["load", &file];
    let (b, c) = (Machine::new("b", temp.path()), Machine::new("c", temp.path()));
    a.run(["export", "--format", "ndjson", &file]);
    let cases: [(&Machine, &[&str], &str); 4] = [
        (&a, &export, "events"),
        (&a, &["verify"], "verifying"),
        (&b, &["join", &ticket], "events"),
        (&a, &load, "events"),
    ];
    for (machine, arguments, word) in cases {
        let Some(text) = on_a_terminal(machine, arguments) else { continue };
        // It is drawn in place: the line is cleared at the end.
        assert!(text.contains("\u{1b}[2K") && text.contains(word), "{arguments:?}: {text:?}");
        if let Some(quiet) = on_a_terminal(&c, &["-q", "join", &ticket, &third]) {
            assert!(!quiet.contains('\u{1b}'), "{quiet:?}");
            std::fs::remove_dir_all(&third).unwrap();
        }
    }
    let pipes: [(&Machine, &[&str]); 4] =
        [(&a, &export), (&a, &["verify"]), (&c, &["join", &ticket]), (&a, &load)];
    for (machine, arguments) in pipes {
        let mut command = machine.command();
        command.args(arguments);
        let ran = finish(command, b"");
        assert_eq!((ran.code, ran.stderr.as_str()), (0, ""), "{arguments:?}");
        assert!(!ran.stdout.contains('\u{1b}'), "{arguments:?}");
    }
}
