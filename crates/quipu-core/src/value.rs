//! The payload data model: what an event may carry, in one canonical form.
//!
//! It is the IPLD data model with three narrowings, so that equal values have equal bytes:
//! integers are `i64::MIN..=u64::MAX`; a float that is integral and below 2^53 in magnitude is an
//! integer; the map key `/` is reserved for the DAG-JSON forms of links and bytes. The types hold
//! all of it by construction, except for depth: see [`Value::depth`].

mod cbor;
mod cid;
mod json;
#[cfg(test)]
mod strategy;

use std::cmp::Ordering;

pub use cbor::{ValueError, ValueRule, decode, encode, validate};
pub use cid::Cid;
pub use json::{JsonError, JsonRule, from_json, to_json, write_json};

/// Integral floats below this in magnitude are integers: 2^53.
const FLOAT_INTEGRAL_MIN: f64 = 9_007_199_254_740_992.0;
/// The map key that only DAG-JSON may use.
const RESERVED_KEY: &str = "/";

/// A payload value.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Default)]
pub enum Value {
    /// Nothing.
    #[default]
    Null,
    /// True or false.
    Bool(bool),
    /// A whole number.
    Int(Integer),
    /// A number that is not an [`Integer`].
    Float(Float),
    /// Bytes.
    Bytes(Vec<u8>),
    /// Text.
    String(String),
    /// Values in order.
    List(Vec<Value>),
    /// Values by name.
    Map(Map),
    /// The content id of something else.
    Link(Cid),
}

/// A whole number from `i64::MIN` to `u64::MAX`.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Integer {
    negative: bool,
    /// The number modulo 2^64.
    bits: u64,
}

impl Integer {
    /// The number, if it is at least zero.
    pub const fn as_u64(self) -> Option<u64> {
        if self.negative { None } else { Some(self.bits) }
    }

    /// The number, if it is at most `i64::MAX`.
    pub const fn as_i64(self) -> Option<i64> {
        let n = self.bits.cast_signed();
        if self.negative == (n < 0) { Some(n) } else { None }
    }

    /// The number.
    pub const fn as_i128(self) -> i128 {
        if self.negative { self.bits.cast_signed() as i128 } else { self.bits as i128 }
    }
}

impl From<u64> for Integer {
    fn from(n: u64) -> Self {
        Self { negative: false, bits: n }
    }
}

impl From<i64> for Integer {
    fn from(n: i64) -> Self {
        Self { negative: n < 0, bits: n.cast_unsigned() }
    }
}

impl PartialOrd for Integer {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Integer {
    fn cmp(&self, other: &Self) -> Ordering {
        self.as_i128().cmp(&other.as_i128())
    }
}

impl std::fmt::Debug for Integer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.as_i128().fmt(f)
    }
}

impl std::fmt::Display for Integer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.as_i128().fmt(f)
    }
}

/// A finite float that no [`Integer`] stands for: fractional, or of magnitude 2^53 or more.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Float(f64);

impl Float {
    /// The float, unless it is infinite, not a number, or must be an integer.
    pub fn new(n: f64) -> Option<Self> {
        (n.is_finite() && !is_integer(n)).then_some(Self(n))
    }

    /// The number.
    pub const fn get(self) -> f64 {
        self.0
    }
}

// Neither NaN nor zero can be in a `Float`, so equality is that of the bits.
impl Eq for Float {}

impl std::hash::Hash for Float {
    fn hash<H: std::hash::Hasher>(&self, state: &mut H) {
        self.0.to_bits().hash(state);
    }
}

/// Whether the data model holds this number as an integer.
fn is_integer(n: f64) -> bool {
    n.abs() < FLOAT_INTEGRAL_MIN && n.trunc() == n
}

/// The order of map keys in DAG-CBOR: shorter first, then bytewise.
fn key_order(a: &str, b: &str) -> Ordering {
    a.len().cmp(&b.len()).then_with(|| a.cmp(b))
}

/// Values by name: names are unique, none is `/`, and they are kept in the order of DAG-CBOR,
/// which is shorter first, then bytewise.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Default)]
pub struct Map(Vec<(String, Value)>);

impl Map {
    /// The empty map.
    pub const fn new() -> Self {
        Self(Vec::new())
    }

