//! Reading, as Python's `json.loads` does.

use super::skim::plain_length;
use super::{Int, Object, Value};
use crate::limits::{INTEGER_DIGITS_MAX, JSON_DEPTH_MAX};
use crate::text::{Text, push_code_point};

/// With so many digits a whole number fits into 64 bits.
const SHORT_INT_DIGITS: usize = 18;

/// What is wrong with a JSON text, and where.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("byte {offset}: {rule}")]
pub struct JsonError {
    /// Where, in bytes from the start.
    pub offset: usize,
    /// What.
    pub rule: JsonRule,
}

/// The rule that a JSON text breaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum JsonRule {
    /// Not UTF-8, or whatever else the first bytes announce.
    #[error("the text is not valid in its encoding")]
    Encoding,
    /// Something else stands where a value should.
    #[error("expected a value")]
    Value,
    /// An object's key is no text.
    #[error("expected a key in double quotes")]
    Key,
    /// No `:` after a key.
    #[error("expected a colon")]
    Colon,
    /// Neither a comma nor the end of a list or object.
    #[error("expected a comma or the end of the list or object")]
    Comma,
    /// A text does not end.
    #[error("the text is not closed")]
    Open,
    /// A control character in a text.
    #[error("control characters in texts must be escaped")]
    Control,
    /// No such escape.
    #[error("no such escape")]
    Escape,
    /// Something stands after the value.
    #[error("something stands after the value")]
    Extra,
    /// Too deep.
    #[error("nested more than {JSON_DEPTH_MAX} deep")]
    Depth,
    /// Too many digits.
    #[error("an integer of more than {INTEGER_DIGITS_MAX} digits")]
    Digits,
}

/// Reads a text in UTF-8, as Python reads a line of a file or a message.
pub fn parse(text: &[u8]) -> Result<Value, JsonError> {
    match std::str::from_utf8(text) {
        Ok(_) => parse_checked(text),
        Err(error) => Err(JsonError { offset: error.valid_up_to(), rule: JsonRule::Encoding }),
    }
}

/// Reads a text in UTF-8 with a reader of one's own, for what need not become a [`Value`] as a whole.
pub(crate) fn parse_with<T>(
    text: &[u8],
    read: impl FnOnce(&mut Reader<'_>) -> Result<T, JsonError>,
) -> Result<T, JsonError> {
    if let Err(error) = std::str::from_utf8(text) {
        return Err(JsonError { offset: error.valid_up_to(), rule: JsonRule::Encoding });
    }
    let mut reader = Reader::new(text);
    reader.skip_spaces();
    let result = read(&mut reader)?;
    reader.skip_spaces();
    if reader.at < text.len() { Err(reader.error(JsonRule::Extra)) } else { Ok(result) }
}

/// Reads what is known to be generalised UTF-8.
pub(super) fn parse_checked(text: &[u8]) -> Result<Value, JsonError> {
    let mut reader = Reader::new(text);
    reader.skip_spaces();
    let value = reader.value()?;
    reader.skip_spaces();
    if reader.at < text.len() { Err(reader.error(JsonRule::Extra)) } else { Ok(value) }
}

/// A text that was read, perhaps still where it stood.
pub(crate) enum Key<'a> {
    Plain(&'a [u8]),
    Escaped(Vec<u8>),
}

impl Key<'_> {
    pub(crate) fn as_bytes(&self) -> &[u8] {
        match self {
            Key::Plain(bytes) => bytes,
            Key::Escaped(bytes) => bytes,
        }
    }

    pub(crate) fn into_text(self) -> Text {
        match self {
            Key::Plain(bytes) => Text::from_checked_slice(bytes),
            Key::Escaped(bytes) => Text::from_checked(bytes),
        }
    }
}

/// Walks through a text.
pub(crate) struct Reader<'a> {
    text: &'a [u8],
    at: usize,
    depth: usize,
    /// For what is put together on the way: it is used again and again.
    buffer: Vec<u8>,
}

impl<'a> Reader<'a> {
    const fn new(text: &'a [u8]) -> Self {
        Self { text, at: 0, depth: 0, buffer: Vec::new() }
    }

    /// Memory to put something together in.
    pub(crate) const fn buffer(&mut self) -> &mut Vec<u8> {
        &mut self.buffer
    }

    /// Where it is, to be given to [`Reader::rewind`].
    pub(super) const fn mark(&self) -> (usize, usize) {
        (self.at, self.depth)
    }

    /// Goes back to where it was.
    pub(super) const fn rewind(&mut self, (at, depth): (usize, usize)) {
        (self.at, self.depth) = (at, depth);
    }

    fn error(&self, rule: JsonRule) -> JsonError {
        JsonError { offset: self.at, rule }
    }

    /// The byte that comes next.
    pub(crate) fn peek(&self) -> Option<u8> {
        self.text.get(self.at).copied()
    }

