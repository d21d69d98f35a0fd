//! One log as a DAG: what may be put into it, its feeds, its leaves, its digest.
//!
//! The DAG holds the ends of things in memory and reads the rest from the [`History`]. It never
//! writes: [`Dag::insert`] decides, and the caller appends what was applied. Decisions that need
//! to look at events which were applied but not appended yet answer [`Step::Flush`].

mod open;
mod rules;
mod view;

use std::collections::{BTreeMap, BTreeSet};

use smallvec::SmallVec;

pub use rules::{Rule, next_clock};

use crate::authority::{Authority, Learned};
use crate::domain::{Decision, Parameters, Role};
use crate::event::{Event, Head, Log, LogSeq, Parents, Position, VerifiedEvent};
use crate::history::{FeedEnd, History};
use crate::id::{DomainId, EventId, IdMap, IdSet, LogDigest, NodeKey};
use crate::kind;
use crate::lifecycle::Verdict;
use crate::limits::{FORK_SIBLINGS_MAX, RECENT_EVENTS};
use crate::past::Target;
use crate::recent::Recent;

/// What became of an event that was put to the DAG.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Step {
    /// It is in. Append it.
    Applied(Applied),
    /// It is kept aside. Append it; it is not relayed, folded or digested.
    Quarantined,
    /// It was there already.
    Known,
    /// These links are not here.
    Missing(SmallVec<[EventId; 2]>),
    /// It breaks a rule.
    Refused(Rule),
    /// Append what was applied so far, then ask again.
    Flush,
}

impl Step {
    /// What this means for the life of the event; nothing if it is not decided yet.
    pub fn verdict(&self) -> Option<Verdict> {
        Some(match self {
            Step::Applied(_) => Verdict::Effective,
            Step::Quarantined => Verdict::Ineffective,
            Step::Known => Verdict::AlreadyHeld,
            Step::Missing(_) => Verdict::LinksMissing,
            Step::Refused(_) => Verdict::RuleBroken,
            Step::Flush => return None,
        })
    }
}

/// What else an applied event brings with it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Applied {
    /// Its author wrote another event at the same place.
    pub forked: bool,
    /// Append it, then call [`Dag::reconsider`].
    pub reconsider: bool,
    /// The payload of this event is to be erased.
    pub erase: Option<EventId>,
}

#[derive(Debug, Clone, Default)]
struct Feed {
    ends: SmallVec<[FeedEnd; 1]>,
    dirty: bool,
}

/// Events of one author at one place: proof that it wrote two histories.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Equivocation {
    /// The author.
    pub author: NodeKey,
    /// Where its feed forks.
    pub seq: u64,
    /// The events there, sorted.
    pub ids: Vec<EventId>,
}

/// One log of a domain as this machine holds it.
#[derive(Debug)]
pub struct Dag {
    log: Log,
    domain: DomainId,
    parameters: Parameters,
    authority: Authority,
    feeds: IdMap<NodeKey, Feed>,
    leaves: IdMap<EventId, LogSeq>,
    recent: Recent<LogSeq>,
    quarantined: BTreeSet<EventId>,
    /// Authors of events that are kept aside.
    aside: BTreeSet<NodeKey>,
    equivocations: BTreeMap<(NodeKey, u64), BTreeSet<EventId>>,
    /// Branches of mass forks that are too many, whether something needs them or not.
    excess: IdSet<EventId>,
    /// Who asked for the payload of which event to be erased, by the event's id.
    erasures: BTreeMap<EventId, Vec<Target>>,
    erased: BTreeSet<EventId>,
    dirty: Vec<NodeKey>,
    digest: Option<LogDigest>,
    clock: LogSeq,
    held: u64,
    appended: u64,
}

impl Dag {
    /// The log as it is right after R was made. R is not in it yet: [`Self::insert`] it.
    ///
    /// # Errors
    /// Why the event is not a root event.
    pub fn new(root: &Event, log: Log) -> Result<Self, crate::domain::RootError> {
        let parameters = Parameters::of_root(root)?;
        Ok(Self {
            log,
            domain: root.id.into(),
            parameters,
            authority: Authority::new(log, root.header.author, root.header.logseq),
            feeds: IdMap::default(),
            leaves: IdMap::default(),
            recent: Recent::new(RECENT_EVENTS),
            quarantined: BTreeSet::new(),
            aside: BTreeSet::new(),
            equivocations: BTreeMap::new(),
            excess: IdSet::default(),
            erasures: BTreeMap::new(),
            erased: BTreeSet::new(),
            dirty: Vec::new(),
            digest: None,
            clock: LogSeq(0),
            held: 0,
            appended: 0,
        })
    }

