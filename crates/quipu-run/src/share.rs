//! A run whose steps several machines share: what is known of it, what could begin (PEL-6).

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use quipu_core::id::{ArtifactId, RunKey};
use quipu_exec::key::StepKey;
use quipu_exec::program::{Source, Step};
use quipu_exec::receipt::{Kept, Receipt, StepReceipt, resolve_inputs};
use quipu_exec::run::outputs_of;
use quipu_exec::{Job, PROFILE};
use quipu_node::api::ApiError;

use crate::ask::Ask;
use crate::execute::Resolved;
use crate::known::Standing;
use crate::workplace::Workplace;

/// A run, and the results of its steps as far as they are known.
#[derive(Debug)]
pub(crate) struct Shared {
    pub(crate) resolved: Resolved,
    /// The snapshot that its inputs were taken from.
    pub(crate) snapshot: Option<String>,
    done: BTreeMap<String, StepReceipt>,
    /// Steps whose outputs could not be had, and when that is tried again. Until then they count as not
    /// done (PEL-10).
    lost: BTreeMap<String, Instant>,
}

/// How long a step whose outputs could not be had counts as not done.
const LOST: Duration = Duration::from_secs(5);

/// A step whose inputs are all known, and whose outputs are not.
#[derive(Debug, Clone)]
pub(crate) struct Open {
    pub(crate) id: String,
    pub(crate) key: StepKey,
    pub(crate) inputs: BTreeMap<String, ArtifactId>,
}

impl Open {
    /// The key as the log has it.
    pub(crate) fn run(&self) -> RunKey {
        RunKey(self.key.0)
    }
}

/// A step that another machine has done.
#[derive(Debug, Clone)]
pub(crate) struct DoneBy {
    pub(crate) id: String,
    pub(crate) node: Option<String>,
    pub(crate) bytes: u64,
}

/// What the log says of a run now.
#[derive(Debug)]
pub(crate) struct Update {
    /// What could begin and is not done, with what the log says of each.
    pub(crate) open: Vec<(Open, Standing)>,
    /// What is done, and was not when it was last looked at.
    pub(crate) learnt: Vec<DoneBy>,
}

impl Shared {
    pub(crate) fn new(resolved: Resolved, snapshot: Option<String>) -> Self {
        Self { resolved, snapshot, done: BTreeMap::new(), lost: BTreeMap::new() }
    }

    /// A step of the program.
    pub(crate) fn step(&self, id: &str) -> &Step {
        &self.resolved.program.steps[id]
    }

    /// How many steps are done, and how many there are.
    pub(crate) fn progress(&self) -> (usize, usize) {
        (self.done.len(), self.resolved.program.running().count())
    }

    /// The steps that could begin, by id.
    pub(crate) fn open(&self) -> Vec<Open> {
        let output = |step: &str, output: &str| Some(self.done.get(step)?.outputs.get(output)?.key);
        let program = &self.resolved.program;
        let open = |(id, step): (&String, &Step)| {
            let inputs = resolve_inputs(program, id, &self.resolved.inputs, output)?;
            let key = Job { step, inputs: &inputs }.key();
            Some(Open { id: id.clone(), key, inputs })
        };
        program.running().filter(|(id, _)| !self.done.contains_key(*id)).filter_map(open).collect()
    }

    /// Takes note of what a step gave.
    pub(crate) fn learn(&mut self, open: &Open, outputs: BTreeMap<String, Kept>) {
        self.lost.remove(&open.id);
        self.done.insert(open.id.clone(), StepReceipt { key: open.key, outputs });
    }

    /// The bytes of an artifact cannot be had: if a step made it, that step is open again. Answers whether
    /// one is.
    pub(crate) fn lose(&mut self, key: &ArtifactId) -> bool {
        let made = |step: &StepReceipt| step.outputs.values().any(|kept| kept.key == *key);
        let ids: Vec<String> =
            self.done.iter().filter(|(_, step)| made(step)).map(|(id, _)| id.clone()).collect();
        for id in &ids {
            self.done.remove(id);
            self.lost.insert(id.clone(), Instant::now() + LOST);
        }
        !ids.is_empty()
    }

