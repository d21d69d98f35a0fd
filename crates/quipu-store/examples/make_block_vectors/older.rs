//! A block as version 1 had it, made of one of version 2: without fold keys, and without what the
//! footer says of them and of pages.

use quipu_core::codec::varint::{Reader, put};

use crate::plain::Block;
use crate::refused::{close_footer, close_header};

pub(crate) fn as_version_1(file: &[u8], block: &Block) -> Vec<u8> {
    let place = |name: &str| block.sections.iter().find(|s| s.0 == name).unwrap().1.clone();
    let (filter, footer) = (place("fold keys"), place("footer"));
    let mut out = file[..filter.start].to_vec();
    out[8..12].copy_from_slice(&1u32.to_le_bytes());
    close_header(&mut out);
    let at = out.len();
    out.extend_from_slice(&file[footer.start..footer.start + 96]);
    let mut reader = Reader::new(&file[footer.start + 104..footer.end]);
    let mut next = || reader.varint().unwrap();
    let pages = next();
    put(&mut out, pages);
    for _ in 0..pages {
        (0..3).for_each(|_| put(&mut out, next()));
        (0..3).for_each(|_| _ = next());
    }
    out.extend_from_slice(&file[footer.end - reader.len()..footer.end]);
    let length = out.len() - at;
    out.extend_from_slice(&(at as u64).to_le_bytes());
    out.extend_from_slice(&(length as u64).to_le_bytes());
    out.extend_from_slice(&[0; 32]);
    out.extend_from_slice(&(out.len() as u64 + 16).to_le_bytes());
    out.extend_from_slice(b"quipuend");
    close_footer(&mut out);
    out
}
