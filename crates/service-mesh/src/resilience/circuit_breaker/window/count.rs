//! The last N outcomes, two bits each. It slides: the oldest outcome leaves when a new one comes.
//!
//! A lock-free ring was measured and is slower under contention than this one behind a mutex, since it takes three
//! atomic writes to two cache lines; what counts is the shortcut before it (`Windows::is_settled`).

use service_mesh_models::{CountWindow, TripReason};

use super::{Rule, Sample, Tally};

/// The last N outcomes of one generation.
#[derive(Debug)]
pub(super) struct CountRing {
    generation: u64,
    rule: Rule,
    size: usize,
    /// Where the next outcome goes; the oldest stands there once the ring is full.
    next: usize,
    tally: Tally,
    failures: BitSet,
    slow: BitSet,
}

impl CountRing {
    pub(super) fn new(config: &CountWindow) -> Self {
        let size = config.size() as usize;
        Self {
            generation: 0,
            rule: Rule::of_count(config),
            size,
            next: 0,
            tally: Tally::default(),
            failures: BitSet::new(size),
            slow: BitSet::new(size),
        }
    }

    pub(super) fn generation(&self) -> u64 {
        self.generation
    }

    /// Whether it is full of quick successes, so that one more changes nothing.
    pub(super) fn is_settled(&self) -> bool {
        self.is_full() && self.tally.failures == 0 && self.tally.slow == 0
    }

    fn is_full(&self) -> bool {
        self.tally.calls == self.size as u64
    }

    pub(super) fn record(&mut self, generation: u64, sample: Sample) -> Option<TripReason> {
        if generation < self.generation {
            return None;
        }
        if generation > self.generation {
            self.generation = generation;
            self.clear();
        }
        let slow = self.rule.is_slow(sample);
        self.push(sample.failure, slow);
        self.rule.judge(self.tally, sample.failure, slow)
    }

    fn clear(&mut self) {
        self.tally = Tally::default();
        self.next = 0;
    }

    fn push(&mut self, failure: bool, slow: bool) {
        if self.is_full() {
            self.tally.failures -= u64::from(self.failures.get(self.next));
            self.tally.slow -= u64::from(self.slow.get(self.next));
        } else {
            self.tally.calls += 1;
        }
        self.failures.set(self.next, failure);
        self.slow.set(self.next, slow);
        self.tally.failures += u64::from(failure);
        self.tally.slow += u64::from(slow);
        self.next = if self.next + 1 == self.size { 0 } else { self.next + 1 };
    }

    /// The newest of these outcomes in a ring of another size, under another rule. What was slow by the old rule stays
    /// slow: how long a call took is not kept.
    pub(super) fn reshaped(&self, config: &CountWindow) -> Self {
        let mut ring = Self { generation: self.generation, ..Self::new(config) };
        let held = usize::try_from(self.tally.calls).unwrap_or(self.size);
        let oldest = if self.is_full() { self.next } else { 0 };
        for age in held.saturating_sub(ring.size)..held {
            let at = (oldest + age) % self.size;
            ring.push(self.failures.get(at), self.slow.get(at));
        }
        ring
    }
}

/// Bits in words.
#[derive(Debug)]
struct BitSet(Box<[u64]>);

impl BitSet {
    fn new(bits: usize) -> Self {
        Self(vec![0; bits.div_ceil(64)].into())
    }

    fn get(&self, at: usize) -> bool {
        self.0[at / 64] >> (at % 64) & 1 == 1
    }

    fn set(&mut self, at: usize, bit: bool) {
        let (word, mask) = (&mut self.0[at / 64], 1 << (at % 64));
        *word = if bit { *word | mask } else { *word & !mask };
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::VecDeque;
    use std::time::Duration;

    fn window(size: u32) -> CountWindow {
        CountWindow::builder()
            .size(size)
            .minimum_calls(1)
            .failure_ratio(1.0)
            .slow_call_ratio(1.0)
            .slow_call(Duration::from_secs(1))
            .build()
            .unwrap()
    }

    fn sample(failure: bool, slow: bool) -> Sample {
        Sample { failure, elapsed: Some(Duration::from_secs(if slow { 2 } else { 1 })) }
    }

    fn recount(outcomes: &VecDeque<(bool, bool)>) -> Tally {
        Tally {
            calls: outcomes.len() as u64,
            failures: outcomes.iter().filter(|(failure, _)| *failure).count() as u64,
            slow: outcomes.iter().filter(|(_, slow)| *slow).count() as u64,
        }
    }

    proptest! {
        #[test]
        fn the_ring_equals_a_recount_of_the_last_outcomes(
            sizes in prop::collection::vec(1_u32..150, 1..4),
            outcomes in prop::collection::vec(any::<(bool, bool)>(), 0..400),
        ) {
            let mut ring = CountRing::new(&window(sizes[0]));
            let mut reference = VecDeque::new();
            let mut size = sizes[0] as usize;
            let chunk = outcomes.len() / sizes.len() + 1;
            for (at, (failure, slow)) in outcomes.into_iter().enumerate() {
                if at > 0 && at % chunk == 0 {
                    size = sizes[at / chunk] as usize;
                    ring = ring.reshaped(&window(sizes[at / chunk]));
                    while reference.len() > size { reference.pop_front(); }
                    prop_assert_eq!(ring.tally, recount(&reference));
                }
                ring.record(0, sample(failure, slow));
                reference.push_back((failure, slow));
                if reference.len() > size { reference.pop_front(); }
                prop_assert_eq!(ring.tally, recount(&reference));
            }
        }
    }

    #[test]
    fn a_newer_generation_empties_it_and_an_older_one_is_turned_away() {
        let mut ring = CountRing::new(&window(3));
        ring.record(4, sample(false, false));
        ring.record(7, sample(true, false));
        assert_eq!(ring.tally, Tally { calls: 1, failures: 1, slow: 0 });
        assert_eq!(ring.record(4, sample(true, true)), None);
        assert_eq!(ring.tally, Tally { calls: 1, failures: 1, slow: 0 });
    }
}
