//! Records: what people look at, as rows, files and maps (MESH-1).

use std::io::{self, Write};
use std::sync::Arc;

use quipu_core::event::{Event, Log};
use quipu_core::history::History;
use quipu_core::node::{Command, Reply};
use quipu_meshlog::domain::{Added, View, is_of_records};
use quipu_meshlog::json::{self, Style};
use quipu_meshlog::records::{OutputError, PlaceFields, Record, Records, write_csv, write_geojson};
use quipu_meshlog::reducer::Reducer;
use quipu_meshlog::text::Text;
use quipu_state::cut::Cut;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::at::cut_of;
use super::read::dag;
use super::{Api, ApiError, ExitCode, Sink};

/// Events read in one visit to the machine's loop.
const SCAN_EVENTS: u64 = 4_096;
/// About how many bytes of text an item carries.
const TEXT_BYTES: usize = 1 << 16;
/// Characters of a field that a table shows.
const CELL_CHARS_MAX: usize = 40;

/// How records are shown.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum RecordFormat {
    /// A row for each record: `row`, a list of texts, after one item with `columns`.
    Table,
    /// A line of canonical JSON for each.
    #[default]
    Json,
    /// A line for each, a column for each field.
    Csv,
    /// A feature collection.
    GeoJson,
}

/// Which records, and how.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct RecordQuery {
    /// Only of this form.
    #[serde(default)]
    pub form: Option<String>,
    /// How.
    #[serde(default)]
    pub format: RecordFormat,
    /// For maps: the field with the point.
    #[serde(default)]
    pub point: Option<String>,
    /// For maps: the field with the latitude.
    #[serde(default)]
    pub lat: Option<String>,
    /// For maps: the field with the longitude.
    #[serde(default)]
    pub lon: Option<String>,
    /// A declaration of tables, as TOML, to be shown instead of records.
    #[serde(default)]
    pub reducer: Option<String>,
    /// As of this snapshot or event.
    #[serde(default)]
    pub at: Option<String>,
}

/// What is written goes to the client as items with `text`.
pub(super) struct TextItems<'a, 'b> {
    buffer: Vec<u8>,
    sink: &'a mut Sink<'b>,
}

impl<'a, 'b> TextItems<'a, 'b> {
    pub(super) const fn new(sink: &'a mut Sink<'b>) -> Self {
        Self { buffer: Vec::new(), sink }
    }

    /// Sends what is whole characters.
    fn send(&mut self) -> io::Result<()> {
        let whole = match std::str::from_utf8(&self.buffer) {
            Ok(text) => text.len(),
            Err(error) => error.valid_up_to(),
        };
        let rest = self.buffer.split_off(whole);
        let text = String::from_utf8(std::mem::replace(&mut self.buffer, rest));
        match text {
            Ok(text) if text.is_empty() => Ok(()),
            Ok(text) => (self.sink)(json!({ "text": text })),
            Err(error) => Err(io::Error::other(error)),
        }
    }
}

impl Write for TextItems<'_, '_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.buffer.extend_from_slice(bytes);
        if self.buffer.len() >= TEXT_BYTES {
            self.send()?;
        }
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        self.send()
    }
}

impl From<OutputError> for ApiError {
    fn from(error: OutputError) -> Self {
        match error {
            // The client is gone.
            OutputError::Io(error) => error.into(),
            other => Self::new(ExitCode::Storage, other.to_string()),
        }
    }
}

impl RecordQuery {
    fn place_fields(&self) -> Result<PlaceFields, ApiError> {
        match (&self.point, &self.lat, &self.lon) {
            (None, None, None) => Ok(PlaceFields::Usual),
            (Some(point), None, None) => Ok(PlaceFields::Point(point.clone())),
            (None, Some(latitude), Some(longitude)) => {
                Ok(PlaceFields::Pair { latitude: latitude.clone(), longitude: longitude.clone() })
            }
            _ => {
                Err(ApiError::misuse("a map takes one field with a point, or two with coordinates")
                    .hint("--point FIELD, or --lat FIELD --lon FIELD"))
            }
        }
    }
}

