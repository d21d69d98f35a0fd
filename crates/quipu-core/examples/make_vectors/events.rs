//! Events, ids, signatures and digests.

use quipu_core::codec::v1;
use quipu_core::dag::digest_of;
use quipu_core::event::{Event, EventSignature, signing_message, verify_signature};
use quipu_core::id::{ArtifactId, EventId, NodeKey};
use quipu_core::value::{self, Value, write_json};
use serde_json::{Value as Json, json};

use crate::json::hex;
use crate::world::{
    Place, START_MS, cell, domain, erased, event, event_json, node, root, sign, small_log,
};

fn vector(name: &str, meaning: &str, event: &Event) -> Json {
    let mut body = Vec::new();
    v1::encode_body(&event.header, &domain(), &mut body);
    assert_eq!(EventId::of(&body), event.id);
    v1::decode_body(&body).unwrap();
    let mut payload = String::new();
    if let Some(bytes) = event.payload_value() {
        write_json(&value::decode(bytes).unwrap(), &mut payload);
    }
    json!({
        "name": name,
        "meaning": meaning,
        "body": hex(&body),
        "payload_json": event.payload.as_ref().map(|_| payload),
        "signing_message": hex(&signing_message(&event.id)),
        "event": event_json(event, &domain()),
    })
}

fn fake_id(n: u8) -> EventId {
    EventId::of(&[n])
}

pub(crate) fn events() -> Json {
    let log = small_log();
    let root = root();
    let wide = event(
        "merge",
        &Value::Null,
        Place {
            author: 1,
            prev: Some(&log[1]),
            parents: (0..128).map(fake_id).collect(),
            logseq: (START_MS + 9000) << 16,
        },
    );
    let last_clock = event(
        "note",
        &"the last clock".into(),
        Place { author: 2, prev: Some(&log[2]), parents: vec![log[2].id], logseq: u64::MAX },
    );
    let mut published = event(
        "note",
        &"for everybody".into(),
        Place { author: 1, prev: None, parents: vec![root.id], logseq: (START_MS << 16) + 1 },
    );
    std::sync::Arc::make_mut(&mut published.header).head.log = quipu_core::event::Log::Published;
    let published = sign(1, Event::new(published.header, published.payload, &domain()));
    let prev_is_no_parent = event(
        "note",
        &"prev is covered by the parent".into(),
        Place {
            author: 2,
            prev: Some(&log[3]),
            parents: vec![log[5].id],
            logseq: (START_MS + 8000) << 16,
        },
    );
    let kind_64 = "a".repeat(31) + "." + &"b-_9".repeat(8);
    let longest_kind = event(
        &kind_64,
        &Value::list([1u64, 2]),
        Place {
            author: 1,
            prev: Some(&root),
            parents: vec![root.id],
            logseq: (START_MS << 16) + 1,
        },
    );
    let no_cell = event(
        "field.set",
        &Value::map([("field", "name".into())]),
        Place {
            author: 1,
            prev: Some(&root),
            parents: vec![root.id],
            logseq: (START_MS << 16) + 1,
        },
    );
    let set = event(
        "field.set",
        &cell("R-1", "age", Value::from(36u64)),
        Place {
            author: 1,
            prev: Some(&root),
            parents: vec![root.id],
            logseq: (START_MS << 16) + 1,
        },
    );
    let vectors = [
        vector("root", "the root event R: no links, no domain", &log[0]),
        vector("second-of-the-founder", "prev and the only parent are both R", &log[1]),
        vector("first-of-a-feed", "seq 1: parents, but no prev; no subject", &log[2]),
        vector("with-subject", "field.set writes a fold key", &log[3]),
        vector("unsigned", "no signature of its own: a later one vouches for it", &log[4]),
        vector("two-parents", "a merge: parents in order of their digests", &log[5]),
        vector(
            "prev-is-no-parent",
            "its prev is in the past of its parent",
            &sign(2, prev_is_no_parent),
        ),
        vector("128-parents", "as many parents as there may be", &sign(1, wide)),
        vector(
            "erased-payload",
            "the body is the same without the payload block",
            &erased(log[3].clone()),
        ),
        vector(
            "subject-needs-its-fields",
            "field.set without record_id has no subject",
            &sign(1, no_cell),
        ),
        vector("same-fold-key-other-value", "an integer value", &sign(1, set)),
        vector("published", "the other log: its own feed, so seq is 1 again", &published),
        vector(
            "last-clock",
            "logseq 2^64-1: fits the format; the rules of clocks are not the codec's",
            &sign(2, last_clock),
        ),
        vector(
            "longest-kind",
            "a kind of 64 bytes with every character class",
            &sign(1, longest_kind),
        ),
    ];
    json!({
        "format": "event v1",
        "domain": domain().to_string(),
        "authors": { "secret 0101..01": node(1).to_string(), "secret 0202..02": node(2).to_string() },
        "vectors": vectors,
    })
}

