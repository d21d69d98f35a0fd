//! The example programs, from their C sources to receipts. They need a C compiler for WebAssembly
//! (`examples/programs/build` says which); without one this test says so and passes.

mod common;

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::Command;

use common::{How, Memory, execute, runner};
use quipu_exec::program::{Syntax, build};

/// How the script says that there is no compiler.
const NO_COMPILER: i32 = 3;

fn compiled(to: &Path) -> bool {
    let script = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../examples/programs/build");
    let output = Command::new(&script).arg(to).output().expect("the script starts");
    if output.status.code() == Some(NO_COMPILER) {
        let _ = writeln!(
            std::io::stderr(),
            "SKIPPED: the example programs, because {}",
            String::from_utf8_lossy(&output.stderr)
        );
        return false;
    }
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    true
}

#[test]
fn they_do_what_they_say() {
    let dir = tempfile::tempdir().expect("a directory");
    if !compiled(dir.path()) {
        return;
    }
    let store = Memory::new();
    let runner = runner();
    let run = |name: &str, inputs: &[(&str, &[u8])], output: &str| {
        let source =
            std::fs::read_to_string(dir.path().join(format!("{name}.toml"))).expect("a source");
        let mut put = |path: &str| {
            let bytes = std::fs::read(dir.path().join(path)).map_err(|error| error.to_string())?;
            Ok(store.add(&bytes))
        };
        let built = build(&source, Syntax::Toml, &mut put);
        assert_eq!(built.messages, [], "{name}");
        let program = built.program.expect("no errors");
        let program = (store.add(&program.encode()), program);
        let inputs: Vec<_> = inputs.iter().map(|(name, bytes)| (*name, store.add(bytes))).collect();
        let done = execute(&runner, &store, &program, &inputs, How::default()).expect("it runs");
        store.bytes(done.receipt.outputs[output].key).to_vec()
    };
    let text =
        run("wordcount", &[("text", b"The cat. the dog, THE end: caf\xc3\xa9 cat")], "counts");
    assert_eq!(String::from_utf8_lossy(&text), "word,count\nthe,3\ncat,2\ncafé,1\ndog,1\nend,1\n");
    let customers = b"id,country\n1,NL\n2,\"DE, old\"\n3,NL\n";
    let sales = b"customer,amount\r\n1,0.10\r\n3,0.2\r\n2,-7\r\n9,100\r\n1,5\r\n";
    let sums = run("csvjoin", &[("customers", customers), ("sales", sales)], "sums");
    assert_eq!(
        String::from_utf8_lossy(&sums),
        "country,rows,amount\nDE, old,1,-7.000000\nNL,3,5.300000\n"
    );
    let mut image = b"P5\n# a checkerboard\n128 64\n255\n".to_vec();
    image.extend((0..64 * 128).map(|n| if (n / 128 + n % 128) % 2 == 0 { 255u8 } else { 0 }));
    let small = run("thumbnail", &[("image", &image)], "thumbnail");
    assert_eq!(small[..13], *b"P5\n64 32\n255\n");
    assert!(small[13..].iter().all(|pixel| *pixel == 128) && small.len() == 13 + 64 * 32);
    let records = b"{\"fields\":{\"lat\":52.1,\"lon\":\"4.5\",\"n\":\"a } \\\"b\"},\"record_id\":\"R-1\"}\n{\"record_id\":\"R-2\",\"fields\":{\"lat\":\"north\"}}\n";
    let map = run("geojson", &[("records", records)], "map");
    let map: serde_json::Value = serde_json::from_slice(&map).expect("JSON");
    assert_eq!(map["features"].as_array().map(Vec::len), Some(1));
    assert_eq!(map["features"][0]["geometry"]["coordinates"], serde_json::json!([4.5, 52.1]));
    assert_eq!(map["features"][0]["id"], "R-1");
}
