//! Writes `test-vectors/bundle.json`: `cargo run -p quipu-node --example make_bundle_vectors -- DIR`.
//!
//! Everything is fixed. A file that exists already is left alone, so that the vectors of a format version
//! are never made anew. Each refusal that is written down here is checked before it is written.
#![expect(clippy::print_stdout, reason = "it tells what it wrote")]

use std::path::Path;

use quipu_core::codec::pack::{self, Context, Nothing};
use quipu_core::event::{Draft, Event, EventSignature, Log, LogSeq, Parents, Position};
use quipu_core::id::ArtifactId;
use quipu_core::statement::{Claim, Statement};
use quipu_node::bundle::BundleWriter;
use serde_json::{Value as Json, json};

#[path = "../../../quipu-core/tests/vectors/json.rs"]
#[expect(dead_code, reason = "shared with other vectors")]
mod json;
#[path = "../../tests/bundles/read.rs"]
#[expect(dead_code, reason = "the tests use the rest")]
mod read;
#[path = "../../../quipu-core/examples/make_vectors/world.rs"]
#[expect(dead_code, reason = "shared with other vectors")]
mod world;

use json::hex;
use world::{Place, START_MS, block, domain, event, node, root, salt, sign, small_log};

const NAME: &str = "bundle.json";

fn main() -> std::io::Result<()> {
    let directory = std::env::args().nth(1).unwrap_or_else(|| "test-vectors".to_owned());
    let path = Path::new(&directory).join(NAME);
    if path.exists() {
        println!("{NAME}: is there already");
        return Ok(());
    }
    std::fs::create_dir_all(&directory)?;
    let vectors = json!({
        "format": "bundle v2, and v1", "good": good(), "decode_only": decode_only(),
        "refused": refused(),
    });
    std::fs::write(&path, format!("{}\n", serde_json::to_string_pretty(&vectors)?))?;
    println!("{NAME}: written");
    Ok(())
}

/// The small log, and a claim of an artifact.
fn events() -> Vec<Event> {
    let mut log = small_log();
    let claim = Claim { key: ArtifactId::of(b"hello"), size: 5, type_tag: None };
    let (kind, value) = Statement::Put(claim).to_value();
    let place = Place {
        author: 2,
        prev: log.last(),
        parents: vec![log[6].id],
        logseq: (START_MS + 7000) << 16,
    };
    let put = event(kind, &value, place);
    log.push(sign(2, put));
    log
}

/// The root event, and one of the published log.
fn published() -> Vec<Event> {
    let root = root();
    let at = Position {
        author: node(1),
        seq: 2,
        prev: Some(root.id),
        parents: Parents::from_slice(&[root.id]),
        logseq: LogSeq((START_MS + 1000) << 16),
    };
    let payload = block(&"for everybody".into(), &salt(1));
    let note = Draft { log: Log::Published, kind: "note".into(), payload }.place(at, &domain());
    vec![root, sign(1, note)]
}

/// One stream of batches, each up to one of the places.
fn batches(events: &[Event], ends: &[usize]) -> Vec<Vec<u8>> {
    let mut context = Context::writer();
    let starts = [0].iter().chain(ends);
    let ranges = starts.zip(ends).map(|(start, end)| &events[*start..*end]);
    ranges.map(|events| pack::encode(events, &mut context, &Nothing)).collect()
}

/// A bundle of version 2.
fn bundle(log: Log, batches: &[Vec<u8>], artifacts: &[&[u8]]) -> Vec<u8> {
    let mut writer = BundleWriter::begin(Vec::new(), &domain(), log).unwrap();
    batches.iter().for_each(|batch| writer.put(batch).unwrap());
    writer.end_events().unwrap();
    for mut bytes in artifacts.iter().copied() {
        let (key, size) = (ArtifactId::of(bytes), bytes.len() as u64);
        writer.artifact(&key, size, &mut bytes).unwrap();
    }
    writer.end().unwrap().0
}

fn record(bytes: &[u8]) -> Vec<u8> {
    let length = u32::try_from(bytes.len()).unwrap();
    let check = &ArtifactId::of(bytes).0[..8];
    [&length.to_le_bytes(), bytes, check].concat()
}

/// A bundle of version 1: nothing says which log it is of, and nothing follows the events.
fn version_1(batches: &[Vec<u8>]) -> Vec<u8> {
    let mut out = b"quipuB\x00\x01".to_vec();
    out.extend_from_slice(&domain().0);
    batches.iter().for_each(|batch| out.extend(record(batch)));
    out.extend(record(&[]));
    out
}

/// A bundle of version 2 with these records after the events.
fn with_records(records: &[&[u8]]) -> Vec<u8> {
    let mut out = bundle(Log::Internal, &batches(&events(), &[8]), &[]);
    out.truncate(out.len() - 12);
    records.iter().for_each(|bytes| out.extend(record(bytes)));
    out
}

