//! What can go wrong.

use std::io;
use std::ops::Range;

use quipu_core::id::ArtifactId;

/// The result of most functions here.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// Why something did not work.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Bytes on disk do not fit the name.
    #[error("artifact {key} is damaged on disk: bytes {} to {} do not fit its name", .bytes.start, .bytes.end)]
    Damaged {
        /// The artifact.
        key: ArtifactId,
        /// The bytes that could not be verified.
        bytes: Range<u64>,
    },
    /// There is no such artifact, or not all of it.
    #[error("artifact {0} is not here")]
    NotHere(ArtifactId),
    /// What should be adopted cannot be.
    #[error("cannot adopt {name:?}: {reason}")]
    Adopt {
        /// The name that was given, cut to 80 characters.
        name: String,
        /// Why.
        reason: &'static str,
    },
    /// What should be imported is larger than any artifact may be.
    #[error(
        "larger than {} bytes, which is the most that an artifact may have",
        quipu_core::artifact::ARTIFACT_BYTES_MAX
    )]
    TooLarge,
    /// The bytes to import could not be read.
    #[error("reading what is to be imported: {0}")]
    Source(#[source] io::Error),
    /// The bytes could not be written to where they should go.
    #[error("writing out artifact {key}: {source}")]
    Sink {
        /// The artifact.
        key: ArtifactId,
        /// Why.
        source: io::Error,
    },
    /// A file of the store could not be used.
    #[error("{doing} {path}: {}", describe(.source))]
    Io {
        /// What was tried.
        doing: &'static str,
        /// The file, relative to the directory of the store.
        path: String,
        /// Why it failed.
        source: io::Error,
    },
}

fn describe(error: &io::Error) -> String {
    match error.kind() {
        io::ErrorKind::StorageFull => "the disk is full".to_owned(),
        io::ErrorKind::QuotaExceeded => "the disk quota is used up".to_owned(),
        _ => error.to_string(),
    }
}

impl Error {
    /// Whether the cause is a disk without room.
    pub fn is_full(&self) -> bool {
        let (Self::Io { source, .. } | Self::Sink { source, .. }) = self else { return false };
        matches!(source.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded)
    }

    /// Whether bytes on disk do not fit their name.
    pub const fn is_damage(&self) -> bool {
        matches!(self, Self::Damaged { .. })
    }
}

impl From<Error> for io::Error {
    fn from(error: Error) -> Self {
        let kind = match &error {
            Error::Damaged { .. } => io::ErrorKind::InvalidData,
            Error::NotHere(_) => io::ErrorKind::NotFound,
            Error::Adopt { .. } | Error::TooLarge => io::ErrorKind::InvalidInput,
            Error::Source(source) | Error::Sink { source, .. } | Error::Io { source, .. } => {
                source.kind()
            }
        };
        Self::new(kind, error)
    }
}

/// Adds what was tried to an error of a file.
pub(crate) trait Doing<T> {
    fn doing(self, doing: &'static str, path: &str) -> Result<T>;
}

impl<T> Doing<T> for io::Result<T> {
    fn doing(self, doing: &'static str, path: &str) -> Result<T> {
        self.map_err(|source| Error::Io { doing, path: path.to_owned(), source })
    }
}
