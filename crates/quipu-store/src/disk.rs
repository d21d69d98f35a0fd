//! The seam between the store and the disk. [`RealDisk`] is a directory; [`FaultyDisk`] keeps
//! everything in memory and fails on request.
//!
//! Paths are relative to the root of the store, with `/` between names. What the store assumes of
//! a disk is written down in `docs/formats/block.md`.

mod faulty;
mod real;

use std::io;

use bytes::Bytes;

pub use faulty::{Faults, FaultyDisk};
pub use real::{RealDisk, Space};

/// Files by relative path, with the few operations that a log needs.
pub trait Disk: Send + Sync + 'static {
    /// A file that is open for appending.
    type Append: AppendFile;
    /// Held as long as nobody else may open the store.
    type Lock: Send + Sync + 'static;

    /// Takes the lock of the store, or says who has it.
    fn lock(&self) -> Result<Self::Lock, LockError>;
    /// Creates a directory and its parents; nothing happens if it exists.
    fn create_dir(&self, path: &str) -> io::Result<()>;
    /// Opens a file for appending at its end, creating it if it is missing.
    fn append(&self, path: &str) -> io::Result<Self::Append>;
    /// Reads a whole file.
    fn read(&self, path: &str) -> io::Result<Bytes>;
    /// A view of a whole file that is not read until it is touched. The file must not change in
    /// place while the view lives; replacing it by a rename is fine.
    fn map(&self, path: &str) -> io::Result<Bytes>;
    /// Tells the system that what was mapped will not be read soon, so that it takes no memory. Views
    /// stay what they are.
    fn rest(&self) {}
    /// Size of a file.
    fn size(&self, path: &str) -> io::Result<u64>;
    /// Creates or replaces a file and makes its content durable. Its name is durable only after
    /// [`Disk::sync_dir`].
    fn write_new(&self, path: &str, bytes: &[u8]) -> io::Result<()>;
    /// Cuts a file to a length, durably.
    fn truncate(&self, path: &str, length: u64) -> io::Result<()>;
    /// Renames a file, replacing what had that name before.
    fn rename(&self, from: &str, to: &str) -> io::Result<()>;
    /// Removes a file.
    fn remove(&self, path: &str) -> io::Result<()>;
    /// Names in a directory, sorted; none if there is no such directory.
    fn list(&self, dir: &str) -> io::Result<Vec<String>>;
    /// Makes creations, renames and removals in a directory durable.
    fn sync_dir(&self, dir: &str) -> io::Result<()>;
}

/// A file that is open for appending.
pub trait AppendFile: Send + Sync + 'static {
    /// Appends all bytes. After an error the file may end with any part of them.
    fn write_all(&mut self, bytes: &[u8]) -> io::Result<()>;
    /// Makes everything that was appended durable.
    fn sync(&mut self) -> io::Result<()>;
}

/// Why the lock of a store could not be taken.
#[derive(Debug)]
pub enum LockError {
    /// Another process, or another store in this process, has it.
    Held {
        /// The holder, if it could be read.
        pid: Option<u32>,
    },
    /// The lock file cannot be used.
    Io(io::Error),
}

impl From<io::Error> for LockError {
    fn from(error: io::Error) -> Self {
        Self::Io(error)
    }
}
