//! How inputs are read and outputs kept: by the caller's store.

use std::io::{self, Read, Seek};
use std::path::Path;

use quipu_core::id::ArtifactId;

pub use crate::spool::Made;

/// Bytes that can be read from any place.
pub trait ReadSeek: Read + Seek + Send {}
impl<T: Read + Seek + Send> ReadSeek for T {}

/// A store of artifacts. A step that runs keeps what it reads open, so it may be removed meanwhile.
pub trait Artifacts: Send + Sync {
    /// How many bytes an artifact has; nothing if its bytes are not here, all of them.
    fn size(&self, key: ArtifactId) -> io::Result<Option<u64>>;

    /// Opens an artifact that is here. What is read has to be verified: a step must never see
    /// other bytes than those of the key.
    fn open(&self, key: ArtifactId) -> io::Result<Box<dyn ReadSeek>>;

    /// Keeps what a step has made, and says its key. Large results are files in
    /// [`Self::work_dir`], which may be renamed ([`Made::path`]).
    fn put(&self, made: Made) -> io::Result<ArtifactId>;

    /// Where files are written that are then given to [`Self::put`].
    fn work_dir(&self) -> &Path;
}
