//! The chance in a wait. Callers that failed together would otherwise come back together.
//!
//! `full`, `equal` and `decorrelated` are Marc Brooker's ("Exponential Backoff And Jitter", AWS Architecture Blog,
//! 2015). His simulation has `full` and `decorrelated` do the least work in all, and plain backoff the most by far.

use service_mesh_models::Jitter;

use crate::resilience::chance::Chance;

/// A wait drawn around `backoff`, in nanoseconds, before the cap. [`Jitter::Decorrelated`] does not look at the backoff
/// and is drawn by [`decorrelated`].
pub(super) fn around(jitter: Jitter, backoff: u64, chance: &Chance) -> u64 {
    match jitter {
        Jitter::Proportional => between(backoff.div_ceil(2), backoff.saturating_add(backoff / 2), chance),
        Jitter::Full => between(0, backoff, chance),
        Jitter::Equal => between(backoff.div_ceil(2), backoff, chance),
        _ => backoff,
    }
}

/// A wait drawn from the one before: between `initial` and three times `previous`. The first has none before it and
/// takes `initial` for it.
pub(super) fn decorrelated(initial: u64, previous: u64, chance: &Chance) -> u64 {
    between(initial, previous.max(initial).saturating_mul(3), chance)
}

/// What is added to a `Retry-After` of `asked` nanoseconds, so that all who were told the same do not come back in the
/// same instant: up to a tenth of it, and up to `room`.
pub(super) fn beyond(asked: u64, room: u64, chance: &Chance) -> u64 {
    between(0, (asked / 10).min(room), chance)
}

/// Both ends included, each number with the same chance to within 2⁻⁶⁴ of the width.
fn between(low: u64, high: u64, chance: &Chance) -> u64 {
    let width = u128::from(high - low) + 1;
    low + ((u128::from(chance.bits()) * width) >> 64) as u64
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn every_wait_of_a_small_range_is_drawn() {
        let chance = Chance::seeded(3);
        let drawn = |draw: &dyn Fn() -> u64| (0..200).map(|_| draw()).collect::<std::collections::BTreeSet<_>>();
        let range = |range: std::ops::RangeInclusive<u64>| range.collect();
        assert_eq!(drawn(&|| around(Jitter::None, 8, &chance)), range(8..=8));
        assert_eq!(drawn(&|| around(Jitter::Proportional, 8, &chance)), range(4..=12));
        assert_eq!(drawn(&|| around(Jitter::Full, 8, &chance)), range(0..=8));
        assert_eq!(drawn(&|| around(Jitter::Equal, 8, &chance)), range(4..=8));
        assert_eq!(drawn(&|| decorrelated(4, 0, &chance)), range(4..=12));
        assert_eq!(drawn(&|| decorrelated(4, 5, &chance)), range(4..=15));
    }

    proptest! {
        #[test]
        fn a_draw_stays_between_its_ends(low: u64, width: u64, seed: u64) {
            let high = low.saturating_add(width);
            let drawn = between(low, high, &Chance::seeded(seed));
            prop_assert!((low..=high).contains(&drawn));
        }
    }
}
