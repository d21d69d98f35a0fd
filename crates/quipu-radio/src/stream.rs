//! Frames over a medium that loses, doubles and reorders: see `docs/formats/radio-stream.md`.
//!
//! A stream has a *lane* for each class of frames. In a lane, frames arrive in order; a lane that is more
//! urgent goes first, also in the middle of a long frame of another. A stream outlives the link that
//! carries it: over the next one it goes on where the last one stopped.
//!
//! *Boundary*: no IO, no clock.

use quipu_core::artifact::{GROUP_BYTES, PART_GROUPS_MAX};
use quipu_core::codec::varint::{Reader, put};
use quipu_core::sync::session::Pace;

use crate::inlet::Inlet;
use crate::lane::Outlet;
use crate::limits::{
    ACK_MS, ACK_PACKETS, ACK_RANGES_MAX, FAST_BITRATE, LINGER_MS, PACKETS_FLYING_MAX,
    PACKETS_UNSENT_MAX, PARTS_ASKED, PATIENCE_MAX, QUEUE_BYTES_MAX, RESEND_MS, RESOURCE_BYTES_MIN,
    RESOURCE_BYTES_MOST, RESOURCE_MS, SHARED_BITRATE, STALLED_MS,
};

/// Classes of frames, the most urgent first.
pub const CLASSES: usize = 3;

/// The class of a frame: the course of a session and events, in order; questions about artifacts; their
/// parts.
pub fn class_of(frame: &[u8]) -> usize {
    match frame.first() {
        Some(20) => 2,
        Some(17..=19 | 21 | 22) => 1,
        _ => 0,
    }
}

/// Whether a frame says that both ends hold the same: there is nothing more to come.
pub(crate) fn is_level(frame: &[u8]) -> bool {
    matches!(frame.first(), Some(5 | 12))
}

/// What the first byte of a message says.
const MESSAGE: u8 = 0x40;
const HAS_ACKS: u8 = 1;
const HAS_DATA: u8 = 2;
const CLASS_SHIFT: u8 = 2;
/// First byte and offset: room that data leaves.
const HEAD_BYTES_MAX: usize = 1 + 10;
/// Acknowledgements that are longer travel alone.
const ACK_BYTES_CARRIED_MAX: usize = 100;

/// Why a stream cannot go on.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum StreamError {
    /// Bytes that are no message.
    #[error("not a message of a stream")]
    Malformed,
    /// A frame's length that is none.
    #[error("a frame without a length")]
    Length,
    /// A frame that is too long.
    #[error("a frame of {0} bytes is announced")]
    TooLong(usize),
    /// Too much waits.
    #[error("stuck: {0} bytes are unsent")]
    Stuck(usize),
    /// Both ends remember different things.
    #[error("the other end has lost its place")]
    Lost,
}

/// What a link can carry.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Medium {
    /// The longest packet.
    pub packet_max: usize,
    /// The longest resource; 0 if there are none.
    pub resource_max: usize,
    /// Time to the other end and back, in milliseconds.
    pub rtt_ms: u64,
    /// Bits per second, if known.
    pub bitrate: Option<u64>,
}

impl Medium {
    /// How long so many bytes take on the air, in milliseconds.
    pub fn air_ms(&self, bytes: usize) -> u64 {
        self.bitrate.map_or(0, |bitrate| (bytes as u64 * 8_000).div_ceil(bitrate.max(1)))
    }

    /// The length of resources that keeps what is urgent from waiting for long.
    fn resource_bytes(&self) -> usize {
        let fitting = self.bitrate.unwrap_or(u64::MAX).saturating_mul(RESOURCE_MS) / 8_000;
        usize::try_from(fitting)
            .unwrap_or(usize::MAX)
            .clamp(RESOURCE_BYTES_MIN, RESOURCE_BYTES_MOST)
            .min(self.resource_max)
    }

