//! Making two machines hold the same log, over any link that carries frames.
//!
//! The initiator of a link says hello and compares digests. If they differ, the responder shows the
//! ends of its feeds: those that changed since both were last level, or all of them if they are
//! few, or a sketch whose size follows the difference. Both sides then stream what the other
//! lacks and compare again. Afterwards new events are pushed as they come. See `docs/sync.md`.

pub(crate) mod check;
pub mod frontier;
pub mod message;
pub mod plan;
pub mod session;
pub(crate) mod trade;
pub mod unsigned;
