//! A machine as the execution of programs sees it.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use quipu_artifact::{ArtifactStore, Imported};
use quipu_core::id::ArtifactId;
use quipu_exec::artifacts::{Artifacts, Made, ReadSeek};
use quipu_exec::{CacheDir, Runner};
use quipu_node::api::{ApiError, ExitCode, Request, artifact_error};
use quipu_node::home::Home;
use serde_json::Value;

use crate::ask::Ask;

/// The directory of compiled modules, below the machine's own.
const MODULES_DIR: &str = "modules";
/// The directory of what is being made, below the machine's own.
const WORK_DIR: &str = "work";
/// What the key of compiled modules is derived for.
const MODULES_CONTEXT: &str = "quipu 2026-11-21 compiled modules on disk";

/// Where programs run: the artifacts of a machine, and who answers for it. Cheap to clone.
pub struct Workplace<A: Ask> {
    shelf: Arc<Shelf<A>>,
    runner: Arc<Runner>,
}

impl<A: Ask> Clone for Workplace<A> {
    fn clone(&self) -> Self {
        Self { shelf: self.shelf.clone(), runner: self.runner.clone() }
    }
}

impl<A: Ask> std::fmt::Debug for Workplace<A> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Workplace").field("work", &self.shelf.work).finish_non_exhaustive()
    }
}

/// The artifacts of a machine, for steps.
pub(crate) struct Shelf<A: Ask> {
    machine: Mutex<A>,
    store: Arc<ArtifactStore>,
    work: PathBuf,
}

impl<A: Ask + 'static> Workplace<A> {
    /// The workplace of the machine in that directory.
    ///
    /// # Errors
    /// If its directories cannot be used, or this processor cannot run programs.
    pub fn open(home: &Home, machine: A) -> Result<Self, ApiError> {
        // Compiled code is believed by whoever runs it, so it must be this machine's own.
        let key = blake3::derive_key(MODULES_CONTEXT, &home.key()?.to_bytes());
        let cache = CacheDir { dir: home.dir().join(MODULES_DIR), key };
        let runner = Runner::new(Some(cache))
            .map_err(|error| ApiError::new(ExitCode::Refused, error.to_string()))?;
        Self::with_runner(home, machine, runner)
    }

    /// The same with steps run by this runner.
    ///
    /// # Errors
    /// If its directories cannot be used.
    pub fn with_runner(home: &Home, machine: A, runner: Runner) -> Result<Self, ApiError> {
        let store =
            ArtifactStore::open(&home.artifacts_dir()).map_err(|error| artifact_error(&error))?;
        let work = home.dir().join(WORK_DIR);
        std::fs::create_dir_all(&work).map_err(|error| {
            ApiError::new(ExitCode::Storage, format!("{}: {error}", work.display()))
        })?;
        let shelf = Shelf { machine: Mutex::new(machine), store: Arc::new(store), work };
        Ok(Self { shelf: Arc::new(shelf), runner: Arc::new(runner) })
    }

    /// What runs steps.
    pub(crate) fn runner(&self) -> &Runner {
        &self.runner
    }

    /// The artifacts, as steps take them.
    pub(crate) fn artifacts(&self) -> Arc<dyn Artifacts> {
        self.shelf.clone()
    }

    /// Asks the machine.
    pub(crate) fn machine(&self) -> MutexGuard<'_, A> {
        self.shelf.machine()
    }

    /// The key of an artifact that is named by it or by its start. Its bytes are fetched if they are not here.
    pub(crate) fn get(&self, text: &str) -> Result<ArtifactId, ApiError> {
        let found = self.machine().one(Request::Locate { key: text.to_owned() })?;
        let key = key_in(&found["key"])?;
        if found["have"] != true {
            self.machine().one(Request::Fetch { key: key.to_string() })?;
        }
        Ok(key)
    }

    /// The key of an artifact that is named by it or by its start, wherever its bytes are.
    pub(crate) fn locate(&self, text: &str) -> Result<ArtifactId, ApiError> {
        key_in(&self.machine().one(Request::Locate { key: text.to_owned() })?["key"])
    }

    /// The same place with somebody else to ask: what one waits for does not keep the other.
    pub(crate) fn asking(&self, machine: A) -> Self {
        let Shelf { store, work, .. } = &*self.shelf;
        let shelf =
            Shelf { machine: Mutex::new(machine), store: store.clone(), work: work.clone() };
        Self { shelf: Arc::new(shelf), runner: self.runner.clone() }
    }

    /// The bytes of a small artifact.
    pub(crate) fn bytes(&self, key: &ArtifactId, max: usize) -> Result<Vec<u8>, ApiError> {
        let size = self.shelf.store.size(key).map_err(|error| artifact_error(&error))?;
        let missing = || ApiError::not_found(format!("the bytes of artifact {key} are not here"));
        let size = size.ok_or_else(|| missing().hint(format!("quipu get {key}")))?;
        if size > max as u64 {
            let message = format!("artifact {key} has {size} bytes, and at most {max} are read");
            return Err(ApiError::refused(message));
        }
        let mut bytes = Vec::new();
        let copied = self.shelf.store.copy_to(key, &mut bytes, &mut |_| ());
        copied.map_err(|error| artifact_error(&error))?;
        Ok(bytes)
    }

    /// Whether the bytes of an artifact are here.
    pub(crate) fn has(&self, key: &ArtifactId) -> Result<bool, ApiError> {
        self.shelf.store.contains(key).map_err(|error| artifact_error(&error))
    }

    /// Keeps bytes. Answers their key.
    pub(crate) fn keep(&self, bytes: &[u8]) -> Result<ArtifactId, ApiError> {
        self.shelf.take_in(bytes)
    }
}

/// A key in an answer.
pub(crate) fn key_in(value: &Value) -> Result<ArtifactId, ApiError> {
    let key = value.as_str().and_then(|text| text.parse().ok());
    key.ok_or_else(|| ApiError::new(ExitCode::Bug, format!("no artifact key: {value}")))
}

impl<A: Ask> Shelf<A> {
    fn machine(&self) -> MutexGuard<'_, A> {
        // Whoever panicked while asking has not changed what is asked.
        self.machine.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes bytes in, to be held until this machine is not asked any more.
    fn take_in(&self, bytes: impl io::Read) -> Result<ArtifactId, ApiError> {
        self.hold(self.store.import(bytes, &mut |_| ()).map_err(|error| artifact_error(&error))?)
    }

    fn hold(&self, imported: Imported) -> Result<ArtifactId, ApiError> {
        let (key, size) = (imported.key, imported.size);
        let hold = Request::Hold { import: imported.name.clone(), key: key.to_string(), size };
        let held = self.machine().all(hold);
        if held.is_err() {
            self.store.discard(imported);
        }
        held.map(|_| key)
    }
}

impl<A: Ask> Artifacts for Shelf<A> {
    fn size(&self, key: ArtifactId) -> io::Result<Option<u64>> {
        self.store.size(&key).map_err(io::Error::other)
    }

    fn open(&self, key: ArtifactId) -> io::Result<Box<dyn ReadSeek>> {
        Ok(Box::new(self.store.open_verified(&key).map_err(io::Error::other)?))
    }

    fn put(&self, made: Made) -> io::Result<ArtifactId> {
        // Large outputs are files of this machine already.
        let held = match made.path() {
            Some(path) => {
                let taken = self.store.take_over(path).map_err(|error| artifact_error(&error));
                taken.and_then(|imported| self.hold(imported))
            }
            None => self.take_in(made.reader()?),
        };
        held.map_err(io::Error::other)
    }

    fn work_dir(&self) -> &Path {
        &self.work
    }
}
