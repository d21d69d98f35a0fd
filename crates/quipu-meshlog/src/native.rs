//! Payloads of quipu's own events about records and meshes (`docs/formats/records.md`).
//!
//! A payload that is not of this form says nothing: the event stays valid, and no fold sees it.

use quipu_core::id::{ArtifactId, NodeKey};
use quipu_core::kind;
use quipu_core::value::{Map, Value};

use crate::event::{Event, MeshId, ShapeError};
use crate::identity::{IDENTITY_BYTES, Identity, PublicIdentity, SIGNATURE_BYTES};
use crate::json::{self, Value as MeshValue};
use crate::policy::Policy;
use crate::text::Text;

/// The longest wrapped event in bytes: with the rest of the payload it stays below 64 KiB.
pub const WRAPPED_BYTES_MAX: usize = quipu_core::limits::PAYLOAD_BYTES_MAX - 128;
/// The most signatures in one event: 32 kB.
pub const SIGNATURES_MAX: usize = 512;
/// What is signed to prove an identity, before the node's key.
const IDENTITY_CONTEXT: &[u8] = b"quipu mesh identity v1";

/// Whether events of a kind become events of a mesh.
pub fn goes_to_mesh(kind: &str) -> bool {
    matches!(
        kind,
        kind::RECORD_CREATE
            | kind::RECORD_SET
            | kind::RECORD_NOTE
            | kind::RECORD_ATTACH
            | kind::MESH_EMIT
    )
}

/// What an event about records or meshes says.
#[derive(Debug, Clone, PartialEq)]
pub enum Said {
    /// `record.create`
    Create {
        /// The record.
        record_id: String,
        /// What kind of record it is.
        form: String,
    },
    /// `record.set`
    Set {
        /// The record.
        record_id: String,
        /// The field.
        field: String,
        /// Its value.
        value: Value,
    },
    /// `record.note`
    Note {
        /// The record.
        record_id: String,
        /// The note.
        text: String,
    },
    /// `record.attach`
    Attach {
        /// The record.
        record_id: String,
        /// The field.
        field: String,
        /// The bytes.
        artifact: ArtifactId,
        /// How many they are.
        size: u64,
        /// What they are, such as `image/jpeg`; empty if unknown.
        mime: String,
    },
    /// `mesh.emit`: an event of a mesh that is written here, in the words of the mesh.
    Emit {
        /// Its kind there.
        kind: Text,
        /// Its payload there.
        payload: MeshValue,
    },
    /// `mesh.identity`
    Identity(Claim),
    /// `mesh.policy`
    Policy(Policy),
    /// `mesh.trust`
    Trust(Trust),
    /// `mesh.sign`
    Sign(Signatures),
    /// `mesh.event`
    Wrapped(Box<Event>),
}

/// An identity of Reticulum that a node claims, with proof that the identity agrees.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Claim {
    /// The identity.
    pub identity: PublicIdentity,
    /// Whether what goes to the mesh is signed, and waits for the signatures.
    pub signed: bool,
    /// The identity's signature over the node's key.
    proof: [u8; SIGNATURE_BYTES],
}

/// What somebody thinks of an author in meshes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Trust {
    /// The author.
    pub author: String,
    /// The identity that has to sign; nothing for an author that is not trusted.
    pub identity: Option<PublicIdentity>,
}

/// Signatures over consecutive events of a node's feed in a mesh.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Signatures {
    /// The place of the first in the feed.
    pub from: u64,
    /// The signatures.
    pub signatures: Vec<[u8; SIGNATURE_BYTES]>,
}

/// A foreign event cannot be wrapped.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error(
    "event {id} of a mesh has {bytes} bytes: more than {WRAPPED_BYTES_MAX} do not fit into a payload"
)]
pub struct TooLarge {
    /// The event.
    pub id: MeshId,
    /// Its bytes in a message.
    pub bytes: usize,
}

fn identity_message(node: &NodeKey) -> Vec<u8> {
    [IDENTITY_CONTEXT, &node.0].concat()
}

