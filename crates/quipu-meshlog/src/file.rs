//! The data files of meshlogd: an event on each line, in the order in which they came.
//!
//! meshlogd only ever appends. When it is cut off while it writes, the last line is torn, and meshlogd does not
//! start any more; here the torn line is told, and everything before it is read.

use std::sync::Arc;

use rayon::prelude::*;

use crate::event::{Event, ShapeError};
use crate::log::Log;

/// What a data file has.
#[derive(Debug, Clone, PartialEq)]
pub struct Loaded {
    /// Events in the order of the file.
    pub events: Vec<Arc<Event>>,
    /// What stands after the last whole line and is no event.
    pub torn: Option<Torn>,
    /// The last event has no end of line: one must be written before anything is appended.
    pub unended: bool,
}

/// The torn end of a file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Torn {
    /// Where it begins: the length to which the file may be cut.
    pub offset: usize,
    /// Its bytes, so that nothing is lost.
    pub bytes: Vec<u8>,
}

/// A line in the middle of a data file that is no event.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("line {line} of the data file is no event of meshlogd: {source}")]
pub struct FileError {
    /// Its number, from 1 on.
    pub line: usize,
    /// What is wrong with it.
    pub source: ShapeError,
}

impl FileError {
    /// What can be done about it.
    pub const fn hint(&self) -> &'static str {
        "take this line out of a copy of the file; the events of its author after it will wait for it"
    }
}

/// Lines with where they begin. As in Python's text files, `\r` and `\r\n` also end a line.
fn lines(file: &[u8]) -> impl Iterator<Item = (usize, &[u8])> {
    let mut at = 0;
    std::iter::from_fn(move || {
        let rest = file.get(at..).filter(|rest| !rest.is_empty())?;
        let length = memchr::memchr2(b'\n', b'\r', rest).unwrap_or(rest.len());
        let line = (at, &rest[..length]);
        let end = if rest[length..].starts_with(b"\r\n") { 2 } else { 1 };
        at += length + end;
        Some(line)
    })
}

/// Reads a data file.
pub fn read(file: &[u8]) -> Result<Loaded, FileError> {
    let (loaded, mut bad) = read_all(file);
    if bad.is_empty() { Ok(loaded) } else { Err(bad.swap_remove(0)) }
}

/// Reads a data file, and tells the lines that are no events besides those that are.
pub fn read_all(file: &[u8]) -> (Loaded, Vec<FileError>) {
    let filled = lines(file).enumerate().filter(|(_, (_, line))| !line.trim_ascii().is_empty());
    let filled: Vec<(usize, (usize, &[u8]))> = filled.collect();
    // In order, whatever the number of threads.
    let parse = |line: &[u8]| Event::parse(line.trim_ascii()).map(Arc::new);
    let mut parsed: Vec<Result<Arc<Event>, ShapeError>> =
        filled.par_iter().map(|(_, (_, line))| parse(line)).collect();
    let is_ended = file.ends_with(b"\n") || file.ends_with(b"\r");
    let mut torn = None;
    if !is_ended && let (Some(Err(_)), Some((_, (offset, line)))) = (parsed.last(), filled.last()) {
        torn = Some(Torn { offset: *offset, bytes: line.to_vec() });
        parsed.pop();
    }
    let unended = !is_ended && torn.is_none() && !parsed.is_empty();
    let (mut events, mut bad) = (Vec::with_capacity(parsed.len()), Vec::new());
    for (event, (number, _)) in parsed.into_iter().zip(&filled) {
        match event {
            Ok(event) => events.push(event),
            Err(source) => bad.push(FileError { line: number + 1, source }),
        }
    }
    (Loaded { events, torn, unended }, bad)
}

/// Appends the line of an event, as meshlogd writes it.
pub fn write_line(event: &Event, out: &mut Vec<u8>) {
    event.write_line(out);
    out.push(b'\n');
}

/// A whole data file.
pub fn write(log: &Log) -> Vec<u8> {
    let mut out = Vec::new();
    log.arrived().iter().for_each(|event| write_line(event, &mut out));
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::Stamp;
    use crate::event::Body;
    use crate::json::{self, Style, Value};
    use crate::text::Text;

    fn log() -> Log {
        let mut log = Log::default();
        for (n, author) in ["b", "a", "b", "a", "c"].into_iter().enumerate() {
            let author = Text::from(author);
            let (seq, prev) = log.next_of(&author);
            let payload = Value::object([("n", (n as u64).into()), ("a", f64::NAN.into())]).into();
            let stamp = Stamp::new(n as i64, 0);
            let body = Body { author, seq, stamp, kind: "k".into(), payload, prev };
            log.append_own(Event::new(body)).unwrap();
        }
        log
    }

    #[test]
    fn a_file_is_read_and_written_the_same() {
        let file = write(&log());
        let loaded = read(&file).unwrap();
        assert_eq!((loaded.events.len(), &loaded.torn, loaded.unended), (5, &None, false));
        let mut again = Log::default();
        assert_eq!(again.load(loaded.events), []);
        assert_eq!(write(&again), file);
        let frontier = json::to_bytes(&again.frontier().into(), Style::Compact);
        assert_eq!(String::from_utf8(frontier).unwrap(), r#"{"a":2,"b":2,"c":1}"#);
        let windows = String::from_utf8(file).unwrap().replace('\n', "\r\n \t\r\n");
        assert_eq!(read(windows.as_bytes()).unwrap().events.len(), 5);
    }

    #[test]
    fn a_file_may_be_cut_anywhere() {
        let file = write(&log());
        let ends: Vec<usize> = (0..file.len()).filter(|at| file[*at] == b'\n').collect();
        for cut in 0..file.len() {
            let loaded = read(&file[..cut]).unwrap();
            let whole = ends.iter().filter(|end| **end <= cut).count();
            assert_eq!(loaded.events.len(), whole, "cut at {cut}");
            let is_whole = cut == 0 || ends.iter().any(|end| *end == cut || end + 1 == cut);
            assert_eq!(loaded.torn.is_none(), is_whole, "cut at {cut}");
            assert_eq!(loaded.unended, ends.contains(&cut), "cut at {cut}");
            if let Some(torn) = loaded.torn {
                assert_eq!([&file[..torn.offset], &torn.bytes].concat(), file[..cut]);
            }
        }
    }

    #[test]
    fn damage_in_the_middle_is_named() {
        let mut file = write(&log());
        let second = file.iter().position(|byte| *byte == b'\n').unwrap() + 1;
        file[second] = b'[';
        let error = read(&file).unwrap_err();
        assert_eq!(error.line, 2);
        assert!(error.to_string().starts_with("line 2 of the data file"), "{error}");
    }

    #[test]
    fn events_that_do_not_continue_a_feed_are_given_back() {
        let mut loaded = read(&write(&log())).unwrap().events;
        loaded.remove(1);
        let mut log = Log::default();
        let rest = log.load(loaded);
        assert_eq!((log.len(), rest.len(), rest[0].seq), (3, 1, 2));
    }
}
