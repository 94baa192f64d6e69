//! The races, model-checked: every interleaving of two or three threads, with bounded pre-emptions in the ordinary run
//! (`make loom`) and all of them on demand (`make loom-full`). Each model proves the sentence that is its name.
//!
//! loom replaces the atomics and locks of `resilience/sync.rs`; the manual clock is not part of what is checked, and
//! the snapshot of a balancer is a lock here, since loom does not know arc-swap.
#![cfg(loom)]

use std::sync::Arc;
use std::time::Duration;

use loom::thread;
use service_mesh::testing::{ManualClock, Recorder};
use service_mesh::{
    CircuitBreaker, CircuitBreakerConfig, CircuitState, CountWindow, Environment, EventKind, LoadBalancer,
    LoadBalancerStrategy, Outcome, RetryBudget, RetryBudgetConfig, ServiceInstance,
};

fn config(failures: u32, successes: u32, probes: u32) -> CircuitBreakerConfig {
    CircuitBreakerConfig::builder()
        .failure_threshold(failures)
        .success_threshold(successes)
        .half_open_max_calls(probes)
        .timeout(Duration::from_secs(10))
        .build()
        .unwrap()
}

fn breaker(config: CircuitBreakerConfig) -> (CircuitBreaker, ManualClock, Recorder) {
    let (clock, recorder) = (ManualClock::new(), Recorder::new());
    let breaker = CircuitBreaker::builder("model")
        .config(config)
        .environment(Environment::manual(&clock))
        .listener(recorder.clone())
        .build();
    (breaker, clock, recorder)
}

/// A breaker whose open time has just passed.
fn due(config: CircuitBreakerConfig) -> (CircuitBreaker, ManualClock, Recorder) {
    let (breaker, clock, recorder) = breaker(config);
    for _ in 0..breaker.config().failure_threshold() {
        breaker.try_acquire().unwrap().failure();
    }
    clock.advance(Duration::from_secs(10));
    (breaker, clock, recorder)
}

fn trips(recorder: &Recorder) -> usize {
    let to_open =
        |kind: &EventKind| matches!(kind, EventKind::Transition(transition) if transition.to == CircuitState::Open);
    recorder.take().iter().filter(|event| to_open(&event.kind)).count()
}

#[test]
fn never_more_probes_are_in_flight_than_half_open_max_calls() {
    loom::model(|| {
        let (breaker, ..) = due(config(1, 3, 2));
        let callers: Vec<_> = (0..2)
            .map(|_| {
                let breaker = breaker.clone();
                thread::spawn(move || breaker.try_acquire_owned().ok())
            })
            .collect();
        let mine = breaker.try_acquire().ok();
        let theirs: Vec<_> = callers.into_iter().map(|caller| caller.join().unwrap()).collect();
        let admitted = theirs.iter().flatten().count() + usize::from(mine.is_some());
        assert_eq!(admitted, 2, "two of three are admitted, however they race");
        assert_eq!(breaker.half_open_calls(), 2);
    });
}

#[test]
fn racing_failures_trip_exactly_once() {
    loom::model(|| {
        let (breaker, _, recorder) = breaker(config(2, 1, 1));
        let permits = [breaker.try_acquire_owned().unwrap(), breaker.try_acquire_owned().unwrap()];
        let callers = permits.map(|permit| thread::spawn(move || permit.failure()));
        breaker.record_failure();
        callers.into_iter().for_each(|caller| caller.join().unwrap());
        assert_eq!(breaker.state(), CircuitState::Open);
        assert_eq!(breaker.failure_count(), 2);
        assert_eq!(breaker.late_outcomes(), 1, "the third failure came after the trip");
        assert_eq!(trips(&recorder), 1);
    });
}

#[test]
fn a_success_in_the_race_either_clears_the_row_or_comes_too_late() {
    loom::model(|| {
        let (breaker, _, recorder) = breaker(config(2, 1, 1));
        breaker.try_acquire().unwrap().failure();
        let permits = (breaker.try_acquire_owned().unwrap(), breaker.try_acquire_owned().unwrap());
        let failing = thread::spawn(move || permits.0.failure());
        permits.1.success();
        failing.join().unwrap();
        match breaker.state() {
            CircuitState::Open => assert_eq!((breaker.late_outcomes(), trips(&recorder)), (1, 1)),
            _ => assert!(breaker.failure_count() <= 1 && breaker.late_outcomes() == 0),
        }
    });
}

