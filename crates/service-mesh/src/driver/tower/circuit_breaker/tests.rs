//! What the layer promises a tower stack, against a service that is played by hand.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::Duration;

use service_mesh_models::{CircuitBreakerConfig, CircuitState};
use tokio_test::{assert_pending, assert_ready_err, assert_ready_ok, task};
use tower::{ServiceBuilder, ServiceExt, service_fn};
use tower_layer::Layer;
use tower_service::Service;
use tower_test::mock::{self, Mock};

use super::{CircuitBreakerLayer, CircuitBreakerService};
use crate::resilience::call_error::CallErrorKind;
use crate::resilience::circuit_breaker::CircuitBreaker;
use crate::resilience::outcome::{Answer, EveryError};
use crate::testing::{ManualClock, Recorder};
use crate::{Environment, EventKind};

type Guarded = CircuitBreakerService<Mock<&'static str, u32>, EveryError>;

fn breaker(clock: &ManualClock) -> CircuitBreaker {
    let config = CircuitBreakerConfig::builder().failure_threshold(1).half_open_max_calls(1).success_threshold(1);
    CircuitBreaker::builder("payments").environment(Environment::manual(clock)).config(config.build().unwrap()).build()
}

fn guarded(breaker: &CircuitBreaker) -> (mock::Spawn<Guarded>, mock::Handle<&'static str, u32>) {
    mock::spawn_layer(CircuitBreakerLayer::new(breaker.clone()))
}

#[test]
fn readiness_is_the_inner_services_and_takes_no_place() {
    let clock = ManualClock::new();
    let breaker = breaker(&clock);
    let (mut service, mut handle) = guarded(&breaker);
    handle.allow(0);
    assert_pending!(service.poll_ready());
    breaker.record_failure();
    clock.advance(Duration::from_secs(30));
    handle.allow(1);
    assert_ready_ok!(service.poll_ready());
    // The only probe's place is still there, and so it is for another caller.
    assert_eq!((breaker.state(), breaker.half_open_calls()), (CircuitState::Open, 0));
    assert!(breaker.try_acquire().is_ok());
}

#[test]
fn an_error_of_readiness_is_passed_on_and_counts_nothing() {
    let breaker = breaker(&ManualClock::new());
    let (mut service, mut handle) = guarded(&breaker);
    handle.send_error("gone");
    let error = assert_ready_err!(service.poll_ready());
    assert_eq!((error.kind(), error.attempts()), (&CallErrorKind::Failed, 0));
    assert_eq!(breaker.failure_count(), 0);
}

#[test]
fn a_refusal_is_an_error_of_the_call_and_the_inner_service_is_not_called() {
    let clock = ManualClock::new();
    let (breaker, recorder) = (breaker(&clock), Recorder::new());
    breaker.force_open();
    breaker.subscribe(recorder.clone());
    let (mut service, mut handle) = guarded(&breaker);
    assert_ready_ok!(service.poll_ready());
    let error = assert_ready_err!(task::spawn(service.call("pay")).poll());
    assert_eq!((error.to_string().as_str(), error.attempts()), ("circuit payments is open", 0));
    assert!(matches!(recorder.take()[0].kind, EventKind::Refused { .. }));
    assert_pending!(task::spawn(handle.next_request()).poll());
}

#[test]
fn verdicts_trip_the_circuit_of_all_clones() {
    let clock = ManualClock::new();
    let breaker = breaker(&clock);
    let (mut service, mut handle) = guarded(&breaker);
    let mut clone = service.clone();
    assert_ready_ok!(service.poll_ready());
    let mut call = task::spawn(service.call("pay"));
    assert_pending!(call.poll());
    let (request, response) = clock.block_on(handle.next_request()).unwrap();
    assert_eq!(request, "pay");
    response.send_error("down");
    let error = assert_ready_err!(call.poll());
    assert_eq!((error.kind(), error.attempts()), (&CallErrorKind::Failed, 1));
    assert_eq!(error.into_last().unwrap().to_string(), "down");
    assert_ready_ok!(clone.poll_ready());
    assert!(assert_ready_err!(task::spawn(clone.call("pay")).poll()).is_refusal());

    clock.advance(Duration::from_secs(30));
    let mut probe = task::spawn(clone.call("pay"));
    assert_pending!(probe.poll());
    clock.block_on(handle.next_request()).unwrap().1.send_response(7);
    assert_eq!(assert_ready_ok!(probe.poll()), 7);
    assert_eq!(breaker.state(), CircuitState::Closed);
}

#[test]
fn a_dropped_probe_gives_its_place_back_polled_or_not() {
    let clock = ManualClock::new();
    let breaker = breaker(&clock);
    breaker.record_failure();
    clock.advance(Duration::from_secs(30));
    let (mut service, _handle) = guarded(&breaker);
    for polled in [false, true] {
        assert_ready_ok!(service.poll_ready());
        let mut probe = task::spawn(service.call("pay"));
        assert_eq!(breaker.half_open_calls(), 1);
        assert!(!polled || probe.poll().is_pending());
        drop(probe);
        assert_eq!((breaker.half_open_calls(), breaker.state()), (0, CircuitState::HalfOpen));
    }
}

#[test]
fn a_panic_of_the_inner_service_is_a_failure_and_one_of_the_classifier_is_not() {
    let clock = ManualClock::new();
    let (at_once, in_future, in_classifier) = (breaker(&clock), breaker(&clock), breaker(&clock));
    let calls = |breaker: &CircuitBreaker, asynchronous: bool| {
        let service = service_fn(move |()| {
            assert!(asynchronous, "in the service");
            async { panic!("in the future") as Result<(), ()> }
        });
        let service = ServiceBuilder::new().layer(CircuitBreakerLayer::new(breaker.clone())).service(service);
        catch_unwind(AssertUnwindSafe(|| clock.block_on(service.oneshot(())))).is_err()
    };
    assert!(calls(&at_once, false) && calls(&in_future, true));
    let judge = |_: &Result<(), ()>| -> Answer { panic!("in the classifier") };
    let layer = CircuitBreakerLayer::new(in_classifier.clone()).classify(judge);
    let service = ServiceBuilder::new().layer(layer).service(service_fn(async |()| Ok::<(), ()>(())));
    assert!(catch_unwind(AssertUnwindSafe(|| clock.block_on(service.oneshot(())))).is_err());
    assert_eq!([at_once, in_future, in_classifier].map(|breaker| breaker.failure_count()), [1, 1, 0]);
}

#[test]
fn its_future_can_be_sent_and_names_its_circuit() {
    fn spawn<T: Send + 'static>(_: T) {}
    let breaker = breaker(&ManualClock::new());
    let mut service = CircuitBreakerLayer::new(breaker).layer(service_fn(async |()| Ok::<(), ()>(())));
    let call = service.call(());
    assert!(format!("{call:?}").contains("payments"), "{call:?}");
    spawn(call);
}
