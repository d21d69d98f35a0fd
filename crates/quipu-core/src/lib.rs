//! The rules of quipu.

pub mod artifact;
pub mod authority;
pub mod blind;
pub mod codec;
pub mod dag;
pub mod domain;
pub mod event;
pub mod execution;
pub mod fold;
pub mod history;
pub mod id;
pub mod kind;
pub mod lifecycle;
pub mod limits;
pub mod machine;
pub mod node;
pub mod past;
mod queue;
mod recent;
pub mod sketch;
pub mod state;
pub mod statement;
pub mod subject;
pub mod sync;
pub mod value;
