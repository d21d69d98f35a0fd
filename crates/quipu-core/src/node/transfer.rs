//! Artifacts: what is wanted, who has it, and what became of its parts.
//!
//! The node only schedules. Whoever is linked is asked for what is wanted ([`Message::Ask`]), and
//! parts are asked for from all that offer it. The first part is the one with the last group: it
//! proves the size. Bytes are checked and kept by the driver, which answers
//! [`Effect::StorePart`](super::Effect::StorePart) with what became of them.
//!
//! Whatever changes only marks links as stirred and artifacts as to be looked at; [`Node::trade`]
//! then asks, requests and gives up, once for each input.

mod gaps;
mod schedule;
mod serve;

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;

use self::gaps::Gaps;
use super::{CommandError, Effect, FetchFailure, LinkId, Node, Notice, Reply, RequestId};
use crate::artifact::group_count;
use crate::history::{History, Missing};
use crate::id::{ArtifactId, NodeKey};
use crate::limits::{SIZES_TRIED_MAX, WANTS_MAX};
use crate::sync::message::{Message, Refusal};
use crate::sync::session::{Session, SessionState};
use crate::sync::trade::Expected;

/// What became of a part that was to be stored.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum PartOutcome {
    /// It fits the artifact's name, and is kept. The artifact is not complete yet.
    Good,
    /// It fits, is kept, and was the last that was lacking: the artifact is held whole.
    Complete,
    /// It does not fit the artifact's name: whoever sent it lied.
    Bad(String),
    /// It could not be kept, by no fault of the sender's.
    Failed(String),
}

/// An artifact that is wanted and not here yet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fetching {
    /// Which.
    pub key: ArtifactId,
    /// Its size, once it is proven.
    pub size: Option<u64>,
    /// Groups that nobody was asked for yet; nothing while the size is not proven.
    pub missing: Option<u64>,
    /// Parts that were asked for, or are being stored.
    pub moving: usize,
    /// Linked peers that have it.
    pub sources: usize,
}

/// Ranks of what nobody waits for begin here: what somebody waits for goes first.
const RANK_BACKGROUND: u64 = 1 << 63;
/// Peers whose bytes were not of the artifact, remembered while it is wanted.
const LIARS_MAX: usize = 64;
/// How often the driver is asked anew what is missing, when its answers do not add up.
const RECOUNTS_MAX: u8 = 3;

/// A wanted artifact.
#[derive(Debug)]
struct Fetch {
    /// Tells it from an earlier one of the same artifact.
    birth: u64,
    /// Lower ones go first.
    rank: u64,
    requests: Vec<RequestId>,
    /// Wanted even if no request waits.
    kept: bool,
    /// Proven.
    size: Option<u64>,
    /// What nobody was asked for; empty while the size is not proven.
    gaps: Gaps,
    /// Sizes that are being tried while none is proven.
    tried: BTreeMap<u64, LinkId>,
    /// Who has it, and the size that they offered.
    sources: BTreeMap<LinkId, u64>,
    /// Links that were or will be asked and did not answer.
    pending: usize,
    /// Parts that are expected in time, or being stored.
    moving: usize,
    liars: BTreeSet<NodeKey>,
    /// Why it went wrong last.
    failure: Option<FetchFailure>,
    told_lacking: bool,
    recounts: u8,
}

impl Fetch {
    /// Whether somebody who offered that size can be asked for a part.
    fn has_work(&self, offered: u64) -> bool {
        match self.size {
            Some(size) => size == offered && !self.gaps.is_empty(),
            None => self.tried.len() < SIZES_TRIED_MAX && !self.tried.contains_key(&offered),
        }
    }

    /// A part will not come, or did not fit: it can be asked for again.
    fn give_back(&mut self, link: LinkId, size: u64, groups: &Range<u64>) {
        self.moving -= 1;
        match self.size {
            Some(proven) if proven == size => self.gaps.insert(groups.clone()),
            Some(_) => {}
            None if self.tried.get(&size) == Some(&link) => _ = self.tried.remove(&size),
            None => {}
        }
    }
}

