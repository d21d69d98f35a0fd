//! The small file that says where the trees begin, written anew and renamed at every save.
//!
//! | bytes | what |
//! |---|---|
//! | 16 | magic |
//! | 32 | domain |
//! | 8 | length of the pages file that all this needs |
//! | 8 | events of the log that are in the state |
//! | 32 | id of the last of them |
//! | 48 each | winners tree, reference tree: hash, offset, count |
//! | 4, 32 each | events that were left out, because they are quarantined |
//! | 4, 56 each | snapshot events: id, clock, ordinal, events in the cut |
//! | 4, 80 each | snapshots whose state is kept: id, root node |
//! | 16 | BLAKE3 of all before, cut |

use std::collections::{BTreeMap, BTreeSet};

use quipu_core::event::LogSeq;
use quipu_core::id::{DomainId, EventId};

use crate::tree::Node;

const MAGIC: &[u8; 16] = b"quipu roots v\0\0\x02";
const SUM_BYTES: usize = 16;

/// A snapshot event.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct SnapshotAt {
    /// Its clock.
    pub logseq: LogSeq,
    /// The event: the id of the snapshot.
    pub id: EventId,
    /// Where it lies in this machine's log.
    pub ordinal: u64,
    /// How many events are in its cut; 0 if they were not counted yet.
    pub(crate) events: u64,
}

/// Where everything begins.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Roots {
    /// Bytes of the pages file.
    pub(crate) length: u64,
    /// Events of the log that were looked at.
    pub(crate) applied: u64,
    /// The last of them: the log may have lost it in a crash, and have gone on with others.
    pub(crate) last: EventId,
    pub(crate) winners: Node,
    pub(crate) refs: Node,
    /// Of those, the quarantined ones.
    pub(crate) aside: BTreeSet<EventId>,
    /// Sorted by clock and id.
    pub(crate) snapshots: Vec<SnapshotAt>,
    /// The state at snapshots, where it is kept.
    pub(crate) kept: BTreeMap<EventId, Node>,
}

impl Default for Roots {
    fn default() -> Self {
        Self {
            length: 0,
            applied: 0,
            last: EventId::default(),
            winners: Node::empty(),
            refs: Node::empty(),
            aside: BTreeSet::new(),
            snapshots: Vec::new(),
            kept: BTreeMap::new(),
        }
    }
}

impl Roots {
    pub(crate) fn encode(&self, domain: &DomainId) -> Vec<u8> {
        let mut out = MAGIC.to_vec();
        out.extend_from_slice(&domain.0);
        put_u64(&mut out, self.length);
        put_u64(&mut out, self.applied);
        out.extend_from_slice(&self.last.0);
        put_node(&mut out, &self.winners);
        put_node(&mut out, &self.refs);
        put_count(&mut out, self.aside.len());
        self.aside.iter().for_each(|id| out.extend_from_slice(&id.0));
        put_count(&mut out, self.snapshots.len());
        for SnapshotAt { logseq, id, ordinal, events } in &self.snapshots {
            out.extend_from_slice(&id.0);
            put_u64(&mut out, logseq.0);
            put_u64(&mut out, *ordinal);
            put_u64(&mut out, *events);
        }
        put_count(&mut out, self.kept.len());
        for (id, node) in &self.kept {
            out.extend_from_slice(&id.0);
            put_node(&mut out, node);
        }
        let sum = *blake3::hash(&out).as_bytes();
        out.extend_from_slice(&sum[..SUM_BYTES]);
        out
    }

    /// Reads the file; nothing if it is of another domain, another version, or damaged.
    pub(crate) fn decode(bytes: &[u8], domain: &DomainId) -> Option<Self> {
        let (body, sum) = bytes.split_at_checked(bytes.len().checked_sub(SUM_BYTES)?)?;
        if blake3::hash(body).as_bytes()[..SUM_BYTES] != *sum {
            return None;
        }
        let mut from = body.strip_prefix(MAGIC)?.strip_prefix(&domain.0)?;
        let from = &mut from;
        let mut roots = Self {
            length: take_u64(from)?,
            applied: take_u64(from)?,
            last: EventId(take(from)?),
            winners: take_node(from)?,
            refs: take_node(from)?,
            ..Self::default()
        };
        for _ in 0..take_count(from)? {
            roots.aside.insert(EventId(take(from)?));
        }
        for _ in 0..take_count(from)? {
            let (id, logseq) = (EventId(take(from)?), LogSeq(take_u64(from)?));
            let (ordinal, events) = (take_u64(from)?, take_u64(from)?);
            roots.snapshots.push(SnapshotAt { logseq, id, ordinal, events });
        }
        for _ in 0..take_count(from)? {
            roots.kept.insert(EventId(take(from)?), take_node(from)?);
        }
        from.is_empty().then_some(roots)
    }
}

fn put_u64(out: &mut Vec<u8>, n: u64) {
    out.extend_from_slice(&n.to_le_bytes());
}

fn put_count(out: &mut Vec<u8>, n: usize) {
    out.extend_from_slice(&(n as u32).to_le_bytes());
}

fn put_node(out: &mut Vec<u8>, node: &Node) {
    out.extend_from_slice(&node.hash);
    put_u64(out, node.at);
    put_u64(out, node.count);
}

fn take<const N: usize>(from: &mut &[u8]) -> Option<[u8; N]> {
    let (head, rest) = from.split_first_chunk::<N>()?;
    *from = rest;
    Some(*head)
}

fn take_u64(from: &mut &[u8]) -> Option<u64> {
    take(from).map(u64::from_le_bytes)
}

fn take_count(from: &mut &[u8]) -> Option<u32> {
    take(from).map(u32::from_le_bytes)
}

fn take_node(from: &mut &[u8]) -> Option<Node> {
    Some(Node { hash: take(from)?, at: take_u64(from)?, count: take_u64(from)? })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_written_is_read_and_every_flip_is_noticed() {
        let domain = DomainId([3; 32]);
        let node = Node { hash: [1; 32], at: 16, count: 7 };
        let roots = Roots {
            length: 99,
            applied: 5,
            last: EventId([6; 32]),
            winners: node,
            refs: Node::empty(),
            aside: [EventId([4; 32])].into(),
            snapshots: vec![SnapshotAt {
                logseq: LogSeq(8),
                id: EventId([5; 32]),
                ordinal: 2,
                events: 1,
            }],
            kept: [(EventId([5; 32]), node)].into(),
        };
        let bytes = roots.encode(&domain);
        assert_eq!(Roots::decode(&bytes, &domain), Some(roots));
        assert_eq!(Roots::decode(&bytes, &DomainId([2; 32])), None);
        // An older version, whole.
        let mut older = bytes[..bytes.len() - SUM_BYTES].to_vec();
        older[MAGIC.len() - 1] -= 1;
        older.extend_from_slice(&blake3::hash(&older).as_bytes()[..SUM_BYTES]);
        assert_eq!(Roots::decode(&older, &domain), None);
        for at in 0..bytes.len() {
            let mut bad = bytes.clone();
            bad[at] ^= 1;
            assert_eq!(Roots::decode(&bad, &domain), None, "{at}");
            assert_eq!(Roots::decode(&bytes[..at], &domain), None, "{at}");
        }
    }
}
