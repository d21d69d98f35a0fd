//! Reads complete artifacts, verified.

use std::io::{self, Read, Write};
use std::ops::Range;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread;

use quipu_core::id::ArtifactId;

use crate::error::{Doing, Error, Result};
use crate::files::{FileAt, Files};
use crate::store::{ArtifactStore, Complete};
use crate::tree::{Cv, Node, PAIR_BYTES, SEGMENT_BYTES, SEGMENT_GROUPS, hash_groups, open_pair};

/// Segments of 1 MiB that are read ahead.
const AHEAD: usize = 4;

/// Reads an artifact from its begin to its end. Bytes are handed out only after they were verified
/// against the name; if some do not fit, what precedes them is handed out, and then the error.
#[derive(Debug)]
pub struct Reader<F: Files> {
    segments: Segments<F>,
    buffer: Vec<u8>,
    /// What of the buffer was handed out.
    taken: usize,
}

impl<F: Files> ArtifactStore<F> {
    /// Opens a complete artifact for reading.
    pub fn open_verified(&self, key: &ArtifactId) -> Result<Reader<F>> {
        let open = self.complete(key)?.ok_or_else(|| Self::not_here(key))?;
        Ok(Reader { segments: Segments::new(open), buffer: Vec::new(), taken: 0 })
    }

    /// Writes a complete artifact out, verified, reading ahead on another thread. `progress` gets
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
            let (to_write, from) = sync_channel(AHEAD);
            let (to_free, free) = sync_channel(AHEAD + 2);
            scope.spawn(move || read_ahead(&mut segments, &to_write, &free));
            write_out(key, &from, &to_free, to, progress)
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

/// What is read ahead: bytes, and the error that follows them, if one does.
type Ahead = (Vec<u8>, Result<bool>);

fn read_ahead<F: Files>(
    segments: &mut Segments<F>,
    to: &SyncSender<Ahead>,
    free: &Receiver<Vec<u8>>,
) {
    loop {
        let mut buffer = free.try_recv().unwrap_or_default();
        let result = segments.next(&mut buffer);
        let last = !matches!(result, Ok(true));
        if to.send((buffer, result)).is_err() || last {
            return;
        }
    }
}

fn write_out(
    key: &ArtifactId,
    from: &Receiver<Ahead>,
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
        if !result? {
            break;
        }
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
            self.taken = 0;
            let more = self.segments.next(&mut self.buffer);
            if self.buffer.is_empty() {
                return more.map(|_| 0).map_err(Into::into);
            }
        }
        let n = out.len().min(self.buffer.len() - self.taken);
        out[..n].copy_from_slice(&self.buffer[self.taken..self.taken + n]);
        self.taken += n;
        Ok(n)
    }
}

/// The verified segments of an artifact, in order.
#[derive(Debug)]
struct Segments<F: Files> {
    open: Arc<Complete<F::File>>,
    /// Subtrees still to be read, with the hashes they must have; the last is the next.
    nodes: Vec<(Node, Cv)>,
    /// Once something did not fit, that is said for ever.
    damaged: Option<Range<u64>>,
}

impl<F: Files> Segments<F> {
    fn new(open: Arc<Complete<F::File>>) -> Self {
        let nodes = vec![(Node::root(open.size), open.key.0)];
        Self { open, nodes, damaged: None }
    }

    /// Puts the next segment in the buffer. Answers whether there may be more; after the end the
    /// buffer is empty. With an error about damage, the buffer holds what is good before it.
    fn next(&mut self, buffer: &mut Vec<u8>) -> Result<bool> {
        buffer.clear();
        if let Some(bytes) = self.damaged.clone() {
            return Err(Error::Damaged { key: self.open.key, bytes });
        }
        while let Some((node, cv)) = self.nodes.pop() {
            if node.groups <= SEGMENT_GROUPS {
                self.read_segment(node, &cv, buffer)?;
                // Damage is reported by the next call, if good bytes precede it.
                return if buffer.is_empty() { self.end() } else { Ok(self.has_more()) };
            }
            let Some((left, right)) = self.pair(node, &cv)? else {
                self.damaged = Some(node.bytes(self.open.size));
                return self.end();
            };
            let (l, r) = node.split();
            self.nodes.extend([(r, right), (l, left)]);
        }
        Ok(false)
    }

    fn has_more(&self) -> bool {
        self.damaged.is_some() || !self.nodes.is_empty()
    }

    fn end(&self) -> Result<bool> {
        match self.damaged.clone() {
            Some(bytes) => Err(Error::Damaged { key: self.open.key, bytes }),
            None => Ok(false),
        }
    }

    fn is_root(&self, node: Node) -> bool {
        node == Node::root(self.open.size)
    }

    fn pair(&self, node: Node, cv: &Cv) -> Result<Option<(Cv, Cv)>> {
        let mut pair = [0; PAIR_BYTES as usize];
        let Some(outboard) = &self.open.outboard else { return Ok(None) };
        let n = outboard.read_full_at(&mut pair, node.pair_offset());
        if n.doing("reading the outboard of", &self.open.key.to_string())? < pair.len() {
            return Ok(None);
        }
        Ok(open_pair(&pair, cv, self.is_root(node)))
    }

    /// Reads and verifies a segment as one; if it does not fit, what precedes the damage remains.
    fn read_segment(&mut self, node: Node, cv: &Cv, buffer: &mut Vec<u8>) -> Result<()> {
        let bytes = node.bytes(self.open.size);
        buffer.resize((bytes.end - bytes.start) as usize, 0);
        let n = self.open.data.read_full_at(buffer, bytes.start);
        let n = n.doing("reading", &self.open.key.to_string());
        let n = n.inspect_err(|_| buffer.clear())?;
        if n == buffer.len() && hash_groups(buffer, node.start, self.is_root(node)) == *cv {
            return Ok(());
        }
        buffer.truncate(n);
        let good = self.good_prefix(node, cv, buffer);
        buffer.truncate(good.as_ref().map_or(0, |good| (good - bytes.start) as usize));
        good.map(|_| ())
    }

    /// Up to where the bytes of a segment fit; notes what does not.
    fn good_prefix(&mut self, node: Node, cv: &Cv, segment: &[u8]) -> Result<u64> {
        let base = node.bytes(self.open.size).start;
        let mut nodes = vec![(node, *cv)];
        while let Some((node, cv)) = nodes.pop() {
            let bytes = node.bytes(self.open.size);
            let slice = segment.get((bytes.start - base) as usize..(bytes.end - base) as usize);
            let root = self.is_root(node);
            if slice.is_some_and(|slice| hash_groups(slice, node.start, root) == cv) {
                continue;
            }
            match if node.groups > 1 { self.pair(node, &cv)? } else { None } {
                Some((left, right)) => {
                    let (l, r) = node.split();
                    nodes.extend([(r, right), (l, left)]);
                }
                None => {
                    self.damaged = Some(bytes.clone());
                    return Ok(bytes.start);
                }
            }
        }
        Ok(base + segment.len() as u64)
    }
}