    /// How fast sessions take the link to be.
    pub fn pace(&self) -> Pace {
        let bitrate = self.bitrate.unwrap_or(FAST_BITRATE).max(1);
        let groups = self.resource_bytes() as u64 / GROUP_BYTES;
        Pace {
            patience: (FAST_BITRATE / bitrate).clamp(1, PATIENCE_MAX),
            part_groups: groups.clamp(1, PART_GROUPS_MAX),
            parts: PARTS_ASKED,
        }
    }

    /// How long to wait for news of a packet that has left.
    fn patience_ms(&self) -> u64 {
        let air = self.air_ms(self.packet_max * PACKETS_UNSENT_MAX);
        RESEND_MS + self.rtt_ms * 4 + air * 4 + self.ack_ms() * 2
    }

    /// How long after the last packet an acknowledgement may wait.
    fn ack_ms(&self) -> u64 {
        ACK_MS + self.air_ms(self.packet_max) * 4
    }

    /// How long frames are collected, so that several travel in one packet: nothing to speak of on a fast medium.
    pub(crate) fn collect_ms(&self) -> u64 {
        self.air_ms(self.packet_max) / 4
    }

    /// Whether machines take turns on it: a packet takes so long that two who send at once are in each other's way.
    pub(crate) fn is_shared(&self) -> bool {
        self.bitrate.is_some_and(|bitrate| bitrate < SHARED_BITRATE)
    }

    /// How long a stream may stand still before it is over. Where answers take long, they are waited for.
    pub(crate) fn linger_ms(&self, level: bool) -> u64 {
        match (self.is_shared(), level) {
            (false, _) => LINGER_MS,
            (true, true) => self.ack_ms() * 2,
            (true, false) => STALLED_MS,
        }
    }
}

/// A message to send.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Outgoing {
    /// What the link is to call it.
    pub number: u64,
    /// As a resource, else as a packet.
    pub resource: bool,
    /// Of which class; nothing for an acknowledgement alone.
    pub class: Option<usize>,
    /// The message.
    pub bytes: Vec<u8>,
}

/// Both directions between two machines.
#[derive(Debug, Default)]
pub struct Stream {
    out: [Outlet; CLASSES],
    inn: [Inlet; CLASSES],
    /// Messages so far.
    numbers: u64,
    /// Packets that the link has and that have not left.
    unsent: Vec<u64>,
    /// The resource on its way, and its class.
    moving: Option<(u64, usize)>,
    /// Packets that are not acknowledged, and when that is due.
    owed: u32,
    ack_at: Option<u64>,
    written: u64,
}

impl Stream {
    /// Queues a frame.
    ///
    /// # Errors
    /// If too much waits already.
    pub fn push(&mut self, frame: &[u8]) -> Result<(), StreamError> {
        let queued = self.queued() + frame.len();
        if queued > QUEUE_BYTES_MAX {
            return Err(StreamError::Stuck(queued));
        }
        self.out[class_of(frame)].push(frame);
        Ok(())
    }

    /// Bytes that have not arrived at the other end, as far as known.
    pub fn queued(&self) -> usize {
        self.out.iter().map(Outlet::queued).sum()
    }

    /// Bytes that are known to be still under way, in either direction.
    pub fn outstanding(&self) -> usize {
        self.queued() + self.inn.iter().map(Inlet::expected).sum::<usize>()
    }

    /// Bytes of all frames that were sent so far.
    pub fn written(&mut self) -> u64 {
        self.written += self.out.iter_mut().map(Outlet::take_written).sum::<u64>();
        self.written
    }

    /// Whether nothing is to be sent, and nothing is on its way.
    pub fn is_quiet(&self) -> bool {
        self.queued() == 0 && self.owed == 0
    }

    /// The class of what would be sent next, and bytes of it.
    pub fn wants(&self) -> Option<(usize, usize)> {
        let class = (0..CLASSES).find(|class| self.out[*class].pending() > 0)?;
        Some((class, self.out[class].pending()))
    }

