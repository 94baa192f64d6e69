//! What a timeline of steps cannot show: guards, listeners, sizes, the ejection cap. The rules over time are scenarios
//! in `conformance/`; the races are loom's.

use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use super::*;
use crate::testing::{ManualClock, Recorder};
use crate::{CountWindow, Event, RefusalReason, TimeWindow};

fn config(failures: u32, successes: u32, probes: u32, timeout: u64) -> CircuitBreakerConfig {
    CircuitBreakerConfig::builder()
        .failure_threshold(failures)
        .success_threshold(successes)
        .half_open_max_calls(probes)
        .timeout(Duration::from_secs(timeout))
        .build()
        .unwrap()
}

fn breaker(config: CircuitBreakerConfig) -> (CircuitBreaker, ManualClock, Recorder) {
    let (clock, recorder) = (ManualClock::new(), Recorder::new());
    let breaker = CircuitBreaker::builder("payments")
        .config(config)
        .environment(Environment::manual(&clock))
        .listener(recorder.clone())
        .build();
    (breaker, clock, recorder)
}

fn fail(breaker: &CircuitBreaker) {
    breaker.try_acquire().unwrap().failure();
}

#[test]
fn a_dropped_probe_gives_its_place_back_and_counts_nothing() {
    let (breaker, clock, _) = breaker(config(1, 1, 1, 10));
    fail(&breaker);
    clock.advance(Duration::from_secs(10));
    for _ in 0..3 {
        let probe = breaker.try_acquire().unwrap();
        assert!(probe.is_probe());
        assert_eq!(breaker.half_open_calls(), 1);
        assert_eq!(breaker.try_acquire().unwrap_err().reason(), RefusalReason::HalfOpenFull);
        drop(probe);
        assert_eq!((breaker.half_open_calls(), breaker.success_count()), (0, 0));
    }
    breaker.try_acquire_owned().unwrap().success();
    assert_eq!(breaker.state(), CircuitState::Closed);
}

#[test]
fn a_permit_that_holds_nothing_is_as_good_as_its_number() {
    let (breaker, ..) = breaker(config(2, 1, 1, 10));
    let number = breaker.try_acquire_number().unwrap();
    assert_eq!(breaker.try_acquire().unwrap().as_number(), Some(number));
    breaker.permit_of(number).failure();
    assert_eq!(breaker.failure_count(), 1);
    breaker.permit_of(number).success();
    assert_eq!(breaker.failure_count(), 0);
    breaker.force_open();
    breaker.permit_of(number).failure();
    assert_eq!((breaker.failure_count(), breaker.late_outcomes()), (0, 1));
    breaker.assign_state(CircuitState::HalfOpen);
    assert_eq!((breaker.try_acquire().unwrap().as_number(), breaker.try_acquire_number()), (None, None));
    breaker.permit_of(u64::MAX).success();
    assert_eq!((breaker.half_open_calls(), breaker.success_count()), (0, 0));
}

#[test]
fn an_owned_permit_outlives_its_handle() {
    let (breaker, ..) = breaker(config(1, 1, 1, 10));
    let permit = breaker.try_acquire().unwrap().into_owned();
    let handle = breaker.clone();
    drop(breaker);
    permit.failure();
    assert_eq!(handle.state(), CircuitState::Open);
}

#[test]
fn a_refusal_says_why_and_when_to_come_back() {
    let (breaker, clock, _) = breaker(config(1, 1, 1, 30));
    fail(&breaker);
    clock.advance(Duration::from_secs(10));
    let refused = breaker.refused(breaker.try_acquire().unwrap_err());
    assert_eq!(refused.to_string(), "circuit payments is open");
    assert_eq!(refused.retry_after(), Some(Duration::from_secs(20)));
    clock.advance(Duration::from_secs(20));
    let _probe = breaker.try_acquire().unwrap();
    let refused = breaker.refused(breaker.try_acquire().unwrap_err());
    assert_eq!(refused.to_string(), "circuit payments is half open and its probes are taken");
    assert_eq!(refused.retry_after(), None);
    breaker.force_open();
    let refused = breaker.refused(breaker.try_acquire().unwrap_err());
    assert_eq!((refused.reason(), refused.retry_after()), (RefusalReason::Forced, None));
}

