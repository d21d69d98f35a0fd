//! Machines and links between them.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use bytes::Bytes;
use ed25519_dalek::Signer;
use quipu_core::domain::{Decision, Invitation, Parameters, Role};
use quipu_core::event::Log;
use quipu_core::id::{DomainId, EventId, NodeKey};
use quipu_core::node::{Command, CommandError, Emitted, Input, LinkId, LinkRole, Reply, RequestId};
use quipu_core::sync::message::{InviteProof, invite_message};

use super::history::MemoryHistory;
use super::machine::{Machine, Out, key};
use super::{Dice, T0, field};

/// How a link treats frames.
#[derive(Debug, Clone, Copy, Default)]
pub struct LinkMode {
    /// Milliseconds on the way.
    pub latency: u64,
    /// In a hundred: frames lost.
    pub loss: u64,
    /// In a hundred: frames that come twice.
    pub duplication: u64,
    /// In a hundred: frames that come late, after others.
    pub reordering: u64,
}

#[derive(Debug)]
struct Link {
    ends: [usize; 2],
    live: bool,
    mode: LinkMode,
    up: bool,
    /// Frames to carry before the link breaks.
    frames_left: Option<u64>,
    frames: u64,
    bytes: u64,
}

#[derive(Debug)]
struct Frame {
    link: LinkId,
    to: usize,
    bytes: Option<Vec<u8>>,
}

/// Machines, links, a clock.
#[derive(Debug)]
pub struct World {
    pub now: u64,
    /// The log that all machines hold.
    pub log: Log,
    pub machines: Vec<Machine>,
    pub dice: Dice,
    links: BTreeMap<LinkId, Link>,
    /// What is on its way: by time of arrival, then by order of sending.
    flying: BTreeMap<(u64, u64), Frame>,
    sent: u64,
    /// Links are opened again after a while when they break.
    pub reconnect: bool,
    again: BTreeMap<u64, Vec<(usize, usize, LinkMode)>>,
    pub request: RequestId,
}

impl World {
    /// A founder with machine number 0.
    pub fn new() -> Self {
        Self::with(&Parameters { name: "test".into(), ..Parameters::default() })
    }

    pub fn with(parameters: &Parameters) -> Self {
        Self::of(parameters, Log::Internal)
    }

    /// The machines of [`Self::new`], with the domain's published log.
    pub fn published() -> Self {
        let parameters = Parameters { name: "test".into(), ..Parameters::default() };
        Self::of(&parameters, Log::Published)
    }

    fn of(parameters: &Parameters, log: Log) -> Self {
        Self {
            now: T0,
            log,
            machines: vec![Machine::founder_of(0, T0, parameters, log)],
            dice: Dice(1),
            links: BTreeMap::new(),
            flying: BTreeMap::new(),
            sent: 0,
            reconnect: false,
            again: BTreeMap::new(),
            request: 1 << 32,
        }
    }

    pub fn domain(&self) -> DomainId {
        self.machines[0].node.domain()
    }

    /// Machine `n` with that log.
    fn holding(&self, n: usize, history: MemoryHistory) -> Machine {
        Machine::of_log(key(n as u64), (self.domain(), self.log), history)
    }

    /// Adds a machine that holds nothing.
    pub fn add_stranger(&mut self) -> usize {
        let n = self.machines.len();
        self.machines.push(self.holding(n, MemoryHistory::default()));
        n
    }

    /// Adds machines that the founder made members, and that hold what the founder holds.
    pub fn add_members(&mut self, count: usize, role: Role) {
        for _ in 0..count {
            let n = self.machines.len();
            let node = NodeKey(key(n as u64).verifying_key().to_bytes());
            self.decide(0, Decision::Add { node, role, invite: None }).unwrap();
            let history = self.machines[0].history.clone();
            self.machines.push(self.holding(n, history));
        }
        // All of them know all of them.
        let history = self.machines[0].history.clone();
        for n in self.machines.len() - count..self.machines.len() {
            self.machines[n] = self.holding(n, history.clone());
        }
    }

    pub fn id(&self, n: usize) -> NodeKey {
        self.machines[n].id
    }

