//! Putting authentic events to the DAG, and what follows.

use std::collections::BTreeMap;

use super::{Effect, Flow, LinkId, Node, Notice};
use crate::dag::{Applied, Dag, Step};
use crate::event::{Event, VerifiedEvent};
use crate::history::History;
use crate::id::EventId;
use crate::lifecycle::Stage;
use crate::limits::{STAGED_EVENTS_MAX, WAITING_BYTES_MAX, WAITING_EVENTS_MAX};
use crate::machine::Machine;
use crate::sync::message::Refusal;

/// Events that wait for others that they link to.
#[derive(Debug, Default)]
pub(super) struct Waiting {
    by_missing: BTreeMap<EventId, Vec<(Option<LinkId>, VerifiedEvent)>>,
    count: usize,
    bytes: usize,
}

/// What an event takes in memory, at least about.
pub(super) fn weight(event: &Event) -> usize {
    let links = event.header.parents.len() * 32;
    400 + links + event.payload.as_ref().map_or(0, bytes::Bytes::len)
}

impl Waiting {
    pub(super) fn len(&self) -> usize {
        self.count
    }

    /// Keeps an event until another arrives. When there is no room it is dropped: comparing again
    /// will bring it back.
    fn put(&mut self, missing: EventId, link: Option<LinkId>, event: VerifiedEvent) {
        let queue = self.by_missing.entry(missing).or_default();
        let known = queue.iter_mut().find(|(_, held)| held.id == event.id);
        if let Some((_, held)) = known {
            // A copy with a signature is worth more than one without.
            if held.signature.is_none() && event.signature.is_some() {
                *held = event;
            }
            return;
        }
        let fits =
            self.count < WAITING_EVENTS_MAX && self.bytes + weight(&event) <= WAITING_BYTES_MAX;
        if fits {
            self.count += 1;
            self.bytes += weight(&event);
            queue.push((link, event));
        }
        if self.by_missing.get(&missing).is_some_and(Vec::is_empty) {
            self.by_missing.remove(&missing);
        }
    }

    fn take(&mut self, arrived: &EventId) -> Vec<(Option<LinkId>, VerifiedEvent)> {
        if self.count == 0 {
            return Vec::new();
        }
        let events = self.by_missing.remove(arrived).unwrap_or_default();
        self.count -= events.len();
        self.bytes -= events.iter().map(|(_, event)| weight(event)).sum::<usize>();
        events
    }

    /// Drops what came over a link that is gone.
    pub(super) fn forget(&mut self, gone: LinkId) {
        let (mut count, mut bytes) = (0, 0);
        self.by_missing.retain(|_, queue| {
            queue.retain(|(link, event)| {
                let keep = *link != Some(gone);
                if keep {
                    count += 1;
                    bytes += weight(event);
                }
                keep
            });
            !queue.is_empty()
        });
        (self.count, self.bytes) = (count, bytes);
    }
}

