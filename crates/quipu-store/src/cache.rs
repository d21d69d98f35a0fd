//! Unpacked pages of sealed blocks, the most recently used ones.

use std::collections::BTreeMap;
use std::sync::Arc;

use quipu_core::codec::pack::{Context, PayloadPart};
use quipu_core::event::Log;
use quipu_core::id::EventId;

use crate::block::{Block, HeadPage, PayloadPage};
use crate::error::StoreError;

/// Blocks whose dictionaries are kept unpacked: reads mostly stay in one block.
const CONTEXTS_MAX: usize = 2;

/// Log, block, page.
type Key = (Log, u64, usize);

/// A bounded number of unpacked pages.
#[derive(Debug, Default)]
pub(crate) struct Cache {
    heads: BTreeMap<Key, Entry<HeadPage>>,
    payloads: BTreeMap<Key, Entry<PayloadPage>>,
    contexts: Vec<((Log, u64), Context)>,
    bytes: usize,
    bytes_max: usize,
    tick: u64,
}

#[derive(Debug)]
struct Entry<T> {
    page: Arc<T>,
    bytes: usize,
    used: u64,
}

impl Cache {
    /// A cache for so many bytes.
    pub(crate) fn new(bytes_max: usize) -> Self {
        Self { bytes_max, ..Self::default() }
    }

    /// The heads of a page.
    pub(crate) fn heads(
        &mut self,
        block: &Block,
        page: usize,
    ) -> Result<Arc<HeadPage>, StoreError> {
        let key = (block.log(), block.number(), page);
        self.tick += 1;
        if let Some(entry) = self.heads.get_mut(&key) {
            entry.used = self.tick;
            return Ok(entry.page.clone());
        }
        let page = Arc::new(self.in_context(block, |context| block.heads(page, context))?);
        let bytes = heads_bytes(&page);
        self.make_room(bytes);
        self.heads.insert(key, Entry { page: page.clone(), bytes, used: self.tick });
        Ok(page)
    }

    /// The payloads of a page.
    pub(crate) fn payloads(
        &mut self,
        block: &Block,
        page: usize,
    ) -> Result<Arc<PayloadPage>, StoreError> {
        let key = (block.log(), block.number(), page);
        self.tick += 1;
        if let Some(entry) = self.payloads.get_mut(&key) {
            entry.used = self.tick;
            return Ok(entry.page.clone());
        }
        let page = Arc::new(self.in_context(block, |context| block.payloads(page, context))?);
        let bytes = payloads_bytes(&page);
        self.make_room(bytes);
        self.payloads.insert(key, Entry { page: page.clone(), bytes, used: self.tick });
        Ok(page)
    }

    /// Forgets the payloads of a page, because one of them was erased.
    pub(crate) fn forget_payloads(&mut self, log: Log, block: u64, page: usize) {
        if let Some(entry) = self.payloads.remove(&(log, block, page)) {
            self.bytes -= entry.bytes;
        }
    }

    /// Reads with the context of a block, which a failure spoils.
    fn in_context<T>(
        &mut self,
        block: &Block,
        read: impl FnOnce(&mut Context) -> Result<T, StoreError>,
    ) -> Result<T, StoreError> {
        let key = (block.log(), block.number());
        let known = self.contexts.iter().position(|(other, _)| *other == key);
        let mut context =
            known.map_or_else(|| block.context(), |known| self.contexts.remove(known).1);
        let result = read(&mut context)?;
        self.contexts.truncate(CONTEXTS_MAX - 1);
        self.contexts.insert(0, (key, context));
        Ok(result)
    }

    fn make_room(&mut self, bytes: usize) {
        self.bytes += bytes;
        while self.bytes > self.bytes_max && self.drop_oldest() {}
    }

    fn drop_oldest(&mut self) -> bool {
        let head = self.heads.iter().map(|(key, entry)| (entry.used, *key)).min();
        let payload = self.payloads.iter().map(|(key, entry)| (entry.used, *key)).min();
        let freed = match (head, payload) {
            (Some(head), payload) if payload.is_none_or(|payload| head < payload) => {
                self.heads.remove(&head.1).map(|entry| entry.bytes)
            }
            (_, Some(payload)) => self.payloads.remove(&payload.1).map(|entry| entry.bytes),
            _ => None,
        };
        self.bytes -= freed.unwrap_or_default();
        freed.is_some()
    }
}

fn heads_bytes(page: &HeadPage) -> usize {
    let spilled: usize = page
        .iter()
        .filter(|(head, _)| head.parents.spilled())
        .map(|(head, _)| head.parents.capacity() * size_of::<EventId>())
        .sum();
    spilled + page.capacity() * size_of::<<HeadPage as IntoIterator>::Item>()
}

fn payloads_bytes(page: &PayloadPage) -> usize {
    let blocks = page.iter().map(|part| match part {
        PayloadPart::Present(block) => block.len(),
        PayloadPart::Absent(_) => 0,
    });
    blocks.sum::<usize>() + page.capacity() * size_of::<PayloadPart>()
}
