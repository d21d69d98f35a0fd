//! What a node's record events become in a mesh: events of meshlogd under its Reticulum identity.
//!
//! The n-th record event of a node's feed becomes the n-th event of its author's feed in the mesh. That is a
//! pure function of the node's feed: every gateway computes the same bytes, and no gateway authors anything.
//! With a [`Claim`] that says so, the node signs what comes out by `mesh.sign` events of its own, and
//! events wait for their signatures; so also signed bytes are the same everywhere.
//!
//! It stops, for good, where it cannot go on the same everywhere: at a fork of the node's feed, and at a record
//! whose payload was erased before the machine had it.

use std::collections::VecDeque;

use data_encoding::HEXLOWER;
use quipu_core::event::Event as NativeEvent;
use quipu_core::id::{EventId, NodeKey};
use quipu_core::kind;
use quipu_core::value::{self, Map, Value as NativeValue};

use crate::clock::Stamp;
use crate::event::{Body, Event, MeshId};
use crate::identity::{Identity, SIGNATURE_BYTES};
use crate::json::{self, Int, Object, Style, Value};
use crate::native::{Claim, SIGNATURES_MAX, Said, Signatures, goes_to_mesh};
use crate::records;
use crate::text::Text;

/// Why a projection goes no further.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Stopped {
    /// Two events of the node stand at one place: the mesh can take one of them only.
    #[error("the feed forks at {at}: nothing of it goes to the mesh from there on")]
    Fork {
        /// The second event.
        at: EventId,
    },
    /// A record's payload is gone: the id of what it became is not known here.
    #[error("the payload of {at} was erased: what comes after it cannot be chained to it")]
    Erased {
        /// The event.
        at: EventId,
    },
}

/// An event was given out of turn. The caller's fault.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("event {id} is not the next one of the feed that is projected")]
pub struct OutOfTurn {
    /// The event.
    pub id: EventId,
}

/// The identity that a node writes to a mesh with: the first of its feed that is proven.
pub fn identity_of<'a>(feed: impl IntoIterator<Item = &'a NativeEvent>) -> Option<Claim> {
    feed.into_iter().find_map(|event| {
        if &*event.header.kind != kind::MESH_IDENTITY {
            return None;
        }
        match Said::of(kind::MESH_IDENTITY, &value::decode(event.payload_value()?).ok()?)? {
            Said::Identity(claim) if claim.is_proven_for(&event.header.author) => Some(claim),
            _ => None,
        }
    })
}

/// Projects one node's feed, event by event.
#[derive(Debug, Clone)]
pub struct Projector {
    node: NodeKey,
    /// Nothing for a node that has no identity: then its events do not leave this machine.
    claim: Option<Claim>,
    author: Text,
    /// The last native event.
    last: Option<(u64, EventId)>,
    /// The last event made.
    made: (u64, Option<MeshId>),
    /// Events that wait for signatures.
    waiting: VecDeque<Event>,
    stopped: Option<Stopped>,
}

impl Projector {
    /// Begins before the first event of a node's feed.
    pub fn new(node: NodeKey, claim: Claim) -> Self {
        let author = claim.identity.author();
        Self::named(node, Some(claim), author)
    }

    /// The same for a node without an identity: what it becomes here, under the name of its key. It must not go to a
    /// mesh, where it would be somebody else once the node has an identity.
    pub fn unclaimed(node: NodeKey) -> Self {
        Self::named(node, None, node.to_string().into())
    }

    const fn named(node: NodeKey, claim: Option<Claim>, author: Text) -> Self {
        let waiting = VecDeque::new();
        Self { node, claim, author, last: None, made: (0, None), waiting, stopped: None }
    }

    /// The place of the last event that was made, whether it went out or waits for a signature.
    pub const fn made(&self) -> u64 {
        self.made.0
    }

    /// How many events wait for signatures.
    pub fn waiting(&self) -> usize {
        self.waiting.len()
    }

    /// The author in the mesh.
    pub const fn author(&self) -> &Text {
        &self.author
    }

    /// Why it goes no further, if it does not.
    pub const fn stopped(&self) -> Option<Stopped> {
        self.stopped
    }

