//! How many bytes of the heap a breaker takes, and an instance in a balancer: the table of COMPARE.md.
//!
//! 10,000 of each are made, and the allocator is asked what is in use. What lies in a `Vec` of them is counted too.
//! Names are empty and ids short, since strings are the user's.
#![forbid(unsafe_code)]
#![expect(clippy::print_stdout, reason = "the table is its answer")]

use std::alloc::System;
use std::convert::Infallible;
use std::future;
use std::hint::black_box;
use std::time::Duration;

use failsafe::{backoff, failure_policy};
use recloser::Recloser;
use service_mesh::{CircuitBreaker, LoadBalancer, LoadBalancerStrategy, ServiceInstance};
use stats_alloc::{INSTRUMENTED_SYSTEM, Region, StatsAlloc};
use tower::Layer;
use tower_resilience_circuitbreaker::CircuitBreakerLayer;

#[global_allocator]
static ALLOCATOR: &StatsAlloc<System> = &INSTRUMENTED_SYSTEM;

const MANY: u16 = 10_000;

fn main() {
    println!("| bytes of the heap | who | | bar |\n|---|---|--:|--:|");
    row("a breaker without a window", "service-mesh", each(|_| CircuitBreaker::new("")), "128");
    row("a breaker with a ring of 100", "recloser 1.4", each(|_| Recloser::default()), "");
    let failsafe = |_| {
        let policy = failure_policy::consecutive_failures(5, backoff::constant(Duration::from_secs(30)));
        failsafe::Config::new().failure_policy(policy).build()
    };
    row("a breaker without a window", "failsafe 1.3", each(failsafe), "");
    row("a breaker without a window", "nobreak 0.1", each(|_| nobreak::breaker()), "");
    let inner = tower::service_fn(|(): ()| future::ready(Ok::<_, Infallible>(())));
    let resilient = |_| {
        let layer = CircuitBreakerLayer::builder().consecutive_failures(5).build().expect("a valid configuration");
        layer.layer(inner)
    };
    row("a breaker without a window", "tower-resilience 0.14", each(resilient), "");
    row("an instance in a balancer, round robin", "service-mesh", instances(), "256");
}

fn row(what: &str, who: &str, bytes: usize, bar: &str) {
    let verdict = if bar.parse().is_ok_and(|bar: usize| bytes > bar) { " **misses its bar**" } else { "" };
    println!("| {what} | {who} | {bytes}{verdict} | {bar} |");
}

fn each<T>(make: impl Fn(u16) -> T) -> usize {
    black_box(make(0));
    let region = Region::new(ALLOCATOR);
    let mut all = Vec::with_capacity(MANY.into());
    all.extend((0..MANY).map(make));
    in_use(&region, &all)
}

fn instances() -> usize {
    let balancer = LoadBalancer::new(LoadBalancerStrategy::RoundRobin);
    let region = Region::new(ALLOCATOR);
    balancer.set_instances((0..MANY).map(|n| ServiceInstance::new(n.to_string(), "", n)));
    in_use(&region, &balancer)
}

fn in_use<T>(region: &Region<'_, System>, kept: &T) -> usize {
    let change = region.change();
    black_box(kept);
    (change.bytes_allocated - change.bytes_deallocated) / usize::from(MANY)
}
