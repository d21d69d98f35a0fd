//! Names of things: one newtype for each, so that one cannot pass for another.
//!
//! Content ids are CIDv1 (multiformats) with BLAKE3-256. Only the 32 digest bytes are kept in
//! memory: codec, hash function and length are fixed by the type, and restored when an id is
//! written out as text (`b` + base32 lower case) or as an IPLD link.

use std::fmt;
use std::str::FromStr;

use data_encoding::{BASE32_NOPAD, HEXLOWER};

/// CIDv1, codec dag-cbor (0x71), BLAKE3-256 (0x1e), 32 bytes.
pub const CID_PREFIX_DAG_CBOR: [u8; 4] = [0x01, 0x71, 0x1e, 0x20];
/// CIDv1, codec raw (0x55), BLAKE3-256 (0x1e), 32 bytes.
pub const CID_PREFIX_RAW: [u8; 4] = [0x01, 0x55, 0x1e, 0x20];
/// Bytes of a binary CID: the prefix and the digest.
pub const CID_BYTES: usize = 36;

/// What is wrong with the text of an id.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum IdError {
    /// The text is not in the alphabet or of the length that this id has.
    #[error("not {what}: {text:?}")]
    Malformed {
        /// The kind of id that was expected.
        what: &'static str,
        /// The text as given, cut to 80 characters.
        text: String,
    },
}

fn malformed(what: &'static str, text: &str) -> IdError {
    IdError::Malformed { what, text: text.chars().take(80).collect() }
}

/// Text of a CIDv1 from its prefix and digest.
pub fn cid_text(prefix: [u8; 4], digest: &[u8; 32]) -> String {
    let mut bytes = [0u8; CID_BYTES];
    bytes[..4].copy_from_slice(&prefix);
    bytes[4..].copy_from_slice(digest);
    let mut text = String::with_capacity(59);
    text.push('b');
    text.push_str(&BASE32_NOPAD.encode(&bytes).to_ascii_lowercase());
    text
}

/// Digest of a CIDv1 text with the given prefix, or nothing if it is any other text.
pub fn cid_digest(prefix: [u8; 4], text: &str) -> Option<[u8; 32]> {
    let rest = text.strip_prefix('b')?;
    if rest.bytes().any(|b| b.is_ascii_uppercase()) {
        return None;
    }
    let bytes = BASE32_NOPAD.decode(rest.to_ascii_uppercase().as_bytes()).ok()?;
    if bytes.len() != CID_BYTES || bytes[..4] != prefix {
        return None;
    }
    bytes[4..].try_into().ok()
}

macro_rules! digest_type {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
        pub struct $name(pub [u8; 32]);

        impl $name {
            /// The 32 bytes.
            pub const fn as_bytes(&self) -> &[u8; 32] {
                &self.0
            }

            /// The id from a slice, if it has 32 bytes.
            pub fn from_slice(bytes: &[u8]) -> Option<Self> {
                bytes.try_into().ok().map(Self)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "{}({})", stringify!($name), &HEXLOWER.encode(&self.0[..6]))
            }
        }
    };
}

