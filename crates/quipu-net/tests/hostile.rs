//! Peers that do not keep the rules, and addresses where nobody keeps any.

mod common;

use std::net::UdpSocket;
use std::time::{Duration, Instant};

use bytes::Bytes;
use common::{Side, dial, loopback, pair, runtime};
use iroh::endpoint::{Connection, SendStream, presets};
use iroh::{Endpoint, EndpointAddr, PublicKey, RelayMode, TransportAddr};
use quipu_net::{ALPN, CONNECT_TIMEOUT, FRAME_BYTES_MAX, LinkEvent};
use tokio::runtime::Runtime;

/// A peer that speaks QUIC but writes what it likes.
struct Stranger {
    endpoint: Endpoint,
    connection: Connection,
}

impl Stranger {
    fn dial(runtime: &Runtime, to: &Side) -> Self {
        let id = PublicKey::from_bytes(&to.transport.node()).unwrap();
        let addrs = to.transport.local_addrs().into_iter().map(TransportAddr::Ip);
        let target = EndpointAddr::from_parts(id, addrs);
        runtime.block_on(async {
            let endpoint = Endpoint::builder(presets::Minimal)
                .relay_mode(RelayMode::Disabled)
                .clear_ip_transports()
                .bind_addr("127.0.0.1:0")
                .unwrap()
                .bind()
                .await
                .unwrap();
            let connection = endpoint.connect(target, ALPN).await.unwrap();
            Self { endpoint, connection }
        })
    }

    fn write(&self, runtime: &Runtime, bytes: &[u8]) -> SendStream {
        runtime.block_on(async {
            let (mut send, recv) = self.connection.open_bi().await.unwrap();
            std::mem::forget(recv);
            send.write_all(bytes).await.unwrap();
            send
        })
    }
}

#[test]
fn an_announced_frame_too_long_ends_the_link() {
    let runtime = runtime();
    let b = Side::new(&runtime, 2);
    let stranger = Stranger::dial(&runtime, &b);
    let _send = stranger.write(&runtime, &(FRAME_BYTES_MAX as u32 + 1).to_le_bytes());
    b.up();
    assert!(b.down().contains("frame of 1048577 bytes announced, 1048576 allowed"));
    let told = runtime.block_on(stranger.connection.closed()).to_string();
    assert!(told.contains("1048576 allowed"), "{told}");
    drop(stranger.endpoint);
}

#[test]
fn a_stream_cut_inside_a_frame_is_told_from_an_end() {
    let runtime = runtime();
    for (bytes, whole) in [(&b"\x05\0\0\0abc"[..], false), (b"\x05\0\0\0abcde", true)] {
        let b = Side::new(&runtime, 2);
        let stranger = Stranger::dial(&runtime, &b);
        stranger.write(&runtime, bytes).finish().unwrap();
        b.up();
        if whole {
            assert_eq!(b.frame(), "abcde");
            assert_eq!(b.down(), "peer ended its stream");
        } else {
            assert_eq!(b.down(), "closed here: stream cut inside a frame");
        }
    }
}

#[test]
fn a_second_stream_is_not_granted() {
    let runtime = runtime();
    let b = Side::new(&runtime, 2);
    let stranger = Stranger::dial(&runtime, &b);
    let _send = stranger.write(&runtime, b"\x02\0\0\0ok");
    b.up();
    assert_eq!(b.frame(), "ok");
    let second = runtime.block_on(async {
        tokio::time::timeout(Duration::from_millis(300), stranger.connection.open_bi())
            .await
            .is_ok()
    });
    assert!(!second);
}

#[test]
fn a_dead_port_fails_in_time() {
    let runtime = runtime();
    let a = Side::new(&runtime, 1);
    let free = UdpSocket::bind("127.0.0.1:0").unwrap();
    let addr = free.local_addr().unwrap();
    drop(free);
    let since = Instant::now();
    a.commands.connect(9, Side::new(&runtime, 2).transport.node(), vec![addr]);
    let reason = a.connect_failed();
    assert!(since.elapsed() < CONNECT_TIMEOUT + Duration::from_secs(1));
    assert_eq!(reason, format!("no answer from [{addr}] in 5 s"));
}

#[test]
fn the_wrong_key_at_an_address_fails() {
    let runtime = runtime();
    let (a, b, c) = (Side::new(&runtime, 1), Side::new(&runtime, 2), Side::new(&runtime, 3));
    a.commands.connect(9, c.transport.node(), b.transport.local_addrs());
    let reason = a.connect_failed();
    println!("{reason}");
    assert_eq!(b.try_next(Duration::from_millis(200)), None);
}

#[test]
fn requests_that_cannot_work_fail_at_once() {
    let runtime = runtime();
    let (a, b) = (Side::new(&runtime, 1), Side::new(&runtime, 2));
    a.commands.connect(1, b.transport.node(), Vec::new());
    assert_eq!(a.connect_failed(), "no address to dial");
    let no_point = (0..=255).map(|b| [b; 32]).find(|k| PublicKey::from_bytes(k).is_err()).unwrap();
    a.commands.connect(2, no_point, b.transport.local_addrs());
    assert_eq!(a.connect_failed(), "not an Ed25519 public key");
    a.commands.connect(3, a.transport.node(), a.transport.local_addrs());
    assert!(a.connect_failed().contains("ourself"));
}

#[test]
fn a_transport_that_does_not_accept_refuses() {
    let runtime = runtime();
    let a = Side::new(&runtime, 1);
    let b = Side::bind(&runtime, 2, loopback(), false);
    let since = Instant::now();
    a.commands.connect(1, b.transport.node(), b.transport.local_addrs());
    println!("{}", a.connect_failed());
    assert!(since.elapsed() < Duration::from_secs(2), "it says so");
    dial(&b, &a);
    a.up();
}

#[test]
fn a_flood_of_random_datagrams_does_no_harm() {
    let runtime = runtime();
    let (a, link, b, _) = pair(&runtime);
    let target = b.transport.local_addrs()[0];
    let noise = UdpSocket::bind("127.0.0.1:0").unwrap();
    let before = resident_bytes();
    let mut sent = 0;
    for round in 0u64.. {
        let mut datagram = vec![0; 1 + (round as usize * 37) % 1472];
        blake3::Hasher::new().update(&round.to_le_bytes()).finalize_xof().fill(&mut datagram);
        if round % 2 == 0 {
            // Long header, version 1: the shape of a first packet.
            let shape = [0xc0, 0, 0, 0, 1, 8];
            let head = datagram.len().min(shape.len());
            datagram[..head].copy_from_slice(&shape[..head]);
        }
        sent += noise.send_to(&datagram, target).unwrap_or(0);
        if sent > 10_000_000 {
            break;
        }
    }
    a.commands.send(link, Bytes::from_static(b"still here"));
    assert_eq!(b.frame(), "still here");
    let c = Side::new(&runtime, 3);
    dial(&c, &b);
    assert!(matches!(b.next(), LinkEvent::Up { .. }));
    let grown = resident_bytes().saturating_sub(before);
    println!("grown by {} KiB", grown >> 10);
    assert!(grown < 32 << 20, "{grown} bytes");
}

/// Resident memory of this process, where the system tells.
fn resident_bytes() -> usize {
    let Ok(status) = std::fs::read_to_string("/proc/self/statm") else { return 0 };
    status.split(' ').nth(1).and_then(|pages| pages.parse::<usize>().ok()).unwrap_or(0) * 4096
}
