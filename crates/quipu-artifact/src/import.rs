//! Takes bytes in: copied, hashed and given an outboard in one pass, first aside, then adopted.

use std::io::{self, Read};
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread::{self, ScopedJoinHandle};

use quipu_core::artifact::{ARTIFACT_BYTES_MAX, GROUP_BYTES};
use quipu_core::id::ArtifactId;

use crate::error::{Doing, Error, Result};
use crate::files::{FileAt, Files, RealFiles};
use crate::store::{ArtifactStore, INCOMING, OUTBOARD};
use crate::tree::{Builder, Cv, SEGMENT_BYTES, SEGMENT_GROUPS, hash_groups, outboard_bytes};

/// Segments of 1 MiB in memory, at most.
const SEGMENTS_MAX: usize = 8;
/// Pairs are written when there are so many bytes of them.
const PAIRS_FLUSH: usize = 256 << 10;
/// Threads that hash, at most.
const HASHERS_MAX: usize = 2;

/// An artifact that is aside: complete, hashed and durable, but not yet in its place.
#[derive(Debug, Clone, PartialEq, Eq)]
#[must_use = "it stays aside until it is adopted"]
pub struct Imported {
    /// The hash of its bytes.
    pub key: ArtifactId,
    /// How many there are.
    pub size: u64,
    /// The name of its file in `incoming/`, by which another process can adopt it.
    pub name: String,
}

impl<F: Files> ArtifactStore<F> {
    /// Reads to the end, and keeps a copy aside. `progress` gets the number of bytes read so far.
    pub fn import(&self, reader: impl Read, progress: &mut dyn FnMut(u64)) -> Result<Imported> {
        let name = self.new_name();
        let result = self.import_as(&name, reader, progress);
        if result.is_err() {
            self.remove_aside(&name);
        }
        let (key, size) = result?;
        Ok(Imported { key, size, name })
    }

    fn new_name(&self) -> String {
        format!("{}-{:016x}", self.files.process(), self.files.nonce())
    }

    /// Moves what was imported to its place.
    pub fn adopt(&self, imported: Imported) -> Result<()> {
        self.adopt_named(&imported.name, &imported.key, imported.size)
    }

    /// Moves what another process imported to its place. That the bytes have this hash is believed;
    /// they are verified whenever they are read.
    pub fn adopt_named(&self, name: &str, key: &ArtifactId, size: u64) -> Result<()> {
        let refuse = |reason| Error::Adopt { name: name.chars().take(80).collect(), reason };
        if !is_plain(name) {
            return Err(refuse("not a name that an import has"));
        }
        let (data, outboard) = aside(name);
        if size > ARTIFACT_BYTES_MAX {
            return Err(refuse("too large"));
        }
        match self.files.length(&data).doing("looking at", &data)? {
            None => return Err(refuse("no such import")),
            Some(length) if length != size => return Err(refuse("another size")),
            Some(_) => {}
        }
        let pairs = outboard_bytes(size);
        if pairs > 0 && self.files.length(&outboard).doing("looking at", &outboard)? != Some(pairs)
        {
            return Err(refuse("no outboard that fits"));
        }
        self.with_slot(key, |slot| {
            // In place of what is here: that may have been damaged since, this was just hashed.
            self.put_in_place(key, &data, (pairs > 0).then_some(&*outboard))?;
            self.drop_in(key, slot)
        })
    }

    /// Gives up what was imported.
    pub fn discard(&self, imported: Imported) {
        self.remove_aside(&imported.name);
    }

    /// Removes the files of an import. What cannot be removed now is left to [`Self::clean`].
    fn remove_aside(&self, name: &str) {
        let (data, outboard) = aside(name);
        for path in [data, outboard] {
            if self.exists(&path).unwrap_or(false) {
                let _ = self.files.remove(&path);
            }
        }
    }

    fn import_as(
        &self,
        name: &str,
        mut reader: impl Read,
        progress: &mut dyn FnMut(u64),
    ) -> Result<(ArtifactId, u64)> {
        let (data_path, outboard_path) = aside(name);
        let data = self.files.create(&data_path).doing("creating", &data_path)?;
        let mut first = Vec::new();
        let more = fill(&mut reader, &mut first).map_err(Error::Source)?;
        progress(first.len() as u64);
        if first.len() as u64 <= GROUP_BYTES {
            data.write_all_at(&first, 0).doing("writing", &data_path)?;
            data.sync().doing("syncing", &data_path)?;
            return Ok((ArtifactId::of(&first), first.len() as u64));
        }
        let outboard = self.files.create(&outboard_path).doing("creating", &outboard_path)?;
        let mut sink = Sink::new((&data, &data_path), (&outboard, &outboard_path), true);
        if more {
            pipeline(first, reader, progress, sink)
        } else {
            let hashes = hash_each(&first, 0);
            sink.take(&first, &hashes)?;
            sink.finish()
        }
    }
}

