//! CARv1 (IPLD content-addressable archive): a header and a row of blocks, each with its CID.
//!
//! Specification: <https://ipld.io/specs/transport/car/carv1/>.

use std::io::{self, Read, Write};

use quipu_core::id::{CID_BYTES, CID_PREFIX_DAG_CBOR, EventId};
use quipu_core::value::{self, Value};

/// The largest section that is read.
const SECTION_BYTES_MAX: u64 = 8 << 20;

fn put_varint(out: &mut Vec<u8>, mut n: u64) {
    while n >= 0x80 {
        out.push((n as u8) | 0x80);
        n >>= 7;
    }
    out.push(n as u8);
}

/// Writes the header: the format's version and the ids of the feed tips.
pub(crate) fn write_header(out: &mut impl Write, roots: &[EventId]) -> io::Result<()> {
    let roots = Value::list(roots.iter().map(|root| Value::from(*root)));
    let mut header = Vec::new();
    value::encode(&Value::map([("roots", roots), ("version", Value::from(1u64))]), &mut header);
    let mut bytes = Vec::new();
    put_varint(&mut bytes, header.len() as u64);
    out.write_all(&bytes)?;
    out.write_all(&header)
}

/// Writes a dag-cbor block under the CID of its bytes.
pub(crate) fn write_block(out: &mut impl Write, block: &[u8]) -> io::Result<()> {
    let mut bytes = Vec::with_capacity(block.len() + CID_BYTES + 4);
    put_varint(&mut bytes, (block.len() + CID_BYTES) as u64);
    bytes.extend_from_slice(&CID_PREFIX_DAG_CBOR);
    bytes.extend_from_slice(&EventId::of(block).0);
    bytes.extend_from_slice(block);
    out.write_all(&bytes)
}

fn read_varint(from: &mut impl Read) -> io::Result<Option<u64>> {
    let mut n = 0u64;
    for shift in (0..64).step_by(7) {
        let mut byte = [0];
        if from.read(&mut byte)? == 0 {
            return if shift == 0 { Ok(None) } else { Err(bad("cut length")) };
        }
        n |= u64::from(byte[0] & 0x7f) << shift;
        if byte[0] < 0x80 {
            return Ok(Some(n));
        }
    }
    Err(bad("length too long"))
}

fn bad(what: &'static str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, what)
}

/// Reads the blocks of a CAR, each checked against its CID. The header's roots are not needed.
pub(crate) struct Blocks<R: Read> {
    from: R,
}

impl<R: Read> Blocks<R> {
    /// Reads the header.
    pub(crate) fn open(mut from: R) -> io::Result<Self> {
        let header = read_section(&mut from)?.ok_or_else(|| bad("not a CAR: empty"))?;
        let header = value::decode(&header).map_err(|_| bad("not a CAR: no header"))?;
        if header.get("version").and_then(Value::as_u64) != Some(1) {
            return Err(bad("not a CARv1"));
        }
        Ok(Self { from })
    }

    /// The next block.
    pub(crate) fn next(&mut self) -> io::Result<Option<(EventId, Vec<u8>)>> {
        let Some(section) = read_section(&mut self.from)? else { return Ok(None) };
        let (cid, block) =
            section.split_at_checked(CID_BYTES).ok_or_else(|| bad("a block without a CID"))?;
        if cid[..4] != CID_PREFIX_DAG_CBOR {
            return Err(bad("a block that is not dag-cbor with BLAKE3"));
        }
        let id = EventId::of(block);
        if cid[4..] != id.0 {
            return Err(bad("a block does not fit its CID"));
        }
        Ok(Some((id, block.to_vec())))
    }
}

fn read_section(from: &mut impl Read) -> io::Result<Option<Vec<u8>>> {
    let Some(length) = read_varint(from)? else { return Ok(None) };
    if length > SECTION_BYTES_MAX {
        return Err(bad("a section is too large"));
    }
    let mut bytes = Vec::new();
    from.take(length).read_to_end(&mut bytes)?;
    if bytes.len() as u64 == length { Ok(Some(bytes)) } else { Err(bad("it ends early")) }
}
