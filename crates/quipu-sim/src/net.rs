//! Links between machines: latency, bandwidth, loss, and what else happens to frames.

use std::collections::BTreeMap;

use quipu_core::event::Log;
use quipu_core::node::{Input, LinkId, LinkRole};
use quipu_core::sync::session::Traffic;

use crate::plan::{MS, Profile, SECOND, Us};
use crate::world::{Happening, World};

/// Two machines that may be linked.
#[derive(Debug)]
pub(crate) struct Edge {
    pub(crate) ends: [usize; 2],
    pub(crate) profile: Profile,
    pub(crate) link: Option<LinkId>,
    /// Nothing passes before this time.
    pub(crate) stalled_until: Us,
}

/// A link that is up, or was.
#[derive(Debug)]
pub(crate) struct Link {
    pub(crate) edge: usize,
    pub(crate) ends: [usize; 2],
    /// The side that answers and has not heard yet what the link is about.
    pub(crate) fresh: Option<usize>,
    /// When each direction has sent what was put on it.
    busy_until: [Us; 2],
    /// When the last frame of each direction arrives.
    last_arrival: [Us; 2],
    /// Whether somebody waits for a direction to drain.
    draining: [bool; 2],
}

impl Link {
    /// When everything that was sent has arrived.
    pub(crate) fn arrives_by(&self) -> Us {
        self.last_arrival[0].max(self.last_arrival[1])
    }
}

/// What was moved, over all links.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Moved {
    pub(crate) frames: u64,
    pub(crate) bytes: u64,
    pub(crate) lost_frames: u64,
    /// Of those, how many collided on the air.
    pub(crate) collided_frames: u64,
    pub(crate) sent_events: u64,
    pub(crate) round_trips: u64,
}

/// The last counters seen of each end of a link.
pub(crate) type Seen = BTreeMap<(LinkId, usize), Traffic>;

/// How long until two machines try again to link, at most.
const RETRY: Us = 5 * SECOND;
/// How long until a machine notices that a link is dead, at most.
const NOTICE: Us = 30 * SECOND;

impl World {
    /// Tries to link the ends of an edge.
    pub(crate) fn connect(&mut self, edge: usize) {
        let now = self.now;
        if self.is_on_air() {
            return;
        }
        let Some(Edge { ends, link, stalled_until, .. }) = self.edges.get(edge) else { return };
        let (ends, stalled) = (*ends, *stalled_until > now);
        if link.is_some() {
            return;
        }
        let up = self.may_link(ends);
        if !up || stalled || self.is_apart(ends) || self.is_banned(ends) {
            let after = self.rng.between(RETRY, 6 * RETRY);
            return self.at(now + after, Happening::Connect(edge));
        }
        self.link_up(edge, ends, true, None);
    }

    /// Links two machines: the one that holds nothing yet opens the link.
    pub(crate) fn link_up(
        &mut self,
        edge: usize,
        ends: [usize; 2],
        live: bool,
        request: Option<u64>,
    ) {
        let link = self.next_link;
        self.next_link += 1;
        let ups = ends.map(|end| self.machines[end].driver.is_some());
        let logs = ends.map(|end| self.machines[end].has_log());
        let first = match logs {
            // The other is no part of the log yet, or is down.
            _ if ups == [true, false] => 0,
            _ if ups == [false, true] => 1,
            [true, false] => 1,
            [false, true] => 0,
            _ if request.is_some() => 0,
            _ => self.rng.index(2),
        };
        if live {
            self.edges[edge].link = Some(link);
        }
        // Which log a link is about is known after the first frame.
        let mut ends = ends;
        let fresh = (self.machines[ends[1 - first]].log == Log::Published).then_some(1 - first);
        if let Some(side) = fresh {
            ends[side] = self.machines[ends[side]].host;
        }
        let now = self.now;
        self.links.insert(
            link,
            Link {
                edge,
                ends,
                fresh,
                busy_until: [now; 2],
                last_arrival: [now; 2],
                draining: [false; 2],
            },
        );
        for side in [first, 1 - first] {
            let (own, other) = (ends[side], ends[1 - side]);
            let invite = self.machines[own].invite.clone();
            let role = match side == first {
                true => LinkRole::Initiator { live, request, invite, only_state: false },
                false => LinkRole::Responder,
            };
            let peer = self.machines[other].node;
            self.give(own, Input::LinkUp { link, peer, role });
        }
    }

