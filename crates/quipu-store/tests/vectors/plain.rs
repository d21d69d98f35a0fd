//! A second reader of the store's files, written from the tables in `docs/formats/block.md` and
//! without a line of the store. It reads whole files, checks all there is to check, and does not care
//! for speed. The insides of packed batches are left to the core, which has vectors of its own.

use std::ops::Range;
use std::sync::Arc;

use quipu_core::codec::pack::{self, Context, Nothing, Resolve, decode_heads, decode_payloads};
use quipu_core::codec::varint::Reader;
use quipu_core::event::{Event, Log};
use quipu_core::id::{DomainId, EventId, NodeKey, Subject};

/// What is wrong with a file.
pub(crate) type Plain<T> = Result<T, String>;

fn need(right: bool, what: &str) -> Plain<()> {
    if right { Ok(()) } else { Err(what.to_owned()) }
}

fn sum16(parts: &[&[u8]]) -> [u8; 16] {
    blake3::hash(&parts.concat()).as_bytes()[..16].try_into().unwrap()
}

fn hash(bytes: &[u8]) -> [u8; 32] {
    *blake3::hash(bytes).as_bytes()
}

/// Bytes that are read from the front.
struct Input<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl<'a> Input<'a> {
    fn new(bytes: &'a [u8], at: usize) -> Self {
        Self { bytes, at }
    }

    fn take(&mut self, length: usize) -> Plain<&'a [u8]> {
        let end = self.at.checked_add(length).ok_or("a length")?;
        let taken = self.bytes.get(self.at..end).ok_or("the file ends early")?;
        self.at = end;
        Ok(taken)
    }

    fn array<const N: usize>(&mut self) -> Plain<[u8; N]> {
        Ok(self.take(N)?.try_into().unwrap())
    }

    fn u32(&mut self) -> Plain<usize> {
        Ok(u32::from_le_bytes(self.array()?) as usize)
    }

    fn u64(&mut self) -> Plain<u64> {
        Ok(u64::from_le_bytes(self.array()?))
    }

    fn length(&mut self) -> Plain<usize> {
        usize::try_from(self.u64()?).map_err(|_| "a length".to_owned())
    }

    fn varint(&mut self) -> Plain<u64> {
        self.with_reader(Reader::varint)
    }

    fn signed(&mut self) -> Plain<i64> {
        self.with_reader(Reader::signed)
    }

    fn with_reader<T>(&mut self, read: impl Fn(&mut Reader<'a>) -> Option<T>) -> Plain<T> {
        let mut reader = Reader::new(self.bytes.get(self.at..).unwrap_or_default());
        let value = read(&mut reader).ok_or("a varint")?;
        self.at = self.bytes.len() - reader.len();
        Ok(value)
    }

    fn many<T>(
        &mut self,
        count: usize,
        mut read: impl FnMut(&mut Self) -> Plain<T>,
    ) -> Plain<Vec<T>> {
        (0..count).map(|_| read(self)).collect()
    }

    fn is_done(&self) -> bool {
        self.at == self.bytes.len()
    }
}

/// Where a file says it belongs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Place {
    pub(crate) log: Log,
    pub(crate) number: u64,
    pub(crate) first: u64,
    pub(crate) domain: DomainId,
}

fn take_place(input: &mut Input<'_>) -> Plain<Place> {
    let log = match input.u32()? {
        0 => Log::Internal,
        1 => Log::Published,
        _ => return Err("log".to_owned()),
    };
    let (number, first) = (input.u64()?, input.u64()?);
    Ok(Place { log, number, first, domain: DomainId(input.array()?) })
}

/// What a page of a block says of itself in the footer.
#[derive(Debug)]
pub(crate) struct Page {
    pub(crate) events: usize,
    at: usize,
    length: usize,
    /// Smallest and greatest clock, and the kinds as bits.
    pub(crate) zone: Option<(u64, u64, u64)>,
}

/// The end of a feed within a block.
#[derive(Debug)]
pub(crate) struct End {
    pub(crate) position: u64,
    pub(crate) author: usize,
    pub(crate) seq: u64,
    pub(crate) clock: u64,
}

