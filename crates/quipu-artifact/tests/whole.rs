//! Whole artifacts: in, out, listed, removed, damaged.

mod common;

use std::io::{self, Cursor, Read, Seek, SeekFrom};
use std::time::Duration;

use common::{GROUP, add, get, path, reopen, sample, store};
use proptest::prelude::*;
use quipu_artifact::{ArtifactStore, Error, Faults};
use quipu_core::artifact::{group_bytes, group_count};
use quipu_core::id::ArtifactId;

const SIZES: [u64; 12] =
    [0, 1, 1023, 1024, 1025, 16383, 16384, 16385, (1 << 20) - 1, 1 << 20, (1 << 20) + 1, 5 << 20];

/// Hands out bytes in pieces of odd sizes, and is interrupted at times.
struct Dribble<'a>(&'a [u8], usize);

impl Read for Dribble<'_> {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        self.1 = (self.1 * 31 + 7) % 70_001;
        if self.1 % 11 == 3 {
            return Err(io::ErrorKind::Interrupted.into());
        }
        let n = out.len().min(self.0.len()).min(self.1 + 1);
        out[..n].copy_from_slice(&self.0[..n]);
        self.0 = &self.0[n..];
        Ok(n)
    }
}

#[test]
fn keys_are_the_blake3_of_the_bytes() {
    let store = store();
    // From the published vectors of BLAKE3: the empty input, and 0, 1, 2, ... 250, 0, ... to 102,400.
    let counted: Vec<u8> = (0..102_400u32).map(|n| (n % 251) as u8).collect();
    for (bytes, hash) in [
        (&[][..], "af1349b9f5f9a1a6a0404dea36dcc9499bcb25c9adc112b7cc9a93cae41f3262"),
        (&counted[..], "bc3e3d41a1146b069abffad3c0d44860cf664390afce4d9661f7902e7943e085"),
    ] {
        let key = add(&store, bytes);
        assert_eq!(blake3::Hash::from(key.0).to_hex().as_str(), hash);
        assert_eq!(get(&store, &key), bytes);
    }
}

#[test]
fn what_goes_in_comes_out_again() {
    let dir = tempfile::tempdir().expect("a directory");
    let real = ArtifactStore::open(dir.path()).expect("a store");
    let memory = store();
    let mut all = Vec::new();
    for size in SIZES {
        let bytes = sample(size, size);
        let mut last = 0;
        let imported = real
            .import(Dribble(&bytes, size as usize), &mut |n| {
                assert!(n >= last);
                last = n;
            })
            .expect("an import");
        assert_eq!((imported.key, imported.size, last), (ArtifactId::of(&bytes), size, size));
        assert_eq!(real.size(&imported.key).expect("readable"), None, "not before it is adopted");
        // As the daemon does for another process.
        real.adopt_named(&imported.name, &imported.key, size).expect("adopted");
        assert_eq!(add(&memory, &bytes), imported.key);
        assert!(get(&real, &imported.key) == bytes, "{size}");
        assert!(get(&memory, &imported.key) == bytes, "{size}");
        assert_eq!(real.size(&imported.key).expect("readable"), Some(size));
        all.push((imported.key, size));
    }
    all.sort_unstable();
    let listed: Vec<_> = real.list().expect("readable").map(|item| item.expect("fine")).collect();
    assert_eq!(listed, all);
    assert_eq!(real.verify(&mut |_| {}).expect("readable"), []);
    assert!(std::fs::read_dir(dir.path().join("incoming")).expect("readable").next().is_none());
    let sum: u64 = all.iter().map(|(_, size)| size).sum();
    assert!(real.disk_bytes().expect("readable") >= sum);

    for (key, _) in &all {
        assert!(real.remove(key).expect("removable"));
        assert!(!real.remove(key).expect("gone"));
        assert!(!real.contains(key).expect("readable"));
        assert!(matches!(real.open_verified(key), Err(Error::NotHere(k)) if k == *key));
        assert!(real.read_part(key, 0..1).expect("readable").is_none());
    }
    assert_eq!(real.list().expect("readable").count(), 0);
    assert_eq!(real.disk_bytes().expect("readable"), 0);
}

#[test]
fn the_same_twice_is_one_and_leaves_nothing_aside() {
    let store = store();
    let bytes = sample(3 * GROUP, 1);
    let key = add(&store, &bytes);
    assert_eq!(add(&store, &bytes), key);
    let imported = store.import(&bytes[..], &mut |_| {}).expect("an import");
    store.discard(imported);
    assert_eq!(store.files().paths(), [path(&key), path(&key) + ".obao"]);
}

