//! Reads the store's files in `test-vectors/store-v2.json`, twice: by a plain reader that was written
//! from `docs/formats/block.md` alone, and by the store. Both must find in them what the vectors say, and
//! refuse what is to be refused. Never writes them.

#[path = "../../quipu-core/tests/vectors/json.rs"]
#[expect(dead_code, reason = "shared with other vectors")]
mod json;
#[path = "vectors/plain.rs"]
mod plain;
#[path = "vectors/reads.rs"]
mod reads;
#[path = "vectors/stores.rs"]
#[expect(dead_code, reason = "the generator uses the rest")]
mod stores;

use std::ops::Range;
use std::path::PathBuf;
use std::sync::Arc;

use quipu_core::event::{Event, Log, LogSeq, VerifiedEvent};
use quipu_core::history::History;
use quipu_core::id::{DomainId, EventId, NodeKey, Subject};
use quipu_store::{FaultyDisk, ScanFilter, Segment, Store};
use serde_json::Value as Json;

use json::{array, list, text, unhex};
use plain::{Active, Block, read_proofs};
use stores::{Files, change, disk_of, events, files_of, judge, options, seal};

fn vectors() -> Json {
    let root = PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/../.."));
    let path = root.join("test-vectors/store-v2.json");
    let text = std::fs::read_to_string(&path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
    serde_json::from_str(&text).unwrap()
}

fn domain(vectors: &Json) -> DomainId {
    text(&vectors["domain"]).parse().unwrap()
}

fn page_events(vectors: &Json) -> usize {
    usize::try_from(vectors["page_events"].as_u64().unwrap()).unwrap()
}

fn named<'a>(items: &'a Json, key: &str, name: &str) -> &'a Json {
    list(items).iter().find(|item| item[key] == name).unwrap_or_else(|| panic!("no {name}"))
}

/// What a file entry says under a key, or the entry of the store whose bytes it shares.
fn shared<'a>(vectors: &'a Json, file: &'a Json, key: &str) -> &'a Json {
    match file.get(key) {
        Some(own) => own,
        None => {
            let store = named(&vectors["stores"], "name", text(&file["bytes_of"]));
            &named(&store["files"], "path", text(&file["path"]))[key]
        }
    }
}

fn files_named(vectors: &Json, name: &str) -> Files {
    let store = named(&vectors["stores"], "name", name);
    let file =
        |file: &Json| (text(&file["path"]).to_owned(), unhex(shared(vectors, file, "bytes")));
    list(&store["files"]).iter().map(file).collect()
}

fn block_of(files: &Files, path: &str) -> Block {
    let bytes = |path: &str| &files.iter().find(|file| file.0 == path).unwrap().1;
    Block::read(bytes(path), bytes(&path.replace(".block", ".payload"))).unwrap()
}

fn blocks(files: &Files) -> Vec<(String, Block)> {
    let paths = files.iter().filter(|(path, _)| path.ends_with(".block"));
    paths.map(|(path, _)| (path.clone(), block_of(files, path))).collect()
}

/// Calls for each store: its entry, its files.
fn each_store(vectors: &Json, mut test: impl FnMut(&str, &Json, Files)) {
    for store in list(&vectors["stores"]) {
        let name = text(&store["name"]);
        test(name, store, files_named(vectors, name));
    }
}

#[test]
fn a_plain_reader_finds_what_is_said() {
    let vectors = vectors();
    each_store(&vectors, |name, store, files| {
        let says = reads::files_json(&files, &domain(&vectors)).unwrap();
        for file in list(&store["files"]) {
            let path = text(&file["path"]);
            let said = says.iter().find(|(other, _)| other == path).map(|(_, json)| json);
            let expected = shared(&vectors, file, "reads");
            assert_eq!(said.unwrap_or(&Json::Null), expected, "{name}: {path}");
            assert_eq!(said.is_none(), path.ends_with(".payload"), "{name}: {path}");
        }
        for (path, block) in blocks(&files) {
            let file = named(&store["files"], "path", &path);
            assert_eq!(&reads::sections_json(&block), shared(&vectors, file, "sections"), "{path}");
            let subjects = list(shared(&vectors, file, "subjects"));
            assert!(!subjects.is_empty());
            for vector in subjects {
                let subject = Subject(array(&vector["subject"]));
                assert_eq!(&reads::subject_json(&block, &subject), vector, "{name}: {path}");
            }
            for (position, id) in block.ids.iter().enumerate() {
                assert_eq!(block.find(id), Some(position), "{name}: {path}");
            }
            assert_eq!(block.find(&[7; 32]), None);
        }
    });
}

