//! Carrying events by file: packed batches out, packed batches in.

use data_encoding::BASE64;
use quipu_core::codec::pack::{self, Context, Nothing};
use quipu_core::event::{Event, VerifiedEvent};
use quipu_core::history::{History, Ordinal};
use quipu_core::id::{DomainId, EventId, NodeKey};
use quipu_core::limits::FRAME_EVENTS_MAX;
use quipu_core::node::{Command, Reply};
use quipu_core::sync::plan::Cargo;
use quipu_core::sync::unsigned::Unsigned;
use serde_json::json;

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
    pub(super) fn bundle_export(&self, tips: &[Tip], sink: Sink<'_>) -> Result<(), ApiError> {
        let tips = tips.iter().map(parse_tip).collect::<Result<Vec<_>, _>>()?;
        let mut cargo = self.read(move |machine| cargo_for(machine, &tips))?;
        let mut context = Context::writer();
        let total = cargo.len();
        sink(json!({ "total": total }))?;
        while let Some(stretch) = cargo.next(FRAME_EVENTS_MAX) {
            let mut next = stretch.start;
            while next < stretch.end {
                let range = next..stretch.end;
                let (events, read) =
                    self.read(move |machine| read_for_bundle(machine, range.clone()))?;
                next += read;
                let packed = pack::encode(&events, &mut context, &Nothing);
                let object = json!({ "events": events.len(), "packed": BASE64.encode(&packed) });
                sink(object)?;
            }
        }
        Ok(())
    }

    pub(super) fn import_pack(&mut self, packed: &str, sink: Sink<'_>) -> Result<(), ApiError> {
        let bytes = BASE64
            .decode(packed.as_bytes())
            .map_err(|error| ApiError::refused(format!("not base64: {error}")))?;
        let domain = self.read(|machine| Ok(machine.driver.node().domain()))?;
        let events = self.importer.take(&bytes, &domain)?;
        let count = events.len();
        match self.handle.command(Command::Import(events))? {
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
