//! What nodes of meshlogd say to each other over Reticulum, as a state machine: what was heard goes in, what is to be
//! said comes out. It knows no Reticulum: a transport gives it identities and bytes.
//!
//! meshlogd's whole protocol: each node announces the destination `meshlog.sync` of its identity; who hears an announce
//! opens a link and identifies itself; every ten seconds each sends its frontier to all that it is linked
//! to, and who gets a frontier sends everything beyond it, in messages of 32 events. Whoever relays, relays
//! everything, so what a node has goes as far as links go.
//!
//! Towards such nodes this one behaves like one of them, but says less. It sends its frontier when it lacks
//! something or has not heard of a peer for long; asks one peer at a time; does not send again what is
//! under way; and where nothing comes of it (a fork, a refusal), it waits longer each time. Its announce is a
//! digest of 17 bytes, however many authors there are; that of meshlogd is its frontier, which
//! nobody reads, and which does not fit any more beyond eight authors.
//!
//! # For a transport
//! - The destination: [`APP`], [`ASPECT`], of the node's identity, single, proving all packets.
//! - Peers are identities, not links: a peer is up while any identified link with it is, whoever opened it, and what is
//!   to be sent goes over any of them. On a link that this side opened it identifies itself first, since
//!   meshlogd drops what comes from nobody.
//! - A message of up to [`PACKET_BYTES_MAX`] goes as a packet, a longer one as a resource.
//! - Each [`Output::Send`] is answered by one [`Input::Sent`] or [`Input::Failed`], unless the peer goes down.
//! - [`Input::Tick`] comes every second or so, and [`Input::Grown`] whenever the caller has put something into the log.

mod link;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use data_encoding::HEXLOWER;
use sha2::{Digest as _, Sha256};

use crate::event::MeshId;
use crate::identity::{HASH_BYTES, PublicIdentity};
use crate::json::{self, Style};
use crate::limits::{HEARD_MAX, LINKS_OPENED_MAX, MESSAGE_BYTES_MAX};
use crate::log::{Log, Taken};
use crate::message::{self, Message, MessageError};
use crate::policy::{Judge, Refusal};
use crate::text::Text;
use link::{Backoff, Link};

/// The first part of the destination's name.
pub const APP: &str = "meshlog";
/// The second part.
pub const ASPECT: &str = "sync";
/// The longest message that meshlogd sends as one packet.
pub const PACKET_BYTES_MAX: usize = 250;
/// Begins our announces: no JSON does.
const ANNOUNCE_MARK: u8 = 0xa1;

/// A peer: the hash of its identity.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PeerId(pub [u8; HASH_BYTES]);

impl fmt::Display for PeerId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&HEXLOWER.encode(&self.0))
    }
}

impl fmt::Debug for PeerId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl From<&PublicIdentity> for PeerId {
    fn from(identity: &PublicIdentity) -> Self {
        Self(identity.hash())
    }
}

/// How often what is said without need, in milliseconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Timing {
    /// Between announces while nothing changes.
    pub announce_ms: u64,
    /// Between announces at least, whatever changes.
    pub announce_min_ms: u64,
    /// A peer that told no frontier for so long is sent ours.
    pub gossip_ms: u64,
    /// How long an answer may take before anything is asked or sent again.
    pub patience_ms: u64,
    /// The longest that this grows to while nothing comes of it.
    pub patience_max_ms: u64,
}

impl Default for Timing {
    fn default() -> Self {
        Self {
            announce_ms: 600_000,
            announce_min_ms: 60_000,
            gossip_ms: 60_000,
            patience_ms: 15_000,
            patience_max_ms: 600_000,
        }
    }
}

