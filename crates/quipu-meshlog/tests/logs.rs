//! Data files, views and verdicts are those of the real meshlogd, in both directions.

mod common;

use std::sync::Arc;

use data_encoding::HEXLOWER;
use proptest::prelude::*;
use proptest::strategy::ValueTree as _;
use proptest::test_runner::TestRunner;
use quipu_meshlog::clock::Stamp;
use quipu_meshlog::event::{Body, Event};
use quipu_meshlog::file;
use quipu_meshlog::identity::{IDENTITY_BYTES, Identity, PublicIdentity};
use quipu_meshlog::json::{self, Int, Style, Value};
use quipu_meshlog::log::{Log, Taken};
use quipu_meshlog::order::Ordered;
use quipu_meshlog::policy::{Judge, Policy, Refusal};
use quipu_meshlog::records::Records;
use quipu_meshlog::text::Text;

const FILES: usize = 1_000;

/// What one author writes next.
#[derive(Debug, Clone)]
struct Step {
    author: usize,
    wall: i64,
    counter: i64,
    far: bool,
    kind: usize,
    payload: Value,
}

/// Any value that Python may hold.
fn any_value() -> impl Strategy<Value = Value> {
    let texts = ["", "x", "é", "\\ud83d\\ude00", "\\ud800", "\\u0000\\u007f", "a\\nb"];
    let leaf = prop_oneof![
        proptest::sample::select(texts.to_vec())
            .prop_map(|text| json::parse(format!("\"{text}\"").as_bytes()).unwrap()),
        any::<i32>().prop_map(|n| Value::from(i64::from(n))),
        "[1-9][0-9]{18,40}".prop_map(|digits| json::parse(digits.as_bytes()).unwrap()),
        any::<f64>().prop_map(Value::from),
        proptest::sample::select(vec![Value::Null, true.into(), false.into()]),
    ];
    leaf.prop_recursive(3, 12, 4, |inner| {
        prop_oneof![
            proptest::collection::vec(inner.clone(), 0..4).prop_map(Value::List),
            proptest::collection::vec(("[a-cé]", inner), 0..4).prop_map(|pairs| {
                let pairs = pairs.into_iter().map(|(key, value)| (Text::from(key), value));
                Value::Object(json::Object::from_pairs(pairs.collect()))
            }),
        ]
    })
}

/// A payload that each reducer can fold: 0.1.0 cannot show anything if one of them lacks what it needs.
fn any_payload(kind: usize) -> impl Strategy<Value = Value> {
    let text = || proptest::sample::select(vec!["a", "b", "é", "R-1", "R-2", "R-10", ""]);
    (text(), text(), text(), any_value(), any_value(), any::<[bool; 2]>()).prop_map(
        move |(record, field, hash, value, other, [has_first, has_second])| {
            let mut pairs = vec![("value", value.clone()), ("record_id", record.into())];
            match kind {
                0 | 5 => {
                    pairs = vec![("record_id", record.into())];
                    pairs.extend(has_first.then_some(("form", value)));
                    pairs.extend(has_second.then_some(("by", other)));
                }
                1 | 2 => pairs.push(("field", field.into())),
                3 => pairs = vec![("text", value), ("record_id", record.into())],
                4 => {
                    pairs.extend([("field", field.into()), ("blob_hash", hash.into())]);
                    pairs.extend(has_first.then_some(("size", other.clone())));
                    pairs.extend(has_second.then_some(("mime", other)));
                }
                _ => {}
            }
            let pairs = pairs.into_iter().map(|(key, value)| (key.into(), value));
            Value::Object(json::Object::from_pairs(pairs.collect()))
        },
    )
}

const KINDS: [&str; 8] = [
    "record.create",
    "field.set",
    "field.set",
    "note.add",
    "attachment.add",
    "record.create",
    "sensor.é",
    "field",
];

fn any_step() -> impl Strategy<Value = Step> {
    // Clocks tie, run back, and one is beyond 64 bits.
    (0..5usize, -1..6i64, 0..3i64, any::<u8>(), 0..KINDS.len()).prop_flat_map(
        |(author, wall, counter, far, kind)| {
            any_payload(kind).prop_map(move |payload| Step {
                author,
                wall,
                counter,
                far: far < 8,
                kind,
                payload,
            })
        },
    )
}

