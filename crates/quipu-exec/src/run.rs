//! Running programs: what is known is not done again, the rest in any order on any number of threads.

mod plan;
mod resolve;

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};

use quipu_core::id::ArtifactId;

pub use resolve::resolve;

use crate::artifacts::Artifacts;
use crate::key::{RunKey, StepKey};
use crate::operators::SnapshotError;
use crate::profile::PROFILE;
use crate::program::{Program, ProgramError, Step};
use crate::receipt::{Difference, Kept, Receipt, StepReceipt, run_key};
use crate::step::{Job, Runner, StepError};
use crate::watch::{Ended, Meter, Watch};

/// Threads that run steps, at most.
const THREADS_MAX: usize = 64;

/// What is known from earlier runs, here or elsewhere. Whom to believe is the caller's business: what
/// this answers is taken for true.
pub trait Known: Sync {
    /// The receipt of a run.
    fn run(&self, _key: RunKey) -> Option<Receipt> {
        None
    }
    /// The outputs of a step.
    fn step(&self, _key: StepKey) -> Option<BTreeMap<String, Kept>> {
        None
    }
}

/// Knows nothing: everything runs.
#[derive(Debug, Clone, Copy, Default)]
pub struct NothingKnown;

impl Known for NothingKnown {}

/// How a run goes on.
#[derive(Clone, Copy)]
pub struct Settings<'s> {
    /// What is known.
    pub known: &'s dyn Known,
    /// Who watches.
    pub watch: &'s dyn Watch,
    /// How many steps run at a time.
    pub threads: usize,
    /// Ends the run.
    pub stop: &'s Stopper,
    /// Which of the steps that could begin does: the first by id, or another by this seed. For tests: no
    /// order may change a receipt.
    pub order_seed: Option<u64>,
}

/// What a run came to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Done {
    /// The receipt.
    pub receipt: Receipt,
    /// Steps that ran.
    pub steps_run: usize,
    /// Steps whose outputs were known.
    pub steps_reused: usize,
}

/// Why there is no receipt.
#[derive(Debug, thiserror::Error)]
pub enum RunError {
    /// The program's bytes are not here, or could not be read.
    #[error("the program {key} could not be read: {error}")]
    ProgramBytes {
        /// The program.
        key: ArtifactId,
        /// Why.
        error: io::Error,
    },
    /// The program is none.
    #[error("{key}: {error}")]
    Program {
        /// Its key.
        key: ArtifactId,
        /// What is wrong with it.
        error: ProgramError,
    },
    /// Inputs are missing.
    #[error("the program needs inputs that were not given: {}", .0.join(", "))]
    InputsMissing(Vec<String>),
    /// Inputs were given that the program does not have.
    #[error("the program has no such inputs: {}", .0.join(", "))]
    InputsUnknown(Vec<String>),
    /// The snapshot did not answer.
    #[error("the query for {name:?} has no answer: {error}")]
    Query {
        /// The input that it is for.
        name: String,
        /// Why.
        error: SnapshotError,
    },
    /// A step failed.
    #[error("step {step:?}: {error}")]
    Step {
        /// Its id.
        step: String,
        /// Why.
        error: StepError,
    },
    /// A step that was run again, because bytes were gone, gave something else than before.
    #[error("a step gives something else than is known of it: {0}")]
    Diverged(Box<Difference>),
    /// Bytes could not be looked for or kept.
    #[error("{what}: {error}")]
    Io {
        /// What was being done.
        what: String,
        /// What came of it.
        error: io::Error,
    },
    /// Somebody stopped it.
    #[error("the run was stopped on request")]
    Stopped,
}

impl RunError {
    /// What one can do about it.
    pub fn hint(&self) -> &'static str {
        match self {
            Self::ProgramBytes { .. } => "fetch the program, then run again",
            Self::Program { .. } => "programs are made of sources: build one",
            Self::InputsMissing(_) | Self::InputsUnknown(_) => {
                "give each input of the program a key, by name"
            }
            Self::Query { .. } => "the query is the program's, the snapshot the caller's",
            Self::Step { error, .. } => error.hint(),
            Self::Diverged(_) => "verify the receipt that the outputs are known from",
            Self::Io { .. } => "check the disk and the store, then run again",
            Self::Stopped => "run again",
        }
    }
}

