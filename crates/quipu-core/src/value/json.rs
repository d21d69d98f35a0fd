//! Values as DAG-JSON: read strictly, written in one form.
//!
//! `serde_json` judges the grammar. Its numbers do not suffice (integers beyond 64 bits become
//! floats, and floats may be off by a bit), and its errors point behind what they are about. So a
//! [`Reader`] follows it through the text, token by token, and knows where each begins and ends.

use std::cell::Cell;
use std::collections::BTreeMap;
use std::fmt;

use data_encoding::BASE64_NOPAD;
use serde::de::{DeserializeSeed, Deserializer, IgnoredAny, MapAccess, SeqAccess, Visitor};

use super::{Map, RESERVED_KEY, Value};
use crate::limits::VALUE_DEPTH_MAX;

/// Text that is not the JSON of a value.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("line {line}, column {column}: {rule}")]
pub struct JsonError {
    /// The line, from 1.
    pub line: usize,
    /// The column in bytes, from 1, where the offending item begins.
    pub column: usize,
    /// What is wrong.
    pub rule: JsonRule,
}

/// What JSON of a value must not be.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum JsonRule {
    /// It is not JSON, or a number is too large for a float. The text is from the parser.
    #[error("{0}")]
    Syntax(String),
    /// It is not UTF-8.
    #[error("the text is not UTF-8")]
    Utf8,
    /// An object has a key twice.
    #[error("the key {0:?} is here twice")]
    KeyDuplicate(String),
    /// The key `/` is used for something else than a link or bytes.
    #[error(
        "the key \"/\" is reserved for links, {{\"/\":\"<cid>\"}}, and bytes, {{\"/\":{{\"bytes\":\"<base64>\"}}}}"
    )]
    KeyReserved,
    /// A link is not the text of a content id.
    #[error("not a CID: a link is base32 in lower case with \"b\", or base58 with \"Qm\"")]
    Link,
    /// Bytes are not in base64 without padding.
    #[error("bytes are not in base64 without padding")]
    Base64,
    /// An integer does not fit in 64 bits.
    #[error("the integer does not fit in 64 bits: use a string, or a float such as 1e30")]
    IntegerRange,
    /// Objects and arrays nest too deep.
    #[error("objects and arrays nest deeper than {VALUE_DEPTH_MAX}")]
    Depth,
}

/// Reads DAG-JSON. Any order of keys and any spaces will do; `1.0` and `1e0` are the integer 1.
/// Fractions are rounded to the nearest float first, so `1e-400` is 0.
pub fn from_json(text: impl AsRef<[u8]>) -> Result<Value, JsonError> {
    let bytes = text.as_ref();
    let text = std::str::from_utf8(bytes)
        .map_err(|error| located(bytes, error.valid_up_to(), JsonRule::Utf8))?;
    let reader = Reader { text, next: Cell::new(0), refused: Cell::new(None) };
    let mut parser = serde_json::Deserializer::from_str(text);
    let value = Item { reader: &reader, depth: 0 }.deserialize(&mut parser);
    value.and_then(|value| parser.end().map(|()| value)).map_err(|error| {
        if let Some((offset, rule)) = reader.refused.take() {
            return located(bytes, offset, rule);
        }
        if error.is_data() {
            // The only wrong types are those under the reserved key, and no visit took the token.
            return located(bytes, reader.token().0, JsonRule::KeyReserved);
        }
        let mut message = error.to_string();
        message.truncate(message.rfind(" at line ").unwrap_or(message.len()));
        let (line, column) = (error.line(), error.column().max(1));
        JsonError { line, column, rule: JsonRule::Syntax(message) }
    })
}

fn located(bytes: &[u8], offset: usize, rule: JsonRule) -> JsonError {
    let before = &bytes[..offset];
    let start = before.iter().rposition(|b| *b == b'\n').map_or(0, |at| at + 1);
    let line = 1 + before.iter().filter(|b| **b == b'\n').count();
    JsonError { line, column: 1 + offset - start, rule }
}

/// Follows the parser. Each visit of a scalar, a key, or the start of an object or array takes one
/// token; text up to there is known to be well formed.
struct Reader<'t> {
    text: &'t str,
    next: Cell<usize>,
    /// Why a visit failed, and where.
    refused: Cell<Option<(usize, JsonRule)>>,
}

