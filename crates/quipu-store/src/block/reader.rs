//! Reads sealed blocks.

use std::ops::Range;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use bytes::Bytes;
use quipu_core::codec::pack::{
    Brief, Context, PackError, PayloadPart, PayloadView, Resolve, assemble_known, decode_briefs,
    decode_heads, decode_payloads, visit_payloads,
};
use quipu_core::event::{Event, EventSignature, Head, Log, LogSeq};
use quipu_core::id::{EventId, NodeKey, Subject};

use super::dictionary::{DictionaryView, EXTERNAL, ids};
use super::footer::{self, Footer, PageEntry, Zone};
use super::header::Header;
use super::index::IndexShape;
use super::payload::PayloadFile;
use super::writer::{BlockInfo, PAGE_HEADER_BYTES, encode_payload_page};
use super::{feeds, subjects};
use crate::bytes::{SUM_BYTES, hash, sum16};
use crate::disk::Disk;
use crate::error::StoreError;
use crate::summary::Summary;

/// The heads of a page and the signatures that are kept.
pub(crate) type HeadPage = Vec<(Head, Option<EventSignature>)>;
/// The payloads of a page.
pub(crate) type PayloadPage = Vec<PayloadPart>;

/// A sealed block, open for reading. Of its content only the small parts are in memory.
#[derive(Debug)]
pub(crate) struct Block {
    path: String,
    map: Bytes,
    payload: PayloadFile,
    pub(super) header: Header,
    pub(super) dictionary: DictionaryView,
    pub(super) footer: Footer,
    shape: IndexShape,
    /// Whether the ids are what the footer says, once somebody needed to know.
    ids_are_right: OnceLock<bool>,
    /// The same of the filter of fold keys.
    subjects_are_right: OnceLock<bool>,
    /// The last long feed that was asked for.
    long_feed: Mutex<Option<feeds::Long>>,
}

/// Paths of a block's files.
pub(crate) fn file_names(info: &BlockInfo) -> (String, String) {
    let stem = format!("{}/{:06}", info.log.name(), info.number);
    (format!("{stem}.block"), format!("{stem}.payload"))
}

fn map<D: Disk>(disk: &D, path: &str) -> Result<Bytes, StoreError> {
    disk.map(path).map_err(|error| match error.kind() {
        std::io::ErrorKind::NotFound => StoreError::corrupt(path, 0, "the file is missing"),
        _ => StoreError::io("read", path, error),
    })
}

impl Block {
    /// Opens a block: checks header, dictionary and footer, and leaves the rest for when it is
    /// read.
    pub(crate) fn open<D: Disk>(disk: &D, info: &BlockInfo) -> Result<Self, StoreError> {
        let (path, payload_path) = file_names(info);
        let (map, payload) = (map(disk, &path)?, map(disk, &payload_path)?);
        let header = Header::parse(&map, &path)?;
        check_info(&header, info, &path)?;
        let corrupt = |at: usize, rule: &str| StoreError::corrupt(&path, at as u64, rule);
        let dictionary = header.dictionary(&map).and_then(DictionaryView::parse);
        let dictionary = dictionary.ok_or_else(|| corrupt(0, "malformed dictionary"))?;
        let (footer_at, bytes) = footer::locate(&map, &path)?;
        let footer = Footer::parse(bytes, &header);
        let (footer, _) = footer.ok_or_else(|| corrupt(footer_at, "malformed footer"))?;
        let shape = IndexShape::of(header.events as usize);
        let expected = footer
            .ids_at
            .checked_add(32 * header.events as usize + shape.bytes())
            .and_then(|end| end.checked_add(footer.feeds_bytes))
            .and_then(|end| end.checked_add(footer.subjects_bytes.unwrap_or_default()));
        if expected != Some(footer_at) {
            return Err(corrupt(footer_at, "sizes in the footer do not add up"));
        }
        let payload =
            PayloadFile::open(payload_path, payload, &footer.content, footer.pages.len())?;
        Ok(Self {
            path,
            map,
            payload,
            header,
            dictionary,
            footer,
            shape,
            ids_are_right: OnceLock::new(),
            subjects_are_right: OnceLock::new(),
            long_feed: Mutex::new(None),
        })
    }

    /// Opens the payload file again, after it was replaced.
    pub(crate) fn reopen_payload<D: Disk>(
        &mut self,
        disk: &D,
        path: &str,
    ) -> Result<(), StoreError> {
        let map = map(disk, path)?;
        let pages = self.footer.pages.len();
        self.payload = PayloadFile::open(path.to_owned(), map, &self.footer.content, pages)?;
        Ok(())
    }

