//! Artifacts, edges and conflicts as lists.

use quipu_node::api::{ApiError, ExitCode, Request};
use serde_json::Value;

use super::simple;
use crate::cli::Global;
use crate::client::Client;
use crate::output::{self, plain};

pub(crate) fn artifacts(global: &Global, hidden: bool) -> Result<ExitCode, ApiError> {
    let request = Request::Artifacts { at: global.at.clone(), hidden };
    simple::list(global, request, &["key", "size", "type_tag", "state", "have"])
}

pub(crate) fn edges(global: &Global, kind: Option<String>) -> Result<ExitCode, ApiError> {
    let request = Request::Edges { at: global.at.clone(), kind };
    let mut client = Client::about(global)?;
    let mut table = output::table(&["from", "type", "to", "role"]);
    client.ask(request, &mut |item| {
        if global.json {
            return output::json(&item);
        }
        table.add_row([
            ends(&item["from"]),
            plain(&item["type"]),
            ends(&item["to"]),
            plain(&item["role"]),
        ]);
        Ok(())
    })?;
    if !global.json {
        output::line(&table.to_string())?;
    }
    Ok(ExitCode::Done)
}

/// The ends of an edge, one below the other.
pub(crate) fn ends(list: &Value) -> String {
    let ends: Vec<String> = list.as_array().into_iter().flatten().map(plain).collect();
    ends.join("\n")
}

pub(crate) fn conflicts(global: &Global) -> Result<ExitCode, ApiError> {
    let mut client = Client::about(global)?;
    let mut open = 0;
    client.ask(Request::Conflicts { at: global.at.clone() }, &mut |item| {
        open += u64::from(item["open"] == true);
        if global.json {
            return output::json(&item);
        }
        let by = match item["resolution"]["by"].as_str() {
            Some("rule") | None => "undecided; the rule takes".to_owned(),
            Some(event) => format!("decided by {event}:"),
        };
        output::line(&format!("{} ({})", plain(&item["id"]), plain(&item["what"])))?;
        for candidate in item["candidates"].as_array().into_iter().flatten() {
            output::line(&format!(
                "  {}  {} bytes  {}",
                plain(&candidate["uuid"]),
                candidate["size"],
                candidate["type_tag"].as_str().unwrap_or("(no type)"),
            ))?;
        }
        let (size, tag) = (&item["resolution"]["size"], &item["resolution"]["type_tag"]);
        output::line(&format!("  {by} {} of {size} bytes", tag.as_str().unwrap_or("(no type)")))
    })?;
    if open > 0 {
        output::note(global.quiet, "hint: quipu conflicts resolve KEY --keep EVENT");
    }
    Ok(if open == 0 { ExitCode::Done } else { ExitCode::Problem })
}
