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

use std::sync::{Mutex, PoisonError};

use quipu_core::event::LogSeq;
use quipu_core::history::Ordinal;
use quipu_core::id::{ArtifactId, EventId, IdMap, Subject};
use quipu_core::statement::Statement;

use super::fold::{Candidate, Class, Folded};
use super::merge::merge;
use super::segment::in_parallel;
use crate::record::Record;
use crate::view::{Artifact, Edge, artifact_in, edge_of};

/// Winners whose statements one thread reads at a time.
const CHUNK_ROWS: usize = 1 << 16;
/// Parts into which artifacts fall.
const PARTS: usize = 4;

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

/// Something said of an artifact: number of the winner, the artifact, what is said.
type Fact = (u32, ArtifactId, Statement);

/// What is to be seen of winners, in replay order. Winners are read in stretches, artifacts put
/// together in parts, each part by its own digit of the key; then what came of all is merged.
pub(crate) fn shadow(winners: &Winners) -> Vec<Row> {
    let chunks = winners.places.len().div_ceil(CHUNK_ROWS);
    let read = in_parallel(chunks, &|chunk| read_chunk(winners, chunk * CHUNK_ROWS));
    let mut lists = Vec::with_capacity(chunks + PARTS);
    let mut parts: Vec<Vec<Vec<Fact>>> = (0..PARTS).map(|_| Vec::new()).collect();
    for chunk in read {
        lists.push(chunk.rows);
        parts.iter_mut().zip(chunk.facts).for_each(|(part, facts)| part.push(facts));
    }
    let parts: Vec<Mutex<Vec<Vec<Fact>>>> = parts.into_iter().map(Mutex::new).collect();
    lists.extend(in_parallel(PARTS, &|part| {
        let mut facts = parts[part].lock().unwrap_or_else(PoisonError::into_inner);
        artifact_rows(winners, std::mem::take(&mut *facts).into_iter().flatten())
    }));
    let mut rows = Vec::with_capacity(lists.iter().map(Vec::len).sum());
    rows.extend(merge(lists, Row::order));
    rows
}

/// What a stretch of winners says.
#[derive(Debug, Default)]
struct Chunk {
    /// What is to be seen, in replay order.
    rows: Vec<Row>,
    /// What is said of artifacts, by the last digit of their keys.
    facts: [Vec<Fact>; PARTS],
}

fn read_chunk(winners: &Winners, start: usize) -> Chunk {
    let mut facts = [const { Vec::new() }; PARTS];
    let end = winners.places.len().min(start + CHUNK_ROWS);
    let mut seen: Vec<(u32, What)> = Vec::with_capacity(end - start);
    for (place, n) in winners.places[start..end].iter().zip(start as u32..) {
        let (shard, winner) = (&winners.shards[place.0 as usize], winners.row(*place));
        match winner.class() {
            Class::Silent => {}
            Class::Value => seen.push((n, What::Value)),
            Class::Artifact => {
                let Some(statement) = shard.statement(winner) else { continue };
                let Some(key) = artifact_in(&statement) else { continue };
                facts[usize::from(key.0[31]) % PARTS].push((n, key, statement));
            }
            Class::Edge => {
                let edge = shard.statement(winner).and_then(|said| edge_of(record(winner, said)));
                seen.extend(edge.map(|edge| (n, What::Edge(Box::new(edge)))));
            }
        }
    }
    Chunk { rows: in_replay_order(winners, seen), facts }
}

fn record(winner: &Candidate, statement: Statement) -> Record {
    let Candidate { subject, id, logseq, .. } = *winner;
    Record { subject, id, logseq, statement }
}

/// The artifacts that are to be seen, each at the claim that counts, in replay order.
fn artifact_rows(winners: &Winners, facts: impl Iterator<Item = Fact>) -> Vec<Row> {
    let mut places: IdMap<ArtifactId, u32> = IdMap::default();
    let mut artifacts: Vec<Option<Box<Artifact>>> = Vec::new();
    // Winners that are claims, with the place of their artifact.
    let mut claims: Vec<(u32, u32)> = Vec::new();
    for (n, key, statement) in facts {
        let place = *places.entry(key).or_insert(artifacts.len() as u32);
        if place as usize == artifacts.len() {
            artifacts.push(Some(Box::new(Artifact::new(key))));
        }
        if matches!(statement, Statement::Put(_) | Statement::Import { .. }) {
            claims.push((n, place));
        }
        if let Some(artifact) = &mut artifacts[place as usize] {
            artifact.take(record(winners.at(n), statement));
        }
    }
    artifacts.iter_mut().flatten().for_each(|artifact| artifact.settle());
    let mut seen = Vec::with_capacity(artifacts.len());
    for (n, place) in claims {
        let slot = &mut artifacts[place as usize];
        let order = winners.at(n).order();
        if slot.as_ref().and_then(|artifact| artifact.since()) == Some(order) {
            seen.extend(slot.take().map(|artifact| (n, What::Artifact(artifact))));
        }
    }
    in_replay_order(winners, seen)
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
