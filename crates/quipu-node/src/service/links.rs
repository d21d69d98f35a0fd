//! Peers and links of a machine: who is dialled, what a link is about, what becomes of it.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::mpsc::Sender;

use quipu_core::id::{DomainId, NodeKey};
use quipu_core::node::{Input, LinkId, LinkRole};
use quipu_core::sync::message::InviteProof;

use super::published::Replica;
use super::{About, Answer, Machine, NetEvent, ServiceError};
use crate::driver::DriverError;
use crate::home::Book;

/// How long writes wait at start for a peer to tell about this machine's own newer events.
const RECOVERY_MS: u64 = 2_500;

/// A link.
#[derive(Debug, Clone, Copy)]
pub(super) struct Linked {
    pub(super) peer: NodeKey,
    /// The published log of this domain; else the internal log of this machine's own.
    pub(super) of: Option<DomainId>,
    /// Opened by the peer, and nothing came over it yet: its first frame says what it is about.
    pub(super) fresh: bool,
    /// By wire: then nothing need go over the air.
    pub(super) wired: bool,
}

pub(super) struct Dial {
    pub(super) peer: NodeKey,
    /// For the published log of this domain; else for the internal log of this machine's own.
    pub(super) of: Option<DomainId>,
    pub(super) live: bool,
    pub(super) invite: Option<InviteProof>,
    /// Take the latest snapshot's state only.
    pub(super) only_state: bool,
    /// Why it came to nothing by wire, once it is tried over the air.
    pub(super) not_by_wire: Option<String>,
    pub(super) answer: Option<Sender<Answer>>,
}

impl Dial {
    /// To stay linked.
    pub(super) fn live(peer: NodeKey, of: Option<DomainId>) -> Self {
        Self { live: true, ..Self::once(peer, of) }
    }

    /// For one exchange.
    pub(super) fn once(peer: NodeKey, of: Option<DomainId>) -> Self {
        let (live, only_state) = (false, false);
        Self { peer, of, live, invite: None, only_state, not_by_wire: None, answer: None }
    }
}

/// The address book of a published log.
fn dial_book(published: &BTreeMap<DomainId, Replica>, of: Option<DomainId>) -> Option<&Book> {
    published.get(&of?).map(Replica::book)
}

impl Machine {
    pub(super) fn on_net(&mut self, event: NetEvent) -> Result<(), DriverError> {
        match event {
            NetEvent::Up { link, peer, request, addr, opened, pace } => {
                let of = self.on_up(link, peer, request, addr, opened)?;
                pace.map_or(Ok(()), |pace| self.give(of, Input::Paced { link, pace }))
            }
            NetEvent::Frame { link, bytes } => {
                let length = bytes.len();
                let of = self.route(link, &bytes)?;
                self.give(of, Input::Frame { link, bytes })?;
                self.driver.links_mut().consumed(link, length);
                Ok(())
            }
            NetEvent::Writable { link, written } => {
                let of = self.links.get(&link).and_then(|linked| linked.of);
                self.give(of, Input::Writable { link, written })
            }
            NetEvent::Down { link, reason } => {
                tracing::debug!(link, reason, "link down");
                self.callers.remove(&link);
                let Some(Linked { peer, of, .. }) = self.links.remove(&link) else { return Ok(()) };
                self.tell_wired(peer);
                let now = self.now();
                if let Some(redial) = self.redial_of(of) {
                    redial.retry(&peer, Some(link), now);
                    redial.look_soon(&peer, now);
                }
                self.give(of, Input::LinkDown { link, reason })
            }
            NetEvent::ConnectFailed { request, reason } => {
                self.on_connect_failed(request, reason);
                Ok(())
            }
        }
    }

    fn on_up(
        &mut self,
        link: LinkId,
        peer: NodeKey,
        request: Option<u64>,
        addr: Option<SocketAddr>,
        opened: Option<About>,
    ) -> Result<Option<DomainId>, DriverError> {
        let dialled = request.and_then(|request| self.dials.remove(&request));
        let dial = dialled.or_else(|| {
            Some(match opened? {
                // Others turn a newcomer away: the machine that invited it is an admin's.
                About::Own => match self.first_heard.take_if(|(dial, _)| dial.peer == peer) {
                    Some((dial, _)) => dial,
                    None => Dial::live(peer, None),
                },
                About::Published(domain) => Dial::live(peer, Some(domain)),
            })
        });
        let of = dial.as_ref().and_then(|dial| dial.of);
        if let Some(domain) = of {
            self.driver.links_mut().is_about(link, domain);
        }
        let wired = addr.is_some();
        self.links.insert(link, Linked { peer, of, fresh: dial.is_none(), wired });
        self.tell_wired(peer);
        let role = match dial {
            Some(dial) => {
                if let Some(addr) = addr {
                    self.note_reached(of, &peer, addr);
                }
                let request = dial.answer.map(|answer| self.expect(answer));
                if dial.live
                    && let Some(redial) = self.redial_of(of)
                {
                    redial.linked(&peer, link);
                }
                let (live, only_state) = (dial.live, dial.only_state);
                LinkRole::Initiator { live, request, invite: dial.invite, only_state }
            }
            None => {
                self.callers.extend(addr.map(|addr| (link, addr)));
                LinkRole::Responder
            }
        };
        self.give(of, Input::LinkUp { link, peer, role })?;
        Ok(of)
    }

    /// Who waits for an answer is served over the air, if there is such a way. Peers to stay linked to are not dialled
    /// there: links are opened when they announce that they hold something else.
    fn on_connect_failed(&mut self, request: u64, reason: String) {
        let Some(mut dial) = self.dials.remove(&request) else { return };
        tracing::debug!(peer = %dial.peer, reason, "cannot connect");
        // A newcomer is not known yet to those who would have to open a link.
        if dial.answer.is_some()
            && dial.invite.is_none()
            && dial.not_by_wire.is_none()
            && self.driver.links_mut().connect_by_air(request, dial.peer)
        {
            dial.not_by_wire = Some(reason);
            self.dials.insert(request, dial);
            return;
        }
        let now = self.now();
        if let Some(redial) = self.redial_of(dial.of) {
            redial.retry(&dial.peer, None, now);
        }
        if let Some(answer) = dial.answer {
            let wire = dial.not_by_wire.map_or_else(String::new, |wire| format!("{wire}; "));
            let (peer, reason) = (dial.peer, format!("{wire}{reason}"));
            drop(answer.send(Err(ServiceError::Unreachable { peer, reason })));
        }
    }

    pub(super) fn dial(&mut self, peer: NodeKey, addrs: Vec<SocketAddr>, dial: Dial) {
        let request = self.next_request;
        self.next_request += 1;
        let of = dial.of;
        self.dials.insert(request, dial);
        let key = peer.to_string();
        let followed = dial_book(&self.published, of).and_then(|book| book.peers.get(&key));
        let known = self.book.peers.get(&key).into_iter().chain(followed);
        let mut all = addrs;
        all.extend(known.flat_map(|entry| entry.addrs.iter().copied()));
        all.sort_unstable();
        all.dedup();
        self.driver.links_mut().connect(request, peer, all);
    }

    /// Stays linked to all peers whose address is known.
    pub(super) fn want_known_peers(&mut self) {
        let own = self.driver.node().key();
        let now = self.now();
        for (peer, _) in self.book.reachable().into_iter().filter(|(peer, _)| *peer != own) {
            self.redial.want(peer, now);
        }
        if !self.redial.is_empty() {
            self.recovering_until = Some(now + RECOVERY_MS);
        }
    }
}
