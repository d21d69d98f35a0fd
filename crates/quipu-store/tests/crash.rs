//! Power cuts, full disks and failing syncs at every moment: what was acknowledged stays.
#![allow(missing_docs)]

mod common;

use std::collections::BTreeMap;
use std::sync::Arc;

use common::{Maker, Model, Random, small};
use quipu_core::event::{Event, Log, VerifiedEvent};
use quipu_core::history::History;
use quipu_store::{Faults, FaultyDisk, Store, StoreError};

const LOG: Log = Log::Internal;

/// What was acknowledged while a script ran.
#[derive(Default)]
struct Acknowledged {
    events: Vec<Event>,
    committed: usize,
    erased: Vec<usize>,
}

/// Appends, commits, seals and erases, until something fails.
fn script(
    disk: &Arc<FaultyDisk>,
    events: &[VerifiedEvent],
    done: &mut Acknowledged,
) -> Result<(), StoreError> {
    let mut store =
        Store::create(disk.clone(), quipu_core::event::Log::Internal, events[0].clone(), small())?;
    done.events = vec![events[0].event().clone()];
    done.committed = 1;
    for (round, group) in events[1..].chunks(13).enumerate() {
        store.append(LOG, group.to_vec())?;
        done.events.extend(group.iter().map(|event| event.event().clone()));
        store.commit()?;
        done.committed = done.events.len();
        let victim = (round * 7) % done.events.len();
        if round % 3 == 1 {
            store.erase(LOG, victim as u64)?;
            done.erased.push(victim);
        }
        if let Some(job) = store.seal_job() {
            let sealed = job.run()?;
            if round % 2 == 0 {
                let victim = done.events.len() - 20;
                store.erase(LOG, victim as u64)?;
                done.erased.push(victim);
            }
            store.finish_seal(sealed)?;
        }
    }
    Ok(())
}

fn script_events(seed: u64) -> (Maker, Vec<VerifiedEvent>) {
    let (mut maker, root) = Maker::new(seed, 3);
    let mut events = vec![root];
    while events.len() < 150 {
        events.extend(maker.run(1 + events.len() as u64 % 7));
    }
    (maker, events)
}

/// Opens and compares with what was acknowledged; the rest may be there or not.
fn check_survivors(disk: &Arc<FaultyDisk>, maker: &Maker, done: &Acknowledged, context: &str) {
    let store = match Store::open(disk.clone(), maker.domain, small()) {
        Ok((store, _)) => store,
        Err(StoreError::Missing) if done.committed == 0 => return,
        Err(error) => panic!("{context}: {error}"),
    };
    let count = store.count(LOG) as usize;
    assert!(count >= done.committed, "{context}: {count} of {} left", done.committed);
    for ordinal in 0..count {
        let event = store.event(LOG, ordinal as u64).unwrap();
        if let Some(expected) = done.events.get(ordinal) {
            assert_eq!(event.id, expected.id, "{context}");
            if done.erased.contains(&ordinal) {
                assert_eq!(event.payload, None, "{context}: {ordinal} was erased");
            }
        }
    }
    let problems = store.verify(&mut |_, _| {}).problems;
    // A run may be cut where no signature stands: its end was never acknowledged then.
    let real: Vec<_> = problems.iter().filter(|p| !p.detail.contains("no signature")).collect();
    assert!(real.is_empty(), "{context}: {real:?}");
}

#[test]
fn power_cut_at_every_operation() {
    let (maker, events) = script_events(3);
    let disk = Arc::new(FaultyDisk::new());
    script(&disk, &events, &mut Acknowledged::default()).unwrap();
    let operations = disk.operations();
    assert!(operations > 60, "{operations}");
    for cut in 0..operations {
        for seed in 0..4 {
            let disk = Arc::new(FaultyDisk::new());
            disk.set_faults(Faults { power_cut_at: Some(cut), ..Faults::default() });
            let mut done = Acknowledged::default();
            script(&disk, &events, &mut done).unwrap_err();
            disk.crash(cut * 1000 + seed);
            check_survivors(&disk, &maker, &done, &format!("cut at {cut}, seed {seed}"));
        }
    }
}

