//! What winners say, kept beside the tree so that a question needs no look into the log.
//!
//! An entry's *content* is a class in its highest byte and the offset of a record in the others.

use quipu_core::event::LogSeq;
use quipu_core::id::{EventId, Subject};
use quipu_core::kind;
use quipu_core::statement::Statement;

use crate::error::StateError;
use crate::pages::Pages;
use crate::tree::Entry;

/// Kinds whose payload is kept in a record. A class is a place in this list, plus one.
const CLASSES: [&str; 16] = [
    kind::ARTIFACT_PUT,
    kind::ARTIFACT_TOMBSTONE,
    kind::ARTIFACT_PIN,
    kind::ARTIFACT_UNPIN,
    kind::EDGE_ADD,
    kind::EDGE_TOMBSTONE,
    kind::CONFLICT_RESOLVE,
    kind::SNAPSHOT_DROP,
    kind::ARTIFACT_IMPORT,
    kind::ARTIFACT_PUBLISH,
    kind::PUBLICATION_RECORD,
    kind::DOMAIN_FOLLOW,
    kind::RECEIPT_ANNOUNCE,
    kind::RUN_REQUEST,
    kind::RUN_CLAIM,
    kind::RUN_OFFER,
];

/// Length of the value, class, clock, key, id.
const HEADER_BYTES: usize = 4 + 4 + 8 + 32 + 32;
const CLASS_SHIFT: u32 = 56;

/// The class of a kind; 0 if no record is kept of it.
pub(crate) fn class_of(kind: &str) -> u8 {
    CLASSES.iter().position(|known| *known == kind).map_or(0, |place| place as u8 + 1)
}

/// The class in an entry's content.
pub(crate) fn class_in(content: u64) -> u8 {
    (content >> CLASS_SHIFT) as u8
}

/// The kind of an entry's event, if a record is kept of it.
pub fn kind_of(entry: &Entry) -> Option<&'static str> {
    CLASSES.get(usize::from(class_in(entry.content)).checked_sub(1)?).copied()
}

/// A record that was read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Record {
    pub(crate) subject: Subject,
    pub(crate) id: EventId,
    pub(crate) logseq: LogSeq,
    pub(crate) statement: Statement,
}

/// The content of an entry whose event says nothing that can be read: its class, and no record.
pub(crate) fn nothing(class: u8) -> u64 {
    u64::from(class) << CLASS_SHIFT
}

/// Whether an entry's content has a record.
pub(crate) fn is_kept(content: u64) -> bool {
    offset_of(content) != 0
}

fn offset_of(content: u64) -> u64 {
    content & !(0xff << CLASS_SHIFT)
}

/// Writes a record. Answers the content of its entry.
pub(crate) fn write(pages: &mut Pages, entry: &Entry, class: u8, value: &[u8]) -> u64 {
    let mut header = Vec::with_capacity(HEADER_BYTES);
    header.extend_from_slice(&(value.len() as u32).to_le_bytes());
    header.extend_from_slice(&[class, 0, 0, 0]);
    header.extend_from_slice(&entry.logseq.0.to_le_bytes());
    header.extend_from_slice(&entry.subject.0);
    header.extend_from_slice(&entry.id.0);
    let at = pages.push(&header);
    pages.push(value);
    at | (u64::from(class) << CLASS_SHIFT)
}

/// Copies a record. Answers the content of its entry there.
pub(crate) fn copy(from: &Pages, content: u64, to: &mut Pages) -> Result<u64, StateError> {
    let at = offset_of(content);
    let length = u32::from_le_bytes(from.number(at)?) as usize;
    let record = from.bytes(at, HEADER_BYTES.saturating_add(length))?;
    Ok(to.push(record) | (u64::from(class_in(content)) << CLASS_SHIFT))
}

/// Reads a record.
pub(crate) fn read(pages: &Pages, content: u64) -> Result<Record, StateError> {
    let at = offset_of(content);
    let header: [u8; HEADER_BYTES] = pages.number(at)?;
    let (length, rest) = header.split_at(4);
    let (class, rest) = rest.split_at(4);
    let (logseq, rest) = rest.split_at(8);
    let (subject, id) = rest.split_at(32);
    let length = length.iter().rev().fold(0, |n, byte| (n << 8) | usize::from(*byte));
    let value = pages.bytes(at + HEADER_BYTES as u64, length)?;
    let kind = CLASSES.get(usize::from(class[0]).wrapping_sub(1));
    let statement = kind.and_then(|kind| Statement::of(kind, value));
    Ok(Record {
        subject: Subject::from_slice(subject).unwrap_or_default(),
        id: EventId::from_slice(id).unwrap_or_default(),
        logseq: LogSeq(logseq.iter().rev().fold(0, |n, byte| (n << 8) | u64::from(*byte))),
        statement: statement.ok_or_else(|| pages.damage("a record says nothing"))?,
    })
}
