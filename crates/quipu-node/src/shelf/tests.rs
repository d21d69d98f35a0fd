use std::fs;
use std::path::PathBuf;

use quipu_core::artifact::{GROUP_BYTES, PART_GROUPS_MAX};
use quipu_store::RealDisk;
use tempfile::TempDir;

use super::*;

const HOME: DomainId = DomainId([1; 32]);
const INTERNAL: Owner = Owner { domain: HOME, visibility: Log::Internal };
const OWN: Owner = Owner { domain: HOME, visibility: Log::Published };
const FOREIGN: Owner = Owner { domain: DomainId([2; 32]), visibility: Log::Published };
const OTHER: Owner = Owner { domain: DomainId([3; 32]), visibility: Log::Published };
/// An artifact of four parts.
const SIZE: usize = (3 * PART_GROUPS_MAX * GROUP_BYTES) as usize + 77;

fn open(dir: &TempDir) -> Arc<Shelf> {
    let store = Arc::new(ArtifactStore::open(&dir.path().join("artifacts")).unwrap());
    let disk = Arc::new(RealDisk::new(dir.path()).unwrap());
    Arc::new(Shelf::open(store, (disk, "artifact-index"), HOME).unwrap())
}

fn index_of(dir: &TempDir) -> PathBuf {
    dir.path().join("artifact-index")
}

/// Records in the index.
fn records(dir: &TempDir) -> usize {
    let len = fs::metadata(index_of(dir)).unwrap().len() as usize;
    assert_eq!(len % RECORD_BYTES, 0, "whole records");
    len / RECORD_BYTES
}

fn temp() -> TempDir {
    tempfile::tempdir().unwrap()
}

fn noise(seed: u8, size: usize) -> Vec<u8> {
    let mut bytes = vec![0; size];
    blake3::Hasher::new_keyed(&[seed; 32]).finalize_xof().fill(&mut bytes);
    bytes
}

/// A peer that has an artifact.
struct Source {
    _dir: TempDir,
    stored: StoredArtifacts<quipu_artifact::RealFiles>,
    key: ArtifactId,
    size: u64,
}

impl Source {
    fn new(seed: u8, size: usize) -> Self {
        let dir = temp();
        let mut stored = StoredArtifacts(Arc::new(ArtifactStore::open(dir.path()).unwrap()));
        let (key, size) = stored.keep(&mut &noise(seed, size)[..]).unwrap();
        Self { _dir: dir, stored, key, size }
    }

    /// The parts, as they are asked for: the last one first.
    fn parts(&self) -> Vec<Range<u64>> {
        let count = group_count(self.size);
        let starts = (0..count).step_by(PART_GROUPS_MAX as usize);
        let mut parts: Vec<_> = starts.map(|n| n..count.min(n + PART_GROUPS_MAX)).collect();
        parts.rotate_right(1);
        parts
    }

    fn bytes(&self, groups: &Range<u64>) -> Vec<u8> {
        self.stored.read_part(&self.key, groups.clone()).unwrap().unwrap().1
    }

    fn send(&self, to: &mut Shelved, groups: &Range<u64>) -> PartOutcome {
        to.write_part(&self.key, self.size, groups.clone(), &self.bytes(groups))
    }

    fn send_false(&self, to: &mut Shelved, groups: &Range<u64>) -> PartOutcome {
        let mut bytes = self.bytes(groups);
        *bytes.last_mut().unwrap() ^= 1;
        to.write_part(&self.key, self.size, groups.clone(), &bytes)
    }

    fn send_all(&self, to: &mut Shelved) -> PartOutcome {
        let mut last = PartOutcome::Good;
        for part in self.parts() {
            assert_eq!(last, PartOutcome::Good, "before {part:?}");
            last = self.send(to, &part);
        }
        last
    }
}

