//! The driver in a thread of its own: one loop over one closed enum.
//!
//! Everybody else (links, clients of the socket, the command line) talks to it through a
//! [`Handle`]. What comes while a turn runs is handled in the next one, with one commit for all.

mod air;
mod artifacts;
mod early;
mod links;
mod network;
mod published;
mod redial;

pub use air::{Air, Standing};
pub use network::{About, NetEvent, Network, Offline};
pub use published::hello_of;

use std::collections::BTreeMap;
use std::net::SocketAddr;

use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, SyncSender, channel, sync_channel};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use quipu_core::history::History;
use quipu_core::id::{ArtifactId, DomainId, NodeKey};

use links::{Dial, Linked};
use published::Replica;
use quipu_core::node::{Command, CommandError, Input, LinkId, Notice, Reply, RequestId};
use quipu_core::statement::Statement;
use quipu_core::sync::message::{InviteProof, StateOffer};
use quipu_state::{Compacted, Mark, StateError};
use quipu_store::{Disk, RealDisk, Sealed, StoreError};
use redial::Redial;

use crate::driver::{Clock, Driver, DriverError};
use crate::home::{Book, Home};
use crate::newcomer::{Early, EarlyError};

/// Inputs handled in one turn at most, so that a commit is never far.
const TURN_INPUTS_MAX: usize = 512;
/// How long the loop sleeps when nothing is due.
const IDLE: Duration = Duration::from_secs(3600);
/// After how much time without input the loop gives back memory that it does not need.
const REST: Duration = Duration::from_millis(1_000);

/// The clock of the operating system.
#[derive(Debug, Clone, Copy, Default)]
pub struct SystemClock;

impl Clock for SystemClock {
    fn now_ms(&self) -> u64 {
        let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
    }
}

/// Why a request got no answer.
#[derive(Debug, thiserror::Error)]
pub enum ServiceError {
    /// The node refused.
    #[error(transparent)]
    Command(#[from] CommandError),
    /// The peer could not be reached.
    #[error("peer {} cannot be reached: {reason}", .peer.short())]
    Unreachable {
        /// The peer.
        peer: NodeKey,
        /// Why.
        reason: String,
    },
    /// The disk is at fault, and the machine stopped.
    #[error("the machine stopped: {0}")]
    Stopped(String),
    /// The disk is at fault.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// An artifact's bytes cannot be read or written.
    #[error(transparent)]
    Artifact(quipu_artifact::Error),
    /// A peer's offer of a snapshot's state is not taken.
    #[error(transparent)]
    Early(#[from] EarlyError),
    /// The directory of artifacts could not be opened.
    #[error("the artifacts of this machine cannot be opened: {0}")]
    Artifacts(String),
}

type Answer = Result<Reply, ServiceError>;
type Job = Box<dyn FnOnce(&mut Machine) + Send>;

enum Message {
    Net(NetEvent),
    Call(Job),
    /// What became of a part of an artifact.
    Stored(Option<DomainId>, Input),
    Sealed(Option<DomainId>, Result<Sealed, StoreError>),
    Compacted(Option<DomainId>, Result<Compacted, StateError>),
    Stop,
}

/// What a machine does about peers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Peers {
    /// Nothing: for commands that need no network.
    None,
    /// Links to those that it is told to.
    Once,
    /// Stays linked to all that it knows.
    Stay,
}

/// The driver as production runs it.
pub type MachineDriver = Driver<RealDisk, SystemClock, Box<dyn Network>>;

/// The driver with what production adds: peers to stay linked to, requests to answer.
pub struct Machine {
    /// The driver.
    pub driver: MachineDriver,
    /// Published logs, by domain.
    published: BTreeMap<DomainId, Replica>,
    /// Published logs that cannot be used, and why.
    broken: BTreeMap<DomainId, String>,
    /// Whether the driver is that of a published log, for the time of a question.
    focused: bool,
    /// To the loop, for those who work beside it.
    sender: SyncSender<Message>,
    peers: Peers,
    artifacts: artifacts::Files,
    /// Artifacts that are being put: counted, for two clients may put the same.
    putting: BTreeMap<ArtifactId, u32>,
    /// A snapshot's state, until the log has the snapshot.
    early: Option<Early>,
    /// What the record events of the internal log add up to.
    pub(crate) records: crate::records::Kept,
    /// What of this machine's own records waits for its signature.
    pub(crate) own_feed: crate::own_feed::OwnFeed,
    /// What a peer offered last.
    offered_state: Option<StateOffer>,
    home: Home,
    book: Book,
    book_changed: bool,
    answers: BTreeMap<RequestId, Sender<Answer>>,
    dials: BTreeMap<u64, Dial>,
    redial: Redial,
    links: BTreeMap<LinkId, Linked>,
    /// Where the peers are that opened a link to here.
    callers: BTreeMap<LinkId, SocketAddr>,
    next_request: u64,
    delayed: Vec<(Option<DomainId>, Command, Sender<Answer>)>,
    /// Until then writes wait for news of this machine's own feed (EVT-11).
    recovering_until: Option<u64>,
    listen: Vec<SocketAddr>,
    notices: Vec<Notice>,
    /// Something was put to the driver after the last turn ended: the next one must not wait.
    unfinished: bool,
    /// There was input since memory was given back.
    busy: bool,
    on_rest: Option<fn()>,
    /// Told when the internal log has grown.
    on_growth: Vec<Box<dyn Fn() + Send>>,
    /// How many events it had when they were told.
    told_events: u64,
    /// Links that are opened when others announce that they hold something else.
    air: Option<Air>,
    /// A newcomer's first exchange, with the machine that invited it, and how long it waits to hear that.
    first_heard: Option<(Dial, u64)>,
}

/// Notices kept for `doctor`.
const NOTICES_KEPT: usize = 100;

impl std::fmt::Debug for Machine {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Machine").field("home", &self.home).finish_non_exhaustive()
    }
}

