//! What the transport tells the driver.

use std::fmt;
use std::net::SocketAddr;
use std::sync::Arc;

use bytes::Bytes;

/// Where events go: the caller's closure.
pub(crate) type Sink = Arc<dyn Fn(LinkEvent) + Send + Sync>;

/// Something that happened to a link or to a request for one.
///
/// For each link: one `Up`, then any number of `Frame` and `Writable`, then one `Down` after which
/// its number is never heard of again. Link numbers are not reused while the transport lives.
#[derive(Clone, PartialEq, Eq)]
pub enum LinkEvent {
    /// A link to an authenticated peer exists.
    Up {
        /// The number of the link.
        link: u64,
        /// The Ed25519 public key that the peer proved to hold.
        peer: [u8; 32],
        /// Whether this side dialled. The initiator must send the first frame.
        initiator: bool,
        /// The request that this link answers, if this side dialled.
        request: Option<u64>,
        /// Where the peer is, as far as known.
        remote_addr: Option<SocketAddr>,
    },
    /// A whole frame came in. Its length must be given back by
    /// [`consumed`](crate::Commands::consumed), once.
    Frame {
        /// The number of the link.
        link: u64,
        /// The bytes of the frame, without the length.
        bytes: Bytes,
    },
    /// Frames were written out and the queue is below [`SEND_QUEUE_LOW`](crate::SEND_QUEUE_LOW).
    Writable {
        /// The number of the link.
        link: u64,
        /// Bytes of all frames that were written on this link so far.
        written: u64,
    },
    /// The link is gone. All frames that came in whole were delivered before, unless this side
    /// closed the link.
    Down {
        /// The number of the link.
        link: u64,
        /// Who ended it, and why.
        reason: String,
    },
    /// A request to connect came to nothing.
    ConnectFailed {
        /// The number that the caller gave the request.
        request: u64,
        /// Why.
        reason: String,
    },
}

impl fmt::Debug for LinkEvent {
    /// Shows the length of a frame in place of its bytes.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Up { link, peer, initiator, request, remote_addr } => f
                .debug_struct("Up")
                .field("link", link)
                .field("peer", &data_encoding::HEXLOWER.encode(&peer[..6]))
                .field("initiator", initiator)
                .field("request", request)
                .field("remote_addr", remote_addr)
                .finish(),
            Self::Frame { link, bytes } => {
                f.debug_struct("Frame").field("link", link).field("bytes", &bytes.len()).finish()
            }
            Self::Writable { link, written } => {
                f.debug_struct("Writable").field("link", link).field("written", written).finish()
            }
            Self::Down { link, reason } => {
                f.debug_struct("Down").field("link", link).field("reason", reason).finish()
            }
            Self::ConnectFailed { request, reason } => f
                .debug_struct("ConnectFailed")
                .field("request", request)
                .field("reason", reason)
                .finish(),
        }
    }
}
