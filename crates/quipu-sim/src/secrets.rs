//! What only internal logs hold, and where it stands in other bytes.
//!
//! A secret is found where a run of [`RUN`] of its bytes stands, or all of it if it is shorter. Everything
//! that is looked for has at least [`WORD`] bytes that nobody could guess (hashes, salts, random bytes, and
//! clocks from a time of their own), so nothing is found by chance: a run of 8 such bytes stands at a given
//! place once in 2^64 times.

use std::collections::BTreeSet;

use quipu_core::codec::{v1, varint};
use quipu_core::event::LogSeq;
use quipu_core::value::{self, Value};

use crate::plan::Us;

/// A run of so many bytes in common is a leak.
const RUN: usize = 16;
/// Bytes that are looked up at once, and the least of a secret.
const WORD: usize = 8;
/// A run of [`RUN`] bytes holds a word that begins at a multiple of this.
const STRIDE: usize = RUN - WORD + 1;
/// Bits of the filter before the index.
const FILTER_BITS: u32 = 22;
/// Bytes of a key or an id.
const NAME: usize = 32;

/// Something that may not cross.
#[derive(Debug)]
pub(crate) struct Secret {
    pub(crate) what: &'static str,
    pub(crate) bytes: Vec<u8>,
    /// Bytes in a row that give it away.
    run: usize,
    /// From this time on it may: it was published.
    until: Us,
}

/// Secrets as they are collected.
#[derive(Debug, Default)]
pub(crate) struct Secrets {
    list: Vec<Secret>,
    /// Words with the secrets that they are of, and where in them.
    words: Vec<(u64, usize, usize)>,
}

/// All secrets, found by words of theirs.
#[derive(Debug)]
pub(crate) struct Index {
    list: Vec<Secret>,
    /// Sorted.
    words: Vec<(u64, usize, usize)>,
    filter: Vec<u64>,
}

fn bit_of(word: u64) -> (usize, u64) {
    let hash = word.wrapping_mul(0x9e37_79b9_7f4a_7c15);
    let bit = hash >> (64 - FILTER_BITS);
    ((bit / 64) as usize, 1 << (bit % 64))
}

fn word_at(bytes: &[u8], at: usize) -> Option<u64> {
    Some(u64::from_le_bytes(bytes.get(at..at + WORD)?.try_into().ok()?))
}

impl Secrets {
    /// Adds a secret that is one until a time. Of what is too short nothing is said.
    pub(crate) fn add(&mut self, what: &'static str, bytes: &[u8], until: Us) {
        let run = bytes.len().min(RUN);
        let stride = if run < RUN { bytes.len() } else { STRIDE };
        for at in (0..bytes.len()).step_by(stride.max(1)) {
            let Some(word) = word_at(bytes, at) else { continue };
            self.words.push((word, self.list.len(), at));
        }
        self.list.push(Secret { what, bytes: bytes.to_vec(), run, until });
    }

    /// Adds a clock, in each of the ways in which numbers are written here: either order of its bytes, and
    /// seven bits at a time.
    pub(crate) fn add_clock(&mut self, what: &'static str, clock: LogSeq) {
        self.add(what, &clock.0.to_be_bytes(), Us::MAX);
        self.add(what, &clock.0.to_le_bytes(), Us::MAX);
        let mut text = Vec::new();
        varint::put(&mut text, clock.0);
        self.add(what, &text, Us::MAX);
    }

    /// Makes them ready to be found.
    pub(crate) fn index(mut self) -> Index {
        let mut filter = vec![0; 1 << (FILTER_BITS - 6)];
        self.words.sort_unstable();
        for (word, ..) in &self.words {
            let (place, bit) = bit_of(*word);
            filter[place] |= bit;
        }
        Index { list: self.list, words: self.words, filter }
    }
}

impl Index {
    /// The first secret that a text gives away at a time, and where.
    pub(crate) fn find(&self, text: &[u8], time: Us) -> Option<(&Secret, usize)> {
        for at in 0..text.len().saturating_sub(WORD - 1) {
            let Some(word) = word_at(text, at) else { continue };
            let (place, bit) = bit_of(word);
            if self.filter[place] & bit == 0 {
                continue;
            }
            let first = self.words.partition_point(|(known, ..)| *known < word);
            let equal = self.words[first..].iter().take_while(|(known, ..)| *known == word);
            for (_, secret, offset) in equal {
                let secret = &self.list[*secret];
                if time < secret.until && secret.is_given_away(*offset, text, at) {
                    return Some((secret, at));
                }
            }
        }
        None
    }
}

