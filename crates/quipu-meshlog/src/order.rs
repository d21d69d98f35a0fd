//! The one order in which events are folded: by clock, then author, then place in the feed.

use std::cmp::Ordering;
use std::sync::Arc;

use crate::event::Event;
use crate::json::Value;

/// How two events stand to each other. Only branches of a fork are equal in all that meshlogd compares; the
/// id decides then, so that it does not matter which one came first.
pub fn fold_order(a: &Event, b: &Event) -> Ordering {
    a.stamp
        .cmp(&b.stamp)
        .then_with(|| a.author.cmp(&b.author))
        .then_with(|| a.seq.cmp(&b.seq))
        .then_with(|| a.id().cmp(&b.id()))
}

/// Events in fold order, kept so while more come: the view of meshlogd's `RawReducer`.
#[derive(Debug, Clone, Default)]
pub struct Ordered(Vec<Arc<Event>>);

impl Ordered {
    /// Puts an event in its place.
    pub fn apply(&mut self, event: &Arc<Event>) {
        // Most events are the latest.
        let at = match self.0.last() {
            Some(last) if fold_order(last, event) == Ordering::Greater => {
                self.0.partition_point(|other| fold_order(other, event) != Ordering::Greater)
            }
            _ => self.0.len(),
        };
        self.0.insert(at, Arc::clone(event));
    }

    /// The events in order.
    pub fn events(&self) -> &[Arc<Event>] {
        &self.0
    }

    /// The view as JSON: the events as they are in messages.
    pub fn to_value(&self) -> Value {
        Value::List(self.0.iter().map(|event| event.to_value()).collect())
    }
}