impl Claim {
    /// A claim by the owner of an identity.
    pub fn new(identity: &Identity, node: &NodeKey, signed: bool) -> Self {
        let proof = identity.sign_bytes(&identity_message(node));
        Self { identity: identity.public().clone(), signed, proof }
    }

    /// Whether the identity agreed that this node writes under its name.
    pub fn is_proven_for(&self, node: &NodeKey) -> bool {
        self.identity.has_signed_bytes(&identity_message(node), &self.proof)
    }
}

impl Said {
    /// What an event of a kind says with a payload value.
    pub fn of(kind: &str, value: &Value) -> Option<Self> {
        let text = |key| value.get(key).and_then(Value::as_str).map(str::to_owned);
        Some(match kind {
            kind::RECORD_CREATE => Said::Create {
                record_id: text("record_id")?,
                form: text("form").unwrap_or_default(),
            },
            kind::RECORD_SET => Said::Set {
                record_id: text("record_id")?,
                field: text("field")?,
                value: value.get("value")?.clone(),
            },
            kind::RECORD_NOTE => Said::Note { record_id: text("record_id")?, text: text("text")? },
            kind::RECORD_ATTACH => Said::Attach {
                record_id: text("record_id")?,
                field: text("field")?,
                artifact: ArtifactId(value.get("artifact")?.as_link()?.digest(ArtifactId::PREFIX)?),
                size: value.get("size")?.as_u64()?,
                mime: text("mime").unwrap_or_default(),
            },
            kind::MESH_EMIT => {
                let pair = json::parse(value.get("wire")?.as_bytes()?).ok()?;
                let kind = pair.get("k")?.as_text()?.clone();
                Said::Emit { kind, payload: pair.get("p")?.clone() }
            }
            kind::MESH_IDENTITY => Said::Identity(Claim {
                identity: PublicIdentity::from_bytes(&bytes::<IDENTITY_BYTES>(value, "identity")?)?,
                signed: value.get("signed")?.as_bool()?,
                proof: bytes(value, "proof")?,
            }),
            kind::MESH_POLICY => Said::Policy(Policy::from_name(value.get("policy")?.as_str()?)?),
            kind::MESH_TRUST => {
                let identity = match value.get("identity") {
                    None | Some(Value::Null) => None,
                    Some(_) => {
                        let bytes = bytes::<IDENTITY_BYTES>(value, "identity")?;
                        Some(PublicIdentity::from_bytes(&bytes)?)
                    }
                };
                Said::Trust(Trust { author: text("author")?, identity })
            }
            kind::MESH_SIGN => {
                let list = value.get("signatures")?.as_list()?;
                let signature = |item: &Value| item.as_bytes()?.try_into().ok();
                let signatures: Option<Vec<_>> = list.iter().map(signature).collect();
                let from = value.get("from")?.as_u64()?;
                Said::Sign(Signatures { from, signatures: signatures? })
            }
            kind::MESH_EVENT => Said::Wrapped(Box::new(unwrap(value).ok()?)),
            _ => return None,
        })
    }

