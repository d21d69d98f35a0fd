//! The tree of BLAKE3 above groups of 16 KiB: where its nodes are in an outboard, and how their
//! hashes come about. The outboard is that of `bao-tree` in post-order: the pair of hashes of a
//! node follows those of everything under it, so a stream of unknown length can be written out as
//! it comes.

use blake3::hazmat::{HasherExt, Mode, merge_subtrees_non_root, merge_subtrees_root};
use quipu_core::artifact::{GROUP_BYTES, group_bytes, group_count};
use quipu_core::id::ArtifactId;

use std::ops::Range;

/// Bytes of a pair of hashes.
pub(crate) const PAIR_BYTES: u64 = 64;
/// Groups that are read and hashed in one go: 1 MiB.
pub(crate) const SEGMENT_GROUPS: u64 = 64;
/// Bytes of them.
pub(crate) const SEGMENT_BYTES: usize = (SEGMENT_GROUPS * GROUP_BYTES) as usize;

/// The hash of a subtree.
pub(crate) type Cv = [u8; 32];
/// The hashes under a node, as they stand in the outboard.
pub(crate) type Pair = [u8; PAIR_BYTES as usize];

/// Bytes of the outboard of an artifact of that size.
pub(crate) const fn outboard_bytes(size: u64) -> u64 {
    (group_count(size) - 1) * PAIR_BYTES
}

/// A subtree: a run of groups.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Node {
    /// The first group.
    pub(crate) start: u64,
    /// How many there are, at least one.
    pub(crate) groups: u64,
    /// Pairs that precede those of this subtree in the outboard.
    pub(crate) base: u64,
}

impl Node {
    /// The whole tree.
    pub(crate) const fn root(size: u64) -> Self {
        Self { start: 0, groups: group_count(size), base: 0 }
    }

    /// The subtrees on the left, which is full, and on the right. Not for a single group.
    pub(crate) const fn split(self) -> (Self, Self) {
        let left = self.groups.next_power_of_two() / 2;
        let base = self.base + left - 1;
        (
            Self { start: self.start, groups: left, base: self.base },
            Self { start: self.start + left, groups: self.groups - left, base },
        )
    }

    /// Where its pair is in the outboard. Not for a single group.
    pub(crate) const fn pair_offset(self) -> u64 {
        (self.base + self.groups - 2) * PAIR_BYTES
    }

    /// Where all pairs of this subtree are in the outboard.
    pub(crate) const fn pairs(self) -> Range<u64> {
        self.base * PAIR_BYTES..(self.base + self.groups - 1) * PAIR_BYTES
    }

    /// The groups.
    pub(crate) const fn range(self) -> Range<u64> {
        self.start..self.start + self.groups
    }

    /// The bytes, in an artifact of that size.
    pub(crate) fn bytes(self, size: u64) -> Range<u64> {
        group_bytes(&self.range(), size)
    }
}

/// The hash of a subtree from its bytes.
pub(crate) fn hash_groups(bytes: &[u8], start: u64, root: bool) -> Cv {
    if root {
        return *blake3::hash(bytes).as_bytes();
    }
    let mut hasher = blake3::Hasher::new();
    hasher.set_input_offset(start * GROUP_BYTES);
    hasher.update(bytes);
    hasher.finalize_non_root()
}

/// The hash of a node from those under it.
pub(crate) fn hash_pair(left: &Cv, right: &Cv, root: bool) -> Cv {
    if root {
        *merge_subtrees_root(left, right, Mode::Hash).as_bytes()
    } else {
        merge_subtrees_non_root(left, right, Mode::Hash)
    }
}

/// The two hashes of a pair, if they hash to what was expected.
pub(crate) fn open_pair(pair: &Pair, expected: &Cv, root: bool) -> Option<(Cv, Cv)> {
    let (mut left, mut right) = ([0; 32], [0; 32]);
    left.copy_from_slice(&pair[..32]);
    right.copy_from_slice(&pair[32..]);
    (hash_pair(&left, &right, root) == *expected).then_some((left, right))
}

