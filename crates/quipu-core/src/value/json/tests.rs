use proptest::prelude::*;

use super::super::{Float, decode, encode, strategy};
use super::*;

fn written(value: &Value) -> String {
    let mut text = String::new();
    write_json(value, &mut text);
    text
}

/// JSON to accept, and its canonical form.
const GOOD: &[(&str, &str)] = &[
    (" [ 1 , -2 ] ", "[1,-2]"),
    ("1.0", "1"),
    ("1e3", "1000"),
    ("-1.5E+1", "-15"),
    ("0.0", "0"),
    ("-0", "0"),
    ("-0.0", "0"),
    ("0e9", "0"),
    ("1e-2", "0.01"),
    ("9007199254740991.0", "9007199254740991"),
    ("9007199254740992.0", "9007199254740992.0"),
    ("9007199254740992", "9007199254740992"),
    ("-9007199254740993", "-9007199254740993"),
    ("18446744073709551615", "18446744073709551615"),
    ("-9223372036854775808", "-9223372036854775808"),
    ("18446744073709551616.0", "1.8446744073709552e19"),
    ("1e30", "1e30"),
    ("1e-400", "0"),
    ("2.2250738585072014e-308", "2.2250738585072014e-308"),
    ("5e-324", "5e-324"),
    ("1.7976931348623157e308", "1.7976931348623157e308"),
    // The quick algorithm of serde_json is off in the last bits of these two.
    (
        "7.0420557077594588669468784357561207962098443483187940792729600000e59",
        "7.042055707759459e59",
    ),
    ("122.416294033786585", "122.41629403378658"),
    (r#""\u0041\/\n\u001f\ud83d\ude00""#, r#""A/\n\u001f😀""#),
    (r#"{"b":1,"aa":2,"a":{"\"]":[]}}"#, r#"{"a":{"\"]":[]},"aa":2,"b":1}"#),
    (r#"{"a":"\\","b":[1.5,"\\\"",{"c":2.50}]}"#, r#"{"a":"\\","b":[1.5,"\\\"",{"c":2.5}]}"#),
    (r#"{ "\u002f" : { "bytes" : "AQI" } }"#, r#"{"/":{"bytes":"AQI"}}"#),
    (r#"[{"/":"bafkqaaa"},{"//":1}]"#, r#"[{"/":"bafkqaaa"},{"//":1}]"#),
];

fn syntax(text: &str) -> JsonRule {
    JsonRule::Syntax(text.to_owned())
}

fn twice(key: &str) -> JsonRule {
    JsonRule::KeyDuplicate(key.to_owned())
}

#[test]
fn good_texts() {
    for (text, canonical) in GOOD {
        let value = from_json(text).unwrap_or_else(|error| panic!("{text}: {error}"));
        assert_eq!(written(&value), *canonical, "{text}");
    }
}

#[test]
fn bad_texts() {
    let bad = [
        ("", 1, 1, syntax("EOF while parsing a value")),
        ("[1,]", 1, 4, syntax("trailing comma")),
        ("[1] 2", 1, 5, syntax("trailing characters")),
        ("01", 1, 2, syntax("invalid number")),
        ("NaN", 1, 1, syntax("expected value")),
        ("1e400", 1, 5, syntax("number out of range")),
        (
            "\"\n\"",
            2,
            1,
            syntax("control character (\\u0000-\\u001F) found while parsing a string"),
        ),
        (r#""\ud800""#, 1, 8, syntax("unexpected end of hex escape")),
        (r#"{"\udc00":1}"#, 1, 8, syntax("lone leading surrogate in hex escape")),
        ("\u{feff}1", 1, 1, syntax("expected value")),
        ("{1:2}", 1, 2, syntax("key must be a string")),
        ("[\n  18446744073709551616]", 2, 3, JsonRule::IntegerRange),
        ("-9223372036854775809", 1, 1, JsonRule::IntegerRange),
        ("{\"a\":[1,\"]\"],\n \"b\" : {},\n  \"a\"  : 2}", 3, 3, twice("a")),
        (r#"[{"a\n":1,"a\u000a":2}]"#, 1, 11, twice("a\n")),
        (r#"{"/":1}"#, 1, 6, JsonRule::KeyReserved),
        (r#"{"/":[]}"#, 1, 6, JsonRule::KeyReserved),
        (r#"{"a":1,"/":"bafkqaaa"}"#, 1, 8, JsonRule::KeyReserved),
        (r#"{"/":"bafkqaaa","a":1}"#, 1, 17, JsonRule::KeyReserved),
        (r#"{"/":"bafkqaaa","/":1}"#, 1, 17, JsonRule::KeyReserved),
        (r#"{"/":{}}"#, 1, 6, JsonRule::KeyReserved),
        (r#"{"/":{"bytes":1}}"#, 1, 15, JsonRule::KeyReserved),
        (r#"{"/":{"a":""}}"#, 1, 6, JsonRule::KeyReserved),
        (r#"{"/":{"bytes":"","a":1}}"#, 1, 18, JsonRule::KeyReserved),
        (r#"{"/":{"bytes":"AQ=="}}"#, 1, 15, JsonRule::Base64),
        (r#"{"/":{"bytes":"AR"}}"#, 1, 15, JsonRule::Base64),
        (r#"{"/":{"bytes":"_w"}}"#, 1, 15, JsonRule::Base64),
        (r#"{"/":"bafkqaa"}"#, 1, 6, JsonRule::Link),
        (r#"[0,{"/":""}]"#, 1, 9, JsonRule::Link),
    ];
    for (text, line, column, rule) in bad {
        assert_eq!(from_json(text), Err(JsonError { line, column, rule }), "{text}");
    }
    let utf8 = JsonError { line: 2, column: 2, rule: JsonRule::Utf8 };
    assert_eq!(from_json(b"[\n\"\xff\"]"), Err(utf8.clone()));
    assert_eq!(utf8.to_string(), "line 2, column 2: the text is not UTF-8");
}

#[test]
fn depth_is_that_of_the_value() {
    let nested = |depth: usize, inner: &str| {
        format!("{}{inner}{}", r#"{"a":"#.repeat(depth), "}".repeat(depth))
    };
    for inner in ["1", r#"{"/":{"bytes":""}}"#, r#"{"/":"bafkqaaa"}"#] {
        let value = from_json(nested(VALUE_DEPTH_MAX, inner)).unwrap();
        assert_eq!(value.depth(), VALUE_DEPTH_MAX);
        let column = 1 + 5 * VALUE_DEPTH_MAX;
        let error = JsonError { line: 1, column, rule: JsonRule::Depth };
        assert_eq!(from_json(nested(VALUE_DEPTH_MAX + 1, inner)), Err(error.clone()));
        assert_eq!(from_json(nested(VALUE_DEPTH_MAX, &format!("[{inner}]"))), Err(error));
    }
    assert!(from_json("[".repeat(100_000)).is_err());
    assert!(from_json(nested(VALUE_DEPTH_MAX, "{}")).is_err());
}

/// What holds for all texts.
fn check(text: &[u8]) {
    let Ok(value) = from_json(text) else { return };
    let canonical = written(&value);
    assert_eq!(from_json(&canonical).as_ref(), Ok(&value));
    assert_eq!(from_json(to_json(&value).to_string()).as_ref(), Ok(&value));
    let mut bytes = Vec::new();
    encode(&value, &mut bytes);
    assert_eq!(decode(&bytes), Ok(value));
}

proptest! {
    #[test]
    fn values_round_trip(value in strategy::value()) {
        let text = written(&value);
        prop_assert_eq!(from_json(&text), Ok(value.clone()));
        prop_assert_eq!(from_json(to_json(&value).to_string()), Ok(value.clone()));
        let pretty = serde_json::to_string_pretty(&to_json(&value)).unwrap();
        prop_assert_eq!(from_json(pretty), Ok(value));
    }

    #[test]
    fn floats_are_read_exactly(n in any::<f64>()) {
        let exact = Float::new(n).map(Value::Float);
        if let Some(value) = exact {
            prop_assert_eq!(from_json(format!("{n:e}")), Ok(value));
        }
    }

    #[test]
    fn texts_do_not_panic(text in r#"([\[\]{},:0-9eE.\-"\\/ \n]|"a"|"/"|true|null){0,40}"#) {
        check(text.as_bytes());
    }

    #[test]
    fn bytes_do_not_panic(bytes in proptest::collection::vec(any::<u8>(), 0..64)) {
        check(&bytes);
    }

    #[test]
    fn damaged_texts_are_refused_or_read(
        value in strategy::value(),
        at in any::<proptest::sample::Index>(),
        byte in any::<u8>(),
    ) {
        let mut text = written(&value).into_bytes();
        let at = at.index(text.len());
        text[at] = byte;
        check(&text);
    }
}