/// Talks to the loop. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Handle {
    sender: SyncSender<Message>,
    /// Held by whoever signs this machine's records.
    signing: Arc<Mutex<()>>,
}

impl std::fmt::Debug for Message {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Message::Net(_) => "Net",
            Message::Call(_) => "Call",
            Message::Stored(..) => "Stored",
            Message::Sealed(..) => "Sealed",
            Message::Compacted(..) => "Compacted",
            Message::Stop => "Stop",
        })
    }
}

/// Messages that may wait for the loop. Frames are bounded by their links' windows besides.
const QUEUE_MAX: usize = 16_384;

/// The running loop.
#[derive(Debug)]
pub struct Service {
    handle: Handle,
    thread: JoinHandle<Result<(), DriverError>>,
}

/// A channel for a network to report to, made before the loop is there.
#[derive(Debug)]
pub struct Mailbox {
    sender: SyncSender<Message>,
    receiver: Receiver<Message>,
}

impl Default for Mailbox {
    fn default() -> Self {
        let (sender, receiver) = sync_channel(QUEUE_MAX);
        Self { sender, receiver }
    }
}

impl Mailbox {
    /// Where a network reports.
    pub fn sink(&self) -> impl Fn(NetEvent) + Send + Sync + 'static + use<> {
        let sender = self.sender.clone();
        move |event| drop(sender.send(Message::Net(event)))
    }
}

