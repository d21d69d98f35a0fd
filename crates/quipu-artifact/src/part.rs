//! Parts: runs of groups with the hashes that verify them against the name alone.

use std::io;
use std::ops::Range;

use bao_tree::io::outboard::PostOrderOutboard;
use bao_tree::io::sync::{DecodeResponseIter, ReadAt, encode_ranges_validated};
use bao_tree::io::{BaoContentItem, DecodeError, EncodeError};
use bao_tree::{BaoTree, BlockSize, ChunkNum, ChunkRanges, TreeNode};
use quipu_core::artifact::{
    ARTIFACT_BYTES_MAX, GROUP_BYTES, GROUP_CHUNKS_LOG, PART_GROUPS_MAX, group_bytes, group_count,
};
use quipu_core::id::ArtifactId;

use crate::error::{Error, Result};
use crate::files::{FileAt, Files};
use crate::store::{ArtifactStore, Complete};
use crate::tree::PAIR_BYTES;

const BLOCK: BlockSize = BlockSize::from_chunk_log(GROUP_CHUNKS_LOG);

/// The most bytes that a part can have.
pub const PART_BYTES_MAX: u64 = {
    let levels = group_count(ARTIFACT_BYTES_MAX).ilog2() as u64 + 1;
    PART_GROUPS_MAX * GROUP_BYTES + (PART_GROUPS_MAX + 2 * levels) * PAIR_BYTES
};

/// Some groups of an artifact, as they are sent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Part {
    /// The size of the whole artifact.
    pub size: u64,
    /// The groups that it holds.
    pub groups: Range<u64>,
    /// Hashes and groups, in pre-order of the tree.
    pub bytes: Vec<u8>,
}

/// What became of a part that came from a peer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Written {
    /// Whether the artifact is here completely now.
    pub complete: bool,
    /// How many groups were not here before.
    pub new_groups: u64,
}

/// Why a part was not taken.
#[derive(Debug, thiserror::Error)]
pub enum PartError {
    /// It does not fit the artifact: whoever made it is wrong or lies.
    #[error("a bad part: {0}")]
    Bad(&'static str),
    /// Nothing of this artifact is here yet, and this is not its last group. The last one must come
    /// first, because it proves the size.
    #[error("the last group has to come first, for it proves the size")]
    SizeNotProven,
    /// It is good, but could not be kept.
    #[error(transparent)]
    Io(#[from] Error),
}

fn chunks(groups: &Range<u64>) -> ChunkRanges {
    let chunk = |group: u64| ChunkNum(group.saturating_mul(1 << GROUP_CHUNKS_LOG));
    ChunkRanges::from(chunk(groups.start)..chunk(groups.end))
}

/// Reads through the seam.
struct At<'a, H>(Option<&'a H>);

impl<H: FileAt> ReadAt for At<'_, H> {
    fn read_at(&self, offset: u64, buffer: &mut [u8]) -> io::Result<usize> {
        self.0.map_or(Ok(0), |file| file.read_at(buffer, offset))
    }
}

impl<F: Files> ArtifactStore<F> {
    /// Some groups of a complete artifact, verified on the way; nothing if it is not here. A range
    /// beyond the end is cut; if nothing of it remains, the part holds the last group, which
    /// proves the size. A range that is too long is cut to [`PART_GROUPS_MAX`].
    pub fn read_part(&self, key: &ArtifactId, groups: Range<u64>) -> Result<Option<Part>> {
        match self.complete(key)? {
            Some(open) => encode(&open, groups).map(Some),
            None => Ok(None),
        }
    }
}

/// The groups that answer a request.
fn answer(asked: Range<u64>, count: u64) -> Range<u64> {
    let start = asked.start.min(count - 1);
    let end = asked.end.min(count).min(start.saturating_add(PART_GROUPS_MAX));
    start..end.max(start + 1)
}

fn encode<H: FileAt>(open: &Complete<H>, groups: Range<u64>) -> Result<Part> {
    let size = open.size;
    let groups = answer(groups, group_count(size));
    let outboard = PostOrderOutboard {
        root: open.key.0.into(),
        tree: BaoTree::new(size, BLOCK),
        data: At(open.outboard.as_ref()),
    };
    let mut bytes = Vec::with_capacity(part_bytes_max(&groups, size));
    encode_ranges_validated(At(Some(&open.data)), outboard, &chunks(&groups), &mut bytes)
        .map_err(|error| encode_error(open.key, size, &groups, error))?;
    Ok(Part { size, groups, bytes })
}

