//! A disk in memory that fails on request, always in the same way for the same seed.
//!
//! It keeps apart what is live (what reads see) and what is durable (what a crash cannot take):
//! appended bytes are durable after a sync of their file, names after a sync of their directory.
//! A crash keeps an arbitrary part of the rest.

mod image;

use std::fmt;
use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;

use self::image::{Image, NameChange};
use super::{AppendFile, Disk, LockError};

/// What is to go wrong. Counting starts when the faults are set.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Faults {
    /// The power fails in the middle of the operation (of those that change the disk) with this
    /// number, the first being 0: it and all later ones fail, until [`FaultyDisk::crash`].
    pub power_cut_at: Option<u64>,
    /// The disk is full after this many more bytes: the write that crosses the line is cut short.
    pub full_after_bytes: Option<u64>,
    /// The sync of a file with this number fails, the first being 0, and what it should have made
    /// durable never will be.
    pub failing_sync: Option<u64>,
}

#[derive(Debug, Default)]
struct State {
    image: Image,
    faults: Faults,
    /// Operations that changed the disk, bytes written and syncs, since the faults were set.
    operations: u64,
    bytes: u64,
    syncs: u64,
    powerless: bool,
    /// Handles from before the last crash are dead.
    generation: u64,
    locked: bool,
}

/// A disk in memory that fails on request.
#[derive(Clone, Default)]
pub struct FaultyDisk {
    state: Arc<Mutex<State>>,
}

impl fmt::Debug for FaultyDisk {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let state = self.state();
        f.debug_struct("FaultyDisk").field("files", &state.image.live.len()).finish_non_exhaustive()
    }
}

impl FaultyDisk {
    /// An empty disk without faults.
    pub fn new() -> Self {
        Self::default()
    }

    /// Sets what is to go wrong from now on, and starts counting anew.
    pub fn set_faults(&self, faults: Faults) {
        let mut state = self.state();
        state.faults = faults;
        (state.operations, state.bytes, state.syncs) = (0, 0, 0);
    }

    /// Operations that changed the disk since the faults were set.
    pub fn operations(&self) -> u64 {
        self.state().operations
    }

    /// Bytes written since the faults were set.
    pub fn bytes_written(&self) -> u64 {
        self.state().bytes
    }

    /// Syncs of files since the faults were set.
    pub fn syncs(&self) -> u64 {
        self.state().syncs
    }

    /// Cuts the power and starts again: what was durable stays; of the rest each piece is lost,
    /// kept or torn, as the seed decides. Faults end, locks are free, open handles are dead.
    pub fn crash(&self, seed: u64) {
        let mut state = self.state();
        state.image.crash(seed);
        state.faults = Faults::default();
        state.powerless = false;
        state.locked = false;
        state.generation += 1;
    }

    /// An independent copy of the disk as it is now, without faults, lock and open handles.
    pub fn fork(&self) -> Self {
        let image = self.state().image.clone();
        Self { state: Arc::new(Mutex::new(State { image, ..State::default() })) }
    }

    /// An independent copy of what a crash now would leave.
    pub fn fork_durable(&self, seed: u64) -> Self {
        let fork = self.fork();
        fork.crash(seed);
        fork
    }

    /// Paths of all files, sorted.
    pub fn files(&self) -> Vec<String> {
        self.state().image.live.keys().cloned().collect()
    }

    /// Changes the bytes of a file behind the back of the store. Answers whether there is such a
    /// file.
    pub fn tamper(&self, path: &str, change: impl FnOnce(&mut Vec<u8>)) -> bool {
        self.state().image.tamper(path, change)
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    /// Counts one operation that changes the disk. The answer says whether the power fails in
    /// the middle of it.
    fn operation(&mut self) -> io::Result<bool> {
        if self.powerless {
            return Err(power_cut());
        }
        let number = self.operations;
        self.operations += 1;
        self.powerless = self.faults.power_cut_at == Some(number);
        Ok(self.powerless)
    }

    /// An operation that happens entirely or, when the power fails, not at all.
    fn whole_operation(&mut self) -> io::Result<()> {
        if self.operation()? { Err(power_cut()) } else { Ok(()) }
    }

    /// How many of the bytes can be written, and the error if these are not all.
    fn admit(&mut self, length: usize) -> io::Result<(usize, io::Result<()>)> {
        if self.operation()? {
            // How much of it reaches the disk is decided by the crash.
            return Ok((length, Err(power_cut())));
        }
        let room =
            self.faults.full_after_bytes.map_or(u64::MAX, |max| max.saturating_sub(self.bytes));
        let admitted = length.min(usize::try_from(room).unwrap_or(usize::MAX));
        self.bytes += admitted as u64;
        let result =
            if admitted < length { Err(io::ErrorKind::StorageFull.into()) } else { Ok(()) };
        Ok((admitted, result))
    }

    fn sync(&mut self, inode: u64) -> io::Result<()> {
        self.whole_operation()?;
        let number = self.syncs;
        self.syncs += 1;
        if self.faults.failing_sync == Some(number) {
            self.image.fail_sync(inode);
            return Err(io::Error::other("sync failed (injected)"));
        }
        self.image.sync_file(inode);
        Ok(())
    }
}

fn power_cut() -> io::Error {
    io::Error::other("the power is cut (injected)")
}

impl Disk for FaultyDisk {
    type Append = FaultyAppend;
    type Lock = FaultyLock;

