//! Checkers: what must hold at any time, and what must hold once all trouble is over.

use std::collections::BTreeMap;

use quipu_core::event::{Log, LogSeq};
use quipu_core::history::History;
use quipu_core::id::{DomainId, EventId, LogDigest, Subject};
use quipu_node::Driver;
use quipu_store::{Disk, FaultyDisk, Store};

use crate::explain::aside;
use crate::machine::{Machine, Part, SimClock, SimDriver, SimLinks};
use crate::plan::SECOND;
use crate::report::{Finding, Sabotage};
use crate::world::World;

/// Bodies stay below this, however many leaves there are (EVT-13).
const BODY_BYTES: usize = 6_000;
/// With so few parents a body is far below that.
const FEW_PARENTS: usize = 64;

/// What a machine makes of the events it holds: equal on all that hold the same.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct State {
    pub(crate) digest: LogDigest,
    pub(crate) events: u64,
    /// Hash over clock and id of all events in replay order.
    pub(crate) replay: [u8; 32],
    /// The winning event of each fold key.
    pub(crate) cells: BTreeMap<Subject, (LogSeq, EventId)>,
    leaves: Vec<EventId>,
    forks: Vec<(quipu_core::id::NodeKey, u64, Vec<EventId>)>,
    erased: Vec<EventId>,
    members: Vec<(quipu_core::id::NodeKey, quipu_core::domain::Role)>,
}

impl State {
    /// Works out a machine's state.
    pub(crate) fn of(driver: &mut SimDriver, by_arrival: bool) -> Result<Self, Finding> {
        let digest = driver.node_mut().digest();
        let unread = |error: quipu_store::StoreError| {
            Finding::new("a log could not be read", error.to_string())
        };
        let held = driver.held();
        let Some(dag) = driver.node().dag() else {
            return Err(Finding::new("a member holds nothing", String::new()));
        };
        let mut order: Vec<(LogSeq, EventId)> = Vec::new();
        let mut cells: BTreeMap<Subject, (LogSeq, EventId)> = BTreeMap::new();
        let mut next = 0;
        let log = driver.log();
        while next < held.count(log) {
            for event in held.events(log, next..held.count(log)).map_err(unread)? {
                next += 1;
                if dag.is_quarantined(&event.id) {
                    continue;
                }
                if event.header.parents.len() > FEW_PARENTS {
                    check_body(&event, &dag.domain())?;
                }
                order.push(event.order());
                if let Some(subject) = event.header.payload.subject {
                    let cell = cells.entry(subject).or_insert(event.order());
                    *cell = if by_arrival { event.order() } else { event.order().max(*cell) };
                }
            }
        }
        if !by_arrival {
            order.sort_unstable();
        }
        let mut replay = blake3::Hasher::new();
        for (clock, id) in &order {
            replay.update(&clock.0.to_le_bytes()).update(&id.0);
        }
        let kept = |id: &&EventId| !dag.is_quarantined(id);
        Ok(Self {
            digest,
            events: order.len() as u64,
            replay: *replay.finalize().as_bytes(),
            cells,
            leaves: dag.leaves(),
            forks: forks_of(dag),
            erased: dag.erased().iter().filter(kept).copied().collect(),
            members: dag.members().into_iter().map(|m| (m.node, m.role)).collect(),
        })
    }

    /// The root of the state tree.
    fn root(&self) -> [u8; 32] {
        let cells: Vec<_> = self.cells.iter().map(|(subject, (_, id))| (*subject, *id)).collect();
        quipu_core::state::root_of(&cells)
    }

    /// The first thing in which two states differ.
    fn difference(&self, other: &Self) -> Option<&'static str> {
        let parts = [
            (self.digest != other.digest, "digests differ"),
            (self.events != other.events, "event counts differ"),
            (self.replay != other.replay, "replay orders differ"),
            (self.cells != other.cells, "folds differ"),
            (self.leaves != other.leaves, "leaves differ"),
            (self.forks != other.forks, "flagged forks differ"),
            (self.erased != other.erased, "erasures differ"),
            (self.members != other.members, "members differ"),
        ];
        parts.into_iter().find_map(|(differs, what)| differs.then_some(what))
    }
}

fn check_body(event: &quipu_core::event::Event, domain: &DomainId) -> Result<(), Finding> {
    let mut body = Vec::new();
    quipu_core::codec::v1::encode_body(&event.header, domain, &mut body);
    if body.len() < BODY_BYTES {
        return Ok(());
    }
    Err(Finding::new("a body is too large", format!("{}: {} bytes", event.id, body.len())))
}

