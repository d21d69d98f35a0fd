//! Damaged files: every flipped bit is found, and what is readable is salvaged.
#![allow(missing_docs)]

mod common;

use std::sync::Arc;

use common::{Maker, Model, Random, noise_value, same, seal_all, small};
use quipu_core::codec::v1::payload_block;
use quipu_core::event::{Draft, Log, LogSeq, Position, VerifiedEvent, sign_own};
use quipu_core::history::History;
use quipu_core::id::NodeKey;
use quipu_store::{Disk, Faults, FaultyDisk, Store, StoreError};

const LOG: Log = Log::Internal;

/// A store with three sealed blocks, some erased payloads and an active file.
fn sample(seed: u64) -> (Arc<FaultyDisk>, Maker, Model) {
    let (mut maker, root) = Maker::new(seed, 4);
    let disk = Arc::new(FaultyDisk::new());
    let mut model = Model { events: vec![root.event().clone()] };
    let mut store =
        Store::create(disk.clone(), quipu_core::event::Log::Internal, root, small()).unwrap();
    while store.stats().blocks < 3 || store.stats().active_events < 20 {
        let run = maker.run(1 + model.events.len() as u64 % 6);
        model.events.extend(run.iter().map(|event| event.event().clone()));
        store.append(LOG, run).unwrap();
        store.commit().unwrap();
        seal_all(&mut store);
    }
    for ordinal in [5, 60, model.events.len() - 3] {
        store.erase(LOG, ordinal as u64).unwrap();
        model.events[ordinal].payload = None;
    }
    (disk, maker, model)
}

/// Every event of the store is one of the model's, and nothing is wrong with the store.
fn check_salvaged(store: &Store<FaultyDisk>, model: &Model) -> usize {
    let problems = store.verify(&mut |_, _| {}).problems;
    assert!(problems.is_empty(), "{problems:?}");
    for ordinal in 0..store.count(LOG) {
        let event = store.event(LOG, ordinal).unwrap();
        let expected = model.events.iter().find(|expected| expected.id == event.id);
        same(&event, expected.expect("an event that was never appended"));
    }
    store.count(LOG) as usize
}

#[test]
fn a_sound_store_verifies() {
    let (disk, maker, model) = sample(1);
    let (store, recovery) = Store::open(disk.clone(), maker.domain, small()).unwrap();
    assert!(recovery.is_clean());
    let mut calls = Vec::new();
    let verification = store.verify(&mut |done, total| calls.push((done, total)));
    assert_eq!(verification.problems, []);
    assert_eq!(verification.events, model.events.len() as u64);
    assert_eq!(calls.last(), Some(&(verification.events, verification.events)));
    drop(store);
    let files = disk.files();
    let (store, verification) = Store::rebuild(disk.clone(), maker.domain, small()).unwrap();
    assert_eq!(verification.problems, []);
    assert_eq!(disk.files(), files);
    model.check(&store, &mut Random(3));
}

#[test]
fn every_flipped_bit_is_found() {
    let (disk, maker, model) = sample(2);
    let mut random = Random(2);
    for path in disk.files() {
        let size = disk.size(&path).unwrap();
        for round in 0..250 {
            let bit = random.below(size * 8) as usize;
            let fork = Arc::new(disk.fork());
            assert!(fork.tamper(&path, |bytes| bytes[bit / 8] ^= 1 << (bit % 8)));
            let found = match Store::open(fork.clone(), maker.domain, small()) {
                Err(
                    StoreError::Corrupt { .. }
                    | StoreError::Version { .. }
                    | StoreError::WrongDomain { .. },
                ) => true,
                Err(error) => panic!("{path} bit {bit}: {error}"),
                Ok((store, recovery)) => {
                    // Reads may fail, but not panic.
                    for ordinal in 0..store.count(LOG) {
                        let _ = store.event(LOG, ordinal);
                    }
                    let _ = store.outline(LOG);
                    !recovery.is_clean() || !store.verify(&mut |_, _| {}).problems.is_empty()
                }
            };
            assert!(found, "{path} bit {bit} of {size} bytes");
            if round % 10 == 0 {
                match Store::rebuild(fork, maker.domain, small()) {
                    Ok((store, _)) => _ = check_salvaged(&store, &model),
                    Err(StoreError::Version { .. } | StoreError::WrongDomain { .. }) => {}
                    Err(error) => panic!("{path} bit {bit}: {error}"),
                }
            }
        }
    }
}

