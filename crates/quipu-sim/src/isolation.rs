//! Nothing internal leaves its domain: every frame that went from one domain to another is searched for
//! what only internal logs hold.

use std::collections::{BTreeMap, BTreeSet};
use std::io::Read;

use quipu_core::codec::v1;
use quipu_core::codec::varint;
use quipu_core::event::{Event, Log};
use quipu_core::history::History;
use quipu_core::id::ArtifactId;
use quipu_core::node::LinkId;
use quipu_core::sync::message::Message;

use crate::machine::SimDriver;
use crate::plan::Us;
use crate::report::Finding;
use crate::things::unreadable;
use crate::world::World;

/// A frame that went from one domain to another.
#[derive(Debug)]
pub(crate) struct Crossed {
    pub(crate) at: Us,
    pub(crate) from: usize,
    pub(crate) bytes: Vec<u8>,
}

/// A run of so many bytes in common is a leak.
const RUN: usize = 16;
/// Bytes that are looked up at once.
const WORD: usize = 8;
/// A run of [`RUN`] bytes holds a word that begins at a multiple of this.
const STRIDE: usize = RUN - WORD + 1;
/// Bits of the filter before the index.
const FILTER_BITS: u32 = 22;
/// What a compressed part of a batch begins with.
const ZSTD_MAGIC: [u8; 4] = [0x28, 0xb5, 0x2f, 0xfd];

/// Something that may not cross.
#[derive(Debug)]
struct Secret {
    what: &'static str,
    bytes: Vec<u8>,
    /// Bytes in a row that give it away.
    run: usize,
    /// From this time on it may: it was published.
    until: Us,
    /// Parts of it may stand in public all the same: what an event says of a published artifact is said in
    /// both logs.
    shared: bool,
}

/// All secrets, found by words of theirs.
#[derive(Debug)]
struct Secrets {
    list: Vec<Secret>,
    words: BTreeMap<[u8; WORD], Vec<(usize, usize)>>,
    filter: Vec<u64>,
    /// Runs that are public: they stand in published logs.
    public: BTreeSet<[u8; RUN]>,
}

fn bit_of(word: &[u8; WORD]) -> (usize, u64) {
    let hash = u64::from_le_bytes(*word).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    let bit = hash >> (64 - FILTER_BITS);
    ((bit / 64) as usize, 1 << (bit % 64))
}

fn word_at(bytes: &[u8], at: usize) -> Option<[u8; WORD]> {
    bytes.get(at..at + WORD)?.try_into().ok()
}

fn run_at(bytes: &[u8], at: usize) -> Option<[u8; RUN]> {
    bytes.get(at..at + RUN)?.try_into().ok()
}

impl Secrets {
    fn new(public: BTreeSet<[u8; RUN]>) -> Self {
        let filter = vec![0; 1 << (FILTER_BITS - 6)];
        Self { list: Vec::new(), words: BTreeMap::new(), filter, public }
    }

    fn add(&mut self, what: &'static str, bytes: &[u8], until: Us) {
        self.add_any(what, bytes, until, false);
    }

    fn add_any(&mut self, what: &'static str, bytes: &[u8], until: Us, shared: bool) {
        let run = bytes.len().min(RUN);
        let stride = if run < RUN { bytes.len() } else { STRIDE };
        for at in (0..bytes.len()).step_by(stride.max(1)) {
            let Some(word) = word_at(bytes, at) else { continue };
            let (place, bit) = bit_of(&word);
            self.filter[place] |= bit;
            self.words.entry(word).or_default().push((self.list.len(), at));
        }
        self.list.push(Secret { what, bytes: bytes.to_vec(), run, until, shared });
    }

    /// The first secret that a text gives away at a time, and where.
    fn find(&self, text: &[u8], time: Us) -> Option<(&Secret, usize)> {
        for at in 0..text.len().saturating_sub(WORD - 1) {
            let Some(word) = word_at(text, at) else { continue };
            let (place, bit) = bit_of(&word);
            if self.filter[place] & bit == 0 {
                continue;
            }
            for (secret, offset) in self.words.get(&word).into_iter().flatten() {
                let secret = &self.list[*secret];
                if time < secret.until && self.gives_away(secret, *offset, text, at) {
                    return Some((secret, at));
                }
            }
        }
        None
    }

