//! What events say, and what they add up to.

use quipu_core::artifact::ARTIFACT_BYTES_MAX;
use quipu_core::id::{ArtifactId, EventId, NodeKey, SnapshotId, Subject};
use quipu_core::kind;
use quipu_core::state::{INNER_CONTEXT, LEAF_CONTEXT, leaf_hash, root_of};
use quipu_core::statement::{ENDS_MAX, EdgeKey, EdgeRole, End, Statement, TAG_BYTES_MAX};
use quipu_core::subject::{SUBJECT_CONTEXT, subject_of};
use quipu_core::value::{self, Value, from_json};
use serde_json::Value as Json;

use super::file;
use super::json::{artifact_bytes, hex, list, state_entries, statement_json, text, unhex};

/// The payload value of a vector, which both of its forms must be.
fn value_of(vector: &Json) -> Vec<u8> {
    let cbor = unhex(&vector["value"]);
    let mut again = Vec::new();
    value::encode(&from_json(text(&vector["value_json"])).unwrap(), &mut again);
    assert_eq!(hex(&again), hex(&cbor), "{}", vector["name"]);
    cbor
}

fn subject_text(kind: &str, value: &[u8]) -> Option<String> {
    subject_of(kind, value).map(|subject: Subject| subject.to_string())
}

#[test]
fn statements() {
    let file = file("statements.json");
    assert_eq!(text(&file["context"]).as_bytes(), SUBJECT_CONTEXT);
    let subject_key = *blake3::hash(SUBJECT_CONTEXT).as_bytes();
    for vector in list(&file["good"]) {
        let (name, kind, value) = (&vector["name"], text(&vector["kind"]), value_of(vector));
        let statement = Statement::of(kind, &value).unwrap_or_else(|| panic!("{name}"));
        assert_eq!(statement_json(&statement), vector["statement"], "{name}");
        let (again, said) = statement.to_value();
        let mut bytes = Vec::new();
        value::encode(&said, &mut bytes);
        assert_eq!((again, hex(&bytes)), (kind, hex(&value)), "{name}");
        assert!(kind::is_reserved(kind) && !kind::is_erasable(kind), "{name}");
        let subject = subject_text(kind, &value);
        assert_eq!(subject.as_deref(), vector["subject"].as_str(), "{name}");
        let key = vector["fold_key"].as_str().map(|_| unhex(&vector["fold_key"]));
        if let Some(key) = &key {
            assert_eq!(value::validate(key), Ok(()), "{name}");
        }
        let hashed = key.map(|key| blake3::keyed_hash(&subject_key, &key).to_hex().to_string());
        assert_eq!(hashed, subject, "{name}");
    }
    for vector in list(&file["decode_only"]) {
        let statement = Statement::of(text(&vector["kind"]), &value_of(vector)).unwrap();
        assert_eq!(statement_json(&statement), vector["statement"], "{}", vector["name"]);
    }
}

#[test]
fn payloads_that_say_nothing() {
    let file = file("statements.json");
    assert!(!list(&file["silent"]).is_empty());
    let is_known = |kind: &str| list(&file["good"]).iter().any(|good| good["kind"] == kind);
    for vector in list(&file["silent"]) {
        let (name, kind, value) = (&vector["name"], text(&vector["kind"]), value_of(vector));
        assert!(is_known(kind) || (kind == "artifact.other" && name == "kind-unknown"), "{name}");
        assert_eq!(value::validate(&value), Ok(()), "{name}");
        assert_eq!(Statement::of(kind, &value), None, "{name}");
        let subject = subject_text(kind, &value);
        assert_eq!(subject.as_deref(), vector["subject"].as_str(), "{name}");
    }
}

/// Too long for a vector.
#[test]
fn the_most_ends_and_one_more() {
    let ends = |count: usize| {
        let node = |n: usize| {
            let mut key = [0; 32];
            key[..2].copy_from_slice(&(n as u16).to_be_bytes());
            Value::from(End::Node(NodeKey(key)))
        };
        let value = Value::map([
            ("from", Value::list((0..count).map(node))),
            ("to", Value::list([node(0)])),
            ("type", "t".into()),
            ("role", "both".into()),
        ]);
        let mut bytes = Vec::new();
        value::encode(&value, &mut bytes);
        bytes
    };
    assert_eq!(ENDS_MAX, 512);
    assert!(Statement::of(kind::EDGE_ADD, &ends(ENDS_MAX)).is_some());
    assert_eq!(Statement::of(kind::EDGE_ADD, &ends(ENDS_MAX + 1)), None);
    // The largest payload that may be said fits into a payload block.
    let artifacts = |first: u8| -> Vec<End> {
        let id = |n: usize| [&[first][..], &(n as u64).to_be_bytes(), &[0; 23]].concat();
        (0..ENDS_MAX).map(|n| End::Artifact(ArtifactId::from_slice(&id(n)).unwrap())).collect()
    };
    let tag = "t".repeat(TAG_BYTES_MAX);
    let largest = EdgeKey::new(artifacts(1), artifacts(2), &tag).unwrap();
    let mut bytes = Vec::new();
    value::encode(&Statement::Edge(largest, EdgeRole::Both).to_value().1, &mut bytes);
    assert!(bytes.len() + 64 < quipu_core::limits::PAYLOAD_BYTES_MAX, "{}", bytes.len());
}

#[test]
fn artifact_keys() {
    let file = file("statements.json");
    assert!(!list(&file["artifacts"]).is_empty());
    for vector in list(&file["artifacts"]) {
        let length = vector["length"].as_u64().unwrap();
        assert!(length <= ARTIFACT_BYTES_MAX);
        let key = ArtifactId::of(&artifact_bytes(u32::try_from(length).unwrap()));
        assert_eq!(key.to_string(), text(&vector["key"]), "{length}");
    }
}

#[test]
fn state_roots() {
    let file = file("state.json");
    assert_eq!(text(&file["leaf_context"]).as_bytes(), LEAF_CONTEXT);
    assert_eq!(text(&file["inner_context"]).as_bytes(), INNER_CONTEXT);
    assert!(!list(&file["trees"]).is_empty());
    for vector in list(&file["trees"]) {
        let number = |field: &str| u32::try_from(vector[field].as_u64().unwrap()).unwrap();
        let entries = state_entries(number("count"), number("zero_bytes") as usize);
        let flat: Vec<[u8; 32]> = entries.iter().flat_map(|(key, id)| [key.0, id.0]).collect();
        if !vector["entries"].is_null() {
            let listed: Vec<u8> = list(&vector["entries"]).iter().flat_map(unhex).collect();
            assert_eq!(hex(&listed), hex(flat.as_flattened()), "{}", vector["name"]);
        }
        assert_eq!(hex(&root_of(&entries)), text(&vector["root"]), "{}", vector["name"]);
        if entries.len() <= 32 {
            assert_eq!(hex(&leaf_hash(flat.as_flattened())), text(&vector["root"]));
        }
    }
}

#[test]
fn snapshot_ids() {
    let ids = &file("state.json")["snapshot_ids"];
    assert!(!list(&ids["good"]).is_empty() && !list(&ids["refused"]).is_empty());
    for vector in list(&ids["good"]) {
        let domain = text(&vector["domain"]).parse().unwrap();
        let local: EventId = text(&vector["local"]).parse().unwrap();
        let id = SnapshotId { domain, local };
        assert_eq!(text(&vector["text"]).parse(), Ok(id));
        assert_eq!(id.to_string(), text(&vector["text"]));
    }
    for vector in list(&ids["refused"]) {
        assert!(text(&vector["text"]).parse::<SnapshotId>().is_err(), "{vector}");
    }
}