    /// Decides about an event.
    ///
    /// # Errors
    /// What the history could not read.
    pub fn insert<H: History>(
        &mut self,
        event: &VerifiedEvent,
        history: &H,
    ) -> Result<Step, H::Error> {
        let head = &event.header.head;
        if head.is_root() {
            return Ok(self.insert_root(event));
        }
        if let Some(rule) = rules::check_content(event, self.log, &self.parameters) {
            return Ok(Step::Refused(rule));
        }
        // What is kept aside may follow a feed end, too.
        let follows_end = self.follows_end(head) && !self.quarantined.contains(&event.id);
        if !follows_end {
            if self.is_held(&event.id, history)? {
                return Ok(Step::Known);
            }
            if let Some(step) = self.check_prev(head, history)? {
                return Ok(step);
            }
        }
        let greatest = match self.greatest_link(head, history)? {
            Ok(greatest) => greatest,
            Err(missing) => return Ok(Step::Missing(missing)),
        };
        if let Some(rule) = rules::check_clock(head.logseq, greatest) {
            return Ok(Step::Refused(rule));
        }
        self.insert_valid(event, follows_end, history)
    }

    /// Puts in the event that the log was made from.
    pub fn found(&mut self, root: &VerifiedEvent) -> Step {
        self.insert_root(root)
    }

    fn insert_root(&mut self, event: &VerifiedEvent) -> Step {
        if EventId::from(self.domain) != event.id {
            let (held, given) = (self.domain, event.id.into());
            return Step::Refused(Rule::OtherDomain { held, given });
        }
        if self.held > 0 {
            return Step::Known;
        }
        self.take(event);
        Step::Applied(Applied::default())
    }

    /// An event that breaks no rule: is it effective, and what does it change?
    fn insert_valid<H: History>(
        &mut self,
        event: &VerifiedEvent,
        follows_end: bool,
        history: &H,
    ) -> Result<Step, H::Error> {
        let head = &event.header.head;
        let structural = kind::is_structural(&head.kind);
        let follows_end = follows_end && !self.aside.contains(&head.author);
        let plain = self.authority.is_plain(&head.author, head.seq) && follows_end;
        // The erasure of its payload may be among what was not appended yet.
        let erasable = self.erasures.contains_key(&event.id);
        if (structural || !plain || erasable) && self.appended < self.held {
            return Ok(Step::Flush);
        }
        if self.authority.is_stranger(&head.author) {
            return Ok(Step::Refused(Rule::NotMember { author: head.author }));
        }
        let forked = !follows_end && self.note_fork(event, history)?;
        if forked {
            self.authority.note_forked(&head.author);
        }
        let at = Target::of(event.id, head);
        let role = match plain && !structural {
            true => Some(Role::Writer),
            false => self.authority.role_at(history, &at, head)?,
        };
        let (mut learned, mut erase) = (Learned::Nothing, None);
        if structural {
            // Also from those who are not entitled: it may turn out that they were.
            learned = self.authority.learn(history, event)?;
            erase = self.learn_erasure(event, role, history)?;
        }
        // A branch that is too many does not grow, also where what came of it so far is needed.
        let decides = role == Some(Role::Admin) && structural;
        let excess = head.prev.is_some_and(|prev| self.excess.contains(&prev));
        if excess {
            self.excess.insert(event.id);
        }
        if role < Some(Role::Writer) || (excess && !decides) {
            self.put_aside(event);
            return Ok(Step::Quarantined);
        }
        if !self.is_forked(&head.author) {
            self.authority.note_entitled(history, &at, head)?;
        }
        let crowded =
            forked && self.equivocations[&(head.author, head.seq)].len() > FORK_SIBLINGS_MAX;
        let tainted = !self.quarantined.is_empty()
            && head.links().any(|link| self.quarantined.contains(link));
        let awaited = self.authority.awaits(&event.id);
        let reconsider = crowded || tainted || awaited || learned == Learned::Reconsider;
        self.take(event);
        if erasable {
            self.settle_erasure(&event.id, head, history)?;
        }
        Ok(Step::Applied(Applied { forked, reconsider, erase }))
    }

    /// Forgets the last event that was put in, which was kept aside and is not appended: this
    /// machine's own, that would count nowhere.
    pub(crate) fn take_back(&mut self, event: &VerifiedEvent) {
        if self.quarantined.remove(&event.id) {
            self.held -= 1;
        }
    }

