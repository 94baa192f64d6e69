//! The rows of `service-mesh`.

use std::hint::black_box;
use std::pin::pin;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use service_mesh::{
    CallOptions, CircuitBreaker, CircuitBreakerConfig, CircuitState, CountWindow, LoadBalancer, LoadBalancerStrategy,
    Outcome, RetryBudget, RetryPolicy, ServiceInstance, ServiceProxy, Target, TimeWindow,
};

use crate::{Row, work, work_that_fails_one_in_four};

/// All rows, each on a subject of its own.
#[must_use]
pub fn rows() -> Vec<Row> {
    let bare = Row::new("the function alone", "–", |run| {
        let _ = black_box(work(run));
    });
    [bare].into_iter().chain(breakers()).chain(picks()).chain(retries()).chain(proxies()).collect()
}

/// A row of ours.
fn ours(what: &'static str, operation: impl Fn(u64) + Send + Sync + 'static) -> Row {
    Row::new(what, "service-mesh", operation)
}

fn breakers() -> Vec<Row> {
    // Open for longer than a bench takes.
    let config = CircuitBreakerConfig::builder().failure_threshold(1).timeout(Duration::from_secs(3600));
    let open = CircuitBreaker::with_config("b", config.build().expect("a valid configuration"));
    open.record_failure();
    let (after, permits) = (open.clone(), open.clone());
    vec![
        // Three over the function alone, which takes one.
        succeeds("breaker, Closed: success", CircuitBreaker::new("b")).bar(4.0, 4.0),
        fails_one_in_four("breaker, Closed: one failure in four", CircuitBreaker::new("b")).bar(12.0, 80.0),
        ours("breaker, Open: refusal", move |run| {
            let _ = black_box(open.execute(|| work(run)));
        })
        .bar(25.0, 30.0)
        .holds(move || after.state() == CircuitState::Open),
        // Without the error that names the circuit.
        ours("breaker, Open: refusal of a permit", move |_| {
            let _ = black_box(permits.try_acquire());
        })
        .bar(25.0, 30.0),
        succeeds("count window of 100: success", with_count_window()).bar(5.0, 5.0),
        fails_one_in_four("count window of 100: one failure in four", with_count_window()).bar(40.0, 110.0),
        succeeds("time window of 10 s: success", with_time_window()).bar(40.0, 50.0),
        fails_one_in_four("time window of 10 s: one failure in four", with_time_window()),
    ]
}

fn succeeds(what: &'static str, breaker: CircuitBreaker) -> Row {
    let after = breaker.clone();
    ours(what, move |run| {
        let _ = black_box(breaker.execute(|| work(run)));
    })
    .holds(move || after.state() == CircuitState::Closed)
}

fn fails_one_in_four(what: &'static str, breaker: CircuitBreaker) -> Row {
    let after = breaker.clone();
    ours(what, move |run| {
        let _ = black_box(breaker.execute(|| work_that_fails_one_in_four(run)));
    })
    .holds(move || after.state() == CircuitState::Closed)
}

/// Full, and never tripped by one failure in four.
fn with_count_window() -> CircuitBreaker {
    let window = CountWindow::builder().failure_ratio(0.9).build().expect("a valid window");
    let config = CircuitBreakerConfig::builder().count_window(window).build().expect("a valid configuration");
    let breaker = CircuitBreaker::with_config("b", config);
    for _ in 0..100 {
        breaker.record_success();
    }
    breaker
}

fn with_time_window() -> CircuitBreaker {
    let window = TimeWindow::builder().failure_ratio(0.9).build().expect("a valid window");
    let config = CircuitBreakerConfig::builder().time_window(window).build().expect("a valid configuration");
    CircuitBreaker::with_config("b", config)
}

fn picks() -> Vec<Row> {
    vec![
        pick("pick of 10: round robin", LoadBalancerStrategy::RoundRobin, 10).bar(20.0, 80.0),
        pick("pick of 1000: round robin", LoadBalancerStrategy::RoundRobin, 1000),
        pick("pick of 10: random", LoadBalancerStrategy::Random, 10).bar(18.0, 20.0),
        pick("pick of 10: weighted", LoadBalancerStrategy::Weighted, 10).bar(25.0, 80.0),
        pick("pick of 1000: weighted", LoadBalancerStrategy::Weighted, 1000),
        lease("pick of 3: least connections, with lease", LoadBalancerStrategy::LeastConnections, 3).bar(40.0, 220.0),
        lease("pick of 10: least connections, with lease", LoadBalancerStrategy::LeastConnections, 10).bar(50.0, 220.0),
        lease("pick of 1000: least connections, with lease", LoadBalancerStrategy::LeastConnections, 1000),
        lease("pick of 10: two random choices, with lease", LoadBalancerStrategy::P2c, 10).bar(35.0, 130.0),
        lease_and_settle("pick of 10: peak EWMA, with lease and update", LoadBalancerStrategy::PeakEwma, 10)
            .bar(80.0, 190.0),
        pick_by_key("pick of 1000: hash by key", 1000).bar(25.0, 30.0),
    ]
}