fn forks_of(dag: &quipu_core::dag::Dag) -> Vec<(quipu_core::id::NodeKey, u64, Vec<EventId>)> {
    let mut forks = Vec::new();
    for fork in dag.equivocations() {
        let kept: Vec<EventId> =
            fork.ids.into_iter().filter(|id| !dag.is_quarantined(id)).collect();
        if kept.len() > 1 {
            forks.push((fork.author, fork.seq, kept));
        }
    }
    forks
}

impl World {
    /// Whether a machine holds an event; nothing if it is down.
    pub(crate) fn holds(&self, machine: usize, id: &EventId) -> Option<bool> {
        let driver = self.machines[machine].driver.as_ref()?;
        let lost = self.options.sabotage == Some(Sabotage::LoseEvent) && machine == 0;
        let hidden = lost && self.ledger.acknowledged.last().is_some_and(|last| last.id == *id);
        Some(!hidden && driver.held().find(driver.log(), id).ok().flatten().is_some())
    }

    fn must_hold(&self, machine: usize, id: &EventId) -> Result<(), Finding> {
        if self.holds(machine, id) == Some(false) && !self.ledger.at_risk.contains_key(id) {
            let text = format!("machine {machine} acknowledged {id} and does not hold it");
            return Err(Finding::new("an acknowledged event is lost", text));
        }
        Ok(())
    }

    /// A machine that started again holds everything that it acknowledged.
    pub(crate) fn check_acknowledged(&self, machine: usize) -> Result<(), Finding> {
        if self.ledger.restored.contains(&machine) {
            return Ok(());
        }
        let own = self.ledger.acknowledged.iter().filter(|a| a.machine == machine);
        own.into_iter().try_for_each(|a| self.must_hold(machine, &a.id))
    }

    /// One event that a machine acknowledged is still there.
    pub(crate) fn check_one_acknowledged(&mut self, machine: usize) -> Result<(), Finding> {
        let Some(one) = self.rng.pick(&self.ledger.acknowledged) else { return Ok(()) };
        if one.machine != machine || self.ledger.restored.contains(&machine) {
            return Ok(());
        }
        self.must_hold(machine, &one.id)
    }

    /// Whether all members hold the same and have nothing left to do.
    pub(crate) fn has_converged(&mut self) -> bool {
        self.parties().iter().all(|party| self.party_agrees(party))
    }

    fn party_agrees(&mut self, members: &[usize]) -> bool {
        let mut digest = None;
        for member in members.iter().copied() {
            let Some(driver) = self.machines[member].driver.as_mut() else { return false };
            if !driver.node().is_idle() || driver.node().dag().is_none() {
                return false;
            }
            let own = driver.node_mut().digest();
            if *digest.get_or_insert(own) != own {
                return false;
            }
        }
        digest.is_some()
    }

    /// Those who must hold the same, log by log.
    pub(crate) fn parties(&self) -> Vec<Vec<usize>> {
        if self.is_federated() { self.domain_parties() } else { vec![self.members()] }
    }

    /// Waits until all members hold the same.
    pub(crate) fn converge(&mut self) -> Result<(), Finding> {
        let end = self.now + self.plan.settle;
        while !self.has_converged() {
            self.link_honest();
            if !self.pass_second(end)? {
                return Err(self.not_converged());
            }
        }
        Ok(())
    }

    /// Everything that must hold once all agree. `replays` also asks for the plans.
    pub(crate) fn check_all(&mut self, replays: bool) -> Result<(), Finding> {
        for party in self.parties() {
            self.check_party(&party, replays)?;
        }
        self.check_domains()
    }

    fn check_party(&mut self, members: &[usize], replays: bool) -> Result<(), Finding> {
        let mut states = Vec::new();
        for member in members {
            let sabotaged = self.options.sabotage == Some(Sabotage::FoldByArrival);
            let by_arrival = sabotaged && member == members.last().unwrap_or(member);
            states.push((*member, self.state_of(*member, by_arrival)?));
        }
        self.check_equal(&states)?;
        self.check_reopened(&states)?;
        self.check_kept(members)?;
        self.check_authors(members)?;
        self.check_erased(members)?;
        self.check_stores(members)?;
        self.check_data(members, replays)
    }

