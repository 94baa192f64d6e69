//! The outcomes of the last T, counted in buckets: the oldest bucket leaves as a whole.
//!
//! Each thread counts in a shard of its own, behind a mutex that nobody else wants, so that two cores do not fight for
//! one cache line; all that a call touches of it lies on that line, but for the first one in each bucket. The shards are
//! summed only where a rule may be reached: on a failure, on a slow call, and on a success that may be the one that reaches
//! `minimum_calls`. Cost: one look at the time, coarse where buckets are wide, and one uncontended lock a call.

use std::cell::Cell;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicUsize, Ordering as StdOrdering};
use std::thread::available_parallelism;
use std::time::Duration;

use crossbeam_utils::CachePadded;
use service_mesh_models::{TimeWindow, TripReason};

use super::{Rule, Sample, Tally};
use crate::environment::Moment;
use crate::resilience::clock::saturating_nanos;
use crate::resilience::sync::{AtomicU64, Mutex, Ordering};

/// From this width on, in nanoseconds, a bucket is found by the coarse time, which is wrong by less than a tenth of it.
const WIDE: u64 = 100_000_000;

/// A time window in as many shards as the machine has cores, 8 at most.
#[derive(Debug)]
pub(super) struct TimeShards {
    /// The width of a bucket in nanoseconds; 0 if the configuration asks for no time window.
    ///
    /// Ordering: Relaxed; the shape itself is read under a lock.
    width: AtomicU64,
    /// The last bucket, plus one, in which any shard counted a failure or a slow call; 0 for none. As long as that lies
    /// a whole window back, a success has nothing to judge.
    ///
    /// Ordering: Relaxed. A thread sees its own failures and those that happened before its call; one that races with
    /// another's failure comes before it.
    trouble: AtomicU64,
    shards: OnceLock<Box<[Place]>>,
}

/// Where a thread finds its shard, if the configuration asks for one; on a cache line of its own.
type Place = CachePadded<Mutex<Option<Shard>>>;

/// Invariant: `present` is younger than all of `past`, or empty.
#[derive(Clone, Debug)]
#[repr(C)] // What every call touches comes first, on the line of the lock.
struct Shard {
    generation: u64,
    /// When the present bucket began.
    began: u64,
    /// The width of a bucket in nanoseconds.
    width: u64,
    present: Bucket,
    rule: Rule,
    /// A past bucket that began at `number × width` stands at `number % len`, if it held anything.
    past: Box<[Bucket]>,
}

#[derive(Clone, Copy, Debug, Default)]
struct Bucket {
    number: u64,
    tally: Tally,
}

impl TimeShards {
    pub(super) fn new() -> Self {
        Self { width: AtomicU64::new(0), trouble: AtomicU64::new(0), shards: OnceLock::new() }
    }

    #[inline]
    pub(super) fn is_on(&self) -> bool {
        self.width.load(Ordering::Relaxed) > 0
    }

    pub(super) fn reconfigure(&self, config: Option<&TimeWindow>) {
        if config.is_none() && self.shards.get().is_none() {
            return;
        }
        let shape = config.map(Shard::new);
        let shards =
            self.shards.get_or_init(|| (0..shard_count()).map(|_| CachePadded::new(Mutex::new(None))).collect());
        for shard in shards {
            let mut shard = shard.lock();
            *shard = match (shard.take(), &shape) {
                // The rule may change under the same outcomes; another shape starts afresh.
                (Some(old), Some(new)) if old.width == new.width && old.past.len() == new.past.len() => {
                    Some(Shard { rule: new.rule, ..old })
                }
                (_, new) => new.clone(),
            };
        }
        self.width.store(shape.map_or(0, |shape| shape.width), Ordering::Relaxed);
    }

    pub(super) fn record(&self, generation: u64, sample: Sample, moment: &mut Moment<'_>) -> Option<TripReason> {
        let shards = self.shards.get()?;
        let is_wide = self.width.load(Ordering::Relaxed) >= WIDE;
        let now = if is_wide { moment.coarse() } else { moment.now() };
        let (rule, number, slow) = {
            // A power of two, so that no division is needed.
            let mut shard = shards[thread_number() & (shards.len() - 1)].lock();
            let shard = shard.as_mut()?;
            let slow = shard.rule.is_slow(sample);
            let number = shard.count(generation, now.as_nanos(), sample.failure, slow)?;
            if sample.failure || slow {
                // Looked at first: it is the same for the width of a bucket, and all threads read it.
                if self.trouble.load(Ordering::Relaxed) <= number {
                    self.trouble.fetch_max(number + 1, Ordering::Relaxed);
                }
            } else if self.trouble.load(Ordering::Relaxed) + shard.past.len() as u64 <= number + 1
                || shard.present.tally.calls > shard.rule.minimum_calls()
            {
                return None;
            }
            (shard.rule, number, slow)
        };
        rule.judge(Self::sum(shards, generation, number), sample.failure, slow)
    }

