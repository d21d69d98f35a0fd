//! Programs: a DAG of steps, as an artifact (PEL-1).
//!
//! What people write is a *source*, JSON or TOML; [`build`] checks it and gives a [`Program`], which
//! is stored as canonical DAG-CBOR. Equal programs are equal bytes, whatever their sources looked
//! like. The format is in `docs/formats/program.md`.

mod build;
mod check;
mod codec;
mod graph;
mod source;

use std::collections::BTreeMap;
use std::fmt;

use quipu_core::id::ArtifactId;
use quipu_core::value::Map;

pub use build::{Built, Message, build};
pub use check::{Finding, Place, Problem, check};
pub use codec::ProgramError;
pub(crate) use codec::limits_of_value;
pub use source::Syntax;

use crate::limits::{Limits, NAME_BYTES_MAX};

/// The version of the format.
pub const PROGRAM_VERSION: u64 = 1;
/// The name of the input that a module reads from its standard input, not from a file.
pub const STDIN: &str = "stdin";
/// The name of the output that a module writes to its standard output.
pub const STDOUT: &str = "stdout";
/// The name of the output that a module writes to its standard error output.
pub const STDERR: &str = "stderr";

/// A program.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Program {
    /// For people.
    pub name: Option<String>,
    /// What it takes.
    pub inputs: BTreeMap<String, Input>,
    /// What it does. The order of steps follows from what they take.
    pub steps: BTreeMap<String, Step>,
    /// What it gives.
    pub outputs: BTreeMap<String, Output>,
}

/// An input of a program.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Input {
    /// What it must be.
    pub type_tag: Option<String>,
    /// Where it comes from if the caller gives nothing: a query over a snapshot.
    pub query: Option<Query>,
}

/// A question to a snapshot. Its answer becomes an artifact before the run begins, and the run key
/// names that, not the snapshot.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Query {
    /// The operator's name.
    pub operator: String,
    /// What it should do.
    pub parameters: Map,
    /// The queries whose answers it works on.
    pub of: Vec<Query>,
}

/// A step.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Step {
    /// What it does.
    pub action: Action,
    /// What it takes: by name.
    pub inputs: BTreeMap<String, StepInput>,
    /// What it gives: names and type tags.
    pub outputs: BTreeMap<String, Option<String>>,
    /// What it may use.
    pub limits: Limits,
    /// What a machine must offer to be given this step, as people call it. Sorted, each once. It has no
    /// part in the step's key: where a step runs changes nothing in what it gives.
    pub labels: Vec<String>,
}

/// What a step does.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Action {
    /// Runs a WebAssembly module with arguments.
    Module {
        /// The module.
        key: ArtifactId,
        /// The arguments after the program's name.
        args: Vec<String>,
    },
    /// Runs a built-in operator over its inputs.
    Operator {
        /// Its name.
        name: String,
        /// What it should do.
        parameters: Map,
    },
    /// Asks the snapshot. Done before the run begins.
    Query(Query),
}

/// An input of a step.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StepInput {
    /// Where it comes from.
    pub from: Source,
    /// What it must be.
    pub type_tag: Option<String>,
}

/// An output of a program.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Output {
    /// The step's output that it is.
    pub from: Port,
    /// What it must be.
    pub type_tag: Option<String>,
}

/// Where an input of a step comes from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Source {
    /// An input of the program.
    Input(String),
    /// An output of a step.
    Step(Port),
    /// The snapshot.
    Query(Query),
}

/// An output of a step. Its text is `STEP/OUTPUT`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Port {
    /// The step's id.
    pub step: String,
    /// The output's name.
    pub output: String,
}

impl fmt::Display for Port {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.step, self.output)
    }
}

/// Whether a text may name an input, a step or an output: letters, digits, `.`, `_` and `-`, and no
/// dot at the beginning. So it can be a file's name anywhere, and has one reading in `STEP/OUTPUT`.
pub fn is_name(text: &str) -> bool {
    let fits = |b: u8| b.is_ascii_alphanumeric() || b"._-".contains(&b);
    !text.is_empty()
        && text.len() <= NAME_BYTES_MAX
        && !text.starts_with('.')
        && text.bytes().all(fits)
}

impl Program {
    /// What the snapshot is asked before a run, by the name under which the answer is an input of
    /// the run: an input's name, or `STEP/NAME` for an input or output of a step.
    pub fn queries(&self) -> BTreeMap<String, &Query> {
        let inputs = self
            .inputs
            .iter()
            .filter_map(|(name, input)| input.query.as_ref().map(|query| (name.clone(), query)));
        let steps = self.steps.iter().flat_map(|(id, step)| {
            let of_inputs = step.inputs.iter().filter_map(move |(name, input)| match &input.from {
                Source::Query(query) => Some((format!("{id}/{name}"), query)),
                _ => None,
            });
            let of_action = match &step.action {
                Action::Query(query) => step.outputs.keys().next().map(|name| (name, query)),
                _ => None,
            };
            of_inputs.chain(of_action.map(|(name, query)| (format!("{id}/{name}"), query)))
        });
        inputs.chain(steps).collect()
    }

    /// The names of all inputs of a run: those of the program and the answers to its queries.
    pub fn run_inputs(&self) -> Vec<String> {
        let mut names: Vec<_> = self.inputs.keys().cloned().collect();
        names.extend(self.queries().into_keys());
        names.sort_unstable();
        names.dedup();
        names
    }

    /// The steps that run: all but those that ask the snapshot.
    pub fn running(&self) -> impl Iterator<Item = (&String, &Step)> {
        self.steps.iter().filter(|(_, step)| !matches!(step.action, Action::Query(_)))
    }

    /// The ids of all steps, each after those that it takes something from, else by id; nothing if
    /// there is a circle.
    pub fn order(&self) -> Option<Vec<&str>> {
        graph::order(self).ok()
    }
}
