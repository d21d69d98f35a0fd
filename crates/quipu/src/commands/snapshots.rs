//! Snapshots and folds.

use quipu_node::api::{ApiError, ExitCode, Request};

use super::simple;
use crate::cli::{Global, SnapshotCommand};
use crate::client::Client;
use crate::output::{self, plain};

pub(crate) fn snapshot(global: &Global, command: SnapshotCommand) -> Result<ExitCode, ApiError> {
    match command {
        SnapshotCommand::Create { name } => simple::one(global, Request::SnapshotCreate { name }),
        SnapshotCommand::Drop { snapshot } => {
            simple::one(global, Request::SnapshotDrop { id: snapshot })
        }
        SnapshotCommand::Show { snapshot } => show(global, snapshot),
        SnapshotCommand::Diff { before, after } => diff(global, before, after),
    }
}

/// Exit code 1 if the root is not the one that the snapshot claims.
fn show(global: &Global, id: String) -> Result<ExitCode, ApiError> {
    let mut client = Client::about(global)?;
    let object = client.one(Request::SnapshotShow { id })?;
    if global.json {
        output::json(&object)?
    } else {
        output::fields(&object)?
    }
    Ok(if object["verified"] == true { ExitCode::Done } else { ExitCode::Problem })
}

fn diff(global: &Global, before: String, after: String) -> Result<ExitCode, ApiError> {
    let mut client = Client::about(global)?;
    client.ask(Request::SnapshotDiff { before, after }, &mut |item| {
        if global.json {
            return output::json(&item);
        }
        let sign = match (item["before"].is_null(), item["after"].is_null()) {
            (true, _) => "+",
            (_, true) => "-",
            _ => "~",
        };
        let says = if item["says"].is_null() { &item["subject"] } else { &item["says"] };
        output::line(&format!("{sign} {} {}", plain(&item["kind"]), plain(says)))
    })?;
    Ok(ExitCode::Done)
}

pub(crate) fn list(global: &Global) -> Result<ExitCode, ApiError> {
    let request = Request::Snapshots { at: global.at.clone() };
    simple::list(global, request, &["id", "name", "events", "entries", "root", "dropped"])
}

/// The fold is NDJSON whether or not `--json` is given: its bytes are what is compared.
pub(crate) fn current(global: &Global) -> Result<ExitCode, ApiError> {
    print(global, Request::Current { at: global.at.clone() })
}

fn print(global: &Global, request: Request) -> Result<ExitCode, ApiError> {
    let mut client = Client::about(global)?;
    client.ask(request, &mut |item| output::json(&item))?;
    Ok(ExitCode::Done)
}

pub(crate) fn replay(
    global: &Global,
    snapshot: String,
    explain: bool,
    shards: Option<usize>,
) -> Result<ExitCode, ApiError> {
    let mut client = Client::about(global)?;
    let mut code = ExitCode::Done;
    client.ask(Request::Replay { snapshot, shards }, &mut |item| {
        let Some(report) = item.get("report") else { return output::json(&item) };
        if explain {
            for line in report["plan"].as_array().into_iter().flatten() {
                output::note(false, &plain(line));
            }
        }
        if report["verified"] != true {
            code = ExitCode::Problem;
            let (claimed, found) = (plain(&report["claimed"]), plain(&report["root"]));
            let text = format!("the snapshot claims root {claimed}, but its cut has {found}");
            output::note(false, &text);
        }
        Ok(())
    })?;
    Ok(code)
}

pub(crate) fn provenance(global: &Global, snapshot: Option<String>) -> Result<ExitCode, ApiError> {
    let mut client = Client::about(global)?;
    client.ask(Request::Provenance { snapshot }, &mut |item| {
        if global.json {
            return output::json(&item);
        }
        output::line(&format!(
            "{}  {}  {} events, {} edges",
            plain(&item["snapshot"]),
            item["name"].as_str().unwrap_or("(no name)"),
            item["events"],
            item["edges"],
        ))?;
        let artifacts = item["artifacts"].as_array().into_iter().flatten();
        artifacts.map(plain).try_for_each(|key| output::line(&format!("  {key}")))
    })?;
    Ok(ExitCode::Done)
}

pub(crate) fn federation(global: &Global) -> Result<ExitCode, ApiError> {
    let request = Request::Federation { at: global.at.clone() };
    simple::list(global, request, &["node", "seq", "logseq", "id", "last_snapshot"])
}
