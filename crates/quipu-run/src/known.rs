//! What is known of a run before it begins, here and in the domains that are followed (PEL-4, PEL-9, PEL-10).

use std::collections::{BTreeMap, BTreeSet};

use quipu_core::id::{ArtifactId, NodeKey, RunKey};
use quipu_exec::key::{RunKey as ExecRunKey, StepKey};
use quipu_exec::limits::RECEIPT_BYTES_MAX;
use quipu_exec::receipt::{Kept, Receipt, StepProof};
use quipu_exec::run::Known;
use quipu_node::api::{ApiError, ExitCode, Request};
use serde_json::Value;

use crate::ask::Ask;
use crate::workplace::{Workplace, key_in};

/// The most receipts that are looked through for steps that were done already.
const RECEIPTS_READ_MAX: usize = 1_000;

/// A receipt that was announced, and by how many.
#[derive(Debug, Clone)]
pub(crate) struct Witnessed {
    pub(crate) receipt: ArtifactId,
    /// Members of the roster that announced it.
    pub(crate) of_roster: u64,
    /// Members of this domain that ran it.
    pub(crate) by: Vec<String>,
    /// The domain that published it, if nobody here announced it.
    pub(crate) domain: Option<String>,
}

/// What the log says of a run.
#[derive(Debug, Clone)]
pub(crate) struct Standing {
    pub(crate) receipts: Vec<Witnessed>,
    /// What machines say that they work on, or gave up.
    pub(crate) claims: Vec<ClaimSeen>,
}

/// What a machine says of its work on something.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct ClaimSeen {
    pub(crate) node: NodeKey,
    /// The event that says so: another one, if it says so again.
    pub(crate) event: String,
    /// Why it gave up, if it did.
    pub(crate) failed: Option<String>,
}

impl Standing {
    /// Whether receipts contradict each other: then none of them counts.
    pub(crate) fn diverges(&self) -> bool {
        self.receipts.len() > 1
    }

    /// The receipt that counts, if so many distinct members of the roster have to agree. One is enough
    /// from anybody.
    pub(crate) fn counting(&self, required: u64) -> Option<&Witnessed> {
        let only = self.receipts.first().filter(|_| !self.diverges())?;
        (required <= 1 || only.of_roster >= required).then_some(only)
    }
}

/// Answers what was found out beforehand.
#[derive(Debug, Default)]
pub(crate) struct Beforehand {
    pub(crate) run: Option<Receipt>,
    pub(crate) steps: BTreeMap<StepKey, BTreeMap<String, Kept>>,
}

impl Known for Beforehand {
    fn run(&self, key: ExecRunKey) -> Option<Receipt> {
        self.run.clone().filter(|receipt| receipt.run_key() == key)
    }

    fn step(&self, key: StepKey) -> Option<BTreeMap<String, Kept>> {
        self.steps.get(&key).cloned()
    }
}

