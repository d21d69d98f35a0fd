//! The simplest fold: for each fold key, the event that wins by the replay order.
//!
//! It is a join: events may come in any order, any number of times, and the result is the same
//! (LOG-2). What it holds is hashes and ids only, so an erasure does not change it.

use crate::event::{Event, LogSeq};
use crate::id::{EventId, IdMap, Subject};

/// The winning event of each fold key.
#[derive(Debug, Clone, Default)]
pub struct Winners {
    by_subject: IdMap<Subject, (LogSeq, EventId)>,
}

impl Winners {
    /// Takes an event in. Answers whether it won its key.
    pub fn apply(&mut self, event: &Event) -> bool {
        let Some(subject) = event.header.payload.subject else { return false };
        let order = event.order();
        let winner = self.by_subject.entry(subject).or_insert((LogSeq(0), EventId::default()));
        let wins = order > *winner;
        if wins {
            *winner = order;
        }
        wins
    }

    /// How many keys there are.
    pub fn len(&self) -> usize {
        self.by_subject.len()
    }

    /// Whether there is no key.
    pub fn is_empty(&self) -> bool {
        self.by_subject.is_empty()
    }

    /// The winner of a key.
    pub fn winner(&self, subject: &Subject) -> Option<EventId> {
        self.by_subject.get(subject).map(|(_, id)| *id)
    }

    /// A digest of the whole result: BLAKE3 over keys and winners, sorted by key.
    pub fn digest(&self) -> [u8; 32] {
        let mut entries: Vec<(&Subject, &EventId)> =
            self.by_subject.iter().map(|(subject, (_, id))| (subject, id)).collect();
        entries.sort_unstable();
        let mut hasher = blake3::Hasher::new();
        for (subject, id) in entries {
            hasher.update(&subject.0).update(&id.0);
        }
        *hasher.finalize().as_bytes()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::Parameters;
    use crate::event::{Draft, Log, Parents, Position};
    use crate::id::{DomainId, NodeKey};
    use crate::value::{self, Value};

    fn cell(record: &str, number: u64, clock: u64) -> Event {
        let payload = Value::map([
            ("record_id", Value::from(record)),
            ("field", Value::from("f")),
            ("value", Value::from(number)),
        ]);
        let mut bytes = Vec::new();
        value::encode(&payload, &mut bytes);
        let payload = crate::codec::v1::payload_block(&[], &bytes);
        let root = Parameters::default().root(NodeKey([1; 32]), LogSeq(1), &[0; 8]).id;
        let parents = Parents::from_slice(&[root]);
        let logseq = LogSeq(clock);
        let at = Position { author: NodeKey([2; 32]), seq: 1, prev: None, parents, logseq };
        Draft { log: Log::Internal, kind: "field.set".into(), payload }
            .place(at, &DomainId::default())
    }

    #[test]
    fn any_order_gives_the_same_winners() {
        let events = [cell("a", 1, 5), cell("a", 2, 9), cell("b", 3, 7), cell("a", 4, 9)];
        let fold = |order: &[usize]| {
            let mut winners = Winners::default();
            order.iter().for_each(|index| _ = winners.apply(&events[*index]));
            winners
        };
        let expected = fold(&[0, 1, 2, 3]);
        assert_eq!(expected.len(), 2);
        let latest = events[1].order().max(events[3].order()).1;
        let subject = events[0].header.payload.subject.unwrap_or_default();
        assert_eq!(expected.winner(&subject), Some(latest));
        for order in [[3, 2, 1, 0], [1, 3, 0, 2], [2, 2, 3, 1]] {
            assert_eq!(fold(&order).winner(&subject), Some(latest), "{order:?}");
        }
        assert_eq!(fold(&[3, 2, 1, 0]).digest(), expected.digest());
        assert_ne!(fold(&[0]).digest(), expected.digest());
    }
}
