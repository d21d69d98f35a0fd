//! A domain's records in a mesh: the same bytes at every gateway, taken by the real meshlogd.

mod common;

use std::sync::Arc;

use data_encoding::HEXLOWER;
use quipu_core::codec::v1;
use quipu_core::event::{Event as NativeEvent, Head, Header, Log as NativeLog, LogSeq, PayloadRef};
use quipu_core::id::{ArtifactId, DomainId, NodeKey};
use quipu_core::value::{self, Value as NativeValue};
use quipu_meshlog::clock::Stamp;
use quipu_meshlog::domain::Added;
use quipu_meshlog::event::{Body, Event};
use quipu_meshlog::identity::{IDENTITY_BYTES, Identity};
use quipu_meshlog::json::{self, Style};
use quipu_meshlog::log::{Log, Taken};
use quipu_meshlog::mesh::Mesh;
use quipu_meshlog::native::{Claim, Said};
use quipu_meshlog::policy::{Judge, Policy};
use quipu_meshlog::projection::{Projector, Stopped, identity_of, said_of};
use quipu_meshlog::records::Records;
use quipu_meshlog::text::Text;

const NODE: NodeKey = NodeKey([7; 32]);

fn identity() -> Identity {
    Identity::from_bytes(&[8; IDENTITY_BYTES])
}

/// The feed of one node, as it grows.
#[derive(Default)]
struct Feed(Vec<NativeEvent>);

impl Feed {
    fn event(&self, kind: &str, value: &NativeValue) -> NativeEvent {
        let mut bytes = Vec::new();
        value::encode(value, &mut bytes);
        let block = v1::payload_block(&[1; 8], &bytes);
        let seq = self.0.len() as u64 + 1;
        let prev = self.0.last().map(|event| event.id);
        let head = Head {
            log: NativeLog::Internal,
            author: NODE,
            seq,
            prev,
            parents: prev.into_iter().collect(),
            logseq: LogSeq((1_000 + seq / 3) << 16 | seq),
            kind: kind.into(),
        };
        let payload = PayloadRef::of(kind, &block);
        NativeEvent::new(Header { head, payload }, Some(block), &DomainId([1; 32]))
    }

    fn say(&mut self, said: &Said) {
        let (kind, value) = said.to_value().unwrap();
        let event = self.event(kind, &value);
        self.0.push(event);
    }

    fn set(&mut self, field: &str, value: NativeValue) {
        self.say(&Said::Set { record_id: "R-1".into(), field: field.into(), value });
    }
}

/// Records of every kind, among other things, and the identity in the middle.
fn feed(signed: bool) -> Feed {
    let mut feed = Feed::default();
    feed.say(&Said::Create { record_id: "R-1".into(), form: "site".into() });
    feed.set("é", NativeValue::float(0.1).unwrap());
    let other = Identity::from_bytes(&[9; IDENTITY_BYTES]);
    // Somebody else's identity, which did not agree to this node.
    feed.say(&Said::Identity(Claim::new(&other, &NodeKey([3; 32]), false)));
    feed.say(&Said::Identity(Claim::new(&identity(), &NODE, signed)));
    feed.0.push(feed.event("app.note", &NativeValue::Null));
    feed.0.push(feed.event("record.set", &NativeValue::map([("record_id", "R-1".into())])));
    let key = ArtifactId::of(b"x");
    let odd = NativeValue::map([
        ("bb", u64::MAX.into()),
        ("a", NativeValue::Bytes(vec![1, 2])),
        ("c", key.into()),
    ]);
    feed.set("odd", odd);
    feed.say(&Said::Note { record_id: "R-1".into(), text: "n\n\u{1f600}".into() });
    let (field, mime) = ("photo".to_owned(), "image/jpeg".to_owned());
    feed.say(&Said::Attach { record_id: "R-1".into(), field, artifact: key, size: 1, mime });
    feed
}

fn projector(feed: &[NativeEvent]) -> Projector {
    Projector::new(NODE, identity_of(feed).expect("the feed names an identity"))
}

