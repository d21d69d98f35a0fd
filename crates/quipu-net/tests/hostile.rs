//! Peers that do not keep the rules, and addresses where nobody keeps any.
#![allow(clippy::print_stdout)]

mod common;

use std::net::UdpSocket;
use std::time::{Duration, Instant};

use bytes::Bytes;
use common::{Side, dial, loopback, pair, runtime};
use iroh::endpoint::{Connection, RecvStream, SendStream, presets};
use iroh::{Endpoint, EndpointAddr, PublicKey, RelayMode, TransportAddr};
use quipu_net::{ALPN, CONNECT_TIMEOUT, FRAME_BYTES_MAX, LINKS_MAX, LinkEvent, RECV_WINDOW};
use tokio::runtime::Runtime;

type Target = EndpointAddr;

fn target(side: &Side) -> Target {
    let id = PublicKey::from_bytes(&side.transport.node()).unwrap();
    let addrs = side.transport.local_addrs().into_iter().map(TransportAddr::Ip);
    EndpointAddr::from_parts(id, addrs)
}

/// A peer that speaks QUIC but writes what it likes.
struct Stranger {
    endpoint: Endpoint,
    connection: Connection,
}

impl Stranger {
    fn dial(runtime: &Runtime, to: &Side) -> Self {
        let target = target(to);
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

    /// One more link over the same endpoint, with a first frame.
    async fn another(&self, to: &Target) -> Option<(Connection, SendStream, RecvStream)> {
        let connection = self.endpoint.connect(to.clone(), ALPN).await.ok()?;
        let (mut send, recv) = connection.open_bi().await.ok()?;
        send.write_all(b"\0\0\0\0").await.ok()?;
        Some((connection, send, recv))
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
            assert_eq!(b.down(), "closed here: stream cut inside a record");
        }
    }
}

#[test]
fn a_peer_that_ignores_the_window_loses_the_link() {
    let runtime = runtime();
    let b = Side::new(&runtime, 2);
    let stranger = Stranger::dial(&runtime, &b);
    let mut frame = vec![0; 4 + FRAME_BYTES_MAX];
    frame[..4].copy_from_slice(&(FRAME_BYTES_MAX as u32).to_le_bytes());
    let mut send = stranger.write(&runtime, &frame);
    b.up();
    let frames = RECV_WINDOW / FRAME_BYTES_MAX;
    runtime.block_on(async { while send.write_all(&frame).await.is_ok() {} });
    for _ in 0..frames - 1 {
        assert!(matches!(b.next(), LinkEvent::Frame { .. }));
    }
    assert_eq!(
        b.down(),
        format!("closed here: more than {RECV_WINDOW} bytes sent without a grant")
    );
}

#[test]
fn a_grant_of_what_was_never_sent_ends_the_link() {
    let runtime = runtime();
    let b = Side::new(&runtime, 2);
    let stranger = Stranger::dial(&runtime, &b);
    let _send = stranger.write(&runtime, &(1 << 31 | 5u32).to_le_bytes());
    b.up();
    assert_eq!(b.down(), "closed here: 5 bytes granted, fewer were sent");
}

#[test]
fn incoming_links_are_limited_and_a_free_place_is_used_again() {
    let runtime = runtime();
    let b = Side::new(&runtime, 2);
    let stranger = Stranger::dial(&runtime, &b);
    let mut links = Vec::new();
    // The connection without a stream takes a place, too.
    for _ in 1..LINKS_MAX {
        links.push(runtime.block_on(stranger.another(&target(&b))).expect("room"));
    }
    assert!(runtime.block_on(stranger.another(&target(&b))).is_none(), "no room");
    let ups = |side: &Side| {
        let events = std::iter::from_fn(|| side.try_next(Duration::from_millis(500)));
        events.filter(|event| matches!(event, LinkEvent::Up { .. })).count()
    };
    assert_eq!(ups(&b), LINKS_MAX - 1);
    links.clear();
    while b.try_next(Duration::from_millis(500)).is_some() {}
    let _one = runtime.block_on(stranger.another(&target(&b))).expect("room again");
    assert_eq!(ups(&b), 1);
}

#[test]
fn many_handshakes_at_once_are_bounded_and_do_not_lock_others_out() {
    let runtime = runtime();
    let b = Side::new(&runtime, 2);
    let stranger = Stranger::dial(&runtime, &b);
    let target = target(&b);
    runtime.block_on(async {
        let endpoint = &stranger.endpoint;
        let dials = (0..300).map(|_| {
            let (endpoint, target) = (endpoint.clone(), target.clone());
            tokio::spawn(async move { endpoint.connect(target, ALPN).await.ok() })
        });
        let mut accepted = Vec::new();
        for dial in dials.collect::<Vec<_>>() {
            accepted.extend(dial.await.unwrap());
        }
        println!("{} of 300 accepted", accepted.len());
        assert!(accepted.len() <= LINKS_MAX);
    });
    // Those connections are gone now; give their ends time to arrive.
    std::thread::sleep(Duration::from_millis(500));
    let a = Side::new(&runtime, 1);
    dial(&a, &b);
    b.up();
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
    assert!(reason.contains("does not hold the key asked for"), "{reason}");
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
