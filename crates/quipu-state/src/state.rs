//! The state of one log, kept on disk beside it and brought up to date from it.
//!
//! *Invariant*: everything here follows from the log; it may be deleted at any time.
//! *Invariant*: the root depends on the set of events only, not on when or in what order they came.

use std::collections::BTreeSet;
use std::sync::Arc;

use quipu_core::event::{Event, Log};
use quipu_core::history::{History, Ordinal};
use quipu_core::id::{DomainId, EventId, Subject};
use quipu_core::kind;
use quipu_core::state::StateHash;
use quipu_core::statement::Statement;
use quipu_store::{Disk, StoreError};

use crate::compact::{self, CompactJob, Compacted};
use crate::cut::Cut;
use crate::error::StateError;
use crate::pages::Pages;
use crate::record;
use crate::refs;
use crate::roots::{Roots, SnapshotAt};
use crate::tree::{self, Change, Difference, Entry, Node};
use crate::view::View;

/// Events that are taken into the trees at once: what is sorted in memory.
const BATCH_EVENTS: u64 = 1 << 18;
/// Bytes of new pages after which they are saved, so that memory stays bounded.
const UNSAVED_BYTES_MAX: usize = 64 << 20;
/// A pages file below this is never copied, in bytes.
const COMPACT_BYTES_MIN: u64 = 64 << 20;
/// A pages file with more bytes than this for each entry is mostly garbage: 88 for its place in a
/// leaf, some 400 for its record and references, each up to four times.
const COMPACT_BYTES_PER_ENTRY: u64 = 2_000;

/// The state of a log.
#[derive(Debug)]
pub struct State {
    domain: DomainId,
    log: Log,
    pages: Pages,
    roots: Roots,
    saved: bool,
    /// Counts how often everything was forgotten or moved.
    build: u64,
    /// Length of the pages when a copy of them was begun last.
    copied: u64,
}

/// The state at some time.
#[derive(Debug, Clone, Copy)]
pub struct Mark {
    winners: Node,
    build: u64,
}

/// Where the state of a log is on the disk.
fn dir(log: Log) -> String {
    format!("{}.state", log.name())
}

impl State {
    /// The state as it was saved; empty if there is none, or if it cannot be used.
    pub fn open<D: Disk>(disk: &D, domain: DomainId, log: Log) -> Self {
        let dir = dir(log);
        let read = || {
            let bytes = disk.read(&format!("{dir}/roots")).ok()?;
            let roots = Roots::decode(&bytes, &domain)?;
            if roots.length > length_max(&roots) {
                return None;
            }
            Some((Pages::open(disk, &format!("{dir}/pages"), roots.length)?, roots))
        };
        let empty = || (Pages::new(), Roots::default());
        let (pages, roots) = read().unwrap_or_else(empty);
        Self { domain, log, pages, roots, saved: true, build: 0, copied: 0 }
    }

    /// The state of some events, in memory. An event's ordinal is its place among them.
    ///
    /// # Errors
    /// If there is too much for the pages.
    pub fn of_events(domain: DomainId, log: Log, events: &[Event]) -> Result<Self, StateError> {
        let (pages, roots) = (Pages::new(), Roots::default());
        let mut state = Self { domain, log, pages, roots, saved: true, build: 0, copied: 0 };
        let (mut entries, mut about) = (Vec::new(), Vec::new());
        for (event, ordinal) in events.iter().zip(0..) {
            state.read_event(event, ordinal, &mut entries, &mut about);
        }
        state.roots.winners =
            tree::apply(&mut state.pages, &state.roots.winners, &latest(entries))?;
        state.roots.refs = refs::apply(&mut state.pages, &state.roots.refs, about)?;
        state.roots.applied = events.len() as u64;
        Ok(state)
    }

    /// Forgets everything, on the disk too.
    ///
    /// # Errors
    /// If the disk refuses.
    pub fn clear<D: Disk>(&mut self, disk: &D) -> Result<(), StateError> {
        let dir = dir(self.log);
        for name in disk.list(&dir).map_err(|error| StateError::io(&dir, error))? {
            let path = format!("{dir}/{name}");
            disk.remove(&path).map_err(|error| StateError::io(&path, error))?;
        }
        (self.pages, self.roots, self.saved) = (Pages::new(), Roots::default(), true);
        self.build += 1;
        Ok(())
    }

    /// Whether its files turned out not to be what was written. [`State::clear`] helps.
    pub fn is_damaged(&self) -> bool {
        self.pages.is_damaged()
    }

    /// How many events of the log are in it.
    pub fn applied(&self) -> Ordinal {
        self.roots.applied
    }

    /// The root.
    pub fn root(&self) -> StateHash {
        self.roots.winners.hash
    }

