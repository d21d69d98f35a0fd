//! Where the files are, and what is done with whole artifacts.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use quipu_core::id::ArtifactId;

use crate::cache::Cache;
use crate::error::{Doing, Error, Result};
use crate::files::{FileAt, Files, RealFiles};
use crate::partial::{OpenPartial, Slot};
use crate::tree::outboard_bytes;

pub(crate) const INCOMING: &str = "incoming";
pub(crate) const PARTIAL: &str = "partial";
pub(crate) const OUTBOARD: &str = ".obao";
/// After this long without a write, a file of an import is a leftover.
const LEFTOVER_AGE: Duration = Duration::from_secs(24 * 3600);

/// The bytes of artifacts, in a directory.
///
/// Any number of threads may use it. Other processes may import into it at the same time; all the
/// rest is for one process.
#[derive(Debug)]
pub struct ArtifactStore<F: Files = RealFiles> {
    pub(crate) files: F,
    /// Artifacts that are being received. Locked before `places`.
    pub(crate) slots: Mutex<BTreeMap<ArtifactId, Arc<Mutex<Slot>>>>,
    pub(crate) partials: Cache<OpenPartial<F::File>>,
    complete: Cache<Complete<F::File>>,
    /// Held while files get or lose their places.
    places: Mutex<()>,
}

/// A complete artifact, open.
#[derive(Debug)]
pub(crate) struct Complete<H> {
    pub(crate) key: ArtifactId,
    pub(crate) size: u64,
    pub(crate) data: H,
    /// None for artifacts of one group, and for those that lack theirs.
    pub(crate) outboard: Option<H>,
}

impl ArtifactStore<RealFiles> {
    /// Opens the store in that directory, which is created if it is missing.
    pub fn open(dir: &Path) -> Result<Self> {
        let files = RealFiles::new(dir).doing("creating", &dir.display().to_string())?;
        Self::with_files(files)
    }
}

/// The path of a complete artifact: its text, in a directory named by its last two characters.
fn place(key: &ArtifactId) -> (String, String) {
    let text = key.to_string();
    let dir = text[text.len() - 2..].to_owned();
    let path = format!("{dir}/{text}");
    (dir, path)
}

pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl<F: Files> ArtifactStore<F> {
    /// Opens the store in those files.
    pub fn with_files(files: F) -> Result<Self> {
        for dir in [INCOMING, PARTIAL] {
            files.create_dir(dir).doing("creating", dir)?;
        }
        files.sync_dir("").doing("syncing", "the directory")?;
        Ok(Self {
            files,
            slots: Mutex::default(),
            partials: Cache::default(),
            complete: Cache::default(),
            places: Mutex::default(),
        })
    }

    /// The files beneath.
    pub const fn files(&self) -> &F {
        &self.files
    }

    /// The size of an artifact, if it is here completely.
    pub fn size(&self, key: &ArtifactId) -> Result<Option<u64>> {
        let (_, path) = place(key);
        self.files.length(&path).doing("looking at", &path)
    }

    /// Whether an artifact is here completely.
    pub fn contains(&self, key: &ArtifactId) -> Result<bool> {
        Ok(self.size(key)?.is_some())
    }

    /// All complete artifacts with their sizes, sorted by key. Sizes are looked up on the way.
    pub fn list(&self) -> Result<impl Iterator<Item = Result<(ArtifactId, u64)>> + '_> {
        let keys = self.keys()?;
        Ok(keys.into_iter().filter_map(|key| match self.size(&key) {
            Ok(size) => Some(Ok((key, size?))),
            Err(error) => Some(Err(error)),
        }))
    }

    /// How many complete artifacts there are.
    pub fn count(&self) -> Result<u64> {
        Ok(self.list()?.filter(Result::is_ok).count() as u64)
    }

    /// Removes a complete artifact. Answers whether it was here. Whoever reads it may read on.
    pub fn remove(&self, key: &ArtifactId) -> Result<bool> {
        let _places = lock(&self.places);
        let (dir, path) = place(key);
        self.complete.forget(key);
        if self.size(key)?.is_none() {
            return Ok(false);
        }
        self.files.remove(&path).doing("removing", &path)?;
        let outboard = format!("{path}{OUTBOARD}");
        if self.exists(&outboard)? {
            // First the data durably, so that they are never without their outboard.
            self.files.sync_dir(&dir).doing("syncing", &dir)?;
            self.files.remove(&outboard).doing("removing", &outboard)?;
        }
        self.files.sync_dir(&dir).doing("syncing", &dir)?;
        Ok(true)
    }

    /// Bytes of the disk that everything here takes: artifacts, outboards, partials, imports.
    pub fn disk_bytes(&self) -> Result<u64> {
        let mut sum = 0;
        let mut dirs = self.dirs()?;
        dirs.extend([INCOMING.to_owned(), PARTIAL.to_owned()]);
        for dir in dirs {
            for name in self.files.list(&dir).doing("listing", &dir)? {
                // What goes away meanwhile takes nothing.
                sum += self.files.allocated(&format!("{dir}/{name}")).unwrap_or(0);
            }
        }
        Ok(sum)
    }

    /// Removes what nobody will come back to: imports of processes that are gone or that were not
    /// written to for a day, and outboards without data. Answers how many files went.
    pub fn clean(&self) -> Result<u64> {
        let mut removed = self.clean_partials()?;
        let _places = lock(&self.places);
        for (path, _) in self.leftovers()? {
            removed += u64::from(self.files.remove(&path).is_ok());
        }
        Ok(removed)
    }

    /// Files that interrupted imports left, with their sizes: [`Self::clean`] removes them.
    pub fn leftovers(&self) -> Result<Vec<(String, u64)>> {
        let mut found = Vec::new();
        for name in self.files.list(INCOMING).doing("listing", INCOMING)? {
            let path = format!("{INCOMING}/{name}");
            if self.is_leftover(&name, &path) {
                found.push(path);
            }
        }
        for dir in self.dirs()? {
            for name in self.files.list(&dir).doing("listing", &dir)? {
                let Some(text) = name.strip_suffix(OUTBOARD) else { continue };
                if !self.exists(&format!("{dir}/{text}"))? && !self.is_partial_name(text)? {
                    found.push(format!("{dir}/{name}"));
                }
            }
        }
        let sized = |path: String| match self.files.length(&path).doing("looking at", &path) {
            Ok(length) => Ok((path, length.unwrap_or(0))),
            Err(error) => Err(error),
        };
        found.into_iter().map(sized).collect()
    }

    fn is_leftover(&self, name: &str, path: &str) -> bool {
        let process = name.split('-').next().and_then(|pid| pid.parse().ok());
        let gone = process.is_none_or(|pid| !self.files.may_run(pid));
        gone || self.files.age(path).is_ok_and(|age| age > LEFTOVER_AGE)
    }

    fn is_partial_name(&self, text: &str) -> Result<bool> {
        self.exists(&format!("{PARTIAL}/{text}.data"))
    }

    pub(crate) fn exists(&self, path: &str) -> Result<bool> {
        Ok(self.files.length(path).doing("looking at", path)?.is_some())
    }

    /// Directories of complete artifacts.
    fn dirs(&self) -> Result<Vec<String>> {
        let mut dirs = self.files.list("").doing("listing", "the directory")?;
        dirs.retain(|name| name.len() == 2);
        Ok(dirs)
    }

    pub(crate) fn keys(&self) -> Result<Vec<ArtifactId>> {
        let mut keys = Vec::new();
        for dir in self.dirs()? {
            let names = self.files.list(&dir).doing("listing", &dir)?;
            let found = names.iter().filter_map(|name| name.parse().ok());
            keys.extend(found.filter(|key| place(key).0 == dir));
        }
        keys.sort_unstable();
        Ok(keys)
    }

    /// A complete artifact, open.
    pub(crate) fn complete(&self, key: &ArtifactId) -> Result<Option<Arc<Complete<F::File>>>> {
        if let Some(open) = self.complete.get(key) {
            return Ok(Some(open));
        }
        let Some(size) = self.size(key)? else { return Ok(None) };
        let (_, path) = place(key);
        let data = self.files.open(&path).doing("opening", &path)?;
        let outboard = self.open_outboard(&path, size)?;
        let open = Arc::new(Complete { key: *key, size, data, outboard });
        self.complete.put(*key, open.clone());
        Ok(Some(open))
    }

    fn open_outboard(&self, path: &str, size: u64) -> Result<Option<F::File>> {
        let path = format!("{path}{OUTBOARD}");
        if outboard_bytes(size) == 0 || !self.exists(&path)? {
            return Ok(None);
        }
        self.files.open(&path).doing("opening", &path).map(Some)
    }

    /// Moves an artifact to its place: durable files from elsewhere. The outboard goes first, so
    /// that data in their place always have one.
    pub(crate) fn put_in_place(
        &self,
        key: &ArtifactId,
        data: &str,
        outboard: Option<&str>,
    ) -> Result<()> {
        let _places = lock(&self.places);
        let (dir, path) = place(key);
        if !self.files.list("").doing("listing", "the directory")?.contains(&dir) {
            self.files.create_dir(&dir).doing("creating", &dir)?;
            self.files.sync_dir("").doing("syncing", "the directory")?;
        }
        if let Some(outboard) = outboard {
            let to = format!("{path}{OUTBOARD}");
            self.files.rename(outboard, &to).doing("renaming to", &to)?;
            self.files.sync_dir(&dir).doing("syncing", &dir)?;
        }
        self.files.rename(data, &path).doing("renaming to", &path)?;
        self.files.sync_dir(&dir).doing("syncing", &dir)?;
        self.complete.forget(key);
        Ok(())
    }

    /// Takes back an outboard whose data never followed it to its place.
    pub(crate) fn take_back_outboard(&self, key: &ArtifactId, to: &str) -> Result<()> {
        let _places = lock(&self.places);
        let (_, path) = place(key);
        let from = format!("{path}{OUTBOARD}");
        if !self.exists(&path)? && self.exists(&from)? {
            self.files.rename(&from, to).doing("renaming to", to)?;
        }
        Ok(())
    }

    pub(crate) fn not_here(key: &ArtifactId) -> Error {
        Error::NotHere(*key)
    }
}

/// Whether all of a file of that length is there.
pub(crate) fn has_length(file: &impl FileAt, length: u64) -> bool {
    file.length().is_ok_and(|n| n == length)
}
