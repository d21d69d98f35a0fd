//! Commands that are one request, or a few.

use std::fs::File;
use std::io::{self, BufRead, BufReader, Read};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use quipu_core::event::Log;
use quipu_core::id::{DomainId, NodeKey};
use quipu_node::api::{ApiError, ExitCode, NewEvent, Request, artifact_error};
use quipu_state::State;
use quipu_store::{RealDisk, Store, StoreOptions};
use serde_json::value::RawValue;
use serde_json::{Value, json};

use super::found::parse_ticket;
use crate::cli::{Global, Member};
use crate::client::Client;
use crate::output::{self, plain};
use crate::start;

/// Events of a batch that share a request, and with it an fsync.
const BATCH_EVENTS: usize = 2_000;
/// Payload bytes after which a request is sent.
const BATCH_BYTES: usize = 4 << 20;

fn client(global: &Global) -> Result<Client, ApiError> {
    Client::about(global)
}

/// A request with one object as its answer.
pub(crate) fn one(global: &Global, request: Request) -> Result<ExitCode, ApiError> {
    let object = client(global)?.one(request)?;
    if global.json {
        output::json(&object)?
    } else {
        output::fields(&object)?
    }
    Ok(ExitCode::Done)
}

/// A request with a list as its answer: NDJSON, or a table with these columns.
pub(crate) fn list(
    global: &Global,
    request: Request,
    columns: &[&str],
) -> Result<ExitCode, ApiError> {
    let mut table = output::table(columns);
    let json = global.json;
    client(global)?.ask(request, &mut |item| {
        if json {
            return output::json(&item);
        }
        table.add_row(columns.iter().map(|column| plain(&item[*column])));
        Ok(())
    })?;
    if !json {
        output::line(&table.to_string())?;
    }
    Ok(ExitCode::Done)
}

pub(crate) fn members(global: &Global) -> Result<ExitCode, ApiError> {
    list(global, Request::Members { at: global.at.clone() }, &["node", "role", "since"])
}

pub(crate) fn member(global: &Global, member: Member) -> Result<ExitCode, ApiError> {
    one(
        global,
        match member {
            Member::Add { key, role } => {
                Request::MemberAdd { node: key, role: role.name().to_owned() }
            }
            Member::Remove { key } => Request::MemberRemove { node: key },
            Member::Readmit { key, up_to } => Request::MemberReadmit { node: key, upto: up_to },
            Member::Rotate => return super::found::rotate(global),
        },
    )
}

pub(crate) fn frontier(global: &Global) -> Result<ExitCode, ApiError> {
    let object = client(global)?.one(Request::Frontier { at: global.at.clone() })?;
    if global.json {
        output::json(&object)?;
        return Ok(ExitCode::Done);
    }
    let mut table = output::table(&["author", "seq", "id"]);
    for tip in object["tips"].as_array().into_iter().flatten() {
        table.add_row(["author", "seq", "id"].map(|column| plain(&tip[column])));
    }
    output::line(&table.to_string())?;
    Ok(ExitCode::Done)
}

pub(crate) fn doctor(global: &Global) -> Result<ExitCode, ApiError> {
    let object = client(global)?.one(Request::Doctor)?;
    let findings = object["findings"].as_array().cloned().unwrap_or_default();
    if global.json {
        output::json(&object)?;
        return Ok(ExitCode::Done);
    }
    let mb = |field: &str| object["disk"][field].as_u64().unwrap_or_default() / 1_000_000;
    output::line(&format!(
        "the store takes {} MB; the disk has {} MB free of {} MB",
        mb("store_bytes"),
        mb("free_bytes"),
        mb("total_bytes")
    ))?;
    if findings.is_empty() {
        output::line("nothing to complain about")?;
    } else {
        for finding in &findings {
            let (what, object) = (plain(&finding["what"]), plain(&finding["object"]));
            output::line(&format!("{what}: {object} {}", plain(&finding["detail"])))?;
            output::line(&format!("  hint: {}", plain(&finding["hint"])))?;
        }
    }
    Ok(ExitCode::Done)
}