    /// Whether a text has a run of a secret around a place, and the run is not public.
    fn gives_away(&self, secret: &Secret, offset: usize, text: &[u8], at: usize) -> bool {
        let before = secret.bytes[..offset].iter().rev().zip(text[..at].iter().rev());
        let before = before.take_while(|(one, other)| one == other).count();
        let after = secret.bytes[offset..].iter().zip(&text[at..]);
        let after = after.take_while(|(one, other)| one == other).count();
        if before + after < secret.run {
            return false;
        }
        !secret.shared || self.longest_hidden(&text[at - before..at + after]) >= WORD
    }

    /// The most bytes in a row of a run that are not public. A few beside public ones may be equal by
    /// chance.
    fn longest_hidden(&self, run: &[u8]) -> usize {
        let mut public_until = 0;
        let (mut hidden, mut longest) = (0, 0);
        for at in 0..run.len() {
            if run_at(run, at).is_some_and(|window| self.public.contains(&window)) {
                public_until = at + RUN;
            }
            hidden = if at < public_until { 0 } else { hidden + 1 };
            longest = longest.max(hidden);
        }
        longest
    }
}

/// A frame as it is, and its compressed parts as they were.
fn unfolded(frame: &[u8]) -> Vec<Vec<u8>> {
    let mut texts = vec![frame.to_vec()];
    for at in 0..frame.len().saturating_sub(ZSTD_MAGIC.len()) {
        if frame[at..].starts_with(&ZSTD_MAGIC)
            && let Ok(decoder) = zstd::stream::read::Decoder::new(&frame[at..])
        {
            let mut text = Vec::new();
            // Other bytes follow, and what is no such part gives nothing.
            let _ = decoder.single_frame().read_to_end(&mut text);
            texts.push(text);
        }
    }
    texts
}

fn events_of(driver: &SimDriver) -> Result<Vec<Event>, Finding> {
    let (log, held) = (driver.log(), driver.held());
    let mut events = Vec::new();
    while (events.len() as u64) < held.count(log) {
        let more = held.events(log, events.len() as u64..held.count(log)).map_err(unreadable)?;
        events.extend(more);
    }
    Ok(events)
}

impl World {
    /// Keeps a frame that goes from one domain to another.
    pub(crate) fn note_crossing(&mut self, from: usize, link: LinkId, bytes: &[u8]) {
        if !self.is_federated() {
            return;
        }
        let Some(on) = self.links.get(&link) else { return };
        let home = |machine: usize| self.federation.homes[self.machines[machine].host];
        if home(on.ends[0]) != home(on.ends[1]) {
            let crossed = Crossed { at: self.now, from, bytes: bytes.to_vec() };
            self.federation.crossed.push(crossed);
        }
    }

    /// No frame that crossed has anything that is internal.
    pub(crate) fn check_isolation(&self) -> Result<(), Finding> {
        let secrets = self.secrets()?;
        for crossed in &self.federation.crossed {
            for text in unfolded(&crossed.bytes) {
                if let Some((secret, at)) = secrets.find(&text, crossed.at) {
                    let shown = &text[at.saturating_sub(24)..text.len().min(at + 24)];
                    let said = Message::decode(&crossed.bytes).map(|said| format!("{said:?}"));
                    let said: String = said.unwrap_or_default().chars().take(60).collect();
                    let text = format!(
                        "machine {} after {} ms: {said}, around {shown:02x?}, of {:02x?}",
                        crossed.from,
                        crossed.at / crate::plan::MS,
                        &secret.bytes[..secret.bytes.len().min(48)]
                    );
                    return Err(Finding::new(secret.what, text));
                }
            }
        }
        Ok(())
    }

