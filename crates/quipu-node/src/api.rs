//! The requests that a machine answers, for the command line and for programs on its socket.
//!
//! One request gives a row of JSON objects, then an end. Long rows are read in pieces, so that the
//! machine goes on with its work in between.

mod carry;
mod error;
mod read;
mod write;

use std::net::SocketAddr;

use quipu_core::id::NodeKey;
use serde::{Deserialize, Serialize};
use serde_json::Value;

pub use carry::Importer;
pub use error::{ApiError, ExitCode};
pub use write::check_event;

use crate::service::Handle;

/// A request.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(tag = "method", content = "params", rename_all = "snake_case")]
pub enum Request {
    /// This node.
    Id,
    /// A ticket's invitation; answers with the seed of its key.
    Invite {
        /// Role of whoever uses it.
        role: String,
        /// How long it is valid.
        expires_ms: u64,
        /// How many machines may use it.
        uses_max: u64,
    },
    /// Makes a machine a member.
    MemberAdd {
        /// Its key.
        node: String,
        /// Its role.
        role: String,
    },
    /// Ends a machine's membership.
    MemberRemove {
        /// Its key, or the start of it.
        node: String,
    },
    /// The members.
    Members,
    /// Appends events.
    Emit {
        /// The events.
        events: Vec<NewEvent>,
    },
    /// One event.
    Show {
        /// Its id, or the start of it.
        id: String,
    },
    /// Events in replay order.
    Log {
        /// Only of this kind.
        #[serde(default)]
        kind: Option<String>,
        /// Only by this author, or the start of its key.
        #[serde(default)]
        author: Option<String>,
        /// At most so many.
        #[serde(default)]
        limit: Option<u64>,
        /// Latest first.
        #[serde(default)]
        reverse: bool,
        /// With proofs.
        #[serde(default)]
        proof: bool,
    },
    /// Where this node stands.
    Status,
    /// Feed tips.
    Frontier,
    /// Exchanges with a peer, or with all known ones.
    Sync {
        /// A key with addresses; none for all known.
        #[serde(default)]
        peer: Option<String>,
        /// Where the peer is.
        #[serde(default)]
        addrs: Vec<SocketAddr>,
    },
    /// Checks everything.
    Verify,
    /// What is wrong and what to do.
    Doctor,
    /// Erases a payload everywhere.
    Erase {
        /// The event, or the start of its id.
        id: String,
        /// Why.
        reason: String,
    },
    /// Packed events that another machine lacks.
    BundleExport {
        /// Feed tips of the other machine; nothing for everything.
        #[serde(default)]
        tips: Vec<Tip>,
    },
    /// Packed events from a bundle; a piece of it.
    ImportPack {
        /// A packed batch, in base64.
        packed: String,
    },
    /// The end of an import.
    ImportEnd,
    /// Ends the daemon.
    Shutdown,
}

/// An event to append.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct NewEvent {
    /// What it says.
    pub kind: String,
    /// Its payload, as JSON text: parsed once, strictly.
    #[serde(default)]
    pub payload: Option<Box<serde_json::value::RawValue>>,
}

/// A feed tip.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Tip {
    /// The author.
    pub author: String,
    /// Place in the feed.
    pub seq: u64,
    /// The event.
    pub id: String,
}

/// Where answers go. An error ends the request: the client is gone.
pub type Sink<'a> = &'a mut dyn FnMut(Value) -> std::io::Result<()>;

/// Answers requests of one client.
#[derive(Debug)]
pub struct Api {
    handle: Handle,
    node: NodeKey,
    importer: Importer,
}

impl Api {
    /// For one client of a machine.
    ///
    /// # Errors
    /// If the machine has stopped.
    pub fn new(handle: Handle) -> Result<Self, ApiError> {
        let node = handle.call(|machine| machine.driver.node().key())?;
        Ok(Self { handle, node, importer: Importer::default() })
    }

    /// Answers a request.
    ///
    /// # Errors
    /// Why there is no (complete) answer.
    pub fn answer(&mut self, request: Request, sink: Sink<'_>) -> Result<(), ApiError> {
        match request {
            Request::Id => self.id(sink),
            Request::Invite { role, expires_ms, uses_max } => {
                self.invite(&role, expires_ms, uses_max, sink)
            }
            Request::MemberAdd { node, role } => self.member_add(&node, &role, sink),
            Request::MemberRemove { node } => self.member_remove(&node, sink),
            Request::Members => self.members(sink),
            Request::Emit { events } => self.emit(events, sink),
            Request::Show { id } => self.show(&id, sink),
            Request::Log { kind, author, limit, reverse, proof } => {
                let wanted = read::LogQuery { kind, author, limit, reverse, proof };
                self.log(wanted, sink)
            }
            Request::Status => self.status(sink),
            Request::Frontier => self.frontier(sink),
            Request::Sync { peer, addrs } => self.sync(peer, addrs, sink),
            Request::Verify => self.verify(sink),
            Request::Doctor => self.doctor(sink),
            Request::Erase { id, reason } => self.erase(&id, reason, sink),
            Request::BundleExport { tips } => self.bundle_export(&tips, sink),
            Request::ImportPack { packed } => self.import_pack(&packed, sink),
            Request::ImportEnd => self.import_end(sink),
            Request::Shutdown => Err(ApiError::misuse("no daemon runs here")),
        }
    }
}
