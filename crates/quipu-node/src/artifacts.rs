//! Where the bytes of artifacts are.

use std::io;
use std::ops::Range;
use std::sync::Arc;

use bytes::Bytes;
use quipu_artifact::{ArtifactStore, Error, Files, PartError};
use quipu_core::history::Missing;
use quipu_core::id::ArtifactId;
use quipu_core::node::{Input, LinkId, PartOutcome};

/// A part of an artifact that came from a peer.
#[derive(Debug, Clone)]
pub struct IncomingPart {
    /// Where it came from.
    pub link: LinkId,
    /// Of which artifact.
    pub key: ArtifactId,
    /// The size that the sender claims.
    pub size: u64,
    /// Which groups.
    pub groups: Range<u64>,
    /// The groups with what proves them.
    pub bytes: Bytes,
}

impl IncomingPart {
    /// The answer to the node.
    pub fn stored(self, outcome: PartOutcome) -> Input {
        let Self { link, key, groups, .. } = self;
        Input::PartStored { link, key, groups, outcome }
    }
}

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

    /// Keeps bytes that were made here. Answers their key and size.
    ///
    /// # Errors
    /// If the disk refuses, or the bytes cannot be read.
    fn keep(&mut self, from: &mut dyn io::Read) -> io::Result<(ArtifactId, u64)>;

    /// Checks a part that came and keeps it, if it fits.
    fn write_part(
        &mut self,
        key: &ArtifactId,
        size: u64,
        groups: Range<u64>,
        bytes: &[u8],
    ) -> PartOutcome;

    /// The same, perhaps later: without an outcome, whoever runs the driver hears of it and gives it
    /// [`Input::PartStored`].
    fn take_part(&mut self, part: &IncomingPart) -> Option<PartOutcome> {
        Some(self.write_part(&part.key, part.size, part.groups.clone(), &part.bytes))
    }
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

    fn keep(&mut self, _from: &mut dyn io::Read) -> io::Result<(ArtifactId, u64)> {
        Err(io::Error::other("this machine keeps no artifacts"))
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

/// Artifacts in files.
#[derive(Debug)]
pub struct StoredArtifacts<F: Files>(pub Arc<ArtifactStore<F>>);

fn io_error(error: Error) -> io::Error {
    io::Error::other(error)
}

impl<F: Files> Artifacts for StoredArtifacts<F> {
    fn size(&self, key: &ArtifactId) -> io::Result<Option<u64>> {
        self.0.size(key).map_err(io_error)
    }

    fn read_part(
        &self,
        key: &ArtifactId,
        groups: Range<u64>,
    ) -> io::Result<Option<(u64, Vec<u8>)>> {
        let part = self.0.read_part(key, groups).map_err(io_error)?;
        Ok(part.map(|part| (part.size, part.bytes)))
    }

    fn missing(&self, key: &ArtifactId) -> io::Result<Option<Missing>> {
        let missing = self.0.missing(key).map_err(io_error)?;
        Ok(missing.size.map(|size| Missing { size, groups: missing.groups }))
    }

    fn keep(&mut self, from: &mut dyn io::Read) -> io::Result<(ArtifactId, u64)> {
        let imported = self.0.import(from, &mut |_| ()).map_err(io_error)?;
        let kept = (imported.key, imported.size);
        self.0.adopt(imported).map_err(io_error)?;
        Ok(kept)
    }

    fn write_part(
        &mut self,
        key: &ArtifactId,
        size: u64,
        groups: Range<u64>,
        bytes: &[u8],
    ) -> PartOutcome {
        match self.0.write_part(key, size, groups, bytes) {
            Ok(written) if written.complete => PartOutcome::Complete,
            Ok(_) => PartOutcome::Good,
            Err(PartError::Bad(reason)) => PartOutcome::Bad(reason.to_owned()),
            Err(error) => PartOutcome::Failed(error.to_string()),
        }
    }
}

/// Which artifacts a machine fetches by itself. Others only when somebody asks for them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum ArtifactPolicy {
    /// All that are visible.
    #[default]
    All,
    /// Those of fewer bytes than this.
    Below(u64),
    /// None.
    None,
}

impl ArtifactPolicy {
    /// Whether an artifact of that size is fetched.
    pub fn wants(self, size: u64) -> bool {
        match self {
            ArtifactPolicy::All => true,
            ArtifactPolicy::Below(limit) => size < limit,
            ArtifactPolicy::None => false,
        }
    }
}

impl std::fmt::Display for ArtifactPolicy {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            ArtifactPolicy::All => f.write_str("all"),
            ArtifactPolicy::Below(limit) => write!(f, "below:{limit}"),
            ArtifactPolicy::None => f.write_str("none"),
        }
    }
}

impl std::str::FromStr for ArtifactPolicy {
    type Err = String;

    /// `all`, `none`, or `below:` and a number of bytes with an optional unit: `k`, `M` or `G` for
    /// powers of 1,000, `Ki`, `Mi` or `Gi` for powers of 1,024.
    fn from_str(text: &str) -> Result<Self, String> {
        let wrong = || format!("{text:?} is not all, none or below:SIZE, such as below:10M");
        match text {
            "all" => return Ok(ArtifactPolicy::All),
            "none" => return Ok(ArtifactPolicy::None),
            _ => {}
        }
        let size = text.strip_prefix("below:").ok_or_else(wrong)?;
        let digits = size.trim_end_matches(|c: char| c.is_ascii_alphabetic());
        let unit = match &size[digits.len()..] {
            "" => 1,
            "k" => 1_000,
            "M" => 1_000_000,
            "G" => 1_000_000_000,
            "Ki" => 1 << 10,
            "Mi" => 1 << 20,
            "Gi" => 1 << 30,
            _ => return Err(wrong()),
        };
        let number: u64 = digits.parse().map_err(|_| wrong())?;
        number.checked_mul(unit).map(ArtifactPolicy::Below).ok_or_else(wrong)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn policies_in_text() {
        for (text, policy) in [
            ("all", ArtifactPolicy::All),
            ("none", ArtifactPolicy::None),
            ("below:0", ArtifactPolicy::Below(0)),
            ("below:10M", ArtifactPolicy::Below(10_000_000)),
            ("below:2Ki", ArtifactPolicy::Below(2_048)),
        ] {
            assert_eq!(text.parse(), Ok(policy));
            assert_eq!(policy.to_string().parse(), Ok(policy));
        }
        for bad in ["", "some", "below:", "below:M", "below:5T", "below:-1", "below:99999999999G"] {
            assert!(bad.parse::<ArtifactPolicy>().is_err(), "{bad}");
        }
        assert!(ArtifactPolicy::Below(5).wants(4) && !ArtifactPolicy::Below(5).wants(5));
    }
}