    fn secrets(&self) -> Result<Secrets, Finding> {
        let (internal, published) =
            (self.all_events(Log::Internal)?, self.all_events(Log::Published)?);
        let mut secrets = Secrets::new(self.public_runs(&published));
        let clocks: BTreeSet<u64> = published.iter().map(|event| event.header.logseq.0).collect();
        for event in internal.iter().filter(|event| !event.header.head.is_root()) {
            secrets.add("an internal event id left its domain", &event.id.0, Us::MAX);
            let clock = event.header.logseq.0;
            if !clocks.contains(&clock) {
                let what = "an internal clock left its domain";
                secrets.add(what, &clock.to_be_bytes(), Us::MAX);
                secrets.add(what, &clock.to_le_bytes(), Us::MAX);
                let mut text = Vec::new();
                varint::put(&mut text, clock);
                secrets.add(what, &text, Us::MAX);
            }
            if let Some(payload) = &event.payload {
                secrets.add_any("an internal payload left its domain", payload, Us::MAX, true);
            }
        }
        for key in self.federation.contents.iter().flatten().collect::<BTreeSet<&ArtifactId>>() {
            let until = self.federation.shown.get(key).copied().unwrap_or(Us::MAX);
            secrets.add("an internal artifact's key left its domain", &key.0, until);
            if let Some(bytes) = self.federation.bytes.get(key) {
                secrets.add("an internal artifact's bytes left its domain", bytes, until);
            }
        }
        Ok(secrets)
    }

    /// All events of the internal or the published logs of all domains.
    fn all_events(&self, log: Log) -> Result<Vec<Event>, Finding> {
        let mut all = BTreeMap::new();
        for machine in self.machines.iter().filter(|machine| machine.log == log) {
            let Some(driver) = &machine.driver else { continue };
            all.extend(events_of(driver)?.into_iter().map(|event| (event.id, event)));
        }
        Ok(all.into_values().collect())
    }

    /// What stands in published logs, and the names of domains.
    fn public_runs(&self, published: &[Event]) -> BTreeSet<[u8; RUN]> {
        let mut texts: Vec<Vec<u8>> =
            self.federation.domains.iter().map(|domain| domain.0.to_vec()).collect();
        for event in published {
            let mut body = Vec::new();
            v1::encode_body(&event.header, &self.domain, &mut body);
            texts.push(body);
            texts.push(event.id.0.to_vec());
            // What programs write is nothing that an internal log says, too.
            if quipu_core::kind::is_reserved(&event.header.kind) {
                texts.extend(event.payload.as_ref().map(|payload| payload.to_vec()));
            }
        }
        let runs = texts.iter().flat_map(|text| text.windows(RUN));
        runs.filter_map(|window| window.try_into().ok()).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn runs_are_found_wherever_they_stand() {
        let secret: Vec<u8> = (0..=255).collect();
        let mut secrets = Secrets::new(BTreeSet::new());
        secrets.add("bytes", &secret, 10);
        secrets.add("word", &[9; 8], 10);
        for start in 0..200 {
            let mut text = vec![255, 254, 253];
            text.extend_from_slice(&secret[start..start + RUN]);
            text.extend_from_slice(&[1, 1, 1]);
            assert!(secrets.find(&text, 9).is_some(), "from {start}");
            assert!(secrets.find(&text, 10).is_none(), "it is published by then");
            let shorter = &text[3..3 + RUN - 1];
            assert!(secrets.find(shorter, 9).is_none(), "from {start}");
        }
        assert!(secrets.find(&[&[1][..], &[9; 8], &[2]].concat(), 0).is_some());
        let public = secret[..32].windows(RUN).filter_map(|w| w.try_into().ok()).collect();
        let mut secrets = Secrets::new(public);
        secrets.add_any("bytes", &secret, 10, true);
        assert!(secrets.find(&secret[..32], 0).is_none());
        assert!(secrets.find(&secret[..39], 0).is_none(), "a few may be equal by chance");
        assert!(secrets.find(&secret[..40], 0).is_some());
        secrets.add("bytes", &secret, 10);
        assert!(secrets.find(&secret[..32], 0).is_some(), "that is not shared");
    }

    #[test]
    fn compressed_parts_are_searched() {
        let text = [7; 300];
        let folded = zstd::bulk::compress(&text, 1).expect("compressed");
        let frame = [&[1, 2, 3][..], &folded, &[4, 5]].concat();
        assert!(unfolded(&frame).contains(&text.to_vec()));
    }
}
