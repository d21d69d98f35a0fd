//! One machine: a node, its log in memory, and what a driver does.

use std::collections::{BTreeMap, VecDeque};

use ed25519_dalek::SigningKey;
use quipu_core::domain::{Parameters, Role};
use quipu_core::event::{Event, Log, LogSeq, VerifiedEvent, sign_own};
use quipu_core::history::History;
use quipu_core::id::{DomainId, EventId, NodeKey};
use quipu_core::node::{
    Command, CommandError, Effect, Emitted, Input, LinkId, Met, Node, Notice, Reply, RequestId,
};

use super::history::MemoryHistory;

/// A machine's key from a small number.
pub fn key(n: u64) -> SigningKey {
    SigningKey::from_bytes(blake3::hash(&n.to_le_bytes()).as_bytes())
}

/// What leaves a machine at the end of a turn.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Out {
    Send(LinkId, Vec<u8>),
    Close(LinkId, String),
}

/// A machine with its driver.
#[derive(Debug)]
pub struct Machine {
    pub signing: SigningKey,
    pub id: NodeKey,
    pub node: Node,
    pub history: MemoryHistory,
    pub met: BTreeMap<NodeKey, Met>,
    pub replies: BTreeMap<RequestId, Result<Reply, CommandError>>,
    pub notices: Vec<Notice>,
    /// What its clock shows, less the true time, in milliseconds.
    pub clock_error: i64,
    /// Ids of own events that somebody was told are durable.
    pub acknowledged: Vec<EventId>,
    held_back: Vec<Out>,
    last_request: RequestId,
}

impl Machine {
    /// A machine that holds nothing yet.
    pub fn joining(n: u64, domain: DomainId) -> Self {
        Self::of(key(n), domain, MemoryHistory::default())
    }

    /// A machine that founds a domain.
    pub fn founder(n: u64, now: u64, parameters: &Parameters) -> Self {
        Self::founder_of(n, now, parameters, Log::Internal)
    }

    /// The founder's part in one of the domain's logs.
    pub fn founder_of(n: u64, now: u64, parameters: &Parameters, log: Log) -> Self {
        let signing = key(n);
        let id = NodeKey(signing.verifying_key().to_bytes());
        let salt = vec![7; parameters.salt_bytes];
        let root = sign_own(vec![parameters.root(id, LogSeq::from_ms(now), &salt)], &signing);
        let domain = DomainId::from(root[0].id);
        let mut history = MemoryHistory::default();
        root.into_iter().for_each(|event| history.append(event.into_event()));
        history.commit();
        Self::of_log(signing, (domain, log), history)
    }

    /// A machine with that internal log.
    pub fn of(signing: SigningKey, domain: DomainId, history: MemoryHistory) -> Self {
        Self::of_log(signing, (domain, Log::Internal), history)
    }

    /// A machine's part in one log.
    pub fn of_log(
        signing: SigningKey,
        (domain, log): (DomainId, Log),
        history: MemoryHistory,
    ) -> Self {
        let id = NodeKey(signing.verifying_key().to_bytes());
        let mut node = Node::new(domain, log, signing.clone(), *blake3::hash(&id.0).as_bytes());
        node.open(&history).unwrap().unwrap();
        Self {
            signing,
            id,
            node,
            history,
            met: BTreeMap::new(),
            replies: BTreeMap::new(),
            notices: Vec::new(),
            clock_error: 0,
            acknowledged: Vec::new(),
            held_back: Vec::new(),
            last_request: 0,
        }
    }

    /// Stops at once and starts again with what was committed.
    pub fn crash(&mut self) {
        let of = (self.node.domain(), self.node.log());
        let mut again = Self::of_log(self.signing.clone(), of, self.history.after_crash());
        for (peer, met) in &self.met {
            again.node.recall(*peer, *met);
        }
        again.met = std::mem::take(&mut self.met);
        again.acknowledged = std::mem::take(&mut self.acknowledged);
        again.clock_error = self.clock_error;
        again.last_request = self.last_request;
        *self = again;
    }

    fn clock(&self, now: u64) -> u64 {
        now.saturating_add_signed(self.clock_error)
    }

