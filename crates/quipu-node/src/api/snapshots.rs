//! Snapshots, and the two tables about who applied what (LOG-3, LOG-5, LOG-7).

use quipu_core::history::History;
use quipu_core::id::{ArtifactId, EventId, SnapshotId};
use quipu_core::node::{Command, CommandError, Reply};
use quipu_core::statement::Statement;
use quipu_state::{Entry, SnapshotAt, kind_of};
use serde_json::{Value, json};

use super::at::{event_of, state, with_view};
use super::data::statement_json;
use super::read::dag;
use super::{Api, ApiError, ExitCode, Sink};
use crate::service::{Machine, ServiceError};

/// How often a snapshot is tried while other events keep arriving.
const SNAPSHOT_TRIES: u32 = 100;
/// The longest name of a snapshot, in bytes.
const NAME_BYTES_MAX: usize = quipu_core::statement::TAG_BYTES_MAX;

/// What a snapshot event says.
fn said(machine: &Machine, snapshot: &SnapshotAt) -> Result<(Statement, String), ApiError> {
    let event = machine.driver.held().event(machine.driver.log(), snapshot.ordinal)?;
    let statement = Statement::of_event(&event).ok_or_else(|| {
        ApiError::new(ExitCode::Storage, format!("snapshot {} says nothing", snapshot.id))
            .hint("quipu verify --rebuild")
    })?;
    Ok((statement, event.header.author.to_string()))
}

/// The root that a snapshot says.
pub(super) fn claimed_root(machine: &Machine, snapshot: &SnapshotAt) -> Result<String, ApiError> {
    match said(machine, snapshot)?.0 {
        Statement::Snapshot { root, .. } => Ok(data_encoding::HEXLOWER.encode(&root)),
        _ => Err(ApiError::not_found(format!("{} is no snapshot", snapshot.id))),
    }
}

/// The name of a snapshot, if it has one.
pub(super) fn name_of(
    machine: &Machine,
    snapshot: &SnapshotAt,
) -> Result<Option<String>, ApiError> {
    match said(machine, snapshot)?.0 {
        Statement::Snapshot { name, .. } => Ok(name),
        _ => Ok(None),
    }
}

/// A snapshot as JSON.
pub(super) fn snapshot_json(
    machine: &mut Machine,
    snapshot: &SnapshotAt,
) -> Result<Value, ApiError> {
    let (statement, author) = said(machine, snapshot)?;
    let Statement::Snapshot { root, entries, name } = statement else {
        return Err(ApiError::not_found(format!("{} is no snapshot", snapshot.id)));
    };
    let dropped = state(machine)?.current().is_dropped(&snapshot.id)?;
    let events = machine.driver.events_in(snapshot)?;
    let domain = machine.driver.node().domain();
    Ok(json!({
        "id": snapshot.id.to_string(),
        "federated_id": SnapshotId { domain, local: snapshot.id }.to_string(),
        "name": name,
        "logseq": snapshot.logseq.to_string(),
        "root": data_encoding::HEXLOWER.encode(&root),
        "events": events,
        "entries": entries,
        "author": author,
        "dropped": dropped,
    }))
}

/// The snapshot that a text names.
pub(super) fn find(machine: &mut Machine, text: &str) -> Result<SnapshotAt, ApiError> {
    let id = event_of(machine, text)?;
    let found = state(machine)?.snapshots().iter().find(|one| one.id == id).copied();
    found.ok_or_else(|| {
        ApiError::not_found(format!("event {id} is no snapshot")).hint("quipu snapshots")
    })
}

impl Api {
    pub(super) fn snapshot_create(
        &self,
        name: Option<String>,
        sink: Sink<'_>,
    ) -> Result<(), ApiError> {
        if name.as_ref().is_some_and(|name| name.is_empty() || name.len() > NAME_BYTES_MAX) {
            let message = format!("a name has 1 to {NAME_BYTES_MAX} bytes");
            return Err(ApiError::refused(message));
        }
        for _ in 0..SNAPSHOT_TRIES {
            self.handle.command(Command::Merge)?;
            match self.handle.snapshot(None, name.clone()) {
                Ok(Reply::Emitted(events)) => {
                    let bug = || ApiError::new(ExitCode::Bug, "a snapshot gave no event");
                    let id = events.first().ok_or_else(bug)?.id;
                    let value = self.read(move |machine| {
                        let snapshot = find(machine, &id.to_string())?;
                        let value = snapshot_json(machine, &snapshot)?;
                        machine.driver.save_state()?;
                        Ok(value)
                    })?;
                    return Ok(sink(value)?);
                }
                Err(ServiceError::Command(CommandError::MovedOn)) => {}
                Ok(other) => {
                    let message = format!("unexpected reply {other:?}");
                    return Err(ApiError::new(ExitCode::Bug, message));
                }
                Err(error) => return Err(error.into()),
            }
        }
        Err(ApiError::refused("events keep arriving faster than a snapshot can be taken")
            .hint("try again"))
    }

    pub(super) fn snapshot_drop(&self, text: &str, sink: Sink<'_>) -> Result<(), ApiError> {
        let text = text.to_owned();
        let id = self.read(move |machine| Ok(find(machine, &text)?.id))?;
        let event = self.say(Statement::DropSnapshot(id))?;
        self.read(move |machine| {
            machine.driver.state_mut().forget(&id);
            Ok(())
        })?;
        Ok(sink(json!({ "id": id.to_string(), "uuid": event.id.to_string() }))?)
    }

