//! Links between two transports in one process, over loopback.
#![allow(clippy::print_stdout)]

mod common;

use std::time::{Duration, Instant};

use bytes::Bytes;
use common::{SOON, Side, dial, pair, runtime};
use quipu_net::{
    FRAME_BYTES_MAX, IDLE_TIMEOUT, KEEP_ALIVE, LinkEvent, QUIC_WINDOW, QuicTransport, RECV_WINDOW,
    SEND_QUEUE_HIGH, SEND_QUEUE_LOW, SEND_QUEUE_MAX, TransportError, frame_charge,
};

#[test]
fn frames_of_all_sizes_arrive_in_order_both_ways() {
    let runtime = runtime();
    let (a, link_a, b, link_b) = pair(&runtime);
    let sizes = [0, 1, 4, 1452, 65_536, 0, 300_000, FRAME_BYTES_MAX];
    for (from, link, to) in [(&a, link_a, &b), (&b, link_b, &a)] {
        for (mark, size) in sizes.iter().enumerate() {
            assert!(from.commands.send(link, vec![mark as u8; *size].into()) > 0);
        }
        for (mark, size) in sizes.iter().enumerate() {
            assert_eq!(to.frame(), vec![mark as u8; *size]);
        }
    }
    a.transport.shutdown();
    b.transport.shutdown();
}

#[test]
fn both_sides_know_who_is_there() {
    let runtime = runtime();
    let (a, b) = (Side::new(&runtime, 1), Side::new(&runtime, 2));
    a.commands.connect(7, b.transport.node(), b.transport.local_addrs());
    let LinkEvent::Up { peer, initiator, request, remote_addr, link } = a.next() else { panic!() };
    assert_eq!((peer, initiator, request), (b.transport.node(), true, Some(7)));
    assert_eq!(remote_addr, Some(b.transport.local_addrs()[0]));
    assert_eq!(b.try_next(Duration::from_millis(200)), None, "up only when bytes flow");
    a.commands.send(link, Bytes::from_static(b"x"));
    let LinkEvent::Up { peer, initiator, request, remote_addr, .. } = b.next() else { panic!() };
    assert_eq!((peer, initiator, request), (a.transport.node(), false, None));
    assert_eq!(remote_addr, Some(a.transport.local_addrs()[0]));
}

#[test]
fn only_the_addresses_asked_for_are_bound() {
    let runtime = runtime();
    let side = Side::new(&runtime, 1);
    let addrs = side.transport.local_addrs();
    assert_eq!(addrs.len(), 1);
    assert!(addrs[0].ip().is_loopback() && addrs[0].port() != 0, "{addrs:?}");
    let bind =
        |listen| QuicTransport::bind(runtime.handle().clone(), [3; 32], listen, true, |_| ());
    assert!(matches!(bind(Vec::new()), Err(TransportError::NoAddress)));
    assert!(matches!(bind(addrs), Err(TransportError::Bind { .. })), "the port is taken");
}

#[test]
fn several_addresses_and_ipv6_work() {
    let runtime = runtime();
    let listen = ["127.0.0.1:0", "127.0.0.2:0", "[::1]:0"].map(|addr| addr.parse().unwrap());
    let a = Side::bind(&runtime, 1, listen.to_vec(), true);
    let b = Side::bind(&runtime, 2, vec!["[::1]:0".parse().unwrap()], true);
    assert_eq!(a.transport.local_addrs().len(), 3);
    dial(&a, &b);
    b.up();
    assert_eq!(b.frame(), "hello");
    dial(&b, &a);
}

#[test]
fn a_closed_link_delivers_what_was_queued_and_then_the_reason() {
    let runtime = runtime();
    let (a, link, b, _) = pair(&runtime);
    for _ in 0..20 {
        assert!(a.commands.send(link, vec![1; 50_000].into()) > 0);
    }
    a.commands.close(link, "not a member");
    assert_eq!(a.commands.send(link, Bytes::from_static(b"late")), 0);
    for _ in 0..20 {
        assert_eq!(b.frame().len(), 50_000);
    }
    assert_eq!(b.down(), "closed by peer: not a member");
    assert_eq!(a.down(), "closed here: not a member");
    assert_eq!(a.commands.send(link, Bytes::new()), 0, "the link is forgotten");
}

