//! The machine by itself: what it gives back, whom it tells, and what it may be held by. Its rules over time are
//! scenarios in `conformance/`.

use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::time::Duration;

use service_mesh_models::{CircuitState, RetryConfig, ServiceInstance};

use super::*;
use crate::resilience::call_error::CallErrorKind;
use crate::resilience::observer::{AttemptReport, CallReport, Scope};
use crate::resilience::outcome::{Answer, Outcome};
use crate::testing::{ManualClock, Recorder};
use crate::{Environment, GivenUp};

const SECOND: Duration = Duration::from_secs(1);

fn circuit(failures: u32) -> CircuitBreakerConfig {
    CircuitBreakerConfig::builder().failure_threshold(failures).build().unwrap()
}

fn proxy(
    clock: &ManualClock,
    ids: &[&str],
    change: impl FnOnce(ServiceProxyBuilder) -> ServiceProxyBuilder,
) -> ServiceProxy {
    let builder = ServiceProxy::builder("payments").environment(Environment::manual(clock)).circuit_breaker(circuit(3));
    let proxy = change(builder).build();
    for id in ids {
        proxy.load_balancer().register(ServiceInstance::new(*id, *id, 80));
    }
    proxy
}

fn in_flight(proxy: &ServiceProxy) -> u32 {
    proxy.load_balancer().endpoints().iter().map(|endpoint| endpoint.in_flight).sum()
}

#[test]
fn a_dropped_attempt_gives_everything_back_and_counts_nothing() {
    let clock = ManualClock::new();
    let proxy = proxy(&clock, &["a"], |builder| builder);
    let options = CallOptions::new();
    let attempt = proxy.begin(&options).admit().unwrap();
    assert_eq!((in_flight(&proxy), attempt.number(), attempt.time_left()), (1, 1, None));
    drop(attempt);
    assert_eq!(in_flight(&proxy), 0);
    assert_eq!(proxy.instance_circuit_breaker("a").unwrap().failure_count(), 0);

    let attempt = proxy.begin_owned(&options).admit().unwrap();
    assert!(matches!(attempt.settle(Answer::success()), Verdict::Return));
    assert_eq!(in_flight(&proxy), 0);
}

#[test]
fn an_attempt_that_outlived_its_limit_is_a_failure_even_if_it_is_dropped_or_succeeds() {
    let clock = ManualClock::new();
    let config = ServiceProxyConfig::builder().attempt_timeout(SECOND).build().unwrap();
    let proxy = proxy(&clock, &["a"], |builder| builder.config(config));
    let circuit = proxy.instance_circuit_breaker("a").unwrap();
    let options = CallOptions::new();
    let attempt = proxy.begin(&options).admit().unwrap();
    clock.advance(SECOND);
    drop(attempt);
    assert_eq!((circuit.failure_count(), in_flight(&proxy)), (1, 0));
    let attempt = proxy.begin(&options).admit().unwrap();
    clock.advance(SECOND);
    assert!(matches!(attempt.settle(Answer::success()), Verdict::Return));
    assert_eq!((circuit.failure_count(), in_flight(&proxy)), (2, 0));
    let attempt = proxy.begin(&options).admit().unwrap();
    clock.advance(Duration::from_nanos(999_999_999));
    drop(attempt);
    assert_eq!(circuit.failure_count(), 2);
}

#[test]
fn a_panic_is_a_failure_of_the_instance_and_goes_on() {
    let clock = ManualClock::new();
    let proxy = proxy(&clock, &["a"], |builder| builder);
    let hook = std::panic::take_hook();
    std::panic::set_hook(Box::new(|_| {}));
    let unwound = catch_unwind(AssertUnwindSafe(|| proxy.call(|_| -> Result<(), ()> { panic!("in the function") })));
    let asynchronous = catch_unwind(AssertUnwindSafe(|| {
        clock.block_on(proxy.call_async(async |_| -> Result<(), ()> { panic!("in the future") }))
    }));
    std::panic::set_hook(hook);
    assert!(unwound.is_err() && asynchronous.is_err());
    assert_eq!(proxy.instance_circuit_breaker("a").unwrap().failure_count(), 2);
    assert_eq!((proxy.circuit_breaker().failure_count(), in_flight(&proxy)), (2, 0));
}

