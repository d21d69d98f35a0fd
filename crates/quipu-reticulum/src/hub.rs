//! The middle: one loop that hears the daemon and Reticulum, and speaks to both.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender};
use std::time::{Duration, Instant};

use quipu_helper::limits::{INTERFACES_MAX, RESOURCE_BYTES_MAX, TEXT_BYTES_MAX, VERSION};
use quipu_helper::{Address, FromHelper, Interface, ToHelper};
use rns_crypto::identity::Identity;
use rns_net::{
    AnnouncedIdentity, DestHash, Destination, IdentityHash, InterfaceId, ProofStrategy,
    QueryRequest, QueryResponse, RnsNode, SingleInterfaceStat, TeardownReason,
};

use crate::callbacks::Happening;
use crate::link::{Link, Outgoing};
use crate::say;

/// How long a path to a destination is looked for.
const PATH_WAIT: Duration = Duration::from_secs(20);
/// How often it is looked for in that time.
const PATH_LOOK: Duration = Duration::from_millis(100);
/// Reticulum's strategy to ask about each resource that somebody wants to send.
const ASK_ABOUT_RESOURCES: u8 = 2;
/// The plainest packet that every medium of Reticulum has room for: its MTU of 500 without what is
/// around it. Said if Reticulum does not know better.
const PACKET_BYTES_PLAIN: u32 = 431;

struct Own {
    destination: Destination,
    identity: u32,
}

struct Opening {
    address: Address,
    identity: Option<u32>,
    /// Where the destination was heard, once that is known.
    interface: Option<InterfaceId>,
}

/// The state of the helper.
pub(crate) struct Hub {
    node: Arc<RnsNode>,
    sender: Sender<Happening>,
    identities: BTreeMap<u32, Identity>,
    destinations: BTreeMap<u32, Own>,
    /// Requests whose destination's path is looked for.
    looking: BTreeMap<u64, Opening>,
    /// Links that were asked for and are not there yet.
    opening: BTreeMap<[u8; 16], (u64, Opening)>,
    links: BTreeMap<[u8; 16], Link>,
}

impl Hub {
    pub(crate) fn new(node: Arc<RnsNode>, sender: Sender<Happening>) -> Self {
        Self {
            node,
            sender,
            identities: BTreeMap::new(),
            destinations: BTreeMap::new(),
            looking: BTreeMap::new(),
            opening: BTreeMap::new(),
            links: BTreeMap::new(),
        }
    }

    /// Goes on until the daemon wants no more.
    pub(crate) fn run(mut self, happenings: &Receiver<Happening>) -> Result<(), String> {
        let ending = loop {
            match happenings.recv_timeout(Duration::from_secs(3600)) {
                Ok(Happening::Said(ToHelper::Bye {})) => break Ok(()),
                Ok(Happening::InputEnd { wrong }) => break wrong.map_or(Ok(()), Err),
                Ok(Happening::Said(message)) => {
                    if let Err(reason) = self.on_said(message) {
                        break Err(reason);
                    }
                }
                Ok(happening) => self.on_happening(happening),
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => break Ok(()),
            }
        };
        self.end();
        ending
    }

    /// Closes what is open, so that the other ends need not find out by themselves.
    fn end(self) {
        for id in self.links.keys() {
            drop(self.node.teardown_link(*id));
        }
        if let Ok(node) = Arc::try_unwrap(self.node) {
            node.shutdown();
        }
    }

    fn on_said(&mut self, message: ToHelper) -> Result<(), String> {
        match message {
            ToHelper::Hello { version, .. } if version != VERSION => {
                return Err(format!("the daemon speaks version {version}, this helper {VERSION}"));
            }
            ToHelper::Hello { .. } | ToHelper::Bye {} => {}
            ToHelper::Identity { identity, private } => self.take_identity(identity, &private),
            ToHelper::Register { destination, identity, app, aspects } => {
                self.register(destination, identity, &app, &aspects);
            }
            ToHelper::Announce { destination, data } => self.announce(destination, &data),
            ToHelper::Open { request, address, identity } => {
                self.look_for_path(request, Opening { address, identity, interface: None });
            }
            ToHelper::Packet { link, number, data } => {
                let node = self.node.clone();
                let sent = match self.link(&link) {
                    Some(known) => known.send_packet(&node, number, data),
                    None => Err("no such link".to_owned()),
                };
                if let Err(reason) = sent {
                    say(&FromHelper::Failed { link, number, reason });
                }
            }
            ToHelper::Resource { link, number, compress, data } => {
                let node = self.node.clone();
                let outgoing = Outgoing { number, compress, data };
                match self.link(&link) {
                    Some(known) => {
                        let failed = known.send_resource(&node, outgoing);
                        tell_failed(&link, failed);
                    }
                    None => {
                        let reason = "no such link".to_owned();
                        say(&FromHelper::Failed { link, number, reason });
                    }
                }
            }
            ToHelper::Close { link } => {
                if let Ok(id) = <[u8; 16]>::try_from(link.as_slice()) {
                    drop(self.node.teardown_link(id));
                    self.drop_link(id, true, "closed here");
                }
            }
            ToHelper::Look {} => self.look(),
        }
        Ok(())
    }

