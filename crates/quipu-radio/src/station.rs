//! What a machine does about its neighbours on the air: hears them, links to those that differ, and moves
//! frames.
//!
//! *Invariant*: the output is a function of the inputs. *Boundary*: no IO, no clock; randomness comes as a
//! seed. It decides nothing about events: who is let in is for the core to say.

mod guests;
mod report;
mod traffic;
mod turns;

pub use traffic::{air_bytes, purpose};

use std::collections::{BTreeMap, BTreeSet};

use ed25519_dalek::SigningKey;
use quipu_core::id::{DomainId, NodeKey};
use quipu_core::node::LinkId;
use quipu_helper::limits::VERSION;
use quipu_helper::{Address, FromHelper, LinkName, ToHelper};
use quipu_node::service::NetEvent;

use crate::airtime::Meters;
use crate::association::{Association, Carrier};
use crate::beacon::{Beacon, PUBLISHED_MAX, Tag, domain_tag, node_tag, published_tag};
use crate::greeting::{Greeting, Side, is_greeting};
use crate::limits::*;
use crate::neighbours::{Digest, Held, LogTag, Neighbours, Reception, Standing};
use crate::stream::Medium;

/// What the station calls its identity and its destination. Guests use others.
pub(crate) const OWN: u32 = 0;
/// The name of the destination of every machine.
const APP: &str = "quipu";
/// The rest of that name.
const ASPECTS: [&str; 1] = ["sync"];
/// Longest time without anything to do, in milliseconds.
const IDLE_MS: u64 = 60_000;

/// Who this machine is on the air.
#[derive(Debug)]
pub struct Settings {
    /// Its node key.
    pub key: SigningKey,
    /// Its domain.
    pub domain: DomainId,
    /// Its identity in the network of the helper.
    pub identity: [u8; 64],
    /// The part of each hour that an interface may send, in parts of [`WHOLE`](crate::airtime::WHOLE).
    pub share: Option<u32>,
    /// For names that nobody else draws.
    pub seed: [u8; 32],
}

/// What happens to a station.
#[derive(Debug)]
pub enum Input {
    /// A helper runs and can hear.
    HelperUp,
    /// It does not run any more.
    HelperGone {
        /// Why.
        reason: String,
    },
    /// It says something.
    Helper(FromHelper),
    /// What this machine has has changed.
    Standing {
        /// Digest of its log.
        digest: [u8; 32],
        /// Digests of the published logs that it keeps.
        published: BTreeMap<DomainId, [u8; 32]>,
    },
    /// A link turned out to be about the published log of a domain.
    About {
        /// Which link.
        link: LinkId,
        /// Which domain.
        domain: DomainId,
    },
    /// The driver wants a link.
    Connect {
        /// What it calls the request.
        request: u64,
        /// To whom.
        peer: NodeKey,
    },
    /// The driver wants a link, by wire. There is no wire.
    NoWire {
        /// What it calls the request.
        request: u64,
    },
    /// Whether a machine is reached by wire: then it is left alone here.
    Wired {
        /// Which.
        peer: NodeKey,
        /// Whether it is now.
        wired: bool,
    },
    /// The driver sends a frame.
    Send {
        /// Over which link.
        link: LinkId,
        /// The frame.
        frame: Vec<u8>,
    },
    /// The driver ends a link.
    Close {
        /// Which.
        link: LinkId,
        /// Why.
        reason: String,
    },
    /// A guest has this for the helper, in the numbers of all.
    Guest(ToHelper),
    /// Time has passed.
    Tick,
}

/// What a station wants done.
#[derive(Debug)]
pub enum Output {
    /// The helper is to be told this.
    Say(ToHelper),
    /// The driver is to be told this.
    Net(NetEvent),
    /// The guest whose message it answers is to be told this, as if the helper had said it.
    Guest(FromHelper),
}

/// The state of a machine on the air.
#[derive(Debug)]
pub struct Station {
    settings: Settings,
    node: NodeKey,
    helper: Option<String>,
    /// Where this machine is, once the helper has said.
    address: Option<Address>,
    standing: Option<Standing>,
    epoch: u64,
    announce_at: Option<u64>,
    announced_at: Option<u64>,
    look_at: u64,
    meters: Meters,
    guests: guests::Guests,
    neighbours: Neighbours,
    associations: BTreeMap<LinkId, Association>,
    /// Links that others opened and over which no greeting came yet, and since when.
    arrivals: BTreeMap<LinkName, (Medium, u64)>,
    /// Links that the driver waits for with machines that were not heard yet, by request, and how long it does.
    awaited: BTreeMap<u64, (NodeKey, u64)>,
    /// Machines that are reached by wire.
    wired: BTreeSet<Tag>,
    requests: u64,
    links: u64,
    announces: u64,
    /// Lots drawn so far.
    lots: u64,
    /// Where machines take turns, no link is opened before.
    turn_at: u64,
    /// Links opened there since the last one that came about.
    in_vain: u32,
    trouble: Option<String>,
}

