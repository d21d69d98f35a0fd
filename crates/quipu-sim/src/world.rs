//! The world: one virtual time, one queue of what happens, all machines.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap};

use quipu_core::domain::Parameters;
use quipu_core::id::DomainId;
use quipu_core::node::{Input, LinkId, Notice, Reply};
use quipu_core::sync::message::Message;
use quipu_store::StoreOptions;

use quipu_radio::station::Input as StationInput;

use crate::federation::Federation;
use crate::ledger::Ledger;
use crate::machine::{Machine, Out, Part, SimDriver, Turn};
use crate::net::{Edge, Link, Moved, Seen};
use crate::people::Act;
use crate::plan::{Plan, SECOND, Us};
use crate::report::{Finding, Options};
use crate::rng::Rng;
use crate::things::Things;
use crate::trouble::Trouble;

/// Something that happens at a time.
#[derive(Debug)]
pub(crate) enum Happening {
    /// A frame arrives.
    Deliver { machine: usize, link: LinkId, bytes: Vec<u8> },
    /// A direction of a link may have drained.
    Drained { machine: usize, link: LinkId, side: usize },
    /// A link was closed by one side, and the other hears of it.
    Shut { link: LinkId, reason: String },
    /// A machine hears that a link is gone.
    Down { machine: usize, life: u32, link: LinkId, reason: String },
    /// Something on the air.
    OnAir(crate::air::OnAir),
    /// Two machines try to link.
    Connect(usize),
    /// A machine's deadline.
    Wake { machine: usize, life: u32 },
    /// A machine that stopped starts again.
    Restart { machine: usize, life: u32 },
    /// People do something.
    Act(Act),
    /// Something goes wrong, or ends.
    Trouble(Trouble),
    /// A machine handles what it got. Comes after everything else at its time.
    Turn { machine: usize, life: u32 },
}

impl Happening {
    fn is_turn(&self) -> bool {
        matches!(self, Self::Turn { .. })
    }
}

#[derive(Debug)]
struct Entry {
    key: (Us, bool, u64),
    happening: Happening,
}

impl PartialEq for Entry {
    fn eq(&self, other: &Self) -> bool {
        self.key == other.key
    }
}
impl Eq for Entry {}
impl PartialOrd for Entry {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}
impl Ord for Entry {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        self.key.cmp(&other.key)
    }
}

/// Turns of one run, over all machines, after which it is given up: no seed needs nearly as many.
const TURNS_MAX: u64 = 20_000_000;

/// A simulation under way.
#[derive(Debug)]
pub(crate) struct World {
    pub(crate) plan: Plan,
    pub(crate) options: Options,
    pub(crate) domain: DomainId,
    pub(crate) now: Us,
    pub(crate) rng: Rng,
    pub(crate) machines: Vec<Machine>,
    pub(crate) edges: Vec<Edge>,
    pub(crate) links: BTreeMap<LinkId, Link>,
    pub(crate) next_link: LinkId,
    /// The group of each machine, during a partition.
    pub(crate) groups: Option<Vec<usize>>,
    /// Nothing goes wrong any more.
    pub(crate) healed: bool,
    pub(crate) ledger: Ledger,
    pub(crate) things: Things,
    /// Nothing is in it if there is one domain.
    pub(crate) federation: Federation,
    pub(crate) moved: Moved,
    /// If machines meet on the air only.
    pub(crate) air: Option<crate::air::Air>,
    pub(crate) seen: Seen,
    pub(crate) turns: u64,
    pub(crate) stops: u64,
    queue: BinaryHeap<Reverse<Entry>>,
    happenings: u64,
    effects: blake3::Hasher,
    waiting_max: usize,
}

