//! Receipts: what a run has given (PEL-3).
//!
//! A receipt has only what follows from the run key, so equal runs have equal receipts, byte for byte, and
//! two that differ prove that something was not deterministic. The format is in
//! `docs/formats/receipt.md`.

mod step;

use std::collections::BTreeMap;
use std::fmt;

use quipu_core::artifact::ARTIFACT_BYTES_MAX;
use quipu_core::id::ArtifactId;
use quipu_core::value::{self, Map, Value, ValueError};

use crate::key::{RunKey, StepKey};
use crate::limits::{PORTS_MAX, RECEIPT_BYTES_MAX, STEPS_MAX};
use crate::program::{Program, Source, is_name};
use crate::step::Job;

pub use step::{STEP_RECEIPT_VERSION, StepProof};

/// The version of the format.
pub const RECEIPT_VERSION: u64 = 1;

/// An artifact that was made: its key and size.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Kept {
    /// Its key.
    pub key: ArtifactId,
    /// How many bytes it has.
    pub size: u64,
}

/// What a run has given.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Receipt {
    /// The program.
    pub program: ArtifactId,
    /// The determinism profile that it ran under.
    pub profile: u64,
    /// The inputs of the run, with the answers to queries.
    pub inputs: BTreeMap<String, ArtifactId>,
    /// The steps by id.
    pub steps: BTreeMap<String, StepReceipt>,
    /// The outputs of the program.
    pub outputs: BTreeMap<String, Kept>,
}

/// What a step has given.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StepReceipt {
    /// Its key.
    pub key: StepKey,
    /// Its outputs by name.
    pub outputs: BTreeMap<String, Kept>,
}

