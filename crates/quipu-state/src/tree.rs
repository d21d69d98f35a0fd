//! The state tree on pages: every change writes the nodes on its way anew and shares the others,
//! so an older root costs only what differs. `quipu_core::state` defines shape and hashes.

use quipu_core::event::LogSeq;
use quipu_core::id::{EventId, Subject};
use quipu_core::state::{
    CHILDREN, ENTRY_BYTES, LEAF_ENTRIES_MAX, NO_CHILD, StateHash, digit, inner_hash, leaf_hash,
};

use crate::error::StateError;
use crate::pages::Pages;

/// What is kept of an entry besides what is hashed: clock, ordinal, content.
const EXTRA_BYTES: usize = 24;
const HEADER_BYTES: usize = 4;
const LEAF: u8 = 1;
const INNER: u8 = 2;
/// Hash, offset and count of a child.
const CHILD_BYTES: usize = 48;

/// The winner of a fold key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Entry {
    /// The fold key.
    pub subject: Subject,
    /// The event that won.
    pub id: EventId,
    /// Its clock.
    pub logseq: LogSeq,
    /// Where it lies in this machine's log.
    pub ordinal: u64,
    /// What it says, for this machine: see [`crate::record`].
    pub(crate) content: u64,
}

impl Entry {
    /// What decides who wins (LOG-2).
    pub fn order(&self) -> (LogSeq, EventId) {
        (self.logseq, self.id)
    }
}

/// A change of the state.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Change {
    /// Wins if it is later in replay order.
    Join(Entry),
    /// Takes the place of whatever is there.
    Set(Entry),
    /// Nothing is there any more.
    Remove(Subject),
}

impl Change {
    pub(crate) fn subject(&self) -> &Subject {
        match self {
            Change::Join(entry) | Change::Set(entry) => &entry.subject,
            Change::Remove(subject) => subject,
        }
    }

    fn of(&self, before: Option<&Entry>) -> Option<Entry> {
        match (self, before) {
            (Change::Join(entry), Some(before)) if before.order() >= entry.order() => Some(*before),
            (Change::Join(entry) | Change::Set(entry), _) => Some(*entry),
            (Change::Remove(_), _) => None,
        }
    }
}

/// A subtree.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Node {
    /// Its hash; that of the empty leaf for an empty tree.
    pub(crate) hash: StateHash,
    /// Where its page is; 0 if it is empty.
    pub(crate) at: u64,
    /// How many entries it has.
    pub(crate) count: u64,
}

impl Node {
    /// The empty tree.
    pub(crate) fn empty() -> Self {
        Self { hash: leaf_hash(&[]), at: 0, count: 0 }
    }
}

pub(crate) type Children = [Node; CHILDREN];

pub(crate) enum Page {
    Leaf(Vec<Entry>),
    Inner(Box<Children>),
}

pub(crate) fn read(pages: &Pages, node: &Node) -> Result<Page, StateError> {
    if node.at == 0 {
        return Ok(Page::Leaf(Vec::new()));
    }
    match pages.number::<HEADER_BYTES>(node.at)? {
        [LEAF, count, ..] if usize::from(count) <= LEAF_ENTRIES_MAX => {
            let count = usize::from(count);
            let bytes =
                pages.bytes(node.at + HEADER_BYTES as u64, count * (ENTRY_BYTES + EXTRA_BYTES))?;
            let (hashed, extra) = bytes.split_at(count * ENTRY_BYTES);
            let entries = hashed.chunks_exact(ENTRY_BYTES).zip(extra.chunks_exact(EXTRA_BYTES));
            Ok(Page::Leaf(entries.map(|(hashed, extra)| entry_of(hashed, extra)).collect()))
        }
        [INNER, ..] => {
            let bytes = pages.bytes(node.at + HEADER_BYTES as u64, CHILDREN * CHILD_BYTES)?;
            let mut children = [Node::empty(); CHILDREN];
            for (child, bytes) in children.iter_mut().zip(bytes.chunks_exact(CHILD_BYTES)) {
                *child = child_of(bytes);
            }
            Ok(Page::Inner(Box::new(children)))
        }
        _ => Err(pages.damage("a page is neither leaf nor inner node")),
    }
}

fn array<const N: usize>(bytes: &[u8]) -> [u8; N] {
    let mut out = [0; N];
    out.copy_from_slice(&bytes[..N]);
    out
}

