//! Scans of segments against a model.
#![allow(missing_docs)]

mod common;

use std::sync::Arc;

use common::{Maker, Random, seal_all, small};
use quipu_core::event::{Event, Log, LogSeq};
use quipu_core::id::{EventId, Subject};
use quipu_store::{FaultyDisk, ScanFilter, ScanPayload, ScanReport, Store};

const LOG: Log = Log::Internal;

/// A store with sealed blocks, a frozen file and an active one; some payloads are erased.
fn store(seed: u64) -> (Store<FaultyDisk>, Vec<Event>) {
    let (mut maker, root) = Maker::new(seed, 5);
    maker.cells = 40;
    let mut events = vec![root.event().clone()];
    let mut store =
        Store::create(Arc::new(FaultyDisk::new()), quipu_core::event::Log::Internal, root, small())
            .unwrap();
    for round in 0..60 {
        let length = 1 + maker.random.below(12);
        let run = maker.run(length);
        events.extend(run.iter().map(|event| event.event().clone()));
        store.append(LOG, run).unwrap();
        store.commit().unwrap();
        if round < 50 {
            seal_all(&mut store);
        }
    }
    let _frozen = store.seal_job();
    for _ in 0..10 {
        let ordinal = maker.random.below(events.len() as u64);
        store.erase(LOG, ordinal).unwrap();
        events[ordinal as usize].payload = None;
    }
    (store, events)
}

fn filter(random: &mut Random, events: &[Event]) -> ScanFilter {
    let mut some = |one_in: u64, most: u64| match random.below(one_in) {
        0 => (0..1 + random.below(most))
            .map(|_| events[random.below(events.len() as u64) as usize].clone())
            .collect(),
        _ => Vec::new(),
    };
    let mut filter = ScanFilter {
        kinds: some(3, 2).iter().map(|event| event.header.kind.to_string()).collect(),
        authors: some(3, 2).iter().map(|event| event.header.author).collect(),
        ids: some(5, 20).iter().map(|event| event.id).collect(),
        subjects: some(4, 3).iter().filter_map(|event| event.header.payload.subject).collect(),
        ..ScanFilter::default()
    };
    if let [a, b, ..] = &some(2, 6)[..] {
        let clocks = [a.header.logseq, b.header.logseq];
        filter.clocks = (clocks[0].min(clocks[1]), clocks[0].max(clocks[1]));
    }
    if random.below(3) == 0 {
        let start = random.below(events.len() as u64);
        filter.ordinals = start..start + random.below(100);
    }
    if random.below(4) == 0 {
        filter.kinds.push("field.".to_owned());
    }
    filter.payloads = random.below(2) == 0;
    filter
}

fn passes(filter: &ScanFilter, event: &Event, ordinal: u64) -> bool {
    let header = &event.header;
    let kind = |name: &String| {
        **name == *header.kind || (name.ends_with('.') && header.kind.starts_with(name.as_str()))
    };
    let subject = header.payload.subject;
    (filter.kinds.is_empty() || filter.kinds.iter().any(kind))
        && (filter.authors.is_empty() || filter.authors.contains(&header.author))
        && (filter.ids.is_empty() || filter.ids.contains(&event.id))
        && (filter.subjects.is_empty() || subject.is_some_and(|s| filter.subjects.contains(&s)))
        && filter.clocks.0 <= header.logseq
        && header.logseq <= filter.clocks.1
        && filter.ordinals.contains(&ordinal)
}

