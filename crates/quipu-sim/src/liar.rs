//! Machines that lie. They run the production driver, so that they know the protocol and the log,
//! and twist what it says: frames are withheld or damaged, and events are made that break rules,
//! fork feeds, claim other authors, or date from before their author was removed.

use std::sync::Arc;

use quipu_core::codec::pack::{self, Context, Nothing};
use quipu_core::event::{
    Draft, Event, EventSignature, Log, LogSeq, Parents, Position, VerifiedEvent, sign_id,
};
use quipu_core::id::{EventId, LogDigest, NodeKey};
use quipu_core::node::{Command, LinkId};
use quipu_core::sync::message::{Message, Refusal, Wanted};

use crate::ledger::Pending;
use crate::machine::{Machine, Part};
use crate::rng::Rng;
use crate::world::World;

/// What a liar is up to.
#[derive(Debug, Default)]
pub(crate) struct Mood {
    /// Frames to withhold.
    withhold: u64,
    /// Frames to damage.
    damage: u64,
    /// Parts and offers to falsify.
    pub(crate) falsify: u64,
    /// The secret branch of a removed member.
    branch: Vec<Event>,
}

/// Events in a run without signatures.
const ENDLESS: u64 = 200;
/// Siblings in a mass fork: more than are kept.
const SIBLINGS: u64 = 20;

impl Machine {
    /// What a liar makes of a frame: nothing if it withholds it.
    pub(crate) fn twist(&mut self, mut bytes: Vec<u8>) -> Option<Vec<u8>> {
        if self.mood.withhold > 0 {
            self.mood.withhold -= 1;
            return None;
        }
        if self.mood.falsify > 0
            && let Some(false_bytes) = falsify(&bytes, &mut self.data_rng)
        {
            self.mood.falsify -= 1;
            return Some(false_bytes);
        }
        if self.mood.damage > 0 && !bytes.is_empty() {
            self.mood.damage -= 1;
            let at = self.rng.index(bytes.len());
            bytes[at] ^= 1 << self.rng.below(8);
        }
        Some(bytes)
    }
}

/// What a lie is made with.
struct Tools<'a> {
    machine: &'a mut Machine,
    position: Position,
    domain: quipu_core::id::DomainId,
    log: Log,
    victim: NodeKey,
    cells: u64,
}

