//! Programs for tests.

use std::path::PathBuf;

use serde_json::Value;

use super::Machine;
use super::data::text;

/// Copies its standard input to its standard output, with every byte raised by one.
pub(crate) const NEXT: &str = r#"(module
  (import "wasi_snapshot_preview1" "fd_read"
    (func $read (param i32 i32 i32 i32) (result i32)))
  (import "wasi_snapshot_preview1" "fd_write"
    (func $write (param i32 i32 i32 i32) (result i32)))
  (memory (export "memory") 1)
  (func (export "_start") (local $n i32) (local $at i32)
    (block $end (loop $more
      (i32.store (i32.const 0) (i32.const 64))
      (i32.store (i32.const 4) (i32.const 4096))
      (drop (call $read (i32.const 0) (i32.const 0) (i32.const 1) (i32.const 8)))
      (local.set $n (i32.load (i32.const 8)))
      (br_if $end (i32.eqz (local.get $n)))
      (local.set $at (i32.const 0))
      (loop $byte
        (i32.store8 (i32.add (i32.const 64) (local.get $at))
          (i32.add (i32.const 1) (i32.load8_u (i32.add (i32.const 64) (local.get $at)))))
        (local.set $at (i32.add (local.get $at) (i32.const 1)))
        (br_if $byte (i32.lt_u (local.get $at) (local.get $n))))
      (i32.store (i32.const 4) (local.get $n))
      (drop (call $write (i32.const 1) (i32.const 0) (i32.const 1) (i32.const 8)))
      (br $more)))))"#;

/// Writes a source with its modules, and builds it. Gives the program's key.
pub(crate) fn built(machine: &Machine, source: &str, modules: &[(&str, &str)]) -> String {
    text(
        &machine.one(["program", "build", written(machine, source, modules).to_str().unwrap()]),
        "key",
    )
}

pub(crate) fn written(machine: &Machine, source: &str, modules: &[(&str, &str)]) -> PathBuf {
    let dir = machine.root.join(format!("{}-sources", machine.name));
    std::fs::create_dir_all(&dir).unwrap();
    for (name, module) in modules {
        std::fs::write(dir.join(name), wat::parse_str(module).unwrap()).unwrap();
    }
    let file = dir.join("program.toml");
    std::fs::write(&file, source).unwrap();
    file
}

/// Steps that ran, and steps that were known.
pub(crate) fn steps(row: &Value) -> (u64, u64) {
    (row["steps_run"].as_u64().unwrap(), row["steps_reused"].as_u64().unwrap())
}
