use proptest::prelude::*;
use quipu_core::codec::v1;
use quipu_core::event::{Head, Header, Log, LogSeq, PayloadRef};
use quipu_core::id::DomainId;
use quipu_core::value::Value as NativeValue;

use super::*;
use crate::event::Body;
use crate::identity::{IDENTITY_BYTES, Identity};
use crate::json::Value;

/// An event of the domain at a place of a node's feed, at a time.
fn event(node: u8, seq: u64, ms: u64, said: &Said) -> NativeEvent {
    let (kind, value) = said.to_value().unwrap();
    let mut bytes = Vec::new();
    value::encode(&value, &mut bytes);
    let block = v1::payload_block(&[1; 8], &bytes);
    let head = Head {
        log: Log::Internal,
        author: NodeKey([node; 32]),
        seq,
        prev: None,
        parents: std::iter::empty().collect(),
        logseq: LogSeq(ms << 16),
        kind: kind.into(),
    };
    let payload = PayloadRef::of(kind, &block);
    NativeEvent::new(Header { head, payload }, Some(block), &DomainId([1; 32]))
}

fn set(value: u64) -> Said {
    let value = NativeValue::from(value);
    Said::Set { record_id: "R".into(), field: "f".into(), value }
}

fn identity(number: u8) -> Identity {
    Identity::from_bytes(&[number; IDENTITY_BYTES])
}

fn claim(identity: &Identity, node: u8) -> Said {
    Said::Identity(Claim::new(identity, &NodeKey([node; 32]), false))
}

/// Adds all events, as often as it takes.
fn shown(events: &[NativeEvent]) -> (String, usize) {
    let (mut view, mut rounds) = (View::default(), 0);
    loop {
        rounds += 1;
        let stale = events.iter().filter(|event| view.add(event) == Added::Stale).count();
        if stale == 0 {
            let mut out = Vec::new();
            view.records().write_json(&mut out).unwrap();
            return (String::from_utf8(out).unwrap(), rounds);
        }
        view.restart();
    }
}

fn foreign(author: &str, signer: Option<&Identity>, ms: i64, value: u64) -> Said {
    let payload =
        Value::object([("record_id", "R".into()), ("field", "f".into()), ("value", value.into())]);
    let (stamp, kind) = (Stamp::new(ms, 0), "field.set".into());
    let body =
        Body { author: author.into(), seq: 1, stamp, kind, payload: payload.into(), prev: None };
    let event = Event::new(body.clone());
    Said::Wrapped(Box::new(signer.map_or(event, |signer| signer.event(body))))
}