impl Tools<'_> {
    fn event(&mut self, change: impl FnOnce(&mut Position)) -> Event {
        let token: [u8; 24] = self.machine.rng.bytes();
        let (kind, value) = crate::people::draft(&mut self.machine.rng, self.cells, &token);
        self.event_of(kind, &value, change)
    }

    fn event_of(
        &mut self,
        kind: Arc<str>,
        value: &[u8],
        change: impl FnOnce(&mut Position),
    ) -> Event {
        let salt: [u8; 8] = self.machine.rng.bytes();
        let payload = quipu_core::codec::v1::payload_block(&salt, value);
        let mut at = self.position.clone();
        change(&mut at);
        let mut event = Draft { log: self.log, kind, payload }.place(at, &self.domain);
        event.signature = Some(sign_id(&self.machine.key, &event.id));
        event
    }

    /// Events of one of many kinds of lies.
    fn events(&mut self, kind: u64) -> Vec<Event> {
        let victim = self.victim;
        match kind {
            // A signature that is wrong.
            0 => {
                let mut event = self.event(|_| {});
                event.signature = Some(EventSignature(self.machine.rng.bytes()));
                vec![event]
            }
            // Somebody else's name.
            1 => vec![self.event(|at| at.author = victim)],
            // Clocks that do not grow, or jump into the reserved half.
            2 => vec![self.event(|at| at.logseq = LogSeq(1))],
            3 => vec![self.event(|at| at.logseq = LogSeq(u64::MAX))],
            // A place that does not follow.
            4 => vec![self.event(|at| at.seq += 5)],
            5 => vec![self.event(|at| at.prev = at.parents.first().copied())],
            // Links to what nobody has.
            6 => {
                let unknown = EventId(self.machine.rng.bytes());
                vec![self.event(|at| {
                    at.parents.push(unknown);
                    at.parents.sort_unstable();
                })]
            }
            // A run that is never signed.
            7 => self.run(),
            // Two events at one place, or very many.
            8 => (0..2).map(|_| self.event(|_| {})).collect(),
            9 => (0..SIBLINGS).map(|_| self.event(|_| {})).collect(),
            _ => self.more_events(kind),
        }
    }

    /// The rest of the lies.
    fn more_events(&mut self, kind: u64) -> Vec<Event> {
        let victim = self.victim;
        match kind {
            // A decision that its author may not take.
            10 => {
                let decision = quipu_core::domain::Decision::Remove { node: victim };
                let (kind, value) = decision.to_value(Log::Internal);
                let mut bytes = Vec::new();
                quipu_core::value::encode(&value, &mut bytes);
                vec![self.event_of(kind.into(), &bytes, |_| {})]
            }
            // The greatest clock that is allowed.
            11 => vec![self.event(|at| {
                at.logseq = at.logseq.max(LogSeq(quipu_core::limits::LOGSEQ_JUMP_MAX - 1));
            })],
            // A payload that is left out.
            12 => {
                let mut event = self.event(|_| {});
                event.payload = None;
                vec![event]
            }
            13 => self.unprovable_run(),
            // More parents than the domain allows.
            _ => {
                let many: Vec<EventId> =
                    (0..129).map(|_| EventId(self.machine.rng.bytes())).collect();
                vec![self.event(|at| {
                    at.parents = Parents::from_vec(many);
                    at.parents.sort_unstable();
                })]
            }
        }
    }

    /// A run whose only signature is on an event that cannot enter a log: it breaks a rule, or
    /// links to what nobody has, or follows an event invented in somebody else's name.
    fn unprovable_run(&mut self) -> Vec<Event> {
        let mut run = self.run();
        run.truncate(1 + self.machine.rng.below(64) as usize);
        let unknown = EventId(self.machine.rng.bytes());
        let kind = self.machine.rng.below(3);
        let forged = run.len().checked_sub(2).filter(|_| kind == 2);
        if let Some(forged) = forged {
            Arc::make_mut(&mut run[forged].header).head.author = self.victim;
            run[forged] = self.again(&run[forged]);
            Arc::make_mut(&mut run[forged + 1].header).head.prev = Some(run[forged].id);
        }
        if let Some(last) = run.last_mut() {
            let head = &mut Arc::make_mut(&mut last.header).head;
            match kind {
                0 => head.logseq = LogSeq(1),
                1 => head.parents = Parents::from_slice(&[unknown]),
                _ => {}
            }
            *last = self.again(last);
            last.signature = Some(sign_id(&self.machine.key, &last.id));
        }
        run
    }

    /// An event after its content was changed, with the id of its content.
    fn again(&self, event: &Event) -> Event {
        Event::new(event.header.clone(), event.payload.clone(), &self.domain)
    }

    fn run(&mut self) -> Vec<Event> {
        let mut events: Vec<Event> = Vec::new();
        for _ in 0..ENDLESS {
            let last = events.last().map(|event| (event.id, event.header.head.clone()));
            let mut event = self.event(|at| {
                if let Some((id, head)) = last {
                    at.prev = Some(id);
                    at.seq = head.seq + 1;
                    at.logseq = LogSeq(head.logseq.0 + 1);
                    at.parents = Parents::from_slice(&[id]);
                }
            });
            event.signature = None;
            events.push(event);
        }
        events
    }
}

impl World {
    /// A liar lies.
    pub(crate) fn lie(&mut self, machine: usize) {
        if self.machines[machine].part == Part::Backdater {
            return self.backdate(machine);
        }
        let links = self.links_of(machine);
        let choice = self.machines[machine].rng.below(21);
        match choice {
            13 if self.plan.faults.unprovable.low == 0 => {}
            // Clocks of internal logs would not be known by where they are.
            11 if self.is_federated() => {}
            15 => self.machines[machine].mood.withhold = 5,
            16 => self.machines[machine].mood.damage = 2,
            17 | 18 => {
                let bytes = noise(&mut self.machines[machine].rng);
                self.say(machine, &links, &bytes);
            }
            19 | 20 => {
                let message = nonsense(&mut self.machines[machine].rng);
                self.say(machine, &links, &message.encode());
            }
            kind => {
                let Some(events) = self.lies_of(machine, kind) else { return };
                // Everybody is told another part, if there are several.
                for (index, link) in links.iter().enumerate() {
                    let from = index.min(events.len().saturating_sub(1));
                    let bytes = events_frame(&events[from..]);
                    self.say(machine, &[*link], &bytes);
                }
            }
        }
    }

