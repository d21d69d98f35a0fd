//! What events say of programs: receipts that somebody made, runs that somebody wants, who works on a
//! step, and what a machine offers (PEL-3 to PEL-9).
//!
//! Each statement names the node that makes it. One whose author is another is data and says nothing: a
//! copied announcement is nobody's (PEL-9).

use std::collections::BTreeMap;

use crate::id::{ArtifactId, EventId, NodeKey, RunKey};
use crate::kind;
use crate::statement::{Raw, TAG_BYTES_MAX, with};
use crate::value::Value;

/// The most inputs of a run: a request stays below 64 KiB.
pub const RUN_INPUTS_MAX: usize = 256;
/// The longest name of an input of a run, in bytes: a step's id and a name of its own, or one name.
pub const INPUT_NAME_BYTES_MAX: usize = 160;
/// The most labels of an offer.
pub const LABELS_MAX: usize = 64;
/// The most machines in a roster: the payload stays below 64 KiB.
pub const ROSTER_MAX: usize = 1_000;

/// The longest reason for a step that failed, in bytes.
pub const FAILURE_BYTES_MAX: usize = 2_048;

/// What an announcement vouches for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub enum Scope {
    /// The author has run the whole program.
    #[default]
    Run,
    /// The author has run this one step.
    Step,
    /// The author has put the receipt together from steps that several machines ran. It says what came of
    /// the run, and counts as nobody's witness (PEL-9).
    Assembled,
}

impl Scope {
    /// As it stands in a payload; a whole run has no word for it.
    pub fn as_str(self) -> Option<&'static str> {
        match self {
            Scope::Run => None,
            Scope::Step => Some("step"),
            Scope::Assembled => Some("assembled"),
        }
    }

    /// The scope of that word.
    pub fn of_str(text: &str) -> Option<Self> {
        [Scope::Step, Scope::Assembled].into_iter().find(|scope| scope.as_str() == Some(text))
    }
}

/// Somebody has run something and has a receipt of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Announcement {
    /// What was run: a program, or one step.
    pub run: RunKey,
    /// The receipt.
    pub receipt: ArtifactId,
    /// Its size in bytes.
    pub size: u64,
    /// Who made it.
    pub node: NodeKey,
    /// The snapshot that its inputs were taken from, if any.
    pub snapshot: Option<EventId>,
    /// What its author did for it.
    pub scope: Scope,
}

/// Somebody wants a program to be run, by whoever can.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RunRequest {
    /// What the run will be.
    pub run: RunKey,
    /// The program.
    pub program: ArtifactId,
    /// Its inputs by name.
    pub inputs: BTreeMap<String, ArtifactId>,
    /// Who wants it.
    pub node: NodeKey,
    /// The snapshot that its inputs were taken from, if any.
    pub snapshot: Option<EventId>,
    /// How many machines of the roster must have run all of it. With one, its steps may be
    /// run by different machines, on or off the roster.
    pub required: u64,
}

/// What a machine offers to those who want something run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Offer {
    /// The machine.
    pub node: NodeKey,
    /// Bytes of memory that a step may take; 0 withdraws the offer.
    pub memory: u64,
    /// What it has besides, as people call it. Sorted, each once.
    pub labels: Vec<String>,
}

/// What an event says of programs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Execution {
    /// `receipt.announce`
    Announce(Announcement),
    /// `run.request`
    Request(RunRequest),
    /// `run.claim`
    Claim {
        /// The step that is worked on.
        step: RunKey,
        /// Who does.
        node: NodeKey,
        /// Why it came to nothing there, if it did and would again.
        failed: Option<String>,
    },
    /// `run.offer`
    Offer(Offer),
}

impl Execution {
    /// Who says it, by what it says.
    pub fn node(&self) -> NodeKey {
        match self {
            Execution::Announce(Announcement { node, .. })
            | Execution::Request(RunRequest { node, .. })
            | Execution::Claim { node, .. }
            | Execution::Offer(Offer { node, .. }) => *node,
        }
    }

