//! What a machine announces of itself: see `docs/formats/radio-stream.md`.

use quipu_core::codec::varint::{Reader, put};
use quipu_core::id::{DomainId, NodeKey};

use crate::limits::BUSY_S_MAX;

/// Version of the beacon.
const VERSION: u8 = 1;
/// Bytes that stand for a domain or a machine.
pub const TAG_BYTES: usize = 6;
/// Bytes that stand for a digest: two different ones are taken for equal once in 2^64.
pub const DIGEST_BYTES: usize = 8;
/// The most published logs that one beacon tells of. A machine that keeps more tells of them in turn.
pub const PUBLISHED_MAX: usize = 2;
/// The longest beacon.
pub const BEACON_BYTES_MAX: usize =
    1 + 2 * TAG_BYTES + DIGEST_BYTES + 10 + PUBLISHED_MAX * (TAG_BYTES + DIGEST_BYTES);

/// What stands for a domain, a machine or a log.
pub type Tag = [u8; TAG_BYTES];

/// The digest of everything that a machine has, for any number of authors.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Beacon {
    /// Of which domain it is.
    pub domain: [u8; TAG_BYTES],
    /// Of which machine.
    pub node: [u8; TAG_BYTES],
    /// The first bytes of the digest.
    pub digest: [u8; DIGEST_BYTES],
    /// Counts the beacons of a machine: a later one has a greater number, for those who hear them in
    /// another order.
    pub epoch: u64,
    /// Published logs that it keeps, with the first bytes of their digests: at most [`PUBLISHED_MAX`],
    /// and none in the middle of a long exchange.
    pub published: Vec<(Tag, [u8; DIGEST_BYTES])>,
    /// For how many seconds this machine is in the middle of a long exchange, in which others in reach should not
    /// disturb it. 0: it is not.
    pub busy_s: u64,
}

/// What stands for a domain.
pub fn domain_tag(domain: &DomainId) -> [u8; TAG_BYTES] {
    tag(b"quipu beacon domain v1", &domain.0)
}

/// What stands for the published log of a domain.
pub fn published_tag(domain: &DomainId) -> Tag {
    tag(b"quipu beacon published v1", &domain.0)
}

/// What stands for a machine.
pub fn node_tag(node: &NodeKey) -> [u8; TAG_BYTES] {
    tag(b"quipu beacon node v1", &node.0)
}

fn tag(what: &[u8], id: &[u8; 32]) -> [u8; TAG_BYTES] {
    let mut hasher = blake3::Hasher::new();
    hasher.update(what).update(id);
    let mut tag = [0; TAG_BYTES];
    hasher.finalize_xof().fill(&mut tag);
    tag
}

impl Beacon {
    /// Its bytes.
    pub fn encode(&self) -> Vec<u8> {
        let mut bytes = vec![VERSION];
        bytes.extend(self.domain);
        bytes.extend(self.node);
        bytes.extend(self.digest);
        put(&mut bytes, self.epoch);
        if self.busy_s > 0 {
            put(&mut bytes, self.busy_s);
            return bytes;
        }
        for (log, digest) in &self.published {
            bytes.extend(log);
            bytes.extend(digest);
        }
        bytes
    }

    /// The beacon in these bytes, if it is one.
    pub fn decode(bytes: &[u8]) -> Option<Self> {
        let mut reader = Reader::new(bytes);
        reader.byte().filter(|version| *version == VERSION)?;
        let domain = reader.array()?;
        let node = reader.array()?;
        let digest = reader.array()?;
        let epoch = reader.varint()?;
        let mut published = Vec::new();
        while reader.len() >= TAG_BYTES + DIGEST_BYTES && published.len() < PUBLISHED_MAX {
            published.push((reader.array()?, reader.array()?));
        }
        let is_busy = published.is_empty() && !reader.is_empty();
        let busy_s = if is_busy { busy(reader.varint()?)? } else { 0 };
        reader.is_empty().then_some(Self { domain, node, digest, epoch, published, busy_s })
    }
}

/// A time that is left out if there is none, and never longer than one may ask for.
fn busy(seconds: u64) -> Option<u64> {
    (1..=BUSY_S_MAX).contains(&seconds).then_some(seconds)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn beacons_are_small_and_survive(
            domain in any::<[u8; TAG_BYTES]>(),
            digest in any::<[u8; DIGEST_BYTES]>(),
            epoch in any::<u64>(),
            published in prop::collection::vec(any::<(Tag, [u8; DIGEST_BYTES])>(), 0..=PUBLISHED_MAX),
            busy_s in 0..=BUSY_S_MAX,
        ) {
            let published = if busy_s > 0 { Vec::new() } else { published };
            let beacon = Beacon { domain, node: domain, digest, epoch, published, busy_s };
            let bytes = beacon.encode();
            prop_assert!(bytes.len() <= BEACON_BYTES_MAX && bytes.len() < 60);
            prop_assert_eq!(Beacon::decode(&bytes), Some(beacon.clone()));
            let head = Beacon { published: Vec::new(), busy_s: 0, ..beacon }.encode().len();
            for length in 0..bytes.len() {
                let cut = Beacon::decode(&bytes[..length]);
                prop_assert!(length >= head || cut.is_none());
                let again = cut.map(|cut| cut.encode());
                prop_assert!(again.is_none_or(|again| again == bytes[..length]));
            }
        }

        #[test]
        fn garbage_does_no_harm(bytes in prop::collection::vec(any::<u8>(), 0..64)) {
            if let Some(beacon) = Beacon::decode(&bytes) {
                prop_assert_eq!(beacon.encode(), bytes);
            }
        }
    }
}
