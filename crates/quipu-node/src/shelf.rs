//! Whose the bytes of artifacts are.
//!
//! Bytes lie in one place, once, whichever logs tell of them. But each log's peers are told only of
//! what is held *by virtue of that log*: nobody finds out that this machine holds bytes for another
//! domain (DOM-2). The index says which (DOM-9): an entry names an artifact, a domain and a visibility.
//! An artifact without an entry belongs to the internal log of this machine's own domain, so most need
//! none. See `docs/formats/artifact.md` for the bytes.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::ops::Range;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use quipu_artifact::{ArtifactStore, Files, RealFiles};
use quipu_core::artifact::group_count;
use quipu_core::event::Log;
use quipu_core::history::Missing;
use quipu_core::id::{ArtifactId, DomainId};
use quipu_core::node::PartOutcome;
use quipu_store::Disk;
use quipu_store::disk::AppendFile;

use crate::artifacts::{Artifacts, StoredArtifacts};

/// Bytes of a record.
const RECORD_BYTES: usize = 72;
/// Bytes of a record that its checksum covers.
const CHECKED_BYTES: usize = 68;
/// Records beyond twice the entries after which the file is written anew at a start.
const SPARE_RECORDS: usize = 1_000;

/// A log that artifacts belong to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Owner {
    /// Its domain.
    pub domain: DomainId,
    /// Internal artifacts are shown to members only.
    pub visibility: Log,
}

/// What a record says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
enum Said {
    /// The owner holds the artifact.
    Held = 1,
    /// The owner fetches it. Once its bytes are here they are the owner's.
    Coming = 2,
    /// It does not any more.
    Gone = 3,
}

/// The owners of an artifact, if not just the internal log of this machine's domain.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
struct Entry {
    held: BTreeSet<Owner>,
    coming: BTreeSet<Owner>,
}

/// The entries, and the file that they are read from at a start.
struct Index {
    entries: BTreeMap<ArtifactId, Entry>,
    file: Box<dyn AppendFile>,
}

impl std::fmt::Debug for Index {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Index").field("entries", &self.entries).finish_non_exhaustive()
    }
}

fn record(key: &ArtifactId, owner: &Owner, said: Said) -> [u8; RECORD_BYTES] {
    let mut out = [0; RECORD_BYTES];
    out[..32].copy_from_slice(&key.0);
    out[32..64].copy_from_slice(&owner.domain.0);
    out[64] = u8::from(owner.visibility == Log::Published);
    out[65] = said as u8;
    let checksum = blake3::hash(&out[..CHECKED_BYTES]);
    out[CHECKED_BYTES..].copy_from_slice(&checksum.as_bytes()[..RECORD_BYTES - CHECKED_BYTES]);
    out
}

fn read_record(bytes: &[u8]) -> Option<(ArtifactId, Owner, Said)> {
    let checksum = blake3::hash(bytes.get(..CHECKED_BYTES)?);
    if checksum.as_bytes()[..RECORD_BYTES - CHECKED_BYTES] != bytes[CHECKED_BYTES..] {
        return None;
    }
    let visibility = if bytes[64] == 0 { Log::Internal } else { Log::Published };
    let owner = Owner { domain: DomainId(bytes[32..64].try_into().ok()?), visibility };
    let said =
        [Said::Held, Said::Coming, Said::Gone].into_iter().find(|s| *s as u8 == bytes[65])?;
    Some((ArtifactId(bytes[..32].try_into().ok()?), owner, said))
}

impl Index {
    fn open<D: Disk>(disk: &D, name: &str) -> io::Result<Self> {
        let bytes = match disk.read(name) {
            Ok(bytes) => bytes,
            Err(error) if error.kind() == io::ErrorKind::NotFound => Default::default(),
            Err(error) => return Err(error),
        };
        let mut entries = BTreeMap::new();
        let mut whole = 0;
        for record in bytes.chunks_exact(RECORD_BYTES) {
            // A torn end, or damage: what follows cannot be trusted, and costs a fetch at worst.
            let Some((key, owner, said)) = read_record(record) else { break };
            apply(&mut entries, key, owner, said);
            whole += RECORD_BYTES;
        }
        let live: usize = entries.values().map(|e| e.held.len() + e.coming.len()).sum();
        if whole < bytes.len() || whole / RECORD_BYTES > 2 * live + SPARE_RECORDS {
            rewrite(disk, name, &entries)?;
        }
        let file = Box::new(disk.append(name)?);
        // The file may be new: its name must last, too.
        disk.sync_dir("")?;
        Ok(Self { entries, file })
    }

