//! Artifacts as the log tells of them, edges, tombstones, conflicts, pins.

use std::collections::BTreeMap;

use quipu_core::event::Log;
use quipu_core::execution::Execution;
use quipu_core::id::{ArtifactId, DomainId, EventId, NodeKey};
use quipu_core::kind;
use quipu_core::node::{Command, Emitted, Reply};
use quipu_core::statement::{Claim, EdgeKey, EdgeRole, End, Statement};
use quipu_state::trace::{self, Direction, Walk};
use quipu_state::{Artifact, Conflict, Edge, View, kind_of};
use serde_json::{Value, json};

use super::at::{state, with_view};
use super::read::{find_node, known_nodes};
use super::{Api, ApiError, ExitCode, Sink, TraceQuery};
use crate::service::Machine;

/// The fewest characters of a key that may stand for it.
const PREFIX_CHARS_MIN: usize = 8;

fn texts(ends: &[End]) -> Vec<String> {
    ends.iter().map(End::to_string).collect()
}

fn claim_json(claim: &Claim) -> Value {
    json!({ "key": claim.key.to_string(), "size": claim.size, "type_tag": claim.type_tag })
}

pub(super) fn edge_json(edge: &Edge) -> Value {
    json!({
        "uuid": edge.id.to_string(),
        "from": texts(&edge.key.from),
        "to": texts(&edge.key.to),
        "type": edge.key.kind,
        "role": edge.role.name(),
        "logseq": edge.logseq.to_string(),
    })
}

/// What a statement says, for people who compare states.
pub(super) fn statement_json(statement: &Statement) -> Value {
    let edge = |edge: &EdgeKey| json!({ "from": texts(&edge.from), "to": texts(&edge.to), "type": edge.kind });
    match statement {
        Statement::Put(claim) | Statement::Resolve { keep: claim, .. } => claim_json(claim),
        Statement::TombstoneArtifact(key) => json!({ "key": key.to_string(), "hidden": true }),
        Statement::Pin { key, held } => json!({ "key": key.to_string(), "pinned": held }),
        Statement::Edge(key, role) => {
            let mut value = edge(key);
            value["role"] = role.name().into();
            value
        }
        Statement::TombstoneEdge(key) => {
            let mut value = edge(key);
            value["hidden"] = true.into();
            value
        }
        Statement::Snapshot { name, .. } => json!({ "name": name }),
        Statement::DropSnapshot(id) => json!({ "snapshot": id.to_string() }),
        Statement::Import { claim, domain, snapshot } => {
            let mut value = claim_json(claim);
            value["origin_domain"] = domain.to_string().into();
            value["origin_snapshot"] = snapshot.to_string().into();
            value
        }
        Statement::Publish { key, snapshot } => {
            json!({ "key": key.to_string(), "published": snapshot.to_string() })
        }
        Statement::Publication { snapshot, openings, .. } => {
            json!({ "published": snapshot.to_string(), "commitments": openings.len() })
        }
        Statement::Follow(domain) => json!({ "domain": domain.to_string() }),
        Statement::Execution(execution) => execution_json(execution),
    }
}

fn execution_json(execution: &Execution) -> Value {
    match execution {
        Execution::Announce(one) => json!({
            "receipt": one.receipt.to_string(),
            "run": one.run.to_string(),
            "node": one.node.to_string(),
            "snapshot": one.snapshot.map(|snapshot| snapshot.to_string()),
            "scope": one.scope.as_str().unwrap_or("run"),
        }),
        Execution::Request(one) => {
            let inputs: serde_json::Map<String, Value> = one
                .inputs
                .iter()
                .map(|(name, key)| (name.clone(), key.to_string().into()))
                .collect();
            json!({
                "run": one.run.to_string(),
                "program": one.program.to_string(),
                "inputs": inputs,
                "node": one.node.to_string(),
            })
        }
        Execution::Claim { step, node, failed } => {
            json!({ "step": step.to_string(), "node": node.to_string(), "failed": failed })
        }
        Execution::Offer(one) => json!({
            "node": one.node.to_string(),
            "memory": one.memory,
            "labels": one.labels,
        }),
    }
}

