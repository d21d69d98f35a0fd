//! What events of artifacts, edges, conflicts and snapshots say.

use quipu_core::artifact::ARTIFACT_BYTES_MAX;
use quipu_core::blind::Opening;
use quipu_core::execution::{Announcement, Execution, Offer, RunRequest, Scope};
use quipu_core::id::{ArtifactId, EventId, NodeKey, RunKey, Subject};
use quipu_core::kind;
use quipu_core::statement::{Claim, EdgeKey, EdgeRole, End, Statement, TAG_BYTES_MAX};
use quipu_core::subject::{SUBJECT_CONTEXT, subject_of};
use quipu_core::value::{Map, Value};
use serde_json::{Value as Json, json};

use crate::json::{artifact_bytes, hex, statement_json};
use crate::values::{cbor_of, dag_json};
use crate::world::{domain, node, root};

fn hello() -> ArtifactId {
    ArtifactId::of(b"hello")
}

fn world() -> ArtifactId {
    ArtifactId::of(b"world")
}

fn claim(key: ArtifactId, size: u64, tag: Option<&str>) -> Claim {
    Claim { key, size, type_tag: tag.map(str::to_owned) }
}

fn edge() -> EdgeKey {
    let from = vec![End::Artifact(hello()), End::Node(node(2)), End::Artifact(world())];
    EdgeKey::new(from, vec![End::Artifact(ArtifactId::of(b""))], "derived").unwrap()
}

/// The subject of a claim, for a decision that knows it.
fn subject(claim: &Claim) -> Subject {
    let (kind, value) = Statement::Put(claim.clone()).to_value();
    subject_of(kind, &cbor_of(&value)).unwrap()
}

fn good() -> Vec<(&'static str, Statement)> {
    let plain = claim(hello(), 5, None);
    let typed = claim(hello(), 5, Some("text/plain"));
    let seen = vec![subject(&plain), subject(&typed)];
    let snapshot = |name: Option<&str>| Statement::Snapshot {
        root: quipu_core::state::root_of(&[]),
        entries: 0,
        name: name.map(str::to_owned),
    };
    let one_to_one = |from, to| EdgeKey::new(vec![from], vec![to], "next").unwrap();
    let tag = "t".repeat(TAG_BYTES_MAX);
    vec![
        ("put", Statement::Put(plain)),
        ("put-with-a-type", Statement::Put(typed.clone())),
        ("put-nothing", Statement::Put(claim(ArtifactId::of(b""), 0, Some("")))),
        ("put-largest", Statement::Put(claim(world(), ARTIFACT_BYTES_MAX, Some(&tag)))),
        ("hide-an-artifact", Statement::TombstoneArtifact(hello())),
        ("pin", Statement::Pin { key: hello(), held: true }),
        ("unpin", Statement::Pin { key: hello(), held: false }),
        ("edge", Statement::Edge(edge(), EdgeRole::Both)),
        ("edge-with-another-role", Statement::Edge(edge(), EdgeRole::From)),
        (
            "edge-from-node-to-itself",
            Statement::Edge(one_to_one(End::Node(node(1)), End::Node(node(1))), EdgeRole::To),
        ),
        ("hide-an-edge", Statement::TombstoneEdge(edge())),
        ("resolve", Statement::Resolve { keep: typed, seen }),
        (
            "resolve-knowing-nothing",
            Statement::Resolve { keep: claim(hello(), 5, None), seen: vec![] },
        ),
        ("snapshot", snapshot(Some("monday"))),
        ("snapshot-without-a-name", snapshot(None)),
        ("drop-a-snapshot", Statement::DropSnapshot(root().id)),
        (
            "import",
            Statement::Import {
                claim: claim(hello(), 5, Some("text/plain")),
                domain: domain(),
                snapshot: root().id,
            },
        ),
        ("published", Statement::Publish { key: hello(), snapshot: root().id }),
        (
            "publication",
            Statement::Publication {
                snapshot: root().id,
                part: 1,
                openings: vec![opening(End::Artifact(hello())), opening(End::Node(node(1)))],
            },
        ),
        ("follow", Statement::Follow(domain())),
        ("receipt", announced(None, Scope::Run)),
        ("receipt-at-a-snapshot", announced(Some(root().id), Scope::Run)),
        ("receipt-of-a-step", announced(None, Scope::Step)),
        ("receipt-assembled", announced(None, Scope::Assembled)),
        ("run-request", requested(1)),
        ("run-request-of-three", requested(3)),
        ("run-claim", claimed(None)),
        ("run-claim-failed", claimed(Some("it exited with 1".into()))),
        (
            "run-offer",
            Statement::Execution(Execution::Offer(Offer {
                node: node(1),
                memory: 1 << 30,
                labels: vec!["big".into(), "near".into()],
            })),
        ),
        (
            "edge-from-a-commitment",
            Statement::Edge(
                one_to_one(
                    End::Blinded(opening(End::Node(node(1))).commitment()),
                    End::Artifact(hello()),
                ),
                EdgeRole::Both,
            ),
        ),
    ]
}

