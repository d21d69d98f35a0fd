//! The operator IndexFilter: which events count, by their place in the log and by their id.
//!
//! What a block can answer by itself (kinds, authors, clocks, ids, fold keys) is part of the scan's
//! [`ScanFilter`]; here is what only this machine knows.

use std::fmt;

use quipu_core::id::EventId;
use quipu_store::{ScanFilter, ScanRow, Segment};

use crate::cut::Cut;

/// Tells which events are to be left out, for instance because they are quarantined.
pub type IsAside<'a> = dyn Fn(&EventId) -> bool + Sync + 'a;

/// Which events count.
#[derive(Clone, Copy)]
pub struct IndexFilter<'a> {
    /// Only those of a cut; all if there is none.
    pub cut: Option<&'a Cut>,
    /// None of these.
    pub is_aside: &'a IsAside<'a>,
}

impl fmt::Debug for IndexFilter<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("IndexFilter").field("cut", &self.cut.map(Cut::len)).finish_non_exhaustive()
    }
}

impl IndexFilter<'_> {
    /// Every event.
    pub fn all() -> IndexFilter<'static> {
        IndexFilter { cut: None, is_aside: &|_| false }
    }

    /// Whether an event counts.
    pub fn passes(&self, row: &ScanRow<'_>) -> bool {
        self.cut.is_none_or(|cut| cut.contains(row.ordinal)) && !(self.is_aside)(&row.id)
    }

    /// Whether no event of a segment counts.
    pub(crate) fn skips(&self, segment: &Segment<'_>) -> bool {
        self.cut.is_some_and(|cut| !cut.meets(&segment.ordinals()))
    }

    /// Lets a scan know what it need not read.
    pub(crate) fn narrow(&self, filter: &mut ScanFilter) {
        if let Some(cut) = self.cut {
            filter.ordinals.end = filter.ordinals.end.min(cut.end());
        }
    }

    pub(crate) fn details(&self) -> String {
        self.cut.map_or(String::new(), |cut| format!("cut of {} events", cut.len()))
    }
}
