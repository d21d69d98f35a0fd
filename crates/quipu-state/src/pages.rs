//! A file that only grows: what was written stays where it is, so an old root stays readable.

use std::sync::atomic::{AtomicBool, Ordering};

use bytes::Bytes;
use quipu_store::Disk;
use quipu_store::disk::AppendFile;

use crate::error::StateError;

/// First bytes of the file; the last one counts its versions.
const MAGIC: &[u8; 16] = b"quipu state v\0\0\x01";

/// The pages of trees and chains, by their offset in a file. New ones are in memory until
/// [`Pages::save`].
#[derive(Debug)]
pub(crate) struct Pages {
    map: Bytes,
    tail: Vec<u8>,
    /// Something read was not what was written. Set by readers, hence atomic.
    damaged: AtomicBool,
}

impl Pages {
    /// No pages yet.
    pub(crate) fn new() -> Self {
        Self { map: Bytes::new(), tail: MAGIC.to_vec(), damaged: AtomicBool::new(false) }
    }

    /// The pages of a file, up to a length; nothing if it is no such file, or shorter.
    pub(crate) fn open<D: Disk>(disk: &D, path: &str, length: u64) -> Option<Self> {
        let length = usize::try_from(length).ok()?;
        let map = disk.map(path).ok()?;
        let good = map.len() >= length && length >= MAGIC.len() && map.starts_with(MAGIC);
        let pages = || Self { map: map.slice(..length), tail: Vec::new(), ..Self::new() };
        good.then(pages)
    }

    /// The error about pages that are not what was written, which from now on is known of them.
    pub(crate) fn damage(&self, what: &'static str) -> StateError {
        self.damaged.store(true, Ordering::Relaxed);
        StateError::Damaged(what)
    }

    /// Whether pages turned out not to be what was written.
    pub(crate) fn is_damaged(&self) -> bool {
        self.damaged.load(Ordering::Relaxed)
    }

    /// The same pages, to be read elsewhere.
    pub(crate) fn view(&self) -> Self {
        let (map, tail) = (self.map.clone(), self.tail.clone());
        Self { map, tail, damaged: AtomicBool::new(self.is_damaged()) }
    }

    /// Length of everything, in bytes.
    pub(crate) fn len(&self) -> u64 {
        (self.map.len() + self.tail.len()) as u64
    }

    /// Bytes that are not saved yet.
    pub(crate) fn unsaved(&self) -> usize {
        self.tail.len()
    }

    /// Adds bytes at the end. Answers where they are: never 0.
    pub(crate) fn push(&mut self, bytes: &[u8]) -> u64 {
        let at = self.len();
        self.tail.extend_from_slice(bytes);
        at
    }

    /// Bytes at an offset.
    pub(crate) fn bytes(&self, at: u64, length: usize) -> Result<&[u8], StateError> {
        let at = usize::try_from(at).unwrap_or(usize::MAX);
        let found = match at.checked_sub(self.map.len()) {
            None => self.map.get(at..).and_then(|rest| rest.get(..length)),
            Some(at) => self.tail.get(at..).and_then(|rest| rest.get(..length)),
        };
        found.ok_or_else(|| self.damage("a page lies beyond the end"))
    }

    /// A number at an offset.
    pub(crate) fn number<const N: usize>(&self, at: u64) -> Result<[u8; N], StateError> {
        let bytes = self.bytes(at, N)?;
        bytes.try_into().map_err(|_| self.damage("a number is cut"))
    }

    /// Writes what is new to the file, durably, and goes on from there.
    pub(crate) fn save<D: Disk>(&mut self, disk: &D, path: &str) -> Result<(), StateError> {
        let io = |error| StateError::io(path, error);
        // What an earlier save left behind a crash is not ours to keep.
        match disk.size(path) {
            Ok(size) if size > self.map.len() as u64 => {
                disk.truncate(path, self.map.len() as u64).map_err(io)?;
            }
            Ok(size) if size < self.map.len() as u64 => {
                return Err(self.damage("the file was cut"));
            }
            _ => {}
        }
        let mut file = disk.append(path).map_err(io)?;
        file.write_all(&self.tail).map_err(io)?;
        file.sync().map_err(io)?;
        drop(file);
        let length = self.map.len() + self.tail.len();
        let map = disk.map(path).map_err(io)?;
        if map.len() < length {
            return Err(self.damage("the file was cut"));
        }
        (self.map, self.tail) = (map.slice(..length), Vec::new());
        Ok(())
    }
}
