//! Drivers act on what the decisions of [`resilience`](crate::resilience) say: they call, wait, and give back.

mod after_attempt;
mod asynchronous;
#[cfg(feature = "macros")]
pub mod attribute;
mod blocking;
mod running;
pub(crate) mod sleep;
#[cfg(feature = "tower")]
pub mod tower;
