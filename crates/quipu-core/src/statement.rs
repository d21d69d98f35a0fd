//! What events of quipu's own data kinds say: artifacts, edges, pins, conflicts, snapshots.
//!
//! A payload that is not of this form is data that no fold sees: the event stays valid, because
//! later events link to it.

use std::fmt;
use std::str::FromStr;

use minicbor::Decoder;

use crate::blind::{Commitment, Opening};
use crate::event::Event;
use crate::execution::Execution;
use crate::id::{ArtifactId, DomainId, EventId, IdError, NodeKey, Subject};
use crate::kind;
use crate::value::{self, Value};

/// The longest type tag, edge type or snapshot name, in bytes.
pub const TAG_BYTES_MAX: usize = 128;
/// The most ends in one list of an edge: with both lists full a payload stays below 64 KiB.
pub const ENDS_MAX: usize = 512;

/// An end of an edge: an artifact (receipts are artifacts), a node, or, in a published log, something
/// that stays internal.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum End {
    /// A node.
    Node(NodeKey),
    /// A commitment to an end that is not published.
    Blinded(Commitment),
    /// An artifact.
    Artifact(ArtifactId),
}

impl fmt::Display for End {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            End::Node(key) => key.fmt(f),
            End::Blinded(commitment) => commitment.fmt(f),
            End::Artifact(key) => key.fmt(f),
        }
    }
}

impl FromStr for End {
    type Err = IdError;
    fn from_str(text: &str) -> Result<Self, IdError> {
        if let Some(commitment) = Commitment::parse(text) {
            return Ok(End::Blinded(commitment));
        }
        match text.parse::<NodeKey>() {
            Ok(key) => Ok(End::Node(key)),
            Err(_) => text.parse().map(End::Artifact),
        }
    }
}

impl From<End> for Value {
    fn from(end: End) -> Self {
        match end {
            End::Node(key) => Value::from(&key.0[..]),
            End::Blinded(commitment) => Value::from(&commitment.to_bytes()[..]),
            End::Artifact(key) => Value::from(key),
        }
    }
}

impl End {
    pub(crate) fn of_raw(raw: Raw<'_>) -> Option<Self> {
        match raw.bytes() {
            Some(bytes) => match Commitment::of_bytes(bytes) {
                Some(commitment) => Some(End::Blinded(commitment)),
                None => NodeKey::from_slice(bytes).map(End::Node),
            },
            None => raw.artifact().map(End::Artifact),
        }
    }
}

/// Which ends of an edge carry its meaning.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, PartialOrd, Ord, Hash)]
pub enum EdgeRole {
    /// Those it comes from.
    From,
    /// Those it leads to.
    To,
    /// Both.
    #[default]
    Both,
}

impl EdgeRole {
    /// All roles.
    pub const ALL: [EdgeRole; 3] = [EdgeRole::From, EdgeRole::To, EdgeRole::Both];

    /// The word in payloads, on the command line and in JSON.
    pub const fn name(self) -> &'static str {
        match self {
            EdgeRole::From => "from",
            EdgeRole::To => "to",
            EdgeRole::Both => "both",
        }
    }

    /// The role with that name.
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|role| role.name() == name)
    }
}

/// The names of an edge: edges with equal ones are the same edge, and the latest counts (ART-5).
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct EdgeKey {
    /// Where it comes from, sorted.
    pub from: Vec<End>,
    /// Where it leads, sorted.
    pub to: Vec<End>,
    /// Its type.
    pub kind: String,
}

impl EdgeKey {
    /// An edge with its ends sorted and each once. Nothing if a list is empty or too long, or the
    /// type is too long or empty.
    pub fn new(mut from: Vec<End>, mut to: Vec<End>, kind: &str) -> Option<Self> {
        for ends in [&mut from, &mut to] {
            ends.sort_unstable();
            ends.dedup();
            if ends.is_empty() || ends.len() > ENDS_MAX {
                return None;
            }
        }
        let fits = !kind.is_empty() && kind.len() <= TAG_BYTES_MAX;
        fits.then(|| Self { from, to, kind: kind.to_owned() })
    }