fn rebuilt(disk: &Arc<FaultyDisk>, maker: &Maker, model: &Model) -> (usize, Vec<String>) {
    assert!(matches!(
        Store::open(disk.clone(), maker.domain, small()),
        Err(StoreError::Corrupt { .. })
    ));
    let (store, verification) = Store::rebuild(disk.clone(), maker.domain, small()).unwrap();
    let left = check_salvaged(&store, model);
    drop(store);
    match Store::open(disk.clone(), maker.domain, small()) {
        Ok((store, _)) => assert_eq!(store.count(LOG) as usize, left),
        Err(error) => assert!(left == 0 && matches!(error, StoreError::Missing), "{error}"),
    }
    (left, verification.problems.iter().map(|problem| problem.what.to_owned()).collect())
}

#[test]
fn footers_and_indexes_are_derived_anew() {
    let (disk, maker, model) = sample(3);
    let path = "internal/000001.block";
    let size = disk.size(path).unwrap() as usize;
    // Footer and part of the indexes are gone.
    disk.tamper(path, |bytes| bytes.truncate(size - 700));
    let damaged = disk.read(path).unwrap();
    let (left, problems) = rebuilt(&disk, &maker, &model);
    assert_eq!(left, model.events.len());
    assert_eq!(problems, ["unreadable"]);
    assert_eq!(disk.read("damaged/internal-000001.block").unwrap(), damaged);
    let (store, _) = Store::open(disk, maker.domain, small()).unwrap();
    model.check(&store, &mut Random(5));
}

#[test]
fn what_does_not_depend_on_lost_events_stays() {
    type Lose = fn(&FaultyDisk);
    let lose: [(&str, Lose); 4] = [
        ("payload file", |disk| _ = disk.remove("internal/000001.payload")),
        ("block", |disk| _ = disk.remove("internal/000001.block")),
        ("first block", |disk| {
            _ = disk.tamper("internal/000000.block", |bytes| bytes.truncate(50))
        }),
        ("page", |disk| {
            _ = disk.tamper("internal/000001.payload", |bytes| {
                let last = bytes.len() - 3;
                bytes[last] ^= 4;
            })
        }),
    ];
    for (what, lose) in lose {
        let (disk, maker, model) = sample(4);
        lose(&disk);
        if what == "page" {
            // Only found when it is read.
            let (store, _) = Store::open(disk.clone(), maker.domain, small()).unwrap();
            assert!(!store.verify(&mut |_, _| {}).problems.is_empty());
            drop(store);
            let (store, _) = Store::rebuild(disk.clone(), maker.domain, small()).unwrap();
            let left = check_salvaged(&store, &model);
            assert!(left > 50 && left < model.events.len(), "{what}: {left}");
            continue;
        }
        let (left, problems) = rebuilt(&disk, &maker, &model);
        assert!(problems.iter().any(|what| what == "unreadable"), "{what}: {problems:?}");
        assert!(left < model.events.len(), "{what}: {left}");
        assert_eq!(left >= 50, what != "first block", "{what}: {left}");
        assert!(disk.files().iter().any(|path| path.starts_with("damaged/")));
    }
}

#[test]
fn a_rebuild_can_be_interrupted_anywhere() {
    let (disk, maker, model) = sample(5);
    disk.tamper("internal/000001.block", |bytes| bytes.truncate(bytes.len() - 700));
    let whole = Arc::new(disk.fork());
    whole.set_faults(Faults::default());
    drop(Store::rebuild(whole.clone(), maker.domain, small()).unwrap());
    let operations = whole.operations();
    assert!(operations > 10);
    for cut in 0..operations {
        for seed in 0..3 {
            let disk = Arc::new(disk.fork());
            disk.set_faults(Faults { power_cut_at: Some(cut), ..Faults::default() });
            assert!(Store::rebuild(disk.clone(), maker.domain, small()).is_err());
            disk.crash(cut * 10 + seed);
            let (store, _) = Store::rebuild(disk, maker.domain, small()).unwrap();
            assert_eq!(check_salvaged(&store, &model), model.events.len(), "cut at {cut}");
        }
    }
}

#[test]
fn a_store_of_another_domain_is_left_alone() {
    let (disk, _, _) = sample(6);
    let files = disk.files();
    let other = Maker::new(77, 1).0.domain;
    for result in [
        Store::open(disk.clone(), other, small()).map(|_| ()),
        Store::rebuild(disk.clone(), other, small()).map(|_| ()),
    ] {
        assert!(matches!(result, Err(StoreError::WrongDomain { .. })), "{result:?}");
    }
    assert_eq!(disk.files(), files);
}

