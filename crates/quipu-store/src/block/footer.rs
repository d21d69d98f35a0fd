//! The footer of a block: what is read when a store is opened. The trailer, the last bytes of the
//! file, says where it is.

use quipu_core::codec::varint::{Reader, put};
use quipu_core::event::{Event, LogSeq};
use quipu_core::id::NodeKey;

use super::dictionary::Dictionary;
use super::header::Header;
use crate::bytes::{array_at, hash, put_u64, u64_at, usize_at};
use crate::error::StoreError;
use crate::summary::{End, Summary};

/// Bytes of the trailer.
pub(super) const TRAILER_BYTES: usize = 64;
const MAGIC: &[u8; 8] = b"quipuend";

/// Where a page lies.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct PageEntry {
    /// Position of its first event.
    pub(super) first: u32,
    /// Its events.
    pub(super) events: u32,
    /// Where its packed heads begin, and how long they are.
    pub(super) at: usize,
    pub(super) length: usize,
    /// What is in it; not known in blocks of version 1.
    pub(super) zone: Option<Zone>,
}

/// What the events of a page have in common.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Zone {
    /// The smallest and the greatest clock.
    pub(super) clocks: (LogSeq, LogSeq),
    /// A bit for each kind of the dictionary that occurs. The last bit stands for all kinds from
    /// the 64th on.
    pub(super) kinds: u64,
}

impl Zone {
    /// The zone of events.
    pub(super) fn of(events: &[Event], dictionary: &Dictionary) -> Self {
        let clocks = || events.iter().map(|event| event.header.logseq);
        let kind = |event: &Event| {
            let known = &dictionary.kinds;
            known.binary_search_by(|(kind, _)| kind.cmp(&event.header.kind)).unwrap_or_default()
        };
        Self {
            clocks: (clocks().min().unwrap_or_default(), clocks().max().unwrap_or_default()),
            kinds: events.iter().fold(0, |bits, event| bits | Self::bit_of(kind(event))),
        }
    }

    /// The bit of a kind.
    pub(super) fn bit_of(kind: usize) -> u64 {
        1 << kind.min(63)
    }

    fn put(self, out: &mut Vec<u8>) {
        put(out, self.clocks.0.0);
        put(out, self.clocks.1.0 - self.clocks.0.0);
        put(out, self.kinds);
    }

    fn take(reader: &mut Reader<'_>) -> Option<Self> {
        let least = reader.varint()?;
        let greatest = least.checked_add(reader.varint()?)?;
        Some(Self { clocks: (LogSeq(least), LogSeq(greatest)), kinds: reader.varint()? })
    }
}

/// The footer, but for the summary.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Footer {
    /// Where the ids begin; index and feed lists follow.
    pub(super) ids_at: usize,
    pub(super) feeds_bytes: usize,
    /// Bytes of the filter of fold keys; not known in blocks of version 1, which have none.
    pub(super) subjects_bytes: Option<usize>,
    /// Hash over the ids, which are the hashes of the bodies: names the content of the block.
    pub(super) content: [u8; 32],
    /// Hash over index and feed lists.
    pub(super) indexes: [u8; 32],
    /// The smallest and the greatest clock.
    pub(super) clocks: (LogSeq, LogSeq),
    pub(super) pages: Vec<PageEntry>,
}

/// Appends footer and trailer to the bytes of a block.
pub(super) fn append(
    out: &mut Vec<u8>,
    footer: &Footer,
    summary: &Summary,
    dictionary: &Dictionary,
) {
    let at = out.len();
    put_u64(out, footer.ids_at as u64);
    put_u64(out, footer.feeds_bytes as u64);
    out.extend_from_slice(&footer.content);
    out.extend_from_slice(&footer.indexes);
    put_u64(out, footer.clocks.0.0);
    put_u64(out, footer.clocks.1.0);
    if let Some(bytes) = footer.subjects_bytes {
        put_u64(out, bytes as u64);
    }
    put(out, footer.pages.len() as u64);
    for page in &footer.pages {
        put(out, u64::from(page.events));
        put(out, page.at as u64);
        put(out, page.length as u64);
        page.zone.iter().for_each(|zone| zone.put(out));
    }
    put_summary(out, summary, dictionary);
    let length = out.len() - at;
    let digest = hash(&[&out[at..]]);
    put_u64(out, at as u64);
    put_u64(out, length as u64);
    out.extend_from_slice(&digest);
    put_u64(out, (at + length + TRAILER_BYTES) as u64);
    out.extend_from_slice(MAGIC);
}

