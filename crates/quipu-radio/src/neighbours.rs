//! Who was heard, and whom to link to, and for which log.

use std::collections::BTreeMap;

use quipu_core::id::{DomainId, NodeKey};
use quipu_helper::Address;

use crate::beacon::{Beacon, DIGEST_BYTES, Tag, domain_tag, node_tag};
use crate::limits::{DEFER_MS, NEIGHBOURS_MAX, REOPEN_MS, SETTLED_MS};

/// The first bytes of a digest.
pub(crate) type Digest = [u8; DIGEST_BYTES];

/// What a machine says that has no log yet.
const NOTHING: Digest = [0; DIGEST_BYTES];

/// A log that machines tell of.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum LogTag {
    /// The internal log of their domain.
    Own,
    /// A published log.
    Published(Tag),
}

/// What is held here of a log.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Held {
    pub(crate) digest: Digest,
    /// Of which domain, if it is a published log.
    pub(crate) of: Option<DomainId>,
}

/// What this machine holds.
#[derive(Debug)]
pub(crate) struct Standing {
    /// The tag of its domain.
    pub(crate) domain: Tag,
    pub(crate) logs: BTreeMap<LogTag, Held>,
}

impl Standing {
    /// The digest of a log, if it is kept here.
    pub(crate) fn digest(&self, log: LogTag) -> Option<Digest> {
        self.logs.get(&log).map(|held| held.digest)
    }

    /// What of a beacon is about logs that are kept here.
    fn common(&self, beacon: &Beacon) -> Vec<(LogTag, Digest)> {
        let own = (beacon.domain == self.domain).then_some((LogTag::Own, beacon.digest));
        let published = beacon.published.iter().map(|(tag, d)| (LogTag::Published(*tag), *d));
        let kept = published.filter(|(log, _)| self.logs.contains_key(log));
        own.into_iter().chain(kept).collect()
    }

    /// Whether a machine has nothing yet of a log of which there is something here.
    pub(crate) fn is_lacked(&self, beacon: &Beacon) -> bool {
        let here = |log| self.digest(log).is_some_and(|digest| digest != NOTHING);
        self.common(beacon).into_iter().any(|(log, digest)| digest == NOTHING && here(log))
    }

    /// Whether a beacon is about anything that is kept here.
    pub(crate) fn concerns(&self, beacon: &Beacon) -> bool {
        !self.common(beacon).is_empty()
    }
}

/// What both say of a log, and what was made of that.
#[derive(Debug, Clone)]
pub(crate) struct Meeting {
    pub(crate) digest: Digest,
    /// What both said when the last stream ended, and how long a link is not worth it while both say that:
    /// what the one said may have been on its way to the other, or lost.
    settled: Option<(Digest, Digest, u64)>,
    /// When to link to it.
    link_at: Option<u64>,
    wait: u64,
    /// How long that which was settled last is left alone.
    rest: u64,
}

/// A machine in reach, of this domain or with a published log that is kept here, too.
#[derive(Debug, Clone)]
pub(crate) struct Neighbour {
    pub(crate) domain: Tag,
    /// What stands for it.
    pub(crate) tag: Tag,
    /// Known once it has proven it.
    pub(crate) node: Option<NodeKey>,
    pub(crate) hops: u8,
    pub(crate) interface: Option<u32>,
    pub(crate) rssi: Option<i32>,
    pub(crate) snr: Option<i32>,
    pub(crate) heard_at: u64,
    /// It is in the middle of a long exchange until then.
    busy_until: u64,
    /// What it announced last: this machine may keep more logs later.
    beacon: Beacon,
    pub(crate) logs: BTreeMap<LogTag, Meeting>,
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

impl Meeting {
    fn new(digest: Digest) -> Self {
        let (wait, rest) = (REOPEN_MS.0, SETTLED_MS.0);
        Self { digest, settled: None, link_at: None, wait, rest }
    }

    /// Whether there is something to be had from each other that was not tried just now.
    fn differs(&self, now: u64, own: Digest) -> bool {
        let as_settled = |(before, other, until): (Digest, Digest, u64)| {
            before == own && other == self.digest && now < until
        };
        self.digest != own && self.digest != NOTHING && !self.settled.is_some_and(as_settled)
    }

    fn settle(&mut self, now: u64, own: Digest) {
        let again = self.settled.is_some_and(|(a, b, _)| (a, b) == (own, self.digest));
        self.rest = if again { (self.rest * 2).min(SETTLED_MS.1) } else { SETTLED_MS.0 };
        self.settled = Some((own, self.digest, now + self.rest));
        self.link_at = None;
        self.wait = REOPEN_MS.0;
    }
}

impl Neighbour {
    /// Notes what it said of logs that are kept here.
    fn compare(&mut self, standing: &Standing) {
        for (log, digest) in standing.common(&self.beacon) {
            let fresh = || Meeting::new(digest);
            self.logs.entry(log).or_insert_with(fresh).digest = digest;
        }
    }
}

impl Neighbours {
    pub(crate) fn iter(&self) -> impl Iterator<Item = (&Address, &Neighbour)> {
        self.0.iter()
    }