impl<'t> Reader<'t> {
    fn token(&self) -> (usize, &'t str) {
        let bytes = self.text.as_bytes();
        let is_gap = |b: &u8| matches!(b, b' ' | b'\t' | b'\r' | b'\n' | b',' | b':' | b']' | b'}');
        let start = self.next.get();
        let start = start + bytes[start..].iter().take_while(|b| is_gap(b)).count();
        let rest = &bytes[start..];
        let length = match rest.first() {
            Some(b'{' | b'[') => 1,
            Some(b'"') => {
                let mut escaped = true;
                let is_inside = |b: &&u8| {
                    let inside = escaped || **b != b'"';
                    escaped = **b == b'\\' && !escaped;
                    inside
                };
                // The opening quote counts as escaped; the closing one is added.
                (rest.iter().take_while(is_inside).count() + 1).min(rest.len())
            }
            _ => {
                let is_word = |b: &&u8| b.is_ascii_alphanumeric() || b"+-.".contains(b);
                rest.iter().take_while(is_word).count()
            }
        };
        self.next.set(start + length);
        (start, &self.text[start..start + length])
    }

    fn refuse<E: serde::de::Error>(&self, offset: usize, rule: JsonRule) -> E {
        self.refused.set(Some((offset, rule)));
        E::custom("refused")
    }

    fn number<E: serde::de::Error>(&self) -> Result<Value, E> {
        let (offset, token) = self.token();
        if token.bytes().all(|b| b == b'-' || b.is_ascii_digit()) {
            let unsigned = token.parse::<u64>().map(Value::from);
            return unsigned
                .or_else(|_| token.parse::<i64>().map(Value::from))
                .map_err(|_| self.refuse(offset, JsonRule::IntegerRange));
        }
        token
            .parse()
            .ok()
            .and_then(Value::float)
            .ok_or_else(|| self.refuse(offset, JsonRule::Syntax("number out of range".to_owned())))
    }
}

/// Any value, with so many objects and arrays around it.
#[derive(Clone, Copy)]
struct Item<'r> {
    reader: &'r Reader<'r>,
    depth: usize,
}

impl<'de> DeserializeSeed<'de> for Item<'_> {
    type Value = Value;
    fn deserialize<D: Deserializer<'de>>(self, parser: D) -> Result<Value, D::Error> {
        parser.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Item<'_> {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a value")
    }

    fn visit_unit<E>(self) -> Result<Value, E> {
        self.reader.token();
        Ok(Value::Null)
    }

    fn visit_bool<E>(self, b: bool) -> Result<Value, E> {
        self.reader.token();
        Ok(Value::Bool(b))
    }

    fn visit_u64<E: serde::de::Error>(self, _: u64) -> Result<Value, E> {
        self.reader.number()
    }

    fn visit_i64<E: serde::de::Error>(self, _: i64) -> Result<Value, E> {
        self.reader.number()
    }

    fn visit_f64<E: serde::de::Error>(self, _: f64) -> Result<Value, E> {
        self.reader.number()
    }

    fn visit_str<E>(self, text: &str) -> Result<Value, E> {
        self.reader.token();
        Ok(Value::from(text))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Value, A::Error> {
        let (offset, _) = self.reader.token();
        if self.depth == VALUE_DEPTH_MAX {
            return Err(self.reader.refuse(offset, JsonRule::Depth));
        }
        let mut items = Vec::new();
        while let Some(item) = seq.next_element_seed(Self { depth: self.depth + 1, ..self })? {
            items.push(item);
        }
        Ok(Value::List(items))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Value, A::Error> {
        let (offset, _) = self.reader.token();
        // Sorted as `key_order` has it.
        let mut entries = BTreeMap::new();
        let mut next = map.next_key_seed(Key { reader: self.reader, seen: &entries })?;
        if next.as_ref().is_some_and(|(_, key)| key == RESERVED_KEY) {
            let value = map.next_value_seed(Reserved(self.reader))?;
            return only(self.reader, map, value);
        }
        if self.depth == VALUE_DEPTH_MAX {
            return Err(self.reader.refuse(offset, JsonRule::Depth));
        }
        while let Some(key) = next {
            let value = map.next_value_seed(Self { depth: self.depth + 1, ..self })?;
            entries.insert(key, value);
            next = map.next_key_seed(Key { reader: self.reader, seen: &entries })?;
        }
        Ok(Value::Map(Map(entries.into_iter().map(|((_, key), value)| (key, value)).collect())))
    }
}

/// The value, if no other key comes after it.
fn only<'de, A: MapAccess<'de>>(
    reader: &Reader<'_>,
    mut map: A,
    value: Value,
) -> Result<Value, A::Error> {
    if map.next_key::<IgnoredAny>()?.is_some() {
        return Err(reader.refuse(reader.token().0, JsonRule::KeyReserved));
    }
    Ok(value)
}

type Entries = BTreeMap<(usize, String), Value>;

/// A key not seen before in this object; the reserved one only if it is the first.
struct Key<'r> {
    reader: &'r Reader<'r>,
    seen: &'r Entries,
}

impl<'de> DeserializeSeed<'de> for Key<'_> {
    type Value = (usize, String);
    fn deserialize<D: Deserializer<'de>>(self, parser: D) -> Result<Self::Value, D::Error> {
        parser.deserialize_str(self)
    }
}

