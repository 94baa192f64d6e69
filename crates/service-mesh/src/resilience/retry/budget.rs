//! How many retries a stream of calls may cause: when everything fails, retries must not multiply the load.
//!
//! The idea is Finagle's `RetryBudget` (finagle.github.io/blog/2016/02/08/retry-budgets): a call pays in a fraction of a
//! retry, a retry takes out a whole one, and a floor lets a quiet client retry at all. What is promised here is a law,
//! for any 10 seconds whatsoever:
//!
//! > retries ≤ `ratio` × calls + `floor_per_second` × 10
//!
//! A plain bucket of deposits does not keep it: an hour of calls fills it, and a bad second spends the hour. Deposits
//! that expire, as Finagle's and those of tower's `TpsBudget` do, do not keep it either: a retry that is paid for by a
//! call of nine seconds ago stands in a window in which that call does not. `TpsBudget` moreover cuts the calls per
//! retry to a whole number, so that a ratio of 0.3 grants a third; and it looks at the balance before it takes from it,
//! so that two callers can both see the last retry.
//!
//! # How it is kept
//! Let the *potential* be retries granted minus `ratio` × calls counted, over all time. How much it rises from before
//! one retry to after another is what the calls between them did not pay for, and the law holds if no such rise within
//! 10 seconds is above the floor's share. So a retry is granted only if the potential after it is at most the floor's
//! share above the lowest that it had before any retry of the last 10 seconds, this one included.
//!
//! # Why that is enough
//! Take any window of 10 seconds `[s, s + 10)` with a retry in it, and let a be its first retry and b its last. When b
//! was granted, a was less than 10 seconds old, so that the rise from before a to after b, or a larger one, was
//! compared and was at most the floor's share. The retries of the window are those from a to b, and the calls counted
//! between a and b are calls of the window; it may have more calls, which only allow more. All comparisons happen under
//! one lock, in the order of time, so no two retries are granted on the same evidence. The moment of a call is that at
//! which its deposit is seen, which is true to the nanoseconds between reading the clock and the counter.
//!
//! # The price
//! The law is strict: a window that begins after the calls and before their retries has the floor alone. So the floor
//! is also how far retries may lag behind the calls that earned them, and a floor below 0.1 per second, less than one
//! retry in 10 seconds, allows none at all.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use service_mesh_models::RetryBudgetConfig;

use crate::environment::Environment;
use crate::resilience::clock::Timestamp;
use crate::resilience::sync::{AtomicU64, Mutex, Ordering};

/// How many retries a stream of calls may cause: in any 10 seconds at most `ratio × calls + floor_per_second × 10`,
/// whatever the concurrency. Clones are the same budget.
///
/// Give one to every [`RetryPolicy`](crate::RetryPolicy) that calls the same service. A floor below 0.1 allows no
/// retry, whatever the ratio: the law also holds for a window that begins just after the calls.
///
/// ```
/// use service_mesh::{Environment, RetryBudget, RetryBudgetConfig, RetryPolicy, testing::ManualClock};
/// let environment = Environment::manual(&ManualClock::new());
/// let config = RetryBudgetConfig::builder().ratio(0.1).floor_per_second(0.5).build()?;
/// let budget = RetryBudget::with_environment(config, environment.clone());
/// let policy = RetryPolicy::builder().budget(budget.clone()).environment(environment).build();
///
/// // The floor allows five retries in ten seconds: three for the first call, two for the second.
/// assert_eq!(policy.execute(|| Err::<(), _>("down")).unwrap_err().attempts(), 4);
/// assert_eq!(policy.execute(|| Err::<(), _>("down")).unwrap_err().attempts(), 3);
/// assert_eq!(budget.balance(), 0);
/// # Ok::<(), service_mesh::ConfigError>(())
/// ```
#[derive(Clone, Debug)]
pub struct RetryBudget {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    calls: Calls,
    environment: Environment,
    ledger: Mutex<Ledger>,
}

/// Calls since the budget was made, on a cache line that nothing else shares: every call writes it. 128 bytes, since
/// processors fetch lines in pairs.
///
/// Ordering: Relaxed, it orders nothing but itself. A thread sees its own deposit, and readers hold the ledger's lock,
/// so that what one of them has seen the next sees too.
#[derive(Debug, Default)]
#[repr(align(128))]
struct Calls(AtomicU64);

impl RetryBudget {
    /// A budget by the system's clock.
    pub fn new(config: RetryBudgetConfig) -> Self {
        Self::with_environment(config, Environment::system())
    }