/// An artifact as the state tells of it: without anything that is only so on this machine.
/// In a published log, what was put there is published.
pub(super) fn artifact_json(log: Log, artifact: &Artifact) -> Value {
    let counts = artifact.counts();
    let (logseq, uuid) = artifact.since().unzip();
    let (origin, published) = (artifact.origin(), artifact.published);
    let put = log == Log::Published && artifact.is_put();
    let state = match (published, origin) {
        _ if put => "published",
        (Some(_), _) => "published",
        (None, Some(_)) => "imported",
        (None, None) => "internal",
    };
    json!({
        "key": artifact.key.to_string(),
        "size": counts.map(|claim| claim.size),
        "type_tag": counts.and_then(|claim| claim.type_tag.clone()),
        "state": state,
        "published_snapshot": published.map(|snapshot| snapshot.to_string()),
        "origin_domain": origin.map(|origin| origin.domain.to_string()),
        "origin_snapshot": origin.map(|origin| origin.snapshot.to_string()),
        "pinned": artifact.pinned,
        "conflict": artifact.is_undecided(),
        "logseq": logseq.map(|logseq| logseq.to_string()),
        "uuid": uuid.map(|id: EventId| id.to_string()),
    })
}

fn conflict_json(conflict: &Conflict) -> Value {
    let sizes: std::collections::BTreeSet<u64> =
        conflict.candidates.iter().map(|one| one.claim.size).collect();
    let candidates: Vec<Value> = conflict
        .candidates
        .iter()
        .map(|one| {
            json!({
                "uuid": one.id.to_string(),
                "type_tag": one.claim.type_tag,
                "size": one.claim.size,
                "logseq": one.logseq.to_string(),
            })
        })
        .collect();
    json!({
        "id": conflict.key.to_string(),
        "what": if sizes.len() > 1 { "size" } else { "type_tag" },
        "candidates": candidates,
        "resolution": {
            "by": conflict.resolved_by.map_or_else(|| "rule".to_owned(), |id| id.to_string()),
            "type_tag": conflict.counts.type_tag,
            "size": conflict.counts.size,
        },
        "open": conflict.resolved_by.is_none(),
    })
}

/// The artifact with that key, or the only one that the log tells of whose key begins like that.
pub(super) fn find_artifact(machine: &mut Machine, text: &str) -> Result<ArtifactId, ApiError> {
    let missing = || {
        ApiError::not_found(format!("no artifact {text} in this domain")).hint("quipu artifacts")
    };
    if let Ok(key) = text.parse::<ArtifactId>() {
        return Ok(key);
    }
    if text.len() < PREFIX_CHARS_MIN || !text.starts_with('b') {
        return Err(ApiError::misuse(format!(
            "{text:?} is no artifact key, nor the first {PREFIX_CHARS_MIN} characters or more of one"
        )));
    }
    let all = state(machine)?.current().artifacts()?;
    let mut found = all.keys().filter(|key| key.to_string().starts_with(text));
    match (found.next(), found.next()) {
        (None, _) => Err(missing()),
        (Some(key), None) => Ok(*key),
        _ => Err(ApiError::misuse(format!("{text} is the start of several keys"))
            .hint("give more characters")),
    }
}

/// An end of an edge: an artifact, or a node.
fn find_end(machine: &mut Machine, text: &str) -> Result<End, ApiError> {
    if let Ok(end) = text.parse::<End>() {
        return Ok(end);
    }
    if text.starts_with('b') && find_node(machine, text).is_err() {
        return find_artifact(machine, text).map(End::Artifact);
    }
    find_node(machine, text).map(End::Node)
}

/// Whether a view has anything about an end, or it is a node that this machine has heard of.
fn is_known(view: &View<'_>, end: &End, nodes: &[NodeKey]) -> Result<bool, ApiError> {
    let known = match end {
        End::Artifact(key) => view.artifact(key)?.is_some(),
        End::Node(key) => nodes.binary_search(key).is_ok(),
        End::Blinded(_) => false,
    };
    Ok(known || !view.edges_at(end)?.is_empty())
}

