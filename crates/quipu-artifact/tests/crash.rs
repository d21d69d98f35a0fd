//! The power fails at every operation, the disk is full at every write: what is visible is right.

#![allow(clippy::single_range_in_vec_init, reason = "runs of groups, often one")]

mod common;

use common::{GROUP, Store, add, get, parts, reopen, sample, store};
use quipu_artifact::{Faults, FileAt, Files, MemoryFiles, Part, PartError};
use quipu_core::artifact::group_count;
use quipu_core::id::ArtifactId;

/// Runs with the power failing at each operation in turn, in several outcomes of the crash, and
/// checks what is left. Answers how many operations there were.
fn at_every_operation(
    prepare: impl Fn(&MemoryFiles),
    run: impl Fn(&MemoryFiles) -> bool,
    check: impl Fn(Store, bool),
) -> u64 {
    for operation in 0.. {
        for seed in [0, 1, 2, 3, 4, 0x1234_5678_9abc_def0] {
            let files = MemoryFiles::new();
            prepare(&files);
            files.set_faults(Faults { power_cut_at: Some(operation), ..Faults::default() });
            let ended = run(&files);
            let all = files.operations() <= operation;
            files.crash(seed);
            check(reopen(&files), ended);
            if all && seed > 4 {
                assert!(ended, "nothing failed");
                return operation;
            }
        }
    }
    unreachable!("some run ends");
}

/// It is here and good, or it is not here.
fn whole_or_absent(store: &Store, key: &ArtifactId, bytes: &[u8]) -> bool {
    let here = store.contains(key).expect("readable");
    if here {
        assert!(get(store, key) == bytes);
        let groups = group_count(bytes.len() as u64);
        for group in 0..groups {
            store.read_part(key, group..group + 1).expect("good");
        }
    }
    assert_eq!(store.verify(&mut |_| {}).expect("readable"), []);
    here
}

#[test]
fn imports_are_whole_or_absent() {
    for size in [0, 100, GROUP, 3 * GROUP, (2 << 20) + 5] {
        let bytes = sample(size, size);
        let key = ArtifactId::of(&bytes);
        let operations = at_every_operation(
            |files| drop(reopen(files)),
            |files| {
                let Ok(store) = Store::with_files(files.clone()) else { return false };
                let Ok(imported) = store.import(&bytes[..], &mut |_| {}) else { return false };
                store.adopt(imported).is_ok()
            },
            |store, ended| {
                let here = whole_or_absent(&store, &key, &bytes);
                assert!(here || !ended, "what was adopted is durable");
                store.clean().expect("clean");
                let left = if !here {
                    0
                } else if size > GROUP {
                    2
                } else {
                    1
                };
                assert_eq!(store.files().paths().len(), left, "{:?}", store.files().paths());
                // And it can be had after all.
                assert_eq!(add(&store, &bytes), key);
                assert!(get(&store, &key) == bytes);
            },
        );
        assert!(operations >= 5, "{operations}");
    }
}

#[test]
fn removals_are_whole_or_absent() {
    let bytes = sample(3 * GROUP, 1);
    let key = ArtifactId::of(&bytes);
    at_every_operation(
        |files| {
            add(&reopen(files), &bytes);
        },
        |files| Store::with_files(files.clone()).and_then(|store| store.remove(&key)).is_ok(),
        |store, ended| {
            let here = whole_or_absent(&store, &key, &bytes);
            assert!(!(here && ended), "what was removed is gone");
        },
    );
}

fn give(store: &Store, key: &ArtifactId, part: &Part) -> Result<bool, PartError> {
    let written = store.write_part(key, part.size, part.groups.clone(), &part.bytes)?;
    Ok(written.complete)
}

/// Brings what is missing, and only that.
fn bring_rest(store: &Store, from: &Store, key: &ArtifactId, size: u64) {
    let missing = store.missing(key).expect("readable");
    let count = group_count(size);
    let groups = match missing.size {
        Some(proven) => {
            assert_eq!(proven, size);
            missing.groups
        }
        None => vec![0..count],
    };
    let mut wanted: Vec<u64> = groups.into_iter().flatten().collect();
    wanted.reverse();
    for group in wanted {
        let part = from.read_part(key, group..group + 1).expect("good").expect("here");
        let written = store.write_part(key, size, group..group + 1, &part.bytes).expect("good");
        assert_eq!(written.new_groups, 1, "it was missing");
    }
    assert!(store.missing(key).expect("readable").is_complete());
}

#[test]
fn parts_are_whole_or_resumed() {
    for (size, run) in [(100, 1), (GROUP + 1, 2), (5 * GROUP - 1, 1), (9 * GROUP, 4)] {
        let from = store();
        let bytes = sample(size, size);
        let key = add(&from, &bytes);
        let all = parts(&from, &key, run);
        let operations = at_every_operation(
            |files| drop(reopen(files)),
            |files| {
                let Ok(store) = Store::with_files(files.clone()) else { return false };
                all.iter().map(|part| give(&store, &key, part)).all(|result| result.is_ok())
            },
            |store, ended| {
                let here = whole_or_absent(&store, &key, &bytes);
                assert!(here || !ended, "what was complete is durable");
                if !here {
                    bring_rest(&store, &from, &key, size);
                }
                assert!(get(&store, &key) == bytes);
                store.clean().expect("clean");
                assert_eq!(store.files().paths(), from.files().paths());
            },
        );
        assert!(operations >= 4, "{operations}");
    }
}

