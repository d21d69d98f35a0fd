//! Strangers that ask for what is none of their business. What they hear of something internal must be
//! what they hear of something that does not exist, to the byte.

use quipu_core::event::Log;
use quipu_core::history::History;
use quipu_core::id::{ArtifactId, DomainId, EventId, LogDigest, NodeKey};
use quipu_core::node::{Input, LinkRole};
use quipu_core::sketch::Item;
use quipu_core::sync::frontier::Frontier;
use quipu_core::sync::message::{AuthorTag, Message, PROTOCOL_VERSION, Range, Wanted};

use crate::isolation::item_of;
use crate::machine::Out;
use crate::report::Finding;
use crate::rng::Rng;
use crate::things::unreadable;
use crate::world::World;

/// Somebody who is nowhere a member.
pub(crate) fn stranger() -> NodeKey {
    NodeKey([0x5a; 32])
}

fn hello(domain: DomainId, log: Log) -> Message {
    Message::Hello { version: PROTOCOL_VERSION, domain, log, live: false, invite: None }
}

/// What somebody asks about: names of something internal, or made up.
#[derive(Debug, Clone, Copy)]
struct Target {
    key: ArtifactId,
    /// A member that publishes nothing.
    author: AuthorTag,
    /// The end of its feed.
    item: Item,
    digest: LogDigest,
}

impl Target {
    /// Something that does not exist.
    fn unknown(rng: &mut Rng) -> Self {
        Self {
            key: ArtifactId(rng.bytes()),
            author: rng.bytes(),
            item: Item(rng.bytes()),
            digest: LogDigest(rng.bytes()),
        }
    }

    /// All that can be asked about it, one by one.
    fn questions(&self) -> Vec<Message> {
        let Self { key, author, item, digest } = *self;
        let ranges = |above| Wanted::Ranges(vec![Range { author, above }]);
        let mut met = [0; 8];
        met.copy_from_slice(&digest.0[..8]);
        let compare = |met| Message::Compare { round: 1, attempt: 0, digest, count: 9, met };
        vec![
            Message::Ask { ask: 1, keys: vec![key] },
            Message::Get { key, groups: 0..1 },
            Message::Get { key, groups: 1 << 20..(1 << 20) + 1 },
            Message::Lack { key },
            Message::Offer { ask: 0, entries: vec![(key, 1)] },
            Message::Want { round: 0, plain: true, wanted: ranges(0) },
            Message::Want { round: 0, plain: true, wanted: ranges(1) },
            Message::Tips(vec![item]),
            compare(None),
            compare(Some(met)),
            Message::Level { round: 1, digest },
            Message::End { round: 1, digest },
        ]
    }

    /// What a frame says, with the names left out that it only says again.
    fn blanked(&self, frame: &[u8]) -> Vec<u8> {
        let mut out = frame.to_vec();
        let names =
            [&self.key.0[..], &self.digest.0, &self.item.0, &self.digest.0[..8], &self.author];
        for name in names {
            for at in 0..(out.len() + 1).saturating_sub(name.len()) {
                if out[at..at + name.len()] == *name {
                    out[at..at + name.len()].fill(0);
                }
            }
        }
        out
    }
}

