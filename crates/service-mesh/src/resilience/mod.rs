//! Decisions: no I/O, no threads, no runtime. Time and chance come from the [`Environment`](crate::Environment).

pub(crate) mod call_error;
pub(crate) mod chance;
pub(crate) mod circuit_breaker;
pub(crate) mod clock;
pub(crate) mod event;
pub(crate) mod load_balancer;
pub(crate) mod observer;
pub(crate) mod outcome;
pub(crate) mod retry;
pub(crate) mod service_proxy;
pub(crate) mod sync;
