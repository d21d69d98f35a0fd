//! The transition tables, every state with every input.

use expect_test::{Expect, expect};
use quipu_core::lifecycle::Stage;
use quipu_core::machine::{Machine, dot, mermaid};
use quipu_core::sync::session::SessionState;

fn check<M: Machine>(expect: &Expect) {
    let mut out = String::new();
    for state in M::STATES {
        out += &format!("{state:?}\n");
        for input in M::INPUTS {
            if let Some(next) = state.on(*input) {
                out += &format!("  {input:?} -> {next:?}\n");
            }
        }
    }
    expect.assert_eq(&out);
    assert_eq!(out.lines().filter(|line| line.contains("->")).count(), M::TABLE.len());
    // Every state can be reached, and the charts show every arrow.
    let mut reached = vec![M::START];
    let mut next = 0;
    while let Some(state) = reached.get(next).copied() {
        next += 1;
        for arrow in M::TABLE.iter().filter(|arrow| arrow.from == state) {
            if !reached.contains(&arrow.to) {
                reached.push(arrow.to);
            }
        }
    }
    assert_eq!(reached.len(), M::STATES.len());
    let twice = |a: &quipu_core::machine::Arrow<M, M::Input>| {
        M::TABLE.iter().filter(|b| b.from == a.from && b.on == a.on).count() > 1
    };
    assert!(!M::TABLE.iter().any(twice), "one arrow for a state and an input");
    assert!(mermaid::<M>().matches(" --> ").count() > M::TABLE.len());
    assert!(dot::<M>().matches(" -> ").count() > M::TABLE.len());
}

#[test]
fn life_of_an_event() {
    check::<Stage>(&expect![[r#"
        Received
          SignatureMissing -> Unsigned
          SignatureVerified -> Authentic
          SignatureWrong -> Refused
        Unsigned
          SignatureVerified -> Authentic
          SignatureWrong -> Refused
        Authentic
          AlreadyHeld -> Known
          LinksMissing -> Waiting
          RuleBroken -> Refused
          Effective -> Applied
          Ineffective -> Quarantined
        Waiting
          LinksArrived -> Authentic
        Applied
          AuthorRemoved -> Quarantined
        Quarantined
          NeededOrReadmitted -> Applied
        Known
        Refused
    "#]]);
}

#[test]
fn peer_session() {
    check::<SessionState>(&expect![[r#"
        Linked
          HelloSent -> ExpectWelcome
          HelloAccepted -> ExpectCompare
          Refused -> Closed
          Lost -> Closed
        ExpectWelcome
          Refused -> Closed
          Welcomed -> ExpectView
          Lost -> Closed
        ExpectCompare
          Refused -> Closed
          Same -> Level
          Differs -> Exchanging
          Lost -> Closed
        ExpectView
          Refused -> Closed
          CompareSent -> ExpectView
          Same -> Level
          Differs -> Exchanging
          Undecoded -> ExpectView
          Lost -> Closed
        Exchanging
          Refused -> Closed
          CompareSent -> ExpectView
          Same -> Level
          Differs -> Exchanging
          LevelReached -> Level
          Lost -> Closed
        Level
          Refused -> Closed
          CompareSent -> ExpectView
          Same -> Level
          Differs -> Exchanging
          LevelReached -> Level
          Lost -> Closed
        Closed
    "#]]);
}
