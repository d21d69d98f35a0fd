//! The log on disk. See `docs/formats/block.md`.

pub mod disk;
mod error;
mod options;
mod store;

pub use disk::{Disk, FaultyDisk, RealDisk};
pub use error::{Problem, Recovery, StoreError, StoreStats, Verification};
pub use options::StoreOptions;
pub use store::{SealJob, Sealed, Store};
