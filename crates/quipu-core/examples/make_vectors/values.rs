//! Payload blocks, values and subjects.

use quipu_core::codec::v1;
use quipu_core::id::{ArtifactId, PayloadId};
use quipu_core::subject::subject_of;
use quipu_core::value::{self, Value, write_json};
use serde_json::{Value as Json, json};

use crate::json::hex;
use crate::raw::{bytes, link_with, map, number, text};
use crate::world::{block, root, salt};

pub(crate) fn dag_json(value: &Value) -> String {
    let mut out = String::new();
    write_json(value, &mut out);
    out
}

pub(crate) fn cbor_of(value: &Value) -> Vec<u8> {
    let mut out = Vec::new();
    value::encode(value, &mut out);
    out
}

pub(crate) fn payloads() -> Json {
    let many = Value::Bytes(vec![0xab; 65_536 - 13]);
    let cases = [
        ("null", 8, Value::Null),
        ("text", 8, "hello".into()),
        ("map", 8, Value::map([("b", 1u64.into()), ("aa", Value::list([true, false]))])),
        ("no-salt", 0, "hello".into()),
        ("salt-of-23", 23, Value::Null),
        ("salt-of-24", 24, Value::Null),
        ("salt-of-32", 32, Value::Null),
        ("largest", 8, many),
    ];
    let salt_of = |n: usize| -> Vec<u8> { (0..n as u8).collect() };
    let good: Vec<Json> = cases
        .iter()
        .map(|(name, salt_bytes, value)| {
            let block = block(value, &salt_of(*salt_bytes));
            v1::check_payload(&block, *salt_bytes).unwrap();
            json!({
                "name": name, "salt_bytes": salt_bytes, "salt": hex(&salt_of(*salt_bytes)),
                "value_json": dag_json(value), "block": hex(&block), "size": block.len(),
                "payload_cid": PayloadId::of(&block).to_string(),
            })
        })
        .collect();
    let salt = bytes(&salt(0));
    let null = [&[0x82][..], &salt, &[0xf6]].concat();
    let no_frame = "malformed body: payload is not a list of salt and value";
    let other_salt = "malformed body: salt has not the length that the domain fixes";
    let bad: Vec<(&str, usize, Vec<u8>, &str)> = vec![
        ("empty", 8, vec![], no_frame),
        ("value-alone", 8, vec![0xf6], no_frame),
        ("list-of-1", 8, [&[0x81][..], &salt].concat(), no_frame),
        ("list-of-3", 8, [&[0x83][..], &salt, &[0xf6, 0xf6]].concat(), no_frame),
        ("list-indefinite", 8, [&[0x9f][..], &salt, &[0xf6, 0xff]].concat(), no_frame),
        ("list-head-not-shortest", 8, [&[0x98, 2][..], &salt, &[0xf6]].concat(), no_frame),
        ("salt-as-text", 8, [&[0x82][..], &text("saltsalt"), &[0xf6]].concat(), no_frame),
        (
            "salt-head-not-shortest",
            8,
            [&[0x82, 0x58][..], &salt, &[0xf6]]
                .concat()
                .into_iter()
                .enumerate()
                .map(|(at, b)| if at == 2 { 8 } else { b })
                .collect(),
            no_frame,
        ),
        ("salt-indefinite", 8, [&[0x82, 0x5f][..], &salt, &[0xff, 0xf6]].concat(), no_frame),
        ("salt-of-33", 33, [&[0x82][..], &bytes(&[0; 33]), &[0xf6]].concat(), no_frame),
        ("salt-too-short", 8, [&[0x82][..], &bytes(&[0; 7]), &[0xf6]].concat(), other_salt),
        ("salt-missing-where-one-is-due", 8, vec![0x82, 0x40, 0xf6], other_salt),
        ("salt-where-none-is-due", 0, null.clone(), other_salt),
        (
            "value-missing",
            8,
            null[..10].to_vec(),
            "payload: at byte 0: the input ends within an item",
        ),
        (
            "trailing-byte",
            8,
            [&null[..], &[0]].concat(),
            "payload: at byte 1: there are bytes after the value",
        ),
        (
            "value-not-canonical",
            8,
            [&null[..10], &[0x18, 1]].concat(),
            "payload: at byte 0: a number or length is not in its shortest form",
        ),
        (
            "oversized",
            8,
            block(&Value::Bytes(vec![0; 65_536 - 12]), &[0; 8]).to_vec(),
            "payload is too large: 65537 (at most 65536)",
        ),
    ];
    let mut wrong = Vec::new();
    let refused: Vec<Json> = bad
        .into_iter()
        .map(|(name, salt_bytes, block, error)| {
            let given = v1::check_payload(&block, salt_bytes)
                .map_or_else(|e| e.to_string(), |()| "accepted".to_owned());
            if given != error {
                wrong.push(format!("{name}: expected {error:?}, got {given:?}"));
            }
            json!({ "name": name, "salt_bytes": salt_bytes, "block": hex(&block), "error": error })
        })
        .collect();
    assert!(wrong.is_empty(), "{wrong:#?}");
    json!({ "format": "payload block v1", "good": good, "refused": refused })
}

