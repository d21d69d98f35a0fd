//! Events and the three levels of trust: draft, received, verified.
//!
//! A [`Draft`] is what somebody wants to say. An [`Event`] is complete and carries the id of its
//! own content, but nobody has vouched for it. Only [`VerifiedEvent`]s enter a log: they come from
//! [`verify_run`], which checks a signature over a hash chain, or from signing one's own.

use std::fmt;
use std::sync::Arc;

use bytes::Bytes;
use ed25519_dalek::{Signature, Signer, SigningKey, VerifyingKey};
use smallvec::SmallVec;

use crate::codec::v1;
use crate::id::{CID_BYTES, DomainId, EventId, NodeKey, PayloadId, Subject};

/// Which of a domain's two logs an event belongs to. Both grow from the same root event.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub enum Log {
    /// For the members of the domain only.
    #[default]
    Internal,
    /// For whoever follows the domain.
    Published,
}

impl Log {
    /// Both logs, in the order in which they are listed.
    pub const ALL: [Log; 2] = [Log::Internal, Log::Published];

    /// The word used in bodies and in JSON.
    pub const fn name(self) -> &'static str {
        match self {
            Log::Internal => "internal",
            Log::Published => "published",
        }
    }

    /// The log with that name.
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|log| log.name() == name)
    }
}

/// Hybrid logical clock in 64 bits: 48 bits of milliseconds since 1970, 16 bits of counter, which
/// carries into the milliseconds when it overflows (LOG-1; Kulkarni et al. 2014).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct LogSeq(pub u64);

impl LogSeq {
    /// The clock at the start of a millisecond; milliseconds beyond 48 bits are cut to the maximum
    /// that still leaves the upper half of the range free.
    pub fn from_ms(ms: u64) -> Self {
        Self(ms.min((1 << 47) - 1) << 16)
    }

    /// Milliseconds since 1970.
    pub const fn ms(self) -> u64 {
        self.0 >> 16
    }

    /// Position within the millisecond.
    pub const fn counter(self) -> u16 {
        (self.0 & 0xffff) as u16
    }
}

impl fmt::Display for LogSeq {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0)
    }
}

/// The parents of an event: sorted by id, without duplicates.
pub type Parents = SmallVec<[EventId; 2]>;

/// Where an event stands: everything its id covers but the domain, which all events of a log
/// share, and the payload.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Head {
    /// Internal or published.
    pub log: Log,
    /// The machine that wrote it.
    pub author: NodeKey,
    /// Position in the author's feed of this log: 1, 2, 3 ...
    pub seq: u64,
    /// The event before it in the feed.
    pub prev: Option<EventId>,
    /// All leaves that the author held (at most the domain's cap), sorted.
    pub parents: Parents,
    /// Its place in time and in the replay order.
    pub logseq: LogSeq,
    /// What it says, as a dotted name.
    pub kind: Arc<str>,
}

impl Head {
    /// Whether this is the shape of a root event R: the only one without links.
    pub fn is_root(&self) -> bool {
        self.parents.is_empty() && self.prev.is_none()
    }

    /// Whether this is the place before that one in the same feed. R is the first of its author's feed
    /// in both logs. That the other names this
    /// event as its `prev` is for the caller to see.
    pub fn precedes(&self, next: &Head) -> bool {
        self.author == next.author
            && (self.log == next.log || self.is_root())
            && self.seq.checked_add(1) == Some(next.seq)
    }

    /// `parents` and `prev`, each once. "Past" and "leaf" are defined over these.
    pub fn links(&self) -> impl Iterator<Item = &EventId> {
        let extra = self.prev.as_ref().filter(|prev| self.parents.binary_search(prev).is_err());
        self.parents.iter().chain(extra)
    }
}

/// What an event says of its payload.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PayloadRef {
    /// Hash of the payload block.
    pub id: PayloadId,
    /// Size of the payload block in bytes.
    pub size: u32,
    /// Hash of the fold key that the event writes, if it writes one.
    pub subject: Option<Subject>,
}

