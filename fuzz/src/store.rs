//! A store whose files were changed by somebody else: whatever they hold, it opens or says what is
//! wrong, and a rebuild brings back only what was appended.

use std::collections::BTreeSet;
use std::sync::{Arc, LazyLock};

use ed25519_dalek::SigningKey;
use quipu_core::codec::v1::payload_block;
use quipu_core::domain::Parameters;
use quipu_core::event::{Draft, Log, LogSeq, Position, VerifiedEvent, sign_own};
use quipu_core::history::History;
use quipu_core::id::{DomainId, EventId, NodeKey};
use quipu_store::{FaultyDisk, Store, StoreOptions};

use crate::pieces;

const OPTIONS: StoreOptions = StoreOptions {
    block_events_max: 24,
    block_bytes_max: 1 << 20,
    page_events: 8,
    cache_bytes: 1 << 16,
};

struct Sample {
    disk: FaultyDisk,
    domain: DomainId,
    files: Vec<String>,
    ids: BTreeSet<EventId>,
}

/// Two sealed blocks, an active file, and an erased payload in each.
static SAMPLE: LazyLock<Sample> = LazyLock::new(|| {
    let key = SigningKey::from_bytes(&[1; 32]);
    let author = NodeKey(key.verifying_key().to_bytes());
    let parameters = Parameters { name: "fuzz".to_owned(), ..Parameters::default() };
    let root = parameters.root(author, LogSeq::from_ms(1), &[0; 8]);
    let domain = DomainId::from(root.id);
    let mut last = sign_own(vec![root], &key).remove(0);
    let disk = Arc::new(FaultyDisk::new());
    let mut store =
        Store::create(disk.clone(), quipu_core::event::Log::Internal, last.clone(), OPTIONS)
            .expect("a store");
    let mut ids = BTreeSet::from([last.id]);
    for n in 0..60u8 {
        last = next(&last, n, &key, domain);
        ids.insert(last.id);
        store.append(Log::Internal, vec![last.clone()]).expect("room");
        store.commit().expect("a disk without faults");
        while let Some(job) = store.seal_job() {
            let sealed = job.run().expect("a disk without faults");
            store.finish_seal(sealed).expect("a disk without faults");
        }
    }
    for ordinal in [3, 40, 58] {
        store.erase(Log::Internal, ordinal).expect("an event with a payload");
    }
    drop(store);
    let files = disk.files();
    Sample { disk: disk.fork(), domain, files, ids }
});

fn next(last: &VerifiedEvent, n: u8, key: &SigningKey, domain: DomainId) -> VerifiedEvent {
    let at = Position {
        author: last.header.author,
        seq: last.header.seq + 1,
        prev: Some(last.id),
        parents: [last.id].into_iter().collect(),
        logseq: LogSeq(last.header.logseq.0 + 1),
    };
    let payload = payload_block(&[n; 8], &[0x61, b'a' + n % 26]);
    let draft = Draft { log: Log::Internal, kind: "note".into(), payload };
    sign_own(vec![draft.place(at, &domain)], key).remove(0)
}

/// Each piece changes a file: which one (a byte), where (two bytes), and what is written there. A
/// piece without the latter cuts the file.
pub(crate) fn store_files(data: &[u8]) {
    let sample = &*SAMPLE;
    let disk = Arc::new(sample.disk.fork());
    for piece in pieces(data).into_iter().take(16) {
        let Some(([file, low, high], patch)) = piece.split_first_chunk::<3>() else { continue };
        let path = &sample.files[usize::from(*file) % sample.files.len()];
        let at = usize::from(u16::from_le_bytes([*low, *high]));
        disk.tamper(path, |bytes| {
            let at = at.min(bytes.len());
            if patch.is_empty() {
                bytes.truncate(at);
            }
            let end = (at + patch.len()).min(bytes.len());
            bytes.splice(at..end, patch.iter().copied());
        });
    }
    if let Ok((store, _)) = Store::open(disk.clone(), sample.domain, OPTIONS) {
        let _ = store.verify(&mut |_, _| {});
        read_all(&store, &sample.ids);
    }
    if let Ok((store, _)) = Store::rebuild(disk, sample.domain, OPTIONS) {
        read_all(&store, &sample.ids);
        assert!(store.verify(&mut |_, _| {}).problems.is_empty(), "a rebuilt store is sound");
    }
}

/// Every read there is. Any may fail, none may panic.
fn read_all(store: &Store<FaultyDisk>, ids: &BTreeSet<EventId>) {
    for log in Log::ALL {
        for ordinal in 0..store.count(log) {
            let _ = store.event(log, ordinal);
            let _ = store.place(log, ordinal);
        }
        let _ = store.outline(log);
    }
    for id in ids {
        let _ = store.find(Log::Internal, id);
    }
}
