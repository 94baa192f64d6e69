//! What a user of the crate can see, in one binary.
//!
//! - [`conformance`]: the scenarios of `conformance/*.toml`, replayed by each Rust driver.
#![cfg(not(loom))]

mod conformance;
