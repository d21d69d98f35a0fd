//! `meshlog.socket/1` in the daemon: clients that were written for `meshlogd serve` (MESH-4).
//!
//! One thread has the state: the machine's part in the mesh ([`host`]) and the clients. Each client has a thread that
//! reads and one that writes, and a client that does not read what it asked for is closed.

mod air;
mod host;

use std::collections::BTreeMap;
use std::io::{ErrorKind, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::os::unix::net::{UnixListener, UnixStream};
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, SyncSender, channel, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use quipu_meshlog::domain::Context;
use quipu_meshlog::json::Value;
use quipu_meshlog::socket::{ClientId, Service, hello};
use quipu_node::api::{ApiError, ExitCode};
use quipu_node::home::Home;
use quipu_node::service::Handle;
use quipu_radio::{GuestEvent, Guests};

use air::Air;
use host::MeshHost;
pub(crate) use host::Shown;

/// The most clients at once, over all sockets of this protocol.
const CLIENTS_MAX: usize = 256;
/// News that may wait for the thread that has the state. Clients that say more wait with their next line.
const NEWS_MAX: usize = 256;
/// Bytes that are read from a client at once.
const READ_BYTES: usize = 1 << 16;
/// How often clients are told who can be reached, as in meshlogd.
const PRESENCE: Duration = Duration::from_secs(5);

/// How often the protocol between nodes is told the time.
const TICK: Duration = Duration::from_secs(1);
/// How long a client may leave unread what does not fit into its socket any more.
const UNREAD_MAX: Duration = Duration::from_secs(600);

/// A connection of either kind.
pub(crate) trait Connection: Read + Write + Send + Sized + 'static {
    /// The same connection, for another thread.
    fn share(&self) -> std::io::Result<Self>;
    /// Ends it, for all threads.
    fn end(&self);
}

macro_rules! connection {
    ($stream:ty) => {
        impl Connection for $stream {
            fn share(&self) -> std::io::Result<Self> {
                let shared = self.try_clone()?;
                shared.set_write_timeout(Some(UNREAD_MAX))?;
                Ok(shared)
            }
            fn end(&self) {
                drop(self.shutdown(std::net::Shutdown::Both));
            }
        }
    };
}

// The two have the same methods, and no trait of the standard library that says so.
connection!(UnixStream);
connection!(TcpStream);

/// What the thread with the state hears.
enum News {
    /// A client has come. It may have been greeted before.
    Open { client: ClientId, greeted: bool, outlet: Sender<Vec<u8>> },
    /// It said something.
    Bytes(ClientId, Vec<u8>),
    /// It says no more.
    End(ClientId),
    /// What was to be written to it is written; or it is gone.
    Written(ClientId, bool),
    /// Somebody wants to know what clients are greeted with.
    Hello(Sender<Vec<u8>>),
    /// The domain's log has grown.
    Grown,
    /// The link helper says something.
    Air(GuestEvent),
}

/// The way in for clients. Cheap to clone. The state is made when the first one comes.
#[derive(Debug, Clone)]
pub(crate) struct Door {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    home: Home,
    handle: Handle,
    shown: Shown,
    /// The way to other nodes, if there is one.
    guests: Option<Guests>,
    news: Mutex<Option<SyncSender<News>>>,
    clients: AtomicUsize,
    next_client: AtomicU64,
}

impl Door {
    pub(crate) fn new(home: Home, handle: Handle, shown: Shown, guests: Option<Guests>) -> Self {
        let (news, clients) = (Mutex::new(None), AtomicUsize::new(0));
        let next_client = AtomicU64::new(1);
        Self { inner: Arc::new(Inner { home, handle, shown, guests, news, clients, next_client }) }
    }

    /// The way to the thread with the state, which is started if it does not run.
    pub(crate) fn open(&self) -> Result<(), ApiError> {
        self.news().map(drop)
    }

    /// Takes part in meshes from now on, if there is a way to other nodes and this machine has a name among them.
    pub(crate) fn appear(&self) -> Result<(), ApiError> {
        let inner = &self.inner;
        if inner.guests.is_some() && inner.home.mesh_identity()?.is_some() {
            self.open()?;
        }
        Ok(())
    }

