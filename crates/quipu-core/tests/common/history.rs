//! A machine's log in memory.

use std::collections::{BTreeMap, BTreeSet};
use std::convert::Infallible;
use std::ops::Range;

use quipu_core::event::{Event, Log, is_signature_place};
use quipu_core::history::{FeedEnd, History, Missing, Ordinal, Outline, Place};
use quipu_core::id::{ArtifactId, EventId, NodeKey};
use quipu_core::kind;

use super::artifacts::Artifacts;

/// What a machine holds of one log. Of signatures it keeps no more than it must: those
/// at tips and at every 64th place.
#[derive(Debug, Clone, Default)]
pub struct MemoryHistory {
    events: Vec<Event>,
    ids: BTreeMap<EventId, Ordinal>,
    feeds: BTreeMap<NodeKey, BTreeMap<u64, Vec<Ordinal>>>,
    proofs: BTreeMap<EventId, Vec<Event>>,
    committed: usize,
    erasing: Vec<Ordinal>,
    pub artifacts: Artifacts,
}

impl MemoryHistory {
    pub fn append(&mut self, event: Event) {
        let ordinal = self.events.len() as Ordinal;
        let head = &event.header.head;
        for link in head.links() {
            assert!(self.ids.contains_key(link), "appended before what it links to");
        }
        if let Some(prev) = &head.prev {
            let before = &mut self.events[self.ids[prev] as usize];
            assert_eq!((before.header.author, before.header.seq + 1), (head.author, head.seq));
            if !is_signature_place(before.header.seq) {
                before.signature = None;
            }
        }
        assert!(self.ids.insert(event.id, ordinal).is_none(), "appended twice");
        self.feeds.entry(head.author).or_default().entry(head.seq).or_default().push(ordinal);
        self.events.push(event);
    }

    pub fn prove(&mut self, end: EventId, proof: Vec<Event>) {
        self.proofs.insert(end, proof);
    }

    pub fn erase(&mut self, ordinal: Ordinal) {
        self.erasing.push(ordinal);
    }

    pub fn commit(&mut self) {
        self.committed = self.events.len();
        for ordinal in std::mem::take(&mut self.erasing) {
            self.events[ordinal as usize].payload = None;
        }
    }

    /// What a machine finds after it stopped at once.
    pub fn after_crash(&self) -> Self {
        let mut kept = Self::default();
        for event in &self.events[..self.committed] {
            kept.append(event.clone());
        }
        // What was not committed yet proves events that are not there: of no use, but no harm.
        kept.proofs = self.proofs.clone();
        kept.commit();
        kept.artifacts = self.artifacts.clone();
        kept
    }

    pub fn all(&self) -> &[Event] {
        &self.events
    }

    pub fn get(&self, id: &EventId) -> Option<&Event> {
        self.ids.get(id).map(|ordinal| &self.events[*ordinal as usize])
    }
}

impl History for MemoryHistory {
    type Error = Infallible;

    fn count(&self, _log: Log) -> u64 {
        self.events.len() as u64
    }

    fn find(&self, _log: Log, id: &EventId) -> Result<Option<Ordinal>, Infallible> {
        Ok(self.ids.get(id).copied())
    }

    fn place(&self, _log: Log, ordinal: Ordinal) -> Result<Place, Infallible> {
        let event = &self.events[ordinal as usize];
        Ok(Place { id: event.id, head: event.header.head.clone() })
    }

    fn events(&self, _log: Log, range: Range<Ordinal>) -> Result<Vec<Event>, Infallible> {
        Ok(self.events[range.start as usize..range.end as usize].to_vec())
    }

    fn event(&self, _log: Log, ordinal: Ordinal) -> Result<Event, Infallible> {
        Ok(self.events[ordinal as usize].clone())
    }

    fn feed(
        &self,
        _log: Log,
        author: &NodeKey,
        seqs: Range<u64>,
    ) -> Result<Vec<(u64, Ordinal)>, Infallible> {
        let Some(feed) = self.feeds.get(author).filter(|_| !seqs.is_empty()) else {
            return Ok(Vec::new());
        };
        let in_range = feed.range(seqs).flat_map(|(seq, list)| list.iter().map(|o| (*seq, *o)));
        let mut list: Vec<(u64, Ordinal)> = in_range.collect();
        list.sort_unstable_by_key(|(_, ordinal)| *ordinal);
        Ok(list)
    }

    fn proof(&self, _log: Log, end: &EventId) -> Result<Option<Vec<Event>>, Infallible> {
        Ok(self.proofs.get(end).cloned())
    }

    fn artifact_size(&self, key: &ArtifactId) -> Result<Option<u64>, Infallible> {
        Ok(self.artifacts.size(key))
    }

    fn artifact_part(
        &self,
        key: &ArtifactId,
        groups: Range<u64>,
    ) -> Result<Option<(u64, Vec<u8>)>, Infallible> {
        Ok(self.artifacts.part(key, groups))
    }

    fn artifact_missing(&self, key: &ArtifactId) -> Result<Option<Missing>, Infallible> {
        Ok(self.artifacts.missing(key))
    }

    fn outline(&self, _log: Log) -> Result<Outline, Infallible> {
        let (mut linked, mut continued) = (BTreeSet::new(), BTreeSet::new());
        for event in &self.events {
            linked.extend(event.header.links().copied());
            continued.extend(event.header.prev);
        }
        let mut outline = Outline::default();
        for (ordinal, event) in (0..).zip(&self.events) {
            let head = &event.header.head;
            let (author, seq, id, logseq) = (head.author, head.seq, event.id, head.logseq);
            if !continued.contains(&id) {
                outline.feed_ends.push(FeedEnd { author, seq, id, logseq, ordinal });
            }
            if !linked.contains(&id) {
                outline.leaves.push((id, logseq));
            }
            if kind::is_structural(&head.kind) {
                outline.structural.push(ordinal);
            }
        }
        outline.feed_ends.sort_unstable();
        outline.leaves.sort_unstable();
        Ok(outline)
    }
}
