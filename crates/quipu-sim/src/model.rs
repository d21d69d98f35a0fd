//! A second opinion: what a log adds up to, worked out in the simplest way, from the events alone.
//!
//! *Boundary*: it shares the reading of payloads with production ([`Statement`]) and the hash of a
//! state, and nothing else: neither trees nor cuts nor plans.

use std::collections::{BTreeMap, BTreeSet};

use quipu_core::event::{Event, LogSeq};
use quipu_core::history::History;
use quipu_core::id::{ArtifactId, EventId, NodeKey, Subject};
use quipu_core::state::{StateHash, root_of};
use quipu_core::statement::{Claim, EdgeKey, EdgeRole, Statement};

use crate::machine::SimDriver;
use crate::report::Finding;

/// A place in the replay order.
pub(crate) type Order = (LogSeq, EventId);

/// An event, as far as it matters here.
#[derive(Debug)]
struct Told {
    order: Order,
    author: NodeKey,
    subject: Option<Subject>,
    says: Option<Statement>,
    links: Vec<EventId>,
    aside: bool,
}

/// The events that a machine holds.
#[derive(Debug)]
pub(crate) struct Model {
    told: Vec<Told>,
    by_id: BTreeMap<EventId, usize>,
}

/// A snapshot that counts.
#[derive(Debug, Clone)]
pub(crate) struct Taken {
    pub(crate) id: EventId,
    pub(crate) author: NodeKey,
    pub(crate) root: StateHash,
    pub(crate) entries: u64,
}

/// What is said of an artifact.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Thing {
    claims: BTreeMap<Subject, (Order, Claim)>,
    /// It was published from here.
    published: bool,
    tombstone: Option<Order>,
    pin: Option<(Order, bool)>,
    resolution: Option<(Order, Claim, Vec<Subject>)>,
}

/// A disagreement: claims in replay order, the one that counts, the decision.
pub(crate) type Dispute = (Vec<(Order, Claim)>, Claim, Option<EventId>);

/// What some events add up to.
#[derive(Debug, Default)]
pub(crate) struct Folded {
    winners: BTreeMap<Subject, Order>,
    pub(crate) things: BTreeMap<ArtifactId, Thing>,
    edges: BTreeMap<EdgeKey, (Order, Option<EdgeRole>)>,
    drops: BTreeSet<EventId>,
}

impl Model {
    /// Reads what a machine holds.
    pub(crate) fn of(driver: &SimDriver) -> Result<Self, Finding> {
        let mut model = Self { told: Vec::new(), by_id: BTreeMap::new() };
        let Some(dag) = driver.node().dag() else { return Ok(model) };
        let held = driver.held();
        let mut next = 0;
        let log = driver.log();
        while next < held.count(log) {
            let events = held.events(log, next..held.count(log));
            let events = events
                .map_err(|error| Finding::new("a log could not be read", error.to_string()))?;
            for event in events {
                next += 1;
                model.by_id.insert(event.id, model.told.len());
                model.told.push(Told::of(&event, dag.is_quarantined(&event.id)));
            }
        }
        Ok(model)
    }

    /// All events that count.
    pub(crate) fn current(&self) -> Folded {
        fold(self.told.iter().filter(|told| !told.aside))
    }

    /// An event and everything before it. Nothing if something is lacking.
    pub(crate) fn up_to(&self, event: &EventId) -> Option<Folded> {
        let mut seen = BTreeSet::from([*self.by_id.get(event)?]);
        let mut next: Vec<usize> = seen.iter().copied().collect();
        while let Some(at) = next.pop() {
            for link in &self.told[at].links {
                let at = *self.by_id.get(link)?;
                if seen.insert(at) {
                    next.push(at);
                }
            }
        }
        Some(fold(seen.into_iter().map(|at| &self.told[at])))
    }

    /// The snapshots that count, in replay order.
    pub(crate) fn snapshots(&self) -> Vec<Taken> {
        let mut told: Vec<&Told> = self.told.iter().filter(|told| !told.aside).collect();
        told.sort_unstable_by_key(|told| told.order);
        let taken = |told: &Told| match told.says {
            Some(Statement::Snapshot { root, entries, .. }) => {
                Some(Taken { id: told.order.1, author: told.author, root, entries })
            }
            _ => None,
        };
        told.into_iter().filter_map(taken).collect()
    }

    /// The artifacts that are held by what is to be seen now, by a pin, or by a snapshot that
    /// nobody dropped.
    pub(crate) fn held(&self) -> BTreeSet<ArtifactId> {
        let current = self.current();
        let mut held = current.held();
        for snapshot in self.snapshots() {
            if !current.drops.contains(&snapshot.id)
                && let Some(then) = self.up_to(&snapshot.id)
            {
                held.extend(then.held());
            }
        }
        held
    }
}

impl Told {
    fn of(event: &Event, aside: bool) -> Self {
        Self {
            order: event.order(),
            author: event.header.author,
            subject: event.header.payload.subject,
            says: Statement::of_event(event),
            links: event.header.head.links().copied().collect(),
            aside,
        }
    }
}

/// Puts the later of two in a place.
fn later<T>(place: &mut Option<(Order, T)>, order: Order, value: T) {
    if place.as_ref().is_none_or(|(before, _)| order > *before) {
        *place = Some((order, value));
    }
}

