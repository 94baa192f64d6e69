//! What tests need: a clock that is moved by hand, and the switch that keeps a whole process from waiting.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use pyo3::exceptions::PyTypeError;
use pyo3::prelude::*;
use service_mesh::{Clock, Environment, Timestamp};

use crate::seconds::kind;

/// The native half of `testing.ManualClock`: the time that the decisions see. Timers and waits are Python's.
#[pyclass(frozen, subclass, weakref, module = "codomyrmex.service_mesh._native")]
#[derive(Debug, Default)]
pub(crate) struct ManualClock {
    clock: service_mesh::testing::ManualClock,
}

#[pymethods]
impl ManualClock {
    #[new]
    fn new() -> Self {
        Self::default()
    }

    /// Nanoseconds since the clock's origin.
    fn nanoseconds(&self) -> u64 {
        self.clock.now().as_nanos()
    }

    /// Moves it forward to that time, if it is not there already.
    fn move_to(&self, nanoseconds: u64) {
        self.clock.advance(Timestamp::from_nanos(nanoseconds).since(self.clock.now()));
    }
}

impl ManualClock {
    /// What is built in it goes by this clock, and by chance that repeats itself.
    pub(crate) fn environment(&self) -> Environment {
        Environment::manual(&self.clock)
    }
}

/// What was given as `clock=`: a `testing.ManualClock`.
pub(crate) fn clock_of<'a, 'py>(clock: &'a Bound<'py, PyAny>) -> PyResult<&'a Bound<'py, ManualClock>> {
    clock.cast().map_err(|_| {
        let kind = kind(clock);
        PyTypeError::new_err(format!("clock must be a codomyrmex.service_mesh.testing.ManualClock, not {kind}"))
    })
}

/// What a part is built in: the system's environment, or that of a clock.
pub(crate) fn environment(clock: Option<&Bound<'_, ManualClock>>) -> Environment {
    clock.map_or_else(Environment::system, |clock| clock.get().environment())
}

/// The switch: bit 63 for on, bit 62 for a cap of attempts, which are the lower 32.
///
/// Ordering: Relaxed. Nothing else is made visible by it; a call that is under way may or may not see a change.
static SWITCH: AtomicU64 = AtomicU64::new(0);

const ON: u64 = 1 << 63;
const CAPPED: u64 = 1 << 62;
const ATTEMPTS: u64 = 0xFFFF_FFFF;

/// Sets the switch, and gives back what it was before, to be set again.
#[pyfunction]
pub(crate) fn switch_testing(testing: bool, attempts: Option<u32>) -> (bool, Option<u32>) {
    let cap = attempts.map_or(0, |attempts| CAPPED | u64::from(attempts));
    let before = SWITCH.swap(if testing { ON | cap } else { 0 }, Ordering::Relaxed);
    (before & ON != 0, attempts_of(before))
}

/// Whether nobody waits.
pub(crate) fn nobody_waits() -> bool {
    SWITCH.load(Ordering::Relaxed) & ON != 0
}

/// At most so many attempts, if the switch says so.
pub(crate) fn attempts_at_most() -> Option<u32> {
    attempts_of(SWITCH.load(Ordering::Relaxed))
}

/// The wait that is left of `delay`.
pub(crate) fn wait(delay: Duration) -> Duration {
    if nobody_waits() { Duration::ZERO } else { delay }
}

fn attempts_of(switch: u64) -> Option<u32> {
    (switch & CAPPED != 0).then_some((switch & ATTEMPTS) as u32)
}
