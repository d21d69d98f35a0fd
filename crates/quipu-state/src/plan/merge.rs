//! The operator Merge: sorted lists become one sorted list.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

/// Merges lists, each sorted by a key. Equal keys come in the order of the lists.
pub fn merge<T, K: Ord>(lists: Vec<Vec<T>>, key: impl Fn(&T) -> K) -> impl Iterator<Item = T> {
    let mut lists: Vec<_> = lists.into_iter().map(Vec::into_iter).collect();
    let head = |list: &std::vec::IntoIter<T>| list.as_slice().first().map(&key);
    let heads = lists.iter().enumerate().filter_map(|(n, list)| Some(Reverse((head(list)?, n))));
    let mut heads: BinaryHeap<Reverse<(K, usize)>> = heads.collect();
    std::iter::from_fn(move || {
        let mut first = heads.peek_mut()?;
        let number = first.0.1;
        let item = lists[number].next();
        match lists[number].as_slice().first().map(&key) {
            Some(next) => first.0.0 = next,
            None => drop(std::collections::binary_heap::PeekMut::pop(first)),
        }
        item
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn merging_is_sorting(
            mut lists in prop::collection::vec(prop::collection::vec((0u8..20, 0u16..), 0..30), 0..6)
        ) {
            lists.iter_mut().for_each(|list| list.sort_by_key(|item| item.0));
            let mut expected = lists.concat();
            expected.sort_by_key(|item| item.0);
            let merged: Vec<_> = merge(lists, |item| item.0).collect();
            prop_assert_eq!(merged, expected);
        }
    }
}
