//! What can go wrong before there is a link. What goes wrong with a link is an event.

use std::net::SocketAddr;

/// Why a transport could not be set up.
#[derive(Debug, thiserror::Error)]
pub enum TransportError {
    /// No address to listen on was given. Even a node that only dials needs a local address.
    #[error("no local address given")]
    NoAddress,
    /// The same address family was asked for twice in a way that leaves routing open.
    #[error("cannot listen on {addr} together with the addresses before it: {reason}")]
    Address {
        /// The address as asked for.
        addr: SocketAddr,
        /// What the transport says.
        reason: String,
    },
    /// The operating system gave no socket.
    #[error("cannot listen on {addrs:?}: {reason}")]
    Bind {
        /// The addresses as asked for.
        addrs: Vec<SocketAddr>,
        /// What the transport says.
        reason: String,
    },
}

/// An error with its causes, on one line.
pub(crate) fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        let more = error.to_string();
        if !text.ends_with(&more) {
            text = format!("{text}: {more}");
        }
        cause = error.source();
    }
    text
}
