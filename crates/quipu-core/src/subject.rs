//! The fold key an event writes, hashed. Receivers recompute it: it never travels with a payload.
//!
//! A fold key is the list of a class and its parts in canonical CBOR; the subject is BLAKE3 of it,
//! keyed with the hash of [`SUBJECT_CONTEXT`], so that no other hash of ours can equal it.

use std::sync::LazyLock;

use minicbor::{Decoder, Encoder};

use crate::id::Subject;

/// Hashed once to give the key of the subject hash.
pub const SUBJECT_CONTEXT: &[u8] = b"quipu subject v1";

static SUBJECT_KEY: LazyLock<[u8; 32]> =
    LazyLock::new(|| *blake3::hash(SUBJECT_CONTEXT).as_bytes());

/// For each kind that writes a fold key: the class, and the payload fields that are its parts.
const FOLD_KEYS: &[(&str, &str, &[&str])] = &[
    ("field.set", "cell", &["record_id", "field"]),
    ("record.create", "record", &["record_id"]),
    ("member.add", "member", &["node"]),
    ("member.remove", "member", &["node"]),
    ("invite.create", "invite", &["key"]),
];

/// The subject of an event, from its kind and its payload value (canonical DAG-CBOR). Nothing if
/// the kind writes no key, or the payload lacks the fields: such an event is data, but no fold
/// sees it.
pub fn subject_of(kind: &str, value: &[u8]) -> Option<Subject> {
    let (_, class, fields) = FOLD_KEYS.iter().find(|(name, ..)| *name == kind)?;
    // Nearly always short: then hashing in one go is several times faster than with a hasher.
    let mut key = Vec::with_capacity(128);
    let mut e = Encoder::new(&mut key);
    e.array(1 + fields.len() as u64).and_then(|e| e.str(class)).ok()?;
    for field in *fields {
        key.extend_from_slice(raw_field(value, field)?);
    }
    Some(Subject(*blake3::keyed_hash(&SUBJECT_KEY, &key).as_bytes()))
}

/// The raw bytes of a string or bytes field in a top-level map, without building the tree.
pub fn raw_field<'a>(value: &'a [u8], name: &str) -> Option<&'a [u8]> {
    let mut d = Decoder::new(value);
    let count = d.map().ok()??;
    for _ in 0..count {
        let found = d.str().ok()?.as_bytes() == name.as_bytes();
        let start = d.position();
        d.skip().ok()?;
        if found {
            let raw = &value[start..d.position()];
            // Major types 2 and 3: bytes and text.
            return matches!(raw.first()? >> 5, 2 | 3).then_some(raw);
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
