//! What it costs to find a difference, and that it is always found.

use quipu_core::domain::Role;
use quipu_core::node::{CommandError, LinkId, Reply};
use quipu_core::sync::session::Traffic;

use crate::common::World;

fn traffic(reply: Result<Reply, CommandError>) -> Traffic {
    match reply {
        Ok(Reply::Synced { traffic, equal: true }) => traffic,
        other => panic!("not level: {other:?}"),
    }
}

/// A domain whose members wrote in turn, with machines 1 and 2 that hold all of it.
fn grown(authors: usize, events: u64) -> World {
    let mut w = World::new();
    w.add_members(authors, Role::Writer);
    let mut history = w.machines[0].history.clone();
    let per = events / authors as u64;
    for n in 1..=authors {
        w.machines[n] =
            crate::common::Machine::of(crate::common::key(n as u64), w.domain(), history);
        w.now += 1;
        w.emit(n, per);
        history = w.machines[n].history.clone();
    }
    for n in 1..=2 {
        w.machines[n] =
            crate::common::Machine::of(crate::common::key(n as u64), w.domain(), history.clone());
    }
    w
}

/// Fifty events by different members on each side.
fn part(w: &mut World, authors: usize) {
    for (side, keeper) in [(0, 1), (1, 2)] {
        for i in 0..50 {
            let n = 3 + (2 * i + side) % (authors - 2);
            w.machines[n] = crate::common::Machine::of(
                crate::common::key(n as u64),
                w.domain(),
                w.machines[keeper].history.clone(),
            );
            w.now += 1;
            w.emit(n, 1);
            w.machines[keeper] = crate::common::Machine::of(
                crate::common::key(keeper as u64),
                w.domain(),
                w.machines[n].history.clone(),
            );
        }
    }
}

fn cost(w: &World, link: LinkId, traffic: &Traffic) -> String {
    let (frames, bytes) = w.counted(link);
    format!("{} round trips, {frames} frames, {bytes} bytes", traffic.round_trips)
}

#[test]
fn fifty_and_fifty_of_two_thousand_cost_little() {
    for (authors, bytes_max) in [(10, 6_000), (200, 16_000)] {
        let mut w = grown(authors, 2_000);
        part(&mut w, authors);
        let t = traffic(w.sync(1, 2));
        println!("50+50, {authors} authors: {}", cost(&w, w.last_link(), &t));
        w.assert_agree(&[1, 2]);
        assert_eq!((t.sent_events, t.received_events), (50, 50));
        assert_eq!(t.round_trips, 2);
        let (_, bytes) = w.counted(w.last_link());
        assert!(bytes < bytes_max, "{bytes}");
    }
}

#[test]
fn machines_that_met_compare_only_what_changed() {
    let mut w = grown(200, 2_000);
    traffic(w.sync(1, 2));
    w.emit(1, 20);
    w.emit(2, 20);
    let t = traffic(w.sync(1, 2));
    println!("met, 20+20: {}", cost(&w, w.last_link(), &t));
    w.assert_agree(&[1, 2]);
    assert_eq!((t.round_trips, t.sent_events, t.received_events), (2, 20, 20));
    let (_, bytes) = w.counted(w.last_link());
    assert!(bytes < 1_600, "{bytes}");
    // One side only; and the memory outlives a crash.
    w.emit(2, 20);
    w.crash(1);
    let t = traffic(w.sync(1, 2));
    assert_eq!((t.round_trips, t.sent_events, t.received_events), (2, 0, 20));
    let (_, bytes) = w.counted(w.last_link());
    assert!(bytes < 1_200, "{bytes}");
}

#[test]
fn three_in_a_circle_prune_and_lose_nothing() {
    let mut w = World::new();
    w.add_members(2, Role::Writer);
    w.link(0, 1);
    w.link(1, 2);
    w.link(2, 0);
    w.run_for(2_000);
    for round in 0..60 {
        w.emit(round % 3, 4);
        w.run_for(20);
    }
    w.run_for(3_000);
    w.assert_agree(&[0, 1, 2]);
    assert_eq!(w.machines[0].event_count(), 3 + 240);
    let duplicates: u64 = w
        .machines
        .iter()
        .flat_map(|m| m.node.peers())
        .map(|(_, _, traffic)| traffic.duplicate_events)
        .sum();
    println!("duplicates in a circle of three: {duplicates} of 480");
    assert!(duplicates < 250, "{duplicates} duplicates");
}

#[test]
fn a_pruned_link_takes_over_when_the_other_path_breaks() {
    let mut w = World::new();
    w.add_members(2, Role::Writer);
    let direct = w.link(0, 1);
    w.link(1, 2);
    w.link(2, 0);
    w.run_for(1_000);
    for round in 0..60 {
        w.emit(round % 3, 4);
        w.run_for(20);
    }
    w.break_link(direct);
    for round in 0..30 {
        w.emit(round % 3, 4);
        w.run_for(100);
    }
    w.run_for(2_000);
    w.assert_agree(&[0, 1, 2]);
}

#[test]
fn many_leaves_are_merged_within_the_cap() {
    let mut w = World::new();
    let count = 300;
    w.add_members(count, Role::Writer);
    let base = w.machines[0].history.clone();
    for n in 1..=count {
        w.now += 1;
        w.emit(n, 1);
        traffic(w.sync(n, 0));
    }
    assert_eq!(base.all().len(), 1 + count);
    assert_eq!(w.machines[0].leaves(), count);
    // A newcomer with too many leaves still writes an event that counts.
    let ticket = w.invite(0, 900, Role::Writer, 1);
    let joiner = w.add_stranger();
    let proof = w.proof(joiner, ticket);
    traffic(w.sync_with(joiner, 0, Some(proof)));
    let first = w.emit(joiner, 1);
    assert!(first[0].parents.len() <= 128);
    traffic(w.sync(joiner, 0));
    w.assert_agree(&[0, joiner]);
    // Others merge the rest.
    for n in [1, 2, 3] {
        traffic(w.sync(n, 0));
        let merge = w.emit(n, 1);
        assert!(merge[0].parents.len() <= 128 && merge[0].parents.is_sorted());
        traffic(w.sync(n, 0));
    }
    w.assert_agree(&[0, 3]);
    assert!(w.machines[3].leaves() < 4, "{}", w.machines[3].leaves());
}

#[test]
fn a_one_off_sync_while_the_other_side_writes_ends_level() {
    let mut w = grown(10, 3_000);
    w.machines[3] = crate::common::Machine::of(
        crate::common::key(3),
        w.domain(),
        w.machines[0].history.clone(),
    );
    // Machine 1 writes between any two frames, in the middle of its runs.
    let reply = w.sync_while(3, 1, 40, |w| _ = w.emit(1, 3));
    w.settle();
    println!("sync under load: {reply:?}");
    traffic(w.sync(3, 1));
    w.assert_agree(&[1, 3]);
}
