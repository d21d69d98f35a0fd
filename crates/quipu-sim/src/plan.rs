//! What a seed makes of a scenario: numbers drawn, nothing left open.

use crate::air::AirPlan;
use crate::field::Field;
use crate::lora::{self, Lora};
use crate::rng::Rng;
use crate::scenario::{Data, Domains, Faults, ProfileName, Scenario, Span, Topology, Workload};

/// Microseconds of virtual time.
pub(crate) type Us = u64;

/// A millisecond.
pub(crate) const MS: Us = 1000;
/// A second.
pub(crate) const SECOND: Us = 1_000_000;

/// What a link does to frames.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Profile {
    pub(crate) latency: (Us, Us),
    /// Bytes in a millisecond.
    pub(crate) bytes_per_ms: u64,
    pub(crate) loss: u64,
    pub(crate) duplicates: u64,
    pub(crate) reorder: u64,
}

impl Profile {
    fn of(name: ProfileName, rng: &mut Rng) -> Self {
        let (latency, bytes_per_ms, loss) = match name {
            ProfileName::Wire => ((MS / 5, 20 * MS), 125_000, 0),
            ProfileName::Mesh => ((10 * MS, 300 * MS), 500, 10),
            ProfileName::Radio => ((300 * MS, 3 * SECOND), 12, 50),
            ProfileName::Any => {
                let names = [ProfileName::Wire, ProfileName::Mesh, ProfileName::Radio];
                return Self::of(names[rng.index(3)], rng);
            }
        };
        Self { latency, bytes_per_ms, loss, duplicates: 0, reorder: 0 }
    }

    /// The same link without loss, for the time when everything is well.
    pub(crate) fn healed(self) -> Self {
        Self { loss: 0, duplicates: 0, reorder: 0, ..self }
    }
}

/// A scenario with its numbers drawn.
#[derive(Debug, Clone)]
pub(crate) struct Plan {
    pub(crate) machines: usize,
    pub(crate) edges: Vec<(usize, usize, Profile)>,
    /// Where the machines are, if that decides who is linked.
    pub(crate) field: Option<Field>,
    pub(crate) duration: Us,
    pub(crate) settle: Us,
    pub(crate) parents_max: usize,
    pub(crate) block_events: usize,
    pub(crate) turn: Us,
    /// Drawn already: low and high are equal.
    pub(crate) workload: Workload,
    pub(crate) faults: Faults,
    /// Drawn already, too, from a stream of its own.
    pub(crate) data: Data,
    /// Drawn already, from yet another one.
    pub(crate) domains: Domains,
    /// The domain of each machine.
    pub(crate) homes: Vec<usize>,
    /// Drawn from yet another one.
    pub(crate) air: Option<AirPlan>,
    pub(crate) hostile: Vec<usize>,
    pub(crate) backdaters: Vec<usize>,
    /// Machines that join later, by invitation.
    pub(crate) late: Vec<usize>,
}

impl Plan {
    /// Whether machines keep artifacts, and people do things with them.
    pub(crate) fn has_data(&self) -> bool {
        let Data { puts, edges, snapshots, .. } = self.data;
        puts.low + edges.low + snapshots.low > 0 || self.has_domains()
    }

    /// Whether there are several domains.
    pub(crate) fn has_domains(&self) -> bool {
        self.domains.count.low > 0
    }

    /// When people begin to write.
    pub(crate) fn writing_from(&self) -> Us {
        let end = self.duration;
        match self.air.map_or(0, |air| air.wired) {
            // Everybody has joined by half of the time, if all are to write apart from each other.
            0 if self.workload.apart.low > 0 => end / 2,
            0 => (2 * SECOND).min(end / 4),
            wired => wired.min(end),
        }
    }

