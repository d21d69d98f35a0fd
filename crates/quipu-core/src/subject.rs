//! The fold key an event writes, hashed. Receivers recompute it: it never travels with a payload.
//!
//! A fold key is the list of a class and its parts in canonical CBOR; the subject is BLAKE3 of it,
//! keyed with the hash of [`SUBJECT_CONTEXT`], so that no other hash of ours can equal it.

use std::sync::LazyLock;

use minicbor::{Decoder, Encoder};

use crate::id::Subject;
use crate::kind;

/// Hashed once to give the key of the subject hash.
pub const SUBJECT_CONTEXT: &[u8] = b"quipu subject v1";

static SUBJECT_KEY: LazyLock<[u8; 32]> =
    LazyLock::new(|| *blake3::hash(SUBJECT_CONTEXT).as_bytes());

/// What a part of a fold key may be. Anything else gives no key: then equal meaning is equal bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Part {
    /// Text or bytes.
    Name(&'static str),
    /// Text that may be missing: then the part is null.
    Optional(&'static str),
    /// A content id.
    Link(&'static str),
    /// A whole number from 0 on.
    Number(&'static str),
    /// A list of content ids, node keys and commitments, sorted by their bytes, each once, not empty.
    Ends(&'static str),
}

/// The CBOR null.
const NULL: &[u8] = &[0xf6];

/// For each kind that writes a fold key: the class, and the payload fields that are its parts.
const FOLD_KEYS: &[(&str, &str, &[Part])] = &[
    ("field.set", "cell", &[Part::Name("record_id"), Part::Name("field")]),
    (kind::RECORD_CREATE, "record", &[Part::Name("record_id")]),
    (kind::RECORD_SET, "cell", &[Part::Name("record_id"), Part::Name("field")]),
    (kind::RECORD_NOTE, "record-note", &[Part::Name("record_id"), Part::Name("text")]),
    (
        kind::RECORD_ATTACH,
        "record-attachment",
        &[Part::Name("record_id"), Part::Name("field"), Part::Link("artifact")],
    ),
    (kind::MESH_IDENTITY, "mesh-identity", &[Part::Name("identity")]),
    (kind::MESH_POLICY, "mesh-policy", &[]),
    (kind::MESH_TRUST, "mesh-trust", &[Part::Name("author")]),
    (kind::MESH_EVENT, "mesh-event", &[Part::Name("id")]),
    (kind::MEMBER_ADD, "member", &[Part::Name("node")]),
    (kind::MEMBER_REMOVE, "member", &[Part::Name("node")]),
    (kind::MEMBER_REPLACE, "member", &[Part::Name("node")]),
    (kind::MEMBER_READMIT, "readmission", &[Part::Name("node"), Part::Link("upto")]),
    (kind::INVITE_CREATE, "invite", &[Part::Name("key")]),
    (
        kind::ARTIFACT_PUT,
        "artifact",
        &[Part::Link("key"), Part::Number("size"), Part::Optional("type_tag")],
    ),
    (kind::ARTIFACT_IMPORT, "import", &[Part::Link("key"), Part::Link("domain")]),
    (kind::ARTIFACT_PUBLISH, "published", &[Part::Link("key")]),
    (kind::ARTIFACT_TOMBSTONE, "artifact-tombstone", &[Part::Link("key")]),
    (kind::ARTIFACT_PIN, "pin", &[Part::Link("key")]),
    (kind::ARTIFACT_UNPIN, "pin", &[Part::Link("key")]),
    (kind::EDGE_ADD, "edge", &[Part::Ends("from"), Part::Ends("to"), Part::Name("type")]),
    (kind::EDGE_TOMBSTONE, "edge", &[Part::Ends("from"), Part::Ends("to"), Part::Name("type")]),
    (kind::CONFLICT_RESOLVE, "resolution", &[Part::Link("key")]),
    (kind::SNAPSHOT_DROP, "snapshot-drop", &[Part::Link("snapshot")]),
    (kind::PUBLISHER_ADD, "publisher", &[Part::Name("node")]),
    (kind::PUBLISHER_REMOVE, "publisher", &[Part::Name("node")]),
    (kind::PUBLISHER_REPLACE, "publisher", &[Part::Name("node")]),
    (kind::PUBLISHER_READMIT, "publisher-readmission", &[Part::Name("node"), Part::Link("upto")]),
    (kind::PUBLISHER_ACCESS, "access", &[]),
    (kind::PUBLICATION_RECORD, "publication", &[Part::Link("snapshot"), Part::Number("part")]),
    (kind::DOMAIN_FOLLOW, "follow", &[Part::Link("domain")]),
    (
        kind::RECEIPT_ANNOUNCE,
        "receipt",
        &[Part::Name("run"), Part::Link("receipt"), Part::Name("node")],
    ),
    (kind::RECEIPT_ROSTER, "roster", &[]),
    (kind::RUN_REQUEST, "run", &[Part::Name("run"), Part::Name("node")]),
    (kind::RUN_CLAIM, "claim", &[Part::Name("step"), Part::Name("node")]),
    (kind::RUN_OFFER, "offer", &[Part::Name("node")]),
];

impl Part {
    /// The bytes of this part in a payload value.
    fn of<'a>(&self, value: &'a [u8]) -> Option<&'a [u8]> {
        let major = |raw: &[u8]| raw.first().map_or(7, |first| first >> 5);
        match self {
            // Major types 2 and 3: bytes and text.
            Part::Name(name) => field(value, name).filter(|raw| matches!(major(raw), 2 | 3)),
            Part::Optional(name) => match field(value, name) {
                None => Some(NULL),
                Some(raw) => (major(raw) == 3).then_some(raw),
            },
            Part::Link(name) => field(value, name).filter(|raw| major(raw) == 6),
            Part::Number(name) => field(value, name).filter(|raw| major(raw) == 0),
            Part::Ends(name) => field(value, name).filter(|raw| are_ends(raw)),
        }
    }
}

/// Whether this is a list of links, node keys and commitments in strictly rising order.
fn are_ends(raw: &[u8]) -> bool {
    let mut d = Decoder::new(raw);
    let Ok(Some(count)) = d.array() else { return false };
    let mut last: &[u8] = &[];
    for _ in 0..count {
        let start = d.position();
        if d.skip().is_err() {
            return false;
        }
        let item = &raw[start..d.position()];
        if !matches!(item.first().map(|first| first >> 5), Some(2 | 6)) || item <= last {
            return false;
        }
        last = item;
    }
    count > 0
}

/// The kinds whose events may write a fold key.
pub fn key_kinds() -> impl Iterator<Item = &'static str> {
    FOLD_KEYS.iter().map(|(name, ..)| *name)
}

/// The subject of an event, from its kind and its payload value (canonical DAG-CBOR). Nothing if
/// the kind writes no key, or the payload lacks the fields: such an event is data, but no fold
/// sees it.
pub fn subject_of(kind: &str, value: &[u8]) -> Option<Subject> {
    let (_, class, parts) = FOLD_KEYS.iter().find(|(name, ..)| *name == kind)?;
    // Nearly always short: then hashing in one go is several times faster than with a hasher.
    let mut key = Vec::with_capacity(128);
    let mut e = Encoder::new(&mut key);
    e.array(1 + parts.len() as u64).and_then(|e| e.str(class)).ok()?;
    for part in *parts {
        key.extend_from_slice(part.of(value)?);
    }
    Some(Subject(*blake3::keyed_hash(&SUBJECT_KEY, &key).as_bytes()))
}

/// The raw bytes of a string or bytes field in a top-level map, without building the tree.
pub fn raw_field<'a>(value: &'a [u8], name: &str) -> Option<&'a [u8]> {
    field(value, name).filter(|raw| matches!(raw.first().map(|first| first >> 5), Some(2 | 3)))
}

