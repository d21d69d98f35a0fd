//! One event of meshlogd: immutable, named by the hash of its content, chained to the one before it.
//!
//! Its id is the first half of the SHA-256 of its body, which is canonical JSON ([`Style::Canonical`]); a
//! signature, if there is one, covers the same bytes and is not in the id. So a copy that lost its
//! signature on the way (meshlogd 0.1.0 drops it) is the same event.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use data_encoding::HEXLOWER;
use sha2::{Digest as _, Sha256};

use crate::clock::Stamp;
use crate::json::{self, JsonError, Object, Reader, Style, Value};
use crate::payload::Payload;
use crate::text::Text;

mod fields;

use fields::Fields;

/// About how long an event is in a message, or its body.
const BYTES_USUAL: usize = 256;
/// Bytes of an id.
const ID_BYTES: usize = 16;

/// The id of an event of meshlogd.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct MeshId(pub [u8; ID_BYTES]);

impl fmt::Display for MeshId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&HEXLOWER.encode(&self.0))
    }
}

impl fmt::Debug for MeshId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// An id is 32 hexadecimal digits in lower case.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("an id of meshlogd is 32 hexadecimal digits in lower case")]
pub struct IdError;

impl FromStr for MeshId {
    type Err = IdError;
    fn from_str(text: &str) -> Result<Self, IdError> {
        Self::from_hex(text.as_bytes()).ok_or(IdError)
    }
}

impl MeshId {
    /// The id of the content with these canonical bytes.
    pub(crate) fn of(body: &[u8]) -> Self {
        let hash = Sha256::digest(body);
        let mut id = [0; ID_BYTES];
        id.copy_from_slice(&hash[..ID_BYTES]);
        Self(id)
    }

    fn from_hex(digits: &[u8]) -> Option<Self> {
        let mut id = [0; ID_BYTES];
        if digits.len() != 2 * ID_BYTES {
            return None;
        }
        HEXLOWER.decode_mut(digits, &mut id).ok()?;
        Some(Self(id))
    }
}

/// What is wrong with a value that should be an event.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ShapeError {
    /// Not JSON.
    #[error("not JSON: {0}")]
    Json(#[from] JsonError),
    /// Not an object.
    #[error("an event is a JSON object")]
    NoObject,
    /// A field is missing, or is not what it must be.
    #[error("field `{field}` of an event must be {expected}")]
    Field {
        /// Its name on the wire.
        field: &'static str,
        /// What it must be.
        expected: &'static str,
    },
}

/// What an event says, before it has an id.
#[derive(Debug, Clone, PartialEq)]
pub struct Body {
    /// Who wrote it: the hash of a Reticulum identity, or any name.
    pub author: Text,
    /// Its place in the author's feed: 1, 2, 3 ...
    pub seq: u64,
    /// Its place in time.
    pub stamp: Stamp,
    /// What it is about, such as `field.set`.
    pub kind: Text,
    /// What it says: an object, if an honest author wrote it.
    pub payload: Payload,
    /// The event before it in the feed; nothing for the first.
    pub prev: Option<MeshId>,
}

impl Body {
    /// The canonical bytes, which are hashed and signed.
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(BYTES_USUAL);
        out.extend_from_slice(b"{\"author\":");
        json::write_text(&self.author, &mut out);
        out.extend_from_slice(b",\"hlc\":[");
        json::write_int(&self.stamp.wall, &mut out);
        out.push(b',');
        json::write_int(&self.stamp.counter, &mut out);
        out.extend_from_slice(b"],\"kind\":");
        json::write_text(&self.kind, &mut out);
        out.extend_from_slice(b",\"payload\":");
        self.payload.write(Style::Canonical, &mut out);
        out.extend_from_slice(b",\"prev\":");
        write_id(self.prev.as_ref(), &mut out);
        out.extend_from_slice(b",\"seq\":");
        json::write_int(&self.seq.into(), &mut out);
        out.push(b'}');
        out
    }

    /// The id of this content.
    pub fn id(&self) -> MeshId {
        MeshId::of(&self.to_bytes())
    }
}