/// Everything that a block and its payload file hold.
#[derive(Debug)]
pub(crate) struct Block {
    pub(crate) version: usize,
    pub(crate) place: Place,
    pub(crate) authors: Vec<[u8; 32]>,
    pub(crate) externals: Vec<([u8; 32], bool)>,
    pub(crate) kinds: Vec<(String, u64)>,
    pub(crate) pages: Vec<Page>,
    pub(crate) ids: Vec<[u8; 32]>,
    directory: Vec<usize>,
    entries: Vec<usize>,
    /// For each author seq and position of each event.
    pub(crate) feeds: Vec<Vec<(u64, u64)>>,
    /// The bits of the filter of fold keys.
    pub(crate) filter: Option<Vec<u8>>,
    pub(crate) clocks: (u64, u64),
    pub(crate) ends: Vec<End>,
    pub(crate) leaves: Vec<(u64, u64)>,
    pub(crate) structural: Vec<u64>,
    pub(crate) events: Vec<Event>,
    /// The parts of the block file, one after the other.
    pub(crate) sections: Vec<(String, Range<usize>)>,
}

/// The footer, and what the trailer says of it.
#[derive(Debug, Default)]
struct Footer {
    at: usize,
    ids_at: usize,
    feeds_bytes: usize,
    content: [u8; 32],
    indexes: [u8; 32],
    clocks: (u64, u64),
    filter_bytes: usize,
    pages: Vec<Page>,
    ends: Vec<End>,
    leaves: Vec<(u64, u64)>,
    structural: Vec<u64>,
}

const HEADER_BYTES: usize = 104;
const TRAILER_BYTES: usize = 64;

fn take_footer(file: &[u8], version: usize) -> Plain<Footer> {
    let trailer_at = file.len().checked_sub(TRAILER_BYTES).ok_or("no trailer")?;
    let mut trailer = Input::new(file, trailer_at);
    let (at, length) = (trailer.length()?, trailer.length()?);
    let digest: [u8; 32] = trailer.array()?;
    need(trailer.length()? == file.len(), "length of the file")?;
    need(trailer.take(8)? == b"quipuend", "trailer")?;
    need(at.checked_add(length) == Some(trailer_at), "place of the footer")?;
    need(hash(&file[at..trailer_at]) == digest, "checksum of the footer")?;
    let mut input = Input::new(&file[..trailer_at], at);
    let mut footer = Footer { at, ids_at: input.length()?, ..Footer::default() };
    footer.feeds_bytes = input.length()?;
    footer.content = input.array()?;
    footer.indexes = input.array()?;
    footer.clocks = (input.u64()?, input.u64()?);
    footer.filter_bytes = if version == 1 { 0 } else { input.length()? };
    let count = input.varint()? as usize;
    footer.pages = input.many(count, |input| take_page_entry(input, version))?;
    let count = input.varint()? as usize;
    footer.ends = input.many(count, |input| {
        let (position, author) = (input.varint()?, input.varint()? as usize);
        Ok(End { position, author, seq: input.varint()?, clock: input.varint()? })
    })?;
    let count = input.varint()? as usize;
    footer.leaves = input.many(count, |input| Ok((input.varint()?, input.varint()?)))?;
    let count = input.varint()? as usize;
    footer.structural = input.many(count, Input::varint)?;
    need(input.is_done(), "bytes after the footer")?;
    Ok(footer)
}

fn take_page_entry(input: &mut Input<'_>, version: usize) -> Plain<Page> {
    let events = input.varint()? as usize;
    let (at, length) = (input.varint()? as usize, input.varint()? as usize);
    let mut zone = None;
    if version > 1 {
        let (least, more) = (input.varint()?, input.varint()?);
        zone = Some((least, least.checked_add(more).ok_or("clocks")?, input.varint()?));
    }
    Ok(Page { events, at, length, zone })
}

/// Log2, rounded up.
fn bits_for(count: usize) -> u32 {
    count.next_power_of_two().trailing_zeros()
}

/// Bits of an id that choose the bucket, and bits of an entry that are the position.
fn shape_of(events: usize) -> (u32, u32) {
    (bits_for(events.div_ceil(16).max(2)), bits_for(events.max(2)))
}

