//! Whether the memory of an object holds what its type says.
//!
//! `CPython` 3.11 and 3.12 make the `__dict__` of an object right after its memory, and may run a collection for that:
//! `__traverse__` is then called on zeroes, before `PyO3` has filled them. A null where an `Arc` should be ended the process.
//! So every class with `dict` has this field, and its `__traverse__` asks it first.

/// Zeroed memory reads as false.
#[derive(Debug)]
pub(crate) struct Filled(bool);

impl Filled {
    /// For an object that is made.
    pub(crate) const YES: Self = Self(true);

    /// Whether the other fields may be looked at.
    #[inline]
    pub(crate) fn is_filled(&self) -> bool {
        self.0
    }
}