    fn lock(&self) -> Result<FaultyLock, LockError> {
        let mut state = self.state();
        if state.locked {
            return Err(LockError::Held { pid: Some(std::process::id()) });
        }
        state.locked = true;
        Ok(FaultyLock { disk: self.clone(), generation: state.generation })
    }

    fn create_dir(&self, _path: &str) -> io::Result<()> {
        Ok(())
    }

    fn append(&self, path: &str) -> io::Result<FaultyAppend> {
        let mut state = self.state();
        let inode = match state.image.live.get(path) {
            Some(inode) => *inode,
            None => {
                state.whole_operation()?;
                state.image.create(path)
            }
        };
        Ok(FaultyAppend { disk: self.clone(), inode, generation: state.generation })
    }

    fn read(&self, path: &str) -> io::Result<Bytes> {
        self.state().image.read(path)
    }

    fn map(&self, path: &str) -> io::Result<Bytes> {
        self.read(path)
    }

    fn size(&self, path: &str) -> io::Result<u64> {
        self.state().image.size(path)
    }

    fn write_new(&self, path: &str, bytes: &[u8]) -> io::Result<()> {
        let mut state = self.state();
        state.whole_operation()?;
        let inode = state.image.create(path);
        let (admitted, result) = state.admit(bytes.len())?;
        state.image.append(inode, &bytes[..admitted]);
        result?;
        state.sync(inode)
    }

    fn truncate(&self, path: &str, length: u64) -> io::Result<()> {
        let mut state = self.state();
        state.whole_operation()?;
        state.image.truncate(path, length)
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        let mut state = self.state();
        let cut = state.operation()?;
        state.image.change(NameChange::Rename(from.to_owned(), to.to_owned()))?;
        if cut { Err(power_cut()) } else { Ok(()) }
    }

    fn remove(&self, path: &str) -> io::Result<()> {
        let mut state = self.state();
        let cut = state.operation()?;
        state.image.change(NameChange::Remove(path.to_owned()))?;
        if cut { Err(power_cut()) } else { Ok(()) }
    }

    fn list(&self, dir: &str) -> io::Result<Vec<String>> {
        Ok(self.state().image.list(dir))
    }

    fn sync_dir(&self, dir: &str) -> io::Result<()> {
        let mut state = self.state();
        state.whole_operation()?;
        state.image.sync_dir(dir);
        Ok(())
    }
}

/// A file of a [`FaultyDisk`], open for appending.
#[derive(Debug)]
pub struct FaultyAppend {
    disk: FaultyDisk,
    inode: u64,
    generation: u64,
}

impl FaultyAppend {
    fn state(&self) -> io::Result<MutexGuard<'_, State>> {
        let state = self.disk.state();
        if state.generation == self.generation { Ok(state) } else { Err(power_cut()) }
    }
}

impl AppendFile for FaultyAppend {
    fn write_all(&mut self, bytes: &[u8]) -> io::Result<()> {
        let mut state = self.state()?;
        let (admitted, result) = state.admit(bytes.len())?;
        state.image.append(self.inode, &bytes[..admitted]);
        result
    }

    fn sync(&mut self) -> io::Result<()> {
        self.state()?.sync(self.inode)
    }
}

/// The lock of a [`FaultyDisk`].
#[derive(Debug)]
pub struct FaultyLock {
    disk: FaultyDisk,
    generation: u64,
}

impl Drop for FaultyLock {
    fn drop(&mut self) {
        let mut state = self.disk.state();
        if state.generation == self.generation {
            state.locked = false;
        }
    }
}