impl Station {
    /// A machine that nobody has heard yet. Epochs count from a time, so that a machine that starts anew
    /// counts on.
    pub fn new(settings: Settings, now: u64) -> Self {
        let node = NodeKey(settings.key.verifying_key().to_bytes());
        let meters = Meters::new(settings.share);
        Self {
            settings,
            node,
            helper: None,
            address: None,
            standing: None,
            epoch: now / 1_000,
            announce_at: None,
            announced_at: None,
            look_at: now,
            meters,
            guests: guests::Guests::default(),
            neighbours: Neighbours::default(),
            associations: BTreeMap::new(),
            arrivals: BTreeMap::new(),
            awaited: BTreeMap::new(),
            wired: BTreeSet::new(),
            requests: 0,
            links: LINKS_FROM,
            announces: 0,
            lots: 0,
            turn_at: 0,
            in_vain: 0,
            trouble: None,
        }
    }

    /// Takes an input. What is to be done is appended.
    pub fn handle(&mut self, now: u64, input: Input, out: &mut Vec<Output>) {
        match input {
            Input::HelperUp => self.introduce(out),
            Input::HelperGone { reason } => self.on_helper_gone(now, reason),
            Input::Helper(message) => self.on_helper(now, message, out),
            Input::Standing { digest, published } => self.on_standing(now, &digest, &published),
            Input::About { link, domain } => {
                if let Some(association) = self.associations.get_mut(&link) {
                    association.log = LogTag::Published(published_tag(&domain));
                }
            }
            Input::Connect { request, peer } => self.on_connect(now, request, peer, out),
            Input::NoWire { request } => {
                let reason = "there is no link by wire here".to_owned();
                out.push(Output::Net(NetEvent::ConnectFailed { request, reason }));
            }
            Input::Wired { peer, wired } => self.on_wired(now, &peer, wired, out),
            Input::Send { link, frame } => self.on_send(now, link, &frame, out),
            Input::Close { link, reason } => self.on_close(now, link, reason, out),
            Input::Guest(message) => self.guests.take(message, &self.meters, out),
            Input::Tick => {}
        }
        self.on_time(now, out);
    }

    /// The helper says something to a guest, which is none of the station's business, but tells where things leave.
    pub fn overhear(&mut self, message: &FromHelper) {
        self.guests.overhear(message);
    }

    /// When it is to get a [`Input::Tick`] at the latest.
    pub fn deadline(&self, now: u64) -> u64 {
        let helper = self.helper.is_some();
        let own = [self.announce_at.filter(|_| self.address.is_some()), Some(self.look_at)];
        let own = own.into_iter().flatten().filter(|_| helper);
        let limited = self.meters.next_change(now).filter(|_| self.waits_for_air());
        own.chain(self.associations.values().flat_map(Association::deadlines))
            .chain(self.neighbours.deadline().filter(|_| self.address.is_some()))
            .chain(limited)
            .chain(self.awaited.values().map(|(_, until)| *until))
            .filter(|at| *at > now)
            .min()
            .unwrap_or(now + IDLE_MS)
            .min(now + IDLE_MS)
    }

    fn waits_for_air(&self) -> bool {
        let waits = |association: &Association| association.stream.queued() > 0;
        self.guests.wait() || self.associations.values().any(waits)
    }

    fn introduce(&mut self, out: &mut Vec<Output>) {
        let name = format!("quipu {}", env!("CARGO_PKG_VERSION"));
        let aspects = ASPECTS.map(str::to_owned).to_vec();
        let private = self.settings.identity;
        for message in [
            ToHelper::Hello { version: VERSION, name },
            ToHelper::Identity { identity: OWN, private },
            ToHelper::Register { destination: OWN, identity: OWN, app: APP.to_owned(), aspects },
            ToHelper::Look {},
        ] {
            out.push(Output::Say(message));
        }
    }

