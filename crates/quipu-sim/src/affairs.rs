//! What people do between domains: they publish, follow and import, and say who may read and write what is
//! published. All of it is drawn from a stream of its own.

use std::collections::{BTreeMap, BTreeSet};

use quipu_core::domain::{Access, Decision, Role};
use quipu_core::event::Log;
use quipu_core::history::History;
use quipu_core::id::{ArtifactId, EventId};
use quipu_core::node::Command;
use quipu_core::statement::{Claim, EdgeKey, EdgeRole, End, Statement};
use quipu_node::DriverError;
use quipu_node::publication::{self, Imports, Lineage, Public};
use quipu_node::shelf::Owner;
use quipu_state::{Artifact, Origin};

use crate::ledger::Pending;
use crate::machine::{Part, SimDriver};
use crate::people::Act;
use crate::plan::SECOND;
use crate::report::{Finding, Sabotage};
use crate::world::{Happening, World};

/// Something that people do between domains.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Affair {
    /// The founder of a domain begins its published log.
    Open(usize),
    /// Put an artifact.
    Put,
    /// Add an edge.
    Edge,
    /// Publish artifacts, perhaps with lineage.
    Publish,
    /// Follow another domain; this machine does, if one is named.
    Follow(Option<usize>),
    /// Import an artifact.
    Import,
    /// Make a member a publisher.
    Publisher,
    /// Say who may read what is published.
    Limit,
    /// A stranger asks for what is internal.
    Question,
    /// A member writes to the published log that may not.
    Forge(usize),
}

/// What is published and not recorded yet.
#[derive(Debug)]
pub(crate) struct Publication {
    keys: Vec<ArtifactId>,
    lineage: Lineage,
}

/// An artifact that is to be published.
#[derive(Debug)]
struct Item {
    claim: Claim,
    origin: Option<Origin>,
    recorded: bool,
}

/// What a domain could publish from a machine: what is visible, decided and here.
fn publishable(driver: &mut SimDriver) -> Result<Vec<Artifact>, DriverError> {
    let all = driver.catch_up()?.current().artifacts()?;
    let mut fit = Vec::new();
    for artifact in all.into_values() {
        let here = driver.held().artifact_size(&artifact.key)?.is_some();
        if here && artifact.is_visible() && !artifact.is_undecided() {
            fit.push(artifact);
        }
    }
    Ok(fit)
}

/// What the published log does not have yet. What it has is sealed.
fn news(driver: &mut SimDriver, items: &[Item]) -> Result<Vec<usize>, DriverError> {
    let view = driver.catch_up()?.current();
    let mut news = Vec::new();
    for (at, item) in items.iter().enumerate() {
        if view.artifact(&item.claim.key)?.and_then(|one| one.put_claim().cloned()).is_none() {
            news.push(at);
        }
    }
    Ok(news)
}

/// A published artifact and the first snapshot that has it.
fn pinned(
    driver: &mut SimDriver,
    key: &ArtifactId,
) -> Result<Option<(Claim, EventId)>, DriverError> {
    let artifact = driver.catch_up()?.current().artifact(key)?;
    let Some(claim) = artifact.as_ref().and_then(Artifact::put_claim).cloned() else {
        return Ok(None);
    };
    for snapshot in driver.state().snapshots().to_vec() {
        let known = driver.state_at(&snapshot.id)?.artifact(key)?;
        if known.is_some_and(|artifact| artifact.is_put()) {
            return Ok(Some((claim, snapshot.id)));
        }
    }
    Ok(None)
}

