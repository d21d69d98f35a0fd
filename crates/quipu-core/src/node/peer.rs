//! Talking to a peer: who it is, what it may see, and how the two compare.

use ed25519_dalek::{Signature, VerifyingKey};

use super::local::Written;
use super::{CommandError, Effect, Flow, LinkId, LinkRole, Met, Node, Notice, Reply};
use crate::dag::Dag;
use crate::domain::Decision;
use crate::event::Log;
use crate::history::{History, Ordinal};
use crate::id::{DomainId, LogDigest, NodeKey};
use crate::limits::{ANSWER_MS, ATTEMPTS_MAX, COMPARE_MS, ENDS_LISTED_MAX, SYMBOLS_FIRST};
use crate::sketch::{Decoder, Item, decode_symbols, encode_symbols};
use crate::sync::message::{
    ENDS_MAX, InviteProof, Message, PROTOCOL_VERSION, RANGES_MAX, Refusal, View, Wanted,
    invite_message,
};
use crate::sync::plan::{Cargo, Difference, outlook};
use crate::sync::session::{PeerHas, Session, SessionInput, SessionState};

/// From this attempt on all feed ends are listed, however many: the sketch failed too often.
const ATTEMPT_LISTED: u8 = 2;
/// The most symbols taken before the ends are asked for as a list.
const SYMBOLS_TAKEN_MAX: usize = 1 << 15;

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
        if let LinkRole::Initiator { live, request, invite } = role {
            session.live = live;
            session.request = request;
            session.step(SessionInput::HelloSent);
            let (version, domain) = (PROTOCOL_VERSION, self.domain);
            let hello = session.encode(&Message::Hello { version, domain, live, invite });
            out.push(Effect::Send { link, bytes: hello });
            self.sessions.insert(link, session);
            self.send_compare(now, link, out);
        } else {
            self.sessions.insert(link, session);
        }
    }

    pub(super) fn on_link_down(&mut self, link: LinkId, reason: &str, out: &mut Vec<Effect>) {
        let Some(mut session) = self.sessions.remove(&link) else { return };
        session.step(SessionInput::Lost);
        self.frames.retain(|(of, _)| *of != link);
        self.waiting.forget(link);
        if let Some(request) = session.request.take() {
            let reply = Err(CommandError::LinkLost(reason.to_owned()));
            out.push(Effect::Reply { request, reply });
        }
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
        self.frames.retain(|(of, _)| *of != link);
        self.waiting.forget(link);
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

    /// After a change of membership: whoever is no longer a member is turned away.
    pub(super) fn check_access(&mut self, out: &mut Vec<Effect>) {
        let Some(dag) = &self.dag else { return };
        let gone = |session: &Session| {
            let authority = dag.authority();
            session.is_open()
                && authority.role(&session.peer).is_none()
                && !(session.initiator && authority.is_stranger(&session.peer))
        };
        let links: Vec<LinkId> =
            self.sessions.iter().filter(|(_, s)| gone(s)).map(|(link, _)| *link).collect();
        for link in links {
            self.refuse_stranger(link, out);
        }
    }

    /// Whether what this machine holds may be shown to the peer. A machine that holds nothing yet has
    /// nothing to show.
    fn peer_is_member(&self, link: LinkId) -> bool {
        let (Some(session), Some(dag)) = (self.sessions.get(&link), &self.dag) else { return true };
        dag.authority().role(&session.peer).is_some()
    }

    fn refuse_stranger(&mut self, link: LinkId, out: &mut Vec<Effect>) {
        let Some(session) = self.sessions.get(&link) else { return };
        let text = format!("{} is not a member of domain {}", session.peer, self.domain);
        self.refuse(link, Refusal::NotMember, text, out);
    }

    pub(super) fn on_frame<H: History>(
        &mut self,
        now: u64,
        link: LinkId,
        bytes: &[u8],
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
        let message = match Message::decode(bytes) {
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
        match message {
            Message::Hello { version, domain, live, invite } => {
                return self.on_hello(now, link, version, domain, live, invite, history, out);
            }
            Message::Welcome => {
                if let Some(session) = self.sessions.get_mut(&link) {
                    session.step(SessionInput::Welcomed);
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
            Message::Level { round, digest } => self.on_level(link, round, digest, out),
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

    #[expect(clippy::too_many_arguments, reason = "the fields of one message")]
    fn on_hello<H: History>(
        &mut self,
        now: u64,
        link: LinkId,
        version: u8,
        domain: DomainId,
        live: bool,
        invite: Option<InviteProof>,
        history: &H,
        out: &mut Vec<Effect>,
    ) -> Result<Flow, H::Error> {
        let Some(peer) = self.sessions.get(&link).map(|session| session.peer) else {
            return Ok(Flow::Done);
        };
        let turned_away = if version != PROTOCOL_VERSION {
            let text = format!("protocol version {version} here, {PROTOCOL_VERSION} there");
            Some((Refusal::Version, text))
        } else if domain != self.domain {
            let text = format!("this machine holds domain {}, not {domain}", self.domain);
            Some((Refusal::OtherDomain, text))
        } else {
            match &self.dag {
                None => Some((Refusal::Busy, "this machine is itself still joining".to_owned())),
                Some(dag) if dag.authority().role(&peer).is_some() => None,
                Some(_) => match self.admit(now, peer, invite, history, out)? {
                    Admission::Done => None,
                    Admission::Blocked => return Ok(Flow::Blocked),
                    Admission::Refused(refusal, text) => Some((refusal, text)),
                },
            }
        };
        if let Some((refusal, text)) = turned_away {
            self.refuse(link, refusal, text, out);
            return Ok(Flow::Done);
        }
        if let Some(session) = self.sessions.get_mut(&link) {
            session.live = live;
            session.step(SessionInput::HelloAccepted);
            out.push(Effect::Send { link, bytes: session.encode(&Message::Welcome) });
            out.push(Effect::Notify(Notice::PeerUp { peer, link, live }));
        }
        Ok(Flow::Done)
    }

    /// Makes a newcomer with a valid invitation a member.
    fn admit<H: History>(
        &mut self,
        now: u64,
        peer: NodeKey,
        invite: Option<InviteProof>,
        history: &H,
        out: &mut Vec<Effect>,
    ) -> Result<Admission, H::Error> {
        let Some(dag) = &self.dag else { return Ok(Admission::Blocked) };
        let Some(proof) = invite else {
            let text = format!("{peer} is not a member of domain {}", self.domain);
            return Ok(Admission::Refused(Refusal::NotMember, text));
        };
        let refused = |text: &str| Ok(Admission::Refused(Refusal::Invitation, text.to_owned()));
        if !proof_is_valid(&self.domain, &peer, &proof) {
            return refused("the invitation's signature is wrong");
        }
        let Some(invitation) = dag.authority().open_invitation(history, &proof.key)? else {
            return refused("the invitation is unknown here, or used up");
        };
        if invitation.expires_ms < now {
            return refused("the invitation has expired");
        }
        if dag.authority().role(&self.node) != Some(crate::domain::Role::Admin) {
            let text = "only an admin's machine can let a newcomer in".to_owned();
            return Ok(Admission::Refused(Refusal::NotAdmin, text));
        }
        let decision = Decision::Add { node: peer, role: invitation.role, invite: Some(proof.key) };
        let draft = self.draft_of(&decision);
        Ok(match self.write(now, draft, history, out)? {
            Written::Done(_) => {
                out.push(Effect::Notify(Notice::Admitted { node: peer }));
                Admission::Done
            }
            Written::Blocked(_) => Admission::Blocked,
            Written::Refused(error) => Admission::Refused(Refusal::Invitation, error.to_string()),
        })
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
        if let Some(request) = session.request {
            let reply = Err(CommandError::Refused { refusal, text: text.clone(), domain });
            out.push(Effect::Reply { request, reply });
        }
        out.push(Effect::Close { link, reason: format!("turned away: {text}") });
        out.push(Effect::Notify(Notice::PeerRefused { peer: session.peer, refusal, text }));
    }

    /// Starts a comparison.
    pub(super) fn send_compare(&mut self, now: u64, link: LinkId, out: &mut Vec<Effect>) {
        let digest = self.digest();
        let count = self.dag.as_ref().map_or(0, Dag::event_count);
        let Some(session) = self.sessions.get_mut(&link) else { return };
        session.round += 1;
        session.incoming.end = None;
        session.decoder = None;
        session.deadline = now + ANSWER_MS;
        session.traffic.round_trips += 1;
        if session.state != SessionState::ExpectWelcome {
            session.step(SessionInput::CompareSent);
        }
        session.met = self.met.get(&session.peer).filter(|_| session.attempt == 0).copied();
        let met = session.met.map(|met| met_prefix(&met.digest));
        let (round, attempt) = (session.round, session.attempt);
        let message = Message::Compare { round, attempt, digest, count, met };
        out.push(Effect::Send { link, bytes: session.encode(&message) });
    }

    #[expect(clippy::too_many_arguments, reason = "the fields of one message")]
    fn on_compare(
        &mut self,
        now: u64,
        link: LinkId,
        round: u32,
        attempt: u8,
        digest: LogDigest,
        count: u64,
        met: Option<[u8; 8]>,
        out: &mut Vec<Effect>,
    ) {
        let own = self.digest();
        let Some(dag) = &mut self.dag else { return };
        self.frontier.refresh(dag);
        let Some(session) = self.sessions.get_mut(&link) else { return };
        session.round = round;
        session.attempt = attempt;
        session.incoming.end = None;
        session.outgoing.owes_end = false;
        session.view_at = dag.held();
        session.deadline = now + COMPARE_MS;
        if own == digest {
            session.step(SessionInput::Same);
            out.push(Effect::Send { link, bytes: session.encode(&Message::Same { round }) });
            self.become_level(link, digest, out);
            return;
        }
        session.step(SessionInput::Differs);
        let known = self.met.get(&session.peer).filter(|own| met == Some(met_prefix(&own.digest)));
        let view = view_of(dag, &self.frontier, known, count, attempt);
        let count = dag.event_count();
        let message = Message::Differs { round, digest: own, count, view };
        out.push(Effect::Send { link, bytes: session.encode(&message) });
    }

    fn on_same(&mut self, now: u64, link: LinkId, round: u32, out: &mut Vec<Effect>) {
        let Some(session) = self.sessions.get_mut(&link).filter(|s| s.expects_view(round)) else {
            return;
        };
        session.step(SessionInput::Same);
        session.deadline = now + COMPARE_MS;
        let digest = self.digest();
        self.become_level(link, digest, out);
    }

    #[expect(clippy::too_many_arguments, reason = "the fields of one message")]
    fn on_differs<H: History>(
        &mut self,
        now: u64,
        link: LinkId,
        round: u32,
        digest: LogDigest,
        count: u64,
        view: View,
        history: &H,
        out: &mut Vec<Effect>,
    ) -> Result<(), H::Error> {
        let held = self.dag.as_ref().map_or(0, Dag::held);
        let Some(session) = self.sessions.get_mut(&link).filter(|s| s.expects_view(round)) else {
            return Ok(());
        };
        session.view_at = held;
        session.deadline = now + ANSWER_MS;
        let Some(dag) = self.dag.as_mut().filter(|_| held > 0) else {
            return self.exchange(now, link, Wanted::Everything, None, history, out);
        };
        self.frontier.refresh(dag);
        if count == 0 {
            let cargo = Some((Cargo::Stretch(0..held), Default::default()));
            let nothing = Wanted::Ranges(Vec::new());
            return self.exchange(now, link, nothing, cargo, history, out);
        }
        let difference = match view {
            View::All(items) => Difference::of(&items, &self.frontier.all(), None),
            View::Changed(items) => {
                let since = session.met.map(|met| met.ordinal);
                let changed = changed_since(dag, &self.frontier, since.unwrap_or(0));
                Difference::of(&items, &changed, since)
            }
            View::Symbols(bytes) => {
                let key = *self.frontier.sketch().key();
                session.decoder = Some((Decoder::new(key, self.frontier.sketch()), digest));
                return self.on_symbols(now, link, round, &bytes, history, out);
            }
        };
        self.on_difference(now, link, &difference, history, out)
    }

    fn on_more_symbols(
        &mut self,
        link: LinkId,
        round: u32,
        start: u32,
        count: u32,
        out: &mut Vec<Effect>,
    ) {
        let Some(session) = self.sessions.get_mut(&link).filter(|s| s.round == round) else {
            return;
        };
        let start = start as usize;
        let end = start.saturating_add(count as usize).min(SYMBOLS_TAKEN_MAX);
        if start >= end {
            return;
        }
        let symbols = self.frontier.symbols(start..end);
        let bytes = encode_symbols(&symbols, start, self.frontier.sketch().set_size());
        out.push(Effect::Send { link, bytes: session.encode(&Message::Symbols { round, bytes }) });
    }

    fn on_symbols<H: History>(
        &mut self,
        now: u64,
        link: LinkId,
        round: u32,
        bytes: &[u8],
        history: &H,
        out: &mut Vec<Effect>,
    ) -> Result<(), H::Error> {
        let Some(session) = self.sessions.get_mut(&link).filter(|s| s.round == round) else {
            return Ok(());
        };
        let Some((mut decoder, digest)) = session.decoder.take() else { return Ok(()) };
        let batch = decode_symbols(bytes, SYMBOLS_TAKEN_MAX);
        let Some(batch) = batch.ok().filter(|batch| batch.start_index == decoder.received()) else {
            self.refuse(link, Refusal::Misbehaved, "malformed sketch".to_owned(), out);
            return Ok(());
        };
        let needed = decoder.received() + batch.symbols.len();
        if needed > decoder.local_symbols() {
            decoder.extend_local(&self.frontier.symbols(decoder.local_symbols()..needed));
        }
        let pushed = decoder.push(&batch.symbols).is_ok();
        if pushed && decoder.is_decoded() {
            let (remote_only, local_only) = decoder.result();
            let difference = Difference { remote_only, local_only, since: None };
            return self.on_difference(now, link, &difference, history, out);
        }
        if !pushed || decoder.is_refused() || decoder.received() >= SYMBOLS_TAKEN_MAX {
            session.attempt = session.attempt.max(ATTEMPT_LISTED);
            self.send_compare(now, link, out);
            return Ok(());
        }
        session.step(SessionInput::Undecoded);
        session.traffic.round_trips += 1;
        let start = decoder.received() as u32;
        let count = (start / 4).max(64);
        session.decoder = Some((decoder, digest));
        let message = Message::MoreSymbols { round, start, count };
        out.push(Effect::Send { link, bytes: session.encode(&message) });
        Ok(())
    }

    fn on_difference<H: History>(
        &mut self,
        now: u64,
        link: LinkId,
        difference: &Difference,
        history: &H,
        out: &mut Vec<Effect>,
    ) -> Result<(), H::Error> {
        let (Some(session), Some(dag)) = (self.sessions.get(&link), &self.dag) else {
            return Ok(());
        };
        let mut outlook = outlook(dag, &self.frontier, history, difference, session.attempt)?;
        outlook.wants.truncate(RANGES_MAX);
        let cargo = Cargo::of_feeds(dag, history, outlook.sends)?;
        let wanted = Wanted::Ranges(outlook.wants);
        self.exchange(now, link, wanted, Some((cargo, outlook.peer_has)), history, out)
    }

    /// The initiator knows the difference: asks for what it lacks and sends what the peer lacks.
    fn exchange<H: History>(
        &mut self,
        now: u64,
        link: LinkId,
        wanted: Wanted,
        cargo: Option<(Cargo, crate::id::IdMap<NodeKey, u64>)>,
        history: &H,
        out: &mut Vec<Effect>,
    ) -> Result<(), H::Error> {
        // An initiator may not have heard yet that the peer is a member: then it takes first.
        let cargo = cargo.filter(|_| self.peer_is_member(link));
        let known = self.dag.is_none() || cargo.is_some();
        let Some(session) = self.sessions.get_mut(&link) else { return Ok(()) };
        session.step(SessionInput::Differs);
        session.traffic.round_trips += 1;
        let (round, plain) = (session.round, session.plain);
        session.plain = false;
        let bytes = session.encode(&Message::Want { round, plain, wanted });
        out.push(Effect::Send { link, bytes });
        let below = session.view_at;
        session.outgoing.live_from = (session.live && known).then_some(below);
        session.outgoing.cargo = Cargo::default();
        session.outgoing.owes_end = true;
        session.outgoing.restart = true;
        let was_plain = session.has.plain;
        session.has = match cargo {
            Some((cargo, above)) => {
                let empty = matches!(cargo, Cargo::Stretch(_));
                session.outgoing.cargo = cargo;
                PeerHas { below: if empty { 0 } else { below }, above, plain: was_plain }
            }
            None => PeerHas { plain: was_plain, ..PeerHas::default() },
        };
        self.pump(now, link, history, out)
    }

    #[expect(clippy::too_many_arguments, reason = "the fields of one message")]
    fn on_want<H: History>(
        &mut self,
        now: u64,
        link: LinkId,
        round: u32,
        plain: bool,
        wanted: Wanted,
        history: &H,
        out: &mut Vec<Effect>,
    ) -> Result<(), H::Error> {
        if !self.peer_is_member(link) {
            self.refuse_stranger(link, out);
            return Ok(());
        }
        let (Some(session), Some(dag)) = (self.sessions.get_mut(&link), &self.dag) else {
            return Ok(());
        };
        if round != 0 && round != session.round {
            return Ok(());
        }
        let held = dag.held();
        let mut has = PeerHas { below: held, plain, ..PeerHas::default() };
        let cargo = match wanted {
            Wanted::Everything => {
                has.below = 0;
                Cargo::Stretch(0..held)
            }
            Wanted::Ranges(ranges) => {
                let mut parts = Vec::new();
                for range in ranges {
                    for author in self.frontier.authors_with(&range.author) {
                        has.above.insert(*author, range.above);
                        parts.push((*author, range.above));
                    }
                }
                Cargo::of_feeds(dag, history, parts)?
            }
        };
        if round == 0 {
            session.outgoing.cargo.add(cargo);
            session.outgoing.eager = true;
        } else {
            session.outgoing.cargo = cargo;
            session.outgoing.owes_end = true;
            session.outgoing.live_from = session.live.then_some(held);
        }
        session.has = has;
        session.outgoing.restart = true;
        self.pump(now, link, history, out)
    }

    /// The initiator, once both ends are said: level, or another round?
    pub(super) fn conclude(&mut self, now: u64, link: LinkId, out: &mut Vec<Effect>) {
        let own = self.digest();
        let member = self.peer_is_member(link);
        let Some(session) = self.sessions.get_mut(&link).filter(|s| s.initiator) else { return };
        let Some(theirs) = session.incoming.end else { return };
        if session.state != SessionState::Exchanging || session.outgoing.owes_end {
            return;
        }
        let round = session.round;
        session.deadline = now + COMPARE_MS;
        if own == theirs {
            session.step(SessionInput::LevelReached);
            let bytes = session.encode(&Message::Level { round, digest: own });
            out.push(Effect::Send { link, bytes });
            self.become_level(link, own, out);
            return;
        }
        if !member && session.rounds_apart > 0 {
            // It had its chance to show that it is one.
            self.refuse_stranger(link, out);
            return;
        }
        session.incoming.end = None;
        let moved = session.traffic.received_events + session.traffic.sent_events;
        let progress = moved != session.progress;
        session.progress = moved;
        session.rounds_apart = session.rounds_apart.saturating_add(1);
        if !progress || session.rounds_apart > 2 {
            session.attempt = session.attempt.saturating_add(1);
        }
        if session.rounds_apart < ATTEMPTS_MAX {
            self.send_compare(now, link, out);
        } else {
            session.rounds_apart = 0;
            session.attempt = 0;
            self.finish_request(link, false, out);
        }
    }

    fn on_level(&mut self, link: LinkId, round: u32, digest: LogDigest, out: &mut Vec<Effect>) {
        let own = self.digest();
        let Some(session) = self.sessions.get_mut(&link).filter(|s| s.round == round) else {
            return;
        };
        let expected = matches!(session.state, SessionState::Exchanging | SessionState::Level);
        if own == digest && expected {
            session.step(SessionInput::LevelReached);
            self.become_level(link, digest, out);
        }
    }

    /// Both sides hold the same.
    fn become_level(&mut self, link: LinkId, digest: LogDigest, out: &mut Vec<Effect>) {
        if !self.peer_is_member(link) {
            self.refuse_stranger(link, out);
            return;
        }
        let held = self.dag.as_ref().map_or(0, Dag::held);
        let Some(session) = self.sessions.get_mut(&link) else { return };
        session.attempt = 0;
        session.rounds_apart = 0;
        session.has = PeerHas { below: held, ..PeerHas::default() };
        session.outgoing.live_from = session.live.then_some(held);
        session.outgoing.owes_end = false;
        let (peer, traffic) = (session.peer, session.traffic);
        let met = Met { digest, ordinal: held };
        if self.met.insert(peer, met) != Some(met) {
            out.push(Effect::Remember { peer, met });
        }
        out.push(Effect::Notify(Notice::Level { peer, traffic }));
        self.finish_request(link, true, out);
    }

    /// Answers the request that waits for a session; one that does not stay is closed.
    fn finish_request(&mut self, link: LinkId, equal: bool, out: &mut Vec<Effect>) {
        let Some(session) = self.sessions.get_mut(&link) else { return };
        let traffic = session.traffic;
        if let Some(request) = session.request.take() {
            out.push(Effect::Reply { request, reply: Ok(Reply::Synced { traffic, equal }) });
        }
        if session.initiator && !session.live {
            self.sessions.remove(&link);
            out.push(Effect::Close { link, reason: "done".to_owned() });
        }
    }

    pub(super) fn on_tick<H: History>(
        &mut self,
        now: u64,
        history: &H,
        out: &mut Vec<Effect>,
    ) -> Result<(), H::Error> {
        let links: Vec<LinkId> = self.sessions.keys().copied().collect();
        for link in links {
            let Some(session) = self.sessions.get(&link) else { continue };
            if session.deadline <= now {
                if !session.is_open() {
                    let text = "no answer in time".to_owned();
                    self.refuse(link, Refusal::Busy, text, out);
                    continue;
                }
                if session.initiator {
                    self.send_compare(now, link, out);
                }
            }
            self.graft_if_due(now, link, history, out)?;
            self.pump(now, link, history, out)?;
        }
        Ok(())
    }
}

enum Admission {
    Done,
    Blocked,
    Refused(Refusal, String),
}

fn proof_is_valid(domain: &DomainId, newcomer: &NodeKey, proof: &InviteProof) -> bool {
    let message = invite_message(domain, newcomer);
    VerifyingKey::from_bytes(&proof.key.0).is_ok_and(|key| {
        key.verify_strict(&message, &Signature::from_bytes(&proof.signature)).is_ok()
    })
}

fn met_prefix(digest: &LogDigest) -> [u8; 8] {
    let mut prefix = [0; 8];
    prefix.copy_from_slice(&digest.0[..8]);
    prefix
}

/// How to show one's feed ends to a peer, at the least cost.
fn view_of(dag: &Dag, frontier: &Frontier, met: Option<&Met>, count: u64, attempt: u8) -> View {
    let feeds = frontier.feed_count();
    let listed = feeds <= ENDS_LISTED_MAX || (attempt >= ATTEMPT_LISTED && feeds <= ENDS_MAX);
    match met {
        _ if count == 0 => View::All(Vec::new()),
        Some(met) => {
            let mut changed = changed_since(dag, frontier, met.ordinal);
            changed.truncate(ENDS_MAX);
            View::Changed(changed)
        }
        None if listed => View::All(frontier.all()),
        None => {
            let symbols = frontier.symbols(0..SYMBOLS_FIRST);
            View::Symbols(encode_symbols(&symbols, 0, frontier.sketch().set_size()))
        }
    }
}

use crate::sync::frontier::Frontier;

/// The feed ends that changed since an ordinal was handed out.
fn changed_since(dag: &Dag, frontier: &Frontier, ordinal: Ordinal) -> Vec<Item> {
    let ends = dag.ends();
    ends.iter().filter(|end| end.ordinal >= ordinal).map(|end| frontier.item(end)).collect()
}

/// Only the internal log is synced so far.
pub(super) const LOG: Log = Log::Internal;
