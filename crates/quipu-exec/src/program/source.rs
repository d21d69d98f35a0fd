//! Sources of programs: JSON or TOML, as one tree in which everything knows where it stands.

use std::ops::Range;

use jsonc_parser::ast;
use jsonc_parser::common::Ranged;
use jsonc_parser::{CollectOptions, ParseOptions, parse_to_ast};
use quipu_core::value::{Map, Value};
use toml_edit::{Document, Item, TableLike};

/// How deep lists and tables nest: far more than a program needs.
const DEPTH_MAX: usize = 48;

/// How a source is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Syntax {
    /// JSON.
    Json,
    /// TOML 1.
    Toml,
}

impl Syntax {
    /// JSON if the text begins as an object does; a TOML text cannot.
    pub fn of(text: &str) -> Self {
        if text.trim_start().starts_with('{') { Self::Json } else { Self::Toml }
    }
}

/// A value and where it stands.
#[derive(Debug, Clone)]
pub(super) struct Node {
    pub(super) span: Range<usize>,
    pub(super) kind: Kind,
}

#[derive(Debug, Clone)]
pub(super) enum Kind {
    Null,
    Bool(bool),
    Int(i128),
    Float(f64),
    Text(String),
    List(Vec<Node>),
    Table(Vec<Entry>),
}

#[derive(Debug, Clone)]
pub(super) struct Entry {
    pub(super) key: String,
    pub(super) key_span: Range<usize>,
    pub(super) node: Node,
}

/// Text that is no JSON or TOML.
#[derive(Debug)]
pub(super) struct SyntaxError {
    pub(super) at: usize,
    pub(super) what: String,
}

/// Reads a source.
pub(super) fn parse(text: &str, syntax: Syntax) -> Result<Node, SyntaxError> {
    match syntax {
        Syntax::Json => of_json(text),
        Syntax::Toml => of_toml(text),
    }
}

fn too_deep(span: &Range<usize>) -> SyntaxError {
    SyntaxError { at: span.start, what: format!("nested deeper than {DEPTH_MAX}") }
}

fn of_json(text: &str) -> Result<Node, SyntaxError> {
    let strict = ParseOptions {
        allow_comments: false,
        allow_loose_object_property_names: false,
        allow_trailing_commas: false,
        allow_missing_commas: false,
        allow_single_quoted_strings: false,
        allow_hexadecimal_numbers: false,
        allow_unary_plus_numbers: false,
        allow_bare_decimal_point_numbers: false,
        allow_non_finite_numbers: false,
        allow_extended_string_escapes: false,
    };
    let parsed = parse_to_ast(text, &CollectOptions::default(), &strict).map_err(|error| {
        SyntaxError { at: error.range().start, what: error.kind().to_string().to_lowercase() }
    })?;
    let nothing = || SyntaxError { at: 0, what: "the source is empty".to_owned() };
    json_node(&parsed.value.ok_or_else(nothing)?, 0)
}

fn json_node(value: &ast::Value<'_>, depth: usize) -> Result<Node, SyntaxError> {
    let range = value.range();
    let span = range.start..range.end;
    if depth > DEPTH_MAX {
        return Err(too_deep(&span));
    }
    let kind = match value {
        ast::Value::NullKeyword(_) => Kind::Null,
        ast::Value::BooleanLit(literal) => Kind::Bool(literal.value),
        ast::Value::StringLit(literal) => Kind::Text(literal.value.clone().into_owned()),
        ast::Value::NumberLit(literal) => {
            let text = literal.value;
            let integer = text.parse().ok().map(Kind::Int);
            integer.or_else(|| text.parse().ok().map(Kind::Float)).ok_or_else(|| SyntaxError {
                at: span.start,
                what: format!("{text:?} is no number that can be kept"),
            })?
        }
        ast::Value::Array(array) => Kind::List(
            array
                .elements
                .iter()
                .map(|item| json_node(item, depth + 1))
                .collect::<Result<_, _>>()?,
        ),
        ast::Value::Object(object) => {
            let entry = |property: &ast::ObjectProp<'_>| {
                let range = property.name.range();
                Ok(Entry {
                    key: property.name.as_str().to_owned(),
                    key_span: range.start..range.end,
                    node: json_node(&property.value, depth + 1)?,
                })
            };
            Kind::Table(object.properties.iter().map(entry).collect::<Result<_, _>>()?)
        }
    };
    Ok(Node { span, kind })
}

