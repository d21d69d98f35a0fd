//! Nothing internal leaves its domain: every frame that went from one domain to another is searched for
//! what only internal logs hold.

use std::collections::{BTreeMap, BTreeSet};
use std::io::Read;

use quipu_core::event::{Event, Log, LogSeq};
use quipu_core::history::{FeedEnd, History};
use quipu_core::id::{ArtifactId, DomainId, EventId, NodeKey};
use quipu_core::node::LinkId;
use quipu_core::sketch::Item;
use quipu_core::sync::frontier::Frontier;
use quipu_core::sync::message::Message;

use crate::machine::SimDriver;
use crate::plan::Us;
use crate::report::Finding;
use crate::secrets::{Index, Secrets, names_any, pieces};
use crate::things::unreadable;
use crate::world::World;

/// A frame that went from one domain to another.
#[derive(Debug)]
pub(crate) struct Crossed {
    pub(crate) at: Us,
    pub(crate) from: usize,
    pub(crate) bytes: Vec<u8>,
}

/// By how much the clocks of machines are ahead in internal logs: more than a thousand years. Published logs
/// are written by the true clock, so no clock is in both by chance, and one from an internal log is known
/// wherever it stands.
pub(crate) const INTERNAL_AHEAD_MS: i64 = 1 << 45;
/// Clocks from here on are of internal logs: half of the way, since clocks jump.
const INTERNAL_CLOCKS: LogSeq = LogSeq(1 << 60);
/// What a compressed part of a batch begins with.
const ZSTD_MAGIC: [u8; 4] = [0x28, 0xb5, 0x2f, 0xfd];

/// Events by their ids, with their domains.
type All = BTreeMap<EventId, (DomainId, Event)>;

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