pub(crate) fn show(global: &Global, id: String) -> Result<ExitCode, ApiError> {
    let object = client(global)?.one(Request::Show { id })?;
    if global.json {
        output::json(&object)?;
    } else {
        let mut shown = object;
        if let Some(map) = shown.as_object_mut() {
            // Bytes are for programs: --json has them.
            for field in ["block", "payload_block", "proof"] {
                map.remove(field);
            }
        }
        output::fields(&shown)?;
    }
    Ok(ExitCode::Done)
}

pub(crate) fn log(global: &Global, request: Request) -> Result<ExitCode, ApiError> {
    let json = global.json;
    client(global)?.ask(request, &mut |item| {
        if json {
            return output::json(&item);
        }
        let author = plain(&item["author"]);
        let short = author.get(..8).unwrap_or(&author).to_owned();
        let payload = match &item["payload"] {
            Value::Null => "(no payload)".to_owned(),
            payload => payload.to_string(),
        };
        let ms = item["hlc"][0].as_u64().unwrap_or(0);
        let uuid = plain(&item["uuid"]);
        let tail = uuid.get(uuid.len().saturating_sub(8)..).unwrap_or(&uuid).to_owned();
        output::line(&format!(
            "{} {short} {:>6} {} {payload} ..{tail}",
            utc(ms),
            plain(&item["seq"]),
            plain(&item["kind"]),
        ))
    })?;
    Ok(ExitCode::Done)
}

/// Milliseconds since 1970 as a date and time in UTC (proleptic Gregorian; Hinnant's algorithm).
pub(crate) fn utc(ms: u64) -> String {
    let (days, rest) = (ms / 86_400_000, ms % 86_400_000);
    let z = days + 719_468;
    let (era, doe) = (z / 146_097, z % 146_097);
    let yoe = (doe - doe / 1_460 + doe / 36_524 - doe / 146_096) / 365;
    let doy = doe - (365 * yoe + yoe / 4 - yoe / 100);
    let mp = (5 * doy + 2) / 153;
    let day = doy - (153 * mp + 2) / 5 + 1;
    let month = if mp < 10 { mp + 3 } else { mp - 9 };
    let year = yoe + era * 400 + u64::from(month <= 2);
    let (hour, minute, second) = (rest / 3_600_000, rest / 60_000 % 60, rest / 1_000 % 60);
    format!("{year:04}-{month:02}-{day:02} {hour:02}:{minute:02}:{second:02}")
}

pub(crate) fn emit(
    global: &Global,
    kind: Option<String>,
    payload: Option<String>,
    batch: Option<PathBuf>,
) -> Result<ExitCode, ApiError> {
    let mut client = client(global)?;
    if let Some(path) = batch {
        return emit_batch(global, &mut client, &path);
    }
    let text = match payload.as_deref() {
        None => "null".to_owned(),
        Some("-") => read_text(io::stdin().lock(), "standard input")?,
        Some(text) => match text.strip_prefix('@') {
            Some(file) => read_text(open(Path::new(file))?, file)?,
            None => text.to_owned(),
        },
    };
    let payload = raw_json(&text, "the payload")?;
    let event = NewEvent { kind: kind.unwrap_or_default(), payload: Some(payload) };
    let item = client.one(Request::Emit { events: vec![event] })?;
    print_emitted(global, &item)?;
    Ok(ExitCode::Done)
}

fn print_emitted(global: &Global, item: &Value) -> io::Result<()> {
    if global.json { output::json(item) } else { output::line(&plain(&item["uuid"])) }
}

fn raw_json(text: &str, what: &str) -> Result<Box<RawValue>, ApiError> {
    // The core checks the rest, strictly; this only finds out whether it is JSON at all.
    RawValue::from_string(text.trim().to_owned())
        .map_err(|error| ApiError::refused(format!("{what} is not JSON: {error}")))
}

pub(crate) fn open(path: &Path) -> Result<Box<dyn Read>, ApiError> {
    if path == Path::new("-") {
        return Ok(Box::new(io::stdin().lock()));
    }
    match File::open(path) {
        Ok(file) => Ok(Box::new(file)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            Err(ApiError::not_found(format!("{}: no such file", path.display())))
        }
        Err(error) => Err(ApiError::refused(format!("{}: {error}", path.display()))),
    }
}