#[test]
fn two_power_cuts_in_a_row() {
    let (maker, events) = script_events(4);
    for cut in (0..40).step_by(3) {
        for second in 0..6 {
            let disk = Arc::new(FaultyDisk::new());
            disk.set_faults(Faults { power_cut_at: Some(cut), ..Faults::default() });
            let mut done = Acknowledged::default();
            script(&disk, &events, &mut done).unwrap_err();
            disk.crash(cut);
            // The second cut comes while the first is being mended, or soon after.
            disk.set_faults(Faults { power_cut_at: Some(second), ..Faults::default() });
            let more = |mut store: Store<FaultyDisk>| -> Result<(), StoreError> {
                let from = store.count(LOG) as usize;
                store.append(LOG, events[from..from + 5].to_vec())?;
                store.commit()?;
                while let Some(job) = store.seal_job() {
                    store.finish_seal(job.run()?)?;
                }
                Ok(())
            };
            let again = Store::open(disk.clone(), maker.domain, small());
            let _ = again.and_then(|(store, _)| more(store));
            disk.crash(second);
            check_survivors(&disk, &maker, &done, &format!("cuts at {cut} and {second}"));
        }
    }
}

#[test]
fn full_disk_at_every_write() {
    let (maker, events) = script_events(5);
    let disk = Arc::new(FaultyDisk::new());
    script(&disk, &events, &mut Acknowledged::default()).unwrap();
    let bytes = disk.bytes_written();
    let mut random = Random(1);
    for _ in 0..300 {
        let room = random.below(bytes);
        let disk = Arc::new(FaultyDisk::new());
        disk.set_faults(Faults { full_after_bytes: Some(room), ..Faults::default() });
        let mut done = Acknowledged::default();
        let error = script(&disk, &events, &mut done).unwrap_err();
        assert!(matches!(error, StoreError::Full { .. }), "{error}");
        assert!(error.hint().unwrap().contains("space"));
        // Space again, without a crash.
        disk.set_faults(Faults::default());
        check_survivors(&disk, &maker, &done, &format!("room for {room}"));
        disk.crash(room);
        check_survivors(&disk, &maker, &done, &format!("room for {room}, crashed"));
    }
}

#[test]
fn failing_sync_poisons() {
    let (maker, events) = script_events(6);
    for number in 0.. {
        let disk = Arc::new(FaultyDisk::new());
        disk.set_faults(Faults { failing_sync: Some(number), ..Faults::default() });
        let mut done = Acknowledged::default();
        if script(&disk, &events[..140], &mut done).is_ok() {
            assert!(number > 15, "so few syncs");
            return;
        }
        if done.committed == 0 {
            continue;
        }
        // Open again without a crash: reads show bytes that will never be durable. What is then
        // committed on top of them must survive all the same.
        let (mut store, _) = Store::open(disk.clone(), maker.domain, small()).unwrap();
        let from = store.count(LOG) as usize;
        store.append(LOG, events[from..from + 3].to_vec()).unwrap();
        store.commit().unwrap();
        done.events = events[..from + 3].iter().map(|event| event.event().clone()).collect();
        done.committed = from + 3;
        for seed in 0..4 {
            let fork = Arc::new(disk.fork_durable(seed));
            check_survivors(&fork, &maker, &done, &format!("sync {number}, seed {seed}"));
        }
    }
}