/// Ends a run from another thread.
#[derive(Default)]
pub struct Stopper(Mutex<Stopping>);

#[derive(Default)]
struct Stopping {
    stopped: bool,
    running: Vec<Arc<Meter>>,
}

impl Stopper {
    fn state(&self) -> MutexGuard<'_, Stopping> {
        // A list and a flag: whole between any two statements.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Ends the run: steps that run are stopped, and no other begins.
    pub fn stop(&self, runner: &Runner) {
        let mut state = self.state();
        state.stopped = true;
        for meter in &state.running {
            runner.kill(meter);
        }
    }

    /// Whether it was ended.
    pub fn is_stopped(&self) -> bool {
        self.state().stopped
    }

    fn begin(&self, meter: &Arc<Meter>) {
        let mut state = self.state();
        if state.stopped {
            meter.kill();
        }
        state.running.push(Arc::clone(meter));
    }

    fn end(&self, meter: &Arc<Meter>) {
        self.state().running.retain(|running| !Arc::ptr_eq(running, meter));
    }
}

/// Reads a program.
pub fn load(key: ArtifactId, artifacts: &dyn Artifacts) -> Result<Program, RunError> {
    let failed = |error| RunError::ProgramBytes { key, error };
    let size = artifacts.size(key).map_err(failed)?;
    let size = size.ok_or_else(|| failed(io::Error::from(io::ErrorKind::NotFound)))?;
    let max = crate::limits::PROGRAM_BYTES_MAX;
    if size > max as u64 {
        let bytes = usize::try_from(size).unwrap_or(usize::MAX);
        return Err(RunError::Program { key, error: ProgramError::TooLarge { bytes } });
    }
    let mut bytes = Vec::new();
    let mut reader = artifacts.open(key).map_err(failed)?;
    io::Read::read_to_end(&mut reader, &mut bytes).map_err(failed)?;
    Program::decode(&bytes).map_err(|error| RunError::Program { key, error })
}

/// Runs a program, whose inputs are all resolved ([`resolve`]).
pub fn run(
    runner: &Runner,
    artifacts: &Arc<dyn Artifacts>,
    program_key: ArtifactId,
    program: &Program,
    inputs: &BTreeMap<String, ArtifactId>,
    settings: Settings<'_>,
) -> Result<Done, RunError> {
    resolve::check_inputs(program, inputs)?;
    let steps_all = program.running().count();
    if let Some(receipt) = settings.known.run(run_key(program_key, PROFILE, inputs))
        && receipt.check_against(program).is_ok()
        && all_here(receipt.outputs.values(), artifacts.as_ref())?
    {
        return Ok(Done { receipt, steps_run: 0, steps_reused: steps_all });
    }
    let plan = plan::plan(program, inputs, settings.known, artifacts.as_ref())?;
    let board = Board::new(program, inputs, plan);
    let threads = settings.threads.clamp(1, THREADS_MAX).min(steps_all.max(1));
    let worker = Worker { runner, artifacts, board: &board, settings };
    std::thread::scope(|scope| {
        for _ in 1..threads {
            scope.spawn(|| worker.work());
        }
        worker.work();
    });
    let state = board.state.into_inner().unwrap_or_else(PoisonError::into_inner);
    if let Some(error) = state.failed {
        return Err(error);
    }
    let outputs = outputs_of(program, inputs, &state.done, artifacts.as_ref())?;
    let receipt = Receipt {
        program: program_key,
        profile: PROFILE,
        inputs: inputs.clone(),
        steps: state.done,
        outputs,
    };
    let steps_run = state.steps_run;
    Ok(Done { receipt, steps_run, steps_reused: steps_all - steps_run })
}

fn all_here<'k>(
    kept: impl IntoIterator<Item = &'k Kept>,
    artifacts: &dyn Artifacts,
) -> Result<bool, RunError> {
    for kept in kept {
        if !is_here(*kept, artifacts)? {
            return Ok(false);
        }
    }
    Ok(true)
}

