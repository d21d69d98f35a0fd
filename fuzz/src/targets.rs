//! Decoders of quipu-core and quipu-net.

use quipu_core::codec::pack::{self, Context, PackError};
use quipu_core::codec::v1;
use quipu_core::event::{Event, EventSignature, Header, verify_run};
use quipu_core::id::{ArtifactId, DomainId, EventId, LogDigest, NodeKey, PayloadId};
use quipu_core::limits::{PACK_UNFOLDED_BYTES_MAX, PAYLOAD_BYTES_MAX};
use quipu_core::sketch::{Decoder, Item, Sketch, decode_symbols, encode_symbols};
use quipu_core::subject::subject_of;
use quipu_core::sync::message::{Message, PROTOCOL_VERSION};
use quipu_core::value::{self, Cid};

use quipu_node::api::{Importer, Request};
use quipu_node::bundle::BundleReader;

use crate::pieces;

/// Event bodies.
pub(crate) fn body(data: &[u8]) {
    if let Ok((header, domain)) = v1::decode_body(data) {
        let mut again = Vec::new();
        v1::encode_body(&header, &domain.unwrap_or_default(), &mut again);
        assert_eq!(again, data);
        assert!(v1::check_shape(&header).is_ok());
        assert_eq!(EventId::of(data), v1::event_id(&header, &domain.unwrap_or_default()));
    }
}

/// Payload blocks; the first byte is the length of the salt.
pub(crate) fn payload(data: &[u8]) {
    let Some((salt_bytes, block)) = data.split_first() else { return };
    let split = v1::split_payload(block);
    for kind in ["field.set", "record.create", "member.add"] {
        let _ = subject_of(kind, v1::payload_value(block));
    }
    if v1::check_payload(block, usize::from(*salt_bytes)).is_ok() {
        let (salt, value) = split.expect("a payload that passes has a frame");
        assert_eq!(v1::payload_block(salt, value), block);
        assert!(block.len() <= PAYLOAD_BYTES_MAX);
        assert!(value::decode(value).is_ok());
    }
}

/// Values in CBOR.
pub(crate) fn value(data: &[u8]) {
    let decoded = value::decode(data);
    assert_eq!(value::validate(data).err(), decoded.as_ref().err().copied());
    let _ = subject_of("field.set", data);
    let Ok(value) = decoded else { return };
    let mut again = Vec::new();
    value::encode(&value, &mut again);
    assert_eq!(again, data);
    let mut json = String::new();
    value::write_json(&value, &mut json);
    assert_eq!(value::from_json(&json).as_ref(), Ok(&value), "{json}");
    assert_eq!(value::from_json(value::to_json(&value).to_string()), Ok(value), "{json}");
}

/// Values in JSON.
pub(crate) fn json(data: &[u8]) {
    match value::from_json(data) {
        Ok(value) => {
            let mut bytes = Vec::new();
            value::encode(&value, &mut bytes);
            assert_eq!(value::decode(&bytes).as_ref(), Ok(&value));
            let mut json = String::new();
            value::write_json(&value, &mut json);
            assert_eq!(value::from_json(&json), Ok(value));
        }
        Err(error) => {
            let lines: Vec<&[u8]> = data.split(|b| *b == b'\n').collect();
            assert!(error.line >= 1 && error.line <= lines.len(), "{error}");
            assert!(
                error.column >= 1 && error.column <= lines[error.line - 1].len() + 2,
                "{error}"
            );
        }
    }
}

/// A reader that holds nothing gets a stream of hostile batches.
pub(crate) fn pack_stream(data: &[u8]) {
    stream(data, &pack::Nothing);
}

/// A reader that holds an event for every question, so that all references resolve.
pub(crate) fn pack_held(data: &[u8]) {
    stream(data, &Everything);
}

struct Everything;

impl pack::Resolve for Everything {
    fn id_at(&self, author: &NodeKey, seq: u64) -> Option<EventId> {
        Some(EventId::of(&[&author.0[..], &seq.to_le_bytes()].concat()))
    }
    fn author_with_prefix(&self, prefix: &[u8]) -> Option<NodeKey> {
        let mut key = [0; 32];
        key[..prefix.len()].copy_from_slice(prefix);
        Some(NodeKey(key))
    }
    fn id_at_position(&self, position: u64) -> Option<EventId> {
        Some(EventId::of(&position.to_le_bytes()))
    }
}

