//! Lineage for others: where something came from, in forms that other people's tools read (PEL-8).
//!
//! The caller gathers a [`Lineage`], of receipts, steps, edges, imports and machines, with commitments
//! where something stays internal. Everything here is a pure function of it.

mod dot;
mod dsse;
mod prov;
mod slsa;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use quipu_core::blind::receipt::{BlindedReceipt, Shown};
use quipu_core::id::{ArtifactId, DomainId, NodeKey};
use quipu_core::value::Value;
use serde_json::{Value as Json, json};

pub use dot::to_dot;
pub use dsse::{Envelope, EnvelopeError, IN_TOTO_TYPE, pae};
pub use prov::to_prov_json;
pub use slsa::{BUILD_TYPE, to_statement};

use crate::key::{RunKey, StepKey};
use crate::program::{Action, Program, Source};
use crate::receipt::Receipt;

/// Where something came from, or what became of it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Lineage {
    /// What there is.
    pub nodes: BTreeMap<Id, Node>,
    /// What led to what: from cause to result.
    pub edges: BTreeSet<Edge>,
}

/// A thing in a lineage.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Id {
    /// An artifact.
    Artifact(ArtifactId),
    /// Something that stays internal, by its commitment.
    Blinded([u8; 32]),
    /// A step that ran.
    Step(StepKey),
    /// A machine.
    Machine(NodeKey),
}

impl Id {
    /// The kind, as a word.
    pub const fn kind(&self) -> &'static str {
        match self {
            Self::Artifact(_) => "artifact",
            Self::Blinded(_) => "blinded",
            Self::Step(_) => "step",
            Self::Machine(_) => "machine",
        }
    }

    /// The key, without the kind.
    pub fn key(&self) -> String {
        match self {
            Self::Artifact(key) => key.to_string(),
            Self::Blinded(digest) => NodeKey(*digest).to_string(),
            Self::Step(key) => key.to_string(),
            Self::Machine(key) => key.to_string(),
        }
    }
}

impl fmt::Display for Id {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.kind(), self.key())
    }
}

/// What is known of a thing. All of it may be unknown.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Node {
    /// A name for people.
    pub label: Option<String>,
    /// Bytes of an artifact.
    pub size: Option<u64>,
    /// Type tag of an artifact.
    pub type_tag: Option<String>,
    /// The domain that it is from.
    pub domain: Option<DomainId>,
    /// The snapshot of that domain, as its federated id.
    pub snapshot: Option<String>,
    /// Of a step: the run.
    pub run: Option<RunKey>,
    /// Of a step: the receipt that says so.
    pub receipt: Option<ArtifactId>,
    /// Of a step: the program.
    pub program: Option<ArtifactId>,
    /// Of a step: the determinism profile.
    pub profile: Option<u64>,
}

/// What led to what.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Edge {
    /// The cause.
    pub from: Id,
    /// The result.
    pub to: Id,
    /// How.
    pub relation: Relation,
}

/// How one thing led to another.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Relation {
    /// A step took it, as this input; a module as `module`.
    Used(String),
    /// A step made it, as this output.
    Made(String),
    /// Somebody says that one comes from the other: the type of the edge, or `import`.
    Derived(String),
    /// A machine ran the step, or put the artifact.
    By,
}

impl Relation {
    const fn word(&self) -> &'static str {
        match self {
            Self::Used(_) => "used",
            Self::Made(_) => "made",
            Self::Derived(_) => "derived",
            Self::By => "by",
        }
    }

    fn detail(&self) -> Option<&str> {
        match self {
            Self::Used(detail) | Self::Made(detail) | Self::Derived(detail) => Some(detail),
            Self::By => None,
        }
    }
}

/// The role of a module among the inputs of a step. No input has this name: names have no colon.
pub const ROLE_MODULE: &str = "quipu:module";

impl Lineage {
    /// What is known of a thing, to add to.
    pub fn node(&mut self, id: Id) -> &mut Node {
        self.nodes.entry(id).or_default()
    }

    /// Adds that one led to the other.
    pub fn edge(&mut self, from: Id, to: Id, relation: Relation) {
        self.node(from);
        self.node(to);
        self.edges.insert(Edge { from, to, relation });
    }

    /// Adds the steps of a run with all that they took and made. `machine` says who announced it.
    pub fn add_run(&mut self, program: &Program, receipt: &Receipt, machine: Option<NodeKey>) {
        let (run, receipt_key) = (receipt.run_key(), receipt.key());
        for (id, step) in program.running() {
            let Some(made) = receipt.steps.get(id) else { continue };
            let activity = Id::Step(made.key);
            let node = self.node(activity);
            node.label = Some(id.clone());
            node.run = Some(run);
            node.receipt = Some(receipt_key);
            node.program = Some(receipt.program);
            node.profile = Some(receipt.profile);
            for (name, key) in receipt.inputs_of(program, id).unwrap_or_default() {
                self.edge(Id::Artifact(key), activity, Relation::Used(name));
            }
            if let Action::Module { key, .. } = &step.action {
                let role = ROLE_MODULE.to_owned();
                self.edge(Id::Artifact(*key), activity, Relation::Used(role));
            }
            for (name, kept) in &made.outputs {
                let artifact = Id::Artifact(kept.key);
                let node = self.node(artifact);
                node.size = Some(kept.size);
                node.type_tag = step.outputs.get(name).cloned().flatten();
                self.edge(activity, artifact, Relation::Made(name.clone()));
            }
            if let Some(machine) = machine {
                self.edge(Id::Machine(machine), activity, Relation::By);
            }
        }
    }

