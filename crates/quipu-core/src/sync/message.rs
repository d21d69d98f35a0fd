//! The messages of the sync protocol and their bytes: a type byte, then fields in fixed order as
//! varints, fixed-size bytes and length-prefixed slices. Strict: trailing bytes are refused.

use std::ops::Range as Groups;

use bytes::Bytes;

use crate::artifact::{ARTIFACT_BYTES_MAX, PART_GROUPS_MAX, group_count};
use crate::codec::varint::{Reader, put, put_section};
use crate::event::Log;
use crate::id::{ArtifactId, DomainId, LogDigest, NodeKey};
use crate::limits::{ASK_KEYS_MAX, PART_BYTES_MAX, PROOF_BYTES_MAX};
use crate::sketch::{ITEM_BYTES, Item};

/// Version of the protocol. A peer with another one is refused.
pub const PROTOCOL_VERSION: u8 = 1;
/// The longest text in a message, in bytes.
pub const TEXT_BYTES_MAX: usize = 512;
/// The most feed ends in one message: 640 KiB, below the largest frame.
pub const ENDS_MAX: usize = 1 << 16;
/// The most ranges in one message.
pub const RANGES_MAX: usize = 1 << 16;
/// Bytes of a keyed author tag.
pub const TAG_BYTES: usize = 5;

/// An author, in five bytes that are keyed by the domain.
pub type AuthorTag = [u8; TAG_BYTES];

/// Why a peer is turned away. The number is on the wire.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum Refusal {
    /// It speaks another version.
    Version = 1,
    /// It is about another domain.
    OtherDomain = 2,
    /// It is not a member.
    NotMember = 3,
    /// Its invitation is unknown, used up or expired.
    Invitation = 4,
    /// Only an admin can admit it, and this machine is none.
    NotAdmin = 5,
    /// It broke the protocol.
    Misbehaved = 6,
    /// This machine has no room for more.
    Busy = 7,
    /// What it asked for is not shown to it, or not here.
    NotShown = 8,
}

impl Refusal {
    fn from_byte(byte: u8) -> Option<Self> {
        use Refusal::*;
        [Version, OtherDomain, NotMember, Invitation, NotAdmin, Misbehaved, Busy, NotShown]
            .into_iter()
            .find(|refusal| *refusal as u8 == byte)
    }
}

/// A newcomer's proof that it holds an invitation ticket: the ticket's key signs the newcomer's.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct InviteProof {
    /// Public half of the key in the ticket.
    pub key: NodeKey,
    /// Its signature over [`invite_message`].
    pub signature: [u8; 64],
}

/// The 32 bytes that the ticket's key signs for a newcomer.
pub fn invite_message(domain: &DomainId, newcomer: &NodeKey) -> [u8; 32] {
    let mut hasher = blake3::Hasher::new();
    hasher.update(b"quipu invitation v1").update(&domain.0).update(&newcomer.0);
    *hasher.finalize().as_bytes()
}

/// How the responder shows its feed ends.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum View {
    /// All of them; if there are [`ENDS_MAX`], a part.
    All(Vec<Item>),
    /// Those that changed since both sides were level.
    Changed(Vec<Item>),
    /// The first coded symbols of a sketch of all of them.
    Symbols(Vec<u8>),
}

/// A part of an author's feed that is wanted: all events with a greater seq, on all branches.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Range {
    /// The author.
    pub author: AuthorTag,
    /// Exclusive.
    pub above: u64,
}

/// What is wanted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Wanted {
    /// The whole log.
    Everything,
    /// Parts of feeds.
    Ranges(Vec<Range>),
}

