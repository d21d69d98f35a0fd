//! Links that lose, double and delay frames, links that break, machines that crash.

use quipu_core::domain::Role;

use crate::common::{LinkMode, World};

fn apart(members: usize, each: u64) -> World {
    let mut w = World::new();
    w.add_members(members, Role::Writer);
    for _ in 0..3 {
        for n in 0..=members {
            w.now += 7;
            w.emit(n, each / 3);
        }
    }
    w
}

#[test]
fn lossy_links_converge_after_a_while() {
    for (loss, duplication, reordering) in [(10, 0, 0), (0, 30, 0), (0, 0, 30), (10, 10, 10)] {
        let mut w = apart(2, 90);
        w.reconnect = true;
        w.dice.0 = loss * 1000 + duplication * 10 + reordering;
        let mode = LinkMode { latency: 3, loss, duplication, reordering };
        w.open(1, 0, true, None, None, mode);
        w.open(2, 1, true, None, None, mode);
        for _ in 0..20 {
            w.run_for(2_000);
            let n = w.dice.below(3);
            w.emit(n, 3);
        }
        let mut waited = 0;
        while !w.agree(&[0, 1, 2]) && waited < 600 {
            w.run_for(1_000);
            waited += 1;
        }
        println!(
            "loss {loss}, double {duplication}, late {reordering}: {waited} s, {} links",
            w.last_link()
        );
        w.assert_agree(&[0, 1, 2]);
        assert_eq!(w.machines[0].event_count(), 3 + 3 * 90 + 60);
    }
}

#[test]
fn a_link_may_break_at_any_frame() {
    for frames in 0..40 {
        let mut w = apart(1, 300);
        w.open_short(1, 0, frames);
        w.settle();
        let links = w.links_up();
        w.break_all();
        let reply = w.sync(0, 1);
        assert!(reply.is_ok(), "{reply:?}");
        w.assert_agree(&[0, 1]);
        assert_eq!(w.machines[0].event_count(), 2 + 600);
        if links == 1 {
            println!("the whole sync takes fewer than {frames} frames");
            break;
        }
    }
}

#[test]
fn a_crash_loses_nothing_that_was_acknowledged() {
    for seed in 0..12 {
        let mut w = World::new();
        w.add_members(2, Role::Writer);
        w.dice.0 = seed;
        w.reconnect = true;
        let mode = LinkMode { latency: 2, ..LinkMode::default() };
        w.open(1, 0, true, None, None, mode);
        w.open(2, 1, true, None, None, mode);
        for _ in 0..60 {
            let n = w.dice.below(3);
            let count = 1 + w.dice.below(150) as u64;
            w.emit(n, count);
            let wait = w.dice.below(20) as u64;
            w.run_for(wait);
            if w.dice.chance(25) {
                let n = w.dice.below(3);
                w.crash(n);
            }
            if w.dice.chance(25) {
                w.run_for(1_500);
            }
        }
        w.run_for(120_000);
        w.assert_agree(&[0, 1, 2]);
        for n in 0..3 {
            for id in &w.machines[n].acknowledged {
                assert!(w.machines[0].history.get(id).is_some());
            }
        }
    }
}
