//! Which fold keys the events of a block may write: a Bloom filter, so that a look for a few keys
//! passes over nearly all blocks that have none of them.
//!
//! A key is a hash already. Its bytes 8 to 16 and 16 to 24 are the start and the step of seven
//! places, each a fraction of the filter's length. With ten bits for each key, about one block in a
//! hundred is read for nothing.

use quipu_core::id::Subject;

use crate::bytes::{SUM_BYTES, array_at, sum16, u64_at};

/// Bits for each distinct key.
const KEY_BITS: usize = 10;
/// Bits that are set for a key.
const PLACES: u64 = 7;

/// The filter of keys in any order, with its checksum. Nothing at all if there is no key.
pub(super) fn encode(subjects: impl Iterator<Item = Subject>) -> Vec<u8> {
    let mut subjects: Vec<Subject> = subjects.collect();
    subjects.sort_unstable();
    subjects.dedup();
    if subjects.is_empty() {
        return Vec::new();
    }
    let mut out = vec![0; 8 * (subjects.len() * KEY_BITS).div_ceil(64)];
    let bits = 8 * out.len() as u64;
    for subject in &subjects {
        for place in places(subject, bits) {
            out[place / 8] |= 1 << (place % 8);
        }
    }
    let sum = sum16(&[&out]);
    out.extend_from_slice(&sum);
    out
}

/// Whether the bytes are those of a filter.
pub(super) fn is_right(filter: &[u8]) -> bool {
    let bits = bits_of(filter);
    filter.is_empty() || array_at(filter, bits.len()) == Some(sum16(&[bits]))
}

/// Whether a key may be in it.
pub(super) fn may_hold(filter: &[u8], subject: &Subject) -> bool {
    let bits = bits_of(filter);
    let is_set =
        |place: usize| bits.get(place / 8).is_some_and(|byte| byte >> (place % 8) & 1 == 1);
    !bits.is_empty() && places(subject, 8 * bits.len() as u64).all(is_set)
}

fn bits_of(filter: &[u8]) -> &[u8] {
    &filter[..filter.len().saturating_sub(SUM_BYTES)]
}

/// The bits of a key in a filter of so many.
fn places(subject: &Subject, bits: u64) -> impl Iterator<Item = usize> {
    let start = u64_at(&subject.0, 8).unwrap_or_default();
    let step = u64_at(&subject.0, 16).unwrap_or_default() | 1;
    (0..PLACES).map(move |n| {
        let hash = start.wrapping_add(n.wrapping_mul(step));
        ((u128::from(hash) * u128::from(bits)) >> 64) as usize
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(n: usize) -> Subject {
        Subject(*blake3::hash(&n.to_le_bytes()).as_bytes())
    }

    #[test]
    fn holds_all_that_were_put_and_few_others() {
        for count in [1usize, 2, 63, 1000, 20_000] {
            let filter = encode((0..count).chain(0..count).map(key));
            assert!(is_right(&filter));
            assert!(filter.len() <= count * KEY_BITS / 8 + 8 + SUM_BYTES);
            assert!((0..count).all(|n| may_hold(&filter, &key(n))));
            let wrong = (count..count + 10_000).filter(|n| may_hold(&filter, &key(*n))).count();
            assert!(count < 63 || wrong < 200, "{wrong} of 10,000 with {count} keys");
        }
        let none = encode(std::iter::empty());
        assert!(none.is_empty() && is_right(&none) && !may_hold(&none, &key(1)));
    }

    #[test]
    fn a_flipped_bit_is_seen() {
        let mut filter = encode((0..100).map(key));
        for at in 0..filter.len() {
            filter[at] ^= 4;
            assert!(!is_right(&filter));
            filter[at] ^= 4;
        }
        assert!(!is_right(&filter[..SUM_BYTES - 1]));
    }
}
