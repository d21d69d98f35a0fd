//! Authors that write two histories.

use quipu_core::domain::Role;
use quipu_core::node::Notice;

use crate::common::{Machine, World, key};

/// Adds a machine with the key of machine `n` and what that one holds now.
fn clone_disk(w: &mut World, n: usize) -> usize {
    let history = w.machines[n].history.after_crash();
    let twin = Machine::of(w.machines[n].signing.clone(), w.domain(), history);
    w.machines.push(twin);
    w.machines.len() - 1
}

fn mesh(w: &mut World, who: &[usize]) {
    for _ in 0..3 {
        for pair in who.windows(2) {
            let _ = w.sync(pair[0], pair[1]);
        }
    }
}

fn fork_of(length: u64) {
    let mut w = World::new();
    w.add_members(3, Role::Writer);
    w.emit(1, 10);
    mesh(&mut w, &[0, 1, 2, 3]);
    let twin = clone_disk(&mut w, 1);
    let a = w.emit(1, length);
    w.now += 1;
    let b = w.emit(twin, length);
    let _ = w.sync(1, 2);
    let _ = w.sync(twin, 3);
    let reply = w.sync(2, 3);
    println!("fork of {length}: {reply:?}");
    w.assert_agree(&[2, 3]);
    mesh(&mut w, &[0, 2, 3]);
    w.assert_agree(&[0, 2, 3]);
    mesh(&mut w, &[1, 2, twin, 3]);
    w.assert_agree(&[0, 1, 2, 3, twin]);
    let mut expected = vec![a[0].id, b[0].id];
    expected.sort_unstable();
    for n in [0, 1, 2, 3, twin] {
        assert_eq!(w.machines[n].event_count(), 4 + 10 + 2 * length, "machine {n}");
        let dag = w.machines[n].node.dag().unwrap();
        let list = dag.equivocations();
        assert_eq!(list.len(), 1, "machine {n}");
        assert_eq!((list[0].author, list[0].seq, &list[0].ids), (w.id(1), 11, &expected));
        assert!(dag.is_forked(&w.id(1)));
    }
    for n in [0, 2, 3] {
        let forked = |notice: &Notice| matches!(notice, Notice::Forked { .. });
        assert_eq!(w.machines[n].notices.iter().filter(|x| forked(x)).count(), 1, "machine {n}");
        let before =
            (w.machines[n].node.digest(), w.machines[n].node.dag().unwrap().equivocations());
        w.crash(n);
        let after =
            (w.machines[n].node.digest(), w.machines[n].node.dag().unwrap().equivocations());
        assert_eq!(before, after);
    }
    // It goes on with one branch, others with both.
    w.emit(1, 3);
    w.emit(2, 1);
    mesh(&mut w, &[0, 1, 2, 3, twin]);
    w.assert_agree(&[0, 1, 2, 3, twin]);
}

#[test]
fn both_branches_of_a_short_fork_are_everywhere() {
    fork_of(1);
    fork_of(3);
}

#[test]
fn both_branches_of_a_long_fork_are_everywhere() {
    fork_of(40);
    fork_of(500);
}

#[test]
fn a_fork_into_forty_is_cut_alike() {
    let mut w = World::new();
    w.add_members(4, Role::Writer);
    w.emit(1, 10);
    mesh(&mut w, &[0, 1, 2, 3, 4]);
    let base = w.machines[1].history.after_crash();
    for i in 0..40 {
        w.machines[1] = Machine::of(key(1), w.domain(), base.clone());
        w.now += 1;
        w.emit(1, 2);
        let keeper = 2 + i % 3;
        let _ = w.sync(1, keeper);
    }
    mesh(&mut w, &[0, 2, 3, 4]);
    w.assert_agree(&[0, 2, 3, 4]);
    assert_eq!(w.machines[0].event_count(), 5 + 10 + 2 * 16);
    for n in [0, 2, 3, 4] {
        let before = w.machines[n].node.digest();
        w.crash(n);
        assert_eq!(w.machines[n].node.digest(), before, "machine {n}");
    }
    // What others built upon stays, in everybody's log.
    let held = w.machines[2].event_count();
    w.emit(2, 1);
    mesh(&mut w, &[0, 2, 3, 4]);
    w.assert_agree(&[0, 2, 3, 4]);
    assert_eq!(w.machines[0].event_count(), held + 1);
}

#[test]
fn what_others_linked_to_before_a_fork_grew_stays() {
    let mut w = World::new();
    w.add_members(3, Role::Writer);
    mesh(&mut w, &[0, 1, 2, 3]);
    let base = w.machines[1].history.after_crash();
    for i in 0..20 {
        w.machines[1] = Machine::of(key(1), w.domain(), base.clone());
        w.now += 1;
        w.emit(1, 1);
        let keeper = 2 + i % 2;
        let _ = w.sync(1, keeper);
        w.emit(keeper, 1);
    }
    mesh(&mut w, &[2, 3, 0]);
    w.assert_agree(&[0, 2, 3]);
    assert_eq!(w.machines[0].event_count(), 4 + 40);
}
