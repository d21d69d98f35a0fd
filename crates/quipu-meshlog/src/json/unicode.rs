//! The encodings that Python's `json.loads` recognises in bytes. meshlogd gives it the lines of its
//! socket like that.

use super::read::parse_checked;
use super::{JsonError, JsonRule, Value};
use crate::text::{is_generalised_utf8, push_code_point};

/// How the bytes of a text are to be read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Encoding {
    Utf8,
    Utf16 { big: bool },
    Utf32 { big: bool },
}

/// Reads bytes in UTF-8, UTF-16 or UTF-32, told apart by a mark or by where the zeros are. Surrogates
/// that stand alone are taken.
pub fn parse_detected(bytes: &[u8]) -> Result<Value, JsonError> {
    let (encoding, mark) = detect(bytes);
    let bytes = &bytes[mark..];
    let wrong = |offset| JsonError { offset: offset + mark, rule: JsonRule::Encoding };
    let decoded = match encoding {
        Encoding::Utf8 if is_generalised_utf8(bytes) => return parse_checked(bytes),
        Encoding::Utf8 => {
            return Err(wrong(
                std::str::from_utf8(bytes).map_or_else(|e| e.valid_up_to(), str::len),
            ));
        }
        Encoding::Utf16 { big } => from_utf16(bytes, big),
        Encoding::Utf32 { big } => from_utf32(bytes, big),
    };
    parse_checked(&decoded.map_err(wrong)?)
}

/// The encoding, and how long the mark before the text is.
fn detect(bytes: &[u8]) -> (Encoding, usize) {
    let (big, little) = (true, false);
    match bytes {
        [0, 0, 0xfe, 0xff, ..] => (Encoding::Utf32 { big }, 4),
        [0xff, 0xfe, 0, 0, ..] => (Encoding::Utf32 { big: little }, 4),
        [0xfe, 0xff, ..] => (Encoding::Utf16 { big }, 2),
        [0xff, 0xfe, ..] => (Encoding::Utf16 { big: little }, 2),
        [0xef, 0xbb, 0xbf, ..] => (Encoding::Utf8, 3),
        [0, 0, _, _, ..] => (Encoding::Utf32 { big }, 0),
        [0, _, _, _, ..] => (Encoding::Utf16 { big }, 0),
        [_, 0, 0, 0, ..] => (Encoding::Utf32 { big: little }, 0),
        [_, 0, _, _, ..] => (Encoding::Utf16 { big: little }, 0),
        [0, _] => (Encoding::Utf16 { big }, 0),
        [_, 0] => (Encoding::Utf16 { big: little }, 0),
        _ => (Encoding::Utf8, 0),
    }
}

fn from_utf16(bytes: &[u8], big: bool) -> Result<Vec<u8>, usize> {
    let unit =
        |pair: &[u8; 2]| if big { u16::from_be_bytes(*pair) } else { u16::from_le_bytes(*pair) };
    let (pairs, rest) = bytes.as_chunks::<2>();
    if !rest.is_empty() {
        return Err(bytes.len() - rest.len());
    }
    let mut out = Vec::with_capacity(bytes.len());
    for point in char::decode_utf16(pairs.iter().map(unit)) {
        let point = point.map_or_else(|lone| u32::from(lone.unpaired_surrogate()), u32::from);
        push_code_point(&mut out, point);
    }
    Ok(out)
}

fn from_utf32(bytes: &[u8], big: bool) -> Result<Vec<u8>, usize> {
    let unit =
        |four: &[u8; 4]| if big { u32::from_be_bytes(*four) } else { u32::from_le_bytes(*four) };
    let (fours, rest) = bytes.as_chunks::<4>();
    if !rest.is_empty() {
        return Err(bytes.len() - rest.len());
    }
    let mut out = Vec::with_capacity(bytes.len());
    for (at, point) in fours.iter().map(unit).enumerate() {
        if point > u32::from(char::MAX) {
            return Err(at * 4);
        }
        push_code_point(&mut out, point);
    }
    Ok(out)
}
