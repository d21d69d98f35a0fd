//! Two machines in one process, over links that cost nothing.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::path::Path;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::time::{Duration, Instant};

use ed25519_dalek::SigningKey;
use quipu_core::dag::Dag;
use quipu_core::event::VerifiedEvent;
use quipu_core::id::{DomainId, NodeKey};
use quipu_core::node::{Command, Input, LinkRole, Notice};
use quipu_core::sync::message::Message;
use quipu_core::sync::session::Traffic;
use quipu_node::service::SystemClock;
use quipu_node::{Driver, Links};
use quipu_store::{RealDisk, Sealed, StoreError, StoreOptions};

use crate::limits::Limits;
use crate::workload::{Writer, founder, store};
use crate::{Result, figure, rate};

/// Frames on their way to the other machine, and how many bytes of packed events were in them.
#[derive(Debug, Clone, Default)]
pub(crate) struct Pipe(Rc<RefCell<VecDeque<Vec<u8>>>>, Rc<Cell<u64>>);

impl Links for Pipe {
    fn send(&mut self, _link: u64, bytes: Vec<u8>) {
        if let Ok(Message::Events { packed, .. }) = Message::decode(&bytes) {
            self.1.set(self.1.get() + packed.len() as u64);
        }
        self.0.borrow_mut().push_back(bytes);
    }
    fn close(&mut self, _link: u64, _reason: &str) {}
}

type Sealing = (
    Sender<std::result::Result<Sealed, StoreError>>,
    Receiver<std::result::Result<Sealed, StoreError>>,
);

pub(crate) struct Machine {
    pub(crate) driver: Driver<RealDisk, SystemClock, Pipe>,
    out: Pipe,
    busy: Duration,
    level: Option<Traffic>,
    sealing: Sealing,
}

pub(crate) const LINK: u64 = 1;
/// Frames handled in one turn, as many as a driver finds when it is busy.
const TURN_FRAMES: usize = 16;

impl Machine {
    pub(crate) fn open(path: &Path, domain: DomainId, key: SigningKey) -> Result<Self> {
        let disk = Arc::new(RealDisk::new(path)?);
        let out = Pipe::default();
        let options = StoreOptions::default();
        let (driver, _) = Driver::open(
            disk,
            (domain, quipu_core::event::Log::Internal),
            key,
            [3; 32],
            SystemClock,
            out.clone(),
            options,
        )?;
        Ok(Self { driver, out, busy: Duration::ZERO, level: None, sealing: channel() })
    }

    pub(crate) fn turn(&mut self, inputs: impl IntoIterator<Item = Input>) -> Result<()> {
        let start = Instant::now();
        for input in inputs {
            self.driver.input(input)?;
        }
        let outcome = self.driver.finish_turn()?;
        while let Ok(sealed) = self.sealing.1.try_recv() {
            self.driver.finish_seal(sealed?)?;
        }
        if let Some(job) = self.driver.seal_job() {
            let sender = self.sealing.0.clone();
            std::thread::spawn(move || drop(sender.send(job.run())));
        }
        self.busy += start.elapsed();
        for notice in outcome.notices {
            match notice {
                Notice::Level { traffic, .. } => self.level = Some(traffic),
                Notice::PeerRefused { text, .. } => return Err(text.into()),
                _ => {}
            }
        }
        Ok(())
    }

    /// Takes what is to be sent.
    pub(crate) fn frames(&self) -> Vec<Vec<u8>> {
        self.out.0.borrow_mut().drain(..).collect()
    }

    pub(crate) fn count(&self) -> u64 {
        self.driver.node().dag().map_or(0, Dag::event_count)
    }
}

/// Links two machines and lets them talk until the first is level.
fn talk(a: &mut Machine, b: &mut Machine) -> Result<(Duration, Traffic)> {
    let start = Instant::now();
    let (key_a, key_b) = (a.driver.node().key(), b.driver.node().key());
    b.turn([Input::LinkUp { link: LINK, peer: key_a, role: LinkRole::Responder }])?;
    let role = LinkRole::Initiator { live: true, request: None, invite: None, only_state: false };
    a.turn([Input::LinkUp { link: LINK, peer: key_b, role }])?;
    loop {
        let mut moved = false;
        for forward in [true, false] {
            let (from, to) = if forward { (&mut *a, &mut *b) } else { (&mut *b, &mut *a) };
            let frames: Vec<Vec<u8>> = {
                let mut queue = from.out.0.borrow_mut();
                let count = queue.len().min(TURN_FRAMES);
                queue.drain(..count).collect()
            };
            if !frames.is_empty() {
                moved = true;
                to.turn(frames.into_iter().map(|bytes| Input::Frame { link: LINK, bytes }))?;
                from.turn([Input::Writable { link: LINK, written: u64::MAX }])?;
            }
        }
        if let Some(traffic) = a.level {
            return Ok((start.elapsed(), traffic));
        }
        if !moved {
            return Err("the two stopped talking".into());
        }
    }
}

fn history(events: usize, authors: usize) -> (Writer, Vec<VerifiedEvent>) {
    let (mut writer, mut list) = Writer::new(authors, events);
    writer.write_many(events, &mut list);
    let list = writer.sign_ends(list);
    (writer, list)
}