impl World {
    /// Plans what people do between domains.
    pub(crate) fn plan_affairs(&mut self) {
        let work = self.plan.domains;
        let end = self.plan.duration;
        let start = 2 * SECOND;
        for domain in 0..self.federation.domains.len() {
            let at = self.federation.rng.between(start, end / 4);
            self.at(at, Happening::Act(Act::Affair(Affair::Open(domain))));
            let hosts = self.federation.hosts_of(domain);
            let host = hosts[self.federation.rng.index(hosts.len())];
            let at = self.federation.rng.between(end / 4, end / 2);
            self.at(at, Happening::Act(Act::Affair(Affair::Follow(Some(host)))));
        }
        let counted = [
            (work.puts.low, Affair::Put, start),
            (work.edges.low, Affair::Edge, start),
            (work.publishes.low, Affair::Publish, end / 4),
            (work.follows.low, Affair::Follow(None), end / 4),
            (work.imports.low, Affair::Import, end / 2),
            (work.publishers.low, Affair::Publisher, end / 4),
            (work.limits.low, Affair::Limit, end / 4),
            (work.questions.low, Affair::Question, end / 4),
        ];
        for (count, affair, from) in counted {
            for _ in 0..count {
                let at = self.federation.rng.between(from, end);
                self.at(at, Happening::Act(Act::Affair(affair)));
            }
        }
        for host in (0..self.hosts()).filter(|host| self.is_hostile(*host)).collect::<Vec<_>>() {
            for _ in 0..work.forgeries.draw(&mut self.federation.rng) {
                let at = self.federation.rng.between(end / 4, end);
                self.at(at, Happening::Act(Act::Affair(Affair::Forge(host))));
            }
        }
    }

    /// Somebody does something. What needs a machine that is down is not done.
    pub(crate) fn affair(&mut self, affair: Affair) -> Result<(), Finding> {
        let hosts = self.hosts();
        let host = self.federation.rng.index(hosts);
        match affair {
            Affair::Open(domain) => self.open_published(domain),
            Affair::Put => self.put_at_home(host),
            Affair::Edge => self.edge_at_home(host),
            Affair::Publish => return self.publish(host),
            Affair::Follow(by) => self.follow(by.unwrap_or(host)),
            Affair::Import => return self.import(host),
            Affair::Publisher => self.add_publisher(host),
            Affair::Limit => self.limit(host),
            Affair::Question => return self.question_somebody(),
            Affair::Forge(host) => self.forge(host),
        }
        Ok(())
    }

    /// The founder of a domain begins its published log, and tells the members to keep it.
    fn open_published(&mut self, domain: usize) {
        let founder = self.federation.founder(domain);
        let part = self.federation.part(domain, founder);
        if self.machines[part].enrolled {
            return;
        }
        self.declare(founder, Statement::Follow(self.federation.domains[domain]));
        // The machine may be down, or stop before it answers.
        let again = Happening::Act(Act::Affair(Affair::Open(domain)));
        self.at(self.now + 5 * SECOND, again);
    }

    fn put_at_home(&mut self, host: usize) {
        let home = self.federation.homes[host];
        let federation = &mut self.federation;
        let foreign = federation.rng.index(federation.domains.len());
        let twin = federation.rng.permille(100).then(|| federation.contents[foreign].clone());
        let twin = twin.and_then(|known| federation.rng.pick(&known).copied());
        // Two domains may come to the same bytes, each by itself.
        let bytes = match twin.and_then(|key| federation.bytes.get(&key).cloned()) {
            Some(bytes) => bytes,
            None => {
                let size = federation.rng.between(64, self.plan.domains.bytes.low.max(64));
                let mut bytes = Vec::new();
                while (bytes.len() as u64) < size {
                    bytes.extend_from_slice(&federation.rng.bytes::<64>());
                }
                bytes.truncate(size as usize);
                bytes
            }
        };
        let key = ArtifactId::of(&bytes);
        federation.bytes.entry(key).or_insert_with(|| bytes.clone());
        if !federation.contents[home].contains(&key) {
            federation.contents[home].push(key);
        }
        let tag = federation.rng.permille(400).then(|| "text/plain".to_owned());
        self.put_bytes(host, &bytes, tag);
    }

    fn edge_at_home(&mut self, host: usize) {
        let home = self.federation.homes[host];
        let federation = &mut self.federation;
        let known = &federation.contents[home];
        let Some(from) = federation.rng.pick(known).copied() else { return };
        let Some(to) = federation.rng.pick(known).copied() else { return };
        let mut sources = vec![End::Artifact(from)];
        if federation.rng.permille(300) {
            sources.push(End::Node(self.machines[host].node));
        }
        let edge = EdgeKey::new(sources, vec![End::Artifact(to)], "derived").filter(|_| from != to);
        if let Some(edge) = edge {
            self.declare(host, Statement::Edge(edge, EdgeRole::Both));
        }
    }