    /// Draws a plan.
    pub(crate) fn draw(scenario: &Scenario, seed: u64) -> Self {
        let mut rng = Rng::new(seed, "plan");
        let drawn = scenario.machines.draw(&mut rng).max(2) as usize;
        let (domains, homes) = draw_domains(scenario, drawn, seed);
        let machines = homes.len();
        let mut faults = draw_faults(&scenario.faults, &mut rng);
        // Drawn apart, so that what other seeds once drew stays as it was.
        faults.unprovable =
            Span::from(scenario.faults.unprovable.draw(&mut Rng::new(seed, "unprovable")));
        let workload = draw_workload(&scenario.workload, &mut rng);
        // Machine 0 founds the domain and is honest. At least one other stays honest, too.
        let mut others: Vec<usize> = (1..machines).collect();
        rng.shuffle(&mut others);
        let mut some = |wanted: u64, rest: usize| {
            let count = (wanted as usize).min(others.len().saturating_sub(rest));
            others.split_off(others.len() - count)
        };
        let mut hostile = some(faults.liars.low, 1);
        if domains.forgers.low > 0 {
            hostile.extend(forgers(&homes));
        }
        let backdaters = some(faults.backdaters.low, 1);
        let late = some(workload.joins.low, 0);
        let field = (scenario.topology == Topology::Field)
            .then(|| Field::draw(machines, scenario.degree.high as usize, seed));
        Self {
            machines,
            edges: draw_edges(scenario, &homes, field.as_ref(), &faults, &mut rng),
            field,
            duration: scenario.seconds.draw(&mut rng) * SECOND,
            settle: scenario.settle_seconds.draw(&mut rng) * SECOND,
            parents_max: scenario.parents_max.draw(&mut rng).clamp(2, 128) as usize,
            block_events: scenario.block_events.draw(&mut rng).max(1) as usize,
            turn: scenario.turn_ms.draw(&mut rng).max(1) * MS,
            workload,
            faults,
            data: draw_data(&scenario.data, seed),
            domains,
            homes,
            air: draw_air(scenario, seed),
            hostile,
            backdaters,
            late,
        }
    }
}

fn draw_air(scenario: &Scenario, seed: u64) -> Option<AirPlan> {
    let of = &scenario.air;
    let mut rng = Rng::new(seed, "air plan");
    let bitrate = of.bitrate.draw(&mut rng);
    let spreading = of.spreading.draw(&mut Rng::new(seed, "spreading"));
    let lora = (spreading > 0).then(|| Lora::new(spreading));
    let bitrate = lora.map_or(bitrate, Lora::bitrate);
    let frame_bytes_max = lora.map_or(u64::MAX, |_| lora::FRAME_BYTES_MAX);
    (bitrate > 0).then(|| AirPlan {
        bitrate,
        lora,
        frame_bytes: of.frame_bytes.draw(&mut rng).clamp(200, frame_bytes_max),
        loss: of.loss.draw(&mut rng),
        share: of.share.draw(&mut rng).clamp(1, 100_000),
        wired: of.wired_s.high * SECOND,
        period: of.meet_every_s.draw(&mut rng) * SECOND,
        meeting: of.meet_for_s.draw(&mut rng) * SECOND,
    })
}

fn draw_faults(of: &Faults, rng: &mut Rng) -> Faults {
    let mut draw = |span: Span| Span::from(span.draw(rng));
    Faults {
        crashes: draw(of.crashes),
        power_cuts: draw(of.power_cuts),
        full_disks: draw(of.full_disks),
        failing_syncs: draw(of.failing_syncs),
        restores: draw(of.restores),
        clock_jumps: draw(of.clock_jumps),
        skew_ms: of.skew_ms,
        drift_ppm: of.drift_ppm,
        partitions: draw(of.partitions),
        partition_s: of.partition_s,
        link_drops: draw(of.link_drops),
        stalls: draw(of.stalls),
        stall_s: of.stall_s,
        loss: draw(of.loss),
        duplicates: draw(of.duplicates),
        reorder: draw(of.reorder),
        liars: draw(of.liars),
        lies: of.lies,
        backdaters: draw(of.backdaters),
        greatest_clock: draw(of.greatest_clock),
        unprovable: of.unprovable,
    }
}

/// The numbers of domains, and the domain of each machine.
fn draw_domains(scenario: &Scenario, machines: usize, seed: u64) -> (Domains, Vec<usize>) {
    let of = &scenario.domains;
    let mut rng = Rng::new(seed, "domains plan");
    let mut draw = |span: Span| Span::from(span.draw(&mut rng));
    let drawn = Domains {
        count: draw(of.count),
        puts: draw(of.puts),
        bytes: draw(of.bytes),
        edges: draw(of.edges),
        publishes: draw(of.publishes),
        follows: draw(of.follows),
        imports: draw(of.imports),
        publishers: draw(of.publishers),
        limits: draw(of.limits),
        questions: draw(of.questions),
        forgers: draw(of.forgers),
        forgeries: of.forgeries,
    };
    if drawn.count.low == 0 {
        return (drawn, vec![0; machines]);
    }
    let mut homes = Vec::new();
    for domain in 0..drawn.count.low as usize {
        // A link between domains is like the first one within a domain, so there must be one.
        let least = if domain == 0 { 2 } else { 1 };
        let size = scenario.machines.draw(&mut rng).max(least) as usize;
        homes.extend(std::iter::repeat_n(domain, size));
    }
    (drawn, homes)
}

