//! What machines and people see of events: plain JSON, with everything that is needed to check an
//! event again with other people's tools (EVT-5).

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;

use data_encoding::BASE64;
use quipu_core::codec::v1;
use quipu_core::event::{Event, EventSignature, Log, signing_message};
use quipu_core::history::History;
use quipu_core::id::{DomainId, EventId, NodeKey};
use quipu_core::limits::SIGNATURE_INTERVAL;
use quipu_core::value;
use serde_json::{Value, json};

/// An event as one self-contained JSON object.
///
/// # Errors
/// What the history could not read while it looked for the signature.
pub fn event<H: History>(
    history: &H,
    domain: &DomainId,
    event: &Event,
    proofs: Option<&mut Proofs>,
) -> Result<Value, H::Error> {
    let header = &event.header;
    let mut body = Vec::new();
    v1::encode_body(header, domain, &mut body);
    let payload = event.payload_value().and_then(|bytes| value::decode(bytes).ok());
    let mut object = json!({
        "uuid": event.id.to_string(),
        "parents": header.parents.iter().map(EventId::to_string).collect::<Vec<_>>(),
        "domain": domain.to_string(),
        "log": header.log.name(),
        "author": header.author.to_string(),
        "seq": header.seq,
        "prev": header.prev.as_ref().map(EventId::to_string),
        "logseq": header.logseq.to_string(),
        "hlc": [header.logseq.ms(), u64::from(header.logseq.counter())],
        "kind": &*header.kind,
        "subject": header.payload.subject.as_ref().map(ToString::to_string),
        "payload": payload.as_ref().map(value::to_json),
        "size": header.payload.size,
        "payload_cid": header.payload.id.to_string(),
        "block": BASE64.encode(&body),
        "payload_block": event.payload.as_ref().map(|block| BASE64.encode(block)),
    });
    if let Some(proofs) = proofs {
        object["proof"] = proofs.of(history, domain, event)?;
    }
    Ok(object)
}

/// Stretches of feeds that are remembered, so that a list of events reads each about once.
const STRETCHES_MAX: usize = 1024;

/// Finds the signatures that vouch for events. One for each list of events.
#[derive(Debug, Default)]
pub struct Proofs {
    stretches: BTreeMap<(Log, NodeKey, u64), Vec<Body>>,
}

/// An event of a feed, as far as proofs need it.
#[derive(Debug)]
struct Body {
    id: EventId,
    prev: Option<EventId>,
    body: String,
    signature: Option<EventSignature>,
}

impl Body {
    fn of(event: &Event, domain: &DomainId) -> Self {
        let mut body = Vec::new();
        v1::encode_body(&event.header, domain, &mut body);
        let (id, prev, signature) = (event.id, event.header.prev, event.signature);
        Self { id, prev, body: BASE64.encode(&body), signature }
    }
}

impl Proofs {
    /// The signature that vouches for an event: its own, or that of the next signed event of its
    /// feed, with the bodies in between, which chain to it by `prev`.
    fn of<H: History>(
        &mut self,
        history: &H,
        domain: &DomainId,
        event: &Event,
    ) -> Result<Value, H::Error> {
        let (mut signed, mut signature) = (event.id, event.signature);
        let mut bodies = Vec::new();
        if signature.is_none() {
            let stretch = self.stretch(history, domain, event)?;
            while signature.is_none() {
                let Some(next) = stretch.iter().find(|next| next.prev == Some(signed)) else {
                    return Ok(Value::Null);
                };
                bodies.push(next.body.clone());
                (signed, signature) = (next.id, next.signature);
            }
        }
        Ok(signature.map_or(Value::Null, |signature| {
            json!({
                "signature": BASE64.encode(&signature.0),
                "message": BASE64.encode(&signing_message(&signed)),
                "signed": signed.to_string(),
                "bodies": bodies,
            })
        }))
    }

    /// The part of a feed up to the next place where a signature is kept, forks included.
    fn stretch<H: History>(
        &mut self,
        history: &H,
        domain: &DomainId,
        event: &Event,
    ) -> Result<&Vec<Body>, H::Error> {
        let (log, author) = (event.header.log, event.header.author);
        let number = event.header.seq / SIGNATURE_INTERVAL;
        if self.stretches.len() >= STRETCHES_MAX {
            self.stretches.clear();
        }
        match self.stretches.entry((log, author, number)) {
            Entry::Occupied(entry) => Ok(entry.into_mut()),
            Entry::Vacant(entry) => {
                let first = number * SIGNATURE_INTERVAL + 1;
                let mut events = Vec::new();
                for (_, ordinal) in history.feed(log, &author, first..first + SIGNATURE_INTERVAL)? {
                    let event = history.event(log, ordinal)?;
                    // What proves an end may lie outside the log.
                    events.extend(history.proof(log, &event.id)?.unwrap_or_default());
                    events.push(event);
                }
                Ok(entry.insert(events.iter().map(|event| Body::of(event, domain)).collect()))
            }
        }
    }
}
