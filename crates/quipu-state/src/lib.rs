//! The state that a log adds up to: for each fold key the winning event, as a tree with one root.
//!
//! [`State`] keeps the tree on disk and brings it up to date from the log. A [`View`] is the state
//! at one root, now or at a snapshot, and answers what artifacts, edges and conflicts there are.
//! [`cut`] folds the past of any event.
//!
//! *Invariant*: all of it follows from the log, and may be deleted at any time.
//! *Boundary*: it decides nothing about events; what is in the log counts.

mod compact;
pub mod cut;
mod error;
mod pages;
pub mod plan;
mod record;
mod refs;
mod roots;
mod state;
pub mod trace;
mod tree;
mod view;

pub use compact::{CompactJob, Compacted};
pub use error::StateError;
pub use record::kind_of;
pub use refs::Side;
pub use roots::SnapshotAt;
pub use state::{Mark, State};
pub use tree::{Difference, Entry};
pub use view::{Artifact, Candidate, Conflict, Edge, Origin, Said, View};
