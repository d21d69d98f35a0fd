//! Programs, runs, receipts.

use std::fs::File;
use std::io::Read;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use indicatif::ProgressBar;
use quipu_artifact::ArtifactStore;
use quipu_core::id::{ArtifactId, NodeKey};
use quipu_exec::attest::{Envelope, IN_TOTO_TYPE, Lineage, to_dot, to_prov_json, to_statement};
use quipu_exec::limits::PROGRAM_BYTES_MAX;
use quipu_exec::program::{Program, Syntax, build};
use quipu_exec::watch::{Ended, Meter, Watch};
use quipu_node::api::{ApiError, ExitCode, Request, artifact_error};
use quipu_run::{Outcome, Wish, Workplace};
use serde_json::{Value, json};

use super::artifacts::store;
use super::watch::Follow;
use crate::cli::{Global, LineageFormat, ProgramCommand};
use crate::client::Client;
use crate::output::{self, plain};
use crate::start;

/// The type tag of programs.
const PROGRAM_TYPE: &str = "quipu/program";
/// The type tag of modules.
const MODULE_TYPE: &str = "application/wasm";

/// Shows the steps of a run on a terminal.
struct Progress(ProgressBar);

impl Watch for Progress {
    fn begin(&self, step: &str, _meter: &Arc<Meter>) {
        self.0.set_message(step.to_owned());
    }

    fn end(&self, _step: &str, _how: Ended) {
        self.0.inc(1);
    }
}

fn progress(global: &Global, what: &str) -> Progress {
    Progress(output::progress(global.quiet, None, what))
}

fn workplace(global: &Global) -> Result<Workplace<Client>, ApiError> {
    let home = start::find_home(global)?;
    // Bytes that are not here may have to come from peers.
    let client = Client::open_with(&home, true)?;
    Workplace::open(&home, client)
}

pub(crate) fn program(global: &Global, command: ProgramCommand) -> Result<ExitCode, ApiError> {
    match command {
        ProgramCommand::Build { file, check } => build_program(global, &file, check),
        ProgramCommand::Show { key } => show_program(global, &key),
    }
}

/// Reads a source that is not larger than one may be.
fn source(file: &Path) -> Result<String, ApiError> {
    let name = file.display();
    let mut text = String::new();
    let limit = PROGRAM_BYTES_MAX as u64 + 1;
    let read = super::simple::open(file)?.take(limit).read_to_string(&mut text);
    read.map_err(|error| ApiError::refused(format!("{name}: {error}")).hint("a program is text"))?;
    if text.len() > PROGRAM_BYTES_MAX {
        let message = format!("{name}: a program has at most {PROGRAM_BYTES_MAX} bytes");
        return Err(ApiError::refused(message));
    }
    Ok(text)
}

fn build_program(global: &Global, file: &Path, check: bool) -> Result<ExitCode, ApiError> {
    let text = source(file)?;
    let home = start::find_home(global)?;
    let (store, mut client) = (store(&home)?, Client::open(&home)?);
    let base = file.parent().unwrap_or(Path::new("."));
    let mut modules = |path: &str| -> Result<ArtifactId, String> {
        let path = base.join(path);
        let said = |error: &dyn std::fmt::Display| format!("{}: {error}", path.display());
        let module = File::open(&path).map_err(|error| said(&error))?;
        if check {
            let mut hasher = blake3::Hasher::new();
            hasher.update_reader(module).map_err(|error| said(&error))?;
            return Ok(ArtifactId(*hasher.finalize().as_bytes()));
        }
        put(&mut client, &store, module, MODULE_TYPE).map_err(|error| said(&error))
    };
    let built = build(&text, Syntax::of(&text), &mut modules);
    for message in &built.messages {
        output::note(false, &format!("{}:{message}", file.display()));
    }
    let Some(program) = built.program else {
        let errors = built.messages.iter().filter(|message| message.is_error).count();
        let message = format!("{}: {errors} errors, so there is no program", file.display());
        return Err(ApiError::refused(message).hint("docs/formats/program.md has the format"));
    };
    let bytes = program.encode();
    let key = match check {
        true => ArtifactId::of(&bytes),
        false => put(&mut client, &store, &bytes[..], PROGRAM_TYPE)?,
    };
    let row = json!({
        "key": key.to_string(),
        "name": program.name,
        "steps": program.steps.len(),
        "inputs": program.run_inputs(),
        "outputs": program.outputs.keys().collect::<Vec<_>>(),
    });
    if global.json {
        output::json(&row)?;
    } else {
        output::line(&plain(&row["key"]))?;
    }
    Ok(ExitCode::Done)
}