#[test]
fn the_store_finds_what_is_said() {
    let vectors = vectors();
    each_store(&vectors, |name, store_json, files| {
        let options = options(page_events(&vectors));
        let opened = Store::open(disk_of(&files), domain(&vectors), options);
        let (store, recovery) = opened.unwrap();
        assert!(recovery.is_clean(), "{name}");
        assert_eq!(store.verify(&mut |_, _| ()).problems, [], "{name}");
        for log in Log::ALL {
            let held = events(&store, log).unwrap();
            let said = reads::log_json(log, &held, &store.outline(log).unwrap());
            assert_eq!(&said, named(&store_json["logs"], "log", log.name()), "{name}");
        }
        for (path, block) in blocks(&files) {
            check_block(&store, &block);
            let file = named(&store_json["files"], "path", &path);
            let log = block.place.log;
            let segments = store.segments(log);
            let segment =
                segments.iter().find(|s| s.ordinals().start == block.place.first).unwrap();
            check_filter(segment, shared(&vectors, file, "subjects"));
            check_pages(segment, &block);
        }
        if let Some((_, file)) = files.iter().find(|(path, _)| path.ends_with("/proofs")) {
            for (end, proof) in read_proofs(file, &domain(&vectors)).unwrap() {
                assert_eq!(store.proof(Log::Internal, &end).unwrap(), Some(proof), "{name}");
            }
        }
    });
}

/// The store answers for the events of a block what the block says.
fn check_block(store: &Store<FaultyDisk>, block: &Block) {
    let (log, first) = (block.place.log, block.place.first);
    for (ordinal, event) in (first..).zip(&block.events) {
        assert_eq!(&store.event(log, ordinal).unwrap(), event);
        assert_eq!(store.find(log, &event.id).unwrap(), Some(ordinal));
    }
    assert_eq!(store.find(log, &EventId([7; 32])).unwrap(), None);
    for (author, feed) in block.authors.iter().zip(&block.feeds) {
        let held = store.feed(log, &NodeKey(*author), 0..u64::MAX).unwrap();
        let ordinals = first..first + block.events.len() as u64;
        let here = held.into_iter().filter(|(_, ordinal)| ordinals.contains(ordinal));
        assert!(here.eq(feed.iter().map(|(seq, position)| (*seq, first + position))));
    }
}

/// A block is read for a fold key only if its filter cannot say that none writes it.
fn check_filter(segment: &Segment<'_>, subjects: &Json) {
    for vector in list(subjects) {
        let subjects = vec![Subject(array(&vector["subject"]))];
        let filter = ScanFilter { subjects, ..ScanFilter::default() };
        let report = segment.scan(&filter, &mut |_| ()).unwrap();
        assert_eq!(report.pages_read > 0, vector["may_hold"] == true, "{vector}");
        assert_eq!(report.rows_out > 0, vector["written"] == true, "{vector}");
    }
}

/// Of a block those pages are read whose clocks and kinds are asked for.
fn check_pages(segment: &Segment<'_>, block: &Block) {
    let count = |wanted: &dyn Fn((u64, u64, u64)) -> bool| {
        block.pages.iter().filter(|page| page.zone.is_none_or(wanted)).count() as u64
    };
    for (least, greatest, _) in block.pages.iter().filter_map(|page| page.zone) {
        for clock in [least, greatest] {
            let clocks = (LogSeq(clock), LogSeq(clock));
            let filter = ScanFilter { clocks, ..ScanFilter::default() };
            let report = segment.scan(&filter, &mut |_| ()).unwrap();
            let expected = count(&|(least, greatest, _)| (least..=greatest).contains(&clock));
            assert_eq!((report.pages_read, report.rows_out), (expected, 1));
        }
    }
    for (number, (kind, events)) in block.kinds.iter().enumerate() {
        let filter = ScanFilter { kinds: vec![kind.clone()], ..ScanFilter::default() };
        let report = segment.scan(&filter, &mut |_| ()).unwrap();
        let expected = count(&|(_, _, kinds)| kinds >> number & 1 == 1);
        assert_eq!((report.pages_read, report.rows_out), (expected, *events), "{kind}");
    }
}

