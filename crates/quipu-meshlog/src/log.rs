//! All events that are held: one feed for each author, without gaps, each event chained to the one before.
//!
//! It takes what meshlogd takes, with three differences. What is refused leaves no trace (meshlogd lists the
//! author with an empty feed). What waits for a gap to fill is bounded. And a fork is told, not dropped in
//! silence; like meshlogd, the log keeps the branch that it saw first, since the mesh knows
//! a feed by its length alone.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use rayon::prelude::*;

use crate::event::{Event, Looked, MeshId};
use crate::json::Object;
use crate::limits::{FORKS_MAX, PENDING_EVENTS_MAX, PENDING_SPAN_MAX};
use crate::policy::{Checked, Judge, Refusal, Verdict};
use crate::text::Text;

/// With fewer events to hash, another core is not worth waking.
const HASHED_TOGETHER: usize = 64;

/// What became of an event.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Taken {
    /// It is in its feed now, and this many events that waited for it.
    Applied {
        /// What is known of it.
        verdict: Verdict,
        /// Events that it let in.
        more: usize,
    },
    /// It was held already.
    Known,
    /// It waits until the events before it are here.
    Waiting,
}

/// Two events of an author at one place.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fork {
    /// The place.
    pub seq: u64,
    /// The event that was held.
    pub held: MeshId,
    /// The one that came later.
    pub other: Arc<EventProof>,
}

/// An event that is kept as proof of a fork only, as bytes of a message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EventProof {
    /// Its id.
    pub id: MeshId,
    /// Its bytes.
    pub wire: Vec<u8>,
    /// Whether its author signed it. If not, somebody else may have made it up.
    pub verdict: Verdict,
}

/// The feeds.
#[derive(Debug, Clone, Default)]
pub struct Log {
    feeds: BTreeMap<Text, Vec<Arc<Event>>>,
    /// Authors in the order in which they were first heard of: that of the frontier as JSON.
    authors: Vec<Text>,
    /// All events in the order in which they came: that of data files.
    arrived: Vec<Arc<Event>>,
    pending: BTreeMap<(Text, u64), (Arc<Event>, Verdict)>,
    forks: BTreeMap<Text, Fork>,
    /// Authors whose feeds are not for other nodes.
    hidden: BTreeSet<Text>,
}

impl Log {
    /// How many events are held.
    pub fn len(&self) -> usize {
        self.arrived.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.arrived.is_empty()
    }

    /// Events in the order in which they came. What comes later stands at the end, so a caller that
    /// remembers how many it has seen finds the new ones.
    pub fn arrived(&self) -> &[Arc<Event>] {
        &self.arrived
    }

    /// The feed of an author, from its first event on.
    pub fn feed(&self, author: &Text) -> &[Arc<Event>] {
        self.feeds.get(author).map_or(&[], Vec::as_slice)
    }

    /// Feeds by author, in the order of their names.
    pub fn feeds(&self) -> impl Iterator<Item = (&Text, &[Arc<Event>])> {
        self.feeds.iter().map(|(author, feed)| (author, feed.as_slice()))
    }

    /// The frontier as JSON: how long each feed is, in the order in which the authors were first heard of.
    pub fn frontier(&self) -> Object {
        let mut frontier = Object::default();
        for author in &self.authors {
            frontier.push_text(author.clone(), self.feed(author).len() as u64);
        }
        frontier
    }

    /// Keeps the feed of an author from being offered to other nodes.
    pub fn hide(&mut self, author: Text) {
        self.hidden.insert(author);
    }

    /// Feeds that are for other nodes, by author, in the order of their names.
    pub fn offered(&self) -> impl Iterator<Item = (&Text, &[Arc<Event>])> {
        self.feeds().filter(|(author, _)| !self.hidden.contains(*author))
    }

    /// Authors with events that are not for other nodes.
    pub fn hidden(&self) -> impl Iterator<Item = &Text> {
        self.feeds.keys().filter(|author| self.hidden.contains(*author))
    }

    /// The frontier that other nodes are told.
    pub fn offered_frontier(&self) -> Object {
        let mut frontier = Object::default();
        for author in self.authors.iter().filter(|author| !self.hidden.contains(*author)) {
            frontier.push_text(author.clone(), self.feed(author).len() as u64);
        }
        frontier
    }

    /// Authors of whom two events at one place were seen, with the first such pair.
    pub fn forks(&self) -> impl Iterator<Item = (&Text, &Fork)> {
        self.forks.iter()
    }

    /// Events that wait for others.
    pub fn waiting(&self) -> usize {
        self.pending.len()
    }

    /// The place and the `prev` of the next event of an author.
    pub fn next_of(&self, author: &Text) -> (u64, Option<MeshId>) {
        let feed = self.feed(author);
        (feed.len() as u64 + 1, feed.last().map(|event| event.id()))
    }

    /// Takes an event from outside, if the judge agrees.
    pub fn take(&mut self, event: Event, judge: &mut Judge) -> Result<Taken, Refusal> {
        let checked = judge.check(&event);
        self.take_checked(Arc::new(event), checked, judge)
    }

    pub(crate) fn take_checked(
        &mut self,
        event: Arc<Event>,
        checked: Checked,
        judge: &mut Judge,
    ) -> Result<Taken, Refusal> {
        let verdict = judge.conclude(&event, checked)?;
        let feed = self.feed(&event.author);
        let (next, prev) = (feed.len() as u64 + 1, feed.last().map(|event| event.id()));
        if event.seq > next {
            return self.wait(event, verdict, next);
        }
        if event.seq < next {
            // Places are counted from 1 on.
            let held = feed[event.seq as usize - 1].id();
            let is_known = held == event.id();
            return if is_known { Ok(Taken::Known) } else { Err(self.fork(&event, held, verdict)) };
        }
        if event.prev != prev {
            let (id, author) = (event.id(), event.author.clone());
            return Err(Refusal::Chain { id, author, seq: next });
        }
        let event = self.append(event);
        Ok(Taken::Applied { verdict, more: self.drain(&event.author) })
    }

