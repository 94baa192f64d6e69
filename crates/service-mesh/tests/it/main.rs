//! What a user of the crate can see, in one binary.
//!
//! - [`conformance`]: the scenarios of `conformance/*.toml`, replayed by each Rust driver.
//! - [`reference`]: slow, obvious models of the parts, written from the rules and not from the code.
//! - [`properties`]: random timelines, on which the parts must do what their models do.
//! - [`stress`]: laws that must hold while eight threads race.
//! - [`api`]: what may be sent between threads, dropped, cancelled or left to panic.
#![cfg(not(loom))]

mod api;
mod conformance;
mod properties;
mod reference;
mod stress;