/// Why bytes are no receipt, or none of this program.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ReceiptError {
    /// They are too many.
    #[error("a receipt of {bytes} bytes: at most {RECEIPT_BYTES_MAX} are read")]
    TooLarge {
        /// How many there are.
        bytes: usize,
    },
    /// They are not canonical DAG-CBOR.
    #[error("not a receipt: {0}")]
    Malformed(#[from] ValueError),
    /// They are of another version, or of something else.
    #[error("not a receipt of version {RECEIPT_VERSION}")]
    Version,
    /// A field is missing, or of another kind than it should be, or not in its one form.
    #[error("in the receipt: {0} is missing or not as it should be")]
    Field(&'static str),
    /// The run key does not follow from the rest.
    #[error("the receipt names a run key that is not that of its program and inputs")]
    RunKey,
    /// The steps are not those of the program.
    #[error("the receipt has other steps, inputs or outputs than the program: {0}")]
    Shape(String),
    /// A step key does not follow from the program and what the step took.
    #[error("the receipt has another key for step {0:?} than the program leads to")]
    StepKey(String),
}

/// The key of a run.
pub fn run_key(program: ArtifactId, profile: u64, inputs: &BTreeMap<String, ArtifactId>) -> RunKey {
    // Limits are in the program: the stored form has all of them.
    RunKey::of(&Value::map([
        ("program", Value::from(program)),
        ("profile", Value::from(profile)),
        ("inputs", keys_to_value(inputs)),
    ]))
}

impl Receipt {
    /// The key of the run that it is of.
    pub fn run_key(&self) -> RunKey {
        run_key(self.program, self.profile, &self.inputs)
    }

    /// The bytes of the artifact.
    pub fn encode(&self) -> Vec<u8> {
        let step = |(id, step): (&String, &StepReceipt)| {
            let key = Value::from(&step.key.0[..]);
            let outputs = kept_to_value(&step.outputs);
            (id.clone(), Value::map([("key", key), ("outputs", outputs)]))
        };
        let value = Value::map([
            ("quipu-receipt", Value::from(RECEIPT_VERSION)),
            ("run", Value::from(&self.run_key().0[..])),
            ("program", Value::from(self.program)),
            ("profile", Value::from(self.profile)),
            ("inputs", keys_to_value(&self.inputs)),
            ("steps", by_name(self.steps.iter().map(step))),
            ("outputs", kept_to_value(&self.outputs)),
        ]);
        let mut bytes = Vec::new();
        value::encode(&value, &mut bytes);
        bytes
    }

    /// The key of the receipt itself.
    pub fn key(&self) -> ArtifactId {
        ArtifactId::of(&self.encode())
    }

    /// Reads bytes that need not be a receipt. Whether it is true is another question:
    /// [`Self::check_against`] says whether it fits its program, and only running again says more.
    pub fn decode(bytes: &[u8]) -> Result<Self, ReceiptError> {
        if bytes.len() > RECEIPT_BYTES_MAX {
            return Err(ReceiptError::TooLarge { bytes: bytes.len() });
        }
        let value = value::decode(bytes)?;
        if value.get("quipu-receipt").and_then(Value::as_u64) != Some(RECEIPT_VERSION) {
            return Err(ReceiptError::Version);
        }
        let field = |name| value.get(name).ok_or(ReceiptError::Field(name));
        let step = |value: &Value| {
            let key = value.get("key")?.as_bytes()?.try_into().ok()?;
            let outputs = names_of(value.get("outputs")?, PORTS_MAX, kept_of)?;
            Some(StepReceipt { key: StepKey(key), outputs })
        };
        let receipt = Self {
            program: key_of(field("program")?).ok_or(ReceiptError::Field("program"))?,
            profile: field("profile")?.as_u64().ok_or(ReceiptError::Field("profile"))?,
            inputs: inputs_of(field("inputs")?).ok_or(ReceiptError::Field("inputs"))?,
            steps: names_of(field("steps")?, STEPS_MAX, step)
                .ok_or(ReceiptError::Field("steps"))?,
            outputs: names_of(field("outputs")?, PORTS_MAX, kept_of)
                .ok_or(ReceiptError::Field("outputs"))?,
        };
        if field("run")?.as_bytes() != Some(&receipt.run_key().0) {
            return Err(ReceiptError::RunKey);
        }
        // Whatever else may be in there is not in what we would write.
        if receipt.encode() != bytes {
            return Err(ReceiptError::Field("a field of another name, or the order"));
        }
        Ok(receipt)
    }

    /// Whether it could be one of this program: the same inputs, steps and outputs, each step key
    /// what it took leads to. The program's key is the caller's to compare.
    pub fn check_against(&self, program: &Program) -> Result<(), ReceiptError> {
        let shape = |what: &str| Err(ReceiptError::Shape(what.to_owned()));
        if !self.inputs.keys().eq(&program.run_inputs()) {
            return shape("inputs");
        }
        if !self.steps.keys().eq(program.running().map(|(id, _)| id)) {
            return shape("steps");
        }
        if !self.outputs.keys().eq(program.outputs.keys()) {
            return shape("outputs");
        }
        for (id, step) in program.running() {
            let claimed = &self.steps[id];
            if !claimed.outputs.keys().eq(step.outputs.keys()) {
                return shape(&format!("outputs of step {id:?}"));
            }
            let inputs = self.inputs_of(program, id).ok_or(ReceiptError::Shape(id.clone()))?;
            if (Job { step, inputs: &inputs }).key() != claimed.key {
                return Err(ReceiptError::StepKey(id.clone()));
            }
        }
        for (name, output) in &program.outputs {
            let from = &output.from;
            let made = self.steps.get(&from.step).and_then(|step| step.outputs.get(&from.output));
            let fits = match made {
                Some(kept) => self.outputs.get(name) == Some(kept),
                // The answer to a query, whose size only its bytes tell.
                None => {
                    self.inputs.get(&from.to_string())
                        == self.outputs.get(name).map(|kept| &kept.key)
                }
            };
            if !fits {
                return shape(&format!("output {name:?}"));
            }
        }
        Ok(())
    }

    /// The keys that a step took.
    pub fn inputs_of(&self, program: &Program, step: &str) -> Option<BTreeMap<String, ArtifactId>> {
        let outputs =
            |step: &str, output: &str| Some(self.steps.get(step)?.outputs.get(output)?.key);
        resolve_inputs(program, step, &self.inputs, outputs)
    }
}

/// The keys that a step takes, if all are known.
pub fn resolve_inputs(
    program: &Program,
    id: &str,
    run_inputs: &BTreeMap<String, ArtifactId>,
    output: impl Fn(&str, &str) -> Option<ArtifactId>,
) -> Option<BTreeMap<String, ArtifactId>> {
    let step = program.steps.get(id)?;
    let of = |(name, input): (&String, &crate::program::StepInput)| {
        let key = match &input.from {
            Source::Input(name) => run_inputs.get(name).copied(),
            Source::Query(_) => run_inputs.get(&format!("{id}/{name}")).copied(),
            // A step that asks the snapshot has its answer among the inputs of the run.
            Source::Step(port) => output(&port.step, &port.output)
                .or_else(|| run_inputs.get(&port.to_string()).copied()),
        };
        Some((name.clone(), key?))
    };
    step.inputs.iter().map(of).collect()
}

/// Where two receipts of one run first differ.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Difference {
    /// The step; nothing if it is an output of the program alone, or the runs are different ones.
    pub step: Option<String>,
    /// The output.
    pub output: Option<String>,
    /// What the one has.
    pub a: Option<Kept>,
    /// What the other has.
    pub b: Option<Kept>,
}

