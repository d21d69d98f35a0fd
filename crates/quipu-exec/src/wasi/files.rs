//! The files of a step: `/in` with its inputs, `/out` with what it makes, and the three standard
//! streams, as descriptors.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{self, BufReader, Read, Seek, SeekFrom};
use std::path::PathBuf;
use std::sync::Arc;

use super::abi::{
    Errno, FDFLAGS_APPEND, FDFLAGS_WITHOUT_EFFECT, FdStat, FileStat, FileType, O_CREAT,
    O_DIRECTORY, O_EXCL, O_TRUNC, RIGHTS_ALL, RIGHTS_READ, RIGHTS_SEEK, RIGHTS_TELL, RIGHTS_WRITE,
};
use super::{Fail, Outcome, Stop};
use crate::artifacts::ReadSeek;
use crate::program::{STDERR, STDIN, STDOUT};
use crate::spool::{Made, Spool};

/// The directories that a module begins with, as their descriptors have them.
const PREOPENED: [&str; 2] = ["/in", "/out"];
/// The descriptor of the first of them.
const PREOPENED_FIRST: u32 = 3;
/// Descriptors that may be open at a time.
const OPEN_MAX: usize = 256;
/// Bytes of a path, relative to `/in` or `/out`.
const PATH_BYTES_MAX: usize = 1024;
/// Bytes of an input that are read ahead.
const READ_AHEAD_BYTES: usize = 128 << 10;
/// Bytes of standard output or error output that are kept for messages, from the end.
const LOG_BYTES_MAX: usize = 4 << 10;

/// Opens an input by its name.
pub(crate) type Opener = Arc<dyn Fn(&str) -> io::Result<Box<dyn ReadSeek>> + Send + Sync>;

/// The files of one step.
pub(crate) struct Files {
    inputs: BTreeMap<String, u64>,
    opener: Opener,
    dir: PathBuf,
    /// What is below `/out`, by path. The root is not in it.
    tree: BTreeMap<String, Entry>,
    /// What was made, by number. Nothing if it was removed and nobody has it open.
    made: Vec<Option<Spool>>,
    open: BTreeMap<u32, Handle>,
    /// Standard output and error output, where they are outputs.
    streams: BTreeMap<&'static str, usize>,
    logs: BTreeMap<&'static str, Vec<u8>>,
    output_max: u64,
    files_max: u64,
    /// Bytes written to streams that are no outputs.
    logged: u64,
    /// What is in `made`, and how many entries were ever made.
    output: u64,
    entries_made: u64,
    /// Bytes read and written, for whoever watches.
    pub(super) moved: u64,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Entry {
    Directory,
    File(usize),
}

enum Handle {
    /// Standard input where there is none.
    Empty,
    Input {
        name: String,
        reader: BufReader<Box<dyn ReadSeek>>,
        reader_at: u64,
        at: u64,
        size: u64,
    },
    Made {
        number: usize,
        at: u64,
        flags: u16,
        read: bool,
        write: bool,
        /// A stream cannot seek.
        stream: bool,
    },
    Log(&'static str),
    InRoot,
    /// A directory below `/out`, or `/out` itself, whose path is empty.
    Directory(String),
}

/// Where a path leads.
enum Target {
    InRoot,
    Input(String),
    /// Below `/out`, there or not. `/out` itself is the empty path.
    Out(String),
}

impl Files {
    pub(crate) fn new(
        inputs: BTreeMap<String, u64>,
        outputs: &BTreeSet<String>,
        opener: Opener,
        dir: PathBuf,
        output_max: u64,
        files_max: u64,
    ) -> io::Result<Self> {
        let mut files = Self {
            inputs,
            opener,
            dir,
            tree: BTreeMap::new(),
            made: Vec::new(),
            open: BTreeMap::new(),
            streams: BTreeMap::new(),
            logs: BTreeMap::new(),
            output_max,
            files_max,
            logged: 0,
            output: 0,
            entries_made: 0,
            moved: 0,
        };
        let stdin = match files.inputs.remove(STDIN) {
            Some(size) => files.input(STDIN, size)?,
            None => Handle::Empty,
        };
        files.open.insert(0, stdin);
        for (fd, name) in [(1, STDOUT), (2, STDERR)] {
            let handle = if outputs.contains(name) {
                let number = files.made.len();
                files.made.push(Some(Spool::new(&files.dir)));
                files.streams.insert(name, number);
                let (read, write, stream) = (false, true, true);
                Handle::Made { number, at: 0, flags: FDFLAGS_APPEND, read, write, stream }
            } else {
                files.logs.insert(name, Vec::new());
                Handle::Log(name)
            };
            files.open.insert(fd, handle);
        }
        files.open.insert(PREOPENED_FIRST, Handle::InRoot);
        files.open.insert(PREOPENED_FIRST + 1, Handle::Directory(String::new()));
        Ok(files)
    }

