//! The scenarios of `conformance/*.toml`, replayed by everything here that makes calls.
//!
//! Each subject has a world (clock, listener, the part under test) and up to four ways to make a call in it: the
//! decisions by themselves, the sync driver on threads that are handed their turns, and the async driver and tower's
//! layers as futures that are polled by hand. Nothing sleeps, and at any time at most one thread is awake. That the same
//! files hold for all of them is the proof that the drivers decide nothing.

mod budget;
mod circuit_breaker;
mod events;
mod load_balancer;
mod mailbox;
mod replies;
mod retry;
mod service_proxy;
mod turns;

use service_mesh_conformance::{Scenario, ScenarioFile};

/// A file of `conformance/`.
fn open<S: Scenario>(file: &str) -> ScenarioFile<S> {
    ScenarioFile::open(file).unwrap_or_else(|error| panic!("{error}"))
}
