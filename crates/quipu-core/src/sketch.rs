//! Finding the difference of two sets with traffic in proportion to the difference.
//!
//! A rateless invertible Bloom lookup table: L. Yang, Y. Gilad, M. Alizadeh, "Practical Rateless
//! Set Reconciliation", SIGCOMM 2024. A set is seen as an endless row of coded symbols; each item
//! is added to symbol `i` with probability `rho(i) = 1 / (1 + i/2)`. One side sends symbols from
//! the first on; the other subtracts its own, which leaves the symbols of the difference, and
//! takes items out of those that hold only one. For `d` differing items some `1.35 d` (large `d`)
//! to `1.7 d` (small `d`) symbols do, whatever the sizes of the sets, and nobody has to know `d`
//! beforehand: if it did not decode, send the next symbols.
//!
//! An item costs one keyed hash and about `2 ln n` symbol updates for the first `n` symbols (13
//! for [`SYMBOLS_KEPT`]).
//!
//! # The 24 bit check
//!
//! A symbol that holds several items passes for a single one if its count is 1 or -1, its check
//! fits by chance (2^-24), and the false item also maps to that symbol (`rho(i)`). A decode of
//! 200 items meets some 260 such symbols, so fewer than one in 10^5 takes out a false item. Even
//! then no harm is done: subtracting a false item only makes the difference one item larger, and
//! the decoder takes it back when it meets it again with the other sign. If a peer lies, or both
//! sides' items collide, the caller sees it: after sync both log digests must be equal, and if
//! they are not it begins again under a fresh key, under which everything falls out differently.
//! A longer check would cost a byte for each symbol of every sync to gain nothing.
//!
//! # Agreement
//!
//! All machines must map items alike. The index sequence uses `f64`, but only conversions from
//! integers, `+`, `-`, `*`, `/` and `sqrt`, which IEEE 754 rounds correctly and which Rust
//! guarantees on every target that has `f64` in hardware or in software (x87 without SSE2, that
//! is the `i586` targets, is the known exception). There is a golden test.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap};
use std::ops::Range;

mod wire;
pub use wire::{Batch, WireError, decode_symbols, encode_symbols};

#[cfg(test)]
mod tests;

/// Bytes of an item.
pub const ITEM_BYTES: usize = 10;
/// Bytes of the check of an item.
pub const CHECK_BYTES: usize = 3;
/// How many symbols a [`Sketch`] keeps up to date (20 KiB): enough for about 700 differences.
pub const SYMBOLS_KEPT: usize = 1024;
/// No symbol has this index or a higher one. A difference that needs more is better fetched whole.
pub const SYMBOLS_MAX: usize = 1 << 20;

/// A member of the sets. What the bytes mean is up to the caller; equal bytes are the same item,
/// and a set may not hold an item twice.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Item(pub [u8; ITEM_BYTES]);

/// The sum of the items that map to one index. The difference of two sets' symbols is a symbol
/// of the sets' difference.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Symbol {
    /// XOR of the items.
    pub sum: [u8; ITEM_BYTES],
    /// XOR of the items' keyed hashes.
    pub check: [u8; CHECK_BYTES],
    /// Number of items; in a difference, those of the remote side less those of the local side.
    /// Wraps around.
    pub count: i32,
}

impl Symbol {
    /// Whether nothing is left in it.
    pub fn is_zero(&self) -> bool {
        *self == Self::default()
    }

    fn add(&mut self, item: &Item, check: [u8; CHECK_BYTES], sign: i32) {
        self.xor(&item.0, check);
        self.count = self.count.wrapping_add(sign);
    }

    fn subtract(&mut self, other: &Self) {
        self.xor(&other.sum, other.check);
        self.count = self.count.wrapping_sub(other.count);
    }