fn number(bytes: &[u8]) -> u64 {
    u64::from_le_bytes(array(bytes))
}

fn entry_of(hashed: &[u8], extra: &[u8]) -> Entry {
    Entry {
        subject: Subject(array(hashed)),
        id: EventId(array(&hashed[32..])),
        logseq: LogSeq(number(extra)),
        ordinal: number(&extra[8..]),
        content: number(&extra[16..]),
    }
}

fn child_of(bytes: &[u8]) -> Node {
    Node { hash: array(bytes), at: number(&bytes[32..]), count: number(&bytes[40..]) }
}

pub(crate) fn write_leaf(pages: &mut Pages, entries: &[Entry]) -> Node {
    if entries.is_empty() {
        return Node::empty();
    }
    let mut bytes = Vec::with_capacity(HEADER_BYTES + entries.len() * (ENTRY_BYTES + EXTRA_BYTES));
    bytes.extend_from_slice(&[LEAF, entries.len() as u8, 0, 0]);
    for entry in entries {
        bytes.extend_from_slice(&entry.subject.0);
        bytes.extend_from_slice(&entry.id.0);
    }
    let hash = leaf_hash(&bytes[HEADER_BYTES..]);
    for entry in entries {
        for number in [entry.logseq.0, entry.ordinal, entry.content] {
            bytes.extend_from_slice(&number.to_le_bytes());
        }
    }
    Node { hash, at: pages.push(&bytes), count: entries.len() as u64 }
}

pub(crate) fn write_inner(pages: &mut Pages, children: &Children) -> Node {
    let mut bytes = Vec::with_capacity(HEADER_BYTES + CHILDREN * CHILD_BYTES);
    bytes.extend_from_slice(&[INNER, 0, 0, 0]);
    let mut hashes = [NO_CHILD; CHILDREN];
    for (child, hash) in children.iter().zip(&mut hashes) {
        if child.count > 0 {
            *hash = child.hash;
        }
        bytes.extend_from_slice(&child.hash);
        bytes.extend_from_slice(&child.at.to_le_bytes());
        bytes.extend_from_slice(&child.count.to_le_bytes());
    }
    let count = children.iter().map(|child| child.count).sum();
    Node { hash: inner_hash(&hashes), at: pages.push(&bytes), count }
}

/// A tree of entries that are sorted by key.
fn build(pages: &mut Pages, entries: &[Entry], depth: usize) -> Node {
    if entries.len() <= LEAF_ENTRIES_MAX {
        return write_leaf(pages, entries);
    }
    let mut children = [Node::empty(); CHILDREN];
    let mut rest = entries;
    for (number, child) in children.iter_mut().enumerate() {
        let end = rest.partition_point(|entry| digit(&entry.subject, depth) <= number);
        let (here, after) = rest.split_at(end);
        rest = after;
        *child = build(pages, here, depth + 1);
    }
    write_inner(pages, &children)
}

/// Applies changes, which are sorted by key, at most one for each. Costs what changes.
pub(crate) fn apply(
    pages: &mut Pages,
    node: &Node,
    changes: &[Change],
) -> Result<Node, StateError> {
    apply_at(pages, node, changes, 0)
}

fn apply_at(
    pages: &mut Pages,
    node: &Node,
    changes: &[Change],
    depth: usize,
) -> Result<Node, StateError> {
    if changes.is_empty() {
        return Ok(*node);
    }
    let mut children = match read(pages, node)? {
        Page::Leaf(before) => {
            let after = merge(&before, changes);
            let same = after == before;
            return Ok(if same { *node } else { build(pages, &after, depth) });
        }
        Page::Inner(children) => children,
    };
    let mut rest = changes;
    let mut changed = false;
    for (number, child) in children.iter_mut().enumerate() {
        let end = rest.partition_point(|change| digit(change.subject(), depth) <= number);
        let (here, after) = rest.split_at(end);
        rest = after;
        let next = apply_at(pages, child, here, depth + 1)?;
        changed |= next != *child;
        *child = next;
    }
    if !changed {
        return Ok(*node);
    }
    if children.iter().map(|child| child.count).sum::<u64>() <= LEAF_ENTRIES_MAX as u64 {
        let mut entries = Vec::new();
        for child in children.iter() {
            visit(pages, child, &mut |entry| entries.push(*entry))?;
        }
        return Ok(write_leaf(pages, &entries));
    }
    Ok(write_inner(pages, &children))
}

