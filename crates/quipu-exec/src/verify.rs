//! Verification: a receipt is true if running its program on its inputs again gives the same (PEL-7).

use std::collections::BTreeMap;
use std::sync::Arc;

use quipu_core::id::ArtifactId;

use crate::artifacts::Artifacts;
use crate::profile::PROFILE;
use crate::receipt::{Difference, Receipt, ReceiptError, compare};
use crate::run::{NothingKnown, RunError, Settings, load, run};
use crate::step::Runner;

/// Why nothing can be said of a receipt.
#[derive(Debug, thiserror::Error)]
pub enum VerifyError {
    /// It is of another profile.
    #[error("the receipt is of determinism profile {0}, and this is {PROFILE}")]
    Profile(u64),
    /// It cannot be one of its program: nobody can have run that.
    #[error(transparent)]
    Receipt(#[from] ReceiptError),
    /// The run could not be made again. If a step fails, that is a difference: a receipt says that all
    /// succeeded.
    #[error(transparent)]
    Run(#[from] RunError),
}

/// What was found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Verified {
    /// Where what was found differs first from what the receipt says. Nothing if it is true.
    pub first_difference: Option<Difference>,
    /// Steps that ran.
    pub steps_run: usize,
}

/// Runs again what a receipt is about, from the receipt alone, and compares. Nothing that is known
/// counts.
pub fn verify(
    runner: &Runner,
    artifacts: &Arc<dyn Artifacts>,
    receipt: &Receipt,
    settings: Settings<'_>,
) -> Result<Verified, VerifyError> {
    if receipt.profile != PROFILE {
        return Err(VerifyError::Profile(receipt.profile));
    }
    let program = load(receipt.program, artifacts.as_ref())?;
    receipt.check_against(&program)?;
    let settings = Settings { known: &NothingKnown, ..settings };
    let done = run(runner, artifacts, receipt.program, &program, &receipt.inputs, settings)?;
    let first_difference = compare(&program, receipt, &done.receipt);
    Ok(Verified { first_difference, steps_run: done.steps_run })
}

/// The inputs in which a run differs from a recorded one (PEL-11): name, recorded, now.
pub fn input_differences(
    recorded: &Receipt,
    now: &BTreeMap<String, ArtifactId>,
) -> Vec<(String, Option<ArtifactId>, Option<ArtifactId>)> {
    let mut names: Vec<&String> = recorded.inputs.keys().chain(now.keys()).collect();
    names.sort_unstable();
    names.dedup();
    let pair =
        |name: &String| (name.clone(), recorded.inputs.get(name).copied(), now.get(name).copied());
    names.into_iter().map(pair).filter(|(_, then, now)| then != now).collect()
}