/// What stands for the end of a feed when two machines compare.
pub(crate) fn item_of(log: &Frontier, author: NodeKey, seq: u64, id: EventId) -> Item {
    // Clock and place do not enter it.
    log.item(&FeedEnd { author, seq, id, logseq: LogSeq(0), ordinal: 0 })
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
    /// Keeps a frame that goes from one domain to another, as the machine's driver made it. What a liar makes
    /// up on purpose is its own to tell.
    pub(crate) fn note_crossing(&mut self, from: usize, link: LinkId, bytes: &[u8]) {
        if !self.is_federated() {
            return;
        }
        let Some(on) = self.links.get(&link) else { return };
        let home = |machine: usize| self.federation.homes[self.machines[machine].host];
        if home(on.ends[0]) != home(on.ends[1]) {
            self.note_crossed(from, bytes.to_vec());
        }
    }

    /// Keeps what was told to somebody of another domain.
    pub(crate) fn note_crossed(&mut self, from: usize, bytes: Vec<u8>) {
        let at = self.now;
        self.federation.crossed.push(Crossed { at, from, bytes });
        self.federation.crossings += 1;
    }

    /// No frame that crossed has anything that is internal, and no published log has a clock of an
    /// internal one. Frames are looked at once: what was not written yet when they went is not in them.
    pub(crate) fn check_isolation(&mut self) -> Result<(), Finding> {
        let secrets = self.secrets()?;
        for crossed in std::mem::take(&mut self.federation.crossed) {
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

    fn secrets(&mut self) -> Result<Index, Finding> {
        let (internal, published) =
            (self.all_events(Log::Internal)?, self.all_events(Log::Published)?);
        if let Some(event) = published
            .values()
            .map(|(_, event)| event)
            .find(|event| event.header.logseq >= INTERNAL_CLOCKS)
        {
            let text = format!("{} at {}", event.id, event.header.logseq.0);
            return Err(Finding::new("an internal clock left its domain", text));
        }
        let public = self.public_names(&published);
        let subjects: BTreeSet<_> =
            published.values().filter_map(|(_, event)| event.header.payload.subject).collect();
        let mut secrets = Secrets::default();
        for (_, event) in internal.values() {
            secrets.add("an internal event id left its domain", &event.id.0, Us::MAX);
            secrets.add_clock("an internal clock left its domain", event.header.logseq);
            let payload = &event.header.payload;
            secrets.add("an internal payload's hash left its domain", &payload.id.0, Us::MAX);
            if let Some(subject) = payload.subject.filter(|subject| !subjects.contains(subject)) {
                secrets.add("an internal subject left its domain", &subject.0, Us::MAX);
            }
            for piece in event.payload.iter().flat_map(|payload| pieces(payload)) {
                if !names_any(&piece, &public) {
                    secrets.add("an internal payload left its domain", &piece, Us::MAX);
                }
            }
        }
        self.add_artifacts(&mut secrets);
        self.add_frontiers(&mut secrets, &internal, &published);
        Ok(secrets.index())
    }

    fn add_artifacts(&self, secrets: &mut Secrets) {
        for key in self.federation.contents.iter().flatten().collect::<BTreeSet<&ArtifactId>>() {
            let until = self.federation.shown.get(key).copied().unwrap_or(Us::MAX);
            secrets.add("an internal artifact's key left its domain", &key.0, until);
            if let Some(bytes) = self.federation.bytes.get(key) {
                secrets.add("an internal artifact's bytes left its domain", bytes, until);
            }
        }
    }

    /// Digests of internal logs as they are now, and what stands for the ends of their feeds when two
    /// machines compare. Published feeds have the same author, and may have an end that looks alike; what a
    /// liar wrote may look like anything.
    fn add_frontiers(&mut self, secrets: &mut Secrets, internal: &All, published: &All) {
        let all = self.machines.iter_mut().filter(|machine| machine.log == Log::Internal);
        for driver in all.filter_map(|machine| machine.driver.as_mut()) {
            // Logs that are empty, or hold only R, which is public, have one digest in both.
            if driver.held().count(Log::Internal) <= 1 {
                continue;
            }
            let digest = driver.node_mut().digest();
            secrets.add("the digest of an internal log left its domain", &digest.0, Us::MAX);
        }
        let honest: BTreeSet<_> = (0..self.hosts())
            .filter(|host| !self.is_hostile(*host))
            .map(|host| self.machines[host].node)
            .collect();
        let frontiers: BTreeMap<DomainId, Frontier> =
            self.federation.domains.iter().map(|one| (*one, Frontier::new(one))).collect();
        let item = |domain: &DomainId, event: &Event| {
            let head = &event.header.head;
            item_of(&frontiers[domain], head.author, head.seq, event.id)
        };
        let public: BTreeSet<_> =
            published.values().map(|(domain, event)| item(domain, event)).collect();
        for (domain, event) in internal.values() {
            let item = item(domain, event);
            if honest.contains(&event.header.author) && !public.contains(&item) {
                secrets.add("the end of an internal feed left its domain", &item.0, Us::MAX);
            }
        }
    }

    /// All events of the internal or the published logs of all domains, but those that both begin with.
    fn all_events(&self, log: Log) -> Result<All, Finding> {
        let mut all = BTreeMap::new();
        for machine in self.machines.iter().filter(|machine| machine.log == log) {
            let Some(driver) = &machine.driver else { continue };
            let events = events_of(driver)?.into_iter().filter(|event| !event.header.is_root());
            all.extend(events.map(|event| (event.id, (machine.domain, event))));
        }
        Ok(all)
    }

    /// Names that internal payloads may share with what is public: of domains and machines, of published
    /// events, and what published statements say. Artifacts are looked for apart, as long as they are
    /// internal.
    fn public_names(&self, published: &All) -> BTreeSet<Vec<u8>> {
        let mut names: BTreeSet<Vec<u8>> =
            self.federation.domains.iter().map(|domain| domain.0.to_vec()).collect();
        for machine in &self.machines {
            names.insert(machine.node.0.to_vec());
            names.insert(machine.node.to_string().into_bytes());
        }
        let artifacts = self.federation.contents.iter().flatten();
        names.extend(artifacts.map(|key| key.0.to_vec()));
        for (_, event) in published.values() {
            names.insert(event.id.0.to_vec());
            // What programs write is nothing that an internal log says, too.
            if quipu_core::kind::is_reserved(&event.header.kind) {
                names.extend(event.payload.iter().flat_map(|payload| pieces(payload)));
            }
        }
        names
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn compressed_parts_are_searched() {
        let text = [7; 300];
        let folded = zstd::bulk::compress(&text, 1).expect("compressed");
        let frame = [&[1, 2, 3][..], &folded, &[4, 5]].concat();
        assert!(unfolded(&frame).contains(&text.to_vec()));
    }
}