    fn put_aside(&mut self, event: &VerifiedEvent) {
        self.quarantined.insert(event.id);
        self.aside.insert(event.header.author);
        self.recent.insert(event.id, event.header.logseq);
        self.held += 1;
    }

    /// Updates leaves, feed ends and the rest for an event that is in.
    fn take(&mut self, event: &VerifiedEvent) {
        let head = &event.header.head;
        for link in head.links() {
            self.leaves.remove(link);
        }
        self.leaves.insert(event.id, head.logseq);
        self.recent.insert(event.id, head.logseq);
        let end = FeedEnd {
            author: head.author,
            seq: head.seq,
            id: event.id,
            logseq: head.logseq,
            ordinal: self.held,
        };
        let feed = self.feeds.entry(head.author).or_default();
        match feed.ends.iter_mut().find(|end| Some(end.id) == head.prev) {
            Some(old) => *old = end,
            None => feed.ends.push(end),
        }
        if !feed.dirty {
            feed.dirty = true;
            self.dirty.push(head.author);
        }
        self.digest = None;
        self.clock = self.clock.max(head.logseq);
        self.held += 1;
    }

    fn follows_end(&self, head: &Head) -> bool {
        match (head.prev, self.feeds.get(&head.author)) {
            (None, feed) => feed.is_none_or(|feed| feed.ends.is_empty()),
            (Some(prev), Some(feed)) => {
                feed.ends.iter().any(|end| end.id == prev && end.seq + 1 == head.seq)
            }
            (Some(_), None) => false,
        }
    }

    /// Whether an event is among the latest that came. Says nothing about earlier ones.
    pub fn is_recent(&self, id: &EventId) -> bool {
        self.recent.get(id).is_some()
    }

    /// Whether an event is in the log or kept aside.
    ///
    /// # Errors
    /// What the history could not read.
    pub fn is_held<H: History>(&self, id: &EventId, history: &H) -> Result<bool, H::Error> {
        Ok(self.recent.get(id).is_some() || history.find(self.log, id)?.is_some())
    }

    /// `prev` is not a feed end: it must still be there, and be the right event.
    fn check_prev<H: History>(&self, head: &Head, history: &H) -> Result<Option<Step>, H::Error> {
        let Some(prev) = head.prev else { return Ok(None) };
        if self.appended < self.held {
            return Ok(Some(Step::Flush));
        }
        let Some(ordinal) = history.find(self.log, &prev)? else {
            return Ok(Some(Step::Missing(SmallVec::from_slice(&[prev]))));
        };
        let before = history.place(self.log, ordinal)?.head;
        let fits = before.author == head.author && before.seq + 1 == head.seq;
        Ok((!fits).then_some(Step::Refused(Rule::PrevMismatch { prev })))
    }

    /// The greatest clock among the links, or the links that are missing.
    fn greatest_link<H: History>(
        &self,
        head: &Head,
        history: &H,
    ) -> Result<Result<LogSeq, SmallVec<[EventId; 2]>>, H::Error> {
        let mut greatest = LogSeq(0);
        let mut missing = SmallVec::new();
        for link in head.links() {
            let clock = match self.known_clock(link, head) {
                Some(clock) => Some(clock),
                None => match history.find(self.log, link)? {
                    Some(ordinal) => Some(history.place(self.log, ordinal)?.head.logseq),
                    None => None,
                },
            };
            match clock {
                Some(clock) => greatest = greatest.max(clock),
                None => missing.push(*link),
            }
        }
        Ok(if missing.is_empty() { Ok(greatest) } else { Err(missing) })
    }

    /// The clock of a link, if it is in memory: it is recent, or a leaf, or the end of the feed.
    fn known_clock(&self, link: &EventId, of: &Head) -> Option<LogSeq> {
        if let Some(clock) = self.recent.get(link).or_else(|| self.leaves.get(link).copied()) {
            return Some(clock);
        }
        let feed = self.feeds.get(&of.author).filter(|_| of.prev == Some(*link))?;
        feed.ends.iter().find(|end| end.id == *link).map(|end| end.logseq)
    }

    /// Notes that an author wrote several events at one place. Answers whether it did.
    fn note_fork<H: History>(&mut self, event: &Event, history: &H) -> Result<bool, H::Error> {
        let head = &event.header.head;
        let mut ids = BTreeSet::from([event.id]);
        for (_, ordinal) in history.feed(self.log, &head.author, head.seq..head.seq + 1)? {
            let place = history.place(self.log, ordinal)?;
            if place.head.prev == head.prev {
                ids.insert(place.id);
            }
        }
        let forked = ids.len() > 1;
        if forked {
            self.equivocations.entry((head.author, head.seq)).or_default().extend(ids);
        }
        Ok(forked)
    }

