//! One event of meshlogd: immutable, named by the hash of its content, chained to the one before it.
//!
//! Its id is the first half of the SHA-256 of its body, which is canonical JSON ([`Style::Canonical`]); a
//! signature, if there is one, covers the same bytes and is not in the id. So a copy that lost its
//! signature on the way (meshlogd 0.1.0 drops it) is the same event.

use std::fmt;
use std::str::FromStr;

use data_encoding::HEXLOWER;
use sha2::{Digest as _, Sha256};

use crate::clock::Stamp;
use crate::json::{self, JsonError, Object, Reader, Style, Value};
use crate::text::Text;

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
    pub payload: Value,
    /// The event before it in the feed; nothing for the first.
    pub prev: Option<MeshId>,
}

impl Body {
    /// The canonical bytes, which are hashed and signed.
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(256);
        out.extend_from_slice(b"{\"author\":");
        json::write_text(&self.author, &mut out);
        out.extend_from_slice(b",\"hlc\":[");
        json::write(&Value::Int(self.stamp.wall.clone()), Style::Canonical, &mut out);
        out.push(b',');
        json::write(&Value::Int(self.stamp.counter.clone()), Style::Canonical, &mut out);
        out.extend_from_slice(b"],\"kind\":");
        json::write_text(&self.kind, &mut out);
        out.extend_from_slice(b",\"payload\":");
        json::write(&self.payload, Style::Canonical, &mut out);
        out.extend_from_slice(b",\"prev\":\"");
        if let Some(prev) = &self.prev {
            out.extend_from_slice(hex(prev).as_slice());
        }
        out.extend_from_slice(b"\",\"seq\":");
        json::write(&Value::from(self.seq), Style::Canonical, &mut out);
        out.push(b'}');
        out
    }

    /// The id of this content.
    pub fn id(&self) -> MeshId {
        let hash = Sha256::digest(self.to_bytes());
        let mut id = [0; ID_BYTES];
        id.copy_from_slice(&hash[..ID_BYTES]);
        MeshId(id)
    }
}

