//! Whom to ask for what.

use std::ops::Range;

use bytes::Bytes;

use super::{Fetch, RANK_BACKGROUND, Storing, Transfers, fail_requests};
use crate::artifact::{PART_GROUPS_MAX, group_count};
use crate::history::History;
use crate::id::ArtifactId;
use crate::limits::{ASK_KEYS_MAX, DOUBT_MS, FETCHES_MAX, SOURCES_MAX};
use crate::node::{Effect, FetchFailure, LinkId, Node, Notice};
use crate::sync::message::{Message, Refusal};
use crate::sync::session::Session;
use crate::sync::trade::{Asked, Expected};

/// Questions in a row that a peer may leave without an answer before it counts as one that has nothing.
const ASKED_AGAIN_MAX: u8 = 3;

/// The part that proves the size of an artifact: the one with its last group.
fn last_part(size: u64, most: u64) -> Range<u64> {
    let count = group_count(size);
    let most = most.clamp(1, PART_GROUPS_MAX);
    (count - 1) / most * most..count
}

impl Fetch {
    /// Takes a part for somebody who offered that size.
    fn take_part(&mut self, link: LinkId, offered: u64, most: u64) -> Option<Range<u64>> {
        if !self.has_work(offered) {
            return None;
        }
        let groups = match self.size {
            Some(_) => self.gaps.take_part(most)?,
            None => {
                self.tried.insert(offered, link);
                last_part(offered, most)
            }
        };
        self.moving += 1;
        Some(groups)
    }

    /// Whether a part that was given up is still of use.
    fn takes_late(&mut self, link: LinkId, part: &Expected) -> bool {
        let takes = match self.size {
            Some(size) if size == part.size => {
                let free = self.gaps.covers(&part.groups);
                if free {
                    self.gaps.remove(&part.groups);
                }
                free
            }
            // A lie, which the driver is to name.
            Some(_) => true,
            None if self.tried.contains_key(&part.size) => false,
            None => {
                self.tried.insert(part.size, link);
                true
            }
        };
        self.moving += usize::from(takes);
        takes
    }
}

impl Transfers {
    pub(in crate::node) fn waits_for_wants(&self) -> bool {
        self.await_wants
    }

    /// Something may be asked for over a link that could not be before.
    pub(in crate::node) fn stir(&mut self, link: LinkId) {
        self.stirred.insert(link);
    }
}

impl Session {
    /// How many more parts the peer can be asked for.
    fn room(&self) -> usize {
        let most = if self.trade.slow { 1 } else { self.pace.parts };
        most.saturating_sub(self.trade.expected.len() + self.trade.storing)
    }
}

impl Node {
    /// Whether artifacts may move over a link: it is open, and the peer may see what is here.
    pub(super) fn may_trade(&self, link: LinkId) -> bool {
        let Some(session) = self.sessions.get(&link).filter(|session| session.is_open()) else {
            return false;
        };
        match &self.dag {
            Some(_) => self.may_see(&session.peer),
            // A newcomer that came for a snapshot's state trusts whom its ticket names; bytes prove
            // themselves.
            None => session.initiator && session.trade.leaving.is_some(),
        }
    }

    /// What follows from an input for artifacts.
    pub(in crate::node) fn trade<H: History>(
        &mut self,
        now: u64,
        history: &H,
        out: &mut Vec<Effect>,
    ) -> Result<(), H::Error> {
        loop {
            if let Some(link) = self.transfers.stirred.pop_first() {
                if self.may_trade(link) {
                    self.ask(now, link, out);
                    self.fill(now, link, out);
                }
            } else if let Some(key) = self.transfers.look_at.pop_first() {
                self.look_at(key, out);
            } else {
                break;
            }
        }
        self.part_ways(history, out)
    }

    /// Asks a peer what it has, one question at a time.
    pub(super) fn ask(&mut self, now: u64, link: LinkId, out: &mut Vec<Effect>) {
        let Some(session) = self.sessions.get_mut(&link) else { return };
        let trade = &mut session.trade;
        if trade.asked.is_some() {
            return;
        }
        let mut keys = Vec::new();
        while keys.len() < ASK_KEYS_MAX
            && let Some(key) = trade.to_ask.pop_first()
        {
            if self.transfers.fetches.contains_key(&key) {
                keys.push(key);
            }
        }
        if keys.is_empty() {
            return;
        }
        trade.asks = trade.asks.wrapping_add(1).max(1);
        trade.asked = Some(Asked { ask: trade.asks, keys: keys.clone(), at: now });
        trade.said_busy |= !session.live && !session.initiator;
        let message = Message::Ask { ask: session.trade.asks, keys };
        out.push(Effect::Send { link, bytes: session.encode(&message) });
    }