impl World {
    /// A world in which one machine founded the domain and made most others members.
    pub(crate) fn new(plan: Plan, seed: u64, options: Options) -> Result<Self, Finding> {
        let mut rng = Rng::new(seed, "world");
        let mut machines: Vec<Machine> = (0..plan.machines)
            .map(|index| Machine::new(index, seed, store_options(&plan)))
            .collect();
        machines.iter_mut().for_each(|machine| cast(machine, &plan, &mut rng));
        let founder = &mut machines[0];
        let parameters = Parameters {
            name: "simulation".to_owned(),
            parents_max: plan.parents_max,
            ..Parameters::default()
        };
        let (disk, entropy, at) = (founder.disk.clone(), rng.bytes(), founder.local_ms(0));
        let options_of = founder.options();
        let domain = SimDriver::found(disk, &parameters, &founder.key, entropy, at, options_of)
            .map_err(|error| Finding::new("founding failed", error.to_string()))?;
        machines.iter_mut().for_each(|machine| machine.domain = domain);
        let federation = Federation::found(&plan, seed, &mut machines, domain, &mut rng)?;
        let edges = plan.edges.iter().map(|(a, b, profile)| Edge {
            ends: [*a, *b],
            profile: *profile,
            link: None,
            stalled_until: 0,
        });
        Ok(Self {
            edges: edges.collect(),
            options,
            domain,
            now: 0,
            rng,
            machines,
            links: BTreeMap::new(),
            next_link: 1,
            groups: None,
            healed: false,
            things: Things::new(seed),
            federation,
            ledger: Ledger::default(),
            moved: Moved::default(),
            air: plan.air.map(|air| crate::air::Air::new(air, plan.machines)),
            seen: Seen::default(),
            turns: 0,
            stops: 0,
            queue: BinaryHeap::new(),
            happenings: 0,
            effects: blake3::Hasher::new(),
            waiting_max: 0,
            plan,
        })
    }

    /// Plans that something happens.
    pub(crate) fn at(&mut self, time: Us, happening: Happening) {
        self.happenings += 1;
        let key = (time.max(self.now), happening.is_turn(), self.happenings);
        self.queue.push(Reverse(Entry { key, happening }));
    }

    /// Gives a machine an input, which it handles with its next turn.
    pub(crate) fn give(&mut self, machine: usize, input: Input) {
        let on = &mut self.machines[machine];
        if on.driver.is_none() {
            return;
        }
        on.inbox.push(input);
        if !on.turn_asked {
            on.turn_asked = true;
            let (life, quantum) = (on.life, self.plan.turn);
            let next = (self.now / quantum + 1) * quantum;
            self.at(next, Happening::Turn { machine, life });
        }
    }

    /// Lets things happen until a time.
    pub(crate) fn run_until(&mut self, end: Us) -> Result<(), Finding> {
        while let Some(Reverse(entry)) = self.queue.peek() {
            let (time, is_turn, _) = entry.key;
            if time > end {
                break;
            }
            self.now = time;
            if is_turn {
                self.run_turns(time)?;
                continue;
            }
            if let Some(Reverse(entry)) = self.queue.pop() {
                self.happen(entry.happening)?;
            }
        }
        self.now = end;
        Ok(())
    }

    fn happen(&mut self, happening: Happening) -> Result<(), Finding> {
        if let Happening::Act(_) | Happening::Trouble(_) | Happening::Restart { .. } = happening {
            self.trace(|| format!("{happening:?}"));
        }
        match happening {
            Happening::Deliver { machine, link, bytes } => self.deliver(machine, link, bytes),
            Happening::Drained { machine, link, side } => self.drained(machine, link, side),
            Happening::Shut { link, reason } => self.cut(link, &reason, 1),
            Happening::Down { machine, life, link, reason } => {
                if self.machines[machine].life == life {
                    self.give(machine, Input::LinkDown { link, reason });
                }
            }
            Happening::OnAir(happening) => self.on_air(happening)?,
            Happening::Connect(edge) => self.connect(edge),
            Happening::Wake { machine, life } => self.wake(machine, life),
            Happening::Restart { machine, life } => {
                if self.machines[machine].life == life {
                    self.start(machine)?;
                }
            }
            Happening::Act(act) => self.act(act)?,
            Happening::Trouble(trouble) => self.trouble(trouble)?,
            Happening::Turn { .. } => {}
        }
        Ok(())
    }

    fn wake(&mut self, machine: usize, life: u32) {
        let on = &mut self.machines[machine];
        if on.life == life && on.wake_at.is_some_and(|at| at <= self.now) {
            on.wake_at = None;
            self.give(machine, Input::Tick);
        }
    }

    /// Starts a machine.
    pub(crate) fn start(&mut self, machine: usize) -> Result<(), Finding> {
        let now = self.now;
        let host = self.machines[machine].host;
        let lent = if host == machine { None } else { self.machines[host].lend() };
        let on = &mut self.machines[machine];
        if on.driver.is_some() || !on.enrolled || (host != machine && lent.is_none()) {
            return Ok(());
        }
        on.start(now, lent).map_err(|error| {
            Finding::new("a machine did not start again", format!("machine {machine}: {error}"))
        })?;
        self.started_with_artifacts(machine)?;
        self.check_acknowledged(machine)?;
        self.start_parts(machine)
    }

