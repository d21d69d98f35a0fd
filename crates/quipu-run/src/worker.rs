//! A machine that runs what others ask for (PEL-6): steps whose inputs are known, as soon as it is its turn.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::time::{Duration, Instant};

use quipu_core::execution::Scope;
use quipu_core::id::{ArtifactId, NodeKey, RunKey};
use quipu_exec::program::{Action, Step};
use quipu_exec::receipt::{Kept, StepProof};
use quipu_exec::run::load;
use quipu_exec::watch::{Meter, Unwatched};
use quipu_exec::{Job, StepError};
use quipu_node::api::{ApiError, ExitCode, Request};
use serde_json::Value;

use crate::ask::Ask;
use crate::execute::{Resolved, Wish};
use crate::explain::run_error;
use crate::known::Standing;
use crate::line::{Line, Place, says_again_after};
use crate::offers::{Capacity, Offers};
use crate::share::{Open, Shared};
use crate::workplace::Workplace;

/// A machine that runs what others ask for.
pub struct Worker<A: Ask> {
    place: Workplace<A>,
    /// Makes one more to ask, for each piece of work.
    connect: Box<dyn Fn() -> Result<A, ApiError> + Send>,
    own: NodeKey,
    capacity: Capacity,
    /// How many pieces of work are done at a time.
    slots: usize,
    wanted: BTreeMap<RunKey, Task>,
    line: Line,
    working: BTreeMap<RunKey, Working>,
    results: Receiver<Finished>,
    sender: Sender<Finished>,
}

impl<A: Ask> std::fmt::Debug for Worker<A> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Worker")
            .field("own", &self.own)
            .field("capacity", &self.capacity)
            .finish_non_exhaustive()
    }
}

/// A run that is wanted.
enum Task {
    /// Its steps may be run by different machines. With the steps that this one ran.
    Shared(Box<Shared>, BTreeSet<String>),
    /// Several machines have to run all of it, each on its own.
    Whole(Wish),
}

/// Something that is being done here.
struct Working {
    begun: Instant,
    /// How long it had taken when this machine last said that it works on it.
    said_after: Duration,
    memory: u64,
}

/// A piece of work that has ended here.
struct Finished {
    run: RunKey,
    key: RunKey,
    ended: Ended,
}

enum Ended {
    /// The step gave something, and the log says so.
    Step(Open, BTreeMap<String, Kept>),
    /// The run is done, and the log says so.
    Run,
    /// Bytes that it needs cannot be had now.
    Missing(ArtifactId),
    /// It would fail again.
    Failed(String),
    /// It may not fail again.
    Trouble(String),
}

