//! What a shard keeps of its events for the state: for each fold key the latest. Taking the latest
//! is associative, so shards may do it before they are merged, as often as they like.

use std::sync::{Arc, LazyLock};

use quipu_core::event::LogSeq;
use quipu_core::history::Ordinal;
use quipu_core::id::{EventId, Subject};
use quipu_core::kind;
use quipu_core::statement::Statement;
use quipu_core::subject::key_kinds;
use quipu_store::{ScanPayload, ScanRow, Segment};

use super::filter::IndexFilter;
use super::segment::Sink;

/// Kinds that a shard remembers by address.
const KINDS_MAX: usize = 64;
/// A shard folds when it holds this many rows, so that memory follows the keys and not the log.
const FOLD_ROWS_MIN: usize = 1 << 19;

/// Bytes of values that lie in one piece; a larger value has its own.
const PIECE_BYTES: usize = 1 << 20;

/// An event that may be the winner of its fold key.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Candidate {
    pub(crate) subject: Subject,
    pub(crate) id: EventId,
    pub(crate) logseq: LogSeq,
    pub(crate) ordinal: Ordinal,
    /// Where its value lies.
    value: Place,
    /// Place of its kind in [`KINDS`].
    kind: u32,
}

impl Candidate {
    /// What decides who wins (LOG-2).
    pub(crate) fn order(&self) -> (LogSeq, EventId) {
        (self.logseq, self.id)
    }

    /// What sorts candidates quickly: the first bytes of the key.
    fn prefix(&self) -> u64 {
        self.subject.0.first_chunk().map_or(0, |bytes| u64::from_be_bytes(*bytes))
    }

    /// Its kind.
    pub(crate) fn kind(&self) -> &'static str {
        KINDS.get(self.kind as usize).map_or("", |kind| kind.0)
    }

    /// What its kind is to the state.
    pub(crate) fn class(&self) -> Class {
        KINDS.get(self.kind as usize).map_or(Class::Silent, |kind| kind.1)
    }
}

/// What a kind is to the state.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Class {
    /// The winner itself is what is to be seen.
    Value,
    /// It says something of an artifact.
    Artifact,
    /// It is an edge.
    Edge,
    /// It shadows something that writes the same key, or is nothing to be seen.
    Silent,
}

/// The kinds that write fold keys, with their classes.
static KINDS: LazyLock<Vec<(&'static str, Class)>> =
    LazyLock::new(|| key_kinds().map(|kind| (kind, class_of(kind))).collect());

fn class_of(kind: &str) -> Class {
    match kind {
        kind::ARTIFACT_PUT
        | kind::ARTIFACT_IMPORT
        | kind::ARTIFACT_PUBLISH
        | kind::ARTIFACT_TOMBSTONE
        | kind::ARTIFACT_PIN
        | kind::ARTIFACT_UNPIN
        | kind::CONFLICT_RESOLVE => Class::Artifact,
        kind::EDGE_ADD => Class::Edge,
        kind::EDGE_TOMBSTONE
        | kind::SNAPSHOT_DROP
        | kind::PUBLICATION_RECORD
        | kind::DOMAIN_FOLLOW
        | kind::RECEIPT_ANNOUNCE
        | kind::RUN_REQUEST
        | kind::RUN_CLAIM
        | kind::RUN_OFFER => Class::Silent,
        _ => Class::Value,
    }
}

/// A place among values: piece, offset, length.
#[derive(Debug, Clone, Copy, Default)]
struct Place {
    piece: u32,
    at: u32,
    length: u32,
}

/// Values, in pieces that never move.
#[derive(Debug, Default)]
pub(crate) struct Values {
    pieces: Vec<Vec<u8>>,
    bytes: usize,
}

impl Values {
    fn put(&mut self, value: &[u8]) -> Place {
        let fits = |piece: &Vec<u8>| piece.capacity() - piece.len() >= value.len();
        if !self.pieces.last().is_some_and(fits) {
            self.pieces.push(Vec::with_capacity(PIECE_BYTES.max(value.len())));
        }
        let piece = self.pieces.len() - 1;
        let at = self.pieces[piece].len();
        self.pieces[piece].extend_from_slice(value);
        self.bytes += value.len();
        Place { piece: piece as u32, at: at as u32, length: value.len() as u32 }
    }

    fn get(&self, place: Place) -> &[u8] {
        let piece = self.pieces.get(place.piece as usize);
        let value =
            piece.and_then(|piece| piece.get(place.at as usize..)?.get(..place.length as usize));
        value.unwrap_or_default()
    }
}

/// The rows of a shard, sorted by key, each key once, and the values that they lead to.
#[derive(Debug, Default)]
pub(crate) struct Folded {
    pub(crate) rows: Vec<Candidate>,
    values: Values,
}

impl Folded {
    /// What a row says, if it says anything well formed.
    pub(crate) fn statement(&self, row: &Candidate) -> Option<Statement> {
        match row.value.length {
            0 => None,
            _ => Statement::of(row.kind(), self.values.get(row.value)),
        }
    }
}

/// The fold of a shard.
#[derive(Debug)]
pub(crate) struct ShardFold<'a> {
    index: IndexFilter<'a>,
    folded: Folded,
    fold_at: usize,
    /// Kinds that were met: place in [`KINDS`], and whether the value is kept.
    kinds: Vec<(Arc<str>, u32, bool)>,
    /// Rows that passed the filter.
    pub(crate) passed: u64,
}

