//! The paths of `service-mesh` whose cost is watched: one list, timed beside the peers by `make bench` and counted in
//! instructions by `make bench-instructions`.
//!
//! A [`Row`] is a loop around one operation, with what must be true of its subject afterwards: a row whose circuit has
//! tripped, or whose counter is full, measures something else than it says. Not for throughput of whole systems.
#![forbid(unsafe_code)]

mod row;
mod rows;

pub use row::{Row, work, work_that_fails_one_in_four};
pub use rows::{ready, rows};
