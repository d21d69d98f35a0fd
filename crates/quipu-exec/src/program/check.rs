//! The rules of programs: all that can be said without running one.

use std::collections::BTreeSet;
use std::fmt;

use super::graph;
use super::{Action, Output, Port, Program, Query, STDERR, STDIN, STDOUT, Source, Step, is_name};
use crate::limits::{
    ARGS_BYTES_MAX, ARGS_MAX, BOUNDS, LABELS_MAX, NAME_BYTES_MAX, PORTS_MAX, QUERY_DEPTH_MAX,
    STEPS_MAX, TYPE_BYTES_MAX,
};
use crate::operators::{Operator, ParameterKind};

/// A place in a program.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Place {
    /// All of it.
    Program,
    /// An input of the program.
    Input(String),
    /// A step.
    Step(String),
    /// What a step does.
    Action(String),
    /// An input of a step.
    StepInput(String, String),
    /// An output of a step.
    StepOutput(String, String),
    /// A limit of a step.
    Limit(String, &'static str),
    /// The labels of a step.
    Labels(String),
    /// An output of the program.
    Output(String),
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Program => f.write_str("the program"),
            Self::Input(name) => write!(f, "input {name:?}"),
            Self::Step(id) | Self::Action(id) => write!(f, "step {id:?}"),
            Self::StepInput(id, name) => write!(f, "input {name:?} of step {id:?}"),
            Self::StepOutput(id, name) => write!(f, "output {name:?} of step {id:?}"),
            Self::Limit(id, name) => write!(f, "limit {name:?} of step {id:?}"),
            Self::Labels(id) => write!(f, "labels of step {id:?}"),
            Self::Output(name) => write!(f, "output {name:?}"),
        }
    }
}

/// What a rule has found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finding {
    /// Where.
    pub place: Place,
    /// What.
    pub problem: Problem,
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.place, self.problem)
    }
}

/// What is wrong with a program.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Problem {
    /// A name has other characters or another length than names have.
    #[error(
        "not a name: names have 1 to {NAME_BYTES_MAX} letters, digits, `.`, `_` or `-`, and no dot at the beginning"
    )]
    Name,
    /// A name has a meaning that does not fit.
    #[error("{0:?} cannot be used here: it has a meaning of its own")]
    NameReserved(String),
    /// A type tag is empty or too long.
    #[error("a type tag has 1 to {TYPE_BYTES_MAX} bytes")]
    TypeTag,
    /// There are too many of something.
    #[error("{count} {what}: at most {max}")]
    TooMany {
        /// Of what.
        what: &'static str,
        /// How many there are.
        count: usize,
        /// How many there may be.
        max: usize,
    },
    /// There is nothing of something that is needed.
    #[error("there are no {0}")]
    Nothing(&'static str),
    /// An argument cannot be passed on.
    #[error("an argument has a zero byte")]
    ArgumentZero,
    /// No operator has this name.
    #[error("there is no operator {0:?}")]
    UnknownOperator(String),
    /// An operator over artifacts stands in a query.
    #[error("the operator {0:?} asks no snapshot: it takes artifacts, in a step of its own")]
    NotAQuery(String),
    /// An operator takes another number of inputs.
    #[error("{operator:?} takes {min} to {max} inputs: here are {count}")]
    Inputs {
        /// Its name.
        operator: String,
        /// How many it takes, at least.
        min: usize,
        /// How many it takes, at most.
        max: usize,
        /// How many there are.
        count: usize,
    },
    /// An operator or a query has one output.
    #[error("it has one output: here are {0}")]
    OutputsOfOperator(usize),
    /// An operator does not know a parameter.
    #[error("{operator:?} has no parameter {name:?}")]
    UnknownParameter {
        /// The operator.
        operator: String,
        /// The parameter.
        name: String,
    },
    /// A parameter is missing.
    #[error("{operator:?} needs the parameter {name:?}")]
    MissingParameter {
        /// The operator.
        operator: String,
        /// The parameter.
        name: &'static str,
    },
    /// A parameter is of another kind.
    #[error("the parameter {name:?} is {kind}")]
    ParameterKind {
        /// The parameter.
        name: &'static str,
        /// What it should be.
        kind: ParameterKind,
    },
    /// Queries nest too deep.
    #[error("queries nest deeper than {QUERY_DEPTH_MAX}")]
    QueryDepth,
    /// The program has no such input.
    #[error("the program has no input {0:?}")]
    UnknownInput(String),
    /// The program has no such step.
    #[error("there is no step {0:?}")]
    UnknownStep(String),
    /// A step has no such output.
    #[error("step {:?} has no output {:?}", .0.step, .0.output)]
    UnknownOutput(Port),
    /// Steps wait for each other.
    #[error("these steps wait for each other: {}", circle_text(.0))]
    Cycle(Vec<String>),
    /// What comes is of another type than what is expected.
    #[error("{from} is {given:?}, and {expected:?} is expected")]
    Type {
        /// What comes.
        from: String,
        /// Its type.
        given: String,
        /// The type that it should have.
        expected: String,
    },
    /// A limit is zero or above what it may be.
    #[error("a limit of {given}: it is between 1 and {max}")]
    Limit {
        /// The limit.
        given: u64,
        /// The most that it may be.
        max: u64,
    },
    /// Labels are not as they should be.
    #[error("labels have 1 to {TYPE_BYTES_MAX} bytes, each is there once, and they are sorted")]
    Labels,
    /// A query is answered before a run begins, where it is asked for.
    #[error("a query has no labels: it is answered before the run begins")]
    LabelsOfQuery,
    /// Nothing takes it.
    #[error("nothing takes it")]
    Unused,
    /// Nothing takes it, which is allowed: a module may write more than is needed.
    #[error("nothing takes it (the step writes it all the same)")]
    OutputUnused,
}