#[test]
fn only_imports_are_adopted() {
    let store = store();
    let bytes = sample(GROUP + 1, 1);
    let kept = add(&store, &bytes);
    let other = sample(GROUP + 1, 2);
    let imported = store.import(&other[..], &mut |_| {}).expect("an import");
    let (name, key) = (imported.name.clone(), imported.key);
    let refused = |name: &str, size| {
        let error = store.adopt_named(name, &key, size).expect_err("refused");
        assert!(matches!(error, Error::Adopt { .. }), "{error}");
    };
    refused(&format!("../{}", path(&kept)), GROUP + 1);
    refused(&format!("{name}.obao"), 64);
    refused("0-0123456789abcdef", GROUP + 1);
    refused(&name, GROUP);
    refused(&name, u64::MAX);
    assert!(!store.contains(&key).expect("readable"));
    store.adopt(imported).expect("adopted");
    assert_eq!(get(&store, &key), other);
    refused(&name, GROUP + 1);
}

#[test]
fn leftovers_of_imports_are_removed_and_others_stay() {
    let store = store();
    let files = store.files().clone();
    let bytes = sample(2 * GROUP, 1);
    let old = store.import(&bytes[..], &mut |_| {}).expect("an import");
    files.pass(Duration::from_secs(24 * 3600 + 1));
    let new = store.import(&bytes[..], &mut |_| {}).expect("an import");
    let left = store.leftovers().expect("readable");
    assert_eq!(left.iter().map(|(_, bytes)| bytes).max(), Some(&(2 * GROUP)));
    assert_eq!(left.len(), 2);
    assert_eq!(store.clean().expect("clean"), 2);
    assert_eq!(store.leftovers().expect("readable"), []);
    assert!(store.adopt(old).is_err());
    store.adopt(new).expect("it is not old");
    let gone = store.import(&b"x"[..], &mut |_| {}).expect("an import");
    files.kill();
    let store = reopen(&files);
    assert_eq!(store.clean().expect("clean"), 1);
    assert!(store.adopt(gone).is_err());
    assert_eq!(files.paths().len(), 2);
}

/// Reads to the end or to the error.
fn read_some(mut reader: impl Read) -> (Vec<u8>, Option<io::Error>) {
    let mut out = Vec::new();
    let error = reader.read_to_end(&mut out).err();
    (out, error)
}

#[test]
fn a_flipped_bit_is_found_in_every_group() {
    for size in [1, GROUP, 2 * GROUP, 130 * GROUP - 3, 200 * GROUP + 1] {
        let store = store();
        let bytes = sample(size, size);
        let key = add(&store, &bytes);
        for group in 0..group_count(size) {
            let range = group_bytes(&(group..group + 1), size);
            let at = range.start + (group * 97) % (range.end - range.start);
            assert!(store.files().flip(&path(&key), at, 1 << (group % 8)));

            let (got, error) = read_some(store.open_verified(&key).expect("open"));
            let error = error.expect("damage").to_string();
            let span = format!("bytes {} to {} do", range.start, range.end);
            assert!(error.contains(&key.to_string()) && error.contains(&span), "{error}");
            assert!(got == bytes[..range.start as usize], "what precedes it, and nothing of it");

            let mut copied = Vec::new();
            let error = store.copy_to(&key, &mut copied, &mut |_| {}).expect_err("damage");
            assert!(matches!(&error, Error::Damaged { bytes, .. } if *bytes == range), "{error}");
            assert!(copied == got);

            let error = store.read_part(&key, group..group + 1).expect_err("damage");
            assert!(
                matches!(&error, Error::Damaged { key: k, bytes } if *k == key && *bytes == range)
            );
            if group > 0 {
                assert!(store.read_part(&key, group - 1..group).is_ok(), "the one before is good");
            }
            let problems = store.verify(&mut |_| {}).expect("readable");
            assert_eq!((problems.len(), &problems[0].bytes), (1, &vec![range]));
            assert!(store.files().flip(&path(&key), at, 1 << (group % 8)));
        }
        assert_eq!(store.verify(&mut |_| {}).expect("readable"), []);
    }
}

