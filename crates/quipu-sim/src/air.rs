//! Links over the air: the production stations over a simulated medium, with a modem as their helper.
//!
//! A modem has no resources and acknowledges nothing: packets of a few hundred bytes, half duplex, one
//! channel, much loss. It listens before it sends, but hears only who is in reach, so transmissions collide
//! ([`Channel`]). Machines are in reach of each other all the time, or only now and then. Airtime is
//! what it costs; [`World::check_airtime`] looks at what was really sent.

use std::collections::{BTreeMap, VecDeque};
use std::mem;

use quipu_core::node::{Input, LinkId, LinkRole};
use quipu_helper::{Address, FromHelper, Interface, LinkName, ToHelper};
use quipu_node::service::NetEvent;
use quipu_radio::Settings;
use quipu_radio::airtime::WHOLE;
use quipu_radio::station::{Input as Heard, Output, Station};

use crate::airing::{self, Airing};
use crate::channel::{Channel, Transmission};
use crate::lora::Lora;
use crate::plan::{MS, SECOND, Us};
use crate::report::{Finding, Sabotage};
use crate::world::{Happening, World};

/// What a modem puts around a message: addresses, counters, check sum.
const HEAD_BYTES: usize = 19;
/// How long a modem waits for an answer to a request for a link.
const ANSWER: Us = 60 * SECOND;
/// How long after a transmission a frame is handed on.
const HANDING: Us = 20 * MS;
/// How long a modem waits at most before it listens and then sends: not all that wait for a channel to become free
/// begin at once.
const BACKOFF: Us = 500 * MS;

/// What the seed made of the scenario's `air`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct AirPlan {
    pub(crate) bitrate: u64,
    /// How frames are sent, if that takes longer than their bytes at the bitrate.
    pub(crate) lora: Option<Lora>,
    pub(crate) frame_bytes: u64,
    pub(crate) loss: u64,
    /// Parts of [`WHOLE`] of each hour that a machine may send.
    pub(crate) share: u64,
    /// For how long machines have wires first.
    pub(crate) wired: Us,
    /// Machines in reach of each other meet so often, and for so long.
    pub(crate) period: Us,
    pub(crate) meeting: Us,
}

impl AirPlan {
    /// How long so many bytes take at the nominal rate.
    pub(crate) fn nominal(&self, bytes: u64) -> Us {
        bytes * 8 * SECOND / self.bitrate.max(1)
    }

    fn airtime(&self, bytes: u64) -> Us {
        self.lora.map_or_else(|| self.nominal(bytes), |lora| lora.airtime(bytes))
    }
}

/// What travels.
#[derive(Debug, Clone)]
pub(crate) enum Frame {
    Announce { address: Address, data: Vec<u8> },
    Request { link: LinkName },
    Accept { link: LinkName },
    Data { link: LinkName, data: Vec<u8> },
    Close { link: LinkName },
}

impl Frame {
    fn length(&self) -> usize {
        HEAD_BYTES
            + match self {
                Self::Announce { data, .. } | Self::Data { data, .. } => data.len(),
                Self::Request { .. } | Self::Accept { .. } => 32,
                Self::Close { .. } => 0,
            }
    }

    /// What it is for, in a report.
    fn purpose(&self) -> &'static str {
        match self {
            Self::Announce { .. } => "announces",
            Self::Request { .. } | Self::Accept { .. } | Self::Close { .. } => "links",
            Self::Data { data, .. } => quipu_radio::station::purpose(data),
        }
    }
}

/// What happens on the air.
#[derive(Debug)]
pub(crate) enum OnAir {
    /// Machines have no wires any more.
    Begin,
    /// A station's deadline.
    Tick { machine: usize, life: u32 },
    /// A modem listens, and sends if nobody is heard.
    Listen { machine: usize, life: u32 },
    /// A transmission ends.
    Sent { life: u32, sending: Sending, transmission: Transmission },
    /// A frame is handed on.
    Arrived { machine: usize, frame: Frame, from: usize },
    /// A request for a link had its time.
    Late { machine: usize, life: u32, request: u64 },
}

/// A frame that a modem is to send.
#[derive(Debug)]
pub(crate) struct Sending {
    to: Option<usize>,
    frame: Frame,
    /// What the station calls it.
    number: Option<u64>,
}