#[test]
fn a_long_reason_is_cut() {
    let runtime = runtime();
    let (a, link, b, _) = pair(&runtime);
    a.commands.close(link, &"ä".repeat(5000));
    let reason = b.down();
    assert!(reason.starts_with("closed by peer: ä") && reason.len() < 400, "{reason}");
}

#[test]
fn a_frame_too_long_to_send_ends_the_link() {
    let runtime = runtime();
    let (a, link, b, _) = pair(&runtime);
    assert_eq!(a.commands.send(link, vec![0; FRAME_BYTES_MAX + 1].into()), 0);
    assert!(a.down().contains("1048577 bytes to send"));
    assert!(b.down().contains("closed by peer"));
}

#[test]
fn a_slow_consumer_slows_the_sender_and_loses_nothing() {
    let runtime = runtime();
    let (a, link, b, link_b) = pair(&runtime);
    let frame = Bytes::from(vec![9; 100_000]);
    let mut sent = 0usize;
    // Nobody consumes: sending must come to a stop.
    loop {
        if a.commands.send(link, frame.clone()) > SEND_QUEUE_HIGH {
            sent += 1;
            match a.events.recv_timeout(Duration::from_secs(1)) {
                Ok(LinkEvent::Writable { .. }) => continue,
                Ok(other) => panic!("{other:?}"),
                Err(_) => break,
            }
        }
        sent += 1;
    }
    let bound = RECV_WINDOW + 2 * QUIC_WINDOW as usize + SEND_QUEUE_HIGH + 2 * FRAME_BYTES_MAX;
    assert!(sent * frame.len() < bound, "{sent} frames in flight");
    let mut waiting = Vec::new();
    while let Ok(LinkEvent::Frame { bytes, .. }) = b.events.try_recv() {
        waiting.push(bytes.len());
    }
    assert!(waiting.iter().copied().map(frame_charge).sum::<usize>() <= RECV_WINDOW);
    assert!(waiting.len() * frame.len() > RECV_WINDOW / 2, "the window is used");
    for bytes in &waiting {
        b.commands.consumed(link_b, *bytes);
    }
    for _ in waiting.len()..sent {
        assert_eq!(b.frame(), frame);
    }
    assert!(matches!(a.events.recv_timeout(SOON), Ok(LinkEvent::Writable { .. })));
}

#[test]
fn writable_follows_every_drain() {
    let runtime = runtime();
    let (a, link, _b, _) = pair(&runtime);
    while a.try_next(Duration::from_millis(50)).is_some() {}
    let queued = a.commands.send(link, vec![0; SEND_QUEUE_LOW / 4].into());
    assert!(queued >= frame_charge(SEND_QUEUE_LOW / 4));
    let written = match a.events.recv_timeout(SOON) {
        Ok(LinkEvent::Writable { link: of, written }) if of == link => written,
        other => panic!("{other:?}"),
    };
    // The frame that opened the link counts, too.
    assert!(written >= SEND_QUEUE_LOW as u64 / 4 && written < SEND_QUEUE_LOW as u64 / 4 + 100);
    a.commands.send(link, vec![0; 5].into());
    let written = written + 5;
    assert_eq!(a.events.recv_timeout(SOON), Ok(LinkEvent::Writable { link, written }));
}

#[test]
fn a_sender_that_ignores_the_limit_loses_the_link() {
    let runtime = runtime();
    let (a, link, _b, _) = pair(&runtime);
    let frame = Bytes::from(vec![9; FRAME_BYTES_MAX]);
    let mut frames = 0;
    while a.commands.send(link, frame.clone()) > 0 {
        frames += 1;
        assert!(frames < 100, "no end");
    }
    assert!(frames * FRAME_BYTES_MAX > SEND_QUEUE_MAX / 2);
    assert!(a.down().contains("stuck"));
}

#[test]
fn closing_towards_a_peer_that_does_not_read_ends_in_time() {
    let runtime = runtime();
    let (a, link, _b, _) = pair(&runtime);
    while a.commands.send(link, vec![9; 100_000].into()) < SEND_QUEUE_MAX / 2 {}
    let since = Instant::now();
    a.commands.close(link, "enough");
    assert_eq!(a.down(), "closed here: enough");
    assert!(since.elapsed() < Duration::from_secs(6));
}

