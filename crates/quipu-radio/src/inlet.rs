//! What arrives in one lane: pieces in any order, put together to frames.

use std::collections::{BTreeMap, VecDeque};

use quipu_core::codec::varint::Reader;

use crate::limits::{ACK_RANGES_MAX, FRAME_BYTES_MAX, WINDOW_BYTES};
use crate::stream::StreamError;

/// Bytes of the longest varint.
const VARINT_BYTES_MAX: usize = 10;

/// Bytes that arrive.
#[derive(Debug, Default)]
pub(crate) struct Inlet {
    /// Everything before this is here.
    have: u64,
    /// Pieces after a gap, by offset. They do not overlap.
    apart: BTreeMap<u64, Vec<u8>>,
    /// Of the frame that is being put together, with its length in front.
    bytes: VecDeque<u8>,
}

impl Inlet {
    /// Everything before this is here.
    pub(crate) fn have(&self) -> u64 {
        self.have
    }

    /// What is here after the first gap, for an acknowledgement.
    pub(crate) fn ranges(&self) -> Vec<(u64, u64)> {
        let mut ranges: Vec<(u64, u64)> = Vec::new();
        for (offset, piece) in &self.apart {
            let end = offset + piece.len() as u64;
            if let Some(last) = ranges.last_mut().filter(|last| last.1 == *offset) {
                last.1 = end;
            } else if ranges.len() == ACK_RANGES_MAX {
                break;
            } else {
                ranges.push((*offset, end));
            }
        }
        ranges
    }

    /// Takes a piece. What is here already, and what is too far away, is passed over.
    pub(crate) fn take(&mut self, offset: u64, piece: &[u8]) {
        let Some(end) = offset.checked_add(piece.len() as u64) else { return };
        if end <= self.have || end > self.have + WINDOW_BYTES + FRAME_BYTES_MAX as u64 {
            return;
        }
        self.keep(offset, piece);
        while let Some(entry) = self.apart.first_entry().filter(|e| *e.key() <= self.have) {
            let (offset, piece) = entry.remove_entry();
            let known = usize::try_from(self.have - offset).unwrap_or(usize::MAX);
            if let Some(fresh) = piece.get(known..) {
                self.bytes.extend(fresh);
                self.have += fresh.len() as u64;
            }
        }
    }

    /// Keeps what is not here yet of a piece. What is here stays: it may be acknowledged.
    fn keep(&mut self, offset: u64, piece: &[u8]) {
        let end = offset + piece.len() as u64;
        let mut at = offset;
        let before = self.apart.range(..=offset).next_back();
        if let Some((kept, bytes)) = before {
            at = at.max(kept + bytes.len() as u64);
        }
        let known: Vec<(u64, u64)> = self
            .apart
            .range(offset..end)
            .map(|(from, bytes)| (*from, from + bytes.len() as u64))
            .chain([(end, end)])
            .collect();
        for (from, to) in known {
            let part = |place: u64| usize::try_from(place - offset).unwrap_or(usize::MAX);
            if at < from
                && let Some(fresh) = piece.get(part(at)..part(from))
            {
                self.apart.insert(at, fresh.to_vec());
            }
            at = at.max(to);
        }
    }

    /// Bytes that are missing of the frame that is being put together.
    pub(crate) fn expected(&self) -> usize {
        let head: Vec<u8> = self.bytes.iter().take(VARINT_BYTES_MAX).copied().collect();
        let mut reader = Reader::new(&head);
        let Some(length) = reader.varint() else { return 0 };
        let whole = usize::try_from(length).unwrap_or(usize::MAX).min(FRAME_BYTES_MAX);
        (head.len() - reader.len() + whole).saturating_sub(self.bytes.len())
    }

    /// The next whole frame.
    pub(crate) fn pop(&mut self) -> Result<Option<Vec<u8>>, StreamError> {
        let head: Vec<u8> = self.bytes.iter().take(VARINT_BYTES_MAX).copied().collect();
        let mut reader = Reader::new(&head);
        let Some(length) = reader.varint() else {
            let broken = head.len() == VARINT_BYTES_MAX || head.last().is_some_and(|b| *b < 0x80);
            return if broken { Err(StreamError::Length) } else { Ok(None) };
        };
        let head = head.len() - reader.len();
        let length = usize::try_from(length).unwrap_or(usize::MAX);
        if length > FRAME_BYTES_MAX {
            return Err(StreamError::TooLong(length));
        }
        if self.bytes.len() < head + length {
            return Ok(None);
        }
        self.bytes.drain(..head);
        Ok(Some(self.bytes.drain(..length).collect()))
    }
}
