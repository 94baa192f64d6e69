//! The decorated sync function: a callable that costs a few nanoseconds more than the function that it guards.
//!
//! `#[pyclass] __call__` builds a tuple and a dict for each call, since `PyO3` knows no vectorcall for it (its issue 4252);
//! with a keyword that costs 190 ns. This is a heap type over `pyo3::ffi` that hands the arguments on where they lie. It is
//! what a function is to Python: it binds as a method, has a `__dict__` for `functools.update_wrapper`, is seen by the
//! garbage collector, may be referenced weakly, and pickles by its qualified name.
//!
//! All the `unsafe` of this crate is here. What the SAFETY comments lean on:
//!
//! 1. The interpreter calls a slot of a type attached to the thread, with a receiver of that type, and keeps the receiver and
//!    the arguments alive until the slot returns.
//! 2. A [`Guarded`] is made by [`make`] alone, which fills every field before anybody else sees the object.
//! 3. `func` and `guard` are strong references, set once and released by [`clear`] or [`dealloc`] alone. The collector calls
//!    `clear` for what nobody can reach, so that no call is under way then or begins later, and `dealloc` comes last.
//! 4. A reference that the interpreter gives back as new is ours, and becomes one [`Bound`] or is handed on once.
#![allow(unsafe_code, reason = "the one module of this crate that may")]

use std::any::Any;
use std::cell::UnsafeCell;
use std::ffi::{CStr, CString, c_int, c_void};
use std::hint::black_box;
use std::mem::offset_of;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::ptr::{self, NonNull};
use std::sync::Arc;
use std::sync::atomic::{AtomicPtr, Ordering};

use pyo3::exceptions::PyTypeError;
use pyo3::ffi;
use pyo3::panic::PanicException;
use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;
use pyo3::types::{PyDict, PyString, PyTuple, PyType};
use pyo3::{Borrowed, IntoPyObjectExt, PyClass, intern};
use service_mesh::{
    Answer, Attempt, CircuitBreaker as Core, Permit, Refusal, Refused, Retrying, ServiceProxy as ProxyCore,
};

use crate::circuit_breaker::{Circuit, CircuitBreaker};
use crate::load_balancer::Object;
use crate::retry::{RetryPolicy, Switches, awaited_coroutine};
use crate::service_proxy::{Memory, Parts, Present, ServiceProxy};

/// A decorated function, as it lies in memory. In the cells the interpreter writes, whoever else reads the rest.
#[repr(C)]
struct Guarded {
    head: UnsafeCell<ffi::PyObject>,
    /// The function that a call runs; the interpreter finds it by `__vectorcalloffset__`.
    vectorcall: Option<ffi::vectorcallfunc>,
    dict: UnsafeCell<*mut ffi::PyObject>,
    weakrefs: UnsafeCell<*mut ffi::PyObject>,
    /// The function, and what guards it.
    pair: Pair,
    /// What a call needs of its guard at once.
    native: Native,
}

/// A function, and what guards it for a call: in a decorated function, or in the hands of whoever calls `execute`. Both are
/// alive for as long as the call: see 1 and 3.
#[repr(C)]
struct Pair {
    /// The function that is guarded.
    func: *mut ffi::PyObject,
    /// The `CircuitBreaker` or `RetryPolicy`.
    guard: *mut ffi::PyObject,
}

/// What a call needs of its guard at once. It holds no Python object.
enum Native {
    Circuit { core: Core, circuit: Arc<Circuit> },
    Policy(Arc<Switches>),
}

/// The name of a method.
type Name = fn(Python<'_>) -> &Bound<'_, PyString>;

/// Arguments as they lie in the caller's hands.
#[derive(Clone, Copy)]
struct Arguments {
    values: *const *mut ffi::PyObject,
    count: usize,
    names: *mut ffi::PyObject,
}

/// Puts a breaker before a sync function.
#[pyfunction]
pub(crate) fn guard_with_circuit_breaker<'py>(
    func: &Bound<'py, PyAny>,
    breaker: &Bound<'py, CircuitBreaker>,
) -> PyResult<Bound<'py, PyAny>> {
    let circuit = Arc::clone(breaker.get().circuit());
    make::<WithCircuitBreaker>(func, breaker.as_any(), Native::Circuit { core: circuit.core().clone(), circuit })
}

/// `breaker._begin`, and `breaker._succeed` that gives the result back, for a closure that calls them for every call: a
/// method of `PyO3`'s costs 15 ns more each.
#[pyfunction]
pub(crate) fn halves_of_a_call<'py>(
    breaker: &Bound<'py, CircuitBreaker>,
) -> PyResult<(Bound<'py, PyAny>, Bound<'py, PyAny>)> {
    let circuit = breaker.get().circuit();
    let native = || Native::Circuit { core: circuit.core().clone(), circuit: Arc::clone(circuit) };
    let none = breaker.py().None().into_bound(breaker.py());
    Ok((make::<Begin>(&none, breaker.as_any(), native())?, make::<Succeed>(&none, breaker.as_any(), native())?))
}

