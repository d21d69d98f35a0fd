//! Files in memory that fail on request, always in the same way for the same seed.
//!
//! What is live (what reads see) and what is durable (what a crash cannot take) are kept apart:
//! bytes are durable after a sync of their file, names after a sync of their directory. Files may
//! have holes: only pages that were written take memory.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use super::{FileAt, Files};

const PAGE_BYTES: u64 = 4096;

/// What is to go wrong. Counting starts when the faults are set.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Faults {
    /// The power fails at the operation (of those that change the disk) with this number, the
    /// first being 0: it and all later ones fail, until [`MemoryFiles::crash`].
    pub power_cut_at: Option<u64>,
    /// The write with this number fails with this error, the first being 0; later ones go well.
    pub failing_write: Option<(u64, io::ErrorKind)>,
    /// The disk is full after this many more bytes: the write that crosses the line is cut short.
    pub full_after_bytes: Option<u64>,
    /// The sync of a file with this number fails, the first being 0, and what it should have made
    /// durable never will be.
    pub failing_sync: Option<u64>,
}

type Page = Arc<[u8; PAGE_BYTES as usize]>;

#[derive(Debug, Clone, Default)]
struct Content {
    length: u64,
    pages: BTreeMap<u64, Page>,
}

#[derive(Debug, Clone, Default)]
struct Inode {
    live: Content,
    durable: Content,
    /// Pages written since the last sync.
    dirty: BTreeSet<u64>,
    written_at: u64,
    /// Shared with the open files.
    open: Arc<()>,
}

#[derive(Debug, Clone, Default)]
struct Names {
    files: BTreeMap<String, u64>,
    dirs: BTreeSet<String>,
}

#[derive(Debug, Default)]
struct State {
    inodes: BTreeMap<u64, Inode>,
    next_inode: u64,
    /// Those that lost a name: to be freed when nothing leads to them.
    nameless: BTreeSet<u64>,
    live: Names,
    durable: Names,
    faults: Faults,
    operations: u64,
    writes: u64,
    bytes: u64,
    syncs: u64,
    powerless: bool,
    /// Handles from before the last crash are dead. It is also the number of the process.
    generation: u32,
    nonces: u64,
    /// Seconds; moved by hand.
    now: u64,
}

/// Files in memory that fail on request. Clones are the same files.
#[derive(Clone, Default)]
pub struct MemoryFiles {
    state: Arc<Mutex<State>>,
}

/// An open file of [`MemoryFiles`].
#[derive(Debug)]
pub struct MemoryFile {
    files: MemoryFiles,
    inode: u64,
    generation: u32,
    writable: bool,
    /// Says that the inode is still in use.
    _open: Arc<()>,
}

impl fmt::Debug for MemoryFiles {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MemoryFiles")
            .field("files", &self.state().live.files.len())
            .finish_non_exhaustive()
    }
}

impl MemoryFiles {
    /// An empty disk without faults.
    pub fn new() -> Self {
        Self::default()
    }

    /// Sets what is to go wrong from now on, and starts counting anew.
    pub fn set_faults(&self, faults: Faults) {
        let mut state = self.state();
        state.faults = faults;
        (state.operations, state.writes, state.bytes, state.syncs) = (0, 0, 0, 0);
    }

    /// Operations that changed the disk since the faults were set.
    pub fn operations(&self) -> u64 {
        self.state().operations
    }

    /// Writes since the faults were set.
    pub fn writes(&self) -> u64 {
        self.state().writes
    }

    /// Bytes written since the faults were set.
    pub fn bytes_written(&self) -> u64 {
        self.state().bytes
    }

    /// Syncs of files since the faults were set.
    pub fn syncs(&self) -> u64 {
        self.state().syncs
    }

    /// Cuts the power and starts again, as another process. What was durable stays. With seed 0
    /// all the rest is lost; with any other, each unsynced page, length and name is lost or kept
    /// by itself, as the seed decides. Faults end, open files are dead.
    pub fn crash(&self, seed: u64) {
        let mut state = self.state();
        let mut coin = Coin(seed);
        for inode in state.inodes.values_mut() {
            inode.crash(&mut coin);
        }
        state.crash_names(&mut coin);
        state.faults = Faults::default();
        state.powerless = false;
        state.generation += 1;
    }

