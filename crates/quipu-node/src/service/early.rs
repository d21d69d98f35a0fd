//! Answering from a snapshot's state before the log is here (LOG-9).

use std::collections::BTreeSet;

use quipu_core::event::Log;
use quipu_core::history::History;
use quipu_core::id::{ArtifactId, EventId};

use super::{Machine, ServiceError};
use crate::home::EarlyState;
use crate::newcomer::{Early, EarlyError};

impl Machine {
    /// Reads and verifies the state that a peer offered and that is here by now, and keeps it for
    /// the next start. Answers the snapshot and how many events of it are here; nothing if no state
    /// was offered.
    ///
    /// # Errors
    /// If it is not what it says, or the disk is at fault.
    pub fn take_early(&mut self) -> Result<Option<(EventId, usize)>, ServiceError> {
        let Some(offer) = self.offered_state.take() else { return Ok(None) };
        let kept = EarlyState { key: offer.key.to_string(), proof: offer.proof };
        self.early = Some(self.read_early(&kept)?);
        self.home.set_early(&kept).map_err(|error| ServiceError::Stopped(error.to_string()))?;
        Ok(self.early.as_ref().map(|early| (early.snapshot, early.events.len())))
    }

    fn read_early(&self, kept: &EarlyState) -> Result<Early, ServiceError> {
        let wrong = |_| EarlyError::Wrong("its key is no artifact key".to_owned());
        let key = kept.key.parse().map_err(wrong)?;
        let file = self.artifact_store()?.open_verified(&key)?;
        let file = std::io::BufReader::with_capacity(1 << 20, file);
        Ok(Early::read(&kept.proof, file, &self.driver.node().domain())?)
    }

    /// At a start: goes on with a state from an earlier life, if the log is not here yet.
    pub(super) fn open_early(&mut self) {
        let Some(kept) = self.home.early() else { return };
        match self.read_early(&kept) {
            Ok(early) => self.early = Some(early),
            Err(error) => tracing::warn!(%error, "the state of a snapshot is left out"),
        }
    }

    /// The artifacts with a snapshot's state that this machine answers from, or that it is to fetch
    /// from a peer. No event tells of them.
    pub(super) fn states_of_others(&mut self) -> Result<BTreeSet<ArtifactId>, ServiceError> {
        let offered = self.offered_state.as_ref().map(|offer| offer.key);
        let mut states: BTreeSet<ArtifactId> = offered.into_iter().collect();
        if self.early()?.is_some() {
            states.extend(self.home.early().and_then(|kept| kept.key.parse::<ArtifactId>().ok()));
        }
        Ok(states)
    }

    /// The state to answer from, as long as the log does not have its snapshot.
    ///
    /// # Errors
    /// If the disk is at fault.
    pub fn early(&mut self) -> Result<Option<&Early>, ServiceError> {
        if self.focused {
            return Ok(None);
        }
        let Some(early) = &self.early else { return Ok(None) };
        if self.driver.held().find(Log::Internal, &early.snapshot)?.is_some() {
            self.early = None;
            self.home.forget_early();
        }
        Ok(self.early.as_ref())
    }
}