#[test]
fn one_failing_instance_cannot_trip_the_service() {
    let clock = ManualClock::new();
    let proxy = proxy(&clock, &["a", "b"], |builder| builder);
    for _ in 0..20 {
        let answer = proxy.call(|attempt| if attempt.instance().id == "a" { Err("down") } else { Ok(()) });
        assert_eq!(answer, Ok(()));
    }
    assert_eq!(proxy.instance_circuit_breaker("a").unwrap().state(), CircuitState::Open);
    assert_eq!(proxy.circuit_breaker().failure_count(), 0);
}

#[test]
fn nobody_sleeps_when_the_next_attempt_is_bound_to_be_refused() {
    let clock = ManualClock::new();
    let retry = RetryConfig::builder().max_retries(10).build().unwrap();
    let proxy = proxy(&clock, &["a"], |builder| builder.retry(retry));
    let error = proxy.call(|attempt| Err::<(), _>(attempt.number())).unwrap_err();
    assert_eq!((error.attempts(), error.last(), clock.sleeps().len()), (3, Some(&3), 2));
    assert!(matches!(error.kind(), CallErrorKind::CircuitOpen(refusal) if refusal.name() == "payments"));
    assert_eq!(error.retry_after(), Some(30 * SECOND));
    assert_eq!(proxy.circuit_breaker().state(), CircuitState::Open);
}

#[test]
fn an_instance_that_leaves_and_returns_under_its_address_keeps_its_circuit_only_while_registered() {
    let clock = ManualClock::new();
    let proxy = proxy(&clock, &["a", "b"], |builder| builder);
    let open = |id: &str| proxy.instance_circuit_breaker(id).unwrap().state();
    proxy.instance_circuit_breaker("a").unwrap().force_open();
    proxy.load_balancer().mark_healthy("a", false);
    assert!(proxy.instance_circuit_breaker("a").is_none());
    proxy.load_balancer().mark_healthy("a", true);
    assert_eq!(open("a"), CircuitState::Open);
    proxy.load_balancer().deregister("a");
    assert!(proxy.instance_circuit_breaker("a").is_none());
    proxy.load_balancer().register(ServiceInstance::new("a", "a", 80));
    assert_eq!(open("a"), CircuitState::Closed);
}

#[test]
fn a_story_tells_each_attempt_and_who_was_passed_over() {
    let clock = ManualClock::new();
    let proxy = proxy(&clock, &["a", "b"], |builder| builder);
    proxy.instance_circuit_breaker("a").unwrap().force_open();
    let explanation = Explanation::new();
    let options = CallOptions::new().explain(&explanation);
    let answer = proxy.call_with(&options, |attempt| {
        clock.advance(SECOND);
        if attempt.number() == 1 { Err("down") } else { Ok(()) }
    });
    assert_eq!(answer, Ok(()));
    let story = explanation.story().unwrap();
    assert_eq!((story.ending.clone(), story.attempts.len()), (Ending::Returned(Outcome::Success), 2));
    assert_eq!(story.attempts[0].passed_over[0].instance, "a");
    assert_eq!(story.attempts[1].instance.as_deref(), Some("b"));
    assert_eq!((story.attempts[1].outcome, story.attempts[1].took), (Some(Outcome::Success), SECOND));
    assert!(story.to_string().contains("attempt 1 after 0.0ns: b, failure in 1.0s; passed over a (forced)"), "{story}");

    drop(proxy.begin(&options).admit().unwrap());
    assert_eq!(explanation.story().unwrap().ending, Ending::Abandoned);
    assert_eq!(explanation.story().unwrap().attempts[0].outcome, None);
}

