//! Several domains in one world. A machine that keeps published logs has a part in each of them: a
//! production driver with a disk of its own, and the key, the clock and the artifacts of the machine. Who
//! hosts what and where frames go is as in production (`quipu-node/src/service/published.rs`).

use std::collections::{BTreeMap, BTreeSet};

use quipu_core::domain::{Access, Decision, Parameters, Role};
use quipu_core::event::Log;
use quipu_core::history::History;
use quipu_core::id::{ArtifactId, DomainId, EventId, NodeKey};
use quipu_core::node::{Command, Input, LinkId, LinkRole};
use quipu_node::{ArtifactPolicy, DriverError};
use quipu_store::StoreError;

use crate::affairs::Publication;
use crate::isolation::{Crossed, INTERNAL_AHEAD_MS};
use crate::ledger::Pending;
use crate::machine::{Machine, SimDriver};
use crate::plan::{Plan, SECOND, Us};
use crate::report::{Finding, Sabotage};
use crate::rng::Rng;
use crate::world::{Happening, World};

/// What there is besides machines if there are several domains.
#[derive(Debug)]
pub(crate) struct Federation {
    pub(crate) domains: Vec<DomainId>,
    /// The domain of each machine.
    pub(crate) homes: Vec<usize>,
    pub(crate) rng: Rng,
    /// The artifacts of each domain, as its people know them, and their bytes.
    pub(crate) contents: Vec<Vec<ArtifactId>>,
    pub(crate) bytes: BTreeMap<ArtifactId, Vec<u8>>,
    /// When an artifact was first made part of a published log.
    pub(crate) shown: BTreeMap<ArtifactId, Us>,
    /// What was published and is not recorded yet, by the part that wrote it.
    pub(crate) publications: BTreeMap<usize, Vec<Publication>>,
    /// Frames that went from one domain to another.
    pub(crate) crossed: Vec<Crossed>,
    /// How many there were.
    pub(crate) crossings: u64,
    /// Events in published logs by those who may not write there.
    pub(crate) forged: BTreeSet<EventId>,
    /// What machines imported while they had the bytes, with its size.
    pub(crate) imported: Vec<(usize, ArtifactId, u64)>,
    /// Commitments that were published.
    pub(crate) blinded: u64,
    /// Followers that began with a log at a machine of neither domain.
    pub(crate) relayed: u64,
    /// Questions of strangers that were compared.
    pub(crate) questions: u64,
}

impl Federation {
    /// Founds the domains after the first one and makes the parts of all machines in all published logs. No
    /// machine keeps any yet.
    pub(crate) fn found(
        plan: &Plan,
        seed: u64,
        machines: &mut Vec<Machine>,
        first: DomainId,
        rng: &mut Rng,
    ) -> Result<Self, Finding> {
        let mut federation = Self {
            domains: Vec::new(),
            homes: Vec::new(),
            rng: Rng::new(seed, "federation"),
            contents: Vec::new(),
            bytes: BTreeMap::new(),
            shown: BTreeMap::new(),
            publications: BTreeMap::new(),
            crossed: Vec::new(),
            crossings: 0,
            forged: BTreeSet::new(),
            imported: Vec::new(),
            blinded: 0,
            relayed: 0,
            questions: 0,
        };
        if !plan.has_domains() {
            return Ok(federation);
        }
        federation.homes.clone_from(&plan.homes);
        federation.domains.push(first);
        for domain in 1..plan.domains.count.low as usize {
            let founder = federation.founder(domain);
            federation.domains.push(found(plan, &machines[founder], rng)?);
        }
        federation.contents = vec![Vec::new(); federation.domains.len()];
        for (host, home) in machines.iter_mut().zip(&federation.homes) {
            host.domain = federation.domains[*home];
            host.shelves = true;
        }
        federation.make_parts(seed, machines);
        for host in &mut machines[..federation.homes.len()] {
            host.skew.offset_ms += INTERNAL_AHEAD_MS;
        }
        Ok(federation)
    }

    fn make_parts(&self, seed: u64, machines: &mut Vec<Machine>) {
        for domain in &self.domains {
            for host in 0..self.homes.len() {
                let of = &machines[host];
                let mut part = Machine::new(machines.len(), seed, of.options());
                (part.host, part.domain, part.log) = (host, *domain, Log::Published);
                (part.key, part.node) = (of.key.clone(), of.node);
                (part.part, part.skew) = (of.part, of.skew);
                machines.push(part);
            }
        }
    }

    /// The machine that founded a domain.
    pub(crate) fn founder(&self, domain: usize) -> usize {
        self.homes.iter().position(|home| *home == domain).unwrap_or_default()
    }

    /// The machines of a domain.
    pub(crate) fn hosts_of(&self, domain: usize) -> Vec<usize> {
        (0..self.homes.len()).filter(|host| self.homes[*host] == domain).collect()
    }

