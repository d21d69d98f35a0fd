//! Lineage as it is published: edges whose ends are published artifacts, or commitments.

use std::collections::{BTreeMap, BTreeSet};

use quipu_core::blind::Opening;
use quipu_core::id::{ArtifactId, NodeKey};
use quipu_core::statement::{EdgeKey, EdgeRole, End};
use quipu_state::trace::{self, Direction, Walk};
use quipu_state::{Edge, StateError, View};

/// The lineage of a publication.
#[derive(Debug, Default)]
pub(super) struct Lineage {
    /// The edges as they are published.
    pub(super) edges: Vec<(EdgeKey, EdgeRole)>,
    /// What their commitments stand for.
    pub(super) openings: Vec<Opening>,
    /// Artifacts of other domains that they name.
    pub(super) imports: BTreeSet<ArtifactId>,
}

/// What may be named in public.
#[derive(Debug, Default)]
pub(super) struct Public {
    pub(super) artifacts: BTreeSet<ArtifactId>,
    pub(super) imports: BTreeSet<ArtifactId>,
    pub(super) nodes: BTreeSet<NodeKey>,
}

/// All edges that lead to the keys, however far back.
pub(super) fn edges_above(view: &View<'_>, keys: &[ArtifactId]) -> Result<Vec<Edge>, StateError> {
    let walk = Walk { direction: Direction::Up, depth: u32::MAX, ..Walk::default() };
    let mut edges = BTreeMap::new();
    for key in keys {
        let found = trace::walk(view, End::Artifact(*key), &walk)?;
        edges.extend(found.edges.into_iter().map(|edge| ((edge.logseq, edge.id), edge)));
    }
    Ok(edges.into_values().collect())
}

/// Puts commitments in the place of what may not be named. An end has one commitment in a publication, so
/// that the shape of the lineage stays, and another one in the next. Edges that come out equal are one.
pub(super) fn blind(
    edges: &[Edge],
    public: &Public,
    random: &mut dyn FnMut() -> [u8; 32],
) -> Lineage {
    let mut lineage = Lineage::default();
    let mut openings: BTreeMap<End, Opening> = BTreeMap::new();
    let mut shown: BTreeSet<EdgeKey> = BTreeSet::new();
    for edge in edges {
        let mut show = |end: &End| match end {
            End::Artifact(key) if public.artifacts.contains(key) => *end,
            End::Artifact(key) if public.imports.contains(key) => {
                lineage.imports.insert(*key);
                *end
            }
            End::Node(node) if public.nodes.contains(node) => *end,
            // A commitment is public as it is.
            End::Blinded(_) => *end,
            End::Artifact(_) | End::Node(_) => {
                let opening = Opening { nonce: random(), end: *end };
                End::Blinded(openings.entry(*end).or_insert(opening).commitment())
            }
        };
        let from = edge.key.from.iter().map(&mut show).collect();
        let to = edge.key.to.iter().map(&mut show).collect();
        if let Some(key) = EdgeKey::new(from, to, &edge.key.kind)
            && shown.insert(key.clone())
        {
            lineage.edges.push((key, edge.role));
        }
    }
    lineage.openings = openings.into_values().collect();
    lineage
}

#[cfg(test)]
mod tests {
    use quipu_core::event::LogSeq;
    use quipu_core::id::EventId;

    use super::*;

    fn artifact(n: u8) -> End {
        End::Artifact(ArtifactId([n; 32]))
    }

    fn edge(from: &[End], to: &[End], n: u8) -> Edge {
        let key = EdgeKey::new(from.to_vec(), to.to_vec(), "derived").unwrap();
        Edge { key, role: EdgeRole::Both, id: EventId([n; 32]), logseq: LogSeq(n.into()) }
    }

    #[test]
    fn what_is_internal_is_a_commitment() {
        let node = End::Node(NodeKey([9; 32]));
        let edges = [
            edge(&[artifact(1), node], &[artifact(2)], 1),
            edge(&[artifact(2)], &[artifact(3)], 2),
        ];
        let public =
            Public { artifacts: BTreeSet::from([ArtifactId([3; 32])]), ..Public::default() };
        let mut n = 0;
        let mut random = || {
            n += 1;
            [n; 32]
        };
        let lineage = blind(&edges, &public, &mut random);
        assert_eq!(lineage.edges.len(), 2);
        assert_eq!(lineage.openings.len(), 3);
        let (first, second) = (&lineage.edges[0].0, &lineage.edges[1].0);
        assert!(first.from.iter().all(|end| matches!(end, End::Blinded(_))));
        assert_eq!(first.to, second.from, "the shape stays");
        assert_eq!(second.to, [artifact(3)]);
        for opening in &lineage.openings {
            let blinded = End::Blinded(opening.commitment());
            assert!(first.from.contains(&blinded) || first.to.contains(&blinded));
        }
        let again = blind(&edges, &public, &mut random);
        assert!(again.edges[0].0.from.iter().all(|end| !first.from.contains(end)));
    }
}
