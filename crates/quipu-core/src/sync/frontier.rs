//! The ends of all feeds as a set that can be compared: short items, a sketch of them kept up to
//! date, and author tags.

use std::collections::{BTreeMap, BTreeSet};

use smallvec::SmallVec;

use super::message::{AuthorTag, TAG_BYTES};
use crate::dag::Dag;
use crate::history::FeedEnd;
use crate::id::{DomainId, EventId, IdMap, NodeKey};
use crate::sketch::{ITEM_BYTES, Item, Sketch, encode_extra};

/// The feed ends of one log, for comparison with others.
#[derive(Debug)]
pub struct Frontier {
    tag_key: [u8; 32],
    sketch: Sketch,
    items: IdMap<NodeKey, SmallVec<[Item; 1]>>,
    authors: BTreeMap<AuthorTag, SmallVec<[NodeKey; 1]>>,
    keys: BTreeSet<NodeKey>,
}

/// What an item says.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct EndItem {
    /// The author.
    pub author: AuthorTag,
    /// The lower 24 bits of the seq.
    pub seq_low: u32,
    /// Two bytes of the id.
    pub id_tag: [u8; 2],
}

impl EndItem {
    /// Reads an item.
    pub fn of(item: &Item) -> Self {
        let bytes = &item.0;
        let mut author = [0; TAG_BYTES];
        author.copy_from_slice(&bytes[..TAG_BYTES]);
        let seq_low = u32::from_le_bytes([bytes[5], bytes[6], bytes[7], 0]);
        Self { author, seq_low, id_tag: [bytes[8], bytes[9]] }
    }

    /// The seq nearest to `near` with these lower bits.
    pub fn seq_near(&self, near: u64) -> u64 {
        let span = 1u64 << 24;
        let base = (near & !(span - 1)) | u64::from(self.seq_low);
        let candidates = [base.checked_sub(span), Some(base), base.checked_add(span)];
        let nearest = candidates.into_iter().flatten().min_by_key(|seq| seq.abs_diff(near));
        nearest.unwrap_or(base)
    }

    /// Whether an event at that seq could be the one.
    pub fn fits(&self, id: &EventId) -> bool {
        self.id_tag == id_tag(id)
    }
}

fn id_tag(id: &EventId) -> [u8; 2] {
    [id.0[0], id.0[1]]
}

fn derive(context: &str, domain: &DomainId, nonce: u64) -> [u8; 32] {
    let mut hasher = blake3::Hasher::new();
    hasher.update(context.as_bytes()).update(&domain.0).update(&nonce.to_le_bytes());
    *hasher.finalize().as_bytes()
}

impl Frontier {
    /// The frontier of an empty log.
    pub fn new(domain: &DomainId) -> Self {
        Self {
            tag_key: derive("quipu author tag v1", domain, 0),
            sketch: Sketch::new(derive("quipu sketch v1", domain, 0)),
            items: IdMap::default(),
            authors: BTreeMap::new(),
            keys: BTreeSet::new(),
        }
    }

    /// Takes over what changed in the log. Cost follows the number of changed feeds.
    pub fn refresh(&mut self, dag: &mut Dag) {
        for author in dag.take_dirty() {
            let tag = self.tag(&author);
            let new: SmallVec<[Item; 1]> =
                dag.ends_of(&author).iter().map(|end| self.item_with(tag, end)).collect();
            let old = self.items.get(&author).cloned().unwrap_or_default();
            // Branches whose items are alike (once in 65,536 forks) count as one here; the digest
            // shows what is left.
            for item in old.iter().filter(|item| !new.contains(item)) {
                self.sketch.remove(*item);
            }
            for (index, item) in new.iter().enumerate() {
                if !old.contains(item) && !new[..index].contains(item) {
                    self.sketch.insert(*item);
                }
            }
            if self.keys.insert(author) {
                let authors = self.authors.entry(tag).or_default();
                if !authors.contains(&author) {
                    authors.push(author);
                }
            }
            let mut distinct = SmallVec::new();
            new.iter().for_each(|item| {
                if !distinct.contains(item) {
                    distinct.push(*item);
                }
            });
            self.items.insert(author, distinct);
        }
    }

    /// The tag of an author.
    pub fn tag(&self, author: &NodeKey) -> AuthorTag {
        let hash = blake3::keyed_hash(&self.tag_key, &author.0);
        let mut tag = [0; TAG_BYTES];
        tag.copy_from_slice(&hash.as_bytes()[..TAG_BYTES]);
        tag
    }

    /// The known authors with a tag: usually one.
    pub fn authors_with(&self, tag: &AuthorTag) -> &[NodeKey] {
        self.authors.get(tag).map_or(&[], |authors| authors)
    }

    /// The one known author whose key begins like that.
    pub fn author_with_prefix(&self, prefix: &[u8]) -> Option<NodeKey> {
        let mut low = NodeKey([0; 32]);
        low.0.get_mut(..prefix.len())?.copy_from_slice(prefix);
        let mut found = self.keys.range(low..).take_while(|key| key.0.starts_with(prefix));
        let first = found.next()?;
        found.next().is_none().then_some(*first)
    }

    /// The item of a feed end.
    pub fn item(&self, end: &FeedEnd) -> Item {
        self.item_with(self.tag(&end.author), end)
    }

    fn item_with(&self, tag: AuthorTag, end: &FeedEnd) -> Item {
        let mut bytes = [0; ITEM_BYTES];
        bytes[..TAG_BYTES].copy_from_slice(&tag);
        bytes[5..8].copy_from_slice(&end.seq.to_le_bytes()[..3]);
        bytes[8..].copy_from_slice(&id_tag(&end.id));
        Item(bytes)
    }

    /// All items, sorted.
    pub fn all(&self) -> Vec<Item> {
        let mut items: Vec<Item> = self.items.values().flatten().copied().collect();
        items.sort_unstable();
        items
    }

    /// How many feeds there are.
    pub fn feed_count(&self) -> usize {
        self.items.len()
    }

    /// The sketch of all items.
    pub fn sketch(&self) -> &Sketch {
        &self.sketch
    }

    /// Coded symbols of any index. Those beyond the kept ones cost a pass over all items.
    pub fn symbols(&self, range: std::ops::Range<usize>) -> Vec<crate::sketch::Symbol> {
        let kept = self.sketch.symbols(range.clone());
        if kept.len() == range.len() {
            return kept;
        }
        encode_extra(self.items.values().flatten().copied(), self.sketch.key(), range)
    }
}
