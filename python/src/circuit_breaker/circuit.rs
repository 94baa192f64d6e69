//! What a call must know of its circuit at once.

use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};

use service_mesh::CircuitBreaker as Core;

use crate::config::{Follower, Rules};

/// What the hot path must know of a circuit, beside the core.
#[derive(Debug)]
pub(crate) struct Circuit {
    core: Core,
    /// [`RESULTS`], [`ERRORS`], [`KEPT`], [`HOOKED`].
    ///
    /// Ordering: Relaxed. A bit says which path is taken; what the path reads is read under the interpreter or a lock.
    flags: AtomicU8,
}

/// `failed_result` is given: results are judged.
pub(super) const RESULTS: u8 = 1;
/// `on` or `ignore` is given.
const ERRORS: u8 = 2;
/// A last failure is kept, which goes when the circuit is Closed again.
pub(super) const KEPT: u8 = 4;
/// A method that takes part in a call is overridden in a subclass.
const HOOKED: u8 = 8;

impl Circuit {
    /// `is_hooked`: a method that takes part in a call is overridden in a subclass.
    pub(super) fn new(core: Core, is_hooked: bool) -> Self {
        Self { core, flags: AtomicU8::new(if is_hooked { HOOKED } else { 0 }) }
    }

    pub(crate) fn core(&self) -> &Core {
        &self.core
    }

    /// Whether a success is no more than that: nobody wants to see the result, and nothing is to be cleared away.
    #[inline]
    pub(crate) fn is_plain(&self) -> bool {
        self.flags() == 0
    }

    #[inline]
    pub(crate) fn is_hooked(&self) -> bool {
        self.flags() & HOOKED != 0
    }

    #[inline]
    pub(super) fn flags(&self) -> u8 {
        // What judges errors alone does not concern a success.
        self.flags.load(Ordering::Relaxed) & !ERRORS
    }

    pub(super) fn judges_errors(&self) -> bool {
        self.flags.load(Ordering::Relaxed) & ERRORS != 0
    }

    pub(super) fn set(&self, flag: u8, on: bool) {
        if on {
            self.flags.fetch_or(flag, Ordering::Relaxed);
        } else {
            self.flags.fetch_and(!flag, Ordering::Relaxed);
        }
    }
}

impl Follower for Circuit {
    fn follow(&self, rules: &Rules) {
        self.core.update_config(Arc::clone(&rules.config));
        self.set(ERRORS, rules.judges_errors());
        self.set(RESULTS, rules.judges_results);
    }
}
