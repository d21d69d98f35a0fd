//! Asking others for a run, and following what they do (PEL-6).

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use quipu_exec::run::Done;
use quipu_node::api::{ApiError, ExitCode, Request, Wanted};
use serde_json::{Value, json};

use crate::ask::Ask;
use crate::execute::{Outcome, Wish};
use crate::known::ClaimSeen;
use crate::share::{Open, Shared, Update};
use crate::workplace::Workplace;

/// How often the log is asked for news.
const POLL: Duration = Duration::from_millis(100);

/// What happens to a run that others do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct News {
    /// The step; nothing for the run as a whole.
    pub step: Option<String>,
    /// The machine.
    pub node: Option<String>,
    /// What.
    pub what: Happened,
}

/// What has happened.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Happened {
    /// The machine says that it works on it.
    Claimed,
    /// It is done.
    Done {
        /// Bytes of its outputs.
        bytes: u64,
    },
    /// It came to nothing there.
    Failed(String),
}

impl News {
    /// As scripts get it.
    pub fn to_json(&self, elapsed: Duration) -> Value {
        let (state, bytes, why) = match &self.what {
            Happened::Claimed => ("claimed", None, None),
            Happened::Done { bytes } => ("done", Some(*bytes), None),
            Happened::Failed(why) => ("failed", None, Some(why)),
        };
        let ms = u64::try_from(elapsed.as_millis()).unwrap_or(u64::MAX);
        json!({
            "step": self.step, "state": state, "node": self.node, "bytes": bytes, "why": why, "ms": ms,
        })
    }
}

/// A run that was asked for, and who is told of it.
struct Asked<'t> {
    shared: Shared,
    /// Claims that were told.
    told: BTreeSet<String>,
    tell: &'t mut dyn FnMut(&News),
}

impl<A: Ask + 'static> Workplace<A> {
    /// Asks the other machines of the domain to run a program, and waits for a receipt that counts.
    ///
    /// # Errors
    /// If it cannot be asked for, if a step failed on every machine that could run it, or nobody has run it
    /// in that time.
    pub fn run_elsewhere(
        &self,
        wish: &Wish,
        patience: Duration,
        tell: &mut dyn FnMut(&News),
    ) -> Result<Outcome, ApiError> {
        let resolved = self.resolve(wish)?;
        let run = resolved.run();
        let inputs = resolved.inputs.iter();
        let wanted = Wanted {
            run: run.to_string(),
            program: resolved.key.to_string(),
            inputs: inputs.map(|(name, key)| (name.clone(), key.to_string())).collect(),
            answers: self.answers(&resolved)?,
            snapshot: wish.snapshot.clone(),
            required: wish.required,
        };
        self.machine().all(Request::RequestRun(wanted))?;
        let begin = Instant::now();
        let mut asked = Asked { shared: Shared::new(resolved, None), told: BTreeSet::new(), tell };
        loop {
            let standing = self.standing(&run)?;
            if let Some(known) = standing.counting(wish.required)
                && let Some(receipt) = self.obtain(known)?
            {
                // What ended since it was last looked is told, too.
                self.follow(&mut asked, wish.required)?;
                let steps_reused = receipt.steps.len();
                let done = Done { receipt, steps_run: 0, steps_reused };
                return self.outcome(run, known.receipt, done, wish.required);
            }
            if standing.diverges() {
                let message = format!("other machines have different receipts of the run {run}");
                return Err(ApiError::new(ExitCode::Problem, message).hint("quipu receipts"));
            }
            asked.claims(None, &standing.claims);
            let stuck = self.follow(&mut asked, wish.required)?;
            if begin.elapsed() > patience {
                let message =
                    format!("in {} s nobody has run it: {run}{stuck}", patience.as_secs());
                return Err(ApiError::new(ExitCode::Peer, message)
                    .hint("machines that run what others ask for: quipu serve --work"));
            }
            std::thread::sleep(POLL);
        }
    }

    /// Tells what is new. Answers what prevents the run from going on, if anything does.
    fn follow(&self, asked: &mut Asked<'_>, required: u64) -> Result<String, ApiError> {
        if required > 1 {
            // Nobody shares the steps of a run that each has to do alone.
            return Ok(String::new());
        }
        let Update { open, learnt } = self.update(&mut asked.shared)?;
        for done in learnt {
            // Whoever asks keeps what is between: so it outlives the machine that made it, and those that cannot
            // reach that one get it here.
            for key in asked.shared.taken(&done.id) {
                self.bring(&key, None)?;
            }
            let (step, what) = (Some(done.id), Happened::Done { bytes: done.bytes });
            (asked.tell)(&News { step, node: done.node, what });
        }
        let offers = self.offers()?;
        let mut stuck = String::new();
        for (open, standing) in &open {
            asked.claims(Some(open), &standing.claims);
            let step = asked.shared.step(&open.id);
            let able = offers.able(step);
            if able.is_empty() {
                let labels = step.labels.join(", ");
                let memory = step.limits.memory >> 20;
                stuck = format!(
                    "; no machine offers what step {:?} needs: {memory} MiB of memory{}{labels}",
                    open.id,
                    if labels.is_empty() { "" } else { ", labels " }
                );
                continue;
            }
            let failed = standing.claims.iter().filter(|claim| claim.failed.is_some());
            let failed: Vec<&ClaimSeen> =
                failed.filter(|claim| able.contains(&claim.node)).collect();
            if let Some(last) = failed.last()
                && failed.len() == able.len()
            {
                let why = last.failed.as_deref().unwrap_or_default();
                let message = format!("step {:?} failed on every machine that can run it", open.id);
                return Err(ApiError::refused(format!("{message}: {why}"))
                    .hint("the module is at fault, or its inputs are"));
            }
        }
        Ok(stuck)
    }
}

impl Asked<'_> {
    /// Tells of claims that are new.
    fn claims(&mut self, open: Option<&Open>, claims: &[ClaimSeen]) {
        for claim in claims {
            let kind = if claim.failed.is_some() { "failed" } else { "claimed" };
            let id = open.map(|open| open.id.clone());
            // Whoever works for long says so several times.
            if !self.told.insert(format!("{id:?} {} {kind}", claim.node)) {
                continue;
            }
            let what = claim.failed.clone().map_or(Happened::Claimed, Happened::Failed);
            (self.tell)(&News { step: id, node: Some(claim.node.to_string()), what });
        }
    }
}
