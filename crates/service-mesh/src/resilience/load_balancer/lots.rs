//! Draws in proportion to the weights, in the same time for any number of them.
//!
//! The alias method (Walker, "An efficient method for generating discrete random variables with general distributions",
//! 1977), its table built as Vose has it (1991): one column for each endpoint, of which it keeps a part, and the rest is
//! one other's. A draw names a column and a height.

use crate::resilience::chance::Chance;

/// How often a second draw that names the first one is repeated. Whoever fills nearly all lots is then compared with
/// anybody.
const REDRAWS: u32 = 4;

#[derive(Debug)]
pub(super) struct Lots {
    len: u32,
    /// None where all weights are equal.
    columns: Option<Box<[Column]>>,
}

#[derive(Clone, Copy, Debug)]
struct Column {
    /// Of 2³², how much of the column is its own.
    own: u32,
    /// Whose the rest is.
    other: u32,
}

impl Lots {
    /// For so many endpoints, each of a weight above 0.
    pub(super) fn new(weights: &[u32]) -> Self {
        let len = u32::try_from(weights.len()).expect("a set has fewer than 2^32 endpoints");
        let is_equal = weights.iter().all(|weight| *weight == weights[0]);
        Self { len, columns: (!is_equal).then(|| columns(weights)) }
    }

    /// An index, with a chance in proportion to its weight. Asks chance once.
    #[inline]
    #[expect(clippy::cast_possible_truncation, reason = "the halves of a word")]
    pub(super) fn draw(&self, chance: &Chance) -> usize {
        let bits = chance.bits();
        let column = ((bits >> 32) * u64::from(self.len)) >> 32;
        match &self.columns {
            None => column as usize,
            Some(columns) => {
                let Column { own, other } = columns[column as usize];
                if (bits as u32) < own { column as usize } else { other as usize }
            }
        }
    }

    /// Another index than `first`, which must not be the only one.
    #[inline]
    pub(super) fn draw_other(&self, first: usize, chance: &Chance) -> usize {
        if self.columns.is_some() {
            for _ in 0..REDRAWS {
                let second = self.draw(chance);
                if second != first {
                    return second;
                }
            }
        }
        let second = chance.below(self.len - 1) as usize;
        second + usize::from(second >= first)
    }
}

fn columns(weights: &[u32]) -> Box<[Column]> {
    let (len, sum) = (weights.len() as u64, weights.iter().copied().map(u64::from).sum::<u64>());
    // So scaled that the mean is `sum`: a column is full of that.
    let mut heights: Vec<u64> = weights.iter().map(|weight| u64::from(*weight) * len).collect();
    let mut columns: Vec<Column> = (0..).take(weights.len()).map(|index| Column { own: 0, other: index }).collect();
    let (mut low, mut high): (Vec<u32>, Vec<u32>) =
        (0..).take(weights.len()).partition(|index| heights[*index as usize] < sum);
    while let (Some(short), Some(tall)) = (low.pop(), high.last().copied()) {
        let height = heights[short as usize];
        let own = (u128::from(height) << 32) / u128::from(sum);
        columns[short as usize] = Column { own: u32::try_from(own).expect("a short column is not full"), other: tall };
        heights[tall as usize] -= sum - height;
        if heights[tall as usize] < sum {
            low.extend(high.pop());
        }
    }
    columns.into()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Of 2³² lots a column, how many are whose.
    fn shares(weights: &[u32]) -> Vec<u64> {
        let mut shares = vec![0; weights.len()];
        for (index, column) in columns(weights).iter().enumerate() {
            shares[index] += u64::from(column.own);
            shares[column.other as usize] += (1 << 32) - u64::from(column.own);
        }
        shares
    }

    proptest! {
        #[test]
        fn each_has_lots_in_proportion_to_its_weight(weights in prop::collection::vec(1_u32.., 1..50)) {
            let sum: u128 = weights.iter().copied().map(u128::from).sum();
            for (share, weight) in shares(&weights).into_iter().zip(&weights) {
                let ideal = (u128::from(*weight) * weights.len() as u128) << 32;
                let (ideal, share) = (ideal / sum, u128::from(share));
                prop_assert!(share.abs_diff(ideal) <= weights.len() as u128, "{share} of {ideal}");
            }
        }

        #[test]
        fn another_is_never_the_same(weights in prop::collection::vec(1_u32..1_000_000, 2..9), seed: u64) {
            let (lots, chance) = (Lots::new(&weights), Chance::seeded(seed));
            for _ in 0..100 {
                let first = lots.draw(&chance);
                let second = lots.draw_other(first, &chance);
                prop_assert!(first < weights.len() && second < weights.len() && first != second);
            }
        }
    }
}
