//! Packed batches: how events travel and how they lie on disk.
//!
//! A batch holds events in topological order, column by column: what can be recomputed (ids,
//! payload hashes, subjects) is left out, what repeats (authors, kinds, links, clocks) is written
//! as a reference or a difference, and the columns are compressed. See `docs/formats/pack.md`.
//!
//! A batch has two parts, so that a payload can be erased without touching the rest: the *head*
//! (places, links, clocks, kinds, signatures) and the *payloads*. Both sides of a stream keep a
//! [`Context`]: the authors and kinds introduced so far and the ids of recent events.

mod context;
mod dictionary;
mod fold;
mod head;
mod payloads;

pub use context::{Context, Nothing, Resolve, Shared};
pub use dictionary::{PAYLOADS, STREAM_KINDS};
pub use head::{Brief, PackedHead, decode_briefs, decode_heads, encode_heads};
pub use payloads::{PayloadPart, PayloadView, decode_payloads, encode_payloads, visit_payloads};

use crate::codec::varint::{Reader, put, put_section};
use crate::event::{Event, EventSignature, Header, PayloadRef};
use crate::id::{DomainId, EventId};
use crate::limits::PACK_EVENTS_MAX;

/// The first byte of a batch.
pub const PACK_VERSION: u8 = 1;

/// Why bytes are not a packed batch.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PackError {
    /// The bytes end early, or go on too long, or hold an impossible value.
    #[error("malformed batch: {0}")]
    Malformed(&'static str),
    /// A batch of another version of the format.
    #[error("batch of format version {0}, this program reads version {PACK_VERSION}")]
    Version(u8),
    /// A limit is exceeded.
    #[error("batch too large: {0}")]
    TooLarge(&'static str),
    /// A link points to something that this side does not have or cannot tell apart.
    #[error("batch refers to an event that is not here ({0})")]
    Unresolved(&'static str),
}

/// Packs events into one batch for a stream. Each must come after those it links to.
pub fn encode(events: &[Event], context: &mut Context, shared: &dyn Shared) -> Vec<u8> {
    let head = encode_heads(events, context, shared);
    let payloads = encode_payloads(events, context);
    let mut out = Vec::with_capacity(head.len() + payloads.len() + 16);
    out.push(PACK_VERSION);
    put(&mut out, events.len() as u64);
    put_section(&mut out, &head);
    put_section(&mut out, &payloads);
    out
}

/// Unpacks one batch of a stream. The ids are computed from what was unpacked, so that they are
/// true; who wrote the events is only claimed.
///
/// # Errors
/// What is wrong with the batch. The context is then spoilt: the stream cannot go on.
pub fn decode(
    bytes: &[u8],
    context: &mut Context,
    resolve: &dyn Resolve,
    domain: &DomainId,
) -> Result<Vec<Event>, PackError> {
    let mut reader = Reader::new(bytes);
    let (count, head, payloads) = split(&mut reader)?;
    let parts = decode_payloads(payloads, count, context)?;
    let mut events = Vec::with_capacity(count);
    let mut parts = parts.into_iter();
    decode_heads(head, count, context, resolve, |head, signature| {
        let part = parts.next().unwrap_or(PayloadPart::Present(bytes::Bytes::new()));
        let event = assemble(head, part, signature, domain);
        let id = event.id;
        events.push(event);
        id
    })?;
    Ok(events)
}

fn split<'a>(reader: &mut Reader<'a>) -> Result<(usize, &'a [u8], &'a [u8]), PackError> {
    match reader.byte() {
        Some(PACK_VERSION) => {}
        Some(other) => return Err(PackError::Version(other)),
        None => return Err(PackError::Malformed("empty")),
    }
    let count = reader.length().ok_or(PackError::Malformed("count"))?;
    if count > PACK_EVENTS_MAX {
        return Err(PackError::TooLarge("events"));
    }
    let head = reader.section().ok_or(PackError::Malformed("head"))?;
    let payloads = reader.section().ok_or(PackError::Malformed("payloads"))?;
    if !reader.is_empty() {
        return Err(PackError::Malformed("trailing bytes"));
    }
    Ok((count, head, payloads))
}

/// Joins the two parts of an event and computes what was left out.
pub fn assemble(
    head: crate::event::Head,
    part: PayloadPart,
    signature: Option<EventSignature>,
    domain: &DomainId,
) -> Event {
    let (payload, block) = part.into_ref(&head.kind);
    let mut event = Event::new(Header { head, payload }, block, domain);
    event.signature = signature;
    event
}

/// As [`assemble`], for a holder that knows the id already: the body is not hashed again.
pub fn assemble_known(
    id: EventId,
    head: crate::event::Head,
    part: PayloadPart,
    signature: Option<EventSignature>,
) -> Event {
    let (payload, block) = part.into_ref(&head.kind);
    Event { id, header: Header { head, payload }.into(), payload: block, signature }
}

impl PayloadPart {
    fn into_ref(self, kind: &str) -> (PayloadRef, Option<bytes::Bytes>) {
        match self {
            PayloadPart::Present(block) => (PayloadRef::of(kind, &block), Some(block)),
            PayloadPart::Absent(reference) => (reference, None),
        }
    }
}