    pub(crate) fn say(&mut self, machine: usize, links: &[LinkId], bytes: &[u8]) {
        for link in links {
            self.transmit(machine, *link, bytes.to_vec());
        }
    }

    fn lies_of(&mut self, machine: usize, kind: u64) -> Option<Vec<Event>> {
        let victim = self.machines[self.rng.index(self.machines.len())].node;
        let cells = self.plan.workload.cells.low;
        let (domain, log) = (self.machines[machine].domain, self.machines[machine].log);
        let local = self.machines[machine].local_ms(self.now);
        let machine = &mut self.machines[machine];
        let node = machine.node;
        let position = machine.driver.as_ref()?.node().dag()?.next_position(node, local);
        let mut tools = Tools { machine, position, domain, log, victim, cells };
        Some(tools.events(kind))
    }

    /// An event in the log of a machine that is as it should be, but for who wrote it.
    pub(crate) fn forgery(&mut self, machine: usize) -> Option<Event> {
        let cells = self.plan.workload.cells.low;
        let local = self.machines[machine].local_ms(self.now);
        let machine = &mut self.machines[machine];
        let (domain, log, node) = (machine.domain, machine.log, machine.node);
        let position = machine.driver.as_ref()?.node().dag()?.next_position(node, local);
        let mut tools = Tools { machine, position, domain, log, victim: node, cells };
        Some(tools.event(|_| {}))
    }

    /// A removed member writes as if it were before its removal, and brings it as a file to
    /// somebody, and over links to whoever has not heard of the removal.
    fn backdate(&mut self, machine: usize) {
        let (domain, cells) = (self.domain, self.plan.workload.cells.low);
        let links = self.links_of(machine);
        let victim = self.machines[0].node;
        let on = &mut self.machines[machine];
        let Some(dag) = on.driver.as_ref().and_then(|driver| driver.node().dag()) else { return };
        let before = match on.mood.branch.last() {
            Some(event) => (event.id, event.header.seq, event.header.logseq),
            None => match dag.own_end(&on.node) {
                Some(end) => (end.id, end.seq, end.logseq),
                None => return,
            },
        };
        let (prev, seq, logseq) = before;
        let position = Position {
            author: on.node,
            seq: seq + 1,
            prev: Some(prev),
            parents: Parents::from_slice(&[prev]),
            logseq: LogSeq(logseq.0 + 1),
        };
        let mut tools = Tools { machine: on, position, domain, log: Log::Internal, victim, cells };
        let event = tools.event(|_| {});
        on.mood.branch.push(event);
        let branch = on.mood.branch.clone();
        self.say(machine, &links, &events_frame(&branch));
        let to = self.rng.index(self.machines.len());
        if self.machines[to].part == Part::Honest {
            let events = branch.into_iter().map(VerifiedEvent::from_store).collect();
            self.request(to, Command::Import(events), Pending::Nothing);
        }
    }

    /// A member emits with the greatest clock that is allowed. All must still be able to write.
    pub(crate) fn greatest_clock(&mut self) {
        let members = self.members();
        let Some(machine) = self.rng.pick(&members).copied() else { return };
        let Some(events) = self.lies_of(machine, 11) else { return };
        self.ledger.disturb(self.machines[machine].node);
        let events = events.into_iter().map(VerifiedEvent::from_store).collect();
        self.request(machine, Command::Import(events), Pending::Nothing);
    }
}

