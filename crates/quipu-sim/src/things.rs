//! What people do with artifacts, edges and snapshots. All of it is drawn from streams of its own.

use std::collections::BTreeSet;

use quipu_artifact::Faults;
use quipu_core::id::{ArtifactId, EventId};
use quipu_core::node::{Command, CommandError, Input, Notice, Reply};
use quipu_core::state::StateHash;
use quipu_core::statement::{Claim, EdgeKey, EdgeRole, End, Statement};
use quipu_node::{ArtifactPolicy, DriverError};
use quipu_state::StateError;

use crate::ledger::Pending;
use crate::machine::SimDriver;
use crate::people::Act;
use crate::plan::{MS, SECOND};
use crate::report::{Finding, Sabotage};
use crate::rng::Rng;
use crate::trouble::Trouble;
use crate::world::{Happening, World};

/// Something that people do with them.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Deed {
    /// Put an artifact.
    Put,
    /// Hide an artifact or an edge.
    Tombstone,
    /// Pin an artifact, or let go of it.
    Pin,
    /// Add an edge.
    Edge,
    /// Decide a conflict.
    Resolve,
    /// Take a snapshot.
    Snapshot,
    /// Drop a snapshot.
    Drop,
    /// Collect what nothing holds.
    Collect,
    /// Ask for an artifact.
    Fetch,
    /// Change what a machine fetches by itself.
    Policy,
    /// Save the state.
    Save,
    /// Let the disk of artifacts fail soon.
    CutFiles,
    /// A liar lies about artifacts.
    Lie(usize),
}

/// A snapshot that was acknowledged, as it was then.
#[derive(Debug, Clone)]
pub(crate) struct Shot {
    pub(crate) id: EventId,
    pub(crate) root: StateHash,
    /// What a replay showed.
    pub(crate) rows: [u8; 32],
}

/// What the simulator remembers of artifacts, edges and snapshots.
#[derive(Debug)]
pub(crate) struct Things {
    pub(crate) rng: Rng,
    seed: u64,
    /// All artifacts that were ever put: their bytes follow from their place here.
    pub(crate) contents: Vec<(ArtifactId, u64)>,
    edges: Vec<EdgeKey>,
    pub(crate) shots: Vec<Shot>,
    /// What machines said that they hold, until they collected it.
    pub(crate) promised: BTreeSet<(usize, ArtifactId)>,
    /// Parts that did not fit and were named.
    pub(crate) bad_parts: u64,
    /// Artifacts that were fetched.
    pub(crate) fetched: u64,
    /// Artifacts that were collected.
    pub(crate) collected: u64,
}

/// How often a snapshot is tried again when other events came meanwhile.
const SNAPSHOT_TRIES: u8 = 5;
/// Sizes around which something changes: none, a chunk, a group, a pair of groups.
const EDGE_SIZES: [u64; 8] = [0, 1, 1024, 16_383, 16_384, 16_385, 32_768, 65_537];

impl Things {
    /// Nothing yet.
    pub(crate) fn new(seed: u64) -> Self {
        Self {
            rng: Rng::new(seed, "data"),
            seed,
            contents: Vec::new(),
            edges: Vec::new(),
            shots: Vec::new(),
            promised: BTreeSet::new(),
            bad_parts: 0,
            fetched: 0,
            collected: 0,
        }
    }

    fn bytes(&self, number: usize, size: u64) -> Vec<u8> {
        let mut hasher = blake3::Hasher::new();
        hasher.update(&self.seed.to_le_bytes()).update(&(number as u64).to_le_bytes());
        let mut bytes = vec![0; size as usize];
        hasher.finalize_xof().fill(&mut bytes);
        bytes
    }

    /// Bytes to put: often some that were put before.
    fn content(&mut self, most: u64) -> Vec<u8> {
        if self.rng.permille(400) && !self.contents.is_empty() {
            let number = self.rng.index(self.contents.len());
            return self.bytes(number, self.contents[number].1);
        }
        let size = match self.rng.below(4) {
            0 => EDGE_SIZES[self.rng.index(EDGE_SIZES.len())].min(most),
            1 => self.rng.between(0, most),
            _ => self.rng.between(0, most.min(2000)),
        };
        let bytes = self.bytes(self.contents.len(), size);
        self.contents.push((ArtifactId::of(&bytes), size));
        bytes
    }