    fn state_of(&mut self, member: usize, by_arrival: bool) -> Result<State, Finding> {
        let skips = self.options.sabotage == Some(Sabotage::SkipRemovals) && member != 0;
        match self.machines[member].driver.as_mut() {
            Some(driver) => {
                let mut state = State::of(driver, by_arrival)?;
                if skips && let Some(dag) = driver.node().dag() {
                    state.events += dag.quarantined().len() as u64;
                }
                Ok(state)
            }
            None => Err(Finding::new("a member is down", format!("machine {member}"))),
        }
    }

    fn check_equal(&self, states: &[(usize, State)]) -> Result<(), Finding> {
        let Some((first, expected)) = states.first() else { return Ok(()) };
        for (member, state) in states {
            if let Some(what) = expected.difference(state) {
                let text = format!("machines {first} and {member}");
                return Err(Finding::new(what, text));
            }
        }
        Ok(())
    }

    /// A machine that starts from its disk knows what it knew before.
    fn check_reopened(&self, states: &[(usize, State)]) -> Result<(), Finding> {
        for (member, state) in states.iter().take(8) {
            let machine = &self.machines[*member];
            let opened = reopen(machine)?;
            let mut driver = opened;
            if let Some(what) = state.difference(&State::of(&mut driver, false)?) {
                let aside = aside(machine.driver.as_ref(), Some(&driver));
                let text = format!("{what}: machine {member} before and after a start; {aside}");
                return Err(Finding::new("a start changes what a machine knows", text));
            }
            // What was saved of the state leads to the same state.
            let root = driver.catch_up().map_err(crate::things::unreadable)?.root();
            if root != state.root() {
                let text = format!("machine {member} after a start");
                return Err(Finding::new("a state root is not that of its events", text));
            }
        }
        Ok(())
    }

    /// Nobody holds an event in an honest machine's name that this machine does not hold itself.
    fn check_authors(&self, members: &[usize]) -> Result<(), Finding> {
        let unread = |error: quipu_store::StoreError| {
            Finding::new("a log could not be read", error.to_string())
        };
        let honest: BTreeMap<_, usize> = members
            .iter()
            .filter(|member| !self.ledger.restored.contains(member))
            .filter(|member| self.machines[**member].part == Part::Honest)
            .map(|member| (self.machines[*member].node, *member))
            .collect();
        // All members hold the same, but for what is kept aside.
        for member in members {
            let Some(driver) = &self.machines[*member].driver else { continue };
            let log = driver.log();
            for ordinal in 0..driver.held().count(log) {
                let place = driver.held().place(log, ordinal).map_err(unread)?;
                let Some(author) = honest.get(&place.head.author) else { continue };
                if self.holds(*author, &place.id) == Some(false) {
                    let text = format!(
                        "machine {member} holds {} by machine {author}, which does not",
                        place.id
                    );
                    return Err(Finding::new("an event in somebody else's name", text));
                }
            }
        }
        Ok(())
    }

    /// What was acknowledged in the log of some machines.
    fn acknowledged_in(&self, members: &[usize]) -> Vec<crate::ledger::Acknowledged> {
        let log = |machine: usize| (self.machines[machine].domain, self.machines[machine].log);
        let Some(first) = members.first() else { return Vec::new() };
        let all = self.ledger.acknowledged.iter();
        all.filter(|one| log(one.machine) == log(*first)).cloned().collect()
    }

    /// Every acknowledged event is everywhere, unless its author's membership was disturbed: then
    /// it counts everywhere or nowhere.
    fn check_kept(&self, members: &[usize]) -> Result<(), Finding> {
        let disturbed = self.ledger.all_disturbed();
        for one in self.acknowledged_in(members) {
            let author = self.machines[one.machine].node;
            let holders = self.ledger.at_risk.get(&one.id);
            if holders.is_some_and(|holders| !holders.iter().any(|m| members.contains(m))) {
                continue;
            }
            let counts = |member: usize| {
                let aside = self.machines[member]
                    .driver
                    .as_ref()
                    .and_then(|driver| driver.node().dag())
                    .is_some_and(|dag| dag.is_quarantined(&one.id));
                self.holds(member, &one.id) == Some(true) && !aside
            };
            let with: Vec<usize> = members.iter().copied().filter(|m| counts(*m)).collect();
            let fine =
                with.len() == members.len() || (with.is_empty() && disturbed.contains(&author));
            if !fine {
                let text = format!("{} of machine {} counts only on {with:?}", one.id, one.machine);
                return Err(Finding::new("an acknowledged event is lost", text));
            }
        }
        Ok(())
    }

