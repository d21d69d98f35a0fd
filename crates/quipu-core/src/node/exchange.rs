//! The exchange of what each side lacks, and its end.

use super::{Effect, LinkId, Met, Node, Notice, Reply};
use crate::dag::Dag;
use crate::history::History;
use crate::id::{IdMap, LogDigest, NodeKey};
use crate::limits::ATTEMPTS_MAX;
use crate::sync::message::{ENDS_MAX, Message, Wanted};
use crate::sync::plan::Cargo;
use crate::sync::session::{PeerHas, SessionInput, SessionState};
use crate::sync::trade::Leaving;

impl Node {
    /// The initiator knows the difference: asks for what it lacks and sends what the peer lacks.
    pub(super) fn exchange<H: History>(
        &mut self,
        now: u64,
        link: LinkId,
        wanted: Wanted,
        cargo: Option<(Cargo, IdMap<NodeKey, u64>)>,
        history: &H,
        out: &mut Vec<Effect>,
    ) -> Result<(), H::Error> {
        // An initiator may not have heard yet that the peer is a member: then it takes first.
        let cargo = cargo.filter(|_| self.peer_may_see(link));
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
    pub(super) fn on_want<H: History>(
        &mut self,
        now: u64,
        link: LinkId,
        round: u32,
        plain: bool,
        wanted: Wanted,
        history: &H,
        out: &mut Vec<Effect>,
    ) -> Result<(), H::Error> {
        if !self.peer_may_see(link) {
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
        let member = self.peer_may_see(link);
        let Some(session) = self.sessions.get_mut(&link).filter(|s| s.initiator) else { return };
        let Some(theirs) = session.incoming.end else { return };
        if session.state != SessionState::Exchanging || session.outgoing.owes_end {
            return;
        }
        let round = session.round;
        session.deadline = now + session.pace.compare_ms();
        if own == theirs {
            session.step(SessionInput::LevelReached);
            let bytes = session.encode(&Message::Level { round, digest: own });
            out.push(Effect::Send { link, bytes });
            self.become_level(now, link, own, out);
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
        // Lists of parts take a round each.
        let parts = if session.part { self.frontier.feed_count() / ENDS_MAX + 1 } else { 0 };
        let parts = u8::try_from(parts).unwrap_or(u8::MAX);
        let patience = if progress || session.part { parts.saturating_add(2) } else { 0 };
        if session.rounds_apart > patience {
            session.attempt = session.attempt.saturating_add(1);
        }
        if session.rounds_apart < ATTEMPTS_MAX.saturating_add(parts) {
            self.send_compare(now, link, out);
        } else {
            session.rounds_apart = 0;
            session.attempt = 0;
            session.listed = false;
            self.finish_request(now, link, false, out);
        }
    }

    pub(super) fn on_level(
        &mut self,
        now: u64,
        link: LinkId,
        round: u32,
        digest: LogDigest,
        out: &mut Vec<Effect>,
    ) {
        let own = self.digest();
        let Some(session) = self.sessions.get_mut(&link).filter(|s| s.round == round) else {
            return;
        };
        let expected = matches!(session.state, SessionState::Exchanging | SessionState::Level);
        if own == digest && expected {
            session.step(SessionInput::LevelReached);
            self.become_level(now, link, digest, out);
        }
    }

    /// Both sides hold the same.
    pub(super) fn become_level(
        &mut self,
        now: u64,
        link: LinkId,
        digest: LogDigest,
        out: &mut Vec<Effect>,
    ) {
        if !self.peer_may_see(link) {
            self.refuse_stranger(link, out);
            return;
        }
        self.transfers.stir(link);
        let held = self.dag.as_ref().map_or(0, Dag::held);
        let Some(session) = self.sessions.get_mut(&link) else { return };
        session.attempt = 0;
        session.listed = false;
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
        self.finish_request(now, link, true, out);
    }

    /// A session is through with events: answers the request that waits for it. One that does not
    /// stay is closed, unless artifacts move.
    pub(super) fn finish_request(
        &mut self,
        now: u64,
        link: LinkId,
        equal: bool,
        out: &mut Vec<Effect>,
    ) {
        let Some(session) = self.sessions.get_mut(&link) else { return };
        let brought = !session.live && session.traffic.received_events > 0;
        session.trade.told &= !(brought && self.transfers.waits_for_wants());
        if session.initiator && !session.live {
            let until = now + session.pace.answer_ms();
            session.trade.leaving = Some(Leaving { equal, until });
            self.leave_if_done(link, out);
            return;
        }
        let traffic = session.traffic;
        if let Some(request) = session.request.take() {
            out.push(Effect::Reply { request, reply: Ok(Reply::Synced { traffic, equal }) });
        }
    }
}