impl ArtifactStore<RealFiles> {
    /// Takes a file over, which must be on the file system of the store, and which nobody writes any more: it is
    /// moved aside and hashed where it is, so that its bytes are not copied.
    ///
    /// # Errors
    /// If it cannot be moved or read. Once it was moved it is gone then.
    pub fn take_over(&self, path: &Path) -> Result<Imported> {
        let name = self.new_name();
        let (data, _) = aside(&name);
        std::fs::rename(path, self.files.root().join(&data)).doing("moving to", &data)?;
        let result = self.hash_aside(&name);
        if result.is_err() {
            self.remove_aside(&name);
        }
        let (key, size) = result?;
        Ok(Imported { key, size, name })
    }

    fn hash_aside(&self, name: &str) -> Result<(ArtifactId, u64)> {
        let (data_path, outboard_path) = aside(name);
        let data = self.files.open_rw(&data_path).doing("opening", &data_path)?;
        let mut reader = Sequential { file: &data, at: 0 };
        let mut first = Vec::new();
        let more = fill(&mut reader, &mut first).map_err(Error::Source)?;
        if first.len() as u64 <= GROUP_BYTES {
            data.sync().doing("syncing", &data_path)?;
            return Ok((ArtifactId::of(&first), first.len() as u64));
        }
        let outboard = self.files.create(&outboard_path).doing("creating", &outboard_path)?;
        let mut sink = Sink::new((&data, &data_path), (&outboard, &outboard_path), false);
        if more {
            return pipeline(first, reader, &mut |_| (), sink);
        }
        let hashes = hash_each(&first, 0);
        sink.take(&first, &hashes)?;
        sink.finish()
    }
}

/// A file from its beginning on.
struct Sequential<'f, H> {
    file: &'f H,
    at: u64,
}

impl<H: FileAt> Read for Sequential<'_, H> {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        let read = self.file.read_at(into, self.at)?;
        self.at += read as u64;
        Ok(read)
    }
}

/// Paths of the data and the outboard of an import.
fn aside(name: &str) -> (String, String) {
    (format!("{INCOMING}/{name}"), format!("{INCOMING}/{name}{OUTBOARD}"))
}

/// Whether a name is of the form that imports have: digits, `-`, hexadecimal digits.
fn is_plain(name: &str) -> bool {
    let Some((process, nonce)) = name.split_once('-') else { return false };
    let digits = |text: &str| text.bytes().all(|b| b.is_ascii_hexdigit());
    process.parse::<u32>().is_ok() && digits(process) && nonce.len() == 16 && digits(nonce)
}

