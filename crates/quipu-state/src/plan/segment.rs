//! The operator SegmentScan: the segments of a log, dealt out to shards.
//!
//! Shard *i* of *n* reads the segments whose number leaves the rest *i*. How many shards there are
//! is each machine's own choice and changes no result.

use std::time::{Duration, Instant};

use quipu_core::event::Log;
use quipu_store::{Disk, ScanFilter, ScanReport, ScanRow, Segment, Store};

use crate::error::StateError;

/// What a shard does with its rows.
pub(crate) trait Sink: Send {
    /// Whether a segment cannot matter, from what is known of it without reading.
    fn skips(&self, segment: &Segment<'_>) -> bool;
    /// The order in which the shard's segments are best read.
    fn arrange(&self, _segments: &mut [&Segment<'_>]) {}
    /// Takes a row.
    fn take(&mut self, row: &ScanRow<'_>);
    /// No more rows will come.
    fn finish(&mut self);
}

/// What the shards did.
#[derive(Debug)]
pub(crate) struct Scanned<S> {
    /// The sinks, by shard.
    pub(crate) sinks: Vec<S>,
    pub(crate) report: ScanReport,
    /// The longest reading.
    pub(crate) reading: Duration,
    /// The longest finishing.
    pub(crate) finishing: Duration,
}

/// Reads a log in shards, at most one on each core at a time.
pub(crate) fn scan<D: Disk, S: Sink>(
    store: &Store<D>,
    log: Log,
    filter: &ScanFilter,
    shards: usize,
    make: &(dyn Fn() -> S + Sync),
) -> Result<Scanned<S>, StateError> {
    let (shards, segments) = (shards.max(1), store.segments(log));
    let results = in_parallel(shards, &|shard| {
        let sink = make();
        let mut mine: Vec<&Segment<'_>> = segments.iter().skip(shard).step_by(shards).collect();
        sink.arrange(&mut mine);
        scan_shard(&mine, filter, sink)
    });
    let mut scanned = Scanned {
        sinks: Vec::with_capacity(shards),
        report: ScanReport::default(),
        reading: Duration::ZERO,
        finishing: Duration::ZERO,
    };
    for result in results {
        let (sink, report, reading, finishing) = result?;
        scanned.sinks.push(sink);
        scanned.report += report;
        scanned.reading = scanned.reading.max(reading);
        scanned.finishing = scanned.finishing.max(finishing);
    }
    Ok(scanned)
}

type ShardResult<S> = Result<(S, ScanReport, Duration, Duration), StateError>;

fn scan_shard<S: Sink>(
    segments: &[&Segment<'_>],
    filter: &ScanFilter,
    mut sink: S,
) -> ShardResult<S> {
    let start = Instant::now();
    let mut report = ScanReport::default();
    for segment in segments {
        report += match sink.skips(segment) {
            true => segment.skipped(),
            false => segment.scan(filter, &mut |row| sink.take(row))?,
        };
    }
    let reading = start.elapsed();
    sink.finish();
    Ok((sink, report, reading, start.elapsed().saturating_sub(reading)))
}

/// Does jobs on as many threads as there are cores, and answers with their results in order.
pub(crate) fn in_parallel<T: Send>(jobs: usize, work: &(dyn Fn(usize) -> T + Sync)) -> Vec<T> {
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let threads = cores.min(jobs);
    if threads <= 1 {
        return (0..jobs).map(work).collect();
    }
    let mut results: Vec<Option<T>> = (0..jobs).map(|_| None).collect();
    std::thread::scope(|scope| {
        let run = |thread: usize| {
            scope.spawn(move || {
                let mine = (thread..jobs).step_by(threads);
                mine.map(|job| (job, work(job))).collect::<Vec<_>>()
            })
        };
        let running: Vec<_> = (0..threads).map(run).collect();
        for thread in running {
            match thread.join() {
                Ok(done) => done.into_iter().for_each(|(job, result)| results[job] = Some(result)),
                Err(panic) => std::panic::resume_unwind(panic),
            }
        }
    });
    results.into_iter().flatten().collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn results_are_in_order_whatever_the_threads() {
        for jobs in [0, 1, 2, 3, 16, 100] {
            let doubled = in_parallel(jobs, &|job| 2 * job);
            assert!(doubled.into_iter().eq((0..jobs).map(|job| 2 * job)));
        }
    }
}
