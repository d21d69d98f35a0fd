//! Bundles: events in a file (MESH-9). See `docs/formats/bundle.md`.

use std::fs::File;
use std::io::{BufReader, BufWriter, Read, Write};
use std::path::Path;

use data_encoding::BASE64;
use quipu_core::id::DomainId;
use quipu_node::api::{ApiError, Request, Tip};
use serde::Deserialize;
use serde_json::{Value, json};

use crate::cli::{Bundle, Global};
use crate::client::Client;
use crate::{output, start};

/// The first bytes of a bundle: name and version.
const MAGIC: &[u8; 8] = b"quipuB\x00\x01";
/// The largest record in a bundle.
const RECORD_BYTES_MAX: u32 = 16 << 20;
/// Bytes of the checksum after each record.
const CHECK_BYTES: usize = 8;

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
    let mut out = BufWriter::new(File::create(&aside).map_err(|error| at(&aside, &error))?);
    out.write_all(MAGIC)?;
    out.write_all(&domain.0)?;
    let bar = output::progress(global.quiet, Some(0), "events");
    let (mut events, mut bytes) = (0u64, (MAGIC.len() + domain.0.len()) as u64);
    client.ask(Request::BundleExport { tips }, &mut |item| {
        if let Some(total) = item["total"].as_u64() {
            bar.set_length(total);
            return Ok(());
        }
        let packed = item["packed"].as_str().unwrap_or_default();
        let packed = BASE64.decode(packed.as_bytes()).map_err(std::io::Error::other)?;
        bytes += write_record(&mut out, &packed)?;
        events += item["events"].as_u64().unwrap_or(0);
        bar.set_position(events);
        Ok(())
    })?;
    bytes += write_record(&mut out, &[])?;
    bar.finish_and_clear();
    let file = out.into_inner().map_err(|error| at(&aside, error.error()))?;
    file.sync_all().map_err(|error| at(&aside, &error))?;
    std::fs::rename(&aside, path).map_err(|error| at(path, &error))?;
    Ok(json!({ "events": events, "artifacts": 0, "bytes": bytes }))
}

fn at(path: &Path, error: &std::io::Error) -> ApiError {
    ApiError::new(quipu_node::api::ExitCode::Storage, format!("{}: {error}", path.display()))
}

/// A record: length, bytes, checksum. The record of length 0 is the last one.
fn write_record(out: &mut impl Write, bytes: &[u8]) -> std::io::Result<u64> {
    let length = u32::try_from(bytes.len()).map_err(std::io::Error::other)?;
    out.write_all(&length.to_le_bytes())?;
    out.write_all(bytes)?;
    out.write_all(&checksum(bytes))?;
    Ok(4 + u64::from(length) + CHECK_BYTES as u64)
}

fn checksum(bytes: &[u8]) -> [u8; CHECK_BYTES] {
    let mut check = [0; CHECK_BYTES];
    check.copy_from_slice(&quipu_core::id::ArtifactId::of(bytes).0[..CHECK_BYTES]);
    check
}

fn import(
    global: &Global,
    client: &mut Client,
    domain: DomainId,
    path: &Path,
) -> Result<Value, ApiError> {
    let mut reader = BufReader::new(super::simple::open(path)?);
    let mut head = [0; MAGIC.len() + 32];
    let cut = |what: &str| {
        ApiError::refused(format!("{}: {what}", path.display())).hint("copy or export it again")
    };
    reader.read_exact(&mut head).map_err(|_| cut("not a bundle: too short"))?;
    if &head[..MAGIC.len()] != MAGIC {
        return Err(cut("not a bundle, or one of another version"));
    }
    let given = DomainId::from_slice(&head[MAGIC.len()..]).unwrap_or_default();
    if given != domain {
        let message =
            format!("this machine holds domain {domain}, the bundle is of domain {given}");
        return Err(ApiError::refused(message).hint("check the directory: quipu id"));
    }
    let bar = output::progress(global.quiet, None, "events");
    let mut bytes = head.len() as u64;
    while let Some(packed) = read_record(&mut reader).map_err(cut)? {
        bytes += 4 + packed.len() as u64 + CHECK_BYTES as u64;
        let item = client.one(Request::ImportPack { packed: BASE64.encode(&packed) })?;
        bar.inc(item["events"].as_u64().unwrap_or(0));
    }
    bar.finish_and_clear();
    let end = client.one(Request::ImportEnd)?;
    Ok(json!({
        "events": end["events"],
        "artifacts": 0,
        "bytes": bytes + 4 + CHECK_BYTES as u64,
        "waiting": end["waiting"],
    }))
}

fn read_record(reader: &mut impl Read) -> Result<Option<Vec<u8>>, &'static str> {
    let mut length = [0; 4];
    reader.read_exact(&mut length).map_err(|_| "it ends early: what was whole is imported")?;
    let length = u32::from_le_bytes(length);
    if length > RECORD_BYTES_MAX {
        return Err("a record is too large: the file is damaged");
    }
    let mut bytes = Vec::new();
    let mut check = [0; CHECK_BYTES];
    reader
        .by_ref()
        .take(u64::from(length))
        .read_to_end(&mut bytes)
        .and_then(|_| reader.read_exact(&mut check))
        .map_err(|_| "it ends early: what was whole is imported")?;
    if bytes.len() != length as usize || check != checksum(&bytes) {
        return Err("a record is damaged: what was before it is imported");
    }
    Ok(if length == 0 { None } else { Some(bytes) })
}
