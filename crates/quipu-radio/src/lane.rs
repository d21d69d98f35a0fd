//! One direction of one lane: bytes in order, sent in pieces of any size, over whatever link there is.

use std::collections::{BTreeMap, VecDeque};

use crate::limits::{RESEND_MS_MAX, WINDOW_BYTES};

/// A piece that was sent and is not acknowledged.
#[derive(Debug, Clone)]
struct Flight {
    length: usize,
    /// What the link calls it.
    number: u64,
    resource: bool,
    /// When it is taken for lost. Nothing until it has left.
    until: Option<u64>,
    /// Pieces are counted as they are sent, to see which ones were overtaken.
    order: u64,
}

/// Bytes that leave.
#[derive(Debug, Default)]
pub(crate) struct Outlet {
    /// Everything before this has arrived.
    base: u64,
    /// From `base` on.
    bytes: VecDeque<u8>,
    /// Nothing from here on was ever sent.
    fresh: u64,
    /// By offset.
    flying: BTreeMap<u64, Flight>,
    /// Pieces to send again: offset and length.
    lost: BTreeMap<u64, usize>,
    /// Where frames end, and how long they are.
    ends: VecDeque<(u64, usize)>,
    /// Tries in a row that brought nothing.
    tries: u32,
    /// How far the count of pieces is ahead: pieces sent again for want of news overtake all before them.
    ahead: u64,
}

/// A piece to send.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Piece {
    pub(crate) offset: u64,
    pub(crate) bytes: Vec<u8>,
}

/// How late a piece may be overtaken before it counts as lost.
const OVERTAKEN: u64 = 3;

impl Outlet {
    /// Adds a frame.
    pub(crate) fn push(&mut self, frame: &[u8]) {
        let mut head = Vec::with_capacity(10);
        quipu_core::codec::varint::put(&mut head, frame.len() as u64);
        self.bytes.extend(head);
        self.bytes.extend(frame);
        self.ends.push_back((self.end(), frame.len()));
    }

    fn end(&self) -> u64 {
        self.base + self.bytes.len() as u64
    }

    /// Bytes that have not arrived, as far as known.
    pub(crate) fn queued(&self) -> usize {
        self.bytes.len()
    }

    /// Bytes that wait to be sent, or sent again.
    pub(crate) fn pending(&self) -> usize {
        let lost: usize = self.lost.values().sum();
        lost + usize::try_from(self.end() - self.fresh).unwrap_or(usize::MAX)
    }

    /// Length of the piece that would be sent next, if there were room for it.
    pub(crate) fn next_length(&self) -> usize {
        match self.lost.first_key_value() {
            Some((_, length)) => *length,
            None => {
                let room = (self.base + WINDOW_BYTES).saturating_sub(self.fresh);
                usize::try_from((self.end() - self.fresh).min(room)).unwrap_or(usize::MAX)
            }
        }
    }

    /// Packets that fly.
    pub(crate) fn packets_flying(&self) -> usize {
        self.flying.values().filter(|flight| !flight.resource).count()
    }

    /// Takes the next piece.
    pub(crate) fn take(&mut self, most: usize, number: u64, resource: bool, order: u64) -> Piece {
        let length = self.next_length().min(most);
        let offset = match self.lost.pop_first() {
            Some((offset, whole)) => {
                if whole > length {
                    self.lost.insert(offset + length as u64, whole - length);
                }
                offset
            }
            None => {
                self.fresh += length as u64;
                self.fresh - length as u64
            }
        };
        let order = order + self.ahead;
        self.flying.insert(offset, Flight { length, number, resource, until: None, order });
        let from = usize::try_from(offset - self.base).unwrap_or(usize::MAX);
        let bytes = self.bytes.range(from..from + length).copied().collect();
        Piece { offset, bytes }
    }

    /// A piece has left. News of it, and of all before it, is waited for that long.
    pub(crate) fn left(&mut self, number: u64, now: u64, patience: u64) {
        let until = now + self.wait(patience);
        let left = |flight: &Flight| flight.number == number || flight.until.is_some();
        if self.flying.values().any(|flight| flight.number == number) {
            self.flying.values_mut().filter(|f| left(f)).for_each(|f| f.until = Some(until));
        }
    }

    /// How long to wait for news, after so many tries that brought none.
    fn wait(&self, patience: u64) -> u64 {
        patience.saturating_mul(1 << self.tries.min(10)).min(RESEND_MS_MAX)
    }

