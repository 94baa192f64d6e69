//! Counters that many threads write and nobody waits for.

use std::cell::Cell;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

use crossbeam_utils::CachePadded;

/// In so many parts a counter is split. More threads than parts share some.
const PARTS: usize = 8;

/// The part that this thread writes.
fn part() -> usize {
    /// Ordering: Relaxed. It only spreads threads.
    static NEXT: AtomicUsize = AtomicUsize::new(0);
    thread_local! {
        static PART: Cell<usize> = const { Cell::new(usize::MAX) };
    }
    PART.with(|part| {
        if part.get() == usize::MAX {
            part.set(NEXT.fetch_add(1, Ordering::Relaxed) % PARTS);
        }
        part.get()
    })
}

/// `N` counters, split by thread.
#[derive(Debug)]
pub(super) struct Counters<const N: usize> {
    /// Ordering: Relaxed. Counts publish nothing, and whoever reads them may see one without another.
    parts: [CachePadded<[AtomicU64; N]>; PARTS],
}

impl<const N: usize> Default for Counters<N> {
    fn default() -> Self {
        Self { parts: std::array::from_fn(|_| CachePadded::new(std::array::from_fn(|_| AtomicU64::new(0)))) }
    }
}

impl<const N: usize> Counters<N> {
    pub(super) fn increment(&self, index: usize) {
        self.add(index, 1);
    }

    fn add(&self, index: usize, count: u64) {
        self.parts[part()][index].fetch_add(count, Ordering::Relaxed);
    }

    pub(super) fn sums(&self) -> [u64; N] {
        std::array::from_fn(|index| self.parts.iter().map(|part| part[index].load(Ordering::Relaxed)).sum())
    }
}

/// The upper bounds of the buckets, in seconds: those of Prometheus' clients, with finer ones below, where calls between
/// neighbours are.
pub(super) const BOUNDS: [f64; 13] = [0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0];

/// The same, in nanoseconds.
const BOUNDS_NANOS: [u64; BOUNDS.len()] = [
    1_000_000,
    2_500_000,
    5_000_000,
    10_000_000,
    25_000_000,
    50_000_000,
    100_000_000,
    250_000_000,
    500_000_000,
    1_000_000_000,
    2_500_000_000,
    5_000_000_000,
    10_000_000_000,
];

/// A histogram of durations: a counter for each bucket, one for what is longer, and the sum.
#[derive(Debug, Default)]
pub(super) struct Durations(Counters<{ BOUNDS.len() + 2 }>);

/// What a histogram tells.
#[derive(Debug, PartialEq)]
pub(crate) struct Told {
    /// How many were at most as long as each bound.
    pub(super) cumulative: [u64; BOUNDS.len()],
    /// How many there were.
    pub(super) count: u64,
    /// How long they were together, in seconds.
    pub(super) sum: f64,
}

impl Durations {
    const LONGER: usize = BOUNDS.len();
    const NANOS: usize = BOUNDS.len() + 1;

    pub(super) fn record(&self, took: Duration) {
        let nanos = u64::try_from(took.as_nanos()).unwrap_or(u64::MAX);
        let bucket = BOUNDS_NANOS.iter().position(|bound| nanos <= *bound).unwrap_or(Self::LONGER);
        self.0.increment(bucket);
        self.0.add(Self::NANOS, nanos);
    }

    /// `None` if there was none.
    pub(super) fn told(&self) -> Option<Told> {
        let sums = self.0.sums();
        let mut count = 0;
        let cumulative = std::array::from_fn(|index| {
            count += sums[index];
            count
        });
        count += sums[Self::LONGER];
        let sum = Duration::from_nanos(sums[Self::NANOS]).as_secs_f64();
        (count > 0).then_some(Told { cumulative, count, sum })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_parts_of_all_threads_make_the_sum() {
        let counters = Counters::<2>::default();
        std::thread::scope(|scope| {
            for _ in 0..20 {
                scope.spawn(|| (0..100).for_each(|_| counters.increment(1)));
            }
        });
        assert_eq!(counters.sums(), [0, 2000]);
    }

    #[test]
    fn a_bound_belongs_to_its_bucket_and_buckets_add_up() {
        let durations = Durations::default();
        assert_eq!(durations.told(), None);
        for millis in [1, 2, 10_000, 10_001] {
            durations.record(Duration::from_millis(millis));
        }
        let told = durations.told().unwrap();
        assert_eq!((told.cumulative[0], told.cumulative[1], told.cumulative[12], told.count), (1, 2, 3, 4));
        assert!((told.sum - 20.004).abs() < 1e-9);
        for (bound, nanos) in BOUNDS.iter().zip(BOUNDS_NANOS) {
            assert_eq!(Duration::from_secs_f64(*bound), Duration::from_nanos(nanos));
        }
    }
}
