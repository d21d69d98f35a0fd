//! The index of whose the bytes of artifacts are.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use quipu_artifact::{ArtifactStore, MemoryFiles};
use quipu_core::event::Log;
use quipu_core::id::{ArtifactId, DomainId};
use quipu_node::shelf::{Owner, Shelf};
use quipu_store::{Disk, FaultyDisk};

use crate::pieces;

const NAME: &str = "artifact-index";
const HOME: DomainId = DomainId([0; 32]);
/// Keys, and domains, that records are about.
const KINDS: u8 = 4;
/// Bytes of a record, and those that its checksum covers.
const RECORD_BYTES: usize = 72;
const CHECKED_BYTES: usize = 68;

type Entries = BTreeMap<ArtifactId, (BTreeSet<Owner>, BTreeSet<Owner>)>;

fn key(n: u8) -> ArtifactId {
    ArtifactId([n % KINDS; 32])
}

/// A record as the document has it.
fn record(bytes: &[u8]) -> Vec<u8> {
    let [n, owner, said] = [0, 1, 2].map(|at| bytes.get(at).copied().unwrap_or_default());
    let said = [owner / KINDS % 2, said % 5, 0, 0];
    let mut out = [&key(n).0[..], &[owner % KINDS; 32], &said].concat();
    let sum = blake3::hash(&out);
    out.extend_from_slice(&sum.as_bytes()[..RECORD_BYTES - CHECKED_BYTES]);
    out
}

/// What whole records add up to.
fn plainly(file: &[u8]) -> Entries {
    let mut entries = Entries::new();
    for record in file.chunks_exact(RECORD_BYTES) {
        let sum = blake3::hash(&record[..CHECKED_BYTES]);
        if sum.as_bytes()[..RECORD_BYTES - CHECKED_BYTES] != record[CHECKED_BYTES..] {
            continue;
        }
        let artifact = ArtifactId(record[..32].try_into().expect("32 bytes"));
        let domain = DomainId(record[32..64].try_into().expect("32 bytes"));
        let visibility = if record[64] == 0 { Log::Internal } else { Log::Published };
        let owner = Owner { domain, visibility };
        if !(1..=3).contains(&record[65]) {
            continue;
        }
        let (held, coming) = entries.entry(artifact).or_default();
        match record[65] {
            1 => {
                coming.remove(&owner);
                held.insert(owner);
            }
            2 => _ = coming.insert(owner),
            _ => {
                coming.remove(&owner);
                held.remove(&owner);
            }
        }
        if held.is_empty() && coming.is_empty() {
            entries.remove(&artifact);
        }
    }
    entries
}

fn open(disk: &Arc<FaultyDisk>) -> Shelf<MemoryFiles> {
    let store = Arc::new(ArtifactStore::with_files(MemoryFiles::new()).expect("memory"));
    Shelf::open(store, (disk.clone(), NAME), HOME).expect("an index is never refused")
}

/// Records, bytes of them that are changed, and what follows them.
pub(crate) fn artifact_index(data: &[u8]) {
    let pieces = pieces(data);
    let part = |n: usize| pieces.get(n).copied().unwrap_or_default();
    let mut file: Vec<u8> = part(0).chunks(3).flat_map(record).collect();
    for change in part(1).chunks_exact(3) {
        let at = usize::from(u16::from_le_bytes([change[0], change[1]]));
        if let Some(byte) = file.get_mut(at) {
            *byte ^= change[2];
        }
    }
    file.extend_from_slice(part(2));
    let entries = plainly(&file);
    let disk = Arc::new(FaultyDisk::new());
    disk.write_new(NAME, &file).expect("memory");
    let home = Owner { domain: HOME, visibility: Log::Internal };
    let owners = |n: u8| match entries.get(&key(n)) {
        Some((held, _)) => held.iter().copied().collect(),
        None => vec![home],
    };
    for _ in 0..2 {
        let shelf = open(&disk);
        for n in 0..KINDS {
            assert_eq!(shelf.owners(&key(n)), owners(n), "artifact {n}");
        }
    }
    let other = Owner { domain: DomainId([9; 32]), visibility: Log::Published };
    open(&disk).give(&key(1), other).expect("memory");
    let shelf = open(&disk);
    assert!(shelf.owners(&key(1)).contains(&other), "what was said is there after a start");
    assert_eq!(shelf.owners(&key(2)), owners(2), "and nothing else is changed");
}
