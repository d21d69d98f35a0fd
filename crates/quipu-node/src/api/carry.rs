//! Carrying events by file: packed batches out, packed batches in.

use std::collections::BTreeSet;

use data_encoding::BASE64;
use quipu_core::codec::pack::{self, Context, Nothing};
use quipu_core::event::{Event, VerifiedEvent};
use quipu_core::history::{History, Ordinal};
use quipu_core::id::{ArtifactId, DomainId, EventId, NodeKey};
use quipu_core::limits::FRAME_EVENTS_MAX;
use quipu_core::node::{Command, Reply};
use quipu_core::statement::Statement;
use quipu_core::sync::plan::Cargo;
use quipu_core::sync::unsigned::Unsigned;
use serde_json::json;

use super::at::state;
use super::read::dag;
use super::{Api, ApiError, ExitCode, Sink, Tip};
use crate::service::Machine;

/// State of an import: the stream's context, and events that wait for a signature.
#[derive(Debug)]
pub struct Importer {
    context: Context,
    unsigned: Unsigned,
    new: u64,
}

impl Default for Importer {
    fn default() -> Self {
        Self { context: Context::reader(), unsigned: Unsigned::default(), new: 0 }
    }
}

impl Importer {
    /// Takes the next packed batch, and gives back what is authentic by now.
    ///
    /// # Errors
    /// What is wrong with the batch.
    pub fn take(
        &mut self,
        packed: &[u8],
        domain: &DomainId,
    ) -> Result<Vec<VerifiedEvent>, ApiError> {
        let refused = |error: &dyn std::fmt::Display| ApiError::refused(format!("{error}"));
        let events = pack::decode(packed, &mut self.context, &Nothing, domain)
            .map_err(|error| refused(&error))?;
        for event in events {
            self.unsigned.push(event).map_err(|error| refused(&error))?;
        }
        Ok(std::iter::from_fn(|| self.unsigned.pop()).collect())
    }
}

impl Api {
    pub(super) fn bundle_export(
        &self,
        tips: &[Tip],
        all_artifacts: bool,
        sink: Sink<'_>,
    ) -> Result<(), ApiError> {
        let tips = tips.iter().map(parse_tip).collect::<Result<Vec<_>, _>>()?;
        let mut cargo = self.read(move |machine| cargo_for(machine, &tips))?;
        let mut context = Context::writer();
        let total = cargo.len();
        let log = self.read(|machine| Ok(machine.driver.log()))?;
        sink(json!({ "total": total, "log": log.name() }))?;
        let mut told = BTreeSet::new();
        while let Some(stretch) = cargo.next(FRAME_EVENTS_MAX) {
            let mut next = stretch.start;
            while next < stretch.end {
                let range = next..stretch.end;
                let (events, read) =
                    self.read(move |machine| read_for_bundle(machine, range.clone()))?;
                next += read;
                told.extend(events.iter().filter_map(artifact_of));
                let packed = pack::encode(&events, &mut context, &Nothing);
                let object = json!({ "events": events.len(), "packed": BASE64.encode(&packed) });
                sink(object)?;
            }
        }
        let artifacts = self.read(move |machine| {
            let wanted = (!all_artifacts).then_some(&told);
            artifacts_for_bundle(machine, wanted)
        })?;
        for (key, size) in artifacts {
            sink(json!({ "artifact": key.to_string(), "size": size }))?;
        }
        Ok(())
    }

    /// Takes an artifact of a bundle, if the log tells of it and its bytes are not here.
    pub(super) fn adopt(
        &self,
        import: &str,
        key: &str,
        size: u64,
        sink: Sink<'_>,
    ) -> Result<(), ApiError> {
        let key: ArtifactId = key.parse().map_err(|error| ApiError::misuse(format!("{error}")))?;
        let (import, of) = (import.to_owned(), self.focus);
        let wanted = self.read(move |machine| {
            let known = state(machine)?.current().artifact(&key)?;
            Ok(known.is_some_and(|one| one.is_visible()) && !machine.has_artifact(&key)?)
        })?;
        if wanted {
            self.handle.call(move |machine| machine.adopt_bundled(of, &import, &key, size))??;
        }
        Ok(sink(json!({ "key": key.to_string(), "new": wanted }))?)
    }

