//! Streaming events: what was asked for first, then new ones as they come.

use std::cell::Cell;
use std::ops::Range;

use super::proof::with_proofs;
use super::refs::{Here, Known};
use super::{Effect, LinkId, Node};
use crate::codec::pack::{self, Context, PackError};
use crate::dag::Dag;
use crate::event::{Event, Log};
use crate::history::{History, Ordinal};
use crate::id::EventId;
use crate::limits::{
    FRAME_EVENTS_MAX, FRAME_PAYLOAD_BYTES, GRAFT_MS, SEND_WINDOW_BYTES, TIPS_MS, UNSIGNED_BYTES_MAX,
};
use crate::sketch::Item;
use crate::sync::check::{Checking, Wrong, wrong_of};
use crate::sync::frontier::{EndItem, Frontier};
use crate::sync::message::{ENDS_MAX, Message, Range as WantRange, Refusal, Wanted};
use crate::sync::session::SessionState;

/// Duplicates among live events after which a peer is asked to stop pushing them.
const PRUNE_AFTER: u64 = 8;
/// How often a session may send wrong signatures over references before it counts as a lie. Every
/// time the events are asked for again with ids in full.
const SPOILT_MAX: u8 = 4;

impl Node {
    pub(super) fn on_writable<H: History>(
        &mut self,
        now: u64,
        link: LinkId,
        written: u64,
        history: &H,
        out: &mut Vec<Effect>,
    ) -> Result<(), H::Error> {
        if let Some(session) = self.sessions.get_mut(&link) {
            session.outgoing.written = written.min(session.traffic.bytes_sent);
        }
        self.pump(now, link, history, out)?;
        self.conclude(now, link, out);
        Ok(())
    }

    /// After a commit: new events go to all peers that want them.
    pub(super) fn push_live<H: History>(
        &mut self,
        now: u64,
        history: &H,
        out: &mut Vec<Effect>,
    ) -> Result<(), H::Error> {
        let links: Vec<LinkId> = self.sessions.keys().copied().collect();
        for link in links {
            self.pump(now, link, history, out)?;
        }
        Ok(())
    }

    /// Sends as much as the link takes: first what was asked for, then the end of the round, then
    /// what is new; parts of artifacts only when there is nothing of all that.
    pub(super) fn pump<H: History>(
        &mut self,
        now: u64,
        link: LinkId,
        history: &H,
        out: &mut Vec<Effect>,
    ) -> Result<(), H::Error> {
        if !self.staged.is_empty() || self.reconsider {
            return Ok(());
        }
        loop {
            let Some(session) = self.sessions.get_mut(&link).filter(|s| s.is_open()) else {
                return Ok(());
            };
            if session.unwritten() >= SEND_WINDOW_BYTES as u64 {
                return Ok(());
            }
            if let Some(stretch) = session.outgoing.cargo.next(FRAME_EVENTS_MAX) {
                self.send_events(link, stretch, false, history, out)?;
            } else if session.outgoing.owes_end {
                if session.initiator || session.incoming.end.is_some() {
                    self.send_end(link, out);
                } else if !self.send_part(now, link, history, out)? {
                    return Ok(());
                }
            } else if !self.push_new(now, link, history, out)?
                && !self.send_part(now, link, history, out)?
            {
                return Ok(());
            }
        }
    }

    fn send_end(&mut self, link: LinkId, out: &mut Vec<Effect>) {
        let digest = self.digest();
        let Some(session) = self.sessions.get_mut(&link) else { return };
        session.outgoing.owes_end = false;
        session.has.above.clear();
        session.has.below = session.view_at;
        let round = session.round;
        out.push(Effect::Send { link, bytes: session.encode(&Message::End { round, digest }) });
    }

    /// Pushes or announces new events. Answers whether anything was done.
    fn push_new<H: History>(
        &mut self,
        now: u64,
        link: LinkId,
        history: &H,
        out: &mut Vec<Effect>,
    ) -> Result<bool, H::Error> {
        let Some(dag) = &self.dag else { return Ok(false) };
        let held = dag.held().min(history.count(self.log));
        let Some(session) = self.sessions.get_mut(&link) else { return Ok(false) };
        let Some(from) = session.outgoing.live_from.filter(|from| *from < held) else {
            return Ok(false);
        };
        if session.outgoing.eager {
            session.prune_received(from);
            if let Some(past) = session.received_up_to(from) {
                // It all came from there.
                session.outgoing.live_from = Some(past.min(held));
                session.has.below = session.has.below.max(past.min(held));
                return Ok(true);
            }
            let stretch = from..held.min(from + FRAME_EVENTS_MAX as u64);
            session.outgoing.live_from = Some(stretch.end);
            self.send_events(link, stretch, true, history, out)?;
            return Ok(true);
        }
        if now < session.outgoing.tips_not_before {
            return Ok(false);
        }
        session.outgoing.tips_not_before = now + TIPS_MS;
        session.outgoing.live_from = Some(held);
        let ends = dag.ends();
        let fresh = ends.iter().filter(|e| e.ordinal >= from && !session.came_from_peer(e.ordinal));
        let items: Vec<Item> = fresh.map(|end| self.frontier.item(end)).collect();
        session.prune_received(held);
        if !items.is_empty() {
            out.push(Effect::Send { link, bytes: session.encode(&Message::Tips(items)) });
        }
        Ok(true)
    }

