//! Events of a stream that wait for a signature. A signature vouches for all events before it in
//! the same feed, so a run of at most 64 waits; events come out in stream order.

use crate::codec::v1::{BodyError, check_shape};
use crate::event::{
    AuthenticityError, Event, Head, VerifiedEvent, is_signature_place, verify_signature,
};
use crate::id::{EventId, IdMap};
use crate::lifecycle::{Stage, Verdict};
use crate::limits::{SIGNATURE_INTERVAL, UNSIGNED_BYTES_MAX};
use crate::queue::Queue;
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

/// What is looked at again while an event waits. It lies apart from the events, so that a signature
/// over many of them finds it in the processor's caches.
#[derive(Debug, Clone, Copy)]
struct Place {
    stage: Stage,
    /// How many events of the feed are in a row without a signature, up to this one.
    run: u8,
    /// The number of the event before it in the feed, if that waits, too.
    before: Option<u64>,
}

/// The waiting events of one stream.
#[derive(Debug, Default)]
pub struct Unsigned {
    events: Queue<Event>,
    /// As many as events.
    places: Queue<Place>,
    /// Number of the event at the front of the queue.
    first: u64,
    /// Numbers of the events that came without a signature.
    numbers: IdMap<EventId, u64>,
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

    /// Adds the events of a frame whose signatures were checked, up to the first that cannot be
    /// trusted. Those that are held already are passed over: they were verified when they came, and
    /// with them everything before them is held, too. Answers how many these were.
    ///
    /// # Errors
    /// Why the stream cannot be trusted any further.
    pub(crate) fn push_frame(
        &mut self,
        events: Vec<Event>,
        wrong: Wrong,
        is_held: impl Fn(&EventId) -> bool,
    ) -> Result<u64, UnsignedError> {
        let mut wrong = wrong.into_iter().peekable();
        let mut held = 0;
        for (place, event) in events.into_iter().enumerate() {
            let error = wrong.next_if(|(of, _)| *of == place);
            if is_held(&event.id) {
                held += 1;
                self.vouch_before(&event.header);
            } else if let Some((_, error)) = error {
                return Err(error.into());
            } else {
                self.push_checked(event)?;
            }
        }
        Ok(held)
    }

    fn push_checked(&mut self, event: Event) -> Result<(), UnsignedError> {
        check_shape(&event.header).map_err(|error| UnsignedError::Body { id: event.id, error })?;
        let again = self.numbers.get(&event.id).copied();
        let before = self.before(&event.header);
        let (mut stage, mut run) = (Stage::Received, 0);
        if event.signature.is_some() {
            stage = stage.after(Verdict::SignatureVerified);
            self.vouch_up_to(again.or(before));
        }
        if again.is_some() {
            // It came twice.
            return Ok(());
        }
        if stage == Stage::Received {
            if is_signature_place(event.header.seq) {
                let (id, seq) = (event.id, event.header.seq);
                return Err(UnsignedError::SignatureWithheld { id, seq });
            }
            stage = stage.after(Verdict::SignatureMissing);
            let before = before.and_then(|number| self.place(number));
            run = before.filter(|place| place.stage == stage).map_or(0, |place| place.run) + 1;
            if u64::from(run) > SIGNATURE_INTERVAL {
                return Err(UnsignedError::RunTooLong(event.id));
            }
            self.numbers.insert(event.id, self.first + self.events.len() as u64);
        }
        self.bytes += weight(&event);
        if self.bytes > UNSIGNED_BYTES_MAX {
            return Err(UnsignedError::TooMuch);
        }
        self.events.push_back(event);
        self.places.push_back(Place { stage, run, before });
        Ok(())
    }

    /// An event with a proven author vouches for those before it in its feed.
    pub fn vouch_before(&mut self, head: &Head) {
        self.vouch_up_to(self.before(head));
    }

    /// The event before another, if it waits: the one that this names as `prev`, if that belongs to the
    /// same feed. Anybody can name anything as `prev`.
    fn before(&self, head: &Head) -> Option<u64> {
        let number = *self.numbers.get(&head.prev?)?;
        let event = self.events.get(usize::try_from(number.checked_sub(self.first)?).ok()?)?;
        event.header.precedes(head).then_some(number)
    }

    fn place(&mut self, number: u64) -> Option<&mut Place> {
        self.places.get_mut(usize::try_from(number.checked_sub(self.first)?).ok()?)
    }

    fn vouch_up_to(&mut self, last: Option<u64>) {
        let mut next = last;
        while let Some(place) = next.and_then(|number| self.place(number))
            && place.stage == Stage::Unsigned
        {
            place.stage = place.stage.after(Verdict::SignatureVerified);
            next = place.before;
        }
    }

    /// The next event of the stream, if it is authentic.
    pub fn pop(&mut self) -> Option<VerifiedEvent> {
        if self.places.front()?.stage != Stage::Authentic {
            return None;
        }
        self.places.pop_front();
        let event = self.events.pop_front()?;
        if event.signature.is_none() {
            self.numbers.remove(&event.id);
        }
        self.first += 1;
        self.bytes -= weight(&event);
        Some(VerifiedEvent::vouched(event))
    }

    /// All that is authentic, at the end of a stream. What no signature came for is dropped.
    pub fn finish(&mut self) -> Vec<VerifiedEvent> {
        let Self { events, places, .. } = std::mem::take(self);
        let all = events.into_iter().zip(places);
        let authentic = all.filter(|(_, place)| place.stage == Stage::Authentic);
        authentic.map(|(event, _)| VerifiedEvent::vouched(event)).collect()
    }

    /// How much memory the waiting events take, about.
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// How many events wait.
    pub fn len(&self) -> usize {
        self.events.len()
    }

    /// Whether none waits.
    pub fn is_empty(&self) -> bool {
        self.events.is_empty()
    }
}
