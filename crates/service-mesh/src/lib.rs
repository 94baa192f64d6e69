//! Circuit breaking, load balancing, retry and a service proxy that joins them.
#![forbid(unsafe_code)]

pub mod testing;

mod driver;
mod environment;
#[cfg(all(doctest, feature = "tokio"))]
mod pages;
mod resilience;

#[cfg(feature = "tokio")]
pub use driver::sleep::TokioSleep;
pub use driver::sleep::{AsyncSleep, NoTimer, Sleep, Sleeping, ThreadSleep};
pub use environment::Environment;
pub use resilience::call_error::{CallError, CallErrorKind};
pub use resilience::chance::Chance;
pub use resilience::circuit_breaker::{CircuitBreaker, CircuitBreakerBuilder, Grant, OwnedPermit, Permit, Refusal};
pub use resilience::clock::{Clock, SystemClock, Timestamp};
pub use resilience::event::{Event, EventKind, Listener};
pub use resilience::load_balancer::{EndpointStatus, Lease, LoadBalancer, LoadBalancerBuilder, Picked};
pub use resilience::outcome::{Answer, Classify, EveryError, Nested, Outcome};
pub use resilience::retry::{RetryBudget, RetryPolicy, RetryPolicyBuilder};
pub use resilience::service_proxy::{
    Attempt, AttemptStory, Call, CallOptions, Ending, Explanation, PassedOver, Refused, ServiceProxy,
    ServiceProxyBuilder, Story, Target, Verdict,
};
pub use service_mesh_models::*;