impl Service {
    /// Starts the loop.
    pub fn start(home: Home, driver: MachineDriver, mailbox: Mailbox, peers: Peers) -> Self {
        let handle = Handle { sender: mailbox.sender.clone(), signing: Arc::default() };
        let book = home.book();
        let artifacts = artifacts::open(&home, driver.node().domain());
        let mut machine = Machine {
            driver,
            published: BTreeMap::new(),
            broken: BTreeMap::new(),
            focused: false,
            sender: mailbox.sender.clone(),
            peers,
            artifacts,
            putting: BTreeMap::new(),
            early: None,
            records: crate::records::Kept::default(),
            own_feed: crate::own_feed::OwnFeed::default(),
            offered_state: None,
            home,
            book,
            book_changed: false,
            answers: BTreeMap::new(),
            dials: BTreeMap::new(),
            redial: Redial::default(),
            links: BTreeMap::new(),
            callers: BTreeMap::new(),
            next_request: 1,
            delayed: Vec::new(),
            recovering_until: None,
            listen: Vec::new(),
            notices: Vec::new(),
            unfinished: false,
            busy: true,
            on_rest: None,
            on_growth: Vec::new(),
            told_events: 0,
            air: None,
            first_heard: None,
        };
        for (peer, met) in machine.book.met() {
            machine.driver.node_mut().recall(peer, met);
        }
        machine.connect_artifacts();
        machine.open_early();
        machine.open_published();
        if peers == Peers::Stay {
            machine.driver.node_mut().prepare();
            machine.want_known_peers();
        }
        let sender = mailbox.sender;
        let receiver = mailbox.receiver;
        let thread = std::thread::spawn(move || {
            let policy = machine.home.artifact_policy();
            let ready = match peers {
                Peers::None => Ok(()),
                Peers::Once => machine.follow_policy(policy),
                Peers::Stay => {
                    machine.follow_policy(policy).and_then(|()| machine.keep_following())
                }
            };
            let result = ready.and_then(|()| machine.run(&receiver, &sender));
            if let Err(error) = &result {
                machine.fail_all(&error.to_string());
            }
            drop(machine.save_book());
            // Whoever still has something to tell, such as the keeper, must not wait for this thread.
            drop(receiver);
            result
        });
        Self { handle, thread }
    }

    /// The way to talk to it.
    pub fn handle(&self) -> Handle {
        self.handle.clone()
    }

    /// Whether the loop has ended by itself: the disk was at fault.
    pub fn has_ended(&self) -> bool {
        self.thread.is_finished()
    }

    /// Ends the loop after the current turn.
    ///
    /// # Errors
    /// Why the loop had ended before.
    pub fn stop(self) -> Result<(), DriverError> {
        drop(self.handle.sender.send(Message::Stop));
        self.thread.join().unwrap_or(Ok(()))
    }
}

impl Handle {
    pub(crate) fn signing(&self) -> &Mutex<()> {
        &self.signing
    }

    /// Runs a question on the loop's thread, between two turns.
    ///
    /// # Errors
    /// If the loop has ended.
    pub fn call<R: Send + 'static>(
        &self,
        question: impl FnOnce(&mut Machine) -> R + Send + 'static,
    ) -> Result<R, ServiceError> {
        let (sender, receiver) = channel();
        let job: Job = Box::new(move |machine| drop(sender.send(question(machine))));
        let stopped = || ServiceError::Stopped("its loop has ended".to_owned());
        self.sender.send(Message::Call(job)).map_err(|_| stopped())?;
        receiver.recv().map_err(|_| stopped())
    }

    /// Has a command done, durably.
    ///
    /// # Errors
    /// Why it was not done.
    pub fn command(&self, command: Command) -> Answer {
        self.ask(move |machine, answer| machine.start(None, command, answer))
    }

    /// Has a command done in the published log of a domain, durably.
    ///
    /// # Errors
    /// Why it was not done.
    pub fn command_published(&self, domain: DomainId, command: Command) -> Answer {
        self.ask(move |machine, answer| machine.start(Some(domain), command, answer))
    }

    /// Appends a snapshot of everything held. It may turn out that events arrived meanwhile: then
    /// nothing is appended.
    ///
    /// # Errors
    /// Why it was not done.
    pub fn snapshot(&self, of: Option<DomainId>, name: Option<String>) -> Answer {
        let (sender, receiver) = channel();
        let answer = self.ask(move |machine, answer| {
            let _gone = sender.send(machine.snapshot(of, name, answer));
        })?;
        if let (Reply::Emitted(events), Ok(Some(mark))) = (&answer, receiver.recv())
            && let Some(event) = events.first()
        {
            let id = event.id;
            self.call(move |machine| {
                if let Some(driver) = machine.driver_of(of) {
                    driver.state_mut().keep(id, &mark);
                }
            })?;
        }
        Ok(answer)
    }

    /// Links to a peer, exchanges what both lack, and ends the link.
    ///
    /// # Errors
    /// Why that did not work.
    pub fn sync(
        &self,
        peer: NodeKey,
        addrs: Vec<SocketAddr>,
        invite: Option<InviteProof>,
    ) -> Answer {
        self.sync_log(None, peer, addrs, invite)
    }

    /// The same for the published log of a domain, if one is named.
    ///
    /// # Errors
    /// Why that did not work.
    pub fn sync_log(
        &self,
        of: Option<DomainId>,
        peer: NodeKey,
        addrs: Vec<SocketAddr>,
        invite: Option<InviteProof>,
    ) -> Answer {
        self.ask(move |machine, answer| {
            let answer = Some(answer);
            machine.dial(peer, addrs, Dial { invite, answer, ..Dial::once(peer, of) });
        })
    }

    /// Links to a peer, as a newcomer, and takes the state of its latest snapshot; the log only if it
    /// has none. See [`Machine::take_early`].
    ///
    /// # Errors
    /// Why that did not work.
    pub fn sync_state(
        &self,
        peer: NodeKey,
        addrs: Vec<SocketAddr>,
        invite: Option<InviteProof>,
    ) -> Answer {
        self.ask(move |machine, answer| {
            let answer = Some(answer);
            machine.dial(
                peer,
                addrs,
                Dial { invite, only_state: true, answer, ..Dial::once(peer, None) },
            );
        })
    }

    fn ask(&self, start: impl FnOnce(&mut Machine, Sender<Answer>) + Send + 'static) -> Answer {
        let (sender, receiver) = channel();
        let stopped = || ServiceError::Stopped("its loop has ended".to_owned());
        let job: Job = Box::new(move |machine| start(machine, sender));
        self.sender.send(Message::Call(job)).map_err(|_| stopped())?;
        receiver.recv().map_err(|_| stopped())?
    }
}

