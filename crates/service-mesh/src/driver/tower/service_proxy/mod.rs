//! The whole proxy as a service: requests go in, and pairs of a [`Target`](crate::Target) and a request come out, one an
//! attempt.
//!
//! The inner service takes the pair because the instance is known only when an attempt begins, and each attempt may have
//! another. So one client that can go anywhere (hyper's, reqwest's) needs only to be told the address, with
//! `map_request`; a client for each address (tonic's channels) is looked up by the instance's id.

mod future;
mod layer;
mod service;

#[cfg(all(test, not(loom)))]
mod tests;

pub use future::ServiceProxyFuture;
pub use layer::ServiceProxyLayer;
pub use service::ServiceProxyService;
