//! Chance as an argument: a generator for each thread, or one that is seeded and repeats itself.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// A source of chance. The default draws from a generator of the calling thread (1–2 ns, nothing shared); a seeded one
/// gives the same sequence in every run, shared among its clones. Neither is fit for secrets.
#[derive(Clone, Debug, Default)]
pub struct Chance {
    seeded: Option<Arc<AtomicU64>>,
}

impl Chance {
    /// The generator of the calling thread.
    pub fn system() -> Self {
        Self { seeded: None }
    }

    /// A sequence that `seed` determines. Threads that share it share one sequence.
    pub fn seeded(seed: u64) -> Self {
        Self { seeded: Some(Arc::new(AtomicU64::new(seed))) }
    }

    /// 64 random bits.
    #[inline]
    pub fn bits(&self) -> u64 {
        match &self.seeded {
            #[expect(clippy::disallowed_methods, reason = "the one place that draws from the system's chance")]
            None => fastrand::u64(..),
            Some(state) => split_mix(state),
        }
    }

    /// A number below `bound`, each with the same chance to within 2⁻³²; 0 if the bound is 0.
    #[inline]
    pub fn below(&self, bound: u32) -> u32 {
        let scaled = (self.bits() >> 32) * u64::from(bound);
        (scaled >> 32) as u32
    }

    /// A number at least 0 and below 1.
    #[inline]
    #[expect(clippy::cast_precision_loss, reason = "53 bits fit a double exactly")]
    pub fn ratio(&self) -> f64 {
        (self.bits() >> 11) as f64 * (1.0 / (1_u64 << 53) as f64)
    }
}

/// One step of `SplitMix64` (Steele, Lea and Flood: "Fast splittable pseudorandom number generators", OOPSLA 2014). Its
/// state is a counter, so that one `fetch_add` is a whole step, whoever shares it.
fn split_mix(state: &AtomicU64) -> u64 {
    const GOLDEN_RATIO: u64 = 0x9e37_79b9_7f4a_7c15;
    // Ordering: the counter orders nothing but itself.
    let mut z = state.fetch_add(GOLDEN_RATIO, Ordering::Relaxed).wrapping_add(GOLDEN_RATIO);
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_seed_repeats_its_sequence() {
        let (a, b) = (Chance::seeded(7), Chance::seeded(7));
        let draw = |chance: &Chance| -> Vec<u64> { (0..8).map(|_| chance.bits()).collect() };
        assert_eq!(draw(&a), draw(&b));
        assert_ne!(draw(&a), draw(&Chance::seeded(8)));
    }

    #[test]
    fn the_reference_sequence_of_split_mix_64() {
        // The first outputs for seed 1234567, as the algorithm's published test vectors give them.
        let chance = Chance::seeded(1_234_567);
        assert_eq!(chance.bits(), 6_457_827_717_110_365_317);
        assert_eq!(chance.bits(), 3_203_168_211_198_807_973);
    }

    #[test]
    fn below_and_ratio_stay_in_range() {
        for chance in [Chance::system(), Chance::seeded(1)] {
            assert_eq!(chance.below(0), 0);
            let mut seen = [0_u32; 5];
            for _ in 0..5000 {
                seen[chance.below(5) as usize] += 1;
                assert!((0.0..1.0).contains(&chance.ratio()));
            }
            assert!(seen.iter().all(|count| (800..1200).contains(count)), "{seen:?}");
        }
    }
}
