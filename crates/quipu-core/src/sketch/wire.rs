//! Symbols as bytes.
//!
//! ```text
//! varint start index, varint set size, varint number of symbols,
//! then for each symbol: sum (10), check (3), zigzag varint of count - round(set size * rho(i))
//! ```
//!
//! Varints are LEB128 of the least length. Counts lie about `sqrt(set size * rho(i))` from what
//! is expected, so that for 100 000 items they take two bytes at the beginning and mostly one from symbol 50 on.

use super::{CHECK_BYTES, ITEM_BYTES, SYMBOLS_MAX, Symbol};

/// The fewest bytes that a symbol takes.
const SYMBOL_BYTES_MIN: usize = ITEM_BYTES + CHECK_BYTES + 1;

/// Symbols as they were sent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Batch {
    /// The index of the first symbol.
    pub start_index: usize,
    /// How many items the sender says its set has. Only the counts' encoding depends on it.
    pub set_size: u32,
    /// The symbols.
    pub symbols: Vec<Symbol>,
}

/// What is wrong with encoded symbols.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum WireError {
    /// The bytes end too early.
    #[error("symbols are cut short")]
    Short,
    /// There are bytes after the last symbol.
    #[error("{0} bytes after the last symbol")]
    Trailing(usize),
    /// A number is longer than needed or out of its range.
    #[error("not a valid number")]
    Number,
    /// More symbols than allowed.
    #[error("{0} symbols are too many")]
    TooMany(u64),
}

/// `round(set_size * rho(index))`, halves up, in integers: `rho(i) = 2 / (i + 2)`.
fn expected(set_size: u32, index: usize) -> i64 {
    let divisor = index as u64 + 2;
    ((4 * u64::from(set_size) + divisor) / (2 * divisor)) as i64
}

fn put_varint(out: &mut Vec<u8>, mut n: u64) {
    while n >= 0x80 {
        out.push(n as u8 | 0x80);
        n >>= 7;
    }
    out.push(n as u8);
}

/// Encodes symbols of successive indices from `start_index` on. `set_size` is a hint: counts near
/// those of a set of that size take the fewest bytes.
pub fn encode_symbols(symbols: &[Symbol], start_index: usize, set_size: u32) -> Vec<u8> {
    let mut out = Vec::with_capacity(12 + symbols.len() * (SYMBOL_BYTES_MIN + 1));
    put_varint(&mut out, start_index as u64);
    put_varint(&mut out, u64::from(set_size));
    put_varint(&mut out, symbols.len() as u64);
    for (index, symbol) in (start_index..).zip(symbols) {
        out.extend_from_slice(&symbol.sum);
        out.extend_from_slice(&symbol.check);
        let delta = i64::from(symbol.count) - expected(set_size, index);
        put_varint(&mut out, ((delta << 1) ^ (delta >> 63)) as u64);
    }
    out
}

/// Decodes what [`encode_symbols`] wrote, and nothing else: other bytes never give the same batch.
///
/// # Errors
///
/// On anything else, on more than `max_symbols` symbols, and on indices from
/// [`SYMBOLS_MAX`] on.
pub fn decode_symbols(bytes: &[u8], max_symbols: usize) -> Result<Batch, WireError> {
    let mut rest = bytes;
    let start = take_varint(&mut rest)?;
    let set_size = u32::try_from(take_varint(&mut rest)?).map_err(|_| WireError::Number)?;
    let length = take_varint(&mut rest)?;
    if length > max_symbols as u64 || start.saturating_add(length) > SYMBOLS_MAX as u64 {
        return Err(WireError::TooMany(length));
    }
    let (start_index, length) = (start as usize, length as usize);
    if rest.len() / SYMBOL_BYTES_MIN < length {
        return Err(WireError::Short);
    }
    let mut symbols = Vec::with_capacity(length);
    for index in start_index..start_index + length {
        let sum = take_array(&mut rest)?;
        let check = take_array(&mut rest)?;
        let zigzag = take_varint(&mut rest)?;
        let delta = (zigzag >> 1) as i64 ^ -((zigzag & 1) as i64);
        let count = delta
            .checked_add(expected(set_size, index))
            .and_then(|count| i32::try_from(count).ok())
            .ok_or(WireError::Number)?;
        symbols.push(Symbol { sum, check, count });
    }
    match rest.len() {
        0 => Ok(Batch { start_index, set_size, symbols }),
        more => Err(WireError::Trailing(more)),
    }
}

fn take_array<const N: usize>(rest: &mut &[u8]) -> Result<[u8; N], WireError> {
    let (array, after) = rest.split_first_chunk::<N>().ok_or(WireError::Short)?;
    *rest = after;
    Ok(*array)
}

fn take_varint(rest: &mut &[u8]) -> Result<u64, WireError> {
    let mut n = 0u64;
    for shift in (0..64).step_by(7) {
        let [byte] = take_array(rest)?;
        let bits = u64::from(byte & 0x7f);
        if (bits << shift) >> shift != bits || (byte == 0 && shift > 0) {
            return Err(WireError::Number);
        }
        n |= bits << shift;
        if byte & 0x80 == 0 {
            return Ok(n);
        }
    }
    Err(WireError::Number)
}