#[test]
fn a_story_tells_how_an_attempt_ended_that_nobody_settled() {
    let clock = ManualClock::new();
    let config = ServiceProxyConfig::builder().attempt_timeout(SECOND).build().unwrap();
    let proxy = proxy(&clock, &["a"], |builder| builder.config(config));
    let explanation = Explanation::new();
    let options = CallOptions::new().explain(&explanation);
    let last = || {
        let story = explanation.story().unwrap();
        let attempt = story.attempts.last().unwrap();
        (attempt.outcome, attempt.timed_out, attempt.took)
    };

    let attempt = proxy.begin(&options).admit().unwrap();
    clock.advance(SECOND);
    drop(attempt);
    assert_eq!(last(), (Some(Outcome::Failure), true, SECOND));

    let panics = || proxy.call_with(&options, |_| -> Result<(), ()> { resume_unwind(Box::new("a fault")) });
    assert!(catch_unwind(AssertUnwindSafe(panics)).is_err());
    assert_eq!(last(), (Some(Outcome::Failure), false, Duration::ZERO));
    assert_eq!(explanation.story().unwrap().ending, Ending::Abandoned);
}

#[test]
fn a_stopped_attempt_says_whose_limit_it_was_and_the_last_one_ends_the_call() {
    let clock = ManualClock::new();
    let retry = RetryConfig::builder().max_retries(1).jitter(service_mesh_models::Jitter::None).build().unwrap();
    let config = ServiceProxyConfig::builder().attempt_timeout(3 * SECOND).call_timeout(5 * SECOND).build().unwrap();
    let observer = Careless::default();
    let change = |builder: ServiceProxyBuilder| builder.retry(retry).config(config).observer(observer.clone());
    let proxy = proxy(&clock, &["a", "b"], change);
    let told = || std::mem::take(&mut *observer.0.lock().unwrap_or_else(std::sync::PoisonError::into_inner));
    let explanation = Explanation::new();
    let options = CallOptions::new().explain(&explanation);

    let attempt = proxy.begin(&options).admit().unwrap();
    clock.advance(3 * SECOND);
    let (wait, call) = attempt.stop(Answer::failure()).unwrap();
    clock.advance(wait);
    let attempt = call.admit().unwrap();
    clock.advance(2 * SECOND);
    let refused = attempt.stop(Answer::failure()).unwrap_err();
    assert_eq!((refused.kind(), refused.attempts()), (&CallErrorKind::DeadlineExceeded, 2));
    let story = explanation.story().unwrap();
    assert_eq!(story.ending, Ending::TimedOut(CallErrorKind::DeadlineExceeded));
    assert_eq!(story.given_up, Some(GivenUp::RetriesSpent));
    assert!(story.to_string().starts_with("call of payments took 5.1s: deadline exceeded (all retries are used up)\n"));
    assert!(story.to_string().ends_with("attempt 2 after 3.1s: b, timed out in 2.0s"), "{story}");
    // A call that was tried is no refusal.
    let settled = ["1 a failure true 3s Some(100ms)", "2 b failure true 2s None"].map(str::to_owned);
    assert_eq!(told(), [&settled[..], &["2 b failure 5.1s retries_spent".to_owned()]].concat());

    // What may not be sent again is not: the attempt's own limit ends the call.
    let attempt = proxy.begin(&options).admit().unwrap();
    clock.advance(3 * SECOND);
    let refused = attempt.stop(Answer::failure().retryable(false)).unwrap_err();
    assert_eq!((refused.kind(), refused.attempts()), (&CallErrorKind::AttemptTimedOut, 1));
    assert_eq!(explanation.story().unwrap().given_up, Some(GivenUp::NotRetryable));
}

