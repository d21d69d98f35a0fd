//! Programs of WebAssembly modules, from source to receipt.

mod common;

use common::{How, Memory, copy, execute, one_step, program, runner};
use quipu_exec::receipt::Receipt;

#[test]
fn a_module_runs_and_gives_a_receipt() {
    let (store, runner) = (Memory::new(), runner());
    let source = r#"
quipu-program = 1
name = "two copies"
[inputs]
text = "text/plain"
[[steps]]
id = "first"
module = "file:copy"
inputs = { in = "input:text" }
outputs = { out = "text/plain" }
[[steps]]
id = "second"
module = "file:copy"
inputs = { in = { from = "first/out", type = "text/plain" } }
outputs = { out = "text/plain" }
[outputs]
copy = "second/out"
"#;
    let program = program(&store, source, &[("copy", &copy())]);
    let text = store.add(b"hello");
    let done = execute(&runner, &store, &program, &[("text", text)], How::default());
    let done = done.expect("it runs");
    assert_eq!((done.steps_run, done.steps_reused), (2, 0));
    assert_eq!(done.receipt.outputs["copy"].key, text);
    assert_eq!(done.receipt.outputs["copy"].size, 5);
    let bytes = done.receipt.encode();
    assert_eq!(Receipt::decode(&bytes), Ok(done.receipt.clone()));
    assert_eq!(done.receipt.check_against(&program.1), Ok(()));
    // Equal work has equal keys: both steps copy the same bytes.
    assert_eq!(done.receipt.steps["first"].key, done.receipt.steps["second"].key);
}

#[test]
fn an_output_that_is_not_written_is_an_error() {
    let (store, runner) = (Memory::new(), runner());
    let program = one_step(&store, &common::module("(func (export \"_start\"))"), "");
    let error = execute(&runner, &store, &program, &[], How::default()).expect_err("no output");
    let text = error.to_string();
    assert!(text.contains("step \"s\"") && text.contains("\"out\""), "{text}");
}