    fn artifact(&mut self) -> Option<ArtifactId> {
        self.rng.pick(&self.contents).map(|(key, _)| *key)
    }

    fn type_tag(&mut self) -> Option<String> {
        let tags = [None, None, Some("text/plain"), Some("image/png")];
        tags[self.rng.index(tags.len())].map(str::to_owned)
    }

    fn policy(&mut self, most: u64) -> ArtifactPolicy {
        match self.rng.below(10) {
            0..6 => ArtifactPolicy::All,
            6 | 7 => ArtifactPolicy::None,
            _ => ArtifactPolicy::Below(self.rng.between(0, most)),
        }
    }
}

impl World {
    /// Machines get their policies. Before they start.
    pub(crate) fn equip(&mut self) {
        if !self.plan.has_data() {
            return;
        }
        let gullible = self.options.sabotage == Some(Sabotage::BelieveParts);
        for machine in &mut self.machines {
            machine.policy = Some(self.things.policy(self.plan.data.bytes.low));
            machine.gullible = gullible;
        }
        self.equip_parts();
    }

    /// Plans what people do with artifacts, edges and snapshots.
    pub(crate) fn plan_data(&mut self) {
        if !self.plan.has_data() {
            return;
        }
        let data = self.plan.data;
        let end = self.plan.duration;
        let start = (2 * SECOND).min(end / 4);
        let mut counted = vec![
            (data.puts.low, Deed::Put),
            (data.tombstones.low, Deed::Tombstone),
            (data.pins.low, Deed::Pin),
            (data.edges.low, Deed::Edge),
            (data.resolutions.low, Deed::Resolve),
            (data.snapshots.low, Deed::Snapshot),
            (data.drops.low, Deed::Drop),
            (data.collections.low, Deed::Collect),
            (data.fetches.low, Deed::Fetch),
            (data.policies.low, Deed::Policy),
            (data.saves.low, Deed::Save),
            (data.file_cuts.low, Deed::CutFiles),
        ];
        let liars = (0..self.machines.len()).filter(|machine| self.is_hostile(*machine));
        for machine in liars.collect::<Vec<_>>() {
            counted.push((data.lies.draw(&mut self.things.rng), Deed::Lie(machine)));
        }
        for (count, deed) in counted {
            for _ in 0..count {
                let at = self.things.rng.between(start, end);
                self.at(at, Happening::Act(Act::Data(deed)));
            }
        }
    }

    /// Somebody does something. What needs a machine that is down is not done.
    pub(crate) fn data_act(&mut self, deed: Deed) -> Result<(), Finding> {
        let hosts = self.hosts();
        let machine = self.things.rng.index(hosts);
        if self.machines[machine].driver.is_none() && !matches!(deed, Deed::Lie(_)) {
            return Ok(());
        }
        match deed {
            Deed::Put => self.put(machine),
            Deed::Tombstone => self.tombstone(machine),
            Deed::Pin => self.pin(machine),
            Deed::Edge => self.add_edge_event(machine),
            Deed::Resolve => return self.resolve(machine),
            Deed::Snapshot => self.request(machine, Command::Merge, Pending::Merge(0)),
            Deed::Drop => self.drop_snapshot(machine),
            Deed::Collect => return self.collect(machine),
            Deed::Fetch => self.fetch(machine),
            Deed::Policy => return self.change_policy(machine),
            Deed::Save => return self.save_state(machine),
            Deed::CutFiles => self.cut_files(machine),
            Deed::Lie(liar) => self.lie_about_artifacts(liar),
        }
        Ok(())
    }

    pub(crate) fn declare(&mut self, machine: usize, statement: Statement) {
        self.request(machine, Command::Say(vec![statement]), Pending::Say);
    }

    fn put(&mut self, machine: usize) {
        let bytes = self.things.content(self.plan.data.bytes.low);
        let type_tag = self.things.type_tag();
        self.put_bytes(machine, &bytes, type_tag);
    }

