//! Answering what peers ask for, and the end of sessions that do not stay.

use std::ops::Range;

use crate::history::History;
use crate::id::ArtifactId;
use crate::limits::{ASKED_REMEMBERED_MAX, PARTS_OWED_MAX};
use crate::node::{Effect, LinkId, Node, Reply};
use crate::sync::message::{Message, Refusal};
use crate::sync::session::SessionState;
use crate::sync::trade::Trade;

impl Node {
    pub(in crate::node) fn on_ask<H: History>(
        &mut self,
        now: u64,
        link: LinkId,
        ask: u32,
        keys: Vec<ArtifactId>,
        history: &H,
        out: &mut Vec<Effect>,
    ) -> Result<(), H::Error> {
        let Some(session) = self.sessions.get_mut(&link) else { return Ok(()) };
        session.trade.peer_busy = session.initiator && !session.live;
        session.trade.moved(now);
        if self.may_trade(link) {
            return self.answer(link, ask, &keys, history, out);
        }
        let Some(session) = self.sessions.get_mut(&link) else { return Ok(()) };
        let stranger =
            self.dag.as_ref().is_none_or(|dag| dag.authority().is_stranger(&session.peer));
        if session.initiator && stranger {
            // This side may not have heard yet that the peer is a member.
            session.trade.held_ask = Some((ask, keys));
        } else {
            self.refuse_stranger(link, out);
        }
        Ok(())
    }

    /// Says what is held of what a peer asked for, and remembers the rest.
    fn answer<H: History>(
        &mut self,
        link: LinkId,
        ask: u32,
        keys: &[ArtifactId],
        history: &H,
        out: &mut Vec<Effect>,
    ) -> Result<(), H::Error> {
        let Some(session) = self.sessions.get_mut(&link).filter(|_| !keys.is_empty()) else {
            return Ok(());
        };
        let mut entries = Vec::new();
        for key in keys {
            match history.artifact_size(key)? {
                Some(size) => entries.push((*key, size)),
                None if session.trade.lacked.len() < ASKED_REMEMBERED_MAX => {
                    session.trade.lacked.insert(*key);
                }
                None => {}
            }
        }
        let message = Message::Offer { ask, entries };
        out.push(Effect::Send { link, bytes: session.encode(&message) });
        Ok(())
    }

    pub(in crate::node) fn on_get(
        &mut self,
        now: u64,
        link: LinkId,
        key: ArtifactId,
        groups: Range<u64>,
        out: &mut Vec<Effect>,
    ) {
        if !self.may_trade(link) {
            return self.refuse_stranger(link, out);
        }
        let Some(session) = self.sessions.get_mut(&link) else { return };
        session.trade.moved(now);
        if session.trade.owed.len() >= PARTS_OWED_MAX {
            let text = format!("more than {PARTS_OWED_MAX} parts asked for at once, of {key}");
            return self.refuse(link, Refusal::Misbehaved, text, out);
        }
        session.trade.owed.push_back((key, groups));
    }

    /// Sends a part that the peer asked for. Answers whether anything was sent.
    pub(in crate::node) fn send_part<H: History>(
        &mut self,
        now: u64,
        link: LinkId,
        history: &H,
        out: &mut Vec<Effect>,
    ) -> Result<bool, H::Error> {
        let Some(session) = self.sessions.get_mut(&link) else { return Ok(false) };
        let Some((key, groups)) = session.trade.owed.pop_front() else { return Ok(false) };
        session.trade.moved(now);
        let bytes = match history.artifact_part(&key, groups.clone())? {
            Some((size, bytes)) => session.encode_part(&key, size, &groups, &bytes),
            None => {
                // One answer for all that it asked of this artifact.
                session.trade.owed.retain(|(of, _)| *of != key);
                if session.trade.lacked.len() < ASKED_REMEMBERED_MAX {
                    session.trade.lacked.insert(key);
                }
                session.encode(&Message::Lack { key })
            }
        };
        out.push(Effect::Send { link, bytes });
        Ok(true)
    }

    /// The responder of a session that does not stay asks before it answers a comparison: if it says
    /// nothing, the initiator need not wait for it.
    pub(in crate::node) fn ask_early(
        &mut self,
        now: u64,
        link: LinkId,
        differs: bool,
        out: &mut Vec<Effect>,
    ) {
        if !self.may_trade(link) {
            return;
        }
        self.ask(now, link, out);
        let Some(session) = self.sessions.get_mut(&link) else { return };
        let may_want = differs && self.transfers.await_wants;
        if may_want && !session.live && !session.trade.said_busy {
            session.trade.said_busy = true;
            session.trade.asks = session.trade.asks.wrapping_add(1).max(1);
            let message = Message::Ask { ask: session.trade.asks, keys: Vec::new() };
            out.push(Effect::Send { link, bytes: session.encode(&message) });
        }
    }

    /// Sessions that do not stay end when nothing moves over them any more.
    pub(super) fn part_ways<H: History>(
        &mut self,
        history: &H,
        out: &mut Vec<Effect>,
    ) -> Result<(), H::Error> {
        let concerns =
            |trade: &Trade| trade.leaving.is_some() || trade.said_busy || trade.held_ask.is_some();
        let concerned = self.sessions.iter().filter(|(_, session)| concerns(&session.trade));
        for link in concerned.map(|(link, _)| *link).collect::<Vec<_>>() {
            if self.may_trade(link)
                && let Some(session) = self.sessions.get_mut(&link)
                && let Some((ask, keys)) = session.trade.held_ask.take()
            {
                self.answer(link, ask, &keys, history, out)?;
            }
            let Some(session) = self.sessions.get_mut(&link) else { continue };
            let quiet = session.state == SessionState::Level && session.trade.is_quiet();
            if session.trade.said_busy && quiet {
                session.trade.said_busy = false;
                out.push(Effect::Send { link, bytes: session.encode(&Message::Idle) });
            }
            self.leave_if_done(link, out);
        }
        Ok(())
    }

    /// The initiator of a session that does not stay leaves when neither side wants anything.
    pub(in crate::node) fn leave_if_done(&mut self, link: LinkId, out: &mut Vec<Effect>) {
        let Some(session) = self.sessions.get(&link) else { return };
        let trade = &session.trade;
        let done = trade.is_quiet() && !trade.peer_busy && trade.owed.is_empty();
        if trade.leaving.is_some() && done {
            self.leave(link, out);
        }
    }

    /// Answers the request that waits for a session that does not stay, and closes it.
    pub(super) fn leave(&mut self, link: LinkId, out: &mut Vec<Effect>) {
        let Some(mut session) = self.sessions.remove(&link) else { return };
        let equal = session.trade.leaving.is_some_and(|leaving| leaving.equal);
        self.forget_trade(link, &mut session);
        let traffic = session.traffic;
        if let Some(request) = session.request.take() {
            out.push(Effect::Reply { request, reply: Ok(Reply::Synced { traffic, equal }) });
        }
        out.push(Effect::Close { link, reason: "done".to_owned() });
    }
}