    /// Sends on what left a machine.
    pub fn dispatch(&mut self, from: usize, outs: Vec<Out>) {
        let mut drained: Vec<LinkId> = Vec::new();
        for out in outs {
            match out {
                Out::Send(link, bytes) => {
                    self.send(from, link, bytes);
                    drained.push(link);
                }
                Out::Close(link, reason) => self.close(from, link, &reason),
            }
        }
        drained.sort_unstable();
        drained.dedup();
        for link in drained {
            if self.links.get(&link).is_some_and(|l| l.up) {
                let at = (self.now, self.sent);
                self.sent += 1;
                self.flying.insert(at, Frame { link, to: from, bytes: None });
            }
        }
    }

    fn send(&mut self, from: usize, link: LinkId, bytes: Vec<u8>) {
        let Some(l) = self.links.get_mut(&link).filter(|l| l.up) else { return };
        l.frames += 1;
        l.bytes += bytes.len() as u64;
        assert!(bytes.len() <= 1 << 20, "a frame of {} bytes", bytes.len());
        if l.frames_left == Some(0) {
            self.break_link(link);
            return;
        }
        l.frames_left = l.frames_left.map(|n| n - 1);
        let to = l.ends[usize::from(l.ends[0] == from)];
        let mode = l.mode;
        let copies = if self.dice.chance(mode.duplication) { 2 } else { 1 };
        for _ in 0..copies {
            if self.dice.chance(mode.loss) {
                continue;
            }
            let late = if self.dice.chance(mode.reordering) { 5 } else { 0 };
            let at = (self.now + mode.latency + late, self.sent);
            self.sent += 1;
            self.flying.insert(at, Frame { link, to, bytes: Some(bytes.clone()) });
        }
    }

    /// The other side hears of it after the frames that were sent before.
    fn close(&mut self, from: usize, link: LinkId, reason: &str) {
        let Some(l) = self.links.get_mut(&link).filter(|l| l.up) else { return };
        l.up = false;
        let (ends, mode, live) = (l.ends, l.mode, l.live);
        let mut due: Vec<(u64, u64)> = Vec::new();
        due.extend(
            self.flying.iter().filter(|(_, f)| f.link == link && f.to != from).map(|x| *x.0),
        );
        for at in due {
            if let Some(Frame { to, bytes: Some(bytes), .. }) = self.flying.remove(&at) {
                self.turn(to, vec![Input::Frame { link, bytes }]);
            }
        }
        self.flying.retain(|_, frame| frame.link != link);
        for end in ends {
            self.turn(end, vec![Input::LinkDown { link, reason: reason.to_owned() }]);
        }
        if self.reconnect && live {
            self.again.entry(self.now + 1000).or_default().push((ends[0], ends[1], mode));
        }
    }

    /// A link breaks; what is on its way is lost.
    pub fn break_link(&mut self, link: LinkId) {
        let Some(l) = self.links.get_mut(&link).filter(|l| l.up) else { return };
        l.up = false;
        let (ends, mode, live) = (l.ends, l.mode, l.live);
        self.flying.retain(|_, frame| frame.link != link);
        for end in ends {
            self.turn(end, vec![Input::LinkDown { link, reason: "broken".to_owned() }]);
        }
        if self.reconnect && live {
            self.again.entry(self.now + 1000).or_default().push((ends[0], ends[1], mode));
        }
    }

    pub fn break_all(&mut self) {
        let links: Vec<LinkId> = self.links.keys().copied().collect();
        links.into_iter().for_each(|link| self.break_link(link));
        self.again.clear();
    }

    pub fn turn(&mut self, n: usize, inputs: Vec<Input>) {
        let outs = self.machines[n].turn(self.now, inputs);
        self.dispatch(n, outs);
    }

    /// Opens a link from `a` to `b` that stays.
    pub fn link(&mut self, a: usize, b: usize) -> LinkId {
        self.open(a, b, true, None, None, LinkMode::default())
    }

    pub fn open(
        &mut self,
        a: usize,
        b: usize,
        live: bool,
        request: Option<RequestId>,
        invite: Option<InviteProof>,
        mode: LinkMode,
    ) -> LinkId {
        let link = self.links.len() as LinkId + 1;
        let l = Link { ends: [a, b], live, mode, up: true, frames_left: None, frames: 0, bytes: 0 };
        self.links.insert(link, l);
        let (peer_of_a, peer_of_b) = (self.id(b), self.id(a));
        self.turn(b, vec![Input::LinkUp { link, peer: peer_of_b, role: LinkRole::Responder }]);
        let role = LinkRole::Initiator { live, request, invite, only_state: false };
        self.turn(a, vec![Input::LinkUp { link, peer: peer_of_a, role }]);
        link
    }