fn stream(data: &[u8], resolve: &dyn pack::Resolve) {
    let domain = DomainId([7; 32]);
    let mut reader = Context::reader();
    let mut writer = Context::writer();
    let mut again = Context::reader();
    for batch in pieces(data) {
        let events = match pack::decode(batch, &mut reader, resolve, &domain) {
            Ok(events) => events,
            Err(PackError::TooLarge(_) | PackError::Malformed(_)) => return,
            Err(PackError::Version(_) | PackError::Unresolved(_)) => return,
        };
        let unfolded: usize =
            events.iter().filter_map(|e| e.payload.as_ref()).map(|p| p.len()).sum();
        assert!(unfolded <= PACK_UNFOLDED_BYTES_MAX + 64 * events.len());
        for event in &events {
            check_event(event, &domain);
        }
        let packed = pack::encode(&events, &mut writer, &pack::Nothing);
        let back = pack::decode(&packed, &mut again, &pack::Nothing, &domain);
        // A lone batch keeps one length of salt; blocks with others are left out.
        assert_eq!(back.map(|back| back.len()), Ok(events.len()));
    }
}

fn check_event(event: &Event, domain: &DomainId) {
    let mut body = Vec::new();
    v1::encode_body(&event.header, domain, &mut body);
    assert_eq!(EventId::of(&body), event.id);
    if v1::check_shape(&event.header).is_ok() && body.len() <= quipu_core::limits::BODY_BYTES_MAX {
        let of = (!event.header.is_root()).then_some(*domain);
        assert_eq!(v1::decode_body(&body), Ok((Header::clone(&event.header), of)));
    }
}

/// Messages.
pub(crate) fn message(data: &[u8]) {
    if let Ok(message) = Message::decode(data) {
        let is_known =
            !matches!(message, Message::Hello { version, .. } if version != PROTOCOL_VERSION);
        if is_known {
            assert_eq!(message.encode(), data);
        }
    }
}

/// Coded symbols of a liar: pieces are batches of symbols for a decoder.
pub(crate) fn symbols(data: &[u8]) {
    const MAX: usize = 1 << 15;
    let mut sketch = Sketch::new([3; 32]);
    for n in 0..20u8 {
        sketch.insert(Item([n; 10]));
    }
    let mut decoder = Decoder::new([3; 32], &sketch);
    for piece in pieces(data) {
        let Ok(batch) = decode_symbols(piece, MAX) else { continue };
        assert_eq!(encode_symbols(&batch.symbols, batch.start_index, batch.set_size), piece);
        if decoder.push(&batch.symbols).is_err() {
            return;
        }
        let (remote, local) = decoder.result();
        assert!(remote.len() + local.len() <= 2 * decoder.received());
        assert!(!(decoder.is_decoded() && decoder.is_refused()));
    }
}

/// Texts of ids.
pub(crate) fn ids(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    macro_rules! check {
        ($($id:ty),*) => {$(
            if let Ok(id) = text.parse::<$id>() {
                assert_eq!(id.to_string(), text);
            }
        )*};
    }
    check!(EventId, PayloadId, ArtifactId, DomainId, NodeKey, LogDigest, Cid);
    if let Some(cid) = Cid::from_bytes(data) {
        assert_eq!(cid.to_string().parse(), Ok(cid));
    }
}

/// Runs of events with arbitrary bodies and signatures: pieces are bodies, a piece of 64 bytes is
/// the signature of the one before.
pub(crate) fn run_of_events(data: &[u8]) {
    let mut run: Vec<Event> = Vec::new();
    for piece in pieces(data) {
        if let (Ok(signature), Some(last)) = (piece.try_into(), run.last_mut()) {
            last.signature = Some(EventSignature(signature));
        } else if let Ok((header, domain)) = v1::decode_body(piece) {
            run.push(Event::new(header, None, &domain.unwrap_or_default()));
        }
    }
    let signed = run.last().is_none_or(|event| event.signature.is_some());
    let verified = verify_run(run, true);
    assert!(verified.is_err() || signed);
}

/// Tickets.
pub(crate) fn ticket(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    if let Ok(ticket) = text.parse::<crate::ticket::Ticket>() {
        assert_eq!(ticket.to_string(), text.trim_ascii());
        assert_eq!(ticket.to_string().parse(), Ok(ticket));
    }
}

/// A bundle file, up to the events that it proves.
pub(crate) fn bundle(data: &[u8]) {
    let Ok(mut reader) = BundleReader::begin(data) else { return };
    let mut importer = Importer::default();
    let domain = reader.domain;
    while let Ok(Some(packed)) = reader.take() {
        let Ok(events) = importer.take(&packed, &domain) else { return };
        for event in events {
            assert_eq!(v1::event_id(&event.header, &domain), event.id);
        }
    }
    while let Ok(Some(mut artifact)) = reader.artifact() {
        let size = artifact.size;
        if let Ok(read) = std::io::copy(&mut artifact, &mut std::io::sink()) {
            assert_eq!(read, size);
        }
    }
    assert!(reader.bytes <= data.len() as u64);
}

/// A line of the control socket.
pub(crate) fn request(data: &[u8]) {
    let Ok(request) = serde_json::from_slice::<Request>(data) else { return };
    let again = serde_json::to_string(&request).expect("a request is written");
    let read: Request = serde_json::from_str(&again).expect("what was written is read");
    assert_eq!(serde_json::to_string(&read).ok(), Some(again));
}
