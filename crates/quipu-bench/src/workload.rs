//! Workload W: puts of random cells, ten for each, by several authors who see each other's events
//! now and then. Deterministic.

use std::path::Path;
use std::sync::Arc;

use ed25519_dalek::SigningKey;
use quipu_core::codec::v1;
use quipu_core::dag::next_clock;
use quipu_core::domain::{Decision, Parameters, Role, block_of};
use quipu_core::event::{
    Draft, Log, LogSeq, Parents, Position, VerifiedEvent, is_signature_place, sign_own,
};
use quipu_core::id::{DomainId, EventId, NodeKey};
use quipu_core::value::{self, Value};
use quipu_store::{RealDisk, Store, StoreOptions};

use crate::Result;

/// Clock of the first event.
const START_MS: u64 = 1_790_000_000_000;
/// Events of one author in a row before another one writes.
const RUN: usize = 8;
/// Bytes of salt in payloads, as usual.
pub(crate) const SALT: usize = 8;

/// A small deterministic generator (xorshift64*).
#[derive(Debug, Clone)]
pub(crate) struct Random(u64);

impl Random {
    pub(crate) fn next(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d)
    }

    fn below(&mut self, n: usize) -> usize {
        (self.next() >> 11) as usize % n.max(1)
    }
}

struct Author {
    key: SigningKey,
    node: NodeKey,
    seq: u64,
    last: Option<(EventId, LogSeq)>,
    /// What it saw last of others, besides its own.
    seen: (EventId, LogSeq),
}

/// A history being written.
pub(crate) struct Writer {
    pub(crate) domain: DomainId,
    authors: Vec<Author>,
    random: Random,
    now_ms: f64,
    cells: usize,
    kind: Arc<str>,
    /// Bytes of salt in payloads.
    salt: usize,
}

fn key_of(n: usize) -> SigningKey {
    SigningKey::from_bytes(blake3::hash(format!("bench author {n}").as_bytes()).as_bytes())
}

/// The founder's key.
pub(crate) fn founder() -> SigningKey {
    key_of(usize::MAX)
}

impl Writer {
    /// Makes a domain in which these authors are members, and the events that say so.
    pub(crate) fn new(authors: usize, events: usize) -> (Self, Vec<VerifiedEvent>) {
        Self::with_salt(authors, events, SALT)
    }

    /// The same with so many bytes of salt in payloads.
    pub(crate) fn with_salt(
        authors: usize,
        events: usize,
        salt: usize,
    ) -> (Self, Vec<VerifiedEvent>) {
        let founder = founder();
        let node = NodeKey(founder.verifying_key().to_bytes());
        let parameters =
            Parameters { name: "bench".to_owned(), salt_bytes: salt, ..Parameters::default() };
        let root = parameters.root(node, LogSeq::from_ms(START_MS), &[1; SALT][..salt]);
        let domain = DomainId::from(root.id);
        let mut out = vec![root];
        for n in 0..authors {
            let member = NodeKey(key_of(n).verifying_key().to_bytes());
            let decision = Decision::Add { node: member, role: Role::Writer, invite: None };
            let (kind, value) = decision.to_value(Log::Internal);
            let payload = block_of(&value, &(n as u64).to_le_bytes()[..salt]);
            let last = &out[out.len() - 1];
            let at = Position {
                author: node,
                seq: last.header.seq + 1,
                prev: Some(last.id),
                parents: Parents::from_slice(&[last.id]),
                logseq: next_clock(START_MS, last.header.logseq),
            };
            let draft = Draft { log: Log::Internal, kind: kind.into(), payload };
            out.push(draft.place(at, &domain));
        }
        let seen = out.last().map(|event| (event.id, event.header.logseq)).unwrap_or_default();
        let authors = (0..authors)
            .map(|n| {
                let key = key_of(n);
                let node = NodeKey(key.verifying_key().to_bytes());
                Author { key, node, seq: 0, last: None, seen }
            })
            .collect();
        let writer = Self {
            domain,
            authors,
            random: Random(0x9e37_79b9_7f4a_7c15),
            now_ms: START_MS as f64,
            cells: (events / 10).max(1),
            kind: "field.set".into(),
            salt,
        };
        (writer, sign_own(out, &founder))
    }

