//! A store at rest: how fast it opens, how much it takes, how fast it folds.

use std::path::Path;
use std::sync::Arc;
use std::time::Instant;

use quipu_core::event::Log;
use quipu_core::fold::Winners;
use quipu_core::history::History;
use quipu_core::node::Node;
use quipu_store::{RealDisk, Store, StoreOptions};

use crate::workload::{Writer, founder, store};
use crate::{Result, figure, rate};

pub(crate) fn run(dir: &Path, events: usize) -> Result<()> {
    let (mut writer, mut list) = Writer::new(10, events);
    writer.write_many(events, &mut list);
    let list = writer.sign_ends(list);
    let total = list.len();
    let path = dir.join("stored");
    store(&path, writer.domain, &list)?;
    drop(list);
    let before = resident_mib();
    let start = Instant::now();
    let disk = Arc::new(RealDisk::new(&path)?);
    let (opened, _) = Store::open(disk, writer.domain, StoreOptions::default())?;
    let mut node = Node::new(writer.domain, Log::Internal, founder(), [7; 32]);
    node.open(&opened)??;
    let ms = start.elapsed().as_secs_f64() * 1e3;
    let grown = format!("{:.0} MiB more resident", resident_mib() - before);
    figure(&format!("open a store of {total} events"), format!("{ms:.0} ms"), &grown);
    let stats = opened.stats();
    let bytes = stats.disk_bytes as f64 / total as f64;
    figure("  on disk", format!("{bytes:.1} B/event"), &format!("{} blocks", stats.blocks));
    let start = Instant::now();
    let mut winners = Winners::default();
    let mut next = 0;
    while next < opened.count(Log::Internal) {
        let read =
            opened.events(Log::Internal, next..opened.count(Log::Internal).min(next + 1024))?;
        next += read.len() as u64;
        read.iter().for_each(|event| _ = winners.apply(event));
    }
    let seconds = start.elapsed().as_secs_f64();
    figure("  fold", rate(total, seconds), &format!("{} cells", winners.len()));
    drop(opened);
    drop(std::fs::remove_dir_all(path));
    Ok(())
}

/// Resident memory of this process, in MiB; 0 where the system does not tell.
fn resident_mib() -> f64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let kib = line.and_then(|line| line.split_whitespace().next()?.parse::<f64>().ok());
    kib.unwrap_or(0.0) / 1024.0
}