impl Machine {
    fn run(
        &mut self,
        receiver: &Receiver<Message>,
        sender: &SyncSender<Message>,
    ) -> Result<(), DriverError> {
        loop {
            let (wait, busy) = (self.wait(), self.busy);
            let first = match receiver.recv_timeout(if busy { wait.min(REST) } else { wait }) {
                Ok(message) => {
                    self.busy = true;
                    Some(message)
                }
                Err(RecvTimeoutError::Timeout) => {
                    if busy && wait >= REST {
                        self.rest();
                    }
                    None
                }
                Err(RecvTimeoutError::Disconnected) => return Ok(()),
            };
            let rest = receiver.try_iter().take(TURN_INPUTS_MAX);
            let mut stop = false;
            for message in first.into_iter().chain(rest) {
                stop |= matches!(message, Message::Stop);
                self.on_message(message)?;
            }
            self.on_time()?;
            let outcome = self.driver.finish_turn()?;
            self.dispatch(outcome);
            self.tell_growth();
            self.tell_standing();
            self.finish_published(sender);
            self.seal(sender);
            self.compact(sender);
            if stop {
                self.save_published();
                return self.driver.save_state();
            }
        }
    }

    /// What to do, besides, when there was no input for a while.
    pub fn on_rest(&mut self, action: fn()) {
        self.on_rest = Some(action);
    }

    /// What to do when the internal log has grown, after the commit. It must not wait for anything.
    pub fn on_growth(&mut self, action: Box<dyn Fn() + Send>) {
        self.on_growth.push(action);
    }

    fn tell_growth(&mut self) {
        let count = self.driver.held().count(quipu_core::event::Log::Internal);
        if std::mem::replace(&mut self.told_events, count) != count {
            self.on_growth.iter().for_each(|tell| tell());
        }
    }

    fn rest(&mut self) {
        self.busy = false;
        self.driver.held().disk().rest();
        if let Some(action) = self.on_rest {
            action();
        }
    }

    fn now(&self) -> u64 {
        self.driver.clock().now_ms()
    }

    fn wait(&mut self) -> Duration {
        if std::mem::take(&mut self.unfinished) {
            return Duration::ZERO;
        }
        let due = self
            .redial
            .next_ms()
            .into_iter()
            .chain(self.driver.deadline())
            .chain(self.published.values().filter_map(Replica::deadline))
            .chain(self.recovering_until)
            .chain(self.first_heard.as_ref().map(|(_, until)| *until))
            .min();
        due.map_or(IDLE, |due| Duration::from_millis(due.saturating_sub(self.now())))
    }

