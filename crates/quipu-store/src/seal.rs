//! Sealing: a full active file becomes a block.
//!
//! The work is done by a job that may run on another thread: it writes the block's two files aside.
//! Putting them in their place is left to the store. At every moment either the active file or the
//! whole block is on the disk.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

use quipu_core::event::Log;

use crate::active::{active_path, rewrite};
use crate::block::{Block, BlockInfo, encode_block, file_names};
use crate::disk::Disk;
use crate::error::StoreError;
use crate::memory::Memory;

/// A full active file that takes no more events.
#[derive(Debug)]
pub(crate) struct Frozen {
    pub(crate) info: BlockInfo,
    pub(crate) memory: Arc<Memory>,
    shared: Arc<Mutex<Shared>>,
    /// Alive while a job is under way.
    job: Weak<()>,
}

/// What the store and the job share. Locked while the job writes, so that an erasure comes either
/// before or after.
#[derive(Debug)]
struct Shared {
    memory: Arc<Memory>,
    page_events: usize,
    /// Whether the files lie aside.
    written: bool,
}

impl Shared {
    fn write<D: Disk>(&mut self, disk: &D, info: &BlockInfo) -> Result<(), StoreError> {
        let (block, payload) = encode_block(info, &self.memory, self.page_events);
        let (block_path, payload_path) = file_names(info);
        let files =
            [(format!("{block_path}.tmp"), block), (format!("{payload_path}.tmp"), payload)];
        let write = |(path, bytes): &(String, Vec<u8>)| {
            disk.write_new(path, bytes).map_err(|error| StoreError::io("write", path, error))
        };
        let result = files.iter().try_for_each(write);
        if result.is_err() {
            // Half a file is of no use, and may hold what is erased next. If it cannot be removed
            // now, the next start does it.
            files.iter().for_each(|(path, _)| _ = disk.remove(path));
        }
        self.written = result.is_ok();
        result
    }
}

/// The work of sealing one block. Nothing is lost if it is dropped or fails: the store offers it
/// again.
#[derive(Debug)]
pub struct SealJob<D: Disk> {
    disk: Arc<D>,
    info: BlockInfo,
    shared: Arc<Mutex<Shared>>,
    token: Arc<()>,
}

/// A block that lies aside and waits to be put in its place by [`crate::Store::finish_seal`].
#[derive(Debug)]
pub struct Sealed {
    pub(crate) log: Log,
    pub(crate) number: u64,
    _token: Arc<()>,
}

impl<D: Disk> SealJob<D> {
    /// Writes the block aside. May run on any thread.
    pub fn run(self) -> Result<Sealed, StoreError> {
        lock(&self.shared).write(&*self.disk, &self.info)?;
        Ok(Sealed { log: self.info.log, number: self.info.number, _token: self.token })
    }

    /// How many events the block has.
    pub fn events(&self) -> u64 {
        lock(&self.shared).memory.events.len() as u64
    }
}

fn lock(shared: &Mutex<Shared>) -> MutexGuard<'_, Shared> {
    shared.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Frozen {
    /// Freezes events that are all in their active file.
    pub(crate) fn new(info: BlockInfo, memory: Memory, page_events: usize) -> Self {
        let memory = Arc::new(memory);
        let shared = Shared { memory: memory.clone(), page_events, written: false };
        Self { info, memory, shared: Arc::new(Mutex::new(shared)), job: Weak::new() }
    }

    /// The job, unless one is under way.
    pub(crate) fn job<D: Disk>(&mut self, disk: &Arc<D>) -> Option<SealJob<D>> {
        if self.job.strong_count() > 0 {
            return None;
        }
        let token = Arc::new(());
        self.job = Arc::downgrade(&token);
        Some(SealJob { disk: disk.clone(), info: self.info, shared: self.shared.clone(), token })
    }

    /// Removes a payload from memory and files. Answers how many bytes it had.
    pub(crate) fn erase<D: Disk>(&mut self, disk: &D, position: usize) -> Result<u64, StoreError> {
        let mut shared = lock(&self.shared);
        let mut memory = Memory::clone(&self.memory);
        let bytes = memory.erase(position);
        if bytes > 0 {
            self.memory = Arc::new(memory);
            shared.memory = self.memory.clone();
            rewrite(disk, &self.info, &self.memory.events)?;
            if shared.written {
                shared.write(disk, &self.info)?;
            }
        }
        Ok(bytes)
    }

    /// Puts the block that lies aside in its place, and opens it.
    pub(crate) fn finish<D: Disk>(&self, disk: &D) -> Result<Block, StoreError> {
        if !lock(&self.shared).written {
            return Err(StoreError::Misuse("the block was not written yet"));
        }
        let dir = self.info.log.name();
        let (block_path, payload_path) = file_names(&self.info);
        for path in [payload_path, block_path] {
            let aside = format!("{path}.tmp");
            disk.rename(&aside, &path).map_err(|error| StoreError::io("rename", &aside, error))?;
        }
        disk.sync_dir(dir).map_err(|error| StoreError::io("sync", dir, error))?;
        let block = Block::open(disk, &self.info)?;
        let path = active_path(&self.info);
        disk.remove(&path).map_err(|error| StoreError::io("remove", &path, error))?;
        Ok(block)
    }
}
