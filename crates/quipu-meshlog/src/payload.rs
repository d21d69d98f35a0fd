//! What an event says, as the text that Python writes for it. Most payloads are hashed, kept and passed on, and never
//! looked into; the value is made when somebody asks for it.

use std::borrow::Cow;
use std::fmt;
use std::ops::Deref;
use std::sync::OnceLock;

use crate::json::{self, JsonError, KeyOrder, Reader, Style, Value};

/// A payload: any value, an object if an honest author wrote it.
#[derive(Clone)]
pub struct Payload {
    /// As it stands in messages.
    compact: Box<[u8]>,
    order: KeyOrder,
    value: OnceLock<Box<Value>>,
}

impl Payload {
    /// Reads a payload where a value is due. `buffer` is for its use only.
    pub(crate) fn read(reader: &mut Reader<'_>, buffer: &mut Vec<u8>) -> Result<Self, JsonError> {
        buffer.clear();
        let order = reader.skim(buffer)?;
        Ok(Self { compact: buffer.as_slice().into(), order, value: OnceLock::new() })
    }

    /// The value. It is made when it is asked for the first time, and then kept.
    pub fn value(&self) -> &Value {
        self.value.get_or_init(|| Box::new(json::value_of(&self.compact)))
    }

    /// The text in messages.
    pub fn compact(&self) -> &[u8] {
        &self.compact
    }

    /// Appends the payload in a style.
    pub fn write(&self, style: Style, out: &mut Vec<u8>) {
        match (style, self.order) {
            (Style::Compact, _) | (Style::Canonical, KeyOrder::Sorted) => {
                out.extend_from_slice(&self.compact);
            }
            (Style::Spaced, _) => json::write_spaced(&self.compact, out),
            (Style::Canonical, KeyOrder::OuterUnsorted) => {
                json::write_outer_sorted(&self.compact, out);
            }
            (Style::Canonical, KeyOrder::Unsorted) => json::write(self.value(), style, out),
        }
    }

    /// The compact texts of what some keys have, in one pass. The keys need no escapes.
    pub(crate) fn texts_at<const N: usize>(&self, keys: [&str; N]) -> [Option<&[u8]>; N] {
        let mut found = [None; N];
        for (quoted, value) in json::pairs_of(&self.compact) {
            let name = quoted.get(1..quoted.len() - 1);
            if let Some(at) = keys.iter().position(|key| name == Some(key.as_bytes())) {
                found[at] = Some(value);
            }
        }
        found
    }

    /// Whether it is an object with this key.
    pub(crate) fn has(&self, key: &str) -> bool {
        self.texts_at([key])[0].is_some()
    }

    /// Appends what a key has as canonical JSON, if there is such a key.
    pub(crate) fn write_canonical(&self, key: &str, out: &mut Vec<u8>) -> Option<()> {
        if self.order == KeyOrder::Unsorted {
            json::write(self.value().get(key)?, Style::Canonical, out);
        } else {
            out.extend_from_slice(self.texts_at([key])[0]?);
        }
        Some(())
    }
}

/// What a compact text says, if it is a text, in generalised UTF-8.
pub(crate) fn text_of(compact: &[u8]) -> Option<Cow<'_, [u8]>> {
    let inner = compact.strip_prefix(b"\"")?.strip_suffix(b"\"")?;
    if !inner.contains(&b'\\') {
        return Some(Cow::Borrowed(inner));
    }
    json::value_of(compact).as_text().map(|text| Cow::Owned(text.as_bytes().to_vec()))
}

impl From<Value> for Payload {
    fn from(value: Value) -> Self {
        let compact = json::to_bytes(&value, Style::Compact);
        let made = json::parse_with(&compact, |reader| Self::read(reader, &mut Vec::new()));
        // Halves of characters that were apart come together when they are read: such a value stays as it was made.
        match made {
            Ok(made) if !compact.contains(&b'\\') => made,
            _ => {
                let value = OnceLock::from(Box::new(value));
                Self { compact: compact.into(), order: KeyOrder::Unsorted, value }
            }
        }
    }
}

impl Deref for Payload {
    type Target = Value;
    fn deref(&self) -> &Value {
        self.value()
    }
}

impl PartialEq for Payload {
    fn eq(&self, other: &Self) -> bool {
        self.compact == other.compact
    }
}