pub(crate) fn ids() -> Json {
    let good = [
        ("event", EventId::of(b"").to_string(), EventId::of(b"").0),
        ("event", EventId([0; 32]).to_string(), [0; 32]),
        ("event", EventId([0xff; 32]).to_string(), [0xff; 32]),
        ("event", root().id.to_string(), root().id.0),
        ("artifact", ArtifactId::of(b"quipu").to_string(), ArtifactId::of(b"quipu").0),
        ("node", node(1).to_string(), node(1).0),
    ];
    let event = root().id.to_string();
    let artifact = ArtifactId::of(b"quipu").to_string();
    let sha2 = quipu_core::id::cid_text([1, 0x71, 0x12, 0x20], &root().id.0);
    let pb = quipu_core::id::cid_text([1, 0x70, 0x1e, 0x20], &root().id.0);
    let mut loose_bits = event.clone();
    let last = loose_bits.pop().unwrap();
    loose_bits.push(char::from(last as u8 + 1));
    let key = node(1).to_string();
    let bad = [
        ("event", "empty", String::new()),
        ("event", "artifact-key", artifact),
        ("event", "upper-case", event.to_uppercase()),
        ("event", "upper-case-digits", format!("b{}", event[1..].to_uppercase())),
        ("event", "no-multibase-letter", event[1..].to_owned()),
        ("event", "base58", format!("z{}", &event[1..])),
        ("event", "cut-short", event[..58].to_owned()),
        ("event", "one-too-long", format!("{event}a")),
        ("event", "padding", format!("{event}======")),
        ("event", "space-around", format!(" {event}")),
        ("event", "sha2-256", sha2),
        ("event", "dag-pb", pb),
        ("event", "loose-bits-at-the-end", loose_bits),
        ("event", "not-ascii", event.replace('a', "\u{e4}")),
        ("node", "empty", String::new()),
        ("node", "63-digits", key[1..].to_owned()),
        ("node", "66-digits", format!("{key}00")),
        ("node", "upper-case", key.to_uppercase()),
        ("node", "0x", format!("0x{}", &key[2..])),
    ];
    for (what, name, text) in &bad {
        let accepted = if *what == "event" {
            text.parse::<EventId>().is_ok()
        } else {
            text.parse::<NodeKey>().is_ok()
        };
        assert!(!accepted, "{name}");
    }
    json!({
        "format": "ids as text",
        "good": good.iter().map(|(what, text, digest)| json!({ "what": what, "text": text, "bytes": hex(digest) })).collect::<Vec<_>>(),
        "refused": bad.iter().map(|(what, name, text)| json!({ "what": what, "name": name, "text": text })).collect::<Vec<_>>(),
    })
}

/// Adds the order of the group to the upper half of a signature: the same scalar, in another form.
fn plus_order(signature: &EventSignature) -> EventSignature {
    const ORDER: [u8; 32] = [
        0xed, 0xd3, 0xf5, 0x5c, 0x1a, 0x63, 0x12, 0x58, 0xd6, 0x9c, 0xf7, 0xa2, 0xde, 0xf9, 0xde,
        0x14, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0x10,
    ];
    let mut out = *signature;
    let mut carry = 0u16;
    for (byte, add) in out.0[32..].iter_mut().zip(ORDER) {
        carry += u16::from(*byte) + u16::from(add);
        *byte = carry as u8;
        carry >>= 8;
    }
    out
}

