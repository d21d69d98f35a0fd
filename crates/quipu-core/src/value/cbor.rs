//! Values as canonical DAG-CBOR. One walk over the bytes serves decoding and validation, so they
//! cannot differ in what they accept.

use std::cmp::Ordering;
use std::convert::Infallible;

use minicbor::data::Tag;
use minicbor::{Decoder, Encoder};

use super::cid::{Cid, is_cid};
use super::{Float, Integer, Map, RESERVED_KEY, Value, key_order};
use crate::limits::VALUE_DEPTH_MAX;

/// The tag of links.
const TAG_LINK: Tag = Tag::new(42);
/// A list or map may make room for this many items before it has seen them.
const RESERVE_MAX: usize = 16;

/// Bytes that are not the canonical form of a value.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("at byte {offset}: {rule}")]
pub struct ValueError {
    /// Where the item begins that breaks the rule.
    pub offset: usize,
    /// The rule.
    pub rule: ValueRule,
}

/// What a value or its canonical form must not be.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum ValueRule {
    /// The input ends within an item.
    #[error("the input ends within an item")]
    Truncated,
    /// There are bytes after the value.
    #[error("there are bytes after the value")]
    Trailing,
    /// A number or length is not in its shortest form.
    #[error("a number or length is not in its shortest form")]
    NotShortest,
    /// An item has no definite length.
    #[error("an item has no definite length")]
    Indefinite,
    /// An item has a length form that CBOR does not define.
    #[error("an item has a length form that CBOR does not define")]
    LengthForm,
    /// An integer is below `i64::MIN`.
    #[error("an integer is below -2^63")]
    IntegerRange,
    /// A float has 16 or 32 bits.
    #[error("a float does not have 64 bits")]
    FloatWidth,
    /// A float is infinite or not a number.
    #[error("a float is not finite")]
    FloatNotFinite,
    /// A float stands for an integer.
    #[error("a float stands for an integer")]
    FloatIntegral,
    /// A simple value is none of null, false and true.
    #[error("a simple value is none of null, false and true")]
    Simple,
    /// A tag is not 42.
    #[error("a tag is not 42")]
    Tag,
    /// A link is not a zero byte and a content id.
    #[error("a link is not a zero byte and a content id")]
    Link,
    /// Text is not UTF-8.
    #[error("text is not UTF-8")]
    Utf8,
    /// A map key is not text.
    #[error("a map key is not text")]
    KeyNotText,
    /// Map keys are not in order: shorter first, then bytewise.
    #[error("map keys are not in order")]
    KeyOrder,
    /// A map has a key twice.
    #[error("a map has a key twice")]
    KeyDuplicate,
    /// A map has the key `/`.
    #[error("the map key \"/\" is reserved")]
    KeyReserved,
    /// Maps and lists nest too deep.
    #[error("maps and lists nest deeper than {VALUE_DEPTH_MAX}")]
    Depth,
}

/// Appends the canonical form of a value. If it is nested deeper than
/// [`VALUE_DEPTH_MAX`], the result cannot be decoded.
pub fn encode(value: &Value, out: &mut Vec<u8>) {
    put(value, &mut Encoder::new(out)).expect("a vector takes all that is written to it");
}

fn put(
    value: &Value,
    out: &mut Encoder<&mut Vec<u8>>,
) -> Result<(), minicbor::encode::Error<Infallible>> {
    match value {
        Value::Null => out.null()?.ok(),
        Value::Bool(b) => out.bool(*b)?.ok(),
        Value::Int(n) if n.negative => out.i64(n.bits.cast_signed())?.ok(),
        Value::Int(n) => out.u64(n.bits)?.ok(),
        Value::Float(n) => out.f64(n.0)?.ok(),
        Value::Bytes(bytes) => out.bytes(bytes)?.ok(),
        Value::String(text) => out.str(text)?.ok(),
        Value::List(items) => {
            out.array(items.len() as u64)?;
            items.iter().try_for_each(|item| put(item, out))
        }
        Value::Map(map) => {
            out.map(map.len() as u64)?;
            map.iter().try_for_each(|(key, value)| {
                out.str(key)?;
                put(value, out)
            })
        }
        Value::Link(cid) => {
            out.tag(TAG_LINK)?.bytes_len(1 + cid.as_bytes().len() as u64)?;
            out.writer_mut().push(0);
            out.writer_mut().extend_from_slice(cid.as_bytes());
            Ok(())
        }
    }
}

