//! Taking turns on a medium that all in reach share, and on which a packet takes long: see `docs/formats/radio-stream.md`.
//!
//! Two exchanges at once cost more than one after the other: transmissions collide, and who gets the same
//! from two gets it twice. So a machine has one stream at a time; of several that have something to fetch, the lot
//! says who begins; and long exchanges are announced, so that others keep silent.

use quipu_helper::{Address, ToHelper};

use super::{Output, Station};
use crate::association::Association;
use crate::limits::{
    BULK_PACKETS, BUSY_AGAIN_MS, BUSY_S_MAX, IN_VAIN_MAX, LOOK_MS, SHARED_BITRATE, TURN_PACKETS,
};
use crate::stream::{CLASSES, Medium};

/// What a packet takes where the interface does not say: Reticulum's.
const PACKET_BYTES: u32 = 500;

/// Whether machines take turns on a medium of such a pace.
pub(super) fn is_shared(bitrate: u64) -> bool {
    bitrate < SHARED_BITRATE
}

impl Station {
    /// How long a packet takes on an interface where machines take turns, in milliseconds.
    pub(super) fn turn_ms(&self, interface: Option<u32>) -> Option<u64> {
        let bitrate = self.meters.bitrate(interface).filter(|bitrate| is_shared(*bitrate))?;
        let mtu = interface.and_then(|number| self.meters.get(number)?.interface.mtu);
        Some(u64::from(mtu.unwrap_or(PACKET_BYTES)) * 8_000 / bitrate.max(1))
    }

    pub(super) fn turn_with(&self, address: &Address) -> Option<u64> {
        self.turn_ms(self.neighbours.get(address).and_then(|neighbour| neighbour.interface))
    }

    /// Whether there is a stream already where there should be one at a time.
    pub(super) fn is_engaged(&self, now: u64) -> bool {
        self.associations.values().any(|a| a.is_engaged(now))
            || self.arrivals.values().any(|(medium, _)| medium.is_shared())
    }

    /// Whether a link that somebody opened comes at the wrong time: it is closed before more is said over it. Who opens one
    /// has looked at its own airtime with more care: to be turned away costs, too.
    pub(super) fn is_bad_time(&self, now: u64) -> bool {
        let no_room = || !self.meters.has_room(now, None, 0, CLASSES - 1);
        self.takes_turns() && (self.is_engaged(now) || self.is_silent(now) || no_room())
    }

    /// Whether machines take turns on all interfaces.
    fn takes_turns(&self) -> bool {
        self.meters.fastest().is_some_and(is_shared)
    }

    /// Whether somebody in reach is in the middle of a long exchange.
    fn is_silent(&self, now: u64) -> bool {
        self.neighbours.busy_until().is_some_and(|until| until > now)
    }

    /// Two machines may open a link to each other at the same time: that of the smaller address stays. Answers whether
    /// the one that was opened here does.
    pub(super) fn keeps_own(&mut self, now: u64, address: &Address, out: &mut Vec<Output>) -> bool {
        if self.turn_with(address).is_none() || !self.is_engaged(now) {
            return true;
        }
        if self.associations.values().any(|a| a.is_engaged(now)) || self.address > Some(*address) {
            return false;
        }
        for (link, _) in std::mem::take(&mut self.arrivals) {
            out.push(Output::Say(ToHelper::Close { link }));
        }
        true
    }

    /// When to link to a neighbour, if not now: it is another machine's turn.
    pub(super) fn turn_of(&mut self, now: u64, address: &Address) -> Option<u64> {
        let packet = self.turn_with(address)?;
        let silent = self.neighbours.busy_until().filter(|until| *until > now);
        let opens = self.associations.values().any(|a| a.opening.is_some());
        let interface = self.neighbours.get(address).and_then(|neighbour| neighbour.interface);
        let busy = opens
            || !self.meters.is_rested(now, interface)
            || self.is_engaged(now)
            || self.turn_at > now;
        if silent.is_none() && !busy {
            self.turn_at = now + self.lot(packet) * (1 << self.in_vain.min(IN_VAIN_MAX));
            self.in_vain += 1;
            return None;
        }
        Some(silent.unwrap_or(now).max(self.turn_at) + self.lot(packet))
    }

    /// A time drawn by lot.
    pub(super) fn lot(&mut self, packet: u64) -> u64 {
        self.lots += 1;
        let mut hasher = blake3::Hasher::new_keyed(&self.settings.seed);
        let mut drawn = [0; 8];
        hasher.update(b"lot").update(&self.lots.to_le_bytes()).finalize_xof().fill(&mut drawn);
        packet * TURN_PACKETS.0 + u64::from_le_bytes(drawn) % (packet * TURN_PACKETS.1).max(1)
    }

    /// An announce of what is held waits while there is an exchange: what is held changes, and others would want to
    /// link.
    pub(super) fn announce_later(&self, now: u64) -> Option<u64> {
        let waits = self.takes_turns() && (self.is_engaged(now) || self.is_silent(now));
        waits.then_some(now + LOOK_MS)
    }

    /// For how many seconds there will be an exchange that is worth an announce, if there is one that was not
    /// announced, or not lately.
    pub(super) fn busy_now(&mut self, now: u64) -> Option<u64> {
        let long = |a: &&mut Association| {
            let medium = a.ready().map(|carrier| carrier.medium).filter(Medium::is_shared);
            let bulk = |medium: Medium| a.stream.outstanding() > medium.packet_max * BULK_PACKETS;
            a.tell_at <= now && now < a.moved_at + LOOK_MS && medium.is_some_and(bulk)
        };
        let association = self.associations.values_mut().find(long)?;
        association.tell_at = now + BUSY_AGAIN_MS;
        let medium = association.ready()?.medium;
        // As much again goes to what is around it, to what is lost, and to waiting for a free channel.
        let ms = medium.air_ms(association.stream.outstanding()) * 2;
        Some((ms / 1_000).clamp(1, BUSY_S_MAX))
    }
}
