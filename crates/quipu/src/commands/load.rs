//! Events in: files that `export` wrote, and git repositories.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader};
use std::path::Path;

use data_encoding::BASE64;
use quipu_core::codec::pack::{self, Context, Nothing};
use quipu_core::codec::v1;
use quipu_core::event::{Event, EventSignature};
use quipu_core::id::{DomainId, EventId, PayloadId};
use quipu_core::limits::FRAME_EVENTS_MAX;
use quipu_core::value::{self, Value as Payload};
use quipu_node::api::{ApiError, ExitCode, Request};
use serde_json::{Value, json};

use super::{git, records, simple};
use crate::car::Blocks;
use crate::cli::{Global, LoadFormat};
use crate::client::Client;
use crate::{output, start};

/// Payload bytes after which a batch is sent.
const BATCH_BYTES: usize = 1 << 20;

pub(crate) fn load(global: &Global, format: LoadFormat, file: &Path) -> Result<ExitCode, ApiError> {
    let home = start::find_home(global)?;
    let domain = home.domain()?;
    let mut client = Client::open(&home)?;
    let object = match format {
        LoadFormat::Meshlog => return records::load_meshlog(global, &mut client, file),
        LoadFormat::Git => git::load(global, &mut client, file)?,
        LoadFormat::Ndjson => load_ndjson(global, &mut client, domain, file)?,
        LoadFormat::Car => load_car(global, &mut client, domain, file)?,
    };
    if global.json {
        output::json(&object)?
    } else {
        output::fields(&object)?
    }
    Ok(ExitCode::Done)
}

/// Sends events on in packed batches; the machine checks every hash and signature.
struct Loader<'a> {
    client: &'a mut Client,
    context: Context,
    batch: Vec<Event>,
    bytes: usize,
    bar: indicatif::ProgressBar,
}

impl<'a> Loader<'a> {
    fn new(global: &Global, client: &'a mut Client) -> Self {
        let bar = output::progress(global.quiet, None, "events");
        Self { client, context: Context::writer(), batch: Vec::new(), bytes: 0, bar }
    }

    fn push(&mut self, event: Event) -> Result<(), ApiError> {
        self.bytes += event.payload.as_ref().map_or(0, |payload| payload.len());
        self.batch.push(event);
        if self.batch.len() >= FRAME_EVENTS_MAX || self.bytes >= BATCH_BYTES {
            self.send()?;
        }
        Ok(())
    }

    fn send(&mut self) -> Result<(), ApiError> {
        if self.batch.is_empty() {
            return Ok(());
        }
        let packed = pack::encode(&self.batch, &mut self.context, &Nothing);
        self.client.one(Request::ImportPack { packed: BASE64.encode(&packed) })?;
        self.bar.inc(self.batch.len() as u64);
        self.batch.clear();
        self.bytes = 0;
        Ok(())
    }

    fn finish(mut self) -> Result<Value, ApiError> {
        self.send()?;
        self.bar.finish_and_clear();
        let end = self.client.one(Request::ImportEnd)?;
        Ok(json!({ "events": end["events"], "waiting": end["waiting"] }))
    }
}

/// Puts an event together from its body, and checks that it is of this domain.
fn event_of(
    body: &[u8],
    payload: Option<Vec<u8>>,
    signature: Option<EventSignature>,
    domain: &DomainId,
) -> Result<Event, ApiError> {
    let refused = |text: String| ApiError::refused(text);
    let (header, of) = v1::decode_body(body).map_err(|error| refused(error.to_string()))?;
    let of = of.unwrap_or_else(|| DomainId(EventId::of(body).0));
    if of != *domain {
        return Err(refused(format!("this machine holds domain {domain}, the event is of {of}")));
    }
    if let Some(block) = &payload
        && PayloadId::of(block) != header.payload.id
    {
        return Err(refused(format!("the payload of {} does not fit", EventId::of(body))));
    }
    let mut event = Event::new(header, payload.map(Into::into), domain);
    event.signature = signature;
    Ok(event)
}