    /// A budget by the clock of this environment.
    pub fn with_environment(config: RetryBudgetConfig, environment: Environment) -> Self {
        let ledger = Mutex::new(Ledger::new(config));
        Self { shared: Arc::new(Shared { calls: Calls::default(), environment, ledger }) }
    }

    /// A call begins: it earns `ratio` of a retry. One atomic add; no clock, no lock.
    #[inline]
    pub fn deposit(&self) {
        self.shared.calls.0.fetch_add(1, Ordering::Relaxed);
    }

    /// Takes a retry out, if there is one; it cannot be given back. A lock, one look at the clock, and now and then an
    /// allocation, until it remembers 10 seconds (101 entries, 5 KiB).
    #[must_use = "where it is false there must be no retry"]
    pub fn withdraw(&self) -> bool {
        self.with_ledger(Ledger::withdraw)
    }

    /// How many retries could be taken out now. Costs what [`withdraw`](Self::withdraw) costs.
    pub fn balance(&self) -> u64 {
        self.with_ledger(|ledger| ledger.balance())
    }

    /// The configuration in force.
    pub fn config(&self) -> RetryBudgetConfig {
        self.shared.ledger.lock().config.clone()
    }

    /// Goes on under another configuration. Past calls keep what they earned, past retries stay charged, and a smaller
    /// floor counts against them at once.
    pub fn update_config(&self, config: RetryBudgetConfig) {
        self.with_ledger(|ledger| ledger.configure(config));
    }

    fn with_ledger<R>(&self, then: impl FnOnce(&mut Ledger) -> R) -> R {
        let shared = &*self.shared;
        let mut ledger = shared.ledger.lock();
        // Under the lock, or whoever read first might be granted last and its retry be forgotten too early. A clock
        // that panics here has changed nothing yet.
        let now = shared.environment.now();
        ledger.advance(now, shared.calls.0.load(Ordering::Relaxed));
        then(&mut ledger)
    }
}

impl Default for RetryBudget {
    /// [`RetryBudgetConfig::default`] by the system's clock: a fifth of the calls, and 10 per second.
    fn default() -> Self {
        Self::new(RetryBudgetConfig::default())
    }
}

/// The law speaks of any window of this length.
const WINDOW: Duration = Duration::from_secs(10);

/// Lows this close are remembered as one, which bounds the memory.
const SLOT_NANOS: u64 = 100_000_000;

/// 10 seconds, wherever they begin, touch at most so many slots.
const SLOTS_MAX: usize = 101;

/// One retry, in the ledger's unit, of which a ratio has a whole number for each millionth.
const RETRY: i128 = 1_000_000;

/// What the law depends on. All amounts are in millionths of a retry; 128 bits hold every sum of 64-bit counts.
///
/// Invariant: `lows` ascend in time and strictly in potential, one to a slot, so that the first is the lowest. None is
/// above the potential before the last retry.
#[derive(Debug)]
struct Ledger {
    config: RetryBudgetConfig,
    /// What a call earns.
    ratio: i128,
    /// What the floor allows in a window.
    floor: i128,
    /// Retries granted minus what calls have earned.
    potential: i128,
    /// The calls that are in the potential already.
    calls: u64,
    now: Timestamp,
    /// What the potential was before the retries of the last window, as far as no later retry found it lower.
    lows: VecDeque<Low>,
}

#[derive(Clone, Copy, Debug)]
struct Low {
    at: Timestamp,
    potential: i128,
}

impl Ledger {
    fn new(config: RetryBudgetConfig) -> Self {
        let mut ledger = Self {
            config: RetryBudgetConfig::default(),
            ratio: 0,
            floor: 0,
            potential: 0,
            calls: 0,
            now: Timestamp::ORIGIN,
            lows: VecDeque::new(),
        };
        ledger.configure(config);
        ledger
    }

    fn configure(&mut self, config: RetryBudgetConfig) {
        self.ratio = whole_steps(config.ratio(), 1e6);
        // A step of a hundred-thousandth per second is ten of them in a window, and a hundred millionths.
        self.floor = whole_steps(config.floor_per_second(), 1e5) * 100;
        self.config = config;
    }

    /// Counts the calls that are new, and forgets the retries that no window has together with `now`.
    fn advance(&mut self, now: Timestamp, calls: u64) {
        self.now = self.now.max(now);
        self.potential -= self.ratio * i128::from(calls.saturating_sub(self.calls));
        self.calls = calls;
        while self.lows.front().is_some_and(|low| self.now.since(low.at) >= WINDOW) {
            self.lows.pop_front();
        }
    }

