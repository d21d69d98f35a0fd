//! The records that events add up to: what people look at.
//!
//! Four kinds of event write to a record: `record.create` its form and maker, `field.set` a field,
//! `note.add` a note, `attachment.add` an attachment. Of several that set one thing the last in
//! [fold order](crate::order) counts; notes and attachments add up. Other kinds are ignored, and so are
//! events of these kinds that do not say what they must (meshlogd cannot show anything any more then).
//!
//! The fold keeps, for everything that can be set, the event that set it. So an event that comes late finds its
//! place in the same few steps as one that comes in order, and what was applied does not depend on when.

mod geo;
mod table;
#[cfg(test)]
mod tests;

use std::borrow::Cow;
use std::cmp::Ordering;
use std::collections::BTreeMap;
use std::sync::Arc;

pub use geo::{Place, PlaceFields, write_geojson};
pub use table::{OutputError, Table, write_csv};

use crate::event::Event;
use crate::json::{self, Object, Style, Value};
use crate::order::fold_order;
use crate::payload::text_of;
use crate::text::Text;

/// Creates a record.
pub const CREATE: &str = "record.create";
/// Sets a field.
pub const SET: &str = "field.set";
/// Adds a note.
pub const NOTE: &str = "note.add";
/// Adds an attachment.
pub const ATTACH: &str = "attachment.add";

/// All records.
#[derive(Debug, Clone, Default)]
pub struct Records {
    records: BTreeMap<Text, Record>,
    ignored: u64,
}

/// One record: for each thing that can be set, the event that did.
#[derive(Debug, Clone, Default)]
pub struct Record {
    form: Option<Arc<Event>>,
    created_by: Option<Arc<Event>>,
    fields: BTreeMap<Text, Arc<Event>>,
    /// By field, then hash, then fold order.
    attachments: Vec<Arc<Event>>,
    /// In fold order.
    notes: Vec<Arc<Event>>,
}

/// What an event does to a record.
enum Change<'a> {
    Create,
    Set(Cow<'a, [u8]>),
    Note,
    Attach,
}

/// What an event does, and to which record; nothing if it does nothing to any.
fn change_of(event: &Event) -> Option<(Cow<'_, [u8]>, Change<'_>)> {
    let names = ["record_id", "field", "value", "text", "blob_hash"];
    let [record, field, value, text, blob_hash] = event.payload.texts_at(names);
    let record = text_of(record?)?;
    let change = match event.kind.as_str()? {
        CREATE => Change::Create,
        SET if value.is_some() => Change::Set(text_of(field?)?),
        NOTE if text.is_some() => Change::Note,
        ATTACH if field.and_then(text_of).and(blob_hash.and_then(text_of)).is_some() => {
            Change::Attach
        }
        _ => return None,
    };
    Some((record, change))
}

/// Whether events of this kind write to records.
pub fn is_record_kind(kind: &Text) -> bool {
    matches!(kind.as_str(), Some(CREATE | SET | NOTE | ATTACH))
}

impl Records {
    /// The records that these events add up to.
    pub fn of<'a>(events: impl IntoIterator<Item = &'a Arc<Event>>) -> Self {
        let mut records = Self::default();
        events.into_iter().for_each(|event| records.apply(event));
        records
    }

    /// Adds an event, which was not added before, in any order.
    pub fn apply(&mut self, event: &Arc<Event>) {
        let Some((id, change)) = change_of(event) else {
            self.ignored += u64::from(is_record_kind(&event.kind));
            return;
        };
        if let Some(record) = self.records.get_mut(&*id) {
            return record.apply(event, &change);
        }
        let mut record = Record::default();
        record.apply(event, &change);
        self.records.insert(Text::from_checked_slice(&id), record);
    }

    /// How many records there are.
    pub fn len(&self) -> usize {
        self.records.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.records.is_empty()
    }

    /// Events that should have written to a record and did not say what they must.
    pub const fn ignored(&self) -> u64 {
        self.ignored
    }

    /// One record.
    pub fn get(&self, id: &Text) -> Option<&Record> {
        self.records.get(id)
    }

    /// All records, by id.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = (&Text, &Record)> {
        self.records.iter()
    }

    /// The records that are chosen. Events are shared, not copied.
    #[must_use]
    pub fn filtered(&self, keep: impl Fn(&Record) -> bool) -> Self {
        let kept = self.records.iter().filter(|(_, record)| keep(record));
        let records = kept.map(|(id, record)| (id.clone(), record.clone())).collect();
        Self { records, ignored: self.ignored }
    }

    /// Writes the view of meshlogd 0.1.0 as canonical JSON, record by record.
    pub fn write_json(&self, out: &mut impl std::io::Write) -> std::io::Result<()> {
        let mut buffer = Vec::new();
        let mut before = b'{';
        for (id, record) in &self.records {
            buffer.clear();
            buffer.push(before);
            json::write_text(id, &mut buffer);
            buffer.push(b':');
            record.write_json(id, &mut buffer);
            out.write_all(&buffer)?;
            before = b',';
        }
        out.write_all(if self.records.is_empty() { b"{}" } else { b"}" })
    }
}

/// Puts the event into the place, unless a later one has it.
fn set_if_later(place: &mut Option<Arc<Event>>, event: &Arc<Event>) {
    if place.as_ref().is_none_or(|held| fold_order(held, event) != Ordering::Greater) {
        *place = Some(Arc::clone(event));
    }
}