    /// Durable when this returns.
    fn say(&mut self, key: ArtifactId, owner: Owner, said: Said) -> io::Result<()> {
        self.file.write_all(&record(&key, &owner, said))?;
        self.file.sync()?;
        apply(&mut self.entries, key, owner, said);
        Ok(())
    }
}

fn apply(entries: &mut BTreeMap<ArtifactId, Entry>, key: ArtifactId, owner: Owner, said: Said) {
    let entry = entries.entry(key).or_default();
    match said {
        Said::Held => {
            entry.coming.remove(&owner);
            entry.held.insert(owner);
        }
        Said::Coming => _ = entry.coming.insert(owner),
        Said::Gone => {
            entry.coming.remove(&owner);
            entry.held.remove(&owner);
        }
    }
    // An entry without owners stays: without one it would be this machine's own domain's.
}

fn rewrite<D: Disk>(disk: &D, name: &str, entries: &BTreeMap<ArtifactId, Entry>) -> io::Result<()> {
    let aside = format!("{name}.tmp");
    let mut out = Vec::new();
    for (key, entry) in entries {
        for owner in &entry.held {
            out.extend_from_slice(&record(key, owner, Said::Held));
        }
        for owner in &entry.coming {
            out.extend_from_slice(&record(key, owner, Said::Coming));
        }
    }
    disk.write_new(&aside, &out)?;
    disk.rename(&aside, name)?;
    disk.sync_dir("")
}

/// The artifacts of a machine, with their owners.
#[derive(Debug)]
pub struct Shelf<F: Files = RealFiles> {
    store: Arc<ArtifactStore<F>>,
    /// The internal log of this machine's own domain.
    home: Owner,
    index: Mutex<Index>,
}

impl<F: Files> Shelf<F> {
    /// Opens the index, a file of that name in the root of a disk.
    ///
    /// # Errors
    /// If the disk refuses.
    pub fn open<D: Disk>(
        store: Arc<ArtifactStore<F>>,
        (disk, name): (&D, &str),
        home: DomainId,
    ) -> io::Result<Self> {
        let mut index = Index::open(disk, name)?;
        // Stopped between the last byte and the record of it: what is whole was verified.
        let coming: Vec<(ArtifactId, Vec<Owner>)> = index
            .entries
            .iter()
            .filter(|(_, entry)| !entry.coming.is_empty())
            .map(|(key, entry)| (*key, entry.coming.iter().copied().collect()))
            .collect();
        for (key, owners) in coming {
            if store.size(&key).map_err(io::Error::other)?.is_some() {
                for owner in owners {
                    index.say(key, owner, Said::Held)?;
                }
            }
        }
        let home = Owner { domain: home, visibility: Log::Internal };
        Ok(Self { store, home, index: Mutex::new(index) })
    }

    /// The files.
    pub fn store(&self) -> &Arc<ArtifactStore<F>> {
        &self.store
    }

    fn index(&self) -> MutexGuard<'_, Index> {
        self.index.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn owns(&self, owner: &Owner, key: &ArtifactId) -> bool {
        match self.index().entries.get(key) {
            Some(entry) => entry.held.contains(owner),
            None => *owner == self.home,
        }
    }

    /// The owners of an artifact whose bytes are here.
    pub fn owners(&self, key: &ArtifactId) -> Vec<Owner> {
        match self.index().entries.get(key) {
            Some(entry) => entry.held.iter().copied().collect(),
            None => vec![self.home],
        }
    }

    /// Makes an artifact whose bytes are here an owner's, besides those whose it is. Durable when this
    /// returns.
    ///
    /// # Errors
    /// If the disk refuses.
    pub fn give(&self, key: &ArtifactId, owner: Owner) -> io::Result<()> {
        if self.owns(&owner, key) {
            return Ok(());
        }
        let mut index = self.index();
        if !index.entries.contains_key(key) {
            index.say(*key, self.home, Said::Held)?;
        }
        index.say(*key, owner, Said::Held)
    }