fn of_f(value: u64) -> String {
    format!(r#""fields":{{"f":{value}}}"#)
}

#[test]
fn ours_and_theirs_are_one_view() {
    let events = [
        event(1, 1, 10, &set(1)),
        event(2, 1, 12, &foreign("somebody", None, 11, 2)),
        event(2, 2, 13, &foreign("somebody", None, 9, 3)),
    ];
    assert!(shown(&events).0.contains(&of_f(2)));
    let more = Said::Emit {
        kind: "note.add".into(),
        payload: Value::object([("record_id", "R".into()), ("text", f64::NAN.into())]),
    };
    let events = [events.to_vec(), vec![event(1, 2, 20, &more)]].concat();
    assert!(shown(&events).0.contains(r#""notes":[NaN]"#));
}

#[test]
fn an_event_that_two_gateways_wrapped_counts_once() {
    let note = Said::Wrapped(Box::new(Event::new(Body {
        author: "somebody".into(),
        seq: 1,
        stamp: Stamp::new(1, 0),
        kind: "note.add".into(),
        payload: Value::object([("record_id", "R".into()), ("text", "once".into())]).into(),
        prev: None,
    })));
    let events = [event(1, 1, 1, &note), event(2, 1, 2, &note)];
    assert!(shown(&events).0.contains(r#""notes":["once"]"#));
}

#[test]
fn a_node_writes_under_its_identity() {
    let create = Said::Create { record_id: "R".into(), form: "site".into() };
    let me = identity(5);
    let author = me.public().author().to_string();
    let created_by = |author: &str| format!(r#""created_by":"{author}""#);
    let events = [event(1, 1, 1, &create), event(1, 2, 2, &claim(&me, 1))];
    assert!(shown(&events[..1]).0.contains(&created_by(&NodeKey([1; 32]).to_string())));
    let (text, rounds) = shown(&events);
    assert!(text.contains(&created_by(&author)), "{text}");
    assert_eq!(rounds, 2, "it wrote before it had one");
    // The first claim of the feed counts, whichever came first; one for another node does not.
    let late = event(1, 3, 3, &claim(&identity(6), 1));
    let stolen = event(1, 4, 1, &claim(&identity(7), 2));
    let all = [stolen, late, events[1].clone(), events[0].clone()];
    assert!(shown(&all).0.contains(&created_by(&author)));
    // Nobody else can use its name from outside, unless it signed.
    let forged = event(2, 1, 5, &foreign(&author, None, 50, 8));
    let signed = event(2, 2, 5, &foreign(&author, Some(&me), 60, 9));
    let with = |more: &NativeEvent| shown(&[all.to_vec(), vec![more.clone()]].concat()).0;
    assert!(!with(&forged).contains("fields\":{\"f\""));
    assert!(with(&signed).contains(&of_f(9)));
}

fn trust(author: &str, identity: Option<&Identity>) -> Said {
    let identity = identity.map(|identity| identity.public().clone());
    Said::Trust(Trust { author: author.into(), identity })
}

/// What field `f` is, if node 9 is the admin.
fn judged(events: &[NativeEvent]) -> Option<u64> {
    let mut view = View::default();
    let admins = BTreeSet::from([NodeKey([9; 32])]);
    let _none_yet = view.set_admins(admins);
    while events.iter().filter(|event| view.add(event) == Added::Stale).count() > 0 {
        view.restart();
    }
    view.records().get(&"R".into())?.field("f")?.as_int()?.as_u64()
}

#[test]
fn admins_say_whose_events_count() {
    let (me, other) = (identity(5), identity(6));
    let open = event(1, 1, 10, &foreign("x", None, 1, 1));
    let signed = event(1, 2, 11, &foreign("x", Some(&me), 2, 2));
    let policy = |ms, policy| event(9, ms, ms, &Said::Policy(policy));
    let mut events = vec![open, signed];
    assert_eq!(judged(&events), Some(2));
    // Somebody who is no admin decides nothing.
    events.push(event(1, 3, 12, &Said::Policy(Policy::Roster)));
    assert_eq!(judged(&events), Some(2));
    events.push(policy(20, Policy::Roster));
    assert_eq!(judged(&events), None);
    events.push(event(9, 2, 21, &trust("x", Some(&other))));
    assert_eq!(judged(&events), None, "another key than that which signed");
    events.push(event(9, 3, 22, &trust("x", Some(&me))));
    assert_eq!(judged(&events), Some(2));
    events.push(event(9, 4, 23, &trust("x", None)));
    assert_eq!(judged(&events), None);
    events.push(policy(24, Policy::Open));
    assert_eq!(judged(&events), None, "who is not trusted is not");
    // Of first uses the first counts, unless an admin says something.
    let uses =
        [event(1, 4, 31, &trust("x", Some(&me))), event(2, 1, 30, &trust("x", Some(&other)))];
    let open = [events[0].clone(), events[1].clone(), policy(29, Policy::FirstUse)];
    assert_eq!(judged(&[&open[..], &uses[..1]].concat()), Some(2));
    assert_eq!(judged(&[&open[..], &uses[..]].concat()), None);
    let admin = event(9, 5, 33, &trust("x", Some(&me)));
    assert_eq!(judged(&[&open[..], &uses[..], &[admin]].concat()), Some(2));
}

#[test]
fn of_first_uses_one_wins_everywhere() {
    let (me, other) = (identity(5), identity(6));
    let hash = me.public().author().to_string();
    let policy = event(9, 1, 1, &Said::Policy(Policy::FirstUse));
    let signed = |ms: u64, author: &str, by: &Identity, value| {
        event(1, ms, ms, &foreign(author, Some(by), ms as i64, value))
    };
    let use_of =
        |node, ms, author: &str, by: &Identity| event(node, 1, ms, &trust(author, Some(by)));
    // Two machines that bound a name apart: the first in replay order, whichever came first.
    let written = [policy.clone(), signed(11, "x", &me, 1), signed(12, "x", &other, 2)];
    let (first, second) = (use_of(2, 20, "x", &other), use_of(3, 21, "x", &me));
    for uses in [[first.clone(), second.clone()], [second.clone(), first.clone()]] {
        assert_eq!(judged(&[&written[..], &uses].concat()), Some(2));
    }
    // Nobody takes a name that is the hash of somebody's identity.
    let written = [policy.clone(), signed(11, &hash, &me, 1), signed(12, &hash, &other, 2)];
    let uses = [use_of(2, 20, &hash, &other), use_of(3, 21, &hash, &me)];
    assert_eq!(judged(&[&written[..], &uses].concat()), Some(1));
    // Nodes that are no admins cannot keep somebody out by saying first that nobody is trusted.
    let written = [policy, signed(11, "x", &me, 1)];
    let uses = [event(2, 1, 20, &trust("x", None)), use_of(3, 21, "x", &me)];
    assert_eq!(judged(&[&written[..], &uses].concat()), Some(1));
}

proptest! {
    #[test]
    fn the_order_of_arrival_does_not_matter(
        drawn in proptest::collection::vec((0..3u8, 0..4u64, 0..5u8, 0..9u64), 1..14),
        order in any::<u64>(),
    ) {
        let me = [identity(5), identity(6)];
        let author = me[0].public().author().to_string();
        let events: Vec<NativeEvent> = drawn.iter().zip(1..).map(|((node, ms, what, value), seq)| {
            let said = match what {
                0 => claim(&me[usize::from(*value > 4)], *node),
                1 => foreign("x", None, *ms as i64, *value),
                2 => foreign(&author, (*value > 4).then_some(&me[0]), *ms as i64, *value),
                _ => set(*value),
            };
            event(*node, seq, *ms, &said)
        }).collect();
        let expected = shown(&events).0;
        let (mut shuffled, mut state) = (events, order);
        for at in (1..shuffled.len()).rev() {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            shuffled.swap(at, (state >> 33) as usize % (at + 1));
        }
        let (text, rounds) = shown(&shuffled);
        prop_assert_eq!(text, expected);
        prop_assert!(rounds <= 3);
    }
}
