//! What has to run: what is not known, and what is known but gone and needed.

use std::collections::{BTreeMap, BTreeSet};

use quipu_core::id::ArtifactId;

use super::{Known, RunError, is_here, known_step};
use crate::artifacts::Artifacts;
use crate::program::{Program, Source};
use crate::receipt::{StepReceipt, resolve_inputs};
use crate::step::Job;

/// The plan of a run.
pub(super) struct Plan<'p> {
    /// Steps that need not run.
    pub(super) reused: BTreeMap<&'p str, StepReceipt>,
    /// Steps that are known and run all the same, because bytes of theirs are gone.
    pub(super) expected: BTreeMap<&'p str, StepReceipt>,
}

/// Makes the plan: forward, which steps are known without running anything; then backward, which of
/// these have to run because of who needs their bytes.
pub(super) fn plan<'p>(
    program: &'p Program,
    inputs: &BTreeMap<String, ArtifactId>,
    known: &dyn Known,
    artifacts: &dyn Artifacts,
) -> Result<Plan<'p>, RunError> {
    let order = program.order().unwrap_or_default();
    let mut reused = BTreeMap::new();
    for id in &order {
        if let Some(receipt) = known_receipt(program, id, inputs, known, &reused) {
            reused.insert(*id, receipt);
        }
    }
    let mut needed: BTreeSet<(&str, &str)> =
        program.outputs.values().map(|o| (&*o.from.step, &*o.from.output)).collect();
    let mut expected = BTreeMap::new();
    for id in order.iter().rev() {
        if let Some(receipt) = reused.get(id) {
            let mut gone = false;
            for (name, kept) in &receipt.outputs {
                gone |= needed.contains(&(*id, &**name)) && !is_here(*kept, artifacts)?;
            }
            if !gone {
                continue;
            }
            expected.extend(reused.remove_entry(id));
        }
        for input in program.steps[*id].inputs.values() {
            if let Source::Step(port) = &input.from {
                needed.insert((&port.step, &port.output));
            }
        }
    }
    Ok(Plan { reused, expected })
}

/// What is known of a step, if what it takes is known.
fn known_receipt(
    program: &Program,
    id: &str,
    inputs: &BTreeMap<String, ArtifactId>,
    known: &dyn Known,
    reused: &BTreeMap<&str, StepReceipt>,
) -> Option<StepReceipt> {
    let step = program.steps.get(id)?;
    if matches!(step.action, crate::program::Action::Query(_)) {
        return None;
    }
    let output = |step: &str, output: &str| Some(reused.get(step)?.outputs.get(output)?.key);
    let inputs = resolve_inputs(program, id, inputs, output)?;
    let key = Job { step, inputs: &inputs }.key();
    Some(StepReceipt { key, outputs: known_step(known, key, step)? })
}
