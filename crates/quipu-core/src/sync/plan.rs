//! From the difference of two sets of feed ends to what to ask for and what to send.

use std::collections::BTreeMap;
use std::ops::Range as OrdinalRange;

use super::frontier::{EndItem, Frontier};
use super::message::{AuthorTag, Range};
use crate::dag::Dag;
use crate::history::{FeedEnd, History, Ordinal};
use crate::id::{IdMap, NodeKey};
use crate::sketch::Item;

/// The difference between the peer's feed ends and ours.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Difference {
    /// Ends that only the peer has.
    pub remote_only: Vec<Item>,
    /// Ends that only we have.
    pub local_only: Vec<Item>,
    /// If the difference is one of changes: our first ordinal after both were level.
    pub since: Option<Ordinal>,
}

impl Difference {
    /// The difference of two lists.
    pub fn of(remote: &[Item], local: &[Item], since: Option<Ordinal>) -> Self {
        let only = |these: &[Item], those: &[Item]| {
            let mut sorted = those.to_vec();
            sorted.sort_unstable();
            these.iter().filter(|item| sorted.binary_search(item).is_err()).copied().collect()
        };
        Self { remote_only: only(remote, local), local_only: only(local, remote), since }
    }
}

/// What follows from a difference.
#[derive(Debug, Default)]
pub struct Outlook {
    /// Parts of feeds to ask for.
    pub wants: Vec<Range>,
    /// Parts of feeds to send: everything with a greater seq.
    pub sends: Vec<(NodeKey, u64)>,
    /// For the authors in question: up to which seq the peer holds what we hold.
    pub peer_has: IdMap<NodeKey, u64>,
}

/// How far before the presumed common point a repeated attempt begins. Only forks need it: where
/// two histories part is not in their ends, so it is searched for in growing steps.
fn margin(attempt: u8) -> u64 {
    match attempt {
        0 => 0,
        n => 4u64.checked_shl(4 * (u32::from(n) - 1)).unwrap_or(u64::MAX),
    }
}

/// Margin of the first attempt where a fork is evident.
const FORK_MARGIN: u64 = 4;

/// Works out what to ask for and what to send.
///
/// # Errors
/// What the history could not read.
pub fn outlook<H: History>(
    dag: &Dag,
    frontier: &Frontier,
    history: &H,
    difference: &Difference,
    attempt: u8,
) -> Result<Outlook, H::Error> {
    let mut by_author: BTreeMap<AuthorTag, (Vec<EndItem>, bool)> = BTreeMap::new();
    for item in &difference.remote_only {
        let end = EndItem::of(item);
        by_author.entry(end.author).or_default().0.push(end);
    }
    for item in &difference.local_only {
        by_author.entry(EndItem::of(item).author).or_default().1 = true;
    }
    let mut outlook = Outlook::default();
    for (tag, (remote, changed_here)) in by_author {
        let authors = frontier.authors_with(&tag);
        if authors.is_empty() {
            outlook.wants.push(Range { author: tag, above: 0 });
        }
        for author in authors {
            let question =
                Question { author, tag, remote: &remote, changed_here, since: difference.since };
            question.answer(dag, history, attempt, &mut outlook)?;
        }
    }
    Ok(outlook)
}

/// One author whose ends differ.
struct Question<'a> {
    author: &'a NodeKey,
    tag: AuthorTag,
    remote: &'a [EndItem],
    changed_here: bool,
    since: Option<Ordinal>,
}

