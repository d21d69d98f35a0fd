//! Reading records from a stream, and counting what the driver has not consumed.

use std::sync::atomic::{AtomicUsize, Ordering};

use bytes::{BufMut, Bytes, BytesMut};
use iroh::endpoint::RecvStream;
use tokio::io::AsyncReadExt;

use crate::config::{FRAME_BYTES_MAX, RECV_WINDOW, frame_charge};
use crate::outbox::GRANT_MARK;

/// How many bytes of a frame are made room for before any of them came: a hostile length costs no
/// more than this until the bytes follow.
const FIRST_ROOM_BYTES: usize = 64 << 10;

/// The charge of the frames delivered by a link and not yet consumed.
#[derive(Debug, Default)]
pub(crate) struct Window {
    taken: AtomicUsize,
}

impl Window {
    /// Counts a frame that was announced. Says whether the sender had the right to send it.
    fn take(&self, frame_bytes: usize) -> bool {
        let taken = self.taken.fetch_add(frame_charge(frame_bytes), Ordering::AcqRel);
        taken + frame_charge(frame_bytes) <= RECV_WINDOW
    }

    /// Counts a delivered frame as consumed. Returns the charge to grant anew, which is never more
    /// than what was taken.
    pub(crate) fn give_back(&self, frame_bytes: usize) -> usize {
        let charge = frame_charge(frame_bytes);
        let mut given = 0;
        let _ = self.taken.fetch_update(Ordering::AcqRel, Ordering::Acquire, |taken| {
            given = charge.min(taken);
            Some(taken - given)
        });
        given
    }
}

/// What a stream is made of.
#[derive(Debug)]
pub(crate) enum Record {
    /// A whole frame.
    Frame(Bytes),
    /// The peer has consumed frames of this charge.
    Grant(usize),
}

/// Why there is no next record.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum ReadEnd {
    /// The stream ended between two records.
    Finished,
    /// The stream ended inside a record.
    Cut,
    /// A frame was announced that is longer than a frame may be.
    TooLong(usize),
    /// A frame was announced that goes beyond the window.
    Overrun,
    /// The peer granted more than was ever sent to it.
    Overgrant(usize),
    /// This side closed the link.
    Closed,
    /// The stream failed; the connection knows why.
    Failed(String),
}

fn failed(error: std::io::Error) -> ReadEnd {
    ReadEnd::Failed(error.to_string())
}

/// Reads the next record.
pub(crate) async fn read_record(
    stream: &mut RecvStream,
    window: &Window,
) -> Result<Record, ReadEnd> {
    let head = read_head(stream).await?;
    if head & GRANT_MARK != 0 {
        return Ok(Record::Grant((head & !GRANT_MARK) as usize));
    }
    let length = head as usize;
    if length > FRAME_BYTES_MAX {
        return Err(ReadEnd::TooLong(length));
    }
    if !window.take(length) {
        return Err(ReadEnd::Overrun);
    }
    let mut frame = BytesMut::with_capacity(length.min(FIRST_ROOM_BYTES));
    while frame.len() < length {
        let left = length - frame.len();
        if frame.len() == frame.capacity() {
            frame.reserve(left);
        }
        if stream.read_buf(&mut (&mut frame).limit(left)).await.map_err(failed)? == 0 {
            return Err(ReadEnd::Cut);
        }
    }
    Ok(Record::Frame(frame.freeze()))
}

async fn read_head(stream: &mut RecvStream) -> Result<u32, ReadEnd> {
    let mut prefix = [0u8; 4];
    let mut have = 0;
    while have < prefix.len() {
        match stream.read(&mut prefix[have..]).await {
            Ok(Some(bytes)) => have += bytes,
            Ok(None) if have == 0 => return Err(ReadEnd::Finished),
            Ok(None) => return Err(ReadEnd::Cut),
            Err(error) => return Err(ReadEnd::Failed(error.to_string())),
        }
    }
    Ok(u32::from_le_bytes(prefix))
}
