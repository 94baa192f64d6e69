//! What the layer promises a tower stack, against a service that is played by hand.

use std::time::Duration;

use service_mesh_models::{Jitter, RetryBudgetConfig, RetryConfig};
use tokio_test::{assert_pending, assert_ready, assert_ready_err, assert_ready_ok, task};
use tower::{ServiceBuilder, ServiceExt, service_fn};
use tower_layer::Layer;
use tower_service::Service;
use tower_test::mock::{self, Mock};

use super::*;
use crate::driver::tower::{CircuitBreakerLayer, CloneRequest};
use crate::resilience::call_error::CallErrorKind;
use crate::resilience::circuit_breaker::CircuitBreaker;
use crate::resilience::outcome::{Answer, EveryError, Nested};
use crate::resilience::retry::{RetryBudget, RetryPolicy, RetryPolicyBuilder};
use crate::testing::ManualClock;
use crate::{CallError, Environment};

type Retried = RetryService<Mock<&'static str, u32>, EveryError, CloneRequest>;

fn builder(clock: &ManualClock) -> RetryPolicyBuilder {
    let config = RetryConfig::builder().jitter(Jitter::None).max_retries(2).build().unwrap();
    RetryPolicy::builder().config(config).environment(Environment::manual(clock))
}

fn retried(clock: &ManualClock) -> (mock::Spawn<Retried>, mock::Handle<&'static str, u32>) {
    mock::spawn_layer(RetryLayer::new(builder(clock).build()))
}

/// Receives the request that the service has been called with.
macro_rules! answer {
    ($handle:ident) => {{
        let (request, response) = assert_ready!(task::spawn($handle.next_request()).poll()).unwrap();
        assert_eq!(request, "pay");
        response
    }};
}

#[test]
fn readiness_is_the_inner_services_before_the_first_attempt_and_after_each_wait() {
    let clock = ManualClock::new();
    let (mut service, mut handle) = retried(&clock);
    handle.allow(0);
    assert_pending!(service.poll_ready());
    handle.allow(1);
    assert_ready_ok!(service.poll_ready());
    let mut call = task::spawn(service.call("pay"));
    answer!(handle).send_error("down");
    assert_pending!(call.poll());
    assert!(clock.advance_to_next_timer());
    // The wait is over, and nobody is called who is not ready.
    assert!(call.is_woken());
    assert_pending!(call.poll());
    assert_pending!(task::spawn(handle.next_request()).poll());
    handle.allow(1);
    assert!(call.is_woken());
    assert_pending!(call.poll());
    answer!(handle).send_response(7);
    assert_eq!(assert_ready_ok!(call.poll()), 7);
    assert_eq!(clock.sleeps(), [Duration::from_millis(100)]);
}

#[test]
fn nothing_is_reserved_while_a_call_waits() {
    let clock = ManualClock::new();
    let (mut service, mut handle) = retried(&clock);
    handle.allow(2);
    assert_ready_ok!(service.poll_ready());
    let mut call = task::spawn(service.call("pay"));
    answer!(handle).send_error("down");
    assert_pending!(call.poll());
    // The second place is for another caller as long as the first waits.
    assert_ready_ok!(service.poll_ready());
}

#[test]
fn the_last_error_comes_back_unchanged_with_the_attempts_beside_it() {
    let clock = ManualClock::new();
    let (mut service, mut handle) = retried(&clock);
    assert_ready_ok!(service.poll_ready());
    let mut call = task::spawn(service.call("pay"));
    for attempt in 1..=3 {
        answer!(handle).send_error(format!("down {attempt}"));
        if attempt < 3 {
            assert_pending!(call.poll());
            assert!(clock.advance_to_next_timer());
            assert_pending!(call.poll());
        }
    }
    let error = assert_ready_err!(call.poll());
    assert_eq!((error.kind(), error.attempts()), (&CallErrorKind::Failed, 3));
    assert_eq!(error.into_last().unwrap().to_string(), "down 3");
    assert_eq!(clock.sleeps(), [100, 200].map(Duration::from_millis));
}

