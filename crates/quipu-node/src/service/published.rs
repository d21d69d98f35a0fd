//! Published logs on a machine: that of its own domain, and those of domains that it follows. Each has
//! a store, a driver, links and an address book of its own; they share the network, the clock and the
//! files of artifacts.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::mpsc::SyncSender;

use quipu_core::event::Log;
use quipu_core::history::History;
use quipu_core::id::{ArtifactId, DomainId, NodeKey};
use quipu_core::node::{Input, LinkId, Notice};
use quipu_core::sync::message::{Message as Said, Refusal};
use quipu_state::View;
use quipu_store::{RealDisk, Sealed, StoreError, StoreOptions};

use super::redial::Redial;
use super::{Linked, Machine, MachineDriver, Message, Peers, ServiceError, log_notice};
use crate::artifacts::ArtifactPolicy;
use crate::driver::{Driver, DriverError, Outcome};
use crate::home::{Book, Home};
use crate::service::{Dial, SystemClock};
use crate::shelf::Owner;

/// A published log on this machine.
pub(super) struct Replica {
    driver: MachineDriver,
    book: Book,
    book_changed: bool,
    redial: Redial,
}

impl Replica {
    pub(super) fn deadline(&self) -> Option<u64> {
        self.redial.next_ms().into_iter().chain(self.driver.deadline()).min()
    }

    /// What others are told that this machine holds of it.
    pub(super) fn standing(&mut self) -> [u8; 32] {
        self.driver.node_mut().standing()
    }

    pub(super) fn book(&self) -> &Book {
        &self.book
    }
}

impl Machine {
    /// Opens the published logs that are on the disk. One that cannot be opened is left out: the rest of
    /// the machine is not to blame.
    pub(super) fn open_published(&mut self) {
        for domain in self.home.published_domains() {
            if let Err(error) = self.open_replica(domain) {
                tracing::error!(%domain, %error, "a published log cannot be opened");
                self.broken.insert(domain, error.to_string());
            }
        }
    }

    fn open_replica(&mut self, domain: DomainId) -> Result<(), ServiceError> {
        let stopped = |error: &dyn std::fmt::Display| ServiceError::Stopped(error.to_string());
        let dir = self.home.published_dir(&domain);
        let disk = Arc::new(RealDisk::new(&dir).map_err(|error| stopped(&error))?);
        let key = self.home.key().map_err(|error| stopped(&error))?;
        let mut entropy = [0; 32];
        getrandom::fill(&mut entropy).map_err(|error| stopped(&error))?;
        let network = self.driver.links_mut().share();
        let (mut driver, _) = Driver::open(
            disk,
            (domain, Log::Published),
            key,
            entropy,
            SystemClock,
            network,
            StoreOptions::default(),
        )
        .map_err(|error| stopped(&error))?;
        if let Ok(shelf) = &self.artifacts {
            let owner = Owner { domain, visibility: Log::Published };
            driver.set_artifacts(Box::new(self.keeper(shelf, owner)));
        }
        let book = self.home.published_book(&domain);
        for (peer, met) in book.met() {
            driver.node_mut().recall(peer, met);
        }
        let replica = Replica { driver, book, book_changed: false, redial: Redial::default() };
        self.published.insert(domain, replica);
        self.refresh_circle(domain);
        if self.peers != Peers::None {
            self.fetch_published(domain);
        }
        if self.peers == Peers::Stay {
            self.stay_linked(domain);
        }
        Ok(())
    }

    /// Fetches what a published log tells of, by the machine's policy.
    fn fetch_published(&mut self, domain: DomainId) {
        let policy = self.home.artifact_policy();
        self.unfinished = true;
        let Some(replica) = self.published.get_mut(&domain) else { return };
        if let Err(error) = replica.driver.fetch_artifacts(policy) {
            self.drop_replica(domain, &error);
        }
    }

    /// Stays linked to those who may have a published log: where it was followed from, and the machines
    /// of this domain.
    fn stay_linked(&mut self, domain: DomainId) {
        let (own, now) = (self.driver.node().key(), self.now());
        let home = self.book.reachable();
        let Some(replica) = self.published.get_mut(&domain) else { return };
        replica.driver.node_mut().prepare();
        for (peer, _) in replica.book.reachable().into_iter().chain(home) {
            if peer != own {
                replica.redial.want(peer, now);
            }
        }
    }

