//! The trace graph, for people and for other programs.

use quipu_node::api::{ApiError, ExitCode, Request, TraceQuery};
use serde_json::Value;

use crate::cli::{Global, TraceFormat};
use crate::client::Client;
use crate::output::{self, plain};

/// Characters of a key in a picture.
const LABEL_CHARS: usize = 8;

pub(crate) fn trace(
    global: &Global,
    query: TraceQuery,
    format: TraceFormat,
) -> Result<ExitCode, ApiError> {
    let mut client = Client::about(global)?;
    let trace = client.one(Request::Trace(query))?;
    match format {
        _ if global.json => output::json(&trace)?,
        TraceFormat::Json => output::json(&trace)?,
        TraceFormat::Table => table(&trace)?,
        TraceFormat::Dot => output::line(&dot(&trace))?,
        TraceFormat::Mermaid => output::line(&mermaid(&trace))?,
    }
    Ok(ExitCode::Done)
}

fn table(trace: &Value) -> std::io::Result<()> {
    let mut nodes = output::table(&["depth", "id", "type", "size"]);
    for node in items(&trace["nodes"]) {
        let what = match (&node["type_tag"], node["hidden"] == true) {
            (_, true) => "(hidden)".to_owned(),
            (Value::Null, _) => plain(&node["what"]),
            (tag, _) => plain(tag),
        };
        let size = node["size"].as_u64().map_or_else(String::new, |size| size.to_string());
        nodes.add_row([plain(&node["depth"]), plain(&node["id"]), what, size]);
    }
    output::line(&nodes.to_string())?;
    let mut edges = output::table(&["from", "type", "to", "role"]);
    for edge in items(&trace["edges"]) {
        let ends = |side: &str| super::data::ends(&edge[side]);
        edges.add_row([ends("from"), plain(&edge["type"]), ends("to"), plain(&edge["role"])]);
    }
    output::line("")?;
    output::line(&edges.to_string())
}

fn items(list: &Value) -> impl Iterator<Item = &Value> {
    list.as_array().into_iter().flatten()
}

/// The end of a key: its beginning is the same for all.
fn label(id: &str) -> &str {
    id.get(id.len().saturating_sub(LABEL_CHARS)..).unwrap_or(id)
}

/// Text within quotes of either language.
fn quoted(text: &str) -> String {
    text.chars().map(|c| if c == '"' || c == '\\' || c.is_control() { '_' } else { c }).collect()
}

/// Nodes by number: ids are too long for pictures, and edges with several ends get a point.
fn numbers(trace: &Value) -> std::collections::BTreeMap<String, usize> {
    let nodes = items(&trace["nodes"]).map(|node| plain(&node["id"]));
    let ends = items(&trace["edges"])
        .flat_map(|edge| items(&edge["from"]).chain(items(&edge["to"])))
        .map(plain);
    let mut numbers = std::collections::BTreeMap::new();
    for id in nodes.chain(ends) {
        let next = numbers.len();
        numbers.entry(id).or_insert(next);
    }
    numbers
}

fn pairs(edge: &Value) -> Vec<(String, String)> {
    let to: Vec<String> = items(&edge["to"]).map(plain).collect();
    items(&edge["from"])
        .flat_map(|from| to.iter().map(|to| (plain(from), to.clone())).collect::<Vec<_>>())
        .collect()
}

fn dot(trace: &Value) -> String {
    let numbers = numbers(trace);
    let mut text = String::from("digraph trace {\n  rankdir=LR;\n  node [shape=box];\n");
    for (id, number) in &numbers {
        text.push_str(&format!("  n{number} [label=\"{}\", tooltip=\"{id}\"];\n", label(id)));
    }
    for edge in items(&trace["edges"]) {
        let kind = quoted(&plain(&edge["type"]));
        for (from, to) in pairs(edge) {
            let (from, to) = (numbers[&from], numbers[&to]);
            text.push_str(&format!("  n{from} -> n{to} [label=\"{kind}\"];\n"));
        }
    }
    text.push('}');
    text
}

fn mermaid(trace: &Value) -> String {
    let numbers = numbers(trace);
    let mut text = String::from("flowchart LR");
    for (id, number) in &numbers {
        text.push_str(&format!("\n  n{number}[\"{}\"]", label(id)));
    }
    for edge in items(&trace["edges"]) {
        let kind = quoted(&plain(&edge["type"]));
        for (from, to) in pairs(edge) {
            let (from, to) = (numbers[&from], numbers[&to]);
            text.push_str(&format!("\n  n{from} -->|\"{kind}\"| n{to}"));
        }
    }
    text
}
