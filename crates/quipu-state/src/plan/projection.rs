//! The operator Projection: the fields that were asked for.

use std::sync::Arc;

use quipu_core::event::LogSeq;
use quipu_core::history::Ordinal;
use quipu_core::id::{EventId, NodeKey, Subject};
use quipu_store::ScanRow;

/// A field of an event.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Field {
    /// Where it lies in this machine's log.
    Ordinal,
    /// Who wrote it.
    Author,
    /// Position in the author's feed.
    Seq,
    /// Its kind.
    Kind,
    /// The fold key that it writes. Needs the payloads to be read.
    Subject,
}

impl Field {
    /// All fields.
    pub const ALL: [Field; 5] =
        [Field::Ordinal, Field::Author, Field::Seq, Field::Kind, Field::Subject];

    /// Its name.
    pub const fn name(self) -> &'static str {
        match self {
            Field::Ordinal => "ordinal",
            Field::Author => "author",
            Field::Seq => "seq",
            Field::Kind => "kind",
            Field::Subject => "subject",
        }
    }
}

/// An event with the fields that were asked for. Clock and id are always there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EventRow {
    /// Its clock.
    pub logseq: LogSeq,
    /// Its id.
    pub id: EventId,
    /// Where it lies in this machine's log.
    pub ordinal: Option<Ordinal>,
    /// Who wrote it.
    pub author: Option<NodeKey>,
    /// Position in the author's feed.
    pub seq: Option<u64>,
    /// Its kind.
    pub kind: Option<Arc<str>>,
    /// The fold key that it writes, if it writes one.
    pub subject: Option<Subject>,
}

/// Takes the fields that were asked for.
pub fn project(row: &ScanRow<'_>, fields: &[Field]) -> EventRow {
    let mut out = EventRow {
        logseq: row.logseq,
        id: row.id,
        ordinal: None,
        author: None,
        seq: None,
        kind: None,
        subject: None,
    };
    for field in fields {
        match field {
            Field::Ordinal => out.ordinal = Some(row.ordinal),
            Field::Author => out.author = Some(row.author),
            Field::Seq => out.seq = Some(row.seq),
            Field::Kind => out.kind = Some(row.kind.clone()),
            Field::Subject => out.subject = row.subject(),
        }
    }
    out
}

impl EventRow {
    /// Its place in the replay order.
    pub fn order(&self) -> (LogSeq, EventId) {
        (self.logseq, self.id)
    }
}