    fn input(&self, name: &str, size: u64) -> io::Result<Handle> {
        let reader = BufReader::with_capacity(READ_AHEAD_BYTES, (self.opener)(name)?);
        Ok(Handle::Input { name: name.to_owned(), reader, reader_at: 0, at: 0, size })
    }

    /// What was made, by name: files below `/out`, by path, and streams.
    pub(crate) fn finish(mut self) -> io::Result<BTreeMap<String, Made>> {
        let files = self.tree.into_iter().filter_map(|(path, entry)| match entry {
            Entry::File(number) => Some((path, number)),
            Entry::Directory => None,
        });
        let streams = self.streams.into_iter().map(|(name, number)| (name.to_owned(), number));
        let mut made = BTreeMap::new();
        for (name, number) in files.chain(streams) {
            if let Some(spool) = self.made.get_mut(number).and_then(Option::take) {
                made.insert(name, spool.finish()?);
            }
        }
        Ok(made)
    }

    /// The end of what was written to standard error output, else to standard output.
    pub(crate) fn last_words(&mut self) -> String {
        for name in [STDERR, STDOUT] {
            if let Some(log) = self.logs.get(name).filter(|log| !log.is_empty()) {
                return String::from_utf8_lossy(log).trim().to_owned();
            }
            if let Some(number) = self.streams.get(name)
                && let Some(Some(spool)) = self.made.get_mut(*number)
                && name == STDERR
                && spool.size() > 0
            {
                let mut words = vec![0; LOG_BYTES_MAX];
                let at = spool.size().saturating_sub(LOG_BYTES_MAX as u64);
                let got = spool.read_at(&mut words, at).unwrap_or(0);
                return String::from_utf8_lossy(&words[..got]).trim().to_owned();
            }
        }
        String::new()
    }

    fn handle(&mut self, fd: u32) -> Outcome<&mut Handle> {
        self.open.get_mut(&fd).ok_or(Fail::Errno(Errno::BADF))
    }

    /// The name of a directory that was there at the beginning.
    pub(super) fn preopened(&self, fd: u32) -> Outcome<&'static str> {
        let there = self.open.contains_key(&fd);
        let at = fd.checked_sub(PREOPENED_FIRST).filter(|_| there).map(|at| at as usize);
        at.and_then(|at| PREOPENED.get(at)).copied().ok_or(Errno::BADF.into())
    }

    // ---- descriptors

    pub(super) fn close(&mut self, fd: u32) -> Outcome {
        match self.open.remove(&fd) {
            None => Err(Errno::BADF.into()),
            Some(Handle::Made { number, .. }) => {
                self.forget(number);
                Ok(())
            }
            Some(_) => Ok(()),
        }
    }

    pub(super) fn renumber(&mut self, from: u32, to: u32) -> Outcome {
        if !self.open.contains_key(&from) || !self.open.contains_key(&to) {
            return Err(Errno::BADF.into());
        }
        if from != to {
            self.close(to)?;
            if let Some(handle) = self.open.remove(&from) {
                self.open.insert(to, handle);
            }
        }
        Ok(())
    }

    /// Frees what has no name and is not open any more.
    fn forget(&mut self, number: usize) {
        let named = self.tree.values().any(|entry| *entry == Entry::File(number))
            || self.streams.values().any(|stream| *stream == number);
        let is_it =
            |handle: &Handle| matches!(handle, Handle::Made { number: n, .. } if *n == number);
        if !named
            && !self.open.values().any(is_it)
            && let Some(spool) = self.made.get_mut(number).and_then(Option::take)
        {
            self.output -= spool.size();
        }
    }

    fn insert(&mut self, handle: Handle) -> Outcome<u32> {
        if self.open.len() >= OPEN_MAX {
            return Err(Errno::MFILE.into());
        }
        let free = (0..).find(|fd| !self.open.contains_key(fd)).unwrap_or(u32::MAX);
        self.open.insert(free, handle);
        Ok(free)
    }

