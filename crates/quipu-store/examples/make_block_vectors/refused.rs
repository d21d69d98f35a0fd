//! Files that are not right, each for one reason: what is changed in a good one, and when a store says
//! what.

use std::ops::Range;

use quipu_core::id::DomainId;
use serde_json::{Value as Json, json};

use crate::json::hex;
use crate::made::{Made, files_named};
use crate::plain::{Active, Block};
use crate::stores::{change, judge, patches_json};

fn sum16(bytes: &[u8]) -> [u8; 16] {
    blake3::hash(bytes).as_bytes()[..16].try_into().unwrap()
}

/// Makes the checksum of a block's header right.
pub(crate) fn close_header(file: &mut [u8]) {
    let dictionary = u64::from_le_bytes(file[72..80].try_into().unwrap()) as usize;
    let sum = sum16(&[&file[..88], &file[104..104 + dictionary]].concat());
    file[88..104].copy_from_slice(&sum);
}

/// Makes the checksum of a block's footer right.
pub(crate) fn close_footer(file: &mut [u8]) {
    let trailer = file.len() - 64;
    let at = u64::from_le_bytes(file[trailer..trailer + 8].try_into().unwrap()) as usize;
    let digest = *blake3::hash(&file[at..trailer]).as_bytes();
    file[trailer + 16..trailer + 48].copy_from_slice(&digest);
}

/// Makes the checksums of an active file's header right.
fn close_active(file: &mut [u8]) {
    let sum = sum16(&file[..64]);
    file[64..80].copy_from_slice(&sum);
    let sum = sum16(&file[..88]);
    file[88..104].copy_from_slice(&sum);
}

/// Makes the checksum of the table of a payload file right.
fn close_payload(file: &mut [u8]) {
    let pages = u32::from_le_bytes(file[12..16].try_into().unwrap()) as usize;
    let end = 48 + 32 * pages;
    let sum = sum16(&file[..end]);
    file[end..end + 16].copy_from_slice(&sum);
}

/// A frame that is right in itself, but was written after another one.
fn another_chain(at: usize) -> Change {
    edit(move |file| {
        file[at + 8] ^= 1;
        let length = u32::from_le_bytes(file[at + 4..at + 8].try_into().unwrap()) as usize;
        let body = &file[at + 24..at + 24 + length];
        let whole = [&(at as u64).to_le_bytes(), &file[at..at + 16], body].concat();
        let sum = sum16(&whole);
        file[at + 16..at + 24].copy_from_slice(&sum[..8]);
    })
}

type Edit = Box<dyn Fn(&mut Vec<u8>)>;

/// What is done to a file.
enum Change {
    Remove,
    Edit(Edit),
}

struct Case {
    name: &'static str,
    store: &'static str,
    path: &'static str,
    change: Change,
    /// When a store says so, and what kind of thing it is.
    told: (&'static str, &'static str),
}

fn edit(change: impl Fn(&mut Vec<u8>) + 'static) -> Change {
    Change::Edit(Box::new(change))
}

fn flip(at: usize) -> Change {
    edit(move |file| file[at] ^= 1)
}

fn cut(length: usize) -> Change {
    edit(move |file| file.truncate(length))
}

fn append(bytes: &'static [u8]) -> Change {
    edit(move |file| file.extend_from_slice(bytes))
}

/// Other bytes, with checksums that fit them.
fn set(at: usize, byte: u8, close: fn(&mut [u8])) -> Change {
    edit(move |file| {
        file[at] = byte;
        close(file);
    })
}

const OPEN: (&str, &str) = ("open", "damaged");
const READ: (&str, &str) = ("read", "damaged");
const VERSION: (&str, &str) = ("open", "version");
const DOMAIN: (&str, &str) = ("open", "domain");
const CHECKSUM: (&str, &str) = ("verify", "checksum");
const INDEX: (&str, &str) = ("verify", "index");
const TORN: (&str, &str) = ("open", "torn");
const SIGNATURE: (&str, &str) = ("verify", "signature");

