//! The same small program, an example for each: three instances, of which a is down; a hundred calls, each of which must
//! be answered. What the program needs is a breaker for each instance, turns, and another attempt elsewhere. Each ends by
//! asserting how often a was asked. This is the service, which stands for a request over the network.
#![forbid(unsafe_code)]

use std::sync::atomic::{AtomicU32, Ordering};

/// How often a was asked.
static ASKED_A: AtomicU32 = AtomicU32::new(0);

/// Pays, at an instance.
///
/// # Errors
/// a is down.
pub fn pay(instance: &str) -> Result<&'static str, &'static str> {
    if instance == "a" {
        ASKED_A.fetch_add(1, Ordering::Relaxed);
        return Err("connection refused");
    }
    Ok("paid")
}

/// How often a was asked.
pub fn asked_a() -> u32 {
    ASKED_A.load(Ordering::Relaxed)
}