impl<A: Ask + 'static> Worker<A> {
    /// Offers this machine to the domain.
    ///
    /// # Errors
    /// If the log does not take the offer.
    pub fn begin(
        place: Workplace<A>,
        capacity: Capacity,
        connect: impl Fn() -> Result<A, ApiError> + Send + 'static,
    ) -> Result<Self, ApiError> {
        let row = place.machine().one(Request::Id)?;
        let own: Option<NodeKey> = row["node"].as_str().and_then(|text| text.parse().ok());
        let own = own.ok_or_else(|| ApiError::new(ExitCode::Bug, "no node key in the answer"))?;
        if !place.offers()?.has(&own, &capacity) {
            let Capacity { memory, labels } = capacity.clone();
            place.machine().all(Request::Offer { memory, labels })?;
        }
        let (sender, results) = channel();
        Ok(Self {
            place,
            connect: Box::new(connect),
            own,
            capacity,
            slots: std::thread::available_parallelism().map_or(1, usize::from),
            wanted: BTreeMap::new(),
            line: Line::default(),
            working: BTreeMap::new(),
            results,
            sender,
        })
    }

    /// Looks for work, begins what it is this machine's turn to do, and waits that long for something to end.
    ///
    /// # Errors
    /// If the machine does not answer.
    pub fn work(&mut self, wait: Duration) -> Result<(), ApiError> {
        self.look(Instant::now())?;
        if let Ok(finished) = self.results.recv_timeout(wait) {
            self.finish(finished)?;
        }
        while let Ok(finished) = self.results.try_recv() {
            self.finish(finished)?;
        }
        Ok(())
    }

    fn look(&mut self, now: Instant) -> Result<(), ApiError> {
        self.say_again(now)?;
        let rows = self.place.machine().all(Request::WantedRuns)?;
        let mut keys = BTreeSet::new();
        for row in &rows {
            if let Some(run) = row["run"].as_str().and_then(|text| text.parse().ok()) {
                keys.insert(run);
                self.take_up(run, row, now);
            }
        }
        self.wanted.retain(|run, _| keys.contains(run));
        if keys.is_empty() {
            self.line.keep_only(&keys);
            return Ok(());
        }
        let offers = self.place.offers()?;
        for (run, mut task) in std::mem::take(&mut self.wanted) {
            if !self.line.may_try(&run, now) {
                self.wanted.insert(run, task);
                continue;
            }
            let looked = match &mut task {
                Task::Shared(shared, mine) => {
                    self.look_at(run, shared, mine, &offers, &mut keys, now)
                }
                Task::Whole(wish) => self.look_at_whole(run, wish, now),
            };
            self.wanted.insert(run, task);
            if let Err(error) = looked {
                // One run that cannot be gone on with keeps no other.
                tracing::warn!(%run, %error, "a run that was asked for could not be looked at");
                self.line.put_off(&run, now);
            }
        }
        self.line.keep_only(&keys);
        Ok(())
    }

    /// Says of long work that it goes on, so that others do not take over.
    fn say_again(&mut self, now: Instant) -> Result<(), ApiError> {
        for (key, working) in &mut self.working {
            let after = now - working.begun;
            if after >= says_again_after(working.said_after) {
                working.said_after = after;
                claim(&self.place, key, None)?;
            }
        }
        Ok(())
    }

    /// Finds out what a run is, if that is not known yet.
    fn take_up(&mut self, run: RunKey, row: &Value, now: Instant) {
        self.line.note(&run, &[], now);
        if self.wanted.contains_key(&run) || !self.line.may_try(&run, now) {
            return;
        }
        match task_of(&self.place, run, row) {
            Ok(task) => drop(self.wanted.insert(run, task)),
            Err(error) => {
                tracing::debug!(%run, %error, "not to be run here yet");
                self.line.put_off(&run, now);
            }
        }
    }

    /// Begins those steps of a run whose turn it is.
    fn look_at(
        &mut self,
        run: RunKey,
        shared: &mut Shared,
        mine: &BTreeSet<String>,
        offers: &Offers,
        keys: &mut BTreeSet<RunKey>,
        now: Instant,
    ) -> Result<(), ApiError> {
        let open = self.place.update(shared)?.open;
        keys.extend(open.iter().map(|(open, _)| open.run()));
        for (open, standing) in open {
            let (key, step) = (open.run(), shared.step(&open.id).clone());
            self.line.note(&key, &standing.claims, now);
            let able = offers.able(&step);
            let place = Place { able: &able, own: self.own, near: self.is_near(&open, &step)? };
            if self.has_room(&key, step.limits.memory) && self.line.is_due(&key, place, now) {
                self.begin_step(run, open, step, now)?;
            }
        }
        let able = offers.nodes();
        let place = Place { able: &able, own: self.own, near: true };
        if self.line.is_due(&run, place, now)
            && let Some(receipt) = shared.receipt(&self.place)?
        {
            let all_mine = receipt.steps.keys().all(|id| mine.contains(id));
            let scope = if all_mine { Scope::Run } else { Scope::Assembled };
            self.place.record(&shared.resolved, &receipt, shared.snapshot.clone(), scope)?;
        }
        Ok(())
    }

    /// Runs a whole program, if this machine is one of those that have to.
    fn look_at_whole(&mut self, run: RunKey, wish: &Wish, now: Instant) -> Result<(), ApiError> {
        let roster = self.place.machine().all(Request::Roster)?;
        let own = self.own.to_string();
        let standing = self.place.standing(&run)?;
        self.line.note(&run, &standing.claims, now);
        let has_run =
            |standing: &Standing| standing.receipts.iter().any(|one| one.by.contains(&own));
        let is_asked = roster.iter().any(|row| row["node"] == own);
        // Whether others work on it does not matter.
        if !is_asked
            || has_run(&standing)
            || !self.has_room(&run, self.capacity.memory)
            || !self.line.is_free(&run, &self.own, now)
        {
            return Ok(());
        }
        let wish = wish.clone();
        self.spawn(run, run, self.capacity.memory, now, move |place| {
            match place.run(&wish, &Unwatched) {
                Ok(_) => Ended::Run,
                Err(error) if error.code == ExitCode::Refused => Ended::Failed(error.to_string()),
                Err(error) => Ended::Trouble(error.to_string()),
            }
        })
    }

    /// Whether all that a step needs is here.
    fn is_near(&self, open: &Open, step: &Step) -> Result<bool, ApiError> {
        for key in needs(open, step) {
            if !self.place.has(&key)? {
                return Ok(false);
            }
        }
        Ok(true)
    }

    fn has_room(&self, key: &RunKey, memory: u64) -> bool {
        let used: u64 = self.working.values().map(|working| working.memory).sum();
        !self.working.contains_key(key)
            && self.working.len() < self.slots
            && used.saturating_add(memory) <= self.capacity.memory
    }

    fn begin_step(
        &mut self,
        run: RunKey,
        open: Open,
        step: Step,
        now: Instant,
    ) -> Result<(), ApiError> {
        let (key, memory) = (open.run(), step.limits.memory);
        self.spawn(run, key, memory, now, move |place| run_step(place, open, &step))
    }

    /// Says that this machine works on something, and does it on a thread of its own.
    fn spawn(
        &mut self,
        run: RunKey,
        key: RunKey,
        memory: u64,
        now: Instant,
        work: impl FnOnce(&Workplace<A>) -> Ended + Send + 'static,
    ) -> Result<(), ApiError> {
        claim(&self.place, &key, None)?;
        let place = self.place.asking((self.connect)()?);
        let sender = self.sender.clone();
        std::thread::Builder::new().name("quipu-step".to_owned()).spawn(move || {
            let ended = work(&place);
            // If nobody listens any more, the machine stops.
            let _gone = sender.send(Finished { run, key, ended });
        })?;
        self.working.insert(key, Working { begun: now, said_after: Duration::ZERO, memory });
        Ok(())
    }

    fn finish(&mut self, finished: Finished) -> Result<(), ApiError> {
        let Finished { run, key, ended } = finished;
        self.working.remove(&key);
        let task = self.wanted.get_mut(&run);
        match (ended, task) {
            (Ended::Step(open, outputs), Some(Task::Shared(shared, mine))) => {
                mine.insert(open.id.clone());
                shared.learn(&open, outputs);
            }
            (Ended::Step(..) | Ended::Run, _) => {}
            (Ended::Missing(missing), task) => {
                // If a step made it, that one is open again; else it may still come.
                let again = match task {
                    Some(Task::Shared(shared, _)) => shared.lose(&missing),
                    _ => false,
                };
                tracing::debug!(%run, %missing, again, "bytes that a step needs are not to be had");
                if !again {
                    self.line.put_off(&key, Instant::now());
                }
            }
            (Ended::Failed(why), _) => {
                tracing::warn!(%run, %why, "something that was asked for failed here");
                claim(&self.place, &key, Some(why))?;
            }
            (Ended::Trouble(why), _) => {
                tracing::warn!(%run, %why, "something that was asked for could not be done here");
                self.line.put_off(&key, Instant::now());
            }
        }
        Ok(())
    }
}

