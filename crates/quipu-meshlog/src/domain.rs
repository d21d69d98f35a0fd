//! The records of a domain: what its nodes wrote, and what came from meshes, as one set of events in one view.
//!
//! A record event of a node counts as the event that it becomes in a mesh ([`crate::projection`]): under the
//! name of the node's Reticulum identity, or of its key while it has none. A wrapped event counts if its author's key
//! vouches for it, or if nobody knows that key. So the view is a function of the set of the domain's events,
//! and where all nodes of a mesh hold the same events, it is theirs.
//!
//! Most events are added one by one. An event that changes what others mean, such as the identity of a
//! node that has written already, makes the view [`Added::Stale`]: then all events are added once more.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use quipu_core::event::{Event as NativeEvent, LogSeq};
use quipu_core::id::{EventId, NodeKey};
use quipu_core::kind;
use quipu_core::value;

use crate::clock::Stamp;
use crate::event::{Body, Event, MeshId};
use crate::identity::PublicIdentity;
use crate::json::Value;
use crate::native::{Claim, Said, Trust, goes_to_mesh};
use crate::policy::{Judge, Policy};
use crate::projection::{payload_of, to_json};
use crate::records::Records;
use crate::text::Text;

/// What events mean besides what they say: who is who, and whose events count.
#[derive(Debug, Clone, Default)]
pub struct Context {
    /// Of each node the first claim of its feed that is proven.
    claims: BTreeMap<NodeKey, ((u64, EventId), Claim)>,
    /// Nodes that are admins: they have the last word about meshes.
    admins: BTreeSet<NodeKey>,
    /// What was said about whose events count, in replay order.
    decisions: BTreeMap<(LogSeq, EventId), (NodeKey, Decided)>,
    /// What follows from all that: what is done about authors of whom nothing is known,
    policy: Policy,
    /// and of whom something is: the key that has to sign, or none if they are not trusted.
    keys: BTreeMap<Text, Option<PublicIdentity>>,
}

/// What an event decides about meshes.
#[derive(Debug, Clone)]
enum Decided {
    Policy(Policy),
    Trust(Box<Trust>),
}

/// Whether a kind of event has to do with records or meshes.
pub fn is_of_records(kind: &str) -> bool {
    let of_meshes = matches!(
        kind,
        kind::MESH_IDENTITY | kind::MESH_POLICY | kind::MESH_TRUST | kind::MESH_EVENT
    );
    of_meshes || goes_to_mesh(kind)
}

/// Of what nodes that are no admins found out about an author, the first counts; but a name that is the hash of
/// an identity is bound to that one, whoever was first. Whom not to trust, only admins say.
fn note_first_use(keys: &mut BTreeMap<Text, PublicIdentity>, trust: &Trust) {
    let Some(identity) = &trust.identity else { return };
    let author = Text::from(trust.author.as_str());
    let proves_itself = |identity: &PublicIdentity| identity.author() == author;
    if keys.get(&author).is_none_or(|held| proves_itself(identity) && !proves_itself(held)) {
        keys.insert(author, identity.clone());
    }
}

/// What an event of the domain says of records or meshes. Nothing if its payload is erased.
fn said_by(event: &NativeEvent) -> Option<Said> {
    if !is_of_records(&event.header.kind) {
        return None;
    }
    Said::of(&event.header.kind, &value::decode(event.payload_value()?).ok()?)
}

impl Context {
    /// The author under whose name a node's records count.
    pub fn author_of(&self, node: &NodeKey) -> Text {
        match self.claims.get(node) {
            Some((_, claim)) => claim.identity.author(),
            None => node.to_string().into(),
        }
    }

    /// What a node claims to be in meshes.
    pub fn claim_of(&self, node: &NodeKey) -> Option<&Claim> {
        self.claims.get(node).map(|(_, claim)| claim)
    }

    /// What is done about authors of whom nothing is known.
    pub const fn policy(&self) -> Policy {
        self.policy
    }

    /// Authors of whom something is known: the identity that has to sign, or none if they are not trusted.
    pub fn known(&self) -> impl Iterator<Item = (&Text, Option<&PublicIdentity>)> {
        self.keys.iter().map(|(author, key)| (author, key.as_ref()))
    }

