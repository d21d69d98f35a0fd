//! What is on a [`super::FaultyDisk`], live and durable.

use std::collections::BTreeMap;
use std::io;

use bytes::Bytes;

/// Bytes that a disk writes at once or not at all.
const SECTOR: usize = 512;

/// Content of a file. It only grows, or is cut, so the durable content is a prefix.
#[derive(Debug, Clone, Default)]
struct Inode {
    data: Bytes,
    /// Grows at the end of `data`; folded into it when somebody reads.
    tail: Vec<u8>,
    durable: usize,
    /// A sync failed: what was not durable then, and all after it, never will be.
    stuck: bool,
}

/// A change of names that a crash may undo until the directory is synced.
#[derive(Debug, Clone)]
pub(super) enum NameChange {
    Create(String, u64),
    Rename(String, String),
    Remove(String),
}

/// Files and names.
#[derive(Debug, Clone, Default)]
pub(super) struct Image {
    inodes: BTreeMap<u64, Inode>,
    next: u64,
    /// Names that reads see.
    pub(super) live: BTreeMap<String, u64>,
    durable: BTreeMap<String, u64>,
    unsynced: Vec<NameChange>,
}

fn missing() -> io::Error {
    io::ErrorKind::NotFound.into()
}

fn dir_of(path: &str) -> &str {
    path.rsplit_once('/').map_or("", |(dir, _)| dir)
}

fn apply(names: &mut BTreeMap<String, u64>, change: &NameChange) -> io::Result<()> {
    match change {
        NameChange::Create(path, inode) => {
            names.insert(path.clone(), *inode);
        }
        NameChange::Rename(from, to) => {
            let inode = names.remove(from).ok_or_else(missing)?;
            names.insert(to.clone(), inode);
        }
        NameChange::Remove(path) => {
            names.remove(path).ok_or_else(missing)?;
        }
    }
    Ok(())
}

impl NameChange {
    fn touches(&self, dir: &str) -> bool {
        match self {
            Self::Create(path, _) | Self::Remove(path) => dir_of(path) == dir,
            Self::Rename(from, to) => dir_of(from) == dir || dir_of(to) == dir,
        }
    }
}

impl Image {
    pub(super) fn create(&mut self, path: &str) -> u64 {
        let inode = self.next;
        self.next += 1;
        self.inodes.insert(inode, Inode::default());
        self.live.insert(path.to_owned(), inode);
        self.unsynced.push(NameChange::Create(path.to_owned(), inode));
        inode
    }

    pub(super) fn append(&mut self, inode: u64, bytes: &[u8]) {
        if let Some(file) = self.inodes.get_mut(&inode) {
            file.tail.extend_from_slice(bytes);
        }
    }

    pub(super) fn sync_file(&mut self, inode: u64) {
        if let Some(file) = self.inodes.get_mut(&inode).filter(|file| !file.stuck) {
            file.durable = file.data.len() + file.tail.len();
        }
    }

    /// What a failed sync does: reads still see the bytes, and later syncs succeed, but the bytes
    /// never reach the disk.
    pub(super) fn fail_sync(&mut self, inode: u64) {
        if let Some(file) = self.inodes.get_mut(&inode) {
            file.stuck = true;
        }
    }

    pub(super) fn read(&mut self, path: &str) -> io::Result<Bytes> {
        let inode = *self.live.get(path).ok_or_else(missing)?;
        let file = self.inodes.get_mut(&inode).ok_or_else(missing)?;
        file.fold();
        Ok(file.data.clone())
    }

    pub(super) fn size(&self, path: &str) -> io::Result<u64> {
        let inode = self.live.get(path).ok_or_else(missing)?;
        let file = self.inodes.get(inode).ok_or_else(missing)?;
        Ok((file.data.len() + file.tail.len()) as u64)
    }

    pub(super) fn truncate(&mut self, path: &str, length: u64) -> io::Result<()> {
        let inode = *self.live.get(path).ok_or_else(missing)?;
        let file = self.inodes.get_mut(&inode).ok_or_else(missing)?;
        file.fold();
        file.data.truncate(usize::try_from(length).unwrap_or(usize::MAX));
        file.durable = file.data.len();
        Ok(())
    }

