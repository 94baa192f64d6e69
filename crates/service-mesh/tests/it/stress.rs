//! Laws that must hold while eight threads race. Nobody sleeps and nothing is timed: what is promised holds at every
//! speed, and every thread does a fixed amount of work.

use std::collections::HashMap;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Barrier, OnceLock};
use std::thread;
use std::time::Duration;

use service_mesh::testing::{ManualClock, Recorder};
use service_mesh::{
    Answer, CallError, CallOptions, CircuitBreaker, CircuitBreakerConfig, CircuitState, Environment, Event, EventKind,
    LoadBalancer, LoadBalancerStrategy, RetryConfig, ServiceInstance, ServiceProxy, ServiceProxyBuilder, Transition,
};

const THREADS: u32 = 8;
const SECOND: Duration = Duration::from_secs(1);

fn config(failures: u32, successes: u32, probes: u32) -> CircuitBreakerConfig {
    CircuitBreakerConfig::builder()
        .failure_threshold(failures)
        .success_threshold(successes)
        .half_open_max_calls(probes)
        .timeout(SECOND)
        .build()
        .unwrap()
}

fn breaker(config: CircuitBreakerConfig) -> (CircuitBreaker, ManualClock, Recorder) {
    let (clock, recorder) = (ManualClock::new(), Recorder::new());
    let breaker = CircuitBreaker::builder("raced")
        .config(config)
        .environment(Environment::manual(&clock))
        .listener(recorder.clone())
        .build();
    (breaker, clock, recorder)
}

/// A proxy that retries at once and without a budget, over these instances.
fn proxy(
    clock: &ManualClock,
    ids: &[&str],
    change: impl FnOnce(ServiceProxyBuilder) -> ServiceProxyBuilder,
) -> ServiceProxy {
    let retry = RetryConfig::builder().max_retries(50).initial_delay(Duration::ZERO).build().unwrap();
    let builder = ServiceProxy::builder("payments")
        .environment(Environment::manual(clock))
        .circuit_breaker(config(3, 1, 1))
        .retry(retry)
        .without_retry_budget();
    let proxy = change(builder).build();
    for id in ids {
        proxy.load_balancer().register(ServiceInstance::new(*id, *id, 80));
    }
    proxy
}

/// Runs `work` on every thread at once; it is told which thread it is.
fn race(work: impl Fn(u32) + Sync) {
    let start = Barrier::new(THREADS as usize);
    thread::scope(|scope| {
        for number in 0..THREADS {
            let (work, start) = (&work, &start);
            scope.spawn(move || {
                start.wait();
                work(number);
            });
        }
    });
}

fn transitions(events: Vec<Event>) -> Vec<(String, Transition)> {
    let transition = |event: Event| match event.kind {
        EventKind::Transition(transition) => Some((event.name.to_string(), transition)),
        _ => None,
    };
    events.into_iter().filter_map(transition).collect()
}

fn in_flight(balancer: &LoadBalancer) -> u32 {
    balancer.endpoints().iter().map(|endpoint| endpoint.in_flight).sum()
}

#[test]
fn a_half_open_circuit_admits_exactly_as_many_as_it_has_places() {
    for round in 0..200 {
        let (breaker, clock, _) = breaker(config(1, 4, 3));
        breaker.try_acquire().unwrap().failure();
        clock.advance(SECOND);
        let (admitted, all_have_tried) = (AtomicU32::new(0), Barrier::new(THREADS as usize));
        race(|_| {
            let permit = breaker.try_acquire();
            admitted.fetch_add(u32::from(permit.is_ok()), Ordering::Relaxed);
            all_have_tried.wait();
            drop(permit);
        });
        assert_eq!(admitted.into_inner(), 3, "in round {round}");
        assert_eq!((breaker.half_open_calls(), breaker.success_count()), (0, 0));
    }
}

#[test]
fn never_more_probes_are_in_flight_than_there_are_places() {
    let (breaker, clock, _) = breaker(config(1, u32::from(u16::MAX), 3));
    breaker.try_acquire().unwrap().failure();
    clock.advance(SECOND);
    let (present, most, admitted) = (AtomicU32::new(0), AtomicU32::new(0), AtomicU32::new(0));
    race(|number| {
        for turn in 0..4000 {
            let Ok(permit) = breaker.try_acquire() else { continue };
            admitted.fetch_add(1, Ordering::Relaxed);
            most.fetch_max(present.fetch_add(1, Ordering::SeqCst) + 1, Ordering::SeqCst);
            present.fetch_sub(1, Ordering::SeqCst);
            if (turn + number) % 2 == 0 { permit.success() } else { drop(permit) }
        }
    });
    assert!(most.into_inner() <= 3);
    assert!(admitted.into_inner() >= 4000, "there were three places at any time");
    assert_eq!((breaker.state(), breaker.half_open_calls()), (CircuitState::HalfOpen, 0));
}