/// Bits of an id from one on, the first being the highest of the first byte.
fn bits_of(id: &[u8; 32], from: u32, count: u32) -> u64 {
    let head = u64::from_be_bytes(id[..8].try_into().unwrap());
    head << from >> (64 - count)
}

impl Block {
    /// Reads a block file with its payload file.
    pub(crate) fn read(file: &[u8], payload: &[u8]) -> Plain<Self> {
        let mut input = Input::new(file, 0);
        need(input.take(8)? == b"quipublk", "magic")?;
        let version = input.u32()?;
        need(version == 1 || version == 2, "version")?;
        let place = take_place(&mut input)?;
        let (events, pages) = (input.u32()?, input.u32()?);
        let dictionary_bytes = input.length()?;
        need(input.u64()? == 0, "zero")?;
        let sum: [u8; 16] = input.array()?;
        let dictionary = input.take(dictionary_bytes)?;
        need(sum == sum16(&[&file[..HEADER_BYTES - 16], dictionary]), "checksum of the header")?;
        let pages_at = input.at;
        let footer = take_footer(file, version)?;
        need(footer.pages.len() == pages, "number of pages")?;
        let mut block = Self {
            version,
            place,
            authors: Vec::new(),
            externals: Vec::new(),
            kinds: Vec::new(),
            pages: footer.pages,
            ids: Vec::new(),
            directory: Vec::new(),
            entries: Vec::new(),
            feeds: Vec::new(),
            filter: None,
            clocks: footer.clocks,
            ends: footer.ends,
            leaves: footer.leaves,
            structural: footer.structural,
            events: Vec::new(),
            sections: Vec::new(),
        };
        block.section("header", 0..HEADER_BYTES);
        block.section("dictionary", HEADER_BYTES..pages_at);
        block.read_dictionary(dictionary)?;
        need(block.pages.iter().map(|page| page.events).sum::<usize>() == events, "events")?;
        let heads = block.read_pages(file, pages_at, footer.ids_at)?;
        let mut input = Input::new(&file[..footer.at], footer.ids_at);
        block.read_ids(&mut input, events, &footer.content)?;
        let indexes_at = input.at;
        block.read_index(&mut input, events)?;
        block.read_feeds(&mut input, footer.feeds_bytes)?;
        need(hash(&file[indexes_at..input.at]) == footer.indexes, "checksum of the indexes")?;
        if version > 1 {
            block.read_filter(&mut input, footer.filter_bytes)?;
        }
        need(input.is_done(), "bytes before the footer")?;
        let trailer_at = file.len() - TRAILER_BYTES;
        block.section("footer", footer.at..trailer_at);
        block.section("trailer", trailer_at..file.len());
        let payloads = payload_pages(payload, pages, &footer.content)?;
        block.read_events(&heads, &payloads)?;
        Ok(block)
    }

    fn section(&mut self, name: &str, range: Range<usize>) {
        self.sections.push((name.to_owned(), range));
    }

    fn read_dictionary(&mut self, dictionary: &[u8]) -> Plain<()> {
        let mut input = Input::new(dictionary, 0);
        let (authors, externals, kinds) = (input.u32()?, input.u32()?, input.u32()?);
        self.authors = input.many(authors, Input::array)?;
        let ids: Vec<[u8; 32]> = input.many(externals, Input::array)?;
        let bits = input.take(externals.div_ceil(8))?;
        let as_prev = |n: usize| bits[n / 8] >> (n % 8) & 1 == 1;
        self.externals = ids.into_iter().enumerate().map(|(n, id)| (id, as_prev(n))).collect();
        self.kinds = input.many(kinds, |input| {
            let length = input.varint()? as usize;
            let kind = std::str::from_utf8(input.take(length)?).map_err(|e| e.to_string())?;
            Ok((kind.to_owned(), input.varint()?))
        })?;
        need(input.is_done(), "bytes after the dictionary")?;
        need(self.authors.is_sorted() && self.externals.is_sorted(), "order in the dictionary")?;
        need(self.kinds.is_sorted(), "order of the kinds")
    }

