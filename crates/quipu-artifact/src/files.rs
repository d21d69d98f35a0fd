//! The seam between the store and the file system. [`RealFiles`] is a directory; [`MemoryFiles`]
//! keeps everything in memory, and fails on request.
//!
//! Paths are relative to the root of the store, with `/` between names.

mod memory;
mod real;

use std::fmt;
use std::io;
use std::time::Duration;

pub use memory::{Faults, MemoryFile, MemoryFiles};
pub use real::RealFiles;

/// Files by relative path, with the few operations that the store needs.
pub trait Files: fmt::Debug + Send + Sync + 'static {
    /// A file that is open.
    type File: FileAt;

    /// Creates a directory; nothing happens if it exists. Its name is durable only after
    /// [`Files::sync_dir`] of its parent.
    fn create_dir(&self, path: &str) -> io::Result<()>;
    /// Creates a file that must not exist, for reading and writing.
    fn create(&self, path: &str) -> io::Result<Self::File>;
    /// Opens a file for reading.
    fn open(&self, path: &str) -> io::Result<Self::File>;
    /// Opens a file for reading and writing, creating it if it is missing.
    fn open_rw(&self, path: &str) -> io::Result<Self::File>;
    /// Length of a regular file, or nothing if there is no such file. Links are not followed.
    fn length(&self, path: &str) -> io::Result<Option<u64>>;
    /// Bytes of the disk that a file takes; less than its length if it has holes.
    fn allocated(&self, path: &str) -> io::Result<u64>;
    /// How long ago a file was written to.
    fn age(&self, path: &str) -> io::Result<Duration>;
    /// Renames a file, replacing what had that name before.
    fn rename(&self, from: &str, to: &str) -> io::Result<()>;
    /// Removes a file.
    fn remove(&self, path: &str) -> io::Result<()>;
    /// Names in a directory, sorted; none if there is no such directory.
    fn list(&self, dir: &str) -> io::Result<Vec<String>>;
    /// Makes creations, renames and removals in a directory durable.
    fn sync_dir(&self, dir: &str) -> io::Result<()>;
    /// The number of this process.
    fn process(&self) -> u32;
    /// Whether a process of that number may still run. When in doubt, it does.
    fn may_run(&self, process: u32) -> bool;
    /// Does something beside everything else, or leaves it out: nothing may hang on it.
    fn aside(&self, job: Box<dyn FnOnce() + Send>);
    /// A number that is hardly used twice. It names files; nothing secret hangs on it.
    fn nonce(&self) -> u64;
}

/// A file that is open, read and written at offsets.
pub trait FileAt: fmt::Debug + Send + Sync + 'static {
    /// Reads some bytes at an offset; 0 at the end of the file.
    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize>;
    /// Writes all bytes at an offset; what lies between there and the old end reads as zeros.
    fn write_all_at(&self, bytes: &[u8], offset: u64) -> io::Result<()>;
    /// Makes bytes and length durable.
    fn sync(&self) -> io::Result<()>;
    /// Length.
    fn length(&self) -> io::Result<u64>;

    /// Reads until the buffer is full or the file ends; says how much was read.
    fn read_full_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        let mut filled = 0;
        while filled < buffer.len() {
            match self.read_at(&mut buffer[filled..], offset + filled as u64) {
                Ok(0) => break,
                Ok(n) => filled += n,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(filled)
    }
}
