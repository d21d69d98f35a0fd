//! The log on disk: append-only files of packed events, written once.
//!
//! Each log of a domain is a row of files. Events are committed to the *active* file, a sequence of
//! checksummed frames, and stay in memory as long as they are there. A full active file is frozen
//! and *sealed*: rewritten as an immutable *block*, columnar and compressed, with indexes that are
//! mapped and not read when the store is opened. Payloads lie in a file beside their block, which
//! alone is written anew when a payload is erased.
//!
//! `docs/formats/block.md` has the formats, the order of writes behind each promise, and what is
//! assumed of the disk.
//!
//! *Invariant*: what was committed is read again after any crash, and nothing is read that was not
//! appended. *Invariant*: no byte of a file can make the store panic. *Boundary*: the store keeps
//! verified events; whether they are valid, effective or wanted is decided before.

mod active;
mod batch;
mod block;
mod bytes;
mod cache;
mod check;
pub mod disk;
mod error;
mod frame;
mod log;
mod memory;
mod open;
mod options;
mod proofs;
mod rebuild;
mod scan;
mod seal;
mod store;
mod summary;
mod verify;

pub use disk::{Disk, Faults, FaultyDisk, RealDisk, Space};
pub use error::{Problem, Recovery, StoreError, StoreStats, Verification};
pub use options::StoreOptions;
pub use scan::{ScanFilter, ScanPayload, ScanReport, ScanRow, See, Segment};
pub use seal::{SealJob, Sealed};
pub use store::Store;
