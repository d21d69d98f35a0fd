//! The active file of a log: where commits go.
//!
//! The first commit after a start writes the whole file anew, aside, and renames it. So everything
//! that an earlier run left is durable for certain before anything builds on it (an fsync that
//! failed may leave bytes that only look written), and a file never has half a header. Later
//! commits append.

use quipu_core::event::{Event, Log};
use quipu_core::id::DomainId;

use crate::block::BlockInfo;
use crate::bytes::{SUM_BYTES, array_at, put_u32, put_u64, sum16, u32_at, u64_at};
use crate::disk::{AppendFile, Disk};
use crate::error::StoreError;
use crate::frame::{FrameWriter, Link, Replay, Rest, replay};
use crate::memory::Memory;

const MAGIC: &[u8; 8] = b"quipuact";
const VERSION: u32 = 2;
/// Magic, version, log, number, ordinal of the first event, domain, checksum.
const PLACE_BYTES: usize = 64 + SUM_BYTES;
/// Then the length of the file when it was made, and its own checksum: the frames' chain begins before
/// their length is known.
const HEADER_BYTES: usize = PLACE_BYTES + 8 + SUM_BYTES;

/// The events of an active file, and those that will be in it after the next commit.
pub(crate) struct Active<D: Disk> {
    /// Which block this will be.
    pub(crate) info: BlockInfo,
    /// The events.
    pub(crate) memory: Memory,
    /// How many of them are in the file.
    committed: usize,
    /// The file, once this run has written to it.
    file: Option<(D::Append, FrameWriter)>,
}

/// The path of an active file.
pub(crate) fn active_path(info: &BlockInfo) -> String {
    format!("{}/{:06}.active", info.log.name(), info.number)
}

impl<D: Disk> Active<D> {
    /// No events yet, and no file.
    pub(crate) fn new(info: BlockInfo) -> Self {
        Self { info, memory: Memory::default(), committed: 0, file: None }
    }

    /// What a file held.
    pub(crate) fn with_events(info: BlockInfo, memory: Memory) -> Self {
        let committed = memory.events.len();
        Self { info, memory, committed, file: None }
    }

    /// Whether everything is in the file.
    pub(crate) fn is_committed(&self) -> bool {
        self.committed == self.memory.events.len()
    }

    /// The events that are in the file.
    pub(crate) fn committed(&self) -> &[Event] {
        &self.memory.events[..self.committed]
    }

    /// Puts everything into the file, durably.
    pub(crate) fn commit(&mut self, disk: &D) -> Result<(), StoreError> {
        if self.is_committed() {
            return Ok(());
        }
        match &mut self.file {
            Some((file, frames)) => {
                let mut bytes = Vec::new();
                frames.put_commit(&self.memory.events[self.committed..], &mut bytes);
                let path = active_path(&self.info);
                file.write_all(&bytes).map_err(|error| StoreError::io("write", &path, error))?;
                file.sync().map_err(|error| StoreError::io("sync", &path, error))?;
            }
            None => self.file = Some(rewrite(disk, &self.info, &self.memory.events)?),
        }
        self.committed = self.memory.events.len();
        Ok(())
    }

    /// Removes a payload from memory and file. Answers how many bytes it had.
    pub(crate) fn erase(&mut self, disk: &D, position: usize) -> Result<u64, StoreError> {
        let bytes = self.memory.erase(position);
        if bytes > 0 && position < self.committed {
            self.file = Some(rewrite(disk, &self.info, &self.memory.events[..self.committed])?);
        }
        Ok(bytes)
    }
}

/// Writes an active file with these events and puts it in the place of what was there.
pub(crate) fn rewrite<D: Disk>(
    disk: &D,
    info: &BlockInfo,
    events: &[Event],
) -> Result<(D::Append, FrameWriter), StoreError> {
    let (path, dir) = (active_path(info), info.log.name());
    let aside = format!("{path}.tmp");
    let (mut bytes, link) = header(info);
    let mut frames = FrameWriter::new(bytes.len(), link);
    frames.put_commit(events, &mut bytes);
    let made = made_of(bytes.len() as u64, &bytes[..PLACE_BYTES]);
    bytes[PLACE_BYTES..HEADER_BYTES].copy_from_slice(&made);
    disk.write_new(&aside, &bytes).map_err(|error| StoreError::io("write", &aside, error))?;
    disk.rename(&aside, &path).map_err(|error| StoreError::io("rename", &aside, error))?;
    disk.sync_dir(dir).map_err(|error| StoreError::io("sync", dir, error))?;
    let file = disk.append(&path).map_err(|error| StoreError::io("open", &path, error))?;
    Ok((file, frames))
}

