//! What goes wrong, and how it ends.

use quipu_core::node::Input;
use quipu_node::DriverError;
use quipu_store::{Faults, StoreError};

use crate::machine::Part;
use crate::plan::{MS, SECOND};
use crate::report::Finding;
use crate::world::{Happening, World};

/// Something that goes wrong.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Trouble {
    /// A machine stops between two turns.
    Crash,
    /// This one does, after the disk of its artifacts failed.
    CrashFiles(usize),
    /// The power fails within a write soon.
    PowerCut,
    /// The disk is full soon.
    FullDisk,
    /// A sync fails soon.
    FailingSync,
    /// An image of a disk is kept for later.
    Backup(usize),
    /// A machine is put back to its image.
    Restore(usize),
    /// A clock jumps.
    ClockJump,
    /// The machines are cut into two groups.
    Partition,
    /// The partition ends.
    Rejoin,
    /// Everybody is alone.
    Isolate,
    /// The machines are cut into two parts, each of which hangs together.
    Halve,
    /// A link breaks.
    LinkDrop,
    /// A link holds everything back.
    Stall,
}

/// Ten years.
const TEN_YEARS_MS: i64 = 10 * 365 * 24 * 3600 * 1000;

impl World {
    /// Plans what goes wrong.
    pub(crate) fn plan_trouble(&mut self) {
        let faults = self.plan.faults;
        let end = self.plan.duration;
        let counted = [
            (faults.crashes.low, Trouble::Crash),
            (faults.power_cuts.low, Trouble::PowerCut),
            (faults.full_disks.low, Trouble::FullDisk),
            (faults.failing_syncs.low, Trouble::FailingSync),
            (faults.clock_jumps.low, Trouble::ClockJump),
            (faults.link_drops.low, Trouble::LinkDrop),
            (faults.stalls.low, Trouble::Stall),
        ];
        for (count, trouble) in counted {
            for _ in 0..count {
                let at = self.rng.between(SECOND, end);
                self.at(at, Happening::Trouble(trouble));
            }
        }
        for _ in 0..faults.restores.low {
            let machine = self.rng.index(self.machines.len());
            let at = self.rng.between(SECOND, end);
            let later = self.rng.between(at, end);
            self.at(at, Happening::Trouble(Trouble::Backup(machine)));
            self.at(later, Happening::Trouble(Trouble::Restore(machine)));
        }
        let mut from = 5 * SECOND;
        for _ in 0..faults.partitions.low {
            let at = self.rng.between(from, end.max(from));
            let length = faults.partition_s.draw(&mut self.rng) * SECOND;
            let at = at.min(end.saturating_sub(length)).max(from);
            self.at(at, Happening::Trouble(Trouble::Partition));
            self.at(at + length, Happening::Trouble(Trouble::Rejoin));
            from = at + length + SECOND;
        }
        let apart = match self.plan.workload.apart.low {
            0 => None,
            1 => Some(Trouble::Isolate),
            _ => Some(Trouble::Halve),
        };
        if let Some(apart) = apart {
            let at = self.plan.writing_from().saturating_sub(SECOND);
            self.at(at, Happening::Trouble(apart));
        }
    }

    /// A machine that is up and not the domain's only hope.
    fn victim(&mut self) -> usize {
        self.rng.index(self.machines.len())
    }

