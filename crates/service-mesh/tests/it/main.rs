//! What a user of the crate can see, in one binary.
//!
//! - [`conformance`]: the scenarios of `conformance/*.toml`, replayed by each Rust driver.
//! - [`reference`]: slow, obvious models of the parts, written from the rules and not from the code.
//! - [`properties`]: random timelines, on which the parts must do what their models do.
#![cfg(not(loom))]

mod conformance;
mod properties;
mod reference;