/// Puts a retry policy before a sync function.
#[pyfunction]
pub(crate) fn guard_with_retry_policy<'py>(
    func: &Bound<'py, PyAny>,
    policy: &Bound<'py, RetryPolicy>,
) -> PyResult<Bound<'py, PyAny>> {
    make::<WithRetry>(func, policy.as_any(), Native::Policy(Arc::clone(policy.get().switches())))
}

/// Whether this is a coroutine: what `async def` gives back.
#[inline]
pub(crate) fn is_coroutine(value: &Bound<'_, PyAny>) -> bool {
    ptr::eq(value.get_type_ptr(), COROUTINE.load(Ordering::Relaxed))
}

/// The address of the frame that called us.
pub(crate) fn calling_frame(_py: Python<'_>) -> usize {
    // SAFETY: the token shows that we are attached; the frame is not touched.
    unsafe { ffi::PyEval_GetFrame() }.addr()
}

/// `types.CoroutineType`, which lives as long as the interpreter.
///
/// Ordering: Relaxed. It is stored while the module is imported, before anything can be decorated.
static COROUTINE: AtomicPtr<ffi::PyTypeObject> = AtomicPtr::new(ptr::null_mut());

/// `types.MethodType`.
fn method(py: Python<'_>) -> PyResult<&Bound<'_, PyType>> {
    static METHOD: PyOnceLock<Py<PyType>> = PyOnceLock::new();
    METHOD.import(py, "types", "MethodType")
}

/// Looks up what the hot path compares with, and what could not be imported any more while the interpreter finalizes.
pub(crate) fn prepare(py: Python<'_>) -> PyResult<()> {
    method(py)?;
    VECTORCALL.store(black_box(ffi::PyObject_Vectorcall as *mut c_void), Ordering::Relaxed);
    CALL.store(black_box(ffi::PyObject_Call as *mut c_void), Ordering::Relaxed);
    let coroutine = py.import("types")?.getattr("CoroutineType")?.cast_into::<PyType>()?;
    // Never given back: the interpreter holds this type for ever anyway.
    COROUTINE.store(coroutine.into_ptr().cast(), Ordering::Relaxed);
    add_method::<CircuitBreaker>(py)?;
    add_method::<RetryPolicy>(py)?;
    add_method::<ServiceProxy>(py)
}

/// Gives a class the method that costs no tuple and no dict.
fn add_method<G: Guard>(py: Python<'_>) -> PyResult<()> {
    let (class, name) = (py.get_type::<G>(), G::METHOD.to_string_lossy());
    let slow = class.getattr((G::SLOW)(py))?.getattr("__doc__")?.extract::<String>()?;
    let doc = CString::new(format!("{name}($self, func, /, *args, **kwargs)\n--\n\n{slow}"))?;
    // The interpreter keeps pointing at it.
    let method = Box::leak(Box::new(ffi::PyMethodDef {
        ml_name: G::METHOD.as_ptr(),
        ml_meth: ffi::PyMethodDefPointer { PyCFunctionFastWithKeywords: execute::<G> },
        ml_flags: ffi::METH_FASTCALL | ffi::METH_KEYWORDS,
        ml_doc: doc.into_raw(),
    }));
    // SAFETY: the method has the signature that its flags tell, and lives for ever; what comes back is new.
    let method = unsafe { Bound::from_owned_ptr_or_err(py, ffi::PyDescr_NewMethod(class.as_type_ptr(), method))? };
    class.setattr(&*name, method)
}

// ----- a call -----

unsafe extern "C" fn call<K: Kind>(
    callable: *mut ffi::PyObject,
    values: *const *mut ffi::PyObject,
    count: usize,
    names: *mut ffi::PyObject,
) -> *mut ffi::PyObject {
    // SAFETY: by 1 and 2, and it is not written before `clear`, by 3.
    let this = unsafe { &*callable.cast::<Guarded>() };
    K::call(&this.pair, &this.native, Arguments { values, count, names })
}

/// What a call does. Each kind has a vectorcall of its own, which costs 3 ns less than a `match` in one for all.
trait Kind {
    fn call(pair: &Pair, native: &Native, arguments: Arguments) -> *mut ffi::PyObject;
}

struct WithCircuitBreaker;
struct WithRetry;
struct Begin;
struct Succeed;

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

/// A kind that was made with what another needs: a bug of [`make`]'s callers.
#[cold]
fn other_kind() -> ! {
    unreachable!("each kind is made in one place, with what it needs")
}

#[inline]
fn is_coroutine_at(value: NonNull<ffi::PyObject>) -> bool {
    // SAFETY: it has just been given back to us as new.
    let class = unsafe { ffi::Py_TYPE(value.as_ptr()) };
    ptr::eq(class, COROUTINE.load(Ordering::Relaxed))
}

/// `CircuitBreaker.execute`, `RetryPolicy.execute` and `ServiceProxy.call`: the same for a function that is given with its
/// arguments.
///
/// Like `contextvars.Context.run` they hand the arguments on where they lie, behind the function. What is out of the ordinary
/// goes through [`Guard::SLOW`], which is a method of `PyO3`'s.
unsafe extern "C" fn execute<G: Guard>(
    guard: *mut ffi::PyObject,
    values: *const *mut ffi::PyObject,
    count: ffi::Py_ssize_t,
    names: *mut ffi::PyObject,
) -> *mut ffi::PyObject {
    let all = Arguments { values, count: count.unsigned_abs(), names };
    // SAFETY: by 1, we are attached, and the descriptor has seen to it that the receiver is a `G`.
    let this = unsafe { Borrowed::from_ptr(Python::assume_attached(), guard).cast_unchecked::<G>() };
    let Some(rest) = all.count.checked_sub(1) else {
        return attached(|_py| {
            let name = G::METHOD.to_string_lossy();
            Err(PyTypeError::new_err(format!("{name}() missing 1 required positional argument: 'func'")))
        });
    };
    // SAFETY: by 1, `values` holds at least one argument.
    let (func, values) = unsafe { (*values, values.add(1)) };
    let arguments = Arguments { values, count: rest, names };
    let pair = Pair { func, guard };
    this.get().run_plain(&pair, arguments).unwrap_or_else(|| pair.call_method(all, G::SLOW))
}

/// A class with a method that runs a function.
trait Guard: PyClass<Frozen = pyo3::pyclass::boolean_struct::True> + Sync {
    /// The name of the method.
    const METHOD: &CStr = c"execute";
    /// The same as a method of `PyO3`'s, for what is out of the ordinary.
    const SLOW: Name = |py| intern!(py, "_execute");

    /// A call that is not out of the ordinary when it begins; none if it is, and then nothing has happened.
    fn run_plain(&self, pair: &Pair, arguments: Arguments) -> Option<*mut ffi::PyObject>;
}

impl Guard for CircuitBreaker {
    #[inline]
    fn run_plain(&self, pair: &Pair, arguments: Arguments) -> Option<*mut ffi::PyObject> {
        let circuit = self.circuit();
        if circuit.is_hooked() {
            return None;
        }
        let number = circuit.core().try_acquire_number()?;
        Some(pair.run_admitted(circuit.core(), circuit, number, arguments))
    }
}

impl Guard for RetryPolicy {
    #[inline]
    fn run_plain(&self, pair: &Pair, arguments: Arguments) -> Option<*mut ffi::PyObject> {
        self.switches().is_plain().then(|| pair.run_and_retry(arguments))
    }
}

impl Guard for ServiceProxy {
    const METHOD: &CStr = c"call";
    const SLOW: Name = |py| intern!(py, "_call");

    #[inline]
    fn run_plain(&self, pair: &Pair, arguments: Arguments) -> Option<*mut ffi::PyObject> {
        let parts = self.plain_parts()?;
        let attempt = match parts.admit_first() {
            Ok(attempt) => attempt,
            Err(refused) => return Some(pair.refuse_call(&parts, &refused, arguments)),
        };
        let result = match attempt.attachment::<Object>() {
            // The attempt keeps it alive.
            Some(known) => pair.run_with(known.object(), arguments),
            None => pair.run_with_new_object(&parts, &attempt, arguments),
        };
        Some(match NonNull::new(result) {
            Some(value) if parts.is_indifferent() && !is_coroutine_at(value) => {
                // A success that nobody judges is final.
                let _ = attempt.settle(Answer::success());
                result
            }
            value => pair.go_on(&parts, attempt, value, arguments),
        })
    }
}

/// So many arguments are handed on with the instance before them without a look at the heap.
const FEW: usize = 6;

impl Pair {
    /// Calls the function with an instance, and the caller's arguments behind it.
    #[inline]
    fn run_with(&self, instance: &Py<PyAny>, arguments: Arguments) -> *mut ffi::PyObject {
        let Arguments { values, count, names } = arguments;
        // SAFETY: a pure function of a number.
        let positional = unsafe { ffi::PyVectorcall_NARGS(count) }.unsigned_abs();
        // SAFETY: by 1; the names are a tuple, if there are any.
        let named = if names.is_null() { 0 } else { unsafe { ffi::PyTuple_Size(names) }.unsigned_abs() };
        if positional + named > FEW {
            return self.run_with_many(instance, arguments);
        }
        // The first place is the callee's to write to, which saves a bound method a copy.
        let mut all = [ptr::null_mut(); 2 + FEW];
        all[1] = instance.as_ptr();
        // SAFETY: by 1, `values` holds so many arguments, and there is room for them.
        unsafe { ptr::copy_nonoverlapping(values, all[2..].as_mut_ptr(), positional + named) };
        let count = (1 + positional) | ffi::PY_VECTORCALL_ARGUMENTS_OFFSET;
        // SAFETY: by 1 and 3; the instance is alive for as long as its borrow, and what lies before it may be written to.
        unsafe { vectorcall(self.func, all.as_mut_ptr().add(1), count, names) }
    }

    /// The same with many arguments.
    #[cold]
    fn run_with_many(&self, instance: &Py<PyAny>, arguments: Arguments) -> *mut ffi::PyObject {
        attached(|py| {
            let (positional, keywords) = arguments.collect(py)?;
            let all = PyTuple::new(py, [instance.bind(py).clone()].into_iter().chain(positional).collect::<Vec<_>>())?;
            self.func(py).call_out_with(&all, keywords.as_ref())
        })
    }

    /// The same with an instance that no Python code has seen yet.
    #[cold]
    fn run_with_new_object(
        &self,
        parts: &Parts,
        attempt: &Attempt<&ProxyCore>,
        arguments: Arguments,
    ) -> *mut ffi::PyObject {
        let made = attached_with(|py| parts.instance(py, attempt).map(Bound::unbind));
        made.map_or(ptr::null_mut(), |instance| self.run_with(&instance, arguments))
    }

    /// What follows the first attempt of a proxy's call where that was no plain success.
    #[cold]
    fn go_on(
        &self,
        parts: &Present,
        attempt: Attempt<&ProxyCore>,
        first: Option<NonNull<ffi::PyObject>>,
        arguments: Arguments,
    ) -> *mut ffi::PyObject {
        attached(|py| {
            // SAFETY: by 4; without a result there is an error.
            let first = unsafe { Bound::from_owned_ptr_or_err(py, first.map_or(ptr::null_mut(), NonNull::as_ptr)) };
            let proxy = self.guard(py).cast_into::<ServiceProxy>()?;
            let (positional, keywords) = arguments.collect(py)?;
            let positional = PyTuple::new(py, positional)?;
            let (func, memory) = (self.func(py), Memory::default());
            ServiceProxy::go_on(&proxy, parts, memory, attempt, first, &func, &positional, keywords.as_ref())
        })
    }

    /// What a proxy's caller gets whose call was refused before its first attempt.
    #[cold]
    fn refuse_call(&self, parts: &Present, refused: &Refused, arguments: Arguments) -> *mut ffi::PyObject {
        attached(|py| {
            let proxy = self.guard(py).cast_into::<ServiceProxy>()?;
            let (positional, keywords) = arguments.collect(py)?;
            let positional = PyTuple::new(py, positional)?;
            ServiceProxy::refuse(&proxy, parts, refused, &self.func(py), &positional, keywords.as_ref())
        })
    }

    /// A call for which the circuit has given this number.
    #[inline]
    fn run_admitted(&self, core: &Core, circuit: &Circuit, number: u64, arguments: Arguments) -> *mut ffi::PyObject {
        let result = self.run(arguments);
        match NonNull::new(result) {
            Some(value) if circuit.is_plain() && !is_coroutine_at(value) => {
                core.permit_of(number).success();
                result
            }
            value => self.settle(core.permit_of(number), value),
        }
    }

    /// A call that nobody counts, and whose result nobody judges.
    #[inline]
    fn run_and_retry(&self, arguments: Arguments) -> *mut ffi::PyObject {
        let result = self.run(arguments);
        match NonNull::new(result) {
            Some(value) if !is_coroutine_at(value) => result,
            value => self.retry(None, value, arguments),
        }
    }

    /// Calls the function with the caller's arguments.
    #[inline]
    fn run(&self, Arguments { values, count, names }: Arguments) -> *mut ffi::PyObject {
        // SAFETY: by 1 and 3. The flag in `count`, that `values[-1]` may be written meanwhile, is our caller's promise, and we
        // do not use it ourselves.
        unsafe { vectorcall(self.func, values, count, names) }
    }

    /// A call that is a probe, or timed, or refused.
    #[cold]
    fn ask_and_run(&self, core: &Core, arguments: Arguments) -> *mut ffi::PyObject {
        match core.try_acquire() {
            Ok(permit) => {
                let result = self.run(arguments);
                self.settle(permit, NonNull::new(result))
            }
            Err(refusal) => self.refuse(refusal),
        }
    }

    /// A result that is more than a success, or an error if there is none.
    #[cold]
    fn settle(&self, permit: Permit<'_>, result: Option<NonNull<ffi::PyObject>>) -> *mut ffi::PyObject {
        attached(|py| {
            let breaker = self.guard(py).cast_into::<CircuitBreaker>()?;
            // SAFETY: by 4; without a result there is an error.
            let result = unsafe { Bound::from_owned_ptr_or_err(py, result.map_or(ptr::null_mut(), NonNull::as_ptr)) };
            CircuitBreaker::settle(&breaker, Some(permit), result)
        })
    }

    #[cold]
    fn refuse(&self, refusal: Refusal) -> *mut ffi::PyObject {
        attached(|py| Err(self.guard(py).cast_into::<CircuitBreaker>()?.get().refused(py, refusal)))
    }

    /// A call that a budget counts, whose result is judged, or that a subclass makes.
    #[cold]
    fn retry_from_the_first(&self, switches: &Switches, arguments: Arguments) -> *mut ffi::PyObject {
        if switches.overrides_execute() {
            return self.call_guard(arguments, |py| intern!(py, "execute"));
        }
        let began = attached_with(|py| Ok(self.guard(py).cast_into::<RetryPolicy>()?.get().begin()));
        match began {
            Some(began) => self.retry(began, NonNull::new(self.run(arguments)), arguments),
            None => ptr::null_mut(),
        }
    }

    /// What follows the first attempt of a call.
    #[cold]
    fn retry(
        &self,
        began: Option<Retrying>,
        first: Option<NonNull<ffi::PyObject>>,
        arguments: Arguments,
    ) -> *mut ffi::PyObject {
        attached(|py| {
            let policy = self.guard(py).cast_into::<RetryPolicy>()?;
            // SAFETY: by 4; without a result there is an error.
            let first = unsafe { Bound::from_owned_ptr_or_err(py, first.map_or(ptr::null_mut(), NonNull::as_ptr)) };
            if let Ok(first) = &first
                && is_coroutine(first)
            {
                let (positional, keywords) = arguments.collect(py)?;
                return awaited_coroutine(&policy, began, &self.func(py), positional, keywords.as_ref(), first);
            }
            RetryPolicy::again(&policy, began, first, &mut || {
                // SAFETY: by 4; without a result there is an error.
                unsafe { Bound::from_owned_ptr_or_err(py, self.run(arguments)) }
            })
        })
    }

    /// A result that is more than a success, or whose leave is a permit.
    #[cold]
    fn succeed(&self, arguments: Arguments) -> *mut ffi::PyObject {
        attached(|py| {
            let (positional, _) = arguments.collect(py)?;
            let result = positional.get(1).cloned();
            self.guard(py).call_method1(intern!(py, "_succeed"), PyTuple::new(py, positional)?)?;
            Ok(result.unwrap_or_else(|| py.None().into_bound(py)))
        })
    }

    /// The call through a method of the guard, which gets the function first.
    #[cold]
    fn call_guard(&self, arguments: Arguments, name: Name) -> *mut ffi::PyObject {
        attached(|py| {
            let (positional, keywords) = arguments.collect(py)?;
            let mut all = vec![self.func(py)];
            all.extend(positional);
            self.guard(py).getattr(name(py))?.call_out_with(&PyTuple::new(py, all)?, keywords.as_ref())
        })
    }

    /// A method of the guard with the arguments as they are.
    #[cold]
    fn call_method(&self, arguments: Arguments, name: Name) -> *mut ffi::PyObject {
        attached(|py| {
            let (positional, keywords) = arguments.collect(py)?;
            self.guard(py).getattr(name(py))?.call_out_with(&PyTuple::new(py, positional)?, keywords.as_ref())
        })
    }

    fn func<'py>(&self, py: Python<'py>) -> Bound<'py, PyAny> {
        // SAFETY: by 3.
        unsafe { Bound::from_borrowed_ptr(py, self.func) }
    }

    fn guard<'py>(&self, py: Python<'py>) -> Bound<'py, PyAny> {
        // SAFETY: by 3.
        unsafe { Bound::from_borrowed_ptr(py, self.guard) }
    }
}

