//! The store: the two logs of a domain on one disk.

use std::ops::Range;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use quipu_core::codec::pack::assemble_known;
use quipu_core::codec::v1::split_payload;
use quipu_core::event::{Event, Log, VerifiedEvent};
use quipu_core::history::{History, Ordinal, Outline, Place};
use quipu_core::id::{DomainId, EventId, NodeKey};

use crate::block::{Block, file_names};
use crate::cache::Cache;
use crate::disk::{Disk, LockError};
use crate::error::{Recovery, StoreError, StoreStats};
use crate::log::{LogFiles, Spot};
use crate::open::{find_files, open_log};
use crate::options::StoreOptions;
use crate::seal::{SealJob, Sealed};

/// Events in one answer of [`History::events`] from memory, at most.
const EVENTS_MAX: usize = 1024;
/// Where a rebuild prepares its work. A store that has this directory is between two states.
pub(crate) const REBUILD_DIR: &str = "rebuild";

/// The two logs of a domain on a disk.
///
/// Events are visible from [`Store::append`] on and durable from [`Store::commit`] on. Reads never
/// fail because of an earlier write; after a failed write, every later one fails too until the
/// store is opened again.
pub struct Store<D: Disk> {
    pub(crate) disk: Arc<D>,
    pub(crate) domain: DomainId,
    pub(crate) logs: [LogFiles<D>; 2],
    cache: Mutex<Cache>,
    poison: Option<String>,
    _lock: D::Lock,
}

impl<D: Disk> std::fmt::Debug for Store<D> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Store")
            .field("domain", &self.domain)
            .field("poison", &self.poison)
            .finish_non_exhaustive()
    }
}

pub(crate) fn take_lock<D: Disk>(disk: &D) -> Result<D::Lock, StoreError> {
    disk.lock().map_err(|error| match error {
        LockError::Held { pid } => StoreError::Locked { pid },
        LockError::Io(error) => StoreError::io("lock", "lock", error),
    })
}

/// Whether there is anything of a store on the disk.
pub(crate) fn exists<D: Disk>(disk: &D) -> Result<bool, StoreError> {
    for log in Log::ALL {
        let (numbers, _) = find_files(disk, log)?;
        if !numbers.is_empty() {
            return Ok(true);
        }
    }
    Ok(!rebuild_files(disk)?.is_empty())
}

fn rebuild_files<D: Disk>(disk: &D) -> Result<Vec<String>, StoreError> {
    disk.list(REBUILD_DIR).map_err(|error| StoreError::io("list", REBUILD_DIR, error))
}

impl<D: Disk> Store<D> {
    /// Creates a store that holds a domain's root event, durably, as the first of a log.
    pub fn create(
        disk: Arc<D>,
        log: Log,
        root: VerifiedEvent,
        options: StoreOptions,
    ) -> Result<Self, StoreError> {
        let lock = take_lock(&*disk)?;
        if exists(&*disk)? {
            return Err(StoreError::Exists);
        }
        for log in Log::ALL {
            let dir = log.name();
            disk.create_dir(dir).map_err(|error| StoreError::io("create", dir, error))?;
        }
        disk.sync_dir("").map_err(|error| StoreError::io("sync", "the directory", error))?;
        let domain = root.id.into();
        let logs = Log::ALL.map(|log| LogFiles::new(disk.clone(), domain, log, options));
        let mut store = Self::assemble(disk, domain, options, logs, lock);
        store.append(log, vec![root])?;
        store.commit()?;
        Ok(store)
    }

    /// Opens a store, and repairs what an interrupted operation left behind.
    pub fn open(
        disk: Arc<D>,
        domain: DomainId,
        options: StoreOptions,
    ) -> Result<(Self, Recovery), StoreError> {
        let lock = take_lock(&*disk)?;
        if !exists(&*disk)? {
            return Err(StoreError::Missing);
        }
        if !rebuild_files(&*disk)?.is_empty() {
            return Err(StoreError::corrupt(REBUILD_DIR, 0, "a rebuild was interrupted"));
        }
        Self::open_locked(disk, domain, options, lock)
    }

