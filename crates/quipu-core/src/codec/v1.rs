//! Event format v1: the body (what the id covers) and the payload block. See
//! `docs/formats/event.md` for the tables and the vectors.

use std::sync::Arc;

use bytes::Bytes;
use minicbor::data::{Tag, Type};
use minicbor::{Decoder, Encoder};

use crate::event::{Head, Header, Log, LogSeq, Parents, PayloadRef};
use crate::id::{CID_PREFIX_DAG_CBOR, DomainId, EventId, NodeKey, PayloadId, Subject};
use crate::limits::{
    BODY_BYTES_MAX, KIND_BYTES_MAX, PARENTS_MAX, PAYLOAD_BYTES_MAX, SALT_BYTES_MAX,
};
use crate::value;

/// The value of `v` in bodies of this format.
pub const FORMAT_VERSION: u8 = 1;
const LINK_TAG: u64 = 42;
/// In DAG-CBOR a link is a zero byte and the binary CID.
const LINK_BYTES: usize = 37;

/// Why bytes are not an event body or a payload block of this format.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BodyError {
    /// The bytes are not the CBOR that was expected at that place.
    #[error("malformed body: {0}")]
    Malformed(&'static str),
    /// The bytes have the right meaning but are not its one canonical form.
    #[error("body is not canonical")]
    NotCanonical,
    /// A size limit is exceeded.
    #[error("{what} is too large: {size} (at most {max})")]
    TooLarge {
        /// What is too large.
        what: &'static str,
        /// Its size.
        size: usize,
        /// The limit.
        max: usize,
    },
    /// The payload block breaks a rule of the data model.
    #[error("payload: {0}")]
    Payload(String),
}

fn put_link(out: &mut Encoder<&mut Vec<u8>>, digest: &[u8; 32]) {
    let mut link = [0u8; LINK_BYTES];
    link[1..5].copy_from_slice(&CID_PREFIX_DAG_CBOR);
    link[5..].copy_from_slice(digest);
    infallible(out.tag(Tag::new(LINK_TAG)).and_then(|e| e.bytes(&link)));
}

/// Writing to a vector cannot fail; this says so once.
fn infallible<T, E>(result: Result<T, E>) {
    debug_assert!(result.is_ok(), "writing to a vector");
    let _ = result;
}

/// Appends the canonical body of an event. The domain is left out of R's body: R is its own domain.
pub fn encode_body(header: &Header, domain: &DomainId, out: &mut Vec<u8>) {
    let mut e = Encoder::new(out);
    let fields = 8
        + u64::from(!header.is_root())
        + u64::from(header.prev.is_some())
        + u64::from(header.payload.subject.is_some());
    infallible(e.map(fields + 1));
    infallible(e.str("v").and_then(|e| e.u8(FORMAT_VERSION)));
    infallible(e.str("log").and_then(|e| e.str(header.log.name())));
    infallible(e.str("seq").and_then(|e| e.u64(header.seq)));
    infallible(e.str("kind").and_then(|e| e.str(&header.kind)));
    if let Some(prev) = &header.prev {
        infallible(e.str("prev"));
        put_link(&mut e, &prev.0);
    }
    infallible(e.str("size").and_then(|e| e.u32(header.payload.size)));
    infallible(e.str("author").and_then(|e| e.bytes(&header.author.0)));
    if !header.is_root() {
        infallible(e.str("domain"));
        put_link(&mut e, &domain.0);
    }
    infallible(e.str("logseq").and_then(|e| e.u64(header.logseq.0)));
    infallible(e.str("parents").and_then(|e| e.array(header.parents.len() as u64)));
    for parent in &header.parents {
        put_link(&mut e, &parent.0);
    }
    infallible(e.str("payload"));
    put_link(&mut e, &header.payload.id.0);
    if let Some(subject) = &header.payload.subject {
        infallible(e.str("subject").and_then(|e| e.bytes(&subject.0)));
    }
}

/// The id of an event: BLAKE3-256 of its body, as a dag-cbor CID.
pub fn event_id(header: &Header, domain: &DomainId) -> EventId {
    thread_local! {
        static BODY: std::cell::RefCell<Vec<u8>> = const { std::cell::RefCell::new(Vec::new()) };
    }
    BODY.with_borrow_mut(|body| {
        body.clear();
        encode_body(header, domain, body);
        EventId::of(body)
    })
}

