//! Runs that others ask for (PEL-6): each machine that offers itself works out on its own whose turn it is,
//! so nobody hands out work. Two that run the same get the same receipt, so a mistake costs time only.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use quipu_core::id::{NodeKey, RunKey};
use quipu_exec::watch::Unwatched;
use quipu_node::api::{ApiError, ExitCode, Request};
use serde_json::Value;

use crate::ask::Ask;
use crate::execute::Wish;
use crate::workplace::Workplace;

/// How long each machine waits for those before it in line to say that they work on a run.
const TURN: Duration = Duration::from_secs(3);
/// How long a machine that said so is waited for: after that it may have died. A run that takes longer is
/// done twice.
const PATIENCE: Duration = Duration::from_secs(10);

/// A machine that runs what others ask for.
#[derive(Debug)]
pub struct Worker<A: Ask> {
    place: Workplace<A>,
    node: NodeKey,
    memory: u64,
    seen: BTreeMap<RunKey, Seen>,
}

/// What this machine knows of a run that is wanted.
#[derive(Debug)]
struct Seen {
    since: Instant,
    /// When the claim of another machine was seen first.
    claimed: BTreeMap<NodeKey, Instant>,
    /// It failed here, for a reason that stays.
    failed: bool,
}

impl<A: Ask + 'static> Worker<A> {
    /// Offers this machine to the domain, for steps that take so much memory at most.
    ///
    /// # Errors
    /// If the log does not take the offer.
    pub fn begin(place: Workplace<A>, memory: u64) -> Result<Self, ApiError> {
        let row = place.machine().one(Request::Id)?;
        let node = row["node"].as_str().and_then(|text| text.parse().ok());
        let node = node.ok_or_else(|| ApiError::new(ExitCode::Bug, "no node key in the answer"))?;
        let same = |row: &Value| row["node"] == node_text(&node) && row["memory"] == memory;
        if !place.machine().all(Request::Offers)?.iter().any(same) {
            place.machine().all(Request::Offer { memory, labels: Vec::new() })?;
        }
        Ok(Self { place, node, memory, seen: BTreeMap::new() })
    }

    /// Looks for runs that are wanted, and runs those whose turn it is here. Answers how many it ran.
    ///
    /// # Errors
    /// If the machine does not answer.
    pub fn look(&mut self, now: Instant) -> Result<usize, ApiError> {
        let wanted = self.place.machine().all(Request::WantedRuns)?;
        let workers = self.workers()?;
        let mut keys = BTreeSet::new();
        let mut ran = 0;
        for row in &wanted {
            let Some(run) = row["run"].as_str().and_then(|text| text.parse().ok()) else {
                continue;
            };
            keys.insert(run);
            if self.is_due(&run, &workers, now)? {
                ran += usize::from(self.work(&run, row)?);
            }
        }
        self.seen.retain(|run, _| keys.contains(run));
        Ok(ran)
    }

    /// The machines that offer themselves.
    fn workers(&self) -> Result<Vec<NodeKey>, ApiError> {
        let rows = self.place.machine().all(Request::Offers)?;
        Ok(rows.iter().filter_map(|row| row["node"].as_str()?.parse().ok()).collect())
    }

    /// Whether it is this machine's turn.
    fn is_due(
        &mut self,
        run: &RunKey,
        workers: &[NodeKey],
        now: Instant,
    ) -> Result<bool, ApiError> {
        let known = Request::KnownRuns { runs: vec![run.to_string()] };
        let row = self.place.machine().one(known)?;
        let seen = self.seen.entry(*run).or_insert_with(|| Seen {
            since: now,
            claimed: BTreeMap::new(),
            failed: false,
        });
        for claim in row["claims"].as_array().into_iter().flatten() {
            if let Some(node) = claim["node"].as_str().and_then(|text| text.parse().ok())
                && node != self.node
            {
                seen.claimed.entry(node).or_insert(now);
            }
        }
        let others_work = seen.claimed.values().any(|since| now < *since + PATIENCE);
        let turn = seen.since + TURN * place_in_line(run, workers, &self.node);
        Ok(!seen.failed && !others_work && now >= turn)
    }

    /// Runs it, if everything that it needs can be had. Answers whether it ran.
    fn work(&mut self, run: &RunKey, row: &Value) -> Result<bool, ApiError> {
        let inputs = row["inputs"].as_object().into_iter().flatten();
        let key = |(name, key): (&String, &Value)| Some((name.clone(), key.as_str()?.to_owned()));
        let wish = Wish {
            program: row["program"].as_str().unwrap_or_default().to_owned(),
            inputs: inputs.filter_map(key).collect(),
            snapshot: row["snapshot"].as_str().map(str::to_owned),
            ..Wish::default()
        };
        let failed = match self.place.resolve(&wish) {
            // Bytes may still come.
            Err(error) if matches!(error.code, ExitCode::NotFound | ExitCode::Peer) => {
                return Ok(false);
            }
            Err(error) => Some(error),
            Ok(resolved) if resolved.run() != *run || resolved.memory() > self.memory => {
                tracing::debug!(%run, "not a run for this machine");
                self.give_up(run);
                return Ok(false);
            }
            Ok(_) => {
                self.place.machine().all(Request::ClaimStep { step: run.to_string() })?;
                self.place.run(&wish, &Unwatched).err()
            }
        };
        if let Some(error) = failed {
            tracing::warn!(%run, %error, "a run that was asked for failed here");
            self.give_up(run);
            return Ok(false);
        }
        Ok(true)
    }

    fn give_up(&mut self, run: &RunKey) {
        if let Some(seen) = self.seen.get_mut(run) {
            seen.failed = true;
        }
    }
}

fn node_text(node: &NodeKey) -> String {
    node.to_string()
}

/// How many machines come before this one: by rendezvous hashing (Thaler and Ravishankar, 1998), so that all
/// agree without talking and each run has another order.
fn place_in_line(run: &RunKey, workers: &[NodeKey], own: &NodeKey) -> u32 {
    let weight = |node: &NodeKey| *blake3::keyed_hash(&run.0, &node.0).as_bytes();
    let before = workers.iter().filter(|node| weight(node) < weight(own)).count();
    u32::try_from(before).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_agree_on_the_order_and_runs_differ() {
        let workers: Vec<NodeKey> = (0..20).map(|n| NodeKey([n; 32])).collect();
        let mut firsts = BTreeSet::new();
        for n in 0..50 {
            let run = RunKey([n; 32]);
            let mut places: Vec<u32> =
                workers.iter().map(|node| place_in_line(&run, &workers, node)).collect();
            let first = places.iter().position(|place| *place == 0);
            firsts.insert(first.expect("somebody is first"));
            places.sort_unstable();
            assert!(places.into_iter().eq(0..20), "each place once");
        }
        assert!(firsts.len() > 10, "the first is not always the same: {firsts:?}");
    }
}
