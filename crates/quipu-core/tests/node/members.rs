//! Who counts: removals, invitations, chains of admins, hostile clocks, erasure.

use quipu_core::codec::v1;
use quipu_core::domain::{Decision, Role};
use quipu_core::event::{Draft, Event, Log, LogSeq, Position, sign_id};
use quipu_core::id::EventId;
use quipu_core::node::{Notice, Reply};

use crate::common::{Dice, Machine, World, field, key};

/// Two machines exchange everything; the reply does not matter.
fn sync(w: &mut World, a: usize, b: usize) {
    match w.sync(a, b) {
        Ok(Reply::Synced { equal: true, .. }) => {}
        other => println!("sync of {a} with {b}: {other:?}"),
    }
}

fn mesh(w: &mut World, who: &[usize]) {
    for _ in 0..3 {
        for pair in who.windows(2) {
            sync(w, pair[0], pair[1]);
        }
    }
}

#[test]
fn a_removed_member_with_a_stolen_clock_is_kept_aside_everywhere() {
    let mut w = World::new();
    w.add_members(3, Role::Writer);
    let (removed, unaware) = (1, 2);
    w.emit(removed, 5);
    mesh(&mut w, &[0, 1, 2, 3]);
    w.assert_agree(&[0, 1, 2, 3]);
    let node = w.id(removed);
    w.decide(0, Decision::Remove { node }).unwrap();
    sync(&mut w, 0, 3);
    // It goes on, with its clock set back, and one machine has not heard yet.
    w.machines[removed].clock_error = -5_000_000;
    w.emit(removed, 200);
    sync(&mut w, unaware, removed);
    assert_eq!(w.machines[unaware].role(&node), Some(Role::Writer));
    w.assert_agree(&[unaware, removed]);
    // That one spreads it further.
    sync(&mut w, unaware, 3);
    mesh(&mut w, &[0, 3, 2]);
    w.assert_agree(&[0, 2, 3]);
    for n in [0, 2, 3] {
        assert_eq!(w.machines[n].role(&node), None);
        assert_eq!(w.machines[n].event_count(), 4 + 5 + 1, "machine {n}");
    }
    let dag = w.machines[unaware].node.dag().unwrap();
    assert_eq!(dag.quarantined().len(), 200);
    // The removed one is turned away, and learns why if it still gets to somebody unaware.
    assert!(w.sync(removed, 0).is_err());
    // All of it survives a restart.
    for n in [0, 2, 3] {
        let before = w.machines[n].node.digest();
        w.crash(n);
        assert_eq!(w.machines[n].node.digest(), before);
    }
}

#[test]
fn what_an_unaware_member_built_upon_is_kept() {
    let mut w = World::new();
    w.add_members(3, Role::Writer);
    mesh(&mut w, &[0, 1, 2, 3]);
    let node = w.id(1);
    w.decide(0, Decision::Remove { node }).unwrap();
    sync(&mut w, 0, 3);
    w.emit(1, 10);
    sync(&mut w, 2, 1);
    let on_top = w.emit(2, 1);
    w.emit(1, 7);
    sync(&mut w, 2, 1);
    mesh(&mut w, &[0, 3, 2]);
    w.assert_agree(&[0, 2, 3]);
    for n in [0, 2, 3] {
        assert_eq!(w.machines[n].event_count(), 4 + 1 + 10 + 1, "machine {n}");
        assert!(!w.machines[n].node.dag().unwrap().is_quarantined(&on_top[0].id));
        let before = w.machines[n].node.digest();
        w.crash(n);
        assert_eq!(w.machines[n].node.digest(), before);
    }
}