    /// If it was tried whether the outputs of a step can be had again: not yet.
    fn still_lost(&mut self, id: &str) {
        let now = Instant::now();
        if let Some(until) = self.lost.get_mut(id)
            && *until <= now
        {
            *until = now + LOST;
        }
    }

    /// What a step gave that other steps take, or the program gives.
    pub(crate) fn taken(&self, id: &str) -> Vec<ArtifactId> {
        let Some(done) = self.done.get(id) else { return Vec::new() };
        let program = &self.resolved.program;
        let inputs = program.steps.values().flat_map(|step| step.inputs.values());
        let of_steps = inputs.filter_map(|input| match &input.from {
            Source::Step(port) => Some(port),
            Source::Input(_) | Source::Query(_) => None,
        });
        let ports = of_steps.chain(program.outputs.values().map(|output| &output.from));
        let names: BTreeSet<&String> =
            ports.filter(|port| port.step == id).map(|port| &port.output).collect();
        names.into_iter().filter_map(|name| Some(done.outputs.get(name)?.key)).collect()
    }

    /// The receipt of the run, once all steps are done.
    pub(crate) fn receipt<A: Ask + 'static>(
        &self,
        place: &Workplace<A>,
    ) -> Result<Option<Receipt>, ApiError> {
        let Resolved { key, program, inputs } = &self.resolved;
        let (done, all) = self.progress();
        if done < all {
            return Ok(None);
        }
        // Where an answer to a query is an output, only its bytes tell its size.
        for output in program.outputs.values() {
            if let Some(key) = inputs.get(&output.from.to_string()) {
                place.bring(key, None)?;
            }
        }
        let outputs = outputs_of(program, inputs, &self.done, place.artifacts().as_ref())
            .map_err(|error| crate::explain::run_error(&error))?;
        Ok(Some(Receipt {
            program: *key,
            profile: PROFILE,
            inputs: inputs.clone(),
            steps: self.done.clone(),
            outputs,
        }))
    }
}

impl<A: Ask + 'static> Workplace<A> {
    /// Learns from the log which steps are done.
    pub(crate) fn update(&self, shared: &mut Shared) -> Result<Update, ApiError> {
        let mut learnt = Vec::new();
        loop {
            let open = shared.open();
            let keys: Vec<RunKey> = open.iter().map(Open::run).collect();
            let standings = self.standings(&keys)?;
            let before = learnt.len();
            let mut left = Vec::with_capacity(open.len());
            for (open, standing) in open.into_iter().zip(standings) {
                match self.step_done(shared, &open, &standing)? {
                    Some(outputs) => {
                        let nodes = standing.receipts.first().and_then(|one| one.by.first());
                        let bytes = outputs.values().map(|kept| kept.size).sum();
                        learnt.push(DoneBy { id: open.id.clone(), node: nodes.cloned(), bytes });
                        shared.learn(&open, outputs);
                    }
                    None => {
                        shared.still_lost(&open.id);
                        left.push((open, standing));
                    }
                }
            }
            if learnt.len() == before {
                return Ok(Update { open: left, learnt });
            }
        }
    }

    /// What a step gave, if somebody of this domain says so, nobody says otherwise, and its receipt can be had.
    fn step_done(
        &self,
        shared: &Shared,
        open: &Open,
        standing: &Standing,
    ) -> Result<Option<BTreeMap<String, Kept>>, ApiError> {
        let Some(known) = standing.counting(1) else { return Ok(None) };
        let lost = shared.lost.get(&open.id);
        if lost.is_some_and(|until| Instant::now() < *until) {
            return Ok(None);
        }
        if !self.bring(&known.receipt, known.domain.as_deref())? {
            return Ok(None);
        }
        // Anybody may announce anything: what is no receipt of this step says nothing.
        let proof = self.step_proof(&known.receipt).ok();
        let Some(proof) = proof.filter(|proof| proof.step_key() == open.key) else {
            return Ok(None);
        };
        if lost.is_some() {
            for kept in proof.outputs.values() {
                if !self.bring(&kept.key, None)? {
                    return Ok(None);
                }
            }
        }
        Ok(Some(proof.outputs))
    }
}