#[test]
fn a_dead_peer_is_noticed() {
    let (near, far) = (runtime(), runtime());
    let (a, b) = (Side::new(&near, 1), Side::new(&far, 2));
    dial(&a, &b);
    b.up();
    // No farewell: its tasks are dropped where they stand.
    std::mem::forget(b.transport);
    far.shutdown_background();
    let since = Instant::now();
    let reason = a.down_within(IDLE_TIMEOUT + KEEP_ALIVE + Duration::from_secs(5));
    println!("{reason} after {:?}", since.elapsed());
    assert!(since.elapsed() > KEEP_ALIVE, "a short silence is no death");
}

#[test]
fn an_idle_link_lives() {
    let runtime = runtime();
    let (a, link, b, _) = pair(&runtime);
    let wait = IDLE_TIMEOUT + KEEP_ALIVE;
    assert_eq!(a.try_next(wait), None);
    a.commands.send(link, Bytes::from_static(b"still here"));
    assert_eq!(b.frame(), "still here");
}

#[test]
fn a_shutdown_tells_the_peer_and_ends_all_events() {
    let runtime = runtime();
    let (a, link, b, _) = pair(&runtime);
    a.commands.send(link, Bytes::from_static(b"last words"));
    let since = Instant::now();
    let (commands, events) = (a.commands, a.events);
    a.transport.shutdown();
    assert!(since.elapsed() < Duration::from_secs(3), "{:?}", since.elapsed());
    assert_eq!(b.frame(), "last words");
    assert_eq!(b.down(), "closed by peer: shutting down");
    let last = events.try_iter().last();
    assert!(matches!(last, Some(LinkEvent::Down { .. })), "{last:?}");
    commands.connect(8, b.transport.node(), b.transport.local_addrs());
    assert_eq!(commands.send(link, Bytes::new()), 0);
    assert!(events.recv_timeout(Duration::from_millis(200)).is_err());
}

#[test]
fn two_links_between_the_same_peers_are_separate() {
    let runtime = runtime();
    let (a, first, b, _) = pair(&runtime);
    let second = dial(&a, &b);
    assert_ne!(first, second);
    b.up();
    assert_eq!(b.frame(), "hello");
    a.commands.close(first, "one is enough");
    assert_eq!(b.down(), "closed by peer: one is enough");
    a.commands.send(second, Bytes::from_static(b"on"));
    assert_eq!(b.frame(), "on");
}

/// A reader that stops reading its stream lets packets pile up in QUIC, which allows some 2000 of
/// them and then ends the connection, however few bytes they hold.
#[test]
fn many_small_packets_towards_a_slow_consumer_do_not_end_the_link() {
    let runtime = runtime();
    let (a, link, b, link_b) = pair(&runtime);
    let frame = Bytes::from(vec![9; 300]);
    let frames = RECV_WINDOW / frame_charge(frame.len()) + 8_000;
    for _ in 0..frames {
        assert!(a.commands.send(link, frame.clone()) > 0, "{:?}", a.try_next(SOON));
        // Each in a packet of its own.
        std::thread::sleep(Duration::from_micros(20));
    }
    let mut waiting = 0;
    while let Some(LinkEvent::Frame { .. }) = b.try_next(Duration::from_millis(300)) {
        waiting += 1;
    }
    assert!(waiting * frame_charge(frame.len()) <= RECV_WINDOW);
    for _ in 0..waiting {
        b.commands.consumed(link_b, frame.len());
    }
    for _ in waiting..frames {
        assert_eq!(b.frame(), frame);
    }
}

#[test]
fn a_port_is_free_again_after_a_shutdown() {
    let runtime = runtime();
    let (a, _, b, _) = pair(&runtime);
    let addrs = b.transport.local_addrs();
    // The driver may still hold its handle.
    let handle = b.commands.clone();
    b.transport.shutdown();
    assert_eq!(a.down(), "closed by peer: shutting down");
    let again = Side::bind(&runtime, 2, addrs.clone(), true);
    assert_eq!(again.transport.local_addrs(), addrs);
    dial(&a, &again);
    again.up();
    drop(handle);
}