    /// What to send now, if anything. `allowed` says which classes the budget has room for.
    pub fn next(
        &mut self,
        now: u64,
        medium: &Medium,
        allowed: impl Fn(usize, usize) -> bool,
    ) -> Option<Outgoing> {
        for class in 0..CLASSES {
            let length = self.out[class].next_length();
            if length == 0 {
                continue;
            }
            let Some(resource) = self.carrier(class, length, medium) else { break };
            let most = if resource { medium.resource_bytes() } else { medium.packet_max };
            if !allowed(class, length.min(most)) {
                break;
            }
            return Some(self.send(class, most, resource));
        }
        let due = self.owed >= ACK_PACKETS || self.ack_at.is_some_and(|at| at <= now);
        let acks = self.acks();
        if !due || !allowed(0, acks.len()) {
            return None;
        }
        self.acked();
        let number = self.number();
        let mut bytes = vec![MESSAGE | HAS_ACKS];
        bytes.extend(acks);
        self.unsent.push(number);
        Some(Outgoing { number, resource: false, class: None, bytes })
    }

    /// Whether the next piece goes as a resource or as a packet; nothing if it has to wait.
    fn carrier(&self, class: usize, length: usize, medium: &Medium) -> Option<bool> {
        let large = medium.resource_max > 0 && length > medium.packet_max.saturating_mul(2);
        match self.moving {
            None if large => return Some(true),
            // What is not more urgent than the resource waits for it.
            Some((_, busy)) if busy <= class => return None,
            _ => {}
        }
        let flying: usize = self.out.iter().map(Outlet::packets_flying).sum();
        let room = self.unsent.len() < PACKETS_UNSENT_MAX && flying < PACKETS_FLYING_MAX;
        room.then_some(false)
    }

    fn send(&mut self, class: usize, most: usize, resource: bool) -> Outgoing {
        let number = self.number();
        let mut head = MESSAGE | HAS_DATA | ((class as u8) << CLASS_SHIFT);
        let mut acks = if self.owed > 0 && !resource { self.acks() } else { Vec::new() };
        if acks.len() > ACK_BYTES_CARRIED_MAX {
            acks.clear();
        }
        if !acks.is_empty() {
            head |= HAS_ACKS;
            self.acked();
        }
        let most = most.saturating_sub(HEAD_BYTES_MAX + acks.len()).max(1);
        let piece = self.out[class].take(most, number, resource, number);
        let mut bytes = vec![head];
        bytes.extend(acks);
        put(&mut bytes, piece.offset);
        bytes.extend(piece.bytes);
        if resource {
            self.moving = Some((number, class));
        } else {
            self.unsent.push(number);
        }
        Outgoing { number, resource, class: Some(class), bytes }
    }

    fn number(&mut self) -> u64 {
        self.numbers += 1;
        self.numbers
    }

    /// What is here, for the other end.
    fn acks(&self) -> Vec<u8> {
        let mut bytes = Vec::new();
        for inlet in &self.inn {
            put(&mut bytes, inlet.have());
            let ranges = inlet.ranges();
            put(&mut bytes, ranges.len() as u64);
            let mut at = inlet.have();
            for (from, to) in ranges {
                put(&mut bytes, from - at);
                put(&mut bytes, to - from);
                at = to;
            }
        }
        bytes
    }

    fn acked(&mut self) {
        self.owed = 0;
        self.ack_at = None;
    }

    /// A packet has left.
    pub fn left(&mut self, now: u64, number: u64, medium: &Medium) {
        self.unsent.retain(|unsent| *unsent != number);
        let patience = medium.patience_ms();
        self.out.iter_mut().for_each(|lane| lane.left(number, now, patience));
    }

    /// A resource has arrived.
    pub fn arrived(&mut self, number: u64) {
        self.moving.take_if(|(moving, _)| *moving == number);
        let _lane = self.out.iter_mut().find_map(|lane| lane.arrived(number).then_some(()));
    }

    /// A packet or a resource did not get through.
    pub fn failed(&mut self, number: u64) {
        self.unsent.retain(|unsent| *unsent != number);
        self.moving.take_if(|(moving, _)| *moving == number);
        self.out.iter_mut().for_each(|lane| lane.failed(number));
    }

