//! The ends of all feeds as a set that can be compared: short items, a sketch of them kept up to
//! date, and author tags.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;

use smallvec::SmallVec;

use super::message::{AuthorTag, ENDS_MAX, TAG_BYTES};
use crate::dag::Dag;
use crate::history::FeedEnd;
use crate::id::{DomainId, EventId, IdMap, NodeKey};
use crate::limits::SYMBOLS_TAKEN_MAX;
use crate::sketch::{ITEM_BYTES, Item, SYMBOLS_KEPT, Sketch, Symbol, encode_extra};

/// The feed ends of one log, for comparison with others.
#[derive(Debug)]
pub struct Frontier {
    tag_key: [u8; 32],
    sketch: Sketch,
    /// Symbols beyond those that the sketch keeps, once somebody asked, until the log changes.
    extra: Vec<Symbol>,
    items: IdMap<NodeKey, SmallVec<[Item; 1]>>,
    authors: BTreeMap<AuthorTag, SmallVec<[NodeKey; 1]>>,
    keys: BTreeSet<NodeKey>,
}

/// What a list of feed ends speaks of: of all, unless the list is full. Then it is a part, and says nothing of
/// items that are not between its first and its last, in an order in which the least follow the greatest.
#[derive(Debug, Clone, Copy)]
pub struct Covered(Option<(Item, Item)>);

impl Covered {
    /// What a list speaks of.
    pub fn by(list: &[Item]) -> Self {
        Self(list.first().copied().zip(list.last().copied()).filter(|_| list.len() >= ENDS_MAX))
    }

    /// Whether it is a part.
    pub fn is_part(&self) -> bool {
        self.0.is_some()
    }

    /// Whether the list would name an item if its author held it.
    pub fn covers(&self, item: &Item) -> bool {
        match &self.0 {
            None => true,
            Some((first, last)) if first <= last => first <= item && item <= last,
            Some((first, last)) => first <= item || item <= last,
        }
    }
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
            extra: Vec::new(),
            items: IdMap::default(),
            authors: BTreeMap::new(),
            keys: BTreeSet::new(),
        }
    }

    /// Takes over what changed in the log. Cost follows the number of changed feeds.
    pub fn refresh(&mut self, dag: &mut Dag) {
        for author in dag.take_dirty() {
            self.extra = Vec::new();
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

    /// How many authors are known.
    pub fn authors(&self) -> usize {
        self.keys.len()
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

    /// The items that a list may hold: all of them, or a part that begins elsewhere in each round if they
    /// are too many. A list that is full is taken for a part (see [`Covered`]).
    pub fn list(&self, round: u32) -> Vec<Item> {
        let mut items = self.all();
        if items.len() < ENDS_MAX {
            return items;
        }
        // Each part begins with the last item of the one before, so nothing lies between them.
        let step = ENDS_MAX - 1;
        let parts = items.len().div_ceil(step);
        let begin = step * (round as usize % parts) % items.len();
        items.rotate_left(begin);
        items.truncate(ENDS_MAX);
        items
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

    /// Coded symbols with indices below [`SYMBOLS_TAKEN_MAX`]. The first time that some beyond the kept
    /// ones are asked for, a pass over all items makes all of them.
    pub fn symbols(&mut self, range: Range<usize>) -> Vec<Symbol> {
        let end = range.end.min(SYMBOLS_TAKEN_MAX);
        if end > SYMBOLS_KEPT && self.extra.is_empty() {
            let items = self.items.values().flatten().copied();
            self.extra = encode_extra(items, self.sketch.key(), SYMBOLS_KEPT..SYMBOLS_TAKEN_MAX);
        }
        let mut symbols = self.sketch.symbols(range.start..end);
        let beyond = range.start.max(SYMBOLS_KEPT)..end;
        if !beyond.is_empty() {
            let beyond = beyond.start - SYMBOLS_KEPT..beyond.end - SYMBOLS_KEPT;
            symbols.extend_from_slice(&self.extra[beyond]);
        }
        symbols
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sync::plan::Difference;

    /// A frontier of many feeds, of which every `skip`-th is not held.
    fn frontier(feeds: usize, skip: usize) -> Frontier {
        let mut frontier = Frontier::new(&DomainId([7; 32]));
        for n in (0..feeds).filter(|n| n % skip != 1) {
            let author = NodeKey(derive("author", &DomainId([7; 32]), n as u64));
            let end = FeedEnd {
                author,
                seq: 1,
                id: EventId(author.0),
                logseq: crate::event::LogSeq(1),
                ordinal: n as u64,
            };
            let item = frontier.item(&end);
            frontier.sketch.insert(item);
            frontier.items.insert(author, SmallVec::from_slice(&[item]));
        }
        frontier
    }

    /// Every difference is in a list of some round, however many feeds there are; no list shows one that
    /// is none.
    #[test]
    fn lists_of_parts_show_all_differences() {
        for feeds in [ENDS_MAX - 2, ENDS_MAX - 1, ENDS_MAX, ENDS_MAX + 1, 3 * ENDS_MAX] {
            let (theirs, ours) = (frontier(feeds, 5), frontier(feeds, 3));
            for (remote, local) in [(&theirs, &ours), (&ours, &theirs)] {
                let real = Difference::of(&remote.all(), &local.all(), None);
                let (mut remote_only, mut local_only) = (BTreeSet::new(), BTreeSet::new());
                let parts = remote.feed_count() as u32 / (ENDS_MAX - 1) as u32 + 1;
                for round in 9..9 + parts {
                    let list = remote.list(round);
                    assert!(list.len() <= ENDS_MAX);
                    assert_eq!(Covered::by(&list).is_part(), remote.feed_count() >= ENDS_MAX);
                    let mut own = local.all();
                    own.retain(|item| Covered::by(&list).covers(item));
                    let part = Difference::of(&list, &own, None);
                    remote_only.extend(part.remote_only);
                    local_only.extend(part.local_only);
                }
                assert!(real.remote_only.iter().eq(&remote_only), "{feeds}");
                assert!(real.local_only.iter().eq(&local_only), "{feeds}");
            }
        }
    }

    #[test]
    fn symbols_beyond_the_kept_ones_are_those_of_all_items() {
        let mut frontier = frontier(3_000, 7);
        let items = frontier.all();
        for range in [0..10, 1_000..1_024, 1_000..1_100, 1_024..1_025, 20_000..SYMBOLS_TAKEN_MAX] {
            let expected =
                encode_extra(items.iter().copied(), frontier.sketch.key(), range.clone());
            assert_eq!(frontier.symbols(range), expected);
        }
        assert_eq!(frontier.symbols(0..SYMBOLS_TAKEN_MAX + 5).len(), SYMBOLS_TAKEN_MAX);
    }
}
