//! The hybrid logical clock of meshlogd: milliseconds and a counter, both whole numbers without bound.

use crate::json::{Int, Value};

/// Where an event stands in time.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Stamp {
    /// Milliseconds since 1970, as its author's clock had it.
    pub wall: Int,
    /// Tells stamps of one millisecond apart.
    pub counter: Int,
}

impl Stamp {
    /// A stamp of small numbers.
    pub const fn new(wall: i64, counter: i64) -> Self {
        Self { wall: Int::Small(wall), counter: Int::Small(counter) }
    }

    /// The stamp as JSON: a list of two.
    pub fn to_value(&self) -> Value {
        Value::List(vec![self.wall.clone().into(), self.counter.clone().into()])
    }
}

/// The clock of one author.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Clock(Stamp);

impl Default for Clock {
    fn default() -> Self {
        Self(Stamp::new(0, 0))
    }
}

impl Clock {
    /// The stamp for a new event.
    pub fn next(&mut self, now_ms: i64) -> Stamp {
        let now = Int::Small(now_ms);
        if now > self.0.wall {
            self.0 = Stamp { wall: now, counter: Int::Small(0) };
        } else {
            self.0.counter = self.0.counter.plus_one();
        }
        self.0.clone()
    }

    /// Takes note of somebody else's stamp: all that is written from now on stands after it.
    pub fn observe(&mut self, now_ms: i64, seen: &Stamp) {
        let now = Int::Small(now_ms);
        let (own, theirs) = (&self.0.wall, &seen.wall);
        let wall = own.max(theirs).max(&now).clone();
        let counter = match (wall == *own, wall == *theirs) {
            (true, true) => (&self.0.counter).max(&seen.counter).plus_one(),
            (true, false) => self.0.counter.plus_one(),
            (false, true) => seen.counter.plus_one(),
            (false, false) => Int::Small(0),
        };
        self.0 = Stamp { wall, counter };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stamps_rise_whatever_the_clocks_say() {
        let mut clock = Clock::default();
        let mut last = clock.next(100);
        assert_eq!(last, Stamp::new(100, 0));
        let far = Stamp { wall: Int::from(u64::MAX), counter: Int::Small(7) };
        for (now, seen) in
            [(100, None), (90, None), (90, Some(&far)), (200, Some(&far)), (200, None)]
        {
            if let Some(seen) = seen {
                clock.observe(now, seen);
            }
            let next = clock.next(now);
            assert!(next > last, "{next:?} after {last:?}");
            last = next;
        }
        assert_eq!(last, Stamp { wall: far.wall, counter: Int::Small(12) });
    }
}
