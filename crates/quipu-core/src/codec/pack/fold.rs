//! Columns, compressed if that makes them smaller.

use std::borrow::Cow;

use zstd::bulk::{Compressor, Decompressor};
use zstd::zstd_safe::CParameter;

use super::PackError;
use super::dictionary::PAYLOADS;
use crate::codec::varint::{Reader, put, put_section};
use crate::limits::PACK_UNFOLDED_BYTES_MAX;

/// The columns as they are.
const PLAIN: u8 = 0;
/// A frame of zstd.
const ZSTD: u8 = 1;
/// A frame of zstd without its first four bytes, with the dictionary that all streams know.
const BRIEF: u8 = 2;

/// What every frame of zstd begins with (RFC 8878, 3.1.1).
const MAGIC: [u8; 4] = [0x28, 0xb5, 0x2f, 0xfd];

/// zstd level: fast, and within a few percent of the smallest on large batches.
const FAST_LEVEL: i32 = 3;
/// zstd level where bytes are dear: a millisecond for each 10 kB.
const SMALL_LEVEL: i32 = 19;
/// Longer columns are not worth that.
const SMALL_BYTES_MAX: usize = 128 << 10;
/// Shorter columns are not worth a try.
const FAST_BYTES_MIN: usize = 64;
const SMALL_BYTES_MIN: usize = 12;

/// How much work the bytes of a writer are worth.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) enum Effort {
    /// None: columns stay as they are.
    Plain,
    /// Little.
    #[default]
    Fast,
    /// Much: the link is slow.
    Small,
}

/// Compresses and decompresses the columns of a stream.
#[derive(Default)]
pub(super) struct Folder {
    pub(super) effort: Effort,
    fast: Option<Compressor<'static>>,
    small: Option<Compressor<'static>>,
    plain: Option<Decompressor<'static>>,
    brief: Option<Decompressor<'static>>,
}

impl Folder {
    /// Appends columns: a method byte, the unfolded length if they are folded, and the bytes.
    pub(super) fn put(&mut self, out: &mut Vec<u8>, columns: &[u8]) {
        match self.fold(columns) {
            Some((method, folded)) if folded.len() + 4 < columns.len() => {
                out.push(method);
                put(out, columns.len() as u64);
                put_section(out, &folded);
            }
            _ => {
                out.push(PLAIN);
                put_section(out, columns);
            }
        }
    }

    fn fold(&mut self, columns: &[u8]) -> Option<(u8, Vec<u8>)> {
        let small = self.effort == Effort::Small && columns.len() <= SMALL_BYTES_MAX;
        let least = if small { SMALL_BYTES_MIN } else { FAST_BYTES_MIN };
        if self.effort == Effort::Plain || columns.len() < least {
            return None;
        }
        if small {
            let compressor = opened(&mut self.small, small_compressor)?;
            let mut frame = compressor.compress(columns).ok()?;
            frame.drain(..MAGIC.len());
            return Some((BRIEF, frame));
        }
        let compressor = opened(&mut self.fast, || Compressor::new(FAST_LEVEL))?;
        Some((ZSTD, compressor.compress(columns).ok()?))
    }

    /// Takes columns that [`Self::put`] has appended.
    pub(super) fn take<'a>(&mut self, reader: &mut Reader<'a>) -> Result<Cow<'a, [u8]>, PackError> {
        let malformed = PackError::Malformed("columns");
        let method = reader.byte().ok_or(malformed.clone())?;
        let length = match method {
            PLAIN => None,
            ZSTD | BRIEF => Some(reader.length().ok_or(malformed.clone())?),
            _ => return Err(malformed),
        };
        if length.is_some_and(|length| length > PACK_UNFOLDED_BYTES_MAX) {
            return Err(PackError::TooLarge("columns"));
        }
        let bytes = reader.section().ok_or(malformed.clone())?;
        let Some(length) = length else {
            let fits = bytes.len() <= PACK_UNFOLDED_BYTES_MAX;
            return if fits { Ok(bytes.into()) } else { Err(PackError::TooLarge("columns")) };
        };
        let columns = match method {
            ZSTD => unfold(&mut self.plain, Decompressor::new, bytes, length),
            _ => {
                let frame = [&MAGIC[..], bytes].concat();
                let open = || Decompressor::with_dictionary(&PAYLOADS);
                unfold(&mut self.brief, open, &frame, length)
            }
        };
        columns.filter(|columns| columns.len() == length).map(Cow::Owned).ok_or(malformed)
    }
}

fn small_compressor() -> std::io::Result<Compressor<'static>> {
    let mut compressor = Compressor::with_dictionary(SMALL_LEVEL, &PAYLOADS)?;
    // The length stands before the frame.
    compressor.set_parameter(CParameter::ContentSizeFlag(false))?;
    Ok(compressor)
}

fn unfold(
    slot: &mut Option<Decompressor<'static>>,
    open: impl FnOnce() -> std::io::Result<Decompressor<'static>>,
    frame: &[u8],
    length: usize,
) -> Option<Vec<u8>> {
    opened(slot, open)?.decompress(frame, length).ok()
}

fn opened<T>(slot: &mut Option<T>, open: impl FnOnce() -> std::io::Result<T>) -> Option<&mut T> {
    if slot.is_none() {
        *slot = open().ok();
    }
    slot.as_mut()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn there_and_back(effort: Effort, columns: &[u8]) -> usize {
        let mut bytes = Vec::new();
        Folder { effort, ..Folder::default() }.put(&mut bytes, columns);
        let mut reader = Reader::new(&bytes);
        let back = Folder::default().take(&mut reader);
        assert_eq!(back.as_deref(), Ok(columns));
        assert!(reader.is_empty());
        bytes.len()
    }

    /// One record: the keys are in the dictionary.
    #[test]
    fn a_slow_link_says_little() {
        let payload = crate::value::Value::map([
            ("record_id", "R-7391".into()),
            ("field", "temperature".into()),
            ("value", 215_u64.into()),
        ]);
        let mut columns = Vec::new();
        crate::value::encode(&payload, &mut columns);
        let (plain, fast) =
            (there_and_back(Effort::Plain, &columns), there_and_back(Effort::Fast, &columns));
        let small = there_and_back(Effort::Small, &columns);
        assert!(fast <= plain && small + 6 < fast, "{plain} {fast} {small}");
    }

    #[test]
    fn columns_of_all_lengths_survive() {
        for effort in [Effort::Plain, Effort::Fast, Effort::Small] {
            for length in [0, 1, 11, 12, 63, 64, 1_000, SMALL_BYTES_MAX, SMALL_BYTES_MAX + 1] {
                let columns: Vec<u8> = (0..length).map(|n| (n / 7 % 11) as u8).collect();
                there_and_back(effort, &columns);
            }
        }
    }
}
