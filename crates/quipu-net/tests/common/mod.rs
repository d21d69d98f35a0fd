//! Two transports on loopback and the events they report.
#![allow(dead_code, unreachable_pub)]

use std::net::SocketAddr;
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::time::{Duration, Instant};

use bytes::Bytes;
use quipu_net::{Commands, LinkEvent, QuicTransport};
use tokio::runtime::{Builder, Runtime};

/// Longer than anything here takes on a busy machine, short of the idle timeout.
pub const SOON: Duration = Duration::from_secs(10);

pub fn runtime() -> Runtime {
    Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap()
}

pub fn loopback() -> Vec<SocketAddr> {
    vec!["127.0.0.1:0".parse().unwrap()]
}

/// A transport and what it reported.
pub struct Side {
    pub transport: QuicTransport,
    pub commands: Commands,
    pub events: Receiver<LinkEvent>,
}

impl Side {
    pub fn bind(runtime: &Runtime, seed: u8, listen: Vec<SocketAddr>, accept: bool) -> Self {
        let (sink, events) = channel();
        let sink = move |event| drop(sink.send(event));
        let handle = runtime.handle().clone();
        let transport = QuicTransport::bind(handle, [seed; 32], listen, accept, sink).unwrap();
        let commands = transport.commands();
        Self { transport, commands, events }
    }

    pub fn new(runtime: &Runtime, seed: u8) -> Self {
        Self::bind(runtime, seed, loopback(), true)
    }

    /// The next event that is not `Writable`.
    pub fn next_within(&self, wait: Duration) -> LinkEvent {
        self.try_next(wait).expect("an event")
    }

    pub fn next(&self) -> LinkEvent {
        self.next_within(SOON)
    }

    pub fn try_next(&self, wait: Duration) -> Option<LinkEvent> {
        let until = Instant::now() + wait;
        loop {
            match self.events.recv_timeout(until.saturating_duration_since(Instant::now())) {
                Ok(LinkEvent::Writable { .. }) => {}
                Ok(event) => return Some(event),
                Err(RecvTimeoutError::Timeout) => return None,
                Err(RecvTimeoutError::Disconnected) => panic!("the transport is gone"),
            }
        }
    }

    pub fn frame(&self) -> Bytes {
        match self.next() {
            LinkEvent::Frame { link, bytes } => {
                self.commands.consumed(link, bytes.len());
                bytes
            }
            other => panic!("no frame but {other:?}"),
        }
    }

    pub fn up(&self) -> u64 {
        match self.next() {
            LinkEvent::Up { link, .. } => link,
            other => panic!("no link but {other:?}"),
        }
    }

    pub fn down(&self) -> String {
        self.down_within(SOON)
    }

    pub fn down_within(&self, wait: Duration) -> String {
        match self.next_within(wait) {
            LinkEvent::Down { reason, .. } => reason,
            other => panic!("not down but {other:?}"),
        }
    }

    pub fn connect_failed(&self) -> String {
        match self.next() {
            LinkEvent::ConnectFailed { reason, .. } => reason,
            other => panic!("not failed but {other:?}"),
        }
    }
}

/// Two transports with a link between them; the first frame is through.
pub fn pair(runtime: &Runtime) -> (Side, u64, Side, u64) {
    let (a, b) = (Side::new(runtime, 1), Side::new(runtime, 2));
    let link_a = dial(&a, &b);
    let link_b = b.up();
    assert_eq!(b.frame(), "hello");
    (a, link_a, b, link_b)
}

/// Dials and sends the first frame.
pub fn dial(a: &Side, b: &Side) -> u64 {
    a.commands.connect(7, b.transport.node(), b.transport.local_addrs());
    let link = a.up();
    assert!(a.commands.send(link, Bytes::from_static(b"hello")) > 0);
    link
}
