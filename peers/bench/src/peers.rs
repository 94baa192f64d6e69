//! The rows of the peers, each in the way that its documentation shows.

#[cfg(feature = "pingora")]
mod pingora;

use std::convert::Infallible;
use std::future;
use std::hint::black_box;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use backon::{BlockingRetryable, ExponentialBuilder, Retryable};
use failsafe::{CircuitBreaker, backoff, failure_policy};
use recloser::Recloser;
use service_mesh_bench::{Row, ready, work, work_that_fails_one_in_four};
use tower::balance::p2c::Balance;
use tower::discover::ServiceList;
use tower::load::{CompleteOnResponse, Load, PeakEwma, PendingRequests};
use tower::retry::budget::{Budget, TpsBudget};
use tower::util::ServiceFn;
use tower::{Layer, Service};
use tower_resilience_circuitbreaker::{CircuitBreakerConfigBuilder, CircuitBreakerLayer, SlidingWindowType};
use weighted_rs::{SmoothWeight, Weight};

const RECLOSER: &str = "recloser 1.4";
const FAILSAFE: &str = "failsafe 1.3";
const NOBREAK: &str = "nobreak 0.1";
const TOWER_RESILIENCE: &str = "tower-resilience 0.14, async";
const WEIGHTED: &str = "weighted-rs 0.1, in a Mutex";
const BACKON: &str = "backon 1.6";
const TOWER: &str = "tower 0.5";

const SUCCESS: &str = "breaker, Closed: success";
const ONE_IN_FOUR: &str = "breaker, Closed: one failure in four";
const REFUSAL: &str = "breaker, Open: refusal";

/// Longer than the bench takes: an open circuit must be open still when its turn comes.
const WAIT: Duration = Duration::from_secs(3600);
const PERMITTED: &str = "a call was not permitted";

pub(crate) fn rows() -> Vec<Row> {
    #[cfg(feature = "pingora")]
    let pingora = pingora::rows();
    #[cfg(not(feature = "pingora"))]
    let pingora = Vec::new();
    [pingora, recloser(), failsafe(), nobreak(), tower_resilience(), weighted(), towers(), retries(), whole()]
        .into_iter()
        .flatten()
        .collect()
}

fn recloser() -> Vec<Row> {
    let breaker = || Recloser::custom().open_wait(WAIT).closed_len(100).error_rate(0.5).build();
    let open = breaker();
    while !matches!(open.call(|| Err::<(), ()>(())), Err(recloser::Error::Rejected)) {}
    let closed = |what, work: fn(u64) -> Result<u64, u64>| {
        let breaker = breaker();
        Row::new(what, RECLOSER, move |run| {
            let answer = black_box(breaker.call(|| work(run)));
            assert!(!matches!(answer, Err(recloser::Error::Rejected)), "{PERMITTED}");
        })
    };
    vec![
        closed(SUCCESS, work),
        closed(ONE_IN_FOUR, work_that_fails_one_in_four),
        closed("count window of 100: success", work),
        closed("count window of 100: one failure in four", work_that_fails_one_in_four),
        Row::new(REFUSAL, RECLOSER, move |run| {
            let answer = black_box(open.call(|| work(run)));
            assert!(matches!(answer, Err(recloser::Error::Rejected)), "a call was permitted");
        }),
    ]
}