    /// Takes note of who is an admin now. Whether that changes what events mean.
    pub fn set_admins(&mut self, admins: BTreeSet<NodeKey>) -> bool {
        if self.admins == admins {
            return false;
        }
        self.admins = admins;
        self.settle()
    }

    /// Takes note of what an event says about others. Whether that changes what they mean.
    pub fn learn(&mut self, event: &NativeEvent) -> bool {
        let kind = &*event.header.kind;
        if !matches!(kind, kind::MESH_IDENTITY | kind::MESH_POLICY | kind::MESH_TRUST) {
            return false;
        }
        let node = event.header.author;
        let decided = match said_by(event) {
            Some(Said::Identity(claim)) => return self.learn_claim(node, event, claim),
            Some(Said::Policy(policy)) => Decided::Policy(policy),
            Some(Said::Trust(trust)) => Decided::Trust(Box::new(trust)),
            _ => return false,
        };
        self.decisions.insert(event.order(), (node, decided));
        self.settle()
    }

    fn learn_claim(&mut self, node: NodeKey, event: &NativeEvent, claim: Claim) -> bool {
        let place = (event.header.seq, event.id);
        let is_first = self.claims.get(&node).is_none_or(|(held, _)| place < *held);
        if !is_first || !claim.is_proven_for(&node) {
            return false;
        }
        self.claims.insert(node, (place, claim));
        self.settle();
        true
    }

    /// Works out anew whose events count. It depends on what was learned, not on the order. Whether it changed.
    fn settle(&mut self) -> bool {
        let before = (self.policy, std::mem::take(&mut self.keys));
        self.policy = Policy::default();
        let mut first_uses = BTreeMap::new();
        for (node, decided) in self.decisions.values() {
            match decided {
                // Of admins the last counts.
                Decided::Policy(policy) if self.admins.contains(node) => self.policy = *policy,
                Decided::Policy(_) => {}
                Decided::Trust(trust) if self.admins.contains(node) => {
                    let author = Text::from(trust.author.as_str());
                    self.keys.insert(author, trust.identity.clone());
                }
                Decided::Trust(trust) => note_first_use(&mut first_uses, trust),
            }
        }
        if self.policy == Policy::FirstUse {
            for (author, key) in first_uses {
                self.keys.entry(author).or_insert(Some(key));
            }
        }
        // Who is a node of the domain has to sign. That holds for wrapped events, not for what it writes here.
        for (_, claim) in self.claims.values() {
            self.keys.insert(claim.identity.author(), Some(claim.identity.clone()));
        }
        before != (self.policy, self.keys.clone())
    }

    /// Whether anything is known of an author.
    pub fn knows(&self, author: &Text) -> bool {
        self.keys.contains_key(author)
    }

    /// Keys that have to sign for their authors.
    pub fn identities(&self) -> impl Iterator<Item = (&Text, &PublicIdentity)> {
        self.keys.iter().filter_map(|(author, key)| Some((author, key.as_ref()?)))
    }

    /// Whether a wrapped event counts: its author's key vouches for it, or nothing is known of the author and the
    /// policy takes such.
    pub fn counts(&self, wrapped: &Event) -> bool {
        match (self.keys.get(&wrapped.author), wrapped.signature()) {
            (None, _) => self.policy != Policy::Roster,
            (Some(None), _) | (Some(_), None) => false,
            (Some(Some(key)), Some(signature)) => {
                key.has_signed(&wrapped.body().to_bytes(), signature)
            }
        }
    }

    /// A judge of what comes from meshes that knows what the domain knows, and the keys that another one has heard.
    pub fn judge(&self, heard: Judge) -> Judge {
        let mut judge = heard.under(self.policy);
        for (author, key) in &self.keys {
            match key {
                Some(key) => judge.admit(author.clone(), key.clone()),
                None => judge.shun(author.clone()),
            }
        }
        judge
    }

    /// Whether an author is a node of the domain.
    fn is_ours(&self, author: &Text) -> bool {
        self.claims.values().any(|(_, claim)| claim.identity.author() == *author)
    }

