//! Artifacts that are being received: what is here of them, and how they become complete.

use std::ops::Range;
use std::sync::Arc;

use quipu_core::artifact::{ARTIFACT_BYTES_MAX, GROUP_BYTES, group_count};
use quipu_core::id::ArtifactId;

use crate::check::valid_groups;
use crate::early::Early;
use crate::error::{Doing, Result};
use crate::files::{FileAt, Files};
use crate::groups::GroupSet;
use crate::part::{PartError, Verified, Written, verify};
use crate::store::{ArtifactStore, OUTBOARD, PARTIAL, lock};
use crate::tree::outboard_bytes;

/// What is missing of an artifact.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Missing {
    /// The size, if it is proven; without it, nothing of the artifact is here.
    pub size: Option<u64>,
    /// Groups that are missing, as sorted runs. Empty without a size, because nobody knows then.
    pub groups: Vec<Range<u64>>,
}

impl Missing {
    /// Whether nothing is missing.
    pub const fn is_complete(&self) -> bool {
        self.size.is_some() && self.groups.is_empty()
    }
}

/// What is known of one artifact that is being received.
#[derive(Debug, Default)]
pub(crate) enum Slot {
    /// Its files were not looked at yet.
    #[default]
    Unknown,
    /// Some of it is here.
    Begun(Begun),
}

/// What is here of an artifact.
#[derive(Debug)]
pub(crate) struct Begun {
    size: u64,
    have: GroupSet,
    early: Early,
}

/// The files of a partial artifact, open.
#[derive(Debug)]
pub(crate) struct OpenPartial<H> {
    data: H,
    /// None for artifacts of one group.
    outboard: Option<H>,
}

/// Paths of a partial artifact.
struct Paths {
    data: String,
    outboard: String,
    size: String,
}

impl Paths {
    fn of(key: &ArtifactId) -> Self {
        let path = |end: &str| format!("{PARTIAL}/{key}{end}");
        Self { data: path(".data"), outboard: path(OUTBOARD), size: path(".size") }
    }
}

impl<F: Files> ArtifactStore<F> {
    /// Takes a part from a peer: verifies it, writes it, and puts the artifact in its place when it
    /// was the last part. Nothing is written unless all of the part fits.
    pub fn write_part(
        &self,
        key: &ArtifactId,
        size: u64,
        groups: Range<u64>,
        bytes: &[u8],
    ) -> Result<Written, PartError> {
        let part = verify(key, size, groups, bytes)?;
        self.with_slot(key, |slot| self.take(key, slot, &part))
    }

    /// What is missing of an artifact. The first time after a start, this reads what is here of it.
    pub fn missing(&self, key: &ArtifactId) -> Result<Missing> {
        self.with_slot(key, |slot| {
            if let Some(size) = self.look(key, slot)? {
                return Ok(Missing { size: Some(size), groups: Vec::new() });
            }
            let Slot::Begun(begun) = slot else { return Ok(Missing::default()) };
            let groups = begun.have.missing(group_count(begun.size));
            Ok(Missing { size: Some(begun.size), groups })
        })
    }

    /// Artifacts of which a part is here, sorted.
    pub fn partials(&self) -> Result<Vec<ArtifactId>> {
        let names = self.files.list(PARTIAL).doing("listing", PARTIAL)?;
        let texts = names.iter().filter_map(|name| name.strip_suffix(".size"));
        let mut keys = Vec::new();
        for key in texts.filter_map(|text| text.parse().ok()) {
            if !self.contains(&key)? {
                keys.push(key);
            }
        }
        keys.sort_unstable();
        Ok(keys)
    }

    /// Gives up an artifact that is being received.
    pub fn drop_partial(&self, key: &ArtifactId) -> Result<()> {
        self.with_slot(key, |slot| self.drop_in(key, slot))
    }

    /// Makes all that was received so far durable, for artifacts whose files are open.
    pub fn sync_partials(&self) -> Result<()> {
        for key in self.partials()? {
            if let Some(open) = self.partials.get(&key) {
                sync(&open, &Paths::of(&key))?;
            }
        }
        Ok(())
    }

    /// Removes partial files that cannot be used, or no longer. Answers how many keys they had.
    pub(crate) fn clean_partials(&self) -> Result<u64> {
        let known = self.partials()?;
        let names = self.files.list(PARTIAL).doing("listing", PARTIAL)?;
        let texts = names.iter().filter_map(|name| name.split('.').next());
        let mut keys: Vec<ArtifactId> = texts.filter_map(|text| text.parse().ok()).collect();
        keys.retain(|key| known.binary_search(key).is_err());
        keys.sort_unstable();
        keys.dedup();
        for key in &keys {
            self.with_slot(key, |slot| match self.look(key, slot)? {
                Some(_) => self.drop_in(key, slot),
                // What could not be used went when it was looked at.
                None => Ok(()),
            })?;
        }
        Ok(keys.len() as u64)
    }