    /// As `quipu put` does it: import, adopt, tell the node, say so.
    pub(crate) fn put_bytes(&mut self, machine: usize, bytes: &[u8], type_tag: Option<String>) {
        let on = &mut self.machines[machine];
        let Some(store) = on.store.clone() else { return };
        let shelf = on.shelf.clone();
        let adopted = store.import(bytes, &mut |_| ()).and_then(|imported| {
            let (key, size) = (imported.key, imported.size);
            store.adopt(imported).map(|()| (key, size))
        });
        self.note_deed(machine, &adopted.as_ref().map_err(ToString::to_string));
        let Ok((key, size)) = adopted else { return };
        if shelf.is_some_and(|shelf| shelf.give_home(&key).is_err()) {
            return self.give_up(machine);
        }
        *self.machines[machine].putting.entry(key).or_default() += 1;
        self.give(machine, Input::ArtifactHeld { key, size });
        let claim = Claim { key, size, type_tag };
        self.request(machine, Command::Say(vec![Statement::Put(claim)]), Pending::Put(key));
    }

    fn tombstone(&mut self, machine: usize) {
        let things = &mut self.things;
        if things.rng.permille(300)
            && let Some(edge) = things.rng.pick(&things.edges).cloned()
        {
            return self.declare(machine, Statement::TombstoneEdge(edge));
        }
        if let Some(key) = things.artifact() {
            self.declare(machine, Statement::TombstoneArtifact(key));
        }
    }

    fn pin(&mut self, machine: usize) {
        let held = self.things.rng.permille(600);
        if let Some(key) = self.things.artifact() {
            self.declare(machine, Statement::Pin { key, held });
        }
    }

    fn add_edge_event(&mut self, machine: usize) {
        let node = self.machines[self.things.rng.index(self.machines.len())].node;
        let things = &mut self.things;
        let edge = match things.rng.pick(&things.edges) {
            Some(edge) if things.rng.permille(300) => edge.clone(),
            _ => {
                let Some(one) = things.artifact() else { return };
                let Some(other) = things.artifact() else { return };
                let to = match things.rng.below(3) {
                    0 => vec![End::Node(node)],
                    1 => vec![End::Artifact(other)],
                    _ => vec![End::Artifact(other), End::Node(node)],
                };
                let kind = ["derived", "cites"][things.rng.index(2)];
                let Some(edge) = EdgeKey::new(vec![End::Artifact(one)], to, kind) else { return };
                edge
            }
        };
        let role = EdgeRole::ALL[things.rng.index(3)];
        things.edges.push(edge.clone());
        self.declare(machine, Statement::Edge(edge, role));
    }

    fn resolve(&mut self, machine: usize) -> Result<(), Finding> {
        let Some(driver) = self.machines[machine].driver.as_mut() else { return Ok(()) };
        let conflicts = driver.catch_up().and_then(|state| Ok(state.current().conflicts()?));
        let Some(conflicts) = self.unless_stopped(machine, conflicts)? else { return Ok(()) };
        let Some(conflict) = self.things.rng.pick(&conflicts) else { return Ok(()) };
        let Some(keep) = self.things.rng.pick(&conflict.candidates) else { return Ok(()) };
        let seen = conflict.candidates.iter().map(|one| one.subject).collect();
        self.declare(machine, Statement::Resolve { keep: keep.claim.clone(), seen });
        Ok(())
    }

    /// As the service does it: the state now, and an event that is refused if other events came.
    fn snapshot(&mut self, machine: usize, tries: u8) -> Result<(), Finding> {
        let Some(driver) = self.machines[machine].driver.as_mut() else { return Ok(()) };
        let at = driver.node_mut().digest();
        let state = driver.catch_up().map(|state| (state.mark(), state.root(), state.entries()));
        let Some(state) = self.unless_stopped(machine, state)? else { return Ok(()) };
        let (mark, mut root, entries) = state;
        if self.options.sabotage == Some(Sabotage::WrongRoot) {
            root[0] ^= 1;
        }
        let statement = Statement::Snapshot { root, entries, name: None };
        let command = Command::Snapshot { at, statement };
        self.request(machine, command, Pending::Snapshot { mark, tries });
        Ok(())
    }

    fn drop_snapshot(&mut self, machine: usize) {
        let Some(shot) = self.things.rng.pick(&self.things.shots) else { return };
        let id = shot.id;
        let Some(driver) = self.machines[machine].driver.as_mut() else { return };
        driver.state_mut().forget(&id);
        self.declare(machine, Statement::DropSnapshot(id));
    }