/// A machine that holds nothing takes in all of a peer's events, verified and durable.
pub(crate) fn ingest(dir: &Path, events: usize, authors: usize, limits: &Limits) -> Result<()> {
    let (writer, list) = history(events, authors);
    let total = list.len();
    let (from, to) = (dir.join("ingest-from"), dir.join("ingest-to"));
    store(&from, writer.domain, &list)?;
    drop(list);
    let mut source = Machine::open(&from, writer.domain, founder())?;
    let member = SigningKey::from_bytes(blake3::hash(b"bench author 0").as_bytes());
    let mut target = Machine::open(&to, writer.domain, member)?;
    let (_, traffic) = talk(&mut target, &mut source)?;
    assert_eq!(target.count(), total as u64, "everything arrived");
    let seconds = target.busy.as_secs_f64();
    let share = 100.0 * total as f64 / seconds / limits.append;
    let what = format!("ingest of {total} events by {authors} authors");
    figure(&what, rate(total, seconds), &format!("{share:.0}% of append+fsync"));
    let packing = rate(total, source.busy.as_secs_f64());
    figure("  the sender's side of it", packing, "");
    let bytes = traffic.bytes_received as f64 / total as f64;
    figure("  on the wire", format!("{bytes:.1} B/event"), "");
    drop((source, target));
    drop(std::fs::remove_dir_all(from));
    drop(std::fs::remove_dir_all(to));
    Ok(())
}

/// Two machines that share a history and differ in a few events each.
pub(crate) fn difference(dir: &Path, base: usize, authors: usize, each: usize) -> Result<()> {
    let (mut writer, list) = history(base, authors);
    let (path_a, path_b) = (dir.join("diff-a"), dir.join("diff-b"));
    for path in [&path_a, &path_b] {
        store(path, writer.domain, &list)?;
    }
    let half = authors / 2;
    let mut extras = [0, half].map(|first| {
        let mut extra = Vec::new();
        for n in 0..each {
            writer.write(first + n % half.min(each), &mut extra);
        }
        writer.sign_ends(extra)
    });
    let what = format!("{each}+{each} different of {base}, {authors} authors");
    compare(&path_a, &path_b, writer.domain, &what, &mut extras)
}

/// Many feeds of one event each, of which some got another one.
pub(crate) fn changed_feeds(dir: &Path, feeds: usize, changed: usize) -> Result<()> {
    let (mut writer, mut list) = Writer::new(feeds, feeds);
    for author in 0..feeds {
        writer.write(author, &mut list);
    }
    let list = writer.sign_ends(list);
    let (path_a, path_b) = (dir.join("diff-a"), dir.join("diff-b"));
    for path in [&path_a, &path_b] {
        store(path, writer.domain, &list)?;
    }
    let mut extra = Vec::new();
    for n in 0..changed {
        writer.write(n * (feeds / changed), &mut extra);
    }
    let mut extras = [writer.sign_ends(extra), Vec::new()];
    let what = format!("{changed} of {feeds} feeds changed");
    compare(&path_a, &path_b, writer.domain, &what, &mut extras)
}

/// Two machines that run, take in what only they have, and then meet for the first time.
fn compare(
    path_a: &Path,
    path_b: &Path,
    domain: DomainId,
    what: &str,
    extras: &mut [Vec<VerifiedEvent>; 2],
) -> Result<()> {
    let member = SigningKey::from_bytes(blake3::hash(b"bench author 0").as_bytes());
    let mut a = Machine::open(path_a, domain, founder())?;
    let mut b = Machine::open(path_b, domain, member)?;
    for (machine, extra) in [&mut a, &mut b].into_iter().zip(extras) {
        machine.driver.node_mut().prepare();
        let command = Command::Import(std::mem::take(extra));
        machine.turn([Input::Local { request: 1, command }])?;
    }
    report(&mut a, &mut b, what)?;
    // The same two once more: they remember that they were level.
    for machine in [&mut a, &mut b] {
        machine.turn([Input::LinkDown { link: LINK, reason: "again".to_owned() }])?;
        machine.out.0.borrow_mut().clear();
        machine.level = None;
    }
    report(&mut a, &mut b, "  nothing different")?;
    drop((a, b));
    drop(std::fs::remove_dir_all(path_a));
    drop(std::fs::remove_dir_all(path_b));
    Ok(())
}

fn report(a: &mut Machine, b: &mut Machine, what: &str) -> Result<()> {
    let (time, traffic) = talk(a, b)?;
    let bytes = traffic.bytes_sent + traffic.bytes_received;
    let packed = a.out.1.take() + b.out.1.take();
    let note = format!(
        "{} round trips, {:.1} ms, {} events in {packed} B, {} B beyond them",
        traffic.round_trips,
        time.as_secs_f64() * 1e3,
        traffic.sent_events + traffic.received_events,
        bytes - packed,
    );
    figure(what, format!("{bytes} B"), &note);
    Ok(())
}

/// The node key of a signing key.
pub(crate) fn node_of(key: &SigningKey) -> NodeKey {
    NodeKey(key.verifying_key().to_bytes())
}
