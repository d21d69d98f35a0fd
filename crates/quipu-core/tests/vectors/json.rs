//! The JSON of vector files: what bytes mean, in plain words. Shared by the tests, which read it,
//! and by the generator, which writes it.

use data_encoding::HEXLOWER;
use quipu_core::blind::Opening;
use quipu_core::codec::pack::{Resolve, Shared};
use quipu_core::event::{Event, EventSignature, Head, Header, Log, LogSeq, PayloadRef};
use quipu_core::execution::Execution;
use quipu_core::id::{ArtifactId, DomainId, EventId, LogDigest, NodeKey, Subject};
use quipu_core::sketch::{Item, Symbol};
use quipu_core::statement::{Claim, EdgeKey, Statement};
use quipu_core::sync::message::{InviteProof, Message, Range, Refusal, StateOffer, View, Wanted};
use serde_json::{Value as Json, json};

pub(crate) fn hex(bytes: &[u8]) -> String {
    HEXLOWER.encode(bytes)
}

pub(crate) fn unhex(json: &Json) -> Vec<u8> {
    HEXLOWER.decode(text(json).as_bytes()).unwrap_or_else(|e| panic!("hex: {e} in {json}"))
}

pub(crate) fn text(json: &Json) -> &str {
    json.as_str().unwrap_or_else(|| panic!("text expected: {json}"))
}

pub(crate) fn array<const N: usize>(json: &Json) -> [u8; N] {
    unhex(json).try_into().unwrap_or_else(|_| panic!("{N} bytes expected: {json}"))
}

fn number(json: &Json) -> u64 {
    json.as_u64().unwrap_or_else(|| panic!("number expected: {json}"))
}

fn number32(json: &Json) -> u32 {
    u32::try_from(number(json)).unwrap()
}

fn flag(json: &Json) -> bool {
    json.as_bool().unwrap_or_else(|| panic!("true or false expected: {json}"))
}

pub(crate) fn list(json: &Json) -> &[Json] {
    json.as_array().unwrap_or_else(|| panic!("list expected: {json}"))
}

fn parsed<T: std::str::FromStr>(json: &Json) -> T {
    text(json).parse().unwrap_or_else(|_| panic!("id expected: {json}"))
}

fn optional<T>(json: &Json, read: impl Fn(&Json) -> T) -> Option<T> {
    if json.is_null() { None } else { Some(read(json)) }
}

/// An event's fields as `quipu show --json` names them.
pub(crate) fn header_json(header: &Header, domain: &DomainId) -> Json {
    json!({
        "domain": (!header.is_root()).then(|| domain.to_string()),
        "log": header.log.name(),
        "author": header.author.to_string(),
        "seq": header.seq,
        "prev": header.prev.map(|id| id.to_string()),
        "parents": header.parents.iter().map(EventId::to_string).collect::<Vec<_>>(),
        "logseq": header.logseq.to_string(),
        "hlc": [header.logseq.ms(), u64::from(header.logseq.counter())],
        "kind": &*header.kind,
        "payload_cid": header.payload.id.to_string(),
        "size": header.payload.size,
        "subject": header.payload.subject.map(|subject| subject.to_string()),
    })
}

pub(crate) fn header_of(json: &Json) -> (Header, Option<DomainId>) {
    let head = Head {
        log: Log::from_name(text(&json["log"])).unwrap(),
        author: parsed(&json["author"]),
        seq: number(&json["seq"]),
        prev: optional(&json["prev"], parsed),
        parents: list(&json["parents"]).iter().map(parsed).collect(),
        logseq: LogSeq(text(&json["logseq"]).parse().unwrap()),
        kind: text(&json["kind"]).into(),
    };
    assert_eq!(number(&json["hlc"][0]), head.logseq.ms());
    assert_eq!(number(&json["hlc"][1]), u64::from(head.logseq.counter()));
    let payload = PayloadRef {
        id: parsed(&json["payload_cid"]),
        size: number32(&json["size"]),
        subject: optional(&json["subject"], parsed),
    };
    (Header { head, payload }, optional(&json["domain"], parsed))
}

/// A whole event: its fields, and what lies beside them.
pub(crate) fn event_of(json: &Json) -> Event {
    let (header, _) = header_of(json);
    Event {
        id: parsed(&json["uuid"]),
        header: header.into(),
        payload: optional(&json["payload_block"], |json| unhex(json).into()),
        signature: optional(&json["signature"], |json| EventSignature(array(json))),
    }
}

/// Events that both sides of a stream hold, and a list of ids by position.
#[derive(Debug, Default)]
pub(crate) struct Held(pub(crate) Vec<(NodeKey, u64, EventId)>);

