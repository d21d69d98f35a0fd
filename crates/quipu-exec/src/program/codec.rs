//! Programs as canonical DAG-CBOR.

use std::collections::BTreeMap;

use quipu_core::id::ArtifactId;
use quipu_core::value::{self, Map, Value, ValueError};

use super::check::{self, Finding};
use super::{
    Action, Input, Output, PROGRAM_VERSION, Port, Program, Query, Source, Step, StepInput,
};
use crate::limits::{BOUNDS, Limits, PROGRAM_BYTES_MAX, QUERY_DEPTH_MAX};

/// Why bytes are not a program.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ProgramError {
    /// They are too many.
    #[error("a program of {bytes} bytes: at most {PROGRAM_BYTES_MAX} are read")]
    TooLarge {
        /// How many there are.
        bytes: usize,
    },
    /// They are not canonical DAG-CBOR.
    #[error("not a program: {0}")]
    Malformed(#[from] ValueError),
    /// They are of another version, or of something else.
    #[error("not a program of version {PROGRAM_VERSION}")]
    Version,
    /// A field is missing, of another kind than it should be, or not known.
    #[error("in the program, {place}: {what}")]
    Field {
        /// Where.
        place: String,
        /// What is wrong with it.
        what: &'static str,
    },
    /// It is not in the one form that it should have.
    #[error("the program is not in its canonical form")]
    NotCanonical,
    /// It breaks rules.
    #[error("the program has {} problems; the first: {}", .0.len(), .0[0])]
    Broken(Vec<Finding>),
}

impl Program {
    /// The bytes of the artifact.
    ///
    /// # Panics
    ///
    /// If `/` is a name in it, which [`check`](fn@super::check) refuses.
    pub fn encode(&self) -> Vec<u8> {
        let mut bytes = Vec::new();
        value::encode(&self.to_value(), &mut bytes);
        bytes
    }

    /// Reads the bytes of an artifact that need not be a program, and checks it.
    pub fn decode(bytes: &[u8]) -> Result<Self, ProgramError> {
        if bytes.len() > PROGRAM_BYTES_MAX {
            return Err(ProgramError::TooLarge { bytes: bytes.len() });
        }
        let value = value::decode(bytes)?;
        if value.get("quipu-program").and_then(Value::as_u64) != Some(PROGRAM_VERSION) {
            return Err(ProgramError::Version);
        }
        let program = Self::of_value(&value)?;
        if program.encode() != bytes {
            return Err(ProgramError::NotCanonical);
        }
        let mut findings = check::check(&program);
        findings.retain(|finding| finding.problem.is_error());
        if findings.is_empty() { Ok(program) } else { Err(ProgramError::Broken(findings)) }
    }

    fn to_value(&self) -> Value {
        let mut map = Fields::default();
        map.set("quipu-program", Value::from(PROGRAM_VERSION));
        map.maybe("name", self.name.as_deref());
        map.set("inputs", by_name(&self.inputs, Input::to_value));
        map.set("steps", by_name(&self.steps, Step::to_value));
        map.set("outputs", by_name(&self.outputs, Output::to_value));
        map.into()
    }

    fn of_value(value: &Value) -> Result<Self, ProgramError> {
        let fields = Reader::of(value, "the program")?;
        fields.only(&["quipu-program", "name", "inputs", "steps", "outputs"])?;
        Ok(Self {
            name: fields.text_maybe("name")?,
            inputs: fields.by_name("inputs", Input::of_value)?,
            steps: fields.by_name("steps", Step::of_value)?,
            outputs: fields.by_name("outputs", Output::of_value)?,
        })
    }
}

impl Input {
    fn to_value(&self) -> Value {
        let mut map = Fields::default();
        map.maybe("type", self.type_tag.as_deref());
        if let Some(query) = &self.query {
            map.set("query", query.to_value());
        }
        map.into()
    }

    fn of_value(value: &Value, place: &str) -> Result<Self, ProgramError> {
        let fields = Reader::of(value, place)?;
        fields.only(&["type", "query"])?;
        let query =
            fields.get("query").map(|query| Query::of_value(query, place, 0)).transpose()?;
        Ok(Self { type_tag: fields.text_maybe("type")?, query })
    }
}

impl Query {
    pub(crate) fn to_value(&self) -> Value {
        let mut map = Fields::default();
        map.set("operator", Value::from(self.operator.as_str()));
        if !self.parameters.is_empty() {
            map.set("parameters", Value::Map(self.parameters.clone()));
        }
        if !self.of.is_empty() {
            map.set("of", Value::List(self.of.iter().map(Self::to_value).collect()));
        }
        map.into()
    }

