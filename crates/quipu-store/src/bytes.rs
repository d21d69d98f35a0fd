//! Little-endian numbers and checksums in files.

/// Bytes of a checksum: BLAKE3, cut.
pub(crate) const SUM_BYTES: usize = 16;

/// The checksum of the parts, one after the other.
pub(crate) fn sum16(parts: &[&[u8]]) -> [u8; SUM_BYTES] {
    let mut out = [0; SUM_BYTES];
    out.copy_from_slice(&hash(parts)[..SUM_BYTES]);
    out
}

/// BLAKE3 of the parts, one after the other.
pub(crate) fn hash(parts: &[&[u8]]) -> [u8; 32] {
    match parts {
        [part] => *blake3::hash(part).as_bytes(),
        _ => {
            let mut hasher = blake3::Hasher::new();
            parts.iter().for_each(|part| _ = hasher.update(part));
            *hasher.finalize().as_bytes()
        }
    }
}

/// The bytes at an offset, as an array.
pub(crate) fn array_at<const N: usize>(bytes: &[u8], at: usize) -> Option<[u8; N]> {
    bytes.get(at..at.checked_add(N)?)?.try_into().ok()
}

/// A number at an offset.
pub(crate) fn u32_at(bytes: &[u8], at: usize) -> Option<u32> {
    array_at(bytes, at).map(u32::from_le_bytes)
}

/// A number at an offset.
pub(crate) fn u64_at(bytes: &[u8], at: usize) -> Option<u64> {
    array_at(bytes, at).map(u64::from_le_bytes)
}

/// A number at an offset that is an offset or a length itself.
pub(crate) fn usize_at(bytes: &[u8], at: usize) -> Option<usize> {
    u64_at(bytes, at).and_then(|n| usize::try_from(n).ok())
}

/// Appends a number.
pub(crate) fn put_u32(out: &mut Vec<u8>, n: usize) {
    out.extend_from_slice(&(n as u32).to_le_bytes());
}

/// Appends a number.
pub(crate) fn put_u64(out: &mut Vec<u8>, n: u64) {
    out.extend_from_slice(&n.to_le_bytes());
}
