//! Picks an instance for each call.