    fn skip_spaces(&mut self) {
        while matches!(self.peek(), Some(b' ' | b'\t' | b'\n' | b'\r')) {
            self.at += 1;
        }
    }

    fn skip_digits(&mut self) -> usize {
        let start = self.at;
        while self.peek().is_some_and(|byte| byte.is_ascii_digit()) {
            self.at += 1;
        }
        self.at - start
    }

    fn word(&mut self, word: &str, value: Value) -> Result<Value, JsonError> {
        if !self.text[self.at..].starts_with(word.as_bytes()) {
            return Err(self.error(JsonRule::Value));
        }
        self.at += word.len();
        Ok(value)
    }

    /// Reads a value.
    pub(crate) fn value(&mut self) -> Result<Value, JsonError> {
        match self.peek() {
            Some(b'"') => Ok(Value::Text(self.text()?)),
            Some(b'{') => {
                let mut pairs = Vec::new();
                self.pairs(|reader, key| {
                    let value = reader.value()?;
                    pairs.push((key.into_text(), value));
                    Ok::<(), JsonError>(())
                })?;
                Ok(Value::Object(Object::from_pairs(pairs)))
            }
            Some(b'[') => {
                let mut items = Vec::new();
                self.items(|reader| {
                    items.push(reader.value()?);
                    Ok::<(), JsonError>(())
                })?;
                Ok(Value::List(items))
            }
            Some(b'-') if self.text.get(self.at + 1) == Some(&b'I') => {
                self.word("-Infinity", Value::Float(f64::NEG_INFINITY))
            }
            Some(b'-' | b'0'..=b'9') => self.number(),
            Some(b'n') => self.word("null", Value::Null),
            Some(b't') => self.word("true", Value::Bool(true)),
            Some(b'f') => self.word("false", Value::Bool(false)),
            Some(b'N') => self.word("NaN", Value::Float(f64::NAN)),
            Some(b'I') => self.word("Infinity", Value::Float(f64::INFINITY)),
            _ => Err(self.error(JsonRule::Value)),
        }
    }

    fn nested<T, E: From<JsonError>>(
        &mut self,
        inner: impl FnOnce(&mut Self) -> Result<T, E>,
    ) -> Result<T, E> {
        if self.depth == JSON_DEPTH_MAX {
            return Err(self.error(JsonRule::Depth).into());
        }
        self.depth += 1;
        self.at += 1;
        self.skip_spaces();
        let value = inner(self);
        self.depth -= 1;
        value
    }

    /// After an item: whether another one follows, or this byte ends it all.
    fn follows(&mut self, end: u8) -> Result<bool, JsonError> {
        self.skip_spaces();
        let more = match self.peek() {
            Some(b',') => true,
            Some(byte) if byte == end => false,
            _ => return Err(self.error(JsonRule::Comma)),
        };
        self.at += 1;
        if more {
            self.skip_spaces();
        }
        Ok(more)
    }

    /// Reads a list, item by item.
    pub(crate) fn items<E: From<JsonError>>(
        &mut self,
        mut item: impl FnMut(&mut Self) -> Result<(), E>,
    ) -> Result<(), E> {
        self.nested(|reader| {
            if reader.peek() == Some(b']') {
                reader.at += 1;
                return Ok(());
            }
            loop {
                item(reader)?;
                if !reader.follows(b']')? {
                    return Ok(());
                }
            }
        })
    }