    /// No byte of an erased payload is on any disk of a member.
    fn check_erased(&self, members: &[usize]) -> Result<(), Finding> {
        let disturbed = self.ledger.all_disturbed();
        let mut tokens = BTreeMap::new();
        for one in &self.ledger.acknowledged {
            tokens.extend(one.token.map(|token| (one.id, token)));
        }
        for member in members {
            let machine = &self.machines[*member];
            let Some(dag) = machine.driver.as_ref().and_then(|d| d.node().dag()) else { continue };
            let counts =
                |id: &EventId| self.holds(*member, id) == Some(true) && !dag.is_quarantined(id);
            for erasure in &self.ledger.erasures {
                if !counts(&erasure.event) || !counts(&erasure.target) {
                    continue;
                }
                // An erasure that is kept as an ancestor only erases nothing.
                let author = self.machines[erasure.machine].node;
                if disturbed.contains(&author) && !dag.is_erased(&erasure.target) {
                    continue;
                }
                if let Some(text) =
                    self.trace_of(machine, &erasure.target, tokens.get(&erasure.target))
                {
                    let text = format!("machine {member}: {text}");
                    return Err(Finding::new("an erased payload is still there", text));
                }
            }
        }
        Ok(())
    }

    fn trace_of(
        &self,
        machine: &Machine,
        target: &EventId,
        token: Option<&[u8; 24]>,
    ) -> Option<String> {
        let held = machine.driver.as_ref()?.held();
        let ordinal = held.find(machine.log, target).ok()??;
        let event = held.event(machine.log, ordinal).ok()?;
        if !quipu_core::kind::is_erasable(&event.header.kind) {
            return None;
        }
        if event.payload.is_some() {
            return Some(format!("event {target} has its payload"));
        }
        let token = token?;
        for path in machine.disk.files() {
            let bytes = machine.disk.read(&path).ok()?;
            if bytes.windows(token.len()).any(|window| window == token) {
                return Some(format!("{path} has bytes of the payload of {target}"));
            }
        }
        None
    }

    fn check_stores(&self, members: &[usize]) -> Result<(), Finding> {
        for member in members.iter().take(8) {
            let driver = self.machines[*member].driver.as_ref();
            let Some(store) = driver.and_then(|driver| driver.held().store()) else { continue };
            let dag = driver.and_then(|driver| driver.node().dag());
            let aside = |id: EventId| dag.is_some_and(|dag| dag.is_quarantined(&id));
            if let Some(problem) = problem_of(store, aside) {
                let text = format!("machine {member}: {problem}");
                return Err(Finding::new("a store is not clean", text));
            }
        }
        Ok(())
    }

    /// After everything, everybody who may write can still write, and all agree again.
    pub(crate) fn check_writable(&mut self) -> Result<(), Finding> {
        let hosts = self.members().into_iter().filter(|m| self.machines[*m].log == Log::Internal);
        let members: Vec<usize> = hosts.take(16).collect();
        let before = self.ledger.acknowledged.len();
        let mut writers = 0;
        for member in members {
            let machine = &self.machines[member];
            let dag = machine.driver.as_ref().and_then(|driver| driver.node().dag());
            let role = dag.and_then(|dag| dag.authority().role(&machine.node));
            if role >= Some(quipu_core::domain::Role::Writer) {
                writers += 1;
                self.emit(member, 1);
            }
        }
        self.run_until(self.now + SECOND)?;
        if self.ledger.acknowledged.len() < before + writers {
            let text = format!("{writers} asked to, in the end");
            return Err(Finding::new("somebody cannot write", text));
        }
        self.converge()
    }
}

/// The first thing that a full check of a store finds. What is kept aside needs no proof: it goes
/// to nobody.
fn problem_of(store: &Store<FaultyDisk>, aside: impl Fn(EventId) -> bool) -> Option<String> {
    let problems = store.verify(&mut |_, _| {}).problems;
    let counts = |problem: &quipu_store::Problem| {
        problem.what != "signature" || !problem.object.parse().is_ok_and(&aside)
    };
    let problem = problems.into_iter().find(counts)?;
    Some(format!("{}: {}: {}", problem.what, problem.object, problem.detail))
}

fn reopen(machine: &Machine) -> Result<SimDriver, Finding> {
    let disk = std::sync::Arc::new(machine.disk.fork());
    let opened = Driver::open(
        disk,
        (machine.domain, machine.log),
        machine.key.clone(),
        [0; 32],
        SimClock::default(),
        SimLinks::default(),
        machine.options(),
    );
    opened.map(|(driver, _)| driver).map_err(|error| {
        Finding::new("a store cannot be opened", format!("machine {}: {error}", machine.index))
    })
}
