//! `quipu sim`.

use std::sync::Mutex;

use quipu_node::api::{ApiError, ExitCode};
use quipu_sim::{Failure, Options, Report, Sabotage, Scenario};
use serde_json::json;

use crate::cli::Global;
use crate::output;

/// Rows printed for a run of many seeds: the slowest ones.
const ROWS_MAX: usize = 20;
/// The scenario of several domains in which everything else is drawn from the seed.
pub(crate) const SEVERAL_DOMAINS: &str = "random-domains";

pub(crate) fn run(
    global: &Global,
    scenario: &str,
    seed: u64,
    seeds: u64,
    twice: bool,
    sabotage: Option<&str>,
) -> Result<ExitCode, ApiError> {
    if scenario == "list" {
        return list(global);
    }
    let found = quipu_sim::scenario(scenario).ok_or_else(|| {
        ApiError::not_found(format!("no scenario {scenario:?}")).hint("quipu sim --scenario list")
    })?;
    let sabotage = sabotage.map(sabotage_of).transpose()?;
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    let options = Options { sabotage, ..Options::default() };
    let (reports, failures) = if twice {
        run_twice(&found, seed, seeds, options)
    } else if seeds == 1 {
        match quipu_sim::run_seed(&found, seed, Options { threads, ..options }) {
            Ok(report) => (vec![report], Vec::new()),
            Err(failure) => (Vec::new(), vec![failure]),
        }
    } else {
        run_many(global, &found, seed..seed.saturating_add(seeds), threads, options)
    };
    print(global, &reports, &failures)
}

fn sabotage_of(name: &str) -> Result<Sabotage, ApiError> {
    let known =
        || Sabotage::ALL.iter().map(|s| format!("{s:?}").to_lowercase()).collect::<Vec<_>>();
    let wanted = name.replace('-', "");
    let found = Sabotage::ALL.iter().find(|s| format!("{s:?}").eq_ignore_ascii_case(&wanted));
    found
        .copied()
        .ok_or_else(|| ApiError::misuse(format!("no sabotage {name:?}")).hint(known().join(", ")))
}

fn list(global: &Global) -> Result<ExitCode, ApiError> {
    for scenario in quipu_sim::scenarios() {
        if global.json {
            output::json(&json!({ "name": scenario.name }))?;
        } else {
            output::line(&scenario.name)?;
        }
    }
    Ok(ExitCode::Done)
}

fn run_twice(
    scenario: &Scenario,
    seed: u64,
    seeds: u64,
    options: Options,
) -> (Vec<Report>, Vec<Failure>) {
    let (mut reports, mut failures) = (Vec::new(), Vec::new());
    for seed in seed..seed.saturating_add(seeds) {
        match quipu_sim::check_determinism(scenario, seed, options) {
            Ok(report) => reports.push(report),
            Err(failure) => failures.push(failure),
        }
    }
    (reports, failures)
}

fn run_many(
    global: &Global,
    scenario: &Scenario,
    seeds: std::ops::Range<u64>,
    threads: usize,
    options: Options,
) -> (Vec<Report>, Vec<Failure>) {
    let bar = Mutex::new(output::progress(global.quiet, Some(seeds.end - seeds.start), "seeds"));
    let progress = |done, _failed| {
        if let Ok(bar) = bar.lock() {
            bar.set_position(done);
        }
    };
    let tally = quipu_sim::run_many(scenario, seeds, threads, options, &progress);
    if let Ok(bar) = bar.lock() {
        bar.finish_and_clear();
    }
    (tally.reports, tally.failures)
}

fn print(global: &Global, reports: &[Report], failures: &[Failure]) -> Result<ExitCode, ApiError> {
    if global.json {
        for report in reports {
            let value = serde_json::to_value(report)
                .map_err(|error| ApiError::new(ExitCode::Bug, error.to_string()))?;
            output::json(&value)?;
        }
    } else {
        let mut slowest: Vec<Report> = reports.to_vec();
        slowest.sort_by_key(|report| std::cmp::Reverse(report.wall_ms));
        slowest.truncate(ROWS_MAX);
        output::line(quipu_sim::table(&slowest).trim_end())?;
        output::line(&format!("{} seeds held, {} failed", reports.len(), failures.len()))?;
    }
    for failure in failures {
        let error = ApiError::new(ExitCode::Problem, failure.to_string()).hint(failure.command());
        output::error(&error, global.json);
    }
    Ok(if failures.is_empty() { ExitCode::Done } else { ExitCode::Problem })
}
