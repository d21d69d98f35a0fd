//! The rulebook: every way in which an authentic event can be invalid.

use crate::codec::v1::{self, BodyError};
use crate::domain::Parameters;
use crate::event::{Event, Log, LogSeq};
use crate::id::{DomainId, EventId, NodeKey};
use crate::kind;
use crate::limits::LOGSEQ_JUMP_MAX;

/// Why an event is refused. Depends on the event and its past only, so that all machines agree.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Rule {
    /// It is the root of another domain.
    #[error("root event of another domain: this one is {held}, the other {given}")]
    OtherDomain {
        /// The domain held here.
        held: DomainId,
        /// The domain of the event.
        given: DomainId,
    },
    /// It belongs to a log that is not taken here.
    #[error("event of the {} log in the {} log", .given.name(), .expected.name())]
    OtherLog {
        /// The log it was put to.
        expected: Log,
        /// The log it names.
        given: Log,
    },
    /// The format is broken.
    #[error(transparent)]
    Body(#[from] BodyError),
    /// More parents than R allows.
    #[error("{given} parents, the domain allows {max}")]
    TooManyParents {
        /// How many it has.
        given: usize,
        /// How many R allows.
        max: usize,
    },
    /// It has no parents, and is not the root.
    #[error("an event other than the root names no parents")]
    NoParents,
    /// `prev` is an event, but not the one before it in its feed.
    #[error("prev {prev} is not the event before it in its feed")]
    PrevMismatch {
        /// What it names.
        prev: EventId,
    },
    /// The clock does not grow, or jumps into the reserved half.
    #[error("clock {given} may not follow {greatest}")]
    Clock {
        /// Its clock.
        given: LogSeq,
        /// The greatest clock among its links.
        greatest: LogSeq,
    },
    /// Its author was never a member.
    #[error("author {author} was never a member of the domain")]
    NotMember {
        /// The author.
        author: NodeKey,
    },
    /// A structural event came without its payload, which cannot be erased.
    #[error("a {kind} event came without its payload")]
    PayloadWithheld {
        /// Its kind.
        kind: String,
    },
}

/// Rules about the event alone.
pub(super) fn check_content(event: &Event, log: Log, parameters: &Parameters) -> Option<Rule> {
    let header = &event.header;
    if header.log != log {
        return Some(Rule::OtherLog { expected: log, given: header.log });
    }
    if let Err(error) = v1::check_shape(header) {
        return Some(error.into());
    }
    if header.parents.is_empty() {
        return Some(Rule::NoParents);
    }
    if header.parents.len() > parameters.parents_max {
        let (given, max) = (header.parents.len(), parameters.parents_max);
        return Some(Rule::TooManyParents { given, max });
    }
    match &event.payload {
        Some(block) => v1::check_payload(block, parameters.salt_bytes).err().map(Rule::from),
        None if !kind::is_erasable(&header.kind) => {
            Some(Rule::PayloadWithheld { kind: header.kind.to_string() })
        }
        None => None,
    }
}

/// A clock is greater than that of every link, and either one more than the greatest or in the
/// lower half of its range: so there is always room for another event (LOG-1).
pub(super) fn check_clock(given: LogSeq, greatest: LogSeq) -> Option<Rule> {
    let steps = greatest.0.checked_add(1) == Some(given.0);
    let fits = given > greatest && (steps || given.0 < LOGSEQ_JUMP_MAX);
    (!fits).then_some(Rule::Clock { given, greatest })
}

/// The clock of a new event: now, or one more than the greatest link if that is later. Clocks that
/// go backwards, lie years ahead or overflow their counter all end up in the second case.
pub fn next_clock(now_ms: u64, greatest: LogSeq) -> LogSeq {
    LogSeq::from_ms(now_ms).max(LogSeq(greatest.0.saturating_add(1)))
}
