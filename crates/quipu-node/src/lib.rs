//! The driver: runs the core's node over a store and links, and serves the people and programs at
//! this machine.
//!
//! [`Driver`] is a plain state machine without threads or clock of its own: production runs it in
//! one thread (see [`service`]), the simulator runs many of them in one thread.

pub mod api;
mod artifacts;
pub mod bundle;
pub mod driver;
mod gc;
mod held;
pub mod home;
mod keeper;
pub mod newcomer;
mod own_feed;
pub mod publication;
mod records;
pub mod service;
pub mod shelf;
pub mod view;

pub use artifacts::{ArtifactPolicy, Artifacts, IncomingPart, NoArtifacts, StoredArtifacts};
pub use driver::{Clock, Driver, DriverError, Links, Outcome};
pub use held::Held;