    /// Handles an input with everything that follows from it, without a commit.
    pub fn input(&mut self, now: u64, input: Input) {
        let now = self.clock(now);
        let mut next = VecDeque::from([input]);
        while let Some(input) = next.pop_front() {
            let mut effects = Vec::new();
            self.node.handle(now, &self.history, input, &mut effects).unwrap();
            for effect in effects {
                next.extend(self.carry_out(effect));
            }
        }
    }

    fn carry_out(&mut self, effect: Effect) -> Option<Input> {
        match effect {
            Effect::Append { events, .. } => {
                events.into_iter().for_each(|event| self.history.append(event.into_event()));
            }
            Effect::Prove { end, proof, .. } => self.history.prove(end, proof),
            Effect::Continue => return Some(Input::Continue),
            // Snapshots are shown where there is a driver.
            Effect::MakeState { link } => return Some(Input::StateMade { link, offer: None }),
            Effect::TakeState { .. } => {}
            Effect::StorePart { link, key, size, groups, bytes } => {
                let outcome = self.history.artifacts.store(key, size, &groups, &bytes);
                return Some(Input::PartStored { link, key, groups, outcome });
            }
            Effect::Erase { ordinal, .. } => self.history.erase(ordinal),
            Effect::Send { link, bytes } => self.held_back.push(Out::Send(link, bytes)),
            Effect::Close { link, reason } => self.held_back.push(Out::Close(link, reason)),
            Effect::Reply { request, reply } => {
                if let Ok(Reply::Emitted(list)) = &reply {
                    self.acknowledged.extend(list.iter().map(|emitted| emitted.id));
                }
                self.replies.insert(request, reply);
            }
            Effect::Remember { peer, met } => _ = self.met.insert(peer, met),
            Effect::Notify(notice) => self.notices.push(notice),
        }
        None
    }

    /// A whole turn.
    pub fn turn(&mut self, now: u64, inputs: Vec<Input>) -> Vec<Out> {
        for input in inputs {
            self.input(now, input);
        }
        self.input(now, Input::TurnEnd);
        self.history.commit();
        let before = self.history.all().len();
        self.input(now, Input::Committed);
        assert_eq!(self.history.all().len(), before, "a commit brings about no appends");
        assert!(self.node.is_idle(), "a turn leaves nothing undone");
        self.history.commit();
        std::mem::take(&mut self.held_back)
    }

    /// A turn with one command. The answer, and what leaves the machine.
    pub fn command(
        &mut self,
        now: u64,
        command: Command,
    ) -> (Result<Reply, CommandError>, Vec<Out>) {
        self.last_request += 1;
        let request = self.last_request;
        let out = self.turn(now, vec![Input::Local { request, command }]);
        (self.replies.remove(&request).expect("an answer"), out)
    }

    /// Events as others may see them: those in the log, sorted.
    pub fn log(&self) -> Vec<Event> {
        let Some(dag) = self.node.dag() else { return Vec::new() };
        let mut events: Vec<Event> =
            self.history.all().iter().filter(|e| !dag.is_quarantined(&e.id)).cloned().collect();
        events.sort_by_key(Event::order);
        events
    }

    /// What the answer to an emit holds.
    pub fn emitted(reply: Result<Reply, CommandError>) -> Vec<Emitted> {
        match reply {
            Ok(Reply::Emitted(list)) => list,
            other => panic!("not emitted: {other:?}"),
        }
    }

    pub fn role(&self, node: &NodeKey) -> Option<Role> {
        self.node.dag().and_then(|dag| dag.authority().role(node))
    }

    pub fn event_count(&self) -> u64 {
        self.node.dag().map_or(0, quipu_core::dag::Dag::event_count)
    }

    pub fn leaves(&self) -> usize {
        self.node.dag().map_or(0, quipu_core::dag::Dag::leaf_count)
    }

    /// Puts an event in as if it came from a file.
    pub fn import(&mut self, now: u64, events: Vec<Event>) -> Vec<Out> {
        let events = events.into_iter().map(VerifiedEvent::from_store).collect();
        let (reply, out) = self.command(now, Command::Import(events));
        reply.unwrap();
        out
    }

    pub fn held(&self) -> u64 {
        self.history.count(self.node.log())
    }
}
