//! Writes `test-vectors/`: `cargo run -p quipu-core --example make_vectors -- DIR`.
//!
//! Everything is fixed: keys, clocks, salts. A file that exists already is left alone, so that the
//! vectors of a format version are never made anew; to add some, add a file. Each refusal that is
//! written down here is checked before it is written.
#![expect(clippy::print_stdout, reason = "it tells what it wrote")]

use std::path::Path;

#[path = "../../tests/vectors/json.rs"]
#[expect(dead_code, reason = "the tests use the other half")]
mod json;

mod artifacts;
mod bodies;
mod events;
mod messages;
mod packs;
mod raw;
mod statements;
mod states;
mod values;
mod world;

type Made = (&'static str, serde_json::Value);

fn main() -> std::io::Result<()> {
    let directory = std::env::args().nth(1).unwrap_or_else(|| "test-vectors".to_owned());
    let directory = Path::new(&directory);
    std::fs::create_dir_all(directory)?;
    let files: [Made; 14] = [
        ("event-v1.json", events::events()),
        ("event-v1-refused.json", bodies::refused()),
        ("payload-v1.json", values::payloads()),
        ("value.json", values::values()),
        ("ids.json", events::ids()),
        ("signatures.json", events::signatures()),
        ("subjects.json", values::subjects()),
        ("subjects-records.json", values::record_subjects()),
        ("digest.json", events::digests()),
        ("pack-v1.json", packs::packs()),
        ("sync-messages-v1.json", messages::messages()),
        ("sync-artifacts-v1.json", artifacts::messages()),
        ("statements.json", statements::statements()),
        ("state.json", states::states()),
    ];
    for (name, json) in files {
        let path = directory.join(name);
        if path.exists() {
            println!("{name}: is there already");
            continue;
        }
        std::fs::write(&path, format!("{}\n", serde_json::to_string_pretty(&json)?))?;
        println!("{name}: written");
    }
    Ok(())
}