    /// Whether a machine may write to a published log, as far as it knows.
    fn may_publish(&self, part: usize) -> bool {
        let machine = &self.machines[part];
        let dag = machine.driver.as_ref().and_then(|driver| driver.node().dag());
        dag.and_then(|dag| dag.authority().role(&machine.node)) >= Some(Role::Writer)
    }

    /// As `quipu publish` does it.
    fn publish(&mut self, host: usize) -> Result<(), Finding> {
        let home = self.federation.homes[host];
        let publishers: Vec<usize> = self
            .federation
            .hosts_of(home)
            .into_iter()
            .filter(|host| self.may_publish(self.federation.part(home, *host)))
            .filter(|host| !self.is_hostile(*host))
            .collect();
        let Some(host) = self.federation.rng.pick(&publishers).copied() else { return Ok(()) };
        let part = self.federation.part(home, host);
        let Some(driver) = self.machines[host].driver.as_mut() else { return Ok(()) };
        let fit = publishable(driver);
        let Some(mut fit) = self.unless_stopped(host, fit)? else { return Ok(()) };
        if self.federation.rng.permille(150) {
            let Some(seen) = self.seen_at_a_snapshot(host)? else { return Ok(()) };
            fit.retain(|artifact| seen.contains(&artifact.key));
        } else {
            self.federation.rng.shuffle(&mut fit);
            fit.truncate(1 + self.federation.rng.index(3));
        }
        let items: Vec<Item> = fit
            .iter()
            .filter_map(|artifact| {
                let claim = artifact.counts()?.clone();
                let recorded = artifact.published.is_some();
                Some(Item { claim, origin: artifact.origin(), recorded })
            })
            .collect();
        if items.is_empty() {
            return Ok(());
        }
        let with_lineage = self.federation.rng.permille(600);
        let drawn = self.publication_of(host, part, &items, with_lineage);
        let Some((statements, lineage)) = self.unless_stopped(host, drawn)? else { return Ok(()) };
        if !self.show_bytes(host, home, &statements) {
            self.give_up(host);
            return Ok(());
        }
        let unrecorded = items.iter().filter(|item| !item.recorded);
        let keys: Vec<ArtifactId> = unrecorded.map(|item| item.claim.key).collect();
        let publication = Publication { keys, lineage };
        if !statements.is_empty() {
            let pending = Pending::Publish(Box::new(publication));
            self.request(part, Command::Say(statements), pending);
        } else if !publication.keys.is_empty() {
            self.publish_further(part, publication);
        }
        Ok(())
    }

    /// What is visible at some snapshot of a domain: all of it is to be published.
    fn seen_at_a_snapshot(&mut self, host: usize) -> Result<Option<BTreeSet<ArtifactId>>, Finding> {
        let Some(driver) = self.machines[host].driver.as_mut() else { return Ok(None) };
        let snapshots = driver.catch_up().map(|state| state.snapshots().to_vec());
        let Some(snapshots) = self.unless_stopped(host, snapshots)? else { return Ok(None) };
        let snapshot = self.federation.rng.pick(&snapshots).map(|one| one.id);
        let driver = self.machines[host].driver.as_mut();
        let (Some(snapshot), Some(driver)) = (snapshot, driver) else { return Ok(None) };
        let all = driver.state_at(&snapshot).and_then(|view| Ok(view.artifacts()?));
        let all = self.unless_stopped(host, all)?;
        let visible = |all: BTreeMap<ArtifactId, Artifact>| {
            all.into_values().filter(Artifact::is_visible).map(|one| one.key).collect()
        };
        Ok(all.map(visible))
    }