    /// Opens a link that breaks after some frames.
    pub fn open_short(&mut self, a: usize, b: usize, frames: u64) -> LinkId {
        let link = self.links.len() as LinkId + 1;
        let l = Link {
            ends: [a, b],
            live: true,
            mode: LinkMode::default(),
            up: true,
            frames_left: Some(frames),
            frames: 0,
            bytes: 0,
        };
        self.links.insert(link, l);
        let (peer_of_a, peer_of_b) = (self.id(b), self.id(a));
        self.turn(b, vec![Input::LinkUp { link, peer: peer_of_b, role: LinkRole::Responder }]);
        let role =
            LinkRole::Initiator { live: true, request: None, invite: None, only_state: false };
        self.turn(a, vec![Input::LinkUp { link, peer: peer_of_a, role }]);
        link
    }

    /// Delivers the next thing. Answers whether there was one at this time.
    fn deliver_next(&mut self) -> bool {
        let Some((at, _)) = self.flying.first_key_value() else { return false };
        if at.0 > self.now {
            return false;
        }
        let Some((_, Frame { link, to, bytes })) = self.flying.pop_first() else { return false };
        let input = match bytes {
            Some(bytes) => Input::Frame { link, bytes },
            None => Input::Writable { link, written: u64::MAX },
        };
        self.turn(to, vec![input]);
        true
    }

    /// Delivers the next thing, whenever it is due.
    pub fn step(&mut self) {
        if let Some((at, _)) = self.flying.first_key_value() {
            self.now = self.now.max(at.0);
        }
        self.deliver_next();
    }

    /// Carries everything there is, without any time for timers: only flights take time.
    pub fn settle(&mut self) {
        for _ in 0..2_000_000 {
            if !self.deliver_next() {
                match self.flying.first_key_value() {
                    Some((at, _)) => self.now = at.0,
                    None => return,
                }
            }
        }
        panic!("never quiet");
    }

    /// Lets time pass, with ticks when they are due.
    pub fn run_for(&mut self, ms: u64) {
        let end = self.now + ms;
        for _ in 0..5_000_000 {
            if self.deliver_next() {
                continue;
            }
            let due: Vec<usize> = (0..self.machines.len())
                .filter(|n| {
                    let m = &self.machines[*n];
                    m.node
                        .deadline()
                        .is_some_and(|d| d <= self.now.saturating_add_signed(m.clock_error))
                })
                .collect();
            if !due.is_empty() {
                due.into_iter().for_each(|n| self.turn(n, vec![Input::Tick]));
                // A tick may leave its deadline where it was; do not spin.
                self.now += 1;
                continue;
            }
            if let Some((at, _)) = self.again.first_key_value()
                && *at <= self.now
            {
                let (_, list) = self.again.pop_first().unwrap();
                for (a, b, mode) in list {
                    self.open(a, b, true, None, None, mode);
                }
                continue;
            }
            let next_flight = self.flying.first_key_value().map(|(at, _)| at.0);
            let next_again = self.again.first_key_value().map(|(at, _)| *at);
            let deadlines = self
                .machines
                .iter()
                .filter_map(|m| m.node.deadline().map(|d| d.saturating_add_signed(-m.clock_error)));
            let next = deadlines
                .chain(next_flight)
                .chain(next_again)
                .min()
                .unwrap_or(end)
                .max(self.now + 1);
            if next >= end {
                self.now = end;
                return;
            }
            self.now = next;
        }
        panic!("never quiet");
    }

    pub fn command(&mut self, n: usize, command: Command) -> Result<Reply, CommandError> {
        let (reply, outs) = self.machines[n].command(self.now, command);
        self.dispatch(n, outs);
        reply
    }

    pub fn emit(&mut self, n: usize, count: u64) -> Vec<Emitted> {
        let events: Vec<(Arc<str>, Bytes)> =
            (0..count).map(|i| field(self.dice.next() % 1000 * 1000 + i)).collect();
        Machine::emitted(self.command(n, Command::Emit(events)))
    }

    pub fn decide(&mut self, n: usize, decision: Decision) -> Result<EventId, CommandError> {
        match self.command(n, Command::Decide(decision))? {
            Reply::Emitted(list) => Ok(list[0].id),
            other => panic!("{other:?}"),
        }
    }

