//! What a run costs on the air, and what it would have to cost at least: see `docs/performance.md`.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use quipu_core::codec::pack::{self, Context, Shared};
use quipu_core::event::Event;
use quipu_core::history::History;
use quipu_core::id::{EventId, NodeKey};
use quipu_core::limits::{AUTHOR_PREFIX_BYTES, FRAME_EVENTS_MAX, SIGNATURE_INTERVAL};
use quipu_radio::airtime::WHOLE;
use serde::Serialize;

use crate::plan::{MS, SECOND, Us};
use crate::report::Finding;
use crate::world::World;

/// The time in which a limit holds.
pub(crate) const HOUR: Us = 3_600 * SECOND;

/// What was sent.
#[derive(Debug)]
pub(crate) struct Airing {
    /// By machine, in the last hour: when, and for how long.
    sent: Vec<VecDeque<(Us, Us)>>,
    total: Us,
    by_purpose: BTreeMap<&'static str, Us>,
    /// The most that a machine sent in an hour.
    busiest: Us,
    /// What had been sent when all trouble ended.
    healed: Option<(Us, BTreeMap<&'static str, Us>)>,
    /// What all lacked then takes at the nominal rate, and its bytes.
    needed: (Us, u64),
    measured: Option<AirReport>,
}

/// What a run cost on the air, until all agreed.
#[derive(Debug, Clone, Serialize)]
pub struct AirReport {
    /// Time that all machines together sent, in milliseconds.
    pub airtime_ms: u64,
    /// Of that, since all trouble had ended.
    pub healing_ms: u64,
    /// Packed bytes of what each machine lacked when all trouble had ended, over all machines.
    pub packed_bytes: u64,
    /// What these take at the nominal rate, each once for each machine that lacks it, in milliseconds.
    pub needed_ms: u64,
    /// `healing_ms` in times of `needed_ms`.
    pub ratio: f64,
    /// The largest part of any hour that a machine sent, in percent.
    pub duty_percent: f64,
    /// The limit of that.
    pub duty_limit_percent: f64,
    /// What the time of `healing_ms` went to, in milliseconds.
    pub healing_by_purpose_ms: BTreeMap<&'static str, u64>,
    /// Frames that were not heard because another one was on the air, of those that were lost.
    pub collided_frames: u64,
}

impl Airing {
    pub(crate) fn new(machines: usize) -> Self {
        Self {
            sent: vec![VecDeque::new(); machines],
            total: 0,
            by_purpose: BTreeMap::new(),
            busiest: 0,
            healed: None,
            needed: (0, 0),
            measured: None,
        }
    }

    /// A machine begins to send.
    pub(crate) fn sent(&mut self, machine: usize, now: Us, took: Us, purpose: &'static str) {
        self.sent[machine].push_back((now, took));
        self.total += took;
        *self.by_purpose.entry(purpose).or_default() += took;
    }

    /// What a machine has sent in the last hour, but for what it is sending.
    pub(crate) fn spent(&mut self, machine: usize, now: Us) -> Us {
        let sent = &mut self.sent[machine];
        while sent.front().is_some_and(|(start, _)| *start + HOUR <= now) {
            sent.pop_front();
        }
        let begun = sent.iter().filter(|(start, took)| start + took <= now);
        let spent = begun.map(|(_, took)| took).sum();
        self.busiest = self.busiest.max(spent);
        spent
    }

    /// What was measured, if everybody agreed.
    pub(crate) fn report(&self) -> Option<AirReport> {
        self.measured.clone()
    }
}

/// What a machine holds, for whoever packs what it lacks.
struct Holds {
    events: BTreeMap<EventId, (NodeKey, u64)>,
    authors: BTreeSet<NodeKey>,
}

impl Shared for Holds {
    fn shared(&self, id: &EventId) -> Option<(NodeKey, u64)> {
        self.events.get(id).copied()
    }

