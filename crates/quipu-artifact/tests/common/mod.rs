//! What the tests share.
#![allow(dead_code, unreachable_pub, missing_docs, reason = "not every test uses everything")]

use std::io::Read;

use quipu_artifact::{ArtifactStore, Files, MemoryFiles, Part};
use quipu_core::artifact::{PART_GROUPS_MAX, group_count};
use quipu_core::id::ArtifactId;

pub const GROUP: u64 = 16 << 10;

/// Bytes without period.
pub fn sample(size: u64, seed: u64) -> Vec<u8> {
    let mut bytes = vec![0; size as usize];
    let mut hasher = blake3::Hasher::new();
    hasher.update(&seed.to_le_bytes());
    hasher.finalize_xof().fill(&mut bytes);
    bytes
}

pub type Store = ArtifactStore<MemoryFiles>;

pub fn store() -> Store {
    ArtifactStore::with_files(MemoryFiles::new()).expect("a store")
}

/// Another store in the same files.
pub fn reopen(files: &MemoryFiles) -> Store {
    ArtifactStore::with_files(files.clone()).expect("a store")
}

pub fn add<F: Files>(store: &ArtifactStore<F>, bytes: &[u8]) -> ArtifactId {
    let imported = store.import(bytes, &mut |_| {}).expect("an import");
    let key = imported.key;
    store.adopt(imported).expect("adopted");
    key
}

pub fn get<F: Files>(store: &ArtifactStore<F>, key: &ArtifactId) -> Vec<u8> {
    let mut read = Vec::new();
    store.open_verified(key).expect("it is here").read_to_end(&mut read).expect("it is good");
    let mut copied = Vec::new();
    let size = store.copy_to(key, &mut copied, &mut |_| {}).expect("it is good");
    assert_eq!(size, copied.len() as u64);
    assert!(read == copied, "the two ways of reading differ");
    read
}

/// All parts of an artifact, the last first, in runs of so many groups.
pub fn parts<F: Files>(store: &ArtifactStore<F>, key: &ArtifactId, run: u64) -> Vec<Part> {
    let count = group_count(store.size(key).expect("readable").expect("here"));
    let mut out = Vec::new();
    let mut end = count;
    while end > 0 {
        let start = end.saturating_sub(run.min(PART_GROUPS_MAX));
        out.push(store.read_part(key, start..end).expect("good").expect("here"));
        end = start;
    }
    out
}

/// The file of a complete artifact.
pub fn path(key: &ArtifactId) -> String {
    let text = key.to_string();
    format!("{}/{text}", &text[text.len() - 2..])
}
