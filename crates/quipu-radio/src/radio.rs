//! The thread that runs a station and its helper, and the driver's side of it.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use quipu_core::id::{DomainId, NodeKey};
use quipu_core::node::LinkId;
use quipu_helper::{FromHelper, ToHelper};
use quipu_node::service::{NetEvent, Network, Standing, SystemClock};
use quipu_node::{Clock, Links};
use serde_json::Value;

use crate::guests::{GuestEvent, Router};
use crate::helper::{Helper, Told};
use crate::limits::LINKS_FROM;
use crate::station::{Input, Output, Settings, Station};

/// Time between two starts of a helper that ends by itself: the least and the most, in milliseconds.
const RESTART_MS: (u64, u64) = (500, 60_000);
/// A helper that has run for so long, in milliseconds, is started again soon.
const PROVEN_MS: u64 = 30_000;
/// How often the report is made anew, in milliseconds, if anything happens.
const REPORT_MS: u64 = 250;

/// What to run.
#[derive(Debug)]
pub struct Options {
    /// The helper's program: see [`find`](crate::find).
    pub program: PathBuf,
    /// Its configuration, if not the usual one.
    pub config: Option<PathBuf>,
    /// Who this machine is.
    pub settings: Settings,
}

enum Message {
    Station(Input),
    Told(u64, Told),
    NewGuest(u32, Sender<GuestEvent>),
    GuestSays(u32, ToHelper),
    Stop,
}

/// A station that runs, with its helper.
#[derive(Debug)]
pub struct Radio {
    sender: Sender<Message>,
    report: Report,
    guests: Arc<Mutex<u32>>,
    thread: Option<JoinHandle<()>>,
}

impl std::fmt::Debug for Message {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Message")
    }
}

/// The latest report, for whoever asks.
#[derive(Debug, Clone, Default)]
pub struct Report(Arc<Mutex<Value>>);

impl Report {
    /// What `mesh status` shows.
    pub fn latest(&self) -> Value {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

impl Radio {
    /// Starts the thread. What links tell goes to `sink`; it may wait.
    ///
    /// # Errors
    /// If there is no thread to be had.
    pub fn start(
        options: Options,
        sink: impl Fn(NetEvent) + Send + 'static,
    ) -> std::io::Result<Self> {
        let (sender, receiver) = channel();
        let report = Report::default();
        let now = SystemClock.now_ms();
        let mut worker = Worker {
            program: options.program,
            config: options.config,
            station: Station::new(options.settings, now),
            helper: None,
            generation: 0,
            started_at: now,
            restart_at: Some(now),
            restart_wait: RESTART_MS.0,
            router: Router::default(),
            guests: BTreeMap::new(),
            sender: sender.clone(),
            report: report.clone(),
            reported_at: 0,
            sink: Box::new(sink),
        };
        let thread = std::thread::Builder::new()
            .name("quipu-radio".to_owned())
            .spawn(move || worker.run(&receiver))?;
        Ok(Self { sender, report, guests: Arc::default(), thread: Some(thread) })
    }

    /// The driver's side.
    pub fn network(&self) -> Box<dyn Network> {
        Box::new(RadioLinks { sender: self.sender.clone() })
    }

    /// Tells what this machine has: to be called whenever it changes, from any thread.
    pub fn standing(&self) -> impl Fn(&Standing) + Send + 'static + use<> {
        let sender = self.sender.clone();
        move |standing| {
            let Standing { own: digest, published } = standing.clone();
            drop(sender.send(Message::Station(Input::Standing { digest, published })));
        }
    }

    /// Tells that a machine is reached by wire, or not any more: no links over the air are opened to it while it is.
    pub fn wired(&self) -> impl Fn(NodeKey, bool) + Send + 'static + use<> {
        let sender = self.sender.clone();
        move |peer, wired| drop(sender.send(Message::Station(Input::Wired { peer, wired })))
    }

    /// What `mesh status` shows.
    pub fn report(&self) -> Report {
        self.report.clone()
    }

    /// Another user of the same helper.
    pub fn guest(&self) -> Guest {
        self.guests().enter()
    }

    /// The way in for users that come later.
    pub fn guests(&self) -> Guests {
        Guests { sender: self.sender.clone(), count: Arc::clone(&self.guests) }
    }

    /// Ends the helper and the thread.
    pub fn shutdown(mut self) {
        self.stop();
    }

    fn stop(&mut self) {
        drop(self.sender.send(Message::Stop));
        if let Some(thread) = self.thread.take() {
            drop(thread.join());
        }
    }
}

impl Drop for Radio {
    fn drop(&mut self) {
        self.stop();
    }
}

