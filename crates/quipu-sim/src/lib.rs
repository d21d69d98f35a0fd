//! Whole domains of machines in one process, driven by one seed.
//!
//! The simulator runs the production driver over the production store; only the disk, the clock
//! and the links are its own. Everything that happens is drawn from the seed and put in order by
//! one virtual clock, so the same seed always runs the same way, and a failure can be looked at as
//! often as needed: `quipu sim --scenario NAME --seed N`.
//!
//! A run has three parts: people write while things go wrong; then all trouble ends, and within a
//! bounded virtual time all members must agree; then the checkers look at everything.
//!
//! *Boundary*: real time is read for one figure of the report only, and never decides anything.

mod affairs;
mod air;
mod airing;
mod channel;
mod check;
mod check_data;
mod check_domains;
mod crowd;
mod explain;
mod federation;
mod field;
mod files;
mod isolation;
mod ledger;
mod liar;
mod lora;
mod machine;
mod model;
mod net;
mod people;
mod plan;
mod report;
mod rng;
mod run;
mod sabotage;
mod scenario;
mod secrets;
mod spy;
mod things;
mod threads;
mod trouble;
mod world;

pub use airing::AirReport;
pub use report::{Failure, Finding, Options, Report, Sabotage, table};
pub use run::{Tally, check_determinism, run_many, run_seed};
pub use scenario::{
    AirSection, Data, Domains, Faults, ProfileName, Scenario, Span, Topology, Workload, parse,
    scenario, scenarios,
};
