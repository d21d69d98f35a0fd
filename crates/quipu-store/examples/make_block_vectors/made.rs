//! The stores in the vectors, made by the store itself.

use std::sync::Arc;

use quipu_core::event::{Log, VerifiedEvent};
use quipu_store::{FaultyDisk, Store};

use crate::history::{Commits, history, published, salts};
use crate::older::as_version_1;
use crate::plain::Block;
use crate::stores::{Files, disk_of, files_of, options, seal};
use crate::world::domain;

/// Events in a page.
pub(crate) const PAGE_EVENTS: usize = 32;
/// Ordinals whose payloads are erased: one in the block, one in the active file.
const ERASED: [u64; 2] = [40, 87];

/// A store: its name, what is special about it, its files.
pub(crate) type Made = (&'static str, &'static str, Files);

pub(crate) fn files_named(stores: &[Made], name: &str) -> Files {
    stores.iter().find(|store| store.0 == name).unwrap().2.clone()
}

fn commit(store: &mut Store<FaultyDisk>, log: Log, commits: &[Vec<quipu_core::event::Event>]) {
    for events in commits {
        let events = events.iter().cloned().map(VerifiedEvent::from_store).collect();
        store.append(log, events).unwrap();
        store.commit().unwrap();
    }
}

fn create(disk: &Arc<FaultyDisk>, log: Log, commits: &Commits) -> Store<FaultyDisk> {
    let root = VerifiedEvent::from_store(commits[0][0].clone());
    let mut store = Store::create(disk.clone(), log, root, options(PAGE_EVENTS)).unwrap();
    commit(&mut store, log, &commits[1..]);
    store
}

/// The same files with some payloads erased.
fn erased(files: &Files) -> Files {
    let disk = disk_of(files);
    let (mut store, _) = Store::open(disk.clone(), domain(), options(PAGE_EVENTS)).unwrap();
    ERASED.iter().for_each(|ordinal| assert!(store.erase(Log::Internal, *ordinal).unwrap() > 0));
    files_of(&disk)
}

/// The same files with the first block as version 1 had it.
fn older(files: &Files) -> Files {
    let mut files = files.clone();
    let block = Block::read(&files[0].1, &files[1].1).unwrap();
    files[0].1 = as_version_1(&files[0].1, &block);
    files
}

pub(crate) fn stores() -> Vec<Made> {
    let history = history();
    let disk = Arc::new(FaultyDisk::new());
    let mut store = create(&disk, Log::Internal, &history.files[0]);
    let active = files_of(&disk);
    seal(&mut store);
    commit(&mut store, Log::Internal, &history.files[1]);
    let sealed = files_of(&disk);
    seal(&mut store);
    commit(&mut store, Log::Internal, &history.files[2][..1]);
    let end = history.files[2][1][0].id;
    store.prove(Log::Internal, end, &history.proof);
    commit(&mut store, Log::Internal, &history.files[2][1..]);
    let proven = files_of(&disk);
    let disk = Arc::new(FaultyDisk::new());
    seal(&mut create(&disk, Log::Published, &published()));
    let published = files_of(&disk);
    let disk = Arc::new(FaultyDisk::new());
    drop(create(&disk, Log::Internal, &salts()));
    vec![
        ("active", "an active file with five commits", active),
        ("erased", "the store `sealed` after an erasure in each file", erased(&sealed)),
        ("version-1", "the store `sealed` with a block of version 1", older(&sealed)),
        ("sealed", "the file of the store `active` is sealed, and the log goes on", sealed),
        ("proven", "two blocks, and an end of a feed that is proven beside the log", proven),
        ("published", "a block of the published log", published),
        ("salts", "a commit of several frames: salts in a batch have one length", files_of(&disk)),
    ]
}