#[test]
fn a_dropped_permit_gives_its_place_back() {
    loom::model(|| {
        let (breaker, ..) = due(config(1, 1, 1));
        let probe = breaker.try_acquire_owned().unwrap();
        let dropping = thread::spawn(move || drop(probe));
        let other = breaker.try_acquire().ok();
        dropping.join().unwrap();
        assert_eq!(breaker.half_open_calls(), u32::from(other.is_some()));
        drop(other);
        assert_eq!(breaker.half_open_calls(), 0);
        assert!(breaker.try_acquire().is_ok());
    });
}

#[test]
fn no_verdict_of_an_older_generation_takes_effect() {
    loom::model(|| {
        let (breaker, clock, _) = breaker(config(1, 2, 2));
        let stale = (breaker.try_acquire_owned().unwrap(), breaker.try_acquire_owned().unwrap());
        breaker.try_acquire().unwrap().failure();
        clock.advance(Duration::from_secs(10));
        let probe = breaker.try_acquire_owned().unwrap();
        let old_failure = thread::spawn(move || stale.0.failure());
        let old_success = thread::spawn(move || stale.1.success());
        probe.success();
        old_failure.join().unwrap();
        old_success.join().unwrap();
        assert_eq!((breaker.state(), breaker.success_count()), (CircuitState::HalfOpen, 1));
        assert_eq!(breaker.late_outcomes(), 2);
    });
}

#[test]
fn hung_probes_are_written_off_once_and_their_verdicts_are_late() {
    loom::model(|| {
        let (breaker, clock, recorder) = due(config(1, 1, 1));
        let hung = breaker.try_acquire_owned().unwrap();
        clock.advance(Duration::from_secs(30));
        let late = thread::spawn(move || hung.failure());
        let admitted = breaker.try_acquire().ok();
        late.join().unwrap();
        match admitted {
            // Written off before its failure came.
            Some(probe) => {
                probe.success();
                assert_eq!((breaker.state(), breaker.late_outcomes()), (CircuitState::Closed, 1));
                assert_eq!(trips(&recorder), 1);
            }
            // Its failure came first and tripped the circuit again.
            None => assert_eq!((breaker.state(), trips(&recorder)), (CircuitState::Open, 2)),
        }
    });
}

#[test]
fn update_config_loses_no_outcome_and_no_place() {
    loom::model(|| {
        let window = CountWindow::builder().size(4).minimum_calls(4).failure_ratio(1.0).build().unwrap();
        let before = config(9, 1, 1).to_builder().count_window(window.clone()).build().unwrap();
        let after = config(8, 1, 1).to_builder().count_window(window).build().unwrap();
        let (breaker, ..) = breaker(before);
        let permits = [breaker.try_acquire_owned().unwrap(), breaker.try_acquire_owned().unwrap()];
        let callers = permits.map(|permit| thread::spawn(move || permit.failure()));
        breaker.update_config(after);
        callers.into_iter().for_each(|caller| caller.join().unwrap());
        assert_eq!(breaker.failure_count(), 2);
        // The window has both as well: two more make it four of four.
        breaker.try_acquire().unwrap().failure();
        assert_eq!(breaker.state(), CircuitState::Closed);
        breaker.try_acquire().unwrap().failure();
        assert_eq!(breaker.state(), CircuitState::Open);
    });
}

#[test]
fn update_config_keeps_the_probes_in_flight() {
    loom::model(|| {
        let (breaker, ..) = due(config(1, 9, 1));
        let probe = breaker.try_acquire_owned().unwrap();
        let ending = thread::spawn(move || probe.success());
        breaker.update_config(config(1, 9, 2));
        ending.join().unwrap();
        assert_eq!((breaker.half_open_calls(), breaker.success_count()), (0, 1));
        let both = (breaker.try_acquire(), breaker.try_acquire());
        assert!(both.0.is_ok() && both.1.is_ok());
        assert!(breaker.try_acquire().is_err());
    });
}

