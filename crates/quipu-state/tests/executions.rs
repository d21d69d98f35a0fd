//! What the state says of programs is what the winners of the log say.
#![allow(missing_docs)]

mod common;

use std::collections::{BTreeMap, BTreeSet};

use common::{LOG, history, store};
use proptest::prelude::*;
use quipu_core::event::{Event, VerifiedEvent};
use quipu_core::execution::Execution;
use quipu_core::id::{RunKey, Subject};
use quipu_core::statement::Statement;
use quipu_state::{Said, State};

/// The winners that say something of programs in their own author's name, in replay order.
fn plainly(events: &[VerifiedEvent]) -> Vec<Said> {
    let mut winners: BTreeMap<Subject, &Event> = BTreeMap::new();
    for event in events {
        let Some(subject) = event.header.payload.subject else { continue };
        let winner = winners.entry(subject).or_insert(event);
        if event.order() > winner.order() {
            *winner = event;
        }
    }
    let mut said: Vec<Said> = winners.into_values().filter_map(said_by).collect();
    said.sort_by_key(|one| (one.logseq, one.id));
    said
}

fn said_by(event: &Event) -> Option<Said> {
    let Statement::Execution(what) = Statement::of_event(event)? else { return None };
    let said = Said { id: event.id, logseq: event.header.logseq, what };
    (said.what.node() == event.header.head.author).then_some(said)
}

proptest! {
    #[test]
    fn copies_say_nothing(seed in any::<u64>(), count in 60usize..200) {
        let events = history(seed, count);
        let store = store(&events, 50);
        let mut state = State::open(&**store.disk(), store.domain(), LOG);
        state.catch_up(&**store.disk(), &store, &BTreeSet::new()).unwrap();
        let (view, plain) = (state.current(), plainly(&events));
        for n in 0..3 {
            let run = RunKey([n; 32]);
            let about = |said: &&Said| match &said.what {
                Execution::Announce(one) => one.run == run,
                Execution::Claim { step, .. } => *step == run,
                Execution::Request(_) | Execution::Offer(_) => false,
            };
            let expected: Vec<Said> = plain.iter().filter(about).cloned().collect();
            prop_assert_eq!(view.work_on(&run).unwrap(), expected);
        }
        let (mut announced, mut requests, mut offers) = (Vec::new(), Vec::new(), Vec::new());
        for said in plain {
            match said.what.clone() {
                Execution::Announce(one) => announced.push((said, one)),
                Execution::Request(one) => requests.push(one),
                Execution::Offer(one) => offers.push(one),
                Execution::Claim { .. } => {}
            }
        }
        prop_assert_eq!(view.announcements().unwrap(), announced);
        prop_assert_eq!(view.requests().unwrap(), requests);
        prop_assert_eq!(view.offers().unwrap(), offers);
    }
}
