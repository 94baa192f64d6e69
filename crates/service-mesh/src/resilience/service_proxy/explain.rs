//! The story of a call.

use std::fmt;

/// The story of a call.
#[derive(Clone, Debug, Default)]
pub struct Story;

impl fmt::Display for Story {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a call")
    }
}
