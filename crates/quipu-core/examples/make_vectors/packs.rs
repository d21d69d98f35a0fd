//! Packed batches, alone and in streams.

use quipu_core::codec::pack::{self, Context};
use quipu_core::event::Event;
use quipu_core::id::EventId;
use quipu_core::value::Value;
use serde_json::{Value as Json, json};

use crate::json::{Held, hex};
use crate::raw::{section, signed, varint};
use crate::world::{
    Place, START_MS, cell, domain, erased, event, event_json, node, root, salt, sign, small_log,
};

fn held_json(held: &Held) -> Json {
    let places = held.0.iter();
    places.map(|(author, seq, id)| json!({ "author": author.to_string(), "seq": seq, "uuid": id.to_string() })).collect()
}

/// How a stream is written.
#[derive(Clone, Copy, PartialEq, Eq)]
enum How {
    Plain,
    Compressed,
    /// As on a slow link.
    SlowSync,
}

impl How {
    fn writer(self) -> Context {
        match self {
            Self::Plain => Context::writer().without_compression(),
            Self::Compressed => Context::writer(),
            Self::SlowSync => {
                let mut writer = Context::writer().of_sync();
                writer.set_small();
                writer
            }
        }
    }

    fn reader(self) -> Context {
        if self == Self::SlowSync { Context::reader().of_sync() } else { Context::reader() }
    }
}

fn stream(name: &str, meaning: &str, held: &Held, how: How, batches: &[&[Event]]) -> Json {
    let (mut writer, mut reader) = (how.writer(), how.reader());
    let batches: Vec<Json> = batches
        .iter()
        .map(|events| {
            let bytes = pack::encode(events, &mut writer, held);
            let back = pack::decode(&bytes, &mut reader, held, &domain()).unwrap();
            assert_eq!(&back, events, "{name}");
            let events: Json = events.iter().map(|event| event_json(event, &domain())).collect();
            json!({ "bytes": hex(&bytes), "events": events })
        })
        .collect();
    json!({ "name": name, "meaning": meaning, "held": held_json(held), "compressed": how != How::Plain, "sync": how == How::SlowSync, "batches": batches })
}

/// The pieces of a batch of one event, to put wrong ones in.
#[derive(Clone)]
struct Parts {
    version: u8,
    count: Vec<u8>,
    columns: [Vec<u8>; 8],
    raw: Vec<u8>,
    head_tail: Vec<u8>,
    lengths: Vec<u8>,
    values: Vec<u8>,
    payload_raw: Vec<u8>,
    tail: Vec<u8>,
}

const FLAGS: usize = 0;
const AUTHORS: usize = 1;
const SEQS: usize = 2;
const MILLISECONDS: usize = 3;
const COUNTERS: usize = 4;
const LINK_COUNTS: usize = 5;
const LINKS: usize = 6;
const KINDS: usize = 7;

impl Parts {
    /// The batch that holds R alone.
    fn root() -> Self {
        let root = root();
        let value = root.payload_value().unwrap();
        let columns = [
            vec![0x12],
            varint(0),
            signed(0),
            signed(START_MS as i64),
            signed(0),
            varint(0),
            vec![],
            varint(0),
        ];
        let raw = [
            &[0][..],
            &node(1).0,
            &section(root.header.kind.as_bytes()),
            &root.signature.unwrap().0,
        ]
        .concat();
        Self {
            version: 1,
            count: varint(1),
            columns,
            raw,
            head_tail: vec![],
            lengths: [varint(8), varint(value.len() as u64 + 2)].concat(),
            values: value.to_vec(),
            payload_raw: salt(0).to_vec(),
            tail: vec![],
        }
    }

    fn joined(&self) -> Vec<u8> {
        self.columns.iter().flat_map(|column| section(column)).collect()
    }

    fn head(&self) -> Vec<u8> {
        [&[0][..], &section(&self.joined()), &section(&self.raw), &self.head_tail].concat()
    }

    fn payloads(&self) -> Vec<u8> {
        let columns = [section(&self.lengths), self.values.clone()].concat();
        [&[0][..], &section(&columns), &section(&self.payload_raw)].concat()
    }

    fn with_parts(&self, head: &[u8], payloads: &[u8]) -> Vec<u8> {
        [&[self.version][..], &self.count, &section(head), &section(payloads), &self.tail].concat()
    }

