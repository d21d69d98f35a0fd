//! What becomes public: statements for the published log, lineage whose ends are published artifacts or
//! commitments, and the records that stay internal. It looks at states and writes nothing.

mod receipts;

use std::collections::{BTreeMap, BTreeSet};

use quipu_core::blind::{Commitment, Opening};
use quipu_core::id::{ArtifactId, EventId, NodeKey};
use quipu_core::statement::{Claim, EdgeKey, EdgeRole, End, Statement};
use quipu_state::trace::{self, Direction, Walk};
use quipu_state::{Artifact, Edge, Origin, StateError, View};

pub use receipts::{BLINDED, Blinded, Read, as_they_are, receipt_of};

/// Openings in one record: its payload stays below 64 KiB.
const OPENINGS_MAX: usize = 400;

/// Artifacts of other domains, with what they say of them.
pub type Imports = BTreeMap<ArtifactId, (Claim, Origin)>;

/// The lineage of a publication.
#[derive(Debug, Default)]
pub struct Lineage {
    /// The edges as they are published.
    pub edges: Vec<(EdgeKey, EdgeRole)>,
    /// What their commitments stand for.
    pub openings: Vec<Opening>,
    /// Artifacts of other domains that they name.
    pub imports: BTreeSet<ArtifactId>,
    /// What stands for receipts that are not public.
    pub receipts: Blinded,
}

/// What may be named in public.
#[derive(Debug, Default)]
pub struct Public {
    /// Artifacts that are published, or are about to be.
    pub artifacts: BTreeSet<ArtifactId>,
    /// Artifacts of other domains.
    pub imports: BTreeSet<ArtifactId>,
    /// Those who may write to the published log.
    pub nodes: BTreeSet<NodeKey>,
}

impl Public {
    /// What a domain may name in public once the keys are published too. Artifacts that another publisher
    /// published are named only once this machine's published log tells of them: a snapshot of it must have
    /// all that it names (DOM-6).
    ///
    /// # Errors
    /// If the disk is at fault.
    pub fn of(
        view: &View<'_>,
        keys: &[ArtifactId],
        told: &BTreeSet<ArtifactId>,
        nodes: BTreeSet<NodeKey>,
    ) -> Result<Self, StateError> {
        let artifacts = keys.iter().copied().collect();
        let mut public = Self { artifacts, nodes, ..Self::default() };
        for artifact in view.artifacts()?.into_values() {
            if artifact.published.is_some() && told.contains(&artifact.key) {
                public.artifacts.insert(artifact.key);
            } else if artifact.origin().is_some() && artifact.counts().is_some() {
                public.imports.insert(artifact.key);
            }
        }
        Ok(public)
    }
}

impl Public {
    /// Whether an end is shown as it is.
    pub(crate) fn may_name(&self, end: &End) -> bool {
        match end {
            End::Artifact(key) => self.artifacts.contains(key) || self.imports.contains(key),
            End::Node(node) => self.nodes.contains(node),
            // A commitment is public as it is.
            End::Blinded(_) => true,
        }
    }
}

/// The edges that a published log shows with commitments, as they are internally.
#[derive(Debug, Default)]
pub struct Shown {
    /// With the ends that were hidden.
    edges: BTreeSet<(EdgeKey, EdgeRole, BTreeSet<End>)>,
}

impl Shown {
    /// Those whose commitments the openings open, with the receipts that blinded ones stand for.
    ///
    /// # Errors
    /// If the disk is at fault.
    pub fn of(
        published: &View<'_>,
        open: impl Fn(&Commitment) -> Option<End>,
        receipts: &BTreeMap<ArtifactId, ArtifactId>,
    ) -> Result<Self, StateError> {
        let (mut shown, mut damaged) = (Self::default(), None);
        published.visit(&mut |entry| match published.edge(entry) {
            Ok(Some(edge)) => shown.edges.extend(opened(&edge, &open, receipts)),
            Ok(None) => {}
            Err(error) => damaged = Some(error),
        })?;
        damaged.map_or(Ok(shown), Err)
    }