fn check(store: &Store<FaultyDisk>, events: &[Event], filter: &ScanFilter) -> ScanReport {
    let reads = filter.payloads || !filter.subjects.is_empty();
    let mut expected = (0u64..).zip(events).filter(|(n, event)| passes(filter, event, *n));
    let mut total = ScanReport::default();
    for segment in store.segments(LOG) {
        let before = segment.skipped();
        let report = segment
            .scan(filter, &mut |row| {
                let (ordinal, event) = expected.next().expect("a row too many");
                assert_eq!((row.ordinal, row.id), (ordinal, event.id));
                assert_eq!((row.author, row.seq), (event.header.author, event.header.seq));
                assert_eq!((row.logseq, &**row.kind), (event.header.logseq, &*event.header.kind));
                assert_eq!(segment.kinds()[row.kind_number], *row.kind);
                let subject = event.header.payload.subject;
                let payload = match event.payload_value() {
                    _ if !reads => ScanPayload::NotRead,
                    Some(value) => ScanPayload::Value(value),
                    None => ScanPayload::Absent(subject),
                };
                assert_eq!(row.payload, payload);
                assert_eq!(row.subject(), subject.filter(|_| reads));
            })
            .unwrap();
        assert_eq!(
            report.pages_read + report.pages_skipped,
            before.pages_read + before.pages_skipped
        );
        assert!(report.bytes_read <= report.bytes_total && report.rows_out <= report.rows_in);
        total += report;
    }
    assert!(expected.next().is_none(), "a row is missing for {filter:?}");
    total
}

#[test]
fn scans_show_what_passes_and_nothing_else() {
    for seed in 0..12 {
        let (store, events) = store(seed);
        let mut random = Random(seed);
        for _ in 0..60 {
            check(&store, &events, &filter(&mut random, &events));
        }
        check(&store, &events, &ScanFilter::default());
        check(&store, &events, &ScanFilter { payloads: true, ..ScanFilter::default() });
    }
}

#[test]
fn segments_say_what_they_hold() {
    let (store, events) = store(3);
    let mut next = 0;
    for segment in store.segments(LOG) {
        assert_eq!(segment.ordinals().start, next);
        next = segment.ordinals().end;
        let range = segment.ordinals().start as usize..next as usize;
        let part = &events[range];
        let clocks = || part.iter().map(|event| event.header.logseq);
        assert_eq!(segment.clocks(), (clocks().min().unwrap(), clocks().max().unwrap()));
        assert!(part.iter().all(|e| segment.kinds().binary_search(&e.header.kind).is_ok()));
        assert!(part.iter().all(|e| segment.authors().binary_search(&e.header.author).is_ok()));
    }
    assert_eq!(next, events.len() as u64);
}

#[test]
fn what_cannot_pass_is_not_read() {
    let (store, events) = store(5);
    let nothing = |filter: ScanFilter| {
        let report = check(&store, &events, &filter);
        assert_eq!((report.pages_read, report.bytes_read), (0, 0), "{filter:?}");
        assert_eq!(report.segments_scanned, 0);
    };
    nothing(ScanFilter { kinds: vec!["no.such".into()], ..ScanFilter::default() });
    nothing(ScanFilter { clocks: (LogSeq(0), LogSeq(1)), ..ScanFilter::default() });
    nothing(ScanFilter { authors: vec![Default::default()], ..ScanFilter::default() });
    nothing(ScanFilter { ordinals: 100_000..200_000, ..ScanFilter::default() });
    let all = check(&store, &events, &ScanFilter::default());
    assert_eq!(all.segments_skipped, 0);
    let ids: Vec<EventId> = vec![events[7].id];
    let one = check(&store, &events, &ScanFilter { ids, ..ScanFilter::default() });
    assert_eq!((one.segments_scanned, one.pages_read), (1, 1), "{one:?}");
    assert!(one.bytes_read * 3 < all.bytes_read, "{one:?} {all:?}");
}

#[test]
fn several_threads_read_at_once() {
    let (store, events) = store(8);
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                check(&store, &events, &ScanFilter { payloads: true, ..Default::default() })
            });
        }
    });
}

#[test]
fn a_look_for_a_fold_key_passes_over_blocks_without_it() {
    let (store, events) = store(9);
    let rare = events.iter().filter(|event| &*event.header.kind == "member.add");
    let unknown = ScanFilter { subjects: vec![Subject([3; 32])], ..ScanFilter::default() };
    let report = check(&store, &events, &unknown);
    // What lies in memory is looked at.
    assert!(report.segments_scanned <= 2 && report.segments_skipped >= 4, "{report:?}");
    for event in rare {
        let subjects = event.header.payload.subject.into_iter().collect();
        check(&store, &events, &ScanFilter { subjects, ..ScanFilter::default() });
    }
}
