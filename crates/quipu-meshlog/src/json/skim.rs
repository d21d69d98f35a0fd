//! Values that are not made: their text goes straight into the text that Python writes for them.
//!
//! Most of what is read is only hashed, kept and written again. A *compact text* here is what [`write()`](super::write)
//! makes of a value in [`Style::Compact`]: ASCII, no spaces, each key once.

use smallvec::SmallVec;

use super::read::Key;
use super::write::{Style, write, write_text};
use super::{JsonError, KEYS_COMPARED_MAX, Reader, Value};

/// Which objects of a compact text have their keys in the order of the canonical text.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum KeyOrder {
    /// All: the text is canonical.
    Sorted,
    /// All but the outermost.
    OuterUnsorted,
    /// Others, too, or keys that only [`Value`] knows how to compare.
    Unsorted,
}

/// Why a value is not skimmed.
enum Stop {
    Json(JsonError),
    /// A key that is escaped, not ASCII, or there twice.
    OddKey,
}

impl From<JsonError> for Stop {
    fn from(error: JsonError) -> Self {
        Self::Json(error)
    }
}

impl<'a> Reader<'a> {
    /// Reads a value and appends its compact text.
    pub(crate) fn skim(&mut self, out: &mut Vec<u8>) -> Result<KeyOrder, JsonError> {
        let (start, length) = (self.mark(), out.len());
        let mut order = KeyOrder::Sorted;
        match self.skim_value(out, &mut order, true) {
            Ok(()) => Ok(order),
            Err(Stop::Json(error)) => Err(error),
            Err(Stop::OddKey) => {
                self.rewind(start);
                out.truncate(length);
                write(&self.value()?, Style::Compact, out);
                Ok(KeyOrder::Unsorted)
            }
        }
    }

    fn skim_value(
        &mut self,
        out: &mut Vec<u8>,
        order: &mut KeyOrder,
        is_outer: bool,
    ) -> Result<(), Stop> {
        match self.peek() {
            Some(b'"') => self.skim_text(out)?,
            Some(b'{') => self.skim_object(out, order, is_outer)?,
            Some(b'[') => {
                let mut before = b'[';
                self.items(|reader| {
                    out.push(std::mem::replace(&mut before, b','));
                    reader.skim_value(out, order, false)
                })?;
                out.extend_from_slice(if before == b'[' { b"[]" } else { b"]" });
            }
            // Numbers and words hold nothing: they are made, and written as Python does.
            _ => write(&self.value()?, Style::Compact, out),
        }
        Ok(())
    }