    /// The part of a machine in the published log of a domain.
    pub(crate) fn part(&self, domain: usize, host: usize) -> usize {
        self.homes.len() * (1 + domain) + host
    }

    /// The number of a domain.
    pub(crate) fn number(&self, domain: &DomainId) -> Option<usize> {
        self.domains.iter().position(|one| one == domain)
    }
}

fn found(plan: &Plan, founder: &Machine, rng: &mut Rng) -> Result<DomainId, Finding> {
    let parameters = Parameters {
        name: "simulation".to_owned(),
        parents_max: plan.parents_max,
        ..Parameters::default()
    };
    let (disk, at) = (founder.disk.clone(), founder.local_ms(0));
    SimDriver::found(disk, &parameters, &founder.key, rng.bytes(), at, founder.options())
        .map_err(|error| Finding::new("founding failed", error.to_string()))
}

impl World {
    /// Whether there are several domains.
    pub(crate) fn is_federated(&self) -> bool {
        !self.federation.domains.is_empty()
    }

    /// How many machines there are. They come first.
    pub(crate) fn hosts(&self) -> usize {
        if self.is_federated() { self.federation.homes.len() } else { self.machines.len() }
    }

    /// A machine with all its parts in published logs.
    pub(crate) fn parts_of(&self, machine: usize) -> Vec<usize> {
        if !self.is_federated() {
            return vec![machine];
        }
        let host = self.machines[machine].host;
        let parts = (0..self.federation.domains.len()).map(|d| self.federation.part(d, host));
        std::iter::once(host).chain(parts).collect()
    }

    /// Who must hold the same: the members of each domain, and all that keep a published log.
    pub(crate) fn domain_parties(&self) -> Vec<Vec<usize>> {
        let federation = &self.federation;
        let mut parties = Vec::new();
        for domain in 0..federation.domains.len() {
            parties.push(federation.hosts_of(domain));
            parties.push((0..self.hosts()).map(|host| federation.part(domain, host)).collect());
        }
        for party in &mut parties {
            party.retain(|m| self.machines[*m].enrolled && !self.is_hostile(*m));
        }
        parties.retain(|party: &Vec<usize>| !party.is_empty());
        parties
    }

    /// Every machine fetches all artifacts.
    pub(crate) fn equip_parts(&mut self) {
        if !self.is_federated() {
            return;
        }
        let leaky = self.options.sabotage == Some(Sabotage::LeakKey);
        for machine in &mut self.machines {
            machine.policy = Some(ArtifactPolicy::All);
            machine.leaky = leaky && machine.log == Log::Published;
        }
    }

    /// Plans what people do, and starts the machines.
    pub(crate) fn begin_domains(&mut self) -> Result<(), Finding> {
        for host in 0..self.hosts() {
            self.start(host)?;
        }
        for host in 0..self.hosts() {
            let founder = self.federation.founder(self.federation.homes[host]);
            if host != founder {
                let (by, node) = (self.machines[founder].node, self.machines[host].node);
                self.ledger.granted(by, node);
                let decision = Decision::Add { node, role: Role::Writer, invite: None };
                self.request(founder, Command::Decide(decision), Pending::Decide);
            }
        }
        for edge in 0..self.edges.len() {
            let at = self.rng.below(SECOND);
            self.at(at, Happening::Connect(edge));
        }
        self.plan_acts();
        self.plan_trouble();
        self.plan_data();
        self.plan_affairs();
        Ok(())
    }

    /// A machine has started: so do its parts in published logs, those that its domain said to keep while
    /// it did not look among them.
    pub(crate) fn start_parts(&mut self, machine: usize) -> Result<(), Finding> {
        if !self.is_federated() {
            return Ok(());
        }
        if self.machines[machine].host != machine {
            self.set_circle(machine);
            return Ok(());
        }
        for part in self.parts_of(machine).into_iter().skip(1) {
            self.start(part)?;
        }
        let Some(driver) = self.machines[machine].driver.as_mut() else { return Ok(()) };
        if driver.held().store().is_none() {
            return Ok(());
        }
        let follows = driver.catch_up().and_then(|state| Ok(state.current().follows()?));
        for domain in self.unless_stopped(machine, follows)?.unwrap_or_default() {
            self.keep_published(machine, domain)?;
        }
        Ok(())
    }

    /// The machines of the domain that a machine belongs to.
    pub(crate) fn circle_of(&self, host: usize) -> BTreeSet<NodeKey> {
        let dag = self.machines[host].driver.as_ref().and_then(|driver| driver.node().dag());
        let members = dag.map(|dag| dag.members()).unwrap_or_default();
        members.into_iter().map(|member| member.node).collect()
    }

