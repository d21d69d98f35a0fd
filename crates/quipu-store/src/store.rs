//! The store.

use std::ops::Range;
use std::sync::Arc;

use quipu_core::event::{Event, Log, VerifiedEvent};
use quipu_core::history::{History, Ordinal, Outline, Place};
use quipu_core::id::{DomainId, EventId, NodeKey};

use crate::disk::Disk;
use crate::error::{Recovery, StoreError, StoreStats, Verification};
use crate::options::StoreOptions;

/// The two logs of a domain on a disk.
#[derive(Debug)]
pub struct Store<D: Disk> {
    disk: Arc<D>,
}

/// The work of sealing one block.
#[derive(Debug)]
pub struct SealJob<D: Disk> {
    disk: Arc<D>,
}

/// A block that was written and waits to be put in its place.
#[derive(Debug)]
pub struct Sealed {}

impl<D: Disk> SealJob<D> {
    /// Writes the block aside. May run on any thread.
    pub fn run(self) -> Result<Sealed, StoreError> {
        let _ = self.disk;
        unimplemented!()
    }
}

#[expect(unused_variables, reason = "skeleton")]
impl<D: Disk> Store<D> {
    /// Creates a store that holds a domain's root event, durably.
    pub fn create(
        disk: Arc<D>,
        root: VerifiedEvent,
        options: StoreOptions,
    ) -> Result<Self, StoreError> {
        unimplemented!()
    }

    /// Opens a store and repairs what an interrupted write left behind.
    pub fn open(
        disk: Arc<D>,
        domain: DomainId,
        options: StoreOptions,
    ) -> Result<(Self, Recovery), StoreError> {
        unimplemented!()
    }

    /// The domain.
    pub fn domain(&self) -> DomainId {
        unimplemented!()
    }

    /// Adds events, each after those it links to. They are visible at once, and durable after
    /// [`Store::commit`].
    pub fn append(
        &mut self,
        log: Log,
        events: Vec<VerifiedEvent>,
    ) -> Result<Range<Ordinal>, StoreError> {
        unimplemented!()
    }

    /// Makes everything durable that was appended: one write and one fsync for each log.
    pub fn commit(&mut self) -> Result<(), StoreError> {
        unimplemented!()
    }

    /// The work of sealing a block, if there is one over its limit. Call it after `commit`.
    pub fn seal_job(&mut self) -> Option<SealJob<D>> {
        unimplemented!()
    }

    /// Puts a sealed block in its place.
    pub fn finish_seal(&mut self, sealed: Sealed) -> Result<(), StoreError> {
        unimplemented!()
    }

    /// Removes the payload of an event from every file. Answers how many bytes it had.
    pub fn erase(&mut self, log: Log, ordinal: Ordinal) -> Result<u64, StoreError> {
        unimplemented!()
    }

    /// Checks everything that can be checked.
    pub fn verify(&self, progress: &mut dyn FnMut(u64, u64)) -> Verification {
        unimplemented!()
    }

    /// Salvages what is readable.
    pub fn rebuild(
        disk: Arc<D>,
        domain: DomainId,
        options: StoreOptions,
    ) -> Result<(Self, Verification), StoreError> {
        unimplemented!()
    }

    /// Numbers about the store.
    pub fn stats(&self) -> StoreStats {
        unimplemented!()
    }
}

#[expect(unused_variables, reason = "skeleton")]
impl<D: Disk> History for Store<D> {
    type Error = StoreError;

    fn count(&self, log: Log) -> u64 {
        let _ = &self.disk;
        unimplemented!()
    }
    fn find(&self, log: Log, id: &EventId) -> Result<Option<Ordinal>, StoreError> {
        unimplemented!()
    }
    fn place(&self, log: Log, ordinal: Ordinal) -> Result<Place, StoreError> {
        unimplemented!()
    }
    fn events(&self, log: Log, range: Range<Ordinal>) -> Result<Vec<Event>, StoreError> {
        unimplemented!()
    }
    fn event(&self, log: Log, ordinal: Ordinal) -> Result<Event, StoreError> {
        unimplemented!()
    }
    fn feed(
        &self,
        log: Log,
        author: &NodeKey,
        seqs: Range<u64>,
    ) -> Result<Vec<(u64, Ordinal)>, StoreError> {
        unimplemented!()
    }
    fn outline(&self, log: Log) -> Result<Outline, StoreError> {
        unimplemented!()
    }
}
