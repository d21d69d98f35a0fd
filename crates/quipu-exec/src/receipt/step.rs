//! Receipts of single steps, for runs that several machines share: each says what one step gave, from
//! itself alone, so that whoever has it can run that step again.

use std::collections::BTreeMap;

use quipu_core::id::ArtifactId;
use quipu_core::value::{self, Value};

use super::{Kept, ReceiptError, inputs_of, kept_of, kept_to_value, names_of};
use crate::key::StepKey;
use crate::limits::{PORTS_MAX, RECEIPT_BYTES_MAX};
use crate::program::{Action, Step, limits_of_value};
use crate::step::Job;

/// The version of the format.
pub const STEP_RECEIPT_VERSION: u64 = 1;

/// What one step has given.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StepProof {
    /// The determinism profile that it ran under.
    pub profile: u64,
    /// What was run: action, names of outputs, limits. Where its inputs come from in a program is no part of it.
    pub step: Step,
    /// The keys of its inputs, by name.
    pub inputs: BTreeMap<String, ArtifactId>,
    /// Its outputs by name.
    pub outputs: BTreeMap<String, Kept>,
}

impl StepProof {
    /// What a step of a program has given under the profile of this build.
    pub fn new(job: Job<'_>, outputs: BTreeMap<String, Kept>) -> Self {
        Self {
            profile: crate::profile::PROFILE,
            step: bare(job.step),
            inputs: job.inputs.clone(),
            outputs,
        }
    }

    /// What was run.
    pub fn job(&self) -> Job<'_> {
        Job { step: &self.step, inputs: &self.inputs }
    }

    /// The key of the step.
    pub fn step_key(&self) -> StepKey {
        StepKey::of(&self.job().to_value(self.profile))
    }

    /// The bytes of the artifact.
    pub fn encode(&self) -> Vec<u8> {
        let value = Value::map([
            ("quipu-step-receipt", Value::from(STEP_RECEIPT_VERSION)),
            ("key", Value::from(&self.step_key().0[..])),
            ("step", self.job().to_value(self.profile)),
            ("outputs", kept_to_value(&self.outputs)),
        ]);
        let mut bytes = Vec::new();
        value::encode(&value, &mut bytes);
        bytes
    }

    /// Reads bytes that need not be a receipt of a step. Only running it again says whether it is true.
    ///
    /// # Errors
    /// If they are none.
    pub fn decode(bytes: &[u8]) -> Result<Self, ReceiptError> {
        if bytes.len() > RECEIPT_BYTES_MAX {
            return Err(ReceiptError::TooLarge { bytes: bytes.len() });
        }
        let value = value::decode(bytes)?;
        if value.get("quipu-step-receipt").and_then(Value::as_u64) != Some(STEP_RECEIPT_VERSION) {
            return Err(ReceiptError::Version);
        }
        let field = |name| value.get(name).ok_or(ReceiptError::Field(name));
        let outputs = names_of(field("outputs")?, PORTS_MAX, kept_of);
        let proof = Self::of_step(field("step")?)
            .zip(outputs)
            .map(|(step, outputs)| Self { outputs, ..step })
            .ok_or(ReceiptError::Field("step or outputs"))?;
        if !proof.outputs.keys().eq(proof.step.outputs.keys()) {
            return Err(ReceiptError::Shape("the outputs are not those of the step".to_owned()));
        }
        if field("key")?.as_bytes() != Some(&proof.step_key().0) {
            return Err(ReceiptError::RunKey);
        }
        // Whatever else may be in there is not in what we would write.
        if proof.encode() != bytes {
            return Err(ReceiptError::Field("a field of another name, or the order"));
        }
        Ok(proof)
    }

    /// Reads what the key of a step is hashed from.
    fn of_step(value: &Value) -> Option<Self> {
        let texts = |value: &Value| {
            let items = value.as_list()?.iter();
            items.map(|item| item.as_str().map(str::to_owned)).collect::<Option<Vec<String>>>()
        };
        let action = value.get("action")?;
        let action = if let Some(module) = action.get("module") {
            let key = module.as_link()?.digest(ArtifactId::PREFIX).map(ArtifactId)?;
            Action::Module { key, args: texts(action.get("args")?)? }
        } else {
            let name = action.get("operator")?.as_str()?.to_owned();
            Action::Operator { name, parameters: action.get("parameters")?.as_map()?.clone() }
        };
        let outputs = texts(value.get("outputs")?)?.into_iter().map(|name| (name, None)).collect();
        let limits = limits_of_value(value.get("limits")?)?;
        let step = Step { action, inputs: BTreeMap::new(), outputs, limits, labels: Vec::new() };
        Some(Self {
            profile: value.get("profile")?.as_u64()?,
            step,
            inputs: inputs_of(value.get("inputs")?)?,
            outputs: BTreeMap::new(),
        })
    }
}

/// A step without what its key does not depend on.
fn bare(step: &Step) -> Step {
    Step {
        action: step.action.clone(),
        inputs: BTreeMap::new(),
        outputs: step.outputs.keys().map(|name| (name.clone(), None)).collect(),
        limits: step.limits,
        labels: Vec::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::limits::Limits;

    fn proof() -> StepProof {
        let key = |n| ArtifactId([n; 32]);
        let step = Step {
            action: Action::Module { key: key(1), args: vec!["-v".into()] },
            inputs: BTreeMap::new(),
            outputs: [("out".to_owned(), Some("text/plain".to_owned()))].into(),
            limits: Limits::default(),
            labels: vec!["gpu".into()],
        };
        let inputs = [("in".to_owned(), key(2))].into();
        let outputs = [("out".to_owned(), Kept { key: key(3), size: 4 })].into();
        StepProof::new(Job { step: &step, inputs: &inputs }, outputs)
    }

    #[test]
    fn it_says_what_was_run() {
        let proof = proof();
        assert_eq!(StepProof::decode(&proof.encode()), Ok(proof.clone()));
        assert_eq!(proof.step_key(), proof.job().key(), "labels and types have no part in it");
    }

    #[test]
    fn what_does_not_fit_is_refused() {
        let mut other = proof();
        other.outputs.insert("more".into(), Kept { key: ArtifactId([9; 32]), size: 1 });
        assert!(matches!(StepProof::decode(&other.encode()), Err(ReceiptError::Shape(_))));
        let bytes = proof().encode();
        for at in 0..bytes.len() {
            let mut bent = bytes.clone();
            bent[at] ^= 1;
            if let Ok(read) = StepProof::decode(&bent) {
                // A key or a size of an output: what is said, not what was run.
                assert!(read != proof() && read.step_key() == proof().step_key(), "at {at}");
            }
            assert!(StepProof::decode(&bytes[..at]).is_err());
        }
    }
}
