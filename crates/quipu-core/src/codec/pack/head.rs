//! The head part of a batch: places, links, clocks, kinds and signatures.

use super::PackError;
use super::context::{Context, Resolve, Shared};
use crate::codec::varint::{Reader, put, put_section, put_signed};
use crate::event::{Event, EventSignature, Head, Log, LogSeq, Parents};
use crate::id::{EventId, NodeKey};
use crate::limits::{KIND_BYTES_MAX, PACK_DICTIONARY_MAX, PARENTS_MAX};

/// The encoded head part.
pub type PackedHead = Vec<u8>;

const PREV_IS_PARENT: u8 = 1;
const SIGNED: u8 = 1 << 1;
const PUBLISHED: u8 = 1 << 2;
/// How `prev` is given, in the bits from 4 on.
const PREV_SHIFT: u8 = 4;
/// `prev` is the author's last event in this stream.
const PREV_LAST: u8 = 0;
/// There is none: the first event of a feed.
const PREV_NONE: u8 = 1;
/// `prev` stands in the links column, before the parents.
const PREV_LINK: u8 = 2;
/// The reader holds `prev`: it is the author's event at `seq - 1`.
const PREV_HELD: u8 = 3;

const LINK_BACK: u64 = 0;
const LINK_RAW: u64 = 1;
const LINK_HELD: u64 = 2;

/// A new author's key follows in full; else as many first bytes of it as this byte says.
const AUTHOR_RAW: u8 = 0;

const COLUMNS: usize = 8;

/// One column per property; `raw` holds what does not compress, in the order in which it is met.
#[derive(Default)]
struct Columns {
    flags: Vec<u8>,
    authors: Vec<u8>,
    seqs: Vec<u8>,
    milliseconds: Vec<u8>,
    counters: Vec<u8>,
    link_counts: Vec<u8>,
    links: Vec<u8>,
    kinds: Vec<u8>,
    raw: Vec<u8>,
}

/// Encodes the head part of a batch.
pub fn encode_heads(events: &[Event], context: &mut Context, shared: &dyn Shared) -> PackedHead {
    let mut columns = Columns::default();
    for event in events {
        columns.put_event(event, context, shared);
    }
    let list: [&Vec<u8>; COLUMNS] = [
        &columns.flags,
        &columns.authors,
        &columns.seqs,
        &columns.milliseconds,
        &columns.counters,
        &columns.link_counts,
        &columns.links,
        &columns.kinds,
    ];
    let mut joined = Vec::with_capacity(list.iter().map(|c| c.len() + 3).sum());
    list.iter().for_each(|column| put_section(&mut joined, column));
    let mut out = Vec::with_capacity(joined.len() / 2 + columns.raw.len() + 16);
    context.folder.put(&mut out, &joined);
    put_section(&mut out, &columns.raw);
    out
}

impl Columns {
    fn put_event(&mut self, event: &Event, context: &mut Context, shared: &dyn Shared) {
        let head = &event.header.head;
        let author = self.put_author(&head.author, context, shared);
        let last = context.authors[author as usize].last;
        let base = last.map_or(0, |last| last.0).wrapping_add(1);
        put_signed(&mut self.seqs, head.seq.wrapping_sub(base) as i64);
        let mut flags = if event.signature.is_some() { SIGNED } else { 0 };
        if head.log == Log::Published {
            flags |= PUBLISHED;
        }
        flags |= self.put_prev(head, last, context, shared) << PREV_SHIFT;
        let prev_is_parent =
            head.prev.is_some_and(|prev| head.parents.binary_search(&prev).is_ok());
        if prev_is_parent {
            flags |= PREV_IS_PARENT;
        }
        self.flags.push(flags);
        put(&mut self.link_counts, (head.parents.len() - usize::from(prev_is_parent)) as u64);
        for parent in &head.parents {
            if head.prev != Some(*parent) {
                self.put_link(parent, context, shared);
            }
        }
        self.put_clock(head.logseq, context);
        self.put_kind(head, context);
        if let Some(signature) = &event.signature {
            self.raw.extend_from_slice(&signature.0);
        }
        context.push(author, head.seq, event.id);
    }

    fn put_author(&mut self, key: &NodeKey, context: &mut Context, shared: &dyn Shared) -> u32 {
        if let Some(index) = context.author(key) {
            put(&mut self.authors, u64::from(index));
            return index;
        }
        self.introduce_author(key, context, shared);
        let index = context.add_author(*key);
        put(&mut self.authors, u64::from(index));
        index
    }

