//! The operator TGKTraversal: the trace graph from one end on, over the rows of a state.
//!
//! The walk is that of [`trace`](crate::trace); here the edges come from a plan, and not from the
//! state that is kept.

use std::collections::BTreeMap;

use quipu_core::statement::End;

use super::shadow::{Row, What};
use crate::error::StateError;
use crate::refs::Side;
use crate::trace::{Trace, Walk, walk_over};
use crate::view::Edge;

/// Walks over the edges among rows.
///
/// # Errors
/// None, as the rows are in memory.
pub fn traverse(rows: &[Row], start: End, walk: &Walk) -> Result<Trace, StateError> {
    let mut at: BTreeMap<End, Vec<(&Edge, Side)>> = BTreeMap::new();
    for row in rows {
        let What::Edge(edge) = &row.what else { continue };
        for (side, ends) in [(Side::From, &edge.key.from), (Side::To, &edge.key.to)] {
            ends.iter().for_each(|end| at.entry(*end).or_default().push((edge, side)));
        }
    }
    let copy = |(edge, side): &(&Edge, Side)| (Edge::clone(edge), *side);
    let mut edges_at = |end: &End| {
        Ok(at.get(end).map(|edges| edges.iter().map(copy).collect()).unwrap_or_default())
    };
    walk_over(&mut edges_at, start, walk)
}
