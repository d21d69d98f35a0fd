//! Proofs for feed ends whose signature stands on an event that is not in the log.
//!
//! A signature vouches for all events before it in its feed. If the event that carries it breaks a
//! rule, or waits for others and then is forgotten, those before it are in the log all the same: their
//! author is proven to this machine, and must be to every other. So the events from the end of the
//! feed to the signature are kept beside the log as the end's proof, and travel with it.

use std::collections::VecDeque;

use super::Effect;
use super::peer::LOG;
use super::{Node, apply};
use crate::event::Event;
use crate::history::History;
use crate::id::{EventId, IdMap};
use crate::limits::{LOOSE_BYTES_MAX, PROOF_BYTES_MAX, SIGNATURE_INTERVAL};

/// Authentic events that are not in the log, oldest first.
#[derive(Debug, Default)]
pub(super) struct Loose {
    events: IdMap<EventId, Event>,
    order: VecDeque<EventId>,
    bytes: usize,
}

impl Loose {
    /// Keeps an event for a while. What is oldest goes when there is no room.
    fn put(&mut self, event: Event) {
        self.bytes += apply::weight(&event);
        self.order.push_back(event.id);
        if let Some(old) = self.events.insert(event.id, event) {
            self.bytes -= apply::weight(&old);
        }
        while self.bytes > LOOSE_BYTES_MAX
            && let Some(oldest) = self.order.pop_front()
        {
            if let Some(old) = self.events.remove(&oldest) {
                self.bytes -= apply::weight(&old);
            }
        }
    }

    /// The events of a feed up to this one that are not in the log, first to last, and the event
    /// before them.
    fn chain_to(&self, last: &Event) -> Option<(EventId, Vec<Event>)> {
        let mut chain = vec![last.clone()];
        let mut first = last;
        while let Some(before) = first.header.prev.and_then(|prev| self.events.get(&prev)) {
            if !before.header.precedes(&first.header) || chain.len() as u64 > SIGNATURE_INTERVAL {
                break;
            }
            chain.push(before.clone());
            first = before;
        }
        chain.reverse();
        first.header.prev.map(|base| (base, chain))
    }
}

impl Node {
    /// Takes note of an authentic event that does not enter the log, now or ever. If it carries the
    /// only signature that vouches for a feed end, it is kept as that end's proof. Answers whether
    /// it is worth sending to others: whether such an end is before it.
    pub(super) fn keep_as_proof<H: History>(
        &mut self,
        event: &Event,
        history: &H,
        out: &mut Vec<Effect>,
    ) -> Result<bool, H::Error> {
        let Some((end, mut proof)) = self.loose.chain_to(event) else { return Ok(false) };
        let needed = self.lacks_signature(&end, &proof[0], history)?;
        if needed && event.signature.is_some() {
            if proof.iter().map(apply::weight).sum::<usize>() > PROOF_BYTES_MAX {
                // The signature covers their hashes.
                proof.iter_mut().for_each(|event| event.payload = None);
            }
            out.push(Effect::Prove { log: LOG, end, proof });
        } else if needed {
            self.loose.put(event.clone());
        }
        Ok(needed)
    }

    /// Whether an event may be the end of its feed, came without a signature of its own, and is the
    /// one before another: that names it as its `prev`, which anybody can.
    fn lacks_signature<H: History>(
        &self,
        base: &EventId,
        next: &Event,
        history: &H,
    ) -> Result<bool, H::Error> {
        let author = &next.header.author;
        let Some(dag) = self.dag.as_ref().filter(|_| *author != self.node) else {
            return Ok(false);
        };
        let is_end = dag.ends_of(author).iter().any(|end| end.id == *base);
        // What is kept aside is not sent, but may count again one day.
        if !is_end && !dag.is_quarantined(base) {
            return Ok(false);
        }
        let needs_proof =
            |event: &Event| event.signature.is_none() && event.header.precedes(&next.header);
        if let Some(staged) = self.staged.iter().rev().find(|event| event.id == *base) {
            return Ok(needs_proof(staged));
        }
        let Some(ordinal) = history.find(LOG, base)? else { return Ok(false) };
        Ok(needs_proof(&history.event(LOG, ordinal)?))
    }
}
