//! Receipts: shown, checked by running again, compared with each other (PEL-5, PEL-7).

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use quipu_core::id::ArtifactId;
use quipu_exec::PROFILE;
use quipu_exec::limits::RECEIPT_BYTES_MAX;
use quipu_exec::program::Action;
use quipu_exec::receipt::{Difference, Kept, Receipt, StepProof, compare};
use quipu_exec::run::{NothingKnown, Settings, Stopper, load};
use quipu_exec::verify::{VerifyError, verify};
use quipu_exec::watch::{Meter, Watch};
use quipu_node::api::{ApiError, Request};
use serde_json::{Value, json};

use crate::ask::Ask;
use crate::explain::{difference_json, run_error, verify_error};
use crate::workplace::{Workplace, key_in};

/// What came of running a receipt's run again.
#[derive(Debug, Clone)]
pub struct Report {
    /// The receipt.
    pub receipt: ArtifactId,
    /// Where what was found differs first; nothing if the receipt is true.
    pub first_difference: Option<Difference>,
    /// Why nothing can be said of it.
    pub unknown: Option<String>,
    /// Steps that ran.
    pub steps_run: usize,
}

impl Report {
    /// Whether the receipt was found to be true.
    pub fn ok(&self) -> bool {
        self.first_difference.is_none() && self.unknown.is_none()
    }

    /// As scripts get it.
    pub fn to_json(&self) -> Value {
        json!({
            "receipt": self.receipt.to_string(),
            "ok": self.ok(),
            "first_difference": self.first_difference.as_ref().map(difference_json),
            "error": self.unknown,
            "steps_run": self.steps_run,
        })
    }
}

fn kept_json(list: &BTreeMap<String, Kept>) -> Value {
    let one = |(name, kept): (&String, &Kept)| {
        (name.clone(), json!({ "key": kept.key.to_string(), "size": kept.size }))
    };
    Value::Object(list.iter().map(one).collect())
}

/// A receipt as scripts get it.
fn receipt_json(key: &ArtifactId, receipt: &Receipt) -> Value {
    let step = |(id, step): (&String, &quipu_exec::receipt::StepReceipt)| {
        (id.clone(), json!({ "key": step.key.to_string(), "outputs": kept_json(&step.outputs) }))
    };
    let inputs = receipt.inputs.iter().map(|(name, key)| (name.clone(), key.to_string().into()));
    json!({
        "receipt": key.to_string(),
        "run": receipt.run_key().to_string(),
        "program": receipt.program.to_string(),
        "profile": receipt.profile,
        "inputs": inputs.collect::<serde_json::Map<_, _>>(),
        "steps": receipt.steps.iter().map(step).collect::<serde_json::Map<_, _>>(),
        "outputs": kept_json(&receipt.outputs),
    })
}

/// A receipt of a run, or of one step.
enum AnyReceipt {
    Run(Receipt),
    Step(StepProof),
}

/// The receipt of a step as scripts get it.
fn proof_json(key: &ArtifactId, proof: &StepProof) -> Value {
    let inputs = proof.inputs.iter().map(|(name, key)| (name.clone(), key.to_string().into()));
    json!({
        "receipt": key.to_string(),
        "step": proof.step_key().to_string(),
        "profile": proof.profile,
        "inputs": inputs.collect::<serde_json::Map<_, _>>(),
        "outputs": kept_json(&proof.outputs),
    })
}

/// The first output of a step that is not what it was.
fn compare_outputs(
    recorded: &BTreeMap<String, Kept>,
    found: &BTreeMap<String, Kept>,
) -> Option<Difference> {
    let names: BTreeSet<&String> = recorded.keys().chain(found.keys()).collect();
    let name = names.into_iter().find(|name| recorded.get(*name) != found.get(*name))?;
    let (a, b) = (recorded.get(name).copied(), found.get(name).copied());
    Some(Difference { step: None, output: Some(name.clone()), a, b })
}

