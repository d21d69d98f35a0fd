//! Links under streams: opening, greeting, carrying, ending.

use quipu_core::id::NodeKey;
use quipu_core::node::LinkId;
use quipu_helper::{LinkName, ToHelper};
use quipu_node::service::{About, NetEvent};

use super::{Carrier, Greeting, Output, Side, Station, is_greeting};
use crate::association::Association;
use crate::limits::*;
use crate::neighbours::LogTag;
use crate::stream::{Medium, carries_data};

/// What a message takes on the air, with everything that Reticulum puts around it.
pub fn air_bytes(bytes: usize, resource: bool) -> u64 {
    let bytes = bytes as u64;
    if resource {
        let parts = bytes.div_ceil(RESOURCE_PART_BYTES);
        bytes + parts * RESOURCE_PART_OVERHEAD + RESOURCE_OVERHEAD
    } else {
        bytes + PACKET_OVERHEAD
    }
}

/// What a message of a station is for: what is asked of airtime is where it goes.
pub fn purpose(message: &[u8]) -> &'static str {
    match message.first() {
        Some(head) if is_greeting(*head) => "greetings",
        Some(head) if !carries_data(*head) => "acknowledgements",
        _ => "frames",
    }
}

impl Station {
    /// The stream over a link.
    fn over(&self, name: &LinkName) -> Option<LinkId> {
        let carries = |a: &&Association| a.carrier.as_ref().is_some_and(|c| c.name == *name);
        self.associations.values().find(carries).map(|association| association.link)
    }

    pub(super) fn with_stream(
        &mut self,
        name: &LinkName,
        action: impl FnOnce(&mut Association, &Medium),
    ) {
        let Some(link) = self.over(name) else { return };
        let Some(association) = self.associations.get_mut(&link) else { return };
        if let Some(medium) = association.carrier.as_ref().map(|carrier| carrier.medium) {
            action(association, &medium);
        }
    }

    pub(super) fn on_link_up(
        &mut self,
        now: u64,
        name: LinkName,
        request: Option<u64>,
        mut medium: Medium,
        out: &mut Vec<Output>,
    ) {
        let Some(request) = request else {
            medium.bitrate = self.meters.bitrate(None);
            if self.arrivals.len() < ASSOCIATIONS_MAX && !self.is_bad_time(now) {
                self.arrivals.insert(name, (medium, now));
            } else {
                out.push(Output::Say(ToHelper::Close { link: name }));
            }
            return;
        };
        let asked = |a: &&mut Association| a.opening.is_some_and(|(number, _)| number == request);
        let Some(association) = self.associations.values_mut().find(asked) else {
            out.push(Output::Say(ToHelper::Close { link: name }));
            return;
        };
        association.opening = None;
        association.moved_at = now;
        let (link, address) = (association.link, association.address);
        if !self.keeps_own(now, &address, out) {
            out.push(Output::Say(ToHelper::Close { link: name }));
            self.end(now, link, "another link was faster", false, out);
            return;
        }
        let Some(association) = self.associations.get_mut(&link) else { return };
        let neighbour = self.neighbours.get(&association.address);
        medium.bitrate = self.meters.bitrate(neighbour.and_then(|n| n.interface));
        association.carrier =
            Some(Carrier { name, medium, greeted: false, greetings: 0, greet_at: now });
    }

    pub(super) fn on_open_failed(
        &mut self,
        now: u64,
        request: u64,
        reason: &str,
        out: &mut Vec<Output>,
    ) {
        let asked = |a: &&mut Association| a.opening.is_some_and(|(number, _)| number == request);
        let Some(association) = self.associations.values_mut().find(asked) else { return };
        association.opening = None;
        let link = association.link;
        if association.up {
            association.retry(now);
        } else {
            self.end(now, link, reason, false, out);
        }
    }

    pub(super) fn on_link_down(
        &mut self,
        now: u64,
        name: &LinkName,
        closed: bool,
        reason: &str,
        out: &mut Vec<Output>,
    ) {
        self.arrivals.remove(name);
        let Some(link) = self.over(name) else { return };
        let Some(association) = self.associations.get_mut(&link) else { return };
        let given_up = !association.up || association.closing.is_some();
        if closed || given_up {
            let good = closed && association.up;
            self.end(now, link, reason, good, out);
        } else {
            association.suspend(now);
        }
    }

