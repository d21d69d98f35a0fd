//! Built-in operators: those over a snapshot, which the caller answers, and a few pure ones, which
//! are run here.

mod pure;

use std::fmt;
use std::io::Write;

pub(crate) use pure::{PureError, run as run_pure};

use crate::program::Query;

/// What an operator is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Operator {
    /// Its name.
    pub name: &'static str,
    /// Whether it asks the snapshot: then it works on the answers to other queries, else on
    /// artifacts.
    pub asks: bool,
    /// How many inputs it takes, at least.
    pub inputs_min: usize,
    /// How many inputs it takes, at most.
    pub inputs_max: usize,
    /// The type of what it takes and gives; nothing if any.
    pub type_tag: Option<&'static str>,
    /// The parameters that it knows; nothing if the snapshot's side knows them.
    pub parameters: Option<&'static [Parameter]>,
}

/// A parameter of an operator.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Parameter {
    /// Its name.
    pub name: &'static str,
    /// What its value is.
    pub kind: ParameterKind,
    /// Whether it has to be there.
    pub required: bool,
}

/// What a parameter's value is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ParameterKind {
    /// Text.
    Text,
    /// True or false.
    Bool,
}

/// What plan operators give: objects of canonical DAG-JSON, one a line.
pub const NDJSON: &str = "application/x-ndjson";

const fn asks(name: &'static str, inputs_min: usize, inputs_max: usize) -> Operator {
    let (type_tag, parameters) = (Some(NDJSON), None);
    Operator { name, asks: true, inputs_min, inputs_max, type_tag, parameters }
}

const fn pure(name: &'static str, inputs_max: usize, parameters: &'static [Parameter]) -> Operator {
    let parameters = Some(parameters);
    Operator { name, asks: false, inputs_min: 1, inputs_max, type_tag: None, parameters }
}

/// All operators, by name.
pub const OPERATORS: [Operator; 11] = [
    pure("concat", crate::limits::PORTS_MAX, &[]),
    asks("current", 0, 0),
    asks("index-filter", 0, 1),
    asks("merge", 1, crate::limits::PORTS_MAX),
    asks("projection", 1, 1),
    asks("records", 0, 0),
    asks("segment-scan", 0, 0),
    pure(
        "select-lines",
        1,
        &[
            Parameter { name: "contains", kind: ParameterKind::Text, required: true },
            Parameter { name: "invert", kind: ParameterKind::Bool, required: false },
        ],
    ),
    pure(
        "sort-lines",
        1,
        &[Parameter { name: "unique", kind: ParameterKind::Bool, required: false }],
    ),
    asks("tombstone-shadow", 1, 1),
    asks("traversal", 0, 1),
];

impl Operator {
    /// The operator of that name.
    pub fn of(name: &str) -> Option<&'static Self> {
        let at = OPERATORS.binary_search_by(|operator| operator.name.cmp(name)).ok()?;
        OPERATORS.get(at)
    }
}

impl fmt::Display for ParameterKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Text => "text",
            Self::Bool => "true or false",
        })
    }
}

/// A snapshot, or CURRENT, that answers queries. The answer has to be a function of the query and of
/// what the snapshot holds.
pub trait Snapshot: Sync {
    /// Writes the answer. What is wrong with a query is said in words.
    fn answer(&self, query: &Query, out: &mut dyn Write) -> Result<(), SnapshotError>;
}

/// Why a snapshot does not answer.
#[derive(Debug, thiserror::Error)]
pub enum SnapshotError {
    /// The query is wrong: the program's fault.
    #[error("{0}")]
    Refused(String),
    /// It could not be read, or the answer not be written.
    #[error(transparent)]
    Io(#[from] std::io::Error),
}

/// No snapshot: for programs that ask nothing.
#[derive(Debug, Clone, Copy, Default)]
pub struct NoSnapshot;

impl Snapshot for NoSnapshot {
    fn answer(&self, _: &Query, _: &mut dyn Write) -> Result<(), SnapshotError> {
        Err(SnapshotError::Refused("there is no snapshot to ask here".to_owned()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn operators_are_found_by_name() {
        assert!(OPERATORS.is_sorted_by_key(|operator| operator.name));
        assert!(OPERATORS.iter().all(|operator| Operator::of(operator.name) == Some(operator)));
        assert_eq!(Operator::of("concatenate"), None);
    }
}