fn header(info: &BlockInfo) -> (Vec<u8>, Link) {
    let mut out = Vec::with_capacity(HEADER_BYTES);
    out.extend_from_slice(MAGIC);
    put_u32(&mut out, VERSION as usize);
    put_u32(&mut out, usize::from(info.log == Log::Published));
    put_u64(&mut out, info.number);
    put_u64(&mut out, info.first);
    out.extend_from_slice(&info.domain.0);
    let sum = sum16(&[&out]);
    out.extend_from_slice(&sum);
    out.resize(HEADER_BYTES, 0);
    (out, link_of(sum))
}

/// The second part of the header: how long the file was when it was made.
fn made_of(length: u64, place: &[u8]) -> [u8; HEADER_BYTES - PLACE_BYTES] {
    let mut out = [0; HEADER_BYTES - PLACE_BYTES];
    out[..8].copy_from_slice(&length.to_le_bytes());
    let sum = sum16(&[place, &out[..8]]);
    out[8..].copy_from_slice(&sum);
    out
}

/// The frames' chain of checksums begins with the header's.
fn link_of(sum: [u8; SUM_BYTES]) -> Link {
    let mut link = Link::default();
    link.copy_from_slice(&sum[..8]);
    link
}

/// What an active file holds: its frames, if its header is that of the block expected there.
pub(crate) fn read<D: Disk>(disk: &D, info: &BlockInfo) -> Result<Replay, StoreError> {
    let path = active_path(info);
    let bytes = disk.map(&path).map_err(|error| StoreError::io("read", &path, error))?;
    let link = check_header(&bytes, info, &path)?;
    let mut replay = replay(&bytes, HEADER_BYTES, link, &info.domain);
    // What was there when the file got its name was durable before that: it cannot be torn.
    let made = u64_at(&bytes, PLACE_BYTES).unwrap_or_default();
    if (replay.end as u64) < made && replay.rest.as_ref().is_none_or(|rest| *rest == Rest::Torn) {
        replay.rest = Some(Rest::Damaged("bad frame in what was written at once".to_owned()));
    }
    Ok(replay)
}

/// What can be read of an active file, whatever its header says.
pub(crate) fn salvage(bytes: &[u8], domain: &DomainId) -> Replay {
    // The first frame names the checksum of the header.
    let link = array_at(bytes, HEADER_BYTES + 8).unwrap_or_default();
    replay(bytes, HEADER_BYTES.min(bytes.len()), link, domain)
}

/// The error for a file whose good frames do not reach its end, unless it is merely torn and may
/// be.
pub(crate) fn damage(info: &BlockInfo, replay: &Replay, may_be_torn: bool) -> Option<StoreError> {
    let rule = match replay.rest.as_ref()? {
        Rest::Torn if may_be_torn => return None,
        Rest::Torn => "bad frame in a file that was complete".to_owned(),
        Rest::Damaged(rule) => rule.clone(),
    };
    Some(StoreError::corrupt(&active_path(info), replay.end as u64, rule))
}

fn check_header(bytes: &[u8], info: &BlockInfo, path: &str) -> Result<Link, StoreError> {
    let sum: Option<[u8; SUM_BYTES]> = array_at(bytes, PLACE_BYTES - SUM_BYTES);
    let right = sum.filter(|sum| sum16(&[&bytes[..PLACE_BYTES - SUM_BYTES]]) == *sum);
    let Some(sum) = right.filter(|_| bytes.starts_with(MAGIC)) else {
        return Err(StoreError::corrupt(path, 0, "checksum of the header"));
    };
    let found = u32_at(bytes, 8).unwrap_or_default();
    if found != VERSION {
        return Err(StoreError::Version { path: path.to_owned(), found, known: VERSION });
    }
    let made = u64_at(bytes, PLACE_BYTES).map(|made| made_of(made, &bytes[..PLACE_BYTES]));
    if made.is_none_or(|made| bytes.get(PLACE_BYTES..HEADER_BYTES) != Some(&made[..])) {
        return Err(StoreError::corrupt(path, PLACE_BYTES as u64, "checksum of the length"));
    }
    let domain = DomainId(array_at(bytes, 32).unwrap_or_default());
    if domain != info.domain {
        let (path, expected) = (path.to_owned(), info.domain);
        return Err(StoreError::WrongDomain { path, found: domain, expected });
    }
    let published = u32_at(bytes, 12) == Some(u32::from(info.log == Log::Published));
    if published && u64_at(bytes, 16) == Some(info.number) && u64_at(bytes, 24) == Some(info.first)
    {
        Ok(link_of(sum))
    } else {
        Err(StoreError::corrupt(
            path,
            0,
            "a file of another place: one before it is missing or was changed",
        ))
    }
}
