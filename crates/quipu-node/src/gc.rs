//! Which artifacts are held, and by what (ART-9). What nothing holds may be collected.

use std::collections::{BTreeMap, BTreeSet};

use quipu_core::id::ArtifactId;
use quipu_state::{SnapshotAt, View};
use quipu_store::Disk;

use crate::driver::{Clock, Driver, DriverError, Links};

/// The artifacts that a view holds: those that are visible, pinned or published.
fn held_by(view: &View<'_>) -> Result<impl Iterator<Item = ArtifactId>, DriverError> {
    let all = view.artifacts()?;
    Ok(all
        .into_values()
        .filter(|one| one.is_visible() || one.pinned || one.published.is_some())
        .map(|one| one.key))
}

impl<D: Disk, C: Clock, L: Links> Driver<D, C, L> {
    /// The snapshots that nobody dropped.
    ///
    /// # Errors
    /// If the disk is at fault.
    pub fn retained_snapshots(&mut self) -> Result<Vec<SnapshotAt>, DriverError> {
        self.asking(Self::not_dropped)
    }

    fn not_dropped(&mut self) -> Result<Vec<SnapshotAt>, DriverError> {
        let all = self.catch_up()?.snapshots().to_vec();
        let mut retained = Vec::with_capacity(all.len());
        for snapshot in all {
            if !self.state().current().is_dropped(&snapshot.id)? {
                retained.push(snapshot);
            }
        }
        Ok(retained)
    }

    /// Every artifact that CURRENT, a retained snapshot or a pin holds, and the state that was offered
    /// to a newcomer last.
    ///
    /// # Errors
    /// If the disk is at fault.
    pub fn held_artifacts(&mut self) -> Result<BTreeSet<ArtifactId>, DriverError> {
        self.asking(Self::held_by_all)
    }

    fn held_by_all(&mut self) -> Result<BTreeSet<ArtifactId>, DriverError> {
        let mut held: BTreeSet<ArtifactId> = held_by(&self.catch_up()?.current())?.collect();
        for snapshot in self.retained_snapshots()? {
            held.extend(held_by(&self.state_at(&snapshot.id)?)?);
        }
        // A newcomer may be about to fetch it.
        held.extend(self.offered.as_ref().map(|(_, offer)| offer.key));
        Ok(held)
    }

    /// Of artifacts that are here, those that nothing holds. `putting` has those that are being put:
    /// no event tells of them yet.
    ///
    /// # Errors
    /// If the disk is at fault.
    pub fn free_artifacts(
        &mut self,
        mut here: Vec<(ArtifactId, u64)>,
        putting: &BTreeMap<ArtifactId, u32>,
    ) -> Result<Vec<(ArtifactId, u64)>, DriverError> {
        let held = self.held_artifacts()?;
        here.retain(|(key, _)| !held.contains(key) && !putting.contains_key(key));
        Ok(here)
    }
}
