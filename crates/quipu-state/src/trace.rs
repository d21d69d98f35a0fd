//! Walks the trace graph, breadth first (ART-3, the operator TGKTraversal).

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use quipu_core::id::EventId;
use quipu_core::statement::{EdgeRole, End};

use crate::error::StateError;
use crate::refs::Side;
use crate::view::{Edge, View};

/// Which way edges are followed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Direction {
    /// To what a thing came from.
    Up,
    /// To what came from a thing.
    Down,
    /// Both.
    #[default]
    Both,
}

/// What to walk.
#[derive(Debug, Clone, Default)]
pub struct Walk {
    /// Which way.
    pub direction: Direction,
    /// At most so many edges away.
    pub depth: u32,
    /// Only edges of these types; all if none is named.
    pub types: Vec<String>,
    /// Only edges with this role.
    pub role: Option<EdgeRole>,
}

/// What was found.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Trace {
    /// Everything that was reached, with its distance. The start is at 0.
    pub nodes: BTreeMap<End, u32>,
    /// The edges on the way, in replay order.
    pub edges: Vec<Edge>,
}

/// What is on the other side is not even read.
fn side_of(direction: Direction) -> Option<Side> {
    match direction {
        Direction::Down => Some(Side::From),
        Direction::Up => Some(Side::To),
        Direction::Both => None,
    }
}

/// Walks from an end.
///
/// # Errors
/// If the state's pages are damaged.
pub fn walk(view: &View<'_>, start: End, walk: &Walk) -> Result<Trace, StateError> {
    let only = side_of(walk.direction);
    walk_over(&mut |end| view.edges_on(end, only), start, walk)
}

/// Walks from an end over the edges of several logs. Answers also in which of them each edge stands.
///
/// # Errors
/// If a state's pages are damaged.
pub fn walk_all(
    views: &[View<'_>],
    start: End,
    walk: &Walk,
) -> Result<(Trace, BTreeMap<EventId, usize>), StateError> {
    let only = side_of(walk.direction);
    let mut places = BTreeMap::new();
    let trace = walk_over(
        &mut |end| {
            let mut found = Vec::new();
            for (place, view) in views.iter().enumerate() {
                let edges = view.edges_on(end, only)?;
                places.extend(edges.iter().map(|(edge, _)| (edge.id, place)));
                found.extend(edges);
            }
            Ok(found)
        },
        start,
        walk,
    )?;
    Ok((trace, places))
}

/// Answers with the edges at an end, and on which side it stands.
pub(crate) type EdgesAt<'a> = dyn FnMut(&End) -> Result<Vec<(Edge, Side)>, StateError> + 'a;

/// Walks from an end over edges from anywhere.
pub(crate) fn walk_over(
    edges_at: &mut EdgesAt<'_>,
    start: End,
    walk: &Walk,
) -> Result<Trace, StateError> {
    let mut trace = Trace::default();
    let mut seen: BTreeSet<EventId> = BTreeSet::new();
    trace.nodes.insert(start, 0);
    let mut queue = VecDeque::from([(start, 0)]);
    while let Some((end, distance)) = queue.pop_front() {
        if distance >= walk.depth {
            continue;
        }
        for (edge, side) in edges_at(&end)? {
            let wanted = (walk.types.is_empty() || walk.types.contains(&edge.key.kind))
                && walk.role.is_none_or(|role| role == edge.role);
            let next = match (side, walk.direction) {
                (Side::From, Direction::Down | Direction::Both) => &edge.key.to,
                (Side::To, Direction::Up | Direction::Both) => &edge.key.from,
                _ => continue,
            };
            if !wanted {
                continue;
            }
            for other in next {
                trace.nodes.entry(*other).or_insert_with(|| {
                    queue.push_back((*other, distance + 1));
                    distance + 1
                });
            }
            if seen.insert(edge.id) {
                trace.edges.push(edge);
            }
        }
    }
    trace.edges.sort_unstable_by_key(|edge| (edge.logseq, edge.id));
    Ok(trace)
}