    /// The log that it is of.
    pub(crate) fn log(&self) -> Log {
        self.header.log
    }

    /// Which block it is.
    pub(crate) fn info(&self) -> BlockInfo {
        let Header { domain, log, number, first, .. } = self.header;
        BlockInfo { domain, log, number, first }
    }

    /// Its number in its directory.
    pub(crate) fn number(&self) -> u64 {
        self.header.number
    }

    /// Ordinal of the first event.
    pub(crate) fn first(&self) -> u64 {
        self.header.first
    }

    /// Number of events.
    pub(crate) fn len(&self) -> u64 {
        u64::from(self.header.events)
    }

    /// Path of its block file.
    pub(crate) fn path(&self) -> &str {
        &self.path
    }

    /// Ids by position.
    pub(crate) fn ids(&self) -> &[[u8; 32]] {
        ids(&self.map, self.footer.ids_at, self.header.events as usize)
    }

    pub(super) fn index(&self) -> &[u8] {
        let start = self.footer.ids_at + 32 * self.header.events as usize;
        self.map.get(start..).and_then(|rest| rest.get(..self.shape.bytes())).unwrap_or_default()
    }

    pub(super) fn feeds(&self) -> &[u8] {
        let start = self.footer.ids_at + 32 * self.header.events as usize + self.shape.bytes();
        self.map
            .get(start..)
            .and_then(|rest| rest.get(..self.footer.feeds_bytes))
            .unwrap_or_default()
    }

    /// The filter of fold keys, if it has one.
    pub(super) fn subjects(&self) -> Option<&[u8]> {
        let length = self.footer.subjects_bytes?;
        let start = self.footer.ids_at
            + 32 * self.header.events as usize
            + self.shape.bytes()
            + self.footer.feeds_bytes;
        self.map.get(start..)?.get(..length)
    }

    /// Whether an event may write one of these fold keys, and how many bytes were read to know.
    pub(crate) fn may_hold_subject(&self, wanted: &[Subject]) -> Result<(bool, u64), StoreError> {
        let Some(filter) = self.subjects() else { return Ok((true, 0)) };
        if !*self.subjects_are_right.get_or_init(|| subjects::is_right(filter)) {
            let at = self.footer.ids_at as u64;
            return Err(StoreError::corrupt(&self.path, at, "checksum of the fold keys"));
        }
        let found = wanted.iter().any(|subject| subjects::may_hold(filter, subject));
        Ok((found, filter.len() as u64))
    }

    /// The clocks and kinds of a page, if they are known. Kinds are bits: see [`Block::kind_bit`].
    pub(crate) fn zone(&self, page: usize) -> Option<((LogSeq, LogSeq), u64)> {
        self.footer.pages.get(page)?.zone.map(|zone| (zone.clocks, zone.kinds))
    }

    /// The bit that stands for a kind in [`Block::zone`].
    pub(crate) fn kind_bit(kind: usize) -> u64 {
        Zone::bit_of(kind)
    }

    pub(super) fn dictionary_bytes(&self) -> &[u8] {
        self.header.dictionary(&self.map).unwrap_or_default()
    }

    /// The whole file.
    pub(super) fn bytes(&self) -> &[u8] {
        &self.map
    }

    /// The payload file.
    pub(super) fn payload_file(&self) -> &PayloadFile {
        &self.payload
    }

    fn authors(&self) -> &[[u8; 32]] {
        self.dictionary.authors(self.dictionary_bytes())
    }

    /// The position of an event.
    pub(crate) fn find(&self, id: &EventId) -> Option<u32> {
        self.shape.find(self.index(), self.ids(), id)
    }

    /// Seq and position of an author's events.
    pub(crate) fn feed(
        &self,
        author: &NodeKey,
        seqs: &Range<u64>,
    ) -> Result<Vec<(u64, u32)>, StoreError> {
        let authors = self.authors();
        let Ok(number) = authors.binary_search(&author.0) else { return Ok(Vec::new()) };
        let mut long = self.long_feed.lock().unwrap_or_else(PoisonError::into_inner);
        if !long.as_ref().is_some_and(|long| long.is_of(number))
            && let Some(read) = feeds::Long::read(self.feeds(), number, authors.len())
        {
            *long = Some(read);
        }
        if let Some(long) = long.as_ref().filter(|long| long.is_of(number)) {
            return Ok(long.part(seqs));
        }
        feeds::list(self.feeds(), number, authors.len(), seqs).ok_or_else(|| {
            StoreError::corrupt(&self.path, self.footer.ids_at as u64, "malformed feed list")
        })
    }