    /// Names those who may read a published log besides whom its events name by key: the members of this
    /// domain, and those who may write to the published logs of the domains that it lets in.
    fn refresh_circle(&mut self, domain: DomainId) {
        let mut circle = self.members();
        let writers = |driver: &MachineDriver| -> Vec<NodeKey> {
            let members = driver.node().dag().map(|dag| dag.authority().members());
            members.into_iter().flatten().map(|member| member.node).collect()
        };
        let access = self.published.get(&domain).and_then(|replica| replica.driver.node().dag());
        let let_in = access.map(|dag| dag.authority().access().domains().to_vec());
        for other in let_in.into_iter().flatten() {
            let replica = self.published.get(&other);
            circle.extend(replica.into_iter().flat_map(|replica| writers(&replica.driver)));
        }
        // A failing disk is noticed at the end of the turn.
        let _told = self.give(Some(domain), Input::Circle { nodes: circle });
    }

    /// The same for all, after decisions about who is a member of what.
    pub(super) fn refresh_circles(&mut self) {
        self.unfinished |= !self.published.is_empty();
        self.published_domains().into_iter().for_each(|domain| self.refresh_circle(domain));
    }

    fn members(&self) -> BTreeSet<NodeKey> {
        let Some(dag) = self.driver.node().dag() else { return BTreeSet::new() };
        dag.authority().members().into_iter().map(|member| member.node).collect()
    }

    /// The domains whose published logs are kept here.
    pub fn published_domains(&self) -> Vec<DomainId> {
        self.published.keys().copied().collect()
    }

    /// Published logs that are on the disk and cannot be used, and why.
    pub fn broken_published(&self) -> &BTreeMap<DomainId, String> {
        &self.broken
    }

    /// Whether a domain's published log is kept here.
    pub fn keeps_published(&self, domain: &DomainId) -> bool {
        self.published.contains_key(domain)
    }

    /// Keeps a domain's published log from now on. This domain's own is begun here if this machine
    /// founded it; any other comes from peers.
    ///
    /// # Errors
    /// If the disk refuses.
    pub fn keep_published(&mut self, domain: DomainId) -> Result<(), ServiceError> {
        if self.published.contains_key(&domain) {
            return Ok(());
        }
        if let Some(error) = self.broken.get(&domain) {
            return Err(ServiceError::Stopped(error.clone()));
        }
        let stopped = |error: &dyn std::fmt::Display| ServiceError::Stopped(error.to_string());
        self.home.make_published_dir(&domain).map_err(|error| stopped(&error))?;
        let root = self.own_root(domain)?;
        if let Some(root) = root {
            let dir = self.home.published_dir(&domain);
            let disk = Arc::new(RealDisk::new(&dir).map_err(|error| stopped(&error))?);
            let key = self.home.key().map_err(|error| stopped(&error))?;
            match MachineDriver::found_published(disk, root, &key, StoreOptions::default()) {
                Ok(()) | Err(DriverError::Store(StoreError::Exists)) => {}
                Err(error) => return Err(stopped(&error)),
            }
        }
        self.open_replica(domain)
    }

    /// The root event, if the domain is this machine's own and was founded by it.
    fn own_root(&self, domain: DomainId) -> Result<Option<quipu_core::event::Event>, ServiceError> {
        let node = self.driver.node();
        let founder = node.dag().map(|dag| dag.authority().founder());
        if node.domain() != domain || founder != Some(node.key()) {
            return Ok(None);
        }
        Ok(Some(self.driver.held().event(Log::Internal, 0)?))
    }

    /// A member said that a published log is to be kept.
    pub(super) fn follow_soon(&mut self, domain: DomainId) {
        if let Err(error) = self.keep_published(domain) {
            tracing::error!(%domain, %error, "a published log cannot be kept");
        }
    }

    /// At a start: keeps what members said to keep while this machine did not look.
    pub(super) fn keep_following(&mut self) -> Result<(), DriverError> {
        if self.driver.held().store().is_none() {
            return Ok(());
        }
        let follows = self.driver.catch_up()?.current().follows()?;
        follows.into_iter().for_each(|domain| self.follow_soon(domain));
        Ok(())
    }

    /// Notes where a published log can be had.
    pub fn note_publisher(&mut self, domain: DomainId, peer: NodeKey, addrs: &[SocketAddr]) {
        let (stay, now) = (self.peers == Peers::Stay, self.now());
        if let Some(replica) = self.published.get_mut(&domain) {
            replica.book_changed |= replica.book.note_addrs(&peer, addrs);
            if stay {
                replica.redial.want(peer, now);
            }
        }
    }

    /// Where a published log can be had.
    pub fn publishers(&self, domain: &DomainId) -> Vec<(NodeKey, Vec<SocketAddr>)> {
        self.published.get(domain).map(|replica| replica.book.reachable()).unwrap_or_default()
    }