    /// Ends the process and starts another: everything written stays, open files are dead.
    pub fn kill(&self) {
        let mut state = self.state();
        state.faults = Faults::default();
        state.powerless = false;
        state.generation += 1;
    }

    /// Lets time pass, for [`Files::age`].
    pub fn pass(&self, time: Duration) {
        self.state().now += time.as_secs();
    }

    /// Paths of all files, sorted.
    pub fn paths(&self) -> Vec<String> {
        self.state().live.files.keys().cloned().collect()
    }

    /// Changes one byte of a file behind the back of the store. Answers whether there is one.
    pub fn flip(&self, path: &str, offset: u64, mask: u8) -> bool {
        let mut state = self.state();
        let Some(&inode) = state.live.files.get(path) else { return false };
        let Some(inode) = state.inodes.get_mut(&inode) else { return false };
        if offset >= inode.live.length {
            return false;
        }
        let mut byte = [0];
        inode.live.read(&mut byte, offset);
        byte[0] ^= mask;
        inode.live.write(&byte, offset, &mut BTreeSet::new());
        inode.durable.write(&byte, offset, &mut BTreeSet::new());
        true
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn file(&self, state: &State, inode: u64, writable: bool) -> MemoryFile {
        let open = state.inodes.get(&inode).map(|inode| inode.open.clone()).unwrap_or_default();
        let generation = state.generation;
        MemoryFile { files: self.clone(), inode, generation, writable, _open: open }
    }
}

/// Tosses: never up for seed 0.
struct Coin(u64);

impl Coin {
    fn up(&mut self) -> bool {
        if self.0 == 0 {
            return false;
        }
        // xorshift64: never 0 again.
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 >> 40 & 1 == 1
    }
}

impl Content {
    fn read(&self, buffer: &mut [u8], offset: u64) -> usize {
        let available = self.length.saturating_sub(offset).min(buffer.len() as u64) as usize;
        let mut done = 0;
        while done < available {
            let at = offset + done as u64;
            let (page, within) = (at / PAGE_BYTES, (at % PAGE_BYTES) as usize);
            let n = (PAGE_BYTES as usize - within).min(available - done);
            match self.pages.get(&page) {
                Some(bytes) => buffer[done..done + n].copy_from_slice(&bytes[within..within + n]),
                None => buffer[done..done + n].fill(0),
            }
            done += n;
        }
        available
    }

    fn write(&mut self, bytes: &[u8], offset: u64, dirty: &mut BTreeSet<u64>) {
        let mut done = 0;
        while done < bytes.len() {
            let at = offset + done as u64;
            let (page, within) = (at / PAGE_BYTES, (at % PAGE_BYTES) as usize);
            let n = (PAGE_BYTES as usize - within).min(bytes.len() - done);
            let slot = self.pages.entry(page).or_insert_with(|| Arc::new([0; PAGE_BYTES as usize]));
            Arc::make_mut(slot)[within..within + n].copy_from_slice(&bytes[done..done + n]);
            dirty.insert(page);
            done += n;
        }
        self.length = self.length.max(offset + bytes.len() as u64);
    }
}

impl Inode {
    fn sync(&mut self) {
        for page in std::mem::take(&mut self.dirty) {
            if let Some(bytes) = self.live.pages.get(&page) {
                self.durable.pages.insert(page, bytes.clone());
            }
        }
        self.durable.length = self.live.length;
    }

    fn crash(&mut self, coin: &mut Coin) {
        for page in std::mem::take(&mut self.dirty) {
            if coin.up()
                && let Some(bytes) = self.live.pages.get(&page)
            {
                self.durable.pages.insert(page, bytes.clone());
            }
        }
        if coin.up() {
            self.durable.length = self.live.length;
        }
        self.live = self.durable.clone();
    }
}

impl State {
    /// Counts one operation that changes the disk; an error if the power is off, or fails now.
    fn operation(&mut self) -> io::Result<()> {
        if !self.powerless {
            self.powerless = self.faults.power_cut_at == Some(self.operations);
            self.operations += 1;
        }
        if self.powerless { Err(io::Error::other("the power is off")) } else { Ok(()) }
    }