fn float(n: f64) -> Vec<u8> {
    [&[0xfb][..], &n.to_be_bytes()].concat()
}

pub(crate) fn values() -> Json {
    let n = |n: f64| Value::float(n).unwrap();
    let mut deep = Value::from(1u64);
    (0..64).for_each(|_| deep = Value::List(vec![std::mem::take(&mut deep)]));
    let good = [
        ("null", Value::Null),
        ("true", true.into()),
        ("zero", 0u64.into()),
        ("23", 23u64.into()),
        ("24", 24u64.into()),
        ("256", 256u64.into()),
        ("65536", 65_536u64.into()),
        ("2^32", (1u64 << 32).into()),
        ("2^64-1", u64::MAX.into()),
        ("minus-1", (-1i64).into()),
        ("minus-2^63", i64::MIN.into()),
        ("half", n(0.5)),
        ("a-tenth", n(0.1)),
        ("smallest-float", n(5e-324)),
        ("largest-float", n(f64::MAX)),
        ("2^53-as-float", n(9_007_199_254_740_992.0)),
        ("1e300", n(1e300)),
        ("bytes", Value::Bytes(vec![0, 255])),
        ("no-bytes", Value::Bytes(vec![])),
        ("text", "d\u{e9}j\u{e0} vu \u{1f9f6} \"\\\n\u{1}".into()),
        ("empty-list", Value::List(vec![])),
        ("empty-map", Value::map([])),
        (
            "keys-shorter-first",
            Value::map([("b", 1u64.into()), ("aa", 2u64.into()), ("ab", 3u64.into())]),
        ),
        ("link-to-an-event", root().id.into()),
        (
            "link-cid-v0",
            Value::Link("QmdfTbBqBPQ7VNxZEYEj14VmRuZBkqFbiwReogJgS1zR1n".parse().unwrap()),
        ),
        ("64-deep", deep),
    ];
    let good: Vec<Json> = good
        .iter()
        .map(|(name, value)| json!({ "name": name, "cbor": hex(&cbor_of(value)), "json": dag_json(value) }))
        .collect();
    let root = root().id.0;
    let bad: Vec<(&str, Vec<u8>, &str)> = vec![
        ("empty", vec![], "at byte 0: the input ends within an item"),
        ("trailing", vec![0, 0], "at byte 1: there are bytes after the value"),
        (
            "number-not-shortest",
            vec![0x18, 23],
            "at byte 0: a number or length is not in its shortest form",
        ),
        (
            "number-in-8-bytes",
            vec![0x1b, 0, 0, 0, 0, 0xff, 0xff, 0xff, 0xff],
            "at byte 0: a number or length is not in its shortest form",
        ),
        (
            "text-length-not-shortest",
            vec![0x78, 1, 0x61],
            "at byte 0: a number or length is not in its shortest form",
        ),
        (
            "below-minus-2^63",
            vec![0x3b, 0x80, 0, 0, 0, 0, 0, 0, 0],
            "at byte 0: an integer is below -2^63",
        ),
        ("big-number-tag", vec![0xc2, 0x41, 1], "at byte 0: a tag is not 42"),
        ("half-float", vec![0xf9, 0x38, 0], "at byte 0: a float does not have 64 bits"),
        ("single-float", vec![0xfa, 0x3f, 0, 0, 0], "at byte 0: a float does not have 64 bits"),
        ("nan", float(f64::NAN), "at byte 0: a float is not finite"),
        ("infinity", float(f64::INFINITY), "at byte 0: a float is not finite"),
        ("integral-float", float(1.0), "at byte 0: a float stands for an integer"),
        ("minus-zero", float(-0.0), "at byte 0: a float stands for an integer"),
        (
            "float-2^53-minus-1",
            float(9_007_199_254_740_991.0),
            "at byte 0: a float stands for an integer",
        ),
        ("undefined", vec![0xf7], "at byte 0: a simple value is none of null, false and true"),
        (
            "simple-value",
            vec![0xf8, 32],
            "at byte 0: a simple value is none of null, false and true",
        ),
        ("break", vec![0xff], "at byte 0: a simple value is none of null, false and true"),
        ("indefinite-list", vec![0x9f, 0, 0xff], "at byte 0: an item has no definite length"),
        ("indefinite-map", vec![0xbf, 0xff], "at byte 0: an item has no definite length"),
        (
            "indefinite-text",
            vec![0x7f, 0x61, 0x61, 0xff],
            "at byte 0: an item has no definite length",
        ),
        (
            "indefinite-bytes",
            vec![0x5f, 0x41, 0, 0xff],
            "at byte 0: an item has no definite length",
        ),
        (
            "reserved-length-form",
            vec![0x1c],
            "at byte 0: an item has a length form that CBOR does not define",
        ),
        ("text-not-utf-8", vec![0x62, 0xc3, 0x28], "at byte 0: text is not UTF-8"),
        ("surrogate-in-text", vec![0x63, 0xed, 0xa0, 0x80], "at byte 0: text is not UTF-8"),
        ("key-not-text", vec![0xa1, 1, 2], "at byte 1: a map key is not text"),
        (
            "keys-not-in-order",
            map(&[("b", number(1)), ("a", number(2))]),
            "at byte 4: map keys are not in order",
        ),
        (
            "keys-by-the-alphabet",
            map(&[("aa", number(1)), ("b", number(2))]),
            "at byte 5: map keys are not in order",
        ),
        (
            "key-twice",
            map(&[("a", number(1)), ("a", number(2))]),
            "at byte 4: a map has a key twice",
        ),
        ("key-slash", map(&[("/", number(1))]), "at byte 1: the map key \"/\" is reserved"),
        (
            "link-without-zero-byte",
            [&[0xd8, 42][..], &bytes(&[&[1, 0x71, 0x1e, 0x20][..], &root].concat())].concat(),
            "at byte 0: a link is not a zero byte and a content id",
        ),
        (
            "link-as-text",
            [&[0xd8, 42][..], &text("b")].concat(),
            "at byte 0: a link is not a zero byte and a content id",
        ),
        (
            "link-digest-short",
            link_with(&[1, 0x71, 0x1e, 0x20], &root[1..]),
            "at byte 0: a link is not a zero byte and a content id",
        ),
        (
            "link-varint-long",
            link_with(&[1, 0xf1, 0x00, 0x1e, 0x20], &root),
            "at byte 0: a link is not a zero byte and a content id",
        ),
        (
            "65-deep",
            [vec![0x81; 64], vec![0x80]].concat(),
            "at byte 64: maps and lists nest deeper than 64",
        ),
        ("deep-bomb", vec![0x81; 60_000], "at byte 64: maps and lists nest deeper than 64"),
        (
            "list-count-huge",
            vec![0x9b, 255, 255, 255, 255, 255, 255, 255, 255],
            "at byte 0: the input ends within an item",
        ),
        (
            "map-count-huge",
            vec![0xbb, 127, 255, 255, 255, 255, 255, 255, 255],
            "at byte 0: the input ends within an item",
        ),
        (
            "bytes-length-huge",
            vec![0x5b, 255, 255, 255, 255, 255, 255, 255, 255],
            "at byte 0: the input ends within an item",
        ),
    ];
    let json_in = [
        (r#" { "b" : 1 , "a" : [ ] } "#, "spaces and order do not matter"),
        ("1.0", "an integral float is an integer"),
        ("-0.0", "minus zero is zero"),
        ("1e3", "so is one with an exponent"),
        ("9007199254740993", "an integer above 2^53 keeps all its digits"),
        ("18446744073709551615", "the largest integer"),
        ("-9223372036854775808", "the smallest integer"),
        ("1e-400", "too small for a float: zero"),
        (r#""\ud83e\uddf6""#, "an escaped pair of surrogates"),
        (r#"{"/":{"bytes":"AP8"}}"#, "bytes"),
        (r#"{"a":{"/":{"bytes":""}}}"#, "no bytes"),
    ];
    let bad_json: Vec<(&str, String)> = vec![
        ("empty", String::new()),
        ("two-values", "1 2".into()),
        ("comma-at-the-end", "[1,]".into()),
        ("key-twice", r#"{"a":1,"a":2}"#.into()),
        ("key-twice-escaped", r#"{"a":1,"\u0061":2}"#.into()),
        ("nan", "NaN".into()),
        ("infinite", "1e999".into()),
        ("integer-over-64-bits", "18446744073709551616".into()),
        ("integer-below-64-bits", "-9223372036854775809".into()),
        ("slash-number", r#"{"/":1}"#.into()),
        ("slash-with-others", r#"{"/":{"bytes":""},"a":1}"#.into()),
        ("others-with-slash", r#"{"a":1,"/":{"bytes":""}}"#.into()),
        ("bytes-with-others", r#"{"/":{"bytes":"","a":1}}"#.into()),
        ("bytes-padded", r#"{"/":{"bytes":"AA=="}}"#.into()),
        ("bytes-url-alphabet", r#"{"/":{"bytes":"__8"}}"#.into()),
        ("bytes-loose-bits", r#"{"/":{"bytes":"AB"}}"#.into()),
        ("link-not-a-cid", r#"{"/":"hello"}"#.into()),
        ("lone-surrogate", r#""\ud83e""#.into()),
        ("control-character", "\"\u{1}\"".into()),
        ("65-deep", "[".repeat(65) + &"]".repeat(65)),
        ("deep-bomb", "[".repeat(60_000)),
    ];
    let mut wrong = Vec::new();
    let refused: Vec<Json> = bad
        .into_iter()
        .map(|(name, cbor, error)| {
            let given =
                value::validate(&cbor).map_or_else(|e| e.to_string(), |()| "accepted".to_owned());
            if given != error {
                wrong.push(format!("{name}: expected {error:?}, got {given:?}"));
            }
            json!({ "name": name, "cbor": hex(&cbor), "error": error })
        })
        .collect();
    let json_refused: Vec<Json> = bad_json
        .into_iter()
        .map(|(name, json)| match value::from_json(&json) {
            Ok(_) => {
                wrong.push(format!("{name}: accepted"));
                Json::Null
            }
            Err(error) => json!({ "name": name, "json": json, "error": error.to_string() }),
        })
        .collect();
    assert!(wrong.is_empty(), "{wrong:#?}");
    let json_accepted: Vec<Json> = json_in
        .iter()
        .map(|(json, meaning)| {
            let value = value::from_json(json).unwrap_or_else(|e| panic!("{json}: {e}"));
            json!({ "json": json, "meaning": meaning, "cbor": hex(&cbor_of(&value)), "canonical_json": dag_json(&value) })
        })
        .collect();
    json!({
        "format": "values: canonical DAG-CBOR and DAG-JSON",
        "good": good, "refused": refused,
        "json_accepted": json_accepted, "json_refused": json_refused,
    })
}

pub(crate) fn subjects() -> Json {
    let set = |record: Value, field: Value| {
        Value::map([("record_id", record), ("field", field), ("value", 1u64.into())])
    };
    let text = |keys: [(&'static str, Value); 1]| Value::map(keys);
    let cases = [
        ("a cell", "field.set", set("R-1".into(), "name".into())),
        (
            "the same cell: the value does not count",
            "field.set",
            Value::map([("record_id", "R-1".into()), ("field", "name".into())]),
        ),
        ("another cell: the parts have an order", "field.set", set("name".into(), "R-1".into())),
        (
            "bytes are another part than text",
            "field.set",
            set(Value::Bytes(b"R-1".to_vec()), "name".into()),
        ),
        ("a part that is a number: no subject", "field.set", set(1u64.into(), "name".into())),
        ("a part is missing: no subject", "field.set", text([("field", "name".into())])),
        ("a record", "record.create", text([("record_id", "R-1".into())])),
        ("a member", "member.add", text([("node", "00".into())])),
        ("the same member", "member.remove", text([("node", "00".into())])),
        ("an invitation", "invite.create", text([("key", "00".into())])),
        ("another kind: no subject", "note", text([("record_id", "R-1".into())])),
        ("not a map: no subject", "record.create", "R-1".into()),
    ];
    subject_vectors(&cases)
}

/// Subjects of records and meshes, which came later.
pub(crate) fn record_subjects() -> Json {
    let cases = [
        (
            "the cell of a record",
            "record.set",
            Value::map([("record_id", "R-1".into()), ("field", "name".into())]),
        ),
        (
            "a note",
            "record.note",
            Value::map([("record_id", "R-1".into()), ("text", "dry".into())]),
        ),
        (
            "an attachment",
            "record.attach",
            Value::map([
                ("record_id", "R-1".into()),
                ("field", "photo".into()),
                ("artifact", ArtifactId::of(b"jpeg").into()),
            ]),
        ),
        (
            "an attachment without a link: no subject",
            "record.attach",
            Value::map([
                ("record_id", "R-1".into()),
                ("field", "photo".into()),
                ("artifact", "jpeg".into()),
            ]),
        ),
        ("an identity", "mesh.identity", Value::map([("identity", Value::Bytes(vec![0; 64]))])),
        ("an event of a mesh", "mesh.event", Value::map([("id", Value::Bytes(vec![0; 16]))])),
        ("a policy about meshes", "mesh.policy", Value::map([("policy", "open".into())])),
        ("trust in an author", "mesh.trust", Value::map([("author", "x".into())])),
        ("signatures: no subject", "mesh.sign", Value::map([("from", 1u64.into())])),
        (
            "an event for meshes: no subject",
            "mesh.emit",
            Value::map([("wire", Value::Bytes(vec![1]))]),
        ),
    ];
    subject_vectors(&cases)
}

fn subject_vectors(cases: &[(&str, &str, Value)]) -> Json {
    let vectors: Vec<Json> = cases
        .iter()
        .map(|(meaning, kind, value)| {
            let cbor = cbor_of(value);
            json!({
                "meaning": meaning, "kind": kind, "value_json": dag_json(value), "value": hex(&cbor),
                "subject": subject_of(kind, &cbor).map(|subject| subject.to_string()),
            })
        })
        .collect();
    json!({
        "format": "subjects: BLAKE3-256 of the fold key in CBOR, keyed with BLAKE3-256(context)",
        "context": "quipu subject v1",
        "vectors": vectors,
    })
}