    /// The machines that may write to the published logs which a published log lets in, as far as the
    /// machine keeps those.
    pub(crate) fn let_in(&self, part: usize) -> BTreeSet<NodeKey> {
        let dag = |part: usize| self.machines[part].driver.as_ref()?.node().dag();
        let domains = dag(part).map(|dag| dag.authority().access().domains().to_vec());
        let host = self.machines[part].host;
        let numbers = domains.into_iter().flatten().filter_map(|d| self.federation.number(&d));
        let kept = numbers.filter_map(|number| dag(self.federation.part(number, host)));
        kept.flat_map(|dag| dag.authority().members()).map(|member| member.node).collect()
    }

    /// Names those who may read a published log besides whom its events name by key, as the service does.
    fn set_circle(&mut self, part: usize) {
        let mut nodes = self.circle_of(self.machines[part].host);
        nodes.extend(self.let_in(part));
        if self.options.sabotage == Some(Sabotage::OpenDoor) {
            nodes.extend(self.machines.iter().map(|machine| machine.node));
            nodes.insert(crate::spy::stranger());
        }
        self.give(part, Input::Circle { nodes });
    }

    /// The same for all parts of a machine, after decisions about who is a member of what.
    pub(crate) fn refresh_circles(&mut self, machine: usize) {
        for part in self.parts_of(machine).into_iter().skip(1) {
            self.set_circle(part);
        }
    }

    /// A machine keeps a published log from now on, as its domain said.
    pub(crate) fn keep_published(&mut self, host: usize, domain: DomainId) -> Result<(), Finding> {
        let Some(number) = self.federation.number(&domain) else { return Ok(()) };
        let part = self.federation.part(number, host);
        let is_host = self.machines[host].host == host;
        if !is_host || self.machines[part].enrolled || self.machines[host].driver.is_none() {
            return Ok(());
        }
        if self.federation.founder(number) == host {
            let founded = self.found_published(host, part);
            if self.unless_stopped(host, founded)?.is_none() {
                return Ok(());
            }
        }
        self.machines[part].enrolled = true;
        self.start(part)?;
        for other in self.federation.hosts_of(self.federation.homes[host]) {
            let other = self.federation.part(number, other);
            self.join_parts(part, other);
        }
        Ok(())
    }

    /// The founder begins the published log with the root event that both logs have.
    fn found_published(&self, host: usize, part: usize) -> Result<(), DriverError> {
        let Some(driver) = &self.machines[host].driver else { return Ok(()) };
        let root = driver.held().event(Log::Internal, 0)?;
        let (on, options) = (&self.machines[part], self.machines[part].options());
        match SimDriver::found_published(on.disk.clone(), root, &on.key, options) {
            Err(DriverError::Store(StoreError::Exists)) => Ok(()),
            done => done,
        }
    }

    /// Two parts in a published log may link from now on.
    pub(crate) fn join_parts(&mut self, one: usize, other: usize) {
        let ends = [one.min(other), one.max(other)];
        if one != other && !self.edges.iter().any(|edge| edge.ends == ends) {
            self.add_edge(ends);
        }
    }

    /// Whether there is somebody to open a link, and somebody to answer.
    pub(crate) fn may_link(&self, ends: [usize; 2]) -> bool {
        let up = |machine: usize| self.machines[machine].driver.is_some();
        if self.machines[ends[0]].log == Log::Internal {
            return ends.iter().all(|end| up(*end));
        }
        ends.iter().any(|end| up(*end)) && ends.iter().all(|end| up(self.machines[*end].host))
    }

    /// Which part of a machine a frame is for: nothing if its link is gone. The first frame says what a
    /// link is about, as in production.
    pub(crate) fn routed(&mut self, machine: usize, link: LinkId, frame: &[u8]) -> Option<usize> {
        let host = self.machines[machine].host;
        let on = self.links.get_mut(&link)?;
        let side = on.ends.iter().position(|end| self.machines[*end].host == host)?;
        if on.fresh != Some(side) {
            return Some(on.ends[side]);
        }
        on.fresh = None;
        let (own, other) = (on.ends[side], on.ends[1 - side]);
        let named = quipu_node::service::hello_of(frame);
        let number = named.and_then(|domain| self.federation.number(&domain));
        let part = number.map(|number| self.federation.part(number, host));
        let Some(part) = part.filter(|part| self.machines[*part].driver.is_some()) else {
            return Some(own);
        };
        if let Some(on) = self.links.get_mut(&link) {
            on.ends[side] = part;
        }
        let reason = "it is about a published log".to_owned();
        self.give(own, Input::LinkDown { link, reason });
        self.set_circle(part);
        let peer = self.machines[other].node;
        self.give(part, Input::LinkUp { link, peer, role: LinkRole::Responder });
        Some(part)
    }

    /// In the end everybody may see what is published.
    pub(crate) fn open_doors(&mut self) {
        for domain in 0..self.federation.domains.len() {
            let part = self.federation.part(domain, self.federation.founder(domain));
            self.request(part, Command::Decide(Decision::Access(Access::Open)), Pending::Decide);
        }
    }
}
