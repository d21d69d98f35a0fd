//! The QUIC transport as the driver's network: neither knows the other.

mod record;

use std::net::SocketAddr;

use quipu_core::id::NodeKey;
use quipu_core::node::LinkId;
use quipu_net::{Commands, LinkEvent, QuicTransport, TransportError};
use quipu_node::Links;
use quipu_node::service::{Mailbox, NetEvent, Network};

pub use crate::record::FrameRecord;

/// Binds a transport that reports to a mailbox; see [`QuicTransport::bind`]. The record, if any, gets the
/// frames that arrive.
///
/// # Errors
/// If it cannot listen there.
pub fn bind(
    runtime: tokio::runtime::Handle,
    seed: [u8; 32],
    listen: Vec<SocketAddr>,
    accept: bool,
    mailbox: &Mailbox,
    record: Option<FrameRecord>,
) -> Result<QuicTransport, TransportError> {
    let sink = mailbox.sink();
    QuicTransport::bind(runtime, seed, listen, accept, move |event| {
        if let Some(record) = &record {
            note(record, &event);
        }
        sink(translate(event));
    })
}

/// The driver's side of a transport. The record, if any, gets the frames that leave.
pub fn network(transport: &QuicTransport, record: Option<FrameRecord>) -> Box<dyn Network> {
    Box::new(QuicLinks { commands: transport.commands(), record })
}

fn note(record: &FrameRecord, event: &LinkEvent) {
    match event {
        LinkEvent::Up { link, peer, .. } => record.up(*link, NodeKey(*peer)),
        LinkEvent::Frame { link, bytes } => record.frame(*link, "in", bytes),
        LinkEvent::Down { link, .. } => record.down(*link),
        LinkEvent::Writable { .. } | LinkEvent::ConnectFailed { .. } => {}
    }
}

fn translate(event: LinkEvent) -> NetEvent {
    match event {
        LinkEvent::Up { link, peer, request, remote_addr, .. } => {
            let (peer, addr) = (NodeKey(peer), remote_addr);
            NetEvent::Up { link, peer, request, addr, opened: None, pace: None }
        }
        LinkEvent::Frame { link, bytes } => NetEvent::Frame { link, bytes: bytes.into() },
        LinkEvent::Writable { link, written } => NetEvent::Writable { link, written },
        LinkEvent::Down { link, reason } => NetEvent::Down { link, reason },
        LinkEvent::ConnectFailed { request, reason } => NetEvent::ConnectFailed { request, reason },
    }
}

struct QuicLinks {
    commands: Commands,
    record: Option<FrameRecord>,
}

impl Links for QuicLinks {
    fn send(&mut self, link: LinkId, bytes: Vec<u8>) {
        if let Some(record) = &self.record {
            record.frame(link, "out", &bytes);
        }
        self.commands.send(link, bytes.into());
    }

    fn close(&mut self, link: LinkId, reason: &str) {
        self.commands.close(link, reason);
    }
}

impl Network for QuicLinks {
    fn connect(&mut self, request: u64, peer: NodeKey, addrs: Vec<SocketAddr>) {
        self.commands.connect(request, peer.0, addrs);
    }

    fn consumed(&mut self, link: LinkId, bytes: usize) {
        self.commands.consumed(link, bytes);
    }

    fn share(&self) -> Box<dyn Network> {
        Box::new(QuicLinks { commands: self.commands.clone(), record: self.record.clone() })
    }
}
