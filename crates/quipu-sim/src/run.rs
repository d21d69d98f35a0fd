//! Running seeds.

use std::ops::Range;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use quipu_core::codec::v1;
use quipu_core::event::Log;
use quipu_core::history::History;

use crate::plan::{MS, Plan};
use crate::report::{Failure, Finding, Options, Report};
use crate::scenario::Scenario;
use crate::world::World;

/// Runs one seed of a scenario.
///
/// # Errors
/// The first thing that did not hold.
pub fn run_seed(scenario: &Scenario, seed: u64, options: Options) -> Result<Report, Failure> {
    let start = Instant::now();
    let failure = |virtual_us: u64, finding| Failure {
        scenario: scenario.name.clone(),
        seed,
        virtual_ms: virtual_us / MS,
        finding,
    };
    let plan = Plan::draw(scenario, seed);
    let mut world = World::new(plan, seed, options).map_err(|finding| failure(0, finding))?;
    let result = run(&mut world);
    let healed_for = result.map_err(|finding| failure(world.now, finding))?;
    let mut report = report_of(&mut world, scenario, seed);
    report.convergence_ms = healed_for / MS;
    report.wall_ms = start.elapsed().as_millis() as u64;
    Ok(report)
}

/// Answers how long it took to agree after all trouble had ended.
fn run(world: &mut World) -> Result<u64, Finding> {
    world.begin()?;
    world.run_until(world.plan.duration)?;
    world.heal()?;
    world.measure_lack()?;
    let healed = world.now;
    world.sabotage()?;
    world.converge()?;
    world.measure_air();
    let took = world.now - healed;
    world.converge_artifacts()?;
    // Newcomers may have been let in meanwhile.
    world.converge()?;
    world.sabotage_late();
    world.check_all(true)?;
    world.check_writable()?;
    world.check_all(false)?;
    Ok(took)
}

fn report_of(world: &mut World, scenario: &Scenario, seed: u64) -> Report {
    let members = world.members();
    let (mut events, mut leaves, mut received, mut body_bytes_max) = (0, 0, 0, 0);
    for machine in &world.machines {
        let Some(driver) = &machine.driver else { continue };
        let Some(dag) = driver.node().dag() else { continue };
        let own = dag.own_end(&machine.node).map_or(0, |end| end.seq);
        received += dag.held().saturating_sub(own);
        if machine.index == 0 {
            events = dag.event_count();
            leaves = dag.leaf_count();
            let held = driver.held();
            let mut next = 0;
            while let Ok(batch) = held.events(Log::Internal, next..held.count(Log::Internal))
                && !batch.is_empty()
            {
                next += batch.len() as u64;
                for event in batch {
                    let mut body = Vec::new();
                    v1::encode_body(&event.header, &world.domain, &mut body);
                    body_bytes_max = body_bytes_max.max(body.len());
                }
            }
        }
    }
    let moved = world.moved;
    Report {
        scenario: scenario.name.clone(),
        seed,
        machines: world.machines.len(),
        members: members.len(),
        events,
        leaves,
        stops: world.stops,
        convergence_ms: 0,
        virtual_ms: world.now / MS,
        frames: moved.frames,
        bytes: moved.bytes,
        lost_frames: moved.lost_frames,
        copies_per_event: moved.sent_events as f64 / received.max(1) as f64,
        rounds: moved.round_trips,
        waiting_max: world.waiting_max(),
        snapshots: world.things.shots.len(),
        artifacts: world.things.contents.len(),
        fetched: world.things.fetched,
        collected: world.things.collected,
        bad_parts: world.things.bad_parts,
        published: world.federation.shown.len(),
        blinded: world.federation.blinded,
        imported: world.federation.imported.len(),
        relayed: world.federation.relayed,
        crossed: world.federation.crossings,
        questions: world.federation.questions,
        air: world.air.as_ref().and_then(|air| air.airing.report()),
        turns: world.turns,
        body_bytes_max,
        effects_hash: world.effects_hash().iter().map(|byte| format!("{byte:02x}")).collect(),
        wall_ms: 0,
    }
}

/// Runs a seed twice.
///
/// # Errors
/// That it failed, or that the effects of the two runs differ.
pub fn check_determinism(
    scenario: &Scenario,
    seed: u64,
    options: Options,
) -> Result<Report, Failure> {
    let first = run_seed(scenario, seed, options)?;
    let second = run_seed(scenario, seed, Options { threads: 2, ..options })?;
    if first.effects_hash == second.effects_hash {
        return Ok(first);
    }
    let text = format!("{} and {}", first.effects_hash, second.effects_hash);
    let finding = Finding::new("the same seed ran in two ways", text);
    let (scenario, virtual_ms) = (scenario.name.clone(), first.virtual_ms);
    Err(Failure { scenario, seed, virtual_ms, finding })
}

/// The result of many seeds.
#[derive(Debug, Default)]
pub struct Tally {
    /// Seeds in which everything held, sorted by seed.
    pub reports: Vec<Report>,
    /// The others, sorted by seed.
    pub failures: Vec<Failure>,
}

/// Runs many seeds of a scenario on several threads. `progress` is called after each with how many
/// are done and how many of those failed.
pub fn run_many(
    scenario: &Scenario,
    seeds: Range<u64>,
    threads: usize,
    options: Options,
    progress: &(dyn Fn(u64, u64) + Sync),
) -> Tally {
    let next = AtomicU64::new(seeds.start);
    let tally = Mutex::new(Tally::default());
    let lock = || tally.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
    let work = || {
        loop {
            let seed = next.fetch_add(1, Ordering::Relaxed);
            if seed >= seeds.end {
                break;
            }
            let result = run_seed(scenario, seed, options);
            let mut tally = lock();
            match result {
                Ok(report) => tally.reports.push(report),
                Err(failure) => tally.failures.push(failure),
            }
            let failed = tally.failures.len() as u64;
            let done = tally.reports.len() as u64 + failed;
            drop(tally);
            progress(done, failed);
        }
    };
    std::thread::scope(|scope| {
        for _ in 1..threads.max(1) {
            scope.spawn(work);
        }
        work();
    });
    let mut tally = tally.into_inner().unwrap_or_else(std::sync::PoisonError::into_inner);
    tally.reports.sort_by_key(|report| report.seed);
    tally.failures.sort_by_key(|failure| failure.seed);
    tally
}
