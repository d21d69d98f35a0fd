//! A small log with fixed keys and clocks that the vectors are taken from.

use bytes::Bytes;
use ed25519_dalek::SigningKey;
use quipu_core::codec::v1;
use quipu_core::domain::Parameters;
use quipu_core::event::{Draft, Event, Log, LogSeq, Parents, Position, sign_id};
use quipu_core::id::{DomainId, EventId, NodeKey};
use quipu_core::value::{self, Value};
use serde_json::Value as Json;

use crate::json::{header_json, hex};

/// 2026-01-01T00:00:00Z.
pub(crate) const START_MS: u64 = 1_767_225_600_000;

pub(crate) fn key(n: u8) -> SigningKey {
    SigningKey::from_bytes(&[n; 32])
}

pub(crate) fn node(n: u8) -> NodeKey {
    NodeKey(key(n).verifying_key().to_bytes())
}

pub(crate) fn salt(n: u8) -> [u8; 8] {
    [n, 1, 2, 3, 4, 5, 6, 7]
}

pub(crate) fn block(value: &Value, salt: &[u8]) -> Bytes {
    let mut bytes = Vec::new();
    value::encode(value, &mut bytes);
    v1::payload_block(salt, &bytes)
}

/// The root event R, signed by author 1.
pub(crate) fn root() -> Event {
    let parameters = Parameters { name: "vectors".to_owned(), ..Parameters::default() };
    sign(1, parameters.root(node(1), LogSeq::from_ms(START_MS), &salt(0)))
}

pub(crate) fn domain() -> DomainId {
    root().id.into()
}

pub(crate) fn sign(author: u8, mut event: Event) -> Event {
    event.signature = Some(sign_id(&key(author), &event.id));
    event
}

pub(crate) struct Place<'a> {
    pub(crate) author: u8,
    pub(crate) prev: Option<&'a Event>,
    pub(crate) parents: Vec<EventId>,
    pub(crate) logseq: u64,
}

/// An unsigned event.
pub(crate) fn event(kind: &str, value: &Value, place: Place<'_>) -> Event {
    let Place { author, prev, parents, logseq } = place;
    let mut parents: Parents = parents.into();
    parents.sort_unstable();
    let at = Position {
        author: node(author),
        seq: prev.map_or(1, |prev| prev.header.seq + 1),
        prev: prev.map(|prev| prev.id),
        parents,
        logseq: LogSeq(logseq),
    };
    let payload = block(value, &salt(author));
    Draft { log: Log::Internal, kind: kind.into(), payload }.place(at, &domain())
}

pub(crate) fn cell(record: &str, field: &str, value: Value) -> Value {
    Value::map([("record_id", record.into()), ("field", field.into()), ("value", value)])
}

/// R, two members, and a small history with two feeds that meet. Links come first.
pub(crate) fn small_log() -> Vec<Event> {
    let root = root();
    let clock = |n: u64| ((START_MS + 1000 * n) << 16) | (n & 3);
    let add =
        Value::map([("node", node(2).to_string().as_str().into()), ("role", "writer".into())]);
    let place = |prev, parents, n| Place { author: 1, prev, parents, logseq: clock(n) };
    let member = event("member.add", &add, place(Some(&root), vec![root.id], 1));
    let by_2 = |prev, parents, n| Place { author: 2, prev, parents, logseq: clock(n) };
    let first = event("note", &"hello".into(), by_2(None, vec![member.id], 2));
    let set = cell("R-1", "name", "Ada".into());
    let set_2 = event("field.set", &set, by_2(Some(&first), vec![first.id], 3));
    let set = cell("R-1", "name", "Ada Lovelace".into());
    let set_1 = event("field.set", &set, place(Some(&member), vec![member.id], 4));
    let merge = event("merge", &Value::Null, place(Some(&set_1), vec![set_1.id, set_2.id], 5));
    let last = event("note", &"bye".into(), by_2(Some(&set_2), vec![merge.id], 6));
    vec![
        root,
        sign(1, member),
        sign(2, first),
        sign(2, set_2),
        set_1,
        sign(1, merge),
        sign(2, last),
    ]
}

/// An event without its payload.
pub(crate) fn erased(mut event: Event) -> Event {
    event.payload = None;
    event
}

/// A whole event: its fields, and what lies beside them.
pub(crate) fn event_json(event: &Event, domain: &DomainId) -> Json {
    let mut json = header_json(&event.header, domain);
    json["uuid"] = event.id.to_string().into();
    json["payload_block"] = event.payload.as_ref().map(|block| hex(block)).into();
    json["signature"] = event.signature.map(|signature| hex(&signature.0)).into();
    json
}
