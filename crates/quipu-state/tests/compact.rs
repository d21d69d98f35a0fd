//! A copy of the pages without what is old says the same as the pages.
#![allow(missing_docs)]

mod common;

use std::collections::BTreeSet;
use std::sync::Arc;

use common::{LOG, Random, artifact, end, history, store};
use proptest::prelude::*;
use quipu_core::event::VerifiedEvent;
use quipu_core::id::{EventId, RunKey};
use quipu_state::cut::{self, Cut};
use quipu_state::{State, StateError, View};
use quipu_store::{Faults, FaultyDisk, Store};

/// Everything that a view tells.
fn told(view: &View<'_>, random: &Random) -> String {
    let mut entries = Vec::new();
    view.visit(&mut |entry| entries.push((entry.subject, entry.id, entry.ordinal))).unwrap();
    let artifacts = view.artifacts().unwrap();
    let mut random = random.clone();
    let alone: Vec<_> = (0..6).map(|n| view.artifact(&artifact(n)).unwrap()).collect();
    let edges: Vec<_> = (0..12).map(|_| view.edges_at(&end(&mut random)).unwrap()).collect();
    let work: Vec<_> = (0..3).map(|n| view.work_on(&RunKey([n; 32])).unwrap()).collect();
    let runs = (work, view.announcements().unwrap(), view.requests().unwrap());
    let about = (runs, view.offers().unwrap());
    format!("{:?} {:?} {about:?}", (view.root(), entries, artifacts), (alone, edges))
}

fn catch_up(state: &mut State, store: &Store<FaultyDisk>) {
    let disk = store.disk().clone();
    state.catch_up(&*disk, store, &BTreeSet::new()).unwrap();
}

/// Catches up event by event: most of the pages is old then.
fn grown(events: &[VerifiedEvent]) -> (Store<FaultyDisk>, State) {
    let mut store = store(&events[..1], 50);
    let disk = store.disk().clone();
    let mut state = State::open(&*disk, store.domain(), LOG);
    for event in events {
        if event.id != events[0].id {
            store.append(LOG, vec![event.clone()]).unwrap();
        }
        catch_up(&mut state, &store);
    }
    store.commit().unwrap();
    (store, state)
}

fn keep(state: &mut State, store: &Store<FaultyDisk>, event: &EventId) {
    let cut = Cut::up_to(store, LOG, event).unwrap();
    let winners = cut::winners(store, LOG, &cut).unwrap();
    state.keep_cut(*event, &winners, store).unwrap();
}

fn pages_on(disk: &FaultyDisk) -> u64 {
    quipu_store::Disk::size(disk, "internal.state/pages").unwrap()
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 40, ..ProptestConfig::default() })]

    #[test]
    fn a_copy_says_the_same(seed in any::<u64>(), count in 60usize..200, saved in any::<bool>()) {
        let random = Random(seed);
        let events = history(seed, count);
        let (before, after) = events.split_at(count / 2);
        let (mut store, mut state) = grown(before);
        let disk = store.disk().clone();
        let snapshot = before[count / 3].id;
        keep(&mut state, &store, &snapshot);
        if saved {
            state.save(&*disk).unwrap();
        }
        let then = told(&state.current(), &random);
        let at = told(&state.at(&snapshot).unwrap(), &random);
        let job = state.compact(&disk).unwrap();
        // It goes on meanwhile.
        store.append(LOG, after.to_vec()).unwrap();
        store.commit().unwrap();
        catch_up(&mut state, &store);
        state.save(&*disk).unwrap();
        let now = told(&state.current(), &random);
        let long = pages_on(&disk);
        state.finish_compact(&*disk, job.run()).unwrap();
        prop_assert!(pages_on(&disk) < long);
        prop_assert_eq!(told(&state.current(), &random), then);
        prop_assert_eq!(told(&state.at(&snapshot).unwrap(), &random), at.clone());
        state.check().unwrap();
        // From the disk too; and it catches up from where it was.
        let again = State::open(&*disk, store.domain(), LOG);
        prop_assert_eq!(again.applied(), before.len() as u64);
        for mut state in [state, again] {
            catch_up(&mut state, &store);
            prop_assert_eq!(told(&state.current(), &random), now.clone());
            prop_assert_eq!(told(&state.at(&snapshot).unwrap(), &random), at.clone());
            state.check().unwrap();
        }
    }
}

#[test]
fn a_copy_of_what_was_forgotten_meanwhile_is_dropped() {
    let (store, mut state) = grown(&history(3, 80));
    let disk = store.disk().clone();
    let job = state.compact(&disk).unwrap();
    state.clear(&*disk).unwrap();
    catch_up(&mut state, &store);
    let now = state.root();
    state.finish_compact(&*disk, job.run()).unwrap();
    assert_eq!((state.root(), state.applied()), (now, 80));
    assert!(!disk.files().iter().any(|file| file.ends_with("pages.tmp")));
}

#[test]
fn wherever_the_power_fails_the_state_is_whole_or_gone() {
    let events = history(5, 90);
    for operation in 0..40 {
        let (store, mut state) = grown(&events);
        let disk: Arc<FaultyDisk> = store.disk().clone();
        state.save(&*disk).unwrap();
        let expected = state.root();
        let job = state.compact(&disk).unwrap();
        disk.set_faults(Faults { power_cut_at: Some(operation), ..Faults::default() });
        let done = job.run();
        let ended = state.finish_compact(&*disk, done);
        assert!(matches!(ended, Ok(()) | Err(StateError::Io { .. })));
        disk.crash(operation);
        let mut again = State::open(&*disk, store.domain(), LOG);
        assert!([0, 90].contains(&again.applied()), "{}", again.applied());
        if again.applied() == 90 {
            again.check().unwrap();
            assert_eq!(again.root(), expected);
        }
        again.drop_begun_copy(&*disk).unwrap();
        assert!(!disk.files().iter().any(|file| file.ends_with("pages.tmp")));
        catch_up(&mut again, &store);
        assert_eq!(again.root(), expected);
    }
}