/// A machine on the air.
#[derive(Debug)]
struct OnAirMachine {
    station: Station,
    life: u32,
    standing: Option<[u8; 32]>,
    tick_at: Option<Us>,
    /// Links that the modem has, and who is at the other end.
    links: BTreeMap<LinkName, usize>,
    /// Links that were asked for.
    asked: BTreeMap<LinkName, (u64, usize)>,
    outbox: VecDeque<Sending>,
    /// The modem waits to send, or sends.
    at_work: bool,
    sent_bytes: u64,
    received_bytes: u64,
}

/// The medium.
#[derive(Debug)]
pub(crate) struct Air {
    plan: AirPlan,
    machines: BTreeMap<usize, OnAirMachine>,
    channel: Channel,
    pub(crate) airing: Airing,
    names: u64,
    begun: bool,
}

fn address_of(machine: usize) -> Address {
    let mut address = [0; 16];
    address[8..].copy_from_slice(&(machine as u64).to_be_bytes());
    address
}

impl Air {
    pub(crate) fn new(plan: AirPlan, machines: usize) -> Self {
        Self {
            plan,
            machines: BTreeMap::new(),
            channel: Channel::default(),
            airing: Airing::new(machines),
            names: 0,
            begun: plan.wired == 0,
        }
    }
}

impl World {
    /// Whether machines meet on the air only.
    pub(crate) fn is_on_air(&self) -> bool {
        self.air.as_ref().is_some_and(|air| air.begun)
    }

    /// Plans when machines have no wires any more.
    pub(crate) fn plan_air(&mut self) {
        if let Some(air) = self.plan.air.filter(|air| air.wired > 0) {
            self.at(air.wired, Happening::OnAir(OnAir::Begin));
        }
    }

    fn begin_on_air(&mut self) {
        let links: Vec<LinkId> = self.links.keys().copied().collect();
        for link in links {
            self.cut(link, "there are no wires any more", SECOND);
        }
        if let Some(air) = &mut self.air {
            air.begun = true;
        }
        (0..self.machines.len()).for_each(|machine| self.tell_standing(machine));
    }

    /// Those that a machine reaches now.
    fn in_reach(&self, machine: usize) -> Vec<usize> {
        let Some(air) = &self.air else { return Vec::new() };
        let AirPlan { period, meeting, .. } = air.plan;
        let meets = |edge: usize| {
            // Each pair has a time of its own.
            let phase = edge as u64 * period / self.edges.len().max(1) as u64;
            period == 0 || (self.now + phase) % period < meeting
        };
        let others = self.edges.iter().enumerate().filter_map(|(index, edge)| {
            let side = edge.ends.iter().position(|end| *end == machine)?;
            let other = edge.ends[1 - side];
            (meets(index) && !self.is_apart(edge.ends) && air.machines.contains_key(&other))
                .then_some(other)
        });
        others.collect()
    }

    /// A machine's life began or ended: its station begins anew, or is gone.
    fn refresh_station(&mut self, machine: usize) {
        let Some(air) = &mut self.air else { return };
        let (life, up) = (self.machines[machine].life, self.machines[machine].driver.is_some());
        let known = air.machines.get(&machine).map(|on| on.life);
        if !up {
            air.machines.remove(&machine);
        } else if known != Some(life) {
            let mut seed = [0; 32];
            seed[..8].copy_from_slice(&(machine as u64).to_le_bytes());
            seed[8..12].copy_from_slice(&life.to_le_bytes());
            let unlimited = self.options.sabotage == Some(Sabotage::IgnoreAirtime);
            let share = u32::try_from(air.plan.share).unwrap_or(WHOLE);
            let settings = Settings {
                key: self.machines[machine].key.clone(),
                domain: self.machines[machine].domain,
                identity: [0; 64],
                share: (!unlimited).then_some(share),
                seed,
            };
            let on = OnAirMachine {
                station: Station::new(settings, self.now / MS),
                life,
                standing: None,
                tick_at: None,
                links: BTreeMap::new(),
                asked: BTreeMap::new(),
                outbox: VecDeque::new(),
                at_work: false,
                sent_bytes: 0,
                received_bytes: 0,
            };
            air.machines.insert(machine, on);
            self.tell_station(machine, Heard::HelperUp);
        }
    }

