//! What was seen lately, by id, in bounded memory.

use crate::id::{EventId, IdMap};

/// Remembers at least the last `length` entries, and at most twice as many. Two generations: when
/// the younger is full, the older is forgotten at once. So nothing is ever removed one by one.
#[derive(Debug, Clone)]
pub(crate) struct Recent<V> {
    length: usize,
    younger: IdMap<EventId, V>,
    older: IdMap<EventId, V>,
}

impl<V: Copy> Recent<V> {
    /// Remembers nothing yet.
    pub(crate) fn new(length: usize) -> Self {
        Self { length, younger: IdMap::default(), older: IdMap::default() }
    }

    /// Remembers an entry.
    pub(crate) fn insert(&mut self, id: EventId, value: V) {
        if self.younger.len() >= self.length {
            std::mem::swap(&mut self.younger, &mut self.older);
            self.younger.clear();
        }
        self.younger.insert(id, value);
    }

    /// The latest value of an entry.
    pub(crate) fn get(&self, id: &EventId) -> Option<V> {
        self.younger.get(id).or_else(|| self.older.get(id)).copied()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(n: usize) -> EventId {
        EventId(*blake3::hash(&n.to_le_bytes()).as_bytes())
    }

    #[test]
    fn the_last_are_remembered_and_the_first_forgotten() {
        let mut recent = Recent::new(10);
        for n in 0..1000 {
            recent.insert(id(n), n);
            for last in n.saturating_sub(9)..=n {
                assert_eq!(recent.get(&id(last)), Some(last));
            }
            assert!(n < 20 || recent.get(&id(n - 20)).is_none());
        }
        recent.insert(id(999), 7);
        assert_eq!(recent.get(&id(999)), Some(7));
    }
}