/// Names of the fields on the wire, in the order in which meshlogd writes them, and sorted.
const WIRE_NAMES: &str = "ashkpvig";
const CANONICAL_NAMES: &str = "aghikpsv";

/// Appends the digits of an id in quotes; nothing in quotes if there is none.
fn write_id(id: Option<&MeshId>, out: &mut Vec<u8>) {
    let mut digits = [0; 2 * ID_BYTES];
    out.push(b'"');
    if let Some(id) = id {
        HEXLOWER.encode_mut(&id.0, &mut digits);
        out.extend_from_slice(&digits);
    }
    out.push(b'"');
}

/// An event that was looked at.
#[derive(Debug)]
pub(crate) struct Looked {
    pub(crate) event: Arc<Event>,
    /// Its id is that of its content.
    pub(crate) is_authentic: bool,
}

impl From<Event> for Looked {
    fn from(event: Event) -> Self {
        Self { is_authentic: event.is_authentic(), event: Arc::new(event) }
    }
}

/// An event as it was read or made. If it was read, its id is what it claims: see [`Event::is_authentic`].
#[derive(Debug, Clone, PartialEq)]
pub struct Event {
    body: Body,
    id: MeshId,
    /// As it came: hexadecimal digits, if an honest author wrote them.
    signature: Option<Text>,
}

impl std::ops::Deref for Event {
    type Target = Body;
    fn deref(&self) -> &Body {
        &self.body
    }
}

impl Event {
    /// An event of this content, without a signature.
    pub fn new(body: Body) -> Self {
        let id = body.id();
        Self { body, id, signature: None }
    }

    /// The same with a signature, which is not in the id.
    #[must_use]
    pub fn with_signature(self, signature: Option<Text>) -> Self {
        Self { signature: signature.filter(|text| !text.is_empty()), ..self }
    }

    /// Its id.
    pub const fn id(&self) -> MeshId {
        self.id
    }

    /// Its content.
    pub const fn body(&self) -> &Body {
        &self.body
    }

    /// Its signature as text.
    pub const fn signature(&self) -> Option<&Text> {
        self.signature.as_ref()
    }

    /// Whether the id is that of the content.
    pub fn is_authentic(&self) -> bool {
        self.body.id() == self.id
    }

    /// Reads an event from the JSON of a message or a line of a data file.
    pub fn parse(text: &[u8]) -> Result<Self, ShapeError> {
        json::parse_with(text, Self::read)?
    }

    /// Reads an event where a value is due. What is JSON and no event is the inner error.
    pub(crate) fn read(reader: &mut Reader<'_>) -> Result<Result<Self, ShapeError>, JsonError> {
        if reader.peek() != Some(b'{') {
            return reader.value().map(|_| Err(ShapeError::NoObject));
        }
        let mut fields = Fields::default();
        reader.pairs(|reader, key| fields.read(reader, key.as_bytes()))?;
        Ok(fields.into_event())
    }

    /// The event as JSON of messages and files.
    pub fn to_value(&self) -> Value {
        let mut object = Object::default();
        object.push("a", &self.author);
        object.push("s", self.seq);
        object.push("h", self.stamp.to_value());
        object.push("k", &self.kind);
        object.push("p", self.payload.value().clone());
        object.push("v", self.prev.map_or_else(String::new, |prev| prev.to_string()));
        object.push("i", self.id.to_string());
        if let Some(signature) = &self.signature {
            object.push("g", signature);
        }
        Value::Object(object)
    }

    /// Appends the JSON of a message: the bytes of [`Event::to_value`], without making it.
    pub fn write_wire(&self, out: &mut Vec<u8>) {
        self.write_json(Style::Compact, out);
    }

    /// Appends the JSON of a data file's line, without its end.
    pub fn write_line(&self, out: &mut Vec<u8>) {
        self.write_json(Style::Spaced, out);
    }

