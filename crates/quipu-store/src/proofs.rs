//! Proofs of feed ends whose signature stands on an event that is not in the log: a small file beside
//! each log.
//!
//! The file is `LOG/proofs`: a magic, then records one after the other:
//!
//! | bytes | what |
//! |---|---|
//! | 4 | length of the body |
//! | 16 | checksum over the body |
//! | n | body: a packed batch of the events after the end, up to the first signature |
//!
//! The end is what the first event of a record names as `prev`. A later record replaces an earlier
//! one of the same end. As with active files, the first write after a start makes the file anew; so
//! does the first after an event of a proof entered the log: then the proof goes, and with it any
//! copy of the event's payload.

use bytes::Bytes;
use quipu_core::codec::pack::{self, Context, Nothing};
use quipu_core::event::{Event, Log};
use quipu_core::id::{DomainId, EventId, IdMap};

use crate::block::BlockInfo;
use crate::bytes::{SUM_BYTES, array_at, put_u32, sum16, u32_at};
use crate::disk::{AppendFile, Disk};
use crate::error::StoreError;

const MAGIC: &[u8; 8] = b"quipuprf";
const RECORD_HEADER_BYTES: usize = 4 + SUM_BYTES;

/// The proofs of one log.
pub(crate) struct Proofs<D: Disk> {
    log: Log,
    /// Packed events, by the end that they prove.
    by_end: IdMap<EventId, Bytes>,
    /// Those that are not in the file yet.
    new: Vec<EventId>,
    /// Those that are not needed any more, once what was appended is durable.
    stale: Vec<EventId>,
    /// The file, once this run has written to it.
    file: Option<D::Append>,
}

impl<D: Disk> Proofs<D> {
    /// None yet, and no file.
    pub(crate) fn new(info: &BlockInfo) -> Self {
        Self {
            log: info.log,
            by_end: IdMap::default(),
            new: Vec::new(),
            stale: Vec::new(),
            file: None,
        }
    }

    /// Reads the file, if there is one. What follows the last good record was never committed.
    pub(crate) fn open(disk: &D, info: &BlockInfo) -> Result<Self, StoreError> {
        let mut proofs = Self::new(info);
        let path = Self::path_of(info.log);
        if disk.size(&path).is_err() {
            return Ok(proofs);
        }
        let bytes = disk.read(&path).map_err(|error| StoreError::io("read", &path, error))?;
        if !bytes.starts_with(MAGIC) {
            return Err(StoreError::corrupt(&path, 0, "not a file of proofs"));
        }
        let mut at = MAGIC.len();
        while let Some(body) = record_at(&bytes, at) {
            let events = decode(&body, &info.domain)
                .map_err(|rule| StoreError::corrupt(&path, at as u64, rule))?;
            if let Some(end) = events.first().and_then(|event| event.header.prev) {
                proofs.by_end.insert(end, body.clone());
            }
            at += RECORD_HEADER_BYTES + body.len();
        }
        Ok(proofs)
    }

    /// Where the proofs of a log lie.
    pub(crate) fn path_of(log: Log) -> String {
        format!("{}/proofs", log.name())
    }

    /// Keeps a proof; in the file after the next [`Self::commit`].
    pub(crate) fn put(&mut self, end: EventId, proof: &[Event]) {
        let body = pack::encode(proof, &mut Context::writer(), &Nothing);
        self.by_end.insert(end, body.into());
        self.new.push(end);
    }

    /// An event enters the log: it proves what is before it by itself.
    pub(crate) fn arrived(&mut self, event: &Event, domain: &DomainId) {
        let Some(end) = event.header.prev.filter(|prev| self.by_end.contains_key(prev)) else {
            return;
        };
        let Ok(Some(mut proof)) = self.get(&end, domain) else { return };
        if proof.first().is_some_and(|first| first.id == event.id) {
            self.stale.push(end);
            proof.remove(0);
            if event.signature.is_none() && !proof.is_empty() {
                self.put(event.id, &proof);
            }
        }
    }