fn authors() -> [Text; 5] {
    let lone = json::parse(br#""\ud800\udc00x\udc00""#).unwrap();
    ["a", "b", "ab", "é"]
        .map(Text::from)
        .into_iter()
        .chain(lone.as_text().cloned())
        .collect::<Vec<_>>()
        .try_into()
        .unwrap()
}

fn log_of(steps: Vec<Step>) -> Log {
    let (mut log, authors) = (Log::default(), authors());
    for step in steps {
        let author = authors[step.author].clone();
        let (seq, prev) = log.next_of(&author);
        let wall = if step.far { Int::from(u64::MAX) } else { Int::Small(step.wall) };
        let stamp = Stamp { wall, counter: Int::Small(step.counter) };
        let kind = KINDS[step.kind].into();
        let body = Body { author, seq, stamp, kind, payload: step.payload.into(), prev };
        log.append_own(Event::new(body)).unwrap();
    }
    log
}

fn records_of(log: &Log) -> Vec<u8> {
    let mut view = Vec::new();
    Records::of(log.arrived()).write_json(&mut view).unwrap();
    view
}

fn raw_of(log: &Log) -> Vec<u8> {
    let mut ordered = Ordered::default();
    log.arrived().iter().for_each(|event| ordered.apply(event));
    let mut view = Vec::new();
    ordered.write_json(Style::Canonical, &mut view);
    view
}

#[test]
fn views_of_random_files_are_those_of_both_versions() {
    let Some(place) = common::installed() else { return };
    let directory = tempfile::tempdir().unwrap();
    let mut runner = TestRunner::deterministic();
    let steps = proptest::collection::vec(any_step(), 0..40);
    let logs: Vec<Log> =
        (0..FILES).map(|_| log_of(steps.new_tree(&mut runner).unwrap().current())).collect();
    for (number, log) in logs.iter().enumerate() {
        std::fs::write(directory.path().join(format!("{number:04}")), file::write(log)).unwrap();
    }
    let mut events = 0;
    for (version, view) in [("0.1.0", records_of as fn(&Log) -> Vec<u8>), ("0.5.0", raw_of)] {
        let argument = directory.path().to_str().unwrap();
        let command = common::script(&place, version, "log_oracle.py", &["views", argument]);
        let answers = common::lines(command, Vec::new());
        assert_eq!(answers.len(), logs.len());
        for (number, (log, theirs)) in logs.iter().zip(&answers).enumerate() {
            let written = file::write(log);
            let frontier = json::to_bytes(&log.frontier().into(), Style::Canonical);
            let ours =
                [view(log), frontier, written.clone()].map(|part| String::from_utf8(part).unwrap());
            let theirs = theirs.split(' ').map(|part| HEXLOWER.decode(part.as_bytes()).unwrap());
            let theirs: Vec<String> = theirs.map(|part| String::from_utf8(part).unwrap()).collect();
            assert_eq!(ours[..], theirs[..], "{version}, file {number}");
            // And what was loaded again is the same log.
            let mut again = Log::default();
            assert!(again.load(file::read(&written).unwrap().events).is_empty());
            assert!(file::write(&again) == written && view(&again) == view(log));
            events += log.len();
        }
    }
    assert!(events > 30 * FILES, "only {events} events");
}

fn public(hex: &str) -> PublicIdentity {
    let bytes = HEXLOWER.decode(hex.as_bytes()).unwrap();
    PublicIdentity::from_bytes(&bytes.try_into().unwrap()).unwrap()
}

#[test]
fn files_of_meshlogd_are_read_verified_and_written_the_same() {
    let Some(place) = common::installed() else { return };
    for version in ["0.1.0", "0.5.0"] {
        let directory = tempfile::tempdir().unwrap();
        let arguments = ["write", directory.path().to_str().unwrap(), "40", "7"];
        let printed =
            common::lines(common::script(&place, version, "log_oracle.py", &arguments), Vec::new());
        let keys: Vec<PublicIdentity> =
            printed.first().map_or(vec![], |keys| keys.split(',').map(public).collect());
        let mut proven = 0;
        for entry in std::fs::read_dir(directory.path()).unwrap() {
            let bytes = std::fs::read(entry.unwrap().path()).unwrap();
            let loaded = file::read(&bytes).unwrap();
            let mut judge = Judge::new(Policy::Open);
            keys.iter().for_each(|key| judge.learn(key.clone()));
            let mut log = Log::default();
            for event in loaded.events {
                let event = Event::clone(&event);
                assert!(matches!(log.take(event, &mut judge), Ok(Taken::Applied { .. })));
            }
            assert_eq!(file::write(&log), bytes);
            let signed = log.arrived().iter().filter(|event| event.signature().is_some());
            proven += signed
                .filter(|event| judge.judge(event) == Ok(quipu_meshlog::policy::Verdict::Proven))
                .count();
        }
        assert_eq!(proven > 100, version == "0.5.0", "{proven} proven events of {version}");
    }
}

fn identity(n: u8) -> Identity {
    Identity::from_bytes(&[n; IDENTITY_BYTES])
}

/// A feed of signed events.
fn feed(identity: &Identity, length: u64, tag: &str) -> Vec<Event> {
    let mut prev = None;
    (1..=length)
        .map(|seq| {
            let payload = Value::object([("tag", tag.into()), ("n", seq.into())]);
            let stamp = Stamp::new(1_000 + seq as i64, 0);
            let body = Body {
                author: identity.public().author(),
                seq,
                stamp,
                kind: "k".into(),
                payload: payload.into(),
                prev,
            };
            prev = Some(body.id());
            identity.event(body)
        })
        .collect()
}

fn body_with(event: &Event, change: impl FnOnce(&mut Body)) -> Body {
    let mut body = event.body().clone();
    change(&mut body);
    body
}

/// Events as an enemy sends them, in a random order: real ones, forged, cut, replayed, forked.
fn hostile(runner: &mut TestRunner) -> Vec<Vec<u8>> {
    let (known, stranger) = (identity(1), identity(2));
    let mut pool: Vec<Vec<u8>> = Vec::new();
    for author in [&known, &stranger] {
        let events = feed(author, 8, "right");
        let forked = feed(author, 8, "other");
        pool.extend(events.iter().chain(&events[..4]).chain(&forked[2..5]).map(Event::to_wire));
        for event in &events[..6] {
            let changed =
                body_with(event, |body| body.payload = Value::object([("n", 0u64.into())]).into());
            let signature = event.signature().cloned();
            // Another content under the old id, and with an id of its own under the old signature.
            let wire = String::from_utf8(event.to_wire()).unwrap();
            pool.push(wire.replace("\"right\"", "\"wrong\"").into_bytes());
            pool.push(Event::new(changed.clone()).with_signature(signature.clone()).to_wire());
            pool.push(identity(3).event(changed).to_wire());
            pool.push(event.clone().with_signature(None).to_wire());
            pool.push(
                event
                    .clone()
                    .with_signature(signature.map(|text| text.to_string().to_uppercase().into()))
                    .to_wire(),
            );
            pool.push(event.clone().with_signature(Some("zz".into())).to_wire());
            pool.push(event.to_wire()[..40].to_vec());
            let elsewhere =
                body_with(event, |body| body.prev = Some(Event::new(body.clone()).id()));
            pool.push(author.event(elsewhere).to_wire());
        }
    }
    let indices: Vec<usize> = (0..pool.len()).collect();
    let order = Just(indices).prop_shuffle().new_tree(runner).unwrap().current();
    order.into_iter().map(|at| pool[at].clone()).collect()
}

#[test]
fn hostile_events_are_judged_as_meshlogd_does() {
    let Some(place) = common::installed() else { return };
    let mut runner = TestRunner::deterministic();
    let keys = HEXLOWER.encode(&identity(1).public().to_bytes());
    let mut reasons = [0usize; 6];
    for version in ["0.5.0", "0.1.0"] {
        for _ in 0..20 {
            let lines = hostile(&mut runner);
            let command = common::script(&place, version, "log_oracle.py", &["judge", &keys]);
            let theirs = common::lines(command, lines.join(&b'\n'));
            let mut judge = Judge::new(Policy::Open);
            if version == "0.5.0" {
                judge.learn(public(&keys));
            }
            let mut log = Log::default();
            let mut ours: Vec<String> = Vec::new();
            for line in &lines {
                let taken = Event::parse(line).ok().map(|event| log.take(event, &mut judge));
                count(&taken, &mut reasons);
                let is_taken = matches!(taken, Some(Ok(Taken::Applied { .. })));
                ours.push(if is_taken { "taken" } else { "no" }.to_owned());
            }
            ours.push(HEXLOWER.encode(&json::to_bytes(&log.frontier().into(), Style::Canonical)));
            assert_eq!(ours, theirs, "{version}");
        }
    }
    assert!(reasons.iter().all(|count| *count > 20), "each way to fail is met: {reasons:?}");
}

fn count(taken: &Option<Result<Taken, Refusal>>, reasons: &mut [usize; 6]) {
    let reason = match taken {
        None => 0,
        Some(Err(Refusal::Forged { .. })) => 1,
        Some(Err(Refusal::Signature { .. })) => 2,
        Some(Err(Refusal::Unsigned { .. })) => 3,
        Some(Err(Refusal::Fork { .. } | Refusal::Chain { .. })) => 4,
        Some(Ok(Taken::Known)) => 5,
        _ => return,
    };
    reasons[reason] += 1;
}

/// Whatever arrives in whatever order, a log of proven authors ends the same.
#[test]
fn nobody_diverges() {
    let mut runner = TestRunner::deterministic();
    let mut views: Vec<Vec<u8>> = Vec::new();
    for _ in 0..30 {
        let lines = hostile(&mut runner);
        let mut judge = Judge::new(Policy::Roster);
        judge.admit(identity(1).public().author(), identity(1).public().clone());
        let mut log = Log::default();
        // The right feed first: forks of an author that signs both are decided by what came first.
        for event in feed(&identity(1), 8, "right") {
            log.take(event, &mut judge).unwrap();
        }
        for line in lines.iter().chain(&lines) {
            if let Ok(event) = Event::parse(line) {
                let _ = log.take(event, &mut judge);
            }
        }
        assert_eq!(log.feeds().count(), 1);
        let fork = log.forks().next().map(|(author, fork)| (author.clone(), fork.clone()));
        let (author, fork) = fork.expect("the other branch was signed by the author");
        assert_eq!(author, identity(1).public().author());
        assert_eq!(fork.held, log.feed(&author)[fork.seq as usize - 1].id());
        views.push(raw_of(&log));
    }
    assert!(views.windows(2).all(|pair| pair[0] == pair[1]));
}

#[test]
fn names_are_bound_on_first_use() {
    let (alice, mallory) = (identity(4), identity(5));
    let named = |who: &Identity, seq, prev| {
        let payload = Value::object([]).into();
        let stamp = Stamp::new(seq as i64, 0);
        who.event(Body { author: "base".into(), seq, stamp, kind: "k".into(), payload, prev })
    };
    let first = named(&alice, 1, None);
    let forged = named(&mallory, 2, Some(first.id()));
    let unsigned = Event::new(forged.body().clone());
    for (policy, is_bound) in [(Policy::Open, false), (Policy::FirstUse, true)] {
        let mut judge = Judge::new(policy);
        judge.learn(alice.public().clone());
        judge.learn(mallory.public().clone());
        let mut log = Log::default();
        log.take(first.clone(), &mut judge).unwrap();
        assert_eq!(judge.key_of(&"base".into()).is_some(), is_bound);
        assert_eq!(matches!(judge.judge(&forged), Err(Refusal::Signature { .. })), is_bound);
        assert_eq!(matches!(judge.judge(&unsigned), Err(Refusal::Unsigned { .. })), is_bound);
    }
    let mut judge = Judge::new(Policy::Roster);
    judge.learn(alice.public().clone());
    assert!(matches!(judge.judge(&first), Err(Refusal::Stranger { .. })));
    judge.admit("base".into(), alice.public().clone());
    assert_eq!(judge.judge(&first), Ok(quipu_meshlog::policy::Verdict::Proven));
    judge.dismiss(&"base".into());
    assert!(judge.judge(&first).is_err());
}

#[test]
fn what_waits_is_bounded_and_leaves_no_trace_when_refused() {
    use quipu_meshlog::limits::PENDING_SPAN_MAX;
    let mut judge = Judge::new(Policy::Open);
    let mut log = Log::default();
    let events = feed(&identity(6), 5, "x");
    let mut far = events[4].body().clone();
    far.seq = PENDING_SPAN_MAX + 2;
    assert!(matches!(log.take(Event::new(far), &mut judge), Err(Refusal::TooFarAhead { .. })));
    assert!(log.is_empty() && log.feeds().count() == 0);
    for event in events[1..].iter().rev() {
        assert_eq!(log.take(event.clone(), &mut judge), Ok(Taken::Waiting));
    }
    assert_eq!((log.waiting(), log.len()), (4, 0));
    let Ok(Taken::Applied { more, .. }) = log.take(events[0].clone(), &mut judge) else { panic!() };
    assert_eq!((more, log.waiting(), log.len()), (4, 0, 5));
    let seqs: Vec<u64> = log.arrived().iter().map(|event: &Arc<Event>| event.seq).collect();
    assert_eq!(seqs, [1, 2, 3, 4, 5]);
}