impl PayloadRef {
    /// What an event of that kind says of a payload block.
    pub fn of(kind: &str, block: &[u8]) -> Self {
        Self {
            id: PayloadId::of(block),
            size: u32::try_from(block.len()).unwrap_or(u32::MAX),
            subject: crate::subject::subject_of(kind, v1::payload_value(block)),
        }
    }
}

/// Everything that an event's id covers, but for the domain.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Header {
    /// Where it stands.
    pub head: Head,
    /// What it carries.
    pub payload: PayloadRef,
}

impl std::ops::Deref for Header {
    type Target = Head;
    fn deref(&self) -> &Head {
        &self.head
    }
}

/// A complete event whose id matches its content. Who wrote it is a claim until verified.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Event {
    /// Hash of the canonical body.
    pub id: EventId,
    /// What the id covers. Shared: an event is handed on many times, and copied now and then.
    pub header: Arc<Header>,
    /// The payload block, unless it was erased or left out.
    pub payload: Option<Bytes>,
    /// The author's signature over the id, where this holder has one.
    pub signature: Option<EventSignature>,
}

impl Event {
    /// Completes an event: computes its id.
    pub fn new(header: impl Into<Arc<Header>>, payload: Option<Bytes>, domain: &DomainId) -> Self {
        let header = header.into();
        let id = v1::event_id(&header, domain);
        Self { id, header, payload, signature: None }
    }

    /// The replay order: clock first, then id (LOG-2).
    pub fn order(&self) -> (LogSeq, EventId) {
        (self.header.logseq, self.id)
    }

    /// The value inside the payload block, as canonical DAG-CBOR bytes.
    pub fn payload_value(&self) -> Option<&[u8]> {
        self.payload.as_ref().and_then(|block| v1::split_payload(block)).map(|(_, value)| value)
    }
}

/// A raw Ed25519 signature (64 bytes).
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct EventSignature(pub [u8; 64]);

impl fmt::Debug for EventSignature {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "EventSignature({}..)", data_encoding::HEXLOWER.encode(&self.0[..4]))
    }
}

/// What is prepended to an event's binary CID before it is hashed for signing.
pub const SIGNATURE_CONTEXT: &[u8; 24] = b"quipu event signature v1";

/// The 32 bytes that are signed: BLAKE3 of [`SIGNATURE_CONTEXT`] and the binary CID.
pub fn signing_message(id: &EventId) -> [u8; 32] {
    let mut input = [0u8; SIGNATURE_CONTEXT.len() + CID_BYTES];
    input[..24].copy_from_slice(SIGNATURE_CONTEXT);
    input[24..28].copy_from_slice(&EventId::PREFIX);
    input[28..].copy_from_slice(&id.0);
    *blake3::hash(&input).as_bytes()
}

/// Signs an event id with the author's key.
pub fn sign_id(key: &SigningKey, id: &EventId) -> EventSignature {
    EventSignature(key.sign(&signing_message(id)).to_bytes())
}

/// Why a run of events is not authentic.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum AuthenticityError {
    /// The author field is not a point of the curve, or a weak one.
    #[error("author {0} is not a usable Ed25519 key")]
    BadKey(NodeKey),
    /// The signature does not fit the id and the author.
    #[error("signature on {id} does not verify against author {author}")]
    BadSignature {
        /// The event that carries the signature.
        id: EventId,
        /// Its author field.
        author: NodeKey,
    },
    /// Nothing signed follows.
    #[error("event {0} is not covered by any signature")]
    Unsigned(EventId),
    /// The events are not one hash chain.
    #[error("event {0} does not follow the one before it in its feed")]
    BrokenChain(EventId),
}

/// Checks one signature strictly (no small-order keys, canonical encodings), so that every
/// implementation agrees on every input.
pub fn verify_signature(
    author: &NodeKey,
    id: &EventId,
    signature: &EventSignature,
) -> Result<(), AuthenticityError> {
    let key =
        VerifyingKey::from_bytes(&author.0).map_err(|_| AuthenticityError::BadKey(*author))?;
    key.verify_strict(&signing_message(id), &Signature::from_bytes(&signature.0))
        .map_err(|_| AuthenticityError::BadSignature { id: *id, author: *author })
}