fn is_here(kept: Kept, artifacts: &dyn Artifacts) -> Result<bool, RunError> {
    let what = || format!("looking for {}", kept.key);
    let size = artifacts.size(kept.key).map_err(|error| RunError::Io { what: what(), error })?;
    Ok(size == Some(kept.size))
}

/// The outputs of the program, when all steps are done.
///
/// # Errors
/// If something is missing, or the artifacts cannot be read.
pub fn outputs_of(
    program: &Program,
    inputs: &BTreeMap<String, ArtifactId>,
    done: &BTreeMap<String, StepReceipt>,
    artifacts: &dyn Artifacts,
) -> Result<BTreeMap<String, Kept>, RunError> {
    let mut outputs = BTreeMap::new();
    for (name, output) in &program.outputs {
        let port = &output.from;
        let made = done.get(&port.step).and_then(|step| step.outputs.get(&port.output)).copied();
        let kept = match (made, inputs.get(&port.to_string())) {
            (Some(kept), _) => kept,
            (None, Some(key)) => {
                let what = format!("looking for {key}");
                let size = artifacts.size(*key).map_err(|error| RunError::Io { what, error })?;
                let size = size.ok_or_else(|| RunError::InputsMissing(vec![port.to_string()]))?;
                Kept { key: *key, size }
            }
            // The checker lets no such program through.
            (None, None) => return Err(RunError::InputsMissing(vec![port.to_string()])),
        };
        outputs.insert(name.clone(), kept);
    }
    Ok(outputs)
}

/// Where workers see what there is to do.
struct Board<'p> {
    program: &'p Program,
    inputs: &'p BTreeMap<String, ArtifactId>,
    /// The steps that take something of each step.
    feeds: BTreeMap<&'p str, Vec<&'p str>>,
    /// What is known of steps that run all the same.
    expected: BTreeMap<&'p str, StepReceipt>,
    state: Mutex<State<'p>>,
    changed: Condvar,
}

struct State<'p> {
    /// How many steps each waits for.
    waits: BTreeMap<&'p str, usize>,
    ready: BTreeSet<&'p str>,
    done: BTreeMap<String, StepReceipt>,
    /// Steps that are neither done nor failed.
    left: usize,
    steps_run: usize,
    picked: u64,
    failed: Option<RunError>,
}

impl<'p> Board<'p> {
    fn new(
        program: &'p Program,
        inputs: &'p BTreeMap<String, ArtifactId>,
        plan: plan::Plan<'p>,
    ) -> Self {
        let mut feeds: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
        let mut waits = BTreeMap::new();
        for (id, step) in program.running() {
            if plan.reused.contains_key(&**id) {
                continue;
            }
            let mut needs = step.needs();
            needs.retain(|need| is_open(program, &plan, need));
            for need in &needs {
                feeds.entry(need).or_default().push(id);
            }
            waits.insert(&**id, needs.len());
        }
        let ready = waits.iter().filter(|(_, count)| **count == 0).map(|(id, _)| *id).collect();
        let left = waits.len();
        let done = plan.reused.into_iter().map(|(id, step)| (id.to_owned(), step)).collect();
        let state = State { waits, ready, done, left, steps_run: 0, picked: 0, failed: None };
        let (state, changed) = (Mutex::new(state), Condvar::new());
        Self { program, inputs, feeds, expected: plan.expected, state, changed }
    }