/// What happened.
#[derive(Debug, Clone, Copy)]
pub enum Input<'a> {
    /// An announce of the destination was heard.
    Heard {
        /// Whose it is.
        identity: &'a PublicIdentity,
        /// What it says.
        app_data: &'a [u8],
    },
    /// There is a link with a peer now, and it has identified itself.
    Up {
        /// The peer.
        identity: &'a PublicIdentity,
    },
    /// There is none any more, or it could not be opened.
    Down {
        /// The peer.
        peer: PeerId,
    },
    /// A message has come.
    Message {
        /// From whom.
        peer: PeerId,
        /// The message.
        bytes: &'a [u8],
    },
    /// A message has left; whether it arrives is not known.
    Sent {
        /// To whom.
        peer: PeerId,
    },
    /// A message was given up before it left: there was no airtime for it, or no link any more.
    Failed {
        /// To whom.
        peer: PeerId,
    },
    /// The caller has put events into the log.
    Grown,
    /// Time has passed.
    Tick,
}

/// What is to be done.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Output {
    /// Announce the destination.
    Announce {
        /// What the announce says.
        app_data: Vec<u8>,
    },
    /// Open a link with a peer.
    Open {
        /// The peer.
        peer: PeerId,
    },
    /// Send a message.
    Send {
        /// To whom.
        peer: PeerId,
        /// The message.
        bytes: Vec<u8>,
    },
    /// Nothing to do: a message was no message. Its peer is at fault, and the link stays.
    Malformed {
        /// From whom.
        peer: PeerId,
        /// What is wrong with it.
        error: BadMessage,
    },
    /// Nothing to do: an event was not taken.
    Refused {
        /// From whom it came.
        peer: PeerId,
        /// Why.
        reason: Reason,
    },
}

/// Why a message is not read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum BadMessage {
    /// It is too long.
    #[error("a message of {bytes} bytes: more than {MESSAGE_BYTES_MAX} are not read")]
    TooLong {
        /// Its length.
        bytes: usize,
    },
    /// It is no message of meshlogd.
    #[error(transparent)]
    Message(#[from] MessageError),
}

/// Why an event of a peer is not taken.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Reason {
    /// The log does not take it.
    #[error(transparent)]
    Log(#[from] Refusal),
    /// It carries the name of a node of the domain, whose feed in the mesh follows from the domain alone.
    #[error(
        "event {id} of {author}: that is a node of this domain, which has not written it as far as is known here"
    )]
    Ours {
        /// The event.
        id: MeshId,
        /// Whose event it claims to be.
        author: Text,
    },
}

/// What the caller keeps.
#[derive(Debug)]
pub struct Feeds<'a> {
    /// The events. What comes from peers is at the end of [`Log::arrived`] afterwards.
    pub log: &'a mut Log,
    /// Whose events are taken. It learns keys from announces and links.
    pub judge: &'a mut Judge,
    /// Authors whose feeds the caller makes itself: nothing is taken for them from peers.
    pub ours: &'a BTreeSet<Text>,
}

/// A node among others.
#[derive(Debug)]
pub struct Peers {
    own: PeerId,
    timing: Timing,
    links: BTreeMap<PeerId, Link>,
    /// Peers that announced themselves and are not linked, each with when a link is worth another try.
    heard: BTreeMap<PeerId, Backoff>,
    /// Links that are being opened.
    opening: BTreeSet<PeerId>,
    /// Who was asked last, and until when nobody else is.
    asked: Option<(PeerId, u64)>,
    announced: Option<(u64, Vec<u8>)>,
}

/// What an announce says of a log: how far all feeds are, in 17 bytes.
pub fn announce_of(log: &Log) -> Vec<u8> {
    let lengths = log.offered_frontier();
    let hash = Sha256::digest(json::to_bytes(&lengths.into(), Style::Canonical));
    [&[ANNOUNCE_MARK], &hash[..HASH_BYTES]].concat()
}

impl Peers {
    /// A node that knows nobody yet.
    pub fn new(own: PeerId, timing: Timing) -> Self {
        let (links, heard, opening) = (BTreeMap::new(), BTreeMap::new(), BTreeSet::new());
        Self { own, timing, links, heard, opening, asked: None, announced: None }
    }

