//! The QUIC transport as the driver's network: neither knows the other.

use std::net::SocketAddr;

use quipu_core::id::NodeKey;
use quipu_core::node::LinkId;
use quipu_net::{Commands, LinkEvent, QuicTransport, TransportError};
use quipu_node::Links;
use quipu_node::service::{Mailbox, NetEvent, Network};

/// Binds a transport that reports to a mailbox; see [`QuicTransport::bind`].
///
/// # Errors
/// If it cannot listen there.
pub fn bind(
    runtime: tokio::runtime::Handle,
    seed: [u8; 32],
    listen: Vec<SocketAddr>,
    accept: bool,
    mailbox: &Mailbox,
) -> Result<QuicTransport, TransportError> {
    let sink = mailbox.sink();
    QuicTransport::bind(runtime, seed, listen, accept, move |event| sink(translate(event)))
}

/// The driver's side of a transport.
pub fn network(transport: &QuicTransport) -> Box<dyn Network> {
    Box::new(QuicLinks(transport.commands()))
}

fn translate(event: LinkEvent) -> NetEvent {
    match event {
        LinkEvent::Up { link, peer, request, remote_addr, .. } => {
            NetEvent::Up { link, peer: NodeKey(peer), request, addr: remote_addr }
        }
        LinkEvent::Frame { link, bytes } => NetEvent::Frame { link, bytes: bytes.into() },
        LinkEvent::Writable { link, written } => NetEvent::Writable { link, written },
        LinkEvent::Down { link, reason } => NetEvent::Down { link, reason },
        LinkEvent::ConnectFailed { request, reason } => NetEvent::ConnectFailed { request, reason },
    }
}

struct QuicLinks(Commands);

impl Links for QuicLinks {
    fn send(&mut self, link: LinkId, bytes: Vec<u8>) {
        self.0.send(link, bytes.into());
    }

    fn close(&mut self, link: LinkId, reason: &str) {
        self.0.close(link, reason);
    }
}

impl Network for QuicLinks {
    fn connect(&mut self, request: u64, peer: NodeKey, addrs: Vec<SocketAddr>) {
        self.0.connect(request, peer.0, addrs);
    }

    fn consumed(&mut self, link: LinkId, bytes: usize) {
        self.0.consumed(link, bytes);
    }

    fn share(&self) -> Box<dyn Network> {
        Box::new(QuicLinks(self.0.clone()))
    }
}
