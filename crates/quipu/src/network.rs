//! A QUIC transport with the runtime that carries it.

use std::net::SocketAddr;

use quipu_net::QuicTransport;
use quipu_node::api::{ApiError, ExitCode};
use quipu_node::service::{Mailbox, Network};

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
        let handle = runtime.handle().clone();
        let transport = quipu_link::bind(handle, seed, listen, accept, mailbox)
            .map_err(|error| ApiError::new(ExitCode::Peer, format!("cannot listen: {error}")))?;
        Ok(Self { transport, _runtime: runtime })
    }

    /// Where others reach it.
    pub(crate) fn addrs(&self) -> Vec<SocketAddr> {
        self.transport.local_addrs()
    }

    /// The driver's side of it.
    pub(crate) fn network(&self) -> Box<dyn Network> {
        quipu_link::network(&self.transport)
    }

    /// Ends all links in good order.
    pub(crate) fn shutdown(self) {
        self.transport.shutdown();
    }
}
