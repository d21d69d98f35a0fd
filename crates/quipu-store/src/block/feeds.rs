//! Which events of a block an author wrote.
//!
//! For each author of the dictionary, in order, an offset into the lists; then the lists. An item
//! is a varint: the positions skipped since the last item, and one bit that says whether `seq` is
//! something else than the last one plus one, in which case the difference follows.

use std::ops::Range;

use quipu_core::codec::varint::{Reader, put, put_signed};
use quipu_core::event::Event;
use quipu_core::id::NodeKey;

use crate::bytes::{put_u32, u32_at};

/// The lists of all authors, which are sorted.
pub(super) fn encode(events: &[Event], authors: &[NodeKey]) -> Vec<u8> {
    let mut lists: Vec<(Vec<u8>, Cursor)> = vec![Default::default(); authors.len()];
    for (position, event) in events.iter().enumerate() {
        if let Ok(author) = authors.binary_search(&event.header.author) {
            let (list, cursor) = &mut lists[author];
            cursor.put(position as u64, event.header.seq, list);
        }
    }
    let mut out = Vec::new();
    let mut at = 0;
    for (list, _) in &lists {
        put_u32(&mut out, at);
        at += list.len();
    }
    put_u32(&mut out, at);
    lists.iter().for_each(|(list, _)| out.extend_from_slice(list));
    out
}

/// The next position and seq, if nothing is skipped.
#[derive(Debug, Clone, Copy, Default)]
struct Cursor {
    position: u64,
    seq: u64,
}

impl Cursor {
    fn put(&mut self, position: u64, seq: u64, list: &mut Vec<u8>) {
        let jump = seq != self.seq;
        put(list, ((position - self.position) << 1) | u64::from(jump));
        if jump {
            put_signed(list, seq.wrapping_sub(self.seq) as i64);
        }
        *self = Self { position: position + 1, seq: seq.wrapping_add(1) };
    }

    fn take(&mut self, list: &mut Reader<'_>) -> Option<(u64, u64)> {
        let code = list.varint()?;
        let position = self.position.checked_add(code >> 1)?;
        let jump = if code & 1 == 1 { list.signed()? } else { 0 };
        let seq = self.seq.wrapping_add(jump as u64);
        *self = Self { position: position + 1, seq: seq.wrapping_add(1) };
        Some((seq, position))
    }
}

/// Seq and position of the events of the author with that number, of so many authors. Nothing if
/// the bytes are malformed.
pub(super) fn list(
    bytes: &[u8],
    author: usize,
    authors: usize,
    seqs: &Range<u64>,
) -> Option<Vec<(u64, u32)>> {
    let lists = bytes.get(4 * (authors + 1)..)?;
    let (from, to) = (u32_at(bytes, 4 * author)? as usize, u32_at(bytes, 4 * author + 4)? as usize);
    let mut reader = Reader::new(lists.get(from..to)?);
    let mut cursor = Cursor::default();
    let mut found = Vec::new();
    while !reader.is_empty() {
        let (seq, position) = cursor.take(&mut reader)?;
        if seqs.contains(&seq) {
            found.push((seq, u32::try_from(position).ok()?));
        }
    }
    Some(found)
}