    /// An invitation by machine `n`, as the ticket's key.
    pub fn invite(&mut self, n: usize, seed: u64, role: Role, uses_max: u64) -> u64 {
        let ticket = NodeKey(key(seed).verifying_key().to_bytes());
        let expires_ms = self.now + 1_000_000;
        let invitation = Invitation { key: ticket, role, expires_ms, uses_max };
        self.decide(n, Decision::Invite(invitation)).unwrap();
        seed
    }

    /// The proof with which machine `n` shows that it holds a ticket.
    pub fn proof(&self, n: usize, seed: u64) -> InviteProof {
        let ticket = key(seed);
        let message = invite_message(&self.domain(), &self.id(n));
        InviteProof {
            key: NodeKey(ticket.verifying_key().to_bytes()),
            signature: ticket.sign(&message).to_bytes(),
        }
    }

    /// A one-off sync of `a` with `b`, to its end. The reply.
    pub fn sync(&mut self, a: usize, b: usize) -> Result<Reply, CommandError> {
        self.sync_with(a, b, None)
    }

    pub fn sync_with(
        &mut self,
        a: usize,
        b: usize,
        invite: Option<InviteProof>,
    ) -> Result<Reply, CommandError> {
        self.request += 1;
        let request = self.request;
        self.open(a, b, false, Some(request), invite, LinkMode::default());
        self.settle();
        self.machines[a].replies.remove(&request).expect("an answer")
    }

    /// A one-off sync, with something done after each of the first frames.
    pub fn sync_while(
        &mut self,
        a: usize,
        b: usize,
        frames: usize,
        mut action: impl FnMut(&mut Self),
    ) -> Option<Result<Reply, CommandError>> {
        self.request += 1;
        let request = self.request;
        self.open(a, b, false, Some(request), None, LinkMode { latency: 1, ..LinkMode::default() });
        for _ in 0..frames {
            if let Some((at, _)) = self.flying.first_key_value() {
                self.now = self.now.max(at.0);
            }
            self.deliver_next();
            action(self);
        }
        self.settle();
        self.machines[a].replies.remove(&request)
    }

    /// Frames and bytes that went over a link.
    pub fn counted(&self, link: LinkId) -> (u64, u64) {
        let l = &self.links[&link];
        (l.frames, l.bytes)
    }

    pub fn last_link(&self) -> LinkId {
        self.links.len() as LinkId
    }

    pub fn links_up(&self) -> usize {
        self.links.values().filter(|l| l.up).count()
    }

    /// Whether all these machines hold the same.
    pub fn agree(&mut self, who: &[usize]) -> bool {
        let digests: Vec<_> = who.iter().map(|n| self.machines[*n].node.digest()).collect();
        digests.windows(2).all(|pair| pair[0] == pair[1])
    }

    /// Events whose payload somebody wanted erased. Whether that counts may change, but a payload
    /// that is gone is gone.
    fn disputed(&self) -> BTreeSet<EventId> {
        let all = self.machines.iter().flat_map(|machine| machine.history.all());
        all.filter_map(|event| match Decision::of_event(event) {
            Some(Decision::Erase { target, .. }) => Some(target),
            _ => None,
        })
        .collect()
    }

    /// Panics unless these machines hold the same, byte for byte.
    pub fn assert_agree(&mut self, who: &[usize]) {
        let disputed = self.disputed();
        let first = self.machines[who[0]].log();
        for n in who {
            let log = self.machines[*n].log();
            let ids = |log: &[quipu_core::event::Event]| -> Vec<EventId> {
                log.iter().map(|e| e.id).collect()
            };
            let (a, b) = (ids(&first), ids(&log));
            assert_eq!(a.len(), b.len(), "machines {} and {n} hold as many events", who[0]);
            assert!(a == b, "machines {} and {n} hold the same events", who[0]);
            assert_eq!(log.len() as u64, self.machines[*n].event_count());
            for (x, y) in first.iter().zip(&log).filter(|(x, _)| !disputed.contains(&x.id)) {
                assert_eq!(x.payload, y.payload, "payload of {}", x.id);
            }
        }
        assert!(self.agree(who), "equal digests");
    }

    pub fn crash(&mut self, n: usize) {
        let links: Vec<LinkId> =
            self.links.iter().filter(|(_, l)| l.up && l.ends.contains(&n)).map(|x| *x.0).collect();
        self.machines[n].crash();
        links.into_iter().for_each(|link| self.break_link(link));
    }
}