/// The order of attachments: meshlogd sorts them by field and hash, and those that are equal stay in fold order.
fn attachment_order(a: &Event, b: &Event) -> Ordering {
    let by = |name| {
        let (a, b) = (a.payload.get(name), b.payload.get(name));
        a.and_then(Value::as_text).cmp(&b.and_then(Value::as_text))
    };
    by("field").then_with(|| by("blob_hash")).then_with(|| fold_order(a, b))
}

fn insert_sorted(
    list: &mut Vec<Arc<Event>>,
    event: &Arc<Event>,
    order: impl Fn(&Event, &Event) -> Ordering,
) {
    let at = list.partition_point(|other| order(other, event) != Ordering::Greater);
    list.insert(at, Arc::clone(event));
}

impl Record {
    fn apply(&mut self, event: &Arc<Event>, change: &Change<'_>) {
        match change {
            Change::Create => {
                if event.payload.has("form") {
                    set_if_later(&mut self.form, event);
                }
                if event.payload.has("by") {
                    set_if_later(&mut self.created_by, event);
                }
            }
            Change::Set(field) => match self.fields.get_mut(&**field) {
                Some(held) if fold_order(held, event) == Ordering::Greater => {}
                Some(held) => *held = Arc::clone(event),
                None => {
                    let name = Text::from_checked_slice(field);
                    self.fields.insert(name, Arc::clone(event));
                }
            },
            Change::Note => insert_sorted(&mut self.notes, event, fold_order),
            Change::Attach => insert_sorted(&mut self.attachments, event, attachment_order),
        }
    }

    /// What kind of record it is: mostly text.
    pub fn form(&self) -> Option<&Value> {
        self.form.as_ref()?.payload.get("form")
    }

    /// Who says to have made it.
    pub fn created_by(&self) -> Option<&Value> {
        self.created_by.as_ref()?.payload.get("by")
    }

    /// Fields by name, each with its value.
    pub fn fields(&self) -> impl Iterator<Item = (&Text, &Value)> {
        self.fields.iter().filter_map(|(name, event)| Some((name, event.payload.get("value")?)))
    }

    /// The value of a field.
    pub fn field(&self, name: &str) -> Option<&Value> {
        self.fields.get(name.as_bytes())?.payload.get("value")
    }

    /// The event that set a field.
    pub fn set_by(&self, name: &str) -> Option<&Arc<Event>> {
        self.fields.get(name.as_bytes())
    }

    /// Attachments as meshlogd shows them.
    pub fn attachments(&self) -> impl ExactSizeIterator<Item = Value> {
        self.attachments.iter().map(|event| {
            let get = |key| event.payload.get(key).cloned();
            let mut shown = Object::default();
            shown.push("field", get("field").unwrap_or_default());
            shown.push("blob_hash", get("blob_hash").unwrap_or_default());
            shown.push("size", get("size").unwrap_or_else(|| 0u64.into()));
            shown.push("mime", get("mime").unwrap_or_else(|| "".into()));
            Value::Object(shown)
        })
    }

    /// Notes in order.
    pub fn notes(&self) -> impl ExactSizeIterator<Item = &Value> {
        // A note without a text was not applied.
        self.notes.iter().map(|event| event.payload.get("text").unwrap_or(&Value::Null))
    }

    /// The record as meshlogd 0.1.0 shows it.
    pub fn to_value(&self, id: &Text) -> Value {
        let or_empty = |value: Option<&Value>| value.cloned().unwrap_or_else(|| "".into());
        let mut fields = Object::default();
        for (name, value) in self.fields() {
            fields.push_text(name.clone(), value.clone());
        }
        Value::object([
            ("record_id", id.into()),
            ("form", or_empty(self.form())),
            ("created_by", or_empty(self.created_by())),
            ("fields", fields.into()),
            ("attachments", Value::List(self.attachments().collect())),
            ("notes", Value::List(self.notes().cloned().collect())),
        ])
    }

    /// Appends the record as canonical JSON: the same as of [`Record::to_value`], without making it.
    pub fn write_json(&self, id: &Text, out: &mut Vec<u8>) {
        let or_empty = |event: Option<&Arc<Event>>, key: &str, out: &mut Vec<u8>| {
            let written = event.and_then(|event| event.payload.write_canonical(key, out));
            out.extend_from_slice(if written.is_none() { b"\"\"" } else { b"" });
        };
        out.extend_from_slice(b"{\"attachments\":[");
        for (at, attachment) in self.attachments().enumerate() {
            if at > 0 {
                out.push(b',');
            }
            json::write(&attachment, Style::Canonical, out);
        }
        out.extend_from_slice(b"],\"created_by\":");
        or_empty(self.created_by.as_ref(), "by", out);
        out.extend_from_slice(b",\"fields\":{");
        for (at, (name, event)) in self.fields.iter().enumerate() {
            if at > 0 {
                out.push(b',');
            }
            json::write_text(name, out);
            out.push(b':');
            or_empty(Some(event), "value", out);
        }
        out.extend_from_slice(b"},\"form\":");
        or_empty(self.form.as_ref(), "form", out);
        out.extend_from_slice(b",\"notes\":[");
        for (at, event) in self.notes.iter().enumerate() {
            if at > 0 {
                out.push(b',');
            }
            or_empty(Some(event), "text", out);
        }
        out.extend_from_slice(b"],\"record_id\":");
        json::write_text(id, out);
        out.push(b'}');
    }
}
