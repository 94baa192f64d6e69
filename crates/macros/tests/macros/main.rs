//! What the attributes do to a function, as a user sees it.

mod circuit_breaker;
mod mistakes;
mod retry;
mod shapes;
mod stacked;

use service_mesh::CircuitOpenError;

/// An error as users have it: it says how a refusal becomes it, and no classifier sees through it.
#[derive(Clone, Debug, PartialEq, Eq)]
enum ApiError {
    Down,
    Open(CircuitOpenError),
}

impl From<CircuitOpenError> for ApiError {
    fn from(refusal: CircuitOpenError) -> Self {
        Self::Open(refusal)
    }
}

impl ApiError {
    fn is_open(&self) -> bool {
        matches!(self, Self::Open(_))
    }
}

/// Runs a future that never waits, or waits on a clock of its own.
fn block_on<F: Future>(future: F) -> F::Output {
    service_mesh::testing::ManualClock::new().block_on(future)
}