    /// Appends the event as JSON: the text of [`Event::to_value`] in a style.
    pub fn write_json(&self, style: Style, out: &mut Vec<u8>) {
        let (comma, colon) = style.separators();
        let names = if style == Style::Canonical { CANONICAL_NAMES } else { WIRE_NAMES };
        let mut before: &[u8] = b"{";
        for name in names.as_bytes() {
            if *name == b'g' && self.signature.is_none() {
                continue;
            }
            out.extend_from_slice(before);
            out.extend_from_slice(&[b'"', *name, b'"']);
            out.extend_from_slice(colon);
            self.write_field(*name, style, out);
            before = comma;
        }
        out.push(b'}');
    }

    fn write_field(&self, name: u8, style: Style, out: &mut Vec<u8>) {
        match name {
            b'a' => json::write_text(&self.author, out),
            b's' => json::write_int(&self.seq.into(), out),
            b'h' => {
                out.push(b'[');
                json::write_int(&self.stamp.wall, out);
                out.extend_from_slice(style.separators().0);
                json::write_int(&self.stamp.counter, out);
                out.push(b']');
            }
            b'k' => json::write_text(&self.kind, out),
            b'p' => self.payload.write(style, out),
            b'v' => write_id(self.prev.as_ref(), out),
            b'i' => write_id(Some(&self.id), out),
            _ => self.signature.iter().for_each(|signature| json::write_text(signature, out)),
        }
    }

    /// The bytes of a message that carries it, which are those of a wrapped event.
    pub fn to_wire(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(BYTES_USUAL);
        self.write_wire(&mut out);
        out
    }

    /// The JSON that the socket shows.
    pub fn to_shown(&self) -> Value {
        let mut object = Object::default();
        object.push("id", self.id.to_string());
        object.push("author", &self.author);
        object.push("seq", self.seq);
        object.push("hlc", self.stamp.to_value());
        object.push("kind", &self.kind);
        object.push("payload", self.payload.value().clone());
        object.push("prev", self.prev.map_or_else(String::new, |prev| prev.to_string()));
        Value::Object(object)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn shapes_that_are_no_events() {
        let good = r#"{"a":"x","s":1,"h":[5,0],"k":"k","p":{},"v":"","i":"00000000000000000000000000000000"}"#;
        assert!(Event::parse(good.as_bytes()).is_ok());
        let cases = [
            ("\"a\":\"x\"", "\"a\":7", "a"),
            ("\"s\":1", "\"s\":0", "s"),
            ("\"s\":1", "\"s\":true", "s"),
            ("[5,0]", "[5]", "h"),
            ("[5,0]", "[5.0,0]", "h"),
            ("\"k\":\"k\",", "", "k"),
            ("\"v\":\"\"", "\"v\":\"0\"", "v"),
            ("\"i\":\"00", "\"i\":\"0F", "i"),
            ("{\"a\"", "{\"g\":7,\"a\"", "g"),
        ];
        for (from, to, expected) in cases {
            let text = good.replacen(from, to, 1);
            assert_ne!(text, good);
            match Event::parse(text.as_bytes()) {
                Err(ShapeError::Field { field, .. }) => assert_eq!(field, expected),
                other => panic!("{text}: {other:?}"),
            }
        }
        assert_eq!(Event::parse(b"[]"), Err(ShapeError::NoObject));
        assert!(matches!(Event::parse(b"{"), Err(ShapeError::Json(_))));
    }

    proptest! {
        #[test]
        fn texts_do_not_panic(text in r#"\{("[ashkpvig]":(1|"x"|""|\[1,2\]|\{\}|NaN),?){0,9}\}"#) {
            if let Ok(event) = Event::parse(text.as_bytes()) {
                prop_assert_eq!(Event::parse(&event.to_wire()).unwrap().to_wire(), event.to_wire());
            }
        }
    }
}
