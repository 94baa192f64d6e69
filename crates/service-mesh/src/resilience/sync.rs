//! The one switch between std and loom: every shared word of a decision is made of these types, so that the model
//! checker sees each of its steps.
//!
//! Locks ignore poison: no user code runs while one is held, so a panic cannot leave a half-made change behind.

#[cfg(not(loom))]
pub(crate) use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};

#[cfg(loom)]
pub(crate) use loom::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};

#[cfg(not(loom))]
pub(crate) use std::sync::MutexGuard;
#[cfg(not(loom))]
use std::sync::{Mutex as Inner, PoisonError};

#[cfg(loom)]
use loom::sync::Mutex as Inner;
#[cfg(loom)]
pub(crate) use loom::sync::MutexGuard;

/// A mutex without poison.
#[derive(Debug, Default)]
pub(crate) struct Mutex<T>(Inner<T>);

impl<T> Mutex<T> {
    pub(crate) fn new(value: T) -> Self {
        Self(Inner::new(value))
    }

    #[inline]
    pub(crate) fn lock(&self) -> MutexGuard<'_, T> {
        #[cfg(not(loom))]
        return self.0.lock().unwrap_or_else(PoisonError::into_inner);
        #[cfg(loom)]
        return self.0.lock().expect("loom stops the model at the first panic");
    }
}

/// A shared snapshot that readers load without a lock and writers replace as a whole.
#[derive(Debug)]
pub(crate) struct Snapshot<T>(#[cfg(not(loom))] arc_swap::ArcSwap<T>, #[cfg(loom)] Mutex<std::sync::Arc<T>>);

/// A loaded snapshot; it stays as it was for as long as it is held. Holding one costs no shared write.
#[cfg(not(loom))]
pub(crate) type Loaded<T> = arc_swap::Guard<std::sync::Arc<T>>;

#[cfg(loom)]
pub(crate) type Loaded<T> = std::sync::Arc<T>;

/// The same for whoever holds it for long. A thread has room for a few that cost no shared write, and whoever takes it up
/// for as long as a request takes leaves none for all the short looks of that thread.
#[cfg(not(loom))]
#[inline]
pub(crate) fn held<T>(loaded: Loaded<T>) -> Loaded<T> {
    Loaded::from_inner(Loaded::into_inner(loaded))
}

#[cfg(loom)]
pub(crate) fn held<T>(loaded: Loaded<T>) -> Loaded<T> {
    loaded
}

impl<T> Snapshot<T> {
    pub(crate) fn new(value: std::sync::Arc<T>) -> Self {
        #[cfg(not(loom))]
        return Self(arc_swap::ArcSwap::new(value));
        #[cfg(loom)]
        return Self(Mutex::new(value));
    }

    #[inline]
    pub(crate) fn load(&self) -> Loaded<T> {
        #[cfg(not(loom))]
        return self.0.load();
        #[cfg(loom)]
        return self.0.lock().clone();
    }

    /// Puts another one in its place, which is returned: to be dropped where its `Drop` may run.
    pub(crate) fn swap(&self, value: std::sync::Arc<T>) -> std::sync::Arc<T> {
        #[cfg(not(loom))]
        return self.0.swap(value);
        #[cfg(loom)]
        return std::mem::replace(&mut *self.0.lock(), value);
    }
}
