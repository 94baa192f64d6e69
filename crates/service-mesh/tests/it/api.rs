//! What may be done with the types: sent between threads, dropped, cancelled, left to panic, run on a real runtime.

use std::future::{pending, ready};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::task::{Context, Waker};
use std::time::Duration;

use service_mesh::testing::{ManualClock, Recorder};
use service_mesh::{
    AsyncSleep, CallErrorKind, CircuitBreaker, CircuitBreakerConfig, CircuitState, Clock, Environment, Jitter, NoTimer,
    RetryConfig, ServiceInstance, ServiceProxy, ServiceProxyConfig, Sleeping, Target, Timestamp,
};
use tokio::sync::oneshot;
use tokio::time::Instant;

const SECOND: Duration = Duration::from_secs(1);

/// A circuit that trips at once and has one place for probes.
fn circuit() -> CircuitBreakerConfig {
    CircuitBreakerConfig::builder()
        .failure_threshold(1)
        .half_open_max_calls(1)
        .success_threshold(1)
        .timeout(10 * SECOND)
        .build()
        .unwrap()
}

/// A proxy of one instance or more, with a limit of a second for an attempt, and waits of a second.
fn proxy(environment: Environment, ids: &[&str]) -> ServiceProxy {
    let retry = RetryConfig::builder().max_retries(1).initial_delay(SECOND).jitter(Jitter::None).build().unwrap();
    let proxy = ServiceProxy::builder("payments")
        .environment(environment)
        .circuit_breaker(circuit())
        .retry(retry)
        .config(ServiceProxyConfig::builder().attempt_timeout(SECOND).build().unwrap())
        .build();
    for id in ids {
        proxy.load_balancer().register(ServiceInstance::new(*id, *id, 80));
    }
    proxy
}

fn in_flight(proxy: &ServiceProxy) -> u32 {
    proxy.load_balancer().endpoints().iter().map(|endpoint| endpoint.in_flight).sum()
}

mod types {
    use service_mesh::testing::{ManualClock, Recorder};
    use service_mesh::*;

    const fn can_go_anywhere<T: Send + Sync + 'static>() {}
    const fn can_be_moved_while_pinned<T: Unpin>() {}
    const fn is_an_error<T: std::error::Error + Send + Sync + 'static>() {}

    macro_rules! for_each {
        ($check:ident: $($type:ty),* $(,)?) => { $($check::<$type>();)* };
    }

    #[test]
    fn all_that_is_public_can_be_shared_between_threads() {
        for_each!(can_go_anywhere:
            CircuitBreaker, CircuitBreakerBuilder, Permit<'static>, OwnedPermit, Refusal,
            LoadBalancer, LoadBalancerBuilder, Lease, Picked, EndpointStatus,
            RetryPolicy, RetryPolicyBuilder, RetryBudget, GivenUp, RetryCause,
            ServiceProxy, ServiceProxyBuilder, CallOptions, Target, Refused,
            Call<ServiceProxy>, Call<&'static ServiceProxy>, Attempt<ServiceProxy>, Attempt<&'static ServiceProxy>,
            Verdict<ServiceProxy>, Verdict<&'static ServiceProxy>,
            Explanation, Story, AttemptStory, Ending, PassedOver,
            CallError<std::io::Error>, CallErrorKind, Answer, Outcome, EveryError, Nested,
            Environment, Chance, Timestamp, SystemClock, ThreadSleep, NoTimer, Event, EventKind,
            ManualClock, Recorder,
            Box<dyn Clock>, Box<dyn Sleep>, Box<dyn AsyncSleep>, Box<dyn Listener>,
            CircuitBreakerConfig, CircuitState, CountWindow, TimeWindow, Transition, TransitionReason, TripReason,
            RetryConfig, RetryBudgetConfig, Jitter, ServiceProxyConfig, ServiceInstance, LoadBalancerStrategy,
        );
        #[cfg(feature = "tokio")]
        can_go_anywhere::<TokioSleep>();
    }

    #[test]
    fn all_that_a_future_may_hold_can_be_moved() {
        for_each!(can_be_moved_while_pinned:
            CircuitBreaker, Permit<'static>, OwnedPermit, Lease, ServiceProxy, Sleeping,
            Call<ServiceProxy>, Attempt<ServiceProxy>, Verdict<ServiceProxy>,
        );
    }

    #[test]
    fn all_errors_can_be_boxed() {
        for_each!(is_an_error:
            CallError<std::io::Error>, CallErrorKind, CircuitOpenError, NoHealthyInstanceError, ConfigError, NoTimer,
        );
    }
}

