//! Where the bytes of artifacts are.

use std::io;
use std::ops::Range;

use quipu_core::history::Missing;
use quipu_core::id::ArtifactId;
use quipu_core::node::PartOutcome;

/// The artifacts of a machine. What it answers is durable: peers and people are told of it at once.
pub trait Artifacts: std::fmt::Debug + Send {
    /// The size of an artifact that is held whole and may be shown to members.
    ///
    /// # Errors
    /// If the disk refuses. The artifact then counts as not held.
    fn size(&self, key: &ArtifactId) -> io::Result<Option<u64>>;

    /// The size of an artifact and some of its groups as they travel, if all of these are held.
    ///
    /// # Errors
    /// If the disk refuses. The artifact then counts as not held.
    fn read_part(&self, key: &ArtifactId, groups: Range<u64>)
    -> io::Result<Option<(u64, Vec<u8>)>>;

    /// What is missing of an artifact of which a part is held, with the last group, and not all.
    ///
    /// # Errors
    /// If the disk refuses. Nothing of the artifact then counts as held.
    fn missing(&self, key: &ArtifactId) -> io::Result<Option<Missing>>;

    /// Checks a part that came and keeps it, if it fits.
    fn write_part(
        &mut self,
        key: &ArtifactId,
        size: u64,
        groups: Range<u64>,
        bytes: &[u8],
    ) -> PartOutcome;
}

/// A machine that keeps no artifacts.
#[derive(Debug, Clone, Copy, Default)]
pub struct NoArtifacts;

impl Artifacts for NoArtifacts {
    fn size(&self, _key: &ArtifactId) -> io::Result<Option<u64>> {
        Ok(None)
    }

    fn read_part(
        &self,
        _key: &ArtifactId,
        _groups: Range<u64>,
    ) -> io::Result<Option<(u64, Vec<u8>)>> {
        Ok(None)
    }

    fn missing(&self, _key: &ArtifactId) -> io::Result<Option<Missing>> {
        Ok(None)
    }

    fn write_part(
        &mut self,
        _key: &ArtifactId,
        _size: u64,
        _groups: Range<u64>,
        _bytes: &[u8],
    ) -> PartOutcome {
        PartOutcome::Failed("this machine keeps no artifacts".to_owned())
    }
}