    /// Takes the next event of the feed, and gives what goes to the mesh now, in order. Once it has stopped, it takes
    /// everything and gives nothing.
    pub fn push(&mut self, event: &NativeEvent) -> Result<Vec<Event>, OutOfTurn> {
        if event.header.author != self.node {
            return Err(OutOfTurn { id: event.id });
        }
        if self.stopped.is_some() {
            return Ok(Vec::new());
        }
        let seq = event.header.seq;
        match self.last {
            Some((last, id)) if seq <= last => {
                if (seq, event.id) == (last, id) {
                    return Err(OutOfTurn { id: event.id });
                }
                self.stopped = Some(Stopped::Fork { at: event.id });
                return Ok(Vec::new());
            }
            Some((last, id)) if seq != last + 1 || event.header.prev != Some(id) => {
                return Err(OutOfTurn { id: event.id });
            }
            // From the start, or places in the mesh would not be the same everywhere.
            None if seq != 1 => return Err(OutOfTurn { id: event.id }),
            _ => self.last = Some((seq, event.id)),
        }
        Ok(self.take(event))
    }

    fn take(&mut self, event: &NativeEvent) -> Vec<Event> {
        let kind = &*event.header.kind;
        if !goes_to_mesh(kind) && kind != kind::MESH_SIGN {
            return Vec::new();
        }
        let Some(payload) = event.payload_value() else {
            self.stopped = Some(Stopped::Erased { at: event.id });
            return Vec::new();
        };
        let said = value::decode(payload).ok().and_then(|value| Said::of(kind, &value));
        match said {
            Some(Said::Sign(signed)) => self.sign(&signed),
            Some(said) => {
                let clock = event.header.logseq;
                let stamp = Stamp::new(clock.ms().cast_signed(), i64::from(clock.counter()));
                self.make(&said, stamp).into_iter().collect()
            }
            None => Vec::new(),
        }
    }

    /// Makes the next event of the mesh; gives it unless it waits for a signature.
    fn make(&mut self, said: &Said, stamp: Stamp) -> Option<Event> {
        let (kind, payload) = payload_of(said, &self.author)?;
        let (last, prev) = self.made;
        let author = self.author.clone();
        let (seq, payload) = (last + 1, payload.into());
        let body = Body { author, seq, stamp, kind, payload, prev };
        let event = Event::new(body);
        self.made = (event.seq, Some(event.id()));
        if !self.claim.as_ref().is_some_and(|claim| claim.signed) {
            return Some(event);
        }
        self.waiting.push_back(event);
        None
    }

    /// Lets go what is signed now: from the first that waits up to the first without a good signature.
    fn sign(&mut self, signed: &Signatures) -> Vec<Event> {
        let mut ready = Vec::new();
        let Some(claim) = &self.claim else { return ready };
        while let Some(event) = self.waiting.front() {
            let at = event.seq.checked_sub(signed.from).and_then(|at| usize::try_from(at).ok());
            let Some(signature) = at.and_then(|at| signed.signatures.get(at)) else { break };
            let signature = Text::from(HEXLOWER.encode(signature));
            if !claim.identity.has_signed(&event.body().to_bytes(), &signature) {
                break;
            }
            let event = self.waiting.pop_front();
            ready.extend(event.map(|event| event.with_signature(Some(signature))));
        }
        ready
    }

    /// What the node itself writes next, so that the others can send its records to the mesh: signatures over what
    /// waits for them. Nothing if nothing does.
    pub fn signatures(&self, identity: &Identity) -> Option<Signatures> {
        let from = self.waiting.front()?.seq;
        let sign =
            |event: &Event| -> [u8; SIGNATURE_BYTES] { identity.sign_bytes(&event.to_bytes()) };
        let signatures = self.waiting.iter().take(SIGNATURES_MAX).map(sign).collect();
        Some(Signatures { from, signatures })
    }
}