fn requested(required: u64) -> Statement {
    Statement::Execution(Execution::Request(RunRequest {
        run: RunKey([5; 32]),
        program: hello(),
        inputs: [("left".to_owned(), hello()), ("right".to_owned(), hello())].into(),
        node: node(1),
        snapshot: None,
        required,
    }))
}

fn claimed(failed: Option<String>) -> Statement {
    Statement::Execution(Execution::Claim { step: RunKey([6; 32]), node: node(1), failed })
}

fn announced(snapshot: Option<EventId>, scope: Scope) -> Statement {
    Statement::Execution(Execution::Announce(Announcement {
        run: RunKey([5; 32]),
        receipt: hello(),
        size: 5,
        node: node(1),
        snapshot,
        scope,
    }))
}

/// The opening of a commitment.
fn opening(end: End) -> Opening {
    Opening { nonce: [7; 32], end }
}

/// The fold key, written down from the table in the document.
fn fold_key(statement: &Statement) -> Option<Value> {
    let ends = |ends: &[End]| Value::list(ends.iter().copied());
    let list = |items: Vec<Value>| Some(Value::List(items));
    match statement {
        Statement::Put(claim) => {
            let tag = claim.type_tag.as_deref().map_or(Value::Null, Value::from);
            list(vec!["artifact".into(), claim.key.into(), claim.size.into(), tag])
        }
        Statement::TombstoneArtifact(key) => list(vec!["artifact-tombstone".into(), (*key).into()]),
        Statement::Pin { key, .. } => list(vec!["pin".into(), (*key).into()]),
        Statement::Edge(edge, _) | Statement::TombstoneEdge(edge) => {
            let kind = Value::from(edge.kind.as_str());
            list(vec!["edge".into(), ends(&edge.from), ends(&edge.to), kind])
        }
        Statement::Resolve { keep, .. } => list(vec!["resolution".into(), keep.key.into()]),
        Statement::Snapshot { .. } => None,
        Statement::DropSnapshot(id) => list(vec!["snapshot-drop".into(), (*id).into()]),
        Statement::Import { claim, domain, .. } => {
            list(vec!["import".into(), claim.key.into(), EventId::from(*domain).into()])
        }
        Statement::Publish { key, .. } => list(vec!["published".into(), (*key).into()]),
        Statement::Publication { snapshot, part, .. } => {
            list(vec!["publication".into(), (*snapshot).into(), (*part).into()])
        }
        Statement::Follow(domain) => list(vec!["follow".into(), EventId::from(*domain).into()]),
        Statement::Execution(said) => list(execution_key(said)),
    }
}

fn execution_key(said: &Execution) -> Vec<Value> {
    let bytes = |bytes: &[u8; 32]| Value::from(&bytes[..]);
    let node = bytes(&said.node().0);
    match said {
        Execution::Announce(one) => {
            vec!["receipt".into(), bytes(&one.run.0), one.receipt.into(), node]
        }
        Execution::Request(one) => vec!["run".into(), bytes(&one.run.0), node],
        Execution::Claim { step, .. } => vec!["claim".into(), bytes(&step.0), node],
        Execution::Offer(_) => vec!["offer".into(), node],
    }
}

