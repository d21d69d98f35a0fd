//! What it costs to look up, for each part of an artifact, whether a peer may see it.

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use quipu_artifact::ArtifactStore;
use quipu_core::artifact::{GROUP_BYTES, PART_GROUPS_MAX};
use quipu_core::event::Log;
use quipu_core::id::{ArtifactId, DomainId};
use quipu_node::shelf::{Owner, Shelf, Shelved};
use quipu_node::{Artifacts, StoredArtifacts};
use quipu_store::FaultyDisk;

use crate::{Result, figure};

/// Artifacts with an owner other than the machine's own domain.
const OWNED: u64 = 100_000;
/// Size of the artifact that is read.
const BYTES: u64 = 64 << 20;
/// How often it is read either way.
const ROUNDS: u32 = 20;

/// Reads all parts; answers how long that took.
fn read_all(artifacts: &dyn Artifacts, key: &ArtifactId) -> Result<Duration> {
    let begin = Instant::now();
    let mut read = 0;
    for part in 0..BYTES / (PART_GROUPS_MAX * GROUP_BYTES) {
        let groups = part * PART_GROUPS_MAX..(part + 1) * PART_GROUPS_MAX;
        let (_, bytes) = artifacts.read_part(key, groups)?.ok_or("it is here")?;
        read += bytes.len() as u64;
    }
    assert!(read >= BYTES, "all of it was read");
    Ok(begin.elapsed())
}

pub(crate) fn run(dir: &Path) -> Result<()> {
    let store = Arc::new(ArtifactStore::open(&dir.join("shared"))?);
    let bytes = blake3::Hasher::new_keyed(&[9; 32]).finalize_xof();
    let imported = store.import(std::io::Read::take(bytes, BYTES), &mut |_| ())?;
    let key = imported.key;
    store.adopt(imported)?;
    let home = DomainId([1; 32]);
    let shelf = Shelf::open(store.clone(), (Arc::new(FaultyDisk::new()), "index"), home)?;
    let owner = Owner { domain: home, visibility: Log::Published };
    for n in 0..OWNED {
        shelf.give(&ArtifactId::of(&n.to_le_bytes()), owner)?;
    }
    shelf.give(&key, owner)?;
    let (open, checked) = (StoredArtifacts(store), Shelved::new(Arc::new(shelf), owner));
    let (mut without, mut with) = (Duration::ZERO, Duration::ZERO);
    for _ in 0..ROUNDS {
        without += read_all(&open, &key)?;
        with += read_all(&checked, &key)?;
    }
    let begin = Instant::now();
    for n in 0..OWNED {
        assert!(checked.size(&ArtifactId::of(&(n + OWNED).to_le_bytes()))?.is_none());
    }
    let look_up = begin.elapsed().as_nanos() / u128::from(OWNED);
    let rate = |time: Duration| (BYTES * u64::from(ROUNDS)) as f64 / 1e6 / time.as_secs_f64();
    figure(
        "limit: parts read from the disk without a check",
        format!("{:.0} MB/s", rate(without)),
        "",
    );
    let share = 100.0 * (with.as_secs_f64() / without.as_secs_f64() - 1.0);
    figure(
        "the same with a check of each",
        format!("{:.0} MB/s", rate(with)),
        &format!("{share:+.2}%"),
    );
    figure("one check among 100,000 owned artifacts", format!("{look_up} ns"), "");
    Ok(())
}
