//! What a decorated function does when it is called.
//!
//! The numbers in the SAFETY comments are those of [`super`].

use std::sync::Arc;

use pyo3::ffi;
use pyo3::intern;
use service_mesh::CircuitBreaker as Core;

use super::arguments::Arguments;
use super::pair::Pair;
use crate::circuit_breaker::Circuit;
use crate::retry::Switches;

/// What a call does. Each kind has a vectorcall of its own, which costs 3 ns less than a `match` in one for all.
pub(super) trait Kind {
    fn call(pair: &Pair, native: &Native, arguments: Arguments) -> *mut ffi::PyObject;
}

/// What a call needs of its guard at once. It holds no Python object.
pub(super) enum Native {
    Circuit { core: Core, circuit: Arc<Circuit> },
    Policy(Arc<Switches>),
}

pub(super) struct WithCircuitBreaker;
pub(super) struct WithRetry;
pub(super) struct Begin;
pub(super) struct Succeed;

impl Kind for WithCircuitBreaker {
    #[inline]
    fn call(pair: &Pair, native: &Native, arguments: Arguments) -> *mut ffi::PyObject {
        let Native::Circuit { core, circuit } = native else { other_kind() };
        if circuit.is_hooked() {
            return pair.call_guard(arguments, |py| intern!(py, "execute"));
        }
        match core.try_acquire_number() {
            Some(number) => pair.run_admitted(core, circuit, number, arguments),
            None => pair.ask_and_run(core, arguments),
        }
    }
}

impl Kind for WithRetry {
    #[inline]
    fn call(pair: &Pair, native: &Native, arguments: Arguments) -> *mut ffi::PyObject {
        let Native::Policy(switches) = native else { other_kind() };
        if switches.is_plain() { pair.run_and_retry(arguments) } else { pair.retry_from_the_first(switches, arguments) }
    }
}

/// The first half of a call that Python drives: asks for leave.
impl Kind for Begin {
    #[inline]
    fn call(pair: &Pair, native: &Native, arguments: Arguments) -> *mut ffi::PyObject {
        let Native::Circuit { core, circuit } = native else { other_kind() };
        match core.try_acquire_number() {
            // SAFETY: it makes an integer.
            Some(number) if !circuit.is_hooked() => unsafe { ffi::PyLong_FromUnsignedLongLong(number) },
            _ => pair.call_method(arguments, |py| intern!(py, "_begin")),
        }
    }
}

/// The second half: takes a result, and gives it back.
impl Kind for Succeed {
    #[inline]
    fn call(pair: &Pair, native: &Native, arguments: Arguments) -> *mut ffi::PyObject {
        let Native::Circuit { core, circuit } = native else { other_kind() };
        match arguments.leave() {
            Some((number, result)) if circuit.is_plain() => {
                core.permit_of(number).success();
                // SAFETY: by 1; it is handed on as a new reference.
                unsafe { ffi::Py_NewRef(result) }
            }
            _ => pair.succeed(arguments),
        }
    }
}

/// A kind that was made with what another needs: a bug of [`make`](super::class::make)'s callers.
#[cold]
fn other_kind() -> ! {
    unreachable!("each kind is made in one place, with what it needs")
}
