//! What the simulator remembers of promises: which events were acknowledged to people, which
//! payloads they had, and what was decided about whom.

use std::collections::{BTreeMap, BTreeSet};

use quipu_core::id::{ArtifactId, EventId, NodeKey};
use quipu_state::Mark;

/// Bytes in a payload that occur nowhere else.
pub(crate) type Token = [u8; 24];

/// What a request was about.
#[derive(Debug)]
pub(crate) enum Pending {
    /// Events with these tokens.
    Emit(Vec<Token>),
    /// A decision about a member.
    Decide,
    /// The payload of this event is to be erased.
    Erase(EventId),
    /// A machine is to be invited, with a proof made for it.
    Invite { newcomer: usize, proof: Box<quipu_core::sync::message::InviteProof> },
    /// Members without machines; the last of these events is the grant to the last of them.
    Crowd,
    /// An artifact was put.
    Put(ArtifactId),
    /// Artifacts are told of in a published log.
    Publish(Box<crate::affairs::Publication>),
    /// Something was said of artifacts or edges.
    Say,
    /// Leaves are brought together for a snapshot; so often was it tried before.
    Merge(u8),
    /// A snapshot was taken.
    Snapshot {
        /// The state then.
        mark: Mark,
        /// How often it was tried before.
        tries: u8,
    },
    /// Somebody waits for an artifact.
    Fetch(ArtifactId),
    /// Whatever becomes of it.
    Nothing,
}

/// An event that a machine acknowledged to its people.
#[derive(Debug, Clone)]
pub(crate) struct Acknowledged {
    pub(crate) id: EventId,
    pub(crate) machine: usize,
    pub(crate) token: Option<Token>,
}

/// An erasure that was acknowledged.
#[derive(Debug, Clone)]
pub(crate) struct Erasure {
    pub(crate) target: EventId,
    pub(crate) event: EventId,
    pub(crate) machine: usize,
}

/// All promises.
#[derive(Debug, Default)]
pub(crate) struct Ledger {
    pub(crate) pending: BTreeMap<(usize, u64), Pending>,
    pub(crate) acknowledged: Vec<Acknowledged>,
    pub(crate) erasures: Vec<Erasure>,
    /// Events that a machine lost when it was put back to an earlier image, with the machines that
    /// can bring them back: if none of these is a member in the end, nobody is to blame.
    pub(crate) at_risk: BTreeMap<EventId, BTreeSet<usize>>,
    /// Authors about whose membership something was decided after they came.
    disturbed: BTreeSet<NodeKey>,
    /// Who made whom a member.
    grants: BTreeSet<(NodeKey, NodeKey)>,
    /// Machines that were put back.
    pub(crate) restored: BTreeSet<usize>,
}

impl Ledger {
    /// Notes an acknowledgement.
    pub(crate) fn acknowledge(&mut self, id: EventId, machine: usize, token: Option<Token>) {
        self.acknowledged.push(Acknowledged { id, machine, token });
    }

    /// Notes that an author's events may end up not counting.
    pub(crate) fn disturb(&mut self, node: NodeKey) {
        self.disturbed.insert(node);
    }

    /// Notes that the membership of one depends on that of another.
    pub(crate) fn granted(&mut self, by: NodeKey, node: NodeKey) {
        self.grants.insert((by, node));
    }

    /// Notes that a machine may have forgotten whom it made members.
    pub(crate) fn disturb_grants_of(&mut self, by: NodeKey) {
        let of = self.grants.iter().filter(|(granter, _)| *granter == by).map(|(_, node)| *node);
        self.disturbed.extend(of.collect::<Vec<_>>());
    }

    /// Authors whose events may end up not counting: those about whom something was decided, and
    /// those whose membership depends on such.
    pub(crate) fn all_disturbed(&self) -> BTreeSet<NodeKey> {
        let mut all = self.disturbed.clone();
        loop {
            let more: Vec<NodeKey> = self
                .grants
                .iter()
                .filter(|(by, node)| all.contains(by) && !all.contains(node))
                .map(|(_, node)| *node)
                .collect();
            if more.is_empty() {
                return all;
            }
            all.extend(more);
        }
    }
}