    pub(super) fn fdstat(&mut self, fd: u32) -> Outcome<FdStat> {
        let (kind, flags, rights) = match self.handle(fd)? {
            Handle::InRoot | Handle::Directory(_) => (FileType::Directory, 0, RIGHTS_ALL),
            Handle::Empty => (FileType::Regular, 0, RIGHTS_READ),
            Handle::Log(_) => (FileType::Regular, FDFLAGS_APPEND, RIGHTS_WRITE),
            Handle::Input { .. } => (FileType::Regular, 0, RIGHTS_ALL & !RIGHTS_WRITE),
            Handle::Made { flags, read, write, stream, .. } => {
                let mut rights = RIGHTS_ALL;
                for (has, right) in [
                    (*read, RIGHTS_READ),
                    (*write, RIGHTS_WRITE),
                    (!*stream, RIGHTS_SEEK | RIGHTS_TELL),
                ] {
                    if !has {
                        rights &= !right;
                    }
                }
                (FileType::Regular, *flags, rights)
            }
        };
        let inheriting = if kind == FileType::Directory { RIGHTS_ALL } else { 0 };
        Ok(FdStat { kind, flags, rights, inheriting })
    }

    pub(super) fn set_flags(&mut self, fd: u32, new: u16) -> Outcome {
        if new & !(FDFLAGS_APPEND | FDFLAGS_WITHOUT_EFFECT) != 0 {
            return Err(Errno::INVAL.into());
        }
        if let Handle::Made { flags, stream: false, .. } = self.handle(fd)? {
            *flags = new;
        }
        Ok(())
    }

    pub(super) fn filestat(&mut self, fd: u32) -> Outcome<FileStat> {
        let stat = |name: &str, kind, size| Ok(FileStat { inode: inode(name), kind, size });
        match self.handle(fd)? {
            Handle::Empty => stat(STDIN, FileType::Regular, 0),
            Handle::Log(name) => stat(name, FileType::Regular, 0),
            Handle::InRoot => stat("/in", FileType::Directory, 0),
            Handle::Directory(path) => stat(&format!("/out/{path}"), FileType::Directory, 0),
            Handle::Input { name, size, .. } => {
                let (name, size) = (format!("/in/{name}"), *size);
                stat(&name, FileType::Regular, size)
            }
            Handle::Made { number, .. } => {
                let number = *number;
                let size = self.spool(number)?.size();
                stat(&self.made_name(number), FileType::Regular, size)
            }
        }
    }

    /// What the inode of a made file is made of: its number, so that a rename changes nothing.
    fn made_name(&self, number: usize) -> String {
        format!("made {number}")
    }

    fn spool(&mut self, number: usize) -> Outcome<&mut Spool> {
        self.made.get_mut(number).and_then(Option::as_mut).ok_or(Fail::Errno(Errno::BADF))
    }

    // ---- bytes

    /// Reads at the descriptor's place. It is always as much as there is and fits: a short read would
    /// depend on buffers.
    pub(super) fn read(&mut self, fd: u32, into: &mut [u8]) -> Outcome<usize> {
        let (at, _) = self.place(fd)?;
        let got = self.read_from(fd, into, at)?;
        self.move_to(fd, at + got as u64);
        Ok(got)
    }

    /// Reads anywhere, without moving.
    pub(super) fn read_at(&mut self, fd: u32, into: &mut [u8], at: u64) -> Outcome<usize> {
        if self.place(fd)?.1 {
            return Err(Errno::SPIPE.into());
        }
        self.read_from(fd, into, at)
    }

    fn read_from(&mut self, fd: u32, into: &mut [u8], from: u64) -> Outcome<usize> {
        let got = match self.handle(fd)? {
            Handle::Empty => 0,
            Handle::Log(_) => return Err(Errno::BADF.into()),
            Handle::InRoot | Handle::Directory(_) => return Err(Errno::ISDIR.into()),
            Handle::Made { read: false, .. } => return Err(Errno::BADF.into()),
            Handle::Made { number, .. } => {
                let number = *number;
                self.spool(number)?.read_at(into, from).map_err(Stop::Output)?
            }
            Handle::Input { name, reader, reader_at, size, .. } => {
                let there = size.saturating_sub(from).min(into.len() as u64) as usize;
                let mut read = || {
                    if *reader_at != from {
                        reader.seek(SeekFrom::Start(from))?;
                    }
                    reader.read_exact(&mut into[..there])
                };
                let failed = |error| Stop::Input { name: name.clone(), error };
                if there > 0 {
                    read().map_err(failed)?;
                    *reader_at = from + there as u64;
                }
                there
            }
        };
        self.moved += got as u64;
        Ok(got)
    }