    /// After a turn: what the machine holds now.
    pub(crate) fn tell_standing(&mut self, machine: usize) {
        self.refresh_station(machine);
        let Some(driver) = &mut self.machines[machine].driver else { return };
        let digest = driver.node_mut().standing();
        let Some(on) = self.air.as_mut().and_then(|air| air.machines.get_mut(&machine)) else {
            return;
        };
        if on.standing.replace(digest) != Some(digest) {
            self.tell_station(machine, Heard::Standing { digest, published: BTreeMap::new() });
        }
    }

    /// Gives a station an input, and carries out what it wants.
    pub(crate) fn tell_station(&mut self, machine: usize, input: Heard) {
        let now = self.now;
        let Some(on) = self.air.as_mut().and_then(|air| air.machines.get_mut(&machine)) else {
            return;
        };
        let mut outputs = Vec::new();
        on.station.handle(now / MS, input, &mut outputs);
        for output in outputs {
            match output {
                Output::Say(message) => self.modem_hears(machine, message),
                Output::Net(event) => self.station_says(machine, event),
                // Nobody else uses a modem here.
                Output::Guest(_) => {}
            }
        }
        let Some(on) = self.air.as_mut().and_then(|air| air.machines.get_mut(&machine)) else {
            return;
        };
        let due = on.station.deadline(now / MS) * MS;
        if on.tick_at.is_none_or(|at| due < at || at <= now) {
            on.tick_at = Some(due);
            let life = on.life;
            self.at(due, Happening::OnAir(OnAir::Tick { machine, life }));
        }
    }

    fn station_says(&mut self, machine: usize, event: NetEvent) {
        match event {
            NetEvent::Up { link, peer, opened, pace, .. } => {
                let role = if opened.is_some() {
                    let invite = self.machines[machine].invite.clone();
                    LinkRole::Initiator { live: true, request: None, invite, only_state: false }
                } else {
                    LinkRole::Responder
                };
                self.give(machine, Input::LinkUp { link, peer, role });
                if let Some(pace) = pace {
                    self.give(machine, Input::Paced { link, pace });
                }
            }
            NetEvent::Frame { link, bytes } => self.give(machine, Input::Frame { link, bytes }),
            NetEvent::Writable { link, written } => {
                self.give(machine, Input::Writable { link, written });
            }
            NetEvent::Down { link, reason } => self.give(machine, Input::LinkDown { link, reason }),
            NetEvent::ConnectFailed { .. } => {}
        }
    }

    /// A station says something to its modem.
    fn modem_hears(&mut self, machine: usize, message: ToHelper) {
        match message {
            ToHelper::Hello { version, .. } => {
                let name = "modem".to_owned();
                self.modem_says(machine, FromHelper::Hello { version, name });
            }
            ToHelper::Register { destination, .. } => {
                let address = address_of(machine);
                self.modem_says(machine, FromHelper::Registered { destination, address });
            }
            ToHelper::Look {} => self.look(machine),
            ToHelper::Announce { data, .. } => {
                let frame = Frame::Announce { address: address_of(machine), data };
                self.send_on_air(machine, None, frame, None);
            }
            ToHelper::Open { request, address, .. } => self.open_link(machine, request, &address),
            ToHelper::Packet { link, number, data } => {
                let to = self.modem(machine).and_then(|on| on.links.get(&link).copied());
                match to {
                    Some(to) => {
                        let frame = Frame::Data { link, data };
                        self.send_on_air(machine, Some(to), frame, Some(number));
                    }
                    None => {
                        let reason = "no such link".to_owned();
                        self.modem_says(machine, FromHelper::Failed { link, number, reason });
                    }
                }
            }
            ToHelper::Close { link } => {
                let to = self.modem(machine).and_then(|on| on.links.remove(&link));
                if let Some(to) = to {
                    self.send_on_air(machine, Some(to), Frame::Close { link }, None);
                }
            }
            ToHelper::Identity { .. } | ToHelper::Resource { .. } | ToHelper::Bye {} => {}
        }
    }

    fn modem(&mut self, machine: usize) -> Option<&mut OnAirMachine> {
        self.air.as_mut()?.machines.get_mut(&machine)
    }

