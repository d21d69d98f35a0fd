//! Clocks and randomness that follow from a key.

/// How far a clock moves each time that it is read: so that a loop which waits for time to pass ends.
const TICK_NS: u64 = 1_000;
/// The earliest time that the wall clock begins with: 2001-09-09, in seconds since 1970.
const WALL_SECONDS_MIN: u64 = 1_000_000_000;
/// How many seconds after that it begins at most: some 17 years.
const WALL_SECONDS_SPAN: u64 = 1 << 29;

/// The clock that tells the time of day.
pub(crate) const CLOCK_WALL: u32 = 0;
/// The number of clocks: wall, monotonic, and two of processor time.
pub(crate) const CLOCKS: u32 = 4;

/// Time as a step sees it.
pub(crate) struct Clocks {
    wall_start: u64,
    elapsed: u64,
}

impl Clocks {
    pub(crate) fn new(key: &[u8; 32]) -> Self {
        let seed = blake3::derive_key("quipu step clock v1", key);
        let seed = u64::from_le_bytes(std::array::from_fn(|at| seed[at]));
        let seconds = WALL_SECONDS_MIN + seed % WALL_SECONDS_SPAN;
        Self { wall_start: seconds * 1_000_000_000, elapsed: 0 }
    }

    /// How fine all clocks are.
    pub(crate) const fn resolution() -> u64 {
        TICK_NS
    }

    /// Reads a clock of those that there are.
    pub(crate) fn read(&mut self, clock: u32) -> u64 {
        self.elapsed = self.elapsed.saturating_add(TICK_NS);
        self.now(clock)
    }

    fn now(&self, clock: u32) -> u64 {
        if clock == CLOCK_WALL {
            self.wall_start.saturating_add(self.elapsed)
        } else {
            self.elapsed
        }
    }

    /// Lets time pass at once, up to when a clock shows this.
    pub(crate) fn sleep_until(&mut self, clock: u32, time: u64) {
        let ahead = time.saturating_sub(self.now(clock));
        self.elapsed = self.elapsed.saturating_add(ahead);
    }

    /// Lets time pass at once.
    pub(crate) fn sleep(&mut self, nanoseconds: u64) {
        self.elapsed = self.elapsed.saturating_add(nanoseconds);
    }
}

/// Randomness as a step sees it.
pub(crate) struct Random(blake3::OutputReader);

impl Random {
    pub(crate) fn new(key: &[u8; 32]) -> Self {
        let mut hasher = blake3::Hasher::new_derive_key("quipu step randomness v1");
        hasher.update(key);
        Self(hasher.finalize_xof())
    }

    pub(crate) fn fill(&mut self, into: &mut [u8]) {
        self.0.fill(into);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn they_follow_from_the_key() {
        let draw = |key| {
            let (mut random, mut clocks) = (Random::new(&key), Clocks::new(&key));
            let mut bytes = [0; 8];
            random.fill(&mut bytes);
            (bytes, clocks.read(CLOCK_WALL))
        };
        assert_eq!(draw([1; 32]), draw([1; 32]));
        assert_ne!(draw([1; 32]).0, draw([2; 32]).0);
        assert_ne!(draw([1; 32]).1, draw([2; 32]).1);
    }

    #[test]
    fn time_passes_by_reading_and_sleeping_and_never_runs_over() {
        let mut clocks = Clocks::new(&[0; 32]);
        let (first, second) = (clocks.read(1), clocks.read(1));
        assert!(second > first);
        clocks.sleep_until(1, 5_000_000);
        assert_eq!(clocks.read(1), 5_000_000 + TICK_NS);
        clocks.sleep_until(1, 3);
        clocks.sleep(u64::MAX);
        assert_eq!((clocks.read(1), clocks.read(CLOCK_WALL)), (u64::MAX, u64::MAX));
    }
}
