//! Content ids of any codec and hash, checked for their structure only.

use std::fmt;
use std::str::FromStr;

use data_encoding::BASE32_NOPAD;

use crate::id::{ArtifactId, DomainId, EventId, IdError, PayloadId};

const BASE58: &[u8; 58] = b"123456789ABCDEFGHJKLMNPQRSTUVWXYZabcdefghijkmnopqrstuvwxyz";
/// CIDv0: a bare multihash, SHA2-256 of 32 bytes.
const V0_PREFIX: [u8; 2] = [0x12, 0x20];
const V0_BYTES: usize = 34;
const V0_TEXT: usize = 46;

/// A content id in binary form. The text form of a CIDv1 is `b` and base32 in lower case; that of
/// a CIDv0 is base58. Other bases are not read, so that an id has one text.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Cid(Box<[u8]>);

impl Cid {
    /// The content id of its binary form, if it is one.
    pub fn from_bytes(bytes: &[u8]) -> Option<Self> {
        is_cid(bytes).then(|| Self(bytes.into()))
    }

    /// The content id of bytes that [`is_cid`] has accepted.
    pub(super) fn from_checked(bytes: &[u8]) -> Self {
        Self(bytes.into())
    }

    /// The binary form.
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }

    fn is_v0(&self) -> bool {
        self.0.starts_with(&V0_PREFIX)
    }

    /// The digest, if the id has this prefix (see [`crate::id`]).
    pub fn digest(&self, prefix: [u8; 4]) -> Option<[u8; 32]> {
        self.0.strip_prefix(&prefix)?.try_into().ok()
    }
}

macro_rules! cid_from {
    ($($id:ty),*) => {$(
        impl From<$id> for Cid {
            fn from(id: $id) -> Self {
                Self([&<$id>::PREFIX[..], id.as_bytes()].concat().into())
            }
        }

        impl From<$id> for super::Value {
            fn from(id: $id) -> Self {
                Self::Link(id.into())
            }
        }
    )*};
}
cid_from!(EventId, PayloadId, ArtifactId, DomainId);

/// Whether these bytes are a CIDv0 or CIDv1: all varints shortest, and the digest as long as said.
pub(super) fn is_cid(bytes: &[u8]) -> bool {
    if bytes.starts_with(&V0_PREFIX) {
        return bytes.len() == V0_BYTES;
    }
    let digest = || {
        let rest = bytes.strip_prefix(&[1])?;
        let (_codec, rest) = varint(rest)?;
        let (_hash, rest) = varint(rest)?;
        let (length, digest) = varint(rest)?;
        (length == digest.len() as u64).then_some(())
    };
    digest().is_some()
}

/// Reads an unsigned varint of multiformats: at most nine bytes, shortest form.
fn varint(bytes: &[u8]) -> Option<(u64, &[u8])> {
    let mut n = 0;
    for (at, byte) in bytes.iter().take(9).enumerate() {
        n |= u64::from(byte & 0x7f) << (7 * at);
        if byte & 0x80 == 0 {
            return (at == 0 || *byte != 0).then_some((n, &bytes[at + 1..]));
        }
    }
    None
}

/// Writes a CIDv0, which has no leading zeros to care for.
fn base58(bytes: &[u8]) -> String {
    let mut digits = [0u8; V0_TEXT];
    for byte in bytes {
        let mut carry = usize::from(*byte);
        for digit in digits.iter_mut().rev() {
            carry += usize::from(*digit) << 8;
            *digit = (carry % 58) as u8;
            carry /= 58;
        }
    }
    digits.iter().map(|digit| char::from(BASE58[usize::from(*digit)])).collect()
}

fn from_base58(text: &str) -> Option<[u8; V0_BYTES]> {
    let mut bytes = [0u8; V0_BYTES];
    for letter in text.bytes() {
        let mut carry = BASE58.iter().position(|b| *b == letter)?;
        for byte in bytes.iter_mut().rev() {
            carry += usize::from(*byte) * 58;
            *byte = (carry & 0xff) as u8;
            carry >>= 8;
        }
        if carry != 0 {
            return None;
        }
    }
    Some(bytes)
}

impl fmt::Display for Cid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.is_v0() {
            return f.write_str(&base58(&self.0));
        }
        write!(f, "b{}", BASE32_NOPAD.encode(&self.0).to_ascii_lowercase())
    }
}

impl fmt::Debug for Cid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Cid({self})")
    }
}

impl FromStr for Cid {
    type Err = IdError;
    fn from_str(text: &str) -> Result<Self, IdError> {
        let parse = || {
            if text.starts_with("Qm") && text.len() == V0_TEXT {
                return Self::from_bytes(&from_base58(text)?).filter(|cid| cid.is_v0());
            }
            let rest = text.strip_prefix('b')?;
            if rest.bytes().any(|b| b.is_ascii_uppercase()) {
                return None;
            }
            let bytes = BASE32_NOPAD.decode(rest.to_ascii_uppercase().as_bytes()).ok()?;
            Self::from_bytes(&bytes).filter(|cid| !cid.is_v0())
        };
        parse().ok_or_else(|| IdError::Malformed {
            what: "a CID",
            text: text.chars().take(80).collect(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::id::CID_PREFIX_DAG_CBOR;

    #[test]
    fn text_forms_round_trip() {
        for text in [
            "bafkreigh2akiscaildcqabsyg3dfr6chu3fgpregiymsck7e7aqa4s52zy",
            "QmbWqxBEKC3P8tqsKc98xmWNzrzDtRLMiMPL8wBuTGsMnR",
            "QmdfTbBqBPQ7VNxZEYEj14VmRuZBkqFbiwReogJgS1zR1n",
            "bafkqaaa",
        ] {
            let cid: Cid = text.parse().unwrap();
            assert_eq!(cid.to_string(), text);
            assert_eq!(Cid::from_bytes(cid.as_bytes()), Some(cid));
        }
        let id = EventId::of(b"x");
        assert_eq!(Cid::from(id).to_string(), id.to_string());
        assert_eq!(Cid::from(id).digest(CID_PREFIX_DAG_CBOR), Some(id.0));
        assert_eq!(Cid::from(ArtifactId::of(b"x")).digest(CID_PREFIX_DAG_CBOR), None);
    }

    #[test]
    fn other_texts_and_bytes_are_refused() {
        for text in [
            "",
            "b",
            "Qm",
            "bafkqaab",
            "BAFKQAAA",
            "bAFKQAAA",
            "bafkqaaa=",
            "zafkqaaa",
            "Qm0WqxBEKC3P8tqsKc98xmWNzrzDtRLMiMPL8wBuTGsMnR",
            "QmbWqxBEKC3P8tqsKc98xmWNzrzDtRLMiMPL8wBuTGsMn",
            "Qmzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzz",
            "ciqbed3k6ya5i3qqwljochwxdrk5exzqilbckapedujenz5b5hj5r3a",
            "bafkreigh2akiscaildcqabsyg3dfr6chu3fgpregiymsck7e7aqa4s52z",
        ] {
            assert!(text.parse::<Cid>().is_err(), "{text}");
        }
        for bytes in [
            &b""[..],
            &[1],
            &[2, 0x55, 0, 0],
            &[1, 0x55, 0, 1],
            &[1, 0x55, 0, 0, 0],
            &[1, 0xd5, 0x00, 0, 0],
            &[1, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 1, 0, 0],
            &[0x12, 0x20, 0],
        ] {
            assert_eq!(Cid::from_bytes(bytes), None, "{bytes:x?}");
        }
        assert!(
            Cid::from_bytes(&[1, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 1, 0, 0])
                .is_some()
        );
    }
}
