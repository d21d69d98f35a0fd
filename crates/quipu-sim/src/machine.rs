//! One machine: a disk, a clock that nobody sets, and the production driver while it is up.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use ed25519_dalek::SigningKey;
use quipu_artifact::MemoryFiles;
use quipu_core::event::Log;
use quipu_core::id::{ArtifactId, DomainId, NodeKey};
use quipu_core::node::{Input, LinkId, Met};
use quipu_core::sync::message::InviteProof;
use quipu_core::sync::session::Traffic;
use quipu_node::shelf::{Owner, Shelf, Shelved};
use quipu_node::{
    ArtifactPolicy, Artifacts, Clock, Driver, DriverError, Links, Outcome, StoredArtifacts,
};
use quipu_store::{FaultyDisk, Sealed, StoreOptions};

use crate::files::{Deeds, SimArtifacts, SimShelf, SimStore};
use crate::liar::Mood;
use crate::plan::{MS, Us};
use crate::rng::Rng;

/// Virtual time 0 on an exact clock, in milliseconds since 1970.
const EPOCH_MS: i64 = 1_700_000_000_000;

/// The clock that a driver reads. It stands still during a turn.
#[derive(Debug, Clone, Default)]
pub(crate) struct SimClock(Arc<AtomicU64>);

impl Clock for SimClock {
    fn now_ms(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// How far a machine's clock is from virtual time.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Skew {
    pub(crate) offset_ms: i64,
    pub(crate) drift_ppm: i64,
}

impl Skew {
    /// What the clock shows.
    pub(crate) fn local_ms(self, now: Us) -> u64 {
        let ms = (now / MS) as i64;
        let drift = (i128::from(ms) * i128::from(self.drift_ppm) / 1_000_000) as i64;
        (EPOCH_MS + ms + drift + self.offset_ms).max(0) as u64
    }
}

/// What a turn wants to put on links, in order.
#[derive(Debug)]
pub(crate) enum Out {
    Send { link: LinkId, bytes: Vec<u8> },
    Close { link: LinkId, reason: String },
}

/// The links that a driver sees: a list that the world empties after each turn.
#[derive(Debug, Default)]
pub(crate) struct SimLinks(Vec<Out>);

impl Links for SimLinks {
    fn send(&mut self, link: LinkId, bytes: Vec<u8>) {
        self.0.push(Out::Send { link, bytes });
    }

    fn close(&mut self, link: LinkId, reason: &str) {
        self.0.push(Out::Close { link, reason: reason.to_owned() });
    }
}

/// The production driver over simulated surroundings.
pub(crate) type SimDriver = Driver<FaultyDisk, SimClock, SimLinks>;

/// Artifacts, and whose they are.
pub(crate) type Lent = (Arc<SimStore>, Option<Arc<SimShelf>>);

/// What a turn brought.
#[derive(Debug, Default)]
pub(crate) struct Turn {
    pub(crate) machine: usize,
    pub(crate) outs: Vec<Out>,
    pub(crate) outcome: Outcome,
    /// What it did to artifacts.
    pub(crate) deeds: Vec<u8>,
    /// Why the machine stopped, if it did.
    pub(crate) stopped: Option<DriverError>,
    /// Counters of the links that it sent on.
    pub(crate) traffic: Vec<(LinkId, Traffic)>,
    /// When it wants to be woken, in virtual time.
    pub(crate) wake: Option<Us>,
    /// Events that wait for others.
    pub(crate) waiting: usize,
}

/// What a machine is to the others.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Part {
    /// Keeps the rules.
    Honest,
    /// A member that lies.
    Liar,
    /// Lies once it was removed.
    Backdater,
}

/// The file that says whose artifacts are, on a machine that keeps several logs.
const INDEX_FILE: &str = "artifact-index";

