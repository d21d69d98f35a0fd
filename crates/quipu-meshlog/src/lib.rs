//! The dataset of meshlogd, and the socket that its daemon serves, without any IO.
//!
//! meshlogd is a Python program. What it hashes is what Python's `json` writes, so [`json`] has Python's
//! values and writes Python's spelling, to the byte. Above it: [`event`] is one event with its hash,
//! [`payload`] and signature, [`policy`] says whose events are taken, [`log`] keeps one feed for each author,
//! [`mod@file`] has its data files, [`message`] and [`peer`] what nodes say to each other and when, [`ingest`] takes many messages at once, [`order`], [`records`] and [`reducer`] fold events into what people see, and
//! [`socket`] is its JSON-RPC as a state machine: bytes in, bytes out. [`native`], [`projection`], [`domain`] and
//! [`mesh`] tie it to a domain of quipu: foreign events come in as bytes, and record events go out as events of
//! meshlogd.
//!
//! Everything here is a function of its arguments. Clocks, files and links belong to the caller.

mod batch;
pub mod clock;
pub mod domain;
pub mod event;
pub mod file;
pub mod identity;
pub mod ingest;
pub mod json;
pub mod limits;
pub mod log;
pub mod mesh;
pub mod message;
pub mod native;
pub mod order;
pub mod payload;
pub mod peer;
pub mod policy;
pub mod projection;
pub mod records;
pub mod reducer;
mod repr;
pub mod socket;
pub mod text;