fn read_text(mut from: impl Read, what: &str) -> Result<String, ApiError> {
    let mut text = String::new();
    from.read_to_string(&mut text)
        .map_err(|error| ApiError::refused(format!("{what}: {error}")))?;
    Ok(text)
}

/// Each line stands for itself: those before a bad one are stored and printed.
fn emit_batch(global: &Global, client: &mut Client, path: &Path) -> Result<ExitCode, ApiError> {
    let reader = BufReader::with_capacity(1 << 20, open(path)?);
    let mut events: Vec<NewEvent> = Vec::new();
    let (mut bytes, mut stored) = (0, 0u64);
    for (index, line) in reader.split(b'\n').enumerate() {
        let number = index + 1;
        let line = line.map_err(|error| ApiError::refused(format!("line {number}: {error}")))?;
        if line.iter().all(u8::is_ascii_whitespace) {
            continue;
        }
        match batch_line(&line) {
            Ok(event) => {
                bytes += line.len();
                events.push(event);
            }
            Err(error) => {
                stored += send_batch(global, client, &mut events)?;
                let ApiError { code, message, hint } = error;
                let message =
                    format!("line {number}: {message}; {stored} events before it are stored");
                return Err(ApiError { code, message, hint });
            }
        }
        if events.len() >= BATCH_EVENTS || bytes >= BATCH_BYTES {
            stored += send_batch(global, client, &mut events)?;
            bytes = 0;
        }
    }
    send_batch(global, client, &mut events)?;
    Ok(ExitCode::Done)
}

fn batch_line(line: &[u8]) -> Result<NewEvent, ApiError> {
    let event: NewEvent = serde_json::from_slice(line).map_err(|error| {
        ApiError::refused(format!("not an event: {error}"))
            .hint("a line is {\"kind\":\"app.note\",\"payload\":{..}}")
    })?;
    // The same strict rules that the machine applies, so that a bad line does not take others down.
    quipu_node::api::check_event(&event)?;
    Ok(event)
}

fn send_batch(
    global: &Global,
    client: &mut Client,
    events: &mut Vec<NewEvent>,
) -> Result<u64, ApiError> {
    if events.is_empty() {
        return Ok(0);
    }
    let mut stored = 0;
    let request = Request::Emit { events: std::mem::take(events) };
    client.ask(request, &mut |item| {
        stored += 1;
        print_emitted(global, &item)
    })?;
    Ok(stored)
}

pub(crate) fn sync(global: &Global, peer: Option<String>) -> Result<ExitCode, ApiError> {
    let home = start::find_home(global)?;
    let request = match peer {
        Some(text) if text.starts_with("quipu") => {
            let ticket = parse_ticket(&text)?;
            let held = home.domain()?;
            if held.0 != ticket.domain {
                let wanted = quipu_core::id::DomainId(ticket.domain);
                let message =
                    format!("this machine holds domain {held}, the ticket is for domain {wanted}");
                return Err(ApiError::refused(message).hint("quipu join TICKET DIR"));
            }
            Request::Sync { peer: Some(NodeKey(ticket.node).to_string()), addrs: ticket.addrs }
        }
        peer => Request::Sync { peer, addrs: Vec::new() },
    };
    let mut client = Client::open_with(&home, true)?;
    let mut total = json!({});
    client.ask(request, &mut |item| {
        add_up(&mut total, &item);
        Ok(())
    })?;
    if global.json {
        output::json(&total)?
    } else {
        output::fields(&total)?
    }
    Ok(ExitCode::Done)
}

/// Adds the numbers of one exchange to those of the others.
fn add_up(total: &mut Value, item: &Value) {
    if !item["unreachable"].is_null() {
        let mut list = total["unreachable"].as_array().cloned().unwrap_or_default();
        list.push(item["node"].clone());
        total["unreachable"] = list.into();
        return;
    }
    let fields = ["sent_events", "received_events", "bytes_sent", "bytes_received", "round_trips"];
    for field in fields {
        let sum = total[field].as_u64().unwrap_or(0) + item[field].as_u64().unwrap_or(0);
        total[field] = sum.into();
    }
    let equal = total["equal"].as_bool().unwrap_or(true) && item["equal"].as_bool() == Some(true);
    total["equal"] = equal.into();
}

