//! Peers that a machine wants to stay linked to: when each is dialled again.

use std::collections::{BTreeMap, BTreeSet};

use quipu_core::id::NodeKey;
use quipu_core::node::LinkId;

/// Time between attempts to reach a peer: the first, and the longest.
const REDIAL_MS: (u64, u64) = (1_000, 60_000);

#[derive(Debug, Clone, Default)]
struct Wanted {
    link: Option<LinkId>,
    dialing: bool,
    next_ms: u64,
    wait_ms: u64,
}

impl Wanted {
    fn is_idle(&self) -> bool {
        self.link.is_none() && !self.dialing
    }
}

/// The peers to stay linked to.
#[derive(Debug, Default)]
pub(super) struct Redial(BTreeMap<NodeKey, Wanted>);

impl Redial {
    /// Nobody is wanted.
    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Stays linked to a peer from now on.
    pub(super) fn want(&mut self, peer: NodeKey, now: u64) {
        let fresh = Wanted { next_ms: now, wait_ms: REDIAL_MS.0, ..Wanted::default() };
        self.0.entry(peer).or_insert(fresh);
    }

    /// The link that was dialled is up.
    pub(super) fn linked(&mut self, peer: &NodeKey, link: LinkId) {
        if let Some(wanted) = self.0.get_mut(peer) {
            *wanted = Wanted { link: Some(link), wait_ms: REDIAL_MS.0, ..Wanted::default() };
        }
    }

    /// A dial came to nothing, or a link is gone: tries again after a while that grows.
    pub(super) fn retry(&mut self, peer: &NodeKey, link: Option<LinkId>, now: u64) {
        let Some(wanted) = self.0.get_mut(peer) else { return };
        if link.is_some() && wanted.link != link {
            return;
        }
        let next_ms = now + wanted.wait_ms;
        let wait_ms = (wanted.wait_ms * 2).min(REDIAL_MS.1);
        *wanted = Wanted { next_ms, wait_ms, ..Wanted::default() };
    }

    /// One of a peer's links is gone: if this machine did not dial because that one was there, it
    /// need not wait for long.
    pub(super) fn look_soon(&mut self, peer: &NodeKey, now: u64) {
        if let Some(wanted) = self.0.get_mut(peer).filter(|wanted| wanted.is_idle()) {
            wanted.next_ms = wanted.next_ms.min(now + REDIAL_MS.0);
        }
    }

    /// Those to dial now. Those who have called already are looked at again later.
    pub(super) fn due(&mut self, now: u64, linked: &BTreeSet<NodeKey>) -> Vec<NodeKey> {
        let due = self.0.iter().filter(|(_, wanted)| wanted.is_idle() && wanted.next_ms <= now);
        let due: Vec<NodeKey> = due.map(|(peer, _)| *peer).collect();
        let (there, absent): (Vec<_>, Vec<_>) =
            due.into_iter().partition(|peer| linked.contains(peer));
        for peer in there {
            self.retry(&peer, None, now);
        }
        for peer in &absent {
            if let Some(wanted) = self.0.get_mut(peer) {
                wanted.dialing = true;
            }
        }
        absent
    }

    /// When somebody is to be dialled next.
    pub(super) fn next_ms(&self) -> Option<u64> {
        self.0.values().filter(|wanted| wanted.is_idle()).map(|wanted| wanted.next_ms).min()
    }
}

#[cfg(test)]
mod tests;
