//! What a machine must know of a stretch of a log when it starts, and how stretches add up.

use std::collections::BTreeMap;

use quipu_core::event::{Event, LogSeq};
use quipu_core::history::{FeedEnd, Ordinal, Outline};
use quipu_core::id::{EventId, IdMap, NodeKey};
use quipu_core::kind::is_structural;

/// The end of a feed within a stretch: no event of the stretch names it as `prev`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct End {
    pub(crate) position: u32,
    pub(crate) author: NodeKey,
    pub(crate) seq: u64,
    pub(crate) logseq: LogSeq,
}

/// The outline of a stretch of a log: a block, or the events in memory.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Summary {
    /// Ends of feeds, by position.
    pub(crate) ends: Vec<End>,
    /// Events that nothing in the stretch links to, by position.
    pub(crate) leaves: Vec<(u32, LogSeq)>,
    /// Events of structural kinds, by position.
    pub(crate) structural: Vec<u32>,
    /// Events outside that the stretch links to, sorted; whether as `prev` of one of its events.
    pub(crate) externals: Vec<(EventId, bool)>,
}

impl Summary {
    /// The summary of events, given their positions.
    pub(crate) fn of(events: &[Event], index: &IdMap<EventId, u32>) -> Self {
        let mut linked = vec![false; events.len()];
        let mut continued = vec![false; events.len()];
        let mut externals = BTreeMap::new();
        for event in events {
            for link in event.header.links() {
                let as_prev = event.header.prev == Some(*link);
                match index.get(link) {
                    Some(position) => {
                        linked[*position as usize] = true;
                        continued[*position as usize] |= as_prev;
                    }
                    None => *externals.entry(*link).or_default() |= as_prev,
                }
            }
        }
        let mut summary = Self { externals: externals.into_iter().collect(), ..Self::default() };
        for (position, event) in events.iter().enumerate() {
            summary.take(position as u32, event, linked[position], continued[position]);
        }
        summary
    }

    fn take(&mut self, position: u32, event: &Event, linked: bool, continued: bool) {
        let logseq = event.header.logseq;
        if !continued {
            let (author, seq) = (event.header.author, event.header.seq);
            self.ends.push(End { position, author, seq, logseq });
        }
        if !linked {
            self.leaves.push((position, logseq));
        }
        if is_structural(&event.header.kind) {
            self.structural.push(position);
        }
    }
}

/// Adds up the summaries of a log, from its first stretch to its last.
#[derive(Debug, Default)]
pub(crate) struct OutlineBuilder {
    ends: IdMap<EventId, FeedEnd>,
    leaves: IdMap<EventId, LogSeq>,
    structural: Vec<Ordinal>,
}

impl OutlineBuilder {
    /// Adds the next stretch, which begins at an ordinal.
    pub(crate) fn add(
        &mut self,
        first: Ordinal,
        summary: &Summary,
        id_of: impl Fn(u32) -> EventId,
    ) {
        for (id, as_prev) in &summary.externals {
            self.leaves.remove(id);
            if *as_prev {
                self.ends.remove(id);
            }
        }
        for End { position, author, seq, logseq } in &summary.ends {
            let (id, ordinal) = (id_of(*position), first + u64::from(*position));
            let end = FeedEnd { author: *author, seq: *seq, id, logseq: *logseq, ordinal };
            self.ends.insert(id, end);
        }
        for (position, logseq) in &summary.leaves {
            self.leaves.insert(id_of(*position), *logseq);
        }
        self.structural.extend(summary.structural.iter().map(|p| first + u64::from(*p)));
    }

    /// The outline of the whole log.
    pub(crate) fn finish(self) -> Outline {
        let mut feed_ends: Vec<_> = self.ends.into_values().collect();
        feed_ends.sort_unstable();
        let mut leaves: Vec<_> = self.leaves.into_iter().collect();
        leaves.sort_unstable();
        Outline { feed_ends, leaves, structural: self.structural }
    }
}
