//! The machine's artifacts: files, and what keeps them.

use std::collections::BTreeSet;
use std::sync::Arc;

use quipu_artifact::{ArtifactStore, Error};
use quipu_core::event::Log;
use quipu_core::history::History;
use quipu_core::id::{ArtifactId, DomainId};
use quipu_core::node::Input;
use quipu_store::RealDisk;

use super::{Machine, Message, ServiceError};
use crate::artifacts::ArtifactPolicy;
use crate::driver::DriverError;
use crate::home::{ARTIFACT_INDEX_FILE, Home};
use crate::keeper::Keeper;
use crate::shelf::{Owner, Shelf, Shelved};

/// The files, or why there are none.
pub(super) type Files = Result<Arc<Shelf>, String>;

/// Opens the files of a machine. A machine whose artifacts cannot be opened still has its log.
pub(super) fn open(home: &Home, domain: DomainId) -> Files {
    let store = ArtifactStore::open(&home.artifacts_dir()).map_err(|error| error.to_string())?;
    let disk = RealDisk::new(home.dir()).map_err(|error| error.to_string())?;
    let shelf = Shelf::open(Arc::new(store), (Arc::new(disk), ARTIFACT_INDEX_FILE), domain);
    shelf.map(Arc::new).map_err(|error| error.to_string())
}

impl Machine {
    /// The artifacts of an owner. What becomes of parts is told to the loop.
    pub(super) fn keeper(&self, shelf: &Arc<Shelf>, owner: Owner) -> Keeper {
        let (sender, home) = (self.sender.clone(), self.driver.node().domain());
        let of =
            (owner != Owner { domain: home, visibility: Log::Internal }).then_some(owner.domain);
        let tell = move |input| drop(sender.send(Message::Stored(of, input)));
        Keeper::new(Shelved::new(shelf.clone(), owner), tell)
    }

    /// Gives the driver its artifacts.
    pub(super) fn connect_artifacts(&mut self) {
        match &self.artifacts {
            Ok(shelf) => {
                let domain = self.driver.node().domain();
                let owner = Owner { domain, visibility: Log::Internal };
                let keeper = self.keeper(shelf, owner);
                self.driver.set_artifacts(Box::new(keeper));
            }
            Err(error) => tracing::error!(error, "this machine has no artifacts"),
        }
    }

    /// The files of artifacts.
    ///
    /// # Errors
    /// If they could not be opened.
    pub fn artifact_store(&self) -> Result<&Arc<ArtifactStore>, ServiceError> {
        Ok(self.shelf()?.store())
    }

    /// The files of artifacts, and whose they are.
    ///
    /// # Errors
    /// If they could not be opened.
    pub fn shelf(&self) -> Result<&Arc<Shelf>, ServiceError> {
        self.artifacts.as_ref().map_err(|error| ServiceError::Artifacts(error.clone()))
    }

    /// The size of an artifact whose bytes are here, for the log in question.
    ///
    /// # Errors
    /// If the disk is at fault.
    pub fn artifact_size(&self, key: &ArtifactId) -> Result<Option<u64>, ServiceError> {
        self.shelf()?;
        Ok(self.driver.held().artifact_size(key)?)
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
        self.follow_policy_published(policy);
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
        self.own_artifact(key)?;
        *self.putting.entry(*key).or_default() += 1;
        self.unfinished = true;
        if let Err(error) = self.driver.input(Input::ArtifactHeld { key: *key, size }) {
            self.fail_all(&error.to_string());
        }
        Ok(())
    }

    /// Moves an artifact that came in a bundle to its place, for a log that tells of it.
    ///
    /// # Errors
    /// If there is no such import, or the disk is at fault.
    pub fn adopt_bundled(
        &mut self,
        of: Option<DomainId>,
        import: &str,
        key: &ArtifactId,
        size: u64,
    ) -> Result<(), ServiceError> {
        let Some(domain) = of else {
            self.adopt_artifact(import, key, size)?;
            self.let_go_of_artifact(key);
            return Ok(());
        };
        let owner = Owner { domain, visibility: Log::Published };
        // Before the bytes: else they would be this domain's own.
        self.shelf()?.announce(key, owner).map_err(shelf_error)?;
        self.artifact_store()?.adopt_named(import, key, size)?;
        // All of them came for this log.
        self.shelf()?.give(key, owner).map_err(shelf_error)?;
        self.shelf()?.arrived(key).map_err(shelf_error)?;
        self.unfinished = true;
        if let Err(error) = self.give(Some(domain), Input::ArtifactHeld { key: *key, size }) {
            self.fail_all(&error.to_string());
        }
        Ok(())
    }

    /// Makes an artifact whose bytes are here one of this domain's.
    ///
    /// # Errors
    /// If the disk is at fault.
    pub fn own_artifact(&self, key: &ArtifactId) -> Result<(), ServiceError> {
        self.shelf()?.give_home(key).map_err(shelf_error)
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

    /// What is held: by this domain, and by the published logs that are kept here.
    fn held_artifacts(&mut self) -> Result<BTreeSet<ArtifactId>, ServiceError> {
        let stopped = |error: DriverError| ServiceError::Stopped(error.to_string());
        let mut held = self.driver.held_artifacts().map_err(stopped)?;
        for domain in self.published_domains() {
            let published = self.focused(&domain, |machine| machine.driver.held_artifacts());
            held.extend(published.transpose().map_err(stopped)?.unwrap_or_default());
        }
        held.extend(self.states_of_others()?);
        Ok(held)
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
        let here = self.artifact_store()?.list()?.collect::<Result<Vec<(ArtifactId, u64)>, _>>()?;
        let held = self.held_artifacts()?;
        let is_free = |key: &ArtifactId| !held.contains(key) && !self.putting.contains_key(key);
        Ok(here.into_iter().filter(|(key, _)| is_free(key)).collect())
    }

    /// Removes an artifact's bytes.
    ///
    /// # Errors
    /// If the disk is at fault.
    pub fn remove_artifact(&mut self, key: &ArtifactId) -> Result<(), ServiceError> {
        self.artifact_store()?.remove(key)?;
        self.shelf()?.forget(key).map_err(shelf_error)
    }
}

fn shelf_error(error: std::io::Error) -> ServiceError {
    ServiceError::Artifacts(error.to_string())
}

impl From<Error> for ServiceError {
    fn from(error: Error) -> Self {
        Self::Artifact(error)
    }
}
