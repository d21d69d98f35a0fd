//! What packed events may refer to: events that both sides hold.

use std::cell::Cell;

use crate::codec::pack::{Resolve, Shared};
use crate::dag::Dag;
use crate::history::{History, Ordinal};
use crate::id::{EventId, NodeKey};
use crate::limits::{AUTHOR_PREFIX_BYTES, AUTHORS_FEW, LONG_AUTHOR_PREFIX_BYTES};
use crate::sync::frontier::Frontier;
use crate::sync::session::PeerHas;

/// What the writer of a batch may refer to: events that the peer holds.
pub(super) struct Known<'a, H> {
    pub(super) dag: &'a Dag,
    pub(super) frontier: &'a Frontier,
    pub(super) history: &'a H,
    pub(super) has: &'a PeerHas,
}

impl<H: History> Known<'_, H> {
    fn is_held(&self, author: &NodeKey, seq: u64, ordinal: Ordinal) -> bool {
        !self.has.plain
            && ordinal < self.has.below
            && self.has.above.get(author).is_none_or(|above| seq <= *above)
    }
}

impl<H: History> Shared for Known<'_, H> {
    fn shared(&self, id: &EventId) -> Option<(NodeKey, u64)> {
        if self.has.plain || self.has.below == 0 {
            return None;
        }
        let ordinal = self.history.find(self.dag.log(), id).ok()??;
        let head = self.history.place(self.dag.log(), ordinal).ok()?.head;
        let sure = self.is_held(&head.author, head.seq, ordinal)
            && !self.dag.is_forked(&head.author)
            && !self.dag.is_quarantined(id);
        sure.then_some((head.author, head.seq))
    }

    fn prev_is_shared(&self, prev: &EventId, author: &NodeKey, seq: u64) -> bool {
        let found = || self.history.find(self.dag.log(), prev).ok().flatten();
        !self.has.plain
            && self.has.below > 0
            && found().is_some_and(|ordinal| self.is_held(author, seq, ordinal))
            && !self.dag.is_forked(author)
            && !self.dag.is_quarantined(prev)
    }

    fn author_prefix(&self, author: &NodeKey) -> Option<usize> {
        let few = self.frontier.authors() <= AUTHORS_FEW;
        let length = if few { AUTHOR_PREFIX_BYTES } else { LONG_AUTHOR_PREFIX_BYTES };
        let prefix = &author.0[..length];
        if self.has.plain || self.frontier.author_with_prefix(prefix) != Some(*author) {
            return None;
        }
        let first = self.history.feed(self.dag.log(), author, 1..2).ok()?;
        let (_, ordinal) = first.first()?;
        self.is_held(author, 1, *ordinal).then_some(length)
    }
}

/// How the reader of a batch finds what it refers to.
pub(super) struct Here<'a, H> {
    pub(super) dag: Option<&'a Dag>,
    pub(super) frontier: &'a Frontier,
    pub(super) history: &'a H,
    /// Whether anything was resolved.
    pub(super) referred: Cell<bool>,
}

impl<H: History> Resolve for Here<'_, H> {
    fn id_at(&self, author: &NodeKey, seq: u64) -> Option<EventId> {
        self.referred.set(true);
        let dag = self.dag?;
        let mut found = None;
        for (_, ordinal) in self.history.feed(dag.log(), author, seq..seq.checked_add(1)?).ok()? {
            let id = self.history.id(dag.log(), ordinal).ok()?;
            if !dag.is_quarantined(&id) && found.replace(id).is_some() {
                return None;
            }
        }
        found
    }

    fn author_with_prefix(&self, prefix: &[u8]) -> Option<NodeKey> {
        self.referred.set(true);
        self.frontier.author_with_prefix(prefix)
    }

    fn id_at_position(&self, _position: u64) -> Option<EventId> {
        None
    }
}
