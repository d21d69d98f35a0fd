//! Talking to a peer: links, and which message may come when.

use super::{CommandError, Effect, Flow, LinkId, LinkRole, Node, Notice};
use bytes::Bytes;

use crate::history::History;
use crate::id::{DomainId, NodeKey};
use crate::sync::message::{Message, PROTOCOL_VERSION, Refusal};
use crate::sync::session::{Pace, Session, SessionInput, SessionState};

impl Node {
    pub(super) fn on_link_up(
        &mut self,
        now: u64,
        link: LinkId,
        peer: NodeKey,
        role: LinkRole,
        out: &mut Vec<Effect>,
    ) {
        let initiator = matches!(role, LinkRole::Initiator { .. });
        let mut session = Session::new(peer, initiator, now);
        if let LinkRole::Initiator { live, request, invite, only_state } = role {
            session.live = live;
            session.request = request;
            session.step(SessionInput::HelloSent);
            let (version, domain, log) = (PROTOCOL_VERSION, self.domain, self.log);
            let hello = session.encode(&Message::Hello { version, domain, log, live, invite });
            out.push(Effect::Send { link, bytes: hello });
            self.sessions.insert(link, session);
            self.introduce(link);
            if only_state && self.dag.is_none() {
                self.ask_state(now, link, out);
            } else {
                self.send_compare(now, link, out);
            }
        } else {
            self.sessions.insert(link, session);
        }
    }

    /// What was begun gets the time that such a link needs.
    pub(super) fn on_paced(&mut self, now: u64, link: LinkId, pace: Pace) {
        if let Some(session) = self.sessions.get_mut(&link) {
            session.trade.patience = pace.answer_ms();
            session.trade.answer_ms = pace.answer_ms();
            session.deadline = now + pace.answer_ms();
            session.pace = pace;
            if pace.is_slow() {
                session.outgoing.context.set_small();
            }
        }
    }

    pub(super) fn on_link_down(&mut self, link: LinkId, reason: &str, out: &mut Vec<Effect>) {
        let Some(mut session) = self.sessions.remove(&link) else { return };
        session.step(SessionInput::Lost);
        self.forget_link(link, &mut session);
        if let Some(request) = session.request.take() {
            let reply = Err(CommandError::LinkLost(reason.to_owned()));
            out.push(Effect::Reply { request, reply });
        }
    }

    /// Drops what a link brought and was not looked at. What is proven is looked at all the same:
    /// it may hold the signatures over what was taken already.
    pub(super) fn forget_link(&mut self, link: LinkId, session: &mut Session) {
        self.frames.retain(|(of, _)| *of != link);
        self.waiting.forget(link);
        self.forget_trade(link, session);
        self.inbox.extend(session.incoming.rest(link));
    }

    /// Turns a peer away and closes the link.
    pub(super) fn refuse(
        &mut self,
        link: LinkId,
        refusal: Refusal,
        text: String,
        out: &mut Vec<Effect>,
    ) {
        let Some(mut session) = self.sessions.remove(&link) else { return };
        session.step(SessionInput::Refused);
        self.forget_link(link, &mut session);
        let domain = (refusal == Refusal::OtherDomain).then_some(self.domain);
        let told: String = text.chars().take(160).collect();
        let message = Message::Refuse { refusal, text: told, domain };
        out.push(Effect::Send { link, bytes: session.encode(&message) });
        out.push(Effect::Close { link, reason: text.clone() });
        let peer = session.peer;
        if let Some(request) = session.request {
            let reply = Err(CommandError::Refused { refusal, text: text.clone(), domain: None });
            out.push(Effect::Reply { request, reply });
        }
        out.push(Effect::Notify(Notice::PeerRefused { peer, refusal, text }));
    }

    pub(super) fn on_frame<H: History>(
        &mut self,
        now: u64,
        link: LinkId,
        bytes: &Bytes,
        history: &H,
        out: &mut Vec<Effect>,
    ) -> Result<Flow, H::Error> {
        // Answers read the history, which must show what was applied.
        if !self.staged.is_empty() || self.reconsider {
            return Ok(Flow::Blocked);
        }
        if !self.sessions.contains_key(&link) {
            return Ok(Flow::Done);
        }
        let message = match Message::decode_frame(bytes) {
            Ok(message) => message,
            Err(error) => {
                self.refuse(link, Refusal::Misbehaved, error.to_string(), out);
                return Ok(Flow::Done);
            }
        };
        if !self.is_in_turn(link, &message) {
            let text = "a message that does not fit the state of the session".to_owned();
            self.refuse(link, Refusal::Misbehaved, text, out);
            return Ok(Flow::Done);
        }
        self.on_message(now, link, message, history, out)
    }