    fn on_happening(&mut self, happening: Happening) {
        match happening {
            Happening::Said(_) | Happening::InputEnd { .. } => {}
            Happening::Announced(announced) => self.on_announce(&announced),
            Happening::Established { link, to, rtt, opened_here } => {
                self.on_established(link, to, rtt, opened_here);
            }
            Happening::Closed { link, reason } => {
                let (closed, reason) = match reason {
                    Some(TeardownReason::Timeout) => (false, "the other end fell silent"),
                    Some(_) => (true, "closed at the other end"),
                    None => (false, "gone"),
                };
                self.drop_link(link, closed, reason);
            }
            Happening::Identified { link, identity, public } => {
                say(&FromHelper::LinkPeer { link: link.to_vec(), identity, public });
            }
            Happening::Packet { link, data } => {
                say(&FromHelper::Packet { link: link.to_vec(), data });
            }
            Happening::Resource { link, data } => on_resource(link, data),
            Happening::Incoming { link, done, total } => {
                say(&FromHelper::Incoming { link: link.to_vec(), done, total });
            }
            Happening::Left { link, number, error } => {
                let link = link.to_vec();
                say(&match error {
                    None => FromHelper::Sent { link, number },
                    Some(reason) => FromHelper::Failed { link, number, reason: cut(reason) },
                });
            }
            Happening::Arrived { link, transfer, error } => self.on_arrived(link, transfer, error),
            Happening::Path { request, known } => self.on_path(request, known),
            Happening::InterfaceUp => self.look(),
            Happening::InterfaceDown { interface } => {
                self.drop_links_over(interface);
                self.look();
            }
        }
    }

    fn link(&mut self, name: &[u8]) -> Option<&mut Link> {
        self.links.get_mut(&<[u8; 16]>::try_from(name).ok()?)
    }

    fn take_identity(&mut self, number: u32, private: &[u8; 64]) {
        let identity = Identity::from_private_key(private);
        let hash = *identity.hash();
        let Some(public) = identity.get_public_key() else {
            complain("identity", "it has no public half");
            return;
        };
        self.identities.insert(number, identity);
        say(&FromHelper::Identity { identity: number, hash, public });
    }

    fn register(&mut self, number: u32, identity: u32, app: &str, aspects: &[String]) {
        let Some(key) = self.identities.get(&identity) else {
            complain("register", "no such identity");
            return;
        };
        let aspects: Vec<&str> = aspects.iter().map(String::as_str).collect();
        let destination = Destination::single_in(app, &aspects, IdentityHash(*key.hash()))
            .set_proof_strategy(ProofStrategy::ProveAll);
        let address = destination.hash.0;
        let Some((private, public)) = key.get_private_key().zip(key.get_public_key()) else {
            complain("register", "the identity has no private half");
            return;
        };
        let (mut sign, mut verify) = ([0; 32], [0; 32]);
        sign.copy_from_slice(&private[32..]);
        verify.copy_from_slice(&public[32..]);
        let registered =
            self.node.register_destination_with_proof(&destination, Some(private)).and_then(|()| {
                let strategy = ASK_ABOUT_RESOURCES;
                self.node.register_link_destination(address, sign, verify, strategy)
            });
        if registered.is_err() {
            complain("register", "Reticulum has ended");
            return;
        }
        self.destinations.insert(number, Own { destination, identity });
        say(&FromHelper::Registered { destination: number, address });
    }

    fn announce(&self, number: u32, data: &[u8]) {
        let own = self.destinations.get(&number);
        let Some((own, identity)) =
            own.and_then(|own| Some((own, self.identities.get(&own.identity)?)))
        else {
            complain("announce", "no such destination");
            return;
        };
        if self.node.announce_queued(&own.destination, identity, Some(data)).is_err() {
            complain("announce", "Reticulum does not take it: too long, or it has ended");
        }
    }