    fn crash_names(&mut self, coin: &mut Coin) {
        let mut files = self.durable.files.clone();
        let changed: BTreeSet<&String> =
            self.live.files.keys().chain(self.durable.files.keys()).collect();
        for path in changed {
            let now = self.live.files.get(path);
            if now != self.durable.files.get(path) && coin.up() {
                match now {
                    Some(&inode) => files.insert(path.clone(), inode),
                    None => files.remove(path),
                };
            }
        }
        let dirs = self.durable.dirs.clone();
        files.retain(|path, _| dir_of(path).is_empty() || dirs.contains(dir_of(path)));
        self.live = Names { files, dirs };
        self.durable = self.live.clone();
        let used: BTreeSet<u64> = self.live.files.values().copied().collect();
        self.inodes.retain(|inode, _| used.contains(inode));
    }

    fn add(&mut self, path: &str) -> io::Result<u64> {
        let dir = dir_of(path);
        if !dir.is_empty() && !self.live.dirs.contains(dir) {
            return Err(io::ErrorKind::NotFound.into());
        }
        self.operation()?;
        let inode = self.next_inode;
        self.next_inode += 1;
        let written_at = self.now;
        self.inodes.insert(inode, Inode { written_at, ..Inode::default() });
        self.live.files.insert(path.to_owned(), inode);
        Ok(inode)
    }

    /// Frees what has neither a name nor an open file.
    fn sweep(&mut self) {
        let Self { inodes, nameless, live, durable, .. } = self;
        nameless.retain(|number| {
            let named = live.files.values().chain(durable.files.values()).any(|n| n == number);
            let open = inodes.get(number).is_some_and(|inode| Arc::strong_count(&inode.open) > 1);
            if !named && !open {
                inodes.remove(number);
            }
            !named && open
        });
    }

    fn find(&self, path: &str) -> io::Result<&Inode> {
        let inode = self.live.files.get(path).ok_or(io::ErrorKind::NotFound)?;
        self.inodes.get(inode).ok_or_else(|| io::ErrorKind::NotFound.into())
    }

    fn admit(&mut self, length: usize) -> io::Result<(usize, io::Result<()>)> {
        self.operation()?;
        let number = self.writes;
        self.writes += 1;
        if let Some((_, kind)) = self.faults.failing_write.filter(|(n, _)| *n == number) {
            return Err(kind.into());
        }
        let room =
            self.faults.full_after_bytes.map_or(u64::MAX, |full| full.saturating_sub(self.bytes));
        if room < length as u64 {
            self.bytes += room;
            return Ok((room as usize, Err(io::ErrorKind::StorageFull.into())));
        }
        self.bytes += length as u64;
        Ok((length, Ok(())))
    }
}

fn dir_of(path: &str) -> &str {
    path.rsplit_once('/').map_or("", |(dir, _)| dir)
}

impl Files for MemoryFiles {
    type File = MemoryFile;

    fn create_dir(&self, path: &str) -> io::Result<()> {
        let mut state = self.state();
        if state.live.dirs.contains(path) {
            return Ok(());
        }
        state.operation()?;
        state.live.dirs.insert(path.to_owned());
        Ok(())
    }

    fn create(&self, path: &str) -> io::Result<MemoryFile> {
        let mut state = self.state();
        if state.live.files.contains_key(path) {
            return Err(io::ErrorKind::AlreadyExists.into());
        }
        let inode = state.add(path)?;
        Ok(self.file(&state, inode, true))
    }

    fn open(&self, path: &str) -> io::Result<MemoryFile> {
        let state = self.state();
        let inode = *state.live.files.get(path).ok_or(io::ErrorKind::NotFound)?;
        Ok(self.file(&state, inode, false))
    }

    fn open_rw(&self, path: &str) -> io::Result<MemoryFile> {
        let mut state = self.state();
        let inode = match state.live.files.get(path) {
            Some(&inode) => inode,
            None => state.add(path)?,
        };
        Ok(self.file(&state, inode, true))
    }

    fn length(&self, path: &str) -> io::Result<Option<u64>> {
        Ok(self.state().find(path).ok().map(|inode| inode.live.length))
    }

    fn allocated(&self, path: &str) -> io::Result<u64> {
        Ok(self.state().find(path)?.live.pages.len() as u64 * PAGE_BYTES)
    }

