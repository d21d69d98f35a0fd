//! Carrying out effects.
//!
//! A *turn* is: any number of inputs, then one commit. Effects are carried out in order; appends
//! are in memory at once, sends and replies wait for the commit. So one fsync serves everything
//! that came in a turn, and nobody hears of anything that this machine could still lose.

use std::collections::{BTreeSet, VecDeque};
use std::sync::Arc;

use ed25519_dalek::SigningKey;
use quipu_core::domain::{Parameters, RootError};
use quipu_core::event::{Log, LogSeq, VerifiedEvent, sign_own};
use quipu_core::history::{History, Ordinal};
use quipu_core::id::{ArtifactId, DomainId, EventId, NodeKey};
use quipu_core::node::{CommandError, Effect, Input, LinkId, Met, Node, Notice, Reply, RequestId};
use quipu_core::statement::Statement;
use quipu_core::sync::message::StateOffer;
use quipu_state::cut::{self, Cut};
use quipu_state::{State, StateError, View};
use quipu_store::{Disk, Recovery, SealJob, Sealed, StoreError, StoreOptions};

use crate::artifacts::{ArtifactPolicy, Artifacts, IncomingPart};
use crate::held::Held;

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
}

impl Outcome {
    /// Whether there is nothing in it.
    pub fn is_empty(&self) -> bool {
        self.replies.is_empty()
            && self.notices.is_empty()
            && self.met.is_empty()
            && self.states.is_empty()
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
            quipu_store::Store::create(disk, root, options)?;
        }
        Ok(domain)
    }

    /// Opens a machine. On an empty disk it holds nothing and waits for a peer.
    ///
    /// # Errors
    /// If the store is damaged, locked, or of another domain.
    pub fn open(
        disk: Arc<D>,
        domain: DomainId,
        key: SigningKey,
        entropy: [u8; 32],
        clock: C,
        links: L,
        options: StoreOptions,
    ) -> Result<(Self, Recovery), DriverError> {
        let state = State::open(&*disk, domain, Log::Internal);
        let (held, recovery) = Held::open(disk, domain, options)?;
        let mut node = Node::new(domain, key, entropy);
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
            if let Some(ordinal) = self.held.find(Log::Internal, &id)?
                && self.held.event(Log::Internal, ordinal)?.payload.is_some()
            {
                self.erase(Log::Internal, ordinal)?;
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
        // What a commit brings about only reads and sends.
        debug_assert!(!self.dirty);
        self.release()?;
        Ok(std::mem::take(&mut self.outcome))
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

    /// Brings the state up to date with the log.
    ///
    /// # Errors
    /// If the disk is at fault.
    pub fn catch_up(&mut self) -> Result<&State, DriverError> {
        if let (Some(store), Some(dag)) = (self.held.store(), self.node.dag()) {
            let disk = store.disk().clone();
            self.state.catch_up(&*disk, store, dag.quarantined(), &mut |_| ())?;
        }
        Ok(&self.state)
    }

    /// The state at a snapshot, or at any other event: folded anew unless it is kept. A snapshot's
    /// is kept from then on, that of another event until the next one is asked for.
    ///
    /// # Errors
    /// If the event is not here, or the disk is at fault.
    pub fn state_at(&mut self, event: &EventId) -> Result<View<'_>, DriverError> {
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
            let cut = Cut::up_to(store, Log::Internal, event)?;
            let winners = cut::winners(store, Log::Internal, &cut)?;
            self.state.keep_cut(*event, &winners, store)?;
        }
        self.state.at(event).ok_or(DriverError::State(StateError::NoEvent(*event)))
    }

    /// The state as it was last brought up to date.
    pub fn state(&self) -> &State {
        &self.state
    }

    /// The state, to keep or forget snapshots.
    pub fn state_mut(&mut self) -> &mut State {
        &mut self.state
    }

    /// Saves the state: losing it would only cost the time to build it again.
    ///
    /// # Errors
    /// If the disk is at fault.
    pub fn save_state(&mut self) -> Result<(), DriverError> {
        if self.held.store().is_some() {
            let disk = self.held.disk().clone();
            self.state.save(&*disk)?;
        }
        Ok(())
    }

    /// When to give [`Input::Tick`], in milliseconds.
    pub fn deadline(&self) -> Option<u64> {
        self.node.deadline()
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
        let visible = self.catch_up()?.current().artifacts()?;
        for artifact in visible.values() {
            if let Some(claim) = artifact.counts()
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
                Some(Statement::Put(claim)) => _ = self.wants.touched.insert(claim.key),
                Some(Statement::TombstoneArtifact(key)) => _ = self.wants.touched.insert(key),
                _ => {}
            }
        }
    }

    /// Tells the node which artifacts to fetch, as many as it has room for.
    fn tell_wants(&mut self) -> Result<(), DriverError> {
        let Some(policy) = self.wants.policy else { return Ok(()) };
        let touched = std::mem::take(&mut self.wants.touched);
        if !touched.is_empty() {
            self.catch_up()?;
        }
        for key in touched {
            let artifact = self.state.current().artifact(&key)?;
            let wanted = artifact.as_ref().and_then(|one| one.counts());
            if wanted.is_some_and(|claim| policy.wants(claim.size)) {
                self.wants.lacking.insert(key);
            } else if !self.wants.lacking.remove(&key) {
                self.input(Input::Unwant { key })?;
            }
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

/// The salt of a root event, from the entropy of the founder.
fn root_salt(entropy: &[u8; 32], length: usize) -> Vec<u8> {
    entropy.iter().copied().cycle().take(length).collect()
}