#[test]
fn sampled_stories_and_retries_reach_the_listeners() {
    let (clock, recorder) = (ManualClock::new(), Recorder::new());
    let config = ServiceProxyConfig::builder().explain_ratio(1.0).build().unwrap();
    let proxy = proxy(&clock, &["a", "b"], |builder| builder.config(config).listener(recorder.clone()));
    let answer = proxy.call(|attempt| if attempt.number() == 1 { Err("down") } else { Ok(()) });
    assert_eq!(answer, Ok(()));
    let told = recorder.take();
    assert!(matches!(told[0].kind, EventKind::Retry { attempts: 1, .. }), "{told:?}");
    assert!(told[0].to_string().starts_with("payments: a failed: retry in "), "{told:?}");
    assert!(told[0].to_string().ends_with(" after attempt 1"), "{told:?}");
    assert!(matches!(&told[1].kind, EventKind::Story(story) if story.attempts.len() == 2), "{told:?}");
}

#[test]
fn a_late_subscriber_hears_every_circuit() {
    let (clock, recorder) = (ManualClock::new(), Recorder::new());
    let shared = CircuitBreaker::builder("shared").environment(Environment::manual(&clock)).build();
    let own = Recorder::new();
    shared.subscribe(own.clone());
    let proxy = proxy(&clock, &["a"], |builder| builder.shared_circuit_breaker(shared));
    proxy.subscribe(recorder.clone());
    proxy.circuit_breaker().force_open();
    proxy.load_balancer().register(ServiceInstance::new("b", "b", 80));
    for id in ["a", "b"] {
        proxy.instance_circuit_breaker(id).unwrap().force_open();
    }
    let names: Vec<_> = recorder.take().iter().map(|event| event.name.to_string()).collect();
    assert_eq!(names, ["shared", "payments/a", "payments/b"]);
    assert_eq!(own.take().len(), 1);
}

/// Writes down what it is told, in a line each, and panics after that.
#[derive(Clone, Default)]
struct Careless(Arc<std::sync::Mutex<Vec<String>>>);

impl Careless {
    fn tell(&self, line: String) {
        self.0.lock().unwrap_or_else(std::sync::PoisonError::into_inner).push(line);
        resume_unwind(Box::new("an observer's own fault"));
    }
}

impl Observer for Careless {
    fn attempt_ended(&self, attempt: &AttemptReport<'_>) {
        let AttemptReport { instance, number, outcome, timed_out, took, retry_after, .. } = attempt;
        let id = &instance.id;
        self.tell(format!("{number} {id} {} {timed_out} {took:?} {retry_after:?}", outcome.as_str()));
    }

    fn call_ended(&self, call: &CallReport<'_>) {
        let id = call.instance.map_or("nobody", |instance| &instance.id);
        let reason = call.given_up.map(|reason| format!(" {}", reason.as_str())).unwrap_or_default();
        self.tell(format!("{} {id} {} {:?}{reason}", call.attempts, call.outcome_word(), call.took));
    }

    fn scope(&self, _: &Arc<str>) -> Option<Box<dyn Scope>> {
        resume_unwind(Box::new("an observer's own fault"));
    }
}

#[test]
fn observers_are_told_each_attempt_and_each_call_and_a_panic_of_theirs_harms_nobody() {
    let clock = ManualClock::new();
    let observer = Careless::default();
    let retry = RetryConfig::builder().jitter(service_mesh_models::Jitter::None).build().unwrap();
    let config = ServiceProxyConfig::builder().attempt_timeout(3 * SECOND).build().unwrap();
    let change = |builder: ServiceProxyBuilder| builder.retry(retry).config(config).observer(observer.clone());
    let proxy = proxy(&clock, &["a", "b"], change);
    let told = || std::mem::take(&mut *observer.0.lock().unwrap_or_else(std::sync::PoisonError::into_inner));
    let options = CallOptions::new();

    let answer = proxy.call(|attempt| {
        clock.advance(SECOND);
        if attempt.number() == 1 { Err("down") } else { Ok(()) }
    });
    assert_eq!(answer, Ok(()));
    assert_eq!(told(), ["1 a failure false 1s Some(100ms)", "2 b success false 1s None", "2 b success 2.1s"]);

    let attempt = proxy.begin(&options).admit().unwrap();
    clock.advance(3 * SECOND);
    drop(attempt);
    assert_eq!(told(), ["1 a failure true 3s None", "1 a failure 3s"]);

    let attempt = proxy.begin(&options).admit().unwrap();
    drop(attempt.settle(Answer::failure()));
    assert_eq!(told(), ["1 b failure false 0ns Some(100ms)", "1 b neutral 0ns"]);

    proxy.circuit_breaker().force_open();
    assert!(proxy.begin(&options).admit().is_err());
    assert_eq!(told(), ["0 nobody circuit_open 0ns"]);
    assert_eq!(in_flight(&proxy), 0);
}

