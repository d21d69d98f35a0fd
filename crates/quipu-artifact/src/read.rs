//! Reads complete artifacts, verified.

use std::io::{self, Read, Seek, SeekFrom, Write};
use std::ops::Range;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread;

use quipu_core::id::ArtifactId;

use crate::error::{Doing, Error, Result};
use crate::files::{FileAt, Files};
use crate::store::{ArtifactStore, Complete};
use crate::tree::{Cv, Node, PAIR_BYTES, SEGMENT_BYTES, SEGMENT_GROUPS, hash_groups, open_pair};

/// Segments of 1 MiB that wait to be verified, and as many that wait to be written.
const AHEAD: usize = 3;

/// Reads an artifact, from its begin or from wherever it is sought. Bytes are handed out only after they
/// were verified against the name; if some do not fit, what precedes them is handed out, and then the error.
#[derive(Debug)]
pub struct Reader<F: Files> {
    segments: Segments<F>,
    /// Where the buffer begins in the artifact.
    start: u64,
    buffer: Vec<u8>,
    /// What of the buffer was handed out.
    taken: usize,
    /// Bytes of the next segment that precede the place that was sought.
    ahead: usize,
}

impl<F: Files> ArtifactStore<F> {
    /// Opens a complete artifact for reading.
    pub fn open_verified(&self, key: &ArtifactId) -> Result<Reader<F>> {
        let open = self.complete(key)?.ok_or_else(|| Self::not_here(key))?;
        let segments = Segments::new(open);
        Ok(Reader { segments, start: 0, buffer: Vec::new(), taken: 0, ahead: 0 })
    }

    /// Writes a complete artifact out, verified, reading and verifying ahead on two other threads. `progress` gets
    /// the number of bytes written so far. Answers the size. After an error about damage, what
    /// precedes the damage has been written.
    pub fn copy_to(
        &self,
        key: &ArtifactId,
        to: &mut dyn Write,
        progress: &mut dyn FnMut(u64),
    ) -> Result<u64> {
        let open = self.complete(key)?.ok_or_else(|| Self::not_here(key))?;
        let mut segments = Segments::<F>::new(open.clone());
        if open.size <= SEGMENT_BYTES as u64 {
            return copy_small(&mut segments, to, progress);
        }
        thread::scope(|scope| {
            let (to_check, fetched) = sync_channel(AHEAD);
            let (to_write, checked) = sync_channel(AHEAD);
            let (to_free, free) = sync_channel(2 * AHEAD + 3);
            scope.spawn(move || fetch_all(&mut segments, &to_check, &free));
            scope.spawn({
                let open = &open;
                move || check_all(open, &fetched, &to_write)
            });
            write_out(key, &checked, &to_free, to, progress)
        })
    }
}

/// Without a thread: the one segment, and what may be wrong after it.
fn copy_small<F: Files>(
    segments: &mut Segments<F>,
    to: &mut dyn Write,
    progress: &mut dyn FnMut(u64),
) -> Result<u64> {
    let key = segments.open.key;
    let sink = |source| Error::Sink { key, source };
    let (mut buffer, mut written) = (Vec::new(), 0);
    loop {
        let more = segments.next(&mut buffer)?;
        to.write_all(&buffer).map_err(sink)?;
        written += buffer.len() as u64;
        progress(written);
        if !more {
            to.flush().map_err(sink)?;
            return Ok(written);
        }
    }
}

/// What was read ahead: bytes, and what they are.
type Fetched = (Vec<u8>, Result<Raw>);
/// What was verified ahead: bytes, and the error that follows them, if one does.
type Checked = (Vec<u8>, Result<()>);

fn fetch_all<F: Files>(
    segments: &mut Segments<F>,
    to: &SyncSender<Fetched>,
    free: &Receiver<Vec<u8>>,
) {
    loop {
        let mut buffer = free.try_recv().unwrap_or_default();
        let raw = segments.fetch(&mut buffer);
        let last = !matches!(raw, Ok(Raw::Segment(..)));
        if to.send((buffer, raw)).is_err() || last {
            return;
        }
    }
}

