use super::*;
use crate::wasi::abi::Errno;

fn files(
    inputs: &[(&'static str, &'static [u8])],
    outputs: &[&str],
    max: u64,
) -> (Files, tempfile::TempDir) {
    let dir = tempfile::tempdir().expect("a directory");
    let bytes: BTreeMap<String, &'static [u8]> =
        inputs.iter().map(|(name, bytes)| ((*name).to_owned(), *bytes)).collect();
    let sizes = bytes.iter().map(|(name, bytes)| (name.clone(), bytes.len() as u64)).collect();
    let opener: Opener = Arc::new(move |name| Ok(Box::new(io::Cursor::new(bytes[name]))));
    let outputs = outputs.iter().map(|name| (*name).to_owned()).collect();
    let files =
        Files::new(sizes, &outputs, opener, dir.path().to_owned(), max, 8).expect("it opens");
    (files, dir)
}

fn errno<T: std::fmt::Debug>(outcome: Outcome<T>) -> Option<Errno> {
    match outcome {
        Err(Fail::Errno(errno)) => Some(errno),
        _ => None,
    }
}

const READ_WRITE: u64 = RIGHTS_READ | RIGHTS_WRITE;
const IN: u32 = 3;
const OUT: u32 = 4;

fn make(files: &mut Files, path: &str) -> u32 {
    files.open(OUT, path, O_CREAT, READ_WRITE, 0).expect("it is made")
}

#[test]
fn inputs_are_read_from_anywhere_and_never_written() {
    let (mut files, _dir) = files(&[("a", b"hello"), ("b", b"")], &[], 100);
    let fd = files.open(IN, "./a", 0, READ_WRITE, 0).expect("it opens");
    let mut into = [0; 3];
    assert_eq!(files.read(fd, &mut into).expect("it reads"), 3);
    assert_eq!(&into, b"hel");
    assert_eq!(files.read_at(fd, &mut into, 1).expect("it reads"), 3);
    assert_eq!(&into, b"ell");
    assert_eq!(files.read(fd, &mut into).expect("it goes on where it was"), 2);
    assert_eq!(&into[..2], b"lo");
    assert_eq!(files.read(fd, &mut into).expect("it ends"), 0);
    assert_eq!(files.seek(fd, -4, 2).expect("it seeks"), 1);
    assert_eq!(errno(files.seek(fd, -2, 1)), Some(Errno::INVAL));
    assert_eq!(files.read(fd, &mut into).expect("it reads"), 3);
    assert_eq!(&into, b"ell");
    assert_eq!(errno(files.write(fd, b"x")), Some(Errno::BADF));
    assert_eq!(errno(files.open(IN, "a", O_TRUNC, READ_WRITE, 0)), Some(Errno::ROFS));
    assert_eq!(errno(files.open(IN, "c", O_CREAT, READ_WRITE, 0)), Some(Errno::ROFS));
    assert_eq!(errno(files.remove(IN, "a", false)), Some(Errno::ROFS));
    assert_eq!(errno(files.rename(OUT, "x", IN, "a")), Some(Errno::XDEV));
    assert_eq!(files.stat(IN, "b").expect("it is there").size, 0);
}

