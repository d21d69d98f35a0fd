//! Checkers for artifacts, edges, conflicts and snapshots, against [`Model`].

use std::collections::{BTreeMap, BTreeSet};

use quipu_core::event::Log;
use quipu_core::history::History;
use quipu_core::id::{ArtifactId, EventId};
use quipu_node::{ArtifactPolicy, DriverError};
use quipu_state::cut::{self, Cut};
use quipu_state::{Artifact, State, StateError, View, plan};
use quipu_store::{FaultyDisk, StoreError};

use crate::machine::{Part, SimDriver};
use crate::model::{Dispute, Folded, Model, Order, Taken};
use crate::report::{Finding, Sabotage};
use crate::things::unreadable;
use crate::world::World;

/// Snapshots that are replayed on every machine.
const REPLAYED: usize = 2;

/// A replay of everything, or up to an event: its root, and a hash of its rows.
pub(crate) fn rows_at(
    driver: &SimDriver,
    event: Option<&EventId>,
    shards: usize,
) -> Result<([u8; 32], [u8; 32]), Finding> {
    let (Some(store), Some(dag)) = (driver.held().store(), driver.node().dag()) else {
        return Ok(Default::default());
    };
    let cut = event
        .map(|event| Cut::up_to(store, driver.log(), event))
        .transpose()
        .map_err(unreadable)?;
    let aside = |id: &EventId| event.is_none() && dag.is_quarantined(id);
    let (replay, _) =
        plan::replay(store, driver.log(), cut.as_ref(), &aside, shards).map_err(unreadable)?;
    let mut rows = blake3::Hasher::new();
    for row in &replay.rows {
        rows.update(format!("{:?}", (row.order(), row.subject, row.kind, &row.what)).as_bytes());
    }
    Ok((replay.root, *rows.finalize().as_bytes()))
}

