//! Layers and services for [tower](https://docs.rs/tower): a circuit breaker, retry, and the whole proxy.
//!
//! Each is a driver like the others: it polls the inner service, waits, and takes every decision from the part that it
//! drives. The shape (a folder a middleware, a layer, a service and a named future) is tower's own.
//!
//! - [`CircuitBreakerLayer`] puts a [`CircuitBreaker`](crate::CircuitBreaker) around a service.
//! - [`RetryLayer`] tries a service again, as a [`RetryPolicy`](crate::RetryPolicy) says.
//! - [`ServiceProxyLayer`] makes a service for requests from one for pairs of a [`Target`](crate::Target) and a request:
//!   each attempt goes to the instance that the [`ServiceProxy`](crate::ServiceProxy) picks for it.
//!
//! ```
//! use service_mesh::testing::ManualClock;
//! use service_mesh::tower::ServiceProxyLayer;
//! use service_mesh::{ServiceInstance, ServiceProxy, Target};
//! use tower::{ServiceBuilder, ServiceExt, service_fn};
//!
//! let payments = ServiceProxy::new("payments");
//! payments.load_balancer().register(ServiceInstance::new("a", "10.0.0.1", 80));
//!
//! let service = ServiceBuilder::new()
//!     .layer(ServiceProxyLayer::new(payments))
//!     .service(service_fn(async |(target, path): (Target, &'static str)| {
//!         Ok::<_, std::io::Error>(format!("http://{}{path}", target.address()))
//!     }));
//! let answer = ManualClock::new().block_on(service.oneshot("/orders"));
//! assert_eq!(answer.unwrap(), "http://10.0.0.1:80/orders");
//! ```
//!
//! # Readiness
//! tower asks `poll_ready` before it knows the request, and what is reserved there is lost if no call follows. Nothing of
//! ours is reserved there: leave of a circuit and a place at an instance are taken for a call that exists, and given back
//! when its future ends or is dropped. So a refusal is an error of the call, and never one of `poll_ready`, which in tower
//! would mean that the service is dead.
//!
//! # Errors
//! They are [`CallError`](crate::CallError)s around the error of the inner service. Where that is tower's `BoxError`, which
//! is no `Error` itself, flatten it for the layers outside: `map_err(CallError::into_error)`.
//!
//! # When not to use them
//! Where nothing else is built of tower: [`ServiceProxy::call_async`](crate::ServiceProxy::call_async) is shorter. And
//! `tower::balance` picks before the request is known, so it cannot promise that a retry goes elsewhere: use the proxy in
//! its place, not behind it.

mod circuit_breaker;
mod options;
mod replay;
mod retry;
mod service_proxy;

pub use circuit_breaker::{CircuitBreakerFuture, CircuitBreakerLayer, CircuitBreakerService};
pub use options::RequestOptions;
pub use replay::{CloneRequest, Replay};
pub use retry::{RetryFuture, RetryLayer, RetryService};
pub use service_proxy::{ServiceProxyFuture, ServiceProxyLayer, ServiceProxyService};
