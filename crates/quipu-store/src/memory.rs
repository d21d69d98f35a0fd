//! Events that are not in a sealed block: all of them in memory, with the indexes over them.

use std::ops::Range;

use quipu_core::event::Event;
use quipu_core::id::{EventId, IdMap, NodeKey};

use crate::batch::weight;
use crate::error::StoreError;

/// Events in order of arrival, and where to find them. Positions count from the first of them.
#[derive(Debug, Clone, Default)]
pub(crate) struct Memory {
    /// The events.
    pub(crate) events: Vec<Event>,
    /// Position of each event.
    pub(crate) index: IdMap<EventId, u32>,
    /// Seq and position of each author's events, in order of arrival.
    feeds: IdMap<NodeKey, Vec<(u64, u32)>>,
    /// What the events take in a file before compression, roughly.
    pub(crate) bytes: usize,
}

impl Memory {
    /// Adds events, all or none.
    pub(crate) fn append(
        &mut self,
        events: impl ExactSizeIterator<Item = Event>,
    ) -> Result<(), StoreError> {
        let start = self.events.len();
        self.events.reserve(events.len());
        self.index.reserve(events.len());
        for event in events {
            let position = self.events.len() as u32;
            if self.index.insert(event.id, position).is_some() {
                self.events.push(event);
                self.cut(start);
                return Err(StoreError::Misuse("an event was appended twice"));
            }
            self.feeds.entry(event.header.author).or_default().push((event.header.seq, position));
            self.bytes += weight(&event);
            self.events.push(event);
        }
        Ok(())
    }

    /// Takes back everything from a position on, after a failure: slow and rare.
    fn cut(&mut self, start: usize) {
        self.events.truncate(start);
        let events = std::mem::take(&mut self.events);
        *self = Self::default();
        // These were accepted before, so they are distinct.
        let _ = self.append(events.into_iter());
    }

    /// An author's events with a seq in the range.
    pub(crate) fn feed(
        &self,
        author: &NodeKey,
        seqs: &Range<u64>,
    ) -> impl Iterator<Item = (u64, u32)> {
        let list = self.feeds.get(author).map_or(&[][..], Vec::as_slice);
        // Most feeds are one chain, so the wanted part is found by its place; forks and gaps are
        // found by looking at all.
        let chained = list.first().zip(list.last()).is_some_and(|(first, last)| {
            last.0.checked_sub(first.0) == Some(list.len() as u64 - 1)
                && list.is_sorted_by(|a, b| a.0 < b.0)
        });
        let list = match chained {
            true => {
                let from = list.partition_point(|(seq, _)| *seq < seqs.start);
                let to = list.partition_point(|(seq, _)| *seq < seqs.end);
                &list[from..to.max(from)]
            }
            false => list,
        };
        let seqs = seqs.clone();
        list.iter().copied().filter(move |(seq, _)| seqs.contains(seq))
    }

    /// Removes a payload. Answers how many bytes it had.
    pub(crate) fn erase(&mut self, position: usize) -> u64 {
        let payload = self.events.get_mut(position).and_then(|event| event.payload.take());
        payload.map_or(0, |payload| payload.len() as u64)
    }
}