#[test]
fn what_was_synced_is_not_asked_for_again() {
    let from = store();
    let bytes = sample(40 * GROUP, 1);
    let key = add(&from, &bytes);
    let all = parts(&from, &key, 4);
    for seed in 0..5 {
        let files = MemoryFiles::new();
        let store = reopen(&files);
        for part in &all[..3] {
            give(&store, &key, part).expect("good");
        }
        store.sync_partials().expect("synced");
        give(&store, &key, &all[5]).expect("good");
        files.crash(seed);
        let store = reopen(&files);
        let missing = store.missing(&key).expect("readable");
        assert_eq!(missing.size, Some(40 * GROUP));
        let missing: Vec<u64> = missing.groups.into_iter().flatten().collect();
        assert!(missing.iter().all(|group| *group < 28), "synced: {missing:?}");
        assert!((0..16).chain(20..28).all(|group| missing.contains(&group)), "never here");
        if seed == 0 {
            assert_eq!(missing.len(), 28);
        }
        bring_rest(&store, &from, &key, 40 * GROUP);
        assert!(get(&store, &key) == bytes);
    }
}

#[test]
fn a_killed_process_loses_nothing() {
    let from = store();
    let bytes = sample(40 * GROUP, 1);
    let key = add(&from, &bytes);
    let files = MemoryFiles::new();
    for part in parts(&from, &key, 3) {
        let store = reopen(&files);
        if store.missing(&key).expect("readable").size.is_some() {
            let expected = 0..part.groups.end;
            assert_eq!(store.missing(&key).expect("readable").groups, [expected]);
        }
        give(&store, &key, &part).expect("good");
        files.kill();
    }
    assert!(get(&reopen(&files), &key) == bytes);
}

/// The groups of which all bytes lie in the file of a partial or complete artifact.
fn written(files: &MemoryFiles, key: &ArtifactId, bytes: &[u8]) -> Vec<u64> {
    let paths = [format!("partial/{key}.data"), common::path(key)];
    let Some(file) = paths.iter().find_map(|path| files.open(path).ok()) else { return Vec::new() };
    let mut found = vec![0; bytes.len()];
    let n = file.read_full_at(&mut found, 0).expect("readable");
    let whole = |range: &std::ops::Range<usize>| range.end <= n;
    let groups = (0..group_count(bytes.len() as u64)).filter(|group| {
        let start = (group * GROUP) as usize;
        let range = start..bytes.len().min(start + GROUP as usize);
        whole(&range) && found[range.clone()] == bytes[range]
    });
    groups.collect()
}

#[test]
fn a_process_killed_at_any_operation_loses_no_group_that_it_wrote() {
    let from = store();
    let bytes = sample(21 * GROUP - 7, 5);
    let key = add(&from, &bytes);
    let all = parts(&from, &key, 4);
    for operation in 0.. {
        let files = MemoryFiles::new();
        let store = reopen(&files);
        files.set_faults(Faults { power_cut_at: Some(operation), ..Faults::default() });
        let ended = all.iter().map(|part| give(&store, &key, part)).all(|result| result.is_ok());
        files.kill();
        let written = written(&files, &key, &bytes);
        let missing = reopen(&files).missing(&key).expect("readable");
        let missing: Vec<u64> = missing.groups.into_iter().flatten().collect();
        let again: Vec<_> = written.iter().filter(|group| missing.contains(group)).collect();
        let known = reopen(&files).missing(&key).expect("readable").size.is_some();
        assert!(known || written.is_empty(), "{written:?} of an unknown size after {operation}");
        assert!(again.is_empty(), "{again:?} to come again after operation {operation}");
        if ended {
            assert!(operation > 40, "{operation}");
            return;
        }
    }
}

#[test]
fn a_full_disk_is_said_and_survived() {
    let from = store();
    let size = 9 * GROUP;
    let bytes = sample(size, 1);
    let key = add(&from, &bytes);
    let all = parts(&from, &key, 2);
    for full in (0..size + 700).step_by(3001) {
        let files = MemoryFiles::new();
        let store = reopen(&files);
        files.set_faults(Faults { full_after_bytes: Some(full), ..Faults::default() });
        let mut failed = false;
        for part in &all {
            match give(&store, &key, part) {
                Ok(_) => {}
                Err(PartError::Io(error)) => {
                    assert!(error.is_full() && error.to_string().contains("the disk is full"));
                    failed = true;
                }
                Err(PartError::SizeNotProven) => assert!(failed),
                Err(error) => panic!("{error}"),
            }
        }
        assert!(failed || full > size);
        files.set_faults(Faults::default());
        if !store.contains(&key).expect("readable") {
            bring_rest(&store, &from, &key, size);
        }
        assert!(get(&store, &key) == bytes);
        assert_eq!(files.paths(), from.files().paths());
    }
}

#[test]
fn every_write_and_sync_may_fail_once() {
    let from = store();
    let size = 5 * GROUP;
    let bytes = sample(size, 1);
    let key = add(&from, &bytes);
    let all = parts(&from, &key, 2);
    for number in 0..40 {
        for sync in [false, true] {
            let files = MemoryFiles::new();
            let store = reopen(&files);
            files.set_faults(if sync {
                Faults { failing_sync: Some(number), ..Faults::default() }
            } else {
                Faults {
                    failing_write: Some((number, std::io::ErrorKind::Other)),
                    ..Faults::default()
                }
            });
            let mut failed = false;
            for part in &all {
                let result = give(&store, &key, part);
                assert!(!matches!(result, Err(PartError::Bad(_))), "it is no fault of the peer");
                failed |= result.is_err();
            }
            if !store.contains(&key).expect("readable") {
                assert!(failed);
                bring_rest(&store, &from, &key, size);
            }
            assert!(get(&store, &key) == bytes);
            assert_eq!(files.paths(), from.files().paths());
        }
    }
}