    fn news(&self) -> Result<SyncSender<News>, ApiError> {
        let inner = &self.inner;
        let mut news = inner.news.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(news) = &*news {
            return Ok(news.clone());
        }
        let (sender, receiver) = sync_channel(NEWS_MAX);
        let air = inner.guests.as_ref().map(|guests| {
            let (voice, events) = guests.enter().into_parts();
            let to = sender.clone();
            std::thread::spawn(move || {
                // Ends with the radio, or with the state.
                for event in events {
                    if to.send(News::Air(event)).is_err() {
                        return;
                    }
                }
            });
            Air::new(voice)
        });
        let host = MeshHost::start(&inner.home, inner.handle.clone(), inner.shown, air)?;
        // It may have grown before anybody tells.
        let grown = Arc::new(AtomicBool::new(true));
        let (waker, flag) = (sender.clone(), Arc::clone(&grown));
        inner.handle.call(move |machine| {
            machine.on_growth(Box::new(move || {
                flag.store(true, Ordering::SeqCst);
                // If there is no room, the flag is seen all the same.
                drop(waker.try_send(News::Grown));
            }));
        })?;
        let service = Service::new(&host);
        let state = State { host, service, outlets: BTreeMap::new(), grown };
        std::thread::Builder::new()
            .name("quipu-meshlog".to_owned())
            .spawn(move || state.run(&receiver))?;
        *news = Some(sender.clone());
        Ok(sender)
    }

    /// What a client is greeted with. Whoever is merely silent for a while is greeted, too, so for this alone no
    /// state is made: a machine without an identity in meshes has no other name there than its key.
    pub(crate) fn hello(&self) -> Result<Vec<u8>, ApiError> {
        let inner = &self.inner;
        let runs = inner.news.lock().unwrap_or_else(PoisonError::into_inner).is_some();
        if !runs && inner.home.mesh_identity()?.is_none() {
            let node = inner.handle.call(|machine| machine.driver.node().key())?;
            let author = Context::default().author_of(&node);
            return Ok(hello(author, inner.shown != Shown::None, Value::Null));
        }
        let (sender, receiver) = channel();
        let gone = || ApiError::new(ExitCode::Bug, "the thread of meshlog clients has ended");
        self.news()?.send(News::Hello(sender)).map_err(|_| gone())?;
        receiver.recv().map_err(|_| gone())
    }

    /// Serves a client until it goes. What it said already is in `first`.
    pub(crate) fn serve<C: Connection>(&self, mut stream: C, first: &[u8], greeted: bool) {
        if self.inner.clients.fetch_add(1, Ordering::SeqCst) < CLIENTS_MAX {
            // What is still to be written to it is written; then the connection ends.
            if let Err(error) = self.converse(&mut stream, first, greeted) {
                tracing::warn!(%error, "a client of meshlog.socket cannot be served");
                stream.end();
            }
        } else {
            tracing::warn!("more than {CLIENTS_MAX} clients of meshlog.socket");
            stream.end();
        }
        self.inner.clients.fetch_sub(1, Ordering::SeqCst);
    }

    fn converse<C: Connection>(
        &self,
        stream: &mut C,
        first: &[u8],
        greeted: bool,
    ) -> Result<(), ApiError> {
        let news = self.news()?;
        let client = ClientId(self.inner.next_client.fetch_add(1, Ordering::SeqCst));
        let (outlet, texts) = channel();
        let (out, written) = (stream.share()?, news.clone());
        std::thread::spawn(move || write_all(out, client, &texts, &written));
        // If nobody takes them, the daemon is about to end.
        let mut said = vec![News::Open { client, greeted, outlet }];
        if !first.is_empty() {
            said.push(News::Bytes(client, first.to_vec()));
        }
        let mut buffer = vec![0; READ_BYTES];
        loop {
            for one in said.drain(..) {
                if news.send(one).is_err() {
                    return Ok(());
                }
            }
            match stream.read(&mut buffer) {
                Ok(0) => break,
                Ok(count) => said.push(News::Bytes(client, buffer[..count].to_vec())),
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(_) => break,
            }
        }
        drop(news.send(News::End(client)));
        Ok(())
    }

