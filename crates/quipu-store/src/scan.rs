//! Reads many events without the cache: what passes a filter, and nothing that cannot.
//!
//! A log is a row of [`Segment`]s: one for each sealed block, and one for each stretch in memory.
//! What a block says of itself (clocks, kinds, authors, ids, fold keys) and what its pages say of
//! themselves decide what is not read at all. Several threads may read segments at once.
//!
//! *Invariant*: the rows are those of all events that pass the filter, in order of arrival.

use std::borrow::Cow;
use std::ops::Range;
use std::sync::Arc;

use quipu_core::codec::pack::{Brief, PayloadView};
use quipu_core::event::{Event, Log, LogSeq};
use quipu_core::history::Ordinal;
use quipu_core::id::{EventId, NodeKey, Subject};
use quipu_core::subject::subject_of;

use crate::block::Block;
use crate::disk::Disk;
use crate::error::StoreError;
use crate::memory::Memory;
use crate::store::Store;

/// Which events are wanted. The default is all of them, without payloads.
#[derive(Debug, Clone)]
pub struct ScanFilter {
    /// Only these kinds; all if none is named. A name that ends with a dot stands for all kinds
    /// that begin with it.
    pub kinds: Vec<String>,
    /// Only these authors; all if none is named.
    pub authors: Vec<NodeKey>,
    /// Only clocks from the first to the second, both included.
    pub clocks: (LogSeq, LogSeq),
    /// Only these ordinals.
    pub ordinals: Range<Ordinal>,
    /// Only these events; all if none is named.
    pub ids: Vec<EventId>,
    /// Only events that write one of these fold keys; all if none is named. Needs payloads.
    pub subjects: Vec<Subject>,
    /// Whether payloads are wanted.
    pub payloads: bool,
}

impl Default for ScanFilter {
    fn default() -> Self {
        Self {
            kinds: Vec::new(),
            authors: Vec::new(),
            clocks: (LogSeq(0), LogSeq(u64::MAX)),
            ordinals: 0..Ordinal::MAX,
            ids: Vec::new(),
            subjects: Vec::new(),
            payloads: false,
        }
    }
}

impl ScanFilter {
    /// Whether a kind is wanted.
    pub fn wants_kind(&self, kind: &str) -> bool {
        let named = |name: &String| name == kind || (name.ends_with('.') && kind.starts_with(name));
        self.kinds.is_empty() || self.kinds.iter().any(named)
    }

    fn wants_author(&self, author: &NodeKey) -> bool {
        self.authors.is_empty() || self.authors.contains(author)
    }

    fn wants_clock(&self, clock: LogSeq) -> bool {
        (self.clocks.0..=self.clocks.1).contains(&clock)
    }

    fn wants_id(&self, id: &EventId) -> bool {
        self.ids.is_empty() || self.ids.contains(id)
    }

    fn wants_subject(&self, subject: impl FnOnce() -> Option<Subject>) -> bool {
        self.subjects.is_empty() || subject().is_some_and(|one| self.subjects.contains(&one))
    }

    /// Whether clocks from the first to the second may be wanted.
    pub(crate) fn meets_clocks(&self, clocks: (LogSeq, LogSeq)) -> bool {
        clocks.0 <= self.clocks.1 && self.clocks.0 <= clocks.1
    }

    fn meets_ordinals(&self, range: &Range<Ordinal>) -> bool {
        range.start < self.ordinals.end && self.ordinals.start < range.end
    }

    /// Whether payloads have to be read.
    fn reads_payloads(&self) -> bool {
        self.payloads || !self.subjects.is_empty()
    }
}

/// What a row says of its payload.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ScanPayload<'a> {
    /// It was not asked for.
    NotRead,
    /// Its value.
    Value(&'a [u8]),
    /// It was erased or left out; the fold key is still known.
    Absent(Option<Subject>),
}

/// An event that passed a filter.
#[derive(Debug, Clone, Copy)]
pub struct ScanRow<'a> {
    /// Where it lies.
    pub ordinal: Ordinal,
    /// Its id.
    pub id: EventId,
    /// Who wrote it.
    pub author: NodeKey,
    /// Position in the author's feed.
    pub seq: u64,
    /// Its clock.
    pub logseq: LogSeq,
    /// Its kind.
    pub kind: &'a Arc<str>,
    /// Place of the kind in [`Segment::kinds`].
    pub kind_number: usize,
    /// Its payload.
    pub payload: ScanPayload<'a>,
    /// The fold key, if it is known without work.
    known: Option<Option<Subject>>,
}

