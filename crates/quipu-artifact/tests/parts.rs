//! Parts: what a peer sends, and what it might send instead.

#![allow(clippy::single_range_in_vec_init, reason = "runs of groups, often one")]

mod common;

use std::ops::Range;

use common::{GROUP, Store, add, get, parts, reopen, sample, store};
use proptest::prelude::*;
use quipu_artifact::{MemoryFiles, PART_BYTES_MAX, Part, PartError};
use quipu_core::artifact::{ARTIFACT_BYTES_MAX, PART_GROUPS_MAX, group_bytes, group_count};
use quipu_core::id::ArtifactId;

fn give(store: &Store, key: &ArtifactId, part: &Part) -> Result<(bool, u64), PartError> {
    let written = store.write_part(key, part.size, part.groups.clone(), &part.bytes)?;
    Ok((written.complete, written.new_groups))
}

/// A store with one artifact.
fn source(size: u64) -> (Store, ArtifactId, Vec<u8>) {
    let store = store();
    let bytes = sample(size, size);
    let key = add(&store, &bytes);
    (store, key, bytes)
}

#[test]
fn parts_are_those_of_bao_tree() {
    use bao_tree::io::outboard::PreOrderMemOutboard;
    use bao_tree::io::sync::encode_ranges_validated;
    use bao_tree::{BlockSize, ChunkNum, ChunkRanges};
    for size in [0, 1, GROUP, GROUP + 1, 40 * GROUP - 1] {
        let (from, key, bytes) = source(size);
        let outboard = PreOrderMemOutboard::create(&bytes, BlockSize::from_chunk_log(4));
        for part in parts(&from, &key, 3) {
            let groups = part.groups.clone();
            let ranges = ChunkRanges::from(ChunkNum(groups.start * 16)..ChunkNum(groups.end * 16));
            let mut expected = Vec::new();
            encode_ranges_validated(&bytes[..], &outboard, &ranges, &mut expected).expect("good");
            assert!(part.bytes == expected, "{groups:?}");
        }
    }
}

#[test]
fn one_part_carries_a_small_artifact() {
    for size in [0, 1, 1025, GROUP, GROUP + 1, 16 * GROUP] {
        let (from, key, bytes) = source(size);
        let to = store();
        let part = from.read_part(&key, 0..PART_GROUPS_MAX).expect("good").expect("here");
        assert_eq!(part.groups, 0..group_count(size));
        assert_eq!(give(&to, &key, &part).expect("good"), (true, group_count(size)));
        assert_eq!(get(&to, &key), bytes);
        assert_eq!(to.files().paths(), from.files().paths());
        assert_eq!(give(&to, &key, &part).expect("good again"), (true, 0));
    }
}

#[test]
fn ranges_are_cut_and_beyond_the_end_is_the_last_group() {
    let (from, key, _) = source(40 * GROUP - 1);
    for (asked, given) in [
        (0..1, 0..1),
        (0..99, 0..16),
        (30..99, 30..40),
        (40..41, 39..40),
        (u64::MAX..u64::MAX, 39..40),
    ] {
        let part = from.read_part(&key, asked).expect("good").expect("here");
        assert_eq!(part.groups, given);
    }
    assert!(from.read_part(&ArtifactId([1; 32]), 0..1).expect("readable").is_none());
}

#[test]
fn bad_parts_leave_no_trace() {
    let size = 20 * GROUP - 7;
    let (from, key, _) = source(size);
    let to = store();
    let last = from.read_part(&key, 17..20).expect("good").expect("here");
    let bad = |to: &Store, part: &Part| {
        let error = give(to, &key, part).expect_err("bad");
        assert!(matches!(error, PartError::Bad(_)), "{error}: {part:?}");
    };
    let check = |to: &Store, good: &Part, sizes: &[u64]| {
        for at in (0..good.bytes.len()).step_by(61).chain([good.bytes.len() - 1]) {
            let mut part = good.clone();
            part.bytes[at] ^= 1 << (at % 8);
            bad(to, &part);
        }
        for &size in sizes {
            bad(to, &Part { size, ..good.clone() });
        }
        let groups = good.groups.clone();
        for groups in [
            groups.start..groups.end + 1,
            groups.start + 1..groups.end,
            groups.start..groups.end - 1,
            groups.start - 1..groups.end,
            0..0,
            0..u64::MAX,
            Range { start: 5, end: 2 },
        ] {
            bad(to, &Part { groups, ..good.clone() });
        }
        for length in [0, 63, 64, good.bytes.len() - 1] {
            bad(to, &Part { bytes: good.bytes[..length].to_vec(), ..good.clone() });
        }
        for more in [1, 64, 16384] {
            let mut part = good.clone();
            part.bytes.resize(good.bytes.len() + more, 0);
            bad(to, &part);
        }
    };
    let sizes = [0, 1, size - 1, size + 1, 20 * GROUP, 33 * GROUP, ARTIFACT_BYTES_MAX, u64::MAX];
    check(&to, &last, &sizes);
    assert!(to.files().paths().is_empty());
    assert_eq!(to.missing(&key).expect("readable").size, None);

    let first = from.read_part(&key, 1..9).expect("good").expect("here");
    assert!(matches!(give(&to, &key, &first), Err(PartError::SizeNotProven)));
    assert!(to.files().paths().is_empty());
    give(&to, &key, &last).expect("good");
    to.files().set_faults(quipu_artifact::Faults::default());
    check(&to, &first, &sizes);
    assert_eq!(to.files().bytes_written(), 0);
    assert_eq!(to.missing(&key).expect("readable").groups, [0..17]);
    bad(&to, &Part { size: size - 1, ..last });
    // Somebody else's part.
    let (other, other_key, _) = source(size + 1);
    bad(&to, &other.read_part(&other_key, 0..3).expect("good").expect("here"));
}