    pub(super) fn change(&mut self, change: NameChange) -> io::Result<()> {
        apply(&mut self.live, &change)?;
        self.unsynced.push(change);
        Ok(())
    }

    pub(super) fn list(&self, dir: &str) -> Vec<String> {
        let mut names: Vec<String> = Vec::new();
        for path in self.live.keys() {
            let rest = match dir {
                "" => Some(path.as_str()),
                _ => path.strip_prefix(dir).and_then(|rest| rest.strip_prefix('/')),
            };
            let name = rest.and_then(|rest| rest.split('/').next());
            if let Some(name) = name.filter(|name| names.last().is_none_or(|last| last != name)) {
                names.push(name.to_owned());
            }
        }
        names
    }

    pub(super) fn sync_dir(&mut self, dir: &str) {
        let mut later = Vec::new();
        for change in std::mem::take(&mut self.unsynced) {
            if change.touches(dir) {
                // A change that needs one of another directory, still unsynced, cannot be kept.
                let _ = apply(&mut self.durable, &change);
            } else {
                later.push(change);
            }
        }
        self.unsynced = later;
        self.collect();
    }

    pub(super) fn tamper(&mut self, path: &str, change: impl FnOnce(&mut Vec<u8>)) -> bool {
        let Some(file) = self.live.get(path).and_then(|inode| self.inodes.get_mut(inode)) else {
            return false;
        };
        file.fold();
        let mut bytes = file.data.to_vec();
        change(&mut bytes);
        file.durable = bytes.len();
        file.data = bytes.into();
        true
    }

    /// See [`super::FaultyDisk::crash`].
    pub(super) fn crash(&mut self, seed: u64) {
        let mut random = Random(seed);
        for change in std::mem::take(&mut self.unsynced) {
            if random.below(2) == 0 {
                let _ = apply(&mut self.durable, &change);
            }
        }
        self.live = self.durable.clone();
        self.collect();
        for file in self.inodes.values_mut() {
            file.fold();
            file.tear(&mut random);
        }
    }

    /// Forgets files without a name. Open handles to them lead nowhere then, which nobody sees.
    fn collect(&mut self) {
        let named = |inode: &u64| {
            self.live.values().chain(self.durable.values()).any(|named| named == inode)
                || self.unsynced.iter().any(|c| matches!(c, NameChange::Create(_, i) if i == inode))
        };
        let gone: Vec<u64> = self.inodes.keys().filter(|inode| !named(inode)).copied().collect();
        gone.iter().for_each(|inode| _ = self.inodes.remove(inode));
    }
}

impl Inode {
    fn fold(&mut self) {
        if !self.tail.is_empty() {
            let mut data = Vec::with_capacity(self.data.len() + self.tail.len());
            data.extend_from_slice(&self.data);
            data.append(&mut self.tail);
            self.data = data.into();
        }
    }

    /// Keeps the durable bytes and an arbitrary part of the others.
    fn tear(&mut self, random: &mut Random) {
        let unsynced = self.data.len().saturating_sub(self.durable);
        if unsynced > 0 {
            let kept = match random.below(4) {
                0 => 0,
                1 => unsynced,
                _ => random.below(unsynced as u64 + 1) as usize,
            };
            let mut bytes = self.data[..self.durable + kept].to_vec();
            if random.below(3) == 0 {
                lose_sectors(&mut bytes, self.durable, random);
            }
            self.data = bytes.into();
        }
        self.durable = self.data.len();
        self.stuck = false;
    }
}

/// Sectors need not reach the disk in order: some of the unsynced ones read as zeros.
fn lose_sectors(bytes: &mut [u8], durable: usize, random: &mut Random) {
    let mut start = durable;
    while start < bytes.len() {
        let end = ((start / SECTOR + 1) * SECTOR).min(bytes.len());
        if random.below(2) == 0 {
            bytes[start..end].fill(0);
        }
        start = end;
    }
}

/// SplitMix64.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    fn below(&mut self, n: u64) -> u64 {
        self.next() % n
    }
}