type Decoded<T> = Result<T, BodyError>;

fn bad(what: &'static str) -> impl Fn(minicbor::decode::Error) -> BodyError {
    move |_| BodyError::Malformed(what)
}

fn take_link(d: &mut Decoder<'_>, what: &'static str) -> Decoded<[u8; 32]> {
    if d.tag().map_err(bad(what))? != Tag::new(LINK_TAG) {
        return Err(BodyError::Malformed(what));
    }
    let bytes = d.bytes().map_err(bad(what))?;
    match bytes.strip_prefix(&[0]).and_then(|rest| rest.strip_prefix(&CID_PREFIX_DAG_CBOR)) {
        Some(digest) => digest.try_into().map_err(|_| BodyError::Malformed(what)),
        None => Err(BodyError::Malformed(what)),
    }
}

fn take_32(d: &mut Decoder<'_>, what: &'static str) -> Decoded<[u8; 32]> {
    d.bytes().map_err(bad(what))?.try_into().map_err(|_| BodyError::Malformed(what))
}

/// Consumes the key if it is next.
fn next_key_is(d: &mut Decoder<'_>, key: &str) -> bool {
    let start = d.position();
    if d.datatype().is_ok_and(|t| t == Type::String) && d.str().is_ok_and(|k| k == key) {
        return true;
    }
    d.set_position(start);
    false
}

fn expect_key(d: &mut Decoder<'_>, key: &'static str) -> Decoded<()> {
    if next_key_is(d, key) { Ok(()) } else { Err(BodyError::Malformed(key)) }
}

/// Reads a body. Strict: the bytes must be what [`encode_body`] writes for the result.
///
/// # Errors
/// What the bytes break. Rules about links and clocks are not checked here.
pub fn decode_body(bytes: &[u8]) -> Result<(Header, Option<DomainId>), BodyError> {
    if bytes.len() > BODY_BYTES_MAX {
        return Err(BodyError::TooLarge { what: "body", size: bytes.len(), max: BODY_BYTES_MAX });
    }
    let mut d = Decoder::new(bytes);
    d.map().map_err(bad("map"))?.ok_or(BodyError::NotCanonical)?;
    expect_key(&mut d, "v")?;
    if d.u8().map_err(bad("v"))? != FORMAT_VERSION {
        return Err(BodyError::Malformed("v"));
    }
    expect_key(&mut d, "log")?;
    let log = Log::from_name(d.str().map_err(bad("log"))?).ok_or(BodyError::Malformed("log"))?;
    expect_key(&mut d, "seq")?;
    let seq = d.u64().map_err(bad("seq"))?;
    expect_key(&mut d, "kind")?;
    let kind: Arc<str> = d.str().map_err(bad("kind"))?.into();
    let prev = match next_key_is(&mut d, "prev") {
        true => Some(EventId(take_link(&mut d, "prev")?)),
        false => None,
    };
    expect_key(&mut d, "size")?;
    let size = d.u32().map_err(bad("size"))?;
    expect_key(&mut d, "author")?;
    let author = NodeKey(take_32(&mut d, "author")?);
    let domain = match next_key_is(&mut d, "domain") {
        true => Some(DomainId(take_link(&mut d, "domain")?)),
        false => None,
    };
    expect_key(&mut d, "logseq")?;
    let logseq = LogSeq(d.u64().map_err(bad("logseq"))?);
    let parents = take_parents(&mut d)?;
    expect_key(&mut d, "payload")?;
    let id = PayloadId(take_link(&mut d, "payload")?);
    let subject = match next_key_is(&mut d, "subject") {
        true => Some(Subject(take_32(&mut d, "subject")?)),
        false => None,
    };
    let head = Head { log, author, seq, prev, parents, logseq, kind };
    let header = Header { head, payload: PayloadRef { id, size, subject } };
    check_shape(&header)?;
    check_canonical(&header, domain, bytes)?;
    Ok((header, domain))
}

fn take_parents(d: &mut Decoder<'_>) -> Decoded<Parents> {
    expect_key(d, "parents")?;
    let count = d.array().map_err(bad("parents"))?.ok_or(BodyError::NotCanonical)?;
    let count = usize::try_from(count).unwrap_or(usize::MAX);
    if count > PARENTS_MAX {
        return Err(BodyError::TooLarge { what: "parents", size: count, max: PARENTS_MAX });
    }
    (0..count).map(|_| take_link(d, "parents").map(EventId)).collect()
}

