//! Messages about artifacts.

use quipu_core::artifact::{ARTIFACT_BYTES_MAX, group_count};
use quipu_core::id::ArtifactId;
use quipu_core::limits::{ASK_KEYS_MAX, PART_BYTES_MAX};
use quipu_core::sync::message::{Message, StateOffer};
use serde_json::{Value as Json, json};

use crate::json::{hex, message_json};
use crate::raw::varint;

fn good() -> Vec<(&'static str, Message)> {
    let (hello, world) = (ArtifactId::of(b"hello"), ArtifactId::of(b"world"));
    assert!(world < hello);
    let part = |size, groups, bytes: &[u8]| Message::Part {
        key: hello,
        size,
        groups,
        bytes: bytes.to_vec().into(),
    };
    let last = group_count(ARTIFACT_BYTES_MAX);
    vec![
        ("ask", Message::Ask { ask: 1, keys: vec![world, hello] }),
        ("ask-nothing-yet", Message::Ask { ask: u32::MAX, keys: vec![] }),
        ("offer", Message::Offer { ask: 1, entries: vec![(world, 0), (hello, 5)] }),
        ("offer-nothing", Message::Offer { ask: 2, entries: vec![] }),
        ("offer-unasked", Message::Offer { ask: 0, entries: vec![(hello, ARTIFACT_BYTES_MAX)] }),
        ("get-first", Message::Get { key: hello, groups: 0..1 }),
        ("get-most", Message::Get { key: hello, groups: 300..316 }),
        ("get-last", Message::Get { key: hello, groups: last - 16..last }),
        ("part", part(5, 0..1, b"hello")),
        ("part-of-nothing", part(0, 0..1, b"")),
        ("part-in-the-middle", part((20 << 14) + 1, 16..21, &[7; 40])),
        ("lack", Message::Lack { key: hello }),
        ("idle", Message::Idle),
        ("ask-state", Message::AskState),
        ("state-none", Message::State(None)),
        ("state", Message::State(Some(StateOffer { proof: vec![7; 5], key: hello, size: 70_000 }))),
    ]
}

fn refused() -> Json {
    let frame = |name: &str| good().into_iter().find(|(n, _)| *n == name).unwrap().1.encode();
    let cut = |name: &str| {
        let mut bytes = frame(name);
        bytes.pop();
        bytes
    };
    let more = |name: &str| [frame(name), vec![0]].concat();
    let key = ArtifactId::of(b"hello");
    let list = |kind: u8, ask: u64, count: u64, items: &[&[u8]]| {
        [&[kind][..], &varint(ask), &varint(count), &items.concat()].concat()
    };
    let get = |start: u64, count: u64| [&[19][..], &key.0, &varint(start), &varint(count)].concat();
    let part = |size: u64, start: u64, count: u64, bytes: &[u8]| {
        [&[20][..], &key.0, &varint(size), &varint(start), &varint(count), bytes].concat()
    };
    let high = [[0xff; 32], [1; 32]].concat();
    let most = ASK_KEYS_MAX as u64;
    let cases: Vec<(&str, Vec<u8>, &str)> = vec![
        ("type-25", vec![25], "field"),
        ("ask-state-trailing", more("ask-state"), "trailing bytes"),
        ("state-cut", cut("state"), "field"),
        ("state-trailing", more("state"), "trailing bytes"),
        ("state-neither", vec![24, 2], "field"),
        ("state-proof-cut", vec![24, 1, 9, 7], "field"),
        ("ask-0", list(17, 0, 0, &[]), "field"),
        ("ask-number-over-32-bits", list(17, 1 << 32, 0, &[]), "field"),
        ("ask-cut", cut("ask"), "field"),
        ("ask-trailing", more("ask"), "trailing bytes"),
        ("ask-descending", list(17, 1, 2, &[&high]), "field"),
        ("ask-twice", list(17, 1, 2, &[&[1; 64]]), "field"),
        ("ask-257-keys", list(17, 1, most + 1, &[]), "field"),
        ("ask-count-huge", list(17, 1, u64::MAX, &[]), "field"),
        ("offer-cut", cut("offer"), "field"),
        ("offer-trailing", more("offer"), "trailing bytes"),
        ("offer-descending", list(18, 1, 2, &[&[9; 32], &[1], &[8; 32], &[1]]), "field"),
        ("offer-two-sizes", list(18, 1, 2, &[&[9; 32], &[1], &[9; 32], &[2]]), "field"),
        ("offer-257", list(18, 1, most + 1, &[]), "field"),
        ("offer-too-large", list(18, 1, 1, &[&key.0, &varint(ARTIFACT_BYTES_MAX + 1)]), "field"),
        ("get-cut", cut("get-first"), "field"),
        ("get-trailing", more("get-first"), "trailing bytes"),
        ("get-no-group", get(0, 0), "field"),
        ("get-17-groups", get(0, 17), "field"),
        ("get-beyond-all", get(group_count(ARTIFACT_BYTES_MAX), 1), "field"),
        ("get-overflow", get(u64::MAX, 2), "field"),
        ("part-cut-in-the-head", frame("part")[..33].to_vec(), "field"),
        ("part-no-group", part(5, 0, 0, b"hello"), "field"),
        ("part-17-groups", part(1 << 20, 0, 17, b""), "field"),
        ("part-beyond-the-end", part(1 << 14, 1, 1, b""), "field"),
        ("part-overflow", part(5, u64::MAX, 1, b""), "field"),
        ("part-too-large", part(ARTIFACT_BYTES_MAX + 1, 0, 1, b""), "field"),
        ("lack-cut", cut("lack"), "field"),
        ("lack-trailing", more("lack"), "trailing bytes"),
        ("idle-trailing", more("idle"), "trailing bytes"),
    ];
    let fits = part(1 << 20, 0, 16, &vec![0; PART_BYTES_MAX]);
    assert!(Message::decode(&fits).is_ok());
    assert!(Message::decode(&[fits, vec![0]].concat()).is_err());
    let mut wrong = Vec::new();
    let vectors: Vec<Json> = cases
        .into_iter()
        .map(|(name, frame, error)| {
            let given = Message::decode(&frame).map_or_else(|e| e.0, |_| "accepted");
            if given != error {
                wrong.push(format!("{name}: expected {error:?}, got {given:?}"));
            }
            json!({ "name": name, "frame": hex(&frame), "error": format!("malformed message: {error}") })
        })
        .collect();
    assert!(wrong.is_empty(), "{wrong:#?}");
    vectors.into()
}

pub(crate) fn messages() -> Json {
    let vectors: Vec<Json> = good()
        .iter()
        .map(|(name, message)| {
            let frame = message.encode();
            assert_eq!(Message::decode(&frame).as_ref(), Ok(message));
            json!({ "name": name, "frame": hex(&frame), "message": message_json(message) })
        })
        .collect();
    json!({ "format": "sync messages v1: artifacts", "good": vectors, "refused": refused() })
}