/// A message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Message {
    /// First message of the initiator.
    Hello {
        /// [`PROTOCOL_VERSION`]
        version: u8,
        /// What it is about.
        domain: DomainId,
        /// Which of the domain's logs.
        log: Log,
        /// Whether it will stay for live events.
        live: bool,
        /// For a newcomer.
        invite: Option<InviteProof>,
    },
    /// The responder lets the initiator in.
    Welcome,
    /// The peer is turned away; the link closes.
    Refuse {
        /// Why, for programs.
        refusal: Refusal,
        /// Why, for people.
        text: String,
        /// The domain held here, if that is the reason.
        domain: Option<DomainId>,
    },
    /// The initiator's state.
    Compare {
        /// Counts the comparisons of a session.
        round: u32,
        /// Counts the comparisons since they were last level.
        attempt: u8,
        /// Digest of its log.
        digest: LogDigest,
        /// Events in its log.
        count: u64,
        /// First bytes of the digest at which both were last level, if it remembers.
        met: Option<[u8; 8]>,
    },
    /// The responder has the same digest.
    Same {
        /// The comparison it answers.
        round: u32,
    },
    /// The responder has another digest.
    Differs {
        /// The comparison it answers.
        round: u32,
        /// Digest of its log.
        digest: LogDigest,
        /// Events in its log.
        count: u64,
        /// Its feed ends.
        view: View,
    },
    /// The sketch did not decode yet.
    MoreSymbols {
        /// The comparison.
        round: u32,
        /// Index of the next symbol.
        start: u32,
        /// How many.
        count: u32,
    },
    /// More of the sketch.
    Symbols {
        /// The comparison.
        round: u32,
        /// Encoded symbols.
        bytes: Vec<u8>,
    },
    /// Asks for events.
    Want {
        /// The comparison; 0 if it stands alone.
        round: u32,
        /// Write ids in full: a reference could not be resolved.
        plain: bool,
        /// What is wanted.
        wanted: Wanted,
    },
    /// A packed batch of events.
    Events {
        /// Counts the batches of one direction, so that a lost one is noticed.
        index: u32,
        /// Whether the packing context starts anew.
        restart: bool,
        /// Whether these are new events, pushed as they came.
        live: bool,
        /// [`crate::codec::pack`]
        packed: Vec<u8>,
    },
    /// All that was wanted, and all that the other side was known to lack, is sent.
    End {
        /// The comparison.
        round: u32,
        /// Digest of the sender's log now.
        digest: LogDigest,
    },
    /// The initiator found both digests equal.
    Level {
        /// The comparison.
        round: u32,
        /// The digest.
        digest: LogDigest,
    },
    /// Feed ends that are new here, for a peer that gets no live events from here.
    Tips(Vec<Item>),
    /// Stop pushing live events: they come from elsewhere already.
    Prune,
    /// Push live events again.
    Graft,
    /// Please compare: something was lost or could not be read.
    Poke {
        /// Write ids in full from now on.
        plain: bool,
    },
    /// Asks who has artifacts. Over a link that does not stay also: there may be more to ask, so do
    /// not close before [`Message::Idle`].
    Ask {
        /// Counts the questions of one direction, from 1.
        ask: u32,
        /// Which, ascending, at most [`ASK_KEYS_MAX`].
        keys: Vec<ArtifactId>,
    },
    /// Artifacts that are held whole here, with their sizes. What was asked for and is not here is
    /// left out.
    Offer {
        /// The question it answers; 0 if it came later.
        ask: u32,
        /// Which, ascending, at most [`ASK_KEYS_MAX`].
        entries: Vec<(ArtifactId, u64)>,
    },
    /// Asks for a part of an artifact.
    Get {
        /// Which artifact.
        key: ArtifactId,
        /// Which groups: 1 to [`PART_GROUPS_MAX`].
        groups: Groups<u64>,
    },
    /// A part of an artifact.
    Part {
        /// Which artifact.
        key: ArtifactId,
        /// Its size.
        size: u64,
        /// Which groups.
        groups: Groups<u64>,
        /// The groups with what proves them.
        bytes: Bytes,
    },
    /// The artifact is not here any more: what was asked of it will not come.
    Lack {
        /// Which.
        key: ArtifactId,
    },
    /// Nothing more is wanted for now.
    Idle,
    /// Asks for the latest snapshot and its state, instead of the log: a newcomer is useful sooner
    /// that way (LOG-9).
    AskState,
    /// The answer.
    State(Option<StateOffer>),
}

