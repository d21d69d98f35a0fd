//! The payload file of a block.

use bytes::Bytes;

use super::PAYLOAD_VERSION;
use crate::bytes::{SUM_BYTES, array_at, put_u32, put_u64, sum16, u32_at, usize_at};
use crate::error::StoreError;

const MAGIC: &[u8; 8] = b"quipupay";
/// Magic, version, number of pages, content hash of the block.
const FIXED_BYTES: usize = 48;
/// Offset, length, checksum.
const ENTRY_BYTES: usize = 8 + 8 + SUM_BYTES;

/// A payload file with these pages, for the block with that content.
pub(super) fn encode(content: &[u8; 32], pages: &[impl AsRef<[u8]>]) -> Vec<u8> {
    let total: usize = pages.iter().map(|page| page.as_ref().len()).sum();
    let mut at = pages_at(pages.len());
    let mut out = Vec::with_capacity(at + total);
    out.extend_from_slice(MAGIC);
    put_u32(&mut out, PAYLOAD_VERSION as usize);
    put_u32(&mut out, pages.len());
    out.extend_from_slice(content);
    for page in pages {
        let page = page.as_ref();
        put_u64(&mut out, at as u64);
        put_u64(&mut out, page.len() as u64);
        out.extend_from_slice(&sum16(&[page]));
        at += page.len();
    }
    let sum = sum16(&[&out]);
    out.extend_from_slice(&sum);
    pages.iter().for_each(|page| out.extend_from_slice(page.as_ref()));
    out
}

fn pages_at(pages: usize) -> usize {
    FIXED_BYTES + ENTRY_BYTES * pages + SUM_BYTES
}

/// A payload file that is open for reading.
#[derive(Debug, Clone)]
pub(super) struct PayloadFile {
    path: String,
    map: Bytes,
    pages: usize,
}

impl PayloadFile {
    /// Opens the payload file of a block with that content and so many pages.
    pub(super) fn open(
        path: String,
        map: Bytes,
        content: &[u8; 32],
        pages: usize,
    ) -> Result<Self, StoreError> {
        let corrupt = |rule: &str| StoreError::corrupt(&path, 0, rule);
        if array_at(&map, 0) != Some(*MAGIC) {
            return Err(corrupt("not a payload file"));
        }
        match u32_at(&map, 8) {
            Some(PAYLOAD_VERSION) => {}
            found => {
                let found = found.unwrap_or_default();
                return Err(StoreError::Version { path, found, known: PAYLOAD_VERSION });
            }
        }
        let sum_at = pages_at(pages) - SUM_BYTES;
        let right =
            map.get(..sum_at).is_some_and(|table| array_at(&map, sum_at) == Some(sum16(&[table])));
        if !right {
            return Err(corrupt("checksum of the page table"));
        }
        if u32_at(&map, 12) != Some(pages as u32) || array_at(&map, 16) != Some(*content) {
            return Err(corrupt("belongs to another block"));
        }
        Ok(Self { path, map, pages })
    }

    /// Opens a file that may be damaged: its pages have their own checksums.
    pub(super) fn open_anyway(path: String, map: Bytes, pages: usize) -> Self {
        Self { path, map, pages }
    }

    /// Bytes of the file.
    pub(super) fn len(&self) -> usize {
        self.map.len()
    }

    /// Whether the pages fill the file, one after the other.
    pub(super) fn is_compact(&self) -> bool {
        let mut end = Some(pages_at(self.pages));
        for page in 0..self.pages {
            let entry = FIXED_BYTES + ENTRY_BYTES * page;
            let (at, length) = (usize_at(&self.map, entry), usize_at(&self.map, entry + 8));
            end =
                end.filter(|end| at == Some(*end)).zip(length).and_then(|(e, l)| e.checked_add(l));
        }
        end == Some(self.map.len())
    }

    /// The packed payloads of a page, checked.
    pub(super) fn page(&self, page: usize) -> Result<Bytes, StoreError> {
        let entry = FIXED_BYTES + ENTRY_BYTES * page;
        let place = usize_at(&self.map, entry).zip(usize_at(&self.map, entry + 8));
        let bytes = place.and_then(|(at, length)| {
            let end = at.checked_add(length)?;
            (end <= self.map.len()).then(|| self.map.slice(at..end))
        });
        let sum: Option<[u8; SUM_BYTES]> = array_at(&self.map, entry + 16);
        match bytes {
            Some(bytes) if sum == Some(sum16(&[&bytes])) => Ok(bytes),
            Some(_) => {
                let at = place.map_or(0, |(at, _)| at as u64);
                Err(StoreError::corrupt(&self.path, at, format!("checksum of payload page {page}")))
            }
            None => Err(StoreError::corrupt(&self.path, entry as u64, "place of a payload page")),
        }
    }

    /// The file with one page replaced.
    pub(super) fn with_page(
        &self,
        content: &[u8; 32],
        page: usize,
        bytes: Vec<u8>,
    ) -> Result<Vec<u8>, StoreError> {
        let mut pages =
            (0..self.pages).map(|page| self.page(page)).collect::<Result<Vec<_>, _>>()?;
        if let Some(slot) = pages.get_mut(page) {
            *slot = bytes.into();
        }
        Ok(encode(content, &pages))
    }
}