impl Held {
    pub(crate) fn of(json: &Json) -> Self {
        let place =
            |json: &Json| (parsed(&json["author"]), number(&json["seq"]), parsed(&json["uuid"]));
        Self(list(json).iter().map(place).collect())
    }
}

impl Shared for Held {
    fn shared(&self, id: &EventId) -> Option<(NodeKey, u64)> {
        self.0.iter().find(|held| held.2 == *id).map(|held| (held.0, held.1))
    }
    fn author_prefix(&self, author: &NodeKey) -> Option<usize> {
        self.0.iter().any(|held| held.0 == *author).then_some(6)
    }
}

impl Resolve for Held {
    fn id_at(&self, author: &NodeKey, seq: u64) -> Option<EventId> {
        self.0.iter().find(|held| held.0 == *author && held.1 == seq).map(|held| held.2)
    }
    fn author_with_prefix(&self, prefix: &[u8]) -> Option<NodeKey> {
        self.0.iter().find(|held| held.0.0.starts_with(prefix)).map(|held| held.0)
    }
    fn id_at_position(&self, _position: u64) -> Option<EventId> {
        None
    }
}

pub(crate) fn symbol_of(json: &Json) -> Symbol {
    let count = i32::try_from(json["count"].as_i64().unwrap()).unwrap();
    Symbol { sum: array(&json["sum"]), check: array(&json["check"]), count }
}

fn items_json(items: &[Item]) -> Json {
    items.iter().map(|item| hex(&item.0)).collect()
}

fn items_of(json: &Json) -> Vec<Item> {
    list(json).iter().map(|item| Item(array(item))).collect()
}

/// What a message says. Ids are hex of the 32 bytes, as on the wire.
pub(crate) fn message_json(message: &Message) -> Json {
    match message {
        Message::Hello { version, domain, log, live, invite } => json!({
            "type": "hello", "version": version, "domain": hex(&domain.0), "log": log.name(),
            "live": live,
            "invite": invite.as_ref().map(|proof| json!({
                "key": proof.key.to_string(), "signature": hex(&proof.signature),
            })),
        }),
        Message::Welcome => json!({ "type": "welcome" }),
        Message::Refuse { refusal, text, domain } => json!({
            "type": "refuse", "refusal": *refusal as u8, "text": text,
            "domain": domain.map(|domain| hex(&domain.0)),
        }),
        Message::Compare { round, attempt, digest, count, met } => json!({
            "type": "compare", "round": round, "attempt": attempt, "digest": digest.to_string(),
            "count": count, "met": met.map(|met| hex(&met)),
        }),
        Message::Same { round } => json!({ "type": "same", "round": round }),
        Message::Differs { round, digest, count, view } => {
            let view = match view {
                View::All(items) => json!({ "all": items_json(items) }),
                View::Changed(items) => json!({ "changed": items_json(items) }),
                View::Symbols(bytes) => json!({ "symbols": hex(bytes) }),
            };
            json!({
                "type": "differs", "round": round, "digest": digest.to_string(), "count": count,
                "view": view,
            })
        }
        Message::MoreSymbols { round, start, count } => {
            json!({ "type": "more-symbols", "round": round, "start": start, "count": count })
        }
        Message::Symbols { round, bytes } => {
            json!({ "type": "symbols", "round": round, "bytes": hex(bytes) })
        }
        Message::Want { round, plain, wanted } => {
            let wanted = match wanted {
                Wanted::Everything => Json::from("everything"),
                Wanted::Ranges(ranges) => ranges
                    .iter()
                    .map(|range| json!({ "author_tag": hex(&range.author), "above": range.above }))
                    .collect(),
            };
            json!({ "type": "want", "round": round, "plain": plain, "wanted": wanted })
        }
        Message::Events { index, restart, live, packed } => json!({
            "type": "events", "index": index, "restart": restart, "live": live,
            "packed": hex(packed),
        }),
        Message::End { round, digest } => {
            json!({ "type": "end", "round": round, "digest": digest.to_string() })
        }
        Message::Level { round, digest } => {
            json!({ "type": "level", "round": round, "digest": digest.to_string() })
        }
        Message::Tips(items) => json!({ "type": "tips", "items": items_json(items) }),
        Message::Prune => json!({ "type": "prune" }),
        Message::Graft => json!({ "type": "graft" }),
        Message::Poke { plain } => json!({ "type": "poke", "plain": plain }),
        Message::Ask { ask, keys } => {
            let keys: Json = keys.iter().map(ToString::to_string).collect();
            json!({ "type": "ask", "ask": ask, "keys": keys })
        }
        Message::Offer { ask, entries } => {
            let entry = |(key, size): &(ArtifactId, u64)| json!([key.to_string(), size]);
            let entries: Json = entries.iter().map(entry).collect();
            json!({ "type": "offer", "ask": ask, "entries": entries })
        }
        Message::Get { key, groups } => json!({
            "type": "get", "key": key.to_string(), "groups": [groups.start, groups.end],
        }),
        Message::Part { key, size, groups, bytes } => json!({
            "type": "part", "key": key.to_string(), "size": size,
            "groups": [groups.start, groups.end], "bytes": hex(bytes),
        }),
        Message::Lack { key } => json!({ "type": "lack", "key": key.to_string() }),
        Message::Idle => json!({ "type": "idle" }),
        Message::AskState => json!({ "type": "ask-state" }),
        Message::State(offer) => json!({
            "type": "state",
            "offer": offer.as_ref().map(|offer| json!({
                "proof": hex(&offer.proof), "key": offer.key.to_string(), "size": offer.size,
            })),
        }),
    }
}

