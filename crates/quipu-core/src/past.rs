//! Questions about the past of an event: everything reachable over links (`parents`, `prev`).

use std::collections::BinaryHeap;

use crate::event::{Head, Log, LogSeq};
use crate::history::{History, Place};
use crate::id::{EventId, IdMap, IdSet, NodeKey};

/// An event that is looked for in somebody's past.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Target {
    /// The event.
    pub id: EventId,
    /// Its author.
    pub author: NodeKey,
    /// Its place in the author's feed.
    pub seq: u64,
    /// Its clock.
    pub logseq: LogSeq,
}

impl Target {
    /// The target that an event is.
    pub fn of(id: EventId, head: &Head) -> Self {
        Self { id, author: head.author, seq: head.seq, logseq: head.logseq }
    }
}

/// Walks an event's past from the latest clock to the earliest.
struct Walk<'a, H: History> {
    history: &'a H,
    log: Log,
    queue: BinaryHeap<(LogSeq, u64)>,
    seen: IdSet<EventId>,
}

impl<'a, H: History> Walk<'a, H> {
    fn new(history: &'a H, log: Log) -> Self {
        Self { history, log, queue: BinaryHeap::new(), seen: IdSet::default() }
    }

    fn push_links(&mut self, head: &Head, not_before: LogSeq) -> Result<(), H::Error> {
        for link in head.links() {
            if !self.seen.insert(*link) {
                continue;
            }
            if let Some(ordinal) = self.history.find(self.log, link)? {
                let logseq = self.history.place(self.log, ordinal)?.head.logseq;
                if logseq >= not_before {
                    self.queue.push((logseq, ordinal));
                }
            }
        }
        Ok(())
    }

    fn next(&mut self) -> Result<Option<Place>, H::Error> {
        match self.queue.pop() {
            Some((_, ordinal)) => self.history.place(self.log, ordinal).map(Some),
            None => Ok(None),
        }
    }
}

/// Events of which it is known that they have an event of one author, at this seq or a later one, in
/// their past. It makes questions about the same author's events short.
#[derive(Debug, Clone)]
pub struct Memory {
    author: NodeKey,
    reached: IdMap<EventId, u64>,
}

impl Memory {
    /// Nothing is known yet of an author's events.
    pub fn new(author: NodeKey) -> Self {
        Self { author, reached: IdMap::default() }
    }

    /// Notes that an event has one of the author's, at that seq or a later one, in its past.
    pub fn note(&mut self, id: EventId, seq: u64) {
        let known = self.reached.entry(id).or_default();
        *known = seq.max(*known);
    }

    /// How far into the target's feed an event is known to reach, if that is as far as the target.
    fn reach(&self, id: &EventId, target: &Target) -> Option<u64> {
        let seq = self.reached.get(id).filter(|_| self.author == target.author)?;
        Some(*seq).filter(|seq| *seq >= target.seq)
    }
}

/// Whether `target` is in the past of the event with this head, and up to which seq of the target's
/// feed that past is known to reach. Clocks grow along links, so the walk never looks at events
/// with a clock below the target's; a later event of the target's own feed answers at once, unless
/// that feed forked there.
///
/// # Errors
/// What the history could not read.
pub fn reach<H: History>(
    history: &H,
    log: Log,
    head: &Head,
    target: &Target,
    memory: &Memory,
) -> Result<Option<u64>, H::Error> {
    let alone = is_alone(history, log, target)?;
    if alone && head.author == target.author && head.seq > target.seq {
        return Ok(Some(head.seq - 1));
    }
    let mut walk = Walk::new(history, log);
    walk.push_links(head, target.logseq)?;
    while let Some(place) = walk.next()? {
        if place.id == target.id {
            return Ok(Some(target.seq));
        }
        if alone && place.head.author == target.author && place.head.seq > target.seq {
            return Ok(Some(place.head.seq));
        }
        if alone && let Some(seq) = memory.reach(&place.id, target) {
            return Ok(Some(seq));
        }
        walk.push_links(&place.head, target.logseq)?;
    }
    Ok(None)
}

/// Whether `target` is in the past of the event with this head; see [`reach`].
///
/// # Errors
/// What the history could not read.
pub fn contains<H: History>(
    history: &H,
    log: Log,
    head: &Head,
    target: &Target,
    memory: &Memory,
) -> Result<bool, H::Error> {
    Ok(reach(history, log, head, target, memory)?.is_some())
}

/// Whether an event is held, and is the only one of its author at its seq.
///
/// # Errors
/// What the history could not read.
pub fn is_alone<H: History>(history: &H, log: Log, at: &Target) -> Result<bool, H::Error> {
    match history.feed(log, &at.author, at.seq..at.seq.saturating_add(1))?[..] {
        [(_, ordinal)] => Ok(history.place(log, ordinal)?.id == at.id),
        _ => Ok(false),
    }
}

/// The ends of an author's feed as an event knew them: the latest events of each branch in its
/// past, as `(seq, id)`, sorted.
///
/// # Errors
/// What the history could not read.
pub fn known_ends<H: History>(
    history: &H,
    log: Log,
    head: &Head,
    author: &NodeKey,
) -> Result<Vec<(u64, EventId)>, H::Error> {
    let mut unknown: IdSet<EventId> = IdSet::default();
    let mut earliest = LogSeq(u64::MAX);
    for (_, ordinal) in history.feed(log, author, 1..u64::MAX)? {
        let place = history.place(log, ordinal)?;
        earliest = earliest.min(place.head.logseq);
        unknown.insert(place.id);
    }
    let mut ends = Vec::new();
    let mut walk = Walk::new(history, log);
    walk.push_links(head, earliest)?;
    while !unknown.is_empty()
        && let Some(place) = walk.next()?
    {
        if unknown.remove(&place.id) {
            ends.push((place.head.seq, place.id));
            let mut prev = place.head.prev;
            while let Some(id) = prev.filter(|id| unknown.remove(id)) {
                prev = match history.find(log, &id)? {
                    Some(ordinal) => history.place(log, ordinal)?.head.prev,
                    None => None,
                };
            }
        }
        walk.push_links(&place.head, earliest)?;
    }
    ends.sort_unstable();
    Ok(ends)
}