    /// Something goes wrong.
    pub(crate) fn trouble(&mut self, trouble: Trouble) -> Result<(), Finding> {
        if self.healed {
            return Ok(());
        }
        if let Trouble::CrashFiles(machine) = trouble {
            if self.machines[machine].files_cut {
                self.crash(machine);
            }
            return Ok(());
        }
        let machine = self.victim();
        let soon = self.rng.below(8);
        match trouble {
            Trouble::Crash => {
                if self.machines[machine].driver.is_some() {
                    self.crash(machine);
                }
            }
            // Done above.
            Trouble::CrashFiles(_) => {}
            Trouble::PowerCut => {
                self.set_faults(machine, Faults { power_cut_at: Some(soon), ..Faults::default() });
            }
            Trouble::FullDisk => {
                let room = Some(self.rng.below(2000));
                self.set_faults(machine, Faults { full_after_bytes: room, ..Faults::default() });
            }
            Trouble::FailingSync => {
                self.set_faults(machine, Faults { failing_sync: Some(soon), ..Faults::default() });
            }
            Trouble::Backup(machine) => {
                let on = &mut self.machines[machine];
                if on.driver.is_some() {
                    on.backup = Some((on.disk.fork(), on.met.clone()));
                }
            }
            Trouble::Restore(machine) => self.restore(machine),
            Trouble::ClockJump => self.jump(machine),
            Trouble::Partition => {
                let groups = (0..self.machines.len()).map(|_| self.rng.index(2)).collect();
                self.part(groups);
            }
            Trouble::Isolate => self.part((0..self.machines.len()).collect()),
            Trouble::Halve => self.part(self.halves()),
            Trouble::Rejoin => self.groups = None,
            Trouble::LinkDrop => {
                let links: Vec<u64> = self.links.keys().copied().collect();
                if let Some(link) = self.rng.pick(&links).copied() {
                    self.cut(link, "the link broke", 30 * SECOND);
                }
            }
            Trouble::Stall => {
                let length = self.plan.faults.stall_s.draw(&mut self.rng) * SECOND;
                let edge = self.rng.index(self.edges.len());
                if let Some(edge) = self.edges.get_mut(edge) {
                    edge.stalled_until = self.now + length;
                }
            }
        }
        Ok(())
    }

    fn set_faults(&mut self, machine: usize, faults: Faults) {
        if self.machines[machine].driver.is_some() {
            self.machines[machine].disk.set_faults(faults);
        }
    }

    /// The power of a machine fails.
    fn crash(&mut self, machine: usize) {
        let seed = self.rng.next();
        for (part, n) in self.parts_of(machine).into_iter().zip(0..) {
            self.machines[part].stop();
            self.machines[part].disk.crash(seed.wrapping_add(n));
        }
        let host = self.machines[machine].host;
        self.machines[host].crash_files();
        self.down(host);
    }

    /// A machine is down: its links die, and it starts again some time later.
    fn down(&mut self, machine: usize) {
        self.stops += 1;
        for part in self.parts_of(machine) {
            self.cut_all(part);
            self.ledger.pending.retain(|(of, _), _| *of != part);
            self.federation.publications.remove(&part);
        }
        let life = self.machines[machine].life;
        let after = self.rng.between(100 * MS, 60 * SECOND);
        self.at(self.now + after, Happening::Restart { machine, life });
    }

    /// A machine stopped because its disk refused.
    pub(crate) fn stopped(&mut self, machine: usize, error: &DriverError) -> Result<(), Finding> {
        let seed = self.rng.next();
        let full = matches!(error, DriverError::Store(StoreError::Full { .. }));
        let refused = matches!(
            error,
            DriverError::Store(StoreError::Io { .. } | StoreError::Poisoned { .. })
        );
        if !full && !refused {
            return Err(Finding::new("a machine stopped", format!("machine {machine}: {error}")));
        }
        let disk = self.machines[machine].disk.clone();
        disk.set_faults(Faults::default());
        if self.is_federated() {
            self.crash(machine);
            return Ok(());
        }
        if !full || self.rng.permille(300) {
            disk.crash(seed);
            self.machines[machine].crash_files();
        } else {
            self.machines[machine].kill_files();
        }
        self.down(machine);
        Ok(())
    }

    /// A machine stopped because its disk refused something between two turns.
    pub(crate) fn give_up(&mut self, machine: usize) {
        if self.is_federated() {
            return self.crash(machine);
        }
        let seed = self.things.rng.next();
        let disk = self.machines[machine].disk.clone();
        disk.set_faults(Faults::default());
        disk.crash(seed);
        self.machines[machine].crash_files();
        self.down(machine);
    }