fn merge(before: &[Entry], changes: &[Change]) -> Vec<Entry> {
    let mut after = Vec::with_capacity(before.len() + changes.len());
    let mut before = before.iter().peekable();
    for change in changes {
        while let Some(entry) = before.next_if(|entry| entry.subject < *change.subject()) {
            after.push(*entry);
        }
        let same = before.next_if(|entry| entry.subject == *change.subject());
        after.extend(change.of(same));
    }
    after.extend(before);
    after
}

/// The entry of a key.
pub(crate) fn find(
    pages: &Pages,
    root: &Node,
    subject: &Subject,
) -> Result<Option<Entry>, StateError> {
    let mut at = root.at;
    for depth in 0..=2 * subject.0.len() {
        if at == 0 {
            return Ok(None);
        }
        let [kind, count, ..] = pages.number::<HEADER_BYTES>(at)?;
        let body = at + HEADER_BYTES as u64;
        if kind == INNER {
            let child = body + (digit(subject, depth) * CHILD_BYTES) as u64;
            at = u64::from_le_bytes(pages.number(child + 32)?);
            continue;
        }
        if kind != LEAF {
            return Err(pages.damage("a page is neither leaf nor inner node"));
        }
        let count = usize::from(count);
        let hashed = pages.bytes(body, count * ENTRY_BYTES)?;
        let key = |position: usize| hashed.get(position * ENTRY_BYTES..)?.get(..32);
        let found = (0..count).find(|position| key(*position) == Some(&subject.0[..]));
        let Some(position) = found else { return Ok(None) };
        let extra = body + (count * ENTRY_BYTES + position * EXTRA_BYTES) as u64;
        let extra = pages.bytes(extra, EXTRA_BYTES)?;
        return Ok(Some(entry_of(&hashed[position * ENTRY_BYTES..], extra)));
    }
    Err(pages.damage("the tree is deeper than its keys are long"))
}

/// Visits all entries, sorted by key.
pub(crate) fn visit(
    pages: &Pages,
    node: &Node,
    see: &mut dyn FnMut(&Entry),
) -> Result<(), StateError> {
    match read(pages, node)? {
        Page::Leaf(entries) => entries.iter().for_each(see),
        Page::Inner(children) => {
            for child in children.iter().filter(|child| child.count > 0) {
                visit(pages, child, see)?;
            }
        }
    }
    Ok(())
}

/// Checks the hashes and counts of all pages below a node.
pub(crate) fn check(pages: &Pages, node: &Node) -> Result<(), StateError> {
    let (hash, count) = match read(pages, node)? {
        Page::Leaf(entries) => {
            let bytes = entries.iter().flat_map(|entry| [entry.subject.0, entry.id.0]);
            let bytes: Vec<[u8; 32]> = bytes.collect();
            (leaf_hash(bytes.as_flattened()), entries.len() as u64)
        }
        Page::Inner(children) => {
            let mut hashes = [NO_CHILD; CHILDREN];
            for (child, hash) in children.iter().zip(&mut hashes).filter(|(c, _)| c.count > 0) {
                check(pages, child)?;
                *hash = child.hash;
            }
            (inner_hash(&hashes), children.iter().map(|child| child.count).sum())
        }
    };
    let right = hash == node.hash && count == node.count;
    if right { Ok(()) } else { Err(pages.damage("a page does not have its hash")) }
}

/// What two trees hold for a key in which they differ.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Difference {
    /// The fold key.
    pub subject: Subject,
    /// What the first has.
    pub before: Option<Entry>,
    /// What the second has.
    pub after: Option<Entry>,
}

