//! What somebody at this machine wants.

use std::collections::VecDeque;
use std::sync::Arc;

use bytes::Bytes;

use super::{Effect, Flow, Node, RequestId};
use crate::codec::v1;
use crate::dag::{Rule, Step};
use crate::domain::{Decision, Role, block_of};
use crate::event::{Draft, Event, Log, LogSeq, Parents, VerifiedEvent, is_signature_place};
use crate::history::History;
use crate::id::{ArtifactId, DomainId, EventId, LogDigest, NodeKey};
use crate::kind;
use crate::limits::SALT_BYTES_MAX;
use crate::statement::Statement;
use crate::sync::message::Refusal;
use crate::sync::session::Traffic;
use crate::value::Value;

/// A request to this machine.
#[derive(Debug)]
pub enum Command {
    /// Append events, each linked to the one before. Payload values are canonical DAG-CBOR.
    Emit(Vec<(Arc<str>, Bytes)>),
    /// Append a decision about the domain.
    Decide(Decision),
    /// Append what quipu itself says of artifacts, edges and conflicts.
    Say(Vec<Statement>),
    /// Append what quipu's own commands say in kinds that the core gives no meaning to: reserved kinds with payload
    /// values. The caller answers for their form.
    Tell(Vec<(&'static str, Value)>),
    /// Append a snapshot of the log as it is at this digest: refused if it has moved on, or has more
    /// leaves than an event may link to.
    Snapshot {
        /// The digest that the state root belongs to.
        at: LogDigest,
        /// What the snapshot says.
        statement: Statement,
    },
    /// Append merge events until one event can link to all leaves.
    Merge,
    /// Put in authentic events that came as a file.
    Import(Vec<VerifiedEvent>),
    /// Get an artifact from whoever is linked and has it.
    Fetch {
        /// Which.
        key: ArtifactId,
    },
}

/// What became of a request.
#[derive(Debug)]
pub enum Reply {
    /// The events, in the order of the request.
    Emitted(Vec<Emitted>),
    /// How many of the events were new here.
    Imported {
        /// New ones.
        new: u64,
    },
    /// The artifact is here.
    Fetched {
        /// Its size.
        size: u64,
    },
    /// A session is over, or level.
    Synced {
        /// What it took.
        traffic: Traffic,
        /// Whether both sides now hold the same.
        equal: bool,
    },
}

/// An event that this machine wrote.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Emitted {
    /// Its id.
    pub id: EventId,
    /// Its place in this machine's feed.
    pub seq: u64,
    /// Its clock.
    pub logseq: LogSeq,
    /// Its parents.
    pub parents: Parents,
}

/// Why a request was not done.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CommandError {
    /// This machine does not hold the domain yet.
    #[error("this machine holds nothing of domain {0} yet")]
    NotJoined(DomainId),
    /// The kind belongs to quipu.
    #[error("kind {0:?} is reserved")]
    ReservedKind(String),
    /// This machine may not do that.
    #[error("this machine ({node}) is {} of the domain, that takes {}", role_text(*.role), .needed.name())]
    NotEntitled {
        /// This machine.
        node: NodeKey,
        /// What it is.
        role: Option<Role>,
        /// What it would have to be.
        needed: Role,
    },
    /// The event breaks a rule.
    #[error(transparent)]
    Rule(#[from] Rule),
    /// There is no such event here, or its payload cannot be erased.
    #[error("event {0} is not here, or is not one whose payload this machine may erase")]
    CannotErase(EventId),
    /// Only somebody up the grant chain removes an admin, and nobody the founder.
    #[error("this machine may not remove {0}")]
    CannotRemove(NodeKey),
    /// The founder's key is in the root event; and a key that was granted something already is nobody's
    /// new one.
    #[error(
        "this machine's key cannot be replaced by {0}: it is the founder's, or that key is known"
    )]
    CannotReplace(NodeKey),
    /// The log cannot say that.
    #[error("the {} log takes no such decision", .0.name())]
    NotOfLog(Log),
    /// The machine is not a member.
    #[error("{0} is not a member")]
    NotMember(NodeKey),
    /// The peer turned this machine away.
    #[error("{text}")]
    Refused {
        /// Why, for programs.
        refusal: Refusal,
        /// Why, for people.
        text: String,
        /// The domain that the peer holds, if that is the reason.
        domain: Option<DomainId>,
    },
    /// The log has changed since the state was looked at.
    #[error("other events arrived meanwhile")]
    MovedOn,
    /// The link broke.
    #[error("the link to the peer is gone: {0}")]
    LinkLost(String),
    /// An artifact could not be had.
    #[error("artifact {key} is not here: {why}")]
    NotFetched {
        /// Which.
        key: ArtifactId,
        /// Why.
        why: FetchFailure,
    },
}