    /// A machine is put back to its image. What nobody else has is lost, and nobody's fault.
    fn restore(&mut self, machine: usize) {
        let Some((image, met)) = self.machines[machine].backup.take() else { return };
        let own: Vec<_> = self.ledger.acknowledged.iter().map(|a| a.id).collect();
        let before: Vec<_> =
            own.into_iter().filter(|id| self.holds(machine, id) != Some(false)).collect();
        self.machines[machine].stop();
        self.machines[machine].kill_files();
        self.down(machine);
        let on = &mut self.machines[machine];
        on.disk = std::sync::Arc::new(image);
        on.met = met;
        on.life += 1;
        let life = on.life;
        self.at(self.now + SECOND, Happening::Restart { machine, life });
        self.ledger.restored.insert(machine);
        self.ledger.disturb_grants_of(self.machines[machine].node);
        for id in before {
            let held = |m: &&crate::machine::Machine| {
                m.index != machine
                    && m.part == Part::Honest
                    && self.holds(m.index, &id) == Some(true)
            };
            let holders = self.machines.iter().filter(held).map(|m| m.index).collect();
            self.ledger.at_risk.insert(id, holders);
        }
    }

    /// The half of each machine: that of the field, if there is one.
    fn halves(&self) -> Vec<usize> {
        match &self.plan.field {
            Some(field) => field.halves(),
            None => (0..self.machines.len()).map(|at| at * 2 / self.machines.len()).collect(),
        }
    }

    fn jump(&mut self, machine: usize) {
        let reach = match self.rng.index(3) {
            0 => TEN_YEARS_MS,
            1 => 3_600_000,
            _ => 60_000,
        };
        let by = self.rng.below(2 * reach as u64) as i64 - reach;
        for part in self.parts_of(machine) {
            self.machines[part].skew.offset_ms += by;
        }
    }

    /// Cuts all links between groups.
    fn part(&mut self, groups: Vec<usize>) {
        self.groups = Some(groups);
        let links: Vec<(u64, [usize; 2])> =
            self.links.iter().map(|(id, link)| (*id, link.ends)).collect();
        for (link, ends) in links {
            if self.is_apart(ends) {
                self.cut(link, "no answer", 30 * SECOND);
            }
        }
    }

    /// Ends all trouble: everything is up, linked and well, and liars are left out.
    pub(crate) fn heal(&mut self) -> Result<(), Finding> {
        self.healed = true;
        self.groups = None;
        for edge in &mut self.edges {
            edge.profile = edge.profile.healed();
            edge.stalled_until = 0;
        }
        for machine in 0..self.machines.len() {
            if self.machines[machine].files_cut {
                self.crash(machine);
            }
            self.machines[machine].disk.set_faults(Faults::default());
            self.start(machine)?;
            self.give(machine, Input::Tick);
        }
        let hostile: Vec<usize> =
            (0..self.machines.len()).filter(|m| self.is_hostile(*m)).collect();
        for machine in hostile {
            self.cut_all(machine);
        }
        // Frames that a stall holds back for hours would hold back all later ones.
        let late = |link: &crate::net::Link| link.arrives_by() > self.now + 30 * SECOND;
        let stalled: Vec<u64> =
            self.links.iter().filter(|(_, link)| late(link)).map(|(id, _)| *id).collect();
        for link in stalled {
            self.cut(link, "no answer", SECOND);
        }
        self.link_honest();
        self.open_doors();
        for edge in 0..self.edges.len() {
            let at = self.now + self.rng.below(SECOND);
            self.at(at, Happening::Connect(edge));
        }
        Ok(())
    }

    /// Adds links until all honest members hang together without the help of others.
    pub(crate) fn link_honest(&mut self) {
        if self.is_federated() {
            return;
        }
        let members = self.members();
        let mut group: Vec<usize> = (0..self.machines.len()).collect();
        for edge in &self.edges {
            let [a, b] = edge.ends;
            if members.contains(&a)
                && members.contains(&b)
                && group[a] != group[b]
                && self.would_talk(a, b)
            {
                let (from, to) = (group[a], group[b]);
                group.iter_mut().filter(|g| **g == from).for_each(|g| *g = to);
            }
        }
        for member in members {
            if group[member] != group[0] {
                let from = group[member];
                let to = group[0];
                group.iter_mut().filter(|g| **g == from).for_each(|g| *g = to);
                self.add_edge([0, member]);
            }
        }
    }

    /// Whether two machines take each other for members, as far as they know.
    fn would_talk(&self, a: usize, b: usize) -> bool {
        let knows = |one: usize, other: usize| {
            let dag = self.machines[one].driver.as_ref().and_then(|driver| driver.node().dag());
            dag.is_none_or(|dag| dag.authority().role(&self.machines[other].node).is_some())
        };
        knows(a, b) && knows(b, a)
    }
}
