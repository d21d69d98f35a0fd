//! Writing, as Python's `json.dumps` does: ASCII only.

use super::skim::plain_length;
use super::{Int, Value, write_float};
use crate::text::Text;

/// The spellings that meshlogd uses.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Style {
    /// Keys sorted by code point, no spaces: what is hashed and signed.
    Canonical,
    /// Keys in their order, no spaces: messages and the socket.
    Compact,
    /// Keys in their order, a space after commas and colons: data files.
    Spaced,
}

impl Style {
    pub(crate) const fn separators(self) -> (&'static [u8], &'static [u8]) {
        match self {
            Style::Canonical | Style::Compact => (b",", b":"),
            Style::Spaced => (b", ", b": "),
        }
    }
}

/// The text of a value.
pub fn to_bytes(value: &Value, style: Style) -> Vec<u8> {
    let mut out = Vec::new();
    write(value, style, &mut out);
    out
}

/// Appends the text of a value.
pub fn write(value: &Value, style: Style, out: &mut Vec<u8>) {
    match value {
        Value::Null => out.extend_from_slice(b"null"),
        Value::Bool(true) => out.extend_from_slice(b"true"),
        Value::Bool(false) => out.extend_from_slice(b"false"),
        Value::Int(int) => int.write(out),
        Value::Float(float) if float.is_nan() => out.extend_from_slice(b"NaN"),
        Value::Float(f64::INFINITY) => out.extend_from_slice(b"Infinity"),
        Value::Float(f64::NEG_INFINITY) => out.extend_from_slice(b"-Infinity"),
        Value::Float(float) => write_float(*float, out),
        Value::Text(text) => write_text(text, out),
        Value::List(items) => {
            let (comma, _) = style.separators();
            out.push(b'[');
            for (at, item) in items.iter().enumerate() {
                if at > 0 {
                    out.extend_from_slice(comma);
                }
                write(item, style, out);
            }
            out.push(b']');
        }
        Value::Object(object) => {
            let sorted = object.0.is_sorted_by(|a, b| a.0 <= b.0);
            if style != Style::Canonical || sorted {
                return write_pairs(object.0.iter(), style, out);
            }
            let mut pairs: Vec<&(Text, Value)> = object.0.iter().collect();
            pairs.sort_unstable_by(|a, b| a.0.cmp(&b.0));
            write_pairs(pairs.into_iter(), style, out);
        }
    }
}

/// Appends a whole number.
pub(crate) fn write_int(int: &Int, out: &mut Vec<u8>) {
    int.write(out);
}

fn write_pairs<'a>(
    pairs: impl Iterator<Item = &'a (Text, Value)>,
    style: Style,
    out: &mut Vec<u8>,
) {
    let (comma, colon) = style.separators();
    out.push(b'{');
    for (at, (key, value)) in pairs.enumerate() {
        if at > 0 {
            out.extend_from_slice(comma);
        }
        write_text(key, out);
        out.extend_from_slice(colon);
        write(value, style, out);
    }
    out.push(b'}');
}

/// Appends a text in quotes.
pub fn write_text(text: &Text, out: &mut Vec<u8>) {
    let bytes = text.as_bytes();
    out.push(b'"');
    if plain_length(bytes) == bytes.len() {
        out.extend_from_slice(bytes);
    } else {
        text.code_points().for_each(|point| write_code_point(point, out));
    }
    out.push(b'"');
}

fn write_code_point(point: u32, out: &mut Vec<u8>) {
    match u8::try_from(point) {
        Ok(b'"') => out.extend_from_slice(b"\\\""),
        Ok(b'\\') => out.extend_from_slice(b"\\\\"),
        Ok(b'\n') => out.extend_from_slice(b"\\n"),
        Ok(b'\r') => out.extend_from_slice(b"\\r"),
        Ok(b'\t') => out.extend_from_slice(b"\\t"),
        Ok(8) => out.extend_from_slice(b"\\b"),
        Ok(12) => out.extend_from_slice(b"\\f"),
        Ok(byte @ b' '..=b'~') => out.push(byte),
        _ if point < 0x1_0000 => write_escape(point, out),
        _ => {
            let above = point - 0x1_0000;
            write_escape(0xd800 + (above >> 10), out);
            write_escape(0xdc00 + (above & 0x3ff), out);
        }
    }
}

fn write_escape(unit: u32, out: &mut Vec<u8>) {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    out.extend_from_slice(b"\\u");
    out.extend([12, 8, 4, 0].map(|shift| DIGITS[(unit >> shift & 0xf) as usize]));
}

/// A text in quotes.
pub(crate) fn to_bytes_text(text: &Text) -> Vec<u8> {
    let mut out = Vec::new();
    write_text(text, &mut out);
    out
}
