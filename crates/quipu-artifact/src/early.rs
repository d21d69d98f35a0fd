//! Syncing a large artifact beside its coming: else all of it waits for the disk at the end.

use std::io;
use std::sync::{Arc, Mutex};

use crate::store::lock;

/// Bytes that come between two early syncs. What is left for the end is some hundredths of a second
/// on a disk of 1 GB/s, and smaller artifacts are synced once.
pub(crate) const STEP_BYTES: u64 = 32 << 20;

/// Why an early sync failed, if one did. Locked while one runs.
type Failure = Mutex<Option<io::Error>>;

/// The early syncs of one artifact.
#[derive(Debug, Default)]
pub(crate) struct Early {
    /// Shared with the sync that runs, if one does.
    failure: Arc<Failure>,
    /// Bytes written since the last one began.
    written: u64,
}

impl Early {
    /// Counts bytes. If a sync is due and none runs, answers what does it; it may be left out.
    pub(crate) fn wrote<T: Send + Sync + 'static>(
        &mut self,
        bytes: u64,
        open: &Arc<T>,
        sync: impl FnOnce(&T) -> io::Result<()> + Send + 'static,
    ) -> Option<Box<dyn FnOnce() + Send>> {
        self.written += bytes;
        if self.written < STEP_BYTES || Arc::strong_count(&self.failure) > 1 {
            return None;
        }
        self.written = 0;
        let (failure, open) = (self.failure.clone(), open.clone());
        Some(Box::new(move || {
            let mut failed = lock(&failure);
            if let Err(error) = sync(&open) {
                *failed = Some(error);
            }
        }))
    }

    /// Waits for the sync that runs. A disk tells of a failure once, and it may have told that one:
    /// a later sync that goes well proves nothing then.
    pub(crate) fn end(&self) -> io::Result<()> {
        lock(&self.failure).take().map_or(Ok(()), Err)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const FINE: fn(&()) -> io::Result<()> = |()| Ok(());

    #[test]
    fn one_at_a_time_each_so_many_bytes() {
        let (mut early, open) = (Early::default(), Arc::new(()));
        assert!(early.wrote(STEP_BYTES - 1, &open, FINE).is_none());
        let first = early.wrote(1, &open, FINE).expect("due");
        assert!(early.wrote(STEP_BYTES, &open, FINE).is_none(), "one is under way");
        first();
        let second = early.wrote(1, &open, FINE).expect("due for long");
        drop(second);
        assert!(early.wrote(STEP_BYTES, &open, FINE).is_some(), "one that is left out is over");
        early.end().expect("none failed");
    }

    #[test]
    fn a_failure_is_told_at_the_end() {
        let (mut early, open) = (Early::default(), Arc::new(()));
        let fails = |(): &()| Err(io::ErrorKind::StorageFull.into());
        early.wrote(STEP_BYTES, &open, fails).expect("due")();
        early.wrote(STEP_BYTES, &open, FINE).expect("due")();
        assert_eq!(early.end().expect_err("one failed").kind(), io::ErrorKind::StorageFull);
    }
}
