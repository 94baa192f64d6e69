//! How often a failed call is tried again, and when.
//!
//! A retry helps where the failure is short and chance decides who is hit: a lost packet, a restarting instance. It
//! harms where the failure is load, since it adds to it; hence the wait that grows, the chance in it
//! ([`jitter`]), and the [budget](RetryBudget) for the sum over all callers. Do not use it for calls that may not run
//! twice, nor at more than one layer of a stack: three layers with three retries each make 64 attempts.
//!
//! What to do after an attempt is decided in two steps, so that a service proxy can look between them whether anybody
//! would admit the next attempt: [`RetryPolicy::plan`] says whether the call would be tried again and after what wait,
//! and [`RetryPolicy::charge`] takes the retry from the budget. Neither waits, and neither reads a clock but for the
//! budget's.

mod backoff;
mod budget;
mod given_up;
mod jitter;
mod retrying;

use std::time::Duration;

use service_mesh_models::{Jitter, RetryConfig};

use super::clock::saturating_nanos;
use super::outcome::Answer;
use crate::environment::Environment;

pub use budget::RetryBudget;
pub use given_up::{GivenUp, RetryCause};
pub use retrying::Retrying;

/// Tries a failed call again, after a wait that grows.
///
/// [`execute`](Self::execute) and [`execute_async`](Self::execute_async) run a call under it. A policy is immutable and
/// holds nothing of a call, so that one serves any number of calls at a time; clones share its budget, if it has one.
///
/// ```
/// use service_mesh::{Environment, RetryPolicy, testing::ManualClock};
/// let clock = ManualClock::new();
/// let policy = RetryPolicy::builder().environment(Environment::manual(&clock)).build();
/// let mut calls = 0;
/// let error = policy
///     .execute(|| {
///         calls += 1;
///         Err::<(), _>(format!("failure {calls}"))
///     })
///     .unwrap_err();
/// assert_eq!(error.attempts(), 4);
/// assert_eq!(error.into_last().as_deref(), Some("failure 4"));
/// assert_eq!(clock.sleeps().len(), 3);
/// ```
///
/// # When not to use it
/// Not for calls that may not run twice; not at more than one layer of a stack, where three layers with three retries
/// each make 64 attempts; and not against overload, to which it adds, without a [budget](RetryBudget).
#[derive(Clone, Debug, Default)]
pub struct RetryPolicy {
    config: RetryConfig,
    budget: Option<RetryBudget>,
    pub(crate) environment: Environment,
}

impl RetryPolicy {
    /// A policy in the system's environment, without a budget.
    pub fn new(config: RetryConfig) -> Self {
        Self::builder().config(config).build()
    }

    /// Starts from [`RetryConfig::default`], the system's environment, and no budget.
    pub fn builder() -> RetryPolicyBuilder {
        RetryPolicyBuilder { policy: Self::default() }
    }

    /// Its configuration.
    pub fn config(&self) -> &RetryConfig {
        &self.config
    }

    /// The budget that its retries are charged to, if it was given one.
    pub fn budget(&self) -> Option<&RetryBudget> {
        self.budget.as_ref()
    }

    /// The wait before retry `attempt`, counted from 0: `initial_delay · exponential_base^attempt`, at most `max_delay`,
    /// then jitter, and again at most `max_delay`. Every call draws anew; nothing is remembered.
    ///
    /// With [`Jitter::Decorrelated`], where each wait is drawn from the one before, it draws the chain of waits up to
    /// this one, or the last 512 of them. That is enough for the first wait to be forgotten.
    ///
    /// ```
    /// use std::time::Duration;
    /// use service_mesh::{Jitter, RetryConfig, RetryPolicy};
    /// let policy = RetryPolicy::new(RetryConfig::builder().jitter(Jitter::None).build()?);
    /// assert_eq!(policy.get_delay(2), Duration::from_millis(400));
    /// assert_eq!(policy.get_delay(u32::MAX), Duration::from_secs(10));
    /// # Ok::<(), service_mesh::ConfigError>(())
    /// ```
    pub fn get_delay(&self, attempt: u32) -> Duration {
        // A chain grows by a factor of 3/e on average while the cap is far, so that 512 steps span every cap there is.
        let earlier = if self.config.jitter() == Jitter::Decorrelated { attempt.min(511) } else { 0 };
        let previous = (0..earlier).fold(0, |previous, attempt| self.delay(attempt, previous));
        Duration::from_nanos(self.delay(attempt, previous))
    }

