//! Opens a log: finds its files and repairs what an interrupted operation left.

use std::collections::BTreeMap;
use std::sync::Arc;

use quipu_core::event::Log;
use quipu_core::id::DomainId;

use crate::active::{self, Active, active_path};
use crate::block::{Block, BlockInfo, file_names};
use crate::disk::Disk;
use crate::error::{Recovery, StoreError};
use crate::log::LogFiles;
use crate::memory::Memory;
use crate::options::StoreOptions;
use crate::proofs::Proofs;
use crate::seal::Frozen;

/// Which files there are for a number.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Found {
    pub(crate) block: bool,
    pub(crate) payload: bool,
    pub(crate) active: bool,
}

/// The files of a log by number, and those left over from an interrupted operation.
pub(crate) fn find_files<D: Disk>(
    disk: &D,
    log: Log,
) -> Result<(BTreeMap<u64, Found>, Vec<String>), StoreError> {
    let dir = log.name();
    let names = disk.list(dir).map_err(|error| StoreError::io("list", dir, error))?;
    let (mut numbers, mut leftovers) = (BTreeMap::<u64, Found>::new(), Vec::new());
    for name in names {
        let Some((stem, extension)) = name.split_once('.') else { continue };
        // Not only of blocks: a file of proofs that never took its place holds payloads, too.
        if extension == "tmp" || extension.ends_with(".tmp") {
            leftovers.push(format!("{dir}/{name}"));
            continue;
        }
        let Ok(number) = stem.parse() else { continue };
        let mut found = Found::default();
        match extension {
            "block" => found.block = true,
            "payload" => found.payload = true,
            "active" => found.active = true,
            _ => continue,
        }
        let entry = numbers.entry(number).or_default();
        entry.block |= found.block;
        entry.payload |= found.payload;
        entry.active |= found.active;
    }
    Ok((numbers, leftovers))
}

/// Opens a log.
pub(crate) fn open_log<D: Disk>(
    disk: Arc<D>,
    domain: DomainId,
    log: Log,
    options: StoreOptions,
    recovery: &mut Recovery,
) -> Result<LogFiles<D>, StoreError> {
    let (numbers, leftovers) = find_files(&*disk, log)?;
    let mut files = LogFiles::new(disk, domain, log, options);
    files.proofs = Proofs::open(&*files.disk, &files.active.info)?;
    let mut opener = Opener { files, recovery };
    for path in leftovers {
        opener.remove(path)?;
    }
    let last = numbers.keys().next_back().copied();
    for (number, found) in numbers {
        opener.take(number, found, Some(number) == last)?;
    }
    opener.clean_proofs()?;
    Ok(opener.files)
}

struct Opener<'a, D: Disk> {
    files: LogFiles<D>,
    recovery: &'a mut Recovery,
}

impl<D: Disk> Opener<'_, D> {
    fn remove(&mut self, path: String) -> Result<(), StoreError> {
        let result = self.files.disk.remove(&path);
        result.map_err(|error| StoreError::io("remove", &path, error))?;
        self.recovery.removed.push(path);
        Ok(())
    }

    /// Takes the files of the next number. A block that lies beside its active file was put there
    /// by a seal that did not finish: if it is whole it counts, else the active file does.
    fn take(&mut self, number: u64, found: Found, is_last: bool) -> Result<(), StoreError> {
        let info = self.files.active.info;
        let (block_path, payload_path) = file_names(&info);
        if number != info.number {
            return Err(StoreError::corrupt(&block_path, 0, "the block is missing"));
        }
        if found.block {
            match Block::open(&*self.files.disk, &info) {
                Ok(block) => return self.take_block(block, found),
                Err(error) if !found.active => return Err(error),
                Err(_) => self.remove(block_path.clone())?,
            }
        }
        if !found.active {
            return Err(StoreError::corrupt(&block_path, 0, "the block is missing"));
        }
        if found.payload {
            self.remove(payload_path)?;
        }
        self.take_active(info, is_last)
    }

    fn take_block(&mut self, block: Block, found: Found) -> Result<(), StoreError> {
        let info = block.info();
        if !self.files.frozen.is_empty() {
            let rule = "a sealed block after one that is not";
            return Err(StoreError::corrupt(block.path(), 0, rule));
        }
        if found.active {
            self.remove(active_path(&info))?;
        }
        self.expect_next(&info, block.len());
        self.files.blocks.push(block);
        Ok(())
    }

    fn take_active(&mut self, info: BlockInfo, is_last: bool) -> Result<(), StoreError> {
        let replay = active::read(&*self.files.disk, &info)?;
        if let Some(error) = active::damage(&info, &replay, is_last) {
            return Err(error);
        }
        if replay.rest.is_some() {
            self.cut(&active_path(&info), replay.end as u64)?;
        }
        let mut memory = Memory::default();
        memory.append(replay.events.into_iter()).map_err(|_| {
            StoreError::corrupt(&active_path(&info), 0, "the file holds an event twice")
        })?;
        if is_last {
            self.files.active = Active::with_events(info, memory);
        } else {
            self.expect_next(&info, memory.events.len() as u64);
            let page_events = self.files.options.page_events;
            self.files.frozen.push_back(Frozen::new(info, memory, page_events));
        }
        Ok(())
    }

    fn cut(&mut self, path: &str, end: u64) -> Result<(), StoreError> {
        let disk = &self.files.disk;
        let size = disk.size(path).map_err(|error| StoreError::io("read", path, error))?;
        disk.truncate(path, end).map_err(|error| StoreError::io("truncate", path, error))?;
        self.recovery.truncated.push((path.to_owned(), size.saturating_sub(end)));
        Ok(())
    }

    /// A stop between a commit and the cleaning after it leaves proofs that are not needed any more.
    fn clean_proofs(&mut self) -> Result<(), StoreError> {
        let (disk, domain) = (self.files.disk.clone(), self.files.active.info.domain);
        for event in self.files.proofs.firsts(&domain)? {
            if self.files.find(&event.id).is_some() {
                self.files.proofs.arrived(&event, &domain);
            }
        }
        self.files.proofs.clean(&*disk)
    }

    fn expect_next(&mut self, info: &BlockInfo, events: u64) {
        let (number, first) = (info.number + 1, info.first + events);
        self.files.active = Active::new(BlockInfo { number, first, ..*info });
    }
}
