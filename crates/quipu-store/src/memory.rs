//! Events that are not in a sealed block: all of them in memory, with the indexes over them.

use std::ops::Range;

use quipu_core::event::Event;
use quipu_core::id::{EventId, IdMap, NodeKey};

use crate::batch::weight;
use crate::error::StoreError;

/// An author's events, in order of arrival.
#[derive(Debug, Clone, Default)]
struct Feed {
    /// Seq and position.
    list: Vec<(u64, u32)>,
    /// Whether the list has a gap or a fork, so that a seq is not found by its place.
    irregular: bool,
}

impl Feed {
    fn push(&mut self, seq: u64, position: u32) {
        self.irregular |= self.list.last().is_some_and(|last| last.0.checked_add(1) != Some(seq));
        self.list.push((seq, position));
    }
}

/// Events in order of arrival, and where to find them. Positions count from the first of them.
#[derive(Debug, Clone, Default)]
pub(crate) struct Memory {
    /// The events.
    pub(crate) events: Vec<Event>,
    /// Position of each event.
    pub(crate) index: IdMap<EventId, u32>,
    /// Events by author.
    feeds: IdMap<NodeKey, Feed>,
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
            let feed = self.feeds.entry(event.header.author).or_default();
            feed.push(event.header.seq, position);
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
        let list = self.feeds.get(author).map_or(&[][..], |feed| match feed.irregular {
            true => &feed.list,
            false => {
                let from = feed.list.partition_point(|(seq, _)| *seq < seqs.start);
                let to = feed.list.partition_point(|(seq, _)| *seq < seqs.end);
                &feed.list[from..to.max(from)]
            }
        });
        let seqs = seqs.clone();
        list.iter().copied().filter(move |(seq, _)| seqs.contains(seq))
    }

    /// Removes a payload. Answers how many bytes it had.
    pub(crate) fn erase(&mut self, position: usize) -> u64 {
        let payload = self.events.get_mut(position).and_then(|event| event.payload.take());
        payload.map_or(0, |payload| payload.len() as u64)
    }
}
