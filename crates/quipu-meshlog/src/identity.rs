//! Reticulum identities, as far as signing goes: two keys, of which the hash is an author's name.

use curve25519_dalek::MontgomeryPoint;
use data_encoding::HEXLOWER;
use ed25519_dalek::{Signature, Signer as _, SigningKey, VerifyingKey};
use sha2::{Digest as _, Sha256};

use crate::event::{Body, Event};
use crate::text::Text;

/// Bytes of an identity, public or secret: a key for encryption, then one for signatures.
pub const IDENTITY_BYTES: usize = 64;
const KEY_BYTES: usize = 32;
/// Bytes of a signature.
pub const SIGNATURE_BYTES: usize = 64;
/// Bytes of the hash that names an identity.
pub const HASH_BYTES: usize = 16;

/// The public half of an identity, as announces carry it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PublicIdentity {
    encryption: [u8; KEY_BYTES],
    signing: VerifyingKey,
    /// Its key for signatures has no part of small order: such ones can be verified together.
    is_pure: bool,
}

impl PublicIdentity {
    /// The identity in an announce. Nothing if its second half is no key.
    pub fn from_bytes(bytes: &[u8; IDENTITY_BYTES]) -> Option<Self> {
        let (halves, _) = bytes.as_chunks::<KEY_BYTES>();
        let [encryption, signing] = halves else { return None };
        let signing = VerifyingKey::from_bytes(signing).ok()?;
        Some(Self {
            encryption: *encryption,
            signing,
            is_pure: signing.to_edwards().is_torsion_free(),
        })
    }

    /// The bytes that are announced.
    pub fn to_bytes(&self) -> [u8; IDENTITY_BYTES] {
        let mut bytes = [0; IDENTITY_BYTES];
        bytes[..KEY_BYTES].copy_from_slice(&self.encryption);
        bytes[KEY_BYTES..].copy_from_slice(self.signing.as_bytes());
        bytes
    }

    /// The key for signatures, if it has no part of small order.
    pub(crate) fn pure_key(&self) -> Option<&VerifyingKey> {
        self.is_pure.then_some(&self.signing)
    }

    /// The hash that names it.
    pub fn hash(&self) -> [u8; HASH_BYTES] {
        let mut hash = [0; HASH_BYTES];
        hash.copy_from_slice(&Sha256::digest(self.to_bytes())[..HASH_BYTES]);
        hash
    }

    /// The author that signs with it.
    pub fn author(&self) -> Text {
        HEXLOWER.encode(&self.hash()).into()
    }

    /// Whether it signed the content with these canonical bytes. Only strict verification counts.
    pub fn has_signed(&self, body: &[u8], signature: &Text) -> bool {
        signature_bytes(signature).is_some_and(|bytes| self.has_signed_bytes(body, &bytes))
    }

    /// Whether it signed these bytes.
    pub fn has_signed_bytes(&self, message: &[u8], signature: &[u8; SIGNATURE_BYTES]) -> bool {
        self.signing.verify_strict(message, &Signature::from_bytes(signature)).is_ok()
    }
}

/// A signature as its text in an event has it.
pub(crate) fn signature_bytes(text: &Text) -> Option<[u8; SIGNATURE_BYTES]> {
    let digits = text.as_bytes();
    let mut bytes = [0; SIGNATURE_BYTES];
    if digits.len() == 2 * SIGNATURE_BYTES && HEXLOWER.decode_mut(digits, &mut bytes).is_ok() {
        return Some(bytes);
    }
    from_hex(digits)?.try_into().ok()
}

/// What Python's `bytes.fromhex` reads: digits of either case, in pairs, with spaces between pairs.
fn from_hex(text: &[u8]) -> Option<Vec<u8>> {
    let mut bytes = Vec::with_capacity(text.len() / 2);
    let mut rest = text;
    loop {
        rest = rest.trim_ascii_start();
        // Python's spaces have one more than Rust's: the vertical tab.
        if let [0x0b, tail @ ..] = rest {
            rest = tail;
            continue;
        }
        let [high, low, tail @ ..] = rest else {
            return rest.is_empty().then_some(bytes);
        };
        let digit = |byte: u8| char::from(byte).to_digit(16);
        bytes.push((digit(*high)? << 4 | digit(*low)?) as u8);
        rest = tail;
    }
}

/// An identity with its secrets.
#[derive(Debug)]
pub struct Identity {
    signing: SigningKey,
    public: PublicIdentity,
}

impl Identity {
    /// The identity in an identity file of Reticulum.
    pub fn from_bytes(bytes: &[u8; IDENTITY_BYTES]) -> Self {
        let (mut encryption, mut signing) = ([0; KEY_BYTES], [0; KEY_BYTES]);
        encryption.copy_from_slice(&bytes[..KEY_BYTES]);
        signing.copy_from_slice(&bytes[KEY_BYTES..]);
        let signing = SigningKey::from_bytes(&signing);
        let public = PublicIdentity {
            encryption: MontgomeryPoint::mul_base_clamped(encryption).to_bytes(),
            signing: signing.verifying_key(),
            is_pure: true,
        };
        Self { signing, public }
    }

    /// Its public half.
    pub const fn public(&self) -> &PublicIdentity {
        &self.public
    }

    /// Signs content.
    pub fn sign(&self, body: &Body) -> Text {
        HEXLOWER.encode(&self.sign_bytes(&body.to_bytes())).into()
    }

    /// Signs bytes.
    pub fn sign_bytes(&self, message: &[u8]) -> [u8; SIGNATURE_BYTES] {
        self.signing.sign(message).to_bytes()
    }

    /// An event of this content with a signature.
    pub fn event(&self, body: Body) -> Event {
        let signature = self.sign(&body);
        Event::new(body).with_signature(Some(signature))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hex_as_python_reads_it() {
        assert_eq!(from_hex(b" aB\t00 \x0b"), Some(vec![0xab, 0]));
        assert_eq!(from_hex(b""), Some(vec![]));
        for bad in [&b"a"[..], b"a b", b"0x", b"\xc2\xa0ab"] {
            assert_eq!(from_hex(bad), None, "{bad:?}");
        }
    }
}