fn append(store: &mut Store<FaultyDisk>, log: Log, events: &[Event]) {
    let events = events.iter().cloned().map(VerifiedEvent::from_store).collect();
    store.append(log, events).unwrap();
    store.commit().unwrap();
}

/// The commits of each file with events, and whether it is sealed.
fn commits_of(files: &Files) -> Vec<(Log, Vec<Vec<Event>>, bool)> {
    let mut out = Vec::new();
    for (path, file) in files {
        if path.ends_with(".block") {
            let block = block_of(files, path);
            out.push((block.place.log, vec![block.events], true));
        } else if path.ends_with(".active") {
            let active = Active::read(file).unwrap();
            let mut rest = &active.events[..];
            let commits = active.commits().into_iter().map(|count| {
                let (commit, later) = rest.split_at(count);
                rest = later;
                commit.to_vec()
            });
            out.push((active.place.log, commits.collect(), false));
        }
    }
    out
}

/// The files of a store that gets the same events in the same way.
fn made_anew(vectors: &Json, files: &Files) -> Files {
    let disk = Arc::new(FaultyDisk::new());
    let mut proofs = match files.iter().find(|(path, _)| path.ends_with("/proofs")) {
        Some((_, file)) => read_proofs(file, &domain(vectors)).unwrap(),
        None => Vec::new(),
    };
    let mut store: Option<Store<FaultyDisk>> = None;
    for (log, commits, sealed) in commits_of(files) {
        for events in &commits {
            let (root, rest) = events.split_first().unwrap();
            let Some(store) = &mut store else {
                let root = VerifiedEvent::from_store(root.clone());
                let options = options(page_events(vectors));
                let mut made = Store::create(disk.clone(), log, root, options).unwrap();
                append(&mut made, log, rest);
                store = Some(made);
                continue;
            };
            let ends = |end: &EventId| events.iter().any(|event| event.id == *end);
            for (end, proof) in proofs.extract_if(.., |(end, _)| ends(end)) {
                store.prove(log, end, &proof);
            }
            append(store, log, events);
        }
        if sealed {
            seal(store.as_mut().unwrap());
        }
    }
    files_of(&disk)
}

/// Stores that this program would write: it reads blocks of version 1, but writes none.
fn each_written(vectors: &Json, mut test: impl FnMut(&str, &Files, Files)) {
    let mut count = 0;
    each_store(vectors, |name, _, files| {
        if blocks(&files).iter().all(|(_, block)| block.version == 2) {
            test(name, &files, made_anew(vectors, &files));
            count += 1;
        }
    });
    assert!(count >= 6);
}

/// The parts of a block that hold nothing compressed, and no place of anything compressed.
fn plain_sections<'a>(file: &'a [u8], block: &Block) -> Vec<(String, &'a [u8])> {
    let is_plain = |name: &str| !["footer", "trailer"].contains(&name) && !name.starts_with("page");
    let sections = block.sections.iter().filter(|(name, _)| is_plain(name));
    sections
        .map(|(name, range): &(String, Range<usize>)| (name.clone(), &file[range.clone()]))
        .collect()
}

/// Whatever the compressed parts are: they say the same, and all others are the same bytes.
#[test]
fn made_anew_they_say_the_same() {
    let vectors = vectors();
    let domain = domain(&vectors);
    each_written(&vectors, |name, files, anew| {
        assert_eq!(reads::files_json(&anew, &domain), reads::files_json(files, &domain), "{name}");
        let bytes =
            |files: &Files, path: &str| files.iter().find(|f| f.0 == path).unwrap().1.clone();
        for (path, block) in blocks(files) {
            let (old, new) = (bytes(files, &path), bytes(&anew, &path));
            let again = block_of(&anew, &path);
            assert_eq!(
                plain_sections(&new, &again),
                plain_sections(&old, &block),
                "{name}: {path}"
            );
        }
        for (path, file) in files.iter().filter(|(path, _)| path.ends_with(".active")) {
            assert!(bytes(&anew, path) == *file, "{name}: {path}");
        }
    });
}

