//! One module from sources in several languages, with their own compilers: it runs unchanged, and gives the same
//! (PEL-1). Where a compiler is missing this test says so; `examples/programs/languages/build` has what it takes.

mod common;

use std::io::Write;
use std::path::PathBuf;
use std::process::Command;

use common::{How, Memory, execute, runner};
use quipu_exec::program::{Syntax, build};

const LANGUAGES: [&str; 2] = ["rust", "assemblyscript"];

#[test]
fn modules_of_other_compilers_run_unchanged() {
    let sources =
        PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../examples/programs/languages");
    let dir = tempfile::tempdir().expect("a directory");
    let output =
        Command::new(sources.join("build")).arg(dir.path()).output().expect("the script starts");
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{said}");
    let source = std::fs::read_to_string(sources.join("upper.toml")).expect("a source");
    let text = "caf\u{e9}, Stra\u{df}e and \u{3b1}\n".repeat(20_000);
    let runner = runner();
    for language in LANGUAGES {
        let Ok(module) = std::fs::read(dir.path().join(format!("upper-{language}.wasm"))) else {
            let _ = writeln!(std::io::stderr(), "SKIPPED: {language}: {said}");
            continue;
        };
        let store = Memory::new();
        let built = build(&source, Syntax::Toml, &mut |_| Ok(store.add(&module)));
        assert_eq!(built.messages, [], "{language}");
        let program = built.program.expect("no errors");
        let program = (store.add(&program.encode()), program);
        let inputs = [("text", store.add(text.as_bytes()))];
        let done = execute(&runner, &store, &program, &inputs, How::default()).expect("it runs");
        let upper = store.bytes(done.receipt.outputs["upper"].key).to_vec();
        assert_eq!(String::from_utf8_lossy(&upper), text.to_uppercase(), "{language}");
        let again = execute(&runner, &store, &program, &inputs, How::default()).expect("it runs");
        assert_eq!(done.receipt, again.receipt, "{language}");
    }
}
