//! Scenarios: what a simulation is made of, as data.

use serde::Deserialize;

use crate::rng::Rng;

/// A number, or a range from which the seed draws one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
#[serde(from = "SpanText")]
pub struct Span {
    /// The least.
    pub low: u64,
    /// The greatest.
    pub high: u64,
}

#[derive(Deserialize)]
#[serde(untagged)]
enum SpanText {
    One(u64),
    Range([u64; 2]),
}

impl From<SpanText> for Span {
    fn from(text: SpanText) -> Self {
        match text {
            SpanText::One(n) => Self::from(n),
            SpanText::Range([low, high]) => Self { low, high },
        }
    }
}

impl From<u64> for Span {
    fn from(n: u64) -> Self {
        Self { low: n, high: n }
    }
}

impl Span {
    pub(crate) fn draw(self, rng: &mut Rng) -> u64 {
        rng.between(self.low, self.high)
    }
}

/// Who is linked to whom.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Topology {
    /// Each to the next.
    Line,
    /// A line whose ends meet.
    Ring,
    /// A ring with random links across, so that each has about `degree` of them.
    Regular,
    /// All to the first.
    Star,
    /// Places in a field: linked are those in reach of each other, about `degree` of each. A partition cuts
    /// the field in two.
    Field,
    /// Everybody to everybody.
    #[default]
    Full,
    /// The seed decides.
    Any,
}

/// What links are like.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ProfileName {
    /// Ethernet and the near Internet: milliseconds, a gigabit, nothing lost.
    #[default]
    Wire,
    /// Wireless: tens to hundreds of milliseconds, some megabits, some loss.
    Mesh,
    /// Slow radio: seconds, a hundred kilobits, much loss.
    Radio,
    /// The seed decides, link by link.
    Any,
}

/// What people at the machines do. Counts are for the whole run and all machines, but for `emits`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Workload {
    /// Requests to emit, of each machine.
    pub emits: Span,
    /// Events in a request.
    pub batch: Span,
    /// Different cells that are written.
    pub cells: Span,
    /// Payloads erased.
    pub erasures: Span,
    /// Members removed.
    pub removals: Span,
    /// Roles changed.
    pub promotions: Span,
    /// Of the machines, how many join by invitation while the rest writes.
    pub joins: Span,
    /// Requests to synchronise once, without staying.
    pub syncs: Span,
    /// For how long before the end nobody emits, in seconds.
    pub calm_s: Span,
    /// 1: everybody writes in the second half of the time only, and nobody is linked then, so that there are as many
    /// leaves as events of different authors. 2: the machines are in two parts while
    /// they write, within which they are linked.
    pub apart: Span,
    /// Authors without machines, whose events come as a file.
    pub crowd: Span,
}

/// What people do with artifacts, edges and snapshots. Counts are for the whole run and all machines.
/// With nothing here, machines keep no artifacts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Data {
    /// Artifacts put: new ones, the same elsewhere, and the same as another type.
    pub puts: Span,
    /// The most bytes of one.
    pub bytes: Span,
    /// Artifacts and edges hidden.
    pub tombstones: Span,
    /// Pins set or taken away.
    pub pins: Span,
    /// Edges added.
    pub edges: Span,
    /// Conflicts decided.
    pub resolutions: Span,
    /// Snapshots taken.
    pub snapshots: Span,
    /// Snapshots dropped.
    pub drops: Span,
    /// Runs of the collector.
    pub collections: Span,
    /// Artifacts that somebody asks for.
    pub fetches: Span,
    /// Machines that change what they fetch by themselves.
    pub policies: Span,
    /// States saved to the disk.
    pub saves: Span,
    /// Machines whose disk of artifacts fails within a write.
    pub file_cuts: Span,
    /// Lies about artifacts told by each liar.
    pub lies: Span,
}

/// Several domains: what their people publish, follow and import, and what strangers try. Counts are for
/// the whole run and all machines. With nothing here there is one domain.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Domains {
    /// How many domains. The scenario's `machines` are those of each.
    pub count: Span,
    /// Artifacts put.
    pub puts: Span,
    /// The most bytes of one.
    pub bytes: Span,
    /// Edges added.
    pub edges: Span,
    /// Publications, some with lineage.
    pub publishes: Span,
    /// Domains followed, besides one by each: directly or through another follower.
    pub follows: Span,
    /// Artifacts imported from other domains.
    pub imports: Span,
    /// Members made publishers.
    pub publishers: Span,
    /// Times that the published log is shown to some machines only. All are opened again in the end.
    pub limits: Span,
    /// Questions of strangers: for what is internal, and for what does not exist.
    pub questions: Span,
    /// 1: in domains of three or more machines one writes to the published log that may not.
    pub forgers: Span,
    /// Events written by each of them.
    pub forgeries: Span,
}

