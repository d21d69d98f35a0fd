//! The events in the vectors: the small log that other vectors are taken from, and what makes a block
//! interesting. Each stretch goes into one file.

use quipu_core::codec::v1::payload_block;
use quipu_core::event::{Draft, Event, Log, LogSeq, Parents, Position};
use quipu_core::id::{ArtifactId, EventId};
use quipu_core::statement::{Claim, EdgeKey, EdgeRole, End, Statement};
use quipu_core::value::Value;

use crate::world::{Place, START_MS, cell, domain, erased, event, node, root, sign, small_log};

/// Events of one file, cut into commits.
pub(crate) type Commits = Vec<Vec<Event>>;

/// What is in the vectors.
pub(crate) struct History {
    /// Of the first three files of the internal log.
    pub(crate) files: [Commits; 3],
    /// What proves the last event of the last file.
    pub(crate) proof: Vec<Event>,
}

/// All events so far, in order.
struct Writer(Vec<Event>);

impl Writer {
    /// The next event, not signed. Links are given by position.
    fn put(&mut self, kind: &str, value: &Value, author: u8, prev: Option<usize>, to: &[usize]) {
        let n = self.0.len() as u64;
        let logseq = ((START_MS + 1000 * n) << 16) | (n & 3);
        let parents: Vec<EventId> = to.iter().map(|position| self.0[*position].id).collect();
        let prev = prev.map(|position| &self.0[position]);
        let next = event(kind, value, Place { author, prev, parents, logseq });
        self.0.push(next);
    }

    fn say(&mut self, statement: &Statement, author: u8, prev: usize, to: &[usize]) {
        let (kind, value) = statement.to_value();
        self.put(kind, &value, author, Some(prev), to);
    }

    fn last(&self) -> usize {
        self.0.len() - 1
    }

    fn sign(&mut self, author: u8) {
        let last = self.0.pop().unwrap();
        self.0.push(sign(author, last));
    }

    fn erase(&mut self) {
        let last = self.0.pop().unwrap();
        self.0.push(erased(last));
    }

    /// Everything from a position on, cut at others.
    fn cut(&self, cuts: &[usize]) -> Commits {
        cuts.windows(2).map(|cut| self.0[cut[0]..cut[1]].to_vec()).collect()
    }
}

fn claim(type_tag: Option<&str>) -> Statement {
    let type_tag = type_tag.map(str::to_owned);
    Statement::Put(Claim { key: ArtifactId::of(b"hello"), size: 5, type_tag })
}

fn edge() -> EdgeKey {
    let from = vec![End::Artifact(ArtifactId::of(b"hello"))];
    EdgeKey::new(from, vec![End::Node(node(2))], "made-by").unwrap()
}

fn record(n: usize) -> Value {
    Value::map([("record_id", format!("R-{n}").as_str().into())])
}

/// Members, claims, an edge, a fork of author 2, payloads that never came, and a long feed of author 3.
fn first(log: &mut Writer) {
    let member =
        Value::map([("node", node(3).to_string().as_str().into()), ("role", "writer".into())]);
    log.put("member.add", &member, 1, Some(5), &[6]);
    log.say(&claim(Some("text/plain")), 1, 7, &[7]);
    log.sign(1);
    log.say(&claim(None), 2, 6, &[7]);
    log.sign(2);
    log.say(&Statement::Edge(edge(), EdgeRole::Both), 1, 8, &[8, 9]);
    log.put("field.set", &cell("R-1", "name", "Grace".into()), 1, Some(10), &[10]);
    log.erase();
    log.put("note", &"never came".into(), 1, Some(11), &[11]);
    log.erase();
    log.sign(1);
    for side in ["left", "right"] {
        log.put("note", &side.into(), 2, Some(9), &[12]);
        log.sign(2);
    }
    for n in 1..=66 {
        let (prev, parent) = if n == 1 { (None, 12) } else { (Some(log.last()), log.last()) };
        match n % 5 {
            0 => log.put("record.create", &record(n), 3, prev, &[parent]),
            _ => log.put("note", &format!("note {n}").as_str().into(), 3, prev, &[parent]),
        }
        if n % 20 == 0 || n >= 64 {
            log.sign(3);
        }
    }
    log.put("merge", &Value::Null, 1, Some(12), &[14, log.last()]);
    log.sign(1);
}

/// Links into the block before: as `prev`, and otherwise. The branch of author 2 that was left goes on.
fn second(log: &mut Writer) {
    let (left, right, merge) = (13, 14, log.last());
    log.put("note", &"going on".into(), 2, Some(right), &[merge]);
    log.sign(2);
    log.put("merge", &Value::Null, 1, Some(merge), &[left, log.last()]);
    log.say(&Statement::TombstoneEdge(edge()), 1, log.last(), &[log.last()]);
    let erase = Value::map([("reason", "asked for".into()), ("target", log.0[40].id.into())]);
    log.put("payload.erase", &erase, 1, Some(log.last()), &[log.last()]);
    log.sign(1);
    for n in [67, 68, 69] {
        let prev = if n == 67 { merge - 1 } else { log.last() };
        log.put("record.create", &record(n), 3, Some(prev), &[log.last()]);
    }
    log.sign(3);
}

/// The last event is not signed: two more prove it.
fn third(log: &mut Writer) {
    let first = log.last() + 1;
    log.put("note", &"there".into(), 2, Some(82), &[log.last()]);
    log.sign(2);
    for n in 0..3 {
        let prev = if n == 0 { first - 1 } else { log.last() };
        log.put("note", &format!("end {n}").as_str().into(), 3, Some(prev), &[log.last()]);
    }
    log.sign(3);
}

pub(crate) fn history() -> History {
    let mut log = Writer(small_log());
    first(&mut log);
    let one = log.0.len();
    second(&mut log);
    let two = log.0.len();
    third(&mut log);
    History {
        files: [
            log.cut(&[0, 1, 7, 15, one - 1, one]),
            log.cut(&[one, one + 4, two]),
            log.cut(&[two, two + 1, two + 2]),
        ],
        proof: log.0[two + 2..].to_vec(),
    }
}

/// Events of author 1 after the root event, each with a salt of its own length.
fn after_root(log: Log, salts: &[&[u8]]) -> Vec<Event> {
    let mut events = vec![root()];
    for (n, salt) in (1..).zip(salts) {
        let prev = events.last().unwrap();
        let at = Position {
            author: node(1),
            seq: prev.header.seq + 1,
            prev: Some(prev.id),
            parents: Parents::from_slice(&[prev.id]),
            logseq: LogSeq((START_MS + 1000 * n) << 16),
        };
        // A small number as CBOR.
        let payload = payload_block(salt, &[n as u8]);
        let next = Draft { log, kind: "note".into(), payload }.place(at, &domain());
        events.push(sign(1, next));
    }
    events
}

/// Events of the published log.
pub(crate) fn published() -> Commits {
    let events = after_root(Log::Published, &[&[1; 8], &[2; 8]]);
    vec![events[..1].to_vec(), events[1..].to_vec()]
}

/// One commit of several frames: salts in a batch have one length.
pub(crate) fn salts() -> Commits {
    let events = after_root(Log::Internal, &[&[1; 8], &[2; 16], &[3; 16], &[]]);
    vec![events[..1].to_vec(), events[1..].to_vec()]
}
