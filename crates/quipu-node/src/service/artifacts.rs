//! The machine's artifacts: files, and what keeps them.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::mpsc::SyncSender;

use quipu_artifact::{ArtifactStore, Error};
use quipu_core::id::ArtifactId;
use quipu_core::node::Input;

use super::{Machine, Message, ServiceError};
use crate::artifacts::ArtifactPolicy;
use crate::driver::DriverError;
use crate::home::Home;
use crate::keeper::Keeper;

/// The files, or why there are none.
pub(super) type Files = Result<Arc<ArtifactStore>, String>;

/// Opens the files of a machine. A machine whose artifacts cannot be opened still has its log.
pub(super) fn open(home: &Home) -> Files {
    let store = ArtifactStore::open(&home.artifacts_dir()).map_err(|error| error.to_string())?;
    Ok(Arc::new(store))
}

impl Machine {
    /// Gives the driver its artifacts. What becomes of parts is told to the loop.
    pub(super) fn connect_artifacts(&mut self, sender: SyncSender<Message>) {
        let tell = move |input| drop(sender.send(Message::Stored(input)));
        match &self.artifacts {
            Ok(store) => self.driver.set_artifacts(Box::new(Keeper::new(store.clone(), tell))),
            Err(error) => tracing::error!(error, "this machine has no artifacts"),
        }
    }

    /// The files of artifacts.
    ///
    /// # Errors
    /// If they could not be opened.
    pub fn artifact_store(&self) -> Result<&Arc<ArtifactStore>, ServiceError> {
        self.artifacts.as_ref().map_err(|error| ServiceError::Artifacts(error.clone()))
    }

    /// The size of an artifact whose bytes are here.
    ///
    /// # Errors
    /// If the disk is at fault.
    pub fn artifact_size(&self, key: &ArtifactId) -> Result<Option<u64>, ServiceError> {
        Ok(self.artifact_store()?.size(key)?)
    }

    /// Whether an artifact's bytes are here.
    ///
    /// # Errors
    /// If the disk is at fault.
    pub fn has_artifact(&self, key: &ArtifactId) -> Result<bool, ServiceError> {
        Ok(self.artifact_size(key)?.is_some())
    }

    /// Fetches artifacts by the machine's policy from now on.
    ///
    /// # Errors
    /// If the disk is at fault.
    pub fn follow_policy(&mut self, policy: ArtifactPolicy) -> Result<(), DriverError> {
        self.unfinished = true;
        self.driver.fetch_artifacts(policy)
    }

    /// Fetches an artifact from whoever is met next.
    pub fn want_artifact(&mut self, key: ArtifactId) {
        self.unfinished = true;
        if let Err(error) = self.driver.input(Input::Want { key, missing: None }) {
            self.fail_all(&error.to_string());
        }
    }

    /// Moves what a client has imported to its place. Until [`Self::let_go_of_artifact`] it is not
    /// collected, although no event tells of it yet.
    ///
    /// # Errors
    /// If there is no such import, or the disk is at fault.
    pub fn adopt_artifact(
        &mut self,
        import: &str,
        key: &ArtifactId,
        size: u64,
    ) -> Result<(), ServiceError> {
        self.artifact_store()?.adopt_named(import, key, size)?;
        *self.putting.entry(*key).or_default() += 1;
        self.unfinished = true;
        if let Err(error) = self.driver.input(Input::ArtifactHeld { key: *key, size }) {
            self.fail_all(&error.to_string());
        }
        Ok(())
    }

    /// The event that tells of an artifact is written, or will not be.
    pub fn let_go_of_artifact(&mut self, key: &ArtifactId) {
        if let Some(count) = self.putting.get_mut(key) {
            *count -= 1;
            if *count == 0 {
                self.putting.remove(key);
            }
        }
    }

    fn held_artifacts(&mut self) -> Result<BTreeSet<ArtifactId>, ServiceError> {
        let held = self.driver.held_artifacts();
        held.map_err(|error| ServiceError::Stopped(error.to_string()))
    }

    /// Removes what interrupted imports left, and begun artifacts that nothing holds.
    ///
    /// # Errors
    /// If the disk is at fault.
    pub fn clean_artifacts(&mut self) -> Result<(), ServiceError> {
        let held = self.held_artifacts()?;
        let store = self.artifact_store()?;
        for key in store.partials()? {
            if !held.contains(&key) {
                store.drop_partial(&key)?;
            }
        }
        let removed = store.clean()?;
        tracing::info!(removed, "files of interrupted imports and transfers");
        Ok(())
    }

    /// Artifacts here that nothing holds, with their sizes.
    ///
    /// # Errors
    /// If the disk is at fault.
    pub fn free_artifacts(&mut self) -> Result<Vec<(ArtifactId, u64)>, ServiceError> {
        let here = self.artifact_store()?.list()?.collect::<Result<_, _>>()?;
        self.driver
            .free_artifacts(here, &self.putting)
            .map_err(|error| ServiceError::Stopped(error.to_string()))
    }

    /// Removes an artifact's bytes.
    ///
    /// # Errors
    /// If the disk is at fault.
    pub fn remove_artifact(&mut self, key: &ArtifactId) -> Result<(), ServiceError> {
        self.artifact_store()?.remove(key)?;
        Ok(())
    }
}

impl From<Error> for ServiceError {
    fn from(error: Error) -> Self {
        Self::Artifact(error)
    }
}