impl Api {
    pub(super) fn records(&self, query: &RecordQuery, mut sink: Sink<'_>) -> Result<(), ApiError> {
        let places = query.place_fields()?;
        if let Some(declared) = &query.reducer {
            return self.reduced(declared, query, sink);
        }
        let view = self.view(query.at.as_deref())?;
        let chosen = query.form.as_ref().map(|form| {
            let is_of = |record: &Record| {
                let shown = record.form().and_then(|form| form.as_text());
                shown.and_then(Text::as_str).unwrap_or_default() == form
            };
            view.records().filtered(is_of)
        });
        let records = chosen.as_ref().unwrap_or_else(|| view.records());
        let mut out = TextItems::new(&mut sink);
        match query.format {
            RecordFormat::Table => return table(records, sink),
            RecordFormat::Json => write_lines(records, &mut out)?,
            RecordFormat::Csv => write_csv(records, &mut out)?,
            RecordFormat::GeoJson => {
                write_geojson(records, &places, &mut out)?;
                out.write_all(b"\n")?;
            }
        }
        Ok(out.flush()?)
    }

    pub(super) fn record_show(
        &self,
        id: &str,
        at: Option<String>,
        sink: Sink<'_>,
    ) -> Result<(), ApiError> {
        let view = self.view(at.as_deref())?;
        let name = Text::from(id);
        let record = view.records().get(&name).ok_or_else(|| {
            ApiError::not_found(format!("there is no record {id:?}")).hint("quipu records")
        })?;
        let mut line = Vec::new();
        record.write_json(&name, &mut line);
        Ok(sink(json!({ "text": String::from_utf8_lossy(&line) }))?)
    }

    /// Tables that somebody declared, row by row.
    fn reduced(&self, declared: &str, query: &RecordQuery, sink: Sink<'_>) -> Result<(), ApiError> {
        let mut reducer = Reducer::from_toml(declared)
            .map_err(|error| ApiError::refused(error.to_string()).hint(error.hint()))?;
        if query.form.is_some() || !matches!(query.format, RecordFormat::Table | RecordFormat::Json)
        {
            return Err(ApiError::misuse("declared tables are shown as a table or as JSON"));
        }
        let cut = self.cut(query.at.as_deref())?;
        let context = self.view(query.at.as_deref())?.context().clone();
        // An event that several gateways wrapped counts once.
        let mut wrapped = std::collections::BTreeSet::new();
        self.scan(cut.as_ref(), |_| true, &mut |event| {
            let Some(counted) = context.any_event_of(event) else { return Ok(()) };
            let is_wrapped = &*event.header.kind == quipu_core::kind::MESH_EVENT;
            if !is_wrapped || wrapped.insert(counted.id()) {
                reducer.apply(&Arc::new(counted));
            }
            Ok(())
        })?;
        if query.format == RecordFormat::Table {
            sink(json!({ "columns": ["table", "key", "columns"] }))?;
        }
        for (table, key, columns) in reducer.rows() {
            if query.format == RecordFormat::Table {
                sink(json!({ "row": [table, key.to_string(), pairs(&columns)] }))?;
                continue;
            }
            let row = json::Value::object([
                ("table", table.into()),
                ("key", key.into()),
                ("columns", columns),
            ]);
            let line = json::to_bytes(&row, Style::Canonical);
            sink(json!({ "text": String::from_utf8_lossy(&line) + "\n" }))?;
        }
        Ok(())
    }

    /// The view of records as of now, or as of an event.
    pub(super) fn view(&self, at: Option<&str>) -> Result<Arc<View>, ApiError> {
        if self.focus.is_some() {
            return Err(ApiError::misuse("published logs have no records"));
        }
        let Some(cut) = self.cut(at)? else { return self.view_now() };
        let mut view = View::default();
        let of = Arc::clone(&cut);
        let admins = self.read(move |machine| super::at::admins_at(machine, &of))?;
        // Nothing was added yet that this could change.
        let _nothing = view.set_admins(admins);
        loop {
            let mut stale = false;
            self.scan(Some(&cut), is_of_records, &mut |event| {
                stale |= view.add(event) == Added::Stale;
                Ok(())
            })?;
            if !stale {
                return Ok(Arc::new(view));
            }
            view.restart();
        }
    }

    pub(super) fn view_now(&self) -> Result<Arc<View>, ApiError> {
        loop {
            if let Some(view) = self.read_once(crate::service::Machine::records_step)? {
                return Ok(view);
            }
        }
    }