/// Kind and payload in meshlogd's words, with the keys in the order in which meshlogd writes them.
pub(crate) fn payload_of(said: &Said, author: &Text) -> Option<(Text, Value)> {
    let text = |text: &String| Value::from(text.as_str());
    let (kind, payload) = match said {
        Said::Create { record_id, form } => (
            records::CREATE,
            Value::object([
                ("record_id", text(record_id)),
                ("form", text(form)),
                ("by", author.into()),
            ]),
        ),
        Said::Set { record_id, field, value } => (
            records::SET,
            Value::object([
                ("record_id", text(record_id)),
                ("field", text(field)),
                ("value", to_json(value)),
            ]),
        ),
        Said::Note { record_id, text: note } => {
            (records::NOTE, Value::object([("record_id", text(record_id)), ("text", text(note))]))
        }
        Said::Attach { record_id, field, artifact, size, mime } => (
            records::ATTACH,
            Value::object([
                ("record_id", text(record_id)),
                ("field", text(field)),
                ("blob_hash", artifact.to_string().into()),
                ("size", (*size).into()),
                ("mime", text(mime)),
            ]),
        ),
        Said::Emit { kind, payload } => return Some((kind.clone(), payload.clone())),
        Said::Identity(_) | Said::Policy(_) | Said::Trust(_) | Said::Sign(_) | Said::Wrapped(_) => {
            return None;
        }
    };
    Some((kind.into(), payload))
}

/// What a node says natively so that it becomes this event of a mesh, with the same id; in the words of the mesh where
/// no native kind can say it. The order of keys is in no id, and not kept.
pub fn said_of(kind: &Text, payload: &Value, author: &Text) -> Said {
    let canonical = |value: &Value| json::to_bytes(value, Style::Canonical);
    let same = |said: &Said| {
        payload_of(said, author)
            .is_some_and(|(shown, made)| shown == *kind && canonical(&made) == canonical(payload))
    };
    let emit = || Said::Emit { kind: kind.clone(), payload: payload.clone() };
    native_of(kind, payload).filter(same).unwrap_or_else(emit)
}

fn native_of(kind: &Text, payload: &Value) -> Option<Said> {
    let text = |key| payload.get(key)?.as_text()?.as_str().map(str::to_owned);
    let record_id = text("record_id")?;
    Some(match kind.as_str()? {
        records::CREATE => Said::Create { record_id, form: text("form")? },
        records::SET => {
            Said::Set { record_id, field: text("field")?, value: from_json(payload.get("value")?)? }
        }
        records::NOTE => Said::Note { record_id, text: text("text")? },
        records::ATTACH => Said::Attach {
            record_id,
            field: text("field")?,
            artifact: text("blob_hash")?.parse().ok()?,
            size: payload.get("size")?.as_int()?.as_u64()?,
            mime: text("mime")?,
        },
        _ => return None,
    })
}

/// A value of Python's JSON as quipu has it, if it has it.
fn from_json(value: &Value) -> Option<NativeValue> {
    Some(match value {
        Value::Null => NativeValue::Null,
        Value::Bool(truth) => (*truth).into(),
        Value::Int(int) => match (int.as_i64(), int.as_u64()) {
            (Some(int), _) => int.into(),
            (None, Some(int)) => int.into(),
            _ => return None,
        },
        Value::Float(float) => NativeValue::float(*float)?,
        Value::Text(text) => text.as_str()?.into(),
        Value::List(items) => {
            NativeValue::list(items.iter().map(from_json).collect::<Option<Vec<_>>>()?)
        }
        Value::Object(object) => {
            let pair =
                |(key, value): &(Text, Value)| Some((key.as_str()?.to_owned(), from_json(value)?));
            let pairs = object.iter().map(pair).collect::<Option<Vec<_>>>()?;
            NativeValue::Map(Map::from_entries(pairs).ok()?)
        }
    })
}

/// A value of quipu as Python's JSON has it: links and bytes as in DAG-JSON, keys sorted.
pub fn to_json(value: &NativeValue) -> Value {
    match value {
        NativeValue::Null => Value::Null,
        NativeValue::Bool(truth) => (*truth).into(),
        NativeValue::Int(int) => Int::from(int.as_i128()).into(),
        NativeValue::Float(float) => float.get().into(),
        NativeValue::String(text) => text.as_str().into(),
        NativeValue::List(items) => Value::List(items.iter().map(to_json).collect()),
        NativeValue::Map(map) => {
            let pairs = map.iter().map(|(key, value)| (Text::from(key), to_json(value)));
            let mut pairs: Vec<(Text, Value)> = pairs.collect();
            pairs.sort_by(|a, b| a.0.cmp(&b.0));
            Value::Object(Object::from_pairs(pairs))
        }
        NativeValue::Bytes(bytes) => {
            let text = data_encoding::BASE64_NOPAD.encode(bytes);
            Value::object([("/", Value::object([("bytes", text.into())]))])
        }
        NativeValue::Link(cid) => Value::object([("/", cid.to_string().into())]),
    }
}