    /// What a machine must know of the block when it starts.
    pub(crate) fn summary(&self) -> Result<Summary, StoreError> {
        let (at, bytes) = footer::locate(&self.map, &self.path)?;
        let summary = Footer::parse(bytes, &self.header)
            .and_then(|(_, mut reader)| footer::take_summary(&mut reader, self.authors()))
            .filter(|summary| summary.ends.iter().all(|e| e.position < self.header.events))
            .filter(|summary| summary.leaves.iter().all(|l| l.0 < self.header.events));
        let mut summary = summary
            .ok_or_else(|| StoreError::corrupt(&self.path, at as u64, "malformed summary"))?;
        summary.externals = self.dictionary.externals_with_use(self.dictionary_bytes());
        Ok(summary)
    }

    /// The page that holds a position.
    pub(crate) fn page_of(&self, position: u32) -> usize {
        self.footer.pages.partition_point(|page| page.first <= position).saturating_sub(1)
    }

    /// Positions of a page.
    pub(crate) fn page_range(&self, page: usize) -> Range<u32> {
        self.footer.pages.get(page).map_or(0..0, |page| page.first..page.first + page.events)
    }

    /// Number of pages.
    pub(crate) fn pages(&self) -> usize {
        self.footer.pages.len()
    }

    /// A context in which pages can be read, one after another in any order.
    pub(crate) fn context(&self) -> Context {
        self.dictionary.reader(self.dictionary_bytes())
    }

    /// The smallest and the greatest clock.
    pub(crate) fn clocks(&self) -> (LogSeq, LogSeq) {
        self.footer.clocks
    }

    /// The kinds of its events, sorted.
    pub(crate) fn kinds(&self) -> &[Arc<str>] {
        &self.dictionary.kinds
    }

    /// The authors of its events, sorted.
    pub(crate) fn author_keys(&self) -> Vec<NodeKey> {
        self.authors().iter().copied().map(NodeKey).collect()
    }

    /// Bytes of its two files.
    pub(crate) fn file_bytes(&self) -> u64 {
        (self.map.len() + self.payload.len()) as u64
    }

    /// Checks the ids, once: everything in the pages refers to them. Answers how many bytes they
    /// are.
    pub(crate) fn check_ids(&self) -> Result<u64, StoreError> {
        let ids = self.ids().as_flattened();
        if *self.ids_are_right.get_or_init(|| hash(&[ids]) == self.footer.content) {
            return Ok(ids.len() as u64);
        }
        let at = self.footer.ids_at as u64;
        Err(StoreError::corrupt(&self.path, at, "checksum of the ids"))
    }

    /// The packed heads of a page, checked.
    fn packed_heads(&self, page: usize) -> Result<(&PageEntry, &[u8]), StoreError> {
        let corrupt = |at: usize, rule: String| StoreError::corrupt(&self.path, at as u64, rule);
        let entry = self.footer.pages.get(page);
        let entry = entry.ok_or_else(|| corrupt(0, "no such page".to_owned()))?;
        let heads = self.page_bytes(entry);
        Ok((entry, heads.ok_or_else(|| corrupt(entry.at, format!("checksum of page {page}")))?))
    }

    fn bad_page(&self, page: usize, error: &PackError) -> StoreError {
        let at = self.footer.pages.get(page).map_or(0, |page| page.at as u64);
        StoreError::corrupt(&self.path, at, format!("page {page}: {error}"))
    }

    fn bad_payloads(&self, page: usize, error: &PackError) -> StoreError {
        let (_, path) = self.path.rsplit_once('/').unwrap_or(("", &self.path));
        StoreError::corrupt(path, 0, format!("payload page {page}: {error}"))
    }

    /// Reads the heads of a page.
    pub(crate) fn heads(&self, page: usize, context: &mut Context) -> Result<HeadPage, StoreError> {
        self.check_ids()?;
        let (entry, heads) = self.packed_heads(page)?;
        let ids = self.ids();
        let mut out = HeadPage::with_capacity(entry.events as usize);
        let mut position = entry.first as usize;
        context.start_page(u64::from(entry.first));
        decode_heads(heads, entry.events as usize, context, &Links(self), |head, signature| {
            out.push((head, signature));
            position += 1;
            EventId(ids.get(position - 1).copied().unwrap_or_default())
        })
        .map_err(|error| self.bad_page(page, &error))?;
        Ok(out)
    }

