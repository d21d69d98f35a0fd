//! Events of a stream that wait for a signature. A signature vouches for all events before it in
//! the same feed, so a run of at most 64 waits; events come out in stream order.

use std::collections::VecDeque;

use crate::codec::v1::{BodyError, check_shape};
use crate::event::{
    AuthenticityError, Event, Head, VerifiedEvent, is_signature_place, verify_signature,
};
use crate::id::{EventId, IdMap};
use crate::lifecycle::{Stage, Verdict};
use crate::limits::{SIGNATURE_INTERVAL, UNSIGNED_BYTES_MAX};
use crate::sync::check::Wrong;

/// Why a stream cannot go on.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum UnsignedError {
    /// Nothing that this event says can be relied on, not even its size.
    #[error("malformed event {id}: {error}")]
    Body {
        /// The event.
        id: EventId,
        /// What is wrong with it.
        error: BodyError,
    },
    /// A signature is wrong.
    #[error(transparent)]
    Authenticity(#[from] AuthenticityError),
    /// An event came without the signature that all machines keep at its place, so that no run gets
    /// too long for anybody.
    #[error(
        "event {id} at place {seq} of its feed, a multiple of {SIGNATURE_INTERVAL}, has no signature"
    )]
    SignatureWithheld {
        /// The event.
        id: EventId,
        /// Its place.
        seq: u64,
    },
    /// A feed went on too long without a signature.
    #[error("more than {SIGNATURE_INTERVAL} events of one feed without a signature, up to {0}")]
    RunTooLong(EventId),
    /// Too much waits.
    #[error("more than {UNSIGNED_BYTES_MAX} bytes of events without signatures")]
    TooMuch,
}

#[derive(Debug)]
struct Waiting {
    event: Event,
    stage: Stage,
}

/// The waiting events of one stream.
#[derive(Debug, Default)]
pub struct Unsigned {
    queue: VecDeque<Waiting>,
    /// Number of the event at the front of the queue.
    first: u64,
    /// Events that no signature covers yet: their numbers, and how long the run is up to them.
    open: IdMap<EventId, (u64, u64)>,
    bytes: usize,
}

/// What an event weighs against the limit, besides its payload.
const EVENT_BYTES: usize = 400;

fn weight(event: &Event) -> usize {
    EVENT_BYTES + event.payload.as_ref().map_or(0, bytes::Bytes::len)
}

impl Unsigned {
    /// Adds the next event of the stream.
    ///
    /// # Errors
    /// Why the stream cannot be trusted any further.
    pub fn push(&mut self, event: Event) -> Result<(), UnsignedError> {
        if let Some(signature) = &event.signature {
            verify_signature(&event.header.author, &event.id, signature)?;
        }
        self.push_checked(event)
    }

    /// Adds events of a frame, with their places in it, whose signatures were checked: up to the
    /// first that cannot be trusted.
    ///
    /// # Errors
    /// Why the stream cannot be trusted any further.
    pub(crate) fn push_frame(
        &mut self,
        events: impl Iterator<Item = (usize, Event)>,
        wrong: Wrong,
    ) -> Result<(), UnsignedError> {
        let mut wrong = wrong.into_iter().peekable();
        for (place, event) in events {
            // Of what is held it does not matter.
            while wrong.next_if(|(of, _)| *of < place).is_some() {}
            if let Some((_, error)) = wrong.next_if(|(of, _)| *of == place) {
                return Err(error.into());
            }
            self.push_checked(event)?;
        }
        Ok(())
    }

    fn push_checked(&mut self, event: Event) -> Result<(), UnsignedError> {
        check_shape(&event.header).map_err(|error| UnsignedError::Body { id: event.id, error })?;
        let mut stage = Stage::Received;
        let waits = self.open.contains_key(&event.id);
        if event.signature.is_some() {
            stage = stage.after(Verdict::SignatureVerified);
            if waits { self.vouch_up_to(event.id) } else { self.vouch_before(&event.header) }
        }
        if waits {
            // It came twice.
            return Ok(());
        }
        if stage == Stage::Received && is_signature_place(event.header.seq) {
            let (id, seq) = (event.id, event.header.seq);
            return Err(UnsignedError::SignatureWithheld { id, seq });
        }
        if stage == Stage::Received {
            stage = stage.after(Verdict::SignatureMissing);
            let before = event.header.prev.and_then(|prev| self.open.get(&prev));
            let length = before.map_or(0, |(_, length)| *length) + 1;
            if length > SIGNATURE_INTERVAL {
                return Err(UnsignedError::RunTooLong(event.id));
            }
            self.open.insert(event.id, (self.first + self.queue.len() as u64, length));
        }
        self.bytes += weight(&event);
        if self.bytes > UNSIGNED_BYTES_MAX {
            return Err(UnsignedError::TooMuch);
        }
        self.queue.push_back(Waiting { event, stage });
        Ok(())
    }

    /// An event with a proven author vouches for those before it in its feed: for a `prev` that
    /// belongs to the same feed and no other, since anybody can name anything as `prev`.
    pub fn vouch_before(&mut self, head: &Head) {
        let Some(prev) = head.prev.filter(|prev| self.precedes(prev, head)) else { return };
        self.vouch_up_to(prev);
    }

    fn precedes(&self, prev: &EventId, head: &Head) -> bool {
        let Some((number, _)) = self.open.get(prev) else { return false };
        let waiting = self.queue.get(number.wrapping_sub(self.first) as usize);
        waiting.is_some_and(|waiting| waiting.event.header.precedes(head))
    }

    fn vouch_up_to(&mut self, last: EventId) {
        let mut next = Some(last);
        while let Some((number, _)) = next.and_then(|id| self.open.remove(&id)) {
            let place = number.wrapping_sub(self.first) as usize;
            let Some(waiting) = self.queue.get_mut(place) else { return };
            waiting.stage = waiting.stage.after(Verdict::SignatureVerified);
            let head = &self.queue[place].event.header;
            next = head.prev.filter(|prev| self.precedes(prev, head));
        }
    }

    /// The next event of the stream, if it is authentic.
    pub fn pop(&mut self) -> Option<VerifiedEvent> {
        if self.queue.front()?.stage != Stage::Authentic {
            return None;
        }
        let event = self.queue.pop_front()?.event;
        self.first += 1;
        self.bytes -= weight(&event);
        Some(VerifiedEvent::vouched(event))
    }

    /// All that is authentic, at the end of a stream. What no signature came for is dropped.
    pub fn finish(&mut self) -> Vec<VerifiedEvent> {
        let rest = std::mem::take(self).queue;
        let authentic = rest.into_iter().filter(|waiting| waiting.stage == Stage::Authentic);
        authentic.map(|waiting| VerifiedEvent::vouched(waiting.event)).collect()
    }

    /// How much memory the waiting events take, about.
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// How many events wait.
    pub fn len(&self) -> usize {
        self.queue.len()
    }

    /// Whether none waits.
    pub fn is_empty(&self) -> bool {
        self.queue.is_empty()
    }
}