    fn of_raw(value: Raw<'_>) -> Option<Self> {
        let kind = value.get("type")?.text()?;
        let fits = !kind.is_empty() && kind.len() <= TAG_BYTES_MAX;
        let (from, to) = (sorted_ends(value.get("from")?)?, sorted_ends(value.get("to")?)?);
        fits.then(|| Self { from, to, kind: kind.to_owned() })
    }
}

/// A list of ends, if it is sorted, each once: else one edge would have several fold keys.
fn sorted_ends(list: Raw<'_>) -> Option<Vec<End>> {
    let mut ends = Vec::with_capacity(1);
    for item in list.items()? {
        let end = End::of_raw(item?)?;
        if ends.last().is_some_and(|last| *last >= end) || ends.len() == ENDS_MAX {
            return None;
        }
        ends.push(end);
    }
    (!ends.is_empty()).then_some(ends)
}

/// What is claimed of an artifact. Different claims of one key are a conflict (ART-4).
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Claim {
    /// The artifact.
    pub key: ArtifactId,
    /// Its size in bytes.
    pub size: u64,
    /// What kind of thing it is.
    pub type_tag: Option<String>,
}

impl Claim {
    fn of_raw(value: Raw<'_>) -> Option<Self> {
        let type_tag = match value.get("type_tag") {
            None => None,
            Some(tag) => Some(tag.text().filter(|tag| tag.len() <= TAG_BYTES_MAX)?.to_owned()),
        };
        let (key, size) = (value.get("key")?.artifact()?, value.get("size")?.number()?);
        (size <= crate::artifact::ARTIFACT_BYTES_MAX).then_some(Self { key, size, type_tag })
    }
}

/// What an event says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Statement {
    /// `artifact.put`
    Put(Claim),
    /// `artifact.import`
    Import {
        /// What the other domain says of it.
        claim: Claim,
        /// The domain that published it.
        domain: DomainId,
        /// The published snapshot that it is pinned to.
        snapshot: EventId,
    },
    /// `artifact.tombstone`
    TombstoneArtifact(ArtifactId),
    /// `artifact.pin` or `artifact.unpin`
    Pin {
        /// The artifact.
        key: ArtifactId,
        /// Whether it is held from now on.
        held: bool,
    },
    /// `edge.add`
    Edge(EdgeKey, EdgeRole),
    /// `edge.tombstone`
    TombstoneEdge(EdgeKey),
    /// `conflict.resolve`
    Resolve {
        /// The claim that counts.
        keep: Claim,
        /// Fold keys of the claims that this decision knew. Another one reopens the conflict.
        seen: Vec<Subject>,
    },
    /// `snapshot.create`
    Snapshot {
        /// Root of the state tree at the cut, which is this event's past.
        root: [u8; 32],
        /// Fold keys in the state.
        entries: u64,
        /// What people call it.
        name: Option<String>,
    },
    /// `snapshot.drop`
    DropSnapshot(EventId),
    /// `artifact.publish`
    Publish {
        /// What was published.
        key: ArtifactId,
        /// The snapshot of the published log that it is pinned to.
        snapshot: EventId,
    },
    /// `publication.record`
    Publication {
        /// The snapshot of the published log.
        snapshot: EventId,
        /// A publication with much lineage has several records: 0, 1, 2 ...
        part: u64,
        /// What its commitments stand for.
        openings: Vec<Opening>,
    },
    /// `domain.follow`
    Follow(DomainId),
    /// `receipt.announce`, `run.request`, `run.claim`, `run.offer`
    Execution(Execution),
}

/// An item of a payload value that is known to be canonical: read without building a tree of it.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Raw<'a>(&'a [u8]);

/// What precedes the 36 bytes of a content id: tag 42, 37 bytes, a zero.
const LINK_HEAD: [u8; 5] = [0xd8, 0x2a, 0x58, 0x25, 0x00];

impl<'a> Raw<'a> {
    fn of(bytes: &'a [u8]) -> Option<Self> {
        value::validate(bytes).ok().map(|()| Self(bytes))
    }

