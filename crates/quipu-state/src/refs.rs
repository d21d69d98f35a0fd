//! From a thing to what is said of it: for each artifact the records about it, for each end the
//! edges at it. A list may hold records that have lost since; whoever reads it asks the tree.
//!
//! A list is a chain of chunks, newest first. A new chunk takes in older ones that are not larger,
//! so a list of n has at most log n chunks, and each record was copied at most log n times.

use std::sync::LazyLock;

use quipu_core::event::LogSeq;
use quipu_core::execution::Execution;
use quipu_core::id::{ArtifactId, EventId, RunKey, Subject};
use quipu_core::statement::{End, Statement};

use crate::error::StateError;
use crate::pages::Pages;
use crate::tree::{self, Change, Entry, Node};

static REF_KEY: LazyLock<[u8; 32]> =
    LazyLock::new(|| *blake3::hash(b"quipu state reference v1").as_bytes());

/// Length of a chunk's list, and the chunk before.
const HEADER_BYTES: usize = 16;
/// A record's content, and a side.
const ITEM_BYTES: usize = 16;

/// On which side of an edge an end stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Side {
    /// The edge comes from it.
    From,
    /// The edge leads to it.
    To,
}

/// A record that is about a thing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Ref {
    pub(crate) about: Subject,
    pub(crate) content: u64,
    /// 0 for facts, else the side.
    pub(crate) side: u8,
}

fn key(tag: u8, digest: &[u8; 32]) -> Subject {
    let mut bytes = [tag; 33];
    bytes[1..].copy_from_slice(digest);
    Subject(*blake3::keyed_hash(&REF_KEY, &bytes).as_bytes())
}

/// The list of facts about an artifact.
pub(crate) fn facts_of(key_of: &ArtifactId) -> Subject {
    key(0, &key_of.0)
}

/// The list of edges at an end.
pub(crate) fn edges_at(end: &End) -> Subject {
    match end {
        End::Artifact(artifact) => key(1, &artifact.0),
        End::Node(node) => key(2, &node.0),
        End::Blinded(commitment) => key(3, &commitment.0),
    }
}

/// The list of what is followed.
pub(crate) fn follows() -> Subject {
    key(4, &[0; 32])
}

/// The list of announcements and claims about a run or a step.
pub(crate) fn work_on(run: &RunKey) -> Subject {
    key(5, &run.0)
}

/// The list of all announcements.
pub(crate) fn announcements() -> Subject {
    key(6, &[0; 32])
}

/// The list of what is wanted to be run.
pub(crate) fn requests() -> Subject {
    key(7, &[0; 32])
}

/// The list of what machines offer.
pub(crate) fn offers() -> Subject {
    key(8, &[0; 32])
}

/// The lists that know of something said about programs.
fn lists_of(execution: &Execution) -> Vec<Subject> {
    match execution {
        Execution::Announce(one) => vec![work_on(&one.run), announcements()],
        Execution::Request(_) => vec![requests()],
        Execution::Claim { step, .. } => vec![work_on(step)],
        Execution::Offer(_) => vec![offers()],
    }
}

impl Side {
    fn code(self) -> u8 {
        match self {
            Side::From => 1,
            Side::To => 2,
        }
    }

    pub(crate) fn of_code(code: u8) -> Option<Self> {
        [Side::From, Side::To].into_iter().find(|side| side.code() == code)
    }
}

/// What a record is about.
pub(crate) fn put(statement: &Statement, content: u64, out: &mut Vec<Ref>) {
    let mut fact = |key: &ArtifactId| out.push(Ref { about: facts_of(key), content, side: 0 });
    match statement {
        Statement::Put(claim)
        | Statement::Import { claim, .. }
        | Statement::Resolve { keep: claim, .. } => fact(&claim.key),
        Statement::TombstoneArtifact(key)
        | Statement::Pin { key, .. }
        | Statement::Publish { key, .. } => fact(key),
        Statement::Edge(edge, _) => {
            for (side, ends) in [(Side::From, &edge.from), (Side::To, &edge.to)] {
                for end in ends {
                    out.push(Ref { about: edges_at(end), content, side: side.code() });
                }
            }
        }
        Statement::TombstoneEdge(_)
        | Statement::Snapshot { .. }
        | Statement::DropSnapshot(_)
        | Statement::Publication { .. } => {}
        Statement::Follow(_) => out.push(Ref { about: follows(), content, side: 0 }),
        Statement::Execution(execution) => {
            let lists = lists_of(execution).into_iter();
            out.extend(lists.map(|about| Ref { about, content, side: 0 }));
        }
    }
}

