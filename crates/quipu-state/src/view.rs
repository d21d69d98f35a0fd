//! What the state at one root says: artifacts with their claims, edges, conflicts.

use std::collections::{BTreeMap, BTreeSet};

use quipu_core::event::LogSeq;
use quipu_core::execution::{Announcement, Execution, Offer, RunRequest};
use quipu_core::id::{ArtifactId, DomainId, EventId, RunKey, Subject};
use quipu_core::kind;
use quipu_core::state::StateHash;
use quipu_core::statement::{Claim, EdgeKey, EdgeRole, End, Statement};
use quipu_core::{subject, value};

use crate::error::StateError;
use crate::pages::Pages;
use crate::record::{self, Record, kind_of};
use crate::refs::{self, Side};
use crate::tree::{self, Entry, Node};

/// The state at one root.
#[derive(Debug, Clone, Copy)]
pub struct View<'a> {
    pub(crate) pages: &'a Pages,
    pub(crate) winners: Node,
    pub(crate) refs: Node,
}

/// A claim, and the event that made it last.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Candidate {
    /// What is claimed.
    pub claim: Claim,
    /// Its fold key.
    pub subject: Subject,
    /// The event.
    pub id: EventId,
    /// Its clock.
    pub logseq: LogSeq,
    /// Where it comes from, if another domain published it.
    pub origin: Option<Origin>,
}

/// Where an imported artifact comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Origin {
    /// The domain that published it.
    pub domain: DomainId,
    /// The published snapshot that it is pinned to.
    pub snapshot: EventId,
}

/// What the state says of an artifact.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Artifact {
    /// The artifact.
    pub key: ArtifactId,
    /// Claims that no tombstone shadows, in replay order. None if it is hidden.
    pub candidates: Vec<Candidate>,
    /// The latest tombstone.
    pub tombstone: Option<(LogSeq, EventId)>,
    /// Whether somebody pinned it.
    pub pinned: bool,
    /// The published snapshot that it is pinned to, if it was published from here.
    pub published: Option<EventId>,
    resolution: Option<Box<Resolution>>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct Resolution {
    keep: Claim,
    seen: Vec<Subject>,
    id: EventId,
}

/// Claims that disagree.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Conflict {
    /// The artifact.
    pub key: ArtifactId,
    /// The claims, in replay order.
    pub candidates: Vec<Candidate>,
    /// The claim that counts.
    pub counts: Claim,
    /// The event that decided so; nothing if the rule did.
    pub resolved_by: Option<EventId>,
}

/// An edge of the trace graph.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Edge {
    /// Its names.
    pub key: EdgeKey,
    /// Which ends carry its meaning.
    pub role: EdgeRole,
    /// The event that says so.
    pub id: EventId,
    /// Its clock.
    pub logseq: LogSeq,
}

/// Something that is said of programs, and the event that says it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Said {
    /// The event.
    pub id: EventId,
    /// Its clock.
    pub logseq: LogSeq,
    /// What it says.
    pub what: Execution,
}

impl Artifact {
    pub(crate) fn new(key: ArtifactId) -> Self {
        Self {
            key,
            candidates: Vec::new(),
            tombstone: None,
            pinned: false,
            published: None,
            resolution: None,
        }
    }

    /// Takes in what a winner says of it.
    pub(crate) fn take(&mut self, record: Record) {
        let Record { subject, id, logseq, statement } = record;
        match statement {
            Statement::Put(claim) => {
                self.candidates.push(Candidate { claim, subject, id, logseq, origin: None });
            }
            Statement::Import { claim, domain, snapshot } => {
                let origin = Some(Origin { domain, snapshot });
                self.candidates.push(Candidate { claim, subject, id, logseq, origin });
            }
            Statement::TombstoneArtifact(_) => self.tombstone = Some((logseq, id)),
            Statement::Pin { held, .. } => self.pinned = held,
            Statement::Publish { snapshot, .. } => self.published = Some(snapshot),
            Statement::Resolve { keep, seen } => {
                self.resolution = Some(Box::new(Resolution { keep, seen, id }));
            }
            _ => {}
        }
    }

