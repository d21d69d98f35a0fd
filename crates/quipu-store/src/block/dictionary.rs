//! What the pages of a block refer to by number: authors, kinds, and events of earlier blocks.
//!
//! Events outside the block are linked through the seam that packed batches have for "the reader
//! holds this": as events of a pseudo-author, [`EXTERNAL`], whose seq is their number in the
//! dictionary. So an id that many events link to is stored once.

use std::collections::BTreeSet;
use std::sync::Arc;

use quipu_core::codec::pack::{Context, Shared};
use quipu_core::codec::varint::{Reader, put, put_section};
use quipu_core::event::Event;
use quipu_core::id::{EventId, NodeKey};
use quipu_core::limits::PACK_DICTIONARY_MAX;

use crate::bytes::{put_u32, u32_at};

/// Stands for "an event of an earlier block". No machine can have this key: it is a point of small
/// order, which strict verification refuses.
pub(super) const EXTERNAL: NodeKey = NodeKey([0; 32]);

const COUNTS_BYTES: usize = 12;

/// The dictionary of a block that is being written.
#[derive(Debug)]
pub(super) struct Dictionary {
    /// Sorted.
    pub(super) authors: Vec<NodeKey>,
    /// Sorted, with the number of their events.
    pub(super) kinds: Vec<(Arc<str>, u32)>,
    /// Sorted; whether as `prev`.
    pub(super) externals: Vec<(EventId, bool)>,
}

impl Dictionary {
    /// The dictionary of events.
    pub(super) fn of(events: &[Event], externals: Vec<(EventId, bool)>) -> Self {
        let authors: BTreeSet<NodeKey> = events.iter().map(|event| event.header.author).collect();
        let mut kinds = std::collections::BTreeMap::<Arc<str>, u32>::new();
        for event in events {
            match kinds.get_mut(&event.header.kind) {
                Some(count) => *count += 1,
                None => _ = kinds.insert(event.header.kind.clone(), 1),
            }
        }
        Self {
            authors: authors.into_iter().collect(),
            kinds: kinds.into_iter().collect(),
            externals,
        }
    }

    /// The dictionary as it lies in the file.
    pub(super) fn encode(&self) -> Vec<u8> {
        let mut out = Vec::new();
        put_u32(&mut out, self.authors.len());
        put_u32(&mut out, self.externals.len());
        put_u32(&mut out, self.kinds.len());
        self.authors.iter().for_each(|author| out.extend_from_slice(&author.0));
        self.externals.iter().for_each(|(id, _)| out.extend_from_slice(&id.0));
        let mut bits = vec![0u8; self.externals.len().div_ceil(8)];
        for (number, (_, as_prev)) in self.externals.iter().enumerate() {
            bits[number / 8] |= u8::from(*as_prev) << (number % 8);
        }
        out.extend_from_slice(&bits);
        for (kind, count) in &self.kinds {
            put_section(&mut out, kind.as_bytes());
            put(&mut out, u64::from(*count));
        }
        out
    }

    /// The context of a writer of the block's pages.
    pub(super) fn writer(&self) -> Context {
        let kinds: Vec<Arc<str>> = self.kinds.iter().map(|(kind, _)| kind.clone()).collect();
        let mut authors = self.authors.clone();
        authors.push(EXTERNAL);
        Context::writer().with_dictionary(&authors, &kinds)
    }
}

impl Shared for Dictionary {
    fn shared(&self, id: &EventId) -> Option<(NodeKey, u64)> {
        let number = self.externals.binary_search_by(|(other, _)| other.cmp(id)).ok()?;
        Some((EXTERNAL, number as u64))
    }
    fn author_prefix(&self, _author: &NodeKey) -> Option<usize> {
        None
    }
}

/// Where the parts of a dictionary lie, in the bytes of the dictionary.
#[derive(Debug, Clone)]
pub(super) struct DictionaryView {
    authors: usize,
    externals: usize,
    pub(super) kinds: Vec<Arc<str>>,
}

impl DictionaryView {
    /// Reads a dictionary; nothing if it is malformed.
    pub(super) fn parse(bytes: &[u8]) -> Option<Self> {
        let authors = u32_at(bytes, 0)? as usize;
        let externals = u32_at(bytes, 4)? as usize;
        let count = u32_at(bytes, 8)? as usize;
        if authors.max(externals).max(count) > PACK_DICTIONARY_MAX * 16 {
            return None;
        }
        let kinds_at = COUNTS_BYTES + 32 * (authors + externals) + externals.div_ceil(8);
        let mut reader = Reader::new(bytes.get(kinds_at..)?);
        let mut kinds = Vec::new();
        for _ in 0..count {
            kinds.push(Arc::from(std::str::from_utf8(reader.section()?).ok()?));
            // How many events have it: for readers that look for a kind.
            let _count = reader.varint()?;
        }
        reader.is_empty().then_some(Self { authors, externals, kinds })
    }

    /// The authors, sorted.
    pub(super) fn authors<'a>(&self, bytes: &'a [u8]) -> &'a [[u8; 32]] {
        ids(bytes, COUNTS_BYTES, self.authors)
    }

    /// The linked events of earlier blocks, sorted.
    pub(super) fn externals<'a>(&self, bytes: &'a [u8]) -> &'a [[u8; 32]] {
        ids(bytes, COUNTS_BYTES + 32 * self.authors, self.externals)
    }

    /// The linked events of earlier blocks, and whether as `prev`.
    pub(super) fn externals_with_use(&self, bytes: &[u8]) -> Vec<(EventId, bool)> {
        let bits_at = COUNTS_BYTES + 32 * (self.authors + self.externals);
        let as_prev = |number: usize| {
            bytes.get(bits_at + number / 8).is_some_and(|byte| byte >> (number % 8) & 1 == 1)
        };
        let ids = self.externals(bytes).iter().enumerate();
        ids.map(|(number, id)| (EventId(*id), as_prev(number))).collect()
    }

    /// The context of a reader of the block's pages.
    pub(super) fn reader(&self, bytes: &[u8]) -> Context {
        let mut authors: Vec<NodeKey> = self.authors(bytes).iter().copied().map(NodeKey).collect();
        authors.push(EXTERNAL);
        Context::reader().with_dictionary(&authors, &self.kinds)
    }
}

/// Ids that lie side by side; none if they are not all there.
pub(super) fn ids(bytes: &[u8], at: usize, count: usize) -> &[[u8; 32]] {
    let part = bytes.get(at..).and_then(|rest| rest.get(..count.checked_mul(32)?));
    part.map_or(&[], |part| part.as_chunks().0)
}