    /// Runs with what is known of an artifact, locked.
    pub(crate) fn with_slot<T>(&self, key: &ArtifactId, run: impl FnOnce(&mut Slot) -> T) -> T {
        let slot = lock(&self.slots).entry(*key).or_default().clone();
        let result = run(&mut lock(&slot));
        let mut slots = lock(&self.slots);
        // Two: the table's and ours. More cannot come while the table is locked.
        if Arc::strong_count(&slot) == 2 && matches!(*lock(&slot), Slot::Unknown) {
            slots.remove(key);
        }
        result
    }

    /// Removes what is here of an artifact, under its lock.
    pub(crate) fn drop_in(&self, key: &ArtifactId, slot: &mut Slot) -> Result<()> {
        *slot = Slot::Unknown;
        self.partials.forget(key);
        let paths = Paths::of(key);
        for path in [&paths.size, &paths.data, &paths.outboard] {
            if self.exists(path)? {
                self.files.remove(path).doing("removing", path)?;
            }
        }
        Ok(())
    }

    /// Finds out what is here of an artifact, unless that is known. Answers its size if it is
    /// complete.
    fn look(&self, key: &ArtifactId, slot: &mut Slot) -> Result<Option<u64>> {
        if matches!(slot, Slot::Unknown) {
            if let Some(size) = self.size(key)? {
                return Ok(Some(size));
            }
            let paths = Paths::of(key);
            match self.load(key, &paths)? {
                Some(begun) => *slot = Slot::Begun(begun),
                None => self.drop_in(key, slot)?,
            }
        }
        match slot {
            Slot::Begun(begun) if begun.have.is_full(group_count(begun.size)) => {
                let size = begun.size;
                self.finish(key, slot)?;
                Ok(Some(size))
            }
            _ => Ok(None),
        }
    }

    /// What is here of an artifact, by validation. Nothing if its last group is not here: without
    /// it, the size is not proven.
    fn load(&self, key: &ArtifactId, paths: &Paths) -> Result<Option<Begun>> {
        if !self.exists(&paths.size)? || !self.exists(&paths.data)? {
            return Ok(None);
        }
        let Some(size) = self.read_size(paths)? else { return Ok(None) };
        if outboard_bytes(size) > 0 && !self.exists(&paths.outboard)? {
            self.take_back_outboard(key, &paths.outboard)?;
        }
        let open = self.open_partial(key, size, paths)?;
        let have = valid_groups(&open.data, open.outboard.as_ref(), key, size, &mut |_| {})
            .doing("reading", &paths.data)?;
        let groups = group_count(size);
        Ok(have.touches(&(groups - 1..groups)).then_some(Begun {
            size,
            have,
            early: Early::default(),
        }))
    }

    fn read_size(&self, paths: &Paths) -> Result<Option<u64>> {
        let file = self.files.open(&paths.size).doing("opening", &paths.size)?;
        let mut bytes = [0; 8];
        let n = file.read_full_at(&mut bytes, 0).doing("reading", &paths.size)?;
        let size = u64::from_le_bytes(bytes);
        Ok((n == 8 && size <= ARTIFACT_BYTES_MAX).then_some(size))
    }

    fn write_size(&self, size: u64, paths: &Paths) -> Result<F::File> {
        let file = self.files.open_rw(&paths.size).doing("creating", &paths.size)?;
        file.write_all_at(&size.to_le_bytes(), 0).doing("writing", &paths.size)?;
        Ok(file)
    }

    fn open_partial(
        &self,
        key: &ArtifactId,
        size: u64,
        paths: &Paths,
    ) -> Result<Arc<OpenPartial<F::File>>> {
        if let Some(open) = self.partials.get(key) {
            return Ok(open);
        }
        let data = self.files.open_rw(&paths.data).doing("opening", &paths.data)?;
        let outboard = if outboard_bytes(size) > 0 {
            let file = self.files.open_rw(&paths.outboard).doing("opening", &paths.outboard)?;
            Some(file)
        } else {
            None
        };
        let open = Arc::new(OpenPartial { data, outboard });
        self.partials.put(*key, open.clone());
        Ok(open)
    }

    fn take(
        &self,
        key: &ArtifactId,
        slot: &mut Slot,
        part: &Verified<'_>,
    ) -> Result<Written, PartError> {
        if let Some(size) = self.look(key, slot)? {
            let done = Written { complete: true, new_groups: 0 };
            return if size == part.size { Ok(done) } else { Err(ANOTHER_SIZE) };
        }
        match slot {
            Slot::Begun(begun) => {
                if begun.size != part.size {
                    return Err(ANOTHER_SIZE);
                }
                self.write(key, begun, part)?;
            }
            Slot::Unknown => self.begin(key, slot, part)?,
        }
        let Slot::Begun(begun) = slot else { return Err(PartError::SizeNotProven) };
        let new_groups = begun.have.insert(part.groups.clone());
        self.sync_early(key, begun, new_groups * GROUP_BYTES);
        let complete = begun.have.is_full(group_count(begun.size));
        if complete {
            self.finish(key, slot)?;
        }
        Ok(Written { complete, new_groups })
    }