fn project(feed: &[NativeEvent]) -> Vec<Event> {
    let mut projector = projector(feed);
    feed.iter().flat_map(|event| projector.push(event).unwrap()).collect()
}

fn wires(events: &[Event]) -> Vec<Vec<u8>> {
    events.iter().map(Event::to_wire).collect()
}

#[test]
fn every_gateway_makes_the_same_bytes() {
    let mut feed = feed(false);
    let first = project(&feed.0);
    assert_eq!(first.len(), 5);
    assert!(
        first.iter().zip(1..).all(|(event, seq)| event.seq == seq && event.signature().is_none())
    );
    let last = json::to_bytes(&first[2].payload, Style::Canonical);
    let expected = r#"{"field":"odd","record_id":"R-1","value":{"a":{"/":{"bytes":"AQI"}},"bb":18446744073709551615,"c":{"/":"#;
    assert!(String::from_utf8(last).unwrap().starts_with(expected));
    // A gateway that was there from the start, one that came later, and one that was away in between.
    let mut early = projector(&feed.0);
    let mut made: Vec<Event> = feed.0.iter().flat_map(|event| early.push(event).unwrap()).collect();
    feed.set("later", 1u64.into());
    made.extend(early.push(feed.0.last().unwrap()).unwrap());
    assert_eq!(wires(&made), wires(&project(&feed.0)));
    assert_eq!(wires(&made[..5]), wires(&first));
}

#[test]
fn signed_records_wait_for_their_signatures() {
    let mut feed = feed(true);
    assert!(project(&feed.0).is_empty());
    let mut own = projector(&feed.0);
    for event in &feed.0 {
        own.push(event).unwrap();
    }
    let signatures = own.signatures(&identity()).unwrap();
    // Signatures of somebody else let nothing go.
    let forged = own.signatures(&Identity::from_bytes(&[1; IDENTITY_BYTES])).unwrap();
    feed.say(&Said::Sign(forged));
    assert!(project(&feed.0).is_empty());
    feed.say(&Said::Sign(signatures.clone()));
    feed.set("more", 2u64.into());
    let made = project(&feed.0);
    assert_eq!(made.len(), 5);
    let mut judge = Judge::new(Policy::Roster);
    judge.admit(identity().public().author(), identity().public().clone());
    let mut log = Log::default();
    for event in &made {
        assert!(matches!(log.take(event.clone(), &mut judge), Ok(Taken::Applied { .. })));
    }
    // Signatures that came before do no harm, and a part of them is enough.
    feed.say(&Said::Sign(signatures));
    assert_eq!(wires(&project(&feed.0)), wires(&made));
}

#[test]
fn it_stops_where_gateways_could_differ() {
    let mut feed = feed(false);
    let whole = project(&feed.0);
    let mut projector = projector(&feed.0);
    assert!(projector.push(&feed.0[1]).is_err(), "it begins with the first event");
    assert!(projector.push(&feed.0[0]).is_ok());
    assert!(projector.push(&feed.0[4]).is_err(), "and has no gaps");
    assert!(projector.push(&feed.0[0]).is_err(), "nothing twice");

    let mut projector = self::projector(&feed.0);
    feed.0[..3].iter().for_each(|event| drop(projector.push(event).unwrap()));
    let other = Feed(feed.0[..1].to_vec()).event("record.set", &NativeValue::Null);
    assert_eq!(projector.push(&other), Ok(vec![]));
    assert_eq!(projector.stopped(), Some(Stopped::Fork { at: other.id }));
    assert_eq!(projector.push(&feed.0[3]), Ok(vec![]));

    feed.0[6].payload = None;
    let mut projector = self::projector(&feed.0);
    let made: Vec<Event> = feed.0.iter().flat_map(|event| projector.push(event).unwrap()).collect();
    assert_eq!(wires(&made), wires(&whole[..2]));
    assert_eq!(projector.stopped(), Some(Stopped::Erased { at: feed.0[6].id }));
}

fn mesh_of(feed: &[NativeEvent]) -> Mesh {
    let mut mesh = Mesh::default();
    while feed.iter().filter(|event| mesh.add(event) == Added::Stale).count() > 0 {
        mesh.restart();
    }
    mesh
}

