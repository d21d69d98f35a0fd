//! Plans: how questions about a whole log are answered.
//!
//! A plan is a tree of operators over the shards of a log:
//!
//! ```text
//! Projection
//!   TGKTraversal
//!     TombstoneShadow
//!       Merge
//!         IndexFilter      one for each shard
//!           SegmentScan    one for each shard
//! ```
//!
//! *Invariant*: rows come in replay order, clock and id, and do not depend on how many shards there
//! are, nor on the order in which events came. *Boundary*: plans only read, and keep nothing; what
//! is asked often is answered by [`State`](crate::State).

mod filter;
mod fold;
mod list;
mod merge;
mod projection;
mod report;
mod segment;
mod shadow;
mod traversal;

use std::time::Instant;

use quipu_core::event::Log;
use quipu_core::state::{StateHash, root_of};
use quipu_core::statement::End;
use quipu_core::subject::key_kinds;
use quipu_store::{Disk, ScanFilter, Store};

pub use filter::{IndexFilter, IsAside};
pub use merge::merge;
pub use projection::{EventRow, Field, project};
pub use report::Report;
pub use shadow::{Row, What};
pub use traversal::traverse;

use crate::cut::Cut;
use crate::error::StateError;
use crate::trace::{Trace, Walk};
use fold::{Folded, ShardFold};
use list::{ShardList, compare};
use shadow::Winners;

/// What a replay gives.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Replay {
    /// What is to be seen, in replay order.
    pub rows: Vec<Row>,
    /// The root of the state.
    pub root: StateHash,
    /// How many fold keys the state has.
    pub entries: u64,
}

/// Replays a log, or a cut of it, to its state.
///
/// # Errors
/// If the log cannot be read.
pub fn replay<D: Disk>(
    store: &Store<D>,
    log: Log,
    cut: Option<&Cut>,
    is_aside: &IsAside<'_>,
    shards: usize,
) -> Result<(Replay, Report), StateError> {
    let (winners, below) = winners(store, log, IndexFilter { cut, is_aside }, shards)?;
    let start = Instant::now();
    let entries = winners.places.len() as u64;
    let (root, rows) = std::thread::scope(|scope| {
        let root = scope.spawn(|| root(&winners));
        let rows = shadow::shadow(&winners);
        (root.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic)), rows)
    });
    let report = Report::new("TombstoneShadow", format!("{entries} fold keys"))
        .rows(entries, rows.len() as u64)
        .since(start)
        .over(below);
    Ok((Replay { rows, root, entries }, report))
}

fn root(winners: &Winners) -> StateHash {
    root_of(&winners.rows().map(|winner| (winner.subject, winner.id)).collect::<Vec<_>>())
}

/// The winners of all fold keys.
fn winners<D: Disk>(
    store: &Store<D>,
    log: Log,
    index: IndexFilter<'_>,
    shards: usize,
) -> Result<(Winners, Report), StateError> {
    let kinds = key_kinds().map(str::to_owned).collect();
    let mut filter = ScanFilter { kinds, payloads: true, ..ScanFilter::default() };
    index.narrow(&mut filter);
    let shards = shards.max(1);
    let scanned = segment::scan(store, log, &filter, shards, &|| ShardFold::new(index))?;
    let passed = scanned.sinks.iter().map(|sink| sink.passed).sum();
    let below = reports("kinds with fold keys", &index, shards, &scanned, passed);
    let start = Instant::now();
    let folds: Vec<Folded> = scanned.sinks.into_iter().map(ShardFold::into_folded).collect();
    let rows_in = folds.iter().map(|fold| fold.rows.len() as u64).sum();
    let places = latest(&folds);
    let report = Report::new("Merge", format!("{shards} shards by fold key, the latest of each"))
        .rows(rows_in, places.len() as u64)
        .took(start.elapsed() + scanned.finishing)
        .over(below);
    Ok((Winners { shards: folds, places }, report))
}

/// Of folds, which are sorted by key, the latest row of each key: shard, and row of it.
fn latest(folds: &[Folded]) -> Vec<(u32, u32)> {
    let list = |(shard, fold): (u32, &Folded)| {
        (0..fold.rows.len() as u32).map(move |row| (shard, row)).collect::<Vec<_>>()
    };
    let lists: Vec<Vec<(u32, u32)>> = (0u32..).zip(folds).map(list).collect();
    let row = |place: &(u32, u32)| &folds[place.0 as usize].rows[place.1 as usize];
    let mut winners: Vec<(u32, u32)> = Vec::with_capacity(lists.iter().map(Vec::len).sum());
    for place in merge(lists, |place| row(place).subject) {
        match winners.last_mut() {
            Some(last) if row(last).subject == row(&place).subject => {
                if row(&place).order() > row(last).order() {
                    *last = place;
                }
            }
            _ => winners.push(place),
        }
    }
    winners
}

