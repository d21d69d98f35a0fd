//! The frames of one link that wait to be written: filled by a plain thread, drained by a task.

use std::collections::VecDeque;
use std::sync::{Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use tokio::sync::Notify;

use crate::config::{FRAME_BYTES_MAX, SEND_QUEUE_LOW, SEND_QUEUE_MAX, frame_charge};

/// How many bytes are handed to QUIC in one go: large enough that the lock of the connection is
/// taken seldom, small enough that the byte count follows the wire closely.
const BATCH_BYTES: usize = 256 << 10;

/// What happened to a frame that was to be queued.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Pushed {
    /// Queued; so many bytes are queued now.
    Queued(usize),
    /// Dropped: the link is being closed.
    Closed,
    /// Not queued: the frame is longer than a frame may be.
    TooLong(usize),
    /// Not queued: there would be more than [`SEND_QUEUE_MAX`].
    Stuck(usize),
}

#[derive(Debug, Default)]
struct Queue {
    frames: VecDeque<Bytes>,
    /// Charge of the queued frames and of those being written.
    bytes: usize,
    /// No more frames are taken; the task ends when all are written.
    closed: bool,
}

/// The queue of a link with its byte count.
#[derive(Debug, Default)]
pub(crate) struct Outbox {
    queue: Mutex<Queue>,
    wake: Notify,
}

/// Frames to be written next, each after its length.
#[derive(Debug)]
pub(crate) struct Batch {
    pub(crate) chunks: Vec<Bytes>,
    charge: usize,
}

impl Outbox {
    fn lock(&self) -> MutexGuard<'_, Queue> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Queues a frame if the limits allow it.
    pub(crate) fn push(&self, frame: Bytes) -> Pushed {
        if frame.len() > FRAME_BYTES_MAX {
            return Pushed::TooLong(frame.len());
        }
        let mut queue = self.lock();
        if queue.closed {
            return Pushed::Closed;
        }
        let bytes = queue.bytes + frame_charge(frame.len());
        if bytes > SEND_QUEUE_MAX {
            return Pushed::Stuck(queue.bytes);
        }
        queue.bytes = bytes;
        queue.frames.push_back(frame);
        drop(queue);
        self.wake.notify_one();
        Pushed::Queued(bytes)
    }

    /// Takes no more frames. What is queued may still be written.
    pub(crate) fn close(&self) {
        self.lock().closed = true;
        self.wake.notify_one();
    }

    /// Takes no more frames and drops those queued.
    pub(crate) fn abort(&self) {
        let mut queue = self.lock();
        queue.closed = true;
        let dropped = std::mem::take(&mut queue.frames);
        drop(queue);
        drop(dropped);
        self.wake.notify_one();
    }

    /// The next frames to write; nothing once the queue is closed and empty.
    pub(crate) async fn next_batch(&self) -> Option<Batch> {
        loop {
            {
                let mut queue = self.lock();
                if !queue.frames.is_empty() {
                    return Some(take_batch(&mut queue.frames));
                }
                if queue.closed {
                    return None;
                }
            }
            self.wake.notified().await;
        }
    }

    /// Counts a batch as written. Says whether the queue is low now.
    pub(crate) fn written(&self, batch: &Batch) -> bool {
        let mut queue = self.lock();
        queue.bytes -= batch.charge;
        queue.bytes < SEND_QUEUE_LOW
    }
}

fn take_batch(frames: &mut VecDeque<Bytes>) -> Batch {
    let mut batch = Batch { chunks: Vec::new(), charge: 0 };
    while batch.charge < BATCH_BYTES {
        let Some(frame) = frames.pop_front() else { break };
        batch.charge += frame_charge(frame.len());
        // The length fits: `push` took no frame above FRAME_BYTES_MAX.
        batch.chunks.push(Bytes::copy_from_slice(&(frame.len() as u32).to_le_bytes()));
        if !frame.is_empty() {
            batch.chunks.push(frame);
        }
    }
    batch
}