    fn on_helper_gone(&mut self, now: u64, reason: String) {
        self.helper = None;
        self.trouble = Some(reason);
        self.meters.restart();
        self.guests.clear();
        self.arrivals.clear();
        for association in self.associations.values_mut() {
            association.suspend(now);
        }
    }

    fn on_helper(&mut self, now: u64, message: FromHelper, out: &mut Vec<Output>) {
        match message {
            FromHelper::Hello { name, .. } => {
                self.helper = Some(name);
                self.trouble = None;
                self.look_at = now + LOOK_MS;
            }
            FromHelper::Registered { destination: OWN, address } => {
                self.address = Some(address);
                self.announce_soon(now);
                self.consider(now);
            }
            FromHelper::Heard { address, data, hops, interface, rssi, snr, .. } => {
                self.on_heard(now, address, &data, Reception { hops, interface, rssi, snr });
            }
            FromHelper::Interfaces { interfaces } => {
                if self.meters.told(now, interfaces) {
                    // Somebody new may be listening, and who was lost may be there again.
                    self.announce_soon(now);
                    for association in self.associations.values_mut() {
                        association.reopen_at = association.reopen_at.map(|_| now);
                    }
                }
            }
            FromHelper::LinkUp { link, request, packet_max, resource_max, rtt_ms, .. } => {
                let usize = |n: u32| usize::try_from(n).unwrap_or(usize::MAX);
                let medium = Medium {
                    packet_max: usize(packet_max),
                    resource_max: usize(resource_max),
                    rtt_ms: u64::from(rtt_ms),
                    bitrate: None,
                };
                self.on_link_up(now, link, request, medium, out);
            }
            FromHelper::OpenFailed { request, reason } => {
                self.on_open_failed(now, request, &reason, out);
            }
            FromHelper::LinkDown { link, closed, reason } => {
                self.on_link_down(now, &link, closed, &reason, out);
            }
            FromHelper::Packet { link, data } => self.on_message(now, &link, &data, false, out),
            FromHelper::Resource { link, data } => self.on_message(now, &link, &data, true, out),
            FromHelper::Sent { link, number } => {
                self.with_stream(&link, |association, medium| {
                    association.stream.left(now, number, medium);
                });
            }
            FromHelper::Delivered { link, number } => {
                self.with_stream(&link, |association, _| {
                    association.stream.arrived(number);
                    association.moved_at = now;
                });
            }
            FromHelper::Failed { link, number, reason } => {
                tracing::debug!(number, reason, "not sent, or not arrived");
                self.with_stream(&link, |association, _| {
                    association.stream.failed(number);
                    association.pause_until = now + REOPEN_MS.0;
                });
            }
            FromHelper::Incoming { link, .. } => {
                self.with_stream(&link, |association, _| association.moved_at = now);
            }
            FromHelper::Error { about, reason } => {
                tracing::warn!(about, reason, "the link helper cannot do that");
                self.trouble = Some(format!("{about}: {reason}"));
            }
            FromHelper::Bye { reason } => self.trouble = Some(reason),
            FromHelper::Identity { .. }
            | FromHelper::Registered { .. }
            | FromHelper::LinkPeer { .. } => {}
        }
    }

    fn on_standing(
        &mut self,
        now: u64,
        digest: &[u8; 32],
        published: &BTreeMap<DomainId, [u8; 32]>,
    ) {
        let held = |digest: &[u8; 32], of: Option<DomainId>| {
            let mut first = [0; crate::beacon::DIGEST_BYTES];
            first.copy_from_slice(&digest[..crate::beacon::DIGEST_BYTES]);
            Held { digest: first, of }
        };
        let published = published.iter().map(|(domain, digest)| {
            (LogTag::Published(published_tag(domain)), held(digest, Some(*domain)))
        });
        let logs = published.chain([(LogTag::Own, held(digest, None))]).collect();
        if self.standing.as_ref().is_some_and(|standing| standing.logs == logs) {
            return;
        }
        let standing = Standing { domain: domain_tag(&self.settings.domain), logs };
        self.neighbours.compare(&standing);
        self.standing = Some(standing);
        self.announce_soon(now);
        self.consider(now);
    }

