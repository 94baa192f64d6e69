//! The retry policy: as the call machine plans it, and through the drivers.

use std::future::ready;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::Duration;

use service_mesh::testing::ManualClock;
use service_mesh::{
    CallError, CallOptions, Classify, Environment, RetryBudget, RetryPolicy, ServiceInstance, ServiceProxy, Sleep,
    Verdict,
};
use service_mesh_conformance::retry::{Driver, Executed, Given, replay};
use service_mesh_conformance::{Need, Reply, ReplyKind};

use super::replies::{ByKind, Replied, Returned};

/// A policy, and the way to execute a function under it.
struct Bare {
    clock: ManualClock,
    policy: RetryPolicy,
    execute: Execute,
}

type Execute = fn(&Bare, &mut dyn FnMut() -> Returned) -> Came;

/// What came back, with the number of attempts where it is told.
type Came = Result<Replied, (Replied, u32)>;

fn told(error: CallError<Replied>) -> (Replied, u32) {
    let attempts = error.attempts();
    (error.into_last().expect("a bare policy ends with an error of the function"), attempts)
}

/// The call machine, of a service whose one instance is never refused.
fn plan(bare: &Bare, run: &mut dyn FnMut() -> Returned) -> Came {
    let proxy = ServiceProxy::builder("api")
        .retry_policy(bare.policy.clone())
        .without_retry_budget()
        .without_instance_circuit_breakers()
        .environment(Environment::manual(&bare.clock))
        .build();
    proxy.circuit_breaker().force_closed();
    proxy.load_balancer().register(ServiceInstance::new("a", "a", 80));
    let mut call = proxy.begin(&CallOptions::new());
    loop {
        let attempt = call.admit().expect("nobody refuses");
        let attempts = attempt.number();
        let result = run();
        match attempt.settle(ByKind.classify(&result)) {
            Verdict::Return => return result.map_err(|error| (error, attempts)),
            Verdict::Refused(refused) => panic!("nobody refuses: {refused:?}"),
            Verdict::Retry { after, call: next } => {
                bare.clock.sleep(after);
                call = next;
            }
        }
    }
}

fn execute(bare: &Bare, run: &mut dyn FnMut() -> Returned) -> Came {
    bare.policy.execute_with(&ByKind, run).map_err(told)
}

fn execute_async(bare: &Bare, run: &mut dyn FnMut() -> Returned) -> Came {
    bare.clock.block_on(bare.policy.execute_async_with(&ByKind, || ready(run()))).map_err(told)
}

#[cfg(feature = "tower")]
fn execute_layered(bare: &Bare, run: &mut dyn FnMut() -> Returned) -> Came {
    use service_mesh::tower::RetryLayer;
    use tower::{ServiceBuilder, ServiceExt, service_fn};

    let run = std::cell::RefCell::new(run);
    let layer = RetryLayer::new(bare.policy.clone()).classify(ByKind);
    let service = ServiceBuilder::new().layer(layer).service(service_fn(|()| ready((run.borrow_mut())())));
    bare.clock.block_on(service.oneshot(())).map_err(told)
}

impl Bare {
    fn new(given: &Given<'_>, execute: Execute) -> Self {
        let clock = ManualClock::new();
        let environment = Environment::manual(&clock);
        let mut builder = RetryPolicy::builder().config(given.config.clone()).environment(environment.clone());
        if let Some(budget) = given.budget {
            builder = builder.budget(RetryBudget::with_environment(budget.clone(), environment));
        }
        Self { clock, policy: builder.build(), execute }
    }
}

impl Driver for Bare {
    fn advance(&mut self, by: Duration) {
        self.clock.advance(by);
    }

    fn execute(&mut self, replies: &[Reply]) -> Executed {
        let slept = self.clock.sleeps().len();
        let mut script = replies.iter();
        let (mut last, mut calls) = (Reply::at_once(ReplyKind::Ok), 0);
        let mut run = || {
            last = script.next().copied().unwrap_or(last);
            calls += 1;
            self.clock.advance(last.takes);
            Replied { reply: last, run: calls }.answer()
        };
        let (returned, attempts) = match catch_unwind(AssertUnwindSafe(|| (self.execute)(self, &mut run))) {
            Ok(Ok(value)) => (value, None),
            Ok(Err((error, attempts))) => (error, Some(attempts)),
            Err(payload) => (Replied::caught(payload), None),
        };
        let sleeps = self.clock.sleeps().split_off(slept).into_iter().filter(|sleep| !sleep.is_zero()).collect();
        Executed { calls, sleeps, came_back: returned.kind(), from_call: returned.run, attempts }
    }

    fn delay(&mut self, attempt: u32) -> Duration {
        self.policy.get_delay(attempt)
    }
}

fn holds(execute: Execute) {
    replay(&super::open("retry.toml"), &Need::ALL, |given| Bare::new(given, execute)).expect(&[]);
}

#[test]
fn the_call_machine() {
    holds(plan);
}

#[test]
fn the_sync_driver() {
    holds(execute);
}

#[test]
fn the_async_driver() {
    holds(execute_async);
}

#[cfg(feature = "tower")]
#[test]
fn the_tower_driver() {
    holds(execute_layered);
}