    pub(super) fn snapshots(&self, at: Option<String>, sink: Sink<'_>) -> Result<(), ApiError> {
        let seen = self.read(move |machine| {
            let cut = super::at::cut_of(machine, at.as_deref())?;
            let mut all = state(machine)?.snapshots().to_vec();
            all.retain(|one| cut.as_ref().is_none_or(|(_, cut)| cut.contains(one.ordinal)));
            Ok(all)
        })?;
        // One by one: the first time, each costs a look through the log.
        for snapshot in seen {
            sink(self.read(move |machine| snapshot_json(machine, &snapshot))?)?;
        }
        Ok(())
    }

    pub(super) fn snapshot_show(&self, text: &str, sink: Sink<'_>) -> Result<(), ApiError> {
        let text = text.to_owned();
        let value = self.read(move |machine| {
            let snapshot = find(machine, &text)?;
            let mut value = snapshot_json(machine, &snapshot)?;
            // Anew: from the log, not from what is kept.
            machine.driver.state_mut().forget(&snapshot.id);
            let view = machine.driver.state_at(&snapshot.id)?;
            let root = data_encoding::HEXLOWER.encode(&view.root());
            value["verified"] = (value["root"] == *root).into();
            value["artifacts"] = view.visible()?.len().into();
            value["edges"] = view.edge_count()?.into();
            Ok(value)
        })?;
        Ok(sink(value)?)
    }

    pub(super) fn snapshot_diff(
        &self,
        before: &str,
        after: &str,
        sink: Sink<'_>,
    ) -> Result<(), ApiError> {
        let (before, after) = (before.to_owned(), after.to_owned());
        let rows = self.read(move |machine| {
            let (a, b) = (find(machine, &before)?.id, find(machine, &after)?.id);
            let changes = machine.driver.difference(&a, &b)?;
            let mut rows = Vec::with_capacity(changes.len());
            for change in &changes {
                let mut row = json!({
                    "subject": change.subject.to_string(),
                    "before": change.before.map(|entry| entry.id.to_string()),
                    "after": change.after.map(|entry| entry.id.to_string()),
                });
                if let Some(entry) = change.after.or(change.before) {
                    describe(machine, &entry, &mut row)?;
                }
                rows.push(row);
            }
            Ok(rows)
        })?;
        rows.into_iter().try_for_each(sink)?;
        Ok(())
    }

    /// LOG-7: for each snapshot, what it applied.
    pub(super) fn provenance(&self, only: Option<String>, sink: Sink<'_>) -> Result<(), ApiError> {
        let all = self.read(move |machine| match &only {
            Some(text) => Ok(vec![find(machine, text)?]),
            None => Ok(state(machine)?.snapshots().to_vec()),
        })?;
        for snapshot in all {
            let row = self.read(move |machine| {
                let mut row = snapshot_json(machine, &snapshot)?;
                let at = snapshot.id.to_string();
                let (artifacts, edges) = with_view(machine, Some(&at), |view| {
                    Ok((view.visible()?, view.edge_count()?))
                })?;
                row["snapshot"] = row["id"].clone();
                row["artifacts"] = artifacts.iter().map(ArtifactId::to_string).collect();
                row["edges"] = edges.into();
                Ok(row)
            })?;
            sink(row)?;
        }
        Ok(())
    }

    /// LOG-7: for each author and peer, the last position and snapshot that are applied here.
    pub(super) fn federation(&self, at: Option<String>, sink: Sink<'_>) -> Result<(), ApiError> {
        let rows = self.read(move |machine| federation(machine, at.as_deref()))?;
        rows.into_iter().try_for_each(sink)?;
        Ok(())
    }
}

fn federation(machine: &mut Machine, at: Option<&str>) -> Result<Vec<Value>, ApiError> {
    let cut = super::at::cut_of(machine, at)?;
    let snapshots = state(machine)?.snapshots().to_vec();
    let mut last: std::collections::BTreeMap<String, EventId> = std::collections::BTreeMap::new();
    for snapshot in &snapshots {
        if cut.as_ref().is_none_or(|(_, cut)| cut.contains(snapshot.ordinal)) {
            last.insert(said(machine, snapshot)?.1, snapshot.id);
        }
    }
    let ends: Vec<_> = match &cut {
        Some((_, cut)) => super::at::ends_of(machine, cut)?,
        None => dag(machine)?.ends().iter().map(|end| (end.author, end.seq, end.id)).collect(),
    };
    let met: std::collections::BTreeMap<_, _> = machine.book().met().into_iter().collect();
    let held = machine.driver.held();
    let mut rows = Vec::with_capacity(ends.len());
    for (author, seq, id) in ends {
        let ordinal = held.find(machine.driver.log(), &id)?;
        let logseq =
            ordinal.map(|ordinal| held.place(machine.driver.log(), ordinal)).transpose()?;
        let node = author.to_string();
        rows.push(json!({
            "last_snapshot": last.get(&node).map(EventId::to_string),
            "node": node,
            "seq": seq,
            "id": id.to_string(),
            "logseq": logseq.map(|place| place.head.logseq.to_string()),
            "level_events": met.get(&author).map(|met| met.ordinal),
        }));
    }
    Ok(rows)
}

/// Adds kind and meaning of a winner to its row.
pub(super) fn describe(
    machine: &mut Machine,
    entry: &Entry,
    row: &mut Value,
) -> Result<(), ApiError> {
    match machine.driver.state().current().statement(entry)? {
        Some(statement) => {
            row["kind"] = kind_of(entry).into();
            row["says"] = statement_json(&statement);
        }
        None => {
            let place = machine.driver.held().place(machine.driver.log(), entry.ordinal)?;
            row["kind"] = (*place.head.kind).into();
        }
    }
    Ok(())
}
