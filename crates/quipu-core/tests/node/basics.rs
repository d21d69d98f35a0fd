//! Joining, writing apart, merging, relaying.

use quipu_core::domain::{Decision, Role};
use quipu_core::node::{CommandError, Notice, Reply};
use quipu_core::sync::message::Refusal;

use crate::common::{Machine, T0, World};
use quipu_core::domain::Parameters;

fn traffic(reply: Result<Reply, CommandError>) -> quipu_core::sync::session::Traffic {
    match reply {
        Ok(Reply::Synced { traffic, equal: true }) => traffic,
        other => panic!("not level: {other:?}"),
    }
}

#[test]
fn a_newcomer_joins_with_an_invitation() {
    let mut w = World::new();
    w.emit(0, 300);
    let ticket = w.invite(0, 900, Role::Writer, 1);
    let joiner = w.add_stranger();
    let proof = w.proof(joiner, ticket);
    traffic(w.sync_with(joiner, 0, Some(proof)));
    w.assert_agree(&[0, joiner]);
    assert_eq!(w.machines[0].role(&w.id(joiner)), Some(Role::Writer));
    w.emit(joiner, 3);
    traffic(w.sync(joiner, 0));
    w.assert_agree(&[0, joiner]);
    assert_eq!(w.machines[0].event_count(), 300 + 3 + 3);

    // Used up.
    let late = w.add_stranger();
    let proof = w.proof(late, ticket);
    let error = w.sync_with(late, 0, Some(proof)).unwrap_err();
    assert!(matches!(error, CommandError::Refused { refusal: Refusal::Invitation, .. }), "{error}");
}

#[test]
fn a_stranger_is_turned_away_on_both_sides_with_the_reason() {
    let mut w = World::new();
    let stranger = w.add_stranger();
    let error = w.sync(stranger, 0).unwrap_err();
    let CommandError::Refused { refusal: Refusal::NotMember, text, .. } = &error else {
        panic!("{error:?}")
    };
    assert!(text.contains(&w.id(stranger).to_string()), "{text}");
    for n in [0, stranger] {
        let told = w.machines[n].notices.iter().any(|notice| {
            matches!(notice, Notice::PeerRefused { refusal: Refusal::NotMember, .. })
        });
        assert!(told, "machine {n}: {:?}", w.machines[n].notices);
    }
    assert_eq!(w.machines[stranger].held(), 0);
}

#[test]
fn another_domain_is_refused_with_both_ids() {
    let mut w = World::new();
    let other = Parameters { name: "other".into(), ..Parameters::default() };
    w.machines.push(Machine::founder(1, T0, &other));
    let error = w.sync(1, 0).unwrap_err();
    let CommandError::Refused { refusal: Refusal::OtherDomain, text, domain } = &error else {
        panic!("{error:?}")
    };
    assert_eq!(*domain, Some(w.domain()));
    for n in [0, 1] {
        assert!(text.contains(&w.machines[n].node.domain().to_string()), "{text}");
    }
}

#[test]
fn machines_that_wrote_apart_become_equal_and_merge() {
    let mut w = World::new();
    w.add_members(1, Role::Writer);
    traffic(w.sync(1, 0));
    for _ in 0..20 {
        w.now += 10;
        w.emit(0, 3);
        w.emit(1, 4);
    }
    traffic(w.sync(1, 0));
    w.assert_agree(&[0, 1]);
    assert_eq!(w.machines[0].leaves(), 2);
    let merge = w.emit(0, 1);
    assert_eq!(merge[0].parents.len(), 2);
    assert_eq!(w.machines[0].leaves(), 1);
    traffic(w.sync(0, 1));
    w.assert_agree(&[0, 1]);
    assert_eq!(w.machines[1].leaves(), 1);
    assert_eq!(w.machines[1].event_count(), 1 + 1 + 140 + 1);
}

#[test]
fn a_machine_relays_what_others_wrote() {
    let mut w = World::new();
    w.add_members(2, Role::Writer);
    w.link(0, 1);
    w.link(2, 1);
    w.settle();
    for round in 0..10 {
        w.now += 50;
        w.emit(round % 3, 5);
        w.settle();
    }
    w.assert_agree(&[0, 1, 2]);
    assert_eq!(w.machines[2].event_count(), 3 + 50);
}

#[test]
fn nothing_different_takes_one_round_trip_and_few_bytes() {
    let mut w = World::new();
    w.add_members(1, Role::Writer);
    w.emit(0, 200);
    traffic(w.sync(1, 0));
    for _ in 0..2 {
        let level = traffic(w.sync(1, 0));
        let (frames, bytes) = w.counted(w.last_link());
        assert_eq!(level.round_trips, 1);
        assert!(bytes < 300, "{frames} frames, {bytes} bytes");
    }
}

#[test]
fn a_reader_may_not_write() {
    let mut w = World::new();
    w.add_members(1, Role::Reader);
    let error = w.command(1, quipu_core::node::Command::Emit(vec![crate::common::field(1)]));
    assert!(matches!(error, Err(CommandError::NotEntitled { role: Some(Role::Reader), .. })));
    let node = w.id(1);
    let error = w.decide(1, Decision::Remove { node });
    assert!(error.is_err());
}
