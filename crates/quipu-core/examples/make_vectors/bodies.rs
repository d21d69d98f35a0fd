//! Bodies that are refused, each for one reason.

use quipu_core::codec::v1;
use quipu_core::id::EventId;
use serde_json::{Value as Json, json};

use crate::json::hex;
use crate::raw::{bytes, link, link_with, links, map, number, text};
use crate::world::{domain, node, small_log};

type Fields = Vec<(&'static str, Vec<u8>)>;

/// The fields of a good body, in canonical order.
fn fields() -> Fields {
    let log = small_log();
    let mut parents = [log[4].id.0, log[3].id.0];
    parents.sort_unstable();
    let payload = log[5].header.payload;
    vec![
        ("v", number(1)),
        ("log", text("internal")),
        ("seq", number(4)),
        ("kind", text("merge")),
        ("prev", link(&log[4].id.0)),
        ("size", number(u64::from(payload.size))),
        ("author", bytes(&node(1).0)),
        ("domain", link(&domain().0)),
        ("logseq", number(log[5].header.logseq.0)),
        ("parents", links(&parents)),
        ("payload", link(&payload.id.0)),
    ]
}

fn with(key: &'static str, value: Vec<u8>) -> Vec<u8> {
    let mut fields = fields();
    fields.iter_mut().find(|(k, _)| *k == key).unwrap().1 = value;
    map(&fields)
}

fn without(keys: &[&str]) -> Fields {
    fields().into_iter().filter(|(key, _)| !keys.contains(key)).collect()
}

fn swapped(a: usize, b: usize) -> Vec<u8> {
    let mut fields = fields();
    fields.swap(a, b);
    map(&fields)
}

fn inserted(at: usize, key: &'static str, value: Vec<u8>) -> Vec<u8> {
    let mut fields = fields();
    fields.insert(at, (key, value));
    map(&fields)
}

pub(crate) fn refused() -> Json {
    let good = map(&fields());
    assert_eq!(EventId::of(&good), small_log()[5].id);
    let digest = small_log()[4].id.0;
    let many = |n: u8| -> Vec<u8> {
        let mut ids: Vec<[u8; 32]> = (0..n).map(|n| EventId::of(&[n]).0).collect();
        ids.sort_unstable();
        links(&ids)
    };
    let mut unsorted = [small_log()[4].id.0, small_log()[3].id.0];
    unsorted.sort_unstable();
    unsorted.reverse();
    let root_with_domain = {
        let mut fields = without(&["prev"]);
        fields.iter_mut().for_each(|(key, value)| match *key {
            "seq" => *value = number(1),
            "parents" => *value = vec![0x80],
            _ => {}
        });
        map(&fields)
    };
    let indefinite_map = [&[0xbf][..], &good[1..], &[0xff]].concat();
    let long_map_head = [&[0xb8, 0x0b][..], &good[1..]].concat();
    let long_number = |n: u64| [&[0x1b][..], &n.to_be_bytes()].concat();
    let cases: Vec<(&str, Vec<u8>, &str)> = vec![
        ("empty", vec![], "malformed body: map"),
        ("not-a-map", vec![0x80], "malformed body: map"),
        ("empty-map", vec![0xa0], "malformed body: v"),
        ("cut-short", good[..good.len() - 1].to_vec(), "malformed body: payload"),
        ("trailing-byte", [&good[..], &[0]].concat(), "body is not canonical"),
        ("indefinite-map", indefinite_map, "body is not canonical"),
        ("map-head-not-shortest", long_map_head, "body is not canonical"),
        ("map-count-too-small", [&[0xaa][..], &good[1..]].concat(), "body is not canonical"),
        ("map-count-too-large", [&[0xac][..], &good[1..]].concat(), "body is not canonical"),
        (
            "map-count-huge",
            [&[0xbb, 255, 255, 255, 255, 255, 255, 255, 255][..], &good[1..]].concat(),
            "body is not canonical",
        ),
        ("keys-swapped", swapped(1, 2), "malformed body: log"),
        ("keys-by-the-alphabet", swapped(0, 6), "malformed body: v"),
        ("key-twice", inserted(3, "seq", number(4)), "malformed body: kind"),
        ("unknown-key", inserted(3, "zzz", number(4)), "malformed body: kind"),
        ("unknown-key-at-the-end", inserted(11, "zzzzzzzz", number(4)), "body is not canonical"),
        (
            "key-as-bytes",
            {
                let mut bytes = good.clone();
                bytes[1] = 0x41;
                bytes
            },
            "malformed body: v",
        ),
        ("version-0", with("v", number(0)), "malformed body: v"),
        ("version-2", with("v", number(2)), "malformed body: v"),
        ("version-not-shortest", with("v", vec![0x18, 1]), "body is not canonical"),
        ("version-missing", map(&without(&["v"])), "malformed body: v"),
        ("log-unknown", with("log", text("private")), "malformed body: log"),
        ("log-upper-case", with("log", text("Internal")), "malformed body: log"),
        (
            "log-indefinite-text",
            with("log", [&[0x7f][..], &text("internal"), &[0xff]].concat()),
            "malformed body: log",
        ),
        ("log-not-utf-8", with("log", vec![0x62, 0xc3, 0x28]), "malformed body: log"),
        ("seq-0", with("seq", number(0)), "malformed body: seq"),
        ("seq-1-with-prev", with("seq", number(1)), "malformed body: seq"),
        ("seq-4-without-prev", map(&without(&["prev"])), "malformed body: seq"),
        ("seq-negative", with("seq", vec![0x20]), "malformed body: seq"),
        (
            "seq-float",
            with("seq", [&[0xfb][..], &4f64.to_be_bytes()].concat()),
            "malformed body: seq",
        ),
        ("seq-half-float", with("seq", vec![0xf9, 0x44, 0x00]), "malformed body: seq"),
        ("seq-not-shortest", with("seq", long_number(4)), "body is not canonical"),
        ("seq-big-number", with("seq", vec![0xc2, 0x41, 4]), "malformed body: seq"),
        ("kind-empty", with("kind", text("")), "malformed body: kind"),
        ("kind-upper-case", with("kind", text("Merge")), "malformed body: kind"),
        ("kind-dot-at-the-end", with("kind", text("merge.")), "malformed body: kind"),
        ("kind-two-dots", with("kind", text("a..b")), "malformed body: kind"),
        ("kind-space", with("kind", text("a b")), "malformed body: kind"),
        ("kind-not-ascii", with("kind", text("n\u{e4}me")), "malformed body: kind"),
        (
            "kind-65-bytes",
            with("kind", text(&"a".repeat(65))),
            "kind is too large: 65 (at most 64)",
        ),
        ("prev-null", with("prev", vec![0xf6]), "malformed body: prev"),
        (
            "prev-without-tag",
            with("prev", bytes(&[&[0, 1, 0x71, 0x1e, 0x20][..], &digest].concat())),
            "malformed body: prev",
        ),
        (
            "prev-tag-43",
            with("prev", [&[0xd8, 43][..], &link(&digest)[2..]].concat()),
            "malformed body: prev",
        ),
        (
            "prev-tag-not-shortest",
            with("prev", [&[0xd9, 0, 42][..], &link(&digest)[2..]].concat()),
            "body is not canonical",
        ),
        (
            "prev-without-zero-byte",
            with(
                "prev",
                [&[0xd8, 42][..], &bytes(&[&[1, 0x71, 0x1e, 0x20][..], &digest].concat())].concat(),
            ),
            "malformed body: prev",
        ),
        (
            "prev-raw-codec",
            with("prev", link_with(&[1, 0x55, 0x1e, 0x20], &digest)),
            "malformed body: prev",
        ),
        (
            "prev-sha2-256",
            with("prev", link_with(&[1, 0x71, 0x12, 0x20], &digest)),
            "malformed body: prev",
        ),
        (
            "prev-cid-version-0",
            with("prev", link_with(&[0x12, 0x20], &digest)),
            "malformed body: prev",
        ),
        (
            "prev-digest-31-bytes",
            with("prev", link_with(&[1, 0x71, 0x1e, 0x20], &digest[1..])),
            "malformed body: prev",
        ),
        (
            "prev-digest-33-bytes",
            with("prev", link_with(&[1, 0x71, 0x1e, 0x20], &[&digest[..], &[0]].concat())),
            "malformed body: prev",
        ),
        (
            "prev-cid-length-varint-long",
            with("prev", link_with(&[1, 0x71, 0x1e, 0xa0, 0x00], &digest)),
            "malformed body: prev",
        ),
        ("size-missing", map(&without(&["size"])), "malformed body: size"),
        ("size-65537", with("size", number(65_537)), "payload is too large: 65537 (at most 65536)"),
        ("size-over-32-bits", with("size", number(1 << 32)), "malformed body: size"),
        ("author-31-bytes", with("author", bytes(&[7; 31])), "malformed body: author"),
        ("author-33-bytes", with("author", bytes(&[7; 33])), "malformed body: author"),
        ("author-text", with("author", text(&node(1).to_string())), "malformed body: author"),
        (
            "author-indefinite-bytes",
            with("author", [&[0x5f][..], &bytes(&[7; 32]), &[0xff]].concat()),
            "malformed body: author",
        ),
        ("domain-missing", map(&without(&["domain"])), "malformed body: domain"),
        ("domain-in-a-root-event", root_with_domain, "malformed body: domain"),
        (
            "domain-raw-codec",
            with("domain", link_with(&[1, 0x55, 0x1e, 0x20], &domain().0)),
            "malformed body: domain",
        ),
        ("logseq-missing", map(&without(&["logseq"])), "malformed body: logseq"),
        ("logseq-text", with("logseq", text("1")), "malformed body: logseq"),
        ("logseq-not-shortest", with("logseq", long_number(9)), "body is not canonical"),
        ("parents-missing", map(&without(&["parents"])), "malformed body: parents"),
        ("parents-unsorted", with("parents", links(&unsorted)), "body is not canonical"),
        (
            "parents-twice-the-same",
            with("parents", links(&[digest, digest])),
            "body is not canonical",
        ),
        ("parents-129", with("parents", many(129)), "parents is too large: 129 (at most 128)"),
        (
            "parents-count-huge",
            with("parents", vec![0x9b, 255, 255, 255, 255, 255, 255, 255, 255]),
            "parents is too large: 18446744073709551615 (at most 128)",
        ),
        (
            "parents-indefinite",
            with("parents", [&[0x9f][..], &link(&digest), &[0xff]].concat()),
            "body is not canonical",
        ),
        (
            "parents-head-not-shortest",
            with("parents", [&[0x98, 1][..], &link(&digest)].concat()),
            "body is not canonical",
        ),
        (
            "parents-raw-codec",
            with("parents", [&[0x81][..], &link_with(&[1, 0x55, 0x1e, 0x20], &digest)].concat()),
            "malformed body: parents",
        ),
        ("payload-missing", map(&without(&["payload"])), "malformed body: payload"),
        ("payload-inline", with("payload", text("hello")), "malformed body: payload"),
        ("subject-31-bytes", inserted(11, "subject", bytes(&[7; 31])), "malformed body: subject"),
        ("subject-null", inserted(11, "subject", vec![0xf6]), "malformed body: subject"),
        (
            "subject-before-payload",
            inserted(10, "subject", bytes(&[7; 32])),
            "malformed body: payload",
        ),
        ("oversized", vec![0; 6145], "body is too large: 6145 (at most 6144)"),
        ("deep-nesting", vec![0x81; 6000], "malformed body: map"),
    ];
    let mut wrong = Vec::new();
    let vectors: Vec<Json> = cases
        .into_iter()
        .map(|(name, body, error)| {
            let given =
                v1::decode_body(&body).map_or_else(|e| e.to_string(), |_| "accepted".to_owned());
            if given != error {
                wrong.push(format!("{name}: expected {error:?}, got {given:?}"));
            }
            json!({ "name": name, "body": hex(&body), "error": error })
        })
        .collect();
    assert!(wrong.is_empty(), "{wrong:#?}");
    json!({
        "format": "event v1",
        "base": hex(&good),
        "base_meaning": "the good body (two-parents) of which most of these are changed copies",
        "refused": vectors,
    })
}