/// Questions that name nothing. Whoever is turned away gets no answer to them.
fn plain_questions() -> [Message; 2] {
    [Message::Want { round: 0, plain: true, wanted: Wanted::Everything }, Message::AskState]
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
        let secret = self.secret_of(host, part)?;
        self.ask_for_secrets(host, part, asks, secret)
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
        let [all, state] = plain_questions();
        let heard = self.ask(host, asks, &[hello(domain, Log::Internal), all, state])?;
        if is_refusal(&heard) {
            return self.ask_unintroduced(host, asks);
        }
        let text = format!("machine {host} answers {} frames", heard.len());
        Err(Finding::new("an internal log is shown to a stranger", text))
    }

    /// Who does not say who it is, is told nothing.
    fn ask_unintroduced(&mut self, host: usize, asks: NodeKey) -> Result<(), Finding> {
        let secret = self.target_of(host, None)?;
        let unknown = Target::unknown(&mut self.federation.rng);
        self.compare_answers(host, asks, None, (secret, unknown))
    }

    /// A log that is not kept, and one of which nothing is here yet.
    fn ask_of_nothing(&mut self, host: usize, domain: usize, asks: NodeKey) -> Result<(), Finding> {
        let domain = self.federation.domains[domain];
        let what = "a log that is not kept is told from an unknown one";
        self.ask_for_log(host, (host, domain), asks, what)
    }

    /// A log that is kept and not shown to the peer.
    fn ask_at_the_door(&mut self, host: usize, part: usize, asks: NodeKey) -> Result<(), Finding> {
        let domain = self.machines[part].domain;
        let what = "a log is shown to whoever may not see it";
        self.ask_for_log(host, (part, domain), asks, what)
    }

    /// Asks for a published log and for an unknown one.
    fn ask_for_log(
        &mut self,
        host: usize,
        (part, domain): (usize, DomainId),
        asks: NodeKey,
        what: &str,
    ) -> Result<(), Finding> {
        let unknown = DomainId(self.federation.rng.bytes());
        let mut heard = Vec::new();
        for (machine, domain) in [(part, domain), (host, unknown)] {
            let [all, state] = plain_questions();
            heard.push(self.ask(machine, asks, &[hello(domain, Log::Published), all, state])?);
        }
        self.compare(part, (&heard[0], &heard[1]), what)
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

    /// Something internal of a machine. The artifact is the given one, or any that nobody published.
    fn target_of(&mut self, host: usize, key: Option<ArtifactId>) -> Result<Target, Finding> {
        let mut target = Target::unknown(&mut self.federation.rng);
        let shown = &self.federation.shown;
        let home = self.federation.homes[host];
        let mut hidden =
            self.federation.contents[home].iter().filter(|key| !shown.contains_key(*key));
        target.key = key.or(hidden.next().copied()).unwrap_or(target.key);
        let domain = self.machines[host].domain;
        let Some(driver) = self.machines[host].driver.as_mut() else { return Ok(target) };
        target.digest = driver.node_mut().digest();
        let count = driver.held().count(Log::Internal);
        if count > 1 {
            let ordinal = 1 + self.federation.rng.below(count - 1);
            let place = driver.held().place(Log::Internal, ordinal).map_err(unreadable)?;
            target.item =
                item_of(&Frontier::new(&domain), place.head.author, place.head.seq, place.id);
        }
        Ok(target)
    }

    /// A reader of a published log asks there for what is internal.
    fn ask_for_secrets(
        &mut self,
        host: usize,
        part: usize,
        asks: NodeKey,
        secret: Option<ArtifactId>,
    ) -> Result<(), Finding> {
        let unknown = Target::unknown(&mut self.federation.rng);
        let mut target = self.target_of(host, secret)?;
        // An artifact of this domain may be told of in another one's log.
        target.key = secret.unwrap_or(unknown.key);
        let author = self.silent_member(host, part);
        let domain = self.machines[part].domain;
        if let Some(node) = author {
            let item =
                item_of(&Frontier::new(&domain), node, 1, EventId(self.federation.rng.bytes()));
            let tag = target.author.len();
            target.author.copy_from_slice(&item.0[..tag]);
        }
        self.compare_answers(part, asks, Some(hello(domain, Log::Published)), (target, unknown))
    }

    /// A member of a machine's domain that wrote nothing to a published log.
    fn silent_member(&self, host: usize, part: usize) -> Option<NodeKey> {
        let dag = self.machines[part].driver.as_ref()?.node().dag()?;
        self.circle_of(host).into_iter().find(|node| dag.ends_of(node).is_empty())
    }

    /// The same questions about what is internal and about what does not exist, each on a link of its own.
    fn compare_answers(
        &mut self,
        machine: usize,
        asks: NodeKey,
        first: Option<Message>,
        (secret, unknown): (Target, Target),
    ) -> Result<(), Finding> {
        for (one, other) in secret.questions().into_iter().zip(unknown.questions()) {
            let mut heard = Vec::new();
            for (target, question) in [(secret, &one), (unknown, &other)] {
                let frames: Vec<Message> = first.iter().chain([question]).cloned().collect();
                let answers = self.ask(machine, asks, &frames)?;
                let answers = answers.iter().map(|frame| target.blanked(frame));
                heard.push(answers.collect::<Vec<_>>());
            }
            self.federation.questions += 1;
            if heard[0] != heard[1] {
                let said = |frames: &[Vec<u8>]| {
                    let said =
                        frames.iter().map(|frame| format!("{:.200?}", Message::decode(frame)));
                    said.collect::<Vec<_>>().join(", ")
                };
                let text = format!(
                    "machine {machine}, {one:?}: {}; of what does not exist: {}",
                    said(&heard[0]),
                    said(&heard[1])
                );
                return Err(Finding::new("an answer tells of something internal", text));
            }
            for frame in heard.concat() {
                self.note_crossed(machine, frame);
            }
        }
        Ok(())
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