/// A part that the driver was given.
#[derive(Debug)]
struct Storing {
    link: LinkId,
    peer: NodeKey,
    key: ArtifactId,
    groups: Range<u64>,
    size: u64,
    birth: u64,
}

/// All artifacts that are wanted.
#[derive(Debug, Default)]
pub(super) struct Transfers {
    fetches: BTreeMap<ArtifactId, Fetch>,
    /// Begun and not complete, by rank, as long as somebody linked has them.
    started: BTreeSet<(u64, ArtifactId)>,
    storing: Vec<Storing>,
    /// Links over which something may be asked for.
    stirred: BTreeSet<LinkId>,
    /// Artifacts that perhaps nobody has.
    look_at: BTreeSet<ArtifactId>,
    ranks: u64,
    await_wants: bool,
}

impl Node {
    /// Wants follow from events: a session that does not stay waits for
    /// [`Input::WantsTold`](super::Input::WantsTold) after it brought events and is through with them.
    pub fn await_wants(&mut self) {
        self.transfers.await_wants = true;
    }

    /// Whether [`Input::WantsTold`](super::Input::WantsTold) is waited for.
    pub fn awaits_wants(&self) -> bool {
        self.sessions.values().any(|session| !session.trade.told)
    }

    /// Whether more events are on their way in an exchange that has begun: what follows from them is
    /// better worked out once. A peer that falls silent may leave it at that for long.
    pub fn is_exchanging(&self) -> bool {
        self.sessions.values().any(|session| session.state == SessionState::Exchanging)
    }

    /// How many more artifacts can be wanted now.
    pub fn wants_room(&self) -> usize {
        WANTS_MAX.saturating_sub(self.transfers.fetches.len())
    }

    /// The artifacts that are wanted.
    pub fn fetching(&self) -> Vec<Fetching> {
        let of = |(key, fetch): (&ArtifactId, &Fetch)| Fetching {
            key: *key,
            size: fetch.size,
            missing: fetch.size.map(|_| fetch.gaps.count()),
            moving: fetch.moving,
            sources: fetch.sources.len(),
        };
        self.transfers.fetches.iter().map(of).collect()
    }

    /// Somebody waits for an artifact.
    pub(super) fn on_fetch<H: History>(
        &mut self,
        request: RequestId,
        key: ArtifactId,
        history: &H,
        out: &mut Vec<Effect>,
    ) -> Result<(), H::Error> {
        let failed = |error| Effect::Reply { request, reply: Err(error) };
        if self.dag.is_none() {
            out.push(failed(CommandError::NotJoined(self.domain)));
        } else if let Some(size) = history.artifact_size(&key)? {
            out.push(Effect::Reply { request, reply: Ok(Reply::Fetched { size }) });
        } else if !self.want(key, None, Some(request), history)? {
            out.push(failed(CommandError::NotFetched { key, why: FetchFailure::Busy }));
        }
        Ok(())
    }