    fn on_message(&mut self, message: Message) -> Result<(), DriverError> {
        match message {
            Message::Net(event) => self.on_net(event),
            Message::Call(job) => {
                job(self);
                Ok(())
            }
            Message::Stored(of, input) => self.give(of, input),
            Message::Sealed(of, sealed) => self.on_sealed(of, sealed),
            Message::Compacted(of, done) => {
                if let Some(driver) = self.driver_of(of) {
                    driver.finish_compact(done);
                }
                Ok(())
            }
            Message::Stop => Ok(()),
        }
    }

    fn expect(&mut self, answer: Sender<Answer>) -> RequestId {
        let request = self.next_request;
        self.next_request += 1;
        self.answers.insert(request, answer);
        request
    }

    /// Starts a command, in the internal log or in a published one.
    fn start(&mut self, of: Option<DomainId>, command: Command, answer: Sender<Answer>) {
        if self.recovering_until.is_some() && !matches!(command, Command::Import(_)) {
            self.delayed.push((of, command, answer));
            return;
        }
        let request = self.expect(answer);
        // A failing disk ends the loop in `finish_turn`, which answers everybody.
        if let Err(error) = self.give(of, Input::Local { request, command }) {
            self.fail_all(&error.to_string());
        }
    }

    /// Starts a snapshot of what is held now. Answers how to keep its state.
    fn snapshot(
        &mut self,
        of: Option<DomainId>,
        name: Option<String>,
        answer: Sender<Answer>,
    ) -> Option<Mark> {
        let driver = self.driver_of(of)?;
        let state = match driver.catch_up() {
            Ok(state) => state,
            Err(error) => {
                drop(answer.send(Err(ServiceError::Stopped(error.to_string()))));
                return None;
            }
        };
        let mark = state.mark();
        let statement = Statement::Snapshot { root: state.root(), entries: state.entries(), name };
        let at = driver.node_mut().digest();
        self.start(of, Command::Snapshot { at, statement }, answer);
        Some(mark)
    }

    fn on_time(&mut self) -> Result<(), DriverError> {
        let now = self.now();
        if self.driver.deadline().is_some_and(|due| due <= now) {
            self.driver.input(Input::Tick)?;
        }
        if self.recovering_until.is_some_and(|until| until <= now) {
            self.end_recovery();
        }
        self.give_up_first_heard(now);
        let home = |linked: &&Linked| linked.of.is_none();
        let linked = self.links.values().filter(home).map(|linked| linked.peer).collect();
        for peer in self.redial.due(now, &linked) {
            self.dial(peer, Vec::new(), Dial::live(peer, None));
        }
        self.published_on_time(now);
        Ok(())
    }

    /// Own newer events are here, or nobody could be reached: writes may go on.
    fn end_recovery(&mut self) {
        self.recovering_until = None;
        self.unfinished |= !self.delayed.is_empty();
        for (of, command, answer) in std::mem::take(&mut self.delayed) {
            self.start(of, command, answer);
        }
    }

    fn dispatch(&mut self, outcome: crate::driver::Outcome) {
        for (request, reply) in outcome.replies {
            if let Some(answer) = self.answers.remove(&request) {
                drop(answer.send(reply.map_err(ServiceError::from)));
            }
        }
        for notice in outcome.notices {
            log_notice(&notice);
            if let Notice::PeerUp { peer, link, live: true } = &notice
                && let Some(addr) = self.callers.get(link)
            {
                // A member that stays can be called back at the address it called from.
                self.book_changed |= self.book.note_addrs(peer, &[*addr]);
            }
            if matches!(notice, Notice::Level { .. }) && self.recovering_until.is_some() {
                self.end_recovery();
            }
            self.remember(notice);
        }
        self.offered_state = outcome.states.into_iter().next_back().or(self.offered_state.take());
        for (peer, met) in outcome.met {
            self.book.note_met(&peer, &met);
            self.book_changed = true;
        }
        if outcome.decided {
            self.refresh_circles();
        }
        for domain in outcome.follows {
            self.follow_soon(domain);
        }
        if self.book_changed && self.answers.is_empty() {
            drop(self.save_book());
        }
    }

