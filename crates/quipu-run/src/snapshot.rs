//! The snapshot that a program's queries are about: the plan operators over what the machine answers.

use std::collections::BTreeSet;
use std::io::Write;

use quipu_core::value::{Map, Value as Parameter};
use quipu_exec::operators::{Snapshot, SnapshotError};
use quipu_exec::program::Query;
use quipu_node::api::{ApiError, ExitCode, Request, TraceQuery};
use serde_json::Value;

use crate::ask::Ask;
use crate::workplace::Workplace;

/// A snapshot, or the present.
pub(crate) struct SnapshotOf<A: Ask> {
    place: Workplace<A>,
    at: Option<String>,
}

impl<A: Ask + 'static> Snapshot for SnapshotOf<A> {
    fn answer(&self, query: &Query, out: &mut dyn Write) -> Result<(), SnapshotError> {
        for row in self.rows(query)? {
            // Objects have their keys sorted, so equal rows are equal bytes.
            writeln!(out, "{row}")?;
        }
        Ok(())
    }
}

fn refused(error: ApiError) -> SnapshotError {
    match error.code {
        ExitCode::Storage | ExitCode::Bug => SnapshotError::Io(std::io::Error::other(error)),
        _ => SnapshotError::Refused(error.to_string()),
    }
}

fn wrong(query: &Query, what: &str) -> SnapshotError {
    SnapshotError::Refused(format!("{}: {what}", query.operator))
}

/// The parameters of a query; every one has to be taken.
struct Parameters<'q> {
    query: &'q Query,
    known: &'static [&'static str],
}

impl<'q> Parameters<'q> {
    fn of(query: &'q Query, known: &'static [&'static str]) -> Result<Self, SnapshotError> {
        let unknown = query.parameters.iter().find(|(name, _)| !known.contains(name));
        match unknown {
            Some((name, _)) => {
                let known = if known.is_empty() { "none".to_owned() } else { known.join(", ") };
                Err(wrong(query, &format!("no parameter is called {name:?}; there is {known}")))
            }
            None => Ok(Self { query, known }),
        }
    }

    fn get(&self, name: &str) -> Option<&'q Parameter> {
        debug_assert!(self.known.contains(&name));
        self.query.parameters.get(name)
    }

    fn text(&self, name: &str) -> Result<Option<String>, SnapshotError> {
        match self.get(name) {
            None => Ok(None),
            Some(value) => {
                let text = value.as_str().map(str::to_owned);
                text.map(Some).ok_or_else(|| wrong(self.query, &format!("{name} is no text")))
            }
        }
    }

    fn texts(&self, name: &str) -> Result<Vec<String>, SnapshotError> {
        let no_list = || wrong(self.query, &format!("{name} is no list of texts"));
        let Some(value) = self.get(name) else { return Ok(Vec::new()) };
        let list = value.as_list().ok_or_else(no_list)?;
        list.iter().map(|one| one.as_str().map(str::to_owned).ok_or_else(no_list)).collect()
    }

    fn number(&self, name: &str) -> Result<Option<u64>, SnapshotError> {
        match self.get(name) {
            None => Ok(None),
            Some(value) => {
                let number = value.as_u64();
                number.map(Some).ok_or_else(|| wrong(self.query, &format!("{name} is no number")))
            }
        }
    }

    fn map(&self, name: &str) -> Result<Option<&'q Map>, SnapshotError> {
        match self.get(name) {
            None => Ok(None),
            Some(Parameter::Map(map)) => Ok(Some(map)),
            Some(_) => Err(wrong(self.query, &format!("{name} is no map"))),
        }
    }
}

