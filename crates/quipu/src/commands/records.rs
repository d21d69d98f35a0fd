//! Records, and data files of meshlogd.

use std::io::{self, Read as _, Write};
use std::path::Path;

use quipu_meshlog::event::Event;
use quipu_meshlog::file;
use quipu_meshlog::policy::Policy;
use quipu_node::api::{ApiError, ExitCode, NewEvent, RecordFormat, RecordQuery, Request, text_of};
use serde_json::value::RawValue;
use serde_json::{Value, json};

use super::{artifacts, simple};
use crate::cli::{Global, MeshCommand, MeshPolicyArg, RecordCommand, RecordFormatArg};
use crate::client::Client;
use crate::output::{self, plain};
use crate::start;

/// Events of a data file that share a request, and with it an fsync.
const LOAD_EVENTS: usize = 512;
/// Their bytes after which a request is sent.
const LOAD_BYTES: usize = 4 << 20;
/// Bad lines that are told one by one; of the others only the number is.
const BAD_LINES_SHOWN: usize = 20;

pub(crate) fn record(global: &Global, command: RecordCommand) -> Result<ExitCode, ApiError> {
    let home = start::find_home(global)?;
    let mut client = Client::open(&home)?;
    let (kind, payload) = match command {
        RecordCommand::Show { id } => return show(global, &mut client, id),
        RecordCommand::Create { id, form } => {
            ("record.create", json!({ "record_id": id, "form": form }).to_string())
        }
        RecordCommand::Set { id, field, value, text } => {
            // Spliced in as it was typed: the strict reader sees every digit of it.
            let is_json = !text && serde_json::from_str::<&RawValue>(&value).is_ok();
            let value = if is_json { value } else { Value::from(value).to_string() };
            let (id, field) = (Value::from(id), Value::from(field));
            ("record.set", format!(r#"{{"record_id":{id},"field":{field},"value":{value}}}"#))
        }
        RecordCommand::Note { id, text } => {
            ("record.note", json!({ "record_id": id, "text": text }).to_string())
        }
        RecordCommand::Attach { id, field, file, mime } => {
            let mime = mime.or_else(|| mime_guess2::from_path(&file).first_raw().map(Into::into));
            let store = artifacts::store(&home)?;
            let row = artifacts::put_one(global, &mut client, &store, &file, mime.as_deref())?;
            let payload = json!({
                "record_id": id, "field": field, "artifact": { "/": row["key"] },
                "size": row["size"], "mime": mime.unwrap_or_default(),
            });
            ("record.attach", payload.to_string())
        }
    };
    say(global, &mut client, kind, payload)
}

fn say(
    global: &Global,
    client: &mut Client,
    kind: &str,
    payload: String,
) -> Result<ExitCode, ApiError> {
    let about: Value = serde_json::from_str(&payload).unwrap_or_default();
    let refused = |error: serde_json::Error| ApiError::refused(format!("the payload: {error}"));
    let event = NewEvent {
        kind: kind.to_owned(),
        payload: Some(RawValue::from_string(payload).map_err(refused)?),
    };
    let mut object = client.one(Request::Emit { events: vec![event] })?;
    object["record_id"] = about["record_id"].clone();
    if let Some(key) = about["artifact"]["/"].as_str() {
        object["key"] = key.into();
    }
    if global.json {
        output::json(&object)?;
    } else {
        output::line(&plain(&object["uuid"]))?;
    }
    Ok(ExitCode::Done)
}

fn show(global: &Global, client: &mut Client, id: String) -> Result<ExitCode, ApiError> {
    let item = client.one(Request::RecordShow { id, at: global.at.clone() })?;
    let text = text_of(&item);
    // What Python writes may be no JSON (NaN): then people see it as it is.
    match serde_json::from_str::<Value>(text) {
        Ok(object) if !global.json => {
            for name in ["record_id", "form", "created_by", "fields", "attachments", "notes"] {
                show_part(name, &object[name])?;
            }
        }
        _ => output::line(text)?,
    }
    Ok(ExitCode::Done)
}

/// A part of a record, one line for each field, attachment or note.
fn show_part(name: &str, part: &Value) -> io::Result<()> {
    match part {
        Value::Object(fields) => {
            output::line(&format!("{name}:"))?;
            fields
                .iter()
                .try_for_each(|(name, value)| output::line(&format!("  {name}: {}", plain(value))))
        }
        Value::Array(items) => {
            output::line(&format!("{name}:{}", if items.is_empty() { " none" } else { "" }))?;
            items.iter().try_for_each(|item| match item["blob_hash"].as_str() {
                Some(key) => output::line(&format!(
                    "  {}: {key} ({} bytes {})",
                    plain(&item["field"]),
                    plain(&item["size"]),
                    plain(&item["mime"]),
                )),
                None => output::line(&format!("  {}", plain(item))),
            })
        }
        other => output::line(&format!("{name}: {}", plain(other))),
    }
}

pub(crate) fn records(
    global: &Global,
    mut query: RecordQuery,
    format: Option<RecordFormatArg>,
    reducer: Option<&Path>,
) -> Result<ExitCode, ApiError> {
    query.format = match format {
        Some(RecordFormatArg::Csv) => RecordFormat::Csv,
        Some(RecordFormatArg::Geojson) => RecordFormat::GeoJson,
        Some(RecordFormatArg::Json) => RecordFormat::Json,
        None if global.json => RecordFormat::Json,
        Some(RecordFormatArg::Table) | None => RecordFormat::Table,
    };
    if let Some(path) = reducer {
        let mut text = String::new();
        simple::open(path)?
            .read_to_string(&mut text)
            .map_err(|error| ApiError::refused(format!("{}: {error}", path.display())))?;
        query.reducer = Some(text);
    }
    let mut client = Client::open(&start::find_home(global)?)?;
    if query.format == RecordFormat::Table {
        return table(&mut client, query);
    }
    let mut out = io::BufWriter::new(io::stdout().lock());
    client.ask(Request::Records(query), &mut |item| out.write_all(text_of(&item).as_bytes()))?;
    out.flush()?;
    Ok(ExitCode::Done)
}

fn table(client: &mut Client, query: RecordQuery) -> Result<ExitCode, ApiError> {
    let texts = |list: &Value| -> Vec<String> {
        list.as_array().into_iter().flatten().map(plain).collect()
    };
    let mut table = None;
    client.ask(Request::Records(query), &mut |item| {
        match &mut table {
            None => {
                let columns = texts(&item["columns"]);
                let names: Vec<&str> = columns.iter().map(String::as_str).collect();
                table = Some(output::table(&names));
            }
            Some(table) => drop(table.add_row(texts(&item["row"]))),
        }
        Ok(())
    })?;
    output::line(&table.map(|table| table.to_string()).unwrap_or_default())?;
    Ok(ExitCode::Done)
}

/// Writes all records as CSV, and says how many events there are as of then.
pub(crate) fn write_csv(
    client: &mut Client,
    at: Option<String>,
    out: &mut impl Write,
) -> Result<u64, ApiError> {
    let events = client.one(Request::Status { at: at.clone() })?["events"].as_u64();
    let query = RecordQuery { format: RecordFormat::Csv, at, ..RecordQuery::default() };
    client.ask(Request::Records(query), &mut |item| out.write_all(text_of(&item).as_bytes()))?;
    out.flush()?;
    Ok(events.unwrap_or_default())
}

/// Writes a data file of meshlogd, and says how many events it has.
pub(crate) fn write_meshlog(
    global: &Global,
    client: &mut Client,
    at: Option<String>,
    out: &mut impl Write,
) -> Result<u64, ApiError> {
    let mut end = Value::Null;
    client.ask(Request::MeshExport { at }, &mut |item| match item["text"].as_str() {
        Some(text) => out.write_all(text.as_bytes()),
        None => {
            end = item;
            Ok(())
        }
    })?;
    out.flush()?;
    let count = |name: &str| end[name].as_u64().unwrap_or_default();
    if count("unnamed") > 0 {
        output::note(
            global.quiet,
            &format!(
                "note: without the records of {} machines that have no identity in meshes (there: quipu mesh identity)",
                count("unnamed")
            ),
        );
    }
    if count("unsigned") > 0 {
        output::note(
            global.quiet,
            &format!(
                "note: without {} events whose machines have not signed them yet",
                count("unsigned")
            ),
        );
    }
    Ok(count("events"))
}

pub(crate) fn mesh(global: &Global, command: MeshCommand) -> Result<ExitCode, ApiError> {
    match command {
        MeshCommand::Status => super::mesh::status(global),
        MeshCommand::Identity { signed } => {
            simple::one(global, Request::MeshIdentity { make: true, signed })
        }
        MeshCommand::Policy { policy } => {
            let policy = match policy {
                MeshPolicyArg::Open => Policy::Open,
                MeshPolicyArg::FirstUse => Policy::FirstUse,
                MeshPolicyArg::Roster => Policy::Roster,
            };
            simple::one(global, Request::MeshPolicy { policy: policy.name().to_owned() })
        }
        MeshCommand::Trust { author, key } => {
            simple::one(global, Request::MeshTrust { author, public_key: Some(key) })
        }
        MeshCommand::Distrust { author } => {
            simple::one(global, Request::MeshTrust { author, public_key: None })
        }
        MeshCommand::Roster => trusted(global),
    }
}

fn trusted(global: &Global) -> Result<ExitCode, ApiError> {
    let mut client = Client::open(&start::find_home(global)?)?;
    let columns = ["author", "trusted", "identity"];
    let mut table = output::table(&columns);
    client.ask(Request::MeshTrusted, &mut |item| {
        if global.json {
            return output::json(&item);
        }
        match item["policy"].as_str() {
            Some(policy) => output::line(&format!("policy: {policy}"))?,
            None => drop(table.add_row(columns.map(|column| plain(&item[column])))),
        }
        Ok(())
    })?;
    if !global.json && !table.is_empty() {
        output::line(&table.to_string())?;
    }
    Ok(ExitCode::Done)
}

/// What came of a data file.
#[derive(Default)]
struct Loading {
    events: u64,
    known: u64,
    own: u64,
    /// Lines that are no events, and events that are not taken: why.
    bad: Vec<String>,
}

/// Takes the events of a data file into the domain, word for word, each once.
pub(crate) fn load_meshlog(
    global: &Global,
    client: &mut Client,
    path: &Path,
) -> Result<ExitCode, ApiError> {
    let mut bytes = Vec::new();
    simple::open(path)?.read_to_end(&mut bytes).map_err(|error| {
        ApiError::new(ExitCode::Storage, format!("{}: {error}", path.display()))
    })?;
    let (loaded, bad) = file::read_all(&bytes);
    let mut loading =
        Loading { bad: bad.iter().map(ToString::to_string).collect(), ..Loading::default() };
    let bar = output::progress(global.quiet, Some(loaded.events.len() as u64), "events");
    let mut batch: Vec<String> = Vec::new();
    let mut size = 0;
    for event in &loaded.events {
        let line = line_of(event);
        size += line.len();
        batch.push(line);
        if batch.len() >= LOAD_EVENTS || size >= LOAD_BYTES {
            loading.send(client, std::mem::take(&mut batch))?;
            size = 0;
            bar.inc(LOAD_EVENTS as u64);
        }
    }
    loading.send(client, batch)?;
    bar.finish_and_clear();
    if let Some(torn) = &loaded.torn {
        let (at, length) = (torn.offset, torn.bytes.len());
        output::note(
            global.quiet,
            &format!("note: the last line is torn: {length} bytes from byte {at} on are no event"),
        );
    }
    loading.finish(global, loaded.torn.map(|torn| torn.offset))
}

fn line_of(event: &Event) -> String {
    // What is written here is ASCII.
    String::from_utf8_lossy(&event.to_wire()).into_owned()
}

impl Loading {
    fn send(&mut self, client: &mut Client, lines: Vec<String>) -> Result<(), ApiError> {
        if lines.is_empty() {
            return Ok(());
        }
        let came = client.one(Request::MeshImport { lines })?;
        let count = |name: &str| came[name].as_u64().unwrap_or_default();
        self.events += count("events");
        self.known += count("known");
        self.own += count("own");
        let refused = came["refused"].as_array().into_iter().flatten();
        self.bad.extend(refused.map(|one| plain(&one["why"])));
        Ok(())
    }

    fn finish(self, global: &Global, torn_at: Option<usize>) -> Result<ExitCode, ApiError> {
        let object = json!({
            "events": self.events, "known": self.known, "own": self.own,
            "bad": self.bad, "torn_at": torn_at,
        });
        if global.json {
            output::json(&object)?;
        } else {
            let count = self.bad.len();
            output::fields(&json!({
                "events": self.events, "known": self.known, "own": self.own, "bad": count,
            }))?;
        }
        let Some(first) = self.bad.first() else { return Ok(ExitCode::Done) };
        for line in self.bad.iter().take(BAD_LINES_SHOWN) {
            output::note(global.quiet, &format!("not taken: {line}"));
        }
        let message = format!("{} lines were not taken; the first: {first}", self.bad.len());
        Err(ApiError::refused(message).hint("the others were taken, and are not taken twice"))
    }
}
