//! People at the machines: they emit, decide, invite, erase and ask to synchronise.

use std::sync::Arc;

use bytes::Bytes;
use ed25519_dalek::{Signer, SigningKey};
use quipu_core::domain::{Decision, Invitation, Role};
use quipu_core::id::{EventId, NodeKey};
use quipu_core::node::{Command, CommandError, Input, Reply, RequestId};
use quipu_core::sync::message::{InviteProof, invite_message};
use quipu_core::value::{self, Value};

use crate::affairs::Affair;
use crate::ledger::{Erasure, Pending, Token};
use crate::machine::Part;
use crate::plan::{MS, SECOND};
use crate::report::Finding;
use crate::rng::Rng;
use crate::things::Deed;
use crate::world::{Happening, World};

/// Something that people do.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Act {
    /// Emit some events.
    Emit(usize),
    /// Erase a payload.
    Erase,
    /// Remove a member.
    Remove,
    /// Change a role, or take somebody back.
    Promote,
    /// Invite a machine, which then joins.
    Join(usize),
    /// Synchronise once.
    Sync,
    /// A liar lies.
    Lie(usize),
    /// A member emits with the greatest clock.
    GreatestClock,
    /// Something about artifacts, edges or snapshots.
    Data(Deed),
    /// Something between domains.
    Affair(Affair),
    /// Many authors without machines each write one event, which come as a file.
    Crowd,
}

/// Requests without this bit are counted by machine; those of synchronisations carry it.
const SYNC_REQUEST: u64 = 1 << 63;

impl World {
    /// Plans what people do, and starts the machines.
    pub(crate) fn begin(&mut self) -> Result<(), Finding> {
        self.equip();
        if self.is_federated() {
            return self.begin_domains();
        }
        for machine in 0..self.machines.len() {
            self.start(machine)?;
        }
        for machine in 1..self.machines.len() {
            if self.machines[machine].enrolled {
                let small = self.plan.machines < 20;
                let admin = small && !self.is_hostile(machine) && self.rng.permille(200);
                self.admit(machine, if admin { Role::Admin } else { Role::Writer });
            }
        }
        for edge in 0..self.edges.len() {
            let at = self.rng.below(SECOND);
            self.at(at, Happening::Connect(edge));
        }
        self.plan_acts();
        self.plan_trouble();
        self.plan_data();
        self.plan_air();
        Ok(())
    }

    /// The founder makes a machine a member.
    fn admit(&mut self, machine: usize, role: Role) {
        let (founder, node) = (self.machines[0].node, self.machines[machine].node);
        self.ledger.granted(founder, node);
        let decision = Decision::Add { node, role, invite: None };
        self.request(0, Command::Decide(decision), Pending::Decide);
    }

    pub(crate) fn plan_acts(&mut self) {
        let work = self.plan.workload;
        let end = self.plan.duration;
        let start = self.plan.writing_from();
        let last = end.saturating_sub(work.calm_s.high * SECOND).max(start);
        for machine in 0..self.hosts() {
            let mut rng = self.machines[machine].rng.clone();
            for _ in 0..work.emits.draw(&mut rng) {
                let at = rng.between(start, last);
                self.at(at, Happening::Act(Act::Emit(machine)));
            }
            self.machines[machine].rng = rng;
        }
        let counted = [
            (work.erasures.low, Act::Erase),
            (work.removals.low, Act::Remove),
            (work.promotions.low, Act::Promote),
            (work.syncs.low, Act::Sync),
            (self.plan.faults.greatest_clock.low, Act::GreatestClock),
            (u64::from(work.crowd.low > 0), Act::Crowd),
        ];
        for (count, act) in counted {
            for _ in 0..count {
                let at = self.rng.between(start, end);
                self.at(at, Happening::Act(act));
            }
        }
        for machine in self.plan.late.clone() {
            let at = self.rng.between(start, start + (end - start) / 2);
            self.at(at, Happening::Act(Act::Join(machine)));
        }
        for machine in 0..self.machines.len() {
            if self.is_hostile(machine) {
                for _ in 0..self.plan.faults.lies.draw(&mut self.rng) {
                    let at = self.rng.between(start, end);
                    self.at(at, Happening::Act(Act::Lie(machine)));
                }
            }
        }
    }