impl fmt::Display for Difference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let kept = |kept: &Option<Kept>| match kept {
            Some(kept) => format!("{} ({} bytes)", kept.key, kept.size),
            None => "nothing".to_owned(),
        };
        match (&self.step, &self.output) {
            (Some(step), Some(output)) => write!(f, "step {step:?}, output {output:?}: ")?,
            (Some(step), None) => write!(f, "step {step:?}: ")?,
            (None, Some(output)) => write!(f, "output {output:?}: ")?,
            (None, None) => return f.write_str("these are receipts of different runs"),
        }
        write!(f, "{} against {}", kept(&self.a), kept(&self.b))
    }
}

/// The first difference between two receipts, in the order of the program's steps: the step where it
/// begins comes before those that took something of it. Nothing if they are equal.
pub fn compare(program: &Program, a: &Receipt, b: &Receipt) -> Option<Difference> {
    let different = |step: Option<&str>, output: Option<&str>, a: Option<Kept>, b: Option<Kept>| {
        let owned = |text: Option<&str>| text.map(str::to_owned);
        Some(Difference { step: owned(step), output: owned(output), a, b })
    };
    if a == b {
        return None;
    }
    if a.run_key() != b.run_key() {
        return different(None, None, None, None);
    }
    let order = program.order().unwrap_or_default();
    for id in order {
        let (one, two) = (a.steps.get(id), b.steps.get(id));
        let outputs = |step: Option<&StepReceipt>, name: &str| {
            step.and_then(|step| step.outputs.get(name)).copied()
        };
        if one == two {
            continue;
        }
        let names = [one, two].into_iter().flatten().flat_map(|step| step.outputs.keys());
        let mut names: Vec<&String> = names.collect();
        names.sort_unstable();
        for name in names {
            let (of_a, of_b) = (outputs(one, name), outputs(two, name));
            if of_a != of_b {
                return different(Some(id), Some(name), of_a, of_b);
            }
        }
        return different(Some(id), None, None, None);
    }
    let name = a
        .outputs
        .keys()
        .chain(b.outputs.keys())
        .find(|name| a.outputs.get(*name) != b.outputs.get(*name));
    let get = |receipt: &Receipt| name.and_then(|name| receipt.outputs.get(name)).copied();
    different(None, name.map(String::as_str), get(a), get(b))
}

fn by_name(entries: impl Iterator<Item = (String, Value)>) -> Value {
    Value::Map(Map::from_entries(entries).expect("names are unique, and `/` is none"))
}

/// The names of answers to queries have a `/` in them, so inputs are pairs in order.
fn keys_to_value(keys: &BTreeMap<String, ArtifactId>) -> Value {
    let pair = |(name, key): (&String, &ArtifactId)| {
        Value::List(vec![Value::from(name.as_str()), Value::from(*key)])
    };
    Value::List(keys.iter().map(pair).collect())
}

fn inputs_of(value: &Value) -> Option<BTreeMap<String, ArtifactId>> {
    let pair = |pair: &Value| match pair.as_list()? {
        [name, key] => {
            let name = name.as_str()?;
            let named = match name.split_once('/') {
                Some((step, port)) => is_name(step) && is_name(port),
                None => is_name(name),
            };
            named.then(|| Some((name.to_owned(), key_of(key)?)))?
        }
        _ => None,
    };
    value.as_list()?.iter().map(pair).collect()
}

fn kept_to_value(kept: &BTreeMap<String, Kept>) -> Value {
    by_name(kept.iter().map(|(name, kept)| {
        let value = Value::map([("key", Value::from(kept.key)), ("size", Value::from(kept.size))]);
        (name.clone(), value)
    }))
}

fn kept_of(value: &Value) -> Option<Kept> {
    let size = value.get("size")?.as_u64().filter(|size| *size <= ARTIFACT_BYTES_MAX)?;
    Some(Kept { key: key_of(value.get("key")?)?, size })
}

fn key_of(value: &Value) -> Option<ArtifactId> {
    value.as_link()?.digest(ArtifactId::PREFIX).map(ArtifactId)
}

fn names_of<T>(
    value: &Value,
    max: usize,
    of: impl Fn(&Value) -> Option<T>,
) -> Option<BTreeMap<String, T>> {
    let map = value.as_map().filter(|map| map.len() <= max)?;
    let entry = |(name, value): (&str, &Value)| {
        is_name(name).then(|| Some((name.to_owned(), of(value)?)))?
    };
    map.iter().map(entry).collect()
}