fn check_all<H: FileAt>(open: &Complete<H>, from: &Receiver<Fetched>, to: &SyncSender<Checked>) {
    while let Ok((mut buffer, raw)) = from.recv() {
        let damaged = match raw {
            Ok(Raw::Segment(node, cv)) => check(open, node, &cv, &mut buffer),
            Ok(Raw::Damaged(bytes)) => Ok(Some(bytes)),
            Ok(Raw::End) => return,
            Err(error) => Err(error),
        };
        let result = match damaged {
            Ok(None) => Ok(()),
            Ok(Some(bytes)) => Err(Error::Damaged { key: open.key, bytes }),
            Err(error) => Err(error),
        };
        let last = result.is_err();
        if to.send((buffer, result)).is_err() || last {
            return;
        }
    }
}

fn write_out(
    key: &ArtifactId,
    from: &Receiver<Checked>,
    free: &SyncSender<Vec<u8>>,
    to: &mut dyn Write,
    progress: &mut dyn FnMut(u64),
) -> Result<u64> {
    let mut written = 0;
    let sink = |source| Error::Sink { key: *key, source };
    while let Ok((buffer, result)) = from.recv() {
        to.write_all(&buffer).map_err(sink)?;
        written += buffer.len() as u64;
        progress(written);
        let _ = free.try_send(buffer);
        result?;
    }
    to.flush().map_err(sink)?;
    Ok(written)
}

impl<F: Files> Reader<F> {
    /// The artifact.
    pub fn key(&self) -> ArtifactId {
        self.segments.open.key
    }

    /// Its size.
    pub fn size(&self) -> u64 {
        self.segments.open.size
    }
}

impl<F: Files> Read for Reader<F> {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        if out.is_empty() {
            return Ok(0);
        }
        while self.taken == self.buffer.len() {
            self.start += self.buffer.len() as u64;
            self.taken = 0;
            let more = self.segments.next(&mut self.buffer);
            if self.buffer.is_empty() {
                return more.map(|_| 0).map_err(Into::into);
            }
            self.taken = self.ahead.min(self.buffer.len());
            self.ahead -= self.taken;
        }
        let n = out.len().min(self.buffer.len() - self.taken);
        out[..n].copy_from_slice(&self.buffer[self.taken..self.taken + n]);
        self.taken += n;
        Ok(n)
    }
}

impl<F: Files> Seek for Reader<F> {
    /// Goes anywhere; what is not read on the way is not looked at. Behind the end there is nothing to read.
    fn seek(&mut self, to: SeekFrom) -> io::Result<u64> {
        let here = self.start + (self.taken + self.ahead) as u64;
        let at = match to {
            SeekFrom::Start(at) => Some(at),
            SeekFrom::End(distance) => self.size().checked_add_signed(distance),
            SeekFrom::Current(distance) => here.checked_add_signed(distance),
        };
        let at = at.ok_or_else(|| io::Error::from(io::ErrorKind::InvalidInput))?;
        let end = self.start + self.buffer.len() as u64;
        if self.ahead == 0 && (self.start..=end).contains(&at) {
            self.taken = (at - self.start) as usize;
            return Ok(at);
        }
        self.segments = Segments::from(self.segments.open.clone(), at);
        // Segments begin at multiples of their size.
        self.ahead = if at < self.size() { (at % SEGMENT_BYTES as u64) as usize } else { 0 };
        self.start = at - self.ahead as u64;
        self.buffer.clear();
        self.taken = 0;
        Ok(at)
    }
}

/// The segments of an artifact, in order.
#[derive(Debug)]
struct Segments<F: Files> {
    open: Arc<Complete<F::File>>,
    /// Segments that end before this byte are not wanted.
    from: u64,
    /// Subtrees still to be read, with the hashes they must have; the last is the next.
    nodes: Vec<(Node, Cv)>,
    /// Once something did not fit, that is said for ever.
    damaged: Option<Range<u64>>,
}

/// What was read of an artifact, not yet verified.
enum Raw {
    /// A segment that must have this hash.
    Segment(Node, Cv),
    /// The hashes above these bytes do not fit.
    Damaged(Range<u64>),
    End,
}

impl<F: Files> Segments<F> {
    fn new(open: Arc<Complete<F::File>>) -> Self {
        Self::from(open, 0)
    }

