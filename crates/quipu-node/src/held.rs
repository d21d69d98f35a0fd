//! What a machine holds: nothing yet, or a store.

use std::ops::Range;
use std::sync::Arc;

use quipu_core::event::{Event, Log, VerifiedEvent};
use quipu_core::history::{History, Ordinal, Outline, Place};
use quipu_core::id::{DomainId, EventId, NodeKey};
use quipu_store::{Disk, Store, StoreError, StoreOptions};

/// A store, or the disk on which one is made when the root event arrives.
#[derive(Debug)]
pub enum Held<D: Disk> {
    /// A machine that is joining.
    Nothing {
        /// Where the store will be.
        disk: Arc<D>,
        /// Its sizes.
        options: StoreOptions,
    },
    /// A machine with a log.
    Store(Box<Store<D>>),
}

impl<D: Disk> Held<D> {
    /// The store, if there is one.
    pub fn store(&self) -> Option<&Store<D>> {
        match self {
            Held::Nothing { .. } => None,
            Held::Store(store) => Some(store),
        }
    }

    /// The store, if there is one.
    pub fn store_mut(&mut self) -> Option<&mut Store<D>> {
        match self {
            Held::Nothing { .. } => None,
            Held::Store(store) => Some(store),
        }
    }

    /// The disk.
    pub fn disk(&self) -> &Arc<D> {
        match self {
            Held::Nothing { disk, .. } => disk,
            Held::Store(store) => store.disk(),
        }
    }

    /// Appends events; the first ever is the root, and makes the store.
    pub(crate) fn append(
        &mut self,
        log: Log,
        events: Vec<VerifiedEvent>,
    ) -> Result<(), StoreError> {
        let mut events = events.into_iter();
        if let Held::Nothing { disk, options } = self
            && let Some(root) = events.next()
        {
            let store = Store::create(disk.clone(), root, *options)?;
            *self = Held::Store(Box::new(store));
        }
        let rest: Vec<VerifiedEvent> = events.collect();
        match self.store_mut() {
            Some(store) if !rest.is_empty() => store.append(log, rest).map(|_| ()),
            _ => Ok(()),
        }
    }

    /// Opens the store if there is one on the disk.
    pub(crate) fn open(
        disk: Arc<D>,
        domain: DomainId,
        options: StoreOptions,
    ) -> Result<(Self, quipu_store::Recovery), StoreError> {
        match Store::open(disk.clone(), domain, options) {
            Ok((store, recovery)) => Ok((Held::Store(Box::new(store)), recovery)),
            Err(StoreError::Missing) => {
                Ok((Held::Nothing { disk, options }, quipu_store::Recovery::default()))
            }
            Err(error) => Err(error),
        }
    }
}

const NOTHING: StoreError = StoreError::Misuse("a read from a log that holds nothing");

impl<D: Disk> History for Held<D> {
    type Error = StoreError;

    fn count(&self, log: Log) -> u64 {
        self.store().map_or(0, |store| store.count(log))
    }

    fn find(&self, log: Log, id: &EventId) -> Result<Option<Ordinal>, StoreError> {
        self.store().map_or(Ok(None), |store| store.find(log, id))
    }

    fn id(&self, log: Log, ordinal: Ordinal) -> Result<EventId, StoreError> {
        self.store().ok_or(NOTHING)?.id(log, ordinal)
    }

    fn place(&self, log: Log, ordinal: Ordinal) -> Result<Place, StoreError> {
        self.store().ok_or(NOTHING)?.place(log, ordinal)
    }

    fn places(&self, log: Log, range: Range<Ordinal>) -> Result<Vec<Place>, StoreError> {
        self.store().ok_or(NOTHING)?.places(log, range)
    }

    fn events(&self, log: Log, range: Range<Ordinal>) -> Result<Vec<Event>, StoreError> {
        self.store().ok_or(NOTHING)?.events(log, range)
    }

    fn event(&self, log: Log, ordinal: Ordinal) -> Result<Event, StoreError> {
        self.store().ok_or(NOTHING)?.event(log, ordinal)
    }

    fn feed(
        &self,
        log: Log,
        author: &NodeKey,
        seqs: Range<u64>,
    ) -> Result<Vec<(u64, Ordinal)>, StoreError> {
        self.store().map_or(Ok(Vec::new()), |store| store.feed(log, author, seqs))
    }

    fn proof(&self, log: Log, end: &EventId) -> Result<Option<Vec<Event>>, StoreError> {
        self.store().map_or(Ok(None), |store| store.proof(log, end))
    }

    fn outline(&self, log: Log) -> Result<Outline, StoreError> {
        self.store().map_or(Ok(Outline::default()), |store| store.outline(log))
    }
}