pub(crate) fn verify(global: &Global, rebuild: bool) -> Result<ExitCode, ApiError> {
    let home = start::find_home(global)?;
    let bar = output::working(global.quiet, if rebuild { "rebuilding" } else { "verifying" });
    let report = if rebuild {
        let (events, mut problems) =
            rebuild_log(start::disk(&home)?, home.domain()?, Log::Internal)?;
        let mut published = 0;
        for domain in home.published_domains() {
            let disk = start::disk_at(&home.published_dir(&domain))?;
            match rebuild_log(disk, domain, Log::Published) {
                Ok((events, more)) => {
                    published += events;
                    problems.extend(more);
                }
                // Nothing of it ever came.
                Err(error) if error.code == ExitCode::NotFound => {}
                Err(error) => return Err(error),
            }
        }
        let count = super::artifacts::store(&home)?.count();
        let artifacts = count.map_err(|error| artifact_error(&error))?;
        json!({
            "events": events, "published_events": published,
            "artifacts": artifacts, "problems": problems, "rebuilt": true,
        })
    } else {
        Client::open(&home)?.one(Request::Verify)?
    };
    bar.finish_and_clear();
    let problems = report["problems"].as_array().map_or(0, Vec::len);
    if global.json {
        output::json(&report)?;
    } else {
        for problem in report["problems"].as_array().into_iter().flatten() {
            let (what, object) = (plain(&problem["what"]), plain(&problem["object"]));
            output::line(&format!("{what}: {object}: {}", plain(&problem["detail"])))?;
        }
        output::line(&format!("{} events checked, {problems} problems", report["events"]))?;
        let (bytes, rest) = (problems_of(&report, true), problems_of(&report, false));
        if rest > 0 && !rebuild {
            output::note(global.quiet, "hint: quipu verify --rebuild");
        }
        if bytes > 0 {
            output::note(
                global.quiet,
                "hint: quipu put FILE with the right bytes mends an artifact",
            );
        }
    }
    Ok(if problems == 0 { ExitCode::Done } else { ExitCode::Problem })
}

/// Makes the files of a log anew from what can be read of them. Answers how many events there are, and
/// what could not be saved.
fn rebuild_log(
    disk: Arc<RealDisk>,
    domain: DomainId,
    log: Log,
) -> Result<(u64, Vec<Value>), ApiError> {
    let (store, report) = Store::rebuild(disk, domain, StoreOptions::default())?;
    // What the log adds up to is made again when it is asked for.
    let disk = store.disk().clone();
    State::open(&*disk, domain, log).clear(&*disk).map_err(ApiError::from)?;
    let problems = report.problems.iter();
    let problems =
        problems.map(|p| json!({ "what": p.what, "object": p.object, "detail": p.detail }));
    Ok((report.events, problems.collect()))
}

/// How many problems are with bytes of artifacts, or with anything else.
fn problems_of(report: &Value, artifacts: bool) -> usize {
    let all = report["problems"].as_array().into_iter().flatten();
    all.filter(|problem| (problem["what"] == "artifact") == artifacts).count()
}

/// The command line reference, from the arguments themselves.
pub(crate) fn reference() -> Result<ExitCode, ApiError> {
    use clap::CommandFactory;
    let mut text = String::from(
        "# Command line reference\n\n<!-- Made by `quipu reference`; a test compares. -->\n",
    );
    let mut root = crate::cli::Cli::command();
    root.build();
    describe(&mut root, &mut text, "quipu");
    text.push_str("\n## Exit codes\n\n| code | meaning |\n|---|---|\n");
    for (code, meaning) in ExitCode::ALL {
        text.push_str(&format!("| {} | {meaning} |\n", u8::from(code)));
    }
    output::line(text.trim_end())?;
    Ok(ExitCode::Done)
}

fn describe(command: &mut clap::Command, text: &mut String, name: &str) {
    let help = command.clone().term_width(100).render_long_help().to_string();
    text.push_str(&format!("\n## `{name}`\n\n```text\n{}\n```\n", help.trim_end()));
    let subcommands: Vec<clap::Command> = command
        .get_subcommands()
        .filter(|sub| !sub.is_hide_set() && sub.get_name() != "help")
        .cloned()
        .collect();
    for mut sub in subcommands {
        let full = format!("{name} {}", sub.get_name());
        describe(&mut sub, text, &full);
    }
}
