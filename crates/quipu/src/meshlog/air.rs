//! The machine among nodes of meshlogd, over the link helper: what the helper says goes into the protocol of peers, and
//! what that wants goes to the helper (MESH-3). [`quipu_meshlog::peer`] decides; here are only addresses and links.

use std::collections::{BTreeMap, VecDeque};
use std::time::Instant;

use quipu_helper::{Address, FromHelper, LinkName, ToHelper};
use quipu_meshlog::identity::{Identity, PublicIdentity};
use quipu_meshlog::mesh::Mesh;
use quipu_meshlog::peer::{APP, ASPECT, Input, Output, PACKET_BYTES_MAX, PeerId, Peers, Timing};
use quipu_meshlog::text::Text;
use quipu_radio::{GuestEvent, Voice};

/// What this side calls its only identity and its only destination.
const OWN: u32 = 1;

/// The most nodes that are remembered.
const KNOWN_MAX: usize = 4_096;

/// The way to other nodes.
pub(super) struct Air {
    voice: Voice,
    begun: Instant,
    /// Whether a helper runs.
    up: bool,
    node: Option<Node>,
    blunders: Blunders,
}

/// What other nodes said that was no good, since the start.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Blunders {
    /// Events that were not taken. One counts each time it comes.
    pub(super) refused_events: u64,
    /// Messages that were none.
    pub(super) bad_messages: u64,
}

/// This machine as a node, once it has an identity.
struct Node {
    private: [u8; 64],
    peers: Peers,
    known: BTreeMap<PeerId, Known>,
    links: BTreeMap<LinkName, Link>,
    /// Links that are being opened, by request.
    opening: BTreeMap<u64, PeerId>,
    /// What is being sent, by number.
    sending: BTreeMap<u64, PeerId>,
    next_number: u64,
}

/// Who was heard or linked.
struct Known {
    identity: PublicIdentity,
    address: Option<Address>,
}

struct Link {
    /// Who is at the other end, once that is proven.
    peer: Option<PeerId>,
    /// Opened by this side.
    is_own: bool,
    packet_max: usize,
}

impl Air {
    pub(super) fn new(voice: Voice) -> Self {
        let (up, node, blunders) = (false, None, Blunders::default());
        Self { voice, begun: Instant::now(), up, node, blunders }
    }

    /// Peers that are linked, by their names in a mesh.
    pub(super) fn linked(&self) -> Vec<Text> {
        let peers = self.node.iter().flat_map(|node| node.peers.linked());
        peers.map(|peer| Text::from(peer.to_string().as_str())).collect()
    }

    /// What other nodes said that was no good.
    pub(super) const fn blunders(&self) -> Blunders {
        self.blunders
    }

    /// Takes part as this identity from now on.
    pub(super) fn appear(&mut self, identity: &Identity, private: [u8; 64]) {
        if self.node.is_some() {
            return;
        }
        self.node = Some(Node {
            private,
            peers: Peers::new(PeerId::from(identity.public()), Timing::default()),
            known: BTreeMap::new(),
            links: BTreeMap::new(),
            opening: BTreeMap::new(),
            sending: BTreeMap::new(),
            next_number: 0,
        });
        if self.up {
            self.register();
        }
    }

    fn register(&self) {
        let Some(node) = &self.node else { return };
        self.voice.say(ToHelper::Identity { identity: OWN, private: node.private });
        self.voice.say(ToHelper::Register {
            destination: OWN,
            identity: OWN,
            app: APP.to_owned(),
            aspects: vec![ASPECT.to_owned()],
        });
    }

    /// The helper says something.
    pub(super) fn hear(&mut self, event: GuestEvent, mesh: &mut Mesh) {
        match event {
            GuestEvent::HelperUp => {
                self.up = true;
                self.lose_all(mesh);
                self.register();
            }
            GuestEvent::HelperGone => {
                self.up = false;
                self.lose_all(mesh);
            }
            GuestEvent::Said(said) => self.heard(said, mesh),
        }
    }

    /// Time has passed, or the log has grown.
    pub(super) fn go_on(&mut self, mesh: &mut Mesh) {
        if self.up {
            self.give(Event::Tick, mesh);
        }
    }

    fn lose_all(&mut self, mesh: &mut Mesh) {
        let Some(node) = &mut self.node else { return };
        node.links.clear();
        node.sending.clear();
        let mut gone: Vec<PeerId> = std::mem::take(&mut node.opening).into_values().collect();
        gone.extend(node.peers.linked());
        for peer in gone {
            self.give(Event::Down(peer), mesh);
        }
    }

