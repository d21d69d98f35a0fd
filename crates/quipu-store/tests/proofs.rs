//! Proofs beside the log: kept as durably as events, checked, and gone when not needed any more.
#![allow(missing_docs)]

mod common;

use std::sync::Arc;

use common::{Maker, noise_value, small};
use quipu_core::codec::v1::payload_block;
use quipu_core::event::{Draft, Event, Log, LogSeq, Parents, Position, VerifiedEvent, sign_own};
use quipu_core::history::History;
use quipu_store::{Disk, Faults, FaultyDisk, Store};

const LOG: Log = Log::Internal;
const FILE: &str = "internal/proofs";

/// The next event of the author of another.
fn after(event: &Event, maker: &mut Maker, value: &[u8]) -> Event {
    let at = Position {
        author: event.header.author,
        seq: event.header.seq + 1,
        prev: Some(event.id),
        parents: Parents::from_slice(&[event.id]),
        logseq: LogSeq(event.header.logseq.0 + 1),
    };
    let payload = payload_block(&maker.random.bytes::<8>(), value);
    Draft { log: LOG, kind: "note".into(), payload }.place(at, &maker.domain)
}

/// A store whose log ends with an event that has no signature, and two more that prove it.
fn unsigned_end() -> (Arc<FaultyDisk>, Maker, Event, [Event; 2]) {
    let (mut maker, root) = Maker::new(1, 1);
    let disk = Arc::new(FaultyDisk::new());
    let mut store =
        Store::create(disk.clone(), quipu_core::event::Log::Internal, root.clone(), small())
            .unwrap();
    let end = after(&root, &mut maker, &[0x01]);
    let noise = noise_value(&mut maker.random, 400);
    let first = after(&end, &mut maker, &noise);
    let second = after(&first, &mut maker, &[0x02]);
    let signed = sign_own(vec![second], &common::key(0)).remove(0).into_event();
    store.append(LOG, vec![VerifiedEvent::from_store(end.clone())]).unwrap();
    store.prove(LOG, end.id, &[first.clone(), signed.clone()]);
    store.commit().unwrap();
    (disk, maker, end, [first, signed])
}

fn problems(disk: &Arc<FaultyDisk>, maker: &Maker) -> Vec<String> {
    match Store::open(disk.clone(), maker.domain, small()) {
        Ok((store, _)) => {
            let problems = store.verify(&mut |_, _| {}).problems;
            problems.iter().map(|problem| problem.what.to_owned()).collect()
        }
        Err(error) => vec![error.to_string()],
    }
}

#[test]
fn a_proof_survives_a_start_and_every_cut_of_it_is_noticed() {
    let (disk, maker, end, proof) = unsigned_end();
    let (store, _) = Store::open(disk.clone(), maker.domain, small()).unwrap();
    assert_eq!(store.proof(LOG, &end.id).unwrap().unwrap(), proof);
    assert_eq!(store.proof(LOG, &proof[0].id).unwrap(), None);
    drop(store);
    assert!(problems(&disk, &maker).is_empty());
    let size = disk.size(FILE).unwrap();
    for cut in 0..size {
        let fork = Arc::new(disk.fork());
        fork.truncate(FILE, cut).unwrap();
        assert!(!problems(&fork, &maker).is_empty(), "cut at {cut}");
    }
    for bit in 0..size as usize * 8 {
        let fork = Arc::new(disk.fork());
        assert!(fork.tamper(FILE, |bytes| bytes[bit / 8] ^= 1 << (bit % 8)));
        assert!(!problems(&fork, &maker).is_empty(), "bit {bit}");
        if bit % 101 == 0 {
            let (store, _) = Store::rebuild(fork.clone(), maker.domain, small()).unwrap();
            assert!(store.count(LOG) >= 1);
        }
    }
}

