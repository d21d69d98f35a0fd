//! Lineage as a graph for Graphviz.

use std::fmt::Write;

use super::{Id, Lineage};

/// Characters of a key that a label shows.
const SHORT: usize = 12;

/// The graph in DOT, from causes to results.
pub fn to_dot(lineage: &Lineage) -> String {
    let mut out = String::from("digraph lineage {\n  rankdir=LR;\n");
    for (id, node) in &lineage.nodes {
        let shape = match id {
            Id::Artifact(_) => "box",
            Id::Blinded(_) => "box, style=dashed",
            Id::Step(_) => "ellipse",
            Id::Machine(_) => "hexagon",
        };
        let key = id.key();
        // Ids differ at their ends: all CIDs of artifacts begin alike.
        let short = &key[key.len().saturating_sub(SHORT)..];
        let label = node.label.as_deref().unwrap_or(id.kind());
        let label = format!("{label}\n{short}");
        let _ = writeln!(
            out,
            "  {} [shape={shape}, label={}];",
            quoted(&id.to_string()),
            quoted(&label)
        );
    }
    for edge in &lineage.edges {
        let label = edge.relation.detail().unwrap_or(edge.relation.word());
        let (from, to) = (quoted(&edge.from.to_string()), quoted(&edge.to.to_string()));
        let _ = writeln!(out, "  {from} -> {to} [label={}];", quoted(label));
    }
    out.push_str("}\n");
    out
}

fn quoted(text: &str) -> String {
    let mut out = String::from("\"");
    for letter in text.chars() {
        match letter {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            '\n' => out.push_str("\\n"),
            letter if letter.is_control() => {}
            letter => out.push(letter),
        }
    }
    out.push('"');
    out
}