fn failsafe() -> Vec<Row> {
    fn closed(
        what: &'static str,
        breaker: impl CircuitBreaker + Send + Sync + 'static,
        work: fn(u64) -> Result<u64, u64>,
    ) -> Row {
        Row::new(what, FAILSAFE, move |run| {
            let answer = black_box(breaker.call(|| work(run)));
            assert!(!matches!(answer, Err(failsafe::Error::Rejected)), "{PERMITTED}");
        })
    }
    let in_a_row = || {
        let policy = failure_policy::consecutive_failures(5, backoff::constant(WAIT));
        failsafe::Config::new().failure_policy(policy).build()
    };
    let rate = || {
        let (window, backoff) = (Duration::from_secs(10), backoff::constant(WAIT));
        let policy = failure_policy::success_rate_over_time_window(0.1, 10, window, backoff);
        failsafe::Config::new().failure_policy(policy).build()
    };
    let open = in_a_row();
    while !matches!(open.call(|| Err::<(), ()>(())), Err(failsafe::Error::Rejected)) {}
    vec![
        closed(SUCCESS, in_a_row(), work),
        closed(ONE_IN_FOUR, in_a_row(), work_that_fails_one_in_four),
        closed("time window of 10 s: success", rate(), work),
        closed("time window of 10 s: one failure in four", rate(), work_that_fails_one_in_four),
        Row::new(REFUSAL, FAILSAFE, move |run| {
            let answer = black_box(open.call(|| work(run)));
            assert!(matches!(answer, Err(failsafe::Error::Rejected)), "a call was permitted");
        }),
    ]
}

fn nobreak() -> Vec<Row> {
    let closed = |what, work: fn(u64) -> Result<u64, u64>| {
        let breaker = nobreak::breaker();
        Row::new(what, NOBREAK, move |run| {
            let answer = black_box(breaker.call(|| work(run)));
            assert!(!matches!(answer, Err(nobreak::CircuitError::Open)), "{PERMITTED}");
        })
    };
    let open = nobreak::builder().with_open_duration(WAIT).build();
    while !matches!(open.call(|| Err::<(), ()>(())), Err(nobreak::CircuitError::Open)) {}
    vec![
        closed(SUCCESS, work),
        closed(ONE_IN_FOUR, work_that_fails_one_in_four),
        Row::new(REFUSAL, NOBREAK, move |run| {
            let answer = black_box(open.call(|| work(run)));
            assert!(matches!(answer, Err(nobreak::CircuitError::Open)), "a call was permitted");
        }),
    ]
}

/// Its rows are polled by hand, on one thread: with two, a future waits for the lock of the other, and what would be
/// measured is how busily we poll.
fn tower_resilience() -> Vec<Row> {
    let in_a_row = || CircuitBreakerLayer::builder().consecutive_failures(5).wait_duration_in_open(WAIT);
    let window = || CircuitBreakerLayer::builder().failure_rate_threshold(0.9).minimum_number_of_calls(10);
    let count = move || window().sliding_window_size(100);
    let time = move || {
        window().sliding_window_type(SlidingWindowType::TimeBased).sliding_window_duration(Duration::from_secs(10))
    };
    vec![
        resilient(SUCCESS, in_a_row, work, None),
        resilient(ONE_IN_FOUR, in_a_row, work_that_fails_one_in_four, None),
        resilient(REFUSAL, in_a_row, Err, None),
        resilient("count window of 100: success", count, work, None),
        resilient("count window of 100: one failure in four", count, work_that_fails_one_in_four, None),
        // It keeps every call of the window and looks at all of them at each: these are the first 1,000 calls.
        resilient("time window of 10 s: success", time, work, Some(1000)),
        resilient("time window of 10 s: one failure in four", time, work_that_fails_one_in_four, Some(1000)),
    ]
}

fn resilient(
    what: &'static str,
    config: impl Fn() -> CircuitBreakerConfigBuilder + Send + Sync + 'static,
    work: fn(u64) -> Result<u64, u64>,
    fresh_after: Option<u64>,
) -> Row {
    let who = if fresh_after.is_some() { "tower-resilience 0.14, async, first 1,000 calls" } else { TOWER_RESILIENCE };
    let layer = config().build().expect("a valid configuration");
    Row::in_runs(what, who, move |times| {
        let inner = tower::service_fn(move |run: u64| future::ready(work(run)));
        let mut service = layer.layer(inner);
        for run in 0..times {
            if fresh_after.is_some_and(|calls| run % calls == 0) {
                service = config().build().expect("a valid configuration").layer(inner);
            }
            let _ = black_box(answer(&mut service, run));
        }
    })
    .alone()
}