/// Where two trees differ, sorted by key. Subtrees with equal hashes are not looked into.
pub(crate) fn diff(
    pages: &Pages,
    before: &Node,
    after: &Node,
    out: &mut Vec<Difference>,
) -> Result<(), StateError> {
    if before.hash == after.hash {
        return Ok(());
    }
    if let (Page::Inner(before), Page::Inner(after)) = (read(pages, before)?, read(pages, after)?) {
        for (before, after) in before.iter().zip(after.iter()) {
            diff(pages, before, after, out)?;
        }
        return Ok(());
    }
    let entries = |node: &Node| {
        let mut entries = Vec::new();
        visit(pages, node, &mut |entry| entries.push(*entry)).map(|()| entries)
    };
    let (before, after) = (entries(before)?, entries(after)?);
    let (mut before, mut after) = (before.iter().peekable(), after.iter().peekable());
    while let Some(subject) =
        before.peek().map(|e| e.subject).into_iter().chain(after.peek().map(|e| e.subject)).min()
    {
        let one = before.next_if(|entry| entry.subject == subject).copied();
        let other = after.next_if(|entry| entry.subject == subject).copied();
        if one.map(|entry| entry.id) != other.map(|entry| entry.id) {
            out.push(Difference { subject, before: one, after: other });
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;
    use quipu_core::state::root_of;

    use super::*;

    fn entry(key: u16, number: u8) -> Entry {
        // Few first bytes, so that the tree gets deep as well as wide.
        let mut subject = *blake3::hash(&key.to_le_bytes()).as_bytes();
        subject[0] &= 0x11;
        Entry {
            subject: Subject(subject),
            id: EventId([number; 32]),
            logseq: LogSeq(u64::from(number)),
            ordinal: u64::from(key),
            content: 0,
        }
    }

    fn sorted(mut changes: Vec<Change>) -> Vec<Change> {
        changes.sort_by_key(|change| *change.subject());
        changes.dedup_by_key(|change| *change.subject());
        changes
    }

    fn root(model: &BTreeMap<Subject, Entry>) -> StateHash {
        root_of(&model.iter().map(|(subject, entry)| (*subject, entry.id)).collect::<Vec<_>>())
    }

    proptest! {
        /// Whatever the order and the batches, the tree is the one of its content.
        #[test]
        fn the_tree_follows_from_its_content(
            batches in prop::collection::vec(
                prop::collection::vec((0u16..600, 1u8..20, 0u8..8), 1..200), 1..8)
        ) {
            let mut pages = Pages::new();
            let mut model: BTreeMap<Subject, Entry> = BTreeMap::new();
            let mut node = Node::empty();
            let mut versions = vec![(node, model.clone())];
            for batch in batches {
                let change = |(key, number, what): (u16, u8, u8)| match what {
                    0 => Change::Remove(entry(key, number).subject),
                    1 => Change::Set(entry(key, number)),
                    _ => Change::Join(entry(key, number)),
                };
                let changes = sorted(batch.into_iter().map(change).collect());
                node = apply(&mut pages, &node, &changes).unwrap();
                for change in &changes {
                    let subject = *change.subject();
                    match change.of(model.get(&subject)) {
                        Some(entry) => _ = model.insert(subject, entry),
                        None => _ = model.remove(&subject),
                    }
                }
                prop_assert_eq!(node.hash, root(&model));
                prop_assert_eq!(node.count, model.len() as u64);
                check(&pages, &node).unwrap();
                versions.push((node, model.clone()));
            }
            // Older versions are still what they were, and differences are exact.
            for (older, then) in &versions {
                let mut seen = Vec::new();
                visit(&pages, older, &mut |entry| seen.push(*entry)).unwrap();
                prop_assert!(seen.iter().eq(then.values()));
                for key in 0..600 {
                    let subject = entry(key, 0).subject;
                    prop_assert_eq!(find(&pages, older, &subject).unwrap(), then.get(&subject).copied());
                }
                let mut out = Vec::new();
                diff(&pages, older, &node, &mut out).unwrap();
                let mut expected = Vec::new();
                for key in then.keys().chain(model.keys()).collect::<std::collections::BTreeSet<_>>() {
                    let (before, after) = (then.get(key).copied(), model.get(key).copied());
                    if before.map(|e| e.id) != after.map(|e| e.id) {
                        expected.push(Difference { subject: *key, before, after });
                    }
                }
                prop_assert_eq!(out, expected);
            }
        }
    }

    #[test]
    fn a_flipped_bit_is_found() {
        let mut pages = Pages::new();
        let all: Vec<Change> = sorted((0..300).map(|key| Change::Join(entry(key, 1))).collect());
        let node = apply(&mut pages, &Node::empty(), &all).unwrap();
        check(&pages, &node).unwrap();
        let wrong = Node { hash: [1; 32], ..node };
        assert!(check(&pages, &wrong).is_err());
        assert!(check(&pages, &Node { count: 299, ..node }).is_err());
    }
}
