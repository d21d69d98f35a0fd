//! The whole machine: `handle(now, input)` pushes effects, in order, for the driver to carry out.
//!
//! The node does no IO and knows no clock. It reads what the machine holds through [`History`];
//! everything it wants done is an [`Effect`]. The driver carries effects out in order before it
//! calls again, commits once a turn, and holds back sends and replies until the commit: so nothing
//! is told to anybody before it is durable here.

mod access;
mod apply;
mod compare;
mod exchange;
mod local;
mod loose;
mod newcomer;
mod peer;
mod proof;
mod refs;
mod stream;
mod transfer;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::ops::Range;

use bytes::Bytes;
use ed25519_dalek::SigningKey;

pub use local::{Command, CommandError, Emitted, FetchFailure, Reply};
pub use transfer::{Fetching, PartOutcome};

use crate::dag::{Dag, Rule, digest_of};
use crate::domain::RootError;
use crate::event::{Event, Log, VerifiedEvent};
use crate::history::{History, Missing, Ordinal};
use crate::id::{ArtifactId, DomainId, EventId, LogDigest, NodeKey};
use crate::queue::Queue;
use crate::sync::frontier::Frontier;
use crate::sync::message::{InviteProof, Refusal, StateOffer};
use crate::sync::session::{Pace, Session, SessionState, Traffic};

/// A link as the driver numbers it.
pub type LinkId = u64;
/// A request as the driver numbers it.
pub type RequestId = u64;

/// What happens to a machine.
#[derive(Debug)]
pub enum Input {
    /// Somebody at this machine wants something.
    Local {
        /// Comes back with the reply.
        request: RequestId,
        /// What is wanted.
        command: Command,
    },
    /// A link is up, and the transport has proven who is at its other end.
    LinkUp {
        /// The link.
        link: LinkId,
        /// Who is there.
        peer: NodeKey,
        /// How this side takes part.
        role: LinkRole,
    },
    /// How fast a link is, right after it came up. Else it is taken for a fast one.
    Paced {
        /// The link.
        link: LinkId,
        /// Its pace.
        pace: Pace,
    },
    /// A frame came.
    Frame {
        /// The link.
        link: LinkId,
        /// The frame.
        bytes: Vec<u8>,
    },
    /// What was sent has mostly left.
    Writable {
        /// The link.
        link: LinkId,
        /// Bytes of all frames that have left on it so far. Saying it twice lets nothing more out.
        written: u64,
    },
    /// A link is gone.
    LinkDown {
        /// The link.
        link: LinkId,
        /// Why, for people.
        reason: String,
    },
    /// An artifact is to be fetched from whoever has it, until it is here or not wanted any more.
    /// Nothing happens if [`Node::wants_room`] is used up: say it again later.
    Want {
        /// Which.
        key: ArtifactId,
        /// What is lacking, if a part of it is here: asked from the history if not said.
        missing: Option<Missing>,
    },
    /// An artifact is not to be fetched any more. Requests for it stand.
    Unwant {
        /// Which.
        key: ArtifactId,
    },
    /// Every [`Input::Want`] that follows from the events so far was given: sessions that do not
    /// stay may end. See [`Node::await_wants`].
    WantsTold,
    /// An artifact is held whole now, by other ways than [`Effect::StorePart`].
    ArtifactHeld {
        /// Which.
        key: ArtifactId,
        /// Its size.
        size: u64,
    },
    /// The answer to [`Effect::StorePart`]; one for each, in any order.
    PartStored {
        /// Where the part came from.
        link: LinkId,
        /// Of which artifact.
        key: ArtifactId,
        /// Which groups.
        groups: Range<u64>,
        /// What became of it.
        outcome: PartOutcome,
    },
    /// The answer to [`Effect::MakeState`].
    StateMade {
        /// The link.
        link: LinkId,
        /// The latest snapshot and where its state is, if there is a snapshot.
        offer: Option<StateOffer>,
    },
    /// Who may read all that is published and held here, whatever the log says. Whoever is linked and is
    /// not among them any more is turned away.
    Circle {
        /// The machines.
        nodes: BTreeSet<NodeKey>,
    },
    /// Time has passed; see [`Node::deadline`].
    Tick,
    /// The effects so far are carried out: go on with what was put off.
    Continue,
    /// Nothing else came: get ready for the commit.
    TurnEnd,
    /// Everything appended is durable.
    Committed,
}