    /// Runs all turns of one time. They cannot see each other's effects, so threads could run
    /// them.
    fn run_turns(&mut self, time: Us) -> Result<(), Finding> {
        let mut due = Vec::new();
        while let Some(Reverse(entry)) = self.queue.peek()
            && entry.key.0 == time
            && let Some(Reverse(entry)) = self.queue.pop()
        {
            if let Happening::Turn { machine, life } = entry.happening
                && self.machines[machine].life == life
            {
                due.push(machine);
            }
        }
        due.sort_unstable();
        due.dedup();
        self.turns += due.len() as u64;
        if self.turns > TURNS_MAX {
            return Err(Finding::new("too many turns", format!("{} turns", self.turns)));
        }
        for turn in crate::threads::turns(&mut self.machines, &due, time, self.options.threads) {
            self.take(turn)?;
        }
        Ok(())
    }

    /// Carries out what a turn brought.
    pub(crate) fn take(&mut self, turn: Turn) -> Result<(), Finding> {
        self.note(&turn);
        if self.options.trace.is_some() {
            self.trace_turn(&turn);
        }
        let Turn { machine, outs, outcome, deeds: _, stopped, traffic, wake, waiting } = turn;
        if waiting > quipu_core::limits::WAITING_EVENTS_MAX {
            let text = format!("machine {machine}: {waiting} events wait");
            return Err(Finding::new("more waits than may", text));
        }
        self.waiting_max = self.waiting_max.max(waiting);
        self.count_traffic(machine, traffic);
        for out in outs {
            match out {
                Out::Send { link, bytes: frame } if self.is_on_air() => {
                    self.tell_station(machine, StationInput::Send { link, frame });
                }
                Out::Close { link, reason } if self.is_on_air() => {
                    self.tell_station(machine, StationInput::Close { link, reason });
                }
                Out::Send { link, bytes } => self.send(machine, link, bytes),
                Out::Close { link, reason } => self.shut(link, reason),
            }
        }
        if self.is_on_air() {
            self.tell_standing(machine);
        }
        self.data_notices(machine, &outcome.notices)?;
        let unkept = self.is_federated()
            && outcome.notices.iter().any(|notice| matches!(notice, Notice::ArtifactFailed { .. }));
        if outcome.decided && self.is_federated() {
            self.refresh_circles(machine);
        }
        self.replies(machine, outcome.replies)?;
        for domain in outcome.follows {
            self.keep_published(machine, domain)?;
        }
        if unkept && !self.healed && self.machines[machine].driver.is_some() {
            // The disk refused the index of artifacts: nothing more is fetched before a start.
            self.give_up(machine);
            return Ok(());
        }
        if let Some(error) = stopped {
            return self.stopped(machine, &error);
        }
        let life = self.machines[machine].life;
        if let Some(at) = wake
            && self.machines[machine].wake_at.is_none_or(|earlier| at < earlier)
        {
            self.machines[machine].wake_at = Some(at);
            self.at(at, Happening::Wake { machine, life });
        }
        Ok(())
    }

    /// Sends a frame, or what a liar makes of it.
    fn send(&mut self, machine: usize, link: LinkId, bytes: Vec<u8>) {
        self.note_crossing(machine, link, &bytes);
        if !self.is_hostile(machine) {
            return self.transmit(machine, link, bytes);
        }
        if let Some(bytes) = self.machines[machine].twist(bytes) {
            self.transmit(machine, link, bytes);
        }
    }

    /// Whether a machine's word counts for nothing.
    pub(crate) fn is_hostile(&self, machine: usize) -> bool {
        self.machines[machine].part != Part::Honest
    }

    /// Tells whoever looks at a seed.
    pub(crate) fn trace(&self, text: impl FnOnce() -> String) {
        if let Some(trace) = self.options.trace {
            trace(&format!("{:>10.3} {}", self.now as f64 / SECOND as f64, text()));
        }
    }

