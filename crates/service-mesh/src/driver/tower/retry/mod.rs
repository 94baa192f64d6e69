//! A service that is tried again, as a retry policy says.
//!
//! Every attempt goes to the same inner service: put a balancer inside, or use the
//! [proxy](super::ServiceProxyLayer), which goes elsewhere.

mod future;
mod layer;
mod service;

#[cfg(all(test, not(loom)))]
mod tests;

pub use future::RetryFuture;
pub use layer::RetryLayer;
pub use service::RetryService;
