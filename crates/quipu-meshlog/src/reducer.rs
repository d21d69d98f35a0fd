//! Reducers that people declare: tables over any kinds of event, each column with one of four rules.
//!
//! All four rules give the same whatever the order of arrival, so a table is kept up to date event by event, and is
//! equal on all nodes that hold the same events and use the same declaration.

use std::cmp::Ordering;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use serde::Deserialize;

use crate::event::Event;
use crate::json::{self, Int, Object, Style, Value};
use crate::order::fold_order;
use crate::text::Text;

/// What a column makes of the values that events bring.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Rule {
    /// The value of the last event in fold order.
    LastWriter,
    /// The greatest number.
    Max,
    /// All values, each once. A list brings each of its items.
    SetUnion,
    /// The sum of whole numbers of 64 bits.
    Counter,
}

#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
struct Column {
    rule: Rule,
    /// The field of the payload; the column's own name if it is left out.
    from: Option<String>,
}

#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
struct Declared {
    name: String,
    kinds: BTreeSet<String>,
    key: String,
    columns: BTreeMap<String, Column>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Document {
    table: Vec<Declared>,
}

/// A declaration that cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ReducerError {
    /// Not TOML, or not of this form.
    #[error("the declaration of reducers is wrong: {0}")]
    Toml(#[from] Box<toml::de::Error>),
    /// Two tables have one name.
    #[error("two tables are named {name}")]
    NameTwice {
        /// The name.
        name: String,
    },
    /// A table that would stay empty.
    #[error("table {name} has no {lacking}")]
    Empty {
        /// Its name.
        name: String,
        /// What it lacks.
        lacking: &'static str,
    },
}

impl ReducerError {
    /// What can be done about it.
    pub const fn hint(&self) -> &'static str {
        "a table has name, kinds, key, and [table.columns] with rules last-writer, max, set-union, counter"
    }
}

/// What a cell holds.
#[derive(Debug, Clone)]
enum Cell {
    Last(Arc<Event>, Value),
    Max(Value),
    Set(BTreeMap<Vec<u8>, Value>),
    Sum(i128),
}

type Row = BTreeMap<String, Cell>;

/// Tables by declaration.
#[derive(Debug, Clone)]
pub struct Reducer {
    tables: Vec<(Declared, BTreeMap<Text, Row>)>,
}

impl Reducer {
    /// Empty tables as a TOML document declares them.
    pub fn from_toml(text: &str) -> Result<Self, ReducerError> {
        let document: Document = toml::from_str(text).map_err(Box::new)?;
        let mut names = BTreeSet::new();
        for table in &document.table {
            let name = table.name.clone();
            if table.kinds.is_empty() {
                return Err(ReducerError::Empty { name, lacking: "kinds" });
            }
            if table.columns.is_empty() {
                return Err(ReducerError::Empty { name, lacking: "columns" });
            }
            if !names.insert(&table.name) {
                return Err(ReducerError::NameTwice { name });
            }
        }
        Ok(Self {
            tables: document.table.into_iter().map(|table| (table, BTreeMap::new())).collect(),
        })
    }

    /// Adds an event, which was not added before, in any order. What a rule cannot use is ignored.
    pub fn apply(&mut self, event: &Arc<Event>) {
        for (table, rows) in &mut self.tables {
            let is_read = event.kind.as_str().is_some_and(|kind| table.kinds.contains(kind));
            let Some(Value::Text(key)) = event.payload.get(&table.key).filter(|_| is_read) else {
                continue;
            };
            let row = rows.entry(key.clone()).or_default();
            for (name, column) in &table.columns {
                let from = column.from.as_ref().unwrap_or(name);
                if let Some(value) = event.payload.get(from) {
                    apply_cell(row, name, column.rule, event, value);
                }
            }
        }
    }

    /// All rows: the table's name, the row's key, its columns as an object.
    pub fn rows(&self) -> impl Iterator<Item = (&str, &Text, Value)> {
        self.tables.iter().flat_map(|(table, rows)| {
            rows.iter().map(|(key, row)| (table.name.as_str(), key, columns_of(row)))
        })
    }

    /// All tables: rows by key, each with its columns.
    pub fn to_value(&self) -> Value {
        let mut tables = Object::default();
        for (table, rows) in &self.tables {
            let shown = rows.iter().map(|(key, row)| (key.clone(), columns_of(row)));
            let shown = Value::Object(Object::from_pairs(shown.collect()));
            tables.push_text(table.name.as_str().into(), shown);
        }
        Value::Object(tables)
    }
}

fn columns_of(row: &Row) -> Value {
    let cells = row.iter().map(|(name, cell)| (name.as_str().into(), cell.to_value()));
    Value::Object(Object::from_pairs(cells.collect()))
}

fn apply_cell(row: &mut Row, name: &str, rule: Rule, event: &Arc<Event>, value: &Value) {
    let last = || Cell::Last(Arc::clone(event), value.clone());
    let Some(first) = (match rule {
        Rule::LastWriter => Some(last()),
        Rule::Max => is_number(value).then(|| Cell::Max(value.clone())),
        Rule::SetUnion => Some(Cell::Set(BTreeMap::new())),
        Rule::Counter => value.as_int().and_then(Int::as_i64).map(|_| Cell::Sum(0)),
    }) else {
        return;
    };
    match row.entry(name.to_owned()).or_insert(first) {
        Cell::Last(held, _) if fold_order(held, event) == Ordering::Greater => {}
        cell @ Cell::Last(..) => *cell = last(),
        Cell::Max(held) if number_order(held, value) == Ordering::Less => *held = value.clone(),
        Cell::Max(_) => {}
        Cell::Set(items) => {
            for item in value.as_list().unwrap_or(std::slice::from_ref(value)) {
                items.insert(json::to_bytes(item, Style::Canonical), item.clone());
            }
        }
        // Some 2^64 of the largest fit.
        Cell::Sum(sum) => *sum += value.as_int().and_then(Int::as_i64).map_or(0, i128::from),
    }
}

