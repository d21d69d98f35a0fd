//! EVT-5: what quipu prints, checked by other people's libraries (`tests/ipld`).

mod common;

use std::path::PathBuf;
use std::process::Command;

use common::{Machine, agree, finish, skip, temp, uuid};

fn checks() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../tests/ipld")
}

/// Installs the libraries if need be. None if there is no node here.
fn node() -> Option<()> {
    let there = |program: &str| {
        Command::new(program).arg("--version").output().is_ok_and(|output| output.status.success())
    };
    if !there("node") || !there("npm") {
        skip("no node and npm here");
        return None;
    }
    if !checks().join("node_modules/@ipld/car").exists() {
        let installed = Command::new("npm").arg("ci").current_dir(checks()).output().unwrap();
        if !installed.status.success() {
            skip(&format!("npm ci: {}", String::from_utf8_lossy(&installed.stderr)));
            return None;
        }
    }
    Some(())
}

fn check(program: &str, arguments: &[&str], input: &[u8]) -> serde_json::Value {
    let mut command = Command::new("node");
    command.arg(checks().join(program)).args(arguments);
    let ran = finish(command, input);
    assert_eq!(ran.code, 0, "{program} {arguments:?}: {} {}", ran.stdout, ran.stderr);
    ran.items().pop().unwrap()
}

#[test]
fn other_libraries_agree() {
    if node().is_none() {
        return;
    }
    let temp = temp();
    let mut a = Machine::found("a", temp.path());
    let ticket = a.serve();
    let mut b = Machine::joined("b", temp.path(), &ticket);
    let c = Machine::joined("c", temp.path(), &ticket);
    b.serve();
    let mut samples = a.write("together", 80);
    samples.truncate(2);
    for payload in [
        r#"{"text":"ünïcödé \u0000 \ud83d\ude00","list":[1,-1,1.5,true,null,[],{}]}"#,
        r#"{"bytes":{"/":{"bytes":"AAECAwQ"}},"big":9007199254740993}"#,
        "null",
    ] {
        samples.push(uuid(&c.one(["emit", "app.odd", payload])));
    }
    c.write("apart", 70);
    samples.extend(b.write("together", 40).into_iter().take(2));
    c.one(["sync"]);
    agree(&[&a, &b, &c]);
    let merge = a.emit("a merge");
    let victim = c.emit("to be erased");
    c.one(["erase", &victim, "--reason", "test"]);
    c.one(["sync"]);
    let status = agree(&[&a, &b, &c]);
    samples.extend([merge, victim.clone()]);
    samples.push(a.log_ids()[0].clone());
    for id in &samples {
        for machine in [&a, &c] {
            let shown = machine.try_run(["show", id]);
            let author = machine.one(["show", id])["author"].as_str().unwrap().to_owned();
            let arguments = ["--id", id, "--author", &author];
            let verdict = check("verify-show.mjs", &arguments, shown.stdout.as_bytes());
            assert_eq!(verdict["payload"], if *id == victim { "erased" } else { "present" });
        }
    }
    let file = temp.path().join("log.car");
    b.one(["export", "--format", "car", file.to_str().unwrap()]);
    let verdict = check("verify-car.mjs", &[file.to_str().unwrap()], b"");
    assert_eq!(verdict["ok"], true);
    assert_eq!(verdict["events"], status["events"]);
    assert_eq!(verdict["feeds"], 3);
    assert_eq!(verdict["erased"], 1);
    assert_eq!(verdict["leaves"], status["leaves"].as_array().unwrap().len());
    assert_eq!(verdict["unsigned"], 0, "{verdict}");
    // A changed byte is found.
    let mut bytes = std::fs::read(&file).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    std::fs::write(&file, bytes).unwrap();
    let mut command = Command::new("node");
    command.arg(checks().join("verify-car.mjs")).arg(&file);
    assert_eq!(finish(command, b"").code, 1);
}