impl ScanRow<'_> {
    /// The fold key that the event writes. Nothing either if payloads were not read.
    pub fn subject(&self) -> Option<Subject> {
        match (self.known, self.payload) {
            (Some(known), _) => known,
            (None, ScanPayload::Value(value)) => subject_of(self.kind, value),
            (None, ScanPayload::Absent(subject)) => subject,
            (None, ScanPayload::NotRead) => None,
        }
    }
}

/// What a scan cost. Bytes are those of files, and of memory for what is not in a block.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct ScanReport {
    /// Segments of which a page was read.
    pub segments_scanned: u64,
    /// Segments of which none was.
    pub segments_skipped: u64,
    /// Pages whose heads were read.
    pub pages_read: u64,
    /// Pages that were not.
    pub pages_skipped: u64,
    /// Bytes that were read.
    pub bytes_read: u64,
    /// Bytes that there are.
    pub bytes_total: u64,
    /// Events that were looked at.
    pub rows_in: u64,
    /// Events that passed.
    pub rows_out: u64,
}

impl std::ops::AddAssign for ScanReport {
    fn add_assign(&mut self, other: Self) {
        self.segments_scanned += other.segments_scanned;
        self.segments_skipped += other.segments_skipped;
        self.pages_read += other.pages_read;
        self.pages_skipped += other.pages_skipped;
        self.bytes_read += other.bytes_read;
        self.bytes_total += other.bytes_total;
        self.rows_in += other.rows_in;
        self.rows_out += other.rows_out;
    }
}

/// Receives rows.
pub type See<'a> = dyn FnMut(&ScanRow<'_>) + 'a;

#[derive(Debug, Clone, Copy)]
enum Part<'a> {
    Block(&'a Block),
    Memory(&'a Memory),
}

/// A stretch of a log that is read as one, and what is known of it without reading.
#[derive(Debug, Clone)]
pub struct Segment<'a> {
    part: Part<'a>,
    first: Ordinal,
    len: u64,
    clocks: (LogSeq, LogSeq),
    kinds: Vec<Arc<str>>,
    authors: Cow<'a, [NodeKey]>,
    bytes: u64,
}

impl<D: Disk> Store<D> {
    /// The segments of a log, oldest first. Empty ones are left out.
    pub fn segments(&self, log: Log) -> Vec<Segment<'_>> {
        let files = self.files(log);
        let blocks = files.blocks.iter().map(Segment::of_block);
        let memories = files.memories().map(|(first, memory)| Segment::of_memory(first, memory));
        blocks.chain(memories).filter(|segment| segment.len > 0).collect()
    }
}

impl<'a> Segment<'a> {
    fn of_block(block: &'a Block) -> Self {
        Self {
            part: Part::Block(block),
            first: block.first(),
            len: block.len(),
            clocks: block.clocks(),
            kinds: block.kinds().to_vec(),
            authors: block.author_keys().into(),
            bytes: block.file_bytes(),
        }
    }

    fn of_memory(first: Ordinal, memory: &'a Memory) -> Self {
        let heads = || memory.events.iter().map(|event| &event.header.head);
        let clocks = || heads().map(|head| head.logseq);
        let mut kinds: Vec<Arc<str>> = Vec::new();
        let mut authors: Vec<NodeKey> = heads().map(|head| head.author).collect();
        authors.sort_unstable();
        authors.dedup();
        for head in heads() {
            if let Err(place) = kinds.binary_search(&head.kind) {
                kinds.insert(place, head.kind.clone());
            }
        }
        Self {
            part: Part::Memory(memory),
            first,
            len: memory.events.len() as u64,
            clocks: (clocks().min().unwrap_or_default(), clocks().max().unwrap_or_default()),
            kinds,
            authors: authors.into(),
            bytes: memory.bytes as u64,
        }
    }

    /// Ordinals of its events.
    pub fn ordinals(&self) -> Range<Ordinal> {
        self.first..self.first + self.len
    }

    /// The smallest and the greatest clock.
    pub fn clocks(&self) -> (LogSeq, LogSeq) {
        self.clocks
    }

    /// The kinds that occur, sorted.
    pub fn kinds(&self) -> &[Arc<str>] {
        &self.kinds
    }

    /// The authors that occur, sorted.
    pub fn authors(&self) -> &[NodeKey] {
        &self.authors
    }

    /// Bytes in files, or in memory.
    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Whether it is a sealed block.
    pub fn is_block(&self) -> bool {
        matches!(self.part, Part::Block(_))
    }

    /// The report of a scan that skips all of it.
    pub fn skipped(&self) -> ScanReport {
        let pages = match self.part {
            Part::Block(block) => block.pages() as u64,
            Part::Memory(_) => 1,
        };
        ScanReport {
            segments_skipped: 1,
            pages_skipped: pages,
            bytes_total: self.bytes,
            ..ScanReport::default()
        }
    }