    /// Packs a stretch of events into one frame.
    fn send_events<H: History>(
        &mut self,
        link: LinkId,
        stretch: Range<Ordinal>,
        live: bool,
        history: &H,
        out: &mut Vec<Effect>,
    ) -> Result<(), H::Error> {
        let (Some(dag), Some(session)) = (&mut self.dag, self.sessions.get_mut(&link)) else {
            return Ok(());
        };
        self.frontier.refresh(dag);
        let mut events = events_of(self.log, history, &stretch)?;
        let fitting = fitting(&events);
        events.truncate(fitting);
        let next = stretch.start + fitting as u64;
        if next < stretch.end {
            if live {
                session.outgoing.live_from = Some(next);
            } else {
                session.outgoing.cargo.give_back(next, &stretch);
            }
        }
        let mut ordinal = stretch.start;
        events.retain(|event| {
            let skip = dag.is_quarantined(&event.id) || (live && session.came_from_peer(ordinal));
            ordinal += 1;
            !skip
        });
        if events.is_empty() {
            return Ok(());
        }
        let events = with_proofs(events, dag, &self.key, history, live)?;
        if events.is_empty() {
            return Ok(());
        }
        if session.outgoing.restart || live {
            session.begin_stream();
        }
        let has = &session.has;
        let known = Known { dag, frontier: &self.frontier, history, has };
        let packed = pack::encode(&events, &mut session.outgoing.context, &known);
        if live {
            // What was pushed or came from there counts as held there from now on.
            session.has.below = session.has.below.max(next);
        }
        let restart = std::mem::replace(&mut session.outgoing.restart, live) || live;
        let index = session.outgoing.index;
        session.outgoing.index = index.wrapping_add(1);
        session.traffic.sent_events += events.len() as u64;
        let message = Message::Events { index, restart, live, packed };
        out.push(Effect::Send { link, bytes: session.encode(&message) });
        Ok(())
    }

    #[expect(clippy::too_many_arguments, reason = "the fields of one message")]
    pub(super) fn on_events<H: History>(
        &mut self,
        now: u64,
        link: LinkId,
        index: u32,
        restart: bool,
        live: bool,
        packed: &[u8],
        history: &H,
        out: &mut Vec<Effect>,
    ) {
        if live {
            self.prune_if_redundant(link, out);
        }
        if let Some(dag) = &mut self.dag {
            self.frontier.refresh(dag);
        }
        let Some(session) = self.sessions.get_mut(&link) else { return };
        let in_order = index == session.incoming.index;
        if !restart && (!in_order || session.incoming.broken) {
            session.incoming.broken = true;
            self.poke(now, link, false, out);
            return;
        }
        session.incoming.index = index.wrapping_add(1);
        session.incoming.broken = false;
        if restart {
            session.incoming.context = Context::reader().of_sync();
            if !live {
                // All that is lacking comes again, with what waited for signatures.
                session.incoming.referred = false;
                self.inbox.extend(session.incoming.rest(link));
            }
        }
        let referred = Cell::new(session.incoming.referred);
        let here = Here { dag: self.dag.as_ref(), frontier: &self.frontier, history, referred };
        let context = &mut session.incoming.context;
        let events = pack::decode(packed, context, &here, &self.domain);
        session.incoming.referred = here.referred.get();
        match events {
            Ok(events) => self.take_events(now, link, live, events, out),
            Err(PackError::Unresolved(_)) => self.ask_plain(now, link, out),
            Err(error) => self.refuse(link, Refusal::Misbehaved, error.to_string(), out),
        }
    }