fn claim_json(claim: &Claim) -> Json {
    json!({ "key": claim.key.to_string(), "size": claim.size, "type_tag": claim.type_tag })
}

fn edge_json(edge: &EdgeKey) -> Json {
    let ends = |ends: &[quipu_core::statement::End]| -> Json {
        ends.iter().map(ToString::to_string).collect()
    };
    json!({ "from": ends(&edge.from), "to": ends(&edge.to), "type": edge.kind })
}

/// What an event says. Ids are text, hashes are hex.
pub(crate) fn statement_json(statement: &Statement) -> Json {
    match statement {
        Statement::Put(claim) => json!({ "put": claim_json(claim) }),
        Statement::TombstoneArtifact(key) => json!({ "hide_artifact": key.to_string() }),
        Statement::Pin { key, held } => json!({ "pin": key.to_string(), "held": held }),
        Statement::Edge(edge, role) => json!({ "edge": edge_json(edge), "role": role.name() }),
        Statement::TombstoneEdge(edge) => json!({ "hide_edge": edge_json(edge) }),
        Statement::Resolve { keep, seen } => {
            let seen: Json = seen.iter().map(ToString::to_string).collect();
            json!({ "resolve": claim_json(keep), "seen": seen })
        }
        Statement::Snapshot { root, entries, name } => {
            json!({ "snapshot": { "root": hex(root), "entries": entries, "name": name } })
        }
        Statement::DropSnapshot(id) => json!({ "drop": id.to_string() }),
        Statement::Import { claim, domain, snapshot } => json!({
            "import": claim_json(claim), "domain": domain.to_string(),
            "snapshot": snapshot.to_string(),
        }),
        Statement::Publish { key, snapshot } => {
            json!({ "published": key.to_string(), "snapshot": snapshot.to_string() })
        }
        Statement::Publication { snapshot, part, openings } => {
            let opening = |one: &Opening| {
                json!({
                    "nonce": hex(&one.nonce), "end": one.end.to_string(),
                    "commitment": one.commitment().to_string(),
                })
            };
            let openings: Json = openings.iter().map(opening).collect();
            json!({ "snapshot": snapshot.to_string(), "part": part, "openings": openings })
        }
        Statement::Follow(domain) => json!({ "follow": domain.to_string() }),
        Statement::Execution(said) => execution_json(said),
    }
}

fn execution_json(said: &Execution) -> Json {
    let snapshot = |one: &Option<EventId>| one.map(|snapshot| snapshot.to_string());
    match said {
        Execution::Announce(one) => json!({
            "receipt": one.receipt.to_string(), "run": one.run.to_string(), "size": one.size,
            "node": one.node.to_string(), "snapshot": snapshot(&one.snapshot),
            "scope": one.scope.as_str(),
        }),
        Execution::Request(one) => {
            let inputs: Vec<Json> =
                one.inputs.iter().map(|(name, key)| json!([name, key.to_string()])).collect();
            json!({
                "request": one.run.to_string(), "program": one.program.to_string(),
                "inputs": inputs, "node": one.node.to_string(),
                "snapshot": snapshot(&one.snapshot), "required": one.required,
            })
        }
        Execution::Claim { step, node, failed } => {
            json!({ "claim": step.to_string(), "node": node.to_string(), "failed": failed })
        }
        Execution::Offer(one) => json!({
            "offer": one.node.to_string(), "memory": one.memory, "labels": one.labels,
        }),
    }
}

/// The bytes of the artifacts in `statements.json`.
pub(crate) fn artifact_bytes(length: u32) -> Vec<u8> {
    (0..length).map(|n| (n % 251) as u8).collect()
}