impl Question<'_> {
    fn answer<H: History>(
        &self,
        dag: &Dag,
        history: &H,
        attempt: u8,
        outlook: &mut Outlook,
    ) -> Result<(), H::Error> {
        let ends = dag.ends_of(self.author);
        let own_max = ends.iter().map(|end| end.seq).max().unwrap_or(0);
        let (mut held, mut unknown) = (Vec::new(), Vec::new());
        for end in self.remote {
            let seq = end.seq_near(own_max);
            let found = self.holds(dag, history, end, seq)?;
            if found { held.push(seq) } else { unknown.push(seq) }
        }
        let ahead = unknown.iter().all(|seq| *seq > own_max) && ends.len() <= 1;
        let fork = !unknown.is_empty() && (!ahead || attempt > 0);
        let back = margin(attempt) + if fork { FORK_MARGIN } else { 0 };
        let lowest = |seqs: &[u64]| seqs.iter().copied().min().unwrap_or(0).min(own_max);
        if !unknown.is_empty() {
            let above = lowest(&unknown).saturating_sub(back);
            outlook.wants.push(Range { author: self.tag, above });
        }
        let peer_has = if fork {
            lowest(&unknown).saturating_sub(back)
        } else if !unknown.is_empty() {
            u64::MAX
        } else if !held.is_empty() {
            lowest(&held).saturating_sub(margin(attempt))
        } else {
            self.common_floor(dag, history, &ends)?.saturating_sub(margin(attempt))
        };
        outlook.peer_has.insert(*self.author, peer_has);
        if peer_has < own_max && (self.changed_here || fork) {
            outlook.sends.push((*self.author, peer_has));
        }
        Ok(())
    }

    fn holds<H: History>(
        &self,
        dag: &Dag,
        history: &H,
        end: &EndItem,
        seq: u64,
    ) -> Result<bool, H::Error> {
        for (_, ordinal) in history.feed(dag.log(), self.author, seq..seq + 1)? {
            let id = history.id(dag.log(), ordinal)?;
            if end.fits(&id) && !dag.is_quarantined(&id) {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// The peer showed no end of this feed. Either it has none, or (among changes) it still has
    /// what both had when they were level.
    fn common_floor<H: History>(
        &self,
        dag: &Dag,
        history: &H,
        ends: &[FeedEnd],
    ) -> Result<u64, H::Error> {
        let Some(since) = self.since else { return Ok(0) };
        let mut floor = u64::MAX;
        for end in ends {
            let mut place = history.place(dag.log(), end.ordinal)?;
            let mut ordinal = end.ordinal;
            while ordinal >= since {
                floor = floor.min(place.head.seq - 1);
                let Some(prev) = place.head.prev else { break };
                let Some(before) = history.find(dag.log(), &prev)? else { break };
                ordinal = before;
                place = history.place(dag.log(), ordinal)?;
            }
        }
        Ok(if floor == u64::MAX { 0 } else { floor })
    }
}

/// Events to be sent, in order of arrival here, which is an order in which links come first.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Cargo {
    /// All of a stretch.
    Stretch(OrdinalRange<Ordinal>),
    /// These, sorted; the second number is the next one to send.
    List(Vec<Ordinal>, usize),
}

impl Default for Cargo {
    fn default() -> Self {
        Cargo::List(Vec::new(), 0)
    }
}

impl Cargo {
    /// The events that some parts of feeds consist of.
    ///
    /// # Errors
    /// What the history could not read.
    pub fn of_feeds<H: History>(
        dag: &Dag,
        history: &H,
        parts: impl IntoIterator<Item = (NodeKey, u64)>,
    ) -> Result<Self, H::Error> {
        let mut ordinals = Vec::new();
        for (author, above) in parts {
            let from = above.saturating_add(1);
            let feed = history.feed(dag.log(), &author, from..u64::MAX)?;
            ordinals.extend(feed.into_iter().map(|(_, ordinal)| ordinal));
        }
        ordinals.sort_unstable();
        ordinals.dedup();
        Ok(Cargo::List(ordinals, 0))
    }

    /// Joins other events to those still to be sent.
    pub fn add(&mut self, other: Cargo) {
        if self.is_empty() {
            *self = other;
            return;
        }
        let (mut mine, theirs) = match (std::mem::replace(self, Cargo::List(Vec::new(), 0)), other)
        {
            (Cargo::Stretch(a), Cargo::Stretch(b)) => {
                *self = Cargo::Stretch(a.start.min(b.start)..a.end.max(b.end));
                return;
            }
            (Cargo::Stretch(all), Cargo::List(..)) | (Cargo::List(..), Cargo::Stretch(all)) => {
                *self = Cargo::Stretch(all);
                return;
            }
            (Cargo::List(a, next), Cargo::List(b, from)) => {
                (a[next..].to_vec(), b[from..].to_vec())
            }
        };
        mine.extend(theirs);
        mine.sort_unstable();
        mine.dedup();
        *self = Cargo::List(mine, 0);
    }

    /// The next stretch of consecutive events, at most `max` long; `None` when all is taken.
    pub fn next(&mut self, max: usize) -> Option<OrdinalRange<Ordinal>> {
        match self {
            Cargo::Stretch(range) => {
                if range.is_empty() {
                    return None;
                }
                let end = range.end.min(range.start + max as u64);
                let stretch = range.start..end;
                range.start = end;
                Some(stretch)
            }
            Cargo::List(list, next) => {
                let first = *list.get(*next)?;
                let rest = list[*next..].iter().zip(first..);
                let length = rest.take(max).take_while(|(a, b)| **a == *b).count();
                *next += length;
                Some(first..first + length as u64)
            }
        }
    }

    /// Gives back the end of a stretch that was not sent after all.
    pub fn give_back(&mut self, from: Ordinal, stretch: &OrdinalRange<Ordinal>) {
        let unsent = stretch.end - from;
        match self {
            Cargo::Stretch(range) => range.start -= unsent,
            Cargo::List(_, next) => *next -= unsent as usize,
        }
    }

    /// Whether all is sent.
    pub fn is_empty(&self) -> bool {
        match self {
            Cargo::Stretch(range) => range.is_empty(),
            Cargo::List(list, next) => *next >= list.len(),
        }
    }

    /// How many events are left.
    pub fn len(&self) -> u64 {
        match self {
            Cargo::Stretch(range) => range.end.saturating_sub(range.start),
            Cargo::List(list, next) => (list.len() - next) as u64,
        }
    }
}