    /// A modem says something to its station, as soon as that is done with what it does.
    fn modem_says(&mut self, machine: usize, message: FromHelper) {
        self.tell_station(machine, Heard::Helper(message));
    }

    fn look(&mut self, machine: usize) {
        let Some(air) = &self.air else { return };
        let Some(on) = air.machines.get(&machine) else { return };
        let interface = Interface {
            number: 1,
            name: "radio".to_owned(),
            kind: "modem".to_owned(),
            up: true,
            mtu: u32::try_from(air.plan.frame_bytes).ok(),
            bitrate: Some(air.plan.bitrate),
            sent_bytes: on.sent_bytes,
            received_bytes: on.received_bytes,
            ..Interface::default()
        };
        self.modem_says(machine, FromHelper::Interfaces { interfaces: vec![interface] });
    }

    fn open_link(&mut self, machine: usize, request: u64, address: &Address) {
        let Some(air) = &mut self.air else { return };
        air.names += 1;
        let link = air.names.to_be_bytes().to_vec();
        let to = (0..self.machines.len()).find(|other| address_of(*other) == *address);
        let (Some(to), Some(on)) = (to, air.machines.get_mut(&machine)) else { return };
        on.asked.insert(link.clone(), (request, to));
        let life = on.life;
        self.send_on_air(machine, Some(to), Frame::Request { link }, None);
        self.at(self.now + ANSWER, Happening::OnAir(OnAir::Late { machine, life, request }));
    }

    /// Hands a modem a frame to send.
    fn send_on_air(
        &mut self,
        machine: usize,
        to: Option<usize>,
        frame: Frame,
        number: Option<u64>,
    ) {
        let Some(on) = self.modem(machine) else { return };
        on.outbox.push_back(Sending { to, frame, number });
        if !mem::replace(&mut on.at_work, true) {
            self.listen_later(machine, self.now);
        }
    }

    fn listen_later(&mut self, machine: usize, from: Us) {
        let wait = self.rng.below(BACKOFF);
        let Some(life) = self.modem(machine).map(|on| on.life) else { return };
        self.at(from + wait, Happening::OnAir(OnAir::Listen { machine, life }));
    }

    /// Sends what is first, if nobody is heard.
    fn listen(&mut self, machine: usize) {
        let mut hears = self.in_reach(machine);
        hears.push(machine);
        let now = self.now;
        let Some(air) = &mut self.air else { return };
        let free = air.channel.free_at(now, &hears);
        if free > now {
            return self.listen_later(machine, free);
        }
        let Some(on) = air.machines.get_mut(&machine) else { return };
        let Some(sending) = on.outbox.pop_front() else { return };
        let length = sending.frame.length() as u64;
        on.sent_bytes += length;
        let life = on.life;
        let took = air.plan.airtime(length);
        air.airing.sent(machine, now, took, sending.frame.purpose());
        let transmission = air.channel.begin(machine, now, took);
        self.moved.frames += 1;
        self.moved.bytes += length;
        let sent = OnAir::Sent { life, sending, transmission };
        self.at(now + took, Happening::OnAir(sent));
    }

    /// A transmission has ended.
    fn sent(
        &mut self,
        life: u32,
        sending: Sending,
        transmission: Transmission,
    ) -> Result<(), Finding> {
        let machine = transmission.from;
        self.check_airtime(machine)?;
        self.spread(&sending, &transmission);
        let Some(on) = self.modem(machine).filter(|on| on.life == life) else { return Ok(()) };
        on.at_work = !on.outbox.is_empty();
        if on.at_work {
            self.listen_later(machine, self.now);
        }
        if let (Some(number), Frame::Data { link, .. }) = (sending.number, sending.frame) {
            self.modem_says(machine, FromHelper::Sent { link, number });
        }
        Ok(())
    }

