//! Rebuilding what the DAG holds in memory: when a machine starts, and when a removal changes what
//! counts.

use std::collections::BTreeSet;

use super::{Dag, Feed};
use crate::domain::{Decision, Role};
use crate::event::{Log, LogSeq};
use crate::history::{FeedEnd, History, Place};
use crate::id::{EventId, IdMap, IdSet};
use crate::kind;
use crate::limits::FORK_SIBLINGS_MAX;
use crate::past::Target;

/// How many events are looked at in one read.
const SCAN_EVENTS: u64 = 4096;

impl Dag {
    /// Opens a log from what the store holds.
    ///
    /// # Errors
    /// What the history could not read.
    pub fn open<H: History>(&mut self, history: &H) -> Result<(), H::Error> {
        let outline = history.outline(self.log)?;
        self.held = history.count(self.log);
        self.appended = self.held;
        for ordinal in &outline.structural {
            let event = history.event(self.log, *ordinal)?;
            if event.header.kind.as_ref() != kind::DOMAIN_CREATE {
                self.authority.learn(history, &event)?;
                self.relearn_erasure(&event);
            }
        }
        self.find_forks(&outline.feed_ends, history)?;
        if self.authority.has_exceptions() || self.has_mass_forks() {
            self.reconsider(history)?;
        } else {
            self.set_ends(&outline.feed_ends, outline.leaves);
            self.settle_erasures(history)?;
        }
        Ok(())
    }

    fn has_mass_forks(&self) -> bool {
        self.equivocations.values().any(|siblings| siblings.len() > FORK_SIBLINGS_MAX)
    }

    fn relearn_erasure(&mut self, event: &crate::event::Event) {
        if let Some(Decision::Erase { target, .. }) = Decision::of_event(event) {
            let at = Target::of(event.id, &event.header.head);
            self.erasures.entry(target).or_default().push(at);
        }
    }

    /// Decides anew which payloads are erased: what counts may have changed.
    fn settle_erasures<H: History>(&mut self, history: &H) -> Result<(), H::Error> {
        self.erased.clear();
        for target in self.erasures.keys().copied().collect::<Vec<_>>() {
            if let Some(ordinal) = history.find(self.log, &target)? {
                let head = history.place(self.log, ordinal)?.head;
                self.settle_erasure(&target, &head, history)?;
            }
        }
        Ok(())
    }

    fn set_ends(&mut self, ends: &[FeedEnd], leaves: Vec<(EventId, LogSeq)>) {
        self.feeds.clear();
        self.dirty.clear();
        for end in ends {
            let feed = self.feeds.entry(end.author).or_insert_with(|| {
                self.dirty.push(end.author);
                Feed { dirty: true, ..Feed::default() }
            });
            feed.ends.push(*end);
            self.clock = self.clock.max(end.logseq);
        }
        self.leaves = leaves.into_iter().collect();
        self.digest = None;
    }

    /// At a start: the places where authors forked, from feeds with several ends (sorted), those
    /// kept aside included.
    fn find_forks<H: History>(&mut self, ends: &[FeedEnd], history: &H) -> Result<(), H::Error> {
        let forked = ends.windows(2).filter(|pair| pair[0].author == pair[1].author);
        for author in forked.map(|pair| pair[0].author).collect::<BTreeSet<_>>() {
            let mut by_place: IdMap<u64, Vec<Place>> = IdMap::default();
            for (seq, ordinal) in history.feed(self.log, &author, 1..u64::MAX)? {
                by_place.entry(seq).or_default().push(history.place(self.log, ordinal)?);
            }
            for (seq, places) in by_place {
                let siblings = |place: &Place| {
                    places.iter().filter(|other| other.head.prev == place.head.prev).count()
                };
                let ids: BTreeSet<EventId> =
                    places.iter().filter(|p| siblings(p) > 1).map(|p| p.id).collect();
                if !ids.is_empty() {
                    self.equivocations.insert((author, seq), ids);
                }
            }
            self.authority.note_forked(&author);
        }
        Ok(())
    }

