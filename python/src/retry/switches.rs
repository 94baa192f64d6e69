//! What a call must know of its policy at once.

use std::sync::atomic::{AtomicU8, Ordering};

/// Bits, each of which takes a call off the short path.
#[derive(Debug, Default)]
pub(crate) struct Switches(AtomicU8);

/// `failed_result` is given: results are judged.
pub(super) const RESULTS: u8 = 1;
/// There is a budget: calls are counted when they begin.
pub(super) const BUDGET: u8 = 2;
/// `execute` is overridden in a subclass.
pub(super) const EXECUTE: u8 = 4;
/// `get_delay` is overridden in a subclass.
pub(super) const DELAY: u8 = 8;

impl Switches {
    /// Whether a result is what the call came to, and nobody counts calls.
    #[inline]
    pub(crate) fn is_plain(&self) -> bool {
        // Ordering: Relaxed. A bit says which path is taken; what the path reads is behind the policy's lock.
        self.0.load(Ordering::Relaxed) & !DELAY == 0
    }

    /// Whether results are judged.
    #[inline]
    pub(crate) fn judges_results(&self) -> bool {
        self.has(RESULTS)
    }

    pub(crate) fn overrides_execute(&self) -> bool {
        self.0.load(Ordering::Relaxed) & EXECUTE != 0
    }

    pub(super) fn has(&self, switch: u8) -> bool {
        self.0.load(Ordering::Relaxed) & switch != 0
    }

    pub(super) fn set(&self, switch: u8, on: bool) {
        if on {
            self.0.fetch_or(switch, Ordering::Relaxed);
        } else {
            self.0.fetch_and(!switch, Ordering::Relaxed);
        }
    }
}
