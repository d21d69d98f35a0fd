//! One radio channel: who hears that it is in use, and which transmissions collide.

use std::collections::VecDeque;

use crate::field::Field;
use crate::plan::{MS, SECOND, Us};

/// How long a transmission is under way before others notice it: two symbols of LoRa at SF9, and a turn of the radio.
const UNNOTICED: Us = 10 * MS;
/// No frame is longer on the air: what ended so long ago collides with nothing that is sent now.
const REMEMBERED: Us = 60 * SECOND;

/// Something on the air.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Transmission {
    pub(crate) from: usize,
    pub(crate) start: Us,
    pub(crate) end: Us,
}

/// What is on the air, and was lately.
#[derive(Debug, Default)]
pub(crate) struct Channel(VecDeque<Transmission>);

impl Channel {
    /// When somebody who hears these, or sends himself, finds the channel free.
    pub(crate) fn free_at(&self, now: Us, hears: &[usize]) -> Us {
        let noticed = self.0.iter().filter(|one| one.start + UNNOTICED <= now);
        let heard = noticed.filter(|one| hears.contains(&one.from));
        heard.map(|one| one.end).max().unwrap_or(0).max(now)
    }

    /// A machine sends.
    pub(crate) fn begin(&mut self, from: usize, start: Us, took: Us) -> Transmission {
        while self.0.front().is_some_and(|old| old.end + REMEMBERED < start) {
            self.0.pop_front();
        }
        let one = Transmission { from, start, end: start + took };
        self.0.push_back(one);
        one
    }

    /// Whether a transmission that has ended reached a machine that hears these. It does not if the machine sent
    /// meanwhile, or heard somebody else as well, unless what it was to hear is much nearer.
    pub(crate) fn reached(
        &self,
        one: &Transmission,
        machine: usize,
        hears: &[usize],
        field: Option<&Field>,
    ) -> bool {
        let at_once = |other: &&Transmission| {
            other.from != one.from && other.start < one.end && other.end > one.start
        };
        self.0.iter().filter(at_once).all(|other| {
            let drowned = hears.contains(&other.from)
                && !field.is_some_and(|field| field.captures(machine, one.from, other.from));
            other.from != machine && !drowned
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_sends_hears_nothing_and_two_at_once_are_not_understood() {
        let mut channel = Channel::default();
        let first = channel.begin(0, 0, SECOND);
        assert_eq!(channel.free_at(UNNOTICED, &[0]), SECOND);
        assert_eq!(channel.free_at(UNNOTICED - 1, &[0]), UNNOTICED - 1);
        assert_eq!(channel.free_at(UNNOTICED, &[2]), UNNOTICED);
        assert!(channel.reached(&first, 1, &[0, 2], None));
        // Hidden from each other: the one between them hears both.
        let second = channel.begin(2, SECOND / 2, SECOND);
        assert!(!channel.reached(&first, 1, &[0, 2], None));
        assert!(!channel.reached(&second, 1, &[0, 2], None));
        assert!(channel.reached(&first, 3, &[0], None));
        assert!(!channel.reached(&first, 2, &[1], None));
        let third = channel.begin(0, 2 * SECOND, SECOND);
        assert!(channel.reached(&third, 1, &[0, 2], None));
    }
}