impl fmt::Debug for Payload {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&String::from_utf8_lossy(&self.compact))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn read(text: &str) -> Result<Payload, JsonError> {
        json::parse_with(text.as_bytes(), |reader| Payload::read(reader, &mut Vec::new()))
    }

    /// In all ways the same as by the value.
    fn check(text: &str) {
        let (payload, value) = match (read(text), json::parse(text.as_bytes())) {
            (Ok(payload), Ok(value)) => (payload, value),
            (read, parsed) => return assert_eq!(read.err(), parsed.err(), "{text}"),
        };
        for made in [&payload, &Payload::from(value.clone())] {
            for style in [Style::Canonical, Style::Compact, Style::Spaced] {
                let mut out = Vec::new();
                made.write(style, &mut out);
                let expected = json::to_bytes(&value, style);
                assert_eq!(out, expected, "{text}: {}", String::from_utf8_lossy(&out));
            }
            for key in ["", "a", "b", "a!", "key of many bytes", "0"] {
                let held = value.get(key);
                assert_eq!(made.has(key), held.is_some(), "{text}");
                let as_text = held.and_then(Value::as_text).map(|text| text.as_bytes().to_vec());
                let [read] = made.texts_at([key]);
                assert_eq!(read.and_then(text_of).map(Cow::into_owned), as_text, "{text}");
                let mut out = Vec::new();
                assert_eq!(made.write_canonical(key, &mut out).is_some(), held.is_some());
                let expected = held.map(|held| json::to_bytes(held, Style::Canonical));
                assert_eq!(out, expected.unwrap_or_default(), "{text}");
            }
        }
    }

    #[test]
    fn texts_that_need_care() {
        for text in [
            r#"{}"#,
            r#" [ ] "#,
            r#"{"b":1,"a":2}"#,
            r#"{"a":1,"a!":2,"a\u0021":3}"#,
            r#"{"a!":1,"a":2}"#,
            r#"{"a":{"b":1,"a":2}}"#,
            r#"{"b":[{"b":1,"a":-0}],"a":1.50}"#,
            r#"{"b":1,"a":2,"b":[3]}"#,
            r#"{"a":"\/\"\\","b":"}{,:"}"#,
            r#"{"a":"é\ud83d\ude00\u007f","b":"\ud800"}"#,
            r#"{"é":1,"a":2}"#,
            r#"{"\ud83d\ude00":1,"\uffff":2}"#,
            r#"{"key of many bytes":"as is the text that stands here","a":NaN,"b":-1e400}"#,
            r#"{"a":1,}"#,
            r#"{"a" 1}"#,
            "{\"a\":\"\u{7f}\t\"}",
            "{\"a\":\"a text without an end",
            "\"\\ud83d",
            "01",
        ] {
            check(text);
        }
        let deep = [b"{\"b\":".repeat(1_000), b"1".to_vec(), b"}".repeat(1_000)].concat();
        check(std::str::from_utf8(&deep).unwrap());
        check(&"[".repeat(1_001));
    }

    #[test]
    fn halves_that_are_apart_stay_so() {
        let halves = json::parse_detected(&[b'"', 0, 0x3d, 0xd8, b'"', 0]).unwrap();
        let list = Value::List(vec![halves]);
        assert_eq!(*Payload::from(list.clone()).value(), list);
    }

    proptest! {
        #[test]
        fn the_same_as_by_the_value(
            text in r#"(\{("(a|b|a!|é|\\u0061)":([0-9.e-]{1,4}|"(x|é|\\n|\\u00e9|\\ud800|,)*"|\[\{"b":1,"a":\[\]\}\]|\{"a":NaN\}|\{("b":1,|"a":2,)*"c":1\}) ?,){0,4}"z":1\}|\[(1,)*"[ -~]*"\])"#,
        ) {
            check(&text);
        }

        #[test]
        fn plain_is_what_needs_no_escape(bytes in proptest::collection::vec(prop_oneof![Just(b'a'), any::<u8>()], 0..40)) {
            let expected = bytes.iter().position(|byte| {
                !matches!(byte, b' '..=b'~') || matches!(byte, b'"' | b'\\')
            });
            prop_assert_eq!(json::plain_length(&bytes), expected.unwrap_or(bytes.len()));
        }
    }
}