/// What a liar makes of a part or an offer.
fn falsify(frame: &[u8], rng: &mut Rng) -> Option<Vec<u8>> {
    // Other messages are not taken apart.
    if frame.len() > quipu_core::limits::PART_BYTES_MAX + 1024 {
        return None;
    }
    let message = match Message::decode(frame).ok()? {
        Message::Part { key, size, groups, bytes } => {
            let mut bytes = bytes.to_vec();
            let (mut size, mut groups) = (size, groups);
            match rng.below(10) {
                0 => size += 1 + rng.below(100_000),
                1 => groups = groups.start + 1..groups.end + 1,
                2 => bytes.truncate(rng.index(bytes.len() + 1)),
                3 => bytes.extend_from_slice(&rng.bytes::<32>()),
                _ if bytes.is_empty() => bytes.push(0),
                _ => {
                    let at = rng.index(bytes.len());
                    bytes[at] ^= 1 << rng.below(8);
                }
            }
            Message::Part { key, size, groups, bytes: bytes.into() }
        }
        Message::Offer { ask, mut entries } if !entries.is_empty() && rng.permille(300) => {
            let at = rng.index(entries.len());
            entries[at].1 = rng.below(1 << 20);
            Message::Offer { ask, entries }
        }
        _ => return None,
    };
    Some(message.encode())
}

/// Parts sent at once that nobody asked for.
const UNASKED: usize = 30;

impl World {
    /// A liar lies about artifacts.
    pub(crate) fn lie_about_artifacts(&mut self, machine: usize) {
        let links = self.links_of(machine);
        let mut known = self.things.contents.clone();
        known.sort_unstable();
        let rng = &mut self.machines[machine].data_rng;
        let Some((key, size)) = rng.pick(&known).copied() else { return };
        let other = quipu_core::id::ArtifactId(rng.bytes());
        let bytes: bytes::Bytes = rng.bytes::<64>().to_vec().into();
        let count = quipu_core::artifact::group_count(size);
        let (message, times) = match rng.below(12) {
            0 => (Message::Part { key, size, groups: count - 1..count, bytes }, UNASKED),
            1 => (Message::Part { key: other, size: 64, groups: 0..1, bytes }, 1),
            2 => {
                let entries = known.iter().map(|(key, size)| (*key, size ^ 1)).collect();
                (Message::Offer { ask: 0, entries }, 1)
            }
            3 => (Message::Offer { ask: 0, entries: vec![(other, 1 << 40)] }, 1),
            4 => (Message::Get { key, groups: 0..1 }, 2 * quipu_core::limits::PARTS_OWED_MAX),
            5 => (Message::Lack { key }, 3),
            _ => {
                self.machines[machine].mood.falsify += 10;
                return;
            }
        };
        for _ in 0..times {
            self.say(machine, &links, &message.encode());
        }
    }
}

/// A frame that pushes events.
pub(crate) fn events_frame(events: &[Event]) -> Vec<u8> {
    let packed = pack::encode(events, &mut Context::writer().of_sync(), &Nothing);
    Message::Events { index: 0, restart: true, live: true, packed }.encode()
}

fn noise(rng: &mut Rng) -> Vec<u8> {
    let length = rng.below(2000);
    let mut bytes: Vec<u8> = (0..length).map(|_| rng.next() as u8).collect();
    // Often with the first byte of a message.
    if let Some(first) = bytes.first_mut()
        && rng.permille(700)
    {
        *first = rng.between(1, 16) as u8;
    }
    bytes
}

/// A well-formed message that says something untrue, or at the wrong time.
fn nonsense(rng: &mut Rng) -> Message {
    let digest = LogDigest(rng.bytes());
    let round = rng.below(4) as u32;
    match rng.below(9) {
        0 => Message::Welcome,
        1 => Message::Same { round },
        2 => Message::Level { round, digest },
        3 => Message::End { round, digest },
        4 => Message::Compare { round, attempt: 0, digest, count: rng.next(), met: None },
        5 => Message::Want { round: 0, plain: true, wanted: Wanted::Everything },
        6 => Message::MoreSymbols { round, start: 0, count: u32::MAX },
        7 => Message::Refuse { refusal: Refusal::NotMember, text: String::new(), domain: None },
        _ => Message::Poke { plain: true },
    }
}
