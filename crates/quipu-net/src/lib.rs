//! Transports: authenticated QUIC links between machines, and the tickets that name them.
//!
//! The driver of a node is a plain thread that knows no async runtime. It gives this crate a
//! closure that takes [`LinkEvent`]s and gets back a [`Commands`] handle whose methods never block.
//!
//! A *link* is one QUIC connection with one bidirectional stream of records. Each starts with a
//! number of 4 bytes, little endian: below 2^31 it is the length of the opaque frame that follows;
//! else the rest of it is a grant, the bytes that the receiver of frames has consumed since the last
//! one. A sender keeps within [`RECV_WINDOW`] bytes, each frame charged by [`frame_charge`].
//!
//! The key of the node is the key of its TLS certificate: the peer named by [`LinkEvent::Up`] has
//! proved that it holds the key. Nothing is looked up anywhere: no relays, no DNS, no discovery,
//! no port mapping. Only the addresses given to [`Commands::connect`] are dialled, and those
//! which that peer itself offers once it is authenticated.

mod bind;
mod config;
mod error;
mod event;
mod inbound;
mod link;
mod outbox;
pub mod ticket;
mod transport;

pub use config::{
    ACCEPT_STREAM_TIMEOUT, ALPN, CLOSE_FLUSH_TIMEOUT, CONNECT_TIMEOUT, FRAME_BYTES_MAX,
    FRAME_OVERHEAD, GRANT_STEP, HANDSHAKE_TIMEOUT, HANDSHAKES_MAX, HANDSHAKES_UNCHECKED_MAX,
    IDLE_TIMEOUT, KEEP_ALIVE, LINKS_MAX, QUIC_WINDOW, REASON_BYTES_MAX, RECV_WINDOW,
    SEND_QUEUE_HIGH, SEND_QUEUE_LOW, SEND_QUEUE_MAX, frame_charge,
};
pub use error::TransportError;
pub use event::LinkEvent;
pub use ticket::{Ticket, TicketError};
pub use transport::{Commands, QuicTransport};