    /// What the published log is told.
    fn publication_of(
        &mut self,
        host: usize,
        part: usize,
        items: &[Item],
        with_lineage: bool,
    ) -> Result<(Vec<Statement>, Lineage), DriverError> {
        let unblinded = self.options.sabotage == Some(Sabotage::LeakEdge);
        let count = self.federation.homes.len();
        let (hosts, parts) = self.machines.split_at_mut(count);
        let own = hosts[host].driver.as_mut();
        let public = parts[part - count].driver.as_mut();
        let (Some(own), Some(public)) = (own, public) else { return Ok(Default::default()) };
        let news = news(public, items)?;
        let members = public.node().dag().map(|dag| dag.members()).unwrap_or_default();
        let nodes: BTreeSet<_> = members.into_iter().map(|member| member.node).collect();
        own.catch_up()?;
        let (view, published) = (own.state().current(), public.state().current());
        let mut lineage = Lineage::default();
        if with_lineage {
            let keys: Vec<ArtifactId> = items.iter().map(|item| item.claim.key).collect();
            let edges = publication::edges_above(&view, &keys)?;
            let rng = &mut self.federation.rng;
            lineage = match unblinded {
                true => Lineage {
                    edges: edges.into_iter().map(|edge| (edge.key, edge.role)).collect(),
                    ..Lineage::default()
                },
                false => {
                    let told = publication::told_in(&published)?;
                    let may = Public::of(&view, &keys, &told, nodes)?;
                    publication::blind(&edges, &may, &mut |_| None, &mut || rng.bytes())
                }
            };
            lineage.leave_out_known(&published)?;
            self.federation.blinded += lineage.openings.len() as u64;
        }
        let mut imports: Imports = publication::imports_of(&view, &lineage.imports)?;
        publication::leave_out_known_imports(&mut imports, &published)?;
        let mut puts = Vec::new();
        for item in news.into_iter().map(|at| &items[at]) {
            puts.push(item.claim.clone());
            if let Some(origin) = item.origin {
                imports.insert(item.claim.key, (item.claim.clone(), origin));
            }
        }
        Ok((publication::statements(puts, imports, &lineage), lineage))
    }

    /// Bytes are the published log's before it tells of them. Answers whether the disk took that.
    fn show_bytes(&mut self, host: usize, home: usize, statements: &[Statement]) -> bool {
        let domain = self.federation.domains[home];
        let owner = Owner { domain, visibility: Log::Published };
        let Some(shelf) = self.machines[host].shelf.clone() else { return true };
        for statement in statements {
            if let Statement::Put(claim) = statement {
                self.federation.shown.entry(claim.key).or_insert(self.now);
                if shelf.give(&claim.key, owner).is_err() {
                    return false;
                }
            }
        }
        true
    }

    /// The published log was told: now a snapshot of it.
    pub(crate) fn publish_further(&mut self, part: usize, publication: Publication) {
        self.federation.publications.entry(part).or_default().push(publication);
        self.request(part, Command::Merge, Pending::Merge(0));
    }

    /// A snapshot was taken. If it was of a published log, the internal one remembers it.
    pub(crate) fn record_publications(&mut self, part: usize, snapshot: EventId) {
        let host = self.machines[part].host;
        for publication in self.federation.publications.remove(&part).unwrap_or_default() {
            let said = publication::records(&publication.keys, &publication.lineage, snapshot);
            if !said.is_empty() {
                self.request(host, Command::Say(said), Pending::Say);
            }
        }
    }

    /// As `quipu follow` does it: from a machine of that domain, or from one that follows it.
    fn follow(&mut self, host: usize) {
        let home = self.federation.homes[host];
        let others = (0..self.federation.domains.len()).filter(|domain| *domain != home);
        let others: Vec<usize> = others.collect();
        let Some(domain) = self.federation.rng.pick(&others).copied() else { return };
        let sources: Vec<usize> = (0..self.hosts())
            .filter(|other| self.federation.homes[*other] != home)
            .map(|other| self.federation.part(domain, other))
            .filter(|part| self.machines[*part].has_log())
            .filter(|part| self.machines[*part].part == Part::Honest)
            .collect();
        let Some(source) = self.federation.rng.pick(&sources).copied() else { return };
        if self.machines[host].driver.is_none() || self.is_hostile(host) {
            return;
        }
        let part = self.federation.part(domain, host);
        self.join_parts(part, source);
        let via = self.federation.homes[self.machines[source].host];
        if via != domain && !self.machines[part].enrolled {
            self.federation.relayed += 1;
        }
        // Some also link to a machine that lies: a member's, or a follower's.
        let liars: Vec<usize> = (0..self.hosts()).filter(|host| self.is_hostile(*host)).collect();
        if self.federation.rng.permille(400)
            && let Some(liar) = self.federation.rng.pick(&liars).copied()
        {
            self.join_parts(part, self.federation.part(domain, liar));
        }
        self.declare(host, Statement::Follow(self.federation.domains[domain]));
    }