fn put(
    client: &mut Client,
    store: &ArtifactStore,
    from: impl std::io::Read,
    type_tag: &str,
) -> Result<ArtifactId, ApiError> {
    let imported = store.import(from, &mut |_| ()).map_err(|error| artifact_error(&error))?;
    let key = imported.key;
    let (import, size) = (imported.name.clone(), imported.size);
    let type_tag = Some(type_tag.to_owned());
    let put = client.one(Request::Put { import, key: key.to_string(), size, type_tag });
    if put.is_err() {
        store.discard(imported);
    }
    put.map(|_| key)
}

fn show_program(global: &Global, key: &str) -> Result<ExitCode, ApiError> {
    let bytes = workplace(global)?.program_bytes(key)?;
    let program =
        Program::decode(&bytes).map_err(|error| ApiError::refused(format!("{key}: {error}")))?;
    let value = quipu_core::value::decode(&bytes)
        .map_err(|error| ApiError::new(ExitCode::Bug, error.to_string()))?;
    let value = quipu_core::value::to_json(&value);
    if global.json {
        output::json(&value)?;
        return Ok(ExitCode::Done);
    }
    output::note(global.quiet, &program.name.unwrap_or_else(|| "a program without a name".into()));
    let text = serde_json::to_string_pretty(&value)
        .map_err(|error| ApiError::new(ExitCode::Bug, error.to_string()))?;
    output::line(&text)?;
    Ok(ExitCode::Done)
}

pub(crate) fn run(
    global: &Global,
    wish: &Wish,
    elsewhere: Option<Duration>,
    watch: bool,
) -> Result<ExitCode, ApiError> {
    let place = workplace(global)?;
    let follow = Follow::new(global, watch);
    let outcome = match elsewhere {
        Some(patience) => place.run_elsewhere(wish, patience, &mut |news| follow.tell(news)),
        None => place.run(wish, follow.as_ref()),
    };
    follow.end();
    let outcome = outcome?;
    let row = outcome.to_json();
    if global.json {
        output::json(&row)?;
    } else {
        show_outcome(&outcome)?;
    }
    if outcome.counts {
        return Ok(ExitCode::Done);
    }
    let why = match outcome.others.len() {
        0 => format!(
            "{} of {} machines of the roster have this receipt: it does not count yet",
            outcome.witnesses.0, wish.required
        ),
        _ => "other machines have another receipt of the same run: none of them counts".to_owned(),
    };
    output::note(false, &why);
    output::note(global.quiet, "hint: quipu receipts, quipu receipt verify KEY, quipu roster");
    Ok(ExitCode::Problem)
}

fn show_outcome(outcome: &Outcome) -> std::io::Result<()> {
    output::line(&format!("receipt  {}", outcome.receipt))?;
    output::line(&format!("steps    {} run, {} reused", outcome.steps_run, outcome.steps_reused))?;
    let mut table = output::table(&["output", "key", "size"]);
    for (name, kept) in &outcome.outputs {
        table.add_row([name.clone(), kept.key.to_string(), kept.size.to_string()]);
    }
    output::line(&table.to_string())
}

pub(crate) fn receipts(global: &Global, steps: bool) -> Result<ExitCode, ApiError> {
    let mut rows = workplace(global)?.receipts(global.at.clone())?;
    // Steps that contradict each other are shown in any case.
    rows.retain(|row| steps || row["scope"] != "step" || row["diverges"] == true);
    if global.json {
        rows.iter().try_for_each(output::json)?;
        return Ok(ExitCode::Done);
    }
    let columns = ["receipt", "run", "scope", "node", "have", "diverges"];
    let mut table = output::table(&columns);
    for row in &rows {
        table.add_row(columns.map(|column| match column {
            "run" | "node" => plain(&row[column]).chars().take(16).collect(),
            _ => plain(&row[column]),
        }));
    }
    output::line(&table.to_string())?;
    for row in rows.iter().filter(|row| row["first_difference"].is_object()) {
        let difference = &row["first_difference"];
        output::line(&format!(
            "{} differs from {} first in step {}, output {}",
            plain(&row["receipt"]),
            plain(&row["differs_from"]),
            plain(&difference["step"]),
            plain(&difference["output"])
        ))?;
    }
    Ok(ExitCode::Done)
}

