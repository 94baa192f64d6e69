//! One call: deadline, retry with budget, service breaker, pick, instance breaker, attempt timeout.

mod explain;

pub use explain::Story;
