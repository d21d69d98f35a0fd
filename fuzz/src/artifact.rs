//! Parts of artifacts as a liar would send them: nothing is taken that does not fit the name, and
//! what honest peers send beside it still completes the artifact.

use std::io::Read;
use std::sync::LazyLock;

use quipu_artifact::{ArtifactStore, MemoryFiles, Part, PartError};
use quipu_core::artifact::group_count;
use quipu_core::id::ArtifactId;

use crate::pieces;

const SIZE: usize = 20 * (16 << 10) - 77;

struct Sample {
    store: ArtifactStore<MemoryFiles>,
    bytes: Vec<u8>,
    key: ArtifactId,
}

static SAMPLE: LazyLock<Sample> = LazyLock::new(|| {
    let mut bytes = vec![0; SIZE];
    blake3::Hasher::new().finalize_xof().fill(&mut bytes);
    let store = ArtifactStore::with_files(MemoryFiles::new()).expect("a disk without faults");
    let imported = store.import(&bytes[..], &mut |_| {}).expect("a disk without faults");
    let key = imported.key;
    store.adopt(imported).expect("a disk without faults");
    Sample { store, bytes, key }
});

/// Each piece is a part: a way to make it, a first group, a number of groups, and changes or bytes.
pub(crate) fn artifact_part(data: &[u8]) {
    let files = MemoryFiles::new();
    let mut store = ArtifactStore::with_files(files.clone()).expect("a disk without faults");
    for piece in pieces(data).into_iter().take(32) {
        let [way, start, length, rest @ ..] = piece else { continue };
        match way % 4 {
            0 | 1 => changed(&store, *start, *length, *way, rest),
            2 => arbitrary(&store, *start, *length, rest),
            _ => {
                files.crash(u64::from(*start));
                store = ArtifactStore::with_files(files.clone()).expect("a disk without faults");
            }
        }
    }
    complete(&store);
}

/// A good part, with changes: each is a place (two bytes) and what is added to the byte there.
fn changed(store: &ArtifactStore<MemoryFiles>, start: u8, length: u8, way: u8, changes: &[u8]) {
    let asked = u64::from(start)..u64::from(start) + u64::from(length);
    let good = SAMPLE.store.read_part(&SAMPLE.key, asked).expect("good").expect("here");
    let mut part = good.clone();
    for change in changes.chunks_exact(3) {
        let at = usize::from(u16::from_le_bytes([change[0], change[1]])) % part.bytes.len();
        part.bytes[at] = part.bytes[at].wrapping_add(change[2]);
    }
    if way % 4 == 1 {
        part.size = part.size.wrapping_add(u64::from(way / 4)).wrapping_sub(32);
    }
    let result = store.write_part(&SAMPLE.key, part.size, part.groups.clone(), &part.bytes);
    match result {
        Ok(_) => assert_eq!(part, good, "only what is good is taken"),
        Err(PartError::Bad(_)) => assert_ne!(part, good, "what is good is not bad"),
        Err(PartError::SizeNotProven) => {
            // A wrong size that gives the tree the same shape shows with the last group only.
            assert_eq!(part.bytes, good.bytes);
            assert_ne!(part.groups.end, group_count(part.size));
        }
        Err(PartError::Io(error)) => panic!("a disk without faults: {error}"),
    }
}

/// Anything, for the sample or for a key of the sender's.
fn arbitrary(store: &ArtifactStore<MemoryFiles>, start: u8, length: u8, rest: &[u8]) {
    let Some((head, bytes)) = rest.split_first_chunk::<9>() else { return };
    let size = u64::from_le_bytes(head[..8].try_into().unwrap_or_default()) >> (head[8] % 64);
    // At the front, at the end, or anywhere.
    let first = match start % 3 {
        0 => u64::from(start / 3),
        1 => group_count(size).saturating_sub(u64::from(length)),
        _ => size >> (start / 3 % 64),
    };
    let groups = first..first.saturating_add(u64::from(length));
    let key = if head[8] >= 128 { SAMPLE.key } else { ArtifactId::of(bytes) };
    match store.write_part(&key, size, groups, bytes) {
        Ok(written) => {
            assert!(written.complete, "bytes that hash to the key are all there is");
            assert_eq!(store.size(&key).expect("readable"), Some(bytes.len() as u64));
            assert!(read(store, &key) == bytes);
        }
        Err(PartError::Bad(_)) => {}
        Err(error) => panic!("{error}"),
    }
}

/// Brings what is missing, and nothing else.
fn complete(store: &ArtifactStore<MemoryFiles>) {
    let missing = store.missing(&SAMPLE.key).expect("readable");
    let count = group_count(SIZE as u64);
    let wanted: Vec<u64> = match missing.size {
        Some(_) => missing.groups.into_iter().flatten().collect(),
        None => (0..count).collect(),
    };
    for group in wanted.into_iter().rev() {
        let part = SAMPLE.store.read_part(&SAMPLE.key, group..group + 1);
        let Part { size, groups, bytes } = part.expect("good").expect("here");
        let written = store.write_part(&SAMPLE.key, size, groups, &bytes).expect("a good part");
        assert_eq!(written.new_groups, 1);
    }
    assert!(read(store, &SAMPLE.key) == SAMPLE.bytes);
    assert_eq!(store.verify(&mut |_| {}).expect("readable"), []);
}

fn read(store: &ArtifactStore<MemoryFiles>, key: &ArtifactId) -> Vec<u8> {
    let mut bytes = Vec::new();
    store.open_verified(key).expect("here").read_to_end(&mut bytes).expect("good");
    bytes
}
