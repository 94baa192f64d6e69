//! Of two that chance names, the one whose recent peak latency, times its connections relative to its weight, is less.
//!
//! Finagle's `p2cPeakEwma` (Twitter; also linkerd's and tower's): [two choices](super::p2c), where a call costs
//! what [calls have lately taken](super::latency) there. The average jumps up to a slow answer and comes down with time,
//! so that one stalled answer is enough to go elsewhere, and one who is left alone is tried again: nothing else would
//! tell that he has recovered.
//!
//! - **One that never answered** is tried at once, by one call at a time: until its first answer nobody knows what it
//!   costs, and a set would run over whoever comes new.
//! - **A failure weighs as a slow answer**, a second at least and four times what was expected there, up to a minute.
//!   Otherwise the instance that refuses each call within a millisecond would be the most attractive of all.
//! - **An attempt that nobody waits for any more** tells that an answer takes at least as long as it was waited for.
//! - **Equals share.** An idle instance keeps the calls that its weight draws unless it is twice as slow as another:
//!   Finagle's rule gives all of them to whoever was the fastest by a hair.

use super::endpoint::{Endpoint, Live};
use super::ramp::Ramp;
use super::two_choices::TwoChoices;
use crate::environment::Moment;
use crate::resilience::chance::Chance;
use crate::resilience::clock::Timestamp;

/// What a call costs, in nanoseconds, where one is on its way already and none has ever been answered: eleven days. A
/// number that can still be multiplied, so that those of whom nothing is known are compared by their connections.
const UNKNOWN: f64 = 1e15;

/// What it costs where nobody has ever called.
const UNTRIED: f64 = 1.0;

#[derive(Debug)]
pub(super) struct PeakEwma(TwoChoices);

impl PeakEwma {
    pub(super) fn new(endpoints: &[Endpoint], weights: &[u32], ramp: Option<Ramp>) -> Self {
        Self(TwoChoices::new(endpoints, weights, ramp))
    }

    /// Reads the clock, unless the time is known: the moment is then that in which the attempt begins.
    #[inline]
    pub(super) fn pick(&self, chance: &Chance, moment: &mut Moment<'_>) -> usize {
        let now = moment.now();
        self.0.pick(chance, moment, |live| cost(live, now))
    }

    /// Reads the clock too.
    pub(super) fn pick_where(
        &self,
        chance: &Chance,
        moment: &mut Moment<'_>,
        admits: impl FnMut(usize) -> bool,
    ) -> Option<usize> {
        let now = moment.now();
        self.0.pick_where(chance, moment, |live| cost(live, now), admits)
    }
}

