//! The type of decorated functions, and its slots.
//!
//! The numbers in the SAFETY comments are those of [`super`].

use std::cell::UnsafeCell;
use std::ffi::{CStr, c_int, c_void};
use std::mem::offset_of;
use std::ptr;

use pyo3::ffi;
use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;
use pyo3::types::PyType;
use pyo3::{IntoPyObjectExt, intern};

use super::arguments::Arguments;
use super::attached::attached;
use super::kind::{Kind, Native};
use super::pair::Pair;

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

/// A guarded function, with the metadata of `func` still to be copied.
pub(super) fn make<'py, K: Kind>(
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

/// Looks up what a slot needs.
pub(super) fn prepare(py: Python<'_>) -> PyResult<()> {
    method(py).map(drop)
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

/// `types.MethodType`.
fn method(py: Python<'_>) -> PyResult<&Bound<'_, PyType>> {
    static METHOD: PyOnceLock<Py<PyType>> = PyOnceLock::new();
    METHOD.import(py, "types", "MethodType")
}
