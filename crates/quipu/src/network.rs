//! A QUIC transport with the runtime that carries it.

use std::net::SocketAddr;
use std::path::Path;

use quipu_link::FrameRecord;
use quipu_net::QuicTransport;
use quipu_node::api::{ApiError, ExitCode};
use quipu_node::service::{Mailbox, Network};

/// Names a file that gets every frame, in the clear, before it is sent and after it has arrived.
const FRAME_RECORD_VAR: &str = "QUIPU_FRAME_RECORD";

/// A transport with the runtime that carries it.
#[derive(Debug)]
pub(crate) struct Quic {
    transport: QuicTransport,
    record: Option<FrameRecord>,
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
        let record = frame_record()?;
        let transport = quipu_link::bind(handle, seed, listen, accept, mailbox, record.clone())
            .map_err(|error| ApiError::new(ExitCode::Peer, format!("cannot listen: {error}")))?;
        Ok(Self { transport, record, _runtime: runtime })
    }

    /// Where others reach it.
    pub(crate) fn addrs(&self) -> Vec<SocketAddr> {
        self.transport.local_addrs()
    }

    /// The driver's side of it.
    pub(crate) fn network(&self) -> Box<dyn Network> {
        quipu_link::network(&self.transport, self.record.clone())
    }

    /// Ends all links in good order.
    pub(crate) fn shutdown(self) {
        self.transport.shutdown();
    }
}

/// The record of frames that the environment asks for.
fn frame_record() -> Result<Option<FrameRecord>, ApiError> {
    let Some(path) = std::env::var_os(FRAME_RECORD_VAR) else { return Ok(None) };
    let path = Path::new(&path);
    FrameRecord::append_to(path).map(Some).map_err(|error| {
        let path = path.display();
        ApiError::new(ExitCode::Storage, format!("{FRAME_RECORD_VAR}={path}: {error}"))
            .hint(format!("unset {FRAME_RECORD_VAR}"))
    })
}