/// An event whose payload can be recognised in any file.
fn noisy(maker: &mut Maker, after: &VerifiedEvent) -> (VerifiedEvent, Vec<u8>) {
    let value = noise_value(&mut maker.random, 600);
    let payload = payload_block(&maker.random.bytes::<8>(), &value);
    let key = common::key(99);
    let at = Position {
        author: NodeKey(key.verifying_key().to_bytes()),
        seq: 1,
        prev: None,
        parents: [after.id].into_iter().collect(),
        logseq: LogSeq(after.header.logseq.0 + 1),
    };
    let draft = Draft { log: LOG, kind: "note".into(), payload };
    let event = draft.place(at, &maker.domain);
    (sign_own(vec![event], &key).remove(0), value)
}

fn occurs(disk: &FaultyDisk, needle: &[u8]) -> bool {
    disk.files().iter().any(|path| {
        let bytes = disk.read(path).unwrap();
        // Any sixteen bytes of the payload would be too much.
        needle.chunks(16).any(|part| part.len() == 16 && bytes.windows(16).any(|w| w == part))
    })
}

#[test]
fn erased_bytes_are_gone_from_every_file() {
    for stage in 0..6 {
        let (mut maker, root) = Maker::new(10 + stage, 3);
        let disk = Arc::new(FaultyDisk::new());
        let mut store =
            Store::create(disk.clone(), quipu_core::event::Log::Internal, root.clone(), small())
                .unwrap();
        let (event, value) = noisy(&mut maker, &root);
        let id = event.id;
        let ordinal = store.append(LOG, vec![event]).unwrap().start;
        let mut sealed = None;
        if stage >= 1 {
            store.commit().unwrap();
        }
        if stage >= 2 {
            store.append(LOG, maker.run_of(0, 60)).unwrap();
            store.commit().unwrap();
            let job = store.seal_job().unwrap();
            match stage {
                2 => drop(job),
                3 => sealed = Some(job.run().unwrap()),
                4 => drop(job.run().unwrap()),
                _ => store.finish_seal(job.run().unwrap()).unwrap(),
            }
        }
        // The check can fail.
        assert_eq!(occurs(&disk, &value), stage >= 1);
        assert_eq!(store.event(LOG, ordinal).unwrap().payload.unwrap().len(), value.len() + 10);
        assert_eq!(store.erase(LOG, ordinal).unwrap(), value.len() as u64 + 10);
        assert!(!occurs(&disk, &value), "stage {stage}");
        assert_eq!(store.erase(LOG, ordinal).unwrap(), 0);
        sealed.into_iter().for_each(|sealed| store.finish_seal(sealed).unwrap());
        store.commit().unwrap();
        seal_all(&mut store);
        assert!(!occurs(&disk, &value), "stage {stage}, sealed");
        assert_eq!(store.verify(&mut |_, _| {}).problems, []);
        drop(store);
        disk.crash(stage);
        let (store, _) = Store::open(disk.clone(), maker.domain, small()).unwrap();
        let event = store.event(LOG, ordinal).unwrap();
        assert_eq!((event.id, event.payload), (id, None));
        assert_eq!(event.header.payload.size as usize, value.len() + 10);
        assert!(!occurs(&disk, &value), "stage {stage}, after a crash");
    }
}

#[test]
fn both_logs_are_kept_apart() {
    let (mut maker, root) = Maker::new(20, 2);
    let disk = Arc::new(FaultyDisk::new());
    let mut store =
        Store::create(disk.clone(), quipu_core::event::Log::Internal, root.clone(), small())
            .unwrap();
    store.append(Log::Published, vec![root.clone()]).unwrap();
    let run = maker.run(3);
    store.append(LOG, run).unwrap();
    disk.set_faults(Faults::default());
    store.commit().unwrap();
    assert_eq!(disk.syncs(), 2);
    store.commit().unwrap();
    assert_eq!(disk.syncs(), 2);
    store.append(LOG, maker.run(1)).unwrap();
    store.commit().unwrap();
    assert_eq!(disk.syncs(), 3);
    drop(store);
    let (store, _) = Store::open(disk, maker.domain, small()).unwrap();
    assert_eq!((store.count(LOG), store.count(Log::Published)), (5, 1));
    assert_eq!(store.find(Log::Published, &root.id).unwrap(), Some(0));
    assert_eq!(store.verify(&mut |_, _| {}).problems, []);
}

