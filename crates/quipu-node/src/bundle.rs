//! The frame of a bundle: events and artifacts in a file (MESH-9). See `docs/formats/bundle.md`.

use std::io::{Read, Write};

use quipu_core::event::Log;
use quipu_core::id::{ArtifactId, DomainId};

/// The first bytes of a bundle: name and version.
const MAGIC: &[u8; 8] = b"quipuB\x00\x02";
/// The same of version 1, which has events of the internal log only.
const MAGIC_1: &[u8; 8] = b"quipuB\x00\x01";
/// Bytes of an artifact in one record.
pub const CHUNK_BYTES: usize = 1 << 20;
/// Bytes of a record that begins an artifact: its key and its size.
const HEAD_BYTES: usize = 40;
/// The largest record in a bundle, in bytes.
pub const RECORD_BYTES_MAX: u32 = 16 << 20;
/// Bytes of the checksum after each record.
const CHECK_BYTES: usize = 8;

/// Writes a bundle, record by record.
#[derive(Debug)]
pub struct BundleWriter<W> {
    out: W,
    bytes: u64,
}

impl<W: Write> BundleWriter<W> {
    /// Begins a bundle of the events of a log.
    ///
    /// # Errors
    /// What could not be written.
    pub fn begin(mut out: W, domain: &DomainId, log: Log) -> std::io::Result<Self> {
        out.write_all(MAGIC)?;
        out.write_all(&domain.0)?;
        out.write_all(&[u8::from(log == Log::Published)])?;
        Ok(Self { out, bytes: (MAGIC.len() + domain.0.len() + 1) as u64 })
    }

    /// Ends the events. Artifacts may follow.
    ///
    /// # Errors
    /// What could not be written.
    pub fn end_events(&mut self) -> std::io::Result<()> {
        self.put(&[])
    }

    /// Writes an artifact.
    ///
    /// # Errors
    /// What could not be read or written, or that the bytes are not as many as was said.
    pub fn artifact(
        &mut self,
        key: &ArtifactId,
        size: u64,
        bytes: &mut dyn Read,
    ) -> std::io::Result<()> {
        let mut head = key.0.to_vec();
        head.extend_from_slice(&size.to_le_bytes());
        self.put(&head)?;
        let mut left = size;
        let mut chunk = vec![0; CHUNK_BYTES];
        while left > 0 {
            let length = left.min(CHUNK_BYTES as u64) as usize;
            bytes.read_exact(&mut chunk[..length])?;
            self.put(&chunk[..length])?;
            left -= length as u64;
        }
        Ok(())
    }

    /// Writes one packed batch.
    ///
    /// # Errors
    /// What could not be written.
    pub fn put(&mut self, packed: &[u8]) -> std::io::Result<()> {
        let length = u32::try_from(packed.len()).map_err(std::io::Error::other)?;
        self.out.write_all(&length.to_le_bytes())?;
        self.out.write_all(packed)?;
        self.out.write_all(&checksum(packed))?;
        self.bytes += 4 + u64::from(length) + CHECK_BYTES as u64;
        Ok(())
    }

    /// Ends the artifacts, and with them the bundle: a record of length 0. Gives back where it went, and how many bytes it has.
    ///
    /// # Errors
    /// What could not be written.
    pub fn end(mut self) -> std::io::Result<(W, u64)> {
        self.put(&[])?;
        Ok((self.out, self.bytes))
    }
}

fn checksum(bytes: &[u8]) -> [u8; CHECK_BYTES] {
    let mut check = [0; CHECK_BYTES];
    check.copy_from_slice(&ArtifactId::of(bytes).0[..CHECK_BYTES]);
    check
}

/// Reads a bundle, record by record.
#[derive(Debug)]
pub struct BundleReader<R> {
    reader: R,
    /// The domain whose events it holds.
    pub domain: DomainId,
    /// Which of the domain's logs they are of.
    pub log: Log,
    /// Whether artifacts follow the events.
    artifacts: bool,
    /// Bytes read so far.
    pub bytes: u64,
}