    /// Whether anything in it may pass, from clocks, ordinals, kinds, authors and ids.
    fn may_hold(&self, filter: &ScanFilter) -> bool {
        let known = |author: &NodeKey| self.authors.binary_search(author).is_ok();
        filter.meets_clocks(self.clocks)
            && filter.meets_ordinals(&self.ordinals())
            && self.kinds.iter().any(|kind| filter.wants_kind(kind))
            && (filter.authors.is_empty() || filter.authors.iter().any(known))
            && (filter.ids.is_empty() || filter.ids.iter().any(|id| self.holds(id)))
    }

    fn holds(&self, id: &EventId) -> bool {
        match self.part {
            Part::Block(block) => block.find(id).is_some(),
            Part::Memory(memory) => memory.index.contains_key(id),
        }
    }

    /// Shows the events that pass, in order of arrival.
    ///
    /// # Errors
    /// If a page is damaged. Then some rows may have been shown.
    pub fn scan(&self, filter: &ScanFilter, see: &mut See<'_>) -> Result<ScanReport, StoreError> {
        let mut report = self.skipped();
        if !self.may_hold(filter) {
            return Ok(report);
        }
        match self.part {
            Part::Block(block) => BlockScan::new(self, block, filter).run(see, &mut report)?,
            Part::Memory(memory) => self.scan_memory(memory, filter, see, &mut report),
        }
        if report.pages_read > 0 {
            (report.segments_scanned, report.segments_skipped) = (1, 0);
        }
        Ok(report)
    }

    fn scan_memory(
        &self,
        memory: &Memory,
        filter: &ScanFilter,
        see: &mut See<'_>,
        report: &mut ScanReport,
    ) {
        (report.pages_read, report.pages_skipped) = (1, 0);
        report.bytes_read = self.bytes;
        for (event, ordinal) in memory.events.iter().zip(self.first..) {
            report.rows_in += 1;
            if filter.wants_event(event, ordinal) {
                report.rows_out += 1;
                self.show(event, ordinal, filter, see);
            }
        }
    }

    fn show(&self, event: &Event, ordinal: Ordinal, filter: &ScanFilter, see: &mut See<'_>) {
        let subject = event.header.payload.subject;
        let payload = match (filter.reads_payloads(), event.payload_value()) {
            (false, _) => ScanPayload::NotRead,
            (true, Some(value)) => ScanPayload::Value(value),
            (true, None) => ScanPayload::Absent(subject),
        };
        see(&ScanRow {
            ordinal,
            id: event.id,
            author: event.header.author,
            seq: event.header.seq,
            logseq: event.header.logseq,
            kind: &event.header.kind,
            kind_number: self.kinds.binary_search(&event.header.kind).unwrap_or_default(),
            payload,
            known: Some(subject.filter(|_| filter.reads_payloads())),
        });
    }
}

impl ScanFilter {
    fn wants_event(&self, event: &Event, ordinal: Ordinal) -> bool {
        self.ordinals.contains(&ordinal)
            && self.wants_clock(event.header.logseq)
            && self.wants_kind(&event.header.kind)
            && self.wants_author(&event.header.author)
            && self.wants_id(&event.id)
            && self.wants_subject(|| event.header.payload.subject)
    }
}

/// One walk through a block.
struct BlockScan<'a> {
    segment: &'a Segment<'a>,
    block: &'a Block,
    filter: &'a ScanFilter,
    /// For each kind of the block whether it is wanted.
    kinds: Vec<bool>,
    /// The same as bits of a page's zone.
    kind_bits: u64,
    /// For each author of the block whether it is wanted; empty if all are.
    authors: Vec<bool>,
    /// Positions that may pass, if ids were named, sorted.
    positions: Option<Vec<u32>>,
}

impl<'a> BlockScan<'a> {
    fn new(segment: &'a Segment<'a>, block: &'a Block, filter: &'a ScanFilter) -> Self {
        let kinds: Vec<bool> = segment.kinds.iter().map(|kind| filter.wants_kind(kind)).collect();
        let wanted = kinds.iter().enumerate().filter(|(_, wanted)| **wanted);
        let kind_bits = wanted.fold(0, |bits, (kind, _)| bits | Block::kind_bit(kind));
        let authors = match filter.authors.is_empty() {
            true => Vec::new(),
            false => segment.authors.iter().map(|a| filter.authors.contains(a)).collect(),
        };
        let positions = (!filter.ids.is_empty()).then(|| {
            let mut found: Vec<u32> = filter.ids.iter().filter_map(|id| block.find(id)).collect();
            found.sort_unstable();
            found
        });
        Self { segment, block, filter, kinds, kind_bits, authors, positions }
    }