fn head(of: &[u8], size: u64) -> Vec<u8> {
    [&ArtifactId::of(of).0[..], &size.to_le_bytes()].concat()
}

fn whole() -> Vec<u8> {
    bundle(Log::Internal, &batches(&events(), &[3, 8]), &[b"hello"])
}

fn vectors(cases: Vec<(&str, Vec<u8>)>) -> Json {
    let vector = |(name, file): (&str, Vec<u8>)| {
        let (reads, error) = read::read(&file);
        assert_eq!(error, None, "{name}");
        json!({ "name": name, "bytes": hex(&file), "reads": reads })
    };
    cases.into_iter().map(vector).collect()
}

fn good() -> Json {
    vectors(vec![
        ("version-2", whole()),
        ("of-the-published-log", bundle(Log::Published, &batches(&published(), &[2]), &[])),
        ("artifacts-alone", bundle(Log::Internal, &[], &[b"", b"hello"])),
        ("empty", bundle(Log::Internal, &[], &[])),
    ])
}

fn decode_only() -> Json {
    let log = events();
    vectors(vec![
        ("version-1", version_1(&batches(&log, &[3, 8]))),
        ("an-artifact-in-small-pieces", with_records(&[&head(b"hello", 5), b"he", b"llo", b""])),
        ("bytes-of-another-artifact", with_records(&[&head(b"world", 5), b"hello", b""])),
        ("bytes-after-the-end", [whole(), b"more".to_vec()].concat()),
    ])
}

fn set(mut file: Vec<u8>, at: usize, byte: u8) -> Vec<u8> {
    file[at] = byte;
    file
}

fn refused() -> Json {
    let log = events();
    let (file, one) = (whole(), batches(&log, &[3, 8]));
    let second = 41 + one[0].len() + 12;
    let events_end = second + one[1].len() + 12;
    let cut = |length: usize| file[..length].to_vec();
    let mut forged = log.clone();
    forged[2].signature = Some(EventSignature([7; 64]));
    let early = "it ends early: what was whole is imported";
    let damaged = "a record is damaged: what was before it is imported";
    let cases: Vec<(&str, Vec<u8>, &str)> = vec![
        ("nothing", vec![], "not a bundle: too short"),
        ("cut-in-the-domain", cut(39), "not a bundle: too short"),
        ("cut-before-the-log", cut(40), "not a bundle: too short"),
        ("magic", set(file.clone(), 0, b'Q'), "not a bundle, or one of another version"),
        ("version-0", set(file.clone(), 7, 0), "not a bundle, or one of another version"),
        ("version-3", set(file.clone(), 7, 3), "not a bundle, or one of another version"),
        ("of-no-log", set(file.clone(), 40, 2), "not a bundle: it is of no log"),
        ("cut-in-a-length", cut(second + 3), early),
        ("cut-in-a-batch", cut(second + 20), early),
        ("cut-after-a-batch", cut(events_end), early),
        ("cut-after-the-events", cut(events_end + 12), early),
        ("cut-in-an-artifact", cut(file.len() - 30), early),
        ("cut-before-the-end", cut(file.len() - 12), early),
        (
            "record-over-16-mib",
            set(file.clone(), second + 3, 1 << 1),
            "a record is too large: the file is damaged",
        ),
        ("batch-flipped", set(file.clone(), second + 30, 0xff), damaged),
        ("checksum-flipped", set(file.clone(), second - 1, 0xff), damaged),
        ("checksum-of-the-end-flipped", set(file.clone(), file.len() - 1, 0xff), damaged),
        (
            "no-batch",
            bundle(Log::Internal, &[vec![9]], &[]),
            "batch of format version 9, this program reads version 1",
        ),
        (
            "signature-of-nobody",
            bundle(Log::Internal, &batches(&forged, &[8]), &[]),
            "signature on bafyr4iggixtj",
        ),
        (
            "batches-swapped",
            bundle(Log::Internal, &[one[1].clone(), one[0].clone()], &[]),
            "malformed batch: author",
        ),
        (
            "artifact-head-of-39-bytes",
            with_records(&[&head(b"hello", 5)[..39], b"hello", b""]),
            "a record that should begin an artifact does not",
        ),
        (
            "artifact-that-ends-early",
            with_records(&[&head(b"hello", 5), b"hell", b"", b""]),
            "an artifact ends early",
        ),
        (
            "artifact-that-is-longer",
            with_records(&[&head(b"hello", 5), b"hello!", b""]),
            "an artifact is longer than it says",
        ),
    ];
    let vector = |(name, file, expected): (&str, Vec<u8>, &str)| {
        let (reads, error) = read::read(&file);
        let begins = error.as_deref().is_some_and(|error| error.starts_with(expected));
        assert!(begins, "{name}: {error:?}");
        json!({ "name": name, "bytes": hex(&file), "error": error, "reads": reads })
    };
    cases.into_iter().map(vector).collect()
}