    /// The wait before retry `attempt` in nanoseconds; `previous` is the wait before the last retry, 0 if none.
    fn delay(&self, attempt: u32, previous: u64) -> u64 {
        let config = &self.config;
        let (initial, max) = (saturating_nanos(config.initial_delay()), saturating_nanos(config.max_delay()));
        let chance = self.environment.chance();
        let delay = if config.jitter() == Jitter::Decorrelated {
            jitter::decorrelated(initial, previous, &chance)
        } else {
            let backoff = backoff::exponential(initial, config.exponential_base(), attempt).min(max);
            jitter::around(config.jitter(), backoff, &chance)
        };
        delay.min(max)
    }

    /// Counts a call that begins. Without a budget it costs one compare.
    #[inline]
    pub(crate) fn begin(&self) {
        if let Some(budget) = &self.budget {
            budget.deposit();
        }
    }

    /// Whether a call with these `retries` behind it would be tried again after `answer`, and after what wait.
    ///
    /// `Retry-After` is a lower bound that neither jitter nor `max_delay` may pass under; where nobody should wait as
    /// long (`retry_after_max`, or all of `time_left`), the call gives up at once instead of at the end. Where there is
    /// jitter, some is added to it, which makes nobody give up who would not have without. A call without a deadline
    /// has no `time_left`, and need not read a clock for it.
    pub(crate) fn plan(
        &self,
        retries: Retries,
        answer: &Answer,
        time_left: Option<Duration>,
    ) -> Result<Retry, GivenUp> {
        if !answer.is_retryable() {
            return Err(GivenUp::NotRetryable);
        }
        if retries.done >= self.config.max_retries() {
            return Err(GivenUp::RetriesSpent);
        }
        let earliest = answer.earliest_retry().unwrap_or_default();
        if earliest > self.config.retry_after_max() {
            return Err(GivenUp::RetryAfterTooLong);
        }
        let delay = self.delay(retries.done, retries.previous);
        let mut wait = Duration::from_nanos(delay).max(earliest);
        if wait == earliest {
            wait += self.spread(earliest, time_left);
        }
        if time_left.is_some_and(|left| wait >= left) {
            return Err(GivenUp::PastDeadline);
        }
        Ok(Retry { wait, then: Retries { done: retries.done + 1, previous: delay } })
    }

    /// What is added to a wait that the answer has asked for.
    fn spread(&self, asked: Duration, time_left: Option<Duration>) -> Duration {
        if asked.is_zero() || self.config.jitter() == Jitter::None {
            return Duration::ZERO;
        }
        // The next attempt begins before the deadline, not at it.
        let before_deadline = time_left.map_or(Duration::MAX, |left| left.saturating_sub(Duration::from_nanos(1)));
        let room = self.config.retry_after_max().min(before_deadline).saturating_sub(asked);
        let (asked, room) = (saturating_nanos(asked), saturating_nanos(room));
        Duration::from_nanos(jitter::beyond(asked, room, &self.environment.chance()))
    }

    /// Takes one retry from the budget, if there is one; it is not given back, whatever becomes of the retry.
    pub(crate) fn charge(&self) -> Result<(), GivenUp> {
        match &self.budget {
            Some(budget) if !budget.withdraw() => Err(GivenUp::BudgetSpent),
            _ => Ok(()),
        }
    }

    /// Both steps at once, for a call that has nobody to ask between them and no deadline. A final answer is seen to be
    /// one without a call.
    #[inline]
    pub(crate) fn schedule(&self, retries: Retries, answer: &Answer) -> Result<Retry, GivenUp> {
        if !answer.is_retryable() {
            return Err(GivenUp::NotRetryable);
        }
        self.plan_and_charge(retries, answer)
    }

    #[cold]
    fn plan_and_charge(&self, retries: Retries, answer: &Answer) -> Result<Retry, GivenUp> {
        let retry = self.plan(retries, answer, None)?;
        self.charge()?;
        Ok(retry)
    }
}