    /// The kind and the payload value that say this.
    pub fn to_value(&self) -> (&'static str, Value) {
        let node = ("node", Value::from(&self.node().0[..]));
        match self {
            Execution::Announce(one) => {
                let value = Value::map([
                    node,
                    ("run", Value::from(&one.run.0[..])),
                    ("receipt", Value::from(one.receipt)),
                    ("size", Value::from(one.size)),
                ]);
                let value = with(value, "snapshot", one.snapshot.map(Value::from));
                (kind::RECEIPT_ANNOUNCE, with(value, "scope", one.scope.as_str().map(Value::from)))
            }
            Execution::Request(one) => {
                let input = |(name, key): (&String, &ArtifactId)| {
                    Value::map([("name", Value::from(name.as_str())), ("key", Value::from(*key))])
                };
                let value = Value::map([
                    node,
                    ("run", Value::from(&one.run.0[..])),
                    ("program", Value::from(one.program)),
                    ("inputs", Value::list(one.inputs.iter().map(input))),
                ]);
                let value = with(value, "snapshot", one.snapshot.map(Value::from));
                let required = (one.required > 1).then(|| Value::from(one.required));
                (kind::RUN_REQUEST, with(value, "required", required))
            }
            Execution::Claim { step, failed, .. } => {
                let value = Value::map([node, ("step", Value::from(&step.0[..]))]);
                (kind::RUN_CLAIM, with(value, "failed", failed.as_deref().map(Value::from)))
            }
            Execution::Offer(one) => {
                let labels = Value::list(one.labels.iter().map(String::as_str));
                let fields = [node, ("memory", Value::from(one.memory)), ("labels", labels)];
                (kind::RUN_OFFER, Value::map(fields))
            }
        }
    }

    /// What a payload value of a kind says.
    pub(crate) fn of(kind: &str, value: Raw<'_>) -> Option<Self> {
        let node = NodeKey::from_slice(value.get("node")?.bytes()?)?;
        let key = |name| Some(RunKey(value.get(name)?.bytes()?.try_into().ok()?));
        let snapshot = || match value.get("snapshot") {
            None => Some(None),
            Some(snapshot) => snapshot.event().map(Some),
        };
        Some(match kind {
            kind::RECEIPT_ANNOUNCE => Execution::Announce(Announcement {
                run: key("run")?,
                receipt: value.get("receipt")?.artifact()?,
                size: value.get("size")?.number()?,
                node,
                snapshot: snapshot()?,
                scope: match value.get("scope") {
                    None => Scope::Run,
                    Some(scope) => Scope::of_str(scope.text()?)?,
                },
            }),
            kind::RUN_REQUEST => Execution::Request(RunRequest {
                run: key("run")?,
                program: value.get("program")?.artifact()?,
                inputs: inputs(value.get("inputs")?)?,
                node,
                snapshot: snapshot()?,
                required: match value.get("required") {
                    None => 1,
                    Some(required) => required.number().filter(|required| *required > 1)?,
                },
            }),
            kind::RUN_CLAIM => Execution::Claim {
                step: key("step")?,
                node,
                failed: match value.get("failed") {
                    None => None,
                    Some(text) => {
                        let text = text.text().filter(|text| text.len() <= FAILURE_BYTES_MAX)?;
                        Some(text.to_owned())
                    }
                },
            },
            kind::RUN_OFFER => {
                let labels = labels(value.get("labels")?)?;
                Execution::Offer(Offer { node, memory: value.get("memory")?.number()?, labels })
            }
            _ => return None,
        })
    }
}

/// Names in rising order, with a key each.
fn inputs(list: Raw<'_>) -> Option<BTreeMap<String, ArtifactId>> {
    let mut out: BTreeMap<String, ArtifactId> = BTreeMap::new();
    for item in list.items()? {
        let item = item?;
        let (name, key) = (item.get("name")?.text()?, item.get("key")?.artifact()?);
        let rises = out.last_key_value().is_none_or(|(last, _)| last.as_str() < name);
        if !rises || name.len() > INPUT_NAME_BYTES_MAX || out.len() == RUN_INPUTS_MAX {
            return None;
        }
        out.insert(name.to_owned(), key);
    }
    Some(out)
}

fn labels(list: Raw<'_>) -> Option<Vec<String>> {
    let mut out: Vec<String> = Vec::new();
    for item in list.items()? {
        let label = item?.text()?;
        let rises = out.last().is_none_or(|last| last.as_str() < label);
        if !rises || label.is_empty() || label.len() > TAG_BYTES_MAX || out.len() == LABELS_MAX {
            return None;
        }
        out.push(label.to_owned());
    }
    Some(out)
}
