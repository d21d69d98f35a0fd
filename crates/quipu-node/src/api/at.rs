//! Time travel (LOG-10): what a reading request sees when it names a snapshot or an event.

use std::collections::{BTreeMap, BTreeSet};

use quipu_core::dag::digest_of;
use quipu_core::domain::{Decision, Role};
use quipu_core::event::LogSeq;
use quipu_core::history::History;
use quipu_core::id::{EventId, IdMap, NodeKey, SnapshotId};
use quipu_state::cut::Cut;
use quipu_state::{State, View};
use serde_json::{Value, json};

use super::ApiError;
use super::read::{dag, find_event, is_start_of_id, nothing_held};
use crate::service::Machine;

/// Places read at once.
const SCAN_EVENTS: u64 = 4096;

/// The event that a text names: its id or the start of it, a federated snapshot id, or the name of
/// a snapshot.
pub(super) fn event_of(machine: &mut Machine, text: &str) -> Result<EventId, ApiError> {
    if let Ok(id) = text.parse::<SnapshotId>() {
        let held = machine.driver.node().domain();
        if id.domain != held {
            let message = format!("{} is a snapshot of domain {}, not {held}", id.local, id.domain);
            return Err(ApiError::not_found(message).hint("quipu id"));
        }
        return event_of(machine, &id.local.to_string());
    }
    // An id is never a name: else whoever names a snapshot like another's id would take its place.
    if text.parse::<EventId>().is_err() {
        if let Some(id) = named(machine, text)? {
            return Ok(id);
        }
        if !is_start_of_id(text) {
            return Err(ApiError::not_found(format!("no snapshot is called {text:?}"))
                .hint("quipu snapshots"));
        }
    }
    let ordinal = find_event(machine, text)?;
    let id = machine.driver.held().id(machine.driver.log(), ordinal)?;
    if dag(machine)?.is_quarantined(&id) {
        let message = format!("event {id} is kept aside: nothing was ever as of it");
        return Err(ApiError::refused(message).hint("quipu show EVENT"));
    }
    Ok(id)
}

/// The latest snapshot with a name.
fn named(machine: &mut Machine, name: &str) -> Result<Option<EventId>, ApiError> {
    let snapshots = state(machine)?.snapshots().to_vec();
    for snapshot in snapshots.iter().rev() {
        if super::snapshots::name_of(machine, snapshot)?.as_deref() == Some(name) {
            return Ok(Some(snapshot.id));
        }
    }
    Ok(None)
}

/// The state, brought up to date; that of a snapshot, as long as the log is not here.
pub(super) fn state(machine: &mut Machine) -> Result<&State, ApiError> {
    if machine.early()?.is_some() {
        return Ok(machine.early()?.ok_or_else(nothing_held)?.state());
    }
    machine.driver.held().store().ok_or_else(nothing_held)?;
    Ok(machine.driver.catch_up()?)
}

