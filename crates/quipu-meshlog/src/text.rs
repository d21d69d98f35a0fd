//! Python's `str`: a row of code points, among which may be lone surrogates.

use std::borrow::Borrow;
use std::fmt;

use smallvec::SmallVec;

/// Bytes of a text that needs no memory of its own: names of kinds, records and fields mostly fit.
const INLINE_BYTES: usize = 16;

/// Text as Python holds it, in generalised UTF-8: surrogates are encoded like any other code point, so
/// that the order of the bytes is the order of the code points, and that of Python.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Text(SmallVec<[u8; INLINE_BYTES]>);

impl Text {
    /// Text from generalised UTF-8 that was checked already.
    pub(crate) fn from_checked(bytes: Vec<u8>) -> Self {
        Self(SmallVec::from_vec(bytes))
    }

    /// The same from bytes that stay where they are.
    pub(crate) fn from_checked_slice(bytes: &[u8]) -> Self {
        Self(SmallVec::from_slice(bytes))
    }

    /// The text in generalised UTF-8.
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }

    /// The text, if it has no lone surrogates.
    pub fn as_str(&self) -> Option<&str> {
        std::str::from_utf8(&self.0).ok()
    }

    /// Whether there is nothing in it.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Its code points.
    pub fn code_points(&self) -> CodePoints<'_> {
        CodePoints { rest: &self.0 }
    }
}

/// Appends a code point in generalised UTF-8.
pub(crate) fn push_code_point(out: &mut Vec<u8>, point: u32) {
    match char::from_u32(point) {
        Some(c) => out.extend_from_slice(c.encode_utf8(&mut [0; 4]).as_bytes()),
        // A surrogate: three bytes, by the rule for its neighbours.
        None => out.extend_from_slice(&[
            0xe0 | (point >> 12) as u8,
            0x80 | (point >> 6 & 0x3f) as u8,
            0x80 | (point & 0x3f) as u8,
        ]),
    }
}

/// Whether these bytes are UTF-8 in which surrogates may stand, also in pairs: what Python's
/// `surrogatepass` lets through.
pub(crate) fn is_generalised_utf8(bytes: &[u8]) -> bool {
    let mut rest = bytes;
    loop {
        match std::str::from_utf8(rest) {
            Ok(_) => return true,
            Err(error) => {
                rest = &rest[error.valid_up_to()..];
                let [0xed, 0xa0..=0xbf, 0x80..=0xbf, tail @ ..] = rest else { return false };
                rest = tail;
            }
        }
    }
}

/// The code points of a [`Text`].
#[derive(Debug, Clone)]
pub struct CodePoints<'a> {
    rest: &'a [u8],
}

impl Iterator for CodePoints<'_> {
    type Item = u32;

    fn next(&mut self) -> Option<u32> {
        let (&first, tail) = self.rest.split_first()?;
        let (more, mut point) = match first {
            0..=0x7f => (0, u32::from(first)),
            0x80..=0xdf => (1, u32::from(first & 0x1f)),
            0xe0..=0xef => (2, u32::from(first & 0x0f)),
            _ => (3, u32::from(first & 0x07)),
        };
        // A text is checked when it is made, so all the bytes are there.
        let (inner, rest) = tail.split_at_checked(more)?;
        for byte in inner {
            point = point << 6 | u32::from(byte & 0x3f);
        }
        self.rest = rest;
        Some(point)
    }
}

impl From<&str> for Text {
    fn from(text: &str) -> Self {
        Self(SmallVec::from_slice(text.as_bytes()))
    }
}

impl From<String> for Text {
    fn from(text: String) -> Self {
        Self::from_checked(text.into_bytes())
    }
}

impl Borrow<[u8]> for Text {
    fn borrow(&self) -> &[u8] {
        &self.0
    }
}

impl PartialEq<str> for Text {
    fn eq(&self, other: &str) -> bool {
        *self.0 == *other.as_bytes()
    }
}

impl PartialEq<&str> for Text {
    fn eq(&self, other: &&str) -> bool {
        *self == **other
    }
}

impl fmt::Display for Text {
    /// Lone surrogates are shown as U+FFFD.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.code_points()
            .try_for_each(|point| write!(f, "{}", char::from_u32(point).unwrap_or('\u{fffd}')))
    }
}

impl fmt::Debug for Text {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        String::from_utf8_lossy(&crate::json::to_bytes_text(self)).fmt(f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn surrogates_are_code_points_like_others() {
        let mut bytes = b"a".to_vec();
        let points = [0xd800, 0xdc00, 0x1f600, 0xdfff, 0xe9];
        points.iter().for_each(|point| push_code_point(&mut bytes, *point));
        assert!(is_generalised_utf8(&bytes) && std::str::from_utf8(&bytes).is_err());
        let text = Text::from_checked(bytes);
        assert_eq!(text.code_points().skip(1).collect::<Vec<_>>(), points);
        assert_eq!(
            (text.as_str(), text.to_string().as_str()),
            (None, "a\u{fffd}\u{fffd}😀\u{fffd}é")
        );
        for bad in
            [&[0xed, 0xa0][..], &[0xff], &[0xc0, 0x80], &[0xed, 0xa0, 0x41], &[0xf5, 0, 0, 0]]
        {
            assert!(!is_generalised_utf8(bad), "{bad:x?}");
        }
    }
}
