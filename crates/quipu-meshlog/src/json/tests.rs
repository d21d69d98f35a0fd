use proptest::prelude::*;

use super::*;
use crate::limits::{INTEGER_DIGITS_MAX, JSON_DEPTH_MAX};

fn canonical(text: &str) -> String {
    let value = parse(text.as_bytes()).unwrap_or_else(|error| panic!("{text}: {error}"));
    String::from_utf8(to_bytes(&value, Style::Canonical)).unwrap()
}

#[test]
fn good_texts() {
    let good = [
        (" [ 1 , -2 ] ", "[1,-2]"),
        ("-0", "0"),
        ("-0.0", "-0.0"),
        ("1.0", "1.0"),
        ("1e16", "1e+16"),
        ("9999999999999998.0", "9999999999999998.0"),
        ("0.0001", "0.0001"),
        ("0.00001", "1e-05"),
        ("1.5e300", "1.5e+300"),
        ("123456.789", "123456.789"),
        ("5e-324", "5e-324"),
        ("1e400", "Infinity"),
        ("[-1e400,NaN,-Infinity]", "[-Infinity,NaN,-Infinity]"),
        ("123456789012345678901234567890", "123456789012345678901234567890"),
        ("-9223372036854775809", "-9223372036854775809"),
        (
            r#""\ud83d\ude00😀\ud800\/\u007f é""#,
            r#""\ud83d\ude00\ud83d\ude00\ud800/\u007f \u00e9""#,
        ),
        (r#"{"b":1,"a":2,"b":3}"#, r#"{"a":2,"b":3}"#),
        // By code points, not by units of UTF-16.
        (r#"{"\ud83d\ude00":1,"\uffff":2}"#, r#"{"\uffff":2,"\ud83d\ude00":1}"#),
    ];
    for (text, expected) in good {
        assert_eq!(canonical(text), expected, "{text}");
    }
    let doubled = parse(br#"{"b":1,"a":2,"b":3}"#).unwrap();
    assert_eq!(to_bytes(&doubled, Style::Spaced), br#"{"b": 3, "a": 2}"#);
}

#[test]
fn many_keys_are_told_apart() {
    let text: String = (0..40).map(|n| format!(r#""{}":{n},"#, n % 20)).collect();
    let value = parse(format!("{{{}}}", text.trim_end_matches(',')).as_bytes()).unwrap();
    let object = value.as_object().unwrap();
    assert_eq!(object.len(), 20);
    assert!(object.iter().enumerate().all(|(at, (_, value))| *value == (at as i64 + 20).into()));
}

#[test]
fn bad_texts() {
    use JsonRule::*;
    let bad: [(&str, usize, JsonRule); 18] = [
        ("", 0, Value),
        ("[1,]", 3, Value),
        ("[1] 2", 4, Extra),
        ("01", 1, Extra),
        ("1.", 1, Extra),
        ("1e", 1, Extra),
        ("-", 1, Value),
        ("nul", 0, Value),
        ("\"\n\"", 1, Control),
        ("\"a", 2, Open),
        ("\"a\\", 2, Open),
        (r#""\x""#, 1, Escape),
        (r#""\ud800\u12""#, 7, Escape),
        ("{1:2}", 1, Key),
        (r#"{"a" 1}"#, 5, Colon),
        ("[1 2]", 3, Comma),
        ("\u{feff}1", 0, Value),
        ("[1", 2, Comma),
    ];
    for (text, offset, rule) in bad {
        assert_eq!(parse(text.as_bytes()), Err(JsonError { offset, rule }), "{text}");
    }
    assert_eq!(parse(b"\"\xff\""), Err(JsonError { offset: 1, rule: Encoding }));
    assert_eq!(parse(b"\"\xed\xa0\x80\""), Err(JsonError { offset: 1, rule: Encoding }));
    assert!(parse_detected(b"\"\xed\xa0\x80\"").is_ok());
}

#[test]
fn bounds() {
    let nested = |depth: usize| "[".repeat(depth) + &"]".repeat(depth);
    assert!(parse(nested(JSON_DEPTH_MAX).as_bytes()).is_ok());
    let error = JsonError { offset: JSON_DEPTH_MAX, rule: JsonRule::Depth };
    assert_eq!(parse(nested(JSON_DEPTH_MAX + 1).as_bytes()), Err(error));
    assert!(parse("[".repeat(1_000_000).as_bytes()).is_err());
    let digits = |count: usize| format!("-{}", "7".repeat(count));
    assert_eq!(canonical(&digits(INTEGER_DIGITS_MAX)), digits(INTEGER_DIGITS_MAX));
    let error = JsonError { offset: 0, rule: JsonRule::Digits };
    assert_eq!(parse(digits(INTEGER_DIGITS_MAX + 1).as_bytes()), Err(error));
}

#[test]
fn integers_are_ordered_and_counted() {
    let int = |text: &str| Int::from_digits(text);
    let rising = [
        "-100000000000000000000",
        "-99999999999999999999",
        "-9223372036854775809",
        "-9223372036854775808",
        "-1",
        "0",
        "9223372036854775807",
        "9223372036854775808",
        "18446744073709551616",
        "99999999999999999999",
    ]
    .map(int);
    assert!(rising.is_sorted_by(|a, b| a < b));
    let next = |text: &str| int(text).plus_one().to_string();
    assert_eq!(next("9223372036854775807"), "9223372036854775808");
    assert_eq!(next("99999999999999999999"), "100000000000000000000");
    assert_eq!(next("-100000000000000000000"), "-99999999999999999999");
    assert_eq!(next("-9223372036854775809"), "-9223372036854775808");
    assert_eq!(int("-9223372036854775809").plus_one(), Int::Small(i64::MIN));
    assert_eq!(int("18446744073709551615").as_u64(), Some(u64::MAX));
}

proptest! {
    #[test]
    fn bytes_do_not_panic(bytes in proptest::collection::vec(any::<u8>(), 0..64)) {
        check(&bytes)?;
    }

    #[test]
    fn texts_do_not_panic(text in r#"([\[\]{},:0-9eE.\-"\\/u \n]|"a"|\\ud8|NaN|Infinity){0,40}"#) {
        check(text.as_bytes())?;
    }

    #[test]
    fn floats_read_back(bits in any::<u64>()) {
        let float = f64::from_bits(bits);
        let text = to_bytes(&Value::Float(float), Style::Canonical);
        let Value::Float(back) = parse(&text).unwrap() else { panic!("{text:?} is no float") };
        prop_assert!(back.to_bits() == bits || (back.is_nan() && float.is_nan()));
    }
}

/// What holds for all texts: what was read is written so that it reads the same.
fn check(text: &[u8]) -> Result<(), TestCaseError> {
    let Ok(value) = parse_detected(text) else { return Ok(()) };
    for style in [Style::Canonical, Style::Compact, Style::Spaced] {
        let written = to_bytes(&value, style);
        prop_assert!(written.is_ascii());
        let again = parse(&written).unwrap();
        prop_assert_eq!(to_bytes(&again, style), written);
    }
    Ok(())
}