    fn trace_turn(&self, turn: &Turn) {
        let machine = turn.machine;
        for notice in &turn.outcome.notices {
            self.trace(|| format!("{machine}: {notice:?}"));
        }
        for (request, reply) in &turn.outcome.replies {
            match reply {
                Ok(Reply::Emitted(list)) => self.trace(|| {
                    let list: Vec<_> = list.iter().map(|e| (e.id, e.seq)).collect();
                    format!("{machine}: request {request}: emitted {list:?}")
                }),
                other => self.trace(|| format!("{machine}: request {request}: {other:?}")),
            }
        }
        for out in &turn.outs {
            match out {
                Out::Send { link, bytes } => self.trace(|| {
                    let text = Message::decode(bytes).map(|message| format!("{message:?}"));
                    let text = text.unwrap_or_default().chars().take(200).collect::<String>();
                    format!("{machine}: on {link}: {text}")
                }),
                Out::Close { link, reason } => {
                    self.trace(|| format!("{machine}: closes {link}: {reason}"));
                }
            }
        }
    }

    /// Adds a turn's effects to the log of effects.
    fn note(&mut self, turn: &Turn) {
        let mut add = |bytes: &[u8]| {
            self.effects.update(&(bytes.len() as u64).to_le_bytes()).update(bytes);
        };
        add(&self.now.to_le_bytes());
        add(&(turn.machine as u64).to_le_bytes());
        for out in &turn.outs {
            match out {
                Out::Send { link, bytes } => {
                    add(&link.to_le_bytes());
                    add(bytes);
                }
                Out::Close { link, reason } => {
                    add(&link.to_le_bytes());
                    add(reason.as_bytes());
                }
            }
        }
        if !turn.deeds.is_empty() {
            add(&turn.deeds);
        }
        let told = (&turn.outcome, &turn.stopped, turn.wake, self.options.sabotage_noise());
        add(format!("{told:?}").as_bytes());
    }

    /// Adds something that was done between turns to the log of effects.
    pub(crate) fn note_deed(&mut self, machine: usize, deed: &impl std::fmt::Debug) {
        let text = format!("{} {machine} {deed:?}", self.now);
        self.trace(|| format!("{machine}: {deed:?}"));
        self.effects.update(&(text.len() as u64).to_le_bytes()).update(text.as_bytes());
    }

    /// The hash over all effects so far.
    pub(crate) fn effects_hash(&self) -> [u8; 32] {
        *self.effects.finalize().as_bytes()
    }

    /// The greatest number of events that waited on a machine.
    pub(crate) fn waiting_max(&self) -> usize {
        self.waiting_max
    }

    /// Machines that must agree in the end: honest ones that are members.
    pub(crate) fn members(&self) -> Vec<usize> {
        if self.is_federated() {
            return self.parties().concat();
        }
        let Some(dag) = self.machines[0].driver.as_ref().and_then(|driver| driver.node().dag())
        else {
            return Vec::new();
        };
        let is_member = |machine: &&Machine| {
            machine.part == Part::Honest && dag.authority().role(&machine.node).is_some()
        };
        self.machines.iter().filter(is_member).map(|machine| machine.index).collect()
    }

    /// Lets a second pass, at most to an end. Answers whether there is time left.
    pub(crate) fn pass_second(&mut self, end: Us) -> Result<bool, Finding> {
        let next = (self.now + SECOND).min(end);
        self.run_until(next)?;
        Ok(self.now < end)
    }
}

/// Gives a machine its part and its clock.
fn cast(machine: &mut Machine, plan: &Plan, rng: &mut Rng) {
    let reach = plan.faults.skew_ms.draw(rng) as i64;
    let drift = plan.faults.drift_ppm.draw(rng) as i64;
    let sign = if rng.permille(500) { 1 } else { -1 };
    machine.skew.offset_ms = sign * reach;
    machine.skew.drift_ppm = sign * drift;
    machine.part = match machine.index {
        index if plan.hostile.contains(&index) => Part::Liar,
        index if plan.backdaters.contains(&index) => Part::Backdater,
        _ => Part::Honest,
    };
    machine.enrolled = !plan.late.contains(&machine.index);
}

fn store_options(plan: &Plan) -> StoreOptions {
    StoreOptions {
        block_events_max: plan.block_events,
        page_events: (plan.block_events / 4).clamp(4, 1024),
        cache_bytes: 1 << 20,
        ..StoreOptions::default()
    }
}