    /// Which messages a state allows. Late ones of a finished round are allowed; they are ignored.
    fn is_in_turn(&self, link: LinkId, message: &Message) -> bool {
        let Some(session) = self.sessions.get(&link) else { return false };
        match (session.state, message) {
            (SessionState::Linked, Message::Hello { .. }) => !session.initiator,
            (SessionState::Linked | SessionState::Closed, _) => false,
            (SessionState::ExpectWelcome, Message::Welcome | Message::Refuse { .. }) => true,
            (SessionState::ExpectWelcome, _) => false,
            (_, Message::Hello { .. }) => false,
            (_, Message::Welcome) => false,
            (_, Message::Compare { .. } | Message::MoreSymbols { .. } | Message::Level { .. }) => {
                !session.initiator
            }
            (_, Message::Same { .. } | Message::Differs { .. } | Message::Symbols { .. }) => {
                session.initiator
            }
            _ => true,
        }
    }

    fn on_message<H: History>(
        &mut self,
        now: u64,
        link: LinkId,
        message: Message,
        history: &H,
        out: &mut Vec<Effect>,
    ) -> Result<Flow, H::Error> {
        // Only the next frame of the same stream can be unpacked before this one is taken.
        let goes_on = matches!(message, Message::Events { live: false, .. });
        if !goes_on && self.settle(now, link, out) {
            return Ok(Flow::Blocked);
        }
        match message {
            Message::Hello { version, domain, log, live, invite } => {
                let wanted = (domain, log);
                return self.on_hello(now, link, version, wanted, live, invite, history, out);
            }
            Message::Welcome => {
                if let Some(session) = self.sessions.get_mut(&link) {
                    session.step(SessionInput::Welcomed);
                    self.transfers.stir(link);
                    out.push(Effect::Notify(Notice::PeerUp {
                        peer: session.peer,
                        link,
                        live: session.live,
                    }));
                }
            }
            Message::Refuse { refusal, text, domain } => {
                self.on_refused(link, refusal, text, domain, out);
            }
            Message::Compare { round, attempt, digest, count, met } => {
                self.on_compare(now, link, round, attempt, digest, count, met, out);
            }
            Message::Same { round } => self.on_same(now, link, round, out),
            Message::Differs { round, digest, count, view } => {
                self.on_differs(now, link, round, digest, count, view, history, out)?;
            }
            Message::MoreSymbols { round, start, count } => {
                self.on_more_symbols(link, round, start, count, out);
            }
            Message::Symbols { round, bytes } => {
                self.on_symbols(now, link, round, &bytes, history, out)?;
            }
            Message::Want { round, plain, wanted } => {
                self.on_want(now, link, round, plain, wanted, history, out)?;
            }
            Message::Events { index, restart, live, packed } => {
                self.on_events(now, link, index, restart, live, &packed, history, out);
            }
            Message::End { round, digest } => {
                if self.finish_stream(link, round) {
                    // Look at it again when that is applied.
                    return Ok(Flow::Blocked);
                }
                if let Some(session) = self.sessions.get_mut(&link)
                    && session.round == round
                {
                    session.incoming.end = Some(digest);
                }
                self.pump(now, link, history, out)?;
                self.conclude(now, link, out);
            }
            Message::Ask { ask, keys } => self.on_ask(now, link, ask, keys, history, out)?,
            Message::Offer { ask, entries } => self.on_offer(now, link, ask, &entries),
            Message::Get { key, groups } => {
                self.on_get(now, link, key, groups, out);
                self.pump(now, link, history, out)?;
            }
            Message::Part { key, size, groups, bytes } => {
                self.on_part(now, link, key, size, groups, bytes, out);
            }
            Message::Lack { key } => self.on_lack(now, link, &key),
            Message::Idle => {
                if let Some(session) = self.sessions.get_mut(&link) {
                    session.trade.peer_busy = false;
                }
            }
            Message::AskState => self.on_ask_state(link, out),
            Message::State(offer) => self.on_state(now, link, offer, history, out)?,
            Message::Level { round, digest } => self.on_level(now, link, round, digest, out),
            Message::Tips(items) => self.on_tips(now, link, items),
            Message::Prune => self.set_eager(link, false),
            Message::Graft => self.set_eager(link, true),
            Message::Poke { plain } => {
                if let Some(session) = self.sessions.get_mut(&link) {
                    session.has.plain |= plain;
                    session.outgoing.restart = true;
                    session.deadline = session.deadline.min(now);
                }
            }
        }
        Ok(Flow::Done)
    }

    fn on_refused(
        &mut self,
        link: LinkId,
        refusal: Refusal,
        text: String,
        domain: Option<DomainId>,
        out: &mut Vec<Effect>,
    ) {
        let Some(mut session) = self.sessions.remove(&link) else { return };
        session.step(SessionInput::Refused);
        self.forget_link(link, &mut session);
        if let Some(request) = session.request {
            let reply = Err(CommandError::Refused { refusal, text: text.clone(), domain });
            out.push(Effect::Reply { request, reply });
        }
        out.push(Effect::Close { link, reason: format!("turned away: {text}") });
        out.push(Effect::Notify(Notice::PeerRefused { peer: session.peer, refusal, text }));
    }
}