/// Re-encodes and compares: the shortest proof that there is only one form.
fn check_canonical(header: &Header, domain: Option<DomainId>, bytes: &[u8]) -> Decoded<()> {
    if domain.is_none() != header.is_root() {
        return Err(BodyError::Malformed("domain"));
    }
    let mut again = Vec::with_capacity(bytes.len());
    encode_body(header, &domain.unwrap_or_default(), &mut again);
    if again == bytes { Ok(()) } else { Err(BodyError::NotCanonical) }
}

/// Checks the rules that depend on the header alone: sizes, names, order of parents.
///
/// # Errors
/// The rule that is broken.
pub fn check_shape(header: &Header) -> Result<(), BodyError> {
    if header.kind.len() > KIND_BYTES_MAX {
        let size = header.kind.len();
        return Err(BodyError::TooLarge { what: "kind", size, max: KIND_BYTES_MAX });
    }
    if !is_dotted_name(&header.kind) {
        return Err(BodyError::Malformed("kind"));
    }
    if header.payload.size as usize > PAYLOAD_BYTES_MAX {
        let size = header.payload.size as usize;
        return Err(BodyError::TooLarge { what: "payload", size, max: PAYLOAD_BYTES_MAX });
    }
    if header.parents.len() > PARENTS_MAX {
        let size = header.parents.len();
        return Err(BodyError::TooLarge { what: "parents", size, max: PARENTS_MAX });
    }
    if header.parents.windows(2).any(|pair| pair[0] >= pair[1]) {
        return Err(BodyError::NotCanonical);
    }
    if header.seq == 0 || (header.seq == 1) != header.prev.is_none() {
        return Err(BodyError::Malformed("seq"));
    }
    Ok(())
}

/// Whether a text may be a `kind`: words of `a-z`, `0-9`, `_` and `-`, joined by single dots.
pub fn is_dotted_name(text: &str) -> bool {
    text.split('.').all(|word| {
        !word.is_empty()
            && word
                .bytes()
                .all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b"_-".contains(&b))
    })
}

/// A payload block: the list `[salt, value]`. The salt keeps the hash of an erased payload from
/// being guessed.
pub fn payload_block(salt: &[u8], value: &[u8]) -> Bytes {
    let mut out = Vec::with_capacity(3 + salt.len() + value.len());
    put_payload_block(salt, value, &mut out);
    out.into()
}

/// Appends a payload block; see [`payload_block`].
pub fn put_payload_block(salt: &[u8], value: &[u8], out: &mut Vec<u8>) {
    let mut e = Encoder::new(&mut *out);
    infallible(e.array(2).and_then(|e| e.bytes(salt)));
    out.extend_from_slice(value);
}

/// Salt and value of a payload block whose frame is intact. The value is not checked.
pub fn split_payload(block: &[u8]) -> Option<(&[u8], &[u8])> {
    let mut d = Decoder::new(block);
    if block.first() != Some(&0x82) || d.array().ok()? != Some(2) {
        return None;
    }
    let salt = d.bytes().ok()?;
    // A salt is short, so its canonical head is one byte (or two from 24 bytes on).
    let head = if salt.len() < 24 { 1 } else { 2 };
    if salt.len() > SALT_BYTES_MAX || d.position() != 1 + head + salt.len() {
        return None;
    }
    Some((salt, &block[d.position()..]))
}

/// The value of a payload block, empty if the block is not one.
pub fn payload_value(block: &[u8]) -> &[u8] {
    split_payload(block).map_or(&[], |(_, value)| value)
}

/// Checks a payload block in full: frame, length of the salt, canonical value, size.
///
/// # Errors
/// The rule that is broken.
pub fn check_payload(block: &[u8], salt_bytes: usize) -> Result<(), BodyError> {
    if block.len() > PAYLOAD_BYTES_MAX {
        let size = block.len();
        return Err(BodyError::TooLarge { what: "payload", size, max: PAYLOAD_BYTES_MAX });
    }
    let (salt, value) = split_payload(block)
        .ok_or(BodyError::Malformed("payload is not a list of salt and value"))?;
    if salt.len() != salt_bytes {
        return Err(BodyError::Malformed("salt has not the length that the domain fixes"));
    }
    value::validate(value).map_err(|error| BodyError::Payload(error.to_string()))
}
