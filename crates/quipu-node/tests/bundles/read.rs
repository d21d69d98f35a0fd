//! What a bundle says, as JSON, and what is wrong with it. Shared by the tests and the generator.

use std::io::Read;

use quipu_core::event::{Log, VerifiedEvent};
use quipu_node::api::Importer;
use quipu_node::bundle::BundleReader;
use serde_json::{Value as Json, json};

use crate::json::hex;

/// Ids of events that are known to be authentic once a batch was read. Others wait for a signature.
fn ids_json(events: &[VerifiedEvent]) -> Json {
    events.iter().map(|event| event.id.to_string()).collect()
}

/// What this program reads of a bundle up to the first thing that is wrong, and that.
pub(crate) fn read(file: &[u8]) -> (Json, Option<String>) {
    let mut said = json!({ "batches": [], "artifacts": [] });
    let error = read_into(&mut said, file).err();
    (said, error)
}

fn push(said: &mut Json, list: &str, item: Json) {
    said[list].as_array_mut().unwrap().push(item);
}

fn read_into(said: &mut Json, file: &[u8]) -> Result<(), String> {
    let mut reader = BundleReader::begin(file)?;
    said["version"] = file[7].into();
    said["domain"] = reader.domain.to_string().into();
    said["log"] = reader.log.name().into();
    let (domain, mut importer) = (reader.domain, Importer::default());
    while let Some(packed) = reader.take()? {
        let events = importer.take(&packed, &domain).map_err(|error| error.to_string())?;
        push(said, "batches", ids_json(&events));
    }
    while let Some(mut artifact) = reader.artifact()? {
        let (key, mut bytes) = (artifact.key, Vec::new());
        let size = artifact.size;
        artifact.read_to_end(&mut bytes).map_err(|error| error.to_string())?;
        let is_it = quipu_core::id::ArtifactId::of(&bytes) == key;
        let item = json!({
            "key": key.to_string(), "size": size, "bytes": hex(&bytes), "is_what_it_says": is_it,
        });
        push(said, "artifacts", item);
    }
    said["length"] = reader.bytes.into();
    Ok(())
}

/// The same by the tables in `docs/formats/bundle.md`, without this program's reader: the packed batches
/// and the artifacts with their keys.
pub(crate) fn read_plainly(mut file: &[u8]) -> Option<Plain> {
    let magic: [u8; 7] = take(&mut file, 7)?.try_into().ok()?;
    let version = take(&mut file, 1)?[0];
    let domain: [u8; 32] = take(&mut file, 32)?.try_into().ok()?;
    let log = match if version == 1 { 0 } else { take(&mut file, 1)?[0] } {
        0 => Log::Internal,
        1 => Log::Published,
        _ => return None,
    };
    if magic != *b"quipuB\0" || !(1..=2).contains(&version) {
        return None;
    }
    let mut plain = Plain { version, domain, log, batches: Vec::new(), artifacts: Vec::new() };
    loop {
        match record(&mut file)? {
            [] => break,
            batch => plain.batches.push(batch.to_vec()),
        }
    }
    while let Some(head) = (version > 1).then(|| record(&mut file)) {
        let head = head?;
        if head.is_empty() {
            break;
        }
        let (key, size) = head.split_first_chunk::<32>()?;
        let size = usize::try_from(u64::from_le_bytes(size.try_into().ok()?)).ok()?;
        let mut bytes = Vec::new();
        while bytes.len() < size {
            match record(&mut file)? {
                [] => return None,
                part => bytes.extend_from_slice(part),
            }
        }
        let is_it = bytes.len() == size && *blake3::hash(&bytes).as_bytes() == *key;
        is_it.then(|| plain.artifacts.push((*key, bytes)))?;
    }
    Some(plain)
}

/// A bundle, without a look into its batches.
#[derive(Debug)]
pub(crate) struct Plain {
    pub(crate) version: u8,
    pub(crate) domain: [u8; 32],
    pub(crate) log: Log,
    pub(crate) batches: Vec<Vec<u8>>,
    pub(crate) artifacts: Vec<([u8; 32], Vec<u8>)>,
}

fn take<'a>(file: &mut &'a [u8], length: usize) -> Option<&'a [u8]> {
    let (taken, rest) = file.split_at_checked(length)?;
    *file = rest;
    Some(taken)
}

fn record<'a>(file: &mut &'a [u8]) -> Option<&'a [u8]> {
    let length = u32::from_le_bytes(take(file, 4)?.try_into().ok()?);
    if length > 16 << 20 {
        return None;
    }
    let bytes = take(file, length as usize)?;
    (take(file, 8)? == &blake3::hash(bytes).as_bytes()[..8]).then_some(bytes)
}
