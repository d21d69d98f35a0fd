//! The real meshlogd, for tests that compare with it.

// Each test file is a program of its own and uses a part of this.
#![allow(dead_code, unreachable_pub, reason = "every test program uses another part")]

use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

/// The root of the repository.
pub fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

/// Where `tests/meshlogd/setup` has put Python with meshlogd. Nothing, said loudly, if it has not.
#[expect(clippy::print_stderr, reason = "nobody should take a skipped test for a passed one")]
pub fn installed() -> Option<PathBuf> {
    let target = std::env::var_os("CARGO_TARGET_DIR").map(PathBuf::from);
    let place = root().join(target.unwrap_or_else(|| "target".into())).join("meshlogd");
    if place.join("complete-1").exists() {
        return Some(place);
    }
    eprintln!("SKIPPED: {} is missing; run tests/meshlogd/setup", place.display());
    None
}

/// A script of `tests/meshlogd` under the real Python, with a version of meshlogd.
pub fn script(place: &Path, version: &str, name: &str, arguments: &[&str]) -> Command {
    let mut command = Command::new(place.join("bin/python"));
    command.arg(root().join("tests/meshlogd").join(name)).args(arguments);
    command.env("PYTHONPATH", place.join(version)).env("PYTHONDONTWRITEBYTECODE", "1");
    command.env("PYTHONUTF8", "1");
    command
}

/// Runs it on this input and gives the lines that it prints.
pub fn lines(mut command: Command, input: Vec<u8>) -> Vec<String> {
    command.stdin(Stdio::piped()).stdout(Stdio::piped());
    let mut child = command.spawn().unwrap();
    let mut stdin = child.stdin.take().unwrap();
    let output = std::thread::scope(|scope| {
        let writer = scope.spawn(move || stdin.write_all(&input));
        let output = child.wait_with_output().unwrap();
        // A script that failed reads no more; its status says so.
        drop(writer.join().unwrap());
        output
    });
    assert!(output.status.success(), "{command:?}: {}", output.status);
    String::from_utf8(output.stdout).unwrap().lines().map(str::to_owned).collect()
}

/// A process that ends with the test.
pub struct Running(pub Child);

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}