impl<'a> ShardFold<'a> {
    pub(crate) fn new(index: IndexFilter<'a>) -> Self {
        let (folded, kinds) = (Folded::default(), Vec::new());
        Self { index, folded, fold_at: FOLD_ROWS_MIN, kinds, passed: 0 }
    }

    /// What is left of its rows.
    pub(crate) fn into_folded(self) -> Folded {
        self.folded
    }

    /// Place and use of a kind. Segments share few kinds, so this finds it by address.
    fn kind(&mut self, kind: &Arc<str>) -> (u32, bool) {
        let known = self.kinds.iter().find(|known| Arc::ptr_eq(&known.0, kind));
        if let Some((_, place, keeps)) = known {
            return (*place, *keeps);
        }
        let place = KINDS.iter().position(|(known, _)| *known == &**kind).unwrap_or(KINDS.len());
        let keeps = matches!(class_of(kind), Class::Artifact | Class::Edge);
        if self.kinds.len() >= KINDS_MAX {
            self.kinds.clear();
        }
        self.kinds.push((kind.clone(), place as u32, keeps));
        (place as u32, keeps)
    }

    /// Keeps the latest row of each key, sorted by key.
    fn fold(&mut self) {
        let rows = &self.folded.rows;
        let mut sorted: Vec<(u64, u32)> =
            rows.iter().zip(0u32..).map(|(row, n)| (row.prefix(), n)).collect();
        sorted.sort_unstable_by(|a, b| {
            let full = || {
                let (a, b) = (&rows[a.1 as usize], &rows[b.1 as usize]);
                a.subject.cmp(&b.subject).then_with(|| b.order().cmp(&a.order()))
            };
            a.0.cmp(&b.0).then_with(full)
        });
        sorted.dedup_by(|b, a| {
            a.0 == b.0 && rows[a.1 as usize].subject == rows[b.1 as usize].subject
        });
        let kept: Vec<Candidate> = sorted.iter().map(|(_, n)| rows[*n as usize]).collect();
        self.folded.rows = kept;
        self.fold_at = FOLD_ROWS_MIN.max(2 * self.folded.rows.len());
        self.drop_values();
    }

    /// Lets go of the values of rows that lost, if they are most of all.
    fn drop_values(&mut self) {
        let rows = &mut self.folded.rows;
        let used: usize = rows.iter().map(|row| row.value.length as usize).sum();
        if used * 2 > self.folded.values.bytes {
            return;
        }
        let mut values = Values::default();
        for row in rows {
            row.value = values.put(self.folded.values.get(row.value));
        }
        self.folded.values = values;
    }
}

impl Sink for ShardFold<'_> {
    fn skips(&self, segment: &Segment<'_>) -> bool {
        self.index.skips(segment)
    }

    fn take(&mut self, row: &ScanRow<'_>) {
        if !self.index.passes(row) {
            return;
        }
        self.passed += 1;
        let Some(subject) = row.subject() else { return };
        let (kind, keeps) = self.kind(row.kind);
        let value = match row.payload {
            ScanPayload::Value(value) if keeps => value,
            _ => &[],
        };
        let value = if value.is_empty() { Place::default() } else { self.folded.values.put(value) };
        let (id, logseq, ordinal) = (row.id, row.logseq, row.ordinal);
        let rows = &mut self.folded.rows;
        if rows.len() == rows.capacity() {
            // Not doubled: what is beyond the next fold is never used.
            rows.reserve_exact(self.fold_at.saturating_sub(rows.len()).max(1));
        }
        rows.push(Candidate { subject, id, logseq, ordinal, value, kind });
        if rows.len() >= self.fold_at {
            self.fold();
        }
    }

    fn finish(&mut self) {
        self.fold();
    }
}
