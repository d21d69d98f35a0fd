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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::Stamp;
    use crate::event::Body;
    use crate::identity::{IDENTITY_BYTES, Identity};
    use crate::json::Value;
    use crate::policy::Policy;

    fn judge() -> Judge {
        let mut judge = Judge::new(Policy::FirstUse);
        judge.learn(Identity::from_bytes(&[1; IDENTITY_BYTES]).public().clone());
        judge
    }

    /// A feed under a name that its signatures bind to a key, of which each tenth event is by somebody else.
    fn feed(length: u64) -> Vec<Arc<Event>> {
        let [signer, other] = [1, 2].map(|n| Identity::from_bytes(&[n; IDENTITY_BYTES]));
        let mut prev = None;
        let event = |seq| {
            let (author, kind) = ("named".into(), "k".into());
            let payload = Value::from(seq).into();
            let body = Body { author, seq, stamp: Stamp::new(1, 0), kind, payload, prev };
            prev = Some(body.id());
            Arc::new(if seq % 10 == 0 { other.event(body) } else { signer.event(body) })
        };
        (1..=length).map(event).collect()
    }

    #[test]
    fn the_same_as_one_after_the_other() {
        let feed = feed(25);
        let mut messages: Vec<Vec<u8>> = feed.chunks(3).rev().map(message::events).collect();
        messages.push(b"{\"t\":\"events\",\"e\":[7,{}]}".to_vec());
        messages.push(b"{\"t\":\"frontier\",\"f\":{\"named\":2}}".to_vec());
        messages.push(b"{\"t\"".to_vec());
        // More than are taken at once.
        let messages: Vec<Vec<u8>> =
            messages.into_iter().cycle().take(2 * MESSAGES_TOGETHER_MAX + 1).collect();
        let (mut log, mut judge_alone) = (Log::default(), judge());
        let mut alone = Vec::new();
        for message in &messages {
            alone.push(message::parse(message).map(|message| {
                match message {
                    Message::Frontier(lengths) => Heard::Frontier(lengths),
                    Message::Events(events) => Heard::Events(
                        events
                            .into_iter()
                            .map(|event| {
                                let taken = log.take(event?, &mut judge_alone);
                                taken.map_err(|why| NotTaken::Refused(Box::new(why)))
                            })
                            .collect(),
                    ),
                }
            }));
        }
        let (mut together, mut shown) = (Log::default(), Vec::new());
        let show = |events: &[Arc<Event>]| shown.extend_from_slice(events);
        let heard = take_and_show(&mut together, &mut judge(), &messages, show);
        assert_eq!(heard, alone);
        assert_eq!((together.len(), shown.len()), (log.len(), log.len()));
        assert!(shown.iter().eq(log.arrived()) && log.len() >= 9, "{}", log.len());
        let refused = |heard: &&Result<Heard, MessageError>| {
            let Ok(Heard::Events(events)) = heard else { return false };
            events.iter().any(|one| matches!(one, Err(NotTaken::Refused(_))))
        };
        assert!(heard.iter().filter(refused).count() > 1);
    }
}
