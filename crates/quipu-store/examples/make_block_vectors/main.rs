//! Writes `test-vectors/store-v2.json`: `cargo run -p quipu-store --example make_block_vectors -- DIR`.
//!
//! Everything is fixed: keys, clocks, salts. A file that exists already is left alone, so that the
//! vectors of a format version are never made anew. Each refusal that is written down here is checked
//! before it is written.
#![expect(clippy::print_stdout, reason = "it tells what it wrote")]

use std::path::Path;

use quipu_core::event::Log;
use quipu_core::id::{DomainId, Subject};
use quipu_store::Store;
use serde_json::{Value as Json, json};

#[path = "../../../quipu-core/tests/vectors/json.rs"]
#[expect(dead_code, reason = "shared with other vectors")]
mod json;
#[path = "../../tests/vectors/plain.rs"]
#[expect(dead_code, reason = "the tests use the other half")]
mod plain;
#[path = "../../tests/vectors/reads.rs"]
mod reads;
#[path = "../../tests/vectors/stores.rs"]
mod stores;
#[path = "../../../quipu-core/examples/make_vectors/world.rs"]
#[expect(dead_code, reason = "shared with other vectors")]
mod world;

mod history;
mod made;
mod older;
mod refused;

use made::{Made, PAGE_EVENTS};
use plain::Block;
use stores::{Files, disk_of, events, options};

const NAME: &str = "store-v2.json";

fn main() -> std::io::Result<()> {
    let directory = std::env::args().nth(1).unwrap_or_else(|| "test-vectors".to_owned());
    let path = Path::new(&directory).join(NAME);
    if path.exists() {
        println!("{NAME}: is there already");
        return Ok(());
    }
    std::fs::create_dir_all(&directory)?;
    std::fs::write(&path, format!("{}\n", serde_json::to_string_pretty(&vectors())?))?;
    println!("{NAME}: written");
    Ok(())
}

fn vectors() -> Json {
    let (stores, domain) = (in_order(made::stores()), world::domain());
    let mut known: Vec<Known> = Vec::new();
    let json: Vec<Json> =
        stores.iter().map(|store| store_json(store, &domain, &mut known)).collect();
    let (refused, torn) = refused::refused(&stores, domain);
    json!({
        "format": "store v2: files", "domain": domain.to_string(), "page_events": PAGE_EVENTS,
        "stores": json, "torn": torn, "refused": refused,
    })
}

/// A store comes after the one whose files it shares.
fn in_order(mut stores: Vec<Made>) -> Vec<Made> {
    let order = ["active", "sealed", "erased", "version-1", "proven", "published", "salts"];
    stores.sort_by_key(|store| order.iter().position(|name| *name == store.0));
    stores
}

/// A file that was written down before: its store, its path, its bytes, what it says.
type Known = (&'static str, String, Vec<u8>, Json);

fn store_json((name, meaning, files): &Made, domain: &DomainId, known: &mut Vec<Known>) -> Json {
    let says = reads::files_json(files, domain).unwrap();
    let mut list = Vec::new();
    for (path, bytes) in files {
        let reads = says.iter().find(|(other, _)| other == path).map(|(_, json)| json.clone());
        let reads = reads.unwrap_or_default();
        let before = known.iter().find(|k| k.1 == *path && k.2 == *bytes);
        let mut file = json!({ "path": path });
        match before {
            Some((store, ..)) => file["bytes_of"] = (*store).into(),
            None => file["bytes"] = json::hex(bytes).into(),
        }
        if before.is_none_or(|known| known.3 != reads) {
            file["reads"] = reads.clone();
        }
        if before.is_none() && path.ends_with(".block") {
            let block = block_of(files, path);
            file["sections"] = reads::sections_json(&block);
            file["subjects"] = subjects(&block);
        }
        if before.is_none() {
            known.push((name, path.clone(), bytes.clone(), reads));
        }
        list.push(file);
    }
    json!({ "name": name, "meaning": meaning, "files": list, "logs": logs(files, *domain) })
}

fn block_of(files: &Files, path: &str) -> Block {
    let bytes = |path: &str| &files.iter().find(|file| file.0 == path).unwrap().1;
    Block::read(bytes(path), bytes(&path.replace(".block", ".payload"))).unwrap()
}

/// Fold keys that are written, some that are not, and one that the filter takes for written.
fn subjects(block: &Block) -> Json {
    let mut asked: Vec<Subject> =
        block.events.iter().filter_map(|event| event.header.payload.subject).collect();
    asked.sort_unstable();
    asked.dedup();
    let other = |n: u32| Subject(*blake3::hash(&n.to_le_bytes()).as_bytes());
    asked.extend((0..3).map(other));
    if !asked.iter().all(|subject| block.may_hold(subject)) {
        asked.extend((3..10_000).map(other).find(|subject| block.may_hold(subject)));
    }
    asked.iter().map(|subject| reads::subject_json(block, subject)).collect()
}

/// What the store answers.
fn logs(files: &Files, domain: DomainId) -> Json {
    let (store, recovery) = Store::open(disk_of(files), domain, options(PAGE_EVENTS)).unwrap();
    assert!(recovery.is_clean());
    assert_eq!(store.verify(&mut |_, _| ()).problems, []);
    let log_json = |log| {
        let outline = quipu_core::history::History::outline(&store, log).unwrap();
        reads::log_json(log, &events(&store, log).unwrap(), &outline)
    };
    Log::ALL.map(log_json).into()
}