    /// Sorts the claims, and leaves out those that the tombstone shadows. A later claim revives the
    /// artifact.
    pub(crate) fn settle(&mut self) {
        if let Some(tombstone) = self.tombstone {
            self.candidates.retain(|one| (one.logseq, one.id) > tombstone);
        }
        self.candidates.sort_unstable_by_key(|one| (one.logseq, one.id));
    }

    /// Whether it is to be seen.
    pub fn is_visible(&self) -> bool {
        !self.candidates.is_empty()
    }

    /// Whether claims disagree: several sizes, or several type tags. A claim without a tag agrees
    /// with any.
    pub fn is_contested(&self) -> bool {
        let mut tags: Vec<&str> =
            self.candidates.iter().filter_map(|one| one.claim.type_tag.as_deref()).collect();
        tags.sort_unstable();
        tags.dedup();
        let size = self.candidates.first().map(|one| one.claim.size);
        tags.len() > 1 || self.candidates.iter().any(|one| Some(one.claim.size) != size)
    }

    /// Whether claims disagree and nobody has decided.
    pub fn is_undecided(&self) -> bool {
        self.is_contested() && self.decided().is_none()
    }

    /// The decision about its claims, unless one came up that it did not know.
    fn decided(&self) -> Option<&Resolution> {
        self.resolution.as_deref().filter(|resolution| {
            let known = |one: &Candidate| resolution.seen.contains(&one.subject);
            self.candidates.iter().all(known)
                && self.candidates.iter().any(|one| one.claim == resolution.keep)
        })
    }

    /// The claim that counts: the one decided for, else the first that names a type, else the
    /// first. A claim stands where the last event stands that makes it.
    pub fn counts(&self) -> Option<&Claim> {
        if let Some(resolution) = self.decided() {
            return Some(&resolution.keep);
        }
        let typed = self.candidates.iter().find(|one| one.claim.type_tag.is_some());
        typed.or(self.candidates.first()).map(|one| &one.claim)
    }

    /// Where it comes from, if it was imported: the first import in replay order.
    pub fn origin(&self) -> Option<Origin> {
        self.candidates.iter().find_map(|one| one.origin)
    }

    /// The claim that counts of those that were not just imported.
    pub fn put_claim(&self) -> Option<&Claim> {
        let mut put = self.candidates.iter().filter(|one| one.origin.is_none());
        let counts = self.counts()?;
        let first = put.next()?;
        let same = std::iter::once(first).chain(put).find(|one| one.claim == *counts);
        Some(&same.unwrap_or(first).claim)
    }

    /// Whether it is to be seen, and not just because it was imported.
    pub fn is_put(&self) -> bool {
        self.candidates.iter().any(|one| one.origin.is_none())
    }

    /// The clock and event of the claim that counts.
    pub fn since(&self) -> Option<(LogSeq, EventId)> {
        let counts = self.counts()?;
        let one = self.candidates.iter().find(|one| one.claim == *counts)?;
        Some((one.logseq, one.id))
    }

    /// The conflict about it, if there is one.
    pub fn conflict(&self) -> Option<Conflict> {
        if !self.is_contested() {
            return None;
        }
        Some(Conflict {
            key: self.key,
            candidates: self.candidates.clone(),
            counts: self.counts()?.clone(),
            resolved_by: self.decided().map(|resolution| resolution.id),
        })
    }
}

impl<'a> View<'a> {
    /// The root.
    pub fn root(&self) -> StateHash {
        self.winners.hash
    }

    /// How many fold keys there are.
    pub fn entries(&self) -> u64 {
        self.winners.count
    }

    /// The winner of a fold key.
    ///
    /// # Errors
    /// If the pages are damaged.
    pub fn winner(&self, subject: &Subject) -> Result<Option<Entry>, StateError> {
        tree::find(self.pages, &self.winners, subject)
    }

    /// All winners, sorted by fold key.
    ///
    /// # Errors
    /// If the pages are damaged.
    pub fn visit(&self, see: &mut dyn FnMut(&Entry)) -> Result<(), StateError> {
        tree::visit(self.pages, &self.winners, see)
    }

    /// The record of a winner, if one is kept of its kind.
    pub(crate) fn record(&self, entry: &Entry) -> Result<Option<Record>, StateError> {
        match record::is_kept(entry.content) {
            false => Ok(None),
            true => record::read(self.pages, entry.content).map(Some),
        }
    }