    /// Keeps a notice for `doctor`, unless it is routine.
    fn remember(&mut self, notice: Notice) {
        let routine = matches!(
            notice,
            Notice::Level { .. }
                | Notice::PeerUp { .. }
                | Notice::Admitted { .. }
                | Notice::ArtifactComplete { .. }
                | Notice::ArtifactLacking { .. }
        );
        if !routine {
            self.notices.push(notice);
            let excess = self.notices.len().saturating_sub(NOTICES_KEPT);
            self.notices.drain(..excess);
        }
    }

    fn save_book(&mut self) -> Result<(), crate::home::HomeError> {
        if std::mem::take(&mut self.book_changed) {
            self.home.set_book(&self.book)?;
        }
        Ok(())
    }

    fn seal(&mut self, sender: &SyncSender<Message>) {
        if let Some(job) = self.driver.seal_job() {
            let sender = sender.clone();
            std::thread::spawn(move || drop(sender.send(Message::Sealed(None, job.run()))));
        }
    }

    /// A machine that stays gets rid of what is old in its state.
    fn compact(&mut self, sender: &SyncSender<Message>) {
        if self.peers == Peers::Stay
            && let Some(job) = self.driver.compact_job()
        {
            let sender = sender.clone();
            std::thread::spawn(move || drop(sender.send(Message::Compacted(None, job.run()))));
        }
    }

    fn fail_all(&mut self, reason: &str) {
        let waiting = std::mem::take(&mut self.answers).into_values();
        let first = self.first_heard.take().map(|(dial, _)| dial);
        let dials = std::mem::take(&mut self.dials).into_values().chain(first);
        let dials = dials.filter_map(|dial| dial.answer);
        let delayed = std::mem::take(&mut self.delayed).into_iter().map(|(.., answer)| answer);
        for answer in waiting.chain(dials).chain(delayed) {
            drop(answer.send(Err(ServiceError::Stopped(reason.to_owned()))));
        }
    }

    /// The address book.
    pub fn book(&self) -> &Book {
        &self.book
    }

    /// Notes where a peer can be reached, and stays linked to it if this machine serves.
    pub fn note_peer(&mut self, peer: NodeKey, addrs: &[SocketAddr]) {
        self.book_changed |= self.book.note_addrs(&peer, addrs);
    }

    /// Where this machine listens, for tickets.
    pub fn set_listen(&mut self, addrs: Vec<SocketAddr>) {
        self.listen = addrs;
    }

    /// Where this machine listens.
    pub fn listen(&self) -> &[SocketAddr] {
        &self.listen
    }

    /// What happened lately that people should know.
    pub fn notices(&self) -> &[Notice] {
        &self.notices
    }

    /// The machine's directory.
    pub fn home(&self) -> &Home {
        &self.home
    }
}

fn log_notice(notice: &Notice) {
    match notice {
        Notice::PeerUp { peer, .. } => tracing::info!(%peer, "peer linked"),
        Notice::Admitted { node } => tracing::info!(%node, "newcomer admitted"),
        Notice::Level { peer, traffic } => {
            let (sent, received) = (traffic.sent_events, traffic.received_events);
            tracing::info!(%peer, sent, received, "level with peer");
        }
        Notice::PeerRefused { peer, refusal, text } => {
            tracing::warn!(%peer, ?refusal, text, "peer turned away");
        }
        Notice::EventRefused { peer, id, rule } => {
            let peer = peer.map(|peer| peer.to_string());
            tracing::warn!(peer, %id, %rule, "event refused");
        }
        Notice::Forked { author, id } => tracing::warn!(%author, %id, "author wrote two histories"),
        Notice::Quarantined { author, id } => tracing::warn!(%author, %id, "event quarantined"),
        Notice::ArtifactComplete { key, size } => tracing::info!(%key, size, "artifact fetched"),
        Notice::ArtifactLacking { key } => tracing::info!(%key, "no linked machine has artifact"),
        Notice::ArtifactFailed { key, reason } => {
            tracing::warn!(%key, reason, "artifact cannot be kept");
        }
        Notice::BadPart { peer, key, reason } => {
            tracing::warn!(%peer, %key, reason, "bytes that are not of the artifact");
        }
    }
}
