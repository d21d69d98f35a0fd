//! A thread that checks and keeps parts of artifacts, so that the loop can go on asking for more.

use std::fmt;
use std::io;
use std::ops::Range;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread::{Builder, JoinHandle};

use quipu_core::history::Missing;
use quipu_core::id::ArtifactId;
use quipu_core::node::{Input, PartOutcome};

use crate::artifacts::{Artifacts, IncomingPart};
use crate::shelf::Shelved;

/// Takes the answer about a part to the loop.
type Tell = Arc<dyn Fn(Input) + Send + Sync>;

/// Artifacts in files, to which parts are written on a thread of their own.
///
/// What waits for it is bounded by the parts that may be under way: those that were asked for and
/// did not come, and those that came and are not stored, are 16 for each link together.
pub(crate) struct Keeper {
    stored: Shelved,
    tell: Tell,
    /// From the first part on.
    worker: Option<Worker>,
}

struct Worker {
    parts: Sender<IncomingPart>,
    thread: JoinHandle<()>,
}

impl Keeper {
    pub(crate) fn new(stored: Shelved, tell: impl Fn(Input) + Send + Sync + 'static) -> Self {
        Self { stored, tell: Arc::new(tell), worker: None }
    }

    fn start(&self) -> io::Result<Worker> {
        let (parts, receiver) = channel();
        let (stored, tell) = (self.stored.another(), self.tell.clone());
        let thread = Builder::new()
            .name("keeper".to_owned())
            .spawn(move || keep(stored, &receiver, &tell))?;
        Ok(Worker { parts, thread })
    }

    /// Gives a part to the thread; gives it back if there is none.
    fn hand_over(&mut self, part: IncomingPart) -> Result<(), IncomingPart> {
        if self.worker.is_none() {
            self.worker = self.start().ok();
        }
        match &self.worker {
            Some(worker) => worker.parts.send(part).map_err(|back| back.0),
            None => Err(part),
        }
    }
}

fn keep(mut stored: Shelved, parts: &Receiver<IncomingPart>, tell: &Tell) {
    for part in parts {
        if let Some(outcome) = stored.take_part(&part) {
            tell(part.stored(outcome));
        }
    }
}

impl Drop for Keeper {
    /// What came is kept before the machine is gone.
    fn drop(&mut self) {
        if let Some(Worker { parts, thread }) = self.worker.take() {
            drop(parts);
            drop(thread.join());
        }
    }
}

impl fmt::Debug for Keeper {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Keeper").field("stored", &self.stored).finish_non_exhaustive()
    }
}

impl Artifacts for Keeper {
    fn size(&self, key: &ArtifactId) -> io::Result<Option<u64>> {
        self.stored.size(key)
    }

    fn read_part(
        &self,
        key: &ArtifactId,
        groups: Range<u64>,
    ) -> io::Result<Option<(u64, Vec<u8>)>> {
        self.stored.read_part(key, groups)
    }

    fn missing(&self, key: &ArtifactId) -> io::Result<Option<Missing>> {
        self.stored.missing(key)
    }

    fn keep(&mut self, from: &mut dyn io::Read) -> io::Result<(ArtifactId, u64)> {
        self.stored.keep(from)
    }

    fn write_part(
        &mut self,
        key: &ArtifactId,
        size: u64,
        groups: Range<u64>,
        bytes: &[u8],
    ) -> PartOutcome {
        self.stored.write_part(key, size, groups, bytes)
    }

    fn take_part(&mut self, part: &IncomingPart) -> Option<PartOutcome> {
        match self.hand_over(part.clone()) {
            Ok(()) => None,
            Err(part) => self.stored.take_part(&part),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::shelf::{Owner, Shelf};
    use bytes::Bytes;
    use quipu_artifact::ArtifactStore;
    use quipu_core::artifact::PART_GROUPS_MAX;
    use quipu_core::event::Log;
    use quipu_core::id::DomainId;
    use quipu_store::FaultyDisk;

    #[test]
    fn each_part_is_answered_and_what_came_is_kept() {
        let dir = tempfile::tempdir().expect("a directory");
        let open = |name| Arc::new(ArtifactStore::open(&dir.path().join(name)).expect("a store"));
        let (from, to) = (open("from"), open("to"));
        let bytes: Vec<u8> = (0..3 << 20).map(|n: u32| (n % 251) as u8).collect();
        let (key, size) =
            crate::artifacts::StoredArtifacts(from.clone()).keep(&mut &bytes[..]).expect("kept");
        let (sender, answers) = channel();
        let home = DomainId::default();
        let shelf =
            Shelf::open(to.clone(), (Arc::new(FaultyDisk::new()), "index"), home).expect("a shelf");
        let owner = Owner { domain: home, visibility: Log::Internal };
        let shelved = Shelved::new(Arc::new(shelf), owner);
        let mut keeper = Keeper::new(shelved, move |input| drop(sender.send(input)));
        let count = quipu_core::artifact::group_count(size);
        for end in (1..=count / PART_GROUPS_MAX).rev().map(|part| part * PART_GROUPS_MAX) {
            let groups = end - PART_GROUPS_MAX..end;
            let part = from.read_part(&key, groups.clone()).expect("good").expect("here");
            let bytes = Bytes::from(part.bytes);
            let part = IncomingPart { link: 1, key, size, groups, bytes };
            assert_eq!(keeper.take_part(&part), None);
        }
        drop(keeper);
        let outcomes: Vec<_> = answers
            .iter()
            .map(|input| match input {
                Input::PartStored { outcome, .. } => outcome,
                other => panic!("{other:?}"),
            })
            .collect();
        let (last, others) = outcomes.split_last().expect("answers");
        assert_eq!((others.len(), last), (11, &PartOutcome::Complete));
        assert!(others.iter().all(|outcome| *outcome == PartOutcome::Good));
        assert_eq!(to.size(&key).expect("readable"), Some(size));
    }
}
