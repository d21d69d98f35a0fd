//! What both ends of every sync stream know beforehand: quipu's own kinds, and what payloads look like. So a
//! batch of a few events does not say it anew, on any link, however short it lasts (MESH-6).
//!
//! It belongs to the version of the protocol: kinds are added at the end, and the texts are not changed.

use std::sync::{Arc, LazyLock};

use crate::id::ArtifactId;
use crate::kind;
use crate::value::{self, Cid, Value};

/// The kinds that a sync stream begins with, by index.
pub const STREAM_KINDS: [&str; 41] = [
    kind::RECORD_SET,
    kind::RECORD_CREATE,
    kind::RECORD_NOTE,
    kind::RECORD_ATTACH,
    kind::MESH_EVENT,
    kind::MESH_SIGN,
    kind::MESH_EMIT,
    kind::MESH_IDENTITY,
    kind::MESH_TRUST,
    kind::MESH_POLICY,
    kind::ARTIFACT_PUT,
    kind::ARTIFACT_IMPORT,
    kind::ARTIFACT_TOMBSTONE,
    kind::ARTIFACT_PIN,
    kind::ARTIFACT_UNPIN,
    kind::EDGE_ADD,
    kind::EDGE_TOMBSTONE,
    kind::CONFLICT_RESOLVE,
    kind::SNAPSHOT_CREATE,
    kind::SNAPSHOT_DROP,
    kind::MERGE,
    kind::PAYLOAD_ERASE,
    kind::DOMAIN_CREATE,
    kind::MEMBER_ADD,
    kind::MEMBER_REMOVE,
    kind::MEMBER_REPLACE,
    kind::MEMBER_READMIT,
    kind::INVITE_CREATE,
    kind::PUBLISHER_ADD,
    kind::PUBLISHER_REMOVE,
    kind::PUBLISHER_REPLACE,
    kind::PUBLISHER_READMIT,
    kind::PUBLISHER_ACCESS,
    kind::ARTIFACT_PUBLISH,
    kind::PUBLICATION_RECORD,
    kind::DOMAIN_FOLLOW,
    kind::RECEIPT_ANNOUNCE,
    kind::RECEIPT_ROSTER,
    kind::RUN_REQUEST,
    kind::RUN_CLAIM,
    kind::RUN_OFFER,
];

/// The same, to be shared by all streams.
pub(super) static KINDS: LazyLock<Vec<Arc<str>>> =
    LazyLock::new(|| STREAM_KINDS.iter().map(|kind| Arc::from(*kind)).collect());

/// The dictionary of fold method 2: typical payloads, the most frequent last.
pub static PAYLOADS: LazyLock<Vec<u8>> = LazyLock::new(|| {
    let mut out = Vec::new();
    for event in FOREIGN {
        out.extend_from_slice(event);
    }
    for payload in typical() {
        value::encode(&payload, &mut out);
    }
    out
});

/// Events of meshlogd, as `mesh.event` carries them.
const FOREIGN: [&[u8]; 4] = [
    br#","k":"attachment.add","p":{"record_id":"","field":"photo","blob_hash":"","size":,"mime":"image/jpeg"},"#,
    br#","k":"note.add","p":{"record_id":"","text":"#,
    br#","k":"record.create","p":{"record_id":"","form":"","by":"#,
    br#"{"a":"","s":1,"h":[17,0],"k":"field.set","p":{"record_id":"","field":"","value":""},"v":"","i":"","g":""}"#,
];

fn typical() -> Vec<Value> {
    let none = || Value::from("");
    let link = || Value::from(Cid::from(ArtifactId::default()));
    let record = || ("record_id", Value::from("R-1"));
    let (field, size) = (|| ("field", none()), || ("size", none()));
    vec![
        Value::map([("run", none()), ("program", link()), ("inputs", none()), ("node", none())]),
        Value::map([("run", none()), ("receipt", link()), size(), ("node", none())]),
        Value::map([("from", none()), ("to", none()), ("type", none()), ("role", "both".into())]),
        Value::map([("key", link()), size(), ("type_tag", "image/jpeg".into())]),
        Value::map([("from", none()), ("signatures", none())]),
        Value::map([("id", none()), ("wire", none())]),
        Value::map([record(), field(), ("artifact", link()), size(), ("mime", none())]),
        Value::map([record(), ("form", none())]),
        Value::map([record(), ("text", none())]),
        Value::map([record(), ("field", "name".into()), ("value", none())]),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_kind_of_quipu_has_an_index() {
        let source = include_str!("../../kind.rs");
        let kinds =
            source.lines().filter_map(|line| line.strip_prefix("pub const ")?.split('"').nth(1));
        let kinds: Vec<&str> = kinds.collect();
        assert!(kinds.len() >= 41);
        for kind in &kinds {
            assert!(STREAM_KINDS.contains(kind), "{kind}: add it at the end");
        }
        let distinct: std::collections::BTreeSet<&str> = STREAM_KINDS.into_iter().collect();
        assert_eq!(distinct.len(), STREAM_KINDS.len());
    }
}