/// One machine; or the part of one in the published log of a domain.
#[derive(Debug)]
pub(crate) struct Machine {
    pub(crate) index: usize,
    /// The machine itself. All its parts have its key, its clock and its artifacts, and live and die with
    /// it.
    pub(crate) host: usize,
    /// The log that this is a part in.
    pub(crate) domain: DomainId,
    pub(crate) log: Log,
    pub(crate) part: Part,
    pub(crate) key: SigningKey,
    pub(crate) node: NodeKey,
    pub(crate) disk: Arc<FaultyDisk>,
    /// Nothing while it is down.
    pub(crate) driver: Option<SimDriver>,
    /// Whether it takes part at all yet.
    pub(crate) enrolled: bool,
    pub(crate) skew: Skew,
    clock: SimClock,
    pub(crate) inbox: Vec<Input>,
    pub(crate) turn_asked: bool,
    pub(crate) wake_at: Option<Us>,
    pub(crate) life: u32,
    pub(crate) rng: Rng,
    options: StoreOptions,
    sealed: Option<Sealed>,
    pub(crate) met: BTreeMap<NodeKey, Met>,
    pub(crate) invite: Option<InviteProof>,
    pub(crate) mood: Mood,
    pub(crate) requests: u64,
    /// The disk of its artifacts.
    pub(crate) files: MemoryFiles,
    /// Its artifacts, while it is up.
    pub(crate) store: Option<Arc<SimStore>>,
    /// Whose they are, if it keeps several logs.
    pub(crate) shelf: Option<Arc<SimShelf>>,
    /// Whether it keeps several logs.
    pub(crate) shelves: bool,
    /// Broken on purpose: shows artifacts of one log to the peers of another.
    pub(crate) leaky: bool,
    /// What it fetches by itself. Without it, it keeps no artifacts.
    pub(crate) policy: Option<ArtifactPolicy>,
    /// Artifacts of which no event tells yet.
    pub(crate) putting: BTreeMap<ArtifactId, u32>,
    /// The disk of its artifacts fails sometime soon, or has failed.
    pub(crate) files_cut: bool,
    /// Broken on purpose: takes parts that do not fit.
    pub(crate) gullible: bool,
    deeds: Deeds,
    /// What is drawn about artifacts, apart from the rest.
    pub(crate) data_rng: Rng,
    /// An image to be put back to, and what was known of peers then.
    pub(crate) backup: Option<(FaultyDisk, BTreeMap<NodeKey, Met>)>,
}

impl Machine {
    /// A machine with an empty disk that is not up.
    pub(crate) fn new(index: usize, seed: u64, options: StoreOptions) -> Self {
        let mut rng = Rng::new(seed, &format!("machine {index}"));
        let key = SigningKey::from_bytes(&rng.bytes());
        Self {
            index,
            host: index,
            domain: DomainId::default(),
            log: Log::Internal,
            part: Part::Honest,
            node: NodeKey(key.verifying_key().to_bytes()),
            key,
            disk: Arc::new(FaultyDisk::new()),
            driver: None,
            enrolled: false,
            skew: Skew::default(),
            clock: SimClock::default(),
            inbox: Vec::new(),
            turn_asked: false,
            wake_at: None,
            life: 0,
            rng,
            options,
            sealed: None,
            met: BTreeMap::new(),
            invite: None,
            mood: Mood::default(),
            requests: 0,
            files: MemoryFiles::new(),
            store: None,
            shelf: None,
            shelves: false,
            leaky: false,
            policy: None,
            putting: BTreeMap::new(),
            files_cut: false,
            gullible: false,
            deeds: Deeds::default(),
            data_rng: Rng::new(seed, &format!("data of machine {index}")),
            backup: None,
        }
    }

    /// What the machine's clock shows.
    pub(crate) fn local_ms(&self, now: Us) -> u64 {
        self.skew.local_ms(now)
    }

    /// Whether it is up and holds the domain.
    pub(crate) fn has_log(&self) -> bool {
        self.driver.as_ref().is_some_and(|driver| driver.node().dag().is_some())
    }

    /// How stores are opened here.
    pub(crate) fn options(&self) -> StoreOptions {
        self.options
    }

    /// Opens what is on the disk. The artifacts may be those of the machine that this is a part of.
    pub(crate) fn start(&mut self, now: Us, lent: Option<Lent>) -> Result<(), DriverError> {
        self.life += 1;
        self.clock.0.store(self.local_ms(now), Ordering::Relaxed);
        let (mut driver, _) = Driver::open(
            self.disk.clone(),
            (self.domain, self.log),
            self.key.clone(),
            self.rng.bytes(),
            self.clock.clone(),
            SimLinks::default(),
            self.options,
        )?;
        for (peer, met) in &self.met {
            driver.node_mut().recall(*peer, *met);
        }
        self.open_artifacts(&mut driver, lent)?;
        self.driver = Some(driver);
        Ok(())
    }