#[test]
fn what_came_out_does_not_come_in_again() {
    let mut feed = feed(false);
    let made = project(&feed.0);
    let mut mesh = mesh_of(&feed.0);
    assert_eq!(mesh.made_by(&NODE), 5);
    let author = &made[0].author;
    let ids = |events: &[Arc<Event>]| events.iter().map(|event| event.id()).collect::<Vec<_>>();
    let expected: Vec<_> = made.iter().map(Event::id).collect();
    assert_eq!(ids(mesh.log().feed(author)), expected);
    assert_eq!(mesh.take_foreign(), []);
    let mut body = made[0].body().clone();
    body.author = "somebody".into();
    let foreign = Event::new(body);
    let feeds = mesh.feeds();
    assert!(feeds.ours.contains(author));
    feeds.log.take(foreign.clone(), feeds.judge).unwrap();
    assert_eq!(ids(&mesh.take_foreign()), [foreign.id()]);
    assert_eq!(mesh.take_foreign(), [], "told once");
    // Once it is in the domain it is not foreign any more, also for a machine that starts anew.
    feed.say(&Said::Wrapped(Box::new(foreign)));
    let mut again = mesh_of(&feed.0);
    assert_eq!(again.log().len(), 6);
    assert_eq!(again.take_foreign(), []);
}

#[test]
fn a_node_without_an_identity_stays_at_home() {
    let feed = feed(false);
    let mesh = mesh_of(&feed.0[..2]);
    assert_eq!((mesh.log().len(), mesh.log().offered().count()), (2, 0));
    assert_eq!(mesh.log().feed(&NODE.to_string().into()).len(), 2);
    let mesh = mesh_of(&feed.0);
    assert_eq!((mesh.log().len(), mesh.log().offered().count()), (5, 1));
}