impl<A: Ask + 'static> Workplace<A> {
    /// What a receipt says.
    ///
    /// # Errors
    /// If there is no such receipt.
    pub fn show(&self, text: &str) -> Result<Value, ApiError> {
        let key = self.get(text)?;
        Ok(match self.any_receipt(&key)? {
            AnyReceipt::Run(receipt) => receipt_json(&key, &receipt),
            AnyReceipt::Step(proof) => proof_json(&key, &proof),
        })
    }

    /// Reads a receipt of a run or of a step, whose bytes are here.
    fn any_receipt(&self, key: &ArtifactId) -> Result<AnyReceipt, ApiError> {
        let bytes = self.bytes(key, RECEIPT_BYTES_MAX)?;
        match StepProof::decode(&bytes) {
            Ok(proof) => Ok(AnyReceipt::Step(proof)),
            Err(_) => self.receipt(key).map(AnyReceipt::Run),
        }
    }

    /// The bytes of a program.
    ///
    /// # Errors
    /// If there is no such artifact, or it is larger than a program may be.
    pub fn program_bytes(&self, text: &str) -> Result<Vec<u8>, ApiError> {
        let key = self.get(text)?;
        self.bytes(&key, quipu_exec::limits::PROGRAM_BYTES_MAX)
    }

    /// Runs again what a receipt is about, from the receipt alone, and compares.
    ///
    /// # Errors
    /// If there is no such receipt, or it could not be run again.
    pub fn verify(&self, text: &str, watch: &dyn Watch) -> Result<Report, ApiError> {
        let key = self.get(text)?;
        let receipt = match self.any_receipt(&key)? {
            AnyReceipt::Run(receipt) => receipt,
            AnyReceipt::Step(proof) => return self.verify_step(key, &proof),
        };
        self.get(&receipt.program.to_string())?;
        let program = load(receipt.program, self.artifacts().as_ref());
        self.gather(&program.map_err(|error| run_error(&error))?, &receipt.inputs)?;
        let stop = Stopper::default();
        let threads = std::thread::available_parallelism().map_or(1, usize::from);
        let known = &NothingKnown;
        let settings = Settings { known, watch, threads, stop: &stop, order_seed: None };
        let verified = verify(self.runner(), &self.artifacts(), &receipt, settings)
            .map_err(|error| verify_error(&error))?;
        let (first_difference, steps_run) = (verified.first_difference, verified.steps_run);
        Ok(Report { receipt: key, first_difference, unknown: None, steps_run })
    }

    /// The same for one step.
    fn verify_step(&self, receipt: ArtifactId, proof: &StepProof) -> Result<Report, ApiError> {
        if proof.profile != PROFILE {
            return Err(verify_error(&VerifyError::Profile(proof.profile)));
        }
        let module = match proof.step.action {
            Action::Module { key, .. } => Some(key),
            Action::Operator { .. } | Action::Query(_) => None,
        };
        for key in proof.inputs.values().copied().chain(module) {
            self.get(&key.to_string())?;
        }
        let meter = Arc::new(Meter::new(proof.step.limits.fuel));
        let found = self
            .runner()
            .run(proof.job(), &self.artifacts(), &meter)
            .map_err(|error| ApiError::refused(error.to_string()).hint(error.hint()))?;
        let first_difference = compare_outputs(&proof.outputs, &found);
        Ok(Report { receipt, first_difference, unknown: None, steps_run: 1 })
    }

    /// The receipts that stand at a snapshot, each once, in the order of their announcements.
    ///
    /// # Errors
    /// If the machine does not answer.
    pub fn to_audit(&self, snapshot: Option<String>) -> Result<Vec<ArtifactId>, ApiError> {
        let rows = self.machine().all(Request::Receipts { at: snapshot })?;
        let (mut keys, mut seen) = (Vec::new(), BTreeSet::new());
        // The receipts of runs name every step: those of single steps say nothing more.
        for row in rows.iter().filter(|row| row["scope"] != "step") {
            let key = key_in(&row["receipt"])?;
            if seen.insert(key) {
                keys.push(key);
            }
        }
        Ok(keys)
    }

    /// The same as [`Self::verify`]; what prevents it is a finding.
    ///
    /// # Errors
    /// If it is a bug.
    pub fn audit(&self, receipt: &ArtifactId, watch: &dyn Watch) -> Result<Report, ApiError> {
        match self.verify(&receipt.to_string(), watch) {
            Err(error) if error.code == quipu_node::api::ExitCode::Bug => Err(error),
            Err(error) => Ok(Report {
                receipt: *receipt,
                first_difference: None,
                unknown: Some(error.to_string()),
                steps_run: 0,
            }),
            report => report,
        }
    }

    /// The receipts that were announced; those that contradict another one with the first difference.
    ///
    /// # Errors
    /// If the machine does not answer.
    pub fn receipts(&self, at: Option<String>) -> Result<Vec<Value>, ApiError> {
        let mut rows = self.machine().all(Request::Receipts { at })?;
        let mut firsts: BTreeMap<String, ArtifactId> = BTreeMap::new();
        for row in &mut rows {
            let key = key_in(&row["receipt"])?;
            let run = row["run"].as_str().unwrap_or_default().to_owned();
            let first = *firsts.entry(run).or_insert(key);
            if row["diverges"] == true && first != key {
                row["first_difference"] = self.difference(&first, &key).unwrap_or(Value::Null);
                row["differs_from"] = first.to_string().into();
            }
        }
        Ok(rows)
    }

    /// Where two receipts differ first, if both and their program are here.
    fn difference(&self, a: &ArtifactId, b: &ArtifactId) -> Option<Value> {
        let (a, b) = match (self.any_receipt(a).ok()?, self.any_receipt(b).ok()?) {
            (AnyReceipt::Run(a), AnyReceipt::Run(b)) => (a, b),
            (AnyReceipt::Step(a), AnyReceipt::Step(b)) => {
                return compare_outputs(&a.outputs, &b.outputs).as_ref().map(difference_json);
            }
            _ => return None,
        };
        let program = load(a.program, self.artifacts().as_ref()).ok()?;
        compare(&program, &a, &b).as_ref().map(difference_json)
    }
}
