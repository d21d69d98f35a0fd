//! What a step writes: in memory while it is small, else in a file of the store's own.

use std::fs::File;
use std::io::{self, Read};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use tempfile::NamedTempFile;

/// From this many bytes on, a file takes over.
const MEMORY_BYTES_MAX: usize = 256 << 10;
/// Bytes that wait for being written to the file together.
const BUFFER_BYTES: usize = 128 << 10;

/// A file that is being made, to read and write anywhere.
pub(crate) struct Spool {
    dir: PathBuf,
    size: u64,
    place: Place,
}

enum Place {
    Memory(Vec<u8>),
    File {
        file: NamedTempFile,
        /// What was written last and is not in the file yet, and where it belongs.
        buffer: Vec<u8>,
        buffer_at: u64,
    },
}

impl Spool {
    pub(crate) fn new(dir: &Path) -> Self {
        Self { dir: dir.to_owned(), size: 0, place: Place::Memory(Vec::new()) }
    }

    pub(crate) const fn size(&self) -> u64 {
        self.size
    }

    /// Moves to a file.
    fn spill(&mut self) -> io::Result<()> {
        if let Place::Memory(bytes) = &mut self.place {
            let file = NamedTempFile::new_in(&self.dir)?;
            file.as_file().write_all_at(bytes, 0)?;
            let buffer = Vec::with_capacity(BUFFER_BYTES);
            self.place = Place::File { file, buffer, buffer_at: 0 };
        }
        Ok(())
    }

    fn flush(&mut self) -> io::Result<()> {
        if let Place::File { file, buffer, buffer_at } = &mut self.place
            && !buffer.is_empty()
        {
            file.as_file().write_all_at(buffer, *buffer_at)?;
            buffer.clear();
        }
        Ok(())
    }

    /// Writes somewhere; what is between the end and there becomes zeros. The caller has checked
    /// that the end fits in 63 bits.
    pub(crate) fn write_at(&mut self, bytes: &[u8], at: u64) -> io::Result<()> {
        if bytes.is_empty() {
            return Ok(());
        }
        let end = at + bytes.len() as u64;
        if let Place::Memory(memory) = &mut self.place {
            if end <= MEMORY_BYTES_MAX as u64 {
                let (start, end) = (at as usize, end as usize);
                if memory.len() < end {
                    memory.resize(end, 0);
                }
                memory[start..end].copy_from_slice(bytes);
                self.size = memory.len() as u64;
                return Ok(());
            }
            self.spill()?;
        }
        let follows = |buffer: &Vec<u8>, from: u64| from + buffer.len() as u64 == at;
        if let Place::File { buffer, buffer_at, .. } = &self.place
            && (!follows(buffer, *buffer_at) || buffer.len() + bytes.len() > BUFFER_BYTES)
        {
            self.flush()?;
        }
        if let Place::File { file, buffer, buffer_at } = &mut self.place {
            if bytes.len() >= BUFFER_BYTES {
                file.as_file().write_all_at(bytes, at)?;
            } else {
                if buffer.is_empty() {
                    *buffer_at = at;
                }
                buffer.extend_from_slice(bytes);
            }
        }
        self.size = self.size.max(end);
        Ok(())
    }

    /// Reads as much as there is, up to the buffer's length.
    pub(crate) fn read_at(&mut self, into: &mut [u8], at: u64) -> io::Result<usize> {
        self.flush()?;
        let there = self.size.saturating_sub(at).min(into.len() as u64) as usize;
        let into = &mut into[..there];
        if there == 0 {
            return Ok(0);
        }
        match &self.place {
            Place::Memory(bytes) => {
                into.copy_from_slice(&bytes[at as usize..][..there]);
                Ok(there)
            }
            Place::File { file, .. } => {
                // A hole at the end that was never written reads as zeros.
                let mut got = 0;
                while got < there {
                    match file.as_file().read_at(&mut into[got..], at + got as u64)? {
                        0 => break,
                        more => got += more,
                    }
                }
                into[got..].fill(0);
                Ok(there)
            }
        }
    }

    /// Cuts off, or adds zeros.
    pub(crate) fn set_size(&mut self, size: u64) -> io::Result<()> {
        self.flush()?;
        if size > MEMORY_BYTES_MAX as u64 {
            self.spill()?;
        }
        match &mut self.place {
            Place::Memory(bytes) => bytes.resize(size as usize, 0),
            Place::File { file, .. } => file.as_file().set_len(size)?,
        }
        self.size = size;
        Ok(())
    }

