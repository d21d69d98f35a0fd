//! The frames of one link that wait to be written: filled by a plain thread, drained by a task.

use std::collections::VecDeque;
use std::sync::{Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use tokio::sync::Notify;

use crate::config::{
    FRAME_BYTES_MAX, GRANT_STEP, RECV_WINDOW, SEND_QUEUE_LOW, SEND_QUEUE_MAX, frame_charge,
};

/// How many bytes are handed to QUIC in one go: large enough that the lock of the connection is
/// taken seldom, small enough that the byte count follows the wire closely.
const BATCH_BYTES: usize = 256 << 10;

/// The bit that tells a grant from the length of a frame.
pub(crate) const GRANT_MARK: u32 = 1 << 31;

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

#[derive(Debug)]
struct Queue {
    frames: VecDeque<Bytes>,
    /// Charge that the peer has room for.
    credit: usize,
    /// Charge that this side has consumed and not yet told the peer.
    owed: usize,
    /// Charge of the queued frames and of those being written.
    bytes: usize,
    /// Bytes of all frames that were written.
    written: u64,
    /// No more frames are taken; the task ends when all are written.
    closed: bool,
}

/// The queue of a link with its byte count.
#[derive(Debug)]
pub(crate) struct Outbox {
    queue: Mutex<Queue>,
    wake: Notify,
}

/// Records to be written next.
#[derive(Debug)]
pub(crate) struct Batch {
    pub(crate) chunks: Vec<Bytes>,
    charge: usize,
    /// Bytes of its frames.
    frames: u64,
}

impl Outbox {
    pub(crate) fn new() -> Self {
        let frames = VecDeque::new();
        let (credit, closed) = (RECV_WINDOW, false);
        let queue = Queue { frames, credit, owed: 0, bytes: 0, written: 0, closed };
        Self { queue: Mutex::new(queue), wake: Notify::new() }
    }

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

    /// The peer has consumed frames of so much charge. Says whether they can have been sent.
    pub(crate) fn granted(&self, charge: usize) -> bool {
        let mut queue = self.lock();
        queue.credit += charge;
        let possible = queue.credit <= RECV_WINDOW;
        drop(queue);
        self.wake.notify_one();
        possible
    }

    /// This side has consumed frames of so much charge; the peer is told in steps.
    pub(crate) fn owe(&self, charge: usize) {
        let mut queue = self.lock();
        queue.owed += charge;
        let due = queue.owed >= GRANT_STEP;
        drop(queue);
        if due {
            self.wake.notify_one();
        }
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

    /// The next records to write; nothing once the queue is closed and empty.
    pub(crate) async fn next_batch(&self) -> Option<Batch> {
        loop {
            {
                let mut queue = self.lock();
                if queue.closed && queue.frames.is_empty() {
                    return None;
                }
                let batch = queue.take_batch();
                if !batch.chunks.is_empty() {
                    return Some(batch);
                }
            }
            self.wake.notified().await;
        }
    }

    /// Counts a batch as written. If frames went out and the queue is low now, says how many bytes of
    /// frames were written in all.
    pub(crate) fn written(&self, batch: &Batch) -> Option<u64> {
        let mut queue = self.lock();
        queue.bytes -= batch.charge;
        queue.written += batch.frames;
        (batch.charge > 0 && queue.bytes < SEND_QUEUE_LOW).then_some(queue.written)
    }
}

impl Queue {
    /// A grant if one is due, then frames as far as the peer has room.
    fn take_batch(&mut self) -> Batch {
        let mut batch = Batch { chunks: Vec::new(), charge: 0, frames: 0 };
        if self.owed >= GRANT_STEP {
            // At most RECV_WINDOW is ever owed: what is not granted cannot be consumed again.
            let grant = std::mem::take(&mut self.owed) as u32 | GRANT_MARK;
            batch.chunks.push(Bytes::copy_from_slice(&grant.to_le_bytes()));
        }
        while batch.charge < BATCH_BYTES {
            let Some(charge) = self.frames.front().map(|frame| frame_charge(frame.len())) else {
                break;
            };
            if charge > self.credit {
                break;
            }
            let Some(frame) = self.frames.pop_front() else { break };
            self.credit -= charge;
            batch.charge += charge;
            batch.frames += frame.len() as u64;
            // The length fits: `push` took no frame above FRAME_BYTES_MAX.
            batch.chunks.push(Bytes::copy_from_slice(&(frame.len() as u32).to_le_bytes()));
            if !frame.is_empty() {
                batch.chunks.push(frame);
            }
        }
        batch
    }
}