impl Api {
    /// Appends one statement.
    pub(super) fn say(&self, statement: Statement) -> Result<Emitted, ApiError> {
        match self.handle.command(Command::Say(vec![statement]))? {
            Reply::Emitted(events) => {
                let bug = || ApiError::new(ExitCode::Bug, "a statement gave no event");
                events.into_iter().next().ok_or_else(bug)
            }
            other => Err(ApiError::new(ExitCode::Bug, format!("unexpected reply {other:?}"))),
        }
    }

    pub(super) fn artifacts(
        &self,
        at: Option<String>,
        hidden: bool,
        sink: Sink<'_>,
    ) -> Result<(), ApiError> {
        let rows = self.read(move |machine| {
            let all = with_view(machine, at.as_deref(), |view| Ok(view.artifacts()?))?;
            let mut shown: Vec<Artifact> =
                all.into_values().filter(|one| one.is_visible() || hidden).collect();
            shown.sort_by_key(|one| (one.since().or(one.tombstone), one.key));
            let mut rows = Vec::with_capacity(shown.len());
            for artifact in shown {
                let mut row = artifact_json(machine.driver.log(), &artifact);
                row["have"] = machine.has_artifact(&artifact.key)?.into();
                if !artifact.is_visible() {
                    row["hidden"] = true.into();
                }
                rows.push(row);
            }
            Ok(rows)
        })?;
        rows.into_iter().try_for_each(sink)?;
        Ok(())
    }

    pub(super) fn edge_add(
        &self,
        from: Vec<String>,
        to: Vec<String>,
        kind: &str,
        role: &str,
        sink: Sink<'_>,
    ) -> Result<(), ApiError> {
        let role = EdgeRole::from_name(role).ok_or_else(|| {
            ApiError::misuse(format!("{role:?} is no role of an edge")).hint("from, to or both")
        })?;
        let (from, to) = self.read(move |machine| {
            let mut ends = |list: &[String]| {
                list.iter().map(|text| find_end(machine, text)).collect::<Result<Vec<End>, _>>()
            };
            Ok((ends(&from)?, ends(&to)?))
        })?;
        let key = EdgeKey::new(from, to, kind).ok_or_else(|| {
            let (ends, bytes) =
                (quipu_core::statement::ENDS_MAX, quipu_core::statement::TAG_BYTES_MAX);
            ApiError::refused(format!(
                "an edge has 1 to {ends} ends on each side, and a type of 1 to {bytes} bytes"
            ))
        })?;
        let event = self.say(Statement::Edge(key.clone(), role))?;
        let edge = Edge { key, role, id: event.id, logseq: event.logseq };
        Ok(sink(edge_json(&edge))?)
    }

    pub(super) fn edges(
        &self,
        at: Option<String>,
        kind: Option<String>,
        sink: Sink<'_>,
    ) -> Result<(), ApiError> {
        let rows = self.read(move |machine| {
            with_view(machine, at.as_deref(), |view| {
                let mut entries = Vec::new();
                view.visit(&mut |entry| {
                    if kind_of(entry) == Some(kind::EDGE_ADD) {
                        entries.push(*entry);
                    }
                })?;
                entries.sort_unstable_by_key(quipu_state::Entry::order);
                let mut rows = Vec::new();
                for entry in &entries {
                    let edge = view.edge(entry)?;
                    rows.extend(
                        edge.filter(|edge| kind.as_ref().is_none_or(|kind| *kind == edge.key.kind)),
                    );
                }
                Ok(rows)
            })
        })?;
        rows.iter().map(edge_json).try_for_each(sink)?;
        Ok(())
    }

