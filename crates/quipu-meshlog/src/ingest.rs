//! Many messages taken together: the same as one after the other, with the costly part on all cores.

use std::collections::BTreeMap;
use std::sync::Arc;

use rayon::prelude::*;

use crate::event::{Event, Looked, ShapeError};
use crate::limits::MESSAGES_TOGETHER_MAX;
use crate::log::{Log, Taken};
use crate::message::{self, Message, MessageError};
use crate::policy::{Checked, Judge, Refusal};
use crate::text::Text;

/// What a message was.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Heard {
    /// How long the sender's feeds are.
    Frontier(BTreeMap<Text, u64>),
    /// Events, and what became of each.
    Events(Vec<Result<Taken, NotTaken>>),
}

/// Why something in a message was not taken.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum NotTaken {
    /// It is no event.
    #[error(transparent)]
    Shape(#[from] ShapeError),
    /// It is refused.
    #[error("{0}")]
    Refused(Box<Refusal>),
}

/// A message whose events were looked at.
enum Read {
    Frontier(BTreeMap<Text, u64>),
    Events(Vec<Result<Looked, ShapeError>>),
}

impl Read {
    fn looked(&self) -> impl Iterator<Item = &Looked> {
        let events = match self {
            Self::Frontier(_) => &[],
            Self::Events(events) => events.as_slice(),
        };
        events.iter().flatten()
    }
}

/// Takes messages into a log, in their order.
pub fn take(
    log: &mut Log,
    judge: &mut Judge,
    messages: &[impl AsRef<[u8]> + Sync],
) -> Vec<Result<Heard, MessageError>> {
    take_and_show(log, judge, messages, |_| ())
}

/// The same for who keeps a view: `show` gets the events that came into the log, in their order, some at a time, while
/// others are read.
pub fn take_and_show(
    log: &mut Log,
    judge: &mut Judge,
    messages: &[impl AsRef<[u8]> + Sync],
    mut show: impl FnMut(&[Arc<Event>]) + Send,
) -> Vec<Result<Heard, MessageError>> {
    let read_all = |messages: &[_]| messages.par_iter().map(read).collect();
    let mut steps = messages.chunks(MESSAGES_TOGETHER_MAX);
    let mut out = Vec::with_capacity(messages.len());
    let mut next: Vec<_> = steps.next().map(read_all).unwrap_or_default();
    while !next.is_empty() {
        // While some are taken, others are read.
        let step = std::mem::take(&mut next);
        let after = steps.next().unwrap_or_default();
        let take = || {
            let before = log.len();
            let heard = take_step(log, judge, step);
            show(&log.arrived()[before..]);
            heard
        };
        let (heard, read) = rayon::join(take, || read_all(after));
        out.extend(heard);
        next = read;
    }
    out
}

fn read(bytes: &impl AsRef<[u8]>) -> Result<Read, MessageError> {
    Ok(match message::parse(bytes.as_ref())? {
        Message::Frontier(lengths) => Read::Frontier(lengths),
        Message::Events(events) => {
            Read::Events(events.into_iter().map(|event| event.map(Looked::from)).collect())
        }
    })
}

fn take_step(
    log: &mut Log,
    judge: &mut Judge,
    step: Vec<Result<Read, MessageError>>,
) -> Vec<Result<Heard, MessageError>> {
    let looked = step.iter().flatten().flat_map(Read::looked);
    let mut checks = judge.check_all(looked).into_iter();
    let mut take = |event: Result<Looked, ShapeError>| {
        let event = event?.event;
        // There is a check for each event.
        let checked = checks.next().unwrap_or(Checked::Forged);
        log.take_checked(event, checked, judge).map_err(|why| NotTaken::Refused(Box::new(why)))
    };
    let mut heard = |read| match read {
        Read::Frontier(lengths) => Heard::Frontier(lengths),
        Read::Events(events) => Heard::Events(events.into_iter().map(&mut take).collect()),
    };
    step.into_iter().map(|read| read.map(&mut heard)).collect()
}
