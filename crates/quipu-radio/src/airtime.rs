//! How much of an hour an interface may use the air (MESH-10).
//!
//! *Invariant*: in no hour, wherever it begins, more is spent than the limit, also if what was handed over
//! leaves some minutes later.

use std::collections::{BTreeMap, VecDeque};

use quipu_helper::Interface;

use crate::limits::HANDED_MS;
use crate::stream::CLASSES;

/// The whole, of which a limit is a part.
pub const WHOLE: u32 = 100_000;
/// The time in which a limit holds, in milliseconds.
pub const HOUR_MS: u64 = 3_600_000;
/// Spendings within one slot are remembered as one, in milliseconds.
const SLOT_MS: u64 = 10_000;
/// Parts of the limit that each class may use up, in tenths: records find room when artifacts have
/// used theirs.
const TENTHS: [u64; CLASSES] = [10, 9, 7];
/// Where machines take turns, an exchange begins when not more than this is used of the limit, in tenths: one that
/// stops half-way keeps its other end waiting for most of an hour.
const RESTED_TENTHS: u64 = 4;

/// What one interface has spent, and may spend.
#[derive(Debug, Clone)]
pub struct Airtime {
    /// Microseconds in an hour.
    limit_us: u64,
    /// Slots with what was spent in them, oldest first.
    slots: VecDeque<(u64, u64)>,
}

impl Airtime {
    /// So many parts of [`WHOLE`] may be used.
    pub fn new(share: u32) -> Self {
        let limit_us = HOUR_MS * 1_000 * u64::from(share.min(WHOLE)) / u64::from(WHOLE);
        Self { limit_us, slots: VecDeque::new() }
    }

    /// Microseconds that may be spent in an hour.
    pub fn limit_us(&self) -> u64 {
        self.limit_us
    }

    /// Microseconds spent in the last hour, and in the time that a helper may have kept it before. A slot
    /// counts until all of it is over.
    pub fn used_us(&self, now_ms: u64) -> u64 {
        let from = self.oldest(now_ms);
        self.slots.iter().filter(|(slot, _)| *slot >= from).map(|(_, us)| us).sum()
    }

    fn oldest(&self, now_ms: u64) -> u64 {
        (self.slot(now_ms) * SLOT_MS).saturating_sub(HOUR_MS + HANDED_MS) / SLOT_MS
    }

    /// The slot of a time. A clock that was set back does not open old ones again.
    fn slot(&self, now_ms: u64) -> u64 {
        let last = self.slots.back().map_or(0, |(slot, _)| *slot);
        (now_ms / SLOT_MS).max(last)
    }

    /// Microseconds that a class may use up.
    fn most(&self, class: usize) -> u64 {
        self.limit_us / 10 * TENTHS[class.min(CLASSES - 1)]
    }

    /// Whether so much may be spent now, by that class.
    pub fn has_room(&self, now_ms: u64, us: u64, class: usize) -> bool {
        self.used_us(now_ms) + us <= self.most(class)
    }

    /// Spends.
    pub fn spend(&mut self, now_ms: u64, us: u64) {
        let (slot, from) = (self.slot(now_ms), self.oldest(now_ms));
        while self.slots.front().is_some_and(|(slot, _)| *slot < from) {
            self.slots.pop_front();
        }
        match self.slots.back_mut().filter(|(last, _)| *last == slot) {
            Some((_, spent)) => *spent += us,
            None => self.slots.push_back((slot, us)),
        }
    }

    /// When something is forgotten next, and so perhaps allowed.
    pub fn next_change(&self, now_ms: u64) -> Option<u64> {
        let from = self.oldest(now_ms);
        let (slot, _) = self.slots.iter().find(|(slot, _)| *slot >= from)?;
        Some((slot + 1) * SLOT_MS + HOUR_MS + HANDED_MS)
    }
}

/// An interface with what it has used.
#[derive(Debug)]
pub struct Meter {
    /// As the helper told last.
    pub interface: Interface,
    /// Only if it has a limit and its bitrate is known.
    pub airtime: Option<Airtime>,
    /// Bytes that were spent beforehand and that the helper has not counted yet.
    ahead: u64,
}

/// All interfaces.
#[derive(Debug, Default)]
pub struct Meters {
    share: Option<u32>,
    meters: BTreeMap<u32, Meter>,
}