#[test]
fn an_observer_changes_nothing_of_what_a_call_picks() {
    let picks = |observed: bool| {
        let proxy = proxy(&ManualClock::new(), &["a", "b", "c"], |builder| builder);
        proxy.load_balancer().set_strategy(service_mesh_models::LoadBalancerStrategy::Random);
        if observed {
            proxy.observe(Careless::default());
        }
        let pick = || proxy.call(|attempt| Ok::<_, ()>(attempt.instance().id.clone())).unwrap();
        std::iter::repeat_with(pick).take(50).collect::<Vec<_>>()
    };
    assert_eq!(picks(true), picks(false));
}

#[test]
fn settings_change_under_way() {
    let clock = ManualClock::new();
    let proxy = proxy(&clock, &["a", "b"], |builder| builder);
    proxy.update_circuit_breaker(circuit(1));
    assert_eq!(proxy.instance_circuit_breaker("a").unwrap().config().failure_threshold(), 1);
    proxy.update_instance_circuit_breaker(circuit(7));
    proxy.update_circuit_breaker(circuit(2));
    assert_eq!(proxy.instance_circuit_breaker("a").unwrap().config().failure_threshold(), 7);
    assert_eq!(proxy.circuit_breaker().config().failure_threshold(), 2);
    proxy.load_balancer().register(ServiceInstance::new("c", "c", 80));
    assert_eq!(proxy.instance_circuit_breaker("c").unwrap().config().failure_threshold(), 7);
    proxy.update_config(ServiceProxyConfig::builder().call_timeout(SECOND).build().unwrap());
    let attempt = proxy.begin(&CallOptions::new()).admit().unwrap();
    assert_eq!(attempt.time_left(), Some(SECOND));
}

#[test]
fn circuits_of_instances_are_switched_off_and_on_and_inherit_again() {
    let clock = ManualClock::new();
    let proxy = proxy(&clock, &["a", "b"], |builder| builder.instance_circuit_breaker(circuit(7)));
    let threshold = || Some(proxy.instance_circuit_breaker("a")?.config().failure_threshold());
    proxy.instance_circuit_breaker("a").unwrap().record_failure();
    proxy.inherit_instance_circuit_breaker();
    assert_eq!(threshold(), Some(3));
    assert_eq!(proxy.instance_circuit_breaker("a").unwrap().failure_count(), 1);
    proxy.update_circuit_breaker(circuit(2));
    assert_eq!(threshold(), Some(2));
    proxy.instance_circuit_breaker("a").unwrap().force_open();
    proxy.remove_instance_circuit_breakers();
    assert_eq!(threshold(), None);
    assert_eq!(proxy.call(|attempt| Ok::<_, ()>(attempt.instance().id.clone())), Ok(String::from("a")));
    proxy.inherit_instance_circuit_breaker();
    assert_eq!((threshold(), proxy.instance_circuit_breaker("a").unwrap().state()), (Some(2), CircuitState::Closed));
}

#[test]
fn a_circuit_may_be_reconfigured_from_within_its_listener() {
    let clock = ManualClock::new();
    let proxy = proxy(&clock, &["a"], |builder| builder);
    let inner = proxy.clone();
    proxy.subscribe(move |_: &Event| inner.update_circuit_breaker(circuit(9)));
    proxy.circuit_breaker().force_open();
    assert_eq!(proxy.circuit_breaker().config().failure_threshold(), 9);
}