/// Whether a log shows an artifact: its size and its bytes, or neither.
fn shows(shelf: &Arc<Shelf>, owner: Owner, source: &Source) -> bool {
    let shelved = Shelved::new(shelf.clone(), owner);
    let size = shelved.size(&source.key).unwrap();
    let part = shelved.read_part(&source.key, 0..1).unwrap();
    assert_eq!(size.is_some(), part.is_some());
    if let Some((size, bytes)) = part {
        assert_eq!((size, bytes), (source.size, source.bytes(&(0..1))));
    }
    size.is_some()
}

/// The logs that show an artifact, of all four.
fn shown_by(shelf: &Arc<Shelf>, source: &Source) -> Vec<Owner> {
    let mut owners = vec![INTERNAL, OWN, FOREIGN, OTHER];
    owners.retain(|owner| shows(shelf, *owner, source));
    owners
}

#[test]
fn without_an_entry_it_is_internal_to_the_own_domain() {
    let dir = temp();
    let shelf = open(&dir);
    let source = Source::new(1, 40_000);
    // What the machine put itself, without a word in the index.
    Shelved::new(shelf.clone(), INTERNAL).keep(&mut &noise(1, 40_000)[..]).unwrap();
    assert_eq!(shown_by(&shelf, &source), [INTERNAL]);
    assert_eq!(shelf.owners(&source.key), [INTERNAL]);
    assert_eq!(records(&dir), 0);
    shelf.give_home(&source.key).unwrap();
    assert_eq!(records(&dir), 0, "nothing new");
    // What came by itself for this domain, likewise.
    let fetched = Source::new(2, SIZE);
    let mut home = Shelved::new(shelf.clone(), INTERNAL);
    assert_eq!(fetched.send_all(&mut home), PartOutcome::Complete);
    assert_eq!(shown_by(&shelf, &fetched), [INTERNAL]);
    assert_eq!(records(&dir), 0);
}

#[test]
fn given_to_others_it_stays_with_those_who_had_it() {
    let dir = temp();
    let shelf = open(&dir);
    let source = Source::new(1, 40_000);
    Shelved::new(shelf.clone(), INTERNAL).keep(&mut &noise(1, 40_000)[..]).unwrap();
    shelf.give(&source.key, OWN).unwrap();
    assert_eq!(shown_by(&shelf, &source), [INTERNAL, OWN]);
    assert_eq!(records(&dir), 2);
    shelf.give(&source.key, OWN).unwrap();
    assert_eq!(records(&dir), 2, "said once");
    let shelf = open(&dir);
    assert_eq!(shown_by(&shelf, &source), [INTERNAL, OWN]);
}

#[test]
fn what_is_fetched_for_a_published_log_is_that_logs_alone() {
    let dir = temp();
    let shelf = open(&dir);
    let source = Source::new(1, SIZE);
    let mut foreign = Shelved::new(shelf.clone(), FOREIGN);
    let (home, other) = (Shelved::new(shelf.clone(), INTERNAL), Shelved::new(shelf.clone(), OTHER));
    assert_eq!(foreign.missing(&source.key).unwrap(), None);
    assert_eq!(source.send(&mut foreign, &source.parts()[0]), PartOutcome::Good);
    // What is begun is the affair of whoever began it.
    let missing = foreign.missing(&source.key).unwrap().unwrap();
    assert_eq!((missing.size, &missing.groups[..]), (source.size, std::slice::from_ref(&(0..48))));
    assert_eq!(home.missing(&source.key).unwrap(), None);
    assert_eq!(other.missing(&source.key).unwrap(), None);
    assert_eq!(shown_by(&shelf, &source), []);
    for part in &source.parts()[1..3] {
        assert_eq!(source.send(&mut foreign, part), PartOutcome::Good);
    }
    assert_eq!(source.send(&mut foreign, &source.parts()[3]), PartOutcome::Complete);
    assert_eq!(shown_by(&shelf, &source), [FOREIGN]);
    // An import makes it this domain's own, too.
    shelf.give_home(&source.key).unwrap();
    assert_eq!(shown_by(&open(&dir), &source), [INTERNAL, FOREIGN]);
}

