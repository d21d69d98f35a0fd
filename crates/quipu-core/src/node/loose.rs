//! Proofs for feed ends whose signature stands on an event that is not in the log.
//!
//! A signature vouches for all events before it in its feed. If the event that carries it breaks a
//! rule, or waits for others and then is forgotten, those before it are in the log all the same: their
//! author is proven to this machine, and must be to every other. So the events from the end of the
//! feed to the signature are kept beside the log as the end's proof, and travel with it.

use std::collections::VecDeque;

use super::Effect;
use super::{Node, apply};
use crate::event::{Event, Log};
use crate::history::History;
use crate::id::{EventId, IdMap};
use crate::limits::{LOOSE_BYTES_MAX, PROOF_BYTES_MAX, SIGNATURE_INTERVAL};

/// Authentic events that are not in the log, oldest first.
#[derive(Debug, Default)]
pub(super) struct Loose {
    events: IdMap<EventId, Event>,
    /// The event that came last after each, by that one's id.
    next: IdMap<EventId, EventId>,
    order: VecDeque<EventId>,
    bytes: usize,
}

impl Loose {
    /// Keeps an event for a while. What is oldest goes when there is no room.
    fn put(&mut self, event: Event) {
        self.bytes += apply::weight(&event);
        self.order.push_back(event.id);
        self.next.extend(event.header.prev.map(|prev| (prev, event.id)));
        if let Some(old) = self.events.insert(event.id, event) {
            self.bytes -= apply::weight(&old);
        }
        while self.bytes > LOOSE_BYTES_MAX
            && let Some(oldest) = self.order.pop_front()
        {
            self.remove(&oldest);
        }
    }

    fn remove(&mut self, id: &EventId) {
        let Some(old) = self.events.remove(id) else { return };
        self.bytes -= apply::weight(&old);
        if let Some(prev) = old.header.prev.filter(|prev| self.next.get(prev) == Some(id)) {
            self.next.remove(&prev);
        }
    }

    /// The events after this one in its feed, up to the first with a signature.
    fn chain_from(&self, end: &Event) -> Option<Vec<Event>> {
        let mut chain: Vec<Event> = Vec::new();
        while chain.last().is_none_or(|last| last.signature.is_none()) {
            let last = chain.last().unwrap_or(end);
            let next = self.events.get(self.next.get(&last.id)?)?;
            if !last.header.precedes(&next.header) || chain.len() as u64 > SIGNATURE_INTERVAL {
                return None;
            }
            chain.push(next.clone());
        }
        Some(chain)
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
        let Some((end, proof)) = self.loose.chain_to(event) else { return Ok(false) };
        let needed = self.lacks_signature(&end, &proof[0], history)?;
        if needed && event.signature.is_some() {
            prove(self.log, end, proof, out);
        } else {
            self.loose.put(event.clone());
        }
        Ok(needed)
    }

    /// An event enters the log. If it came without a signature, the one that vouches for it may be
    /// on an event that came before, and waits.
    pub(super) fn prove_by_loose(&mut self, event: &Event, out: &mut Vec<Effect>) {
        if self.loose.events.is_empty() {
            return;
        }
        self.loose.remove(&event.id);
        if event.signature.is_none()
            && let Some(proof) = self.loose.chain_from(event)
        {
            prove(self.log, event.id, proof, out);
        }
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
        let Some(ordinal) = history.find(self.log, base)? else { return Ok(false) };
        Ok(needs_proof(&history.event(self.log, ordinal)?))
    }
}

fn prove(log: Log, end: EventId, mut proof: Vec<Event>, out: &mut Vec<Effect>) {
    if proof.iter().map(apply::weight).sum::<usize>() > PROOF_BYTES_MAX {
        // The signature covers their hashes.
        proof.iter_mut().for_each(|event| event.payload = None);
    }
    out.push(Effect::Prove { log, end, proof });
}
