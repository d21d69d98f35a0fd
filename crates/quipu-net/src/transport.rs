//! The endpoint: binding, dialling, accepting, and the handle for the driver.

use std::collections::BTreeMap;
use std::fmt;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use iroh::endpoint::{Connection, Incoming, IncomingAddr, RecvStream, SendStream, VarInt};
use iroh::{Endpoint, EndpointAddr, PublicKey, TransportAddr};
use tokio::runtime::Handle;
use tokio::sync::{Semaphore, mpsc};
use tokio::time::timeout;

use crate::bind;
use crate::config::{
    ACCEPT_STREAM_TIMEOUT, ALPN, CLOSE_FLUSH_TIMEOUT, CONNECT_TIMEOUT, HANDSHAKE_TIMEOUT,
    HANDSHAKES_MAX, HANDSHAKES_UNCHECKED_MAX, LINKS_MAX,
};
use crate::error::{TransportError, chain};
use crate::event::{LinkEvent, Sink};
use crate::link::{self, Link};

/// How long a shutdown waits for links to flush, and then again for the peers to hear of the end.
const SHUTDOWN_WAIT: Duration = CLOSE_FLUSH_TIMEOUT.saturating_mul(2);

/// Close code of a connection that never became a link.
const CODE_REFUSED: VarInt = VarInt::from_u32(2);

/// A bound endpoint with its links. Dropping it ends all links without ceremony;
/// [`shutdown`](Self::shutdown) lets queued frames out first.
pub struct QuicTransport {
    endpoint: Endpoint,
    commands: Commands,
    runtime: Handle,
    /// Yields nothing once every task that may still report an event is gone.
    tasks: mpsc::Receiver<()>,
}

/// The driver's handle. Cheap to clone; no method blocks or needs a runtime.
#[derive(Clone)]
pub struct Commands {
    shared: Arc<Shared>,
    runtime: Handle,
}

struct Shared {
    sink: Sink,
    links: Mutex<BTreeMap<u64, Arc<Link>>>,
    next_link: AtomicU64,
    /// Present until shutdown. A handle may outlive the transport and must not hold its sockets.
    open: Mutex<Option<Open>>,
}

/// What a new link needs.
#[derive(Clone)]
struct Open {
    endpoint: Endpoint,
    /// Each task that may report an event holds a clone.
    alive: mpsc::Sender<()>,
}

/// How a connection came to be, and so what is known of it.
struct Origin {
    request: Option<u64>,
    remote_addr: Option<SocketAddr>,
}

impl QuicTransport {
    /// Binds the given local addresses (port 0 for any free port) and, if `accept`, takes links
    /// from anyone who can prove a key. Whether that key is welcome is for the driver to say.
    ///
    /// `secret_key` is the Ed25519 seed of the node. The sink is called from tasks of `runtime`: it
    /// must be quick and must not panic; handing the event to a channel is what it is for. Must not
    /// be called from a task of a runtime, as it waits for the sockets.
    pub fn bind(
        runtime: Handle,
        secret_key: [u8; 32],
        listen: Vec<SocketAddr>,
        accept: bool,
        sink: impl Fn(LinkEvent) + Send + Sync + 'static,
    ) -> Result<Self, TransportError> {
        let endpoint = runtime.block_on(bind::endpoint(secret_key, &listen, accept))?;
        let (alive, tasks) = mpsc::channel(1);
        let shared = Arc::new(Shared {
            sink: Arc::new(sink),
            links: Mutex::default(),
            next_link: AtomicU64::new(1),
            open: Mutex::new(Some(Open { endpoint: endpoint.clone(), alive })),
        });
        runtime.spawn(accept_loop(endpoint.clone(), shared.clone(), accept));
        let commands = Commands { shared, runtime: runtime.clone() };
        Ok(Self { endpoint, commands, runtime, tasks })
    }

    /// The public key of this node.
    pub fn node(&self) -> [u8; 32] {
        *self.endpoint.id().as_bytes()
    }

    /// The addresses at which others can reach this transport: a bound address as it is, and for
    /// an unspecified one (`0.0.0.0`, `::`) the addresses of the interfaces at this moment.
    pub fn local_addrs(&self) -> Vec<SocketAddr> {
        self.endpoint.addr().ip_addrs().copied().collect()
    }

    /// The handle for the driver.
    pub fn commands(&self) -> Commands {
        self.commands.clone()
    }