impl<A: Ask + 'static> SnapshotOf<A> {
    pub(crate) fn new(place: Workplace<A>, at: Option<String>) -> Self {
        Self { place, at }
    }

    fn ask(&self, request: Request) -> Result<Vec<Value>, SnapshotError> {
        self.place.machine().all(request).map_err(refused)
    }

    fn rows(&self, query: &Query) -> Result<Vec<Value>, SnapshotError> {
        match &*query.operator {
            "current" => {
                Parameters::of(query, &[])?;
                self.ask(Request::Current { at: self.at.clone() })
            }
            "segment-scan" => self.scan(query),
            "index-filter" => self.filter(query),
            "merge" => {
                Parameters::of(query, &[])?;
                Ok(merged(self.below(query)?))
            }
            "tombstone-shadow" => {
                Parameters::of(query, &[])?;
                self.shadow(query)
            }
            "projection" => self.project(query),
            "traversal" => self.traverse(query),
            "records" => {
                Parameters::of(query, &[])?;
                self.records()
            }
            other => Err(wrong(query, &format!("{other:?} is no operator over a snapshot"))),
        }
    }

    fn below(&self, query: &Query) -> Result<Vec<Value>, SnapshotError> {
        let mut rows = Vec::new();
        for query in &query.of {
            rows.extend(self.rows(query)?);
        }
        Ok(rows)
    }

    /// Events in replay order.
    fn scan(&self, query: &Query) -> Result<Vec<Value>, SnapshotError> {
        let parameters = Parameters::of(query, &["kind", "author"])?;
        self.ask(Request::Log {
            kind: parameters.text("kind")?,
            author: parameters.text("author")?,
            limit: None,
            reverse: false,
            proof: false,
            at: self.at.clone(),
        })
    }

    /// Rows whose fields have these values.
    fn filter(&self, query: &Query) -> Result<Vec<Value>, SnapshotError> {
        let parameters = Parameters::of(query, &["equal"])?;
        let mut wanted = Vec::new();
        for (name, value) in parameters.map("equal")?.into_iter().flat_map(Map::iter) {
            wanted.push((name.to_owned(), quipu_core::value::to_json(value)));
        }
        let mut rows =
            if query.of.is_empty() { self.scan(&scan_all())? } else { self.below(query)? };
        rows.retain(|row| wanted.iter().all(|(name, value)| row[name] == *value));
        Ok(rows)
    }

    /// Rows that CURRENT shows.
    fn shadow(&self, query: &Query) -> Result<Vec<Value>, SnapshotError> {
        let current = self.ask(Request::Current { at: self.at.clone() })?;
        let shown: BTreeSet<&str> = current.iter().filter_map(|row| row["uuid"].as_str()).collect();
        let mut rows = self.below(query)?;
        rows.retain(|row| row["uuid"].as_str().is_some_and(|id| shown.contains(id)));
        Ok(rows)
    }

    fn project(&self, query: &Query) -> Result<Vec<Value>, SnapshotError> {
        let fields = Parameters::of(query, &["fields"])?.texts("fields")?;
        if fields.is_empty() {
            return Err(wrong(query, "fields is missing: a list of texts"));
        }
        let rows = self.below(query)?.into_iter();
        Ok(rows
            .map(|row| {
                let field = |name: &String| Some((name.clone(), row.get(name)?.clone()));
                Value::Object(fields.iter().filter_map(field).collect())
            })
            .collect())
    }

    /// The nodes that a walk of the trace graph reaches, then its edges.
    fn traverse(&self, query: &Query) -> Result<Vec<Value>, SnapshotError> {
        let parameters = Parameters::of(query, &["key", "direction", "depth", "types"])?;
        let starts = match parameters.text("key")? {
            Some(key) => vec![key],
            None => {
                let key = |row: &Value| row["key"].as_str().map(str::to_owned);
                self.below(query)?.iter().filter_map(key).collect()
            }
        };
        let depth =
            parameters.number("depth")?.map(|depth| u32::try_from(depth).unwrap_or(u32::MAX));
        let (mut nodes, mut edges) = (Vec::new(), Vec::new());
        for key in starts {
            let (direction, types) = (parameters.text("direction")?, parameters.texts("types")?);
            // What other domains publish is no part of this domain's snapshot.
            let at = self.at.clone();
            let walk = TraceQuery { key, direction, depth, types, at };
            for trace in self.ask(Request::Trace(walk))? {
                nodes.extend(trace["nodes"].as_array().into_iter().flatten().cloned());
                edges.extend(trace["edges"].as_array().into_iter().flatten().cloned());
            }
        }
        let mut seen = BTreeSet::new();
        nodes.extend(edges);
        nodes.retain(|row| seen.insert(row.to_string()));
        Ok(nodes)
    }

    /// Records: the latest value of each field of each record.
    fn records(&self) -> Result<Vec<Value>, SnapshotError> {
        let mut records = std::collections::BTreeMap::new();
        for row in self.ask(Request::Current { at: self.at.clone() })? {
            let payload = &row["payload"];
            let Some(id) = payload["record_id"].as_str() else { continue };
            let record = records.entry(id.to_owned()).or_insert_with(
                || serde_json::json!({ "record_id": id, "form": Value::Null, "fields": {} }),
            );
            match row["kind"].as_str() {
                Some("record.create") => record["form"] = payload["form"].clone(),
                Some("field.set") => {
                    if let Some(field) = payload["field"].as_str() {
                        record["fields"][field] = payload["value"].clone();
                    }
                }
                _ => {}
            }
        }
        Ok(records.into_values().collect())
    }
}

fn scan_all() -> Query {
    Query { operator: "segment-scan".to_owned(), parameters: Map::new(), of: Vec::new() }
}

/// In replay order, each once.
fn merged(mut rows: Vec<Value>) -> Vec<Value> {
    let order = |row: &Value| {
        let clock = row["logseq"].as_str().and_then(|text| text.parse::<u64>().ok());
        (clock.unwrap_or(0), row["uuid"].as_str().unwrap_or_default().to_owned(), row.to_string())
    };
    rows.sort_by_cached_key(order);
    rows.dedup();
    rows
}
