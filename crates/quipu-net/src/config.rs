//! The limits of the transport, each with its reason, and the QUIC settings made of them.

use std::time::Duration;

use iroh::endpoint::{MtuDiscoveryConfig, QuicTransportConfig, VarInt};

/// The protocol that both ends must speak; the digit changes when framing does.
pub const ALPN: &[u8] = b"quipu/1";

/// The longest frame. Larger things are cut up by the protocol above, so that one of them cannot
/// hold up a link for long, and so that a hostile length costs at most this much memory.
pub const FRAME_BYTES_MAX: usize = 1 << 20;

/// What a frame costs in every queue on top of its bytes: without it a flood of empty frames would
/// be free of charge.
pub const FRAME_OVERHEAD: usize = 64;

/// Above this many queued bytes the caller of [`send`](crate::Commands::send) should stop: there is
/// enough to keep the wire busy while the caller wakes up.
pub const SEND_QUEUE_HIGH: usize = 1 << 20;

/// Below this many queued bytes [`Writable`](crate::LinkEvent::Writable) is reported: early enough
/// that the wire does not run dry before more comes.
pub const SEND_QUEUE_LOW: usize = 256 << 10;

/// Above this many queued bytes the link is closed as stuck: a caller that honours
/// [`SEND_QUEUE_HIGH`] overshoots by a few frames, never by this much.
pub const SEND_QUEUE_MAX: usize = 8 << 20;

/// Bytes delivered by one link and not yet reported as consumed. The sender counts them too, by the
/// grants it gets, and sends no more: so the reader never has to leave bytes in QUIC (see
/// [`QUIC_WINDOW`]). Must hold more than a frame and a [`GRANT_STEP`]. Both ends must agree on it.
pub const RECV_WINDOW: usize = 4 << 20;

/// Consumed bytes are granted anew in steps of this: eight for a whole window.
pub const GRANT_STEP: usize = RECV_WINDOW / 8;

/// Bytes in flight on one link in each direction: 1 MiB fills a 1 Gbit/s path of 8 ms. It cannot be
/// much more, and must not be left unread: noq-proto 1.4 ends a connection with "too many gaps in
/// stream buffer" when some 1024 to 2048 packets of a stream wait for the reader or for one lost
/// before them (quinn issue 2809), and 1 MiB are 914 packets of the smallest MTU.
pub const QUIC_WINDOW: u32 = 1 << 20;

/// How long a dial may take. A machine on the same continent answers within 0.5 s, twice that when
/// the first packet is lost.
pub const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

/// How long an incoming handshake may take: the same on the other side.
pub const HANDSHAKE_TIMEOUT: Duration = CONNECT_TIMEOUT;

/// How long an incoming connection may stay without the first byte of its stream. Longer than a
/// handshake, as the initiator's driver has to get round to its first frame.
pub const ACCEPT_STREAM_TIMEOUT: Duration = Duration::from_secs(10);

/// How often an idle link is probed.
pub const KEEP_ALIVE: Duration = Duration::from_secs(5);

/// Silence after which a link is dead. The clock is started anew by the first probe after the last
/// packet heard, so a dead peer is noticed between 12 and 17 seconds after it died.
pub const IDLE_TIMEOUT: Duration = Duration::from_secs(12);

/// How long a closed link may take to get its queued frames acknowledged.
pub const CLOSE_FLUSH_TIMEOUT: Duration = Duration::from_secs(2);

/// Incoming links at one time. A hub of a few dozen machines needs as many; each may cost some
/// megabytes.
pub const LINKS_MAX: usize = 256;

/// Incoming handshakes at one time; more are refused before any key is computed.
pub const HANDSHAKES_MAX: usize = 64;

/// Above this many incoming handshakes, a sender must first prove that it owns its address.
pub const HANDSHAKES_UNCHECKED_MAX: usize = 16;

/// The longest reason put on the wire: it has to fit in one packet.
pub const REASON_BYTES_MAX: usize = 256;

/// The largest UDP payload that iroh 1.4 accepts: an Ethernet frame without its IP and UDP headers.
const UDP_PAYLOAD_MAX: u16 = 1472;

/// What a frame of so many bytes takes up in the queues and windows.
pub const fn frame_charge(bytes: usize) -> usize {
    bytes + FRAME_OVERHEAD
}

/// QUIC settings for both sides of a link.
pub(crate) fn quic_config() -> QuicTransportConfig {
    let idle = VarInt::from_u32(IDLE_TIMEOUT.as_millis() as u32);
    let mut mtu = MtuDiscoveryConfig::default();
    mtu.upper_bound(UDP_PAYLOAD_MAX);
    QuicTransportConfig::builder()
        .max_concurrent_bidi_streams(VarInt::from_u32(1))
        .max_concurrent_uni_streams(VarInt::from_u32(0))
        .datagram_receive_buffer_size(None)
        .stream_receive_window(VarInt::from_u32(QUIC_WINDOW))
        .receive_window(VarInt::from_u32(QUIC_WINDOW))
        .send_window(u64::from(QUIC_WINDOW))
        .max_idle_timeout(Some(idle.into()))
        .default_path_max_idle_timeout(IDLE_TIMEOUT)
        .keep_alive_interval(KEEP_ALIVE)
        .default_path_keep_alive_interval(KEEP_ALIVE)
        .mtu_discovery_config(Some(mtu))
        .build()
}