    /// The heads of each page.
    fn read_pages(&mut self, file: &[u8], start: usize, end: usize) -> Plain<Vec<Vec<u8>>> {
        let mut input = Input::new(file.get(..end).ok_or("place of the ids")?, start);
        let (mut heads, mut first, mut sections) = (Vec::new(), 0, Vec::new());
        for (number, page) in self.pages.iter().enumerate() {
            let at = input.at;
            need(page.at == at, "place of a page")?;
            need(input.take(4)? == b"qpge", "magic of a page")?;
            let fields = [input.u32()?, input.u32()?, input.u32()?, input.u32()?];
            need(fields == [number, page.events, first, page.length], "fields of a page")?;
            let above = &file[at..input.at];
            let sum: [u8; 16] = input.array()?;
            let body = input.take(page.length)?;
            need(sum == sum16(&[above, body]), "checksum of a page")?;
            heads.push(body.to_vec());
            sections.push((format!("page {number}"), at..input.at));
            first += page.events;
        }
        self.sections.extend(sections);
        need(input.is_done(), "bytes between pages and ids")?;
        Ok(heads)
    }

    fn read_ids(&mut self, input: &mut Input<'_>, events: usize, content: &[u8]) -> Plain<()> {
        let at = input.at;
        self.ids = input.many(events, Input::array)?;
        self.section("ids", at..input.at);
        need(hash(self.ids.as_flattened()) == content, "checksum of the ids")
    }

    fn read_index(&mut self, input: &mut Input<'_>, events: usize) -> Plain<()> {
        let at = input.at;
        self.directory = input.many((1 << shape_of(events).0) + 1, Input::u32)?;
        self.section("directory", at..input.at);
        let at = input.at;
        self.entries = input.many(events, Input::u32)?;
        self.section("entries", at..input.at);
        Ok(())
    }

    fn read_feeds(&mut self, input: &mut Input<'_>, bytes: usize) -> Plain<()> {
        let at = input.at;
        let offsets = input.many(self.authors.len() + 1, Input::u32)?;
        self.section("offsets", at..input.at);
        let lists_at = input.at;
        let length = (at + bytes).checked_sub(lists_at).ok_or("bytes of the lists")?;
        let lists = input.take(length)?;
        self.section("lists", lists_at..input.at);
        need(offsets.last() == Some(&lists.len()), "end of the lists")?;
        for range in offsets.windows(2) {
            let list = lists.get(range[0]..range[1]).ok_or("offset of a list")?;
            self.feeds.push(feed_of(list)?);
        }
        Ok(())
    }

    fn read_filter(&mut self, input: &mut Input<'_>, bytes: usize) -> Plain<()> {
        let at = input.at;
        let filter = input.take(bytes)?;
        self.section("fold keys", at..input.at);
        let mut bits = &filter[..0];
        if bytes > 0 {
            let (front, sum) = filter.split_at(bytes.checked_sub(16).ok_or("fold keys")?);
            need(sum == sum16(&[front]), "checksum of the fold keys")?;
            bits = front;
        }
        self.filter = Some(bits.to_vec());
        Ok(())
    }

    fn read_events(&mut self, heads: &[Vec<u8>], payloads: &[Vec<u8>]) -> Plain<()> {
        let mut authors: Vec<NodeKey> = self.authors.iter().copied().map(NodeKey).collect();
        authors.push(NodeKey([0; 32]));
        let kinds: Vec<Arc<str>> =
            self.kinds.iter().map(|(kind, _)| kind.as_str().into()).collect();
        let mut events = Vec::new();
        for (number, page) in self.pages.iter().enumerate() {
            let mut context = Context::reader().with_dictionary(&authors, &kinds);
            context.start_page(events.len() as u64);
            let parts = decode_payloads(&payloads[number], page.events, &mut Context::reader());
            let mut parts = parts.map_err(|error| error.to_string())?.into_iter();
            decode_heads(&heads[number], page.events, &mut context, self, |head, signature| {
                let part = parts.next().unwrap();
                let event = pack::assemble(head, part, signature, &self.place.domain);
                let id = event.id;
                events.push(event);
                id
            })
            .map_err(|error| error.to_string())?;
        }
        need(events.iter().map(|event| event.id.0).eq(self.ids.iter().copied()), "ids")?;
        self.events = events;
        Ok(())
    }

