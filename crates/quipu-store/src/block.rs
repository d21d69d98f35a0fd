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
mod writer;

pub(crate) use reader::{Block, HeadPage, PayloadPage, file_names};
pub(crate) use salvage::salvage_block;
pub(crate) use writer::{BlockInfo, encode_block};

/// The format version of both files.
pub(crate) const BLOCK_VERSION: u32 = 1;