fn blocks(stores: &[Made]) -> Vec<Case> {
    let (store, path) = ("sealed", "internal/000000.block");
    let files = files_named(stores, store);
    let file = &files.iter().find(|file| file.0 == path).unwrap().1;
    let payload = &files.iter().find(|file| file.0 == "internal/000000.payload").unwrap().1;
    let block = Block::read(file, payload).unwrap();
    let place = |name: &str| -> Range<usize> {
        block.sections.iter().find(|section| section.0 == name).unwrap().1.clone()
    };
    let (footer, trailer) = (place("footer"), place("trailer"));
    let filter = place("fold keys");
    let empty_filter = edit(move |file| {
        let bits = filter.start..filter.end - 16;
        file[bits.clone()].fill(0);
        let sum = sum16(&file[bits]);
        file[filter.end - 16..filter.end].copy_from_slice(&sum);
    });
    let least_clock = footer.start + 80;
    let case = |name, change, told| Case { name, store, path, change, told };
    vec![
        case("block-missing", Change::Remove, OPEN),
        case("block-empty", cut(0), OPEN),
        case("block-magic", flip(0), OPEN),
        case("block-version-0", set(8, 0, close_header), VERSION),
        case("block-version-3", set(8, 3, close_header), VERSION),
        case("block-of-the-published-log", set(12, 1, close_header), OPEN),
        case("block-of-no-log", set(12, 2, close_header), OPEN),
        case("block-of-another-number", set(16, 1, close_header), OPEN),
        case("block-of-another-ordinal", set(24, 1, close_header), OPEN),
        case("block-of-another-domain", set(32, 0, close_header), DOMAIN),
        case("block-domain-flipped", flip(32), OPEN),
        case("block-fewer-events", set(64, 81, close_header), OPEN),
        case("block-fewer-pages", set(68, 2, close_header), OPEN),
        case("dictionary-flipped", flip(place("dictionary").start + 12), OPEN),
        case("page-number-flipped", flip(place("page 1").start + 4), READ),
        case("page-position-flipped", flip(place("page 1").start + 12), READ),
        case("columns-flipped", flip(place("page 1").start + 50), READ),
        case("ids-flipped", flip(place("ids").start + 40 * 32), READ),
        case("directory-flipped", flip(place("directory").start + 4), CHECKSUM),
        case("entries-flipped", flip(place("entries").start + 8), CHECKSUM),
        case("offsets-flipped", flip(place("offsets").start + 4), CHECKSUM),
        case("lists-flipped", flip(place("lists").end - 1), CHECKSUM),
        case("fold-keys-flipped", flip(place("fold keys").start), READ),
        case("fold-keys-left-out", empty_filter, INDEX),
        case("footer-flipped", flip(footer.end - 1), OPEN),
        case("footer-with-another-clock", set(least_clock, 1, close_footer), INDEX),
        case("block-cut-in-the-footer", cut(footer.start + 20), OPEN),
        case("block-cut-in-the-trailer", cut(trailer.end - 1), OPEN),
        case("trailer-flipped", flip(trailer.start), OPEN),
        case("block-longer", append(&[0]), OPEN),
    ]
}

fn payloads() -> Vec<Case> {
    let (store, path) = ("sealed", "internal/000000.payload");
    let pages_at = 48 + 3 * 32 + 16;
    let case = |name, change, told| Case { name, store, path, change, told };
    vec![
        case("payloads-missing", Change::Remove, OPEN),
        case("payloads-magic", flip(0), OPEN),
        case("payloads-version-0", set(8, 0, close_payload), VERSION),
        case("payloads-version-2", set(8, 2, close_payload), VERSION),
        case("payloads-of-another-block", set(16, 0, close_payload), OPEN),
        case("payloads-fewer-pages", flip(12), OPEN),
        case("payloads-table-flipped", flip(48), OPEN),
        case("payloads-flipped", flip(pages_at + 40), READ),
        case("payloads-cut-in-the-table", cut(pages_at - 1), OPEN),
        case("payloads-cut", edit(|file| file.truncate(file.len() - 1)), READ),
        case("payloads-longer", append(&[0]), INDEX),
    ]
}

