//! Values for property tests.

use proptest::prelude::*;

use super::{Cid, Map, RESERVED_KEY, Value};
use crate::id::EventId;

fn key() -> impl Strategy<Value = String> {
    prop_oneof!["[a-c]{0,3}", "[/\"\\\\a-b]{0,3}", any::<String>()]
        .prop_filter("reserved", |key| key != RESERVED_KEY)
}

fn leaf() -> impl Strategy<Value = Value> {
    let edge = prop_oneof![Just(53), Just(63), Just(64), Just(32), Just(16), Just(8), 0..64u32];
    let number = (edge, -2..3i128).prop_map(|(bits, add)| (1i128 << bits) + add);
    prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<u64>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        number.prop_map(|n| match u64::try_from(n) {
            Ok(n) => Value::from(n),
            Err(_) => Value::Null,
        }),
        any::<f64>().prop_map(|n| Value::float(n).unwrap_or_default()),
        (-1e17..1e17).prop_map(|n: f64| Value::float(n).unwrap_or_default()),
        any::<u64>().prop_map(|n| Value::float(f64::from_bits(n)).unwrap_or_default()),
        proptest::collection::vec(any::<u8>(), 0..40).prop_map(Value::from),
        any::<String>().prop_map(Value::from),
        "[\\x00-\\x7f]{0,30}".prop_map(Value::from),
        any::<[u8; 32]>().prop_map(|digest| Value::from(EventId(digest))),
        any::<[u8; 32]>().prop_map(|digest| {
            let v0 = [&[0x12, 0x20][..], &digest].concat();
            Cid::from_bytes(&v0).map(Value::from).unwrap_or_default()
        }),
    ]
}

/// Any value, not nested beyond the limit.
pub(super) fn value() -> impl Strategy<Value = Value> {
    leaf().prop_recursive(6, 60, 8, |inner| {
        prop_oneof![
            proptest::collection::vec(inner.clone(), 0..8).prop_map(Value::from),
            proptest::collection::btree_map(key(), inner, 0..8)
                .prop_map(|entries| Map::from_entries(entries).expect("unique keys").into()),
        ]
    })
}