#[inline]
fn cost(live: &Live, now: Timestamp) -> f64 {
    match live.latency().nanos(now) {
        Some(nanos) => nanos,
        None if live.leased() == 0 => UNTRIED,
        None => UNKNOWN,
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicU32, Ordering};
    use std::time::Duration;

    use crate::testing::ManualClock;
    use crate::{
        CallOptions, Clock, Environment, Lease, LoadBalancer, LoadBalancerStrategy, Outcome, RetryConfig,
        ServiceInstance, ServiceProxy, Timestamp,
    };

    const FAST: Duration = Duration::from_millis(10);
    const SLOW: Duration = Duration::from_secs(1);

    fn balancer(clock: &ManualClock, ids: &[&str]) -> LoadBalancer {
        let builder = LoadBalancer::builder().strategy(LoadBalancerStrategy::PeakEwma);
        let balancer = builder.environment(Environment::manual(clock)).build();
        balancer.set_instances(ids.iter().map(|id| ServiceInstance::new(*id, "host", 80)));
        balancer
    }

    /// One call after the other for so long, each of which takes as long as it says; how many went to `a`.
    fn calls(balancer: &LoadBalancer, clock: &ManualClock, time: Duration, of_a: (Duration, Outcome)) -> (u32, u32) {
        let end = clock.now().after(time);
        let (mut to_a, mut calls) = (0, 0);
        while clock.now() < end {
            let lease = balancer.acquire().unwrap();
            let is_a = lease.instance().id == "a";
            let (took, outcome) = if is_a { of_a } else { (FAST, Outcome::Success) };
            clock.advance(took);
            lease.settle(outcome);
            to_a += u32::from(is_a);
            calls += 1;
        }
        (to_a, calls)
    }

    #[test]
    fn a_slow_instance_is_left_alone_and_tried_again_and_taken_back_when_it_has_recovered() {
        let clock = ManualClock::new();
        let balancer = balancer(&clock, &["a", "b", "c"]);
        let minute = Duration::from_secs(60);
        let (slow, _) = calls(&balancer, &clock, minute, (SLOW, Outcome::Success));
        assert!((1..=3).contains(&slow), "one to learn it, and again when 10 s · ln 50 have passed: {slow}");
        let (_, _) = calls(&balancer, &clock, minute, (FAST, Outcome::Success));
        let (recovered, calls) = calls(&balancer, &clock, minute, (FAST, Outcome::Success));
        assert!((recovered * 3).abs_diff(calls) < calls / 5, "{recovered} of {calls}");
    }

    #[test]
    fn one_that_fails_at_once_is_not_taken_for_a_fast_one() {
        let clock = ManualClock::new();
        let balancer = balancer(&clock, &["a", "b", "c"]);
        let failure = (Duration::from_micros(100), Outcome::Failure);
        let (failed, calls) = calls(&balancer, &clock, Duration::from_secs(60), failure);
        assert!((1..=6).contains(&failed) && calls > 5_000, "{failed} of {calls}");
    }

    #[test]
    fn one_that_is_given_up_on_is_known_to_be_slow() {
        let clock = ManualClock::new();
        let balancer = balancer(&clock, &["a", "b"]);
        calls(&balancer, &clock, FAST * 20, (FAST, Outcome::Success));
        let given_up = std::iter::repeat_with(|| balancer.acquire().unwrap()).find(|lease| lease.instance().id == "a");
        clock.advance(SLOW);
        drop(given_up);
        assert!((0..100).all(|_| balancer.get_instance().unwrap().id == "b"));
    }

    #[test]
    fn a_new_instance_is_tried_by_one_call_at_a_time() {
        let clock = ManualClock::new();
        let balancer = balancer(&clock, &["b", "c"]);
        calls(&balancer, &clock, FAST * 20, (FAST, Outcome::Success));
        balancer.register(ServiceInstance::new("a", "host", 80));
        let leases: Vec<Lease> = (0..30).filter_map(|_| balancer.acquire()).collect();
        assert_eq!(leases.iter().filter(|lease| lease.instance().id == "a").count(), 1);
        clock.advance(FAST);
        for lease in leases {
            lease.settle(Outcome::Success);
        }
        let leases: Vec<Lease> = (0..30).filter_map(|_| balancer.acquire()).collect();
        assert!(leases.iter().filter(|lease| lease.instance().id == "a").count() > 5);
    }

    #[test]
    fn only_an_attempt_that_is_measured_needs_the_exact_time() {
        /// Counts who asks for the exact time.
        #[derive(Debug)]
        struct Counting(ManualClock, Arc<AtomicU32>);
        impl Clock for Counting {
            fn now(&self) -> Timestamp {
                self.1.fetch_add(1, Ordering::Relaxed);
                self.0.now()
            }
            fn coarse(&self) -> Timestamp {
                self.0.now()
            }
        }
        let (clock, reads) = (ManualClock::new(), Arc::new(AtomicU32::new(0)));
        let environment = Environment::manual(&clock).with_clock(Counting(clock.clone(), Arc::clone(&reads)));
        let balancer =
            LoadBalancer::builder().strategy(LoadBalancerStrategy::PeakEwma).environment(environment).build();
        balancer.set_instances(["a", "b"].map(|id| ServiceInstance::new(id, "host", 80)));
        calls(&balancer, &clock, SLOW * 2, (SLOW, Outcome::Success));
        let before = reads.load(Ordering::Relaxed);
        assert!((0..100).all(|_| balancer.get_instance().unwrap().id == "b"));
        clock.advance(Duration::from_secs(300));
        assert!((0..100).any(|_| balancer.get_instance().unwrap().id == "a"), "about the time does move on");
        assert_eq!(reads.load(Ordering::Relaxed), before);
        drop(balancer.acquire());
        assert_eq!(reads.load(Ordering::Relaxed), before + 2, "when it began, and when it ended");
    }

    #[test]
    fn latency_and_connections_multiply() {
        let clock = ManualClock::new();
        let balancer = balancer(&clock, &["a", "b"]);
        // `a` takes three times as long, and so it gets a third of the connections.
        let slower = FAST * 3;
        calls(&balancer, &clock, Duration::from_secs(1), (slower, Outcome::Success));
        let leases: Vec<Lease> = (0..400).filter_map(|_| balancer.acquire()).collect();
        let to_a = leases.iter().filter(|lease| lease.instance().id == "a").count();
        assert!((90..=110).contains(&to_a), "{to_a}");
    }

    #[test]
    fn equals_share_an_idle_set_by_weight() {
        let clock = ManualClock::new();
        let balancer = balancer(&clock, &["a", "b"]);
        balancer.set_weight("a", 3);
        let jitter = |call: u32| FAST + Duration::from_micros(u64::from(call * 7919 % 5000));
        let mut to_a = 0;
        for call in 0..4_000 {
            let lease = balancer.acquire().unwrap();
            clock.advance(jitter(call));
            to_a += u32::from(lease.instance().id == "a");
            lease.settle(Outcome::Success);
        }
        assert!((2_850..3_150).contains(&to_a), "{to_a}");
    }

    #[test]
    fn a_proxy_observes_its_attempts() {
        let clock = ManualClock::new();
        let balancer = balancer(&clock, &["a", "b", "c"]);
        let proxy = ServiceProxy::builder("service")
            .load_balancer(balancer)
            .environment(Environment::manual(&clock))
            .retry(RetryConfig::builder().max_retries(0).build().unwrap())
            .without_instance_circuit_breakers()
            .build();
        let calls = |of_a: Result<(), &'static str>, took: Duration| {
            let tries = |_| {
                let mut is_a = false;
                let _ = proxy.call(|attempt| {
                    is_a = attempt.instance().id == "a";
                    clock.advance(if is_a { took } else { FAST });
                    if is_a { of_a } else { Ok(()) }
                });
                u32::from(is_a)
            };
            (0..1_000).map(tries).sum::<u32>()
        };
        assert_eq!(calls(Ok(()), SLOW), 1, "slow, and left alone for the 10 s of these calls");
        clock.advance(Duration::from_secs(300));
        assert_eq!(calls(Err("refused"), Duration::ZERO), 1, "a failure is slow");
        clock.advance(Duration::from_secs(300));
        // A call that nobody waits for any more.
        loop {
            let attempt = proxy.begin(&CallOptions::new()).admit().unwrap();
            clock.advance(if attempt.instance().id == "a" { SLOW } else { FAST });
            if attempt.instance().id == "a" {
                break;
            }
            let _ = attempt.settle(crate::Answer::success());
        }
        assert_eq!(calls(Ok(()), FAST), 0, "a lower bound is enough");
    }
}