    /// How many fold keys it has.
    pub fn entries(&self) -> u64 {
        self.roots.winners.count
    }

    /// The snapshots in the log, sorted by clock and id.
    pub fn snapshots(&self) -> &[SnapshotAt] {
        &self.roots.snapshots
    }

    /// How many events are in the cut of a snapshot. They are counted when that is asked first.
    ///
    /// # Errors
    /// If the log cannot be read.
    pub fn events_in<H: History>(
        &mut self,
        snapshot: &SnapshotAt,
        history: &H,
    ) -> Result<u64, StateError>
    where
        StateError: From<H::Error>,
    {
        let key = |one: &SnapshotAt| (one.logseq, one.id);
        let at = self.roots.snapshots.binary_search_by_key(&key(snapshot), key);
        let known = at.ok().and_then(|at| self.roots.snapshots.get_mut(at));
        if let Some(known) = known.as_ref().filter(|known| known.events > 0) {
            return Ok(known.events);
        }
        // The event itself is not in its cut.
        let events = Cut::up_to(history, self.log, &snapshot.id)?.len() - 1;
        if let Some(known) = known {
            known.events = events;
            self.saved = false;
        }
        Ok(events)
    }

    /// Takes in what the log has and the state has not. Starts anew if other events are quarantined
    /// than were left out before, or if the log is not the one it knew.
    ///
    /// # Errors
    /// If the log or the state's files cannot be read or written.
    pub fn catch_up<D: Disk, H: History<Error = StoreError>>(
        &mut self,
        disk: &D,
        history: &H,
        quarantined: &BTreeSet<EventId>,
    ) -> Result<(), StateError> {
        let count = history.count(self.log);
        if !self.is_of(history)? || !self.roots.aside.is_subset(quarantined) {
            self.clear(disk)?;
        }
        loop {
            while self.roots.applied < count {
                let end = count.min(self.roots.applied + BATCH_EVENTS);
                self.take(disk, history, end, quarantined)?;
            }
            if self.roots.aside == *quarantined {
                return Ok(());
            }
            // Something that was counted before is quarantined now.
            self.clear(disk)?;
        }
    }

    /// Whether the log still begins with what is in the state. It may have been saved before the log
    /// was durable.
    fn is_of<H: History<Error = StoreError>>(&self, history: &H) -> Result<bool, StateError> {
        Ok(match self.roots.applied.checked_sub(1) {
            None => true,
            Some(last) if last >= history.count(self.log) => false,
            Some(last) => history.id(self.log, last)? == self.roots.last,
        })
    }

    fn take<D: Disk, H: History<Error = StoreError>>(
        &mut self,
        disk: &D,
        history: &H,
        end: Ordinal,
        quarantined: &BTreeSet<EventId>,
    ) -> Result<(), StateError> {
        let mut entries: Vec<Entry> = Vec::new();
        let mut about = Vec::new();
        let mut next = self.roots.applied;
        while next < end {
            for event in history.events(self.log, next..end)? {
                if quarantined.contains(&event.id) {
                    self.roots.aside.insert(event.id);
                } else {
                    self.read_event(&event, next, &mut entries, &mut about);
                }
                next += 1;
            }
            if self.pages.unsaved() > UNSAVED_BYTES_MAX {
                self.save_pages(disk)?;
            }
        }
        let changes = latest(entries);
        self.roots.winners = tree::apply(&mut self.pages, &self.roots.winners, &changes)?;
        self.roots.refs = refs::apply(&mut self.pages, &self.roots.refs, about)?;
        self.roots.applied = end;
        if let Some(last) = end.checked_sub(1) {
            self.roots.last = history.id(self.log, last)?;
        }
        self.roots.snapshots.sort_unstable();
        self.saved = false;
        Ok(())
    }

    fn read_event(
        &mut self,
        event: &Event,
        ordinal: Ordinal,
        entries: &mut Vec<Entry>,
        about: &mut Vec<refs::Ref>,
    ) {
        let (id, logseq) = (event.id, event.header.logseq);
        if &*event.header.kind == kind::SNAPSHOT_CREATE && Statement::of_event(event).is_some() {
            self.roots.snapshots.push(SnapshotAt { logseq, id, ordinal, events: 0 });
        }
        let Some(subject) = event.header.payload.subject else { return };
        let mut entry = Entry { subject, id, logseq, ordinal, content: 0 };
        let class = record::class_of(&event.header.kind);
        // A payload that says nothing still wins its key, but there is nothing to see of it.
        entry.content = record::nothing(class);
        if class != 0
            && let (Some(value), Some(statement)) =
                (event.payload_value(), Statement::of_event(event))
            && is_said_by(&statement, event)
        {
            entry.content = record::write(&mut self.pages, &entry, class, value);
            refs::put(&statement, entry.content, about);
        }
        entries.push(entry);
    }