impl Arguments {
    /// The number that `_begin` gave, and a result, if that is what these two are.
    #[inline]
    fn leave(self) -> Option<(u64, *mut ffi::PyObject)> {
        // SAFETY: by 1, `values` holds so many arguments; what is looked at first is whether it is an integer. One that is not
        // of our making and does not fit becomes another number, which is late.
        unsafe {
            let is_ours = ffi::PyVectorcall_NARGS(self.count) == 2 && ffi::PyLong_CheckExact(*self.values) != 0;
            is_ours.then(|| (ffi::PyLong_AsUnsignedLongLongMask(*self.values), *self.values.add(1)))
        }
    }

    /// The positional ones, and the others by name.
    #[expect(clippy::type_complexity, reason = "what `call` takes")]
    fn collect(self, py: Python<'_>) -> PyResult<(Vec<Bound<'_, PyAny>>, Option<Bound<'_, PyDict>>)> {
        // SAFETY: a pure function of a number.
        let positional = unsafe { ffi::PyVectorcall_NARGS(self.count) }.unsigned_abs();
        // SAFETY: by 1, `values` holds so many arguments, and behind them one for each name.
        let value = |place: usize| unsafe { Bound::from_borrowed_ptr(py, *self.values.add(place)) };
        let names = NonNull::new(self.names).map(|names| {
            // SAFETY: by 1; it is a tuple of strings.
            unsafe { Bound::from_borrowed_ptr(py, names.as_ptr()).cast_into_unchecked::<PyTuple>() }
        });
        let Some(names) = names else { return Ok(((0..positional).map(value).collect(), None)) };
        let keywords = PyDict::new(py);
        for (place, name) in (positional..).zip(names) {
            keywords.set_item(name, value(place))?;
        }
        Ok(((0..positional).map(value).collect(), Some(keywords)))
    }
}

