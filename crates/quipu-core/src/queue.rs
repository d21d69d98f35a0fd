//! A queue in chunks of one size: what grows to a million entries is never copied to grow, and memory of
//! chunks that are done is used again at once.

use std::collections::VecDeque;

/// Entries in a chunk: some 150 KiB of events.
const CHUNK: usize = 1024;

/// A queue that may get long.
#[derive(Debug, Clone)]
pub(crate) struct Queue<T> {
    /// None is empty but an only one. All but the first and the last have [`CHUNK`] entries.
    chunks: VecDeque<VecDeque<T>>,
    length: usize,
}

impl<T> Default for Queue<T> {
    fn default() -> Self {
        Self { chunks: VecDeque::new(), length: 0 }
    }
}

impl<T> Queue<T> {
    /// How many entries there are.
    pub(crate) fn len(&self) -> usize {
        self.length
    }

    /// Whether there is none.
    pub(crate) fn is_empty(&self) -> bool {
        self.length == 0
    }

    /// Adds an entry at the end.
    pub(crate) fn push_back(&mut self, entry: T) {
        self.length += 1;
        match self.chunks.back_mut() {
            Some(chunk) if chunk.len() < CHUNK => chunk.push_back(entry),
            // Short queues stay small.
            None => self.chunks.push_back(VecDeque::from([entry])),
            Some(_) => {
                let mut chunk = VecDeque::with_capacity(CHUNK);
                chunk.push_back(entry);
                self.chunks.push_back(chunk);
            }
        }
    }

    /// Adds an entry at the front.
    pub(crate) fn push_front(&mut self, entry: T) {
        self.length += 1;
        match self.chunks.front_mut() {
            Some(chunk) if chunk.len() < CHUNK => chunk.push_front(entry),
            _ => self.chunks.push_front(VecDeque::from([entry])),
        }
    }

    /// Takes the first entry.
    pub(crate) fn pop_front(&mut self) -> Option<T> {
        let chunk = self.chunks.front_mut()?;
        let entry = chunk.pop_front();
        if chunk.is_empty() && self.chunks.len() > 1 {
            self.chunks.pop_front();
        }
        self.length -= usize::from(entry.is_some());
        entry
    }

    /// The first entry.
    pub(crate) fn front(&self) -> Option<&T> {
        self.chunks.front()?.front()
    }

    /// In which chunk an entry is, and where.
    fn spot(&self, index: usize) -> (usize, usize) {
        let first = self.chunks.front().map_or(0, VecDeque::len);
        match index.checked_sub(first) {
            None => (0, index),
            Some(beyond) => (1 + beyond / CHUNK, beyond % CHUNK),
        }
    }

    /// An entry by its place.
    pub(crate) fn get(&self, index: usize) -> Option<&T> {
        let (chunk, place) = self.spot(index);
        self.chunks.get(chunk)?.get(place)
    }

    /// An entry by its place.
    pub(crate) fn get_mut(&mut self, index: usize) -> Option<&mut T> {
        let (chunk, place) = self.spot(index);
        self.chunks.get_mut(chunk)?.get_mut(place)
    }
}

impl<T> Extend<T> for Queue<T> {
    fn extend<I: IntoIterator<Item = T>>(&mut self, entries: I) {
        entries.into_iter().for_each(|entry| self.push_back(entry));
    }
}

impl<T> IntoIterator for Queue<T> {
    type Item = T;
    type IntoIter = std::iter::Flatten<std::collections::vec_deque::IntoIter<VecDeque<T>>>;

    fn into_iter(self) -> Self::IntoIter {
        self.chunks.into_iter().flatten()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        /// It does what a plain queue does. Runs of one kind, so that chunks fill up.
        #[test]
        fn like_a_plain_queue(steps in prop::collection::vec((0..4u8, 1..3_000usize), 1..40)) {
            let (mut queue, mut plain) = (Queue::default(), VecDeque::new());
            let mut next = 0u64;
            for (kind, times) in steps {
                for _ in 0..if kind == 2 { times % 700 } else { times } {
                    next += 1;
                    match kind {
                        0 => { queue.push_back(next); plain.push_back(next); }
                        1 => prop_assert_eq!(queue.pop_front(), plain.pop_front()),
                        2 => { queue.push_front(next); plain.push_front(next); }
                        _ => {
                            let place = next as usize * 7919 % (plain.len() + 2);
                            prop_assert_eq!(queue.get(place), plain.get(place));
                            if let Some(entry) = queue.get_mut(place) { *entry += 1; }
                            if let Some(entry) = plain.get_mut(place) { *entry += 1; }
                        }
                    }
                    prop_assert_eq!(queue.front(), plain.front());
                    prop_assert_eq!((queue.len(), queue.is_empty()), (plain.len(), plain.is_empty()));
                }
            }
            prop_assert!(queue.into_iter().eq(plain));
        }
    }
}
