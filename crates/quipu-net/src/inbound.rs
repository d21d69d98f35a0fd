//! Reading frames from a stream, no faster than they are consumed.

use std::sync::atomic::{AtomicUsize, Ordering};

use bytes::{BufMut, Bytes, BytesMut};
use iroh::endpoint::RecvStream;
use tokio::io::AsyncReadExt;
use tokio::sync::Semaphore;

use crate::config::{FRAME_BYTES_MAX, RECV_WINDOW, frame_charge};

/// How many bytes of a frame are made room for before any of them came: a hostile length costs no
/// more than this until the bytes follow.
const FIRST_ROOM_BYTES: usize = 64 << 10;

/// The frames delivered by a link and not yet consumed, as bytes.
#[derive(Debug)]
pub(crate) struct Window {
    free: Semaphore,
    taken: AtomicUsize,
}

impl Window {
    pub(crate) fn new() -> Self {
        Self { free: Semaphore::new(RECV_WINDOW), taken: AtomicUsize::new(0) }
    }

    /// Waits until there is room for a frame, and takes it.
    async fn take(&self, frame_bytes: usize) {
        let charge = frame_charge(frame_bytes);
        // A charge fits in u32: frames are at most FRAME_BYTES_MAX long. The semaphore is never
        // closed, so there are always permits in the end.
        if let Ok(permits) = self.free.acquire_many(charge as u32).await {
            permits.forget();
            self.taken.fetch_add(charge, Ordering::AcqRel);
        }
    }

    /// Gives back the room of a delivered frame; never more than was taken.
    pub(crate) fn give_back(&self, frame_bytes: usize) {
        let charge = frame_charge(frame_bytes);
        let mut given = 0;
        let _ = self.taken.fetch_update(Ordering::AcqRel, Ordering::Acquire, |taken| {
            given = charge.min(taken);
            Some(taken - given)
        });
        self.free.add_permits(given);
    }
}

/// Why there is no next frame.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum ReadEnd {
    /// The stream ended between two frames.
    Finished,
    /// The stream ended inside a frame.
    Cut,
    /// A frame was announced that is longer than a frame may be.
    TooLong(usize),
    /// This side closed the link.
    Closed,
    /// The stream failed; the connection knows why.
    Failed(String),
}

fn failed(error: std::io::Error) -> ReadEnd {
    ReadEnd::Failed(error.to_string())
}

/// Reads the next frame, after there is room for it in the window.
pub(crate) async fn read_frame(stream: &mut RecvStream, window: &Window) -> Result<Bytes, ReadEnd> {
    let length = read_length(stream).await?;
    if length > FRAME_BYTES_MAX {
        return Err(ReadEnd::TooLong(length));
    }
    window.take(length).await;
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
    Ok(frame.freeze())
}

async fn read_length(stream: &mut RecvStream) -> Result<usize, ReadEnd> {
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
    Ok(u32::from_le_bytes(prefix) as usize)
}