    /// Makes an artifact that was put here this machine's own.
    ///
    /// # Errors
    /// If the disk refuses.
    pub fn give_home(&self, key: &ArtifactId) -> io::Result<()> {
        self.give(key, self.home)
    }

    /// Notes that somebody begins to fetch an artifact. Before its bytes come: else they would be this
    /// machine's own as soon as they are whole.
    pub(crate) fn announce(&self, key: &ArtifactId, owner: Owner) -> io::Result<()> {
        let mut index = self.index();
        let known = index.entries.get(key);
        if owner == self.home && known.is_none()
            || known.is_some_and(|entry| entry.coming.contains(&owner))
        {
            return Ok(());
        }
        // What is begun and without an entry is fetched for this machine's own domain.
        if known.is_none() && self.store.missing(key).map_err(io::Error::other)?.size.is_some() {
            index.say(*key, self.home, Said::Coming)?;
        }
        index.say(*key, owner, Said::Coming)
    }

    /// The bytes of an artifact are whole: they are those logs' that fetched them.
    pub(crate) fn arrived(&self, key: &ArtifactId) -> io::Result<()> {
        let mut index = self.index();
        let coming = index.entries.get(key).map(|entry| entry.coming.clone()).unwrap_or_default();
        coming.into_iter().try_for_each(|owner| index.say(*key, owner, Said::Held))
    }

    /// Forgets whose an artifact was whose bytes are removed.
    ///
    /// # Errors
    /// If the disk refuses.
    pub fn forget(&self, key: &ArtifactId) -> io::Result<()> {
        let mut index = self.index();
        let Some(entry) = index.entries.get(key).cloned() else { return Ok(()) };
        for owner in entry.held.iter().chain(&entry.coming) {
            index.say(*key, *owner, Said::Gone)?;
        }
        index.entries.remove(key);
        Ok(())
    }
}

/// The artifacts of one log.
#[derive(Debug)]
pub struct Shelved<F: Files = RealFiles> {
    shelf: Arc<Shelf<F>>,
    owner: Owner,
    stored: StoredArtifacts<F>,
    /// What comes from peers although its bytes are here for another log: which groups have come.
    again: BTreeMap<ArtifactId, Vec<u64>>,
}

impl<F: Files> Shelved<F> {
    /// The artifacts of an owner.
    pub fn new(shelf: Arc<Shelf<F>>, owner: Owner) -> Self {
        let stored = StoredArtifacts(shelf.store.clone());
        Self { shelf, owner, stored, again: BTreeMap::new() }
    }

    /// The same artifacts, for another thread. One of the two takes parts.
    pub(crate) fn another(&self) -> Self {
        Self::new(self.shelf.clone(), self.owner)
    }

    /// A part of an artifact whose bytes are here, but not for this log. It is checked against them. When
    /// all parts have come, it is this log's, too.
    fn compare_part(
        &mut self,
        key: &ArtifactId,
        (held, size): (u64, u64),
        groups: Range<u64>,
        bytes: &[u8],
    ) -> io::Result<PartOutcome> {
        if held != size {
            return Ok(PartOutcome::Bad("its size is another one".to_owned()));
        }
        let own = self.stored.read_part(key, groups.clone())?;
        if own.is_none_or(|(_, own)| own != bytes) {
            return Ok(PartOutcome::Bad("the bytes are not of the artifact".to_owned()));
        }
        let count = group_count(size);
        let words = usize::try_from(count.div_ceil(64)).unwrap_or(usize::MAX);
        let seen = self.again.entry(*key).or_insert_with(|| vec![0; words]);
        for group in groups {
            if let Some(word) = seen.get_mut((group / 64) as usize) {
                *word |= 1 << (group % 64);
            }
        }
        if seen.iter().map(|word| u64::from(word.count_ones())).sum::<u64>() < count {
            return Ok(PartOutcome::Good);
        }
        self.again.remove(key);
        self.shelf.give(key, self.owner)?;
        Ok(PartOutcome::Complete)
    }