impl Secret {
    /// Whether a text has a run of it around a place.
    fn is_given_away(&self, offset: usize, text: &[u8], at: usize) -> bool {
        let before = self.bytes[..offset].iter().rev().zip(text[..at].iter().rev());
        let before = before.take_while(|(one, other)| one == other).count();
        let after = self.bytes[offset..].iter().zip(&text[at..]);
        let after = after.take_while(|(one, other)| one == other).count();
        before + after >= self.run
    }
}

/// What a payload block says, piece by piece: its salt, and all texts, bytes and names in it that nobody
/// would guess. How they are put together is no secret.
pub(crate) fn pieces(payload: &[u8]) -> Vec<Vec<u8>> {
    let mut out = Vec::new();
    if let Some((salt, encoded)) = v1::split_payload(payload) {
        out.push(salt.to_vec());
        if let Ok(value) = value::decode(encoded) {
            collect(&value, &mut out);
        }
    }
    out.retain(|piece| piece.len() >= WORD);
    out
}

fn collect(value: &Value, out: &mut Vec<Vec<u8>>) {
    match value {
        Value::Bytes(bytes) => out.push(bytes.clone()),
        Value::String(text) => out.push(text.as_bytes().to_vec()),
        // What a link begins with says of what kind it is.
        Value::Link(cid) => {
            let bytes = cid.as_bytes();
            out.push(bytes[bytes.len().saturating_sub(NAME)..].to_vec());
        }
        Value::List(items) => items.iter().for_each(|item| collect(item, out)),
        Value::Map(map) => map.iter().for_each(|(_, item)| collect(item, out)),
        Value::Null | Value::Bool(_) | Value::Int(_) | Value::Float(_) => {}
    }
}

/// Whether a piece is one of some names, or has one in it.
pub(crate) fn names_any(piece: &[u8], names: &BTreeSet<Vec<u8>>) -> bool {
    names.contains(piece) || piece.windows(NAME).any(|window| names.contains(window))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn runs_are_found_wherever_they_stand() {
        let secret: Vec<u8> = (0..=255).collect();
        let mut secrets = Secrets::default();
        secrets.add("bytes", &secret, 10);
        secrets.add("word", &[9; 8], 10);
        let secrets = secrets.index();
        for start in 0..200 {
            let mut text = vec![255, 254, 253];
            text.extend_from_slice(&secret[start..start + RUN]);
            text.extend_from_slice(&[1, 1, 1]);
            assert!(secrets.find(&text, 9).is_some(), "from {start}");
            assert!(secrets.find(&text, 10).is_none(), "it is published by then");
            let shorter = &text[3..3 + RUN - 1];
            assert!(secrets.find(shorter, 9).is_none(), "from {start}");
        }
        assert!(secrets.find(&[&[1][..], &[9; 8], &[2]].concat(), 0).is_some());
    }

    #[test]
    fn clocks_are_found_however_they_are_written() {
        let clock = LogSeq(0x2000_018b_cfe5_0007);
        let mut secrets = Secrets::default();
        secrets.add_clock("clock", clock);
        let secrets = secrets.index();
        let mut varint = Vec::new();
        varint::put(&mut varint, clock.0);
        for written in [clock.0.to_be_bytes().to_vec(), clock.0.to_le_bytes().to_vec(), varint] {
            let text = [&[1, 2, 3][..], &written, &[4]].concat();
            assert!(secrets.find(&text, 0).is_some(), "{written:02x?}");
            assert!(secrets.find(&text[..text.len() - 2], 0).is_none(), "{written:02x?}");
        }
    }

    #[test]
    fn a_payload_is_its_salt_and_what_it_says() {
        let value = Value::map([
            ("id", Value::Link(quipu_core::id::EventId([7; 32]).into())),
            ("list", Value::list([&[8; 20][..], &[9; 7]])),
            ("n", Value::from(5)),
            ("text", Value::from("a longer text")),
        ]);
        let mut encoded = Vec::new();
        value::encode(&value, &mut encoded);
        let mut found = pieces(&v1::payload_block(&[6; 8], &encoded));
        found.sort();
        let text = b"a longer text".to_vec();
        assert_eq!(found, [vec![6; 8], vec![7; 32], vec![8; 20], text]);
        let names = BTreeSet::from([vec![7; 32]]);
        assert!(names_any(&[&[1][..], &[7; 32]].concat(), &names));
        assert!(!names_any(&[7; 31], &names));
    }
}