    fn bytes(&self) -> Vec<u8> {
        self.with_parts(&self.head(), &self.payloads())
    }

    /// A batch with another column.
    fn column(column: usize, bytes: Vec<u8>) -> Vec<u8> {
        let mut parts = Self::root();
        parts.columns[column] = bytes;
        parts.bytes()
    }

    fn changed(change: impl FnOnce(&mut Self)) -> Vec<u8> {
        let mut parts = Self::root();
        change(&mut parts);
        parts.bytes()
    }
}

/// A section whose columns are folded.
fn folded(length: u64, frame: &[u8], raw: &[u8]) -> Vec<u8> {
    folded_by(1, length, frame, raw)
}

fn folded_by(method: u8, length: u64, frame: &[u8], raw: &[u8]) -> Vec<u8> {
    [&[method][..], &varint(length), &section(frame), &section(raw)].concat()
}

#[expect(clippy::too_many_lines, reason = "a list of cases")]
fn refused() -> Json {
    let good = Parts::root();
    let bytes = good.bytes();
    let alone =
        pack::encode(&[root()], &mut Context::writer().without_compression(), &pack::Nothing);
    assert_eq!(hex(&bytes), hex(&alone));
    let bomb = zstd::bulk::compress(&vec![0; 8 << 20], 3).unwrap();
    let small = zstd::bulk::compress(&[0; 100], 3).unwrap();
    let link = |code: u64| (Parts::root(), code);
    let with_link = |code: u64, more: &[u8]| {
        let (mut parts, code) = link(code);
        parts.columns[LINK_COUNTS] = varint(1);
        parts.columns[LINKS] = [varint(code), more.to_vec()].concat();
        parts.bytes()
    };
    let raw_links = |count: u64, id: &[u8; 32]| {
        Parts::changed(|parts| {
            parts.columns[LINK_COUNTS] = varint(count);
            parts.columns[LINKS] = [1].repeat(count as usize);
            let at = 33;
            let many = id.repeat(count as usize);
            parts.raw.splice(at..at, many);
        })
    };
    let long = |n: u8| vec![n | 0x80, 0];
    let cases: Vec<(&str, Vec<u8>, &str)> = vec![
        ("empty", vec![], "malformed batch: empty"),
        (
            "version-0",
            Parts::changed(|p| p.version = 0),
            "batch of format version 0, this program reads version 1",
        ),
        (
            "version-2",
            Parts::changed(|p| p.version = 2),
            "batch of format version 2, this program reads version 1",
        ),
        ("version-alone", vec![1], "malformed batch: count"),
        ("count-varint-long", Parts::changed(|p| p.count = long(1)), "malformed batch: count"),
        (
            "count-over-64-bits",
            Parts::changed(|p| p.count = [0xff; 10].to_vec()),
            "malformed batch: count",
        ),
        ("count-8193", Parts::changed(|p| p.count = varint(8193)), "batch too large: events"),
        ("count-2^63", Parts::changed(|p| p.count = varint(1 << 63)), "batch too large: events"),
        (
            "count-0-with-an-event",
            Parts::changed(|p| p.count = varint(0)),
            "malformed batch: payloads",
        ),
        (
            "count-2-with-one-event",
            Parts::changed(|p| p.count = varint(2)),
            "malformed batch: payloads",
        ),
        ("head-cut", bytes[..40].to_vec(), "malformed batch: head"),
        ("head-length-huge", [&[1, 1][..], &varint(u64::MAX)].concat(), "malformed batch: head"),
        ("payloads-cut", bytes[..bytes.len() - 1].to_vec(), "malformed batch: payloads"),
        ("trailing-byte", Parts::changed(|p| p.tail = vec![0]), "malformed batch: trailing bytes"),
        (
            "trailing-byte-in-the-head",
            Parts::changed(|p| p.head_tail = vec![0]),
            "malformed batch: head length",
        ),
        (
            "head-method-3",
            good.with_parts(&[3, 0, 0], &good.payloads()),
            "malformed batch: columns",
        ),
        ("head-empty", good.with_parts(&[], &good.payloads()), "malformed batch: columns"),
        (
            "flags-for-two-events",
            Parts::column(FLAGS, vec![0x12, 0x12]),
            "malformed batch: head length",
        ),
        ("flags-missing", Parts::column(FLAGS, vec![]), "malformed batch: head length"),
        ("flag-unknown", Parts::column(FLAGS, vec![0x1a]), "malformed batch: flags"),
        ("flag-of-prev-too-large", Parts::column(FLAGS, vec![0x52]), "malformed batch: flags"),
        ("prev-is-parent-without-prev", Parts::column(FLAGS, vec![0x13]), "malformed batch: prev"),
        ("prev-of-an-unknown-feed", Parts::column(FLAGS, vec![0x02]), "malformed batch: prev"),
        (
            "prev-held-but-not-here",
            Parts::column(FLAGS, vec![0x32]),
            "batch refers to an event that is not here (previous event of a feed)",
        ),
        ("author-not-introduced", Parts::column(AUTHORS, varint(1)), "malformed batch: author"),
        ("author-column-empty", Parts::column(AUTHORS, vec![]), "malformed batch: varint"),
        (
            "author-column-too-long",
            Parts::column(AUTHORS, vec![0, 0]),
            "malformed batch: trailing bytes in a column",
        ),
        ("author-varint-long", Parts::column(AUTHORS, long(0)), "malformed batch: varint"),
        (
            "author-introduced-in-another-way",
            Parts::changed(|p| p.raw[0] = 32),
            "malformed batch: author",
        ),
        (
            "author-prefix-unknown",
            Parts::changed(|p| p.raw[0] = 1),
            "batch refers to an event that is not here (author)",
        ),
        ("author-key-cut", Parts::changed(|p| p.raw.truncate(20)), "malformed batch: author"),
        (
            "seq-varint-too-long",
            Parts::column(SEQS, [0xff; 11].to_vec()),
            "malformed batch: varint",
        ),
        (
            "clock-over-48-bits",
            Parts::column(MILLISECONDS, signed(1 << 48)),
            "malformed batch: clock",
        ),
        ("clock-below-zero", Parts::column(MILLISECONDS, signed(-1)), "malformed batch: clock"),
        ("counter-over-16-bits", Parts::column(COUNTERS, signed(65_536)), "malformed batch: clock"),
        ("counter-below-zero", Parts::column(COUNTERS, signed(-1)), "malformed batch: clock"),
        (
            "counter-overflows",
            Parts::changed(|p| {
                p.columns[MILLISECONDS] = signed(0);
                p.columns[COUNTERS] = signed(i64::MAX);
            }),
            "malformed batch: clock",
        ),
        ("129-parents", Parts::column(LINK_COUNTS, varint(129)), "batch too large: parents"),
        (
            "parents-count-huge",
            Parts::column(LINK_COUNTS, varint(u64::MAX)),
            "batch too large: parents",
        ),
        ("parent-missing", Parts::column(LINK_COUNTS, varint(1)), "malformed batch: varint"),
        ("parent-twice", raw_links(2, &EventId::of(b"x").0), "malformed batch: parent given twice"),
        ("link-to-itself", with_link(0, &[]), "malformed batch: distance"),
        ("link-before-the-stream", with_link(1 << 2, &[]), "malformed batch: distance"),
        ("link-raw-with-a-distance", with_link((1 << 2) | 1, &[]), "malformed batch: link"),
        ("link-code-3", with_link(3, &[]), "malformed batch: link"),
        (
            "link-held-but-not-here",
            with_link(2, &varint(7)),
            "batch refers to an event that is not here (parent)",
        ),
        (
            "link-held-by-an-unknown-author",
            with_link((5 << 2) | 2, &varint(7)),
            "malformed batch: author",
        ),
        ("link-held-without-seq", with_link(2, &[]), "malformed batch: varint"),
        (
            "author-introduced-twice",
            Parts::changed(|p| {
                p.columns[LINK_COUNTS] = varint(1);
                p.columns[LINKS] = [varint((1 << 2) | 2), varint(1)].concat();
                let again = p.raw[..33].to_vec();
                p.raw.splice(33..33, again);
            }),
            "malformed batch: author introduced twice",
        ),
        ("kind-not-introduced", Parts::column(KINDS, varint(1)), "malformed batch: kind"),
        ("kind-not-utf-8", Parts::changed(|p| p.raw[34] = 0xff), "malformed batch: kind"),
        (
            "kind-too-long",
            Parts::changed(|p| {
                p.raw.splice(33..47, section(&[b'a'; 65]));
            }),
            "batch too large: kind",
        ),
        (
            "kind-length-huge",
            Parts::changed(|p| {
                p.raw.splice(33..34, varint(u64::MAX));
            }),
            "malformed batch: kind",
        ),
        ("signature-cut", Parts::changed(|p| _ = p.raw.pop()), "malformed batch: signature"),
        (
            "raw-too-long",
            Parts::changed(|p| p.raw.push(0)),
            "malformed batch: trailing bytes in a column",
        ),
        (
            "columns-unfold-to-less",
            good.with_parts(&folded(101, &small, &good.raw), &good.payloads()),
            "malformed batch: columns",
        ),
        (
            "columns-unfold-to-more",
            good.with_parts(&folded(99, &small, &good.raw), &good.payloads()),
            "malformed batch: columns",
        ),
        (
            "columns-bomb",
            good.with_parts(&folded(4 << 20, &bomb, &good.raw), &good.payloads()),
            "malformed batch: columns",
        ),
        (
            "columns-bomb-that-says-so",
            good.with_parts(&folded(8 << 20, &bomb, &good.raw), &good.payloads()),
            "batch too large: columns",
        ),
        (
            "columns-length-huge",
            good.with_parts(&folded(u64::MAX, &bomb, &good.raw), &good.payloads()),
            "batch too large: columns",
        ),
        (
            "columns-unfold-to-less-by-method-2",
            good.with_parts(&folded_by(2, 101, &small[4..], &good.raw), &good.payloads()),
            "malformed batch: columns",
        ),
        (
            "columns-bomb-by-method-2",
            good.with_parts(&folded_by(2, 4 << 20, &bomb[4..], &good.raw), &good.payloads()),
            "malformed batch: columns",
        ),
        (
            "columns-length-huge-by-method-2",
            good.with_parts(&folded_by(2, u64::MAX, &bomb[4..], &good.raw), &good.payloads()),
            "batch too large: columns",
        ),
        (
            "columns-with-a-magic-number-by-method-2",
            good.with_parts(&folded_by(2, 100, &small, &good.raw), &good.payloads()),
            "malformed batch: columns",
        ),
        (
            "columns-not-zstd",
            good.with_parts(&folded(100, &[0; 20], &good.raw), &good.payloads()),
            "malformed batch: columns",
        ),
        (
            "columns-missing",
            good.with_parts(
                &[&[0][..], &section(&[0; 7]), &section(&good.raw)].concat(),
                &good.payloads(),
            ),
            "malformed batch: column",
        ),
        (
            "nine-columns",
            good.with_parts(
                &[&[0][..], &section(&[good.joined(), vec![0]].concat()), &section(&good.raw)]
                    .concat(),
                &good.payloads(),
            ),
            "malformed batch: head length",
        ),
        (
            "payloads-bomb",
            good.with_parts(&good.head(), &folded(4 << 20, &bomb, &good.payload_raw)),
            "malformed batch: columns",
        ),
        ("salt-of-33", Parts::changed(|p| p.lengths[0] = 33), "malformed batch: payloads"),
        ("salt-missing", Parts::changed(|p| p.payload_raw.clear()), "malformed batch: payloads"),
        ("salt-too-long", Parts::changed(|p| p.payload_raw.push(0)), "malformed batch: payloads"),
        (
            "payload-too-long",
            Parts::changed(|p| p.lengths = [varint(8), varint(65_536 + 3)].concat()),
            "batch too large: payload",
        ),
        (
            "payload-length-huge",
            Parts::changed(|p| p.lengths = [varint(8), varint(u64::MAX)].concat()),
            "batch too large: payload",
        ),
        ("payload-cut", Parts::changed(|p| _ = p.values.pop()), "malformed batch: payloads"),
        ("payload-and-a-byte", Parts::changed(|p| p.values.push(0)), "malformed batch: payloads"),
        (
            "absent-payload-without-id",
            Parts::changed(|p| {
                p.lengths = [varint(0), varint(0), varint(40)].concat();
                p.values.clear();
                p.payload_raw.clear();
            }),
            "malformed batch: payloads",
        ),
        (
            "absent-payload-size-over-32-bits",
            Parts::changed(|p| {
                p.lengths = [varint(0), varint(0), varint(1 << 32)].concat();
                p.values.clear();
                p.payload_raw = vec![7; 32];
            }),
            "malformed batch: payloads",
        ),
        (
            "absent-payload-without-subject",
            Parts::changed(|p| {
                p.lengths = [varint(0), varint(1), varint(40)].concat();
                p.values.clear();
                p.payload_raw = vec![7; 32];
            }),
            "malformed batch: payloads",
        ),
    ];
    let mut wrong = Vec::new();
    let vectors: Vec<Json> = cases
        .into_iter()
        .map(|(name, bytes, error)| {
            let result = pack::decode(&bytes, &mut Context::reader(), &pack::Nothing, &domain());
            let given = result.map_or_else(|e| e.to_string(), |_| "accepted".to_owned());
            if given != error {
                wrong.push(format!("{name}: expected {error:?}, got {given:?}"));
            }
            json!({ "name": name, "bytes": hex(&bytes), "error": error })
        })
        .collect();
    assert!(wrong.is_empty(), "{wrong:#?}");
    vectors.into()
}