#[test]
fn outputs_are_files_in_directories_that_move() {
    let (mut files, _dir) = files(&[], &[], 1000);
    files.make_directory(OUT, "d").expect("it is made");
    let fd = make(&mut files, "d/x");
    files.write(fd, b"one").expect("it writes");
    let inode = files.filestat(fd).expect("it is open").inode;
    assert_eq!(errno(files.remove(OUT, "d", true)), Some(Errno::NOTEMPTY));
    assert_eq!(errno(files.rename(OUT, "d", OUT, "d/e")), Some(Errno::INVAL));
    files.rename(OUT, "d", OUT, "e").expect("it moves");
    assert_eq!(files.stat(OUT, "e/x").expect("it is there").inode, inode);
    assert_eq!(errno(files.stat(OUT, "d/x")), Some(Errno::NOENT));
    let other = make(&mut files, "y");
    files.write(other, b"gone").expect("it writes");
    files.close(other).expect("it closes");
    files.rename(OUT, "e/x", OUT, "y").expect("it replaces");
    files.write(fd, b"!").expect("it is open all the while");
    let names: Vec<String> =
        files.list(OUT).expect("a directory").into_iter().map(|(name, ..)| name).collect();
    assert_eq!(names, [".", "..", "e", "y"]);
    files.remove(OUT, "e", true).expect("it is empty");
    assert_eq!(files.output, 4, "what was replaced does not count");
    let made = files.finish().expect("it finishes");
    assert_eq!(made.keys().collect::<Vec<_>>(), ["y"]);
    assert_eq!(made["y"].bytes(), Some(&b"one!"[..]));
}

#[test]
fn removed_files_live_until_they_are_closed_and_then_count_no_more() {
    let (mut files, _dir) = files(&[], &[], 10);
    for _ in 0..5 {
        let fd = make(&mut files, "x");
        files.write(fd, b"12345678").expect("it is within the limit");
        files.remove(OUT, "x", false).expect("it has no name now");
        let mut into = [0; 8];
        assert_eq!(files.read_at(fd, &mut into, 0).expect("it is open"), 8);
        files.close(fd).expect("it closes");
        assert_eq!(files.output, 0);
    }
    let fd = make(&mut files, "x");
    files.write(fd, b"1234567890").expect("that is all");
    assert!(matches!(files.write(fd, b"1"), Err(Fail::Stop(Stop::OutputLimit(10)))));
}

#[test]
fn descriptors_are_few_and_the_lowest_is_taken() {
    let (mut files, _dir) = files(&[("a", b"x")], &[], 10);
    let first = files.open(IN, "a", 0, RIGHTS_READ, 0).expect("it opens");
    assert_eq!(first, 5);
    files.close(0).expect("standard input can be closed");
    assert_eq!(files.open(IN, "a", 0, RIGHTS_READ, 0).expect("it opens"), 0);
    files.renumber(first, 9).expect_err("9 is not open");
    files.renumber(first, 0).expect("both are open");
    assert_eq!(errno(files.filestat(first)), Some(Errno::BADF));
    let mut opened = 0;
    let full = loop {
        match files.open(IN, "a", 0, RIGHTS_READ, 0) {
            Ok(_) => opened += 1,
            Err(error) => break error,
        }
    };
    assert_eq!(opened + 5, OPEN_MAX);
    assert!(matches!(full, Fail::Errno(Errno::MFILE)));
    assert_eq!(errno(files.open(OUT, "new", O_CREAT, READ_WRITE, 0)), Some(Errno::MFILE));
    assert_eq!(errno(files.stat(OUT, "new")), Some(Errno::NOENT), "nothing is left of it");
}

#[test]
fn streams_are_written_at_their_end_and_do_not_seek() {
    let (mut files, _dir) = files(&[(STDIN, b"abc")], &[STDOUT], 100);
    let mut into = [0; 8];
    assert_eq!(files.read(0, &mut into).expect("it reads"), 3);
    assert_eq!(errno(files.seek(0, 0, 0)), Some(Errno::SPIPE));
    assert_eq!(errno(files.read_at(0, &mut into, 0)), Some(Errno::SPIPE));
    files.write(1, b"one ").expect("it writes");
    files.write(1, b"two").expect("it writes");
    assert_eq!(errno(files.seek(1, 0, 0)), Some(Errno::SPIPE));
    assert_eq!(errno(files.read(1, &mut into)), Some(Errno::BADF));
    files.write(2, b"what is wrong").expect("it writes");
    assert_eq!(files.last_words(), "what is wrong");
    let made = files.finish().expect("it finishes");
    assert_eq!(made.keys().collect::<Vec<_>>(), [STDOUT]);
    assert_eq!(made[STDOUT].bytes(), Some(&b"one two"[..]));
}