    fn fetch(&mut self, machine: usize) {
        if let Some(key) = self.things.artifact() {
            self.request(machine, Command::Fetch { key }, Pending::Fetch(key));
        }
    }

    fn change_policy(&mut self, machine: usize) -> Result<(), Finding> {
        let policy = self.things.policy(self.plan.data.bytes.low);
        let on = &mut self.machines[machine];
        if let Some(driver) = on.driver.as_mut().filter(|_| on.policy.is_some()) {
            on.policy = Some(policy);
            let followed = driver.fetch_artifacts(policy);
            if self.unless_stopped(machine, followed)?.is_some() {
                self.give(machine, Input::Tick);
            }
        }
        Ok(())
    }

    fn save_state(&mut self, machine: usize) -> Result<(), Finding> {
        let Some(driver) = self.machines[machine].driver.as_mut() else { return Ok(()) };
        let saved = driver.catch_up().map(|state| state.root());
        let saved = saved.and_then(|root| driver.save_state().map(|()| root));
        self.note_deed(machine, &saved.as_ref().map_err(ToString::to_string));
        match saved {
            // It costs time only, and the machine goes on.
            Err(DriverError::State(StateError::Io { error, .. }))
                if error.kind() == std::io::ErrorKind::StorageFull =>
            {
                Ok(())
            }
            saved => self.unless_stopped(machine, saved).map(|_| ()),
        }
    }

    fn cut_files(&mut self, machine: usize) {
        let soon = Some(self.things.rng.below(30));
        let on = &mut self.machines[machine];
        if on.store.is_some() {
            on.files.set_faults(Faults { power_cut_at: soon, ..Faults::default() });
            on.files_cut = true;
            let after = self.things.rng.between(100 * MS, 30 * SECOND);
            self.at(self.now + after, Happening::Trouble(Trouble::CrashFiles(machine)));
        }
    }

    /// A machine has started: what it wants is asked for with its first turn.
    pub(crate) fn started_with_artifacts(&mut self, machine: usize) -> Result<(), Finding> {
        if self.machines[machine].policy.is_some() {
            self.give(machine, Input::Tick);
            if self.machines[machine].host == machine {
                self.check_files(machine)?;
            }
        }
        Ok(())
    }

    /// Takes an answer, unless it is about something else: then it comes back.
    pub(crate) fn data_reply(
        &mut self,
        machine: usize,
        pending: Pending,
        reply: &Result<Reply, CommandError>,
    ) -> Result<Option<Pending>, Finding> {
        let honest = !self.is_hostile(machine);
        let emitted = match reply {
            Ok(Reply::Emitted(emitted)) => emitted.last().map(|event| event.id),
            _ => None,
        };
        if matches!(
            pending,
            Pending::Put(_) | Pending::Say | Pending::Publish(_) | Pending::Snapshot { .. }
        ) && let Some(id) = emitted.filter(|_| honest)
        {
            self.ledger.acknowledge(id, machine, None);
        }
        match pending {
            Pending::Put(key) => {
                let on = &mut self.machines[machine];
                if let Some(count) = on.putting.get_mut(&key) {
                    *count -= 1;
                    on.putting.retain(|_, count| *count > 0);
                }
                if emitted.is_some() {
                    self.promise(machine, key);
                }
            }
            Pending::Say => {}
            Pending::Publish(publication) => {
                if emitted.is_some() {
                    self.publish_further(machine, *publication);
                }
            }
            Pending::Merge(tries) => {
                if reply.is_ok() {
                    self.snapshot(machine, tries)?;
                }
            }
            Pending::Snapshot { mark, tries } => match (emitted, reply) {
                (Some(id), _) => self.taken(machine, id, &mark)?,
                (None, Err(CommandError::MovedOn)) if tries < SNAPSHOT_TRIES => {
                    self.request(machine, Command::Merge, Pending::Merge(tries + 1));
                }
                _ => {}
            },
            Pending::Fetch(key) => {
                if let Ok(Reply::Fetched { .. }) = reply {
                    self.promise(machine, key);
                    self.check_promises(machine)?;
                }
            }
            other => return Ok(Some(other)),
        }
        Ok(None)
    }