    fn run(&self, see: &mut See<'_>, report: &mut ScanReport) -> Result<(), StoreError> {
        if !self.filter.subjects.is_empty() {
            let (may_hold, bytes) = self.block.may_hold_subject(&self.filter.subjects)?;
            report.bytes_read += bytes;
            if !may_hold {
                return Ok(());
            }
        }
        let mut context = None;
        let mut passed: Vec<(u32, Brief)> = Vec::new();
        for page in 0..self.block.pages() {
            if !self.may_hold(page) {
                continue;
            }
            let context = match &mut context {
                Some(context) => context,
                none => {
                    report.bytes_read += self.block.check_ids()?;
                    none.insert(self.block.context())
                }
            };
            report.pages_read += 1;
            report.pages_skipped -= 1;
            passed.clear();
            let mut position = self.block.page_range(page).start;
            report.bytes_read += self.block.briefs(page, context, &mut |brief| {
                report.rows_in += 1;
                if self.wants(position, &brief) {
                    passed.push((position, brief));
                }
                position += 1;
            })?;
            if !self.filter.reads_payloads() {
                for (position, brief) in &passed {
                    report.rows_out += 1;
                    see(&self.row(*position, brief, ScanPayload::NotRead));
                }
            } else if !passed.is_empty() {
                report.bytes_read +=
                    self.with_payloads(page, context, &passed, see, &mut report.rows_out)?;
            }
        }
        Ok(())
    }

    fn may_hold(&self, page: usize) -> bool {
        let range = self.block.page_range(page);
        let has = |positions: &Vec<u32>| {
            let from = positions.partition_point(|position| *position < range.start);
            positions.get(from).is_some_and(|position| *position < range.end)
        };
        let ordinals =
            self.segment.first + u64::from(range.start)..self.segment.first + u64::from(range.end);
        let in_zone = |(clocks, kinds): ((LogSeq, LogSeq), u64)| {
            self.filter.meets_clocks(clocks) && kinds & self.kind_bits != 0
        };
        self.filter.meets_ordinals(&ordinals)
            && self.positions.as_ref().is_none_or(has)
            && self.block.zone(page).is_none_or(in_zone)
    }

    fn wants(&self, position: u32, brief: &Brief) -> bool {
        let flagged = |flags: &[bool], n: u32| flags.get(n as usize).copied().unwrap_or(false);
        flagged(&self.kinds, brief.kind)
            && (self.authors.is_empty() || flagged(&self.authors, brief.author))
            && self.filter.wants_clock(brief.logseq)
            && self.filter.ordinals.contains(&(self.segment.first + u64::from(position)))
            && self.positions.as_ref().is_none_or(|all| all.binary_search(&position).is_ok())
    }

    fn with_payloads(
        &self,
        page: usize,
        context: &mut quipu_core::codec::pack::Context,
        passed: &[(u32, Brief)],
        see: &mut See<'_>,
        rows_out: &mut u64,
    ) -> Result<u64, StoreError> {
        let mut position = self.block.page_range(page).start;
        let mut passed = passed.iter().peekable();
        self.block.visit_payloads(page, context, &mut |payload| {
            if let Some((_, brief)) = passed.next_if(|(wanted, _)| *wanted == position) {
                let payload = match payload {
                    PayloadView::Present { value, .. } => ScanPayload::Value(value),
                    PayloadView::Absent(reference) => ScanPayload::Absent(reference.subject),
                };
                let mut row = self.row(position, brief, payload);
                if self.filter.subjects.is_empty() {
                    *rows_out += 1;
                    see(&row);
                } else {
                    row.known = Some(row.subject());
                    if self.filter.wants_subject(|| row.subject()) {
                        *rows_out += 1;
                        see(&row);
                    }
                }
            }
            position += 1;
        })
    }

    fn row<'b>(&'b self, position: u32, brief: &Brief, payload: ScanPayload<'b>) -> ScanRow<'b> {
        let kind_number = brief.kind as usize;
        ScanRow {
            ordinal: self.segment.first + u64::from(position),
            id: EventId(self.block.ids().get(position as usize).copied().unwrap_or_default()),
            author: self.segment.authors.get(brief.author as usize).copied().unwrap_or_default(),
            seq: brief.seq,
            logseq: brief.logseq,
            kind: &self.segment.kinds[kind_number.min(self.segment.kinds.len() - 1)],
            kind_number,
            payload,
            known: None,
        }
    }
}