#[test]
fn stopped_between_the_last_byte_and_its_record() {
    for owner in [FOREIGN, INTERNAL] {
        let dir = temp();
        let source = Source::new(1, SIZE);
        let shelf = open(&dir);
        // The announcement is on the disk; the bytes come without the shelf hearing of it.
        shelf.announce(&source.key, FOREIGN).unwrap();
        if owner == INTERNAL {
            shelf.give(&source.key, INTERNAL).unwrap();
        }
        let mut stored = StoredArtifacts(shelf.store().clone());
        stored.keep(&mut &noise(1, SIZE)[..]).unwrap();
        assert!(!shows(&shelf, FOREIGN, &source));
        let shelf = open(&dir);
        // Its own, unless the bytes may have come for another log.
        assert_eq!(shown_by(&shelf, &source), [owner]);
        drop(shelf);
        assert_eq!(shown_by(&open(&dir), &source), [owner]);
    }
}

#[test]
fn a_fetch_goes_on_after_a_restart() {
    let dir = temp();
    let source = Source::new(1, SIZE);
    let parts = source.parts();
    let mut foreign = Shelved::new(open(&dir), FOREIGN);
    for part in &parts[..2] {
        assert_eq!(source.send(&mut foreign, part), PartOutcome::Good);
    }
    foreign.stored.0.sync_partials().unwrap();
    drop(foreign);
    let shelf = open(&dir);
    let mut foreign = Shelved::new(shelf.clone(), FOREIGN);
    let missing = foreign.missing(&source.key).unwrap().unwrap();
    assert_eq!(missing.groups, std::slice::from_ref(&(16..48)));
    assert_eq!(source.send(&mut foreign, &parts[2]), PartOutcome::Good);
    assert_eq!(source.send(&mut foreign, &parts[3]), PartOutcome::Complete);
    assert_eq!(shown_by(&shelf, &source), [FOREIGN]);
}

/// Bytes that are here for another log are shown after all parts came from the log's own peers.
#[test]
fn bytes_of_another_log_are_compared_before_they_are_shown() {
    let dir = temp();
    let shelf = open(&dir);
    let source = Source::new(1, SIZE);
    Shelved::new(shelf.clone(), INTERNAL).keep(&mut &noise(1, SIZE)[..]).unwrap();
    let mut foreign = Shelved::new(shelf.clone(), FOREIGN);
    assert_eq!(foreign.missing(&source.key).unwrap(), None, "all is asked for");
    for part in &source.parts()[..3] {
        assert_eq!(source.send(&mut foreign, part), PartOutcome::Good);
        // The same again is nothing new.
        assert_eq!(source.send(&mut foreign, part), PartOutcome::Good);
        assert_eq!(shown_by(&shelf, &source), [INTERNAL]);
    }
    assert_eq!(foreign.missing(&source.key).unwrap().unwrap().groups.len(), 16);
    assert_eq!(source.send(&mut foreign, &source.parts()[3]), PartOutcome::Complete);
    assert_eq!(shown_by(&shelf, &source), [INTERNAL, FOREIGN]);
    assert_eq!(foreign.missing(&source.key).unwrap(), None);
}

/// Whoever sends something false learns nothing from the answer: it is the same whether the bytes are here
/// for another log or not at all.
#[test]
fn false_parts_get_the_same_answers_whether_the_bytes_are_here_or_not() {
    let source = Source::new(1, SIZE);
    let mut answers = Vec::new();
    for here in [false, true] {
        let dir = temp();
        let shelf = open(&dir);
        if here {
            Shelved::new(shelf.clone(), INTERNAL).keep(&mut &noise(1, SIZE)[..]).unwrap();
        }
        let mut foreign = Shelved::new(shelf.clone(), FOREIGN);
        let last = source.parts()[0].clone();
        let true_bytes = source.bytes(&last);
        let mut said = vec![
            source.send_false(&mut foreign, &last),
            foreign.write_part(&source.key, source.size, last.clone(), &[]),
            foreign.write_part(&source.key, source.size, last.clone(), &true_bytes[1..]),
            foreign.write_part(&source.key, source.size + 1, last.clone(), &true_bytes),
            foreign.write_part(&source.key, 5, 0..1, b"hello"),
        ];
        assert!(said.iter().all(|answer| matches!(answer, PartOutcome::Bad(_))), "{said:?}");
        assert_eq!(shown_by(&shelf, &source), if here { vec![INTERNAL] } else { vec![] });
        said.extend(source.parts().iter().map(|part| source.send(&mut foreign, part)));
        assert_eq!(said.last(), Some(&PartOutcome::Complete));
        answers.push(said);
    }
    assert_eq!(answers[0], answers[1]);
}