fn encode_error(key: ArtifactId, size: u64, groups: &Range<u64>, error: EncodeError) -> Error {
    let bytes = match error {
        EncodeError::LeafHashMismatch(chunk) => {
            let group = chunk.0 >> GROUP_CHUNKS_LOG;
            group_bytes(&(group..group + 1), size)
        }
        EncodeError::ParentHashMismatch(node) => group_bytes(&groups_under(node, size), size),
        EncodeError::Io(error) if error.kind() != io::ErrorKind::UnexpectedEof => {
            return Error::Io { doing: "reading", path: key.to_string(), source: error };
        }
        // The file is too short, somewhere in these groups.
        _ => group_bytes(groups, size),
    };
    Error::Damaged { key, bytes }
}

/// The groups under a node.
fn groups_under(node: TreeNode, size: u64) -> Range<u64> {
    let (mid, half) = (node.mid().0, 1u64 << node.level());
    let group = |chunk: u64| chunk >> GROUP_CHUNKS_LOG;
    group(mid - half)..group(mid + half).min(group_count(size))
}

/// The most bytes that a part of these groups can have.
fn part_bytes_max(groups: &Range<u64>, size: u64) -> usize {
    let bytes = group_bytes(groups, size);
    let path = 2 * u64::from(group_count(size).ilog2() + 1);
    let pairs = groups.end - groups.start + path;
    (bytes.end - bytes.start + pairs * PAIR_BYTES) as usize
}

/// A part that was verified, not yet written.
#[derive(Debug)]
pub(crate) struct Verified<'a> {
    pub(crate) size: u64,
    pub(crate) groups: Range<u64>,
    /// Groups with their bytes.
    pub(crate) leaves: Vec<(u64, &'a [u8])>,
    /// Pairs of the outboard.
    pub(crate) pairs: Vec<VerifiedPair<'a>>,
}

/// A pair of hashes that was verified.
#[derive(Debug)]
pub(crate) struct VerifiedPair<'a> {
    /// Where it is in the outboard.
    pub(crate) offset: u64,
    /// What is under it.
    pub(crate) groups: Range<u64>,
    pub(crate) bytes: &'a [u8],
}

/// Verifies a part against the name and the claimed size.
pub(crate) fn verify<'a>(
    key: &ArtifactId,
    size: u64,
    groups: Range<u64>,
    bytes: &'a [u8],
) -> Result<Verified<'a>, PartError> {
    if size > ARTIFACT_BYTES_MAX {
        return Err(PartError::Bad("larger than any artifact"));
    }
    if groups.is_empty() || groups.end > group_count(size) {
        return Err(PartError::Bad("no such groups"));
    }
    if groups.end - groups.start > PART_GROUPS_MAX {
        return Err(PartError::Bad("too many groups"));
    }
    if bytes.len() > part_bytes_max(&groups, size) {
        return Err(PartError::Bad("too long"));
    }
    decode(key, size, groups, bytes)
}

fn decode<'a>(
    key: &ArtifactId,
    size: u64,
    groups: Range<u64>,
    bytes: &'a [u8],
) -> Result<Verified<'a>, PartError> {
    let tree = BaoTree::new(size, BLOCK);
    let ranges = chunks(&groups);
    let (mut leaves, mut pairs) = (Vec::new(), Vec::new());
    let mut position = 0;
    let mut cut = |n: usize| {
        position += n;
        &bytes[position - n..position]
    };
    for item in DecodeResponseIter::new(key.0.into(), tree, bytes, &ranges) {
        match item.map_err(|error| bad(&error))? {
            BaoContentItem::Leaf(leaf) => leaves.push((leaf.offset, cut(leaf.data.len()))),
            BaoContentItem::Parent(parent) => {
                let bytes = cut(PAIR_BYTES as usize);
                let Some(offset) = tree.post_order_offset(parent.node) else { continue };
                let groups = groups_under(parent.node, size);
                pairs.push(VerifiedPair { offset: offset.value() * PAIR_BYTES, groups, bytes });
            }
        }
    }
    if position != bytes.len() {
        return Err(PartError::Bad("bytes after the end"));
    }
    Ok(Verified { size, groups, leaves, pairs })
}

const fn bad(error: &DecodeError) -> PartError {
    PartError::Bad(match error {
        DecodeError::ParentNotFound(_) | DecodeError::LeafNotFound(_) => "too short",
        DecodeError::ParentHashMismatch(_) => "hashes that do not fit",
        DecodeError::LeafHashMismatch(_) => "bytes that do not fit",
        DecodeError::Io(_) => "unreadable",
    })
}