    /// Takes unpacked events. Their signatures may be checked while the next frame is unpacked: then
    /// [`Self::settle`] takes them.
    fn take_events(
        &mut self,
        now: u64,
        link: LinkId,
        live: bool,
        events: Vec<Event>,
        out: &mut Vec<Effect>,
    ) {
        self.settle(now, link, out);
        // The next live frame may refer to what is in this one.
        let started = if live { Err(events) } else { Checking::start(events) };
        match started {
            Ok(checking) => {
                if let Some(session) = self.sessions.get_mut(&link) {
                    session.incoming.checking = Some(checking);
                }
            }
            Err(events) => {
                let wrong = wrong_of(&events);
                self.take_checked(now, link, events, wrong, out);
            }
        }
    }

    /// Takes the frame whose signatures are being checked, if there is one. Answers whether there
    /// was.
    pub(super) fn settle(&mut self, now: u64, link: LinkId, out: &mut Vec<Effect>) -> bool {
        let session = self.sessions.get_mut(&link);
        let Some(checking) = session.and_then(|session| session.incoming.checking.take()) else {
            return false;
        };
        let (events, wrong) = checking.finish();
        self.take_checked(now, link, events, wrong, out);
        true
    }

    /// Takes what is being checked on all links.
    pub(super) fn settle_all(&mut self, now: u64, out: &mut Vec<Effect>) {
        for link in self.sessions.keys().copied().collect::<Vec<_>>() {
            self.settle(now, link, out);
        }
    }

    fn take_checked(
        &mut self,
        now: u64,
        link: LinkId,
        events: Vec<Event>,
        wrong: Wrong,
        out: &mut Vec<Effect>,
    ) {
        let Some(session) = self.sessions.get_mut(&link) else { return };
        let dag = self.dag.as_ref();
        let is_held = |id: &EventId| dag.is_some_and(|dag| dag.is_recent(id));
        let pushed = session.incoming.unsigned.push_frame(events, wrong, is_held);
        if let Err(error) = &pushed {
            if session.incoming.referred && session.incoming.spoilt < SPOILT_MAX {
                // Where an author forked, a reference may mean another event here than there.
                session.incoming.spoilt += 1;
                self.ask_plain(now, link, out);
            } else {
                self.refuse(link, Refusal::Misbehaved, error.to_string(), out);
            }
            return;
        }
        session.traffic.duplicate_events += pushed.unwrap_or_default();
        while let Some(event) = session.incoming.unsigned.pop() {
            self.inbox.push_back((Some(link), event));
        }
        session.incoming.referred &= !session.incoming.unsigned.is_empty();
        self.bound_unsigned(link, out);
    }

    /// However many peers there are, what waits for signatures stays below one limit.
    fn bound_unsigned(&mut self, link: LinkId, out: &mut Vec<Effect>) {
        let waiting = self.sessions.values().map(|s| s.incoming.unsigned.bytes()).sum::<usize>();
        if waiting > UNSIGNED_BYTES_MAX {
            let text = "too many events wait for signatures here".to_owned();
            self.refuse(link, Refusal::Busy, text, out);
        }
    }

    /// A peer has sent all of a round: what waits behind events that no signature came for is taken.
    /// Answers whether there was anything.
    pub(super) fn finish_stream(&mut self, link: LinkId, round: u32) -> bool {
        let Some(session) = self.sessions.get_mut(&link).filter(|s| s.round == round) else {
            return false;
        };
        let rest = session.incoming.rest(link);
        let before = self.inbox.len();
        self.inbox.extend(rest);
        self.inbox.len() > before
    }

    /// References could not be resolved: the events are to come again with ids in full.
    fn ask_plain(&mut self, now: u64, link: LinkId, out: &mut Vec<Effect>) {
        let Some(session) = self.sessions.get_mut(&link) else { return };
        session.incoming.broken = true;
        session.plain = true;
        self.poke(now, link, true, out);
    }

    /// Something was lost or could not be read: the initiator is to compare again.
    fn poke(&mut self, now: u64, link: LinkId, plain: bool, out: &mut Vec<Effect>) {
        let Some(session) = self.sessions.get_mut(&link) else { return };
        self.inbox.extend(session.incoming.rest(link));
        if session.initiator {
            session.deadline = session.deadline.min(now + TIPS_MS);
            if !plain {
                return;
            }
        }
        out.push(Effect::Send { link, bytes: session.encode(&Message::Poke { plain }) });
    }

