//! `quipu serve`.

use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener};
use std::path::PathBuf;
use std::sync::mpsc::{Sender, channel};
use std::time::Duration;

use quipu_core::id::DomainId;
use quipu_net::Ticket;
use quipu_node::api::{Api, ApiError, ExitCode, Request};
use quipu_node::home::Home;
use quipu_node::service::{Handle, Mailbox, Peers, Service};
use quipu_radio::Radio;
use quipu_run::{Capacity, Worker, Workplace};
use serde_json::{Value, json};

use crate::meshlog::{Door, Shown};
use crate::network::{Carriers, LinkOptions, Quic};
use crate::{network, output, socket, start};

/// How many machines may join with the ticket that the daemon prints.
const SERVE_TICKET_USES: u64 = 1_000;
/// How long that ticket is valid, in milliseconds.
const SERVE_TICKET_MS: u64 = 7 * 86_400_000;
/// How often a machine that runs what others ask for looks for it.
const LOOK: Duration = Duration::from_millis(300);
/// How often the daemon looks whether its loop ended by itself.
const WATCH: Duration = Duration::from_millis(200);

/// Where clients of meshlogd are served, besides the control socket, and what they see.
#[derive(Debug)]
pub(crate) struct Meshlog {
    pub(crate) unix: Vec<PathBuf>,
    pub(crate) tcp: Vec<String>,
    pub(crate) shown: Shown,
}

impl Meshlog {
    /// Listens everywhere. Gives where that is.
    fn listen(&self, door: &Door) -> Result<Vec<String>, ApiError> {
        let mut places = Vec::new();
        for path in &self.unix {
            door.listen_unix(socket::listen(path)?);
            places.push(path.display().to_string());
        }
        for text in &self.tcp {
            // As meshlogd does: without a host it is loopback.
            let place =
                if text.starts_with(':') { format!("127.0.0.1{text}") } else { text.clone() };
            let bound = TcpListener::bind(&place).and_then(|one| Ok((one.local_addr()?, one)));
            let (addr, listener) = bound.map_err(|error| {
                ApiError::new(ExitCode::Storage, format!("cannot listen on {place}: {error}"))
                    .hint("quipu serve --meshlog-tcp 127.0.0.1:8765")
            })?;
            door.listen_tcp(listener);
            places.push(addr.to_string());
        }
        if !places.is_empty() {
            door.open()?;
        }
        Ok(places)
    }

    fn remove_sockets(&self) {
        self.unix.iter().for_each(|path| drop(std::fs::remove_file(path)));
    }
}

/// Runs the daemon until it is told to stop.
pub(crate) fn serve(
    home: &Home,
    links: &LinkOptions,
    socket_path: Option<PathBuf>,
    meshlog: &Meshlog,
    work: Option<Capacity>,
    quiet: bool,
) -> Result<ExitCode, ApiError> {
    let path = socket_path.unwrap_or_else(|| home.socket());
    // The store before the socket: nobody may find a socket whose daemon then fails to start.
    socket::check_free(&path)?;
    let (service, carriers) = start_all(home, links)?;
    let listener = match socket::listen(&path) {
        Ok(listener) => listener,
        Err(error) => {
            drop(service.stop());
            carriers.shutdown();
            return Err(error);
        }
    };
    let guests = carriers.radio.as_ref().map(Radio::guests);
    let door = Door::new(home.clone(), service.handle(), meshlog.shown, guests);
    door.appear()?;
    let places = match meshlog.listen(&door) {
        Ok(places) => places,
        Err(error) => {
            drop(std::fs::remove_file(&path));
            drop(service.stop());
            carriers.shutdown();
            return Err(error);
        }
    };
    let (stop, stopped) = channel();
    watch_signals(stop.clone())?;
    let handle = service.handle();
    let for_socket = handle.clone();
    let on_shutdown = move || {
        let _gone = stop.send(());
    };
    std::thread::spawn(move || socket::serve(&listener, &for_socket, &door, on_shutdown));
    if let Some(capacity) = work {
        start_worker(home, &handle, capacity)?;
    }
    let mut ready = ready_line(home, &handle, &carriers, &path)?;
    ready["meshlog"] = places.into();
    output::json(&ready)?;
    output::note(quiet, "ready: let other machines in with `quipu join TICKET`; stop with Ctrl-C");
    while stopped.recv_timeout(WATCH) == Err(std::sync::mpsc::RecvTimeoutError::Timeout) {
        if service.has_ended() {
            break;
        }
    }
    drop(std::fs::remove_file(&path));
    meshlog.remove_sockets();
    let result = service.stop();
    carriers.shutdown();
    result?;
    Ok(ExitCode::Done)
}

/// Runs what others ask for, on a thread of its own, until the machine stops.
fn start_worker(home: &Home, handle: &Handle, capacity: Capacity) -> Result<(), ApiError> {
    let place = Workplace::open(home, Api::new(handle.clone())?)?;
    let handle = handle.clone();
    let mut worker = Worker::begin(place, capacity, move || Api::new(handle.clone()))?;
    std::thread::Builder::new().name("quipu-work".to_owned()).spawn(move || {
        loop {
            if let Err(error) = worker.work(LOOK) {
                tracing::debug!(%error, "no more runs for others");
                return;
            }
        }
    })?;
    Ok(())
}