    fn xor(&mut self, sum: &[u8; ITEM_BYTES], check: [u8; CHECK_BYTES]) {
        self.sum.iter_mut().zip(sum).for_each(|(a, b)| *a ^= b);
        self.check.iter_mut().zip(check).for_each(|(a, b)| *a ^= b);
    }
}

/// The check of an item and the row of indices it maps to, under a key.
fn hash(key: &[u8; 32], item: &Item) -> ([u8; CHECK_BYTES], Indices) {
    const CONTEXT: &[u8; 14] = b"quipu sketch 1";
    let mut input = [0; CONTEXT.len() + ITEM_BYTES];
    input[..CONTEXT.len()].copy_from_slice(CONTEXT);
    input[CONTEXT.len()..].copy_from_slice(&item.0);
    let digest = blake3::keyed_hash(key, &input);
    let [s0, s1, s2, s3, s4, s5, s6, s7, c0, c1, c2, ..] = *digest.as_bytes();
    let state = u64::from_le_bytes([s0, s1, s2, s3, s4, s5, s6, s7]);
    ([c0, c1, c2], Indices { state, at: 0 })
}

/// The rising row of indices of one item: 0, and every other `i` with probability `rho(i)`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Indices {
    at: u64,
    state: u64,
}

impl Indices {
    /// Goes to the next index.
    fn advance(&mut self) {
        // SplitMix64 (Steele, Lea, Flood 2014).
        self.state = self.state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.state;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^= z >> 31;
        self.at = next_index(self.at, (z >> 11) + 1);
    }

    /// The indices below `end`, beginning with the current one; stops at the first not below.
    fn below(&mut self, end: usize) -> Option<usize> {
        let at = self.at;
        if at >= end as u64 {
            return None;
        }
        self.advance();
        Some(at as usize)
    }
}

/// The index after `at`, for a uniform `u` from 1 to 2^53.
///
/// From `i`, the next index is above `j` with probability `(1-rho(i+1))..(1-rho(j))`, which is
/// `(i+1)(i+2) / (j+1)(j+2)`. So it is the least `j` for which that is below `u / 2^53`. (The
/// paper's program approximates this.)
fn next_index(at: u64, u: u64) -> u64 {
    // All exact in f64 for indices below SYMBOLS_MAX, up to the division.
    let here = (at + 1) as f64 * (at + 2) as f64;
    let root = (here * (1u64 << 53) as f64 / u as f64 + 0.25).sqrt();
    // The root is at least at + 1.5. The cast rounds down, and saturates.
    (root - 0.5) as u64
}

/// Adds (`sign` 1) or takes away (`sign` -1) an item in the symbols of the indices from `first` on.
fn apply(symbols: &mut [Symbol], first: usize, key: &[u8; 32], item: &Item, sign: i32) {
    let (check, mut indices) = hash(key, item);
    while let Some(index) = indices.below(first + symbols.len()) {
        if let Some(symbol) = index.checked_sub(first).and_then(|i| symbols.get_mut(i)) {
            symbol.add(item, check, sign);
        }
    }
}

/// The first [`SYMBOLS_KEPT`] symbols of a set, kept up to date as the set changes. It does not
/// hold the items. Clone it to hold still what is sent in several rounds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sketch {
    key: [u8; 32],
    symbols: Vec<Symbol>,
}

impl Sketch {
    /// The sketch of the empty set. Both sides need the same key.
    pub fn new(key: [u8; 32]) -> Self {
        Self { key, symbols: vec![Symbol::default(); SYMBOLS_KEPT] }
    }

    /// The key it was made with.
    pub fn key(&self) -> &[u8; 32] {
        &self.key
    }

    /// The number of items, exact up to 2^31 - 1.
    pub fn set_size(&self) -> u32 {
        u32::try_from(self.symbols[0].count).unwrap_or(0)
    }

    /// Adds an item that is not in the set (the caller sees to that). O(log [`SYMBOLS_KEPT`]).
    pub fn insert(&mut self, item: Item) {
        apply(&mut self.symbols, 0, &self.key, &item, 1);
    }

