//! Reads every file in `test-vectors/`: what is good must encode to and decode from those bytes,
//! what is refused must be refused for the reason given. Never writes them.

#[path = "vectors/json.rs"]
mod json;
#[path = "vectors/said.rs"]
mod said;

use std::path::PathBuf;

use quipu_core::codec::pack::{self, Context};
use quipu_core::codec::v1;
use quipu_core::dag::digest_of;
use quipu_core::event::{
    Event, EventSignature, Log, VerifiedEvent, sign_id, signing_message, verify_run,
    verify_signature,
};
use quipu_core::id::{ArtifactId, DomainId, EventId, LogDigest, NodeKey, PayloadId, Subject};
use quipu_core::sketch::{Item, Sketch, decode_symbols, encode_symbols};
use quipu_core::subject::subject_of;
use quipu_core::sync::message::{Message, invite_message};
use quipu_core::value::{self, from_json, write_json};
use serde_json::Value as Json;

use json::{
    Held, array, event_of, header_json, header_of, hex, list, message_json, message_of, symbol_of,
    text, unhex,
};

fn root_of_repository() -> PathBuf {
    PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/../.."))
}

fn file(name: &str) -> Json {
    let path = root_of_repository().join("test-vectors").join(name);
    let text = std::fs::read_to_string(&path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
    serde_json::from_str(&text).unwrap()
}

/// Checks each refusal: the bytes under `key`, the reason under `error`.
fn check_refused(vectors: &Json, key: &str, decode: impl Fn(&Json, &[u8]) -> Result<(), String>) {
    assert!(!list(vectors).is_empty());
    for vector in list(vectors) {
        let given = decode(vector, &unhex(&vector[key]));
        assert_eq!(given, Err(text(&vector["error"]).to_owned()), "{}", vector["name"]);
    }
}

fn told<T>(result: Result<T, impl ToString>) -> Result<(), String> {
    result.map(drop).map_err(|error| error.to_string())
}

#[test]
fn events() {
    let file = file("event-v1.json");
    let domain: DomainId = text(&file["domain"]).parse().unwrap();
    for vector in list(&file["vectors"]) {
        let name = text(&vector["name"]);
        let body = unhex(&vector["body"]);
        let event = event_of(&vector["event"]);
        let (header, of) = header_of(&vector["event"]);
        assert_eq!(v1::decode_body(&body), Ok((header.clone(), of)), "{name}");
        assert_eq!(of, (!header.is_root()).then_some(domain), "{name}");
        let mut again = Vec::new();
        v1::encode_body(&header, &domain, &mut again);
        assert_eq!(hex(&again), hex(&body), "{name}");
        assert_eq!(EventId::of(&body), event.id, "{name}");
        assert_eq!(Event::new(header.clone(), None, &domain).id, event.id, "{name}");
        assert_eq!(hex(&signing_message(&event.id)), text(&vector["signing_message"]), "{name}");
        check_payload_of(name, vector, &event);
        if let Some(signature) = &event.signature {
            assert_eq!(verify_signature(&header.author, &event.id, signature), Ok(()), "{name}");
        }
    }
}

fn check_payload_of(name: &str, vector: &Json, event: &Event) {
    let Some(block) = &event.payload else {
        assert!(vector["payload_json"].is_null());
        return;
    };
    let (salt, value) = v1::split_payload(block).unwrap();
    assert_eq!(v1::check_payload(block, salt.len()), Ok(()), "{name}");
    assert_eq!(PayloadId::of(block), event.header.payload.id, "{name}");
    assert_eq!(block.len(), event.header.payload.size as usize, "{name}");
    assert_eq!(subject_of(&event.header.kind, value), event.header.payload.subject, "{name}");
    let given = from_json(text(&vector["payload_json"])).unwrap();
    assert_eq!(value::decode(value).as_ref(), Ok(&given), "{name}");
    let mut again = Vec::new();
    value::encode(&given, &mut again);
    assert_eq!(&v1::payload_block(salt, &again), block, "{name}");
}

#[test]
fn refused_events() {
    let file = file("event-v1-refused.json");
    assert!(v1::decode_body(&unhex(&file["base"])).is_ok());
    check_refused(&file["refused"], "body", |_, body| told(v1::decode_body(body)));
}

#[test]
fn payloads() {
    let file = file("payload-v1.json");
    for vector in list(&file["good"]) {
        let name = text(&vector["name"]);
        let (block, salt) = (unhex(&vector["block"]), unhex(&vector["salt"]));
        let mut bytes = Vec::new();
        value::encode(&from_json(text(&vector["value_json"])).unwrap(), &mut bytes);
        assert_eq!(v1::payload_block(&salt, &bytes), block, "{name}");
        assert_eq!(v1::split_payload(&block), Some((&salt[..], &bytes[..])), "{name}");
        assert_eq!(v1::check_payload(&block, salt.len()), Ok(()), "{name}");
        assert_eq!(PayloadId::of(&block).to_string(), text(&vector["payload_cid"]), "{name}");
        assert_eq!(vector["size"], block.len(), "{name}");
    }
    check_refused(&file["refused"], "block", |vector, block| {
        told(v1::check_payload(
            block,
            usize::try_from(vector["salt_bytes"].as_u64().unwrap()).unwrap(),
        ))
    });
}

#[test]
fn values() {
    let file = file("value.json");
    for vector in list(&file["good"]) {
        let name = text(&vector["name"]);
        let cbor = unhex(&vector["cbor"]);
        let value = value::decode(&cbor).unwrap();
        assert_eq!(value::validate(&cbor), Ok(()), "{name}");
        assert_eq!(from_json(text(&vector["json"])).as_ref(), Ok(&value), "{name}");
        let (mut again, mut json) = (Vec::new(), String::new());
        value::encode(&value, &mut again);
        write_json(&value, &mut json);
        assert_eq!((again, &*json), (cbor, text(&vector["json"])), "{name}");
    }
    check_refused(&file["refused"], "cbor", |_, cbor| {
        let result = told(value::decode(cbor));
        assert_eq!(result, told(value::validate(cbor)));
        result
    });
    for vector in list(&file["json_accepted"]) {
        let value = from_json(text(&vector["json"])).unwrap();
        let (mut cbor, mut json) = (Vec::new(), String::new());
        value::encode(&value, &mut cbor);
        write_json(&value, &mut json);
        assert_eq!(hex(&cbor), text(&vector["cbor"]), "{vector}");
        assert_eq!(json, text(&vector["canonical_json"]), "{vector}");
    }
    for vector in list(&file["json_refused"]) {
        let given = told(from_json(text(&vector["json"])));
        assert_eq!(given, Err(text(&vector["error"]).to_owned()), "{}", vector["name"]);
    }
}

#[test]
fn ids() {
    let file = file("ids.json");
    for vector in list(&file["good"]) {
        let text = text(&vector["text"]);
        let (bytes, back): ([u8; 32], String) = match vector["what"].as_str() {
            Some("event") => text.parse::<EventId>().map(|id| (id.0, id.to_string())).unwrap(),
            Some("artifact") => {
                text.parse::<ArtifactId>().map(|id| (id.0, id.to_string())).unwrap()
            }
            _ => text.parse::<NodeKey>().map(|id| (id.0, id.to_string())).unwrap(),
        };
        assert_eq!((&*hex(&bytes), &*back), (json::text(&vector["bytes"]), text));
    }
    for vector in list(&file["refused"]) {
        let text = text(&vector["text"]);
        let accepted = match vector["what"].as_str() {
            Some("event") => text.parse::<EventId>().is_ok(),
            _ => text.parse::<NodeKey>().is_ok(),
        };
        assert!(!accepted, "{vector}");
    }
}

#[test]
fn signatures() {
    let key = ed25519_dalek::SigningKey::from_bytes(&[1; 32]);
    for vector in list(&file("signatures.json")["vectors"]) {
        let name = text(&vector["name"]);
        let author: NodeKey = text(&vector["author"]).parse().unwrap();
        let id: EventId = text(&vector["uuid"]).parse().unwrap();
        let signature = EventSignature(array(&vector["signature"]));
        assert_eq!(hex(&signing_message(&id)), text(&vector["message"]), "{name}");
        let result = verify_signature(&author, &id, &signature);
        assert_eq!(vector["verifies"], result.is_ok(), "{name}");
        match result {
            Ok(()) => assert_eq!(sign_id(&key, &id), signature, "{name}"),
            Err(error) => assert_eq!(error.to_string(), text(&vector["error"]), "{name}"),
        }
    }
}

#[test]
fn subjects() {
    let files = ["subjects.json", "subjects-records.json"].map(file);
    for vector in files.iter().flat_map(|file| list(&file["vectors"])) {
        let value = unhex(&vector["value"]);
        let given =
            subject_of(text(&vector["kind"]), &value).map(|subject: Subject| subject.to_string());
        assert_eq!(given.as_deref(), vector["subject"].as_str(), "{}", vector["meaning"]);
    }
}

#[test]
fn digests() {
    let file = file("digest.json");
    for vector in list(&file["vectors"]) {
        let ends: Vec<EventId> =
            list(&vector["feed_ends"]).iter().map(|id| text(id).parse().unwrap()).collect();
        let digest: LogDigest = text(&vector["digest"]).parse().unwrap();
        assert_eq!(digest_of(&ends), digest, "{}", vector["name"]);
    }
    check_small_log(&file);
}

/// The ends of the feeds of the small log are those that were digested, and it is authentic.
fn check_small_log(file: &Json) {
    let log: Vec<Event> = list(&file["small_log"]).iter().map(event_of).collect();
    let mut feeds: std::collections::BTreeMap<NodeKey, Vec<Event>> = Default::default();
    for event in log {
        assert_eq!(event.header.log, Log::Internal);
        feeds.entry(event.header.author).or_default().push(event);
    }
    let mut ends = Vec::new();
    for feed in feeds.into_values() {
        let verified: Vec<VerifiedEvent> = verify_run(feed, true).unwrap();
        ends.push(verified.last().unwrap().id.to_string());
    }
    ends.sort_by_key(|id| id.parse::<EventId>().unwrap());
    let small = list(&file["vectors"]).iter().find(|v| v["name"] == "small-log").unwrap();
    assert_eq!(small["feed_ends"], Json::from(ends));
}

#[test]
fn packed_batches() {
    let file = file("pack-v1.json");
    let domain: DomainId = text(&file["domain"]).parse().unwrap();
    for stream in list(&file["streams"]) {
        let name = text(&stream["name"]);
        let held = Held::of(&stream["held"]);
        let compressed = stream["compressed"] == true;
        let slow_sync = stream["sync"] == true;
        let context = |context: Context| if slow_sync { context.of_sync() } else { context };
        let mut writer = context(Context::writer());
        if slow_sync {
            writer.set_small();
        } else if !compressed {
            writer = writer.without_compression();
        }
        let mut reader = context(Context::reader());
        let mut again = context(Context::reader());
        for batch in list(&stream["batches"]) {
            let bytes = unhex(&batch["bytes"]);
            let events: Vec<Event> = list(&batch["events"]).iter().map(event_of).collect();
            assert_eq!(
                pack::decode(&bytes, &mut reader, &held, &domain).as_ref(),
                Ok(&events),
                "{name}"
            );
            let encoded = pack::encode(&events, &mut writer, &held);
            if !compressed {
                assert_eq!(hex(&encoded), hex(&bytes), "{name}");
            }
            assert_eq!(pack::decode(&encoded, &mut again, &held, &domain), Ok(events), "{name}");
        }
    }
    assert_eq!(file["stream_kinds"], Json::from(pack::STREAM_KINDS.to_vec()));
    assert_eq!(text(&file["dictionary"]), hex(&pack::PAYLOADS));
    check_refused(&file["refused"], "bytes", |_, bytes| {
        told(pack::decode(bytes, &mut Context::reader(), &pack::Nothing, &domain))
    });
}

#[test]
fn sync_messages() {
    let file = file("sync-messages-v1.json");
    for vector in list(&file["good"]) {
        let name = text(&vector["name"]);
        let frame = unhex(&vector["frame"]);
        let message = message_of(&vector["message"]);
        assert_eq!(hex(&message.encode()), hex(&frame), "{name}");
        assert_eq!(Message::decode(&frame).as_ref(), Ok(&message), "{name}");
        assert_eq!(message_json(&message), vector["message"], "{name}");
    }
    for vector in list(&file["decode_only"]) {
        let message = message_of(&vector["message"]);
        assert_eq!(Message::decode(&unhex(&vector["frame"])), Ok(message));
    }
    check_refused(&file["refused"], "frame", |_, frame| told(Message::decode(frame)));
    artifact_messages();
    let invite = &file["invite_message"];
    let newcomer: NodeKey = text(&invite["newcomer"]).parse().unwrap();
    let message = invite_message(&DomainId(array(&invite["domain"])), &newcomer);
    assert_eq!(hex(&message), text(&invite["message"]));
}

fn artifact_messages() {
    let file = file("sync-artifacts-v1.json");
    for vector in list(&file["good"]) {
        let name = text(&vector["name"]);
        let frame = unhex(&vector["frame"]);
        let message = message_of(&vector["message"]);
        assert_eq!(hex(&message.encode()), hex(&frame), "{name}");
        assert_eq!(Message::decode(&frame).as_ref(), Ok(&message), "{name}");
        assert_eq!(Message::decode_frame(&frame.into()).as_ref(), Ok(&message), "{name}");
        assert_eq!(message_json(&message), vector["message"], "{name}");
    }
    check_refused(&file["refused"], "frame", |_, frame| {
        assert_eq!(Message::decode_frame(&frame.to_vec().into()), Message::decode(frame));
        told(Message::decode(frame))
    });
}

#[test]
fn coded_symbols() {
    let file = &file("sync-messages-v1.json")["symbols"];
    let mut sketch = Sketch::new(array(&file["key"]));
    list(&file["items"]).iter().for_each(|item| sketch.insert(Item(array(item))));
    let symbols: Vec<_> = list(&file["symbols"]).iter().map(symbol_of).collect();
    assert_eq!(sketch.symbols(2..6), symbols);
    let bytes = unhex(&file["bytes"]);
    assert_eq!(hex(&encode_symbols(&symbols, 2, 5)), hex(&bytes));
    let batch = decode_symbols(&bytes, 1000).unwrap();
    assert_eq!((batch.start_index, batch.set_size, batch.symbols), (2, 5, symbols));
    check_refused(&file["refused"], "bytes", |_, bytes| told(decode_symbols(bytes, 1000)));
}

/// The JSON of an event says what the event says.
#[test]
fn json_of_events() {
    let file = file("event-v1.json");
    let domain: DomainId = text(&file["domain"]).parse().unwrap();
    for vector in list(&file["vectors"]) {
        let json = header_json(&header_of(&vector["event"]).0, &domain);
        for (key, value) in json.as_object().unwrap() {
            assert_eq!(&vector["event"][key], value, "{}: {key}", vector["name"]);
        }
    }
}

/// Every file is read by a test above, or by one of another crate.
#[test]
fn no_file_is_forgotten() {
    let known = [
        "README.md",
        // By a test of `quipu-node`.
        "bundle.json",
        "digest.json",
        "event-v1-refused.json",
        "event-v1.json",
        "fuzz",
        "ids.json",
        // Where fuzzing of meshes begins.
        "meshlog.json",
        "pack-v1.json",
        "payload-v1.json",
        "signatures.json",
        "state.json",
        "statements.json",
        // By a test of `quipu-store`.
        "store-v2.json",
        "subjects.json",
        "subjects-records.json",
        "sync-artifacts-v1.json",
        "sync-messages-v1.json",
        "value.json",
    ];
    let directory = root_of_repository().join("test-vectors");
    for entry in std::fs::read_dir(directory).unwrap() {
        let name = entry.unwrap().file_name();
        assert!(known.contains(&name.to_str().unwrap()), "{name:?} is not tested");
    }
}

/// A batch may claim any place. Packing such events again must not overflow (found by fuzzing).
#[test]
fn places_at_the_end_of_their_range_are_packed() {
    let domain = DomainId([7; 32]);
    let base = event_of(&list(&file("event-v1.json")["vectors"])[1]["event"]);
    let at = |seq| {
        let mut header = quipu_core::event::Header::clone(&base.header);
        header.head.seq = seq;
        Event::new(header, base.payload.clone(), &domain)
    };
    let events = [at(u64::MAX), at(0), at(u64::MAX), at(1)];
    let bytes = pack::encode(&events, &mut Context::writer(), &Held::default());
    let back = pack::decode(&bytes, &mut Context::reader(), &Held::default(), &domain);
    assert_eq!(back.as_deref(), Ok(&events[..]));
}
