//! Plans against the state that is kept, for any number of shards and any order of arrival.
#![allow(missing_docs)]

mod common;

use std::collections::BTreeSet;

use common::{LOG, Random, artifact, edge, end, history, said, shuffled, store};
use proptest::prelude::*;
use quipu_core::event::{Event, VerifiedEvent};
use quipu_core::history::History;
use quipu_core::id::EventId;
use quipu_core::statement::{Claim, EdgeRole, End, Statement};
use quipu_state::cut::{self, Cut};
use quipu_state::plan::{self, Field, IndexFilter, Query, Row, What};
use quipu_state::trace::{self, Direction, Walk};
use quipu_state::{State, View};
use quipu_store::{FaultyDisk, ScanFilter, Store};

const SHARDS: [usize; 3] = [1, 3, 16];

/// The rows that a state stands for.
fn rows_of(view: &View<'_>, store: &Store<FaultyDisk>) -> Vec<Row> {
    let mut rows = Vec::new();
    let artifacts = view.artifacts().unwrap();
    view.visit(&mut |entry| {
        let event = store.event(LOG, entry.ordinal).unwrap();
        let what = match &*event.header.kind {
            "artifact.put" => {
                let at = |a: &&quipu_state::Artifact| a.since() == Some(entry.order());
                let Some(artifact) = artifacts.values().find(at) else { return };
                What::Artifact(Box::new(artifact.clone()))
            }
            "edge.add" => What::Edge(Box::new(view.edge(entry).unwrap().unwrap())),
            kind if kind == "field.set" || kind == "domain.create" => What::Value,
            _ => return,
        };
        let kind = ["artifact.put", "edge.add", "field.set"];
        let kind = kind.into_iter().find(|kind| *kind == &*event.header.kind).unwrap();
        let (logseq, id) = entry.order();
        let (ordinal, subject) = (entry.ordinal, entry.subject);
        rows.push(Row { logseq, id, ordinal, subject, kind, what });
    })
    .unwrap();
    rows.sort_by_key(Row::order);
    rows
}

fn state_of(store: &Store<FaultyDisk>, aside: &BTreeSet<EventId>) -> State {
    let disk = store.disk().clone();
    let mut state = State::open(&*disk, store.domain(), LOG);
    state.catch_up(&*disk, store, aside).unwrap();
    state
}

fn without_ordinals(mut rows: Vec<Row>) -> Vec<Row> {
    rows.iter_mut().for_each(|row| row.ordinal = 0);
    rows
}

