//! The rules that every stored event keeps, checked one event after another in order of arrival.

use quipu_core::codec::v1::{check_payload, check_shape, event_id, split_payload};
use quipu_core::event::{Event, Log, LogSeq, PayloadRef, verify_signature};
use quipu_core::history::Ordinal;
use quipu_core::id::{DomainId, EventId, IdMap, NodeKey};
use quipu_core::limits::LOGSEQ_JUMP_MAX;

/// A rule that does not hold: its name, and what was found.
pub(crate) type Broken = (&'static str, String);

/// What is remembered of an event that was checked.
#[derive(Debug, Clone, Copy)]
struct Known {
    author: u32,
    seq: u64,
    logseq: LogSeq,
}

/// Checks the events of one log.
#[derive(Debug)]
pub(crate) struct Checker {
    log: Log,
    domain: DomainId,
    /// By ordinal; nothing for events that could not be read.
    known: Vec<Option<Known>>,
    authors: IdMap<NodeKey, u32>,
    /// Ends of feeds so far, and whether they are signed.
    ends: IdMap<EventId, bool>,
}

impl Checker {
    /// A checker for a log that begins.
    pub(crate) fn new(log: Log, domain: DomainId) -> Self {
        let (authors, ends) = (IdMap::default(), IdMap::default());
        Self { log, domain, known: Vec::new(), authors, ends }
    }

    /// Takes the place of an event that could not be read.
    pub(crate) fn skip(&mut self) {
        self.known.push(None);
    }

    /// Checks the next event, and takes note of it if it is to stay.
    pub(crate) fn check(
        &self,
        event: &Event,
        find: impl Fn(&EventId) -> Option<Ordinal>,
    ) -> Vec<Broken> {
        let mut broken = Vec::new();
        check_alone(event, &self.domain, &mut broken);
        self.check_root(event, &mut broken);
        self.check_links(event, find, &mut broken);
        broken
    }

    /// Takes note of the next event.
    pub(crate) fn note(&mut self, event: &Event) {
        let header = &event.header;
        let next = self.authors.len() as u32;
        let author = *self.authors.entry(header.author).or_insert(next);
        self.known.push(Some(Known { author, seq: header.seq, logseq: header.logseq }));
        if let Some(prev) = &header.prev {
            self.ends.remove(prev);
        }
        self.ends.insert(event.id, event.signature.is_some());
    }

    /// Ends of feeds that no signature vouches for, sorted.
    pub(crate) fn unsigned_ends(&self) -> Vec<EventId> {
        // R needs none: its hash is the domain's id.
        let root = EventId::from(self.domain);
        let unsigned = self.ends.iter().filter(|(id, signed)| !**signed && **id != root);
        let mut ids: Vec<EventId> = unsigned.map(|(id, _)| *id).collect();
        ids.sort_unstable();
        ids
    }

    fn check_root(&self, event: &Event, broken: &mut Vec<Broken>) {
        let is_first = self.known.is_empty();
        let is_root = event.header.is_root();
        if is_root && (!is_first || DomainId::from(event.id) != self.domain) {
            broken.push(("root", "a root event that is not the domain's".to_owned()));
        }
        if is_first && !is_root {
            broken.push(("root", "the log does not begin with the root event".to_owned()));
        }
        if event.header.log != self.log && !is_root {
            broken.push(("log", format!("an event of the {} log", event.header.log.name())));
        }
    }

    fn check_links(
        &self,
        event: &Event,
        find: impl Fn(&EventId) -> Option<Ordinal>,
        broken: &mut Vec<Broken>,
    ) {
        let header = &event.header;
        let mut greatest = None;
        for link in header.links() {
            let found = find(link).filter(|ordinal| *ordinal < self.known.len() as u64);
            let Some(ordinal) = found else {
                broken.push(("link", format!("{link} is not held, or arrived later")));
                continue;
            };
            let Some(known) = self.known[ordinal as usize] else { continue };
            greatest = greatest.max(Some(known.logseq));
            let follows = self.authors.get(&header.author) == Some(&known.author)
                && known.seq.checked_add(1) == Some(header.seq);
            if header.prev == Some(*link) && !follows {
                broken.push(("feed", format!("prev {link} is not the event before it")));
            }
        }
        if let Some(greatest) = greatest
            && (header.logseq <= greatest
                || (header.logseq.0 != greatest.0 + 1 && header.logseq.0 >= LOGSEQ_JUMP_MAX))
        {
            broken.push(("clock", format!("{} after a link at {greatest}", header.logseq)));
        }
    }
}

/// What can be told from the event alone.
fn check_alone(event: &Event, domain: &DomainId, broken: &mut Vec<Broken>) {
    if let Err(error) = check_shape(&event.header) {
        broken.push(("shape", error.to_string()));
    }
    if let Some(block) = &event.payload {
        let salt_bytes = split_payload(block).map_or(0, |(salt, _)| salt.len());
        if let Err(error) = check_payload(block, salt_bytes) {
            broken.push(("payload", error.to_string()));
        }
        if PayloadRef::of(&event.header.kind, block) != event.header.payload {
            broken.push(("payload", "hash, size or subject".to_owned()));
        }
    }
    let id = event_id(&event.header, domain);
    if id != event.id {
        broken.push(("id", format!("the content has the id {id}")));
    }
    if let Some(signature) = &event.signature
        && let Err(error) = verify_signature(&event.header.author, &event.id, signature)
    {
        broken.push(("signature", error.to_string()));
    }
}
