//! SIGKILL, again and again, of three processes that write and sync: nothing acknowledged is lost.
//!
//! `QUIPU_KILL_ROUNDS` sets the number of rounds (10 if it is not set).

mod common;

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use common::{Machine, agree, temp};

/// Events in one request: several turns' worth, so that kills hit all stages of a write.
const BATCH_EVENTS: usize = 60;

/// A small generator, so that a run can be told from the numbers it printed.
fn next(state: &mut u64) -> u64 {
    *state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
    *state >> 33
}

/// Writes batches until it is told to stop, and gives every id that was printed. Goes to the daemon
/// while there is one, to the store itself while there is none.
fn write_until(stop: &AtomicBool, name: &'static str, root: &std::path::Path) -> Vec<String> {
    let writer = Machine::new(name, root);
    let mut acknowledged = Vec::new();
    let mut batch = 0;
    while !stop.load(Ordering::Relaxed) {
        acknowledged.extend(writer.write_if_possible(&format!("batch{batch}"), BATCH_EVENTS));
        batch += 1;
        std::thread::sleep(Duration::from_millis(100));
    }
    acknowledged
}

#[test]
#[expect(clippy::print_stdout, reason = "the numbers are the result")]
fn kill_nine_of_each_process_in_a_loop() {
    let rounds: u64 =
        std::env::var("QUIPU_KILL_ROUNDS").ok().and_then(|text| text.parse().ok()).unwrap_or(10);
    let start = Instant::now();
    let temp = temp();
    let mut a = Machine::found("a", temp.path());
    let ticket = a.serve();
    let mut b = Machine::joined("b", temp.path(), &ticket);
    let mut c = Machine::joined("c", temp.path(), &ticket);
    // Links A-B, A-C and B-C, so that any two of them can go on.
    let b_ticket = b.serve();
    c.one(["sync", &b_ticket]);
    c.serve();
    let stop = AtomicBool::new(false);
    let kills = AtomicUsize::new(0);
    let acknowledged: Vec<Vec<String>> = std::thread::scope(|scope| {
        let writers = ["a", "b", "c"].map(|name| {
            scope.spawn({
                let (stop, root) = (&stop, temp.path());
                move || write_until(stop, name, root)
            })
        });
        let mut random = 7;
        for round in 0..rounds {
            for machine in [&mut a, &mut b, &mut c] {
                std::thread::sleep(Duration::from_millis(next(&mut random) % 200));
                machine.kill();
                kills.fetch_add(1, Ordering::Relaxed);
                // Sometimes it stays away for a while, and others go on without it.
                if next(&mut random).is_multiple_of(4) {
                    std::thread::sleep(Duration::from_millis(next(&mut random) % 300));
                }
                serve_again(machine);
            }
            if round % 10 == 9 {
                println!("round {}: {:.1} s", round + 1, start.elapsed().as_secs_f64());
            }
        }
        stop.store(true, Ordering::Relaxed);
        writers.map(|writer| writer.join().unwrap()).into()
    });
    let status = agree(&[&a, &b, &c]);
    let ids: Vec<String> = acknowledged.concat();
    assert!(!ids.is_empty());
    assert_eq!(status["equivocations"], serde_json::json!([]), "a crash made a fork");
    for machine in [&a, &b, &c] {
        machine.holds(&ids);
        machine.verify_clean();
    }
    // And once more from the disk alone.
    for machine in [&mut a, &mut b, &mut c] {
        machine.kill();
    }
    for machine in [&a, &b, &c] {
        machine.verify_clean();
        assert_eq!(machine.digest(), status["digest"].as_str().unwrap());
    }
    println!(
        "{rounds} rounds, {} kills in {:.1} s: {} events acknowledged, all of them on all three \
         machines; {} events held; verify clean; digest {}",
        kills.load(Ordering::Relaxed),
        start.elapsed().as_secs_f64(),
        ids.len(),
        status["events"],
        status["digest"].as_str().unwrap(),
    );
}

/// A command that found no daemon may hold the store for a moment: then the daemon says so, and is
/// started again.
fn serve_again(machine: &mut Machine) {
    for _ in 0..100 {
        if machine.try_serve() {
            return;
        }
        std::thread::sleep(Duration::from_millis(50));
    }
    panic!("{} does not start: {}", machine.name, machine.daemon_log());
}