/// Ready, call, and poll: what `ServiceExt::oneshot` does, without a clone.
fn answer<S: Service<u64>>(service: &mut S, run: u64) -> Result<S::Response, S::Error> {
    match service.poll_ready(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(Ok(())) => ready(service.call(run)),
        Poll::Ready(Err(error)) => Err(error),
        Poll::Pending => unreachable!("nothing here waits"),
    }
}

fn weighted() -> Vec<Row> {
    let row = |what, instances: usize| {
        let mut balancer = SmoothWeight::new();
        for n in 0..instances {
            balancer.add(n, isize::try_from(1 + n % 3).expect("at most 3"));
        }
        let balancer = Mutex::new(balancer);
        Row::new(what, WEIGHTED, move |_| {
            let picked = balancer.lock().unwrap_or_else(PoisonError::into_inner).next();
            assert!(black_box(picked).is_some(), "nobody was picked");
        })
    };
    vec![row("pick of 10: weighted", 10), row("pick of 1000: weighted", 1000)]
}

fn towers() -> Vec<Row> {
    let budget = || TpsBudget::new(Duration::from_secs(10), 10, 0.2);
    let (deposit, withdraw) = (budget(), budget());
    vec![
        balance("pick of 10: two random choices, with lease", |service| {
            PendingRequests::new(service, CompleteOnResponse::default())
        }),
        balance("pick of 10: peak EWMA, with lease and update", |service| {
            let decay = Duration::from_secs(10).as_secs_f64() * 1e9;
            PeakEwma::new(service, Duration::from_millis(1), decay, CompleteOnResponse::default())
        }),
        Row::new("retry budget: deposit", TOWER, move |_| deposit.deposit()),
        Row::new("retry budget: withdraw", TOWER, move |_| {
            black_box(withdraw.withdraw());
        }),
    ]
}

/// A service that does nothing else.
type Answering = ServiceFn<fn(u64) -> future::Ready<Result<u64, Infallible>>>;

/// Its pick is a part of the call, which cannot be had without a service.
fn balance<S>(what: &'static str, with_load: impl Fn(Answering) -> S + Send + Sync + 'static) -> Row
where
    S: Service<u64, Response = u64, Error = Infallible> + Load<Metric: PartialOrd + std::fmt::Debug>,
{
    Row::in_runs(what, "tower 0.5 Balance, async, with the call", move |times| {
        let service = || -> Answering { tower::service_fn(|run| future::ready(Ok(run))) };
        let services: Vec<_> = (0..10).map(|_| with_load(service())).collect();
        let mut balance = Balance::new(ServiceList::new::<u64>(services));
        for run in 0..times {
            assert!(black_box(answer(&mut balance, run)).is_ok(), "nobody was picked");
        }
    })
    .alone()
}

fn retries() -> Vec<Row> {
    vec![
        Row::new("retry, sync: success", BACKON, |run| {
            let _ = black_box((|| work(run)).retry(ExponentialBuilder::default().with_jitter()).call());
        }),
        Row::new("retry, sync: success", "retry 2.2", |run| {
            let delays = retry::delay::Exponential::from_millis(100).map(retry::delay::jitter).take(3);
            let _ = black_box(retry::retry(delays, || work(run)));
        }),
        Row::new("retry, async: success", BACKON, |run| {
            let retried = (|| future::ready(work(run))).retry(ExponentialBuilder::default().with_jitter());
            let _ = black_box(ready(retried.into_future()));
        }),
    ]
}

/// What a user of the peers writes by hand: no instance is ever skipped, and a refusal costs an attempt.
fn whole() -> Vec<Row> {
    let next = AtomicUsize::new(0);
    let breakers = [(); 3].map(|()| Recloser::default());
    let by_hand = Row::new("whole call of 3, sync: success", "by hand: a counter, recloser, backon", move |run| {
        let attempt = || {
            let instance = next.fetch_add(1, Ordering::Relaxed) % breakers.len();
            breakers[instance].call(|| work(black_box(run)))
        };
        let answer = black_box(attempt.retry(ExponentialBuilder::default().with_jitter()).call());
        assert!(answer.is_ok(), "{PERMITTED}");
    });
    vec![by_hand]
}