/// Why an artifact could not be had.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum FetchFailure {
    /// There is no link to anybody.
    #[error("no machine is linked")]
    NoLinks,
    /// All that are linked were asked.
    #[error("no linked machine has it")]
    Lacking,
    /// Those that had it went away, or lost it.
    #[error("the machines that had it are gone")]
    SourcesGone,
    /// Those that claimed to have it sent something else.
    #[error("what {0} sent is something else")]
    BadParts(NodeKey),
    /// Too many artifacts are wanted.
    #[error("too many artifacts are being fetched")]
    Busy,
    /// It could not be kept.
    #[error("{0}")]
    NotKept(String),
}

fn role_text(role: Option<Role>) -> &'static str {
    match role {
        None => "not a member",
        Some(Role::Reader) => "a reader",
        Some(Role::Writer) => "a writer",
        Some(Role::Admin) => "an admin",
    }
}

/// A request that is being worked on.
#[derive(Debug)]
pub(super) struct Job {
    request: RequestId,
    needed: Role,
    drafts: VecDeque<Draft>,
    done: Vec<Emitted>,
    /// Foreign events and how many of them were new, for imports.
    import: Option<u64>,
    /// Only if the log has this digest, and few enough leaves.
    at: Option<LogDigest>,
    /// Write merges until there are few enough leaves.
    merge: bool,
}

impl Node {
    pub(super) fn on_command(
        &mut self,
        request: RequestId,
        command: Command,
        out: &mut Vec<Effect>,
    ) {
        match self.job_of(request, command) {
            Ok(job) => self.jobs.push_back(job),
            Err(error) => out.push(Effect::Reply { request, reply: Err(error) }),
        }
    }

    fn job_of(&mut self, request: RequestId, command: Command) -> Result<Job, CommandError> {
        let salt_bytes = match (&command, &self.dag) {
            (Command::Import(_), _) => 0,
            (_, Some(dag)) => dag.parameters().salt_bytes,
            (_, None) => return Err(CommandError::NotJoined(self.domain)),
        };
        let mut job = Job {
            request,
            needed: Role::Writer,
            drafts: VecDeque::new(),
            done: Vec::new(),
            import: None,
            at: None,
            merge: false,
        };
        match command {
            Command::Emit(events) => {
                for (kind, value) in events {
                    if kind::is_reserved(&kind) {
                        return Err(CommandError::ReservedKind(kind.to_string()));
                    }
                    let payload = v1::payload_block(self.salt(salt_bytes).as_ref(), &value);
                    job.drafts.push_back(Draft { log: self.log, kind, payload });
                }
            }
            Command::Decide(decision) => {
                self.check_decision(&decision)?;
                let own = matches!(decision, Decision::Erase { .. } | Decision::Replace { .. });
                job.needed = if own { Role::Writer } else { Role::Admin };
                job.drafts.push_back(self.draft_of(&decision));
            }
            Command::Say(statements) => {
                for statement in &statements {
                    job.drafts.push_back(self.draft_saying(statement.to_value()));
                }
            }
            Command::Tell(said) => {
                for (kind, value) in said {
                    job.drafts.push_back(self.draft_saying((kind, value)));
                }
            }
            Command::Snapshot { at, statement } => {
                job.at = Some(at);
                job.drafts.push_back(self.draft_saying(statement.to_value()));
            }
            Command::Merge => job.merge = true,
            // Told apart before.
            Command::Fetch { .. } => {}
            Command::Import(events) => {
                let held = self.dag.as_ref().map_or(0, crate::dag::Dag::held);
                job.import = Some(held);
                self.inbox.extend(events.into_iter().map(|event| (None, event)));
            }
        }
        Ok(job)
    }

    /// Refuses decisions that would have no effect.
    fn check_decision(&self, decision: &Decision) -> Result<(), CommandError> {
        if !decision.is_of(self.log) {
            return Err(CommandError::NotOfLog(self.log));
        }
        let Some(dag) = &self.dag else { return Ok(()) };
        if let Decision::Replace { node, .. } = decision
            && (dag.authority().founder() == self.node || !dag.authority().is_stranger(node))
        {
            return Err(CommandError::CannotReplace(*node));
        }
        if let Decision::Readmit { node, .. } = decision
            && !dag.authority().may_remove(&self.node, node)
        {
            return Err(CommandError::CannotRemove(*node));
        }
        if let Decision::Remove { node } = decision {
            let authority = dag.authority();
            if authority.role(node).is_none() {
                return Err(CommandError::NotMember(*node));
            }
            if !authority.may_remove(&self.node, node) {
                return Err(CommandError::CannotRemove(*node));
            }
        }
        Ok(())
    }

    pub(super) fn draft_of(&mut self, decision: &Decision) -> Draft {
        self.draft_saying(decision.to_value(self.log))
    }