/// Makes the outboard of a stream from the hashes of its groups, in order. It holds one hash for
/// each level of the tree.
#[derive(Debug, Default)]
pub(crate) struct Builder {
    /// Hashes of subtrees that are full, with log2 of their groups: the largest first.
    stack: Vec<(Cv, u32)>,
}

impl Builder {
    /// Takes the hash of the next group, and appends the pairs that are settled by its coming.
    pub(crate) fn push(&mut self, group: Cv, pairs: &mut Vec<u8>) {
        while let [.., (_, a), (_, b)] = self.stack[..]
            && a == b
        {
            self.merge(false, pairs);
        }
        self.stack.push((group, 0));
    }

    /// The root, with the last pairs appended. Only for more than one group.
    pub(crate) fn finish(mut self, pairs: &mut Vec<u8>) -> ArtifactId {
        while self.stack.len() > 1 {
            self.merge(self.stack.len() == 2, pairs);
        }
        ArtifactId(self.stack.first().map_or([0; 32], |(root, _)| *root))
    }

    fn merge(&mut self, root: bool, pairs: &mut Vec<u8>) {
        if let (Some((right, _)), Some((left, level))) = (self.stack.pop(), self.stack.pop()) {
            pairs.extend_from_slice(&left);
            pairs.extend_from_slice(&right);
            self.stack.push((hash_pair(&left, &right, root), level + 1));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use bao_tree::io::outboard::PostOrderMemOutboard;
    use bao_tree::{BaoTree, BlockSize};

    fn sample(size: u64) -> Vec<u8> {
        (0..size).map(|n| (n * 7 + n / 251) as u8).collect()
    }

    fn outboard(bytes: &[u8]) -> (ArtifactId, Vec<u8>) {
        let (mut builder, mut pairs) = (Builder::default(), Vec::new());
        for (group, bytes) in bytes.chunks(GROUP_BYTES as usize).enumerate() {
            builder.push(hash_groups(bytes, group as u64, false), &mut pairs);
        }
        (builder.finish(&mut pairs), pairs)
    }

    #[test]
    fn the_outboard_is_that_of_bao_tree_and_its_root_is_blake3() {
        let block = BlockSize::from_chunk_log(quipu_core::artifact::GROUP_CHUNKS_LOG);
        for groups in [2u64, 3, 4, 5, 7, 8, 9, 31, 33, 64, 65, 100, 127, 129, 200] {
            for off in [-16383i64, -1, 0] {
                let bytes = sample((groups * GROUP_BYTES).saturating_add_signed(off));
                let (root, pairs) = outboard(&bytes);
                assert_eq!(root, ArtifactId::of(&bytes));
                assert_eq!(pairs.len() as u64, outboard_bytes(bytes.len() as u64));
                assert_eq!(pairs, PostOrderMemOutboard::create(&bytes, block).data);
            }
        }
    }

    #[test]
    fn nodes_lie_where_the_outboard_has_them() {
        let bytes = sample(77 * GROUP_BYTES - 5);
        let size = bytes.len() as u64;
        let (root, pairs) = outboard(&bytes);
        let mut nodes = vec![(Node::root(size), root.0, true)];
        let mut seen = 0;
        while let Some((node, cv, top)) = nodes.pop() {
            let range = node.bytes(size);
            let slice = &bytes[range.start as usize..range.end as usize];
            assert_eq!(hash_groups(slice, node.start, top), cv);
            if node.groups > 1 {
                let at = node.pair_offset() as usize;
                let pair: Pair = pairs[at..at + 64].try_into().expect("64 bytes");
                assert_eq!(node.pairs().end as usize, at + 64);
                let (left, right) = open_pair(&pair, &cv, top).expect("the pair of this node");
                let (l, r) = node.split();
                nodes.extend([(l, left, false), (r, right, false)]);
                seen += 1;
            }
        }
        assert_eq!(seen * 64, pairs.len());
        assert_eq!(
            BaoTree::new(size, BlockSize::from_chunk_log(4)).outboard_size(),
            seen as u64 * 64
        );
    }
}
