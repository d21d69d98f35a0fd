//! Pages without what nothing leads to any more.
//!
//! A file that only grows is mostly old at some time. What is in use is copied into a new one, on any
//! thread, while the state goes on in the old one. Then the copy takes its place, and the state
//! catches up from where it was when it was copied.

use std::collections::HashMap;
use std::sync::Arc;

use quipu_store::Disk;

use crate::error::StateError;
use crate::pages::Pages;
use crate::record;
use crate::refs;
use crate::roots::Roots;
use crate::tree::{self, Entry, Node};

/// Bytes of new pages after which they are written, so that memory stays bounded.
const UNSAVED_BYTES_MAX: usize = 16 << 20;

/// The work of copying. Nothing is lost if it is dropped or fails.
#[derive(Debug)]
pub struct CompactJob<D: Disk> {
    pub(crate) disk: Arc<D>,
    /// Where the state is.
    pub(crate) dir: String,
    pub(crate) pages: Pages,
    pub(crate) roots: Roots,
    pub(crate) build: u64,
}

/// A copy that waits to take the place of the pages, by [`crate::State::finish_compact`].
#[derive(Debug)]
pub struct Compacted {
    pub(crate) pages: Pages,
    pub(crate) roots: Roots,
    pub(crate) build: u64,
}

impl<D: Disk> CompactJob<D> {
    /// Copies what is in use. May run on any thread.
    ///
    /// # Errors
    /// If the pages are damaged, or the disk refuses.
    pub fn run(self) -> Result<Compacted, StateError> {
        let mut roots = self.roots;
        let io = |error| StateError::io(&self.dir, error);
        self.disk.create_dir(&self.dir).map_err(io)?;
        let path = aside(&self.dir);
        let mut copy = Copy {
            from: &self.pages,
            to: Pages::new(),
            moved: HashMap::new(),
            disk: &*self.disk,
            path: &path,
        };
        roots.winners = copy.tree(&roots.winners, &mut Copy::record)?;
        for node in roots.kept.values_mut() {
            *node = copy.tree(node, &mut Copy::record)?;
        }
        // Last: of the lists only what is about records that were copied.
        roots.refs = copy.tree(&roots.refs, &mut Copy::list)?;
        copy.to.save(copy.disk, copy.path)?;
        let pages = copy.to;
        Ok(Compacted { pages, roots, build: self.build })
    }
}

/// Where a copy is written that has no place yet.
pub(crate) fn aside(dir: &str) -> String {
    format!("{dir}/pages.tmp")
}

struct Copy<'a, D: Disk> {
    from: &'a Pages,
    to: Pages,
    /// Where nodes and records are now, by where they were: trees share them.
    moved: HashMap<u64, u64>,
    disk: &'a D,
    path: &'a str,
}

impl<D: Disk> Copy<'_, D> {
    /// Copies a tree. `content` copies what an entry leads to.
    fn tree(
        &mut self,
        node: &Node,
        content: &mut dyn FnMut(&mut Self, &Entry) -> Result<Entry, StateError>,
    ) -> Result<Node, StateError> {
        if node.at == 0 {
            return Ok(*node);
        }
        if let Some(at) = self.moved.get(&node.at) {
            return Ok(Node { at: *at, ..*node });
        }
        let copied = match tree::read(self.from, node)? {
            tree::Page::Leaf(entries) => {
                let entries: Result<Vec<Entry>, _> =
                    entries.iter().map(|entry| content(self, entry)).collect();
                tree::write_leaf(&mut self.to, &entries?)
            }
            tree::Page::Inner(mut children) => {
                for child in children.iter_mut() {
                    *child = self.tree(child, content)?;
                }
                tree::write_inner(&mut self.to, &children)
            }
        };
        self.moved.insert(node.at, copied.at);
        if self.to.unsaved() > UNSAVED_BYTES_MAX {
            self.to.save(self.disk, self.path)?;
        }
        Ok(copied)
    }

    /// Copies the record of a winner.
    fn record(&mut self, entry: &Entry) -> Result<Entry, StateError> {
        let content = match self.moved.get(&entry.content) {
            Some(content) => *content,
            None if record::is_kept(entry.content) => {
                let content = record::copy(self.from, entry.content, &mut self.to)?;
                self.moved.insert(entry.content, content);
                content
            }
            None => entry.content,
        };
        Ok(Entry { content, ..*entry })
    }

    /// Copies a list, in one chunk, without records that win nowhere.
    fn list(&mut self, entry: &Entry) -> Result<Entry, StateError> {
        let mut items = refs::items(self.from, entry.content)?;
        items.retain_mut(|(content, _)| match self.moved.get(content) {
            Some(moved) => {
                *content = *moved;
                true
            }
            None => false,
        });
        Ok(refs::entry_of(entry.subject, refs::write(&mut self.to, &items), items.len() as u64))
    }
}
