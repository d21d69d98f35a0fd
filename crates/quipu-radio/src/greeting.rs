//! The first message of each side on a link: who is there, and where a stream goes on.
//!
//! A link proves nothing of node keys. So each side signs, with its node key, the name of the link, which
//! nobody can give to two links. See `docs/formats/radio-stream.md`.

use ed25519_dalek::{Signature, Signer, SigningKey, VerifyingKey};
use quipu_core::codec::varint::{Reader, put};
use quipu_core::id::NodeKey;
use quipu_helper::Address;

use crate::stream::CLASSES;

/// First byte of a greeting.
const GREETING: u8 = 0x01;
/// Version of the protocol on the link.
const VERSION: u8 = 1;

/// Which side of the link speaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Side {
    /// Who opened it.
    Opener = 1,
    /// Who accepted it.
    Accepter = 2,
}

/// What a side says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Greeting {
    /// Who speaks.
    pub(crate) node: NodeKey,
    /// Where it can be reached.
    pub(crate) address: Address,
    /// Names the stream: drawn by the first opener.
    pub(crate) association: [u8; 8],
    /// Whether the speaker remembers that stream.
    pub(crate) known: bool,
    /// How much of each lane it has.
    pub(crate) places: [u64; CLASSES],
}

/// Why a greeting is not believed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum GreetingError {
    #[error("not a greeting")]
    Malformed,
    #[error("it speaks version {0}, not {VERSION}")]
    Version(u8),
    #[error("the signature is not of node {}", .0.short())]
    Signature(NodeKey),
}

/// Whether a message with this first byte is a greeting.
pub(crate) fn is_greeting(head: u8) -> bool {
    head == GREETING
}

impl Greeting {
    /// The greeting with its signature, for that link only.
    pub(crate) fn encode(&self, key: &SigningKey, link: &[u8], side: Side) -> Vec<u8> {
        let mut bytes = self.body();
        let signature = key.sign(&signed_bytes(&bytes, link, side));
        bytes.extend(signature.to_bytes());
        bytes
    }

    fn body(&self) -> Vec<u8> {
        let mut bytes = vec![GREETING, VERSION];
        bytes.extend(self.node.0);
        bytes.extend(self.address);
        bytes.extend(self.association);
        bytes.push(u8::from(self.known));
        for place in self.places {
            put(&mut bytes, place);
        }
        bytes
    }

    /// The greeting of the other side of a link, if it is its own.
    pub(crate) fn verify(bytes: &[u8], link: &[u8], side: Side) -> Result<Self, GreetingError> {
        let (body, signature) = bytes.split_last_chunk::<64>().ok_or(GreetingError::Malformed)?;
        let greeting = Self::parse(body)?;
        let node = greeting.node;
        let signature = Signature::from_bytes(signature);
        VerifyingKey::from_bytes(&node.0)
            .and_then(|key| key.verify_strict(&signed_bytes(body, link, side), &signature))
            .map_err(|_| GreetingError::Signature(node))?;
        Ok(greeting)
    }

    fn parse(body: &[u8]) -> Result<Self, GreetingError> {
        let mut reader = Reader::new(body);
        match (reader.byte(), reader.byte()) {
            (Some(GREETING), Some(VERSION)) => {}
            (Some(GREETING), Some(other)) => return Err(GreetingError::Version(other)),
            _ => return Err(GreetingError::Malformed),
        }
        let mut fields = || {
            let node = NodeKey(reader.array()?);
            let address = reader.array()?;
            let association = reader.array()?;
            let known = match reader.byte()? {
                0 => false,
                1 => true,
                _ => return None,
            };
            let mut places = [0; CLASSES];
            for place in &mut places {
                *place = reader.varint()?;
            }
            reader.is_empty().then_some(Self { node, address, association, known, places })
        };
        fields().ok_or(GreetingError::Malformed)
    }
}

fn signed_bytes(body: &[u8], link: &[u8], side: Side) -> [u8; 32] {
    let mut hasher = blake3::Hasher::new();
    hasher.update(b"quipu radio greeting v1");
    hasher.update(&[side as u8, u8::try_from(link.len()).unwrap_or(u8::MAX)]);
    hasher.update(link).update(body);
    *hasher.finalize().as_bytes()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn greeting(key: &SigningKey) -> Greeting {
        Greeting {
            node: NodeKey(key.verifying_key().to_bytes()),
            address: [4; 16],
            association: [5; 8],
            known: true,
            places: [0, 300, 7],
        }
    }

    #[test]
    fn a_greeting_is_of_one_link_and_one_side() {
        let key = SigningKey::from_bytes(&[3; 32]);
        let greeting = greeting(&key);
        let bytes = greeting.encode(&key, b"link", Side::Opener);
        assert!(bytes.len() < 150, "{}", bytes.len());
        assert_eq!(Greeting::verify(&bytes, b"link", Side::Opener), Ok(greeting.clone()));
        let wrong = Err(GreetingError::Signature(greeting.node));
        assert_eq!(Greeting::verify(&bytes, b"lint", Side::Opener), wrong);
        assert_eq!(Greeting::verify(&bytes, b"link", Side::Accepter), wrong);
        let other = SigningKey::from_bytes(&[4; 32]);
        let forged = greeting.encode(&other, b"link", Side::Opener);
        assert_eq!(Greeting::verify(&forged, b"link", Side::Opener), wrong);
        let mut newer = bytes;
        newer[1] = 9;
        assert_eq!(Greeting::verify(&newer, b"link", Side::Opener), Err(GreetingError::Version(9)));
    }

    proptest! {
        #[test]
        fn no_bit_can_be_changed(at in any::<prop::sample::Index>(), bit in 0u8..8) {
            let key = SigningKey::from_bytes(&[3; 32]);
            let mut bytes = greeting(&key).encode(&key, b"link", Side::Accepter);
            let at = at.index(bytes.len());
            bytes[at] ^= 1 << bit;
            prop_assert!(Greeting::verify(&bytes, b"link", Side::Accepter).is_err());
        }

        #[test]
        fn garbage_does_no_harm(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            prop_assert!(Greeting::verify(&bytes, b"link", Side::Opener).is_err());
        }
    }
}
