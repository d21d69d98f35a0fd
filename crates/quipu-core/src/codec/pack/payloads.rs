//! The payload part of a batch. It can be rewritten when a payload is erased: the event then keeps
//! what it says of the payload, and nothing of the payload itself.

use bytes::Bytes;

use super::PackError;
use super::context::Context;
use crate::codec::v1::{put_payload_block, split_payload};
use crate::codec::varint::{Reader, put, put_section};
use crate::event::{Event, PayloadRef};
use crate::id::{PayloadId, Subject};
use crate::limits::{PAYLOAD_BYTES_MAX, SALT_BYTES_MAX};

const ABSENT: u64 = 0;
const ABSENT_WITH_SUBJECT: u64 = 1;
/// From here on: the length of the value, plus this.
const PRESENT: u64 = 2;

/// A payload as it comes out of a batch.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum PayloadPart {
    /// The block.
    Present(Bytes),
    /// Erased or left out: what the event says of it.
    Absent(PayloadRef),
}

/// Encodes the payload part of a batch.
pub fn encode_payloads(events: &[Event], context: &mut Context) -> Vec<u8> {
    let salt_bytes = events
        .iter()
        .find_map(|event| split_payload(event.payload.as_ref()?).map(|(salt, _)| salt.len()))
        .unwrap_or(0);
    let (mut lengths, mut values, mut raw) = (Vec::new(), Vec::new(), Vec::new());
    put(&mut lengths, salt_bytes as u64);
    for event in events {
        let split = event.payload.as_ref().and_then(|block| split_payload(block));
        match split.filter(|(salt, _)| salt.len() == salt_bytes) {
            Some((salt, value)) => {
                put(&mut lengths, value.len() as u64 + PRESENT);
                raw.extend_from_slice(salt);
                values.extend_from_slice(value);
            }
            None => put_absent(&event.header.payload, &mut lengths, &mut raw),
        }
    }
    let mut columns = Vec::with_capacity(lengths.len() + values.len() + 8);
    put_section(&mut columns, &lengths);
    columns.extend_from_slice(&values);
    let mut out = Vec::with_capacity(columns.len() / 2 + raw.len());
    context.folder.put(&mut out, &columns);
    put_section(&mut out, &raw);
    out
}

fn put_absent(payload: &PayloadRef, lengths: &mut Vec<u8>, raw: &mut Vec<u8>) {
    put(lengths, if payload.subject.is_some() { ABSENT_WITH_SUBJECT } else { ABSENT });
    put(lengths, u64::from(payload.size));
    raw.extend_from_slice(&payload.id.0);
    if let Some(subject) = &payload.subject {
        raw.extend_from_slice(&subject.0);
    }
}

/// A payload as it lies in a batch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PayloadView<'a> {
    /// The two parts of the block.
    Present {
        /// The salt.
        salt: &'a [u8],
        /// The value, as canonical DAG-CBOR.
        value: &'a [u8],
    },
    /// Erased or left out: what the event says of it.
    Absent(PayloadRef),
}

/// Shows the payloads of a batch of `count` events in order, without a copy of each.
///
/// # Errors
/// What is wrong with it; then some may have been shown.
pub fn visit_payloads(
    bytes: &[u8],
    count: usize,
    context: &mut Context,
    mut see: impl FnMut(PayloadView<'_>),
) -> Result<(), PackError> {
    let malformed = PackError::Malformed("payloads");
    let mut reader = Reader::new(bytes);
    let columns = context.folder.take(&mut reader)?;
    let raw = reader.section().ok_or(malformed.clone())?;
    let mut columns = PayloadColumns::open(&columns, raw).ok_or(malformed.clone())?;
    if !reader.is_empty() {
        return Err(malformed);
    }
    for _ in 0..count {
        see(columns.take()?);
    }
    if columns.is_empty() { Ok(()) } else { Err(malformed) }
}

/// Decodes the payload part of a batch of `count` events.
///
/// # Errors
/// What is wrong with it.
pub fn decode_payloads(
    bytes: &[u8],
    count: usize,
    context: &mut Context,
) -> Result<Vec<PayloadPart>, PackError> {
    let (mut parts, mut ends) = (Vec::with_capacity(count), Vec::with_capacity(count));
    let mut blocks = Vec::with_capacity(bytes.len() + 32 * count);
    visit_payloads(bytes, count, context, |part| match part {
        PayloadView::Present { salt, value } => {
            put_payload_block(salt, value, &mut blocks);
            parts.push(PayloadPart::Present(Bytes::new()));
            ends.push(Some(blocks.len()));
        }
        PayloadView::Absent(reference) => {
            parts.push(PayloadPart::Absent(reference));
            ends.push(None);
        }
    })?;
    share_blocks(blocks.into(), &ends, &mut parts);
    Ok(parts)
}

/// Cursors over the columns of a payload part.
struct PayloadColumns<'a> {
    lengths: Reader<'a>,
    values: Reader<'a>,
    raw: Reader<'a>,
    salt_bytes: usize,
}

impl<'a> PayloadColumns<'a> {
    fn open(columns: &'a [u8], raw: &'a [u8]) -> Option<Self> {
        let mut values = Reader::new(columns);
        let mut lengths = Reader::new(values.section()?);
        let salt_bytes = lengths.length().filter(|length| *length <= SALT_BYTES_MAX)?;
        Some(Self { lengths, values, raw: Reader::new(raw), salt_bytes })
    }

    fn take(&mut self) -> Result<PayloadView<'a>, PackError> {
        let malformed = PackError::Malformed("payloads");
        match self.lengths.varint().ok_or(malformed.clone())? {
            code @ (ABSENT | ABSENT_WITH_SUBJECT) => {
                let absent = take_absent(code, &mut self.lengths, &mut self.raw);
                absent.map(PayloadView::Absent).ok_or(malformed)
            }
            code => {
                let length = usize::try_from(code - PRESENT).unwrap_or(usize::MAX);
                if length > PAYLOAD_BYTES_MAX {
                    return Err(PackError::TooLarge("payload"));
                }
                let value = self.values.take(length).ok_or(malformed.clone())?;
                let salt = self.raw.take(self.salt_bytes).ok_or(malformed)?;
                Ok(PayloadView::Present { salt, value })
            }
        }
    }

    fn is_empty(&self) -> bool {
        self.raw.is_empty() && self.lengths.is_empty() && self.values.is_empty()
    }
}

/// Cuts one buffer into the blocks, so that a batch costs one allocation.
fn share_blocks(blocks: Bytes, ends: &[Option<usize>], parts: &mut [PayloadPart]) {
    let mut start = 0;
    for (part, end) in parts.iter_mut().zip(ends) {
        if let Some(end) = *end {
            *part = PayloadPart::Present(blocks.slice(start..end));
            start = end;
        }
    }
}

fn take_absent(code: u64, lengths: &mut Reader<'_>, raw: &mut Reader<'_>) -> Option<PayloadRef> {
    let size = u32::try_from(lengths.varint()?).ok()?;
    let id = PayloadId(raw.array()?);
    let subject = match code {
        ABSENT => None,
        _ => Some(Subject(raw.array()?)),
    };
    Some(PayloadRef { id, size, subject })
}