fn fold<'a>(told: impl Iterator<Item = &'a Told>) -> Folded {
    let mut folded = Folded::default();
    for one in told {
        if let Some(subject) = one.subject {
            let winner = folded.winners.entry(subject).or_insert(one.order);
            *winner = one.order.max(*winner);
        }
        if let Some(statement) = &one.says {
            folded.take(one, statement);
        }
    }
    folded
}

impl Folded {
    fn take(&mut self, told: &Told, statement: &Statement) {
        let order = told.order;
        match statement {
            Statement::Put(claim) | Statement::Import { claim, .. } => {
                let subject = told.subject.unwrap_or_default();
                let claims = &mut self.things.entry(claim.key).or_default().claims;
                let place = claims.entry(subject).or_insert((order, claim.clone()));
                // Of one fold key the latest counts.
                if order > place.0 {
                    *place = (order, claim.clone());
                }
            }
            Statement::Publish { key, .. } => {
                self.things.entry(*key).or_default().published = true;
            }
            Statement::TombstoneArtifact(key) => {
                let tombstone = &mut self.things.entry(*key).or_default().tombstone;
                *tombstone = (*tombstone).max(Some(order));
            }
            Statement::Pin { key, held } => {
                later(&mut self.things.entry(*key).or_default().pin, order, *held);
            }
            Statement::Resolve { keep, seen } => {
                let resolution = &mut self.things.entry(keep.key).or_default().resolution;
                if resolution.as_ref().is_none_or(|(before, ..)| order > *before) {
                    *resolution = Some((order, keep.clone(), seen.clone()));
                }
            }
            Statement::Edge(key, role) => self.edge(key, order, Some(*role)),
            Statement::TombstoneEdge(key) => self.edge(key, order, None),
            Statement::DropSnapshot(id) => _ = self.drops.insert(*id),
            // The simulated people do not run programs.
            Statement::Snapshot { .. }
            | Statement::Publication { .. }
            | Statement::Follow(_)
            | Statement::Execution(_) => {}
        }
    }

    fn edge(&mut self, key: &EdgeKey, order: Order, role: Option<EdgeRole>) {
        let place = self.edges.entry(key.clone()).or_insert((order, role));
        if order > place.0 {
            *place = (order, role);
        }
    }

    /// The hash of the winners, and how many there are.
    pub(crate) fn root(&self) -> (StateHash, u64) {
        let list: Vec<(Subject, EventId)> =
            self.winners.iter().map(|(subject, (_, id))| (*subject, *id)).collect();
        (root_of(&list), list.len() as u64)
    }

    /// Artifacts that are visible or pinned.
    pub(crate) fn held(&self) -> BTreeSet<ArtifactId> {
        let held =
            |thing: &Thing| thing.published || thing.is_pinned() || !thing.visible().is_empty();
        self.things.iter().filter(|(_, thing)| held(thing)).map(|(key, _)| *key).collect()
    }

    /// Edges that are to be seen, with the events that say so.
    pub(crate) fn edges(&self) -> BTreeMap<EdgeKey, (EdgeRole, Order)> {
        let of = |(key, (order, role)): (&EdgeKey, &(Order, Option<EdgeRole>))| {
            role.map(|role| (key.clone(), (role, *order)))
        };
        self.edges.iter().filter_map(of).collect()
    }

    /// Artifacts about which claims disagree.
    pub(crate) fn disputes(&self) -> BTreeMap<ArtifactId, Dispute> {
        self.things.iter().filter_map(|(key, thing)| Some((*key, thing.dispute()?))).collect()
    }
}

impl Thing {
    /// Claims that no later tombstone hides, in replay order.
    pub(crate) fn visible(&self) -> Vec<(Order, Claim)> {
        let shown = self.claims.values().filter(|(order, _)| Some(*order) > self.tombstone);
        let mut shown: Vec<(Order, Claim)> = shown.cloned().collect();
        shown.sort_unstable_by_key(|(order, _)| *order);
        shown
    }

    /// Whether the latest word about it is a pin.
    pub(crate) fn is_pinned(&self) -> bool {
        self.pin.is_some_and(|(_, held)| held)
    }

    fn dispute(&self) -> Option<Dispute> {
        let shown = self.visible();
        let sizes: BTreeSet<u64> = shown.iter().map(|(_, claim)| claim.size).collect();
        let tags: BTreeSet<&String> =
            shown.iter().filter_map(|(_, claim)| claim.type_tag.as_ref()).collect();
        if sizes.len() < 2 && tags.len() < 2 {
            return None;
        }
        let subjects = self.claims.iter().filter(|(_, (order, _))| Some(*order) > self.tombstone);
        let subjects: Vec<&Subject> = subjects.map(|(subject, _)| subject).collect();
        let knows_all = |seen: &[Subject]| subjects.iter().all(|subject| seen.contains(*subject));
        let decided = self.resolution.as_ref().filter(|(_, keep, seen)| {
            knows_all(seen) && shown.iter().any(|(_, claim)| claim == keep)
        });
        let typed = shown.iter().find(|(_, claim)| claim.type_tag.is_some());
        let rule = typed.or(shown.first()).map(|(_, claim)| claim.clone());
        let counts = decided.map(|(_, keep, _)| keep.clone()).or(rule)?;
        Some((shown.clone(), counts, decided.map(|(order, ..)| order.1)))
    }
}