fn start_all(home: &Home, links: &LinkOptions) -> Result<(Service, Carriers), ApiError> {
    let mailbox = Mailbox::default();
    let key = home.key()?;
    let quic = match links.quic {
        true => Some(bind(home, key.to_bytes(), &links.listen, &mailbox)?),
        false => None,
    };
    let mut carriers = Carriers { quic, radio: None };
    let domain = home.domain()?;
    // A command that found no daemon may be about to finish.
    let opened = start::patiently(|| {
        if carriers.radio.is_none() {
            let start = |air| network::radio(home, domain, air, &mailbox);
            carriers.radio = links.air.as_ref().map(start).transpose()?;
        }
        start::driver(home, domain, key.clone(), carriers.network())
    });
    let driver = match opened {
        Ok(driver) => driver,
        Err(error) => {
            carriers.shutdown();
            return Err(error);
        }
    };
    let service = Service::start(home.clone(), driver, mailbox, Peers::Stay);
    let addrs = carriers.addrs();
    if let Some(addr) = addrs.first() {
        home.set_port(addr.port())?;
    }
    service.handle().call(move |machine| {
        machine.set_listen(addrs);
        machine.on_rest(crate::give_back_memory);
    })?;
    carriers.join(&service)?;
    Ok((service, carriers))
}

/// Binds where it was told to; else on loopback, at the port of the last time if it is free.
fn bind(
    home: &Home,
    seed: [u8; 32],
    listen: &[SocketAddr],
    mailbox: &Mailbox,
) -> Result<Quic, ApiError> {
    if !listen.is_empty() {
        return Quic::bind(seed, listen.to_vec(), true, mailbox);
    }
    let loopback = |port| vec![SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), port)];
    let last = home.port().map(|port| Quic::bind(seed, loopback(port), true, mailbox));
    match last {
        Some(Ok(quic)) => Ok(quic),
        _ => Quic::bind(seed, loopback(0), true, mailbox),
    }
}

/// Ctrl-C and the polite kill end the daemon in good order; a second one at once.
fn watch_signals(stop: Sender<()>) -> Result<(), ApiError> {
    use signal_hook::consts::{SIGINT, SIGTERM};
    let mut signals = signal_hook::iterator::Signals::new([SIGINT, SIGTERM])?;
    std::thread::spawn(move || {
        for (count, _) in signals.forever().enumerate() {
            if count > 0 {
                std::process::exit(i32::from(u8::from(ExitCode::Problem)));
            }
            let _gone = stop.send(());
        }
    });
    Ok(())
}

fn ready_line(
    home: &Home,
    handle: &Handle,
    carriers: &Carriers,
    path: &std::path::Path,
) -> Result<Value, ApiError> {
    let mut api = Api::new(handle.clone())?;
    let addrs = carriers.addrs();
    let ticket = serve_ticket(home, &mut api, addrs.clone())?;
    // For other domains: it invites nobody.
    let follow = Ticket { invite: None, ..ticket.clone() };
    Ok(json!({
        "ready": true,
        "node": node_of(home)?.to_string(),
        "domain": home.domain()?.to_string(),
        "ticket": ticket.to_string(),
        "follow_ticket": follow.to_string(),
        "listen": addrs,
        "http": Value::Null,
        "socket": path,
    }))
}

fn node_of(home: &Home) -> Result<quipu_core::id::NodeKey, ApiError> {
    Ok(quipu_core::id::NodeKey(home.key()?.verifying_key().to_bytes()))
}

/// The ticket that the daemon prints: with an invitation if this machine is an admin's, else only
/// with its address, for machines that are members already.
fn serve_ticket(home: &Home, api: &mut Api, addrs: Vec<SocketAddr>) -> Result<Ticket, ApiError> {
    let request = Request::Invite {
        role: "writer".to_owned(),
        expires_ms: SERVE_TICKET_MS,
        uses_max: SERVE_TICKET_USES,
    };
    let invite = match invitation(home, api, request) {
        Ok(seed) => Some(seed),
        Err(error) if error.code == ExitCode::Refused => None,
        Err(error) => return Err(error),
    };
    ticket(home, home.domain()?, addrs, invite)
}

/// The seed of the daemon's standing invitation, made once and kept for as long as it is valid.
fn invitation(home: &Home, api: &mut Api, request: Request) -> Result<[u8; 32], ApiError> {
    if let Some(seed) = home.invitation(now_ms()) {
        return Ok(seed);
    }
    let mut seed = None;
    let mut expires = 0;
    api.answer(request, &mut |item| {
        seed = seed_of(&item);
        expires = item["expires_ms"].as_u64().unwrap_or(0);
        Ok(())
    })?;
    let seed = seed.ok_or_else(|| ApiError::new(ExitCode::Bug, "an invitation without a seed"))?;
    home.set_invitation(&seed, expires)?;
    Ok(seed)
}

fn now_ms() -> u64 {
    use quipu_node::Clock;
    quipu_node::service::SystemClock.now_ms()
}

/// The seed in the answer to an invitation request.
pub(crate) fn seed_of(item: &Value) -> Option<[u8; 32]> {
    let bytes = data_encoding::HEXLOWER.decode(item["seed"].as_str()?.as_bytes()).ok()?;
    bytes.try_into().ok()
}

/// A ticket to this machine.
pub(crate) fn ticket(
    home: &Home,
    domain: DomainId,
    addrs: Vec<SocketAddr>,
    invite: Option<[u8; 32]>,
) -> Result<Ticket, ApiError> {
    Ok(Ticket { domain: domain.0, node: node_of(home)?.0, addrs, invite })
}