    /// Shows what stands in the heads of a page beside the links. Answers how many bytes it read.
    pub(crate) fn briefs(
        &self,
        page: usize,
        context: &mut Context,
        see: &mut dyn FnMut(Brief),
    ) -> Result<u64, StoreError> {
        let (entry, heads) = self.packed_heads(page)?;
        decode_briefs(heads, entry.events as usize, context, see)
            .map_err(|error| self.bad_page(page, &error))?;
        Ok((PAGE_HEADER_BYTES + heads.len()) as u64)
    }

    /// Shows the payloads of a page. Answers how many bytes it read.
    pub(crate) fn visit_payloads(
        &self,
        page: usize,
        context: &mut Context,
        see: &mut dyn FnMut(PayloadView<'_>),
    ) -> Result<u64, StoreError> {
        let bytes = self.payload.page(page)?;
        visit_payloads(&bytes, self.page_range(page).len(), context, see)
            .map_err(|error| self.bad_payloads(page, &error))?;
        Ok(bytes.len() as u64)
    }

    fn page_bytes(&self, entry: &PageEntry) -> Option<&[u8]> {
        let page = self.map.get(entry.at..)?.get(..PAGE_HEADER_BYTES + entry.length)?;
        let (header, heads) = page.split_at(PAGE_HEADER_BYTES);
        let (fields, sum) = header.split_at(PAGE_HEADER_BYTES - SUM_BYTES);
        (sum16(&[fields, heads]) == sum).then_some(heads)
    }

    /// Reads the payloads of a page.
    pub(crate) fn payloads(
        &self,
        page: usize,
        context: &mut Context,
    ) -> Result<PayloadPage, StoreError> {
        let bytes = self.payload.page(page)?;
        decode_payloads(&bytes, self.page_range(page).len(), context)
            .map_err(|error| self.bad_payloads(page, &error))
    }

    /// Reads the events of a page.
    pub(crate) fn events(
        &self,
        page: usize,
        context: &mut Context,
    ) -> Result<Vec<Event>, StoreError> {
        let heads = self.heads(page, context)?;
        let payloads = self.payloads(page, context)?;
        let ids = self.ids().iter().skip(self.page_range(page).start as usize);
        let parts = heads.into_iter().zip(payloads).zip(ids);
        Ok(parts.map(|(((h, s), p), id)| assemble_known(EventId(*id), h, p, s)).collect())
    }

    /// The payload file without one payload.
    pub(crate) fn without_payload(&self, position: u32) -> Result<Vec<u8>, StoreError> {
        let page = self.page_of(position);
        let mut events = self.events(page, &mut self.context())?;
        let index = position - self.page_range(page).start;
        if let Some(event) = events.get_mut(index as usize) {
            event.payload = None;
        }
        self.payload.with_page(&self.footer.content, page, encode_payload_page(&events))
    }
}

fn check_info(header: &Header, info: &BlockInfo, path: &str) -> Result<(), StoreError> {
    if header.domain != info.domain {
        return Err(StoreError::WrongDomain {
            path: path.to_owned(),
            found: header.domain,
            expected: info.domain,
        });
    }
    let at_its_place =
        (header.log, header.number, header.first) == (info.log, info.number, info.first);
    if at_its_place {
        Ok(())
    } else {
        Err(StoreError::corrupt(
            path,
            0,
            "a block of another place: one before it is missing or was changed",
        ))
    }
}

/// How the pages of a block find what they link to.
struct Links<'a>(&'a Block);

impl Resolve for Links<'_> {
    fn id_at(&self, author: &NodeKey, seq: u64) -> Option<EventId> {
        let externals = self.0.dictionary.externals(self.0.dictionary_bytes());
        let external = externals.get(usize::try_from(seq).ok()?)?;
        (*author == EXTERNAL).then_some(EventId(*external))
    }
    fn author_with_prefix(&self, _prefix: &[u8]) -> Option<NodeKey> {
        None
    }
    fn id_at_position(&self, position: u64) -> Option<EventId> {
        self.0.ids().get(usize::try_from(position).ok()?).copied().map(EventId)
    }
}