/// Asks the state as of now, or as of an event.
pub(super) fn with_view<R>(
    machine: &mut Machine,
    at: Option<&str>,
    question: impl FnOnce(&View<'_>) -> Result<R, ApiError>,
) -> Result<R, ApiError> {
    let Some(text) = at else { return question(&state(machine)?.current()) };
    if let Some(early) = machine.early()?
        && (early.snapshot.to_string().starts_with(text) || early.name.as_deref() == Some(text))
    {
        return question(&early.state().current());
    }
    let id = event_of(machine, text)?;
    question(&machine.driver.state_at(&id)?)
}

/// The cut that a text names, with its event.
pub(super) fn cut_of(
    machine: &mut Machine,
    at: Option<&str>,
) -> Result<Option<(EventId, Cut)>, ApiError> {
    let Some(text) = at else { return Ok(None) };
    let id = event_of(machine, text)?;
    let store = machine.driver.held().store().ok_or_else(nothing_held)?;
    Ok(Some((id, Cut::up_to(store, machine.driver.log(), &id)?)))
}

/// Feed ends of a cut, sorted: author, seq, id.
pub(super) fn ends_of(
    machine: &Machine,
    cut: &Cut,
) -> Result<Vec<(NodeKey, u64, EventId)>, ApiError> {
    let held = machine.driver.held();
    let mut ends: IdMap<EventId, (NodeKey, u64)> = IdMap::default();
    let end = cut.end().min(held.count(machine.driver.log()));
    let mut next = 0;
    while next < end {
        let places = held.places(machine.driver.log(), next..end.min(next + SCAN_EVENTS))?;
        for place in places {
            if cut.contains(next) {
                if let Some(prev) = &place.head.prev {
                    ends.remove(prev);
                }
                ends.insert(place.id, (place.head.author, place.head.seq));
            }
            next += 1;
        }
    }
    let mut ends: Vec<_> = ends.into_iter().map(|(id, (author, seq))| (author, seq, id)).collect();
    ends.sort_unstable();
    Ok(ends)
}

/// Where a node stood that stopped at an event.
pub(super) fn status_at(machine: &Machine, id: &EventId, cut: &Cut) -> Result<Value, ApiError> {
    let ends = ends_of(machine, cut)?;
    let authors: BTreeSet<NodeKey> = ends.iter().map(|(author, ..)| *author).collect();
    let mut ids: Vec<EventId> = ends.iter().map(|(.., id)| *id).collect();
    ids.sort_unstable();
    let node = machine.driver.node();
    let dag = dag(machine)?;
    let forks = dag.equivocations();
    let held = machine.driver.held();
    let mut equivocations = Vec::new();
    for fork in &forks {
        let mut inside = Vec::new();
        for id in &fork.ids {
            if held.find(machine.driver.log(), id)?.is_some_and(|ordinal| cut.contains(ordinal)) {
                inside.push(id.to_string());
            }
        }
        if inside.len() > 1 {
            let author = fork.author.to_string();
            equivocations.push(json!({ "author": author, "seq": fork.seq, "ids": inside }));
        }
    }
    Ok(json!({
        "domain": node.domain().to_string(),
        "name": dag.parameters().name,
        "node": node.key().to_string(),
        "at": id.to_string(),
        "events": cut.len(),
        "authors": authors.len(),
        "leaves": [id.to_string()],
        "digest": digest_of(&ids).to_string(),
        "published_digest": digest_of(&[]).to_string(),
        "waiting": 0,
        "quarantined": 0,
        "equivocations": equivocations,
        "peers": [],
    }))
}

/// The members by the decisions in a cut.
pub(super) fn members_at(machine: &Machine, cut: &Cut) -> Result<Vec<Value>, ApiError> {
    let member = |(node, (since, role)): (NodeKey, (LogSeq, Role))| {
        let (text, ms) = (since.to_string(), since.ms());
        json!({ "node": node.to_string(), "role": role.name(), "since": text, "since_ms": ms })
    };
    Ok(roles_at(machine, cut)?.into_iter().map(member).collect())
}

/// The admins by the decisions in a cut.
pub(super) fn admins_at(machine: &Machine, cut: &Cut) -> Result<BTreeSet<NodeKey>, ApiError> {
    let roles = roles_at(machine, cut)?.into_iter();
    Ok(roles.filter(|(_, (_, role))| *role == Role::Admin).map(|(node, _)| node).collect())
}

/// The role of each member, and since when: of each machine the latest decision in replay order.
fn roles_at(machine: &Machine, cut: &Cut) -> Result<BTreeMap<NodeKey, (LogSeq, Role)>, ApiError> {
    let held = machine.driver.held();
    let founder = dag(machine)?.authority().founder();
    let mut latest: BTreeMap<NodeKey, ((LogSeq, EventId), Option<Role>)> = BTreeMap::new();
    for ordinal in held.outline(machine.driver.log())?.structural {
        if !cut.contains(ordinal) {
            continue;
        }
        let event = held.event(machine.driver.log(), ordinal)?;
        let (node, role) = match Decision::of_event(&event) {
            Some(Decision::Add { node, role, .. }) => (node, Some(role)),
            Some(Decision::Remove { node }) => (node, None),
            _ if ordinal == 0 => (founder, Some(Role::Admin)),
            _ => continue,
        };
        let known = latest.entry(node).or_insert((event.order(), role));
        if event.order() > known.0 {
            *known = (event.order(), role);
        }
    }
    let member = |(node, ((since, _), role))| Some((node, (since, role?)));
    Ok(latest.into_iter().filter_map(member).collect())
}