    fn of_value(value: &Value, place: &str, depth: usize) -> Result<Self, ProgramError> {
        let fields = Reader::of(value, place)?;
        fields.only(&["operator", "parameters", "of"])?;
        if depth >= QUERY_DEPTH_MAX {
            return Err(fields.wrong("queries nest too deep"));
        }
        let of = match fields.get("of") {
            None => Vec::new(),
            Some(of) => of
                .as_list()
                .ok_or_else(|| fields.wrong("`of` is not a list"))?
                .iter()
                .map(|query| Self::of_value(query, place, depth + 1))
                .collect::<Result<_, _>>()?,
        };
        Ok(Self { operator: fields.text("operator")?, parameters: fields.map("parameters")?, of })
    }
}

impl Step {
    fn to_value(&self) -> Value {
        let mut map = Fields::default();
        match &self.action {
            Action::Module { key, args } => {
                map.set("module", Value::from(*key));
                map.set("args", Value::list(args.iter().map(String::as_str)));
            }
            Action::Operator { name, parameters } => {
                map.set("operator", Value::from(name.as_str()));
                map.set("parameters", Value::Map(parameters.clone()));
            }
            Action::Query(query) => map.set("query", query.to_value()),
        }
        map.set("inputs", by_name(&self.inputs, StepInput::to_value));
        map.set(
            "outputs",
            by_name(&self.outputs, |tag| tag.as_deref().map_or(Value::Null, Value::from)),
        );
        map.set("limits", self.limits.to_value());
        if !self.labels.is_empty() {
            map.set("labels", Value::list(self.labels.iter().map(String::as_str)));
        }
        map.into()
    }

    fn of_value(value: &Value, place: &str) -> Result<Self, ProgramError> {
        let fields = Reader::of(value, place)?;
        let common = ["inputs", "outputs", "limits", "labels"];
        let (action, own) = Action::of_fields(&fields)?;
        fields.only(&[&common[..], own].concat())?;
        let tag = |value: &Value, place: &str| match value {
            Value::Null => Ok(None),
            Value::String(tag) => Ok(Some(tag.clone())),
            _ => Err(wrong(place, "a type tag is neither text nor null")),
        };
        Ok(Self {
            action,
            inputs: fields.by_name("inputs", StepInput::of_value)?,
            outputs: fields.by_name("outputs", tag)?,
            limits: limits_of(fields.need("limits")?, place)?,
            labels: fields.get("labels").map_or(Ok(Vec::new()), |_| fields.texts("labels"))?,
        })
    }
}

impl Action {
    /// The action and the names of its fields.
    fn of_fields(fields: &Reader<'_>) -> Result<(Self, &'static [&'static str]), ProgramError> {
        if let Some(link) = fields.get("module") {
            let digest = link.as_link().and_then(|cid| cid.digest(ArtifactId::PREFIX));
            let key = digest.map(ArtifactId).ok_or_else(|| fields.wrong("`module` is no key"))?;
            return Ok((Self::Module { key, args: fields.texts("args")? }, &["module", "args"]));
        }
        if fields.get("operator").is_some() {
            let (name, parameters) = (fields.text("operator")?, fields.map("parameters")?);
            return Ok((Self::Operator { name, parameters }, &["operator", "parameters"]));
        }
        let query = Query::of_value(fields.need("query")?, fields.place, 0)?;
        Ok((Self::Query(query), &["query"]))
    }
}

/// Limits as they are stored.
pub(crate) fn limits_of_value(value: &Value) -> Option<Limits> {
    limits_of(value, "the step").ok()
}

fn limits_of(value: &Value, place: &str) -> Result<Limits, ProgramError> {
    let fields = Reader::of(value, place)?;
    fields.only(&BOUNDS.map(|bound| bound.name))?;
    let mut limits = Limits::default();
    for bound in &BOUNDS {
        let given = fields.need(bound.name)?.as_u64();
        *(bound.of)(&mut limits) = given.ok_or_else(|| fields.wrong("a limit is no number"))?;
    }
    Ok(limits)
}

impl StepInput {
    fn to_value(&self) -> Value {
        let mut map = Fields::default();
        match &self.from {
            Source::Input(name) => map.set("input", Value::from(name.as_str())),
            Source::Step(port) => port.set(&mut map),
            Source::Query(query) => map.set("query", query.to_value()),
        }
        map.maybe("type", self.type_tag.as_deref());
        map.into()
    }

