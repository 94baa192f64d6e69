//! What a client of the sidecar and an instance behind it see, over real sockets, in one binary.
//!
//! Instances are scripts over raw sockets, so that they can misbehave in ways that no HTTP library would allow; clients
//! speak raw too where a library would tidy up what they send. Nothing here waits for a time: every wait is for something
//! that happens.

mod bodies;
mod chance;
mod chaos;
mod client;
mod command;
mod conformance;
mod connections;
mod control;
mod discovery;
mod faults;
mod forwarding;
mod guard;
mod guard_cases;
mod relay;
mod sidecar;
mod upstream;
mod zero_lost;
