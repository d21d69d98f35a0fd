//! A full check of a store.
use std::sync::Arc;

use quipu_core::id::DomainId;

use crate::disk::Disk;
use crate::error::{StoreError, Verification};
use crate::options::StoreOptions;
use crate::store::Store;

impl<D: Disk> Store<D> {
    /// Checks everything that can be checked.
    pub fn verify(&self, progress: &mut dyn FnMut(u64, u64)) -> Verification {
        progress(0, 0);
        unimplemented!()
    }

    /// Salvages what is readable.
    pub fn rebuild(
        _disk: Arc<D>,
        _domain: DomainId,
        _options: StoreOptions,
    ) -> Result<(Self, Verification), StoreError> {
        unimplemented!()
    }
}