/// How a machine takes part in a link.
#[derive(Debug, Clone)]
pub enum LinkRole {
    /// The other side opened it.
    Responder,
    /// This side opened it.
    Initiator {
        /// Stay for live events.
        live: bool,
        /// Reply to this request once both are level, or it failed.
        request: Option<RequestId>,
        /// For a newcomer.
        invite: Option<InviteProof>,
        /// For a newcomer: take the latest snapshot's state only, and leave the log for another time.
        only_state: bool,
    },
}

/// What a machine wants done.
#[derive(Debug)]
pub enum Effect {
    /// Append to the log. In memory at once, durable with the next commit.
    Append {
        /// Which log.
        log: Log,
        /// The events, links first.
        events: Vec<VerifiedEvent>,
    },
    /// Keep events that are not in the log, but prove who wrote the end of a feed that is: visible
    /// at once, durable no later than the end itself.
    Prove {
        /// Which log.
        log: Log,
        /// The end.
        end: EventId,
        /// What follows it, up to the first signature.
        proof: Vec<Event>,
    },
    /// Erase a payload from every file.
    Erase {
        /// Which log.
        log: Log,
        /// The event whose payload goes.
        ordinal: Ordinal,
    },
    /// Call again with [`Input::Continue`] after this.
    Continue,
    /// Send a frame, after the next commit.
    Send {
        /// The link.
        link: LinkId,
        /// The frame.
        bytes: Vec<u8>,
    },
    /// Close a link, after what was sent.
    Close {
        /// The link.
        link: LinkId,
        /// Why, for people.
        reason: String,
    },
    /// Check a part of an artifact against its name, keep it if it fits, and answer with
    /// [`Input::PartStored`]. Does not wait for a commit.
    StorePart {
        /// Where it came from.
        link: LinkId,
        /// Of which artifact.
        key: ArtifactId,
        /// The size that the sender claims.
        size: u64,
        /// Which groups.
        groups: Range<u64>,
        /// The groups with what proves them.
        bytes: Bytes,
    },
    /// Answer a request, after the next commit.
    Reply {
        /// The request.
        request: RequestId,
        /// The answer.
        reply: Result<Reply, CommandError>,
    },
    /// Find the latest snapshot, put its state into an artifact, and say so with
    /// [`Input::StateMade`].
    MakeState {
        /// Who asked.
        link: LinkId,
    },
    /// A peer offers a snapshot's state; the artifact follows. Nothing of it is proven yet.
    TakeState {
        /// What it offers.
        offer: StateOffer,
    },
    /// Remember where a peer and this machine were level. May be lost.
    Remember {
        /// The peer.
        peer: NodeKey,
        /// Where.
        met: Met,
    },
    /// Something worth telling.
    Notify(Notice),
}

/// Where two machines were level.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Met {
    /// The digest that both had.
    pub digest: LogDigest,
    /// How many ordinals this machine had handed out.
    pub ordinal: Ordinal,
}

/// Something worth telling the people at this machine.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Notice {
    /// A peer was let in.
    PeerUp {
        /// The peer.
        peer: NodeKey,
        /// The link.
        link: LinkId,
        /// Whether it stays for live events.
        live: bool,
    },
    /// A newcomer was made a member.
    Admitted {
        /// The new member.
        node: NodeKey,
    },
    /// Both machines hold the same.
    Level {
        /// The peer.
        peer: NodeKey,
        /// What it took.
        traffic: Traffic,
    },
    /// One side turned the other away.
    PeerRefused {
        /// The peer.
        peer: NodeKey,
        /// Why.
        refusal: Refusal,
        /// Why, for people.
        text: String,
    },
    /// A peer sent an event that breaks a rule.
    EventRefused {
        /// Who sent it.
        peer: Option<NodeKey>,
        /// The event.
        id: EventId,
        /// What it breaks.
        rule: Rule,
    },
    /// An author wrote two histories.
    Forked {
        /// The author.
        author: NodeKey,
        /// One of the events.
        id: EventId,
    },
    /// An event was kept aside.
    Quarantined {
        /// The author.
        author: NodeKey,
        /// The event.
        id: EventId,
    },
    /// A wanted artifact is held whole now.
    ArtifactComplete {
        /// Which.
        key: ArtifactId,
        /// Its size.
        size: u64,
    },
    /// Everybody who is linked was asked for a wanted artifact, and nobody has it.
    ArtifactLacking {
        /// Which.
        key: ArtifactId,
    },
    /// A wanted artifact could not be kept here. It is not wanted any more.
    ArtifactFailed {
        /// Which.
        key: ArtifactId,
        /// Why.
        reason: String,
    },
    /// A peer sent bytes that are not of the artifact that it said.
    BadPart {
        /// Who sent it.
        peer: NodeKey,
        /// Of which artifact.
        key: ArtifactId,
        /// What does not fit.
        reason: String,
    },
}