#[test]
fn a_flipped_bit_in_the_outboard_never_gives_wrong_bytes() {
    let store = store();
    let size = 150 * GROUP;
    let bytes = sample(size, 3);
    let key = add(&store, &bytes);
    let outboard = path(&key) + ".obao";
    for pair in 0..149 {
        store.files().flip(&outboard, pair * 64 + pair % 64, 4);
        let (got, error) = read_some(store.open_verified(&key).expect("open"));
        assert!(bytes.starts_with(&got), "{pair}");
        assert_eq!(error.is_none(), got.len() == bytes.len());
        let parts: Vec<_> = (0..150).map(|group| store.read_part(&key, group..group + 1)).collect();
        assert!(parts.iter().any(|part| part.as_ref().is_err_and(Error::is_damage)), "{pair}");
        assert_eq!(store.verify(&mut |_| {}).expect("readable").len(), 1, "{pair}");
        store.files().flip(&outboard, pair * 64 + pair % 64, 4);
    }
    store.files().flip(&outboard, 148 * 64, 4);
    let (got, error) = read_some(store.open_verified(&key).expect("open"));
    assert!(got.is_empty() && error.is_some(), "without the root nothing can be verified");
}

#[test]
fn files_that_are_cut_or_missing_are_damage() {
    let dir = tempfile::tempdir().expect("a directory");
    let bytes = sample(100 * GROUP, 1);
    let open = || ArtifactStore::open(dir.path()).expect("a store");
    let key = add(&open(), &bytes);
    let outboard = dir.path().join(path(&key) + ".obao");
    let pairs = std::fs::read(&outboard).expect("there");
    for cut in [Some(0), Some(64), Some(98 * 64 + 63), None] {
        match cut {
            Some(length) => std::fs::write(&outboard, &pairs[..length]).expect("written"),
            None => std::fs::remove_file(&outboard).expect("removed"),
        }
        let store = open();
        assert!(read_some(store.open_verified(&key).expect("open")).1.is_some());
        assert!(store.read_part(&key, 0..1).expect_err("damage").is_damage());
        assert_eq!(store.verify(&mut |_| {}).expect("readable").len(), 1);
    }
    std::fs::write(&outboard, &pairs).expect("written");
    let data = dir.path().join(path(&key));
    std::fs::write(&data, &bytes[..70 * GROUP as usize]).expect("written");
    let store = open();
    let (got, error) = read_some(store.open_verified(&key).expect("open"));
    assert!(bytes.starts_with(&got) && error.is_some());
    assert!(store.read_part(&key, 69..70).expect_err("another tree").is_damage());
    assert_eq!(store.verify(&mut |_| {}).expect("readable").len(), 1);
}

/// A reader that fails after some bytes.
struct Fails(u64);

impl Read for Fails {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        if self.0 == 0 {
            return Err(io::Error::other("the cable is out"));
        }
        let n = self.0.min(out.len() as u64);
        self.0 -= n;
        Ok(n as usize)
    }
}

#[test]
fn imports_that_fail_say_why_and_leave_nothing() {
    for size in [0, 100, GROUP + 1, 3 << 20, 20 << 20] {
        let store = store();
        let error = store.import(Fails(size), &mut |_| {}).expect_err("it fails");
        assert!(
            matches!(&error, Error::Source(e) if e.to_string() == "the cable is out"),
            "{error}"
        );
        assert!(store.files().paths().is_empty());
    }
    for full in [0, 100, 1 << 20, 12 << 20] {
        let store = store();
        store.files().set_faults(Faults { full_after_bytes: Some(full), ..Faults::default() });
        let error = store.import(&sample(15 << 20, 1)[..], &mut |_| {}).expect_err("full");
        assert!(error.is_full() && error.to_string().ends_with("the disk is full"), "{error}");
        assert!(store.files().paths().is_empty());
    }
    let store = store();
    let faults = Faults { failing_write: Some((2, io::ErrorKind::Other)), ..Faults::default() };
    store.files().set_faults(faults);
    assert!(store.import(&sample(5 << 20, 1)[..], &mut |_| {}).is_err());
    assert!(store.files().paths().is_empty());
}

/// A writer that fails after some bytes.
struct Full(usize);

impl io::Write for Full {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if self.0 == 0 {
            return Err(io::ErrorKind::StorageFull.into());
        }
        let n = bytes.len().min(self.0);
        self.0 -= n;
        Ok(n)
    }
    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[test]
