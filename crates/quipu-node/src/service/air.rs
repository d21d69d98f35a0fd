//! Links over the air: they are opened by whoever hears that another machine holds something else.

use quipu_core::id::NodeKey;
use serde_json::Value;

use super::Machine;

/// What tells the neighbours what is held here, and knows them.
pub struct Air {
    standing: Box<dyn Fn([u8; 32]) + Send>,
    report: Box<dyn Fn() -> Value + Send>,
    told: Option<[u8; 32]>,
    /// What is known of nodes of meshlogd, if this machine is among any.
    mesh: Value,
}

impl std::fmt::Debug for Air {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Air").finish_non_exhaustive()
    }
}

impl Air {
    /// `standing` is called with the digest whenever it has changed; `report` tells of interfaces and peers.
    /// Both must be quick: the loop waits for them.
    pub fn new(
        standing: impl Fn([u8; 32]) + Send + 'static,
        report: impl Fn() -> Value + Send + 'static,
    ) -> Self {
        Self {
            standing: Box::new(standing),
            report: Box::new(report),
            told: None,
            mesh: Value::Null,
        }
    }
}

impl Machine {
    /// Links over the air are there.
    pub fn set_air(&mut self, air: Air) {
        self.air = Some(air);
        self.unfinished = true;
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

    /// Machines that were met over the air.
    pub fn air_peers(&self) -> Vec<NodeKey> {
        let report = self.air_report().unwrap_or_default();
        let peers = report["peers"].as_array().into_iter().flatten();
        peers.filter_map(|peer| peer["node"].as_str()?.parse().ok()).collect()
    }

    pub(super) fn tell_standing(&mut self) {
        let Some(air) = &mut self.air else { return };
        let digest = self.driver.node_mut().standing();
        if air.told.replace(digest) != Some(digest) {
            (air.standing)(digest);
        }
    }
}
