//! What this machine's own records become in a mesh, as far as it has to sign that (MESH-5).
//!
//! A machine whose identity signs writes `mesh.sign` events right after its records, whether it takes part in a mesh
//! itself or not: any other machine of the domain can then send them on.

use std::sync::PoisonError;

use quipu_core::event::{Event, Log};
use quipu_core::history::History;
use quipu_core::node::Command;
use quipu_meshlog::identity::Identity;
use quipu_meshlog::native::{Said, Signatures};
use quipu_meshlog::projection::{Projector, identity_of};

use crate::api::ApiError;
use crate::service::{Handle, Machine};

/// Events that are read in one visit to the machine's loop.
const STEP_EVENTS: usize = 4_096;

/// How far the feed was looked at.
#[derive(Debug, Default)]
pub(crate) struct OwnFeed {
    /// Whether the feed's first proven claim was found: no later one counts.
    is_claimed: bool,
    /// If that one signs. It begins with the feed's first event, so only once the claim is known.
    projector: Option<Projector>,
    /// The next place to look at.
    next: u64,
    /// The place in the mesh's feed up to which signatures were written since the start: never twice, whatever comes of it.
    signed: u64,
}

/// What a visit comes to.
enum Step {
    /// There is more to look at.
    More,
    /// Nothing waits for a signature.
    Done,
    /// This is to be written.
    Sign(Signatures),
}

impl Machine {
    /// Looks at some more of the own feed.
    fn own_feed_step(&mut self) -> Result<Step, ApiError> {
        let Some(secret) = self.home().mesh_identity()? else { return Ok(Step::Done) };
        let node = self.driver.node().key();
        let next = self.own_feed.next.max(1);
        let held = self.driver.held();
        let mut places = held.feed(Log::Internal, &node, next..u64::MAX)?;
        places.sort_unstable();
        let is_last = places.len() <= STEP_EVENTS;
        for (seq, ordinal) in places.into_iter().take(STEP_EVENTS) {
            let event = self.driver.held().event(Log::Internal, ordinal)?;
            let dag = self.driver.node().dag().ok_or_else(crate::api::nothing_held)?;
            if dag.is_quarantined(&event.id) {
                continue;
            }
            self.own_feed.next = seq + 1;
            if self.own_feed.take(&event) {
                return Ok(Step::More);
            }
        }
        if !is_last {
            return Ok(Step::More);
        }
        let signatures = self.own_feed.signatures(&Identity::from_bytes(&secret));
        Ok(signatures.map_or(Step::Done, Step::Sign))
    }
}

impl OwnFeed {
    /// What is to be signed, if this identity is the one that the feed names.
    fn signatures(&self, identity: &Identity) -> Option<Signatures> {
        let own = self.projector.as_ref();
        let own = own.filter(|own| *own.author() == identity.public().author())?;
        own.signatures(identity).filter(|signatures| signatures.from > self.signed)
    }

    /// Takes the next event. Whether the feed is to be looked at once more, from its start.
    fn take(&mut self, event: &Event) -> bool {
        let Some(projector) = &mut self.projector else { return self.finds_claim(event) };
        // What is out of turn follows something that does not count: it waits for nothing.
        drop(projector.push(event));
        false
    }

    /// Whether this event says for the first time who the machine is in meshes. If it signs, the feed is looked at
    /// once more, from its start.
    fn finds_claim(&mut self, event: &Event) -> bool {
        let node = event.header.author;
        let Some(claim) = identity_of([event]).filter(|_| !self.is_claimed) else { return false };
        self.is_claimed = true;
        if claim.signed {
            self.projector = Some(Projector::new(node, claim));
            self.next = 1;
        }
        true
    }
}

impl Handle {
    /// Signs what of this machine's records waits for that, if its identity in meshes signs at all.
    ///
    /// # Errors
    /// If the log or the identity cannot be read, or nothing can be written.
    pub fn sign_records(&self) -> Result<(), ApiError> {
        // Two that look at the same time would both sign the same.
        let _alone = self.signing().lock().unwrap_or_else(PoisonError::into_inner);
        loop {
            match self.call(Machine::own_feed_step)?? {
                Step::More => {}
                Step::Done => return Ok(()),
                Step::Sign(signatures) => {
                    let last = signatures.from + signatures.signatures.len() as u64 - 1;
                    let said = Said::Sign(signatures).to_value();
                    let said = said.map_err(|error| ApiError::refused(error.to_string()))?;
                    self.command(Command::Tell(vec![said]))?;
                    self.call(move |machine| machine.own_feed.signed = last)?;
                }
            }
        }
    }
}