fn field<'a>(value: &'a [u8], name: &str) -> Option<&'a [u8]> {
    let mut d = Decoder::new(value);
    let count = d.map().ok()??;
    for _ in 0..count {
        let found = d.str().ok()?.as_bytes() == name.as_bytes();
        let start = d.position();
        d.skip().ok()?;
        if found {
            return Some(&value[start..d.position()]);
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    fn map(pairs: &[(&str, &str)]) -> Vec<u8> {
        let mut out = Vec::new();
        let mut e = Encoder::new(&mut out);
        e.map(pairs.len() as u64).unwrap();
        for (k, v) in pairs {
            e.str(k).unwrap().str(v).unwrap();
        }
        out
    }

    #[test]
    fn same_cell_same_subject() {
        let a = map(&[("field", "f"), ("value", "1"), ("record_id", "R")]);
        let b = map(&[("field", "f"), ("value", "2"), ("record_id", "R")]);
        let c = map(&[("field", "R"), ("value", "1"), ("record_id", "f")]);
        let subject = |v: &[u8]| subject_of("field.set", v);
        assert!(subject(&a).is_some());
        assert_eq!(subject(&a), subject(&b));
        assert_ne!(subject(&a), subject(&c));
        assert_eq!(subject_of("note", &a), None);
        assert_eq!(subject_of("field.set", &map(&[("field", "f")])), None);
        let long = "x".repeat(9000);
        assert!(subject(&map(&[("field", &long), ("value", "1"), ("record_id", "R")])).is_some());
    }
}
