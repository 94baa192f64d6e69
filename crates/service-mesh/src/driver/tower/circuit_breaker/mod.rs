//! A circuit breaker around a service.
//!
//! Leave is asked for in `call`, not in `poll_ready`: what is taken there by a caller who never calls would be parked, and
//! the few places of a half-open circuit would be gone. `poll_ready` is the inner service's alone.

mod future;
mod layer;
mod service;

#[cfg(all(test, not(loom)))]
mod tests;

pub use future::CircuitBreakerFuture;
pub use layer::CircuitBreakerLayer;
pub use service::CircuitBreakerService;