    /// Serves whoever connects over TCP.
    pub(crate) fn listen_tcp(&self, listener: TcpListener) {
        let door = self.clone();
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                drop(stream.set_nodelay(true));
                let door = door.clone();
                std::thread::spawn(move || door.serve(stream, &[], false));
            }
        });
    }

    /// Serves whoever connects over a Unix socket.
    pub(crate) fn listen_unix(&self, listener: UnixListener) {
        let door = self.clone();
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let door = door.clone();
                std::thread::spawn(move || door.serve(stream, &[], false));
            }
        });
    }
}

/// Writes what there is for a client, until there is no more to come.
fn write_all<C: Connection>(
    mut out: C,
    client: ClientId,
    texts: &Receiver<Vec<u8>>,
    news: &SyncSender<News>,
) {
    for text in texts {
        let is_fine = out.write_all(&text).and_then(|()| out.flush()).is_ok();
        if news.send(News::Written(client, is_fine)).is_err() || !is_fine {
            break;
        }
    }
    out.end();
}

/// Where a client's answers go.
struct Outlet {
    texts: Sender<Vec<u8>>,
    /// Something is being written: what comes meanwhile waits, and is bounded there.
    is_busy: bool,
}

struct State {
    host: MeshHost,
    service: Service,
    outlets: BTreeMap<ClientId, Outlet>,
    grown: Arc<AtomicBool>,
}

impl State {
    fn run(mut self, news: &Receiver<News>) {
        let mut presence_due = Instant::now() + PRESENCE;
        let mut tick_due = Instant::now() + TICK;
        loop {
            let wait = presence_due.min(tick_due).saturating_duration_since(Instant::now());
            match news.recv_timeout(wait) {
                Ok(one) => self.on_news(one),
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => return,
            }
            let now = Instant::now();
            if now >= presence_due {
                self.service.poll_presence(&self.host);
                presence_due = now + PRESENCE;
            }
            if now >= tick_due {
                self.host.go_on();
                tick_due = now + TICK;
            }
            if let Err(error) = self.host.take_in() {
                // A reader may write nothing: clients and other nodes are served all the same.
                tracing::warn!(%error, "events of a mesh stay in the mesh: this domain cannot keep them");
            }
            if self.grown.swap(false, Ordering::SeqCst)
                && let Err(error) = self.host.catch_up()
            {
                tracing::error!(%error, "the log cannot be read for meshlog clients");
                return;
            }
            self.service.settle(&self.host);
            self.send_all();
        }
    }

    fn on_news(&mut self, news: News) {
        match news {
            News::Open { client, greeted, outlet } => {
                self.outlets.insert(client, Outlet { texts: outlet, is_busy: false });
                self.service.open(client, &self.host);
                if greeted {
                    drop(self.service.take_output(client));
                }
            }
            News::Bytes(client, bytes) => self.service.receive(client, &bytes, &mut self.host),
            News::End(client) => self.service.end_of_input(client, &mut self.host),
            News::Written(client, is_fine) => {
                if let Some(outlet) = self.outlets.get_mut(&client) {
                    outlet.is_busy = false;
                }
                if !is_fine {
                    self.service.close(client);
                }
            }
            News::Hello(answer) => {
                let nobody = ClientId(0);
                self.service.open(nobody, &self.host);
                drop(answer.send(self.service.take_output(nobody)));
                self.service.close(nobody);
            }
            News::Grown => {}
            News::Air(event) => self.host.on_air(event),
        }
    }

    /// Hands on what there is for clients; lets go of those that are done.
    fn send_all(&mut self) {
        let service = &mut self.service;
        self.outlets.retain(|client, outlet| {
            if outlet.is_busy {
                return true;
            }
            let text = service.take_output(*client);
            if text.is_empty() {
                let is_done = service.is_closed(*client);
                if is_done {
                    service.close(*client);
                }
                return !is_done;
            }
            outlet.is_busy = outlet.texts.send(text).is_ok();
            true
        });
    }
}
