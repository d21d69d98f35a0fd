//! Strangers that ask for what is none of their business. What they hear of something internal must be
//! what they hear of something that does not exist, to the byte.

use quipu_core::event::Log;
use quipu_core::history::History;
use quipu_core::id::{ArtifactId, DomainId, NodeKey};
use quipu_core::node::{Input, LinkRole};
use quipu_core::sync::message::{Message, PROTOCOL_VERSION, Range, Wanted};

use crate::isolation::Crossed;
use crate::machine::Out;
use crate::report::Finding;
use crate::world::World;

/// Somebody who is nowhere a member.
pub(crate) fn stranger() -> NodeKey {
    NodeKey([0x5a; 32])
}

fn hello(domain: DomainId, log: Log) -> Message {
    Message::Hello { version: PROTOCOL_VERSION, domain, log, live: false, invite: None }
}

/// What a frame says, with one artifact's key left out.
fn without(frame: &[u8], key: &ArtifactId) -> Vec<u8> {
    let mut out = frame.to_vec();
    let mut at = 0;
    while at + key.0.len() <= out.len() {
        if out[at..at + key.0.len()] == key.0 {
            out[at..at + key.0.len()].fill(0);
        }
        at += 1;
    }
    out
}

fn is_refusal(frames: &[Vec<u8>]) -> bool {
    let refused = |frame: &Vec<u8>| matches!(Message::decode(frame), Ok(Message::Refuse { .. }));
    frames.len() == 1 && frames.iter().all(refused)
}

impl World {
    /// A stranger, or a machine of another domain, asks some machine.
    pub(crate) fn question_somebody(&mut self) -> Result<(), Finding> {
        let hosts = self.hosts();
        let host = self.federation.rng.index(hosts);
        let other = self.federation.rng.index(hosts);
        let domain = self.federation.rng.index(self.federation.domains.len());
        let foreign = self.federation.homes[other] != self.federation.homes[host];
        let asks = if foreign { self.machines[other].node } else { stranger() };
        self.question(host, domain, asks)
    }

    /// Everybody is asked about everything that is published there.
    pub(crate) fn question_all(&mut self) -> Result<(), Finding> {
        for host in (0..self.hosts()).filter(|host| !self.is_hostile(*host)).collect::<Vec<_>>() {
            for domain in 0..self.federation.domains.len() {
                self.question(host, domain, stranger())?;
            }
        }
        Ok(())
    }

    fn question(&mut self, host: usize, domain: usize, asks: NodeKey) -> Result<(), Finding> {
        if self.machines[host].driver.is_none() {
            return Ok(());
        }
        self.ask_for_members_only(host, asks)?;
        // What is on its way decides first.
        for part in self.parts_of(host) {
            let turn = self.machines[part].turn(self.now);
            self.take(turn)?;
        }
        let part = self.federation.part(domain, host);
        if !self.machines[part].has_log() {
            return self.ask_of_nothing(host, domain, asks);
        }
        if !self.may_read(part, &asks) {
            return self.ask_at_the_door(host, part, asks);
        }
        let Some(secret) = self.secret_of(host, part)? else { return Ok(()) };
        self.ask_for_artifact(part, asks, secret)
    }

    /// Whether a peer may read a published log, as its keeper knows it. Worked out here, from what the log
    /// says.
    fn may_read(&self, part: usize, peer: &NodeKey) -> bool {
        let dag = self.machines[part].driver.as_ref().and_then(|driver| driver.node().dag());
        let Some(authority) = dag.map(|dag| dag.authority()) else { return false };
        authority.role(peer).is_some()
            || authority.access().allows(peer)
            || self.circle_of(self.machines[part].host).contains(peer)
            || self.let_in(part).contains(peer)
    }

    /// An artifact whose bytes are on a machine, but not for the published log in question.
    fn secret_of(&mut self, host: usize, part: usize) -> Result<Option<ArtifactId>, Finding> {
        let home = self.federation.homes[host];
        let known = self.federation.contents[home].clone();
        let (Some(own), Some(public)) = (&self.machines[host].driver, &self.machines[part].store)
        else {
            return Ok(None);
        };
        let mut secret: Vec<ArtifactId> = known
            .into_iter()
            .filter(|key| own.held().artifact_size(key).is_ok_and(|size| size.is_some()))
            .filter(|key| public.contains(key).unwrap_or(false))
            .collect();
        let Some(driver) = self.machines[part].driver.as_mut() else { return Ok(None) };
        let told = driver.catch_up().and_then(|state| Ok(state.current().artifacts()?));
        let Some(told) = self.unless_stopped(part, told)? else { return Ok(None) };
        secret.retain(|key| !told.contains_key(key));
        // What is given to the log and not yet told is not secret any more.
        if self.machines[part].domain == self.machines[host].domain {
            secret.retain(|key| !self.federation.shown.contains_key(key));
        }
        Ok(self.federation.rng.pick(&secret).copied())
    }