    fn draft_saying(&mut self, (kind, value): (&'static str, Value)) -> Draft {
        let salt_bytes = self.dag.as_ref().map_or(0, |dag| dag.parameters().salt_bytes);
        let payload = block_of(&value, self.salt(salt_bytes).as_ref());
        Draft { log: self.log, kind: kind.into(), payload }
    }

    /// Fresh random bytes that nobody can guess.
    fn salt(&mut self, length: usize) -> impl AsRef<[u8]> + use<> {
        let mut salt = smallvec::SmallVec::<[u8; SALT_BYTES_MAX]>::from_elem(0, length);
        self.salts.fill(&mut salt);
        salt
    }

    pub(super) fn on_job<H: History>(
        &mut self,
        now: u64,
        mut job: Job,
        history: &H,
        out: &mut Vec<Effect>,
    ) -> Result<Flow, H::Error> {
        let request = job.request;
        if let Some(held) = job.import {
            let new = self.dag.as_ref().map_or(0, crate::dag::Dag::held) - held;
            out.push(Effect::Reply { request, reply: Ok(Reply::Imported { new }) });
            return Ok(Flow::Done);
        }
        if self.reconsider {
            self.jobs.push_front(job);
            return Ok(Flow::Blocked);
        }
        if let Some(error) = self.not_entitled(job.needed) {
            out.push(Effect::Reply { request, reply: Err(error) });
            return Ok(Flow::Done);
        }
        if let Some(at) = job.at
            && (self.digest() != at || self.has_many_leaves())
        {
            out.push(Effect::Reply { request, reply: Err(CommandError::MovedOn) });
            return Ok(Flow::Done);
        }
        while let Some(draft) = self.next_draft(&mut job) {
            match self.write(now, draft, history, out)? {
                Written::Done(emitted) => job.done.push(emitted),
                Written::Blocked(draft) => {
                    job.drafts.push_front(draft);
                    self.jobs.push_front(job);
                    return Ok(Flow::Blocked);
                }
                Written::Refused(error) => {
                    out.push(Effect::Reply { request, reply: Err(error) });
                    return Ok(Flow::Done);
                }
            }
        }
        out.push(Effect::Reply { request, reply: Ok(Reply::Emitted(job.done)) });
        Ok(Flow::Done)
    }

    fn next_draft(&mut self, job: &mut Job) -> Option<Draft> {
        if job.merge && job.drafts.is_empty() && self.has_many_leaves() {
            return Some(self.draft_saying((kind::MERGE, Value::Null)));
        }
        job.drafts.pop_front()
    }

    /// Whether there are more leaves than an event may link to.
    fn has_many_leaves(&self) -> bool {
        self.dag.as_ref().is_some_and(|dag| dag.leaf_count() > dag.parameters().parents_max)
    }

    fn not_entitled(&self, needed: Role) -> Option<CommandError> {
        let role = self.dag.as_ref()?.authority().role(&self.node);
        (role < Some(needed)).then_some(CommandError::NotEntitled { node: self.node, role, needed })
    }

    /// Writes one event of this machine's own.
    pub(super) fn write<H: History>(
        &mut self,
        now: u64,
        draft: Draft,
        history: &H,
        out: &mut Vec<Effect>,
    ) -> Result<Written, H::Error> {
        let Some(dag) = &mut self.dag else { return Ok(Written::Blocked(draft)) };
        let at = dag.next_position(self.node, now);
        let again = draft.clone();
        let event: Event = draft.place(at, &self.domain);
        let mut event = VerifiedEvent::vouched(event);
        let applied = match dag.insert(&event, history)? {
            Step::Applied(applied) => applied,
            Step::Flush => return Ok(Written::Blocked(again)),
            Step::Refused(rule) => return Ok(Written::Refused(rule.into())),
            step @ (Step::Quarantined | Step::Known | Step::Missing(_)) => {
                // It would count nowhere. What decides was learnt already, so it is kept aside as if
                // somebody else had written it.
                if step == Step::Quarantined && kind::is_structural(&event.header.kind) {
                    self.staged.push(event);
                } else if step == Step::Quarantined {
                    dag.take_back(&event);
                }
                let role = dag.authority().role(&self.node);
                let needed = Role::Writer;
                let error = CommandError::NotEntitled { node: self.node, role, needed };
                return Ok(Written::Refused(error));
            }
        };
        if is_signature_place(event.header.seq) {
            event = event.signed(&self.key);
        }
        let head = &event.header.head;
        let (seq, logseq, parents) = (head.seq, head.logseq, head.parents.clone());
        let emitted = Emitted { id: event.id, seq, logseq, parents };
        self.reconsider |= applied.reconsider;
        if let Some(target) = applied.erase
            && let Some(ordinal) = history.find(self.log, &target)?
        {
            out.push(Effect::Erase { log: self.log, ordinal });
        }
        self.staged.push(event);
        Ok(Written::Done(emitted))
    }
}

/// What became of an own event.
#[derive(Debug)]
pub(super) enum Written {
    Done(Emitted),
    /// Append first, then write this.
    Blocked(Draft),
    Refused(CommandError),
}
