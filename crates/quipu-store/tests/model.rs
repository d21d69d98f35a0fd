//! The store against a model, under random operations.
#![allow(missing_docs)]

mod common;

use std::sync::Arc;

use common::{Maker, Model, Random, seal_all, small};
use proptest::prelude::*;
use quipu_core::event::Log;
use quipu_core::history::History;
use quipu_store::{FaultyDisk, RealDisk, Store, StoreError, StoreOptions};

#[derive(Debug, Clone)]
enum Step {
    Append(u64),
    Commit,
    Seal,
    Reopen,
    Erase(u64),
    Crash(u64),
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        6 => (1..30u64).prop_map(Step::Append),
        4 => Just(Step::Commit),
        3 => Just(Step::Seal),
        1 => Just(Step::Reopen),
        2 => any::<u64>().prop_map(Step::Erase),
        1 => any::<u64>().prop_map(Step::Crash),
    ]
}

struct Run {
    maker: Maker,
    /// Everything made so far: after a crash, events that got lost are appended again.
    made: Model,
    held: Model,
    committed: usize,
    disk: Arc<FaultyDisk>,
    store: Option<Store<FaultyDisk>>,
}

impl Run {
    fn new(seed: u64) -> Self {
        let (maker, root) = Maker::new(seed, 5);
        let disk = Arc::new(FaultyDisk::new());
        let held = Model { events: vec![root.event().clone()] };
        let store =
            Store::create(disk.clone(), quipu_core::event::Log::Internal, root, small()).unwrap();
        Self { maker, made: held.clone(), held, committed: 1, disk, store: Some(store) }
    }

    fn store(&mut self) -> &mut Store<FaultyDisk> {
        self.store.as_mut().unwrap()
    }

    fn open(&mut self) {
        let (store, _) = Store::open(self.disk.clone(), self.maker.domain, small()).unwrap();
        let count = store.count(Log::Internal) as usize;
        assert!(count >= self.committed, "{count} of {} committed", self.committed);
        assert!(count <= self.held.events.len());
        self.held.events.truncate(count);
        self.committed = count;
        self.store = Some(store);
    }

    fn append(&mut self, length: u64) {
        // Lost events come again, as they would from a peer.
        let lost = self.made.events[self.held.events.len()..].to_vec();
        let mut events: Vec<_> =
            lost.into_iter().map(quipu_core::event::VerifiedEvent::from_store).collect();
        events.extend(self.maker.run(length));
        let plain = || events.iter().map(|event| event.event().clone());
        self.made.events.truncate(self.held.events.len());
        self.made.events.extend(plain());
        self.held.events.extend(plain());
        let start = self.store().count(Log::Internal);
        let range = self.store().append(Log::Internal, events).unwrap();
        assert_eq!(range, start..self.held.events.len() as u64);
    }

    fn apply(&mut self, step: &Step) {
        match step {
            Step::Append(length) => self.append(*length),
            Step::Commit => {
                self.store().commit().unwrap();
                self.committed = self.held.events.len();
            }
            Step::Seal => seal_all(self.store()),
            Step::Reopen => {
                self.store().commit().unwrap();
                self.committed = self.held.events.len();
                self.store = None;
                self.open();
            }
            Step::Erase(n) => {
                let ordinal = n % self.held.events.len() as u64;
                let payload = self.held.events[ordinal as usize].payload.take();
                self.made.events[ordinal as usize].payload = None;
                let bytes = self.store().erase(Log::Internal, ordinal).unwrap();
                assert_eq!(bytes, payload.map_or(0, |payload| payload.len() as u64));
            }
            Step::Crash(seed) => {
                self.disk.crash(*seed);
                self.store = None;
                self.open();
            }
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 150, ..ProptestConfig::default() })]
    #[test]
    fn store_equals_model(seed: u64, steps in prop::collection::vec(step(), 1..60)) {
        let mut run = Run::new(seed);
        let mut random = Random(seed);
        for step in &steps {
            run.apply(step);
            if random.below(3) == 0 {
                let held = run.held.clone();
                held.check(run.store(), &mut random);
            }
        }
        let held = run.held.clone();
        held.check(run.store(), &mut random);
    }
}