    /// Takes events in turn, as of one message. What is costly, hashes and signatures, is done on all cores before.
    pub fn take_all(
        &mut self,
        events: Vec<Event>,
        judge: &mut Judge,
    ) -> Vec<Result<Taken, Refusal>> {
        let events = events.into_par_iter().with_min_len(HASHED_TOGETHER);
        let looked: Vec<Looked> = events.map(Looked::from).collect();
        let checks = judge.check_all(looked.iter());
        let pairs = looked.into_iter().zip(checks);
        pairs.map(|(looked, checked)| self.take_checked(looked.event, checked, judge)).collect()
    }

    /// Takes the event of this node's own author, which was made with [`Log::next_of`]. Gives it back if it does
    /// not continue the feed.
    pub fn append_own(&mut self, event: Event) -> Result<Arc<Event>, Box<Event>> {
        if (event.seq, event.prev) != self.next_of(&event.author) {
            return Err(Box::new(event));
        }
        Ok(self.append(Arc::new(event)))
    }

    /// Takes events of a data file, which are trusted as meshlogd trusts its own: in the order of author and
    /// place, whatever continues its feed. Gives those that do not.
    pub fn load(&mut self, events: Vec<Arc<Event>>) -> Vec<Arc<Event>> {
        let mut by_author: BTreeMap<&Text, Vec<(u64, usize)>> = BTreeMap::new();
        for (at, event) in events.iter().enumerate() {
            match by_author.get_mut(&event.author) {
                Some(places) => places.push((event.seq, at)),
                None => drop(by_author.insert(&event.author, vec![(event.seq, at)])),
            }
        }
        let mut is_left = vec![false; events.len()];
        // meshlogd hears of authors in the order of their names when it loads.
        for (author, mut places) in by_author {
            places.sort_unstable();
            let before = self.feed(author).len();
            let mut grown = Vec::with_capacity(places.len());
            for (seq, at) in places {
                if seq == (before + grown.len()) as u64 + 1 {
                    grown.push(Arc::clone(&events[at]));
                } else {
                    is_left[at] = true;
                }
            }
            self.extend_feed(author, grown);
        }
        let (mut rest, left) = (Vec::new(), events.into_iter().zip(is_left));
        self.arrived.reserve(left.len());
        left.for_each(
            |(event, is_left)| {
                if is_left { rest.push(event) } else { self.arrived.push(event) }
            },
        );
        rest
    }

    fn extend_feed(&mut self, author: &Text, mut grown: Vec<Arc<Event>>) {
        match self.feeds.get_mut(author) {
            _ if grown.is_empty() => {}
            Some(feed) => feed.append(&mut grown),
            None => {
                self.authors.push(author.clone());
                self.feeds.insert(author.clone(), grown);
            }
        }
    }

    /// The event at a place of a feed.
    pub fn at(&self, author: &Text, seq: u64) -> Option<&Arc<Event>> {
        self.feed(author).get(usize::try_from(seq.checked_sub(1)?).ok()?)
    }

    fn append(&mut self, event: Arc<Event>) -> Arc<Event> {
        match self.feeds.get_mut(&event.author) {
            Some(feed) => feed.push(Arc::clone(&event)),
            None => {
                self.authors.push(event.author.clone());
                self.feeds.insert(event.author.clone(), vec![Arc::clone(&event)]);
            }
        }
        self.arrived.push(Arc::clone(&event));
        event
    }

    fn wait(&mut self, event: Arc<Event>, verdict: Verdict, next: u64) -> Result<Taken, Refusal> {
        let place = (event.author.clone(), event.seq);
        // The last that came, as in meshlogd, unless it is not proven and the other one is.
        let better = self.pending.get(&place).is_none_or(|(_, waiting)| verdict >= *waiting);
        let is_full =
            self.pending.len() >= PENDING_EVENTS_MAX && !self.pending.contains_key(&place);
        if event.seq - next > PENDING_SPAN_MAX || is_full {
            let (id, author) = (event.id(), place.0);
            return Err(Refusal::TooFarAhead { id, author, seq: place.1, next });
        }
        if better {
            self.pending.insert(place, (event, verdict));
        }
        Ok(Taken::Waiting)
    }

    /// Appends what waited for the last event of a feed. What does not continue it is dropped: its
    /// right place is taken.
    fn drain(&mut self, author: &Text) -> usize {
        let mut more = 0;
        if self.pending.is_empty() {
            return more;
        }
        loop {
            let (next, prev) = self.next_of(author);
            let Some((event, _)) = self.pending.remove(&(author.clone(), next)) else {
                return more;
            };
            if event.prev != prev {
                return more;
            }
            self.append(event);
            more += 1;
        }
    }

    fn fork(&mut self, event: &Event, held: MeshId, verdict: Verdict) -> Refusal {
        let (id, author, seq) = (event.id(), event.author.clone(), event.seq);
        let known = self.forks.get(&author).map(|fork| fork.other.verdict);
        let has_room = known.is_some() || self.forks.len() < FORKS_MAX;
        // A proven pair replaces one that anybody could have made up.
        if known.is_none_or(|known| verdict > known) && has_room {
            let other = Arc::new(EventProof { id, wire: event.to_wire(), verdict });
            self.forks.insert(author.clone(), Fork { seq, held, other });
        }
        Refusal::Fork { id, author, seq, held }
    }
}