    fn sum(shards: &[Place], generation: u64, number: u64) -> Tally {
        let mut sum = Tally::default();
        for shard in shards {
            if let Some(shard) = shard.lock().as_ref().filter(|shard| shard.generation == generation) {
                shard.add_to(&mut sum, number);
            }
        }
        sum
    }
}

impl Shard {
    fn new(config: &TimeWindow) -> Self {
        Self {
            generation: 0,
            began: 0,
            width: bucket_width(config.duration(), config.buckets()),
            present: Bucket::default(),
            rule: Rule::of_time(config),
            past: vec![Bucket::default(); config.buckets() as usize].into(),
        }
    }

    /// Counts an outcome, unless it belongs to an older generation, and tells in which bucket.
    ///
    /// A thread that read the clock before another one began the present bucket counts there: it comes after that one.
    fn count(&mut self, generation: u64, now: u64, failure: bool, slow: bool) -> Option<u64> {
        if generation < self.generation {
            return None;
        }
        if generation > self.generation {
            self.generation = generation;
            self.past.fill(Bucket::default());
            self.present.tally = Tally::default();
        }
        if now.saturating_sub(self.began) >= self.width {
            self.begin(now / self.width);
        }
        let Bucket { number, tally } = &mut self.present;
        tally.calls += 1;
        tally.failures += u64::from(failure);
        tally.slow += u64::from(slow);
        Some(*number)
    }

    /// The bucket of this number is the present one from now on.
    #[cold]
    fn begin(&mut self, number: u64) {
        let at = usize::try_from(self.present.number % self.past.len() as u64).unwrap_or(0);
        self.past[at] = self.present;
        self.present = Bucket { number, tally: Tally::default() };
        self.began = number * self.width;
    }

    /// Adds the buckets of the window that ends with bucket `number`.
    fn add_to(&self, sum: &mut Tally, number: u64) {
        let oldest = (number + 1).saturating_sub(self.past.len() as u64);
        let buckets = self.past.iter().chain([&self.present]);
        for bucket in buckets.filter(|bucket| (oldest..=number).contains(&bucket.number)) {
            sum.calls += bucket.tally.calls;
            sum.failures += bucket.tally.failures;
            sum.slow += bucket.tally.slow;
        }
    }
}

fn bucket_width(duration: Duration, buckets: u32) -> u64 {
    saturating_nanos(duration / buckets).max(1)
}

/// As many shards as cores, a power of two, 8 at most.
fn shard_count() -> usize {
    static COUNT: OnceLock<usize> = OnceLock::new();
    *COUNT.get_or_init(|| available_parallelism().map_or(1, |cores| cores.get().next_power_of_two().min(8)))
}

/// A number for the calling thread, so that neighbours get different ones.
fn thread_number() -> usize {
    static NEXT: AtomicUsize = AtomicUsize::new(0);
    thread_local! {
        static NUMBER: Cell<usize> = Cell::new(NEXT.fetch_add(1, StdOrdering::Relaxed));
    }
    NUMBER.with(Cell::get)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::environment::Environment;
    use crate::testing::ManualClock;
    use proptest::prelude::*;

    fn window(buckets: u32) -> TimeWindow {
        TimeWindow::builder()
            .duration(Duration::from_nanos(u64::from(buckets) * 10))
            .buckets(buckets)
            .minimum_calls(1)
            .failure_ratio(1.0)
            .build()
            .unwrap()
    }

    proptest! {
        #[test]
        fn the_buckets_equal_a_recount_of_the_window(
            buckets in 10_u32..40,
            outcomes in prop::collection::vec((0_u64..120, any::<bool>(), any::<bool>()), 0..200),
        ) {
            let mut shard = Shard::new(&window(buckets));
            let mut now = 0;
            let mut log = Vec::new();
            for (step, failure, slow) in outcomes {
                now += step;
                let number = now / 10;
                prop_assert_eq!(shard.count(1, now, failure, slow), Some(number));
                log.push((number, failure, slow));
                let inside = |at: u64| at + u64::from(buckets) > number;
                let expected = Tally {
                    calls: log.iter().filter(|(at, ..)| inside(*at)).count() as u64,
                    failures: log.iter().filter(|(at, failure, _)| inside(*at) && *failure).count() as u64,
                    slow: log.iter().filter(|(at, _, slow)| inside(*at) && *slow).count() as u64,
                };
                let mut sum = Tally::default();
                shard.add_to(&mut sum, number);
                prop_assert_eq!(sum, expected);
            }
        }
    }

    #[test]
    fn outcomes_of_all_threads_are_summed() {
        let shards = TimeShards::new();
        shards.reconfigure(Some(&window(10)));
        let ok = Sample { failure: false, elapsed: None };
        let environment = Environment::manual(&ManualClock::new());
        std::thread::scope(|scope| {
            for _ in 0..8 {
                scope.spawn(|| {
                    let mut moment = Moment::new(&environment);
                    (0..1000).for_each(|_| assert_eq!(shards.record(1, ok, &mut moment), None));
                });
            }
        });
        let sum = TimeShards::sum(shards.shards.get().unwrap(), 1, 0);
        assert_eq!(sum, Tally { calls: 8000, failures: 0, slow: 0 });
    }
}