impl<A: Ask + 'static> Workplace<A> {
    /// What the log says of a run.
    pub(crate) fn standing(&self, run: &RunKey) -> Result<Standing, ApiError> {
        let bug = || ApiError::new(ExitCode::Bug, "no answer about a run");
        self.standings(&[*run])?.pop().ok_or_else(bug)
    }

    /// What the log says of runs or steps, in their order.
    pub(crate) fn standings(&self, runs: &[RunKey]) -> Result<Vec<Standing>, ApiError> {
        if runs.is_empty() {
            return Ok(Vec::new());
        }
        let runs = runs.iter().map(ToString::to_string).collect();
        self.machine().all(Request::KnownRuns { runs })?.iter().map(standing_in).collect()
    }

    /// Reads a receipt whose bytes are here.
    pub(crate) fn receipt(&self, key: &ArtifactId) -> Result<Receipt, ApiError> {
        let bytes = self.bytes(key, RECEIPT_BYTES_MAX)?;
        Receipt::decode(&bytes).map_err(|error| ApiError::refused(format!("{key}: {error}")))
    }

    /// Reads a receipt of a step whose bytes are here.
    pub(crate) fn step_proof(&self, key: &ArtifactId) -> Result<StepProof, ApiError> {
        let bytes = self.bytes(key, RECEIPT_BYTES_MAX)?;
        StepProof::decode(&bytes).map_err(|error| ApiError::refused(format!("{key}: {error}")))
    }

    /// Gets a receipt that somebody announced, and its outputs. Nothing if some of it cannot be had: then
    /// it is no answer (PEL-10).
    pub(crate) fn obtain(&self, known: &Witnessed) -> Result<Option<Receipt>, ApiError> {
        if !self.bring(&known.receipt, known.domain.as_deref())? {
            return Ok(None);
        }
        let Ok(receipt) = self.receipt(&known.receipt) else { return Ok(None) };
        for kept in receipt.outputs.values() {
            if !self.bring(&kept.key, known.domain.as_deref())? {
                return Ok(None);
            }
        }
        Ok(Some(receipt))
    }

    /// Whether bytes are here, or could be had from peers or another domain.
    pub(crate) fn bring(&self, key: &ArtifactId, domain: Option<&str>) -> Result<bool, ApiError> {
        let text = key.to_string();
        let request = match domain {
            Some(domain) => Request::Import { domain: domain.to_owned(), key: text },
            None if self.has(key)? => return Ok(true),
            None => Request::Fetch { key: text },
        };
        match self.machine().all(request) {
            Ok(_) => self.has(key),
            Err(error) if error.code == ExitCode::Bug => Err(error),
            Err(error) => {
                tracing::debug!(%key, %error, "not to be had");
                Ok(false)
            }
        }
    }

    /// The outputs of steps that this machine ran, from its own receipts that nothing contradicts. Not from
    /// others': who announces a receipt with their steps in it would witness what it has not run (PEL-9).
    pub(crate) fn steps_done(&self) -> Result<BTreeMap<StepKey, BTreeMap<String, Kept>>, ApiError> {
        let node = self.machine().one(Request::Id)?["node"].clone();
        let rows = self.machine().all(Request::Receipts { at: None })?;
        // What this machine has put together was run by others, too.
        let fits = |row: &&Value| {
            row["node"] == node
                && row["have"] == true
                && row["diverges"] == false
                && row["scope"] != "assembled"
        };
        let mut steps = BTreeMap::new();
        let mut contested = BTreeSet::new();
        for row in rows.iter().rev().filter(fits).take(RECEIPTS_READ_MAX) {
            let key = key_in(&row["receipt"])?;
            let done: Vec<(StepKey, BTreeMap<String, Kept>)> = if row["scope"] == "step" {
                let proof = self.step_proof(&key);
                proof.into_iter().map(|proof| (proof.step_key(), proof.outputs)).collect()
            } else {
                let receipt = self.receipt(&key).ok();
                let steps = receipt.into_iter().flat_map(|receipt| receipt.steps.into_values());
                steps.map(|step| (step.key, step.outputs)).collect()
            };
            for (key, outputs) in done {
                let known = steps.entry(key).or_insert_with(|| outputs.clone());
                if *known != outputs {
                    contested.insert(key);
                }
            }
        }
        steps.retain(|key, _| !contested.contains(key));
        Ok(steps)
    }
}

fn standing_in(row: &Value) -> Result<Standing, ApiError> {
    let mut receipts = Vec::new();
    for one in row["receipts"].as_array().into_iter().flatten() {
        let by = one["nodes"].as_array().into_iter().flatten();
        receipts.push(Witnessed {
            receipt: key_in(&one["receipt"])?,
            of_roster: one["of_roster"].as_u64().unwrap_or(0),
            by: by.filter_map(|node| Some(node.as_str()?.to_owned())).collect(),
            domain: one["domain"].as_str().map(str::to_owned),
        });
    }
    let claim = |one: &Value| {
        Some(ClaimSeen {
            node: one["node"].as_str()?.parse().ok()?,
            event: one["uuid"].as_str()?.to_owned(),
            failed: one["failed"].as_str().map(str::to_owned),
        })
    };
    let claims = row["claims"].as_array().into_iter().flatten().filter_map(claim).collect();
    Ok(Standing { receipts, claims })
}
