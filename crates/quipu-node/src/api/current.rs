//! The fold as canonical NDJSON: what is visible, in replay order, the same bytes anywhere (LOG-4,
//! LOG-6).

use quipu_core::event::{Event, LogSeq};
use quipu_core::id::{ArtifactId, EventId};
use quipu_core::kind;
use quipu_core::value;
use quipu_state::{Entry, View, kind_of};
use serde_json::{Value, json};

use super::at::with_view;
use super::data::{artifact_json, edge_json};
use super::read::read_events;
use super::{Api, ApiError, Sink};
use crate::service::Machine;

/// Rows made in one visit to the machine's loop.
const CHUNK_ROWS: usize = 512;

/// Something visible, by the event that made it so.
#[derive(Debug, Clone, Copy)]
enum Row {
    Artifact(ArtifactId),
    Edge(Entry),
    /// The winner of any other fold key.
    Event(Entry),
}

type Rows = Vec<((LogSeq, EventId), Row)>;

/// Everything visible in a view, in replay order.
fn rows_of(view: &View<'_>) -> Result<Rows, ApiError> {
    let mut rows: Rows = Vec::new();
    view.visit(&mut |entry| match kind_of(entry) {
        Some(kind::EDGE_ADD) => rows.push((entry.order(), Row::Edge(*entry))),
        None => rows.push((entry.order(), Row::Event(*entry))),
        Some(_) => {}
    })?;
    for (key, artifact) in view.artifacts()? {
        rows.extend(artifact.since().map(|since| (since, Row::Artifact(key))));
    }
    rows.sort_unstable_by_key(|(order, _)| *order);
    Ok(rows)
}

impl Api {
    pub(super) fn current(&self, at: Option<String>, sink: Sink<'_>) -> Result<(), ApiError> {
        let wanted = at.clone();
        let rows = self.read(move |machine| with_view(machine, wanted.as_deref(), rows_of))?;
        for chunk in rows.chunks(CHUNK_ROWS) {
            let (chunk, at) = (chunk.to_vec(), at.clone());
            let objects = self.read(move |machine| objects(machine, at.as_deref(), &chunk))?;
            objects.into_iter().try_for_each(&mut *sink)?;
        }
        Ok(())
    }
}

impl Api {
    /// Folds a snapshot's cut from the log, whatever state is kept.
    pub(super) fn replay(
        &self,
        snapshot: &str,
        _shards: Option<usize>,
        sink: Sink<'_>,
    ) -> Result<(), ApiError> {
        let text = snapshot.to_owned();
        let (id, claimed, root) = self.read(move |machine| {
            let snapshot = super::snapshots::find(machine, &text)?;
            let claimed = super::snapshots::snapshot_json(machine, &snapshot)?["root"].clone();
            machine.driver.state_mut().forget(&snapshot.id);
            let root = machine.driver.state_at(&snapshot.id)?.root();
            Ok((snapshot.id, claimed, data_encoding::HEXLOWER.encode(&root)))
        })?;
        self.current(Some(id.to_string()), sink)?;
        let verified = claimed == *root;
        Ok(sink(json!({ "report": {
            "snapshot": id.to_string(), "root": root, "claimed": claimed, "verified": verified,
            "plan": [],
        }}))?)
    }
}

fn objects(
    machine: &mut Machine,
    at: Option<&str>,
    rows: &[((LogSeq, EventId), Row)],
) -> Result<Vec<Value>, ApiError> {
    let ordinals: Vec<u64> = rows
        .iter()
        .filter_map(|(_, row)| match row {
            Row::Event(entry) => Some(entry.ordinal),
            _ => None,
        })
        .collect();
    let mut events = read_events(machine, &ordinals)?.into_iter();
    with_view(machine, at, |view| {
        let mut objects = Vec::with_capacity(rows.len());
        for (_, row) in rows {
            objects.extend(match row {
                Row::Artifact(key) => view.artifact(key)?.map(|artifact| {
                    let mut object = artifact_json(&artifact);
                    object["class"] = "artifact".into();
                    object
                }),
                Row::Edge(entry) => view.edge(entry)?.map(|edge| {
                    let mut object = edge_json(&edge);
                    object["class"] = "edge".into();
                    object
                }),
                Row::Event(_) => events.next().map(|event| event_json(&event)),
            });
        }
        Ok(objects)
    })
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