#[test]
fn real_disk_works_alike_and_is_locked() {
    let dir = tempfile::tempdir().unwrap();
    let disk = Arc::new(RealDisk::new(dir.path()).unwrap());
    let (mut maker, root) = Maker::new(7, 5);
    let mut model = Model { events: vec![root.event().clone()] };
    let mut store =
        Store::create(disk.clone(), quipu_core::event::Log::Internal, root, small()).unwrap();
    for round in 0..60 {
        let events = maker.run(1 + round % 13);
        model.events.extend(events.iter().map(|event| event.event().clone()));
        store.append(Log::Internal, events).unwrap();
        store.commit().unwrap();
        if round % 7 == 0 {
            seal_all(&mut store);
        }
    }
    model.check(&store, &mut Random(1));
    let again = Store::open(disk.clone(), maker.domain, small());
    match again {
        Err(error @ StoreError::Locked { .. }) => {
            assert!(error.to_string().contains(&std::process::id().to_string()), "{error}");
        }
        other => panic!("{other:?}"),
    }
    drop(store);
    let (store, recovery) = Store::open(disk, maker.domain, small()).unwrap();
    assert!(recovery.is_clean());
    assert!(store.stats().blocks > 2);
    model.check(&store, &mut Random(2));
}

#[test]
fn stores_and_jobs_may_cross_threads() {
    fn send<T: Send>() {}
    fn sync<T: Sync>() {}
    send::<Store<RealDisk>>();
    sync::<Store<RealDisk>>();
    send::<quipu_store::SealJob<FaultyDisk>>();
    send::<quipu_store::Sealed>();
}

#[test]
fn sealing_runs_beside_everything_else() {
    let mut run = Run::new(40);
    for round in 0..30 {
        run.append(40);
        run.apply(&Step::Commit);
        let jobs: Vec<_> = run.store().seal_job().into_iter().collect();
        let threads: Vec<_> =
            jobs.into_iter().map(|job| std::thread::spawn(|| job.run())).collect();
        run.append(5);
        run.apply(&Step::Erase(round * 31));
        run.apply(&Step::Commit);
        let held = run.held.clone();
        held.check(run.store(), &mut Random(round));
        for thread in threads {
            let sealed = thread.join().unwrap().unwrap();
            run.apply(&Step::Erase(round * 37));
            run.store().finish_seal(sealed).unwrap();
        }
    }
    seal_all(run.store());
    let held = run.held.clone();
    held.check(run.store(), &mut Random(1));
    let problems = run.store().verify(&mut |_, _| {}).problems;
    assert!(problems.is_empty(), "{problems:?}");
}

/// A feed so long that its list is kept in memory once it was asked for, beside a short one.
#[test]
fn long_feeds_answer_like_short_ones() {
    let (mut maker, root) = Maker::new(77, 2);
    maker.fork_one_in = 40;
    let disk = Arc::new(FaultyDisk::new());
    let options = StoreOptions { block_events_max: 3000, block_bytes_max: 8 << 20, ..small() };
    let mut model = Model { events: vec![root.event().clone()] };
    let mut store = Store::create(disk, quipu_core::event::Log::Internal, root, options).unwrap();
    for round in 0..400 {
        let run = maker.run_of(usize::from(round % 20 == 0), 10);
        model.events.extend(run.iter().map(|event| event.event().clone()));
        store.append(Log::Internal, run).unwrap();
        store.commit().unwrap();
        seal_all(&mut store);
    }
    assert_eq!(store.stats().blocks, 1);
    let mut random = Random(5);
    model.check(&store, &mut random);
    let authors: Vec<_> = [1, 2].iter().map(|n| model.events[n * 200].header.author).collect();
    for _ in 0..300 {
        let author = &authors[random.below(2) as usize];
        let from = random.below(4000);
        let seqs = from..from + random.below(300);
        let expected = model.feed(author, seqs.clone());
        assert_eq!(store.feed(Log::Internal, author, seqs).unwrap(), expected);
    }
    assert_eq!(store.feed(Log::Internal, &authors[0], 1..u64::MAX).unwrap().len(), {
        model.feed(&authors[0], 1..u64::MAX).len()
    });
}