/// The reports of the operators that run in shards.
fn reports<S>(
    what: &str,
    index: &IndexFilter<'_>,
    shards: usize,
    scanned: &segment::Scanned<S>,
    passed: u64,
) -> Report {
    let scan = Report::new("SegmentScan", format!("{what}, {shards} shards"))
        .scanned(&scanned.report)
        .took(scanned.reading);
    Report::new("IndexFilter", index.details()).rows(scan.rows_out, passed).over(scan)
}

/// Walks the trace graph of a log, or of a cut of it, without the state that is kept.
///
/// # Errors
/// If the log cannot be read.
pub fn trace<D: Disk>(
    store: &Store<D>,
    log: Log,
    index: IndexFilter<'_>,
    (from, walk): (End, &Walk),
    shards: usize,
) -> Result<(Trace, Report), StateError> {
    let (state, below) = replay(store, log, index.cut, index.is_aside, shards)?;
    let start = Instant::now();
    let trace = traverse(&state.rows, from, walk)?;
    let report = Report::new("TGKTraversal", format!("from {from}, depth {}", walk.depth))
        .rows(below.rows_out, trace.edges.len() as u64)
        .since(start)
        .over(below);
    Ok((trace, report))
}

/// A question about the events of a log.
#[derive(Debug, Clone)]
pub struct Query<'a> {
    /// Which events.
    pub filter: ScanFilter,
    /// Which of them count.
    pub index: IndexFilter<'a>,
    /// Which of their fields.
    pub fields: Vec<Field>,
    /// Whether the last in replay order comes first.
    pub newest_first: bool,
    /// At most so many.
    pub limit: Option<usize>,
}

impl Default for Query<'_> {
    fn default() -> Self {
        Self {
            filter: ScanFilter::default(),
            index: IndexFilter::all(),
            fields: Field::ALL.to_vec(),
            newest_first: false,
            limit: None,
        }
    }
}

/// Lists events of a log in replay order. With a limit, blocks whose clocks are beyond it are not
/// read.
///
/// # Errors
/// If the log cannot be read.
pub fn scan<D: Disk>(
    store: &Store<D>,
    log: Log,
    query: &Query<'_>,
    shards: usize,
) -> Result<(Vec<EventRow>, Report), StateError> {
    let (newest_first, limit) = (query.newest_first, query.limit.unwrap_or(usize::MAX));
    let mut filter = query.filter.clone();
    filter.payloads = query.fields.contains(&Field::Subject);
    query.index.narrow(&mut filter);
    let make = || ShardList {
        index: query.index,
        fields: &query.fields,
        newest_first,
        limit,
        rows: Vec::new(),
        passed: 0,
        last: None,
    };
    let scanned = segment::scan(store, log, &filter, shards, &make)?;
    let passed = scanned.sinks.iter().map(|sink| sink.passed).sum();
    let below = reports(&describe(&filter), &query.index, shards.max(1), &scanned, passed);
    let start = Instant::now();
    let lists: Vec<Vec<EventRow>> = scanned.sinks.into_iter().map(|sink| sink.rows).collect();
    let rows_in = lists.iter().map(|list| list.len() as u64).sum();
    let rows: Vec<EventRow> = match newest_first {
        true => merge(lists, |row| std::cmp::Reverse(row.order())).take(limit).collect(),
        false => merge(lists, EventRow::order).take(limit).collect(),
    };
    let count = rows.len() as u64;
    let order = if newest_first { "newest first" } else { "oldest first" };
    let merged = Report::new("Merge", format!("{} shards, {order}", shards.max(1)))
        .rows(rows_in, count)
        .took(start.elapsed() + scanned.finishing)
        .over(below);
    let names: Vec<&str> = query.fields.iter().map(|field| field.name()).collect();
    let report = Report::new("Projection", names.join(", ")).rows(count, count).over(merged);
    debug_assert!(rows.is_sorted_by(|a, b| compare(newest_first, &a.order(), &b.order()).is_le()));
    Ok((rows, report))
}

/// What a filter asks for, for people.
fn describe(filter: &ScanFilter) -> String {
    let mut parts = Vec::new();
    let mut count = |what: &str, n: usize| {
        if n > 0 {
            parts.push(format!("{n} {what}"));
        }
    };
    count("kinds", filter.kinds.len());
    count("authors", filter.authors.len());
    count("ids", filter.ids.len());
    count("subjects", filter.subjects.len());
    let all = ScanFilter::default();
    if filter.clocks != all.clocks {
        parts.push(format!("clocks {} to {}", filter.clocks.0, filter.clocks.1));
    }
    if filter.ordinals != all.ordinals {
        parts.push(format!("ordinals {} to {}", filter.ordinals.start, filter.ordinals.end));
    }
    if parts.is_empty() { "everything".to_owned() } else { parts.join(", ") }
}