/// Compares replays of all numbers of shards with a view. Answers the rows.
fn check_replay(
    store: &Store<FaultyDisk>,
    view: &View<'_>,
    cut: Option<&Cut>,
    aside: &BTreeSet<EventId>,
) -> Vec<Row> {
    let expected = rows_of(view, store);
    for shards in SHARDS {
        let is_aside = |id: &EventId| aside.contains(id);
        let (replay, report) = plan::replay(store, LOG, cut, &is_aside, shards).unwrap();
        assert_eq!(replay.root, view.root(), "{shards} shards");
        assert_eq!(replay.entries, view.entries());
        assert_eq!(replay.rows, expected, "{shards} shards");
        assert_eq!(report.rows_out, expected.len() as u64);
        assert_eq!(report.lines().len(), 4);
    }
    expected
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 40, ..ProptestConfig::default() })]

    #[test]
    fn a_replay_gives_what_the_state_says(seed in any::<u64>(), count in 2usize..250, block in 3usize..40) {
        let events = history(seed, count);
        let first = store(&events, block);
        let other = store(&shuffled(&events, &mut Random(seed)), 9);
        let none = BTreeSet::new();
        let (state, again) = (state_of(&first, &none), state_of(&other, &none));
        let one = check_replay(&first, &state.current(), None, &none);
        let two = check_replay(&other, &again.current(), None, &none);
        prop_assert_eq!(without_ordinals(one), without_ordinals(two));
    }

    #[test]
    fn a_replay_to_a_cut_gives_what_the_snapshot_says(seed in any::<u64>(), count in 2usize..200) {
        let events = history(seed, count);
        let mut random = Random(seed);
        let snapshot = events[random.below(count as u64) as usize].id;
        let none = BTreeSet::new();
        let mut seen = Vec::new();
        for (arrived, block) in [(events.clone(), 7), (shuffled(&events, &mut random), 20)] {
            let store = store(&arrived, block);
            let mut state = state_of(&store, &none);
            let cut = Cut::up_to(&store, LOG, &snapshot).unwrap();
            let winners = cut::winners(&store, LOG, &cut).unwrap();
            state.keep_cut(snapshot, &winners, &store).unwrap();
            let view = state.at(&snapshot).unwrap();
            seen.push(without_ordinals(check_replay(&store, &view, Some(&cut), &none)));
        }
        prop_assert_eq!(&seen[0], &seen[1]);
    }

    #[test]
    fn what_is_aside_does_not_count(seed in any::<u64>(), count in 2usize..120) {
        let events = history(seed, count);
        let mut random = Random(seed);
        let mut some = || events[random.below(count as u64) as usize].id;
        let aside: BTreeSet<EventId> = (0..10).map(|_| some()).collect();
        let store = store(&events, 10);
        let state = state_of(&store, &aside);
        check_replay(&store, &state.current(), None, &aside);
    }

    #[test]
    fn a_list_is_in_order_whatever_the_shards(seed in any::<u64>(), count in 2usize..200) {
        let events = history(seed, count);
        let mut random = Random(seed);
        let store = store(&shuffled(&events, &mut random), 8);
        let cut = Cut::up_to(&store, LOG, &events[random.below(count as u64) as usize].id).unwrap();
        for _ in 0..10 {
            check_list(&store, &cut, &mut random);
        }
    }

    #[test]
    fn a_traversal_finds_what_a_trace_finds(seed in any::<u64>(), count in 2usize..200) {
        let events = history(seed, count);
        let store = store(&events, 12);
        let state = state_of(&store, &BTreeSet::new());
        let mut random = Random(seed);
        for _ in 0..10 {
            let directions = [Direction::Up, Direction::Down, Direction::Both];
            let walk = Walk {
                direction: directions[random.below(3) as usize],
                depth: random.below(5) as u32,
                types: (0..random.below(2)).map(|_| edge(&mut random).kind).collect(),
                role: [None, Some(EdgeRole::Both)][random.below(2) as usize],
            };
            let from = end(&mut random);
            let expected = trace::walk(&state.current(), from, &walk).unwrap();
            for shards in SHARDS {
                let all = IndexFilter::all();
                let (found, report) = plan::trace(&store, LOG, all, (from, &walk), shards).unwrap();
                prop_assert_eq!(&found, &expected);
                prop_assert_eq!(report.operator, "TGKTraversal");
            }
        }
    }
}

fn all_events(store: &Store<FaultyDisk>) -> Vec<Event> {
    (0..store.count(LOG)).map(|ordinal| store.event(LOG, ordinal).unwrap()).collect()
}

fn check_list(store: &Store<FaultyDisk>, cut: &Cut, random: &mut Random) {
    let events = all_events(store);
    let index =
        IndexFilter { cut: [None, Some(cut)][random.below(2) as usize], is_aside: &|_| false };
    let kinds = ["artifact.", "field.set", "edge.add"];
    let named = (0..random.below(3)).map(|_| kinds[random.below(3) as usize].to_owned());
    let filter = ScanFilter { kinds: named.collect(), ..ScanFilter::default() };
    let limit = [None, Some(0), Some(1), Some(7), Some(1000)][random.below(5) as usize];
    let newest_first = random.below(2) == 0;
    let mut expected: Vec<(u64, &Event)> = (0u64..)
        .zip(&events)
        .filter(|(n, e)| {
            filter.wants_kind(&e.header.kind) && index.cut.is_none_or(|c| c.contains(*n))
        })
        .collect();
    expected.sort_by_key(|(_, event)| event.order());
    if newest_first {
        expected.reverse();
    }
    expected.truncate(limit.unwrap_or(usize::MAX));
    let query = Query { filter, index, newest_first, limit, fields: Field::ALL.to_vec() };
    for shards in SHARDS {
        let (rows, report) = plan::scan(store, LOG, &query, shards).unwrap();
        assert_eq!(rows.len(), expected.len());
        assert_eq!(report.rows_out, rows.len() as u64);
        for (row, (ordinal, event)) in rows.iter().zip(&expected) {
            assert_eq!(row.order(), event.order());
            assert_eq!(row.ordinal, Some(*ordinal));
            assert_eq!(row.author, Some(event.header.author));
            assert_eq!(row.seq, Some(event.header.seq));
            assert_eq!(row.kind.as_ref(), Some(&event.header.kind));
            assert_eq!(row.subject, event.header.payload.subject);
        }
    }
}

