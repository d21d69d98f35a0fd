//! Bytes that nobody should write.

use minicbor::Encoder;
use minicbor::data::Tag;

/// CBOR from its pieces.
pub(crate) fn cbor(write: impl FnOnce(&mut Encoder<&mut Vec<u8>>)) -> Vec<u8> {
    let mut out = Vec::new();
    write(&mut Encoder::new(&mut out));
    out
}

pub(crate) fn text(text: &str) -> Vec<u8> {
    cbor(|e| _ = e.str(text).unwrap())
}

pub(crate) fn bytes(bytes: &[u8]) -> Vec<u8> {
    cbor(|e| _ = e.bytes(bytes).unwrap())
}

pub(crate) fn number(n: u64) -> Vec<u8> {
    cbor(|e| _ = e.u64(n).unwrap())
}

/// A link: tag 42 on a zero byte, the prefix of a CID and a digest.
pub(crate) fn link_with(prefix: &[u8], digest: &[u8]) -> Vec<u8> {
    let inner = [&[0], prefix, digest].concat();
    cbor(|e| _ = e.tag(Tag::new(42)).unwrap().bytes(&inner).unwrap())
}

pub(crate) fn link(digest: &[u8; 32]) -> Vec<u8> {
    link_with(&[0x01, 0x71, 0x1e, 0x20], digest)
}

pub(crate) fn links(digests: &[[u8; 32]]) -> Vec<u8> {
    let mut out = cbor(|e| _ = e.array(digests.len() as u64).unwrap());
    digests.iter().for_each(|digest| out.extend(link(digest)));
    out
}

/// A map from fields that are encoded already, in the given order.
pub(crate) fn map(fields: &[(&str, Vec<u8>)]) -> Vec<u8> {
    let mut out = cbor(|e| _ = e.map(fields.len() as u64).unwrap());
    for (key, value) in fields {
        out.extend(text(key));
        out.extend(value);
    }
    out
}

/// A varint of the packed formats.
pub(crate) fn varint(n: u64) -> Vec<u8> {
    let mut out = Vec::new();
    quipu_core::codec::varint::put(&mut out, n);
    out
}

pub(crate) fn signed(n: i64) -> Vec<u8> {
    let mut out = Vec::new();
    quipu_core::codec::varint::put_signed(&mut out, n);
    out
}

pub(crate) fn section(bytes: &[u8]) -> Vec<u8> {
    [varint(bytes.len() as u64), bytes.to_vec()].concat()
}