    /// A map of entries in any order. Refuses equal keys and the reserved key.
    pub fn from_entries<K: Into<String>>(
        entries: impl IntoIterator<Item = (K, Value)>,
    ) -> Result<Self, ValueRule> {
        let mut entries: Vec<_> = entries.into_iter().map(|(k, v)| (k.into(), v)).collect();
        entries.sort_by(|a, b| key_order(&a.0, &b.0));
        if entries.windows(2).any(|pair| pair[0].0 == pair[1].0) {
            return Err(ValueRule::KeyDuplicate);
        }
        if entries.iter().any(|(key, _)| key == RESERVED_KEY) {
            return Err(ValueRule::KeyReserved);
        }
        Ok(Self(entries))
    }

    fn find(&self, key: &str) -> Result<usize, usize> {
        self.0.binary_search_by(|(k, _)| key_order(k, key))
    }

    /// The value of a key.
    pub fn get(&self, key: &str) -> Option<&Value> {
        self.find(key).ok().map(|at| &self.0[at].1)
    }

    /// The value of a key, to change.
    pub fn get_mut(&mut self, key: &str) -> Option<&mut Value> {
        self.find(key).ok().map(|at| &mut self.0[at].1)
    }

    /// Sets a key and returns what it had. Refuses the reserved key.
    pub fn insert(&mut self, key: &str, value: Value) -> Result<Option<Value>, ValueRule> {
        if key == RESERVED_KEY {
            return Err(ValueRule::KeyReserved);
        }
        match self.find(key) {
            Ok(at) => Ok(Some(std::mem::replace(&mut self.0[at].1, value))),
            Err(at) => {
                self.0.insert(at, (key.to_owned(), value));
                Ok(None)
            }
        }
    }

    /// Takes a key out and returns what it had.
    pub fn remove(&mut self, key: &str) -> Option<Value> {
        self.find(key).ok().map(|at| self.0.remove(at).1)
    }

    /// How many keys there are.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether there are no keys.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Keys and values in the order of DAG-CBOR.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = (&str, &Value)> {
        self.0.iter().map(|(key, value)| (key.as_str(), value))
    }
}

impl IntoIterator for Map {
    type Item = (String, Value);
    type IntoIter = std::vec::IntoIter<(String, Value)>;
    fn into_iter(self) -> Self::IntoIter {
        self.0.into_iter()
    }
}