fn load_ndjson(
    global: &Global,
    client: &mut Client,
    domain: DomainId,
    file: &Path,
) -> Result<Value, ApiError> {
    let reader = BufReader::with_capacity(1 << 20, simple::open(file)?);
    let mut loader = Loader::new(global, client);
    for (index, line) in reader.lines().enumerate() {
        let number = index + 1;
        let at = |error: ApiError| ApiError {
            message: format!("line {number}: {}", error.message),
            ..error
        };
        let line = line.map_err(|error| at(ApiError::refused(error.to_string())))?;
        if line.trim().is_empty() {
            continue;
        }
        match ndjson_event(&line, &domain).map_err(at) {
            Ok(event) => loader.push(event)?,
            Err(error) => {
                drop(loader.finish());
                return Err(error);
            }
        }
    }
    loader.finish()
}

fn ndjson_event(line: &str, domain: &DomainId) -> Result<Event, ApiError> {
    let object: Value =
        serde_json::from_str(line).map_err(|error| ApiError::refused(error.to_string()))?;
    let bytes = |value: &Value| -> Result<Option<Vec<u8>>, ApiError> {
        let text = value.as_str();
        text.map(|text| BASE64.decode(text.as_bytes()))
            .transpose()
            .map_err(|error| ApiError::refused(error.to_string()))
    };
    let body = bytes(&object["block"])?
        .ok_or_else(|| ApiError::refused("no `block`").hint("quipu export --format ndjson"))?;
    let own = object["proof"]["signed"] == object["uuid"];
    let signature = bytes(&object["proof"]["signature"])?.filter(|_| own);
    let signature = signature.and_then(|bytes| bytes.try_into().ok()).map(EventSignature);
    event_of(&body, bytes(&object["payload_block"])?, signature, domain)
}

/// A CAR may have its blocks in any order, so all are read before the first event goes on.
fn load_car(
    global: &Global,
    client: &mut Client,
    domain: DomainId,
    file: &Path,
) -> Result<Value, ApiError> {
    let refused = |error: std::io::Error| ApiError::refused(format!("{}: {error}", file.display()));
    let reader = BufReader::with_capacity(1 << 20, simple::open(file)?);
    let mut blocks = Blocks::open(reader).map_err(refused)?;
    let mut bodies: Vec<(EventId, Vec<u8>)> = Vec::new();
    let mut others: BTreeMap<EventId, Vec<u8>> = BTreeMap::new();
    let mut signatures: BTreeMap<EventId, EventSignature> = BTreeMap::new();
    while let Some((id, block)) = blocks.next().map_err(refused)? {
        if v1::decode_body(&block).is_ok() {
            bodies.push((id, block));
        } else if !take_signatures(&block, &mut signatures) {
            others.insert(id, block);
        }
    }
    let mut events = Vec::with_capacity(bodies.len());
    for (id, body) in bodies {
        let (header, _) = v1::decode_body(&body).map_err(|e| ApiError::refused(e.to_string()))?;
        let payload = others.get(&EventId(header.payload.id.0)).cloned();
        events.push(event_of(&body, payload, signatures.get(&id).copied(), &domain)?);
    }
    // The replay order has links before what links to them.
    events.sort_by_key(Event::order);
    let mut loader = Loader::new(global, client);
    events.into_iter().try_for_each(|event| loader.push(event))?;
    loader.finish()
}

fn take_signatures(block: &[u8], into: &mut BTreeMap<EventId, EventSignature>) -> bool {
    let Ok(decoded) = value::decode(block) else { return false };
    let Some(list) = decoded.get("signatures").and_then(Payload::as_list) else { return false };
    for pair in list {
        let parts = pair.as_list().unwrap_or_default();
        if let [link, signature] = parts
            && let Some(id) = link.as_link().and_then(|link| link.digest(EventId::PREFIX))
            && let Some(bytes) = signature.as_bytes().and_then(|bytes| bytes.try_into().ok())
        {
            into.insert(EventId(id), EventSignature(bytes));
        }
    }
    true
}
