//! Calls between services fail. Four patterns make that harmless: **circuit breaking, load balancing, retry**, and a
//! **service proxy** that joins them into one decision.
//!
//! ```
//! use service_mesh::{CallErrorKind, ServiceInstance, ServiceProxy};
//!
//! let payments = ServiceProxy::new("payments");
//! for (id, host) in [("a", "10.0.0.1"), ("b", "10.0.0.2"), ("c", "10.0.0.3")] {
//!     payments.load_balancer().register(ServiceInstance::new(id, host, 8080));
//! }
//!
//! // `a` is down: the call goes on at `b`, and after a few failures nobody asks `a` any more.
//! for _ in 0..100 {
//!     let answer = payments.call(|attempt| match attempt.instance().id.as_str() {
//!         "a" => Err("connection refused"),
//!         _ => Ok("paid"),
//!     });
//!     assert_eq!(answer, Ok("paid"));
//! }
//!
//! // A refusal says who refused and when to come back.
//! payments.circuit_breaker().force_open();
//! let refused = payments.call(|_| Ok::<_, &str>("paid")).unwrap_err();
//! assert_eq!(refused.to_string(), "circuit payments is open");
//! assert!(matches!(refused.kind(), CallErrorKind::CircuitOpen(_)));
//! ```
//!
//! # How a call is decided
//! A [`ServiceProxy`] asks these questions in this order, and each attempt asks them again:
//!
//! | question | who answers | if not |
//! |---|---|---|
//! | Is there time? | the call's deadline | [`DeadlineExceeded`](CallErrorKind::DeadlineExceeded) |
//! | Is the service worth asking? | the service's [`CircuitBreaker`] | [`CircuitOpen`](CallErrorKind::CircuitOpen) |
//! | Who is next? | the [`LoadBalancer`], among those that this call has not tried | [`NoHealthyInstance`](CallErrorKind::NoHealthyInstance) |
//! | Is he worth asking? | the instance's own circuit breaker | the next one is asked, without a wait |
//! | *the attempt*: your function | a time limit, where the driver can enforce it | a failure of the instance |
//! | What does the result mean? | a [`Classify`]: success, failure or neutral; final or not | – |
//! | May it be tried again? | the [`RetryPolicy`]: retries left, and time for the wait | the result is returned |
//! | Would anybody admit that? | the circuits, at the end of the wait | [`CircuitOpen`](CallErrorKind::CircuitOpen), at once |
//! | Has the service earned it? | the [`RetryBudget`] | the result is returned |
//!
//! Every attempt is judged by its instance's circuit. The service's circuit hears of a failure only where failover could
//! not hide it: where no untried instance would have admitted the next attempt.
//!
//! # One machine, several drivers
//! What decides is pure: it does no I/O, spawns nothing, sleeps nowhere and knows no runtime. It is three types, each
//! of which is consumed by the step that leads to the next:
//!
//! ```
//! # use service_mesh::{Answer, CallOptions, ServiceInstance, ServiceProxy, Verdict};
//! # fn send(_: &ServiceInstance) -> Result<&'static str, &'static str> { Ok("paid") }
//! # fn wait(_: std::time::Duration) {}
//! # fn run(proxy: &ServiceProxy) -> Result<Result<&'static str, &'static str>, service_mesh::Refused> {
//! let mut call = proxy.begin(&CallOptions::new());
//! loop {
//!     let attempt = call.admit()?;                       // picks, and takes leave of the circuits
//!     let result = send(attempt.instance());             // the only line that differs between drivers
//!     let answer = if result.is_ok() { Answer::success() } else { Answer::failure() };
//!     match attempt.settle(answer) {                     // gives everything back
//!         Verdict::Return => return Ok(result),
//!         Verdict::Refused(refused) => return Err(refused),
//!         Verdict::Retry { after, call: next } => {
//!             wait(after);
//!             call = next;
//!         }
//!     }
//! }
//! # }
//! # let proxy = ServiceProxy::new("payments");
//! # proxy.load_balancer().register(ServiceInstance::new("a", "10.0.0.1", 8080));
//! # assert_eq!(run(&proxy).unwrap(), Ok("paid"));
//! ```
//!
//! An [`Attempt`] that is dropped instead was cancelled: everything is given back and nothing is counted. The drivers
//! of this crate are this loop, once blocking ([`ServiceProxy::call`]) and once async ([`ServiceProxy::call_async`]); a
//! breaker and a policy can be driven alone ([`CircuitBreaker::execute`], [`RetryPolicy::execute`] and their `_async`
//! forms).
//!
//! # Time and chance are arguments
//! Everything is built in an [`Environment`]: a clock, a source of chance, ways to wait. The default is the system's.
//! With [`testing::ManualClock`] a test moves time by hand, and nothing sleeps.
//!
//! # Cancellation and panics
//! Dropping a future, a permit or an attempt gives back what it held and is neutral; only an attempt that had outlived
//! its time limit already is a failure. A panic in your function is a failure and goes on unwinding.
//!
//! # Features
//! - `tokio`: the async drivers wait with tokio's timer. Without it they take any timer
//!   ([`Environment::with_async_sleep`]), and need none where nobody waits.
//! - `macros`: the attributes `#[with_circuit_breaker("payments")]` and `#[with_retry]` on functions.
//! - `policy_file`: services from one TOML file, which may be reloaded: `Mesh`.
//! - `schema`: the JSON Schema of that file.
//! - `tower`: layers and services for tower: breaker, retry and the whole proxy.
//! - `metrics`: calls, attempts, circuits and instances are measured through the `metrics` facade (`Metrics`).
//! - `tracing`: a span for each call and attempt, and the events, through the `tracing` facade (`Tracing`).
//! - `serde`: configurations are read and written in the words of the policy file.
#![forbid(unsafe_code)]
#![cfg_attr(docsrs, feature(doc_cfg))]

