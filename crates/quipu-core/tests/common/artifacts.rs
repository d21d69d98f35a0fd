//! Artifacts whose bytes follow from their key, so that a fake can tell true parts from false ones.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;

use quipu_core::artifact::{PART_GROUPS_MAX, group_bytes, group_count};
use quipu_core::history::Missing;
use quipu_core::id::ArtifactId;
use quipu_core::node::PartOutcome;

use super::Dice;

/// The key of an artifact that is made of a seed and has a size.
pub fn artifact(seed: u64, size: u64) -> ArtifactId {
    let mut key = [0xa5; 32];
    key[..8].copy_from_slice(&seed.to_be_bytes());
    key[8..16].copy_from_slice(&size.to_be_bytes());
    ArtifactId(key)
}

fn number(key: &ArtifactId, at: usize) -> u64 {
    u64::from_be_bytes(key.0[at..at + 8].try_into().unwrap())
}

fn true_size(key: &ArtifactId) -> u64 {
    number(key, 8)
}

/// The true bytes of some groups.
fn truth(key: &ArtifactId, groups: &Range<u64>) -> Vec<u8> {
    let bytes = group_bytes(groups, true_size(key));
    let mut out = Vec::new();
    for group in groups.clone() {
        let mut dice = Dice(number(key, 0) ^ group);
        let end = bytes.end.min(group_bytes(&(group..group + 1), true_size(key)).end);
        while (out.len() as u64) < end - bytes.start {
            let left = end - bytes.start - out.len() as u64;
            out.extend_from_slice(&dice.next().to_le_bytes()[..left.min(8) as usize]);
        }
    }
    out
}

/// What a machine says that is not so.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Lie {
    /// False bytes.
    Bytes,
    /// A size that is too large by this.
    Size(u64),
    /// It has everything.
    Everything,
}

/// What a machine holds.
#[derive(Debug, Clone, Default)]
pub struct Artifacts {
    whole: BTreeSet<ArtifactId>,
    parts: BTreeMap<ArtifactId, BTreeSet<u64>>,
    pub lie: Option<Lie>,
    /// It cannot keep anything.
    pub full: bool,
    /// Parts that were stored, in order.
    pub stored: Vec<(ArtifactId, Range<u64>)>,
    /// Groups that were stored twice.
    pub again: u64,
    /// Parts that were refused.
    pub bad: u64,
}

impl Artifacts {
    pub fn put(&mut self, key: ArtifactId) {
        self.parts.remove(&key);
        self.whole.insert(key);
    }

    /// Puts only some groups; the last one is always there.
    pub fn put_groups(&mut self, key: ArtifactId, groups: impl IntoIterator<Item = u64>) {
        let parts = self.parts.entry(key).or_default();
        parts.extend(groups);
        parts.insert(group_count(true_size(&key)) - 1);
    }

    pub fn remove(&mut self, key: &ArtifactId) {
        self.whole.remove(key);
        self.parts.remove(key);
    }

    pub fn holds(&self, key: &ArtifactId) -> bool {
        self.whole.contains(key)
    }

    pub fn size(&self, key: &ArtifactId) -> Option<u64> {
        let held = self.holds(key) || self.lie == Some(Lie::Everything);
        held.then(|| match self.lie {
            Some(Lie::Size(more)) => true_size(key) + more,
            _ => true_size(key),
        })
    }

    pub fn part(&self, key: &ArtifactId, groups: Range<u64>) -> Option<(u64, Vec<u8>)> {
        let size = self.size(key).filter(|_| self.holds(key))?;
        assert!((1..=PART_GROUPS_MAX).contains(&(groups.end - groups.start)));
        if groups.end > group_count(size) {
            return None;
        }
        if let Some(Lie::Size(_)) = self.lie {
            return Some((size, vec![0; 100]));
        }
        let mut bytes = truth(key, &groups);
        if self.lie == Some(Lie::Bytes) {
            bytes[0] ^= 1;
        }
        Some((size, bytes))
    }

    pub fn missing(&self, key: &ArtifactId) -> Option<Missing> {
        let held = self.parts.get(key)?;
        let size = true_size(key);
        let groups = (0..group_count(size)).filter(|group| !held.contains(group));
        Some(Missing { size, groups: groups.map(|group| group..group + 1).collect() })
    }

    pub fn store(
        &mut self,
        key: ArtifactId,
        size: u64,
        groups: &Range<u64>,
        bytes: &[u8],
    ) -> PartOutcome {
        if self.full {
            return PartOutcome::Failed("the disk is full".to_owned());
        }
        if size != true_size(&key) || bytes != truth(&key, groups) {
            self.bad += 1;
            return PartOutcome::Bad("another hash".to_owned());
        }
        self.stored.push((key, groups.clone()));
        let held = self.parts.entry(key).or_default();
        assert!(
            !held.is_empty() || groups.end == group_count(size),
            "the first part is the one that proves the size"
        );
        let before = held.len() as u64;
        held.extend(groups.clone());
        self.again += groups.end - groups.start - (held.len() as u64 - before);
        if held.len() as u64 == group_count(size) {
            self.put(key);
            return PartOutcome::Complete;
        }
        PartOutcome::Good
    }
}