#[test]
fn only_somebody_up_the_chain_removes_an_admin() {
    let mut w = World::new();
    w.add_members(4, Role::Writer);
    let admin =
        |w: &World, n: usize| Decision::Add { node: w.id(n), role: Role::Admin, invite: None };
    w.decide(0, admin(&w, 1)).unwrap();
    w.decide(0, admin(&w, 2)).unwrap();
    mesh(&mut w, &[0, 1, 2, 3, 4]);
    w.decide(1, admin(&w, 3)).unwrap();
    mesh(&mut w, &[0, 1, 2, 3, 4]);
    assert!(w.decide(2, Decision::Remove { node: w.id(1) }).is_err());
    assert!(w.decide(3, Decision::Remove { node: w.id(1) }).is_err());
    assert!(w.decide(2, Decision::Remove { node: w.id(3) }).is_err());
    assert!(w.decide(1, Decision::Remove { node: w.id(0) }).is_err());
    // Written all the same, it has no effect.
    for (by, node) in [(2, 1), (1, 2), (3, 1)] {
        let forged =
            forge(&w.machines[by], by as u64, &Decision::Remove { node: w.id(node) }, w.now);
        for n in [0, 1, 2, 3, 4] {
            let out = w.machines[n].import(w.now, vec![forged.clone()]);
            w.dispatch(n, out);
            assert_eq!(w.machines[n].role(&w.id(node)), Some(Role::Admin), "machine {n}");
        }
    }
    w.assert_agree(&[0, 1, 2, 3, 4]);
    // Its own creator may.
    w.decide(1, Decision::Remove { node: w.id(3) }).unwrap();
    mesh(&mut w, &[0, 1, 2, 4]);
    w.assert_agree(&[0, 1, 2, 4]);
    assert_eq!(w.machines[4].role(&w.id(3)), None);
    // Two admins of one level cannot throw each other out; the founder ends it.
    w.decide(0, Decision::Remove { node: w.id(1) }).unwrap();
    mesh(&mut w, &[0, 2, 4]);
    w.assert_agree(&[0, 2, 4]);
    assert_eq!(w.machines[2].role(&w.id(1)), None);
}

/// An event at a place that its author's own machine would not have taken.
fn forge(machine: &Machine, n: u64, decision: &Decision, now: u64) -> Event {
    let (kind, value) = decision.to_value(Log::Internal);
    let payload = quipu_core::domain::block_of(&value, &[1; 8]);
    let draft = Draft { log: Log::Internal, kind: kind.into(), payload };
    let at = machine.node.dag().unwrap().next_position(machine.id, now);
    let mut event = draft.place(at, &machine.node.domain());
    event.signature = Some(sign_id(&key(n), &event.id));
    event
}

#[test]
fn a_ticket_that_two_admins_honour_counts_once() {
    for seed in 0..6 {
        let mut w = World::new();
        w.add_members(2, Role::Writer);
        w.decide(0, Decision::Add { node: w.id(1), role: Role::Admin, invite: None }).unwrap();
        let ticket = w.invite(0, 900, Role::Writer, 1);
        mesh(&mut w, &[0, 1, 2]);
        w.now += seed;
        let (a, b) = (w.add_stranger(), w.add_stranger());
        let (proof_a, proof_b) = (w.proof(a, ticket), w.proof(b, ticket));
        w.sync_with(a, 0, Some(proof_a)).unwrap();
        w.sync_with(b, 1, Some(proof_b)).unwrap();
        w.emit(a, 3);
        w.emit(b, 3);
        let _ = w.sync(a, 0);
        let _ = w.sync(b, 1);
        let admission = |w: &World, n: usize, node: usize| -> EventId {
            let id = w.id(node);
            let found = w.machines[n].history.all().iter().find(
                |e| matches!(Decision::of_event(e), Some(Decision::Add { node, .. }) if node == id),
            );
            found.unwrap().id
        };
        let (at_0, at_1) = (admission(&w, 0, a), admission(&w, 1, b));
        mesh(&mut w, &[0, 1, 2]);
        w.assert_agree(&[0, 1, 2]);
        let winner = if at_0 < at_1 { a } else { b };
        for n in [0, 1, 2] {
            for node in [a, b] {
                let role = w.machines[n].role(&w.id(node));
                assert_eq!(role, (node == winner).then_some(Role::Writer), "machine {n}");
            }
            let before = w.machines[n].node.digest();
            w.crash(n);
            assert_eq!(w.machines[n].node.digest(), before);
        }
    }
}