    /// See [`Commands::connect`].
    pub fn connect(&self, request: u64, peer: [u8; 32], addrs: Vec<SocketAddr>) {
        self.commands.connect(request, peer, addrs);
    }

    /// Ends all links after their queued frames are out, tells the peers, and frees the sockets.
    /// No event comes after this returns, unless a sink call lasts longer than the waiting.
    /// Takes at most some seconds. Must not be called from a task of a runtime.
    pub fn shutdown(mut self) {
        let shared = self.commands.shared.clone();
        self.runtime.clone().block_on(async {
            drop(shared.lock_open().take());
            for link in shared.all_links() {
                link.close("shutting down");
            }
            let _ = timeout(SHUTDOWN_WAIT, self.tasks.recv()).await;
            let _ = timeout(SHUTDOWN_WAIT, self.endpoint.close()).await;
            let _ = timeout(SHUTDOWN_WAIT, self.tasks.recv()).await;
        });
    }
}

impl Drop for QuicTransport {
    fn drop(&mut self) {
        drop(self.commands.shared.lock_open().take());
        let endpoint = self.endpoint.clone();
        if !endpoint.is_closed() {
            self.runtime.spawn(async move { endpoint.close().await });
        }
    }
}

impl fmt::Debug for QuicTransport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("QuicTransport").field("local_addrs", &self.local_addrs()).finish()
    }
}

impl fmt::Debug for Commands {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Commands").field("links", &self.shared.lock_links().len()).finish()
    }
}

impl Commands {
    /// Dials a peer at the given addresses. Answered by `Up` or `ConnectFailed` with this request
    /// number within [`CONNECT_TIMEOUT`]; by neither after a shutdown.
    pub fn connect(&self, request: u64, peer: [u8; 32], addrs: Vec<SocketAddr>) {
        let Some(open) = self.shared.lock_open().clone() else { return };
        let shared = self.shared.clone();
        self.runtime.spawn(async move {
            match dial(&open.endpoint, peer, &addrs).await {
                Ok((connection, send, recv)) => {
                    let remote_addr = remote_addr(&connection);
                    let origin = Origin { request: Some(request), remote_addr };
                    shared.run_link(connection, send, recv, origin).await;
                }
                Err(reason) => (shared.sink)(LinkEvent::ConnectFailed { request, reason }),
            }
            drop(open);
        });
    }

    /// Queues a frame. Returns the bytes queued on the link now: above
    /// [`SEND_QUEUE_HIGH`](crate::SEND_QUEUE_HIGH) the caller should wait for `Writable`. Returns
    /// 0 if the link is gone or going, and when this frame ended it (too long, or queue above
    /// [`SEND_QUEUE_MAX`](crate::SEND_QUEUE_MAX)); a `Down` tells so.
    pub fn send(&self, link: u64, frame: Bytes) -> usize {
        self.shared.link(link).map_or(0, |link| link.send(frame))
    }

    /// The driver is done with a frame of so many bytes: its link may bring more. To be called
    /// once for each frame, with the length of its bytes.
    pub fn consumed(&self, link: u64, frame_bytes: usize) {
        if let Some(link) = self.shared.link(link) {
            link.consumed(frame_bytes);
        }
    }

    /// Ends a link when its queued frames are out, for at most
    /// [`CLOSE_FLUSH_TIMEOUT`] each for writing and acknowledgement. The peer gets the reason, cut
    /// to [`REASON_BYTES_MAX`](crate::REASON_BYTES_MAX). A `Down` follows.
    pub fn close(&self, link: u64, reason: &str) {
        if let Some(link) = self.shared.link(link) {
            link.close(reason);
        }
    }
}

impl Shared {
    fn lock_links(&self) -> MutexGuard<'_, BTreeMap<u64, Arc<Link>>> {
        self.links.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn lock_open(&self) -> MutexGuard<'_, Option<Open>> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn link(&self, id: u64) -> Option<Arc<Link>> {
        self.lock_links().get(&id).cloned()
    }

    fn all_links(&self) -> Vec<Arc<Link>> {
        self.lock_links().values().cloned().collect()
    }

    /// Announces a link, runs it and reports its end.
    async fn run_link(
        &self,
        connection: Connection,
        send: SendStream,
        recv: RecvStream,
        origin: Origin,
    ) {
        let id = self.next_link.fetch_add(1, Ordering::Relaxed);
        let peer = *connection.remote_id().as_bytes();
        let link = Arc::new(Link::new(id, connection));
        self.lock_links().insert(id, link.clone());
        (self.sink)(LinkEvent::Up {
            link: id,
            peer,
            initiator: origin.request.is_some(),
            request: origin.request,
            remote_addr: origin.remote_addr,
        });
        if self.lock_open().is_none() {
            // A shutdown passed by between the dial and the list of links.
            link.close("shutting down");
        }
        let reason = link::run(link, send, recv, self.sink.clone()).await;
        self.lock_links().remove(&id);
        (self.sink)(LinkEvent::Down { link: id, reason });
    }
}

