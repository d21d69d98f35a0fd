//! The operator TombstoneShadow: from the winner of each fold key to what is to be seen.
//!
//! - An artifact is one row: its claims that no later tombstone shadows, at the place of the claim
//!   that counts. Tombstones, pins and resolutions are part of it and have no row of their own.
//! - An edge is one row. Edge and edge tombstone write one key, so the winner says it.
//! - Any other fold key (cell, record, member, invite) is one row: its winner.
//! - What is of a statement's kind but not well formed has no row, and neither have snapshots that
//!   were dropped.
//!
//! Rows come in replay order. The meaning is that of [`View`](crate::View).

use quipu_core::event::LogSeq;
use quipu_core::history::Ordinal;
use quipu_core::id::{ArtifactId, EventId, IdMap, Subject};
use quipu_core::statement::Statement;

use super::fold::{Candidate, Class, Folded};
use super::segment::in_parallel;
use crate::record::Record;
use crate::view::{Artifact, Edge, artifact_in, edge_of};

/// Winners whose statements one thread reads at a time.
const CHUNK_ROWS: usize = 1 << 14;

/// What a row of the state is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum What {
    /// An artifact that is to be seen.
    Artifact(Box<Artifact>),
    /// An edge.
    Edge(Box<Edge>),
    /// Another fold key.
    Value,
}

/// A row of the state.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Row {
    /// The clock of its event.
    pub logseq: LogSeq,
    /// The event that says it; of an artifact, the one whose claim counts.
    pub id: EventId,
    /// Where the event lies in this machine's log.
    pub ordinal: Ordinal,
    /// The fold key that the event won.
    pub subject: Subject,
    /// Its kind.
    pub kind: &'static str,
    /// What it is.
    pub what: What,
}

impl Row {
    fn of(winner: &Candidate, what: What) -> Self {
        let Candidate { subject, id, logseq, ordinal, .. } = *winner;
        Self { logseq, id, ordinal, subject, kind: winner.kind(), what }
    }

    /// Its place in the replay order.
    pub fn order(&self) -> (LogSeq, EventId) {
        (self.logseq, self.id)
    }
}

/// The winners of all fold keys, sorted by key: where each lies in the folds of the shards.
#[derive(Debug)]
pub(crate) struct Winners {
    pub(crate) shards: Vec<Folded>,
    /// Shard, and row of it.
    pub(crate) places: Vec<(u32, u32)>,
}

impl Winners {
    fn row(&self, place: (u32, u32)) -> &Candidate {
        &self.shards[place.0 as usize].rows[place.1 as usize]
    }

    fn at(&self, n: u32) -> &Candidate {
        self.row(self.places[n as usize])
    }

    /// All of them.
    pub(crate) fn rows(&self) -> impl Iterator<Item = &Candidate> {
        self.places.iter().map(|place| self.row(*place))
    }
}

/// What is to be seen of winners, in replay order.
pub(crate) fn shadow(winners: &Winners) -> Vec<Row> {
    let chunks = winners.places.len().div_ceil(CHUNK_ROWS);
    let read = in_parallel(chunks, &|chunk| read_chunk(winners, chunk * CHUNK_ROWS));
    let mut seen: Vec<(u32, What)> = Vec::with_capacity(winners.places.len());
    let mut artifacts = Artifacts::default();
    for chunk in read {
        seen.extend(chunk.seen);
        for (n, key, statement) in chunk.facts {
            artifacts.take(winners, n, key, statement);
        }
    }
    artifacts.finish(winners, &mut seen);
    in_replay_order(winners, seen)
}

/// What a stretch of winners says.
#[derive(Debug, Default)]
struct Chunk {
    /// What is to be seen, by number of the winner.
    seen: Vec<(u32, What)>,
    /// What is said of artifacts.
    facts: Vec<(u32, ArtifactId, Statement)>,
}

fn read_chunk(winners: &Winners, start: usize) -> Chunk {
    let mut chunk = Chunk::default();
    let end = winners.places.len().min(start + CHUNK_ROWS);
    for (place, n) in winners.places[start..end].iter().zip(start as u32..) {
        let (shard, winner) = (&winners.shards[place.0 as usize], winners.row(*place));
        match winner.class() {
            Class::Silent => {}
            Class::Value => chunk.seen.push((n, What::Value)),
            Class::Artifact => {
                let Some(statement) = shard.statement(winner) else { continue };
                let key = artifact_in(&statement);
                chunk.facts.extend(key.map(|key| (n, key, statement)));
            }
            Class::Edge => {
                let edge = shard.statement(winner).and_then(|said| edge_of(record(winner, said)));
                chunk.seen.extend(edge.map(|edge| (n, What::Edge(Box::new(edge)))));
            }
        }
    }
    chunk
}

fn record(winner: &Candidate, statement: Statement) -> Record {
    let Candidate { subject, id, logseq, .. } = *winner;
    Record { subject, id, logseq, statement }
}

/// The artifacts of which anything is said, in order of their first facts.
#[derive(Debug, Default)]
struct Artifacts {
    by_key: IdMap<ArtifactId, u32>,
    list: Vec<Artifact>,
    /// Winners that are claims, with the place of their artifact.
    claims: Vec<(u32, u32)>,
}

impl Artifacts {
    fn take(&mut self, winners: &Winners, n: u32, key: ArtifactId, statement: Statement) {
        let next = self.list.len() as u32;
        let place = *self.by_key.entry(key).or_insert(next);
        if place == next {
            self.list.push(Artifact::new(key));
        }
        if matches!(statement, Statement::Put(_)) {
            self.claims.push((n, place));
        }
        if let Some(artifact) = self.list.get_mut(place as usize) {
            artifact.take(record(winners.at(n), statement));
        }
    }

    /// Adds those that are to be seen, each at the claim that counts.
    fn finish(self, winners: &Winners, seen: &mut Vec<(u32, What)>) {
        let settle = |mut artifact: Artifact| {
            artifact.settle();
            artifact.since().map(|since| (since, artifact))
        };
        let mut list: Vec<_> = self.list.into_iter().map(settle).collect();
        for (n, place) in self.claims {
            let Some(slot) = list.get_mut(place as usize) else { continue };
            if slot.as_ref().is_some_and(|(since, _)| *since == winners.at(n).order()) {
                let artifact = slot.take().map(|(_, artifact)| What::Artifact(Box::new(artifact)));
                seen.extend(artifact.map(|artifact| (n, artifact)));
            }
        }
    }
}

/// Sorts by replay order. What is sorted is small; rows are made in their place.
fn in_replay_order(winners: &Winners, mut seen: Vec<(u32, What)>) -> Vec<Row> {
    let mut order: Vec<(LogSeq, u32)> =
        seen.iter().zip(0u32..).map(|((n, _), at)| (winners.at(*n).logseq, at)).collect();
    let by_id = |a: u32, b: u32| {
        let id = |at: u32| winners.at(seen[at as usize].0).id;
        id(a).cmp(&id(b))
    };
    order.sort_unstable_by(|a, b| a.0.cmp(&b.0).then_with(|| by_id(a.1, b.1)));
    let mut take = |at: u32| {
        let (n, what) = &mut seen[at as usize];
        Row::of(winners.at(*n), std::mem::replace(what, What::Value))
    };
    order.into_iter().map(|(_, at)| take(at)).collect()
}