fn a_writer_that_fails_ends_the_copy() {
    let store = store();
    for size in [10, 30 << 20] {
        let key = add(&store, &sample(size, 1));
        let error = store.copy_to(&key, &mut Full(9), &mut |_| {}).expect_err("full");
        assert!(error.is_full(), "{error}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]
    #[test]
    fn any_size_goes_in_and_out(size in 0u64..3_000_000, seed: u64, step in 1usize..100_000) {
        let store = store();
        let bytes = sample(size, seed);
        let key = add(&store, &bytes);
        prop_assert_eq!(key, ArtifactId::of(&bytes));
        let mut reader = store.open_verified(&key).expect("here");
        let mut got = Vec::new();
        let mut buffer = vec![0; step];
        while let n @ 1.. = reader.read(&mut buffer).expect("good") {
            got.extend_from_slice(&buffer[..n]);
        }
        prop_assert!(got == bytes);
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, ..ProptestConfig::default() })]

    /// Seeking and reading is what it is in memory.
    #[test]
    fn any_place_can_be_sought(
        size in prop::sample::select(SIZES.to_vec()),
        moves in prop::collection::vec((0..3u8, any::<i64>(), 0..3_000_000usize), 1..12),
    ) {
        let bytes = sample(size, size);
        let store = store();
        let key = add(&store, &bytes);
        let (mut real, mut plain) = (store.open_verified(&key).expect("open"), Cursor::new(&bytes));
        for (how, distance, length) in moves {
            let near = distance % (size as i64 + 1_000);
            let to = match how {
                0 => SeekFrom::Start(near.unsigned_abs()),
                1 => SeekFrom::End(near),
                _ => SeekFrom::Current(near),
            };
            match (real.seek(to), plain.seek(to)) {
                (Ok(at), Ok(plain)) => prop_assert_eq!(at, plain),
                (Err(_), Err(_)) => continue,
                other => prop_assert!(false, "{:?}: {:?}", to, other),
            }
            let (mut a, mut b) = (Vec::new(), Vec::new());
            let limit = length as u64;
            (&mut real).take(limit).read_to_end(&mut a).expect("read");
            (&mut plain).take(limit).read_to_end(&mut b).expect("read");
            prop_assert!(a == b, "{:?}, then {} bytes", to, length);
            prop_assert_eq!(real.stream_position().expect("place"), plain.position());
        }
    }
}

/// Only what is read is verified, and what is read always is.
#[test]
fn damage_is_noticed_where_it_is_sought() {
    let store = store();
    let bytes = sample(5 << 20, 1);
    let key = add(&store, &bytes);
    let place = (3 << 20) + 5;
    assert!(store.files().flip(&path(&key), place, 1));
    let mut reader = store.open_verified(&key).expect("open");
    let mut byte = [0; 1];
    for at in [(2 << 20) + 7, (4 << 20) + 3, 0] {
        reader.seek(SeekFrom::Start(at)).expect("seek");
        reader.read_exact(&mut byte).expect("whole");
        assert_eq!(byte[0], bytes[at as usize]);
    }
    for at in [place, place + GROUP, (4 << 20) - 1] {
        reader.seek(SeekFrom::Start(at)).expect("seek");
        assert!(reader.read_exact(&mut byte).is_err(), "{at}");
    }
    reader.seek(SeekFrom::Start((4 << 20) + 3)).expect("seek");
    reader.read_exact(&mut byte).expect("whole again");
}

#[test]
fn a_file_that_is_taken_over_is_as_if_it_was_read() {
    let dir = tempfile::tempdir().unwrap();
    let store = ArtifactStore::open(&dir.path().join("artifacts")).unwrap();
    for size in [0, 1, 16 << 10, (16 << 10) + 1, 1 << 20, (1 << 20) + 1, 5_000_000] {
        let bytes: Vec<u8> = (0..size).map(|n: usize| (n * 31 % 251) as u8).collect();
        let path = dir.path().join("made");
        std::fs::write(&path, &bytes).unwrap();
        let taken = store.take_over(&path).unwrap();
        assert!(!path.exists());
        let read = store.import(&bytes[..], &mut |_| ()).unwrap();
        assert_eq!((taken.key, taken.size), (read.key, read.size), "{size}");
        store.discard(read);
        let key = taken.key;
        store.adopt(taken).unwrap();
        let mut out = Vec::new();
        // Verified group by group: the outboard fits.
        store.copy_to(&key, &mut out, &mut |_| ()).unwrap();
        assert!(out == bytes, "{size}");
    }
    assert!(store.take_over(&dir.path().join("nothing")).is_err());
}
