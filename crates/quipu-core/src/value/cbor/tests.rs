use data_encoding::HEXLOWER_PERMISSIVE;
use proptest::prelude::*;

use super::super::{from_json, strategy, write_json};
use super::*;

fn hex(text: &str) -> Vec<u8> {
    HEXLOWER_PERMISSIVE.decode(text.replace(' ', "").as_bytes()).expect(text)
}

/// Canonical bytes and the DAG-JSON of what they stand for.
const GOOD: &[(&str, &str)] = &[
    ("00", "0"),
    ("17", "23"),
    ("1818", "24"),
    ("18ff", "255"),
    ("190100", "256"),
    ("1a00010000", "65536"),
    ("1b0000000100000000", "4294967296"),
    ("1bffffffffffffffff", "18446744073709551615"),
    ("20", "-1"),
    ("3818", "-25"),
    ("3b7fffffffffffffff", "-9223372036854775808"),
    ("f4", "false"),
    ("f5", "true"),
    ("f6", "null"),
    ("fb3ff8000000000000", "1.5"),
    ("fbc340000000000000", "-9007199254740992.0"),
    ("fb0000000000000001", "5e-324"),
    ("fb7fefffffffffffff", "1.7976931348623157e308"),
    ("40", r#"{"/":{"bytes":""}}"#),
    ("43010203", r#"{"/":{"bytes":"AQID"}}"#),
    ("60", r#""""#),
    ("62c3bc", r#""ü""#),
    ("64f0908591", r#""𐅑""#),
    ("80", "[]"),
    ("83010203", "[1,2,3]"),
    ("a0", "{}"),
    ("a3 6162 01 6163 02 626161 03", r#"{"aa":3,"b":1,"c":2}"#),
    ("a2 60 01 622f2f 02", r#"{"":1,"//":2}"#),
    ("d82a 45 00 01550000", r#"{"/":"bafkqaaa"}"#),
];

/// Bytes to refuse, where, and why.
const BAD: &[(&str, usize, ValueRule)] = &[
    ("", 0, ValueRule::Truncated),
    ("18", 0, ValueRule::Truncated),
    ("1b00000001", 0, ValueRule::Truncated),
    ("6261", 0, ValueRule::Truncated),
    ("8201", 0, ValueRule::Truncated),
    ("820118", 2, ValueRule::Truncated),
    ("a16161", 3, ValueRule::Truncated),
    ("fb00", 0, ValueRule::Truncated),
    ("d82a", 0, ValueRule::Truncated),
    ("5bffffffffffffffff", 0, ValueRule::Truncated),
    ("7b7fffffffffffffff", 0, ValueRule::Truncated),
    ("9bffffffffffffffff", 0, ValueRule::Truncated),
    ("9a7fffffff 00", 0, ValueRule::Truncated),
    ("bbffffffffffffffff", 0, ValueRule::Truncated),
    ("0000", 1, ValueRule::Trailing),
    ("f6f6", 1, ValueRule::Trailing),
    ("1800", 0, ValueRule::NotShortest),
    ("1817", 0, ValueRule::NotShortest),
    ("1900ff", 0, ValueRule::NotShortest),
    ("1a0000ffff", 0, ValueRule::NotShortest),
    ("1b00000000ffffffff", 0, ValueRule::NotShortest),
    ("3817", 0, ValueRule::NotShortest),
    ("580161", 0, ValueRule::NotShortest),
    ("780161", 0, ValueRule::NotShortest),
    ("980101", 0, ValueRule::NotShortest),
    ("b801 6161 01", 0, ValueRule::NotShortest),
    ("a1 780161 01", 1, ValueRule::NotShortest),
    ("d9002a 45 00 01550000", 0, ValueRule::NotShortest),
    ("d82a 5805 00 01550000", 0, ValueRule::NotShortest),
    ("5f4101ff", 0, ValueRule::Indefinite),
    ("7f6161ff", 0, ValueRule::Indefinite),
    ("9f01ff", 0, ValueRule::Indefinite),
    ("bf616101ff", 0, ValueRule::Indefinite),
    ("1c", 0, ValueRule::LengthForm),
    ("3b8000000000000000", 0, ValueRule::IntegerRange),
    ("f93e00", 0, ValueRule::FloatWidth),
    ("fa3fc00000", 0, ValueRule::FloatWidth),
    ("fb7ff8000000000000", 0, ValueRule::FloatNotFinite),
    ("fbfff0000000000000", 0, ValueRule::FloatNotFinite),
    ("fb3ff0000000000000", 0, ValueRule::FloatIntegral),
    ("fb0000000000000000", 0, ValueRule::FloatIntegral),
    ("fb8000000000000000", 0, ValueRule::FloatIntegral),
    ("fbc33fffffffffffff", 0, ValueRule::FloatIntegral),
    ("f7", 0, ValueRule::Simple),
    ("e0", 0, ValueRule::Simple),
    ("f814", 0, ValueRule::Simple),
    ("ff", 0, ValueRule::Simple),
    ("c24101", 0, ValueRule::Tag),
    ("d9d9f700", 0, ValueRule::Tag),
    ("d82b 45 00 01550000", 0, ValueRule::Tag),
    ("d82a 40", 0, ValueRule::Link),
    ("d82a 44 01550000", 0, ValueRule::Link),
    ("d82a 4100", 0, ValueRule::Link),
    ("d82a 6100", 0, ValueRule::Link),
    ("d82a d82a 45 00 01550000", 0, ValueRule::Link),
    ("61ff", 0, ValueRule::Utf8),
    ("63eda080", 0, ValueRule::Utf8),
    ("a1 61ff 01", 1, ValueRule::Utf8),
    ("a1 4161 01", 1, ValueRule::KeyNotText),
    ("a1 01 01", 1, ValueRule::KeyNotText),
    ("a2 626161 01 6162 02", 5, ValueRule::KeyOrder),
    ("a2 6162 01 6161 02", 4, ValueRule::KeyOrder),
    ("a2 6161 01 6161 02", 4, ValueRule::KeyDuplicate),
    ("a1 612f 01", 1, ValueRule::KeyReserved),
    ("81 a1 612f 6161", 2, ValueRule::KeyReserved),
];

#[test]
fn good_vectors() {
    for (bytes, json) in GOOD {
        let bytes = hex(bytes);
        let value = decode(&bytes).expect(json);
        assert_eq!(from_json(json).expect(json), value);
        let (mut text, mut again) = (String::new(), Vec::new());
        write_json(&value, &mut text);
        encode(&value, &mut again);
        assert_eq!((text.as_str(), again), (*json, bytes));
    }
}

#[test]
fn bad_vectors() {
    for (text, offset, rule) in BAD {
        let error = ValueError { offset: *offset, rule: *rule };
        assert_eq!(decode(&hex(text)), Err(error), "{text}");
        assert_eq!(validate(&hex(text)), Err(error), "{text}");
    }
}

#[test]
fn depth_is_bounded() {
    for (inner, rule) in [(VALUE_DEPTH_MAX, None), (VALUE_DEPTH_MAX + 1, Some(VALUE_DEPTH_MAX))] {
        let mut bytes = vec![0x81; inner];
        bytes.push(0x00);
        let result =
            rule.map_or(Ok(()), |offset| Err(ValueError { offset, rule: ValueRule::Depth }));
        assert_eq!(validate(&bytes), result);
        assert_eq!(decode(&bytes).map(|value| assert_eq!(value.depth(), inner)), result);
    }
    assert!(decode(&vec![0x81; 1 << 20]).is_err());
}

/// What holds for all bytes.
fn check(bytes: &[u8]) {
    let value = decode(bytes);
    assert_eq!(validate(bytes), value.clone().map(|_| ()));
    if let Ok(value) = value {
        let mut again = Vec::new();
        encode(&value, &mut again);
        assert_eq!(again, bytes);
    }
}

proptest! {
    #[test]
    fn values_round_trip(value in strategy::value()) {
        let mut bytes = Vec::new();
        encode(&value, &mut bytes);
        prop_assert_eq!(validate(&bytes), Ok(()));
        prop_assert_eq!(decode(&bytes), Ok(value));
    }

    #[test]
    fn accepted_bytes_are_canonical(bytes in proptest::collection::vec(any::<u8>(), 0..64)) {
        check(&bytes);
    }

    #[test]
    fn damaged_bytes_are_refused_or_canonical(
        value in strategy::value(),
        at in any::<proptest::sample::Index>(),
        byte in any::<u8>(),
        cut in any::<bool>(),
    ) {
        let mut bytes = Vec::new();
        encode(&value, &mut bytes);
        let at = at.index(bytes.len());
        if cut { bytes.truncate(at) } else { bytes[at] = byte }
        check(&bytes);
    }
}
