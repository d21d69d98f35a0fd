//! Running a program, or reusing what is known of it.

use std::collections::BTreeMap;

use quipu_core::execution::Scope;
use quipu_core::id::{ArtifactId, RunKey};
use quipu_exec::PROFILE;
use quipu_exec::program::{Action, Program, Step};
use quipu_exec::receipt::{Kept, Receipt, StepProof, run_key};
use quipu_exec::run::{Settings, Stopper, load, resolve, run};
use quipu_exec::verify::input_differences;
use quipu_exec::watch::Watch;
use quipu_node::api::{ApiError, ExitCode, Made, NewEvent, Ran, Request};
use serde_json::{Value, json};

use crate::ask::Ask;
use crate::explain::run_error;
use crate::known::Beforehand;
use crate::snapshot::SnapshotOf;
use crate::workplace::Workplace;

/// The type tag of receipts.
const RECEIPT_TYPE: &str = "quipu/receipt";
/// The type tag of receipts of single steps.
const STEP_RECEIPT_TYPE: &str = "quipu/step-receipt";
/// The type tag of answers to queries.
const ANSWER_TYPE: &str = quipu_exec::operators::NDJSON;
/// The kind of the event that remembers that a recorded run was asked for with other inputs.
const INPUTS_DIFFER: &str = "program.inputs-differ";

/// What somebody wants to be run.
#[derive(Debug, Clone, Default)]
pub struct Wish {
    /// A program, or a receipt whose run is to be made again: a key or the start of one.
    pub program: String,
    /// Inputs by name.
    pub inputs: BTreeMap<String, String>,
    /// The snapshot that queries are about; nothing is the present.
    pub snapshot: Option<String>,
    /// Distinct members of the roster that must have announced the receipt.
    pub required: u64,
    /// Run it though a receipt is known.
    pub force: bool,
    /// Run it though the inputs are not those of the receipt that was named.
    pub recompute: bool,
    /// Steps that run at a time.
    pub threads: usize,
}

/// What came of it.
#[derive(Debug, Clone)]
pub struct Outcome {
    /// The run.
    pub run: RunKey,
    /// Its receipt.
    pub receipt: ArtifactId,
    /// The outputs by name.
    pub outputs: BTreeMap<String, Kept>,
    /// Steps that ran.
    pub steps_run: usize,
    /// Steps whose outputs were known.
    pub steps_reused: usize,
    /// Members of the roster that have announced this receipt, and members of the domain.
    pub witnesses: (u64, usize),
    /// Whether as many agree as had to, and nobody disagrees.
    pub counts: bool,
    /// Other receipts of the same run.
    pub others: Vec<ArtifactId>,
}

impl Outcome {
    /// As scripts get it.
    pub fn to_json(&self) -> Value {
        let output = |(name, kept): (&String, &Kept)| {
            (name.clone(), json!({ "key": kept.key.to_string(), "size": kept.size }))
        };
        json!({
            "run": self.run.to_string(),
            "receipt": self.receipt.to_string(),
            "outputs": self.outputs.iter().map(output).collect::<serde_json::Map<_, _>>(),
            "steps_run": self.steps_run,
            "steps_reused": self.steps_reused,
            "of_roster": self.witnesses.0,
            "nodes": self.witnesses.1,
            "counts": self.counts,
            "diverges": !self.others.is_empty(),
        })
    }
}

/// A run with all that decides what it gives.
#[derive(Debug)]
pub(crate) struct Resolved {
    pub(crate) key: ArtifactId,
    pub(crate) program: Program,
    pub(crate) inputs: BTreeMap<String, ArtifactId>,
}

impl Resolved {
    pub(crate) fn run(&self) -> RunKey {
        RunKey(run_key(self.key, PROFILE, &self.inputs).0)
    }
}

/// The modules that a program runs.
fn modules(program: &Program) -> impl Iterator<Item = ArtifactId> + '_ {
    program.running().filter_map(|(_, step)| match step.action {
        Action::Module { key, .. } => Some(key),
        _ => None,
    })
}

