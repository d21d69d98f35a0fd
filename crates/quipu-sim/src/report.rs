//! What a run is asked for and what it brings.

use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};

use serde::Serialize;

use crate::airing::AirReport;

/// A rule that is broken on purpose, so that a test can see a checker turn red.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Sabotage {
    /// A disk forgets what it promised to keep.
    LyingDisk,
    /// A machine reports that it does not hold an event that it acknowledged.
    LoseEvent,
    /// A machine folds in the order of arrival.
    FoldByArrival,
    /// A machine counts what removed members wrote.
    SkipRemovals,
    /// A machine holds an event whose clock breaks the rule.
    LateClock,
    /// A copy of a payload lies on a disk after its erasure.
    KeepErased,
    /// A machine's state leaves out what hides artifacts.
    SkipTombstones,
    /// Snapshots claim another state than that of their past.
    WrongRoot,
    /// The collector forgets what snapshots hold.
    CollectSnapshots,
    /// Parts that do not fit are kept.
    BelieveParts,
    /// A machine loses an artifact that it acknowledged.
    LoseArtifact,
    /// Artifacts of one log are shown to the peers of another.
    LeakKey,
    /// Lineage is published as it is.
    LeakEdge,
    /// Published logs are shown to everybody.
    OpenDoor,
    /// A publisher publishes the id of an internal event.
    LeakId,
    /// The same with its clock.
    LeakClock,
    /// The same with its payload.
    LeakPayload,
    /// The same with bytes of an internal artifact.
    LeakBytes,
    /// An edge is published that names what is not.
    StrayEdge,
    /// A member that forged becomes a publisher.
    LetIn,
    /// A published event stays with the machine that wrote it.
    Hide,
    /// Stations have no limit of airtime.
    IgnoreAirtime,
    /// Effects depend on something besides the seed.
    Noise,
}

impl Sabotage {
    /// All of them.
    pub const ALL: [Self; 23] = [
        Self::LyingDisk,
        Self::LoseEvent,
        Self::FoldByArrival,
        Self::SkipRemovals,
        Self::LateClock,
        Self::KeepErased,
        Self::SkipTombstones,
        Self::WrongRoot,
        Self::CollectSnapshots,
        Self::BelieveParts,
        Self::LoseArtifact,
        Self::LeakKey,
        Self::LeakEdge,
        Self::OpenDoor,
        Self::LeakId,
        Self::LeakClock,
        Self::LeakPayload,
        Self::LeakBytes,
        Self::StrayEdge,
        Self::LetIn,
        Self::Hide,
        Self::IgnoreAirtime,
        Self::Noise,
    ];
}

/// How to run.
#[derive(Debug, Clone, Copy)]
pub struct Options {
    /// Threads that run machines. Results do not depend on it.
    pub threads: usize,
    /// What to break on purpose.
    pub sabotage: Option<Sabotage>,
    /// Called with a line for everything worth knowing when a seed is looked at.
    pub trace: Option<fn(&str)>,
}

impl Default for Options {
    fn default() -> Self {
        Self { threads: 1, sabotage: None, trace: None }
    }
}

static NOISE: AtomicU64 = AtomicU64::new(0);

impl Options {
    pub(crate) fn sabotage_noise(&self) -> u64 {
        match self.sabotage {
            Some(Sabotage::Noise) => NOISE.fetch_add(1, Ordering::Relaxed),
            _ => 0,
        }
    }
}

/// What a checker found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finding {
    /// What does not hold.
    pub what: String,
    /// Where.
    pub detail: String,
}

impl Finding {
    pub(crate) fn new(what: &str, detail: String) -> Self {
        Self { what: what.to_owned(), detail }
    }
}

/// A seed that failed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub struct Failure {
    /// The scenario.
    pub scenario: String,
    /// The seed.
    pub seed: u64,
    /// Virtual time of the finding, in milliseconds.
    pub virtual_ms: u64,
    /// The finding.
    pub finding: Finding,
}

impl Failure {
    /// The command that shows it again.
    pub fn command(&self) -> String {
        format!("quipu sim --scenario {} --seed {}", self.scenario, self.seed)
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { scenario, seed, virtual_ms, finding } = self;
        write!(
            f,
            "{}: {}\n  scenario {scenario}, seed {seed}, after {virtual_ms} ms; again with: {}",
            finding.what,
            finding.detail,
            self.command()
        )
    }
}

/// The result of a seed in which everything held.
#[derive(Debug, Clone, Serialize)]
pub struct Report {
    /// The scenario.
    pub scenario: String,
    /// The seed.
    pub seed: u64,
    /// Machines, with liars and removed ones.
    pub machines: usize,
    /// Machines that had to agree.
    pub members: usize,
    /// Events that everybody holds.
    pub events: u64,
    /// Leaves in the end.
    pub leaves: usize,
    /// Machines that stopped and started again.
    pub stops: u64,
    /// Virtual time from the end of all trouble until all agreed.
    pub convergence_ms: u64,
    /// Virtual time of the whole run.
    pub virtual_ms: u64,
    /// Frames put on links.
    pub frames: u64,
    /// Their bytes.
    pub bytes: u64,
    /// Frames that links lost.
    pub lost_frames: u64,
    /// How often an event travelled to a machine, on average: 1 is the least.
    pub copies_per_event: f64,
    /// Times that a machine asked another and waited.
    pub rounds: u64,
    /// The most events that waited for others on one machine.
    pub waiting_max: usize,
    /// Snapshots taken.
    pub snapshots: usize,
    /// Different artifacts put.
    pub artifacts: usize,
    /// Artifacts that machines got from others.
    pub fetched: u64,
    /// Artifacts that machines collected.
    pub collected: u64,
    /// Parts that were not of their artifact, and were named.
    pub bad_parts: u64,
    /// Artifacts published, over all domains.
    pub published: usize,
    /// Ends of published edges that stayed internal: commitments.
    pub blinded: u64,
    /// Artifacts imported by machines that had their bytes.
    pub imported: usize,
    /// Machines that began to follow a domain through another follower.
    pub relayed: u64,
    /// Frames that went from one domain to another, and were searched for what is internal.
    pub crossed: u64,
    /// Questions of strangers whose answers were compared.
    pub questions: u64,
    /// What it cost on the air, if machines met there.
    pub air: Option<AirReport>,
    /// Turns of all machines.
    pub turns: u64,
    /// The largest event body, in bytes.
    pub body_bytes_max: usize,
    /// Hash over all effects, in hexadecimal digits.
    pub effects_hash: String,
    /// How long it really took.
    pub wall_ms: u64,
}

/// Reports as a table for a terminal.
pub fn table(reports: &[Report]) -> String {
    let mut out = format!(
        "{:<26}{:>8}{:>10}{:>8}{:>12}{:>13}{:>8}{:>8}{:>9}\n",
        "scenario",
        "seed",
        "machines",
        "events",
        "converge ms",
        "bytes",
        "copies",
        "rounds",
        "wall ms"
    );
    for r in reports {
        out += &format!(
            "{:<26}{:>8}{:>10}{:>8}{:>12}{:>13}{:>8.2}{:>8}{:>9}\n",
            r.scenario,
            r.seed,
            r.machines,
            r.events,
            r.convergence_ms,
            r.bytes,
            r.copies_per_event,
            r.rounds,
            r.wall_ms
        );
    }
    out
}
