//! Calls into the application that the end of the interpreter may cut off.
//!
//! Before Python 3.14 a thread that asks for the GIL while the interpreter ends is ended by `pthread_exit`, which unwinds
//! its stack: here, that of a worker whose handler was still running. Rust aborts the process when such an unwinding
//! reaches it in a call that is declared not to unwind, so these calls are declared to, and a guard makes the thread sleep
//! for ever instead, as 3.14 does. It has no lock then, and the process ends without it. (`PyO3` does the same for its own
//! way of attaching.)
//!
//! `PyO3` declares the same functions, as such that do not unwind. Linked into one, two declarations of a function become one,
//! and the compiler may believe the stricter. So they are called by pointers of which it knows nothing (`black_box`).

use std::hint::black_box;
use std::ptr;

use pyo3::prelude::*;
use pyo3::types::{PyDict, PyIterator, PyString};

mod raw {
    use pyo3::ffi::PyObject;

    type Object = *mut PyObject;
    pub(super) type OfOne = unsafe extern "C-unwind" fn(Object) -> Object;
    pub(super) type OfFour = unsafe extern "C-unwind" fn(Object, *const Object, usize, Object) -> Object;

    unsafe extern "C-unwind" {
        pub(super) fn PyObject_VectorcallDict(
            callable: Object,
            arguments: *const Object,
            count: usize,
            parameters: Object,
        ) -> Object;
        pub(super) fn PyObject_VectorcallMethod(
            name: Object,
            arguments: *const Object,
            count: usize,
            names: Object,
        ) -> Object;
        pub(super) fn PyIter_Next(iterator: Object) -> Object;
        pub(super) fn PyObject_GetIter(object: Object) -> Object;
    }
}

/// Dropped by an unwinding alone.
struct Sleeper;

impl Drop for Sleeper {
    fn drop(&mut self) {
        loop {
            std::thread::park();
        }
    }
}

/// `callable(*arguments, **parameters)`.
pub(crate) fn call<'py, const N: usize>(
    callable: &Bound<'py, PyAny>,
    arguments: [&Bound<'py, PyAny>; N],
    parameters: Option<&Bound<'py, PyDict>>,
) -> PyResult<Bound<'py, PyAny>> {
    let arguments = arguments.map(Bound::as_ptr);
    let parameters = parameters.map_or(ptr::null_mut(), Bound::as_ptr);
    let function = black_box::<raw::OfFour>(raw::PyObject_VectorcallDict);
    let guard = Sleeper;
    // SAFETY: the thread is attached, as `callable` shows; all pointers are of live objects, or null where that is allowed.
    let result = unsafe { function(callable.as_ptr(), arguments.as_ptr(), N, parameters) };
    std::mem::forget(guard);
    // SAFETY: the call returns a new reference, or null with an exception set.
    unsafe { Bound::from_owned_ptr_or_err(callable.py(), result) }
}

/// `object.name(*arguments)`; the first of `with_object` is the object.
pub(crate) fn call_method<'py, const N: usize>(
    name: &Bound<'py, PyString>,
    with_object: [&Bound<'py, PyAny>; N],
) -> PyResult<Bound<'py, PyAny>> {
    const { assert!(N > 0) };
    let arguments = with_object.map(Bound::as_ptr);
    let function = black_box::<raw::OfFour>(raw::PyObject_VectorcallMethod);
    let guard = Sleeper;
    // SAFETY: the thread is attached, as `name` shows; all pointers are of live objects, or null where that is allowed.
    let result = unsafe { function(name.as_ptr(), arguments.as_ptr(), N, ptr::null_mut()) };
    std::mem::forget(guard);
    // SAFETY: the call returns a new reference, or null with an exception set.
    unsafe { Bound::from_owned_ptr_or_err(name.py(), result) }
}

/// `iter(object)`.
pub(crate) fn iterate<'py>(object: &Bound<'py, PyAny>) -> PyResult<Bound<'py, PyIterator>> {
    let function = black_box::<raw::OfOne>(raw::PyObject_GetIter);
    let guard = Sleeper;
    // SAFETY: the thread is attached, as `object` shows.
    let result = unsafe { function(object.as_ptr()) };
    std::mem::forget(guard);
    // SAFETY: the call returns a new reference, or null with an exception set.
    Ok(unsafe { Bound::from_owned_ptr_or_err(object.py(), result) }?.cast_into()?)
}

/// The next item of an iterator; `None` at its end.
pub(crate) fn next<'py>(iterator: &Bound<'py, PyIterator>) -> PyResult<Option<Bound<'py, PyAny>>> {
    let py = iterator.py();
    let function = black_box::<raw::OfOne>(raw::PyIter_Next);
    let guard = Sleeper;
    // SAFETY: the thread is attached, as `iterator` shows, which is an iterator.
    let item = unsafe { function(iterator.as_ptr()) };
    std::mem::forget(guard);
    // SAFETY: the call returns a new reference, or null.
    match unsafe { Bound::from_owned_ptr_or_opt(py, item) } {
        Some(item) => Ok(Some(item)),
        None => PyErr::take(py).map_or(Ok(None), Err),
    }
}
