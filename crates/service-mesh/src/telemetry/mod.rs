//! What is told to the outside: listeners and observers that speak to the `metrics` and `tracing` facades. Nothing here
//! decides, and the decisions know nothing of it.

#[cfg(feature = "metrics")]
pub(crate) mod metrics;
#[cfg(feature = "tracing")]
pub(crate) mod tracing;