/// The address a connection goes to at the moment.
fn remote_addr(connection: &Connection) -> Option<SocketAddr> {
    let paths = connection.paths();
    let ip = |addr: &TransportAddr| match addr {
        TransportAddr::Ip(addr) => Some(*addr),
        _ => None,
    };
    paths
        .iter()
        .find(|path| path.is_selected())
        .or_else(|| paths.iter().next())
        .and_then(|path| ip(path.remote_addr()))
}

async fn dial(
    endpoint: &Endpoint,
    peer: [u8; 32],
    addrs: &[SocketAddr],
) -> Result<(Connection, SendStream, RecvStream), String> {
    let id = PublicKey::from_bytes(&peer).map_err(|_| "not an Ed25519 public key".to_owned())?;
    if addrs.is_empty() {
        return Err("no address to dial".to_owned());
    }
    let target = EndpointAddr::from_parts(id, addrs.iter().copied().map(TransportAddr::Ip));
    let dialled = async {
        let connection = endpoint.connect(target, ALPN).await.map_err(|error| chain(&error))?;
        let (send, recv) = connection.open_bi().await.map_err(|error| chain(&error))?;
        Ok((connection, send, recv))
    };
    match timeout(CONNECT_TIMEOUT, dialled).await {
        Ok(result) => result.map_err(|error| explain(error, addrs)),
        Err(_) => Err(format!("no answer from {addrs:?} in {} s", CONNECT_TIMEOUT.as_secs())),
    }
}

/// Says in plain words what TLS says of a certificate with a key other than the one asked for.
fn explain(error: String, addrs: &[SocketAddr]) -> String {
    if error.contains("UnknownIssuer") {
        format!("the node at {addrs:?} does not hold the key asked for")
    } else {
        error
    }
}

/// Room for incoming handshakes and links.
struct Room {
    handshakes: Arc<Semaphore>,
    links: Arc<Semaphore>,
}

async fn accept_loop(endpoint: Endpoint, shared: Arc<Shared>, accept: bool) {
    let room = Room {
        handshakes: Arc::new(Semaphore::new(HANDSHAKES_MAX)),
        links: Arc::new(Semaphore::new(LINKS_MAX)),
    };
    while let Some(incoming) = endpoint.accept().await {
        let Some(open) = shared.lock_open().clone().filter(|_| accept) else {
            incoming.refuse();
            continue;
        };
        greet(&shared, &room, incoming, open.alive);
    }
}

/// Takes an incoming connection if there is room, without waiting for anything.
fn greet(shared: &Arc<Shared>, room: &Room, incoming: Incoming, alive: mpsc::Sender<()>) {
    let (Ok(handshake), Ok(slot)) =
        (room.handshakes.clone().try_acquire_owned(), room.links.clone().try_acquire_owned())
    else {
        incoming.refuse();
        return;
    };
    let busy = HANDSHAKES_MAX - room.handshakes.available_permits();
    if busy > HANDSHAKES_UNCHECKED_MAX && !incoming.remote_addr_validated() {
        // The sender comes back with a token if it owns its address.
        let _ = incoming.retry();
        return;
    }
    let remote_addr = match incoming.remote_addr() {
        IncomingAddr::Ip(addr) => Some(addr),
        _ => None,
    };
    let shared = shared.clone();
    tokio::spawn(async move {
        let connected = timeout(HANDSHAKE_TIMEOUT, incoming.into_future()).await;
        drop(handshake);
        let Ok(Ok(connection)) = connected else { return };
        match timeout(ACCEPT_STREAM_TIMEOUT, connection.accept_bi()).await {
            Ok(Ok((send, recv))) => {
                let origin = Origin { request: None, remote_addr };
                shared.run_link(connection, send, recv, origin).await;
            }
            Ok(Err(_)) => {}
            Err(_) => connection.close(CODE_REFUSED, b"no stream was opened"),
        }
        drop((slot, alive));
    });
}