    fn payload(&mut self) -> bytes::Bytes {
        let cell = self.random.below(self.cells);
        let record = format!("R-{}", cell / 8);
        let field = format!("f{}", cell % 8);
        let value = if self.random.below(2) == 0 {
            Value::from(self.random.next() >> 40)
        } else {
            const LETTERS: &[u8] = b"abcdefghijklmnopqrstuvwxyz0123456789";
            let text = (0..20).map(|_| LETTERS[self.random.below(36)] as char).collect::<String>();
            Value::from(text)
        };
        let map = Value::map([
            ("record_id", Value::from(record)),
            ("field", Value::from(field)),
            ("value", value),
        ]);
        let mut bytes = Vec::new();
        value::encode(&map, &mut bytes);
        let salt = self.random.next().to_le_bytes();
        v1::payload_block(&salt[..self.salt], &bytes)
    }

    /// One event by an author, on top of what it has seen.
    pub(crate) fn write(&mut self, author: usize, out: &mut Vec<VerifiedEvent>) {
        let payload = self.payload();
        self.now_ms += 0.37;
        let now = self.now_ms as u64;
        let who = &mut self.authors[author];
        let mut parents = Parents::new();
        parents.extend(who.last.map(|(id, _)| id));
        if who.last.is_none() || who.seen.1 > who.last.map(|l| l.1).unwrap_or_default() {
            parents.push(who.seen.0);
        }
        parents.sort_unstable();
        parents.dedup();
        let greatest = who.last.map(|l| l.1).unwrap_or_default().max(who.seen.1);
        let at = Position {
            author: who.node,
            seq: who.seq + 1,
            prev: who.last.map(|(id, _)| id),
            parents,
            logseq: next_clock(now, greatest),
        };
        let draft = Draft { log: Log::Internal, kind: self.kind.clone(), payload };
        let event = draft.place(at, &self.domain);
        who.seq += 1;
        who.last = Some((event.id, event.header.logseq));
        if is_signature_place(event.header.seq) {
            out.extend(sign_own(vec![event], &who.key));
        } else {
            out.push(VerifiedEvent::from_store(event));
        }
    }

    /// An author looks at what another has written last.
    pub(crate) fn look(&mut self, author: usize, at: usize) {
        if let Some(last) = self.authors[at].last
            && last.1 > self.authors[author].seen.1
        {
            self.authors[author].seen = last;
        }
    }

    /// Many events by all authors in turns.
    pub(crate) fn write_many(&mut self, events: usize, out: &mut Vec<VerifiedEvent>) {
        let authors = self.authors.len();
        let mut left = events;
        while left > 0 {
            let author = self.random.below(authors);
            let other = self.random.below(authors);
            self.look(author, other);
            for _ in 0..RUN.min(left) {
                self.write(author, out);
                left -= 1;
            }
        }
    }

    /// Signs the last event of every author among these.
    pub(crate) fn sign_ends(&self, events: Vec<VerifiedEvent>) -> Vec<VerifiedEvent> {
        let mut last: std::collections::BTreeMap<EventId, usize> = self
            .authors
            .iter()
            .enumerate()
            .filter_map(|(n, author)| Some((author.last?.0, n)))
            .collect();
        let sign = |event: VerifiedEvent| match last.remove(&event.id) {
            Some(n) => {
                let signed = sign_own(vec![event.event().clone()], &self.authors[n].key);
                signed.into_iter().next().unwrap_or(event)
            }
            None => event,
        };
        events.into_iter().map(sign).collect()
    }
}

/// Writes events into a new store, sealed as production does.
pub(crate) fn store(path: &Path, domain: DomainId, events: &[VerifiedEvent]) -> Result<()> {
    let disk = Arc::new(RealDisk::new(path)?);
    let options = StoreOptions::default();
    let mut rest = events;
    if !path.join("internal").exists() {
        drop(Store::create(
            disk.clone(),
            quipu_core::event::Log::Internal,
            events[0].clone(),
            options,
        )?);
        rest = &events[1..];
    }
    let (mut store, _) = Store::open(disk, domain, options)?;
    for chunk in rest.chunks(4096) {
        store.append(Log::Internal, chunk.to_vec())?;
        store.commit()?;
        while let Some(job) = store.seal_job() {
            store.finish_seal(job.run()?)?;
        }
    }
    Ok(())
}
