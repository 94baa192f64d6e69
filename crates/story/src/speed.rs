//! How fast the story is told.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

/// How fast the story is told: 1 is nine seconds, 2 half of that. At least 0.1, at most 4; default 1.
///
/// Faster than that, a trouble would be over before anybody could have noticed it.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Speed(f64);

/// A speed that is no number, or out of range.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SpeedError;

impl Speed {
    /// How long something takes at this speed that takes so many seconds at speed 1.
    pub fn of(self, seconds: f64) -> Duration {
        Duration::from_secs_f64(seconds / self.0)
    }
}

impl Default for Speed {
    fn default() -> Self {
        Self(1.0)
    }
}

impl FromStr for Speed {
    type Err = SpeedError;

    fn from_str(text: &str) -> Result<Self, SpeedError> {
        match text.parse() {
            Ok(speed) if (0.1..=4.0).contains(&speed) => Ok(Self(speed)),
            _ => Err(SpeedError),
        }
    }
}

impl fmt::Display for SpeedError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("allowed: a number from 0.1 to 4")
    }
}

impl std::error::Error for SpeedError {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn twice_the_speed_is_half_the_time() {
        assert_eq!("2".parse::<Speed>().unwrap().of(1.5), Duration::from_millis(750));
        assert_eq!(Speed::default().of(1.5), Duration::from_millis(1500));
    }

    #[test]
    fn a_speed_out_of_range_is_refused() {
        for text in ["", "fast", "0", "-1", "0.09", "4.1", "inf", "NaN"] {
            assert_eq!(text.parse::<Speed>(), Err(SpeedError), "{text}");
        }
    }
}
