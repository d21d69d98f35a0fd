//! Comparing with a peer: digests, then feed ends, at the least cost.

use super::{Effect, LinkId, Met, Node};
use crate::dag::Dag;
use crate::history::{History, Ordinal};
use crate::id::LogDigest;
use crate::limits::{ENDS_LISTED_MAX, SYMBOLS_FIRST, SYMBOLS_TAKEN_MAX};
use crate::sketch::{Decoder, Item, decode_symbols, encode_symbols};
use crate::sync::frontier::{Covered, Frontier};
use crate::sync::message::{ENDS_MAX, Message, RANGES_MAX, Refusal, View, Wanted};
use crate::sync::plan::{Cargo, Difference, outlook};
use crate::sync::session::{SessionInput, SessionState};

/// From this attempt on all feed ends are listed, however many: the sketch failed too often.
const ATTEMPT_LISTED: u8 = 2;

impl Node {
    /// Starts a comparison.
    pub(super) fn send_compare(&mut self, now: u64, link: LinkId, out: &mut Vec<Effect>) {
        let digest = self.digest();
        let count = self.dag.as_ref().map_or(0, Dag::event_count);
        let Some(session) = self.sessions.get_mut(&link) else { return };
        session.round += 1;
        session.incoming.end = None;
        session.decoder = None;
        session.deadline = now + session.pace.answer_ms();
        session.traffic.round_trips += 1;
        if session.state != SessionState::ExpectWelcome {
            session.step(SessionInput::CompareSent);
        }
        let attempt = session.attempt.max(if session.listed { ATTEMPT_LISTED } else { 0 });
        session.met = self.met.get(&session.peer).filter(|_| attempt == 0).copied();
        let met = session.met.map(|met| met_prefix(&met.digest));
        let round = session.round;
        let message = Message::Compare { round, attempt, digest, count, met };
        out.push(Effect::Send { link, bytes: session.encode(&message) });
    }

    #[expect(clippy::too_many_arguments, reason = "the fields of one message")]
    pub(super) fn on_compare(
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
        // Before the answer: so the peer knows whether it has to stay.
        self.ask_early(now, link, own != digest, out);
        let Some(dag) = &mut self.dag else { return };
        self.frontier.refresh(dag);
        let Some(session) = self.sessions.get_mut(&link) else { return };
        session.round = round;
        session.attempt = attempt;
        session.incoming.end = None;
        session.outgoing.owes_end = false;
        session.view_at = dag.held();
        session.deadline = now + session.pace.compare_ms();
        if own == digest {
            session.step(SessionInput::Same);
            out.push(Effect::Send { link, bytes: session.encode(&Message::Same { round }) });
            self.become_level(now, link, digest, out);
            self.ask_again(link);
            return;
        }
        session.step(SessionInput::Differs);
        let known = self.met.get(&session.peer).filter(|own| met == Some(met_prefix(&own.digest)));
        let view = view_of(dag, &mut self.frontier, known, count, attempt, round);
        let count = dag.event_count();
        let message = Message::Differs { round, digest: own, count, view };
        out.push(Effect::Send { link, bytes: session.encode(&message) });
    }

    pub(super) fn on_same(&mut self, now: u64, link: LinkId, round: u32, out: &mut Vec<Effect>) {
        let Some(session) = self.sessions.get_mut(&link).filter(|s| s.expects_view(round)) else {
            return;
        };
        session.step(SessionInput::Same);
        session.deadline = now + session.pace.compare_ms();
        let digest = self.digest();
        self.become_level(now, link, digest, out);
        self.ask_again(link);
    }

    #[expect(clippy::too_many_arguments, reason = "the fields of one message")]
    pub(super) fn on_differs<H: History>(
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
        session.part = false;
        session.deadline = now + session.pace.answer_ms();
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
            View::All(items) => {
                let covered = Covered::by(&items);
                session.part = covered.is_part();
                let mut own = self.frontier.all();
                own.retain(|item| covered.covers(item));
                Difference::of(&items, &own, None)
            }
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

    pub(super) fn on_more_symbols(
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

    pub(super) fn on_symbols<H: History>(
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
        // The difference is at least as large as that of the sizes, and takes more symbols than it has items.
        let apart = batch.set_size.abs_diff(self.frontier.sketch().set_size()) as usize;
        let needed = apart.saturating_add(apart / 3);
        let hopeless = needed > SYMBOLS_TAKEN_MAX || decoder.received() >= SYMBOLS_TAKEN_MAX;
        if !pushed || decoder.is_refused() || hopeless {
            session.listed = true;
            self.send_compare(now, link, out);
            return Ok(());
        }
        session.step(SessionInput::Undecoded);
        session.traffic.round_trips += 1;
        let start = decoder.received() as u32;
        let count = (start / 4).max(64).max((needed as u32).saturating_sub(start));
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
                if session.initiator && session.trade.leaving.is_none() {
                    self.send_compare(now, link, out);
                }
            }
            self.graft_if_due(now, link, history, out)?;
            self.pump(now, link, history, out)?;
            self.give_up_in_time(now, link, out);
        }
        Ok(())
    }
}

fn met_prefix(digest: &LogDigest) -> [u8; 8] {
    let mut prefix = [0; 8];
    prefix.copy_from_slice(&digest.0[..8]);
    prefix
}

/// How to show one's feed ends to a peer, at the least cost.
fn view_of(
    dag: &Dag,
    frontier: &mut Frontier,
    met: Option<&Met>,
    count: u64,
    attempt: u8,
    round: u32,
) -> View {
    let listed = frontier.feed_count() <= ENDS_LISTED_MAX || attempt >= ATTEMPT_LISTED;
    match met {
        _ if count == 0 => View::All(Vec::new()),
        Some(met) => {
            let mut changed = changed_since(dag, frontier, met.ordinal);
            changed.truncate(ENDS_MAX);
            View::Changed(changed)
        }
        None if listed => View::All(frontier.list(round)),
        None => {
            let symbols = frontier.symbols(0..SYMBOLS_FIRST);
            View::Symbols(encode_symbols(&symbols, 0, frontier.sketch().set_size()))
        }
    }
}

/// The feed ends that changed since an ordinal was handed out.
fn changed_since(dag: &Dag, frontier: &Frontier, ordinal: Ordinal) -> Vec<Item> {
    let ends = dag.ends();
    ends.iter().filter(|end| end.ordinal >= ordinal).map(|end| frontier.item(end)).collect()
}
