//! A lock that is held for a few instructions, in which nothing panics: so that a poisoned one holds what it should.

use std::sync::{Mutex, MutexGuard, PoisonError};

/// Takes the lock, whoever panicked while he had it.
#[inline]
pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