    /// Ends a link. Each side that is up hears of it after a while.
    pub(crate) fn cut(&mut self, link: LinkId, reason: &str, notice: Us) {
        let Some(gone) = self.links.remove(&link) else { return };
        for end in gone.ends {
            let after = self.rng.below(notice.max(1));
            let life = self.machines[end].life;
            let reason = reason.to_owned();
            self.at(self.now + after, Happening::Down { machine: end, life, link, reason });
        }
        if self.edges[gone.edge].link == Some(link) {
            self.edges[gone.edge].link = None;
            let after = self.rng.between(RETRY / 10, RETRY) + notice;
            self.at(self.now + after, Happening::Connect(gone.edge));
        }
    }

    /// Ends all links of a machine that stopped.
    pub(crate) fn cut_all(&mut self, machine: usize) {
        let links: Vec<LinkId> = self.links_of(machine);
        for link in links {
            self.cut(link, "the peer is gone", NOTICE);
        }
    }

    /// The links of a machine.
    pub(crate) fn links_of(&self, machine: usize) -> Vec<LinkId> {
        let of = self.links.iter().filter(|(_, link)| link.ends.contains(&machine));
        of.map(|(id, _)| *id).collect()
    }

    /// Puts a frame on a link.
    pub(crate) fn transmit(&mut self, from: usize, link: LinkId, bytes: Vec<u8>) {
        let now = self.now;
        let Some(on) = self.links.get_mut(&link) else { return };
        let Some(side) = on.ends.iter().position(|end| *end == from) else { return };
        let edge = &self.edges[on.edge];
        let profile = edge.profile;
        let length = bytes.len() as u64;
        self.moved.frames += 1;
        self.moved.bytes += length;
        on.busy_until[side] =
            on.busy_until[side].max(now) + (length + 20) * MS / profile.bytes_per_ms.max(1);
        let (low, high) = profile.latency;
        let mut arrival = on.busy_until[side].max(edge.stalled_until) + self.rng.between(low, high);
        let overtakes = self.rng.permille(profile.reorder);
        if !overtakes {
            // Frames of a link arrive in order.
            arrival = arrival.max(on.last_arrival[side]);
            on.last_arrival[side] = arrival;
        }
        let drained = (!on.draining[side]).then_some(on.busy_until[side]);
        on.draining[side] = true;
        let to = on.ends[1 - side];
        let copies = match profile {
            _ if self.rng.permille(profile.loss) => 0,
            _ if self.rng.permille(profile.duplicates) => 2,
            _ => 1,
        };
        self.moved.lost_frames += u64::from(copies == 0);
        for copy in 0..copies {
            let at = arrival + copy * low;
            let bytes = bytes.clone();
            self.at(at, Happening::Deliver { machine: to, link, bytes });
        }
        if let Some(at) = drained {
            self.at(at, Happening::Drained { machine: from, link, side });
        }
    }

    /// A direction of a link may have sent everything.
    pub(crate) fn drained(&mut self, machine: usize, link: LinkId, side: usize) {
        let Some(on) = self.links.get_mut(&link) else { return };
        let until = on.busy_until[side];
        if until > self.now {
            return self.at(until, Happening::Drained { machine, link, side });
        }
        on.draining[side] = false;
        let machine = if on.ends.contains(&machine) { machine } else { on.ends[side] };
        self.give(machine, Input::Writable { link, written: u64::MAX });
    }

    /// A frame arrives, if its link still is.
    pub(crate) fn deliver(&mut self, machine: usize, link: LinkId, bytes: Vec<u8>) {
        if let Some(machine) = self.routed(machine, link, &bytes) {
            self.give(machine, Input::Frame { link, bytes });
        }
    }

    /// Adds what a turn says of the counters of its links.
    pub(crate) fn count_traffic(&mut self, machine: usize, traffic: Vec<(LinkId, Traffic)>) {
        for (link, now) in traffic {
            let before = self.seen.insert((link, machine), now).unwrap_or_default();
            self.moved.sent_events += now.sent_events.saturating_sub(before.sent_events);
            self.moved.round_trips += now.round_trips.saturating_sub(before.round_trips);
        }
    }

    /// Whether a partition lies between two machines.
    pub(crate) fn is_apart(&self, ends: [usize; 2]) -> bool {
        self.groups.as_ref().is_some_and(|groups| {
            let of = |end: usize| groups[self.machines[end].host];
            of(ends[0]) != of(ends[1])
        })
    }

    /// Whether two machines have nothing to say to each other: after the trouble, liars are left
    /// out.
    fn is_banned(&self, ends: [usize; 2]) -> bool {
        self.healed && ends.iter().any(|end| self.is_hostile(*end))
    }
}

impl World {
    /// One side closes a link: the other gets what was sent before.
    pub(crate) fn shut(&mut self, link: LinkId, reason: String) {
        let Some(on) = self.links.get(&link) else { return };
        let at = on.arrives_by();
        self.at(at, Happening::Shut { link, reason });
    }
}
