//! What a call is about, as a number that every process agrees on.
//!
//! The standard library's hashers are seeded anew in each process, or may change with a release; several proxies in
//! front of the same instances must send one key to one place. So the hash is written here, and pinned by its tests.
//!
//! It folds 64 bits at a time: state and word are combined by exclusive or and multiplied by an odd constant to 128
//! bits, whose halves are combined in the same way. The folded multiplication is Wang Yi's (wyhash, 2019). Bytes are
//! taken as little-endian words of eight; what is left over, at most seven bytes and maybe none, is one more word, whose
//! top byte says how many they are. Every integer is one word, a 128-bit one two. So an integer hashes alike on each
//! platform, and a text alike wherever it is; only a slice of integers depends on the byte order of the machine, since
//! the standard library hands it over as bytes.
//!
//! Not for secrets: who chooses keys can aim them at one instance. The bound on its load is what holds then.

use std::hash::{Hash, Hasher};
use std::num::NonZeroU64;

/// The first digits of π's fraction and of e's, made odd: no trapdoor, and bits that look like chance.
const SEED: u64 = 0x243f_6a88_85a3_08d3;
const FACTOR: u64 = 0xb7e1_5162_8aed_2a6b;

/// What a call is about, hashed. Equal keys are equal in every process.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct KeyHash(NonZeroU64);

impl KeyHash {
    #[inline]
    pub(crate) fn of(key: &(impl Hash + ?Sized)) -> Self {
        let mut hasher = Folded(SEED);
        key.hash(&mut hasher);
        Self::from_bits(hasher.finish())
    }

    /// A key that nobody gave.
    pub(super) fn from_bits(bits: u64) -> Self {
        // So that a call without a key carries no more than one with it.
        Self(NonZeroU64::new(bits).unwrap_or(NonZeroU64::MIN))
    }

    #[inline]
    pub(super) const fn bits(self) -> u64 {
        self.0.get()
    }

    /// A number for this key and something else, as if by chance.
    #[inline]
    pub(super) const fn with(self, other: u64) -> u64 {
        folded(folded(self.0.get() ^ SEED) ^ other)
    }
}

struct Folded(u64);

impl Folded {
    #[inline]
    fn word(&mut self, word: u64) {
        self.0 = folded(self.0 ^ word);
    }
}

#[inline]
#[expect(clippy::cast_possible_truncation, reason = "the halves of a product")]
const fn folded(word: u64) -> u64 {
    let product = word as u128 * FACTOR as u128;
    product as u64 ^ (product >> 64) as u64
}

impl Hasher for Folded {
    #[inline]
    #[expect(clippy::cast_possible_truncation, reason = "a rest is less than 8")]
    fn write(&mut self, bytes: &[u8]) {
        let (words, rest) = bytes.as_chunks::<8>();
        for word in words {
            self.word(u64::from_le_bytes(*word));
        }
        let left = match bytes.last_chunk::<8>() {
            // Read with some of the bytes before it, and these shifted out: a copy of unknown length takes longer.
            Some(last) => u64::from_le_bytes(*last).checked_shr(64 - 8 * rest.len() as u32).unwrap_or(0),
            None => rest.iter().rev().fold(0, |word, byte| word << 8 | u64::from(*byte)),
        };
        self.word(left | (rest.len() as u64) << 56);
    }

    #[inline]
    fn write_u8(&mut self, number: u8) {
        self.word(number.into());
    }

    #[inline]
    fn write_u16(&mut self, number: u16) {
        self.word(number.into());
    }

    #[inline]
    fn write_u32(&mut self, number: u32) {
        self.word(number.into());
    }

    #[inline]
    fn write_u64(&mut self, number: u64) {
        self.word(number);
    }

    #[inline]
    #[expect(clippy::cast_possible_truncation, reason = "the halves of a number")]
    fn write_u128(&mut self, number: u128) {
        self.word(number as u64);
        self.word((number >> 64) as u64);
    }

    #[inline]
    fn write_usize(&mut self, number: usize) {
        self.word(number as u64);
    }

    /// As 64 bits with its sign; by default it would be as wide as the platform's.
    #[inline]
    fn write_isize(&mut self, number: isize) {
        self.write_i64(number as i64);
    }

    /// One more fold, so that the last word too moves every bit.
    #[inline]
    fn finish(&self) -> u64 {
        folded(self.0 ^ SEED)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    fn hash(key: &(impl Hash + ?Sized)) -> u64 {
        KeyHash::of(key).bits()
    }

    #[test]
    fn the_hash_of_a_key_is_for_ever() {
        let hashes = [hash(&42_u64), hash("customer-42"), hash(&("customer", 42_u64))];
        assert_eq!(hashes, [17_149_608_965_049_215_457, 6_866_350_296_023_196_840, 13_288_041_503_953_520_392]);
    }

    #[test]
    fn a_rest_is_read_alike_behind_words_and_alone() {
        for len in 0..40 {
            let bytes: Vec<u8> = (1..=len).collect();
            let mut hasher = Folded(SEED);
            hasher.write(&bytes);
            let mut expected = Folded(SEED);
            let (words, rest) = bytes.as_chunks::<8>();
            words.iter().map(|word| u64::from_le_bytes(*word)).for_each(|word| expected.word(word));
            let mut last = [0, 0, 0, 0, 0, 0, 0, len % 8];
            last[..rest.len()].copy_from_slice(rest);
            expected.word(u64::from_le_bytes(last));
            assert_eq!(hasher.0, expected.0, "{len}");
        }
    }

    #[test]
    fn the_way_a_key_is_held_does_not_matter() {
        assert_eq!(hash("abc"), hash(&String::from("abc")));
        assert_eq!(hash(&7_u32), hash(&7_u64));
        assert_eq!(hash(&7_usize), hash(&7_u64));
        assert_eq!(hash(&-7_isize), hash(&-7_i64));
        assert_eq!(hash(b"abc".as_slice()), hash(&b"abc".to_vec()));
    }

    #[test]
    fn neighbours_differ_in_every_part() {
        let texts = (0..10_000).map(|number| hash(&format!("customer-{number}")));
        let numbers = (0..10_000_u64).map(|number| hash(&number));
        let zeros = (0..100).map(|len| hash(vec![0_u8; len].as_slice()));
        for bits in [0, 16, 32, 48] {
            let parts: HashSet<u64> = numbers.clone().map(|hash| (hash >> bits) & 0xffff).collect();
            // Of 65,536 parts 10,000 throws meet 9,274 on average.
            assert!((9_100..9_450).contains(&parts.len()), "{}", parts.len());
        }
        assert_eq!(texts.chain(numbers).chain(zeros).collect::<HashSet<_>>().len(), 20_100);
    }
}