    /// Where a descriptor is, and whether it is a stream.
    fn place(&mut self, fd: u32) -> Outcome<(u64, bool)> {
        match self.handle(fd)? {
            Handle::Empty | Handle::Log(_) => Ok((0, true)),
            Handle::Input { at, name, .. } => Ok((*at, name == STDIN)),
            Handle::Made { at, stream, .. } => Ok((*at, *stream)),
            Handle::InRoot | Handle::Directory(_) => Err(Errno::ISDIR.into()),
        }
    }

    fn move_to(&mut self, fd: u32, to: u64) {
        if let Some(Handle::Input { at, .. } | Handle::Made { at, .. }) = self.open.get_mut(&fd) {
            *at = to;
        }
    }

    /// Writes at the descriptor's place, or at the end if it appends.
    pub(super) fn write(&mut self, fd: u32, bytes: &[u8]) -> Outcome<usize> {
        let (at, _) = self.place(fd)?;
        let at = match self.handle(fd)? {
            Handle::Made { number, flags, .. } if *flags & FDFLAGS_APPEND != 0 => {
                let number = *number;
                self.spool(number)?.size()
            }
            _ => at,
        };
        self.write_to(fd, bytes, at)?;
        self.move_to(fd, at + bytes.len() as u64);
        Ok(bytes.len())
    }

    /// Writes anywhere, without moving.
    pub(super) fn write_at(&mut self, fd: u32, bytes: &[u8], at: u64) -> Outcome<usize> {
        if self.place(fd)?.1 {
            return Err(Errno::SPIPE.into());
        }
        self.write_to(fd, bytes, at)?;
        Ok(bytes.len())
    }

    fn write_to(&mut self, fd: u32, bytes: &[u8], at: u64) -> Outcome {
        match self.handle(fd)? {
            Handle::Made { write: true, number, .. } => {
                let number = *number;
                let end = at.checked_add(bytes.len() as u64).ok_or(Errno::OVERFLOW)?;
                let size = self.spool(number)?.size();
                if !bytes.is_empty() {
                    self.grow(size, end.max(size))?;
                }
                self.spool(number)?.write_at(bytes, at).map_err(Stop::Output)?;
            }
            Handle::Log(name) => {
                let name = *name;
                self.logged += bytes.len() as u64;
                self.within_output()?;
                let log = self.logs.entry(name).or_default();
                let tail = bytes.len().saturating_sub(LOG_BYTES_MAX);
                log.extend_from_slice(&bytes[tail..]);
                let over = log.len().saturating_sub(LOG_BYTES_MAX);
                log.drain(..over);
            }
            _ => return Err(Errno::BADF.into()),
        }
        self.moved += bytes.len() as u64;
        Ok(())
    }

    /// Counts what a file's new size adds.
    fn grow(&mut self, from: u64, to: u64) -> Outcome {
        self.output = (self.output - from).saturating_add(to);
        self.within_output()
    }

    fn within_output(&self) -> Outcome {
        if self.output.saturating_add(self.logged) > self.output_max {
            return Err(Stop::OutputLimit(self.output_max).into());
        }
        Ok(())
    }

    pub(super) fn set_size(&mut self, fd: u32, to: u64) -> Outcome {
        match self.handle(fd)? {
            Handle::Made { write: true, number, stream: false, .. } => {
                let number = *number;
                let from = self.spool(number)?.size();
                self.grow(from, to)?;
                Ok(self.spool(number)?.set_size(to).map_err(Stop::Output)?)
            }
            Handle::InRoot | Handle::Directory(_) => Err(Errno::ISDIR.into()),
            Handle::Input { .. } => Err(Errno::INVAL.into()),
            _ => Err(Errno::BADF.into()),
        }
    }