    fn age(&self, path: &str) -> io::Result<Duration> {
        let state = self.state();
        Ok(Duration::from_secs(state.now - state.find(path)?.written_at))
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        let mut state = self.state();
        let dir = dir_of(to);
        state.find(from)?;
        if !dir.is_empty() && !state.live.dirs.contains(dir) {
            return Err(io::ErrorKind::NotFound.into());
        }
        state.operation()?;
        if let Some(inode) = state.live.files.remove(from) {
            let replaced = state.live.files.insert(to.to_owned(), inode);
            state.nameless.extend(replaced);
        }
        Ok(())
    }

    fn remove(&self, path: &str) -> io::Result<()> {
        let mut state = self.state();
        state.find(path)?;
        state.operation()?;
        let inode = state.live.files.remove(path);
        state.nameless.extend(inode);
        state.sweep();
        Ok(())
    }

    fn list(&self, dir: &str) -> io::Result<Vec<String>> {
        let state = self.state();
        let names = state.live.files.keys().chain(&state.live.dirs);
        let mut names: Vec<String> = names
            .filter(|path| dir_of(path) == dir)
            .map(|path| path.rsplit('/').next().unwrap_or(path).to_owned())
            .collect();
        names.sort_unstable();
        Ok(names)
    }

    fn sync_dir(&self, dir: &str) -> io::Result<()> {
        let mut state = self.state();
        state.operation()?;
        let State { live, durable, nameless, .. } = &mut *state;
        let here = durable.files.iter().filter(|(path, _)| dir_of(path) == dir);
        nameless.extend(here.map(|(_, inode)| *inode));
        durable.files.retain(|path, _| dir_of(path) != dir);
        durable.dirs.retain(|path| dir_of(path) != dir);
        let files = live.files.iter().filter(|(path, _)| dir_of(path) == dir);
        durable.files.extend(files.map(|(path, inode)| (path.clone(), *inode)));
        let dirs = live.dirs.iter().filter(|path| dir_of(path) == dir);
        durable.dirs.extend(dirs.cloned());
        state.sweep();
        Ok(())
    }

    fn process(&self) -> u32 {
        self.state().generation
    }

    fn may_run(&self, process: u32) -> bool {
        process == self.state().generation
    }

    fn aside(&self, _job: Box<dyn FnOnce() + Send>) {
        // Left out: what is done to these files is done in the same order each time.
    }

    fn nonce(&self) -> u64 {
        let mut state = self.state();
        state.nonces += 1;
        state.nonces
    }
}

impl MemoryFile {
    fn with<T>(&self, run: impl FnOnce(&mut State) -> io::Result<T>) -> io::Result<T> {
        let mut state = self.files.state();
        if state.generation != self.generation {
            return Err(io::Error::other("opened before the crash"));
        }
        run(&mut state)
    }
}

fn inode_of(state: &mut State, inode: u64) -> io::Result<&mut Inode> {
    state.inodes.get_mut(&inode).ok_or_else(|| io::ErrorKind::NotFound.into())
}

impl FileAt for MemoryFile {
    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        self.with(|state| Ok(inode_of(state, self.inode)?.live.read(buffer, offset)))
    }

    fn write_all_at(&self, bytes: &[u8], offset: u64) -> io::Result<()> {
        if !self.writable {
            return Err(io::ErrorKind::PermissionDenied.into());
        }
        self.with(|state| {
            let (length, result) = state.admit(bytes.len())?;
            let now = state.now;
            let Inode { live, dirty, written_at, .. } = inode_of(state, self.inode)?;
            live.write(&bytes[..length], offset, dirty);
            *written_at = now;
            result
        })
    }

    fn sync(&self) -> io::Result<()> {
        self.with(|state| {
            state.operation()?;
            let number = state.syncs;
            state.syncs += 1;
            let fails = state.faults.failing_sync == Some(number);
            let inode = inode_of(state, self.inode)?;
            if fails {
                inode.dirty.clear();
                return Err(io::Error::other("the sync failed"));
            }
            inode.sync();
            Ok(())
        })
    }

    fn length(&self) -> io::Result<u64> {
        self.with(|state| Ok(inode_of(state, self.inode)?.live.length))
    }
}
