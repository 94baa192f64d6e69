//! What the layer promises a tower stack, against a service that is played by hand. How calls are decided is tested with
//! the machine.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::Duration;

use service_mesh_models::{CircuitBreakerConfig, Jitter, RetryConfig, ServiceInstance, ServiceProxyConfig};
use tokio_test::{assert_pending, assert_ready, assert_ready_err, assert_ready_ok, task};
use tower::{ServiceExt, service_fn};
use tower_layer::Layer;
use tower_service::Service;
use tower_test::mock::{self, Mock};

use super::*;
use crate::driver::tower::CloneRequest;
use crate::resilience::call_error::CallErrorKind;
use crate::resilience::outcome::Answer;
use crate::resilience::service_proxy::{CallOptions, Explanation, ServiceProxy, Target};
use crate::testing::ManualClock;
use crate::{Ending, Environment};

type Proxied = ServiceProxyService<Mock<(Target, &'static str), u32>, CallOptions, CloneRequest>;
type Handle = mock::Handle<(Target, &'static str), u32>;

const SECOND: Duration = Duration::from_secs(1);
const WAIT: Duration = Duration::from_millis(100);

fn proxy(clock: &ManualClock, ids: &[&str]) -> ServiceProxy {
    let circuit = CircuitBreakerConfig::builder().failure_threshold(3).build().unwrap();
    let limits = ServiceProxyConfig::builder().attempt_timeout(SECOND).call_timeout(3 * SECOND).build().unwrap();
    let retry = RetryConfig::builder().jitter(Jitter::None).max_retries(2).build().unwrap();
    let builder = ServiceProxy::builder("payments").environment(Environment::manual(clock));
    let proxy = builder.circuit_breaker(circuit).config(limits).retry(retry).build();
    for id in ids {
        proxy.load_balancer().register(ServiceInstance::new(*id, *id, 80));
    }
    proxy
}

fn proxied(proxy: &ServiceProxy) -> (mock::Spawn<Proxied>, Handle) {
    mock::spawn_layer(ServiceProxyLayer::new(proxy.clone()))
}

fn in_flight(proxy: &ServiceProxy) -> u32 {
    proxy.load_balancer().endpoints().iter().map(|endpoint| endpoint.in_flight).sum()
}

fn failures(proxy: &ServiceProxy, id: &str) -> u32 {
    proxy.instance_circuit_breaker(id).unwrap().failure_count()
}

/// Receives the request that the service has been called with, and sees that it went to this instance.
macro_rules! answer {
    ($handle:ident, $id:expr) => {{
        let ((target, request), response) = assert_ready!(task::spawn($handle.next_request()).poll()).unwrap();
        assert_eq!((target.id.as_str(), request), ($id, "pay"));
        response
    }};
}

#[test]
fn it_is_ready_before_the_inner_service_is_and_calls_it_only_when_that_is() {
    let clock = ManualClock::new();
    let proxy = proxy(&clock, &["a"]);
    let (mut service, mut handle) = proxied(&proxy);
    handle.allow(0);
    assert_ready_ok!(service.poll_ready());
    let mut call = task::spawn(service.call("pay"));
    assert_eq!(in_flight(&proxy), 0);
    assert_pending!(call.poll());
    assert_eq!(in_flight(&proxy), 1);
    assert_pending!(task::spawn(handle.next_request()).poll());
    handle.allow(1);
    assert!(call.is_woken());
    assert_pending!(call.poll());
    answer!(handle, "a").send_response(7);
    assert_eq!(assert_ready_ok!(call.poll()), 7);
    assert_eq!((in_flight(&proxy), clock.sleeps()), (0, vec![SECOND]));
}

#[test]
fn a_failed_attempt_goes_on_elsewhere_and_the_service_circuit_hears_nothing() {
    let clock = ManualClock::new();
    let proxy = proxy(&clock, &["a", "b"]);
    let (mut service, mut handle) = proxied(&proxy);
    let mut call = task::spawn(service.call("pay"));
    assert_pending!(call.poll());
    answer!(handle, "a").send_error("down");
    assert_pending!(call.poll());
    assert_eq!((in_flight(&proxy), failures(&proxy, "a")), (0, 1));
    clock.advance(WAIT);
    assert_pending!(call.poll());
    answer!(handle, "b").send_response(7);
    assert_eq!(assert_ready_ok!(call.poll()), 7);
    assert_eq!((in_flight(&proxy), proxy.circuit_breaker().failure_count()), (0, 0));
}

#[test]
fn an_attempt_that_hangs_is_dropped_at_its_limit_and_goes_on_elsewhere() {
    let clock = ManualClock::new();
    let proxy = proxy(&clock, &["a", "b"]);
    let (mut service, mut handle) = proxied(&proxy);
    let mut call = task::spawn(service.call("pay"));
    assert_pending!(call.poll());
    let hung = answer!(handle, "a");
    clock.advance(SECOND);
    assert!(call.is_woken());
    assert_pending!(call.poll());
    assert_eq!((in_flight(&proxy), failures(&proxy, "a")), (0, 1));
    clock.advance(WAIT);
    assert_pending!(call.poll());
    hung.send_response(1);
    answer!(handle, "b").send_response(7);
    assert_eq!(assert_ready_ok!(call.poll()), 7);
}

#[test]
fn a_service_that_is_never_ready_runs_into_the_limits_and_keeps_its_request() {
    let clock = ManualClock::new();
    let proxy = proxy(&clock, &["a", "b", "c"]);
    let (service, mut handle) = proxied(&proxy);
    handle.allow(0);
    let error = clock.block_on(service.into_inner().oneshot("pay")).unwrap_err();
    assert_eq!((error.kind(), error.attempts()), (&CallErrorKind::DeadlineExceeded, 3));
    assert_eq!((["a", "b", "c"].map(|id| failures(&proxy, id)), in_flight(&proxy)), ([1; 3], 0));
}

#[test]
fn a_clone_that_fails_to_become_ready_has_failed_its_attempt() {
    let clock = ManualClock::new();
    let proxy = proxy(&clock, &["a", "b"]);
    let (mut service, mut handle) = proxied(&proxy);
    handle.send_error("gone");
    let mut call = task::spawn(service.call("pay"));
    assert_pending!(call.poll());
    assert_eq!((failures(&proxy, "a"), in_flight(&proxy)), (1, 0));
    // The service stays ready: it is the clone that is dead.
    assert_ready_ok!(service.poll_ready());
}

#[test]
fn a_refusal_is_an_error_of_the_call_and_the_inner_service_is_not_asked() {
    let clock = ManualClock::new();
    let proxy = proxy(&clock, &[]);
    let (mut service, mut handle) = proxied(&proxy);
    assert_ready_ok!(service.poll_ready());
    let error = assert_ready_err!(task::spawn(service.call("pay")).poll());
    assert!(matches!(error.kind(), CallErrorKind::NoHealthyInstance(_)), "{error:?}");
    proxy.load_balancer().register(ServiceInstance::new("a", "a", 80));
    proxy.circuit_breaker().force_open();
    assert_ready_ok!(service.poll_ready());
    let error = assert_ready_err!(task::spawn(service.call("pay")).poll());
    assert_eq!((error.to_string().as_str(), error.attempts()), ("circuit payments is open", 0));
    assert_pending!(task::spawn(handle.next_request()).poll());
}

#[test]
fn when_the_next_attempt_is_bound_to_be_refused_the_call_ends_with_its_last_error() {
    let clock = ManualClock::new();
    let proxy = proxy(&clock, &["a"]);
    proxy.update_circuit_breaker(CircuitBreakerConfig::builder().failure_threshold(1).build().unwrap());
    let service = ServiceProxyLayer::new(proxy).layer(service_fn(async |_| Err::<(), _>("down")));
    let error = clock.block_on(service.oneshot("pay")).unwrap_err();
    assert!(matches!(error.kind(), CallErrorKind::CircuitOpen(_)), "{error:?}");
    assert_eq!((error.last(), error.attempts(), clock.sleeps()), (Some(&"down"), 1, vec![SECOND]));
}

#[test]
fn a_dropped_call_gives_everything_back_wherever_it_is() {
    let clock = ManualClock::new();
    let proxy = proxy(&clock, &["a", "b"]);
    let (mut service, mut handle) = proxied(&proxy);
    drop(service.call("pay"));
    handle.allow(0);
    let mut readying = task::spawn(service.call("pay"));
    assert_pending!(readying.poll());
    drop(readying);
    handle.allow(1);
    let mut running = task::spawn(service.call("pay"));
    assert_pending!(running.poll());
    let response = answer!(handle, "b");
    assert_eq!(in_flight(&proxy), 1);
    drop(running);
    assert_eq!((in_flight(&proxy), failures(&proxy, "a"), failures(&proxy, "b")), (0, 0, 0));
    response.send_response(7);
    handle.allow(1);
    let mut waiting = task::spawn(service.call("pay"));
    assert_pending!(waiting.poll());
    answer!(handle, "a").send_error("down");
    assert_pending!(waiting.poll());
    drop(waiting);
    assert_eq!((in_flight(&proxy), failures(&proxy, "a")), (0, 1));
    assert!(!clock.advance_to_next_timer());
}

#[test]
fn a_request_that_cannot_be_copied_is_sent_once() {
    let clock = ManualClock::new();
    let proxy = proxy(&clock, &["a", "b"]);
    let layer = ServiceProxyLayer::new(proxy.clone()).replay(|_: &&str| None);
    let failing = layer.layer(service_fn(async |_| Err::<(), _>("down")));
    let error = clock.block_on(failing.oneshot("pay")).unwrap_err();
    assert_eq!((error.kind(), error.last(), error.attempts()), (&CallErrorKind::Failed, Some(&"down"), 1));
    let hanging = layer.layer(service_fn(|_| std::future::pending::<Result<(), ()>>()));
    let error = clock.block_on(hanging.oneshot("pay")).unwrap_err();
    assert_eq!((error.kind(), error.attempts()), (&CallErrorKind::AttemptTimedOut, 1));
    assert_eq!((failures(&proxy, "a"), failures(&proxy, "b")), (1, 1));
}

#[test]
fn each_request_may_say_how_it_is_called() {
    let clock = ManualClock::new();
    let proxy = proxy(&clock, &["a"]);
    let explanation = Explanation::new();
    let judge = |result: &Result<u16, ()>| if *result == Ok(503) { Answer::failure() } else { Answer::success() };
    let options = {
        let explanation = explanation.clone();
        move |seconds: &u64| {
            CallOptions::new().timeout(Duration::from_secs(*seconds)).explain(&explanation).classify(judge)
        }
    };
    let layer = ServiceProxyLayer::new(proxy).options(options);
    let service = layer.layer(service_fn(async |_| Ok::<_, ()>(503)));
    assert_eq!(clock.block_on(service.clone().oneshot(3)), Ok(503));
    assert_eq!(explanation.story().unwrap().attempts.len(), 3);
    let error = clock.block_on(service.oneshot(0)).unwrap_err();
    assert_eq!(error.kind(), &CallErrorKind::DeadlineExceeded);
    assert_eq!(explanation.story().unwrap().ending, Ending::Refused(CallErrorKind::DeadlineExceeded));
}

#[test]
fn without_a_timer_it_says_so_and_gives_everything_back() {
    let limits = ServiceProxyConfig::builder().attempt_timeout(SECOND).build().unwrap();
    // A clock of its own is a given environment, and one without an async timer unless tokio's is there.
    let environment = Environment::system().with_clock(ManualClock::new());
    let proxy = ServiceProxy::builder("payments").environment(environment).config(limits).build();
    proxy.load_balancer().register(ServiceInstance::new("a", "a", 80));
    let service = ServiceProxyLayer::new(proxy.clone()).layer(service_fn(async |_| Ok::<(), ()>(())));
    let error = ManualClock::new().block_on(service.oneshot("pay")).unwrap_err();
    assert!(matches!(error.kind(), CallErrorKind::NoTimer(_)), "{error:?}");
    assert_eq!((error.attempts(), in_flight(&proxy), failures(&proxy, "a")), (0, 0, 0));
}

#[test]
fn a_panic_of_the_inner_service_is_a_failure_of_the_instance() {
    let clock = ManualClock::new();
    let proxy = proxy(&clock, &["a"]);
    let layer = ServiceProxyLayer::new(proxy.clone());
    let at_once = layer.layer(service_fn(|_| -> std::future::Ready<Result<(), ()>> { panic!("in the service") }));
    let in_future = layer.layer(service_fn(async |_| -> Result<(), ()> { panic!("in the future") }));
    let at_once = catch_unwind(AssertUnwindSafe(|| clock.block_on(at_once.oneshot("pay"))));
    let in_future = catch_unwind(AssertUnwindSafe(|| clock.block_on(in_future.oneshot("pay"))));
    assert!(at_once.is_err() && in_future.is_err());
    assert_eq!((failures(&proxy, "a"), in_flight(&proxy)), (2, 0));
}

#[test]
fn its_future_can_be_sent() {
    fn spawn<T: Send + 'static>(_: T) {}
    let clock = ManualClock::new();
    let (service, _handle) = mock::pair::<(Target, &'static str), u32>();
    let call = ServiceProxyLayer::new(proxy(&clock, &["a"])).layer(service).call("pay");
    assert!(format!("{call:?}").contains("between attempts"), "{call:?}");
    spawn(call);
}