#[test]
fn misuse_is_refused_without_a_trace() {
    let (mut maker, root) = Maker::new(21, 2);
    let disk = Arc::new(FaultyDisk::new());
    let mut store =
        Store::create(disk.clone(), quipu_core::event::Log::Internal, root.clone(), small())
            .unwrap();
    let run = maker.run(3);
    let twice = [run.clone(), run.clone()].concat();
    assert!(matches!(store.append(LOG, twice), Err(StoreError::Misuse(_))));
    assert_eq!(store.count(LOG), 1);
    store.append(LOG, run).unwrap();
    store.commit().unwrap();
    drop(store);
    assert!(matches!(
        Store::create(disk.clone(), quipu_core::event::Log::Internal, root, small()),
        Err(StoreError::Exists)
    ));
    let empty = Arc::new(FaultyDisk::new());
    assert!(matches!(
        Store::rebuild(empty.clone(), maker.domain, small()),
        Err(StoreError::Missing)
    ));
    assert!(matches!(Store::open(empty, maker.domain, small()), Err(StoreError::Missing)));
}

/// Appends an event that the rules forbid, and answers which rules verify names.
fn rules_broken(
    change: impl FnOnce(&mut quipu_core::event::Header, &mut Model),
) -> Vec<&'static str> {
    let (mut maker, root) = Maker::new(30, 2);
    maker.fork_one_in = u64::MAX;
    let disk = Arc::new(FaultyDisk::new());
    let mut model = Model { events: vec![root.event().clone()] };
    let mut store = Store::create(disk, quipu_core::event::Log::Internal, root, small()).unwrap();
    let run = maker.run_of(0, 5);
    model.events.extend(run.iter().map(|event| event.event().clone()));
    store.append(LOG, run).unwrap();
    let mut header = quipu_core::event::Header::clone(&maker.run_of(0, 1)[0].header);
    let payload = header.payload.size;
    change(&mut header, &mut model);
    let block = payload_block(&[0; 8], &[0x01]);
    if header.payload.size == payload {
        header.payload = quipu_core::event::PayloadRef::of(&header.kind, &block);
    }
    let event = quipu_core::event::Event::new(header, Some(block), &maker.domain);
    let event = sign_own(vec![event], &common::key(0)).remove(0);
    store.append(LOG, vec![event]).unwrap();
    let problems = store.verify(&mut |_, _| {}).problems;
    problems.iter().map(|problem| problem.what).collect()
}

#[test]
fn verify_names_the_broken_rule() {
    assert_eq!(rules_broken(|_, _| {}), [""; 0]);
    let nobody = NodeKey(common::key(5).verifying_key().to_bytes());
    assert_eq!(rules_broken(|header, _| header.head.author = nobody), ["signature", "feed"]);
    let stranger = quipu_core::id::EventId([7; 32]);
    assert_eq!(
        rules_broken(|header, _| header.head.parents = [stranger].into_iter().collect()),
        ["link"]
    );
    assert_eq!(rules_broken(|header, _| header.head.logseq = LogSeq(1)), ["clock"]);
    assert_eq!(rules_broken(|header, _| header.head.logseq = LogSeq(u64::MAX)), ["clock"]);
    assert_eq!(rules_broken(|header, _| header.head.seq += 1), ["feed"]);
    assert_eq!(rules_broken(|header, _| header.head.kind = "No".into()), ["shape"]);
    assert_eq!(rules_broken(|header, _| header.head.log = Log::Published), ["log"]);
    assert_eq!(rules_broken(|header, _| header.payload.size += 1), ["payload"]);
    let elsewhere = |header: &mut quipu_core::event::Header, model: &mut Model| {
        header.head.prev = Some(model.events[2].id);
    };
    assert_eq!(rules_broken(elsewhere), ["feed"]);
}

#[test]
fn a_salvaged_run_without_its_signature_is_dropped() {
    let (mut maker, root) = Maker::new(31, 2);
    maker.fork_one_in = u64::MAX;
    let disk = Arc::new(FaultyDisk::new());
    let mut model = Model { events: vec![root.event().clone()] };
    let mut store =
        Store::create(disk.clone(), quipu_core::event::Log::Internal, root, Default::default())
            .unwrap();
    let path = "internal/000000.active";
    let (signed, run, later) = (maker.run_of(1, 3), maker.run_of(0, 10), maker.run_of(1, 2));
    let parts = [&signed[..], &run[..6], &run[6..], &later[..]];
    let mut ends = Vec::new();
    for part in parts {
        model.events.extend(part.iter().map(|event| event.event().clone()));
        store.append(LOG, part.to_vec()).unwrap();
        store.commit().unwrap();
        ends.push(disk.size(path).unwrap() as usize);
    }
    drop(store);
    disk.tamper(path, |bytes| bytes[ends[1] + 30] ^= 1);
    let (left, problems) = rebuilt(&disk, &maker, &model);
    // The root and the three signed ones; six more were readable, but nobody vouches for them.
    assert_eq!(left, 4);
    assert!(problems.contains(&"lost".to_owned()), "{problems:?}");
}
