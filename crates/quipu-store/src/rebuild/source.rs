//! The files of a log, read with and without trust.

use bytes::Bytes;
use quipu_core::event::{Event, Log};
use quipu_core::id::DomainId;

use crate::active::{self, active_path};
use crate::block::{Block, BlockInfo, file_names, salvage_block};
use crate::disk::Disk;
use crate::error::StoreError;
use crate::memory::Memory;
use crate::open::{Found, find_files};

/// The files of one number.
#[derive(Debug, Clone, Copy)]
pub(super) struct Source {
    number: u64,
    found: Found,
}

/// The sources of a log. Numbers without a file are there too.
pub(super) fn sources<D: Disk>(disk: &D, log: Log) -> Result<Vec<Source>, StoreError> {
    let (numbers, _) = find_files(disk, log)?;
    let mut sources: Vec<Source> = Vec::new();
    for (number, found) in numbers {
        // A gap says no more than one missing number does, so a strange file name costs nothing.
        if sources.last().map_or(number > 0, |last| last.number + 1 < number) {
            sources.push(Source { number: number - 1, found: Found::default() });
        }
        sources.push(Source { number, found });
    }
    Ok(sources)
}

impl Source {
    fn place(&self, log: Log) -> BlockInfo {
        BlockInfo { domain: DomainId::default(), log, number: self.number, first: 0 }
    }

    /// Whether it is a sealed block and nothing else.
    pub(super) fn is_block(&self) -> bool {
        self.found.block && !self.found.active
    }

    /// What to call it.
    pub(super) fn name(&self, log: Log) -> String {
        let place = self.place(log);
        if self.found.active { active_path(&place) } else { file_names(&place).0 }
    }

    /// Its files.
    pub(super) fn paths(&self, log: Log) -> impl Iterator<Item = String> + use<> {
        let place = self.place(log);
        let (block, payload) = file_names(&place);
        let all = [
            (self.found.block, block),
            (self.found.payload, payload),
            (self.found.active, active_path(&place)),
        ];
        all.into_iter().filter_map(|(there, path)| there.then_some(path))
    }

    /// All its events, if it is whole and stands at the expected place. The last file of a log may
    /// be torn: opening it cuts it.
    pub(super) fn read_whole<D: Disk>(
        &self,
        disk: &D,
        info: &BlockInfo,
        is_last: bool,
    ) -> Result<Memory, StoreError> {
        let mut memory = Memory::default();
        let name = self.name(info.log);
        if self.number != info.number || self.found == Found::default() {
            return Err(StoreError::corrupt(&name, 0, "the block is missing"));
        }
        if self.found.active {
            let replay = active::read(disk, info)?;
            if let Some(error) = active::damage(info, &replay, is_last) {
                return Err(error);
            }
            memory.append(replay.events.into_iter())?;
            return Ok(memory);
        }
        let block = Block::open(disk, info)?;
        if let Some((_, detail)) = block.check_sections().into_iter().next() {
            return Err(StoreError::corrupt(&name, 0, detail));
        }
        let mut context = block.context();
        for page in 0..block.pages() {
            memory.append(block.events(page, &mut context)?.into_iter())?;
        }
        match block.check_derived(&memory).into_iter().next() {
            Some((_, detail)) => Err(StoreError::corrupt(&name, 0, detail)),
            None => Ok(memory),
        }
    }

    /// The events that can be read, and why others cannot. The error is the disk's.
    pub(super) fn salvage<D: Disk>(
        &self,
        disk: &D,
        log: Log,
        domain: &DomainId,
    ) -> Result<(Vec<Event>, Vec<StoreError>), StoreError> {
        let read = |there: bool, path: &str| match there {
            true => disk.read(path).map_err(|error| StoreError::io("read", path, error)),
            false => Ok(Bytes::new()),
        };
        let place = self.place(log);
        let (block_path, payload_path) = file_names(&place);
        if self.found.active {
            let path = active_path(&place);
            let replay = active::salvage(&read(true, &path)?, domain);
            let errors = active::damage(&place, &replay, false).into_iter().collect();
            return Ok((replay.events, errors));
        }
        let block = read(self.found.block, &block_path)?;
        let payload = read(self.found.payload, &payload_path)?;
        Ok(salvage_block(&block_path, &block, &payload, domain))
    }
}
