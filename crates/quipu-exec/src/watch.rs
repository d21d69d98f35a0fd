//! Watching runs, and stopping them.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

/// What a step has done so far. Counted by the step, read by whoever wants to show it: nothing of it
/// enters a result.
#[derive(Debug, Default)]
pub struct Meter {
    bytes: AtomicU64,
    fuel: AtomicU64,
    killed: AtomicBool,
    start: u64,
}

impl Meter {
    /// For a step that begins with that much fuel.
    pub fn new(fuel: u64) -> Self {
        Self { start: fuel, ..Self::default() }
    }

    pub(crate) const fn start(&self) -> u64 {
        self.start
    }

    /// Bytes read and written.
    pub fn bytes(&self) -> u64 {
        self.bytes.load(Ordering::Relaxed)
    }

    /// Fuel that is used up, as of its last call to the host.
    pub fn fuel(&self) -> u64 {
        self.fuel.load(Ordering::Relaxed)
    }

    pub(crate) fn count(&self, bytes: u64, fuel: u64) {
        self.bytes.store(bytes, Ordering::Relaxed);
        self.fuel.store(fuel, Ordering::Relaxed);
    }

    pub(crate) fn kill(&self) {
        self.killed.store(true, Ordering::Relaxed);
    }

    pub(crate) fn is_killed(&self) -> bool {
        self.killed.load(Ordering::Relaxed)
    }
}

/// What a run tells while it goes on. Called from the threads that run steps, in no certain order.
pub trait Watch: Send + Sync {
    /// A step begins. The meter counts until it ends.
    fn begin(&self, _step: &str, _meter: &Arc<Meter>) {}
    /// A step has ended: run, or answered from what was known.
    fn end(&self, _step: &str, _how: Ended) {}
}

/// How a step ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ended {
    /// It ran.
    Run,
    /// Its outputs were known.
    Reused,
    /// It failed.
    Failed,
}

/// Watches nothing.
#[derive(Debug, Clone, Copy, Default)]
pub struct Unwatched;

impl Watch for Unwatched {}