    pub(super) fn import_pack(&mut self, packed: &str, sink: Sink<'_>) -> Result<(), ApiError> {
        let bytes = BASE64
            .decode(packed.as_bytes())
            .map_err(|error| ApiError::refused(format!("not base64: {error}")))?;
        let domain = self.read(|machine| Ok(machine.driver.node().domain()))?;
        let events = self.importer.take(&bytes, &domain)?;
        let count = events.len();
        let imported = match self.focus {
            Some(domain) => self.handle.command_published(domain, Command::Import(events)),
            None => self.handle.command(Command::Import(events)),
        };
        match imported? {
            Reply::Imported { new } => {
                self.importer.new += new;
                Ok(sink(json!({ "events": count, "new": new }))?)
            }
            other => Err(ApiError::new(ExitCode::Bug, format!("unexpected {other:?}"))),
        }
    }

    pub(super) fn import_end(&mut self, sink: Sink<'_>) -> Result<(), ApiError> {
        let importer = std::mem::take(&mut self.importer);
        let unsigned = importer.unsigned.len();
        let waiting = self.read(|machine| Ok(machine.driver.node().waiting()))?;
        sink(json!({ "events": importer.new, "unsigned": unsigned, "waiting": waiting }))?;
        if unsigned > 0 {
            let message = format!("{unsigned} events at the end have no signature: left out");
            return Err(ApiError::refused(message).hint("the file is cut: export it again"));
        }
        Ok(())
    }
}

/// The artifact that an event claims.
fn artifact_of(event: &Event) -> Option<ArtifactId> {
    match Statement::of_event(event)? {
        Statement::Put(claim) | Statement::Import { claim, .. } => Some(claim.key),
        _ => None,
    }
}

/// The artifacts that go into a bundle: visible, here, and wanted; with their sizes, by key.
fn artifacts_for_bundle(
    machine: &mut Machine,
    wanted: Option<&BTreeSet<ArtifactId>>,
) -> Result<Vec<(ArtifactId, u64)>, ApiError> {
    let mut keys = state(machine)?.current().visible()?;
    keys.retain(|key| wanted.is_none_or(|wanted| wanted.contains(key)));
    let mut artifacts = Vec::with_capacity(keys.len());
    for key in keys {
        artifacts.extend(machine.artifact_size(&key)?.map(|size| (key, size)));
    }
    Ok(artifacts)
}

fn parse_tip(tip: &Tip) -> Result<(NodeKey, u64, EventId), ApiError> {
    let bad = |error: &dyn std::fmt::Display| ApiError::refused(format!("in the tips: {error}"));
    let author: NodeKey = tip.author.parse().map_err(|error| bad(&error))?;
    let id: EventId = tip.id.parse().map_err(|error| bad(&error))?;
    Ok((author, tip.seq, id))
}

/// Events that a machine with these feed tips lacks.
fn cargo_for(machine: &mut Machine, tips: &[(NodeKey, u64, EventId)]) -> Result<Cargo, ApiError> {
    let dag = dag(machine)?;
    let held = machine.driver.held();
    if tips.is_empty() {
        return Ok(Cargo::Stretch(0..held.count(machine.driver.log())));
    }
    let mut parts = Vec::new();
    for author in dag.authors() {
        // Of a tip that is not here, nothing is known: then the whole feed goes.
        let mut above = 0;
        for (_, seq, id) in tips.iter().filter(|(of, ..)| *of == author) {
            if held.find(machine.driver.log(), id)?.is_some() && !dag.is_forked(&author) {
                above = above.max(*seq);
            }
        }
        parts.push((author, above));
    }
    Ok(Cargo::of_feeds(dag, held, parts)?)
}

fn read_for_bundle(
    machine: &mut Machine,
    range: std::ops::Range<Ordinal>,
) -> Result<(Vec<Event>, u64), ApiError> {
    let dag = dag(machine)?;
    let held = machine.driver.held();
    let mut events = held.events(machine.driver.log(), range)?;
    let read = events.len() as u64;
    events.retain(|event| !dag.is_quarantined(&event.id));
    Ok((machine.driver.node().proven(events, held)?, read))
}
