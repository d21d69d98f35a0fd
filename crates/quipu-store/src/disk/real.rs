//! A directory of a real file system.

use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{self, Read, Seek, Write};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::Duration;

use bytes::Bytes;
use memmap2::Mmap;

use super::{AppendFile, Disk, LockError};

/// The name of the lock file.
const LOCK_FILE: &str = "lock";

/// A directory of a real file system.
#[derive(Debug)]
pub struct RealDisk {
    root: PathBuf,
    /// What is mapped, and perhaps some that was.
    maps: Mutex<Vec<Weak<Mmap>>>,
}

/// Keeps a file mapped.
struct Mapped(Arc<Mmap>);

impl AsRef<[u8]> for Mapped {
    fn as_ref(&self) -> &[u8] {
        &self.0
    }
}

impl RealDisk {
    /// A store in that directory, which is created if it is missing.
    pub fn new(root: impl Into<PathBuf>) -> io::Result<Self> {
        let root = root.into();
        fs::create_dir_all(&root)?;
        Ok(Self { root, maps: Mutex::default() })
    }

    /// The directory.
    pub fn root(&self) -> &Path {
        &self.root
    }

    fn path(&self, path: &str) -> PathBuf {
        self.root.join(path)
    }

    /// How much room the file system has.
    pub fn space(&self) -> io::Result<Space> {
        let found = rustix::fs::statvfs(&self.root)?;
        let bytes = |blocks: u64| blocks.saturating_mul(found.f_frsize);
        Ok(Space { free: bytes(found.f_bavail), total: bytes(found.f_blocks) })
    }

    /// Temporary files, of the store and of what else is in its directory, that nobody wrote to for a while.
    pub fn leftovers(&self, age: Duration) -> io::Result<Vec<PathBuf>> {
        let mut found = Vec::new();
        let mut dirs = vec![self.root.clone()];
        while let Some(dir) = dirs.pop() {
            for entry in fs::read_dir(&dir)?.flatten() {
                let (path, Ok(meta)) = (entry.path(), entry.metadata()) else { continue };
                if meta.is_dir() {
                    dirs.push(path);
                } else if path.extension().is_some_and(|extension| extension == "tmp")
                    && meta.modified()?.elapsed().is_ok_and(|since| since >= age)
                {
                    found.push(path);
                }
            }
        }
        found.sort_unstable();
        Ok(found)
    }
}

/// Room on a file system, in bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Space {
    /// What this program may still write.
    pub free: u64,
    /// All of it.
    pub total: u64,
}

impl Disk for RealDisk {
    type Append = File;
    type Lock = File;

    fn lock(&self) -> Result<File, LockError> {
        let mut file = OpenOptions::new()
            .create(true)
            .read(true)
            .write(true)
            .truncate(false)
            .open(self.path(LOCK_FILE))?;
        match file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                let mut text = String::new();
                let read = file.read_to_string(&mut text);
                let pid = read.ok().and_then(|_| text.trim().parse().ok());
                return Err(LockError::Held { pid });
            }
            Err(TryLockError::Error(error)) => return Err(LockError::Io(error)),
        }
        // The pid only serves the message, so a failure to write it (full disk) is no failure.
        let _ = file.set_len(0);
        let _ = file.rewind();
        let _ = writeln!(file, "{}", std::process::id());
        Ok(file)
    }

    fn create_dir(&self, path: &str) -> io::Result<()> {
        fs::create_dir_all(self.path(path))
    }

    fn append(&self, path: &str) -> io::Result<File> {
        OpenOptions::new().create(true).append(true).open(self.path(path))
    }

    fn read(&self, path: &str) -> io::Result<Bytes> {
        fs::read(self.path(path)).map(Bytes::from)
    }

    fn map(&self, path: &str) -> io::Result<Bytes> {
        let file = File::open(self.path(path))?;
        if file.metadata()?.len() == 0 {
            return Ok(Bytes::new());
        }
        #[expect(
            unsafe_code,
            reason = "mapping is how large blocks are opened without reading them"
        )]
        // SAFETY: the files mapped are never written in place, neither by the store (it writes
        // aside and renames) nor, as the lock and the documentation ask, by anybody else.
        let map = Arc::new(unsafe { Mmap::map(&file)? });
        let mut maps = self.maps.lock().unwrap_or_else(PoisonError::into_inner);
        if maps.len() == maps.capacity() {
            maps.retain(|map| map.strong_count() > 0);
        }
        maps.push(Arc::downgrade(&map));
        Ok(Bytes::from_owner(Mapped(map)))
    }

    fn rest(&self) {
        let maps = self.maps.lock().unwrap_or_else(PoisonError::into_inner);
        for map in maps.iter().filter_map(Weak::upgrade) {
            #[expect(
                unsafe_code,
                reason = "gives the pages of a map back, which are read again when touched"
            )]
            // SAFETY: the map is shared and only read, and its file does not change, so a page that
            // is read again has the same bytes. If the advice is refused nothing happens.
            drop(unsafe { map.unchecked_advise(memmap2::UncheckedAdvice::DontNeed) });
        }
    }

    fn size(&self, path: &str) -> io::Result<u64> {
        fs::metadata(self.path(path)).map(|meta| meta.len())
    }

    fn write_new(&self, path: &str, bytes: &[u8]) -> io::Result<()> {
        let mut file = File::create(self.path(path))?;
        Write::write_all(&mut file, bytes)?;
        file.sync_all()
    }

    fn truncate(&self, path: &str, length: u64) -> io::Result<()> {
        let file = OpenOptions::new().write(true).open(self.path(path))?;
        file.set_len(length)?;
        file.sync_all()
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        fs::rename(self.path(from), self.path(to))
    }

    fn remove(&self, path: &str) -> io::Result<()> {
        fs::remove_file(self.path(path))
    }

    fn list(&self, dir: &str) -> io::Result<Vec<String>> {
        let entries = match fs::read_dir(self.path(dir)) {
            Ok(entries) => entries,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            Err(error) => return Err(error),
        };
        let mut names = Vec::new();
        for entry in entries {
            if let Ok(name) = entry?.file_name().into_string() {
                names.push(name);
            }
        }
        names.sort_unstable();
        Ok(names)
    }

    fn sync_dir(&self, dir: &str) -> io::Result<()> {
        #[cfg(unix)]
        File::open(self.path(dir))?.sync_all()?;
        Ok(())
    }
}

impl AppendFile for File {
    fn write_all(&mut self, bytes: &[u8]) -> io::Result<()> {
        Write::write_all(self, bytes)
    }

    fn sync(&mut self) -> io::Result<()> {
        self.sync_data()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_mapped_can_be_read_after_a_rest() {
        let dir = tempfile::tempdir().unwrap();
        let disk = RealDisk::new(dir.path()).unwrap();
        let files: Vec<(String, Vec<u8>)> =
            (0..9u8).map(|n| (n.to_string(), vec![n; 10_000 * usize::from(n)])).collect();
        for (path, bytes) in &files {
            disk.write_new(path, bytes).unwrap();
        }
        let maps: Vec<Bytes> = files.iter().map(|(path, _)| disk.map(path).unwrap()).collect();
        // Replaced and removed files stay what they were.
        disk.write_new("aside", b"other").unwrap();
        disk.rename("aside", "3").unwrap();
        disk.remove("4").unwrap();
        for _ in 0..2 {
            disk.rest();
            assert!(maps.iter().zip(&files).all(|(map, (_, bytes))| map == bytes));
        }
        drop(maps);
        disk.rest();
        assert_eq!(disk.map("3").unwrap(), &b"other"[..]);
    }
}