/// An event whose author is proven: by its own signature, or by that of a later event of the same
/// feed, which vouches for all before it through the hash chain.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct VerifiedEvent(Event);

impl VerifiedEvent {
    /// Wraps an event that this machine verified before it stored it. Only for stores.
    pub fn from_store(event: Event) -> Self {
        Self(event)
    }

    /// For the places in this crate that have just checked the chain and the signature over it.
    pub(crate) fn vouched(event: Event) -> Self {
        Self(event)
    }

    /// Adds one's own signature.
    pub(crate) fn signed(mut self, key: &SigningKey) -> Self {
        self.0.signature = Some(sign_id(key, &self.0.id));
        self
    }

    /// Leaves the payload out, because it was erased.
    pub fn without_payload(mut self) -> Self {
        self.0.payload = None;
        self
    }

    /// The event.
    pub fn event(&self) -> &Event {
        &self.0
    }

    /// Gives the event up, without its badge.
    pub fn into_event(self) -> Event {
        self.0
    }
}

impl std::ops::Deref for VerifiedEvent {
    type Target = Event;
    fn deref(&self) -> &Event {
        &self.0
    }
}

/// Verifies a run: consecutive events of one feed, the last of which is signed. One signature
/// check for the whole run; signatures in between are checked too when `all` is set.
///
/// # Errors
/// The first reason why the run is not authentic; no event of it is then verified.
pub fn verify_run(run: Vec<Event>, all: bool) -> Result<Vec<VerifiedEvent>, AuthenticityError> {
    let Some(last) = run.last() else { return Ok(Vec::new()) };
    let signature = last.signature.ok_or(AuthenticityError::Unsigned(last.id))?;
    for pair in run.windows(2) {
        let chained =
            pair[1].header.prev == Some(pair[0].id) && pair[0].header.precedes(&pair[1].header);
        if !chained {
            return Err(AuthenticityError::BrokenChain(pair[1].id));
        }
    }
    verify_signature(&last.header.author, &last.id, &signature)?;
    if all {
        for event in &run[..run.len() - 1] {
            if let Some(signature) = &event.signature {
                verify_signature(&event.header.author, &event.id, signature)?;
            }
        }
    }
    Ok(run.into_iter().map(VerifiedEvent).collect())
}

/// What somebody wants to say: an event without author, position and links.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Draft {
    /// Internal or published.
    pub log: Log,
    /// What it says, as a dotted name.
    pub kind: Arc<str>,
    /// The payload block: salt and value (see [`v1::payload_block`]).
    pub payload: Bytes,
}

/// Where in the DAG a draft goes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Position {
    /// The author.
    pub author: NodeKey,
    /// Position in the author's feed.
    pub seq: u64,
    /// The event before it.
    pub prev: Option<EventId>,
    /// Sorted parents.
    pub parents: Parents,
    /// The clock.
    pub logseq: LogSeq,
}

impl Draft {
    /// Puts a draft at its place. The result is not signed yet: a later event of the same commit
    /// may carry the signature for both.
    pub fn place(self, at: Position, domain: &DomainId) -> Event {
        let Position { author, seq, prev, parents, logseq } = at;
        let payload = PayloadRef::of(&self.kind, &self.payload);
        let head = Head { log: self.log, author, seq, prev, parents, logseq, kind: self.kind };
        Event::new(Header { head, payload }, Some(self.payload), domain)
    }
}

/// Turns one's own placed events, consecutive in a feed, into verified ones: signs the last, and
/// those at every 64th place.
pub fn sign_own(events: Vec<Event>, key: &SigningKey) -> Vec<VerifiedEvent> {
    let last = events.len().saturating_sub(1);
    let signed = |(index, event): (usize, Event)| {
        let due = index == last || is_signature_place(event.header.seq);
        let event = VerifiedEvent(event);
        if due { event.signed(key) } else { event }
    };
    events.into_iter().enumerate().map(signed).collect()
}

/// Whether the signature at this place of a feed is always kept and forwarded.
pub fn is_signature_place(seq: u64) -> bool {
    seq.is_multiple_of(crate::limits::SIGNATURE_INTERVAL)
}
