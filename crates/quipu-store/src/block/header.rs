//! The first bytes of a block file: whose events these are, and how many.

use quipu_core::event::Log;
use quipu_core::id::DomainId;

use super::BLOCK_VERSION;
use crate::bytes::{SUM_BYTES, array_at, put_u32, put_u64, sum16, u32_at, u64_at, usize_at};
use crate::error::StoreError;

/// Bytes of the header.
pub(super) const HEADER_BYTES: usize = 104;
const MAGIC: &[u8; 8] = b"quipublk";
const SUMMED_BYTES: usize = HEADER_BYTES - SUM_BYTES;

/// The header of a block.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Header {
    pub(super) version: u32,
    pub(super) log: Log,
    pub(super) number: u64,
    /// Ordinal of the first event.
    pub(super) first: u64,
    pub(super) domain: DomainId,
    pub(super) events: u32,
    pub(super) pages: u32,
    pub(super) dictionary_bytes: usize,
}

impl Header {
    /// The header, whose checksum covers the dictionary that follows it.
    pub(super) fn encode(&self, dictionary: &[u8]) -> Vec<u8> {
        let mut out = Vec::with_capacity(HEADER_BYTES);
        out.extend_from_slice(MAGIC);
        put_u32(&mut out, self.version as usize);
        put_u32(&mut out, usize::from(self.log == Log::Published));
        put_u64(&mut out, self.number);
        put_u64(&mut out, self.first);
        out.extend_from_slice(&self.domain.0);
        put_u32(&mut out, self.events as usize);
        put_u32(&mut out, self.pages as usize);
        put_u64(&mut out, dictionary.len() as u64);
        put_u64(&mut out, 0);
        let sum = sum16(&[&out, dictionary]);
        out.extend_from_slice(&sum);
        out
    }

    /// Reads the header, and checks it together with the dictionary.
    pub(super) fn parse(bytes: &[u8], path: &str) -> Result<Self, StoreError> {
        let short = || StoreError::corrupt(path, 0, "the file is shorter than its header");
        if array_at::<8>(bytes, 0).ok_or_else(short)? != *MAGIC {
            return Err(StoreError::corrupt(path, 0, "not a block file"));
        }
        let found = u32_at(bytes, 8).ok_or_else(short)?;
        if !(1..=BLOCK_VERSION).contains(&found) {
            return Err(StoreError::Version { path: path.to_owned(), found, known: BLOCK_VERSION });
        }
        let log = match u32_at(bytes, 12).ok_or_else(short)? {
            0 => Log::Internal,
            1 => Log::Published,
            _ => return Err(StoreError::corrupt(path, 12, "no log has this number")),
        };
        if u64_at(bytes, 80).ok_or_else(short)? != 0 {
            return Err(StoreError::corrupt(path, 80, "eight bytes that must be zero are not"));
        }
        let header = Self {
            version: found,
            log,
            number: u64_at(bytes, 16).ok_or_else(short)?,
            first: u64_at(bytes, 24).ok_or_else(short)?,
            domain: DomainId(array_at(bytes, 32).ok_or_else(short)?),
            events: u32_at(bytes, 64).ok_or_else(short)?,
            pages: u32_at(bytes, 68).ok_or_else(short)?,
            dictionary_bytes: usize_at(bytes, 72).ok_or_else(short)?,
        };
        let sum: [u8; SUM_BYTES] = array_at(bytes, SUMMED_BYTES).ok_or_else(short)?;
        let right = header
            .dictionary(bytes)
            .is_some_and(|dictionary| sum16(&[&bytes[..SUMMED_BYTES], dictionary]) == sum);
        if right {
            Ok(header)
        } else {
            Err(StoreError::corrupt(path, 0, "checksum of header and dictionary"))
        }
    }

    /// The bytes of the dictionary.
    pub(super) fn dictionary<'a>(&self, bytes: &'a [u8]) -> Option<&'a [u8]> {
        bytes.get(HEADER_BYTES..)?.get(..self.dictionary_bytes)
    }
}
