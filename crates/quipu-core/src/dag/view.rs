//! Questions to a log that need no look at the history.

use std::collections::BTreeSet;

use smallvec::SmallVec;

use super::{Dag, Equivocation, digest_of};
use crate::authority::{Authority, Member};
use crate::domain::Parameters;
use crate::event::{Log, LogSeq};
use crate::history::FeedEnd;
use crate::id::{DomainId, EventId, LogDigest, NodeKey};

impl Dag {
    /// The end of an author's feed on which it goes on: the longest branch, then the smallest id.
    pub fn own_end(&self, author: &NodeKey) -> Option<FeedEnd> {
        let ends = &self.feeds.get(author)?.ends;
        ends.iter().max_by_key(|end| (end.seq, std::cmp::Reverse(end.id))).copied()
    }

    /// The ends of an author's feed, sorted by seq and id.
    pub fn ends_of(&self, author: &NodeKey) -> SmallVec<[FeedEnd; 1]> {
        let mut ends = self.feeds.get(author).map(|feed| feed.ends.clone()).unwrap_or_default();
        ends.sort_unstable();
        ends
    }

    /// The ends of all feeds, sorted by author, seq and id.
    pub fn ends(&self) -> Vec<FeedEnd> {
        let mut ends: Vec<FeedEnd> = self.feeds.values().flat_map(|f| f.ends.clone()).collect();
        ends.sort_unstable();
        ends
    }

    /// All authors with events in the log, sorted.
    pub fn authors(&self) -> Vec<NodeKey> {
        let mut authors: Vec<NodeKey> = self.feeds.keys().copied().collect();
        authors.sort_unstable();
        authors
    }

    /// Authors whose feed ends changed since this was last asked.
    pub fn take_dirty(&mut self) -> Vec<NodeKey> {
        for author in &self.dirty {
            if let Some(feed) = self.feeds.get_mut(author) {
                feed.dirty = false;
            }
        }
        std::mem::take(&mut self.dirty)
    }

    /// The digest of the log: BLAKE3, itself a Merkle tree, over [`DIGEST_CONTEXT`](super::DIGEST_CONTEXT) and the sorted
    /// ids of all feed ends. Equal digests mean equal history, because an id covers its past.
    pub fn digest(&mut self) -> LogDigest {
        if let Some(digest) = self.digest {
            return digest;
        }
        let mut ids: Vec<EventId> =
            self.feeds.values().flat_map(|feed| feed.ends.iter().map(|end| end.id)).collect();
        ids.sort_unstable();
        let digest = digest_of(&ids);
        self.digest = Some(digest);
        digest
    }

    /// How many events are in the log; those kept aside do not count.
    pub fn event_count(&self) -> u64 {
        self.held - self.quarantined.len() as u64
    }

    /// How many ordinals the log has handed out: events in it and events kept aside.
    pub fn held(&self) -> u64 {
        self.held
    }

    /// How many authors have events in the log.
    pub fn author_count(&self) -> usize {
        self.feeds.len()
    }

    /// Events that no event in the log links to, sorted.
    pub fn leaves(&self) -> Vec<EventId> {
        let mut leaves: Vec<EventId> = self.leaves.keys().copied().collect();
        leaves.sort_unstable();
        leaves
    }

    /// How many leaves there are.
    pub fn leaf_count(&self) -> usize {
        self.leaves.len()
    }

    /// Whether an event is kept aside.
    pub fn is_quarantined(&self, id: &EventId) -> bool {
        self.quarantined.contains(id)
    }

    /// The events kept aside, sorted.
    pub fn quarantined(&self) -> &BTreeSet<EventId> {
        &self.quarantined
    }

    /// Whether the payload of an event is known to be erased.
    pub fn is_erased(&self, id: &EventId) -> bool {
        self.erased.contains(id)
    }

    /// The events whose payload is known to be erased, sorted.
    pub fn erased(&self) -> &BTreeSet<EventId> {
        &self.erased
    }

    /// The authors that wrote two histories, with the proof: events in the log, so that all
    /// machines that hold the same flag the same.
    pub fn equivocations(&self) -> Vec<Equivocation> {
        let list = self.equivocations.iter().map(|((author, seq), ids)| {
            let ids = ids.iter().filter(|id| !self.is_quarantined(id)).copied().collect();
            Equivocation { author: *author, seq: *seq, ids }
        });
        list.filter(|fork| fork.ids.len() > 1).collect()
    }

    /// Whether an author wrote two histories.
    pub fn is_forked(&self, author: &NodeKey) -> bool {
        self.equivocations.range((*author, 0)..=(*author, u64::MAX)).next().is_some()
    }

    /// Who is a member.
    pub fn authority(&self) -> &Authority {
        &self.authority
    }

    /// All members now.
    pub fn members(&self) -> Vec<Member> {
        self.authority.members()
    }

    /// What R fixed.
    pub fn parameters(&self) -> &Parameters {
        &self.parameters
    }

    /// The domain.
    pub fn domain(&self) -> DomainId {
        self.domain
    }

    /// Which of the domain's logs this is.
    pub fn log(&self) -> Log {
        self.log
    }

    /// The greatest clock in the log.
    pub fn clock(&self) -> LogSeq {
        self.clock
    }
}
