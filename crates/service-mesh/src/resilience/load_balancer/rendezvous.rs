//! Which endpoint owns which slot of a table, so that a change of the set moves nothing that need not move.
//!
//! Rendezvous hashing (Thaler and Ravishankar, "Using name-based mappings to increase hit rates", IEEE/ACM Transactions
//! on Networking, 1998), worked out beforehand for each of 65,537 slots: everybody bids for each slot with a number that
//! depends on the two alone, and the lowest bid has it. Hence the two laws, which no other member of the set can touch:
//! when one leaves, only its slots move; when one comes or gains weight, slots move to it only.
//!
//! Bidding everybody on everything would take `n` times as long as there are slots. Here each bids in ascending order:
//! its `r`-th lowest bid, for the slot that stands at place `r` of its own permutation, is the expected `r`-th least of
//! 65,537 exponential variables divided by its weight; of such variables the least is anybody's in exact proportion to
//! the weights. Once all slots have a bid, the higher ones need not be made: about 12 bids a slot, whatever `n`.
//!
//! The permutations are Maglev's (Eisenbud et al., NSDI 2016), steps through a prime field, but cubed: without that, two
//! endpoints whose steps are of a simple ratio get in each other's way all around, and of 3,000 random sets of three the
//! worst share was off by 31 standard deviations; with it by 2.3.
//!
//! All of it is additions, divisions and comparisons of IEEE numbers, so that every platform comes to the same table;
//! and so does every order of registration.

/// How many slots there are: the fourth Fermat number. A prime, and of no common divisor with 3 if one is taken away, so
/// that cubing permutes it.
pub(super) const SLOTS: u32 = 65_537;

/// Bids up to this, divided by the sum of the weights, leave few slots without any: 1 in e¹¹.
const FIRST_HORIZON: f32 = 11.0;
const NEXT_HORIZON: f32 = 2.0;

/// A slot without a bid.
const FREE: u64 = u64::MAX;

/// Somebody who wants slots.
#[derive(Clone, Copy, Debug)]
pub(super) struct Bidder {
    /// What stands for it in the table.
    pub(super) index: u32,
    /// Tells it from the others, as if by chance.
    pub(super) name: u64,
    /// Above 0.
    pub(super) weight: u32,
}

/// The owner of each slot. There must be a bidder.
pub(super) fn owners(mut bidders: Vec<Bidder>) -> Box<[u32]> {
    // The order in which equal bids are served must not be that of registration.
    bidders.sort_unstable_by_key(|bidder| bidder.name);
    let ranks = expected_ranks();
    let mut rounds: Vec<Round> = bidders.iter().map(Round::new).collect();
    let weight: f32 = rounds.iter().map(|round| round.weight).sum();

    let mut slots = vec![FREE; SLOTS as usize];
    let mut free = SLOTS;
    let mut horizon = FIRST_HORIZON / weight;
    while free > 0 {
        for (place, round) in (0..).zip(&mut rounds) {
            free -= round.bid(place, &ranks, horizon, &mut slots);
        }
        horizon += NEXT_HORIZON / weight;
    }
    #[expect(clippy::cast_possible_truncation, reason = "the lower half is the place of the bidder")]
    slots.into_iter().map(|bid| bidders[bid as u32 as usize].index).collect()
}

/// One bidder's way through its permutation.
struct Round {
    weight: f32,
    step: u32,
    position: u32,
    shift: u32,
    /// How many bids it has made.
    made: usize,
}

impl Round {
    fn new(bidder: &Bidder) -> Self {
        let Bidder { name, weight, .. } = *bidder;
        let below = |bits: u64, bound: u32| (((bits & 0xffff_ffff) * u64::from(bound)) >> 32) as u32;
        Self {
            weight: as_float(weight),
            step: 1 + below(name, SLOTS - 1),
            position: below(name >> 32, SLOTS),
            shift: below(name >> 16, SLOTS),
            made: 0,
        }
    }

    /// Makes all bids up to the horizon that were not made yet. Returns how many slots were free before.
    fn bid(&mut self, place: u32, ranks: &[f32], horizon: f32, slots: &mut [u64]) -> u32 {
        let end = ranks.partition_point(|rank| rank / self.weight <= horizon).max(self.made);
        let mut taken = 0;
        for rank in &ranks[self.made..end] {
            let slot = &mut slots[self.slot()];
            taken += u32::from(*slot == FREE);
            // Of numbers above 0 the bits are in the order of the numbers.
            *slot = (*slot).min(u64::from((rank / self.weight).to_bits()) << 32 | u64::from(place));
            self.position += self.step;
            if self.position >= SLOTS {
                self.position -= SLOTS;
            }
        }
        self.made = end;
        taken
    }