    /// A piece has arrived, says the link. Answers whether it was of this lane.
    pub(crate) fn arrived(&mut self, number: u64) -> bool {
        let found = self.flying.iter().find(|(_, flight)| flight.number == number);
        let Some((offset, length)) = found.map(|(offset, flight)| (*offset, flight.length)) else {
            return false;
        };
        self.confirm(offset, offset + length as u64);
        self.settle();
        true
    }

    /// A piece was not sent, or did not arrive, says the link.
    pub(crate) fn failed(&mut self, number: u64) {
        self.lose(|flight| flight.number == number);
    }

    /// The other end has everything before an offset, and some ranges after it.
    pub(crate) fn acknowledged(&mut self, upto: u64, ranges: &[(u64, u64)]) {
        let upto = upto.min(self.fresh);
        let mut seen = 0;
        for (from, to) in ranges.iter().copied().chain([(self.base.min(upto), upto)]) {
            seen = seen.max(self.confirm(from, to));
        }
        self.lose(|flight| !flight.resource && flight.order + OVERTAKEN < seen);
        self.settle();
    }

    /// Notes that a range has arrived. Answers the latest piece in it.
    fn confirm(&mut self, from: u64, to: u64) -> u64 {
        let inside = |offset: u64, length: usize| offset >= from && offset + length as u64 <= to;
        let mut latest = 0;
        self.flying.retain(|offset, flight| {
            let arrived = inside(*offset, flight.length);
            if arrived {
                latest = latest.max(flight.order);
                self.tries = 0;
            }
            !arrived
        });
        self.lost.retain(|offset, length| !inside(*offset, *length));
        latest
    }

    /// Forgets what has arrived.
    fn settle(&mut self) {
        let open = self.flying.keys().chain(self.lost.keys()).min().copied();
        let base = open.unwrap_or(self.fresh).min(self.fresh);
        let gone = usize::try_from(base - self.base).unwrap_or(usize::MAX);
        self.bytes.drain(..gone);
        self.base = base;
    }

    fn lose(&mut self, is_lost: impl Fn(&Flight) -> bool) -> bool {
        let lost: Vec<u64> =
            self.flying.iter().filter(|(_, f)| is_lost(f)).map(|(offset, _)| *offset).collect();
        for offset in &lost {
            if let Some(flight) = self.flying.remove(offset) {
                self.lost.insert(*offset, flight.length);
            }
        }
        !lost.is_empty()
    }

    /// Sends a piece again if nothing was heard of it for too long: one, since the answer to it tells of all the
    /// others. What was lost is mostly an acknowledgement.
    pub(crate) fn on_time(&mut self, now: u64) {
        if self.probe(|until| until <= now) {
            self.tries += 1;
        }
    }

    /// Sends a piece again that would be waited for beyond a time.
    pub(crate) fn nudge(&mut self, soon: u64) {
        self.tries = 0;
        self.probe(|until| until > soon);
    }

    fn probe(&mut self, is_late: impl Fn(u64) -> bool) -> bool {
        let late = self.flying.iter().find(|(_, flight)| flight.until.is_some_and(&is_late));
        let number = late.map(|(_, flight)| flight.number).filter(|_| !self.is_about_to_send());
        let Some(number) = number else { return false };
        self.ahead += OVERTAKEN;
        self.lose(|flight| flight.number == number)
    }

    /// Whether a piece is on its way to the air: what is heard of that tells of the others.
    fn is_about_to_send(&self) -> bool {
        let handed = |flight: &Flight| !flight.resource && flight.until.is_none();
        !self.lost.is_empty() || self.flying.values().any(handed)
    }

    /// When the next piece is sent again.
    pub(crate) fn deadline(&self) -> Option<u64> {
        let deadlines = self.flying.values().filter_map(|flight| flight.until);
        deadlines.min().filter(|_| !self.is_about_to_send())
    }

    /// The link is gone, and with it what was on its way.
    pub(crate) fn suspend(&mut self) {
        self.lose(|_| true);
        self.tries = 0;
    }

    /// The other end has everything before an offset. False if it lacks what was forgotten here, or has
    /// what was never sent.
    pub(crate) fn resume(&mut self, upto: u64) -> bool {
        if upto < self.base || upto > self.fresh {
            return false;
        }
        self.suspend();
        let gone = usize::try_from(upto - self.base).unwrap_or(usize::MAX);
        self.bytes.drain(..gone);
        self.base = upto;
        self.fresh = upto;
        self.lost.clear();
        true
    }

    /// Bytes of frames that were sent whole since the last call.
    pub(crate) fn take_written(&mut self) -> u64 {
        let mut written = 0;
        while let Some((end, length)) = self.ends.front().copied()
            && end <= self.fresh
        {
            self.ends.pop_front();
            written += length as u64;
        }
        written
    }
}