#[test]
fn only_the_fields_that_were_asked_for() {
    let store = store(&history(1, 50), 10);
    let query = Query { fields: vec![Field::Seq], ..Query::default() };
    let (rows, report) = plan::scan(&store, LOG, &query, 2).unwrap();
    assert_eq!(rows.len(), 50);
    for row in rows {
        assert!(row.seq.is_some());
        assert_eq!((row.ordinal, row.author, row.kind, row.subject), (None, None, None, None));
    }
    assert_eq!((report.operator, &*report.details), ("Projection", "seq"));
}

/// A hundred blocks of ten events.
fn hundred() -> (Store<FaultyDisk>, Vec<VerifiedEvent>) {
    let events = history(7, 1000);
    (store(&events, 10), events)
}

#[test]
fn the_last_events_are_found_without_reading_the_first() {
    let (store, _) = hundred();
    let query = Query { newest_first: true, limit: Some(5), ..Query::default() };
    for shards in SHARDS {
        let (rows, report) = plan::scan(&store, LOG, &query, shards).unwrap();
        let scan = report.find("SegmentScan").unwrap();
        assert_eq!(rows.len(), 5);
        assert!(scan.blocks_skipped > 30, "{:?}", report.lines());
    }
}

#[test]
fn a_cut_skips_what_came_later() {
    let (store, events) = hundred();
    let cut = Cut::up_to(&store, LOG, &events[40].id).unwrap();
    let (_, report) = plan::replay(&store, LOG, Some(&cut), &|_| false, 3).unwrap();
    let scan = report.find("SegmentScan").unwrap();
    assert!(scan.blocks_scanned <= 6 && scan.blocks_skipped > 70, "{:?}", report.lines());
    assert!(report.find("IndexFilter").unwrap().rows_out <= cut.len());
}

#[test]
fn nothing_is_reached_from_an_end_without_edges() {
    let (store, _) = hundred();
    let walk = Walk { depth: 9, ..Walk::default() };
    let from = End::Artifact(artifact(999));
    let (found, _) = plan::trace(&store, LOG, IndexFilter::all(), (from, &walk), 3).unwrap();
    assert_eq!((found.nodes.len(), found.edges.len()), (1, 0));
}

/// The places in a history of the events that have a row.
fn seen(statements: &[Statement]) -> Vec<usize> {
    let events = said(statements);
    let store = store(&events, 3);
    let rows = plan::replay(&store, LOG, None, &|_| false, 2).unwrap().0.rows;
    let place = |row: &Row| events.iter().position(|event| event.id == row.id).unwrap();
    rows.iter().map(place).collect()
}

#[test]
fn a_tombstone_shadows_what_came_before_it_only() {
    let key = artifact(1);
    let put = |size| Statement::Put(Claim { key, size, type_tag: None });
    let gone = || Statement::TombstoneArtifact(key);
    assert_eq!(seen(&[put(1), put(2)]), [1]);
    assert_eq!(seen(&[put(1), put(2), gone()]), [0; 0]);
    assert_eq!(seen(&[put(1), gone(), put(2)]), [3]);
    // Said again, a claim is later than the tombstone.
    assert_eq!(seen(&[put(1), gone(), put(1)]), [3]);
    assert_eq!(seen(&[gone(), Statement::Pin { key, held: true }]), [0; 0]);
    let keep = Claim { key, size: 2, type_tag: None };
    let seen_claims = said(&[put(1), put(2)])[1..]
        .iter()
        .filter_map(|event| event.header.payload.subject)
        .collect();
    assert_eq!(seen(&[put(1), put(2), Statement::Resolve { keep, seen: seen_claims }]), [2]);
}

#[test]
fn an_edge_is_seen_unless_its_tombstone_is_later() {
    let key = edge(&mut Random(1));
    let add = || Statement::Edge(key.clone(), EdgeRole::Both);
    let gone = || Statement::TombstoneEdge(key.clone());
    assert_eq!(seen(&[add()]), [1]);
    assert_eq!(seen(&[add(), add()]), [2]);
    assert_eq!(seen(&[add(), gone()]), [0; 0]);
    assert_eq!(seen(&[gone(), add()]), [2]);
    assert_eq!(seen(&[Statement::DropSnapshot(EventId([1; 32]))]), [0; 0]);
}