    /// A snapshot was taken. Its state is kept, or folded again when it is asked for.
    fn taken(
        &mut self,
        machine: usize,
        id: EventId,
        mark: &quipu_state::Mark,
    ) -> Result<(), Finding> {
        let keeps = self.things.rng.permille(500);
        let Some(driver) = self.machines[machine].driver.as_mut() else { return Ok(()) };
        if keeps {
            driver.state_mut().keep(id, mark);
        }
        let root = driver.state_at(&id).map(|view| view.root());
        let Some(root) = self.unless_stopped(machine, root)? else { return Ok(()) };
        let Some(driver) = self.machines[machine].driver.as_ref() else { return Ok(()) };
        let rows = crate::check_data::rows_at(driver, Some(&id), 1)?.1;
        self.things.shots.push(Shot { id, root, rows });
        self.record_publications(machine, id);
        Ok(())
    }

    fn promise(&mut self, machine: usize, key: ArtifactId) {
        if !self.is_hostile(machine) {
            self.things.promised.insert((machine, key));
        }
    }

    /// Looks at what a machine tells about artifacts.
    pub(crate) fn data_notices(
        &mut self,
        machine: usize,
        notices: &[Notice],
    ) -> Result<(), Finding> {
        for notice in notices {
            match notice {
                Notice::ArtifactComplete { key, .. } => {
                    self.things.fetched += 1;
                    self.promise(machine, *key);
                }
                Notice::BadPart { peer, .. } => {
                    self.things.bad_parts += 1;
                    let liar = self.machines.iter().find(|one| one.node == *peer);
                    if liar.is_some_and(|liar| !self.is_hostile(liar.index)) {
                        let text = format!("machine {machine} blames {peer}");
                        return Err(Finding::new("an honest machine is called a liar", text));
                    }
                    self.check_files(machine)?;
                }
                _ => {}
            }
        }
        Ok(())
    }

    /// Collects what nothing holds, and checks that nothing holds it.
    fn collect(&mut self, machine: usize) -> Result<(), Finding> {
        let Some(store) = self.machines[machine].store.clone() else { return Ok(()) };
        let Some(driver) = self.machines[machine].driver.as_mut() else { return Ok(()) };
        let ready = driver.held_artifacts().map(|_| ());
        if self.unless_stopped(machine, ready)?.is_none() {
            return Ok(());
        }
        let free = self.free_of(machine)?;
        self.check_free(machine, &free)?;
        for key in &free {
            let removed = store.remove(key);
            self.note_deed(machine, &(key, removed.map_err(|error| error.to_string())));
            self.things.promised.remove(&(machine, *key));
            self.things.collected += 1;
        }
        self.check_files(machine)
    }

    /// What a machine would collect.
    pub(crate) fn free_of(&mut self, machine: usize) -> Result<Vec<ArtifactId>, Finding> {
        let careless = self.options.sabotage == Some(Sabotage::CollectSnapshots);
        let on = &mut self.machines[machine];
        let (Some(driver), Some(store)) = (on.driver.as_mut(), &on.store) else {
            return Ok(Vec::new());
        };
        let here = store.list().and_then(Iterator::collect).map_err(unreadable)?;
        if careless {
            return free_now(driver, here);
        }
        let free = driver.free_artifacts(here, &on.putting).map_err(unreadable)?;
        Ok(free.into_iter().map(|(key, _)| key).collect())
    }
}

/// What a collector frees that forgets about snapshots.
fn free_now(
    driver: &mut SimDriver,
    here: Vec<(ArtifactId, u64)>,
) -> Result<Vec<ArtifactId>, Finding> {
    let state = driver.catch_up().map_err(unreadable)?;
    let all = state.current().artifacts().map_err(unreadable)?;
    let held = |key: &ArtifactId| all.get(key).is_some_and(|one| one.is_visible() || one.pinned);
    Ok(here.into_iter().map(|(key, _)| key).filter(|key| !held(key)).collect())
}

/// What a machine holds cannot be read, and nothing was said of a bad disk.
pub(crate) fn unreadable(error: impl std::fmt::Display) -> Finding {
    Finding::new("what a machine holds cannot be read", error.to_string())
}