/// Reads the canonical form of a value, and nothing else.
pub fn decode(bytes: &[u8]) -> Result<Value, ValueError> {
    whole::<Tree>(bytes)
}

/// Whether [`decode`] would accept these bytes. Allocates nothing.
pub fn validate(bytes: &[u8]) -> Result<(), ValueError> {
    whole::<Nothing>(bytes)
}

/// A value that is neither list nor map, borrowed from the input.
enum Leaf<'b> {
    Null,
    Bool(bool),
    Int(Integer),
    Float(Float),
    Bytes(&'b [u8]),
    String(&'b str),
    Link(&'b [u8]),
}

/// What the walk makes of what it sees. Where the types have no size, vectors of them do not
/// allocate.
trait Build {
    type Key;
    type Value;
    fn key(key: &str) -> Self::Key;
    fn leaf(leaf: Leaf<'_>) -> Self::Value;
    fn list(items: Vec<Self::Value>) -> Self::Value;
    /// Entries are sorted, and have neither equal keys nor the reserved one.
    fn map(entries: Vec<(Self::Key, Self::Value)>) -> Self::Value;
}

enum Tree {}

impl Build for Tree {
    type Key = String;
    type Value = Value;

    fn key(key: &str) -> String {
        key.to_owned()
    }

    fn leaf(leaf: Leaf<'_>) -> Value {
        match leaf {
            Leaf::Null => Value::Null,
            Leaf::Bool(b) => Value::Bool(b),
            Leaf::Int(n) => Value::Int(n),
            Leaf::Float(n) => Value::Float(n),
            Leaf::Bytes(bytes) => Value::Bytes(bytes.to_vec()),
            Leaf::String(text) => Value::String(text.to_owned()),
            Leaf::Link(cid) => Value::Link(Cid::from_checked(cid)),
        }
    }

    fn list(items: Vec<Value>) -> Value {
        Value::List(items)
    }

    fn map(entries: Vec<(String, Value)>) -> Value {
        Value::Map(Map(entries))
    }
}

enum Nothing {}

impl Build for Nothing {
    type Key = ();
    type Value = ();
    fn key(_: &str) {}
    fn leaf(_: Leaf<'_>) {}
    fn list(_: Vec<()>) {}
    fn map(_: Vec<((), ())>) {}
}

fn whole<B: Build>(bytes: &[u8]) -> Result<B::Value, ValueError> {
    let mut input = Decoder::new(bytes);
    let value = walk::<B>(&mut input, 0)?;
    if input.position() != bytes.len() {
        return Err(ValueError { offset: input.position(), rule: ValueRule::Trailing });
    }
    Ok(value)
}

/// The first byte of the next item, once its argument is known to be definite, complete and in
/// shortest form. Simple values and floats, where other rules hold, are left to [`simple`].
#[inline]
fn head(input: &Decoder<'_>) -> Result<u8, ValueRule> {
    let rest = input.input().get(input.position()..).unwrap_or_default();
    let (&first, argument) = rest.split_first().ok_or(ValueRule::Truncated)?;
    if first >> 5 == 7 {
        return Ok(first);
    }
    let shortest = match (first & 0x1f, argument) {
        (0..=23, _) => true,
        (24, [n, ..]) => *n >= 24,
        (25, [a, _, ..]) => *a != 0,
        (26, [a, b, _, _, ..]) => a | b != 0,
        (27, [a, b, c, d, _, _, _, _, ..]) => a | b | c | d != 0,
        (28..=30, _) => return Err(ValueRule::LengthForm),
        (31, _) => return Err(ValueRule::Indefinite),
        _ => return Err(ValueRule::Truncated),
    };
    if shortest { Ok(first) } else { Err(ValueRule::NotShortest) }
}

/// What the decoder can still find wrong after [`head`].
fn rule(error: minicbor::decode::Error) -> ValueRule {
    if error.is_end_of_input() { ValueRule::Truncated } else { ValueRule::Utf8 }
}

/// Checks the length of a list or map: each item takes at least so many bytes.
fn room(input: &Decoder<'_>, length: Option<u64>, item: u64) -> Result<usize, ValueRule> {
    let length = length.ok_or(ValueRule::Indefinite)?;
    let left = input.input().len() - input.position();
    if length > left as u64 / item { Err(ValueRule::Truncated) } else { Ok(length as usize) }
}

fn walk<B: Build>(input: &mut Decoder<'_>, depth: usize) -> Result<B::Value, ValueError> {
    let offset = input.position();
    let at = |rule| ValueError { offset, rule };
    let first = head(input).map_err(at)?;
    let leaf = match first >> 5 {
        4 | 5 if depth == VALUE_DEPTH_MAX => return Err(at(ValueRule::Depth)),
        4 => {
            let length = input.array().map_err(rule).map_err(at)?;
            let length = room(input, length, 1).map_err(at)?;
            let mut items = Vec::with_capacity(length.min(RESERVE_MAX));
            for _ in 0..length {
                items.push(walk::<B>(input, depth + 1)?);
            }
            return Ok(B::list(items));
        }
        5 => {
            let length = input.map().map_err(rule).map_err(at)?;
            let length = room(input, length, 2).map_err(at)?;
            let mut entries = Vec::with_capacity(length.min(RESERVE_MAX));
            let mut last = None;
            for _ in 0..length {
                let name = key(input, last)?;
                last = Some(name);
                entries.push((B::key(name), walk::<B>(input, depth + 1)?));
            }
            return Ok(B::map(entries));
        }
        0 => input.u64().map(|n| Leaf::Int(n.into())).map_err(rule),
        1 => input.int().map_err(rule).and_then(|n| {
            let n = i64::try_from(i128::from(n)).map_err(|_| ValueRule::IntegerRange)?;
            Ok(Leaf::Int(n.into()))
        }),
        2 => input.bytes().map(Leaf::Bytes).map_err(rule),
        3 => input.str().map(Leaf::String).map_err(rule),
        6 => link(input),
        _ => simple(input, first),
    };
    leaf.map(B::leaf).map_err(at)
}

/// Reads a map key that must come after the last one.
fn key<'b>(input: &mut Decoder<'b>, last: Option<&str>) -> Result<&'b str, ValueError> {
    let offset = input.position();
    let read = |input: &mut Decoder<'b>| {
        if head(input)? >> 5 != 3 {
            return Err(ValueRule::KeyNotText);
        }
        let name = input.str().map_err(rule)?;
        match last.map_or(Ordering::Less, |last| key_order(last, name)) {
            _ if name == RESERVED_KEY => Err(ValueRule::KeyReserved),
            Ordering::Less => Ok(name),
            Ordering::Equal => Err(ValueRule::KeyDuplicate),
            Ordering::Greater => Err(ValueRule::KeyOrder),
        }
    };
    read(input).map_err(|rule| ValueError { offset, rule })
}

fn link<'b>(input: &mut Decoder<'b>) -> Result<Leaf<'b>, ValueRule> {
    if input.tag().map_err(rule)? != TAG_LINK {
        return Err(ValueRule::Tag);
    }
    if head(input)? >> 5 != 2 {
        return Err(ValueRule::Link);
    }
    match input.bytes().map_err(rule)? {
        [0, cid @ ..] if is_cid(cid) => Ok(Leaf::Link(cid)),
        _ => Err(ValueRule::Link),
    }
}

fn simple<'b>(input: &mut Decoder<'b>, first: u8) -> Result<Leaf<'b>, ValueRule> {
    match first {
        0xf4 | 0xf5 => input.bool().map(Leaf::Bool).map_err(rule),
        0xf6 => input.null().map(|()| Leaf::Null).map_err(rule),
        0xf9 | 0xfa => Err(ValueRule::FloatWidth),
        0xfb => match input.f64().map_err(rule)? {
            n if !n.is_finite() => Err(ValueRule::FloatNotFinite),
            n => Float::new(n).map(Leaf::Float).ok_or(ValueRule::FloatIntegral),
        },
        _ => Err(ValueRule::Simple),
    }
}

#[cfg(test)]
mod tests;
