//! Groups of an artifact that nobody has been asked for.

use std::collections::BTreeMap;
use std::ops::Range;

use crate::artifact::PART_GROUPS_MAX;

/// A set of groups, as ranges that do not touch.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Gaps(BTreeMap<u64, u64>);

impl Gaps {
    /// The groups of some ranges, as far as they are below `count`.
    pub(super) fn of(ranges: impl IntoIterator<Item = Range<u64>>, count: u64) -> Self {
        let mut gaps = Self::default();
        for range in ranges {
            gaps.insert(range.start..range.end.min(count));
        }
        gaps
    }

    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// How many groups.
    pub(super) fn count(&self) -> u64 {
        self.0.iter().map(|(start, end)| end - start).sum()
    }

    pub(super) fn insert(&mut self, mut range: Range<u64>) {
        if range.is_empty() {
            return;
        }
        let touching: Vec<(u64, u64)> = self
            .0
            .range(..=range.end)
            .rev()
            .take_while(|(_, end)| **end >= range.start)
            .map(|(start, end)| (*start, *end))
            .collect();
        for (start, end) in touching {
            self.0.remove(&start);
            range = range.start.min(start)..range.end.max(end);
        }
        self.0.insert(range.start, range.end);
    }

    pub(super) fn remove(&mut self, range: &Range<u64>) {
        if range.is_empty() {
            return;
        }
        let touched: Vec<(u64, u64)> = self
            .0
            .range(..range.end)
            .rev()
            .take_while(|(_, end)| **end > range.start)
            .map(|(start, end)| (*start, *end))
            .collect();
        for (start, end) in touched {
            self.0.remove(&start);
            if start < range.start {
                self.0.insert(start, range.start);
            }
            if end > range.end {
                self.0.insert(range.end, end);
            }
        }
    }

    /// Whether all of a range is in it.
    pub(super) fn covers(&self, range: &Range<u64>) -> bool {
        self.0.range(..=range.start).next_back().is_some_and(|(_, end)| *end >= range.end)
    }

    /// Takes out the first groups, as many as one part may have, and no more than `most`. Parts begin at
    /// multiples of that wherever they can: so they need the fewest inner nodes.
    pub(super) fn take_part(&mut self, most: u64) -> Option<Range<u64>> {
        let (start, end) = self.0.pop_first()?;
        let most = most.clamp(1, PART_GROUPS_MAX);
        let aligned = (start / most + 1) * most;
        let cut = end.min(aligned);
        if cut < end {
            self.0.insert(cut, end);
        }
        Some(start..cut)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;

    fn groups(gaps: &Gaps) -> BTreeSet<u64> {
        let ranges: Vec<(u64, u64)> = gaps.0.iter().map(|(start, end)| (*start, *end)).collect();
        assert!(ranges.iter().all(|(start, end)| start < end));
        assert!(ranges.windows(2).all(|pair| pair[0].1 < pair[1].0), "{ranges:?}");
        ranges.into_iter().flat_map(|(start, end)| start..end).collect()
    }

    proptest! {
        #[test]
        fn is_a_set(steps in proptest::collection::vec((any::<bool>(), 0u64..80, 0u64..30), 0..40)) {
            let (mut gaps, mut set) = (Gaps::default(), BTreeSet::new());
            for (add, start, length) in steps {
                let range = start..start + length;
                if add {
                    gaps.insert(range.clone());
                    set.extend(range);
                } else {
                    gaps.remove(&range);
                    set.retain(|group| !range.contains(group));
                }
                prop_assert_eq!(&groups(&gaps), &set);
                prop_assert_eq!(gaps.count(), set.len() as u64);
            }
            for start in 0..100 {
                let all = (start..start + 3).all(|group| set.contains(&group));
                prop_assert_eq!(gaps.covers(&(start..start + 3)), all);
            }
            while let Some(part) = gaps.take_part(PART_GROUPS_MAX) {
                prop_assert!(!part.is_empty() && part.start / 16 == (part.end - 1) / 16);
                for group in part {
                    prop_assert_eq!(set.pop_first(), Some(group));
                }
            }
            prop_assert!(set.is_empty());
        }
    }
}