    fn author_prefix(&self, author: &NodeKey) -> Option<usize> {
        self.authors.contains(author).then_some(AUTHOR_PREFIX_BYTES)
    }
}

/// Bytes of events, packed as a session over a slow link sends them to a machine that holds something already.
fn packed_bytes(lacked: &[Event], holds: &Holds) -> u64 {
    let mut context = Context::writer().of_sync();
    context.set_small();
    let batches = lacked.chunks(FRAME_EVENTS_MAX);
    batches.map(|batch| pack::encode(batch, &mut context, holds).len() as u64).sum()
}

impl World {
    /// All trouble is over: notes what was sent until now, and what everybody lacks.
    pub(crate) fn measure_lack(&mut self) -> Result<(), Finding> {
        let Some(plan) = self.plan.air else { return Ok(()) };
        let bytes = self.lacked_bytes()?;
        let Some(air) = &mut self.air else { return Ok(()) };
        air.airing.needed = (plan.nominal(bytes), bytes);
        air.airing.healed = Some((air.airing.total, air.airing.by_purpose.clone()));
        Ok(())
    }

    /// Packed bytes of what each member lacks of what any of them holds, over all members.
    fn lacked_bytes(&self) -> Result<u64, Finding> {
        let members = self.members();
        let mut all: BTreeMap<EventId, Event> = BTreeMap::new();
        let mut held = Vec::new();
        for member in &members {
            let events = self.events_of(*member)?;
            let place = |event: &Event| (event.header.author, event.header.seq);
            held.push(Holds {
                events: events.iter().map(|event| (event.id, place(event))).collect(),
                authors: events.iter().map(|event| event.header.author).collect(),
            });
            all.extend(events.into_iter().map(|event| (event.id, event)));
        }
        let mut all: Vec<Event> = all.into_values().collect();
        // Clocks grow along links.
        all.sort_unstable_by_key(Event::order);
        strip(&mut all);
        let lacked_by = |holds: &Holds| -> Vec<Event> {
            all.iter().filter(|event| !holds.events.contains_key(&event.id)).cloned().collect()
        };
        Ok(held
            .iter()
            .map(|holds| (lacked_by(holds), holds))
            .filter(|(lacked, _)| !lacked.is_empty())
            .map(|(lacked, holds)| packed_bytes(&lacked, holds))
            .sum())
    }

    fn events_of(&self, machine: usize) -> Result<Vec<Event>, Finding> {
        let Some(driver) = &self.machines[machine].driver else { return Ok(Vec::new()) };
        let (held, log) = (driver.held(), driver.log());
        let mut events: Vec<Event> = Vec::new();
        while (events.len() as u64) < held.count(log) {
            let more = held.events(log, events.len() as u64..held.count(log));
            let more = more.map_err(|e| Finding::new("a log could not be read", e.to_string()))?;
            events.extend(more);
        }
        Ok(events)
    }

    /// Everybody agrees: notes what that took.
    pub(crate) fn measure_air(&mut self) {
        let collided_frames = self.moved.collided_frames;
        let Some(share) = self.plan.air.map(|plan| plan.share) else { return };
        let Some(air) = &mut self.air else { return };
        let airing = &mut air.airing;
        let Some((before, by_purpose)) = &airing.healed else { return };
        let (needed, packed_bytes) = airing.needed;
        let healing = airing.total - before;
        let since = |(purpose, time): (&&'static str, &Us)| {
            (*purpose, (time - by_purpose.get(purpose).unwrap_or(&0)) / MS)
        };
        let percent = |part: u64, whole: u64| part as f64 * 100.0 / whole as f64;
        airing.measured = Some(AirReport {
            airtime_ms: airing.total / MS,
            healing_ms: healing / MS,
            packed_bytes,
            needed_ms: needed / MS,
            ratio: healing as f64 / needed.max(1) as f64,
            duty_percent: percent(airing.busiest, HOUR),
            duty_limit_percent: percent(share, u64::from(WHOLE)),
            healing_by_purpose_ms: airing.by_purpose.iter().map(since).collect(),
            collided_frames,
        });
    }
}

/// Leaves the signatures that travel: at every so many events of a feed, and at its end.
fn strip(events: &mut [Event]) {
    let mut ends: BTreeMap<NodeKey, u64> = BTreeMap::new();
    for event in events.iter() {
        let end = ends.entry(event.header.author).or_default();
        *end = event.header.seq.max(*end);
    }
    for event in events {
        let (author, seq) = (event.header.author, event.header.seq);
        if seq % SIGNATURE_INTERVAL != 0 && ends.get(&author) != Some(&seq) {
            event.signature = None;
        }
    }
}