    /// Whether an edge is shown with the same ends hidden as would be hidden now. Once more of them are
    /// public, it is worth showing again.
    pub fn has(&self, edge: &Edge, public: &Public) -> bool {
        let ends = edge.key.from.iter().chain(&edge.key.to);
        let hidden = ends.filter(|end| !public.may_name(end)).copied().collect();
        self.edges.contains(&(edge.key.clone(), edge.role, hidden))
    }
}

/// A published edge with its commitments opened, and what they stand for; nothing if it has none, or one
/// that is not opened.
fn opened(
    edge: &Edge,
    open: impl Fn(&Commitment) -> Option<End>,
    receipts: &BTreeMap<ArtifactId, ArtifactId>,
) -> Option<(EdgeKey, EdgeRole, BTreeSet<End>)> {
    let mut hidden = BTreeSet::new();
    let mut show = |end: &End| match end {
        End::Blinded(commitment) => {
            let end = open(commitment)?;
            hidden.insert(end);
            Some(end)
        }
        End::Artifact(key) if receipts.contains_key(key) => {
            let end = End::Artifact(receipts[key]);
            hidden.insert(end);
            Some(end)
        }
        End::Artifact(_) | End::Node(_) => Some(*end),
    };
    let from = edge.key.from.iter().map(&mut show).collect::<Option<Vec<End>>>()?;
    let to = edge.key.to.iter().map(&mut show).collect::<Option<Vec<End>>>()?;
    let key = EdgeKey::new(from, to, &edge.key.kind)?;
    (!hidden.is_empty()).then_some((key, edge.role, hidden))
}

/// The artifacts that a published log tells of, other than by naming where they come from.
///
/// # Errors
/// If the disk is at fault.
pub fn told_in(published: &View<'_>) -> Result<BTreeSet<ArtifactId>, StateError> {
    let all = published.artifacts()?.into_values();
    Ok(all.filter(Artifact::is_put).map(|artifact| artifact.key).collect())
}

impl Lineage {
    /// Leaves out edges that the published log has already, and commitments that then stand nowhere. Edges
    /// with commitments are always new.
    ///
    /// # Errors
    /// If the disk is at fault.
    pub fn leave_out_known(&mut self, published: &View<'_>) -> Result<(), StateError> {
        let mut edges = Vec::with_capacity(self.edges.len());
        for (key, role) in std::mem::take(&mut self.edges) {
            let known = match key.to.first().or(key.from.first()) {
                Some(end) => published.edges_at(end)?,
                None => Vec::new(),
            };
            if !known.iter().any(|(edge, _)| edge.key == key && edge.role == role) {
                edges.push((key, role));
            }
        }
        self.edges = edges;
        Ok(())
    }
}

/// What the internal log says of artifacts of other domains.
///
/// # Errors
/// If the disk is at fault.
pub fn imports_of(view: &View<'_>, keys: &BTreeSet<ArtifactId>) -> Result<Imports, StateError> {
    let mut out = BTreeMap::new();
    for key in keys {
        let Some(artifact) = view.artifact(key)? else { continue };
        if let (Some(claim), Some(origin)) = (artifact.counts(), artifact.origin()) {
            out.insert(*key, (claim.clone(), origin));
        }
    }
    Ok(out)
}

/// Leaves out imports that the published log knows already.
///
/// # Errors
/// If the disk is at fault.
pub fn leave_out_known_imports(
    imports: &mut Imports,
    published: &View<'_>,
) -> Result<(), StateError> {
    for key in imports.keys().copied().collect::<Vec<_>>() {
        let known = published.artifact(&key)?.and_then(|artifact| artifact.origin());
        if known.is_some() && known == imports.get(&key).map(|(_, origin)| *origin) {
            imports.remove(&key);
        }
    }
    Ok(())
}