    /// A peer says what it has.
    pub(in crate::node) fn on_offer(
        &mut self,
        now: u64,
        link: LinkId,
        ask: u32,
        entries: &[(ArtifactId, u64)],
    ) {
        let Some(session) = self.sessions.get_mut(&link) else { return };
        session.trade.moved(now);
        let answered = session.trade.asked.take_if(|asked| asked.ask == ask);
        if answered.is_some() {
            session.trade.unanswered = 0;
        }
        for (key, size) in entries {
            self.add_source(link, *key, *size);
        }
        if !entries.is_empty() {
            self.doubt_older(link);
        }
        for key in answered.into_iter().flat_map(|asked| asked.keys) {
            self.answered(&key);
        }
        self.transfers.stirred.insert(link);
    }

    /// A peer that has several links perhaps started anew: the older ones have to show that they live.
    fn doubt_older(&mut self, link: LinkId) {
        let Some(peer) = self.sessions.get(&link).map(|session| session.peer) else { return };
        for (_, session) in self.sessions.range_mut(..link) {
            if session.peer == peer {
                session.trade.patience = DOUBT_MS.saturating_mul(session.pace.patience);
            }
        }
    }

    fn add_source(&mut self, link: LinkId, key: ArtifactId, offered: u64) {
        let Some(session) = self.sessions.get_mut(&link) else { return };
        let Some(fetch) = self.transfers.fetches.get_mut(&key) else { return };
        if fetch.liars.contains(&session.peer)
            || fetch.size.is_some_and(|size| size != offered)
            || fetch.sources.len() >= SOURCES_MAX
            || fetch.sources.contains_key(&link)
        {
            return;
        }
        fetch.sources.insert(link, offered);
        fetch.told_lacking = false;
        session.trade.sources += 1;
        self.refresh_ready(&key);
    }

    /// A peer has an artifact no longer.
    pub(in crate::node) fn on_lack(&mut self, now: u64, link: LinkId, key: &ArtifactId) {
        let Some(session) = self.sessions.get_mut(&link) else { return };
        session.trade.moved(now);
        let gone = session.trade.give_up(key);
        self.transfers.stirred.insert(link);
        if let Some(fetch) = self.transfers.fetches.get_mut(key)
            && fetch.sources.remove(&link).is_some()
        {
            fetch.failure.get_or_insert(FetchFailure::SourcesGone);
            session.trade.sources -= 1;
            session.trade.ready.remove(&(fetch.rank, *key));
            let ranked = (fetch.rank, *key);
            if fetch.sources.is_empty() {
                self.stop(&ranked);
            }
        }
        gone.iter().for_each(|expected| self.give_back(link, expected));
        self.transfers.look_at.insert(*key);
    }

    /// Notes on all links that have an artifact whether they can be asked for a part of it now.
    pub(super) fn refresh_ready(&mut self, key: &ArtifactId) {
        let Some(fetch) = self.transfers.fetches.get(key) else { return };
        let ranked = (fetch.rank, *key);
        for (link, offered) in &fetch.sources {
            let Some(session) = self.sessions.get_mut(link) else { continue };
            if !fetch.has_work(*offered) {
                session.trade.ready.remove(&ranked);
            } else if session.trade.ready.insert(ranked) {
                self.transfers.stirred.insert(*link);
            }
        }
    }

    /// Asks a peer for as many parts as may be under way.
    fn fill(&mut self, now: u64, link: LinkId, out: &mut Vec<Effect>) {
        while let Some(key) = self.next_for(link) {
            let Some(session) = self.sessions.get_mut(&link) else { return };
            let Some(fetch) = self.transfers.fetches.get_mut(&key) else { return };
            let Some(size) = fetch.sources.get(&link).copied() else { return };
            let most = session.pace.part_groups;
            let Some(groups) = fetch.take_part(link, size, most) else { return };
            self.transfers.started.insert((fetch.rank, key));
            if session.trade.expected.is_empty() {
                session.trade.heard = now;
            }
            session.trade.expected.push_back(Expected { key, groups: groups.clone(), size });
            let changed = !fetch.has_work(size);
            out.push(Effect::Send { link, bytes: session.encode(&Message::Get { key, groups }) });
            if changed {
                self.refresh_ready(&key);
            }
        }
    }

    /// The artifact of which a peer is to be asked for a part.
    fn next_for(&self, link: LinkId) -> Option<ArtifactId> {
        let session = self.sessions.get(&link).filter(|session| session.room() > 0)?;
        let ready = &session.trade.ready;
        let suits = |key: &ArtifactId| {
            // Of a slow peer only what nobody else has.
            !session.trade.slow
                || self.transfers.fetches.get(key).is_some_and(|fetch| {
                    let mut links = fetch.sources.keys();
                    !links.any(|l| self.sessions.get(l).is_some_and(|s| !s.trade.slow))
                })
        };
        let started = &self.transfers.started;
        let found = if started.len() < FETCHES_MAX {
            ready.iter().find(|(_, key)| suits(key))
        } else {
            let urgent = ready.range(..(RANK_BACKGROUND, ArtifactId::default()));
            let begun = started.iter().filter(|ranked| ready.contains(ranked));
            urgent.chain(begun).find(|(_, key)| suits(key))
        };
        found.map(|(_, key)| *key)
    }

