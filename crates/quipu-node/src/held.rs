//! What a machine holds: a log or none yet, and artifacts.

use std::ops::Range;
use std::sync::Arc;

use quipu_core::event::{Event, Log, VerifiedEvent};
use quipu_core::history::{History, Missing, Ordinal, Outline, Place};
use quipu_core::id::{ArtifactId, DomainId, EventId, NodeKey};
use quipu_store::{Disk, Store, StoreError, StoreOptions};

use crate::artifacts::{Artifacts, NoArtifacts};

/// What a machine holds.
#[derive(Debug)]
pub struct Held<D: Disk> {
    log: HeldLog<D>,
    pub(crate) artifacts: Box<dyn Artifacts>,
}

/// A store, or the disk on which one is made when the root event arrives.
#[derive(Debug)]
enum HeldLog<D: Disk> {
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
        match &self.log {
            HeldLog::Nothing { .. } => None,
            HeldLog::Store(store) => Some(store),
        }
    }

    /// The store, if there is one.
    pub fn store_mut(&mut self) -> Option<&mut Store<D>> {
        match &mut self.log {
            HeldLog::Nothing { .. } => None,
            HeldLog::Store(store) => Some(store),
        }
    }

    /// The log to read, and the artifacts to write.
    pub(crate) fn parts(&mut self) -> (Option<&Store<D>>, &mut dyn Artifacts) {
        let store = match &self.log {
            HeldLog::Nothing { .. } => None,
            HeldLog::Store(store) => Some(&**store),
        };
        (store, &mut *self.artifacts)
    }

    /// The disk.
    pub fn disk(&self) -> &Arc<D> {
        match &self.log {
            HeldLog::Nothing { disk, .. } => disk,
            HeldLog::Store(store) => store.disk(),
        }
    }

    /// Appends events; the first ever is the root, and makes the store.
    pub(crate) fn append(
        &mut self,
        log: Log,
        events: Vec<VerifiedEvent>,
    ) -> Result<(), StoreError> {
        let mut events = events.into_iter();
        if let HeldLog::Nothing { disk, options } = &self.log
            && let Some(root) = events.next()
        {
            let store = Store::create(disk.clone(), log, root, *options)?;
            self.log = HeldLog::Store(Box::new(store));
        }
        let rest: Vec<VerifiedEvent> = events.collect();
        match self.store_mut() {
            Some(store) if !rest.is_empty() => store.append(log, rest).map(|_| ()),
            _ => Ok(()),
        }
    }

    /// Opens the store if there is one on the disk. No artifacts are held.
    pub(crate) fn open(
        disk: Arc<D>,
        domain: DomainId,
        options: StoreOptions,
    ) -> Result<(Self, quipu_store::Recovery), StoreError> {
        let (log, recovery) = match Store::open(disk.clone(), domain, options) {
            Ok((store, recovery)) => (HeldLog::Store(Box::new(store)), recovery),
            Err(StoreError::Missing) => {
                (HeldLog::Nothing { disk, options }, quipu_store::Recovery::default())
            }
            Err(error) => return Err(error),
        };
        Ok((Self { log, artifacts: Box::new(NoArtifacts) }, recovery))
    }
}

/// An artifact that cannot be read counts as not held: the log is not to blame, and others have it.
fn readable<T>(key: &ArtifactId, read: std::io::Result<Option<T>>) -> Option<T> {
    read.unwrap_or_else(|error| {
        tracing::warn!(%key, %error, "artifact cannot be read");
        None
    })
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

    fn artifact_size(&self, key: &ArtifactId) -> Result<Option<u64>, StoreError> {
        Ok(readable(key, self.artifacts.size(key)))
    }

    fn artifact_part(
        &self,
        key: &ArtifactId,
        groups: Range<u64>,
    ) -> Result<Option<(u64, Vec<u8>)>, StoreError> {
        Ok(readable(key, self.artifacts.read_part(key, groups)))
    }

    fn artifact_missing(&self, key: &ArtifactId) -> Result<Option<Missing>, StoreError> {
        Ok(readable(key, self.artifacts.missing(key)))
    }
}