    fn state(&self) -> MutexGuard<'_, State<'p>> {
        // If a worker has panicked, the scope panics too, once all have ended.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Whether a step is still to be done.
fn is_open(program: &Program, plan: &plan::Plan<'_>, id: &str) -> bool {
    !plan.reused.contains_key(id)
        && program
            .steps
            .get(id)
            .is_some_and(|step| !matches!(step.action, crate::program::Action::Query(_)))
}

/// What one thread does.
#[derive(Clone, Copy)]
struct Worker<'w, 'p> {
    runner: &'w Runner,
    artifacts: &'w Arc<dyn Artifacts>,
    board: &'w Board<'p>,
    settings: Settings<'w>,
}

impl<'p> Worker<'_, 'p> {
    fn work(&self) {
        while let Some((id, inputs)) = self.next() {
            let result = self.step(id, &inputs);
            self.finish(id, result);
        }
    }

    /// Takes a step that can begin; waits if there is none yet. Nothing if there is nothing left to do.
    fn next(&self) -> Option<(&'p str, BTreeMap<String, ArtifactId>)> {
        let mut state = self.board.state();
        loop {
            if state.failed.is_none() && self.settings.stop.is_stopped() {
                state.failed = Some(RunError::Stopped);
                self.board.changed.notify_all();
            }
            if state.failed.is_some() || state.left == 0 {
                return None;
            }
            if !state.ready.is_empty() {
                let at = self.settings.order_seed.map_or(0, |seed| {
                    let mixed = (seed ^ state.picked).wrapping_mul(0x9e37_79b9_7f4a_7c15);
                    (mixed >> 32) as usize % state.ready.len()
                });
                state.picked += 1;
                let id = state.ready.iter().nth(at).copied()?;
                state.ready.remove(id);
                let output =
                    |step: &str, output: &str| Some(state.done.get(step)?.outputs.get(output)?.key);
                let board = self.board;
                let inputs =
                    crate::receipt::resolve_inputs(board.program, id, board.inputs, output)?;
                return Some((id, inputs));
            }
            state = self.board.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
    }

    /// What a step gives, and whether it had to run for it.
    fn step(
        &self,
        id: &str,
        inputs: &BTreeMap<String, ArtifactId>,
    ) -> Result<(StepReceipt, bool), RunError> {
        let step = &self.board.program.steps[id];
        let job = Job { step, inputs };
        let key = job.key();
        let expected = match self.board.expected.get(id) {
            Some(expected) => Some(expected.outputs.clone()),
            None => known_step(self.settings.known, key, step),
        };
        // What was planned to run has to, for its bytes.
        if let Some(outputs) = expected.as_ref().filter(|_| !self.board.expected.contains_key(id))
            && all_here(outputs.values(), self.artifacts.as_ref())?
        {
            return Ok((StepReceipt { key, outputs: outputs.clone() }, false));
        }
        let meter = Arc::new(Meter::new(step.limits.fuel));
        self.settings.stop.begin(&meter);
        self.settings.watch.begin(id, &meter);
        let ran = self.runner.run(job, self.artifacts, &meter);
        self.settings.stop.end(&meter);
        let outputs = ran.map_err(|error| match error {
            StepError::Killed => RunError::Stopped,
            error => RunError::Step { step: id.to_owned(), error },
        })?;
        if let Some(expected) = expected
            && let Some(difference) = differing(id, &expected, &outputs)
        {
            return Err(RunError::Diverged(Box::new(difference)));
        }
        Ok((StepReceipt { key, outputs }, true))
    }

    fn finish(&self, id: &'p str, result: Result<(StepReceipt, bool), RunError>) {
        let how = match &result {
            Ok((_, true)) => Ended::Run,
            Ok((_, false)) => Ended::Reused,
            Err(_) => Ended::Failed,
        };
        self.settings.watch.end(id, how);
        let mut guard = self.board.state();
        let state = &mut *guard;
        match result {
            Ok((step, ran)) => {
                state.steps_run += usize::from(ran);
                state.done.insert(id.to_owned(), step);
                for fed in self.board.feeds.get(id).into_iter().flatten() {
                    if let Some(count) = state.waits.get_mut(fed) {
                        *count -= 1;
                        if *count == 0 {
                            state.ready.insert(fed);
                        }
                    }
                }
            }
            Err(error) => {
                state.failed.get_or_insert(error);
            }
        }
        state.left -= 1;
        self.board.changed.notify_all();
    }
}

/// What is known of a step, if it has the right outputs.
fn known_step(known: &dyn Known, key: StepKey, step: &Step) -> Option<BTreeMap<String, Kept>> {
    known.step(key).filter(|outputs| outputs.keys().eq(step.outputs.keys()))
}

fn differing(
    id: &str,
    known: &BTreeMap<String, Kept>,
    now: &BTreeMap<String, Kept>,
) -> Option<Difference> {
    let name = known.keys().find(|name| known.get(*name) != now.get(*name))?;
    Some(Difference {
        step: Some(id.to_owned()),
        output: Some(name.clone()),
        a: known.get(name).copied(),
        b: now.get(name).copied(),
    })
}
