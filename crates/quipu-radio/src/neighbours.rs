//! Who was heard, and whom to link to.

use std::collections::BTreeMap;

use quipu_core::id::NodeKey;
use quipu_helper::Address;

use crate::beacon::{Beacon, DIGEST_BYTES, node_tag};
use crate::limits::{DEFER_MS, NEIGHBOURS_MAX, REOPEN_MS, SETTLED_MS};

/// The first bytes of a digest.
pub(crate) type Digest = [u8; DIGEST_BYTES];

/// What a machine says that has no log yet.
const NOTHING: Digest = [0; DIGEST_BYTES];

/// A machine of this domain in reach.
#[derive(Debug, Clone)]
pub(crate) struct Neighbour {
    pub(crate) beacon: Beacon,
    /// Known once it has proven it.
    pub(crate) node: Option<NodeKey>,
    pub(crate) hops: u8,
    pub(crate) interface: Option<u32>,
    pub(crate) rssi: Option<i32>,
    pub(crate) snr: Option<i32>,
    pub(crate) heard_at: u64,
    /// What both said when the last stream with it ended, and how long a link is not worth it while both say that:
    /// what the one said may have been on its way to the other, or lost.
    settled: Option<(Digest, Digest, u64)>,
    /// It is in the middle of a long exchange until then.
    busy_until: u64,
    /// When to link to it.
    link_at: Option<u64>,
    wait: u64,
    /// How long that which was settled last is left alone.
    rest: u64,
}

/// How an announce came in.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Reception {
    pub(crate) hops: u8,
    pub(crate) interface: Option<u32>,
    pub(crate) rssi: Option<i32>,
    pub(crate) snr: Option<i32>,
}

/// All of them, by where they are.
#[derive(Debug, Default)]
pub(crate) struct Neighbours(BTreeMap<Address, Neighbour>);

impl Neighbours {
    pub(crate) fn iter(&self) -> impl Iterator<Item = (&Address, &Neighbour)> {
        self.0.iter()
    }

    pub(crate) fn get(&self, address: &Address) -> Option<&Neighbour> {
        self.0.get(address)
    }

    /// Notes an announce. A late one, that was overtaken, says nothing new.
    pub(crate) fn heard(&mut self, now: u64, address: Address, beacon: Beacon, how: Reception) {
        if !self.0.contains_key(&address) && self.0.len() >= NEIGHBOURS_MAX {
            let longest = self.0.iter().min_by_key(|(_, neighbour)| neighbour.heard_at);
            let longest = longest.map(|(address, _)| *address);
            longest.and_then(|address| self.0.remove(&address));
        }
        let neighbour = self.0.entry(address).or_insert_with(|| Neighbour {
            beacon,
            node: None,
            hops: how.hops,
            interface: how.interface,
            rssi: None,
            snr: None,
            heard_at: now,
            settled: None,
            busy_until: 0,
            link_at: None,
            wait: REOPEN_MS.0,
            rest: SETTLED_MS.0,
        });
        neighbour.heard_at = now;
        neighbour.hops = how.hops;
        neighbour.interface = how.interface.or(neighbour.interface);
        neighbour.rssi = how.rssi.or(neighbour.rssi);
        neighbour.snr = how.snr.or(neighbour.snr);
        let restarted = neighbour.beacon.node != beacon.node;
        if beacon.epoch >= neighbour.beacon.epoch || restarted {
            neighbour.beacon = beacon;
            neighbour.busy_until = now + beacon.busy_s * 1_000;
        }
    }

    /// Until when somebody in reach is in the middle of a long exchange.
    pub(crate) fn busy_until(&self) -> Option<u64> {
        self.0.values().map(|neighbour| neighbour.busy_until).max()
    }

    /// It is not the time yet to link to a machine.
    pub(crate) fn wait(&mut self, address: &Address, until: u64) {
        if let Some(neighbour) = self.0.get_mut(address) {
            neighbour.link_at = Some(until);
        }
    }

    /// A machine has proven to be there.
    pub(crate) fn proven(&mut self, address: &Address, node: NodeKey) {
        if let Some(neighbour) = self.0.get_mut(address) {
            neighbour.node = Some(node);
        }
    }

    /// Where a machine is, if it was heard.
    pub(crate) fn find(&self, node: &NodeKey) -> Option<Address> {
        let tag = node_tag(node);
        let there = |neighbour: &Neighbour| match neighbour.node {
            Some(known) => known == *node,
            None => neighbour.beacon.node == tag,
        };
        let found = self.0.iter().filter(|(_, neighbour)| there(neighbour));
        found.max_by_key(|(_, neighbour)| neighbour.heard_at).map(|(address, _)| *address)
    }

    /// Looks who differs, and decides when to link to them. Of two machines one lets the other go first.
    /// Who holds nothing is not linked to, but links to others at once: so it is the one that asks. What begins begins
    /// after the wait of the neighbour's interface.
    pub(crate) fn consider(
        &mut self,
        now: u64,
        here: &Address,
        digest: Digest,
        wait: impl Fn(Option<u32>) -> u64,
    ) {
        for (address, neighbour) in &mut self.0 {
            let as_settled = |(own, other, until): (Digest, Digest, u64)| {
                own == digest && other == neighbour.beacon.digest && now < until
            };
            let differs = neighbour.beacon.digest != digest
                && neighbour.beacon.digest != NOTHING
                && !neighbour.settled.is_some_and(as_settled);
            if !differs {
                neighbour.link_at = None;
                continue;
            }
            let defer = if here < address || digest == NOTHING { 0 } else { DEFER_MS };
            neighbour.link_at = neighbour.link_at.or(Some(now + defer + wait(neighbour.interface)));
        }
    }

    /// Those to link to now.
    pub(crate) fn due(&mut self, now: u64) -> Vec<Address> {
        let due = self.0.iter_mut().filter(|(_, n)| n.link_at.is_some_and(|at| at <= now));
        due.map(|(address, neighbour)| {
            neighbour.link_at = None;
            *address
        })
        .collect()
    }

    /// A stream with it has ended in good order.
    pub(crate) fn settle(&mut self, now: u64, address: &Address, digest: Digest) {
        if let Some(neighbour) = self.0.get_mut(address) {
            let other = neighbour.beacon.digest;
            let again = neighbour.settled.is_some_and(|(a, b, _)| (a, b) == (digest, other));
            neighbour.rest =
                if again { (neighbour.rest * 2).min(SETTLED_MS.1) } else { SETTLED_MS.0 };
            neighbour.settled = Some((digest, other, now + neighbour.rest));
            neighbour.link_at = None;
            neighbour.wait = REOPEN_MS.0;
        }
    }

    /// A stream with it came to nothing: once more, after a while that grows.
    pub(crate) fn retry(&mut self, now: u64, address: &Address) {
        if let Some(neighbour) = self.0.get_mut(address) {
            neighbour.link_at = Some(now + neighbour.wait);
            neighbour.wait = (neighbour.wait * 2).min(REOPEN_MS.1);
        }
    }

    pub(crate) fn deadline(&self) -> Option<u64> {
        self.0.values().filter_map(|neighbour| neighbour.link_at).min()
    }
}