    /// Makes a file at least that large.
    pub(super) fn allocate(&mut self, fd: u32, at: u64, length: u64) -> Outcome {
        let size = self.filestat(fd)?.size;
        let end = at.checked_add(length).ok_or(Errno::OVERFLOW)?;
        if end > size { self.set_size(fd, end) } else { Ok(()) }
    }

    pub(super) fn seek(&mut self, fd: u32, by: i64, whence: u32) -> Outcome<u64> {
        let (at, stream) = self.place(fd)?;
        if stream {
            return Err(Errno::SPIPE.into());
        }
        let from = match whence {
            0 => 0,
            1 => at,
            2 => self.filestat(fd)?.size,
            _ => return Err(Errno::INVAL.into()),
        };
        let to = from.checked_add_signed(by).ok_or(Errno::INVAL)?;
        // As with files elsewhere, so that sums of places and lengths stay within 64 bits.
        if to > i64::MAX as u64 {
            return Err(Errno::INVAL.into());
        }
        self.move_to(fd, to);
        Ok(to)
    }

    // ---- paths

    /// Where a path leads from a directory. It never leaves `/in` or `/out`.
    fn resolve(&mut self, fd: u32, path: &str) -> Outcome<Target> {
        if path.len() > PATH_BYTES_MAX {
            return Err(Errno::NAMETOOLONG.into());
        }
        if path.is_empty() {
            return Err(Errno::NOENT.into());
        }
        let (is_in, base) = match self.handle(fd)? {
            Handle::InRoot => (true, String::new()),
            Handle::Directory(base) => (false, base.clone()),
            _ => return Err(Errno::NOTDIR.into()),
        };
        if path.starts_with('/') || path.contains('\0') {
            return Err(Errno::NOTCAPABLE.into());
        }
        let mut parts: Vec<&str> = base.split('/').filter(|part| !part.is_empty()).collect();
        for part in path.split('/') {
            match part {
                "" | "." => {}
                ".." => {
                    parts.pop().ok_or(Errno::NOTCAPABLE)?;
                }
                // There are no links, so what is not a directory has nothing below it.
                _ => parts.push(part),
            }
        }
        let path = parts.join("/");
        Ok(match (is_in, path.is_empty()) {
            (true, true) => Target::InRoot,
            (true, false) => Target::Input(path),
            (false, _) => Target::Out(path),
        })
    }

    fn entry(&self, path: &str) -> Option<Entry> {
        if path.is_empty() { Some(Entry::Directory) } else { self.tree.get(path).copied() }
    }

    /// Whether something may be made there.
    fn parent(&self, path: &str) -> Outcome {
        let parent = path.rsplit_once('/').map_or("", |(parent, _)| parent);
        match self.entry(parent) {
            Some(Entry::Directory) => Ok(()),
            Some(Entry::File(_)) => Err(Errno::NOTDIR.into()),
            None => Err(Errno::NOENT.into()),
        }
    }

    /// Counts an entry that is made.
    fn one_more(&mut self) -> Outcome {
        self.entries_made += 1;
        if self.entries_made > self.files_max {
            return Err(Stop::FilesLimit(self.files_max).into());
        }
        Ok(())
    }

    pub(super) fn stat(&mut self, fd: u32, path: &str) -> Outcome<FileStat> {
        let stat = |name: &str, kind, size| FileStat { inode: inode(name), kind, size };
        match self.resolve(fd, path)? {
            Target::InRoot => Ok(stat("/in", FileType::Directory, 0)),
            Target::Input(name) => {
                let size = *self.inputs.get(&name).ok_or(Errno::NOENT)?;
                Ok(stat(&format!("/in/{name}"), FileType::Regular, size))
            }
            Target::Out(path) => match self.entry(&path).ok_or(Errno::NOENT)? {
                Entry::Directory => Ok(stat(&format!("/out/{path}"), FileType::Directory, 0)),
                Entry::File(number) => {
                    let size = self.spool(number)?.size();
                    Ok(stat(&self.made_name(number), FileType::Regular, size))
                }
            },
        }
    }

    pub(super) fn open(
        &mut self,
        fd: u32,
        path: &str,
        how: u32,
        rights: u64,
        flags: u16,
    ) -> Outcome<u32> {
        if how & !(O_CREAT | O_DIRECTORY | O_EXCL | O_TRUNC) != 0
            || flags & !(FDFLAGS_APPEND | FDFLAGS_WITHOUT_EFFECT) != 0
        {
            return Err(Errno::INVAL.into());
        }
        match self.resolve(fd, path)? {
            Target::InRoot => self.insert(Handle::InRoot),
            Target::Input(name) => self.open_input(&name, how, rights),
            Target::Out(path) => self.open_out(path, how, rights, flags),
        }
    }

