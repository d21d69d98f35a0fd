//! The bytes of artifacts on disk.
//!
//! An artifact is named by the BLAKE3 hash of its bytes. [`ArtifactStore`] keeps them as plain
//! files, each with the inner hashes of its tree beside it (the *outboard*, one pair of hashes for
//! each two groups of 16 KiB), so that every group can be verified by itself: when it is read, when
//! it is sent, and when it comes from a peer, before anything of it is written.
//!
//! The layout is in `docs/formats/artifact.md`.

mod cache;
mod check;
mod early;
mod error;
mod files;
mod groups;
mod import;
mod part;
mod partial;
mod read;
mod store;
mod tree;

pub use check::Problem;
pub use error::{Error, Result};
pub use files::{Faults, FileAt, Files, MemoryFile, MemoryFiles, RealFiles};
pub use import::Imported;
pub use part::{PART_BYTES_MAX, Part, PartError, Written};
pub use partial::Missing;
pub use read::Reader;
pub use store::ArtifactStore;
