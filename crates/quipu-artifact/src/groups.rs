//! A set of groups, as runs.

use std::collections::BTreeMap;
use std::ops::Range;

/// A set of groups, as runs that neither touch nor overlap: start and end.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct GroupSet {
    runs: BTreeMap<u64, u64>,
}

impl GroupSet {
    /// Adds a run, and says how many groups of it are new.
    pub(crate) fn insert(&mut self, range: Range<u64>) -> u64 {
        let Range { mut start, mut end } = range;
        if start >= end {
            return 0;
        }
        let mut new = end - start;
        let touching: Vec<(u64, u64)> = self
            .runs
            .range(..=end)
            .rev()
            .take_while(|(_, run_end)| **run_end >= start)
            .map(|(a, b)| (*a, *b))
            .collect();
        for (run_start, run_end) in touching {
            let overlap = run_end.min(range.end).saturating_sub(run_start.max(range.start));
            new -= overlap;
            self.runs.remove(&run_start);
            start = start.min(run_start);
            end = end.max(run_end);
        }
        self.runs.insert(start, end);
        new
    }

    /// Whether any group of the range is in the set.
    pub(crate) fn touches(&self, range: &Range<u64>) -> bool {
        let last = self.runs.range(..range.end).next_back();
        !range.is_empty() && last.is_some_and(|(_, end)| *end > range.start)
    }

    /// Whether all groups up to there are in the set.
    pub(crate) fn is_full(&self, groups: u64) -> bool {
        self.runs.get(&0).is_some_and(|end| *end >= groups)
    }

    /// What lacks up to there, in order.
    pub(crate) fn missing(&self, groups: u64) -> Vec<Range<u64>> {
        let mut out = Vec::new();
        let mut next = 0;
        for (&start, &end) in &self.runs {
            if start > next {
                out.push(next..start.min(groups));
            }
            next = end;
        }
        if next < groups {
            out.push(next..groups);
        }
        out
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeSet;

    proptest! {
        #[test]
        fn it_is_a_set(ranges in prop::collection::vec((0u64..60, 0u64..9), 0..40)) {
            let (mut set, mut model) = (GroupSet::default(), BTreeSet::new());
            for (start, length) in ranges {
                let range = start..start + length;
                prop_assert_eq!(set.touches(&range), range.clone().any(|g| model.contains(&g)));
                let new = range.clone().filter(|g| model.insert(*g)).count();
                prop_assert_eq!(set.insert(range), new as u64);
                let missing: Vec<u64> = set.missing(70).into_iter().flatten().collect();
                let expected: Vec<u64> = (0..70).filter(|g| !model.contains(g)).collect();
                prop_assert_eq!(missing, expected);
                prop_assert!(set.runs.iter().zip(set.runs.iter().skip(1)).all(|(a, b)| a.1 < b.0));
            }
            prop_assert!(!set.is_full(70));
            set.insert(0..70);
            prop_assert!(set.is_full(70));
        }
    }
}