#[test]
fn an_error_of_readiness_is_final_and_made_no_attempt() {
    let clock = ManualClock::new();
    let (mut service, mut handle) = retried(&clock);
    assert_ready_ok!(service.poll_ready());
    let mut call = task::spawn(service.call("pay"));
    answer!(handle).send_error("down");
    assert_pending!(call.poll());
    handle.send_error("gone");
    assert!(clock.advance_to_next_timer());
    let error = assert_ready_err!(call.poll());
    assert_eq!((error.attempts(), error.into_last().unwrap().to_string().as_str()), (1, "gone"));
}

#[test]
fn a_request_that_cannot_be_copied_is_sent_once_and_charges_no_budget() {
    let clock = ManualClock::new();
    let one = RetryBudgetConfig::builder().ratio(0.0).floor_per_second(0.1).build().unwrap();
    let policy = builder(&clock).budget(RetryBudget::new(one)).build();
    let layer = RetryLayer::new(policy).replay(|request: &&'static str| (*request == "read").then_some(*request));
    let mut calls = 0;
    let mut call = |request| {
        let mut service = layer.layer(service_fn(|_| std::future::ready(Err::<(), _>("down"))));
        calls += 1;
        clock.block_on(service.call(request)).unwrap_err().attempts()
    };
    assert_eq!([call("pay"), call("pay"), call("read"), call("read")], [1, 1, 2, 1]);
    assert_eq!(calls, 4);
}

#[test]
fn without_a_timer_it_says_so_and_keeps_the_last_failure() {
    let policy = builder(&ManualClock::new()).environment(Environment::system()).build();
    let mut service = RetryLayer::new(policy).layer(service_fn(async |()| Err::<(), _>("down")));
    let error = ManualClock::new().block_on(service.call(())).unwrap_err();
    assert!(matches!(error.kind(), CallErrorKind::NoTimer(_)), "{error:?}");
    assert_eq!((error.last(), error.attempts()), (Some(&"down"), 1));
}

#[test]
fn a_dropped_call_leaves_no_timer_behind() {
    let clock = ManualClock::new();
    let (mut service, mut handle) = retried(&clock);
    assert_ready_ok!(service.poll_ready());
    let mut call = task::spawn(service.call("pay"));
    answer!(handle).send_error("down");
    assert_pending!(call.poll());
    drop(call);
    assert!(!clock.advance_to_next_timer());
}

#[test]
fn an_ok_may_be_tried_again_and_nobody_waits_for_an_open_circuit_inside() {
    let clock = ManualClock::new();
    let breaker = CircuitBreaker::new("payments");
    let judge = |result: &Result<u16, CallError<()>>| match result {
        Ok(503) => Answer::failure(),
        Ok(_) | Err(_) => Answer::neutral(),
    };
    let inner = ServiceBuilder::new()
        .layer(CircuitBreakerLayer::new(breaker.clone()))
        .service(service_fn(|status| std::future::ready(Ok::<u16, ()>(status))));
    let service = RetryLayer::new(builder(&clock).build()).classify(judge).layer(inner.clone());
    assert_eq!(clock.block_on(service.clone().oneshot(503)).unwrap(), 503);
    assert_eq!(clock.sleeps().len(), 2);
    breaker.force_open();
    let service = RetryLayer::new(builder(&clock).build()).classify(Nested).layer(inner);
    let error = clock.block_on(service.oneshot(200)).unwrap_err();
    assert_eq!((error.attempts(), clock.sleeps().len()), (1, 2));
    assert!(error.into_last().unwrap().is_refusal());
}

#[test]
fn its_future_can_be_sent() {
    fn spawn<T: Send + 'static>(_: T) {}
    let mut service = RetryLayer::new(RetryPolicy::default()).layer(service_fn(async |()| Ok::<(), ()>(())));
    let call = service.call(());
    assert!(format!("{call:?}").contains("attempting"), "{call:?}");
    spawn(call);
}
