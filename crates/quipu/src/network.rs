//! The QUIC transport as the driver's network.

use std::net::SocketAddr;

use quipu_core::id::NodeKey;
use quipu_core::node::LinkId;
use quipu_net::{Commands, LinkEvent, QuicTransport};
use quipu_node::Links;
use quipu_node::api::{ApiError, ExitCode};
use quipu_node::service::{Mailbox, NetEvent, Network};

/// A transport with the runtime that carries it.
#[derive(Debug)]
pub(crate) struct Quic {
    transport: QuicTransport,
    /// Carries the transport; dropped after it.
    _runtime: tokio::runtime::Runtime,
}

impl Quic {
    /// Binds a transport that reports to a mailbox.
    pub(crate) fn bind(
        seed: [u8; 32],
        listen: Vec<SocketAddr>,
        accept: bool,
        mailbox: &Mailbox,
    ) -> Result<Self, ApiError> {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(2)
            .thread_name("quipu-net")
            .enable_all()
            .build()?;
        let sink = mailbox.sink();
        let handle = runtime.handle().clone();
        let report = move |event| sink(translate(event));
        let transport = QuicTransport::bind(handle, seed, listen, accept, report)
            .map_err(|error| ApiError::new(ExitCode::Peer, format!("cannot listen: {error}")))?;
        Ok(Self { transport, _runtime: runtime })
    }

    /// Where others reach it.
    pub(crate) fn addrs(&self) -> Vec<SocketAddr> {
        self.transport.local_addrs()
    }

    /// The driver's side of it.
    pub(crate) fn network(&self) -> Box<dyn Network> {
        Box::new(QuicLinks(self.transport.commands()))
    }

    /// Ends all links in good order.
    pub(crate) fn shutdown(self) {
        self.transport.shutdown();
    }
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
}