    fn of_value(value: &Value, place: &str) -> Result<Self, ProgramError> {
        let fields = Reader::of(value, place)?;
        let type_tag = fields.text_maybe("type")?;
        let from = if fields.get("input").is_some() {
            fields.only(&["input", "type"])?;
            Source::Input(fields.text("input")?)
        } else if let Some(query) = fields.get("query") {
            fields.only(&["query", "type"])?;
            Source::Query(Query::of_value(query, place, 0)?)
        } else {
            Source::Step(Port::of_fields(&fields)?)
        };
        Ok(Self { from, type_tag })
    }
}

impl Output {
    fn to_value(&self) -> Value {
        let mut map = Fields::default();
        self.from.set(&mut map);
        map.maybe("type", self.type_tag.as_deref());
        map.into()
    }

    fn of_value(value: &Value, place: &str) -> Result<Self, ProgramError> {
        let fields = Reader::of(value, place)?;
        Ok(Self { from: Port::of_fields(&fields)?, type_tag: fields.text_maybe("type")? })
    }
}

impl Port {
    fn set(&self, map: &mut Fields) {
        map.set("step", Value::from(self.step.as_str()));
        map.set("output", Value::from(self.output.as_str()));
    }

    fn of_fields(fields: &Reader<'_>) -> Result<Self, ProgramError> {
        fields.only(&["step", "output", "type"])?;
        Ok(Self { step: fields.text("step")?, output: fields.text("output")? })
    }
}

fn by_name<T>(items: &BTreeMap<String, T>, to_value: impl Fn(&T) -> Value) -> Value {
    let entries = items.iter().map(|(name, item)| (name.as_str(), to_value(item)));
    Value::Map(Map::from_entries(entries).expect("`/` is no name: `check` refuses it"))
}

/// A map that is made of names known here.
#[derive(Default)]
struct Fields(Map);

impl Fields {
    fn set(&mut self, key: &'static str, value: Value) {
        // No field of a format is named as the reserved key.
        let _ = self.0.insert(key, value);
    }

    fn maybe(&mut self, key: &'static str, text: Option<&str>) {
        if let Some(text) = text {
            self.set(key, Value::from(text));
        }
    }
}

impl From<Fields> for Value {
    fn from(fields: Fields) -> Self {
        Self::Map(fields.0)
    }
}

fn wrong(place: &str, what: &'static str) -> ProgramError {
    ProgramError::Field { place: place.to_owned(), what }
}

/// A map that somebody else made.
struct Reader<'v> {
    map: &'v Map,
    place: &'v str,
}

impl<'v> Reader<'v> {
    fn of(value: &'v Value, place: &'v str) -> Result<Self, ProgramError> {
        let map = value.as_map().ok_or_else(|| wrong(place, "not a map"))?;
        Ok(Self { map, place })
    }

    fn wrong(&self, what: &'static str) -> ProgramError {
        wrong(self.place, what)
    }

    /// Refuses fields that are not known: they could mean anything.
    fn only(&self, known: &[&str]) -> Result<(), ProgramError> {
        let all = self.map.iter().all(|(key, _)| known.contains(&key));
        if all { Ok(()) } else { Err(self.wrong("there is a field that is not known")) }
    }

    fn get(&self, key: &str) -> Option<&'v Value> {
        self.map.get(key)
    }

    fn need(&self, key: &str) -> Result<&'v Value, ProgramError> {
        self.get(key).ok_or_else(|| self.wrong("a field is missing"))
    }

    fn text(&self, key: &str) -> Result<String, ProgramError> {
        self.need(key)?.as_str().map(str::to_owned).ok_or_else(|| self.wrong("not text"))
    }

    fn text_maybe(&self, key: &str) -> Result<Option<String>, ProgramError> {
        self.get(key).map(|_| self.text(key)).transpose()
    }

    fn texts(&self, key: &str) -> Result<Vec<String>, ProgramError> {
        let items = self.need(key)?.as_list().ok_or_else(|| self.wrong("not a list"))?;
        let texts = items.iter().map(|item| item.as_str().map(str::to_owned));
        texts.collect::<Option<_>>().ok_or_else(|| self.wrong("a list of other things than texts"))
    }

    fn map(&self, key: &str) -> Result<Map, ProgramError> {
        match self.get(key) {
            None => Ok(Map::new()),
            Some(value) => value.as_map().cloned().ok_or_else(|| self.wrong("not a map")),
        }
    }

    fn by_name<T>(
        &self,
        key: &str,
        of_value: impl Fn(&Value, &str) -> Result<T, ProgramError>,
    ) -> Result<BTreeMap<String, T>, ProgramError> {
        let map = self.need(key)?.as_map().ok_or_else(|| self.wrong("not a map"))?;
        let read = |(name, value): (&str, &Value)| {
            let place = format!("{} {name:?} of {}", key.trim_end_matches('s'), self.place);
            Ok((name.to_owned(), of_value(value, &place)?))
        };
        map.iter().map(read).collect()
    }
}