    /// Asks a machine for something.
    pub(crate) fn request(&mut self, machine: usize, command: Command, pending: Pending) {
        let on = &mut self.machines[machine];
        if on.driver.is_none() {
            return;
        }
        on.requests += 1;
        let request = on.requests;
        self.ledger.pending.insert((machine, request), pending);
        self.give(machine, Input::Local { request, command });
    }

    /// Does what people do at this time.
    pub(crate) fn act(&mut self, act: Act) -> Result<(), Finding> {
        if self.healed {
            return Ok(());
        }
        match act {
            Act::Data(deed) => return self.data_act(deed),
            Act::Affair(affair) => return self.affair(affair),
            _ => {}
        }
        match act {
            Act::Data(_) | Act::Affair(_) => {}
            Act::Emit(machine) => self.emit(machine, 0),
            Act::Erase => self.erase(),
            Act::Remove => self.remove(),
            Act::Promote => self.promote(),
            Act::Join(machine) => self.invite(machine),
            Act::Sync => self.sync_once(),
            Act::Lie(machine) => self.lie(machine),
            Act::GreatestClock => self.greatest_clock(),
            Act::Crowd => self.invite_crowd(),
        }
        let machine = self.rng.index(self.machines.len());
        self.check_one_acknowledged(machine)
    }

    /// Emits some events on a machine.
    pub(crate) fn emit(&mut self, machine: usize, least: u64) {
        let (batch, cells) = (self.plan.workload.batch, self.plan.workload.cells.low);
        let rng = &mut self.machines[machine].rng;
        let count = batch.draw(rng).max(least);
        let mut tokens = Vec::new();
        let mut events = Vec::new();
        for _ in 0..count {
            let token: Token = rng.bytes();
            events.push(draft(rng, cells, &token));
            tokens.push(token);
        }
        self.request(machine, Command::Emit(events), Pending::Emit(tokens));
    }

    fn erase(&mut self) {
        let list = &self.ledger.acknowledged;
        let Some(chosen) = self.rng.pick(list) else { return };
        let (target, own) = (chosen.id, chosen.machine);
        let reason = "somebody asked for it".to_owned();
        let machine = if self.rng.permille(700) { own } else { 0 };
        let command = Command::Decide(Decision::Erase { target, reason });
        self.request(machine, command, Pending::Erase(target));
    }

    /// An admin that is up and honest: often the founder.
    fn admin(&mut self) -> Option<usize> {
        let is_admin = |machine: &&crate::machine::Machine| {
            let dag = machine.driver.as_ref().and_then(|driver| driver.node().dag());
            machine.part == Part::Honest
                && dag.and_then(|dag| dag.authority().role(&machine.node)) == Some(Role::Admin)
        };
        let admins: Vec<usize> =
            self.machines.iter().filter(is_admin).map(|machine| machine.index).collect();
        self.rng.pick(&admins).copied()
    }

    fn remove(&mut self) {
        let Some(by) = self.admin() else { return };
        let others = 1..self.machines.len();
        let wanted: Vec<usize> =
            others.clone().filter(|m| self.machines[*m].part == Part::Backdater).collect();
        let all: Vec<usize> = others.collect();
        let from = if wanted.is_empty() { all } else { wanted };
        let Some(target) = self.rng.pick(&from).copied() else { return };
        let node = self.machines[target].node;
        self.ledger.disturb(node);
        self.request(by, Command::Decide(Decision::Remove { node }), Pending::Decide);
    }

    fn promote(&mut self) {
        let Some(by) = self.admin() else { return };
        let target = 1 + self.rng.index(self.machines.len() - 1);
        if !self.machines[target].enrolled || self.is_hostile(target) {
            return;
        }
        let node = self.machines[target].node;
        let role = [Role::Reader, Role::Writer, Role::Admin, Role::Admin][self.rng.index(4)];
        self.ledger.disturb(node);
        self.ledger.granted(self.machines[by].node, node);
        let decision = Decision::Add { node, role, invite: None };
        self.request(by, Command::Decide(decision), Pending::Decide);
    }