macro_rules! cid_type {
    ($(#[$doc:meta])* $name:ident, $prefix:expr, $what:literal) => {
        digest_type!($(#[$doc])* $name);

        impl $name {
            /// The first four bytes of the binary CID: version, codec, hash function, length.
            pub const PREFIX: [u8; 4] = $prefix;

            /// Names bytes by their hash.
            pub fn of(bytes: &[u8]) -> Self {
                Self(*blake3::hash(bytes).as_bytes())
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&cid_text(Self::PREFIX, &self.0))
            }
        }

        impl FromStr for $name {
            type Err = IdError;
            fn from_str(text: &str) -> Result<Self, IdError> {
                cid_digest(Self::PREFIX, text).map(Self).ok_or_else(|| malformed($what, text))
            }
        }
    };
}

cid_type!(
    /// An event: hash of its canonical body. The `uuid` of EVT-5.
    EventId, CID_PREFIX_DAG_CBOR, "an event id"
);
cid_type!(
    /// A payload block: hash of its canonical bytes.
    PayloadId, CID_PREFIX_DAG_CBOR, "a payload id"
);
cid_type!(
    /// An artifact: hash of its bytes (ART-1).
    ArtifactId, CID_PREFIX_RAW, "an artifact key"
);
cid_type!(
    /// A domain: the id of its root event.
    DomainId, CID_PREFIX_DAG_CBOR, "a domain id"
);

digest_type!(
    /// The fold key an event writes, hashed (see `subject`).
    Subject
);
digest_type!(
    /// A digest of the whole log: equal digests mean equal history.
    LogDigest
);
digest_type!(
    /// A run of a program, or of a step of one: the hash of all that its result depends on.
    RunKey
);
digest_type!(
    /// A machine: its Ed25519 public key. Text form is 64 hexadecimal digits.
    NodeKey
);

impl From<EventId> for DomainId {
    fn from(id: EventId) -> Self {
        Self(id.0)
    }
}

impl From<DomainId> for EventId {
    fn from(id: DomainId) -> Self {
        Self(id.0)
    }
}

impl NodeKey {
    /// The first eight hexadecimal digits, for people.
    pub fn short(&self) -> String {
        HEXLOWER.encode(&self.0[..4])
    }
}

macro_rules! hex_text {
    ($name:ident, $what:literal) => {
        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&HEXLOWER.encode(&self.0))
            }
        }

        impl FromStr for $name {
            type Err = IdError;
            fn from_str(text: &str) -> Result<Self, IdError> {
                let bytes = HEXLOWER.decode(text.as_bytes()).map_err(|_| malformed($what, text))?;
                Self::from_slice(&bytes).ok_or_else(|| malformed($what, text))
            }
        }
    };
}
hex_text!(NodeKey, "a node key");
hex_text!(Subject, "a subject");
hex_text!(LogDigest, "a digest");
hex_text!(RunKey, "a run key");

/// Hash maps keyed by ids. Ids are hashes already; hostile ones cannot be aimed, because their
/// preimages are checked before they are inserted. Never iterated where order could be seen.
pub type IdMap<K, V> = hashbrown::HashMap<K, V, IdHashBuilder>;
/// The set that goes with [`IdMap`].
pub type IdSet<K> = hashbrown::HashSet<K, IdHashBuilder>;

/// Builds [`IdHasher`]s. It has no seed: equal keys hash alike in every process.
#[derive(Clone, Copy, Default, Debug)]
pub struct IdHashBuilder;

impl std::hash::BuildHasher for IdHashBuilder {
    type Hasher = IdHasher;
    fn build_hasher(&self) -> IdHasher {
        IdHasher(0)
    }
}

/// Takes bytes 8..16 of the key as its hash (the first bytes are what a searcher for collisions
/// in sorted order would aim at), mixed once.
#[derive(Clone, Copy, Debug)]
pub struct IdHasher(u64);

impl std::hash::Hasher for IdHasher {
    fn write(&mut self, bytes: &[u8]) {
        let word = match bytes.get(8..16) {
            Some(word) => u64::from_le_bytes(word.try_into().unwrap_or([0; 8])),
            None => bytes.iter().fold(0u64, |acc, b| acc.rotate_left(8) ^ u64::from(*b)),
        };
        self.0 = (self.0 ^ word).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    }

    fn write_usize(&mut self, _length: usize) {}
    fn write_u64(&mut self, n: u64) {
        self.write(&n.to_le_bytes());
    }

    fn finish(&self) -> u64 {
        self.0 ^ (self.0 >> 29)
    }
}

/// A snapshot as other domains name it (LOG-5): its domain, and its id there. The text is both
/// ids with a colon between them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SnapshotId {
    /// The domain.
    pub domain: DomainId,
    /// The snapshot event.
    pub local: EventId,
}

impl fmt::Display for SnapshotId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.domain, self.local)
    }
}

impl FromStr for SnapshotId {
    type Err = IdError;
    fn from_str(text: &str) -> Result<Self, IdError> {
        let (domain, local) =
            text.split_once(':').ok_or_else(|| malformed("a federated snapshot id", text))?;
        Ok(Self { domain: domain.parse()?, local: local.parse()? })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_forms_round_trip_and_refuse_each_other() {
        let event = EventId::of(b"x");
        assert_eq!(event.to_string().parse::<EventId>(), Ok(event));
        assert!(event.to_string().starts_with("bafyr4i"));
        assert!(event.to_string().parse::<ArtifactId>().is_err());
        assert!(event.to_string().to_uppercase().parse::<EventId>().is_err());
        let key = NodeKey([7; 32]);
        assert_eq!(key.to_string().parse::<NodeKey>(), Ok(key));
        assert!("07".parse::<NodeKey>().is_err());
    }
}
