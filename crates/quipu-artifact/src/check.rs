//! Which groups of an artifact fit its name.

use std::io;
use std::ops::Range;

use quipu_core::artifact::{GROUP_BYTES, group_bytes, group_count};
use quipu_core::id::ArtifactId;

use crate::error::{Doing, Result};
use crate::files::{FileAt, Files};
use crate::groups::GroupSet;
use crate::store::{ArtifactStore, has_length};
use crate::tree::{
    Cv, Node, PAIR_BYTES, Pair, SEGMENT_GROUPS, hash_groups, open_pair, outboard_bytes,
};

/// A complete artifact that is not what its name says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    /// The artifact.
    pub key: ArtifactId,
    /// The size of its file.
    pub size: u64,
    /// Runs of bytes that cannot be verified: they do not fit, or the hashes above them do not.
    pub bytes: Vec<Range<u64>>,
}

impl<F: Files> ArtifactStore<F> {
    /// Reads and hashes all complete artifacts, outboards too. `progress` gets the number of bytes
    /// verified so far, of all together.
    pub fn verify(&self, progress: &mut dyn FnMut(u64)) -> Result<Vec<Problem>> {
        let mut problems = Vec::new();
        let mut done = 0;
        for key in self.keys()? {
            let Some(open) = self.complete(&key)? else { continue };
            let size = open.size;
            let outboard = open.outboard.as_ref();
            let good = valid_groups(&open.data, outboard, &key, size, &mut |n| progress(done + n))
                .doing("reading", &key.to_string())?;
            let fits = |file: &F::File| has_length(file, outboard_bytes(size));
            // An outboard that is too long is not what was written.
            let good = if outboard.is_none_or(fits) { good } else { GroupSet::default() };
            let missing = good.missing(group_count(size));
            if !missing.is_empty() {
                let bytes = missing.iter().map(|run| group_bytes(run, size)).collect();
                problems.push(Problem { key, size, bytes });
            }
            done += size;
            progress(done);
        }
        Ok(problems)
    }
}

/// The groups that fit the name, together with the hashes above them in the outboard. What is not
/// there fits nothing. `progress` gets the bytes that are behind.
pub(crate) fn valid_groups<H: FileAt>(
    data: &H,
    outboard: Option<&H>,
    key: &ArtifactId,
    size: u64,
    progress: &mut dyn FnMut(u64),
) -> io::Result<GroupSet> {
    let root = Node::root(size);
    let mut walk = Walk {
        data,
        outboard,
        size,
        length: data.length()?,
        good: GroupSet::default(),
        segment: Vec::new(),
        pairs: Vec::new(),
    };
    let mut nodes = vec![(root, key.0)];
    while let Some((node, cv)) = nodes.pop() {
        if node.groups <= SEGMENT_GROUPS {
            walk.segment(node, &cv, node == root)?;
            progress(node.bytes(size).end);
        } else if let Some((left, right)) = walk.pair(node, &cv, node == root)? {
            let (l, r) = node.split();
            nodes.extend([(r, right), (l, left)]);
        }
    }
    Ok(walk.good)
}

struct Walk<'a, H> {
    data: &'a H,
    outboard: Option<&'a H>,
    size: u64,
    /// Of the data file; it may be shorter than the artifact.
    length: u64,
    good: GroupSet,
    segment: Vec<u8>,
    pairs: Vec<u8>,
}

impl<H: FileAt> Walk<'_, H> {
    fn pair(&self, node: Node, cv: &Cv, root: bool) -> io::Result<Option<(Cv, Cv)>> {
        let mut pair = [0; PAIR_BYTES as usize];
        let Some(outboard) = self.outboard else { return Ok(None) };
        if outboard.read_full_at(&mut pair, node.pair_offset())? < pair.len() {
            return Ok(None);
        }
        Ok(open_pair(&pair, cv, root))
    }

    /// Reads a segment with its pairs at once, and goes through it.
    fn segment(&mut self, top: Node, cv: &Cv, root: bool) -> io::Result<()> {
        let pairs = top.pairs();
        self.pairs.clear();
        self.pairs.resize((pairs.end - pairs.start) as usize, 0);
        if let Some(outboard) = self.outboard {
            let n = outboard.read_full_at(&mut self.pairs, pairs.start)?;
            self.pairs.truncate(n);
        } else {
            self.pairs.clear();
        }
        let mut nodes = vec![(top, *cv)];
        let mut loaded = false;
        while let Some((node, cv)) = nodes.pop() {
            let root = root && node == top;
            if node.groups > 1 {
                let Some((left, right)) = self.loaded_pair(top, node, &cv, root) else { continue };
                let (l, r) = node.split();
                nodes.extend([(r, right), (l, left)]);
                continue;
            }
            if !loaded {
                self.load(top)?;
                loaded = true;
            }
            if self.fits(top, node, &cv, root) {
                self.good.insert(node.range());
            }
        }
        Ok(())
    }

    fn load(&mut self, top: Node) -> io::Result<()> {
        let bytes = top.bytes(self.size);
        self.segment.resize((bytes.end - bytes.start) as usize, 0);
        let n = self.data.read_full_at(&mut self.segment, bytes.start)?;
        self.segment.truncate(n);
        Ok(())
    }

    fn loaded_pair(&self, top: Node, node: Node, cv: &Cv, root: bool) -> Option<(Cv, Cv)> {
        let at = (node.pair_offset() - top.pairs().start) as usize;
        let pair: &Pair = self.pairs.get(at..at + PAIR_BYTES as usize)?.try_into().ok()?;
        open_pair(pair, cv, root)
    }

    fn fits(&self, top: Node, node: Node, cv: &Cv, root: bool) -> bool {
        let bytes = node.bytes(self.size);
        let base = top.start * GROUP_BYTES;
        let slice = self.segment.get((bytes.start - base) as usize..(bytes.end - base) as usize);
        bytes.end <= self.length
            && slice.is_some_and(|slice| hash_groups(slice, node.start, root) == *cv)
    }
}