pub(crate) fn show(global: &Global, key: &str) -> Result<ExitCode, ApiError> {
    let value = workplace(global)?.show(key)?;
    if global.json {
        output::json(&value)?;
    } else {
        output::fields(&value)?;
    }
    Ok(ExitCode::Done)
}

fn judged(global: &Global, row: &Value) -> std::io::Result<()> {
    if global.json { output::json(row) } else { output::fields(row) }
}

pub(crate) fn verify(global: &Global, key: &str) -> Result<ExitCode, ApiError> {
    let watch = progress(global, "step");
    let report = workplace(global)?.verify(key, &watch)?;
    watch.0.finish_and_clear();
    judged(global, &report.to_json())?;
    Ok(if report.ok() { ExitCode::Done } else { ExitCode::Problem })
}

/// Every so many-th, so that as many are left as are wanted.
fn sampled(all: Vec<ArtifactId>, wanted: Option<usize>) -> Vec<ArtifactId> {
    match wanted {
        Some(wanted) if wanted < all.len() => {
            (0..wanted).map(|n| all[n * all.len() / wanted.max(1)]).collect()
        }
        _ => all,
    }
}

pub(crate) fn audit(
    global: &Global,
    snapshot: Option<String>,
    sample: Option<usize>,
) -> Result<ExitCode, ApiError> {
    let place = workplace(global)?;
    let all = place.to_audit(snapshot)?;
    let (total, chosen) = (all.len(), sampled(all, sample));
    let bar = output::progress(global.quiet, Some(chosen.len() as u64), "receipts");
    let mut failed = 0;
    for receipt in &chosen {
        let report = place.audit(receipt, &quipu_exec::watch::Unwatched)?;
        bar.inc(1);
        failed += usize::from(!report.ok());
        if global.json || !report.ok() {
            bar.suspend(|| judged(global, &report.to_json()))?;
        }
    }
    bar.finish_and_clear();
    let summary = format!("{} of {total} receipts run again, {failed} not true", chosen.len());
    output::note(global.quiet, &summary);
    Ok(if failed == 0 { ExitCode::Done } else { ExitCode::Problem })
}

pub(crate) fn lineage(
    global: &Global,
    key: &str,
    down: bool,
    format: LineageFormat,
) -> Result<ExitCode, ApiError> {
    let (subject, lineage) = workplace(global)?.lineage(key, !down)?;
    match format {
        LineageFormat::Table if !global.json => lineage_tables(&lineage.to_json())?,
        LineageFormat::Table | LineageFormat::Json => output::json(&lineage.to_json())?,
        LineageFormat::Dot => output::line(to_dot(&lineage).trim_end())?,
        LineageFormat::ProvJson => output::json(&to_prov_json(&lineage))?,
        LineageFormat::InToto => output::json(&attestation(global, &lineage, subject)?)?,
    }
    Ok(ExitCode::Done)
}

fn lineage_tables(lineage: &Value) -> std::io::Result<()> {
    let cell = |value: &Value| if value.is_null() { String::new() } else { plain(value) };
    for (list, columns) in [
        ("nodes", &["id", "label", "type_tag", "size", "domain"][..]),
        ("edges", &["from", "relation", "as", "to"][..]),
    ] {
        let mut table = output::table(columns);
        for row in lineage[list].as_array().into_iter().flatten() {
            table.add_row(columns.iter().map(|column| cell(&row[*column])));
        }
        output::line(&table.to_string())?;
    }
    Ok(())
}

/// The statement about an artifact, signed with this machine's key.
fn attestation(global: &Global, lineage: &Lineage, subject: ArtifactId) -> Result<Value, ApiError> {
    let key = start::find_home(global)?.key()?;
    let node = NodeKey(key.verifying_key().to_bytes()).to_string();
    let statement = to_statement(lineage, subject, &node).ok_or_else(|| {
        ApiError::refused(format!("nothing is known of how {subject} was made"))
            .hint("quipu trace KEY")
    })?;
    let payload = statement.to_string().into_bytes();
    let sign = |bytes: &[u8]| ed25519_dalek::Signer::sign(&key, bytes).to_bytes();
    Ok(Envelope::sign(IN_TOTO_TYPE, payload, &node, sign).to_json())
}