    pub(crate) fn open_locked(
        disk: Arc<D>,
        domain: DomainId,
        options: StoreOptions,
        lock: D::Lock,
    ) -> Result<(Self, Recovery), StoreError> {
        let mut recovery = Recovery::default();
        let mut open = |log| open_log(disk.clone(), domain, log, options, &mut recovery);
        let logs = [open(Log::Internal)?, open(Log::Published)?];
        Ok((Self::assemble(disk, domain, options, logs, lock), recovery))
    }

    fn assemble(
        disk: Arc<D>,
        domain: DomainId,
        options: StoreOptions,
        logs: [LogFiles<D>; 2],
        lock: D::Lock,
    ) -> Self {
        let cache = Mutex::new(Cache::new(options.cache_bytes));
        Self { disk, domain, logs, cache, poison: None, _lock: lock }
    }

    /// The domain.
    pub fn domain(&self) -> DomainId {
        self.domain
    }

    /// The disk.
    pub fn disk(&self) -> &Arc<D> {
        &self.disk
    }

    /// Adds events, each after those it links to, none of which is held yet. They are visible at
    /// once, and durable after [`Store::commit`].
    pub fn append(
        &mut self,
        log: Log,
        events: Vec<VerifiedEvent>,
    ) -> Result<Range<Ordinal>, StoreError> {
        self.check_poison()?;
        let packable = |event: &VerifiedEvent| {
            event.payload.as_ref().is_none_or(|payload| split_payload(payload).is_some())
        };
        if !events.iter().all(packable) {
            return Err(StoreError::Misuse("a payload is not a list of salt and value"));
        }
        self.files_mut(log).append(events.into_iter().map(VerifiedEvent::into_event))
    }

    /// Keeps events that are not in the log, but prove who wrote the end of a feed that is. Visible
    /// at once, durable after [`Store::commit`].
    pub fn prove(&mut self, log: Log, end: EventId, proof: &[Event]) {
        self.files_mut(log).proofs.put(end, proof);
    }

    /// Makes everything durable that was appended: for each log that has something new, one write
    /// and one fsync; and before that the same for new proofs, which are rare.
    pub fn commit(&mut self) -> Result<(), StoreError> {
        self.write(|store| {
            store.logs.iter_mut().try_for_each(|files| {
                files.proofs.commit(&*files.disk)?;
                files.active.commit(&*files.disk)?;
                files.proofs.clean(&*files.disk)
            })
        })
    }

    /// The work of sealing a block, if a log has one over its limit and none is under way. Call it
    /// after [`Store::commit`] and after [`Store::finish_seal`].
    pub fn seal_job(&mut self) -> Option<SealJob<D>> {
        match self.poison {
            Some(_) => None,
            None => self.logs.iter_mut().find_map(LogFiles::seal_job),
        }
    }

    /// Puts a block that its job has written in its place.
    pub fn finish_seal(&mut self, sealed: Sealed) -> Result<(), StoreError> {
        self.write(|store| store.files_mut(sealed.log).finish_seal(sealed.number))
    }

    /// Removes the payload of an event from memory and from every file; when this returns, it is
    /// gone. The event keeps what it says of its payload. Answers how many bytes it had: none if
    /// it was gone before.
    pub fn erase(&mut self, log: Log, ordinal: Ordinal) -> Result<u64, StoreError> {
        self.write(|store| store.erase_unless_poisoned(log, ordinal))
    }

