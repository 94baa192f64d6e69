//! Whose turn it is: a position that all threads share and that each moves on by one.

use crossbeam_utils::CachePadded;

use crate::resilience::sync::{AtomicU64, Ordering};

/// A position in a ring of `len` places. Each caller takes a ticket; ticket `t` is for place `t mod len`, so that of any
/// `k` tickets in a row each place gets ⌊k / len⌋ or ⌈k / len⌉, whichever threads took them.
///
/// One shared addition is all there is to it. Batches of tickets for each thread would be faster under contention, at
/// the price of that bound and of the order that one thread sees.
#[derive(Debug)]
pub(super) struct Cursor {
    /// Counts from `start`. It wraps after 2⁶⁴ tickets (584 years at one a nanosecond), which costs one hiccup of order.
    /// Alone on its line: whoever read the rest beside it would fetch the line from another core once more.
    ///
    /// Ordering: Relaxed. The ring that it walks does not change; a change brings a new ring with a new cursor.
    next: CachePadded<AtomicU64>,
    len: u64,
    /// ⌊(2⁶⁴ − 1) / len⌋, to divide by `len` without a division.
    reciprocal: u64,
    start: u64,
}

impl Cursor {
    /// The first ticket is for place `start`.
    ///
    /// # Panics
    /// When the ring is empty: nobody could have a turn.
    pub(super) fn new(start: usize, len: usize) -> Self {
        assert!(len > 0, "a ring without places");
        let (start, len) = (start as u64, len as u64);
        Self { next: CachePadded::new(AtomicU64::new(start)), len, reciprocal: u64::MAX / len, start }
    }

    /// The place of the next ticket.
    #[inline]
    pub(super) fn take(&self) -> usize {
        self.place(self.next.fetch_add(1, Ordering::Relaxed))
    }

    /// So many places were passed over by the one who has the last ticket: the next caller goes on behind them, so that
    /// whoever stands behind a refused place does not get that one's share on top of its own.
    pub(super) fn skip(&self, places: usize) {
        if places > 0 {
            self.next.fetch_add(places as u64, Ordering::Relaxed);
        }
    }

    /// The place of the last ticket, if any was taken.
    pub(super) fn last(&self) -> Option<usize> {
        let next = self.next.load(Ordering::Relaxed);
        (next != self.start).then(|| self.place(next.wrapping_sub(1)))
    }

    /// `ticket mod len`, by Barrett's reduction (1986): the product with the reciprocal is the quotient or one less. A
    /// division takes longer than all the rest of a pick on some processors.
    #[inline]
    #[expect(clippy::cast_possible_truncation, reason = "a product's upper half, and a remainder less than a usize")]
    fn place(&self, ticket: u64) -> usize {
        let Self { len, reciprocal, .. } = *self;
        let quotient = ((u128::from(ticket) * u128::from(reciprocal)) >> 64) as u64;
        let remainder = ticket - quotient * len;
        (if remainder < len { remainder } else { remainder - len }) as usize
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn the_last_place_is_known_only_after_a_ticket() {
        let cursor = Cursor::new(1, 3);
        assert_eq!(cursor.last(), None);
        assert_eq!([cursor.take(), cursor.take(), cursor.take()], [1, 2, 0]);
        assert_eq!(cursor.last(), Some(0));
        cursor.skip(1);
        assert_eq!((cursor.last(), cursor.take()), (Some(1), 2));
    }

    #[test]
    fn the_counter_may_wrap_around() {
        let cursor = Cursor::new(0, 3);
        cursor.next.store(u64::MAX - 1, Ordering::Relaxed);
        let places: Vec<_> = (0..8).map(|_| cursor.take()).collect();
        assert!(places.iter().all(|place| *place < 3), "{places:?}");
        assert_eq!(places[2..], [0, 1, 2, 0, 1, 2]);
    }

    proptest! {
        #[test]
        fn a_place_is_the_remainder(ticket: u64, small in 1_usize..100_000, large in 1_usize..=usize::MAX) {
            for len in [small, large, small.next_power_of_two()] {
                for ticket in [ticket, u64::MAX - ticket % 3, ticket % 1_000_000, ticket / len as u64 * len as u64] {
                    prop_assert_eq!(Cursor::new(0, len).place(ticket), usize::try_from(ticket % len as u64).unwrap());
                }
            }
        }
    }
}
