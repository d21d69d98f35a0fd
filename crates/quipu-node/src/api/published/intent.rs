//! A publication is written to two logs, one after the other. What the second is to remember is on the disk
//! before the first is written, so that a stop in between loses no opening of a commitment.

use std::collections::BTreeSet;

use quipu_core::blind::Opening;
use quipu_core::id::{ArtifactId, DomainId, NodeKey};
use quipu_core::node::Command;
use quipu_core::statement::{EdgeKey, End};

use super::super::at::state;
use super::super::{Api, ApiError, ExitCode};
use super::{in_published, openings_of};
use crate::home::{OpeningText, PublicationIntent};
use crate::publication::{self, Lineage};
use crate::service::Machine;

/// What is to be remembered of a publication that is on its way.
pub(super) fn intent(keys: &[ArtifactId], lineage: &Lineage) -> PublicationIntent {
    let receipts: Vec<(ArtifactId, Vec<u8>)> = lineage
        .receipts
        .values()
        .map(|blinded| blinded.encode())
        .map(|bytes| (ArtifactId::of(&bytes), bytes))
        .collect();
    let opening = |one: &Opening| {
        let commitment = one.commitment();
        let bytes = commitment.to_bytes();
        let at_edge = |key: &EdgeKey| {
            key.from.iter().chain(&key.to).any(|end| *end == End::Blinded(commitment))
        };
        let has = |of: &[u8]| of.windows(bytes.len()).any(|window| window == bytes);
        let receipt = match lineage.edges.iter().any(|(key, _)| at_edge(key)) {
            true => None,
            false => receipts.iter().find(|(_, bytes)| has(bytes)),
        };
        OpeningText {
            end: one.end.to_string(),
            nonce: NodeKey(one.nonce).to_string(),
            receipt: receipt.map(|(key, _)| key.to_string()),
        }
    };
    PublicationIntent {
        keys: keys.iter().map(ToString::to_string).collect(),
        openings: lineage.openings.iter().map(opening).collect(),
    }
}

fn keys_of(intent: &PublicationIntent) -> Result<Vec<ArtifactId>, ApiError> {
    intent.keys.iter().map(|key| key.parse().map_err(unreadable)).collect()
}

/// Openings, each with the blinded receipt in which its commitment stands, if it stands at no edge.
fn openings_in(intent: &PublicationIntent) -> Result<Vec<(Opening, Option<ArtifactId>)>, ApiError> {
    let opening = |one: &OpeningText| {
        let end: End = one.end.parse().map_err(unreadable)?;
        let nonce: NodeKey = one.nonce.parse().map_err(unreadable)?;
        let receipt = one.receipt.as_ref().map(|key| key.parse().map_err(unreadable));
        Ok((Opening { nonce: nonce.0, end }, receipt.transpose()?))
    };
    intent.openings.iter().map(opening).collect()
}

fn unreadable(error: impl std::fmt::Display) -> ApiError {
    ApiError::new(ExitCode::Storage, format!("what was noted of a publication: {error}"))
}

/// What of an unfinished publication stands in the published log and is not remembered yet.
struct Unfinished {
    keys: Vec<ArtifactId>,
    openings: Vec<Opening>,
}

impl Api {
    /// Remembers what a publication is about to say.
    pub(super) fn note_intent(&self, intent: PublicationIntent) -> Result<(), ApiError> {
        self.handle.call(move |machine| machine.home().set_publication(&intent))??;
        Ok(())
    }

    /// The publication is remembered in the log.
    pub(super) fn drop_intent(&self) -> Result<(), ApiError> {
        self.handle.call(|machine| machine.home().forget_publication())??;
        Ok(())
    }

    /// Remembers what was published before a stop, if there is such a thing.
    pub(super) fn finish_publication(&self) -> Result<(), ApiError> {
        let Some(intent) = self.handle.call(|machine| machine.home().publication())?? else {
            return Ok(());
        };
        let (keys, openings) = (keys_of(&intent)?, openings_in(&intent)?);
        let domain = self.open_own_published()?;
        let left = self.read(move |machine| unfinished(machine, domain, &keys, &openings))?;
        if !left.keys.is_empty() || !left.openings.is_empty() {
            let snapshot = self.public_snapshot(domain)?;
            let lineage = Lineage { openings: left.openings, ..Lineage::default() };
            let records = publication::records(&left.keys, &lineage, snapshot);
            self.handle.command(Command::Say(records))?;
        }
        self.drop_intent()
    }
}

fn unfinished(
    machine: &mut Machine,
    domain: DomainId,
    keys: &[ArtifactId],
    openings: &[(Opening, Option<ArtifactId>)],
) -> Result<Unfinished, ApiError> {
    let view = state(machine)?.current();
    let known = openings_of(&view)?;
    let mut recorded = BTreeSet::new();
    for key in keys {
        if view.artifact(key)?.is_some_and(|artifact| artifact.published.is_some()) {
            recorded.insert(*key);
        }
    }
    in_published(machine, &domain, |machine| {
        let view = state(machine)?.current();
        let told = publication::told_in(&view)?;
        let is_left = |key: &&ArtifactId| told.contains(key) && !recorded.contains(key);
        let keys = keys.iter().filter(is_left).copied().collect();
        let mut left = Vec::new();
        for (opening, receipt) in openings {
            let commitment = opening.commitment();
            let stands = match receipt {
                Some(receipt) => told.contains(receipt),
                None => !view.edges_at(&End::Blinded(commitment))?.is_empty(),
            };
            if stands && !known.contains_key(&commitment) {
                left.push(*opening);
            }
        }
        Ok(Unfinished { keys, openings: left })
    })
}
