//! Receipts for others (PEL-8, DOM-8): what a run took and gave, with commitments for all that stays internal.
//!
//! A receipt has the run's key and its steps' keys: hashes of what the run took, by which guesses could be tried
//! out. So a blinded receipt has none of them, no sizes of what is hidden, and the names of a program only if
//! the program is public. The formats of both are in `docs/formats/receipt.md`.

use std::collections::{BTreeMap, BTreeSet};

use super::Commitment;
use crate::id::ArtifactId;
use crate::statement::End;
use crate::value::{self, Map, Value};

/// The version of the format.
pub const BLINDED_RECEIPT_VERSION: u64 = 1;
/// The type tag of blinded receipts.
pub const BLINDED_RECEIPT_TYPE: &str = "quipu/blinded-receipt";

/// What a receipt names: the program and the inputs of the run. Nothing if the bytes are no receipt.
///
/// If all of it is public, and the modules of the program are, too, everything else in the receipt can be found
/// out by running it.
pub fn named_by_receipt(bytes: &[u8]) -> Option<(ArtifactId, BTreeSet<ArtifactId>)> {
    let receipt = value::decode(bytes).ok()?;
    receipt.get("quipu-receipt")?;
    let inputs = receipt.get("inputs")?.as_list()?.iter();
    let inputs = inputs.map(|pair| key_of(pair.as_list()?.get(1)?)).collect::<Option<_>>()?;
    Some((key_of(receipt.get("program")?)?, inputs))
}

/// The artifacts that a program names: its modules. Nothing if the bytes are no program.
pub fn named_by_program(bytes: &[u8]) -> Option<BTreeSet<ArtifactId>> {
    let program = value::decode(bytes).ok()?;
    program.get("quipu-program")?;
    let steps = program.get("steps")?.as_map()?;
    Some(steps.iter().filter_map(|(_, step)| key_of(step.get("module")?)).collect())
}

/// What was made, or took part: itself, or what stands for it in public.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Shown {
    /// An artifact, with its size if that is known.
    Artifact(ArtifactId, Option<u64>),
    /// Something that stays internal.
    Blinded(Commitment),
}

/// A receipt as others see it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BlindedReceipt {
    /// The program.
    pub program: Shown,
    /// The determinism profile.
    pub profile: u64,
    /// The inputs of the run; by number if the program is not public.
    pub inputs: BTreeMap<String, Shown>,
    /// What each step gave; nothing if the program is not public.
    pub steps: BTreeMap<String, BTreeMap<String, Shown>>,
    /// The outputs of the run; by number if the program is not public.
    pub outputs: BTreeMap<String, Shown>,
}

impl BlindedReceipt {
    /// Blinds a receipt. `show` says how each artifact appears: as itself or as a commitment. Nothing if the bytes
    /// are no receipt.
    pub fn of(bytes: &[u8], mut show: impl FnMut(ArtifactId) -> End) -> Option<Self> {
        let receipt = value::decode(bytes).ok()?;
        receipt.get("quipu-receipt")?;
        let mut shown = |key: ArtifactId, size: Option<u64>| match show(key) {
            End::Artifact(key) => Some(Shown::Artifact(key, size)),
            End::Blinded(commitment) => Some(Shown::Blinded(commitment)),
            End::Node(_) => None,
        };
        let program = shown(key_of(receipt.get("program")?)?, None)?;
        let is_public = matches!(program, Shown::Artifact(..));
        let mut inputs = BTreeMap::new();
        for pair in receipt.get("inputs")?.as_list()? {
            let [name, key] = pair.as_list()? else { return None };
            let name = name_or_number(is_public, name.as_str()?, inputs.len());
            inputs.insert(name, shown(key_of(key)?, None)?);
        }
        let mut kept = |outputs: &Value| {
            let mut made = BTreeMap::new();
            for (name, kept) in outputs.as_map()?.iter() {
                let size = kept.get("size")?.as_u64();
                let name = name_or_number(is_public, name, made.len());
                made.insert(name, shown(key_of(kept.get("key")?)?, size)?);
            }
            Some(made)
        };
        let outputs = kept(receipt.get("outputs")?)?;
        let mut steps = BTreeMap::new();
        if is_public {
            for (id, step) in receipt.get("steps")?.as_map()?.iter() {
                steps.insert(id.to_owned(), kept(step.get("outputs")?)?);
            }
        }
        let profile = receipt.get("profile")?.as_u64()?;
        Some(Self { program, profile, inputs, steps, outputs })
    }