    /// An internal log is for members only.
    fn ask_for_members_only(&mut self, host: usize, asks: NodeKey) -> Result<(), Finding> {
        let domain = self.machines[host].domain;
        let joined = self.circle_of(host);
        if joined.contains(&asks) {
            return Ok(());
        }
        let heard = self.ask(host, asks, &[hello(domain, Log::Internal)])?;
        if is_refusal(&heard) {
            return Ok(());
        }
        let text = format!("machine {host} answers {} frames", heard.len());
        Err(Finding::new("an internal log is shown to a stranger", text))
    }

    /// A log that is not kept, and one of which nothing is here yet.
    fn ask_of_nothing(&mut self, host: usize, domain: usize, asks: NodeKey) -> Result<(), Finding> {
        let domain = self.federation.domains[domain];
        let unknown = DomainId(self.federation.rng.bytes());
        let one = self.ask(host, asks, &[hello(domain, Log::Published)])?;
        let other = self.ask(host, asks, &[hello(unknown, Log::Published)])?;
        self.compare(
            host,
            (&one[..], &other[..]),
            "a log that is not kept is told from an unknown one",
        )
    }

    /// A log that is kept and not shown to the peer.
    fn ask_at_the_door(&mut self, host: usize, part: usize, asks: NodeKey) -> Result<(), Finding> {
        let unknown = DomainId(self.federation.rng.bytes());
        let domain = self.machines[part].domain;
        let one = self.ask(part, asks, &[hello(domain, Log::Published)])?;
        let other = self.ask(host, asks, &[hello(unknown, Log::Published)])?;
        self.compare(part, (&one[..], &other[..]), "a log is shown to whoever may not see it")
    }

    fn compare(
        &mut self,
        machine: usize,
        (one, other): (&[Vec<u8>], &[Vec<u8>]),
        what: &str,
    ) -> Result<(), Finding> {
        self.federation.questions += 1;
        let lengths = |frames: &[Vec<u8>]| frames.iter().map(Vec::len).collect::<Vec<_>>();
        if is_refusal(one) && lengths(one) == lengths(other) {
            return Ok(());
        }
        let text = format!("machine {machine}: {:?} and {:?}", lengths(one), lengths(other));
        Err(Finding::new(what, text))
    }

    /// The same questions about what is internal and about what does not exist.
    fn ask_for_artifact(
        &mut self,
        part: usize,
        asks: NodeKey,
        secret: ArtifactId,
    ) -> Result<(), Finding> {
        let unknown = ArtifactId(self.federation.rng.bytes());
        let author: [u8; 5] = self.federation.rng.bytes();
        let domain = self.machines[part].domain;
        let mut heard = Vec::new();
        for key in [secret, unknown] {
            let range = Range { author, above: 0 };
            let frames = [
                hello(domain, Log::Published),
                Message::Ask { ask: 1, keys: vec![key] },
                Message::Get { key, groups: 0..1 },
                Message::Want { round: 0, plain: true, wanted: Wanted::Ranges(vec![range]) },
            ];
            let answers = self.ask(part, asks, &frames)?;
            heard.push(answers.iter().map(|frame| without(frame, &key)).collect::<Vec<_>>());
        }
        self.federation.questions += 1;
        if heard[0] == heard[1] {
            let (at, from) = (self.now, part);
            let crossed = heard.concat().into_iter().map(|bytes| Crossed { at, from, bytes });
            self.federation.crossed.extend(crossed);
            return Ok(());
        }
        let lengths = |frames: &[Vec<u8>]| frames.iter().map(Vec::len).collect::<Vec<_>>();
        let text = format!(
            "machine {part}, {secret}: {:?}, of what does not exist {:?}",
            lengths(&heard[0]),
            lengths(&heard[1])
        );
        Err(Finding::new("an answer tells of an internal artifact", text))
    }

    /// Opens a link to a machine as somebody, says some frames, and answers what it said.
    fn ask(
        &mut self,
        machine: usize,
        peer: NodeKey,
        frames: &[Message],
    ) -> Result<Vec<Vec<u8>>, Finding> {
        let link = self.next_link;
        self.next_link += 1;
        let on = &mut self.machines[machine];
        on.inbox.push(Input::LinkUp { link, peer, role: LinkRole::Responder });
        let said = frames.iter().map(|frame| Input::Frame { link, bytes: frame.encode() });
        on.inbox.extend(said);
        let mut heard = self.turn_beside(machine, link)?;
        if self.machines[machine].driver.is_some() {
            let reason = "the stranger is gone".to_owned();
            self.machines[machine].inbox.push(Input::LinkDown { link, reason });
            heard.extend(self.turn_beside(machine, link)?);
        }
        Ok(heard)
    }

    /// A turn of its own, of which what goes over one link is answered.
    fn turn_beside(&mut self, machine: usize, link: u64) -> Result<Vec<Vec<u8>>, Finding> {
        let now = self.now;
        let mut turn = self.machines[machine].turn(now);
        let mut heard = Vec::new();
        let mut outs = Vec::new();
        for out in turn.outs {
            match out {
                Out::Send { link: of, bytes } if of == link => heard.push(bytes),
                Out::Close { link: of, .. } if of == link => {}
                other => outs.push(other),
            }
        }
        turn.outs = outs;
        self.take(turn)?;
        Ok(heard)
    }
}
