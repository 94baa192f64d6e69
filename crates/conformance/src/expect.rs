//! What is expected, and how it is compared with what was seen.

use std::fmt::{self, Debug, Display};
use std::time::Duration;

use serde::{Deserialize, Deserializer, de::Error};
use service_mesh_models::duration_from_seconds;

/// Times that differ by no more than this are the same: a language whose seconds are floats must be able to agree.
const TOLERANCE_SECONDS: f64 = 1e-6;

/// A length of time in seconds.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(crate) struct Span(pub(crate) Duration);

impl<'de> Deserialize<'de> for Span {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let seconds = f64::deserialize(deserializer)?;
        duration_from_seconds("the time", seconds).map(Self).map_err(D::Error::custom)
    }
}

/// A number, or the least and the greatest that will do.
#[derive(Clone, Copy, Debug, Deserialize, PartialEq)]
#[serde(untagged, expecting = "a number, or [least, greatest]")]
pub(crate) enum Bounds {
    Exactly(f64),
    Between([f64; 2]),
}

impl Bounds {
    pub(crate) fn contain(self, number: f64) -> bool {
        match self {
            Self::Exactly(expected) => (number - expected).abs() <= TOLERANCE_SECONDS,
            Self::Between([least, greatest]) => {
                number >= least - TOLERANCE_SECONDS && number <= greatest + TOLERANCE_SECONDS
            }
        }
    }
}

impl Display for Bounds {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Exactly(number) => Display::fmt(number, f),
            Self::Between([least, greatest]) => write!(f, "{least} to {greatest}"),
        }
    }
}

/// Names in a row, separated by spaces; `-` is nobody, `a|b` is either.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Names(pub(crate) Vec<Vec<String>>);

impl Names {
    /// The names, where neither nobody nor a choice makes sense.
    pub(crate) fn plain(&self) -> Vec<String> {
        self.0.iter().flatten().cloned().collect()
    }
}

impl<'de> Deserialize<'de> for Names {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        let choices = |word: &str| word.split('|').map(str::to_owned).collect();
        Ok(Self(text.split_whitespace().map(choices).collect()))
    }
}

impl Display for Names {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let words: Vec<String> = self.0.iter().map(|choices| choices.join("|")).collect();
        write!(f, "{:?}", words.join(" "))
    }
}

/// What was expected and what was seen instead.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Mismatch {
    pub(crate) what: String,
    pub(crate) expected: String,
    pub(crate) got: String,
}

pub(crate) type Checked = Result<(), Mismatch>;

pub(crate) fn mismatch(what: impl Into<String>, expected: impl Display, got: impl Display) -> Mismatch {
    Mismatch { what: what.into(), expected: expected.to_string(), got: got.to_string() }
}

/// The two must be the same.
pub(crate) fn same<T: PartialEq + Debug>(what: &str, expected: &T, got: &T) -> Checked {
    if expected == got {
        return Ok(());
    }
    Err(mismatch(what, format_args!("{expected:?}"), format_args!("{got:?}")))
}

/// The two must be the same, if anything is expected at all.
pub(crate) fn same_if_given<T: PartialEq + Debug>(what: &str, expected: Option<&T>, got: &T) -> Checked {
    expected.map_or(Ok(()), |expected| same(what, expected, got))
}

/// The number must lie within the bounds.
pub(crate) fn within(what: &str, bounds: Bounds, got: f64) -> Checked {
    if bounds.contain(got) {
        return Ok(());
    }
    Err(mismatch(what, bounds, got))
}

/// A time that must be told exactly where one is expected.
pub(crate) fn told(what: &str, expected: Option<Bounds>, got: Option<Duration>) -> Checked {
    match (expected, got) {
        (None, None) => Ok(()),
        (Some(bounds), Some(got)) => within(what, bounds, got.as_secs_f64()),
        (Some(bounds), None) => Err(mismatch(what, bounds, "none")),
        (None, Some(got)) => Err(mismatch(what, "none", got.as_secs_f64())),
    }
}

/// Times in a row.
pub(crate) fn row(what: &str, expected: &[Bounds], got: &[Duration]) -> Checked {
    let seconds: Vec<f64> = got.iter().map(Duration::as_secs_f64).collect();
    if expected.len() == got.len() && expected.iter().zip(&seconds).all(|(bounds, got)| bounds.contain(*got)) {
        return Ok(());
    }
    let expected: Vec<String> = expected.iter().map(ToString::to_string).collect();
    Err(mismatch(what, format_args!("[{}]", expected.join(", ")), format_args!("{seconds:?}")))
}

/// Names in a row; nobody is written `-`.
pub(crate) fn names(what: &str, expected: &Names, got: &[Option<String>]) -> Checked {
    let got: Vec<&str> = got.iter().map(|name| name.as_deref().unwrap_or("-")).collect();
    let fits = |(choices, got): (&Vec<String>, &&str)| choices.iter().any(|choice| choice == got);
    if expected.0.len() == got.len() && expected.0.iter().zip(&got).all(fits) {
        return Ok(());
    }
    Err(mismatch(what, expected, format_args!("{:?}", got.join(" "))))
}