/// The way in for other users of the helper. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Guests {
    sender: Sender<Message>,
    /// How many there were.
    count: Arc<Mutex<u32>>,
}

impl Guests {
    /// Another user of the helper. It has to take what it is told: that waits in memory.
    pub fn enter(&self) -> Guest {
        let mut count = self.count.lock().unwrap_or_else(PoisonError::into_inner);
        *count += 1;
        let (sender, events) = channel();
        drop(self.sender.send(Message::NewGuest(*count, sender)));
        Guest { voice: Voice { number: *count, sender: self.sender.clone() }, events }
    }
}

/// Another user of the helper: see [`crate::guests`].
#[derive(Debug)]
pub struct Guest {
    voice: Voice,
    events: Receiver<GuestEvent>,
}

/// What a guest speaks with. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Voice {
    number: u32,
    sender: Sender<Message>,
}

impl Voice {
    /// Tells the helper something. Passed over if it speaks of what is not this guest's.
    pub fn say(&self, message: ToHelper) {
        drop(self.sender.send(Message::GuestSays(self.number, message)));
    }
}

impl Guest {
    /// Tells the helper something. Passed over if it speaks of what is not this guest's.
    pub fn say(&self, message: ToHelper) {
        self.voice.say(message);
    }

    /// What it speaks with and what it hears, for two threads.
    pub fn into_parts(self) -> (Voice, Receiver<GuestEvent>) {
        (self.voice, self.events)
    }

    /// What the helper says, as it comes. Ends with the radio.
    pub fn events(&self) -> &Receiver<GuestEvent> {
        &self.events
    }
}

/// The driver's side of a station.
struct RadioLinks {
    sender: Sender<Message>,
}

impl RadioLinks {
    fn tell(&self, input: Input) {
        drop(self.sender.send(Message::Station(input)));
    }
}

impl Links for RadioLinks {
    fn send(&mut self, link: LinkId, frame: Vec<u8>) {
        self.tell(Input::Send { link, frame });
    }

    fn close(&mut self, link: LinkId, reason: &str) {
        self.tell(Input::Close { link, reason: reason.to_owned() });
    }
}

impl Network for RadioLinks {
    /// There is no wire here. Who is not waited for is not dialled over the air: that opens links where something differs.
    fn connect(&mut self, request: u64, _peer: NodeKey, _addrs: Vec<SocketAddr>) {
        self.tell(Input::NoWire { request });
    }

    fn connect_by_air(&mut self, request: u64, peer: NodeKey) -> bool {
        self.tell(Input::Connect { request, peer });
        true
    }

    fn consumed(&mut self, _link: LinkId, _bytes: usize) {}

    fn is_about(&mut self, link: LinkId, domain: DomainId) {
        self.tell(Input::About { link, domain });
    }

    fn share(&self) -> Box<dyn Network> {
        Box::new(Self { sender: self.sender.clone() })
    }
}

/// Links of two kinds: peers are dialled by wire, and over the air where that is asked for.
pub struct Both {
    wire: Box<dyn Network>,
    radio: Box<dyn Network>,
}

impl Both {
    /// Both together.
    pub fn new(wire: Box<dyn Network>, radio: Box<dyn Network>) -> Self {
        Self { wire, radio }
    }

    fn of(&mut self, link: LinkId) -> &mut Box<dyn Network> {
        if link >= LINKS_FROM { &mut self.radio } else { &mut self.wire }
    }
}

impl Links for Both {
    fn send(&mut self, link: LinkId, bytes: Vec<u8>) {
        self.of(link).send(link, bytes);
    }

    fn close(&mut self, link: LinkId, reason: &str) {
        self.of(link).close(link, reason);
    }
}

impl Network for Both {
    fn connect(&mut self, request: u64, peer: NodeKey, addrs: Vec<SocketAddr>) {
        self.wire.connect(request, peer, addrs);
    }

    fn connect_by_air(&mut self, request: u64, peer: NodeKey) -> bool {
        self.radio.connect_by_air(request, peer)
    }

    fn consumed(&mut self, link: LinkId, bytes: usize) {
        self.of(link).consumed(link, bytes);
    }

    fn is_about(&mut self, link: LinkId, domain: DomainId) {
        self.of(link).is_about(link, domain);
    }

    fn share(&self) -> Box<dyn Network> {
        Box::new(Self { wire: self.wire.share(), radio: self.radio.share() })
    }
}

struct Worker {
    program: PathBuf,
    config: Option<PathBuf>,
    station: Station,
    helper: Option<Helper>,
    /// Counts the helpers, so that what an old one said last is not taken for a new one's words.
    generation: u64,
    started_at: u64,
    restart_at: Option<u64>,
    restart_wait: u64,
    router: Router,
    guests: BTreeMap<u32, Sender<GuestEvent>>,
    sender: Sender<Message>,
    report: Report,
    reported_at: u64,
    sink: Box<dyn Fn(NetEvent) + Send>,
}