#[test]
fn what_clients_emit_is_native_where_that_is_the_same() {
    let author = identity().public().author();
    let said = |kind: &str, payload: &str| {
        let payload = json::parse(payload.as_bytes()).unwrap();
        said_of(&kind.into(), &payload, &author)
    };
    let native = [
        ("record.create", format!(r#"{{"form":"f","by":"{author}","record_id":"R"}}"#)),
        (
            "field.set",
            r#"{"record_id":"R","field":"f","value":{"a":[1.5,null,18446744073709551615]}}"#.into(),
        ),
        ("note.add", r#"{"record_id":"R","text":""}"#.into()),
    ];
    for (kind, payload) in native {
        assert!(!matches!(said(kind, &payload), Said::Emit { .. }), "{kind} {payload}");
    }
    let others = [
        ("record.create", r#"{"record_id":"R","form":"f","by":"somebody else"}"#),
        ("field.set", r#"{"record_id":"R","field":"f","value":1.0}"#),
        ("field.set", r#"{"record_id":"R","field":"f","value":NaN}"#),
        ("field.set", r#"{"record_id":"R","field":"f","value":"\ud800"}"#),
        ("field.set", r#"{"record_id":"R","field":"f","value":1,"more":2}"#),
        ("field.set", r#"{"record_id":"R","field":"f","value":123456789012345678901234567890}"#),
        ("attachment.add", r#"{"record_id":"R","field":"f","blob_hash":"x","size":1,"mime":""}"#),
        ("other", "{}"),
    ];
    for (kind, payload) in others {
        let said = said(kind, payload);
        let Said::Emit { payload: kept, .. } = &said else { panic!("{kind} {payload}: {said:?}") };
        assert_eq!(String::from_utf8(json::to_bytes(kept, Style::Compact)).unwrap(), payload);
        let (native, value) = said.to_value().unwrap();
        let Some(Said::Emit { payload: again, .. }) = Said::of(native, &value) else {
            panic!("{native}")
        };
        // NaN is not equal to itself.
        assert_eq!(json::to_bytes(&again, Style::Compact), json::to_bytes(kept, Style::Compact));
    }
}

#[test]
fn a_first_use_is_told_to_the_domain_once() {
    let mut feed = Feed::default();
    feed.say(&Said::Policy(Policy::FirstUse));
    let mut mesh = Mesh::default();
    let _none_yet = mesh.set_admins([NODE].into());
    let add_all = |mesh: &mut Mesh, feed: &Feed| {
        while feed.0.iter().filter(|event| mesh.add(event) == Added::Stale).count() > 0 {
            mesh.restart();
        }
    };
    add_all(&mut mesh, &feed);
    let (stamp, kind) = (Stamp::new(1, 0), Text::from("k"));
    let payload = json::Value::object([]);
    let body = |author: Text, seq| Body {
        author,
        seq,
        stamp: stamp.clone(),
        kind: kind.clone(),
        payload: payload.clone().into(),
        prev: None,
    };
    let own_name = identity().public().author();
    let feeds = mesh.feeds();
    feeds.judge.learn(identity().public().clone());
    feeds.log.take(identity().event(body("x".into(), 1)), feeds.judge).unwrap();
    feeds.log.take(identity().event(body(own_name.clone(), 1)), feeds.judge).unwrap();
    // Of whom nothing is held, and of whom nobody vouches, there is nothing to tell.
    feeds.log.take(identity().event(body("waits".into(), 2)), feeds.judge).unwrap();
    feeds.log.take(Event::new(body("unproven".into(), 1)), feeds.judge).unwrap();
    for event in mesh.take_foreign() {
        feed.say(&Said::Wrapped(Box::new(Event::clone(&event))));
    }
    let said = mesh.take_verdicts();
    let about = |said: &Said| match said {
        Said::Trust(trust) => (trust.author.clone(), trust.identity.clone()),
        other => panic!("{other:?}"),
    };
    let mut told: Vec<_> = said.iter().map(about).collect();
    told.sort_by(|a, b| a.0.cmp(&b.0));
    let key = Some(identity().public().clone());
    let mut expected = [("x".to_owned(), key.clone()), (own_name.to_string(), key)];
    expected.sort_by(|a, b| a.0.cmp(&b.0));
    assert_eq!(told, expected);
    assert_eq!(mesh.take_verdicts(), [], "told once");
    said.iter().for_each(|one| feed.say(one));
    // Who hears it from the domain needs to have heard no announce.
    let mut other = Mesh::default();
    let _none_yet = other.set_admins([NODE].into());
    add_all(&mut other, &feed);
    assert_eq!(other.take_verdicts(), []);
    let forged = Event::new(body("x".into(), 2));
    let feeds = other.feeds();
    assert!(feeds.log.take(forged, feeds.judge).is_err());
}

/// The real meshlogd takes what comes out, signed, under a key that it knows, and shows the same.
#[test]
fn meshlogd_takes_the_records_of_a_domain() {
    let Some(place) = common::installed() else { return };
    let mut feed = feed(true);
    let mut own = projector(&feed.0);
    feed.0.iter().for_each(|event| drop(own.push(event).unwrap()));
    feed.say(&Said::Sign(own.signatures(&identity()).unwrap()));
    let made = project(&feed.0);
    let keys = HEXLOWER.encode(&identity().public().to_bytes());
    for version in ["0.1.0", "0.5.0"] {
        let command = common::script(&place, version, "log_oracle.py", &["judge", &keys]);
        let answers = common::lines(command, wires(&made).join(&b'\n'));
        assert_eq!(answers[..5], ["taken"; 5], "{version}");
    }
    let directory = tempfile::tempdir().unwrap();
    let mut log = Log::default();
    made.into_iter().for_each(|event| drop(log.append_own(event).unwrap()));
    std::fs::write(directory.path().join("0"), quipu_meshlog::file::write(&log)).unwrap();
    let arguments = ["views", directory.path().to_str().unwrap()];
    let answers =
        common::lines(common::script(&place, "0.1.0", "log_oracle.py", &arguments), Vec::new());
    let mut view = Vec::new();
    Records::of(log.arrived().iter().collect::<Vec<&Arc<Event>>>()).write_json(&mut view).unwrap();
    assert_eq!(answers[0].split(' ').next().unwrap(), HEXLOWER.encode(&view));
}