fn put_summary(out: &mut Vec<u8>, summary: &Summary, dictionary: &Dictionary) {
    put(out, summary.ends.len() as u64);
    for end in &summary.ends {
        let author = dictionary.authors.binary_search(&end.author).unwrap_or_default();
        put(out, u64::from(end.position));
        put(out, author as u64);
        put(out, end.seq);
        put(out, end.logseq.0);
    }
    put(out, summary.leaves.len() as u64);
    for (position, logseq) in &summary.leaves {
        put(out, u64::from(*position));
        put(out, logseq.0);
    }
    put(out, summary.structural.len() as u64);
    summary.structural.iter().for_each(|position| put(out, u64::from(*position)));
}

/// The footer's bytes, found through the trailer and checked.
pub(super) fn locate<'a>(bytes: &'a [u8], path: &str) -> Result<(usize, &'a [u8]), StoreError> {
    let trailer_at = bytes.len().saturating_sub(TRAILER_BYTES);
    let corrupt = |rule: &str| StoreError::corrupt(path, trailer_at as u64, rule);
    let trailer = &bytes[trailer_at..];
    if array_at(trailer, 56) != Some(*MAGIC) {
        return Err(corrupt("trailer"));
    }
    if u64_at(trailer, 48) != Some(bytes.len() as u64) {
        return Err(corrupt("length of the file"));
    }
    let footer = usize_at(trailer, 0).zip(usize_at(trailer, 8)).and_then(|(at, length)| {
        let footer = bytes[..trailer_at].get(at..)?;
        (footer.len() == length).then_some((at, footer))
    });
    let (at, footer) = footer.ok_or_else(|| corrupt("offset of the footer"))?;
    if array_at(trailer, 16) != Some(hash(&[footer])) {
        return Err(corrupt("checksum of the footer"));
    }
    Ok((at, footer))
}

impl Footer {
    /// Reads the footer of a block with that header, up to the summary, whose bytes are returned
    /// with it.
    pub(super) fn parse<'a>(bytes: &'a [u8], header: &Header) -> Option<(Self, Reader<'a>)> {
        let Header { version, pages, events, .. } = *header;
        let has_zones = version >= 2;
        let subjects_bytes = if has_zones { Some(usize_at(bytes, 96)?) } else { None };
        let mut reader = Reader::new(bytes.get(if has_zones { 104 } else { 96 }..)?);
        let mut list = Vec::with_capacity(pages as usize);
        let mut first = 0u32;
        if reader.varint()? != u64::from(pages) {
            return None;
        }
        for _ in 0..pages {
            let events = u32::try_from(reader.varint()?).ok()?;
            let (at, length) = (reader.length()?, reader.length()?);
            let zone = if has_zones { Some(Zone::take(&mut reader)?) } else { None };
            list.push(PageEntry { first, events, at, length, zone });
            first = first.checked_add(events)?;
        }
        let footer = Self {
            ids_at: usize_at(bytes, 0)?,
            feeds_bytes: usize_at(bytes, 8)?,
            subjects_bytes,
            content: array_at(bytes, 16)?,
            indexes: array_at(bytes, 48)?,
            clocks: (LogSeq(u64_at(bytes, 80)?), LogSeq(u64_at(bytes, 88)?)),
            pages: list,
        };
        (first == events).then_some((footer, reader))
    }
}

/// Reads the summary; the external links are in the dictionary.
pub(super) fn take_summary(reader: &mut Reader<'_>, authors: &[[u8; 32]]) -> Option<Summary> {
    let mut summary = Summary::default();
    for _ in 0..reader.varint()? {
        let position = u32::try_from(reader.varint()?).ok()?;
        let author = NodeKey(*authors.get(reader.length()?)?);
        let (seq, logseq) = (reader.varint()?, LogSeq(reader.varint()?));
        summary.ends.push(End { position, author, seq, logseq });
    }
    for _ in 0..reader.varint()? {
        summary.leaves.push((u32::try_from(reader.varint()?).ok()?, LogSeq(reader.varint()?)));
    }
    for _ in 0..reader.varint()? {
        summary.structural.push(u32::try_from(reader.varint()?).ok()?);
    }
    reader.is_empty().then_some(summary)
}