    pub(super) fn trace(&self, query: TraceQuery, sink: Sink<'_>) -> Result<(), ApiError> {
        let value = self.read(move |machine| {
            let start = find_end(machine, &query.key)?;
            let direction = match query.direction.as_deref() {
                Some("up") => Direction::Up,
                Some("down") => Direction::Down,
                None | Some("both") => Direction::Both,
                Some(other) => {
                    return Err(ApiError::misuse(format!("{other:?} is no direction"))
                        .hint("up, down or both"));
                }
            };
            let walk = Walk {
                direction,
                depth: query.depth.unwrap_or(u32::MAX),
                types: query.types.clone(),
                role: None,
            };
            let nodes = known_nodes(machine);
            walk_everywhere(machine, query.at.as_deref(), |domains, views| {
                let mut known = false;
                for view in views {
                    known |= is_known(view, &start, &nodes)?;
                }
                if !known {
                    let message = format!("nothing is known of {start}");
                    return Err(ApiError::not_found(message).hint("quipu artifacts, quipu edges"));
                }
                let walked = trace::walk_all(views, start, &walk)?;
                trace_json((domains, views), &walked, &start)
            })
        })?;
        Ok(sink(value)?)
    }

    /// Shadows an artifact, or an edge that is named by its event.
    pub(super) fn tombstone(&self, text: &str, sink: Sink<'_>) -> Result<(), ApiError> {
        let text = text.to_owned();
        let statement = self.read(move |machine| {
            if let Some(edge) = find_edge(machine, &text)? {
                return Ok(Statement::TombstoneEdge(edge));
            }
            let key = find_artifact(machine, &text)?;
            let known = state(machine)?.current().artifact(&key)?;
            match known.filter(Artifact::is_visible) {
                Some(_) => Ok(Statement::TombstoneArtifact(key)),
                None => {
                    let message = format!("no artifact {key} is visible in this domain");
                    Err(ApiError::not_found(message).hint("quipu artifacts --hidden"))
                }
            }
        })?;
        let event = self.say(statement.clone())?;
        let mut row = statement_json(&statement);
        row["uuid"] = event.id.to_string().into();
        Ok(sink(row)?)
    }

    pub(super) fn conflicts(&self, at: Option<String>, sink: Sink<'_>) -> Result<(), ApiError> {
        let rows = self
            .read(move |machine| with_view(machine, at.as_deref(), |view| Ok(view.conflicts()?)))?;
        rows.iter().map(conflict_json).try_for_each(sink)?;
        Ok(())
    }

    /// Decides for a candidate: by the event that claims it, or the start of its id, or its type.
    pub(super) fn resolve(&self, id: &str, keep: &str, sink: Sink<'_>) -> Result<(), ApiError> {
        let (id, keep) = (id.to_owned(), keep.to_owned());
        let (key, keep, seen) = self.read(move |machine| {
            let key = find_artifact(machine, &id)?;
            let artifact = state(machine)?.current().artifact(&key)?;
            let conflict = artifact.as_ref().and_then(Artifact::conflict).ok_or_else(|| {
                ApiError::not_found(format!("no claims about {key} disagree"))
                    .hint("quipu conflicts")
            })?;
            let mut chosen = conflict.candidates.iter().filter(|one| {
                one.claim.type_tag.as_deref() == Some(&*keep)
                    || (keep.len() >= PREFIX_CHARS_MIN && one.id.to_string().starts_with(&keep))
                    || one.claim.size.to_string() == keep
            });
            let (first, second) = (chosen.next(), chosen.next());
            match (first, second) {
                (Some(one), None) => {
                    let seen = conflict.candidates.iter().map(|one| one.subject).collect();
                    Ok((key, one.claim.clone(), seen))
                }
                (None, _) => Err(ApiError::not_found(format!("no candidate {keep}"))
                    .hint("its event, its type or its size: quipu conflicts")),
                _ => Err(ApiError::misuse(format!("{keep} fits several candidates"))
                    .hint("name the candidate's event: quipu conflicts")),
            }
        })?;
        let event = self.say(Statement::Resolve { keep: keep.clone(), seen })?;
        Ok(sink(json!({
            "id": key.to_string(),
            "uuid": event.id.to_string(),
            "resolution": {
                "by": event.id.to_string(), "type_tag": keep.type_tag, "size": keep.size,
            },
        }))?)
    }