/// A snapshot, and where its state is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StateOffer {
    /// The snapshot event and those that follow it in its feed, up to a signature, as a packed batch.
    pub proof: Vec<u8>,
    /// The artifact that holds the winning events.
    pub key: ArtifactId,
    /// Its size in bytes.
    pub size: u64,
}

/// Why bytes are not a message.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("malformed message: {0}")]
pub struct MessageError(pub &'static str);

const HELLO: u8 = 1;
const WELCOME: u8 = 2;
const REFUSE: u8 = 3;
const COMPARE: u8 = 4;
const SAME: u8 = 5;
const DIFFERS: u8 = 6;
const MORE_SYMBOLS: u8 = 7;
const SYMBOLS: u8 = 8;
const WANT: u8 = 9;
const EVENTS: u8 = 10;
const END: u8 = 11;
const LEVEL: u8 = 12;
const TIPS: u8 = 13;
const PRUNE: u8 = 14;
const GRAFT: u8 = 15;
const POKE: u8 = 16;
const ASK: u8 = 17;
const OFFER: u8 = 18;
const GET: u8 = 19;
const PART: u8 = 20;
const LACK: u8 = 21;
const IDLE: u8 = 22;
const ASK_STATE: u8 = 23;
const STATE: u8 = 24;

fn put_items(out: &mut Vec<u8>, items: &[Item]) {
    put(out, items.len() as u64);
    items.iter().for_each(|item| out.extend_from_slice(&item.0));
}

impl Message {
    /// The bytes of the message.
    pub fn encode(&self) -> Vec<u8> {
        let mut out = Vec::new();
        match self {
            Message::Hello { version, domain, log, live, invite } => {
                out.extend_from_slice(&[HELLO, *version]);
                out.extend_from_slice(&domain.0);
                let published = u8::from(*log == Log::Published);
                out.push(u8::from(*live) | (u8::from(invite.is_some()) << 1) | (published << 2));
                if let Some(proof) = invite {
                    out.extend_from_slice(&proof.key.0);
                    out.extend_from_slice(&proof.signature);
                }
            }
            Message::Welcome => out.push(WELCOME),
            Message::Refuse { refusal, text, domain } => {
                out.extend_from_slice(&[REFUSE, *refusal as u8]);
                put_section(&mut out, text.as_bytes());
                put_section(&mut out, domain.as_ref().map_or(&[], |domain| &domain.0[..]));
            }
            Message::Compare { round, attempt, digest, count, met } => {
                out.push(COMPARE);
                put(&mut out, u64::from(*round));
                out.push(*attempt);
                out.extend_from_slice(&digest.0);
                put(&mut out, *count);
                put_section(&mut out, met.as_ref().map_or(&[], |met| &met[..]));
            }
            Message::Same { round } => {
                out.push(SAME);
                put(&mut out, u64::from(*round));
            }
            Message::Differs { round, digest, count, view } => {
                out.push(DIFFERS);
                put(&mut out, u64::from(*round));
                out.extend_from_slice(&digest.0);
                put(&mut out, *count);
                put_view(&mut out, view);
            }
            Message::MoreSymbols { round, start, count } => {
                out.push(MORE_SYMBOLS);
                [round, start, count].iter().for_each(|n| put(&mut out, u64::from(**n)));
            }
            Message::Symbols { round, bytes } => {
                out.push(SYMBOLS);
                put(&mut out, u64::from(*round));
                out.extend_from_slice(bytes);
            }
            Message::Want { round, plain, wanted } => put_want(&mut out, *round, *plain, wanted),
            Message::Events { index, restart, live, packed } => {
                out.push(EVENTS);
                put(&mut out, u64::from(*index));
                out.push(u8::from(*restart) | (u8::from(*live) << 1));
                out.extend_from_slice(packed);
            }
            Message::End { round, digest } | Message::Level { round, digest } => {
                out.push(if matches!(self, Message::End { .. }) { END } else { LEVEL });
                put(&mut out, u64::from(*round));
                out.extend_from_slice(&digest.0);
            }
            Message::Tips(items) => {
                out.push(TIPS);
                put_items(&mut out, items);
            }
            Message::Prune => out.push(PRUNE),
            Message::Graft => out.push(GRAFT),
            Message::Poke { plain } => out.extend_from_slice(&[POKE, u8::from(*plain)]),
            Message::Ask { ask, keys } => {
                out.push(ASK);
                put(&mut out, u64::from(*ask));
                put(&mut out, keys.len() as u64);
                keys.iter().for_each(|key| out.extend_from_slice(&key.0));
            }
            Message::Offer { ask, entries } => {
                out.push(OFFER);
                put(&mut out, u64::from(*ask));
                put(&mut out, entries.len() as u64);
                for (key, size) in entries {
                    out.extend_from_slice(&key.0);
                    put(&mut out, *size);
                }
            }
            Message::Get { key, groups } => {
                out.push(GET);
                out.extend_from_slice(&key.0);
                put_groups(&mut out, groups);
            }
            Message::Part { key, size, groups, bytes } => {
                put_part_head(&mut out, key, *size, groups, bytes.len());
                out.extend_from_slice(bytes);
            }
            Message::Lack { key } => {
                out.push(LACK);
                out.extend_from_slice(&key.0);
            }
            Message::Idle => out.push(IDLE),
            Message::AskState => out.push(ASK_STATE),
            Message::State(None) => out.extend_from_slice(&[STATE, 0]),
            Message::State(Some(offer)) => {
                out.extend_from_slice(&[STATE, 1]);
                put_section(&mut out, &offer.proof);
                out.extend_from_slice(&offer.key.0);
                put(&mut out, offer.size);
            }
        }
        out
    }

    /// Reads a frame; the bytes of a part are not copied.
    ///
    /// # Errors
    /// What is wrong with the bytes.
    pub fn decode_frame(frame: &Bytes) -> Result<Self, MessageError> {
        match frame.split_first() {
            Some((&PART, rest)) => {
                take_part(&mut Reader::new(rest), |bytes| frame.slice_ref(bytes))
                    .ok_or(MessageError("field"))
            }
            _ => Self::decode(frame),
        }
    }

    /// Reads a message.
    ///
    /// # Errors
    /// What is wrong with the bytes.
    pub fn decode(bytes: &[u8]) -> Result<Self, MessageError> {
        let mut reader = Reader::new(bytes);
        let kind = reader.byte().ok_or(MessageError("empty"))?;
        let message = take(kind, &mut reader).ok_or(MessageError("field"))?;
        if reader.is_empty() { Ok(message) } else { Err(MessageError("trailing bytes")) }
    }
}

/// The bytes of a [`Message::Part`], without putting one together.
pub fn encode_part(key: &ArtifactId, size: u64, groups: &Groups<u64>, bytes: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    put_part_head(&mut out, key, size, groups, bytes.len());
    out.extend_from_slice(bytes);
    out
}

/// The most that the fields of a part take in front of its bytes.
const PART_HEAD_BYTES: usize = 64;

fn put_part_head(
    out: &mut Vec<u8>,
    key: &ArtifactId,
    size: u64,
    groups: &Groups<u64>,
    length: usize,
) {
    out.reserve_exact(PART_HEAD_BYTES + length);
    out.push(PART);
    out.extend_from_slice(&key.0);
    put(out, size);
    put_groups(out, groups);
}

fn put_groups(out: &mut Vec<u8>, groups: &Groups<u64>) {
    put(out, groups.start);
    put(out, groups.end.saturating_sub(groups.start));
}

fn put_view(out: &mut Vec<u8>, view: &View) {
    match view {
        View::All(items) => {
            out.push(0);
            put_items(out, items);
        }
        View::Changed(items) => {
            out.push(1);
            put_items(out, items);
        }
        View::Symbols(bytes) => {
            out.push(2);
            out.extend_from_slice(bytes);
        }
    }
}

fn put_want(out: &mut Vec<u8>, round: u32, plain: bool, wanted: &Wanted) {
    out.push(WANT);
    put(out, u64::from(round));
    let everything = matches!(wanted, Wanted::Everything);
    out.push(u8::from(plain) | (u8::from(everything) << 1));
    if let Wanted::Ranges(ranges) = wanted {
        put(out, ranges.len() as u64);
        for range in ranges {
            out.extend_from_slice(&range.author);
            put(out, range.above);
        }
    }
}

fn take(kind: u8, reader: &mut Reader<'_>) -> Option<Message> {
    Some(match kind {
        HELLO => take_hello(reader)?,
        WELCOME => Message::Welcome,
        REFUSE => {
            let refusal = Refusal::from_byte(reader.byte()?)?;
            let text = reader.section().filter(|text| text.len() <= TEXT_BYTES_MAX)?;
            let text = String::from_utf8(text.to_vec()).ok()?;
            let domain = match reader.section()? {
                [] => None,
                bytes => Some(DomainId::from_slice(bytes)?),
            };
            Message::Refuse { refusal, text, domain }
        }
        COMPARE => Message::Compare {
            round: take_u32(reader)?,
            attempt: reader.byte()?,
            digest: LogDigest(reader.array()?),
            count: reader.varint()?,
            met: match reader.section()? {
                [] => None,
                bytes => Some(bytes.try_into().ok()?),
            },
        },
        SAME => Message::Same { round: take_u32(reader)? },
        DIFFERS => Message::Differs {
            round: take_u32(reader)?,
            digest: LogDigest(reader.array()?),
            count: reader.varint()?,
            view: take_view(reader)?,
        },
        MORE_SYMBOLS => Message::MoreSymbols {
            round: take_u32(reader)?,
            start: take_u32(reader)?,
            count: take_u32(reader)?,
        },
        SYMBOLS => Message::Symbols { round: take_u32(reader)?, bytes: take_rest(reader) },
        WANT => take_want(reader)?,
        EVENTS => {
            let index = take_u32(reader)?;
            let flags = reader.byte().filter(|flags| *flags < 4)?;
            let (restart, live) = (flags & 1 != 0, flags & 2 != 0);
            Message::Events { index, restart, live, packed: take_rest(reader) }
        }
        END => Message::End { round: take_u32(reader)?, digest: LogDigest(reader.array()?) },
        LEVEL => Message::Level { round: take_u32(reader)?, digest: LogDigest(reader.array()?) },
        TIPS => Message::Tips(take_items(reader)?),
        PRUNE => Message::Prune,
        GRAFT => Message::Graft,
        POKE => Message::Poke { plain: take_bool(reader)? },
        ASK => {
            let ask = take_u32(reader).filter(|ask| *ask > 0)?;
            Message::Ask { ask, keys: take_ascending(reader, take_key, |key| *key)? }
        }
        OFFER => {
            let ask = take_u32(reader)?;
            let entry = |reader: &mut Reader<'_>| Some((take_key(reader)?, take_size(reader)?));
            Message::Offer { ask, entries: take_ascending(reader, entry, |(key, _)| *key)? }
        }
        GET => {
            let key = take_key(reader)?;
            let groups = take_groups(reader, group_count(ARTIFACT_BYTES_MAX))?;
            Message::Get { key, groups }
        }
        PART => take_part(reader, Bytes::copy_from_slice)?,
        LACK => Message::Lack { key: take_key(reader)? },
        IDLE => Message::Idle,
        ASK_STATE => Message::AskState,
        STATE => Message::State(match take_bool(reader)? {
            false => None,
            true => {
                let proof = reader.section()?;
                if proof.len() > PROOF_BYTES_MAX {
                    return None;
                }
                let proof = proof.to_vec();
                Some(StateOffer { proof, key: take_key(reader)?, size: take_size(reader)? })
            }
        }),
        _ => return None,
    })
}

fn take_hello(reader: &mut Reader<'_>) -> Option<Message> {
    let version = reader.byte()?;
    if version != PROTOCOL_VERSION {
        // What follows may look different: the receiver answers with its own version.
        take_rest(reader);
        let domain = DomainId::default();
        let log = Log::Internal;
        return Some(Message::Hello { version, domain, log, live: false, invite: None });
    }
    let domain = DomainId(reader.array()?);
    let flags = reader.byte().filter(|flags| *flags < 8)?;
    let invite = match flags & 2 {
        0 => None,
        _ => Some(InviteProof { key: NodeKey(reader.array()?), signature: reader.array()? }),
    };
    let log = if flags & 4 == 0 { Log::Internal } else { Log::Published };
    Some(Message::Hello { version, domain, log, live: flags & 1 != 0, invite })
}

fn take_view(reader: &mut Reader<'_>) -> Option<View> {
    Some(match reader.byte()? {
        0 => View::All(take_items(reader)?),
        1 => View::Changed(take_items(reader)?),
        2 => View::Symbols(take_rest(reader)),
        _ => return None,
    })
}

fn take_want(reader: &mut Reader<'_>) -> Option<Message> {
    let round = take_u32(reader)?;
    let flags = reader.byte().filter(|flags| *flags < 4)?;
    let wanted = if flags & 2 != 0 {
        Wanted::Everything
    } else {
        let count = reader.length().filter(|n| *n <= RANGES_MAX && *n <= reader.len())?;
        let ranges: Option<Vec<Range>> = (0..count)
            .map(|_| Some(Range { author: reader.array()?, above: reader.varint()? }))
            .collect();
        Wanted::Ranges(ranges?)
    };
    Some(Message::Want { round, plain: flags & 1 != 0, wanted })
}

fn take_items(reader: &mut Reader<'_>) -> Option<Vec<Item>> {
    let count = reader.length().filter(|n| *n <= ENDS_MAX)?;
    let bytes = reader.take(count.checked_mul(ITEM_BYTES)?)?;
    Some(bytes.chunks_exact(ITEM_BYTES).filter_map(|c| c.try_into().ok().map(Item)).collect())
}

fn take_key(reader: &mut Reader<'_>) -> Option<ArtifactId> {
    reader.array().map(ArtifactId)
}

fn take_size(reader: &mut Reader<'_>) -> Option<u64> {
    reader.varint().filter(|size| *size <= ARTIFACT_BYTES_MAX)
}

/// Groups of an artifact that has so many.
fn take_groups(reader: &mut Reader<'_>, count: u64) -> Option<Groups<u64>> {
    let start = reader.varint()?;
    let length = reader.varint().filter(|length| (1..=PART_GROUPS_MAX).contains(length))?;
    let end = start.checked_add(length).filter(|end| *end <= count)?;
    Some(start..end)
}

fn take_part<'a>(reader: &mut Reader<'a>, own: impl FnOnce(&'a [u8]) -> Bytes) -> Option<Message> {
    let key = take_key(reader)?;
    let size = take_size(reader)?;
    let groups = take_groups(reader, group_count(size))?;
    let bytes = reader.take(reader.len()).filter(|bytes| bytes.len() <= PART_BYTES_MAX)?;
    Some(Message::Part { key, size, groups, bytes: own(bytes) })
}

/// A list in ascending order of keys, none twice.
fn take_ascending<T>(
    reader: &mut Reader<'_>,
    take: impl Fn(&mut Reader<'_>) -> Option<T>,
    key: impl Fn(&T) -> ArtifactId,
) -> Option<Vec<T>> {
    let count = reader.length().filter(|count| *count <= ASK_KEYS_MAX)?;
    let list: Vec<T> = (0..count).map(|_| take(reader)).collect::<Option<_>>()?;
    list.is_sorted_by(|a, b| key(a) < key(b)).then_some(list)
}

fn take_u32(reader: &mut Reader<'_>) -> Option<u32> {
    u32::try_from(reader.varint()?).ok()
}

fn take_bool(reader: &mut Reader<'_>) -> Option<bool> {
    match reader.byte()? {
        0 => Some(false),
        1 => Some(true),
        _ => None,
    }
}

fn take_rest(reader: &mut Reader<'_>) -> Vec<u8> {
    reader.take(reader.len()).unwrap_or_default().to_vec()
}

#[cfg(test)]
mod tests;