    /// A field, if this is a map that has it.
    pub(crate) fn get(self, name: &str) -> Option<Self> {
        let mut d = Decoder::new(self.0);
        for _ in 0..d.map().ok()?? {
            let found = d.str().ok()? == name;
            let start = d.position();
            d.skip().ok()?;
            if found {
                return Some(Self(&self.0[start..d.position()]));
            }
        }
        None
    }

    /// The items, if this is a list.
    pub(crate) fn items(self) -> Option<impl Iterator<Item = Option<Self>>> {
        let mut d = Decoder::new(self.0);
        let count = d.array().ok()??;
        Some((0..count).map(move |_| {
            let start = d.position();
            d.skip().ok()?;
            Some(Self(&self.0[start..d.position()]))
        }))
    }

    pub(crate) fn text(self) -> Option<&'a str> {
        Decoder::new(self.0).str().ok()
    }

    pub(crate) fn bytes(self) -> Option<&'a [u8]> {
        Decoder::new(self.0).bytes().ok()
    }

    pub(crate) fn number(self) -> Option<u64> {
        Decoder::new(self.0).u64().ok()
    }

    fn digest(self, prefix: [u8; 4]) -> Option<[u8; 32]> {
        self.0.strip_prefix(&LINK_HEAD)?.strip_prefix(&prefix)?.try_into().ok()
    }

    pub(crate) fn event(self) -> Option<EventId> {
        self.digest(EventId::PREFIX).map(EventId)
    }

    pub(crate) fn artifact(self) -> Option<ArtifactId> {
        self.digest(ArtifactId::PREFIX).map(ArtifactId)
    }
}

/// The map with a field more, if there is one.
pub(crate) fn with(mut value: Value, name: &'static str, more: Option<Value>) -> Value {
    if let (Value::Map(map), Some(more)) = (&mut value, more) {
        drop(map.insert(name, more));
    }
    value
}

impl Statement {
    /// The kind and the payload value that say this.
    pub fn to_value(&self) -> (&'static str, Value) {
        let key_only = |key: &ArtifactId| Value::map([("key", Value::from(*key))]);
        let text = |text: &String| Value::from(text.as_str());
        match self {
            Statement::Put(claim) => (kind::ARTIFACT_PUT, claim_value(claim)),
            Statement::Import { claim, domain, snapshot } => {
                let value = with(claim_value(claim), "domain", Some(EventId::from(*domain).into()));
                (kind::ARTIFACT_IMPORT, with(value, "snapshot", Some((*snapshot).into())))
            }
            Statement::TombstoneArtifact(key) => (kind::ARTIFACT_TOMBSTONE, key_only(key)),
            Statement::Pin { key, held: true } => (kind::ARTIFACT_PIN, key_only(key)),
            Statement::Pin { key, held: false } => (kind::ARTIFACT_UNPIN, key_only(key)),
            Statement::Edge(edge, role) => {
                let role = Some(Value::from(role.name()));
                (kind::EDGE_ADD, with(edge_value(edge), "role", role))
            }
            Statement::TombstoneEdge(edge) => (kind::EDGE_TOMBSTONE, edge_value(edge)),
            Statement::Resolve { keep, seen } => {
                let seen = Value::list(seen.iter().map(|subject| &subject.0[..]));
                (kind::CONFLICT_RESOLVE, with(claim_value(keep), "seen", Some(seen)))
            }
            Statement::Snapshot { root, entries, name } => {
                let value =
                    Value::map([("root", Value::from(&root[..])), ("entries", (*entries).into())]);
                (kind::SNAPSHOT_CREATE, with(value, "name", name.as_ref().map(text)))
            }
            Statement::DropSnapshot(id) => {
                (kind::SNAPSHOT_DROP, Value::map([("snapshot", Value::from(*id))]))
            }
            Statement::Publish { key, snapshot } => {
                let value =
                    Value::map([("key", Value::from(*key)), ("snapshot", (*snapshot).into())]);
                (kind::ARTIFACT_PUBLISH, value)
            }
            Statement::Publication { snapshot, part, openings } => (
                kind::PUBLICATION_RECORD,
                Value::map([
                    ("snapshot", Value::from(*snapshot)),
                    ("part", Value::from(*part)),
                    ("openings", Value::list(openings.iter().map(|one| one.to_value()))),
                ]),
            ),
            Statement::Follow(domain) => {
                let domain = Value::from(EventId::from(*domain));
                (kind::DOMAIN_FOLLOW, Value::map([("domain", domain)]))
            }
            Statement::Execution(execution) => execution.to_value(),
        }
    }

