//! Links over the air: they are opened by whoever hears that another machine holds something else.

use std::collections::{BTreeMap, BTreeSet};

use quipu_core::id::{DomainId, NodeKey};
use quipu_core::sync::message::InviteProof;
use serde_json::Value;

use super::{Answer, Dial, Handle, Machine, ServiceError};

/// How long a newcomer waits for the machine that invited it to be heard, in milliseconds. Whoever hears a newcomer announces
/// itself, which takes a slow medium a minute.
const FIRST_HEARD_MS: u64 = 180_000;

/// What a machine tells its neighbours that it holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Standing {
    /// Digest of its internal log; zeros if it has none yet.
    pub own: [u8; 32],
    /// The same of the published logs that it keeps, by domain.
    pub published: BTreeMap<DomainId, [u8; 32]>,
}

/// What tells the neighbours what is held here, and knows them.
pub struct Air {
    standing: Box<dyn Fn(&Standing) + Send>,
    report: Box<dyn Fn() -> Value + Send>,
    wired: Box<dyn Fn(NodeKey, bool) + Send>,
    told: Option<Standing>,
    /// What is known of nodes of meshlogd, if this machine is among any.
    mesh: Value,
}

impl std::fmt::Debug for Air {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Air").finish_non_exhaustive()
    }
}

impl Air {
    /// `standing` is called with the digest whenever it has changed; `wired` when a peer is reached by wire, or not any
    /// more; `report` tells of interfaces and peers. All must be quick: the loop waits for them.
    pub fn new(
        standing: impl Fn(&Standing) + Send + 'static,
        wired: impl Fn(NodeKey, bool) + Send + 'static,
        report: impl Fn() -> Value + Send + 'static,
    ) -> Self {
        let (standing, wired) = (Box::new(standing), Box::new(wired));
        Self { standing, wired, report: Box::new(report), told: None, mesh: Value::Null }
    }
}

impl Machine {
    /// Links over the air are there.
    pub fn set_air(&mut self, air: Air) {
        self.air = Some(air);
        self.unfinished = true;
        let linked: BTreeSet<NodeKey> = self.links.values().map(|linked| linked.peer).collect();
        linked.into_iter().for_each(|peer| self.tell_wired(peer));
    }

    /// What is known of them, if there are any.
    pub fn air_report(&self) -> Option<Value> {
        let air = self.air.as_ref()?;
        let mut report = (air.report)();
        report["mesh"] = air.mesh.clone();
        Some(report)
    }

    /// What the report says of nodes of meshlogd from now on.
    pub fn set_mesh_report(&mut self, mesh: Value) {
        if let Some(air) = &mut self.air {
            air.mesh = mesh;
        }
    }

    /// Machines of this domain that were met over the air.
    pub fn air_peers(&self) -> Vec<NodeKey> {
        let report = self.air_report().unwrap_or_default();
        let peers = report["peers"].as_array().into_iter().flatten();
        // Of machines of other domains it is not known whether they hold the same.
        let peers = peers.filter(|peer| !peer["equal"].is_null());
        peers.filter_map(|peer| peer["node"].as_str()?.parse().ok()).collect()
    }

    /// Tells whether a peer is reached by wire: then the air is left to others.
    pub(super) fn tell_wired(&self, peer: NodeKey) {
        if let Some(air) = &self.air {
            let wired = self.links.values().any(|linked| linked.peer == peer && linked.wired);
            (air.wired)(peer, wired);
        }
    }

    /// A newcomer has heard nobody for long enough.
    pub(super) fn give_up_first_heard(&mut self, now: u64) {
        let late = self.first_heard.take_if(|(_, until)| *until <= now);
        let Some((Dial { peer, answer: Some(answer), .. }, _)) = late else { return };
        let seconds = FIRST_HEARD_MS / 1_000;
        let reason = format!("it was not heard on the air in {seconds} s");
        drop(answer.send(Err(ServiceError::Unreachable { peer, reason })));
    }

    pub(super) fn tell_standing(&mut self) {
        let Some(air) = &mut self.air else { return };
        let published = self.published.iter_mut();
        let published = published.map(|(domain, replica)| (*domain, replica.standing())).collect();
        let standing = Standing { own: self.driver.node_mut().standing(), published };
        if air.told.as_ref() != Some(&standing) {
            (air.standing)(&standing);
            air.told = Some(standing);
        }
    }
}

impl Handle {
    /// As a newcomer, exchanges with the machine that invited it, once that is heard over the air. Takes the state of the
    /// latest snapshot only, if that is wanted.
    ///
    /// # Errors
    /// Why that did not work.
    pub fn join_by_air(
        &self,
        air: Air,
        peer: NodeKey,
        invite: Option<InviteProof>,
        only_state: bool,
    ) -> Answer {
        self.ask(move |machine, answer| {
            let dial = Dial { invite, only_state, answer: Some(answer), ..Dial::once(peer, None) };
            machine.first_heard = Some((dial, machine.now() + FIRST_HEARD_MS));
            machine.set_air(air);
        })
    }
}
