//! One log: its sealed blocks, the frozen files that wait to be sealed, and the active file.

use std::collections::VecDeque;
use std::ops::Range;
use std::sync::Arc;

use quipu_core::event::{Event, Log};
use quipu_core::history::{Ordinal, Outline};
use quipu_core::id::{DomainId, EventId, NodeKey};

use crate::active::Active;
use crate::block::{Block, BlockInfo};
use crate::disk::Disk;
use crate::error::StoreError;
use crate::memory::Memory;
use crate::options::StoreOptions;
use crate::proofs::Proofs;
use crate::seal::{Frozen, SealJob};
use crate::summary::{OutlineBuilder, Summary};

/// One log on the disk.
pub(crate) struct LogFiles<D: Disk> {
    pub(crate) disk: Arc<D>,
    pub(crate) options: StoreOptions,
    /// Oldest first; so are the others.
    pub(crate) blocks: Vec<Block>,
    pub(crate) frozen: VecDeque<Frozen>,
    pub(crate) active: Active<D>,
    pub(crate) proofs: Proofs<D>,
}

/// Where an event lies.
pub(crate) enum Spot<'a> {
    /// At a position of a sealed block.
    Block(&'a Block, u32),
    /// At a position of events in memory.
    Memory(&'a Memory, usize),
}

impl<D: Disk> LogFiles<D> {
    /// An empty log, without a file.
    pub(crate) fn new(disk: Arc<D>, domain: DomainId, log: Log, options: StoreOptions) -> Self {
        let info = BlockInfo { domain, log, number: 0, first: 0 };
        let (active, proofs) = (Active::new(info), Proofs::new(&info));
        Self { disk, options, blocks: Vec::new(), frozen: VecDeque::new(), active, proofs }
    }

    /// The log's name and directory.
    pub(crate) fn log(&self) -> Log {
        self.active.info.log
    }

    /// Number of events.
    pub(crate) fn count(&self) -> u64 {
        self.active.info.first + self.active.memory.events.len() as u64
    }

    /// Events in memory, with the ordinal of the first, oldest first.
    pub(crate) fn memories(&self) -> impl DoubleEndedIterator<Item = (u64, &Memory)> {
        let frozen = self.frozen.iter().map(|frozen| (frozen.info.first, &*frozen.memory));
        frozen.chain(std::iter::once((self.active.info.first, &self.active.memory)))
    }

    /// The ordinal of an event.
    pub(crate) fn find(&self, id: &EventId) -> Option<Ordinal> {
        for (first, memory) in self.memories().rev() {
            if let Some(position) = memory.index.get(id) {
                return Some(first + u64::from(*position));
            }
        }
        let in_block = |block: &Block| block.find(id).map(|p| block.first() + u64::from(p));
        self.blocks.iter().rev().find_map(in_block)
    }

    /// Where an event lies.
    pub(crate) fn spot(&self, ordinal: Ordinal) -> Result<Spot<'_>, StoreError> {
        let number = self.blocks.partition_point(|block| block.first() + block.len() <= ordinal);
        if let Some(block) = self.blocks.get(number) {
            return Ok(Spot::Block(block, (ordinal - block.first()) as u32));
        }
        for (first, memory) in self.memories() {
            let position = (ordinal - first) as usize;
            if position < memory.events.len() {
                return Ok(Spot::Memory(memory, position));
            }
        }
        Err(StoreError::OutOfRange { log: self.log(), ordinal, count: self.count() })
    }

    /// Seq and ordinal of an author's events.
    pub(crate) fn feed(
        &self,
        author: &NodeKey,
        seqs: &Range<u64>,
    ) -> Result<Vec<(u64, Ordinal)>, StoreError> {
        let mut found = Vec::new();
        for block in &self.blocks {
            let part = block.feed(author, seqs)?;
            found.extend(part.iter().map(|(seq, p)| (*seq, block.first() + u64::from(*p))));
        }
        for (first, memory) in self.memories() {
            found.extend(memory.feed(author, seqs).map(|(seq, p)| (seq, first + u64::from(p))));
        }
        Ok(found)
    }

    /// What a machine must know when it starts.
    pub(crate) fn outline(&self) -> Result<Outline, StoreError> {
        let mut outline = OutlineBuilder::default();
        for block in &self.blocks {
            let ids = block.ids();
            let id_of = |p: u32| EventId(ids.get(p as usize).copied().unwrap_or_default());
            outline.add(block.first(), &block.summary()?, id_of);
        }
        for (first, memory) in self.memories() {
            let summary = Summary::of(&memory.events, &memory.index);
            outline.add(first, &summary, |p| memory.events[p as usize].id);
        }
        Ok(outline.finish())
    }

    /// Adds events to the active file's memory.
    pub(crate) fn append(
        &mut self,
        events: impl ExactSizeIterator<Item = Event>,
    ) -> Result<Range<Ordinal>, StoreError> {
        let start = self.count();
        let position = self.active.memory.events.len();
        self.active.memory.append(events)?;
        if !self.proofs.is_empty() {
            let domain = self.active.info.domain;
            for event in &self.active.memory.events[position..] {
                self.proofs.arrived(event, &domain);
            }
        }
        Ok(start..self.count())
    }

    /// The next job of sealing, if the log is committed and has a full file.
    pub(crate) fn seal_job(&mut self) -> Option<SealJob<D>> {
        let memory = &self.active.memory;
        let full = memory.events.len() >= self.options.block_events_max.max(1)
            || memory.bytes >= self.options.block_bytes_max.max(1);
        if full && self.active.is_committed() {
            self.freeze();
        }
        self.frozen.front_mut()?.job(&self.disk)
    }

    fn freeze(&mut self) {
        let info = self.active.info;
        let (number, first) = (info.number + 1, self.count());
        let active = Active::new(BlockInfo { number, first, ..info });
        let full = std::mem::replace(&mut self.active, active);
        self.frozen.push_back(Frozen::new(info, full.memory, self.options.page_events));
    }

    /// Puts a sealed block in its place.
    pub(crate) fn finish_seal(&mut self, number: u64) -> Result<(), StoreError> {
        match self.frozen.front() {
            Some(frozen) if frozen.info.number == number => {
                self.blocks.push(frozen.finish(&*self.disk)?);
                self.frozen.pop_front();
                Ok(())
            }
            _ => Err(StoreError::Misuse("no such block is being sealed")),
        }
    }
}
