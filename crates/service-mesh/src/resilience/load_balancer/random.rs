//! Any, each with the same chance.
//!
//! Shares nothing between threads, and any number of balancers that know nothing of each other do not march in step,
//! as round robins that were started together do. Its shares are even only on average: of `k` picks an instance gets
//! `k / n` give or take about `√(k / n)`.

use super::asked::{Asked, CAPACITY, below};
use crate::resilience::chance::Chance;

/// How often chance is asked for one that admits before the rest is asked in order. With one of three admitting, it
/// finds that one in all but 1 of 2 · 10¹¹ picks.
const DRAWS: usize = CAPACITY;

#[derive(Debug)]
pub(super) struct Random {
    len: usize,
}

impl Random {
    pub(super) fn new(len: usize) -> Self {
        Self { len }
    }

    #[inline]
    pub(super) fn pick(&self, chance: &Chance) -> usize {
        below(chance, self.len)
    }

    /// Any of those that admit, each with the same chance; each is asked at most once.
    pub(super) fn pick_where(&self, chance: &Chance, mut admits: impl FnMut(usize) -> bool) -> Option<usize> {
        let mut asked = Asked::new();
        // Drawing again until one admits leaves the chances among those that admit equal; walking on to the next one
        // would give the share of each that refuses to its neighbour.
        for _ in 0..DRAWS {
            let index = self.pick(chance);
            if asked.contains(index) {
                continue;
            }
            if admits(index) {
                return Some(index);
            }
            asked.insert(index);
        }
        asked.ask_the_rest(self.len, chance, admits)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn those_that_admit_share_evenly_what_the_others_refuse() {
        let (random, chance) = (Random::new(5), Chance::seeded(3));
        let mut picks = [0_u32; 5];
        for _ in 0..30_000 {
            picks[random.pick_where(&chance, |index| index > 1).unwrap()] += 1;
        }
        assert_eq!(picks[..2], [0, 0]);
        assert!(picks[2..].iter().all(|count| (9_500..10_500).contains(count)), "{picks:?}");
    }
}
