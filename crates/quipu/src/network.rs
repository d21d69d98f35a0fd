//! The links of a machine: QUIC with the runtime that carries it, and links over the air.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use quipu_core::id::DomainId;
use quipu_link::FrameRecord;
use quipu_net::QuicTransport;
use quipu_node::api::{ApiError, ExitCode};
use quipu_node::home::Home;
use quipu_node::service::{Air, Mailbox, Network, Service};
use quipu_radio::{Both, Radio, Settings};

use crate::cli::AirArgs;

/// Names a file that gets every frame, in the clear, before it is sent and after it has arrived.
const FRAME_RECORD_VAR: &str = "QUIPU_FRAME_RECORD";

/// Which links a daemon offers.
#[derive(Debug)]
pub(crate) struct LinkOptions {
    /// Where to listen for QUIC; where it was the last time if empty.
    pub(crate) listen: Vec<SocketAddr>,
    /// Whether there is QUIC at all.
    pub(crate) quic: bool,
    /// Links over the air.
    pub(crate) air: Option<AirOptions>,
}

/// How to be on the air.
#[derive(Debug)]
pub(crate) struct AirOptions {
    /// Reticulum's configuration directory, if not the usual one.
    pub(crate) config: Option<PathBuf>,
    /// The most that an interface may send, in thousandths of a percent.
    pub(crate) share: Option<u32>,
}

impl AirOptions {
    /// What the user wants, if being on the air at all.
    pub(crate) fn of(args: AirArgs) -> Option<Self> {
        args.reticulum.map(|config| Self { config, share: args.airtime_percent })
    }
}

/// All links of a daemon.
#[derive(Debug)]
pub(crate) struct Carriers {
    pub(crate) quic: Option<Quic>,
    pub(crate) radio: Option<Radio>,
}

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

impl Carriers {
    /// The driver's side of all of them.
    pub(crate) fn network(&self) -> Box<dyn Network> {
        match (&self.quic, &self.radio) {
            (Some(quic), Some(radio)) => Box::new(Both::new(quic.network(), radio.network())),
            (Some(quic), None) => quic.network(),
            (None, Some(radio)) => radio.network(),
            (None, None) => Box::new(quipu_node::service::Offline),
        }
    }

    /// Where others reach this machine over QUIC.
    pub(crate) fn addrs(&self) -> Vec<SocketAddr> {
        self.quic.as_ref().map(Quic::addrs).unwrap_or_default()
    }

    /// What a machine's neighbours on the air are told, and what is known of them.
    pub(crate) fn air(&self) -> Option<Air> {
        let radio = self.radio.as_ref()?;
        let (standing, wired, report) = (radio.standing(), radio.wired(), radio.report());
        Some(Air::new(standing, wired, move || report.latest()))
    }

    /// Lets the machine tell its neighbours on the air what it holds.
    pub(crate) fn join(&self, service: &Service) -> Result<(), ApiError> {
        let Some(air) = self.air() else { return Ok(()) };
        Ok(service.handle().call(move |machine| machine.set_air(air))?)
    }

    /// Ends all links in good order.
    pub(crate) fn shutdown(self) {
        if let Some(radio) = self.radio {
            radio.shutdown();
        }
        if let Some(quic) = self.quic {
            quic.shutdown();
        }
    }
}

/// Goes on the air, with a helper.
pub(crate) fn radio(
    home: &Home,
    domain: DomainId,
    options: &AirOptions,
    mailbox: &Mailbox,
) -> Result<Radio, ApiError> {
    let program = quipu_radio::find().map_err(|error| {
        ApiError::new(ExitCode::NotFound, error.to_string()).hint(
            "build it with `cargo build --release -p quipu-reticulum`, or set QUIPU_RETICULUM",
        )
    })?;
    let mut identity = [0; 64];
    for half in identity.chunks_mut(32) {
        half.copy_from_slice(&crate::start::random_bytes()?);
    }
    let settings = Settings {
        key: home.key()?,
        domain,
        identity: home.reticulum_identity(identity)?,
        share: options.share,
        seed: crate::start::random_bytes()?,
    };
    let config = options.config.clone();
    let options = quipu_radio::Options { program, config, settings };
    Ok(Radio::start(options, mailbox.sink())?)
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