    /// Wants an artifact. Answers whether there was room.
    pub(super) fn want<H: History>(
        &mut self,
        key: ArtifactId,
        missing: Option<Missing>,
        request: Option<RequestId>,
        history: &H,
    ) -> Result<bool, H::Error> {
        let room = self.wants_room() > 0;
        self.transfers.ranks += 1;
        let background = if request.is_none() { RANK_BACKGROUND } else { 0 };
        let rank = self.transfers.ranks + background;
        if let Some(fetch) = self.transfers.fetches.get_mut(&key) {
            fetch.kept |= request.is_none();
            fetch.requests.extend(request);
            if rank < fetch.rank {
                self.rank(key, rank);
            }
            // Nobody may have it, and that is known.
            self.transfers.look_at.insert(key);
            return Ok(true);
        }
        if !room {
            return Ok(false);
        }
        let missing = match missing {
            Some(missing) => Some(missing),
            None => history.artifact_missing(&key)?,
        };
        let gaps = missing.as_ref().map(|m| Gaps::of(m.groups.clone(), group_count(m.size)));
        let mut fetch = Fetch {
            birth: self.transfers.ranks,
            rank,
            requests: request.into_iter().collect(),
            kept: request.is_none(),
            size: missing.map(|missing| missing.size),
            gaps: gaps.unwrap_or_default(),
            tried: BTreeMap::new(),
            sources: BTreeMap::new(),
            pending: 0,
            moving: 0,
            liars: BTreeSet::new(),
            failure: None,
            told_lacking: false,
            recounts: 0,
        };
        for (link, session) in &mut self.sessions {
            if session.may_ask() {
                if !session.trade.awaits(&key) {
                    session.trade.to_ask.insert(key);
                }
                fetch.pending += 1;
                self.transfers.stirred.insert(*link);
            }
        }
        self.transfers.fetches.insert(key, fetch);
        self.transfers.look_at.insert(key);
        Ok(true)
    }

    /// Changes the rank of an artifact.
    fn rank(&mut self, key: ArtifactId, rank: u64) {
        let Some(fetch) = self.transfers.fetches.get_mut(&key) else { return };
        let old = (std::mem::replace(&mut fetch.rank, rank), key);
        if self.transfers.started.remove(&old) {
            self.transfers.started.insert((rank, key));
        }
        for link in fetch.sources.keys() {
            if let Some(session) = self.sessions.get_mut(link)
                && session.trade.ready.remove(&old)
            {
                session.trade.ready.insert((rank, key));
            }
        }
    }

    pub(super) fn unwant(&mut self, key: &ArtifactId) {
        let Some(fetch) = self.transfers.fetches.get_mut(key) else { return };
        fetch.kept = false;
        if fetch.requests.is_empty() {
            self.drop_fetch(key);
        }
    }

    /// Wants an artifact no longer, for whatever reason. Parts of it may still come.
    fn drop_fetch(&mut self, key: &ArtifactId) -> Option<Fetch> {
        let fetch = self.transfers.fetches.remove(key)?;
        for (link, session) in &mut self.sessions {
            if fetch.sources.contains_key(link) {
                session.trade.sources -= 1;
                session.trade.ready.remove(&(fetch.rank, *key));
            }
            drop(session.trade.give_up(key));
        }
        self.stop(&(fetch.rank, *key));
        Some(fetch)
    }

    /// An artifact is not under way any more: another one may begin.
    fn stop(&mut self, ranked: &(u64, ArtifactId)) {
        if self.transfers.started.remove(ranked) {
            let waiting = self.sessions.iter().filter(|(_, s)| !s.trade.ready.is_empty());
            self.transfers.stirred.extend(waiting.map(|(link, _)| *link));
        }
    }

    /// An artifact is held whole.
    pub(super) fn complete(&mut self, key: ArtifactId, size: u64, out: &mut Vec<Effect>) {
        if let Some(fetch) = self.drop_fetch(&key) {
            for request in fetch.requests {
                out.push(Effect::Reply { request, reply: Ok(Reply::Fetched { size }) });
            }
            out.push(Effect::Notify(Notice::ArtifactComplete { key, size }));
        }
        let sees: Vec<LinkId> =
            self.sessions.keys().copied().filter(|link| self.peer_may_see(*link)).collect();
        if self.dag.is_none() {
            return;
        }
        for (link, session) in &mut self.sessions {
            let sees = sees.binary_search(link).is_ok();
            if session.is_open() && sees && session.trade.lacked.remove(&key) {
                let message = Message::Offer { ask: 0, entries: vec![(key, size)] };
                out.push(Effect::Send { link: *link, bytes: session.encode(&message) });
            }
        }
    }