/// Runs a call to the point at which its attempt hangs; then it can be aborted.
async fn hanging(proxy: &ServiceProxy) -> tokio::task::JoinHandle<bool> {
    let (proxy, (reached, has_reached)) = (proxy.clone(), oneshot::channel());
    let mut reached = Some(reached);
    let task = tokio::spawn(async move {
        let attempt = |_: Target| {
            let reached = reached.take().expect("it hangs in its first attempt");
            async move {
                assert!(reached.send(()).is_ok());
                pending::<Result<(), &str>>().await
            }
        };
        proxy.call_async(attempt).await.is_ok()
    });
    has_reached.await.expect("the attempt begins");
    task
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_aborted_call_gives_everything_back_and_counts_nothing() {
    let clock = ManualClock::new();
    let proxy = proxy(Environment::manual(&clock), &["a"]);
    let task = hanging(&proxy).await;
    assert_eq!(in_flight(&proxy), 1);
    task.abort();
    assert!(task.await.unwrap_err().is_cancelled());
    assert_eq!(in_flight(&proxy), 0);
    assert_eq!(proxy.instance_circuit_breaker("a").unwrap().failure_count(), 0);
    assert_eq!(proxy.circuit_breaker().failure_count(), 0);
    assert!(!clock.advance_to_next_timer(), "its time limit is forgotten");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_aborted_probe_gives_its_places_back() {
    let clock = ManualClock::new();
    let proxy = proxy(Environment::manual(&clock), &["a"]);
    let circuits = [proxy.circuit_breaker(), proxy.instance_circuit_breaker("a").unwrap()];
    circuits.iter().for_each(CircuitBreaker::record_failure);
    clock.advance(10 * SECOND);
    for _ in 0..3 {
        let task = hanging(&proxy).await;
        assert_eq!(circuits.each_ref().map(CircuitBreaker::half_open_calls), [1, 1]);
        task.abort();
        assert!(task.await.unwrap_err().is_cancelled());
        assert_eq!(circuits.each_ref().map(CircuitBreaker::half_open_calls), [0, 0]);
    }
    assert_eq!(proxy.call_async(|_| ready(Ok::<_, ()>(7))).await, Ok(7));
    assert_eq!(circuits.each_ref().map(CircuitBreaker::state), [CircuitState::Closed; 2]);
}

#[test]
fn a_call_that_is_dropped_late_has_failed() {
    let clock = ManualClock::new();
    let proxy = proxy(Environment::manual(&clock), &["a", "b"]);
    let mut call = Box::pin(proxy.call_async(|_| pending::<Result<(), ()>>()));
    assert!(call.as_mut().poll(&mut Context::from_waker(Waker::noop())).is_pending());
    // Its time limit passes, and it is dropped before anybody polls it again: that must not hide a hanging instance.
    clock.advance(SECOND);
    drop(call);
    assert_eq!(proxy.instance_circuit_breaker("a").unwrap().state(), CircuitState::Open);
    assert_eq!((in_flight(&proxy), proxy.circuit_breaker().state()), (0, CircuitState::Closed));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_panic_in_a_spawned_call_is_a_failure_and_reaches_whoever_joins() {
    let proxy = proxy(Environment::manual(&ManualClock::new()), &["a"]);
    let other = proxy.clone();
    let task = tokio::spawn(async move {
        let panics = |_: Target| async {
            tokio::task::yield_now().await;
            std::panic::resume_unwind(Box::new("in the future"));
        };
        let _: Result<(), _> = other.call_async::<(), (), _>(panics).await;
    });
    assert!(task.await.unwrap_err().is_panic());
    assert_eq!(in_flight(&proxy), 0);
    assert_eq!(proxy.instance_circuit_breaker("a").unwrap().state(), CircuitState::Open);
    assert_eq!(proxy.circuit_breaker().state(), CircuitState::Open);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_panic_of_a_neighbour_is_nobodys_failure() {
    let breaker = CircuitBreaker::with_config("payments", circuit());
    let other = breaker.clone();
    let task = tokio::spawn(async move {
        let call = other.execute_async(pending::<Result<(), ()>>);
        let neighbour = async {
            tokio::task::yield_now().await;
            std::panic::resume_unwind(Box::new("beside the call"));
        };
        tokio::join!(call, neighbour)
    });
    assert!(task.await.unwrap_err().is_panic());
    assert_eq!((breaker.state(), breaker.failure_count()), (CircuitState::Closed, 0));
}

/// tokio's clock, which stands still and jumps from timer to timer while it is paused.
#[derive(Debug)]
struct TokioClock(Instant);

impl Clock for TokioClock {
    fn now(&self) -> Timestamp {
        Timestamp::ORIGIN.after(self.0.elapsed())
    }
}

#[derive(Debug)]
struct TokioTimer;

impl AsyncSleep for TokioTimer {
    fn sleep(&self, duration: Duration) -> Result<Sleeping, NoTimer> {
        Ok(Box::pin(tokio::time::sleep(duration)))
    }
}

fn paused() -> Environment {
    Environment::system().with_clock(TokioClock(Instant::now())).with_async_sleep(TokioTimer)
}

#[tokio::test(start_paused = true)]
async fn an_attempt_that_hangs_is_cut_off_and_another_instance_answers() {
    let (proxy, started) = (proxy(paused(), &["a", "b"]), Instant::now());
    let answer = proxy.call_async(async |target: Target| {
        if target.id == "a" {
            pending::<()>().await;
        }
        Ok::<_, ()>(target.id.clone())
    });
    assert_eq!(answer.await.as_deref(), Ok("b"));
    assert_eq!(started.elapsed(), 2 * SECOND, "a limit and a wait of a second each");
    let states = ["a", "b"].map(|id| proxy.instance_circuit_breaker(id).unwrap().state());
    assert_eq!(states, [CircuitState::Open, CircuitState::Closed]);
    assert_eq!((proxy.circuit_breaker().state(), in_flight(&proxy)), (CircuitState::Closed, 0));
}

#[tokio::test(start_paused = true)]
async fn the_last_attempt_that_hangs_is_told_as_such() {
    let (proxy, started) = (proxy(paused(), &["a", "b"]), Instant::now());
    let error = proxy.call_async(|_| pending::<Result<(), &str>>()).await.unwrap_err();
    assert_eq!((error.kind(), error.attempts(), error.last()), (&CallErrorKind::AttemptTimedOut, 2, None));
    assert_eq!(started.elapsed(), 3 * SECOND);
    assert_eq!((proxy.circuit_breaker().state(), in_flight(&proxy)), (CircuitState::Open, 0));
}

#[tokio::test(start_paused = true)]
async fn a_deadline_outside_the_proxy_cancels_what_runs() {
    let (proxy, recorder) = (proxy(paused(), &["a"]), Recorder::new());
    proxy.subscribe(recorder.clone());
    let call = proxy.call_async(|_| pending::<Result<(), ()>>());
    assert!(tokio::time::timeout(SECOND / 2, call).await.is_err());
    assert_eq!((in_flight(&proxy), recorder.take().len()), (0, 0));
}

#[tokio::test(start_paused = true)]
async fn many_calls_share_one_proxy() {
    let (proxy, answered) = (proxy(paused(), &["a", "b", "c"]), Arc::new(AtomicU32::new(0)));
    let calls = (0..300).map(|_| {
        let (proxy, answered) = (proxy.clone(), Arc::clone(&answered));
        tokio::spawn(async move {
            let attempt = |target: Target| async move {
                if target.id == "a" {
                    pending::<()>().await;
                }
                tokio::time::sleep(SECOND / 10).await;
                Ok::<_, ()>(())
            };
            answered.fetch_add(u32::from(proxy.call_async(attempt).await.is_ok()), Ordering::Relaxed);
        })
    });
    for call in calls.collect::<Vec<_>>() {
        call.await.unwrap();
    }
    // 100 of them hang at first. The budget lets 100 retries pass for nothing, and 60 more for 300 calls.
    assert_eq!(answered.load(Ordering::Relaxed), 300);
    assert_eq!((proxy.circuit_breaker().state(), in_flight(&proxy)), (CircuitState::Closed, 0));
}

#[cfg(feature = "tokio")]
#[tokio::test(start_paused = true)]
async fn tokios_timer_is_the_default() {
    let config = RetryConfig::builder().max_retries(2).initial_delay(SECOND).jitter(Jitter::None).build().unwrap();
    let (policy, started) = (service_mesh::RetryPolicy::new(config), Instant::now());
    let error = policy.execute_async(|| ready(Err::<(), _>("down"))).await.unwrap_err();
    assert_eq!((error.attempts(), started.elapsed()), (3, 3 * SECOND));
}

#[test]
fn without_a_runtime_a_call_that_needs_a_timer_says_so_and_holds_nothing() {
    // Not the manual environment, which has a timer of its own.
    let clock = ManualClock::new();
    let proxy = proxy(Environment::system().with_clock(clock.clone()), &["a"]);
    let error = clock.block_on(proxy.call_async(|_| ready(Ok::<_, ()>(())))).unwrap_err();
    assert!(matches!(error.kind(), CallErrorKind::NoTimer(_)), "{error:?}");
    assert_eq!((error.attempts(), in_flight(&proxy)), (0, 0));
    assert_eq!(proxy.instance_circuit_breaker("a").unwrap().failure_count(), 0);

    // Where nobody waits, nobody needs one.
    proxy.update_config(ServiceProxyConfig::default());
    assert_eq!(clock.block_on(proxy.call_async(|_| ready(Ok::<_, ()>(7)))), Ok(7));
    assert_eq!(in_flight(&proxy), 0);
}