#[test]
fn the_greatest_clock_stops_nobody() {
    let mut w = World::new();
    w.add_members(2, Role::Writer);
    let mut at = w.machines[1].node.dag().unwrap().next_position(w.id(1), w.now);
    at.logseq = LogSeq((1 << 63) - 1);
    let event = signed(&w, 1, at);
    w.machines[1].import(w.now, vec![event]);
    mesh(&mut w, &[0, 1, 2]);
    for _ in 0..3 {
        for n in 0..3 {
            let emitted = w.emit(n, 3);
            assert!(emitted[0].logseq.0 >= 1 << 63);
            mesh(&mut w, &[0, 1, 2]);
        }
    }
    w.assert_agree(&[0, 1, 2]);
    assert_eq!(w.machines[0].leaves(), 1);
}

/// A `field.set` by a machine at any place.
fn signed(w: &World, n: usize, at: Position) -> Event {
    let (kind, value) = field(n as u64);
    let payload = v1::payload_block(&[3; 8], &value);
    let mut event = Draft { log: Log::Internal, kind, payload }.place(at, &w.domain());
    event.signature = Some(sign_id(&w.machines[n].signing, &event.id));
    event
}

#[test]
fn an_erasure_reaches_all() {
    let mut w = World::new();
    w.add_members(2, Role::Writer);
    let secret = w.emit(1, 5)[2].id;
    mesh(&mut w, &[0, 1, 2]);
    let reason = "asked for".to_owned();
    let denied = w.decide(2, Decision::Erase { target: secret, reason: reason.clone() });
    println!("erasure of another's event by a writer: {denied:?}");
    w.decide(1, Decision::Erase { target: secret, reason }).unwrap();
    mesh(&mut w, &[1, 0, 2]);
    w.assert_agree(&[0, 1, 2]);
    for n in [0, 1, 2] {
        assert!(w.machines[n].history.get(&secret).unwrap().payload.is_none(), "machine {n}");
        assert!(w.machines[n].node.dag().unwrap().is_erased(&secret));
    }
    let ticket = w.invite(0, 900, Role::Writer, 1);
    let late = w.add_stranger();
    let proof = w.proof(late, ticket);
    w.sync_with(late, 0, Some(proof)).unwrap();
    assert!(w.machines[late].history.get(&secret).unwrap().payload.is_none());
    w.assert_agree(&[0, late]);
    w.crash(late);
    w.assert_agree(&[0, late]);
    assert!(w.machines[late].node.dag().unwrap().is_erased(&secret));
}

#[test]
fn a_decision_that_was_put_aside_counts_once_the_removal_falls() {
    let mut w = World::new();
    w.add_members(4, Role::Writer);
    let admin =
        |w: &World, n: usize| Decision::Add { node: w.id(n), role: Role::Admin, invite: None };
    w.decide(0, admin(&w, 1)).unwrap();
    mesh(&mut w, &[0, 1, 2, 3, 4]);
    w.decide(1, admin(&w, 2)).unwrap();
    mesh(&mut w, &[0, 1, 2, 3, 4]);
    // 1 removes 2; 2 lets somebody in; 4 hears of the removal first.
    w.decide(1, Decision::Remove { node: w.id(2) }).unwrap();
    sync(&mut w, 1, 4);
    let newcomer = w.add_stranger();
    let node = w.id(newcomer);
    let add = w.decide(2, Decision::Add { node, role: Role::Writer, invite: None }).unwrap();
    sync(&mut w, 3, 2);
    sync(&mut w, 3, 4);
    assert!(w.machines[4].node.dag().unwrap().is_quarantined(&add));
    // The founder removes 1, whose last decision it had not seen.
    w.decide(0, Decision::Remove { node: w.id(1) }).unwrap();
    mesh(&mut w, &[0, 3, 4]);
    w.assert_agree(&[0, 3, 4]);
    for n in [0, 3, 4] {
        assert_eq!(w.machines[n].role(&w.id(2)), Some(Role::Admin), "machine {n}");
        assert_eq!(w.machines[n].role(&node), Some(Role::Writer), "machine {n}");
        let before = w.machines[n].node.digest();
        w.crash(n);
        assert_eq!(w.machines[n].node.digest(), before);
        assert_eq!(w.machines[n].role(&node), Some(Role::Writer), "machine {n}");
    }
}

