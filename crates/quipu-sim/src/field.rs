//! Machines in a field: who reaches whom, and whose signal drowns whose.

use crate::rng::Rng;

/// The field's length and breadth.
const SIDE: u64 = 10_000;
/// A signal is received although another one is there if it is 6 dB stronger (Bor and others 2016). Where
/// power falls with the third power of the distance, the other one is 1.58 times as far away, and the square
/// of that is 2.51 times as large.
const CAPTURE: (u64, u64) = (251, 100);

/// Where machines are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Field {
    places: Vec<(u64, u64)>,
    /// Square of the distance over which they hear each other.
    reach: u64,
}

fn square(a: (u64, u64), b: (u64, u64)) -> u64 {
    a.0.abs_diff(b.0).pow(2) + a.1.abs_diff(b.1).pow(2)
}

impl Field {
    /// Draws places. The reach is the shortest with which each machine has about so many others in reach, and each
    /// half hangs together.
    pub(crate) fn draw(machines: usize, degree: usize, seed: u64) -> Self {
        let mut rng = Rng::new(seed, "field");
        let places: Vec<(u64, u64)> =
            (0..machines).map(|_| (rng.below(SIDE), rng.below(SIDE))).collect();
        let mut field = Self { places, reach: 0 };
        let mut squares: Vec<u64> = field.all_pairs().map(|(a, b)| field.square(a, b)).collect();
        squares.sort_unstable();
        for reach in squares.into_iter().skip((machines * degree / 2).saturating_sub(1)) {
            field.reach = reach;
            if field.halves_hang_together() {
                break;
            }
        }
        field
    }

    fn all_pairs(&self) -> impl Iterator<Item = (usize, usize)> + use<> {
        let count = self.places.len();
        (0..count).flat_map(move |a| (a + 1..count).map(move |b| (a, b)))
    }

    fn square(&self, a: usize, b: usize) -> u64 {
        square(self.places[a], self.places[b])
    }

    /// Those in reach of each other.
    pub(crate) fn pairs(&self) -> Vec<(usize, usize)> {
        self.all_pairs().filter(|(a, b)| self.square(*a, *b) <= self.reach).collect()
    }

    /// The half of each machine, from one side to the other.
    pub(crate) fn halves(&self) -> Vec<usize> {
        let mut order: Vec<usize> = (0..self.places.len()).collect();
        order.sort_unstable_by_key(|machine| (self.places[*machine], *machine));
        let mut halves = vec![0; order.len()];
        order.iter().skip(order.len() / 2).for_each(|machine| halves[*machine] = 1);
        halves
    }

    fn halves_hang_together(&self) -> bool {
        let halves = self.halves();
        let mut group: Vec<usize> = (0..halves.len()).collect();
        let mut groups = halves.len();
        for (a, b) in self.pairs() {
            let (from, to) = (group[a], group[b]);
            if halves[a] == halves[b] && from != to {
                group.iter_mut().filter(|g| **g == from).for_each(|g| *g = to);
                groups -= 1;
            }
        }
        groups <= 2 && self.pairs().iter().any(|(a, b)| halves[*a] != halves[*b])
    }

    /// Whether a machine hears one although another one sends at the same time.
    pub(crate) fn captures(&self, machine: usize, from: usize, other: usize) -> bool {
        let (wanted, unwanted) = (self.square(machine, from), self.square(machine, other));
        unwanted * CAPTURE.1 >= wanted * CAPTURE.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_field_hangs_together_and_so_does_each_half() {
        for seed in 0..20 {
            let field = Field::draw(50, 6, seed);
            assert!(field.halves_hang_together());
            assert_eq!(field.halves().iter().sum::<usize>(), 25);
            let links = field.pairs().len();
            assert!((150..400).contains(&links), "{links}");
        }
    }

    #[test]
    fn the_nearer_one_is_heard() {
        let places = vec![(0, 0), (100, 0), (0, 158), (0, 159)];
        let field = Field { places, reach: SIDE };
        assert!(field.captures(0, 1, 3));
        assert!(!field.captures(0, 1, 2));
        assert!(!field.captures(0, 3, 1));
    }
}