    fn introduce_author(&mut self, key: &NodeKey, context: &Context, shared: &dyn Shared) {
        debug_assert!(context.author(key).is_none());
        match shared.author_prefix(key).and_then(|length| key.0[..key.0.len() - 1].get(..length)) {
            Some(prefix) if !prefix.is_empty() => {
                self.raw.push(prefix.len() as u8);
                self.raw.extend_from_slice(prefix);
            }
            _ => {
                self.raw.push(AUTHOR_RAW);
                self.raw.extend_from_slice(&key.0);
            }
        }
    }

    fn put_prev(
        &mut self,
        head: &Head,
        last: Option<(u64, EventId)>,
        context: &mut Context,
        shared: &dyn Shared,
    ) -> u8 {
        match (head.prev, last) {
            (None, _) => PREV_NONE,
            (Some(prev), Some((_, id))) if id == prev => PREV_LAST,
            (Some(prev), _)
                if shared.prev_is_shared(&prev, &head.author, head.seq.wrapping_sub(1)) =>
            {
                PREV_HELD
            }
            (Some(prev), _) => {
                self.put_link(&prev, context, shared);
                PREV_LINK
            }
        }
    }

    fn put_link(&mut self, id: &EventId, context: &mut Context, shared: &dyn Shared) {
        if let Some(position) = context.position_of(id) {
            put(&mut self.links, ((context.position - position) << 2) | LINK_BACK);
        } else if let Some((author, seq)) = shared.shared(id) {
            let known = context.author(&author);
            if known.is_none() {
                self.introduce_author(&author, context, shared);
            }
            let index = known.unwrap_or_else(|| context.add_author(author));
            put(&mut self.links, (u64::from(index) << 2) | LINK_HELD);
            put(&mut self.links, seq);
        } else {
            put(&mut self.links, LINK_RAW);
            self.raw.extend_from_slice(&id.0);
        }
    }

    fn put_clock(&mut self, clock: LogSeq, context: &mut Context) {
        let ms = clock.ms().wrapping_sub(context.last_ms) as i64;
        put_signed(&mut self.milliseconds, ms);
        let counter = i64::from(clock.counter());
        let base = if ms == 0 { i64::from(context.last_counter) + 1 } else { 0 };
        put_signed(&mut self.counters, counter - base);
        context.last_ms = clock.ms();
        context.last_counter = clock.counter();
    }

    fn put_kind(&mut self, head: &Head, context: &mut Context) {
        let index = context.kind(&head.kind).unwrap_or_else(|| {
            put_section(&mut self.raw, head.kind.as_bytes());
            context.add_kind(head.kind.clone())
        });
        put(&mut self.kinds, u64::from(index));
    }
}

/// Cursors over the columns of one batch.
struct Cursors<'a> {
    columns: [Reader<'a>; COLUMNS],
    raw: Reader<'a>,
}

const FLAGS: usize = 0;
const AUTHORS: usize = 1;
const SEQS: usize = 2;
const MILLISECONDS: usize = 3;
const COUNTERS: usize = 4;
const LINK_COUNTS: usize = 5;
const LINKS: usize = 6;
const KINDS: usize = 7;

/// Decodes the head part of a batch. `complete` gets each head with its signature, in order, and
/// answers with the id of the event, which later heads refer to.
///
/// # Errors
/// What is wrong with the batch; the context is then spoilt.
pub fn decode_heads(
    bytes: &[u8],
    count: usize,
    context: &mut Context,
    resolve: &dyn Resolve,
    mut complete: impl FnMut(Head, Option<EventSignature>) -> EventId,
) -> Result<(), PackError> {
    let mut reader = Reader::new(bytes);
    let joined = context.folder.take(&mut reader)?;
    let raw = reader.section().ok_or(PackError::Malformed("raw"))?;
    let mut sections = Reader::new(&joined);
    let mut columns = [Reader::new(&[]); COLUMNS];
    for column in &mut columns {
        *column = Reader::new(sections.section().ok_or(PackError::Malformed("column"))?);
    }
    let mut cursors = Cursors { columns, raw: Reader::new(raw) };
    if !reader.is_empty() || !sections.is_empty() || cursors.columns[FLAGS].len() != count {
        return Err(PackError::Malformed("head length"));
    }
    for _ in 0..count {
        let (author, head, signature) = cursors.take_event(context, resolve)?;
        let seq = head.seq;
        let id = complete(head, signature);
        context.push(author, seq, id);
    }
    if cursors.raw.is_empty() && cursors.columns.iter().all(Reader::is_empty) {
        Ok(())
    } else {
        Err(PackError::Malformed("trailing bytes in a column"))
    }
}