/// Builds a [`RetryPolicy`]; nothing in it can fail.
#[derive(Clone, Debug)]
#[must_use = "a builder does nothing until `build` is called"]
pub struct RetryPolicyBuilder {
    policy: RetryPolicy,
}

impl RetryPolicyBuilder {
    /// How often and how long. Default: [`RetryConfig::default`].
    pub fn config(mut self, config: RetryConfig) -> Self {
        self.policy.config = config;
        self
    }

    /// Charges the retries to this budget, which other policies may share. Default: none, every call may use all its
    /// retries.
    pub fn budget(mut self, budget: RetryBudget) -> Self {
        self.policy.budget = Some(budget);
        self
    }

    /// Chance, and ways to wait. Default: [`Environment::system`]. A budget keeps the clock that it was made with.
    pub fn environment(mut self, environment: Environment) -> Self {
        self.policy.environment = environment;
        self
    }

    /// The policy.
    pub fn build(self) -> RetryPolicy {
        self.policy
    }
}

/// What a call has used of its policy so far.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Retries {
    done: u32,
    /// The last wait that was drawn, in nanoseconds; what `Retry-After` added is not part of it, or one long
    /// `Retry-After` would stretch all decorrelated waits after it.
    previous: u64,
}

impl Retries {
    /// Attempts so far, the one under way included.
    #[inline]
    pub(crate) fn attempts(self) -> u32 {
        self.done.saturating_add(1)
    }
}