/// What somebody writes in the field, after an event that the reader holds.
fn records(after: &Event) -> Vec<Event> {
    let mut feed = vec![after.clone()];
    for n in 0..12u64 {
        let last = &feed[feed.len() - 1];
        let value = cell(&format!("R-{}", n % 3), "temperature", (n * 7).into());
        let place = Place {
            author: 1,
            prev: Some(last),
            parents: vec![last.id],
            logseq: ((START_MS + 20_000 + n * 900) << 16) | 1,
        };
        feed.push(event("record.set", &value, place));
    }
    feed.split_off(1)
}

pub(crate) fn packs() -> Json {
    let log = small_log();
    let held = Held(log.iter().take(5).map(|e| (e.header.author, e.header.seq, e.id)).collect());
    let nothing = Held::default();
    let stranger = event(
        "note",
        &"links to what the reader holds and the stream has not seen".into(),
        Place {
            author: 3,
            prev: None,
            parents: vec![log[3].id, log[4].id, EventId::of(b"unknown")],
            logseq: (START_MS + 9000) << 16,
        },
    );
    let gone = [erased(log[2].clone()), erased(log[3].clone())];
    let first = [log[0].clone(), log[1].clone(), gone[0].clone(), gone[1].clone()];
    let last_clock = event(
        "note",
        &Value::Null,
        Place { author: 1, prev: Some(&log[1]), parents: vec![log[1].id], logseq: u64::MAX },
    );
    let mut feed = vec![log[0].clone()];
    for n in 1..130u64 {
        let last = &feed[feed.len() - 1];
        let value = cell(&format!("R-{}", n % 7), "name", n.into());
        let place = Place {
            author: 1,
            prev: Some(last),
            parents: vec![last.id],
            logseq: ((START_MS + n / 4) << 16) | (n % 4),
        };
        let next = event("field.set", &value, place);
        let due = next.header.seq.is_multiple_of(64) || n == 129;
        feed.push(if due { sign(1, next) } else { next });
    }
    let records = records(&log[4]);
    json!({
        "format": "pack v1",
        "domain": domain().to_string(),
        "streams": [
            stream("root", "R alone", &nothing, How::Plain, &[&log[..1]]),
            stream("empty", "a batch of nothing", &nothing, How::Plain, &[&[]]),
            stream("small-log", "two feeds, every way of giving prev but the held one", &nothing, How::Plain, &[&log]),
            stream("two-batches", "the second batch refers to events, authors and kinds of the first", &nothing, How::Plain, &[&log[..3], &log[3..]]),
            stream("reader-holds-some", "links by author and seq, authors by the first 6 bytes of the key", &held, How::Plain, &[&log[5..], &[sign(3, stranger)]]),
            stream("erased", "payloads left out, without and with a subject", &nothing, How::Plain, &[&first]),
            stream("last-clock", "the largest clock", &nothing, How::Plain, &[&log[..2], &[sign(1, last_clock)]]),
            stream("long-feed-compressed", "130 events with three signatures; zstd may give other bytes elsewhere", &nothing, How::Compressed, &[&feed]),
            stream("slow-link", "what both ends know beforehand: kinds by index, columns by method 2", &held, How::SlowSync, &[&records[..1], &records[1..]]),
        ],
        "stream_kinds": pack::STREAM_KINDS.to_vec(),
        "dictionary": hex(&pack::PAYLOADS),
        "refused_meaning": "each is the batch of the stream \"root\" with one change, read by a reader that holds nothing",
        "refused": refused(),
    })
}
