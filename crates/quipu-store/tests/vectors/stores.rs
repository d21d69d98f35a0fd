//! Stores made of the files in the vectors, and how they take them. Shared by the tests and the
//! generator.

use std::sync::Arc;

use quipu_core::event::{Event, Log};
use quipu_core::history::{History, Outline};
use quipu_core::id::{DomainId, Subject};
use quipu_store::{Disk, FaultyDisk, ScanFilter, Store, StoreError, StoreOptions};
use serde_json::{Value as Json, json};

use crate::json::{hex, unhex};

/// Paths and their bytes, sorted.
pub(crate) type Files = Vec<(String, Vec<u8>)>;

/// Options under which a store is sealed only when told so: any block is full.
pub(crate) fn options(page_events: usize) -> StoreOptions {
    StoreOptions { block_events_max: 1, page_events, ..StoreOptions::default() }
}

pub(crate) fn disk_of(files: &Files) -> Arc<FaultyDisk> {
    let disk = FaultyDisk::new();
    Log::ALL.iter().for_each(|log| disk.create_dir(log.name()).unwrap());
    files.iter().for_each(|(path, bytes)| disk.write_new(path, bytes).unwrap());
    Arc::new(disk)
}

pub(crate) fn files_of(disk: &FaultyDisk) -> Files {
    let read = |path: String| {
        let bytes = disk.read(&path).unwrap().to_vec();
        (path, bytes)
    };
    let held = disk.files().into_iter().filter(|path| path.contains('/'));
    held.map(read).collect()
}

/// All events of a log.
pub(crate) fn events(store: &Store<FaultyDisk>, log: Log) -> Result<Vec<Event>, StoreError> {
    let mut all = Vec::new();
    while (all.len() as u64) < store.count(log) {
        all.extend(store.events(log, all.len() as u64..store.count(log))?);
    }
    Ok(all)
}

pub(crate) fn seal(store: &mut Store<FaultyDisk>) {
    let sealed = store.seal_job().unwrap().run().unwrap();
    store.finish_seal(sealed).unwrap();
}

/// What a store says to files that are not right.
pub(crate) fn judge(files: &Files, domain: DomainId) -> Json {
    let said = |when: &str, kind: &str, error: String| json!({ "when": when, "kind": kind, "error": error });
    let failed = |when: &str, error: &StoreError| said(when, kind_of(error), error.to_string());
    let (store, recovery) = match Store::open(disk_of(files), domain, options(32)) {
        Ok(opened) => opened,
        Err(error) => return failed("open", &error),
    };
    if let Some((path, bytes)) = recovery.truncated.first() {
        return said("open", "torn", format!("{bytes} bytes were cut off {path}"));
    }
    for log in Log::ALL {
        if let Err(error) = read_all(&store, log) {
            return failed("read", &error);
        }
    }
    match store.verify(&mut |_, _| {}).problems.first() {
        Some(problem) => said("verify", problem.what, problem.detail.clone()),
        None => Json::Null,
    }
}

/// Reads all that is read when a machine works.
fn read_all(store: &Store<FaultyDisk>, log: Log) -> Result<Outline, StoreError> {
    let filter = ScanFilter { subjects: vec![Subject([0; 32])], ..ScanFilter::default() };
    for segment in store.segments(log) {
        segment.scan(&filter, &mut |_| ())?;
    }
    events(store, log)?;
    store.outline(log)
}

fn kind_of(error: &StoreError) -> &'static str {
    match error {
        StoreError::Corrupt { .. } => "damaged",
        StoreError::Version { .. } => "version",
        StoreError::WrongDomain { .. } => "domain",
        StoreError::Missing => "missing",
        _ => "other",
    }
}

/// The bytes at these places in the place of what is there.
pub(crate) fn patches_json(before: &[u8], after: &[u8]) -> Json {
    let mut patches: Vec<(usize, Vec<u8>)> = Vec::new();
    for (at, (old, new)) in before.iter().zip(after).enumerate() {
        match patches.last_mut() {
            _ if old == new => {}
            Some((from, bytes)) if *from + bytes.len() == at => bytes.push(*new),
            _ => patches.push((at, vec![*new])),
        }
    }
    patches.iter().map(|(at, bytes)| json!({ "at": at, "bytes": hex(bytes) })).collect()
}

/// Changes one of the files as a refused vector says.
pub(crate) fn change(files: &Files, vector: &Json) -> Files {
    let mut files = files.clone();
    let path = vector["path"].as_str().unwrap();
    if vector["removed"] == true {
        files.retain(|(other, _)| other != path);
        return files;
    }
    let number = |json: &Json| usize::try_from(json.as_u64().unwrap()).unwrap();
    let (_, bytes) = files.iter_mut().find(|(other, _)| other == path).unwrap();
    for patch in vector["patches"].as_array().into_iter().flatten() {
        let (at, new) = (number(&patch["at"]), unhex(&patch["bytes"]));
        bytes[at..at + new.len()].copy_from_slice(&new);
    }
    if !vector["length"].is_null() {
        bytes.truncate(number(&vector["length"]));
    }
    if !vector["appended"].is_null() {
        bytes.extend(unhex(&vector["appended"]));
    }
    files
}
