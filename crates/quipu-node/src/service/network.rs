//! What a machine asks of a network, and what that tells.

use std::net::SocketAddr;

use quipu_core::id::{DomainId, NodeKey};
use quipu_core::node::LinkId;
use quipu_core::sync::session::Pace;

use crate::driver::Links;

/// Links that can also be opened from here.
pub trait Network: Links + Send {
    /// Dials a peer; answered by [`NetEvent::Up`] or [`NetEvent::ConnectFailed`].
    fn connect(&mut self, request: u64, peer: NodeKey, addrs: Vec<SocketAddr>);
    /// Dials a peer over the air, if that is a way; answered in the same way. Whether it is one.
    fn connect_by_air(&mut self, _request: u64, _peer: NodeKey) -> bool {
        false
    }
    /// Says that a frame was handled, so that the peer may send more.
    fn consumed(&mut self, link: LinkId, bytes: usize);
    /// Says that a link is about the published log of a domain.
    fn is_about(&mut self, _link: LinkId, _domain: DomainId) {}
    /// The same network, for another log of this machine.
    fn share(&self) -> Box<dyn Network>;
}

/// No network: for commands that need none.
#[derive(Debug, Clone, Copy, Default)]
pub struct Offline;

impl Links for Offline {
    fn send(&mut self, _link: LinkId, _bytes: Vec<u8>) {}
    fn close(&mut self, _link: LinkId, _reason: &str) {}
}

impl Network for Offline {
    fn connect(&mut self, _request: u64, _peer: NodeKey, _addrs: Vec<SocketAddr>) {}
    fn consumed(&mut self, _link: LinkId, _bytes: usize) {}
    fn share(&self) -> Box<dyn Network> {
        Box::new(Self)
    }
}

impl Links for Box<dyn Network> {
    fn send(&mut self, link: LinkId, bytes: Vec<u8>) {
        (**self).send(link, bytes);
    }
    fn close(&mut self, link: LinkId, reason: &str) {
        (**self).close(link, reason);
    }
}

/// The log for which a network opened a link by itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum About {
    /// The internal log of this machine's domain.
    Own,
    /// The published log of a domain.
    Published(DomainId),
}

/// What a network tells.
#[derive(Debug)]
pub enum NetEvent {
    /// A link is up.
    Up {
        /// Its number.
        link: LinkId,
        /// Who is there, proven.
        peer: NodeKey,
        /// The request it answers, if this side dialled.
        request: Option<u64>,
        /// Where the peer is.
        addr: Option<SocketAddr>,
        /// Whether the network opened it by itself, and for which log: then this side speaks first, as if it had dialled.
        opened: Option<About>,
        /// How fast it is, if it is slow.
        pace: Option<Pace>,
    },
    /// A frame came.
    Frame {
        /// The link.
        link: LinkId,
        /// The frame.
        bytes: Vec<u8>,
    },
    /// What was sent has mostly left.
    Writable {
        /// The link.
        link: LinkId,
        /// Bytes of all frames that were written on it so far.
        written: u64,
    },
    /// A link is gone.
    Down {
        /// The link.
        link: LinkId,
        /// Why.
        reason: String,
    },
    /// A request to connect came to nothing.
    ConnectFailed {
        /// The request.
        request: u64,
        /// Why.
        reason: String,
    },
}