/// A publisher that has no more than a part of an artifact cannot use it to find out that this machine gets
/// the rest for its own domain.
#[test]
fn a_part_for_one_log_gives_it_nothing_of_what_comes_for_another() {
    for false_part in [false, true] {
        for restart in [false, true] {
            let dir = temp();
            let mut shelf = open(&dir);
            let source = Source::new(1, SIZE);
            let last = source.parts()[0].clone();
            let mut foreign = Shelved::new(shelf.clone(), FOREIGN);
            if false_part {
                assert!(matches!(source.send_false(&mut foreign, &last), PartOutcome::Bad(_)));
            } else {
                assert_eq!(source.send(&mut foreign, &last), PartOutcome::Good);
            }
            let mut home = Shelved::new(shelf.clone(), INTERNAL);
            assert_eq!(source.send_all(&mut home), PartOutcome::Complete);
            if restart {
                drop((foreign, home));
                shelf = open(&dir);
                foreign = Shelved::new(shelf.clone(), FOREIGN);
            }
            assert_eq!(shown_by(&shelf, &source), [INTERNAL]);
            // The rest has to come from its own peers.
            for part in source.parts() {
                source.send(&mut foreign, &part);
            }
            assert_eq!(shown_by(&shelf, &source), [INTERNAL, FOREIGN]);
        }
    }
}

/// What is here or begun without a record stays the own domain's when another log begins to fetch it.
#[test]
fn what_has_no_record_is_not_lost_to_another_log() {
    let source = Source::new(1, SIZE);
    let parts = source.parts();
    let dir = temp();
    let shelf = open(&dir);
    let mut home = Shelved::new(shelf.clone(), INTERNAL);
    let mut foreign = Shelved::new(shelf.clone(), FOREIGN);
    for part in &parts[..3] {
        assert_eq!(source.send(&mut home, part), PartOutcome::Good);
    }
    assert_eq!(source.send(&mut foreign, &parts[0]), PartOutcome::Good);
    // Not what came for the own domain.
    assert_eq!(foreign.missing(&source.key).unwrap().unwrap().groups.len(), 48);
    assert_eq!(home.missing(&source.key).unwrap().unwrap().groups.len(), 1);
    assert_eq!(source.send(&mut foreign, &parts[3]), PartOutcome::Good);
    assert_eq!(shown_by(&shelf, &source), [INTERNAL]);
    // Whole, and without a record: a bundle brings it for another log.
    let dir = temp();
    let shelf = open(&dir);
    Shelved::new(shelf.clone(), INTERNAL).keep(&mut &noise(1, SIZE)[..]).unwrap();
    shelf.announce(&source.key, FOREIGN).unwrap();
    assert_eq!(shown_by(&shelf, &source), [INTERNAL]);
    shelf.give(&source.key, FOREIGN).unwrap();
    shelf.arrived(&source.key).unwrap();
    assert_eq!(shown_by(&open(&dir), &source), [INTERNAL, FOREIGN]);
}