    /// A message came over a link.
    pub(super) fn on_message(
        &mut self,
        now: u64,
        name: &LinkName,
        message: &[u8],
        resource: bool,
        out: &mut Vec<Output>,
    ) {
        if message.first().is_some_and(|head| is_greeting(*head)) {
            self.on_greeting(now, name, message, out);
            return;
        }
        let Some(link) = self.over(name) else { return };
        let Some(association) = self.associations.get_mut(&link) else { return };
        let Some(medium) = association.ready().map(|carrier| carrier.medium) else { return };
        association.moved_at = now;
        match association.stream.take(now, message, resource, &medium) {
            Ok(frames) => {
                for bytes in frames {
                    association.moved(now, &bytes);
                    out.push(Output::Net(NetEvent::Frame { link, bytes }));
                }
            }
            Err(error) => self.end(now, link, &error.to_string(), false, out),
        }
    }

    fn on_greeting(&mut self, now: u64, name: &LinkName, bytes: &[u8], out: &mut Vec<Output>) {
        let opened_here = self.over(name).and_then(|link| self.associations.get(&link));
        let opened_here = opened_here.is_some_and(|association| association.opener);
        let side = if opened_here { Side::Accepter } else { Side::Opener };
        let greeting = match Greeting::verify(bytes, name, side) {
            Ok(greeting) => greeting,
            Err(error) => {
                tracing::warn!(%error, "a machine on the air does not prove who it is");
                return;
            }
        };
        self.neighbours.proven(&greeting.address, greeting.node);
        if opened_here {
            self.on_answer(now, name, &greeting, out);
        } else {
            self.on_caller(now, name, &greeting, out);
        }
    }

    /// The accepter has answered.
    fn on_answer(&mut self, now: u64, name: &LinkName, greeting: &Greeting, out: &mut Vec<Output>) {
        let Some(link) = self.over(name) else { return };
        let Some(association) = self.associations.get_mut(&link) else { return };
        let other = association.expected.or(association.peer).filter(|key| *key != greeting.node);
        if let Some(other) = other {
            let reason = format!("node {} is there, not {}", greeting.node.short(), other.short());
            self.end(now, link, &reason, false, out);
            return;
        }
        if greeting.association != association.id || association.ready().is_some() {
            return;
        }
        let forgot = association.up && !greeting.known;
        if forgot || association.stream.resume(greeting.places).is_err() {
            // It has started anew: so does the driver's link.
            self.end(now, link, "the other end has lost its place", false, out);
            return;
        }
        association.peer = Some(greeting.node);
        if let Some(carrier) = &mut association.carrier {
            carrier.greeted = true;
        }
        self.established(now, link, out);
    }

    /// Somebody else opened a link, and says who it is.
    fn on_caller(&mut self, now: u64, name: &LinkName, greeting: &Greeting, out: &mut Vec<Output>) {
        let theirs = |a: &&Association| {
            !a.opener && a.id == greeting.association && a.peer == Some(greeting.node)
        };
        let remembered = self.associations.values().find(theirs).map(|a| (a.link, a.ready()));
        let again = remembered.as_ref().and_then(|(_, carrier)| *carrier).map(|c| c.name == *name);
        let remembered = remembered.map(|(link, _)| link);
        if again == Some(true) {
            // The answer was lost.
            let link = remembered.unwrap_or_default();
            self.greet(now, link, true, out);
            return;
        }
        let Some((medium, _)) = self.arrivals.remove(name) else { return };
        let known = remembered.filter(|link| self.goes_on(*link, greeting));
        if let Some(link) = remembered.filter(|_| known.is_none()) {
            self.end(now, link, "the other end has lost its place", false, out);
        }
        let link = match known {
            Some(link) => link,
            None if self.associations.len() < ASSOCIATIONS_MAX => self.accept(now, greeting),
            None => {
                out.push(Output::Say(ToHelper::Close { link: name.clone() }));
                return;
            }
        };
        self.drop_stale(now, link, &greeting.node, out);
        let Some(association) = self.associations.get_mut(&link) else { return };
        let before = association.carrier.replace(Carrier {
            name: name.clone(),
            medium,
            greeted: true,
            greetings: 0,
            greet_at: now,
        });
        if let Some(before) = before {
            out.push(Output::Say(ToHelper::Close { link: before.name }));
        }
        self.greet(now, link, known.is_some(), out);
        self.established(now, link, out);
    }

    /// Whether a stream can go on from where the other end says it is.
    fn goes_on(&mut self, link: LinkId, greeting: &Greeting) -> bool {
        let association = self.associations.get_mut(&link);
        association.is_some_and(|a| a.stream.resume(greeting.places).is_ok())
    }

