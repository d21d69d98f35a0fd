//! What passes between a mesh and a domain at a gateway, and what does not.
//!
//! Foreign events go into the domain wrapped, once each; what came out of the domain does not come in
//! again. Of two gateways that wrap one event at the same time, the fold keys are equal, so it counts once.

use std::collections::{BTreeMap, BTreeSet};

use quipu_core::id::NodeKey;

use crate::event::{Event, MeshId};
use crate::text::Text;

/// What to do with an event of a mesh.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Passage {
    /// It is new: wrap it.
    Wrap,
    /// The domain has it already, wrapped or as a record event of its own.
    Known,
    /// It carries the name of a node of the domain, and that node has not written it: somebody else uses its identity,
    /// or this machine has not heard of the record event yet.
    OursButUnknown {
        /// The node.
        node: NodeKey,
    },
}

/// What a gateway remembers of the domain.
#[derive(Debug, Clone, Default)]
pub struct Gateway {
    wrapped: BTreeSet<MeshId>,
    projected: BTreeSet<MeshId>,
    writers: BTreeMap<Text, NodeKey>,
}

impl Gateway {
    /// A wrapped event is in the domain.
    pub fn saw_wrapped(&mut self, event: &Event) {
        self.wrapped.insert(event.id());
    }

    /// A record event of the domain became this event.
    pub fn saw_projected(&mut self, node: NodeKey, event: &Event) {
        self.writers.insert(event.author.clone(), node);
        self.projected.insert(event.id());
    }

    /// What to do with an event that came from the mesh.
    pub fn passage(&self, event: &Event) -> Passage {
        let id = event.id();
        if self.wrapped.contains(&id) || self.projected.contains(&id) {
            return Passage::Known;
        }
        match self.writers.get(&event.author) {
            Some(node) => Passage::OursButUnknown { node: *node },
            None => Passage::Wrap,
        }
    }
}