    /// Who is linked.
    pub fn linked(&self) -> impl Iterator<Item = PeerId> {
        self.links.keys().copied()
    }

    /// Takes an input at a time that never goes back, and says what is to be done, in order.
    pub fn handle(&mut self, now: u64, input: Input<'_>, feeds: &mut Feeds<'_>) -> Vec<Output> {
        let mut out = Vec::new();
        match input {
            Input::Heard { identity, app_data } => {
                self.on_heard(now, identity, app_data, feeds, &mut out);
            }
            Input::Up { identity } => self.on_up(now, identity, feeds, &mut out),
            Input::Down { peer } => self.on_down(now, peer),
            Input::Message { peer, bytes } => self.on_message(now, peer, bytes, feeds, &mut out),
            Input::Sent { peer } => {
                if let Some(link) = self.links.get_mut(&peer) {
                    link.on_sent(now);
                }
            }
            Input::Failed { peer } => {
                if let Some(link) = self.links.get_mut(&peer) {
                    link.on_failed(now, &self.timing);
                }
            }
            Input::Grown => {}
            Input::Tick => self.on_tick(now, feeds.log, &mut out),
        }
        self.ask(now, feeds, &mut out);
        self.push(now, feeds.log, &mut out);
        out
    }

    fn on_heard(
        &mut self,
        now: u64,
        identity: &PublicIdentity,
        app_data: &[u8],
        feeds: &mut Feeds<'_>,
        out: &mut Vec<Output>,
    ) {
        let peer = PeerId::from(identity);
        if peer == self.own {
            return;
        }
        feeds.judge.learn(identity.clone());
        // Who says that it has what we have needs no link.
        let is_level = app_data == announce_of(feeds.log);
        let busy = self.links.len() + self.opening.len() >= LINKS_OPENED_MAX;
        if is_level || busy || self.links.contains_key(&peer) || self.opening.contains(&peer) {
            return;
        }
        if !self.heard.contains_key(&peer) && self.heard.len() >= HEARD_MAX {
            // Whoever is worth a link announces itself again.
            self.heard.pop_first();
        }
        let backoff = self.heard.entry(peer).or_insert_with(|| Backoff::new(&self.timing));
        if backoff.is_due(now) {
            backoff.wait(now, &self.timing);
            self.opening.insert(peer);
            out.push(Output::Open { peer });
        }
    }

    fn on_up(
        &mut self,
        now: u64,
        identity: &PublicIdentity,
        feeds: &mut Feeds<'_>,
        out: &mut Vec<Output>,
    ) {
        let peer = PeerId::from(identity);
        feeds.judge.learn(identity.clone());
        self.opening.remove(&peer);
        self.heard.remove(&peer);
        if peer != self.own && !self.links.contains_key(&peer) {
            let mut link = Link::new(now, &self.timing);
            out.push(Output::Send { peer, bytes: link.tell(now, feeds.log) });
            self.links.insert(peer, link);
        }
    }

    fn on_down(&mut self, now: u64, peer: PeerId) {
        self.links.remove(&peer);
        self.opening.remove(&peer);
        if self.asked.is_some_and(|(asked, _)| asked == peer) {
            self.asked = None;
        }
        let backoff = self.heard.entry(peer).or_insert_with(|| Backoff::new(&self.timing));
        backoff.wait(now, &self.timing);
    }