    /// Takes the first part of an artifact.
    fn begin(
        &self,
        key: &ArtifactId,
        slot: &mut Slot,
        part: &Verified<'_>,
    ) -> Result<(), PartError> {
        let groups = group_count(part.size);
        if part.groups.end != groups {
            return Err(PartError::SizeNotProven);
        }
        let begun = Begun { size: part.size, have: GroupSet::default(), early: Early::default() };
        // What one part completes is put in its place at once.
        let first = if part.groups.start > 0 { Self::write_first } else { Self::write };
        if let Err(error) = first(self, key, &begun, part) {
            // What cannot be removed now is removed when it is looked at again.
            let _ = self.drop_in(key, slot);
            return Err(error.into());
        }
        *slot = Slot::Begun(begun);
        Ok(())
    }

    /// Writes the part that proves the size, durably. The size is written first, so that after a kill
    /// all that was written is known; it is believed only where the last group is.
    fn write_first(&self, key: &ArtifactId, begun: &Begun, part: &Verified<'_>) -> Result<()> {
        let paths = Paths::of(key);
        let size = self.write_size(begun.size, &paths)?;
        self.write(key, begun, part)?;
        let open = self.open_partial(key, begun.size, &paths)?;
        sync(&open, &paths)?;
        size.sync().doing("syncing", &paths.size)?;
        self.files.sync_dir(PARTIAL).doing("syncing", PARTIAL)
    }

    /// Starts to sync what came so far, if it is much.
    fn sync_early(&self, key: &ArtifactId, begun: &mut Begun, new_bytes: u64) {
        let Some(open) = self.partials.get(key) else { return };
        if let Some(job) = begun.early.wrote(new_bytes, &open, |open| open.data.sync()) {
            self.files.aside(job);
        }
    }

    /// Writes what is new in a part: first the hashes, so that each group counts as soon as it is
    /// written, whenever the process is killed; and the last group first, for it proves the size.
    fn write(&self, key: &ArtifactId, begun: &Begun, part: &Verified<'_>) -> Result<()> {
        let paths = Paths::of(key);
        let open = self.open_partial(key, begun.size, &paths)?;
        if let Some(outboard) = &open.outboard {
            // Where something is here already, so are the hashes above it.
            let new = part.pairs.iter().filter(|pair| !begun.have.touches(&pair.groups));
            for (offset, bytes) in joined(new.map(|pair| (pair.offset, pair.bytes)).collect()) {
                outboard.write_all_at(&bytes, offset).doing("writing", &paths.outboard)?;
            }
        }
        for (offset, bytes) in part.leaves.iter().rev() {
            let group = offset / GROUP_BYTES;
            if !begun.have.touches(&(group..group + 1)) {
                open.data.write_all_at(bytes, *offset).doing("writing", &paths.data)?;
            }
        }
        Ok(())
    }

    /// Puts a complete artifact in its place.
    fn finish(&self, key: &ArtifactId, slot: &mut Slot) -> Result<()> {
        let Slot::Begun(begun) = slot else { return Ok(()) };
        let size = begun.size;
        let early = begun.early.end().doing("syncing", &Paths::of(key).data);
        early.and_then(|()| self.settle(key, size)).inspect_err(|_| {
            // What is on the disk now is anybody's guess: it is read again.
            *slot = Slot::Unknown;
            self.partials.forget(key);
        })?;
        self.drop_in(key, slot)
    }

    fn settle(&self, key: &ArtifactId, size: u64) -> Result<()> {
        let paths = Paths::of(key);
        let open = self.open_partial(key, size, &paths)?;
        sync(&open, &paths)?;
        let outboard = open.outboard.is_some().then_some(&*paths.outboard);
        self.put_in_place(key, &paths.data, outboard)
    }
}

const ANOTHER_SIZE: PartError = PartError::Bad("another size than was proven");

fn sync<H: FileAt>(open: &OpenPartial<H>, paths: &Paths) -> Result<()> {
    if let Some(outboard) = &open.outboard {
        outboard.sync().doing("syncing", &paths.outboard)?;
    }
    open.data.sync().doing("syncing", &paths.data)
}

/// Writes that touch, as one.
fn joined(mut writes: Vec<(u64, &[u8])>) -> Vec<(u64, Vec<u8>)> {
    writes.sort_unstable_by_key(|(offset, _)| *offset);
    let mut out: Vec<(u64, Vec<u8>)> = Vec::new();
    for (offset, bytes) in writes {
        match out.last_mut() {
            Some((start, run)) if *start + run.len() as u64 == offset => {
                run.extend_from_slice(bytes)
            }
            _ => out.push((offset, bytes.to_vec())),
        }
    }
    out
}