/// One machine's part in one log of a domain.
#[derive(Debug)]
pub struct Node {
    domain: DomainId,
    log: Log,
    key: SigningKey,
    node: NodeKey,
    dag: Option<Dag>,
    frontier: Frontier,
    sessions: BTreeMap<LinkId, Session>,
    /// Authentic events that are to be put to the DAG, with the link they came over.
    inbox: Queue<(Option<LinkId>, VerifiedEvent)>,
    /// Frames that came while others were not done.
    frames: VecDeque<(LinkId, Bytes)>,
    jobs: VecDeque<local::Job>,
    /// Applied, not appended yet.
    staged: Vec<VerifiedEvent>,
    /// An append was asked for in the last step.
    appending: bool,
    /// A removal was applied: look at all events again once it is appended.
    reconsider: bool,
    /// The turn ends when what is queued is done.
    ending: bool,
    waiting: apply::Waiting,
    loose: loose::Loose,
    met: BTreeMap<NodeKey, Met>,
    /// Who may read what is published, whatever the log says.
    circle: BTreeSet<NodeKey>,
    transfers: transfer::Transfers,
    salts: blake3::OutputReader,
    /// What the clock showed last.
    seen_ms: u64,
}

/// Whether a step could be finished.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Flow {
    Done,
    /// What is staged must be appended first; then do the step again.
    Blocked,
}

impl Node {
    /// A machine that holds nothing of the log yet. `entropy` feeds the salts of payloads.
    pub fn new(domain: DomainId, log: Log, key: SigningKey, entropy: [u8; 32]) -> Self {
        let node = NodeKey(key.verifying_key().to_bytes());
        Self {
            domain,
            log,
            key,
            node,
            dag: None,
            frontier: Frontier::new(&domain),
            sessions: BTreeMap::new(),
            inbox: Queue::default(),
            frames: VecDeque::new(),
            jobs: VecDeque::new(),
            staged: Vec::new(),
            appending: false,
            reconsider: false,
            ending: false,
            waiting: apply::Waiting::default(),
            loose: loose::Loose::default(),
            met: BTreeMap::new(),
            circle: BTreeSet::new(),
            transfers: transfer::Transfers::default(),
            salts: blake3::Hasher::new_keyed(&entropy).finalize_xof(),
            seen_ms: 0,
        }
    }

    /// Opens the log that the store holds, if it holds one.
    ///
    /// # Errors
    /// What the history could not read, or that its first event is no root event.
    pub fn open<H: History>(&mut self, history: &H) -> Result<Result<(), RootError>, H::Error> {
        if history.count(self.log) == 0 {
            return Ok(Ok(()));
        }
        let root = history.event(self.log, 0)?;
        match Dag::new(&root, self.log) {
            Ok(mut dag) => {
                dag.open(history)?;
                self.dag = Some(dag);
                Ok(Ok(()))
            }
            Err(error) => Ok(Err(error)),
        }
    }

    /// Gets ready to compare: makes the sketch of all feed ends, which is kept up to date from then on.
    /// Else the first comparison does it. Takes some 2 us for each feed.
    pub fn prepare(&mut self) {
        if let Some(dag) = &mut self.dag {
            self.frontier.refresh(dag);
        }
    }

    /// Events as others need them: with the signatures that they must have, and with the proofs of
    /// feed ends that have none.
    ///
    /// # Errors
    /// What the history could not read.
    pub fn proven<H: History>(
        &self,
        events: Vec<Event>,
        history: &H,
    ) -> Result<Vec<Event>, H::Error> {
        match &self.dag {
            Some(dag) => proof::with_proofs(events, dag, &self.key, history, false),
            None => Ok(Vec::new()),
        }
    }

