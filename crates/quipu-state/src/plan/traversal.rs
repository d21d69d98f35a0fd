//! The operator TGKTraversal: the trace graph from one end on, over the rows of a state.
//!
//! The walk is that of [`trace`](crate::trace); here the edges come from a plan, and not from the
//! state that is kept.

use quipu_core::id::IdMap;
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
    let edges = EdgesAt::of(rows);
    walk_over(&mut |end| Ok(edges.list(end)), start, walk)
}

/// The edges at each end, as chains through one list: millions of ends need no lists of their own.
struct EdgesAt<'a> {
    /// Place of the last link of an end's chain.
    last: IdMap<End, u32>,
    links: Vec<Link<'a>>,
}

struct Link<'a> {
    edge: &'a Edge,
    side: Side,
    /// Place of the link before, in the same chain.
    before: Option<u32>,
}

impl<'a> EdgesAt<'a> {
    fn of(rows: &'a [Row]) -> Self {
        let mut at = Self { last: IdMap::default(), links: Vec::new() };
        for row in rows {
            let What::Edge(edge) = &row.what else { continue };
            for (side, ends) in [(Side::From, &edge.key.from), (Side::To, &edge.key.to)] {
                ends.iter().for_each(|end| at.put(*end, edge, side));
            }
        }
        at
    }

    fn put(&mut self, end: End, edge: &'a Edge, side: Side) {
        let before = self.last.insert(end, self.links.len() as u32);
        self.links.push(Link { edge, side, before });
    }

    fn list(&self, end: &End) -> Vec<(Edge, Side)> {
        let link = |place: u32| self.links.get(place as usize);
        let first = self.last.get(end).and_then(|place| link(*place));
        let chain = std::iter::successors(first, |at| link(at.before?));
        chain.map(|link| (link.edge.clone(), link.side)).collect()
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use quipu_core::event::LogSeq;
    use quipu_core::id::{EventId, NodeKey, Subject};
    use quipu_core::statement::{EdgeKey, EdgeRole};

    use super::*;
    use crate::trace::Direction;

    fn node(n: u8) -> End {
        End::Node(NodeKey([n; 32]))
    }

    fn row(number: u8, from: u8, to: &[u8]) -> Row {
        let to = to.iter().map(|n| node(*n)).collect();
        let key = EdgeKey::new(vec![node(from)], to, "t").unwrap();
        let (logseq, id) = (LogSeq(u64::from(number)), EventId([number; 32]));
        let edge = Edge { key, role: EdgeRole::Both, id, logseq };
        let subject = Subject([number; 32]);
        let what = What::Edge(Box::new(edge));
        Row { logseq, id, ordinal: 0, subject, kind: "edge.add", what }
    }

    #[test]
    fn distances_are_the_shortest_and_edges_in_order() {
        let value = Row { what: What::Value, kind: "field.set", ..row(9, 1, &[5]) };
        let rows = [row(1, 3, &[4]), row(2, 1, &[2, 3]), row(3, 2, &[4, 1]), value];
        let walk = |direction, depth| Walk { direction, depth, ..Walk::default() };
        let found = traverse(&rows, node(1), &walk(Direction::Down, 9)).unwrap();
        let nodes = [(node(1), 0), (node(2), 1), (node(3), 1), (node(4), 2)];
        assert_eq!(found.nodes, BTreeMap::from(nodes));
        let ids = |trace: &Trace| trace.edges.iter().map(|edge| edge.id.0[0]).collect::<Vec<_>>();
        assert_eq!(ids(&found), [1, 2, 3]);
        let found = traverse(&rows, node(4), &walk(Direction::Up, 1)).unwrap();
        assert_eq!(found.nodes, BTreeMap::from([(node(4), 0), (node(3), 1), (node(2), 1)]));
        assert_eq!(ids(&found), [1, 3]);
        let found = traverse(&rows, node(4), &walk(Direction::Down, 9)).unwrap();
        assert!(found.edges.is_empty());
    }
}