    fn on_heard(&mut self, now: u64, address: Address, data: &[u8], how: Reception) {
        let Some(beacon) = Beacon::decode(data) else { return };
        let own = beacon.node == node_tag(&self.node);
        let Some(standing) = &self.standing else { return };
        if own || !standing.concerns(&beacon) {
            return;
        }
        let new = self.neighbours.get(&address).is_none() || standing.is_lacked(&beacon);
        self.neighbours.heard(now, address, &beacon, how, standing);
        // Its greeting may have come before its first announce.
        let met = self.associations.values().find(|a| a.address == address && a.peer.is_some());
        if let Some(node) = met.and_then(|a| a.peer).filter(|node| node_tag(node) == beacon.node) {
            self.neighbours.proven(&address, node);
        }
        for association in self.associations.values_mut().filter(|a| a.address == address) {
            if let Some(medium) = association.ready().map(|carrier| carrier.medium) {
                association.stream.nudge(now, &medium);
            } else {
                association.reopen_at = association.reopen_at.map(|_| now);
            }
        }
        if new {
            // It may not have heard of this machine, and not be able to wait for long; least of all a newcomer.
            self.announce_soon(now);
        }
        self.consider(now);
    }

    fn consider(&mut self, now: u64) {
        let lot = self.turn_ms(None).map_or(0, |packet| self.lot(packet));
        if let (Some(here), Some(standing)) = (self.address, &self.standing) {
            let meters = &self.meters;
            let shared = |interface| meters.bitrate(interface).is_some_and(turns::is_shared);
            let wait = |interface| if shared(interface) { lot } else { 0 };
            self.neighbours.consider(now, &here, standing, wait);
        }
    }

    /// An announce when things have settled, and not too soon after the last one.
    fn announce_soon(&mut self, now: u64) {
        let bytes = usize::try_from(ANNOUNCE_OVERHEAD).unwrap_or(usize::MAX);
        let medium = Medium {
            packet_max: bytes,
            resource_max: 0,
            rtt_ms: 0,
            bitrate: self.meters.bitrate(None),
        };
        let apart = ANNOUNCE_MS_MIN.max(medium.air_ms(bytes) * ANNOUNCE_AIR_TIMES);
        let earliest = self.announced_at.map_or(0, |at| at + apart);
        let at = (now + ANNOUNCE_SETTLE_MS).max(earliest);
        self.announce_at = Some(self.announce_at.map_or(at, |planned| planned.min(at)));
    }

    fn announce(&mut self, now: u64, busy_s: u64, out: &mut Vec<Output>) {
        let Some(standing) = &self.standing else { return };
        let Some(digest) = standing.digest(LogTag::Own) else { return };
        let published = if busy_s > 0 { Vec::new() } else { self.told_published(standing) };
        let beacon = Beacon {
            domain: domain_tag(&self.settings.domain),
            node: node_tag(&self.node),
            digest,
            epoch: self.epoch + 1,
            published,
            busy_s,
        };
        let data = beacon.encode();
        let bytes = ANNOUNCE_OVERHEAD + data.len() as u64;
        if !self.meters.has_room(now, None, bytes, 0) {
            self.announce_at = Some(now + LOOK_MS);
            return;
        }
        self.meters.spend(now, None, bytes);
        self.epoch = beacon.epoch;
        self.announces += 1;
        self.announced_at = Some(now);
        self.announce_at = Some(now + ANNOUNCE_MS);
        out.push(Output::Say(ToHelper::Announce { destination: OWN, data }));
    }

    /// The published logs that the next beacon tells of: that of the own domain, and of the others some in turn.
    fn told_published(&self, standing: &Standing) -> Vec<(Tag, Digest)> {
        let mut own = Vec::new();
        let mut others = Vec::new();
        for (log, held) in &standing.logs {
            let LogTag::Published(tag) = log else { continue };
            let is_own = held.of == Some(self.settings.domain);
            if is_own { &mut own } else { &mut others }.push((*tag, held.digest));
        }
        if let Some(count) = u64::try_from(others.len()).ok().filter(|count| *count > 0) {
            let turn = usize::try_from(self.announces % count).unwrap_or_default();
            others.rotate_left(turn);
        }
        own.extend(others);
        own.truncate(PUBLISHED_MAX);
        own
    }