    /// Gives up on an artifact.
    fn fail(&mut self, key: ArtifactId, why: FetchFailure, out: &mut Vec<Effect>) {
        let Some(fetch) = self.drop_fetch(&key) else { return };
        fail_requests(key, &why, fetch.requests, out);
        if let FetchFailure::NotKept(reason) = why {
            out.push(Effect::Notify(Notice::ArtifactFailed { key, reason }));
        }
    }

    /// The driver has looked at a part.
    pub(super) fn on_part_stored<H: History>(
        &mut self,
        link: LinkId,
        key: ArtifactId,
        groups: &Range<u64>,
        outcome: PartOutcome,
        history: &H,
        out: &mut Vec<Effect>,
    ) -> Result<(), H::Error> {
        let fits = |s: &Storing| s.link == link && s.key == key && s.groups == *groups;
        let Some(at) = self.transfers.storing.iter().position(fits) else { return Ok(()) };
        let Storing { peer, size, birth, .. } = self.transfers.storing.swap_remove(at);
        let fetch = self.transfers.fetches.get_mut(&key).filter(|fetch| fetch.birth == birth);
        if let Some(session) = self.sessions.get_mut(&link) {
            session.trade.storing -= 1;
            self.transfers.stirred.insert(link);
        }
        self.transfers.look_at.insert(key);
        match outcome {
            PartOutcome::Good => {
                if let Some(fetch) = fetch {
                    fetch.moving -= 1;
                    if fetch.size.is_none() {
                        self.prove(key, size, groups);
                    }
                }
                self.recount(key, history, out)
            }
            PartOutcome::Complete => {
                self.complete(key, size, out);
                Ok(())
            }
            PartOutcome::Bad(reason) => {
                if let Some(fetch) = fetch {
                    fetch.give_back(link, size, groups);
                    if fetch.liars.len() < LIARS_MAX {
                        fetch.liars.insert(peer);
                    }
                    fetch.failure = Some(FetchFailure::BadParts(peer));
                    self.refresh_ready(&key);
                }
                let text = format!("a part of artifact {key} is not of it: {reason}");
                out.push(Effect::Notify(Notice::BadPart { peer, key, reason }));
                self.refuse(link, Refusal::Misbehaved, text, out);
                Ok(())
            }
            // What became of an earlier fetch is nothing to one that was begun anew.
            PartOutcome::Failed(reason) => {
                if fetch.is_some() {
                    self.fail(key, FetchFailure::NotKept(reason), out);
                }
                Ok(())
            }
        }
    }

    /// The part with the last group fits: that is the size. Whoever offered another one is not asked.
    fn prove(&mut self, key: ArtifactId, size: u64, groups: &Range<u64>) {
        let Some(fetch) = self.transfers.fetches.get_mut(&key) else { return };
        fetch.size = Some(size);
        fetch.tried.clear();
        fetch.gaps.insert(0..group_count(size));
        fetch.gaps.remove(groups);
        let rank = fetch.rank;
        let others = fetch.sources.iter().filter(|(_, offered)| **offered != size);
        let others: Vec<LinkId> = others.map(|(link, _)| *link).collect();
        for link in others {
            fetch.sources.remove(&link);
            if let Some(session) = self.sessions.get_mut(&link) {
                session.trade.sources -= 1;
                session.trade.ready.remove(&(rank, key));
            }
        }
        if fetch.sources.is_empty() {
            self.stop(&(rank, key));
        }
        self.refresh_ready(&key);
    }