/// The entries of the trees in `state.json`.
pub(crate) fn state_entries(count: u32, zero_bytes: usize) -> Vec<(Subject, EventId)> {
    let hash = |what: &[u8], n: u32| *blake3::hash(&[what, &n.to_le_bytes()].concat()).as_bytes();
    let entry = |n| {
        let mut subject = hash(b"key", n);
        subject[..zero_bytes].fill(0);
        (Subject(subject), EventId(hash(b"event", n)))
    };
    let mut entries: Vec<_> = (0..count).map(entry).collect();
    entries.sort_unstable();
    entries
}

fn groups_of(json: &Json) -> std::ops::Range<u64> {
    number(&json[0])..number(&json[1])
}

const REFUSALS: [Refusal; 8] = [
    Refusal::Version,
    Refusal::OtherDomain,
    Refusal::NotMember,
    Refusal::Invitation,
    Refusal::NotAdmin,
    Refusal::Misbehaved,
    Refusal::Busy,
    Refusal::NotShown,
];

pub(crate) fn message_of(json: &Json) -> Message {
    let round = || number32(&json["round"]);
    let digest = || -> LogDigest { parsed(&json["digest"]) };
    match text(&json["type"]) {
        "hello" => Message::Hello {
            version: u8::try_from(number(&json["version"])).unwrap(),
            domain: DomainId(array(&json["domain"])),
            log: Log::from_name(text(&json["log"])).unwrap(),
            live: flag(&json["live"]),
            invite: optional(&json["invite"], |proof| InviteProof {
                key: parsed(&proof["key"]),
                signature: array(&proof["signature"]),
            }),
        },
        "welcome" => Message::Welcome,
        "refuse" => Message::Refuse {
            refusal: REFUSALS[usize::try_from(number(&json["refusal"])).unwrap() - 1],
            text: text(&json["text"]).to_owned(),
            domain: optional(&json["domain"], |domain| DomainId(array(domain))),
        },
        "compare" => Message::Compare {
            round: round(),
            attempt: u8::try_from(number(&json["attempt"])).unwrap(),
            digest: digest(),
            count: number(&json["count"]),
            met: optional(&json["met"], array),
        },
        "same" => Message::Same { round: round() },
        "differs" => {
            let view = &json["view"];
            let view = if let Some(items) = view.get("all") {
                View::All(items_of(items))
            } else if let Some(items) = view.get("changed") {
                View::Changed(items_of(items))
            } else {
                View::Symbols(unhex(&view["symbols"]))
            };
            Message::Differs {
                round: round(),
                digest: digest(),
                count: number(&json["count"]),
                view,
            }
        }
        "more-symbols" => Message::MoreSymbols {
            round: round(),
            start: number32(&json["start"]),
            count: number32(&json["count"]),
        },
        "symbols" => Message::Symbols { round: round(), bytes: unhex(&json["bytes"]) },
        "want" => {
            let range = |json: &Json| Range {
                author: array(&json["author_tag"]),
                above: number(&json["above"]),
            };
            let wanted = match &json["wanted"] {
                Json::String(_) => Wanted::Everything,
                ranges => Wanted::Ranges(list(ranges).iter().map(range).collect()),
            };
            Message::Want { round: round(), plain: flag(&json["plain"]), wanted }
        }
        "events" => Message::Events {
            index: number32(&json["index"]),
            restart: flag(&json["restart"]),
            live: flag(&json["live"]),
            packed: unhex(&json["packed"]),
        },
        "end" => Message::End { round: round(), digest: digest() },
        "level" => Message::Level { round: round(), digest: digest() },
        "tips" => Message::Tips(items_of(&json["items"])),
        "prune" => Message::Prune,
        "graft" => Message::Graft,
        "poke" => Message::Poke { plain: flag(&json["plain"]) },
        "ask" => Message::Ask {
            ask: number32(&json["ask"]),
            keys: list(&json["keys"]).iter().map(parsed).collect(),
        },
        "offer" => {
            let entry = |entry: &Json| (parsed(&entry[0]), number(&entry[1]));
            Message::Offer {
                ask: number32(&json["ask"]),
                entries: list(&json["entries"]).iter().map(entry).collect(),
            }
        }
        "get" => Message::Get { key: parsed(&json["key"]), groups: groups_of(&json["groups"]) },
        "part" => Message::Part {
            key: parsed(&json["key"]),
            size: number(&json["size"]),
            groups: groups_of(&json["groups"]),
            bytes: unhex(&json["bytes"]).into(),
        },
        "lack" => Message::Lack { key: parsed(&json["key"]) },
        "idle" => Message::Idle,
        "ask-state" => Message::AskState,
        "state" => Message::State(match &json["offer"] {
            Json::Null => None,
            offer => Some(StateOffer {
                proof: unhex(&offer["proof"]),
                key: text(&offer["key"]).parse().unwrap(),
                size: number(&offer["size"]),
            }),
        }),
        other => panic!("unknown message {other}"),
    }
}