impl<R: Read> BundleReader<R> {
    /// Reads the head.
    ///
    /// # Errors
    /// Why this is no bundle.
    pub fn begin(mut reader: R) -> Result<Self, &'static str> {
        let mut head = [0; MAGIC.len() + 32];
        reader.read_exact(&mut head).map_err(|_| "not a bundle: too short")?;
        let artifacts = match head.first_chunk() {
            Some(MAGIC) => true,
            Some(MAGIC_1) => false,
            _ => return Err("not a bundle, or one of another version"),
        };
        let domain = DomainId::from_slice(&head[MAGIC.len()..]).unwrap_or_default();
        let mut log = [0];
        if artifacts {
            reader.read_exact(&mut log).map_err(|_| "not a bundle: too short")?;
        }
        let bytes = (head.len() + usize::from(artifacts)) as u64;
        let log = match log {
            [0] => Log::Internal,
            [1] => Log::Published,
            _ => return Err("not a bundle: it is of no log"),
        };
        Ok(Self { reader, domain, log, artifacts, bytes })
    }

    /// The next packed batch; nothing after the last.
    ///
    /// # Errors
    /// What is wrong with the file from here on.
    pub fn take(&mut self) -> Result<Option<Vec<u8>>, &'static str> {
        let cut = |_| "it ends early: what was whole is imported";
        let mut length = [0; 4];
        self.reader.read_exact(&mut length).map_err(cut)?;
        let length = u32::from_le_bytes(length);
        if length > RECORD_BYTES_MAX {
            return Err("a record is too large: the file is damaged");
        }
        // Room is made for what comes, not for what is announced.
        let (mut bytes, mut check) = (Vec::new(), [0; CHECK_BYTES]);
        let mut record = self.reader.by_ref().take(u64::from(length));
        record.read_to_end(&mut bytes).map_err(cut)?;
        self.reader.read_exact(&mut check).map_err(cut)?;
        if bytes.len() != length as usize || check != checksum(&bytes) {
            return Err("a record is damaged: what was before it is imported");
        }
        self.bytes += 4 + u64::from(length) + CHECK_BYTES as u64;
        Ok((length > 0).then_some(bytes))
    }

    /// After the events: the next artifact, to be read to its end; nothing after the last. Its bytes are
    /// of it only if their hash says so.
    ///
    /// # Errors
    /// What is wrong with the file from here on.
    pub fn artifact(&mut self) -> Result<Option<BundledArtifact<'_, R>>, &'static str> {
        if !self.artifacts {
            return Ok(None);
        }
        let Some(head) = self.take()? else { return Ok(None) };
        let (key, size) = head
            .split_first_chunk::<32>()
            .and_then(|(key, size)| {
                Some((ArtifactId(*key), u64::from_le_bytes(size.try_into().ok()?)))
            })
            .filter(|_| head.len() == HEAD_BYTES)
            .ok_or("a record that should begin an artifact does not")?;
        let chunk = Vec::new();
        Ok(Some(BundledArtifact {
            bundle: self,
            key,
            size,
            failed: None,
            left: size,
            chunk,
            at: 0,
        }))
    }
}

/// An artifact in a bundle.
#[derive(Debug)]
pub struct BundledArtifact<'a, R> {
    bundle: &'a mut BundleReader<R>,
    /// What it says it is.
    pub key: ArtifactId,
    /// How many bytes it says it has.
    pub size: u64,
    /// What is wrong with the file, if it cannot be read to its end.
    pub failed: Option<&'static str>,
    left: u64,
    chunk: Vec<u8>,
    at: usize,
}

impl<R: Read> BundledArtifact<'_, R> {
    fn next_chunk(&mut self) -> Result<Vec<u8>, &'static str> {
        let chunk = self.bundle.take()?.ok_or("an artifact ends early")?;
        let fits = chunk.len() as u64 <= self.left;
        fits.then_some(chunk).ok_or("an artifact is longer than it says")
    }
}

impl<R: Read> Read for BundledArtifact<'_, R> {
    fn read(&mut self, to: &mut [u8]) -> std::io::Result<usize> {
        if self.at == self.chunk.len() {
            if self.left == 0 {
                return Ok(0);
            }
            self.chunk = self.next_chunk().map_err(|what| {
                self.failed = Some(what);
                std::io::Error::other(what)
            })?;
            self.at = 0;
            self.left -= self.chunk.len() as u64;
        }
        let from = &self.chunk[self.at..];
        let count = from.len().min(to.len());
        to[..count].copy_from_slice(&from[..count]);
        self.at += count;
        Ok(count)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_written_is_read_and_every_cut_is_noticed() {
        let domain = DomainId([3; 32]);
        let mut writer = BundleWriter::begin(Vec::new(), &domain, Log::Published).unwrap();
        writer.put(b"one").unwrap();
        writer.put(&[7; 1000]).unwrap();
        writer.end_events().unwrap();
        let large = vec![5; CHUNK_BYTES + 3];
        for bytes in [&large[..], b""] {
            let (key, size) = (ArtifactId::of(bytes), bytes.len() as u64);
            writer.artifact(&key, size, &mut &*bytes).unwrap();
        }
        let (file, bytes) = writer.end().unwrap();
        assert_eq!(file.len() as u64, bytes);
        let mut reader = BundleReader::begin(&file[..]).unwrap();
        assert_eq!((reader.domain, reader.log), (domain, Log::Published));
        assert_eq!(reader.take().unwrap().unwrap(), b"one");
        assert_eq!(reader.take().unwrap().unwrap(), [7; 1000]);
        assert_eq!(reader.take(), Ok(None));
        for expected in [&large[..], b""] {
            let mut artifact = reader.artifact().unwrap().unwrap();
            assert_eq!(artifact.key, ArtifactId::of(expected));
            let mut read = Vec::new();
            artifact.read_to_end(&mut read).unwrap();
            assert!(read == expected);
        }
        assert!(reader.artifact().unwrap().is_none());
        assert_eq!(reader.bytes, bytes);
        // Every byte of heads and ends, some of the large artifact's.
        let inside = 1_200..file.len() - 200;
        for cut in (0..file.len()).filter(|cut| !inside.contains(cut) || cut % 50_021 == 0) {
            let read = BundleReader::begin(&file[..cut]).and_then(|mut reader| {
                while reader.take()?.is_some() {}
                while let Some(mut artifact) = reader.artifact()? {
                    std::io::copy(&mut artifact, &mut std::io::sink()).map_err(|_| "cut")?;
                }
                Ok(())
            });
            assert!(read.is_err(), "cut at {cut}");
        }
    }
}