    /// What may still be granted now; negative after the floor was lowered.
    fn room(&self) -> i128 {
        let lowest = self.lows.front().map_or(self.potential, |low| low.potential.min(self.potential));
        self.floor - (self.potential - lowest)
    }

    fn balance(&self) -> u64 {
        u64::try_from(self.room() / RETRY).unwrap_or(0)
    }

    fn withdraw(&mut self) -> bool {
        if self.room() < RETRY {
            return false;
        }
        self.remember();
        self.potential += RETRY;
        debug_assert!(self.room() >= 0, "a retry was granted against the law");
        true
    }

    /// Remembers the potential as it is before a retry. What is neither lower nor younger can never be the lowest, so
    /// it is dropped: the sliding minimum of a monotonic queue, constant on average.
    fn remember(&mut self) {
        let here = Low { at: self.now, potential: self.potential };
        while self.lows.back().is_some_and(|low| low.potential >= here.potential) {
            self.lows.pop_back();
        }
        match self.lows.back_mut() {
            // The lower of the two for as long as the younger of the two: that errs towards fewer retries.
            Some(low) if low.at.as_nanos() / SLOT_NANOS == here.at.as_nanos() / SLOT_NANOS => low.at = here.at,
            _ => self.lows.push_back(here),
        }
        debug_assert!(self.lows.len() <= SLOTS_MAX, "more lows than slots in a window");
    }
}