impl Problem {
    /// Whether a program with it is refused.
    pub const fn is_error(&self) -> bool {
        !matches!(self, Self::OutputUnused)
    }
}

fn circle_text(ids: &[String]) -> String {
    let mut text = ids.join(" -> ");
    if let Some(first) = ids.first() {
        text.push_str(" -> ");
        text.push_str(first);
    }
    text
}

/// All that is wrong with a program.
pub fn check(program: &Program) -> Vec<Finding> {
    let mut checker = Checker { program, findings: Vec::new() };
    checker.program();
    for (id, step) in &program.steps {
        checker.step(id, step);
    }
    checker.outputs();
    checker.unused();
    if let Err(circle) = graph::order(program) {
        let first = circle.first().map(|id| (*id).to_owned()).unwrap_or_default();
        let circle = circle.into_iter().map(str::to_owned).collect();
        checker.find(Place::Step(first), Problem::Cycle(circle));
    }
    checker.findings
}

struct Checker<'p> {
    program: &'p Program,
    findings: Vec<Finding>,
}

impl Checker<'_> {
    fn find(&mut self, place: Place, problem: Problem) {
        self.findings.push(Finding { place, problem });
    }

    fn name(&mut self, name: &str, reserved: &[&str], place: impl FnOnce() -> Place) {
        if !is_name(name) {
            self.find(place(), Problem::Name);
        } else if reserved.contains(&name) {
            self.find(place(), Problem::NameReserved(name.to_owned()));
        }
    }

    fn type_tag(&mut self, tag: Option<&str>, place: impl FnOnce() -> Place) {
        if tag.is_some_and(|tag| tag.is_empty() || tag.len() > TYPE_BYTES_MAX) {
            self.find(place(), Problem::TypeTag);
        }
    }

    fn at_most(&mut self, place: Place, what: &'static str, count: usize, max: usize) {
        if count > max {
            self.find(place, Problem::TooMany { what, count, max });
        }
    }

    fn program(&mut self) {
        let program = self.program;
        self.at_most(Place::Program, "steps", program.steps.len(), STEPS_MAX);
        self.at_most(Place::Program, "inputs", program.inputs.len(), PORTS_MAX);
        self.at_most(Place::Program, "outputs", program.outputs.len(), PORTS_MAX);
        for (what, none) in
            [("steps", program.steps.is_empty()), ("outputs", program.outputs.is_empty())]
        {
            if none {
                self.find(Place::Program, Problem::Nothing(what));
            }
        }
        for (name, input) in &program.inputs {
            let place = || Place::Input(name.clone());
            self.name(name, &[], place);
            self.type_tag(input.type_tag.as_deref(), place);
            if let Some(query) = &input.query {
                self.query(query, place, 0);
                self.types(place(), "the answer", Some(query_type(query)), &input.type_tag);
            }
        }
    }

    fn step(&mut self, id: &str, step: &Step) {
        let place = || Place::Step(id.to_owned());
        self.name(id, &[], place);
        self.at_most(place(), "inputs", step.inputs.len(), PORTS_MAX);
        self.at_most(place(), "outputs", step.outputs.len(), PORTS_MAX);
        if step.outputs.is_empty() {
            self.find(place(), Problem::Nothing("outputs"));
        }
        self.action(id, step);
        for (name, input) in &step.inputs {
            let place = || Place::StepInput(id.to_owned(), name.clone());
            self.name(name, &[STDOUT, STDERR], place);
            self.type_tag(input.type_tag.as_deref(), place);
            self.source(&input.from, &input.type_tag, place);
        }
        for (name, tag) in &step.outputs {
            let place = || Place::StepOutput(id.to_owned(), name.clone());
            self.name(name, &[STDIN], place);
            self.type_tag(tag.as_deref(), place);
        }
        self.labels(id, step);
        let mut limits = step.limits;
        for bound in &BOUNDS {
            let (given, max) = (*(bound.of)(&mut limits), bound.max);
            if given == 0 || given > max {
                let place = Place::Limit(id.to_owned(), bound.name);
                self.find(place, Problem::Limit { given, max });
            }
        }
    }

    fn labels(&mut self, id: &str, step: &Step) {
        let place = || Place::Labels(id.to_owned());
        self.at_most(place(), "labels", step.labels.len(), LABELS_MAX);
        let fits = |label: &String| !label.is_empty() && label.len() <= TYPE_BYTES_MAX;
        if !step.labels.iter().all(fits) || !step.labels.is_sorted_by(|a, b| a < b) {
            self.find(place(), Problem::Labels);
        }
        if matches!(step.action, Action::Query(_)) && !step.labels.is_empty() {
            self.find(place(), Problem::LabelsOfQuery);
        }
    }

    fn action(&mut self, id: &str, step: &Step) {
        let place = || Place::Action(id.to_owned());
        match &step.action {
            Action::Module { args, .. } => {
                self.at_most(place(), "arguments", args.len(), ARGS_MAX);
                let bytes = args.iter().map(String::len).sum();
                self.at_most(place(), "bytes of arguments", bytes, ARGS_BYTES_MAX);
                if args.iter().any(|arg| arg.contains('\0')) {
                    self.find(place(), Problem::ArgumentZero);
                }
            }
            Action::Operator { name, parameters } => {
                match Operator::of(name).filter(|operator| !operator.asks) {
                    None => self.find(place(), Problem::UnknownOperator(name.clone())),
                    Some(operator) => {
                        self.arity(operator, step.inputs.len(), place);
                        self.parameters(operator, parameters, place);
                    }
                }
                self.one_output(step, place);
            }
            Action::Query(query) => {
                self.query(query, place, 0);
                self.one_output(step, place);
                self.at_most(place(), "inputs of a query", step.inputs.len(), 0);
                for tag in step.outputs.values() {
                    self.types(place(), "the answer", Some(query_type(query)), tag);
                }
            }
        }
    }

    fn one_output(&mut self, step: &Step, place: impl FnOnce() -> Place) {
        if step.outputs.len() > 1 {
            self.find(place(), Problem::OutputsOfOperator(step.outputs.len()));
        }
    }

    fn arity(&mut self, operator: &Operator, count: usize, place: impl FnOnce() -> Place) {
        let (min, max) = (operator.inputs_min, operator.inputs_max);
        if !(min..=max).contains(&count) {
            let operator = operator.name.to_owned();
            self.find(place(), Problem::Inputs { operator, min, max, count });
        }
    }

    fn parameters(
        &mut self,
        operator: &Operator,
        given: &quipu_core::value::Map,
        place: impl Fn() -> Place,
    ) {
        let Some(known) = operator.parameters else { return };
        for (name, value) in given.iter() {
            match known.iter().find(|parameter| parameter.name == name) {
                None => {
                    let (operator, name) = (operator.name.to_owned(), name.to_owned());
                    self.find(place(), Problem::UnknownParameter { operator, name });
                }
                Some(parameter) => {
                    let fits = match parameter.kind {
                        ParameterKind::Text => value.as_str().is_some(),
                        ParameterKind::Bool => value.as_bool().is_some(),
                    };
                    if !fits {
                        let (name, kind) = (parameter.name, parameter.kind);
                        self.find(place(), Problem::ParameterKind { name, kind });
                    }
                }
            }
        }
        for parameter in known.iter().filter(|p| p.required && given.get(p.name).is_none()) {
            let (operator, name) = (operator.name.to_owned(), parameter.name);
            self.find(place(), Problem::MissingParameter { operator, name });
        }
    }

    fn query(&mut self, query: &Query, place: impl Fn() -> Place + Copy, depth: usize) {
        if depth >= QUERY_DEPTH_MAX {
            return self.find(place(), Problem::QueryDepth);
        }
        match Operator::of(&query.operator) {
            None => self.find(place(), Problem::UnknownOperator(query.operator.clone())),
            Some(operator) if !operator.asks => {
                self.find(place(), Problem::NotAQuery(query.operator.clone()));
            }
            Some(operator) => {
                self.arity(operator, query.of.len(), place);
                self.parameters(operator, &query.parameters, place);
            }
        }
        for inner in &query.of {
            self.query(inner, place, depth + 1);
        }
    }

    /// What is said of the type of something, if it is there.
    fn source(
        &mut self,
        from: &Source,
        expected: &Option<String>,
        place: impl Fn() -> Place + Copy,
    ) {
        match from {
            Source::Input(name) => match self.program.inputs.get(name) {
                None => self.find(place(), Problem::UnknownInput(name.clone())),
                Some(input) => {
                    self.types(
                        place(),
                        &format!("input {name:?}"),
                        input.type_tag.as_deref(),
                        expected,
                    );
                }
            },
            Source::Query(query) => {
                self.query(query, place, 0);
                self.types(place(), "the answer", Some(query_type(query)), expected);
            }
            Source::Step(port) => self.port(port, expected, place),
        }
    }

    fn port(&mut self, port: &Port, expected: &Option<String>, place: impl Fn() -> Place) {
        let Some(step) = self.program.steps.get(&port.step) else {
            return self.find(place(), Problem::UnknownStep(port.step.clone()));
        };
        match step.outputs.get(&port.output) {
            None => self.find(place(), Problem::UnknownOutput(port.clone())),
            Some(given) => self.types(place(), &port.to_string(), given.as_deref(), expected),
        }
    }

    /// What has no type fits everywhere, and what expects none takes everything.
    fn types(&mut self, place: Place, from: &str, given: Option<&str>, expected: &Option<String>) {
        if let (Some(given), Some(expected)) = (given, expected)
            && given != expected
        {
            let (from, given, expected) = (from.to_owned(), given.to_owned(), expected.clone());
            self.find(place, Problem::Type { from, given, expected });
        }
    }

    fn outputs(&mut self) {
        for (name, Output { from, type_tag }) in &self.program.outputs {
            let place = || Place::Output(name.clone());
            self.name(name, &[], place);
            self.type_tag(type_tag.as_deref(), place);
            self.port(from, type_tag, place);
        }
    }

    fn unused(&mut self) {
        let program = self.program;
        let sources = || program.steps.values().flat_map(|step| step.inputs.values());
        let inputs: BTreeSet<&str> = sources()
            .filter_map(
                |input| if let Source::Input(name) = &input.from { Some(&**name) } else { None },
            )
            .collect();
        let of_steps = sources().filter_map(|input| {
            if let Source::Step(port) = &input.from { Some(port) } else { None }
        });
        let ports: BTreeSet<&Port> =
            of_steps.chain(program.outputs.values().map(|output| &output.from)).collect();
        for name in program.inputs.keys().filter(|name| !inputs.contains(&***name)) {
            self.find(Place::Input(name.clone()), Problem::Unused);
        }
        for (id, step) in &program.steps {
            let port = |output: &String| Port { step: id.clone(), output: output.clone() };
            let unused: Vec<&String> =
                step.outputs.keys().filter(|output| !ports.contains(&port(output))).collect();
            if unused.len() == step.outputs.len() {
                self.find(Place::Step(id.clone()), Problem::Unused);
            } else {
                for output in unused {
                    let place = Place::StepOutput(id.clone(), output.clone());
                    self.find(place, Problem::OutputUnused);
                }
            }
        }
    }
}

fn query_type(query: &Query) -> &'static str {
    Operator::of(&query.operator).and_then(|operator| operator.type_tag).unwrap_or_default()
}