impl Worker {
    fn run(&mut self, receiver: &Receiver<Message>) {
        loop {
            let now = SystemClock.now_ms();
            if self.restart_at.is_some_and(|at| at <= now) {
                self.start_helper(now);
            }
            let due = self.restart_at.into_iter().fold(self.station.deadline(now), u64::min);
            let wait = Duration::from_millis(due.saturating_sub(now).max(1));
            match receiver.recv_timeout(wait) {
                Ok(Message::Stop) | Err(RecvTimeoutError::Disconnected) => break,
                Ok(message) => self.on_message(message),
                Err(RecvTimeoutError::Timeout) => self.give(Input::Tick),
            }
            self.make_report();
        }
        if let Some(helper) = self.helper.take() {
            helper.end();
        }
    }

    fn make_report(&mut self) {
        let now = SystemClock.now_ms();
        if now.abs_diff(self.reported_at) < REPORT_MS {
            return;
        }
        self.reported_at = now;
        let mut report = self.station.report(now);
        report["helper_pid"] = self.helper.as_ref().map(Helper::pid).into();
        *self.report.0.lock().unwrap_or_else(PoisonError::into_inner) = report;
    }

    fn on_message(&mut self, message: Message) {
        match message {
            Message::Station(input) => self.give(input),
            Message::Told(generation, told) if generation == self.generation => match told {
                Told::Said(message) => self.on_said(message),
                Told::Ended(reason) => self.on_ended(reason),
            },
            Message::Told(..) | Message::Stop => {}
            Message::NewGuest(number, sender) => {
                if self.helper.is_some() {
                    drop(sender.send(GuestEvent::HelperUp));
                }
                self.guests.insert(number, sender);
            }
            Message::GuestSays(number, message) => {
                let allowed = self.router.out(number, message);
                if let Some(message) = allowed.filter(|_| self.helper.is_some()) {
                    self.give(Input::Guest(message));
                }
            }
        }
    }

    fn give(&mut self, input: Input) {
        let mut outputs = Vec::new();
        self.station.handle(SystemClock.now_ms(), input, &mut outputs);
        for output in outputs {
            match output {
                Output::Say(message) => {
                    if let Some(helper) = &self.helper {
                        helper.say(&message);
                    }
                }
                Output::Net(event) => (self.sink)(event),
                Output::Guest(message) => {
                    let (whose, message) = self.router.inn(message);
                    self.tell_guest(whose, message);
                }
            }
        }
    }

    fn on_said(&mut self, message: FromHelper) {
        let (whose, message) = self.router.inn(message);
        match whose {
            Some(0) => self.give(Input::Helper(message)),
            Some(_) => {
                self.station.overhear(&message);
                self.tell_guest(whose, message);
            }
            None => {
                self.tell_guests(&GuestEvent::Said(message.clone()));
                self.give(Input::Helper(message));
            }
        }
    }

    fn tell_guest(&self, whose: Option<u32>, message: FromHelper) {
        if let Some(guest) = whose.and_then(|number| self.guests.get(&number)) {
            drop(guest.send(GuestEvent::Said(message)));
        }
    }

    fn tell_guests(&mut self, event: &GuestEvent) {
        self.guests.retain(|_, guest| guest.send(event.clone()).is_ok());
    }

    fn start_helper(&mut self, now: u64) {
        self.restart_at = None;
        self.generation += 1;
        self.started_at = now;
        let (sender, generation) = (self.sender.clone(), self.generation);
        let sink = move |told| drop(sender.send(Message::Told(generation, told)));
        match Helper::start(&self.program, self.config.as_deref(), sink) {
            Ok(helper) => {
                self.helper = Some(helper);
                self.router.clear();
                self.give(Input::HelperUp);
                self.tell_guests(&GuestEvent::HelperUp);
            }
            Err(error) => self.on_ended(error.to_string()),
        }
    }

    fn on_ended(&mut self, reason: String) {
        let now = SystemClock.now_ms();
        tracing::warn!(reason, "the link helper has ended; it is started again");
        self.helper = None;
        if now.saturating_sub(self.started_at) >= PROVEN_MS {
            self.restart_wait = RESTART_MS.0;
        }
        self.restart_at = Some(now + self.restart_wait);
        self.restart_wait = (self.restart_wait * 2).min(RESTART_MS.1);
        self.give(Input::HelperGone { reason });
        self.tell_guests(&GuestEvent::HelperGone);
    }
}