    /// A part came.
    #[expect(clippy::too_many_arguments, reason = "the fields of one message")]
    pub(in crate::node) fn on_part(
        &mut self,
        now: u64,
        link: LinkId,
        key: ArtifactId,
        size: u64,
        groups: Range<u64>,
        bytes: Bytes,
        out: &mut Vec<Effect>,
    ) {
        let Some(session) = self.sessions.get_mut(&link) else { return };
        session.traffic.artifact_bytes_received += bytes.len() as u64;
        let fits = |e: &Expected| e.key == key && e.groups == groups;
        let in_time = session.trade.expected.iter().position(fits);
        let late = session.trade.late.iter().position(fits);
        let part = match (in_time, late) {
            (Some(at), _) => session.trade.expected.remove(at),
            (None, Some(at)) => session.trade.late.remove(at),
            (None, None) => None,
        };
        let Some(part) = part else {
            let text = format!("a part of artifact {key} that was not asked for");
            return self.refuse(link, Refusal::Misbehaved, text, out);
        };
        if part.size != size {
            if in_time.is_some() {
                self.give_back(link, &part);
            }
            let text = format!("artifact {key} has {size} bytes now, {} before", part.size);
            return self.refuse(link, Refusal::Misbehaved, text, out);
        }
        session.trade.heard = now;
        session.trade.slow = false;
        session.trade.moved(now);
        self.transfers.stirred.insert(link);
        // Parts come in the order in which they were asked for: those before were lost.
        let lost: Vec<Expected> = session.trade.expected.drain(..in_time.unwrap_or(0)).collect();
        lost.iter().for_each(|expected| session.trade.note_late(expected.clone()));
        let fetch = self.transfers.fetches.get_mut(&key);
        let takes = |fetch: &mut Fetch| in_time.is_some() || fetch.takes_late(link, &part);
        let taken = fetch.and_then(|fetch| takes(fetch).then_some(fetch));
        if let Some(fetch) = taken {
            session.trade.storing += 1;
            let (peer, birth, part) = (session.peer, fetch.birth, groups.clone());
            self.transfers.storing.push(Storing { link, peer, key, groups: part, size, birth });
            out.push(Effect::StorePart { link, key, size, groups, bytes });
            if in_time.is_none() {
                self.refresh_ready(&key);
            }
        } else {
            session.traffic.groups_again += groups.end - groups.start;
        }
        lost.iter().for_each(|expected| self.give_back(link, expected));
    }

    /// Perhaps nobody has an artifact.
    fn look_at(&mut self, key: ArtifactId, out: &mut Vec<Effect>) {
        let Some(fetch) = self.transfers.fetches.get_mut(&key) else { return };
        if !fetch.sources.is_empty() || fetch.pending > 0 || fetch.moving > 0 {
            return;
        }
        let alone = !self.sessions.values().any(Session::may_ask);
        let why = match fetch.failure.take() {
            Some(why) => why,
            None if alone => FetchFailure::NoLinks,
            None => FetchFailure::Lacking,
        };
        fail_requests(key, &why, std::mem::take(&mut fetch.requests), out);
        if !fetch.kept {
            self.drop_fetch(&key);
        } else if !alone && !std::mem::replace(&mut fetch.told_lacking, true) {
            out.push(Effect::Notify(Notice::ArtifactLacking { key }));
        }
    }

    /// Who does not answer loses its parts to others.
    pub(in crate::node) fn give_up_in_time(
        &mut self,
        now: u64,
        link: LinkId,
        out: &mut Vec<Effect>,
    ) {
        let Some(session) = self.sessions.get_mut(&link) else { return };
        let trade = &mut session.trade;
        if !trade.expected.is_empty() && trade.heard + trade.patience <= now {
            trade.slow = true;
            trade.heard = now;
            let lost: Vec<Expected> = trade.expected.drain(..).collect();
            lost.iter().for_each(|expected| trade.note_late(expected.clone()));
            lost.iter().for_each(|expected| self.give_back(link, expected));
            // It may be the only one.
            self.transfers.stirred.insert(link);
        }
        let Some(session) = self.sessions.get_mut(&link) else { return };
        let unanswered =
            session.trade.asked.take_if(|asked| asked.at + session.trade.answer_ms <= now);
        if let Some(asked) = unanswered {
            self.transfers.stirred.insert(link);
            session.trade.unanswered = session.trade.unanswered.saturating_add(1);
            if session.trade.unanswered <= ASKED_AGAIN_MAX {
                session.trade.to_ask.extend(asked.keys);
            } else {
                asked.keys.iter().for_each(|key| self.answered(key));
            }
        }
        let Some(session) = self.sessions.get_mut(&link) else { return };
        if session.trade.leaving.is_some_and(|leaving| leaving.until <= now) {
            self.leave(link, out);
        }
    }
}