    /// Reads an object, pair by pair: the key is given, the value is to be read.
    pub(crate) fn pairs<E: From<JsonError>>(
        &mut self,
        mut pair: impl FnMut(&mut Self, Key<'a>) -> Result<(), E>,
    ) -> Result<(), E> {
        self.nested(|reader| {
            if reader.peek() == Some(b'}') {
                reader.at += 1;
                return Ok(());
            }
            loop {
                if reader.peek() != Some(b'"') {
                    return Err(reader.error(JsonRule::Key).into());
                }
                let key = reader.key()?;
                reader.skip_spaces();
                if reader.peek() != Some(b':') {
                    return Err(reader.error(JsonRule::Colon).into());
                }
                reader.at += 1;
                reader.skip_spaces();
                pair(reader, key)?;
                if !reader.follows(b'}')? {
                    return Ok(());
                }
            }
        })
    }

    fn number(&mut self) -> Result<Value, JsonError> {
        if let Some(int) = self.short_int() {
            return Ok(Value::Int(Int::Small(int)));
        }
        let start = self.at;
        self.at += usize::from(self.peek() == Some(b'-'));
        let first = self.at;
        match self.peek() {
            // A zero stands alone; what follows it is for the caller to refuse.
            Some(b'0') => self.at += 1,
            _ if self.skip_digits() == 0 => return Err(self.error(JsonRule::Value)),
            _ => {}
        }
        let digits = self.at - first;
        let is_float = self.fraction() | self.exponent();
        // Only ASCII was taken.
        let spelled = std::str::from_utf8(&self.text[start..self.at]).unwrap_or_default();
        if is_float {
            return spelled.parse().map(Value::Float).map_err(|_| self.error(JsonRule::Value));
        }
        if digits > INTEGER_DIGITS_MAX {
            return Err(JsonError { offset: start, rule: JsonRule::Digits });
        }
        Ok(Value::Int(Int::from_digits(spelled)))
    }

    /// A whole number of few digits, as most are. If it is another one, nothing is read.
    fn short_int(&mut self) -> Option<i64> {
        let rest = &self.text[self.at..];
        let digits = rest.strip_prefix(b"-").unwrap_or(rest);
        let (mut length, mut int) = (0, 0);
        while let Some(digit @ b'0'..=b'9') = digits.get(length) {
            length += 1;
            if length > SHORT_INT_DIGITS {
                return None;
            }
            int = int * 10 + i64::from(digit - b'0');
        }
        let is_whole = !matches!(digits.get(length), Some(b'.' | b'e' | b'E'));
        if !is_whole || length == 0 || (digits[0] == b'0' && length > 1) {
            return None;
        }
        let sign = rest.len() - digits.len();
        self.at += sign + length;
        Some(if sign == 0 { int } else { -int })
    }

    /// A point and digits, or nothing at all: a point alone is not part of the number.
    fn fraction(&mut self) -> bool {
        let start = self.at;
        if self.peek() == Some(b'.') {
            self.at += 1;
            if self.skip_digits() > 0 {
                return true;
            }
        }
        self.at = start;
        false
    }

    fn exponent(&mut self) -> bool {
        let start = self.at;
        if matches!(self.peek(), Some(b'e' | b'E')) {
            self.at += 1;
            self.at += usize::from(matches!(self.peek(), Some(b'+' | b'-')));
            if self.skip_digits() > 0 {
                return true;
            }
        }
        self.at = start;
        false
    }

    /// A text, from its opening quote on.
    fn text(&mut self) -> Result<Text, JsonError> {
        self.key().map(Key::into_text)
    }

    /// The same, without a copy if nothing in it is escaped.
    pub(crate) fn key(&mut self) -> Result<Key<'a>, JsonError> {
        self.at += 1;
        let mut out = Vec::new();
        loop {
            let rest = &self.text[self.at..];
            let ends = |byte: &u8| *byte < b' ' || matches!(byte, b'"' | b'\\');
            let mut length = plain_length(rest);
            length += rest[length..].iter().position(ends).unwrap_or(rest.len() - length);
            let run = &rest[..length];
            self.at += length;
            match self.peek() {
                Some(b'"') => {
                    self.at += 1;
                    if out.is_empty() {
                        return Ok(Key::Plain(run));
                    }
                    out.extend_from_slice(run);
                    return Ok(Key::Escaped(out));
                }
                Some(b'\\') => {
                    out.extend_from_slice(run);
                    let point = self.escape()?;
                    push_code_point(&mut out, point);
                }
                Some(_) => return Err(self.error(JsonRule::Control)),
                None => return Err(self.error(JsonRule::Open)),
            }
        }
    }

    fn escape(&mut self) -> Result<u32, JsonError> {
        let simple = match self.text.get(self.at + 1) {
            Some(b'"') => '"',
            Some(b'\\') => '\\',
            Some(b'/') => '/',
            Some(b'b') => '\u{8}',
            Some(b'f') => '\u{c}',
            Some(b'n') => '\n',
            Some(b'r') => '\r',
            Some(b't') => '\t',
            Some(b'u') => return self.unicode_escape(),
            Some(_) => return Err(self.error(JsonRule::Escape)),
            None => return Err(self.error(JsonRule::Open)),
        };
        self.at += 2;
        Ok(u32::from(simple))
    }

    /// `\uXXXX`, and the second half if it is the first of a pair. Halves that are alone stay so.
    fn unicode_escape(&mut self) -> Result<u32, JsonError> {
        let first = self.hex_escape()?;
        if !(0xd800..0xdc00).contains(&first) || !self.text[self.at..].starts_with(b"\\u") {
            return Ok(first);
        }
        let after_first = self.at;
        let second = self.hex_escape()?;
        if !(0xdc00..0xe000).contains(&second) {
            self.at = after_first;
            return Ok(first);
        }
        Ok(0x1_0000 + ((first - 0xd800) << 10) + (second - 0xdc00))
    }

    fn hex_escape(&mut self) -> Result<u32, JsonError> {
        let digits = self.text.get(self.at + 2..self.at + 6);
        let value = digits.and_then(|digits| {
            digits
                .iter()
                .try_fold(0, |sum, digit| Some(sum << 4 | char::from(*digit).to_digit(16)?))
        });
        match value {
            Some(value) => {
                self.at += 6;
                Ok(value)
            }
            None => Err(self.error(JsonRule::Escape)),
        }
    }
}