fn pick(what: &'static str, strategy: LoadBalancerStrategy, instances: u16) -> Row {
    let balancer = balancer(strategy, instances);
    ours(what, move |_| {
        black_box(balancer.pick().map(|picked| picked.port));
    })
}

fn pick_by_key(what: &'static str, instances: u16) -> Row {
    let balancer = balancer(LoadBalancerStrategy::ConsistentHash, instances);
    ours(what, move |run| {
        black_box(balancer.pick_for(&run).map(|picked| picked.port));
    })
}

fn lease(what: &'static str, strategy: LoadBalancerStrategy, instances: u16) -> Row {
    let balancer = balancer(strategy, instances);
    let after = balancer.clone();
    ours(what, move |_| {
        black_box(balancer.acquire());
    })
    .holds(move || is_given_back(&after))
}

/// The strategy learns how long the call took.
fn lease_and_settle(what: &'static str, strategy: LoadBalancerStrategy, instances: u16) -> Row {
    let balancer = balancer(strategy, instances);
    let after = balancer.clone();
    ours(what, move |_| {
        if let Some(lease) = black_box(balancer.acquire()) {
            lease.settle(Outcome::Success);
        }
    })
    .holds(move || is_given_back(&after))
}

fn is_given_back(balancer: &LoadBalancer) -> bool {
    balancer.endpoints().iter().all(|endpoint| endpoint.in_flight == 0)
}

fn balancer(strategy: LoadBalancerStrategy, instances: u16) -> LoadBalancer {
    let balancer = LoadBalancer::new(strategy);
    let instance = |n: u16| ServiceInstance::new(n.to_string(), "h", n).with_weight(1 + u32::from(n) % 3);
    balancer.set_instances((0..instances).map(instance));
    balancer
}

fn retries() -> Vec<Row> {
    let (sync, asynchronous) = (RetryPolicy::default(), RetryPolicy::default());
    let (deposit, withdraw) = (RetryBudget::default(), RetryBudget::default());
    vec![
        ours("retry, sync: success", move |run| {
            let _ = black_box(sync.execute(|| work(run)));
        })
        .bar(2.0, None),
        ours("retry, async: success", move |run| {
            let _ = black_box(ready(asynchronous.execute_async(|| async move { work(run) })));
        })
        .bar(4.0, None),
        ours("retry budget: deposit", move |_| deposit.deposit()).bar(12.0, 45.0),
        ours("retry budget: withdraw", move |_| {
            black_box(withdraw.withdraw());
        })
        .bar(45.0, None),
    ]
}

fn proxies() -> Vec<Row> {
    let round_robin = || proxy(LoadBalancerStrategy::RoundRobin);
    vec![
        sync_call("whole call of 3, sync: success", round_robin()).bar(60.0, 250.0),
        sync_call("call through a proxy: P2C", proxy(LoadBalancerStrategy::P2c)).bar(70.0, 250.0),
        call_with_a_deadline(round_robin()),
        async_call(round_robin()),
    ]
}

fn sync_call(what: &'static str, proxy: ServiceProxy) -> Row {
    let after = proxy.clone();
    ours(what, move |run| {
        let _ = black_box(proxy.call(|attempt| {
            black_box(attempt.instance().port);
            work(run)
        }));
    })
    .holds(move || is_idle(&after))
}

/// Two readings of the clock more: when it begins, and whether its result came in time.
fn call_with_a_deadline(proxy: ServiceProxy) -> Row {
    let after = proxy.clone();
    let options = CallOptions::new().timeout(Duration::from_secs(3600));
    ours("call with a deadline", move |run| {
        let _ = black_box(proxy.call_with(&options, |attempt| {
            black_box(attempt.instance().port);
            work(run)
        }));
    })
    .bar(100.0, 290.0)
    .holds(move || is_idle(&after))
}

fn async_call(proxy: ServiceProxy) -> Row {
    let after = proxy.clone();
    ours("whole call of 3, async: success", move |run| {
        let _ = black_box(ready(proxy.call_async(|target: Target| async move {
            black_box(target.port);
            work(run)
        })));
    })
    .bar(100.0, None)
    .holds(move || is_idle(&after))
}

fn proxy(strategy: LoadBalancerStrategy) -> ServiceProxy {
    let proxy = ServiceProxy::builder("s").load_balancer(LoadBalancer::new(strategy)).build();
    for n in 0..3 {
        proxy.load_balancer().register(ServiceInstance::new(n.to_string(), "h", n));
    }
    proxy
}

fn is_idle(proxy: &ServiceProxy) -> bool {
    is_given_back(proxy.load_balancer()) && proxy.circuit_breaker().state() == CircuitState::Closed
}

/// The answer of a future that never waits. No executor: it would be measured too.
///
/// # Panics
/// If it waits after all.
pub fn ready<T>(future: impl Future<Output = T>) -> T {
    match pin!(future).poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(value) => value,
        Poll::Pending => unreachable!("nothing here waits"),
    }
}
