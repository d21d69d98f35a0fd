//! Deterministic programs with receipts.
//!
//! A [program](program::Program) is a DAG of steps, stored as an artifact. A step is a WebAssembly module
//! or a built-in operator. [`run::run`] executes one over a store of [`Artifacts`](artifacts::Artifacts) and
//! gives a [receipt](receipt::Receipt), which has only what follows from the program and its inputs: whoever
//! runs the same gets the same receipt, byte for byte.
//!
//! 1. [`program::build`] makes a program of a source, JSON or TOML.
//! 2. [`run::resolve`] asks the snapshot for inputs that are queries.
//! 3. [`run::run`] runs it, in any order of steps, on any number of threads; what is
//!    [known](run::Known) is not run again.
//! 4. [`verify::verify`] runs again what a receipt is about, and compares.
//!
//! *Invariant*: no clock, no random number, no order of a host's files, no address and no thread's timing
//! reaches an output. *Invariant*: whatever a module does, the host stays whole: it ends with an error that
//! names the step. *Boundary*: no events, no network. Bytes come from the caller's store and go there.

pub mod artifacts;
pub mod attest;
pub mod key;
pub mod limits;
mod modules;
pub mod operators;
mod profile;
pub mod program;
pub mod receipt;
pub mod run;
mod spool;
mod step;
pub mod verify;
mod wasi;
pub mod watch;

pub use modules::CacheDir;
pub use profile::PROFILE;
pub use step::{Job, Runner, RunnerError, StepError};