    #[expect(clippy::cast_possible_truncation, reason = "a slot is 17 bits")]
    fn slot(&self) -> usize {
        let (position, slots) = (u64::from(self.position), u64::from(SLOTS));
        let cube = position * position % slots * position;
        ((cube + u64::from(self.shift)) % slots) as usize
    }
}

/// The least, the second least … of as many exponential variables of mean 1 as there are slots, each as it is expected
/// (Rényi, "On the theory of order statistics", 1953).
#[expect(clippy::cast_possible_truncation, reason = "24 bits tell any two apart")]
fn expected_ranks() -> Vec<f32> {
    let steps = (1..=SLOTS).rev().map(|left| 1.0 / f64::from(left));
    steps
        .scan(0.0, |sum, step| {
            *sum += step;
            Some(*sum as f32)
        })
        .collect()
}

/// The nearest float: weights that differ by less than 1 in 2²⁴ count as equal.
#[expect(clippy::cast_precision_loss, reason = "see above")]
const fn as_float(weight: u32) -> f32 {
    weight as f32
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::resilience::chance::Chance;

    fn bidders(weights: &[u32], seed: u64) -> Vec<Bidder> {
        let chance = Chance::seeded(seed);
        (0..).zip(weights).map(|(index, weight)| Bidder { index, name: chance.bits(), weight: *weight }).collect()
    }

    /// Who owns each slot, by name.
    fn names(bidders: &[Bidder]) -> Vec<u64> {
        let mut names = vec![0; bidders.len()];
        for bidder in bidders {
            names[bidder.index as usize] = bidder.name;
        }
        owners(bidders.to_vec()).iter().map(|owner| names[*owner as usize]).collect()
    }

    fn share(names: &[u64], name: u64) -> f64 {
        let owned = names.iter().filter(|owner| **owner == name).count();
        f64::from(u32::try_from(owned).unwrap()) / f64::from(SLOTS)
    }

    #[test]
    fn a_round_meets_each_slot_once() {
        for bidder in bidders(&[1, 2, 3], 7) {
            let mut slots = vec![FREE; SLOTS as usize];
            let taken = Round::new(&bidder).bid(0, &expected_ranks(), f32::INFINITY, &mut slots);
            assert_eq!(taken, SLOTS);
        }
    }

    #[test]
    fn shares_are_as_the_weights_within_what_chance_allows() {
        for seed in 0..4 {
            for count in [2_u32, 10, 100] {
                let weights: Vec<u32> = (0..count).map(|number| 1 + number % 5).collect();
                let (bidders, sum) = (bidders(&weights, seed), f64::from(weights.iter().sum::<u32>()));
                let names = names(&bidders);
                for Bidder { name, weight, .. } in bidders {
                    let ideal = f64::from(weight) / sum;
                    let deviation = (ideal * (1.0 - ideal) / f64::from(SLOTS)).sqrt();
                    assert!((share(&names, name) - ideal).abs() < 4.5 * deviation, "{weight} of {sum}");
                }
            }
        }
    }

    #[test]
    fn a_table_is_the_same_for_ever() {
        let bidders = bidders(&[1, 2, 3, 4], 1);
        let sum = owners(bidders).iter().fold(0_u64, |sum, owner| sum.wrapping_mul(31).wrapping_add((*owner).into()));
        assert_eq!(sum, 7_438_146_215_900_841_423);
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 8, ..ProptestConfig::default() })]

        #[test]
        fn when_one_leaves_only_its_slots_move(
            weights in prop::collection::vec(1_u32..50, 2..40),
            leaving: prop::sample::Index,
            seed: u64,
        ) {
            let mut bidders = bidders(&weights, seed);
            let before = names(&bidders);
            let gone = bidders.swap_remove(leaving.index(weights.len())).name;
            (0..).zip(&mut bidders).for_each(|(index, bidder)| bidder.index = index);
            for (before, after) in before.into_iter().zip(names(&bidders)) {
                prop_assert!(before == after || before == gone);
            }
        }

        #[test]
        fn when_one_gains_weight_slots_move_to_it_only(
            weights in prop::collection::vec(1_u32..50, 1..40),
            growing: prop::sample::Index,
            gain in 1_u32..50,
            seed: u64,
        ) {
            let mut bidders = bidders(&weights, seed);
            let before = names(&bidders);
            let heavy = &mut bidders[growing.index(weights.len())];
            heavy.weight += gain;
            let grown = heavy.name;
            for (before, after) in before.into_iter().zip(names(&bidders)) {
                prop_assert!(before == after || after == grown);
            }
        }

        #[test]
        fn the_order_of_registration_does_not_matter(
            weights in prop::collection::vec(1_u32..4, 2..40),
            seed: u64,
        ) {
            let mut bidders = bidders(&weights, seed);
            let before = names(&bidders);
            bidders.reverse();
            prop_assert_eq!(before, names(&bidders));
        }
    }
}
