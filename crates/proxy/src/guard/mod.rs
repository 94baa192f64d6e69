//! Strict HTTP: what is ambiguous is refused before anybody acts on it.
//!
//! A request that two parsers understand differently is how requests are smuggled past a proxy: it sees one, the service
//! behind it sees two, or another host, or another path. So each rule here refuses what could be read in two ways, where
//! a lenient proxy would guess. Each rule quotes the standard that it enforces.
//!
//! Two guards share the work. The [`Scanner`](scan::Scanner) reads the bytes as they arrive, since a parser forgets what
//! it repaired: lines that end without CR, a length beside a coding. The rules of the other files judge the request as
//! it was parsed. What the parser refuses itself (hyper's, on `httparse`) needs no rule: malformed lines, names and
//! numbers, folded fields, whitespace before a colon, control characters in a value.
//!
//! The list of cases, with the sources that made them known, is `tests/it/guard_cases.rs`.

mod connection;
mod expect;
mod framing;
mod hops;
mod host;
mod method;
pub(crate) mod scan;
mod target;

use http::StatusCode;
use http::request::Parts;

use crate::headers::present::Present;
use crate::refusal::{Reason, Refusal};
pub(crate) use host::Authority;

/// A rule that a request broke.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Fault {
    pub(crate) rule: &'static str,
    pub(crate) status: StatusCode,
}

impl Fault {
    /// Broke this rule, which is answered with 400.
    pub(crate) const fn bad(rule: &'static str) -> Self {
        Self { rule, status: StatusCode::BAD_REQUEST }
    }

    pub(crate) const fn with(rule: &'static str, status: StatusCode) -> Self {
        Self { rule, status }
    }
}

impl From<Fault> for Refusal {
    fn from(fault: Fault) -> Self {
        let reason = if fault.status == StatusCode::LOOP_DETECTED { Reason::Loop } else { Reason::BadRequest };
        Self::new(reason, fault.rule).status(fault.status).closing()
    }
}

/// Judges a request by every rule; if none objects, tells the one host that it asks for. `present` tells which fields it
/// has: a rule about a field that is not there has nothing to object to.
pub(crate) fn check(request: &Parts, present: Present) -> Result<Authority, Fault> {
    method::check(request)?;
    if present.has(Present::TRANSFER_ENCODING) {
        framing::check(request)?;
    }
    if present.has(Present::CONNECTION) {
        connection::check(request)?;
    }
    if present.has(Present::EXPECT) {
        expect::check(request)?;
    }
    if present.has(Present::VIA) {
        hops::check(request)?;
    }
    target::check(request)?;
    host::check(request)
}
