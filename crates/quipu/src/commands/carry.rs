//! Bundles: events and artifacts in a file (MESH-9). See `docs/formats/bundle.md`.

use std::fs::File;
use std::io::{BufReader, BufWriter, Read};
use std::path::Path;

use data_encoding::BASE64;
use quipu_core::event::Log;
use quipu_core::id::{ArtifactId, DomainId};
use quipu_node::ArtifactPolicy;
use quipu_node::api::{ApiError, ExitCode, Request, Tip, artifact_error};
use quipu_node::bundle::{BundleReader, BundleWriter};
use quipu_node::home::Home;
use serde::Deserialize;
use serde_json::{Value, json};

use crate::cli::{Bundle, Global};
use crate::client::Client;
use crate::{output, start};

#[derive(Deserialize)]
struct Tips {
    tips: Vec<Tip>,
}

pub(crate) fn bundle(global: &Global, bundle: Bundle) -> Result<ExitCode, ApiError> {
    let home = start::find_home(global)?;
    let object = match bundle {
        Bundle::Export { file, tips, artifacts, all_artifacts } => {
            let tips = tips.map(|path| read_tips(&path)).transpose()?.unwrap_or_default();
            let load = Load { tips, all_artifacts, policy: artifacts };
            export(global, &mut Client::about(global)?, &home, &file, load)?
        }
        Bundle::Import { file } => import(global, &home, Client::open(&home)?, &file)?,
    };
    if global.json {
        output::json(&object)?
    } else {
        output::fields(&object)?
    }
    Ok(ExitCode::Done)
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

/// What goes into a bundle.
struct Load {
    tips: Vec<Tip>,
    all_artifacts: bool,
    /// Which of the artifacts.
    policy: ArtifactPolicy,
}

/// Writes aside and renames, so that a cut bundle never has the name of a whole one.
fn export(
    global: &Global,
    client: &mut Client,
    home: &Home,
    path: &Path,
    load: Load,
) -> Result<Value, ApiError> {
    let aside = path.with_extension("part");
    let file = File::create(&aside).map_err(|error| at(&aside, &error))?;
    let (domain, log) = log_of(client, home)?;
    let mut out = BundleWriter::begin(BufWriter::new(file), &domain, log)?;
    let bar = output::progress(global.quiet, Some(0), "events");
    let (mut events, mut artifacts) = (0u64, Vec::new());
    let Load { tips, all_artifacts, policy } = load;
    client.ask(Request::BundleExport { tips, all_artifacts }, &mut |item| {
        if let Some(total) = item["total"].as_u64() {
            bar.set_length(total);
            return Ok(());
        }
        if let Some(key) = item["artifact"].as_str() {
            let key: ArtifactId = key.parse().map_err(std::io::Error::other)?;
            artifacts.extend(item["size"].as_u64().map(|size| (key, size)));
            return Ok(());
        }
        let packed = item["packed"].as_str().unwrap_or_default();
        let packed = BASE64.decode(packed.as_bytes()).map_err(std::io::Error::other)?;
        out.put(&packed)?;
        events += item["events"].as_u64().unwrap_or(0);
        bar.set_position(events);
        Ok(())
    })?;
    bar.finish_and_clear();
    out.end_events()?;
    artifacts.retain(|(_, size)| policy.wants(*size));
    put_artifacts(global, home, &artifacts, &mut out)?;
    let (out, bytes) = out.end()?;
    let file = out.into_inner().map_err(|error| at(&aside, error.error()))?;
    file.sync_all().map_err(|error| at(&aside, &error))?;
    std::fs::rename(&aside, path).map_err(|error| at(path, &error))?;
    Ok(json!({ "events": events, "artifacts": artifacts.len(), "bytes": bytes }))
}

/// The log that the client asks about.
fn log_of(client: &mut Client, home: &Home) -> Result<(DomainId, Log), ApiError> {
    if !client.is_about_published() {
        return Ok((home.domain()?, Log::Internal));
    }
    let domain = client.one(Request::Status { at: None })?["domain"].clone();
    let domain = domain.as_str().and_then(|text| text.parse().ok());
    let bug = || ApiError::new(ExitCode::Bug, "a log without a domain");
    Ok((domain.ok_or_else(bug)?, Log::Published))
}

fn put_artifacts(
    global: &Global,
    home: &Home,
    artifacts: &[(ArtifactId, u64)],
    out: &mut BundleWriter<BufWriter<File>>,
) -> Result<(), ApiError> {
    if artifacts.is_empty() {
        return Ok(());
    }
    let store = super::artifacts::store(home)?;
    let bar = output::bytes_progress(global.quiet, Some(artifacts.iter().map(|a| a.1).sum()), "");
    for (key, size) in artifacts {
        let mut bytes = store.open_verified(key).map_err(|error| artifact_error(&error))?;
        out.artifact(key, *size, &mut bytes).map_err(|error| {
            ApiError::new(ExitCode::Storage, format!("artifact {key}: {error}"))
        })?;
        bar.inc(*size);
    }
    bar.finish_and_clear();
    Ok(())
}

fn at(path: &Path, error: &std::io::Error) -> ApiError {
    ApiError::new(ExitCode::Storage, format!("{}: {error}", path.display()))
}

fn import(
    global: &Global,
    home: &Home,
    mut client: Client,
    path: &Path,
) -> Result<Value, ApiError> {
    let cut = |what: &str| {
        ApiError::refused(format!("{}: {what}", path.display())).hint("copy or export it again")
    };
    let reader = BufReader::new(super::simple::open(path)?);
    let mut reader = BundleReader::begin(reader).map_err(cut)?;
    let (held, given) = (home.domain()?, reader.domain);
    if reader.log == Log::Published {
        client.one(Request::Keep { domain: given.to_string() })?;
        client = client.of(Some(given.to_string()));
    } else if given != held {
        let message = format!("this machine holds domain {held}, the bundle is of domain {given}");
        return Err(ApiError::refused(message).hint("check the directory: quipu id"));
    }
    let bar = output::progress(global.quiet, None, "events");
    while let Some(packed) = reader.take().map_err(cut)? {
        let item = client.one(Request::ImportPack { packed: BASE64.encode(&packed) })?;
        bar.inc(item["events"].as_u64().unwrap_or(0));
    }
    bar.finish_and_clear();
    let end = client.one(Request::ImportEnd)?;
    let artifacts = import_artifacts(home, &mut client, &mut reader, &cut)?;
    Ok(json!({
        "events": end["events"],
        "artifacts": artifacts,
        "bytes": reader.bytes,
        "waiting": end["waiting"],
    }))
}

/// Artifacts are hashed while they are copied aside; the machine moves those to their place that are what
/// they say and that its log tells of. Answers how many were new.
fn import_artifacts(
    home: &Home,
    client: &mut Client,
    reader: &mut BundleReader<impl Read>,
    cut: &dyn Fn(&str) -> ApiError,
) -> Result<u64, ApiError> {
    let store = super::artifacts::store(home)?;
    let mut new = 0;
    while let Some(mut artifact) = reader.artifact().map_err(cut)? {
        let (key, size) = (artifact.key, artifact.size);
        let imported = store.import(&mut artifact, &mut |_| ());
        let imported = imported.map_err(|error| match artifact.failed {
            Some(what) => cut(what),
            None => artifact_error(&error),
        })?;
        if (imported.key, imported.size) != (key, size) {
            store.discard(imported);
            return Err(cut(&format!("the bytes of artifact {key} are of another one")));
        }
        let (import, size) = (imported.name.clone(), imported.size);
        let answer = client.one(Request::Adopt { import, key: key.to_string(), size });
        let is_new = answer.as_ref().is_ok_and(|answer| answer["new"] == true);
        if !is_new {
            store.discard(imported);
        }
        answer?;
        new += u64::from(is_new);
    }
    Ok(new)
}
