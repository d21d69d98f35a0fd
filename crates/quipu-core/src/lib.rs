//! The rules of quipu.

pub mod codec;
pub mod event;
pub mod history;
pub mod id;
pub mod kind;
pub mod limits;
pub mod sketch;
pub mod subject;
pub mod value;
