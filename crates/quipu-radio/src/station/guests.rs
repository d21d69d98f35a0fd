//! What guests send pays for its airtime like everything else (MESH-10): it waits for its turn, and what can never have
//! one is refused. Nothing of it is lost without a word: a guest hears that it failed.

use std::collections::{BTreeMap, VecDeque};

use quipu_helper::{Address, FromHelper, LinkName, ToHelper};

use super::{Output, air_bytes};
use crate::airtime::Meters;
use crate::limits::{
    ANNOUNCE_OVERHEAD, GUEST_CLASS, GUEST_HEARD_MAX, GUEST_QUEUE_BYTES_MAX, IDENTIFY_BYTES,
    LINK_OVERHEAD,
};

/// All guests of a station.
#[derive(Debug, Default)]
pub(super) struct Guests {
    /// What waits for air, in order.
    waiting: VecDeque<ToHelper>,
    /// By which interface destinations and identities were heard last.
    heard: BTreeMap<Address, u32>,
    /// The same of links that are being opened, by request, and of links.
    opening: BTreeMap<u64, u32>,
    links: BTreeMap<LinkName, u32>,
}

/// What a message takes on the air; nothing if it stays in the helper.
fn cost(message: &ToHelper) -> u64 {
    match message {
        ToHelper::Announce { data, .. } => ANNOUNCE_OVERHEAD + data.len() as u64,
        ToHelper::Open { identity, .. } => {
            LINK_OVERHEAD + identity.map_or(0, |_| air_bytes(IDENTIFY_BYTES, false))
        }
        ToHelper::Packet { data, .. } => air_bytes(data.len(), false),
        // It may be compressed, which is known when it is too late.
        ToHelper::Resource { data, .. } => air_bytes(data.len(), true),
        ToHelper::Hello { .. }
        | ToHelper::Identity { .. }
        | ToHelper::Register { .. }
        | ToHelper::Close { .. }
        | ToHelper::Look {}
        | ToHelper::Bye {} => 0,
    }
}

/// What a guest hears in place of the helper's answer. Announces have none: they only ever wait.
fn refusal(message: ToHelper, why: &str) -> Option<FromHelper> {
    let reason = why.to_owned();
    match message {
        ToHelper::Open { request, .. } => Some(FromHelper::OpenFailed { request, reason }),
        ToHelper::Packet { link, number, .. } | ToHelper::Resource { link, number, .. } => {
            Some(FromHelper::Failed { link, number, reason })
        }
        _ => None,
    }
}

fn link_of(message: &ToHelper) -> Option<&LinkName> {
    match message {
        ToHelper::Packet { link, .. } | ToHelper::Resource { link, .. } => Some(link),
        _ => None,
    }
}

impl Guests {
    /// The helper is gone, and all that was said to it.
    pub(super) fn clear(&mut self) {
        *self = Self::default();
    }

    /// Whether something waits for air.
    pub(super) fn wait(&self) -> bool {
        !self.waiting.is_empty()
    }

    /// Bytes that wait.
    pub(super) fn queued(&self) -> u64 {
        self.waiting.iter().map(cost).sum()
    }

    /// The helper says something to a guest: that tells where things leave.
    pub(super) fn overhear(&mut self, message: &FromHelper) {
        match message {
            FromHelper::Heard { address, identity, interface: Some(interface), .. } => {
                for name in [address, identity] {
                    if self.heard.len() >= GUEST_HEARD_MAX && !self.heard.contains_key(name) {
                        self.heard.pop_first();
                    }
                    self.heard.insert(*name, *interface);
                }
            }
            FromHelper::LinkUp { link, request: Some(request), .. } => {
                if let Some(interface) = self.opening.remove(request) {
                    self.links.insert(link.clone(), interface);
                }
            }
            FromHelper::LinkPeer { link, identity, .. } => {
                if let Some(interface) = self.heard.get(identity) {
                    self.links.entry(link.clone()).or_insert(*interface);
                }
            }
            FromHelper::OpenFailed { request, .. } => drop(self.opening.remove(request)),
            FromHelper::LinkDown { link, .. } => {
                self.links.remove(link);
                // Whoever lost the link knows that what was to go over it is lost, too.
                self.waiting.retain(|message| link_of(message) != Some(link));
            }
            _ => {}
        }
    }

    /// By which interface a message leaves, if that is known.
    fn interface(&self, message: &ToHelper) -> Option<u32> {
        match message {
            ToHelper::Open { address, .. } => self.heard.get(address).copied(),
            _ => self.links.get(link_of(message)?).copied(),
        }
    }

    /// Takes a guest's message. What is to be done is appended.
    pub(super) fn take(&mut self, message: ToHelper, meters: &Meters, out: &mut Vec<Output>) {
        let bytes = cost(&message);
        if bytes == 0 {
            if let ToHelper::Close { link } = &message {
                self.waiting.retain(|message| link_of(message) != Some(link));
            }
            out.push(Output::Say(message));
            return;
        }
        if let ToHelper::Announce { destination, .. } = &message {
            // The latest says it all.
            let same = |waits: &&mut ToHelper| matches!(waits, ToHelper::Announce { destination: other, .. } if other == destination);
            if let Some(before) = self.waiting.iter_mut().find(same) {
                *before = message;
                return;
            }
        } else {
            let fits = meters.fits_ever(self.interface(&message), bytes, GUEST_CLASS);
            let full = self.queued() + bytes > GUEST_QUEUE_BYTES_MAX;
            if !fits || full {
                let why = if fits {
                    "too much waits for airtime already"
                } else {
                    "it takes more airtime than an interface has in an hour"
                };
                out.extend(refusal(message, why).map(Output::Guest));
                return;
            }
        }
        self.waiting.push_back(message);
    }

