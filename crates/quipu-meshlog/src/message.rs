//! What nodes of meshlogd say to each other: where they stand, and events.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::event::{Event, ShapeError};
use crate::json::{self, JsonError, Object, Style, Value};
use crate::limits::{MESSAGE_EVENTS_MAX, PUSH_BYTES_MAX};
use crate::text::Text;

const EVENTS_BEGIN: &[u8] = b"{\"t\":\"events\",\"e\":[";
const EVENTS_END: &[u8] = b"]}";

/// A message.
#[derive(Debug, Clone, PartialEq)]
pub enum Message {
    /// How long the sender's feeds are: it wants what is beyond.
    Frontier(BTreeMap<Text, u64>),
    /// Events, each by itself: one that is none does not spoil the others.
    Events(Vec<Result<Event, ShapeError>>),
}

/// What is wrong with a message.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum MessageError {
    /// Not JSON.
    #[error("not JSON: {0}")]
    Json(#[from] JsonError),
    /// Neither of the two messages.
    #[error("a message of meshlogd has `t`, which is `frontier` or `events`")]
    Unknown,
    /// A frontier is no object of lengths.
    #[error("`f` of a frontier must be an object of whole numbers")]
    Frontier,
    /// The events are no list.
    #[error("`e` of events must be a list")]
    Events,
}

/// Reads a message. Of fields that stand there twice the last counts.
pub fn parse(bytes: &[u8]) -> Result<Message, MessageError> {
    let (mut kind, mut lengths, mut events) = (Value::Null, Value::Null, None);
    json::parse_with(bytes, |reader| {
        if reader.peek() != Some(b'{') {
            return reader.value().map(drop);
        }
        reader.pairs(|reader, key| {
            match key.as_bytes() {
                b"t" => kind = reader.value()?,
                b"f" => lengths = reader.value()?,
                b"e" if reader.peek() == Some(b'[') => {
                    let list = events.insert(Vec::with_capacity(MESSAGE_EVENTS_MAX));
                    reader.items(|reader| {
                        list.push(Event::read(reader)?);
                        Ok(())
                    })?;
                }
                b"e" => {
                    reader.value()?;
                    events = None;
                }
                _ => drop(reader.value()?),
            }
            Ok(())
        })
    })?;
    match kind.as_text().and_then(Text::as_str) {
        Some("frontier") => {
            read_lengths(&lengths).map(Message::Frontier).ok_or(MessageError::Frontier)
        }
        Some("events") => events.map(Message::Events).ok_or(MessageError::Events),
        _ => Err(MessageError::Unknown),
    }
}

fn read_lengths(lengths: &Value) -> Option<BTreeMap<Text, u64>> {
    let length = |(author, length): &(Text, Value)| {
        // Below zero, nothing is held; above all feeds, everything.
        let length = length.as_int()?;
        let clamped = if length.is_negative() { 0 } else { length.as_u64().unwrap_or(u64::MAX) };
        Some((author.clone(), clamped))
    };
    lengths.as_object()?.iter().map(length).collect()
}

/// The message that tells a frontier.
pub fn frontier(lengths: Object) -> Vec<u8> {
    json::to_bytes(
        &Value::object([("t", "frontier".into()), ("f", lengths.into())]),
        Style::Compact,
    )
}

/// The message that carries events, of which meshlogd sends [`MESSAGE_EVENTS_MAX`] at most.
pub fn events(events: &[Arc<Event>]) -> Vec<u8> {
    let mut out = EVENTS_BEGIN.to_vec();
    for (at, event) in events.iter().enumerate() {
        if at > 0 {
            out.push(b',');
        }
        event.write_wire(&mut out);
    }
    out.extend_from_slice(EVENTS_END);
    out
}

/// A message of events that is filled up to what one message should carry.
#[derive(Debug)]
pub struct EventsBatch {
    bytes: Vec<u8>,
    count: usize,
    count_max: usize,
}

impl EventsBatch {
    /// An empty one that takes so many events, as far as a message does.
    pub fn of(count_max: usize) -> Self {
        Self { bytes: Vec::new(), count: 0, count_max: count_max.min(MESSAGE_EVENTS_MAX) }
    }

    /// Adds an event, if there is room. The first always has.
    pub fn push(&mut self, event: &Event) -> bool {
        if self.count >= self.count_max || self.bytes.len() >= PUSH_BYTES_MAX {
            return false;
        }
        let before = self.bytes.len();
        self.bytes.extend_from_slice(if self.count == 0 { EVENTS_BEGIN } else { b"," });
        event.write_wire(&mut self.bytes);
        if self.count > 0 && self.bytes.len() > PUSH_BYTES_MAX {
            self.bytes.truncate(before);
            return false;
        }
        self.count += 1;
        true
    }

    /// The message; nothing if there are no events.
    pub fn finish(mut self) -> Option<Vec<u8>> {
        self.bytes.extend_from_slice(EVENTS_END);
        (self.count > 0).then_some(self.bytes)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::Stamp;
    use crate::event::Body;

    #[test]
    fn messages_are_read_again() {
        let (stamp, payload) =
            (Stamp::new(1, 2), Value::object([("b", f64::INFINITY.into())]).into());
        let body =
            Body { author: "a".into(), seq: 1, stamp, kind: "k".into(), payload, prev: None };
        let event = Arc::new(Event::new(body));
        let bytes = events(&[Arc::clone(&event), Arc::clone(&event)]);
        let expected = json::to_bytes(&json::parse(&bytes).unwrap(), Style::Compact);
        assert_eq!(bytes, expected);
        let Ok(Message::Events(read)) = parse(&bytes) else { panic!("events") };
        assert_eq!(read, [Ok((*event).clone()), Ok((*event).clone())]);
        let mut lengths = Object::default();
        lengths.push("a", 3u64);
        let Ok(Message::Frontier(read)) = parse(&frontier(lengths)) else { panic!("a frontier") };
        assert_eq!(read, BTreeMap::from([("a".into(), 3)]));
    }

    #[test]
    fn what_is_no_message() {
        let cases = [
            ("[]", MessageError::Unknown),
            (r#"{"t":"x"}"#, MessageError::Unknown),
            (r#"{"t":"frontier","f":[]}"#, MessageError::Frontier),
            (r#"{"t":"frontier","f":{"a":1.0}}"#, MessageError::Frontier),
            (r#"{"t":"events","e":{}}"#, MessageError::Events),
        ];
        for (text, error) in cases {
            assert_eq!(parse(text.as_bytes()), Err(error), "{text}");
        }
        let Ok(Message::Events(read)) = parse(br#"{"t":"events","e":[1]}"#) else {
            panic!("events")
        };
        assert_eq!(read, [Err(ShapeError::NoObject)]);
    }
}