    fn open_input(&mut self, name: &str, how: u32, rights: u64) -> Outcome<u32> {
        let Some(size) = self.inputs.get(name).copied() else {
            let errno = if how & O_CREAT != 0 { Errno::ROFS } else { Errno::NOENT };
            return Err(errno.into());
        };
        if how & O_DIRECTORY != 0 {
            return Err(Errno::NOTDIR.into());
        }
        if how & (O_CREAT | O_EXCL) == O_CREAT | O_EXCL {
            return Err(Errno::EXIST.into());
        }
        // Rights beyond reading are often asked for without need; a file opened for writing alone,
        // or to be emptied, is not.
        if how & O_TRUNC != 0 || rights & (RIGHTS_READ | RIGHTS_WRITE) == RIGHTS_WRITE {
            return Err(Errno::ROFS.into());
        }
        if self.open.len() >= OPEN_MAX {
            return Err(Errno::MFILE.into());
        }
        let failed = |error| Stop::Input { name: name.to_owned(), error };
        let handle = self.input(name, size).map_err(failed)?;
        self.insert(handle)
    }

    fn open_out(&mut self, path: String, how: u32, rights: u64, flags: u16) -> Outcome<u32> {
        let number = match self.entry(&path) {
            Some(Entry::Directory) => {
                if how & (O_CREAT | O_TRUNC) != 0
                    || rights & RIGHTS_WRITE != 0 && how & O_DIRECTORY == 0
                {
                    return Err(Errno::ISDIR.into());
                }
                return self.insert(Handle::Directory(path));
            }
            Some(Entry::File(_)) if how & O_DIRECTORY != 0 => return Err(Errno::NOTDIR.into()),
            Some(Entry::File(_)) if how & (O_CREAT | O_EXCL) == O_CREAT | O_EXCL => {
                return Err(Errno::EXIST.into());
            }
            Some(Entry::File(number)) => number,
            None if how & O_CREAT == 0 || how & O_DIRECTORY != 0 => {
                return Err(Errno::NOENT.into());
            }
            None => {
                self.parent(&path)?;
                if self.open.len() >= OPEN_MAX {
                    return Err(Errno::MFILE.into());
                }
                self.one_more()?;
                let number = self.made.len();
                self.made.push(Some(Spool::new(&self.dir)));
                self.tree.insert(path, Entry::File(number));
                number
            }
        };
        let (read, write) = (rights & RIGHTS_READ != 0, rights & RIGHTS_WRITE != 0);
        let opened =
            self.insert(Handle::Made { number, at: 0, flags, read, write, stream: false })?;
        if how & O_TRUNC != 0 {
            let from = self.spool(number)?.size();
            self.grow(from, 0)?;
            self.spool(number)?.set_size(0).map_err(Stop::Output)?;
        }
        Ok(opened)
    }

    pub(super) fn make_directory(&mut self, fd: u32, path: &str) -> Outcome {
        let path = self.out_path(fd, path)?;
        if self.entry(&path).is_some() {
            return Err(Errno::EXIST.into());
        }
        self.parent(&path)?;
        self.one_more()?;
        self.tree.insert(path, Entry::Directory);
        Ok(())
    }

    /// A path below `/out`; for what changes something.
    fn out_path(&mut self, fd: u32, path: &str) -> Outcome<String> {
        match self.resolve(fd, path)? {
            Target::Out(path) => Ok(path),
            Target::InRoot | Target::Input(_) => Err(Errno::ROFS.into()),
        }
    }

    fn is_empty(&self, directory: &str) -> bool {
        self.below(directory).next().is_none()
    }

    /// The paths below a directory.
    fn below<'s>(&'s self, directory: &str) -> impl Iterator<Item = (&'s str, Entry)> {
        let prefix = if directory.is_empty() { String::new() } else { format!("{directory}/") };
        let from = self.tree.range(prefix.clone()..);
        from.take_while(move |(path, _)| path.starts_with(&prefix))
            .map(|(path, entry)| (&**path, *entry))
    }

