//! The three states of a circuit, and how a word is read.

use core::fmt;
use core::str::FromStr;

/// The state of a circuit breaker. States are nouns; what happens to a circuit is a verb: it trips, probes, resets.
///
/// `Display`, `FromStr` and serde use the words `closed`, `open` and `half_open`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize), serde(rename_all = "snake_case"))]
pub enum CircuitState {
    /// Calls pass; failures are counted.
    Closed,
    /// Calls are refused until the timeout has passed.
    Open,
    /// A few calls, the probes, pass to find out whether the service has recovered.
    HalfOpen,
}

impl CircuitState {
    /// All states, in the order in which a circuit lives through them.
    pub const ALL: [Self; 3] = [Self::Closed, Self::Open, Self::HalfOpen];

    /// The word for this state in every language: `closed`, `open`, `half_open`.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Closed => "closed",
            Self::Open => "open",
            Self::HalfOpen => "half_open",
        }
    }
}

impl fmt::Display for CircuitState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

impl FromStr for CircuitState {
    type Err = UnknownWord;

    fn from_str(word: &str) -> Result<Self, UnknownWord> {
        find(word, &Self::ALL, Self::as_str)
    }
}

/// A word that none of our enumerations knows. Its text lists the words that are known.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UnknownWord {
    word: String,
    known: Vec<&'static str>,
}

impl UnknownWord {
    /// The word that was given.
    pub fn word(&self) -> &str {
        &self.word
    }

    /// The words that would have been understood.
    pub fn known(&self) -> &[&'static str] {
        &self.known
    }
}

impl fmt::Display for UnknownWord {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "unknown word {:?}; allowed: {}", self.word, self.known.join(", "))
    }
}

impl core::error::Error for UnknownWord {}

/// Finds the value that a word stands for.
pub(crate) fn find<T: Copy>(word: &str, all: &[T], spell: impl Fn(T) -> &'static str) -> Result<T, UnknownWord> {
    let known = || all.iter().copied().map(&spell).collect();
    all.iter()
        .copied()
        .find(|value| spell(*value) == word)
        .ok_or_else(|| UnknownWord { word: word.to_owned(), known: known() })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_state_survives_its_word() {
        for state in CircuitState::ALL {
            assert_eq!(state.to_string().parse(), Ok(state));
        }
        assert_eq!(
            "ajar".parse::<CircuitState>().unwrap_err().to_string(),
            "unknown word \"ajar\"; allowed: closed, open, half_open"
        );
    }
}