impl Meters {
    /// With a limit for every interface whose bitrate is known, if any.
    pub fn new(share: Option<u32>) -> Self {
        Self { share, meters: BTreeMap::new() }
    }

    /// By number.
    pub fn iter(&self) -> impl Iterator<Item = (&u32, &Meter)> {
        self.meters.iter()
    }

    /// One of them.
    pub fn get(&self, number: u32) -> Option<&Meter> {
        self.meters.get(&number)
    }

    /// The helper began anew: its counters begin at nothing. What was spent stays spent.
    pub fn restart(&mut self) {
        for meter in self.meters.values_mut() {
            meter.interface.sent_bytes = 0;
            meter.interface.up = false;
            meter.ahead = 0;
        }
    }

    /// The helper tells. Answers whether an interface has come up.
    pub fn told(&mut self, now_ms: u64, interfaces: Vec<Interface>) -> bool {
        let mut came_up = false;
        for interface in interfaces {
            let share = self.share.filter(|_| interface.bitrate.is_some());
            let meter = self.meters.entry(interface.number).or_insert_with(|| Meter {
                interface: Interface { sent_bytes: 0, up: false, ..interface.clone() },
                airtime: share.map(Airtime::new),
                ahead: 0,
            });
            came_up |= interface.up && !meter.interface.up;
            let sent = interface.sent_bytes.saturating_sub(meter.interface.sent_bytes);
            // What was not foreseen: acknowledgements of the medium itself, and what it relays.
            let more = sent.saturating_sub(meter.ahead);
            meter.ahead = meter.ahead.saturating_sub(sent);
            meter.interface = interface;
            let us = meter.air_us(more);
            if let Some(airtime) = &mut meter.airtime {
                airtime.spend(now_ms, us);
            }
        }
        came_up
    }

    fn over(&self, interface: Option<u32>) -> impl Iterator<Item = &Meter> {
        let known = interface.filter(|number| self.meters.contains_key(number));
        // If it is not known where something leaves, it may be anywhere.
        self.meters
            .iter()
            .filter(move |(number, _)| known.is_none_or(|known| known == **number))
            .map(|(_, meter)| meter)
    }

    /// Whether so many bytes may be sent now, by that class.
    pub fn has_room(&self, now_ms: u64, interface: Option<u32>, bytes: u64, class: usize) -> bool {
        self.over(interface).all(|meter| {
            let us = meter.air_us(bytes);
            meter.airtime.as_ref().is_none_or(|airtime| airtime.has_room(now_ms, us, class))
        })
    }

    /// Whether so many bytes may be sent at any time, by that class.
    pub fn fits_ever(&self, interface: Option<u32>, bytes: u64, class: usize) -> bool {
        self.over(interface).all(|meter| {
            let us = meter.air_us(bytes);
            meter.airtime.as_ref().is_none_or(|airtime| us <= airtime.most(class))
        })
    }

    /// Whether it is known what is to be paid: there is no limit, or the helper has told of its interfaces.
    pub fn are_known(&self) -> bool {
        self.share.is_none() || !self.meters.is_empty()
    }

    /// Whether a long exchange may begin: enough is left for it of the limit.
    pub fn is_rested(&self, now_ms: u64, interface: Option<u32>) -> bool {
        self.over(interface)
            .filter_map(|meter| meter.airtime.as_ref())
            .all(|airtime| airtime.used_us(now_ms) <= airtime.limit_us() / 10 * RESTED_TENTHS)
    }

    /// So many bytes are about to be sent.
    pub fn spend(&mut self, now_ms: u64, interface: Option<u32>, bytes: u64) {
        let known = interface.filter(|number| self.meters.contains_key(number));
        for (number, meter) in &mut self.meters {
            if known.is_none_or(|known| known == *number) {
                let us = meter.air_us(bytes);
                if let Some(airtime) = &mut meter.airtime {
                    airtime.spend(now_ms, us);
                    meter.ahead += bytes;
                }
            }
        }
    }

    /// The pace of an interface; of the slowest if it is not known which.
    pub fn bitrate(&self, interface: Option<u32>) -> Option<u64> {
        self.over(interface).filter_map(|meter| meter.interface.bitrate).min()
    }

