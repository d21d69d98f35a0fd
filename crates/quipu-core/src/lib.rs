//! The rules of quipu.

pub mod id;
pub mod limits;
pub mod sketch;
pub mod value;