    fn accept(&mut self, now: u64, greeting: &Greeting) -> LinkId {
        let link = self.next_link();
        let mut association =
            Association::new(greeting.association, link, false, greeting.address, now);
        association.peer = Some(greeting.node);
        self.associations.insert(link, association);
        link
    }

    /// A machine that opens a new stream has forgotten those without a link.
    fn drop_stale(&mut self, now: u64, fresh: LinkId, peer: &NodeKey, out: &mut Vec<Output>) {
        let stale = |a: &&Association| {
            a.link != fresh && !a.opener && a.peer.as_ref() == Some(peer) && a.carrier.is_none()
        };
        let stale: Vec<LinkId> = self.associations.values().filter(stale).map(|a| a.link).collect();
        for link in stale {
            self.end(now, link, "the other end started anew", false, out);
        }
    }

    /// A stream has a link: frames may move.
    fn established(&mut self, now: u64, link: LinkId, out: &mut Vec<Output>) {
        let Some(association) = self.associations.get_mut(&link) else { return };
        self.in_vain = 0;
        association.lost_at = None;
        association.moved_at = now;
        association.reopen_at = None;
        association.reopen_wait = REOPEN_MS.0;
        if !std::mem::replace(&mut association.up, true)
            && let Some(peer) = association.peer
        {
            let (request, log) = (association.request, association.log);
            let about = match log {
                LogTag::Own => Some(About::Own),
                LogTag::Published(_) => {
                    let held = self.standing.as_ref().and_then(|own| own.logs.get(&log));
                    held.and_then(|held| held.of).map(About::Published)
                }
            };
            let opened = about.filter(|_| association.opener);
            let pace = association.ready().map(|carrier| carrier.medium.pace());
            let event = NetEvent::Up { link, peer, request, addr: None, opened, pace };
            out.push(Output::Net(event));
        }
    }

    fn greet(&mut self, now: u64, link: LinkId, known: bool, out: &mut Vec<Output>) {
        let Some(address) = self.address else { return };
        let Some(association) = self.associations.get_mut(&link) else { return };
        let side = if association.opener { Side::Opener } else { Side::Accepter };
        let greeting = Greeting {
            node: self.node,
            address,
            association: association.id,
            known,
            places: association.stream.places(),
        };
        let Some(carrier) = &mut association.carrier else { return };
        let data = greeting.encode(&self.settings.key, &carrier.name, side);
        carrier.greetings += 1;
        carrier.greet_at = now + GREET_MS + carrier.medium.air_ms(data.len()) * 4;
        let interface = self.neighbours.get(&association.address).and_then(|n| n.interface);
        self.meters.spend(now, interface, air_bytes(data.len(), false));
        // Number 0 is no number of a stream.
        let name = carrier.name.clone();
        out.push(Output::Say(ToHelper::Packet { link: name, number: 0, data }));
    }

    pub(super) fn on_send(&mut self, now: u64, link: LinkId, frame: &[u8], out: &mut Vec<Output>) {
        let Some(association) = self.associations.get_mut(&link) else { return };
        association.moved(now, frame);
        if let Some(medium) = association.ready().map(|carrier| carrier.medium)
            && association.stream.wants().is_none()
        {
            association.pause_until = association.pause_until.max(now + medium.collect_ms());
        }
        if let Err(error) = association.stream.push(frame) {
            self.end(now, link, &error.to_string(), false, out);
        }
    }

    pub(super) fn on_close(
        &mut self,
        now: u64,
        link: LinkId,
        reason: String,
        out: &mut Vec<Output>,
    ) {
        let Some(association) = self.associations.get_mut(&link) else { return };
        association.closing.get_or_insert((now + CLOSE_MS, reason));
        if association.carrier.is_none() {
            self.end(now, link, "closed here", false, out);
        }
    }

    /// Does what is due for a stream.
    pub(super) fn tend(&mut self, now: u64, link: LinkId, out: &mut Vec<Output>) {
        self.reopen(now, link, out);
        self.greet_again(now, link, out);
        self.pump(now, link, out);
        self.end_if_due(now, link, out);
    }

    fn reopen(&mut self, now: u64, link: LinkId, out: &mut Vec<Output>) {
        let ready = self.helper.is_some() && self.address.is_some();
        let Some(association) = self.associations.get_mut(&link) else { return };
        if association.opening.is_some_and(|(_, until)| until <= now) {
            association.opening = None;
            association.retry(now);
        }
        let due = association.reopen_at.is_some_and(|at| at <= now);
        if !due || !ready {
            return;
        }
        let interface = self.neighbours.get(&association.address).and_then(|n| n.interface);
        if !self.meters.has_room(now, interface, LINK_OVERHEAD, 0) {
            association.reopen_at = Some(now + LOOK_MS);
            return;
        }
        self.meters.spend(now, interface, LINK_OVERHEAD);
        self.requests += 1;
        association.reopen_at = None;
        association.opening = Some((self.requests, now + OPEN_MS));
        let (request, address) = (self.requests, association.address);
        out.push(Output::Say(ToHelper::Open { request, address, identity: None }));
    }