    /// If all parts came and the artifact is said to be incomplete, the driver knows what is missing.
    fn recount<H: History>(
        &mut self,
        key: ArtifactId,
        history: &H,
        out: &mut Vec<Effect>,
    ) -> Result<(), H::Error> {
        let Some(fetch) = self.transfers.fetches.get_mut(&key) else { return Ok(()) };
        let Some(size) = fetch.size.filter(|_| fetch.gaps.is_empty() && fetch.moving == 0) else {
            return Ok(());
        };
        if let Some(size) = history.artifact_size(&key)? {
            self.complete(key, size, out);
            return Ok(());
        }
        fetch.recounts += 1;
        let missing = history.artifact_missing(&key)?.filter(|missing| missing.size == size);
        fetch.gaps = Gaps::of(missing.into_iter().flat_map(|m| m.groups), group_count(size));
        if fetch.gaps.is_empty() || fetch.recounts > RECOUNTS_MAX {
            let why = "its parts came, and it is not complete".to_owned();
            self.fail(key, FetchFailure::NotKept(why), out);
        } else {
            self.refresh_ready(&key);
        }
        Ok(())
    }

    /// Every want that follows from the events so far was given.
    pub(super) fn on_wants_told(&mut self) {
        for session in self.sessions.values_mut().filter(|s| s.state == SessionState::Level) {
            session.trade.told = true;
        }
    }

    /// A link is up and the peer may be asked: it will be, for all that is wanted.
    pub(super) fn introduce(&mut self, link: LinkId) {
        let Some(session) = self.sessions.get_mut(&link) else { return };
        for (key, fetch) in &mut self.transfers.fetches {
            if session.trade.to_ask.insert(*key) {
                fetch.pending += 1;
            }
        }
        self.transfers.stirred.insert(link);
    }

    /// A comparison found both sides equal: whoever stays is asked again for what nobody is known to
    /// have, because an offer that was made later may be lost, or not remembered.
    pub(super) fn ask_again(&mut self, link: LinkId) {
        let Some(session) = self.sessions.get_mut(&link).filter(|session| session.live) else {
            return;
        };
        let lacking = self.transfers.fetches.iter_mut().filter(|(_, f)| f.sources.is_empty());
        for (key, fetch) in lacking {
            if !session.trade.awaits(key) && session.trade.to_ask.insert(*key) {
                fetch.pending += 1;
            }
        }
        self.transfers.stirred.insert(link);
    }

    /// A link is gone: what was expected over it comes from others.
    pub(super) fn forget_trade(&mut self, link: LinkId, session: &mut Session) {
        let trade = std::mem::take(&mut session.trade);
        let asked = trade.asked.into_iter().flat_map(|asked| asked.keys);
        for key in trade.to_ask.into_iter().chain(asked) {
            self.answered(&key);
        }
        let mut idle = Vec::new();
        for (key, fetch) in &mut self.transfers.fetches {
            if fetch.sources.remove(&link).is_some() {
                fetch.failure.get_or_insert(FetchFailure::SourcesGone);
                self.transfers.look_at.insert(*key);
                if fetch.sources.is_empty() {
                    idle.push((fetch.rank, *key));
                }
            }
        }
        idle.iter().for_each(|ranked| self.stop(ranked));
        for expected in &trade.expected {
            self.give_back(link, expected);
        }
        self.transfers.stirred.remove(&link);
    }

    /// A peer has answered, or will not.
    fn answered(&mut self, key: &ArtifactId) {
        if let Some(fetch) = self.transfers.fetches.get_mut(key) {
            fetch.pending = fetch.pending.saturating_sub(1);
            self.transfers.look_at.insert(*key);
        }
    }

    /// A part is not waited for any more.
    fn give_back(&mut self, link: LinkId, expected: &Expected) {
        let Some(fetch) = self.transfers.fetches.get_mut(&expected.key) else { return };
        fetch.give_back(link, expected.size, &expected.groups);
        self.transfers.look_at.insert(expected.key);
        self.refresh_ready(&expected.key);
    }
}

fn fail_requests(
    key: ArtifactId,
    why: &FetchFailure,
    requests: Vec<RequestId>,
    out: &mut Vec<Effect>,
) {
    for request in requests {
        let reply = Err(CommandError::NotFetched { key, why: why.clone() });
        out.push(Effect::Reply { request, reply });
    }
}
