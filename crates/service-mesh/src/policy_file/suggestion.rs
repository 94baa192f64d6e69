//! "Did you mean": the known word that somebody who wrote another one had in mind.
//!
//! Close are words at a small edit distance, with neighbours swapped as one edit (the optimal string alignment distance;
//! Damerau 1964), and words that begin or end with what was written: `timeout` for `timeout_seconds`.

/// A part of a word says which one is meant only if it is at least this long.
const PART_LEN_MIN: usize = 4;

/// The known word that is closest, if any is close.
pub(super) fn closest<'k>(written: &str, known: impl IntoIterator<Item = &'k str>) -> Option<&'k str> {
    let written = written.to_lowercase().replace(['-', ' '], "_");
    let is_part =
        |word: &str| written.len() >= PART_LEN_MIN && (word.starts_with(&written) || word.ends_with(&written));
    known
        .into_iter()
        .filter_map(|word| {
            let edits = distance(&written, word);
            let is_close = edits <= (word.chars().count() / 3).max(1);
            (is_close || is_part(word)).then_some((!is_close, edits, word))
        })
        .min()
        .map(|(.., word)| word)
}

/// How many insertions, deletions, replacements and swaps of neighbours lead from one word to the other. Takes time in
/// proportion to the product of their lengths, so that a very long word is not looked at.
fn distance(a: &str, b: &str) -> usize {
    const LEN_MAX: usize = 64;
    let (a, b): (Vec<char>, Vec<char>) = (a.chars().collect(), b.chars().collect());
    if a.len() > LEN_MAX || b.len() > LEN_MAX {
        return usize::MAX;
    }
    let (mut before, mut last): (Vec<usize>, Vec<usize>) = (Vec::new(), (0..=b.len()).collect());
    for i in 1..=a.len() {
        let mut row = vec![i];
        for j in 1..=b.len() {
            let replaced = last[j - 1] + usize::from(a[i - 1] != b[j - 1]);
            let mut edits = replaced.min(last[j] + 1).min(row[j - 1] + 1);
            if i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1] {
                edits = edits.min(before[j - 2] + 1);
            }
            row.push(edits);
        }
        before = std::mem::replace(&mut last, row);
    }
    last[b.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_distance_counts_a_swap_of_neighbours_once() {
        for (a, b, edits) in [("retires", "retries", 1), ("", "abc", 3), ("abc", "abc", 0), ("abcd", "acbe", 2)] {
            assert_eq!((distance(a, b), distance(b, a)), (edits, edits), "{a} {b}");
        }
    }

    #[test]
    fn a_slip_a_dash_or_a_part_finds_the_word_and_a_stranger_does_not() {
        let known = ["max_retries", "timeout_seconds", "timeout_max_seconds", "failure_threshold", "rise"];
        for (written, meant) in [
            ("max_retires", Some("max_retries")),
            ("max-retries", Some("max_retries")),
            ("maxRetries", Some("max_retries")),
            ("timeout", Some("timeout_seconds")),
            ("threshold", Some("failure_threshold")),
            ("raise", Some("rise")),
            ("colour", None),
            ("", None),
        ] {
            assert_eq!(closest(written, known), meant, "{written}");
        }
        assert_eq!(closest(&"x".repeat(100_000), known), None);
    }
}