    /// Says what there is air for, in order.
    pub(super) fn pump(&mut self, now: u64, meters: &mut Meters, out: &mut Vec<Output>) {
        while let Some(message) = self.waiting.front() {
            let (bytes, interface) = (cost(message), self.interface(message));
            if !meters.are_known() || !meters.has_room(now, interface, bytes, GUEST_CLASS) {
                return;
            }
            let Some(message) = self.waiting.pop_front() else { return };
            meters.spend(now, interface, bytes);
            if let (ToHelper::Open { request, .. }, Some(interface)) = (&message, interface) {
                self.opening.insert(*request, interface);
            }
            out.push(Output::Say(message));
        }
    }
}

#[cfg(test)]
mod tests {
    use quipu_helper::Interface;

    use super::*;

    const SLOT_MS: u64 = 10_000;

    /// An interface of 8 kbit/s: a byte takes a millisecond.
    fn meters(share: u32) -> Meters {
        let mut meters = Meters::new(Some(share));
        let interface = |number, bitrate| Interface {
            number,
            bitrate: Some(bitrate),
            up: true,
            ..Interface::default()
        };
        meters.told(0, vec![interface(1, 8_000), interface(2, 80_000_000)]);
        meters
    }

    fn packet(number: u64, bytes: usize) -> ToHelper {
        ToHelper::Packet { link: vec![1], number, data: vec![0; bytes] }
    }

    fn said(out: &[Output]) -> Vec<u64> {
        let number = |output: &Output| match output {
            Output::Say(ToHelper::Packet { number, .. }) => Some(*number),
            _ => None,
        };
        out.iter().filter_map(number).collect()
    }

    #[test]
    fn guests_wait_for_air_and_lose_nothing() {
        let (mut guests, mut out) = (Guests::default(), Vec::new());
        // 36 s in an hour, of which guests may use 32.4.
        let mut meters = meters(1_000);
        for number in 1..=100 {
            guests.take(packet(number, 802), &meters, &mut out);
        }
        guests.pump(0, &mut meters, &mut out);
        assert_eq!(said(&out), (1..=32).collect::<Vec<_>>(), "of 1,000 bytes each on the air");
        assert!(guests.wait() && guests.queued() == 68_000);
        // What the machine itself has to say has room all the same.
        assert!(meters.has_room(0, Some(1), 3_000, 0));
        // In every later hour no more than that, until all have gone.
        let mut now = 0;
        while guests.wait() {
            now = meters.next_change(now).unwrap() + SLOT_MS;
            let before = said(&out).len();
            guests.pump(now, &mut meters, &mut out);
            assert!(said(&out).len() - before <= 32);
        }
        assert_eq!(said(&out), (1..=100).collect::<Vec<_>>());
        assert!(now > 3 * crate::airtime::HOUR_MS, "{now}");
    }

    #[test]
    fn what_never_fits_is_refused_with_a_word() {
        let (mut guests, mut out) = (Guests::default(), Vec::new());
        let mut meters = meters(1_000);
        guests.take(packet(7, 40_000), &meters, &mut out);
        let Some(Output::Guest(FromHelper::Failed { number: 7, reason, .. })) = out.pop() else {
            panic!("{out:?}")
        };
        assert!(reason.contains("in an hour"), "{reason}");
        // By an interface that is fast enough it goes.
        let heard = FromHelper::Heard {
            destination: 1,
            address: [3; 16],
            identity: [4; 16],
            public: [0; 64],
            data: Vec::new(),
            hops: 1,
            interface: Some(2),
            rssi: None,
            snr: None,
        };
        guests.overhear(&heard);
        guests.overhear(&FromHelper::LinkPeer {
            link: vec![1],
            identity: [4; 16],
            public: [0; 64],
        });
        guests.take(packet(8, 40_000), &meters, &mut out);
        guests.pump(0, &mut meters, &mut out);
        assert_eq!(said(&out), [8]);
        assert!(meters.has_room(0, Some(1), 35_000, 0), "the slow one has not paid for it");
        // Too much at once.
        let mut refused = 0;
        for number in 0..1_000 {
            guests.take(packet(number, 10_000), &meters, &mut out);
            refused += out.drain(..).filter(|o| matches!(o, Output::Guest(_))).count();
        }
        assert!(refused > 0 && guests.queued() <= GUEST_QUEUE_BYTES_MAX);
        guests.overhear(&FromHelper::LinkDown {
            link: vec![1],
            closed: true,
            reason: String::new(),
        });
        assert!(!guests.wait());
    }

    #[test]
    fn announces_wait_and_the_latest_goes() {
        let (mut guests, mut out) = (Guests::default(), Vec::new());
        let mut meters = Meters::new(Some(1_000));
        for said in 1..=3 {
            let announce = ToHelper::Announce { destination: 5, data: vec![said] };
            guests.take(announce, &meters, &mut out);
            guests.pump(0, &mut meters, &mut out);
        }
        assert!(out.is_empty(), "no interface is known yet: {out:?}");
        let slow = Interface { number: 1, bitrate: Some(8_000), up: true, ..Interface::default() };
        meters.told(0, vec![slow]);
        guests.pump(0, &mut meters, &mut out);
        let [Output::Say(ToHelper::Announce { data, .. })] = &out[..] else { panic!("{out:?}") };
        assert_eq!(data[..], [3]);
        assert!(meters.get(1).unwrap().airtime.as_ref().unwrap().used_us(0) >= 200_000);
    }
}