fn good_json((name, statement): &(&'static str, Statement)) -> Json {
    let (kind, value) = statement.to_value();
    let cbor = cbor_of(&value);
    assert_eq!(Statement::of(kind, &cbor).as_ref(), Some(statement), "{name}");
    json!({
        "name": name, "kind": kind, "value_json": dag_json(&value), "value": hex(&cbor),
        "statement": statement_json(statement),
        "fold_key": fold_key(statement).map(|key| hex(&cbor_of(&key))),
        "subject": subject_of(kind, &cbor).map(|subject| subject.to_string()),
    })
}

/// What the subject of a payload that says nothing is.
#[derive(Debug, PartialEq)]
enum Key {
    /// None.
    None,
    /// One that no statement has.
    Own,
    /// That of a statement, which it takes the place of.
    Of(&'static str),
}

type Silent = (&'static str, &'static str, Value, Key);

/// The value of a good one, changed.
fn changed(name: &str, change: impl FnOnce(&mut Map)) -> Value {
    let (_, statement) = good().into_iter().find(|(good, _)| *good == name).unwrap();
    let Value::Map(mut map) = statement.to_value().1 else { panic!("{name} is a map") };
    change(&mut map);
    Value::Map(map)
}

fn without(name: &str, field: &str) -> Value {
    changed(name, |map| assert!(map.remove(field).is_some()))
}

fn set(name: &str, field: &str, value: impl Into<Value>) -> Value {
    changed(name, |map| drop(map.insert(field, value.into()).unwrap()))
}

fn silent_claims() -> Vec<Silent> {
    let event = EventId(hello().0);
    let long = "t".repeat(TAG_BYTES_MAX + 1);
    let tombstone = "hide-an-artifact";
    let over = ARTIFACT_BYTES_MAX + 1;
    vec![
        ("not-a-map", kind::ARTIFACT_PUT, Value::from(hello()), Key::None),
        ("put-without-key", kind::ARTIFACT_PUT, without("put", "key"), Key::None),
        ("put-without-size", kind::ARTIFACT_PUT, without("put", "size"), Key::None),
        (
            "key-as-text",
            kind::ARTIFACT_PUT,
            set("put", "key", hello().to_string().as_str()),
            Key::None,
        ),
        ("key-as-bytes", kind::ARTIFACT_PUT, set("put", "key", &hello().0[..]), Key::None),
        ("key-of-an-event", kind::ARTIFACT_PUT, set("put", "key", event), Key::Own),
        ("size-negative", kind::ARTIFACT_PUT, set("put", "size", -1i64), Key::None),
        (
            "size-a-fraction",
            kind::ARTIFACT_PUT,
            set("put", "size", Value::float(5.5).unwrap()),
            Key::None,
        ),
        ("size-over-2^50", kind::ARTIFACT_PUT, set("put", "size", over), Key::Own),
        ("type-tag-null", kind::ARTIFACT_PUT, set("put", "type_tag", Value::Null), Key::None),
        ("type-tag-a-number", kind::ARTIFACT_PUT, set("put", "type_tag", 1u64), Key::None),
        (
            "type-tag-of-129-bytes",
            kind::ARTIFACT_PUT,
            set("put", "type_tag", long.as_str()),
            Key::Own,
        ),
        ("hide-without-key", kind::ARTIFACT_TOMBSTONE, Value::map([]), Key::None),
        ("hide-an-event", kind::ARTIFACT_TOMBSTONE, set(tombstone, "key", event), Key::Own),
        ("pin-an-event", kind::ARTIFACT_PIN, set("pin", "key", event), Key::Own),
        ("pin-the-key-as-text", kind::ARTIFACT_UNPIN, set("pin", "key", "hello"), Key::None),
        ("kind-unknown", "artifact.other", set("put", "size", 5u64), Key::None),
        (
            "resolve-without-seen",
            kind::CONFLICT_RESOLVE,
            without("resolve", "seen"),
            Key::Of("resolve"),
        ),
        (
            "resolve-without-size",
            kind::CONFLICT_RESOLVE,
            without("resolve", "size"),
            Key::Of("resolve"),
        ),
        (
            "resolve-seen-of-31-bytes",
            kind::CONFLICT_RESOLVE,
            set("resolve", "seen", Value::list([&[7u8; 31][..]])),
            Key::Of("resolve"),
        ),
        ("resolve-without-key", kind::CONFLICT_RESOLVE, without("resolve", "key"), Key::None),
    ]
}

fn silent_edges() -> Vec<Silent> {
    let (low, high) = (End::Node(NodeKey([1; 32])), End::Artifact(hello()));
    let ends = |field: &str, ends: Value| set("edge", field, ends);
    let add = |name, value, key| (name, kind::EDGE_ADD, value, key);
    let long = "t".repeat(TAG_BYTES_MAX + 1);
    vec![
        add("ends-not-sorted", ends("from", Value::list([high, low])), Key::None),
        add("end-twice", ends("to", Value::list([low, low])), Key::None),
        add("no-ends", ends("to", Value::list(Vec::<End>::new())), Key::None),
        add("ends-not-a-list", ends("from", low.into()), Key::None),
        add("end-as-text", ends("from", Value::list([hello().to_string().as_str()])), Key::None),
        add("end-of-31-bytes", ends("from", Value::list([&[1u8; 31][..]])), Key::Own),
        add("end-an-event", ends("from", Value::list([EventId(hello().0)])), Key::Own),
        add("edge-without-from", without("edge", "from"), Key::None),
        add("edge-without-to", without("edge", "to"), Key::None),
        add("edge-without-type", without("edge", "type"), Key::None),
        add("edge-type-empty", set("edge", "type", ""), Key::Own),
        add("edge-type-as-bytes", set("edge", "type", &b"derived"[..]), Key::Own),
        add("edge-type-of-129-bytes", set("edge", "type", long.as_str()), Key::Own),
        add("edge-without-role", without("edge", "role"), Key::Of("edge")),
        add("edge-role-unknown", set("edge", "role", "neither"), Key::Of("edge")),
        (
            "hide-an-edge-not-sorted",
            kind::EDGE_TOMBSTONE,
            set("hide-an-edge", "from", Value::list([high, low])),
            Key::None,
        ),
    ]
}

fn silent_snapshots() -> Vec<Silent> {
    let create = |name, value| (name, kind::SNAPSHOT_CREATE, value, Key::None);
    let dropped = "drop-a-snapshot";
    vec![
        create("snapshot-without-root", without("snapshot", "root")),
        create("snapshot-without-entries", without("snapshot", "entries")),
        create("snapshot-root-of-31-bytes", set("snapshot", "root", &[1u8; 31][..])),
        create("snapshot-name-a-number", set("snapshot", "name", 1u64)),
        ("drop-an-artifact", kind::SNAPSHOT_DROP, set(dropped, "snapshot", hello()), Key::Own),
        ("drop-by-name", kind::SNAPSHOT_DROP, set(dropped, "snapshot", "monday"), Key::None),
    ]
}

fn silent_executions() -> Vec<Silent> {
    let announce = |name, value, key| (name, kind::RECEIPT_ANNOUNCE, value, key);
    let input = |name: &str| Value::map([("name", name.into()), ("key", hello().into())]);
    let inputs = |names: &[&str]| {
        set("run-request", "inputs", Value::list(names.iter().map(|name| input(name))))
    };
    let labels = |list: &[&str]| set("run-offer", "labels", Value::list(list.iter().copied()));
    let request = |name, value| (name, kind::RUN_REQUEST, value, Key::Of("run-request"));
    let offer = |name, value| (name, kind::RUN_OFFER, value, Key::Of("run-offer"));
    vec![
        announce("receipt-without-run", without("receipt", "run"), Key::None),
        announce("receipt-without-node", without("receipt", "node"), Key::None),
        announce("receipt-without-size", without("receipt", "size"), Key::Of("receipt")),
        announce("receipt-an-event", set("receipt", "receipt", root().id), Key::Own),
        announce("receipt-run-of-31-bytes", set("receipt", "run", &[5u8; 31][..]), Key::Own),
        announce("receipt-at-an-artifact", set("receipt", "snapshot", hello()), Key::Of("receipt")),
        request("request-names-not-rising", inputs(&["right", "left"])),
        request("request-name-twice", inputs(&["left", "left"])),
        request("request-without-program", without("run-request", "program")),
        ("claim-without-step", kind::RUN_CLAIM, without("run-claim", "step"), Key::None),
        offer("offer-labels-not-rising", labels(&["near", "big"])),
        offer("offer-label-empty", labels(&[""])),
        offer("offer-without-memory", without("run-offer", "memory")),
    ]
}

fn silent_json(good: &[Json], (name, kind, value, key): Silent) -> Json {
    let cbor = cbor_of(&value);
    assert_eq!(Statement::of(kind, &cbor), None, "{name}");
    let subject = subject_of(kind, &cbor).map(|subject| subject.to_string());
    let same = good.iter().find(|good| subject.is_some() && good["subject"] == json!(subject));
    match &key {
        Key::None => assert_eq!(subject, None, "{name}"),
        Key::Own => assert!(subject.is_some() && same.is_none(), "{name}"),
        Key::Of(other) => assert_eq!(same.unwrap()["name"], *other, "{name}"),
    }
    json!({
        "name": name, "kind": kind, "value_json": dag_json(&value), "value": hex(&cbor),
        "subject": subject,
    })
}

pub(crate) fn statements() -> Json {
    let good: Vec<Json> = good().iter().map(good_json).collect();
    let silent = silent_claims()
        .into_iter()
        .chain(silent_edges())
        .chain(silent_snapshots())
        .chain(silent_executions());
    let silent: Vec<Json> = silent.map(|one| silent_json(&good, one)).collect();
    let more = Value::map([("key", hello().into()), ("size", 5u64.into()), ("more", "x".into())]);
    let said = Statement::of(kind::ARTIFACT_PUT, &cbor_of(&more)).unwrap();
    let keys: Vec<Json> = [0u32, 1, 1_024, 1_025, 16_384, 16_385, 100_000]
        .into_iter()
        .map(|length| {
            let key = ArtifactId::of(&artifact_bytes(length));
            json!({ "length": length, "key": key.to_string() })
        })
        .collect();
    json!({
        "format": "statements: payload values of the kinds artifact, edge, conflict, snapshot",
        "context": std::str::from_utf8(SUBJECT_CONTEXT).unwrap(),
        "good": good,
        "decode_only": [{
            "name": "a field that is not known", "kind": kind::ARTIFACT_PUT,
            "value_json": dag_json(&more), "value": hex(&cbor_of(&more)),
            "statement": statement_json(&said),
        }],
        "silent": silent,
        "artifact_rule": "byte n of an artifact, from 0, is n modulo 251",
        "artifacts": keys,
    })
}