// ----- calls of Python, whose thread may end in them -----

/// What a user gave us to call, called so that his thread may end meanwhile.
///
/// Before Python 3.14, a daemon thread that comes back to an interpreter which finalizes is ended where it stands, by
/// `pthread_exit`: the stack is unwound, through the Rust that made the call, and that ends the process. Here the thread waits
/// for the end of the process instead, as it does from Python 3.14 on. `PyO3` does the same where it attaches (its
/// `HangThread`), and not where it calls; so what runs for long or waits goes through here.
pub(crate) trait CallOut<'py> {
    /// Calls it with these arguments, at most three.
    fn call_out<const N: usize>(&self, arguments: [&Bound<'py, PyAny>; N]) -> PyResult<Bound<'py, PyAny>>;

    /// Calls it with as many as there are.
    fn call_out_with(
        &self,
        args: &Bound<'py, PyTuple>,
        kwargs: Option<&Bound<'py, PyDict>>,
    ) -> PyResult<Bound<'py, PyAny>>;
}

impl<'py> CallOut<'py> for Bound<'py, PyAny> {
    #[inline]
    fn call_out<const N: usize>(&self, arguments: [&Self; N]) -> PyResult<Self> {
        const { assert!(N <= 3) }
        // The first place is the callable's, which may put the receiver of a bound method there.
        let mut values = [ptr::null_mut(); 4];
        for (value, argument) in values[1..].iter_mut().zip(arguments) {
            *value = argument.as_ptr();
        }
        let count = N | ffi::PY_VECTORCALL_ARGUMENTS_OFFSET;
        // SAFETY: the token of a `Bound` shows that we are attached. There are N arguments behind the first place, which the
        // flag lends; what comes back is new, or null with an error set.
        unsafe {
            let result = vectorcall(self.as_ptr(), values.as_mut_ptr().add(1), count, ptr::null_mut());
            Bound::from_owned_ptr_or_err(self.py(), result)
        }
    }

    fn call_out_with(&self, args: &Bound<'py, PyTuple>, kwargs: Option<&Bound<'py, PyDict>>) -> PyResult<Self> {
        let end = HereTheThreadEnds;
        // SAFETY: as above; what is loaded is `PyObject_Call`, or null.
        let result = unsafe {
            let kwargs = kwargs.map_or(ptr::null_mut(), Bound::as_ptr);
            match std::mem::transmute::<*mut c_void, Option<Call>>(CALL.load(Ordering::Relaxed)) {
                Some(call) => call(self.as_ptr(), args.as_ptr(), kwargs),
                None => ffi::PyObject_Call(self.as_ptr(), args.as_ptr(), kwargs),
            }
        };
        std::mem::forget(end);
        // SAFETY: what comes back is new, or null with an error set.
        unsafe { Bound::from_owned_ptr_or_err(self.py(), result) }
    }
}

