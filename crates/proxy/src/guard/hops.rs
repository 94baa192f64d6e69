//! A request that has come round in a circle.

use http::StatusCode;
use http::header::VIA;
use http::request::Parts;

use super::Fault;

/// More proxies in a row than any that is meant to be.
const MOST: usize = 32;

//= https://www.rfc-editor.org/rfc/rfc9110#section-7.6.3
//# Via can be used for tracking message forwards, avoiding request loops,
//# and identifying the protocol capabilities of senders along the
//# request/response chain.
pub(super) fn check(request: &Parts) -> Result<(), Fault> {
    let fields = request.headers.get_all(VIA).iter();
    let hops: usize = fields.map(|value| value.as_bytes().split(|byte| *byte == b',').count()).sum();
    if hops > MOST { Err(Fault::with("a request that goes in a circle", StatusCode::LOOP_DETECTED)) } else { Ok(()) }
}