    pub(super) fn cut(&self, at: Option<&str>) -> Result<Option<Arc<Cut>>, ApiError> {
        let at = at.map(str::to_owned);
        let cut = self.read(move |machine| cut_of(machine, at.as_deref()))?;
        Ok(cut.map(|(_, cut)| Arc::new(cut)))
    }

    /// Looks at all events of a cut, or of all that counts, in order of arrival.
    pub(super) fn scan(
        &self,
        cut: Option<&Arc<Cut>>,
        wanted: fn(&str) -> bool,
        each: &mut dyn FnMut(&Event) -> Result<(), ApiError>,
    ) -> Result<(), ApiError> {
        let mut next = 0;
        loop {
            let (from, cut) = (next, cut.cloned());
            let (events, seen) = self.read_once(move |machine| {
                let held = machine.driver.held();
                let end = held.count(Log::Internal).min(from + SCAN_EVENTS);
                if from >= end {
                    return Ok((Vec::new(), 0));
                }
                let quarantined = dag(machine)?.quarantined();
                let read = held.events(Log::Internal, from..end)?;
                let seen = read.len() as u64;
                let counts = |(event, ordinal): &(Event, u64)| {
                    let counts = match &cut {
                        Some(cut) => cut.contains(*ordinal),
                        None => !quarantined.contains(&event.id),
                    };
                    counts && wanted(&event.header.kind)
                };
                let chosen = read.into_iter().zip(from..).filter(counts);
                Ok((chosen.map(|(event, _)| event).collect::<Vec<_>>(), seen))
            })?;
            if seen == 0 {
                return Ok(());
            }
            next += seen;
            events.iter().try_for_each(&mut *each)?;
        }
    }

    /// Appends events of quipu's own kinds that the core gives no meaning to.
    pub(super) fn tell(
        &self,
        said: Vec<(&'static str, quipu_core::value::Value)>,
    ) -> Result<Vec<quipu_core::node::Emitted>, ApiError> {
        match self.handle.command(Command::Tell(said))? {
            Reply::Emitted(events) => Ok(events),
            other => Err(ApiError::new(ExitCode::Bug, format!("unexpected reply {other:?}"))),
        }
    }
}

/// A line of canonical JSON for each record.
fn write_lines(records: &Records, out: &mut impl Write) -> io::Result<()> {
    let mut line = Vec::new();
    for (id, record) in records.iter() {
        line.clear();
        record.write_json(id, &mut line);
        line.push(b'\n');
        out.write_all(&line)?;
    }
    Ok(())
}

/// Rows that fit a terminal: fields as `name=value`, the rest as numbers.
fn table(records: &Records, sink: Sink<'_>) -> Result<(), ApiError> {
    sink(json!({ "columns": ["record_id", "form", "fields", "attachments", "notes"] }))?;
    for (id, record) in records.iter() {
        let form = record.form().map(short).unwrap_or_default();
        let fields = record.fields().map(|(name, value)| format!("{name}={}", short(value)));
        let fields: Vec<String> = fields.collect();
        let (attachments, notes) = (record.attachments().len(), record.notes().len());
        sink(json!({ "row": [
            id.to_string(), form, fields.join(" "), attachments.to_string(), notes.to_string(),
        ] }))?;
    }
    Ok(())
}

fn pairs(columns: &json::Value) -> String {
    let pairs = columns.as_object().into_iter().flat_map(json::Object::iter);
    let pairs: Vec<String> =
        pairs.map(|(name, value)| format!("{name}={}", short(value))).collect();
    pairs.join(" ")
}

/// A value as a table shows it: text as it is, all else as JSON, and not too much of it.
fn short(value: &json::Value) -> String {
    let text = match value.as_text() {
        Some(text) => text.to_string(),
        None => String::from_utf8_lossy(&json::to_bytes(value, Style::Spaced)).into_owned(),
    };
    // One line, whatever somebody wrote.
    let line: String = text.chars().map(|c| if c.is_control() { ' ' } else { c }).collect();
    match line.char_indices().nth(CELL_CHARS_MAX) {
        Some((at, _)) => format!("{}..", &line[..at]),
        None => line,
    }
}

/// A row of JSON that was sent as text, for those who want the object.
pub fn text_of(item: &Value) -> &str {
    item["text"].as_str().unwrap_or_default()
}
