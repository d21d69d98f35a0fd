//! A history in memory, as plain as can be.

use std::convert::Infallible;
use std::ops::Range;

use quipu_core::artifact::group_count;
use quipu_core::event::{Event, Log};
use quipu_core::history::{FeedEnd, History, Ordinal, Outline, Place};
use quipu_core::id::{ArtifactId, EventId, NodeKey};

/// An artifact that is held.
pub(crate) const HELD: ArtifactId = ArtifactId([1; 32]);
/// Its size.
pub(crate) const HELD_BYTES: u64 = 1 << 20;

/// Events in order of arrival.
#[derive(Debug, Default, Clone)]
pub(crate) struct Memory(pub(crate) Vec<Event>);

impl Memory {
    fn slice(&self, log: Log, range: Range<Ordinal>) -> &[Event] {
        match log {
            Log::Internal => &self.0[range.start as usize..range.end as usize],
            Log::Published => &[],
        }
    }
}

impl History for Memory {
    type Error = Infallible;

    fn count(&self, log: Log) -> u64 {
        if log == Log::Internal { self.0.len() as u64 } else { 0 }
    }

    fn find(&self, _log: Log, id: &EventId) -> Result<Option<Ordinal>, Infallible> {
        Ok(self.0.iter().position(|event| event.id == *id).map(|at| at as Ordinal))
    }

    fn place(&self, _log: Log, ordinal: Ordinal) -> Result<Place, Infallible> {
        let event = &self.0[ordinal as usize];
        Ok(Place { id: event.id, head: event.header.head.clone() })
    }

    fn events(&self, log: Log, range: Range<Ordinal>) -> Result<Vec<Event>, Infallible> {
        Ok(self.slice(log, range).to_vec())
    }

    fn event(&self, _log: Log, ordinal: Ordinal) -> Result<Event, Infallible> {
        Ok(self.0[ordinal as usize].clone())
    }

    fn feed(
        &self,
        log: Log,
        author: &NodeKey,
        seqs: Range<u64>,
    ) -> Result<Vec<(u64, Ordinal)>, Infallible> {
        let all = self.slice(log, 0..self.count(log)).iter().zip(0..);
        let of = all.filter(|(e, _)| e.header.author == *author && seqs.contains(&e.header.seq));
        Ok(of.map(|(event, ordinal)| (event.header.seq, ordinal)).collect())
    }

    fn proof(&self, _log: Log, _end: &EventId) -> Result<Option<Vec<Event>>, Infallible> {
        Ok(None)
    }

    fn artifact_size(&self, key: &ArtifactId) -> Result<Option<u64>, Infallible> {
        Ok((*key == HELD).then_some(HELD_BYTES))
    }

    fn artifact_part(
        &self,
        key: &ArtifactId,
        groups: Range<u64>,
    ) -> Result<Option<(u64, Vec<u8>)>, Infallible> {
        let held = *key == HELD && groups.end <= group_count(HELD_BYTES);
        Ok(held.then(|| (HELD_BYTES, vec![0; 10])))
    }

    fn outline(&self, log: Log) -> Result<Outline, Infallible> {
        let events = self.slice(log, 0..self.count(log));
        let mut outline = Outline::default();
        for (event, ordinal) in events.iter().zip(0..) {
            let header = &event.header;
            if !events.iter().any(|e| e.header.links().any(|link| *link == event.id)) {
                outline.leaves.push((event.id, header.logseq));
            }
            if !events.iter().any(|e| e.header.prev == Some(event.id)) {
                let (author, seq, logseq) = (header.author, header.seq, header.logseq);
                outline.feed_ends.push(FeedEnd { author, seq, id: event.id, logseq, ordinal });
            }
            if quipu_core::kind::is_structural(&header.kind) {
                outline.structural.push(ordinal);
            }
        }
        outline.feed_ends.sort_unstable();
        outline.leaves.sort_unstable();
        Ok(outline)
    }
}