    fn skim_object(
        &mut self,
        out: &mut Vec<u8>,
        order: &mut KeyOrder,
        is_outer: bool,
    ) -> Result<(), Stop> {
        let mut keys: SmallVec<[&'a [u8]; KEYS_COMPARED_MAX]> = SmallVec::new();
        let mut is_sorted = true;
        out.push(b'{');
        self.pairs(|reader, key| {
            let Key::Plain(name) = key else { return Err(Stop::OddKey) };
            if plain_length(name) < name.len() {
                return Err(Stop::OddKey);
            }
            if let Some(last) = keys.last() {
                is_sorted &= *last < name;
                out.push(b',');
            }
            keys.push(name);
            out.push(b'"');
            out.extend_from_slice(name);
            out.extend_from_slice(b"\":");
            reader.skim_value(out, order, false)
        })?;
        out.push(b'}');
        if !is_sorted {
            keys.sort_unstable();
            if keys.windows(2).any(|pair| pair[0] == pair[1]) {
                return Err(Stop::OddKey);
            }
            let found = if is_outer { KeyOrder::OuterUnsorted } else { KeyOrder::Unsorted };
            *order = found.max(*order);
        }
        Ok(())
    }

    fn skim_text(&mut self, out: &mut Vec<u8>) -> Result<(), JsonError> {
        match self.key()? {
            Key::Plain(run) if plain_length(run) == run.len() => {
                out.push(b'"');
                out.extend_from_slice(run);
                out.push(b'"');
            }
            other => write_text(&other.into_text(), out),
        }
        Ok(())
    }
}

/// How many bytes at the start stand for themselves in whatever Python writes: printable ASCII but `"` and `\`.
pub(crate) fn plain_length(bytes: &[u8]) -> usize {
    const ONES: u64 = 0x0101_0101_0101_0101;
    let is_plain = |byte: &u8| matches!(byte, b' '..=b'~') && !matches!(byte, b'"' | b'\\');
    // Eight bytes at once. A borrow can only mark bytes after one that is rightly marked.
    let has_zero = |word: u64| word.wrapping_sub(ONES) & !word;
    let (words, rest) = bytes.as_chunks::<8>();
    for (at, word) in words.iter().enumerate() {
        let word = u64::from_le_bytes(*word);
        let is = |byte: u8| has_zero(word ^ (ONES * u64::from(byte)));
        let below_space = word.wrapping_sub(ONES * u64::from(b' '));
        let marks = is(b'"') | is(b'\\') | is(0x7f) | below_space | word;
        let marks = marks & (ONES << 7);
        if marks != 0 {
            return at * 8 + (marks.trailing_zeros() / 8) as usize;
        }
    }
    let tail = rest.iter().position(|byte| !is_plain(byte)).unwrap_or(rest.len());
    words.len() * 8 + tail
}

/// Where a quoted text that begins a compact text ends.
fn text_end(compact: &[u8]) -> usize {
    let mut at = 1;
    while let Some(rest) = compact.get(at..) {
        at += plain_length(rest);
        match compact.get(at) {
            Some(b'"') => return at + 1,
            Some(b'\\') => at += 2,
            _ => break,
        }
    }
    compact.len()
}

/// Where the value that begins a compact text ends.
fn value_end(compact: &[u8]) -> usize {
    let (mut at, mut depth) = (0, 0usize);
    while let Some(byte) = compact.get(at) {
        match byte {
            b'"' => {
                at += text_end(&compact[at..]);
                if depth == 0 {
                    return at;
                }
                continue;
            }
            b'{' | b'[' => depth += 1,
            b',' if depth == 0 => return at,
            b'}' | b']' if depth == 0 => return at,
            b'}' | b']' => depth -= 1,
            _ => {}
        }
        at += 1;
    }
    compact.len()
}

/// Keys, in quotes, and values of the object that a compact text is; none of what is no object.
pub(crate) fn pairs_of(compact: &[u8]) -> impl Iterator<Item = (&[u8], &[u8])> {
    let mut rest = compact.strip_prefix(b"{").unwrap_or_default();
    std::iter::from_fn(move || {
        if !rest.starts_with(b"\"") {
            return None;
        }
        let (key, after) = rest.split_at(text_end(rest));
        let after = after.strip_prefix(b":")?;
        let (value, after) = after.split_at(value_end(after));
        rest = after.get(1..).unwrap_or_default();
        Some((key, value))
    })
}

/// Appends a compact text with the keys of its outermost object sorted. They are plain.
pub(crate) fn write_outer_sorted(compact: &[u8], out: &mut Vec<u8>) {
    let mut pairs: SmallVec<[(&[u8], &[u8]); KEYS_COMPARED_MAX]> = pairs_of(compact).collect();
    // With the closing quote a key would stand after a longer one that goes on with ` ` or `!`.
    pairs.sort_unstable_by_key(|(key, _)| &key[1..key.len() - 1]);
    out.push(b'{');
    for (at, (key, value)) in pairs.iter().enumerate() {
        if at > 0 {
            out.push(b',');
        }
        out.extend_from_slice(key);
        out.push(b':');
        out.extend_from_slice(value);
    }
    out.push(b'}');
}

/// Appends a compact text as it is written in [`Style::Spaced`].
pub(crate) fn write_spaced(compact: &[u8], out: &mut Vec<u8>) {
    let mut rest = compact;
    while let Some(byte) = rest.first() {
        let length = if *byte == b'"' { text_end(rest) } else { 1 };
        let (piece, after) = rest.split_at(length);
        out.extend_from_slice(piece);
        if matches!(byte, b',' | b':') {
            out.push(b' ');
        }
        rest = after;
    }
}

/// The value of a compact text.
pub(crate) fn value_of(compact: &[u8]) -> Value {
    // What was written here can be read here: within the same limits.
    super::parse(compact).unwrap_or_default()
}