#[test]
fn the_services_circuit_never_trips_while_failover_hides_the_failures() {
    let (clock, recorder) = (ManualClock::new(), Recorder::new());
    let proxy = proxy(&clock, &["a", "b", "c"], |builder| builder.listener(recorder.clone()));
    race(|number| {
        for turn in 0..1000 {
            let answer = proxy.call(|attempt| if attempt.instance().id == "a" { Err("down") } else { Ok(()) });
            assert_eq!(answer, Ok(()));
            if number == 0 && turn % 10 == 0 {
                clock.advance(SECOND);
            }
        }
    });
    let told = transitions(recorder.take());
    assert!(told.iter().all(|(name, _)| name == "payments/a"), "{told:?}");
    assert!(told.len() >= 3, "the failing instance's circuit tripped and probed: {told:?}");
    assert_eq!((proxy.circuit_breaker().failure_count(), in_flight(proxy.load_balancer())), (0, 0));
}

#[test]
fn the_services_circuit_never_trips_while_instances_come_and_go() {
    let (clock, recorder) = (ManualClock::new(), Recorder::new());
    let proxy = proxy(&clock, &["a", "b", "c"], |builder| builder.listener(recorder.clone()));
    race(|number| {
        for turn in 0..500_u16 {
            if number > 0 {
                let answer = proxy.call(|attempt| if attempt.instance().id == "a" { Err("down") } else { Ok(()) });
                assert_eq!(answer, Ok(()));
                continue;
            }
            let balancer = proxy.load_balancer();
            match turn % 5 {
                0 => drop(balancer.deregister("c")),
                1 => drop(balancer.register(ServiceInstance::new("c", "c", 80))),
                2 => drop(balancer.register(ServiceInstance::new("a", "a", turn))),
                3 => assert!(balancer.mark_healthy("c", turn % 2 == 0)),
                _ => clock.advance(SECOND),
            }
        }
    });
    let told = transitions(recorder.take());
    assert!(told.iter().all(|(name, _)| name == "payments/a"), "{told:?}");
    assert_eq!((proxy.circuit_breaker().failure_count(), in_flight(proxy.load_balancer())), (0, 0));
}

#[test]
fn nobody_is_starved_when_every_thread_picks_once() {
    const ROUNDS: u32 = 40;
    let clock = ManualClock::new();
    let ids = ["a", "b", "c", "d", "e"];
    for strategy in [LoadBalancerStrategy::RoundRobin, LoadBalancerStrategy::Weighted] {
        let proxy = proxy(&clock, &ids, |builder| builder.load_balancer(LoadBalancer::new(strategy)));
        let picks: HashMap<&str, AtomicU32> = ids.iter().map(|id| (*id, AtomicU32::new(0))).collect();
        for _ in 0..ROUNDS {
            // Threads that live for one call.
            race(|_| {
                let answer = proxy.call(|attempt| {
                    picks[attempt.instance().id.as_str()].fetch_add(1, Ordering::Relaxed);
                    Ok::<_, ()>(())
                });
                assert!(answer.is_ok());
            });
        }
        let picks: Vec<u32> = ids.iter().map(|id| picks[id].load(Ordering::Relaxed)).collect();
        assert_eq!(picks, [ROUNDS * THREADS / 5; 5], "{strategy}");
    }
}

#[test]
fn everything_is_given_back_however_calls_end() {
    let clock = ManualClock::new();
    let strategy = LoadBalancer::new(LoadBalancerStrategy::LeastConnections);
    let proxy = proxy(&clock, &["a", "b", "c"], |builder| builder.load_balancer(strategy));
    race(|number| {
        for turn in 0..600 {
            match (turn + number) % 6 {
                0 => assert_ne!(proxy.call(|_| Ok::<_, ()>(())).map_err(|error| error.attempts()), Err(1)),
                1 => {
                    let call = || proxy.call(|_| -> Result<(), ()> { resume_unwind(Box::new("in the function")) });
                    // No panic where the call was refused.
                    let _ = catch_unwind(AssertUnwindSafe(call));
                }
                2 => drop(proxy.begin(&CallOptions::new()).admit()),
                3 => {
                    if let Ok(attempt) = proxy.begin_owned(&CallOptions::new()).admit() {
                        drop(attempt.settle(Answer::failure()));
                    }
                }
                4 => drop(proxy.load_balancer().acquire()),
                _ if number == 0 => {
                    let marked = turn % 4 < 2;
                    assert!(proxy.load_balancer().mark_healthy("c", marked));
                    clock.advance(SECOND / 2);
                }
                _ => drop(proxy.call(|_| Err::<(), _>("down"))),
            }
        }
    });
    assert_eq!(in_flight(proxy.load_balancer()), 0);
    let circuits = ["a", "b"].map(|id| proxy.instance_circuit_breaker(id).unwrap());
    assert!(circuits.iter().chain([&proxy.circuit_breaker()]).all(|circuit| circuit.half_open_calls() == 0));
}