/// What goes wrong. Counts are for the whole run and all machines.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Faults {
    /// Machines that stop between two turns and lose what was not durable.
    pub crashes: Span,
    /// Machines whose power fails in the middle of a write.
    pub power_cuts: Span,
    /// Disks that are full for a while.
    pub full_disks: Span,
    /// Syncs that fail.
    pub failing_syncs: Span,
    /// Machines that are put back to an earlier image of their disk.
    pub restores: Span,
    /// Clocks that jump by up to ten years, in either direction.
    pub clock_jumps: Span,
    /// By how much clocks differ from the start, in milliseconds.
    pub skew_ms: Span,
    /// By how much clocks run too fast or too slow, in millionths.
    pub drift_ppm: Span,
    /// Times that the machines are cut into two groups.
    pub partitions: Span,
    /// For how long, in seconds.
    pub partition_s: Span,
    /// Links that break.
    pub link_drops: Span,
    /// Links that hold everything back for a while.
    pub stalls: Span,
    /// For how long, in seconds.
    pub stall_s: Span,
    /// Frames lost, of a thousand, on top of what the profile loses.
    pub loss: Span,
    /// Frames that come twice, of a thousand.
    pub duplicates: Span,
    /// Frames that overtake others, of a thousand.
    pub reorder: Span,
    /// Machines of members that lie.
    pub liars: Span,
    /// Lies told by each of them.
    pub lies: Span,
    /// Removed members that go on writing as if it were before their removal.
    pub backdaters: Span,
    /// 1: a member emits an event with the greatest clock that is allowed.
    pub greatest_clock: Span,
    /// 1: among the lies are runs whose only signature is on an event that breaks a rule.
    pub unprovable: Span,
}

/// Links over the air: a modem with one channel, half duplex. With nothing here machines have wires.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct AirSection {
    /// Bits per second.
    pub bitrate: Span,
    /// Spreading factor of LoRa, 7 to 12, in the place of a bitrate: frames take what they take there.
    pub spreading: Span,
    /// Bytes in a frame.
    pub frame_bytes: Span,
    /// Frames lost, of a thousand.
    pub loss: Span,
    /// The part of each hour that a machine may send, in thousandths of a percent.
    pub share: Span,
    /// For how long machines have wires first, in seconds, so that they know each other. People write after that.
    pub wired_s: Span,
    /// How often two machines meet, in seconds; 0: they are always in reach.
    pub meet_every_s: Span,
    /// For how long, in seconds.
    pub meet_for_s: Span,
}

/// A kind of simulation.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Scenario {
    /// Its name.
    pub name: String,
    /// What it shows.
    pub about: String,
    /// How many machines.
    pub machines: Span,
    /// Who is linked to whom.
    #[serde(default)]
    pub topology: Topology,
    /// Links of each machine, for [`Topology::Regular`] and [`Topology::Field`].
    #[serde(default = "degree")]
    pub degree: Span,
    /// What links are like.
    #[serde(default)]
    pub profile: ProfileName,
    /// How long people write and things go wrong, in virtual seconds.
    pub seconds: Span,
    /// Within how many virtual seconds after that everybody must agree.
    #[serde(default = "settle")]
    pub settle_seconds: Span,
    /// The domain's cap on parents.
    #[serde(default = "parents_max")]
    pub parents_max: Span,
    /// Events in a block.
    #[serde(default = "block_events")]
    pub block_events: Span,
    /// How long a machine collects input before it writes, in virtual milliseconds.
    #[serde(default = "turn_ms")]
    pub turn_ms: Span,
    /// Seeds that tests run.
    #[serde(default)]
    pub test_seeds: Vec<u64>,
    /// What people do.
    #[serde(default)]
    pub workload: Workload,
    /// What people do with artifacts, edges and snapshots.
    #[serde(default)]
    pub data: Data,
    /// Whether there are several domains, and what they have to do with each other.
    #[serde(default)]
    pub domains: Domains,
    /// What goes wrong.
    #[serde(default)]
    pub faults: Faults,
    /// Whether machines meet on the air, and what that is like.
    #[serde(default)]
    pub air: AirSection,
}

impl Scenario {
    /// The same without artifacts, edges and snapshots. Its seeds run as they did before there were
    /// any.
    #[must_use]
    pub fn without_data(mut self) -> Self {
        self.data = Data::default();
        self
    }
}

fn degree() -> Span {
    Span::from(3)
}

fn settle() -> Span {
    Span::from(1800)
}

fn parents_max() -> Span {
    Span::from(128)
}

fn block_events() -> Span {
    Span { low: 64, high: 512 }
}

fn turn_ms() -> Span {
    Span { low: 1, high: 4 }
}

macro_rules! texts {
    ($($name:literal),+ $(,)?) => {
        &[$(include_str!(concat!("../scenarios/", $name, ".toml"))),+]
    };
}

const TEXTS: &[&str] = texts![
    "two-machines",
    "line-of-three-relay",
    "join-under-load",
    "week-long-partition",
    "skewed-clocks",
    "crashes",
    "erasures",
    "forked-backup",
    "removed-member-backdates",
    "hostile-peers",
    "unprovable-run",
    "lossy-links",
    "radio",
    "radio-mules",
    "sf9-partition",
    "everybody-apart",
    "artifacts",
    "snapshots",
    "gc-under-fire",
    "lying-artifacts",
    "domains",
    "many-leaves",
    "many-machines",
    "random-domains",
    "random",
];

/// All scenarios, in the order in which they are listed.
///
/// # Panics
/// If a file of this crate is not a scenario, which a test excludes.
pub fn scenarios() -> Vec<Scenario> {
    TEXTS.iter().map(|text| parse(text).unwrap_or_else(|error| panic!("{error}"))).collect()
}

/// Reads a scenario.
///
/// # Errors
/// What is wrong with the text.
pub fn parse(text: &str) -> Result<Scenario, String> {
    toml::from_str(text).map_err(|error| error.to_string())
}

/// The scenario with a name.
pub fn scenario(name: &str) -> Option<Scenario> {
    scenarios().into_iter().find(|scenario| scenario.name == name)
}
