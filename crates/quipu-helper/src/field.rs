//! How the fields of messages are written: CBOR, in its shortest form, of a fixed type each.

use minicbor::data::Type;
use minicbor::{Decoder, Encoder};

use crate::limits::{ASPECTS_MAX, FRAME_BYTES_MAX, INTERFACES_MAX, TEXT_BYTES_MAX};

/// Bytes that are no message.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Malformed {
    /// Not the CBOR that belongs there.
    #[error("not a message: {0}")]
    Cbor(String),
    /// A message of another version, or none.
    #[error("no message has the number {0}")]
    Unknown(u64),
    /// Too few or too many fields.
    #[error("message {number} has {found} fields, not {expected}")]
    Fields {
        /// Of the message.
        number: u64,
        /// How many it should have.
        expected: u64,
        /// How many it has.
        found: u64,
    },
    /// Something is longer than it may be.
    #[error("{what} of {length}, at most {most} are allowed")]
    TooLong {
        /// What.
        what: &'static str,
        /// How long it is.
        length: u64,
        /// How long it may be.
        most: u64,
    },
    /// Bytes after the message.
    #[error("{0} bytes after the message")]
    Trailing(usize),
}

impl From<minicbor::decode::Error> for Malformed {
    fn from(error: minicbor::decode::Error) -> Self {
        Malformed::Cbor(error.to_string())
    }
}

/// Refuses what is longer than allowed.
pub(crate) fn at_most(what: &'static str, length: usize, most: usize) -> Result<(), Malformed> {
    let (length, most) = (length as u64, most as u64);
    if length > most { Err(Malformed::TooLong { what, length, most }) } else { Ok(()) }
}

pub(crate) type Out = Encoder<Vec<u8>>;

/// Something that a message has.
pub(crate) trait Field: Sized {
    fn put(&self, out: &mut Out);
    fn take(from: &mut Decoder<'_>) -> Result<Self, Malformed>;
}

/// Writing to memory does not fail.
pub(crate) fn sure<T, E>(written: Result<T, E>) {
    debug_assert!(written.is_ok(), "writing to memory");
}

macro_rules! number {
    ($($type:ident),*) => {$(
        impl Field for $type {
            fn put(&self, out: &mut Out) {
                sure(out.$type(*self).map(|_| ()));
            }
            fn take(from: &mut Decoder<'_>) -> Result<Self, Malformed> {
                Ok(from.$type()?)
            }
        }
    )*};
}

number!(u8, u32, u64, i32, bool);

impl Field for String {
    fn put(&self, out: &mut Out) {
        sure(out.str(self).map(|_| ()));
    }

    fn take(from: &mut Decoder<'_>) -> Result<Self, Malformed> {
        let text = from.str()?;
        at_most("a text", text.len(), TEXT_BYTES_MAX)?;
        Ok(text.to_owned())
    }
}

impl Field for Vec<u8> {
    fn put(&self, out: &mut Out) {
        sure(out.bytes(self).map(|_| ()));
    }

    fn take(from: &mut Decoder<'_>) -> Result<Self, Malformed> {
        let bytes = from.bytes()?;
        at_most("bytes", bytes.len(), FRAME_BYTES_MAX)?;
        Ok(bytes.to_vec())
    }
}

impl<const N: usize> Field for [u8; N] {
    fn put(&self, out: &mut Out) {
        sure(out.bytes(self).map(|_| ()));
    }

    fn take(from: &mut Decoder<'_>) -> Result<Self, Malformed> {
        let bytes = from.bytes()?;
        let wrong = || Malformed::Cbor(format!("{} bytes, not {N}", bytes.len()));
        bytes.try_into().map_err(|_| wrong())
    }
}

impl<T: Field> Field for Option<T> {
    fn put(&self, out: &mut Out) {
        match self {
            Some(value) => value.put(out),
            None => sure(out.null().map(|_| ())),
        }
    }

    fn take(from: &mut Decoder<'_>) -> Result<Self, Malformed> {
        if from.datatype()? == Type::Null {
            from.null()?;
            return Ok(None);
        }
        T::take(from).map(Some)
    }
}

/// The fields in an array, whose length must be written in front.
pub(crate) fn array_length(from: &mut Decoder<'_>) -> Result<u64, Malformed> {
    let endless = || Malformed::Cbor("a list without a length".to_owned());
    from.array()?.ok_or_else(endless)
}

fn take_list<T: Field>(
    from: &mut Decoder<'_>,
    what: &'static str,
    most: usize,
) -> Result<Vec<T>, Malformed> {
    let length = usize::try_from(array_length(from)?).unwrap_or(usize::MAX);
    at_most(what, length, most)?;
    (0..length).map(|_| T::take(from)).collect()
}

fn put_list<T: Field>(list: &[T], out: &mut Out) {
    sure(out.array(list.len() as u64).map(|_| ()));
    list.iter().for_each(|item| item.put(out));
}

impl Field for Vec<String> {
    fn put(&self, out: &mut Out) {
        put_list(self, out);
    }

    fn take(from: &mut Decoder<'_>) -> Result<Self, Malformed> {
        take_list(from, "a list of names", ASPECTS_MAX)
    }
}

impl Field for Vec<crate::Interface> {
    fn put(&self, out: &mut Out) {
        put_list(self, out);
    }

    fn take(from: &mut Decoder<'_>) -> Result<Self, Malformed> {
        take_list(from, "a list of interfaces", INTERFACES_MAX)
    }
}