#[test]
fn a_call_may_be_sent_to_another_thread() {
    fn spawn<T: Send + 'static>(_: T) {}
    let proxy = ServiceProxy::new("payments");
    let (other, path) = (proxy.clone(), String::from("/"));
    spawn(async move {
        let fetch = async |target: Target| {
            std::future::ready(()).await;
            if path.is_empty() { Err("empty") } else { Ok(target.address()) }
        };
        proxy.call_async(fetch).await.is_ok()
    });
    spawn(async move { other.call_async(|target| async move { Ok::<_, ()>(target.address()) }).await });
}

/// One call's attempt at "a" of a proxy whose circuits trip at once.
fn attempt_at_a(clock: &ManualClock, ids: &[&str]) -> (ServiceProxy, Attempt<ServiceProxy>) {
    let config = ServiceProxyConfig::builder().attempt_timeout(SECOND).build().unwrap();
    let proxy = proxy(clock, ids, |builder| builder.circuit_breaker(circuit(1)).config(config));
    let attempt = proxy.begin_owned(&CallOptions::new()).admit().unwrap();
    assert_eq!(attempt.instance().id, "a");
    (proxy, attempt)
}

#[test]
fn an_instance_that_has_left_hides_no_failure() {
    let clock = ManualClock::new();
    let (proxy, attempt) = attempt_at_a(&clock, &["a", "b"]);
    proxy.load_balancer().deregister("b");
    drop(attempt.settle(Answer::failure()));
    assert_eq!(proxy.circuit_breaker().state(), CircuitState::Open);

    let (proxy, attempt) = attempt_at_a(&clock, &["a", "b"]);
    proxy.load_balancer().mark_healthy("b", false);
    clock.advance(SECOND);
    drop(attempt);
    assert_eq!(proxy.circuit_breaker().state(), CircuitState::Open);
}

#[test]
fn an_instance_that_came_meanwhile_hides_a_failure() {
    let clock = ManualClock::new();
    let (proxy, attempt) = attempt_at_a(&clock, &["a"]);
    proxy.load_balancer().register(ServiceInstance::new("b", "b", 80));
    let Verdict::Retry { call, .. } = attempt.settle(Answer::failure()) else { panic!("b would admit") };
    assert_eq!(call.admit().unwrap().instance().id, "b");
    assert_eq!(proxy.circuit_breaker().state(), CircuitState::Closed);
}

#[test]
fn a_call_that_has_tried_everyone_goes_round_again_in_order() {
    let clock = ManualClock::new();
    let retry = RetryConfig::builder().max_retries(5).build().unwrap();
    let proxy = proxy(&clock, &["a", "b"], |builder| builder.circuit_breaker(circuit(9)).retry(retry));
    let mut ids = String::new();
    let answer = proxy.call(|attempt| {
        ids.push_str(&attempt.instance().id);
        Err::<(), _>("down")
    });
    assert_eq!((answer.unwrap_err().attempts(), ids.as_str()), (6, "ababab"));
}

#[test]
fn who_cannot_be_picked_has_no_part_in_the_share_that_may_be_ejected() {
    let clock = ManualClock::new();
    let config = ServiceProxyConfig::builder().max_ejected_ratio(0.5).build().unwrap();
    let proxy = proxy(&clock, &["a", "b", "c"], |builder| builder.config(config));
    let circuit = |id: &str| proxy.instance_circuit_breaker(id).unwrap();
    let fail = |id: &str| {
        let circuit = circuit(id);
        (0..3).for_each(|_| circuit.record_failure());
        circuit.state()
    };
    let held = circuit("a");
    assert_eq!((fail("a"), fail("b")), (CircuitState::Open, CircuitState::Closed));
    // Unhealthy, it is not in rotation: one of the other two may go.
    proxy.load_balancer().mark_healthy("a", false);
    assert_eq!((fail("b"), fail("c")), (CircuitState::Open, CircuitState::Closed));
    // Back with an open circuit, it is counted again.
    proxy.load_balancer().mark_healthy("a", true);
    circuit("b").reset();
    assert_eq!(fail("b"), CircuitState::Closed);
    // Gone, it counts no longer, although somebody holds its circuit.
    proxy.load_balancer().deregister("a");
    assert_eq!((fail("b"), held.state()), (CircuitState::Open, CircuitState::Open));
    // Nobody who is gone takes a share.
    held.reset();
    (0..3).for_each(|_| held.record_failure());
    circuit("b").reset();
    assert_eq!((held.state(), fail("c")), (CircuitState::Open, CircuitState::Open));
}