    /// The kind and the payload value that say this.
    pub fn to_value(&self) -> Result<(&'static str, Value), TooLarge> {
        let text = |text: &String| Value::from(text.as_str());
        Ok(match self {
            Said::Create { record_id, form } => (
                kind::RECORD_CREATE,
                Value::map([("record_id", text(record_id)), ("form", text(form))]),
            ),
            Said::Set { record_id, field, value } => (
                kind::RECORD_SET,
                Value::map([
                    ("record_id", text(record_id)),
                    ("field", text(field)),
                    ("value", value.clone()),
                ]),
            ),
            Said::Note { record_id, text: note } => (
                kind::RECORD_NOTE,
                Value::map([("record_id", text(record_id)), ("text", text(note))]),
            ),
            Said::Attach { record_id, field, artifact, size, mime } => (
                kind::RECORD_ATTACH,
                Value::map([
                    ("record_id", text(record_id)),
                    ("field", text(field)),
                    ("artifact", (*artifact).into()),
                    ("size", (*size).into()),
                    ("mime", text(mime)),
                ]),
            ),
            Said::Emit { kind, payload } => {
                let pair = MeshValue::object([("k", kind.into()), ("p", payload.clone())]);
                let wire = json::to_bytes(&pair, json::Style::Compact);
                (kind::MESH_EMIT, Value::map([("wire", Value::from(wire))]))
            }
            Said::Identity(claim) => (
                kind::MESH_IDENTITY,
                Value::map([
                    ("identity", Value::from(&claim.identity.to_bytes()[..])),
                    ("signed", claim.signed.into()),
                    ("proof", Value::from(&claim.proof[..])),
                ]),
            ),
            Said::Policy(policy) => {
                (kind::MESH_POLICY, Value::map([("policy", policy.name().into())]))
            }
            Said::Trust(trust) => {
                let identity = trust.identity.as_ref().map(PublicIdentity::to_bytes);
                let identity = identity.map_or(Value::Null, |bytes| Value::from(&bytes[..]));
                let author = text(&trust.author);
                (kind::MESH_TRUST, Value::map([("author", author), ("identity", identity)]))
            }
            Said::Sign(signed) => (
                kind::MESH_SIGN,
                Value::map([
                    ("from", signed.from.into()),
                    ("signatures", Value::list(signed.signatures.iter().map(|one| &one[..]))),
                ]),
            ),
            Said::Wrapped(event) => (kind::MESH_EVENT, wrap(event)?),
        })
    }
}

fn bytes<const N: usize>(value: &Value, key: &str) -> Option<[u8; N]> {
    value.get(key)?.as_bytes()?.try_into().ok()
}

/// The payload that carries a foreign event. Its bytes are those of a message, so NaN, lone surrogates and big
/// integers are in it as they came.
fn wrap(event: &Event) -> Result<Value, TooLarge> {
    let (id, wire) = (event.id(), event.to_wire());
    if wire.len() > WRAPPED_BYTES_MAX {
        return Err(TooLarge { id, bytes: wire.len() });
    }
    let entries = [("id", Value::from(&id.0[..])), ("wire", Value::from(wire))];
    Ok(Value::Map(Map::from_entries(entries).unwrap_or_default()))
}

/// Why a payload carries no foreign event.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum UnwrapError {
    /// `id` or `wire` is missing or is no bytes.
    #[error("a wrapped event has an `id` of 16 bytes and `wire`, also bytes")]
    Fields,
    /// The bytes are no event.
    #[error("the wrapped bytes are no event of meshlogd: {0}")]
    Shape(#[from] ShapeError),
    /// They are another one than `id` says, or its id is not that of its content.
    #[error("the wrapped bytes are not event {0}")]
    OtherEvent(MeshId),
}

/// The foreign event in a payload. Its id is checked, its signature is not.
pub fn unwrap(value: &Value) -> Result<Event, UnwrapError> {
    let id = bytes(value, "id").map(MeshId).ok_or(UnwrapError::Fields)?;
    let wire = value.get("wire").and_then(Value::as_bytes).ok_or(UnwrapError::Fields)?;
    let event = Event::parse(wire)?;
    if event.id() != id || !event.is_authentic() {
        return Err(UnwrapError::OtherEvent(id));
    }
    Ok(event)
}

