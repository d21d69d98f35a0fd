//! Runs programs at a machine (PEL-1 to PEL-11).
//!
//! [`Workplace`] is a machine as the execution of programs sees it: artifacts to read and to keep, and
//! somebody who answers [requests](quipu_node::api::Request) about the log. [`Workplace::run`] runs a program or
//! reuses what is known of it, and announces the receipt; [`Workplace::verify`] and [`Workplace::audit`] run
//! again what receipts are about.
//!
//! *Boundary*: what a run is and what it gives is `quipu-exec`'s; what the log says of it, `quipu-node`'s.

mod ask;
mod elsewhere;
mod execute;
mod explain;
mod known;
mod line;
mod lineage;
mod offers;
mod receipts;
mod share;
mod snapshot;
mod worker;
mod workplace;

pub use ask::Ask;
pub use elsewhere::{Happened, News};
pub use execute::{Outcome, Wish};
pub use offers::Capacity;
pub use receipts::Report;
pub use worker::Worker;
pub use workplace::Workplace;
