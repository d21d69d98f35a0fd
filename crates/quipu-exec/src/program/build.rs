//! From a source to a program, with everything that is wrong with it, each with its place.

use std::collections::BTreeMap;
use std::fmt;
use std::ops::Range;

use quipu_core::id::ArtifactId;
use quipu_core::value::{Map, Value};

use super::check::{Place, Problem, check};
use super::source::{Entry, Kind, Node, Syntax, parse};
use super::{
    Action, Input, Output, PROGRAM_VERSION, Port, Program, Query, Source, Step, StepInput,
};
use crate::limits::{BOUNDS, Limits, PROGRAM_BYTES_MAX, QUERY_DEPTH_MAX};
use crate::operators::Operator;

/// What a module's name begins with if it is a file's path.
const FILE_PREFIX: &str = "file:";
/// What a source of a step's input begins with if it is an input of the program.
const INPUT_PREFIX: &str = "input:";

/// Something wrong in a source.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Message {
    /// The line, from 1.
    pub line: usize,
    /// The column in characters, from 1.
    pub column: usize,
    /// Whether there is no program because of it.
    pub is_error: bool,
    /// What is wrong.
    pub text: String,
}

impl fmt::Display for Message {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let kind = if self.is_error { "error" } else { "warning" };
        write!(f, "{}:{}: {kind}: {}", self.line, self.column, self.text)
    }
}

/// What became of a source.
#[derive(Debug, Clone)]
pub struct Built {
    /// The program, if nothing is an error.
    pub program: Option<Program>,
    /// What is wrong, in the order of the source.
    pub messages: Vec<Message>,
}

/// Reads and checks a source. `put_file` is given the path of each module that is named as a file,
/// stores it and says its key, or in words why it cannot.
pub fn build(
    text: &str,
    syntax: Syntax,
    put_file: &mut dyn FnMut(&str) -> Result<ArtifactId, String>,
) -> Built {
    let mut builder = Builder { put_file, places: BTreeMap::new(), problems: Vec::new() };
    let program = builder.read(text, syntax);
    let mut problems = builder.problems;
    // A part that could not be read is missing, so rules that name it would only confuse.
    if let Some(program) = program.as_ref().filter(|_| problems.is_empty()) {
        for finding in check(program) {
            let at = builder.places.get(&finding.place).map_or(0, |span| span.start);
            problems.push((at, finding.problem.is_error(), finding.to_string()));
        }
        if problems.iter().all(|(_, is_error, _)| !is_error)
            && let Err(error) = Program::decode(&program.encode())
        {
            problems.push((0, true, error.to_string()));
        }
    }
    let ok = problems.iter().all(|(_, is_error, _)| !is_error);
    problems.sort_by_key(|(at, ..)| *at);
    let message = |(at, is_error, text_of): (usize, bool, String)| {
        let (line, column) = line_column(text, at);
        Message { line, column, is_error, text: text_of }
    };
    let messages = problems.into_iter().map(message).collect();
    Built { program: program.filter(|_| ok), messages }
}

/// Line and column of a byte, both from 1.
fn line_column(text: &str, at: usize) -> (usize, usize) {
    let before = text.get(..at.min(text.len())).unwrap_or(text);
    let line = 1 + before.bytes().filter(|b| *b == b'\n').count();
    let column = 1 + before.rsplit('\n').next().map_or(0, |rest| rest.chars().count());
    (line, column)
}

struct Builder<'f> {
    put_file: &'f mut dyn FnMut(&str) -> Result<ArtifactId, String>,
    places: BTreeMap<Place, Range<usize>>,
    problems: Vec<(usize, bool, String)>,
}