#[test]
fn listeners_hear_everything_in_order_and_after_the_locks() {
    let (breaker, clock, recorder) = breaker(config(2, 1, 1, 10));
    let stale = breaker.try_acquire().unwrap();
    fail(&breaker);
    fail(&breaker);
    assert!(breaker.try_acquire().is_err());
    stale.failure();
    clock.advance(Duration::from_secs(10));
    breaker.try_acquire().unwrap().success();
    let told: Vec<String> = recorder.take().iter().map(ToString::to_string).collect();
    assert_eq!(
        told,
        [
            "payments: closed -> open: 2 failures in a row reached failure_threshold 2",
            "payments: refused a call (open), retry after 10s",
            "payments: a late failure was not counted",
            "payments: open -> half_open: its timeout has passed",
            "payments: half_open -> closed: enough probes succeeded",
        ]
    );
}

#[test]
fn a_listener_may_call_the_breaker_back_and_may_panic() {
    let heard = Arc::new(AtomicU32::new(0));
    let breaker = CircuitBreaker::with_config("payments", config(1, 1, 1, 0));
    let (handle, count) = (breaker.clone(), Arc::clone(&heard));
    breaker.subscribe(move |event: &Event| {
        if let EventKind::Transition(transition) = &event.kind
            && transition.to == CircuitState::Open
        {
            handle.reset();
        }
        count.fetch_add(1, Ordering::Relaxed);
        panic!("a listener's panic is its own");
    });
    let hook = std::panic::take_hook();
    std::panic::set_hook(Box::new(|_| {}));
    fail(&breaker);
    std::panic::set_hook(hook);
    assert_eq!(breaker.state(), CircuitState::Closed);
    assert_eq!(heard.load(Ordering::Relaxed), 2);
}

#[test]
fn all_threads_tell_one_story() {
    let (breaker, _, recorder) = breaker(config(3, 1, 1, 0));
    std::thread::scope(|scope| {
        for seed in 0..4_u64 {
            let breaker = &breaker;
            scope.spawn(move || {
                let chance = crate::Chance::seeded(seed);
                for _ in 0..2000 {
                    if let Ok(permit) = breaker.try_acquire() {
                        if chance.below(2) == 0 { permit.success() } else { permit.failure() }
                    }
                }
            });
        }
    });
    let mut state = CircuitState::Closed;
    for event in recorder.take() {
        if let EventKind::Transition(transition) = event.kind {
            assert_eq!(transition.from, state, "each change begins where the last one ended");
            state = transition.to;
        }
    }
    assert_eq!(state, breaker.state());
}

#[test]
fn a_capped_circuit_stays_in_rotation_goes_on_counting_and_says_so_once_a_row() {
    let recorder = Recorder::new();
    let cap = Arc::new(EjectionCap::default());
    cap.resize(0.5, 2);
    let announcer = Arc::new(Announcer::default());
    announcer.subscribe(Arc::new(recorder.clone()));
    let make = |name: &str| {
        CircuitBreaker::builder(name)
            .config(config(2, 1, 1, 10))
            .of_service(Some(announcer.clone()), Some(cap.clone()))
            .build()
    };
    let (a, b) = (make("a"), make("b"));
    (0..2).for_each(|_| fail(&a));
    assert_eq!(a.state(), CircuitState::Open);
    recorder.take();

    (0..5).for_each(|_| fail(&b));
    assert_eq!((b.state(), b.failure_count()), (CircuitState::Closed, 5));
    assert!(matches!(recorder.take()[..], [Event { kind: EventKind::EjectionCapped, .. }]));
    b.try_acquire().unwrap().success();
    (0..2).for_each(|_| fail(&b));
    assert!(matches!(recorder.take()[..], [Event { kind: EventKind::EjectionCapped, .. }]));

    // As soon as one may go, the next failure ejects it.
    a.reset();
    fail(&b);
    assert_eq!(b.state(), CircuitState::Open);
    // A breaker that is gone no longer counts.
    drop(b);
    (0..2).for_each(|_| fail(&a));
    assert_eq!(a.state(), CircuitState::Open);
}

