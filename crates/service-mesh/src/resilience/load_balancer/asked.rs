//! Who was asked already, without a heap.

use crate::resilience::chance::Chance;

/// How many refusals are remembered. More than this many refusing endpoints in one pick are met only where most of a
/// large set is out of order; then the search goes on in plain order.
pub(super) const CAPACITY: usize = 64;

/// The endpoints that one pick has asked and that refused.
///
/// A pick that chooses by chance or by weight meets the same endpoint again and again, but a question may have effects
/// (a breaker counts its refusals), so that each endpoint is asked once.
pub(super) struct Asked {
    refused: [u32; CAPACITY],
    len: usize,
}

impl Asked {
    pub(super) const fn new() -> Self {
        Self { refused: [0; CAPACITY], len: 0 }
    }

    pub(super) fn contains(&self, index: usize) -> bool {
        self.refused[..self.len].iter().any(|refused| *refused as usize == index)
    }

    /// Remembers a refusal.
    pub(super) fn insert(&mut self, index: usize) {
        self.refused[self.len] = u32::try_from(index).expect("a set has fewer than 2^32 endpoints");
        self.len += 1;
    }

    /// Whether another refusal could be remembered.
    pub(super) const fn has_room(&self) -> bool {
        self.len < CAPACITY
    }

    /// How many refusals are remembered.
    pub(super) const fn len(&self) -> usize {
        self.len
    }

    /// Asks all `len` endpoints that were not asked yet, from a random one on.
    pub(super) fn ask_the_rest(&self, len: usize, chance: &Chance, admits: impl FnMut(usize) -> bool) -> Option<usize> {
        self.ask_the_rest_from(below(chance, len), len, admits)
    }

    /// The same from `first` on.
    pub(super) fn ask_the_rest_from(
        &self,
        first: usize,
        len: usize,
        mut admits: impl FnMut(usize) -> bool,
    ) -> Option<usize> {
        (first..len).chain(0..first).find(|index| !self.contains(*index) && admits(*index))
    }
}

/// A random index below `len`.
#[inline]
pub(super) fn below(chance: &Chance, len: usize) -> usize {
    chance.below(u32::try_from(len).unwrap_or(u32::MAX)) as usize
}