/// What a reader of very many events needs of a head: neither links nor signature.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Brief {
    /// Number of the author in the context's dictionary.
    pub author: u32,
    /// Position in the author's feed.
    pub seq: u64,
    /// The clock.
    pub logseq: LogSeq,
    /// Number of the kind in the context's dictionary.
    pub kind: u32,
}

/// Reads only authors, seqs, clocks and kinds of a head part that stands at the start of a page and
/// whose authors and kinds are all in the context's dictionary, as in blocks. What else is in it is
/// not looked at, and not checked. Afterwards the context has to start a page.
///
/// # Errors
/// What is wrong with the batch.
pub fn decode_briefs(
    bytes: &[u8],
    count: usize,
    context: &mut Context,
    mut see: impl FnMut(Brief),
) -> Result<(), PackError> {
    context.start_page(0);
    let mut reader = Reader::new(bytes);
    let joined = context.folder.take(&mut reader)?;
    let mut sections = Reader::new(&joined);
    let mut columns = [Reader::new(&[]); COLUMNS];
    for column in &mut columns {
        *column = Reader::new(sections.section().ok_or(PackError::Malformed("column"))?);
    }
    let mut cursors = Cursors { columns, raw: Reader::new(&[]) };
    if !sections.is_empty() || cursors.columns[FLAGS].len() != count {
        return Err(PackError::Malformed("head length"));
    }
    for _ in 0..count {
        see(cursors.take_brief(context)?);
    }
    Ok(())
}

