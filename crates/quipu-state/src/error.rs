//! Why the state cannot be read or kept.

use quipu_core::id::EventId;
use quipu_store::StoreError;

/// Why something could not be done with the state. It can always be built again from the log.
#[derive(Debug, thiserror::Error)]
pub enum StateError {
    /// A file of the state is not what was written.
    #[error("the state's files are damaged: {0}")]
    Damaged(&'static str),
    /// The disk refused.
    #[error("cannot write the state to {path}: {error}")]
    Io {
        /// The file.
        path: String,
        /// Why.
        error: std::io::Error,
    },
    /// The log could not be read.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// There is no such event here.
    #[error("event {0} is not here")]
    NoEvent(EventId),
}

impl StateError {
    pub(crate) fn io(path: &str, error: std::io::Error) -> Self {
        Self::Io { path: path.to_owned(), error }
    }
}
