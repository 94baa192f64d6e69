//! Slow, obvious models. They keep whole histories and recount them at every question; there is nothing in them to be
//! fast, so that little in them can be wrong. Where one disagrees with the code, the written rule decides who is right.
//!
//! Time is a plain number of nanoseconds here. The models tell what listeners should hear in the words of the crate, so
//! that the two can be compared as text.

pub(crate) mod circuit_breaker;
pub(crate) mod service_proxy;
