//! How events are cut into batches that a packed batch may hold.

use quipu_core::codec::v1::split_payload;
use quipu_core::event::Event;
use quipu_core::limits::{PACK_EVENTS_MAX, PACK_UNFOLDED_BYTES_MAX};

/// The most bytes that a link takes in the columns of a batch.
const LINK_BYTES: usize = 12;
/// The most bytes that the other properties of an event take in them.
const EVENT_BYTES: usize = 48;

/// Bytes that an event takes in a batch before compression, at most.
pub(crate) fn weight(event: &Event) -> usize {
    let payload = event.payload.as_ref().map_or(0, bytes::Bytes::len);
    EVENT_BYTES + LINK_BYTES * (event.header.parents.len() + 1) + payload
}

/// Length of the salt of a payload. All payloads of a batch must have salts of one length.
fn salt_bytes(event: &Event) -> Option<usize> {
    split_payload(event.payload.as_ref()?).map(|(salt, _)| salt.len())
}

/// Cuts events into batches within the limits of packed batches and the given ones.
pub(crate) fn batches(
    events: &[Event],
    events_max: usize,
    bytes_max: usize,
) -> impl Iterator<Item = &[Event]> {
    let events_max = events_max.clamp(1, PACK_EVENTS_MAX);
    let bytes_max = bytes_max.min(PACK_UNFOLDED_BYTES_MAX / 2);
    let mut rest = events;
    std::iter::from_fn(move || {
        let length = batch_length(rest, events_max, bytes_max);
        let (batch, later) = rest.split_at(length);
        rest = later;
        (length > 0).then_some(batch)
    })
}

fn batch_length(events: &[Event], events_max: usize, bytes_max: usize) -> usize {
    let (mut bytes, mut salt) = (0, None);
    for (length, event) in events.iter().enumerate() {
        bytes += weight(event);
        let own = salt_bytes(event);
        let other_salt = own.is_some() && salt.is_some() && own != salt;
        if length > 0 && (length == events_max || bytes > bytes_max || other_salt) {
            return length;
        }
        salt = salt.or(own);
    }
    events.len()
}