#[test]
fn whoever_balances_in_his_own_way_is_asked_until_a_circuit_gives_leave() {
    let clock = ManualClock::new();
    let proxy = proxy(&clock, &["a", "b", "c"], |builder| builder);
    proxy.instance_circuit_breaker("c").unwrap().force_open();
    let explanation = Explanation::new();
    let call = proxy.begin(&CallOptions::new().explain(&explanation));
    let mut names = ["nobody", "c", "b", "a"].map(String::from).into_iter();
    let attempt = call.admit_by(|| names.next()).unwrap();
    assert_eq!(attempt.instance().id, "b");
    assert!(matches!(attempt.settle(Answer::success()), Verdict::Return));
    let story = explanation.story().unwrap();
    assert_eq!(story.attempts[0].passed_over[0].instance, "c");

    let refused = |names: &[&str]| {
        let mut names = names.iter().map(ToString::to_string);
        proxy.begin(&CallOptions::new()).admit_by(|| names.next()).unwrap_err().into_kind()
    };
    assert!(matches!(refused(&["nobody"]), CallErrorKind::NoHealthyInstance(_)));
    assert!(matches!(refused(&["c"]), CallErrorKind::CircuitOpen(_)));
    assert_eq!(in_flight(&proxy), 0);
}

#[test]
fn an_attempt_gives_back_what_was_attached_to_its_instance() {
    let clock = ManualClock::new();
    let proxy = proxy(&clock, &[], |builder| builder);
    proxy.load_balancer().register_with(ServiceInstance::new("a", "a", 80), Arc::new(7_u8));
    let attempt = proxy.begin(&CallOptions::new()).admit().unwrap();
    assert_eq!((attempt.attachment(), attempt.registration().in_flight()), (Some(&7_u8), 1));
}

#[test]
fn an_attempt_that_was_borrowed_goes_on_by_itself() {
    let clock = ManualClock::new();
    let attempt = {
        let proxy = proxy(&clock, &["a", "b"], |builder| builder);
        proxy.begin(&CallOptions::new()).admit().unwrap().into_owned()
    };
    let Verdict::Retry { call, .. } = attempt.settle(Answer::failure()) else { panic!("b would admit it") };
    assert_eq!(call.admit().unwrap().instance().id, "b");
}

/// Asks its proxy on the way out, which takes the lock of settings.
struct Nosy(Weak<ServiceProxy>);

impl Drop for Nosy {
    fn drop(&mut self) {
        self.0.upgrade().expect("the test holds it").config();
    }
}

#[test]
fn what_was_attached_leaves_the_proxy_with_no_lock_held() {
    let clock = ManualClock::new();
    let proxy = Arc::new(proxy(&clock, &["b"], |builder| builder));
    let nosy = Nosy(Arc::downgrade(&proxy));
    proxy.load_balancer().register_with(ServiceInstance::new("a", "a", 80), Arc::new(nosy));
    assert_eq!(proxy.call(|_| Ok::<_, ()>(1)), Ok(1));
    proxy.load_balancer().deregister("a");
    // The last handle goes with the roster that this call replaces; it would wait for ever for a lock that is held.
    assert_eq!(proxy.call(|_| Ok::<_, ()>(2)), Ok(2));
}
