//! From an id to its position in a block.
//!
//! Ids are uniform, so their first bits say where in sorted order they stand. A directory over
//! those bits leads to a bucket of about sixteen entries: the position and as many of the next
//! bits of the id as fit beside it in 32 bits. A look-up touches one directory entry and one
//! cache line of entries; the id itself is read only to confirm a hit.

use quipu_core::id::EventId;

use crate::bytes::{array_at, put_u32, u32_at};

/// Entries in a bucket, on average.
const BUCKET_ENTRIES: usize = 16;

/// How the 64 bits at the head of an id are used in a block of a certain size.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct IndexShape {
    /// Bits that choose the bucket, at least one.
    bucket_bits: u32,
    /// Bits of an entry that are the position.
    position_bits: u32,
    events: usize,
}

impl IndexShape {
    /// The shape for a number of events.
    pub(super) fn of(events: usize) -> Self {
        let buckets = events.div_ceil(BUCKET_ENTRIES).next_power_of_two().max(2);
        let position_bits = events.max(2).next_power_of_two().trailing_zeros();
        Self { bucket_bits: buckets.trailing_zeros(), position_bits, events }
    }

    /// Bytes of the directory.
    pub(super) fn directory_bytes(self) -> usize {
        4 * ((1 << self.bucket_bits) + 1)
    }

    /// Bytes of directory and entries.
    pub(super) fn bytes(self) -> usize {
        self.directory_bytes() + 4 * self.events
    }

    fn bucket(self, id: &[u8; 32]) -> usize {
        (head(id) >> (64 - self.bucket_bits)) as usize
    }

    fn mark(self, id: &[u8; 32]) -> u32 {
        let mark_bits = 32 - self.position_bits;
        ((head(id) << self.bucket_bits) >> (64 - mark_bits)) as u32
    }

    /// The index over ids that are given by position.
    pub(super) fn encode(self, ids: &[[u8; 32]]) -> Vec<u8> {
        let mut sorted: Vec<u32> = (0..ids.len() as u32).collect();
        sorted.sort_unstable_by_key(|position| &ids[*position as usize]);
        let mut out = Vec::with_capacity(self.bytes());
        let mut next = 0;
        for bucket in 0..1 << self.bucket_bits {
            put_u32(&mut out, next);
            while sorted.get(next).is_some_and(|p| self.bucket(&ids[*p as usize]) == bucket) {
                next += 1;
            }
        }
        put_u32(&mut out, next);
        for position in sorted {
            let mark = self.mark(&ids[position as usize]);
            put_u32(&mut out, ((mark << self.position_bits) | position) as usize);
        }
        out
    }

    /// The position of an id. `index` is what [`IndexShape::encode`] wrote.
    pub(super) fn find(self, index: &[u8], ids: &[[u8; 32]], id: &EventId) -> Option<u32> {
        let bucket = 4 * self.bucket(&id.0);
        let (from, to) = (u32_at(index, bucket)? as usize, u32_at(index, bucket + 4)? as usize);
        let entries = index.get(self.directory_bytes()..)?.as_chunks::<4>().0.get(from..to)?;
        let mark = self.mark(&id.0);
        let start =
            entries.partition_point(|e| u32::from_le_bytes(*e) >> self.position_bits < mark);
        for entry in &entries[start..] {
            let entry = u32::from_le_bytes(*entry);
            if entry >> self.position_bits != mark {
                return None;
            }
            let position = entry & ((1 << self.position_bits) - 1);
            if ids.get(position as usize) == Some(&id.0) {
                return Some(position);
            }
        }
        None
    }
}

/// The first 64 bits of an id.
fn head(id: &[u8; 32]) -> u64 {
    array_at(id, 0).map_or(0, u64::from_be_bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn finds_all_and_nothing_else() {
        for count in [0usize, 1, 2, 3, 15, 16, 17, 33, 1000, 4096] {
            let id = |n: usize| *blake3::hash(&n.to_le_bytes()).as_bytes();
            let ids: Vec<_> = (0..count).map(id).collect();
            let shape = IndexShape::of(count);
            let index = shape.encode(&ids);
            assert_eq!(index.len(), shape.bytes());
            for (position, id) in ids.iter().enumerate() {
                assert_eq!(shape.find(&index, &ids, &EventId(*id)), Some(position as u32));
            }
            for n in count..count + 1000 {
                assert_eq!(shape.find(&index, &ids, &EventId(id(n))), None);
            }
        }
    }

    #[test]
    fn ids_that_begin_alike_are_told_apart() {
        let ids: Vec<[u8; 32]> =
            (0..100u8).map(|n| [vec![7; 31], vec![n]].concat().try_into().unwrap()).collect();
        let shape = IndexShape::of(ids.len());
        let index = shape.encode(&ids);
        for (position, id) in ids.iter().enumerate() {
            assert_eq!(shape.find(&index, &ids, &EventId(*id)), Some(position as u32));
        }
    }
}
