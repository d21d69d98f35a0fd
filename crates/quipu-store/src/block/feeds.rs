//! Which events of a block an author wrote.
//!
//! For each author of the dictionary, in order, an offset into the lists; then the lists. A list
//! begins with the smallest seq and the difference to the greatest, so that most blocks can be
//! passed over. An item is a varint: the positions skipped since the last item, and one bit that says whether `seq` is
//! something else than the last one plus one, in which case the difference follows.

use std::ops::Range;

use quipu_core::codec::varint::{Reader, put, put_signed};
use quipu_core::event::Event;
use quipu_core::id::NodeKey;

use crate::bytes::{put_u32, u32_at};

/// The lists of all authors, which are sorted.
pub(super) fn encode(events: &[Event], authors: &[NodeKey]) -> Vec<u8> {
    let mut feeds: Vec<Feed> = vec![Feed::default(); authors.len()];
    for (position, event) in events.iter().enumerate() {
        if let Ok(author) = authors.binary_search(&event.header.author) {
            feeds[author].put(position as u64, event.header.seq);
        }
    }
    let lists: Vec<Vec<u8>> = feeds.into_iter().map(Feed::finish).collect();
    let mut out = Vec::new();
    let mut at = 0;
    for list in &lists {
        put_u32(&mut out, at);
        at += list.len();
    }
    put_u32(&mut out, at);
    lists.iter().for_each(|list| out.extend_from_slice(list));
    out
}

/// The list of one author while it is written.
#[derive(Debug, Clone, Default)]
struct Feed {
    seqs: Option<(u64, u64)>,
    cursor: Cursor,
    items: Vec<u8>,
}

impl Feed {
    fn put(&mut self, position: u64, seq: u64) {
        let (least, greatest) = self.seqs.unwrap_or((seq, seq));
        self.seqs = Some((least.min(seq), greatest.max(seq)));
        self.cursor.put(position, seq, &mut self.items);
    }

    fn finish(self) -> Vec<u8> {
        let (least, greatest) = self.seqs.unwrap_or_default();
        let mut list = Vec::with_capacity(self.items.len() + 8);
        put(&mut list, least);
        put(&mut list, greatest - least);
        list.extend_from_slice(&self.items);
        list
    }
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

/// Bytes of a list from which on it is worth keeping in memory once it was read.
const LONG_BYTES: usize = 1024;

/// A long list in memory, so that a look at one event does not read all of it each time: the feed of an
/// admin with thousands of grants is asked for each of them.
#[derive(Debug)]
pub(super) struct Long {
    author: usize,
    /// Sorted by seq; several of one seq by position.
    items: Vec<(u64, u32)>,
}

impl Long {
    /// The list of an author, if it is long; nothing either if the bytes are malformed.
    pub(super) fn read(bytes: &[u8], author: usize, authors: usize) -> Option<Self> {
        let from = u32_at(bytes, 4 * author)?;
        let to = u32_at(bytes, 4 * author + 4)?;
        if (to.checked_sub(from)? as usize) < LONG_BYTES {
            return None;
        }
        let mut items = list(bytes, author, authors, &(0..u64::MAX))?;
        items.sort_unstable();
        Some(Self { author, items })
    }

    /// Whether it is that author's.
    pub(super) fn is_of(&self, author: usize) -> bool {
        self.author == author
    }

    /// What [`list`] answers.
    pub(super) fn part(&self, seqs: &Range<u64>) -> Vec<(u64, u32)> {
        let from = self.items.partition_point(|(seq, _)| *seq < seqs.start);
        let to = self.items.partition_point(|(seq, _)| *seq < seqs.end);
        let mut part = self.items[from..to.max(from)].to_vec();
        part.sort_unstable_by_key(|(_, position)| *position);
        part
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
    let least = reader.varint()?;
    let greatest = least.checked_add(reader.varint()?)?;
    if greatest < seqs.start || least >= seqs.end {
        return Some(Vec::new());
    }
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