    /// What a winner says, if it is of one of quipu's data kinds.
    ///
    /// # Errors
    /// If the pages are damaged.
    pub fn statement(&self, entry: &Entry) -> Result<Option<Statement>, StateError> {
        Ok(self.record(entry)?.map(|record| record.statement))
    }

    /// The records of a list that are winners here; only those of a side, if one is named.
    fn current(
        &self,
        about: &Subject,
        only: Option<Side>,
    ) -> Result<Vec<(Record, u8)>, StateError> {
        let mut out = Vec::new();
        for (content, side) in refs::list(self.pages, &self.refs, about)? {
            if only.is_some() && Side::of_code(side) != only {
                continue;
            }
            let record = record::read(self.pages, content)?;
            let winner = self.winner(&record.subject)?;
            if winner.is_some_and(|winner| winner.id == record.id) {
                out.push((record, side));
            }
        }
        // A state that was folded from a cut may have written a record again.
        out.sort_by_key(|(record, side)| (record.logseq, record.id, *side));
        out.dedup_by_key(|(record, side)| (record.id, *side));
        Ok(out)
    }

    /// What is said of an artifact; nothing if nothing ever was.
    ///
    /// # Errors
    /// If the pages are damaged.
    pub fn artifact(&self, key: &ArtifactId) -> Result<Option<Artifact>, StateError> {
        let facts = self.current(&refs::facts_of(key), None)?;
        if facts.is_empty() {
            return Ok(None);
        }
        let mut artifact = Artifact::new(*key);
        facts.into_iter().for_each(|(record, _)| artifact.take(record));
        artifact.settle();
        Ok(Some(artifact))
    }

    /// All artifacts that anything is said of, hidden ones too, by key.
    ///
    /// # Errors
    /// If the pages are damaged.
    pub fn artifacts(&self) -> Result<BTreeMap<ArtifactId, Artifact>, StateError> {
        let mut out: BTreeMap<ArtifactId, Artifact> = BTreeMap::new();
        let mut damaged = None;
        self.visit(&mut |entry| {
            let about_artifacts = kind_of(entry).is_some_and(|kind| {
                kind.starts_with("artifact.") || kind == kind::CONFLICT_RESOLVE
            });
            if !about_artifacts {
                return;
            }
            match self.record(entry) {
                Ok(Some(record)) => {
                    if let Some(key) = artifact_in(&record.statement) {
                        out.entry(key).or_insert_with(|| Artifact::new(key)).take(record);
                    }
                }
                Ok(None) => {}
                Err(error) => damaged = Some(error),
            }
        })?;
        if let Some(error) = damaged {
            return Err(error);
        }
        out.values_mut().for_each(Artifact::settle);
        Ok(out)
    }

    /// The edge of a winner, if it is one.
    ///
    /// # Errors
    /// If the pages are damaged.
    pub fn edge(&self, entry: &Entry) -> Result<Option<Edge>, StateError> {
        if kind_of(entry) != Some(kind::EDGE_ADD) {
            return Ok(None);
        }
        Ok(self.record(entry)?.and_then(edge_of))
    }

    /// The edges at an end, with the side on which it stands, in replay order.
    ///
    /// # Errors
    /// If the pages are damaged.
    pub fn edges_at(&self, end: &End) -> Result<Vec<(Edge, Side)>, StateError> {
        self.edges_on(end, None)
    }

    /// The same, on one side only if one is named.
    pub(crate) fn edges_on(
        &self,
        end: &End,
        only: Option<Side>,
    ) -> Result<Vec<(Edge, Side)>, StateError> {
        let records = self.current(&refs::edges_at(end), only)?.into_iter();
        Ok(records
            .filter_map(|(record, side)| Some((edge_of(record)?, Side::of_code(side)?)))
            .collect())
    }

    /// The domains whose published logs are to be kept, sorted.
    ///
    /// # Errors
    /// If the pages are damaged.
    pub fn follows(&self) -> Result<BTreeSet<DomainId>, StateError> {
        let said = self.current(&refs::follows(), None)?.into_iter();
        Ok(said
            .filter_map(|(record, _)| match record.statement {
                Statement::Follow(domain) => Some(domain),
                _ => None,
            })
            .collect())
    }

