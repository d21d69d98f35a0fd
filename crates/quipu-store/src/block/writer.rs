//! Seals events: writes the two files of a block, in memory.

use quipu_core::codec::pack::{Context, encode_heads, encode_payloads};
use quipu_core::event::{Event, Log, LogSeq};
use quipu_core::id::DomainId;
use quipu_core::limits::SIGNATURE_INTERVAL;

use super::dictionary::Dictionary;
use super::footer::{self, Footer, PageEntry, Zone};
use super::header::{HEADER_BYTES, Header};
use super::index::IndexShape;
use super::{BLOCK_VERSION, feeds, payload, subjects};
use crate::batch::batches;
use crate::bytes::{SUM_BYTES, hash, put_u32, sum16};
use crate::memory::Memory;
use crate::summary::Summary;

/// What precedes the packed heads of a page, so that pages can be found without the footer.
pub(super) const PAGE_MAGIC: &[u8; 4] = b"qpge";
/// Magic, number, events, position of the first, length, checksum.
pub(super) const PAGE_HEADER_BYTES: usize = 20 + SUM_BYTES;
/// Bytes of a page before compression, at most.
const PAGE_BYTES_MAX: usize = 1 << 20;

/// Which block it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct BlockInfo {
    pub(crate) domain: DomainId,
    pub(crate) log: Log,
    pub(crate) number: u64,
    pub(crate) first: u64,
}

/// The parts of a block that follow from its events alone, whoever compressed the pages.
#[derive(Debug)]
pub(super) struct Derived {
    pub(super) summary: Summary,
    pub(super) dictionary: Dictionary,
    pub(super) ids: Vec<[u8; 32]>,
    pub(super) index: Vec<u8>,
    pub(super) feeds: Vec<u8>,
    pub(super) subjects: Vec<u8>,
    pub(super) clocks: (LogSeq, LogSeq),
}

impl Derived {
    pub(super) fn of(memory: &Memory) -> Self {
        let events = &memory.events;
        let summary = Summary::of(events, &memory.index);
        let dictionary = Dictionary::of(events, summary.externals.clone());
        let ids: Vec<[u8; 32]> = events.iter().map(|event| event.id.0).collect();
        let index = IndexShape::of(ids.len()).encode(&ids);
        let feeds = feeds::encode(events, &dictionary.authors);
        let subjects = subjects::encode(events.iter().filter_map(|e| e.header.payload.subject));
        let clocks = events.iter().map(|event| event.header.logseq);
        let clocks = (clocks.clone().min().unwrap_or_default(), clocks.max().unwrap_or_default());
        Self { summary, dictionary, ids, index, feeds, subjects, clocks }
    }
}

/// The block file and the payload file for events.
pub(crate) fn encode_block(
    info: &BlockInfo,
    memory: &Memory,
    page_events: usize,
) -> (Vec<u8>, Vec<u8>) {
    encode_block_as(BLOCK_VERSION, info, memory, page_events)
}

/// The files as a version of the format has them.
pub(super) fn encode_block_as(
    version: u32,
    info: &BlockInfo,
    memory: &Memory,
    page_events: usize,
) -> (Vec<u8>, Vec<u8>) {
    let derived = Derived::of(memory);
    let dictionary = derived.dictionary.encode();
    let pages: Vec<&[Event]> = batches(&memory.events, page_events, PAGE_BYTES_MAX).collect();
    let header = Header {
        version,
        log: info.log,
        number: info.number,
        first: info.first,
        domain: info.domain,
        events: memory.events.len() as u32,
        pages: pages.len() as u32,
        dictionary_bytes: dictionary.len(),
    };
    let mut out = header.encode(&dictionary);
    debug_assert_eq!(out.len(), HEADER_BYTES);
    out.extend_from_slice(&dictionary);
    let mut payloads = Vec::with_capacity(pages.len());
    let mut context = derived.dictionary.writer();
    let mut entries = Vec::with_capacity(pages.len());
    let mut ends = derived.summary.ends.iter().map(|end| end.position).peekable();
    let mut first = 0;
    for page in pages {
        let is_end = |position: u32| ends.next_if_eq(&position).is_some();
        let page = thin_signatures(page, first, is_end);
        context.start_page(u64::from(first));
        let heads = encode_heads(&page, &mut context, &derived.dictionary);
        let zone = (version >= 2).then(|| Zone::of(&page, &derived.dictionary));
        entries.push(PageEntry {
            zone,
            ..put_page(&mut out, entries.len(), first, page.len(), &heads)
        });
        payloads.push(encode_payloads(&page, &mut context));
        first += page.len() as u32;
    }
    put_indexes(&mut out, version, &derived, entries);
    let content = hash(&[derived.ids.as_flattened()]);
    (out, payload::encode(&content, &payloads))
}

/// Keeps signatures only where others may ask for them: at every 64th place, and where a feed ends.
fn thin_signatures(page: &[Event], first: u32, mut is_end: impl FnMut(u32) -> bool) -> Vec<Event> {
    let mut page = page.to_vec();
    for (position, event) in (first..).zip(&mut page) {
        if !is_end(position) && !event.header.seq.is_multiple_of(SIGNATURE_INTERVAL) {
            event.signature = None;
        }
    }
    page
}

fn put_page(
    out: &mut Vec<u8>,
    number: usize,
    first: u32,
    events: usize,
    heads: &[u8],
) -> PageEntry {
    let at = out.len();
    out.extend_from_slice(PAGE_MAGIC);
    put_u32(out, number);
    put_u32(out, events);
    put_u32(out, first as usize);
    put_u32(out, heads.len());
    let sum = sum16(&[&out[at..], heads]);
    out.extend_from_slice(&sum);
    out.extend_from_slice(heads);
    PageEntry { first, events: events as u32, at, length: heads.len(), zone: None }
}

fn put_indexes(out: &mut Vec<u8>, version: u32, derived: &Derived, pages: Vec<PageEntry>) {
    let subjects = (version >= 2).then_some(&derived.subjects);
    let footer = Footer {
        ids_at: out.len(),
        feeds_bytes: derived.feeds.len(),
        subjects_bytes: subjects.map(Vec::len),
        content: hash(&[derived.ids.as_flattened()]),
        indexes: hash(&[&derived.index, &derived.feeds]),
        clocks: derived.clocks,
        pages,
    };
    out.extend_from_slice(derived.ids.as_flattened());
    out.extend_from_slice(&derived.index);
    out.extend_from_slice(&derived.feeds);
    subjects.iter().for_each(|subjects| out.extend_from_slice(subjects));
    footer::append(out, &footer, &derived.summary, &derived.dictionary);
}

/// The payload part of a page, from whole events.
pub(super) fn encode_payload_page(events: &[Event]) -> Vec<u8> {
    encode_payloads(events, &mut Context::writer())
}
