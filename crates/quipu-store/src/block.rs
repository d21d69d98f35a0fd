//! Sealed blocks: the format of their files. See `docs/formats/block.md` for the tables.
//!
//! A block is two files. `NNNNNN.block` never changes: header, dictionary, pages of packed heads,
//! ids, indexes, footer, trailer. `NNNNNN.payload` holds the payloads page by page and is written
//! anew when one of them is erased.

mod check;
mod dictionary;
mod feeds;
mod footer;
mod header;
mod index;
mod payload;
mod reader;
mod salvage;
mod subjects;
mod writer;

pub(crate) use reader::{Block, HeadPage, PayloadPage, file_names};
pub(crate) use salvage::salvage_block;
pub(crate) use writer::{BlockInfo, encode_block};

/// The format version of block files. Blocks of version 1 are read: they lack what tells which pages
/// and fold keys are not worth reading.
pub(crate) const BLOCK_VERSION: u32 = 2;
/// The format version of payload files.
pub(crate) const PAYLOAD_VERSION: u32 = 1;

#[cfg(test)]
mod tests {
    use quipu_core::codec::v1::payload_block;
    use quipu_core::event::{Draft, Event, Log, LogSeq, Position};
    use quipu_core::id::{DomainId, NodeKey};

    use super::writer::encode_block_as;
    use super::*;
    use crate::disk::{Disk, FaultyDisk};
    use crate::memory::Memory;

    /// Events of one author: the first of every ten writes a fold key.
    fn memory(domain: &DomainId) -> Memory {
        let mut events: Vec<Event> = Vec::new();
        for n in 0..100u8 {
            let id = [b"\xa1\x69record_id\x61", &[b'a' + n / 10][..]].concat();
            let prev = events.last().map(|event| event.id);
            let at = Position {
                author: NodeKey([1; 32]),
                seq: u64::from(n) + 1,
                prev,
                parents: prev.into_iter().collect(),
                logseq: LogSeq(1000 + u64::from(n)),
            };
            let kind = if n % 10 == 0 { "record.create" } else { "note" };
            let payload = payload_block(&[n; 8], &id);
            let draft = Draft { log: Log::Internal, kind: kind.into(), payload };
            events.push(draft.place(at, domain));
        }
        let mut memory = Memory::default();
        memory.append(events.into_iter()).unwrap();
        memory
    }

    /// A block of a version, open.
    fn block(version: u32) -> (Block, Memory) {
        let domain = DomainId([7; 32]);
        let info = BlockInfo { domain, log: Log::Internal, number: 0, first: 0 };
        let memory = memory(&domain);
        let (block, payload) = encode_block_as(version, &info, &memory, 10);
        let disk = FaultyDisk::new();
        let (block_path, payload_path) = file_names(&info);
        disk.create_dir("internal").unwrap();
        disk.write_new(&block_path, &block).unwrap();
        disk.write_new(&payload_path, &payload).unwrap();
        (Block::open(&disk, &info).unwrap(), memory)
    }

    #[test]
    fn blocks_of_both_versions_hold_the_same() {
        for version in [1, BLOCK_VERSION] {
            let (block, memory) = block(version);
            let read = (0..block.pages())
                .flat_map(|page| block.events(page, &mut block.context()).unwrap());
            assert!(read.map(|event| event.id).eq(memory.events.iter().map(|event| event.id)));
            assert!(block.check_sections().is_empty() && block.check_derived(&memory).is_empty());
            assert_eq!(block.summary().unwrap().ends.len(), 1);
        }
    }

    #[test]
    fn only_the_newer_one_knows_what_is_not_worth_reading() {
        let (old, memory) = block(1);
        let (new, _) = block(BLOCK_VERSION);
        let written = memory.events[50].header.payload.subject.unwrap();
        let other = quipu_core::id::Subject([3; 32]);
        assert_eq!(old.may_hold_subject(&[other]).unwrap(), (true, 0));
        assert_eq!(old.zone(3), None);
        assert!(new.may_hold_subject(&[other, written]).unwrap().0);
        assert!(!new.may_hold_subject(&[other]).unwrap().0);
        let kinds = Block::kind_bit(0) | Block::kind_bit(1);
        assert_eq!(new.zone(3), Some(((LogSeq(1030), LogSeq(1039)), kinds)));
    }
}
