//! Artifacts: who has them, and their parts.

use crate::id::ArtifactId;

/// What became of a part that was to be stored.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum PartOutcome {
    /// It fits the artifact's name, and is kept. The artifact is not complete yet.
    Good,
    /// It fits, is kept, and was the last that was lacking: the artifact is held whole.
    Complete,
    /// It does not fit the artifact's name: whoever sent it lied.
    Bad(String),
    /// It could not be kept, by no fault of the sender's.
    Failed(String),
}

/// An artifact that is wanted and not here yet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fetching {
    /// Which.
    pub key: ArtifactId,
    /// Its size, once it is proven.
    pub size: Option<u64>,
    /// Groups that are not stored yet; nothing while the size is not proven.
    pub missing: Option<u64>,
    /// Linked peers that have it.
    pub sources: usize,
}

impl super::Node {
    /// Wants follow from events: a session that does not stay is kept until
    /// [`super::Input::WantsTold`] after it became level.
    pub fn await_wants(&mut self) {}

    /// Whether [`super::Input::WantsTold`] is waited for.
    pub fn awaits_wants(&self) -> bool {
        false
    }

    /// How many more artifacts can be wanted now.
    pub fn wants_room(&self) -> usize {
        crate::limits::WANTS_MAX
    }

    /// The artifacts that are wanted.
    pub fn fetching(&self) -> Vec<Fetching> {
        Vec::new()
    }
}