impl Node {
    /// Puts what is in the inbox to the DAG.
    pub(super) fn apply_inbox<H: History>(
        &mut self,
        now: u64,
        history: &H,
        out: &mut Vec<Effect>,
    ) -> Result<Flow, H::Error> {
        while let Some((link, event)) = self.inbox.pop_front() {
            if self.staged.len() >= STAGED_EVENTS_MAX {
                self.inbox.push_front((link, event));
                return Ok(Flow::Blocked);
            }
            let step = match &mut self.dag {
                Some(dag) => dag.insert(&event, history)?,
                None => match self.found_dag(&event) {
                    Some(step) => step,
                    None => continue,
                },
            };
            debug_assert!(
                step.verdict().is_none_or(|verdict| Stage::Authentic.on(verdict).is_some())
            );
            match step {
                Step::Flush => {
                    self.inbox.push_front((link, event));
                    return Ok(Flow::Blocked);
                }
                Step::Known => self.count_duplicate(link),
                Step::Applied(applied) => self.on_applied(link, event, &applied, history, out)?,
                Step::Quarantined => {
                    let (author, id) = (event.header.author, event.id);
                    out.push(Effect::Notify(Notice::Quarantined { author, id }));
                    self.count_new(link);
                    self.staged.push(event);
                    self.release(&id);
                }
                Step::Missing(links) => {
                    self.keep_as_proof(&event, history, out)?;
                    // What a link left behind that is gone would wait for ever.
                    if let Some(missing) = links.first()
                        && link.is_none_or(|link| self.sessions.contains_key(&link))
                    {
                        self.waiting.put(*missing, link, event);
                    }
                    self.hurry(link, now);
                }
                Step::Refused(rule) => {
                    let session = link.and_then(|link| self.sessions.get(&link));
                    let peer = session.map(|session| session.peer);
                    let text = format!("event {} breaks a rule: {rule}", event.id);
                    out.push(Effect::Notify(Notice::EventRefused { peer, id: event.id, rule }));
                    // What it says is of no use; the signature covers its hash.
                    let bare = event.clone().without_payload();
                    let proves = self.keep_as_proof(&bare, history, out)?;
                    // Somebody else passes it on for what it proves, not for what it says.
                    let passed_on = proves && peer != Some(event.header.author);
                    if let Some(link) = link.filter(|_| !passed_on) {
                        self.refuse(link, Refusal::Misbehaved, text, out);
                    }
                }
            }
        }
        Ok(if self.reconsider { Flow::Blocked } else { Flow::Done })
    }

    /// The first event of a joining machine: it must be R of the domain in the ticket.
    fn found_dag(&mut self, event: &VerifiedEvent) -> Option<Step> {
        if EventId::from(self.domain) != event.id {
            return None;
        }
        let mut dag = Dag::new(event, self.log).ok()?;
        let step = dag.found(event);
        self.dag = Some(dag);
        Some(step)
    }

    fn on_applied<H: History>(
        &mut self,
        link: Option<LinkId>,
        event: VerifiedEvent,
        applied: &Applied,
        history: &H,
        out: &mut Vec<Effect>,
    ) -> Result<(), H::Error> {
        let (id, author) = (event.id, event.header.author);
        self.count_new(link);
        self.prove_by_loose(&event, out);
        if applied.forked {
            out.push(Effect::Notify(Notice::Forked { author, id }));
        }
        self.reconsider |= applied.reconsider;
        if let Some(target) = applied.erase
            && let Some(ordinal) = history.find(self.log, &target)?
        {
            out.push(Effect::Erase { log: self.log, ordinal });
        }
        let erased = self.dag.as_ref().is_some_and(|dag| dag.is_erased(&id));
        self.staged.push(if erased { event.without_payload() } else { event });
        self.release(&id);
        Ok(())
    }

    /// What waited for an event is looked at again.
    fn release(&mut self, id: &EventId) {
        for (link, waiting) in self.waiting.take(id).into_iter().rev() {
            self.inbox.push_front((link, waiting));
        }
    }

    fn count_new(&mut self, link: Option<LinkId>) {
        let ordinal = self.dag.as_ref().map_or(0, Dag::held).saturating_sub(1);
        if let Some(session) = link.and_then(|link| self.sessions.get_mut(&link)) {
            session.traffic.received_events += 1;
            session.note_received(ordinal);
        }
    }

    fn count_duplicate(&mut self, link: Option<LinkId>) {
        if let Some(session) = link.and_then(|link| self.sessions.get_mut(&link)) {
            session.traffic.duplicate_events += 1;
        }
    }

    /// Something is missing: the next comparison should come soon.
    pub(super) fn hurry(&mut self, link: Option<LinkId>, now: u64) {
        for (id, session) in &mut self.sessions {
            if session.initiator && (link.is_none() || link == Some(*id)) {
                session.deadline = session.deadline.min(now + crate::limits::GRAFT_MS);
            }
        }
    }
}
