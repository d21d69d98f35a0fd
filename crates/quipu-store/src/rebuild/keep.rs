//! Decides which of the readable events can be kept.

use quipu_core::event::{Event, Log};
use quipu_core::history::Ordinal;
use quipu_core::id::{DomainId, EventId, IdMap, IdSet};

use crate::block::BlockInfo;
use crate::check::{Broken, Checker};
use crate::memory::Memory;

/// An event that is right in itself and follows from others like it.
#[derive(Debug)]
struct Candidate {
    id: EventId,
    signed: bool,
    /// The candidates that it links to; `prev` is the first if `prev_is_first`.
    links: Vec<u32>,
    prev_is_first: bool,
    kept: bool,
}

/// Takes the events of a log in order.
#[derive(Debug)]
pub(super) struct Keeper {
    info: BlockInfo,
    checker: Checker,
    /// Of all events so far that are right.
    ordinals: IdMap<EventId, Ordinal>,
    /// Events in files that stay.
    whole: u64,
    candidates: Vec<Candidate>,
    considered: u64,
}

impl Keeper {
    pub(super) fn new(log: Log, domain: DomainId) -> Self {
        Self {
            info: BlockInfo { domain, log, number: 0, first: 0 },
            checker: Checker::new(log, domain),
            ordinals: IdMap::default(),
            whole: 0,
            candidates: Vec::new(),
            considered: 0,
        }
    }

    /// Where the next file stands, if it follows only whole ones.
    pub(super) fn next_info(&self, number: u64) -> BlockInfo {
        BlockInfo { number, first: self.whole, ..self.info }
    }

    /// Events in files that stay.
    pub(super) fn whole_events(&self) -> u64 {
        self.whole
    }

    /// Takes the events of a file that stays, unless one breaks a rule.
    pub(super) fn take_whole(&mut self, memory: &Memory) -> Option<Broken> {
        for event in &memory.events {
            if let Some((what, detail)) = self.first_broken(event) {
                return Some((what, format!("{}: {detail}", event.id)));
            }
            self.note(event);
        }
        self.whole += memory.events.len() as u64;
        None
    }

    fn first_broken(&self, event: &Event) -> Option<Broken> {
        let find = |id: &EventId| self.ordinals.get(id).copied();
        if find(&event.id).is_some() {
            return Some(("id", "it is there twice".to_owned()));
        }
        self.checker.check(event, find).into_iter().next()
    }

    fn note(&mut self, event: &Event) {
        self.checker.note(event);
        let ordinal = self.ordinals.len() as u64;
        self.ordinals.insert(event.id, ordinal);
    }

    /// Considers an event of a damaged file. `proven`: it is proven without a signature in the log.
    pub(super) fn consider(&mut self, event: &Event, proven: bool) {
        if self.ordinals.contains_key(&event.id) {
            return;
        }
        self.considered += 1;
        if self.first_broken(event).is_some() {
            return;
        }
        let candidate = |id: &EventId| {
            let ordinal = self.ordinals.get(id)?;
            u32::try_from(ordinal.checked_sub(self.whole)?).ok()
        };
        let prev = event.header.prev.as_ref().and_then(candidate);
        let others = event.header.links().filter(|link| event.header.prev != Some(**link));
        let links = prev.into_iter().chain(others.filter_map(candidate)).collect();
        self.candidates.push(Candidate {
            id: event.id,
            signed: event.signature.is_some() || proven,
            links,
            prev_is_first: prev.is_some(),
            kept: true,
        });
        self.note(event);
    }

    /// Drops candidates that no kept signature vouches for, and what links to them, until nothing
    /// more has to go.
    pub(super) fn settle(&mut self) {
        loop {
            let mut vouched: Vec<bool> = self.candidates.iter().map(|c| c.signed).collect();
            for (number, candidate) in self.candidates.iter().enumerate().rev() {
                if candidate.prev_is_first && candidate.kept && vouched[number] {
                    vouched[candidate.links[0] as usize] = true;
                }
            }
            let mut changed = false;
            for (number, vouched) in vouched.into_iter().enumerate() {
                let (before, rest) = self.candidates.split_at_mut(number);
                let candidate = &mut rest[0];
                let stands =
                    vouched && candidate.links.iter().all(|link| before[*link as usize].kept);
                changed |= candidate.kept && !stands;
                candidate.kept &= stands;
            }
            if !changed {
                return;
            }
        }
    }

    /// How many readable events are not kept.
    pub(super) fn dropped(&self) -> u64 {
        self.considered - self.candidates.iter().filter(|candidate| candidate.kept).count() as u64
    }

    /// The ids of the kept ones.
    pub(super) fn into_kept(self) -> IdSet<EventId> {
        self.candidates.iter().filter(|candidate| candidate.kept).map(|c| c.id).collect()
    }
}