    pub(super) fn pin(&self, text: &str, held: bool, sink: Sink<'_>) -> Result<(), ApiError> {
        let text = text.to_owned();
        let key = self.read(move |machine| {
            let key = find_artifact(machine, &text)?;
            match state(machine)?.current().artifact(&key)? {
                Some(_) => Ok(key),
                None => Err(ApiError::not_found(format!("no artifact {key} in this domain"))
                    .hint("quipu artifacts")),
            }
        })?;
        let event = self.say(Statement::Pin { key, held })?;
        Ok(sink(json!({
            "key": key.to_string(), "pinned": held, "uuid": event.id.to_string(),
        }))?)
    }
}

/// The edge that an event's id, or the start of it, names.
fn find_edge(machine: &mut Machine, text: &str) -> Result<Option<EdgeKey>, ApiError> {
    use quipu_core::history::History;
    if text.parse::<ArtifactId>().is_ok() {
        return Ok(None);
    }
    let Ok(ordinal) = super::read::find_event(machine, text) else { return Ok(None) };
    let event = machine.driver.held().event(machine.driver.log(), ordinal)?;
    Ok(match Statement::of_event(&event) {
        Some(Statement::Edge(key, _) | Statement::TombstoneEdge(key)) => Some(key),
        _ => None,
    })
}

/// What a trace reached. Views are those of this domain and of those that it follows, with their domains.
fn trace_json(
    (domains, views): (&[DomainId], &[View<'_>]),
    walked: &(trace::Trace, BTreeMap<EventId, usize>),
    start: &End,
) -> Result<Value, ApiError> {
    let (trace, places) = walked;
    let mut nodes = Vec::with_capacity(trace.nodes.len());
    let mut order: Vec<(&u32, &End)> =
        trace.nodes.iter().map(|(end, depth)| (depth, end)).collect();
    order.sort_unstable();
    for (depth, end) in order {
        let mut node = json!({ "id": end.to_string(), "depth": depth });
        match end {
            End::Node(_) => node["what"] = "node".into(),
            End::Blinded(_) => node["what"] = "blinded".into(),
            End::Artifact(key) => {
                node["what"] = "artifact".into();
                describe_artifact(domains, views, key, &mut node)?;
            }
        }
        nodes.push(node);
    }
    let edge = |edge: &Edge| {
        let mut row = edge_json(edge);
        let domain = places.get(&edge.id).and_then(|place| domains.get(*place));
        row["domain"] = domain.map(DomainId::to_string).into();
        row
    };
    let edges: Vec<Value> = trace.edges.iter().map(edge).collect();
    Ok(json!({ "start": start.to_string(), "nodes": nodes, "edges": edges }))
}

/// Says of an artifact what the first log says that knows it, and which domain it comes from.
fn describe_artifact(
    domains: &[DomainId],
    views: &[View<'_>],
    key: &ArtifactId,
    node: &mut Value,
) -> Result<(), ApiError> {
    for (domain, view) in domains.iter().zip(views) {
        let Some(artifact) = view.artifact(key)? else { continue };
        let counts = artifact.counts();
        let origin = artifact.origin();
        node["type_tag"] = counts.and_then(|claim| claim.type_tag.clone()).into();
        node["size"] = counts.map(|claim| claim.size).into();
        node["hidden"] = (!artifact.is_visible()).into();
        node["domain"] = origin.map_or(*domain, |origin| origin.domain).to_string().into();
        node["origin_snapshot"] = origin.map(|origin| origin.snapshot.to_string()).into();
        break;
    }
    Ok(())
}

/// The views that a trace walks: this domain's as of now and those of the domains that it follows; or
/// this domain's alone, as of an event.
pub(super) fn walk_everywhere<R>(
    machine: &mut Machine,
    at: Option<&str>,
    question: impl FnOnce(&[DomainId], &[View<'_>]) -> Result<R, ApiError>,
) -> Result<R, ApiError> {
    let own = machine.driver.node().domain();
    if at.is_some() || machine.early()?.is_some() {
        return with_view(machine, at, |view| question(&[own], &[*view]));
    }
    state(machine)?;
    let (domains, views): (Vec<_>, Vec<_>) = machine.views()?.into_iter().unzip();
    question(&domains, &views)
}