    fn on_message(
        &mut self,
        now: u64,
        peer: PeerId,
        bytes: &[u8],
        feeds: &mut Feeds<'_>,
        out: &mut Vec<Output>,
    ) {
        let Some(link) = self.links.get_mut(&peer) else { return };
        let read = if bytes.len() > MESSAGE_BYTES_MAX {
            Err(BadMessage::TooLong { bytes: bytes.len() })
        } else {
            message::parse(bytes).map_err(BadMessage::from)
        };
        match read {
            Err(error) => out.push(Output::Malformed { peer, error }),
            Ok(Message::Frontier(lengths)) => link.on_frontier(now, lengths, &self.timing),
            Ok(Message::Events(events)) => {
                let events: Vec<_> = events.into_iter().flatten().collect();
                let places: Vec<(Text, u64)> =
                    events.iter().map(|event| (event.author.clone(), event.seq)).collect();
                let before = feeds.log.len();
                take(peer, events, feeds, out);
                places.iter().for_each(|(author, seq)| link.on_shown(author, *seq, feeds.log));
                if feeds.log.len() > before {
                    link.on_progress(now, &self.timing);
                    // Everything beyond our last frontier is under way: nobody need be asked yet.
                    if let Some((_, until)) = self.asked.as_mut().filter(|(who, _)| *who == peer) {
                        *until = now + self.timing.patience_ms;
                    }
                }
            }
        }
    }

    fn on_tick(&mut self, now: u64, log: &Log, out: &mut Vec<Output>) {
        let due = match &self.announced {
            None => true,
            Some((at, said)) => {
                let is_new = now >= at + self.timing.announce_min_ms && *said != announce_of(log);
                is_new || now >= at + self.timing.announce_ms
            }
        };
        if due {
            let app_data = announce_of(log);
            self.announced = Some((now, app_data.clone()));
            out.push(Output::Announce { app_data });
        }
        for (peer, link) in &mut self.links {
            // Not both at the same time.
            let later = if self.own < *peer { 0 } else { self.timing.gossip_ms / 4 };
            if link.is_silent(now, self.timing.gossip_ms + later) {
                out.push(Output::Send { peer: *peer, bytes: link.tell(now, log) });
            }
        }
    }

    /// Sends our frontier to one peer that has something we lack: it answers with all of that.
    fn ask(&mut self, now: u64, feeds: &Feeds<'_>, out: &mut Vec<Output>) {
        if self.asked.is_some_and(|(_, until)| now < until) {
            return;
        }
        self.asked = None;
        let due = |link: &Link| link.may_ask(now) && link.has_more(feeds.log, feeds.ours);
        let Some((peer, link)) = self.links.iter_mut().find(|(_, link)| due(link)) else { return };
        out.push(Output::Send { peer: *peer, bytes: link.ask(now, feeds.log, &self.timing) });
        self.asked = Some((*peer, now + self.timing.patience_ms));
    }

    /// Sends to every peer what it lacks, as far as it takes it.
    fn push(&mut self, now: u64, log: &Log, out: &mut Vec<Output>) {
        for (peer, link) in &mut self.links {
            while let Some(bytes) = link.next_events(now, log) {
                out.push(Output::Send { peer: *peer, bytes });
            }
        }
    }
}

/// Takes what the log agrees to. Events of our own authors are ours to make.
fn take(
    peer: PeerId,
    events: Vec<crate::event::Event>,
    feeds: &mut Feeds<'_>,
    out: &mut Vec<Output>,
) {
    let (ours, theirs): (Vec<_>, Vec<_>) =
        events.into_iter().partition(|event| feeds.ours.contains(&event.author));
    for event in ours {
        let held = feeds.log.at(&event.author, event.seq).map(|held| held.id());
        if held != Some(event.id()) {
            let (id, author) = (event.id(), event.author.clone());
            out.push(Output::Refused { peer, reason: Reason::Ours { id, author } });
        }
    }
    // A message may hold feeds in any order: what waits for a gap is kept by the log.
    for taken in feeds.log.take_all(theirs, feeds.judge) {
        match taken {
            Ok(Taken::Applied { .. } | Taken::Known | Taken::Waiting) => {}
            Err(refusal) => out.push(Output::Refused { peer, reason: refusal.into() }),
        }
    }
}
