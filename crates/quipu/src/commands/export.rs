//! Events out, for other programs.

use std::fs::File;
use std::io::{self, BufWriter, Write};
use std::path::PathBuf;

use data_encoding::BASE64;
use quipu_core::id::EventId;
use quipu_core::value::{self, Value as Payload};
use quipu_node::api::{ApiError, ExitCode, Request};
use serde_json::{Value, json};

use crate::car;
use crate::cli::{ExportFormat, Global};
use crate::client::Client;
use crate::output::{self, plain};

/// Signatures that share one block of a CAR.
const SIGNATURES_PER_BLOCK: usize = 1_000;

pub(crate) fn export(
    global: &Global,
    format: ExportFormat,
    file: Option<PathBuf>,
) -> Result<ExitCode, ApiError> {
    let mut client = Client::about(global)?;
    let Some(path) = file.filter(|path| path.as_os_str() != "-") else {
        write(&mut client, format, global, &mut BufWriter::new(io::stdout().lock()))?;
        return Ok(ExitCode::Done);
    };
    let storage =
        |error: io::Error| ApiError::new(ExitCode::Storage, format!("{}: {error}", path.display()));
    let aside = path.with_extension("part");
    let mut out = BufWriter::new(File::create(&aside).map_err(storage)?);
    let events = write(&mut client, format, global, &mut out)?;
    out.into_inner().map_err(|e| storage(e.into_error()))?.sync_all().map_err(storage)?;
    std::fs::rename(&aside, &path).map_err(storage)?;
    let object = json!({ "events": events, "file": path });
    if global.json {
        output::json(&object)?
    } else {
        output::fields(&object)?
    }
    Ok(ExitCode::Done)
}

fn write(
    client: &mut Client,
    format: ExportFormat,
    global: &Global,
    out: &mut impl Write,
) -> Result<u64, ApiError> {
    let at = global.at.clone();
    match format {
        ExportFormat::Csv => return super::records::write_csv(client, at, out),
        ExportFormat::Meshlog => return super::records::write_meshlog(global, client, at, out),
        ExportFormat::Ndjson | ExportFormat::Car | ExportFormat::Dot | ExportFormat::Mermaid => {}
    }
    let total = client.one(Request::Status { at: at.clone() })?["events"].as_u64();
    let bar = output::progress(global.quiet, total, "events");
    let mut writer = Writer { format, out, signatures: Vec::new() };
    let tips = client.one(Request::Frontier { at: at.clone() })?;
    writer.begin(&tips)?;
    let mut events = 0;
    let proof = matches!(format, ExportFormat::Ndjson | ExportFormat::Car);
    let request = Request::Log { kind: None, author: None, limit: None, reverse: false, proof, at };
    client.ask(request, &mut |item| {
        events += 1;
        bar.set_position(events);
        writer.event(&item)
    })?;
    writer.end()?;
    writer.out.flush()?;
    bar.finish_and_clear();
    Ok(events)
}

struct Writer<'a, W: Write> {
    format: ExportFormat,
    out: &'a mut W,
    /// Links and signatures that wait for a block.
    signatures: Vec<Payload>,
}

fn decoded(item: &Value, field: &str) -> io::Result<Option<Vec<u8>>> {
    let text = item[field].as_str();
    text.map(|text| BASE64.decode(text.as_bytes()).map_err(io::Error::other)).transpose()
}

impl<W: Write> Writer<'_, W> {
    fn begin(&mut self, tips: &Value) -> io::Result<()> {
        match self.format {
            // Records and meshes are written elsewhere.
            ExportFormat::Ndjson | ExportFormat::Csv | ExportFormat::Meshlog => Ok(()),
            ExportFormat::Dot => writeln!(self.out, "digraph quipu {{\n  rankdir=RL;"),
            ExportFormat::Mermaid => writeln!(self.out, "flowchart RL"),
            ExportFormat::Car => {
                let tips = tips["tips"].as_array().into_iter().flatten();
                let roots: Vec<EventId> =
                    tips.filter_map(|tip| tip["id"].as_str()?.parse().ok()).collect();
                car::write_header(self.out, &roots)
            }
        }
    }

    fn event(&mut self, item: &Value) -> io::Result<()> {
        match self.format {
            ExportFormat::Csv | ExportFormat::Meshlog => Ok(()),
            ExportFormat::Ndjson => writeln!(self.out, "{item}"),
            ExportFormat::Car => self.car_event(item),
            ExportFormat::Dot => {
                let id = plain(&item["uuid"]);
                writeln!(self.out, "  \"{id}\" [label=\"{}\"];", label(item).replace('"', "'"))?;
                parents(item).try_for_each(|p| writeln!(self.out, "  \"{id}\" -> \"{p}\";"))
            }
            ExportFormat::Mermaid => {
                let id = plain(&item["uuid"]);
                writeln!(self.out, "  {id}[\"{}\"]", label(item).replace('"', "'"))?;
                parents(item).try_for_each(|p| writeln!(self.out, "  {id} --> {p}"))
            }
        }
    }

    fn car_event(&mut self, item: &Value) -> io::Result<()> {
        if let Some(body) = decoded(item, "block")? {
            car::write_block(self.out, &body)?;
        }
        if let Some(payload) = decoded(item, "payload_block")? {
            car::write_block(self.out, &payload)?;
        }
        let proof = &item["proof"];
        if proof["signed"] == item["uuid"]
            && let Some(signature) = decoded(proof, "signature")?
            && let Some(id) = item["uuid"].as_str().and_then(|id| id.parse::<EventId>().ok())
        {
            self.signatures.push(Payload::list([Payload::from(id), Payload::from(signature)]));
        }
        if self.signatures.len() >= SIGNATURES_PER_BLOCK { self.flush_signatures() } else { Ok(()) }
    }

    /// A block of its own for signatures, which no block of events covers.
    fn flush_signatures(&mut self) -> io::Result<()> {
        if self.signatures.is_empty() {
            return Ok(());
        }
        let list = Payload::list(std::mem::take(&mut self.signatures));
        let mut block = Vec::new();
        value::encode(&Payload::map([("signatures", list)]), &mut block);
        car::write_block(self.out, &block)
    }

    fn end(&mut self) -> io::Result<()> {
        match self.format {
            ExportFormat::Car => self.flush_signatures(),
            ExportFormat::Dot => writeln!(self.out, "}}"),
            ExportFormat::Ndjson
            | ExportFormat::Mermaid
            | ExportFormat::Csv
            | ExportFormat::Meshlog => Ok(()),
        }
    }
}

fn label(item: &Value) -> String {
    let author = plain(&item["author"]);
    let short = author.get(..6).unwrap_or(&author).to_owned();
    format!("{} {short}/{}", plain(&item["kind"]), plain(&item["seq"]))
}

fn parents(item: &Value) -> impl Iterator<Item = String> {
    item["parents"].as_array().into_iter().flatten().map(plain)
}