    /// Saves what is new, durably. Losing it costs time only.
    ///
    /// # Errors
    /// If the disk refuses.
    pub fn save<D: Disk>(&mut self, disk: &D) -> Result<(), StateError> {
        if self.saved {
            return Ok(());
        }
        self.save_pages(disk)?;
        self.roots.length = self.pages.len();
        let dir = dir(self.log);
        let (path, aside) = (format!("{dir}/roots"), format!("{dir}/roots.tmp"));
        let io = |error| StateError::io(&path, error);
        disk.write_new(&aside, &self.roots.encode(&self.domain)).map_err(io)?;
        disk.rename(&aside, &path).map_err(io)?;
        disk.sync_dir(&dir).map_err(io)?;
        self.saved = true;
        Ok(())
    }

    fn save_pages<D: Disk>(&mut self, disk: &D) -> Result<(), StateError> {
        let dir = dir(self.log);
        disk.create_dir(&dir).map_err(|error| StateError::io(&dir, error))?;
        self.pages.save(disk, &format!("{dir}/pages"))
    }

    /// Whether most of the pages is old, and they have grown much since they were copied last.
    pub fn is_mostly_old(&self) -> bool {
        self.pages.len() > length_max(&self.roots).max(self.copied.saturating_mul(2))
    }

    /// The work of copying what is in use of the pages. Run it anywhere, then hand the result to
    /// [`Self::finish_compact`]. Of a damaged state nothing is copied.
    pub fn compact<D: Disk>(&mut self, disk: &Arc<D>) -> Option<CompactJob<D>> {
        self.copied = self.pages.len();
        let (dir, pages, roots) = (dir(self.log), self.pages.view(), self.roots.clone());
        let job = CompactJob { disk: disk.clone(), dir, pages, roots, build: self.build };
        (!self.is_damaged()).then_some(job)
    }

    /// Removes a copy that had no place yet when the machine stopped.
    ///
    /// # Errors
    /// If the disk refuses.
    pub fn drop_begun_copy<D: Disk>(&self, disk: &D) -> Result<(), StateError> {
        let dir = dir(self.log);
        let path = compact::aside(&dir);
        let io = |error| StateError::io(&path, error);
        let names = disk.list(&dir).map_err(io)?;
        if names.iter().any(|name| path.ends_with(&format!("/{name}"))) {
            disk.remove(&path).map_err(io)?;
        }
        Ok(())
    }

    /// Puts a copy in the place of the pages. What came since it was begun is taken in by the next
    /// [`Self::catch_up`].
    ///
    /// # Errors
    /// If the pages turned out to be damaged, or the disk refuses.
    pub fn finish_compact<D: Disk>(
        &mut self,
        disk: &D,
        done: Result<Compacted, StateError>,
    ) -> Result<(), StateError> {
        let Compacted { pages, mut roots, build } = match done {
            Err(StateError::Damaged(what)) => return Err(self.pages.damage(what)),
            done => done?,
        };
        let dir = dir(self.log);
        let io = |error| StateError::io(&dir, error);
        if build != self.build {
            // It began with pages that are not there any more.
            return disk.remove(&compact::aside(&dir)).map_err(io);
        }
        self.saved = false;
        // Roots and pages of two files never stand side by side, wherever this is interrupted.
        if disk.list(&dir).map_err(io)?.iter().any(|name| name == "roots") {
            disk.remove(&format!("{dir}/roots")).map_err(io)?;
            disk.sync_dir(&dir).map_err(io)?;
        }
        disk.rename(&compact::aside(&dir), &format!("{dir}/pages")).map_err(io)?;
        roots.kept.retain(|id, _| self.roots.kept.contains_key(id));
        (self.pages, self.roots, self.saved) = (pages, roots, false);
        self.copied = self.pages.len();
        self.build += 1;
        self.save(disk)
    }

