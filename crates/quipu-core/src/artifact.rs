//! How the bytes of artifacts are cut, named and asked for. The bytes themselves are elsewhere: an
//! artifact is named by the BLAKE3 hash of its bytes, and BLAKE3 is a tree, so every *group* of 16
//! KiB can be checked by itself against the name (Bao; ART-2).

use std::ops::Range;

/// Bytes of a chunk group: what is verified, kept and asked for as one.
pub const GROUP_BYTES: u64 = 16 << 10;
/// log2 of the 1 KiB chunks of BLAKE3 in a group.
pub const GROUP_CHUNKS_LOG: u8 = 4;
/// Groups that travel in one message, at most: 256 KiB of bytes.
pub const PART_GROUPS_MAX: u64 = 16;
/// The largest artifact, in bytes. Far above what a disk holds; sums of offsets stay within 64 bits.
pub const ARTIFACT_BYTES_MAX: u64 = 1 << 50;

/// How many groups an artifact of that size has. The empty artifact has one, empty group.
pub const fn group_count(size: u64) -> u64 {
    if size == 0 { 1 } else { size.div_ceil(GROUP_BYTES) }
}

/// The bytes of a range of groups in an artifact of that size.
pub fn group_bytes(groups: &Range<u64>, size: u64) -> Range<u64> {
    let at = |group: u64| group.saturating_mul(GROUP_BYTES).min(size);
    at(groups.start)..at(groups.end)
}