/// Parts are taken on one thread, and what is missing is asked on another.
#[test]
fn another_thread_knows_what_came() {
    let source = Source::new(1, SIZE);
    let dir = temp();
    let shelf = open(&dir);
    Shelved::new(shelf.clone(), INTERNAL).keep(&mut &noise(1, SIZE)[..]).unwrap();
    let asked = Shelved::new(shelf.clone(), FOREIGN);
    let mut taking = asked.another();
    assert_eq!(source.send(&mut taking, &source.parts()[0]), PartOutcome::Good);
    assert_eq!(asked.missing(&source.key).unwrap().unwrap().groups.len(), 48);
}

#[test]
fn two_logs_fetch_the_same_side_by_side() {
    let dir = temp();
    let shelf = open(&dir);
    let source = Source::new(1, SIZE);
    let parts = source.parts();
    let (mut one, mut two) =
        (Shelved::new(shelf.clone(), FOREIGN), Shelved::new(shelf.clone(), OTHER));
    for n in [0, 1] {
        assert_eq!(source.send(&mut one, &parts[n]), PartOutcome::Good);
    }
    for n in [0, 2, 3] {
        assert_eq!(source.send(&mut two, &parts[n]), PartOutcome::Good);
    }
    // All bytes are here, and neither log has got all of them.
    assert_eq!(shown_by(&shelf, &source), []);
    assert_eq!(one.missing(&source.key).unwrap().unwrap().groups.len(), 32);
    assert_eq!(two.missing(&source.key).unwrap().unwrap().groups.len(), 16);
    assert_eq!(source.send(&mut two, &parts[1]), PartOutcome::Complete);
    assert_eq!(shown_by(&shelf, &source), [OTHER]);
    assert_eq!(source.send(&mut one, &parts[2]), PartOutcome::Good);
    assert_eq!(source.send(&mut one, &parts[3]), PartOutcome::Complete);
    assert_eq!(shown_by(&shelf, &source), [FOREIGN, OTHER]);
}

#[test]
fn a_torn_end_and_a_damaged_record_cost_no_others() {
    let dir = temp();
    let sources: Vec<Source> = (1..5).map(|seed| Source::new(seed, 100)).collect();
    let shelf = open(&dir);
    for (source, seed) in sources.iter().zip(1..) {
        let mut stored = StoredArtifacts(shelf.store().clone());
        shelf.announce(&source.key, FOREIGN).unwrap();
        stored.keep(&mut &noise(seed, 100)[..]).unwrap();
        shelf.arrived(&source.key).unwrap();
    }
    drop(shelf);
    let whole = fs::read(index_of(&dir)).unwrap();
    assert_eq!(whole.len(), 2 * 4 * RECORD_BYTES);
    let foreign = |dir: &TempDir| -> Vec<bool> {
        let shelf = open(dir);
        sources.iter().map(|source| shown_by(&shelf, source) == [FOREIGN]).collect()
    };
    // Torn at every byte of the last record: the announcement tells whose the bytes are.
    for cut in 7 * RECORD_BYTES..whole.len() {
        fs::write(index_of(&dir), &whole[..cut]).unwrap();
        assert_eq!(foreign(&dir), [true; 4], "cut at {cut}");
        assert!(records(&dir) > 4);
        // What is appended now stands in its place.
        open(&dir).give(&sources[0].key, OTHER).unwrap();
        assert_eq!(shown_by(&open(&dir), &sources[0]), [FOREIGN, OTHER]);
    }
    // Any flipped bit in the two records of one artifact: the others stay whose they are.
    for at in 0..2 * RECORD_BYTES {
        let mut damaged = whole.clone();
        damaged[at] ^= 0x10;
        fs::write(index_of(&dir), &damaged).unwrap();
        assert_eq!(foreign(&dir), [true; 4], "byte {at}: one of the two records is enough");
        damaged[(at + RECORD_BYTES) % (2 * RECORD_BYTES)] ^= 0x10;
        fs::write(index_of(&dir), &damaged).unwrap();
        assert_eq!(foreign(&dir), [false, true, true, true], "byte {at}");
        assert_eq!(shown_by(&open(&dir), &sources[0]), [INTERNAL]);
    }
}

