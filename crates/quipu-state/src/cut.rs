//! The past of an event: the cut that a snapshot names (LOG-3, LOG-4).
//!
//! Every event in the past of an event that counts is needed by it, so nothing in a cut is
//! quarantined, and the cut is a function of the event alone.

use std::ops::Range;

use quipu_core::event::Log;
use quipu_core::history::{History, Ordinal};
use quipu_core::id::{EventId, IdMap, Subject};

use crate::error::StateError;
use crate::tree::Entry;

/// Places read at once.
const SCAN_EVENTS: u64 = 4096;

/// A set of events of one log, by their ordinals.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Cut {
    words: Vec<u64>,
    count: u64,
}

impl Cut {
    fn insert(&mut self, ordinal: Ordinal) {
        if let Some(word) = self.words.get_mut((ordinal / 64) as usize) {
            let bit = 1 << (ordinal % 64);
            self.count += u64::from(*word & bit == 0);
            *word |= bit;
        }
    }

    /// Whether an event is in it.
    pub fn contains(&self, ordinal: Ordinal) -> bool {
        let word = self.words.get((ordinal / 64) as usize).copied().unwrap_or(0);
        word >> (ordinal % 64) & 1 == 1
    }

    /// Whether an event of a range is in it.
    pub fn meets(&self, range: &Range<Ordinal>) -> bool {
        let end = range.end.min(self.end());
        let mut next = range.start;
        while next < end {
            let word = self.words[(next / 64) as usize] >> (next % 64);
            if word != 0 && next + u64::from(word.trailing_zeros()) < end {
                return true;
            }
            next = (next / 64 + 1) * 64;
        }
        false
    }

    /// How many events it has.
    pub fn len(&self) -> u64 {
        self.count
    }

    /// Whether it has no event.
    pub fn is_empty(&self) -> bool {
        self.count == 0
    }

    /// One more than the greatest ordinal that may be in it.
    pub fn end(&self) -> Ordinal {
        self.words.len() as u64 * 64
    }

    /// Everything up to an event: its past, and the event itself. Reads the log backwards once.
    ///
    /// # Errors
    /// If the event is not held, or the log cannot be read.
    pub fn up_to<H: History>(history: &H, log: Log, event: &EventId) -> Result<Self, StateError>
    where
        StateError: From<H::Error>,
    {
        let last = history.find(log, event)?.ok_or(StateError::NoEvent(*event))?;
        let mut cut = Self { words: vec![0; (last / 64 + 1) as usize], count: 0 };
        cut.insert(last);
        // Links mostly lead to what was read shortly before or lies in the same stretch.
        let mut known: IdMap<EventId, Ordinal> = IdMap::default();
        let mut end = last + 1;
        while end > 0 {
            let start = end.saturating_sub(SCAN_EVENTS);
            let places = history.places(log, start..end)?;
            known.clear();
            known.extend(places.iter().zip(start..).map(|(place, ordinal)| (place.id, ordinal)));
            for (ordinal, place) in (start..end).rev().zip(places.iter().rev()) {
                if !cut.contains(ordinal) {
                    continue;
                }
                for link in place.head.links() {
                    let found = match known.get(link) {
                        Some(found) => Some(*found),
                        None => history.find(log, link)?,
                    };
                    cut.insert(found.ok_or(StateError::NoEvent(*link))?);
                }
            }
            end = start;
        }
        Ok(cut)
    }
}

/// The winners of a cut, sorted by key.
///
/// # Errors
/// If the log cannot be read.
pub fn winners<H: History>(history: &H, log: Log, cut: &Cut) -> Result<Vec<Entry>, StateError>
where
    StateError: From<H::Error>,
{
    let mut by_key: IdMap<Subject, Entry> = IdMap::default();
    let end = cut.end().min(history.count(log));
    let mut next = 0;
    while next < end {
        for event in history.events(log, next..end)? {
            if cut.contains(next)
                && let Some(subject) = event.header.payload.subject
            {
                let entry = crate::state::entry_of(&event, subject, next);
                let winner = by_key.entry(subject).or_insert(entry);
                if entry.order() > winner.order() {
                    *winner = entry;
                }
            }
            next += 1;
        }
    }
    let mut winners: Vec<Entry> = by_key.into_values().collect();
    winners.sort_unstable_by_key(|entry| entry.subject);
    Ok(winners)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_range_meets_a_cut_if_it_has_an_event_of_it() {
        let mut cut = Cut { words: vec![0; 5], count: 0 };
        for ordinal in [0, 5, 63, 64, 130, 200, 319] {
            cut.insert(ordinal);
        }
        assert_eq!(cut.len(), 7);
        for start in 0..400 {
            for end in start..400 {
                let expected = (start..end).any(|ordinal| cut.contains(ordinal));
                assert_eq!(cut.meets(&(start..end)), expected, "{start}..{end}");
            }
        }
    }
}
