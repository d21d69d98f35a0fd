//! A directory of a real file system.

use std::fs::{self, File, Metadata, OpenOptions};
use std::hash::{BuildHasher, Hasher};
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::{FileAt, Files};

/// A directory of a real file system.
#[derive(Debug, Clone)]
pub struct RealFiles {
    root: PathBuf,
}

impl RealFiles {
    /// Files in that directory, which is created if it is missing.
    pub fn new(root: impl Into<PathBuf>) -> io::Result<Self> {
        let root = root.into();
        fs::create_dir_all(&root)?;
        Ok(Self { root })
    }

    /// The directory.
    pub fn root(&self) -> &Path {
        &self.root
    }

    fn path(&self, path: &str) -> PathBuf {
        self.root.join(path)
    }

    fn metadata(&self, path: &str) -> io::Result<Metadata> {
        fs::symlink_metadata(self.path(path))
    }
}

impl Files for RealFiles {
    type File = File;

    fn create_dir(&self, path: &str) -> io::Result<()> {
        fs::create_dir_all(self.path(path))
    }

    fn create(&self, path: &str) -> io::Result<File> {
        OpenOptions::new().create_new(true).read(true).write(true).open(self.path(path))
    }

    fn open(&self, path: &str) -> io::Result<File> {
        File::open(self.path(path))
    }

    fn open_rw(&self, path: &str) -> io::Result<File> {
        OpenOptions::new().create(true).truncate(false).read(true).write(true).open(self.path(path))
    }

    fn length(&self, path: &str) -> io::Result<Option<u64>> {
        match self.metadata(path) {
            Ok(meta) if meta.is_file() => Ok(Some(meta.len())),
            Ok(_) => Ok(None),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error),
        }
    }

    fn allocated(&self, path: &str) -> io::Result<u64> {
        let meta = self.metadata(path)?;
        #[cfg(unix)]
        let bytes = std::os::unix::fs::MetadataExt::blocks(&meta) * 512;
        #[cfg(not(unix))]
        let bytes = meta.len();
        Ok(bytes)
    }

    fn age(&self, path: &str) -> io::Result<Duration> {
        // A file from the future is a new one.
        Ok(self.metadata(path)?.modified()?.elapsed().unwrap_or_default())
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

    fn process(&self) -> u32 {
        std::process::id()
    }

    fn may_run(&self, process: u32) -> bool {
        // Where there is no /proc, only age tells.
        let proc = Path::new("/proc");
        !proc.join("self").exists() || proc.join(process.to_string()).exists()
    }

    fn aside(&self, job: Box<dyn FnOnce() + Send>) {
        drop(std::thread::Builder::new().name("aside".to_owned()).spawn(job));
    }

    fn nonce(&self) -> u64 {
        std::hash::RandomState::new().build_hasher().finish()
    }
}

impl FileAt for File {
    #[cfg(unix)]
    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        std::os::unix::fs::FileExt::read_at(self, buffer, offset)
    }

    #[cfg(unix)]
    fn write_all_at(&self, bytes: &[u8], offset: u64) -> io::Result<()> {
        std::os::unix::fs::FileExt::write_all_at(self, bytes, offset)
    }

    #[cfg(windows)]
    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        std::os::windows::fs::FileExt::seek_read(self, buffer, offset)
    }

    #[cfg(windows)]
    fn write_all_at(&self, mut bytes: &[u8], mut offset: u64) -> io::Result<()> {
        while !bytes.is_empty() {
            let n = std::os::windows::fs::FileExt::seek_write(self, bytes, offset)?;
            if n == 0 {
                return Err(io::ErrorKind::WriteZero.into());
            }
            (bytes, offset) = (&bytes[n..], offset + n as u64);
        }
        Ok(())
    }

    fn sync(&self) -> io::Result<()> {
        self.sync_all()
    }

    fn length(&self) -> io::Result<u64> {
        Ok(self.metadata()?.len())
    }
}