fn hex(id: &MeshId) -> [u8; 2 * ID_BYTES] {
    let mut digits = [0; 2 * ID_BYTES];
    HEXLOWER.encode_mut(&id.0, &mut digits);
    digits
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
        reader.pairs(|reader, key| {
            let value = reader.value()?;
            if let Some(place) = fields.place(key.as_bytes()) {
                *place = Some(value);
            }
            Ok(())
        })?;
        Ok(Self::from_fields(fields))
    }

    /// Takes an event out of a value. Fields that it does not know are dropped, as meshlogd does.
    pub fn from_value(value: Value) -> Result<Self, ShapeError> {
        let Value::Object(object) = value else { return Err(ShapeError::NoObject) };
        let mut fields = Fields::default();
        for (key, value) in object {
            if let Some(place) = fields.place(key.as_bytes()) {
                *place = Some(value);
            }
        }
        Self::from_fields(fields)
    }

    fn from_fields(fields: Fields) -> Result<Self, ShapeError> {
        let body = Body {
            author: required(fields.a, "a", "text", into_text)?,
            seq: required(fields.s, "s", "a whole number from 1 to 2^64-1", |value| {
                value.as_int()?.as_u64().filter(|seq| *seq > 0)
            })?,
            stamp: required(fields.h, "h", "a list of two whole numbers", |value| {
                Stamp::from_value(&value)
            })?,
            kind: required(fields.k, "k", "text", into_text)?,
            payload: required(fields.p, "p", "there", Some)?,
            prev: required(fields.v, "v", "an id, or empty", |value| {
                let text = value.as_text()?;
                if text.is_empty() {
                    return Some(None);
                }
                MeshId::from_hex(text.as_bytes()).map(Some)
            })?,
        };
        let id = required(fields.i, "i", "an id", |value| {
            MeshId::from_hex(value.as_text()?.as_bytes())
        })?;
        let signature = match fields.g {
            // What Python takes for false is left out when the event is passed on.
            Some(value) if value.is_truthy() => {
                Some(required(Some(value), "g", "text", into_text)?)
            }
            _ => None,
        };
        Ok(Self { body, id, signature })
    }

    /// The event as JSON of messages and files.
    pub fn to_value(&self) -> Value {
        let mut object = Object::default();
        object.push("a", &self.author);
        object.push("s", self.seq);
        object.push("h", self.stamp.to_value());
        object.push("k", &self.kind);
        object.push("p", self.payload.clone());
        object.push("v", self.prev.map_or_else(String::new, |prev| prev.to_string()));
        object.push("i", self.id.to_string());
        if let Some(signature) = &self.signature {
            object.push("g", signature);
        }
        Value::Object(object)
    }

    /// Appends the JSON of a message: the bytes of [`Event::to_value`], without making it.
    pub fn write_wire(&self, out: &mut Vec<u8>) {
        self.write_as(Style::Compact, out);
    }

    /// Appends the JSON of a data file's line, without its end.
    pub fn write_line(&self, out: &mut Vec<u8>) {
        self.write_as(Style::Spaced, out);
    }

    fn write_as(&self, style: Style, out: &mut Vec<u8>) {
        let (comma, colon) = style.separators();
        let key = |name: u8, out: &mut Vec<u8>| {
            out.push(if name == b'a' { b'{' } else { comma[0] });
            out.extend_from_slice(if name == b'a' { &[] } else { &comma[1..] });
            out.extend_from_slice(&[b'"', name, b'"']);
            out.extend_from_slice(colon);
        };
        let in_quotes = |digits: &[u8], out: &mut Vec<u8>| {
            out.push(b'"');
            out.extend_from_slice(digits);
            out.push(b'"');
        };
        key(b'a', out);
        json::write_text(&self.author, out);
        key(b's', out);
        json::write(&Value::from(self.seq), style, out);
        key(b'h', out);
        json::write(&self.stamp.to_value(), style, out);
        key(b'k', out);
        json::write_text(&self.kind, out);
        key(b'p', out);
        json::write(&self.payload, style, out);
        key(b'v', out);
        let prev = self.prev.as_ref().map(hex);
        in_quotes(prev.as_ref().map_or(&[], |digits| digits.as_slice()), out);
        key(b'i', out);
        in_quotes(&hex(&self.id), out);
        if let Some(signature) = &self.signature {
            key(b'g', out);
            json::write_text(signature, out);
        }
        out.push(b'}');
    }

    /// The bytes of a message that carries it, which are those of a wrapped event.
    pub fn to_wire(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(256);
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
        object.push("payload", self.payload.clone());
        object.push("prev", self.prev.map_or_else(String::new, |prev| prev.to_string()));
        Value::Object(object)
    }
}

fn into_text(value: Value) -> Option<Text> {
    if let Value::Text(text) = value { Some(text) } else { None }
}

fn required<T>(
    value: Option<Value>,
    field: &'static str,
    expected: &'static str,
    read: impl FnOnce(Value) -> Option<T>,
) -> Result<T, ShapeError> {
    value.and_then(read).ok_or(ShapeError::Field { field, expected })
}

/// The fields of an event on the wire.
#[derive(Default)]
struct Fields {
    a: Option<Value>,
    s: Option<Value>,
    h: Option<Value>,
    k: Option<Value>,
    p: Option<Value>,
    v: Option<Value>,
    i: Option<Value>,
    g: Option<Value>,
}

impl Fields {
    fn place(&mut self, key: &[u8]) -> Option<&mut Option<Value>> {
        Some(match key {
            b"a" => &mut self.a,
            b"s" => &mut self.s,
            b"h" => &mut self.h,
            b"k" => &mut self.k,
            b"p" => &mut self.p,
            b"v" => &mut self.v,
            b"i" => &mut self.i,
            b"g" => &mut self.g,
            _ => return None,
        })
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
