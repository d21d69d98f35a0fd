//! Many messages taken together: the same as one after the other, with the costly part on all cores.

use std::collections::BTreeMap;

use rayon::prelude::*;

use crate::event::{Event, ShapeError};
use crate::limits::MESSAGES_TOGETHER_MAX;
use crate::log::{Log, Taken};
use crate::message::{self, Message, MessageError};
use crate::policy::{Judge, Refusal};
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
    #[error(transparent)]
    Refused(#[from] Refusal),
}

/// A message, with events of which is known whether their ids are right.
enum Read {
    Frontier(BTreeMap<Text, u64>),
    Events(Vec<Result<(Event, bool), ShapeError>>),
}

/// Takes messages into a log, in their order.
pub fn take(
    log: &mut Log,
    judge: &mut Judge,
    messages: &[impl AsRef<[u8]> + Sync],
) -> Vec<Result<Heard, MessageError>> {
    let read_all = |messages: &[_]| messages.par_iter().map(read).collect();
    let mut steps = messages.chunks(MESSAGES_TOGETHER_MAX);
    let mut out = Vec::with_capacity(messages.len());
    let mut next: Vec<_> = steps.next().map(read_all).unwrap_or_default();
    while !next.is_empty() {
        // While some are taken, others are read.
        let step = std::mem::take(&mut next);
        let after = steps.next().unwrap_or_default();
        let (heard, read) = rayon::join(|| take_step(log, judge, step), || read_all(after));
        out.extend(heard);
        next = read;
    }
    out
}

fn read(bytes: &impl AsRef<[u8]>) -> Result<Read, MessageError> {
    Ok(match message::parse(bytes.as_ref())? {
        Message::Frontier(lengths) => Read::Frontier(lengths),
        Message::Events(events) => {
            Read::Events(events.into_iter().map(|event| event.map(Event::look)).collect())
        }
    })
}

fn take_step(
    log: &mut Log,
    judge: &mut Judge,
    step: Vec<Result<Read, MessageError>>,
) -> Vec<Result<Heard, MessageError>> {
    let mut events = Vec::new();
    let mut set_aside = |event: Result<(Event, bool), ShapeError>| event.map(|event| events.push(event));
    let shapes: Vec<Result<_, MessageError>> = step
        .into_iter()
        .map(|read| {
            Ok(match read? {
                Read::Frontier(lengths) => Err(lengths),
                Read::Events(list) => Ok(list.into_iter().map(&mut set_aside).collect::<Vec<_>>()),
            })
        })
        .collect();
    let mut taken = log.take_looked(events, judge).into_iter();
    let mut outcome = |shape: Result<(), ShapeError>| -> Option<Result<Taken, NotTaken>> {
        match shape {
            Ok(()) => Some(taken.next()?.map_err(NotTaken::from)),
            Err(error) => Some(Err(error.into())),
        }
    };
    let heard = |shape: Result<Vec<_>, _>| match shape {
        Err(lengths) => Heard::Frontier(lengths),
        Ok(list) => Heard::Events(list.into_iter().filter_map(&mut outcome).collect()),
    };
    let mut heard = heard;
    shapes.into_iter().map(|shape| shape.map(&mut heard)).collect()
}