    pub(super) fn remove(&mut self, fd: u32, path: &str, directory: bool) -> Outcome {
        let path = self.out_path(fd, path)?;
        match (self.entry(&path).ok_or(Errno::NOENT)?, directory) {
            (Entry::File(_), true) => Err(Errno::NOTDIR.into()),
            (Entry::Directory, false) => Err(Errno::ISDIR.into()),
            (Entry::Directory, true) if path.is_empty() => Err(Errno::PERM.into()),
            (Entry::Directory, true) if !self.is_empty(&path) => Err(Errno::NOTEMPTY.into()),
            (entry, _) => {
                self.tree.remove(&path);
                if let Entry::File(number) = entry {
                    self.forget(number);
                }
                Ok(())
            }
        }
    }

    pub(super) fn rename(&mut self, fd: u32, path: &str, to_fd: u32, to: &str) -> Outcome {
        let (from, to) = match (self.resolve(fd, path)?, self.resolve(to_fd, to)?) {
            (Target::Out(from), Target::Out(to)) => (from, to),
            (Target::Out(_), _) => return Err(Errno::XDEV.into()),
            _ => return Err(Errno::ROFS.into()),
        };
        let moved = self.entry(&from).ok_or(Errno::NOENT)?;
        if from.is_empty() || to.is_empty() {
            return Err(Errno::PERM.into());
        }
        if from == to {
            return Ok(());
        }
        self.parent(&to)?;
        let inside = to.strip_prefix(&*from).is_some_and(|rest| rest.starts_with('/'));
        match (moved, self.entry(&to)) {
            (Entry::Directory, _) if inside => return Err(Errno::INVAL.into()),
            (Entry::Directory, Some(Entry::File(_))) => return Err(Errno::NOTDIR.into()),
            (Entry::File(_), Some(Entry::Directory)) => return Err(Errno::ISDIR.into()),
            (Entry::Directory, Some(_)) if !self.is_empty(&to) => {
                return Err(Errno::NOTEMPTY.into());
            }
            _ => {}
        }
        self.move_entries(&from, &to, moved);
        Ok(())
    }

    fn move_entries(&mut self, from: &str, to: &str, moved: Entry) {
        let below: Vec<(String, Entry)> = match moved {
            Entry::File(_) => Vec::new(),
            Entry::Directory => {
                self.below(from).map(|(path, entry)| (path.to_owned(), entry)).collect()
            }
        };
        for (path, entry) in below {
            self.tree.remove(&path);
            self.tree.insert(format!("{to}{}", &path[from.len()..]), entry);
        }
        self.tree.remove(from);
        if let Some(Entry::File(number)) = self.tree.insert(to.to_owned(), moved) {
            self.forget(number);
        }
    }

    /// The entries of a directory, in the order of their names.
    pub(super) fn list(&mut self, fd: u32) -> Outcome<Vec<(String, FileType, u64)>> {
        let (root, mut entries) = match self.handle(fd)? {
            Handle::InRoot => {
                let entry = |name: &String| {
                    (name.clone(), FileType::Regular, inode(&format!("/in/{name}")))
                };
                ("/in".to_owned(), self.inputs.keys().map(entry).collect::<Vec<_>>())
            }
            Handle::Directory(path) => {
                let path = path.clone();
                let skip = if path.is_empty() { 0 } else { path.len() + 1 };
                let entry = |(full, entry): (&str, Entry)| {
                    let name = full[skip..].to_owned();
                    match entry {
                        Entry::Directory => {
                            (name, FileType::Directory, inode(&format!("/out/{full}")))
                        }
                        Entry::File(number) => {
                            (name, FileType::Regular, inode(&self.made_name(number)))
                        }
                    }
                };
                let direct = |(full, _): &(&str, Entry)| !full[skip..].contains('/');
                let entries = self.below(&path).filter(direct).map(entry).collect();
                (format!("/out/{path}"), entries)
            }
            _ => return Err(Errno::NOTDIR.into()),
        };
        for dots in ["..", "."] {
            entries.insert(0, (dots.to_owned(), FileType::Directory, inode(&root)));
        }
        Ok(entries)
    }
}

/// A number for a file: a function of its name.
fn inode(name: &str) -> u64 {
    let digest = blake3::hash(name.as_bytes());
    u64::from_le_bytes(std::array::from_fn(|at| digest.as_bytes()[at]))
}

#[cfg(test)]
mod tests;