    fn heard(&mut self, said: FromHelper, mesh: &mut Mesh) {
        let Some(node) = &mut self.node else { return };
        let event = match said {
            FromHelper::Heard { address, public, data, .. } => {
                let Some(identity) = PublicIdentity::from_bytes(&public) else { return };
                let known = Known { identity: identity.clone(), address: Some(address) };
                node.know(PeerId::from(&identity), known);
                Event::Heard(identity, data)
            }
            FromHelper::LinkUp { link, request, packet_max, .. } => {
                let peer = request.and_then(|request| node.opening.remove(&request));
                let packet_max = usize::try_from(packet_max).unwrap_or(usize::MAX);
                let is_own = request.is_some();
                node.links.insert(link, Link { peer, is_own, packet_max });
                let Some(known) = peer.and_then(|peer| node.known.get(&peer)) else { return };
                Event::Up(known.identity.clone())
            }
            FromHelper::LinkPeer { link, public, .. } => {
                let Some(identity) = PublicIdentity::from_bytes(&public) else { return };
                let peer = PeerId::from(&identity);
                let Some(link) = node.links.get_mut(&link) else { return };
                link.peer = Some(peer);
                if !node.known.contains_key(&peer) {
                    node.know(peer, Known { identity: identity.clone(), address: None });
                }
                Event::Up(identity)
            }
            FromHelper::LinkDown { link, .. } => {
                let Some(peer) = node.links.remove(&link).and_then(|link| link.peer) else {
                    return;
                };
                if node.link_with(peer).is_some() {
                    return;
                }
                node.sending.retain(|_, to| *to != peer);
                Event::Down(peer)
            }
            FromHelper::OpenFailed { request, .. } => {
                let Some(peer) = node.opening.remove(&request) else { return };
                Event::Down(peer)
            }
            FromHelper::Packet { link, data } | FromHelper::Resource { link, data } => {
                let Some(peer) = node.links.get(&link).and_then(|link| link.peer) else { return };
                Event::Message(peer, data)
            }
            FromHelper::Sent { number, .. } | FromHelper::Delivered { number, .. } => {
                let Some(peer) = node.sending.remove(&number) else { return };
                Event::Sent(peer)
            }
            FromHelper::Failed { number, reason, .. } => {
                let Some(peer) = node.sending.remove(&number) else { return };
                tracing::debug!(%peer, reason, "a message to a node of a mesh was given up");
                Event::Failed(peer)
            }
            FromHelper::Error { about, reason } => {
                tracing::warn!(about, reason, "the link helper, for meshes of meshlogd");
                return;
            }
            FromHelper::Hello { .. }
            | FromHelper::Identity { .. }
            | FromHelper::Registered { .. }
            | FromHelper::Incoming { .. }
            | FromHelper::Interfaces { .. }
            | FromHelper::Bye { .. } => return,
        };
        self.give(event, mesh);
    }

    /// Gives an event to the protocol, and does what comes of it.
    fn give(&mut self, event: Event, mesh: &mut Mesh) {
        let now = u64::try_from(self.begun.elapsed().as_millis()).unwrap_or(u64::MAX);
        let Some(node) = &mut self.node else { return };
        let mut events = VecDeque::from([event]);
        while let Some(event) = events.pop_front() {
            for output in node.peers.handle(now, event.input(), &mut mesh.feeds()) {
                match output {
                    Output::Announce { app_data } => {
                        self.voice.say(ToHelper::Announce { destination: OWN, data: app_data });
                    }
                    Output::Open { peer } => match node.open(peer) {
                        Some(message) => self.voice.say(message),
                        None => events.push_back(Event::Down(peer)),
                    },
                    Output::Send { peer, bytes } => match node.send(peer, bytes) {
                        Some(message) => self.voice.say(message),
                        None => events.push_back(Event::Down(peer)),
                    },
                    Output::Malformed { peer, error } => {
                        self.blunders.bad_messages += 1;
                        tracing::debug!(%peer, %error, "a message of a mesh that is none");
                    }
                    Output::Refused { peer, reason } => {
                        self.blunders.refused_events += 1;
                        tracing::debug!(%peer, %reason, "an event of a mesh is refused");
                    }
                }
            }
        }
    }
}

impl Node {
    fn number(&mut self) -> u64 {
        // A guest's requests are numbered in 20 bits. So many are never open at once.
        self.next_number = (self.next_number + 1) % u64::from(quipu_radio::NUMBERS);
        self.next_number
    }

    /// Remembers somebody. Anybody can announce any number of names: if there are too many, one that is not linked
    /// is forgotten until it is heard again.
    fn know(&mut self, peer: PeerId, known: Known) {
        if self.known.len() >= KNOWN_MAX && !self.known.contains_key(&peer) {
            let linked = |peer: &&PeerId| self.link_with(**peer).is_some();
            let idle = self.known.keys().find(|peer| !linked(peer)).copied();
            idle.and_then(|peer| self.known.remove(&peer));
        }
        self.known.insert(peer, known);
    }

    /// A link with a peer, rather one that it opened: on ours, meshlogd may miss who we are if it hears that before it
    /// listens, and then drops everything that comes over it.
    fn link_with(&self, peer: PeerId) -> Option<(&LinkName, &Link)> {
        let linked = self.links.iter().filter(|(_, link)| link.peer == Some(peer));
        linked.min_by_key(|(_, link)| link.is_own)
    }

    fn open(&mut self, peer: PeerId) -> Option<ToHelper> {
        let address = self.known.get(&peer)?.address?;
        let request = self.number();
        self.opening.insert(request, peer);
        Some(ToHelper::Open { request, address, identity: Some(OWN) })
    }

    fn send(&mut self, peer: PeerId, data: Vec<u8>) -> Option<ToHelper> {
        let (link, packet_max) =
            self.link_with(peer).map(|(name, link)| (name.clone(), link.packet_max))?;
        let number = self.number();
        self.sending.insert(number, peer);
        Some(if data.len() <= PACKET_BYTES_MAX.min(packet_max) {
            ToHelper::Packet { link, number, data }
        } else {
            ToHelper::Resource { link, number, compress: true, data }
        })
    }
}

/// What the protocol is told.
enum Event {
    Heard(PublicIdentity, Vec<u8>),
    Up(PublicIdentity),
    Down(PeerId),
    Message(PeerId, Vec<u8>),
    Sent(PeerId),
    Failed(PeerId),
    Tick,
}

impl Event {
    fn input(&self) -> Input<'_> {
        match self {
            Self::Heard(identity, app_data) => Input::Heard { identity, app_data },
            Self::Up(identity) => Input::Up { identity },
            Self::Down(peer) => Input::Down { peer: *peer },
            Self::Message(peer, bytes) => Input::Message { peer: *peer, bytes },
            Self::Sent(peer) => Input::Sent { peer: *peer },
            Self::Failed(peer) => Input::Failed { peer: *peer },
            Self::Tick => Input::Tick,
        }
    }
}