pub mod testing;

mod driver;
mod environment;
#[cfg(all(doctest, feature = "tokio"))]
mod pages;
#[cfg(feature = "policy_file")]
mod policy_file;
mod resilience;
mod telemetry;

#[cfg(feature = "macros")]
#[doc(hidden)]
pub use driver::attribute;
#[cfg(feature = "tokio")]
pub use driver::sleep::TokioSleep;
pub use driver::sleep::{AsyncSleep, NoTimer, Sleep, Sleeping, ThreadSleep};
#[cfg(feature = "tower")]
pub use driver::tower;
pub use environment::Environment;
#[cfg(feature = "schema")]
pub use policy_file::policy_file_schema;
#[cfg(feature = "policy_file")]
pub use policy_file::{Mesh, MeshBuilder, Mistake, PolicyChanges, PolicyError, read_policy_file};
pub use resilience::call_error::{CallError, CallErrorKind};
pub use resilience::chance::Chance;
pub use resilience::circuit_breaker::{
    CircuitBreaker, CircuitBreakerBuilder, CircuitSnapshot, Grant, OwnedPermit, Permit, Refusal,
};
pub use resilience::clock::{Clock, SystemClock, Timestamp};
pub use resilience::event::{Event, EventKind, Listener};
pub use resilience::load_balancer::{
    Attachment, Connection, EndpointStatus, Lease, LoadBalancer, LoadBalancerBuilder, Picked, Registration,
    WeakRegistration,
};
pub use resilience::observer::{AttemptReport, CallReport, Observer, Scope};
pub use resilience::outcome::{Answer, Classify, EveryError, Nested, Outcome};
pub use resilience::retry::{GivenUp, RetryBudget, RetryCause, RetryPolicy, RetryPolicyBuilder, Retrying};
pub use resilience::service_proxy::{
    Attempt, AttemptStory, Call, CallOptions, Ending, Explanation, PassedOver, Refused, ServiceProxy,
    ServiceProxyBuilder, Story, Target, Verdict,
};
#[cfg(feature = "macros")]
pub use service_mesh_macros::{with_circuit_breaker, with_retry};
pub use service_mesh_models::*;
#[cfg(feature = "metrics")]
pub use telemetry::metrics::Metrics;
#[cfg(feature = "tracing")]
pub use telemetry::tracing::Tracing;
