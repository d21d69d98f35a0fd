//! The state root: one hash for the winning event of every fold key (LOG-3).
//!
//! It is the root of a tree whose shape follows from its content alone, so it does not matter in
//! which order, or in how many steps, the entries came. Keys are hashes already, so a radix tree
//! stays balanced and nobody can afford to make it deep: each level is one hexadecimal digit of
//! the key. Up to [`LEAF_ENTRIES_MAX`] entries below a prefix are a leaf; more are an inner node
//! with 16 children. (The idea is that of Merkle search trees, Auvolat and Taiani 2019; a radix
//! tree bounds the size of a page as well. See `docs/decisions/0015-state-tree.md`.)
//!
//! The leaf's hash covers key and event id of each entry, not values: an erasure never changes it.

use std::sync::LazyLock;

use crate::id::{EventId, Subject};

/// The most entries in a leaf.
pub const LEAF_ENTRIES_MAX: usize = 32;
/// Children of an inner node: one for each hexadecimal digit.
pub const CHILDREN: usize = 16;
/// Bytes of an entry as it is hashed: key and event id.
pub const ENTRY_BYTES: usize = 64;
/// Hashed once to give the key of the leaf hash.
pub const LEAF_CONTEXT: &[u8] = b"quipu state leaf v1";
/// Hashed once to give the key of the hash of inner nodes.
pub const INNER_CONTEXT: &[u8] = b"quipu state inner v1";

static LEAF_KEY: LazyLock<[u8; 32]> = LazyLock::new(|| *blake3::hash(LEAF_CONTEXT).as_bytes());
static INNER_KEY: LazyLock<[u8; 32]> = LazyLock::new(|| *blake3::hash(INNER_CONTEXT).as_bytes());

/// Hash of a subtree, or of the whole state.
pub type StateHash = [u8; 32];
/// Stands for a child that has no entries.
pub const NO_CHILD: StateHash = [0; 32];

/// The hash of a leaf, from its entries: [`ENTRY_BYTES`] each, sorted by key.
pub fn leaf_hash(entries: &[u8]) -> StateHash {
    *blake3::keyed_hash(&LEAF_KEY, entries).as_bytes()
}

/// The hash of an inner node, from those of its children; [`NO_CHILD`] where there is none.
pub fn inner_hash(children: &[StateHash; CHILDREN]) -> StateHash {
    *blake3::keyed_hash(&INNER_KEY, children.as_flattened()).as_bytes()
}

/// The digit of a key that chooses a child at a depth (0 to 63).
pub fn digit(subject: &Subject, depth: usize) -> usize {
    let byte = subject.0[(depth / 2).min(31)];
    usize::from(if depth.is_multiple_of(2) { byte >> 4 } else { byte & 15 })
}

/// The root of a state, from scratch. Entries must be sorted by key, each key once.
pub fn root_of(entries: &[(Subject, EventId)]) -> StateHash {
    subtree(entries, 0)
}

fn subtree(entries: &[(Subject, EventId)], depth: usize) -> StateHash {
    if entries.len() <= LEAF_ENTRIES_MAX {
        let mut bytes = Vec::with_capacity(entries.len() * ENTRY_BYTES);
        for (subject, id) in entries {
            bytes.extend_from_slice(&subject.0);
            bytes.extend_from_slice(&id.0);
        }
        return leaf_hash(&bytes);
    }
    let mut children = [NO_CHILD; CHILDREN];
    let mut rest = entries;
    for (number, child) in children.iter_mut().enumerate() {
        let (here, after) = rest.split_at(rest.partition_point(|(s, _)| digit(s, depth) <= number));
        rest = after;
        if !here.is_empty() {
            *child = subtree(here, depth + 1);
        }
    }
    inner_hash(&children)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entries(count: u32) -> Vec<(Subject, EventId)> {
        let hash = |n: u32| *blake3::hash(&n.to_le_bytes()).as_bytes();
        let mut all: Vec<_> =
            (0..count).map(|n| (Subject(hash(n)), EventId(hash(n + 1_000_000)))).collect();
        all.sort_unstable();
        all
    }

    #[test]
    fn every_entry_counts() {
        for count in [0, 1, 32, 33, 500] {
            let all = entries(count);
            let root = root_of(&all);
            for change in 0..all.len() {
                let mut other = all.clone();
                other[change].1.0[31] ^= 1;
                assert_ne!(root_of(&other), root, "{count} {change}");
                other.remove(change);
                assert_ne!(root_of(&other), root, "{count} {change}");
            }
        }
    }

    #[test]
    fn digits_are_those_of_the_key() {
        let mut subject = Subject([0; 32]);
        subject.0[0] = 0xab;
        subject.0[31] = 0xcd;
        assert_eq!([0, 1, 62, 63].map(|depth| digit(&subject, depth)), [0xa, 0xb, 0xc, 0xd]);
    }
}