    /// Something happens on the air.
    pub(crate) fn on_air(&mut self, happening: OnAir) -> Result<(), Finding> {
        match happening {
            OnAir::Begin => self.begin_on_air(),
            OnAir::Tick { machine, life } => {
                if self.modem(machine).is_some_and(|on| on.life == life) {
                    self.tell_station(machine, Heard::Tick);
                }
            }
            OnAir::Listen { machine, life } => {
                if self.modem(machine).is_some_and(|on| on.life == life) {
                    self.listen(machine);
                }
            }
            OnAir::Sent { life, sending, transmission } => {
                self.sent(life, sending, transmission)?;
            }
            OnAir::Arrived { machine, frame, from } => self.arrived(machine, frame, from),
            OnAir::Late { machine, life, request } => {
                let Some(on) = self.modem(machine).filter(|on| on.life == life) else {
                    return Ok(());
                };
                let before = on.asked.len();
                on.asked.retain(|_, (asked, _)| *asked != request);
                if on.asked.len() < before {
                    let reason = "no answer".to_owned();
                    self.modem_says(machine, FromHelper::OpenFailed { request, reason });
                }
            }
        }
        Ok(())
    }

    /// Whoever is in reach and whom it concerns hears a frame, unless it is lost or collides.
    fn spread(&mut self, sending: &Sending, transmission: &Transmission) {
        let from = transmission.from;
        for machine in self.in_reach(from) {
            if sending.to.is_some_and(|to| to != machine) {
                continue;
            }
            let hears = self.in_reach(machine);
            let Some(air) = &self.air else { return };
            let field = self.plan.field.as_ref();
            let collided = !air.channel.reached(transmission, machine, &hears, field);
            let lost = self.rng.permille(air.plan.loss) || collided;
            self.moved.lost_frames += u64::from(lost);
            self.moved.collided_frames += u64::from(collided);
            if !lost {
                let arrived = OnAir::Arrived { machine, frame: sending.frame.clone(), from };
                self.at(self.now + HANDING, Happening::OnAir(arrived));
            }
        }
    }

    fn arrived(&mut self, machine: usize, frame: Frame, from: usize) {
        let length = frame.length() as u64;
        let packet_max = self.air.as_ref().map_or(0, |air| air.plan.frame_bytes);
        let packet_max = u32::try_from(packet_max).unwrap_or(0).saturating_sub(HEAD_BYTES as u32);
        let Some(on) = self.modem(machine) else { return };
        on.received_bytes += length;
        let up = |link: LinkName, request, destination| FromHelper::LinkUp {
            link,
            request,
            destination,
            packet_max,
            resource_max: 0,
            rtt_ms: 1_000,
        };
        match frame {
            Frame::Announce { address, data } => {
                let heard = FromHelper::Heard {
                    destination: 0,
                    address,
                    identity: address,
                    public: [0; 64],
                    data,
                    hops: 1,
                    interface: Some(1),
                    rssi: Some(-90),
                    snr: Some(50),
                };
                self.modem_says(machine, heard);
            }
            Frame::Request { link } => {
                on.links.insert(link.clone(), from);
                self.send_on_air(machine, Some(from), Frame::Accept { link: link.clone() }, None);
                self.modem_says(machine, up(link, None, Some(0)));
            }
            Frame::Accept { link } => {
                if let Some((request, to)) = on.asked.remove(&link) {
                    on.links.insert(link.clone(), to);
                    self.modem_says(machine, up(link, Some(request), None));
                }
            }
            Frame::Data { link, data } if on.links.contains_key(&link) => {
                self.modem_says(machine, FromHelper::Packet { link, data });
            }
            // Who began anew knows nothing of it.
            Frame::Data { link, .. } => {
                self.send_on_air(machine, Some(from), Frame::Close { link }, None);
            }
            Frame::Close { link } => {
                if on.links.remove(&link).is_some() {
                    let reason = "closed at the other end".to_owned();
                    self.modem_says(machine, FromHelper::LinkDown { link, closed: true, reason });
                }
            }
        }
    }

    /// What was really sent within the last hour is not more than the limit.
    fn check_airtime(&mut self, machine: usize) -> Result<(), Finding> {
        let now = self.now;
        let Some(air) = &mut self.air else { return Ok(()) };
        let limit = airing::HOUR / u64::from(WHOLE) * air.plan.share;
        let spent = air.airing.spent(machine, now);
        if spent <= limit {
            return Ok(());
        }
        let text =
            format!("machine {machine}: {} of {} s in an hour", spent / SECOND, limit / SECOND);
        Err(Finding::new("more airtime was used than the limit", text))
    }
}