/// Stands in a frame that calls Python. It is forgotten when the call comes back, and dropped when the stack is unwound: no
/// panic comes from Python, so that it is the thread that ends.
struct HereTheThreadEnds;

impl Drop for HereTheThreadEnds {
    fn drop(&mut self) {
        loop {
            std::thread::park();
        }
    }
}

/// # Safety
/// As of `PyObject_Vectorcall`.
#[inline]
unsafe fn vectorcall(
    callable: *mut ffi::PyObject,
    values: *const *mut ffi::PyObject,
    count: usize,
    names: *mut ffi::PyObject,
) -> *mut ffi::PyObject {
    let end = HereTheThreadEnds;
    // SAFETY: our caller's; what is loaded is `PyObject_Vectorcall`, or null.
    let result = unsafe {
        match std::mem::transmute::<*mut c_void, Option<Vectorcall>>(VECTORCALL.load(Ordering::Relaxed)) {
            Some(call) => call(callable, values, count, names),
            None => ffi::PyObject_Vectorcall(callable, values, count, names),
        }
    };
    std::mem::forget(end);
    result
}

type Vectorcall = unsafe extern "C-unwind" fn(
    *mut ffi::PyObject,
    *const *mut ffi::PyObject,
    usize,
    *mut ffi::PyObject,
) -> *mut ffi::PyObject;
type Call =
    unsafe extern "C-unwind" fn(*mut ffi::PyObject, *mut ffi::PyObject, *mut ffi::PyObject) -> *mut ffi::PyObject;

