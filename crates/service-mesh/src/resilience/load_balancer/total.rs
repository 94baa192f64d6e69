//! How many connections a set of endpoints has in flight together.

use std::sync::Arc;

use crossbeam_utils::CachePadded;

use crate::resilience::sync::{AtomicU64, Ordering};

/// The connections of all endpoints that are counted in it. Clones are the same total. It belongs to a balancer, and
/// stays at 0 where the strategy does not ask for it: a word that every call writes is what a strategy should do
/// without.
///
/// Invariant: the sum of the connections of the counted endpoints, once those who are adding or taking have done so.
#[derive(Clone, Debug, Default)]
pub(super) struct Total(
    /// Ordering: Relaxed. A sum that publishes nothing. It may pass below 0 for a moment, where a connection begins while
    /// its endpoint is taken out.
    Arc<CachePadded<AtomicU64>>,
);

impl Total {
    #[inline]
    pub(super) fn add(&self, connections: u32) {
        self.0.fetch_add(connections.into(), Ordering::Relaxed);
    }

    #[inline]
    pub(super) fn take(&self, connections: u32) {
        self.0.fetch_sub(connections.into(), Ordering::Relaxed);
    }

    #[inline]
    pub(super) fn connections(&self) -> u64 {
        self.0.load(Ordering::Relaxed).cast_signed().max(0).cast_unsigned()
    }
}
