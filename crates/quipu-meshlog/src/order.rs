//! The one order in which events are folded: by clock, then author, then place in the feed.

use std::cmp::Ordering;
use std::sync::Arc;

use rayon::prelude::*;

use crate::event::Event;
use crate::json::Style;

/// How two events stand to each other. Only branches of a fork are equal in all that meshlogd compares; the
/// id decides then, so that it does not matter which one came first.
pub fn fold_order(a: &Event, b: &Event) -> Ordering {
    a.stamp
        .cmp(&b.stamp)
        .then_with(|| a.author.cmp(&b.author))
        .then_with(|| a.seq.cmp(&b.seq))
        .then_with(|| a.id().cmp(&b.id()))
}

/// About how long an event is in a message.
const EVENT_BYTES_USUAL: usize = 256;
/// How many events stand in a piece of the list, at most: what is moved for an event that comes late.
const PIECE_EVENTS: usize = 1_024;

/// Events in fold order, kept so while more come: the view of meshlogd's `RawReducer`.
#[derive(Debug, Clone, Default)]
pub struct Ordered {
    /// The list in pieces, none of them empty.
    pieces: Vec<Vec<Arc<Event>>>,
}

impl Ordered {
    /// Puts an event in its place.
    pub fn apply(&mut self, event: &Arc<Event>) {
        let is_before = |other: &Arc<Event>| fold_order(other, event) != Ordering::Greater;
        let starts_before = |piece: &Vec<_>| piece.first().is_some_and(is_before);
        // Most events are the latest.
        let at = match self.pieces.last() {
            Some(last) if starts_before(last) => self.pieces.len(),
            _ => self.pieces.partition_point(starts_before),
        };
        let at = at.saturating_sub(1);
        let Some(piece) = self.pieces.get_mut(at) else {
            return self.pieces.push(vec![Arc::clone(event)]);
        };
        let is_last = piece.last().is_some_and(is_before);
        let place = if is_last { piece.len() } else { piece.partition_point(is_before) };
        piece.insert(place, Arc::clone(event));
        if piece.len() > PIECE_EVENTS {
            // In order, pieces stay full; what comes late finds room in halves.
            let rest = piece.split_off(if is_last { PIECE_EVENTS } else { PIECE_EVENTS / 2 });
            self.pieces.insert(at + 1, rest);
        }
    }

    /// The events in order.
    pub fn events(&self) -> impl Iterator<Item = &Arc<Event>> {
        self.pieces.iter().flatten()
    }

    /// Appends the view as JSON: the events as they are in messages, in a style.
    pub fn write_json(&self, style: Style, out: &mut Vec<u8>) {
        let (comma, _) = style.separators();
        let write = |piece: &Vec<Arc<Event>>| {
            let mut text = Vec::with_capacity(piece.len() * EVENT_BYTES_USUAL);
            for event in piece {
                text.extend_from_slice(comma);
                event.write_json(style, &mut text);
            }
            text
        };
        // In order, whatever the number of threads.
        let texts: Vec<Vec<u8>> = self.pieces.par_iter().map(write).collect();
        out.reserve(texts.iter().map(Vec::len).sum::<usize>() + 2);
        out.push(b'[');
        for (at, text) in texts.iter().enumerate() {
            out.extend_from_slice(if at == 0 { &text[comma.len()..] } else { text });
        }
        out.push(b']');
    }
}