    fn greet_again(&mut self, now: u64, link: LinkId, out: &mut Vec<Output>) {
        let Some(association) = self.associations.get_mut(&link) else { return };
        let known = association.up;
        let waits = association.carrier.as_ref().filter(|c| !c.greeted && c.greet_at <= now);
        let Some(carrier) = waits.filter(|_| association.opener) else { return };
        if carrier.greetings < GREETINGS_MAX {
            self.greet(now, link, known, out);
            return;
        }
        let name = carrier.name.clone();
        out.push(Output::Say(ToHelper::Close { link: name }));
        if known {
            association.suspend(now);
        } else {
            self.end(now, link, "no answer", false, out);
        }
    }

    /// Hands the link what it may carry now.
    fn pump(&mut self, now: u64, link: LinkId, out: &mut Vec<Output>) {
        let Some(association) = self.associations.get_mut(&link) else { return };
        if association.pause_until > now || association.ready().is_none() {
            return;
        }
        association.stream.on_time(now);
        let Some(carrier) = association.ready() else { return };
        let (name, medium) = (carrier.name.clone(), carrier.medium);
        let interface = self.neighbours.get(&association.address).and_then(|n| n.interface);
        loop {
            let meters = &self.meters;
            let allowed = |class: usize, bytes: usize| {
                let resource = bytes > medium.packet_max;
                meters.has_room(now, interface, air_bytes(bytes, resource), class)
            };
            let Some(next) = association.stream.next(now, &medium, allowed) else { break };
            self.meters.spend(now, interface, air_bytes(next.bytes.len(), next.resource));
            let (link, number, data) = (name.clone(), next.number, next.bytes);
            out.push(Output::Say(if next.resource {
                // Batches and parts are compressed or cannot be.
                ToHelper::Resource { link, number, compress: false, data }
            } else {
                ToHelper::Packet { link, number, data }
            }));
        }
        let written = association.stream.written();
        if std::mem::replace(&mut association.written, written) != written {
            out.push(Output::Net(NetEvent::Writable { link, written }));
        }
    }

    fn end_if_due(&mut self, now: u64, link: LinkId, out: &mut Vec<Output>) {
        let Some(association) = self.associations.get(&link) else { return };
        let quiet = association.stream.is_quiet();
        if let Some((until, reason)) = &association.closing {
            if quiet || *until <= now {
                let reason = format!("closed here: {reason}");
                self.end(now, link, &reason, true, out);
            }
            return;
        }
        let lost = association.lost_at.is_some_and(|at| at + KEEP_MS <= now);
        if lost {
            self.end(now, link, "no link for too long", false, out);
        } else if association.over_at().is_some_and(|at| at <= now) {
            self.end(now, link, "nothing moves", true, out);
        }
    }

    /// Ends a stream, and tells whoever has to know.
    pub(super) fn end(
        &mut self,
        now: u64,
        link: LinkId,
        reason: &str,
        good: bool,
        out: &mut Vec<Output>,
    ) {
        let Some(association) = self.associations.remove(&link) else { return };
        if let Some(carrier) = association.carrier {
            out.push(Output::Say(ToHelper::Close { link: carrier.name }));
        }
        let reason = reason.to_owned();
        if association.up {
            out.push(Output::Net(NetEvent::Down { link, reason }));
        } else if let Some(request) = association.request {
            out.push(Output::Net(NetEvent::ConnectFailed { request, reason }));
        }
        let (log, address) = (association.log, association.address);
        let own = self.standing.as_ref().and_then(|standing| standing.digest(log));
        match own.filter(|_| good) {
            Some(own) => self.neighbours.settle(now, &address, log, own),
            None if association.opener && association.request.is_none() => {
                let wait = self.turn_with(&address).map_or(0, |packet| self.lot(packet));
                self.neighbours.retry(now + wait, &address, log);
            }
            None => {}
        }
        if association.up && self.turn_with(&address).is_some() {
            // Who kept silent meanwhile may go on, and learns what this machine holds now.
            self.announce_soon(now);
            self.consider(now);
        }
    }
}