    /// The event of a mesh that an event of the domain counts as.
    pub fn event_of(&self, event: &NativeEvent) -> Option<Event> {
        match said_by(event)? {
            Said::Wrapped(wrapped) => self.counts(&wrapped).then_some(*wrapped),
            said => {
                let (kind, payload) = payload_of(&said, &self.author_of(&event.header.author))?;
                Some(self.native(event, kind, payload))
            }
        }
    }
}

impl Context {
    /// The event that any event of the domain counts as for declared reducers: also of kinds that have
    /// nothing to do with records.
    pub fn any_event_of(&self, event: &NativeEvent) -> Option<Event> {
        let kind = &*event.header.kind;
        if is_of_records(kind) || kind::is_reserved(kind) {
            return self.event_of(event);
        }
        let payload = to_json(&value::decode(event.payload_value()?).ok()?);
        Some(self.native(event, kind.into(), payload))
    }

    fn native(&self, event: &NativeEvent, kind: Text, payload: Value) -> Event {
        let (author, clock) = (self.author_of(&event.header.author), event.header.logseq);
        let stamp = Stamp::new(clock.ms().cast_signed(), i64::from(clock.counter()));
        let (seq, payload) = (event.header.seq, payload.into());
        Event::new(Body { author, seq, stamp, kind, payload, prev: None })
    }
}

/// What to do with an event of a mesh, or of a data file of one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Entry {
    /// It is new: it may be wrapped.
    New,
    /// The domain has it, and it counts.
    Known,
    /// It carries the name of a node of the domain, whose records are here already.
    Ours,
    /// The hash is not that of the content.
    Forged,
    /// Its author's key is known and does not vouch for it.
    Unproven,
}

/// What became of an event that was added.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[must_use]
pub enum Added {
    /// The view has it, or it says nothing.
    Done,
    /// What was added before means something else now: [`View::restart`].
    Stale,
}

/// The records of a domain, kept up to date.
#[derive(Debug, Clone, Default)]
pub struct View {
    context: Context,
    records: Records,
    /// Wrapped events that count, each once.
    wrapped: BTreeSet<MeshId>,
    /// Whether there were any, counting or not.
    has_wrapped: bool,
    /// Nodes of which records were added.
    writers: BTreeSet<NodeKey>,
}

impl View {
    /// Adds an event of the domain that was not added before, in any order.
    pub fn add(&mut self, event: &NativeEvent) -> Added {
        let is_old = self.writers.contains(&event.header.author) || self.has_wrapped;
        if self.context.learn(event) && is_old {
            return Added::Stale;
        }
        self.has_wrapped |= &*event.header.kind == kind::MESH_EVENT;
        let Some(counted) = self.context.event_of(event) else { return Added::Done };
        if &*event.header.kind == kind::MESH_EVENT {
            if !self.wrapped.insert(counted.id()) {
                return Added::Done;
            }
        } else {
            self.writers.insert(event.header.author);
        }
        self.records.apply(&Arc::new(counted));
        Added::Done
    }

    /// Takes note of who is an admin now.
    pub fn set_admins(&mut self, admins: BTreeSet<NodeKey>) -> Added {
        if self.context.set_admins(admins) && self.has_wrapped { Added::Stale } else { Added::Done }
    }

    /// Forgets the records, and keeps what is known of who is who: then all events are to be added again.
    pub fn restart(&mut self) {
        *self = Self { context: std::mem::take(&mut self.context), ..Self::default() };
    }

    /// Whether an event from outside is to be wrapped.
    pub fn entry(&self, event: &Event) -> Entry {
        if !event.is_authentic() {
            return Entry::Forged;
        }
        if self.wrapped.contains(&event.id()) {
            return Entry::Known;
        }
        let node = event.author.as_str().and_then(|author| author.parse::<NodeKey>().ok());
        let is_writer = node.is_some_and(|node| self.writers.contains(&node));
        if is_writer || self.context.is_ours(&event.author) {
            return Entry::Ours;
        }
        if self.context.counts(event) { Entry::New } else { Entry::Unproven }
    }

    /// The records.
    pub const fn records(&self) -> &Records {
        &self.records
    }

    /// What events mean.
    pub const fn context(&self) -> &Context {
        &self.context
    }
}

#[cfg(test)]
mod tests;
