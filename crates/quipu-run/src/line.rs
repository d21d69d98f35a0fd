//! Whose turn it is (PEL-6): each machine that offers itself works it out on its own, so nobody hands out work,
//! and nobody has to know who is alive. Two that do the same get the same receipt: a mistake costs time only.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use quipu_core::id::{NodeKey, RunKey};

use crate::known::ClaimSeen;

/// How long each machine waits for those before it in line to say that they work on something.
const TURN: Duration = Duration::from_secs(1);
/// How long a machine that said so is waited for: after that it may have died. Whoever takes longer says so
/// again, each time after twice as long, and is waited for as much longer as it has worked.
const PATIENCE: Duration = Duration::from_secs(10);

/// What this machine has seen of work that is wanted, by its key: a step, or a run as a whole.
#[derive(Debug, Default)]
pub(crate) struct Line(BTreeMap<RunKey, Seen>);

#[derive(Debug)]
struct Seen {
    since: Instant,
    claims: BTreeMap<NodeKey, Claimed>,
    /// When this machine may try again what it could not begin, and how often it could not.
    again: Option<(Instant, u32)>,
}

/// When the claims of a machine were seen here: clocks of other machines say nothing.
#[derive(Debug)]
struct Claimed {
    first: Instant,
    last: Instant,
    event: String,
    failed: bool,
}

/// The machines that could do something, and this one among them.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Place<'p> {
    pub(crate) able: &'p [NodeKey],
    pub(crate) own: NodeKey,
    /// Whether all that is needed is here.
    pub(crate) near: bool,
}

impl Line {
    /// Takes note of who says that it works on something.
    pub(crate) fn note(&mut self, key: &RunKey, claims: &[ClaimSeen], now: Instant) {
        let seen = self.0.entry(*key).or_insert_with(|| Seen {
            since: now,
            claims: BTreeMap::new(),
            again: None,
        });
        for claim in claims {
            let known = seen.claims.entry(claim.node).or_insert_with(|| Claimed {
                first: now,
                last: now,
                event: claim.event.clone(),
                failed: false,
            });
            if known.event != claim.event {
                (known.last, known.event) = (now, claim.event.clone());
            }
            known.failed = claim.failed.is_some();
        }
    }

    /// Whether it was not put off to a later time.
    pub(crate) fn may_try(&self, key: &RunKey, now: Instant) -> bool {
        self.0.get(key).is_some_and(|seen| seen.again.is_none_or(|(at, _)| now >= at))
    }

    /// Whether this machine may do it whatever others do: it was not put off, and has not failed here.
    pub(crate) fn is_free(&self, key: &RunKey, own: &NodeKey, now: Instant) -> bool {
        let failed = |seen: &Seen| seen.claims.get(own).is_some_and(|claim| claim.failed);
        self.may_try(key, now) && !self.0.get(key).is_some_and(failed)
    }

    /// Whether it is this machine's turn.
    pub(crate) fn is_due(&self, key: &RunKey, place: Place<'_>, now: Instant) -> bool {
        let Some(seen) = self.0.get(key) else { return false };
        if !place.able.contains(&place.own) || !self.is_free(key, &place.own, now) {
            return false;
        }
        let works = |(node, claim): (&NodeKey, &Claimed)| {
            *node != place.own && !claim.failed && now < claim.believed_until()
        };
        let mut before = place_in_line(key, place.able, &place.own);
        if !place.near {
            // Whoever has it all goes first, and nobody knows who does.
            before += u32::try_from(place.able.len()).unwrap_or(u32::MAX / 2);
        }
        !seen.claims.iter().any(works) && now >= seen.since + TURN * before
    }

    /// It could not begin here: it is tried again later, each time after twice as long.
    pub(crate) fn put_off(&mut self, key: &RunKey, now: Instant) {
        if let Some(seen) = self.0.get_mut(key) {
            let times = seen.again.map_or(0, |(_, times)| times);
            seen.again = Some((now + PATIENCE * (1 << times.min(6)), times + 1));
        }
    }

    /// Forgets all that is not wanted any more.
    pub(crate) fn keep_only(&mut self, keys: &BTreeSet<RunKey>) {
        self.0.retain(|key, _| keys.contains(key));
    }
}

impl Claimed {
    fn believed_until(&self) -> Instant {
        self.last + PATIENCE + (self.last - self.first)
    }
}

/// When a machine that has worked for so long says so again: before others stop to believe it.
pub(crate) fn says_again_after(said_after: Duration) -> Duration {
    (said_after * 2).max(PATIENCE / 2)
}

