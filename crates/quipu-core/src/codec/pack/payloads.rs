//! The payload part of a batch. It can be rewritten when a payload is erased: the event then keeps
//! what it says of the payload, and nothing of the payload itself.

use bytes::Bytes;

use super::context::Context;
use super::{PackError, put_folded, take_folded};
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
    put_folded(&mut out, &columns, context);
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

/// Decodes the payload part of a batch of `count` events.
///
/// # Errors
/// What is wrong with it.
pub fn decode_payloads(
    bytes: &[u8],
    count: usize,
    context: &mut Context,
) -> Result<Vec<PayloadPart>, PackError> {
    let malformed = PackError::Malformed("payloads");
    let mut reader = Reader::new(bytes);
    let columns = take_folded(&mut reader, context)?;
    let mut raw = Reader::new(reader.section().ok_or(malformed.clone())?);
    let mut values = Reader::new(&columns);
    let mut lengths = Reader::new(values.section().ok_or(malformed.clone())?);
    let salt_bytes = lengths.length().ok_or(malformed.clone())?;
    if salt_bytes > SALT_BYTES_MAX || !reader.is_empty() {
        return Err(malformed);
    }
    let mut parts = Vec::with_capacity(count);
    let mut blocks = Vec::with_capacity(values.len() + count * (salt_bytes + 3));
    let mut ends = Vec::with_capacity(count);
    for _ in 0..count {
        match lengths.varint().ok_or(malformed.clone())? {
            code @ (ABSENT | ABSENT_WITH_SUBJECT) => {
                parts.push(take_absent(code, &mut lengths, &mut raw).ok_or(malformed.clone())?);
                ends.push(None);
            }
            code => {
                let length = usize::try_from(code - PRESENT).unwrap_or(usize::MAX);
                if length > PAYLOAD_BYTES_MAX {
                    return Err(PackError::TooLarge("payload"));
                }
                let value = values.take(length).ok_or(malformed.clone())?;
                let salt = raw.take(salt_bytes).ok_or(malformed.clone())?;
                put_payload_block(salt, value, &mut blocks);
                parts.push(PayloadPart::Present(Bytes::new()));
                ends.push(Some(blocks.len()));
            }
        }
    }
    if !(raw.is_empty() && lengths.is_empty() && values.is_empty()) {
        return Err(malformed);
    }
    share_blocks(blocks.into(), &ends, &mut parts);
    Ok(parts)
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

fn take_absent(code: u64, lengths: &mut Reader<'_>, raw: &mut Reader<'_>) -> Option<PayloadPart> {
    let size = u32::try_from(lengths.varint()?).ok()?;
    let id = PayloadId(raw.array()?);
    let subject = match code {
        ABSENT => None,
        _ => Some(Subject(raw.array()?)),
    };
    Some(PayloadPart::Absent(PayloadRef { id, size, subject }))
}