/// The same store and the same zstd write the same bytes. If this test alone fails after zstd has
/// changed its version, the format has not changed: then the test goes, and the vectors stay.
#[test]
fn made_anew_they_are_the_same_with_this_zstd() {
    let vectors = vectors();
    each_written(&vectors, |name, files, anew| {
        let paths = |files: &Files| files.iter().map(|file| file.0.clone()).collect::<Vec<_>>();
        assert_eq!(paths(&anew), paths(files), "{name}");
        for ((path, old), (_, new)) in files.iter().zip(&anew) {
            assert!(old == new, "{name}: {path} has other bytes");
        }
    });
}

#[test]
fn an_erasure_leaves_the_files_that_are_said() {
    let vectors = vectors();
    let disk = disk_of(&files_named(&vectors, "sealed"));
    let options = options(page_events(&vectors));
    let (mut store, _) = Store::open(disk.clone(), domain(&vectors), options).unwrap();
    let absent = |name: &str| {
        let logs = &named(&vectors["stores"], "name", name)["logs"];
        list(&named(logs, "log", "internal")["payloads_absent"]).to_vec()
    };
    let before = absent("sealed");
    let erased: Vec<Json> = absent("erased").into_iter().filter(|n| !before.contains(n)).collect();
    assert_eq!(erased.len(), 2, "one in a block, one in an active file");
    let needles: Vec<_> = erased
        .iter()
        .map(|ordinal| {
            let ordinal = ordinal.as_u64().unwrap();
            let payload = store.event(Log::Internal, ordinal).unwrap().payload.unwrap();
            assert_eq!(store.erase(Log::Internal, ordinal).unwrap(), payload.len() as u64);
            payload
        })
        .collect();
    let domain = domain(&vectors);
    let files = files_of(&disk);
    let expected = files_named(&vectors, "erased");
    assert_eq!(reads::files_json(&files, &domain), reads::files_json(&expected, &domain));
    // Active files are not compressed, so that this one would be seen.
    let (_, active) = files.iter().find(|(path, _)| path.ends_with(".active")).unwrap();
    let value = &needles[1][needles[1].len() - 12..];
    assert!(!active.windows(value.len()).any(|window| window == value));
}

#[test]
fn what_is_refused() {
    let vectors = vectors();
    let domain = domain(&vectors);
    let refused = list(&vectors["refused"]);
    assert!(refused.len() > 50);
    for vector in refused {
        let name = text(&vector["name"]);
        let good = files_named(&vectors, text(&vector["store"]));
        let files = change(&good, vector);
        assert_ne!(files, good, "{name}");
        let told = judge(&files, domain);
        for key in ["when", "kind", "error"] {
            assert_eq!(told[key], vector[key], "{name}");
        }
        // What only the store derives again is still read as something else.
        let (good, bad) = (reads::files_json(&good, &domain), reads::files_json(&files, &domain));
        assert!(good.is_ok() && good != bad, "{name}");
    }
}

#[test]
fn what_was_never_committed_is_cut_off() {
    let vectors = vectors();
    let torn = list(&vectors["torn"]);
    assert!(!torn.is_empty());
    for vector in torn {
        let name = text(&vector["name"]);
        let good = files_named(&vectors, text(&vector["store"]));
        let files = change(&good, vector);
        let path = text(&vector["path"]);
        let bytes = |files: &Files| files.iter().find(|file| file.0 == path).unwrap().1.clone();
        let told = judge(&files, domain(&vectors));
        assert_eq!(told["kind"], "torn", "{name}");
        for key in ["when", "kind", "error"] {
            assert_eq!(told[key], vector[key], "{name}");
        }
        let left = Active::read(&bytes(&files)).unwrap();
        let all = Active::read(&bytes(&good)).unwrap();
        assert_eq!(vector["left"]["events"], left.events.len(), "{name}");
        assert_eq!(vector["left"]["bytes"], left.end, "{name}");
        assert_eq!(left.events[..], all.events[..left.events.len()], "{name}");
        let disk = disk_of(&files);
        let (store, _) = Store::open(disk.clone(), domain(&vectors), options(32)).unwrap();
        assert_eq!(events(&store, Log::Internal).unwrap(), left.events, "{name}");
        assert_eq!(bytes(&files_of(&disk)), bytes(&good)[..left.end], "{name}");
    }
}
