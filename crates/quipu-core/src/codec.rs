//! Canonical bytes: one module per format version, written by hand, with vectors in
//! `test-vectors/`. Decoding is strict: what is not canonical is refused, so equal meaning is equal
//! bytes.

pub mod pack;
pub mod v1;
pub mod varint;