#[test]
fn what_is_removed_is_nobodys() {
    let dir = temp();
    let shelf = open(&dir);
    let source = Source::new(1, 100);
    Shelved::new(shelf.clone(), FOREIGN).keep(&mut &noise(1, 100)[..]).unwrap();
    shelf.store().remove(&source.key).unwrap();
    shelf.forget(&source.key).unwrap();
    assert_eq!(shown_by(&shelf, &source), []);
    for shelf in [shelf, open(&dir)] {
        // It is put here again: this domain's own, and nobody else's.
        Shelved::new(shelf.clone(), INTERNAL).keep(&mut &noise(1, 100)[..]).unwrap();
        assert_eq!(shown_by(&shelf, &source), [INTERNAL]);
        assert_eq!(shown_by(&open(&dir), &source), [INTERNAL]);
        shelf.store().remove(&source.key).unwrap();
        shelf.forget(&source.key).unwrap();
    }
    shelf_file_stays_small(&dir, &source);
}

/// Records that mean nothing any more go at a start.
fn shelf_file_stays_small(dir: &TempDir, source: &Source) {
    let shelf = open(dir);
    for _ in 0..SPARE_RECORDS {
        let mut index = shelf.index();
        for said in [Said::Coming, Said::Gone] {
            index.file.write_all(&record(&source.key, &FOREIGN, said)).unwrap();
        }
    }
    shelf.give(&source.key, OTHER).unwrap();
    drop(shelf);
    assert!(records(dir) > SPARE_RECORDS);
    let owners = open(dir).owners(&source.key);
    assert!(owners.contains(&OTHER) && !owners.contains(&FOREIGN), "{owners:?}");
    assert!(records(dir) <= 2);
}

/// Steps at random against the simplest account of them.
#[test]
fn owners_are_as_a_model_says() {
    let dir = temp();
    let mut shelf = open(&dir);
    let sources: Vec<Source> = (1..4).map(|seed| Source::new(seed, 100)).collect();
    let mut model: Vec<Option<BTreeSet<Owner>>> = vec![None; 3];
    let mut bytes = blake3::Hasher::new_keyed(&[7; 32]).finalize_xof();
    for step in 0..300 {
        let mut dice = [0; 3];
        bytes.fill(&mut dice);
        let n = usize::from(dice[0]) % 3;
        let owner = [INTERNAL, OWN, FOREIGN, OTHER][usize::from(dice[1]) % 4];
        let source = &sources[n];
        let here = shelf.store().size(&source.key).unwrap().is_some();
        match dice[2] % 8 {
            0..4 => {
                // All parts come for an owner.
                let outcome = source.send_all(&mut Shelved::new(shelf.clone(), owner));
                assert_eq!(outcome, PartOutcome::Complete, "step {step}");
                model[n].get_or_insert_default().insert(owner);
            }
            4 | 5 if here => {
                shelf.give(&source.key, owner).unwrap();
                model[n].get_or_insert_default().insert(owner);
            }
            // The own domain may have what comes for others once it asked, so not for that one.
            6 if owner != INTERNAL => {
                let false_part =
                    source.send_false(&mut Shelved::new(shelf.clone(), owner), &(0..1));
                let known = model[n].as_ref().is_some_and(|owners| owners.contains(&owner));
                assert_eq!(matches!(false_part, PartOutcome::Bad(_)), !known, "step {step}");
            }
            7 if here => {
                shelf.store().remove(&source.key).unwrap();
                shelf.forget(&source.key).unwrap();
                model[n] = None;
            }
            _ => {
                drop(shelf);
                shelf = open(&dir);
            }
        }
        for (source, owners) in sources.iter().zip(&model) {
            let expected: Vec<Owner> = [INTERNAL, OWN, FOREIGN, OTHER]
                .into_iter()
                .filter(|owner| owners.as_ref().is_some_and(|owners| owners.contains(owner)))
                .collect();
            assert_eq!(shown_by(&shelf, source), expected, "step {step}");
        }
    }
}