    pub(super) fn note_reached(&mut self, of: Option<DomainId>, peer: &NodeKey, addr: SocketAddr) {
        match of.and_then(|domain| self.published.get_mut(&domain)) {
            Some(replica) => replica.book_changed |= replica.book.note_addrs(peer, &[addr]),
            None => self.book_changed |= self.book.note_addrs(peer, &[addr]),
        }
    }

    pub(super) fn redial_of(&mut self, of: Option<DomainId>) -> Option<&mut Redial> {
        match of {
            None => Some(&mut self.redial),
            Some(domain) => Some(&mut self.published.get_mut(&domain)?.redial),
        }
    }

    /// The driver of a log.
    pub(super) fn driver_of(&mut self, of: Option<DomainId>) -> Option<&mut MachineDriver> {
        match of {
            None => Some(&mut self.driver),
            Some(domain) => Some(&mut self.published.get_mut(&domain)?.driver),
        }
    }

    /// Which log a frame is about. A peer's first frame says that; until then a link belongs to the
    /// internal log of this machine's own domain.
    pub(super) fn route(
        &mut self,
        link: LinkId,
        frame: &[u8],
    ) -> Result<Option<DomainId>, DriverError> {
        let Some(linked) = self.links.get_mut(&link) else { return Ok(None) };
        if !std::mem::take(&mut linked.fresh) {
            return Ok(linked.of);
        }
        let Linked { peer, .. } = *linked;
        let Some(domain) = hello_of(frame).filter(|domain| self.published.contains_key(domain))
        else {
            return Ok(None);
        };
        linked.of = Some(domain);
        self.driver.links_mut().is_about(link, domain);
        let reason = "it is about a published log".to_owned();
        self.driver.input(Input::LinkDown { link, reason })?;
        self.refresh_circle(domain);
        let role = quipu_core::node::LinkRole::Responder;
        self.give(Some(domain), Input::LinkUp { link, peer, role })?;
        Ok(Some(domain))
    }

    /// Gives an input to the driver of a log. What is wrong with a published log ends that, not the
    /// machine.
    pub(super) fn give(&mut self, of: Option<DomainId>, input: Input) -> Result<(), DriverError> {
        let Some(domain) = of else { return self.driver.input(input) };
        let Some(replica) = self.published.get_mut(&domain) else { return Ok(()) };
        if let Err(error) = replica.driver.input(input) {
            self.drop_replica(domain, &error);
        }
        Ok(())
    }

    fn drop_replica(&mut self, domain: DomainId, error: &DriverError) {
        tracing::error!(%domain, %error, "a published log is given up until the next start");
        self.broken.insert(domain, error.to_string());
        self.published.remove(&domain);
        let links: Vec<LinkId> = self.links_of(Some(domain)).map(|(link, _)| link).collect();
        for link in links {
            self.links.remove(&link);
            crate::driver::Links::close(self.driver.links_mut(), link, "the log is gone");
        }
    }

    fn links_of(&self, of: Option<DomainId>) -> impl Iterator<Item = (LinkId, NodeKey)> {
        self.links.iter().filter(move |(_, l)| l.of == of).map(|(link, l)| (*link, l.peer))
    }

    pub(super) fn published_on_time(&mut self, now: u64) {
        for domain in self.published_domains() {
            let linked = self.links_of(Some(domain)).map(|(_, peer)| peer).collect();
            let Some(replica) = self.published.get_mut(&domain) else { continue };
            let due = replica.redial.due(now, &linked);
            if replica.driver.deadline().is_some_and(|due| due <= now)
                && let Err(error) = replica.driver.input(Input::Tick)
            {
                self.drop_replica(domain, &error);
                continue;
            }
            for peer in due {
                self.dial(peer, Vec::new(), Dial::live(peer, Some(domain)));
            }
        }
    }

    /// Ends the turn of every published log.
    pub(super) fn finish_published(&mut self, sender: &SyncSender<Message>) {
        for domain in self.published_domains() {
            let Some(replica) = self.published.get_mut(&domain) else { continue };
            match replica.driver.finish_turn() {
                Ok(outcome) => self.dispatch_published(domain, outcome),
                Err(error) => {
                    self.drop_replica(domain, &error);
                    continue;
                }
            }
            let stays = self.peers == Peers::Stay;
            let Some(replica) = self.published.get_mut(&domain) else { continue };
            if let Some(job) = replica.driver.seal_job() {
                let sender = sender.clone();
                std::thread::spawn(move || {
                    drop(sender.send(Message::Sealed(Some(domain), job.run())));
                });
            }
            if stays && let Some(job) = replica.driver.compact_job() {
                let sender = sender.clone();
                std::thread::spawn(move || {
                    drop(sender.send(Message::Compacted(Some(domain), job.run())));
                });
            }
        }
    }

