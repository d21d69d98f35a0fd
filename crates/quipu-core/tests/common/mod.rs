//! Several machines in one process with one fake clock: what the tests of the rules run on.
#![allow(
    dead_code,
    unreachable_pub,
    missing_docs,
    reason = "shared test support: no test uses all of it"
)]
mod artifacts;
mod history;
mod machine;
mod world;

pub use artifacts::{Artifacts, Lie, artifact};
pub use history::MemoryHistory;
pub use machine::{Machine, Out, key};
pub use world::{LinkMode, World};

use std::sync::Arc;

use bytes::Bytes;
use quipu_core::value::{self, Value};

/// The time at which tests begin.
pub const T0: u64 = 1_760_000_000_000;

/// A payload value as canonical bytes.
pub fn payload(value: &Value) -> Bytes {
    let mut bytes = Vec::new();
    value::encode(value, &mut bytes);
    bytes.into()
}

/// A `field.set` as in workload W.
pub fn field(n: u64) -> (Arc<str>, Bytes) {
    let record = format!("R-{}", n / 10);
    let field = format!("f{}", n % 10);
    let value = Value::map([
        ("record_id", record.as_str().into()),
        ("field", field.as_str().into()),
        ("value", (n * 7919).into()),
    ]);
    ("field.set".into(), payload(&value))
}

/// Numbers that look random and are the same every time (SplitMix64).
#[derive(Debug, Clone)]
pub struct Dice(pub u64);

impl Dice {
    pub fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    pub fn below(&mut self, n: usize) -> usize {
        (self.next() % n.max(1) as u64) as usize
    }

    pub fn chance(&mut self, percent: u64) -> bool {
        self.next() % 100 < percent
    }
}