impl Builder<'_> {
    fn wrong(&mut self, span: &Range<usize>, what: impl Into<String>) {
        self.problems.push((span.start, true, what.into()));
    }

    fn read(&mut self, text: &str, syntax: Syntax) -> Option<Program> {
        if text.len() > PROGRAM_BYTES_MAX {
            let bytes = text.len();
            self.wrong(&(0..0), format!("{bytes} bytes: at most {PROGRAM_BYTES_MAX} are read"));
            return None;
        }
        match parse(text, syntax) {
            Ok(node) => self.program(&node),
            Err(error) => {
                self.wrong(&(error.at..error.at), error.what);
                None
            }
        }
    }

    fn program(&mut self, node: &Node) -> Option<Program> {
        let known = ["quipu-program", "name", "inputs", "steps", "outputs", "limits"];
        let fields = self.fields(node, &known)?;
        self.places.insert(Place::Program, node.span.clone());
        match fields.get("quipu-program") {
            Some(version) if matches!(version.kind, Kind::Int(n) if n == i128::from(PROGRAM_VERSION)) =>
                {}
            Some(version) => self.wrong(
                &version.span,
                format!("version {PROGRAM_VERSION} of the format is known here"),
            ),
            None => self.wrong(
                &node.span,
                format!("`quipu-program` is missing: it says the version, {PROGRAM_VERSION}"),
            ),
        }
        let mut limits = Limits::default();
        if let Some(node) = fields.get("limits") {
            self.limits(node, &mut limits, None);
        }
        let name = fields.get("name").and_then(|node| self.text(node));
        let mut program = Program { name, ..Program::default() };
        for entry in self.entries(fields.get("inputs").copied()) {
            self.place(Place::Input(entry.key.clone()), &entry.key_span);
            if let Some(input) = self.input(&entry.node) {
                program.inputs.insert(entry.key.clone(), input);
            }
        }
        self.steps(fields.get("steps").copied(), limits, &mut program);
        for entry in self.entries(fields.get("outputs").copied()) {
            self.place(Place::Output(entry.key.clone()), &entry.key_span);
            if let Some(output) = self.output(&entry.node) {
                program.outputs.insert(entry.key.clone(), output);
            }
        }
        Some(program)
    }

    fn place(&mut self, place: Place, span: &Range<usize>) {
        self.places.insert(place, span.clone());
    }

    fn steps(&mut self, node: Option<&Node>, limits: Limits, program: &mut Program) {
        let Some(node) = node else { return };
        let Kind::List(items) = &node.kind else {
            let what = format!("`steps` is a list of tables, not {}", node.kind_name());
            return self.wrong(&node.span, what);
        };
        for item in items {
            let Some((id, span, step)) = self.step(item, limits) else { continue };
            if program.steps.insert(id.clone(), step).is_some() {
                self.wrong(&span, format!("there is a step {id:?} already"));
            }
        }
    }

    fn step(&mut self, node: &Node, mut limits: Limits) -> Option<(String, Range<usize>, Step)> {
        let known = [
            "id",
            "module",
            "args",
            "operator",
            "parameters",
            "query",
            "inputs",
            "outputs",
            "limits",
            "labels",
        ];
        let fields = self.fields(node, &known)?;
        let Some(id_node) = fields.get("id") else {
            self.wrong(&node.span, "a step needs an `id`");
            return None;
        };
        let id = self.text(id_node)?;
        let span = id_node.span.clone();
        self.place(Place::Step(id.clone()), &span);
        if let Some(node) = fields.get("limits") {
            self.limits(node, &mut limits, Some(&id));
        }
        let mut inputs = BTreeMap::new();
        for entry in self.entries(fields.get("inputs").copied()) {
            self.place(Place::StepInput(id.clone(), entry.key.clone()), &entry.key_span);
            if let Some(input) = self.step_input(&entry.node) {
                inputs.insert(entry.key.clone(), input);
            }
        }
        let mut outputs = BTreeMap::new();
        for entry in self.entries(fields.get("outputs").copied()) {
            self.place(Place::StepOutput(id.clone(), entry.key.clone()), &entry.key_span);
            if let Some(tag) = self.step_output(&entry.node) {
                outputs.insert(entry.key.clone(), tag);
            }
        }
        let mut labels = match fields.get("labels") {
            Some(node) => {
                self.place(Place::Labels(id.clone()), &node.span);
                self.texts(node)?
            }
            None => Vec::new(),
        };
        labels.sort_unstable();
        labels.dedup();
        let action = self.action(&id, &span, &fields)?;
        Some((id, span, Step { action, inputs, outputs, limits, labels }))
    }

    fn action(
        &mut self,
        id: &str,
        span: &Range<usize>,
        fields: &BTreeMap<&str, &Node>,
    ) -> Option<Action> {
        let kinds = ["module", "operator", "query"];
        let given: Vec<&str> = kinds.into_iter().filter(|kind| fields.contains_key(kind)).collect();
        let [kind] = given[..] else {
            let what = format!("step {id:?} needs one of `module`, `operator` and `query`");
            self.wrong(span, what);
            return None;
        };
        let node = fields.get(kind)?;
        self.place(Place::Action(id.to_owned()), &node.span);
        for (field, owner) in [("args", "module"), ("parameters", "operator")] {
            if let Some(node) = fields.get(field).filter(|_| kind != owner) {
                self.wrong(&node.span, format!("`{field}` goes with `{owner}`"));
            }
        }
        match kind {
            "module" => {
                let key = self.module(node)?;
                let args = fields.get("args").map_or(Some(Vec::new()), |args| self.texts(args))?;
                Some(Action::Module { key, args })
            }
            "operator" => {
                let name = self.text(node)?;
                let parameters = self.parameters(fields.get("parameters").copied())?;
                if Operator::of(&name).is_some_and(|operator| operator.asks) {
                    let query = Query { operator: name, parameters, of: Vec::new() };
                    return Some(Action::Query(query));
                }
                Some(Action::Operator { name, parameters })
            }
            _ => Some(Action::Query(self.query(node, 0)?)),
        }
    }

    fn module(&mut self, node: &Node) -> Option<ArtifactId> {
        let text = self.text(node)?;
        let key = match text.strip_prefix(FILE_PREFIX) {
            Some(path) => (self.put_file)(path).map_err(|why| format!("module {path:?}: {why}")),
            None => text
                .parse()
                .map_err(|error| format!("{error}; a module is a key, or `{FILE_PREFIX}PATH`")),
        };
        key.map_err(|what| self.wrong(&node.span, what)).ok()
    }

    fn input(&mut self, node: &Node) -> Option<Input> {
        if let Kind::Text(tag) = &node.kind {
            return Some(Input { type_tag: Some(tag.clone()), query: None });
        }
        let fields = self.fields(node, &["type", "query"])?;
        let type_tag = self.type_tag(&fields)?;
        let query = match fields.get("query") {
            Some(node) => Some(self.query(node, 0)?),
            None => None,
        };
        Some(Input { type_tag, query })
    }

    fn query(&mut self, node: &Node, depth: usize) -> Option<Query> {
        if depth >= QUERY_DEPTH_MAX {
            self.wrong(&node.span, Problem::QueryDepth.to_string());
            return None;
        }
        if let Kind::Text(operator) = &node.kind {
            let operator = operator.clone();
            return Some(Query { operator, parameters: Map::new(), of: Vec::new() });
        }
        let fields = self.fields(node, &["operator", "parameters", "of"])?;
        let Some(operator) = fields.get("operator") else {
            self.wrong(&node.span, "a query needs an `operator`");
            return None;
        };
        let operator = self.text(operator)?;
        let parameters = self.parameters(fields.get("parameters").copied())?;
        let of = match fields.get("of") {
            None => Vec::new(),
            Some(Node { kind: Kind::List(items), .. }) => {
                items.iter().map(|item| self.query(item, depth + 1)).collect::<Option<_>>()?
            }
            Some(one) => vec![self.query(one, depth + 1)?],
        };
        Some(Query { operator, parameters, of })
    }

    fn step_input(&mut self, node: &Node) -> Option<StepInput> {
        if matches!(node.kind, Kind::Text(_)) {
            return Some(StepInput { from: self.source(node)?, type_tag: None });
        }
        let fields = self.fields(node, &["from", "query", "type"])?;
        let type_tag = self.type_tag(&fields)?;
        let from = match (fields.get("from"), fields.get("query")) {
            (Some(from), None) => self.source(from)?,
            (None, Some(query)) => Source::Query(self.query(query, 0)?),
            _ => {
                self.wrong(&node.span, "an input needs one of `from` and `query`");
                return None;
            }
        };
        Some(StepInput { from, type_tag })
    }

    fn source(&mut self, node: &Node) -> Option<Source> {
        let text = self.text(node)?;
        if let Some(name) = text.strip_prefix(INPUT_PREFIX) {
            return Some(Source::Input(name.to_owned()));
        }
        self.port(node, &text).map(Source::Step)
    }

    fn port(&mut self, node: &Node, text: &str) -> Option<Port> {
        let Some((step, output)) = text.split_once('/') else {
            let what =
                format!("{text:?} names no place: it is `{INPUT_PREFIX}NAME` or `STEP/OUTPUT`");
            self.wrong(&node.span, what);
            return None;
        };
        Some(Port { step: step.to_owned(), output: output.to_owned() })
    }

    fn step_output(&mut self, node: &Node) -> Option<Option<String>> {
        if let Kind::Text(tag) = &node.kind {
            return Some(Some(tag.clone()));
        }
        let fields = self.fields(node, &["type"])?;
        self.type_tag(&fields)
    }

    fn output(&mut self, node: &Node) -> Option<Output> {
        let (from, type_tag) = if matches!(node.kind, Kind::Text(_)) {
            (node, None)
        } else {
            let fields = self.fields(node, &["from", "type"])?;
            let Some(from) = fields.get("from") else {
                self.wrong(&node.span, "an output needs `from`");
                return None;
            };
            (*from, self.type_tag(&fields)?)
        };
        let text = self.text(from)?;
        Some(Output { from: self.port(from, &text)?, type_tag })
    }

    fn limits(&mut self, node: &Node, limits: &mut Limits, step: Option<&str>) {
        let Some(fields) = self.fields(node, &BOUNDS.map(|bound| bound.name)) else { return };
        for bound in &BOUNDS {
            let Some(node) = fields.get(bound.name) else { continue };
            if let Some(id) = step {
                self.place(Place::Limit(id.to_owned(), bound.name), &node.span);
            }
            match node.kind {
                Kind::Int(number) if (1..=i128::from(bound.max)).contains(&number) => {
                    *(bound.of)(limits) = number.unsigned_abs() as u64;
                }
                _ => self.wrong(
                    &node.span,
                    format!("a limit is a whole number between 1 and {}", bound.max),
                ),
            }
        }
    }

    /// The fields of a table, each known and there once.
    fn fields<'n>(
        &mut self,
        node: &'n Node,
        known: &[&str],
    ) -> Option<BTreeMap<&'n str, &'n Node>> {
        let Kind::Table(_) = &node.kind else {
            self.wrong(&node.span, format!("a table is expected, not {}", node.kind_name()));
            return None;
        };
        let mut fields = BTreeMap::new();
        for entry in self.entries(Some(node)) {
            if !known.contains(&&*entry.key) {
                let what =
                    format!("{:?} is not known here: there are {}", entry.key, known.join(", "));
                self.wrong(&entry.key_span, what);
            }
            fields.insert(&*entry.key, &entry.node);
        }
        Some(fields)
    }

    /// The entries of a table, each key once.
    fn entries<'n>(&mut self, node: Option<&'n Node>) -> Vec<&'n Entry> {
        let Some(node) = node else { return Vec::new() };
        let Kind::Table(entries) = &node.kind else {
            self.wrong(&node.span, format!("a table is expected, not {}", node.kind_name()));
            return Vec::new();
        };
        let mut seen = std::collections::BTreeSet::new();
        let mut once = Vec::with_capacity(entries.len());
        for entry in entries {
            if seen.insert(&*entry.key) {
                once.push(entry);
            } else {
                self.wrong(&entry.key_span, format!("there is a {:?} already", entry.key));
            }
        }
        once
    }

    fn text(&mut self, node: &Node) -> Option<String> {
        if let Kind::Text(text) = &node.kind {
            return Some(text.clone());
        }
        self.wrong(&node.span, format!("text is expected, not {}", node.kind_name()));
        None
    }

    fn texts(&mut self, node: &Node) -> Option<Vec<String>> {
        let Kind::List(items) = &node.kind else {
            self.wrong(&node.span, format!("a list is expected, not {}", node.kind_name()));
            return None;
        };
        items.iter().map(|item| self.text(item)).collect()
    }

    fn type_tag(&mut self, fields: &BTreeMap<&str, &Node>) -> Option<Option<String>> {
        match fields.get("type") {
            Some(node) => Some(Some(self.text(node)?)),
            None => Some(None),
        }
    }

    fn parameters(&mut self, node: Option<&Node>) -> Option<Map> {
        let Some(node) = node else { return Some(Map::new()) };
        match node.to_value() {
            Some(Value::Map(map)) => Some(map),
            Some(_) => {
                self.wrong(&node.span, "parameters are a table");
                None
            }
            None => {
                let what = "there is a number or a key in it that values cannot have";
                self.wrong(&node.span, what);
                None
            }
        }
    }
}