    /// Gives the driver the artifacts, if this machine keeps any.
    fn open_artifacts(
        &mut self,
        driver: &mut SimDriver,
        lent: Option<Lent>,
    ) -> Result<(), DriverError> {
        let Some(policy) = self.policy else { return Ok(()) };
        // Without a store it goes on as a machine without artifacts, as in production.
        let Some((store, shelf)) = lent.or_else(|| self.own_artifacts()) else { return Ok(()) };
        let owner = Owner { domain: self.domain, visibility: self.log };
        let stored: Box<dyn Artifacts> = match &shelf {
            Some(shelf) if !self.leaky => Box::new(Shelved::new(shelf.clone(), owner)),
            _ => Box::new(StoredArtifacts(store.clone())),
        };
        self.shelf = shelf;
        driver.set_artifacts(Box::new(SimArtifacts {
            stored,
            store: store.clone(),
            deeds: self.deeds.clone(),
            gullible: self.gullible,
        }));
        self.store = Some(store);
        driver.fetch_artifacts(policy)
    }

    fn own_artifacts(&self) -> Option<Lent> {
        let store = Arc::new(SimStore::with_files(self.files.clone()).ok()?);
        if !self.shelves {
            return Some((store, None));
        }
        let shelf =
            Shelf::open(store.clone(), (self.disk.clone(), INDEX_FILE), self.domain).ok()?;
        Some((store, Some(Arc::new(shelf))))
    }

    /// What the parts of this machine share while it is up.
    pub(crate) fn lend(&self) -> Option<Lent> {
        Some((self.store.clone()?, self.shelf.clone()))
    }

    /// The process ends, and the disk of artifacts stays as it is.
    pub(crate) fn kill_files(&mut self) {
        if self.policy.is_some() {
            self.files.kill();
            self.files_cut = false;
        }
    }

    /// The power of the disk of artifacts fails.
    pub(crate) fn crash_files(&mut self) {
        if self.policy.is_some() {
            self.files.crash(self.data_rng.next());
            self.files_cut = false;
        }
    }

    /// Stops without a word. Handles are gone; the disk is as it is.
    pub(crate) fn stop(&mut self) {
        self.driver = None;
        self.store = None;
        self.shelf = None;
        self.putting.clear();
        self.sealed = None;
        self.inbox.clear();
        self.turn_asked = false;
        self.wake_at = None;
    }

    /// Handles everything in the inbox, commits, seals.
    pub(crate) fn turn(&mut self, now: Us) -> Turn {
        let mut turn = Turn { machine: self.index, ..Turn::default() };
        self.turn_asked = false;
        let inputs = std::mem::take(&mut self.inbox);
        self.clock.0.store(self.local_ms(now), Ordering::Relaxed);
        let Some(mut driver) = self.driver.take() else { return turn };
        match self.drive(&mut driver, inputs) {
            Ok(outcome) => turn.outcome = outcome,
            Err(error) => turn.stopped = Some(error),
        }
        turn.outs = std::mem::take(&mut driver.links_mut().0);
        turn.deeds = self.deeds.take();
        if turn.stopped.is_some() {
            drop(driver);
            self.stop();
            return turn;
        }
        self.met.extend(turn.outcome.met.iter().copied());
        turn.traffic = traffic(&driver, &turn.outs);
        turn.waiting = driver.node().waiting();
        let local = self.local_ms(now);
        turn.wake = driver.deadline().map(|at| now + at.saturating_sub(local).max(1) * MS);
        self.driver = Some(driver);
        turn
    }

    fn drive(
        &mut self,
        driver: &mut SimDriver,
        inputs: Vec<Input>,
    ) -> Result<Outcome, DriverError> {
        for input in inputs {
            driver.input(input)?;
        }
        let outcome = driver.finish_turn()?;
        // A seal that began in an earlier turn ends in this one, as if a thread had run it.
        if let Some(sealed) = self.sealed.take() {
            driver.finish_seal(sealed)?;
        }
        if let Some(job) = driver.seal_job() {
            let sealed = job.run()?;
            if self.rng.permille(500) {
                driver.finish_seal(sealed)?;
            } else {
                self.sealed = Some(sealed);
            }
        }
        Ok(outcome)
    }
}

fn traffic(driver: &SimDriver, outs: &[Out]) -> Vec<(LinkId, Traffic)> {
    let mut links: Vec<LinkId> = outs
        .iter()
        .map(|out| match out {
            Out::Send { link, .. } | Out::Close { link, .. } => *link,
        })
        .collect();
    links.sort_unstable();
    links.dedup();
    links.into_iter().filter_map(|link| Some((link, driver.node().traffic(link)?))).collect()
}