#[test]
fn the_size_is_proven_before_anything_is_taken() {
    // A tree made to order: any size can be claimed for a key of one's own, but its last group
    // has to be there, and what is not there takes no room.
    let (from, key, _) = source(64 * GROUP);
    let to = store();
    let part = from.read_part(&key, 0..16).expect("good").expect("here");
    // The left half of the tree is a good tree in itself, but under another key.
    let lie = Part { size: 32 * GROUP, ..part };
    assert!(matches!(give(&to, &key, &lie), Err(PartError::Bad(_))));

    let size = ARTIFACT_BYTES_MAX;
    let (key, part) = made_to_order(size);
    assert!(part.bytes.len() as u64 + 15 * (GROUP + 64) <= PART_BYTES_MAX);
    assert_eq!(give(&to, &key, &part).expect("good"), (false, 1));
    assert_eq!(to.missing(&key).expect("readable").groups, [0..group_count(size) - 1]);
    assert!(to.disk_bytes().expect("readable") < 1 << 20);
    // Found again after a start, without walking through what is not there.
    let to = reopen(to.files());
    assert_eq!(to.missing(&key).expect("readable").groups, [0..group_count(size) - 1]);
}

/// A key of which nobody has more than the last group.
fn made_to_order(size: u64) -> (ArtifactId, Part) {
    use blake3::hazmat::{HasherExt, Mode, merge_subtrees_non_root, merge_subtrees_root};
    let count = group_count(size);
    assert!(count.is_power_of_two());
    let bytes = sample(GROUP, 1);
    let mut hasher = blake3::Hasher::new();
    hasher.set_input_offset((count - 1) * GROUP).update(&bytes);
    let mut cv = hasher.finalize_non_root();
    let mut pairs = Vec::new();
    let levels = count.ilog2();
    for level in 0..levels {
        let left = [level as u8; 32];
        pairs.push([left, cv].concat());
        cv = if level + 1 == levels {
            *merge_subtrees_root(&left, &cv, Mode::Hash).as_bytes()
        } else {
            merge_subtrees_non_root(&left, &cv, Mode::Hash)
        };
    }
    let mut encoded: Vec<u8> = pairs.into_iter().rev().flatten().collect();
    encoded.extend_from_slice(&bytes);
    (ArtifactId(cv), Part { size, groups: count - 1..count, bytes: encoded })
}

#[test]
fn many_artifacts_at_once_are_more_than_open_files() {
    let from = store();
    let to = store();
    let samples: Vec<_> = (0..150).map(|n| sample(3 * GROUP + 1 + n, n)).collect();
    let keys: Vec<_> = samples.iter().map(|bytes| add(&from, bytes)).collect();
    for round in 0..4 {
        for key in &keys {
            let part = &parts(&from, key, 1)[round];
            assert_eq!(give(&to, key, part).expect("good"), (round == 3, 1));
        }
        let begun = if round == 3 { Vec::new() } else { from.list().expect("fine").collect() };
        assert_eq!(to.partials().expect("readable").len(), begun.len());
    }
    for (key, bytes) in keys.iter().zip(&samples) {
        assert!(get(&to, key) == *bytes);
    }
    assert_eq!(to.files().paths(), from.files().paths());
}