/// Of two wrapped copies of one event the one that counts on every machine: one that a key vouches for, then one with
/// a signature, then the smaller bytes.
pub fn better_copy<'a>(a: &'a Event, b: &'a Event, key: Option<&PublicIdentity>) -> &'a Event {
    let rank = |event: &Event| {
        let proven = key
            .zip(event.signature())
            .is_some_and(|(key, s)| key.has_signed(&event.body().to_bytes(), s));
        (!proven, event.signature().is_none(), event.to_wire())
    };
    if rank(b) < rank(a) { b } else { a }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::Stamp;
    use crate::event::Body;

    fn identity() -> Identity {
        Identity::from_bytes(&[9; IDENTITY_BYTES])
    }

    fn foreign(text: &str) -> Event {
        let payload = json::parse(text.as_bytes()).unwrap();
        let stamp = Stamp::new(1, 0);
        identity().event(Body {
            author: "x".into(),
            seq: 1,
            stamp,
            kind: "k".into(),
            payload: payload.into(),
            prev: None,
        })
    }

    const ODD_NUMBERS: &[u8] = br#"{"z":1e400,"a":"\ud800","n":123456789012345678901234567890}"#;
    const ODD: &str = r#"{"z":NaN,"a":"\ud800","n":123456789012345678901234567890,"f":1e-7}"#;

    #[test]
    fn what_is_said_is_read_again() {
        let record_id = || "R-1".to_owned();
        let all = [
            Said::Create { record_id: record_id(), form: "site".into() },
            Said::Set { record_id: record_id(), field: "f".into(), value: Value::list([1u64]) },
            Said::Note { record_id: record_id(), text: "hm".into() },
            Said::Attach {
                record_id: record_id(),
                field: "photo".into(),
                artifact: ArtifactId::of(b"jpeg"),
                size: 4,
                mime: "image/jpeg".into(),
            },
            Said::Emit { kind: "any kind".into(), payload: json::parse(ODD_NUMBERS).unwrap() },
            Said::Identity(Claim::new(&identity(), &NodeKey([1; 32]), true)),
            Said::Policy(Policy::FirstUse),
            Said::Trust(Trust { author: "x".into(), identity: Some(identity().public().clone()) }),
            Said::Sign(Signatures { from: 3, signatures: vec![[1; 64], [2; 64]] }),
            Said::Wrapped(Box::new(foreign(r#"{"b":1,"a":2}"#))),
        ];
        for said in all {
            let (kind, value) = said.to_value().unwrap();
            assert_eq!(Said::of(kind, &value), Some(said.clone()));
            // All have a fold key but those of which each event counts.
            let mut bytes = Vec::new();
            quipu_core::value::encode(&value, &mut bytes);
            let subject = quipu_core::subject::subject_of(kind, &bytes);
            let has_key = !matches!(kind, kind::MESH_SIGN | kind::MESH_EMIT);
            assert_eq!(subject.is_some(), has_key, "{kind}");
            let Value::Map(map) = value else { panic!("{kind} is a map") };
            for missing in map.iter().map(|(key, _)| key).filter(|key| {
                !matches!(*key, "form" | "mime") && (kind, *key) != (kind::MESH_TRUST, "identity")
            }) {
                let mut less = map.clone();
                less.remove(missing);
                assert_eq!(Said::of(kind, &Value::Map(less)), None, "{kind} without {missing}");
            }
        }
    }

    #[test]
    fn an_identity_agrees_to_one_node_only() {
        let claim = Claim::new(&identity(), &NodeKey([1; 32]), false);
        assert!(claim.is_proven_for(&NodeKey([1; 32])));
        assert!(!claim.is_proven_for(&NodeKey([2; 32])));
    }

    #[test]
    fn foreign_events_survive_byte_for_byte() {
        let event = foreign(ODD);
        let value = wrap(&event).unwrap();
        let back = unwrap(&value).unwrap();
        assert_eq!(back.to_wire(), event.to_wire());
        let text = String::from_utf8(back.to_wire()).unwrap();
        assert!(
            text.contains(r#"{"z":NaN,"a":"\ud800","n":123456789012345678901234567890,"f":1e-07}"#)
        );
        let Value::Map(mut map) = value else { panic!("a map") };
        drop(map.insert("id", Value::from(&[0; 16][..])));
        assert_eq!(unwrap(&Value::Map(map)), Err(UnwrapError::OtherEvent(MeshId([0; 16]))));
        let large = foreign(&format!("[\"{}\"]", "x".repeat(WRAPPED_BYTES_MAX)));
        assert!(wrap(&large).is_err());
    }

    #[test]
    fn the_better_copy_is_the_same_for_all() {
        let signed = foreign(ODD);
        let bare = signed.clone().with_signature(None);
        let wrong = signed.clone().with_signature(Some("00".into()));
        let key = identity();
        for (a, b) in [(&signed, &bare), (&signed, &wrong), (&wrong, &bare)] {
            for (first, second) in [(a, b), (b, a)] {
                let best = better_copy(first, second, Some(key.public()));
                assert_eq!(best.to_wire(), a.to_wire());
            }
        }
    }
}