impl Cursors<'_> {
    fn take_brief(&mut self, context: &mut Context) -> Result<Brief, PackError> {
        let author = self.varint(AUTHORS)?;
        let known = context.authors.get_mut(usize::try_from(author).unwrap_or(usize::MAX));
        let known = known.ok_or(PackError::Malformed("author"))?;
        let base = known.last.map_or(0, |last| last.0).wrapping_add(1);
        let seq = base.wrapping_add(self.signed(SEQS)? as u64);
        // The id is that of no event: only the seq is asked for.
        known.last = Some((seq, EventId::default()));
        let logseq = self.take_clock(context)?;
        let kind = self.varint(KINDS)?;
        if kind >= context.kinds.len() as u64 {
            return Err(PackError::Malformed("kind"));
        }
        Ok(Brief { author: author as u32, seq, logseq, kind: kind as u32 })
    }

    fn varint(&mut self, column: usize) -> Result<u64, PackError> {
        self.columns[column].varint().ok_or(PackError::Malformed("varint"))
    }

    fn signed(&mut self, column: usize) -> Result<i64, PackError> {
        self.columns[column].signed().ok_or(PackError::Malformed("varint"))
    }

    fn raw_id(&mut self) -> Result<EventId, PackError> {
        self.raw.array().map(EventId).ok_or(PackError::Malformed("raw id"))
    }

    fn take_event(
        &mut self,
        context: &mut Context,
        resolve: &dyn Resolve,
    ) -> Result<(u32, Head, Option<EventSignature>), PackError> {
        let flags = self.columns[FLAGS].byte().ok_or(PackError::Malformed("flags"))?;
        if flags & !(PREV_IS_PARENT | SIGNED | PUBLISHED | (3 << PREV_SHIFT)) != 0 {
            return Err(PackError::Malformed("flags"));
        }
        let index = self.take_author_index(context, resolve)?;
        let known = context.authors[index as usize];
        let base = known.last.map_or(0, |last| last.0).wrapping_add(1);
        let seq = base.wrapping_add(self.signed(SEQS)? as u64);
        let prev = match flags >> PREV_SHIFT {
            PREV_LAST => Some(known.last.ok_or(PackError::Malformed("prev"))?.1),
            PREV_NONE => None,
            PREV_LINK => Some(self.take_link(context, resolve)?),
            _ => Some(
                resolve
                    .id_at(&known.key, seq.wrapping_sub(1))
                    .ok_or(PackError::Unresolved("previous event of a feed"))?,
            ),
        };
        let parents = self.take_parents(flags, prev, context, resolve)?;
        let logseq = self.take_clock(context)?;
        let kind = self.take_kind(context)?;
        let signature = match flags & SIGNED {
            0 => None,
            _ => Some(EventSignature(self.raw.array().ok_or(PackError::Malformed("signature"))?)),
        };
        let log = if flags & PUBLISHED == 0 { Log::Internal } else { Log::Published };
        Ok((index, Head { log, author: known.key, seq, prev, parents, logseq, kind }, signature))
    }

    fn take_author_index(
        &mut self,
        context: &mut Context,
        resolve: &dyn Resolve,
    ) -> Result<u32, PackError> {
        let index = self.varint(AUTHORS)?;
        self.author_at(index, context, resolve)
    }

    /// The author with that index, introduced now if it is the next one.
    fn author_at(
        &mut self,
        index: u64,
        context: &mut Context,
        resolve: &dyn Resolve,
    ) -> Result<u32, PackError> {
        let length = context.authors.len() as u64;
        if index < length {
            return Ok(index as u32);
        }
        if index > length || context.authors.len() >= PACK_DICTIONARY_MAX {
            return Err(PackError::Malformed("author"));
        }
        let key = match self.raw.byte() {
            Some(AUTHOR_RAW) => NodeKey(self.raw.array().ok_or(PackError::Malformed("author"))?),
            Some(length @ 1..32) => {
                let prefix = self.raw.take(length.into()).ok_or(PackError::Malformed("author"))?;
                resolve.author_with_prefix(prefix).ok_or(PackError::Unresolved("author"))?
            }
            _ => return Err(PackError::Malformed("author")),
        };
        if context.author(&key).is_some() {
            return Err(PackError::Malformed("author introduced twice"));
        }
        Ok(context.add_author(key))
    }

    fn take_link(
        &mut self,
        context: &mut Context,
        resolve: &dyn Resolve,
    ) -> Result<EventId, PackError> {
        let code = self.varint(LINKS)?;
        match code & 3 {
            LINK_BACK => {
                let position = context
                    .position
                    .checked_sub(code >> 2)
                    .filter(|position| *position < context.position)
                    .ok_or(PackError::Malformed("distance"))?;
                context
                    .recent(position)
                    .or_else(|| resolve.id_at_position(position))
                    .ok_or(PackError::Unresolved("earlier event of the stream"))
            }
            LINK_RAW if code == LINK_RAW => self.raw_id(),
            LINK_HELD => {
                let index = self.author_at(code >> 2, context, resolve)?;
                let seq = self.varint(LINKS)?;
                let author = context.authors[index as usize].key;
                resolve.id_at(&author, seq).ok_or(PackError::Unresolved("parent"))
            }
            _ => Err(PackError::Malformed("link")),
        }
    }

    fn take_parents(
        &mut self,
        flags: u8,
        prev: Option<EventId>,
        context: &mut Context,
        resolve: &dyn Resolve,
    ) -> Result<Parents, PackError> {
        let count = self.varint(LINK_COUNTS)?;
        if count > PARENTS_MAX as u64 {
            return Err(PackError::TooLarge("parents"));
        }
        let mut parents = Parents::new();
        if flags & PREV_IS_PARENT != 0 {
            parents.push(prev.ok_or(PackError::Malformed("prev"))?);
        }
        for _ in 0..count {
            parents.push(self.take_link(context, resolve)?);
        }
        parents.sort_unstable();
        if parents.windows(2).any(|pair| pair[0] == pair[1]) {
            return Err(PackError::Malformed("parent given twice"));
        }
        Ok(parents)
    }

    fn take_clock(&mut self, context: &mut Context) -> Result<LogSeq, PackError> {
        let difference = self.signed(MILLISECONDS)?;
        let ms = context.last_ms.wrapping_add(difference as u64);
        let base = if difference == 0 { i64::from(context.last_counter) + 1 } else { 0 };
        let counter = base
            .checked_add(self.signed(COUNTERS)?)
            .and_then(|counter| u16::try_from(counter).ok())
            .ok_or(PackError::Malformed("clock"))?;
        if ms >= 1 << 48 {
            return Err(PackError::Malformed("clock"));
        }
        context.last_ms = ms;
        context.last_counter = counter;
        Ok(LogSeq((ms << 16) | u64::from(counter)))
    }

    fn take_kind(&mut self, context: &mut Context) -> Result<std::sync::Arc<str>, PackError> {
        let index = self.varint(KINDS)?;
        if let Some(kind) = context.kinds.get(usize::try_from(index).unwrap_or(usize::MAX)) {
            return Ok(kind.clone());
        }
        if index != context.kinds.len() as u64 || context.kinds.len() >= PACK_DICTIONARY_MAX {
            return Err(PackError::Malformed("kind"));
        }
        let bytes = self.raw.section().ok_or(PackError::Malformed("kind"))?;
        if bytes.len() > KIND_BYTES_MAX {
            return Err(PackError::TooLarge("kind"));
        }
        let kind = std::str::from_utf8(bytes).map_err(|_| PackError::Malformed("kind"))?;
        context.add_kind(kind.into());
        Ok(context.kinds[context.kinds.len() - 1].clone())
    }
}
