//! Which signatures travel with events.

use ed25519_dalek::SigningKey;

use super::apply::weight;
use crate::dag::Dag;
use crate::event::{Event, Log, is_signature_place, sign_id};
use crate::history::History;
use crate::id::EventId;
use crate::limits::{PROOF_BYTES_MAX, SIGNATURE_INTERVAL};

/// Of the signatures, keeps those that the reader needs. Where a feed ends without one, because what
/// follows was kept aside, that follows as its proof, up to a signature.
pub(super) fn with_proofs<H: History>(
    events: Vec<Event>,
    dag: &Dag,
    key: &SigningKey,
    history: &H,
    live: bool,
) -> Result<Vec<Event>, H::Error> {
    let own = key.verifying_key().to_bytes();
    let mut proven = Vec::with_capacity(events.len());
    let mut room = PROOF_BYTES_MAX;
    for mut event in events {
        if is_signature_place(event.header.seq) && event.signature.is_some() {
            proven.push(event);
            continue;
        }
        if !is_end(dag, &event) {
            event.signature = None;
            proven.push(event);
            continue;
        }
        if event.signature.is_none() && event.header.author.0 == own {
            event.signature = Some(sign_id(key, &event.id));
        }
        let proof = match event.signature {
            Some(_) => Some(Vec::new()),
            None => proof_of(dag.log(), &event, history)?,
        };
        // What cannot be proven is of no use to anybody, unless the rest is on its way.
        let Some(proof) = proof.or(live.then(Vec::new)) else { continue };
        room = match room.checked_sub(proof.iter().map(weight).sum()) {
            Some(room) => room,
            // Its turn comes in another round.
            None => continue,
        };
        proven.push(event);
        proven.extend(proof);
    }
    Ok(proven)
}

/// An event with its proof: signed if it is this machine's own.
pub(super) fn chain<H: History>(
    log: Log,
    mut event: Event,
    key: &SigningKey,
    history: &H,
) -> Result<Option<Vec<Event>>, H::Error> {
    if event.signature.is_none() && event.header.author.0 == key.verifying_key().to_bytes() {
        event.signature = Some(sign_id(key, &event.id));
    }
    let proof = match event.signature {
        Some(_) => Some(Vec::new()),
        None => proof_of(log, &event, history)?,
    };
    Ok(proof.map(|proof| std::iter::once(event).chain(proof).collect()))
}

/// Events that are looked at for a proof: forks may make the search wide.
const PROOF_EVENTS_MAX: usize = 1024;

/// The events after one in its feed, up to the first with a signature, if there is one near: from
/// those kept aside, else from those that never entered the log.
fn proof_of<H: History>(
    log: Log,
    event: &Event,
    history: &H,
) -> Result<Option<Vec<Event>>, H::Error> {
    match proof_kept_aside(log, event, history)? {
        Some(proof) => Ok(Some(proof)),
        None => history.proof(log, &event.id),
    }
}

fn proof_kept_aside<H: History>(
    log: Log,
    event: &Event,
    history: &H,
) -> Result<Option<Vec<Event>>, H::Error> {
    let head = &event.header.head;
    let from = head.seq.saturating_add(1);
    let nearby = history.feed(log, &head.author, from..from.saturating_add(SIGNATURE_INTERVAL))?;
    let mut branches: Vec<Vec<Event>> = Vec::new();
    for (_, ordinal) in nearby.into_iter().take(PROOF_EVENTS_MAX) {
        let next = history.event(log, ordinal)?;
        let follows = |last: &EventId| next.header.prev == Some(*last);
        let mut branch = match branches.iter().find(|b| b.last().is_some_and(|e| follows(&e.id))) {
            Some(branch) => branch.clone(),
            None if follows(&event.id) => Vec::new(),
            None => continue,
        };
        let signed = next.signature.is_some();
        branch.push(next);
        if signed {
            return Ok(Some(branch));
        }
        branches.push(branch);
    }
    Ok(None)
}

fn is_end(dag: &Dag, event: &Event) -> bool {
    dag.ends_of(&event.header.author).iter().any(|end| end.id == event.id)
}
