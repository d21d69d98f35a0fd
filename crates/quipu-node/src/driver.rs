//! Carrying out effects.
//!
//! A *turn* is: any number of inputs, then one commit. Effects are carried out in order; appends
//! are in memory at once, sends and replies wait for the commit. So one fsync serves everything
//! that came in a turn, and nobody hears of anything that this machine could still lose.

use std::collections::{BTreeSet, VecDeque};
use std::sync::Arc;

use ed25519_dalek::SigningKey;
use quipu_core::domain::{Parameters, RootError};
use quipu_core::event::{Event, Log, LogSeq, VerifiedEvent, sign_own};
use quipu_core::history::{History, Ordinal};
use quipu_core::id::{ArtifactId, DomainId, EventId, NodeKey};
use quipu_core::kind;
use quipu_core::node::{CommandError, Effect, Input, LinkId, Met, Node, Notice, Reply, RequestId};
use quipu_core::statement::{Claim, Statement};
use quipu_core::sync::message::StateOffer;
use quipu_state::cut::{self, Cut};
use quipu_state::{
    Artifact, CompactJob, Compacted, Difference, SnapshotAt, State, StateError, View,
};
use quipu_store::{Disk, Recovery, SealJob, Sealed, StoreError, StoreOptions};

use crate::artifacts::{ArtifactPolicy, Artifacts, IncomingPart};
use crate::held::Held;

/// How long what new events speak of may go without a look while more events come, in milliseconds.
const LOOK_MS: u64 = 5_000;

/// Where time comes from.
pub trait Clock {
    /// Milliseconds since 1970, as far as this machine knows.
    fn now_ms(&self) -> u64;
}

/// Where frames go.
pub trait Links {
    /// Sends a frame. Never blocks; frames of a link arrive in order or not at all.
    fn send(&mut self, link: LinkId, bytes: Vec<u8>);
    /// Closes a link after what was sent.
    fn close(&mut self, link: LinkId, reason: &str);
}