impl Value {
    /// A map of keys known when the program is written. For others: [`Map::from_entries`].
    ///
    /// # Panics
    ///
    /// If two keys are equal or one is `/`.
    pub fn map<const N: usize>(entries: [(&'static str, Value); N]) -> Self {
        match Map::from_entries(entries) {
            Ok(map) => Self::Map(map),
            Err(rule) => panic!("not a map: {rule}"),
        }
    }

    /// A list.
    pub fn list<T: Into<Value>>(items: impl IntoIterator<Item = T>) -> Self {
        Self::List(items.into_iter().map(Into::into).collect())
    }

    /// A number: an integer if the data model says so. Nothing if it is not finite.
    pub fn float(n: f64) -> Option<Self> {
        match Float::new(n) {
            Some(float) => Some(Self::Float(float)),
            None if is_integer(n) => Some(Self::Int(Integer::from(n as i64))),
            None => None,
        }
    }

    /// How many maps and lists are around the innermost: 0 for a scalar, 1 for `[]`. Above
    /// [`VALUE_DEPTH_MAX`](crate::limits::VALUE_DEPTH_MAX) the encoding would be refused.
    pub fn depth(&self) -> usize {
        let inner = |depths: &mut dyn Iterator<Item = usize>| 1 + depths.max().unwrap_or(0);
        match self {
            Self::List(items) => inner(&mut items.iter().map(Self::depth)),
            Self::Map(map) => inner(&mut map.iter().map(|(_, value)| value.depth())),
            _ => 0,
        }
    }

    /// The value of a key, if this is a map that has it.
    pub fn get(&self, key: &str) -> Option<&Value> {
        self.as_map()?.get(key)
    }

    /// Whether this is null.
    pub const fn is_null(&self) -> bool {
        matches!(self, Self::Null)
    }

    /// The truth value, if this is one.
    pub const fn as_bool(&self) -> Option<bool> {
        if let Self::Bool(b) = self { Some(*b) } else { None }
    }

    /// The integer, if this is one and not negative.
    pub const fn as_u64(&self) -> Option<u64> {
        if let Self::Int(n) = self { n.as_u64() } else { None }
    }

    /// The integer, if this is one and at most `i64::MAX`.
    pub const fn as_i64(&self) -> Option<i64> {
        if let Self::Int(n) = self { n.as_i64() } else { None }
    }

    /// The number, if this is one; from 2^53 on, the float nearest to an integer.
    pub const fn as_f64(&self) -> Option<f64> {
        match self {
            Self::Int(n) => Some(n.as_i128() as f64),
            Self::Float(n) => Some(n.0),
            _ => None,
        }
    }

    /// The text, if this is one.
    pub fn as_str(&self) -> Option<&str> {
        if let Self::String(text) = self { Some(text) } else { None }
    }

    /// The bytes, if these are some.
    pub fn as_bytes(&self) -> Option<&[u8]> {
        if let Self::Bytes(bytes) = self { Some(bytes) } else { None }
    }

    /// The items, if this is a list.
    pub fn as_list(&self) -> Option<&[Value]> {
        if let Self::List(items) = self { Some(items) } else { None }
    }

    /// The entries, if this is a map.
    pub const fn as_map(&self) -> Option<&Map> {
        if let Self::Map(map) = self { Some(map) } else { None }
    }

    /// The content id, if this is a link.
    pub const fn as_link(&self) -> Option<&Cid> {
        if let Self::Link(cid) = self { Some(cid) } else { None }
    }
}

macro_rules! value_from {
    ($($type:ty => |$from:ident| $value:expr),* $(,)?) => {$(
        impl From<$type> for Value {
            fn from($from: $type) -> Self {
                $value
            }
        }
    )*};
}
value_from! {
    bool => |b| Self::Bool(b),
    u64 => |n| Self::Int(n.into()),
    i64 => |n| Self::Int(n.into()),
    u32 => |n| Self::Int(u64::from(n).into()),
    i32 => |n| Self::Int(i64::from(n).into()),
    Integer => |n| Self::Int(n),
    Float => |n| Self::Float(n),
    &str => |text| Self::String(text.to_owned()),
    String => |text| Self::String(text),
    &[u8] => |bytes| Self::Bytes(bytes.to_vec()),
    Vec<u8> => |bytes| Self::Bytes(bytes),
    Vec<Value> => |items| Self::List(items),
    Map => |map| Self::Map(map),
    Cid => |cid| Self::Link(cid),
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_have_one_form() {
        assert_eq!(Value::float(1.0), Some(Value::from(1u64)));
        assert_eq!(Value::float(-0.0), Some(Value::from(0u64)));
        assert_eq!(Value::float(f64::NAN), None);
        assert_eq!(Value::float(f64::NEG_INFINITY), None);
        assert_eq!(Float::new(FLOAT_INTEGRAL_MIN - 1.0), None);
        assert_eq!(Float::new(-FLOAT_INTEGRAL_MIN).map(Float::get), Some(-FLOAT_INTEGRAL_MIN));
        assert_eq!(Integer::from(5i64), Integer::from(5u64));
        assert_eq!(Integer::from(u64::MAX).as_i64(), None);
        assert_eq!(Integer::from(-1i64).as_u64(), None);
        assert_eq!(Integer::from(i64::MIN).as_i64(), Some(i64::MIN));
        assert!(Integer::from(-1i64) < Integer::from(u64::MAX));
        assert_eq!(Value::from(-2i64).as_f64(), Some(-2.0));
    }

    #[test]
    fn maps_are_sorted_and_refuse_bad_keys() {
        let mut map = Map::from_entries([("bb", Value::Null), ("c", true.into())]).unwrap();
        assert_eq!(map.insert("a", 1u64.into()), Ok(None));
        assert_eq!(map.iter().map(|(key, _)| key).collect::<Vec<_>>(), ["a", "c", "bb"]);
        assert_eq!(map.insert("a", "x".into()), Ok(Some(1u64.into())));
        assert_eq!(map.insert("/", Value::Null), Err(ValueRule::KeyReserved));
        assert_eq!(map.remove("bb"), Some(Value::Null));
        assert_eq!(Value::from(map).get("a").and_then(Value::as_str), Some("x"));
        let twice = Map::from_entries([("a", Value::Null), ("a", Value::Null)]);
        assert_eq!(twice, Err(ValueRule::KeyDuplicate));
        assert_eq!(Map::from_entries([("/", Value::Null)]), Err(ValueRule::KeyReserved));
        let deep = Value::map([("a", Value::list([Value::list([1u64])])), ("b", Value::Null)]);
        assert_eq!(deep.depth(), 3);
        assert!(size_of::<Value>() <= 32);
    }
}