    fn take_part(
        &mut self,
        key: &ArtifactId,
        size: u64,
        groups: Range<u64>,
        bytes: &[u8],
    ) -> io::Result<PartOutcome> {
        let held = self.stored.size(key)?;
        match held {
            Some(_) if self.shelf.owns(&self.owner, key) => return Ok(PartOutcome::Complete),
            Some(held) => return self.compare_part(key, (held, size), groups, bytes),
            None => {}
        }
        self.shelf.announce(key, self.owner)?;
        let outcome = self.stored.write_part(key, size, groups, bytes);
        if matches!(outcome, PartOutcome::Complete) {
            self.shelf.arrived(key)?;
        }
        Ok(outcome)
    }
}

impl<F: Files> Artifacts for Shelved<F> {
    fn size(&self, key: &ArtifactId) -> io::Result<Option<u64>> {
        if self.shelf.owns(&self.owner, key) { self.stored.size(key) } else { Ok(None) }
    }

    fn read_part(
        &self,
        key: &ArtifactId,
        groups: Range<u64>,
    ) -> io::Result<Option<(u64, Vec<u8>)>> {
        match self.shelf.owns(&self.owner, key) {
            true => self.stored.read_part(key, groups),
            false => Ok(None),
        }
    }

    fn missing(&self, key: &ArtifactId) -> io::Result<Option<Missing>> {
        let index = self.shelf.index();
        let begun = match index.entries.get(key) {
            // Begun for another log: that is nobody's business here.
            Some(entry) => entry.coming.contains(&self.owner),
            None => self.owner == self.shelf.home,
        };
        drop(index);
        if begun { self.stored.missing(key) } else { Ok(None) }
    }

    fn keep(&mut self, from: &mut dyn io::Read) -> io::Result<(ArtifactId, u64)> {
        let kept = self.stored.keep(from)?;
        self.shelf.give(&kept.0, self.owner)?;
        Ok(kept)
    }

    fn write_part(
        &mut self,
        key: &ArtifactId,
        size: u64,
        groups: Range<u64>,
        bytes: &[u8],
    ) -> PartOutcome {
        self.take_part(key, size, groups, bytes)
            .unwrap_or_else(|error| PartOutcome::Failed(error.to_string()))
    }
}

#[cfg(test)]
mod tests {
    use quipu_artifact::MemoryFiles;
    use quipu_core::artifact::PART_GROUPS_MAX;
    use quipu_store::FaultyDisk;

    use super::*;

    fn memory() -> Arc<ArtifactStore<MemoryFiles>> {
        Arc::new(ArtifactStore::with_files(MemoryFiles::new()).expect("a store"))
    }

    #[test]
    fn two_logs_that_fetch_the_same_both_have_it() {
        let bytes: Vec<u8> = (0..3 << 20).map(|n: u32| (n % 251) as u8).collect();
        let mut from = StoredArtifacts(memory());
        let (key, size) = from.keep(&mut &bytes[..]).expect("kept");
        let home = Owner { domain: DomainId([1; 32]), visibility: Log::Internal };
        let other = Owner { domain: DomainId([2; 32]), visibility: Log::Published };
        for order in [[home, other], [other, home]] {
            let shelf =
                Shelf::open(memory(), (&FaultyDisk::new(), "index"), home.domain).expect("a shelf");
            let shelf = Arc::new(shelf);
            let mut logs = order.map(|owner| Shelved::new(shelf.clone(), owner));
            let count = group_count(size);
            let starts: Vec<u64> = (0..count).step_by(PART_GROUPS_MAX as usize).collect();
            // The last part first, as a peer is asked; then both take turns.
            for (n, start) in starts.iter().rev().enumerate() {
                let groups = *start..count.min(start + PART_GROUPS_MAX);
                let part = from.read_part(&key, groups.clone()).expect("read").expect("held").1;
                let outcome = logs[n % 2].write_part(&key, size, groups, &part);
                assert!(
                    matches!(outcome, PartOutcome::Good | PartOutcome::Complete),
                    "{outcome:?}"
                );
            }
            for log in &logs {
                assert_eq!(log.size(&key).expect("read"), Some(size), "{:?}", log.owner);
            }
        }
    }
}
