//! What machines offer to those who want something run.

use quipu_core::id::NodeKey;
use quipu_exec::program::Step;
use quipu_node::api::{ApiError, Request};
use serde_json::Value;

use crate::ask::Ask;
use crate::workplace::Workplace;

/// What a machine offers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Capacity {
    /// Bytes of memory that its steps may take together.
    pub memory: u64,
    /// What it has besides, as people call it. Sorted, each once.
    pub labels: Vec<String>,
}

impl Capacity {
    /// So much memory, and these labels.
    pub fn new(memory: u64, mut labels: Vec<String>) -> Self {
        labels.sort_unstable();
        labels.dedup();
        Self { memory, labels }
    }

    /// Whether a step may be given to it.
    pub(crate) fn fits(&self, step: &Step) -> bool {
        step.limits.memory <= self.memory
            && step.labels.iter().all(|label| self.labels.contains(label))
    }

    fn of(row: &Value) -> Option<Self> {
        let labels = row["labels"].as_array()?.iter();
        let labels = labels.filter_map(|label| Some(label.as_str()?.to_owned())).collect();
        Some(Self { memory: row["memory"].as_u64()?, labels })
    }
}

/// What all machines offer.
#[derive(Debug, Clone, Default)]
pub(crate) struct Offers(Vec<(NodeKey, Capacity)>);

impl Offers {
    /// Those that a step may be given to.
    pub(crate) fn able(&self, step: &Step) -> Vec<NodeKey> {
        self.0.iter().filter(|(_, offer)| offer.fits(step)).map(|(node, _)| *node).collect()
    }

    /// All of them.
    pub(crate) fn nodes(&self) -> Vec<NodeKey> {
        self.0.iter().map(|(node, _)| *node).collect()
    }

    /// Whether a machine offers just that.
    pub(crate) fn has(&self, node: &NodeKey, capacity: &Capacity) -> bool {
        self.0.iter().any(|(other, offer)| other == node && offer == capacity)
    }
}

impl<A: Ask + 'static> Workplace<A> {
    /// What the members offer.
    pub(crate) fn offers(&self) -> Result<Offers, ApiError> {
        let rows = self.machine().all(Request::Offers)?;
        let offer = |row: &Value| Some((row["node"].as_str()?.parse().ok()?, Capacity::of(row)?));
        Ok(Offers(rows.iter().filter_map(offer).collect()))
    }
}
