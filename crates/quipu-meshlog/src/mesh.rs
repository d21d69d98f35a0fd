//! A machine's part in a mesh: the feeds that the domain gives to it, and what comes from it.
//!
//! Events of the domain are added in the order in which they arrived. Each node's record events become a feed
//! ([`Projector`]); wrapped events go to the feeds of their authors. What a transport brings is in the same
//! log ([`Mesh::feeds`]); [`Mesh::take_foreign`] gives what of it the domain does not have yet.
//!
//! All of it follows from the domain's log and what peers sent, so it is made anew at each start.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use quipu_core::event::Event as NativeEvent;
use quipu_core::id::NodeKey;
use quipu_core::kind;
use quipu_core::value;

use crate::domain::{Added, Context};
use crate::event::{Event, MeshId};
use crate::log::Log;
use crate::native::{Said, Trust, WRAPPED_BYTES_MAX};
use crate::peer::Feeds;
use crate::policy::{Judge, Policy};
use crate::projection::{Projector, Stopped};
use crate::text::Text;

/// The feeds of a mesh as one machine knows them.
#[derive(Debug, Default)]
pub struct Mesh {
    context: Context,
    judge: Judge,
    projectors: BTreeMap<NodeKey, Projector>,
    log: Log,
    /// Authors whose feeds follow from the domain.
    ours: BTreeSet<Text>,
    /// Events that the domain has wrapped.
    wrapped: BTreeSet<MeshId>,
    /// How many events of the log were looked at for the domain.
    looked: usize,
    /// Feeds that cannot go on because the mesh has something else at the place: what we would have there.
    taken: BTreeMap<Text, MeshId>,
    /// Authors whose keys the domain was told of from here, once, whatever comes of it.
    told: BTreeSet<Text>,
}

impl Mesh {
    /// Adds the next event of the domain. If the answer is [`Added::Stale`], go on to the last, then
    /// [`Mesh::restart`] and add all once more.
    pub fn add(&mut self, event: &NativeEvent) -> Added {
        let node = event.header.author;
        if self.context.learn(event) {
            self.judge = self.context.judge(std::mem::take(&mut self.judge));
            let is_claim = &*event.header.kind == kind::MESH_IDENTITY;
            if !is_claim || self.projectors.contains_key(&node) {
                return Added::Stale;
            }
        }
        if &*event.header.kind == kind::MESH_EVENT {
            self.add_wrapped(event);
        }
        if !self.projectors.contains_key(&node) {
            let projector = match self.context.claim_of(&node) {
                Some(claim) => Projector::new(node, claim.clone()),
                None => Projector::unclaimed(node),
            };
            if self.context.claim_of(&node).is_none() {
                self.log.hide(projector.author().clone());
            }
            self.ours.insert(projector.author().clone());
            self.projectors.insert(node, projector);
        }
        let Some(projector) = self.projectors.get_mut(&node) else { return Added::Done };
        // Out of turn is only what follows a quarantined event: nothing of it goes out.
        for made in projector.push(event).unwrap_or_default() {
            let held = self.log.at(&made.author, made.seq).map(|held| held.id());
            if held == Some(made.id()) {
                continue;
            }
            if let Err(made) = self.log.append_own(made) {
                self.taken.entry(made.author.clone()).or_insert(made.id());
            }
        }
        Added::Done
    }

    fn add_wrapped(&mut self, event: &NativeEvent) {
        let value = event.payload_value().and_then(|bytes| value::decode(bytes).ok());
        let said = value.and_then(|value| Said::of(kind::MESH_EVENT, &value));
        let Some(Said::Wrapped(wrapped)) = said else { return };
        if self.context.counts(&wrapped) && self.wrapped.insert(wrapped.id()) {
            // What does not fit, the log remembers as a fork; the view of records has it all the same.
            drop(self.log.take(*wrapped, &mut self.judge));
        }
    }

    /// Takes note of who is an admin now.
    pub fn set_admins(&mut self, admins: BTreeSet<NodeKey>) -> Added {
        if !self.context.set_admins(admins) {
            return Added::Done;
        }
        self.judge = self.context.judge(std::mem::take(&mut self.judge));
        if self.log.is_empty() { Added::Done } else { Added::Stale }
    }

    /// Begins anew, knowing who is who.
    pub fn restart(&mut self) {
        let context = std::mem::take(&mut self.context);
        let (judge, told) = (std::mem::take(&mut self.judge), std::mem::take(&mut self.told));
        *self = Self { context, judge, told, ..Self::default() };
    }

    /// All feeds.
    pub const fn log(&self) -> &Log {
        &self.log
    }

    /// Who is who in the domain.
    pub const fn context(&self) -> &Context {
        &self.context
    }

    /// For a transport: the feeds, whose events are taken, and which feeds are ours.
    pub const fn feeds(&mut self) -> Feeds<'_> {
        Feeds { log: &mut self.log, judge: &mut self.judge, ours: &self.ours }
    }

    /// Events that came from the mesh since the last time and that the domain does not have: to be wrapped.
    pub fn take_foreign(&mut self) -> Vec<Arc<Event>> {
        let new = &self.log.arrived()[self.looked..];
        self.looked = self.log.len();
        let is_foreign = |event: &&Arc<Event>| {
            !self.ours.contains(&event.author) && !self.wrapped.contains(&event.id())
        };
        new.iter().filter(is_foreign).cloned().collect()
    }

    /// What was found out about authors at their first use, and the domain does not know yet: to be written by this
    /// machine. Each is given once, and only of authors of whom something is held.
    pub fn take_verdicts(&mut self) -> Vec<Said> {
        if self.context.policy() != Policy::FirstUse {
            return Vec::new();
        }
        let (log, context, told) = (&self.log, &self.context, &self.told);
        let is_new = |author: &Text| {
            !log.feed(author).is_empty() && !context.knows(author) && !told.contains(author)
        };
        let bound = self.judge.bound().filter(|(author, _)| is_new(author));
        let verdicts = bound.filter_map(|(author, key)| {
            let author = author.as_str().filter(|text| text.len() <= WRAPPED_BYTES_MAX)?;
            Some(Trust { author: author.to_owned(), identity: Some(key.clone()) })
        });
        let verdicts: Vec<Trust> = verdicts.collect();
        self.told.extend(verdicts.iter().map(|trust| Text::from(trust.author.as_str())));
        verdicts.into_iter().map(Said::Trust).collect()
    }

    /// How many events a node's feed has, with those that wait for signatures.
    pub fn made_by(&self, node: &NodeKey) -> u64 {
        self.projectors.get(node).map_or(0, Projector::made)
    }

    /// How many events of this domain's nodes wait for signatures.
    pub fn waiting(&self) -> usize {
        self.projectors.values().map(Projector::waiting).sum()
    }

    /// Whether events of a node wait for its signatures.
    pub fn waits(&self, node: &NodeKey) -> bool {
        self.projectors.get(node).is_some_and(|projector| projector.waiting() > 0)
    }

    /// Nodes whose feeds go no further, and why.
    pub fn stopped(&self) -> impl Iterator<Item = (&NodeKey, Stopped)> {
        self.projectors.iter().filter_map(|(node, projector)| Some((node, projector.stopped()?)))
    }

    /// Our feeds that cannot go on because others hold something else at a place: the event that we would have there.
    pub fn taken(&self) -> impl Iterator<Item = (&Text, MeshId)> {
        self.taken.iter().map(|(author, id)| (author, *id))
    }
}