/// Compares what a view shows with what the events add up to.
fn difference(view: &View<'_>, folded: &Folded) -> Result<Option<&'static str>, StateError> {
    let (root, entries) = folded.root();
    if (view.root(), view.entries()) != (root, entries) {
        return Ok(Some("a state root is not that of its events"));
    }
    let artifacts = view.artifacts()?;
    if !artifacts.keys().eq(folded.things.keys()) {
        return Ok(Some("a state knows other artifacts than its events"));
    }
    for (one, thing) in artifacts.values().zip(folded.things.values()) {
        let shown: Vec<(Order, _)> =
            one.candidates.iter().map(|one| ((one.logseq, one.id), one.claim.clone())).collect();
        if shown != thing.visible() || one.pinned != thing.is_pinned() {
            return Ok(Some("an artifact is not what its events say"));
        }
        if view.artifact(&one.key)?.as_ref() != Some(one) {
            return Ok(Some("an artifact alone differs from the list"));
        }
    }
    let conflicts: BTreeMap<ArtifactId, Dispute> = view
        .conflicts()?
        .into_iter()
        .map(|conflict| {
            let claims = conflict.candidates.into_iter();
            let claims = claims.map(|one| ((one.logseq, one.id), one.claim)).collect();
            (conflict.key, (claims, conflict.counts, conflict.resolved_by))
        })
        .collect();
    if conflicts != folded.disputes() {
        return Ok(Some("conflicts are not those of the events"));
    }
    let mut edges = Vec::new();
    view.visit(&mut |entry| edges.push(*entry))?;
    let mut found = BTreeMap::new();
    for entry in edges {
        if let Some(edge) = view.edge(&entry)? {
            found.insert(edge.key, (edge.role, (edge.logseq, edge.id)));
        }
    }
    Ok((found != folded.edges()).then_some("edges are not those of the events"))
}

/// The state that one gets who leaves out tombstones.
fn without_tombstones(driver: &SimDriver) -> Result<State, Finding> {
    let disk = FaultyDisk::new();
    let mut state = State::open(&disk, driver.node().domain(), driver.log());
    let (Some(store), Some(dag)) = (driver.held().store(), driver.node().dag()) else {
        return Ok(state);
    };
    let mut aside = dag.quarantined().clone();
    let filter = quipu_store::ScanFilter {
        kinds: vec![quipu_core::kind::ARTIFACT_TOMBSTONE.to_owned()],
        ..Default::default()
    };
    let query = plan::Query { filter, ..plan::Query::default() };
    let (rows, _) = plan::scan(store, driver.log(), &query, 1).map_err(unreadable)?;
    aside.extend(rows.iter().map(|row| row.order().1));
    state.catch_up(&disk, store, &aside).map_err(unreadable)?;
    Ok(state)
}

/// Whether the disk is to blame for an error: then the machine stops, and is started again.
pub(crate) fn is_disks_fault(error: &DriverError) -> bool {
    let store = |error: &StoreError| {
        matches!(
            error,
            StoreError::Full { .. } | StoreError::Io { .. } | StoreError::Poisoned { .. }
        )
    };
    match error {
        DriverError::Store(error) | DriverError::State(StateError::Store(error)) => store(error),
        DriverError::State(error) => matches!(error, StateError::Io { .. }),
        DriverError::Root(_) => false,
    }
}

impl World {
    /// Everything about artifacts, edges, conflicts and snapshots that must hold once all agree.
    /// `replays` also asks for the plans.
    pub(crate) fn check_data(&mut self, members: &[usize], replays: bool) -> Result<(), Finding> {
        if !self.plan.has_data() {
            return Ok(());
        }
        for member in members.iter().copied() {
            let last = Some(&member) == members.last();
            let model = self.check_state(member, last)?;
            self.check_snapshots(member, &model, replays)?;
        }
        for machine in 0..self.hosts() {
            self.check_files(machine)?;
            self.check_promises(machine)?;
        }
        Ok(())
    }

    fn check_state(&mut self, member: usize, last: bool) -> Result<Model, Finding> {
        let blind = last && self.options.sabotage == Some(Sabotage::SkipTombstones);
        let Some(driver) = self.machines[member].driver.as_mut() else {
            return Err(Finding::new("a member is down", format!("machine {member}")));
        };
        let model = Model::of(driver)?;
        let folded = model.current();
        driver.catch_up().map_err(unreadable)?;
        let sabotaged = if blind { Some(without_tombstones(driver)?) } else { None };
        let state = sabotaged.as_ref().unwrap_or(driver.state());
        state.check().map_err(unreadable)?;
        if let Some(what) = difference(&state.current(), &folded).map_err(unreadable)? {
            return Err(Finding::new(what, format!("machine {member}")));
        }
        Ok(model)
    }

    /// Every snapshot says what its past adds up to, here and now as then and elsewhere.
    fn check_snapshots(
        &mut self,
        member: usize,
        model: &Model,
        replays: bool,
    ) -> Result<(), Finding> {
        let honest: BTreeSet<_> =
            self.machines.iter().filter(|m| m.part == Part::Honest).map(|m| m.node).collect();
        let taken = model.snapshots();
        let Some(driver) = self.machines[member].driver.as_mut() else { return Ok(()) };
        let known: Vec<EventId> = driver.state().snapshots().iter().map(|one| one.id).collect();
        if !known.iter().eq(taken.iter().map(|one| &one.id)) {
            let text = format!("machine {member}");
            return Err(Finding::new("a state knows other snapshots than its events", text));
        }
        for (number, one) in taken.iter().enumerate() {
            let shot = self.things.shots.iter().find(|shot| shot.id == one.id);
            let believed = honest.contains(&one.author);
            let mut found = check_cut(driver, model, one, believed)?;
            if found.is_none() && replays && taken.len() - number <= REPLAYED {
                let (root, rows) = rows_at(driver, Some(&one.id), 1)?;
                let thrice = rows_at(driver, Some(&one.id), 3)?;
                let same = shot.is_none_or(|shot| (shot.root, shot.rows) == (root, rows));
                if thrice != (root, rows) {
                    found = Some("a replay depends on the shards");
                } else if (believed && root != one.root) || !same {
                    found = Some("a snapshot is not what it was");
                }
            }
            if let Some(what) = found {
                let text = format!("machine {member}: {} by {}", one.id, one.author);
                return Err(Finding::new(what, text));
            }
        }
        if replays {
            let once = rows_at(driver, None, 1)?;
            if once != rows_at(driver, None, 3)? || once.0 != driver.state().root() {
                let text = format!("machine {member}: now");
                return Err(Finding::new("a replay depends on the shards", text));
            }
        }
        Ok(())
    }

    /// Every complete artifact on a machine's disk is what its name says.
    pub(crate) fn check_files(&self, machine: usize) -> Result<(), Finding> {
        let Some(store) = &self.machines[machine].store else { return Ok(()) };
        let problems = store.verify(&mut |_| ()).map_err(unreadable)?;
        match problems.first() {
            Some(problem) => {
                let text = format!("machine {machine}: {problem:?}");
                Err(Finding::new("an artifact is not what its name says", text))
            }
            None => Ok(()),
        }
    }

    /// What a machine said that it holds is there, unless it was collected.
    pub(crate) fn check_promises(&self, machine: usize) -> Result<(), Finding> {
        let Some(store) = &self.machines[machine].store else { return Ok(()) };
        let low = (machine, ArtifactId::default());
        let of = self.things.promised.range(low..).take_while(|(of, _)| *of == machine);
        for (_, key) in of {
            if !store.contains(key).map_err(unreadable)? {
                let text = format!("machine {machine}: {key}");
                return Err(Finding::new("an artifact that was acknowledged is lost", text));
            }
        }
        Ok(())
    }

    /// What a collector is about to free is held by nothing, and all that nothing holds is freed.
    pub(crate) fn check_free(
        &mut self,
        machine: usize,
        free: &[ArtifactId],
    ) -> Result<(), Finding> {
        let again = self.free_of(machine)?;
        let on = &self.machines[machine];
        let (Some(driver), Some(store)) = (&on.driver, &on.store) else { return Ok(()) };
        if again != free {
            let text = format!("machine {machine}: {free:?}, then {again:?}");
            return Err(Finding::new("a dry run differs from a collection", text));
        }
        let held = Model::of(driver)?.held();
        if let Some(key) = free.iter().find(|key| held.contains(key)) {
            let text = format!("machine {machine}: {key}");
            return Err(Finding::new("what is held is collected", text));
        }
        let here = store.list().and_then(Iterator::collect::<Result<Vec<_>, _>>);
        let kept = here.map_err(unreadable)?.into_iter().map(|(key, _)| key);
        let mut kept = kept.filter(|key| !held.contains(key) && !on.putting.contains_key(key));
        if let Some(key) = kept.find(|key| !free.contains(key)) {
            let text = format!("machine {machine}: {key}");
            return Err(Finding::new("what nothing holds is not collected", text));
        }
        Ok(())
    }

    /// Waits until all machines that fetch everything have what they can get.
    pub(crate) fn converge_artifacts(&mut self) -> Result<(), Finding> {
        if !self.plan.has_data() {
            return Ok(());
        }
        let end = self.now + self.plan.settle;
        loop {
            let Some((machine, key, from)) = self.lacking_artifact()? else { return Ok(()) };
            self.link_honest();
            if !self.pass_second(end)? {
                let fetching = self.machines[machine].driver.as_ref().map(|driver| {
                    let all = driver.node().fetching();
                    all.into_iter().filter(|one| one.key == key).collect::<Vec<_>>()
                });
                let text = format!("machine {machine}: {key} from {from}, {fetching:?}");
                return Err(Finding::new("an artifact is not fetched in time", text));
            }
        }
    }

    /// An artifact that a machine wants, lacks, and could have from another that it is linked to.
    fn lacking_artifact(&mut self) -> Result<Option<(usize, ArtifactId, usize)>, Finding> {
        for party in self.parties() {
            if let Some(found) = self.lacking_in(&party)? {
                return Ok(Some(found));
            }
        }
        Ok(None)
    }

    fn lacking_in(
        &mut self,
        members: &[usize],
    ) -> Result<Option<(usize, ArtifactId, usize)>, Finding> {
        for member in members.iter().copied() {
            let on = &mut self.machines[member];
            let (Some(ArtifactPolicy::All), Some(driver)) = (on.policy, on.driver.as_mut()) else {
                continue;
            };
            let published = driver.log() == Log::Published;
            let state = driver.catch_up().map_err(unreadable)?;
            let artifacts = state.current().artifacts().map_err(unreadable)?;
            let has = |machine: usize, key: &ArtifactId| {
                let driver = self.machines[machine].driver.as_ref();
                driver.is_some_and(|driver| {
                    driver.held().artifact_size(key).is_ok_and(|size| size.is_some())
                })
            };
            // What a published log only names is to be had elsewhere.
            let wanted = |one: &&Artifact| one.is_visible() && (!published || one.is_put());
            for key in artifacts.values().filter(wanted).map(|one| one.key) {
                if has(member, &key) {
                    continue;
                }
                let linked = |other: &usize| {
                    let ends = [member.min(*other), member.max(*other)];
                    self.edges.iter().any(|edge| edge.ends == ends)
                };
                let mut from = members.iter().copied().filter(|other| *other != member);
                if let Some(from) = from.find(|other| linked(other) && has(*other, &key)) {
                    return Ok(Some((member, key, from)));
                }
            }
        }
        Ok(None)
    }

    /// What a machine answered; nothing if its disk refused, and it stops.
    pub(crate) fn unless_stopped<T>(
        &mut self,
        machine: usize,
        result: Result<T, DriverError>,
    ) -> Result<Option<T>, Finding> {
        match result {
            Ok(value) => Ok(Some(value)),
            Err(error) if is_disks_fault(&error) && !self.healed => {
                self.machines[machine].stop();
                self.give_up(machine);
                Ok(None)
            }
            Err(error) => Err(unreadable(format!("machine {machine}: {error}"))),
        }
    }
}

/// What is wrong with a snapshot on a machine.
fn check_cut(
    driver: &mut SimDriver,
    model: &Model,
    one: &Taken,
    believed: bool,
) -> Result<Option<&'static str>, Finding> {
    let Some(then) = model.up_to(&one.id) else {
        return Ok(Some("the past of a snapshot is not held"));
    };
    // The snapshot is part of its own cut, and writes no fold key.
    let (root, entries) = then.root();
    if believed && (one.root, one.entries) != (root, entries) {
        return Ok(Some("a snapshot's root is not that of its past"));
    }
    let view = driver.state_at(&one.id).map_err(unreadable)?;
    if let Some(what) = difference(&view, &then).map_err(unreadable)? {
        return Ok(Some(what));
    }
    let Some(store) = driver.held().store() else { return Ok(None) };
    let cut = Cut::up_to(store, driver.log(), &one.id).map_err(unreadable)?;
    let winners = cut::winners(store, driver.log(), &cut).map_err(unreadable)?;
    let list: Vec<_> = winners.iter().map(|entry| (entry.subject, entry.id)).collect();
    let same = quipu_core::state::root_of(&list) == root;
    Ok((!same).then_some("the winners of a cut are not those of its events"))
}