/// `PyObject_Vectorcall` and `PyObject_Call`, as functions that may unwind. `PyO3` declares that they do not, and what the
/// compiler knows not to unwind has no place where it could be held up. So it must not know what is stored here, which
/// `black_box` sees to: a static that only one value is ever stored to is seen through.
///
/// Ordering: Relaxed. They are stored while the module is imported, before anything can be called.
static VECTORCALL: AtomicPtr<c_void> = AtomicPtr::new(ptr::null_mut());
static CALL: AtomicPtr<c_void> = AtomicPtr::new(ptr::null_mut());

// ----- results -----

/// Runs what needs `PyO3`, in a slot that the interpreter has called attached, and gives its result back as a slot does.
fn attached(body: impl FnOnce(Python<'_>) -> PyResult<Bound<'_, PyAny>>) -> *mut ffi::PyObject {
    attached_with(|py| body(py).map(Bound::into_ptr)).unwrap_or(ptr::null_mut())
}

/// The same for any result; where there is none, the interpreter has the error. A panic is one, as in every method of `PyO3`'s.
fn attached_with<R>(body: impl FnOnce(Python<'_>) -> PyResult<R>) -> Option<R> {
    let run = |py: Python<'_>| {
        let result = catch_unwind(AssertUnwindSafe(|| body(py))).unwrap_or_else(|panic| Err(error_of(panic.as_ref())));
        result.map_err(|error| error.restore(py)).ok()
    };
    // SAFETY: by 1, we are attached. `Python::attach` would ask whether the interpreter is initialized, which it denies while
    // it finalizes, and a finalizer may call us then.
    unsafe { Python::attach_unchecked(run) }
}

fn error_of(panic: &(dyn Any + Send)) -> PyErr {
    let text = panic.downcast_ref::<&str>().copied().or_else(|| panic.downcast_ref::<String>().map(String::as_str));
    PanicException::new_err(text.unwrap_or("panic").to_owned())
}

// ----- the type -----

/// A guarded function, with the metadata of `func` still to be copied.
fn make<'py, K: Kind>(
    func: &Bound<'py, PyAny>,
    guard: &Bound<'py, PyAny>,
    native: Native,
) -> PyResult<Bound<'py, PyAny>> {
    let py = func.py();
    let class = class(py)?;
    // SAFETY: the class is ours; what comes back is new, and zeroed behind its head.
    let made = unsafe {
        let made = ffi::PyType_GenericAlloc(class.as_type_ptr(), 0);
        Bound::from_owned_ptr_or_err(py, made)?
    };
    let fields = made.as_ptr().cast::<Guarded>();
    // SAFETY: it has the size of `Guarded` and is nobody else's yet; the collector may look at it already, and sees fields
    // that are null or whole.
    unsafe {
        (&raw mut (*fields).native).write(native);
        (*fields).pair = Pair { func: func.clone().into_ptr(), guard: guard.clone().into_ptr() };
        (*fields).vectorcall = Some(call::<K>);
    }
    Ok(made)
}

