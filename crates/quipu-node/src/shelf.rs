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
    /// Cuts the file to a length.
    cut: Box<dyn Fn(u64) -> io::Result<()> + Send + Sync>,
    /// Bytes of whole records.
    len: u64,
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

impl Entry {
    /// Whether all that came of the bytes came for this owner.
    fn is_alone(&self, owner: &Owner) -> bool {
        self.held.is_empty() && self.coming.len() == 1 && self.coming.contains(owner)
    }
}

impl Index {
    fn open<D: Disk>(disk: Arc<D>, name: &str) -> io::Result<Self> {
        let bytes = match disk.read(name) {
            Ok(bytes) => bytes,
            Err(error) if error.kind() == io::ErrorKind::NotFound => Default::default(),
            Err(error) => return Err(error),
        };
        let mut entries = BTreeMap::new();
        let mut whole = 0;
        for record in bytes.chunks_exact(RECORD_BYTES) {
            // A torn end, or damage. Records have one length and a checksum each, so the others count.
            let Some((key, owner, said)) = read_record(record) else { continue };
            apply(&mut entries, key, owner, said);
            whole += RECORD_BYTES;
        }
        let live: usize = entries.values().map(|e| e.held.len() + e.coming.len()).sum();
        if whole < bytes.len() || whole / RECORD_BYTES > 2 * live + SPARE_RECORDS {
            rewrite(&*disk, name, &entries)?;
        }
        let file = Box::new(disk.append(name)?);
        // The file may be new: its name must last, too.
        disk.sync_dir("")?;
        let len = disk.size(name)?;
        let name = name.to_owned();
        Ok(Self { entries, file, cut: Box::new(move |len| disk.truncate(&name, len)), len })
    }

    /// The bytes of an artifact are whole: gives them to those for whom they came.
    ///
    /// This machine's own domain may have whatever it asked for. Any other log may only if nothing of the
    /// bytes came for somebody else: its peers would learn from it that another log has them.
    fn settle(&mut self, key: ArtifactId, home: Owner) -> io::Result<()> {
        let Some(entry) = self.entries.get(&key) else { return Ok(()) };
        let owners: Vec<Owner> =
            entry.coming.iter().filter(|o| **o == home || entry.is_alone(o)).copied().collect();
        owners.into_iter().try_for_each(|owner| self.say(key, owner, Said::Held))
    }

    /// Durable when this returns.
    fn say(&mut self, key: ArtifactId, owner: Owner, said: Said) -> io::Result<()> {
        let written = self.file.write_all(&record(&key, &owner, said));
        if let Err(error) = written.and_then(|()| self.file.sync()) {
            // Half a record would move all that follow out of their places.
            drop((self.cut)(self.len));
            return Err(error);
        }
        self.len += RECORD_BYTES as u64;
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
    // Nobody is left only when the bytes are gone. What is put here again begins anew.
    if entry.held.is_empty() && entry.coming.is_empty() {
        entries.remove(&key);
    }
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
        (disk, name): (Arc<D>, &str),
        home: DomainId,
    ) -> io::Result<Self> {
        let mut index = Index::open(disk, name)?;
        let home = Owner { domain: home, visibility: Log::Internal };
        // Stopped between the last byte and the record of it: what is whole was verified.
        let coming = index.entries.iter().filter(|(_, entry)| !entry.coming.is_empty());
        let coming: Vec<ArtifactId> = coming.map(|(key, _)| *key).collect();
        for key in coming {
            if store.size(&key).map_err(io::Error::other)?.is_some() {
                index.settle(key, home)?;
            }
        }
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
        match index.entries.get(key) {
            Some(entry) if entry.coming.contains(&owner) => return Ok(()),
            Some(_) => {}
            None if owner == self.home => return Ok(()),
            // What is here or begun, and has no entry, is this machine's own.
            None if self.store.size(key).map_err(io::Error::other)?.is_some() => {
                index.say(*key, self.home, Said::Held)?;
            }
            None if self.store.missing(key).map_err(io::Error::other)?.size.is_some() => {
                index.say(*key, self.home, Said::Coming)?;
            }
            None => {}
        }
        index.say(*key, owner, Said::Coming)
    }

