//! What a shard keeps of its events for a list: the first so many in order.

use std::cmp::Ordering;

use quipu_core::event::LogSeq;
use quipu_core::id::EventId;
use quipu_store::{ScanRow, Segment};

use super::filter::IndexFilter;
use super::projection::{EventRow, Field, project};
use super::segment::Sink;

/// The list of a shard.
#[derive(Debug)]
pub(crate) struct ShardList<'a> {
    pub(crate) index: IndexFilter<'a>,
    pub(crate) fields: &'a [Field],
    pub(crate) newest_first: bool,
    pub(crate) limit: usize,
    pub(crate) rows: Vec<EventRow>,
    /// Rows that passed the filter.
    pub(crate) passed: u64,
    /// The last row that is within the limit, once there are enough.
    pub(crate) last: Option<(LogSeq, EventId)>,
}

/// Rows beyond twice the limit that are kept before they are sorted.
const SLACK_ROWS: usize = 16;

/// How two places compare in a list.
pub(crate) fn compare<T: Ord>(newest_first: bool, a: &T, b: &T) -> Ordering {
    if newest_first { b.cmp(a) } else { a.cmp(b) }
}

impl ShardList<'_> {
    /// Sorts, and lets go of what is beyond the limit.
    fn settle(&mut self) {
        let newest_first = self.newest_first;
        self.rows.sort_unstable_by(|a, b| compare(newest_first, &a.order(), &b.order()));
        self.rows.truncate(self.limit);
        if self.rows.len() == self.limit {
            self.last = self.rows.last().map(EventRow::order);
        }
    }

    fn is_beyond(&self, order: &(LogSeq, EventId)) -> bool {
        self.last.is_some_and(|last| compare(self.newest_first, order, &last).is_gt())
    }
}

impl Sink for ShardList<'_> {
    fn skips(&self, segment: &Segment<'_>) -> bool {
        let clocks = segment.clocks();
        let beyond = self.last.is_some_and(|(last, _)| match self.newest_first {
            true => clocks.1 < last,
            false => clocks.0 > last,
        });
        beyond || self.limit == 0 || self.index.skips(segment)
    }

    /// What is most likely to be within the limit comes first.
    fn arrange(&self, segments: &mut [&Segment<'_>]) {
        match self.newest_first {
            true => segments.sort_by_key(|segment| std::cmp::Reverse(segment.clocks().1)),
            false => segments.sort_by_key(|segment| segment.clocks().0),
        }
    }

    fn take(&mut self, row: &ScanRow<'_>) {
        if !self.index.passes(row) {
            return;
        }
        self.passed += 1;
        if self.is_beyond(&(row.logseq, row.id)) {
            return;
        }
        self.rows.push(project(row, self.fields));
        if self.rows.len() >= self.limit.saturating_mul(2).saturating_add(SLACK_ROWS) {
            self.settle();
        }
    }

    fn finish(&mut self) {
        self.settle();
    }
}
