//! What one step has beside its memory: files, clocks, randomness, arguments, limits.

use std::io;
use std::sync::Arc;

use wasmtime::ResourceLimiter;

use super::files::Files;
use super::time::{Clocks, Random};
use crate::watch::Meter;

/// Elements of all tables of a module together.
const TABLE_ELEMENTS_MAX: usize = 1 << 20;

/// Why a step ends before its module does.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Stop {
    /// The module ended by itself.
    #[error("exited with {0}")]
    Exit(i32),
    #[error("it wrote more than its limit of {0} bytes")]
    OutputLimit(u64),
    #[error("it made more than its limit of {0} files and directories")]
    FilesLimit(u64),
    #[error("its input {name:?} could not be read: {error}")]
    Input { name: String, error: io::Error },
    #[error("what it writes could not be kept: {0}")]
    Output(io::Error),
    #[error("the host has no memory left")]
    HostMemory,
    #[error("stopped on request")]
    Killed,
}

/// The state behind all calls of a step.
pub(crate) struct Host {
    pub(crate) files: Files,
    pub(super) args: Vec<String>,
    pub(super) clocks: Clocks,
    pub(super) random: Random,
    pub(crate) meter: Arc<Meter>,
    pub(crate) memory: Memory,
}

/// The bound of linear memory and tables, and whether the module met it.
pub(crate) struct Memory {
    max: u64,
    tables: usize,
    /// The size that was asked for when it was refused last.
    pub(crate) refused: Option<u64>,
}

impl Host {
    pub(crate) fn new(
        files: Files,
        args: Vec<String>,
        key: &[u8; 32],
        memory: u64,
        meter: Arc<Meter>,
    ) -> Self {
        Self {
            files,
            args,
            clocks: Clocks::new(key),
            random: Random::new(key),
            meter,
            memory: Memory { max: memory, tables: 0, refused: None },
        }
    }
}

impl ResourceLimiter for Memory {
    fn memory_growing(
        &mut self,
        _: usize,
        desired: usize,
        maximum: Option<usize>,
    ) -> wasmtime::Result<bool> {
        if desired as u64 > self.max {
            self.refused = Some(desired as u64);
            return Ok(false);
        }
        Ok(maximum.is_none_or(|maximum| desired <= maximum))
    }

    // The module must not see that this host has less memory than another.
    // It is told only of what was allowed above: refusals are answers like any other.
    fn memory_grow_failed(&mut self, _: wasmtime::Error) -> wasmtime::Result<()> {
        Err(wasmtime::Error::new(Stop::HostMemory))
    }

    fn table_growing(
        &mut self,
        current: usize,
        desired: usize,
        maximum: Option<usize>,
    ) -> wasmtime::Result<bool> {
        let others = self.tables.saturating_sub(current);
        let fits = others.saturating_add(desired) <= TABLE_ELEMENTS_MAX
            && maximum.is_none_or(|maximum| desired <= maximum);
        if fits {
            self.tables = others + desired;
        }
        Ok(fits)
    }

    fn table_grow_failed(&mut self, _: wasmtime::Error) -> wasmtime::Result<()> {
        Ok(())
    }
}