    /// Asks a peer whose live events came from elsewhere before to stop pushing them
    /// (PlumTree; Leitão, Pereira, Rodrigues 2007).
    fn prune_if_redundant(&mut self, link: LinkId, out: &mut Vec<Effect>) {
        let others = self.sessions.values().filter(|s| s.state == SessionState::Level).count();
        let Some(session) = self.sessions.get_mut(&link) else { return };
        let traffic = &session.traffic;
        let duplicates = traffic.duplicate_events - session.duplicates_seen;
        let fresh = traffic.received_events - session.fresh_seen;
        if duplicates + fresh < PRUNE_AFTER {
            return;
        }
        let prune = duplicates >= fresh && others > 1;
        if prune {
            out.push(Effect::Send { link, bytes: session.encode(&Message::Prune) });
        }
        // One at a time: what the others bring is judged again without this one.
        let judged = self.sessions.iter_mut().filter(|(id, _)| prune || **id == link);
        for (_, session) in judged {
            (session.duplicates_seen, session.fresh_seen) =
                (session.traffic.duplicate_events, session.traffic.received_events);
        }
    }

    pub(super) fn set_eager(&mut self, link: LinkId, eager: bool) {
        if let Some(session) = self.sessions.get_mut(&link) {
            session.outgoing.eager = eager;
        }
    }

    /// A peer announced feed ends. They may be on their way from elsewhere: look again later.
    pub(super) fn on_tips(&mut self, now: u64, link: LinkId, items: Vec<Item>) {
        let Some(session) = self.sessions.get_mut(&link) else { return };
        match &mut session.incoming.graft {
            Some((_, waiting)) => {
                // What does not fit is found by the next comparison.
                let room = ENDS_MAX.saturating_sub(waiting.len());
                waiting.extend(items.into_iter().take(room));
            }
            None => session.incoming.graft = Some((now + GRAFT_MS, items)),
        }
    }

    /// Announced ends that did not arrive are asked for, and the peer pushes again.
    pub(super) fn graft_if_due<H: History>(
        &mut self,
        now: u64,
        link: LinkId,
        history: &H,
        out: &mut Vec<Effect>,
    ) -> Result<(), H::Error> {
        let Some(session) = self.sessions.get_mut(&link) else { return Ok(()) };
        if session.incoming.graft.as_ref().is_none_or(|(at, _)| now < *at) {
            return Ok(());
        }
        let items = session.incoming.graft.take().map(|(_, items)| items).unwrap_or_default();
        let Some(dag) = &mut self.dag else { return Ok(()) };
        self.frontier.refresh(dag);
        let mut ranges: Vec<WantRange> = Vec::new();
        for item in &items {
            let end = EndItem::of(item);
            if let Some(above) = lacking_above(dag, &self.frontier, history, &end)? {
                let range = WantRange { author: end.author, above };
                if !ranges.contains(&range) {
                    ranges.push(range);
                }
            }
        }
        if !ranges.is_empty() {
            let wanted = Wanted::Ranges(ranges);
            let want = Message::Want { round: 0, plain: false, wanted };
            for message in [want, Message::Graft] {
                out.push(Effect::Send { link, bytes: session.encode(&message) });
            }
        }
        Ok(())
    }
}

/// If an announced end is not held: from where on its feed is lacking.
fn lacking_above<H: History>(
    dag: &Dag,
    frontier: &Frontier,
    history: &H,
    end: &EndItem,
) -> Result<Option<u64>, H::Error> {
    let authors = frontier.authors_with(&end.author);
    let mut above = Some(0);
    for author in authors {
        let own = dag.own_end(author).map_or(0, |end| end.seq);
        let seq = end.seq_near(own);
        let mut held = false;
        for (_, ordinal) in history.feed(dag.log(), author, seq..seq + 1)? {
            held |= end.fits(&history.id(dag.log(), ordinal)?);
        }
        above = (!held).then_some(own.min(seq.saturating_sub(1)));
    }
    Ok(above)
}

/// What a link takes at most.
const LINK_BYTES: usize = 32;

/// The events of a stretch, or at least as many as fit into a frame.
fn events_of<H: History>(
    log: Log,
    history: &H,
    stretch: &Range<Ordinal>,
) -> Result<Vec<Event>, H::Error> {
    let mut events = history.events(log, stretch.clone())?;
    while fitting(&events) == events.len() {
        let next = stretch.start + events.len() as u64;
        if next >= stretch.end {
            break;
        }
        events.extend(history.events(log, next..stretch.end)?);
    }
    Ok(events)
}

/// How many of the events fit into one frame.
fn fitting(events: &[Event]) -> usize {
    let mut bytes = 0;
    let fits = events.iter().take_while(|event| {
        let links = event.header.parents.len() * LINK_BYTES;
        bytes += links + event.payload.as_ref().map_or(0, bytes::Bytes::len);
        bytes <= FRAME_PAYLOAD_BYTES
    });
    fits.count().max(1).min(events.len())
}