    fn on_announce(&self, announced: &AnnouncedIdentity) {
        let identity = announced.identity_hash.0;
        let of_this = |own: &&Own| {
            let aspects: Vec<&str> = own.destination.aspects.iter().map(String::as_str).collect();
            let app = &own.destination.app_name;
            let hash = rns_core::destination::destination_hash(app, &aspects, Some(&identity));
            hash == announced.dest_hash.0
        };
        let Some((number, _)) = self.destinations.iter().find(|(_, own)| of_this(own)) else {
            return;
        };
        // In a shared instance one hears oneself.
        if self.destinations.values().any(|own| own.destination.hash == announced.dest_hash) {
            return;
        }
        let interface = u32::try_from(announced.receiving_interface.0).ok();
        say(&FromHelper::Heard {
            destination: *number,
            address: announced.dest_hash.0,
            identity,
            public: announced.public_key,
            data: announced.app_data.clone().unwrap_or_default(),
            hops: announced.hops,
            interface,
            rssi: announced.rssi.map(i32::from),
            snr: announced.snr.map(tenths),
        });
    }

    /// Linking needs a path, and the destination's key, which comes with it.
    fn look_for_path(&mut self, request: u64, opening: Opening) {
        let address = DestHash(opening.address);
        self.looking.insert(request, opening);
        let (node, hub) = (self.node.clone(), self.sender.clone());
        std::thread::spawn(move || {
            let known = await_path(&node, &address);
            drop(node);
            drop(hub.send(Happening::Path { request, known }));
        });
    }

    fn on_path(&mut self, request: u64, known: bool) {
        let Some(mut opening) = self.looking.remove(&request) else { return };
        let failed = |reason: &str| {
            say(&FromHelper::OpenFailed { request, reason: reason.to_owned() });
        };
        if !known {
            return failed("no path is known");
        }
        let announced = self.node.recall_identity(&DestHash(opening.address));
        let Ok(Some(announced)) = announced else { return failed("its key is not known") };
        if !self.is_up(announced.receiving_interface) {
            // Through another interface it may be heard sooner.
            drop(self.node.request_path(&DestHash(opening.address)));
            return failed("the interface where it was heard is down");
        }
        opening.interface = Some(announced.receiving_interface);
        let mut verify = [0; 32];
        verify.copy_from_slice(&announced.public_key[32..]);
        match self.node.create_link(opening.address, verify) {
            Ok(link) => {
                self.opening.insert(link, (request, opening));
            }
            Err(_) => failed("Reticulum does not open a link"),
        }
    }

    fn on_established(&mut self, id: [u8; 16], to: [u8; 16], rtt: f64, opened_here: bool) {
        let (mut request, mut destination, mut interface) = (None, None, None);
        if opened_here {
            let Some((asked, opening)) = self.opening.remove(&id) else {
                drop(self.node.teardown_link(id));
                return;
            };
            drop(self.node.set_resource_strategy(id, ASK_ABOUT_RESOURCES));
            let key = opening.identity.and_then(|identity| self.identities.get(&identity));
            if let Some(private) = key.and_then(Identity::get_private_key) {
                drop(self.node.identify_on_link(id, private));
            }
            (request, interface) = (Some(asked), opening.interface);
        } else {
            let mut destinations = self.destinations.iter();
            destination = destinations
                .find(|(_, own)| own.destination.hash.0 == to)
                .map(|(number, _)| *number);
        }
        self.links.insert(id, Link::new(id, interface, self.sender.clone()));
        say(&FromHelper::LinkUp {
            link: id.to_vec(),
            request,
            destination,
            packet_max: self.packet_max(id),
            resource_max: u32::try_from(RESOURCE_BYTES_MAX).unwrap_or(u32::MAX),
            rtt_ms: milliseconds(rtt),
        });
    }

    fn packet_max(&self, id: [u8; 16]) -> u32 {
        let link = self.node.query_link(id).ok().flatten();
        link.and_then(|link| u32::try_from(link.mdu).ok())
            .unwrap_or(PACKET_BYTES_PLAIN)
            // Also where the ends agreed on a larger MTU, `rns-net` writes packets of 500 bytes at most.
            .min(PACKET_BYTES_PLAIN)
    }

    fn on_arrived(
        &mut self,
        id: [u8; 16],
        transfer: rns_net::ResourceTransferId,
        error: Option<String>,
    ) {
        let node = self.node.clone();
        let Some(known) = self.links.get_mut(&id) else { return };
        let link = id.to_vec();
        log::debug!("transfer {transfer:?} is through: {error:?}");
        if let Some(number) = known.arrived(transfer) {
            let link = link.clone();
            say(&match error {
                None => FromHelper::Delivered { link, number },
                Some(reason) => FromHelper::Failed { link, number, reason: cut(reason) },
            });
        }
        tell_failed(&link, known.next_resource(&node));
    }