    /// Those from the one on that holds this byte.
    fn from(open: Arc<Complete<F::File>>, from: u64) -> Self {
        let nodes = vec![(Node::root(open.size), open.key.0)];
        Self { open, from, nodes, damaged: None }
    }

    /// Puts the next segment in the buffer, verified. Answers whether there may be more; after the
    /// end the buffer is empty. Good bytes before damage come first, and the error with the next
    /// call.
    fn next(&mut self, buffer: &mut Vec<u8>) -> Result<bool> {
        if self.damaged.is_none() {
            let raw = self.fetch(buffer)?;
            self.damaged = match raw {
                Raw::Segment(node, cv) => check(&self.open, node, &cv, buffer)?,
                Raw::Damaged(bytes) => Some(bytes),
                Raw::End => return Ok(false),
            };
            if !buffer.is_empty() {
                return Ok(self.damaged.is_some() || !self.nodes.is_empty());
            }
        }
        buffer.clear();
        match self.damaged.clone() {
            Some(bytes) => Err(Error::Damaged { key: self.open.key, bytes }),
            None => Ok(false),
        }
    }

    /// Puts the next segment in the buffer as it is on the disk. The buffer is empty unless the
    /// answer is a segment.
    fn fetch(&mut self, buffer: &mut Vec<u8>) -> Result<Raw> {
        while let Some((node, cv)) = self.nodes.pop() {
            if self.from > 0 && node.bytes(self.open.size).end <= self.from {
                continue;
            }
            if node.groups <= SEGMENT_GROUPS {
                return match self.read(node, buffer) {
                    Ok(()) => Ok(Raw::Segment(node, cv)),
                    Err(error) => {
                        buffer.clear();
                        // A later call may have more luck.
                        self.nodes.push((node, cv));
                        Err(error)
                    }
                };
            }
            let Some((left, right)) = pair(&self.open, node, &cv)? else {
                buffer.clear();
                return Ok(Raw::Damaged(node.bytes(self.open.size)));
            };
            let (l, r) = node.split();
            self.nodes.extend([(r, right), (l, left)]);
        }
        buffer.clear();
        Ok(Raw::End)
    }

    fn read(&self, node: Node, buffer: &mut Vec<u8>) -> Result<()> {
        let bytes = node.bytes(self.open.size);
        buffer.resize((bytes.end - bytes.start) as usize, 0);
        let n = self.open.data.read_full_at(buffer, bytes.start);
        buffer.truncate(n.doing("reading", &self.open.key.to_string())?);
        Ok(())
    }
}

/// The hashes under a node, if they fit.
fn pair<H: FileAt>(open: &Complete<H>, node: Node, cv: &Cv) -> Result<Option<(Cv, Cv)>> {
    let mut pair = [0; PAIR_BYTES as usize];
    let Some(outboard) = &open.outboard else { return Ok(None) };
    let n = outboard.read_full_at(&mut pair, node.pair_offset());
    if n.doing("reading the outboard of", &open.key.to_string())? < pair.len() {
        return Ok(None);
    }
    Ok(open_pair(&pair, cv, node == Node::root(open.size)))
}

/// Verifies a segment as one. If it does not fit, what precedes the damage remains in the buffer,
/// and the answer is the bytes that do not fit.
fn check<H: FileAt>(
    open: &Complete<H>,
    node: Node,
    cv: &Cv,
    buffer: &mut Vec<u8>,
) -> Result<Option<Range<u64>>> {
    let root = Node::root(open.size);
    let base = node.bytes(open.size).start;
    let mut nodes = vec![(node, *cv)];
    while let Some((node, cv)) = nodes.pop() {
        let bytes = node.bytes(open.size);
        let slice = buffer.get((bytes.start - base) as usize..(bytes.end - base) as usize);
        if slice.is_some_and(|slice| hash_groups(slice, node.start, node == root) == cv) {
            continue;
        }
        let below = if node.groups > 1 { pair(open, node, &cv) } else { Ok(None) };
        // Nothing but what was verified stays in the buffer, whatever happens.
        if !matches!(below, Ok(Some(_))) {
            buffer.truncate((bytes.start - base) as usize);
        }
        let Some((left, right)) = below? else { return Ok(Some(bytes)) };
        let (l, r) = node.split();
        nodes.extend([(r, right), (l, left)]);
    }
    Ok(None)
}