/// A retry that the policy would make.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Retry {
    /// How long to wait first; zero is no wait at all, and needs no timer.
    pub(crate) wait: Duration,
    /// What the call will then have used.
    pub(crate) then: Retries,
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::resilience::chance::Chance;
    use proptest::prelude::*;
    use service_mesh_models::{RetryBudgetConfig, RetryConfigBuilder};

    const SECOND: Duration = Duration::from_secs(1);

    fn policy(change: impl FnOnce(RetryConfigBuilder) -> RetryConfigBuilder) -> RetryPolicy {
        RetryPolicy::new(change(RetryConfig::builder()).build().unwrap())
    }

    fn seeded(config: RetryConfig, seed: u64) -> RetryPolicy {
        let environment = Environment::system().with_chance(Chance::seeded(seed));
        RetryPolicy::builder().config(config).environment(environment).build()
    }

    #[test]
    fn a_seed_repeats_its_waits() {
        for jitter in Jitter::ALL {
            let config = RetryConfig::builder().jitter(jitter).build().unwrap();
            let waits = |seed| -> Vec<_> {
                let policy = seeded(config.clone(), seed);
                (0..8).map(|attempt| policy.get_delay(attempt)).collect()
            };
            assert_eq!(waits(7), waits(7));
            assert_eq!(waits(7) == waits(8), jitter == Jitter::None);
        }
    }

    #[test]
    fn retries_are_counted_and_then_spent() {
        let policy = policy(|config| config.max_retries(2).jitter(Jitter::None));
        let mut retries = Retries::default();
        for (attempts, wait) in [(1, SECOND / 10), (2, SECOND / 5)] {
            assert_eq!(retries.attempts(), attempts);
            let retry = policy.plan(retries, &Answer::failure(), None).unwrap();
            assert_eq!(retry.wait, wait);
            retries = retry.then;
        }
        assert_eq!(policy.plan(retries, &Answer::failure(), None), Err(GivenUp::RetriesSpent));
    }

    #[test]
    fn a_final_answer_is_not_tried_again() {
        let policy = RetryPolicy::default();
        for answer in [Answer::success(), Answer::neutral(), Answer::failure().retryable(false)] {
            assert_eq!(policy.plan(Retries::default(), &answer, None), Err(GivenUp::NotRetryable));
        }
        let retryable = Answer::neutral().retryable(true);
        assert!(policy.plan(Retries::default(), &retryable, None).is_ok());
    }

    #[test]
    fn retry_after_may_pass_max_delay_but_not_its_own_limit() {
        let policy = policy(|config| config.max_delay(SECOND).retry_after_max(5 * SECOND));
        let plan = |wait| policy.plan(Retries::default(), &Answer::failure().retry_after(wait), None);
        assert_eq!(plan(5 * SECOND).unwrap().wait, 5 * SECOND);
        assert_eq!(plan(5 * SECOND + Duration::from_nanos(1)), Err(GivenUp::RetryAfterTooLong));
    }

    #[test]
    fn callers_who_were_told_to_come_back_at_once_come_back_one_after_the_other() {
        let policy = seeded(RetryConfig::builder().retry_after_max(21 * SECOND).build().unwrap(), 4);
        let waits = |asked, left| -> Vec<Duration> {
            let plan = |_| policy.plan(Retries::default(), &Answer::failure().retry_after(asked), left);
            (0..200).map(|draw| plan(draw).unwrap().wait).collect()
        };
        let spread = waits(10 * SECOND, None);
        assert!(spread.iter().all(|wait| (10 * SECOND..=11 * SECOND).contains(wait)));
        assert!(spread.iter().max() > Some(&(SECOND * 109 / 10)) && spread.iter().min() < Some(&(SECOND * 101 / 10)));
        // Neither the longest wait that is allowed nor the deadline is passed for it, nor does anybody give up.
        assert_eq!(waits(20 * SECOND, None).iter().max().map(|longest| *longest <= 21 * SECOND), Some(true));
        assert!(waits(21 * SECOND, None).iter().all(|wait| *wait == 21 * SECOND));
        let just_before = 10 * SECOND + Duration::from_nanos(1);
        assert!(waits(10 * SECOND, Some(just_before)).iter().all(|wait| *wait == 10 * SECOND));
    }

    #[test]
    fn a_call_gives_up_at_once_where_the_deadline_would_pass_first() {
        let policy = policy(|config| config.jitter(Jitter::None));
        let plan = |left| policy.plan(Retries::default(), &Answer::failure(), Some(left));
        assert_eq!(plan(SECOND / 10), Err(GivenUp::PastDeadline));
        assert_eq!(plan(SECOND / 10 + Duration::from_nanos(1)).unwrap().wait, SECOND / 10);
        let at_once = self::policy(|config| config.initial_delay(Duration::ZERO));
        let late = at_once.plan(Retries::default(), &Answer::failure(), Some(Duration::ZERO));
        assert_eq!(late, Err(GivenUp::PastDeadline));
        let asked = Answer::failure().retry_after(2 * SECOND);
        assert_eq!(policy.plan(Retries::default(), &asked, Some(SECOND)), Err(GivenUp::PastDeadline));
    }

    #[test]
    fn a_plan_costs_the_budget_nothing_until_it_is_charged() {
        let config = RetryBudgetConfig::builder().ratio(0.0).floor_per_second(0.1).build().unwrap();
        let policy = RetryPolicy::builder().budget(RetryBudget::new(config)).build();
        for _ in 0..9 {
            assert!(policy.plan(Retries::default(), &Answer::failure(), None).is_ok());
        }
        assert_eq!(policy.charge(), Ok(()));
        assert_eq!(policy.charge(), Err(GivenUp::BudgetSpent));
        assert_eq!(policy.schedule(Retries::default(), &Answer::failure()), Err(GivenUp::BudgetSpent));
        assert_eq!(policy.schedule(Retries::default(), &Answer::success()), Err(GivenUp::NotRetryable));
    }

    #[test]
    fn decorrelated_waits_grow_from_the_wait_before_and_forget_retry_after() {
        let config = RetryConfig::builder().jitter(Jitter::Decorrelated).max_retries(1000).build().unwrap();
        let policy = seeded(config.clone(), 1);
        let (mut retries, mut previous) = (Retries::default(), config.initial_delay());
        for attempt in 0..1000 {
            // Every other answer asks for a long wait, which must leave the chain of draws alone.
            let asked = if attempt % 2 == 0 { 60 * SECOND } else { Duration::ZERO };
            let retry = policy.plan(retries, &Answer::failure().retry_after(asked), None).unwrap();
            let drawn = Duration::from_nanos(retry.then.previous);
            assert!(drawn >= config.initial_delay() && drawn <= (3 * previous).min(config.max_delay()));
            assert!(retry.wait >= drawn.max(asked) && retry.wait <= drawn.max(asked.mul_f64(1.1)));
            (retries, previous) = (retry.then, drawn);
        }
    }

    #[test]
    fn a_late_decorrelated_wait_has_forgotten_the_first() {
        let longest = |initial: Duration, attempt| {
            let config = RetryConfig::builder().jitter(Jitter::Decorrelated).initial_delay(initial).build().unwrap();
            let policy = seeded(config, 5);
            (0..100).map(|_| policy.get_delay(attempt)).max().unwrap()
        };
        assert!(longest(Duration::from_nanos(1), 3) < SECOND);
        assert!(longest(Duration::from_nanos(1), u32::MAX) > 5 * SECOND);
    }

    fn durations() -> impl Strategy<Value = Duration> {
        prop_oneof![
            Just(Duration::ZERO),
            Just(Duration::MAX),
            (0..5_000_000_000_u64).prop_map(Duration::from_nanos),
            any::<u64>().prop_map(Duration::from_nanos),
        ]
    }

    fn attempts() -> impl Strategy<Value = u32> {
        prop_oneof![0..70_u32, any::<u32>(), Just(u32::MAX)]
    }

    prop_compose! {
        fn configs()(
            initial in durations(),
            max in durations(),
            base in prop_oneof![Just(1.0), 1.0..4.0_f64, Just(f64::MAX)],
            jitter in proptest::sample::select(&Jitter::ALL[..]),
        ) -> RetryConfig {
            let config = RetryConfig::builder().initial_delay(initial).max_delay(max).exponential_base(base);
            config.max_retries(u32::MAX).jitter(jitter).build().unwrap()
        }
    }

    proptest! {
        #[test]
        fn a_wait_keeps_within_the_bounds_of_its_jitter(config in configs(), attempt in attempts(), seed: u64) {
            let wait = seeded(config.clone(), seed).get_delay(attempt);
            let plain = RetryPolicy::new(config.to_builder().jitter(Jitter::None).build().unwrap()).get_delay(attempt);
            prop_assert!(wait <= config.max_delay());
            prop_assert!(plain <= config.max_delay());
            match config.jitter() {
                Jitter::None => prop_assert_eq!(wait, plain),
                Jitter::Proportional => prop_assert!(wait * 2 >= plain && wait <= plain + plain / 2),
                Jitter::Full => prop_assert!(wait <= plain),
                Jitter::Equal => prop_assert!(wait * 2 >= plain && wait <= plain),
                Jitter::Decorrelated => prop_assert!(wait >= plain.min(config.initial_delay())),
                other => prop_assert!(false, "no bounds are known for {other}"),
            }
            if config.initial_delay().is_zero() {
                prop_assert_eq!(wait, Duration::ZERO);
            }
        }

        #[test]
        fn without_jitter_the_formula_is_exact(
            initial in 0..1_000_000_000_u64,
            base in 1..10_u32,
            attempt in 0..100_u32,
        ) {
            let config = RetryConfig::builder().jitter(Jitter::None).exponential_base(f64::from(base));
            let policy = RetryPolicy::new(config.initial_delay(Duration::from_nanos(initial)).build().unwrap());
            let power = u128::from(base).checked_pow(attempt).unwrap_or(u128::MAX);
            let formula = u128::from(initial).saturating_mul(power).min(10_000_000_000);
            prop_assert_eq!(policy.get_delay(attempt).as_nanos(), formula);
        }

        #[test]
        fn a_retry_is_never_early(
            config in configs(),
            asked in durations(),
            done in 0..u32::MAX,
            previous: u64,
            left in durations(),
        ) {
            let retries = Retries { done, previous: previous.min(saturating_nanos(config.max_delay())) };
            let policy = RetryPolicy::new(config.clone());
            match policy.plan(retries, &Answer::failure().retry_after(asked), Some(left)) {
                Ok(retry) => {
                    prop_assert!(retry.wait >= asked && retry.wait < left);
                    let latest = asked.saturating_add(asked / 10).min(config.retry_after_max());
                    prop_assert!(retry.wait <= config.max_delay().max(latest));
                    if config.jitter() == Jitter::None {
                        prop_assert!(retry.wait <= config.max_delay().max(asked));
                    }
                    prop_assert!(asked <= config.retry_after_max());
                }
                Err(GivenUp::RetryAfterTooLong) => prop_assert!(asked > config.retry_after_max()),
                Err(why) => prop_assert_eq!(why, GivenUp::PastDeadline),
            }
        }
    }
}