fn of_toml(text: &str) -> Result<Node, SyntaxError> {
    let document = Document::parse(text).map_err(|error| SyntaxError {
        at: error.span().map_or(0, |span| span.start),
        what: error.message().trim().replace('\n', ", "),
    })?;
    toml_table(document.as_table(), 0..0, 0)
}

fn toml_table(
    table: &dyn TableLike,
    span: Range<usize>,
    depth: usize,
) -> Result<Node, SyntaxError> {
    if depth > DEPTH_MAX {
        return Err(too_deep(&span));
    }
    let mut entries = Vec::new();
    for (name, item) in table.iter() {
        let key_span = table.key(name).and_then(toml_edit::Key::span);
        // A table of a dotted header has no place of its own: that of the one around it will do.
        let key_span = key_span.or_else(|| item.span()).unwrap_or_else(|| span.clone());
        let node = toml_item(item, &key_span, depth + 1)?;
        entries.push(Entry { key: name.to_owned(), key_span, node });
    }
    Ok(Node { span, kind: Kind::Table(entries) })
}

fn toml_item(item: &Item, around: &Range<usize>, depth: usize) -> Result<Node, SyntaxError> {
    let span = item.span().unwrap_or_else(|| around.clone());
    match item {
        Item::None => Ok(Node { span, kind: Kind::Null }),
        Item::Table(table) => toml_table(table, span, depth),
        Item::Value(value) => toml_value(value, around, depth),
        Item::ArrayOfTables(tables) => {
            let table = |table: &toml_edit::Table| {
                toml_table(table, table.span().unwrap_or_else(|| span.clone()), depth + 1)
            };
            let tables = tables.iter().map(table).collect::<Result<_, _>>()?;
            Ok(Node { span, kind: Kind::List(tables) })
        }
    }
}

fn toml_value(
    value: &toml_edit::Value,
    around: &Range<usize>,
    depth: usize,
) -> Result<Node, SyntaxError> {
    let span = value.span().unwrap_or_else(|| around.clone());
    if depth > DEPTH_MAX {
        return Err(too_deep(&span));
    }
    let kind = match value {
        toml_edit::Value::String(text) => Kind::Text(text.value().clone()),
        toml_edit::Value::Integer(number) => Kind::Int(i128::from(*number.value())),
        toml_edit::Value::Float(number) => Kind::Float(*number.value()),
        toml_edit::Value::Boolean(truth) => Kind::Bool(*truth.value()),
        toml_edit::Value::Datetime(date) => {
            let what = format!("a date, {}: write it as text", date.value());
            return Err(SyntaxError { at: span.start, what });
        }
        toml_edit::Value::Array(items) => Kind::List(
            items
                .iter()
                .map(|item| toml_value(item, &span, depth + 1))
                .collect::<Result<_, _>>()?,
        ),
        toml_edit::Value::InlineTable(table) => return toml_table(table, span, depth),
    };
    Ok(Node { span, kind })
}

impl Node {
    /// The kind, for messages.
    pub(super) const fn kind_name(&self) -> &'static str {
        match self.kind {
            Kind::Null => "null",
            Kind::Bool(_) => "true or false",
            Kind::Int(_) => "a whole number",
            Kind::Float(_) => "a fraction",
            Kind::Text(_) => "text",
            Kind::List(_) => "a list",
            Kind::Table(_) => "a table",
        }
    }

    /// The value as it is stored, if the data model has it.
    pub(super) fn to_value(&self) -> Option<Value> {
        Some(match &self.kind {
            Kind::Null => Value::Null,
            Kind::Bool(truth) => Value::from(*truth),
            Kind::Int(number) => {
                let unsigned = u64::try_from(*number).ok().map(Value::from);
                unsigned.or_else(|| i64::try_from(*number).ok().map(Value::from))?
            }
            Kind::Float(number) => Value::float(*number)?,
            Kind::Text(text) => Value::from(text.as_str()),
            Kind::List(items) => {
                Value::List(items.iter().map(Self::to_value).collect::<Option<_>>()?)
            }
            Kind::Table(entries) => {
                let entries =
                    entries.iter().map(|entry| Some((&*entry.key, entry.node.to_value()?)));
                let entries: Vec<_> = entries.collect::<Option<_>>()?;
                Value::Map(Map::from_entries(entries).ok()?)
            }
        })
    }
}