/// The receipts that blinded ones stand for, as the internal log has it.
///
/// # Errors
/// If the disk is at fault.
pub fn receipts_behind(view: &View<'_>) -> Result<BTreeMap<ArtifactId, ArtifactId>, StateError> {
    let (mut out, mut damaged) = (BTreeMap::new(), None);
    view.visit(&mut |entry| match view.edge(entry) {
        Ok(Some(edge)) if edge.key.kind == BLINDED => {
            if let ([End::Artifact(receipt)], [End::Artifact(blinded)]) =
                (&edge.key.from[..], &edge.key.to[..])
            {
                out.insert(*blinded, *receipt);
            }
        }
        Ok(_) => {}
        Err(error) => damaged = Some(error),
    })?;
    damaged.map_or(Ok(out), Err)
}

/// Leaves out edges that are shown as they would be now. A receipt is shown with all its edges or none: else
/// what stands for it would be another thing at each of them.
pub fn leave_out_shown(edges: &mut Vec<Edge>, shown: &Shown, public: &Public) {
    let is_new = |edge: &Edge| !shown.has(edge, public);
    let again: BTreeSet<ArtifactId> =
        edges.iter().filter(|edge| is_new(edge)).filter_map(|edge| receipt_of(&edge.key)).collect();
    let again = |edge: &Edge| {
        receipt_of(&edge.key).is_some_and(|receipt| {
            again.contains(&receipt) && !public.may_name(&End::Artifact(receipt))
        })
    };
    edges.retain(|edge| is_new(edge) || again(edge));
}

/// What the published log is told: artifacts, where imported ones come from, edges.
pub fn statements(puts: Vec<Claim>, imports: Imports, lineage: &Lineage) -> Vec<Statement> {
    let mut out: Vec<Statement> = puts.into_iter().map(Statement::Put).collect();
    out.extend(
        imports.into_values().map(|(claim, Origin { domain, snapshot })| Statement::Import {
            claim,
            domain,
            snapshot,
        }),
    );
    let edges = lineage.edges.iter().cloned();
    out.extend(edges.map(|(key, role)| Statement::Edge(key, role)));
    out
}

/// What the internal log remembers of a publication.
pub fn records(keys: &[ArtifactId], lineage: &Lineage, snapshot: EventId) -> Vec<Statement> {
    let mut out: Vec<Statement> =
        keys.iter().map(|key| Statement::Publish { key: *key, snapshot }).collect();
    for (openings, part) in lineage.openings.chunks(OPENINGS_MAX).zip(0..) {
        out.push(Statement::Publication { snapshot, part, openings: openings.to_vec() });
    }
    out
}

/// All edges that lead to the keys, however far back.
///
/// # Errors
/// If the disk is at fault.
pub fn edges_above(view: &View<'_>, keys: &[ArtifactId]) -> Result<Vec<Edge>, StateError> {
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
pub fn blind(
    edges: &[Edge],
    public: &Public,
    read: &mut Read<'_>,
    random: &mut dyn FnMut() -> [u8; 32],
) -> Lineage {
    let mut lineage = Lineage::default();
    let mut openings: BTreeMap<End, Opening> = BTreeMap::new();
    let mut shown: BTreeSet<EdgeKey> = BTreeSet::new();
    let mut imports = BTreeSet::new();
    let mut show = |end: &End| {
        if !public.may_name(end) {
            let opening = Opening { nonce: random(), end: *end };
            return End::Blinded(openings.entry(*end).or_insert(opening).commitment());
        }
        if let End::Artifact(key) = end
            && !public.artifacts.contains(key)
        {
            imports.insert(*key);
        }
        *end
    };
    lineage.receipts = receipts::blinded(edges, public, read, &mut show);
    let stand_ins: BTreeMap<ArtifactId, ArtifactId> = lineage
        .receipts
        .iter()
        .map(|(receipt, blinded)| (*receipt, ArtifactId::of(&blinded.encode())))
        .collect();
    for edge in edges {
        let mut show = |end: &End| match end {
            End::Artifact(key) if stand_ins.contains_key(key) => End::Artifact(stand_ins[key]),
            end => show(end),
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
    lineage.imports = imports;
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
        let lineage = blind(&edges, &public, &mut |_| None, &mut random);
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
        let again = blind(&edges, &public, &mut |_| None, &mut random);
        assert!(again.edges[0].0.from.iter().all(|end| !first.from.contains(end)));
    }
}