fn active_files(stores: &[Made]) -> (Vec<Case>, Vec<Case>) {
    let (store, path) = ("active", "internal/000000.active");
    let file = &files_named(stores, store)[0].1;
    let frames = Active::read(file).unwrap().frames;
    let last = frames.last().unwrap().at;
    let case = |name, change, told| Case { name, store, path, change, told };
    let made = files_named(stores, "erased")
        .into_iter()
        .find(|file| file.0 == "internal/000001.active")
        .unwrap();
    let refused = vec![
        case("active-missing", Change::Remove, ("open", "missing")),
        case("active-magic", flip(0), OPEN),
        case("active-version-1", set(8, 1, close_active), VERSION),
        case("active-version-3", set(8, 3, close_active), VERSION),
        case("active-of-the-published-log", set(12, 1, close_active), OPEN),
        case("active-of-no-log", set(12, 2, close_active), OPEN),
        case("active-of-another-number", set(16, 1, close_active), OPEN),
        case("active-of-another-ordinal", set(24, 1, close_active), OPEN),
        case("active-of-another-domain", set(32, 0, close_active), DOMAIN),
        case("active-domain-flipped", flip(32), OPEN),
        case("active-length-flipped", flip(80), OPEN),
        case("active-cut-in-the-header", cut(100), OPEN),
        case("frame-flipped", flip(frames[2].at + 60), OPEN),
        case("frame-of-another-chain", flip(frames[2].at + 8), OPEN),
        case("frame-of-another-chain-with-its-checksum", another_chain(frames[2].at), OPEN),
        case("frames-cut-that-were-made-at-once", cut(frames[1].at - 1), OPEN),
        Case {
            name: "frame-flipped-that-was-made-at-once",
            store: "erased",
            path: "internal/000001.active",
            change: flip(made.1.len() - 1),
            told: OPEN,
        },
    ];
    let torn = vec![
        case("last-frame-cut", cut(last + 60), TORN),
        case("last-frame-cut-in-its-head", cut(last + 3), TORN),
        case("last-frame-flipped", flip(file.len() - 1), TORN),
        case("zeros-after-the-last-frame", append(&[0; 16]), TORN),
        case("no-good-commit-follows", edit(move |file| file[last - 1..].fill(0)), TORN),
    ];
    (refused, torn)
}

fn proofs(stores: &[Made]) -> Vec<Case> {
    let (store, path) = ("proven", "internal/proofs");
    let files = files_named(stores, store);
    let length = files.iter().find(|file| file.0 == path).unwrap().1.len();
    let case = |name, change, told| Case { name, store, path, change, told };
    vec![
        case("proofs-missing", Change::Remove, SIGNATURE),
        case("proofs-magic", flip(0), OPEN),
        case("proofs-cut", cut(length - 1), SIGNATURE),
        case("proofs-flipped", flip(40), SIGNATURE),
    ]
}

fn vector(stores: &[Made], domain: DomainId, case: &Case) -> Json {
    let files = files_named(stores, case.store);
    let mut vector = json!({ "name": case.name, "store": case.store, "path": case.path });
    match &case.change {
        Change::Remove => vector["removed"] = true.into(),
        Change::Edit(edit) => {
            let before = &files.iter().find(|file| file.0 == case.path).unwrap().1;
            let mut after = before.clone();
            edit(&mut after);
            vector["patches"] = patches_json(before, &after);
            if after.len() < before.len() {
                vector["length"] = after.len().into();
            }
            if after.len() > before.len() {
                vector["appended"] = hex(&after[before.len()..]).into();
            }
        }
    }
    let changed = change(&files, &vector);
    let told = judge(&changed, domain);
    assert_eq!(
        (&told["when"], &told["kind"]),
        (&case.told.0.into(), &case.told.1.into()),
        "{}: {told}",
        case.name
    );
    let more = told.as_object().unwrap().clone();
    vector.as_object_mut().unwrap().extend(more);
    if case.told == TORN {
        let file = &changed.iter().find(|file| file.0 == case.path).unwrap().1;
        let left = Active::read(file).unwrap();
        vector["left"] = json!({ "events": left.events.len(), "bytes": left.end });
    }
    vector
}

/// Files that are refused, and files whose end was never committed.
pub(crate) fn refused(stores: &[Made], domain: DomainId) -> (Json, Json) {
    let (active, torn) = active_files(stores);
    let refused: Vec<Case> =
        [blocks(stores), payloads(), active, proofs(stores)].into_iter().flatten().collect();
    let vectors = |cases: &[Case]| cases.iter().map(|case| vector(stores, domain, case)).collect();
    (vectors(&refused), vectors(&torn))
}