    /// An event of the log with those that follow it in its feed, up to a signature, if there is one
    /// near.
    ///
    /// # Errors
    /// What the history could not read.
    pub fn proof_of<H: History>(
        &self,
        event: Event,
        history: &H,
    ) -> Result<Option<Vec<Event>>, H::Error> {
        proof::chain(self.log, event, &self.key, history)
    }

    /// Tells the node where it and a peer were level, from an earlier life.
    pub fn recall(&mut self, peer: NodeKey, met: Met) {
        if self.dag.as_ref().is_some_and(|dag| met.ordinal <= dag.held()) {
            self.met.insert(peer, met);
        }
    }

    /// Handles one input.
    ///
    /// # Errors
    /// What the history could not read: the disk is at fault, and the node must stop.
    pub fn handle<H: History>(
        &mut self,
        now_ms: u64,
        history: &H,
        input: Input,
        out: &mut Vec<Effect>,
    ) -> Result<(), H::Error> {
        self.follow_clock(now_ms);
        if std::mem::take(&mut self.appending)
            && let Some(dag) = &mut self.dag
        {
            dag.flushed();
            // Once for all that came together: what was decided in between is decided again.
            if self.reconsider && self.inbox.is_empty() {
                self.reconsider = false;
                let before = dag.erased().clone();
                dag.reconsider(history)?;
                for id in dag.erased().difference(&before) {
                    if let Some(ordinal) = history.find(self.log, id)? {
                        out.push(Effect::Erase { log: self.log, ordinal });
                    }
                }
                self.met.clear();
                self.check_access(out);
            }
        }
        match input {
            Input::Local { request, command: Command::Fetch { key } } => {
                self.on_fetch(request, key, history, out)?;
            }
            Input::Local { request, command } => self.on_command(request, command, out),
            Input::LinkUp { link, peer, role } => self.on_link_up(now_ms, link, peer, role, out),
            Input::Paced { link, pace } => self.on_paced(now_ms, link, pace),
            Input::Frame { link, bytes } => {
                if let Some(session) = self.sessions.get_mut(&link) {
                    session.traffic.bytes_received += bytes.len() as u64;
                    self.frames.push_back((link, bytes.into()));
                }
            }
            Input::Writable { link, written } => {
                self.on_writable(now_ms, link, written, history, out)?;
            }
            Input::LinkDown { link, reason } => self.on_link_down(link, &reason, out),
            Input::Tick => self.on_tick(now_ms, history, out)?,
            Input::StateMade { link, offer } => self.on_state_made(link, offer, out),
            Input::Circle { nodes } => {
                self.circle = nodes;
                self.check_access(out);
            }
            Input::Continue => {}
            Input::Want { key, missing } => _ = self.want(key, missing, None, history)?,
            Input::Unwant { key } => self.unwant(&key),
            Input::WantsTold => self.on_wants_told(),
            Input::ArtifactHeld { key, size } => self.complete(key, size, out),
            Input::PartStored { link, key, groups, outcome } => {
                self.on_part_stored(link, key, &groups, outcome, history, out)?;
            }
            Input::TurnEnd => {
                self.ending = true;
                self.settle_all(now_ms, out);
            }
            Input::Committed => self.push_live(now_ms, history, out)?,
        }
        let flow = self.run(now_ms, history, out)?;
        if flow == Flow::Done {
            self.trade(now_ms, history, out)?;
        }
        if flow == Flow::Done && std::mem::take(&mut self.ending) {
            self.flush(out);
        }
        Ok(())
    }

    /// When the clock was set back, deadlines go back with it: nobody waits for ten years.
    fn follow_clock(&mut self, now_ms: u64) {
        let back = self.seen_ms.saturating_sub(now_ms);
        self.seen_ms = now_ms;
        if back == 0 {
            return;
        }
        for session in self.sessions.values_mut() {
            session.deadline = session.deadline.saturating_sub(back);
            session.trade.follow_clock(back);
            let tips = &mut session.outgoing.tips_not_before;
            *tips = tips.saturating_sub(back);
            if let Some((at, _)) = &mut session.incoming.graft {
                *at = at.saturating_sub(back);
            }
        }
    }

