//! JSON as Python's `json` module reads and writes it.
//!
//! Its values go beyond JSON: text may hold lone surrogates, integers are unbounded, `NaN` and the
//! infinities are numbers. Objects keep the order in which their keys first came, as `dict` does,
//! because meshlogd's files and messages are written in that order. What is hashed is sorted.
//!
//! What no Python can hold is refused: nesting beyond [`JSON_DEPTH_MAX`](crate::limits::JSON_DEPTH_MAX),
//! integers beyond [`INTEGER_DIGITS_MAX`](crate::limits::INTEGER_DIGITS_MAX).

mod number;
mod read;
mod skim;
#[cfg(test)]
mod tests;
mod unicode;
mod write;

use std::collections::BTreeMap;

pub use number::{BigInt, Int};
pub use read::{JsonError, JsonRule, parse};
pub(crate) use read::{Reader, parse_with};
#[cfg(test)]
pub(crate) use skim::plain_length;
pub(crate) use skim::{KeyOrder, pairs_of, value_of, write_outer_sorted, write_spaced};
pub use unicode::parse_detected;
pub use write::{Style, to_bytes, write, write_text};
pub(crate) use write::{to_bytes_text, write_int};

pub(crate) use number::write_float;

use crate::text::Text;

/// A value that Python's `json` can read.
#[derive(Debug, Clone, PartialEq, Default)]
pub enum Value {
    /// `None`
    #[default]
    Null,
    /// `True` or `False`
    Bool(bool),
    /// A whole number.
    Int(Int),
    /// Any other number, `nan` and `inf` included.
    Float(f64),
    /// Text.
    Text(Text),
    /// Values in order.
    List(Vec<Value>),
    /// Values by name.
    Object(Object),
}

/// Values by name, in the order in which the names first came.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Object(Vec<(Text, Value)>);

/// Up to this many keys are compared one by one: quicker than any index.
const KEYS_COMPARED_MAX: usize = 8;

impl Object {
    /// An object of pairs. Of equal keys the first gives the place and the last the value, as in Python.
    pub fn from_pairs(mut pairs: Vec<(Text, Value)>) -> Self {
        if !has_duplicates(&pairs) {
            return Self(pairs);
        }
        let mut places: BTreeMap<Text, usize> = BTreeMap::new();
        let mut kept: Vec<(Text, Value)> = Vec::new();
        for (key, value) in pairs.drain(..) {
            match places.get(&key) {
                Some(&place) => kept[place].1 = value,
                None => {
                    places.insert(key.clone(), kept.len());
                    kept.push((key, value));
                }
            }
        }
        Self(kept)
    }

    /// The value of a key.
    pub fn get(&self, key: &str) -> Option<&Value> {
        self.0.iter().find(|(name, _)| name == key).map(|(_, value)| value)
    }

    /// Keys and values in order.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = &(Text, Value)> {
        self.0.iter()
    }

    /// How many keys there are.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The same for a key that is no constant.
    pub(crate) fn push_text(&mut self, key: Text, value: impl Into<Value>) {
        self.0.push((key, value.into()));
    }

    /// Sets a key that is not there yet. For objects that are made, not read.
    pub(crate) fn push(&mut self, key: &str, value: impl Into<Value>) {
        debug_assert!(self.get(key).is_none(), "{key} twice");
        self.0.push((key.into(), value.into()));
    }
}

fn has_duplicates(pairs: &[(Text, Value)]) -> bool {
    if pairs.len() <= KEYS_COMPARED_MAX {
        return pairs
            .iter()
            .enumerate()
            .any(|(at, (key, _))| pairs[..at].iter().any(|(earlier, _)| earlier == key));
    }
    let mut keys: Vec<&Text> = pairs.iter().map(|(key, _)| key).collect();
    keys.sort_unstable();
    keys.windows(2).any(|pair| pair[0] == pair[1])
}

impl IntoIterator for Object {
    type Item = (Text, Value);
    type IntoIter = std::vec::IntoIter<(Text, Value)>;
    fn into_iter(self) -> Self::IntoIter {
        self.0.into_iter()
    }
}

impl Value {
    /// An object of keys known when the program is written, each once.
    pub fn object<const N: usize>(pairs: [(&str, Value); N]) -> Self {
        Self::Object(Object::from_pairs(pairs.map(|(key, value)| (key.into(), value)).into()))
    }

    /// The value of a key, if this is an object that has it.
    pub fn get(&self, key: &str) -> Option<&Value> {
        self.as_object()?.get(key)
    }

    /// The object, if this is one.
    pub const fn as_object(&self) -> Option<&Object> {
        if let Self::Object(object) = self { Some(object) } else { None }
    }

    /// The text, if this is one.
    pub const fn as_text(&self) -> Option<&Text> {
        if let Self::Text(text) = self { Some(text) } else { None }
    }

    /// The items, if this is a list.
    pub fn as_list(&self) -> Option<&[Value]> {
        if let Self::List(items) = self { Some(items) } else { None }
    }

    /// The whole number, if this is one. Truth values are none here.
    pub const fn as_int(&self) -> Option<&Int> {
        if let Self::Int(int) = self { Some(int) } else { None }
    }

    /// What Python's `bool()` says of it.
    pub fn is_truthy(&self) -> bool {
        match self {
            Self::Null => false,
            Self::Bool(truth) => *truth,
            Self::Int(int) => *int != Int::Small(0),
            Self::Float(float) => *float != 0.0,
            Self::Text(text) => !text.is_empty(),
            Self::List(items) => !items.is_empty(),
            Self::Object(object) => !object.is_empty(),
        }
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
    bool => |truth| Self::Bool(truth),
    i64 => |int| Self::Int(Int::Small(int)),
    u64 => |int| Self::Int(int.into()),
    Int => |int| Self::Int(int),
    f64 => |float| Self::Float(float),
    &str => |text| Self::Text(text.into()),
    String => |text| Self::Text(text.into()),
    Text => |text| Self::Text(text),
    &Text => |text| Self::Text(text.clone()),
    Vec<Value> => |items| Self::List(items),
    Object => |object| Self::Object(object),
}