#[test]
fn threads_may_bring_the_same_artifact() {
    let (from, key, bytes) = source(200 * GROUP + 5);
    let to = store();
    let parts = parts(&from, &key, 4);
    give(&to, &key, &parts[0]).expect("good");
    let new: u64 = std::thread::scope(|scope| {
        let threads: Vec<_> = (0..4)
            .map(|n| {
                let (to, key, parts) = (&to, &key, &parts);
                scope.spawn(move || {
                    let turned = parts.iter().cycle().skip(n * 11).take(parts.len());
                    turned.map(|part| give(to, key, part).expect("good").1).sum::<u64>()
                })
            })
            .collect();
        threads.into_iter().map(|thread| thread.join().expect("fine")).sum()
    });
    assert_eq!(new, 201 - 4, "each group is new once");
    assert!(get(&to, &key) == bytes);
}

#[test]
fn an_import_ends_the_partial() {
    let (from, key, bytes) = source(30 * GROUP);
    let to = store();
    give(&to, &key, &parts(&from, &key, 4)[0]).expect("good");
    assert_eq!(to.partials().expect("readable"), [key]);
    add(&to, &bytes);
    assert!(to.partials().expect("readable").is_empty());
    assert!(to.missing(&key).expect("readable").is_complete());
    assert_eq!(to.files().paths(), from.files().paths());
}

#[test]
fn partials_can_be_dropped() {
    let (from, key, _) = source(30 * GROUP);
    let to = store();
    give(&to, &key, &parts(&from, &key, 4)[0]).expect("good");
    to.drop_partial(&key).expect("dropped");
    assert!(to.files().paths().is_empty());
    assert_eq!(to.missing(&key).expect("readable").size, None);
    to.drop_partial(&key).expect("nothing to drop");
}

#[test]
fn damage_to_a_partial_is_asked_for_again() {
    let (from, key, bytes) = source(100 * GROUP);
    let files = MemoryFiles::new();
    let all = parts(&from, &key, 5);
    let to = reopen(&files);
    for part in &all[..12] {
        give(&to, &key, part).expect("good");
    }
    assert!(files.flip(&format!("partial/{key}.data"), 77 * GROUP + 9, 2));
    let to = reopen(&files);
    assert_eq!(to.missing(&key).expect("readable").groups, [0..40, 77..78]);
    for part in &all {
        give(&to, &key, part).expect("good");
    }
    assert!(get(&to, &key) == bytes);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(32))]
    #[test]
    fn parts_in_any_order_from_two_sources_complete_it(
        size in 1u64..2_500_000,
        order in prop::collection::vec((any::<prop::sample::Index>(), any::<bool>()), 0..60),
        run in 1u64..=16,
        other_run in 1u64..=16,
        restart in any::<prop::sample::Index>(),
    ) {
        let (one, key, bytes) = source(size);
        let two = store();
        add(&two, &bytes);
        let files = MemoryFiles::new();
        let mut to = reopen(&files);
        let (ones, twos) = (parts(&one, &key, run), parts(&two, &key, other_run));
        let count = group_count(size);
        let mut have = std::collections::BTreeSet::new();
        let first = [&ones[0]];
        let some = order.iter().map(|(at, first)| at.get(if *first { &ones } else { &twos }));
        let all: Vec<&Part> = first.into_iter().chain(some).chain(&twos).collect();
        let restart = restart.index(all.len());
        for (n, part) in all.iter().enumerate() {
            if n == restart {
                files.kill();
                to = reopen(&files);
            }
            let new = part.groups.clone().filter(|group| have.insert(*group)).count() as u64;
            let complete = have.len() as u64 == count;
            prop_assert_eq!(give(&to, &key, part).expect("good"), (complete, new));
            let missing = to.missing(&key).expect("readable");
            prop_assert_eq!(missing.size, Some(size));
            let missing: Vec<u64> = missing.groups.into_iter().flatten().collect();
            let expected: Vec<u64> = (0..count).filter(|group| !have.contains(group)).collect();
            prop_assert_eq!(missing, expected);
            prop_assert_eq!(to.contains(&key).expect("readable"), complete);
        }
        prop_assert!(get(&to, &key) == bytes);
        prop_assert_eq!(group_bytes(&(0..count), size), 0..size);
    }

    #[test]
    fn arbitrary_bytes_are_never_taken(
        bytes in prop::collection::vec(any::<u8>(), 0..500),
        size in 0u64..100_000,
        start in 0u64..8,
        length in 0u64..20,
    ) {
        let to = store();
        let key = ArtifactId([7; 32]);
        let result = to.write_part(&key, size, start..start + length, &bytes);
        prop_assert!(matches!(result, Err(PartError::Bad(_))));
        prop_assert!(to.files().paths().is_empty());
    }
}