#[test]
fn a_member_that_is_removed_while_linked_is_turned_away() {
    let mut w = World::new();
    w.add_members(2, Role::Writer);
    w.link(1, 0);
    w.link(2, 0);
    w.run_for(100);
    let node = w.id(1);
    w.decide(0, Decision::Remove { node }).unwrap();
    w.run_for(1_000);
    let removed_holds = w.machines[1].held();
    w.emit(0, 5);
    w.run_for(5_000);
    assert_eq!(w.machines[1].held(), removed_holds, "nothing more reaches it");
    assert_eq!(w.links_up(), 1);
    w.assert_agree(&[0, 2]);
}

#[test]
fn a_removed_member_can_come_back() {
    let mut w = World::new();
    w.add_members(2, Role::Writer);
    w.emit(1, 3);
    mesh(&mut w, &[0, 1, 2]);
    let node = w.id(1);
    w.decide(0, Decision::Remove { node }).unwrap();
    w.emit(1, 4);
    w.decide(0, Decision::Add { node, role: Role::Writer, invite: None }).unwrap();
    mesh(&mut w, &[0, 1, 2]);
    w.assert_agree(&[0, 1, 2]);
    w.emit(1, 2);
    mesh(&mut w, &[0, 1, 2]);
    w.assert_agree(&[0, 1, 2]);
    for n in 0..3 {
        let before = w.machines[n].node.digest();
        w.crash(n);
        assert_eq!(w.machines[n].node.digest(), before, "machine {n}");
    }
    let quarantined = w.machines[2].notices.iter().any(|n| matches!(n, Notice::Quarantined { .. }));
    println!("quarantined on 2: {quarantined}; {} events", w.machines[2].event_count());
    let _ = Dice(0);
}

/// A machine with another key and what this one holds: what becomes of it when its key is replaced.
fn with_key(w: &mut World, n: usize, seed: u64) -> usize {
    let (domain, history) = (w.domain(), w.machines[n].history.clone());
    w.machines.push(Machine::of(key(seed), domain, history));
    w.machines.len() - 1
}

fn key_of(seed: u64) -> quipu_core::id::NodeKey {
    quipu_core::id::NodeKey(key(seed).verifying_key().to_bytes())
}

#[test]
fn a_key_is_handed_over_and_the_old_one_writes_in_vain() {
    for role in [Role::Writer, Role::Admin] {
        let mut w = World::new();
        w.add_members(2, role);
        w.emit(1, 3);
        let fresh = key_of(50);
        w.decide(1, Decision::Replace { node: fresh, role }).unwrap();
        let heir = with_key(&mut w, 1, 50);
        assert_eq!(w.machines[heir].role(&fresh), Some(role));
        mesh(&mut w, &[2, 0, heir]);
        w.emit(heir, 4);
        // Whoever has the old key goes on, with its clock set back, and tells somebody.
        w.machines[1].clock_error = -5_000_000;
        assert!(w.command(1, quipu_core::node::Command::Merge).is_err());
        let forged = forge(
            &w.machines[1],
            1,
            &Decision::Erase { target: w.machines[1].history.all()[0].id, reason: String::new() },
            w.now,
        );
        let outs = w.machines[2].import(w.now, vec![forged]);
        w.dispatch(2, outs);
        mesh(&mut w, &[2, 0, heir]);
        w.assert_agree(&[0, heir, 2]);
        for n in [0, heir, 2] {
            assert_eq!(w.machines[n].role(&w.id(1)), None);
            assert_eq!(w.machines[n].role(&fresh), Some(role));
            assert_eq!(w.machines[n].event_count(), 3 + 3 + 1 + 4, "machine {n}");
            let before = w.machines[n].node.digest();
            w.crash(n);
            assert_eq!(w.machines[n].node.digest(), before);
        }
        if role == Role::Admin {
            let node = key_of(51);
            w.decide(heir, Decision::Add { node, role: Role::Writer, invite: None }).unwrap();
            sync(&mut w, heir, 0);
            assert_eq!(w.machines[0].role(&node), Some(Role::Writer));
        }
    }
}