    /// What an event says, if it is of one of these kinds and well formed.
    pub fn of_event(event: &Event) -> Option<Self> {
        Self::of(&event.header.kind, event.payload_value()?)
    }

    /// What a payload value of a kind says.
    pub fn of(kind: &str, bytes: &[u8]) -> Option<Self> {
        if !matches!(
            kind.split_once('.')?.0,
            "artifact"
                | "edge"
                | "conflict"
                | "snapshot"
                | "publication"
                | "domain"
                | "receipt"
                | "run"
        ) {
            return None;
        }
        let value = Raw::of(bytes)?;
        let key = || value.get("key")?.artifact();
        Some(match kind {
            kind::ARTIFACT_PUT => Statement::Put(Claim::of_raw(value)?),
            kind::ARTIFACT_IMPORT => Statement::Import {
                claim: Claim::of_raw(value)?,
                domain: value.get("domain")?.event()?.into(),
                snapshot: value.get("snapshot")?.event()?,
            },
            kind::ARTIFACT_PUBLISH => {
                Statement::Publish { key: key()?, snapshot: value.get("snapshot")?.event()? }
            }
            kind::PUBLICATION_RECORD => Statement::Publication {
                snapshot: value.get("snapshot")?.event()?,
                part: value.get("part")?.number()?,
                openings: {
                    let openings = value.get("openings")?.items()?;
                    openings.map(|item| Opening::of_raw(item?)).collect::<Option<Vec<_>>>()?
                },
            },
            kind::DOMAIN_FOLLOW => Statement::Follow(value.get("domain")?.event()?.into()),
            kind::ARTIFACT_TOMBSTONE => Statement::TombstoneArtifact(key()?),
            kind::ARTIFACT_PIN => Statement::Pin { key: key()?, held: true },
            kind::ARTIFACT_UNPIN => Statement::Pin { key: key()?, held: false },
            kind::EDGE_ADD => {
                let role = EdgeRole::from_name(value.get("role")?.text()?)?;
                Statement::Edge(EdgeKey::of_raw(value)?, role)
            }
            kind::EDGE_TOMBSTONE => Statement::TombstoneEdge(EdgeKey::of_raw(value)?),
            kind::CONFLICT_RESOLVE => {
                let subject = |item: Option<Raw<'_>>| Subject::from_slice(item?.bytes()?);
                let seen = value.get("seen")?.items()?.map(subject);
                Statement::Resolve {
                    keep: Claim::of_raw(value)?,
                    seen: seen.collect::<Option<_>>()?,
                }
            }
            kind::SNAPSHOT_CREATE => {
                let name = match value.get("name") {
                    None => None,
                    Some(name) => {
                        let name = name.text()?;
                        (name.len() <= TAG_BYTES_MAX).then(|| Some(name.to_owned()))?
                    }
                };
                let root = value.get("root")?.bytes()?.try_into().ok()?;
                Statement::Snapshot { root, entries: value.get("entries")?.number()?, name }
            }
            kind::SNAPSHOT_DROP => Statement::DropSnapshot(value.get("snapshot")?.event()?),
            _ => Statement::Execution(Execution::of(kind, value)?),
        })
    }
}

fn claim_value(claim: &Claim) -> Value {
    let value = Value::map([("key", Value::from(claim.key)), ("size", claim.size.into())]);
    with(value, "type_tag", claim.type_tag.as_deref().map(Value::from))
}

