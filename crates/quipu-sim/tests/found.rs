//! Seeds that once failed, each with its cause. They hold on to what was fixed. Those that failed
//! before there were artifacts run without: then they are what they were.

use quipu_sim::{Options, Scenario, run_seed, scenario};

const WITH_DATA: &[(&str, u64, &str)] = &[
    ("artifacts", 9, "a tombstone that came after a later claim stopped a fetch"),
    ("lying-artifacts", 127, "a part of another size was never asked for again, of nobody"),
    ("lying-artifacts", 137, "a part of another size was never asked for again, of nobody"),
    ("random", 941, "an artifact that a removed member had hidden was not fetched again"),
    ("random", 20219, "an offer that was lost was never made again"),
    ("random", 20477, "an offer that was lost was never made again"),
    ("random", 30786, "an own event that would count nowhere was counted, but not kept"),
    ("random", 21116, "the same"),
    ("random", 2641, "a branch that is too many went on where what came of it before was needed"),
    ("random", 1155, "a file of proofs that never took its place was not erased"),
];

const SEVERAL_DOMAINS: &[(&str, u64, &str)] = &[
    ("domains", 25, "lineage named what another publisher had published, and was not here yet"),
    ("random-domains", 1623, "the digest of an empty log counted as a leak"),
    ("domains", 234, "what all claims have in common counted as a leak"),
];

const FOUND: &[(&str, u64, &str)] = &[
    ("random", 13, "an event kept aside was taken again, because it follows a feed end"),
    ("random", 31, "forks were flagged with what is kept aside, which differs by machine"),
    ("random", 22, "an erasure that came before its target was forgotten"),
    ("random", 393, "an erasure that came in one batch with its target was forgotten"),
    ("random", 2220, "after a clock was set back nobody compared again, for years"),
    ("random", 252, "events before one that breaks a rule could not be proven to others"),
    ("random", 2688, "events before one that breaks a rule could not be proven to others"),
    (
        "random",
        1_795_273_198_913_615_087,
        "a signature on an event that waited was not found later",
    ),
    ("hostile-peers", 1, "mass forks were forgotten by a start"),
    ("removed-member-backdates", 5, "a forked back-dated event passed as seen by the removal"),
    ("removed-member-backdates", 1, "back-dated events that came again stopped the machine"),
];

fn named(name: &str) -> Scenario {
    scenario(name).unwrap_or_else(|| panic!("no scenario {name}"))
}

#[test]
fn seeds_with_data_that_once_failed_are_green() {
    for (name, seed, cause) in WITH_DATA.iter().chain(SEVERAL_DOMAINS) {
        if let Err(failure) = run_seed(&named(name), *seed, Options::default()) {
            panic!("{cause}, again? {failure}");
        }
    }
}

#[test]
fn seeds_that_once_failed_are_green() {
    for (name, seed, cause) in FOUND {
        let scenario = named(name).without_data();
        if let Err(failure) = run_seed(&scenario, *seed, Options::default()) {
            panic!("{cause}, again? {failure}");
        }
    }
}
