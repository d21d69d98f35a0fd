//! Rebuilding what the DAG holds in memory: when a machine starts, and when a removal changes what
//! counts.

use std::collections::{BTreeMap, BTreeSet};

use super::{Dag, Feed};
use crate::domain::{Decision, Role};
use crate::event::{Log, LogSeq};
use crate::history::{FeedEnd, History, Place};
use crate::id::{EventId, IdMap, IdSet, NodeKey};
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
        if self.all_count(&outline.feed_ends, history)? {
            self.set_ends(&outline.feed_ends, outline.leaves);
            self.settle_erasures(history)
        } else {
            self.reconsider(history)
        }
    }

    /// Whether every event held is known to count without a look at all of them: no feed forks, and
    /// of each the first event was written by somebody entitled whom nobody removed.
    fn all_count<H: History>(&mut self, ends: &[FeedEnd], history: &H) -> Result<bool, H::Error> {
        if !self.equivocations.is_empty() {
            return Ok(false);
        }
        let mut firsts = Vec::with_capacity(ends.len());
        for end in ends {
            if end.author == self.authority.founder() {
                continue;
            }
            if !self.authority.is_simple(&end.author) {
                return Ok(false);
            }
            firsts.extend(history.feed(self.log, &end.author, 1..2)?.first().map(|(_, o)| *o));
        }
        firsts.sort_unstable();
        for ordinal in firsts {
            let place = history.place(self.log, ordinal)?;
            let at = Target::of(place.id, &place.head);
            if self.authority.role_at(history, &at, &place.head)? < Some(Role::Writer) {
                return Ok(false);
            }
            self.authority.note_entitled(history, &at, &place.head)?;
        }
        Ok(true)
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
        let mut authors: BTreeSet<NodeKey> = BTreeSet::new();
        let mut leaves: IdMap<EventId, LogSeq> = IdMap::default();
        let mut ends: IdMap<EventId, FeedEnd> = IdMap::default();
        scan(self.log, history, |ordinal, place| {
            if aside.contains(&place.id) {
                authors.insert(place.head.author);
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
        self.aside = authors;
        self.settle_erasures(history)
    }

    /// Events whose author was not entitled, and branches of mass forks.
    fn ineffective<H: History>(&mut self, history: &H) -> Result<IdSet<EventId>, H::Error> {
        let mut excess = self.crowded_out(history)?;
        let mut ineffective: IdSet<EventId> = IdSet::default();
        scan(self.log, history, |_, place| {
            let head = &place.head;
            if head.is_root() {
                return Ok(());
            }
            if head.prev.is_some_and(|prev| excess.contains(&prev)) {
                excess.insert(place.id);
            }
            let at = Target::of(place.id, head);
            let role = if self.authority.is_plain(&head.author, head.seq) {
                Some(Role::Writer)
            } else {
                self.authority.role_at(history, &at, head)?
            };
            if role >= Some(Role::Writer) && !self.is_forked(&head.author) {
                self.authority.note_entitled(history, &at, head)?;
            }
            let decides = role == Some(Role::Admin) && kind::is_structural(&head.kind);
            if role < Some(Role::Writer) || (excess.contains(&place.id) && !decides) {
                ineffective.insert(place.id);
            }
            Ok(())
        })?;
        self.excess = excess;
        Ok(ineffective)
    }

    /// Where an author put too many events after one: those beyond the allowed number, of those that
    /// it was entitled to write. Decisions of admins count whatever their number: who is a member
    /// must not depend on which events a machine dropped.
    fn crowded_out<H: History>(&self, history: &H) -> Result<IdSet<EventId>, H::Error> {
        let mut excess: IdSet<EventId> = IdSet::default();
        for siblings in self.equivocations.values().filter(|ids| ids.len() > FORK_SIBLINGS_MAX) {
            let mut by_prev: BTreeMap<Option<EventId>, usize> = BTreeMap::new();
            for id in siblings {
                let Some(ordinal) = history.find(self.log, id)? else { continue };
                let head = history.place(self.log, ordinal)?.head;
                let role = self.authority.role_at(history, &Target::of(*id, &head), &head)?;
                let decides = role == Some(Role::Admin) && kind::is_structural(&head.kind);
                if role < Some(Role::Writer) || decides {
                    continue;
                }
                let place = by_prev.entry(head.prev).or_default();
                *place += 1;
                if *place > FORK_SIBLINGS_MAX {
                    excess.insert(*id);
                }
            }
        }
        Ok(excess)
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