#[test]
fn a_proof_of_somebody_else_is_none() {
    let (disk, mut maker, end, [first, _]) = unsigned_end();
    let (mut store, _) = Store::open(disk.clone(), maker.domain, small()).unwrap();
    // Signed by another key than that of the feed.
    let forged = sign_own(vec![first.clone()], &common::key(7)).remove(0).into_event();
    store.prove(LOG, end.id, &[forged]);
    // Of another feed.
    let mut foreign = after(&end, &mut maker, &[0x03]);
    Arc::make_mut(&mut foreign.header).head.author.0 = common::key(7).verifying_key().to_bytes();
    let foreign = Event::new(foreign.header, foreign.payload, &maker.domain);
    let foreign = sign_own(vec![foreign], &common::key(7)).remove(0).into_event();
    assert!(!store.verify(&mut |_, _| {}).problems.is_empty());
    store.prove(LOG, end.id, &[foreign]);
    assert!(!store.verify(&mut |_, _| {}).problems.is_empty());
}

#[test]
fn what_proves_itself_needs_no_proof_and_leaves_no_copy() {
    let (disk, maker, end, [first, second]) = unsigned_end();
    let holds = |path: &str, bytes: &[u8]| {
        let file = disk.read(path).unwrap();
        file.windows(bytes.len()).any(|window| window == bytes)
    };
    let noise = first.payload.clone().unwrap();
    let needle = &noise[noise.len() - 64..];
    assert!(holds(FILE, needle), "as long as it is needed");
    let (mut store, _) = Store::open(disk.clone(), maker.domain, small()).unwrap();
    store.append(LOG, vec![VerifiedEvent::from_store(first.clone())]).unwrap();
    store.commit().unwrap();
    assert_eq!(store.proof(LOG, &end.id).unwrap(), None);
    assert_eq!(
        store.proof(LOG, &first.id).unwrap().as_deref(),
        Some(std::slice::from_ref(&second))
    );
    assert!(!holds(FILE, needle));
    store.append(LOG, vec![VerifiedEvent::from_store(second)]).unwrap();
    store.commit().unwrap();
    assert_eq!(store.proof(LOG, &first.id).unwrap(), None);
    drop(store);
    assert!(problems(&disk, &maker).is_empty());
}

#[test]
fn a_power_cut_leaves_every_end_proven() {
    let (disk, maker, end, [first, second]) = unsigned_end();
    for operation in 0..30 {
        let fork = Arc::new(disk.fork());
        let run = |disk: &Arc<FaultyDisk>| -> Result<(), quipu_store::StoreError> {
            let (mut store, _) = Store::open(disk.clone(), maker.domain, small())?;
            let unsigned = VerifiedEvent::from_store(first.clone());
            store.append(LOG, vec![unsigned])?;
            store.commit()?;
            store.append(LOG, vec![VerifiedEvent::from_store(second.clone())])?;
            store.commit()
        };
        let cut = fork.operations() + operation;
        fork.set_faults(Faults { power_cut_at: Some(cut), ..Faults::default() });
        let _ = run(&fork);
        fork.crash(operation);
        let after = fork;
        assert!(problems(&after, &maker).is_empty(), "cut at operation {operation}");
        let (store, _) = Store::open(after.clone(), maker.domain, small()).unwrap();
        assert!(store.find(LOG, &end.id).unwrap().is_some());
        if store.find(LOG, &first.id).unwrap().is_some() {
            let noise = first.payload.clone().unwrap();
            let file = after.read(FILE).unwrap();
            let copied = file.windows(64).any(|window| window == &noise[noise.len() - 64..]);
            assert!(!copied, "cut at operation {operation}");
        }
    }
}

#[test]
fn a_file_that_never_took_its_place_is_gone_after_a_start() {
    let (disk, maker, ..) = unsigned_end();
    let aside = format!("{FILE}.tmp");
    disk.write_new(&aside, b"of a payload that is erased by now").unwrap();
    let (_, recovery) = Store::open(disk.clone(), maker.domain, small()).unwrap();
    assert_eq!(recovery.removed, [aside.as_str()]);
    assert!(disk.size(&aside).is_err());
}
