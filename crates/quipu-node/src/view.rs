//! What machines and people see of events: plain JSON, with everything that is needed to check an
//! event again with other people's tools (EVT-5).

use data_encoding::BASE64;
use quipu_core::codec::v1;
use quipu_core::event::{Event, Log, signing_message};
use quipu_core::history::History;
use quipu_core::id::{DomainId, EventId};
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
    with_proof: bool,
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
    if with_proof {
        object["proof"] = proof(history, domain, event)?;
    }
    Ok(object)
}

/// The signature that vouches for an event: its own, or that of the next signed event of its feed,
/// with the bodies in between, which chain to it by `prev`.
fn proof<H: History>(history: &H, domain: &DomainId, event: &Event) -> Result<Value, H::Error> {
    let mut bodies = Vec::new();
    let mut current = event.clone();
    loop {
        if let Some(signature) = &current.signature {
            return Ok(json!({
                "signature": BASE64.encode(&signature.0),
                "message": BASE64.encode(&signing_message(&current.id)),
                "signed": current.id.to_string(),
                "bodies": bodies,
            }));
        }
        match next_of_feed(history, current.header.log, &current)? {
            Some(next) => {
                let mut body = Vec::new();
                v1::encode_body(&next.header, domain, &mut body);
                bodies.push(BASE64.encode(&body));
                current = next;
            }
            None => return Ok(Value::Null),
        }
    }
}

fn next_of_feed<H: History>(
    history: &H,
    log: Log,
    event: &Event,
) -> Result<Option<Event>, H::Error> {
    let seq = event.header.seq + 1;
    for (_, ordinal) in history.feed(log, &event.header.author, seq..seq + 1)? {
        let next = history.event(log, ordinal)?;
        if next.header.prev == Some(event.id) {
            return Ok(Some(next));
        }
    }
    Ok(None)
}
