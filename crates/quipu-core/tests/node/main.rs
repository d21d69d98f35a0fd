//! The rules as a whole: machines that write, part, meet and lie.
#![allow(clippy::print_stdout, reason = "figures, for whoever runs the tests by hand")]

#[path = "../common/mod.rs"]
mod common;

mod artifacts;
mod basics;
mod faults;
mod forks;
mod hostile;
mod members;
mod published;
mod random;
mod reconcile;
mod tables;
