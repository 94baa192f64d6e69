//! In proportion to the weights, and smooth: heavy instances are spread out, not run in a row.
//!
//! The order of one cycle is worked out when the set changes (`smooth.rs`); a pick takes the next place in it, at the
//! cost of round robin. While the set stays as it is, any stretch as long as a cycle gives each exactly its weight.
//!
//! A change makes another cycle. With equal weights it goes on behind the last pick, as round robin does. Otherwise it
//! begins at a place that chance chooses: a set that changes every few picks would else play the same opening again
//! and again, and those who stand late in it would starve.

use super::asked::{Asked, below};
use super::cursor::Cursor;
use super::ramp::Ramp;
use super::smooth::smooth_cycle;
use crate::resilience::chance::Chance;

/// How many places a pick may pass over before it takes whom it finds.
const TRIES: usize = 64;

/// How many places of the cycle are walked for one that admits, before the rest is asked in order.
const WALK_MAX: usize = 1024;

#[derive(Debug)]
pub(super) struct Weighted {
    cursor: Cursor,
    cycle: Box<[u32]>,
    /// How many endpoints there are.
    len: usize,
    ramp: Option<Ramp>,
}

impl Weighted {
    /// `start` is the endpoint whose turn it would be in round robin, 0 if nobody had a turn yet.
    pub(super) fn new(weights: &[u32], start: usize, is_begun: bool, ramp: Option<Ramp>, chance: &Chance) -> Self {
        let cycle = smooth_cycle(weights);
        let is_round_robin = cycle.len() == weights.len();
        let start = match (is_round_robin, is_begun) {
            (true, _) => start,
            (false, false) => 0,
            (false, true) => below(chance, cycle.len()),
        };
        Self { cursor: Cursor::new(start, cycle.len()), cycle, len: weights.len(), ramp }
    }

    #[inline]
    pub(super) fn pick(&self, chance: &Chance) -> usize {
        match &self.ramp {
            Some(ramp) if ramp.is_active() => self.pick_ramped(ramp, chance),
            _ => self.cycle[self.cursor.take()] as usize,
        }
    }

    /// Passes over who is spared, place by place, so that a rising instance gets its share of its own weight.
    #[cold]
    fn pick_ramped(&self, ramp: &Ramp, chance: &Chance) -> usize {
        let now = ramp.now();
        let places = self.walk(self.cursor.take()).take(TRIES).enumerate();
        let mut last = 0;
        for (passed, index) in places {
            if !ramp.spares(index, now, chance) {
                self.cursor.skip(passed);
                return index;
            }
            last = index;
        }
        last
    }

    /// The first one in the cycle that is admitted; each is asked at most once.
    pub(super) fn pick_where(&self, chance: &Chance, mut admits: impl FnMut(usize) -> bool) -> Option<usize> {
        let ramp = self.ramp.as_ref().filter(|ramp| ramp.is_active()).map(|ramp| (ramp, ramp.now()));
        let mut asked = Asked::new();
        for (passed, index) in self.walk(self.cursor.take()).take(WALK_MAX).enumerate() {
            if asked.contains(index) || ramp.is_some_and(|(ramp, now)| ramp.spares(index, now, chance)) {
                continue;
            }
            if !asked.has_room() {
                break;
            }
            if admits(index) {
                self.cursor.skip(passed);
                return Some(index);
            }
            asked.insert(index);
        }
        let found = asked.ask_the_rest(self.len, chance, admits);
        if found.is_none() {
            // A turn that nobody took is still to be had: all the way round is where it was.
            self.cursor.skip(self.cycle.len() - 1);
        }
        found
    }

    /// One whole cycle from a place on.
    fn walk(&self, place: usize) -> impl Iterator<Item = usize> {
        let (before, from) = self.cycle.split_at(place);
        from.iter().chain(before).map(|index| *index as usize)
    }

    /// The endpoint that had the last turn, if there was any.
    pub(super) fn last(&self) -> Option<usize> {
        self.cursor.last().map(|place| self.cycle[place] as usize)
    }
}