fn is_number(value: &Value) -> bool {
    matches!(value, Value::Int(_)) || matches!(value, Value::Float(float) if !float.is_nan())
}

/// An order of all numbers in which none are equal unless they are written the same: by size; of those that are the
/// same float, floats before whole numbers.
fn number_order(a: &Value, b: &Value) -> Ordering {
    let size = |value: &Value| match value {
        Value::Int(int) => int.to_f64(),
        Value::Float(float) => *float,
        _ => f64::NEG_INFINITY,
    };
    size(a).total_cmp(&size(b)).then_with(|| a.as_int().cmp(&b.as_int()))
}

impl Cell {
    fn to_value(&self) -> Value {
        match self {
            Cell::Last(_, value) | Cell::Max(value) => value.clone(),
            Cell::Set(items) => Value::List(items.values().cloned().collect()),
            Cell::Sum(sum) => Int::from(*sum).into(),
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::clock::Stamp;
    use crate::event::Body;

    const STATIONS: &str = r#"
        [[table]]
        name = "stations"
        kinds = ["sensor.report", "sensor.visit"]
        key = "station"
        [table.columns]
        status = { rule = "last-writer" }
        hottest = { rule = "max", from = "temp" }
        tags = { rule = "set-union", from = "tag" }
        visits = { rule = "counter", from = "n" }
    "#;

    fn event(seq: u64, wall: i64, kind: &str, payload: &str) -> Arc<Event> {
        let payload = json::parse(payload.as_bytes()).unwrap().into();
        let (stamp, kind) = (Stamp::new(wall, 0), kind.into());
        Arc::new(Event::new(Body { author: "a".into(), seq, stamp, kind, payload, prev: None }))
    }

    fn shown(events: &[Arc<Event>]) -> String {
        let mut reducer = Reducer::from_toml(STATIONS).unwrap();
        events.iter().for_each(|event| reducer.apply(event));
        String::from_utf8(json::to_bytes(&reducer.to_value(), Style::Canonical)).unwrap()
    }

    #[test]
    fn the_four_rules() {
        let events = [
            event(
                1,
                5,
                "sensor.report",
                r#"{"station":"s","status":"late","temp":3,"tag":["a","b"],"n":2}"#,
            ),
            event(
                2,
                4,
                "sensor.visit",
                r#"{"station":"s","status":"early","temp":3.5,"tag":"a","n":-7}"#,
            ),
            event(3, 6, "sensor.report", r#"{"station":"s","temp":NaN,"tag":{"x":1},"n":1.5}"#),
            event(4, 9, "sensor.other", r#"{"station":"s","status":"no"}"#),
            event(5, 9, "sensor.report", r#"{"station":7,"status":"no"}"#),
        ];
        let expected = r#"{"stations":{"s":{"hottest":3.5,"status":"late","tags":["a","b",{"x":1}],"visits":-5}}}"#;
        assert_eq!(shown(&events), expected);
    }

    #[test]
    fn declarations_that_cannot_be_used() {
        let table = |name: &str, kinds: &str, rule: &str| {
            format!(
                "[[table]]\nname = \"{name}\"\nkinds = [{kinds}]\nkey = \"k\"\n[table.columns]\n{rule}\n"
            )
        };
        let good = table("t", "\"x\"", "c = { rule = \"max\" }");
        assert!(Reducer::from_toml(&good).is_ok());
        let bad = [
            (good.clone() + &good, "two tables are named t"),
            (table("t", "", "c = { rule = \"max\" }"), "table t has no kinds"),
            (table("t", "\"x\"", ""), "table t has no columns"),
            (table("t", "\"x\"", "c = { rule = \"least\" }"), "unknown variant `least`"),
            (table("t", "\"x\"", "c = { rule = \"max\", form = \"x\" }"), "unknown field `form`"),
            ("table = 1".into(), "the declaration of reducers is wrong"),
        ];
        for (text, expected) in bad {
            let error = Reducer::from_toml(&text).unwrap_err().to_string();
            assert!(error.contains(expected), "{error}");
        }
    }

    proptest! {
        #[test]
        fn the_order_of_arrival_does_not_matter(
            drawn in proptest::collection::vec((0..3i64, 0..2usize, "0|[1-9][0-9]?|1\\.0|1|NaN|-0\\.0|9007199254740993|9007199254740992\\.0", 0..3usize), 1..20),
            order in Just(()).prop_perturb(|(), mut rng| rng.next_u64()),
        ) {
            let events: Vec<_> = drawn.iter().enumerate().map(|(n, (wall, station, number, tag))| {
                let payload = format!(r#"{{"station":"s{station}","status":{n},"temp":{number},"tag":["{tag}",{tag}],"n":{number}}}"#);
                event(n as u64 + 1, *wall, "sensor.report", &payload)
            }).collect();
            let expected = shown(&events);
            let mut shuffled = events;
            let mut state = order;
            for at in (1..shuffled.len()).rev() {
                state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
                shuffled.swap(at, (state >> 33) as usize % (at + 1));
            }
            prop_assert_eq!(shown(&shuffled), expected);
        }
    }
}
