//! The life of one link: a task that writes, a task that reads, and one reason why both ended.

use std::pin::pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use iroh::endpoint::{Connection, ConnectionError, RecvStream, SendStream, VarInt};
use tokio::sync::Notify;
use tokio::time::timeout;

use crate::config::{
    CLOSE_FLUSH_TIMEOUT, FRAME_BYTES_MAX, REASON_BYTES_MAX, RECV_WINDOW, SEND_QUEUE_MAX,
};
use crate::event::{LinkEvent, Sink};
use crate::inbound::{ReadEnd, Record, Window, read_record};
use crate::outbox::{Outbox, Pushed};

/// Application close codes; the reason text says more.
const CODE_CLOSED: VarInt = VarInt::from_u32(0);
const CODE_PROTOCOL: VarInt = VarInt::from_u32(1);

/// After its peer's last frame a link waits so long for the reason of the end: a peer sends it when
/// all is acknowledged, within [`CLOSE_FLUSH_TIMEOUT`], and it takes a while to arrive.
const REASON_WAIT: Duration = CLOSE_FLUSH_TIMEOUT.saturating_add(Duration::from_secs(1));

/// Queued frames may take so long to be written and then acknowledged after a close.
const FLUSH_WAIT: Duration = CLOSE_FLUSH_TIMEOUT.saturating_mul(2);

/// What the handle and the tasks of a link share.
#[derive(Debug)]
pub(crate) struct Link {
    id: u64,
    connection: Connection,
    outbox: Outbox,
    window: Window,
    /// Wakes the task of the link once this side has closed it.
    closing: Notify,
    /// Why this side ended the link, if it did. The first reason stays.
    ended: Mutex<Option<String>>,
}

impl Link {
    pub(crate) fn new(id: u64, connection: Connection) -> Self {
        Self {
            id,
            connection,
            outbox: Outbox::new(),
            window: Window::default(),
            closing: Notify::new(),
            ended: Mutex::new(None),
        }
    }

    /// Queues a frame; the number of bytes queued now, or 0 if the link takes no more.
    pub(crate) fn send(&self, frame: Bytes) -> usize {
        match self.outbox.push(frame) {
            Pushed::Queued(bytes) => return bytes,
            Pushed::Closed => {}
            Pushed::TooLong(bytes) => self.abort(
                CODE_PROTOCOL,
                &format!("frame of {bytes} bytes to send, {FRAME_BYTES_MAX} allowed"),
            ),
            Pushed::Stuck(bytes) => self.abort(
                CODE_CLOSED,
                &format!("stuck: {bytes} bytes unsent, {SEND_QUEUE_MAX} allowed"),
            ),
        }
        0
    }

    /// A frame of so many bytes was consumed by the driver.
    pub(crate) fn consumed(&self, frame_bytes: usize) {
        self.outbox.owe(self.window.give_back(frame_bytes));
    }

    /// Ends the link once the queued frames are written.
    pub(crate) fn close(&self, reason: &str) {
        self.note_end(reason);
        self.outbox.close();
        self.closing.notify_one();
    }

    /// Ends the link at once.
    fn abort(&self, code: VarInt, reason: &str) {
        self.note_end(reason);
        self.outbox.abort();
        self.closing.notify_one();
        self.connection.close(code, cut_reason(reason));
    }

    /// Ends the link if its peer broke the rules.
    async fn judge(&self, end: &ReadEnd) {
        let fault = match end {
            // The peer is closing: let it say why.
            ReadEnd::Finished => {
                return drop(timeout(REASON_WAIT, self.connection.closed()).await);
            }
            ReadEnd::Closed | ReadEnd::Failed(_) => return,
            ReadEnd::Cut => "stream cut inside a record".to_owned(),
            ReadEnd::TooLong(bytes) => {
                format!("frame of {bytes} bytes announced, {FRAME_BYTES_MAX} allowed")
            }
            ReadEnd::Overrun => format!("more than {RECV_WINDOW} bytes sent without a grant"),
            ReadEnd::Overgrant(charge) => format!("{charge} bytes granted, fewer were sent"),
        };
        self.abort(CODE_PROTOCOL, &fault);
    }

    fn note_end(&self, reason: &str) {
        let mut ended = self.ended.lock().unwrap_or_else(PoisonError::into_inner);
        ended.get_or_insert_with(|| reason.to_owned());
    }

    fn ended(&self) -> Option<String> {
        self.ended.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Why the link is down: what this side said, else what the connection says.
    fn down_reason(&self, read_end: &ReadEnd) -> String {
        if let Some(reason) = self.ended() {
            return format!("closed here: {reason}");
        }
        match (self.connection.close_reason(), read_end) {
            (Some(ConnectionError::ApplicationClosed(close)), _) => {
                format!("closed by peer: {}", String::from_utf8_lossy(&close.reason))
            }
            (Some(ConnectionError::TimedOut), _) => "peer fell silent".to_owned(),
            (Some(error), _) => error.to_string(),
            (None, ReadEnd::Failed(error)) => error.clone(),
            (None, _) => "peer ended its stream".to_owned(),
        }
    }
}

/// Runs a link from its streams to its end. Returns why it ended; the caller reports that.
pub(crate) async fn run(link: Arc<Link>, send: SendStream, recv: RecvStream, sink: Sink) -> String {
    let mut writer = tokio::spawn(write_frames(link.clone(), send, sink.clone()));
    let mut reader = pin!(read_frames(&link, recv, &sink));
    let end = tokio::select! {
        end = &mut reader => end,
        // Reading goes on while queued frames go out, for the grants that they need. A peer that
        // does not read must not hold up the end.
        () = link.closing.notified() => tokio::select! {
            end = &mut reader => end,
            _ = timeout(FLUSH_WAIT, &mut writer) => ReadEnd::Closed,
        },
    };
    link.judge(&end).await;
    let reason = link.down_reason(&end);
    link.abort(CODE_CLOSED, &link.ended().unwrap_or_default());
    if !writer.is_finished() {
        drop(writer.await);
    }
    reason
}

/// Delivers frames until the stream ends; none once this side has closed the link.
async fn read_frames(link: &Link, mut recv: RecvStream, sink: &Sink) -> ReadEnd {
    loop {
        match read_record(&mut recv, &link.window).await {
            Ok(Record::Frame(bytes)) => {
                if link.ended().is_none() {
                    sink(LinkEvent::Frame { link: link.id, bytes });
                }
            }
            Ok(Record::Grant(charge)) => {
                if !link.outbox.granted(charge) {
                    return ReadEnd::Overgrant(charge);
                }
            }
            Err(end) => return end,
        }
    }
}

async fn write_frames(link: Arc<Link>, mut send: SendStream, sink: Sink) {
    while let Some(mut batch) = link.outbox.next_batch().await {
        if send.write_all_chunks(&mut batch.chunks).await.is_err() {
            // The reader learns of the same failure and reports it.
            link.outbox.abort();
            return;
        }
        if let Some(written) = link.outbox.written(&batch) {
            sink(LinkEvent::Writable { link: link.id, written });
        }
    }
    let Some(reason) = link.ended() else { return };
    if send.finish().is_ok() {
        let _ = timeout(CLOSE_FLUSH_TIMEOUT, send.stopped()).await;
    }
    link.connection.close(CODE_CLOSED, cut_reason(&reason));
}

/// The first bytes of a reason, cut between characters.
fn cut_reason(reason: &str) -> &[u8] {
    &reason.as_bytes()[..reason.floor_char_boundary(REASON_BYTES_MAX)]
}