    fn erase_unless_poisoned(&mut self, log: Log, ordinal: Ordinal) -> Result<u64, StoreError> {
        let payload = self.event(log, ordinal)?.payload;
        let Some(payload) = payload else { return Ok(0) };
        let files = self.files_mut(log);
        let disk = files.disk.clone();
        let active = &mut files.active;
        if let Some(position) = ordinal.checked_sub(active.info.first) {
            return active.erase(&*disk, position as usize);
        }
        let frozen = files.frozen.iter_mut().rev().find(|frozen| frozen.info.first <= ordinal);
        if let Some(frozen) = frozen {
            return frozen.erase(&*disk, (ordinal - frozen.info.first) as usize);
        }
        let number = files.blocks.partition_point(|block| block.first() + block.len() <= ordinal);
        if let Some(block) = files.blocks.get_mut(number) {
            let position = (ordinal - block.first()) as u32;
            erase_in_block(&*disk, block, position)?;
            let (number, page) = (block.number(), block.page_of(position));
            self.cache().forget_payloads(log, number, page);
        }
        Ok(payload.len() as u64)
    }

    /// Numbers about the store.
    pub fn stats(&self) -> StoreStats {
        let mut stats = StoreStats::default();
        for files in &self.logs {
            stats.events += files.count();
            stats.blocks += files.blocks.len() as u64;
            stats.active_events +=
                files.memories().map(|(_, m)| m.events.len() as u64).sum::<u64>();
            let dir = files.log().name();
            for name in self.disk.list(dir).unwrap_or_default() {
                stats.disk_bytes += self.disk.size(&format!("{dir}/{name}")).unwrap_or_default();
            }
        }
        stats
    }

    pub(crate) fn files(&self, log: Log) -> &LogFiles<D> {
        &self.logs[usize::from(log == Log::Published)]
    }

    fn files_mut(&mut self, log: Log) -> &mut LogFiles<D> {
        &mut self.logs[usize::from(log == Log::Published)]
    }

    fn cache(&self) -> MutexGuard<'_, Cache> {
        self.cache.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn check_poison(&self) -> Result<(), StoreError> {
        match &self.poison {
            Some(first) => Err(StoreError::Poisoned { first: first.clone() }),
            None => Ok(()),
        }
    }

    /// Runs something that writes. Once the disk has refused, nobody knows what is on it.
    fn write<T>(
        &mut self,
        work: impl FnOnce(&mut Self) -> Result<T, StoreError>,
    ) -> Result<T, StoreError> {
        self.check_poison()?;
        let result = work(self);
        if let Err(error @ (StoreError::Io { .. } | StoreError::Full { .. })) = &result {
            self.poison = Some(error.to_string());
        }
        result
    }

    /// Whole events of a page, from a position on and up to an end.
    fn events_of_page(
        &self,
        block: &Block,
        position: u32,
        end: u32,
    ) -> Result<Vec<Event>, StoreError> {
        let page = block.page_of(position);
        let (heads, payloads) = {
            let mut cache = self.cache();
            (cache.heads(block, page)?, cache.payloads(block, page)?)
        };
        let range = block.page_range(page);
        let (ids, end) = (block.ids(), end.min(range.end));
        let whole = |position: u32| {
            let index = (position - range.start) as usize;
            let (head, signature) = heads.get(index)?;
            let part = payloads.get(index)?.clone();
            let id = EventId(*ids.get(position as usize)?);
            Some(assemble_known(id, head.clone(), part, *signature))
        };
        (position..end).map(whole).collect::<Option<_>>().ok_or_else(|| {
            StoreError::corrupt(block.path(), 0, format!("page {page} has too few events"))
        })
    }
}

fn erase_in_block<D: Disk>(disk: &D, block: &mut Block, position: u32) -> Result<(), StoreError> {
    let bytes = block.without_payload(position)?;
    let (_, path) = file_names(&block.info());
    let (aside, dir) = (format!("{path}.tmp"), block.log().name());
    disk.write_new(&aside, &bytes).map_err(|error| StoreError::io("write", &aside, error))?;
    disk.rename(&aside, &path).map_err(|error| StoreError::io("rename", &aside, error))?;
    disk.sync_dir(dir).map_err(|error| StoreError::io("sync", dir, error))?;
    block.reopen_payload(disk, &path)
}