impl Visitor<'_> for Key<'_> {
    type Value = (usize, String);

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a key")
    }

    fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<Self::Value, E> {
        let (offset, _) = self.reader.token();
        let key = (text.len(), text.to_owned());
        if self.seen.contains_key(&key) {
            return Err(self.reader.refuse(offset, JsonRule::KeyDuplicate(key.1)));
        }
        if text == RESERVED_KEY && !self.seen.is_empty() {
            return Err(self.reader.refuse(offset, JsonRule::KeyReserved));
        }
        Ok(key)
    }
}

/// What comes after the reserved key: the text of a link, or an object with bytes.
struct Reserved<'r>(&'r Reader<'r>);

impl<'de> DeserializeSeed<'de> for Reserved<'_> {
    type Value = Value;
    fn deserialize<D: Deserializer<'de>>(self, parser: D) -> Result<Value, D::Error> {
        parser.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Reserved<'_> {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a link or bytes")
    }

    fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<Value, E> {
        let (offset, _) = self.0.token();
        text.parse().map(Value::Link).map_err(|_| self.0.refuse(offset, JsonRule::Link))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Value, A::Error> {
        let (offset, _) = self.0.token();
        let seen = Entries::new();
        let key = map.next_key_seed(Key { reader: self.0, seen: &seen })?;
        if key.is_none_or(|(_, key)| key != "bytes") {
            return Err(self.0.refuse(offset, JsonRule::KeyReserved));
        }
        let text: String = map.next_value()?;
        let (offset, _) = self.0.token();
        let bytes = BASE64_NOPAD
            .decode(text.as_bytes())
            .map_err(|_| self.0.refuse(offset, JsonRule::Base64))?;
        only(self.0, map, Value::Bytes(bytes))
    }
}

/// The DAG-JSON of a value, for programs that have JSON at hand.
pub fn to_json(value: &Value) -> serde_json::Value {
    use serde_json::{Value as Json, json};
    match value {
        Value::Null => Json::Null,
        Value::Bool(b) => Json::Bool(*b),
        Value::Int(n) if n.negative => Json::from(n.bits.cast_signed()),
        Value::Int(n) => Json::from(n.bits),
        Value::Float(n) => Json::from(n.0),
        Value::Bytes(bytes) => json!({ "/": { "bytes": BASE64_NOPAD.encode(bytes) } }),
        Value::String(text) => Json::from(text.as_str()),
        Value::List(items) => items.iter().map(to_json).collect(),
        Value::Map(map) => map.iter().map(|(key, value)| (key, to_json(value))).collect(),
        Value::Link(cid) => json!({ "/": cid.to_string() }),
    }
}

/// Appends the canonical DAG-JSON of a value: no spaces, keys in bytewise order, escapes only
/// where JSON needs them, floats as short as they can be told apart.
pub fn write_json(value: &Value, out: &mut String) {
    match value {
        Value::Null => out.push_str("null"),
        Value::Bool(true) => out.push_str("true"),
        Value::Bool(false) => out.push_str("false"),
        Value::Int(n) => out.push_str(&n.to_string()),
        // The debugging form always has a point or an exponent, so that it is read as a float.
        Value::Float(n) => out.push_str(&format!("{:?}", n.0)),
        Value::Bytes(bytes) => {
            out.push_str(r#"{"/":{"bytes":""#);
            BASE64_NOPAD.encode_append(bytes, out);
            out.push_str(r#""}}"#);
        }
        Value::String(text) => write_text(text, out),
        Value::List(items) => {
            out.push('[');
            for (at, item) in items.iter().enumerate() {
                if at > 0 {
                    out.push(',');
                }
                write_json(item, out);
            }
            out.push(']');
        }
        Value::Map(map) => {
            let mut entries: Vec<_> = map.iter().collect();
            entries.sort_unstable_by_key(|(key, _)| *key);
            out.push('{');
            for (at, (key, value)) in entries.into_iter().enumerate() {
                if at > 0 {
                    out.push(',');
                }
                write_text(key, out);
                out.push(':');
                write_json(value, out);
            }
            out.push('}');
        }
        Value::Link(cid) => {
            out.push_str(r#"{"/":""#);
            out.push_str(&cid.to_string());
            out.push_str(r#""}"#);
        }
    }
}

fn write_text(text: &str, out: &mut String) {
    out.push('"');
    for letter in text.chars() {
        match letter {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '\t' => out.push_str("\\t"),
            '\u{8}' => out.push_str("\\b"),
            '\u{c}' => out.push_str("\\f"),
            '\0'..='\x1f' => out.push_str(&format!("\\u{:04x}", u32::from(letter))),
            _ => out.push(letter),
        }
    }
    out.push('"');
}

#[cfg(test)]
mod tests;