#[test]
fn hung_probes_are_written_off_with_growing_patience() {
    let (breaker, clock, recorder) = breaker(config(1, 1, 2, 10));
    fail(&breaker);
    clock.advance(Duration::from_secs(10));
    let hung = [breaker.try_acquire().unwrap(), breaker.try_acquire().unwrap()];
    clock.advance(Duration::from_millis(29_999));
    assert!(!breaker.can_execute());
    clock.advance(Duration::from_millis(1));
    assert!(breaker.can_execute());
    let second = [breaker.try_acquire().unwrap(), breaker.try_acquire().unwrap()];
    assert_eq!(breaker.half_open_calls(), 2);
    hung.into_iter().for_each(Permit::failure);
    assert_eq!((breaker.state(), breaker.late_outcomes()), (CircuitState::HalfOpen, 2));

    clock.advance(Duration::from_secs(59));
    assert!(breaker.try_acquire().is_err(), "the second time it waits for twice as long");
    clock.advance(Duration::from_secs(1));
    breaker.try_acquire().unwrap().success();
    assert_eq!(breaker.state(), CircuitState::Closed);
    drop(second);
    let written_off =
        recorder.take().into_iter().filter(|event| matches!(event.kind, EventKind::ProbesWrittenOff { probes: 2 }));
    assert_eq!(written_off.count(), 2);
}

#[test]
fn a_classifier_that_panics_gives_the_place_back() {
    let (breaker, clock, _) = breaker(config(1, 1, 1, 10));
    fail(&breaker);
    clock.advance(Duration::from_secs(10));
    let hook = std::panic::take_hook();
    std::panic::set_hook(Box::new(|_| {}));
    let confused = |_: &Result<(), ()>| -> crate::Answer { panic!("in the classifier") };
    let calling = std::panic::AssertUnwindSafe(|| breaker.execute_with(&confused, || Ok(())));
    let unwound = std::panic::catch_unwind(calling);
    std::panic::set_hook(hook);
    assert!(unwound.is_err());
    assert_eq!((breaker.state(), breaker.half_open_calls()), (CircuitState::HalfOpen, 0));
}

#[test]
fn a_growing_open_time_that_started_from_zero_stays_zero() {
    let config = config(1, 1, 1, 0).to_builder().timeout_multiplier(f64::MAX).build().unwrap();
    let (breaker, ..) = breaker(config);
    for _ in 0..4 {
        fail(&breaker);
        assert_eq!(breaker.retry_after(), Some(Duration::ZERO));
    }
}

#[test]
fn a_breaker_without_windows_is_small() {
    let counts = 2 * size_of::<usize>();
    assert!(size_of::<Inner>() + counts <= 128, "{} bytes", size_of::<Inner>() + counts);
    assert_eq!(size_of::<CircuitBreaker>(), size_of::<usize>());
    assert!(size_of::<Permit<'_>>() <= 32);
}

#[test]
fn a_count_window_full_of_successes_does_not_keep_them_from_the_time_window() {
    let count = CountWindow::builder().size(2).minimum_calls(2).failure_ratio(1.0).build().unwrap();
    let time = TimeWindow::builder().minimum_calls(4).failure_ratio(0.4).build().unwrap();
    let config = CircuitBreakerConfig::builder().consecutive(false).count_window(count).time_window(time);
    let (breaker, ..) = breaker(config.build().unwrap());
    for succeeds in [true, true, true, true, true, true, false, true, false] {
        let permit = breaker.try_acquire().unwrap();
        if succeeds { permit.success() } else { permit.failure() }
    }
    assert_eq!(breaker.last_trip(), None, "2 failures of 9 calls");
}