#[test]
fn listeners_hear_each_transition_once_and_in_order() {
    let (breaker, clock, recorder) = breaker(config(3, 2, 2));
    race(|number| {
        for turn in 0..2000 {
            if let Ok(permit) = breaker.try_acquire() {
                if turn % 7 < 4 { permit.failure() } else { permit.success() }
            }
            match (number, turn % 20) {
                (0, 0) => clock.advance(SECOND),
                (1, 0) => breaker.reset(),
                (2, 0) => breaker.force_open(),
                (3, 0) => breaker.force_closed(),
                _ => {}
            }
        }
    });
    let told = transitions(recorder.take());
    assert!(told.len() > 100, "{} transitions", told.len());
    let mut state = CircuitState::Closed;
    for (_, transition) in &told {
        assert_eq!(transition.from, state, "{transition}");
        state = transition.to;
    }
    assert_eq!(state, breaker.state());
}

#[test]
fn a_circuit_is_sound_after_its_configuration_and_its_state_were_changed_under_calls() {
    let (breaker, clock, _) = breaker(config(3, 2, 2));
    race(|number| {
        for turn in 0..1500 {
            match (number, turn % 4) {
                (0, 0) => breaker.update_config(config(turn % 3 + 1, turn % 2 + 1, turn % 5 + 1)),
                (1, 0) => breaker.force_open(),
                (1, 1) => breaker.force_closed(),
                (1, _) => breaker.reset(),
                (2, _) => clock.advance(SECOND / 4),
                _ => {
                    // 5 places is the most that any of the configurations had.
                    assert!(breaker.half_open_calls() <= 5);
                    let Ok(permit) = breaker.try_acquire_owned() else { continue };
                    match (turn + number) % 3 {
                        0 => permit.success(),
                        1 => permit.failure(),
                        _ => drop(permit),
                    }
                }
            }
        }
    });
    assert_eq!(breaker.half_open_calls(), 0);
    breaker.update_config(config(2, 1, 1));
    breaker.reset();
    assert_eq!((breaker.state(), breaker.failure_count()), (CircuitState::Closed, 0));
    breaker.try_acquire().unwrap().failure();
    breaker.try_acquire().unwrap().failure();
    assert_eq!((breaker.state(), breaker.failure_count()), (CircuitState::Open, 2));
    clock.advance(SECOND);
    let probe = breaker.try_acquire().unwrap();
    assert!(breaker.try_acquire().is_err(), "one place");
    probe.success();
    assert_eq!(breaker.state(), CircuitState::Closed);
}

/// If it fails, it does so by waiting for ever.
#[test]
fn a_listener_may_ask_the_proxy_while_it_is_being_changed() {
    let clock = ManualClock::new();
    let asked = Arc::new(OnceLock::<ServiceProxy>::new());
    let heard = Arc::new(AtomicU32::new(0));
    let listener = {
        let (asked, heard) = (Arc::clone(&asked), Arc::clone(&heard));
        move |_: &Event| {
            let proxy = asked.get().expect("nothing happens before it is set");
            assert_eq!(proxy.config().call_timeout(), None);
            assert!(proxy.instance_circuit_breaker("a").is_some());
            heard.fetch_add(1, Ordering::Relaxed);
        }
    };
    let proxy = proxy(&clock, &["a"], |builder| builder.listener(listener));
    assert!(asked.set(proxy.clone()).is_ok());
    // Two threads meet more often than eight: with those somebody is always delivering.
    race(|number| {
        for turn in 0..if number < 2 { 40_000 } else { 0 } {
            let circuit = proxy.instance_circuit_breaker("a").unwrap();
            match (number, turn % 2) {
                (0, 0) => proxy.update_circuit_breaker(config(3, 1, 1)),
                (0, _) => proxy.update_instance_circuit_breaker(config(3, 1, 2)),
                (_, 0) => circuit.force_open(),
                (..) => circuit.reset(),
            }
        }
    });
    assert!(heard.load(Ordering::Relaxed) > 0);
}

#[test]
fn a_call_that_is_refused_by_all_costs_no_attempt_on_any_thread() {
    let clock = ManualClock::new();
    let proxy = proxy(&clock, &["a", "b"], |builder| builder);
    for id in ["a", "b"] {
        proxy.instance_circuit_breaker(id).unwrap().force_open();
    }
    race(|_| {
        for _ in 0..500 {
            let refused: CallError<()> = proxy.call(|_| Ok(())).unwrap_err();
            assert!(refused.is_refusal() && refused.attempts() == 0);
        }
    });
    assert_eq!((in_flight(proxy.load_balancer()), proxy.circuit_breaker().failure_count()), (0, 0));
}