    /// The proof of an end.
    pub(crate) fn get(
        &self,
        end: &EventId,
        domain: &DomainId,
    ) -> Result<Option<Vec<Event>>, StoreError> {
        let Some(body) = self.by_end.get(end) else { return Ok(None) };
        decode(body, domain)
            .map(Some)
            .map_err(|rule| StoreError::corrupt(&Self::path_of(self.log), 0, rule))
    }

    /// The first event of each.
    pub(crate) fn firsts(&self, domain: &DomainId) -> Result<Vec<Event>, StoreError> {
        let ends = self.by_end.keys().map(|end| self.get(end, domain));
        ends.filter_map(|proof| proof.map(|p| p?.into_iter().next()).transpose()).collect()
    }

    /// Whether there are none.
    pub(crate) fn is_empty(&self) -> bool {
        self.by_end.is_empty()
    }

    /// Whether there is a proof of an end.
    pub(crate) fn contains(&self, end: &EventId) -> bool {
        self.by_end.contains_key(end)
    }

    /// Takes what is not needed any more out of the file. Call it when the events that made it so
    /// are durable.
    pub(crate) fn clean(&mut self, disk: &D) -> Result<(), StoreError> {
        if !self.stale.is_empty() {
            self.stale.drain(..).for_each(|end| _ = self.by_end.remove(&end));
            self.file = Some(self.rewrite(disk, &Self::path_of(self.log))?);
        }
        Ok(())
    }

    /// Puts everything into the file, durably.
    pub(crate) fn commit(&mut self, disk: &D) -> Result<(), StoreError> {
        if self.new.is_empty() {
            return Ok(());
        }
        let path = Self::path_of(self.log);
        match &mut self.file {
            Some(file) => {
                let mut bytes = Vec::new();
                let bodies = self.new.iter().filter_map(|end| self.by_end.get(end));
                bodies.for_each(|body| put_record(&mut bytes, body));
                file.write_all(&bytes).map_err(|error| StoreError::io("write", &path, error))?;
                file.sync().map_err(|error| StoreError::io("sync", &path, error))?;
            }
            None => self.file = Some(self.rewrite(disk, &path)?),
        }
        self.new.clear();
        Ok(())
    }

    fn rewrite(&self, disk: &D, path: &str) -> Result<D::Append, StoreError> {
        let mut bytes = MAGIC.to_vec();
        let mut ends: Vec<_> = self.by_end.iter().collect();
        ends.sort_unstable_by_key(|(end, _)| **end);
        ends.iter().for_each(|(_, body)| put_record(&mut bytes, body));
        let aside = format!("{path}.tmp");
        disk.write_new(&aside, &bytes).map_err(|error| StoreError::io("write", &aside, error))?;
        disk.rename(&aside, path).map_err(|error| StoreError::io("rename", &aside, error))?;
        disk.sync_dir(self.log.name())
            .map_err(|error| StoreError::io("sync", self.log.name(), error))?;
        disk.append(path).map_err(|error| StoreError::io("open", path, error))
    }
}

fn put_record(out: &mut Vec<u8>, body: &[u8]) {
    put_u32(out, body.len());
    out.extend_from_slice(&sum16(&[body]));
    out.extend_from_slice(body);
}

fn record_at(bytes: &Bytes, at: usize) -> Option<Bytes> {
    let length = u32_at(bytes, at)? as usize;
    let sum: [u8; SUM_BYTES] = array_at(bytes, at + 4)?;
    let start = at + RECORD_HEADER_BYTES;
    let end = start.checked_add(length).filter(|end| *end <= bytes.len())?;
    let body = bytes.slice(start..end);
    (sum16(&[&body]) == sum).then_some(body)
}

fn decode(body: &[u8], domain: &DomainId) -> Result<Vec<Event>, String> {
    pack::decode(body, &mut Context::reader(), &Nothing, domain).map_err(|error| error.to_string())
}
