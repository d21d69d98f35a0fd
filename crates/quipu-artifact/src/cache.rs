//! A few open files, the least recently used of which is closed first.

use std::sync::{Arc, Mutex, PoisonError};

use quipu_core::id::ArtifactId;

/// Open files at most, of each kind.
const OPEN_MAX: usize = 64;

/// Open files by artifact.
#[derive(Debug)]
pub(crate) struct Cache<T> {
    /// The last is the most recently used.
    open: Mutex<Vec<(ArtifactId, Arc<T>)>>,
}

impl<T> Default for Cache<T> {
    fn default() -> Self {
        Self { open: Mutex::new(Vec::new()) }
    }
}

impl<T> Cache<T> {
    /// The open files of that artifact.
    pub(crate) fn get(&self, key: &ArtifactId) -> Option<Arc<T>> {
        let mut open = self.lock();
        let at = open.iter().rposition(|(k, _)| k == key)?;
        let entry = open.remove(at);
        let value = entry.1.clone();
        open.push(entry);
        Some(value)
    }

    /// Keeps files open.
    pub(crate) fn put(&self, key: ArtifactId, value: Arc<T>) {
        let mut open = self.lock();
        open.retain(|(k, _)| *k != key);
        if open.len() >= OPEN_MAX {
            open.remove(0);
        }
        open.push((key, value));
    }

    /// Forgets them.
    pub(crate) fn forget(&self, key: &ArtifactId) {
        self.lock().retain(|(k, _)| k != key);
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Vec<(ArtifactId, Arc<T>)>> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