#[test]
fn the_budget_grants_no_more_than_its_law() {
    loom::model(|| {
        let config = RetryBudgetConfig::builder().ratio(0.5).floor_per_second(0.1).build().unwrap();
        let budget = RetryBudget::with_environment(config, Environment::manual(&ManualClock::new()));
        let callers: Vec<_> = (0..2)
            .map(|_| {
                let budget = budget.clone();
                thread::spawn(move || {
                    budget.deposit();
                    u32::from(budget.withdraw())
                })
            })
            .collect();
        let granted: u32 = callers.into_iter().map(|caller| caller.join().unwrap()).sum();
        // Two calls earn one retry, the floor gives one in ten seconds.
        assert!((1..=2).contains(&granted), "{granted} retries");
        assert!(!budget.withdraw() || granted == 1);
    });
}

#[test]
fn lease_counts_return_to_zero_while_instances_come_and_go() {
    loom::model(|| {
        let balancer = LoadBalancer::builder()
            .strategy(LoadBalancerStrategy::LeastConnections)
            .environment(Environment::manual(&ManualClock::new()))
            .build();
        balancer.register(ServiceInstance::new("a", "a", 1));
        let leasing = {
            let balancer = balancer.clone();
            thread::spawn(move || drop(balancer.acquire()))
        };
        let lease = balancer.acquire();
        balancer.register(ServiceInstance::new("a", "a", 1).with_weight(2));
        drop(lease);
        leasing.join().unwrap();
        assert!(balancer.endpoints().iter().all(|endpoint| endpoint.in_flight == 0));
    });
}

#[test]
fn no_lease_that_ends_while_its_instance_leaves_bends_the_bound_of_the_others() {
    loom::model(|| {
        let balancer = LoadBalancer::builder()
            .strategy(LoadBalancerStrategy::ConsistentHash)
            .environment(Environment::manual(&ManualClock::new()))
            .build();
        balancer.set_instances(["a", "b"].map(|id| ServiceInstance::new(id, id, 1)));
        let (held, ending) = (balancer.acquire_except(&["b"]).unwrap(), balancer.acquire_except(&["b"]).unwrap());
        let ends = thread::spawn(move || drop(ending));
        balancer.mark_healthy("a", false);
        ends.join().unwrap();
        balancer.mark_healthy("a", true);
        drop(held);
        // Nothing is in flight, and so eight leases of one key are shared five to three.
        let leases: Vec<_> = (0..8).filter_map(|_| balancer.acquire_for(&1_u8)).collect();
        let mut counts: Vec<_> = balancer.endpoints().iter().map(|endpoint| endpoint.in_flight).collect();
        counts.sort_unstable();
        assert_eq!(counts, [3, 5]);
        drop(leases);
    });
}

#[test]
fn a_peak_that_races_an_ordinary_answer_is_not_lost() {
    loom::model(|| {
        let clock = ManualClock::new();
        let balancer = LoadBalancer::builder()
            .strategy(LoadBalancerStrategy::PeakEwma)
            .environment(Environment::manual(&clock))
            .build();
        balancer.set_instances(["a", "b"].map(|id| ServiceInstance::new(id, id, 1)));
        let without = |id: &str| balancer.acquire_except(&[id]).unwrap();
        let slow = without("b");
        clock.advance(Duration::from_secs(1));
        let fast = without("b");
        let racing = thread::spawn(move || slow.settle(Outcome::Success));
        fast.settle(Outcome::Success);
        racing.join().unwrap();
        without("a").settle(Outcome::Success);
        // `a` has just taken a second, and `b` no time at all.
        assert!((0..8).all(|_| balancer.get_instance().unwrap().id == "b"));
    });
}

/// The one place where a model says what loom's own `Arc` would check: nothing here is leaked.
#[test]
fn a_breaker_is_freed_when_its_last_handle_goes() {
    loom::model(|| {
        let name: Arc<str> = "model".into();
        let breaker = CircuitBreaker::new(Arc::clone(&name));
        let permit = breaker.try_acquire_owned().unwrap();
        let other = thread::spawn(move || permit.success());
        drop(breaker);
        other.join().unwrap();
        assert_eq!(Arc::strong_count(&name), 1);
    });
}
