//! The fields of an event as they are read, one by one, each straight into what it becomes.

use super::{Body, Event, MeshId, ShapeError};
use crate::clock::Stamp;
use crate::json::{Int, JsonError, Reader, Value};
use crate::payload::Payload;
use crate::text::Text;

/// What stands under a name. If it stands there twice, the last counts.
#[derive(Default)]
enum Field<T> {
    #[default]
    Missing,
    /// JSON, and not what it must be.
    Wrong,
    Read(T),
}

impl<T> From<Option<T>> for Field<T> {
    fn from(value: Option<T>) -> Self {
        value.map_or(Self::Wrong, Self::Read)
    }
}

impl<T> Field<T> {
    fn required(self, field: &'static str, expected: &'static str) -> Result<T, ShapeError> {
        match self {
            Self::Read(value) => Ok(value),
            Self::Missing | Self::Wrong => Err(ShapeError::Field { field, expected }),
        }
    }
}

#[derive(Default)]
pub(super) struct Fields {
    author: Field<Text>,
    seq: Field<u64>,
    stamp: Field<Stamp>,
    kind: Field<Text>,
    payload: Field<Payload>,
    prev: Field<Option<MeshId>>,
    id: Field<MeshId>,
    signature: Field<Option<Text>>,
}

impl Fields {
    /// Reads what stands under a key. Fields that are not known are dropped, as meshlogd does.
    pub(super) fn read(&mut self, reader: &mut Reader<'_>, key: &[u8]) -> Result<(), JsonError> {
        match key {
            b"a" => self.author = text(reader, |bytes| Some(Text::from_checked_slice(bytes)))?,
            b"s" => {
                let seq = reader.value()?.as_int().and_then(Int::as_u64).filter(|seq| *seq > 0);
                self.seq = seq.into();
            }
            b"h" => self.stamp = stamp(reader)?,
            b"k" => self.kind = text(reader, |bytes| Some(Text::from_checked_slice(bytes)))?,
            b"p" => {
                let mut buffer = std::mem::take(&mut *reader.buffer());
                let payload = Payload::read(reader, &mut buffer);
                *reader.buffer() = buffer;
                self.payload = Field::Read(payload?);
            }
            b"v" => {
                self.prev = text(reader, |digits| match digits {
                    [] => Some(None),
                    digits => MeshId::from_hex(digits).map(Some),
                })?;
            }
            b"i" => self.id = text(reader, MeshId::from_hex)?,
            b"g" => self.signature = signature(reader)?,
            _ => drop(reader.value()?),
        }
        Ok(())
    }

    pub(super) fn into_event(self) -> Result<Event, ShapeError> {
        let body = Body {
            author: self.author.required("a", "text")?,
            seq: self.seq.required("s", "a whole number from 1 to 2^64-1")?,
            stamp: self.stamp.required("h", "a list of two whole numbers")?,
            kind: self.kind.required("k", "text")?,
            payload: self.payload.required("p", "there")?,
            prev: self.prev.required("v", "an id, or empty")?,
        };
        let id = self.id.required("i", "an id")?;
        let signature = match self.signature {
            Field::Missing => None,
            read => read.required("g", "text")?,
        };
        Ok(Event { body, id, signature })
    }
}

/// Something in quotes.
fn text<T>(
    reader: &mut Reader<'_>,
    read: impl FnOnce(&[u8]) -> Option<T>,
) -> Result<Field<T>, JsonError> {
    if reader.peek() != Some(b'"') {
        return reader.value().map(|_| Field::Wrong);
    }
    Ok(read(reader.key()?.as_bytes()).into())
}

fn stamp(reader: &mut Reader<'_>) -> Result<Field<Stamp>, JsonError> {
    if reader.peek() != Some(b'[') {
        return reader.value().map(|_| Field::Wrong);
    }
    let (mut wall, mut counter, mut is_wrong) = (None, None, false);
    reader.items(|reader| {
        match (reader.value()?, &wall, &counter) {
            (Value::Int(int), None, None) => wall = Some(int),
            (Value::Int(int), Some(_), None) => counter = Some(int),
            _ => is_wrong = true,
        }
        Ok::<(), JsonError>(())
    })?;
    let stamp = wall.zip(counter).filter(|_| !is_wrong);
    Ok(stamp.map(|(wall, counter)| Stamp { wall, counter }).into())
}

/// What Python takes for false is no signature: it is left out when the event is passed on.
fn signature(reader: &mut Reader<'_>) -> Result<Field<Option<Text>>, JsonError> {
    if reader.peek() != Some(b'"') {
        let is_truthy = reader.value()?.is_truthy();
        return Ok(if is_truthy { Field::Wrong } else { Field::Read(None) });
    }
    let signature = reader.key()?.into_text();
    Ok(Field::Read((!signature.is_empty()).then_some(signature)))
}