    /// Where an event is.
    pub(crate) fn find(&self, id: &[u8; 32]) -> Option<usize> {
        let (bucket_bits, position_bits) = shape_of(self.ids.len());
        let bucket = bits_of(id, 0, bucket_bits) as usize;
        let mark = bits_of(id, bucket_bits, 32 - position_bits) as usize;
        let entries = &self.entries[self.directory[bucket]..self.directory[bucket + 1]];
        let candidates = entries.iter().filter(|entry| *entry >> position_bits == mark);
        let positions = candidates.map(|entry| entry & ((1 << position_bits) - 1));
        positions.into_iter().find(|position| self.ids[*position] == *id)
    }

    /// Whether an event may write a fold key.
    pub(crate) fn may_hold(&self, subject: &Subject) -> bool {
        let Some(filter) = &self.filter else { return true };
        let number =
            |from: usize| u64::from_le_bytes(subject.0[from..from + 8].try_into().unwrap());
        let (a, s) = (number(8), number(16) | 1);
        let bits = 8 * filter.len() as u128;
        !filter.is_empty()
            && (0..7u64).all(|n| {
                let fraction = a.wrapping_add(n.wrapping_mul(s));
                let bit = ((u128::from(fraction) * bits) >> 64) as usize;
                filter[bit / 8] >> (bit % 8) & 1 == 1
            })
    }

    /// The names of the kinds of a page.
    pub(crate) fn kinds_of(&self, bits: u64) -> Vec<&str> {
        let named = self.kinds.iter().enumerate();
        named.filter(|(n, _)| bits >> n.min(&63) & 1 == 1).map(|(_, (kind, _))| &**kind).collect()
    }
}

/// Seq and position of each event of a list.
fn feed_of(list: &[u8]) -> Plain<Vec<(u64, u64)>> {
    let mut input = Input::new(list, 0);
    let least = input.varint()?;
    let greatest = least.checked_add(input.varint()?).ok_or("seq")?;
    let (mut feed, mut next, mut seq) = (Vec::new(), 0, 0u64);
    while !input.is_done() {
        let code = input.varint()?;
        next = u64::wrapping_add(next, code >> 1);
        if code & 1 == 1 {
            seq = seq.wrapping_add_signed(input.signed()?);
        }
        feed.push((seq, next));
        (next, seq) = (next.wrapping_add(1), seq.wrapping_add(1));
    }
    let seqs = || feed.iter().map(|(seq, _)| *seq);
    need(seqs().min() == Some(least) && seqs().max() == Some(greatest), "seqs of a list")?;
    Ok(feed)
}

/// The pages of a payload file.
pub(crate) fn payload_pages(file: &[u8], pages: usize, content: &[u8]) -> Plain<Vec<Vec<u8>>> {
    let mut input = Input::new(file, 0);
    need(input.take(8)? == b"quipupay", "magic of payloads")?;
    need(input.u32()? == 1, "version of payloads")?;
    need(input.u32()? == pages, "pages of payloads")?;
    need(input.take(32)? == content, "payloads of another block")?;
    let entries =
        input.many(pages, |input| Ok((input.length()?, input.length()?, input.array::<16>()?)))?;
    let table = &file[..input.at];
    need(input.array::<16>()? == sum16(&[table]), "checksum of the table of payloads")?;
    let mut out = Vec::new();
    for (at, length, sum) in entries {
        need(at == input.at, "place of a payload page")?;
        let page = input.take(length)?;
        need(sum16(&[page]) == sum, "checksum of a payload page")?;
        out.push(page.to_vec());
    }
    need(input.is_done(), "bytes after the payloads")?;
    Ok(out)
}

/// A block's pages link to events of the block by position, and to others by their number.
impl Resolve for Block {
    fn id_at(&self, author: &NodeKey, seq: u64) -> Option<EventId> {
        let external = self.externals.get(usize::try_from(seq).ok()?)?;
        (author.0 == [0; 32]).then_some(EventId(external.0))
    }
    fn author_with_prefix(&self, _prefix: &[u8]) -> Option<NodeKey> {
        None
    }
    fn id_at_position(&self, position: u64) -> Option<EventId> {
        self.ids.get(usize::try_from(position).ok()?).copied().map(EventId)
    }
}