/// How many whole steps of `1 / steps` a number has, with the decimal taken at its word: 0.3 has three tenths, although
/// no double is 0.3. Never more than the number itself.
#[expect(clippy::cast_possible_truncation, reason = "configurations are validated: at most 10^11 steps")]
fn whole_steps(number: f64, steps: f64) -> i128 {
    let nearest = (number * steps).round();
    let whole = if nearest / steps <= number { nearest } else { nearest - 1.0 };
    i128::from(whole as i64)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::ManualClock;
    use proptest::prelude::*;

    const WINDOW_NANOS: u64 = 10_000_000_000;

    fn config(ratio: f64, floor_per_second: f64) -> RetryBudgetConfig {
        RetryBudgetConfig::builder().ratio(ratio).floor_per_second(floor_per_second).build().unwrap()
    }

    fn budget(clock: &ManualClock, ratio: f64, floor_per_second: f64) -> RetryBudget {
        RetryBudget::with_environment(config(ratio, floor_per_second), Environment::manual(clock))
    }

    /// How many retries are granted before one is refused.
    fn drain(budget: &RetryBudget) -> u64 {
        let balance = budget.balance();
        let granted = std::iter::repeat_with(|| budget.withdraw()).take_while(|granted| *granted).count() as u64;
        assert_eq!(granted, balance, "the balance is what can be taken");
        granted
    }

    #[test]
    fn a_decimal_is_taken_at_its_word_and_never_rounded_up() {
        for millionths in 0..1_000_000_u32 {
            let ratio = f64::from(millionths) / 1e6;
            assert_eq!(whole_steps(ratio, 1e6), i128::from(millionths));
        }
        assert_eq!(
            [0.3, 0.7, 0.29, 10.0].map(|ratio| whole_steps(ratio, 1e6)),
            [300_000, 700_000, 290_000, 10_000_000]
        );
        assert_eq!([1e-7, 9.9e-7, 1.999_999_9e-6].map(|ratio| whole_steps(ratio, 1e6)), [0, 0, 1]);
        assert_eq!(whole_steps(0.3_f64.next_down(), 1e6), 299_999);
        assert_eq!(whole_steps(1e6, 1e5), 100_000_000_000);
    }

    #[test]
    fn an_hour_of_calls_is_not_saved_up_for_a_bad_second() {
        let clock = ManualClock::new();
        let budget = budget(&clock, 0.2, 1.0);
        (0..100_000).for_each(|_| budget.deposit());
        assert_eq!(drain(&budget), 10);
        (0..100_000).for_each(|_| budget.deposit());
        assert_eq!(drain(&budget), 10);
        clock.advance(Duration::from_secs(3600));
        assert_eq!(drain(&budget), 10);
    }

    #[test]
    fn the_floor_is_back_when_the_window_has_passed_and_not_before() {
        let clock = ManualClock::new();
        let budget = budget(&clock, 0.0, 1.0);
        assert_eq!(drain(&budget), 10);
        clock.advance(Duration::from_nanos(WINDOW_NANOS - 1));
        assert_eq!(drain(&budget), 0);
        clock.advance(Duration::from_nanos(1));
        assert_eq!(drain(&budget), 10);
    }

    #[test]
    fn calls_after_a_retry_earn_the_next() {
        let clock = ManualClock::new();
        let budget = budget(&clock, 0.3, 0.1);
        assert!(budget.withdraw());
        for expected in [false, false, false, false, true] {
            assert_eq!(budget.withdraw(), expected);
            budget.deposit();
        }
        assert_eq!(drain(&budget), 0, "five calls earn 1.5 retries, of which one is taken");
    }

    #[test]
    fn a_floor_of_less_than_a_retry_allows_none() {
        let clock = ManualClock::new();
        let budget = budget(&clock, 10.0, 0.099);
        (0..1000).for_each(|_| budget.deposit());
        assert_eq!(drain(&budget), 0);
    }

    #[test]
    fn another_configuration_keeps_what_was_earned_and_charged() {
        let clock = ManualClock::new();
        let budget = budget(&clock, 1.0, 1.0);
        assert_eq!(drain(&budget), 10);
        (0..4).for_each(|_| budget.deposit());
        budget.update_config(config(0.0, 1.0));
        (0..100).for_each(|_| budget.deposit());
        assert_eq!(drain(&budget), 4);
        budget.update_config(config(0.0, 0.5));
        assert_eq!((drain(&budget), budget.config()), (0, config(0.0, 0.5)));
        clock.advance(WINDOW);
        assert_eq!(drain(&budget), 5);
    }

    #[test]
    fn threads_share_exactly_what_there_is() {
        let clock = ManualClock::new();
        let budget = budget(&clock, 0.2, 10.0);
        (0..1000).for_each(|_| budget.deposit());
        let hammer = || (0..1000).filter(|_| budget.withdraw()).count();
        let granted = std::thread::scope(|scope| {
            let threads: Vec<_> = (0..8).map(|_| scope.spawn(hammer)).collect();
            threads.into_iter().map(|thread| thread.join().unwrap()).sum::<usize>()
        });
        assert_eq!(granted, 100);
    }

    #[test]
    fn threads_that_call_and_retry_at_once_stay_within_the_law() {
        let clock = ManualClock::new();
        let budget = budget(&clock, 0.3, 2.0);
        let hammer = || {
            (0..1000)
                .filter(|_| {
                    budget.deposit();
                    budget.withdraw()
                })
                .count()
        };
        let granted = std::thread::scope(|scope| {
            let threads: Vec<_> = (0..8).map(|_| scope.spawn(hammer)).collect();
            threads.into_iter().map(|thread| thread.join().unwrap()).sum::<usize>()
        });
        // The potential rises by no more than 20 retries, and at the end no whole retry is left.
        assert!((2400..=2420).contains(&granted), "{granted}");
        assert_eq!(budget.balance(), 0);
    }

    #[test]
    fn a_clock_that_goes_back_earns_nothing() {
        let mut ledger = Ledger::new(config(0.0, 0.1));
        ledger.advance(Timestamp::from_nanos(5_000_000_000), 0);
        assert!(ledger.withdraw());
        for nanos in [0, 4_000_000_000, 14_999_999_999, 3] {
            ledger.advance(Timestamp::from_nanos(nanos), 0);
            assert!(!ledger.withdraw());
        }
        ledger.advance(Timestamp::from_nanos(15_000_000_000), 0);
        assert!(ledger.withdraw());
    }

    #[test]
    fn a_busy_window_is_remembered_in_101_entries() {
        let mut ledger = Ledger::new(config(0.2, 1e6));
        for step in 0..20_000_u64 {
            // Four retries a call raise the potential all the time, which is the most there is to remember.
            ledger.advance(Timestamp::from_nanos(step * 7_000_000), step);
            (0..4).for_each(|_| assert!(ledger.withdraw()));
        }
        assert!(ledger.lows.len() <= SLOTS_MAX && ledger.lows.len() >= SLOTS_MAX - 1, "{}", ledger.lows.len());
    }

    /// What happens on a timeline: a pause, then calls, then callers who ask for a retry.
    fn timelines() -> impl Strategy<Value = Vec<(u64, u64, u32)>> {
        let pause = prop_oneof![
            4 => 0..50_000_000_u64,
            4 => 0..2_000_000_000_u64,
            1 => 9_900_000_000..10_100_000_000_u64,
            1 => Just(10_000_000_000_u64),
            1 => 10_000_000_000..100_000_000_000_u64,
        ];
        let calls = prop_oneof![4 => 0..4_u64, 1 => 0..60_u64];
        let asked = prop_oneof![4 => 0..4_u32, 1 => 0..60_u32];
        proptest::collection::vec((pause, calls, asked), 1..80)
    }

    /// (when, calls or retries) in order, as a budget under `config` let them happen.
    fn play(config: RetryBudgetConfig, timeline: &[(u64, u64, u32)]) -> Vec<(u64, u64, u64)> {
        let mut ledger = Ledger::new(config);
        let (mut now, mut calls) = (0, 0);
        let mut events = Vec::new();
        for &(pause, new_calls, asked) in timeline {
            now += pause;
            calls += new_calls;
            ledger.advance(Timestamp::from_nanos(now), calls);
            let granted = (0..asked).filter(|_| ledger.withdraw()).count() as u64;
            events.push((now, new_calls, granted));
        }
        events
    }

    /// The window that has the most retries above the law, by brute force over all that differ.
    fn worst_excess(events: &[(u64, u64, u64)], ratio_millionths: u64, floor_millionths: u64) -> i128 {
        let window = WINDOW_NANOS;
        // A window changes where its beginning or its end passes an event.
        let edges = events
            .iter()
            .flat_map(|(at, ..)| [*at, at + 1, at.saturating_sub(window), (at + 1).saturating_sub(window)]);
        let excess = edges.map(|start| {
            let within = events.iter().filter(|(at, ..)| (start..start + window).contains(at));
            let (calls, retries) = within.fold((0, 0), |(calls, retries), event| (calls + event.1, retries + event.2));
            i128::from(retries) * RETRY - i128::from(calls * ratio_millionths + floor_millionths)
        });
        excess.max().unwrap_or(i128::MIN)
    }

    /// The rule of the module's text, word for word, with every retry remembered for ever.
    fn by_the_book(ratio_millionths: u32, floor_millionths: i128, timeline: &[(u64, u64, u32)]) -> Vec<u64> {
        let (mut now, mut potential) = (0, 0);
        let mut retries: Vec<(u64, i128)> = Vec::new();
        let mut step = |&(pause, calls, asked): &(u64, u64, u32)| {
            now += pause;
            potential -= i128::from(calls) * i128::from(ratio_millionths);
            let mut granted = 0;
            for _ in 0..asked {
                let recent = retries.iter().filter(|(at, _)| now - at < WINDOW_NANOS).map(|(_, before)| *before);
                if potential + RETRY <= recent.min().unwrap_or(potential).min(potential) + floor_millionths {
                    retries.push((now, potential));
                    potential += RETRY;
                    granted += 1;
                }
            }
            granted
        };
        timeline.iter().map(&mut step).collect()
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(500))]
        #[test]
        fn no_window_of_ten_seconds_has_more_retries_than_the_law_allows(
            timeline in timelines(),
            ratio in prop_oneof![Just(0), Just(200_000), Just(300_000), Just(700_000), 0..10_000_000_u32],
            floor in prop_oneof![Just(10_000), Just(100_000), Just(1_000_000), 0..1_500_000_u32],
        ) {
            let config = config(f64::from(ratio) / 1e6, f64::from(floor) / 1e5);
            let events = play(config, &timeline);
            prop_assert!(worst_excess(&events, u64::from(ratio), u64::from(floor) * 100) <= 0, "{events:?}");
        }

        #[test]
        fn the_queue_of_lows_forgets_nothing_that_matters(
            timeline in timelines(),
            ratio in 0..1_000_000_u32,
            floor in 10_000..200_000_u32,
        ) {
            // In whole slots, lows that are merged are of the same moment, so that nothing is rounded.
            let aligned = timeline.iter().map(|step| (step.0 / SLOT_NANOS * SLOT_NANOS, step.1, step.2));
            let timeline: Vec<_> = aligned.collect();
            let config = config(f64::from(ratio) / 1e6, f64::from(floor) / 1e5);
            let granted: Vec<_> = play(config, &timeline).into_iter().map(|(.., granted)| granted).collect();
            prop_assert_eq!(granted, by_the_book(ratio, i128::from(floor) * 100, &timeline));
        }
    }
}