#[test]
fn handed_over_twice_it_is_nobodys() {
    for order in [[0, 1], [1, 0]] {
        let mut w = World::new();
        w.add_members(2, Role::Writer);
        w.emit(1, 2);
        mesh(&mut w, &[0, 1, 2]);
        // A thief has the key, too.
        let thief = with_key(&mut w, 1, 1);
        for (n, seed) in [(1, 50), (thief, 60)] {
            let node = key_of(seed);
            w.decide(n, Decision::Replace { node, role: Role::Writer }).unwrap();
        }
        let heirs = [with_key(&mut w, 1, 50), with_key(&mut w, thief, 60)];
        w.emit(heirs[0], 2);
        w.emit(heirs[1], 2);
        let all: Vec<Vec<Event>> = heirs.map(|n| w.machines[n].log()).to_vec();
        for n in [0, 2] {
            for which in order {
                let outs = w.machines[n].import(w.now, all[which].clone());
                w.dispatch(n, outs);
            }
        }
        mesh(&mut w, &[0, 2]);
        w.assert_agree(&[0, 2]);
        for node in [w.id(1), key_of(50), key_of(60)] {
            assert_eq!(w.machines[0].role(&node), None);
        }
        // An admin decides who it was, under a key that was granted nothing yet.
        let node = key_of(70);
        w.decide(0, Decision::Add { node, role: Role::Writer, invite: None }).unwrap();
        mesh(&mut w, &[0, 2]);
        assert_eq!(w.machines[2].role(&node), Some(Role::Writer));
    }
}

#[test]
fn what_cannot_be_handed_over() {
    let mut w = World::new();
    w.add_members(2, Role::Writer);
    let replace = |node, role| Decision::Replace { node, role };
    assert!(w.decide(0, replace(key_of(50), Role::Admin)).is_err(), "the founder's key is in R");
    assert!(w.decide(1, replace(w.id(2), Role::Writer)).is_err(), "a member's key");
    assert!(w.decide(1, replace(w.id(0), Role::Writer)).is_err(), "the founder's key");
    assert!(w.decide(1, replace(w.id(1), Role::Writer)).is_err(), "its own key");
    // More than it had is nothing; and it is gone all the same.
    let forged = forge(&w.machines[1], 1, &replace(key_of(50), Role::Admin), w.now);
    for n in [0, 2] {
        let outs = w.machines[n].import(w.now, vec![forged.clone()]);
        w.dispatch(n, outs);
        assert_eq!(w.machines[n].role(&key_of(50)), None);
        assert_eq!(w.machines[n].role(&w.id(1)), None);
    }
    w.assert_agree(&[0, 2]);
}

#[test]
fn a_removed_feed_is_readmitted_up_to_an_event() {
    for late in [false, true] {
        let mut w = World::new();
        w.add_members(3, Role::Writer);
        mesh(&mut w, &[0, 1, 2, 3]);
        let node = w.id(1);
        w.decide(0, Decision::Remove { node }).unwrap();
        // One machine has not heard of it, and takes what nobody else does.
        let lost = w.emit(1, 5);
        sync(&mut w, 2, 1);
        sync(&mut w, 2, 0);
        w.assert_agree(&[0, 2]);
        assert_eq!(w.machines[2].node.dag().unwrap().quarantined().len(), 5);
        let readmit = Decision::Readmit { node, upto: lost[2].id };
        assert!(w.decide(3, readmit.clone()).is_err(), "a writer decides nothing");
        if !late {
            // The admin has the events before it decides; else they come later.
            sync(&mut w, 0, 2);
        }
        w.decide(0, readmit).unwrap();
        mesh(&mut w, &[3, 0, 2]);
        w.assert_agree(&[0, 2, 3]);
        for n in [0, 2, 3] {
            assert_eq!(w.machines[n].event_count(), 4 + 1 + 3 + 1, "machine {n}");
            assert_eq!(w.machines[n].role(&node), None, "it is no member for that");
            let before = w.machines[n].node.digest();
            w.crash(n);
            assert_eq!(w.machines[n].node.digest(), before);
        }
    }
}