impl<D: Disk> History for Store<D> {
    type Error = StoreError;

    fn count(&self, log: Log) -> u64 {
        self.files(log).count()
    }

    fn find(&self, log: Log, id: &EventId) -> Result<Option<Ordinal>, StoreError> {
        Ok(self.files(log).find(id))
    }

    fn id(&self, log: Log, ordinal: Ordinal) -> Result<EventId, StoreError> {
        match self.files(log).spot(ordinal)? {
            Spot::Memory(memory, position) => Ok(memory.events[position].id),
            Spot::Block(block, position) => {
                let missing = || StoreError::OutOfRange { log, ordinal, count: self.count(log) };
                block.ids().get(position as usize).map(|id| EventId(*id)).ok_or_else(missing)
            }
        }
    }

    fn place(&self, log: Log, ordinal: Ordinal) -> Result<Place, StoreError> {
        let missing = || StoreError::OutOfRange { log, ordinal, count: self.count(log) };
        self.places(log, ordinal..ordinal.saturating_add(1))?.pop().ok_or_else(missing)
    }

    fn places(&self, log: Log, range: Range<Ordinal>) -> Result<Vec<Place>, StoreError> {
        let mut out = Vec::new();
        let mut next = range.start;
        while next < range.end {
            let before = out.len();
            match self.files(log).spot(next)? {
                Spot::Memory(memory, position) => {
                    let wanted = usize::try_from(range.end - next).unwrap_or(usize::MAX);
                    let events = memory.events[position..].iter().take(wanted);
                    out.extend(events.map(|e| Place { id: e.id, head: e.header.head.clone() }));
                }
                Spot::Block(block, position) => {
                    let page = block.page_of(position);
                    let heads = self.cache().heads(block, page)?;
                    let positions = block.page_range(page);
                    let wanted = usize::try_from(range.end - next).unwrap_or(usize::MAX);
                    let ids = block.ids().iter().skip(position as usize);
                    let heads = heads.iter().skip((position - positions.start) as usize);
                    let places = ids.zip(heads).take(wanted);
                    out.extend(
                        places
                            .map(|(id, (head, _))| Place { id: EventId(*id), head: head.clone() }),
                    );
                }
            }
            if out.len() == before {
                return Err(StoreError::OutOfRange { log, ordinal: next, count: self.count(log) });
            }
            next += (out.len() - before) as u64;
        }
        Ok(out)
    }

    fn events(&self, log: Log, range: Range<Ordinal>) -> Result<Vec<Event>, StoreError> {
        if range.is_empty() {
            return Ok(Vec::new());
        }
        let wanted = range.end - range.start;
        match self.files(log).spot(range.start)? {
            Spot::Memory(memory, position) => {
                let wanted = usize::try_from(wanted).unwrap_or(usize::MAX).min(EVENTS_MAX);
                Ok(memory.events[position..].iter().take(wanted).cloned().collect())
            }
            Spot::Block(block, position) => {
                let end = u64::from(position).saturating_add(wanted);
                self.events_of_page(block, position, u32::try_from(end).unwrap_or(u32::MAX))
            }
        }
    }

    fn event(&self, log: Log, ordinal: Ordinal) -> Result<Event, StoreError> {
        let missing = || StoreError::OutOfRange { log, ordinal, count: self.count(log) };
        self.events(log, ordinal..ordinal.saturating_add(1))?.pop().ok_or_else(missing)
    }

    fn feed(
        &self,
        log: Log,
        author: &NodeKey,
        seqs: Range<u64>,
    ) -> Result<Vec<(u64, Ordinal)>, StoreError> {
        self.files(log).feed(author, &seqs)
    }

    fn proof(&self, log: Log, end: &EventId) -> Result<Option<Vec<Event>>, StoreError> {
        self.files(log).proofs.get(end, &self.domain)
    }

    fn outline(&self, log: Log) -> Result<Outline, StoreError> {
        self.files(log).outline()
    }
}