    pub(super) fn on_sealed(
        &mut self,
        of: Option<DomainId>,
        sealed: Result<Sealed, StoreError>,
    ) -> Result<(), DriverError> {
        let Some(domain) = of else { return self.driver.finish_seal(sealed?) };
        let Some(replica) = self.published.get_mut(&domain) else { return Ok(()) };
        let done = sealed.map_err(DriverError::from).and_then(|s| replica.driver.finish_seal(s));
        if let Err(error) = done {
            self.drop_replica(domain, &error);
        }
        Ok(())
    }

    fn dispatch_published(&mut self, domain: DomainId, outcome: Outcome) {
        for (request, reply) in outcome.replies {
            if let Some(answer) = self.answers.remove(&request) {
                drop(answer.send(reply.map_err(ServiceError::from)));
            }
        }
        for notice in outcome.notices {
            log_notice(&notice);
            if let Notice::PeerUp { peer, link, live: true } = &notice
                && let Some(addr) = self.callers.get(link)
                && let Some(replica) = self.published.get_mut(&domain)
            {
                replica.book_changed |= replica.book.note_addrs(peer, &[*addr]);
            }
            // Nothing is wrong with a machine that does not show the log.
            let unseen = matches!(&notice, Notice::PeerRefused { refusal: Refusal::NotShown, .. });
            if !unseen {
                self.remember(notice);
            }
        }
        if outcome.decided {
            self.refresh_circles();
        }
        let Some(replica) = self.published.get_mut(&domain) else { return };
        for (peer, met) in outcome.met {
            replica.book.note_met(&peer, &met);
            replica.book_changed = true;
        }
        if std::mem::take(&mut replica.book_changed)
            && let Err(error) = self.home.set_published_book(&domain, &replica.book)
        {
            tracing::warn!(%domain, %error, "the address book of a published log is not saved");
        }
    }

    /// Saves the states, for a fast start.
    pub(super) fn save_published(&mut self) {
        for (domain, replica) in &mut self.published {
            if let Err(error) = replica.driver.save_state() {
                tracing::warn!(%domain, %error, "the state of a published log is not saved");
            }
        }
    }

    /// Asks a question as if the published log of a domain were this machine's only one.
    ///
    /// Answers nothing if it is not kept here.
    pub fn focused<R>(
        &mut self,
        domain: &DomainId,
        question: impl FnOnce(&mut Machine) -> R,
    ) -> Option<R> {
        let mut replica = self.published.remove(domain)?;
        std::mem::swap(&mut self.driver, &mut replica.driver);
        self.focused = true;
        let answer = question(self);
        self.focused = false;
        std::mem::swap(&mut self.driver, &mut replica.driver);
        self.published.insert(*domain, replica);
        Some(answer)
    }

    /// The states of this machine's log and of the published logs of other domains, with their domains.
    ///
    /// # Errors
    /// If the disk is at fault.
    pub fn views(&mut self) -> Result<Vec<(DomainId, View<'_>)>, DriverError> {
        let own = self.driver.node().domain();
        self.driver.catch_up()?;
        let mut views = vec![(own, self.driver.state().current())];
        if !self.focused {
            for (domain, replica) in self.published.iter_mut().filter(|(domain, _)| **domain != own)
            {
                replica.driver.catch_up()?;
                views.push((*domain, replica.driver.state().current()));
            }
        }
        Ok(views)
    }

    /// Fetches an artifact of a published log from whoever is met next.
    pub fn want_published(&mut self, domain: DomainId, key: ArtifactId) {
        self.unfinished = true;
        if let Err(error) = self.give(Some(domain), Input::Want { key, missing: None }) {
            self.fail_all(&error.to_string());
        }
    }

    /// Gives up a published log of which nothing came.
    pub fn drop_published(&mut self, domain: &DomainId) {
        if self.published.remove(domain).is_some() {
            drop(std::fs::remove_dir_all(self.home.published_dir(domain)));
        }
    }

    /// Applies an artifact policy to all published logs.
    pub(super) fn follow_policy_published(&mut self, policy: ArtifactPolicy) {
        for domain in self.published_domains() {
            let Some(replica) = self.published.get_mut(&domain) else { continue };
            if let Err(error) = replica.driver.fetch_artifacts(policy) {
                self.drop_replica(domain, &error);
            }
        }
    }
}

/// The domain whose published log a first frame asks for.
pub fn hello_of(frame: &[u8]) -> Option<DomainId> {
    match Said::decode_frame(&bytes::Bytes::copy_from_slice(frame)) {
        Ok(Said::Hello { domain, log: Log::Published, .. }) => Some(domain),
        _ => None,
    }
}

impl Home {
    fn published_book(&self, domain: &DomainId) -> Book {
        self.book_in(&self.published_dir(domain))
    }
}