    /// Nothing is written any more.
    pub(crate) fn finish(mut self) -> io::Result<Made> {
        self.flush()?;
        Ok(Made(match self.place {
            Place::Memory(bytes) => Inner::Memory(bytes),
            Place::File { file, .. } => Inner::File { file, size: self.size },
        }))
    }
}

impl io::Write for Spool {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.write_at(bytes, self.size)?;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// What a step has made. If it is a file and nobody renames it, it is removed with this.
#[derive(Debug)]
pub struct Made(Inner);

#[derive(Debug)]
enum Inner {
    Memory(Vec<u8>),
    File { file: NamedTempFile, size: u64 },
}

impl Made {
    /// How many bytes there are.
    pub fn size(&self) -> u64 {
        match &self.0 {
            Inner::Memory(bytes) => bytes.len() as u64,
            Inner::File { size, .. } => *size,
        }
    }

    /// The file, if it is one. Not synced.
    pub fn path(&self) -> Option<&Path> {
        match &self.0 {
            Inner::Memory(_) => None,
            Inner::File { file, .. } => Some(file.path()),
        }
    }

    /// The bytes, if they are in memory.
    pub fn bytes(&self) -> Option<&[u8]> {
        match &self.0 {
            Inner::Memory(bytes) => Some(bytes),
            Inner::File { .. } => None,
        }
    }

    /// Reads it from the beginning.
    pub fn reader(&self) -> io::Result<Box<dyn Read + '_>> {
        Ok(match &self.0 {
            Inner::Memory(bytes) => Box::new(&bytes[..]),
            Inner::File { file, .. } => Box::new(FromStart { file: file.as_file(), at: 0 }),
        })
    }
}

impl From<Vec<u8>> for Made {
    fn from(bytes: Vec<u8>) -> Self {
        Self(Inner::Memory(bytes))
    }
}

struct FromStart<'f> {
    file: &'f File,
    at: u64,
}

impl Read for FromStart<'_> {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        let read = self.file.read_at(into, self.at)?;
        self.at += read as u64;
        Ok(read)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[derive(Debug, Clone)]
    enum Act {
        Write(u64, u8, usize),
        Read(u64, usize),
        Resize(u64),
    }

    fn act() -> impl Strategy<Value = Act> {
        let size = prop_oneof![0..64usize, 0..200_000usize];
        let at = prop_oneof![0..64u64, 0..600_000u64];
        prop_oneof![
            4 => (at.clone(), any::<u8>(), size.clone()).prop_map(|(a, b, n)| Act::Write(a, b, n)),
            // In a row, as programs mostly write.
            4 => (any::<u8>(), size.clone()).prop_map(|(b, n)| Act::Write(u64::MAX, b, n)),
            2 => (at.clone(), size).prop_map(|(a, n)| Act::Read(a, n)),
            1 => at.prop_map(Act::Resize),
        ]
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]
        #[test]
        fn as_a_vector_of_bytes(acts in proptest::collection::vec(act(), 0..20)) {
            let dir = tempfile::tempdir().expect("a directory");
            let mut spool = Spool::new(dir.path());
            let mut model: Vec<u8> = Vec::new();
            for act in acts {
                match act {
                    Act::Write(at, byte, count) => {
                        let at = if at == u64::MAX { model.len() as u64 } else { at };
                        spool.write_at(&vec![byte; count], at).expect("it writes");
                        let end = at as usize + count;
                        if count > 0 && model.len() < end {
                            model.resize(end, 0);
                        }
                        if count > 0 {
                            model[at as usize..end].fill(byte);
                        }
                    }
                    Act::Read(at, count) => {
                        let mut into = vec![7; count];
                        let got = spool.read_at(&mut into, at).expect("it reads");
                        let start = (at as usize).min(model.len());
                        let end = (at as usize + count).min(model.len()).max(start);
                        prop_assert_eq!(&into[..got], &model[start..end]);
                    }
                    Act::Resize(size) => {
                        spool.set_size(size).expect("it resizes");
                        model.resize(size as usize, 0);
                    }
                }
                prop_assert_eq!(spool.size(), model.len() as u64);
            }
            let made = spool.finish().expect("it finishes");
            let mut bytes = Vec::new();
            made.reader().expect("it opens").read_to_end(&mut bytes).expect("it reads");
            prop_assert_eq!(made.size(), model.len() as u64);
            prop_assert!(bytes == model);
        }
    }
}