fn class(py: Python<'_>) -> PyResult<&Bound<'_, PyType>> {
    static CLASS: PyOnceLock<Py<PyType>> = PyOnceLock::new();
    CLASS.get_or_try_init(py, || make_class(py)).map(|class| class.bind(py))
}

fn make_class(py: Python<'_>) -> PyResult<Py<PyType>> {
    let slot = |slot: c_int, function: *mut c_void| ffi::PyType_Slot { slot, pfunc: function };
    let member = |name: &'static CStr, offset: usize| ffi::PyMemberDef {
        name: name.as_ptr(),
        type_code: ffi::Py_T_PYSSIZET,
        offset: offset.cast_signed(),
        flags: ffi::Py_READONLY,
        doc: ptr::null(),
    };
    // The interpreter copies these while it makes the type.
    let mut members = [
        member(c"__vectorcalloffset__", offset_of!(Guarded, vectorcall)),
        member(c"__dictoffset__", offset_of!(Guarded, dict)),
        member(c"__weaklistoffset__", offset_of!(Guarded, weakrefs)),
        ffi::PyMemberDef::default(),
    ];
    // These two it keeps pointing at.
    let methods = Box::leak(Box::new([
        ffi::PyMethodDef {
            ml_name: c"__reduce__".as_ptr(),
            ml_meth: ffi::PyMethodDefPointer { PyCFunction: reduce },
            ml_flags: ffi::METH_NOARGS,
            ml_doc: ptr::null(),
        },
        ffi::PyMethodDef::zeroed(),
    ]));
    let attributes = Box::leak(Box::new([
        ffi::PyGetSetDef {
            name: c"__dict__".as_ptr(),
            get: Some(ffi::PyObject_GenericGetDict),
            set: Some(ffi::PyObject_GenericSetDict),
            doc: ptr::null(),
            closure: ptr::null_mut(),
        },
        ffi::PyGetSetDef::default(),
    ]));
    let mut slots = [
        slot(ffi::Py_tp_call, ffi::PyVectorcall_Call as *mut c_void),
        slot(ffi::Py_tp_descr_get, bind as *mut c_void),
        slot(ffi::Py_tp_repr, represent as *mut c_void),
        slot(ffi::Py_tp_traverse, traverse as *mut c_void),
        slot(ffi::Py_tp_clear, clear as *mut c_void),
        slot(ffi::Py_tp_dealloc, dealloc as *mut c_void),
        slot(ffi::Py_tp_members, members.as_mut_ptr().cast()),
        slot(ffi::Py_tp_methods, methods.as_mut_ptr().cast()),
        slot(ffi::Py_tp_getset, attributes.as_mut_ptr().cast()),
        ffi::PyType_Slot::default(),
    ];
    let flags = ffi::Py_TPFLAGS_DEFAULT
        | ffi::Py_TPFLAGS_HAVE_GC
        | ffi::Py_TPFLAGS_HAVE_VECTORCALL
        | ffi::Py_TPFLAGS_METHOD_DESCRIPTOR
        | ffi::Py_TPFLAGS_DISALLOW_INSTANTIATION
        | ffi::Py_TPFLAGS_IMMUTABLETYPE;
    let mut spec = ffi::PyType_Spec {
        name: c"codomyrmex.service_mesh._native.GuardedFunction".as_ptr(),
        basicsize: c_int::try_from(size_of::<Guarded>()).expect("some dozens of bytes"),
        itemsize: 0,
        flags: u32::try_from(flags).expect("the flags of a specification have 32 bits"),
        slots: slots.as_mut_ptr(),
    };
    // SAFETY: each slot has the signature that its number asks for, the lists end in zeroes, and what must outlive this call
    // is leaked. What comes back is a new reference to a type.
    let class = unsafe { Bound::from_owned_ptr_or_err(py, ffi::PyType_FromSpec(&raw mut spec))? };
    Ok(class.cast_into::<PyType>()?.unbind())
}

