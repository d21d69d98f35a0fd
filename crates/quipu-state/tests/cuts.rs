//! The sizes of snapshots' cuts are counted once.
#![allow(missing_docs)]

mod common;

use std::collections::BTreeSet;

use common::{LOG, artifact, said, store};
use quipu_core::statement::{Claim, Statement};
use quipu_state::{State, StateError};

#[test]
fn a_cut_is_counted_once_and_the_count_is_kept() {
    let put = |n| Statement::Put(Claim { key: artifact(n), size: n, type_tag: None });
    let snapshot = || Statement::Snapshot { root: [0; 32], entries: 1, name: None };
    let events = said(&[put(1), snapshot(), put(2), put(3), snapshot()]);
    let (full, bare) = (store(&events, 50), store(&events[..1], 50));
    let disk = full.disk().clone();
    let mut state = State::open(&*disk, full.domain(), LOG);
    state.catch_up(&*disk, &full, &BTreeSet::new()).unwrap();
    let snapshots = state.snapshots().to_vec();
    assert_eq!(snapshots.len(), 2);
    // Where the log has nothing of it, it cannot be counted.
    for (snapshot, expected) in snapshots.iter().zip([2, 5]) {
        let failed = state.events_in(snapshot, &bare);
        assert!(matches!(failed, Err(StateError::NoEvent(id)) if id == snapshot.id));
        assert_eq!(state.events_in(snapshot, &full).unwrap(), expected);
        assert_eq!(state.events_in(snapshot, &bare).unwrap(), expected);
    }
    state.save(&*disk).unwrap();
    let mut again = State::open(&*disk, full.domain(), LOG);
    let counts = snapshots.iter().map(|one| again.events_in(one, &bare).unwrap());
    assert_eq!(counts.collect::<Vec<_>>(), [2, 5]);
}