/// Fills the buffer up to a segment. Answers whether there may be more.
fn fill(reader: &mut impl Read, buffer: &mut Vec<u8>) -> io::Result<bool> {
    buffer.resize(SEGMENT_BYTES, 0);
    let mut filled = 0;
    while filled < buffer.len() {
        match reader.read(&mut buffer[filled..]) {
            Ok(0) => {
                buffer.truncate(filled);
                return Ok(false);
            }
            Ok(n) => filled += n,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(true)
}

/// The hashes of the groups of a segment.
fn hash_each(segment: &[u8], number: u64) -> Vec<Cv> {
    let start = number * SEGMENT_GROUPS;
    let groups = segment.chunks(GROUP_BYTES as usize).zip(start..);
    groups.map(|(bytes, group)| hash_groups(bytes, group, false)).collect()
}

/// Where segments and their hashes end up, in order.
struct Sink<'a, H> {
    data: (&'a H, &'a str),
    /// Whether the data still has to be written.
    writes: bool,
    outboard: (&'a H, &'a str),
    builder: Builder,
    size: u64,
    pairs: Vec<u8>,
    pairs_written: u64,
}

impl<'a, H: FileAt> Sink<'a, H> {
    fn new(data: (&'a H, &'a str), outboard: (&'a H, &'a str), writes: bool) -> Self {
        let builder = Builder::default();
        Self { data, writes, outboard, builder, size: 0, pairs: Vec::new(), pairs_written: 0 }
    }

    fn take(&mut self, segment: &[u8], hashes: &[Cv]) -> Result<()> {
        if self.writes {
            self.data.0.write_all_at(segment, self.size).doing("writing", self.data.1)?;
        }
        self.size += segment.len() as u64;
        for hash in hashes {
            self.builder.push(*hash, &mut self.pairs);
        }
        if self.pairs.len() >= PAIRS_FLUSH { self.flush() } else { Ok(()) }
    }

    fn flush(&mut self) -> Result<()> {
        let (file, path) = self.outboard;
        file.write_all_at(&self.pairs, self.pairs_written).doing("writing", path)?;
        self.pairs_written += self.pairs.len() as u64;
        self.pairs.clear();
        Ok(())
    }

    fn finish(mut self) -> Result<(ArtifactId, u64)> {
        let key = std::mem::take(&mut self.builder).finish(&mut self.pairs);
        self.flush()?;
        self.outboard.0.sync().doing("syncing", self.outboard.1)?;
        self.data.0.sync().doing("syncing", self.data.1)?;
        Ok((key, self.size))
    }
}

type Hashed = (Vec<u8>, Vec<Cv>);

/// Reads on this thread, hashes on one or two, and writes on another. Segments go round: they are
/// used again when they are written. All writes are on one thread, so their order is fixed.
fn pipeline<H: FileAt>(
    first: Vec<u8>,
    mut reader: impl Read,
    progress: &mut dyn FnMut(u64),
    sink: Sink<'_, H>,
) -> Result<(ArtifactId, u64)> {
    let hashers = thread::available_parallelism().map_or(1, |n| n.get() / 2).clamp(1, HASHERS_MAX);
    let given_up = AtomicBool::new(false);
    thread::scope(|scope| {
        let (to_free, free) = sync_channel(SEGMENTS_MAX);
        let (mut to_hash, mut hashed) = (Vec::new(), Vec::new());
        for hasher in 0..hashers {
            let (to, from) = sync_channel::<Vec<u8>>(SEGMENTS_MAX);
            let (to_write, written) = sync_channel::<Hashed>(SEGMENTS_MAX);
            scope.spawn(move || hash_all(&from, &to_write, hasher, hashers));
            to_hash.push(to);
            hashed.push(written);
        }
        let given_up = &given_up;
        let writer = scope.spawn(move || write_all(sink, &hashed, &to_free, given_up));
        let read = read_all(first, &mut reader, progress, &to_hash, &free);
        given_up.store(read.is_err(), Ordering::Relaxed);
        drop(to_hash);
        let written = joined(writer);
        read?;
        written
    })
}

fn joined<T>(thread: ScopedJoinHandle<'_, T>) -> T {
    thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
}

/// Hands out segments in turns, until the end or until nobody takes them.
fn read_all(
    first: Vec<u8>,
    reader: &mut impl Read,
    progress: &mut dyn FnMut(u64),
    to_hash: &[SyncSender<Vec<u8>>],
    free: &Receiver<Vec<u8>>,
) -> Result<()> {
    let mut size = first.len() as u64;
    let mut segment = first;
    for number in 0.. {
        // If nobody takes it, the writer has failed and says why.
        if to_hash[number % to_hash.len()].send(segment).is_err() {
            return Ok(());
        }
        segment = if number + 1 < SEGMENTS_MAX {
            Vec::new()
        } else if let Ok(segment) = free.recv() {
            segment
        } else {
            return Ok(());
        };
        let more = fill(reader, &mut segment).map_err(Error::Source)?;
        size += segment.len() as u64;
        if size > ARTIFACT_BYTES_MAX {
            return Err(Error::TooLarge);
        }
        progress(size);
        if !more {
            if !segment.is_empty() {
                let _ = to_hash[(number + 1) % to_hash.len()].send(segment);
            }
            return Ok(());
        }
    }
    Ok(())
}

fn hash_all(from: &Receiver<Vec<u8>>, to: &SyncSender<Hashed>, first: usize, step: usize) {
    let mut number = first as u64;
    while let Ok(segment) = from.recv() {
        let hashes = hash_each(&segment, number);
        number += step as u64;
        if to.send((segment, hashes)).is_err() {
            return;
        }
    }
}

fn write_all<H: FileAt>(
    mut sink: Sink<'_, H>,
    hashed: &[Receiver<Hashed>],
    free: &SyncSender<Vec<u8>>,
    given_up: &AtomicBool,
) -> Result<(ArtifactId, u64)> {
    for number in 0.. {
        let Ok((segment, hashes)) = hashed[number % hashed.len()].recv() else { break };
        sink.take(&segment, &hashes)?;
        let _ = free.try_send(segment);
    }
    if given_up.load(Ordering::Relaxed) {
        // The reader says why.
        return Err(Error::TooLarge);
    }
    sink.finish()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_names_of_imports_are_plain() {
        assert!(is_plain("17-0123456789abcdef"));
        for bad in [
            "",
            "17",
            "17-",
            "../17-0123456789abcdef",
            "17-0123456789abcde/",
            "17-../../../../etc/",
            "17-0123456789abcdef.obao",
            "+1-0123456789abcdef",
            "99999999999-0123456789abcdef",
        ] {
            assert!(!is_plain(bad), "{bad}");
        }
    }
}