    /// The bytes of the artifact.
    pub fn encode(&self) -> Vec<u8> {
        let list = |shown: &BTreeMap<String, Shown>| {
            let pair = |(name, shown): (&String, &Shown)| {
                Value::List(vec![Value::from(name.as_str()), shown.to_value()])
            };
            Value::List(shown.iter().map(pair).collect())
        };
        let step = |(id, made): (&String, &BTreeMap<String, Shown>)| {
            Value::List(vec![Value::from(id.as_str()), list(made)])
        };
        let value = Value::map([
            ("quipu-blinded-receipt", Value::from(BLINDED_RECEIPT_VERSION)),
            ("program", self.program.to_value()),
            ("profile", Value::from(self.profile)),
            ("inputs", list(&self.inputs)),
            ("steps", Value::List(self.steps.iter().map(step).collect())),
            ("outputs", list(&self.outputs)),
        ]);
        let mut bytes = Vec::new();
        value::encode(&value, &mut bytes);
        bytes
    }

    /// Reads bytes that need not be a blinded receipt. Nothing vouches for what it says but the domain that
    /// published it.
    pub fn decode(bytes: &[u8]) -> Option<Self> {
        let value = value::decode(bytes).ok()?;
        let version = value.get("quipu-blinded-receipt")?.as_u64()?;
        if version != BLINDED_RECEIPT_VERSION {
            return None;
        }
        let steps = value.get("steps")?.as_list()?.iter();
        let steps = steps.map(|step| match step.as_list()? {
            [id, made] => Some((id.as_str()?.to_owned(), shown_list(made)?)),
            _ => None,
        });
        let receipt = Self {
            program: Shown::of_value(value.get("program")?)?,
            profile: value.get("profile")?.as_u64()?,
            inputs: shown_list(value.get("inputs")?)?,
            steps: steps.collect::<Option<_>>()?,
            outputs: shown_list(value.get("outputs")?)?,
        };
        // Whatever else may be in there is not in what we would write.
        (receipt.encode() == bytes).then_some(receipt)
    }
}

/// A number has as many digits as keep the order.
fn name_or_number(is_public: bool, name: &str, number: usize) -> String {
    if is_public { name.to_owned() } else { format!("{:06}", number + 1) }
}

fn shown_list(value: &Value) -> Option<BTreeMap<String, Shown>> {
    let pair = |pair: &Value| match pair.as_list()? {
        [name, shown] => Some((name.as_str()?.to_owned(), Shown::of_value(shown)?)),
        _ => None,
    };
    value.as_list()?.iter().map(pair).collect()
}

impl Shown {
    fn to_value(self) -> Value {
        match self {
            Shown::Artifact(key, None) => Value::from(key),
            Shown::Artifact(key, Some(size)) => {
                Value::map([("key", Value::from(key)), ("size", Value::from(size))])
            }
            Shown::Blinded(commitment) => Value::from(&commitment.to_bytes()[..]),
        }
    }

    fn of_value(value: &Value) -> Option<Self> {
        if let Some(bytes) = value.as_bytes() {
            return Commitment::of_bytes(bytes).map(Shown::Blinded);
        }
        if let Some(Map { .. }) = value.as_map() {
            let size = value.get("size")?.as_u64()?;
            return Some(Shown::Artifact(key_of(value.get("key")?)?, Some(size)));
        }
        key_of(value).map(|key| Shown::Artifact(key, None))
    }
}