    /// Everything whose time has come.
    fn on_time(&mut self, now: u64, out: &mut Vec<Output>) {
        self.look_for_awaited(now, out);
        if self.helper.is_some() {
            if self.look_at <= now {
                self.look_at = now + LOOK_MS;
                out.push(Output::Say(ToHelper::Look {}));
            }
            if self.address.is_some() {
                if let Some(busy_s) = self.busy_now(now) {
                    self.announce(now, busy_s, out);
                }
                if self.announce_at.is_some_and(|at| at <= now) {
                    match self.announce_later(now) {
                        Some(later) => self.announce_at = Some(later),
                        None => self.announce(now, 0, out),
                    }
                }
                for (address, log) in self.neighbours.due(now) {
                    match self.turn_of(now, &address) {
                        Some(later) => self.neighbours.wait(&address, log, later),
                        None => self.meet(now, address, log),
                    }
                }
            }
        }
        let links: Vec<LinkId> = self.associations.keys().copied().collect();
        for link in links {
            self.tend(now, link, out);
        }
        self.guests.pump(now, &mut self.meters, out);
        let late: Vec<LinkName> = self
            .arrivals
            .iter()
            .filter(|(_, (_, since))| since + GREET_MS * u64::from(GREETINGS_MAX) <= now)
            .map(|(name, _)| name.clone())
            .collect();
        for link in late {
            self.arrivals.remove(&link);
            out.push(Output::Say(ToHelper::Close { link }));
        }
    }

    /// Links to a machine that differs in a log, unless there is a stream with it about that or it is reached by wire.
    fn meet(&mut self, now: u64, address: Address, log: LogTag) {
        let by_wire = self.neighbours.get(&address).is_some_and(|n| self.is_wired(&n.tag));
        let about = |a: &Association| a.address == address && a.log == log && a.closing.is_none();
        let busy = self.associations.values().any(about);
        if !by_wire && !busy && self.associations.len() < ASSOCIATIONS_MAX {
            self.open(now, address).log = log;
        }
    }

    fn open(&mut self, now: u64, address: Address) -> &mut Association {
        let link = self.next_link();
        let mut id = [0; 8];
        let mut hasher = blake3::Hasher::new_keyed(&self.settings.seed);
        hasher.update(&link.to_le_bytes()).update(&address).finalize_xof().fill(&mut id);
        self.associations
            .entry(link)
            .or_insert_with(|| Association::new(id, link, true, address, now))
    }

    fn next_link(&mut self) -> LinkId {
        self.links += 1;
        self.links
    }

    pub(super) fn is_wired(&self, node: &Tag) -> bool {
        self.wired.contains(node)
    }

    /// A machine is reached by wire now: what is open with it over the air ends, unless somebody asked for it. Or it is
    /// not any more: it may be worth a link.
    fn on_wired(&mut self, now: u64, peer: &NodeKey, wired: bool, out: &mut Vec<Output>) {
        if !wired {
            self.wired.remove(&node_tag(peer));
            self.consider(now);
            return;
        }
        self.wired.insert(node_tag(peer));
        let idle = |a: &&Association| a.peer == Some(*peer) && a.request.is_none();
        let idle: Vec<LinkId> = self.associations.values().filter(idle).map(|a| a.link).collect();
        for link in idle {
            self.end(now, link, "the machine is reached by wire", false, out);
        }
    }

    fn on_connect(&mut self, now: u64, request: u64, peer: NodeKey, out: &mut Vec<Output>) {
        let address = self.neighbours.find(&peer).filter(|_| self.helper.is_some());
        let Some(address) = address else {
            // It may announce itself soon.
            self.awaited.entry(request).or_insert((peer, now + AWAIT_MS));
            return;
        };
        self.awaited.remove(&request);
        if self.associations.len() >= ASSOCIATIONS_MAX {
            let reason = format!("{ASSOCIATIONS_MAX} streams are open over the air already");
            out.push(Output::Net(NetEvent::ConnectFailed { request, reason }));
            return;
        }
        let association = self.open(now, address);
        association.request = Some(request);
        association.expected = Some(peer);
    }

    /// Links to machines that were waited for and are heard now; gives up others.
    fn look_for_awaited(&mut self, now: u64, out: &mut Vec<Output>) {
        let awaited: Vec<(u64, NodeKey, u64)> =
            self.awaited.iter().map(|(request, (peer, until))| (*request, *peer, *until)).collect();
        for (request, peer, until) in awaited {
            self.on_connect(now, request, peer, out);
            if until <= now && self.awaited.remove(&request).is_some() {
                let reason = format!("it was not heard on the air in {} s", AWAIT_MS / 1_000);
                out.push(Output::Net(NetEvent::ConnectFailed { request, reason }));
            }
        }
    }
}

#[cfg(test)]
mod tests;
