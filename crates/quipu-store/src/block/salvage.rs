//! Reads what can be read of a damaged block, without trusting header, footer or indexes.

use bytes::Bytes;
use quipu_core::codec::pack::{
    Context, PayloadPart, Resolve, assemble, decode_heads, decode_payloads,
};
use quipu_core::event::Event;
use quipu_core::id::{DomainId, EventId, NodeKey};

use super::dictionary::{DictionaryView, EXTERNAL};
use super::header::HEADER_BYTES;
use super::payload::PayloadFile;
use super::writer::{PAGE_HEADER_BYTES, PAGE_MAGIC};
use crate::bytes::{SUM_BYTES, sum16, u32_at};
use crate::error::StoreError;

/// A page that was found by its own header.
struct Page<'a> {
    at: usize,
    number: usize,
    first: u64,
    events: usize,
    heads: &'a [u8],
}

/// The events that can be read of a block, in order, and why others cannot.
pub(crate) fn salvage_block(
    path: &str,
    block: &[u8],
    payload: &Bytes,
    domain: &DomainId,
) -> (Vec<Event>, Vec<StoreError>) {
    let mut errors = Vec::new();
    let pages = find_pages(block);
    let dictionary = pages.first().and_then(|page| {
        let bytes = block.get(HEADER_BYTES..page.at)?;
        Some((DictionaryView::parse(bytes)?, bytes))
    });
    let Some((dictionary, bytes)) = dictionary else {
        errors.push(StoreError::corrupt(path, 0, "no dictionary, so no page can be read"));
        return (Vec::new(), errors);
    };
    let count = pages.last().map_or(0, |page| page.number + 1);
    let payload = PayloadFile::open_anyway(format!("payloads of {path}"), payload.clone(), count);
    let mut links = Links { externals: dictionary.externals(bytes), ids: Vec::new() };
    let mut events = Vec::new();
    for page in pages {
        let parts = payload.page(page.number).and_then(|bytes| {
            decode_payloads(&bytes, page.events, &mut Context::reader())
                .map_err(|error| StoreError::corrupt(path, page.at as u64, error.to_string()))
        });
        let context = &mut dictionary.reader(bytes);
        match parts.and_then(|parts| read_page(path, &page, parts, &links, context, domain)) {
            Ok(mut read) => {
                let start = usize::try_from(page.first).unwrap_or(usize::MAX).max(links.ids.len());
                if start - links.ids.len() <= block.len() {
                    links.ids.resize(start, None);
                    links.ids.extend(read.iter().map(|event| Some(event.id)));
                }
                events.append(&mut read);
            }
            Err(error) => errors.push(error),
        }
    }
    (events, errors)
}

/// The pages whose checksums are right, by number.
fn find_pages(block: &[u8]) -> Vec<Page<'_>> {
    let mut pages: Vec<Page<'_>> = Vec::new();
    let mut at = HEADER_BYTES;
    while let Some(found) =
        block.get(at..).and_then(|rest| rest.windows(4).position(|w| w == PAGE_MAGIC))
    {
        at += found;
        match page_at(block, at) {
            Some(page) => {
                at += PAGE_HEADER_BYTES + page.heads.len();
                pages.push(page);
            }
            None => at += 1,
        }
    }
    pages.sort_by_key(|page| page.number);
    pages.dedup_by_key(|page| page.number);
    pages
}

fn page_at(block: &[u8], at: usize) -> Option<Page<'_>> {
    let field = |offset| u32_at(block, at + offset).map(|n| n as usize);
    let length = field(16)?;
    let (header, heads) =
        block.get(at..)?.get(..PAGE_HEADER_BYTES.checked_add(length)?)?.split_at(PAGE_HEADER_BYTES);
    let (fields, sum) = header.split_at(PAGE_HEADER_BYTES - SUM_BYTES);
    let page = Page { at, number: field(4)?, events: field(8)?, first: field(12)? as u64, heads };
    (sum16(&[fields, heads]) == sum).then_some(page)
}

fn read_page(
    path: &str,
    page: &Page<'_>,
    parts: Vec<PayloadPart>,
    links: &Links<'_>,
    context: &mut Context,
    domain: &DomainId,
) -> Result<Vec<Event>, StoreError> {
    let mut events = Vec::with_capacity(parts.len());
    let mut parts = parts.into_iter();
    context.start_page(page.first);
    decode_heads(page.heads, page.events, context, links, |head, signature| {
        let part = parts.next().unwrap_or(PayloadPart::Present(Bytes::new()));
        let event = assemble(head, part, signature, domain);
        let id = event.id;
        events.push(event);
        id
    })
    .map_err(|error| {
        let rule = format!("page {}: {error}", page.number);
        StoreError::corrupt(path, page.at as u64, rule)
    })?;
    Ok(events)
}

/// Ids by position as far as they could be computed.
struct Links<'a> {
    externals: &'a [[u8; 32]],
    ids: Vec<Option<EventId>>,
}

impl Resolve for Links<'_> {
    fn id_at(&self, author: &NodeKey, seq: u64) -> Option<EventId> {
        let external = self.externals.get(usize::try_from(seq).ok()?)?;
        (*author == EXTERNAL).then_some(EventId(*external))
    }
    fn author_with_prefix(&self, _prefix: &[u8]) -> Option<NodeKey> {
        None
    }
    fn id_at_position(&self, position: u64) -> Option<EventId> {
        *self.ids.get(usize::try_from(position).ok()?)?
    }
}