    pub(crate) fn get(&self, address: &Address) -> Option<&Neighbour> {
        self.0.get(address)
    }

    /// Notes an announce. A late one, that was overtaken, says nothing new.
    pub(crate) fn heard(
        &mut self,
        now: u64,
        address: Address,
        beacon: &Beacon,
        how: Reception,
        standing: &Standing,
    ) {
        if !self.0.contains_key(&address) && self.0.len() >= NEIGHBOURS_MAX {
            let longest = self.0.iter().min_by_key(|(_, neighbour)| neighbour.heard_at);
            let longest = longest.map(|(address, _)| *address);
            longest.and_then(|address| self.0.remove(&address));
        }
        let neighbour = self.0.entry(address).or_insert_with(|| Neighbour {
            domain: beacon.domain,
            tag: beacon.node,
            node: None,
            hops: how.hops,
            interface: how.interface,
            rssi: None,
            snr: None,
            heard_at: now,
            busy_until: 0,
            beacon: beacon.clone(),
            logs: BTreeMap::new(),
        });
        neighbour.heard_at = now;
        neighbour.hops = how.hops;
        neighbour.interface = how.interface.or(neighbour.interface);
        neighbour.rssi = how.rssi.or(neighbour.rssi);
        neighbour.snr = how.snr.or(neighbour.snr);
        let restarted = neighbour.tag != beacon.node;
        if beacon.epoch >= neighbour.beacon.epoch || restarted {
            neighbour.busy_until = now + beacon.busy_s * 1_000;
            (neighbour.domain, neighbour.tag) = (beacon.domain, beacon.node);
            neighbour.beacon = beacon.clone();
            neighbour.compare(standing);
        }
    }

    /// This machine holds something else now.
    pub(crate) fn compare(&mut self, standing: &Standing) {
        self.0.values_mut().for_each(|neighbour| neighbour.compare(standing));
    }

    /// Until when somebody in reach is in the middle of a long exchange.
    pub(crate) fn busy_until(&self) -> Option<u64> {
        self.0.values().map(|neighbour| neighbour.busy_until).max()
    }

    /// It is not the time yet to link to a machine.
    pub(crate) fn wait(&mut self, address: &Address, log: LogTag, until: u64) {
        if let Some(meeting) = self.meeting(address, log) {
            meeting.link_at = Some(until);
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
            None => neighbour.tag == tag,
        };
        let found = self.0.iter().filter(|(_, neighbour)| there(neighbour));
        found.max_by_key(|(_, neighbour)| neighbour.heard_at).map(|(address, _)| *address)
    }

    /// Looks who differs, and decides when to link to them. Of two machines of a domain one lets the other go first.
    /// Who holds nothing is not linked to, but links to others at once: so it is the one that asks. Of another domain's machines
    /// nothing is wanted but that domain's published log, and they want nothing from here: whoever follows asks. What begins
    /// begins after the wait of the neighbour's interface.
    pub(crate) fn consider(
        &mut self,
        now: u64,
        here: &Address,
        standing: &Standing,
        wait: impl Fn(Option<u32>) -> u64,
    ) {
        for (address, neighbour) in &mut self.0 {
            let ours = neighbour.domain == standing.domain;
            for (log, meeting) in &mut neighbour.logs {
                let held = standing.logs.get(log).filter(|held| {
                    ours || held.of.is_some_and(|domain| domain_tag(&domain) == neighbour.domain)
                });
                let Some(own) = held.map(|held| held.digest).filter(|d| meeting.differs(now, *d))
                else {
                    meeting.link_at = None;
                    continue;
                };
                let first = !ours || here < address || own == NOTHING;
                let defer = if first { 0 } else { DEFER_MS };
                let wait = wait(neighbour.interface);
                meeting.link_at = meeting.link_at.or(Some(now + defer + wait));
            }
        }
    }

    /// Those to link to now, and for which log.
    pub(crate) fn due(&mut self, now: u64) -> Vec<(Address, LogTag)> {
        let mut due = Vec::new();
        for (address, neighbour) in &mut self.0 {
            for (log, meeting) in &mut neighbour.logs {
                if meeting.link_at.take_if(|at| *at <= now).is_some() {
                    due.push((*address, *log));
                }
            }
        }
        due
    }

    fn meeting(&mut self, address: &Address, log: LogTag) -> Option<&mut Meeting> {
        self.0.get_mut(address)?.logs.get_mut(&log)
    }

    /// A stream with it has ended in good order.
    pub(crate) fn settle(&mut self, now: u64, address: &Address, log: LogTag, own: Digest) {
        if let Some(meeting) = self.meeting(address, log) {
            meeting.settle(now, own);
        }
    }

    /// A stream with it came to nothing: once more, after a while that grows.
    pub(crate) fn retry(&mut self, now: u64, address: &Address, log: LogTag) {
        if let Some(meeting) = self.meeting(address, log) {
            meeting.link_at = Some(now + meeting.wait);
            meeting.wait = (meeting.wait * 2).min(REOPEN_MS.1);
        }
    }

