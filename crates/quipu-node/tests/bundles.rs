//! Reads the bundles in `test-vectors/bundle.json`: by a plain reader that was written from
//! `docs/formats/bundle.md`, and by the program's own. Never writes them.

#[path = "../../quipu-core/tests/vectors/json.rs"]
#[expect(dead_code, reason = "shared with other vectors")]
mod json;
#[path = "bundles/read.rs"]
mod read;

use std::path::PathBuf;

use quipu_core::codec::pack::{self, Context, Nothing};
use quipu_core::id::{ArtifactId, DomainId};
use quipu_node::bundle::BundleWriter;
use serde_json::{Value as Json, json};

use json::{hex, list, text, unhex};
use read::{Plain, read, read_plainly};

fn vectors() -> Json {
    let root = PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/../.."));
    let path = root.join("test-vectors/bundle.json");
    let text = std::fs::read_to_string(&path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
    serde_json::from_str(&text).unwrap()
}

/// Ids of all events of the batches, which are one stream.
fn ids_of(plain: &Plain) -> Vec<String> {
    let (mut context, domain) = (Context::reader(), DomainId(plain.domain));
    let decode = |batch: &Vec<u8>| pack::decode(batch, &mut context, &Nothing, &domain).unwrap();
    plain.batches.iter().flat_map(decode).map(|event| event.id.to_string()).collect()
}

/// The plain reader finds what is said.
fn check_plainly(name: &str, plain: &Plain, reads: &Json) {
    assert_eq!(reads["version"], plain.version, "{name}");
    assert_eq!(reads["domain"], DomainId(plain.domain).to_string(), "{name}");
    assert_eq!(reads["log"], plain.log.name(), "{name}");
    let said: Vec<&str> =
        list(&reads["batches"]).iter().flat_map(|batch| list(batch).iter().map(text)).collect();
    assert_eq!(ids_of(plain), said, "{name}");
    let artifact = |(key, bytes): &([u8; 32], Vec<u8>)| {
        json!({
            "key": ArtifactId(*key).to_string(), "size": bytes.len(), "bytes": hex(bytes),
            "is_what_it_says": true,
        })
    };
    let artifacts: Json = plain.artifacts.iter().map(artifact).collect();
    assert_eq!(artifacts, reads["artifacts"], "{name}");
}

/// The same bundle, written by the program.
fn written(plain: &Plain) -> Vec<u8> {
    let domain = DomainId(plain.domain);
    let mut writer = BundleWriter::begin(Vec::new(), &domain, plain.log).unwrap();
    plain.batches.iter().for_each(|batch| writer.put(batch).unwrap());
    writer.end_events().unwrap();
    for (key, bytes) in &plain.artifacts {
        writer.artifact(&ArtifactId(*key), bytes.len() as u64, &mut &bytes[..]).unwrap();
    }
    writer.end().unwrap().0
}

#[test]
fn what_bundles_say() {
    let vectors = vectors();
    for key in ["good", "decode_only"] {
        assert!(!list(&vectors[key]).is_empty());
        for vector in list(&vectors[key]) {
            let (name, file) = (text(&vector["name"]), unhex(&vector["bytes"]));
            assert_eq!(read(&file), (vector["reads"].clone(), None), "{name}");
            let are_whole = |one: &Json| one["is_what_it_says"] == true;
            if !list(&vector["reads"]["artifacts"]).iter().all(are_whole) {
                assert!(read_plainly(&file).is_none(), "{name}");
                continue;
            }
            let plain = read_plainly(&file).unwrap();
            check_plainly(name, &plain, &vector["reads"]);
            if key == "good" {
                assert_eq!(hex(&written(&plain)), hex(&file), "{name}");
            }
        }
    }
}

#[test]
fn refused_bundles() {
    let vectors = vectors();
    assert!(list(&vectors["refused"]).len() > 20);
    for vector in list(&vectors["refused"]) {
        let (name, file) = (text(&vector["name"]), unhex(&vector["bytes"]));
        let (reads, error) = read(&file);
        assert_eq!(error.as_deref(), vector["error"].as_str(), "{name}");
        assert_eq!(reads, vector["reads"], "{name}: what was whole before");
    }
}

/// Every shorter file is refused, and no byte of a record can change unseen.
#[test]
fn every_cut_and_every_flip_is_noticed() {
    for vector in list(&vectors()["good"]) {
        let (name, file) = (text(&vector["name"]), unhex(&vector["bytes"]));
        for cut in 0..file.len() {
            assert!(read(&file[..cut]).1.is_some(), "{name}: cut at {cut}");
            assert!(read_plainly(&file[..cut]).is_none(), "{name}: cut at {cut}");
        }
        for at in 41..file.len() {
            let mut file = file.clone();
            file[at] ^= 1;
            assert!(read(&file).1.is_some(), "{name}: byte {at}");
            assert!(read_plainly(&file).is_none(), "{name}: byte {at}");
        }
    }
}
