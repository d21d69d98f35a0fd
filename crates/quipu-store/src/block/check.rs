//! Checks a whole block: everything that opening it took on trust.

use super::dictionary::Dictionary;
use super::footer::{PageEntry, Zone};
use super::reader::Block;
use super::subjects;
use super::writer::{Derived, PAGE_HEADER_BYTES};
use crate::bytes::{hash, u32_at};
use crate::check::Broken;
use crate::memory::Memory;

impl Block {
    /// Checks the sections that lie beside the pages, and that the pages lie where they should.
    pub(crate) fn check_sections(&self) -> Vec<Broken> {
        let mut broken = Vec::new();
        if hash(&[self.ids().as_flattened()]) != self.footer.content {
            broken.push(("checksum", "ids".to_owned()));
        }
        if hash(&[self.index(), self.feeds()]) != self.footer.indexes {
            broken.push(("checksum", "indexes".to_owned()));
        }
        if !self.subjects().is_none_or(subjects::is_right) {
            broken.push(("checksum", "fold keys".to_owned()));
        }
        let mut at = super::header::HEADER_BYTES + self.dictionary_bytes().len();
        for (number, page) in self.footer.pages.iter().enumerate() {
            let inline = |offset| u32_at(self.bytes(), page.at + offset).map(|n| n as usize);
            let expected = [number, page.events as usize, page.first as usize, page.length];
            let same = [4, 8, 12, 16].map(inline) == expected.map(Some);
            if page.at != at || !same {
                broken.push(("index", format!("place of page {number}")));
            }
            at = page.at + PAGE_HEADER_BYTES + page.length;
        }
        if at != self.footer.ids_at {
            broken.push(("index", "bytes between the pages and the ids".to_owned()));
        }
        if !self.payload_file().is_compact() {
            broken.push(("index", "bytes between the payload pages".to_owned()));
        }
        broken
    }

    /// Compares everything that follows from the events with what the file says.
    pub(crate) fn check_derived(&self, memory: &Memory) -> Vec<Broken> {
        let derived = Derived::of(memory);
        let mut broken = Vec::new();
        let mut expect = |right: bool, what: &str| {
            if !right {
                broken.push(("index", format!("{what} do not fit the events")));
            }
        };
        expect(
            Dictionary::encode(&derived.dictionary) == self.dictionary_bytes(),
            "dictionary entries",
        );
        expect(derived.ids == self.ids(), "ids");
        expect(derived.index == self.index(), "entries of the id index");
        expect(derived.feeds == self.feeds(), "feed lists");
        let same = |subjects| derived.subjects == subjects;
        expect(self.subjects().is_none_or(same), "fold keys");
        let zone = |page: &PageEntry| {
            let range = page.first as usize..(page.first + page.events) as usize;
            let events = memory.events.get(range).unwrap_or_default();
            page.zone.is_none_or(|zone| zone == Zone::of(events, &derived.dictionary))
        };
        expect(self.footer.pages.iter().all(zone), "clocks and kinds of pages");
        expect(derived.clocks == self.footer.clocks, "clocks in the footer");
        expect(self.summary().is_ok_and(|summary| summary == derived.summary), "ends and leaves");
        broken
    }
}