    pub(crate) fn deadline(&self) -> Option<u64> {
        let meetings = self.0.values().flat_map(|neighbour| neighbour.logs.values());
        meetings.filter_map(|meeting| meeting.link_at).min()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::beacon::published_tag;

    const HOW: Reception = Reception { hops: 1, interface: None, rssi: None, snr: None };

    fn domain(number: u8) -> DomainId {
        DomainId([number; 32])
    }

    fn standing(own: u8, published: &[(u8, u8)]) -> Standing {
        let logs = published.iter().map(|(of, digest)| {
            let of = domain(*of);
            let held = Held { digest: [*digest; DIGEST_BYTES], of: Some(of) };
            (LogTag::Published(published_tag(&of)), held)
        });
        let own = (LogTag::Own, Held { digest: [own; DIGEST_BYTES], of: None });
        Standing { domain: domain_tag(&domain(1)), logs: logs.chain([own]).collect() }
    }

    fn beacon(of: u8, digest: u8, published: &[(u8, u8)]) -> Beacon {
        let published = published.iter();
        Beacon {
            domain: domain_tag(&domain(of)),
            node: [of; 6],
            digest: [digest; DIGEST_BYTES],
            epoch: 1,
            published: published
                .map(|(of, digest)| (published_tag(&domain(*of)), [*digest; DIGEST_BYTES]))
                .collect(),
            busy_s: 0,
        }
    }

    /// Nobody takes turns.
    fn at_once(_interface: Option<u32>) -> u64 {
        0
    }

    fn wanted(standing: &Standing, beacon: &Beacon) -> Vec<LogTag> {
        let mut neighbours = Neighbours::default();
        neighbours.heard(0, [9; 16], beacon, HOW, standing);
        neighbours.consider(0, &[1; 16], standing, at_once);
        neighbours.due(0).into_iter().map(|(_, log)| log).collect()
    }

    #[test]
    fn each_log_by_itself() {
        let of_2 = LogTag::Published(published_tag(&domain(2)));
        let here = standing(5, &[(1, 6), (2, 7)]);
        // A machine of this domain: whatever differs, followed logs as well.
        assert_eq!(wanted(&here, &beacon(1, 5, &[(1, 6), (2, 7)])), []);
        assert_eq!(wanted(&here, &beacon(1, 8, &[(1, 6)])), [LogTag::Own]);
        assert_eq!(wanted(&here, &beacon(1, 5, &[(1, 6), (2, 8)])), [of_2]);
        assert_eq!(wanted(&here, &beacon(1, 5, &[(2, 0)])), [], "it has nothing of it");
        // A machine of a followed domain: its own published log.
        assert_eq!(wanted(&here, &beacon(2, 5, &[(2, 8), (1, 8)])), [of_2]);
        // One that follows this domain asks itself.
        assert_eq!(wanted(&here, &beacon(3, 5, &[(1, 8), (2, 8)])), []);
        assert!(!here.concerns(&beacon(3, 5, &[(3, 8)])));
        assert!(here.concerns(&beacon(3, 5, &[(1, 8)])), "it wants to hear of this one");
    }

    #[test]
    fn what_is_settled_rests_for_that_log_only() {
        let here = standing(5, &[(1, 6)]);
        let mut neighbours = Neighbours::default();
        let there = [9; 16];
        neighbours.heard(0, there, &beacon(1, 8, &[(1, 9)]), HOW, &here);
        neighbours.consider(0, &[1; 16], &here, at_once);
        assert_eq!(neighbours.due(0).len(), 2);
        neighbours.settle(0, &there, LogTag::Own, [5; DIGEST_BYTES]);
        neighbours.consider(1, &[1; 16], &here, at_once);
        let published = LogTag::Published(published_tag(&domain(1)));
        assert_eq!(neighbours.due(1), [(there, published)]);
        neighbours.consider(SETTLED_MS.0, &[1; 16], &here, at_once);
        assert_eq!(neighbours.due(SETTLED_MS.0).len(), 2);
    }

    #[test]
    fn what_was_said_counts_for_logs_that_are_kept_later() {
        let mut neighbours = Neighbours::default();
        neighbours.heard(0, [9; 16], &beacon(1, 5, &[(2, 8)]), HOW, &standing(5, &[]));
        let later = standing(5, &[(2, 0)]);
        neighbours.compare(&later);
        neighbours.consider(0, &[1; 16], &later, at_once);
        assert_eq!(neighbours.due(0), [([9; 16], LogTag::Published(published_tag(&domain(2))))]);
        // Who keeps a log and has nothing of it is answered by those who have.
        assert!(standing(5, &[(2, 8)]).is_lacked(&beacon(3, 5, &[(2, 0)])));
        assert!(!later.is_lacked(&beacon(3, 5, &[(2, 0)])), "there is nothing here either");
    }
}