    /// The pace of the fastest interface, if there is one and all are known.
    pub fn fastest(&self) -> Option<u64> {
        self.meters.values().map(|meter| meter.interface.bitrate).min_by_key(|bitrate| {
            // One that is not known may be faster than all others.
            std::cmp::Reverse(bitrate.unwrap_or(u64::MAX))
        })?
    }

    /// When there may be more room.
    pub fn next_change(&self, now_ms: u64) -> Option<u64> {
        let limited = self.meters.values().filter_map(|meter| meter.airtime.as_ref());
        limited.filter_map(|airtime| airtime.next_change(now_ms)).min()
    }
}

impl Meter {
    /// How long so many bytes take, in microseconds.
    pub fn air_us(&self, bytes: u64) -> u64 {
        let bitrate = self.interface.bitrate.filter(|bitrate| *bitrate > 0);
        bitrate.map_or(0, |bitrate| (bytes * 8_000_000).div_ceil(bitrate))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn in_no_hour_more_is_spent(
            share in 100u32..20_000,
            steps in prop::collection::vec((0u64..900_000, 0u64..4_000_000, 0usize..CLASSES), 1..300),
        ) {
            let mut airtime = Airtime::new(share);
            let mut now = 1_700_000_000_123;
            let mut spent: Vec<(u64, u64)> = Vec::new();
            for (wait, us, class) in steps {
                now += wait;
                if airtime.has_room(now, us, class) {
                    airtime.spend(now, us);
                    spent.push((now, us));
                }
                let hour = spent.iter().filter(|(at, _)| at + HOUR_MS > now);
                prop_assert!(hour.map(|(_, us)| us).sum::<u64>() <= airtime.limit_us());
            }
        }

        #[test]
        fn a_clock_set_back_frees_nothing(back in 1u64..10 * HOUR_MS) {
            let mut airtime = Airtime::new(1_000);
            let now = 1_700_000_000_000;
            airtime.spend(now, airtime.limit_us());
            prop_assert!(!airtime.has_room(now - back, 1, 0));
        }
    }

    #[test]
    fn artifacts_leave_room_for_records() {
        let mut airtime = Airtime::new(1_000);
        let piece = airtime.limit_us() / 100;
        let mut sent = 0;
        while airtime.has_room(5, piece, 2) {
            airtime.spend(5, piece);
            sent += 1;
        }
        assert_eq!(sent, 70);
        assert!(airtime.has_room(5, piece, 0));
        // After an hour and a slot it is all forgotten.
        let later = airtime.next_change(5).unwrap();
        assert_eq!(later, HOUR_MS + HANDED_MS + SLOT_MS);
        assert!(!airtime.has_room(later - 1, piece, 2));
        assert!(airtime.has_room(later + SLOT_MS, piece, 2));
    }

    #[test]
    fn an_exchange_begins_when_there_is_room_for_it() {
        let mut meters = Meters::new(Some(1_000));
        let bitrate = Some(8_000);
        assert_eq!(meters.fastest(), None);
        meters.told(0, vec![Interface { number: 1, bitrate, ..Interface::default() }]);
        assert_eq!(meters.fastest(), bitrate);
        // 36 s are the limit.
        meters.spend(0, Some(1), 14_400);
        assert!(meters.is_rested(0, Some(1)));
        meters.spend(0, Some(1), 1);
        assert!(!meters.is_rested(0, None));
        meters.told(0, vec![Interface { number: 2, bitrate: None, ..Interface::default() }]);
        assert_eq!(meters.fastest(), None);
        assert!(meters.is_rested(0, Some(2)));
    }

    #[test]
    fn what_the_medium_sends_by_itself_counts() {
        let mut meters = Meters::new(Some(1_000));
        let interface = |sent_bytes| Interface {
            number: 1,
            bitrate: Some(8_000),
            sent_bytes,
            up: true,
            ..Interface::default()
        };
        assert!(meters.told(0, vec![interface(0)]));
        meters.spend(0, Some(1), 500);
        assert_eq!(meters.get(1).unwrap().airtime.as_ref().unwrap().used_us(0), 500_000);
        // 500 were foreseen, 700 were sent.
        assert!(!meters.told(0, vec![interface(700)]));
        assert_eq!(meters.get(1).unwrap().airtime.as_ref().unwrap().used_us(0), 700_000);
        assert!(!meters.has_room(0, None, 36_000, 0));
        assert!(meters.has_room(0, None, 35_000, 0));
    }
}