    /// A message came. Answers the frames that are whole with it.
    ///
    /// # Errors
    /// If it is none: nothing more can come.
    pub fn take(
        &mut self,
        now: u64,
        message: &[u8],
        resource: bool,
        medium: &Medium,
    ) -> Result<Vec<Vec<u8>>, StreamError> {
        let mut reader = Reader::new(message);
        let head = reader.byte().filter(|head| is_message(*head)).ok_or(StreamError::Malformed)?;
        if head & HAS_ACKS != 0 {
            self.take_acks(&mut reader)?;
        }
        if head & HAS_DATA == 0 {
            return if reader.is_empty() { Ok(Vec::new()) } else { Err(StreamError::Malformed) };
        }
        let class = usize::from((head >> CLASS_SHIFT) & 3);
        let offset = reader.varint().ok_or(StreamError::Malformed)?;
        let piece = reader.take(reader.len()).ok_or(StreamError::Malformed)?;
        let inlet = self.inn.get_mut(class).ok_or(StreamError::Malformed)?;
        inlet.take(offset, piece);
        if !resource {
            // The link itself says that a resource has arrived.
            self.owed += 1;
            self.ack_at = Some(now + medium.ack_ms());
        }
        let mut frames = Vec::new();
        while let Some(frame) = inlet.pop()? {
            frames.push(frame);
        }
        Ok(frames)
    }

    fn take_acks(&mut self, reader: &mut Reader<'_>) -> Result<(), StreamError> {
        for lane in &mut self.out {
            let upto = reader.varint().ok_or(StreamError::Malformed)?;
            let count = reader.varint().ok_or(StreamError::Malformed)?;
            if count > ACK_RANGES_MAX as u64 {
                return Err(StreamError::Malformed);
            }
            let mut ranges = Vec::new();
            let mut at = upto;
            for _ in 0..count {
                let gap = reader.varint().ok_or(StreamError::Malformed)?;
                let length = reader.varint().ok_or(StreamError::Malformed)?;
                let from = at.checked_add(gap).ok_or(StreamError::Malformed)?;
                at = from.checked_add(length).ok_or(StreamError::Malformed)?;
                ranges.push((from, at));
            }
            lane.acknowledged(upto, &ranges);
        }
        Ok(())
    }

    /// Time has passed.
    pub fn on_time(&mut self, now: u64) {
        self.out.iter_mut().for_each(|lane| lane.on_time(now));
    }

    /// The other end was just heard: what waits for a long time to be sent again goes now.
    pub fn nudge(&mut self, now: u64, medium: &Medium) {
        let soon = now + medium.patience_ms();
        self.out.iter_mut().for_each(|lane| lane.nudge(soon));
    }

    /// When [`on_time`](Self::on_time) or an acknowledgement is due.
    pub fn deadline(&self) -> Option<u64> {
        self.out.iter().filter_map(Outlet::deadline).chain(self.ack_at).min()
    }

    /// The link is gone.
    pub fn suspend(&mut self) {
        self.unsent.clear();
        self.moving = None;
        self.owed = 0;
        self.ack_at = None;
        self.out.iter_mut().for_each(Outlet::suspend);
    }

    /// What is here of each lane, for the other end to go on from.
    pub fn places(&self) -> [u64; CLASSES] {
        std::array::from_fn(|class| self.inn[class].have())
    }

    /// Another link is there, and this is what the other end has.
    ///
    /// # Errors
    /// If that does not fit what was sent here.
    pub fn resume(&mut self, places: [u64; CLASSES]) -> Result<(), StreamError> {
        self.suspend();
        let fits = self.out.iter_mut().zip(places).all(|(lane, upto)| lane.resume(upto));
        if fits { Ok(()) } else { Err(StreamError::Lost) }
    }
}

/// Whether a message with this first byte is one of a stream.
pub fn is_message(head: u8) -> bool {
    head & 0xf0 == MESSAGE && head & (HAS_ACKS | HAS_DATA) != 0
}

/// Whether such a message carries a piece of a frame, and not acknowledgements alone.
pub fn carries_data(head: u8) -> bool {
    head & HAS_DATA != 0
}

#[cfg(test)]
mod tests;
