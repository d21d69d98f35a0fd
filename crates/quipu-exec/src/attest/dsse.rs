//! DSSE: an envelope around a payload, signed over its type, too
//! (<https://github.com/secure-systems-lab/dsse>, version 1).

use data_encoding::BASE64;
use serde_json::{Value as Json, json};

/// The payload type of in-toto statements.
pub const IN_TOTO_TYPE: &str = "application/vnd.in-toto+json";

/// What is signed: type and payload with their lengths, so that neither passes for a part of the other.
pub fn pae(payload_type: &str, payload: &[u8]) -> Vec<u8> {
    let mut bytes =
        format!("DSSEv1 {} {} {} ", payload_type.len(), payload_type, payload.len()).into_bytes();
    bytes.extend_from_slice(payload);
    bytes
}

/// A signed payload.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Envelope {
    /// What the payload is.
    pub payload_type: String,
    /// The payload.
    pub payload: Vec<u8>,
    /// Signatures with the names of their keys.
    pub signatures: Vec<(String, Vec<u8>)>,
}

/// JSON that is no envelope.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("not a DSSE envelope: {0} is missing or not as it should be")]
pub struct EnvelopeError(&'static str);

impl Envelope {
    /// Signs a payload. `sign` is given what the signature is over.
    pub fn sign(
        payload_type: &str,
        payload: Vec<u8>,
        key_id: &str,
        sign: impl FnOnce(&[u8]) -> [u8; 64],
    ) -> Self {
        let signature = sign(&pae(payload_type, &payload)).to_vec();
        let signatures = vec![(key_id.to_owned(), signature)];
        Self { payload_type: payload_type.to_owned(), payload, signatures }
    }

    /// The envelope as JSON.
    pub fn to_json(&self) -> Json {
        let signature = |(key_id, signature): &(String, Vec<u8>)| json!({ "keyid": key_id, "sig": BASE64.encode(signature) });
        json!({
            "payload": BASE64.encode(&self.payload),
            "payloadType": self.payload_type,
            "signatures": self.signatures.iter().map(signature).collect::<Vec<_>>(),
        })
    }

    /// Reads an envelope. It says nothing about its signatures.
    pub fn from_json(json: &Json) -> Result<Self, EnvelopeError> {
        let bytes = |json: &Json| BASE64.decode(json.as_str()?.as_bytes()).ok();
        let signature = |json: &Json| {
            let key_id = json.get("keyid").and_then(Json::as_str).unwrap_or_default();
            Some((key_id.to_owned(), bytes(json.get("sig")?)?))
        };
        let signatures = json.get("signatures").and_then(Json::as_array);
        let signatures = signatures.and_then(|list| list.iter().map(signature).collect());
        Ok(Self {
            payload_type: json
                .get("payloadType")
                .and_then(Json::as_str)
                .ok_or(EnvelopeError("payloadType"))?
                .to_owned(),
            payload: json.get("payload").and_then(bytes).ok_or(EnvelopeError("payload"))?,
            signatures: signatures.ok_or(EnvelopeError("signatures"))?,
        })
    }

    /// Whether one of the signatures is good. `verify` is given a key's name, what was signed, and the
    /// signature.
    pub fn verify(&self, verify: impl Fn(&str, &[u8], &[u8]) -> bool) -> bool {
        let signed = pae(&self.payload_type, &self.payload);
        self.signatures.iter().any(|(key_id, signature)| verify(key_id, &signed, signature))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_signed() {
        // The example of the specification.
        let signed = pae("http://example.com/HelloWorld", b"hello world");
        assert_eq!(signed, b"DSSEv1 29 http://example.com/HelloWorld 11 hello world");
    }

    #[test]
    fn envelopes_come_back_and_others_are_refused() {
        let one = Envelope::sign("t", b"payload".to_vec(), "k", |signed| {
            let mut signature = [0; 64];
            signature[..32].copy_from_slice(blake3::hash(signed).as_bytes());
            signature
        });
        let good = |key: &str, signed: &[u8], signature: &[u8]| {
            key == "k" && signature[..32] == *blake3::hash(signed).as_bytes()
        };
        let mut back = Envelope::from_json(&one.to_json()).expect("an envelope");
        assert_eq!(back, one);
        assert!(back.verify(good));
        back.payload_type.push('x');
        assert!(!back.verify(good), "the type is signed, too");
        for field in ["payload", "payloadType", "signatures"] {
            let mut json = one.to_json();
            json[field] = Json::from(7);
            assert_eq!(Envelope::from_json(&json), Err(EnvelopeError(field)));
        }
    }
}