    /// Takes away an item that is in the set (the caller sees to that). O(log [`SYMBOLS_KEPT`]).
    pub fn remove(&mut self, item: Item) {
        apply(&mut self.symbols, 0, &self.key, &item, -1);
    }

    /// The symbols of these indices, as far as they are kept; see [`encode_extra`] for the others.
    pub fn symbols(&self, range: Range<usize>) -> Vec<Symbol> {
        let end = range.end.min(SYMBOLS_KEPT);
        self.symbols.get(range.start..end).unwrap_or_default().to_vec()
    }
}

/// Computes the symbols of any indices below [`SYMBOLS_MAX`] from all items of a set: one hash
/// and O(log `range.end`) for each item.
pub fn encode_extra(
    items: impl Iterator<Item = Item>,
    key: &[u8; 32],
    range: Range<usize>,
) -> Vec<Symbol> {
    let length = range.end.min(SYMBOLS_MAX).saturating_sub(range.start);
    let mut symbols = vec![Symbol::default(); length];
    if length > 0 {
        items.for_each(|item| apply(&mut symbols, range.start, key, &item, 1));
    }
    symbols
}

/// Why a [`Decoder`] did not take symbols. It is unchanged then.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum PushError {
    /// The local side has fewer symbols; give them by [`Decoder::extend_local`] and push again.
    #[error("{remote} remote symbols, but only {local} local ones")]
    LocalMissing {
        /// Symbols that would have been received.
        remote: usize,
        /// Local symbols known.
        local: usize,
    },
}

/// An item taken out of the difference, as it waits for the next symbol that it maps to. Ordered
/// by that symbol.
type Waiting = Reverse<(Indices, Item, [u8; CHECK_BYTES], i32)>;

/// Finds the difference between a remote and a local set.
///
/// Symbols may come from anyone; the caller bounds how many it takes. For `n` symbols pushed, at most `2 n` items are taken out, each
/// at O(log n) hashes and updates, and memory stays O(n), whatever the symbols are.
#[derive(Debug, Clone)]
pub struct Decoder {
    key: [u8; 32],
    /// The local symbols, from index 0 on.
    local: Vec<Symbol>,
    /// The received symbols less the local ones and less all items taken out.
    rest: Vec<Symbol>,
    /// Which of `rest` are in `candidates`.
    queued: Vec<bool>,
    /// Indices of symbols that may hold a single item.
    candidates: Vec<usize>,
    /// How many of `rest` are not zero.
    nonzero: usize,
    /// One for each removal.
    waiting: BinaryHeap<Waiting>,
    /// What was found: 1 for items only the remote side has, -1 for items only the local side has.
    found: BTreeMap<Item, i32>,
    /// An item was found twice on the same side, or too many were: the symbols are not of a set.
    refused: bool,
}

impl Decoder {
    /// Begins with a copy of the local sketch, so that it may change in the meantime.
    ///
    /// The key is that of both sides; a sketch made with another never decodes.
    pub fn new(key: [u8; 32], local: &Sketch) -> Self {
        Self {
            key,
            local: local.symbols.clone(),
            rest: Vec::new(),
            queued: Vec::new(),
            candidates: Vec::new(),
            nonzero: 0,
            waiting: BinaryHeap::new(),
            found: BTreeMap::new(),
            refused: false,
        }
    }

    /// Gives the next local symbols, from index [`Self::local_symbols`] on; of the same set that
    /// the sketch had at the beginning.
    pub fn extend_local(&mut self, symbols: &[Symbol]) {
        self.local.extend_from_slice(symbols);
    }

    /// The number of local symbols known.
    pub fn local_symbols(&self) -> usize {
        self.local.len()
    }

    /// The number of remote symbols received: the index of the next to push.
    pub fn received(&self) -> usize {
        self.rest.len()
    }