/// How many machines come before this one: by rendezvous hashing (Thaler and Ravishankar, 1998), so that all
/// agree without talking and each piece of work has another order.
fn place_in_line(key: &RunKey, able: &[NodeKey], own: &NodeKey) -> u32 {
    let weight = |node: &NodeKey| *blake3::keyed_hash(&key.0, &node.0).as_bytes();
    let before = able.iter().filter(|node| weight(node) < weight(own)).count();
    u32::try_from(before).unwrap_or(u32::MAX / 2)
}

#[cfg(test)]
mod tests {
    use super::*;

    const KEY: RunKey = RunKey([7; 32]);

    fn nodes(count: u8) -> Vec<NodeKey> {
        (0..count).map(|n| NodeKey([n; 32])).collect()
    }

    fn claim(node: NodeKey, event: &str, failed: Option<&str>) -> ClaimSeen {
        ClaimSeen { node, event: event.to_owned(), failed: failed.map(str::to_owned) }
    }

    /// When it is a machine's turn, in whole seconds from the beginning; nothing within the first ten minutes.
    fn turn(line: &Line, place: Place<'_>, begin: Instant) -> Option<u64> {
        (0..600).find(|s| line.is_due(&KEY, place, begin + Duration::from_secs(*s)))
    }

    #[test]
    fn all_agree_on_the_order_and_work_differs() {
        let workers = nodes(20);
        let mut firsts = BTreeSet::new();
        for n in 0..50 {
            let run = RunKey([n; 32]);
            let mut places: Vec<u32> =
                workers.iter().map(|node| place_in_line(&run, &workers, node)).collect();
            let first = places.iter().position(|place| *place == 0);
            firsts.insert(first.expect("somebody is first"));
            places.sort_unstable();
            assert!(places.into_iter().eq(0..20), "each place once");
        }
        assert!(firsts.len() > 10, "the first is not always the same: {firsts:?}");
    }

    #[test]
    fn whoever_has_the_inputs_goes_first() {
        let (able, begin) = (nodes(4), Instant::now());
        let mut line = Line::default();
        line.note(&KEY, &[], begin);
        for near in [true, false] {
            let turns =
                able.iter().map(|own| turn(&line, Place { able: &able, own: *own, near }, begin));
            let mut turns: Vec<u64> = turns.flatten().collect();
            turns.sort_unstable();
            assert_eq!(turns, if near { [0, 1, 2, 3] } else { [4, 5, 6, 7] });
        }
        let stranger = NodeKey([99; 32]);
        assert_eq!(turn(&line, Place { able: &able, own: stranger, near: true }, begin), None);
    }

    #[test]
    fn who_dies_is_waited_for_as_long_as_it_has_worked() {
        let (able, begin) = (nodes(2), Instant::now());
        let own = Place { able: &able, own: able[0], near: true };
        let mut line = Line::default();
        line.note(&KEY, &[claim(able[1], "1", None)], begin);
        assert_eq!(turn(&line, own, begin), Some(10));
        // Seeing the same claim again is no news; another one is.
        line.note(&KEY, &[claim(able[1], "1", None)], begin + Duration::from_secs(8));
        assert_eq!(turn(&line, own, begin), Some(10));
        line.note(&KEY, &[claim(able[1], "2", None)], begin + Duration::from_secs(9));
        assert_eq!(turn(&line, own, begin), Some(9 + 10 + 9));
        // Whoever says in time that it goes on is always believed.
        let (mut said, mut until) = (Duration::ZERO, Duration::from_secs(10));
        for _ in 0..20 {
            said = says_again_after(said);
            assert!(said < until, "{said:?} {until:?}");
            until = said + PATIENCE + said;
        }
    }

    #[test]
    fn who_failed_is_not_waited_for_and_does_not_try_again() {
        let (able, begin) = (nodes(2), Instant::now());
        let place = |own: usize| Place { able: &able, own: able[own], near: true };
        let mut line = Line::default();
        line.note(&KEY, &[claim(able[1], "1", None)], begin);
        line.note(&KEY, &[claim(able[1], "2", Some("it fell"))], begin);
        assert!(turn(&line, place(0), begin) <= Some(1));
        assert_eq!(turn(&line, place(1), begin), None);
        line.put_off(&KEY, begin);
        assert_eq!(turn(&line, place(0), begin), Some(10));
        line.put_off(&KEY, begin);
        assert_eq!(turn(&line, place(0), begin), Some(20));
        line.keep_only(&BTreeSet::new());
        assert_eq!(turn(&line, place(0), begin), None);
    }
}
