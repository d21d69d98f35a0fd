//! The fold as canonical NDJSON: what is visible, in replay order, the same bytes anywhere (LOG-4,
//! LOG-6).

use std::num::NonZero;

use quipu_core::event::{Event, Log, LogSeq};
use quipu_core::history::Ordinal;
use quipu_core::id::EventId;
use quipu_core::kind;
use quipu_core::value;
use quipu_state::cut::Cut;
use quipu_state::plan::{self, Row, What};
use quipu_state::{Artifact, Edge, StateError, View, kind_of};
use serde_json::{Value, json};

use super::at::with_view;
use super::data::{artifact_json, edge_json};
use super::read::{nothing_held, read_events};
use super::snapshots::{claimed_root, find};
use super::{Api, ApiError, Sink};
use crate::service::Machine;

/// Rows made in one visit to the machine's loop.
const CHUNK_ROWS: usize = 512;
/// The most shards that may scan side by side.
const SHARDS_MAX: usize = 1024;

/// Something visible.
#[derive(Debug, Clone)]
enum Item {
    Artifact(Box<Artifact>),
    Edge(Box<Edge>),
    /// The winner of any other fold key, by where it lies.
    Event(Ordinal),
}

impl From<Row> for Item {
    fn from(row: Row) -> Self {
        match row.what {
            What::Artifact(artifact) => Item::Artifact(artifact),
            What::Edge(edge) => Item::Edge(edge),
            What::Value => Item::Event(row.ordinal),
        }
    }
}

/// Everything visible in a view, in replay order.
fn items_of(view: &View<'_>) -> Result<Vec<Item>, ApiError> {
    let mut items: Vec<((LogSeq, EventId), Item)> = Vec::new();
    let mut damaged: Option<StateError> = None;
    view.visit(&mut |entry| match kind_of(entry) {
        Some(kind::EDGE_ADD) => match view.edge(entry) {
            Ok(edge) => {
                let edge = edge.map(|edge| (entry.order(), Item::Edge(Box::new(edge))));
                items.extend(edge);
            }
            Err(error) => damaged = Some(error),
        },
        None => items.push((entry.order(), Item::Event(entry.ordinal))),
        Some(_) => {}
    })?;
    if let Some(error) = damaged {
        return Err(error.into());
    }
    for artifact in view.artifacts()?.into_values() {
        if let Some(since) = artifact.since() {
            items.push((since, Item::Artifact(Box::new(artifact))));
        }
    }
    items.sort_unstable_by_key(|(order, _)| *order);
    Ok(items.into_iter().map(|(_, item)| item).collect())
}

impl Api {
    pub(super) fn current(&self, at: Option<String>, sink: Sink<'_>) -> Result<(), ApiError> {
        let (items, objects) = self.read(move |machine| {
            let items = with_view(machine, at.as_deref(), items_of)?;
            // At once: the log may arrive at any time, and then the places mean something else.
            match early_objects(machine, &items)? {
                Some(objects) => Ok((Vec::new(), objects)),
                None => Ok((items, Vec::new())),
            }
        })?;
        objects.into_iter().try_for_each(&mut *sink)?;
        self.print(&items, sink)
    }

    /// Folds a snapshot's cut from the log, whatever state is kept.
    pub(super) fn replay(
        &self,
        snapshot: &str,
        shards: Option<usize>,
        sink: Sink<'_>,
    ) -> Result<(), ApiError> {
        let text = snapshot.to_owned();
        let cores = std::thread::available_parallelism().map_or(1, NonZero::get);
        let shards = shards.unwrap_or(cores);
        if !(1..=SHARDS_MAX).contains(&shards) {
            return Err(ApiError::misuse(format!("1 to {SHARDS_MAX} shards, not {shards}")));
        }
        let (items, report) = self.read(move |machine| replayed(machine, &text, shards))?;
        self.print(&items, sink)?;
        Ok(sink(json!({ "report": report }))?)
    }

    fn print(&self, items: &[Item], sink: Sink<'_>) -> Result<(), ApiError> {
        for chunk in items.chunks(CHUNK_ROWS) {
            let chunk = chunk.to_vec();
            let objects = self.read(move |machine| objects(machine, &chunk))?;
            objects.into_iter().try_for_each(&mut *sink)?;
        }
        Ok(())
    }
}

/// The rows of a snapshot's cut, and what was done to get them.
fn replayed(
    machine: &mut Machine,
    text: &str,
    shards: usize,
) -> Result<(Vec<Item>, Value), ApiError> {
    let snapshot = find(machine, text)?;
    let claimed = claimed_root(machine, &snapshot)?;
    let store = machine.driver.held().store().ok_or_else(nothing_held)?;
    let cut = Cut::up_to(store, machine.driver.log(), &snapshot.id)?;
    // Nothing in the past of an event that counts is kept aside.
    let (replay, report) =
        plan::replay(store, machine.driver.log(), Some(&cut), &|_| false, shards)?;
    let root = data_encoding::HEXLOWER.encode(&replay.root);
    let verified = claimed == root;
    let value = json!({
        "snapshot": snapshot.id.to_string(),
        "root": root,
        "claimed": claimed,
        "verified": verified,
        "rows": replay.rows.len(),
        "plan": report.lines(),
    });
    Ok((replay.rows.into_iter().map(Item::from).collect(), value))
}

/// The rows of a snapshot's state on a machine that does not have the log yet.
fn early_objects(machine: &mut Machine, items: &[Item]) -> Result<Option<Vec<Value>>, ApiError> {
    let Some(early) = machine.early()? else { return Ok(None) };
    let event = |ordinal: &Ordinal| early.events.get(usize::try_from(*ordinal).ok()?);
    Ok(Some(
        items
            .iter()
            .filter_map(|item| object(Log::Internal, item, |o| event(o).cloned()))
            .collect(),
    ))
}

fn objects(machine: &mut Machine, items: &[Item]) -> Result<Vec<Value>, ApiError> {
    let log = machine.driver.log();
    let ordinal = |item: &Item| match item {
        Item::Event(ordinal) => Some(*ordinal),
        _ => None,
    };
    let ordinals: Vec<Ordinal> = items.iter().filter_map(ordinal).collect();
    let mut events = read_events(machine, &ordinals)?.into_iter();
    Ok(items.iter().filter_map(|item| object(log, item, |_| events.next())).collect())
}

/// A row. `event` finds the event of one that is no artifact or edge.
fn object(log: Log, item: &Item, event: impl FnOnce(&Ordinal) -> Option<Event>) -> Option<Value> {
    let classed = |mut object: Value, class: &str| {
        object["class"] = class.into();
        object
    };
    match item {
        Item::Artifact(artifact) => Some(classed(artifact_json(log, artifact), "artifact")),
        Item::Edge(edge) => Some(classed(edge_json(edge), "edge")),
        Item::Event(ordinal) => event(ordinal).map(|event| event_json(&event)),
    }
}

fn event_json(event: &Event) -> Value {
    let payload = event.payload_value().and_then(|bytes| value::decode(bytes).ok());
    json!({
        "class": &*event.header.kind,
        "subject": event.header.payload.subject.map(|subject| subject.to_string()),
        "uuid": event.id.to_string(),
        "author": event.header.author.to_string(),
        "logseq": event.header.logseq.to_string(),
        "payload": payload.as_ref().map(value::to_json),
    })
}
