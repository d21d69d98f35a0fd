//! The frame of a bundle: events in a file (MESH-9). See `docs/formats/bundle.md`.

use std::io::{Read, Write};

use quipu_core::id::{ArtifactId, DomainId};

/// The first bytes of a bundle: name and version.
const MAGIC: &[u8; 8] = b"quipuB\x00\x01";
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
    /// Begins a bundle of a domain's events.
    ///
    /// # Errors
    /// What could not be written.
    pub fn begin(mut out: W, domain: &DomainId) -> std::io::Result<Self> {
        out.write_all(MAGIC)?;
        out.write_all(&domain.0)?;
        Ok(Self { out, bytes: (MAGIC.len() + domain.0.len()) as u64 })
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

    /// Ends the bundle: a record of length 0. Gives back where it went, and how many bytes it has.
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
        if &head[..MAGIC.len()] != MAGIC {
            return Err("not a bundle, or one of another version");
        }
        let domain = DomainId::from_slice(&head[MAGIC.len()..]).unwrap_or_default();
        Ok(Self { reader, domain, bytes: head.len() as u64 })
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
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_written_is_read_and_every_cut_is_noticed() {
        let domain = DomainId([3; 32]);
        let mut writer = BundleWriter::begin(Vec::new(), &domain).unwrap();
        writer.put(b"one").unwrap();
        writer.put(&[7; 1000]).unwrap();
        let (file, bytes) = writer.end().unwrap();
        assert_eq!(file.len() as u64, bytes);
        let mut reader = BundleReader::begin(&file[..]).unwrap();
        assert_eq!(reader.domain, domain);
        assert_eq!(reader.take().unwrap().unwrap(), b"one");
        assert_eq!(reader.take().unwrap().unwrap(), [7; 1000]);
        assert_eq!((reader.take(), reader.bytes), (Ok(None), bytes));
        for cut in 0..file.len() {
            let read = BundleReader::begin(&file[..cut]).and_then(|mut reader| {
                while reader.take()?.is_some() {}
                Ok(())
            });
            assert!(read.is_err(), "cut at {cut}");
        }
    }
}
