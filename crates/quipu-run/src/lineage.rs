//! Where something came from: the trace graph, with receipts opened up into their steps (PEL-8).

use std::collections::{BTreeMap, BTreeSet};

use quipu_core::blind::receipt::{BlindedReceipt, Shown};
use quipu_core::id::{ArtifactId, DomainId, NodeKey, SnapshotId};
use quipu_core::statement::End;
use quipu_exec::attest::{Id, Lineage, Relation};
use quipu_exec::limits::RECEIPT_BYTES_MAX;
use quipu_exec::program::Program;
use quipu_exec::receipt::Receipt;
use quipu_exec::run::load;
use quipu_node::api::{ApiError, ExitCode, GENERATED, Request, TraceQuery, USED};
use serde_json::Value;

use crate::ask::Ask;
use crate::workplace::{Workplace, key_in};

fn id_of(end: &End) -> Id {
    match end {
        End::Artifact(key) => Id::Artifact(*key),
        End::Node(node) => Id::Machine(*node),
        End::Blinded(commitment) => Id::Blinded(commitment.0),
    }
}

fn end_in(value: &Value) -> Result<End, ApiError> {
    let end = value.as_str().and_then(|text| text.parse().ok());
    end.ok_or_else(|| ApiError::new(ExitCode::Bug, format!("no end of an edge: {value}")))
}

/// An edge of a trace.
struct Traced {
    kind: String,
    from: Vec<End>,
    to: Vec<End>,
}

impl Traced {
    fn of(row: &Value) -> Result<Self, ApiError> {
        let ends = |side: &str| {
            row[side].as_array().into_iter().flatten().map(end_in).collect::<Result<Vec<_>, _>>()
        };
        let kind = row["type"].as_str().unwrap_or_default().to_owned();
        Ok(Self { kind, from: ends("from")?, to: ends("to")? })
    }

    /// The receipt, if this is an edge between one and what its run used or made.
    fn receipt(&self) -> Option<ArtifactId> {
        let ends = match &*self.kind {
            USED => &self.to,
            GENERATED => &self.from,
            _ => return None,
        };
        match ends[..] {
            [End::Artifact(receipt)] => Some(receipt),
            _ => None,
        }
    }
}

impl<A: Ask + 'static> Workplace<A> {
    /// Everything that led to an artifact, or, the other way, everything that it led to: also in the domains
    /// that are followed. Answers its key, too.
    ///
    /// # Errors
    /// If nothing is known of it.
    pub fn lineage(&self, text: &str, back: bool) -> Result<(ArtifactId, Lineage), ApiError> {
        let direction = Some(if back { "up" } else { "down" }.to_owned());
        let query = TraceQuery { key: text.to_owned(), direction, ..TraceQuery::default() };
        let trace = self.machine().one(Request::Trace(query))?;
        let start = key_in(&trace["start"])?;
        let rows = trace["edges"].as_array().into_iter().flatten();
        let edges = rows.map(Traced::of).collect::<Result<Vec<_>, _>>()?;
        let mut lineage = Lineage::default();
        let opened = self.open_receipts(&trace, &edges, &mut lineage)?;
        for edge in &edges {
            if edge.receipt().is_some_and(|receipt| opened.contains(&receipt)) {
                continue;
            }
            for from in &edge.from {
                for to in &edge.to {
                    let relation = Relation::Derived(edge.kind.clone());
                    lineage.edge(id_of(from), id_of(to), relation);
                }
            }
        }
        describe(&trace, &mut lineage)?;
        lineage.node(Id::Artifact(start));
        Ok((start, lineage.reach(Id::Artifact(start), back)))
    }

    /// Adds the steps of the runs whose receipts and programs are here. Answers which those are.
    fn open_receipts(
        &self,
        trace: &Value,
        edges: &[Traced],
        lineage: &mut Lineage,
    ) -> Result<BTreeSet<ArtifactId>, ApiError> {
        let wanted: BTreeSet<ArtifactId> = edges.iter().filter_map(Traced::receipt).collect();
        let mut makers: BTreeMap<ArtifactId, NodeKey> = BTreeMap::new();
        for row in self.machine().all(Request::Receipts { at: None })? {
            let node = row["node"].as_str().and_then(|text| text.parse().ok());
            if let (Ok(key), Some(node)) = (key_in(&row["receipt"]), node) {
                makers.entry(key).or_insert(node);
            }
        }
        let mut opened = BTreeSet::new();
        for key in wanted {
            let domain = domain_of(trace, &key);
            if !self.can_read(&key, domain)? {
                continue;
            }
            // Anything can stand at such an edge.
            let Ok(bytes) = self.bytes(&key, RECEIPT_BYTES_MAX) else { continue };
            if let Some(receipt) = BlindedReceipt::decode(&bytes) {
                let program = match receipt.program {
                    Shown::Artifact(program, _) => self.program_if_here(&program, domain)?,
                    Shown::Blinded(_) => None,
                };
                lineage.add_blinded_run(key, &receipt, program.as_ref());
                opened.insert(key);
                continue;
            }
            let Ok(receipt) = Receipt::decode(&bytes) else { continue };
            let Some(program) = self.program_if_here(&receipt.program, domain)? else { continue };
            if receipt.check_against(&program).is_ok() {
                lineage.add_run(&program, &receipt, makers.get(&key).copied());
                opened.insert(key);
            }
        }
        Ok(opened)
    }

    fn program_if_here(
        &self,
        key: &ArtifactId,
        domain: Option<&str>,
    ) -> Result<Option<Program>, ApiError> {
        if !self.can_read(key, domain)? {
            return Ok(None);
        }
        Ok(load(*key, self.artifacts().as_ref()).ok())
    }

    /// Whether bytes are here, or came now from a domain that published them.
    fn can_read(&self, key: &ArtifactId, domain: Option<&str>) -> Result<bool, ApiError> {
        if !self.has(key)?
            && let Some(domain) = domain
        {
            let request = Box::new(Request::Fetch { key: key.to_string() });
            let fetched = self.machine().all(Request::In { domain: domain.to_owned(), request });
            if let Err(error) = fetched {
                tracing::debug!(%key, %error, "not to be had, so it is not opened up");
            }
        }
        self.has(key)
    }
}

/// The domain that a node of a trace is of.
fn domain_of<'t>(trace: &'t Value, key: &ArtifactId) -> Option<&'t str> {
    let text = key.to_string();
    let mut nodes = trace["nodes"].as_array().into_iter().flatten();
    nodes.find(|row| row["id"] == text.as_str())?["domain"].as_str()
}

/// Adds what the trace says of its nodes.
fn describe(trace: &Value, lineage: &mut Lineage) -> Result<(), ApiError> {
    for row in trace["nodes"].as_array().into_iter().flatten() {
        let id = id_of(&end_in(&row["id"])?);
        if !lineage.nodes.contains_key(&id) {
            continue;
        }
        let domain: Option<DomainId> = row["domain"].as_str().and_then(|text| text.parse().ok());
        let local = row["origin_snapshot"].as_str().and_then(|text| text.parse().ok());
        let node = lineage.node(id);
        node.size = row["size"].as_u64().or(node.size);
        let type_tag = row["type_tag"].as_str().map(str::to_owned);
        node.type_tag = type_tag.or(node.type_tag.take());
        node.domain = domain;
        let federated = domain.zip(local).map(|(domain, local)| SnapshotId { domain, local });
        node.snapshot = federated.map(|snapshot| snapshot.to_string());
    }
    Ok(())
}
