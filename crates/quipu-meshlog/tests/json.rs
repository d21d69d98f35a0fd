//! Our JSON and that of the real Python say the same of random texts and values.

mod common;

use data_encoding::HEXLOWER;
use proptest::prelude::*;
use proptest::strategy::ValueTree as _;
use proptest::test_runner::TestRunner;
use quipu_meshlog::json::{self, Style, Value};

const TEXTS: usize = 20_000;
const VALUES: &str = "20000";

/// Texts that are JSON, nearly JSON, and pieces of it in any order; as bytes, since the encoding counts.
fn texts() -> impl Strategy<Value = Vec<u8>> {
    let piece = prop_oneof![
        4 => r#"[\[\]{},: ]{1,3}"#,
        2 => r#""([a-z]|\\["\\/bfnrtux]|\\u[dD][89abcdefABCDEF][0-9a-f]{2}|\\u00[0-9a-f]{2}|é|😀|\x7f){0,4}""#,
        2 => r"-?(0|[1-9][0-9]{0,25})(\.[0-9]{0,20})?([eE][+-]?[0-9]{0,3})?",
        1 => "NaN|-?Infinity|null|true|false|nul|-",
    ];
    let soup = proptest::collection::vec(piece, 0..8).prop_map(|pieces| pieces.concat());
    let inner =
        r#""[a-c]"|-?[0-9]{1,4}(\.[0-9]{1,19})?(e-?[0-9]{1,3})?|[1-9][0-9]{15,40}|NaN|null"#;
    let tree = inner.prop_recursive(4, 24, 6, |inner| {
        prop_oneof![
            proptest::collection::vec(inner.clone(), 0..6)
                .prop_map(|v| format!("[{}]", v.join(" ,"))),
            proptest::collection::vec(("\"[a-eé]{0,1}\"", inner), 0..12).prop_map(|pairs| {
                let pairs: Vec<_> = pairs.into_iter().map(|(k, v)| format!("{k}: {v}")).collect();
                format!("{{{}}}", pairs.join(","))
            }),
        ]
    });
    let damaged =
        (tree.clone(), any::<proptest::sample::Index>(), any::<u8>()).prop_map(|(t, at, byte)| {
            let mut bytes = t.into_bytes();
            let at = at.index(bytes.len());
            bytes[at] = byte;
            bytes
        });
    let wide = (tree.clone(), any::<bool>(), any::<bool>()).prop_map(|(text, big, marked)| {
        let mark = marked.then_some(0xfeff);
        let units = mark.into_iter().chain(text.encode_utf16());
        units.flat_map(|unit| if big { unit.to_be_bytes() } else { unit.to_le_bytes() }).collect()
    });
    let surrogates = "[a-z]{0,2}".prop_map(|text| {
        [b"[\"", &[0xed, 0xa0, 0x80][..], text.as_bytes(), &[0xed, 0xb0, 0x81], b"\"]"].concat()
    });
    prop_oneof![
        3 => tree.prop_map(String::into_bytes),
        3 => soup.prop_map(String::into_bytes),
        2 => damaged,
        1 => wide,
        1 => surrogates,
    ]
}

fn styles(value: &Value) -> String {
    let style = |style| HEXLOWER.encode(&json::to_bytes(value, style));
    [Style::Canonical, Style::Compact, Style::Spaced].map(style).join(" ")
}

#[test]
fn texts_mean_the_same_in_python() {
    let Some(place) = common::installed() else { return };
    let mut runner = TestRunner::deterministic();
    let mut texts: Vec<Vec<u8>> =
        (0..TEXTS).map(|_| self::texts().new_tree(&mut runner).unwrap().current()).collect();
    let nines = |count| "9".repeat(count).into_bytes();
    texts.extend([
        nines(4_300),
        nines(4_301),
        [b"-", &nines(4_300)[..]].concat(),
        vec![0xef, 0xbb, 0xbf, b'1'],
    ]);
    texts.extend(
        ["[", "]"]
            .map(|half| half.repeat(900))
            .concat()
            .into_bytes()
            .chunks(1800)
            .map(<[u8]>::to_vec),
    );
    let input: String = texts.iter().map(|text| HEXLOWER.encode(text) + "\n").collect();
    let command = common::script(&place, "0.5.0", "json_oracle.py", &["read"]);
    let answers = common::lines(command, input.into_bytes());
    assert_eq!(answers.len(), texts.len());
    let mut good = 0;
    for (text, theirs) in texts.iter().zip(&answers) {
        let ours =
            json::parse_detected(text).map_or_else(|_| "no".to_owned(), |value| styles(&value));
        assert_eq!(&ours, theirs, "{:?}", String::from_utf8_lossy(text));
        good += usize::from(theirs != "no");
    }
    // Both answers must be common, or this compares nothing.
    assert!(good > TEXTS / 4 && good < TEXTS - TEXTS / 8, "{good} of {TEXTS} are JSON");
}

#[test]
fn values_of_python_are_written_the_same() {
    let Some(place) = common::installed() else { return };
    for seed in ["1", "2", "3"] {
        let command = common::script(&place, "0.5.0", "json_oracle.py", &["make", VALUES, seed]);
        for line in common::lines(command, Vec::new()) {
            for text in line.split(' ') {
                let text = HEXLOWER.decode(text.as_bytes()).unwrap();
                let value = json::parse(&text).unwrap_or_else(|error| {
                    panic!("{error} in {}", String::from_utf8_lossy(&text));
                });
                // The sorted form cannot tell the order of the others.
                let theirs: Vec<&str> = line.split(' ').collect();
                let ours = styles(&value);
                let ours: Vec<&str> = ours.split(' ').collect();
                assert_eq!(ours[0], theirs[0]);
                if text == HEXLOWER.decode(theirs[1].as_bytes()).unwrap() {
                    assert_eq!(ours, theirs);
                }
            }
        }
    }
}
