//! Rebuilds a damaged store from what is readable.
//!
//! The files of a log up to the first damaged one stay. From there on, events are read as far as
//! checksums allow, and those are kept that stand on their own: hashes and signatures are right, and
//! everything they link to is kept too. They go into new blocks, with indexes made anew. Nothing
//! is deleted: the old files are moved to `damaged/`. What is lost there a peer can send again.

mod keep;
mod source;
mod swap;

use std::sync::Arc;

use quipu_core::event::Log;
use quipu_core::id::DomainId;

use self::keep::Keeper;
use self::source::{Source, sources};
use self::swap::Swap;
use crate::block::{BlockInfo, encode_block};
use crate::disk::Disk;
use crate::error::{Problem, StoreError, Verification};
use crate::memory::Memory;
use crate::options::StoreOptions;
use crate::proofs::Proofs;
use crate::store::{Store, exists, take_lock};

impl<D: Disk> Store<D> {
    /// Salvages what is readable of a store, reports what is lost and what was wrong, and opens
    /// the result. A store without damage stays as it is. May be repeated when it was interrupted.
    pub fn rebuild(
        disk: Arc<D>,
        domain: DomainId,
        options: StoreOptions,
    ) -> Result<(Self, Verification), StoreError> {
        let lock = take_lock(&*disk)?;
        if !exists(&*disk)? {
            return Err(StoreError::Missing);
        }
        let mut swap = Swap::resume(&*disk)?;
        let mut problems = Vec::new();
        for log in Log::ALL {
            rebuild_log(&*disk, domain, log, &options, &mut swap, &mut problems)?;
        }
        swap.finish(&*disk)?;
        let (store, _) = Self::open_locked(disk, domain, options, lock)?;
        let left = Log::ALL.map(|log| quipu_core::history::History::count(&store, log));
        if left == [0, 0] {
            problems.push(lost(Log::Internal, "nothing is left of it".to_owned()));
        }
        let mut verification = store.verify(&mut |_, _| {});
        problems.append(&mut verification.problems);
        verification.problems = problems;
        Ok((store, verification))
    }
}

fn lost(log: Log, detail: String) -> Problem {
    Problem { what: "lost", object: format!("{} log", log.name()), detail }
}

fn rebuild_log<D: Disk>(
    disk: &D,
    domain: DomainId,
    log: Log,
    options: &StoreOptions,
    swap: &mut Swap,
    problems: &mut Vec<Problem>,
) -> Result<(), StoreError> {
    let info = BlockInfo { domain, log, number: 0, first: 0 };
    let proofs = Proofs::open(disk, &info).unwrap_or_else(|error| {
        let (what, object) = ("unreadable", Proofs::<D>::path_of(log));
        swap.move_away(object.clone());
        problems.push(Problem { what, object, detail: error.to_string() });
        Proofs::new(&info)
    });
    let sources = sources(disk, log)?;
    let whole = count_whole(disk, domain, log, &sources, problems)?;
    if whole == sources.len() {
        return Ok(());
    }
    // Sealed blocks come before active files, and what follows will be sealed.
    let sealed = sources.iter().take_while(|source| source.is_block()).count();
    let start = whole.min(sealed);
    let mut keeper = Keeper::new(log, domain);
    for (number, source) in sources[..start].iter().enumerate() {
        let info = keeper.next_info(number as u64);
        _ = keeper.take_whole(&source.read_whole(disk, &info, false)?);
    }
    let rest = &sources[start..];
    for source in rest {
        let (events, errors) = source.salvage(disk, log, &domain)?;
        events.iter().for_each(|event| keeper.consider(event, proofs.contains(&event.id)));
        for error in errors {
            let detail = error.to_string();
            problems.push(Problem { what: "unreadable", object: source.name(log), detail });
        }
    }
    keeper.settle();
    if keeper.dropped() > 0 {
        let detail = format!(
            "{} events were readable, but cannot stand without others that are not",
            keeper.dropped()
        );
        problems.push(lost(log, detail));
    }
    write_kept(
        disk,
        rest,
        keeper,
        options,
        BlockInfo { domain, log, number: start as u64, first: 0 },
        swap,
    )
}

/// How many files from the first on are whole. The error is one that a rebuild must not answer:
/// these are not damaged files of this store.
fn count_whole<D: Disk>(
    disk: &D,
    domain: DomainId,
    log: Log,
    sources: &[Source],
    problems: &mut Vec<Problem>,
) -> Result<usize, StoreError> {
    let mut keeper = Keeper::new(log, domain);
    for (number, source) in sources.iter().enumerate() {
        let is_last = number + 1 == sources.len();
        let memory = source.read_whole(disk, &keeper.next_info(number as u64), is_last);
        let (what, detail) = match memory.map(|memory| keeper.take_whole(&memory)) {
            Ok(None) => continue,
            Ok(Some(broken)) => broken,
            Err(error @ (StoreError::WrongDomain { .. } | StoreError::Version { .. })) => {
                return Err(error);
            }
            Err(error) => ("unreadable", error.to_string()),
        };
        problems.push(Problem { what, object: source.name(log), detail });
        return Ok(number);
    }
    Ok(sources.len())
}

/// Writes new blocks with the kept events, and plans the moves.
fn write_kept<D: Disk>(
    disk: &D,
    rest: &[Source],
    keeper: Keeper,
    options: &StoreOptions,
    mut info: BlockInfo,
    swap: &mut Swap,
) -> Result<(), StoreError> {
    info.first = keeper.whole_events();
    let mut kept = keeper.into_kept();
    let mut memory = Memory::default();
    for source in rest {
        let (events, _) = source.salvage(disk, info.log, &info.domain)?;
        for event in events {
            if !kept.remove(&event.id) {
                continue;
            }
            // Ids are removed as they come, so none comes twice.
            memory.append(std::iter::once(event))?;
            if memory.events.len() >= options.block_events_max.max(1)
                || memory.bytes >= options.block_bytes_max.max(1)
            {
                put_block(disk, &mut info, &std::mem::take(&mut memory), options, swap)?;
            }
        }
        source.paths(info.log).for_each(|path| swap.move_away(path));
    }
    if !memory.events.is_empty() {
        put_block(disk, &mut info, &memory, options, swap)?;
    }
    Ok(())
}

fn put_block<D: Disk>(
    disk: &D,
    info: &mut BlockInfo,
    memory: &Memory,
    options: &StoreOptions,
    swap: &mut Swap,
) -> Result<(), StoreError> {
    let (block, payload) = encode_block(info, memory, options.page_events);
    swap.prepare(disk, info, &block, &payload)?;
    info.number += 1;
    info.first += memory.events.len() as u64;
    Ok(())
}