unsafe extern "C" fn bind(
    function: *mut ffi::PyObject,
    instance: *mut ffi::PyObject,
    _class: *mut ffi::PyObject,
) -> *mut ffi::PyObject {
    attached(|py| {
        // SAFETY: by 1; without an instance it was looked up on the class.
        let (function, instance) =
            unsafe { (Bound::from_borrowed_ptr(py, function), Bound::from_borrowed_ptr_or_opt(py, instance)) };
        match instance.filter(|instance| !instance.is_none()) {
            Some(instance) => method(py)?.call1((function, instance)),
            None => Ok(function),
        }
    })
}

unsafe extern "C" fn represent(function: *mut ffi::PyObject) -> *mut ffi::PyObject {
    attached(|py| {
        // SAFETY: by 1 and 2.
        let this = unsafe { &*function.cast::<Guarded>() };
        format!("<{} guarded by {}>", this.pair.func(py).repr()?, this.pair.guard(py).repr()?).into_bound_py_any(py)
    })
}

/// Its qualified name: whoever unpickles it looks it up in its module, as with any function.
unsafe extern "C" fn reduce(function: *mut ffi::PyObject, _: *mut ffi::PyObject) -> *mut ffi::PyObject {
    // SAFETY: by 1.
    attached(|py| unsafe { Bound::from_borrowed_ptr(py, function) }.getattr(intern!(py, "__qualname__")))
}

unsafe extern "C" fn traverse(function: *mut ffi::PyObject, visit: ffi::visitproc, arg: *mut c_void) -> c_int {
    let this = function.cast::<Guarded>();
    // SAFETY: by 1 and 2; what is null has been cleared, or was never set.
    let held = unsafe { [ffi::Py_TYPE(function).cast(), (*this).pair.func, (*this).pair.guard, *(*this).dict.get()] };
    for object in held.into_iter().filter(|object| !object.is_null()) {
        // SAFETY: it is what the collector asks us to do with each object that we hold.
        let result = unsafe { visit(object, arg) };
        if result != 0 {
            return result;
        }
    }
    0
}

unsafe extern "C" fn clear(function: *mut ffi::PyObject) -> c_int {
    let this = function.cast::<Guarded>();
    // SAFETY: by 1 and 3. Each field is null before what it held is released, since that may run code that looks here. A
    // call that could still come, from a finalizer, would find `func` null: so it is put at `None`, which cannot be called.
    unsafe {
        let none = || {
            ffi::Py_INCREF(ffi::Py_None());
            ffi::Py_None()
        };
        let held = [
            ptr::replace(&raw mut (*this).pair.func, none()),
            ptr::replace(&raw mut (*this).pair.guard, none()),
            ptr::replace((*this).dict.get(), ptr::null_mut()),
        ];
        for object in held {
            ffi::Py_XDECREF(object);
        }
    }
    0
}

unsafe extern "C" fn dealloc(function: *mut ffi::PyObject) {
    let this = function.cast::<Guarded>();
    // SAFETY: nobody else has it any more. By 2 every field is whole; each is released once, the memory after them, and the
    // type, which an instance of a heap type holds, last.
    unsafe {
        let class = ffi::Py_TYPE(function);
        ffi::PyObject_GC_UnTrack(function.cast());
        if !(*(*this).weakrefs.get()).is_null() {
            ffi::PyObject_ClearWeakRefs(function);
        }
        for object in [(*this).pair.func, (*this).pair.guard, *(*this).dict.get()] {
            ffi::Py_XDECREF(object);
        }
        ptr::drop_in_place(&raw mut (*this).native);
        ffi::PyObject_GC_Del(function.cast());
        ffi::Py_DECREF(class.cast());
    }
}