    /// The bytes of an artifact are whole.
    pub(crate) fn arrived(&self, key: &ArtifactId) -> io::Result<()> {
        self.index().settle(*key, self.home)
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
        Ok(())
    }
}

/// The groups of an artifact that came from a log's own peers.
#[derive(Debug)]
struct Came {
    size: u64,
    groups: Vec<u64>,
}

impl Came {
    fn new(size: u64) -> Self {
        let words = usize::try_from(group_count(size).div_ceil(64)).unwrap_or(usize::MAX);
        Self { size, groups: vec![0; words] }
    }

    fn note(&mut self, groups: Range<u64>) {
        for group in groups {
            if let Some(word) = self.groups.get_mut((group / 64) as usize) {
                *word |= 1 << (group % 64);
            }
        }
    }

    fn has(&self, group: u64) -> bool {
        self.groups.get((group / 64) as usize).is_some_and(|word| word >> (group % 64) & 1 == 1)
    }

    fn is_all(&self) -> bool {
        let came: u64 = self.groups.iter().map(|word| u64::from(word.count_ones())).sum();
        came == group_count(self.size)
    }

    /// What did not come, if the part that proves the size did.
    fn missing(&self) -> Option<Missing> {
        let count = group_count(self.size);
        let lacking = (0..count).filter(|group| !self.has(*group));
        let groups = lacking.map(|group| group..group + 1).collect();
        self.has(count - 1).then_some(Missing { size: self.size, groups })
    }
}

/// The artifacts of one log.
#[derive(Debug)]
pub struct Shelved<F: Files = RealFiles> {
    shelf: Arc<Shelf<F>>,
    owner: Owner,
    stored: StoredArtifacts<F>,
    /// Of artifacts that are being fetched: what has come since the start.
    came: Arc<Mutex<BTreeMap<ArtifactId, Came>>>,
}

impl<F: Files> Shelved<F> {
    /// The artifacts of an owner.
    pub fn new(shelf: Arc<Shelf<F>>, owner: Owner) -> Self {
        let stored = StoredArtifacts(shelf.store.clone());
        Self { shelf, owner, stored, came: Arc::default() }
    }

    /// The same artifacts, for another thread. One of the two takes parts.
    pub(crate) fn another(&self) -> Self {
        Self { came: self.came.clone(), ..Self::new(self.shelf.clone(), self.owner) }
    }

    fn came(&self) -> MutexGuard<'_, BTreeMap<ArtifactId, Came>> {
        self.came.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes a part. If the bytes are here already, or come for several logs, an owner has them once all
    /// parts came from its own peers: they get the answers that they would get if nobody else had them.
    fn take_part(
        &mut self,
        key: &ArtifactId,
        size: u64,
        groups: Range<u64>,
        bytes: &[u8],
    ) -> io::Result<PartOutcome> {
        let here = self.stored.size(key)?.is_some();
        if here && self.shelf.owns(&self.owner, key) {
            return Ok(PartOutcome::Complete);
        }
        if !here {
            self.shelf.announce(key, self.owner)?;
        }
        // Verifies in any case.
        let outcome = self.stored.write_part(key, size, groups.clone(), bytes);
        if !matches!(outcome, PartOutcome::Good | PartOutcome::Complete) {
            return Ok(outcome);
        }
        let all = {
            let mut came = self.came();
            let came = came.entry(*key).or_insert_with(|| Came::new(size));
            came.note(groups);
            came.is_all()
        };
        if outcome != PartOutcome::Complete {
            return Ok(outcome);
        }
        if all {
            self.shelf.give(key, self.owner)?;
        }
        if !here {
            self.shelf.arrived(key)?;
        }
        if !self.shelf.owns(&self.owner, key) {
            return Ok(PartOutcome::Good);
        }
        drop(self.came().remove(key));
        Ok(PartOutcome::Complete)
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
        let own = match index.entries.get(key) {
            Some(entry) if self.owner == self.shelf.home => entry.coming.contains(&self.owner),
            // What came for another log is nobody's business here.
            Some(entry) => entry.is_alone(&self.owner),
            None => self.owner == self.shelf.home,
        };
        drop(index);
        match own {
            true => self.stored.missing(key),
            false => Ok(self.came().get(key).and_then(Came::missing)),
        }
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
mod tests;
