//! A full check of a store: every checksum, every hash, every rule about links, feeds and clocks,
//! every signature, and every index against what it indexes.

use quipu_core::event::{Event, Log, verify_run};
use quipu_core::history::History;
use quipu_core::id::EventId;

use crate::active::{self, active_path};
use crate::block::{Block, BlockInfo};
use crate::check::{Broken, Checker};
use crate::disk::Disk;
use crate::error::{Problem, StoreError, Verification};
use crate::log::LogFiles;
use crate::memory::Memory;
use crate::store::Store;

impl<D: Disk> Store<D> {
    /// Checks everything that can be checked, reading all files. `progress` gets the number of
    /// events that are done, and of all. Takes about 30 bytes of memory for each event.
    pub fn verify(&self, progress: &mut dyn FnMut(u64, u64)) -> Verification {
        let total = self.logs.iter().map(LogFiles::count).sum();
        let mut verifier = Verifier { total, result: Verification::default(), progress };
        for files in &self.logs {
            let checker = verifier.check_log(files, Checker::new(files.log(), self.domain));
            for end in checker.unsigned_ends() {
                if let Err(detail) = self.check_proof(files.log(), &end) {
                    verifier.problem(&end.to_string(), ("signature", detail));
                }
            }
        }
        verifier.result
    }

    /// Whether a feed end without a signature of its own is proven by what is kept beside the log.
    fn check_proof(&self, log: Log, end: &EventId) -> Result<(), String> {
        let text = |error: StoreError| error.to_string();
        let proof = self.proof(log, end).map_err(text)?;
        let proof = proof.ok_or("the end of a feed carries no signature")?;
        let ordinal = self.find(log, end).map_err(text)?.ok_or("not found")?;
        let mut run = vec![self.event(log, ordinal).map_err(text)?];
        run.extend(proof);
        verify_run(run, true).map(drop).map_err(|error| error.to_string())
    }
}

struct Verifier<'a> {
    total: u64,
    result: Verification,
    progress: &'a mut dyn FnMut(u64, u64),
}

impl Verifier<'_> {
    fn problem(&mut self, object: &str, (what, detail): Broken) {
        self.result.problems.push(Problem { what, object: object.to_owned(), detail });
    }

    fn failure(&mut self, object: &str, error: &StoreError) {
        self.problem(object, ("unreadable", error.to_string()));
    }

    fn check_log<D: Disk>(&mut self, files: &LogFiles<D>, mut checker: Checker) -> Checker {
        for block in &files.blocks {
            self.check_block(files, block, &mut checker);
        }
        for frozen in &files.frozen {
            self.check_file(files, frozen.info, &frozen.memory.events);
            self.check_events(files, &frozen.memory.events, &mut checker);
        }
        if !files.active.committed().is_empty() {
            self.check_file(files, files.active.info, files.active.committed());
        }
        self.check_events(files, &files.active.memory.events, &mut checker);
        checker
    }

    fn check_block<D: Disk>(&mut self, files: &LogFiles<D>, block: &Block, checker: &mut Checker) {
        // The files as they are now, not as they were when they were opened.
        if let Err(error) = Block::open(&*files.disk, &block.info()) {
            self.failure(block.path(), &error);
        }
        for broken in block.check_sections() {
            self.problem(block.path(), broken);
        }
        let mut context = block.context();
        let mut memory = Memory::default();
        for page in 0..block.pages() {
            match block.events(page, &mut context) {
                Ok(events) => {
                    self.check_events(files, &events, checker);
                    if memory.append(events.into_iter()).is_err() {
                        self.problem(block.path(), ("id", "an event is there twice".to_owned()));
                    }
                }
                Err(error) => {
                    self.failure(block.path(), &error);
                    block.page_range(page).for_each(|_| checker.skip());
                    context = block.context();
                }
            }
        }
        if memory.events.len() as u64 == block.len() {
            for broken in block.check_derived(&memory) {
                self.problem(block.path(), broken);
            }
        }
    }

    fn check_events<D: Disk>(
        &mut self,
        files: &LogFiles<D>,
        events: &[Event],
        checker: &mut Checker,
    ) {
        for event in events {
            for broken in checker.check(event, |id: &EventId| files.find(id)) {
                self.problem(&event.id.to_string(), broken);
            }
            checker.note(event);
        }
        self.result.events += events.len() as u64;
        (self.progress)(self.result.events, self.total);
    }

    /// Compares an active file with the events that were committed to it.
    fn check_file<D: Disk>(&mut self, files: &LogFiles<D>, info: BlockInfo, events: &[Event]) {
        let path = active_path(&info);
        match active::read(&*files.disk, &info) {
            Ok(replay) => {
                if let Some(error) = active::damage(&info, &replay, false) {
                    self.failure(&path, &error);
                }
                if replay.events != events {
                    let detail = "the file and the memory hold different events".to_owned();
                    self.problem(&path, ("content", detail));
                }
            }
            Err(error) => self.failure(&path, &error),
        }
    }
}
