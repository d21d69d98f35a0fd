//! What can go wrong, and what a check of the store found.

use std::io;

use quipu_core::event::Log;
use quipu_core::history::Ordinal;
use quipu_core::id::DomainId;

/// Why an operation of the store failed.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// Another process uses the store.
    #[error("the store is in use by another process{}", .pid.map(|p| format!(" (pid {p})")).unwrap_or_default())]
    Locked {
        /// The other process, if it could be read.
        pid: Option<u32>,
    },
    /// There is no store here.
    #[error("there is no store here")]
    Missing,
    /// There is a store here already.
    #[error("there is a store here already")]
    Exists,
    /// The store belongs to another domain.
    #[error("{path} belongs to domain {found}, not to {expected}")]
    WrongDomain {
        /// The file that says so.
        path: String,
        /// The domain it names.
        found: DomainId,
        /// The domain that was asked for.
        expected: DomainId,
    },
    /// A file is not what this store wrote: our disk is at fault.
    #[error("{path} is damaged at byte {offset}: {rule}")]
    Corrupt {
        /// The file.
        path: String,
        /// Where in the file.
        offset: u64,
        /// What does not hold.
        rule: String,
    },
    /// A file was written by a later version of this program.
    #[error("{path} has format version {found}, this program reads version {known}")]
    Version {
        /// The file.
        path: String,
        /// Its version.
        found: u32,
        /// The version that this program reads.
        known: u32,
    },
    /// The disk is full. The store takes no writes until it is opened again.
    #[error("the disk is full: could not {action} {path}")]
    Full {
        /// What was tried.
        action: &'static str,
        /// The file.
        path: String,
    },
    /// The disk refused.
    #[error("could not {action} {path}: {source}")]
    Io {
        /// What was tried.
        action: &'static str,
        /// The file.
        path: String,
        /// What the system said.
        source: io::Error,
    },
    /// An earlier write failed, so nobody knows what is on the disk: open the store again.
    #[error("the store takes no more writes since one failed: {first}")]
    Poisoned {
        /// The first failure.
        first: String,
    },
    /// The caller broke a rule.
    #[error("the store was asked for something it cannot do: {0}")]
    Misuse(&'static str),
    /// An ordinal beyond the end of a log.
    #[error("the {} log has {count} events, number {ordinal} was asked for", .log.name())]
    OutOfRange {
        /// The log.
        log: Log,
        /// The ordinal.
        ordinal: Ordinal,
        /// How many there are.
        count: u64,
    },
}

impl StoreError {
    /// What a person can do about it, if anything.
    pub fn hint(&self) -> Option<&'static str> {
        match self {
            Self::Locked { .. } => Some("stop the other process, or talk to it through its socket"),
            Self::Missing => Some("quipu init"),
            Self::Exists => Some("choose an empty directory"),
            Self::WrongDomain { .. } => Some("check the directory and the ticket"),
            Self::Corrupt { .. } => Some("quipu verify --rebuild"),
            Self::Version { .. } => Some("update quipu"),
            Self::Full { .. } => Some("free some space, then start quipu again: nothing is lost"),
            Self::Io { .. } => Some("check the disk and the permissions, then start quipu again"),
            Self::Poisoned { .. } => Some("start quipu again"),
            Self::Misuse(_) | Self::OutOfRange { .. } => None,
        }
    }

    pub(crate) fn io(action: &'static str, path: &str, source: io::Error) -> Self {
        let path = path.to_owned();
        let full =
            matches!(source.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded);
        if full { Self::Full { action, path } } else { Self::Io { action, path, source } }
    }

    pub(crate) fn corrupt(path: &str, offset: u64, rule: impl Into<String>) -> Self {
        Self::Corrupt { path: path.to_owned(), offset, rule: rule.into() }
    }
}

/// What opening a store had to repair. An interrupted write is no damage: what was cut off was
/// never acknowledged.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Recovery {
    /// Files whose end was cut off, with the number of bytes.
    pub truncated: Vec<(String, u64)>,
    /// Files left over from an interrupted operation, now removed.
    pub removed: Vec<String>,
}

impl Recovery {
    /// Whether there was nothing to repair.
    pub fn is_clean(&self) -> bool {
        self.truncated.is_empty() && self.removed.is_empty()
    }
}

/// One thing that is wrong with a store.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    /// The rule that does not hold, in a word or two.
    pub what: &'static str,
    /// The file or event that breaks it.
    pub object: String,
    /// What was found.
    pub detail: String,
}

/// The result of a full check.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Verification {
    /// Events that were checked.
    pub events: u64,
    /// What is wrong. Nothing is wrong if this is empty.
    pub problems: Vec<Problem>,
}

/// Numbers about a store.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct StoreStats {
    /// Events held, of both logs.
    pub events: u64,
    /// Sealed blocks.
    pub blocks: u64,
    /// Bytes of all files, but for damaged ones that were moved aside.
    pub disk_bytes: u64,
    /// Events that are not in a sealed block.
    pub active_events: u64,
}