    /// As `quipu import` does it.
    fn import(&mut self, host: usize) -> Result<(), Finding> {
        let home = self.federation.homes[host];
        let followed: Vec<usize> = (0..self.federation.domains.len())
            .filter(|domain| *domain != home)
            .map(|domain| self.federation.part(domain, host))
            .filter(|part| self.machines[*part].has_log())
            .collect();
        let Some(part) = self.federation.rng.pick(&followed).copied() else { return Ok(()) };
        let Some(driver) = self.machines[part].driver.as_mut() else { return Ok(()) };
        let all = driver.catch_up().and_then(|state| Ok(state.current().artifacts()?));
        let Some(all) = self.unless_stopped(part, all)? else { return Ok(()) };
        let put: Vec<ArtifactId> =
            all.into_values().filter(Artifact::is_put).map(|one| one.key).collect();
        let Some(key) = self.federation.rng.pick(&put).copied() else { return Ok(()) };
        let Some(driver) = self.machines[part].driver.as_mut() else { return Ok(()) };
        let found = pinned(driver, &key)
            .and_then(|pinned| Ok((pinned, driver.held().artifact_size(&key)?.is_some())));
        let Some((Some((claim, snapshot)), here)) = self.unless_stopped(part, found)? else {
            return Ok(());
        };
        if here && let Some(shelf) = self.machines[host].shelf.clone() {
            if shelf.give_home(&key).is_err() {
                self.give_up(host);
                return Ok(());
            }
            self.federation.imported.push((host, key, claim.size));
        }
        if !self.federation.contents[home].contains(&key) {
            self.federation.contents[home].push(key);
        }
        let domain = self.machines[part].domain;
        self.declare(host, Statement::Import { claim, domain, snapshot });
        Ok(())
    }

    fn add_publisher(&mut self, host: usize) {
        let home = self.federation.homes[host];
        let founder = self.federation.founder(home);
        if host == founder || self.is_hostile(host) {
            return;
        }
        let node = self.machines[host].node;
        let decision = Decision::Add { node, role: Role::Writer, invite: None };
        self.request(
            self.federation.part(home, founder),
            Command::Decide(decision),
            Pending::Decide,
        );
    }

    fn limit(&mut self, host: usize) {
        let home = self.federation.homes[host];
        let founder = self.federation.founder(home);
        let mut nodes = Vec::new();
        for other in 0..self.hosts() {
            if self.federation.homes[other] != home && self.federation.rng.permille(400) {
                nodes.push(self.machines[other].node);
            }
        }
        let mut domains = self.federation.domains.clone();
        domains.retain(|_| self.federation.rng.permille(200));
        let open = self.federation.rng.permille(300);
        let access = if open { Access::Open } else { Access::only(nodes, domains) };
        let part = self.federation.part(home, founder);
        self.request(part, Command::Decide(Decision::Access(access)), Pending::Decide);
    }

    /// A member that may not writes to the published log all the same, and pushes it to whoever is linked.
    fn forge(&mut self, host: usize) {
        let home = self.federation.homes[host];
        let part = self.federation.part(home, host);
        let links = self.links_of(part);
        let Some(event) = self.forgery(part) else { return };
        self.federation.forged.insert(event.id);
        let frame = crate::liar::events_frame(&[event]);
        self.say(part, &links, &frame);
        if self.options.sabotage == Some(Sabotage::LetIn) {
            let (founder, node) = (self.federation.founder(home), self.machines[host].node);
            let decision = Decision::Add { node, role: Role::Writer, invite: None };
            let by = self.federation.part(home, founder);
            self.request(by, Command::Decide(decision), Pending::Decide);
        }
    }
}
