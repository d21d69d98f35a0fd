//! Commitments to what stays internal (PEL-8, DOM-8).
//!
//! In what is published, an end of an edge that is not published itself appears as a commitment: a hash of
//! it under a random key that is drawn anew for each publication. So nobody can recognise equal ends across
//! publications or try out known ones, and the owner can open a commitment to one party by showing its key.
//! A hash is binding: there is no second opening of the same commitment (BLAKE3 in keyed mode).

pub mod receipt;

use std::fmt;

use crate::id::NodeKey;
use crate::statement::{End, Raw};
use crate::value::{self, Value};

/// What a commitment's text begins with.
const TEXT_PREFIX: &str = "blinded:";
/// The first of a commitment's 33 bytes: so that it is no node key.
const BYTES_PREFIX: u8 = 1;

/// A commitment to an end.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Commitment(pub [u8; 32]);

impl fmt::Display for Commitment {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(TEXT_PREFIX)?;
        NodeKey(self.0).fmt(f)
    }
}

impl Commitment {
    /// Reads the text of one.
    pub fn parse(text: &str) -> Option<Self> {
        text.strip_prefix(TEXT_PREFIX)?.parse::<NodeKey>().ok().map(|digits| Self(digits.0))
    }

    /// As it stands in a payload.
    pub fn to_bytes(self) -> [u8; 33] {
        let mut bytes = [BYTES_PREFIX; 33];
        bytes[1..].copy_from_slice(&self.0);
        bytes
    }

    /// Reads what [`Self::to_bytes`] gives.
    pub fn of_bytes(bytes: &[u8]) -> Option<Self> {
        let (first, rest) = bytes.split_first()?;
        (*first == BYTES_PREFIX).then_some(Self(rest.try_into().ok()?))
    }
}

/// What opens a commitment. Whoever has it knows what is behind.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Opening {
    /// The random key.
    pub nonce: [u8; 32],
    /// What is committed to.
    pub end: End,
}

impl Opening {
    /// The commitment that this opens.
    pub fn commitment(&self) -> Commitment {
        let mut bytes = Vec::with_capacity(48);
        value::encode(&Value::from(self.end), &mut bytes);
        let key = blake3::Hasher::new_derive_key("quipu commitment v1");
        let key = *{ key }.update(&self.nonce).finalize().as_bytes();
        Commitment(*blake3::keyed_hash(&key, &bytes).as_bytes())
    }

    pub(crate) fn to_value(self) -> Value {
        Value::map([("end", Value::from(self.end)), ("nonce", Value::from(&self.nonce[..]))])
    }

    pub(crate) fn of_raw(raw: Raw<'_>) -> Option<Self> {
        let nonce = raw.get("nonce")?.bytes()?.try_into().ok()?;
        Some(Self { nonce, end: End::of_raw(raw.get("end")?)? })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::id::ArtifactId;

    #[test]
    fn a_commitment_hides_and_binds() {
        let opening = |nonce, end| Opening { nonce: [nonce; 32], end };
        let (a, b) = (End::Artifact(ArtifactId::of(b"a")), End::Artifact(ArtifactId::of(b"b")));
        let one = opening(1, a).commitment();
        assert_eq!(one, opening(1, a).commitment());
        assert_ne!(one, opening(2, a).commitment(), "equal ends differ across publications");
        assert_ne!(one, opening(1, b).commitment());
        assert_ne!(one, opening(1, End::Node(NodeKey(ArtifactId::of(b"a").0))).commitment());
    }

    #[test]
    fn texts_and_bytes() {
        let one = Commitment([0xab; 32]);
        assert_eq!(Commitment::parse(&one.to_string()), Some(one));
        assert_eq!(Commitment::of_bytes(&one.to_bytes()), Some(one));
        assert_eq!(Commitment::of_bytes(&[1; 32]), None, "that is a node key");
        assert_eq!(Commitment::of_bytes(&[2; 33]), None);
        assert_eq!(Commitment::parse(&NodeKey([1; 32]).to_string()), None);
    }
}