    /// Works through what is queued, until it is done or must wait for an append.
    fn run<H: History>(
        &mut self,
        now: u64,
        history: &H,
        out: &mut Vec<Effect>,
    ) -> Result<Flow, H::Error> {
        loop {
            let flow = if !self.inbox.is_empty() {
                self.apply_inbox(now, history, out)?
            } else if let Some((link, bytes)) = self.frames.pop_front() {
                let flow = self.on_frame(now, link, &bytes, history, out)?;
                if flow == Flow::Blocked {
                    self.frames.push_front((link, bytes));
                }
                flow
            } else if let Some(job) = self.jobs.pop_front() {
                self.on_job(now, job, history, out)?
            } else {
                return Ok(Flow::Done);
            };
            if flow == Flow::Blocked {
                self.flush(out);
                out.push(Effect::Continue);
                return Ok(Flow::Blocked);
            }
        }
    }

    /// Asks for everything staged to be appended. One's own last event gets a signature, which
    /// vouches for those before it.
    fn flush(&mut self, out: &mut Vec<Effect>) {
        self.appending = true;
        if self.staged.is_empty() {
            return;
        }
        let mut events = std::mem::take(&mut self.staged);
        let node = self.node;
        if let Some(index) = events.iter().rposition(|event| event.header.author == node)
            && events[index].signature.is_none()
        {
            let last = events.remove(index).signed(&self.key);
            events.insert(index, last);
        }
        out.push(Effect::Append { log: self.log, events });
    }

    /// When [`Input::Tick`] is due, in milliseconds; nothing if never.
    pub fn deadline(&self) -> Option<u64> {
        self.sessions.values().flat_map(|session| self.session_deadlines(session)).min()
    }

    fn session_deadlines(&self, session: &Session) -> impl Iterator<Item = u64> {
        let held = self.dag.as_ref().map_or(0, Dag::held);
        let outgoing = &session.outgoing;
        let tips_due = !outgoing.eager && outgoing.live_from.is_some_and(|from| from < held);
        let compares = session.initiator && session.trade.leaving.is_none();
        let timed = compares || !session.is_open();
        let graft = session.incoming.graft.as_ref().map(|(at, _)| *at);
        let open = session.state != SessionState::Closed;
        [timed.then_some(session.deadline), tips_due.then_some(outgoing.tips_not_before), graft]
            .into_iter()
            .flatten()
            .chain(session.trade.deadlines())
            .filter(move |_| open)
    }

    /// The log, if this machine has it yet.
    pub fn dag(&self) -> Option<&Dag> {
        self.dag.as_ref()
    }

    /// The log's digest; that of the empty log if this machine holds nothing yet.
    pub fn digest(&mut self) -> LogDigest {
        self.dag.as_mut().map_or_else(|| digest_of(&[]), Dag::digest)
    }

    /// What a machine tells others that it holds: its digest, or zeros if it has no log yet.
    pub fn standing(&mut self) -> [u8; 32] {
        self.dag.as_mut().map_or([0; 32], |dag| dag.digest().0)
    }

    /// This machine.
    pub fn key(&self) -> NodeKey {
        self.node
    }

    /// Which of the domain's logs.
    pub fn log(&self) -> Log {
        self.log
    }

    /// The domain.
    pub fn domain(&self) -> DomainId {
        self.domain
    }

    /// How many events wait for others that they link to.
    pub fn waiting(&self) -> usize {
        self.waiting.len()
    }

    /// The peers that are linked now, with their traffic, by key.
    pub fn peers(&self) -> Vec<(NodeKey, SessionState, Traffic)> {
        let mut peers: Vec<_> =
            self.sessions.values().map(|s| (s.peer, s.state, s.traffic)).collect();
        peers.sort_unstable_by_key(|(peer, ..)| *peer);
        peers
    }

    /// What a link has moved so far.
    pub fn traffic(&self, link: LinkId) -> Option<Traffic> {
        self.sessions.get(&link).map(|session| session.traffic)
    }

    /// Whether nothing is queued or staged.
    pub fn is_idle(&self) -> bool {
        self.inbox.is_empty()
            && self.frames.is_empty()
            && self.jobs.is_empty()
            && self.staged.is_empty()
            && !self.reconsider
            && self.sessions.values().all(|session| session.incoming.checking.is_none())
    }
}