fn edge_value(edge: &EdgeKey) -> Value {
    Value::map([
        ("from", Value::list(edge.from.iter().copied())),
        ("to", Value::list(edge.to.iter().copied())),
        ("type", Value::from(edge.kind.as_str())),
    ])
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::execution::{Announcement, Offer, RunRequest, Scope};
    use crate::id::RunKey;
    use crate::subject::subject_of;

    fn all() -> Vec<Statement> {
        let key = ArtifactId::of(b"bytes");
        let claim = |tag: Option<&str>| Claim { key, size: 5, type_tag: tag.map(str::to_owned) };
        let ends = |n: u8| vec![End::Node(NodeKey([n; 32])), End::Artifact(ArtifactId([n; 32]))];
        let edge = EdgeKey::new(ends(3), ends(1), "derived").unwrap();
        let blinded = [&ends(2)[..], &[End::Blinded(Commitment([2; 32]))]].concat();
        vec![
            Statement::Put(claim(None)),
            Statement::Put(claim(Some("text/plain"))),
            Statement::TombstoneArtifact(key),
            Statement::Pin { key, held: true },
            Statement::Pin { key, held: false },
            Statement::Edge(edge.clone(), EdgeRole::To),
            Statement::TombstoneEdge(edge),
            Statement::Resolve { keep: claim(Some("a")), seen: vec![Subject([7; 32])] },
            Statement::Snapshot { root: [9; 32], entries: 3, name: Some("monday".into()) },
            Statement::Snapshot { root: [9; 32], entries: 0, name: None },
            Statement::DropSnapshot(EventId([8; 32])),
            Statement::Import {
                claim: claim(Some("a")),
                domain: DomainId([4; 32]),
                snapshot: EventId([5; 32]),
            },
            Statement::Publication {
                snapshot: EventId([6; 32]),
                part: 1,
                openings: ends(3).into_iter().map(|end| Opening { nonce: [9; 32], end }).collect(),
            },
            Statement::Publish { key, snapshot: EventId([5; 32]) },
            Statement::Follow(DomainId([4; 32])),
            Statement::Execution(Execution::Announce(Announcement {
                run: RunKey([1; 32]),
                receipt: key,
                size: 200,
                node: NodeKey([2; 32]),
                snapshot: None,
                scope: Scope::Assembled,
            })),
            Statement::Execution(Execution::Announce(Announcement {
                run: RunKey([1; 32]),
                receipt: key,
                size: 200,
                node: NodeKey([2; 32]),
                snapshot: Some(EventId([3; 32])),
                scope: Scope::Run,
            })),
            Statement::Execution(Execution::Request(RunRequest {
                run: RunKey([1; 32]),
                program: key,
                inputs: [("a", key), ("b", ArtifactId([1; 32]))]
                    .map(|(name, key)| (name.to_owned(), key))
                    .into(),
                node: NodeKey([2; 32]),
                snapshot: Some(EventId([3; 32])),
                required: 2,
            })),
            Statement::Execution(Execution::Claim {
                step: RunKey([1; 32]),
                node: NodeKey([2; 32]),
                failed: Some("it fell".into()),
            }),
            Statement::Execution(Execution::Offer(Offer {
                node: NodeKey([2; 32]),
                memory: 1 << 30,
                labels: vec!["big".into(), "gpu".into()],
            })),
            Statement::Edge(EdgeKey::new(blinded, ends(1), "derived").unwrap(), EdgeRole::Both),
        ]
    }

    fn bytes(statement: &Statement) -> (&'static str, Vec<u8>) {
        let (kind, value) = statement.to_value();
        let mut bytes = Vec::new();
        value::encode(&value, &mut bytes);
        (kind, bytes)
    }

    #[test]
    fn what_is_said_is_read_again() {
        for statement in all() {
            let (kind, bytes) = bytes(&statement);
            assert_eq!(Statement::of(kind, &bytes), Some(statement.clone()), "{statement:?}");
            assert!(!kind::is_erasable(kind) && kind::is_reserved(kind), "{kind}");
            let folded = subject_of(kind, &bytes).is_some();
            assert_eq!(folded, kind != kind::SNAPSHOT_CREATE, "{kind}");
        }
    }

    #[test]
    fn subjects_tell_claims_apart_and_edges_together() {
        let subjects: Vec<_> =
            all().iter().map(|s| bytes(s)).map(|(kind, bytes)| subject_of(kind, &bytes)).collect();
        assert_ne!(subjects[0], subjects[1]);
        assert_eq!(subjects[3], subjects[4]);
        assert_eq!(subjects[5], subjects[6]);
    }

    #[test]
    fn ends_out_of_order_are_no_edge() {
        let (a, b) = (End::Node(NodeKey([1; 32])), End::Node(NodeKey([2; 32])));
        let value = |from: Vec<End>| {
            let value = Value::map([
                ("from", Value::list(from)),
                ("to", Value::list([a])),
                ("type", "t".into()),
                ("role", "both".into()),
            ]);
            let mut bytes = Vec::new();
            value::encode(&value, &mut bytes);
            bytes
        };
        assert!(Statement::of(kind::EDGE_ADD, &value(vec![a, b])).is_some());
        for bad in [vec![b, a], vec![a, a], vec![]] {
            let bytes = value(bad);
            assert_eq!(Statement::of(kind::EDGE_ADD, &bytes), None);
            assert_eq!(subject_of(kind::EDGE_ADD, &bytes), None);
        }
    }

    /// What a tree of the value says of edges and claims: the plain way to read them.
    fn by_tree(kind: &str, bytes: &[u8]) -> Option<Statement> {
        let value = value::decode(bytes).ok()?;
        let link = |value: &Value| value.as_link()?.digest(ArtifactId::PREFIX).map(ArtifactId);
        if kind == kind::ARTIFACT_PUT {
            let type_tag = match value.get("type_tag") {
                None => None,
                Some(tag) => Some(tag.as_str().filter(|tag| tag.len() <= TAG_BYTES_MAX)?.into()),
            };
            let (key, size) = (link(value.get("key")?)?, value.get("size")?.as_u64()?);
            let fits = size <= crate::artifact::ARTIFACT_BYTES_MAX;
            return fits.then_some(Statement::Put(Claim { key, size, type_tag }));
        }
        let end = |value: &Value| match value.as_bytes() {
            Some([1, commitment @ ..]) if commitment.len() == 32 => {
                Some(End::Blinded(Commitment(commitment.try_into().ok()?)))
            }
            Some(bytes) => NodeKey::from_slice(bytes).map(End::Node),
            None => link(value).map(End::Artifact),
        };
        let ends = |name: &str| -> Option<Vec<End>> {
            value.get(name)?.as_list()?.iter().map(end).collect()
        };
        let role = EdgeRole::from_name(value.get("role")?.as_str()?)?;
        let (from, to) = (ends("from")?, ends("to")?);
        let key = EdgeKey::new(from.clone(), to.clone(), value.get("type")?.as_str()?)?;
        (key.from == from && key.to == to).then_some(Statement::Edge(key, role))
    }

    /// Every change of a byte, every cut, and other fields in the place of these.
    #[test]
    fn reading_without_a_tree_is_reading_with_one() {
        let strange = [
            Value::map([("key", ArtifactId::of(b"x").into()), ("size", Value::Null)]),
            Value::map([("key", EventId::of(b"x").into()), ("size", 1u64.into())]),
            Value::map([("key", "x".into()), ("size", 1u64.into())]),
            Value::map([("key", ArtifactId::of(b"x").into()), ("size", Value::from(-1i64))]),
            Value::list([1u64]),
            Value::Null,
        ];
        let mut inputs: Vec<Vec<u8>> = all().iter().map(|one| bytes(one).1).collect();
        for value in strange {
            let mut bytes = Vec::new();
            value::encode(&value, &mut bytes);
            inputs.push(bytes);
        }
        for input in inputs {
            let check = |bytes: &[u8]| {
                for kind in [kind::ARTIFACT_PUT, kind::EDGE_ADD] {
                    assert_eq!(Statement::of(kind, bytes), by_tree(kind, bytes), "{bytes:02x?}");
                }
            };
            for at in 0..input.len() {
                check(&input[..at]);
                for change in [1, 2, 0x20, 0x40, 0x80] {
                    let mut changed = input.clone();
                    changed[at] ^= change;
                    check(&changed);
                }
            }
            check(&input);
        }
    }
}