/// The last machine of each domain that has at least three.
fn forgers(homes: &[usize]) -> Vec<usize> {
    let is_last = |at: &usize| homes.get(at + 1) != Some(&homes[*at]);
    let is_third = |at: &usize| *at >= 2 && homes[at - 2] == homes[*at];
    (0..homes.len()).filter(|at| is_last(at) && is_third(at)).collect()
}

fn draw_data(of: &Data, seed: u64) -> Data {
    let mut rng = Rng::new(seed, "data plan");
    let mut draw = |span: Span| Span::from(span.draw(&mut rng));
    Data {
        puts: draw(of.puts),
        bytes: draw(of.bytes),
        tombstones: draw(of.tombstones),
        pins: draw(of.pins),
        edges: draw(of.edges),
        resolutions: draw(of.resolutions),
        snapshots: draw(of.snapshots),
        drops: draw(of.drops),
        collections: draw(of.collections),
        fetches: draw(of.fetches),
        policies: draw(of.policies),
        saves: draw(of.saves),
        file_cuts: draw(of.file_cuts),
        lies: of.lies,
    }
}

fn draw_workload(of: &Workload, rng: &mut Rng) -> Workload {
    let mut draw = |span: Span| Span::from(span.draw(rng));
    Workload {
        emits: of.emits,
        batch: of.batch,
        cells: draw(of.cells),
        erasures: draw(of.erasures),
        removals: draw(of.removals),
        promotions: draw(of.promotions),
        joins: draw(of.joins),
        syncs: draw(of.syncs),
        apart: draw(of.apart),
        calm_s: of.calm_s,
        crowd: draw(of.crowd),
    }
}

fn draw_edges(
    scenario: &Scenario,
    homes: &[usize],
    field: Option<&Field>,
    faults: &Faults,
    rng: &mut Rng,
) -> Vec<(usize, usize, Profile)> {
    let topology = match scenario.topology {
        Topology::Any => {
            let all = [Topology::Line, Topology::Ring, Topology::Star, Topology::Full];
            all[rng.index(all.len())]
        }
        fixed => fixed,
    };
    let degree = scenario.degree.draw(rng) as usize;
    let mut pairs = match field {
        Some(field) => field.pairs(),
        None => pairs(topology, homes.len(), degree, rng),
    };
    pairs.retain(|(a, b)| homes[*a] == homes[*b]);
    let profiled = |(a, b)| {
        let mut profile = Profile::of(scenario.profile, rng);
        profile.loss += faults.loss.low;
        profile.duplicates += faults.duplicates.low;
        profile.reorder += faults.reorder.low;
        (a, b, profile)
    };
    pairs.into_iter().map(profiled).collect()
}

fn pairs(topology: Topology, n: usize, degree: usize, rng: &mut Rng) -> Vec<(usize, usize)> {
    let mut pairs: Vec<(usize, usize)> = match topology {
        Topology::Line => (1..n).map(|i| (i - 1, i)).collect(),
        Topology::Ring => (0..n).map(|i| (i, (i + 1) % n)).collect(),
        Topology::Star => (1..n).map(|i| (0, i)).collect(),
        Topology::Full | Topology::Any | Topology::Field => {
            (0..n).flat_map(|a| (a + 1..n).map(move |b| (a, b))).collect()
        }
        Topology::Regular => {
            // The union of degree / 2 random rings.
            let mut all = Vec::new();
            for _ in 0..degree.div_ceil(2) {
                let mut ring: Vec<usize> = (0..n).collect();
                rng.shuffle(&mut ring);
                all.extend((0..n).map(|i| (ring[i], ring[(i + 1) % n])));
            }
            all
        }
    };
    for pair in &mut pairs {
        *pair = (pair.0.min(pair.1), pair.0.max(pair.1));
    }
    pairs.retain(|(a, b)| a != b);
    pairs.sort_unstable();
    pairs.dedup();
    pairs
}
