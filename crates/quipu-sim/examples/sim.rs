//! Runs seeds from the command line of the workspace, without the binary.
#![allow(clippy::print_stdout, clippy::print_stderr)]

use quipu_sim::{Options, run_many, run_seed, scenario, table};

fn main() {
    let args: Vec<String> = std::env::args().collect();
    let name = args.get(1).map_or("random", String::as_str);
    let number = |index: usize| args.get(index).and_then(|text| text.parse().ok());
    let (from, to) = (number(2).unwrap_or(1), number(3));
    let file = std::fs::read_to_string(name).ok().and_then(|text| quipu_sim::parse(&text).ok());
    let Some(scenario) = file.or_else(|| scenario(name)) else {
        return eprintln!("no scenario {name}");
    };
    match to {
        None => match run_seed(
            &scenario,
            from,
            Options {
                threads: 2,
                trace: std::env::var_os("TRACE").map(|_| print as fn(&str)),
                ..Options::default()
            },
        ) {
            Ok(report) => println!("{}{report:#?}", table(std::slice::from_ref(&report))),
            Err(failure) => println!("{failure}"),
        },
        Some(to) => {
            let tally = run_many(&scenario, from..to, 2, Options::default(), &|_, _| {});
            for failure in &tally.failures {
                println!("{failure}");
            }
            let wall: u64 = tally.reports.iter().map(|r| r.wall_ms).sum();
            println!("{} green, {} red, {wall} ms", tally.reports.len(), tally.failures.len());
        }
    }
}

fn print(line: &str) {
    println!("{line}");
}