/// What an active file holds.
#[derive(Debug)]
pub(crate) struct Active {
    pub(crate) place: Place,
    /// Length of the file when it was made.
    pub(crate) made: usize,
    pub(crate) frames: Vec<Frame>,
    pub(crate) events: Vec<Event>,
    /// Where the good frames end.
    pub(crate) end: usize,
}

/// A frame of an active file.
#[derive(Debug)]
pub(crate) struct Frame {
    pub(crate) at: usize,
    pub(crate) begins_commit: bool,
    pub(crate) events: usize,
}

impl Active {
    /// Reads an active file up to its first bad frame.
    pub(crate) fn read(file: &[u8]) -> Plain<Self> {
        let mut input = Input::new(file, 0);
        need(input.take(8)? == b"quipuact", "magic")?;
        need(input.u32()? == 2, "version")?;
        let place = take_place(&mut input)?;
        let above = &file[..input.at];
        let sum: [u8; 16] = input.array()?;
        need(sum == sum16(&[above]), "checksum of the header")?;
        let made = input.length()?;
        let above = &file[..input.at];
        need(input.array::<16>()? == sum16(&[above]), "checksum of the length")?;
        let mut active =
            Self { place, made, frames: Vec::new(), events: Vec::new(), end: input.at };
        let mut chain: [u8; 8] = sum[..8].try_into().unwrap();
        let mut context = Context::reader();
        while let Ok((frame, body)) = take_frame(&mut input, &mut chain) {
            let events = pack::decode(body, &mut context, &Nothing, &place.domain);
            let mut events = events.map_err(|error| error.to_string())?;
            active.frames.push(Frame { events: events.len(), ..frame });
            active.events.append(&mut events);
            active.end = input.at;
        }
        need(active.end >= made, "damage in what was written at once")?;
        let later = (active.end..file.len()).find(|at| {
            let own = file.get(at + 8..at + 16).map(|own| own.try_into().unwrap());
            let frame = own.map(|mut own| take_frame(&mut Input::new(file, *at), &mut own));
            matches!(frame, Some(Ok((Frame { begins_commit: true, .. }, _))))
        });
        need(later.is_none(), "a bad frame before a good one")?;
        Ok(active)
    }

    /// Events of each commit.
    pub(crate) fn commits(&self) -> Vec<usize> {
        let mut commits = Vec::new();
        for frame in &self.frames {
            match commits.last_mut() {
                Some(last) if !frame.begins_commit => *last += frame.events,
                _ => commits.push(frame.events),
            }
        }
        commits
    }
}

fn take_frame<'a>(input: &mut Input<'a>, chain: &mut [u8; 8]) -> Plain<(Frame, &'a [u8])> {
    let at = input.at;
    let begins_commit = match input.take(4)? {
        b"qfr1" => true,
        b"qfr+" => false,
        _ => return Err("no frame".to_owned()),
    };
    let length = input.u32()?;
    need(input.take(8)? == chain, "the chain of frames")?;
    let above = &input.bytes[at..input.at];
    let sum: [u8; 8] = input.array()?;
    let body = input.take(length)?;
    let whole = [&(at as u64).to_le_bytes(), above, body].concat();
    need(sum == hash(&whole)[..8], "checksum of a frame")?;
    *chain = sum;
    Ok((Frame { at, begins_commit, events: 0 }, body))
}

/// Proofs by the end that they prove, in the order of the file, up to the first record that is not
/// whole.
pub(crate) fn read_proofs(file: &[u8], domain: &DomainId) -> Plain<Vec<(EventId, Vec<Event>)>> {
    let mut input = Input::new(file, 0);
    need(input.take(8)? == b"quipuprf", "magic")?;
    let mut proofs = Vec::new();
    while let Ok(body) = take_proof(&mut input) {
        let events = pack::decode(body, &mut Context::reader(), &Nothing, domain);
        let events = events.map_err(|error| error.to_string())?;
        let end = events.first().and_then(|first| first.header.prev);
        proofs.push((end.ok_or("a proof of nothing")?, events));
    }
    Ok(proofs)
}

fn take_proof<'a>(input: &mut Input<'a>) -> Plain<&'a [u8]> {
    let length = input.u32()?;
    let sum: [u8; 16] = input.array()?;
    let body = input.take(length)?;
    need(sum16(&[body]) == sum, "checksum of a proof")?;
    Ok(body)
}