    /// Takes note of an erasure. Answers whose payload goes, if that event is here already.
    fn learn_erasure<H: History>(
        &mut self,
        event: &Event,
        role: Option<Role>,
        history: &H,
    ) -> Result<Option<EventId>, H::Error> {
        let Some(Decision::Erase { target, .. }) = Decision::of_event(event) else {
            return Ok(None);
        };
        let at = Target::of(event.id, &event.header.head);
        self.erasures.entry(target).or_default().push(at);
        let Some(ordinal) = history.find(self.log, &target)? else { return Ok(None) };
        let head = history.place(self.log, ordinal)?.head;
        if erases(role, &at.author, &head) {
            self.erased.insert(target);
        }
        Ok(self.erased.contains(&target).then_some(target))
    }

    /// Decides whether the payload of an event is erased: its own author or an admin must have
    /// asked for it, in an event that counts.
    fn settle_erasure<H: History>(
        &mut self,
        target: &EventId,
        head: &Head,
        history: &H,
    ) -> Result<(), H::Error> {
        let mut erased = false;
        for at in self.erasures.get(target).into_iter().flatten() {
            if self.quarantined.contains(&at.id) {
                continue;
            }
            let Some(ordinal) = history.find(self.log, &at.id)? else { continue };
            let by = history.place(self.log, ordinal)?.head;
            erased |= erases(self.authority.role_at(history, at, &by)?, &at.author, head);
        }
        if erased {
            self.erased.insert(*target);
        }
        Ok(())
    }

    /// Says that everything applied so far was appended.
    pub fn flushed(&mut self) {
        self.appended = self.held;
    }

    /// Where the next event of an author goes: its links are all current leaves, up to the
    /// domain's cap (EVT-8). Above the cap, an author takes the leaves for which a hash of author
    /// and leaf is smallest, so that different authors merge different ones.
    pub fn next_position(&self, author: NodeKey, now_ms: u64) -> Position {
        let end = self.own_end(&author);
        let mut parents: Vec<EventId> = self.leaves.keys().copied().collect();
        if parents.len() > self.parameters.parents_max {
            parents.sort_by_cached_key(|leaf| *blake3::keyed_hash(&author.0, &leaf.0).as_bytes());
            parents.truncate(self.parameters.parents_max);
            self.include_grant(&author, end, &mut parents);
        }
        parents.sort_unstable();
        let grant = self.authority.latest_grant(&author).filter(|g| parents.contains(&g.id));
        let links = parents.iter().filter_map(|leaf| self.leaves.get(leaf));
        let greatest = links
            .copied()
            .chain(grant.map(|grant| grant.logseq))
            .chain(end.map(|end| end.logseq))
            .max()
            .unwrap_or_default();
        Position {
            author,
            seq: end.map_or(1, |end| end.seq + 1),
            prev: end.map(|end| end.id),
            parents: Parents::from_vec(parents),
            logseq: next_clock(now_ms, greatest),
        }
    }

    /// With more leaves than the cap, the author's grant may not be in the past of those it took:
    /// then it links to the grant itself, or nobody would let its event count.
    fn include_grant(&self, author: &NodeKey, end: Option<FeedEnd>, parents: &mut Vec<EventId>) {
        let Some(grant) = self.authority.latest_grant(author) else { return };
        if end.is_none_or(|end| end.logseq < grant.logseq) && !parents.contains(&grant.id) {
            parents.pop();
            parents.push(grant.id);
        }
    }
}

/// Whether somebody with that role may erase an event's payload.
fn erases(role: Option<Role>, by: &NodeKey, head: &Head) -> bool {
    (role == Some(Role::Admin) || (role == Some(Role::Writer) && *by == head.author))
        && kind::is_erasable(&head.kind)
}

/// Hashed before the ids of the feed ends.
pub const DIGEST_CONTEXT: &[u8; 19] = b"quipu log digest v1";

/// The digest of a log with these feed ends (sorted).
pub fn digest_of(sorted_ends: &[EventId]) -> LogDigest {
    let mut hasher = blake3::Hasher::new();
    hasher.update(DIGEST_CONTEXT);
    for id in sorted_ends {
        hasher.update(&id.0);
    }
    LogDigest(*hasher.finalize().as_bytes())
}