    /// Adds a run of which another domain shows only a part. `program` is there if that is public; else the run
    /// appears as one step.
    pub fn add_blinded_run(
        &mut self,
        key: ArtifactId,
        receipt: &BlindedReceipt,
        program: Option<&Program>,
    ) {
        let activity = |id: &str| {
            let what = Value::List(vec![Value::from(key), Value::from(id)]);
            // The keys of steps that take something internal are not shown: these stand for them.
            Id::Step(StepKey::of(&what))
        };
        let Some(program) = program else {
            let run = activity("");
            self.describe_blinded(run, "a run", key, receipt);
            for (name, shown) in &receipt.inputs {
                self.edge(self::shown(shown), run, Relation::Used(name.clone()));
            }
            self.edge(self::shown(&receipt.program), run, Relation::Used(ROLE_MODULE.to_owned()));
            self.blinded_outputs(run, &receipt.outputs);
            return;
        };
        for (id, step) in program.running() {
            let Some(made) = receipt.steps.get(id) else { continue };
            let run = activity(id);
            self.describe_blinded(run, id, key, receipt);
            for (name, input) in &step.inputs {
                if let Some(shown) = receipt_input(receipt, id, name, &input.from) {
                    self.edge(self::shown(shown), run, Relation::Used(name.clone()));
                }
            }
            if let Action::Module { key, .. } = &step.action {
                self.edge(Id::Artifact(*key), run, Relation::Used(ROLE_MODULE.to_owned()));
            }
            self.blinded_outputs(run, made);
        }
    }

    fn describe_blinded(
        &mut self,
        run: Id,
        label: &str,
        key: ArtifactId,
        receipt: &BlindedReceipt,
    ) {
        let node = self.node(run);
        node.label = Some(label.to_owned());
        node.receipt = Some(key);
        node.profile = Some(receipt.profile);
        if let Shown::Artifact(program, _) = receipt.program {
            node.program = Some(program);
        }
    }

    fn blinded_outputs(&mut self, run: Id, outputs: &BTreeMap<String, Shown>) {
        for (name, made) in outputs {
            let id = shown(made);
            self.edge(run, id, Relation::Made(name.clone()));
            if let Shown::Artifact(_, size) = made {
                let node = self.node(id);
                node.size = size.or(node.size);
            }
        }
    }

    /// Everything that led to a thing, with itself; or everything that it led to.
    pub fn reach(&self, from: Id, back: bool) -> Self {
        let mut next: BTreeMap<Id, Vec<&Edge>> = BTreeMap::new();
        for edge in &self.edges {
            next.entry(if back { edge.to } else { edge.from }).or_default().push(edge);
        }
        let mut reached = Self::default();
        let mut todo = vec![from];
        while let Some(id) = todo.pop() {
            let Some(node) = self.nodes.get(&id) else { continue };
            if reached.nodes.insert(id, node.clone()).is_some() {
                continue;
            }
            for edge in next.get(&id).into_iter().flatten() {
                reached.edges.insert((*edge).clone());
                todo.push(if back { edge.from } else { edge.to });
            }
        }
        reached
    }

    /// The table, as JSON: `nodes` and `edges`.
    pub fn to_json(&self) -> Json {
        let nodes: Vec<Json> = self.nodes.iter().map(|(id, node)| node.to_json(*id)).collect();
        let edge = |edge: &Edge| {
            let mut object = json!({
                "from": edge.from.to_string(),
                "to": edge.to.to_string(),
                "relation": edge.relation.word(),
            });
            put(&mut object, "as", edge.relation.detail());
            object
        };
        json!({ "nodes": nodes, "edges": self.edges.iter().map(edge).collect::<Vec<_>>() })
    }
}

fn shown(shown: &Shown) -> Id {
    match shown {
        Shown::Artifact(key, _) => Id::Artifact(*key),
        Shown::Blinded(commitment) => Id::Blinded(commitment.0),
    }
}

/// What a step of a blinded run took.
fn receipt_input<'r>(
    receipt: &'r BlindedReceipt,
    id: &str,
    name: &str,
    from: &Source,
) -> Option<&'r Shown> {
    match from {
        Source::Input(name) => receipt.inputs.get(name),
        Source::Query(_) => receipt.inputs.get(&format!("{id}/{name}")),
        Source::Step(port) => {
            let made = receipt.steps.get(&port.step).and_then(|made| made.get(&port.output));
            made.or_else(|| receipt.inputs.get(&port.to_string()))
        }
    }
}

impl Node {
    fn to_json(&self, id: Id) -> Json {
        let mut object = json!({ "id": id.to_string(), "kind": id.kind(), "key": id.key() });
        put(&mut object, "label", self.label.as_deref());
        put(&mut object, "size", self.size);
        put(&mut object, "type_tag", self.type_tag.as_deref());
        put(&mut object, "domain", self.domain.map(|domain| domain.to_string()));
        put(&mut object, "snapshot", self.snapshot.as_deref());
        put(&mut object, "run", self.run.map(|run| run.to_string()));
        put(&mut object, "receipt", self.receipt.map(|receipt| receipt.to_string()));
        put(&mut object, "program", self.program.map(|program| program.to_string()));
        put(&mut object, "profile", self.profile);
        object
    }
}

/// Sets a field, if there is something to say.
fn put(object: &mut Json, key: &str, value: Option<impl Into<Json>>) {
    if let (Some(value), Some(fields)) = (value, object.as_object_mut()) {
        fields.insert(key.to_owned(), value.into());
    }
}
