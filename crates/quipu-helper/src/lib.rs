//! What a machine's daemon and a link helper say to each other: see `docs/formats/link-helper.md`.
//!
//! A *link helper* is a program that the daemon starts, and that has links of its own kind: over
//! Reticulum, a modem, whatever. It carries bytes and knows nothing of events. This crate has the messages
//! and their bytes, for both sides. No IO.
//!
//! *Invariant*: no bytes make it panic, and it keeps no more than a frame of them.

mod field;
mod frame;
pub mod limits;
mod message;

pub use field::Malformed;
pub use frame::{FrameError, Frames, frame};
pub use message::{Address, FromHelper, Interface, LinkName, ToHelper};