#[test]
fn poisoned_store_refuses_writes_and_answers_reads() {
    let (maker, events) = script_events(7);
    let disk = Arc::new(FaultyDisk::new());
    let mut store =
        Store::create(disk.clone(), quipu_core::event::Log::Internal, events[0].clone(), small())
            .unwrap();
    store.append(LOG, events[1..10].to_vec()).unwrap();
    disk.set_faults(Faults { failing_sync: Some(0), ..Faults::default() });
    let first = store.commit().unwrap_err().to_string();
    let poisoned = |result: Result<(), StoreError>| match result {
        Err(StoreError::Poisoned { first: cause }) => assert_eq!(cause, first),
        other => panic!("{other:?}"),
    };
    poisoned(store.commit());
    poisoned(store.append(LOG, events[10..12].to_vec()).map(|_| ()));
    poisoned(store.erase(LOG, 1).map(|_| ()));
    assert!(store.seal_job().is_none());
    assert_eq!(store.event(LOG, 9).unwrap().id, events[9].id);
    assert!(matches!(
        Store::open(disk, maker.domain, small()),
        Err(StoreError::Locked { pid: Some(_) })
    ));
}

#[test]
fn cut_at_every_byte() {
    let (mut maker, root) = Maker::new(8, 3);
    let disk = Arc::new(FaultyDisk::new());
    let mut model = Model { events: vec![root.event().clone()] };
    let mut store =
        Store::create(disk.clone(), quipu_core::event::Log::Internal, root, Default::default())
            .unwrap();
    let path = "internal/000000.active";
    let size = || quipu_store::Disk::size(&*disk, path).unwrap() as usize;
    let made = size();
    let mut ends = BTreeMap::from([(made, 1)]);
    for round in 0..25 {
        let run = maker.run(1 + round % 4);
        model.events.extend(run.iter().map(|event| event.event().clone()));
        store.append(LOG, run).unwrap();
        store.commit().unwrap();
        ends.insert(size(), model.events.len());
    }
    let full = size();
    for cut in 0..=full {
        let fork = Arc::new(disk.fork());
        assert!(fork.tamper(path, |bytes| bytes.truncate(cut)));
        let opened = Store::open(fork.clone(), maker.domain, Default::default());
        if cut < made {
            // The file appeared as a whole, with one event, so this is no torn write.
            assert!(matches!(opened, Err(StoreError::Corrupt { .. })), "{cut}");
            continue;
        }
        let (mut store, recovery) = opened.unwrap();
        let (end, count) = ends.range(..=cut).next_back().map(|(e, c)| (*e, *c)).unwrap();
        assert_eq!(store.count(LOG) as usize, count, "cut at {cut}");
        assert_eq!(recovery.is_clean(), end == cut, "cut at {cut}: {recovery:?}");
        if cut % 37 == 0 && count > 0 {
            let held = Model { events: model.events[..count].to_vec() };
            held.check(&store, &mut Random(cut as u64));
            // And it goes on from there.
            let rest = model.events[count..].iter().cloned().map(VerifiedEvent::from_store);
            store.append(LOG, rest.collect()).unwrap();
            store.commit().unwrap();
            drop(store);
            let (store, recovery) = Store::open(fork, maker.domain, Default::default()).unwrap();
            assert!(recovery.is_clean());
            model.check(&store, &mut Random(1));
        }
    }
}

#[test]
fn a_bad_frame_before_good_ones_is_damage() {
    let (mut maker, root) = Maker::new(9, 3);
    let disk = Arc::new(FaultyDisk::new());
    let mut store =
        Store::create(disk.clone(), quipu_core::event::Log::Internal, root, Default::default())
            .unwrap();
    for _ in 0..5 {
        store.append(LOG, maker.run(3)).unwrap();
        store.commit().unwrap();
    }
    drop(store);
    let path = "internal/000000.active";
    disk.tamper(path, |bytes| bytes[200] ^= 1);
    match Store::open(disk, maker.domain, Default::default()) {
        Err(error @ StoreError::Corrupt { .. }) => {
            assert!(error.to_string().contains(path), "{error}");
            assert_eq!(error.hint(), Some("quipu verify --rebuild"));
        }
        other => panic!("{other:?}"),
    }
}