    /// Takes the next symbols of the remote side, from index [`Self::received`] on.
    ///
    /// # Errors
    ///
    /// If there are not as many local symbols.
    pub fn push(&mut self, remote_symbols: &[Symbol]) -> Result<(), PushError> {
        let start = self.rest.len();
        let end = start + remote_symbols.len();
        let Some(local) = self.local.get(start..end) else {
            return Err(PushError::LocalMissing { remote: end, local: self.local.len() });
        };
        self.rest.extend(remote_symbols.iter().zip(local).map(|(remote, local)| {
            let mut symbol = *remote;
            symbol.subtract(local);
            symbol
        }));
        self.queued.resize(end, false);
        self.nonzero += self.rest[start..].iter().filter(|symbol| !symbol.is_zero()).count();
        // What was found before is in the new symbols too.
        while let Some(Reverse((mut indices, item, check, sign))) = self.waiting.pop() {
            if indices.at >= end as u64 {
                self.waiting.push(Reverse((indices, item, check, sign)));
                break;
            }
            self.take_out(&mut indices, &item, check, sign);
            self.waiting.push(Reverse((indices, item, check, sign)));
        }
        (start..end).rev().for_each(|index| self.consider(index));
        self.peel();
        Ok(())
    }

    /// Subtracts an item from the symbols that it maps to, up to the last received.
    fn take_out(
        &mut self,
        indices: &mut Indices,
        item: &Item,
        check: [u8; CHECK_BYTES],
        sign: i32,
    ) {
        while let Some(index) = indices.below(self.rest.len()) {
            let symbol = &mut self.rest[index];
            self.nonzero -= usize::from(!symbol.is_zero());
            symbol.add(item, check, -sign);
            self.nonzero += usize::from(!symbol.is_zero());
            self.consider(index);
        }
    }

    /// Queues a symbol if it may hold a single item.
    fn consider(&mut self, index: usize) {
        if matches!(self.rest[index].count, 1 | -1) && !self.queued[index] {
            self.queued[index] = true;
            self.candidates.push(index);
        }
    }

    fn peel(&mut self) {
        while !self.refused
            && let Some(index) = self.candidates.pop()
        {
            self.queued[index] = false;
            let Symbol { sum, check, count: sign } = self.rest[index];
            let item = Item(sum);
            let (expected, indices) = hash(&self.key, &item);
            if !matches!(sign, 1 | -1) || check != expected || !maps_to(indices, index) {
                continue;
            }
            match self.found.get(&item) {
                // A false item, taken back.
                Some(found) if *found == -sign => drop(self.found.remove(&item)),
                Some(_) => self.refused = true,
                None => drop(self.found.insert(item, sign)),
            }
            // A set takes out less than one item for each symbol.
            self.refused |= self.waiting.len() >= 2 * self.rest.len();
            if !self.refused {
                let mut indices = indices;
                self.take_out(&mut indices, &item, check, sign);
                self.waiting.push(Reverse((indices, item, check, sign)));
            }
        }
    }

    /// Whether all of the difference is found: at least one symbol was received, and nothing is
    /// left in any.
    pub fn is_decoded(&self) -> bool {
        !self.refused && !self.rest.is_empty() && self.nonzero == 0
    }

    /// Whether the symbols cannot be those of a set, so that more of them will not help.
    pub fn is_refused(&self) -> bool {
        self.refused
    }

    /// The items that only the remote side has and those that only the local side has, each
    /// sorted. Complete once [`Self::is_decoded`]; before that it is what was found so far, of
    /// which nearly all is right.
    pub fn result(&self) -> (Vec<Item>, Vec<Item>) {
        let side =
            |sign| self.found.iter().filter(move |(_, s)| **s == sign).map(|(item, _)| *item);
        (side(1).collect(), side(-1).collect())
    }
}

fn maps_to(mut indices: Indices, index: usize) -> bool {
    while indices.at < index as u64 {
        indices.advance();
    }
    indices.at == index as u64
}
