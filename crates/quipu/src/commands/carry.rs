//! Bundles: events in a file (MESH-9). See `docs/formats/bundle.md`.

use std::fs::File;
use std::io::{BufReader, BufWriter, Read};
use std::path::Path;

use data_encoding::BASE64;
use quipu_core::id::DomainId;
use quipu_node::api::{ApiError, Request, Tip};
use quipu_node::bundle::{BundleReader, BundleWriter};
use serde::Deserialize;
use serde_json::{Value, json};

use crate::cli::{Bundle, Global};
use crate::client::Client;
use crate::{output, start};

#[derive(Deserialize)]
struct Tips {
    tips: Vec<Tip>,
}

pub(crate) fn bundle(
    global: &Global,
    bundle: Bundle,
) -> Result<quipu_node::api::ExitCode, ApiError> {
    let home = start::find_home(global)?;
    let domain = home.domain()?;
    let mut client = Client::open(&home)?;
    let object = match bundle {
        Bundle::Export { file, tips } => {
            let tips = tips.map(|path| read_tips(&path)).transpose()?.unwrap_or_default();
            export(global, &mut client, domain, &file, tips)?
        }
        Bundle::Import { file } => import(global, &mut client, domain, &file)?,
    };
    if global.json {
        output::json(&object)?
    } else {
        output::fields(&object)?
    }
    Ok(quipu_node::api::ExitCode::Done)
}

fn read_tips(path: &Path) -> Result<Vec<Tip>, ApiError> {
    let mut text = String::new();
    let mut file = super::simple::open(path)?;
    file.read_to_string(&mut text)?;
    let tips: Tips = serde_json::from_str(&text).map_err(|error| {
        ApiError::refused(format!("{}: {error}", path.display()))
            .hint("make it with: quipu frontier --json > TIPS.json")
    })?;
    Ok(tips.tips)
}

/// Writes aside and renames, so that a cut bundle never has the name of a whole one.
fn export(
    global: &Global,
    client: &mut Client,
    domain: DomainId,
    path: &Path,
    tips: Vec<Tip>,
) -> Result<Value, ApiError> {
    let aside = path.with_extension("part");
    let file = File::create(&aside).map_err(|error| at(&aside, &error))?;
    let mut out = BundleWriter::begin(BufWriter::new(file), &domain)?;
    let bar = output::progress(global.quiet, Some(0), "events");
    let mut events = 0u64;
    client.ask(Request::BundleExport { tips }, &mut |item| {
        if let Some(total) = item["total"].as_u64() {
            bar.set_length(total);
            return Ok(());
        }
        let packed = item["packed"].as_str().unwrap_or_default();
        let packed = BASE64.decode(packed.as_bytes()).map_err(std::io::Error::other)?;
        out.put(&packed)?;
        events += item["events"].as_u64().unwrap_or(0);
        bar.set_position(events);
        Ok(())
    })?;
    let (out, bytes) = out.end()?;
    bar.finish_and_clear();
    let file = out.into_inner().map_err(|error| at(&aside, error.error()))?;
    file.sync_all().map_err(|error| at(&aside, &error))?;
    std::fs::rename(&aside, path).map_err(|error| at(path, &error))?;
    Ok(json!({ "events": events, "artifacts": 0, "bytes": bytes }))
}

fn at(path: &Path, error: &std::io::Error) -> ApiError {
    ApiError::new(quipu_node::api::ExitCode::Storage, format!("{}: {error}", path.display()))
}

fn import(
    global: &Global,
    client: &mut Client,
    domain: DomainId,
    path: &Path,
) -> Result<Value, ApiError> {
    let cut = |what: &str| {
        ApiError::refused(format!("{}: {what}", path.display())).hint("copy or export it again")
    };
    let reader = BufReader::new(super::simple::open(path)?);
    let mut reader = BundleReader::begin(reader).map_err(cut)?;
    if reader.domain != domain {
        let given = reader.domain;
        let message =
            format!("this machine holds domain {domain}, the bundle is of domain {given}");
        return Err(ApiError::refused(message).hint("check the directory: quipu id"));
    }
    let bar = output::progress(global.quiet, None, "events");
    while let Some(packed) = reader.take().map_err(cut)? {
        let item = client.one(Request::ImportPack { packed: BASE64.encode(&packed) })?;
        bar.inc(item["events"].as_u64().unwrap_or(0));
    }
    bar.finish_and_clear();
    let end = client.one(Request::ImportEnd)?;
    Ok(json!({
        "events": end["events"],
        "artifacts": 0,
        "bytes": reader.bytes,
        "waiting": end["waiting"],
    }))
}