    fn drop_link(&mut self, id: [u8; 16], closed: bool, reason: &str) {
        let reason = reason.to_owned();
        if let Some((request, _)) = self.opening.remove(&id) {
            say(&FromHelper::OpenFailed { request, reason });
        } else if self.links.remove(&id).is_some() {
            say(&FromHelper::LinkDown { link: id.to_vec(), closed, reason });
        }
    }

    /// Ends the links that were opened here over an interface that is down. Reticulum itself would wait for their
    /// keepalives: minutes in which all that is sent is lost, also when the interface is up again. Who accepted a link
    /// hears from its opener.
    fn drop_links_over(&mut self, interface: InterfaceId) {
        let over =
            |(id, at): (&[u8; 16], Option<InterfaceId>)| (at == Some(interface)).then_some(*id);
        let open = self.links.iter().map(|(id, link)| (id, link.interface));
        let opening = self.opening.iter().map(|(id, (_, opening))| (id, opening.interface));
        let lost: Vec<[u8; 16]> = open.chain(opening).filter_map(over).collect();
        for id in lost {
            drop(self.node.teardown_link(id));
            self.drop_link(id, false, "the interface that it went over is down");
        }
    }

    /// Whether an interface works. Those of clients of a server are gone with the client.
    fn is_up(&self, interface: InterfaceId) -> bool {
        let known = self.interfaces().unwrap_or_default();
        known.iter().any(|stat| stat.id == interface.0 && stat.status)
    }

    fn interfaces(&self) -> Option<Vec<SingleInterfaceStat>> {
        match self.node.query(QueryRequest::InterfaceStats) {
            Ok(QueryResponse::InterfaceStats(stats)) => Some(stats.interfaces),
            _ => None,
        }
    }

    fn look(&self) {
        let Some(interfaces) = self.interfaces() else { return };
        let mut seen = BTreeSet::new();
        let interfaces = interfaces
            .into_iter()
            .filter_map(|stat| {
                let number = u32::try_from(stat.id).ok().filter(|number| seen.insert(*number))?;
                Some(Interface {
                    number,
                    name: cut(stat.name),
                    kind: cut(stat.interface_type),
                    up: stat.status,
                    mtu: stat.mtu,
                    bitrate: stat.bitrate,
                    sent_bytes: stat.txb,
                    received_bytes: stat.rxb,
                    ..Interface::default()
                })
            })
            .take(INTERFACES_MAX)
            .collect();
        say(&FromHelper::Interfaces { interfaces });
    }
}

/// A resource came. What was asked before it came is how long it is on the air: a liar's unfolds to more than the
/// daemon takes, which would end this helper for a message that breaks the protocol.
fn on_resource(link: [u8; 16], data: Vec<u8>) {
    log::debug!("a resource of {} bytes came", data.len());
    if data.len() <= RESOURCE_BYTES_MAX {
        say(&FromHelper::Resource { link: link.to_vec(), data });
    } else {
        log::warn!("a resource of {} bytes is passed over: too long", data.len());
    }
}

fn await_path(node: &RnsNode, address: &DestHash) -> bool {
    let until = Instant::now() + PATH_WAIT;
    let mut asked = false;
    loop {
        match node.has_path(address) {
            Ok(true) => return true,
            Ok(false) if Instant::now() < until => {
                if !std::mem::replace(&mut asked, true) {
                    drop(node.request_path(address));
                }
                std::thread::sleep(PATH_LOOK);
            }
            _ => return false,
        }
    }
}

fn tell_failed(link: &[u8], failed: Vec<crate::link::Failed>) {
    for crate::link::Failed(number) in failed {
        let reason = "Reticulum has ended".to_owned();
        say(&FromHelper::Failed { link: link.to_vec(), number, reason });
    }
}

fn complain(about: &str, reason: &str) {
    say(&FromHelper::Error { about: about.to_owned(), reason: reason.to_owned() });
}

/// What people are told is not longer than the format allows.
fn cut(mut text: String) -> String {
    text.truncate(text.floor_char_boundary(TEXT_BYTES_MAX));
    text
}

#[expect(clippy::cast_possible_truncation, reason = "casts of floats saturate")]
fn tenths(decibels: f32) -> i32 {
    (decibels * 10.0).round() as i32
}

#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "casts of floats saturate"
)]
fn milliseconds(seconds: f64) -> u32 {
    (seconds * 1000.0).round() as u32
}
