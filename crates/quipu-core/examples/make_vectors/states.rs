//! Roots of states, and ids of snapshots.

use quipu_core::id::{EventId, SnapshotId, Subject};
use quipu_core::state::{INNER_CONTEXT, LEAF_CONTEXT, LEAF_ENTRIES_MAX, root_of};
use serde_json::{Value as Json, json};

use crate::json::{hex, state_entries};
use crate::world::{domain, small_log};

/// Trees with more entries are given by the rule alone.
const LISTED_MAX: u32 = 40;

fn text(bytes: &[u8]) -> &str {
    std::str::from_utf8(bytes).unwrap()
}

fn tree(name: &str, count: u32, zero_bytes: usize) -> Json {
    let entries = state_entries(count, zero_bytes);
    let list = |(subject, id): &(Subject, EventId)| hex(&[subject.0, id.0].concat());
    let listed: Option<Vec<String>> =
        (count <= LISTED_MAX).then(|| entries.iter().map(list).collect());
    json!({
        "name": name, "count": count, "zero_bytes": zero_bytes, "entries": listed,
        "root": hex(&root_of(&entries)),
    })
}

fn snapshot_ids() -> Json {
    let domain = domain();
    let [first, last] = [0, 6].map(|n| small_log()[n].id);
    let good = |local: EventId| {
        let text = SnapshotId { domain, local }.to_string();
        assert_eq!(text.parse(), Ok(SnapshotId { domain, local }));
        json!({ "domain": domain.to_string(), "local": local.to_string(), "text": text })
    };
    let artifact = quipu_core::id::ArtifactId::of(b"hello");
    let refused = [
        ("no-domain", last.to_string()),
        ("nothing-before-the-colon", format!(":{last}")),
        ("nothing-behind-the-colon", format!("{domain}:")),
        ("three-parts", format!("{domain}:{last}:{last}")),
        ("space", format!("{domain}: {last}")),
        ("slash", format!("{domain}/{last}")),
        ("upper-case", format!("{domain}:{last}").to_uppercase()),
        ("an-artifact", format!("{domain}:{artifact}")),
    ];
    let refused: Vec<Json> = refused
        .into_iter()
        .map(|(name, text)| {
            assert!(text.parse::<SnapshotId>().is_err(), "{name}");
            json!({ "name": name, "text": text })
        })
        .collect();
    json!({ "good": [good(first), good(last)], "refused": refused })
}

pub(crate) fn states() -> Json {
    let most = LEAF_ENTRIES_MAX as u32;
    let trees = [
        tree("empty", 0, 0),
        tree("one", 1, 0),
        tree("full-leaf", most, 0),
        tree("one-more-than-a-leaf", most + 1, 0),
        tree("deep", LISTED_MAX, 4),
        tree("thousand", 1_000, 0),
    ];
    json!({
        "format": "state tree: roots of states; federated ids of snapshots",
        "leaf_context": text(LEAF_CONTEXT), "inner_context": text(INNER_CONTEXT),
        "rule": "entry n, from 0: key BLAKE3-256(\"key\", n in 4 bytes, little-endian) with its \
                 first zero_bytes bytes set to 0; event digest BLAKE3-256(\"event\", n likewise); \
                 sorted by key. Of listed entries: key, then digest",
        "trees": trees,
        "snapshot_ids": snapshot_ids(),
    })
}
