//! What both sides of a packed stream remember.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use super::dictionary::KINDS;
use super::fold::{Effort, Folder};
use crate::id::{EventId, IdMap, NodeKey};
use crate::limits::PACK_WINDOW;
use crate::recent::Recent;

/// What a writer knows of its reader, so that it can refer to things instead of repeating them.
pub trait Shared {
    /// Author and seq of an event that the reader holds, if these name it there without doubt.
    fn shared(&self, id: &EventId) -> Option<(NodeKey, u64)>;
    /// The same for the `prev` of an event, which by the rules is its author's event at that `seq`.
    fn prev_is_shared(&self, prev: &EventId, author: &NodeKey, seq: u64) -> bool {
        self.shared(prev) == Some((*author, seq))
    }
    /// If the reader knows the author: how many first bytes of its key (1 to 31) name it there without
    /// doubt, as far as can be known here.
    fn author_prefix(&self, author: &NodeKey) -> Option<usize>;
}

/// How a reader finds what the writer refers to.
pub trait Resolve {
    /// The one event of that author at that place, if there is exactly one.
    fn id_at(&self, author: &NodeKey, seq: u64) -> Option<EventId>;
    /// The one author whose key begins like that, if there is exactly one.
    fn author_with_prefix(&self, prefix: &[u8]) -> Option<NodeKey>;
    /// The id at a position of the stream that the context has forgotten or never saw.
    fn id_at_position(&self, position: u64) -> Option<EventId>;
}

/// A reader and a writer that share nothing: batches that stand alone.
#[derive(Debug, Clone, Copy, Default)]
pub struct Nothing;

impl Shared for Nothing {
    fn shared(&self, _id: &EventId) -> Option<(NodeKey, u64)> {
        None
    }
    fn author_prefix(&self, _author: &NodeKey) -> Option<usize> {
        None
    }
}

impl Resolve for Nothing {
    fn id_at(&self, _author: &NodeKey, _seq: u64) -> Option<EventId> {
        None
    }
    fn author_with_prefix(&self, _prefix: &[u8]) -> Option<NodeKey> {
        None
    }
    fn id_at_position(&self, _position: u64) -> Option<EventId> {
        None
    }
}

/// An author that the stream has introduced, and its last event in the stream.
#[derive(Debug, Clone, Copy)]
pub(super) struct KnownAuthor {
    pub(super) key: NodeKey,
    pub(super) last: Option<(u64, EventId)>,
}

/// Memory of one direction of a stream: introduced authors and kinds, recent ids, last clock.
/// Writer and reader update it alike.
#[derive(Default)]
pub struct Context {
    pub(super) authors: Vec<KnownAuthor>,
    author_index: IdMap<NodeKey, u32>,
    pub(super) kinds: Vec<Arc<str>>,
    kind_index: BTreeMap<Arc<str>, u32>,
    pub(super) last_ms: u64,
    pub(super) last_counter: u16,
    /// Position of the next event in the stream.
    pub(super) position: u64,
    recent: VecDeque<EventId>,
    positions: Option<Recent<u64>>,
    /// The kind that was looked up last: events of one kind often come in a row.
    last_kind: Option<(Arc<str>, u32)>,
    pub(super) folder: Folder,
}

impl std::fmt::Debug for Context {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Context")
            .field("authors", &self.authors.len())
            .field("kinds", &self.kinds.len())
            .field("position", &self.position)
            .finish_non_exhaustive()
    }
}

impl Context {
    /// The context of a writer at the start of a stream.
    pub fn writer() -> Self {
        Self { positions: Some(Recent::new(PACK_WINDOW)), ..Self::default() }
    }

    /// The context of a reader at the start of a stream.
    pub fn reader() -> Self {
        Self::default()
    }

    /// Introduces authors and kinds ahead, as blocks do in their footer.
    pub fn with_dictionary(mut self, authors: &[NodeKey], kinds: &[Arc<str>]) -> Self {
        authors.iter().for_each(|author| _ = self.add_author(*author));
        kinds.iter().for_each(|kind| _ = self.add_kind(kind.clone()));
        self
    }

    /// Writes columns as they are: larger, but several times faster.
    pub fn without_compression(mut self) -> Self {
        self.folder.effort = Effort::Plain;
        self
    }

    /// Spends time on bytes from now on: for a slow link.
    pub fn set_small(&mut self) {
        self.folder.effort = Effort::Small;
    }

    /// Begins a stream of sync, whose ends know quipu's own kinds ([`super::STREAM_KINDS`]).
    pub fn of_sync(self) -> Self {
        self.with_dictionary(&[], &KINDS)
    }

    /// Forgets what came before, but for the dictionary: the next batch can then be read alone,
    /// with [`Resolve::id_at_position`] for links into earlier ones.
    pub fn start_page(&mut self, position: u64) {
        self.authors.iter_mut().for_each(|author| author.last = None);
        self.last_ms = 0;
        self.last_counter = 0;
        self.position = position;
        self.recent.clear();
    }

    /// The introduced authors, in the order of introduction.
    pub fn authors(&self) -> impl Iterator<Item = &NodeKey> {
        self.authors.iter().map(|author| &author.key)
    }

    /// The introduced kinds, in the order of introduction.
    pub fn kinds(&self) -> &[Arc<str>] {
        &self.kinds
    }

    pub(super) fn author(&self, key: &NodeKey) -> Option<u32> {
        self.author_index.get(key).copied()
    }

    pub(super) fn add_author(&mut self, key: NodeKey) -> u32 {
        let index = self.authors.len() as u32;
        self.authors.push(KnownAuthor { key, last: None });
        self.author_index.insert(key, index);
        index
    }

    pub(super) fn kind(&mut self, kind: &Arc<str>) -> Option<u32> {
        match &self.last_kind {
            Some((last, index)) if Arc::ptr_eq(last, kind) => Some(*index),
            _ => {
                let index = self.kind_index.get(kind).copied()?;
                self.last_kind = Some((kind.clone(), index));
                Some(index)
            }
        }
    }

    pub(super) fn add_kind(&mut self, kind: Arc<str>) -> u32 {
        let index = self.kinds.len() as u32;
        self.kinds.push(kind.clone());
        self.kind_index.insert(kind, index);
        index
    }

    /// Position of an event in the stream, if the reader still remembers it.
    pub(super) fn position_of(&self, id: &EventId) -> Option<u64> {
        let first = self.position.saturating_sub(PACK_WINDOW as u64);
        self.positions.as_ref()?.get(id).filter(|position| *position >= first)
    }

    pub(super) fn recent(&self, position: u64) -> Option<EventId> {
        let first = self.position.checked_sub(self.recent.len() as u64)?;
        self.recent.get(usize::try_from(position.checked_sub(first)?).ok()?).copied()
    }

    /// Takes note of the next event of the stream.
    pub(super) fn push(&mut self, author: u32, seq: u64, id: EventId) {
        if let Some(known) = self.authors.get_mut(author as usize) {
            known.last = Some((seq, id));
        }
        if let Some(positions) = &mut self.positions {
            positions.insert(id, self.position);
        }
        self.recent.push_back(id);
        self.position += 1;
        if self.recent.len() > PACK_WINDOW {
            self.recent.pop_front();
        }
    }
}