fn key_of(value: &Value) -> Option<ArtifactId> {
    value.as_link()?.digest(ArtifactId::PREFIX).map(ArtifactId)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::blind::Opening;

    fn key(n: u8) -> ArtifactId {
        ArtifactId([n; 32])
    }

    fn receipt() -> Vec<u8> {
        let made = |n| {
            Value::map([
                ("key", Value::from(key(n))),
                ("size", Value::from(1_000_000 + u64::from(n))),
            ])
        };
        let input = |name: &str, n| Value::List(vec![Value::from(name), Value::from(key(n))]);
        let outputs = Value::map([("table", made(5))]);
        let step = Value::map([
            ("key", Value::from(&[77; 32][..])),
            ("outputs", Value::map([("middle", made(4))])),
        ]);
        let value = Value::map([
            ("quipu-receipt", Value::from(1)),
            ("run", Value::from(&[66; 32][..])),
            ("program", Value::from(key(1))),
            ("profile", Value::from(3)),
            ("inputs", Value::List(vec![input("patients", 2), input("weather", 3)])),
            ("steps", Value::map([("join", step)])),
            ("outputs", outputs),
        ]);
        let mut bytes = Vec::new();
        value::encode(&value, &mut bytes);
        bytes
    }

    fn blinded(public: &[u8]) -> BlindedReceipt {
        let show = |key: ArtifactId| match public.contains(&key.0[0]) {
            true => End::Artifact(key),
            false => {
                let opening = Opening { nonce: [key.0[0] + 100; 32], end: End::Artifact(key) };
                End::Blinded(opening.commitment())
            }
        };
        BlindedReceipt::of(&receipt(), show).unwrap()
    }

    fn contains(bytes: &[u8], what: &[u8]) -> bool {
        bytes.windows(what.len()).any(|window| window == what)
    }

    #[test]
    fn nothing_internal_is_in_it() {
        for public in [&[][..], &[5], &[1], &[1, 3], &[1, 2, 3, 5], &[3, 4, 5]] {
            let blinded = blinded(public);
            let bytes = blinded.encode();
            assert_eq!(BlindedReceipt::decode(&bytes), Some(blinded.clone()), "{public:?}");
            for n in 1..=5 {
                assert_eq!(
                    contains(&bytes, &[n; 32]),
                    public.contains(&n) && (n != 4 || public.contains(&1)),
                    "{n} of {public:?}"
                );
                let mut size = Vec::new();
                value::encode(&Value::from(1_000_000 + u64::from(n)), &mut size);
                let told = public.contains(&n) && (n == 5 || n == 4 && public.contains(&1));
                assert_eq!(contains(&bytes, &size), told, "size of {n}, {public:?}");
            }
            // Neither the keys that guesses could be tried on, nor names of a program that is not public.
            assert!(!contains(&bytes, &[66; 32]) && !contains(&bytes, &[77; 32]));
            for name in ["patients", "weather", "join", "middle", "table"] {
                assert_eq!(contains(&bytes, name.as_bytes()), public.contains(&1), "{name}");
            }
        }
    }

    #[test]
    fn what_is_named_is_found() {
        let (program, inputs) = named_by_receipt(&receipt()).unwrap();
        assert_eq!((program, inputs), (key(1), [key(2), key(3)].into()));
        assert_eq!(named_by_receipt(b"something"), None);
        assert_eq!(named_by_program(&receipt()), None);
        let steps = Value::map([
            ("a", Value::map([("module", Value::from(key(9)))])),
            ("b", Value::map([("operator", Value::from("concat"))])),
        ]);
        let program = Value::map([("quipu-program", Value::from(1)), ("steps", steps)]);
        let mut bytes = Vec::new();
        value::encode(&program, &mut bytes);
        assert_eq!(named_by_program(&bytes), Some([key(9)].into()));
    }

    #[test]
    fn damage_is_refused() {
        let bytes = blinded(&[1, 5]).encode();
        for at in 0..bytes.len() {
            assert_eq!(BlindedReceipt::decode(&bytes[..at]), None);
            let mut bent = bytes.clone();
            bent[at] ^= 0x40;
            assert_ne!(BlindedReceipt::decode(&bent), Some(blinded(&[1, 5])), "at {at}");
        }
    }
}
