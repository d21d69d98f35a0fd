//! Signatures of a frame, checked on another core while the next frame is unpacked.
//!
//! Whether a signature is right does not depend on when it is looked at, and what a check found is
//! waited for at a fixed place in the stream. So threads cannot reach any result.

use std::sync::mpsc::{Receiver, sync_channel};

use crate::event::{AuthenticityError, Event, EventSignature, verify_signature};
use crate::id::{EventId, NodeKey};

/// Signatures from which on another core is worth the trouble.
const SIGNATURES_MIN: usize = 4;

/// The places of events with wrong signatures, in order, and what is wrong.
pub(crate) type Wrong = Vec<(usize, AuthenticityError)>;

type Signed = (usize, NodeKey, EventId, EventSignature);

/// A frame whose signatures are being checked.
#[derive(Debug)]
pub(crate) struct Checking {
    events: Vec<Event>,
    wrong: Receiver<Wrong>,
}

impl Checking {
    /// Starts the check, or gives the events back if they have too few signatures for that.
    pub(crate) fn start(events: Vec<Event>) -> Result<Self, Vec<Event>> {
        let signed = signed(&events);
        if signed.len() < SIGNATURES_MIN {
            return Err(events);
        }
        let (sender, wrong) = sync_channel(1);
        // Nobody listens if the session is over: then nobody wants to know.
        rayon::spawn(move || drop(sender.send(check(&signed))));
        Ok(Self { events, wrong })
    }

    /// Waits for the check to end.
    pub(crate) fn finish(self) -> (Vec<Event>, Wrong) {
        let wrong = self.wrong.recv().unwrap_or_else(|_| wrong_of(&self.events));
        (self.events, wrong)
    }
}

/// Checks the signatures of a frame here and now.
pub(crate) fn wrong_of(events: &[Event]) -> Wrong {
    check(&signed(events))
}

fn signed(events: &[Event]) -> Vec<Signed> {
    let signed = |(place, event): (usize, &Event)| {
        Some((place, event.header.author, event.id, event.signature?))
    };
    events.iter().enumerate().filter_map(signed).collect()
}

fn check(signed: &[Signed]) -> Wrong {
    let wrong = |(place, author, id, signature): &Signed| {
        Some((*place, verify_signature(author, id, signature).err()?))
    };
    signed.iter().filter_map(wrong).collect()
}