/// Adds to the lists.
pub(crate) fn apply(
    pages: &mut Pages,
    root: &Node,
    mut refs: Vec<Ref>,
) -> Result<Node, StateError> {
    // Stable: within a list, records stay in order of arrival.
    refs.sort_by_key(|one| one.about);
    let mut changes = Vec::new();
    for list in refs.chunk_by(|a, b| a.about == b.about) {
        let about = list[0].about;
        let head = tree::find(pages, root, &about)?;
        let (head, total) = head.map_or((0, 0), |entry| (entry.content, entry.ordinal));
        let content = add(pages, head, list)?;
        let total = total + list.len() as u64;
        changes.push(Change::Set(entry_of(about, content, total)));
    }
    tree::apply(pages, root, &changes)
}

/// The entry that leads from a thing to its newest chunk.
pub(crate) fn entry_of(about: Subject, content: u64, total: u64) -> Entry {
    // The hash of this tree says nothing; the id only makes a changed entry a changed leaf.
    let mut id = EventId::default();
    id.0[..8].copy_from_slice(&content.to_le_bytes());
    Entry { subject: about, id, logseq: LogSeq(0), ordinal: total, content }
}

/// Adds a chunk before a chain.
fn add(pages: &mut Pages, mut head: u64, list: &[Ref]) -> Result<u64, StateError> {
    let mut items = bytes_of(list.iter().map(|one| (one.content, one.side)));
    while head != 0 {
        let (older, before) = chunk(pages, head)?;
        if older.len() > items.len() {
            break;
        }
        let mut joined = older.to_vec();
        joined.extend_from_slice(&items);
        (items, head) = (joined, before);
    }
    Ok(write_chunk(pages, &items, head))
}

fn bytes_of(list: impl Iterator<Item = (u64, u8)>) -> Vec<u8> {
    let item = |(content, side): (u64, u8)| [content.to_le_bytes(), u64::from(side).to_le_bytes()];
    list.flat_map(item).flatten().collect()
}

fn write_chunk(pages: &mut Pages, items: &[u8], before: u64) -> u64 {
    let mut header = [0; HEADER_BYTES];
    header[..8].copy_from_slice(&((items.len() / ITEM_BYTES) as u64).to_le_bytes());
    header[8..].copy_from_slice(&before.to_le_bytes());
    let at = pages.push(&header);
    pages.push(items);
    at
}

/// Writes a whole list as one chunk. Answers where it is; 0 if it is empty.
pub(crate) fn write(pages: &mut Pages, list: &[(u64, u8)]) -> u64 {
    match list {
        [] => 0,
        list => write_chunk(pages, &bytes_of(list.iter().copied()), 0),
    }
}

/// The items of a chunk, and the chunk before.
fn chunk(pages: &Pages, at: u64) -> Result<(&[u8], u64), StateError> {
    let count = u64::from_le_bytes(pages.number(at)?);
    let before = u64::from_le_bytes(pages.number(at + 8)?);
    if before >= at {
        return Err(pages.damage("a chain of records leads forward"));
    }
    if count == 0 {
        return Err(pages.damage("a chain of records has an empty chunk"));
    }
    let length = usize::try_from(count).ok().and_then(|count| count.checked_mul(ITEM_BYTES));
    let items = pages.bytes(at + HEADER_BYTES as u64, length.unwrap_or(usize::MAX))?;
    Ok((items, before))
}

/// The records of a list, newest chunk first: content and side.
pub(crate) fn list(
    pages: &Pages,
    root: &Node,
    about: &Subject,
) -> Result<Vec<(u64, u8)>, StateError> {
    let entry = tree::find(pages, root, about)?;
    entry.map_or(Ok(Vec::new()), |entry| items(pages, entry.content))
}

/// The records of a chain, newest chunk first: content and side.
pub(crate) fn items(pages: &Pages, mut at: u64) -> Result<Vec<(u64, u8)>, StateError> {
    let mut out = Vec::new();
    while at != 0 {
        let (items, before) = chunk(pages, at)?;
        for item in items.chunks_exact(ITEM_BYTES) {
            let content = item[..8].iter().rev().fold(0, |n, byte| (n << 8) | u64::from(*byte));
            out.push((content, item[8]));
        }
        at = before;
    }
    Ok(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists_hold_all_that_was_added() {
        let mut pages = Pages::new();
        let mut root = Node::empty();
        let about = |n: u64| edges_at(&End::Artifact(ArtifactId::of(&(n % 7).to_le_bytes())));
        for round in 0..50 {
            let one = |n: u64| Ref { about: about(n), content: n, side: 1 + (n % 2) as u8 };
            let refs = (round * 10..round * 10 + 10).map(one).collect();
            root = apply(&mut pages, &root, refs).unwrap();
        }
        for thing in 0..7 {
            let mut found = list(&pages, &root, &about(thing)).unwrap();
            found.sort_unstable();
            let expected = (0..500).filter(|n| n % 7 == thing).map(|n| (n, 1 + (n % 2) as u8));
            assert!(found.into_iter().eq(expected), "{thing}");
        }
        assert!(list(&pages, &root, &facts_of(&ArtifactId::of(b"x"))).unwrap().is_empty());
    }
}
