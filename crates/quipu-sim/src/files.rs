//! The artifacts of a simulated machine: the production store over files in memory, with a log of
//! what became of parts.

use std::ops::Range;
use std::sync::{Arc, Mutex, PoisonError};
use std::{fmt, io};

use quipu_artifact::{ArtifactStore, FileAt, Files, MemoryFiles};
use quipu_core::history::Missing;
use quipu_core::id::ArtifactId;
use quipu_core::node::PartOutcome;
use quipu_node::Artifacts;
use quipu_node::shelf::Shelf;

/// Bytes of artifacts in memory.
pub(crate) type SimStore = ArtifactStore<MemoryFiles>;
/// Whose they are, on a machine that keeps several logs.
pub(crate) type SimShelf = Shelf<MemoryFiles>;

/// What was done to artifacts in a turn, for the log of effects.
#[derive(Debug, Clone, Default)]
pub(crate) struct Deeds(Arc<Mutex<Vec<u8>>>);

impl Deeds {
    fn add(&self, deed: &impl fmt::Debug) {
        let mut log = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        log.extend_from_slice(format!("{deed:?}").as_bytes());
    }

    /// Everything since the last call.
    pub(crate) fn take(&self) -> Vec<u8> {
        std::mem::take(&mut *self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

/// What a driver sees of them.
#[derive(Debug)]
pub(crate) struct SimArtifacts {
    pub(crate) stored: Box<dyn Artifacts>,
    pub(crate) store: Arc<SimStore>,
    pub(crate) deeds: Deeds,
    /// Broken on purpose: what does not fit is kept all the same.
    pub(crate) gullible: bool,
}

impl Artifacts for SimArtifacts {
    fn size(&self, key: &ArtifactId) -> io::Result<Option<u64>> {
        self.stored.size(key)
    }

    fn read_part(
        &self,
        key: &ArtifactId,
        groups: Range<u64>,
    ) -> io::Result<Option<(u64, Vec<u8>)>> {
        self.stored.read_part(key, groups)
    }

    fn missing(&self, key: &ArtifactId) -> io::Result<Option<Missing>> {
        self.stored.missing(key)
    }

    fn keep(&mut self, from: &mut dyn io::Read) -> io::Result<(ArtifactId, u64)> {
        let kept = self.stored.keep(from)?;
        self.deeds.add(&kept);
        Ok(kept)
    }

    fn write_part(
        &mut self,
        key: &ArtifactId,
        size: u64,
        groups: Range<u64>,
        bytes: &[u8],
    ) -> PartOutcome {
        let outcome = self.stored.write_part(key, size, groups.clone(), bytes);
        self.deeds.add(&(key, size, groups, &outcome));
        match outcome {
            PartOutcome::Bad(_) if self.gullible => believe(&self.store, key, bytes),
            outcome => outcome,
        }
    }
}

/// Puts bytes where a complete artifact would be, whatever they are.
fn believe(store: &SimStore, key: &ArtifactId, bytes: &[u8]) -> PartOutcome {
    let text = key.to_string();
    let dir = &text[text.len() - 2..];
    let write = || {
        store.files().create_dir(dir)?;
        store.files().open_rw(&format!("{dir}/{text}"))?.write_all_at(bytes, 0)
    };
    match write() {
        Ok(()) => PartOutcome::Complete,
        Err(error) => PartOutcome::Failed(error.to_string()),
    }
}