/// Why a machine cannot go on.
#[derive(Debug, thiserror::Error)]
pub enum DriverError {
    /// The disk is at fault.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The first event of the log is no root event.
    #[error(transparent)]
    Root(#[from] RootError),
    /// What the log adds up to cannot be kept.
    #[error(transparent)]
    State(#[from] StateError),
}

/// What a turn brought for others than links.
#[derive(Debug, Default)]
pub struct Outcome {
    /// Answers to requests.
    pub replies: Vec<(RequestId, Result<Reply, CommandError>)>,
    /// Things worth telling.
    pub notices: Vec<Notice>,
    /// Where peers and this machine were level.
    pub met: Vec<(NodeKey, Met)>,
    /// States of snapshots that peers offer. Nothing of them is proven yet.
    pub states: Vec<StateOffer>,
    /// Domains whose published logs are to be kept, by new events of the internal log.
    pub follows: Vec<DomainId>,
    /// Something was decided about members.
    pub decided: bool,
}

impl Outcome {
    /// Whether there is nothing in it.
    pub fn is_empty(&self) -> bool {
        self.replies.is_empty()
            && self.notices.is_empty()
            && self.met.is_empty()
            && self.states.is_empty()
            && self.follows.is_empty()
            && !self.decided
    }
}

/// Artifacts that are to be fetched.
#[derive(Debug, Default)]
struct Wants {
    /// None: this machine fetches nothing by itself.
    policy: Option<ArtifactPolicy>,
    /// Those that the node was not told of yet.
    lacking: BTreeSet<ArtifactId>,
    /// Those that new events speak of.
    touched: BTreeSet<ArtifactId>,
    /// When to look at them, whatever comes.
    look_at: Option<u64>,
    /// What was kept aside when all that is visible was looked at.
    aside: BTreeSet<EventId>,
    /// Something was decided about a member since.
    decided: bool,
}

/// Effects that wait for the commit.
#[derive(Debug)]
enum Later {
    Send { link: LinkId, bytes: Vec<u8> },
    Close { link: LinkId, reason: String },
    Erase { log: Log, ordinal: Ordinal },
}

/// One machine: the node, what it holds, and the world around it.
#[derive(Debug)]
pub struct Driver<D: Disk, C: Clock, L: Links> {
    node: Node,
    held: Held<D>,
    clock: C,
    links: L,
    dirty: bool,
    later: Vec<Later>,
    outcome: Outcome,
    effects: Vec<Effect>,
    state: State,
    /// The state is to be saved after the commit.
    save_due: bool,
    /// The event that is no snapshot whose state is kept.
    asked: Option<EventId>,
    wants: Wants,
    /// The snapshot whose state was offered last, and how.
    pub(crate) offered: Option<(EventId, StateOffer)>,
    /// Answers to effects, for the node.
    answers: VecDeque<Input>,
}

impl<D: Disk, C: Clock, L: Links> Driver<D, C, L> {
    /// Founds a domain on an empty disk: makes its root event and a store that holds it, durably.
    ///
    /// # Errors
    /// If the disk refuses or holds a store already.
    pub fn found(
        disk: Arc<D>,
        parameters: &Parameters,
        key: &SigningKey,
        entropy: [u8; 32],
        now_ms: u64,
        options: StoreOptions,
    ) -> Result<DomainId, DriverError> {
        let founder = NodeKey(key.verifying_key().to_bytes());
        let salt = root_salt(&entropy, parameters.salt_bytes);
        let root = parameters.root(founder, LogSeq::from_ms(now_ms), &salt);
        let domain = DomainId::from(root.id);
        Parameters::of_root(&root)?;
        if let Some(root) = sign_own(vec![root], key).pop() {
            quipu_store::Store::create(disk, Log::Internal, root, options)?;
        }
        Ok(domain)
    }

    /// Begins the published log of a domain on an empty disk, durably: with the root event that both logs
    /// grow from. Only its founder does that; others get it from a peer.
    ///
    /// # Errors
    /// If the disk refuses or holds a store already.
    pub fn found_published(
        disk: Arc<D>,
        root: Event,
        key: &SigningKey,
        options: StoreOptions,
    ) -> Result<(), DriverError> {
        if let Some(root) = sign_own(vec![root], key).pop() {
            quipu_store::Store::create(disk, Log::Published, root, options)?;
        }
        Ok(())
    }

    /// Opens a machine's part in one log. On an empty disk it holds nothing and waits for a peer.
    ///
    /// # Errors
    /// If the store is damaged, locked, or of another domain.
    pub fn open(
        disk: Arc<D>,
        (domain, log): (DomainId, Log),
        key: SigningKey,
        entropy: [u8; 32],
        clock: C,
        links: L,
        options: StoreOptions,
    ) -> Result<(Self, Recovery), DriverError> {
        let state = State::open(&*disk, domain, log);
        let (held, recovery) = Held::open(disk, domain, options)?;
        state.drop_begun_copy(&**held.disk())?;
        let mut node = Node::new(domain, log, key, entropy);
        node.open(&held)??;
        let mut driver = Self {
            node,
            held,
            clock,
            links,
            dirty: false,
            later: Vec::new(),
            outcome: Outcome::default(),
            effects: Vec::new(),
            state,
            save_due: false,
            asked: None,
            wants: Wants::default(),
            offered: None,
            answers: VecDeque::new(),
        };
        driver.finish_erasures()?;
        Ok((driver, recovery))
    }

    /// Erases payloads whose erasure was durable, but not carried out when the machine stopped.
    fn finish_erasures(&mut self) -> Result<(), DriverError> {
        let Some(dag) = self.node.dag() else { return Ok(()) };
        for id in dag.erased().iter().copied().collect::<Vec<_>>() {
            if let Some(ordinal) = self.held.find(self.log(), &id)?
                && self.held.event(self.log(), ordinal)?.payload.is_some()
            {
                self.erase(self.log(), ordinal)?;
            }
        }
        Ok(())
    }

    /// Handles one input. What it sends and answers waits for [`Self::finish_turn`].
    ///
    /// # Errors
    /// If the disk is at fault. The machine must stop; what was acknowledged is safe.
    pub fn input(&mut self, input: Input) -> Result<(), DriverError> {
        let mut next = Some(input);
        while let Some(input) = next.take() {
            let now = self.clock.now_ms();
            let mut effects = std::mem::take(&mut self.effects);
            self.node.handle(now, &self.held, input, &mut effects)?;
            for effect in effects.drain(..) {
                self.carry_out(effect)?;
            }
            self.effects = effects;
            next = self.answers.pop_front();
        }
        Ok(())
    }

    /// Carries out one effect.
    fn carry_out(&mut self, effect: Effect) -> Result<(), DriverError> {
        match effect {
            Effect::Append { log, events } => {
                self.outcome.follows.extend(follows_in(&events));
                self.outcome.decided |=
                    events.iter().any(|event| quipu_core::kind::is_structural(&event.header.kind));
                self.note_artifacts(&events);
                self.held.append(log, events)?;
                self.dirty = true;
            }
            Effect::Prove { log, end, proof } => {
                if let Some(store) = self.held.store_mut() {
                    store.prove(log, end, &proof);
                    self.dirty = true;
                }
            }
            Effect::MakeState { link } => {
                let made = self.make_state(link)?;
                self.answers.push_back(made);
            }
            Effect::TakeState { offer } => self.outcome.states.push(offer),
            Effect::Continue => self.answers.push_back(Input::Continue),
            Effect::StorePart { link, key, size, groups, bytes } => {
                let part = IncomingPart { link, key, size, groups, bytes };
                if let Some(outcome) = self.held.artifacts.take_part(&part) {
                    self.answers.push_back(part.stored(outcome));
                }
            }
            Effect::Erase { log, ordinal } => self.later.push(Later::Erase { log, ordinal }),
            Effect::Send { link, bytes } => self.later.push(Later::Send { link, bytes }),
            Effect::Close { link, reason } => self.later.push(Later::Close { link, reason }),
            Effect::Reply { request, reply } => self.outcome.replies.push((request, reply)),
            Effect::Remember { peer, met } => self.outcome.met.push((peer, met)),
            Effect::Notify(notice) => self.outcome.notices.push(notice),
        }
        Ok(())
    }

    /// Ends a turn: makes durable what was appended, then lets go of what waited for that.
    ///
    /// # Errors
    /// If the disk is at fault: then nothing of this turn was sent or answered.
    pub fn finish_turn(&mut self) -> Result<Outcome, DriverError> {
        self.input(Input::TurnEnd)?;
        self.follow_quarantine()?;
        self.tell_wants()?;
        if std::mem::take(&mut self.dirty) {
            if let Some(store) = self.held.store_mut() {
                store.commit()?;
            }
            self.release()?;
            self.input(Input::Committed)?;
        }
        self.save_if_due();
        // What a commit brings about only reads and sends.
        debug_assert!(!self.dirty);
        self.release()?;
        Ok(std::mem::take(&mut self.outcome))
    }

    /// Saves the state if that had to wait. Nobody waits for it any more, and it is not needed.
    fn save_if_due(&mut self) {
        if self.save_due
            && let Err(error) = self.save_state()
        {
            tracing::warn!(%error, "the state is not saved: it will be made again from the log");
        }
    }

    fn release(&mut self) -> Result<(), DriverError> {
        for later in std::mem::take(&mut self.later) {
            match later {
                Later::Send { link, bytes } => self.links.send(link, bytes),
                Later::Close { link, reason } => self.links.close(link, &reason),
                Later::Erase { log, ordinal } => self.erase(log, ordinal)?,
            }
        }
        Ok(())
    }

    fn erase(&mut self, log: Log, ordinal: Ordinal) -> Result<(), DriverError> {
        if let Some(store) = self.held.store_mut() {
            store.erase(log, ordinal)?;
        }
        Ok(())
    }

    /// The work of sealing a block, if there is any. Run it anywhere, then hand the result to
    /// [`Self::finish_seal`].
    pub fn seal_job(&mut self) -> Option<SealJob<D>> {
        self.held.store_mut()?.seal_job()
    }

    /// Puts a sealed block in its place.
    ///
    /// # Errors
    /// If the disk is at fault.
    pub fn finish_seal(&mut self, sealed: Sealed) -> Result<(), DriverError> {
        if let Some(store) = self.held.store_mut() {
            store.finish_seal(sealed)?;
        }
        Ok(())
    }

    /// The work of copying the state without what is old, if most of it is. Run it anywhere, then
    /// hand the result to [`Self::finish_compact`]. Between turns only: the copy may be saved.
    pub fn compact_job(&mut self) -> Option<CompactJob<D>> {
        if self.dirty || !self.state.is_mostly_old() {
            return None;
        }
        self.state.compact(self.held.disk())
    }

    /// Goes on with a copy of the state.
    pub fn finish_compact(&mut self, done: Result<Compacted, StateError>) {
        let disk = self.held.disk().clone();
        if let Err(error) = self.state.finish_compact(&*disk, done) {
            tracing::warn!(%error, "the state's pages stay as they are");
        }
    }

    /// Brings the state up to date with the log.
    ///
    /// # Errors
    /// If the disk is at fault.
    pub fn catch_up(&mut self) -> Result<&State, DriverError> {
        self.asking(|driver| {
            driver.clear_if_damaged()?;
            if let (Some(store), Some(dag)) = (driver.held.store(), driver.node.dag()) {
                let disk = store.disk().clone();
                driver.state.catch_up(&*disk, store, dag.quarantined())?;
            }
            Ok(())
        })?;
        Ok(&self.state)
    }

    /// Asks something that reads the state, and asks once more if the state's files turn out to be
    /// damaged.
    pub(crate) fn asking<R>(
        &mut self,
        question: impl Fn(&mut Self) -> Result<R, DriverError>,
    ) -> Result<R, DriverError> {
        match question(self) {
            Err(_) if self.clear_if_damaged()? => question(self),
            answer => answer,
        }
    }

    /// Throws the state away if its files turned out to be damaged: it follows from the log. Answers
    /// whether it did; then what failed may succeed.
    ///
    /// # Errors
    /// If the disk is at fault.
    pub(crate) fn clear_if_damaged(&mut self) -> Result<bool, DriverError> {
        if !self.state.is_damaged() {
            return Ok(false);
        }
        tracing::warn!("the state's files are damaged: it is made again from the log");
        let disk = self.held.disk().clone();
        self.state.clear(&*disk)?;
        Ok(true)
    }

    /// The state at a snapshot, or at any other event: folded anew unless it is kept. A snapshot's
    /// is kept from then on, that of another event until the next one is asked for.
    ///
    /// # Errors
    /// If the event is not here, or the disk is at fault.
    pub fn state_at(&mut self, event: &EventId) -> Result<View<'_>, DriverError> {
        self.asking(|driver| driver.keep_state_at(event))?;
        self.state.at(event).ok_or(DriverError::State(StateError::NoEvent(*event)))
    }

    fn keep_state_at(&mut self, event: &EventId) -> Result<(), DriverError> {
        self.catch_up()?;
        if self.asked != Some(*event) {
            let snapshot = |id: &EventId| self.state.snapshots().iter().any(|one| one.id == *id);
            let (before, next) = (self.asked.take(), !snapshot(event));
            if let Some(before) = before.filter(|before| !snapshot(before)) {
                self.state.forget(&before);
            }
            self.asked = next.then_some(*event);
        }
        if !self.state.is_kept(event)
            && let Some(store) = self.held.store()
        {
            let cut = Cut::up_to(store, self.node.log(), event)?;
            let winners = cut::winners(store, self.node.log(), &cut)?;
            self.state.keep_cut(*event, &winners, store)?;
        }
        Ok(())
    }

    /// How many events are in the cut of a snapshot.
    ///
    /// # Errors
    /// If it is not here, or the disk is at fault.
    pub fn events_in(&mut self, snapshot: &SnapshotAt) -> Result<u64, DriverError> {
        let store = self.held.store().ok_or(StateError::NoEvent(snapshot.id))?;
        Ok(self.state.events_in(snapshot, store)?)
    }

    /// Where the states at two snapshots differ.
    ///
    /// # Errors
    /// If one of them is not here, or the disk is at fault.
    pub fn difference(&mut self, a: &EventId, b: &EventId) -> Result<Vec<Difference>, DriverError> {
        self.asking(|driver| {
            driver.keep_state_at(a)?;
            driver.keep_state_at(b)?;
            Ok(driver.state.diff(a, b)?)
        })
    }

    /// The state as it was last brought up to date.
    pub fn state(&self) -> &State {
        &self.state
    }

    /// The state, to keep or forget snapshots.
    pub fn state_mut(&mut self) -> &mut State {
        &mut self.state
    }

    /// Saves the state: losing it would only cost the time to build it again. It is never ahead of
    /// the log: what was appended in this turn is made durable first, in [`Self::finish_turn`].
    ///
    /// # Errors
    /// If the disk is at fault.
    pub fn save_state(&mut self) -> Result<(), DriverError> {
        self.save_due = self.dirty;
        if self.save_due {
            return Ok(());
        }
        self.asking(|driver| {
            if driver.held.store().is_some() {
                let disk = driver.held.disk().clone();
                driver.state.save(&*disk)?;
            }
            Ok(())
        })
    }

    /// Which of the domain's logs.
    pub fn log(&self) -> Log {
        self.node.log()
    }

    /// When to give [`Input::Tick`], in milliseconds.
    pub fn deadline(&self) -> Option<u64> {
        self.node.deadline().into_iter().chain(self.wants.look_at).min()
    }

    /// The node.
    pub fn node(&self) -> &Node {
        &self.node
    }

    /// The node, for questions that fill caches.
    pub fn node_mut(&mut self) -> &mut Node {
        &mut self.node
    }

    /// What the machine holds.
    pub fn held(&self) -> &Held<D> {
        &self.held
    }

    /// Gives the machine artifacts; until then it holds none.
    pub fn set_artifacts(&mut self, artifacts: Box<dyn Artifacts>) {
        self.held.artifacts = artifacts;
    }

    /// From now on, fetches artifacts as the policy says: those that the log tells of and will tell
    /// of.
    ///
    /// # Errors
    /// If the disk is at fault.
    pub fn fetch_artifacts(&mut self, policy: ArtifactPolicy) -> Result<(), DriverError> {
        let aside = self.node.dag().map(|dag| dag.quarantined().clone()).unwrap_or_default();
        self.wants = Wants { policy: Some(policy), aside, ..Wants::default() };
        self.node.await_wants();
        let visible = self.asking(|driver| Ok(driver.catch_up()?.current().artifacts()?))?;
        for artifact in visible.values() {
            if let Some(claim) = wanted_claim(self.node.log(), artifact)
                && policy.wants(claim.size)
                && self.held.artifact_size(&claim.key)?.is_none()
            {
                self.wants.lacking.insert(claim.key);
            }
        }
        self.tell_wants()
    }

    /// Looks anew at what is visible if events that counted do not count any more, or the other way
    /// round: then what was hidden may be visible again.
    fn follow_quarantine(&mut self) -> Result<(), DriverError> {
        let (Some(policy), Some(dag)) = (self.wants.policy, self.node.dag()) else {
            return Ok(());
        };
        let aside = dag.quarantined();
        let decided = std::mem::take(&mut self.wants.decided);
        if !decided && aside.len() == self.wants.aside.len() {
            return Ok(());
        }
        // What is kept aside from the start never counted.
        let anew = !self.wants.aside.is_subset(aside) || decided && *aside != self.wants.aside;
        self.wants.aside.clone_from(aside);
        if anew { self.fetch_artifacts(policy) } else { Ok(()) }
    }

    /// Notes what new events speak of. Whether it is to be fetched follows from the state, not from
    /// the order in which they come.
    fn note_artifacts(&mut self, events: &[VerifiedEvent]) {
        if self.wants.policy.is_none() {
            return;
        }
        self.wants.decided |= events.iter().any(|event| event.header.kind.starts_with("member."));
        for event in events.iter().filter(|event| event.header.kind.starts_with("artifact.")) {
            match Statement::of_event(event) {
                Some(Statement::Put(claim) | Statement::Import { claim, .. }) => {
                    self.wants.touched.insert(claim.key);
                }
                Some(Statement::TombstoneArtifact(key)) => _ = self.wants.touched.insert(key),
                _ => {}
            }
        }
        if !self.wants.touched.is_empty() && self.wants.look_at.is_none() {
            self.wants.look_at = Some(self.clock.now_ms().saturating_add(LOOK_MS));
        }
    }

    /// Whether what new events speak of is looked at later: the state costs less the more events it
    /// takes in at once, and nobody waits for it.
    fn may_look_later(&self) -> bool {
        let now = self.clock.now_ms();
        // More than that is left only if the clock was set back since.
        let left = self.wants.look_at.map_or(LOOK_MS, |at| at.saturating_sub(now));
        let due = left == 0 || left > LOOK_MS;
        self.node.is_exchanging() && !self.node.awaits_wants() && !due
    }

    /// Tells the node which artifacts to fetch, as many as it has room for.
    fn tell_wants(&mut self) -> Result<(), DriverError> {
        let Some(policy) = self.wants.policy else { return Ok(()) };
        if !self.may_look_later() {
            self.look_at_touched(policy)?;
        }
        while self.node.wants_room() > 0
            && let Some(key) = self.wants.lacking.pop_first()
        {
            if self.held.artifact_size(&key)?.is_none() {
                self.input(Input::Want { key, missing: None })?;
            }
        }
        if self.node.awaits_wants() {
            self.input(Input::WantsTold)?;
        }
        Ok(())
    }

    /// Works out which of the artifacts that new events speak of are to be fetched.
    fn look_at_touched(&mut self, policy: ArtifactPolicy) -> Result<(), DriverError> {
        self.wants.look_at = None;
        let touched = std::mem::take(&mut self.wants.touched);
        for (key, wanted) in self.asking(|driver| driver.which_are_wanted(&touched, policy))? {
            if wanted {
                self.wants.lacking.insert(key);
            } else if !self.wants.lacking.remove(&key) {
                self.input(Input::Unwant { key })?;
            }
        }
        Ok(())
    }

    /// Which artifacts of some are visible and as the policy wants them.
    fn which_are_wanted(
        &mut self,
        keys: &BTreeSet<ArtifactId>,
        policy: ArtifactPolicy,
    ) -> Result<Vec<(ArtifactId, bool)>, DriverError> {
        if keys.is_empty() {
            return Ok(Vec::new());
        }
        let log = self.node.log();
        let view = self.catch_up()?.current();
        let mut wanted = Vec::with_capacity(keys.len());
        for key in keys {
            let artifact = view.artifact(key)?;
            let claim = artifact.as_ref().and_then(|one| wanted_claim(log, one));
            wanted.push((*key, claim.is_some_and(|claim| policy.wants(claim.size))));
        }
        Ok(wanted)
    }

    /// The artifacts.
    pub fn artifacts_mut(&mut self) -> &mut dyn Artifacts {
        &mut *self.held.artifacts
    }

    pub(crate) fn held_mut(&mut self) -> &mut Held<D> {
        &mut self.held
    }

    /// The clock.
    pub fn clock(&self) -> &C {
        &self.clock
    }

    /// The links.
    pub fn links_mut(&mut self) -> &mut L {
        &mut self.links
    }
}

/// The claim by which an artifact is fetched. What a published log only names as the origin of something is
/// to be had from the domain that published it.
fn wanted_claim(log: Log, artifact: &Artifact) -> Option<&Claim> {
    match log {
        Log::Internal => artifact.counts(),
        Log::Published => artifact.put_claim(),
    }
}

/// The domains that new events say to follow.
fn follows_in(events: &[VerifiedEvent]) -> impl Iterator<Item = DomainId> {
    let follows = events.iter().filter(|event| &*event.header.kind == kind::DOMAIN_FOLLOW);
    follows.filter_map(|event| match Statement::of_event(event) {
        Some(Statement::Follow(domain)) => Some(domain),
        _ => None,
    })
}

/// The salt of a root event, from the entropy of the founder.
fn root_salt(entropy: &[u8; 32], length: usize) -> Vec<u8> {
    entropy.iter().copied().cycle().take(length).collect()
}