    fn invite(&mut self, newcomer: usize) {
        let again = self.now + 5 * SECOND;
        let Some(by) = self.admin() else {
            return self.at(again, Happening::Act(Act::Join(newcomer)));
        };
        // Whoever is an admin may be the one that lets it in.
        for machine in &self.machines {
            self.ledger.granted(machine.node, self.machines[newcomer].node);
        }
        let ticket = SigningKey::from_bytes(&self.rng.bytes());
        let key = NodeKey(ticket.verifying_key().to_bytes());
        let node = self.machines[newcomer].node;
        let signature = ticket.sign(&invite_message(&self.domain, &node)).to_bytes();
        let proof = Box::new(InviteProof { key, signature });
        let invitation = Invitation {
            key,
            role: Role::Writer,
            expires_ms: u64::MAX >> 16,
            uses_max: self.rng.between(1, 2),
        };
        let command = Command::Decide(Decision::Invite(invitation));
        self.request(by, command, Pending::Invite { newcomer, proof });
        // The machine that was asked may stop before it answers.
        self.at(again + 30 * SECOND, Happening::Act(Act::Join(newcomer)));
    }

    fn sync_once(&mut self) {
        if self.edges.is_empty() {
            return;
        }
        let edge = self.rng.index(self.edges.len());
        let ends = self.edges[edge].ends;
        if self.is_apart(ends) || ends.iter().any(|end| self.machines[*end].driver.is_none()) {
            return;
        }
        self.link_up(edge, ends, false, Some(SYNC_REQUEST | self.next_link));
    }

    /// Takes the answers that a machine gave.
    pub(crate) fn replies(
        &mut self,
        machine: usize,
        replies: Vec<(RequestId, Result<Reply, CommandError>)>,
    ) -> Result<(), Finding> {
        for (request, reply) in replies {
            let Some(pending) = self.ledger.pending.remove(&(machine, request)) else { continue };
            let Some(pending) = self.data_reply(machine, pending, &reply)? else { continue };
            let Ok(Reply::Emitted(emitted)) = reply else { continue };
            let honest = !self.is_hostile(machine);
            let ids: Vec<EventId> = emitted.iter().map(|event| event.id).collect();
            let Some(last) = ids.last().copied() else { continue };
            match pending {
                Pending::Emit(tokens) if honest => {
                    for (id, token) in ids.into_iter().zip(tokens) {
                        self.ledger.acknowledge(id, machine, Some(token));
                    }
                }
                Pending::Decide if honest => self.ledger.acknowledge(last, machine, None),
                Pending::Erase(target) if honest => {
                    self.ledger.acknowledge(last, machine, None);
                    self.ledger.erasures.push(Erasure { target, event: last, machine });
                }
                Pending::Invite { newcomer, proof } => self.join(machine, newcomer, *proof)?,
                Pending::Crowd => self.import_crowd(machine, last),
                _ => {}
            }
        }
        Ok(())
    }

    /// A machine with an invitation starts, and links to the one that invited it, too.
    fn join(&mut self, by: usize, newcomer: usize, proof: InviteProof) -> Result<(), Finding> {
        let on = &mut self.machines[newcomer];
        on.invite = Some(proof);
        if on.enrolled {
            return Ok(());
        }
        on.enrolled = true;
        let ends = [by.min(newcomer), by.max(newcomer)];
        if !self.edges.iter().any(|edge| edge.ends == ends) {
            self.add_edge(ends);
        }
        self.start(newcomer)
    }

    /// Adds a possible link, like the first one.
    pub(crate) fn add_edge(&mut self, ends: [usize; 2]) {
        let Some(profile) = self.edges.first().map(|edge| edge.profile) else { return };
        self.edges.push(crate::net::Edge { ends, profile, link: None, stalled_until: 0 });
        self.at(self.now + 10 * MS, Happening::Connect(self.edges.len() - 1));
    }
}

/// An event like those of workload W, with a token in it.
pub(crate) fn draft(rng: &mut Rng, cells: u64, token: &Token) -> (Arc<str>, Bytes) {
    if rng.permille(100) {
        let note = Value::map([
            ("record_id", Value::from(format!("R-{}", rng.below(cells)))),
            ("text", Value::Bytes(token.to_vec())),
        ]);
        return (Arc::from("note.add"), encode(&note));
    }
    let value = Value::map([
        ("record_id", Value::from(format!("R-{}", rng.below(cells)))),
        ("field", Value::from(format!("f{}", rng.below(4)))),
        ("value", Value::Bytes(token.to_vec())),
    ]);
    (Arc::from("field.set"), encode(&value))
}

fn encode(value: &Value) -> Bytes {
    let mut out = Vec::new();
    value::encode(value, &mut out);
    out.into()
}
