//! A slow connection between two interfaces on loopback, which can be cut.

use std::io::{Read, Write};
use std::net::{Ipv4Addr, Shutdown, TcpListener, TcpStream};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, sync_channel};
use std::sync::{Arc, Mutex};
use std::thread::{sleep, spawn};
use std::time::{Duration, Instant};

/// What is taken from a side at once.
const PIECE_BYTES: usize = 1_500;
/// Pieces that are under way in one direction at most. A side that sends more waits.
const PIECES_MAX: usize = 64;

/// What passes on what it gets, slowly and later.
pub(crate) struct SlowLink {
    /// Where it listens.
    pub(crate) port: u16,
    state: Arc<State>,
}

struct State {
    target: u16,
    bytes_per_second: f64,
    latency: Duration,
    carried: AtomicU64,
    open: Mutex<Vec<TcpStream>>,
}

impl SlowLink {
    /// A way to that port which carries so much in each direction.
    pub(crate) fn to(target: u16, bytes_per_second: f64, latency: Duration) -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let port = listener.local_addr().unwrap().port();
        let (carried, open) = (AtomicU64::new(0), Mutex::new(Vec::new()));
        let state = Arc::new(State { target, bytes_per_second, latency, carried, open });
        let shared = Arc::clone(&state);
        spawn(move || {
            for near in listener.incoming().flatten() {
                shared.join(near);
            }
        });
        Self { port, state }
    }

    /// Bytes that went through, both ways.
    pub(crate) fn carried(&self) -> u64 {
        self.state.carried.load(Ordering::SeqCst)
    }

    /// Ends the connection. What is under way is lost. Whoever connects again is served.
    pub(crate) fn cut(&self) {
        for stream in self.state.open.lock().unwrap().drain(..) {
            drop(stream.shutdown(Shutdown::Both));
        }
    }
}

impl State {
    fn join(self: &Arc<Self>, near: TcpStream) {
        let Ok(far) = TcpStream::connect((Ipv4Addr::LOCALHOST, self.target)) else { return };
        let copy = |stream: &TcpStream| stream.try_clone().unwrap();
        self.open.lock().unwrap().extend([copy(&near), copy(&far)]);
        for (from, to) in [(copy(&near), copy(&far)), (far, near)] {
            let (state, (pieces, due)) = (Arc::clone(self), sync_channel(PIECES_MAX));
            spawn(move || deliver(to, &due));
            spawn(move || state.take(from, |piece| pieces.send(piece).is_ok()));
        }
    }

    /// Takes what a side sends, no faster than it may.
    fn take(&self, mut from: TcpStream, pass: impl Fn((Instant, Vec<u8>)) -> bool) {
        let mut piece = [0; PIECE_BYTES];
        let mut free = Instant::now();
        while let Ok(length @ 1..) = from.read(&mut piece) {
            let takes = Duration::from_secs_f64(length as f64 / self.bytes_per_second);
            free = free.max(Instant::now()) + takes;
            sleep(free.saturating_duration_since(Instant::now()));
            self.carried.fetch_add(length as u64, Ordering::SeqCst);
            if !pass((free + self.latency, piece[..length].to_vec())) {
                return;
            }
        }
    }
}

/// Hands on what was taken, when it is due.
fn deliver(mut to: TcpStream, due: &Receiver<(Instant, Vec<u8>)>) {
    for (at, piece) in due {
        sleep(at.saturating_duration_since(Instant::now()));
        if to.write_all(&piece).is_err() {
            break;
        }
    }
    drop(to.shutdown(Shutdown::Both));
}
