//! `quipu mesh`.

use quipu_node::api::{ApiError, ExitCode, Request};
use serde_json::Value;

use crate::cli::Global;
use crate::client::Client;
use crate::output::{self, plain};

/// Interfaces, queue and peers of links over the air.
pub(crate) fn status(global: &Global) -> Result<ExitCode, ApiError> {
    let report = Client::about(global)?.one(Request::MeshStatus)?;
    if global.json {
        output::json(&report)?;
        return Ok(ExitCode::Done);
    }
    let or = |value: &Value, other: &str| {
        if value.is_null() { other.to_owned() } else { plain(value) }
    };
    output::line(&format!("helper   {}", or(&report["helper"], "not running")))?;
    if !report["trouble"].is_null() {
        output::line(&format!("trouble  {}", plain(&report["trouble"])))?;
    }
    output::line(&format!("address  {}", or(&report["address"], "none yet")))?;
    output::line(&format!("waiting  {} bytes", plain(&report["queue_bytes"])))?;
    output::line(&interfaces(&report["interfaces"]))?;
    output::line(&peers(&report["peers"]))?;
    if report["mesh"].is_object() {
        nodes(&report["mesh"])?;
    }
    Ok(ExitCode::Done)
}

/// What is known of nodes of meshlogd.
fn nodes(mesh: &Value) -> Result<(), ApiError> {
    let [linked, refused, bad] =
        ["linked", "refused_events", "bad_messages"].map(|field| plain(&mesh[field]));
    output::line(&format!(
        "meshlogd {linked} linked; {refused} events and {bad} messages refused"
    ))?;
    let forks = mesh["forks"].as_array().map(Vec::as_slice).unwrap_or_default();
    if forks.is_empty() {
        return Ok(());
    }
    let mut table = output::table(&["wrote two histories", "place", "held", "other", "signed"]);
    for fork in forks {
        let short = |value: &Value| plain(value).chars().take(12).collect::<String>();
        let signed = if fork["proven"] == true { "yes" } else { "no" };
        let [author, held, other] = [&fork["author"], &fork["ids"][0], &fork["ids"][1]].map(short);
        table.add_row([author, plain(&fork["seq"]), held, other, signed.to_owned()]);
    }
    output::line(&table.to_string())?;
    Ok(())
}

fn interfaces(list: &Value) -> String {
    let mut table = output::table(&["interface", "state", "bit/s", "sent", "received", "air, 1 h"]);
    for interface in list.as_array().into_iter().flatten() {
        let state = if interface["up"] == true { "up" } else { "down" };
        let air = match (&interface["airtime_percent"], &interface["airtime_limit_percent"]) {
            (Value::Null, _) => "no limit".to_owned(),
            (used, limit) => format!("{} of {}%", plain(used), plain(limit)),
        };
        let [name, bitrate, sent, received] = ["name", "bitrate", "sent_bytes", "received_bytes"]
            .map(|field| plain(&interface[field]));
        table.add_row([name, state.to_owned(), bitrate, sent, received, air]);
    }
    table.to_string()
}

fn peers(list: &Value) -> String {
    let mut table =
        output::table(&["peer", "heard", "hops", "dBm", "SNR", "holds", "link", "waiting"]);
    for peer in list.as_array().into_iter().flatten() {
        let name = plain(if peer["node"].is_null() { &peer["address"] } else { &peer["node"] });
        let short = name.get(..12).unwrap_or(&name).to_owned();
        let heard = peer["heard_s"].as_u64().map_or_else(String::new, |s| format!("{s} s ago"));
        let holds = match peer["equal"].as_bool() {
            Some(true) => "the same",
            Some(false) => "other",
            None => "",
        };
        let [hops, rssi, snr, link, waiting] =
            ["hops", "rssi", "snr", "link", "queue_bytes"].map(|field| match &peer[field] {
                Value::Null => String::new(),
                value => plain(value),
            });
        table.add_row([short, heard, hops, rssi, snr, holds.to_owned(), link, waiting]);
    }
    table.to_string()
}