    /// Looks at every event again: which are effective, which are kept as ancestors of effective
    /// ones, and which are kept aside. Takes time in proportion to the log, but only removals,
    /// changed roles, contested invitations and mass forks ask for it.
    ///
    /// # Errors
    /// What the history could not read.
    pub fn reconsider<H: History>(&mut self, history: &H) -> Result<(), H::Error> {
        self.flushed();
        let ineffective = self.ineffective(history)?;
        let aside = self.not_needed(ineffective, history)?;
        let mut leaves: IdMap<EventId, LogSeq> = IdMap::default();
        let mut ends: IdMap<EventId, FeedEnd> = IdMap::default();
        scan(self.log, history, |ordinal, place| {
            if aside.contains(&place.id) {
                return Ok(());
            }
            for link in place.head.links() {
                leaves.remove(link);
            }
            if let Some(prev) = &place.head.prev {
                ends.remove(prev);
            }
            let Place { id, head } = place;
            leaves.insert(id, head.logseq);
            let (author, seq, logseq) = (head.author, head.seq, head.logseq);
            ends.insert(id, FeedEnd { author, seq, id, logseq, ordinal });
            Ok(())
        })?;
        let mut ends: Vec<FeedEnd> = ends.into_values().collect();
        ends.sort_unstable();
        let before: Vec<_> = self.feeds.keys().copied().collect();
        self.set_ends(&ends, leaves.into_iter().collect());
        self.dirty.extend(before.into_iter().filter(|author| !self.feeds.contains_key(author)));
        self.dirty.sort_unstable();
        self.quarantined = aside.into_iter().collect();
        self.settle_erasures(history)
    }

    /// Events whose author was not entitled, and branches of mass forks.
    fn ineffective<H: History>(&mut self, history: &H) -> Result<IdSet<EventId>, H::Error> {
        let mut ineffective: IdSet<EventId> = IdSet::default();
        scan(self.log, history, |_, place| {
            let head = &place.head;
            if head.is_root() {
                return Ok(());
            }
            let at = Target::of(place.id, head);
            let entitled = self.authority.is_plain(&head.author, head.seq)
                || self.authority.role_at(history, &at, head)? >= Some(Role::Writer);
            if entitled && !self.is_forked(&head.author) {
                self.authority.note_entitled(&at);
            }
            if !entitled {
                ineffective.insert(place.id);
            }
            Ok(())
        })?;
        let mut excess: IdSet<EventId> = IdSet::default();
        for siblings in self.equivocations.values() {
            // Only those that count otherwise: these are the same on all machines.
            let counted = siblings.iter().filter(|id| !ineffective.contains(*id));
            excess.extend(counted.skip(FORK_SIBLINGS_MAX));
        }
        if !excess.is_empty() {
            scan(self.log, history, |_, place| {
                if place.head.prev.is_some_and(|prev| excess.contains(&prev)) {
                    excess.insert(place.id);
                }
                Ok(())
            })?;
            ineffective.extend(excess);
        }
        Ok(ineffective)
    }

    /// Of the ineffective events, those that no effective event has in its past.
    fn not_needed<H: History>(
        &self,
        mut ineffective: IdSet<EventId>,
        history: &H,
    ) -> Result<IdSet<EventId>, H::Error> {
        if ineffective.is_empty() {
            return Ok(ineffective);
        }
        let mut end = history.count(self.log);
        while end > 0 {
            let start = end.saturating_sub(SCAN_EVENTS);
            for place in history.places(self.log, start..end)?.into_iter().rev() {
                if !ineffective.contains(&place.id) {
                    for link in place.head.links() {
                        ineffective.remove(link);
                    }
                }
            }
            end = start;
        }
        Ok(ineffective)
    }
}

/// Visits every event of a log in order of arrival.
fn scan<H: History>(
    log: Log,
    history: &H,
    mut visit: impl FnMut(u64, Place) -> Result<(), H::Error>,
) -> Result<(), H::Error> {
    let count = history.count(log);
    let mut next = 0;
    while next < count {
        for place in history.places(log, next..count.min(next + SCAN_EVENTS))? {
            visit(next, place)?;
            next += 1;
        }
    }
    Ok(())
}