    /// What is said of a run or a step, in replay order: announcements of receipts, and claims.
    ///
    /// # Errors
    /// If the pages are damaged.
    pub fn work_on(&self, run: &RunKey) -> Result<Vec<Said>, StateError> {
        self.executions(&refs::work_on(run))
    }

    /// All announcements of receipts, in replay order.
    ///
    /// # Errors
    /// If the pages are damaged.
    pub fn announcements(&self) -> Result<Vec<(Said, Announcement)>, StateError> {
        let said = self.executions(&refs::announcements())?.into_iter();
        Ok(said
            .filter_map(|said| match said.what.clone() {
                Execution::Announce(one) => Some((said, one)),
                _ => None,
            })
            .collect())
    }

    /// What is wanted to be run, in replay order.
    ///
    /// # Errors
    /// If the pages are damaged.
    pub fn requests(&self) -> Result<Vec<RunRequest>, StateError> {
        let said = self.executions(&refs::requests())?.into_iter();
        Ok(said
            .filter_map(|said| match said.what {
                Execution::Request(one) => Some(one),
                _ => None,
            })
            .collect())
    }

    /// What machines offer, in replay order.
    ///
    /// # Errors
    /// If the pages are damaged.
    pub fn offers(&self) -> Result<Vec<Offer>, StateError> {
        let said = self.executions(&refs::offers())?.into_iter();
        Ok(said
            .filter_map(|said| match said.what {
                Execution::Offer(one) => Some(one),
                _ => None,
            })
            .collect())
    }

    fn executions(&self, about: &Subject) -> Result<Vec<Said>, StateError> {
        let said = self.current(about, None)?.into_iter();
        Ok(said
            .filter_map(|(record, _)| match record.statement {
                Statement::Execution(what) => {
                    Some(Said { id: record.id, logseq: record.logseq, what })
                }
                _ => None,
            })
            .collect())
    }

    /// The artifacts that are to be seen, by key.
    ///
    /// # Errors
    /// If the pages are damaged.
    pub fn visible(&self) -> Result<Vec<ArtifactId>, StateError> {
        let all = self.artifacts()?.into_values();
        Ok(all.filter(Artifact::is_visible).map(|artifact| artifact.key).collect())
    }

    /// How many edges there are.
    ///
    /// # Errors
    /// If the pages are damaged.
    pub fn edge_count(&self) -> Result<u64, StateError> {
        let mut edges = 0;
        self.visit(&mut |entry| edges += u64::from(kind_of(entry) == Some(kind::EDGE_ADD)))?;
        Ok(edges)
    }

    /// Whether somebody said that a snapshot may go.
    ///
    /// # Errors
    /// If the pages are damaged.
    pub fn is_dropped(&self, snapshot: &EventId) -> Result<bool, StateError> {
        let (kind, said) = Statement::DropSnapshot(*snapshot).to_value();
        let mut bytes = Vec::new();
        value::encode(&said, &mut bytes);
        match subject::subject_of(kind, &bytes) {
            Some(subject) => Ok(self.winner(&subject)?.is_some()),
            None => Ok(false),
        }
    }

    /// The conflicts, by key of the artifact, decided ones too.
    ///
    /// # Errors
    /// If the pages are damaged.
    pub fn conflicts(&self) -> Result<Vec<Conflict>, StateError> {
        Ok(self.artifacts()?.values().filter_map(Artifact::conflict).collect())
    }
}

/// The artifact that a statement is about.
pub(crate) fn artifact_in(statement: &Statement) -> Option<ArtifactId> {
    match statement {
        Statement::Put(claim)
        | Statement::Import { claim, .. }
        | Statement::Resolve { keep: claim, .. } => Some(claim.key),
        Statement::TombstoneArtifact(key)
        | Statement::Pin { key, .. }
        | Statement::Publish { key, .. } => Some(*key),
        _ => None,
    }
}

/// The edge that a record says.
pub(crate) fn edge_of(record: Record) -> Option<Edge> {
    match record.statement {
        Statement::Edge(key, role) => {
            Some(Edge { key, role, id: record.id, logseq: record.logseq })
        }
        _ => None,
    }
}