impl<A: Ask + 'static> Workplace<A> {
    /// Runs a program, or answers with the receipt that is known.
    ///
    /// # Errors
    /// Why there is no receipt.
    pub fn run(&self, wish: &Wish, watch: &dyn Watch) -> Result<Outcome, ApiError> {
        let resolved = self.resolve(wish)?;
        let run = resolved.run();
        let standing = self.standing(&run)?;
        let known = match standing.counting(wish.required) {
            Some(known) if !wish.force => self.obtain(known)?,
            _ => None,
        };
        let own = known.is_none() && wish.required > 1 || standing.diverges();
        let is_known = known.is_some();
        let before = match known {
            Some(receipt) => Beforehand { run: Some(receipt), ..Beforehand::default() },
            // Who is one of several witnesses believes nobody.
            None if wish.force || own => Beforehand::default(),
            None => Beforehand { run: None, steps: self.steps_done()? },
        };
        if !is_known {
            self.gather(&resolved.program, &resolved.inputs)?;
        }
        let done = self.execute(&resolved, &before, watch, wish.threads)?;
        // Whoever announces a receipt says that it has run all of it: what is merely known is not said again.
        let receipt = match is_known && done.steps_run == 0 {
            true => done.receipt.key(),
            false => self.record(&resolved, &done.receipt, wish.snapshot.clone(), Scope::Run)?,
        };
        self.outcome(run, receipt, done, wish.required)
    }

    /// What came of a run, with what others say of it.
    pub(crate) fn outcome(
        &self,
        run: RunKey,
        receipt: ArtifactId,
        done: quipu_exec::run::Done,
        required: u64,
    ) -> Result<Outcome, ApiError> {
        let standing = self.standing(&run)?;
        let own = standing.receipts.iter().find(|one| one.receipt == receipt);
        let witnesses = own.map_or((0, 0), |one| (one.of_roster, one.by.len()));
        let counts = standing.counting(required).is_some_and(|one| one.receipt == receipt);
        let others = standing.receipts.iter().map(|one| one.receipt).filter(|one| *one != receipt);
        Ok(Outcome {
            run,
            receipt,
            others: others.collect(),
            outputs: done.receipt.outputs,
            steps_run: done.steps_run,
            steps_reused: done.steps_reused,
            witnesses,
            counts,
        })
    }

    /// Finds out what is to be run on what.
    pub(crate) fn resolve(&self, wish: &Wish) -> Result<Resolved, ApiError> {
        let named = self.get(&wish.program)?;
        let artifacts = self.artifacts();
        let mut given = BTreeMap::new();
        for (name, text) in &wish.inputs {
            given.insert(name.clone(), self.locate(text)?);
        }
        let recorded = self.receipt(&named).ok();
        let key = recorded.as_ref().map_or(named, |receipt| receipt.program);
        if recorded.is_some() {
            self.get(&key.to_string())?;
        }
        let program = load(key, artifacts.as_ref()).map_err(|error| run_error(&error))?;
        if let Some(receipt) = &recorded {
            self.compare_inputs(&named, receipt, &mut given, wish.recompute)?;
        }
        let snapshot = SnapshotOf::new(self.clone(), wish.snapshot.clone());
        let inputs = resolve(&program, &given, &snapshot, artifacts.as_ref())
            .map_err(|error| run_error(&error))?;
        Ok(Resolved { key, program, inputs })
    }

    /// Brings here what a run needs.
    pub(crate) fn gather(
        &self,
        program: &Program,
        inputs: &BTreeMap<String, ArtifactId>,
    ) -> Result<(), ApiError> {
        for key in inputs.values().copied().chain(modules(program)) {
            if !self.has(&key)? {
                self.get(&key.to_string())?;
            }
        }
        Ok(())
    }

    /// A recorded run is made again with its own inputs. Others are an error, which the log remembers
    /// (PEL-11).
    fn compare_inputs(
        &self,
        named: &ArtifactId,
        recorded: &Receipt,
        given: &mut BTreeMap<String, ArtifactId>,
        recompute: bool,
    ) -> Result<(), ApiError> {
        let mut now = recorded.inputs.clone();
        now.extend(given.iter().map(|(name, key)| (name.clone(), *key)));
        let differences = input_differences(recorded, &now);
        *given = now;
        if differences.is_empty() || recompute {
            return Ok(());
        }
        let text = |key: &Option<ArtifactId>| key.map(|key| key.to_string());
        let list: Vec<Value> = differences
            .iter()
            .map(|(name, then, now)| json!({ "name": name, "recorded": text(then), "given": text(now) }))
            .collect();
        let payload = json!({ "receipt": named.to_string(), "inputs": list }).to_string();
        let payload = serde_json::value::RawValue::from_string(payload)
            .map_err(|error| ApiError::new(ExitCode::Bug, error.to_string()))?;
        let event = NewEvent { kind: INPUTS_DIFFER.to_owned(), payload: Some(payload) };
        self.machine().all(Request::Emit { events: vec![event] })?;
        let names: Vec<&str> = differences.iter().map(|(name, ..)| name.as_str()).collect();
        let message = format!("receipt {named} was made with other inputs: {}", names.join(", "));
        Err(ApiError::refused(message).hint("--recompute runs it with the new ones"))
    }

    /// Runs what is not known.
    pub(crate) fn execute(
        &self,
        resolved: &Resolved,
        known: &Beforehand,
        watch: &dyn Watch,
        threads: usize,
    ) -> Result<quipu_exec::run::Done, ApiError> {
        let stop = Stopper::default();
        let threads = match threads {
            0 => std::thread::available_parallelism().map_or(1, usize::from),
            threads => threads,
        };
        let settings = Settings { known, watch, threads, stop: &stop, order_seed: None };
        let (artifacts, key) = (self.artifacts(), resolved.key);
        run(self.runner(), &artifacts, key, &resolved.program, &resolved.inputs, settings)
            .map_err(|error| run_error(&error))
    }

    /// Keeps the receipt of a run and announces it.
    pub(crate) fn record(
        &self,
        resolved: &Resolved,
        receipt: &Receipt,
        snapshot: Option<String>,
        scope: Scope,
    ) -> Result<ArtifactId, ApiError> {
        let bytes = receipt.encode();
        let key = self.keep(&bytes)?;
        let mut outputs = Vec::new();
        for (name, kept) in &receipt.outputs {
            let output = resolved.program.outputs.get(name);
            let of_step = output.and_then(|output| {
                resolved
                    .program
                    .steps
                    .get(&output.from.step)?
                    .outputs
                    .get(&output.from.output)?
                    .as_deref()
            });
            let tag = output.and_then(|output| output.type_tag.as_deref()).or(of_step);
            outputs.push(made(&kept.key, kept.size, tag));
        }
        let used = resolved.inputs.values().copied().chain(modules(&resolved.program));
        let mut used: Vec<String> = used.chain([resolved.key]).map(|key| key.to_string()).collect();
        used.sort_unstable();
        used.dedup();
        let ran = Ran {
            run: resolved.run().to_string(),
            receipt: made(&key, bytes.len() as u64, Some(RECEIPT_TYPE)),
            answers: self.answers(resolved)?,
            outputs,
            used,
            snapshot,
            scope: scope.as_str().map(str::to_owned),
        };
        self.machine().all(Request::RecordRun(ran))?;
        Ok(key)
    }

    /// The inputs of a run that are answers to queries, as far as they are here.
    pub(crate) fn answers(&self, resolved: &Resolved) -> Result<Vec<Made>, ApiError> {
        let mut answers = Vec::new();
        for name in resolved.program.queries().into_keys() {
            let Some(answer) = resolved.inputs.get(&name) else { continue };
            if let Some(size) = self.artifacts().size(*answer)? {
                answers.push(made(answer, size, Some(ANSWER_TYPE)));
            }
        }
        Ok(answers)
    }

    /// Keeps the receipt of one step and announces it, so that others need not run it.
    pub(crate) fn record_step(&self, step: &Step, proof: &StepProof) -> Result<(), ApiError> {
        let bytes = proof.encode();
        let key = self.keep(&bytes)?;
        let tag = |name: &String| step.outputs.get(name)?.as_deref();
        let output = |(name, kept): (&String, &Kept)| made(&kept.key, kept.size, tag(name));
        let ran = Ran {
            run: RunKey(proof.step_key().0).to_string(),
            receipt: made(&key, bytes.len() as u64, Some(STEP_RECEIPT_TYPE)),
            answers: Vec::new(),
            outputs: proof.outputs.iter().map(output).collect(),
            used: Vec::new(),
            snapshot: None,
            scope: Scope::Step.as_str().map(str::to_owned),
        };
        self.machine().all(Request::RecordRun(ran)).map(|_| ())
    }
}

fn made(key: &ArtifactId, size: u64, type_tag: Option<&str>) -> Made {
    Made { key: key.to_string(), size, type_tag: type_tag.map(str::to_owned) }
}