pub(crate) fn signatures() -> Json {
    use ed25519_dalek::Signer;
    let event = root();
    let signature = event.signature.unwrap();
    let other = small_log()[1].clone();
    let flipped = |at: usize| {
        let mut out = signature;
        out.0[at] ^= 1;
        out
    };
    let key = crate::world::key(1);
    let binary_cid = [&EventId::PREFIX[..], &event.id.0].concat();
    let plain = EventSignature(key.sign(&binary_cid).to_bytes());
    let unprefixed = EventSignature(key.sign(blake3::hash(&binary_cid).as_bytes()).to_bytes());
    // The neutral element as key and R, and S = 0: every message verifies where weak keys pass.
    let mut neutral = [0; 32];
    neutral[0] = 1;
    let mut weak = [0; 64];
    weak[0] = 1;
    // A point of order 8, from the list of low-order points of Ed25519 implementations.
    let order_8: [u8; 32] = [
        0x26, 0xe8, 0x95, 0x8f, 0xc2, 0xb2, 0x27, 0xb0, 0x45, 0xc3, 0xf4, 0x89, 0xf2, 0xef, 0x98,
        0xf0, 0xd5, 0xdf, 0xac, 0x05, 0xd3, 0xc6, 0x33, 0x39, 0xb1, 0x38, 0x02, 0x88, 0x6d, 0x53,
        0xfc, 0x05,
    ];
    let mut weak_r = signature;
    weak_r.0[..32].copy_from_slice(&neutral);
    // p + 1 is the neutral element in another form.
    let mut not_reduced = [0xff; 32];
    not_reduced[0] = 0xee;
    not_reduced[31] = 0x7f;
    let cases = [
        ("good", node(1), event.id, signature),
        ("good-other-event", node(1), other.id, other.signature.unwrap()),
        ("another-author", node(2), event.id, signature),
        ("another-event", node(1), other.id, signature),
        ("bit-of-r", node(1), event.id, flipped(0)),
        ("bit-of-s", node(1), event.id, flipped(40)),
        ("s-not-reduced", node(1), event.id, plus_order(&signature)),
        ("all-zero", node(1), event.id, EventSignature([0; 64])),
        ("signs-the-cid-itself", node(1), event.id, plain),
        ("signs-without-the-context", node(1), event.id, unprefixed),
        ("neutral-r", node(1), event.id, weak_r),
        ("neutral-key", NodeKey(neutral), event.id, EventSignature(weak)),
        ("neutral-key-not-reduced", NodeKey(not_reduced), event.id, EventSignature(weak)),
        ("key-of-order-8", NodeKey(order_8), event.id, EventSignature(weak)),
        ("key-not-on-the-curve", NodeKey([2; 32]), event.id, signature),
    ];
    let vectors: Vec<Json> = cases
        .iter()
        .map(|(name, author, id, signature)| {
            let result = verify_signature(author, id, signature);
            assert_eq!(result.is_ok(), name.starts_with("good"), "{name}");
            json!({
                "name": name, "author": author.to_string(), "uuid": id.to_string(),
                "message": hex(&signing_message(id)), "signature": hex(&signature.0),
                "verifies": result.is_ok(), "error": result.err().map(|error| error.to_string()),
            })
        })
        .collect();
    json!({
        "format": "event signatures: Ed25519, strict, over BLAKE3-256(context, binary CID)",
        "context": "quipu event signature v1",
        "vectors": vectors,
    })
}

pub(crate) fn digests() -> Json {
    let log = small_log();
    let mut ends = [log[5].id, log[6].id];
    ends.sort_unstable();
    let case = |name: &str, ends: &[EventId]| {
        json!({
            "name": name,
            "feed_ends": ends.iter().map(EventId::to_string).collect::<Vec<_>>(),
            "digest": digest_of(ends).to_string(),
        })
    };
    json!({
        "format": "log digest v1: BLAKE3-256(context, the 32-byte digests of all feed ends, sorted)",
        "context": "quipu log digest v1",
        "vectors": [
            case("empty", &[]),
            case("only-the-root", &[log[0].id]),
            case("small-log", &ends),
        ],
        "small_log": log.iter().map(|event| event_json(event, &domain())).collect::<Vec<_>>(),
    })
}
