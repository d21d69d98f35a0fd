//! Frames: how committed events lie in an active file.
//!
//! | bytes | what |
//! |---|---|
//! | 4 | `qfr1` for the first frame of a commit, `qfr+` for the others |
//! | 4 | length of the body |
//! | 8 | checksum of the frame before, or of the file header |
//! | 8 | checksum over the offset in the file, all fields before, and the body (BLAKE3, cut) |
//! | n | body: a packed batch of a stream that runs over the whole file |
//!
//! The checksums form a chain, so that no stale or foreign frame can follow a good one, and yet
//! each frame can be checked alone: this tells a torn commit from a damaged file.

use quipu_core::codec::pack::{self, Context, Nothing};
use quipu_core::event::Event;
use quipu_core::id::DomainId;

use crate::batch::batches;
use crate::bytes::{array_at, hash, put_u32, u32_at};

/// Bytes before the body of a frame.
pub(crate) const FRAME_HEADER_BYTES: usize = 24;
const FIRST: &[u8; 4] = b"qfr1";
const LATER: &[u8; 4] = b"qfr+";
/// Events in a frame, at most: what is lost at once to a torn write.
const FRAME_EVENTS_MAX: usize = 4096;
/// Bytes in a frame before anything else, at most.
const FRAME_BYTES_MAX: usize = 1 << 20;

/// A checksum in the chain.
pub(crate) type Link = [u8; 8];

/// The offset is part of it, so that a frame inside a payload, which is somebody else's bytes, is
/// not taken for one of ours.
fn link_of(at: usize, head: &[u8], body: &[u8]) -> Link {
    let digest = hash(&[&(at as u64).to_le_bytes(), head, body]);
    let mut link = Link::default();
    link.copy_from_slice(&digest[..8]);
    link
}

/// Writes frames: the end of the chain and the memory of the packed stream.
pub(crate) struct FrameWriter {
    /// Where the next frame goes.
    at: usize,
    link: Link,
    context: Context,
}

impl FrameWriter {
    /// A writer for a file that has only its header: the length of that, and its checksum.
    pub(crate) fn new(at: usize, link: Link) -> Self {
        Self { at, link, context: Context::writer().without_compression() }
    }

    /// Appends one commit.
    pub(crate) fn put_commit(&mut self, events: &[Event], out: &mut Vec<u8>) {
        let mut magic = FIRST;
        for batch in batches(events, FRAME_EVENTS_MAX, FRAME_BYTES_MAX) {
            let body = pack::encode(batch, &mut self.context, &Nothing);
            let start = out.len();
            out.extend_from_slice(magic);
            put_u32(out, body.len());
            out.extend_from_slice(&self.link);
            self.link = link_of(self.at, &out[start..], &body);
            out.extend_from_slice(&self.link);
            out.extend_from_slice(&body);
            self.at += FRAME_HEADER_BYTES + body.len();
            magic = LATER;
        }
    }
}

/// A frame whose checksum is right.
struct Frame<'a> {
    first_of_commit: bool,
    before: Link,
    link: Link,
    body: &'a [u8],
}

impl<'a> Frame<'a> {
    fn at(bytes: &'a [u8], at: usize) -> Option<Self> {
        let magic: [u8; 4] = array_at(bytes, at)?;
        if magic != *FIRST && magic != *LATER {
            return None;
        }
        let length = u32_at(bytes, at + 4)?;
        let (before, link): (Link, Link) = (array_at(bytes, at + 8)?, array_at(bytes, at + 16)?);
        let start = at + FRAME_HEADER_BYTES;
        let body = bytes.get(start..start.checked_add(length as usize)?)?;
        let right = link_of(at, &bytes[at..at + 16], body) == link;
        right.then_some(Self { first_of_commit: magic == *FIRST, before, link, body })
    }
}

/// What the frames of a file hold.
#[derive(Debug, Default)]
pub(crate) struct Replay {
    /// Their events.
    pub(crate) events: Vec<Event>,
    /// Where the good frames end.
    pub(crate) end: usize,
    /// Why they end before the file does.
    pub(crate) rest: Option<Rest>,
}

/// What follows the good frames of a file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Rest {
    /// The remains of a write that never finished.
    Torn,
    /// Something that was whole once.
    Damaged(String),
}

/// Reads the frames of a file, from an offset on.
pub(crate) fn replay(bytes: &[u8], start: usize, link: Link, domain: &DomainId) -> Replay {
    let mut replay = Replay { end: start, ..Replay::default() };
    let mut context = Context::reader();
    let mut link = link;
    while replay.end < bytes.len() {
        let frame = Frame::at(bytes, replay.end).filter(|frame| frame.before == link);
        let Some(frame) = frame else {
            replay.rest = Some(judge_rest(bytes, replay.end));
            return replay;
        };
        match pack::decode(frame.body, &mut context, &Nothing, domain) {
            Ok(mut events) => replay.events.append(&mut events),
            Err(error) => {
                replay.rest = Some(Rest::Damaged(error.to_string()));
                return replay;
            }
        }
        link = frame.link;
        replay.end += FRAME_HEADER_BYTES + frame.body.len();
    }
    replay
}

/// A commit is written only after the one before it was synced. So what follows the last good
/// frame is torn, unless it holds the first frame of a later commit.
fn judge_rest(bytes: &[u8], bad: usize) -> Rest {
    let mut at = bad;
    while let Some(found) = bytes[at..].windows(4).position(|window| window == FIRST) {
        at += found;
        if Frame::at(bytes, at).is_some_and(|frame| frame.first_of_commit) {
            return Rest::Damaged(format!("bad frame, yet a later commit is there, at byte {at}"));
        }
        at += 1;
    }
    Rest::Torn
}