fn claim<A: Ask + 'static>(
    place: &Workplace<A>,
    key: &RunKey,
    failed: Option<String>,
) -> Result<(), ApiError> {
    place.machine().all(Request::ClaimStep { step: key.to_string(), failed }).map(|_| ())
}

/// What a step needs: its inputs and its module.
fn needs(open: &Open, step: &Step) -> Vec<ArtifactId> {
    let module = match step.action {
        Action::Module { key, .. } => Some(key),
        Action::Operator { .. } | Action::Query(_) => None,
    };
    open.inputs.values().copied().chain(module).collect()
}

/// What somebody wants, once the program can be had.
fn task_of<A: Ask + 'static>(
    place: &Workplace<A>,
    run: RunKey,
    row: &Value,
) -> Result<Task, ApiError> {
    let pairs = row["inputs"].as_object().into_iter().flatten();
    let inputs: BTreeMap<String, String> =
        pairs.filter_map(|(name, key)| Some((name.clone(), key.as_str()?.to_owned()))).collect();
    let program = row["program"].as_str().unwrap_or_default();
    let snapshot = row["snapshot"].as_str().map(str::to_owned);
    let required = row["required"].as_u64().unwrap_or(1);
    if required > 1 {
        let program = program.to_owned();
        return Ok(Task::Whole(Wish { program, inputs, snapshot, required, ..Wish::default() }));
    }
    let key = place.get(program)?;
    let program = load(key, place.artifacts().as_ref()).map_err(|error| run_error(&error))?;
    let inputs = inputs
        .into_iter()
        .map(|(name, key)| Ok((name, key.parse().map_err(|_| ApiError::refused("no key"))?)))
        .collect::<Result<BTreeMap<_, _>, ApiError>>()?;
    let resolved = Resolved { key, program, inputs };
    if resolved.run() != run || !resolved.program.run_inputs().iter().eq(resolved.inputs.keys()) {
        return Err(ApiError::refused("what was asked for is not a run of that program"));
    }
    Ok(Task::Shared(Box::new(Shared::new(resolved, snapshot)), BTreeSet::new()))
}

/// Gets what a step needs, runs it, and says what it gave.
fn run_step<A: Ask + 'static>(place: &Workplace<A>, open: Open, step: &Step) -> Ended {
    for key in needs(&open, step) {
        match place.bring(&key, None) {
            Ok(true) => {}
            Ok(false) => return Ended::Missing(key),
            Err(error) => return Ended::Trouble(error.to_string()),
        }
    }
    let job = Job { step, inputs: &open.inputs };
    let meter = Arc::new(Meter::new(step.limits.fuel));
    let outputs = match place.runner().run(job, &place.artifacts(), &meter) {
        Ok(outputs) => outputs,
        Err(StepError::Missing { key, .. }) => return Ended::Missing(key),
        Err(error @ (StepError::Io { .. } | StepError::Killed)) => {
            return Ended::Trouble(error.to_string());
        }
        Err(error) => return Ended::Failed(error.to_string()),
    };
    match place.record_step(step, &StepProof::new(job, outputs.clone())) {
        Ok(()) => Ended::Step(open, outputs),
        Err(error) => Ended::Trouble(error.to_string()),
    }
}
