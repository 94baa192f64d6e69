//! For tests, ours and yours: a clock that is moved by hand, and a listener that keeps what it heard.
//!
//! With [`Environment::manual`](crate::Environment::manual) nothing sleeps and nothing is left to chance.

mod manual_clock;
mod recorder;

pub use manual_clock::ManualClock;
pub use recorder::Recorder;