    /// The state as of now.
    pub fn current(&self) -> View<'_> {
        View { pages: &self.pages, winners: self.roots.winners, refs: self.roots.refs }
    }

    /// The state at a snapshot, if it is kept.
    pub fn at(&self, snapshot: &EventId) -> Option<View<'_>> {
        let winners = *self.roots.kept.get(snapshot)?;
        Some(View { pages: &self.pages, winners, refs: self.roots.refs })
    }

    /// The state as of now, to be kept later.
    pub fn mark(&self) -> Mark {
        Mark { winners: self.roots.winners, build: self.build }
    }

    /// Keeps an earlier state as that of a snapshot, unless everything was built anew meanwhile.
    pub fn keep(&mut self, snapshot: EventId, mark: &Mark) {
        if mark.build == self.build {
            self.roots.kept.insert(snapshot, mark.winners);
            self.saved = false;
        }
    }

    /// Lets go of the state of a snapshot.
    pub fn forget(&mut self, snapshot: &EventId) {
        self.saved &= self.roots.kept.remove(snapshot).is_none();
    }

    /// Keeps a state that was folded from a cut of the log, sorted by key. Costs what differs from
    /// the current one. Answers its root.
    ///
    /// # Errors
    /// If the log or the pages cannot be read.
    pub fn keep_cut<H: History<Error = StoreError>>(
        &mut self,
        snapshot: EventId,
        cut: &[Entry],
        history: &H,
    ) -> Result<StateHash, StateError> {
        let mut changes = self.changes_to(cut)?;
        let mut about = Vec::new();
        for change in &mut changes {
            if let Change::Set(entry) = change {
                let event = history.event(self.log, entry.ordinal)?;
                let mut read = Vec::new();
                let snapshots = self.roots.snapshots.len();
                self.read_event(&event, entry.ordinal, &mut read, &mut about);
                self.roots.snapshots.truncate(snapshots);
                if let Some(read) = read.pop() {
                    *entry = read;
                }
            }
        }
        let winners = tree::apply(&mut self.pages, &self.roots.winners, &changes)?;
        self.roots.refs = refs::apply(&mut self.pages, &self.roots.refs, about)?;
        self.roots.kept.insert(snapshot, winners);
        self.saved = false;
        Ok(winners.hash)
    }

    /// What leads from the current state to another.
    fn changes_to(&self, cut: &[Entry]) -> Result<Vec<Change>, StateError> {
        let mut changes = Vec::new();
        let mut rest = cut.iter().peekable();
        tree::visit(&self.pages, &self.roots.winners, &mut |entry| {
            while let Some(other) = rest.next_if(|other| other.subject < entry.subject) {
                changes.push(Change::Set(*other));
            }
            match rest.next_if(|other| other.subject == entry.subject) {
                None => changes.push(Change::Remove(entry.subject)),
                Some(other) if other.id != entry.id => changes.push(Change::Set(*other)),
                Some(_) => {}
            }
        })?;
        changes.extend(rest.map(|entry| Change::Set(*entry)));
        Ok(changes)
    }

    /// Where the states at two snapshots differ, sorted by key. Both must be kept.
    ///
    /// # Errors
    /// If one is not kept, or the pages cannot be read.
    pub fn diff(&self, a: &EventId, b: &EventId) -> Result<Vec<Difference>, StateError> {
        let node = |id: &EventId| self.roots.kept.get(id).copied().ok_or(StateError::NoEvent(*id));
        let mut out = Vec::new();
        tree::diff(&self.pages, &node(a)?, &node(b)?, &mut out)?;
        Ok(out)
    }

    /// Whether the state of a snapshot is kept.
    pub fn is_kept(&self, snapshot: &EventId) -> bool {
        self.roots.kept.contains_key(snapshot)
    }

    /// Checks the hashes of all pages that are in use.
    ///
    /// # Errors
    /// The first thing that is wrong.
    pub fn check(&self) -> Result<(), StateError> {
        tree::check(&self.pages, &self.roots.winners)?;
        self.roots.kept.values().try_for_each(|node| tree::check(&self.pages, node))
    }
}

/// Whether a statement that names who says it is by that one: else it is a copy, and nobody's.
fn is_said_by(statement: &Statement, event: &Event) -> bool {
    match statement {
        Statement::Execution(execution) => execution.node() == event.header.head.author,
        _ => true,
    }
}

/// Length of pages of which most is in use.
fn length_max(roots: &Roots) -> u64 {
    let entries = roots.winners.count.max(1);
    COMPACT_BYTES_MIN.max(entries.saturating_mul(COMPACT_BYTES_PER_ENTRY))
}

/// For each key its latest entry, sorted by key.
fn latest(mut entries: Vec<Entry>) -> Vec<Change> {
    entries.sort_unstable_by_key(|entry| (entry.subject, entry.order()));
    let mut changes: Vec<Change> = Vec::with_capacity(entries.len());
    for entry in entries {
        match changes.last_mut() {
            Some(last) if *last.subject() == entry.subject => *last = Change::Join(entry),
            _ => changes.push(Change::Join(entry)),
        }
    }
    changes
}

/// The entry of an event that writes a fold key, as far as the log says it.
pub(crate) fn entry_of(event: &Event, subject: Subject, ordinal: Ordinal) -> Entry {
    Entry { subject, id: event.id, logseq: event.header.logseq, ordinal, content: 0 }
}
